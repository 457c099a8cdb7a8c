//! The directory in which `ip netns` looks for names.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, symlink};
use std::path::Path;

use hopyard_kernel::{is_in_memory, rights};

/// Where `ip netns` looks.
pub(crate) const NETNS_DIR: &str = "/run/netns";
/// Where the names are where /run is on a disk, as in many containers. There they would outlive a
/// reboot, and each would cost an inode of a journal: a fifth of a millisecond, a fifth of a node.
const IN_MEMORY: &str = "/dev/shm/hopyard-netns";

/// Makes the directory, if there is none; says whether it is this call that made it.
pub(crate) fn make() -> io::Result<bool> {
    let dir = Path::new(NETNS_DIR);
    if dir.is_dir() {
        return Ok(false);
    }
    let run = dir.parent().unwrap_or(dir);
    if leads_to_memory(dir) || (!is_in_memory(run) && is_in_memory(Path::new("/dev/shm"))) {
        make_in_memory()?;
        return match symlink(IN_MEMORY, dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(leads_to_memory(dir)),
            made => made.map(|()| true),
        };
    }
    match fs::create_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        made => made.map(|()| true),
    }
}

/// Removes the directory that [`make`] has made, unless somebody uses it.
pub(crate) fn remove() {
    let dir = Path::new(NETNS_DIR);
    if leads_to_memory(dir) {
        // Only if it was empty, and no mount of `ip netns`, does the link go as well.
        if fs::remove_dir(IN_MEMORY).is_ok() {
            fs::remove_file(dir).ok();
        }
    } else {
        fs::remove_dir(dir).ok();
    }
}

/// Removes the names that begin so and lead to a descriptor of a process that is gone.
pub(crate) fn remove_dangling(prefix: &str) -> io::Result<()> {
    let entries = match fs::read_dir(NETNS_DIR) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let path = entry.path();
        let is_ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(prefix))
            && fs::read_link(&path).is_ok_and(|to| to.starts_with("/proc") && !to.exists());
        if is_ours {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

fn leads_to_memory(dir: &Path) -> bool {
    fs::read_link(dir).is_ok_and(|to| to == Path::new(IN_MEMORY))
}

/// Anybody may make names in /dev/shm: one that is there must be ours.
fn make_in_memory() -> io::Result<()> {
    match DirBuilder::new().mode(0o755).create(IN_MEMORY) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => return made,
    }
    let meta = fs::symlink_metadata(IN_MEMORY)?;
    let ours = meta.is_dir() && meta.uid() == rights::user_id() && meta.mode() & 0o022 == 0;
    if ours { Ok(()) } else { Err(io::Error::other(format!("{IN_MEMORY} is somebody else's"))) }
}
