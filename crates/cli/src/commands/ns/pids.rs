//! `hop ns pids`.

use std::ffi::OsString;

use hopyard::runtime::ns;

use super::existing;
use crate::error::CliError;
use crate::ui::Ui;

/// Print the ids of the processes in a namespace, also of those that have but a thread there.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The name of the namespace.
    #[arg(value_name = "NAME")]
    name: OsString,
    /// Print JSON: a list of numbers.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args, ui: &mut Ui) -> Result<u8, CliError> {
    let pids = ns::pids(&existing(&args.name)?)?;
    if args.json {
        ui.json(&pids)?;
    } else {
        pids.iter().try_for_each(|pid| ui.line(pid))?;
    }
    Ok(0)
}
