//! One address: where the packets of each node to it end. Each node has one set of ways on, so that
//! the ways of all are one graph, and one pass over it is enough.

use std::collections::BTreeMap;

use hopyard_net::Family;

use super::net::{Asked, Net, number};
use super::stops::{Ending, Stops};
use super::tables::{self, Edge, Hop, Source, Tables, Way};
use crate::Reason;
use crate::walk::{self, BRANCHES};

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

/// What became of each node's packets.
pub(super) struct Column {
    marks: Vec<Mark>,
    /// How many nodes the longest way crosses.
    depth: Vec<u32>,
    /// How many ways are tried where some are equal; 0: none are.
    branches: Vec<u32>,
    /// Where the first way of each leads, if a packet is taken in there.
    next: Vec<u32>,
    stack: Vec<Frame>,
}

/// No interface, and no node.
const NOWHERE: u32 = u32::MAX;

/// A node that is being looked at.
#[derive(Clone, Copy)]
struct Frame {
    node: u32,
    /// Which of its ways is next.
    at: usize,
    /// The interface and the node that have to be looked at before.
    waits_for: Option<(u32, u32)>,
    result: Option<Mark>,
    depth: u32,
    branches: u32,
    next: u32,
}

impl Default for Frame {
    fn default() -> Self {
        Frame { node: 0, at: 0, waits_for: None, result: None, depth: 0, branches: 0, next: NOWHERE }
    }
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
        let routes = vec![0; net.nodes.len()];
        let asked = Asked::new(net, std::net::Ipv4Addr::UNSPECIFIED.into());
        let been = vec![(0, 0); net.ifaces.len()];
        Painter { net, tables, stops, routes, column: 0, asked, been, followed: 0, distances: None }
    }

    fn way(&self, node: u32) -> &'n Way {
        &self.tables.ways[node as usize][self.routes[node as usize] as usize]
    }

    /// Fills the column for the routes that are set.
    pub(super) fn fill(&mut self, column: u32, into: &mut Column) {
        self.column = column;
        self.asked = Asked::new(self.net, self.tables.columns[column as usize]);
        self.distances = None;
        into.marks.fill(Mark::Unknown);
        for node in 0..number(self.net.nodes.len()) {
            self.settle(node, into);
        }
        let mut followed = Vec::new();
        let mut far: BTreeMap<u8, Vec<u32>> = BTreeMap::new();
        for node in 0..number(self.net.nodes.len()) {
            let at = node as usize;
            let round = into.marks[at] == Mark::Loop;
            let far_off = into.depth[at] >= u32::from(self.tables.least_limit) && into.ending(node) != Ending::Ask;
            if !round && !far_off {
                continue;
            }
            let Way::On { limit, .. } = self.way(node) else { continue };
            if round {
                followed.push((node, self.follow(node, *limit, into)));
            } else if into.depth[at] >= u32::from(*limit) {
                if into.branches[at] > 0 {
                    followed.push((node, Ending::Ask));
                } else {
                    far.entry(*limit).or_default().push(node);
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
            into.marks[node as usize] = Mark::Known(ending);
        }
    }

    /// For each node, the one that its packets come to after so many steps.
    fn behind(&self, steps: u8, into: &Column) -> Vec<u32> {
        let step = |to: u32| if to == NOWHERE { NOWHERE } else { self.net.ifaces[to as usize].node };
        let mut power: Vec<u32> = into.next.iter().map(|to| step(*to)).collect();
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
        if into.marks[start as usize] != Mark::Unknown {
            return;
        }
        self.open(start, into);
        while let Some(frame) = into.stack.last().copied() {
            let Way::On { hops, .. } = self.way(frame.node) else {
                into.stack.pop();
                continue;
            };
            let Some(hop) = hops.get(frame.at) else {
                into.stack.pop();
                into.close(&frame, hops.len());
                continue;
            };
            let (to, entered) = match frame.waits_for {
                // It has been looked at meanwhile.
                Some((to, other)) => (to, Entered::AsOwn(other)),
                None => self.enter(frame.node, hop),
            };
            let (mark, depth, branches, next) = match entered {
                Entered::Ends(ending) => (Mark::Known(ending), 1, 0, NOWHERE),
                Entered::AsOwn(other) => match into.marks[other as usize] {
                    Mark::Unknown => {
                        if let Some(frame) = into.stack.last_mut() {
                            frame.waits_for = Some((to, other));
                        }
                        self.open(other, into);
                        continue;
                    }
                    // On the way to it: a circle.
                    Mark::Open => (Mark::Loop, 1, 0, to),
                    mark => {
                        let there = other as usize;
                        (self.turned(mark, to), into.depth[there] + 1, into.branches[there], to)
                    }
                },
            };
            let Some(frame) = into.stack.last_mut() else { return };
            frame.result = Some(match frame.result {
                None => mark,
                Some(other) if other == mark && mark != Mark::Loop => mark,
                Some(_) => Mark::Known(Ending::Ask),
            });
            frame.depth = frame.depth.max(depth);
            frame.branches = frame.branches.saturating_add(branches).saturating_add(u32::from(hops.len() > 1));
            if frame.at == 0 {
                frame.next = next;
            }
            frame.at += 1;
            frame.waits_for = None;
        }
    }

    /// Begins to look at a node that nobody has looked at.
    fn open(&mut self, node: u32, into: &mut Column) {
        let at = node as usize;
        if let Err(ending) = self.own(node) {
            into.marks[at] = Mark::Known(ending);
            (into.depth[at], into.branches[at], into.next[at]) = (0, 0, NOWHERE);
        } else {
            into.marks[at] = Mark::Open;
            into.stack.push(Frame { node, ..Frame::default() });
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
    fn own(&mut self, node: u32) -> Result<&'n [Hop], Ending> {
        if self.net.odd[node as usize] {
            return Err(Ending::Ask);
        }
        match self.way(node) {
            Way::None => Err(self.no_route(node)),
            Way::Local => Err(Ending::At(node)),
            Way::Stop(stop) => Err(Ending::Stop(*stop)),
            Way::Ask => Err(Ending::Ask),
            Way::On { hops, .. } => Ok(hops),
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
        Ending::Stop(self.stops.no_route(node, down, || Reason::NoRoute { known: walk::known(state, family), down }))
    }

    /// Where a way leads, and what is done there before a packet is treated as the node's own.
    fn enter(&mut self, node: u32, hop: &Hop) -> (u32, Entered) {
        let edge = match hop.edge {
            Edge::OnLink => {
                let (tables, routes) = (self.tables, &self.routes);
                let takes =
                    |node: u32| matches!(tables.ways[node as usize][routes[node as usize] as usize], Way::Local);
                tables::edge(self.net, hop.by, &hop.next, &self.asked, takes, self.stops)
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
        let it = &self.net.ifaces[to as usize];
        let node = it.node;
        if self.net.odd[node as usize] {
            return Entered::Ends(Ending::Ask);
        }
        let way = self.way(node);
        if matches!(way, Way::Local | Way::Ask) {
            return Entered::AsOwn(node);
        }
        let family = self.net.family;
        let state = self.net.nodes[node as usize];
        let passes = family == Family::Ipv6 && !matches!(way, Way::On { .. });
        if passes || it.forwards {
            return Entered::AsOwn(node);
        }
        // The first hop of the route, usable or not.
        let route = self.tables.routes[node as usize][self.routes[node as usize] as usize];
        let by = route.and_then(|route| route.next_hops().first()).map(|next| next.dev);
        let reason = || walk::not_forwarding(state, family, taken_for_it, it.dev, by);
        Entered::Ends(Ending::Stop(self.stops.off(self.net, to, taken_for_it, by, reason)))
    }

    /// Follows a packet of a node step by step: it may go round, or have no hop left.
    fn follow(&mut self, start: u32, limit: u8, into: &Column) -> Ending {
        self.followed += 1;
        let mut path = vec![start];
        let mut came = None;
        let (mut node, mut ttl) = (start, limit);
        loop {
            let Ok([hop, others @ ..]) = self.own(node) else {
                return if let Mark::Known(ending) = into.marks[node as usize] { ending } else { Ending::Ask };
            };
            if !others.is_empty() {
                return Ending::Ask;
            }
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
            match into.next[node as usize] {
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
        let Way::On { hops, .. } = self.way(node) else { return };
        for hop in hops {
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

    fn source(&self, node: u32, hop: &Hop) -> Option<u32> {
        match hop.src {
            Source::Column(column) => Some(column),
            Source::Ask => None,
            Source::ByDestination => {
                let route = self.tables.routes[node as usize][self.routes[node as usize] as usize]?;
                let state = self.net.nodes[node as usize];
                let src = crate::lookup::source(state, route, Some(&hop.next), self.asked.addr)?;
                self.tables.column(src).filter(|_| self.net.is_own(src, node))
            }
        }
    }
}

impl Column {
    pub(super) fn new(nodes: usize) -> Self {
        Column {
            marks: vec![Mark::Unknown; nodes],
            depth: vec![0; nodes],
            branches: vec![0; nodes],
            next: vec![NOWHERE; nodes],
            stack: Vec::new(),
        }
    }

    /// Writes down what became of a node, all of whose ways were looked at.
    fn close(&mut self, frame: &Frame, hops: usize) {
        let at = frame.node as usize;
        let mut mark = frame.result.unwrap_or(Mark::Known(Ending::Ask));
        if frame.branches as usize >= BRANCHES || mark == Mark::Loop && (hops > 1 || frame.branches > 0) {
            mark = Mark::Known(Ending::Ask);
        }
        self.marks[at] = mark;
        (self.depth[at], self.branches[at], self.next[at]) = (frame.depth, frame.branches, frame.next);
    }

    pub(super) fn ending(&self, node: u32) -> Ending {
        if let Mark::Known(ending) = self.marks[node as usize] { ending } else { Ending::Ask }
    }
}
