//! Sysctls of the network namespace that the calling thread is in.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use hopyard_net::SysctlKey;
use rustix::fs::{Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use crate::Errno;

/// The directory of all sysctls; below `sys/net` the kernel shows each thread the tables of its own
/// namespace.
///
/// The kernel keeps one `net/ipv4` for each namespace in which it was ever looked up, all under the
/// same name, and goes through them one by one: in 10 000 namespaces a lookup takes milliseconds. So
/// this looks them up in a procfs of its own, which forgets, and takes another one now and then.
pub(crate) struct SysctlFiles {
    own: Option<OwnedFd>,
    arrivals: usize,
    /// A procfs may be refused: to who is in no pid namespace of the same user namespace, and inside
    /// of containers that hide parts of theirs.
    refused: bool,
}

/// For some namespaces the machine's own `/proc` is cheapest.
const ARRIVALS_IN_COMMON: usize = 128;

/// So many share a procfs. To make one is cheap, but to end it waits for an RCU grace period: 5 ms, and
/// 50 ms on a busy machine.
const ARRIVALS_IN_OWN: usize = 512;

impl SysctlFiles {
    /// For a thread that is about to enter namespaces.
    pub(crate) fn new() -> Self {
        SysctlFiles { own: None, arrivals: 0, refused: false }
    }

    /// To be called when the thread has entered another namespace.
    pub(crate) fn arrive(&mut self) {
        let in_own = self.arrivals.checked_sub(ARRIVALS_IN_COMMON);
        self.arrivals += 1;
        if !self.refused && in_own.is_some_and(|arrivals| arrivals % ARRIVALS_IN_OWN == 0) {
            self.own = mount_procfs().ok();
            self.refused = self.own.is_none();
        }
    }

    /// The value of a sysctl: one line, its parts separated by single spaces (the kernel puts tabs
    /// between them, sysctl(8) and people put spaces). `None`: there is no such sysctl here.
    pub(crate) fn read(&self, key: &SysctlKey) -> io::Result<Option<String>> {
        let mut file = match self.open(key, OFlags::RDONLY) {
            Ok(file) => file,
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        Ok(Some(text.split_ascii_whitespace().collect::<Vec<_>>().join(" ")))
    }

    /// Sets a sysctl. The kernel takes a value in one write, as sysctl(8) makes it: with its newline.
    pub(crate) fn write(&self, key: &SysctlKey, value: &str) -> Result<(), Errno> {
        let line = format!("{value}\n");
        match self.open(key, OFlags::WRONLY)?.write(line.as_bytes()) {
            Ok(length) if length == line.len() => Ok(()),
            Ok(_) => Err(Errno::from_raw(libc::EINVAL)),
            Err(error) => Err(error.into()),
        }
    }

    fn open(&self, key: &SysctlKey, how: OFlags) -> rustix::io::Result<File> {
        let (root, path): (BorrowedFd<'_>, _) = match &self.own {
            Some(procfs) => (procfs.as_fd(), format!("sys/{}", key.path())),
            None => (rustix::fs::CWD, format!("/proc/sys/{}", key.path())),
        };
        Ok(rustix::fs::openat(root, path, how | OFlags::CLOEXEC, Mode::empty())?.into())
    }
}

/// A procfs that is mounted nowhere, and goes with its descriptor.
fn mount_procfs() -> rustix::io::Result<OwnedFd> {
    let context = rustix::mount::fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_create(context.as_fd())?;
    let attributes =
        MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC | MountAttrFlags::MOUNT_ATTR_NOSUID;
    rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// What new namespaces have before anybody writes: all the same, so that it is read once, and what
/// would change nothing is not written. A write costs 0.1 ms, which is a tenth of a node.
#[derive(Default)]
pub(crate) struct FreshValues(HashMap<SysctlKey, Option<String>>);

impl FreshValues {
    /// Does a namespace that is as new have this value already? Asked in such a namespace.
    pub(crate) fn has(&mut self, files: &SysctlFiles, key: &SysctlKey, value: &str) -> bool {
        if !self.0.contains_key(key) {
            // What cannot be read is written, and that tells what is wrong.
            self.0.insert(key.clone(), files.read(key).ok().flatten());
        }
        matches!(self.0.get(key), Some(Some(fresh)) if fresh == value)
    }
}
