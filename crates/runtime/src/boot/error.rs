//! What can go wrong between us and systemd.

use std::path::PathBuf;

use hopyard_model::LabName;
use thiserror::Error;

/// What systemd is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// To bring a lab up by itself.
    Enable,
    /// Not to do so any more.
    Disable,
    /// To run a service in a node.
    Install,
    /// Not to do so any more.
    Uninstall,
}

/// Why a lab cannot be enabled, or a service not be put in a node.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BootError {
    /// The machine was not started by systemd.
    #[error("systemd does not run on this machine")]
    NoSystemd {
        /// What it was wanted for.
        wish: Wish,
    },
    /// The user has no systemd of its own now.
    #[error("there is no systemd for your user here ({} is missing)", .socket.display())]
    NoUserManager {
        /// Where it would listen.
        socket: PathBuf,
    },
    /// A file that is ours by its name, and somebody else's by what is in it.
    #[error("{} was not written by hop, or was edited since", .path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A path that cannot be written into a unit.
    #[error("{what} is {path:?}, which cannot stand in a unit")]
    BadPath {
        /// What it is the path of.
        what: &'static str,
        /// The path.
        path: PathBuf,
    },
    /// The program has been replaced or removed since it was started.
    #[error("the program hop is not where it was started: {why}")]
    NoProgram {
        /// What the system said.
        why: String,
    },
    /// systemctl(1) failed.
    #[error("`{command}` failed: {said}")]
    Systemctl {
        /// What was run.
        command: String,
        /// What it said.
        said: String,
    },
    /// The lab does not come up by itself, so nothing can be bound to that.
    #[error("lab `{lab}` is not enabled")]
    NotEnabled {
        /// The lab.
        lab: LabName,
    },
    /// No name of a service.
    #[error("`{name}` is no name of a service: {why}")]
    BadService {
        /// The name.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// systemd knows no such service.
    #[error("systemd knows no service `{name}`")]
    NoService {
        /// The name.
        name: String,
    },
    /// Somebody has decided that the service does not run at all.
    #[error("the service `{name}` is masked")]
    Masked {
        /// The name.
        name: String,
    },
    /// Another file says where the service runs, or systemd is older than 242.
    #[error("systemd would run `{name}` {}, whatever our drop-in says", place(.network))]
    Overruled {
        /// The name.
        name: String,
        /// The network namespace, if any.
        network: String,
    },
    /// The systemd of an ordinary user cannot do it.
    #[error("the systemd of an ordinary user cannot run a service in another network namespace")]
    UserService,
    /// The lab lost its keeper without having been taken down.
    #[error("the keeper of lab `{lab}` was killed")]
    KeeperKilled {
        /// The lab.
        lab: LabName,
    },
}

fn place(network: &str) -> String {
    if network.is_empty() { "in the host's network".to_owned() } else { format!("in {network}") }
}
