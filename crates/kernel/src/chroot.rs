//! Out of a chroot, and back: the root of a process need not be a mount, nor show all mounts of its mount namespace.
//!
//! What is done here is done by a process of one thread that shares neither root nor working directory.

use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, UnmountFlags};
use rustix::path::Arg;
use rustix::process::PidfdFlags;
use rustix::thread::ThreadNameSpaceType;

/// What is mounted on the host later still shows, and what is mounted here does not show there.
pub(crate) fn follow_host() -> rustix::io::Result<()> {
    at_a_mount(|| rustix::mount::mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC))
}

/// Changes all mounts from the root on, where that is one; else those of the mount namespace.
pub(crate) fn at_a_mount(change: impl Fn() -> rustix::io::Result<()>) -> rustix::io::Result<()> {
    match change() {
        Err(Errno::INVAL) => outside(change),
        done => done,
    }
}

/// The same in a mount namespace that others will join: whoever does stands at its root, so the present one is made that.
pub(crate) fn settle() -> rustix::io::Result<()> {
    let (root, here) = (open("/")?, open(".")?);
    leave()?;
    follow_host()?;
    if place_of(&root)? == place_of(&open("/")?)? {
        return rustix::process::fchdir(&here);
    }
    let path = path_of(&root)?;
    // Only a mount can become the root.
    rustix::mount::mount_bind_recursive(&path, &path)?;
    rustix::process::chdir(&path)?;
    rustix::process::pivot_root(".", ".")?;
    // What was the root lies on top now.
    rustix::mount::unmount(".", UnmountFlags::DETACH)?;
    rustix::process::fchdir(&here)
}

/// A directory, to come back to or to find again.
pub(crate) fn open(dir: impl Arg) -> rustix::io::Result<OwnedFd> {
    rustix::fs::open(dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Which directory it is, and of which mount.
fn place_of(dir: &OwnedFd) -> rustix::io::Result<(u32, u32, u64, u64)> {
    let found = rustix::fs::statx(dir, "", AtFlags::EMPTY_PATH, StatxFlags::INO | StatxFlags::MNT_ID)?;
    Ok((found.stx_dev_major, found.stx_dev_minor, found.stx_ino, found.stx_mnt_id))
}

/// Goes to the root of the mount namespace.
pub(crate) fn leave() -> rustix::io::Result<()> {
    // To join a mount namespace, be it one's own, is to stand at its root (setns(2)).
    let own = rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty())?;
    rustix::thread::move_into_thread_name_spaces(own.as_fd(), ThreadNameSpaceType::MOUNT)
}

/// Where a directory is, from the present root.
pub(crate) fn path_of(dir: &OwnedFd) -> rustix::io::Result<PathBuf> {
    rustix::process::fchdir(dir)?;
    let path = rustix::process::getcwd(Vec::new())?;
    rustix::process::chdir("/")?;
    Ok(PathBuf::from(OsString::from_vec(path.into_bytes())))
}

/// Does something at the root of the mount namespace, and comes back.
fn outside(act: impl Fn() -> rustix::io::Result<()>) -> rustix::io::Result<()> {
    let (root, here) = (open("/")?, open(".")?);
    leave()?;
    let done = act();
    rustix::process::fchdir(&root)?;
    rustix::process::chroot(".")?;
    rustix::process::fchdir(&here)?;
    done
}
