//! One address: where the packets of each node to it end. Each node has one set of ways on, so that
//! the ways of all are one graph, and one pass over it is enough.

use std::collections::BTreeMap;

use hopyard_net::{Family, FibRoute};

use super::net::{Asked, Door, Net, number};
use super::stops::{Ending, Stops};
use super::tables::{self, Edge, Hop, Source, Tables, Way};
use crate::forwarding::not_forwarding;
use crate::walk::BRANCHES;
use crate::{Reason, lookup};

/// What is known of a node's own packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    Unknown,
    /// It is being looked at: who comes back here goes round in a circle.
    Open,
    /// They go round.
    Loop,
    Known(Ending),
}

/// What became of a node's packets.
#[derive(Clone, Copy)]
struct Fate {
    mark: Mark,
    /// How many nodes the longest way crosses.
    depth: u32,
    /// How many ways are tried where some are equal; 0: none are.
    branches: u32,
    /// Where the first way leads, if a packet is taken in there.
    next: u32,
}

impl Fate {
    /// Nobody has looked.
    const NEW: Fate = Fate { mark: Mark::Unknown, depth: 0, branches: 0, next: NOWHERE };
}

/// What became of each node's packets.
pub(super) struct Column {
    fates: Vec<Fate>,
    stack: Vec<Frame>,
    /// Did one go round, or cross as many nodes as some hop limit allows?
    is_long: bool,
}

/// No interface, and no node.
const NOWHERE: u32 = u32::MAX;

/// A node that is being looked at.
#[derive(Clone, Copy)]
struct Frame {
    node: u32,
    /// Its hops.
    first: u32,
    end: u32,
    /// The one that is next.
    at: u32,
    /// What is known by then; it is [`Mark::Unknown`] before the first.
    fate: Fate,
}

/// What goes on with a packet that came in somewhere.
enum Entered {
    Ends(Ending),
    /// As with the node's own packets.
    AsOwn(u32),
}

pub(super) struct Painter<'n, 'a> {
    pub(super) net: &'n Net<'a>,
    pub(super) tables: &'n Tables<'a>,
    pub(super) stops: &'n mut Stops,
    /// The route that each node has for the column.
    pub(super) routes: Vec<u32>,
    pub(super) column: u32,
    /// The address of the column, and who has it.
    asked: Asked<'n>,
    /// The last time that a packet that is followed came in at an interface, and where on its path that was.
    been: Vec<(u32, u32)>,
    followed: u32,
    distances: Option<Vec<u32>>,
}

impl<'n, 'a> Painter<'n, 'a> {
    pub(super) fn new(net: &'n Net<'a>, tables: &'n Tables<'a>, stops: &'n mut Stops) -> Self {
        let routes = tables.none();
        let asked = Asked::new(net, std::net::Ipv4Addr::UNSPECIFIED.into());
        let been = vec![(0, 0); net.ifaces.len()];
        Painter { net, tables, stops, routes, column: 0, asked, been, followed: 0, distances: None }
    }

    fn way(&self, node: u32) -> Way {
        self.tables.ways[self.routes[node as usize] as usize]
    }

    /// The route that a node has.
    fn route(&self, node: u32) -> Option<&'a FibRoute> {
        self.tables.routes[self.routes[node as usize] as usize]
    }

    /// Fills the column for the routes that are set.
    pub(super) fn fill(&mut self, column: u32, into: &mut Column) {
        self.column = column;
        self.asked = Asked::new(self.net, self.tables.columns[column as usize]);
        self.distances = None;
        into.fates.fill(Fate::NEW);
        into.is_long = false;
        for node in 0..number(self.net.nodes.len()) {
            self.settle(node, into);
        }
        if into.is_long {
            self.shorten(into);
        }
    }

    /// Finds out what becomes of packets that go round, or have no hop left.
    fn shorten(&mut self, into: &mut Column) {
        let mut followed = Vec::new();
        let mut far: BTreeMap<u8, Vec<u32>> = BTreeMap::new();
        for node in 0..number(self.net.nodes.len()) {
            let fate = into.fates[node as usize];
            let round = fate.mark == Mark::Loop;
            let far_off = fate.depth >= u32::from(self.tables.least_limit) && into.ending(node) != Ending::Ask;
            if !round && !far_off {
                continue;
            }
            let Way::On { limit, .. } = self.way(node) else { continue };
            if round {
                followed.push((node, self.follow(node, limit, into)));
            } else if fate.depth >= u32::from(limit) {
                if fate.branches > 0 {
                    followed.push((node, Ending::Ask));
                } else {
                    far.entry(limit).or_default().push(node);
                }
            }
        }
        for (limit, nodes) in far {
            let there = self.behind(limit, into);
            for node in nodes {
                let last = there[node as usize];
                // Further on, or at an end that is one before anybody looks at the limit.
                if last != NOWHERE && self.leaves(last) {
                    followed.push((node, Ending::Stop(self.stops.expired(last))));
                }
            }
        }
        // Only now: the others are followed through these.
        for (node, ending) in followed {
            into.fates[node as usize].mark = Mark::Known(ending);
        }
    }

    /// For each node, the one that its packets come to after so many steps.
    fn behind(&self, steps: u8, into: &Column) -> Vec<u32> {
        let step = |to: u32| if to == NOWHERE { NOWHERE } else { self.net.ifaces[to as usize].node };
        let mut power: Vec<u32> = into.fates.iter().map(|fate| step(fate.next)).collect();
        let mut result: Vec<u32> = (0..number(self.net.nodes.len())).collect();
        let then = |first: &[u32], second: &[u32]| -> Vec<u32> {
            first.iter().map(|at| if *at == NOWHERE { NOWHERE } else { second[*at as usize] }).collect()
        };
        let mut left = steps;
        while left > 0 {
            if left & 1 == 1 {
                result = then(&result, &power);
            }
            power = then(&power, &power);
            left >>= 1;
        }
        result
    }

    /// Finds out where the packets of a node end, and of all nodes that they come to.
    fn settle(&mut self, start: u32, into: &mut Column) {
        if into.fates[start as usize].mark != Mark::Unknown {
            return;
        }
        self.open(start, into);
        let hops = self.tables.all_hops();
        while let Some(Frame { node, first, end, at, .. }) = into.stack.last().copied() {
            if at == end {
                into.close(self.tables.least_limit);
                continue;
            }
            let (to, entered) = self.enter(node, &hops[at as usize]);
            let found = match entered {
                Entered::Ends(ending) => Fate { mark: Mark::Known(ending), depth: 1, branches: 0, next: NOWHERE },
                Entered::AsOwn(other) => match into.fates[other as usize] {
                    // That comes first, and then this hop once more.
                    Fate { mark: Mark::Unknown, .. } => {
                        self.open(other, into);
                        continue;
                    }
                    // On the way to it: a circle.
                    Fate { mark: Mark::Open, .. } => Fate { mark: Mark::Loop, depth: 1, branches: 0, next: to },
                    Fate { mark, depth, branches, .. } => {
                        Fate { mark: self.turned(mark, to), depth: depth + 1, branches, next: to }
                    }
                },
            };
            let Some(Frame { at, fate, .. }) = into.stack.last_mut() else { return };
            *at += 1;
            let several = u32::from(end - first > 1);
            fate.mark = match fate.mark {
                Mark::Unknown => found.mark,
                other if other == found.mark && other != Mark::Loop => other,
                _ => Mark::Known(Ending::Ask),
            };
            fate.depth = fate.depth.max(found.depth);
            fate.branches = fate.branches.saturating_add(found.branches).saturating_add(several);
            if *at == first + 1 {
                fate.next = found.next;
            }
        }
    }

    /// Begins to look at a node that nobody has looked at.
    fn open(&mut self, node: u32, into: &mut Column) {
        let fate = &mut into.fates[node as usize];
        match self.own(node) {
            Err(ending) => *fate = Fate { mark: Mark::Known(ending), ..Fate::NEW },
            Ok((first, end)) => {
                fate.mark = Mark::Open;
                into.stack.push(Frame { node, first, end, at: first, fate: Fate::NEW });
            }
        }
    }

    /// A node that asks by the interface by which the packet came in vain may know the answer from the question.
    fn turned(&self, mark: Mark, to: u32) -> Mark {
        match mark {
            Mark::Known(Ending::Stop(stop)) if self.stops.asked_by(stop) == Some(to) => Mark::Known(Ending::Ask),
            mark => mark,
        }
    }

    /// What a node does with a packet of its own, before it leaves.
    fn own(&mut self, node: u32) -> Result<(u32, u32), Ending> {
        if self.net.odd[node as usize] {
            return Err(Ending::Ask);
        }
        match self.way(node) {
            Way::None => Err(self.no_route(node)),
            Way::Local => Err(Ending::At(node)),
            Way::Stop(stop) => Err(Ending::Stop(stop)),
            Way::Ask => Err(Ending::Ask),
            Way::On { first, end, .. } => Ok((first, end)),
        }
    }

    fn no_route(&mut self, node: u32) -> Ending {
        let net = self.net;
        let down = if net.has_down(node) {
            if net.has_ports(node) {
                return Ending::Ask;
            }
            let column = self.tables.columns[self.column as usize];
            let owner = net.having.get(&column).and_then(|at| at.first()).map(|at| net.ifaces[*at as usize].node);
            owner.and_then(|owner| {
                let distances = self.distances.get_or_insert_with(|| net.distances(owner));
                net.down_towards(node, distances)
            })
        } else {
            None
        };
        let family = net.family;
        let state = net.nodes[node as usize];
        Ending::Stop(self.stops.no_route(node, down, || Reason::NoRoute { known: lookup::known(state, family), down }))
    }

    /// Where a way leads, and what is done there before a packet is treated as the node's own.
    fn enter(&mut self, node: u32, hop: &Hop<'a>) -> (u32, Entered) {
        let edge = match hop.edge {
            Edge::OnLink => {
                let (tables, routes) = (self.tables, &self.routes);
                let takes = |node: u32| matches!(tables.ways[routes[node as usize] as usize], Way::Local);
                tables::edge(self.net, hop.by, hop.next, &self.asked, takes, self.stops)
            }
            edge => edge,
        };
        let to = match edge {
            Edge::To(to) => to,
            Edge::Stop(stop) => return (NOWHERE, Entered::Ends(Ending::Stop(stop))),
            Edge::OnLink | Edge::Ask => return (NOWHERE, Entered::Ends(Ending::Ask)),
        };
        debug_assert_eq!(self.net.ifaces[hop.by as usize].node, node, "a way on is by an own interface");
        (to, self.take(to, hop.next.via.is_none()))
    }

    fn take(&mut self, to: u32, taken_for_it: bool) -> Entered {
        let Door { node, forwards } = self.net.doors[to as usize];
        if self.net.odd[node as usize] {
            return Entered::Ends(Ending::Ask);
        }
        let way = self.way(node);
        if matches!(way, Way::Local | Way::Ask) {
            return Entered::AsOwn(node);
        }
        let family = self.net.family;
        let passes = family == Family::Ipv6 && !matches!(way, Way::On { .. });
        if passes || forwards {
            return Entered::AsOwn(node);
        }
        let (state, dev) = (self.net.nodes[node as usize], self.net.ifaces[to as usize].dev);
        // The first hop, usable or not.
        let by = self.route(node).and_then(|route| route.next_hops().first()).map(|next| next.dev);
        let reason = || not_forwarding(state, family, taken_for_it, dev, by);
        Entered::Ends(Ending::Stop(self.stops.off(self.net, to, taken_for_it, by, reason)))
    }

    /// Follows a packet of a node step by step: it may go round, or have no hop left.
    fn follow(&mut self, start: u32, limit: u8, into: &Column) -> Ending {
        self.followed += 1;
        let mut path = vec![start];
        let mut came = None;
        let (mut node, mut ttl) = (start, limit);
        loop {
            let Ok((first, end)) = self.own(node) else {
                return into.ending(node);
            };
            if end - first > 1 {
                return Ending::Ask;
            }
            let hop = &self.tables.all_hops()[first as usize];
            if path.len() > 1 {
                if node == start && self.net.family == Family::Ipv4 {
                    // It comes back to where it is from.
                    return self.own_source(node);
                }
                if ttl <= 1 {
                    return Ending::Stop(self.stops.expired(node));
                }
                ttl -= 1;
            }
            let (to, entered) = self.enter(node, hop);
            match entered {
                Entered::Ends(Ending::Stop(stop)) if came.is_some() && self.stops.asked_by(stop) == came => {
                    return Ending::Ask;
                }
                Entered::Ends(ending) => return ending,
                Entered::AsOwn(other) => {
                    came = Some(to);
                    let seen = (self.followed, number(path.len()));
                    let before = std::mem::replace(&mut self.been[to as usize], seen);
                    if before.0 == self.followed {
                        let circle = path[before.1 as usize..]
                            .iter()
                            .map(|node| self.net.names[*node as usize].clone())
                            .collect();
                        return Ending::Stop(self.stops.add(other, Reason::Loop(circle)));
                    }
                    path.push(other);
                    node = other;
                }
            }
        }
    }

    /// What a node does with an IPv4 packet from outside that has its own address as its source.
    fn own_source(&mut self, node: u32) -> Ending {
        let state = self.net.nodes[node as usize];
        let accepts = state.all.accept_local || state.links.values().any(|link| link.conf.accept_local);
        if accepts { Ending::Ask } else { Ending::Stop(self.stops.add(node, Reason::LocalSource)) }
    }

    /// Does the first way of a node's packets come to an interface?
    pub(super) fn comes_to(&self, start: u32, iface: u32, into: &Column) -> bool {
        let mut node = start;
        // No way that arrives is longer.
        for _ in 0..=u8::MAX {
            match into.fates[node as usize].next {
                NOWHERE => return false,
                to if to == iface => return true,
                to => node = self.net.ifaces[to as usize].node,
            }
        }
        true
    }

    /// Does a packet of a node leave it?
    pub(super) fn leaves(&self, node: u32) -> bool {
        matches!(self.way(node), Way::On { .. })
    }

    /// The columns of the sources that a node gives its packets, one for each of equal ways; that of the first
    /// first. Empty: the walk has to be asked.
    pub(super) fn sources(&self, node: u32, into: &mut Vec<u32>) {
        into.clear();
        for hop in self.tables.hops(self.way(node)) {
            match self.source(node, hop) {
                Some(column) if into.contains(&column) => {}
                Some(column) => into.push(column),
                None => {
                    into.clear();
                    return;
                }
            }
        }
    }

    fn source(&self, node: u32, hop: &Hop<'a>) -> Option<u32> {
        match hop.src {
            Source::Column(column) => Some(column),
            Source::Ask => None,
            Source::ByDestination => {
                let state = self.net.nodes[node as usize];
                let src = crate::lookup::source(state, self.route(node)?, Some(hop.next), self.asked.addr)?;
                self.tables.column(src).filter(|_| self.net.is_own(src, node))
            }
        }
    }
}

/// Whose packets end at one node, as bits.
pub(super) struct Arrived {
    at: u32,
    nodes: Vec<u64>,
}

impl Arrived {
    /// Do the packets of a node end at another?
    pub(super) fn has(&self, node: u32, at: Option<u32>) -> bool {
        Some(self.at) == at && self.nodes[node as usize / 64] >> (node % 64) & 1 == 1
    }
}

impl Column {
    /// Whose packets end at a node.
    pub(super) fn arrived(&self, at: u32) -> Arrived {
        let arrives = |fate: &Fate| u64::from(fate.mark == Mark::Known(Ending::At(at)));
        let word = |fates: &[Fate]| fates.iter().rev().fold(0, |bits, fate| bits << 1 | arrives(fate));
        Arrived { at, nodes: self.fates.chunks(64).map(word).collect() }
    }

    pub(super) fn new(nodes: usize) -> Self {
        Column { fates: vec![Fate::NEW; nodes], stack: Vec::new(), is_long: false }
    }

    /// Writes down what became of the node that was looked at last, when all its ways were.
    fn close(&mut self, least_limit: u8) {
        let Some(Frame { node, first, end, mut fate, .. }) = self.stack.pop() else { return };
        if fate.branches as usize >= BRANCHES || fate.mark == Mark::Loop && (end - first > 1 || fate.branches > 0) {
            fate.mark = Mark::Known(Ending::Ask);
        }
        self.is_long |= fate.mark == Mark::Loop || fate.depth >= u32::from(least_limit);
        self.fates[node as usize] = fate;
    }

    pub(super) fn ending(&self, node: u32) -> Ending {
        if let Mark::Known(ending) = self.fates[node as usize].mark { ending } else { Ending::Ask }
    }
}
