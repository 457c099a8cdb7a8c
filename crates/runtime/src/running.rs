//! A lab that runs, as any later process finds it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use hopyard_kernel::{Entry, Identity, Process, Realm, World, keeper};
use hopyard_model::LabName;
use hopyard_net::{Family, NetState, NsName};

use crate::error::{Error, IoContext};
use crate::home::Home;
use crate::lent::{LENT, Loans};
use crate::record::{Contents, Held, KeeperId, Record, Stage};
use crate::uplink;

/// A running lab.
#[derive(Debug)]
pub struct Running {
    dir: PathBuf,
    record: Record,
    /// Read when they are asked for.
    contents: OnceLock<Contents>,
    keeper: Process,
    realm: Realm,
}

impl Running {
    /// Finds a running lab by name.
    ///
    /// # Errors
    /// [`Error::NotRunning`], or its record cannot be read.
    pub fn find(home: &Home, name: &LabName) -> Result<Self, Error> {
        Self::look_for(home, name)?.ok_or_else(|| Error::NotRunning { name: name.clone() })
    }

    /// All running labs, by name; and why others, whose records cannot be read, are not among them.
    ///
    /// # Errors
    /// The directory of records cannot be read.
    pub fn all(home: &Home) -> Result<(Vec<Self>, Vec<Error>), Error> {
        let (mut labs, mut unreadable) = (Vec::new(), Vec::new());
        for name in home.lab_names()? {
            match Self::look_for(home, &name) {
                Ok(lab) => labs.extend(lab),
                Err(error) => unreadable.push(error),
            }
        }
        Ok((labs, unreadable))
    }

    /// The labs of which only remains are left, by name: the keeper has ended, and nobody has taken them down. What
    /// they had in the kernel ended with it; their names in `/run/netns` and their records are there.
    ///
    /// # Errors
    /// The directory of records cannot be read.
    pub fn remains(home: &Home) -> Result<Vec<LabName>, Error> {
        let mut names = home.lab_names()?;
        names.retain(|name| {
            // As long as a lab is brought up or taken down its directory is held; and a record that cannot be read
            // may be that of a lab that runs.
            let is_running = || Self::look_for(home, name).map_or(true, |lab| lab.is_some());
            let Ok(Some(dir)) = home.lock_idle(name).map(|dir| dir.filter(|_| !is_running())) else { return false };
            match Record::read(dir.path()) {
                // A keeper whose starter died puts its things away itself.
                Ok(Some(record)) => record.keeper.is_none_or(|keeper| matches!(keeper.find_alive(), Ok(None))),
                // But for this one.
                Ok(None) => dir.path().join(LENT).exists(),
                Err(_) => false,
            }
        });
        Ok(names)
    }

    fn look_for(home: &Home, name: &LabName) -> Result<Option<Self>, Error> {
        let dir = home.dir_of(name);
        let Some(record) = Record::read(&dir)? else { return Ok(None) };
        if record.stage == Stage::Starting {
            return Ok(None);
        }
        let Some(keeper) = record.keeper.map(KeeperId::find_alive).transpose()?.flatten() else {
            return Ok(None);
        };
        match Self::new(dir, record, keeper) {
            Err(Error::NotRunning { .. }) => Ok(None),
            lab => lab.map(Some),
        }
    }

    pub(crate) fn new(dir: PathBuf, record: Record, keeper: Process) -> Result<Self, Error> {
        let realm =
            keeper::realm_of(&keeper).map_err(|failure| or_not_running(&keeper, &record.name, failure.into()))?;
        Ok(Running { dir, record, contents: OnceLock::new(), keeper, realm })
    }

    /// Where its records are.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its record.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// What it is, as it was last brought up.
    ///
    /// # Errors
    /// It went down meanwhile.
    pub fn contents(&self) -> Result<&Contents, Error> {
        match self.contents.get() {
            Some(contents) => Ok(contents),
            None => Contents::read(&self.dir).map(|contents| self.contents.get_or_init(|| contents)),
        }
    }

    /// Its name.
    pub fn name(&self) -> &LabName {
        &self.record.name
    }

    /// The process that it lives in.
    pub fn keeper(&self) -> &Process {
        &self.keeper
    }

    /// The rights by which its namespaces can be entered.
    pub fn realm(&self) -> &Realm {
        &self.realm
    }

    /// The namespace of a node or switch.
    ///
    /// # Errors
    /// [`Error::NoSuchNode`], or the lab went down meanwhile.
    pub fn namespace(&self, node: &str) -> Result<OwnedFd, Error> {
        match Held::find(&self.dir, node)? {
            Some(number) => self.open_held(node, number),
            None => Err(self.no_such_node(node)),
        }
    }

    /// The error for a name that is no node of the lab.
    pub fn no_such_node(&self, node: &str) -> Error {
        let nodes: Vec<NsName> = Held::read(&self.dir)
            .map(|held| held.nodes.into_iter().map(|(name, _)| name).collect())
            .unwrap_or_default();
        let lab = self.name().clone();
        // What has a namespace and is no node.
        if nodes.iter().any(|name| name.as_str() == node) {
            return Error::IsSwitch { lab, switch: node.to_owned() };
        }
        Error::NoSuchNode { lab, node: node.to_owned(), nodes }
    }

    fn open_held(&self, node: &str, number: u32) -> Result<OwnedFd, Error> {
        let path = format!("/proc/{}/fd/{number}", self.keeper.pid());
        let opened = std::fs::File::open(&path).context(|| format!("open the namespace of {node}, {path}"));
        opened.map(OwnedFd::from).map_err(|error| or_not_running(&self.keeper, self.name(), error))
    }

    /// All its namespaces, by name.
    ///
    /// # Errors
    /// The lab went down meanwhile, or there is no room for so many descriptors.
    pub fn namespaces(&self) -> Result<Vec<(NsName, OwnedFd)>, Error> {
        let held = Held::read(&self.dir)?;
        held.nodes
            .into_iter()
            .map(|(name, number)| Ok((name.clone(), self.open_held(name.as_str(), number)?)))
            .collect()
    }

    /// All its namespaces, open for questions and changes.
    ///
    /// # Errors
    /// As [`namespaces`](Self::namespaces).
    pub fn world(&self) -> Result<World, Error> {
        // Each costs a second descriptor until it is taken in; a few at a time, a lab of 10 000 nodes
        // fits where it could be made.
        const AT_ONCE: usize = 500;
        keeper::raise_descriptor_limit();
        let mut world = World::new(self.realm.clone());
        for nodes in Held::read(&self.dir)?.nodes.chunks(AT_ONCE) {
            let open = |(name, number): &(NsName, u32)| Ok((name.clone(), self.open_held(name.as_str(), *number)?));
            world.adopt_all(nodes.iter().map(open).collect::<Result<_, Error>>()?)?;
        }
        Ok(world)
    }

    /// One of its namespaces, open for questions and changes.
    ///
    /// # Errors
    /// As [`namespace`](Self::namespace).
    pub fn world_of(&self, node: &str) -> Result<World, Error> {
        let namespace = self.namespace(node)?;
        let name = node.parse().map_err(|_| self.no_such_node(node))?;
        let mut world = World::new(self.realm.clone());
        world.adopt(name, namespace)?;
        Ok(world)
    }

    /// What the lab looks like now, as far as it can be compared with what is wanted.
    ///
    /// # Errors
    /// Those of netlink.
    pub fn observe(&self, world: &mut World, wanted: &NetState) -> Result<NetState, Error> {
        Ok(self.observe_all(world, wanted)?.0)
    }

    /// The same, and the ways out of the lab.
    pub(crate) fn observe_all(&self, world: &mut World, wanted: &NetState) -> Result<(NetState, uplink::Found), Error> {
        let sysctls: BTreeMap<_, _> = wanted
            .namespaces
            .iter()
            .filter(|(_, state)| !state.sysctls.is_empty())
            .map(|(name, state)| (name.clone(), state.sysctls.keys().cloned().collect()))
            .collect();
        let mut found = world.observe(&sysctls)?;
        Loans::read(&self.dir)?.mark(&mut found, wanted, world)?;
        let uplinks = uplink::strip(&mut found, wanted);
        Ok((found, uplinks))
    }

    /// The node of that name.
    ///
    /// # Errors
    /// [`Error::NoSuchNode`], [`Error::IsSwitch`].
    pub fn node(&self, name: &str) -> Result<NsName, Error> {
        let found = self.contents()?.hosts.iter().find(|(node, _)| node.as_str() == name);
        found.map(|(node, _)| node.clone()).ok_or_else(|| self.no_such_node(name))
    }

    /// The main address of a node in each family in which it has one, IPv4 first.
    ///
    /// # Errors
    /// [`Error::NoSuchNode`], [`Error::IsSwitch`].
    pub fn main_addresses(&self, node: &str) -> Result<Vec<IpAddr>, Error> {
        let found = self.contents()?.hosts.iter().find(|(name, _)| name.as_str() == node);
        found.map(|(_, addresses)| first_of_each_family(addresses)).ok_or_else(|| self.no_such_node(node))
    }

    /// The main addresses of all nodes.
    ///
    /// # Errors
    /// It went down meanwhile.
    pub fn all_main_addresses(&self) -> Result<BTreeMap<NsName, Vec<IpAddr>>, Error> {
        let hosts = &self.contents()?.hosts;
        Ok(hosts.iter().map(|(name, addresses)| (name.clone(), first_of_each_family(addresses))).collect())
    }

    /// The node that an address was given to.
    pub fn owner_of(&self, address: IpAddr) -> Option<&NsName> {
        let hosts = &self.contents().ok()?.hosts;
        hosts.iter().find(|(_, addresses)| addresses.contains(&address)).map(|(name, _)| name)
    }

    /// The node that a node means by an address: itself if it was given to it, or is of the loopback.
    pub fn owner_for(&self, from: &NsName, address: IpAddr) -> Option<NsName> {
        let hosts = &self.contents().ok()?.hosts;
        let itself = address.is_loopback() || hosts.iter().any(|(name, own)| name == from && own.contains(&address));
        if itself { Some(from.clone()) } else { self.owner_of(address).cloned() }
    }

    /// What a process needs to run in a node.
    ///
    /// # Errors
    /// As [`namespace`](Self::namespace).
    pub fn entry(&self, node: &str, cwd: PathBuf, identity: Option<Identity>) -> Result<Entry, Error> {
        let keeper = Process::open(self.keeper.pid()).context(|| "take hold of the lab's keeper".to_owned())?;
        Ok(Entry {
            keeper,
            user_namespace: self.realm.user_namespace().is_some(),
            net: self.namespace(node)?,
            host_name: node.to_owned(),
            cwd,
            identity,
        })
    }
}

/// The reason why a lab could not be looked at, if that is not simply that it has just been taken down.
fn or_not_running(keeper: &Process, name: &LabName, error: Error) -> Error {
    if keeper.is_ending().unwrap_or(false) { Error::NotRunning { name: name.clone() } } else { error }
}

pub(crate) fn first_of_each_family(addresses: &[IpAddr]) -> Vec<IpAddr> {
    Family::BOTH
        .into_iter()
        .filter_map(|family| addresses.iter().copied().find(|addr| Family::of(*addr) == family))
        .collect()
}
