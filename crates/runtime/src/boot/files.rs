//! Files that are ours as long as nobody else has touched them.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::Duration;

use hopyard_model::stable_hash;

use super::BootError;
use crate::error::{Error, IoContext};
use crate::home::remove_file;
use crate::lock;
use crate::whole_file::WholeFile;

/// Tells an edited text from the one that was written. Not a protection: whoever may edit the file may do so.
pub(super) fn checksum(text: &str) -> u64 {
    stable_hash(text.as_bytes())
}

/// The text of a file; `None`: there is none.
pub(super) fn read(path: &Path) -> Result<Option<String>, Error> {
    // A link, to /dev/null for instance, is how systemd masks a unit: somebody's own decision.
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        meta => {
            if !meta.context(|| format!("look at {}", path.display()))?.is_file() {
                return Err(BootError::Foreign { path: path.to_owned() }.into());
            }
        }
    }
    let bytes = fs::read(path).context(|| format!("read {}", path.display()))?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// systemd may take a while to stop what is disabled, and everybody may lock a directory that he may read.
const PATIENCE: Duration = Duration::from_mins(2);

/// Keeps others of us from the files of a directory, as long as the value lives; `None`: there is no such directory.
pub(super) fn lock(dir: &Path) -> Result<Option<File>, Error> {
    let doing = || format!("lock {}", dir.display());
    match File::open(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        opened => {
            let lock = opened.context(doing)?;
            lock::within(PATIENCE, || lock.try_lock()).context(doing)?;
            Ok(Some(lock))
        }
    }
}

/// Makes a directory, and those above it.
pub(super) fn make_dir(dir: &Path) -> Result<(), Error> {
    fs::create_dir_all(dir).context(|| format!("make {}", dir.display()))
}

/// May what is there be replaced? Says whether there is anything.
pub(super) fn may_replace(
    path: &Path,
    there: Option<&str>,
    is_ours: impl FnOnce(&str) -> bool,
    force: bool,
) -> Result<bool, Error> {
    match there {
        Some(text) if !force && !is_ours(text) => Err(BootError::Foreign { path: path.to_owned() }.into()),
        there => Ok(there.is_some()),
    }
}

/// Writes a file, whole or not at all, and so that it is still there when the power fails.
pub(super) fn write(path: &Path, text: &str) -> Result<(), Error> {
    let doing = || format!("write {}", path.display());
    let dir = path.parent().unwrap_or(Path::new("/"));
    make_dir(dir)?;
    let new = dir.join(UNFINISHED);
    WholeFile::new(path, &new).mode(0o644).lasting().replace(text.as_bytes()).context(doing)
}

/// What is written and not whole yet: a name that systemd reads no unit from. One at a time writes, by the lock.
const UNFINISHED: &str = ".hop-unfinished";

/// Removes what one has left that was killed.
pub(super) fn remove_unfinished(dir: &Path) {
    fs::remove_file(dir.join(UNFINISHED)).ok();
}

/// Makes a file what it was; `None`: there was none.
pub(super) fn put_back(path: &Path, old: Option<&str>) -> Result<(), Error> {
    match old {
        Some(text) if read(path)?.as_deref() == Some(text) => Ok(()),
        Some(text) => write(path, text),
        None => remove_file(path),
    }
}

/// Removes a directory that nobody needs any more.
pub(super) fn remove_if_empty(dir: &Path) {
    remove_unfinished(dir);
    fs::remove_dir(dir).ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_else_wrote_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/a.service");
        assert_eq!(read(&path).unwrap(), None);
        write(&path, "ours\n").unwrap();
        write(&path, "ours, too\n").unwrap();
        let there = read(&path).unwrap();
        assert_eq!(there.as_deref(), Some("ours, too\n"));
        assert!(may_replace(&path, there.as_deref(), |text| text.starts_with("ours"), false).unwrap());
        assert!(may_replace(&path, there.as_deref(), |_| false, true).unwrap());
        assert!(may_replace(&path, there.as_deref(), |_| false, false).is_err());
        assert!(!may_replace(&path, None, |_| false, false).unwrap());
        let left: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }

    #[test]
    fn a_mask_is_nobodys_to_replace() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("masked.service");
        std::os::unix::fs::symlink("/dev/null", &path).unwrap();
        assert!(read(&path).is_err());
    }
}
