//! Why a container cannot be a node.

use std::collections::BTreeSet;

use hopyard_net::{IfName, NsName};
use thiserror::Error;

/// Why a container cannot be a node.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AttachError {
    /// The node has one already.
    #[error("node `{node}` is {label} already")]
    IsAttached {
        /// The node.
        node: NsName,
        /// What it is.
        label: String,
    },
    /// The node has none.
    #[error("node `{node}` is not attached to anything")]
    NotAttached {
        /// The node.
        node: NsName,
    },
    /// Its network is that of the machine.
    #[error("{label} has no network of its own: it uses the machine's")]
    IsHost {
        /// What was to be attached.
        label: String,
    },
    /// Its network is a node already.
    #[error("{label} is in node `{node}` of this lab already")]
    IsNode {
        /// What was to be attached.
        label: String,
        /// The node.
        node: NsName,
    },
    /// Its network belongs to a user namespace in which the caller has no rights.
    #[error("the network of {label} belongs to another user namespace than the lab; to join the two takes root")]
    NotYours {
        /// What was to be attached.
        label: String,
    },
    /// Two interfaces of one name.
    #[error("{label} has an interface `{dev}` of its own, and `{node}` needs one of that name")]
    NameTaken {
        /// The node.
        node: NsName,
        /// What was to be attached.
        label: String,
        /// The name.
        dev: IfName,
    },
    /// Processes run in the node.
    #[error("processes run in node `{node}`: {}", list(.pids))]
    InUse {
        /// The node.
        node: NsName,
        /// Their ids.
        pids: BTreeSet<i32>,
    },
    /// The node joins the lab to something outside.
    #[error("node `{node}` has {what}, which a container cannot be given")]
    HasOutside {
        /// What it has.
        what: &'static str,
        /// The node.
        node: NsName,
    },
    /// No name of a container.
    #[error("`{name}` is no name of a container")]
    BadName {
        /// The name.
        name: String,
    },
    /// Nobody knows the container.
    #[error("there is no running container `{name}`: {}", answers(.asked))]
    NoContainer {
        /// The name.
        name: String,
        /// Who was asked, and what they said.
        asked: Vec<(&'static str, String)>,
    },
    /// Two know one.
    #[error("`{name}` is a container of {} and of {}", .engines.0, .engines.1)]
    Ambiguous {
        /// The name.
        name: String,
        /// Who knows one.
        engines: (&'static str, &'static str),
    },
}

fn list(pids: &BTreeSet<i32>) -> String {
    pids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn answers(asked: &[(&'static str, String)]) -> String {
    match asked {
        [] => "neither podman nor docker nor machinectl is installed".to_owned(),
        asked => asked.iter().map(|(engine, said)| format!("{engine} says: {said}")).collect::<Vec<_>>().join("; "),
    }
}
