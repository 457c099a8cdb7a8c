//! One address: where the packets of each node to it end. Each node has one set of ways on, so that
//! the ways of all are one graph, and one pass over it is enough.

use std::collections::HashMap;

use hopyard_net::Family;

use super::net::{Net, number};
use super::tables::{Edge, Hop, Tables, Way};
use super::{Ending, Stops};
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
    /// Where the first way of each leads.
    next: Vec<u32>,
    stack: Vec<u32>,
}

/// No interface.
const NOWHERE: u32 = u32::MAX;

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
    /// Where addresses on the own link are, once somebody asked.
    on_link: HashMap<u32, Edge>,
    distances: Option<Vec<u32>>,
}

impl<'n, 'a> Painter<'n, 'a> {
    pub(super) fn new(net: &'n Net<'a>, tables: &'n Tables<'a>, stops: &'n mut Stops) -> Self {
        let routes = vec![0; net.nodes.len()];
        Painter { net, tables, stops, routes, column: 0, on_link: HashMap::new(), distances: None }
    }

    fn way(&self, node: u32) -> &'n Way {
        &self.tables.ways[node as usize][self.routes[node as usize] as usize]
    }

    /// Fills the column for the routes that are set.
    pub(super) fn fill(&mut self, column: u32, into: &mut Column) {
        self.column = column;
        self.on_link.clear();
        self.distances = None;
        into.marks.fill(Mark::Unknown);
        for node in 0..number(self.net.nodes.len()) {
            self.settle(node, into);
        }
        let mut followed = Vec::new();
        for node in 0..number(self.net.nodes.len()) {
            let at = node as usize;
            let Way::On { limit, .. } = self.way(node) else { continue };
            let far = into.depth[at] >= u32::from(*limit);
            let ending = match into.marks[at] {
                Mark::Known(Ending::Ask) => continue,
                Mark::Loop => self.follow(node, *limit, into),
                Mark::Known(_) if far && into.branches[at] > 0 => Ending::Ask,
                Mark::Known(_) if far => self.follow(node, *limit, into),
                _ => continue,
            };
            followed.push((node, ending));
        }
        // Only now: the others are followed through these.
        for (node, ending) in followed {
            into.marks[node as usize] = Mark::Known(ending);
        }
    }

    fn settle(&mut self, start: u32, into: &mut Column) {
        debug_assert!(into.stack.is_empty(), "one node after the other");
        into.stack.push(start);
        while let Some(&node) = into.stack.last() {
            let at = node as usize;
            if !matches!(into.marks[at], Mark::Unknown | Mark::Open) {
                into.stack.pop();
                continue;
            }
            let first_time = into.marks[at] == Mark::Unknown;
            let hops = match self.own(node) {
                Err(ending) => {
                    into.end(node, Mark::Known(ending), (0, 0, NOWHERE));
                    continue;
                }
                Ok(hops) => hops,
            };
            into.marks[at] = Mark::Open;
            let mut result: Option<Mark> = None;
            let (mut depth, mut branches, mut next) = (0, 0_u32, NOWHERE);
            let mut waits = false;
            for hop in hops {
                let (to, entered) = self.enter(node, hop);
                if next == NOWHERE {
                    next = to;
                }
                let (mark, deep, more) = match entered {
                    Entered::Ends(ending) => (Mark::Known(ending), 1, 0),
                    Entered::AsOwn(other) => match into.marks[other as usize] {
                        Mark::Unknown => {
                            into.stack.push(other);
                            waits = true;
                            break;
                        }
                        // On the way to it: a circle. (Left open by another way of the same node, it is one too.)
                        Mark::Open => (Mark::Loop, 1, 0),
                        mark => {
                            let there = other as usize;
                            (self.turned(mark, to), into.depth[there] + 1, into.branches[there])
                        }
                    },
                };
                depth = depth.max(deep);
                branches = branches.saturating_add(more).saturating_add(u32::from(hops.len() > 1));
                result = Some(match result {
                    None => mark,
                    Some(other) if other == mark && mark != Mark::Loop => mark,
                    Some(_) => Mark::Known(Ending::Ask),
                });
            }
            if waits {
                debug_assert!(first_time || hops.len() > 1, "a single way is waited for once");
                continue;
            }
            let mut mark = result.unwrap_or(Mark::Known(Ending::Ask));
            if branches as usize >= BRANCHES || branches > 0 && mark == Mark::Loop {
                mark = Mark::Known(Ending::Ask);
            }
            into.end(node, mark, (depth, branches, next));
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
                let addr = self.tables.columns[self.column as usize];
                if let Some(edge) = self.on_link.get(&hop.by) {
                    *edge
                } else {
                    let edge = self.tables.edge(self.net, hop.by, &hop.next, addr, self.stops);
                    self.on_link.insert(hop.by, edge);
                    edge
                }
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
        if passes || walk::forwards(state, family, it.dev) {
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
        let mut been: HashMap<u32, usize> = HashMap::new();
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
                    return Ending::Stop(self.stops.add(node, Reason::TtlExpired));
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
                    if let Some(at) = been.insert(to, path.len()) {
                        let circle = path[at..].iter().map(|node| self.net.names[*node as usize].clone()).collect();
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

    /// The source that a node gives its packets to the column. `None`: the walk has to be asked.
    pub(super) fn source(&self, node: u32) -> Option<std::net::IpAddr> {
        let Way::On { hops, .. } = self.way(node) else { return None };
        let addr = self.tables.columns[self.column as usize];
        let route = self.tables.routes[node as usize][self.routes[node as usize] as usize]?;
        let mut first = None;
        for hop in hops {
            let src = match hop.src {
                Some(src) => src,
                None => crate::lookup::source(self.net.nodes[node as usize], route, Some(&hop.next), addr)?,
            };
            if !self.net.is_own(src, node) {
                return None;
            }
            first.get_or_insert(src);
        }
        first
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

    /// Writes down what became of the node that was looked at.
    fn end(&mut self, node: u32, mark: Mark, (depth, branches, next): (u32, u32, u32)) {
        let at = node as usize;
        self.marks[at] = mark;
        (self.depth[at], self.branches[at], self.next[at]) = (depth, branches, next);
        self.stack.pop();
    }

    pub(super) fn ending(&self, node: u32) -> Ending {
        if let Mark::Known(ending) = self.marks[node as usize] { ending } else { Ending::Ask }
    }
}
