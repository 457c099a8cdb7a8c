//! What is checked: a lab, namespaces that are no lab's, or a recording; and how more is asked about it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hopyard::explain::owner;
use hopyard::formats::recording::Recording;
use hopyard::model::Lab;
use hopyard::net::{NsName, Service, Transport};
use hopyard::runtime::check::{Checked, check, check_elsewhere, check_recorded};
use hopyard::runtime::why::{Elsewhere, Place, Probing, main_addresses};
use hopyard::runtime::{Home, Running};

use super::Args;
use crate::commands::why::{around, recording, tell_of_closed};
use crate::error::CliError;
use crate::target::{LabArg, lab_name};
use crate::ui::{Ui, quoted};

/// Where it is.
pub(super) enum Field {
    /// A lab that runs, and whether it has to be named.
    Lab(Box<Running>, bool),
    Namespaces(Elsewhere),
    /// The file, and the name of the lab that it was.
    Recording(PathBuf, Option<String>),
}

/// All that is known of it.
pub(super) struct Found {
    pub(super) field: Field,
    pub(super) checked: Checked,
    /// A last line: what there is to know of how the answer came about.
    pub(super) remark: Option<String>,
}

pub(super) fn look(args: &Args, ui: &mut Ui) -> Result<Found, CliError> {
    match &args.from {
        Some(path) => in_recording(args, path),
        None if args.ns => among_namespaces(args, ui),
        None => in_lab(args),
    }
}

fn in_lab(args: &Args) -> Result<Found, CliError> {
    let name = match args.names.as_slice() {
        [] => args.lab.lab.clone(),
        [name] => Some(lab_name(name).map_err(CliError::usage)?),
        _ => {
            return Err(
                CliError::usage("one lab at a time").hint("`--ns` is for namespaces, of which several are named")
            );
        }
    };
    let is_named = name.is_some();
    let running = LabArg { lab: name }.find(&Home::of_caller()?)?;
    let patience = (!args.no_probe).then(|| args.patience());
    let checked = check(&running, &args.families(), patience)?;
    Ok(Found { field: Field::Lab(Box::new(running), is_named), checked, remark: None })
}

fn among_namespaces(args: &Args, ui: &mut Ui) -> Result<Found, CliError> {
    let named: Vec<Place> = args.names.iter().map(|name| name.parse()).collect::<Result<_, _>>()?;
    let (elsewhere, mut nodes) = around(&named)?;
    nodes.sort();
    nodes.dedup();
    if nodes.len() < 2 {
        return Err(CliError::usage("a pair takes two namespaces: name those to check")
            .hint("`hop ns list` lists those that have names; `host` is the machine's own"));
    }
    tell_of_closed(&elsewhere, ui);
    let probing = match (args.no_probe, args.probe) {
        (true, _) => Probing::Never,
        (_, true) => Probing::Always,
        _ => Probing::Inside,
    };
    let checked = check_elsewhere(&elsewhere, &nodes, &args.families(), probing, args.patience())?;
    let unsent = checked.observed.iter().filter(|seen| seen.is_none()).count();
    let remark = (unsent > 0).then(|| {
        "No packet was sent that would come from the machine's own network or leave what is known; `--probe` sends them."
            .to_owned()
    });
    Ok(Found { field: Field::Namespaces(elsewhere), checked, remark })
}

fn in_recording(args: &Args, path: &Path) -> Result<Found, CliError> {
    let Recording { recorded, declared, snapshot } = recording::read(path)?;
    let declared = declared.as_ref();
    let mut nodes: Vec<NsName> = if args.names.is_empty() {
        match declared {
            Some(declared) => declared.nodes.keys().cloned().collect(),
            // A switch has none.
            None => snapshot.nodes.keys().filter(|node| !main_addresses(&snapshot, node).is_empty()).cloned().collect(),
        }
    } else {
        let named = args.names.iter().map(|name| recording::node(&snapshot, declared, name));
        named.collect::<Result<_, _>>()?
    };
    // In the order in which they are named; one that is named twice is one.
    let mut known = BTreeSet::new();
    nodes.retain(|node| known.insert(node.clone()));
    if nodes.len() < 2 {
        // Nothing would be wrong with no pair at all.
        let has: Vec<&str> = snapshot.nodes.keys().map(NsName::as_str).collect();
        return Err(CliError::usage("a pair takes two nodes: name those to check")
            .hint(format!("the recording has {}", has.join(", "))));
    }
    let of = |snapshot: &_, node: &NsName| recording::addresses(snapshot, declared, node);
    let checked = check_recorded(snapshot, &nodes, &args.families(), of);
    let remark = Some(recording::remark(recorded.as_ref()));
    let lab = declared.map(|declared| declared.lab.clone());
    Ok(Found { field: Field::Recording(path.to_owned(), lab), checked, remark })
}

impl Field {
    /// The lab that it is, or was.
    pub(super) fn lab_name(&self) -> Option<&str> {
        match self {
            Field::Lab(running, _) => Some(running.name().as_str()),
            Field::Namespaces(_) => None,
            Field::Recording(_, lab) => lab.as_deref(),
        }
    }

    /// The lab that runs, if it is one.
    pub(super) fn lab(&self) -> Result<Option<&Lab>, CliError> {
        match self {
            Field::Lab(running, _) => Ok(Some(&running.contents()?.lab)),
            _ => Ok(None),
        }
    }

    pub(super) fn owner_of<'a>(&'a self, checked: &'a Checked, addr: IpAddr) -> Option<NsName> {
        match self {
            Field::Lab(running, _) => running.owner_of(addr).cloned(),
            _ => owner(&checked.snapshot, addr),
        }
    }

    /// The command that says more of a packet. `to`: a node, or else its address.
    pub(super) fn command(&self, from: &NsName, to: Option<&NsName>, addr: IpAddr, service: Option<Service>) -> String {
        let place = |node: &NsName| match self {
            Field::Namespaces(elsewhere) => {
                elsewhere.places().get(node).map_or_else(|| node.to_string(), |place| quoted(&place.to_string()))
            }
            _ => node.to_string(),
        };
        let how = match self {
            Field::Lab(running, true) => format!(" -l {}", running.name()),
            Field::Lab(..) => String::new(),
            Field::Namespaces(_) => " --ns".to_owned(),
            Field::Recording(path, _) => format!(" --from {}", quoted(&path.display().to_string())),
        };
        let six = if addr.is_ipv6() && to.is_some() { " -6" } else { "" };
        let to = to.map_or_else(|| address(addr, service), place);
        format!("hop why{how}{six} {} {to}{}", place(from), port(service))
    }
}

/// `[fd00::1]` where a port follows.
pub(super) fn address(addr: IpAddr, service: Option<Service>) -> String {
    if addr.is_ipv6() && service.is_some() { format!("[{addr}]") } else { addr.to_string() }
}

/// As a target has it behind a node: `:80`, `:53/udp`.
pub(super) fn port(service: Option<Service>) -> String {
    match service {
        None => String::new(),
        Some(Service { transport: Transport::Tcp, port }) => format!(":{port}"),
        Some(Service { transport: Transport::Udp, port }) => format!(":{port}/udp"),
    }
}

impl Args {
    fn patience(&self) -> Duration {
        Duration::from_millis(self.timeout)
    }
}
