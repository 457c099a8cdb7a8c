//! Which pairs of nodes a change of a running lab would cut, and which it would join: from the model alone.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use hopyard_explain::{Cell, Target, derive, matrix};
use hopyard_kernel::SnapshotScope;
use hopyard_model::Lab;
use hopyard_net::{Family, NetState, NsName, Snapshot};
use hopyard_plan::{Wanted, desired};

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
pub const MOST_NODES: usize = 512;

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
    let Wanted { state, hosts, .. } = desired(lab).map_err(Error::Plan)?;
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
    let before = reached(&found, &snapshot, &running.contents()?.hosts);
    Ok(Ok(compare(&before, &reached(&state, &snapshot, &hosts))))
}

/// Pairs with whether they reach each other; `None`: not known.
type Reached = BTreeMap<Pair, Option<bool>>;

/// Both are derived from a state in the same way, so that what a state does not tell makes no difference.
fn reached(state: &NetState, beside: &Snapshot, hosts: &[(NsName, Vec<IpAddr>)]) -> Reached {
    let network = derive(state, Some(beside));
    let nodes: Vec<NsName> = hosts.iter().map(|(node, _)| node.clone()).collect();
    let target = |(node, addresses): &(NsName, Vec<IpAddr>)| {
        let of_node = |addr| Target { node: node.clone(), addr };
        first_of_each_family(addresses).into_iter().map(of_node).collect::<Vec<_>>()
    };
    let targets: Vec<Target> = hosts.iter().flat_map(target).collect();
    let all = matrix(&network, &nodes, &targets);
    let pair = |(source, target, cell): (usize, usize, Cell<'_>)| {
        let Target { node, addr } = &targets[target];
        let pair = Pair { from: nodes[source].clone(), to: node.clone(), family: Family::of(*addr) };
        let reached = match cell {
            Cell::Stopped(cause) if cause.undecided => None,
            cell => Some(cell == Cell::Reached),
        };
        (pair, reached)
    };
    all.pairs().map(pair).collect()
}

fn compare(before: &Reached, after: &Reached) -> Effect {
    let mut effect = Effect::default();
    // A pair of which one node is not there does not reach each other.
    let at = |of: &Reached, pair: &Pair| of.get(pair).copied().unwrap_or(Some(false));
    let new = after.keys().filter(|pair| !before.contains_key(*pair));
    for pair in before.keys().chain(new) {
        effect.families.insert(pair.family);
        match (at(before, pair), at(after, pair)) {
            (Some(true), Some(false)) => effect.cuts.push(pair.clone()),
            (Some(false), Some(true)) => effect.joins.push(pair.clone()),
            (None, _) | (_, None) => effect.unknown += 1,
            _ => {}
        }
    }
    effect.joins.sort();
    effect
}
