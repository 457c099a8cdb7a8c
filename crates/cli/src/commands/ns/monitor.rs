//! `hop ns monitor`.

use hopyard::runtime::ns::{Event, Monitor};
use serde::Serialize;

use crate::error::CliError;
use crate::ui::Ui;

/// Print a line for every name that comes or goes, until it is stopped.
///
/// `add NAME` is printed when the namespace can be entered; `dead NAME`, when a name has been there for two
/// seconds and leads to no namespace; `delete NAME`, when a name is gone.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print JSON, an object a line.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Line<'a> {
    event: &'a str,
    name: String,
}

pub(crate) fn run(args: &Args, ui: &mut Ui) -> Result<u8, CliError> {
    let mut monitor = Monitor::begin()?;
    loop {
        let (event, name) = match monitor.next_event()? {
            Event::Added(name) => ("add", name),
            Event::Deleted(name) => ("delete", name),
            Event::Dead(name) => ("dead", name),
        };
        if args.json {
            let line = Line { event, name: name.as_os_str().to_string_lossy().into_owned() };
            ui.line(serde_json::to_string(&line).map_err(|error| CliError::failure(error.to_string()))?)?;
        } else {
            ui.line(format_args!("{event} {name}"))?;
        }
        // Somebody waits for it.
        ui.finish()?;
    }
}
