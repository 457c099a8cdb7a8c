//! `hop unit`.

use hopyard::formats::SourceFile;
use hopyard::model::LabName;
use hopyard::runtime::boot::{self, BootError, DropIn, Manager, Scope, ServiceName};
use hopyard::runtime::{self, Home, Running};

use super::enable::systemctl;
use crate::error::CliError;
use crate::source::TopologyArgs;
use crate::target::{LabArg, refuse_inside};
use crate::ui::Ui;

/// Make a service of systemd run in a node.
///
/// Prints the drop-in that does it, or installs it. The service gets the node's network and the lab's
/// hosts, resolver and name service switch; it starts after the lab, and stops with it. The lab has to be
/// enabled.
///
/// Where systemd listens for the service (`NAME.socket`), it does so in the network of that socket, which can be put in
/// the node in the same way.
///
/// This takes root: the systemd of an ordinary user cannot run a service in another network namespace.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    lab: LabArg,
    /// The node, as NODE or LAB/NODE.
    #[arg(short, long, value_name = "NODE", required_unless_present = "remove")]
    node: Option<String>,
    /// Write the drop-in; the service runs in the node when it is started the next time.
    #[arg(long)]
    install: bool,
    /// Remove the drop-in.
    #[arg(long, conflicts_with_all = ["install", "node", "lab"])]
    remove: bool,
    /// Replace or remove a drop-in that somebody has edited.
    #[arg(long)]
    force: bool,
    /// The service, with or without `.service`; or the socket that starts it, with `.socket`.
    #[arg(value_name = "SERVICE")]
    service: String,
}

pub(crate) fn run(args: &Args, ui: &mut Ui) -> Result<u8, CliError> {
    let service: ServiceName = args.service.parse().map_err(runtime::Error::from)?;
    let manager = Manager::of_caller();
    if manager.scope() == Scope::User {
        return Err(runtime::Error::from(BootError::UserService).into());
    }
    if args.remove {
        return remove(&manager, &service, args.force, ui);
    }
    let home = Home::of_caller()?;
    let Some((lab, node)) = args.node.as_deref().map(|node| find(args, &manager, &home, node, ui)).transpose()? else {
        return Err(CliError::usage("no node was named"));
    };
    let drop_in = DropIn { lab: &lab, node: &node, records: home.dir_of(&lab), socket: service.is_socket() };
    if !args.install {
        ui.text(&boot::drop_in_text(&drop_in).map_err(runtime::Error::from)?)?;
        ui.note(format_args!("# for {}; `--install` writes it", manager.drop_in(&service).display()));
        return Ok(0);
    }
    refuse_inside()?;
    let installed = boot::install(&manager, &service, &drop_in, args.force)?;
    let runs = if service.is_socket() { "listens" } else { "runs" };
    if installed.changed {
        ui.line(format_args!("{service} {runs} in {lab}/{node}: {}", installed.path.display()))?;
        ui.hint(format_args!("`{} restart {service}` starts it there", systemctl(&manager)));
    } else {
        ui.line(format_args!("{service} {runs} in {lab}/{node} already; nothing to change"))?;
    }
    for socket in installed.sockets {
        ui.warn(format_args!("systemd listens for it by {socket}, and that is not in {lab}/{node}"));
        ui.hint(format_args!("`hop unit --node {lab}/{node} --install {socket}` has it listen there"));
    }
    Ok(0)
}

fn remove(manager: &Manager, service: &ServiceName, force: bool, ui: &mut Ui) -> Result<u8, CliError> {
    refuse_inside()?;
    if boot::uninstall(manager, service, force)? {
        let runs = if service.is_socket() { "listens" } else { "runs" };
        ui.line(format_args!("{service} {runs} where it did before"))?;
        ui.hint(format_args!("`{} restart {service}` starts it there", systemctl(manager)));
    } else {
        ui.line(format_args!("{service} has no drop-in of hop"))?;
    }
    Ok(0)
}

/// The lab and the node: of a lab that runs, or of one that is enabled and does not.
fn find(args: &Args, manager: &Manager, home: &Home, node: &str, ui: &mut Ui) -> Result<(LabName, String), CliError> {
    let named = node.split_once('/').map(|(lab, _)| lab.parse::<LabName>());
    let named = named.transpose().map_err(|error| CliError::usage(error.to_string()))?.or_else(|| args.lab.lab.clone());
    if let Some(lab) = named.filter(|lab| Running::find(home, lab).is_err() && boot::is_enabled(manager, lab)) {
        let node = node.split_once('/').map_or(node, |(_, node)| node);
        let topology = enabled(manager, &lab).read(ui)?;
        if topology.lab.node_named(node).is_none() {
            let nodes = topology.lab.nodes().iter().map(|node| node.name.clone()).collect();
            return Err(runtime::Error::NoSuchNode { lab, node: node.to_owned(), nodes }.into());
        }
        return Ok((lab, node.to_owned()));
    }
    let (running, node) = args.lab.find_node(home, node)?;
    let node = running.node(&node)?;
    Ok((running.name().clone(), node.to_string()))
}

/// The topology of a lab that is enabled.
pub(crate) fn enabled(manager: &Manager, lab: &LabName) -> TopologyArgs {
    let topology = manager.topology(lab).display().to_string();
    debug_assert_ne!(topology, SourceFile::INLINE);
    TopologyArgs { topology, name: Some(lab.clone()), ipv4_only: false, ipv6_only: false }
}
