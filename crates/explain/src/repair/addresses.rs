//! Addresses that a repair gives to a node, takes from it, or gives another length.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use hopyard_net::{Endpoint, IfName, IpNet, LinkKind, MacAddr, Neighbour, NodeState, NsName, Op};

use super::proposals::{Context, DECLARED, INTRUSIVE, Proposal, at, push};
use crate::Edit;
use crate::segment::{link_at, owners, segment};

impl Context<'_> {
    /// A node that has an address which belongs to another.
    pub(super) fn not_the_owner(&self, addr: Option<IpAddr>, ns: &NsName, found: &mut Vec<Proposal>) {
        let Some(addr) = addr else { return };
        for end in owners(self.snapshot, addr).into_iter().filter(|end| end.ns == *ns) {
            self.take_address(&end, addr, found);
        }
    }

    pub(super) fn take_address(&self, end: &Endpoint, addr: IpAddr, found: &mut Vec<Proposal>) {
        let link = link_at(self.snapshot, end);
        let Some(own) = link.and_then(|link| link.addresses.iter().find(|own| own.net.addr() == addr)) else { return };
        let mut edits = vec![Edit::Op(Op::DelAddr { at: end.clone(), addr: own.net })];
        // Who has learnt where it was would go on sending there.
        for hop in &self.walk.hops {
            let Some(next) = &hop.next else { continue };
            let learnt = self.snapshot.nodes.get(&hop.node).is_some_and(|node| {
                node.neighbours.iter().any(|it| it.dev == next.dev && it.addr == addr && !it.permanent)
            });
            if learnt {
                edits.push(Edit::Op(Op::DelNeigh { at: at(&hop.node, next.dev), addr }));
            }
        }
        push(found, INTRUSIVE, edits);
    }

    /// Gives one of those that have an Ethernet address another one: not the ends of the packet's way, if there is another.
    pub(super) fn tell_apart(&self, ns: &NsName, mac: MacAddr, owners: &[Endpoint], found: &mut Vec<Proposal>) {
        // What switches have is theirs.
        let of_node = |end: &&Endpoint| {
            link_at(self.snapshot, end).is_some_and(|link| link.master.is_none() && link.kind != LinkKind::Bridge)
        };
        let on_way = |end: &Endpoint| end.ns == *ns || Some(&end.ns) == self.target.as_ref();
        let ends: Vec<&Endpoint> = owners.iter().filter(of_node).collect();
        let beside = ends.iter().any(|end| !on_way(end));
        let Some(other) = self.unused(mac) else { return };
        for end in ends.into_iter().filter(|end| !beside || !on_way(end)) {
            let change = Edit::Op(Op::SetMac { at: end.clone(), mac: other });
            push(found, INTRUSIVE, [change].into_iter().chain(self.forgetting(mac)).collect());
        }
    }

    /// Who is asked for anew speaks, and then the switches know where it is; a change of its Ethernet address they do not see.
    pub(super) fn forgetting(&self, mac: MacAddr) -> Vec<Edit> {
        let mut edits = Vec::new();
        for hop in &self.walk.hops {
            let (Some(next), Some(node)) = (&hop.next, self.snapshot.nodes.get(&hop.node)) else { continue };
            let is_it = |it: &&Neighbour| it.dev == next.dev && it.mac == mac && !it.permanent;
            let asked = next.via.unwrap_or(self.dst);
            let learnt = node.neighbours.iter().filter(is_it).filter(|it| it.addr == asked);
            edits.extend(learnt.map(|it| Edit::Op(Op::DelNeigh { at: at(&hop.node, next.dev), addr: it.addr })));
        }
        edits
    }

    /// The next one that nobody has, administered locally (IEEE 802).
    fn unused(&self, mac: MacAddr) -> Option<MacAddr> {
        let links = self.snapshot.nodes.values().flat_map(|node| node.links.values().filter_map(|link| link.mac));
        let known = self.snapshot.nodes.values().flat_map(|node| node.neighbours.iter().map(|it| it.mac));
        let used: BTreeSet<[u8; 6]> = links.chain(known).map(MacAddr::bytes).collect();
        let [first, rest @ ..] = mac.bytes();
        let number = rest.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        let next = |step: u64| {
            let [_, _, _, rest @ ..] = (number + step).to_be_bytes();
            let [a, b, c, d, e] = rest;
            [first & !1 | 2, a, b, c, d, e]
        };
        (1..=u64::from(u16::MAX)).map(next).find(|it| !used.contains(it)).map(MacAddr::from_bytes)
    }

    /// Gives an address that nobody on a link has to the node that should have it.
    pub(super) fn give_address(
        &self,
        ns: &NsName,
        node: &NodeState,
        dev: IfName,
        addr: IpAddr,
        found: &mut Vec<Proposal>,
    ) {
        let Some(own) = node.links.get(&dev).and_then(|link| link.addresses.iter().find(|it| it.net.contains(&addr)))
        else {
            return;
        };
        let Ok(net) = IpNet::new(addr, own.net.prefix_len()) else { return };
        let Some(&distance) = self.distances.get(ns) else { return };
        for end in segment(self.snapshot, &at(ns, dev), true).ends.keys() {
            let nearer = self.distances.get(&end.ns).is_some_and(|there| *there < distance);
            let takes = link_at(self.snapshot, end)
                .is_some_and(|link| link.master.is_none() && !matches!(link.kind, LinkKind::Bridge));
            let elsewhere = owners(self.snapshot, addr);
            if nearer && takes && elsewhere.is_empty() {
                push(found, INTRUSIVE, vec![Edit::Op(Op::AddAddr { at: end.clone(), addr: net })]);
            }
        }
    }

    /// Gives an address the length that the others on its segment have. Where they are all of one mind, that is as good
    /// as declared: a route around a wrong length would leave it for whatever else it hides.
    pub(super) fn mend_mask(&self, ns: &NsName, node: &NodeState, dev: IfName, net: IpNet, found: &mut Vec<Proposal>) {
        let Some(_) = node.links.get(&dev) else { return };
        let mut lengths: BTreeMap<u8, usize> = BTreeMap::new();
        for end in segment(self.snapshot, &at(ns, dev), true).ends.keys() {
            for own in link_at(self.snapshot, end).into_iter().flat_map(|link| &link.addresses) {
                if own.net.contains(&net.addr()) && own.net.addr() != net.addr() {
                    *lengths.entry(own.net.prefix_len()).or_default() += 1;
                }
            }
        }
        let declared =
            |op: &Op| matches!(op, Op::AddAddr { at: end, addr } if *end == at(ns, dev) && addr.addr() == net.addr());
        let agreed = lengths.len() == 1 && !self.drift.iter().any(declared);
        let most = lengths.into_iter().max_by_key(|(length, count)| (*count, *length));
        if let Some((length, _)) = most.filter(|(length, _)| *length != net.prefix_len())
            && let Ok(mended) = IpNet::new(net.addr(), length)
        {
            let del = Edit::Op(Op::DelAddr { at: at(ns, dev), addr: net });
            let add = Edit::Op(Op::AddAddr { at: at(ns, dev), addr: mended });
            // Routes go with the last IPv4 address of an interface; an IPv6 address cannot be there twice.
            let edits = if net.addr().is_ipv4() { vec![add, del] } else { vec![del, add] };
            if agreed {
                found.push(Proposal { cost: DECLARED, edits: edits.into_iter().map(|edit| (edit, false)).collect() });
            } else {
                push(found, INTRUSIVE, edits);
            }
        }
    }
}
