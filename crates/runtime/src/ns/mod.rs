//! Namespaces by name, as ip-netns(8) has them: the same directory, the same files, both ways.
//!
//! Beside those, the directory has the nodes of root's labs, which are links and no mounts, and what
//! others have left: a file that is no namespace any more, or not yet.

mod add;
mod delete;
mod directory;
mod error;
mod exec;
mod list;
mod monitor;
mod moves;
mod moving;
mod name;

pub(crate) use add::network_of;
pub use add::{Added, add, attach};
pub use delete::{Deleted, Remains, delete};
pub use directory::{Entry, Kind, Names};
pub use error::NsError;
pub use exec::entry;
pub use list::{Listed, identify, list, pids};
pub use monitor::{Event, Monitor};
pub use moving::{Moved, Place, move_interface};
pub(crate) use moving::{bring_back_from_lab, find_by_cookie, moved_to_lab};
pub use name::EntryName;

use std::os::fd::AsFd;

use hopyard_kernel::rights;

use crate::error::Error;

/// Gives the namespace of that name the number by which the caller's own knows it; `None`: one of the
/// kernel's choice.
///
/// # Errors
/// There is no such namespace, or it has a number already.
pub fn set_number(name: &EntryName, number: Option<i32>) -> Result<(), Error> {
    require_rights("give a namespace a number")?;
    let network = Names::open_existing(name)?.network(name)?;
    let not_numbered = |error| NsError::NotNumbered { name: name.clone(), error: Box::new(error) };
    Ok(hopyard_kernel::set_number(network.as_fd(), number).map_err(not_numbered)?)
}

/// For what only root can do.
///
/// # Errors
/// [`NsError::NoRights`], [`NsError::NoCapability`].
pub fn require_rights(doing: &'static str) -> Result<(), Error> {
    if rights::is_privileged() {
        return Ok(());
    }
    let is_root = rights::user_id() == 0;
    Err(if is_root { NsError::NoCapability { doing } } else { NsError::NoRights { doing } }.into())
}
