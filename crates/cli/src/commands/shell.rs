//! `hop shell`.

use std::process::Command;

use hopyard::kernel::supervise_shell;

use super::exec::How;
use crate::error::CliError;
use crate::target::LabArg;
use crate::ui::Ui;

/// Open a shell in a node.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    lab: LabArg,
    #[command(flatten)]
    how: How,
    /// The shell; $SHELL if not given.
    #[arg(short, long, value_name = "SHELL")]
    shell: Option<std::ffi::OsString>,
    /// The node, as NODE or LAB/NODE.
    #[arg(value_name = "NODE")]
    node: String,
}

pub(crate) fn run(args: &Args, ui: &mut Ui) -> Result<u8, CliError> {
    let shell = args.shell.clone().or_else(|| std::env::var_os("SHELL").filter(|shell| !shell.is_empty()));
    let command = Command::new(shell.unwrap_or_else(|| "/bin/sh".into()));
    args.how.run_in(&args.lab, &args.node, command, supervise_shell, ui)
}
