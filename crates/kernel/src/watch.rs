//! A directory, watched: which names come and go.

use std::ffi::{OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};

use crate::pidfd::timespec;

/// What happened in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// An entry has come.
    Came(OsString),
    /// An entry has gone.
    Went(OsString),
    /// More happened than the kernel remembers: the directory has to be read anew.
    Unknown,
    /// The directory is gone, and will not be heard of any more.
    Ended,
}

/// A watch (inotify(7)).
#[derive(Debug)]
pub struct Watch(OwnedFd);

impl Watch {
    /// Watches a directory from now on.
    ///
    /// # Errors
    /// There is no such directory, or a limit of the machine is reached (`ENOSPC`, `EMFILE`).
    pub fn on(dir: &Path) -> io::Result<Self> {
        let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let events = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        inotify::add_watch(&fd, dir, events)?;
        Ok(Watch(fd))
    }

    /// Waits until something happens, or for so long; returns what did, in order.
    ///
    /// # Errors
    /// Those of poll(2) and read(2).
    pub fn wait(&self, timeout: Option<Duration>) -> io::Result<Vec<Change>> {
        let timeout = timeout.map(timespec);
        match poll(&mut [PollFd::new(&self.0, PollFlags::IN)], timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let mut buffer = [MaybeUninit::uninit(); 16 << 10];
        let mut reader = Reader::new(&self.0, &mut buffer);
        let mut changes = Vec::new();
        loop {
            let event = match reader.next() {
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return Ok(changes),
                event => event?,
            };
            let name = || event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()).to_owned());
            let happened = event.events();
            if happened.contains(ReadFlags::QUEUE_OVERFLOW) {
                changes.push(Change::Unknown);
            } else if happened
                .intersects(ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::IGNORED | ReadFlags::UNMOUNT)
            {
                changes.push(Change::Ended);
            } else if happened.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO) {
                changes.extend(name().map(Change::Came));
            } else if happened.intersects(ReadFlags::DELETE | ReadFlags::MOVED_FROM) {
                changes.extend(name().map(Change::Went));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_and_go_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let watch = Watch::on(dir.path()).unwrap();
        std::fs::write(dir.path().join("a"), "").unwrap();
        std::fs::rename(dir.path().join("a"), dir.path().join("b")).unwrap();
        std::fs::remove_file(dir.path().join("b")).unwrap();
        let expected =
            [Change::Came("a".into()), Change::Went("a".into()), Change::Came("b".into()), Change::Went("b".into())];
        assert_eq!(watch.wait(None).unwrap(), expected);
        std::fs::remove_dir(dir.path()).unwrap();
        assert_eq!(watch.wait(None).unwrap().first(), Some(&Change::Ended));
    }
}
