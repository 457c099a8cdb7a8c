//! New names.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use hopyard_kernel::Process;
use hopyard_kernel::pin::{self, Backstage, Maker, Scene};
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

/// So many wait for their names at a time: what is killed leaves few more.
const AT_ONCE: usize = 16;

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
    let mut wanted = Vec::with_capacity(names.len());
    for name in names {
        // Before a namespace is made for it in vain.
        match refuse_taken(&stage.names, name) {
            Ok(()) => wanted.push(Wanted { name, network: None }),
            Err(error) => added.failed.push(error),
        }
    }
    stage.give_names(wanted, &mut added);
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
    stage.give_names(vec![Wanted { name, network: Some(network) }], &mut added);
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

/// A name that is to be given.
struct Wanted<'a> {
    name: &'a NsName,
    /// What to; `None`: a new namespace.
    network: Option<OwnedFd>,
}

/// A namespace that waits for its name.
struct Pinned<'a> {
    network: OwnedFd,
    name: &'a NsName,
    /// What it is called meanwhile.
    temporary: Temporary,
}

/// A name that is taken away unless it has become another.
struct Temporary(OsString);

impl Temporary {
    fn has_gone(mut self) {
        self.0.clear();
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.0.is_empty() {
            pin::unpin(&Path::new(NETNS_DIR).join(&self.0));
        }
    }
}

/// What has come of one: its name, or why not, and what could be tried again.
type Outcome<'a> = Result<&'a NsName, (Error, Option<Wanted<'a>>)>;

/// What is still to be done, for some threads. None of it is left when there is no point in going on.
struct Queue<'a>(Mutex<std::vec::IntoIter<Wanted<'a>>>);

impl<'a> Queue<'a> {
    fn next(&self) -> Option<Wanted<'a>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).next()
    }

    fn give_up(&self) {
        drop(std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner)));
    }
}

/// Gives names: namespaces are made and mounted on files of other names, and from behind the directory, where nothing is
/// mounted on them, they are given their own. A few are made by the process that goes there, one by one; many by threads,
/// while it is there already.
struct Stage {
    names: Names,
}

impl Stage {
    fn give_names(&self, mut wanted: Vec<Wanted<'_>>, added: &mut Added) {
        /// `ip -all netns delete` takes temporary names, too.
        const ATTEMPTS: usize = 3;
        for attempt in 1..=ATTEMPTS {
            if wanted.is_empty() {
                break;
            }
            wanted = self.attempt(wanted, attempt == ATTEMPTS, added);
        }
        pin::let_be_freed();
    }

    /// Returns those whose temporary names somebody has taken away, unless it is the last attempt.
    fn attempt<'a>(&self, wanted: Vec<Wanted<'a>>, last: bool, added: &mut Added) -> Vec<Wanted<'a>> {
        let count = wanted.len();
        let outcomes = if count < pin::WORTH_THREADS { self.one_by_one(wanted) } else { self.in_threads(wanted) };
        let outcomes = match outcomes {
            Ok(outcomes) => outcomes,
            Err(error) => {
                added.failed.push(error);
                return Vec::new();
            }
        };
        let not_tried = count - outcomes.len();
        let mut again = Vec::new();
        for outcome in outcomes {
            match outcome {
                Ok(name) => added.made.push(name.clone()),
                Err((error, Some(wanted))) if is_gone(&error) && !last => again.push(wanted),
                Err((error, _)) => added.failed.push(error),
            }
        }
        if not_tried > 0 {
            added.failed.push(NsError::NotTried { count: not_tried }.into());
        }
        again
    }

    fn one_by_one<'a>(&self, wanted: Vec<Wanted<'a>>) -> Result<Vec<Outcome<'a>>, Error> {
        let queue = Queue(Mutex::new(wanted.into_iter()));
        let pin_all = |maker: &Maker| {
            let mut all = Vec::new();
            self.pin_all(
                maker,
                &queue,
                || true,
                |pinned| {
                    all.push(pinned);
                    true
                },
            );
            all
        };
        let give_all = |behind: &Backstage, all: Vec<Result<Pinned<'a>, Error>>| {
            let own: Vec<&OsStr> = all.iter().flatten().map(|pinned| &*pinned.temporary.0).collect();
            for name in &own {
                behind.put_aside(name);
            }
            self.forget(behind, &own)?;
            Ok(self.publish(behind, &queue, all))
        };
        pin::behind(Path::new(NETNS_DIR), Scene::Dressed, pin_all, give_all)?
    }

    fn in_threads<'a>(&self, wanted: Vec<Wanted<'a>>) -> Result<Vec<Outcome<'a>>, Error> {
        let queue = Queue(Mutex::new(wanted.into_iter()));
        let is_ready = OnceLock::new();
        let (out, waiting) = sync_channel(AT_ONCE);
        let (queue, is_ready) = (&queue, &is_ready);
        let pin_all = move |maker: &Maker| {
            self.pin_all(maker, queue, || *is_ready.wait(), |pinned| out.send(pinned).is_ok());
        };
        let give_all = |behind: &Backstage, waiting: Receiver<_>| {
            // What is mounted from here on is not mounted behind.
            is_ready.set(true).ok();
            self.forget(behind, &[])?;
            Ok(self.publish(behind, queue, waiting))
        };
        let meanwhile = move || {
            let outcomes = pin::behind(Path::new(NETNS_DIR), Scene::Dressed, |_| waiting, give_all);
            let outcomes = outcomes.map_err(Error::from).and_then(|outcomes| outcomes);
            // Unless it is set already.
            is_ready.set(false).ok();
            if outcomes.is_err() {
                queue.give_up();
            }
            outcomes
        };
        pin::make_networks(pin_all, meanwhile).context(|| "make namespaces".to_owned())?
    }

    /// Makes namespaces, until there is nothing left to be done, and mounts them on files of other names.
    fn pin_all<'a>(
        &self,
        maker: &Maker,
        queue: &Queue<'a>,
        may_mount: impl Fn() -> bool,
        mut out: impl FnMut(Result<Pinned<'a>, Error>) -> bool,
    ) {
        while let Some(Wanted { name, network }) = queue.next() {
            let network = network.map_or_else(|| maker.make(), Ok);
            if !may_mount() {
                break;
            }
            let pinned = network
                .context(|| format!("make a namespace for `{name}`"))
                .and_then(|network| self.pin(network, name));
            if pinned.is_err() {
                // The limit that one has met, the others would meet too.
                queue.give_up();
            }
            if !out(pinned) {
                break;
            }
        }
    }

    fn pin<'a>(&self, network: OwnedFd, name: &'a NsName) -> Result<Pinned<'a>, Error> {
        let temporary = temporary();
        pin::pin(network.as_fd(), self.names.dir().as_fd(), &temporary)
            .context(|| format!("make a name in {NETNS_DIR}"))?;
        Ok(Pinned { network, name, temporary: Temporary(temporary) })
    }

    /// Gives each its name as soon as it waits for it; returns what has come of those that were tried.
    fn publish<'a>(
        &self,
        behind: &Backstage,
        queue: &Queue<'a>,
        waiting: impl IntoIterator<Item = Result<Pinned<'a>, Error>>,
    ) -> Vec<Outcome<'a>> {
        let mut outcomes = Vec::new();
        let mut has_met_limit = false;
        for one in waiting {
            match one {
                Ok(pinned) => outcomes.push(self.give_name(behind, pinned)),
                Err(error) if !std::mem::replace(&mut has_met_limit, true) => outcomes.push(Err((error, None))),
                // Of each thread, once.
                Err(_) => {}
            }
            // What the directory refuses one, it would refuse all.
            if let Some(Err((error @ (Error::Io { .. } | Error::System(_)), _))) = outcomes.last()
                && !is_gone(error)
            {
                queue.give_up();
            }
        }
        outcomes
    }

    /// Removes what killed ones have left, but for our own.
    fn forget(&self, behind: &Backstage, own: &[&OsStr]) -> Result<(), Error> {
        for name in self.names.temporary_names()?.into_iter().filter(|name| !own.contains(&name.as_os_str())) {
            let is_old = |bare: pin::Bare| age(bare.made) >= FORGOTTEN && bare.is_name;
            if behind.look(name.as_os_str()).is_ok_and(is_old) {
                // Another one has been faster, or the next one will be luckier.
                behind.remove(name.as_os_str()).ok();
            }
        }
        Ok(())
    }

    fn give_name<'a>(&self, behind: &Backstage, pinned: Pinned<'a>) -> Outcome<'a> {
        match self.take_name(behind, &pinned) {
            Ok(()) => {
                pinned.temporary.has_gone();
                Ok(pinned.name)
            }
            Err(error) => {
                // The first error is the one to tell.
                behind.remove(&pinned.temporary.0).ok();
                pinned.temporary.has_gone();
                Err((error, Some(Wanted { name: pinned.name, network: Some(pinned.network) })))
            }
        }
    }

    /// Gives what has the temporary name its own.
    fn take_name(&self, behind: &Backstage, pinned: &Pinned<'_>) -> Result<(), Error> {
        let name = pinned.name;
        let begun = Instant::now();
        let file: &OsStr = name.as_str().as_ref();
        let doing = || format!("name a namespace `{name}`");
        loop {
            match behind.rename(&pinned.temporary.0, file) {
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
        let Pinned { name, temporary: Temporary(temporary), .. } = pinned;
        let file: &OsStr = name.as_str().as_ref();
        let doing = || format!("replace the dead name `{name}`");
        // Of all who would, one at a time.
        let _lock = self.names.lock()?;
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

/// Has somebody taken the temporary name away?
fn is_gone(error: &Error) -> bool {
    matches!(error, Error::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
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
