//! What can go wrong with a lab that is, or should be, running.

use std::io;
use std::path::PathBuf;

use hopyard_kernel::cleanup::PendingError;
use hopyard_kernel::{ApplyError, Errno, Failure, KernelError};
use hopyard_model::{LabName, Problem, Span};
use hopyard_net::{IfName, NsName, Op};
use thiserror::Error;

use crate::attach::AttachError;
use crate::boot::BootError;
use crate::ns::NsError;
use crate::uplink::UplinkError;

/// Why something could not be done with a lab.
#[derive(Debug, Error)]
pub enum Error {
    /// The lab's network cannot be planned.
    #[error("the lab cannot be planned")]
    Plan(Vec<Problem>),
    /// A step of making or changing a network failed.
    #[error("{}", .error)]
    Step {
        /// The step.
        op: Box<Op>,
        /// The place in the topology that asked for it.
        origin: Option<Span>,
        /// What the kernel answered.
        error: Box<KernelError>,
        /// How many steps were done before it, and of how many.
        done: (usize, usize),
        /// Was the lab running before? Then the steps before this one stay done.
        was_running: bool,
    },
    /// A netlink request failed that belongs to no step.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// A process, a mount or a namespace could not be had.
    #[error(transparent)]
    System(#[from] Failure),
    /// The end of the kernel's clean-up cannot be known.
    #[error(transparent)]
    Cleanup(#[from] PendingError),
    /// A file could not be read or written.
    #[error("cannot {doing}: {}", reason(.source))]
    Io {
        /// What was tried.
        doing: String,
        /// Why not.
        source: io::Error,
    },
    /// The nodes cannot be watched, or no packet be sent from them: who may look at a network need not have a right to
    /// that.
    #[error("no probe can be sent and watched: {0}")]
    CannotProbe(Box<Error>),
    /// A directory that must be the caller's alone is not.
    #[error("{} is not a directory that only you can write to", .path.display())]
    NotPrivate {
        /// The directory.
        path: PathBuf,
    },
    /// No lab of that name runs.
    #[error("no lab `{name}` is running")]
    NotRunning {
        /// The name asked for.
        name: LabName,
    },
    /// A lab of that name runs that may not be replaced.
    #[error("a lab `{name}` is running already")]
    AlreadyRunning {
        /// The name.
        name: LabName,
    },
    /// The lab has no such node.
    #[error("lab `{lab}` has no node `{node}`")]
    NoSuchNode {
        /// The lab.
        lab: LabName,
        /// The name asked for.
        node: String,
        /// The nodes that it has.
        nodes: Vec<NsName>,
    },
    /// What should be a node is a switch.
    #[error("`{switch}` is a switch of lab `{lab}`: it has no address, and nothing runs in it")]
    IsSwitch {
        /// The lab.
        lab: LabName,
        /// The name asked for.
        switch: String,
    },
    /// The lab was told to end, and something keeps it.
    #[error(
        "the lab does not end: its keeper, process {keeper}, waits for a process in it that a stopped `hop` has started"
    )]
    Held {
        /// The keeper's process id.
        keeper: i32,
    },
    /// Something about a namespace that has a name.
    #[error(transparent)]
    Ns(#[from] NsError),
    /// A container cannot be a node.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// Something about systemd.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// An ordinary user's lab cannot have an interface of the machine.
    #[error("`{node}` cannot have the machine's interface `{dev}`: that takes root")]
    NotLent {
        /// The node that asks for it.
        node: NsName,
        /// The interface.
        dev: IfName,
    },
    /// Interfaces of one radio move together.
    #[error(
        "`{other}` is of the same radio as `{dev}`, which moves with all its interfaces: `{node}` has both, or none"
    )]
    RadioParted {
        /// The node that has, or asks for, one of them.
        node: NsName,
        /// The one.
        dev: IfName,
        /// The other.
        other: IfName,
    },
    /// An interface cannot be given back from here.
    #[error("the interface `{dev}` of `{node}` came from another network namespace than this one")]
    LentElsewhere {
        /// The node that has it.
        node: NsName,
        /// The interface.
        dev: IfName,
    },
    /// There is no way out of a lab.
    #[error(transparent)]
    Uplink(#[from] UplinkError),
    /// The record of a lab cannot be understood.
    #[error("the record {} cannot be read: {why}", .path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

/// The words of [`Errno`] where there is a number, as in every other message.
fn reason(error: &io::Error) -> String {
    error.raw_os_error().map_or_else(|| error.to_string(), |errno| Errno::from_raw(errno).to_string())
}

impl Error {
    /// Ties an error of the kernel to the step, and that to the place in the topology.
    pub(crate) fn step(failed: ApplyError, ops: &[Op], origin: Option<Span>, was_running: bool) -> Self {
        match ops.get(failed.at) {
            Some(op) => Error::Step {
                op: Box::new(op.clone()),
                origin,
                error: Box::new(failed.error),
                done: (failed.done, ops.len()),
                was_running,
            },
            None => Error::Kernel(failed.error),
        }
    }
}

/// Says what an I/O error interrupted.
pub(crate) trait IoContext<T> {
    fn context(self, doing: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn context(self, doing: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|source| Error::Io { doing: doing(), source })
    }
}

impl Error {
    /// The same, where it is a right that is missing to probe.
    pub(crate) fn of_probe(self) -> Self {
        match self {
            Error::Io { ref source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Error::CannotProbe(Box::new(self))
            }
            other => other,
        }
    }
}
