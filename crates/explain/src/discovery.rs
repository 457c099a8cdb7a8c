//! Neighbour discovery (RFC 4861) is made of packets, which firewalls see like all others; ARP is not.

use std::net::{IpAddr, Ipv6Addr};

use hopyard_net::{Endpoint, Hook, IfName, NodeState, NsName, Snapshot};

use crate::filter::{self, Seen};
use crate::packet::Discovery;
use crate::{Packet, Protocol, Reason};

/// A question that is not answered, as a firewall stands between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stopped {
    /// Whose.
    pub(crate) by: NsName,
    /// Is it the answer that is stopped?
    pub(crate) answer: bool,
    /// What stops it.
    pub(crate) why: Reason,
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asking<'a> {
    pub(crate) node: &'a NodeState,
    pub(crate) at: &'a Endpoint,
    /// From that address.
    pub(crate) from: IpAddr,
    /// Whom.
    pub(crate) addr: IpAddr,
}

/// What stops the question for an address on its way to who has it, or the answer on its way back. `None`: nothing does.
pub(crate) fn stopped(snapshot: &Snapshot, asking: Asking<'_>, owner: &Endpoint) -> Option<Stopped> {
    let there = snapshot.nodes.get(&owner.ns)?;
    let here = (asking.node, asking.at);
    let question = message(asking.from, IpAddr::V6(solicited(asking.addr)?), Discovery::Question);
    let answer = message(asking.addr, asking.from, Discovery::Answer);
    let ways = [(question, here, (there, owner), false), (answer, (there, owner), here, true)];
    for (packet, from, to, is_answer) in ways {
        let leaves = [Hook::Output, Hook::Postrouting].map(|hook| (from, hook, None, Some(from.1.dev)));
        let comes = [Hook::Ingress, Hook::Prerouting, Hook::Input].map(|hook| (to, hook, Some(to.1.dev), None));
        for ((node, at), hook, input, output) in leaves.into_iter().chain(comes) {
            if let Some(why) = refuses(node, packet, hook, input, output) {
                return Some(Stopped { by: at.ns.clone(), answer: is_answer, why });
            }
        }
    }
    None
}

fn refuses(
    node: &NodeState,
    packet: Packet,
    hook: Hook,
    input: Option<IfName>,
    output: Option<IfName>,
) -> Option<Reason> {
    let next = output.map(|_| packet.dst);
    let seen = Seen { node, packet: &packet, input, output, next, knows_connection: false, translated: None };
    filter::check(hook, seen).err()
}

fn message(from: IpAddr, to: IpAddr, what: Discovery) -> Packet {
    /// RFC 4861, section 7.1: whoever forwards it makes it invalid.
    const HOP_LIMIT: u8 = 255;
    /// With the option that has the Ethernet address.
    const LENGTH: u32 = 72;
    Packet {
        src: Some(from),
        ttl: HOP_LIMIT,
        length: LENGTH,
        discovery: Some(what),
        ..Packet::probe(to, Protocol::Icmp, 0)
    }
}

/// The group of all who may have an address (RFC 4291, section 2.7.1).
fn solicited(addr: IpAddr) -> Option<Ipv6Addr> {
    let IpAddr::V6(addr) = addr else { return None };
    let [.., a, b, c] = addr.octets();
    Some(Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c]))
}
