//! `hop completions`.

use clap::CommandFactory;

use crate::error::CliError;
use crate::ui::Ui;

/// Print the completions for a shell.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The shell.
    shell: clap_complete::Shell,
}

pub(crate) fn run(args: &Args, ui: &mut Ui) -> Result<u8, CliError> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut crate::args::Args::command(), "hop", &mut text);
    ui.text(&String::from_utf8_lossy(&text))?;
    Ok(0)
}
