//! What may help against one thing that is wrong, and what it costs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use hopyard_net::{
    Endpoint, Family, FibAction, FibRoute, Habits, IfName, IpNet, Ipv6Conf, Mtu, NodeState, NsName, Op, Route,
    Snapshot, SysctlKey,
};

use super::routes::takes;
use crate::forwarding::conf_key;
use crate::hidden::all_outside;
use crate::lookup::main_route;
use crate::segment::{self, distances, link_at, owners, segment};
use crate::walk::{Hop, Walk};
use crate::{ArpRefusal, Edit, Flow, Place, Query, Reason, Trouble};

/// A change that restores what was declared.
pub(super) const DECLARED: u32 = 1;
/// Any other.
pub(super) const PLAIN: u32 = 2;
/// One that changes who is who, or what fits: an address, an MTU.
pub(super) const INTRUSIVE: u32 = 4;
/// One that makes a node believe or let through more: last, and never before anything else.
pub(super) const LOOSENING: u32 = 5;

pub(super) struct Proposal {
    pub(super) cost: u32,
    pub(super) edits: Vec<(Edit, bool)>,
}

/// What proposals are made from.
pub(super) struct Context<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) walk: &'a Walk,
    pub(super) drift: &'a [Op],
    pub(super) dst: IpAddr,
    /// All nodes on the way there and back.
    pub(super) way: BTreeSet<NsName>,
    /// The interfaces outside of nodes that hide something.
    pub(super) outside: BTreeMap<NsName, BTreeSet<IfName>>,
    /// The node that should get the packet, and how far each other is from it.
    pub(super) target: Option<NsName>,
    pub(super) distances: BTreeMap<NsName, usize>,
}

impl<'a> Context<'a> {
    pub(super) fn new(
        snapshot: &'a Snapshot,
        query: &Query,
        (walk, back): (&'a Walk, bool),
        way: BTreeSet<NsName>,
        drift: &'a [Op],
    ) -> Self {
        let dst = walk.packet.dst;
        let declared = if back { Some(query.from.clone()) } else { query.wanted.clone() };
        let target = declared.or_else(|| owners(snapshot, dst).into_iter().next().map(|end| end.ns));
        let distances = target.as_ref().map(|target| distances(snapshot, target)).unwrap_or_default();
        let outside = all_outside(snapshot, drift);
        Context { snapshot, walk, drift, dst, way, outside, target, distances }
    }

    pub(super) fn proposals(&self, trouble: &Trouble) -> Vec<Proposal> {
        let mut found = Vec::new();
        let ns = &trouble.node;
        let Some(node) = self.snapshot.nodes.get(ns) else { return found };
        self.translations(&mut found);
        self.declared(ns, &trouble.reason, &mut found);
        match &trouble.reason {
            Reason::NoRoute { .. } => {
                self.links_up(ns, node, &mut found);
                self.routes(ns, node, self.dst, 0, &mut found);
            }
            Reason::RouteRefuses(route) => {
                let key = route.key.clone();
                plain(Edit::Op(Op::DelRoute { ns: ns.clone(), key: key.clone() }), &mut found);
                self.routes(ns, node, self.dst, key.prefix.prefix_len(), &mut found);
            }
            Reason::PolicyRule(rule) => {
                let edit = Edit::DelPolicyRule { ns: ns.clone(), family: rule.family, priority: rule.priority };
                plain(edit, &mut found);
            }
            Reason::ForwardingOff { key, .. } => {
                let on = |key: &SysctlKey| sysctl(ns, key.clone(), "1");
                plain(on(key), &mut found);
            }
            Reason::RpFilter { back_by, strict } => {
                let input = self.walk.last().and_then(|hop| hop.input);
                self.believe(ns, node, input, *strict, back_by.is_some(), &mut found);
            }
            Reason::LocalSource => self.not_the_owner(self.walk.packet.src, ns, &mut found),
            Reason::LinkDown(dev) => self.up(&at(ns, *dev), &mut found),
            Reason::NoCarrier { peer, .. } => {
                if let Some(peer) = peer {
                    self.up(peer, &mut found);
                }
            }
            Reason::NeighbourUnresolved { addr, dev, down } => {
                if let Some(down) = down {
                    self.up(down, &mut found);
                }
                self.mend_gateway(ns, node, *dev, *addr, &mut found);
                self.not_the_owner(Some(*addr), ns, &mut found);
                self.give_address(ns, node, *dev, *addr, &mut found);
            }
            Reason::ArpRefused { by, why, .. } => {
                let Some(other) = self.snapshot.nodes.get(&by.ns) else { return found };
                match why {
                    ArpRefusal::RpFilter { strict } => {
                        self.believe(&by.ns, other, Some(by.dev), *strict, true, &mut found);
                    }
                    ArpRefusal::WrongNeighbour { asker } => {
                        plain(Edit::Op(Op::DelNeigh { at: by.clone(), addr: *asker }), &mut found);
                    }
                    ArpRefusal::OwnAddress => self.not_the_owner(self.walk.packet.src, &by.ns, &mut found),
                    ArpRefusal::ArpIgnore => {
                        let all = other.all.arp_ignore;
                        let link = other.links.get(&by.dev).map_or(0, |link| link.conf.arp_ignore);
                        let mut edits = Vec::new();
                        if all > 0 {
                            edits.extend(conf_all("arp_ignore").map(|key| sysctl(&by.ns, key, "0")));
                        }
                        if link > 0 {
                            edits.extend(conf_key("ipv4", by.dev, "arp_ignore").map(|key| sysctl(&by.ns, key, "0")));
                        }
                        push(&mut found, PLAIN, edits);
                    }
                }
            }
            Reason::WrongMask { dev, net, .. } => {
                self.mend_mask(ns, node, *dev, *net, &mut found);
                self.routes(ns, node, self.dst, net.prefix_len(), &mut found);
            }
            Reason::DuplicateAddress { addr, owners } => {
                for end in owners.iter().filter(|end| Some(&end.ns) != self.target.as_ref()) {
                    self.take_address(end, *addr, &mut found);
                }
            }
            Reason::DuplicateMac { mac, owners, .. } => self.tell_apart(ns, *mac, owners, &mut found),
            Reason::WrongNeighbour { addr, dev, .. } => {
                plain(Edit::Op(Op::DelNeigh { at: at(ns, *dev), addr: *addr }), &mut found);
            }
            Reason::NotAnOwner => {
                if let Some(hop) = self.before_last()
                    && let Some(next) = &hop.next
                {
                    let addr = next.via.unwrap_or(self.dst);
                    let stale = Edit::Op(Op::DelNeigh { at: at(&hop.node, next.dev), addr });
                    plain(stale, &mut found);
                    if let Some(node) = self.snapshot.nodes.get(&hop.node) {
                        self.give_address(&hop.node, node, next.dev, addr, &mut found);
                    }
                }
            }
            Reason::WrongNode { .. } => {
                for end in owners(self.snapshot, self.dst).into_iter().filter(|end| end.ns == *ns) {
                    self.take_address(&end, self.dst, &mut found);
                }
            }
            Reason::Firewall { .. } => self.let_pass(ns, &trouble.reason, &mut found),
            Reason::FrameDropped { by, bridge_nf, asking, why } => {
                let by_sysctl = |key: &&SysctlKey| {
                    let all = self.snapshot.nodes.get(by).and_then(|node| node.bridge_nf).unwrap_or_default();
                    Family::BOTH.into_iter().any(|family| SysctlKey::bridge_nf(family) == **key && all.of(family))
                };
                // Rules about packets are seldom meant for frames.
                if let Some(key) = bridge_nf.as_ref().filter(by_sysctl) {
                    push(&mut found, INTRUSIVE, vec![sysctl(by, key.clone(), "0")]);
                }
                match asking {
                    // The packet itself was not yet there.
                    Some(_) => open(by, why, &mut found),
                    None => self.let_pass(by, why, &mut found),
                }
            }
            Reason::EchoIgnored { key } => push(&mut found, LOOSENING, vec![sysctl(ns, key.clone(), "0")]),
            Reason::TooBig { dev, mtu } | Reason::PmtudBlackhole { dev, mtu, .. } => {
                self.let_fit(ns, *dev, *mtu, &mut found);
            }
            Reason::MtuMismatch { at, .. } => self.widen(std::slice::from_ref(at), &mut found),
            Reason::TtlExpired => self.give_hops(&mut found),
            Reason::Loop(_)
            | Reason::NoListener { .. }
            | Reason::WrongBindAddress { .. }
            | Reason::SourceAddress
            | Reason::LeavesKnown { .. }
            | Reason::Undecided(_) => {}
        }
        self.straighten(&mut found);
        self.forget_redirects(&mut found);
        self.enable_ipv6(&mut found);
        found
    }

    /// An interface that has no part in IPv6 takes an address of it only when it gets that part again.
    fn enable_ipv6(&self, found: &mut [Proposal]) {
        for edits in found.iter_mut().map(|proposal| &mut proposal.edits) {
            let takes_none = |edit: &Edit| match edit {
                Edit::Op(Op::AddAddr { at, addr }) if addr.addr().is_ipv6() => {
                    link_at(self.snapshot, at).is_some_and(|link| link.ipv6.disabled).then(|| at.clone())
                }
                _ => None,
            };
            let first = edits
                .iter()
                .enumerate()
                .find_map(|(place, (edit, declared))| Some((place, takes_none(edit)?, *declared)));
            if let Some((place, at, declared)) = first {
                edits.insert(place, (sysctl(&at.ns, SysctlKey::disable_ipv6(at.dev), "0"), declared));
            }
        }
    }

    /// Where a node has learnt the way by a redirect, that is forgotten.
    fn forget_redirects(&self, found: &mut Vec<Proposal>) {
        for hop in &self.walk.hops {
            let flush = match Family::of(self.dst) {
                Family::Ipv4 => SysctlKey::IPV4_FORGET,
                Family::Ipv6 => SysctlKey::IPV6_FORGET,
            };
            if hop.is_redirected() {
                plain(sysctl(&hop.node, flush, "1"), found);
            }
        }
    }

    /// Before all else what the nodes on the way should translate and do not: it shows elsewhere, as an address
    /// that nobody has a route to.
    fn translations(&self, found: &mut Vec<Proposal>) {
        let is_one = |op: &&Op| matches!(op, Op::SetNat { .. }) && self.way.contains(op.ns());
        for op in self.drift.iter().filter(is_one) {
            found.push(Proposal { cost: DECLARED, edits: vec![(Edit::of(op.clone(), self.snapshot), true)] });
        }
    }

    /// What restores what was declared, in the node or at the other end of its links.
    fn declared(&self, ns: &NsName, reason: &Reason, found: &mut Vec<Proposal>) {
        let mut nodes = BTreeSet::from([ns.clone()]);
        match reason {
            Reason::ArpRefused { by, .. } | Reason::MtuMismatch { at: by, .. } => {
                nodes.insert(by.ns.clone());
            }
            Reason::FrameDropped { by, .. } => {
                nodes.insert(by.clone());
            }
            Reason::DuplicateAddress { owners, .. } | Reason::DuplicateMac { owners, .. } => {
                nodes.extend(owners.iter().map(|end| end.ns.clone()));
            }
            Reason::NeighbourUnresolved { dev, .. } | Reason::NoCarrier { dev, .. } | Reason::WrongMask { dev, .. } => {
                let wired = segment(self.snapshot, &at(ns, *dev), true);
                nodes.extend(wired.ends.keys().map(|end| end.ns.clone()));
                nodes.extend(wired.ends.values().flat_map(|way| way.switches().cloned()));
            }
            // Where the answer should go has no address of its own.
            Reason::Undecided(_) | Reason::LeavesKnown { .. } => nodes.extend(self.target.clone()),
            // Who should have got it may have sent from an address that is not its own.
            Reason::WrongNode { wanted } => {
                nodes.insert(wanted.clone());
                nodes.extend(self.walk.nodes().cloned());
            }
            // A route elsewhere on the way led here.
            Reason::Loop(_) | Reason::NotAnOwner | Reason::ForwardingOff { .. } | Reason::SourceAddress => {
                nodes.extend(self.walk.nodes().cloned());
            }
            _ => {}
        }
        if owners(self.snapshot, self.dst).is_empty() {
            nodes.extend(self.target.clone());
        }
        // Without its address no neighbour is a way on.
        let gateways = match reason {
            Reason::NoRoute { .. } => self.beside(ns),
            _ => BTreeSet::new(),
        };
        let is_gateway = |op: &Op| matches!(op, Op::AddAddr { at, .. } if gateways.contains(at));
        let here = |op: &Op| nodes.contains(op.ns()) && self.is_about(op) || is_gateway(op);
        for op in self.drift.iter().filter(|op| here(op)) {
            let mut edits = vec![(Edit::of(op.clone(), self.snapshot), true)];
            if let Op::SetMac { at, .. } = op
                && let Some(mac) = link_at(self.snapshot, at).and_then(|link| link.mac)
            {
                edits.extend(self.forgetting(mac).into_iter().map(|edit| (edit, false)));
            }
            found.push(Proposal { cost: DECLARED, edits });
        }
    }

    /// The interfaces at the other ends of those of a node.
    fn beside(&self, ns: &NsName) -> BTreeSet<Endpoint> {
        let links = self.snapshot.nodes.get(ns).into_iter().flat_map(|node| node.links.keys());
        links.flat_map(|dev| segment(self.snapshot, &at(ns, *dev), true).ends.into_keys()).collect()
    }

    /// Could the operation help the packet on its way? What somebody has added by hand, and the file does
    /// not know, is taken away only where it is in the way.
    fn is_about(&self, op: &Op) -> bool {
        let ends = [Some(self.dst), self.walk.packet.src];
        let concerns = |net: IpNet| ends.iter().flatten().any(|addr| net.contains(addr));
        let forwarding = |key: &SysctlKey| key.as_str().ends_with("forwarding") || *key == SysctlKey::IPV4_FORWARD;
        match op {
            Op::SetRoute { ns, route } => {
                let node = self.snapshot.nodes.get(ns);
                concerns(route.key.prefix) && node.is_some_and(|node| takes(node, route))
            }
            Op::DelRoute { ns, key } => {
                let used = |hop: &Hop| hop.node == *ns && hop.route.as_ref().is_some_and(|route| route.key == *key);
                let node = self.snapshot.nodes.get(ns);
                let first =
                    |addr: &IpAddr| node.and_then(|node| main_route(node, *addr)).is_some_and(|it| it.key == *key);
                self.walk.hops.iter().any(used) || ends.iter().flatten().any(first)
            }
            Op::SetSysctl { key, value, .. } => !(forwarding(key) && value == "0"),
            // Also one that another has, or should have: it is in the way to that one. Or the same should be there with
            // another length.
            Op::DelAddr { at, addr } => {
                let same =
                    |op: &Op| matches!(op, Op::AddAddr { addr: own, .. } if own.addr() == addr.addr() && own != addr);
                let elsewhere = |op: &Op| matches!(op, Op::AddAddr { at: end, addr: own } if end.ns != at.ns && own.addr() == addr.addr());
                concerns(*addr)
                    || owners(self.snapshot, addr.addr()).iter().any(|end| end.ns != at.ns)
                    || self.drift.iter().any(|op| same(op) || elsewhere(op))
            }
            Op::SetUp { up, .. } => *up,
            Op::SetMac { .. } | Op::SetMtu { .. } | Op::AddAddr { .. } | Op::SetNeigh { .. } | Op::DelNeigh { .. } => {
                true
            }
            _ => false,
        }
    }

    /// Interfaces that are down and lead nearer to the destination.
    fn links_up(&self, ns: &NsName, node: &NodeState, found: &mut Vec<Proposal>) {
        let Some(own) = self.distances.get(ns) else { return };
        for (dev, link) in &node.links {
            if link.up || *dev == IfName::LO {
                continue;
            }
            let end = at(ns, *dev);
            let leads = segment(self.snapshot, &end, true);
            if leads.ends.keys().any(|end| self.distances.get(&end.ns).is_some_and(|there| there < own)) {
                self.up(&end, found);
            }
        }
    }

    /// Makes room for a packet at an interface, or on the route along it.
    fn let_fit(&self, ns: &NsName, dev: IfName, mtu: u32, found: &mut Vec<Proposal>) {
        let route = self.walk.last().and_then(|hop| hop.route.as_ref()).filter(|route| route.mtu == Some(mtu));
        match route {
            Some(FibRoute { key, action: FibAction::Route(kind), src, hop_limit, .. }) => {
                // The same without it.
                let route = Route { key: key.clone(), kind: kind.clone(), src: *src, hop_limit: *hop_limit };
                push(found, INTRUSIVE, vec![Edit::set_route(self.snapshot, ns.clone(), route)]);
            }
            _ => self.widen(&[at(ns, dev)], found),
        }
    }

    /// As many hops as are usual, for a sender that is told to give its packets less.
    fn give_hops(&self, found: &mut Vec<Proposal>) {
        let Some((hop, next)) = self.walk.hops.first().and_then(|hop| Some((hop, hop.next.as_ref()?))) else { return };
        let Some(node) = self.snapshot.nodes.get(&hop.node) else { return };
        let told = match Family::of(self.dst) {
            Family::Ipv4 => node.habits.map(|habits| (Some(SysctlKey::IPV4_TTL), habits.ttl, Habits::TTL)),
            Family::Ipv6 => node
                .links
                .get(&next.dev)
                .and_then(|link| link.ipv6.hop_limit)
                .map(|limit| (conf_key("ipv6", next.dev, "hop_limit"), limit, Ipv6Conf::HOP_LIMIT)),
        };
        if let Some((Some(key), told, usual)) = told
            && told < usual
        {
            plain(sysctl(&hop.node, key, &usual.to_string()), found);
        }
    }

    /// Raises the MTU of interfaces to what the packet needs.
    fn widen(&self, ends: &[Endpoint], found: &mut Vec<Proposal>) {
        let mut edits = Vec::new();
        for end in ends {
            let peer = link_at(self.snapshot, end).and_then(segment::peer_of);
            let wide = peer.and_then(|peer| link_at(self.snapshot, peer)).map_or(0, |link| link.mtu);
            if let Ok(mtu) = Mtu::try_from(wide.max(self.walk.packet.length)) {
                edits.push(Edit::Op(Op::SetMtu { at: end.clone(), mtu }));
            }
        }
        push(found, INTRUSIVE, edits);
    }

    /// Lets a firewall pass what it drops, and nothing else: last of all.
    fn let_pass(&self, ns: &NsName, reason: &Reason, found: &mut Vec<Proposal>) {
        let Some(hop) = self.walk.last() else { return };
        // Where it is translated, the firewall sees it as one of these. Which one shows when it is tried.
        let flows: BTreeSet<Flow> = [hop.came, hop.routed, hop.sent].iter().filter_map(Flow::of).collect();
        if flows.is_empty() {
            return open(ns, reason, found);
        }
        for flow in flows {
            for (edit, more) in accepting(ns, reason, flow) {
                push(found, LOOSENING + more, vec![edit]);
            }
        }
    }

    fn before_last(&self) -> Option<&Hop> {
        self.walk.hops.len().checked_sub(2).and_then(|at| self.walk.hops.get(at))
    }

    /// Sets an interface up.
    fn up(&self, end: &Endpoint, found: &mut Vec<Proposal>) {
        if link_at(self.snapshot, end).is_some_and(|link| !link.up) {
            plain(Edit::Op(Op::SetUp { at: end.clone(), up: true }), found);
        }
    }
}

/// Rules that let a firewall pass a flow that it drops, and what each costs more than the first.
pub(super) fn accepting(ns: &NsName, reason: &Reason, flow: Flow) -> Vec<(Edit, u32)> {
    let Reason::Firewall { family, table, chain, rule, certain, .. } = reason else { return Vec::new() };
    let mut places = vec![(rule.map_or(Place::End, Place::Before), 0)];
    // The end is not reached behind a `goto` or a `return`; and an earlier rule may have done it as well.
    if rule.is_none() || !certain {
        places.push((Place::Start, 1));
    }
    let edit = |place| {
        let (ns, family, table, chain) = (ns.clone(), family.clone(), table.clone(), chain.clone());
        Edit::AcceptFlow { ns, family, table, chain, place, flow }
    };
    places.into_iter().map(|(place, more)| (edit(place), more)).collect()
}

/// An ordinary change, unless it restores what was declared and is proposed as that.
pub(super) fn plain(edit: Edit, found: &mut Vec<Proposal>) {
    if !found.iter().any(|other| other.edits.len() == 1 && other.edits[0].0 == edit) {
        push(found, PLAIN, vec![edit]);
    }
}

/// Takes away from a firewall what drops something that is no packet of a flow, such as a question for an address:
/// last of all.
fn open(ns: &NsName, reason: &Reason, found: &mut Vec<Proposal>) {
    let Reason::Firewall { family, table, chain, rule, .. } = reason else { return };
    let (ns, family, table, chain) = (ns.clone(), family.clone(), table.clone(), chain.clone());
    let edit = match rule {
        Some(handle) => Edit::DelFilterRule { ns, family, table, chain, handle: *handle },
        None => Edit::AcceptByDefault { ns, family, table, chain },
    };
    push(found, LOOSENING, vec![edit]);
}

pub(super) fn push(found: &mut Vec<Proposal>, cost: u32, edits: Vec<Edit>) {
    if !edits.is_empty() {
        // Each further change of a proposal costs as well, if less than one that stands alone.
        let more = u32::try_from(edits.len()).unwrap_or(u32::MAX) - 1;
        found.push(Proposal { cost: cost + more, edits: edits.into_iter().map(|edit| (edit, false)).collect() });
    }
}

pub(super) fn at(ns: &NsName, dev: IfName) -> Endpoint {
    Endpoint { ns: ns.clone(), dev }
}

pub(super) fn sysctl(ns: &NsName, key: SysctlKey, value: &str) -> Edit {
    Edit::Op(Op::SetSysctl { ns: ns.clone(), key, value: value.to_owned() })
}

/// `net.ipv4.conf.all.KEY`.
pub(super) fn conf_all(key: &str) -> Option<SysctlKey> {
    format!("net.ipv4.conf.all.{key}").parse().ok()
}
