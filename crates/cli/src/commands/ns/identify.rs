//! `hop ns identify`.

use hopyard::runtime::ns;

use crate::error::CliError;
use crate::ui::Ui;

/// Print the names of the namespace that a process is in, one a line; all of them, if it has several.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The process; if not given, this one, hence whoever calls it.
    #[arg(value_name = "PID")]
    pid: Option<i32>,
}

pub(crate) fn run(args: &Args, ui: &mut Ui) -> Result<u8, CliError> {
    let own = || i32::try_from(std::process::id()).map_err(|error| CliError::failure(error.to_string()));
    let pid = args.pid.map_or_else(own, Ok)?;
    ns::identify(pid)?.iter().try_for_each(|name| ui.line(name))?;
    Ok(0)
}
