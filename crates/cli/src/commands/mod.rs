//! One file a command: its arguments with their help, and what it does.

pub(crate) mod attach;
pub(crate) mod boot;
pub(crate) mod check;
pub(crate) mod complete;
pub(crate) mod completions;
pub(crate) mod detach;
pub(crate) mod diff;
pub(crate) mod disable;
pub(crate) mod doctor;
pub(crate) mod down;
pub(crate) mod enable;
pub(crate) mod exec;
pub(crate) mod ls;
pub(crate) mod man;
pub(crate) mod ns;
pub(crate) mod ping;
pub(crate) mod plan;
pub(crate) mod record;
pub(crate) mod run;
pub(crate) mod sandbox;
pub(crate) mod schema;
pub(crate) mod shell;
pub(crate) mod show;
pub(crate) mod unit;
pub(crate) mod up;
pub(crate) mod why;

use crate::args::Command;
use crate::error::CliError;
use crate::ui::Ui;

/// Runs a command; its value is the exit status.
pub(crate) fn run(command: Command, ui: &mut Ui) -> Result<u8, CliError> {
    match command {
        Command::Up(args) => up::run(&args, ui),
        Command::Down(args) => down::run(&args, ui),
        Command::Run(args) => run::run(&args, ui),
        Command::Ls(args) => ls::run(&args, ui),
        Command::Show(args) => show::run(&args, ui),
        Command::Plan(args) => plan::run(&args, ui),
        Command::Diff(args) => diff::run(&args, ui),
        Command::Exec(args) => exec::run(&args, ui),
        Command::Shell(args) => shell::run(&args, ui),
        Command::Sandbox(args) => sandbox::run(&args, ui),
        Command::Ping(args) => ping::run(&args, ui),
        Command::Check(args) => check::run(&args, ui).map_err(|error| error.unanswered(why::OPEN)),
        Command::Why(args) => why::run(&args, ui).map_err(|error| error.unanswered(why::OPEN)),
        Command::Record(args) => record::run(&args, ui),
        Command::Ns(args) => ns::run(args.command, ui),
        Command::Attach(args) => attach::run(&args, ui),
        Command::Detach(args) => detach::run(&args, ui),
        Command::Enable(args) => enable::run(&args, ui),
        Command::Disable(args) => disable::run(&args, ui),
        Command::Unit(args) => unit::run(&args, ui),
        Command::Boot(args) => boot::run(&args, ui),
        Command::Doctor(args) => doctor::run(&args, ui),
        Command::Schema(args) => schema::run(&args, ui),
        Command::Complete(args) => complete::run(&args, ui),
        Command::Completions(args) => completions::run(&args, ui),
        Command::Man(args) => man::run(&args, ui),
    }
}
