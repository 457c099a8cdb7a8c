//! `hop exec`.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

use hopyard::kernel::{Identity, supervise, users};
use hopyard::runtime::Home;

use crate::error::CliError;
use crate::target::LabArg;
use crate::ui::Ui;

/// The environment variables that tell a command where it runs.
pub(crate) const HOP_LAB: &str = "HOP_LAB";
pub(crate) const HOP_NODE: &str = "HOP_NODE";

/// Run a command in a node.
///
/// It sees the node's network, /sys and host name, and the names of all nodes; the working directory,
/// the terminal, signals and the exit status pass through.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    lab: LabArg,
    #[command(flatten)]
    how: How,
    /// The node, as NODE or LAB/NODE.
    #[arg(value_name = "NODE")]
    node: String,
    /// The command and its arguments.
    #[arg(value_name = "CMD", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

/// As whom, where, and with which environment.
#[derive(Debug, clap::Args)]
pub(crate) struct How {
    /// Run as this user, by name or number.
    #[arg(short, long, value_name = "USER")]
    user: Option<String>,
    /// Set an environment variable; without a value, take it away.
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Run in this directory instead of the current one.
    #[arg(short = 'C', long, value_name = "DIR")]
    cwd: Option<PathBuf>,
}

pub(crate) fn run(args: &Args, ui: &mut Ui) -> Result<u8, CliError> {
    let Some((program, arguments)) = args.command.split_first() else {
        return Err(CliError::usage("no command was given"));
    };
    let mut command = Command::new(program);
    command.args(arguments);
    args.how.run_in(&args.lab, &args.node, command, supervise, ui)
}

impl How {
    /// Moves this process into the node and runs the command there.
    pub(crate) fn run_in(
        &self,
        lab: &LabArg,
        node: &str,
        mut command: Command,
        supervise: fn(Command) -> std::io::Result<u8>,
        ui: &mut Ui,
    ) -> Result<u8, CliError> {
        let home = Home::of_caller()?;
        let (running, node) = lab.find_node(&home, node)?;
        let cwd = self.directory()?.map_or_else(current_dir, Ok)?;
        let entry = running.entry(&node, cwd, self.identity()?)?;
        ui.finish()?;
        command.env(HOP_LAB, running.name().as_str()).env(HOP_NODE, &node);
        self.set_environment(&mut command)?;
        entry.enter().map_err(hopyard::runtime::Error::from)?;
        let program = command.get_program().to_owned();
        supervise(command).map_err(|error| cannot_start(&program, &error))
    }
}

impl How {
    /// The directory that was asked for.
    pub(crate) fn directory(&self) -> Result<Option<PathBuf>, CliError> {
        let absolute = |dir| std::path::absolute(dir).map_err(|error| CliError::failure(error.to_string()));
        self.cwd.as_ref().map(absolute).transpose()
    }

    /// The user that was asked for.
    pub(crate) fn identity(&self) -> Result<Option<Identity>, CliError> {
        self.user.as_deref().map(find_user).transpose()
    }

    /// Changes the environment of a command as it was asked for.
    pub(crate) fn set_environment(&self, command: &mut Command) -> Result<(), CliError> {
        for setting in &self.env {
            match setting.split_once('=') {
                Some(("", _)) => return Err(CliError::usage(format!("`--env {setting}` names no variable"))),
                Some((name, value)) => command.env(name, value),
                None => command.env_remove(setting),
            };
        }
        Ok(())
    }

    /// The same once more, as arguments.
    pub(crate) fn arguments(&self) -> Vec<OsString> {
        let mut arguments = Vec::new();
        let mut push = |option: &str, value: &OsStr| arguments.extend([option.into(), value.to_owned()]);
        self.user.iter().for_each(|user| push("--user", user.as_ref()));
        self.env.iter().for_each(|setting| push("--env", setting.as_ref()));
        self.cwd.iter().for_each(|dir| push("--cwd", dir.as_ref()));
        arguments
    }
}

/// The directory that the command should run in, too.
pub(crate) fn current_dir() -> Result<PathBuf, CliError> {
    std::env::current_dir().map_err(|error| {
        CliError::failure(format!("the current directory cannot be told: {error}")).hint("`--cwd DIR` names another")
    })
}

fn find_user(name: &str) -> Result<Identity, CliError> {
    match users::find(name) {
        Ok(Some(identity)) => Ok(identity),
        Ok(None) => Err(CliError::usage(format!("there is no user `{name}`"))),
        Err(error) => Err(CliError::failure(format!("cannot look up the user `{name}`: {error}"))),
    }
}

/// 127: not found, 126: found but not to be run, as in every shell.
pub(crate) fn cannot_start(program: &OsStr, error: &std::io::Error) -> CliError {
    // A directory of PATH that may not be looked into hides nothing that is found elsewhere.
    let found = Path::new(program).components().count() > 1
        || std::env::var_os("PATH")
            .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()));
    let (status, why) = if found && error.kind() != std::io::ErrorKind::NotFound {
        (126, error.to_string())
    } else {
        (127, "not found".to_owned())
    };
    CliError::Command { message: format!("cannot run `{}`: {why}", program.display()), status, hint: None }
}
