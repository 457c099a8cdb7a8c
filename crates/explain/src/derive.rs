//! What kernels would make of a state: a snapshot of a network that is not there, or not yet.

use std::net::{IpAddr, Ipv6Addr};

use hopyard_net::{
    FibRoute, IfAddress, IfName, IpNet, Ipv4Conf, LinkKind, LinkState, MacAddr, Neighbour, NetState, NodeState,
    PolicyRule, Ruleset, Snapshot, SysctlKey,
};

use crate::edit::{add_address, set_sysctl};

/// The MTU of `lo`.
const LOOPBACK_BYTES: u32 = 65536;

/// Derives a snapshot: what the state says, and what kernels add by themselves.
///
/// `beside` has what a state does not tell, of nodes and interfaces of the same name: policy rules, firewalls,
/// and settings that nobody asked about. What was learnt is forgotten.
pub fn derive(state: &NetState, beside: Option<&Snapshot>) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for (ns, space) in &state.namespaces {
        let before = beside.and_then(|beside| beside.nodes.get(ns));
        let mut node = NodeState {
            rules: before.map_or_else(PolicyRule::defaults, |before| before.rules.clone()),
            bridge_nf: before.and_then(|before| before.bridge_nf),
            firewall: before.map_or_else(|| Some(Ruleset::default()), |before| before.firewall.clone()),
            all: before.map(|before| before.all).unwrap_or_default(),
            forwards_ipv6: before.is_some_and(|before| before.forwards_ipv6),
            ..NodeState::default()
        };
        for (at, (dev, link)) in space.links.iter().enumerate() {
            let same = before.and_then(|before| before.links.get(dev));
            let is_up = |end: &hopyard_net::Endpoint| {
                let there = state.namespaces.get(&end.ns).and_then(|space| space.links.get(&end.dev));
                there.is_none_or(|there| there.up)
            };
            let carrier = match &link.kind {
                LinkKind::Veth { peer: Some(peer) } => is_up(peer),
                _ => true,
            };
            let mut new = LinkState::new(link.kind.clone());
            new.index = u32::try_from(at).unwrap_or(u32::MAX);
            new.mac = link.mac.or(same.and_then(|same| same.mac));
            new.mtu = match (link.mtu, *dev == IfName::LO) {
                (Some(mtu), _) => mtu.get(),
                (None, true) => LOOPBACK_BYTES,
                (None, false) => same.map_or(new.mtu, |same| same.mtu),
            };
            new.master = link.master;
            new.up = link.up;
            new.carrier = link.up && carrier;
            // A new interface forwards as all do.
            let like_all = Ipv4Conf { forwarding: node.all.forwarding, ..Ipv4Conf::default() };
            new.conf = same.map_or(like_all, |same| same.conf);
            new.beyond = same.and_then(|same| same.beyond.clone());
            node.links.insert(*dev, new);
        }
        // The switch for all first, or it would undo those of single interfaces.
        let (first, then): (Vec<_>, Vec<_>) =
            space.sysctls.iter().partition(|(key, _)| **key == SysctlKey::IPV4_FORWARD);
        for (key, value) in first.into_iter().chain(then) {
            set_sysctl(&mut node, key, value);
        }
        for (dev, link) in &space.links {
            if *dev == IfName::LO && link.up {
                host_only(&mut node);
            }
            let Some(new) = node.links.get(dev) else { continue };
            // The kernel makes it with the link, and asks neighbours from it.
            let own = new.mac.filter(|_| link.up && link.master.is_none()).map(link_local);
            for net in link.addresses.iter().copied().chain(own.and_then(|addr| IpNet::new(addr, 64).ok())) {
                add_address(&mut node, *dev, net);
            }
        }
        node.routes.extend(space.routes.values().map(FibRoute::from));
        let permanent = |((dev, addr), mac): (&(IfName, IpAddr), &MacAddr)| Neighbour {
            dev: *dev,
            addr: *addr,
            mac: *mac,
            permanent: true,
        };
        node.neighbours.extend(space.neighbours.iter().map(permanent));
        snapshot.nodes.insert(ns.clone(), node);
    }
    snapshot
}

/// The addresses of `lo`.
fn host_only(node: &mut NodeState) {
    for text in ["127.0.0.1/8", "::1/128"] {
        let Ok(net) = text.parse::<IpNet>() else { continue };
        add_address(node, IfName::LO, net);
    }
    if let Some(lo) = node.links.get_mut(&IfName::LO) {
        for own in &mut lo.addresses {
            *own = IfAddress { host_only: true, ..*own };
        }
    }
}

/// RFC 4291, appendix A: the Ethernet address with `ff:fe` in its middle, and one bit turned.
fn link_local(mac: MacAddr) -> IpAddr {
    let [a, b, c, d, e, f] = mac.bytes();
    let pair = |high: u8, low: u8| u16::from_be_bytes([high, low]);
    Ipv6Addr::new(0xfe80, 0, 0, 0, pair(a ^ 2, b), pair(c, 0xff), pair(0xfe, d), pair(e, f)).into()
}
