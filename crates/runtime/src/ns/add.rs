//! New names.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use hopyard_kernel::Process;
use hopyard_kernel::pin::{self, Backstage, Scene};
use hopyard_net::NsName;

use super::directory::{Kind, Names};
use super::name::temporary;
use super::{EntryName, NsError, require_rights};
use crate::error::{Error, IoContext};
use crate::netns_dir::NETNS_DIR;

/// What [`add`] did.
#[derive(Debug, Default)]
pub struct Added {
    /// The names that are there now and were not.
    pub made: Vec<NsName>,
    /// Why others are not.
    pub failed: Vec<Error>,
}

/// `ip netns add` makes a file, then a namespace, and then mounts it. For so long a file that is no namespace is
/// left to whoever made it, for the kernel may be slow; after that it is what a killed one has left.
const IN_THE_MAKING: Duration = Duration::from_secs(3);

/// How often it is looked whether it has become one: nothing tells.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// A temporary name is there for some microseconds. One of this age is what a killed one has left.
const FORGOTTEN: Duration = Duration::from_secs(10);

/// Makes namespaces and gives them names: each with `lo` in it, down, as `ip netns add` does.
///
/// A name shows up as a namespace, or not at all. A dead one of the same name is replaced. One that fails
/// does not keep the others from being made.
///
/// # Errors
/// The directory cannot be made or written to, or the rights are missing; then nothing is made.
pub fn add(names: &[NsName]) -> Result<Added, Error> {
    require_rights("make a namespace that has a name")?;
    let directory = Names::open_to_add()?;
    let mut added = Added::default();
    let mut wanted = Vec::new();
    for name in names {
        // Before a namespace is made for it in vain.
        match refuse_taken(&directory, name) {
            Ok(()) => wanted.push(name),
            Err(error) => added.failed.push(error),
        }
    }
    let mut rest = wanted.iter();
    let (mut directory, mut stage) = (Some(directory), None);
    let take = |network: io::Result<OwnedFd>| {
        let Some(&name) = rest.next() else { return false };
        let named = network.context(|| format!("make a namespace for `{name}`")).and_then(|network| {
            // Set while the first namespaces are being made.
            if let Some(directory) = directory.take() {
                stage = Some(Stage::set(directory)?);
            }
            match &stage {
                Some(stage) => stage.name(network.as_fd(), name),
                None => Err(NsError::NotTried { count: 1 }.into()),
            }
        });
        // What the directory refuses one, it would refuse them all.
        let go_on = !matches!(named, Err(Error::Io { .. } | Error::System(_)));
        match named {
            Ok(()) => added.made.push(name.clone()),
            Err(error) => added.failed.push(error),
        }
        go_on
    };
    pin::make_networks(wanted.len(), take).context(|| "make namespaces".to_owned())?;
    // The limit that one has met, the others would meet too.
    let not_tried = rest.len();
    if not_tried > 0 {
        added.failed.push(NsError::NotTried { count: not_tried }.into());
    }
    Ok(added)
}

/// Gives the network namespace of a process a name.
///
/// # Errors
/// There is no such process, or as for [`add`].
pub fn attach(name: &NsName, pid: i32) -> Result<(), Error> {
    require_rights("give a namespace a name")?;
    let stage = Stage::set(Names::open_to_add()?)?;
    let process = Process::open(pid).map_err(|_| NsError::NoProcess { pid })?;
    stage.name(network_of(&process)?.as_fd(), name)
}

/// The network namespace of a process. It is held first, so that the namespace is of the process that was meant.
pub(crate) fn network_of(process: &Process) -> Result<OwnedFd, Error> {
    let pid = process.pid();
    let network = match pin::network_of(pid) {
        // It is there, and another user's.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Err(error).context(|| format!("open the network namespace of process {pid}"));
        }
        network => network.map_err(|_| NsError::NoProcess { pid })?,
    };
    if process.has_ended().context(|| format!("look at process {pid}"))? {
        return Err(NsError::NoProcess { pid }.into());
    }
    Ok(network)
}

/// All that is needed to give names.
struct Stage {
    names: Names,
    behind: Backstage,
    /// Of every name before it is its own.
    temporary: OsString,
}

impl Stage {
    fn set(names: Names) -> Result<Self, Error> {
        let behind = Backstage::of(Path::new(NETNS_DIR), Scene::Coming)?;
        let stage = Stage { names, behind, temporary: temporary() };
        stage.forget()?;
        Ok(stage)
    }

    /// Removes what killed ones have left.
    fn forget(&self) -> Result<(), Error> {
        for name in Names::all_names()?.into_iter().filter(EntryName::is_temporary) {
            let is_old = |bare: pin::Bare| age(bare.made) >= FORGOTTEN && bare.is_name;
            if self.behind.look(name.as_os_str()).is_ok_and(is_old) {
                // Another one has been faster, or the next one will be luckier.
                self.behind.remove(name.as_os_str()).ok();
            }
        }
        Ok(())
    }

    fn name(&self, network: BorrowedFd<'_>, name: &NsName) -> Result<(), Error> {
        /// `ip -all netns delete` takes temporary names, too.
        const ATTEMPTS: usize = 3;
        let mut outcome = Ok(());
        for _ in 0..ATTEMPTS {
            pin::pin(network, self.names.dir().as_fd(), &self.temporary)
                .context(|| format!("make a name in {NETNS_DIR}"))?;
            outcome = self.publish(name);
            match &outcome {
                Ok(()) => return Ok(()),
                Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                Err(_) => {
                    // The first error is the one to tell.
                    self.behind.remove(&self.temporary).ok();
                    return outcome;
                }
            }
        }
        outcome
    }

    /// Gives what has the temporary name its own.
    fn publish(&self, name: &NsName) -> Result<(), Error> {
        let begun = Instant::now();
        let file: &OsStr = name.as_str().as_ref();
        let doing = || format!("name a namespace `{name}`");
        loop {
            match self.behind.rename(&self.temporary, file) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                renamed => return renamed.context(doing),
            }
            refuse_taken(&self.names, name)?;
            // It is dead, or not yet alive, or has just gone.
            let made = match self.behind.look(file) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                bare => bare.context(doing)?.made,
            };
            if age(made) >= IN_THE_MAKING || begun.elapsed() >= IN_THE_MAKING {
                return self.replace(name);
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Gives it a name that is dead.
    fn replace(&self, name: &NsName) -> Result<(), Error> {
        let file: &OsStr = name.as_str().as_ref();
        let doing = || format!("replace the dead name `{name}`");
        // Of all who would, one at a time.
        let _lock = Names::lock()?;
        refuse_taken(&self.names, name)?;
        self.behind.exchange(&self.temporary, file).context(doing)?;
        // Whoever does not take the lock may have made it a namespace just before: that one stays.
        let old = EntryName::new(&self.temporary)?;
        if matches!(self.names.find(&old)?.map(|entry| entry.kind), None | Some(Kind::Dead)) {
            return self.behind.remove(&self.temporary).context(doing);
        }
        self.behind.exchange(&self.temporary, file).context(doing)?;
        Err(NsError::Exists { name: name.into() }.into())
    }
}

fn refuse_taken(names: &Names, name: &NsName) -> Result<(), Error> {
    let name = EntryName::from(name);
    match names.find(&name)?.map(|entry| entry.kind) {
        None | Some(Kind::Dead) => Ok(()),
        Some(Kind::Foreign(what)) => Err(NsError::Foreign { name, what }.into()),
        Some(_) => Err(NsError::Exists { name }.into()),
    }
}

fn age(made: SystemTime) -> Duration {
    // A clock that was set back makes it young; then it is waited for.
    made.elapsed().unwrap_or_default()
}
