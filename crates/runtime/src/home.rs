//! Where the records of running labs are, and the lock on each.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use hopyard_kernel::rights;
use hopyard_model::LabName;

use crate::error::{Error, IoContext};
use crate::netns_dir::{self, Before, NETNS_DIR};

/// The directory with a directory for every lab of the caller.
///
/// `/run/hopyard` for root; for an ordinary user `$XDG_RUNTIME_DIR/hopyard`, `/run/user/UID/hopyard`
/// or, where there is no such directory, `/tmp/hopyard-UID`. All but the last are emptied when the
/// machine starts, as is the kernel of its namespaces, so a record cannot outlive its lab by long.
#[derive(Clone, Debug)]
pub struct Home {
    root: PathBuf,
    privileged: bool,
}

/// A file in the home that says that the directory of `ip netns` was made by us. No lab has such a name.
const MADE_NETNS_DIR: &str = ".made-run-netns";
/// What that file says if there was an empty one before.
const EMPTY_BEFORE: &str = "empty before\n";

impl Home {
    /// The caller's.
    ///
    /// # Errors
    /// The directory cannot be made, or is not the caller's alone.
    pub fn of_caller() -> Result<Self, Error> {
        let privileged = rights::is_privileged();
        let root = match std::env::var_os("HOPYARD_DIR") {
            Some(dir) if !dir.is_empty() => std::path::absolute(&dir).context(|| format!("find {}", dir.display()))?,
            _ => default_root(),
        };
        Self::at(root, privileged)
    }

    fn at(root: PathBuf, privileged: bool) -> Result<Self, Error> {
        match fs::symlink_metadata(&root) {
            // Made when the first lab is.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            _ => make_private_dir(&root)?,
        }
        Ok(Home { root, privileged })
    }

    /// Remembers that the directory of `ip netns` is ours.
    pub(crate) fn note_netns_dir(&self, before: Before) -> Result<(), Error> {
        let path = self.root.join(MADE_NETNS_DIR);
        let text = if before == Before::Empty { EMPTY_BEFORE } else { "" };
        fs::write(&path, text).context(|| format!("write {}", path.display()))
    }

    /// Removes the directory when the last lab is gone, and that of `ip netns` if it was made for
    /// the first. Whatever else is in one keeps it.
    pub fn tidy(&self) {
        let mark = self.root.join(MADE_NETNS_DIR);
        let others = fs::read_dir(&self.root)
            .map_or(0, |entries| entries.filter_map(Result::ok).filter(|entry| entry.path() != mark).count());
        if others > 0 {
            return;
        }
        // Errors: somebody is faster, at bringing up the next lab or at using `ip netns`.
        if let Ok(text) = fs::read_to_string(&mark) {
            netns_dir::remove(if text == EMPTY_BEFORE { Before::Empty } else { Before::Nothing });
            fs::remove_file(&mark).ok();
        } else {
            // Another home's labs may have been in the way when it was to go.
            netns_dir::remove_link();
        }
        fs::remove_dir(&self.root).ok();
    }

    /// Does the caller have the rights to make namespaces without a user namespace?
    pub fn is_privileged(&self) -> bool {
        self.privileged
    }

    /// The directory of a lab, whether or not it exists.
    pub fn dir_of(&self, lab: &LabName) -> PathBuf {
        self.root.join(lab.as_str())
    }

    /// A file beside the labs, in a directory that is there. No lab has a name that begins with a dot.
    pub(crate) fn note(&self, name: &str) -> Result<PathBuf, Error> {
        make_private_dir(&self.root)?;
        Ok(self.root.join(name))
    }

    /// The files beside the labs whose names begin so.
    pub(crate) fn notes(&self, prefix: &str) -> Result<Vec<PathBuf>, Error> {
        let entries = match fs::read_dir(&self.root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.context(|| format!("read {}", self.root.display()))?,
        };
        let is_one = |entry: &fs::DirEntry| entry.file_name().as_encoded_bytes().starts_with(prefix.as_bytes());
        Ok(entries.filter_map(Result::ok).filter(is_one).map(|entry| entry.path()).collect())
    }

    /// Where the lab's namespaces are named for `ip netns`, for a caller who may write there.
    pub(crate) fn netns_dir(&self) -> Option<&'static Path> {
        (self.privileged && rights::may_write(Path::new("/run"))).then_some(Path::new(NETNS_DIR))
    }

    /// The names of all labs that have a directory, running or not, in order.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn lab_names(&self) -> Result<Vec<LabName>, Error> {
        let mut names = Vec::new();
        let entries = match fs::read_dir(&self.root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(names),
            entries => entries.context(|| format!("read {}", self.root.display()))?,
        };
        for entry in entries {
            let entry = entry.context(|| format!("read {}", self.root.display()))?;
            // Whatever is no directory with the name of a lab is not ours to judge.
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            names.extend(entry.file_name().to_str().and_then(|name| name.parse::<LabName>().ok()));
        }
        names.sort();
        Ok(names)
    }

    /// Takes the lab's directory for this process alone, making it if need be; waits for another
    /// that has it.
    ///
    /// # Errors
    /// It cannot be made or locked.
    pub(crate) fn lock(&self, lab: &LabName) -> Result<LabDir, Error> {
        let path = self.dir_of(lab);
        loop {
            make_private_dir(&self.root)?;
            match make_private_dir(&path) {
                // Whoever took the last lab down removed the root meanwhile.
                Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => continue,
                made => made?,
            }
            if let Some(dir) = LabDir::lock(&path)? {
                return Ok(dir);
            }
        }
    }

    /// The lab's directory, if it is there and no process has it: a lab that another brings up or takes down
    /// has its own.
    ///
    /// # Errors
    /// It cannot be locked.
    pub(crate) fn lock_idle(&self, lab: &LabName) -> Result<Option<LabDir>, Error> {
        LabDir::open(&self.dir_of(lab), |lock| match lock.try_lock() {
            Ok(()) => Ok(true),
            Err(fs::TryLockError::WouldBlock) => Ok(false),
            Err(fs::TryLockError::Error(error)) => Err(error),
        })
    }

    /// As [`lock`](Self::lock), but a lab that has no directory is `None`.
    ///
    /// # Errors
    /// It cannot be locked.
    pub(crate) fn lock_existing(&self, lab: &LabName) -> Result<Option<LabDir>, Error> {
        let path = self.dir_of(lab);
        // A home that may not be looked into is not one without labs.
        while path.try_exists().context(|| format!("look at {}", path.display()))? {
            if let Some(dir) = LabDir::lock(&path)? {
                return Ok(Some(dir));
            }
        }
        Ok(None)
    }
}

/// The directory of a lab, held by this process alone as long as the value lives.
#[derive(Debug)]
pub(crate) struct LabDir {
    path: PathBuf,
    _lock: File,
}

impl LabDir {
    /// `None`: whoever had it removed it meanwhile.
    fn lock(path: &Path) -> Result<Option<Self>, Error> {
        Self::open(path, |lock| lock.lock().map(|()| true))
    }

    /// `None`: it is not there any more, or `take` says that it cannot be had.
    fn open(path: &Path, take: impl Fn(&File) -> io::Result<bool>) -> Result<Option<Self>, Error> {
        let lock = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.context(|| format!("open {}", path.display()))?,
        };
        if !take(&lock).context(|| format!("lock {}", path.display()))? {
            return Ok(None);
        }
        let held = lock.metadata().context(|| format!("look at {}", path.display()))?;
        match fs::metadata(path) {
            Ok(there) if (there.dev(), there.ino()) == (held.dev(), held.ino()) => {
                Ok(Some(LabDir { path: path.to_owned(), _lock: lock }))
            }
            _ => Ok(None),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What the names of its nodes begin with in the directory of `ip netns`.
    pub(crate) fn lab_prefix(&self) -> String {
        format!("{}.", self.path.file_name().unwrap_or_default().display())
    }

    /// Removes it and the files of ours in it.
    pub(crate) fn remove(self, files: &[&str], dirs: &[&str]) -> Result<(), Error> {
        for file in files {
            remove_file(&self.path.join(file))?;
        }
        for dir in dirs {
            let path = self.path.join(dir);
            gone(fs::remove_dir(&path)).context(|| format!("remove {}", path.display()))?;
        }
        gone(fs::remove_dir(&self.path)).context(|| format!("remove {}", self.path.display()))
    }
}

fn default_root() -> PathBuf {
    if rights::is_privileged() && rights::may_write(Path::new("/run")) {
        return PathBuf::from("/run/hopyard");
    }
    let uid = rights::user_id();
    let own = |dir: &Path| fs::metadata(dir).is_ok_and(|meta| meta.is_dir() && meta.uid() == uid);
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|dir| dir.is_absolute());
    let candidates = runtime.into_iter().chain([PathBuf::from(format!("/run/user/{uid}"))]);
    match candidates.into_iter().find(|dir| own(dir) && rights::may_write(dir)) {
        Some(dir) => dir.join("hopyard"),
        None => PathBuf::from(format!("/tmp/hopyard-{uid}")),
    }
}

/// Makes a directory of mode 0700, or accepts one that is the caller's and nobody else's: in /tmp
/// anybody could have been there first.
fn make_private_dir(path: &Path) -> Result<(), Error> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error).context(|| format!("make {}", path.display())),
    }
    let meta = fs::symlink_metadata(path).context(|| format!("look at {}", path.display()))?;
    let private = meta.is_dir() && meta.uid() == rights::user_id() && meta.mode() & 0o022 == 0;
    if private { Ok(()) } else { Err(Error::NotPrivate { path: path.to_owned() }) }
}

/// Removes a file, if there is one.
pub(crate) fn remove_file(path: &Path) -> Result<(), Error> {
    gone(fs::remove_file(path)).context(|| format!("remove {}", path.display()))
}

/// What is not there need not be removed.
fn gone(removed: io::Result<()>) -> io::Result<()> {
    removed.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}
