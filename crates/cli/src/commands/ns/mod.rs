//! `hop ns`: one file a command, as above.

pub(crate) mod add;
pub(crate) mod attach;
pub(crate) mod delete;
pub(crate) mod exec;
pub(crate) mod identify;
pub(crate) mod list;
pub(crate) mod monitor;
pub(crate) mod movement;
pub(crate) mod pids;
pub(crate) mod set;

use std::ffi::OsString;

use hopyard::kernel::holders::{Hold, Holder};
use hopyard::kernel::moving::Lost;
use hopyard::runtime;
use hopyard::runtime::ns::{EntryName, Moved};

use crate::error::CliError;
use crate::ui::Ui;

/// Namespaces by name, as `ip netns` has them: what one makes, the other sees, enters and deletes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// A command is a file here and a line there.
#[derive(Debug, clap::Subcommand)]
#[command(disable_help_subcommand = true, defer = true)]
pub(crate) enum Command {
    Add(add::Args),
    #[command(visible_alias = "del")]
    Delete(delete::Args),
    #[command(visible_alias = "ls")]
    List(list::Args),
    Exec(exec::Args),
    Identify(identify::Args),
    Pids(pids::Args),
    Attach(attach::Args),
    Set(set::Args),
    Monitor(monitor::Args),
    Move(movement::Args),
}

pub(crate) fn run(command: Command, ui: &mut Ui) -> Result<u8, CliError> {
    match command {
        Command::Add(args) => add::run(&args, ui),
        Command::Delete(args) => delete::run(&args, ui),
        Command::List(args) => list::run(&args, ui),
        Command::Exec(args) => exec::run(&args, ui),
        Command::Identify(args) => identify::run(&args, ui),
        Command::Pids(args) => pids::run(&args, ui),
        Command::Attach(args) => attach::run(&args),
        Command::Set(args) => set::run(&args),
        Command::Monitor(args) => monitor::run(&args, ui),
        Command::Move(args) => movement::run(&args, ui),
    }
}

/// A name that is in the directory already, and so may be one that hop would not give.
fn existing(name: &OsString) -> Result<EntryName, CliError> {
    Ok(EntryName::new(name)?)
}

/// Tells of all that went wrong; the last of it is how the command ends.
fn all_told(mut failed: Vec<runtime::Error>, ui: &mut Ui) -> Result<u8, CliError> {
    let Some(last) = failed.pop() else { return Ok(0) };
    for error in failed {
        CliError::from(error).report(ui);
    }
    Err(last.into())
}

/// Tells of an interface that goes home with the end of its namespace.
pub(super) fn tell_of_returned(Moved { dev, lost }: &Moved, ui: &mut Ui) {
    ui.note(format_args!("{dev} is back from where it had been moved to"));
    tell_of_lost(dev, lost, ui);
}

/// Tells of what an interface had before it moved and has no more.
fn tell_of_lost(dev: impl std::fmt::Display, lost: &[Lost], ui: &mut Ui) {
    for Lost { what, why } in lost {
        let why = why.as_ref().map_or_else(String::new, |error| format!(": {}", error.answer()));
        ui.warn(format_args!("{dev} has lost {what}{why}"));
    }
}

/// How something holds a namespace.
fn holder_words(holder: &Holder) -> String {
    match holder {
        Holder::Process { pid, command, by } => {
            let does = match by {
                Hold::Process => "runs in it".to_owned(),
                Hold::Thread(tid) => format!("has a thread in it, {tid}"),
                Hold::Descriptor(fd) => format!("has it open, as file {fd}"),
                Hold::Socket(fd) => format!("has a socket in it, as file {fd}"),
            };
            format!("process {pid} ({}) {does}", command.escape_debug())
        }
        Holder::Mount { path, seen_by: None } => format!("it is mounted on {}", path.display()),
        Holder::Mount { path, seen_by: Some(pid) } => {
            format!("it is mounted on {} in the mount namespace of process {pid}", path.display())
        }
    }
}
