//! Which pairs of nodes a change of a running lab would cut, and which it would join: from the model alone.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use hopyard_explain::{Cell, Matrix, Target, derive, matrix};
use hopyard_kernel::SnapshotScope;
use hopyard_model::Lab;
use hopyard_net::{Family, NetState, NsName, Snapshot};
use hopyard_plan::Wanted;

use crate::error::Error;
use crate::home::Home;
use crate::running::{Running, first_of_each_family};

/// One node that asks another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pair {
    /// Who asks.
    pub from: NsName,
    /// Who answers.
    pub to: NsName,
    /// By IPv4 or by IPv6.
    pub family: Family,
}

/// What a change does to who reaches whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effect {
    /// Pairs that reach each other now, and would not. In order.
    pub cuts: Vec<Pair>,
    /// Pairs that do not reach each other now, and would. In order.
    pub joins: Vec<Pair>,
    /// So many pairs of which that is not known, now or then.
    pub unknown: usize,
    /// The families of all pairs, also of those that stay as they are.
    pub families: BTreeSet<Family>,
}

/// Why it is not said what a change does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotSaid {
    /// The lab does not run: there is nothing to cut.
    NotRunning,
    /// It has more nodes than [`MOST_NODES`].
    TooLarge,
    /// What a node translates (NAT) changes, which is not followed.
    Translation,
}

/// Of larger labs it would take longer than the plan.
pub const MOST_NODES: usize = 1024;

/// Says what it would do to a running lab to make it as `lab` is.
///
/// # Errors
/// The lab cannot be planned, or the running one not be looked at.
pub fn effect(home: &Home, lab: &Lab) -> Result<Result<Effect, NotSaid>, Error> {
    let running = match Running::find(home, lab.name()) {
        Ok(running) => running,
        Err(Error::NotRunning { .. }) => return Ok(Err(NotSaid::NotRunning)),
        Err(error) => return Err(error),
    };
    if lab.nodes().len().max(running.contents()?.lab.nodes().len()) > MOST_NODES {
        return Ok(Err(NotSaid::TooLarge));
    }
    let Wanted { state, hosts, .. } = crate::wanted::desired(lab).map_err(Error::Plan)?;
    let mut world = running.world()?;
    let found = running.observe(&mut world, &state)?;
    let translates = |state: &NetState| -> BTreeMap<NsName, _> {
        let all = state.namespaces.iter().map(|(name, space)| (name.clone(), space.nat.clone()));
        all.filter(|(_, nat)| nat.is_some()).collect()
    };
    if translates(&found) != translates(&state) {
        return Ok(Err(NotSaid::Translation));
    }
    let snapshot = world.snapshot(&SnapshotScope::default())?;
    let before = side(&found, &snapshot, &running.contents()?.hosts);
    Ok(Ok(compare(&before, &side(&state, &snapshot, &hosts))))
}

/// Who reaches whom in one state of the lab.
struct Side {
    matrix: Matrix,
    /// The place of each node among the sources.
    sources: HashMap<NsName, usize>,
    /// And of its address of a family among the targets.
    targets: HashMap<(NsName, Family), usize>,
}

/// Both are derived from a state in the same way, so that what a state does not tell makes no difference.
fn side(state: &NetState, beside: &Snapshot, hosts: &[(NsName, Vec<IpAddr>)]) -> Side {
    let network = derive(state, Some(beside));
    let nodes: Vec<NsName> = hosts.iter().map(|(node, _)| node.clone()).collect();
    let target = |(node, addresses): &(NsName, Vec<IpAddr>)| {
        let of_node = |addr| Target { node: node.clone(), addr };
        first_of_each_family(addresses).into_iter().map(of_node).collect::<Vec<_>>()
    };
    let targets: Vec<Target> = hosts.iter().flat_map(target).collect();
    Side {
        matrix: matrix(&network, &nodes, &targets),
        sources: (0..).zip(nodes).map(|(at, node)| (node, at)).collect(),
        targets: (0..).zip(targets).map(|(at, it)| ((it.node, Family::of(it.addr)), at)).collect(),
    }
}

impl Side {
    fn pair(&self, source: usize, target: usize) -> Pair {
        let Target { node, addr } = &self.matrix.targets()[target];
        Pair { from: self.matrix.sources()[source].clone(), to: node.clone(), family: Family::of(*addr) }
    }

    /// For each place on another side the place here.
    fn places_of(&self, other: &Side) -> [Vec<Option<usize>>; 2] {
        let sources = other.matrix.sources().iter().map(|node| self.sources.get(node).copied()).collect();
        let target = |it: &Target| self.targets.get(&(it.node.clone(), Family::of(it.addr))).copied();
        [sources, other.matrix.targets().iter().map(target).collect()]
    }

    /// `None`: not known. A pair of which one node is not there does not reach each other.
    fn reached(&self, source: Option<usize>, target: Option<usize>) -> Option<bool> {
        match source.zip(target).map(|(source, target)| self.matrix.get(source, target)) {
            Some(cell) => is_reached(cell),
            None => Some(false),
        }
    }
}

fn is_reached(cell: Cell<'_>) -> Option<bool> {
    match cell {
        Cell::Stopped(cause) if cause.undecided => None,
        cell => Some(cell == Cell::Reached),
    }
}

fn compare(before: &Side, after: &Side) -> Effect {
    let mut effect = Effect::default();
    let mut note = |side: &Side, source, target, before, after| match (before, after) {
        (Some(true), Some(false)) => effect.cuts.push(side.pair(source, target)),
        (Some(false), Some(true)) => effect.joins.push(side.pair(source, target)),
        (None, _) | (_, None) => effect.unknown += 1,
        _ => {}
    };
    let [sources, targets] = after.places_of(before);
    for (source, target, cell) in before.matrix.pairs() {
        note(before, source, target, is_reached(cell), after.reached(sources[source], targets[target]));
    }
    let [sources, targets] = before.places_of(after);
    for (source, target, cell) in after.matrix.pairs() {
        if sources[source].is_none() || targets[target].is_none() {
            note(after, source, target, Some(false), is_reached(cell));
        }
    }
    let all = before.matrix.targets().iter().chain(after.matrix.targets());
    effect.families = all.map(|target| Family::of(target.addr)).collect();
    effect.cuts.sort();
    effect.joins.sort();
    effect
}
