//! What is at the other end of an interface: cables, switches, and who answers for an address.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

use hopyard_net::{
    Endpoint, Family, FibAction, IfName, IpNet, LinkKind, LinkState, MacAddr, NodeState, NsName, Snapshot,
};

use crate::header::Question;
use crate::lookup::{self, Disbelief, Found};
use crate::{ArpRefusal, Packet, Protocol, Reason};
use crate::{frames, twins};

/// The interfaces that frames from one interface come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Those that take them in, with the least frame size on the way there: `None`, no limit met.
    pub(crate) ends: BTreeMap<Endpoint, Way>,
    /// Interfaces that would let them on and are down.
    pub(crate) down: Vec<Endpoint>,
    /// Why it is not known who else gets frames.
    pub(crate) beyond: Option<String>,
    /// An interface by which they leave what is known.
    pub(crate) outside: Option<Endpoint>,
}

/// What a frame meets on the way to an end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Way {
    /// The smallest packet size that an interface on the way takes in, and which one it is.
    pub(crate) narrowest: Option<(u32, Endpoint)>,
    /// The bridges that it crosses.
    pub(crate) crossings: Vec<Crossing>,
    /// Why it is not known whether it gets through.
    pub(crate) beyond: Option<String>,
}

/// A bridge that a frame crosses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Crossing {
    pub(crate) bridge: Endpoint,
    /// The port that it comes in by; `None`: it is of the bridge's own node.
    pub(crate) input: Option<IfName>,
    /// The port that it leaves by; `None`: it is for the bridge's own node.
    pub(crate) output: Option<IfName>,
}

impl Way {
    /// The switches that it crosses.
    pub(crate) fn switches(&self) -> impl Iterator<Item = &NsName> {
        self.crossings.iter().map(|it| &it.bridge.ns)
    }

    /// The bridges that an answer crosses, in its order.
    pub(crate) fn back(&self) -> Vec<Crossing> {
        let turned = |it: &Crossing| Crossing { bridge: it.bridge.clone(), input: it.output, output: it.input };
        self.crossings.iter().rev().map(turned).collect()
    }

    /// By an interface that lets through what fits it.
    fn narrowed(mut self, at: &Endpoint, link: &LinkState) -> Self {
        if self.narrowest.as_ref().is_none_or(|(bytes, _)| *bytes > link.mtu) {
            self.narrowest = Some((link.mtu, at.clone()));
        }
        self
    }

    /// By an interface or a bridge.
    fn by(mut self, at: &Endpoint, link: &LinkState) -> Self {
        self.beyond = self.beyond.or_else(|| link.beyond.as_ref().map(|what| format!("{at}: {what}")));
        self
    }

    fn through(mut self, bridge: &Endpoint, input: Option<IfName>, output: Option<IfName>) -> Self {
        self.crossings.push(Crossing { bridge: bridge.clone(), input, output });
        self
    }
}

pub(crate) fn link_at<'a>(snapshot: &'a Snapshot, at: &Endpoint) -> Option<&'a LinkState> {
    snapshot.nodes.get(&at.ns)?.links.get(&at.dev)
}

/// The other end of a cable.
pub(crate) fn peer_of(link: &LinkState) -> Option<&Endpoint> {
    match &link.kind {
        LinkKind::Veth { peer } => peer.as_ref(),
        _ => None,
    }
}

/// Where frames from an interface go. `as_wired`: whatever is up or down.
pub(crate) fn segment(snapshot: &Snapshot, from: &Endpoint, as_wired: bool) -> Segment {
    let mut found = Segment::default();
    let Some(start) = link_at(snapshot, from) else { return found };
    // Frames that leave a port, and those that a bridge sends out of its ports.
    let mut seen = BTreeSet::from([from.clone()]);
    let mut todo: VecDeque<(Endpoint, Way)> = VecDeque::new();
    if start.kind == LinkKind::Bridge {
        note_sharing(from, start, &mut found);
        for port in ports_of(snapshot, from) {
            let way = Way::default().by(from, start).through(from, None, Some(port.dev));
            leave(snapshot, &port, way, as_wired, &mut found, &mut todo);
        }
    } else {
        leave(snapshot, from, Way::default(), as_wired, &mut found, &mut todo);
    }
    while let Some((at, way)) = todo.pop_front() {
        if !seen.insert(at.clone()) {
            continue;
        }
        let Some(link) = link_at(snapshot, &at) else { continue };
        let way = way.narrowed(&at, link).by(&at, link);
        note_sharing(&at, link, &mut found);
        let Some(bridge) = link.master else {
            found.ends.insert(at, way);
            continue;
        };
        let bridge = Endpoint { ns: at.ns.clone(), dev: bridge };
        let Some(state) = link_at(snapshot, &bridge) else { continue };
        if !state.up && !as_wired {
            found.down.push(bridge);
            continue;
        }
        let way = way.by(&bridge, state);
        note_sharing(&bridge, state, &mut found);
        if seen.insert(bridge.clone()) {
            for port in ports_of(snapshot, &bridge).into_iter().filter(|port| *port != at) {
                let way = way.clone().through(&bridge, Some(at.dev), Some(port.dev));
                leave(snapshot, &port, way, as_wired, &mut found, &mut todo);
            }
            let way = way.through(&bridge, Some(at.dev), None);
            found.ends.insert(bridge, way);
        }
    }
    found
}

/// Frames that come to an interface come to those that stand on it as well, which nobody follows.
fn note_sharing(at: &Endpoint, link: &LinkState, found: &mut Segment) {
    if let Some(by) = &link.shared_by {
        found.beyond.get_or_insert_with(|| format!("{by} stands on {at} and gets frames by it; that is not followed"));
    }
}

/// A frame leaves by an interface, and comes to the other end of its cable.
fn leave(
    snapshot: &Snapshot,
    by: &Endpoint,
    way: Way,
    as_wired: bool,
    found: &mut Segment,
    todo: &mut VecDeque<(Endpoint, Way)>,
) {
    let Some(link) = link_at(snapshot, by) else { return };
    let way = way.by(by, link);
    // What a bridge passes on is to fit the port that it leaves by as well (`is_skb_forwardable()`).
    let way = if link.master.is_some() { way.narrowed(by, link) } else { way };
    note_sharing(by, link, found);
    let Some(peer) = peer_of(link) else {
        if !matches!(link.kind, LinkKind::Loopback) {
            found.beyond.get_or_insert_with(|| format!("{by} leads out of what is known"));
            found.outside.get_or_insert_with(|| by.clone());
        }
        return;
    };
    for end in [by, peer] {
        if !as_wired && !link_at(snapshot, end).is_some_and(|link| link.up) {
            found.down.push(end.clone());
            return;
        }
    }
    todo.push_back((peer.clone(), way));
}

fn ports_of(snapshot: &Snapshot, bridge: &Endpoint) -> Vec<Endpoint> {
    let links = snapshot.nodes.get(&bridge.ns).into_iter().flat_map(|node| &node.links);
    links
        .filter(|(_, link)| link.master == Some(bridge.dev))
        .map(|(dev, _)| Endpoint { ns: bridge.ns.clone(), dev: *dev })
        .collect()
}

/// Who answers the question where an address is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answers {
    pub(crate) owners: Vec<Endpoint>,
    /// Those that have it and do not say so.
    pub(crate) refusals: Vec<(Endpoint, ArpRefusal)>,
    /// Why the question does not come to who has it, or the answer does not come back.
    pub(crate) dropped: Vec<Reason>,
    pub(crate) beyond: Option<String>,
}

/// Asks for an address from an interface on its segment. `asker` is the address that the question comes from.
pub(crate) fn who_has(
    snapshot: &Snapshot,
    from: &Endpoint,
    segment: &Segment,
    addr: IpAddr,
    asker: Option<IpAddr>,
) -> Answers {
    let mut answers = Answers { beyond: segment.beyond.clone(), ..Answers::default() };
    let mac = link_at(snapshot, from).and_then(|link| link.mac);
    for (end, way) in &segment.ends {
        let Some(node) = snapshot.nodes.get(&end.ns) else { continue };
        let Some(link) = node.links.get(&end.dev) else { continue };
        let question = Question { addr, asker, asker_mac: mac, owner_mac: link.mac, answers: false };
        // Where it comes back to is known: who asks has just spoken to all.
        let comes_back = || twins::lost(snapshot, (end, from), &way.back()).map_or(Ok(()), Err);
        let asked = || frames::ask(snapshot, from, end, way, question).and_then(|()| comes_back());
        let answer = |answers: &mut Answers| match asked() {
            Ok(()) => answers.owners.push(end.clone()),
            Err(Reason::Undecided(what)) => drop(answers.beyond.get_or_insert(what)),
            Err(reason) => answers.dropped.push(reason),
        };
        match addr {
            IpAddr::V4(_) => match arp(node, end.dev, link, addr, asker) {
                Some(Ok(())) => answer(&mut answers),
                Some(Err(refusal)) => answers.refusals.push((end.clone(), refusal)),
                None => {}
            },
            // Neighbour discovery speaks for the interface alone.
            IpAddr::V6(_) => {
                if answers_for(node, end.dev, link, addr) {
                    // The answer is a packet of its own, and goes where the neighbour table says.
                    let wrong = node.neighbours.iter().find(|it| {
                        it.permanent
                            && it.dev == end.dev
                            && Some(it.addr) == asker
                            && mac.is_some_and(|mac| mac != it.mac)
                    });
                    match wrong {
                        Some(it) => {
                            answers.refusals.push((end.clone(), ArpRefusal::WrongNeighbour { asker: it.addr }));
                        }
                        None => answer(&mut answers),
                    }
                }
            }
        }
    }
    answers
}

/// `ndisc_recv_ns()`: an address of the interface; that of all routers of a network (RFC 4291, section 2.6.1; none of two
/// addresses, RFC 6164); or one for which the node was told to answer.
fn answers_for(node: &NodeState, dev: IfName, link: &LinkState, addr: IpAddr) -> bool {
    let of_routers = |net: IpNet| net.prefix_len() < 127 && net.network() == addr;
    let forwards = node.forwards_ipv6;
    link.addresses.iter().any(|own| own.usable && (own.net.addr() == addr || forwards && of_routers(own.net)))
        || forwards && link.ipv6.proxy_ndp && node.proxied.contains(&(dev, addr))
}

/// `arp_process()`: is a request answered? `None`: the address is not the node's.
fn arp(
    node: &NodeState,
    dev: IfName,
    link: &LinkState,
    addr: IpAddr,
    asker: Option<IpAddr>,
) -> Option<Result<(), ArpRefusal>> {
    let question = Packet { src: asker, ..Packet::probe(addr, Protocol::Icmp, 0) };
    let route = match lookup::find(node, &lookup::Question::of(&question, Some(dev))) {
        Found::Route(route) => Some(route),
        _ => None,
    };
    if route.is_none_or(|route| route.action != FibAction::Local) {
        let told = link.conf.proxy_arp || node.all.proxy_arp || node.proxied.contains(&(dev, addr));
        // For what is elsewhere, and for whom it believes.
        let elsewhere = route?.next_hops().iter().find(|hop| hop.dev != dev)?;
        let believes = lookup::check_source(node, &question, dev, Some(elsewhere.dev)).is_none();
        return (told && link.conf.forwarding && believes).then_some(Ok(()));
    }
    match lookup::check_source(node, &question, dev, None) {
        Some(Disbelief::OwnAddress) => return Some(Err(ArpRefusal::OwnAddress)),
        Some(Disbelief::NoWayBack { strict, .. }) => return Some(Err(ArpRefusal::RpFilter { strict })),
        Some(Disbelief::Beyond(_)) | None => {}
    }
    let here = || link.addresses.iter().find(|own| own.net.addr() == addr);
    let refused = match link.conf.arp_ignore.max(node.all.arp_ignore) {
        0 => false,
        1 => here().is_none(),
        2 => !here().is_some_and(|own| asker.is_some_and(|asker| own.net.contains(&asker))),
        3 => here().is_some_and(|own| own.host_only),
        _ => true,
    };
    Some(if refused { Err(ArpRefusal::ArpIgnore) } else { Ok(()) })
}

/// The ends of a segment that have an Ethernet address.
pub(crate) fn ends_with_mac<'a>(
    snapshot: &'a Snapshot,
    segment: &'a Segment,
    mac: MacAddr,
) -> impl Iterator<Item = &'a Endpoint> {
    segment.ends.keys().filter(move |end| link_at(snapshot, end).is_some_and(|link| link.mac == Some(mac)))
}

/// The interfaces that have an address, in order.
pub(crate) fn owners(snapshot: &Snapshot, addr: IpAddr) -> Vec<Endpoint> {
    let mut owners = Vec::new();
    for (ns, node) in &snapshot.nodes {
        for (dev, link) in &node.links {
            if link.addresses.iter().any(|own| own.net.addr() == addr) {
                owners.push(Endpoint { ns: ns.clone(), dev: *dev });
            }
        }
    }
    owners
}

/// How many cables and switches lie between each node and one, whatever is up or down.
pub(crate) fn distances(snapshot: &Snapshot, to: &NsName) -> BTreeMap<NsName, usize> {
    let mut found = BTreeMap::from([(to.clone(), 0)]);
    let mut todo = VecDeque::from([to.clone()]);
    // From each end of a segment the others are the same, and they have been found already.
    let mut seen = BTreeSet::new();
    while let Some(ns) = todo.pop_front() {
        let distance = found[&ns];
        let Some(node) = snapshot.nodes.get(&ns) else { continue };
        for dev in node.links.iter().filter(|(_, link)| link.master.is_none()).map(|(dev, _)| *dev) {
            let from = Endpoint { ns: ns.clone(), dev };
            if seen.contains(&from) {
                continue;
            }
            for end in segment(snapshot, &from, true).ends.into_keys() {
                // A switch has no address, and is on the way to nowhere.
                let has_address = link_at(snapshot, &end).is_some_and(|link| !link.addresses.is_empty());
                if has_address && !found.contains_key(&end.ns) {
                    found.insert(end.ns.clone(), distance + 1);
                    todo.push_back(end.ns.clone());
                }
                seen.insert(end);
            }
        }
    }
    found
}

/// The address from which a node asks who has another one: that of the packet if it is its own,
/// else one of the interface.
pub(crate) fn asker(node: &NodeState, dev: IfName, packet: &Packet, addr: IpAddr) -> Option<IpAddr> {
    let here = |src: IpAddr| {
        let on_link = node.links.get(&dev).is_some_and(|link| link.addresses.iter().any(|own| own.net.addr() == src));
        // Neighbour discovery takes only an address of the interface.
        if src.is_ipv4() { lookup::is_own(node, src) } else { on_link }
    };
    if let Some(src) = packet.src.filter(|src| here(*src)) {
        return Some(src);
    }
    let link = node.links.get(&dev)?;
    if addr.is_ipv6() {
        // Neighbour discovery asks for others from the link-local address, once that is known to be the only one.
        let own = link.addresses.iter().filter(|own| own.usable).map(|own| own.net.addr());
        return own.into_iter().find(|own| matches!(own, IpAddr::V6(own) if own.is_unicast_link_local()));
    }
    let same = link.addresses.iter().filter(|own| Family::of(own.net.addr()) == Family::of(addr) && !own.secondary);
    let candidates: Vec<_> = same.collect();
    candidates.iter().find(|own| own.net.contains(&addr)).or(candidates.first()).map(|own| own.net.addr())
}
