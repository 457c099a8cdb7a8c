//! Network namespaces of threads. Used inside of [`Realm::run`](crate::Realm::run) only, so that no
//! thread of the program is left in a namespace where its owner does not expect it.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::process::{Resource, Rlimit};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

/// Takes the calling thread into a new network namespace.
pub(crate) fn create() -> io::Result<()> {
    // SAFETY: a thread has a network namespace of its own; no file descriptor table, memory or
    // credentials of other threads are touched.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }?;
    Ok(())
}

/// Takes the calling thread into a network namespace. That in which it is already, it may always enter.
pub(crate) fn enter(namespace: impl AsFd) -> io::Result<()> {
    match rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)) {
        Err(rustix::io::Errno::PERM) if is_here(namespace.as_fd())? => Ok(()),
        entered => Ok(entered?),
    }
}

/// Is the calling thread in that namespace?
fn is_here(namespace: BorrowedFd<'_>) -> io::Result<bool> {
    let here = rustix::fs::stat("/proc/thread-self/ns/net")?;
    let there = rustix::fs::fstat(namespace)?;
    Ok((here.st_dev, here.st_ino) == (there.st_dev, there.st_ino))
}

/// Sees to it that this process may have so many more files open, as far as its hard limit goes.
///
/// A namespace costs one descriptor, and the usual soft limit of 1024 is meant for programs that
/// use select(2).
pub(crate) fn make_room_for_files(more: usize) {
    /// What a program and its libraries have open besides.
    const OTHERS: u64 = 256;
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let wanted = u64::try_from(more).unwrap_or(u64::MAX).saturating_add(OTHERS);
    if let Some(current) = limit.current
        && current < wanted
    {
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        // Refused, it changes nothing; the limit then shows as EMFILE where it is met.
        rustix::process::setrlimit(Resource::Nofile, raised).ok();
    }
}
