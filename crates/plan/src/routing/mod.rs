//! Automatic routing: shortest paths between all nodes, in as few routes as possible.
//!
//! ```text
//! fabric, addresses ──> Topology (per family) ──> Graph, Destinations
//!                        for each node: FirstHops ──> Solver ──> its routes
//! ```
//!
//! Each node's table depends on nothing but what is shared and constant, so the nodes are divided
//! among threads; the result does not depend on how many there are.

mod aggregate;
mod destinations;
mod domains;
mod graph;
mod paths;
mod topology;

use std::ops::Range;

use hopyard_model::Multipath;
use hopyard_net::{Family, NextHop, Route};

use self::aggregate::{Labels, Prefix, Solver, solve_exactly};
use self::destinations::Destinations;
use self::graph::{Graph, Vertex};
use self::paths::{FirstHops, Hop};
use self::topology::{Neighbour, Topology};
use crate::address::Addresses;
use crate::fabric::{Fabric, index};

/// The routes of all nodes.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    /// By node.
    pub(crate) of_node: Vec<Vec<Route>>,
    /// The most hops of a shortest path.
    pub(crate) longest: u32,
}

/// Where there are so few destinations, each has its own route: a table reads as a person would write
/// it, and a packet for an address that nobody has is refused where it starts.
const FEW: usize = 16;
/// In a lab of up to this many nodes every equal-cost path is kept.
const SMALL: usize = 512;
/// In a larger one all of them are kept if that takes no more than twice the routes, ...
const TIMES: usize = 2;
/// ... and in all of its tables no more than so many next hops, of which the kernel can take in
/// about a hundred thousand each second.
const MANY_HOPS: usize = 1_000_000;
/// So many tables tell how it would be.
const SAMPLE: usize = 64;
/// Elsewhere a single node keeps all paths if that takes up to so many routes more.
const SPARE: usize = 8;

/// How much is made of equal-cost paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keep {
    /// All paths.
    All,
    /// All where a table gets no more than so many entries longer by it.
    Within(usize),
    /// Those that cost no entry.
    Cheapest,
}

/// The nodes are dealt out to threads in pieces of so many, for tables differ in size.
const PIECE: usize = 64;

/// Finds all routes.
pub(crate) fn route(fabric: &Fabric<'_>, addresses: &Addresses) -> Routes {
    let mut routes = Routes { of_node: vec![Vec::new(); fabric.lab.nodes().len()], longest: 0 };
    // Where nobody translates addresses, all that can be reached is one domain, and so may be the rest.
    if fabric.lab.nodes().iter().all(|node| node.nat.outside().is_empty() && !node.uplink) {
        route_within(fabric, addresses, None, &mut routes);
        return routes;
    }
    for domain in fabric.domains() {
        route_within(fabric, addresses, Some(domain), &mut routes);
    }
    domains::add_ways_out(fabric, addresses, &mut routes);
    routes
}

/// Adds the routes of one domain, or of all networks.
fn route_within(fabric: &Fabric<'_>, addresses: &Addresses, domain: Option<usize>, routes: &mut Routes) {
    let [ipv4, ipv6] = Family::BOTH.map(|family| Topology::new(fabric, addresses, domain, family));
    let worlds = [World::new(fabric, &ipv4), World::new(fabric, &ipv6)];
    let tables = worlds[0].tables();
    // The usual case: what is said of one family holds for the other, number by number.
    let alike = worlds[1].is_like(&worlds[0]);
    let others = if alike { None } else { Some(worlds[1].tables()) };
    for (world, (tables, family)) in
        worlds.iter().zip([(&tables, Family::Ipv4), (others.as_ref().unwrap_or(&tables), Family::Ipv6)])
    {
        routes.longest = routes.longest.max(tables.longest);
        for (node, table) in tables.of_node.iter().enumerate() {
            let list = &mut routes.of_node[node];
            for route in table.iter().filter_map(|line| world.route(fabric, addresses, node, line, family)) {
                // A node in several domains has one route to a prefix, that of the first.
                if domain.is_none() || list.iter().all(|it| it.key != route.key) {
                    list.push(route);
                }
            }
        }
    }
}

/// A route of a table: what it serves, and the numbers of its neighbours.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    to: To,
    hops: Vec<u32>,
}

/// What a route serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum To {
    /// Everything: there is one way out only.
    Everything,
    /// The destinations from the first to the last, by number.
    Leaves(u32, u32),
    /// A prefix inside one that the node is connected to.
    Exactly(Prefix),
}

/// The tables of all nodes, and the hops of the longest path.
#[derive(Debug, Default)]
struct Tables {
    of_node: Vec<Vec<Line>>,
    longest: u32,
}

/// Everything that is the same for all nodes.
struct World<'t> {
    topology: &'t Topology,
    graph: Graph,
    destinations: Destinations,
    /// How far the trees below each vertex reach down, and up.
    reach: graph::Reach,
    /// The neighbours of each node, sorted as [`FirstHops::find`] wants them.
    neighbours: Vec<Vec<Neighbour>>,
    /// How many destinations there are in each component.
    population: Vec<usize>,
    /// The destinations that no route may lead to.
    hidden: Vec<usize>,
    multipath: Multipath,
}

impl<'t> World<'t> {
    fn new(fabric: &Fabric<'_>, topology: &'t Topology) -> Self {
        let graph = Graph::new(&topology.spec);
        let mut list = topology.destinations.clone();
        for it in &mut list {
            it.owner = it.owner.map(|owner| graph.number[owner]);
        }
        let destinations = Destinations::new(list, fabric.lab.nodes().len());
        let mut population = vec![0; graph.len()];
        for &owner in &destinations.owner {
            population[graph.component[owner]] += 1;
        }
        let mut neighbours = topology.neighbours.clone();
        for list in &mut neighbours {
            list.sort_by_key(|it| {
                (topology.vertex[it.node].map(|vertex| graph.number[vertex]), it.cost, it.port, it.peer)
            });
        }
        let nowhere = topology.nowhere.map(|vertex| graph.number[vertex]);
        let hidden = (0..destinations.owner.len()).filter(|&leaf| Some(destinations.owner[leaf]) == nowhere);
        World {
            hidden: hidden.collect(),
            destinations,
            reach: graph.reach(),
            graph,
            neighbours,
            topology,
            population,
            multipath: fabric.lab.multipath(),
        }
    }

    /// Does everything that is found for the other one hold here, by number?
    fn is_like(&self, other: &World<'_>) -> bool {
        self.topology.spec == other.topology.spec
            && self.topology.vertex == other.topology.vertex
            && self.topology.carries == other.topology.carries
            && self.topology.hides == other.topology.hides
            && self.hidden == other.hidden
            && self.neighbours == other.neighbours
            && self.destinations.owner == other.destinations.owner
            && self.destinations.connected == other.destinations.connected
            && self.destinations.inside.iter().chain(&other.destinations.inside).all(Vec::is_empty)
            && self.destinations.tree.same_shape(&other.destinations.tree)
    }

    fn tables(&self) -> Tables {
        let keep = self.keep();
        let nodes = self.neighbours.len();
        let work = nodes.saturating_mul(self.destinations.owner.len());
        let threads = if work < 200_000 { 1 } else { std::thread::available_parallelism().map_or(1, usize::from) };
        let pieces = nodes.div_ceil(PIECE);
        let threads = threads.min(pieces).max(1);
        let run = |first: usize| {
            let mut worker = Worker::default();
            let mut done = Vec::new();
            for piece in (first..pieces).step_by(threads) {
                let range = piece * PIECE..((piece + 1) * PIECE).min(nodes);
                done.push((piece, range.map(|node| self.table(node, keep, &mut worker)).collect::<Vec<_>>()));
            }
            (done, worker.longest)
        };
        let results: Vec<_> = if threads == 1 {
            vec![run(0)]
        } else {
            std::thread::scope(|scope| {
                let workers: Vec<_> = (0..threads).map(|first| scope.spawn(move || run(first))).collect();
                workers
                    .into_iter()
                    .map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                    .collect()
            })
        };
        let longest = results.iter().map(|(_, longest)| *longest).max().unwrap_or(0).max(self.reach.longest);
        let mut all: Vec<(usize, Vec<Vec<Line>>)> = results.into_iter().flat_map(|(done, _)| done).collect();
        all.sort_by_key(|(piece, _)| *piece);
        Tables { of_node: all.into_iter().flat_map(|(_, tables)| tables).collect(), longest }
    }

    /// What to keep: as the lab says, or what it costs.
    fn keep(&self) -> Keep {
        match self.multipath {
            Multipath::Full => Keep::All,
            Multipath::Compact => Keep::Cheapest,
            Multipath::Auto if self.neighbours.len() <= SMALL || self.all_is_cheap() => Keep::All,
            Multipath::Auto => Keep::Within(SPARE),
        }
    }

    /// Would the tables hardly grow if all equal-cost paths were kept? Some of them tell.
    fn all_is_cheap(&self) -> bool {
        let routers: Vec<usize> = (0..self.neighbours.len())
            .filter(|&node| self.neighbours[node].iter().any(|it| it.node != self.neighbours[node][0].node))
            .collect();
        let mut worker = Worker::default();
        let (mut fewest, mut all, mut hops) = (0, 0, 0);
        let step = routers.len().div_ceil(SAMPLE).max(1);
        for &node in routers.iter().step_by(step) {
            fewest += self.table(node, Keep::Cheapest, &mut worker).len() + SPARE;
            let table = self.table(node, Keep::All, &mut worker);
            all += table.len();
            hops += table.iter().map(|line| line.hops.len()).sum::<usize>();
        }
        all <= TIMES * fewest && hops * step <= MANY_HOPS
    }

    fn number(&self, vertex: Vertex) -> Vertex {
        self.graph.number[vertex]
    }

    /// The table of a node.
    fn table(&self, node: usize, keep: Keep, worker: &mut Worker) -> Vec<Line> {
        let neighbours = &self.neighbours[node];
        let (Some(first), Some(last)) = (neighbours.first(), neighbours.last()) else { return Vec::new() };
        let hop = |it: &Neighbour| {
            Some(Hop {
                to: self.number(self.topology.vertex[it.node]?),
                cost: it.cost,
                segment: it.segment.map(|segment| self.number(segment)),
            })
        };
        let own = self.topology.vertex[node].map(|vertex| self.number(vertex));
        // Who carries transit sends on what it knows of and no more: a default route there and one at
        // the other end would bounce what nobody has until its time is over.
        // And a default route to who hides something would lead to that.
        let may_default = !self.topology.carries[node] && !self.topology.hides.contains(&first.node);
        if first.node == last.node && may_default {
            let Some(hop) = hop(first) else { return Vec::new() };
            let component = self.graph.component[hop.to];
            let cheapest = neighbours.iter().take_while(|it| it.cost == first.cost).count();
            let line = |to: To| Line { to, hops: (0..cheapest).filter_map(|at| u32::try_from(at).ok()).collect() };
            // Is there anything but what it is connected to?
            let more = self.population[component] > self.destinations.connected[node].len();
            let inside = self.destinations.inside[node].iter();
            let inside = inside.filter(|(_, owner)| self.graph.component[*owner] == component);
            let default = more.then_some(To::Everything);
            return default.into_iter().chain(inside.map(|(prefix, _)| To::Exactly(*prefix))).map(line).collect();
        }
        worker.hops.clear();
        worker.hops.extend(neighbours.iter().filter_map(hop));
        worker.paths.find(&self.graph, own, &worker.hops, &self.reach.down);
        // The ends of trees are in `reach.longest` already.
        if first.node != last.node
            && let Some(up) = own.and_then(|own| self.reach.up[own])
        {
            worker.longest = worker.longest.max(up + worker.paths.farthest);
        }

        worker.any.begin(&self.destinations.tree, worker.paths.words);
        if let Some(sets) = worker.paths.single_words() {
            worker.any.set_all(sets, &self.destinations.owner);
        } else {
            for (leaf, &owner) in self.destinations.owner.iter().enumerate() {
                let set = worker.paths.of(owner);
                if set.iter().any(|&word| word != 0) {
                    worker.any.set(leaf, set);
                }
            }
        }
        let anything = vec![u64::MAX; worker.paths.words];
        for &leaf in &self.destinations.connected[node] {
            worker.any.set(leaf as usize, &anything);
        }
        worker.any.solve(&self.destinations.tree, usize::MAX);
        let few = self.destinations.owner.len() - self.hidden.len() <= FEW && keep == Keep::All;
        let mut lines = if few { self.one_each(node, worker) } else { self.lines(keep, worker) };
        if !self.hidden.is_empty() {
            self.uncover(node, worker, &mut lines);
        }
        for &(prefix, owner) in &self.destinations.inside[node] {
            let hops = bits(worker.paths.of(owner));
            if !hops.is_empty() {
                lines.push(Line { to: To::Exactly(prefix), hops });
            }
        }
        lines
    }

    /// A route for each destination that the node is not connected to.
    fn one_each(&self, node: usize, worker: &Worker) -> Vec<Line> {
        let connected = &self.destinations.connected[node];
        (0..)
            .take(self.destinations.owner.len())
            .filter(|leaf| !connected.contains(leaf))
            .map(|leaf| Line { to: To::Leaves(leaf, leaf), hops: bits(worker.any.given(leaf as usize)) })
            // What cannot be reached is "anything" to the solver.
            .filter(|line| line.hops.iter().all(|&hop| (hop as usize) < worker.hops.len()))
            .collect()
    }

    /// Divides routes that would lead to what is hidden: each destination that such a route serves gets its own.
    fn uncover(&self, node: usize, worker: &Worker, lines: &mut Vec<Line>) {
        let leaves = self.destinations.tree.leaves();
        let range = |line: &Line| match line.to {
            To::Leaves(first, last) => {
                let around = leaves[first as usize].around(leaves[last as usize]);
                let start = leaves.partition_point(|leaf| leaf.bits < around.bits);
                start..start + leaves[start..].iter().take_while(|leaf| around.contains(**leaf)).count()
            }
            To::Everything => 0..leaves.len(),
            To::Exactly(_) => 0..0,
        };
        let covers = |range: &Range<usize>| self.hidden.iter().any(|leaf| range.contains(leaf));
        let ranges: Vec<Range<usize>> = lines.iter().map(range).collect();
        if !ranges.iter().any(covers) {
            return;
        }
        // The longest prefix around a destination serves it.
        let mut order: Vec<usize> = (0..lines.len()).collect();
        order.sort_by_key(|&at| std::cmp::Reverse(ranges[at].len()));
        let mut served = vec![false; leaves.len()];
        for at in order {
            served[ranges[at].clone()].fill(!covers(&ranges[at]));
        }
        let mut at = 0;
        lines.retain(|_| {
            at += 1;
            !covers(&ranges[at - 1])
        });
        lines.extend(
            self.one_each(node, worker)
                .into_iter()
                .filter(|line| matches!(line.to, To::Leaves(leaf, _) if !served[leaf as usize])),
        );
    }

    /// The solution, or the one that keeps all equal-cost paths, where that is wanted.
    fn lines(&self, keep: Keep, worker: &mut Worker) -> Vec<Line> {
        let Worker { any, exact, labels, .. } = worker;
        let limit = match keep {
            Keep::All => usize::MAX,
            Keep::Within(spare) => any.entries.len() + spare,
            Keep::Cheapest => 0,
        };
        if limit > 0 && !any.is_unambiguous() && solve_exactly(&self.destinations.tree, any, labels, exact, limit) {
            let line = |entry: &aggregate::Entry| Line {
                to: To::Leaves(entry.first, entry.last),
                hops: bits(any.given(entry.first as usize)),
            };
            return exact.entries.iter().map(line).collect();
        }
        let line = |(at, entry): (usize, &aggregate::Entry)| Line {
            to: To::Leaves(entry.first, entry.last),
            hops: bits(any.hops(at)),
        };
        any.entries.iter().enumerate().map(line).collect()
    }

    /// A line of a table as a route of a family.
    fn route(
        &self,
        fabric: &Fabric<'_>,
        addresses: &Addresses,
        node: usize,
        line: &Line,
        family: Family,
    ) -> Option<Route> {
        let leaves = self.destinations.tree.leaves();
        let prefix = match line.to {
            To::Everything => family.default_prefix(),
            To::Leaves(first, last) => topology::net(leaves[first as usize].around(leaves[last as usize]), family)?,
            To::Exactly(prefix) => topology::net(prefix, family)?,
        };
        let hop = |at: &u32| {
            let it = &self.neighbours[node][*at as usize];
            let via = addresses.ports[it.peer][index(family)]?.addr();
            Some(NextHop { via: Some(via), dev: fabric.ports[it.port].iface, weight: 1 })
        };
        let hops: Vec<NextHop> = line.hops.iter().filter_map(hop).collect();
        (!hops.is_empty()).then(|| Route::unicast(prefix, hops))
    }
}

/// The working memory of a thread.
#[derive(Debug, Default)]
struct Worker {
    hops: Vec<Hop>,
    paths: FirstHops,
    any: Solver,
    exact: Solver,
    labels: Labels,
    longest: u32,
}

/// The numbers of the bits that are set.
fn bits(set: &[u64]) -> Vec<u32> {
    let mut numbers = Vec::new();
    for (at, &word) in (0u32..).zip(set) {
        let mut left = word;
        while left != 0 {
            numbers.push(at * 64 + left.trailing_zeros());
            left &= left - 1;
        }
    }
    numbers
}
