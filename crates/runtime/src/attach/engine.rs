//! Whom to ask for the process of a container.

use std::io;
use std::process::{Command, Stdio};

use hopyard_kernel::Process;

use super::AttachError;
use crate::error::Error;

/// What runs containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// podman(1).
    Podman,
    /// docker(1).
    Docker,
    /// systemd-nspawn(1), and what else machinectl(1) knows.
    Machinectl,
}

/// A running container.
#[derive(Debug)]
pub struct Found {
    /// Its first process.
    pub process: Process,
    /// What it is called.
    pub label: String,
}

impl Engine {
    /// All of them.
    pub const ALL: [Engine; 3] = [Engine::Podman, Engine::Docker, Engine::Machinectl];

    /// Its program.
    pub fn program(self) -> &'static str {
        match self {
            Engine::Podman => "podman",
            Engine::Docker => "docker",
            Engine::Machinectl => "machinectl",
        }
    }

    /// The number of the container's first process; `None`: the program is not installed. Or what it said.
    fn pid(self, name: &str) -> Option<Result<i32, String>> {
        let mut command = Command::new(self.program());
        match self {
            Engine::Podman | Engine::Docker => {
                command.args(["container", "inspect", "--format", "{{.State.Pid}}", "--", name]);
            }
            Engine::Machinectl => {
                command.args(["show", "--property=Leader", "--value", "--", name]);
            }
        }
        let output = match command.stdin(Stdio::null()).output() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => return Some(Err(error.to_string())),
            Ok(output) => output,
        };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if !output.status.success() {
            let said = text(&output.stderr);
            return Some(Err(said.lines().next_back().unwrap_or("nothing").to_owned()));
        }
        Some(match text(&output.stdout).parse() {
            Ok(pid) if pid > 0 => Ok(pid),
            _ => Err("it does not run".to_owned()),
        })
    }

    /// Takes hold of the container's first process. That it is still the container's, the engine is asked afterwards:
    /// its number may be another's by then.
    fn hold(self, name: &str) -> Option<Result<Found, String>> {
        let held = self.pid(name)?.and_then(|pid| Ok((pid, Process::open(pid).map_err(|error| error.to_string())?)));
        Some(held.and_then(|(pid, process)| match self.pid(name) {
            Some(Ok(again)) if again == pid => Ok(Found { process, label: format!("container `{name}`") }),
            _ => Err("it has just ended".to_owned()),
        }))
    }
}

/// Finds a running container by its name; `engine`: whom to ask, or else all that are installed.
///
/// # Errors
/// There is none, or there are two.
pub fn find(name: &str, engine: Option<Engine>) -> Result<Found, Error> {
    let is_name = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
        && name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if !is_name || name.len() > 255 {
        return Err(AttachError::BadName { name: name.to_owned() }.into());
    }
    let engines = Engine::ALL.into_iter().filter(|it| engine.is_none_or(|wanted| wanted == *it));
    let mut asked = Vec::new();
    let mut found: Option<(Engine, Found)> = None;
    for engine in engines {
        match engine.hold(name) {
            None => {}
            Some(Err(said)) => asked.push((engine.program(), said)),
            Some(Ok(second)) => match found {
                // What podman has started is a machine as well, where it is told so.
                Some((_, ref first)) if first.process.pid() == second.process.pid() => {}
                Some((first, _)) => {
                    let engines = (first.program(), engine.program());
                    return Err(AttachError::Ambiguous { name: name.to_owned(), engines }.into());
                }
                None => found = Some((engine, second)),
            },
        }
    }
    match found {
        Some((_, found)) => Ok(found),
        None => Err(AttachError::NoContainer { name: name.to_owned(), asked }.into()),
    }
}
