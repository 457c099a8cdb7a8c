//! What names there are, and what lives behind them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::SystemTime;

use hopyard_kernel::holders::{Holder, NamespaceId, holders_of, networks_of, processes_in};
use hopyard_kernel::{Inside, look_inside, rights};

use super::directory::{Entry, Kind, Names};
use super::{EntryName, NsError};
use crate::error::{Error, IoContext};
use crate::netns_dir::NETNS_DIR;

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
    /// How many processes have a thread in it; `None`: the caller sees none, and does not see all.
    pub processes: Option<usize>,
    /// When it was made.
    pub made: SystemTime,
    /// What holds it besides this name, as far as the caller may see it; empty, unless it was asked for.
    pub holders: Vec<Holder>,
}

/// All names; with what holds their namespaces, which is a long way through /proc, or without.
///
/// # Errors
/// The directory or /proc cannot be read.
pub fn list(with_holders: bool) -> Result<Vec<Listed>, Error> {
    let mut listed: Vec<Listed> = Vec::new();
    let mut ids: Vec<Option<NamespaceId>> = Vec::new();
    Names::visit(|entries| {
        let mut insides = inside_of(&entries)?;
        for (at, entry) in entries.into_iter().enumerate() {
            let id = entry.id();
            ids.push(id);
            listed.push(Listed {
                inside: insides.remove(&at),
                inode: id.map(NamespaceId::inode),
                name: entry.name,
                kind: entry.kind,
                made: entry.made,
                processes: None,
                holders: Vec::new(),
            });
        }
        Ok(())
    })?;
    let wanted: BTreeSet<NamespaceId> = ids.iter().flatten().copied().collect();
    let processes = if wanted.is_empty() {
        BTreeMap::new()
    } else {
        processes_in(&wanted).context(|| "look for processes".to_owned())?
    };
    let mut holders = if with_holders && !wanted.is_empty() {
        holders_of(&wanted).context(|| "look for what holds the namespaces".to_owned())?
    } else {
        BTreeMap::new()
    };
    // Where a mount of it shows, if it is a link.
    let dir = fs::canonicalize(NETNS_DIR).unwrap_or_else(|_| NETNS_DIR.into());
    for holders in holders.values_mut() {
        holders.retain(|holder| !is_name_in(holder, &dir));
    }
    for (one, id) in listed.iter_mut().zip(ids) {
        let seen = id.and_then(|id| processes.get(&id)).map_or(0, BTreeSet::len);
        let sees_all = match one.kind {
            Kind::Dead | Kind::Foreign(_) => true,
            Kind::Mount | Kind::Node { .. } | Kind::Link { .. } => id.is_some() && rights::is_privileged(),
        };
        one.processes = Some(seen).filter(|seen| sees_all || *seen > 0);
        let Some(id) = id else { continue };
        one.holders = holders.get(&id).cloned().unwrap_or_default();
    }
    Ok(listed)
}

/// Is it a mount that a name is made of, in whichever mount namespace?
fn is_name_in(holder: &Holder, dir: &Path) -> bool {
    matches!(holder, Holder::Mount { path, .. } if path.parent() == Some(dir))
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
    let names = Names::ids()?.into_iter();
    Ok(names.filter(|(_, id)| networks.contains(id)).map(|(name, _)| name).collect())
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
