//! `hop ns delete`.

use std::ffi::OsString;

use hopyard::runtime::ns::{self, EntryName, Kind, Names, Remains};

use super::{all_told, existing, holder_words, tell_of_returned};
use crate::error::CliError;
use crate::ui::Ui;

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
    for moved in &deleted.returned {
        tell_of_returned(moved, ui);
    }
    tell_of_holders(&deleted.remains, ui)?;
    if args.wait {
        deleted.remains.wait()?;
    }
    all_told(deleted.failed, ui)
}

fn all_names() -> Result<Vec<EntryName>, CliError> {
    let is_a_name = |kind: &Kind| matches!(kind, Kind::Mount | Kind::Link { .. } | Kind::Dead);
    Ok(Names::kinds()?.into_iter().filter(|(_, kind)| is_a_name(kind)).map(|(name, _)| name).collect())
}

/// So many of one namespace are told of by name.
const TOLD: usize = 8;

fn tell_of_holders(remains: &Remains, ui: &mut Ui) -> Result<(), CliError> {
    for (name, holders) in remains.holders()? {
        let why = if holders.is_empty() { ", and nothing that can be seen from here holds it" } else { ":" };
        ui.warn(format_args!("the namespace that was `{name}` lives on{why}"));
        for holder in holders.iter().take(TOLD) {
            ui.note(format_args!("  {}", holder_words(holder)));
        }
        if let Some(more) = holders.len().checked_sub(TOLD).filter(|more| *more > 0) {
            ui.note(format_args!("  and {more} more"));
        }
    }
    Ok(())
}
