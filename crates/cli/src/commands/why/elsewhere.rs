//! `hop why --ns`: namespaces that are no lab's.

use std::io;
use std::net::IpAddr;

use hopyard::explain::{Outcome, owner_for};
use hopyard::kernel::Errno;
use hopyard::net::NsName;
use hopyard::runtime::Error;
use hopyard::runtime::why::{Elsewhere, Place, Probing, main_addresses};

use super::scene::Scene;
use super::{Args, Target, made, status, tell};
use crate::commands::up::count;
use crate::error::CliError;
use crate::ui::Ui;

pub(super) fn run(args: &Args, ui: &mut Ui) -> Result<u8, CliError> {
    let target = Target::parse(&args.to, true)?;
    let address = target.host.parse::<IpAddr>().ok();
    let mut named: Vec<Place> = vec![args.source.parse()?];
    if address.is_none() {
        named.push(target.host.parse()?);
    }
    let (mut elsewhere, names) = around(&named)?;
    tell_of_closed(&elsewhere, ui);
    let Some(from) = names.first() else { return Err(CliError::usage("no namespace was named")) };
    let snapshot = elsewhere.read()?;
    let (dst, wanted) = match (address, names.get(1)) {
        (None, Some(name)) => (args.address_of(&target.host, &main_addresses(&snapshot, name))?, Some(name.clone())),
        (Some(address), _) => (address, owner_for(&snapshot, from, address)),
        (None, None) => return Err(CliError::usage("no namespace was named")),
    };
    let probing = match (args.no_probe, args.probe) {
        (true, _) => Probing::Never,
        (_, true) => Probing::Always,
        _ => Probing::Inside,
    };
    let report = elsewhere.why(snapshot, from, args.packet(&target, dst)?, wanted, probing, args.sending())?;
    let untried = report.seen.is_none() && probing == Probing::Inside;
    let remark = untried.then(|| {
        "No packet was sent, as it would come from the machine's own network or leave what is known; `--probe` sends one."
            .to_owned()
    });
    let scene = Scene { places: elsewhere.places().clone(), remark, ..Scene::default() };
    tell(args, ui, &report, &scene)?;
    if args.fix && report.outcome() != Outcome::Yes {
        return made(ui, elsewhere.fix(&report)?, &report);
    }
    Ok(status(&report))
}

/// Opens the namespaces, and all that cables lead to from there.
pub(in crate::commands) fn around(named: &[Place]) -> Result<(Elsewhere, Vec<NsName>), CliError> {
    Elsewhere::around(named).map_err(|error| match &error {
        Error::Kernel(refused) if matches!(refused.errno(), Errno::PERM | Errno::ACCES) => {
            CliError::failure(error.to_string()).hint(
                "as root it can be entered; else it takes the rights of whose namespace it is, as one has in the containers that one has started",
            )
        }
        Error::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => CliError::usage(error.to_string()),
        _ => error.into(),
    })
}

/// Says that something was left out.
pub(in crate::commands) fn tell_of_closed(elsewhere: &Elsewhere, ui: &mut Ui) {
    if elsewhere.closed() > 0 {
        let count = count(elsewhere.closed(), "namespace", "namespaces");
        ui.note(format_args!("{count} beside these may not be entered, and count as unknown"));
    }
}
