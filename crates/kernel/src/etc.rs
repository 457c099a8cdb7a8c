//! An /etc of which some files are not the host's.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::mount::MountFlags;

use crate::Failure;
use crate::failure::Doing;

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
    let overlay = rustix::mount::mount("hopyard", "/etc", "overlay", flags | more, Some(options));
    let Err(errno) = overlay else { return Ok(()) };
    // In a container /etc/hosts and others are mounts themselves, which an overlay must not cover in
    // a user namespace; but just because they are mounts, nobody can rename over them.
    for (file, _) in files {
        let target = Path::new("/etc").join(file);
        let is_mount_or_missing = !target.exists() || is_mount_point(&target);
        if !is_mount_or_missing && matches!(*file, "resolv.conf" | "hosts") {
            return Err(errno).doing("mount an overlay on /etc");
        }
        if target.exists() {
            rustix::mount::mount_bind(format!("upper/{file}"), &target).doing(format!("cover {}", target.display()))?;
        }
    }
    Ok(())
}

fn is_mount_point(path: &Path) -> bool {
    let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::statx(rustix::fs::CWD, path, flags, rustix::fs::StatxFlags::empty())
        .is_ok_and(|stat| stat.stx_attributes.contains(rustix::fs::StatxAttributes::MOUNT_ROOT))
}
