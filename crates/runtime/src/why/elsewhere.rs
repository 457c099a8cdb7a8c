//! Namespaces that are no lab's: those that were named, and all that cables lead to from there.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::str::FromStr;

use hopyard_explain::{Packet, Query, Reason, Verdict};
use hopyard_kernel::holders::NamespaceId;
use hopyard_kernel::{Errno, KernelError, Realm, SnapshotScope, World, pin};
use hopyard_net::{NsName, Snapshot};

use super::recorded::read_all;
use super::{Fixed, Prepared, Report, Sending, fix, look_into, question};
use crate::error::{Error, IoContext};
use crate::ns::{EntryName, Names, NsError};

/// A namespace, as a person names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// `host`: the one in which this program runs.
    Host,
    /// A name in /run/netns, as ip-netns(8) gives it.
    Named(EntryName),
    /// `pid:1234`: that of a process, for example of a container.
    Process(i32),
    /// The path of a file of nsfs: `/proc/1234/ns/net`, `/run/docker/netns/default`.
    Path(PathBuf),
}

impl FromStr for Place {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text == "host" {
            return Ok(Place::Host);
        }
        if let Some(pid) = text.strip_prefix("pid:") {
            let wrong = || NsError::BadName { name: text.to_owned(), why: "`pid:` wants the number of a process" };
            return Ok(Place::Process(pid.parse().ok().filter(|pid| *pid > 0).ok_or_else(wrong)?));
        }
        if text.contains('/') {
            return Ok(Place::Path(text.into()));
        }
        Ok(Place::Named(EntryName::new(text)?))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Host => f.write_str("host"),
            Place::Named(name) => name.fmt(f),
            Place::Process(pid) => write!(f, "pid:{pid}"),
            Place::Path(path) => path.display().fmt(f),
        }
    }
}

/// May a packet be sent?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probing {
    /// No.
    Never,
    /// If it goes from one namespace that is known to another, and does not come from the machine's own network.
    Inside,
    /// Yes.
    Always,
}

/// Namespaces, and what they are called here.
#[derive(Debug)]
pub struct Elsewhere {
    world: World,
    places: BTreeMap<NsName, Place>,
    /// Namespaces that a cable leads to, and that may not be entered.
    closed: usize,
}

/// A namespace that may be next.
struct Candidate {
    place: Place,
    network: OwnedFd,
    id: NamespaceId,
}

impl Elsewhere {
    /// Opens the namespaces, and all that can be reached from there by cables; returns what those that were
    /// named are called.
    ///
    /// # Errors
    /// One of them is not there, or may not be entered. What may not be entered of the others is left out.
    pub fn around(named: &[Place]) -> Result<(Self, Vec<NsName>), Error> {
        let mut candidates = candidates()?;
        let networks = named.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        let realm = networks.first().map_or(Ok(Realm::host()), |network| Realm::for_network(network.as_fd()));
        let world = World::new(realm.context(|| "look at the namespaces".to_owned())?);
        let mut found = Elsewhere { world, places: BTreeMap::new(), closed: 0 };
        let mut names = Vec::new();
        let mut known: BTreeMap<NamespaceId, NsName> = BTreeMap::new();
        let mut todo = Vec::new();
        for (place, network) in named.iter().zip(networks) {
            let id = NamespaceId::of(network.as_fd()).context(|| format!("look at {place}"))?;
            if let Some(name) = known.get(&id) {
                names.push(name.clone());
                continue;
            }
            // One that is known by a better name is called so.
            let at = candidates.iter().position(|candidate| candidate.id == id);
            let better = at.map(|at| candidates.remove(at).place);
            let better = better.filter(|better| !matches!(better, Place::Process(_)));
            let name = found.adopt(better.unwrap_or_else(|| place.clone()), network)?;
            known.insert(id, name.clone());
            todo.push(name.clone());
            names.push(name);
        }
        while let Some(name) = todo.pop() {
            let fds: Vec<_> = candidates.iter().map(|candidate| candidate.network.as_fd()).collect();
            let mut beside = found.world.beside(&name, &fds)?;
            beside.sort_unstable();
            // From behind, so that the places of the others stay.
            for at in beside.into_iter().rev() {
                let Candidate { place, network, id } = candidates.remove(at);
                match found.adopt(place, network) {
                    Ok(name) => {
                        known.insert(id, name.clone());
                        todo.push(name);
                    }
                    Err(Error::Kernel(error)) if is_refused(&error) => found.closed += 1,
                    Err(error) => return Err(error),
                }
            }
        }
        Ok((found, names))
    }

    /// What each namespace is, by what it is called here.
    pub fn places(&self) -> &BTreeMap<NsName, Place> {
        &self.places
    }

    pub(crate) fn world(&self) -> &World {
        &self.world
    }

    /// How many namespaces cables lead to that may not be entered; they count as unknown.
    pub fn closed(&self) -> usize {
        self.closed
    }

    /// All of it as it is now, but for who listens.
    ///
    /// # Errors
    /// A namespace cannot be read.
    pub fn read(&self) -> Result<Snapshot, Error> {
        Ok(self.world.snapshot(&SnapshotScope::default())?)
    }

    /// All of it as it is now.
    ///
    /// # Errors
    /// A namespace cannot be read.
    pub fn snapshot(&self) -> Result<Snapshot, Error> {
        read_all(&self.world)
    }

    /// Looks into it, as [`why`](super::why) does for a lab. `snapshot` is what [`read`](Self::read) has read.
    /// `probing`: where a packet may go that `sending` says is sent.
    ///
    /// # Errors
    /// A namespace cannot be read, or no packet sent.
    pub fn why(
        &mut self,
        snapshot: Snapshot,
        from: &NsName,
        packet: Packet,
        wanted: Option<NsName>,
        probing: Probing,
        sending: Sending,
    ) -> Result<Report, Error> {
        let inside = self.places.get(from) != Some(&Place::Host) && wanted.is_some();
        let query = question(from.clone(), packet, wanted);
        let may = match probing {
            Probing::Never => false,
            Probing::Inside => inside,
            Probing::Always => true,
        };
        let prepared = sending.prepare(&query.packet).filter(|_| may);
        let probe = |verdict: &Verdict| prepared.filter(|_| probing == Probing::Always || !leaves(verdict));
        look_into(&mut self.world, snapshot, query, probe)
    }

    /// Makes the changes that a report names, asks again with a packet, and takes them back if that is not
    /// answered. The machine's own network is not changed.
    ///
    /// # Errors
    /// A change was refused; those before it are taken back.
    pub fn fix(&mut self, report: &Report) -> Result<Fixed, Error> {
        let edits = report.repair.iter().flat_map(hopyard_explain::Repair::edits);
        let of_host = edits.enumerate().find(|(_, edit)| self.places.get(edit.node()) == Some(&Place::Host));
        if let Some((at, _)) = of_host {
            return Ok(Fixed::OfHost(at + 1));
        }
        fix::make(&mut self.world, report, |world| {
            let Query { from, packet, wanted } = report.query.clone();
            let query = question(from, Packet { src: None, ..packet }, wanted);
            let prepared = Prepared::start(&query.packet, true);
            let snapshot = world.snapshot(&SnapshotScope::default())?;
            look_into(world, snapshot, query, |_| Some(prepared))
        })
    }

    /// Takes in a namespace under a name that no other has.
    fn adopt(&mut self, place: Place, network: OwnedFd) -> Result<NsName, Error> {
        let text = match &place {
            Place::Host => "host".to_owned(),
            Place::Named(name) => name.to_string(),
            Place::Process(pid) => format!("pid-{pid}"),
            Place::Path(path) => path.file_name().unwrap_or_default().display().to_string(),
        };
        let name = free_name(&text, |name| self.places.contains_key(name))?;
        self.world.adopt(name.clone(), network)?;
        self.places.insert(name.clone(), place);
        Ok(name)
    }
}

/// Does the packet, or its answer, end where nobody can see it?
fn leaves(verdict: &Verdict) -> bool {
    let walks = std::iter::once(&verdict.there).chain(&verdict.back);
    walks.into_iter().any(|walk| matches!(walk.reason(), Some(Reason::LeavesKnown { .. })))
}

/// The name nearest to a text that a node can have and no other has.
fn free_name(text: &str, taken: impl Fn(&NsName) -> bool) -> Result<NsName, Error> {
    let fit = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-') { c } else { '-' };
    let cleaned: String = text.chars().map(fit).take(NsName::MAX_LEN - 16).collect();
    let candidates = [text.to_owned(), cleaned.clone(), format!("ns-{cleaned}")].into_iter();
    let mut numbered = candidates.chain((2..).map(|number| format!("ns-{cleaned}.{number}")));
    let free = numbered.find_map(|text| text.parse::<NsName>().ok().filter(|name| !taken(name)));
    free.ok_or_else(|| NsError::BadName { name: text.to_owned(), why: "no name of a node comes of it" }.into())
}

/// Is it that the caller may not enter?
fn is_refused(error: &KernelError) -> bool {
    matches!(error.errno(), Errno::PERM | Errno::ACCES)
}

fn open(place: &Place) -> Result<OwnedFd, Error> {
    match place {
        Place::Host => pin::own_network().context(|| "open the own network namespace".to_owned()),
        Place::Named(name) => Names::open_existing(name)?.network(name),
        Place::Process(pid) => match pin::network_of(*pid) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(NsError::NoProcess { pid: *pid }.into()),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(NsError::Closed { pid: *pid }.into()),
            opened => opened.context(|| format!("open the network namespace of process {pid}")),
        },
        Place::Path(path) => {
            let doing = || format!("open {}", path.display());
            let file = File::open(path).context(doing)?;
            let network = OwnedFd::from(file);
            if pin::is_network(network.as_fd()).context(doing)? {
                return Ok(network);
            }
            let name = path.display().to_string();
            Err(NsError::BadName { name, why: "that is no file of a network namespace" }.into())
        }
    }
}

/// All namespaces that can be seen from here, each once, by the name that says most of it.
fn candidates() -> Result<Vec<Candidate>, Error> {
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    let mut add = |place: Place, network: OwnedFd| {
        let Ok(id) = NamespaceId::of(network.as_fd()) else { return };
        if seen.insert(id) {
            found.push(Candidate { place, network, id });
        }
    };
    add(Place::Host, open(&Place::Host)?);
    for (name, network) in Names::open_all()? {
        add(Place::Named(name), network);
    }
    for (pid, network) in hopyard_kernel::holders::networks_of_all().context(|| "look for processes".to_owned())? {
        add(Place::Process(pid), network);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_name_a_process_a_path_or_the_host() {
        assert_eq!("host".parse::<Place>().unwrap(), Place::Host);
        assert_eq!("pid:12".parse::<Place>().unwrap(), Place::Process(12));
        assert_eq!("./host".parse::<Place>().unwrap(), Place::Path("./host".into()));
        assert_eq!("a b".parse::<Place>().unwrap(), Place::Named(EntryName::new("a b").unwrap()));
        for bad in ["", "pid:", "pid:0", "pid:-1", "pid:x", "."] {
            assert!(bad.parse::<Place>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn every_namespace_gets_a_name_of_its_own() {
        let name =
            |text: &str, taken: &[&str]| free_name(text, |name| taken.contains(&name.as_str())).unwrap().to_string();
        assert_eq!(name("web", &[]), "web");
        assert_eq!(name("web", &["web"]), "ns-web");
        assert_eq!(name("web", &["web", "ns-web"]), "ns-web.2");
        assert_eq!(name("a b\n", &[]), "a-b-");
        assert_eq!(name("123", &[]), "ns-123");
        assert_eq!(name("10.0.0.1", &[]), "ns-10.0.0.1");
        assert_eq!(name("", &[]), "ns-");
        assert!(name(&"é".repeat(255), &[]).starts_with("ns---"));
    }
}
