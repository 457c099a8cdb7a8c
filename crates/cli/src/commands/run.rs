//! `hop run`.

use std::ffi::OsString;

use hopyard::kernel::supervise;
use hopyard::model::LabName;
use hopyard::runtime::{self, Home, Lifetime};

use super::exec::{HOP_LAB, HOP_NODE, cannot_start, current_dir};
use crate::error::{CliError, report_problems};
use crate::source::TopologyArgs;
use crate::ui::Ui;

/// Run a command with a lab that lives exactly as long as it does.
///
/// Without --node the command runs where you are, and `hop exec`, `hop ping` and the others that it
/// calls mean this lab (by HOP_LAB in its environment). If a lab of its name runs already, this one
/// gets a number behind its name, so that the same command can run many times at once.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    topology: TopologyArgs,
    /// Run the command in this node.
    #[arg(short, long, value_name = "NODE")]
    node: Option<String>,
    /// The command and its arguments.
    #[arg(value_name = "CMD", required = true, last = true)]
    command: Vec<OsString>,
}

pub(crate) fn run(args: &Args, ui: &mut Ui) -> Result<u8, CliError> {
    let source = args.topology.read(ui)?;
    let home = Home::of_caller()?;
    let place = args.topology.place(&source);
    let up = match runtime::up(&home, &source.lab, &place, Lifetime::Tied) {
        Err(runtime::Error::AlreadyRunning { .. }) if args.topology.name.is_none() => {
            let lab = source.lab.renamed(numbered(source.lab.name()));
            runtime::up(&home, &lab, &place, Lifetime::Tied)
        }
        up => up,
    };
    let up = up.map_err(|error| CliError::of_lab(error, &source))?;
    report_problems(ui, &up.warnings, &source.file);
    ui.finish()?;
    let (program, arguments) = args.command.split_first().ok_or_else(|| CliError::usage("no command was given"))?;
    let mut command = match &args.node {
        None => std::process::Command::new(program),
        Some(node) => {
            let mut command = up.running.entry(node, current_dir()?, None)?.command(program);
            command.env(HOP_NODE, node);
            command
        }
    };
    command.args(arguments).env(HOP_LAB, up.running.name().as_str());
    let status = supervise(command).map_err(|error| cannot_start(program, &error));
    let ended = up.tied.map_or(Ok(()), runtime::Tied::end);
    let status = status?;
    ended?;
    Ok(status)
}

/// A name that only this process has.
fn numbered(name: &LabName) -> LabName {
    let suffix = format!("-{}", std::process::id());
    let kept: String = name.as_str().chars().take(LabName::MAX_LEN - suffix.len()).collect();
    format!("{kept}{suffix}").parse().unwrap_or_else(|_| name.clone())
}
