//! Interfaces that move between namespaces, and go back.

use std::fmt;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use hopyard_kernel::holders::NamespaceId;
use hopyard_kernel::moving::{self, Lost, Settings, Space};
use hopyard_kernel::{Errno, Inside, KernelError, have_only_loopback, look_inside, pin};
use hopyard_model::LabName;
use hopyard_net::{Endpoint, IfName, NsName};

use super::directory::{Entry, Kind, Names, not_found, open};
use super::moves::{Move, Moves};
use super::{EntryName, NsError, require_rights};
use crate::error::{Error, IoContext};
use crate::home::Home;
use crate::lock;

/// Where an interface is, or should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The caller's own namespace.
    Here,
    /// One that has a name.
    Named(EntryName),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Here => f.write_str("here"),
            Place::Named(name) => write!(f, "in `{name}`"),
        }
    }
}

impl Place {
    fn open(&self) -> Result<OwnedFd, Error> {
        match self {
            Place::Here => pin::own_network().context(|| "open this namespace".to_owned()),
            Place::Named(name) => Names::open_existing(name)?.network(name),
        }
    }

    /// Has the name been deleted since it was opened?
    fn require_still(&self, network: &OwnedFd) -> Result<(), Error> {
        let id = |network: &OwnedFd| NamespaceId::of(network.as_fd()).context(|| "look at a namespace".to_owned());
        match self {
            Place::Named(name) if id(&self.open()?)? != id(network)? => Err(not_found(name)),
            _ => Ok(()),
        }
    }
}

/// An interface that was moved, and what it could not be given where it is now.
#[derive(Debug)]
pub struct Moved {
    /// The interface.
    pub dev: IfName,
    /// What it had and has no more.
    pub lost: Vec<Lost>,
}

/// Moves an interface, and gives it there what it had here, unless `bare`: that it is up, its addresses, routes
/// and permanent neighbours. A wireless one takes all others of its radio along. Returns them, the one that was named
/// first.
///
/// That it was moved is written down: [`delete`](super::delete) brings it back.
///
/// # Errors
/// It stays where it is, as it was.
pub fn move_interface(dev: IfName, from: &Place, to: &Place, bare: bool) -> Result<Vec<Moved>, Error> {
    require_rights("move an interface between namespaces")?;
    let (source, target) = (from.open()?, to.open()?);
    if dev == IfName::LO {
        // There is one in every namespace, which would be said to be in the way.
        return Err(NsError::Loopback.into());
    }
    // Whoever deletes the name meanwhile would find nothing in it that comes back.
    let _lock = lock(&target, to)?;
    to.require_still(&target)?;
    let id = |network: &OwnedFd| NamespaceId::of(network.as_fd()).context(|| "look at a namespace".to_owned());
    let mut there = Space::open(target.as_fd())?;
    if id(&source)? == id(&target)? {
        return Err(NsError::IsThere { dev, place: to.clone() }.into());
    }
    let mut here = Space::open(source.as_fd())?;
    let mut devs = match here.companions(dev) {
        Err(error) if error.errno() == Errno::NODEV => {
            return Err(NsError::NoInterface { dev, place: from.clone(), devs: here.interfaces()? }.into());
        }
        devs => devs?,
    };
    devs.sort_by_key(|other| *other != dev);
    // Before anything is written down: what is on record there may be of that one.
    let known_there = there.interfaces()?;
    if let Some(&taken) = devs.iter().find(|dev| known_there.contains(dev)) {
        return Err(NsError::Taken { dev: taken, place: to.clone() }.into());
    }
    let settings = devs.iter().map(|&dev| Ok((dev, here.settings(dev)?)));
    let settings: Vec<(IfName, Settings)> = settings.collect::<Result<_, Error>>()?;
    let standing = standing_on(&mut here, &mut there, source.as_fd(), &devs)?;
    let home = Home::of_caller()?;
    // Kernels before 5.14 have nothing by which it could be told later that a namespace is the same.
    let cookies = here.cookie().zip(there.cookie());
    let before = cookies.map(|(here, _)| Ok::<_, Error>(Moves::read(&home)?.known.remove(&here)));
    let before = before.transpose()?.flatten();
    let before: Vec<Move> = before.into_iter().flatten().filter(|known| devs.contains(&known.dev)).collect();
    // What comes here is home: nobody deletes this namespace.
    let noted = cookies.filter(|_| *to != Place::Here);
    let mut notes = Vec::new();
    if let Some((from, at)) = noted {
        for (dev, settings) in &settings {
            // An interface goes back to where it came from first.
            let note = match before.iter().find(|known| known.dev == *dev) {
                Some(known) if known.from == at => continue,
                Some(known) => Move { at, number: None, returning: None, ..known.clone() },
                None => Move { dev: *dev, at, from, settings: settings.to_bytes(), number: None, returning: None },
            };
            note.write(&home)?;
            notes.push(note);
        }
    }
    let returning: Vec<&Move> = before.iter().filter(|known| Some(known.from) == there.cookie()).collect();
    for known in &returning {
        Move { returning: Some(known.dev), ..(*known).clone() }.write(&home)?;
    }
    if let Err(error) = here.send(dev, target.as_fd()) {
        for known in returning {
            known.write(&home)?;
        }
        if let Some((_, at)) = noted {
            for dev in devs {
                Move::forget(&home, at, dev);
            }
        }
        return Err(NsError::NotMoved { dev, to: to.clone(), error: Box::new(error) }.into());
    }
    // `ip netns delete` knows of no lock.
    if let Err(gone) = to.require_still(&target) {
        there.send(dev, source.as_fd())?;
        for (dev, settings) in settings {
            here.mend(&settings);
            here.restore(dev, &settings, moving::Place::Origin)?;
        }
        stand_again(&mut here, &mut there, standing)?;
        for note in &notes {
            Move::forget(&home, note.at, note.dev);
        }
        return Err(gone);
    }
    for mut note in notes {
        note.number = Some(there.number(note.dev)?);
        note.write(&home)?;
    }
    for (_, settings) in &settings {
        here.mend(settings);
    }
    let at = there.cookie();
    let mut restore = |(dev, mut settings): (IfName, Settings)| {
        if bare {
            return Ok(Moved { dev, lost: Vec::new() });
        }
        let origin = before.iter().find(|known| known.dev == dev && Some(known.from) == at);
        let lost = match origin {
            Some(origin) => {
                settings.share(Settings::from_bytes(&origin.settings));
                there.restore(dev, &settings, moving::Place::Origin)?
            }
            None => there.restore(dev, &settings, moving::Place::Elsewhere)?,
        };
        Ok(Moved { dev, lost })
    };
    let mut moved: Vec<Moved> = settings.into_iter().map(&mut restore).collect::<Result<_, Error>>()?;
    if !bare {
        let lost = stand_again(&mut here, &mut there, standing)?;
        moved.first_mut().into_iter().for_each(|moved| moved.lost.extend(lost.clone()));
    }
    // Now that it has all.
    if let Some((from, _)) = cookies {
        // Also one that could not be read.
        for dev in &devs {
            Move::forget(&home, from, *dev);
        }
    }
    for known in &before {
        Move::forget(&home, known.at, known.dev);
    }
    Move::forget_gone(&home)?;
    Ok(moved)
}

/// What stands on interfaces that are about to leave a namespace, in it and where they go to.
struct Standing {
    here: Vec<(IfName, Settings)>,
    there: Vec<(IfName, Settings)>,
}

fn standing_on(
    here: &mut Space,
    there: &mut Space,
    source: BorrowedFd<'_>,
    devs: &[IfName],
) -> Result<Standing, Error> {
    let mut standing = Standing { here: Vec::new(), there: Vec::new() };
    for dev in devs {
        let number = here.number(*dev)?;
        standing.here.extend(here.standing_on(number, None)?);
        standing.there.extend(there.standing_on(number, Some(source))?);
    }
    Ok(standing)
}

/// Gives them again what they have lost on its way.
fn stand_again(here: &mut Space, there: &mut Space, standing: Standing) -> Result<Vec<Lost>, Error> {
    let mut all = Vec::new();
    for (space, standing) in [(here, standing.here), (there, standing.there)] {
        for (dev, settings) in standing {
            let lost = match space.restore(dev, &settings, moving::Place::Origin) {
                // Of some kinds one goes with what it stands on, as of MACsec.
                Err(error) if error.errno() == Errno::NODEV => {
                    all.push(Lost { what: format!("{dev}, which stood on it"), why: None });
                    continue;
                }
                lost => lost?,
            };
            let of_it = |Lost { what, why }| Lost { what: format!("{what} of {dev}, which stands on it"), why };
            all.extend(lost.into_iter().filter(|lost| lost.why.is_some()).map(of_it));
        }
    }
    Ok(all)
}

/// What is to go back from namespaces whose names are about to be deleted.
pub(super) struct Returns {
    home: Home,
    moves: Moves,
    here: OwnedFd,
}

impl Returns {
    /// `None`: nothing has been moved at all.
    pub(super) fn read() -> Result<Option<Self>, Error> {
        let home = Home::of_caller()?;
        let moves = Moves::read(&home)?;
        if moves.are_none() {
            return Ok(None);
        }
        let here = pin::own_network().context(|| "open this namespace".to_owned())?;
        Ok(Some(Returns { home, moves, here }))
    }

    /// Has somebody been killed while bringing something back?
    pub(super) fn are_unfinished(&self) -> bool {
        self.moves.known.values().flatten().any(|known| known.returning.is_some())
    }

    /// Is there anything in the namespace that might go back?
    pub(super) fn concern(&self, inside: &Inside) -> bool {
        self.moves.concern(inside)
    }

    /// Brings back what we have moved to a namespace, to where it came from. Devices of the machine that somebody
    /// else has moved there are not touched: it may be the very namespace that they belong to, under a second
    /// name. When the namespace ends the kernel gives them back to the machine.
    pub(super) fn bring_back(&mut self, entry: &Entry, inside: &Inside) -> Result<Vec<Moved>, Error> {
        let Entry { name, network: Some(network), .. } = entry else { return Ok(Vec::new()) };
        let bad = inside.cookie.and_then(|cookie| self.moves.unreadable.get(&cookie)?.first());
        if let Some((dev, path)) = bad {
            return Err(NsError::BadMove { name: name.clone(), dev: *dev, path: path.clone() }.into());
        }
        let moves = inside.cookie.and_then(|cookie| self.moves.known.remove(&cookie)).unwrap_or_default();
        let mut there = Space::open(network.as_fd())?;
        let here = Space::open(self.here.as_fd())?;
        let mut returned = Vec::new();
        if here.cookie() == there.cookie() {
            // A second name of this namespace, which stays.
            return Ok(returned);
        }
        // Those of a radio that have moved with another one.
        let mut along: Vec<IfName> = Vec::new();
        for known in &moves {
            let dev = known.dev;
            let inside = known.called(&mut there)?;
            if inside.is_some() || along.contains(&dev) || known.returning.is_some() {
                let elsewhere;
                let (origin, place) = if here.cookie() == Some(known.from) {
                    (&self.here, Place::Here)
                } else {
                    match find_by_cookie(known.from)? {
                        Some((origin, place)) => {
                            elsewhere = origin;
                            (&elsewhere, place)
                        }
                        None if inside.is_some() => return Err(NsError::NoWayBack { name: name.clone(), dev }.into()),
                        None => {
                            Move::forget(&self.home, known.at, dev);
                            continue;
                        }
                    }
                };
                let mut home = Space::open(origin.as_fd())?;
                let standing = inside.map(|dev| standing_on(&mut there, &mut home, network.as_fd(), &[dev]));
                let standing = standing.transpose()?;
                let arrived = match inside {
                    Some(inside) => {
                        let companions = there.companions(inside)?;
                        let going = |one: &&Move| one.dev == dev || companions.contains(&one.dev);
                        for one in moves.iter().filter(going) {
                            let called = if one.dev == dev { inside } else { one.dev };
                            Move { returning: Some(called), ..one.clone() }.write(&self.home)?;
                        }
                        if let Err(error) = take(&mut there, inside, origin, place) {
                            for one in moves.iter().filter(going) {
                                Move { returning: None, ..one.clone() }.write(&self.home)?;
                            }
                            return Err(error);
                        }
                        along.extend(companions);
                        Some(inside)
                    }
                    None if along.contains(&dev) => Some(dev),
                    None => known.arrived(&mut home)?,
                };
                if let Some(arrived) = arrived {
                    let (mut called, mut lost) = (dev, Vec::new());
                    // Somebody has given it another name there.
                    if arrived != dev
                        && let Err(error) = home.rename(arrived, dev)
                    {
                        called = arrived;
                        lost.push(Lost { what: format!("its name {dev}"), why: Some(error) });
                    }
                    let settings = Settings::from_bytes(&known.settings);
                    lost.extend(home.restore(called, &settings, moving::Place::Origin)?);
                    if let Some(standing) = standing {
                        // What stands on it in the namespace ends with that.
                        lost.extend(stand_again(&mut there, &mut home, Standing { here: Vec::new(), ..standing })?);
                    }
                    returned.push(Moved { dev: called, lost });
                }
            }
            Move::forget(&self.home, known.at, dev);
        }
        Ok(returned)
    }
}

/// Brings back what we have moved to the nodes of a lab, while its keeper still holds them: nothing, but for root.
pub(crate) fn bring_back_from_lab(home: &Home, keeper: i32) -> Result<Vec<Moved>, Error> {
    let mut returned = Vec::new();
    if !home.is_privileged() {
        return Ok(returned);
    }
    let Some(mut returns) = Returns::read()? else { return Ok(returned) };
    Names::visit(|mut entries| {
        entries.retain(|entry| entry.kind == Kind::Node { keeper });
        for (entry, inside) in what_is_inside(&entries)? {
            if returns.concern(&inside) {
                returned.extend(returns.bring_back(entry, &inside)?);
            }
        }
        Ok(())
    })?;
    Ok(returned)
}

/// What we have moved to the nodes of a lab: the node, and what it is called there.
pub(crate) fn moved_to_lab(home: &Home, lab: &LabName, keeper: i32) -> Result<Vec<Endpoint>, Error> {
    let mut moved = Vec::new();
    if !home.is_privileged() {
        return Ok(moved);
    }
    let Some(returns) = Returns::read()? else { return Ok(moved) };
    let prefix = format!("{lab}.");
    Names::visit(|mut entries| {
        entries.retain(|entry| entry.kind == Kind::Node { keeper });
        for (entry, inside) in what_is_inside(&entries)? {
            let node = entry.name.as_os_str().to_str().and_then(|name| name.strip_prefix(&prefix)?.parse().ok());
            let (Some(node), Some(network)) = (node, &entry.network) else { continue };
            let node: NsName = node;
            let mut there = None;
            for known in returns.moves.of(&inside) {
                let there = match &mut there {
                    Some(there) => there,
                    none => none.insert(Space::open(network.as_fd())?),
                };
                moved.extend(known.called(there)?.map(|dev| Endpoint { ns: node.clone(), dev }));
            }
        }
        Ok(())
    })?;
    Ok(moved)
}

/// A move, or a deletion, takes some milliseconds, and everybody may lock a namespace that has a name.
const PATIENCE: Duration = Duration::from_secs(10);

/// Keeps a namespace from being deleted by us while something moves there, as long as the value lives. Of the namespace
/// itself, not of the directory: who adds other names need not wait.
fn lock(network: &OwnedFd, place: &Place) -> Result<File, Error> {
    let lock = File::from(network.try_clone().context(|| lock_doing(place))?);
    lock::within(PATIENCE, || lock.try_lock()).context(|| lock_doing(place))?;
    Ok(lock)
}

/// The same for whoever deletes names; several may at a time.
pub(super) fn lock_to_delete(network: &OwnedFd, name: &EntryName) -> Result<File, Error> {
    let doing = || lock_doing(&Place::Named(name.clone()));
    let lock = File::from(network.try_clone().context(doing)?);
    lock::within(PATIENCE, || lock.try_lock_shared()).context(doing)?;
    Ok(lock)
}

fn lock_doing(place: &Place) -> String {
    match place {
        Place::Here => "lock this namespace".to_owned(),
        Place::Named(name) => format!("lock the namespace `{name}`"),
    }
}

fn take(there: &mut Space, dev: IfName, to: &OwnedFd, place: Place) -> Result<(), Error> {
    let failed = |error: KernelError| NsError::NotMoved { dev, to: place, error: Box::new(error) };
    Ok(there.send(dev, to.as_fd()).map_err(failed)?)
}

pub(crate) fn find_by_cookie(cookie: u64) -> Result<Option<(OwnedFd, Place)>, Error> {
    let mut found = None;
    Names::visit(|entries| {
        let mut entries: Vec<Entry> = entries.into_iter().filter(|entry| entry.network.is_some()).collect();
        let insides = look_inside(&open(&entries.iter().collect::<Vec<_>>()))
            .context(|| "look into the namespaces".to_owned())?;
        let is_it = |inside: &Result<Inside, KernelError>| inside.as_ref().is_ok_and(|it| it.cookie == Some(cookie));
        if let Some(at) = insides.iter().position(is_it) {
            let entry = entries.swap_remove(at);
            found = entry.network.map(|network| (network, Place::Named(entry.name)));
        }
        Ok(())
    })?;
    Ok(found)
}

/// Looks into the namespaces in which there is more than `lo`. One that cannot be entered cannot be emptied; its
/// name can be deleted all the same.
pub(super) fn what_is_inside(entries: &[Entry]) -> Result<Vec<(&Entry, Inside)>, Error> {
    let doing = || "look into the namespaces".to_owned();
    let entries: Vec<&Entry> = entries.iter().filter(|entry| entry.network.is_some()).collect();
    let bare = have_only_loopback(&open(&entries)).context(doing)?;
    look_into(entries.into_iter().zip(bare).filter(|(_, bare)| !bare).map(|(entry, _)| entry).collect())
}

/// The same of all namespaces.
pub(super) fn all_inside(entries: &[Entry]) -> Result<Vec<(&Entry, Inside)>, Error> {
    look_into(entries.iter().filter(|entry| entry.network.is_some()).collect())
}

fn look_into(entries: Vec<&Entry>) -> Result<Vec<(&Entry, Inside)>, Error> {
    let insides = look_inside(&open(&entries)).context(|| "look into the namespaces".to_owned())?;
    Ok(entries.into_iter().zip(insides).filter_map(|(entry, inside)| Some((entry, inside.ok()?))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stood_on_it_and_is_gone_is_told() {
        if !hopyard_kernel::rights::is_privileged() {
            println!("skipped: an ordinary user");
            return;
        }
        let own = pin::own_network().unwrap();
        let [mut here, mut there] = [(); 2].map(|()| Space::open(own.as_fd()).unwrap());
        let gone: IfName = "no-such-dev".parse().unwrap();
        let standing = Standing { here: vec![(gone, Settings::default())], there: Vec::new() };
        let lost = stand_again(&mut here, &mut there, standing).unwrap();
        assert_eq!(lost, [Lost { what: "no-such-dev, which stood on it".to_owned(), why: None }]);
    }
}
