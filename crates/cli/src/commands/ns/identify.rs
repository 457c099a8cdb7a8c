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
    /// Print JSON: a list of names.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args, ui: &mut Ui) -> Result<u8, CliError> {
    let own = || i32::try_from(std::process::id()).map_err(|error| CliError::failure(error.to_string()));
    let pid = args.pid.map_or_else(own, Ok)?;
    let names = ns::identify(pid)?;
    if args.json {
        ui.json(&names.iter().map(|name| name.as_os_str().to_string_lossy()).collect::<Vec<_>>())?;
    } else {
        names.iter().try_for_each(|name| ui.line(name))?;
    }
    Ok(0)
}
