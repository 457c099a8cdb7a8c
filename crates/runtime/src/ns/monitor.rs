//! Names that come and go.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, Instant};

use hopyard_kernel::watch::{Change, Watch};

use super::EntryName;
use super::directory::{Entry, Kind, Names};
use crate::error::{Error, IoContext};
use crate::netns_dir::{self, NETNS_DIR};

/// Something that happened to a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It leads to a namespace, which can be entered.
    Added(EntryName),
    /// It is gone.
    Deleted(EntryName),
    /// It has been there for a while and leads to no namespace.
    Dead(EntryName),
}

/// Watches the directory.
#[derive(Debug)]
pub struct Monitor {
    watch: Watch,
    /// What was told of names that are there: can they be entered?
    told: BTreeMap<EntryName, bool>,
    /// Those that are to be looked at, and since when.
    waiting: BTreeMap<EntryName, Instant>,
    events: VecDeque<Event>,
}

/// Nothing tells when `ip netns add` mounts a namespace on the file that it has made.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// So long a name may take to become a namespace.
const PATIENCE: Duration = Duration::from_secs(2);

impl Monitor {
    /// Begins to watch: what is there by now is no event.
    ///
    /// # Errors
    /// There is no directory and none can be made, or it cannot be watched.
    pub fn begin() -> Result<Self, Error> {
        let (watch, there) = begin()?;
        let told = there.into_iter().map(|name| (name, true)).collect();
        Ok(Monitor { watch, told, waiting: BTreeMap::new(), events: VecDeque::new() })
    }

    /// Waits for the next event.
    ///
    /// # Errors
    /// The directory cannot be watched or read any more.
    pub fn next_event(&mut self) -> Result<Event, Error> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            let timeout = (!self.waiting.is_empty()).then_some(LOOK_EVERY);
            let changes = self.watch.wait(timeout).context(|| format!("watch {NETNS_DIR}"))?;
            for change in changes {
                self.take_in(change)?;
            }
            self.look_at_waiting()?;
        }
    }

    fn take_in(&mut self, change: Change) -> Result<(), Error> {
        match change {
            Change::Came(name) => self.look_for(name, false),
            Change::Went(name) => self.look_for(name, true),
            Change::Unknown => {
                let there = Names::names()?;
                self.compare_with(there.into_iter().collect());
            }
            Change::Ended => {
                let (watch, there) = begin()?;
                self.watch = watch;
                self.compare_with(there);
            }
        }
        Ok(())
    }

    /// A file that goes may have left its name to another one.
    fn look_for(&mut self, name: OsString, went: bool) {
        // The kernel gives names of files.
        let Ok(name) = EntryName::new(name) else { return };
        if name.is_temporary() {
            return;
        }
        if went {
            self.go(&name);
        }
        self.waiting.insert(name, Instant::now());
    }

    fn go(&mut self, name: &EntryName) {
        if self.told.remove(name).is_some() {
            self.events.push_back(Event::Deleted(name.clone()));
        }
    }

    /// After a time of which nothing is known.
    fn compare_with(&mut self, there: BTreeSet<EntryName>) {
        let gone: Vec<EntryName> = self.told.keys().filter(|name| !there.contains(*name)).cloned().collect();
        for name in gone {
            self.go(&name);
        }
        for name in there.into_iter().filter(|name| !self.told.contains_key(name)) {
            self.waiting.entry(name).or_insert_with(Instant::now);
        }
    }

    fn look_at_waiting(&mut self) -> Result<(), Error> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let names = Names::open()?;
        for (name, since) in std::mem::take(&mut self.waiting) {
            let found = names.as_ref().map(|names| names.find(&name)).transpose()?.flatten();
            match found {
                // Its going has been told, or it was never told of.
                None => {}
                // What another user's process holds, a lab's keeper say, may be closed to the caller, and lives.
                Some(Entry { kind: Kind::Node { .. } | Kind::Link { .. }, .. }) => self.tell(name, true),
                Some(entry) if entry.network.is_some() => self.tell(name, true),
                Some(_) if since.elapsed() < PATIENCE => drop(self.waiting.insert(name, since)),
                Some(_) => self.tell(name, false),
            }
        }
        Ok(())
    }

    fn tell(&mut self, name: EntryName, alive: bool) {
        if self.told.insert(name.clone(), alive) != Some(alive) {
            self.events.push_back(if alive { Event::Added(name) } else { Event::Dead(name) });
        }
    }
}

fn begin() -> Result<(Watch, BTreeSet<EntryName>), Error> {
    if !Path::new(NETNS_DIR).exists() {
        // An ordinary user cannot, and is told so below.
        netns_dir::make().ok();
    }
    let watch = Watch::on(Path::new(NETNS_DIR)).context(|| format!("watch {NETNS_DIR}"))?;
    let names = Names::names()?;
    Ok((watch, names.into_iter().collect()))
}
