//! What a node hides by translating addresses: nobody outside has a route to it, and that is meant so.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use hopyard_net::{Endpoint, IfName, Nat, NatRule, NodeState, NsName, Op, Service, Snapshot, Transport};

use crate::lookup::main_route;
use crate::segment::{distances, segment};
use crate::{Choices, Packet, Protocol, Trace, walk};

/// An address that a node hides from all outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hidden {
    /// The node that translates.
    pub by: NsName,
    /// By which address it can be reached from outside, if by any.
    pub instead: Option<IpAddr>,
    /// By which port, if by one alone: the address, or any of the node that translates.
    pub published: Vec<(Option<IpAddr>, Service)>,
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
    let published = nat.rules.iter().filter_map(|rule| match rule {
        NatRule::Destination { address, service: Some(service), to, .. } if *to == addr => Some((*address, *service)),
        _ => None,
    });
    let published = published.collect();
    Some(Hidden { by, instead, published })
}

/// A host that a node hides, and that waits there for what was sent to that node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Behind {
    /// The host.
    pub node: NsName,
    /// Its address.
    pub addr: IpAddr,
    /// The address and the port outside that stand for it already; without an address, any of the node that hides it.
    pub published: Option<(Option<IpAddr>, u16)>,
}

/// The addresses of the nodes that a node hides and reaches; none, unless it translates.
pub fn behind(snapshot: &Snapshot, by: &NsName) -> BTreeMap<NsName, Vec<IpAddr>> {
    let Some(node) = snapshot.nodes.get(by) else { return BTreeMap::new() };
    let outside = outside(&in_force(node));
    let mut found: BTreeMap<NsName, Vec<IpAddr>> = BTreeMap::new();
    for (ns, other) in snapshot.nodes.iter().filter(|(ns, _)| *ns != by && !outside.is_empty()) {
        for addr in other.links.values().flat_map(|link| &link.addresses).map(|own| own.net.addr()) {
            let arrives = || {
                let packet = Packet::probe(addr, Protocol::Icmp, 0);
                walk(snapshot, by, packet, Some(ns), &Trace::default(), &Choices::new()).arrives()
            };
            if is_behind(node, &outside, addr) && arrives() {
                found.entry(ns.clone()).or_default().push(addr);
            }
        }
    }
    found
}

/// Nothing waits at a port of a node: do those wait there that the node hides, as far as their sockets are known?
pub fn waiting_behind(snapshot: &Snapshot, by: &NsName, packet: &Packet) -> Vec<Behind> {
    let transport = if packet.protocol == Protocol::Tcp { Transport::Tcp } else { Transport::Udp };
    let rules = snapshot.nodes.get(by).map(in_force).unwrap_or_default().rules;
    let waits = |node: &NodeState, addr: IpAddr| {
        let all = node.listeners.iter().flatten();
        let mut here = all.filter(|it| it.tcp == (transport == Transport::Tcp) && it.port == packet.destination_port);
        here.any(|it| !it.bound_to_device && it.addr.is_none_or(|own| own == addr))
    };
    let stands_for = |addr: IpAddr| {
        rules.iter().find_map(|rule| match rule {
            NatRule::Destination { address, service: Some(service), to, port } => {
                let inside = port.unwrap_or(service.port);
                let fits = (*to, inside) == (addr, packet.destination_port) && service.transport == transport;
                fits.then_some((*address, service.port))
            }
            _ => None,
        })
    };
    let mut found = Vec::new();
    for (ns, addresses) in behind(snapshot, by) {
        let same = |addr: &&IpAddr| addr.is_ipv4() == packet.dst.is_ipv4();
        let node = snapshot.nodes.get(&ns);
        let at = addresses.iter().filter(same).find(|addr| node.is_some_and(|node| waits(node, **addr)));
        found.extend(at.map(|addr| Behind { node: ns, addr: *addr, published: stands_for(*addr) }));
    }
    found
}

/// The nodes that could let an address on the link of an interface stand for one that they hide: they translate, and
/// have that link outside.
pub fn translators(snapshot: &Snapshot, at: &Endpoint, addr: IpAddr) -> Vec<NsName> {
    let ends = segment(snapshot, at, true).ends;
    let has_it = |end: &&Endpoint| {
        let Some(node) = snapshot.nodes.get(&end.ns) else { return false };
        let net = node.links.get(&end.dev).is_some_and(|link| link.addresses.iter().any(|own| own.net.contains(&addr)));
        net && outside(&in_force(node)).contains(&end.dev)
    };
    let mut found: Vec<NsName> = ends.keys().filter(has_it).map(|end| end.ns.clone()).collect();
    found.dedup();
    found
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
