//! The cheapest changes that make a packet and its answer arrive: uniform-cost search, in which only
//! the first thing that is wrong proposes changes.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::net::IpAddr;

use hopyard_net::{
    Endpoint, Family, FibAction, IfName, IpNet, LinkKind, Mtu, NextHop, NodeState, NsName, Op, Route, RouteKind,
    Snapshot, SysctlKey,
};
use serde::Serialize;

use crate::hidden::{all_outside, is_behind};
use crate::lookup::{is_own, main_route};
use crate::segment::{self, distances, link_at, owners, segment};
use crate::verdict::explain_later;
use crate::verdict::trouble_of;
use crate::walk::{Choices, Hop, Walk, conf_key};
use crate::{ArpRefusal, Edit, Flow, Outcome, Place, Query, Reason, Trouble, Verdict, explain};

/// Changes that make it work both ways, in the order in which their need shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Repair {
    /// What to change, and for what.
    pub stages: Vec<Stage>,
    /// What it costs: 2 for an ordinary change, 1 for one that restores what was declared.
    pub cost: u32,
    /// The same packet and its answer when the first stage alone is done.
    pub next: Verdict,
    /// The same when all is done: it works, or only the service is missing.
    pub after: Verdict,
}

/// One thing that is wrong, and the changes for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stage {
    /// What is wrong, as it shows when the stages before this one are done.
    pub trouble: Trouble,
    /// The changes, each with whether it restores what was declared.
    pub edits: Vec<(Edit, bool)>,
}

impl Repair {
    /// All changes in order.
    pub fn edits(&self) -> impl Iterator<Item = &Edit> {
        self.stages.iter().flat_map(|stage| &stage.edits).map(|(edit, _)| edit)
    }
}

/// A change that restores what was declared.
const DECLARED: u32 = 1;
/// Any other.
const PLAIN: u32 = 2;
/// One that changes who is who, or what fits: an address, an MTU.
const INTRUSIVE: u32 = 4;
/// One that makes a node believe or let through more: last, and never before anything else.
const LOOSENING: u32 = 5;

/// So many states are looked at before it is given up: fewer of a large network, of which each takes longer.
fn most_states(snapshot: &Snapshot) -> usize {
    /// Copied and walked within a second or so.
    const ROUTES: usize = 500_000;
    let routes: usize = snapshot.nodes.values().map(|node| 10 + node.routes.len()).sum();
    (ROUTES / routes.max(1)).clamp(50, 3000)
}

/// So many more, once something works, for what goes on working.
const MORE_STATES: usize = 200;

/// No repair takes more changes.
const MOST_EDITS: usize = 12;

/// Looks for the cheapest repair. `drift` is what would have to be done to make the network as it was
/// declared. `None`: nothing is wrong, or nothing was found.
pub fn repair(snapshot: &Snapshot, query: &Query, choices: &Choices, drift: &[Op]) -> Option<Repair> {
    let mut states: Vec<Vec<Stage>> = vec![Vec::new()];
    // The cheapest first; of equals the one with less that nobody has declared.
    let mut queue = BinaryHeap::from([Reverse((0_u32, 0_usize, 0_usize))]);
    let mut seen = BTreeSet::new();
    let mut left = most_states(snapshot);
    // What works as long as nobody forgets who has which address.
    let mut for_now: Option<Repair> = None;
    while left > 0 {
        let Some(Reverse((cost, _, at))) = queue.pop() else { break };
        let stages = states[at].clone();
        // Only when its turn comes: the same may have been proposed again, for less.
        if !seen.insert(outcome_of(stages.iter().flat_map(|stage| &stage.edits).map(|(edit, _)| edit))) {
            continue;
        }
        left -= 1;
        let mut changed = snapshot.clone();
        for (edit, _) in stages.iter().flat_map(|stage| &stage.edits) {
            edit.apply(&mut changed);
        }
        // What a kernel said of equal routes holds as long as they are the same.
        let touched: BTreeSet<&NsName> =
            stages.iter().flat_map(|stage| &stage.edits).map(|(it, _)| it.node()).collect();
        let mut choices = choices.clone();
        choices.retain(|(node, _), _| !touched.contains(node));
        let choices = &choices;
        let mut verdict = explain(&changed, query, choices);
        if is_carried(&verdict)
            && let Some(first) = stages.first()
        {
            let later = explain_later(&changed, query, choices);
            let mut changed = snapshot.clone();
            first.edits.iter().for_each(|(edit, _)| edit.apply(&mut changed));
            let next = explain(&changed, query, choices);
            let repair = Repair { stages: stages.clone(), cost, next, after: verdict };
            if is_carried(&later) {
                return Some(repair);
            }
            if for_now.is_none() {
                for_now = Some(repair);
                left = left.min(MORE_STATES);
            }
            verdict = later;
        }
        let Some((walk, back)) = verdict.failing_network() else { continue };
        let Some(trouble) = trouble_of(walk, back) else { continue };
        let done = |edit: &Edit| stages.iter().flat_map(|stage| &stage.edits).any(|(other, _)| other == edit);
        let count = stages.iter().map(|stage| stage.edits.len()).sum::<usize>();
        let way = verdict.there.nodes().chain(walk.nodes()).cloned().collect();
        let context = Context::new(&changed, query, (walk, back), way, drift);
        for Proposal { cost: more, edits } in context.proposals(&trouble) {
            if count + edits.len() > MOST_EDITS || edits.iter().any(|(edit, _)| done(edit)) {
                continue;
            }
            let mut next = stages.clone();
            next.push(Stage { trouble: trouble.clone(), edits });
            let new = next.iter().flat_map(|stage| &stage.edits).filter(|(_, declared)| !declared).count();
            states.push(next);
            queue.push(Reverse((cost + more, new, states.len() - 1)));
        }
    }
    for_now
}

/// The same for changes that lead to the same, by node. Where addresses or interfaces come and go their order matters:
/// routes go with them.
fn outcome_of<'a>(edits: impl Iterator<Item = &'a Edit>) -> BTreeMap<NsName, Vec<Edit>> {
    let mut by_node: BTreeMap<NsName, Vec<Edit>> = BTreeMap::new();
    for edit in edits {
        by_node.entry(edit.node().clone()).or_default().push(edit.clone());
    }
    let takes_along =
        |edit: &Edit| matches!(edit, Edit::Op(Op::AddAddr { .. } | Op::DelAddr { .. } | Op::SetUp { .. }));
    for edits in by_node.values_mut().filter(|edits| !edits.iter().any(takes_along)) {
        edits.sort();
    }
    by_node
}

/// Does the network do its part? No change to it starts a service.
fn is_carried(verdict: &Verdict) -> bool {
    let back = verdict.back.as_ref().is_some_and(|back| back.arrives() && !back.is_undecided());
    verdict.outcome() == Outcome::Yes || back && verdict.there.is_carried() && !verdict.there.by_chance
}

struct Proposal {
    cost: u32,
    edits: Vec<(Edit, bool)>,
}

/// What proposals are made from.
struct Context<'a> {
    snapshot: &'a Snapshot,
    walk: &'a Walk,
    drift: &'a [Op],
    dst: IpAddr,
    /// All nodes on the way there and back.
    way: BTreeSet<NsName>,
    /// The interfaces outside of nodes that hide something.
    outside: BTreeMap<NsName, BTreeSet<IfName>>,
    /// The node that should get the packet, and how far each other is from it.
    target: Option<NsName>,
    distances: BTreeMap<NsName, usize>,
}

impl<'a> Context<'a> {
    fn new(
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

    fn proposals(&self, trouble: &Trouble) -> Vec<Proposal> {
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
                            edits.extend(conf_key(by.dev, "arp_ignore").map(|key| sysctl(&by.ns, key, "0")));
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
            Reason::TooBig { dev, .. } | Reason::PmtudBlackhole { dev, .. } => self.widen(&[at(ns, *dev)], &mut found),
            Reason::MtuMismatch { at, .. } => self.widen(std::slice::from_ref(at), &mut found),
            Reason::TtlExpired
            | Reason::Loop(_)
            | Reason::NoListener { .. }
            | Reason::WrongBindAddress { .. }
            | Reason::SourceAddress
            | Reason::LeavesKnown { .. }
            | Reason::Undecided(_) => {}
        }
        self.straighten(&mut found);
        found
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
            Reason::DuplicateAddress { owners, .. } => nodes.extend(owners.iter().map(|end| end.ns.clone())),
            Reason::NeighbourUnresolved { dev, .. } | Reason::NoCarrier { dev, .. } | Reason::WrongMask { dev, .. } => {
                let wired = segment(self.snapshot, &at(ns, *dev), true);
                nodes.extend(wired.ends.keys().map(|end| end.ns.clone()));
                nodes.extend(wired.ends.values().flat_map(|way| way.switches().cloned()));
            }
            // Where the answer should go has no address of its own.
            Reason::Undecided(_) | Reason::LeavesKnown { .. } => nodes.extend(self.target.clone()),
            // A route elsewhere on the way led here.
            Reason::Loop(_)
            | Reason::NotAnOwner
            | Reason::WrongNode { .. }
            | Reason::ForwardingOff { .. }
            | Reason::SourceAddress => {
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
            found.push(Proposal { cost: DECLARED, edits: vec![(Edit::of(op.clone(), self.snapshot), true)] });
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
            Op::SetMtu { .. } | Op::AddAddr { .. } | Op::SetNeigh { .. } | Op::DelNeigh { .. } => true,
            _ => false,
        }
    }

    /// Routes to an address by neighbours that are nearer to it, the nearest first.
    fn routes(&self, ns: &NsName, node: &NodeState, to: IpAddr, no_shorter: u8, found: &mut Vec<Proposal>) {
        for edit in self.route_edits(ns, node, to, no_shorter, None) {
            plain(edit, found);
        }
    }

    fn route_edits(
        &self,
        ns: &NsName,
        node: &NodeState,
        to: IpAddr,
        no_shorter: u8,
        only: Option<IfName>,
    ) -> Vec<Edit> {
        let own_distances;
        let distances = if to == self.dst {
            &self.distances
        } else {
            let owner = owners(self.snapshot, to).into_iter().next();
            own_distances = owner.map(|end| segment::distances(self.snapshot, &end.ns)).unwrap_or_default();
            &own_distances
        };
        let Some(&own) = distances.get(ns) else { return Vec::new() };
        let Some(prefix) = self.prefix_of(ns, to, no_shorter) else { return Vec::new() };
        let mut ways: Vec<(usize, IfName, IpAddr)> = Vec::new();
        for (dev, link) in &node.links {
            if *dev == IfName::LO || !link.up || link.master.is_some() || only.is_some_and(|only| only != *dev) {
                continue;
            }
            for end in segment(self.snapshot, &at(ns, *dev), true).ends.keys() {
                let Some(&distance) = distances.get(&end.ns) else { continue };
                if distance >= own {
                    continue;
                }
                let Some(there) = link_at(self.snapshot, end) else { continue };
                // What it hides from that side, nobody there gets a route to.
                let hides = self.outside.get(&end.ns).filter(|outside| outside.contains(&end.dev));
                let hides = hides.zip(self.snapshot.nodes.get(&end.ns));
                if hides.is_some_and(|(outside, node)| is_behind(node, outside, to)) {
                    continue;
                }
                let on_link = |addr: IpAddr| {
                    link.addresses.iter().any(|own| own.net.contains(&addr) && own.net.addr() != addr && !own.host_only)
                };
                let addresses = there.addresses.iter().map(|it| it.net.addr());
                let takes = |addr: &IpAddr| addr.is_ipv4() == to.is_ipv4() && on_link(*addr) && !is_own(node, *addr);
                let same = addresses.filter(|addr| *addr != to && takes(addr));
                ways.extend(same.map(|addr| (distance, *dev, addr)));
            }
        }
        ways.sort();
        let route = |(_, dev, via): (usize, IfName, IpAddr)| {
            let hop = NextHop { via: Some(via), dev, weight: 1 };
            let mut route = Route::unicast(prefix, vec![hop]);
            // What the kernel added with an address stays beside it.
            if node.routes.iter().any(|it| it.derived && it.key == route.key) {
                route.key.metric = 0;
            }
            Edit::set_route(self.snapshot, ns.clone(), route)
        };
        ways.into_iter().map(route).collect()
    }

    /// The network of an address: as the last router before it has it, rather than its owner, whose
    /// mask may be wrong.
    fn prefix_of(&self, ns: &NsName, to: IpAddr, no_shorter: u8) -> Option<IpNet> {
        let bits = if to.is_ipv4() { 32 } else { 128 };
        let owner = owners(self.snapshot, to).into_iter().find(|end| end.ns != *ns)?;
        let on = |end: &Endpoint| -> Vec<IpNet> {
            let links = link_at(self.snapshot, end).into_iter().flat_map(|link| &link.addresses);
            links.map(|own| own.net).filter(|net| net.contains(&to)).collect()
        };
        let beside = segment(self.snapshot, &owner, true).ends;
        let mut nets: Vec<IpNet> = beside.keys().flat_map(on).collect();
        if nets.is_empty() {
            nets = on(&owner);
        }
        // The one that most have; of equals the longest.
        nets.sort_by_key(|net| {
            let same = beside.keys().flat_map(on).filter(|other| other.prefix_len() == net.prefix_len()).count();
            Reverse((same, net.prefix_len()))
        });
        let length = nets.first()?.prefix_len().max(no_shorter).min(bits);
        IpNet::new(to, length).ok().map(|net| net.trunc())
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

    /// Makes a node believe the source of the packet: by a way back first.
    fn believe(
        &self,
        ns: &NsName,
        node: &NodeState,
        input: Option<IfName>,
        strict: bool,
        has_way_back: bool,
        found: &mut Vec<Proposal>,
    ) {
        let Some(src) = self.walk.packet.src else { return };
        let matched = if has_way_back { main_route(node, src) } else { None };
        let length = matched.map_or(0, |route| route.key.prefix.prefix_len());
        if let Some(route) = matched.filter(|route| !route.derived) {
            plain(Edit::Op(Op::DelRoute { ns: ns.clone(), key: route.key.clone() }), found);
        }
        for edit in self.route_edits(ns, node, src, length, input) {
            plain(edit, found);
        }
        let mut edits = Vec::new();
        // The larger of the two counts.
        let value = if strict && has_way_back { "2" } else { "0" };
        if node.all.rp_filter > 0 {
            edits.extend(conf_all("rp_filter").map(|key| sysctl(ns, key, value)));
        }
        if let Some(dev) = input
            && node.links.get(&dev).is_some_and(|link| link.conf.rp_filter > 0)
        {
            edits.extend(conf_key(dev, "rp_filter").map(|key| sysctl(ns, key, value)));
        }
        push(found, LOOSENING, edits);
    }

    /// A node that has an address which belongs to another.
    fn not_the_owner(&self, addr: Option<IpAddr>, ns: &NsName, found: &mut Vec<Proposal>) {
        let Some(addr) = addr else { return };
        for end in owners(self.snapshot, addr).into_iter().filter(|end| end.ns == *ns) {
            self.take_address(&end, addr, found);
        }
    }

    fn take_address(&self, end: &Endpoint, addr: IpAddr, found: &mut Vec<Proposal>) {
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

    /// Gives an address that nobody on a link has to the node that should have it.
    fn give_address(&self, ns: &NsName, node: &NodeState, dev: IfName, addr: IpAddr, found: &mut Vec<Proposal>) {
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

    /// Gives an address the length that the others on its segment have.
    fn mend_mask(&self, ns: &NsName, node: &NodeState, dev: IfName, net: IpNet, found: &mut Vec<Proposal>) {
        let Some(_) = node.links.get(&dev) else { return };
        let mut lengths: BTreeMap<u8, usize> = BTreeMap::new();
        for end in segment(self.snapshot, &at(ns, dev), true).ends.keys() {
            for own in link_at(self.snapshot, end).into_iter().flat_map(|link| &link.addresses) {
                if own.net.contains(&net.addr()) && own.net.addr() != net.addr() {
                    *lengths.entry(own.net.prefix_len()).or_default() += 1;
                }
            }
        }
        let most = lengths.into_iter().max_by_key(|(length, count)| (*count, *length));
        if let Some((length, _)) = most.filter(|(length, _)| *length != net.prefix_len())
            && let Ok(mended) = IpNet::new(net.addr(), length)
        {
            let del = Edit::Op(Op::DelAddr { at: at(ns, dev), addr: net });
            let add = Edit::Op(Op::AddAddr { at: at(ns, dev), addr: mended });
            // Routes go with the last IPv4 address of an interface; an IPv6 address cannot be there twice.
            let edits = if net.addr().is_ipv4() { vec![add, del] } else { vec![del, add] };
            push(found, INTRUSIVE, edits);
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

    /// Where the packet is sent away from its destination, a route towards it.
    fn straighten(&self, found: &mut Vec<Proposal>) {
        for hop in &self.walk.hops {
            let (Some(to), Some(route)) = (&hop.to, &hop.route) else { continue };
            let (Some(here), Some(there)) = (self.distances.get(&hop.node), self.distances.get(&to.ns)) else {
                continue;
            };
            if there < here {
                continue;
            }
            let Some(node) = self.snapshot.nodes.get(&hop.node) else { continue };
            let least = route.key.prefix.prefix_len();
            self.routes(&hop.node, node, self.dst, least, found);
            if !route.derived {
                plain(Edit::Op(Op::DelRoute { ns: hop.node.clone(), key: route.key.clone() }), found);
            }
        }
        // The last one sends to a neighbour that is not there.
        if let Some(hop) = self.walk.last()
            && let (Some(route), Some(node)) = (&hop.route, self.snapshot.nodes.get(&hop.node))
            && matches!(route.action, FibAction::Route(RouteKind::Unicast(_)))
            && !is_own(node, self.dst)
        {
            self.routes(&hop.node, node, self.dst, route.key.prefix.prefix_len(), found);
            if !route.derived {
                plain(Edit::Op(Op::DelRoute { ns: hop.node.clone(), key: route.key.clone() }), found);
            }
        }
    }

    /// Lets a firewall pass what it drops, and nothing else: last of all.
    fn let_pass(&self, ns: &NsName, reason: &Reason, found: &mut Vec<Proposal>) {
        let Reason::Firewall { family, table, chain, rule, certain, .. } = reason else { return };
        let Some(hop) = self.walk.last() else { return };
        // Where it is translated, the firewall sees it as one of these. Which one shows when it is tried.
        let flows: BTreeSet<Flow> = [hop.came, hop.routed, hop.sent].iter().filter_map(Flow::of).collect();
        if flows.is_empty() {
            return open(ns, reason, found);
        }
        let place = rule.map_or(Place::End, Place::Before);
        let mut places = vec![(place, LOOSENING)];
        // The end is not reached behind a `goto` or a `return`; and an earlier rule may have done it as well.
        if rule.is_none() || !certain {
            places.push((Place::Start, LOOSENING + 1));
        }
        for flow in flows {
            for &(place, cost) in &places {
                let (ns, family, table, chain) = (ns.clone(), family.clone(), table.clone(), chain.clone());
                push(found, cost, vec![Edit::AcceptFlow { ns, family, table, chain, place, flow }]);
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

/// An ordinary change, unless it restores what was declared and is proposed as that.
fn plain(edit: Edit, found: &mut Vec<Proposal>) {
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

/// Would the kernel take the route? Its gateways have to be on a link of the node.
fn takes(node: &NodeState, route: &Route) -> bool {
    let on_link = |hop: &NextHop| {
        let Some(via) = hop.via else { return node.links.contains_key(&hop.dev) };
        !is_own(node, via)
            && main_route(node, via)
                .is_some_and(|it| it.next_hops().iter().any(|to| to.via.is_none() && to.dev == hop.dev))
    };
    route.next_hops().iter().all(on_link)
}

fn push(found: &mut Vec<Proposal>, cost: u32, edits: Vec<Edit>) {
    if !edits.is_empty() {
        // Each further change of a proposal costs as well, if less than one that stands alone.
        let more = u32::try_from(edits.len()).unwrap_or(u32::MAX) - 1;
        found.push(Proposal { cost: cost + more, edits: edits.into_iter().map(|edit| (edit, false)).collect() });
    }
}

fn at(ns: &NsName, dev: IfName) -> Endpoint {
    Endpoint { ns: ns.clone(), dev }
}

fn sysctl(ns: &NsName, key: SysctlKey, value: &str) -> Edit {
    Edit::Op(Op::SetSysctl { ns: ns.clone(), key, value: value.to_owned() })
}

/// `net.ipv4.conf.all.KEY`.
fn conf_all(key: &str) -> Option<SysctlKey> {
    format!("net.ipv4.conf.all.{key}").parse().ok()
}
