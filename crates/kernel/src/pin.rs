//! Namespaces that have a name: mounts of nsfs on the files of one directory, as `ip netns` makes them.
//!
//! `ip netns add` makes the file and then mounts on it; in between, or for ever if it is killed, there is
//! a name that is no namespace. Here a name comes and goes in one step, by a rule of the kernel: what is a
//! mount point in the caller's own mount namespace can be neither renamed nor removed; where it is one in
//! others only, it can, and the mounts follow the file or go with it (since Linux 3.18). So a name
//! is prepared on a file of another name, and given from [`behind`], where nothing is mounted on it.
#![allow(unsafe_code)]

use std::cell::{Cell, OnceCell, RefCell};
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, FileType, FsWord, Mode, OFlags, RenameFlags};
use rustix::mount::{MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags};
use rustix::thread::UnshareFlags;

use crate::failure::Doing;
use crate::{Failure, child, chroot, mounts, namespace};

/// `NSFS_MAGIC` (linux/magic.h): the file system of namespace files.
pub(crate) const NSFS: FsWord = 0x6e73_6673;
/// `NS_GET_NSTYPE` (linux/nsfs.h).
const NS_GET_NSTYPE: libc::Ioctl = 0xb703;
/// `NS_GET_USERNS` (linux/nsfs.h).
const NS_GET_USERNS: libc::Ioctl = 0xb701;

/// Opens what an entry of a directory leads to, if that is a network namespace; `None`: it is something
/// else. Nothing else is opened, so nothing else can come of it.
///
/// # Errors
/// Those of open(2): no such entry, a link to nowhere, no right to look.
pub fn open_network(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<Option<OwnedFd>> {
    let found = match rustix::fs::openat(dir, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
        Err(rustix::io::Errno::LOOP) => return Ok(None),
        found => found?,
    };
    if rustix::fs::fstatfs(&found)?.f_type != NSFS {
        return Ok(None);
    }
    let opened = rustix::fs::openat(dir, name, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?;
    Ok(is_network(opened.as_fd())?.then_some(opened))
}

/// The network namespace that a process, or one thread of it, is in.
///
/// # Errors
/// It has ended, or is not the caller's to look at.
pub fn network_of(pid: i32) -> io::Result<OwnedFd> {
    Ok(File::open(format!("/proc/{pid}/ns/net"))?.into())
}

/// The network namespace of the calling thread.
///
/// # Errors
/// /proc cannot be read.
pub fn own_network() -> io::Result<OwnedFd> {
    Ok(File::open("/proc/thread-self/ns/net")?.into())
}

/// The user namespace that a network namespace belongs to: whoever has rights there has them over the network.
///
/// # Errors
/// It is neither the caller's nor below it (ioctl_nsfs(2)).
pub fn owner_of(network: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // SAFETY: on a descriptor of nsfs the request takes no argument and returns a new descriptor.
    match unsafe { libc::ioctl(network.as_raw_fd(), NS_GET_USERNS) } {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: it was just opened for this process, and nothing else knows it.
        fd => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
    }
}

/// Is it a network namespace?
///
/// # Errors
/// Those of fstatfs(2) and ioctl(2).
pub fn is_network(fd: BorrowedFd<'_>) -> io::Result<bool> {
    if rustix::fs::fstatfs(fd)?.f_type != NSFS {
        return Ok(false);
    }
    // SAFETY: on a descriptor of nsfs, as this one is, the request takes no argument and returns a number.
    match unsafe { libc::ioctl(fd.as_raw_fd(), NS_GET_NSTYPE) } {
        libc::CLONE_NEWNET => Ok(true),
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(false),
    }
}

/// Makes a network namespace.
///
/// # Errors
/// The rights are missing, or the kernel's limit is met.
pub fn make_network() -> io::Result<OwnedFd> {
    std::thread::scope(|scope| {
        let maker = std::thread::Builder::new().name(MAKER.to_owned()).spawn_scoped(scope, || Maker(()).make())?;
        maker.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

/// The name of threads that make network namespaces.
const MAKER: &str = "hop-netns";

/// Makes network namespaces, in a thread or process that does nothing else: each is its own until the next one.
#[derive(Debug)]
pub struct Maker(());

impl Maker {
    /// Makes one.
    ///
    /// # Errors
    /// The rights are missing, or the kernel's limit is met.
    pub fn make(&self) -> io::Result<OwnedFd> {
        namespace::create()?;
        own_network()
    }
}

/// So many network namespaces are worth threads; fewer are made sooner without.
pub const WORTH_THREADS: usize = 4;

/// Runs `make` in threads that make network namespaces, and `meanwhile` in the calling one. Returns when all have ended.
///
/// # Errors
/// No thread could be started; then nothing is done.
pub fn make_networks<R>(make: impl Fn(&Maker) + Clone + Send, meanwhile: impl FnOnce() -> R) -> io::Result<R> {
    /// On two processors a second one saves two fifths of the time, a third one nothing.
    const THREADS: usize = 2;
    std::thread::scope(|scope| {
        for n in 0..THREADS {
            let make = make.clone();
            let builder = std::thread::Builder::new().name(MAKER.to_owned());
            match builder.spawn_scoped(scope, move || make(&Maker(()))) {
                // Where there is no second thread to be had, one does it all.
                Err(error) if n == 0 => return Err(error),
                _ => {}
            }
        }
        // What it holds is the threads' alone.
        drop(make);
        Ok(meanwhile())
    })
}

/// Makes a directory a mount whose mounts show in the mount namespaces that are copied from this one, as
/// ip-netns(8) does; does nothing where it is. The caller keeps others from doing it at the same time.
///
/// # Errors
/// `ENOENT`: there is no such directory. `EPERM`: the rights are missing.
pub fn make_shared(dir: &Path) -> io::Result<()> {
    let share = || rustix::mount::mount_change(dir, MountPropagationFlags::SHARED | MountPropagationFlags::REC);
    match share() {
        // No mount yet.
        Err(rustix::io::Errno::INVAL) => {}
        shared => return Ok(shared?),
    }
    rustix::mount::mount_bind_recursive(dir, dir)?;
    // A copy of a shared mount is in its group, and each name would be mounted twice.
    rustix::mount::mount_change(dir, MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    Ok(share()?)
}

/// Mounts a namespace on a file that it makes in the directory.
///
/// # Errors
/// The name is taken, or the rights are missing. Nothing is left then.
pub fn pin(namespace: BorrowedFd<'_>, dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    let how = OFlags::RDONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    drop(rustix::fs::openat(dir, name, how, Mode::empty())?);
    let mounted = detached_mount(namespace)
        .and_then(|tree| rustix::mount::move_mount(&tree, "", dir, name, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH));
    if mounted.is_err() {
        // The first error is the one to tell.
        rustix::fs::unlinkat(dir, name, AtFlags::empty()).ok();
    }
    Ok(mounted?)
}

/// Takes back what [`pin`] has made, where there is no way [`behind`].
pub fn unpin(path: &Path) {
    // Somebody else may have done it.
    rustix::mount::unmount(path, ALONE).ok();
    rustix::fs::unlink(path).ok();
}

/// A mount of the same that is mounted nowhere, and on which nothing is mounted.
fn detached_mount(of: BorrowedFd<'_>) -> rustix::io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    rustix::mount::open_tree(of, "", flags)
}

/// The directory in a mount namespace of its own, from where names are given and removed. What was mounted before it
/// was made may be mounted here as well; what has been mounted since is not.
#[derive(Debug)]
pub struct Backstage {
    dir: OwnedFd,
    path: RefCell<PathBuf>,
    /// The directory without its mounts.
    bare: OnceCell<OwnedFd>,
    /// Is the root that of the mount namespace?
    sees_all: Cell<bool>,
}

/// What a [`Backstage`] is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scene {
    /// New names, or a few old ones: all is mounted that was, and what is in the way is taken off name by name.
    Dressed,
    /// Many old names: nothing at all is mounted but the directory.
    Bare,
}

/// A file of the directory, seen from where nothing is mounted on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bare {
    /// A plain file or a symbolic link, as names are made of?
    pub is_name: bool,
    /// When it was made.
    pub made: SystemTime,
}

/// Does something behind a directory: `before`, which may still mount what all see, and then `work`, which may not. Both
/// see the caller's memory and file descriptors, but are in another process, so they must not start threads.
///
/// # Errors
/// The rights are missing, or no process could be made. What `before` has returned is dropped then.
pub fn behind<P, R>(
    dir: &Path,
    scene: Scene,
    before: impl FnOnce(&Maker) -> P,
    work: impl FnOnce(&Backstage, P) -> R,
) -> Result<R, Failure> {
    let work = || {
        let all = || {
            let prepared = before(&Maker(()));
            Backstage::of(dir, scene).map(|stage| work(&stage, prepared))
        };
        match catch_unwind(AssertUnwindSafe(all)) {
            Ok(done) => Ok(Ok(done?)),
            Err(panic) => Ok(Err(panic)),
        }
    };
    // The kernel takes its time to free a mount namespace, and what has been done is done: see `wait_until_freed`.
    match child::run_and_leave(work).doing("make a mount namespace in which names can be moved")? {
        Ok(result) => Ok(result),
        Err(panic) => resume_unwind(panic),
    }
}

/// Waits until what has been done [`behind`] directories holds nothing any more: it may be a copy of a mount that has been
/// removed, and that keeps a namespace alive.
pub fn wait_until_freed() {
    child::wait_for_left();
}

/// Does not wait for it, where the process that made it may end before.
pub fn let_be_freed() {
    child::leave();
}

impl Backstage {
    /// Takes the calling process there.
    fn of(dir: &Path, scene: Scene) -> rustix::io::Result<Self> {
        // SAFETY: the process has one thread; it gets a mount namespace and a working directory of its own.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }?;
        let (mut path, mut sees_all) = (dir.to_owned(), false);
        match be_alone() {
            // A directory that is no mount, as many a chroot is.
            Err(rustix::io::Errno::INVAL) => {
                let dir = chroot::open(dir)?;
                chroot::leave()?;
                be_alone()?;
                (path, sees_all) = (chroot::path_of(&dir)?, true);
            }
            alone => alone?,
        }
        if scene == Scene::Bare && leave_all_behind(&path)? {
            path = "/".into();
        }
        let dir = chroot::open(&path)?;
        Ok(Backstage { dir, path: path.into(), bare: OnceCell::new(), sees_all: sees_all.into() })
    }

    fn point_of(&self, name: &OsStr) -> PathBuf {
        self.path.borrow().join(name)
    }

    /// What is mounted outside of a chroot is in the way as well, and does not show in it. Says whether more may show now.
    fn see_all(&self) -> rustix::io::Result<bool> {
        if self.sees_all.replace(true) || chroot::leave().is_err() {
            return Ok(false);
        }
        // What is outside was not made private before: until it is, nothing may be taken off.
        be_alone()?;
        self.path.replace(chroot::path_of(&self.dir)?);
        Ok(true)
    }

    /// Takes off here what is mounted on a file, so that it can be renamed at once. It is kept until the end.
    pub fn put_aside(&self, name: &OsStr) {
        put_aside(&self.point_of(name)).ok();
    }

    /// Takes off here what is mounted on a file, so that it can be renamed at once. It is not kept.
    pub fn let_go(&self, name: &OsStr) {
        rustix::mount::unmount(self.point_of(name), ALONE).ok();
    }

    /// Gives a file another name, together with all that is mounted on it.
    ///
    /// # Errors
    /// `EEXIST`: that name is taken.
    pub fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        self.uncovered(&[from], || rustix::fs::renameat_with(&self.dir, from, &self.dir, to, RenameFlags::NOREPLACE))
    }

    /// Gives two files each other's names, together with all that is mounted on them.
    ///
    /// # Errors
    /// `ENOENT`: one of them is not there.
    pub fn exchange(&self, one: &OsStr, other: &OsStr) -> io::Result<()> {
        let exchange = || rustix::fs::renameat_with(&self.dir, one, &self.dir, other, RenameFlags::EXCHANGE);
        self.uncovered(&[one, other], exchange)
    }

    /// Removes a file, together with all that is mounted on it, however often and in whichever mount
    /// namespace.
    ///
    /// # Errors
    /// Those of unlink(2).
    pub fn remove(&self, name: &OsStr) -> io::Result<()> {
        self.uncovered(&[name], || rustix::fs::unlinkat(&self.dir, name, AtFlags::empty()))
    }

    /// Does something to files; if they are covered here, having been so before, they are no more. Where `ip netns` was
    /// the first on a machine whose `/run` is shared, as systemd has it, each name is mounted in the directory below
    /// as well; and where `/run` is mounted in other places too, as in a chroot, so is each name.
    fn uncovered(&self, names: &[&OsStr], act: impl Fn() -> rustix::io::Result<()>) -> io::Result<()> {
        loop {
            match act() {
                Err(rustix::io::Errno::BUSY) => {}
                done => return Ok(done?),
            }
            // Nobody else sees what is unmounted here; the directory is known by its descriptor.
            if !take_off(names.iter().map(|name| self.point_of(name)))
                && !take_off(mounted_as(names))
                && !self.see_all()?
                && rustix::mount::unmount(&*self.path.borrow(), UnmountFlags::DETACH).is_err()
            {
                return Err(rustix::io::Errno::BUSY.into());
            }
        }
    }

    /// The file itself, whatever is mounted on it.
    ///
    /// # Errors
    /// There is none.
    pub fn look(&self, name: &OsStr) -> io::Result<Bare> {
        let stat = rustix::fs::statat(self.bare()?, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        Ok(Bare {
            is_name: matches!(kind, FileType::RegularFile | FileType::Symlink),
            made: time_of(stat.st_mtime, stat.st_mtime_nsec),
        })
    }

    fn bare(&self) -> rustix::io::Result<&OwnedFd> {
        if let Some(bare) = self.bare.get() {
            return Ok(bare);
        }
        let bare = detached_mount(self.dir.as_fd())?;
        Ok(self.bare.get_or_init(|| bare))
    }
}

/// Nothing that is mounted from here on, at the root or below, shows here, nor the other way round.
fn be_alone() -> rustix::io::Result<()> {
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
}

/// Takes off all that is mounted on these. `false`: nothing is.
fn take_off(points: impl IntoIterator<Item = PathBuf>) -> bool {
    let mut any = false;
    for point in points {
        while put_aside(&point).or_else(|_| rustix::mount::unmount(&point, ALONE)).is_ok() {
            any = true;
        }
    }
    any
}

/// Unmounts what is there, even if it is in use, and not what a link leads to.
const ALONE: UnmountFlags = UnmountFlags::DETACH.union(UnmountFlags::NOFOLLOW);

/// Mounts what is mounted on a file on another one, which is always there: before it is through with an unmount the
/// kernel waits for all processors, and that takes longer than all the rest.
fn put_aside(point: &Path) -> rustix::io::Result<()> {
    let here = rustix::fs::CWD;
    rustix::mount::move_mount(here, point, here, "/dev/null", MoveMountFlags::empty())
}

/// The mount points of these names, wherever they are; none, where the table of mounts is out of reach.
fn mounted_as(names: &[&OsStr]) -> Vec<PathBuf> {
    let table = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    mounts::points(&table).filter(|point| point.file_name().is_some_and(|name| names.contains(&name))).collect()
}

/// A time of a file, as stat(2) gives it.
pub fn time_of(seconds: i64, nanoseconds: impl TryInto<u32>) -> SystemTime {
    let since = Duration::new(u64::try_from(seconds).unwrap_or(0), nanoseconds.try_into().unwrap_or(0));
    SystemTime::UNIX_EPOCH + since
}

/// Makes the directory the root, and is rid of all other mounts. `false`: the present root is no mount, as
/// in a chroot, or the very first one of the machine, and the kernel does not let it be changed.
fn leave_all_behind(dir: &Path) -> rustix::io::Result<bool> {
    rustix::mount::mount_bind(dir, dir)?;
    rustix::process::chdir(dir)?;
    match rustix::process::pivot_root(".", ".") {
        Ok(()) => {
            // What was the root lies on top now, with all mounts of the machine.
            rustix::mount::unmount(".", UnmountFlags::DETACH)?;
            rustix::process::chdir("/")?;
            Ok(true)
        }
        Err(rustix::io::Errno::INVAL) => {
            rustix::process::chdir("/")?;
            // What was mounted last is what the path leads to.
            rustix::mount::unmount(dir, UnmountFlags::DETACH)?;
            Ok(false)
        }
        Err(errno) => Err(errno),
    }
}
