//! `hop schema`.

use crate::error::CliError;
use crate::ui::Ui;

/// Print the JSON Schema of the topology file, for editors.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_args: &Args, ui: &mut Ui) -> Result<u8, CliError> {
    ui.line(hopyard::formats::schema().trim_end())?;
    Ok(0)
}
