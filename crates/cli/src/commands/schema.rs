//! `hop schema`.

use crate::error::CliError;
use crate::ui::Ui;

/// Print the JSON Schema of the topology file, for editors; or of what a command prints, for programs.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// That of `hop why --json`.
    #[arg(long)]
    why: bool,
}

pub(crate) fn run(args: &Args, ui: &mut Ui) -> Result<u8, CliError> {
    if args.why {
        ui.line(super::why::schema()?)?;
    } else {
        ui.line(hopyard::formats::schema().trim_end())?;
    }
    Ok(0)
}
