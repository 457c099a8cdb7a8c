//! The directory in which `ip netns` looks for names.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, symlink};
use std::path::Path;

use hopyard_kernel::{is_in_memory, rights};

/// Where `ip netns` looks.
pub(crate) const NETNS_DIR: &str = "/run/netns";
/// Where the names are where /run is on a disk, as in many containers. There they would outlive a
/// reboot, and each would cost an inode of a journal: a fifth of a millisecond, a fifth of a node.
const IN_MEMORY: &str = "/dev/shm/hopyard-netns";

/// What there was before [`make`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Before {
    /// No such directory.
    Nothing,
    /// An empty one on a disk, which has given way.
    Empty,
}

/// Makes the directory, if there is none that will do; says what there was, if this call made it.
pub(crate) fn make() -> io::Result<Option<Before>> {
    make_and(|| ()).map(|(before, ())| before)
}

/// The same, and does something in it before anybody can take it away for being empty.
pub(crate) fn make_and<R>(then: impl FnOnce() -> R) -> io::Result<(Option<Before>, R)> {
    let _alone = alone();
    Ok((make_alone()?, then()))
}

fn make_alone() -> io::Result<Option<Before>> {
    let dir = Path::new(NETNS_DIR);
    let run = dir.parent().unwrap_or(dir);
    // Neither a directory with names in it nor the mount of `ip netns` can be removed.
    let before =
        if dir.is_dir() && !is_in_memory(dir) && is_in_memory(Path::new("/dev/shm")) && fs::remove_dir(dir).is_ok() {
            Before::Empty
        } else {
            Before::Nothing
        };
    if dir.is_dir() {
        return Ok(None);
    }
    Ok(make_anew(dir, run)?.then_some(before))
}

/// Keeps others from making or removing it meanwhile: where it is a link, that takes two steps. Whoever
/// may not even look at /run will fail at the step itself.
fn alone() -> Option<File> {
    let run = File::open(Path::new(NETNS_DIR).parent()?).ok()?;
    run.lock().ok()?;
    Some(run)
}

fn make_anew(dir: &Path, run: &Path) -> io::Result<bool> {
    if leads_to_memory(dir) || (!is_in_memory(run) && is_in_memory(Path::new("/dev/shm"))) {
        make_in_memory()?;
        return match symlink(IN_MEMORY, dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                must_be_one(dir).map(|()| leads_to_memory(dir))
            }
            made => made.map(|()| true),
        };
    }
    match fs::create_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => must_be_one(dir).map(|()| false),
        made => made.map(|()| true),
    }
}

/// Removes the directory that [`make`] has made, unless somebody uses it, and puts back what there was.
pub(crate) fn remove(before: Before) {
    let _alone = alone();
    if !remove_link_alone(before) {
        fs::remove_dir(NETNS_DIR).ok();
    }
}

/// Removes it if it is a link, which only [`make`] makes, and nobody uses it.
pub(crate) fn remove_link() {
    let _alone = alone();
    remove_link_alone(Before::Nothing);
}

/// Says whether it is one.
fn remove_link_alone(before: Before) -> bool {
    let dir = Path::new(NETNS_DIR);
    if !leads_to_memory(dir) {
        return false;
    }
    // Only if it was empty, and no mount of `ip netns`, does the link go as well.
    if fs::remove_dir(IN_MEMORY).is_ok() && fs::remove_file(dir).is_ok() && before == Before::Empty {
        DirBuilder::new().mode(0o755).create(dir).ok();
    }
    true
}

/// Removes the names that begin so and lead to a descriptor of a process that is gone.
pub(crate) fn remove_dangling(prefix: &str) -> io::Result<()> {
    let entries = match fs::read_dir(NETNS_DIR) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let path = entry.path();
        let is_ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(prefix))
            && fs::read_link(&path).is_ok_and(|to| to.starts_with("/proc") && !to.exists());
        if is_ours {
            match fs::remove_file(&path) {
                // Somebody else has done it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed?,
            }
        }
    }
    Ok(())
}

/// Somebody else has made the directory just now, or something else is in its place.
fn must_be_one(dir: &Path) -> io::Result<()> {
    if dir.is_dir() { Ok(()) } else { Err(rustix::io::Errno::NOTDIR.into()) }
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
