//! `hop ns exec`.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use hopyard::kernel::supervise_one_of_many;
use hopyard::runtime::ns::{self, Kind, Names};

use super::existing;
use crate::commands::exec::{How, cannot_start};
use crate::error::{CliError, FAILURE};
use crate::ui::Ui;

/// Run a command in a namespace, or in each.
///
/// It sees the namespace's network and /sys, with all that is mounted below /sys, and for every file in
/// /etc/netns/NAME that one instead of the one in /etc; if one of them cannot be put there, the command is
/// not run. It replaces this process, so signals and the exit status are its own.
#[derive(Debug, clap::Args)]
#[command(override_usage = "hop ns exec [OPTIONS] NAME CMD...\n       hop ns exec [OPTIONS] --all CMD...")]
pub(crate) struct Args {
    #[command(flatten)]
    how: How,
    /// In every namespace that has a name, one after the other; fails if it fails in one. A signal ends it all.
    #[arg(long)]
    all: bool,
    /// The name of the namespace, and the command with its arguments.
    #[arg(value_name = "NAME CMD", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<OsString>,
}

pub(crate) fn run(args: &Args, ui: &mut Ui) -> Result<u8, CliError> {
    if args.all {
        return in_all(args, ui);
    }
    // As in `hop exec NODE -- CMD`.
    let (name, program, arguments) = match args.words.as_slice() {
        [name, dashes, program, arguments @ ..] if dashes == "--" => (name, program, arguments),
        [name, program, arguments @ ..] if program != "--" => (name, program, arguments),
        _ => return Err(CliError::usage("no command was given")),
    };
    let entry = ns::entry(&existing(name)?, args.how.directory()?, args.how.identity()?)?;
    let mut command = Command::new(program);
    command.args(arguments);
    args.how.set_environment(&mut command)?;
    ui.finish()?;
    entry.enter().map_err(hopyard::runtime::Error::from)?;
    let error = command.exec();
    Err(cannot_start(program, &error))
}

fn in_all(args: &Args, ui: &mut Ui) -> Result<u8, CliError> {
    ns::require_rights("enter a namespace")?;
    let mut status = 0;
    for (name, kind) in Names::kinds()? {
        // A name that is dead fails like a command, in its own words; what is no name is passed over.
        if matches!(kind, Kind::Foreign(_)) {
            continue;
        }
        // Beside the results, so that those can be read by a program.
        ui.note(format_args!("netns: {name}"));
        // Whoever enters does not come back.
        let mut command = Command::new("/proc/self/exe");
        command.arg0("hop").args(["ns", "exec"]).args(args.how.arguments());
        command.arg("--").arg(name.as_os_str()).args(&args.words);
        let ended = supervise_one_of_many(command)
            .map_err(|error| CliError::failure(format!("cannot start hop anew: {error}")))?;
        if let Some(status) = ended.told_to_end {
            return Ok(status);
        }
        if ended.status != 0 {
            status = FAILURE;
        }
    }
    Ok(status)
}
