//! Taking names away.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use hopyard_kernel::holders::{Holder, NamespaceId, holders_of};
use hopyard_kernel::pin::{self, Backstage, Scene};
use hopyard_kernel::{Realm, Trace, cleanup};

use super::directory::{AT_ONCE, Entry, Kind, Names, not_found, of_lab};
use super::moving::{Moved, Returns, all_inside, lock_to_delete, what_is_inside};
use super::name::temporary;
use super::{EntryName, NsError, require_rights};
use crate::error::{Error, IoContext};
use crate::netns_dir::NETNS_DIR;

/// What [`delete`] did.
#[derive(Debug, Default)]
pub struct Deleted {
    /// The names that are gone.
    pub gone: Vec<EntryName>,
    /// Why others are not.
    pub failed: Vec<Error>,
    /// The interfaces that were brought back from where they had been moved to.
    pub returned: Vec<Moved>,
    /// The namespaces that had names, and what may keep them alive.
    pub remains: Remains,
}

/// Namespaces without a name.
#[derive(Debug, Default)]
pub struct Remains {
    spaces: BTreeMap<NamespaceId, Remnant>,
}

#[derive(Debug)]
struct Remnant {
    name: EntryName,
    /// Where the kernel has such.
    trace: Option<Trace>,
}

impl Remnant {
    fn has_ended(&self) -> Option<bool> {
        self.trace.as_ref().and_then(Trace::has_ended)
    }
}

/// How long the kernel may take to let go of what we had open in a namespace, before what else holds it is looked
/// for, and before it is said that something does.
const SHORTLY: Duration = Duration::from_millis(3);
const AT_LAST: Duration = Duration::from_millis(500);
const SETTLE_EVERY: Duration = Duration::from_micros(200);

/// How often it is looked whether a namespace is still held: nothing tells.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Takes names away, each with all that is mounted on it, in one step. A namespace ends when nothing holds
/// it any more. A name that cannot be taken away does not keep the others from going.
///
/// # Errors
/// The rights are missing; then nothing is done.
pub fn delete(names: &[EntryName]) -> Result<Deleted, Error> {
    require_rights("delete a namespace")?;
    let mut deleted = Deleted::default();
    let Some(directory) = Names::open()? else {
        deleted.failed.extend(names.iter().map(not_found));
        return Ok(deleted);
    };
    // First of all, while every namespace that something came from is still there.
    let staying = bring_back(&directory, names, names, &mut deleted)?;
    let going: Vec<&EntryName> = names.iter().filter(|name| !staying.contains(*name)).collect();
    let done = going.chunks(AT_ONCE).try_for_each(|chunk| delete_some(&directory, chunk, names, &mut deleted));
    pin::let_be_freed();
    done.map(|()| deleted)
}

/// Brings interfaces back from what is about to be deleted, of all that is; returns the names that have to stay because
/// an interface cannot leave.
fn bring_back(
    directory: &Names,
    names: &[EntryName],
    all: &[EntryName],
    deleted: &mut Deleted,
) -> Result<BTreeSet<EntryName>, Error> {
    let mut staying = BTreeSet::new();
    let Some(returns) = Returns::read()? else { return Ok(staying) };
    // Each is open for so long.
    for names in names.chunks(AT_ONCE) {
        // What cannot be looked at is told of when it is to be deleted.
        let found = |name| directory.find(name).ok().flatten().filter(|entry| check(entry).is_ok());
        let entries: Vec<Entry> = names.iter().filter_map(found).collect();
        let inside = if returns.are_unfinished() { all_inside(&entries)? } else { what_is_inside(&entries)? };
        for (entry, inside) in inside {
            if !returns.concern(&inside) || !is_last_name(entry, all)? {
                continue;
            }
            // What is on its way there is on record when it is there.
            let lock = entry.network.as_ref().map(|network| lock_to_delete(network, &entry.name)).transpose();
            let bring_back = |_lock| match Returns::read()? {
                Some(mut returns) => returns.bring_back(entry, &inside),
                None => Ok(Vec::new()),
            };
            match lock.and_then(bring_back) {
                Ok(returned) => deleted.returned.extend(returned),
                Err(error) => {
                    deleted.failed.push(error);
                    staying.insert(entry.name.clone());
                }
            }
        }
    }
    Ok(staying)
}

/// Does no other name lead to the namespace, but for those that are to go as well?
fn is_last_name(entry: &Entry, going: &[EntryName]) -> Result<bool, Error> {
    let wanted = entry.id();
    Ok(!Names::ids()?.iter().any(|(name, id)| Some(*id) == wanted && !going.contains(name)))
}

/// What is no name, and what is a lab's, is left alone.
fn check(entry: &Entry) -> Result<(), Error> {
    match entry.kind {
        Kind::Mount | Kind::Link { .. } | Kind::Dead => Ok(()),
        Kind::Node { keeper } => Err(of_lab(&entry.name, keeper)),
        Kind::Foreign(what) => Err(NsError::Foreign { name: entry.name.clone(), what }.into()),
    }
}

fn delete_some(directory: &Names, names: &[&EntryName], all: &[EntryName], deleted: &mut Deleted) -> Result<(), Error> {
    let mut going = Vec::new();
    let mut locks = Vec::new();
    for &name in names {
        let entry = directory.find(name).and_then(|entry| entry.ok_or_else(|| not_found(name)));
        let going_one = entry.and_then(|entry| {
            check(&entry)?;
            locks.extend(entry.network.as_ref().map(|network| lock_to_delete(network, name)).transpose()?);
            let remember = |network: &OwnedFd| Ok((NamespaceId::of(network.as_fd())?, Trace::of(network.as_fd())));
            let space = entry.network.as_ref().map(remember).transpose();
            Ok((name, space.context(|| format!("delete the name `{name}`"))?))
        });
        match going_one {
            Ok(one) => going.push(one),
            Err(error) => deleted.failed.push(error),
        }
    }
    if going.is_empty() {
        return Ok(());
    }
    // What was being moved there when it was looked for.
    let names: Vec<EntryName> = going.iter().map(|(name, _)| (*name).clone()).collect();
    let staying = bring_back(directory, &names, all, deleted)?;
    going.retain(|(name, _)| !staying.contains(*name));
    // To take one mount off costs as much as to leave them all behind by half.
    let scene = if going.len() > 2 { Scene::Bare } else { Scene::Dressed };
    let delete_all =
        |behind: &Backstage, ()| going.iter().map(|(name, _)| delete_one(behind, name)).collect::<Vec<_>>();
    let outcomes = pin::behind(Path::new(NETNS_DIR), scene, |_| (), delete_all)?;
    for ((name, space), outcome) in going.into_iter().zip(outcomes) {
        match outcome {
            Err(error) if error.kind() == io::ErrorKind::NotFound => deleted.failed.push(not_found(name)),
            Err(error) => {
                deleted.failed.extend(Err::<(), _>(error).context(|| format!("delete the name `{name}`")).err());
            }
            Ok(()) => {
                let remnant = |(id, trace)| (id, Remnant { name: name.clone(), trace });
                deleted.remains.spaces.extend(space.map(remnant));
                deleted.gone.push(name.clone());
            }
        }
    }
    Ok(())
}

fn delete_one(behind: &Backstage, name: &EntryName) -> io::Result<()> {
    // In two steps, for the kernel takes the mount away before it takes the file away: whoever came in
    // between would find a name that is no namespace.
    let aside = temporary();
    // Or it would keep the namespace alive for some time.
    behind.let_go(name.as_os_str());
    behind.rename(name.as_os_str(), &aside)?;
    match behind.remove(&aside) {
        // Another one has taken it for what somebody has left.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

impl Remains {
    /// What still holds each of those that live on, as far as the caller may see it; nothing seen: none of it,
    /// where the kernel says that one lives on all the same.
    ///
    /// # Errors
    /// /proc cannot be read.
    pub fn holders(&self) -> Result<BTreeMap<EntryName, Vec<Holder>>, Error> {
        if self.living().is_empty() {
            return Ok(BTreeMap::new());
        }
        // What we had open or mounted there ourselves, the kernel lets go of a little later.
        pin::wait_until_freed();
        self.let_end(&self.living(), SHORTLY);
        let living = self.living();
        // It is a long way through /proc.
        if living.is_empty() {
            return Ok(BTreeMap::new());
        }
        let mut found = holders_of(&living).context(|| "look for what holds the namespaces".to_owned())?;
        let unseen = living.into_iter().filter(|id| !found.contains_key(id)).collect();
        self.let_end(&unseen, AT_LAST);
        let mut named = BTreeMap::new();
        for (id, remnant) in &self.spaces {
            let holders = found.remove(id).unwrap_or_default();
            let lives_on = remnant.has_ended().map_or(!holders.is_empty(), |ended| !ended);
            if lives_on {
                named.insert(remnant.name.clone(), holders);
            }
        }
        Ok(named)
    }

    /// Those that have not ended, as far as the kernel tells.
    fn living(&self) -> BTreeSet<NamespaceId> {
        let lives = |(id, remnant): (&NamespaceId, &Remnant)| (remnant.has_ended() != Some(true)).then_some(*id);
        self.spaces.iter().filter_map(lives).collect()
    }

    /// Waits until the kernel says that these have ended, but not for long.
    fn let_end(&self, ids: &BTreeSet<NamespaceId>, patience: Duration) {
        let deadline = Instant::now() + patience;
        let lives = |id| self.spaces.get(id).is_some_and(|remnant| remnant.has_ended() == Some(false));
        while ids.iter().any(lives) && Instant::now() < deadline {
            std::thread::sleep(SETTLE_EVERY);
        }
    }

    /// Waits until nothing holds them and the kernel has freed them.
    ///
    /// # Errors
    /// As for [`holders`](Self::holders), or the kernel's clean-up cannot be watched.
    pub fn wait(self) -> Result<(), Error> {
        if self.spaces.is_empty() {
            return Ok(());
        }
        while !self.holders()?.is_empty() {
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(cleanup::Pending::watch(&Realm::host())?.wait()?)
    }
}
