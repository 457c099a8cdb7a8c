//! Taking names away.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use hopyard_kernel::holders::{Holder, NamespaceId, holders_of};
use hopyard_kernel::pin::{Backstage, Scene};
use hopyard_kernel::{Realm, Trace, cleanup};

use super::directory::{Kind, Names, not_found, of_lab};
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
    let behind = Backstage::of(Path::new(NETNS_DIR), Scene::Going)?;
    for name in names {
        match delete_one(&directory, &behind, name) {
            Ok(space) => {
                let remnant = |(id, trace)| (id, Remnant { name: name.clone(), trace });
                deleted.remains.spaces.extend(space.map(remnant));
                deleted.gone.push(name.clone());
            }
            Err(error) => deleted.failed.push(error),
        }
    }
    Ok(deleted)
}

type Space = (NamespaceId, Option<Trace>);

fn delete_one(directory: &Names, behind: &Backstage, name: &EntryName) -> Result<Option<Space>, Error> {
    let entry = directory.find(name)?.ok_or_else(|| not_found(name))?;
    match entry.kind {
        Kind::Mount | Kind::Link { .. } | Kind::Dead => {}
        Kind::Node { keeper } => return Err(of_lab(name, keeper)),
        Kind::Foreign(what) => return Err(NsError::Foreign { name: name.clone(), what }.into()),
    }
    let doing = || format!("delete the name `{name}`");
    let remember = |network: &OwnedFd| Ok((NamespaceId::of(network.as_fd())?, Trace::of(network.as_fd())));
    let space = entry.network.as_ref().map(remember).transpose().context(doing)?;
    // In two steps, for the kernel takes the mount away before it takes the file away: whoever came in
    // between would find a name that is no namespace.
    let aside = temporary();
    match behind.rename(name.as_os_str(), &aside) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(not_found(name)),
        renamed => renamed.context(doing)?,
    }
    match behind.remove(&aside) {
        // Another one has taken it for what somebody has left.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(space),
        removed => removed.context(doing).map(|()| space),
    }
}

impl Remains {
    /// What still holds each of those that live on, as far as the caller may see it; nothing seen: none of it,
    /// where the kernel says that one lives on all the same.
    ///
    /// # Errors
    /// /proc cannot be read.
    pub fn holders(&self) -> Result<BTreeMap<EntryName, Vec<Holder>>, Error> {
        let living = |(id, remnant): (&NamespaceId, &Remnant)| (remnant.has_ended() != Some(true)).then_some(*id);
        let ids: BTreeSet<NamespaceId> = self.spaces.iter().filter_map(living).collect();
        // It is a long way through /proc.
        if ids.is_empty() {
            return Ok(BTreeMap::new());
        }
        let mut found = holders_of(&ids).context(|| "look for what holds the namespaces".to_owned())?;
        let mut named = BTreeMap::new();
        for id in ids {
            let (holders, Some(remnant)) = (found.remove(&id).unwrap_or_default(), self.spaces.get(&id)) else {
                continue;
            };
            if !holders.is_empty() || remnant.has_ended() == Some(false) {
                named.insert(remnant.name.clone(), holders);
            }
        }
        Ok(named)
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
