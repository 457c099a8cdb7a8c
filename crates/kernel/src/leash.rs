//! What a forked process and the one that forked it have to say to each other: which ids it has in a
//! user namespace, what failed, which descriptors it keeps.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::net::SendFlags;

use crate::Failure;
use crate::failure::Doing;

/// The lines that give the caller ids in its own user namespace (user_namespaces(7)).
pub(crate) struct IdMaps {
    uid: String,
    gid: String,
}

impl IdMaps {
    /// The caller is root there.
    pub(crate) fn root_for_caller() -> Self {
        let (uid, gid) = caller();
        IdMaps { uid: format!("0 {uid} 1\n"), gid: format!("0 {gid} 1\n") }
    }

    /// The caller is there who it is here. It has all rights there nevertheless, until it starts another
    /// program.
    pub(crate) fn same_for_caller() -> Self {
        let (uid, gid) = caller();
        IdMaps { uid: format!("{uid} {uid} 1\n"), gid: format!("{gid} {gid} 1\n") }
    }

    pub(crate) fn write(&self) -> Result<(), Failure> {
        // Without this an ordinary user may not write the second map.
        write_file("/proc/self/setgroups", "deny").doing("give up setgroups in the user namespace")?;
        write_file("/proc/self/uid_map", &self.uid).doing("map the user into the user namespace")?;
        write_file("/proc/self/gid_map", &self.gid).doing("map the group into the user namespace")
    }
}

fn caller() -> (u32, u32) {
    (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
}

fn write_file(path: &str, text: &str) -> io::Result<()> {
    let file = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&file, text.as_bytes())?;
    Ok(())
}

/// In the child: says what could not be done.
pub(crate) fn say_failure(leash: &OwnedFd, failure: &Failure) {
    let mut message = vec![b'E'];
    message.extend(failure.cause.raw_os_error().unwrap_or(libc::EIO).to_ne_bytes());
    message.extend(failure.doing.bytes().take(200));
    // The starter may be gone; then nobody wants to know.
    rustix::net::send(leash, &message, SendFlags::NOSIGNAL).ok();
}

/// In the parent: what [`say_failure`] has said, or that the child ended without a word.
pub(crate) fn failure(message: &[u8], starting: &'static str) -> Failure {
    match message {
        [b'E', a, b, c, d, doing @ ..] => {
            let cause = io::Error::from_raw_os_error(i32::from_ne_bytes([*a, *b, *c, *d]));
            Failure { doing: String::from_utf8_lossy(doing).into_owned().into(), cause }
        }
        _ => Failure { doing: starting.into(), cause: io::Error::other("it ended without a word") },
    }
}

/// Descriptors that the starter had open, a test runner's pipes for instance, must not live on in a
/// process that may outlive it.
pub(crate) fn close_everything_but<const N: usize>(keep: [&OwnedFd; N]) -> io::Result<()> {
    let mut numbers = keep.map(|fd| fd.as_raw_fd().cast_unsigned());
    numbers.sort_unstable();
    let mut from = 3;
    for number in numbers {
        if from < number {
            close_range(from, number - 1)?;
        }
        from = from.max(number + 1);
    }
    close_range(from, u32::MAX)
}

fn close_range(from: u32, to: u32) -> io::Result<()> {
    // SAFETY: a forked process of one thread, which uses no descriptor but those that stay.
    if unsafe { libc::syscall(libc::SYS_close_range, from, to, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
