//! A snapshot as numbers: nodes, interfaces, the segments that they are on, and who has which address.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::IpAddr;

use hopyard_net::{
    Family, FibAction, FibRoute, Habits, IfName, LinkKind, LinkState, MacAddr, NodeState, NsName, RuleAction, Snapshot,
};

use crate::forwarding::forwards;
use crate::packet::is_link_local;
use crate::segment::peer_of;

/// No probe is longer, so that whatever lets this many bytes through lets all of them through.
pub(super) const PROBE_BYTES: u32 = 64;

/// An interface.
pub(super) struct Iface<'a> {
    pub(super) node: u32,
    pub(super) dev: IfName,
    pub(super) link: &'a LinkState,
    /// The segment that its frames come to as things are.
    pub(super) segment: u32,
    /// The same if all were up.
    pub(super) wired: u32,
}

/// What there is to know of an interface to a packet that comes in: little, because it is asked most often.
#[derive(Clone, Copy)]
pub(super) struct Door {
    pub(super) node: u32,
    /// Is sent on what comes in here?
    pub(super) forwards: bool,
}

/// Nodes and interfaces by number, in the order of the snapshot.
pub(super) struct Net<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) family: Family,
    pub(super) names: Vec<&'a NsName>,
    pub(super) nodes: Vec<&'a NodeState>,
    pub(super) ifaces: Vec<Iface<'a>>,
    pub(super) doors: Vec<Door>,
    /// The first interface of each node, and behind the last.
    first: Vec<u32>,
    /// By segment: more than cables and switches decides, and the walk has to be asked.
    unclean: Vec<bool>,
    /// By segment: a switch has a firewall, so that it depends on the packet.
    filtered: Vec<bool>,
    /// By segment: an Ethernet address is there twice, so that it depends on who has spoken.
    twins: Vec<bool>,
    /// By wired segment: the interfaces that are its ends and have an address.
    wired_ends: Vec<Vec<u32>>,
    /// By node and segment: the end that the node has there; `None`: it has several.
    ends: HashMap<(u32, u32), Option<u32>>,
    /// By segment and Ethernet address: its ends.
    by_mac: HashMap<(u32, MacAddr), Vec<u32>>,
    /// By address: the interfaces that have it.
    pub(super) having: HashMap<IpAddr, Vec<u32>>,
    /// By address: the nodes that take it for their own, if it is one of an interface.
    pub(super) owners: HashMap<IpAddr, Vec<u32>>,
    /// What a node does depends on more than the destination: a firewall, rules, where a packet comes from.
    pub(super) odd: Vec<bool>,
    /// By node: it forwards by the tables alone, but believes by them too.
    pub(super) doubts: Vec<bool>,
    /// By interface: what the neighbour tables of this family say, in order.
    known: Vec<Vec<(IpAddr, MacAddr, bool)>>,
    /// By interface: another node has an address from which it may ask, so that it makes a difference who asks.
    ambiguous: Vec<bool>,
    /// By node: a permanent IPv6 neighbour has an Ethernet address that is not its own.
    misled: Vec<bool>,
    /// By node, and for whole segments: it answers for more addresses than its interfaces have.
    greedy_segments: Vec<bool>,
}

/// An address that is asked for, with who has it.
#[derive(Clone, Copy)]
pub(super) struct Asked<'n> {
    pub(super) addr: IpAddr,
    owners: &'n [u32],
    having: &'n [u32],
}

impl<'n> Asked<'n> {
    pub(super) fn new(net: &'n Net<'_>, addr: IpAddr) -> Self {
        let list = |of: &'n HashMap<IpAddr, Vec<u32>>| of.get(&addr).map_or(&[][..], Vec::as_slice);
        Asked { addr, owners: list(&net.owners), having: list(&net.having) }
    }
}

/// Disjoint sets of interfaces.
struct Sets(Vec<u32>);

impl Sets {
    fn root(&mut self, mut at: u32) -> u32 {
        while self.0[at as usize] != at {
            let up = self.0[self.0[at as usize] as usize];
            self.0[at as usize] = up;
            at = up;
        }
        at
    }

    fn join(&mut self, a: u32, b: u32) {
        let (a, b) = (self.root(a), self.root(b));
        self.0[a.max(b) as usize] = a.min(b);
    }
}

pub(super) fn number(of: usize) -> u32 {
    // No network has so many things.
    u32::try_from(of).unwrap_or(u32::MAX)
}

impl<'a> Net<'a> {
    pub(super) fn new(snapshot: &'a Snapshot, family: Family) -> Self {
        let names: Vec<&NsName> = snapshot.nodes.keys().collect();
        let nodes: Vec<&NodeState> = snapshot.nodes.values().collect();
        let mut ifaces = Vec::new();
        let mut doors = Vec::new();
        let mut first = vec![0];
        for (node, state) in nodes.iter().enumerate() {
            ifaces.extend(state.links.iter().map(|(dev, link)| Iface {
                node: number(node),
                dev: *dev,
                link,
                segment: 0,
                wired: 0,
            }));
            let door = |dev| Door { node: number(node), forwards: forwards(state, family, dev) };
            doors.extend(state.links.keys().map(|dev| door(*dev)));
            first.push(number(ifaces.len()));
        }
        let none = |of: usize| vec![false; of];
        let mut net = Net {
            snapshot,
            family,
            unclean: none(ifaces.len()),
            filtered: none(ifaces.len()),
            twins: none(ifaces.len()),
            wired_ends: Vec::new(),
            greedy_segments: none(ifaces.len()),
            odd: none(nodes.len()),
            doubts: none(nodes.len()),
            misled: none(nodes.len()),
            names,
            nodes,
            ifaces,
            doors,
            first,
            by_mac: HashMap::new(),
            ends: HashMap::new(),
            having: HashMap::new(),
            owners: HashMap::new(),
            known: Vec::new(),
            ambiguous: Vec::new(),
        };
        net.find_segments();
        net.find_addresses();
        net.find_oddities();
        net.find_ambiguities();
        net
    }

    pub(super) fn node(&self, name: &NsName) -> Option<u32> {
        self.names.binary_search(&name).ok().map(number)
    }

    pub(super) fn iface(&self, node: u32, dev: IfName) -> Option<u32> {
        let range = self.range(node);
        let here = &self.ifaces[range.clone()];
        here.binary_search_by(|it| it.dev.cmp(&dev)).ok().map(|at| number(range.start + at))
    }

    pub(super) fn range(&self, node: u32) -> std::ops::Range<usize> {
        self.first[node as usize] as usize..self.first[node as usize + 1] as usize
    }

    /// Cables join interfaces, bridges their ports.
    fn find_segments(&mut self) {
        let all = 0..number(self.ifaces.len());
        let mut up = Sets(all.clone().collect());
        let mut wired = Sets(all.clone().collect());
        let mut joined = vec![false; self.ifaces.len()];
        for at in all.clone() {
            let it = &self.ifaces[at as usize];
            if let Some(peer) = peer_of(it.link)
                && let Some(other) = self.node(&peer.ns).and_then(|node| self.iface(node, peer.dev))
            {
                wired.join(at, other);
                if it.link.up && self.ifaces[other as usize].link.up {
                    up.join(at, other);
                }
                joined[other as usize] = true;
            }
            if let Some(bridge) = it.link.master.and_then(|bridge| self.iface(it.node, bridge)) {
                wired.join(at, bridge);
                joined[bridge as usize] = true;
                if self.ifaces[bridge as usize].link.up {
                    up.join(at, bridge);
                }
            }
        }
        self.wired_ends = vec![Vec::new(); self.ifaces.len()];
        let mut macs = HashSet::new();
        for at in all {
            let (segment, wire) = (up.root(at), wired.root(at));
            // A bridge has the address of one of its ports.
            let Iface { node, dev, link, .. } = self.ifaces[at as usize];
            let of_port = |port: &Iface<'_>| port.link.master == Some(dev) && port.link.mac == link.mac;
            let counts = link.kind != LinkKind::Bridge || !self.ifaces[self.range(node)].iter().any(of_port);
            self.twins[segment as usize] |= link.mac.filter(|_| counts).is_some_and(|mac| !macs.insert((segment, mac)));
            let it = &mut self.ifaces[at as usize];
            (it.segment, it.wired) = (segment, wire);
            if it.link.master.is_some() {
                continue;
            }
            if !it.link.addresses.is_empty() && joined[at as usize] {
                self.wired_ends[wire as usize].push(at);
            }
            self.ends.entry((it.node, segment)).and_modify(|end| *end = None).or_insert(Some(at));
            if let Some(mac) = it.link.mac {
                self.by_mac.entry((segment, mac)).or_default().push(at);
            }
        }
    }

    fn find_addresses(&mut self) {
        for (at, it) in self.ifaces.iter().enumerate() {
            for own in it.link.addresses.iter().filter(|own| Family::of(own.net.addr()) == self.family) {
                let here = self.having.entry(own.net.addr()).or_default();
                if here.last() != Some(&number(at)) {
                    here.push(number(at));
                }
                add(&mut self.owners, own.net.addr(), it.node);
            }
        }
        self.known.resize(self.ifaces.len(), Vec::new());
        for (node, state) in self.nodes.iter().enumerate() {
            for neighbour in state.neighbours.iter().filter(|it| Family::of(it.addr) == self.family) {
                if let Some(iface) = self.iface(number(node), neighbour.dev) {
                    self.known[iface as usize].push((neighbour.addr, neighbour.mac, neighbour.permanent));
                }
            }
        }
    }

    fn find_oddities(&mut self) {
        for known in &mut self.known {
            // The first of several for one address counts.
            known.sort_by_key(|(addr, ..)| *addr);
            known.dedup_by_key(|(addr, ..)| *addr);
        }
        for at in 0..self.nodes.len() {
            let state = self.nodes[at];
            let range = self.range(number(at));
            let filters = state.firewall.as_ref().is_none_or(|rules| !rules.chains.is_empty());
            let about_arp = state.firewall.iter().flat_map(|rules| &rules.chains).any(|chain| chain.family == "arp");
            let rules = state.rules.iter().filter(|rule| rule.family == self.family);
            let conditions = rules.into_iter().any(|rule| {
                let plain = hopyard_net::PolicyRule::lookup(rule.family, rule.priority, 0);
                let any = hopyard_net::PolicyRule { action: plain.action, ..rule.clone() };
                !matches!(rule.action, RuleAction::Lookup(_)) || any != plain
            });
            let greedy = self.takes_more(number(at));
            let four = self.family == Family::Ipv4;
            let confs = || self.ifaces[range.clone()].iter().map(|it| &it.link.conf).chain([&state.all]);
            let hides = four && confs().any(|conf| conf.arp_ignore != 0);
            let strict = four && confs().any(|conf| conf.rp_filter == 1);
            let loose = four && confs().any(|conf| conf.rp_filter > 1);
            let proxies = four && confs().any(|conf| conf.proxy_arp)
                || state.proxied.iter().any(|(_, addr)| Family::of(*addr) == self.family);
            let told = state.redirects.iter().any(|it| Family::of(it.dst) == self.family);
            // Of its own packets.
            let hops = if four {
                state.habits.is_some_and(|habits| habits.ttl != Habits::TTL)
            } else {
                self.ifaces[range.clone()].iter().any(|it| it.link.ipv6.hop_limit.is_some())
            };
            let of_loopback = |route: &FibRoute| {
                matches!(route.action, FibAction::Route(_)) && route.src.is_some_and(|src| src.is_loopback())
            };
            let off = !four && self.ifaces[range.clone()].iter().any(|it| it.link.ipv6.disabled);
            let inside = four && state.routes.iter().any(of_loopback);
            let wrong = |it: &hopyard_net::Neighbour| {
                let here = self.having.get(&it.addr).into_iter().flatten();
                it.permanent && here.into_iter().any(|at| self.ifaces[*at as usize].link.mac != Some(it.mac))
            };
            self.misled[at] = !four && state.neighbours.iter().any(wrong);
            self.odd[at] = filters || conditions || greedy || hides || strict || told || hops || off || inside;
            self.doubts[at] = loose;
            for iface in range {
                let it = &self.ifaces[iface];
                let segment = it.segment as usize;
                let beyond = it.link.beyond.is_some()
                    || it.link.shared_by.is_some()
                    || !matches!(
                        it.link.kind,
                        LinkKind::Veth { peer: Some(_) } | LinkKind::Bridge | LinkKind::Loopback
                    );
                let bridges = it.link.master.is_some() || it.link.kind == LinkKind::Bridge;
                self.unclean[segment] |=
                    beyond || proxies || about_arp || (bridges || !four) && filters || it.link.mtu < PROBE_BYTES;
                self.filtered[segment] |= bridges && filters;
                self.greedy_segments[segment] |= greedy;
            }
        }
    }

    /// Last, when all owners are known.
    fn find_ambiguities(&mut self) {
        let is = |it: &Iface<'_>| {
            let mut asking = it.link.addresses.iter().map(|own| own.net.addr());
            asking.any(|addr| {
                Family::of(addr) == self.family
                    && !is_link_local(addr)
                    && !addr.is_loopback()
                    && !self.is_clear(addr, it.node)
            })
        };
        self.ambiguous = self.ifaces.iter().map(is).collect();
    }

    /// Has a node a route that makes it the owner of more than the addresses of its interfaces?
    fn takes_more(&mut self, node: u32) -> bool {
        let state = self.nodes[node as usize];
        let locals = state.routes.iter().filter(|it| it.action == FibAction::Local && it.key.family() == self.family);
        let mut more = false;
        for FibRoute { key, .. } in locals {
            let prefix = key.prefix;
            if prefix.prefix_len() == prefix.max_prefix_len() {
                let has = self.owners.get(&prefix.addr()).is_some_and(|nodes| nodes.contains(&node));
                if !has {
                    // Of IPv6, the anycast address of routers is asked for by those alone who want all of them.
                    more |= self.family == Family::Ipv4 || self.having.contains_key(&prefix.addr());
                    add(&mut self.owners, prefix.addr(), node);
                }
            } else {
                more |= !prefix.addr().is_loopback();
            }
        }
        more
    }

    /// Is an address that of one node alone, or of nobody?
    pub(super) fn is_clear(&self, addr: IpAddr, of: u32) -> bool {
        !is_link_local(addr) && self.owners.get(&addr).is_none_or(|nodes| nodes.as_slice() == [of])
    }

    /// Does a node answer no ping?
    pub(super) fn is_mute(&self, node: u32) -> bool {
        self.nodes[node as usize].habits.is_some_and(|habits| habits.ignores_echo_of(self.family))
    }

    /// Is an address that of one node and no other?
    pub(super) fn is_own(&self, addr: IpAddr, of: u32) -> bool {
        self.owners.contains_key(&addr) && self.is_clear(addr, of)
    }

    /// Who takes a frame for an address that leaves by an interface, where cables, switches and one owner
    /// are all there is; `takes`: does a node take the address for its own? `None`: more decides.
    pub(super) fn neighbour(&self, by: u32, asked: &Asked<'_>, takes: impl Fn(u32) -> bool) -> Option<u32> {
        let from = &self.ifaces[by as usize];
        let addr = asked.addr;
        let ready = from.link.up && from.link.carrier && from.link.master.is_none() && from.dev != IfName::LO;
        if !ready
            || self.unclean[from.segment as usize]
            || self.twins[from.segment as usize]
            || self.ambiguous[by as usize]
        {
            return None;
        }
        let known = &self.known[by as usize];
        if let Ok(at) = known.binary_search_by_key(&addr, |(addr, ..)| *addr) {
            let (_, mac, permanent) = &known[at];
            let [end] = self.by_mac.get(&(from.segment, *mac))?.as_slice() else { return None };
            let has = asked.owners.contains(&self.ifaces[*end as usize].node);
            return (*end != by && (has || !permanent)).then_some(*end);
        }
        let mut found = None;
        let mut one = |at: u32| {
            let it = &self.ifaces[at as usize];
            if at != by && it.segment == from.segment && it.link.master.is_none() && found.replace(at).is_some() {
                return None;
            }
            Some(())
        };
        match self.family {
            Family::Ipv4 => {
                for node in asked.owners {
                    match self.ends.get(&(*node, from.segment)) {
                        None => {}
                        Some(Some(at)) => one(*at)?,
                        Some(None) => return None,
                    }
                }
            }
            Family::Ipv6 => {
                for &at in asked.having {
                    if at == by {
                        return None;
                    }
                    one(at)?;
                }
            }
        }
        let end = found?;
        let it = &self.ifaces[end as usize];
        let plain = match self.family {
            Family::Ipv4 => !self.odd[it.node as usize] && takes(it.node),
            Family::Ipv6 => {
                let usable = it.link.addresses.iter().any(|own| own.usable && own.net.addr() == addr);
                usable && !self.misled[it.node as usize]
            }
        };
        plain.then_some(end)
    }

    /// Does it depend on the packet who answers for an address on the segment of an interface?
    pub(super) fn depends_on_packet(&self, by: u32, addr: IpAddr) -> bool {
        let segment = self.ifaces[by as usize].segment;
        let mut owners = self.owners.get(&addr).into_iter().flatten();
        let odd = owners.any(|&node| {
            let strange = self.odd[node as usize] || self.doubts[node as usize] || self.misled[node as usize];
            strange && self.ifaces[self.range(node)].iter().any(|it| it.segment == segment)
        });
        odd || self.is_stale(by, addr)
            || self.filtered[segment as usize]
            || self.twins[segment as usize]
            || self.greedy_segments[segment as usize]
            || self.ambiguous[by as usize]
    }

    /// Is what was learnt of an address not so? Who has it sets that right when it asks.
    fn is_stale(&self, by: u32, addr: IpAddr) -> bool {
        let known = &self.known[by as usize];
        let Ok(at) = known.binary_search_by_key(&addr, |(addr, ..)| *addr) else { return false };
        let (_, mac, permanent) = &known[at];
        let ends = self.by_mac.get(&(self.ifaces[by as usize].segment, *mac)).into_iter().flatten();
        let owners = self.owners.get(&addr).map_or(&[][..], Vec::as_slice);
        !permanent && !ends.into_iter().any(|end| owners.contains(&self.ifaces[*end as usize].node))
    }

    /// How far each node is from one, whatever is up or down; `u32::MAX`: not joined.
    pub(super) fn distances(&self, to: u32) -> Vec<u32> {
        let mut found = vec![u32::MAX; self.nodes.len()];
        let mut crossed = vec![false; self.ifaces.len()];
        found[to as usize] = 0;
        let mut todo = VecDeque::from([to]);
        while let Some(node) = todo.pop_front() {
            for it in self.ifaces[self.range(node)].iter().filter(|it| it.link.master.is_none()) {
                if std::mem::replace(&mut crossed[it.wired as usize], true) {
                    continue;
                }
                for &end in &self.wired_ends[it.wired as usize] {
                    let there = self.ifaces[end as usize].node as usize;
                    if found[there] == u32::MAX {
                        found[there] = found[node as usize] + 1;
                        todo.push_back(number(there));
                    }
                }
            }
        }
        found
    }

    /// An interface of a node that is down and leads nearer to where the distances are zero, where none
    /// that is up does.
    pub(super) fn down_towards(&self, node: u32, distances: &[u32]) -> Option<IfName> {
        let own = distances[node as usize];
        if own == u32::MAX {
            return None;
        }
        let leads = |at: usize| {
            let ends = &self.wired_ends[self.ifaces[at].wired as usize];
            ends.iter().any(|end| *end as usize != at && distances[self.ifaces[*end as usize].node as usize] < own)
        };
        let mut towards = self.range(node).filter(|at| self.ifaces[*at].dev != IfName::LO && leads(*at));
        let first = towards.next()?;
        let is_up = |at: usize| self.ifaces[at].link.up;
        (!is_up(first) && towards.all(|at| !is_up(at))).then(|| self.ifaces[first].dev)
    }

    /// Has a node an interface that is down, so that it matters where it would lead?
    pub(super) fn has_down(&self, node: u32) -> bool {
        self.ifaces[self.range(node)].iter().any(|it| it.dev != IfName::LO && !it.link.up)
    }

    /// Is a node a switch too? Where its ports lead is seen by the walk alone.
    pub(super) fn has_ports(&self, node: u32) -> bool {
        self.ifaces[self.range(node)].iter().any(|it| it.link.master.is_some())
    }
}

fn add(to: &mut HashMap<IpAddr, Vec<u32>>, addr: IpAddr, node: u32) {
    let nodes = to.entry(addr).or_default();
    if !nodes.contains(&node) {
        nodes.push(node);
    }
}
