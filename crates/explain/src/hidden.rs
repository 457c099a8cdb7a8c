//! What a node hides by translating addresses: nobody outside has a route to it, and that is meant so.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use hopyard_net::{IfName, Nat, NatRule, NodeState, NsName, Op, Snapshot};

use crate::lookup::main_route;
use crate::segment::distances;
use crate::{Choices, Packet, Protocol, Trace, walk};

/// An address that a node hides from all outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hidden {
    /// The node that translates.
    pub by: NsName,
    /// By which address it can be reached from outside, if by any.
    pub instead: Option<IpAddr>,
}

/// The nearest node to the owner of an address that hides it and reaches it, by the rules which are in force
/// there and which a plan has made. `None`: none does.
pub fn hidden(snapshot: &Snapshot, owner: &NsName, addr: IpAddr) -> Option<Hidden> {
    let distances = distances(snapshot, owner);
    let hides = |(ns, node): (&NsName, &NodeState)| {
        let nat = in_force(node);
        let far = distances.get(ns).filter(|far| **far > 0)?;
        let arrives = || {
            let packet = Packet::probe(addr, Protocol::Icmp, 0);
            walk(snapshot, ns, packet, Some(owner), &Trace::default(), &Choices::new()).arrives()
        };
        (is_behind(node, &outside(&nat), addr) && arrives()).then(|| (*far, ns.clone(), nat))
    };
    let (_, by, nat) = snapshot.nodes.iter().filter_map(hides).min_by_key(|(far, ns, _)| (*far, ns.clone()))?;
    let instead = nat.rules.iter().find_map(|rule| match rule {
        NatRule::Destination { address, service: None, to, .. } if *to == addr => *address,
        _ => None,
    });
    Some(Hidden { by, instead })
}

/// For each node that hides something, the interfaces outside: as declared, where that is no longer in force.
pub(crate) fn all_outside(snapshot: &Snapshot, drift: &[Op]) -> BTreeMap<NsName, BTreeSet<IfName>> {
    let mut all: BTreeMap<NsName, BTreeSet<IfName>> =
        snapshot.nodes.iter().map(|(ns, node)| (ns.clone(), outside(&in_force(node)))).collect();
    for op in drift {
        match op {
            Op::SetNat { ns, nat, .. } => drop(all.insert(ns.clone(), outside(nat))),
            Op::DelNat(ns) => drop(all.remove(ns)),
            _ => {}
        }
    }
    all.retain(|_, interfaces| !interfaces.is_empty());
    all
}

/// Is an address behind a node whose interfaces outside are those: does it send there by another one?
pub(crate) fn is_behind(node: &NodeState, outside: &BTreeSet<IfName>, addr: IpAddr) -> bool {
    let route = main_route(node, addr).filter(|_| !outside.is_empty());
    route.is_some_and(|route| {
        let hops = route.next_hops();
        !hops.is_empty() && hops.iter().all(|hop| !outside.contains(&hop.dev))
    })
}

/// What a plan has made a node translate.
fn in_force(node: &NodeState) -> Nat {
    let chains = node.firewall.iter().flat_map(|rules| &rules.chains);
    let ours: Vec<_> = chains.filter(|chain| chain.family == "inet" && chain.table == Nat::TABLE).cloned().collect();
    Nat::of_chains(&ours)
}

/// By these interfaces nothing leaves with the source that it came with.
fn outside(nat: &Nat) -> BTreeSet<IfName> {
    let out = |rule: &NatRule| match rule {
        NatRule::Source { out, from: None, .. } | NatRule::Masquerade { out, from: None } => Some(*out),
        _ => None,
    };
    nat.rules.iter().filter_map(out).collect()
}
