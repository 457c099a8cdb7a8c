//! The directory: what is in it, and making it.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use hopyard_kernel::holders::NamespaceId;
use hopyard_kernel::{Process, pin};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::{EntryName, NsError};
use crate::error::{Error, IoContext};
use crate::home::Home;
use crate::netns_dir::{self, NETNS_DIR};
use crate::running::Running;

/// The directory of names, open.
#[derive(Debug)]
pub struct Names {
    dir: File,
}

/// An entry of it, as it was when it was looked at.
#[derive(Debug)]
pub struct Entry {
    /// Its name.
    pub name: EntryName,
    /// What it is.
    pub kind: Kind,
    /// The namespace that it leads to; `None`: it leads to none, or to one that the caller may not open.
    pub network: Option<OwnedFd>,
    /// When it was made.
    pub made: SystemTime,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A namespace, mounted, as by `ip netns add`.
    Mount,
    /// A node of a lab: a link to what its keeper holds.
    Node {
        /// The keeper's process id.
        keeper: i32,
    },
    /// A link to a namespace that something else holds.
    Link {
        /// Where to.
        to: PathBuf,
    },
    /// A name that leads to no namespace.
    Dead,
    /// Something that is no name.
    Foreign(&'static str),
}

/// More entries are not open at a time.
pub(super) const AT_ONCE: usize = 250;

impl Entry {
    /// The namespace that it leads to.
    pub(super) fn id(&self) -> Option<NamespaceId> {
        NamespaceId::of(self.network.as_ref()?.as_fd()).ok()
    }
}

impl Names {
    /// Opens the directory; `None`: there is none, hence no name.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open() -> Result<Option<Self>, Error> {
        // A file in its place would be made a mount, as if it were the directory.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::open(NETNS_DIR, flags, Mode::empty()) {
            Err(Errno::NOENT) => Ok(None),
            opened => {
                let dir = opened.map_err(io::Error::from).context(|| format!("open {NETNS_DIR}"))?;
                Ok(Some(Names { dir: dir.into() }))
            }
        }
    }

    /// Opens the directory for a name that should be in it.
    pub(crate) fn open_existing(name: &EntryName) -> Result<Self, Error> {
        Self::open()?.ok_or_else(|| not_found(name))
    }

    /// Opens the directory for new names: made, where there is none, and a mount of its own, as
    /// ip-netns(8) has it.
    pub(super) fn open_to_add() -> Result<Self, Error> {
        /// Whoever takes a last lab down may take the directory away.
        const ATTEMPTS: usize = 20;
        for _ in 0..ATTEMPTS {
            // Who has made it does not matter: where a name was, it stays, as that of `ip netns` does.
            netns_dir::make().context(|| format!("make {NETNS_DIR}"))?;
            let Some(before) = Self::open()? else { continue };
            before.dir.lock().context(|| format!("lock {NETNS_DIR}"))?;
            match pin::make_shared(Path::new(NETNS_DIR)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                shared => shared.context(|| format!("make {NETNS_DIR} a mount of its own"))?,
            }
            // What was opened before lies below the mount. From here on nobody can take it away.
            let Some(names) = Self::open()? else { continue };
            let id = |names: &Names| names.dir.metadata().map(|meta| (meta.dev(), meta.ino()));
            let doing = || format!("look at {NETNS_DIR}");
            if id(&names).context(doing)? == id(&before).context(doing)? {
                return Ok(names);
            }
        }
        Err(io::Error::other("it is taken away again and again")).context(|| format!("make {NETNS_DIR}"))
    }

    /// Takes the lock that ip-netns(8) takes, as long as the value lives.
    pub(super) fn lock(&self) -> Result<File, Error> {
        // Opened anew: a lock is of an open file, not of a process. Not by its path, for behind it that may lead elsewhere.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let lock = rustix::fs::openat(&self.dir, ".", flags, Mode::empty());
        let lock: File = lock.map_err(io::Error::from).context(|| format!("open {NETNS_DIR}"))?.into();
        lock.lock().context(|| format!("lock {NETNS_DIR}"))?;
        Ok(lock)
    }

    pub(super) fn dir(&self) -> &File {
        &self.dir
    }

    /// The names, in order; those that are about to be given are left out.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn names() -> Result<Vec<EntryName>, Error> {
        let mut names: Vec<EntryName> = Self::all_names()?.into_iter().filter(|name| !name.is_temporary()).collect();
        names.sort();
        Ok(names)
    }

    /// Those that are about to be given, or were left.
    pub(super) fn temporary_names(&self) -> Result<Vec<EntryName>, Error> {
        let read = || -> rustix::io::Result<Vec<_>> {
            let entries = rustix::fs::Dir::read_from(&self.dir)?;
            entries.map(|entry| Ok(OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned())).collect()
        };
        let names = read().map_err(io::Error::from).context(|| format!("read {NETNS_DIR}"))?;
        let names = names.into_iter().filter_map(|name| EntryName::new(name).ok());
        Ok(names.filter(EntryName::is_temporary).collect())
    }

    fn all_names() -> Result<Vec<EntryName>, Error> {
        let read = || -> io::Result<Vec<_>> { fs::read_dir(NETNS_DIR)?.map(|entry| Ok(entry?.file_name())).collect() };
        let names = match read() {
            // It has just been taken away, with nothing in it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            names => names.context(|| format!("read {NETNS_DIR}"))?,
        };
        Ok(names.into_iter().filter_map(|name| EntryName::new(name).ok()).collect())
    }

    /// Looks at an entry; `None`: there is none of that name.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub fn find(&self, name: &EntryName) -> Result<Option<Entry>, Error> {
        let doing = || format!("look at {}", Path::new(NETNS_DIR).join(name.as_os_str()).display());
        // By the directory that is open, not by a path: behind it a path shows other mounts.
        let stat = match rustix::fs::statat(&self.dir, name.as_os_str(), AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(None),
            stat => stat.map_err(io::Error::from).context(doing)?,
        };
        let file = FileType::from_raw_mode(stat.st_mode);
        let (network, is_closed) = match pin::open_network(self.dir.as_fd(), name.as_os_str()) {
            Ok(network) => (network, false),
            // It has just been deleted.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !file.is_symlink() => return Ok(None),
            // A link to what is gone.
            Err(error) if error.kind() == io::ErrorKind::NotFound => (None, false),
            // Or to what the caller may not look at: it may well live.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => (None, true),
            Err(error) => return Err(error).context(doing),
        };
        let kind = if file.is_symlink() {
            let to = match rustix::fs::readlinkat(&self.dir, name.as_os_str(), Vec::new()) {
                Err(Errno::NOENT) => return Ok(None),
                to => PathBuf::from(OsString::from_vec(to.map_err(io::Error::from).context(doing)?.into_bytes())),
            };
            match keeper_of(&to) {
                _ if network.is_none() && !is_closed => Kind::Dead,
                Some(keeper) if lives(keeper) => Kind::Node { keeper },
                Some(_) if is_closed => Kind::Dead,
                _ => Kind::Link { to },
            }
        } else if network.is_some() {
            Kind::Mount
        } else if file.is_dir() {
            Kind::Foreign("a directory")
        } else if !file.is_file() {
            Kind::Foreign(if file.is_socket() { "a socket" } else { "a device or a pipe" })
        } else if stat.st_dev == self.dir.metadata().context(|| format!("look at {NETNS_DIR}"))?.dev() {
            Kind::Dead
        } else {
            Kind::Foreign("a mount of something else")
        };
        let made = pin::time_of(stat.st_mtime, stat.st_mtime_nsec);
        Ok(Some(Entry { name: name.clone(), kind, network, made }))
    }

    /// What each name is, by name.
    ///
    /// # Errors
    /// The directory or an entry cannot be read.
    pub fn kinds() -> Result<Vec<(EntryName, Kind)>, Error> {
        let mut kinds = Vec::new();
        Self::visit(|entries| {
            kinds.extend(entries.into_iter().map(|entry| (entry.name, entry.kind)));
            Ok(())
        })?;
        Ok(kinds)
    }

    /// Which namespace each name leads to, by name; those are left out that lead to none.
    pub(super) fn ids() -> Result<Vec<(EntryName, NamespaceId)>, Error> {
        let mut ids = Vec::new();
        Self::visit(|entries| {
            ids.extend(
                entries.into_iter().filter_map(|entry| Some((entry.id()?, entry.name))).map(|(id, name)| (name, id)),
            );
            Ok(())
        })?;
        Ok(ids)
    }

    /// The namespaces that have names, open; of several names of one, the first.
    ///
    /// # Errors
    /// The directory or an entry cannot be read.
    pub(crate) fn open_all() -> Result<Vec<(EntryName, OwnedFd)>, Error> {
        let mut all = Vec::new();
        Self::visit(|entries| {
            all.extend(entries.into_iter().filter_map(|entry| Some((entry.name, entry.network?))));
            Ok(())
        })?;
        Ok(all)
    }

    /// Looks at all entries, by name, some at a time, for each is open meanwhile. Where there is no directory there
    /// are none.
    pub(super) fn visit(mut visit: impl FnMut(Vec<Entry>) -> Result<(), Error>) -> Result<(), Error> {
        let Some(directory) = Self::open()? else { return Ok(()) };
        for names in Self::names()?.chunks(AT_ONCE) {
            let mut entries = Vec::with_capacity(names.len());
            for name in names {
                entries.extend(directory.find(name)?);
            }
            visit(entries)?;
        }
        Ok(())
    }

    /// The namespace of a name.
    ///
    /// # Errors
    /// [`NsError::NotFound`], [`NsError::Dead`] and the like.
    pub fn network(&self, name: &EntryName) -> Result<OwnedFd, Error> {
        let Some(entry) = self.find(name)? else { return Err(not_found(name)) };
        match (entry.network, entry.kind) {
            (Some(network), _) => Ok(network),
            (None, Kind::Foreign(what)) => Err(NsError::Foreign { name: name.clone(), what }.into()),
            (None, Kind::Node { keeper }) => Err(of_lab(name, keeper)),
            (None, Kind::Link { to }) => Err(NsError::ClosedName { name: name.clone(), to }.into()),
            (None, _) => Err(NsError::Dead { name: name.clone() }.into()),
        }
    }
}

/// The namespaces of entries that lead to one.
pub(super) fn open<'a>(entries: &[&'a Entry]) -> Vec<BorrowedFd<'a>> {
    entries.iter().filter_map(|entry| entry.network.as_ref()).map(AsFd::as_fd).collect()
}

/// The error for a name that is not there.
pub(super) fn not_found(name: &EntryName) -> Error {
    NsError::NotFound { name: name.clone(), names: Names::names().unwrap_or_default() }.into()
}

/// The error for a name that is a lab's.
pub(super) fn of_lab(name: &EntryName, keeper: i32) -> Error {
    // Labs of another directory of records are not to be found; then the error says less.
    let labs = Home::of_caller().and_then(|home| Running::all(&home)).map(|(labs, _)| labs).unwrap_or_default();
    let lab = labs.into_iter().find(|lab| lab.keeper().pid() == keeper).map(|lab| lab.name().clone());
    NsError::OfLab { name: name.clone(), lab }.into()
}

/// One that was killed may stay as a zombie for long, and holds nothing then.
fn lives(keeper: i32) -> bool {
    Process::open(keeper).is_ok_and(|keeper| keeper.has_ended().is_ok_and(|ended| !ended))
}

/// The process of a link to `/proc/PID/fd/N`, as labs make them.
fn keeper_of(target: &Path) -> Option<i32> {
    let (pid, fd) = target.to_str()?.strip_prefix("/proc/")?.split_once("/fd/")?;
    fd.parse::<u32>().ok()?;
    pid.parse().ok()
}
