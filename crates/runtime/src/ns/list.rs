//! What names there are, and what lives behind them.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd;
use std::time::SystemTime;

use hopyard_kernel::holders::{NamespaceId, networks_of, processes_in};
use hopyard_kernel::{Inside, look_inside, rights};

use super::directory::{Entry, Kind, Names};
use super::{EntryName, NsError};
use crate::error::{Error, IoContext};

/// A name, and what is behind it.
#[derive(Debug)]
pub struct Listed {
    /// The name.
    pub name: EntryName,
    /// What it is.
    pub kind: Kind,
    /// The number that `ls -l /proc/PID/ns` shows; `None`: it leads to no namespace that can be opened.
    pub inode: Option<u64>,
    /// What is in it; `None`: the caller may not enter it.
    pub inside: Option<Inside>,
    /// How many processes have a thread in it, of those that the caller may see.
    pub processes: usize,
    /// When it was made.
    pub made: Option<SystemTime>,
}

/// All names.
///
/// # Errors
/// The directory or /proc cannot be read.
pub fn list() -> Result<Vec<Listed>, Error> {
    let entries = Names::open()?.map_or_else(|| Ok(Vec::new()), |names| names.entries())?;
    let id_of = |entry: &Entry| entry.network.as_ref().and_then(|network| NamespaceId::of(network.as_fd()).ok());
    let ids: Vec<Option<NamespaceId>> = entries.iter().map(id_of).collect();
    let mut insides = inside_of(&entries)?;
    let wanted: BTreeSet<NamespaceId> = ids.iter().flatten().copied().collect();
    let processes = if wanted.is_empty() {
        BTreeMap::new()
    } else {
        processes_in(&wanted).context(|| "look for processes".to_owned())?
    };
    let listed = entries.into_iter().zip(ids).enumerate().map(|(at, (entry, id))| Listed {
        inside: insides.remove(&at),
        processes: id.and_then(|id| processes.get(&id)).map_or(0, BTreeSet::len),
        inode: id.map(NamespaceId::inode),
        name: entry.name,
        kind: entry.kind,
        made: entry.made,
    });
    Ok(listed.collect())
}

/// By the place of the entry; those that can be entered.
fn inside_of(entries: &[Entry]) -> Result<BTreeMap<usize, Inside>, Error> {
    if !rights::is_privileged() {
        return Ok(BTreeMap::new());
    }
    let open: Vec<_> =
        entries.iter().enumerate().filter_map(|(at, entry)| Some((at, entry.network.as_ref()?.as_fd()))).collect();
    let networks: Vec<_> = open.iter().map(|(_, network)| *network).collect();
    let found = look_inside(&networks).context(|| "look into the namespaces".to_owned())?;
    // One that belongs to a user namespace of somebody else cannot be entered, by its owner's root only.
    Ok(open.into_iter().zip(found).filter_map(|((at, _), inside)| Some((at, inside.ok()?))).collect())
}

/// The names of the namespaces that a process, with all its threads, is in.
///
/// # Errors
/// [`NsError::NoProcess`].
pub fn identify(pid: i32) -> Result<Vec<EntryName>, Error> {
    let networks = networks_of(pid).map_err(|_| NsError::NoProcess { pid })?;
    let entries = Names::open()?.map_or_else(|| Ok(Vec::new()), |names| names.entries())?;
    let is_one = |entry: &Entry| {
        let id = entry.network.as_ref().and_then(|network| NamespaceId::of(network.as_fd()).ok());
        id.is_some_and(|id| networks.contains(&id))
    };
    Ok(entries.into_iter().filter(is_one).map(|entry| entry.name).collect())
}

/// The processes with a thread in a namespace, as far as the caller may see them.
///
/// # Errors
/// There is no such namespace, or /proc cannot be read.
pub fn pids(name: &EntryName) -> Result<BTreeSet<i32>, Error> {
    let network = Names::open_existing(name)?.network(name)?;
    let doing = || "look for processes".to_owned();
    let id = NamespaceId::of(network.as_fd()).context(doing)?;
    Ok(processes_in(&BTreeSet::from([id])).context(doing)?.remove(&id).unwrap_or_default())
}
