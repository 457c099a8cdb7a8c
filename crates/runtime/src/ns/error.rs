//! What can go wrong with a namespace that has a name.

use std::path::PathBuf;

use hopyard_kernel::KernelError;
use hopyard_model::LabName;
use hopyard_net::IfName;
use thiserror::Error;

use super::{EntryName, Place};

/// Why something could not be done with a name.
#[derive(Debug, Error)]
pub enum NsError {
    /// The caller is an ordinary user.
    #[error("only root can {doing}")]
    NoRights {
        /// What was to be done.
        doing: &'static str,
    },
    /// The caller is root, of a container perhaps, and has not all of root's rights.
    #[error("cannot {doing}: this root has no CAP_SYS_ADMIN, or no CAP_NET_ADMIN")]
    NoCapability {
        /// What was to be done.
        doing: &'static str,
    },
    /// A text that cannot be in the directory.
    #[error("`{}` is no name of a namespace: {why}", .name.escape_debug())]
    BadName {
        /// The text.
        name: String,
        /// Why not.
        why: &'static str,
    },
    /// The process is there, and its namespace may not be opened (ptrace(2), access mode
    /// `PTRACE_MODE_READ_FSCREDS`).
    #[error("may not open the network namespace of process {pid}: Permission denied (EACCES)")]
    Closed {
        /// The process.
        pid: i32,
    },
    /// The same of a name that is a link.
    #[error("may not open the namespace `{name}`, a link to {}: Permission denied (EACCES)", .to.display())]
    ClosedName {
        /// The name.
        name: EntryName,
        /// Where to.
        to: PathBuf,
    },
    /// No such name.
    #[error("there is no namespace `{name}`")]
    NotFound {
        /// The name asked for.
        name: EntryName,
        /// Those that there are.
        names: Vec<EntryName>,
    },
    /// The name is taken.
    #[error("a namespace `{name}` exists already")]
    Exists {
        /// The name.
        name: EntryName,
    },
    /// What one of several was refused for would have kept these from being made as well.
    #[error("{count} more {} not tried", if *.count == 1 { "was" } else { "were" })]
    NotTried {
        /// How many.
        count: usize,
    },
    /// The name leads to no namespace: somebody was killed while making it, or the machine or the container
    /// has been started anew since.
    #[error("the name `{name}` is dead: it is no namespace any more")]
    Dead {
        /// The name.
        name: EntryName,
    },
    /// Something that `ip netns` does not make, nor does this.
    #[error("`{name}` in /run/netns is no namespace, but {what}")]
    Foreign {
        /// The name.
        name: EntryName,
        /// What it is.
        what: &'static str,
    },
    /// The name is that of a node, whose life is the lab's.
    #[error("`{name}` is a node of a lab that runs")]
    OfLab {
        /// The name.
        name: EntryName,
        /// The lab, if it is one of the caller's.
        lab: Option<LabName>,
    },
    /// No such interface where it was looked for.
    #[error("there is no interface `{dev}` {place}")]
    NoInterface {
        /// The name asked for.
        dev: IfName,
        /// Where.
        place: Place,
        /// The interfaces that there are.
        devs: Vec<IfName>,
    },
    /// It is there already.
    #[error("the interface `{dev}` is {place} already")]
    IsThere {
        /// The interface.
        dev: IfName,
        /// Where.
        place: Place,
    },
    /// Another one of that name is there.
    #[error("there is another interface `{dev}` {place}")]
    Taken {
        /// The name.
        dev: IfName,
        /// Where.
        place: Place,
    },
    /// The kernel did not give a namespace the number.
    #[error("cannot give `{name}` a number: {}", .error.answer())]
    NotNumbered {
        /// The name.
        name: EntryName,
        /// Why not.
        error: Box<KernelError>,
    },
    /// Each namespace has its own.
    #[error("the interface `lo` cannot leave its namespace")]
    Loopback,
    /// An interface did not move.
    #[error("{error}")]
    NotMoved {
        /// The interface.
        dev: IfName,
        /// Where it should have gone.
        to: Place,
        /// Why it did not.
        error: Box<KernelError>,
    },
    /// An interface that goes back when its namespace ends cannot.
    #[error("the interface `{dev}` in `{name}` came from a namespace that cannot be found")]
    NoWayBack {
        /// The name that was to be deleted.
        name: EntryName,
        /// The interface.
        dev: IfName,
    },
    /// What an interface goes back with, and where to, is not known.
    #[error("the record of the interface `{dev}` in `{name}` cannot be read: {}", .path.display())]
    BadMove {
        /// The name that was to be deleted.
        name: EntryName,
        /// The interface.
        dev: IfName,
        /// The file.
        path: PathBuf,
    },
    /// There is no process of that id, or it is another user's.
    #[error("there is no process {pid} whose namespace you may see")]
    NoProcess {
        /// The id.
        pid: i32,
    },
}
