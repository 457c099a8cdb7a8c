//! An /etc of which some files are not the host's.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::MountFlags;

use crate::Failure;
use crate::failure::Doing;
use crate::mounts::set_attributes;

/// Puts an overlay on /etc, with these files in the place of the host's; a file system for them is mounted
/// on `view`, and the working directory is there afterwards.
///
/// Not binds over single files: those vanish when the host replaces a file by renaming another
/// over it, and the lab would see the host's resolver again.
pub(crate) fn cover(
    view: &Path,
    user_namespace: bool,
    files: &[(&str, &str)],
    more: MountFlags,
) -> Result<(), Failure> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount("hopyard", view, "tmpfs", flags, Some(c"mode=0755"))
        .doing("mount a file system for the lab's view")?;
    // Relative names below keep commas and colons of the path out of the mount options.
    rustix::process::chdir(view).doing("enter the lab's view")?;
    for dir in ["upper", "work"] {
        rustix::fs::mkdir(dir, Mode::from_raw_mode(0o755)).doing("make the directories of the lab's /etc")?;
    }
    // Whatever the starter's umask, others in the lab must be able to read these.
    for (name, text) in files {
        let mode = Mode::from_raw_mode(0o644);
        let file = rustix::fs::open(format!("upper/{name}"), OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC, mode)
            .doing("make the files of the lab's /etc")?;
        rustix::fs::fchmod(&file, mode).doing("make the files of the lab's /etc readable")?;
        File::from(file).write_all(text.as_bytes()).doing("write the files of the lab's /etc")?;
    }
    rustix::fs::chmod("upper", Mode::from_raw_mode(0o755)).doing("make the lab's /etc readable")?;
    let options = if user_namespace {
        c"lowerdir=/etc,upperdir=upper,workdir=work,userxattr"
    } else {
        c"lowerdir=/etc,upperdir=upper,workdir=work"
    };
    match rustix::mount::mount("hopyard", "/etc", "overlay", flags | more, Some(options)) {
        // As in a container, where /etc/hosts and others are mounts themselves: an overlay would show what they cover, which
        // a user namespace may not see.
        Err(Errno::INVAL) => lay_out(more),
        overlay => overlay.doing("mount an overlay on /etc"),
    }
}

/// Puts `upper` on /etc, and in it all that is there and not in `upper`, each as a mount of its own, which cannot be written
/// to. What is new in /etc later does not show.
fn lay_out(more: MountFlags) -> Result<(), Failure> {
    let entries = std::fs::read_dir("/etc").doing("read /etc")?;
    for entry in entries {
        let name = entry.doing("read /etc")?.file_name();
        match show(&name) {
            // It is one of ours, or has just gone.
            Err(Errno::EXIST | Errno::NOENT) => {}
            shown => shown.doing(format!("show {}", Path::new("/etc").join(&name).display()))?,
        }
    }
    rustix::mount::mount_bind_recursive("upper", "/etc").doing("mount the lab's /etc")?;
    if more.contains(MountFlags::RDONLY) {
        set_attributes(Path::new("/etc"), libc::MOUNT_ATTR_RDONLY).doing("make /etc read-only")?;
    }
    Ok(())
}

/// Shows an entry of /etc in `upper`.
fn show(name: &OsStr) -> rustix::io::Result<()> {
    let (there, here) = (Path::new("/etc").join(name), Path::new("upper").join(name));
    let kind = FileType::from_raw_mode(rustix::fs::lstat(&there)?.st_mode);
    match kind {
        FileType::Symlink => return rustix::fs::symlink(rustix::fs::readlink(&there, Vec::new())?, &here),
        FileType::Directory => rustix::fs::mkdir(&here, Mode::from_raw_mode(0o755))?,
        _ => {
            let how = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            drop(rustix::fs::open(&here, how, Mode::empty())?);
        }
    }
    rustix::mount::mount_bind_recursive(&there, &here)?;
    set_attributes(&here, libc::MOUNT_ATTR_RDONLY)
}
