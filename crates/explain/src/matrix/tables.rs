//! The routing tables of all nodes, cut at every edge of a prefix that matters: for each address of
//! the network, in order, the route that each node has for it.

use std::collections::HashMap;
use std::net::IpAddr;

use hopyard_net::{FibAction, FibRoute, IfName, NextHop, RouteKind};

use super::net::{Asked, Net, PROBE_BYTES, number};
use super::stops::Stops;
use crate::packet::is_link_local;
use crate::{lookup, walk};

/// Where a way comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Edge {
    /// To that interface.
    To(u32),
    /// Nowhere: a stop of that number.
    Stop(u32),
    /// To the destination itself, wherever that is.
    OnLink,
    /// The walk has to be asked.
    Ask,
}

/// One way on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hop<'a> {
    /// The interface.
    pub(super) by: u32,
    pub(super) edge: Edge,
    pub(super) next: &'a NextHop,
    pub(super) src: Source,
}

/// The source of a node's own packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The address of that column, which is the node's alone.
    Column(u32),
    /// It depends on the destination.
    ByDestination,
    /// The walk has to be asked.
    Ask,
}

/// What a route of a node does.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way {
    /// There is none.
    None,
    /// The address is its own.
    Local,
    /// Nowhere: a stop of that number.
    Stop(u32),
    /// The walk has to be asked.
    Ask,
    /// On: the usable hops, by their places in the list of all, and the hop limit of the node's own packets.
    On { first: u32, end: u32, limit: u8 },
}

/// All tables. The routes of all nodes are one list, and so are their hops, because to go through them is
/// what takes the time.
pub(super) struct Tables<'a> {
    /// The addresses, in order.
    pub(super) columns: Vec<IpAddr>,
    /// The routes of each node in turn, and what they do; the first of a node is none.
    pub(super) routes: Vec<Option<&'a FibRoute>>,
    pub(super) ways: Vec<Way>,
    hops: Vec<Hop<'a>>,
    /// By node: its first route, and behind the last.
    first: Vec<u32>,
    /// Where a node's route becomes another: column, node, route.
    pub(super) changes: Vec<(u32, u32, u32)>,
    /// The least hop limit that a node gives its packets.
    pub(super) least_limit: u8,
    /// The same by node.
    spans: Vec<Vec<(u32, u32)>>,
}

impl<'a> Tables<'a> {
    pub(super) fn new(net: &Net<'a>, targets: impl Iterator<Item = IpAddr>) -> Self {
        let mut columns: Vec<IpAddr> = targets.filter(|addr| hopyard_net::Family::of(*addr) == net.family).collect();
        for (addr, ifaces) in &net.having {
            let host_only = |at: &u32| {
                let mut own = net.ifaces[*at as usize].link.addresses.iter();
                own.any(|own| own.net.addr() == *addr && own.host_only)
            };
            if !is_link_local(*addr) && !ifaces.iter().any(host_only) {
                columns.push(*addr);
            }
        }
        for node in &net.nodes {
            let with_source = node.routes.iter().filter(|it| it.action != FibAction::Local).filter_map(|it| it.src);
            columns.extend(with_source.filter(|addr| hopyard_net::Family::of(*addr) == net.family));
        }
        columns.sort_unstable();
        columns.dedup();
        let mut tables = Tables {
            columns,
            routes: Vec::new(),
            ways: Vec::new(),
            hops: Vec::new(),
            first: vec![0],
            changes: Vec::new(),
            least_limit: crate::Packet::TTL,
            spans: Vec::new(),
        };
        let mut line = Vec::new();
        for node in 0..number(net.nodes.len()) {
            tables.paint(net, node, &mut line);
        }
        tables.changes.sort_unstable();
        tables
    }

    pub(super) fn column(&self, addr: IpAddr) -> Option<u32> {
        self.columns.binary_search(&addr).ok().map(number)
    }

    /// No route of each node.
    pub(super) fn none(&self) -> Vec<u32> {
        self.first[..self.spans.len()].to_vec()
    }

    /// The usable hops of all ways.
    pub(super) fn all_hops(&self) -> &[Hop<'a>] {
        &self.hops
    }

    /// The usable hops of a way.
    pub(super) fn hops(&self, way: Way) -> &[Hop<'a>] {
        match way {
            Way::On { first, end, .. } => &self.hops[first as usize..end as usize],
            _ => &[],
        }
    }

    /// The route of a node for a column.
    pub(super) fn route_at(&self, node: u32, column: u32) -> u32 {
        let spans = &self.spans[node as usize];
        let behind = spans.partition_point(|(start, _)| *start <= column);
        behind.checked_sub(1).map_or(self.first[node as usize], |at| spans[at].1)
    }

    pub(super) fn takes(&self, node: u32, addr: IpAddr) -> bool {
        let Some(column) = self.column(addr) else { return false };
        matches!(self.ways[self.route_at(node, column) as usize], Way::Local)
    }

    /// The tables in the reverse of the order in which they are asked, each route over those that it hides.
    fn paint(&mut self, net: &Net<'a>, node: u32, line: &mut Vec<u32>) {
        let state = net.nodes[node as usize];
        let none = number(self.ways.len());
        line.clear();
        line.resize(self.columns.len(), none);
        let mut order: Vec<u32> = Vec::new();
        for rule in state.rules.iter().filter(|rule| rule.family == net.family) {
            if let hopyard_net::RuleAction::Lookup(table) = rule.action
                && !order.contains(&table)
            {
                order.push(table);
            }
        }
        let place = |table: u32| order.iter().position(|it| *it == table);
        let mut routes: Vec<(usize, &FibRoute, usize)> = state
            .routes
            .iter()
            .enumerate()
            .filter(|(_, route)| route.key.family() == net.family && lookup::is_usable(state, route, None))
            .filter_map(|(at, route)| Some((place(route.key.table)?, route, at)))
            .collect();
        routes.sort_by(|(a_table, a, a_at), (b_table, b, b_at)| {
            (b_table.cmp(a_table))
                .then(a.key.prefix.prefix_len().cmp(&b.key.prefix.prefix_len()))
                .then(b.metric().cmp(&a.metric()))
                .then(b_at.cmp(a_at))
        });
        self.routes.push(None);
        self.ways.push(Way::None);
        for (_, route, _) in routes {
            let (first, last) = (route.key.prefix.network(), route.key.prefix.broadcast());
            let start = self.columns.partition_point(|addr| *addr < first);
            let length = self.columns[start..].partition_point(|addr| *addr <= last);
            if length > 0 {
                line[start..start + length].fill(number(self.ways.len()));
                self.ways.push(match route.action {
                    FibAction::Local => Way::Local,
                    // Compiled when the tables of all are there.
                    _ => Way::Ask,
                });
                self.routes.push(Some(route));
            }
        }
        let mut spans: Vec<(u32, u32)> = Vec::new();
        for (column, &route) in line.iter().enumerate() {
            if spans.last().map_or(none, |(_, last)| *last) != route {
                spans.push((number(column), route));
            }
        }
        self.changes.extend(spans.iter().map(|(column, route)| (*column, node, *route)));
        self.spans.push(spans);
        self.first.push(number(self.ways.len()));
    }

    /// A node that believes a source only if it has a route to it (RFC 3704, loose) believes all, if it has
    /// one to each address.
    pub(super) fn settle_doubts(&self, net: &mut Net<'_>) {
        for node in 0..net.nodes.len() {
            if net.doubts[node] {
                let routed = |route: Option<&FibRoute>| {
                    route.is_some_and(|it| {
                        matches!(it.action, FibAction::Local | FibAction::Route(RouteKind::Unicast(_)))
                    })
                };
                let spans = &self.spans[node];
                let all = spans.first().is_some_and(|(start, _)| *start == 0)
                    && spans.iter().all(|(_, route)| routed(self.routes[*route as usize]));
                net.doubts[node] = false;
                net.odd[node] |= !all;
            }
        }
    }

    /// Finds out what each route does, where that does not depend on the destination.
    pub(super) fn compile(&mut self, net: &Net<'a>, stops: &mut Stops) {
        let mut edges: HashMap<(u32, IpAddr), Edge> = HashMap::new();
        for node in 0..number(net.nodes.len()) {
            for at in self.first[node as usize] as usize..self.first[node as usize + 1] as usize {
                let Some(route) = self.routes[at] else { continue };
                let way = match &route.action {
                    FibAction::Local => continue,
                    FibAction::Route(RouteKind::Unicast(_)) => self.on(net, node, route, &mut edges, stops),
                    FibAction::Route(_) => Way::Stop(stops.add(node, crate::Reason::RouteRefuses(route.clone()))),
                    FibAction::Group | FibAction::Throw | FibAction::Other(_) => Way::Ask,
                };
                if let Way::On { limit, .. } = &way {
                    self.least_limit = self.least_limit.min(*limit);
                }
                self.ways[at] = way;
            }
        }
    }

    fn on(
        &mut self,
        net: &Net<'a>,
        node: u32,
        route: &'a FibRoute,
        edges: &mut HashMap<(u32, IpAddr), Edge>,
        stops: &mut Stops,
    ) -> Way {
        let state = net.nodes[node as usize];
        let first = number(self.hops.len());
        for next in lookup::usable_hops(state, route) {
            let Some(by) = net.iface(node, next.dev) else { return Way::Ask };
            if net.ifaces[by as usize].link.mtu < PROBE_BYTES {
                return Way::Ask;
            }
            let edge = match next.via {
                None => Edge::OnLink,
                Some(via) => {
                    if let Some(edge) = edges.get(&(by, via)) {
                        *edge
                    } else {
                        let takes = |node: u32| self.takes(node, via);
                        let edge = edge(net, by, next, &Asked::new(net, via), takes, stops);
                        edges.insert((by, via), edge);
                        edge
                    }
                }
            };
            let src = match route.src.or_else(|| source(net, by, next)) {
                None => Source::ByDestination,
                Some(src) => {
                    let column = self.column(src).filter(|_| net.is_own(src, node));
                    column.map_or(Source::Ask, Source::Column)
                }
            };
            self.hops.push(Hop { by, edge, next, src });
        }
        let limit = route.hop_limit.unwrap_or(crate::Packet::TTL);
        let end = number(self.hops.len());
        if first == end { Way::Ask } else { Way::On { first, end, limit } }
    }
}

/// Who takes a packet that is sent to an address on the link of an interface. `takes`: is the address a node's own?
pub(super) fn edge(
    net: &Net<'_>,
    by: u32,
    next: &NextHop,
    asked: &Asked<'_>,
    takes: impl Fn(u32) -> bool,
    stops: &mut Stops,
) -> Edge {
    let addr = asked.addr;
    if let Some(end) = net.neighbour(by, asked, takes) {
        return Edge::To(end);
    }
    if net.depends_on_packet(by, addr) {
        return Edge::Ask;
    }
    let node = net.ifaces[by as usize].node;
    match walk::step(net.snapshot, net.names[node as usize], next, addr) {
        Ok(end) => net.node(&end.ns).and_then(|node| net.iface(node, end.dev)).map_or(Edge::Ask, Edge::To),
        Err(reason) => Edge::Stop(stops.add_at(node, by, reason)),
    }
}

/// The source of packets that leave by an interface, if it is the same for all.
fn source(net: &Net<'_>, by: u32, next: &NextHop) -> Option<IpAddr> {
    let it = &net.ifaces[by as usize];
    let state = net.nodes[it.node as usize];
    match (net.family, next.via) {
        (hopyard_net::Family::Ipv4, Some(via)) => lookup::source_v4(state, it.dev, via, false),
        (hopyard_net::Family::Ipv4, None) => {
            let mut own = it.link.addresses.iter().filter(|own| own.net.addr().is_ipv4() && !own.secondary);
            let first = own.next().filter(|own| !own.host_only)?;
            own.next().is_none().then(|| first.net.addr())
        }
        (hopyard_net::Family::Ipv6, _) => {
            let usable = it.link.addresses.iter().filter(|own| own.usable && !own.host_only);
            // Before one whose time is over, any other is taken.
            if usable.clone().any(|own| own.deprecated) {
                return None;
            }
            let mut own = usable.map(|own| own.net.addr()).filter(|addr| addr.is_ipv6() && !is_link_local(*addr));
            let first = own.next()?;
            (it.link.up && it.dev != IfName::LO && own.next().is_none()).then_some(first)
        }
    }
}
