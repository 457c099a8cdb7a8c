//! The files that a sandbox sees: its user's, without the sockets of the machine's services.
//!
//! A socket that has a path is reached from every network namespace. So /run, where services have theirs,
//! is an empty one of the sandbox's own, and every other socket of the machine that is found just now is
//! covered where it is.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::MountFlags;

use super::SandboxSpec;
use crate::enter::mount_sysfs;
use crate::failure::Doing;
use crate::{Failure, chroot, etc, mounts};

pub(super) const RUN: &str = "/run";
/// What of /run is no service: programs and drivers of NixOS, and the disks of who sits before the machine.
const KEPT: [&str; 2] = ["media", "wrappers"];

/// Makes the view in the mount namespace of this process, which is its own.
pub(super) fn make(spec: &SandboxSpec<'_>) -> Result<(), Failure> {
    // What is mounted on the host later still shows; what is mounted here does not show there.
    chroot::follow_host().doing("keep the sandbox's mounts from the host")?;
    let kept = keep()?;
    // A place that every machine has. What is there for the overlay lies below another /run afterwards:
    // to unmount it would take a grace period of RCU.
    etc::cover(Path::new(RUN), spec.user_namespace, spec.etc, MountFlags::RDONLY)?;
    make_run(&kept)?;
    cover_sockets(spec)?;
    cover_queues(spec)?;
    mount_proc(spec)?;
    let read_only = MountFlags::RDONLY;
    mount_sysfs(c"sysfs", "/proc/self/mountinfo", read_only)?;
    // Control groups, too: who may write to the user's own freezes and kills what is in them outside.
    make_read_only("/sys").doing("make /sys read-only")?;
    make_controls_read_only(spec)?;
    give_no_rights_by_files().doing("take the rights that programs have by their files away")?;
    // By its path: what this process has inherited may be a directory that is covered now.
    rustix::process::chdir(spec.cwd).doing(format!("go to the directory {} inside the sandbox", spec.cwd.display()))
}

/// What stays of /run.
enum Kept {
    Link { name: OsString, target: OsString },
    Tree { name: &'static str, tree: OwnedFd },
}

fn keep() -> Result<Vec<Kept>, Failure> {
    const DOING: &str = "look at /run";
    let mut kept = Vec::new();
    let entries = match fs::read_dir(RUN) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(kept),
        entries => entries.doing(DOING)?,
    };
    for entry in entries {
        let entry = entry.doing(DOING)?;
        if entry.file_type().is_ok_and(|kind| kind.is_symlink())
            && let Ok(target) = fs::read_link(entry.path())
        {
            kept.push(Kept::Link { name: entry.file_name(), target: target.into_os_string() });
        }
    }
    for name in KEPT {
        use rustix::mount::OpenTreeFlags as Flags;
        let path = Path::new(RUN).join(name);
        let flags =
            Flags::OPEN_TREE_CLONE | Flags::OPEN_TREE_CLOEXEC | Flags::AT_RECURSIVE | Flags::AT_SYMLINK_NOFOLLOW;
        if path.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
            let tree =
                rustix::mount::open_tree(rustix::fs::CWD, &path, flags).doing(format!("keep {}", path.display()))?;
            kept.push(Kept::Tree { name, tree });
        }
    }
    Ok(kept)
}

fn make_run(kept: &[Kept]) -> Result<(), Failure> {
    const DOING: &str = "make the sandbox's /run";
    let run = Path::new(RUN);
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount("hopyard", run, "tmpfs", flags, Some(c"mode=0755")).doing(DOING)?;
    let make = |path: &Path, mode: u32| -> Result<(), Failure> {
        let mode = Mode::from_raw_mode(mode);
        rustix::fs::mkdir(path, mode).doing(DOING)?;
        // Whatever the umask.
        rustix::fs::chmod(path, mode).doing(DOING)
    };
    make(&run.join("lock"), 0o1777)?;
    make(&run.join("user"), 0o755)?;
    // Where XDG_RUNTIME_DIR points, of the Base Directory Specification.
    make(&run.join("user").join(rustix::process::geteuid().as_raw().to_string()), 0o700)?;
    for kept in kept {
        match kept {
            Kept::Link { name, target } => match rustix::fs::symlink(target, run.join(name)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno).doing(DOING),
            },
            Kept::Tree { name, tree } => {
                let path = run.join(name);
                make(&path, 0o755)?;
                let empty = rustix::mount::MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
                rustix::mount::move_mount(tree, "", rustix::fs::CWD, &path, empty)
                    .doing(format!("put {} back", path.display()))?;
            }
        }
    }
    Ok(())
}

/// Covers the sockets, and the directories in which services of a session make theirs.
fn cover_sockets(spec: &SandboxSpec<'_>) -> Result<(), Failure> {
    const DOING: &str = "cover the sockets of the machine's services";
    /// What covers: a file that is no socket, and directories of the sandbox's own.
    const FILE: &str = "/run/.nothing";
    const DIRS: &str = "/run/.covers";
    rustix::fs::mkdir(DIRS, Mode::from_raw_mode(0o755)).doing(DOING)?;
    for (number, dir) in spec.cover_dirs.iter().enumerate() {
        let with = format!("{DIRS}/{number}");
        let Some(covered) = open_to_cover(dir, FileType::Directory).doing(DOING)? else { continue };
        let mode = rustix::fs::fstat(&covered).doing(DOING)?.st_mode & 0o7777;
        rustix::fs::mkdir(&with, Mode::RWXU).doing(DOING)?;
        rustix::fs::chmod(&with, Mode::from_raw_mode(mode)).doing(DOING)?;
        cover(&covered, &with).doing(format!("cover {}", dir.display()))?;
    }
    rustix::fs::open(FILE, OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).doing(DOING)?;
    for socket in &spec.reached.sockets {
        let Some(covered) = open_to_cover(socket, FileType::Socket).doing(DOING)? else { continue };
        cover(&covered, FILE).doing(format!("cover {}", socket.display()))?;
    }
    // What is mounted stays.
    rustix::fs::unlink(FILE).doing(DOING)
}

/// Message queues are those of the sandbox where the machine's are mounted, too.
fn cover_queues(spec: &SandboxSpec<'_>) -> Result<(), Failure> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    for point in &spec.reached.queues {
        match rustix::mount::mount("mqueue", point, "mqueue", flags, None) {
            // It is covered already, or the user cannot get there either.
            Ok(()) | Err(Errno::NOENT | Errno::ACCESS) => {}
            Err(errno) => return Err(errno).doing(format!("cover the message queues at {}", point.display())),
        }
    }
    Ok(())
}

/// `None`: there is no such thing, or the user cannot get there either.
fn open_to_cover(path: &Path, kind: FileType) -> rustix::io::Result<Option<OwnedFd>> {
    match rustix::fs::open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
        Ok(found) if FileType::from_raw_mode(rustix::fs::fstat(&found)?.st_mode) == kind => Ok(Some(found)),
        Ok(_) | Err(Errno::NOENT | Errno::ACCESS | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG) => Ok(None),
        Err(errno) => Err(errno),
    }
}

fn cover(found: &OwnedFd, with: &str) -> rustix::io::Result<()> {
    match rustix::mount::mount_bind(with, format!("/proc/self/fd/{}", found.as_raw_fd())) {
        // It has been removed since.
        Err(Errno::NOENT) => Ok(()),
        covered => covered,
    }
}

fn mount_proc(spec: &SandboxSpec<'_>) -> Result<(), Failure> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount("proc", "/proc", "proc", flags, None).doing("mount /proc for the sandbox's processes")?;
    if spec.user_namespace {
        return Ok(());
    }
    // Files of the whole machine, to which root may write without any capability.
    for path in ["/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus"] {
        if Path::new(path).exists() {
            rustix::mount::mount_bind(path, path)
                .and_then(|()| make_read_only(path))
                .doing(format!("make {path} read-only"))?;
        }
    }
    Ok(())
}

/// The same where the kernel is told things elsewhere.
fn make_controls_read_only(spec: &SandboxSpec<'_>) -> Result<(), Failure> {
    for point in &spec.reached.controls {
        match mounts::set_attributes(point, libc::MOUNT_ATTR_RDONLY) {
            // It is covered already.
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno).doing(format!("make {} read-only", point.display())),
        }
    }
    Ok(())
}

/// Makes what is mounted there, and below, read-only.
fn make_read_only(path: &str) -> rustix::io::Result<()> {
    mounts::set_attributes(Path::new(path), libc::MOUNT_ATTR_RDONLY)
}

/// On these mounts no program has rights by its file. They would not count anyway (`no_new_privs`), but a program with
/// file capabilities that the sandbox cannot have is not even started (capabilities(7)): ping, where it has some.
fn give_no_rights_by_files() -> rustix::io::Result<()> {
    chroot::at_a_mount(|| mounts::set_attributes(Path::new("/"), libc::MOUNT_ATTR_NOSUID))
}
