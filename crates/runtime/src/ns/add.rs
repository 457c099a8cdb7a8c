//! New names.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
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

/// So many wait for their names at a time: what is killed leaves no more.
const AT_ONCE: usize = 64;

/// How often it is looked whether it has become one: nothing tells.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// A temporary name is there for some milliseconds. One of this age is what a killed one has left.
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
    let stage = Stage { names: Names::open_to_add()? };
    let mut added = Added::default();
    let mut wanted = Vec::new();
    for name in names {
        // Before a namespace is made for it in vain.
        match refuse_taken(&stage.names, name) {
            Ok(()) => wanted.push(name),
            Err(error) => added.failed.push(error),
        }
    }
    let mut rest = wanted.iter();
    let mut pinned = Vec::new();
    let take = |network: io::Result<OwnedFd>| {
        let Some(&name) = rest.next() else { return false };
        let one = network.context(|| format!("make a namespace for `{name}`"));
        match one.and_then(|network| stage.pin(network, name)) {
            Ok(one) => pinned.push(one),
            Err(error) => {
                added.failed.push(error);
                return false;
            }
        }
        if pinned.len() < AT_ONCE { true } else { stage.publish(std::mem::take(&mut pinned), &mut added) }
    };
    let made = pin::make_networks(wanted.len(), take).context(|| "make namespaces".to_owned());
    stage.publish(pinned, &mut added);
    made?;
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
    let stage = Stage { names: Names::open_to_add()? };
    let process = Process::open(pid).map_err(|_| NsError::NoProcess { pid })?;
    let network = network_of(&process)?;
    let mut added = Added::default();
    stage.publish(vec![stage.pin(network, name)?], &mut added);
    added.failed.pop().map_or(Ok(()), Err)
}

/// The network namespace of a process. It is held first, so that the namespace is of the process that was meant.
pub(crate) fn network_of(process: &Process) -> Result<OwnedFd, Error> {
    let pid = process.pid();
    let network = match pin::network_of(pid) {
        // It is there, and another user's.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(NsError::Closed { pid }.into()),
        network => network.map_err(|_| NsError::NoProcess { pid })?,
    };
    if process.has_ended().context(|| format!("look at process {pid}"))? {
        return Err(NsError::NoProcess { pid }.into());
    }
    Ok(network)
}

/// Gives names.
struct Stage {
    names: Names,
}

/// A namespace that waits for its name.
struct Pinned<'a> {
    network: OwnedFd,
    name: &'a NsName,
    /// What it is called meanwhile.
    temporary: OsString,
}

impl Stage {
    fn pin<'a>(&self, network: OwnedFd, name: &'a NsName) -> Result<Pinned<'a>, Error> {
        let pinned = Pinned { network, name, temporary: temporary() };
        self.pin_again(&pinned)?;
        Ok(pinned)
    }

    fn pin_again(&self, pinned: &Pinned<'_>) -> Result<(), Error> {
        pin::pin(pinned.network.as_fd(), self.names.dir().as_fd(), &pinned.temporary)
            .context(|| format!("make a name in {NETNS_DIR}"))
    }

    /// Gives each its name. Returns whether there is a point in going on: what the directory refuses some, it
    /// would refuse all.
    fn publish(&self, mut waiting: Vec<Pinned<'_>>, added: &mut Added) -> bool {
        /// `ip -all netns delete` takes temporary names, too.
        const ATTEMPTS: usize = 3;
        let mut go_on = true;
        for attempt in 1..=ATTEMPTS {
            if waiting.is_empty() {
                break;
            }
            let outcomes = pin::behind(Path::new(NETNS_DIR), Scene::Coming, |behind| {
                forget(behind)?;
                Ok(waiting.iter().map(|one| self.give_name(behind, one)).collect::<Vec<_>>())
            });
            let outcomes = match outcomes.map_err(Error::from).and_then(|outcomes| outcomes) {
                Ok(outcomes) => outcomes,
                Err(error) => {
                    for one in &waiting {
                        pin::unpin(&Path::new(NETNS_DIR).join(&one.temporary));
                    }
                    added.failed.push(error);
                    return false;
                }
            };
            let mut again = Vec::new();
            for (one, outcome) in waiting.into_iter().zip(outcomes) {
                let outcome = match outcome {
                    Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound && attempt < ATTEMPTS => {
                        self.pin_again(&one).map(|()| again.push(one))
                    }
                    Ok(()) => {
                        added.made.push(one.name.clone());
                        Ok(())
                    }
                    Err(error) => Err(error),
                };
                if let Err(error) = outcome {
                    go_on &= !matches!(error, Error::Io { .. } | Error::System(_));
                    added.failed.push(error);
                }
            }
            waiting = again;
        }
        go_on
    }

    fn give_name(&self, behind: &Backstage, pinned: &Pinned<'_>) -> Result<(), Error> {
        let given = self.take_name(behind, pinned);
        match &given {
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            // The first error is the one to tell.
            Err(_) => drop(behind.remove(&pinned.temporary)),
            Ok(()) => {}
        }
        given
    }

    /// Gives what has the temporary name its own.
    fn take_name(&self, behind: &Backstage, pinned: &Pinned<'_>) -> Result<(), Error> {
        let name = pinned.name;
        let begun = Instant::now();
        let file: &OsStr = name.as_str().as_ref();
        let doing = || format!("name a namespace `{name}`");
        loop {
            match behind.rename(&pinned.temporary, file) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                renamed => return renamed.context(doing),
            }
            refuse_taken(&self.names, name)?;
            // It is dead, or not yet alive, or has just gone.
            let made = match behind.look(file) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                bare => bare.context(doing)?.made,
            };
            if age(made) >= IN_THE_MAKING || begun.elapsed() >= IN_THE_MAKING {
                return self.replace(behind, pinned);
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Gives it a name that is dead.
    fn replace(&self, behind: &Backstage, pinned: &Pinned<'_>) -> Result<(), Error> {
        let Pinned { name, temporary, .. } = pinned;
        let file: &OsStr = name.as_str().as_ref();
        let doing = || format!("replace the dead name `{name}`");
        // Of all who would, one at a time.
        let _lock = Names::lock()?;
        refuse_taken(&self.names, name)?;
        behind.exchange(temporary, file).context(doing)?;
        // Whoever does not take the lock may have made it a namespace just before: that one stays.
        let old = EntryName::new(temporary)?;
        if matches!(self.names.find(&old)?.map(|entry| entry.kind), None | Some(Kind::Dead)) {
            return behind.remove(temporary).context(doing);
        }
        behind.exchange(temporary, file).context(doing)?;
        Err(NsError::Exists { name: (*name).into() }.into())
    }
}

/// Removes what killed ones have left.
fn forget(behind: &Backstage) -> Result<(), Error> {
    for name in Names::all_names()?.into_iter().filter(EntryName::is_temporary) {
        let is_old = |bare: pin::Bare| age(bare.made) >= FORGOTTEN && bare.is_name;
        if behind.look(name.as_os_str()).is_ok_and(is_old) {
            // Another one has been faster, or the next one will be luckier.
            behind.remove(name.as_os_str()).ok();
        }
    }
    Ok(())
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
