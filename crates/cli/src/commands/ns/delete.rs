//! `hop ns delete`.

use std::ffi::OsString;

use hopyard::kernel::holders::{Hold, Holder};
use hopyard::runtime::ns::{self, EntryName, Kind, Names, Remains, Returned};

use super::{all_told, existing, tell_of_lost};
use crate::error::CliError;
use crate::ui::{Ui, WARNING};

/// Delete names; a namespace ends when nothing holds it any more.
///
/// Interfaces that `hop ns move` has moved there go back first, to where they were, with what they had there.
///
/// What still holds a namespace is told: a process, a thread, an open file, a socket, another mount. A name that
/// cannot be deleted does not keep the others from going. Dead names are deleted like any other; those of
/// a lab's nodes are the lab's, and go with it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The names.
    #[arg(value_name = "NAME", required_unless_present = "all")]
    names: Vec<OsString>,
    /// All of them, but for those of labs.
    #[arg(long, conflicts_with = "names")]
    all: bool,
    /// Return only when nothing holds the namespaces and the kernel has freed them.
    #[arg(long)]
    wait: bool,
}

pub(crate) fn run(args: &Args, ui: &mut Ui) -> Result<u8, CliError> {
    let names = if args.all { all_names()? } else { args.names.iter().map(existing).collect::<Result<Vec<_>, _>>()? };
    let deleted = ns::delete(&names)?;
    for Returned { dev, lost } in &deleted.returned {
        ui.note(format_args!("{dev} is back from where it had been moved to"));
        tell_of_lost(dev, lost, ui);
    }
    tell_of_holders(&deleted.remains, ui)?;
    if args.wait {
        deleted.remains.wait()?;
    }
    all_told(deleted.failed, ui)
}

fn all_names() -> Result<Vec<EntryName>, CliError> {
    let entries = Names::open()?.map_or_else(|| Ok(Vec::new()), |names| names.entries())?;
    let is_a_name = |kind: &Kind| matches!(kind, Kind::Mount | Kind::Link { .. } | Kind::Dead);
    Ok(entries.into_iter().filter(|entry| is_a_name(&entry.kind)).map(|entry| entry.name).collect())
}

/// So many of one namespace are told of by name.
const TOLD: usize = 8;

fn tell_of_holders(remains: &Remains, ui: &mut Ui) -> Result<(), CliError> {
    for (name, holders) in remains.holders()? {
        let why = if holders.is_empty() { ", and nothing that can be seen from here holds it" } else { ":" };
        ui.note(format_args!("{WARNING}warning{WARNING:#}: the namespace that was `{name}` lives on{why}"));
        for holder in holders.iter().take(TOLD) {
            ui.note(format_args!("  {}", words(holder)));
        }
        if let Some(more) = holders.len().checked_sub(TOLD).filter(|more| *more > 0) {
            ui.note(format_args!("  and {more} more"));
        }
    }
    Ok(())
}

fn words(holder: &Holder) -> String {
    match holder {
        Holder::Process { pid, command, by } => {
            let does = match by {
                Hold::Process => "runs in it".to_owned(),
                Hold::Thread(tid) => format!("has a thread in it, {tid}"),
                Hold::Descriptor(fd) => format!("has it open, as file {fd}"),
                Hold::Socket(fd) => format!("has a socket in it, as file {fd}"),
            };
            format!("process {pid} ({}) {does}", command.escape_debug())
        }
        Holder::Mount { path, seen_by: None } => format!("it is mounted on {}", path.display()),
        Holder::Mount { path, seen_by: Some(pid) } => {
            format!("it is mounted on {} in the mount namespace of process {pid}", path.display())
        }
    }
}
