//! A network taken down for later, and what can be said of one that is not there any more.

use std::net::IpAddr;
use std::sync::Arc;

use hopyard_explain::{Choices, Outcome, Query, explain, repair};
use hopyard_kernel::{SnapshotScope, World};
use hopyard_net::{Family, IfName, LinkState, NodeState, NsName, Op, Snapshot};

use super::{Forbidden, Report, drift};
use crate::error::Error;
use crate::running::Running;

/// A network as it is now, with all that an explanation may need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// Who listens is in it, of all nodes.
    pub snapshot: Snapshot,
    /// What would have to be done to make it as it was declared.
    pub drift: Vec<Op>,
}

/// Takes down a lab as it is now.
///
/// # Errors
/// It went down meanwhile, or cannot be read.
pub fn record(running: &Running) -> Result<Network, Error> {
    let mut world = running.world()?;
    Ok(Network { snapshot: read_all(&world)?, drift: drift(running, &mut world)? })
}

/// All that a network shows.
pub(super) fn read_all(world: &World) -> Result<Snapshot, Error> {
    let scope = SnapshotScope { listeners: world.names().cloned().collect() };
    Ok(world.snapshot(&scope)?)
}

/// Looks into it by the model alone: nobody is asked, and nothing is sent.
pub fn computed(snapshot: Snapshot, query: Query, drift: &[Op]) -> Report {
    // Which of several equal routes is taken, only a kernel says.
    let choices = Choices::new();
    let verdict = explain(&snapshot, &query, &choices);
    let repair = match verdict.outcome() {
        Outcome::Yes => None,
        _ => repair(&snapshot, &query, &choices, drift),
    };
    let owner = query.owner(&snapshot);
    let (asked, disagreements, snapshot) = (Vec::new(), Vec::new(), Arc::new(snapshot));
    let forbidden = Forbidden::default();
    Report { query, verdict, asked, seen: None, disagreements, repair, forbidden, owner, snapshot }
}

/// The address of each family by which a node is best reached, IPv4 first: of the first interface that has
/// one for others, in the kernel's order; of `lo` only where no other has.
pub fn main_addresses(snapshot: &Snapshot, node: &NsName) -> Vec<IpAddr> {
    let Some(NodeState { links, .. }) = snapshot.nodes.get(node) else { return Vec::new() };
    let mut links: Vec<(&IfName, &LinkState)> = links.iter().collect();
    links.sort_by_key(|(dev, link)| (**dev == IfName::LO, link.index));
    let all = links.iter().flat_map(|(_, link)| &link.addresses);
    let fit = all.filter(|own| !own.host_only && own.usable).map(|own| own.net.addr());
    let reachable = |addr: &IpAddr| !matches!(addr, IpAddr::V6(addr) if addr.is_unicast_link_local());
    let fit: Vec<IpAddr> = fit.filter(reachable).collect();
    Family::BOTH.into_iter().filter_map(|family| fit.iter().copied().find(|addr| Family::of(*addr) == family)).collect()
}
