//! What the caller may do, and the kernel can.

use std::net::{Ipv6Addr, UdpSocket};
use std::path::Path;

use rustix::fs::Access;
use rustix::thread::CapabilitySet;

/// May the caller make namespaces as it is, without a user namespace of its own
/// (`CAP_SYS_ADMIN` and `CAP_NET_ADMIN`, capabilities(7))?
pub fn is_privileged() -> bool {
    rustix::thread::capabilities(None)
        .is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN | CapabilitySet::NET_ADMIN))
}

/// Is the caller in the machine's first user namespace, where rights are rights over the machine? By the ids that it has there:
/// all of them, each its own (user_namespaces(7)).
pub fn is_in_first_user_namespace() -> bool {
    std::fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| map.split_whitespace().eq(["0", "0", "4294967295"]))
}

/// Has the kernel IPv6? It has none where it was started with `ipv6.disable=1`, or lacks the module.
pub fn has_ipv6() -> bool {
    let is_there = || Path::new("/proc/sys/net/ipv6").exists();
    // To ask for a socket loads the module.
    is_there() || (UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() | is_there())
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
