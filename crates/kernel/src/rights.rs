//! What the caller may do.

use std::path::Path;

use rustix::fs::Access;
use rustix::thread::CapabilitySet;

/// May the caller make namespaces as it is, without a user namespace of its own
/// (`CAP_SYS_ADMIN` and `CAP_NET_ADMIN`, capabilities(7))?
pub fn is_privileged() -> bool {
    rustix::thread::capabilities(None)
        .is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN | CapabilitySet::NET_ADMIN))
}

/// The caller's effective user id.
pub fn user_id() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// The caller's effective group id.
pub fn group_id() -> u32 {
    rustix::process::getegid().as_raw()
}

/// May the caller write to that file or directory?
pub fn may_write(path: &Path) -> bool {
    rustix::fs::accessat(rustix::fs::CWD, path, Access::WRITE_OK, rustix::fs::AtFlags::EACCESS).is_ok()
}
