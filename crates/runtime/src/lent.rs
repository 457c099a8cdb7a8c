//! Interfaces of the machine that a lab's nodes are lent, and their way back.
//!
//! What an interface has is written down before it moves. It comes back before its namespace ends: the kernel
//! would give a device of hardware back by itself, bare, and destroy a virtual one. Where whoever makes the lab is
//! killed, the keeper brings it back.

use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use hopyard_kernel::moving::{Place, Settings, Space};
use hopyard_kernel::{Errno, KernelError, Process, Realm, World, cleanup, keeper, pin};
use hopyard_model::Lab;
use hopyard_net::{Endpoint, IfName, LinkKind, NetState, NsName, Op};
use serde::{Deserialize, Serialize};

use crate::error::{Error, IoContext};
use crate::home::Home;
use crate::ns::{self, NsError, find_by_cookie};
use crate::record::{self, Held};

/// The file in a lab's directory.
pub(crate) const LENT: &str = "lent.json";
pub(crate) const LENT_NEW: &str = "lent.json.new";

/// An interface that is, or is about to be, in a node.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Loan {
    node: NsName,
    /// Another one that it is about to be moved to.
    #[serde(default)]
    to: Option<NsName>,
    dev: IfName,
    /// Its number in the node, for it may be called something else there by then. `None`: it is not there yet.
    #[serde(default)]
    number: Option<u32>,
    /// The cookie of the namespace that it came from; 0 where the kernel has none (before 5.14).
    from: u64,
    /// What it had there.
    settings: Vec<u8>,
    /// Have routes that it had a part in their other ways again, which the kernel took away when it left? From then on they
    /// are somebody else's affair.
    #[serde(default)]
    mended: bool,
}

/// All of a lab.
#[derive(Clone, Debug, Default)]
pub(crate) struct Loans(Vec<Loan>, Standing);

/// What stands on interfaces of the machine, as a VLAN, goes down while they move. What it has then.
type Standing = Vec<(IfName, Settings)>;

/// Refuses a lab that asks for interfaces of the machine, which its owner cannot lend.
///
/// # Errors
/// That is [`Error::NotLent`].
pub fn require_lendable(home: &Home, lab: &Lab) -> Result<(), Error> {
    let asks = lab.nodes().iter().find_map(|node| Some((node.name.clone(), *node.interfaces.first()?)));
    match asks {
        Some((node, dev)) if !home.is_privileged() => Err(Error::NotLent { node, dev }),
        _ => Ok(()),
    }
}

impl Loans {
    pub(crate) fn read(dir: &Path) -> Result<Self, Error> {
        Ok(Loans(record::read_json(dir, LENT)?.unwrap_or_default(), Vec::new()))
    }

    fn write(&self, dir: &Path) -> Result<(), Error> {
        record::write_list(dir, LENT, LENT_NEW, &self.0)
    }

    /// Writes down what the interfaces have that the steps take.
    pub(crate) fn note(&mut self, dir: &Path, steps: &[Op], world: &World) -> Result<(), Error> {
        let taken: Vec<&Endpoint> = steps.iter().filter_map(taken).collect();
        if taken.is_empty() && self.0.is_empty() {
            return Ok(());
        }
        let mut here = here()?;
        let from = here.cookie().unwrap_or_default();
        self.require_whole_radios(steps, &mut here, world)?;
        for op in steps {
            let standing = match op {
                Op::TakeLink(at) => here.number(at.dev).and_then(|number| here.standing_on(number, None)),
                Op::ReturnLink(at) => standing_on(world, &mut here, at),
                _ => continue,
            };
            // Of one that is not there, others tell.
            self.1.extend(standing.unwrap_or_default());
        }
        for Endpoint { ns, dev } in taken {
            let comes_from_node = steps.iter().any(|op| matches!(op, Op::ReturnLink(at) if at.dev == *dev));
            let settings = match here.settings(*dev) {
                // One that goes from node to node is here in between; what it had is on record.
                Err(_) if comes_from_node => {
                    if let Some(loan) = self.0.iter_mut().find(|loan| loan.dev == *dev) {
                        loan.to = Some(ns.clone());
                    }
                    continue;
                }
                Err(error) if error.errno() == Errno::NODEV => {
                    return Err(
                        NsError::NoInterface { dev: *dev, place: ns::Place::Here, devs: here.interfaces()? }.into()
                    );
                }
                settings => settings?,
            };
            // Is it here and bare after a change that was killed, what it had before that is what it is to have again.
            let known = self.0.iter().find(|loan| loan.dev == *dev && loan.from == from && settings.is_bare());
            let mended = known.is_some_and(|known| known.mended);
            let settings = known.map_or_else(|| settings.to_bytes(), |known| known.settings.clone());
            self.0.retain(|loan| loan.dev != *dev);
            self.0.push(Loan { node: ns.clone(), to: None, dev: *dev, number: None, from, settings, mended });
        }
        self.write(dir)
    }

    /// Finds out where those are that somebody moved who was killed before he could write that down.
    pub(crate) fn locate(&mut self, found: &NetState) {
        for loan in &mut self.0 {
            let is_in = |node: &NsName| found.namespaces.get(node).is_some_and(|it| it.links.contains_key(&loan.dev));
            if let Some(node) = loan.to.take_if(|node| is_in(node)) {
                loan.is_in(node);
            }
        }
    }

    /// Gives those their names again that somebody calls something else in their nodes.
    pub(crate) fn name_again(&self, world: &World) -> Result<(), Error> {
        for loan in &self.0 {
            if let Some(called) = loan.called(world)?.filter(|called| *called != loan.dev) {
                space(world, &loan.node)?.rename(called, loan.dev)?;
            }
        }
        Ok(())
    }

    /// Is nothing lent?
    pub(crate) fn are_none(&self) -> bool {
        self.0.is_empty()
    }

    /// Refuses to part the interfaces of a radio: they move together, and one that nobody asked for would vanish.
    fn require_whole_radios(&self, steps: &[Op], here: &mut Space, world: &World) -> Result<(), Error> {
        for op in steps {
            let (at, companions) = match op {
                Op::TakeLink(at) => (at, here.companions(at.dev)),
                Op::ReturnLink(at) => (at, space(world, &at.ns)?.companions(at.dev)),
                _ => continue,
            };
            // Of one that is not there, others tell.
            let Ok(companions) = companions else { continue };
            let parted = companions.into_iter().find(|&dev| {
                let other = Endpoint { ns: at.ns.clone(), dev };
                if matches!(op, Op::TakeLink(_)) {
                    return !steps.iter().filter_map(taken).any(|taken| *taken == other);
                }
                // What was made in the node is nobody else's.
                let is_lent = self.0.iter().any(|loan| loan.node == other.ns && loan.dev == dev);
                is_lent && !steps.contains(&Op::ReturnLink(other))
            });
            if let Some(other) = parted {
                return Err(Error::RadioParted { node: at.ns.clone(), dev: at.dev, other });
            }
        }
        Ok(())
    }

    /// Gives interfaces that were moved what they had where they were: those that came back, and those for which the
    /// topology gives no addresses.
    pub(crate) fn settle(&mut self, dir: &Path, steps: &[Op], world: &World, wanted: &NetState) -> Result<(), Error> {
        let mut moved = false;
        for op in steps {
            match op {
                Op::ReturnLink(at) => {
                    moved = true;
                    let goes_on = steps.iter().find_map(|op| match op {
                        Op::TakeLink(to) if to.dev == at.dev => Some(to.ns.clone()),
                        _ => None,
                    });
                    let Some(place) = self.0.iter().position(|loan| loan.dev == at.dev) else { continue };
                    if let Some(node) = goes_on {
                        self.0[place].is_in(node);
                        continue;
                    }
                    let loan = self.0.remove(place);
                    here()?.restore(loan.dev, &Settings::from_bytes(&loan.settings), Place::Origin)?;
                }
                Op::TakeLink(at) => {
                    moved = true;
                    let Some(loan) = self.0.iter_mut().find(|loan| loan.dev == at.dev) else { continue };
                    loan.mend(&mut here()?);
                    let settings = Settings::from_bytes(&loan.settings);
                    let mut there = space(world, &at.ns)?;
                    let number = there.number(loan.dev)?;
                    loan.number = Some(number);
                    if let Some((_, fd)) = Held::read(dir)?.nodes.iter().find(|(name, _)| *name == at.ns) {
                        // One of an older release knows it by its name alone.
                        keeper::lent(dir, *fd, loan.dev, number).ok();
                    }
                    if !is_numbered(wanted, at) {
                        there.restore(loan.dev, &settings, Place::Node)?;
                    }
                }
                _ => {}
            }
        }
        if !moved {
            return Ok(());
        }
        stand_again(&mut here()?, std::mem::take(&mut self.1));
        self.write(dir)
    }

    /// After a change that failed: brings back what is in new nodes, which end with it, and writes down where the
    /// others are. `old` are the nodes that there were before.
    pub(crate) fn recover(
        &mut self,
        dir: &Path,
        steps: &[Op],
        world: &mut World,
        wanted: &NetState,
        old: &Held,
    ) -> Result<(), Error> {
        let mut here = here()?;
        let mut failed = Ok(());
        for mut loan in std::mem::take(&mut self.0) {
            let kept = match loan.find(&mut here, steps, world) {
                Ok(Whereabouts::Unmoved) => true,
                Ok(Whereabouts::Back) => {
                    failed = failed.and(loan.give(&mut here, Place::Origin));
                    false
                }
                Ok(Whereabouts::In(node)) if old.nodes.iter().any(|(name, _)| *name == node) => {
                    let at = Endpoint { ns: node.clone(), dev: loan.dev };
                    loan.is_in(node);
                    loan.mend(&mut here);
                    if !is_numbered(wanted, &at) {
                        failed =
                            failed.and(space(world, &at.ns).and_then(|mut there| loan.give(&mut there, Place::Node)));
                    }
                    true
                }
                Ok(Whereabouts::In(node)) => {
                    let at = Endpoint { ns: node, dev: loan.dev };
                    let back = bring_back(world, &mut here, &mut loan, at);
                    let is_back = back.is_ok();
                    failed = failed.and(back);
                    !is_back
                }
                Err(error) => {
                    failed = failed.and(Err(error));
                    true
                }
            };
            self.0.extend(kept.then_some(loan));
        }
        stand_again(&mut here, std::mem::take(&mut self.1));
        self.write(dir).and(failed)
    }

    /// Brings all of them back from namespaces that are about to end.
    pub(crate) fn bring_back(&mut self, world: &mut World) -> Result<(), Error> {
        let mut here = here()?;
        let mut failed = Ok(());
        self.0.retain_mut(|loan| {
            let places: Vec<NsName> = loan.places().filter(|node| world.contains(node)).cloned().collect();
            if places.is_empty() {
                return true;
            }
            let dev = loan.dev;
            let mut places = places.into_iter().map(|ns| Endpoint { ns, dev });
            let back = places.try_for_each(|at| bring_back(world, &mut here, loan, at));
            let is_back = back.is_ok();
            if let (Err(error), Ok(())) = (back, &failed) {
                failed = Err(error);
            }
            !is_back
        });
        stand_again(&mut here, std::mem::take(&mut self.1));
        failed
    }

    /// Tells the machine's interfaces from others in what was found, and leaves out of it what the topology does not
    /// say: second names, and, where it gives no addresses, addresses and routes.
    pub(crate) fn mark(&self, found: &mut NetState, wanted: &NetState, world: &World) -> Result<(), Error> {
        let called: Vec<_> = self.0.iter().map(|loan| loan.called(world)).collect::<Result<_, _>>()?;
        let is_lent = |node: &NsName, dev: IfName| {
            let is_it = |(loan, called): (&Loan, &Option<IfName>)| match called {
                Some(called) => *called == dev && loan.node == *node,
                None => loan.dev == dev && loan.places().any(|place| place == node),
            };
            self.0.iter().zip(&called).any(is_it)
        };
        for (name, state) in &mut found.namespaces {
            let want = wanted.namespaces.get(name);
            for (dev, link) in &mut state.links {
                let wanted_lent =
                    want.and_then(|want| want.links.get(dev)).is_some_and(|want| want.kind == LinkKind::Lent);
                if !wanted_lent && !is_lent(name, *dev) {
                    continue;
                }
                link.kind = LinkKind::Lent;
                link.alt_names.clear();
                let at = Endpoint { ns: name.clone(), dev: *dev };
                if wanted_lent && !is_numbered(wanted, &at) {
                    link.addresses.clear();
                    let is_own = |key: &hopyard_net::RouteKey| want.is_some_and(|want| want.routes.contains_key(key));
                    state
                        .routes
                        .retain(|key, route| is_own(key) || !route.next_hops().iter().any(|hop| hop.dev == *dev));
                }
            }
        }
        Ok(())
    }
}

/// Where an interface is.
enum Whereabouts {
    /// Where it is on record: it is none of those that the steps move.
    Unmoved,
    /// Where it came from.
    Back,
    /// In a node.
    In(NsName),
}

impl Loan {
    /// It has come to a node, where it has another number.
    fn is_in(&mut self, node: NsName) {
        (self.node, self.to, self.number) = (node, None, None);
    }

    /// It has left: what the kernel took from others is put back, once.
    fn mend(&mut self, here: &mut Space) {
        if !std::mem::replace(&mut self.mended, true) {
            here.mend(&Settings::from_bytes(&self.settings));
        }
    }

    /// The nodes that it may be in.
    fn places(&self) -> impl Iterator<Item = &NsName> {
        std::iter::once(&self.node).chain(&self.to)
    }

    /// What it is called in its node, if it is there by its number.
    fn called(&self, world: &World) -> Result<Option<IfName>, Error> {
        match self.number {
            Some(number) if world.contains(&self.node) => Ok(space(world, &self.node)?.named(number)?),
            _ => Ok(None),
        }
    }

    /// Where it is after some of the steps.
    fn find(&self, here: &mut Space, steps: &[Op], world: &World) -> Result<Whereabouts, Error> {
        let returns = steps.iter().any(|op| matches!(op, Op::ReturnLink(at) if at.dev == self.dev));
        let takers = steps.iter().filter_map(|op| match op {
            Op::TakeLink(at) if at.dev == self.dev => Some(&at.ns),
            _ => None,
        });
        let takers: Vec<&NsName> = takers.collect();
        if !returns && takers.is_empty() {
            return Ok(Whereabouts::Unmoved);
        }
        let is_in = |node: &NsName| -> Result<bool, Error> {
            Ok(world.contains(node) && space(world, node)?.interfaces()?.contains(&self.dev))
        };
        // On its way it is in one place after the other; what else has its name is in a later one.
        if returns && is_in(&self.node)? {
            return Ok(Whereabouts::In(self.node.clone()));
        }
        if here.cookie().unwrap_or_default() == self.from && here.interfaces()?.contains(&self.dev) {
            return Ok(Whereabouts::Back);
        }
        for node in takers {
            if is_in(node)? {
                return Ok(Whereabouts::In(node.clone()));
            }
        }
        Ok(Whereabouts::Unmoved)
    }

    /// Gives it what it had. Whoever has given it something meanwhile knows better; one that is gone was virtual.
    fn give(&mut self, space: &mut Space, place: Place) -> Result<(), Error> {
        if space.settings(self.dev).is_ok_and(|now| now.is_bare()) {
            if place == Place::Origin {
                self.mend(space);
            }
            space.restore(self.dev, &Settings::from_bytes(&self.settings), place)?;
        }
        Ok(())
    }
}

/// Has the keeper bring back what the steps take, should it end by itself. It has to hold the nodes already.
pub(crate) fn entrust(dir: &Path, steps: &[Op], held: &Held) -> Result<(), Error> {
    for Endpoint { ns, dev } in steps.iter().filter_map(taken) {
        if let Some((_, number)) = held.nodes.iter().find(|(name, _)| name == ns) {
            keeper::lend(dir, *number, *dev)?;
        }
    }
    Ok(())
}

/// Brings back what a lab was lent, before its keeper ends. The rest is in no namespace that the keeper holds: it is
/// for [`give_again`], when the keeper has ended.
pub(crate) fn return_held(dir: &Path, keeper: Option<&Process>) -> Result<Loans, Error> {
    let mut loans = Loans::read(dir)?;
    let Some(keeper) = keeper.filter(|_| !loans.0.is_empty()) else { return Ok(loans) };
    let mut world = World::new(Realm::host());
    let held = Held::read(dir).unwrap_or_default();
    for (node, number) in
        held.nodes.into_iter().filter(|(node, _)| loans.0.iter().any(|it| it.places().any(|place| place == node)))
    {
        let path = format!("/proc/{}/fd/{number}", keeper.pid());
        let namespace = std::fs::File::open(&path).context(|| format!("open the namespace of {node}, {path}"))?;
        world.adopt(node, namespace.into())?;
    }
    let all = loans.0.clone();
    loans.name_again(&world)?;
    loans.bring_back(&mut world)?;
    let back = here()?.interfaces()?;
    loans.0 = all.into_iter().filter(|loan| !back.contains(&loan.dev)).collect();
    if !loans.are_none() {
        // They are not where they are on record: the nodes are not known any more. The keeper knows of every one that
        // something was lent to, and asked to end it brings back what is there.
        let doing = || format!("have the lab's keeper, process {}, bring interfaces back", keeper.pid());
        keeper.terminate().and_then(|()| keeper.wait(Some(PATIENCE))).context(doing)?;
    }
    Ok(loans)
}

/// How long the kernel may take to free a namespace, and with that to bring back what was in it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Gives what the kernel brings back by itself, bare, what it had: from namespaces that have ended.
pub(crate) fn give_again(loans: &mut Loans) -> Result<(), Error> {
    if loans.0.is_empty() {
        return Ok(());
    }
    let mut here = here()?;
    let cookie = here.cookie().unwrap_or_default();
    if let Some(loan) = loans.0.iter().find(|loan| loan.from != cookie)
        && is_there(loan.from)?
    {
        return Err(Error::LentElsewhere { node: loan.node.clone(), dev: loan.dev });
    }
    let there = here.interfaces()?;
    if loans.0.iter().any(|loan| !there.contains(&loan.dev))
        && let Ok(pending) = cleanup::Pending::watch(&Realm::host())
    {
        // What is not there by then was virtual, and is gone.
        pending.wait_at_most(PATIENCE).ok();
    }
    loans.0.iter_mut().filter(|loan| loan.from == cookie).try_for_each(|loan| loan.give(&mut here, Place::Origin))
}

/// Is there a network of that cookie, as far as it can be found: by a name, or as the machine's?
fn is_there(cookie: u64) -> Result<bool, Error> {
    let machine = pin::network_of(1).ok().and_then(|network| Space::open(network.as_fd()).ok());
    Ok(machine.is_some_and(|it| it.cookie() == Some(cookie)) || find_by_cookie(cookie)?.is_some())
}

fn space(world: &World, node: &NsName) -> Result<Space, Error> {
    Ok(Space::open(world.ns_fd(node)?.as_fd())?)
}

fn bring_back(world: &mut World, here: &mut Space, loan: &mut Loan, at: Endpoint) -> Result<(), Error> {
    let cookie = here.cookie().unwrap_or_default();
    if cookie != loan.from {
        return Err(Error::LentElsewhere { node: loan.node.clone(), dev: loan.dev });
    }
    let standing = standing_on(world, here, &at).unwrap_or_default();
    world.apply(&[Op::ReturnLink(at)], &mut |_| {}).map_err(|failed| failed.error)?;
    loan.mend(here);
    match here.restore(loan.dev, &Settings::from_bytes(&loan.settings), Place::Origin) {
        // It was deleted in the node.
        Err(error) if error.errno() == Errno::NODEV => return Ok(()),
        restored => drop(restored?),
    }
    stand_again(here, standing);
    Ok(())
}

/// What stands here on an interface that is in a node.
fn standing_on(world: &World, here: &mut Space, at: &Endpoint) -> Result<Standing, KernelError> {
    let node = world.ns_fd(&at.ns)?;
    let number = Space::open(node.as_fd())?.number(at.dev)?;
    here.standing_on(number, Some(node.as_fd()))
}

fn stand_again(here: &mut Space, standing: Standing) {
    for (dev, settings) in standing {
        // It may be gone; and what it cannot have, it could not have on an interface that is down either.
        here.restore(dev, &settings, Place::Origin).ok();
    }
}

fn taken(op: &Op) -> Option<&Endpoint> {
    if let Op::TakeLink(at) = op { Some(at) } else { None }
}

fn is_numbered(wanted: &NetState, at: &Endpoint) -> bool {
    let link = wanted.namespaces.get(&at.ns).and_then(|want| want.links.get(&at.dev));
    link.is_some_and(|link| !link.addresses.is_empty())
}

fn here() -> Result<Space, Error> {
    let own = pin::own_network().context(|| "open this namespace".to_owned())?;
    Ok(Space::open(own.as_fd())?)
}

#[cfg(test)]
mod tests {
    use hopyard_net::{Link, NsState};

    use super::*;

    #[test]
    fn where_it_is_found_it_has_another_number() {
        let [web, db]: [NsName; 2] = ["web", "db"].map(|name| name.parse().unwrap());
        let dev: IfName = "wan".parse().unwrap();
        let to = Some(db.clone());
        let loan = Loan { node: web, to, dev, number: Some(3), from: 1, settings: Vec::new(), mended: true };
        let mut loans = Loans(vec![loan], Vec::new());
        loans.locate(&NetState::default());
        assert_eq!((loans.0[0].number, &loans.0[0].to), (Some(3), &Some(db.clone())));
        let mut found = NetState::default();
        let links = [(dev, Link::new(LinkKind::Lent))].into();
        found.namespaces.insert(db.clone(), NsState { links, ..NsState::default() });
        loans.locate(&found);
        assert_eq!((loans.0[0].number, &loans.0[0].node, &loans.0[0].to), (None, &db, &None));
    }
}
