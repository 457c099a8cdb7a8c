//! Who reaches whom, of all pairs at once, from a snapshot alone.
//!
//! The routing tables of all nodes are cut at every edge of a prefix that matters. For one address, each
//! node then has one set of ways on, and all nodes are one graph: one pass over it says for each where its
//! packets end. A pair is the graph of its target, and back the graph of the source that the sender chooses.
//! What depends on more than the destination (firewalls, policy rules, reverse path filters, an address
//! of two nodes) is walked, pair by pair, where a path crosses it; so that the result is the same as that
//! of [`explain`](crate::explain()) for every pair.

mod column;
mod net;
mod stops;
mod tables;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use hopyard_net::{Family, NsName, Snapshot};

use crate::{Choices, Outcome, Packet, Protocol, Query, Reason, Trouble, explain};
use column::{Arrived, Column, Painter};
use net::{Net, number};
use stops::{Ending, Stops};
use tables::Tables;

/// An address, and the node that should have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The node.
    pub node: NsName,
    /// Its address.
    pub addr: IpAddr,
}

/// Why pairs do not reach each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// The first thing that is wrong. `None`: the sender has no address that can be answered.
    pub trouble: Option<Trouble>,
    /// It is not known whether it keeps packets.
    pub undecided: bool,
}

/// What becomes of an echo request, and its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell<'a> {
    /// The node would ask itself.
    Own,
    /// It is answered.
    Reached,
    /// It is not, or that is not known.
    Stopped(&'a Cause),
}

/// All pairs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matrix {
    sources: Vec<NsName>,
    targets: Vec<Target>,
    causes: Vec<Cause>,
    /// By source, then by target.
    cells: Vec<u32>,
    walked: usize,
}

/// What a number in a cell means; anything else is a cause.
const REACHED: u32 = u32::MAX;
const OWN: u32 = u32::MAX - 1;
const ASK: u32 = u32::MAX - 2;
/// With this bit: it arrives, and the answer goes to the address of that column.
const PENDING: u32 = 1 << 31;

impl Matrix {
    /// Who asks.
    pub fn sources(&self) -> &[NsName] {
        &self.sources
    }

    /// Who is asked.
    pub fn targets(&self) -> &[Target] {
        &self.targets
    }

    /// A pair, by the places of source and target in their lists.
    pub fn get(&self, source: usize, target: usize) -> Cell<'_> {
        let cell = self.cells.get(source * self.targets.len() + target).filter(|_| target < self.targets.len());
        match cell.copied().unwrap_or(OWN) {
            REACHED => Cell::Reached,
            OWN => Cell::Own,
            cause => self.causes.get(cause as usize).map_or(Cell::Own, Cell::Stopped),
        }
    }

    /// All pairs of different nodes, by source: the places of source and target, and what becomes of it.
    pub fn pairs(&self) -> impl Iterator<Item = (usize, usize, Cell<'_>)> {
        let all =
            (0..self.sources.len()).flat_map(|source| (0..self.targets.len()).map(move |target| (source, target)));
        all.map(|(source, target)| (source, target, self.get(source, target))).filter(|(.., cell)| *cell != Cell::Own)
    }

    /// How many pairs had to be walked one by one.
    pub fn walked(&self) -> usize {
        self.walked
    }
}

/// From so many pairs on, the two families are worth a thread each.
const MANY: usize = 10_000;

/// Computes all pairs: each source to each target that is another node, by echo requests.
pub fn matrix(snapshot: &Snapshot, sources: &[NsName], targets: &[Target]) -> Matrix {
    let of = |family| -> (Vec<usize>, Vec<Target>) {
        let here = targets.iter().enumerate().filter(|(_, target)| Family::of(target.addr) == family);
        here.map(|(at, target)| (at, target.clone())).unzip()
    };
    let [four, six] = Family::BOTH.map(of);
    match (four.0.is_empty(), six.0.is_empty()) {
        (_, true) => return of_family(snapshot, Family::Ipv4, sources, four.1),
        (true, _) => return of_family(snapshot, Family::Ipv6, sources, six.1),
        _ => {}
    }
    let first = || of_family(snapshot, Family::Ipv4, sources, four.1);
    let second = || of_family(snapshot, Family::Ipv6, sources, six.1);
    let both = if sources.len() * targets.len() < MANY {
        [first(), second()]
    } else {
        std::thread::scope(|scope| {
            let other = scope.spawn(second);
            let one = first();
            [one, other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))]
        })
    };
    let mut all = All::new(sources, targets.to_vec());
    for (part, places) in both.into_iter().zip([four.0, six.0]) {
        all.take(part, &places);
    }
    all.matrix
}

fn of_family(snapshot: &Snapshot, family: Family, sources: &[NsName], targets: Vec<Target>) -> Matrix {
    let mut all = All::new(sources, targets);
    if !all.matrix.targets.is_empty() {
        all.paint(snapshot, family);
    }
    all.walk(snapshot);
    all.matrix
}

struct All {
    matrix: Matrix,
    /// The causes that are known, by the node at which packets end.
    by_node: BTreeMap<Option<NsName>, Vec<u32>>,
}

impl All {
    fn new(sources: &[NsName], targets: Vec<Target>) -> Self {
        let cells = vec![ASK; sources.len() * targets.len()];
        let matrix = Matrix { sources: sources.to_vec(), targets, causes: Vec::new(), cells, walked: 0 };
        All { matrix, by_node: BTreeMap::new() }
    }

    /// Takes over what is known of some of the targets, which have these places here.
    fn take(&mut self, part: Matrix, places: &[usize]) {
        let causes: Vec<u32> = part.causes.into_iter().map(|cause| self.cause(cause)).collect();
        let width = self.matrix.targets.len();
        let rows = self.matrix.cells.chunks_mut(width.max(1)).zip(part.cells.chunks(places.len().max(1)));
        for (row, part) in rows {
            for (at, cell) in places.iter().zip(part) {
                // What is no cause means the same in both.
                row[*at] = causes.get(*cell as usize).copied().unwrap_or(*cell);
            }
        }
        self.matrix.walked += part.walked;
    }

    fn cause(&mut self, cause: Cause) -> u32 {
        let node = cause.trouble.as_ref().map(|trouble| trouble.node.clone());
        let known = self.by_node.entry(node).or_default();
        let causes = &mut self.matrix.causes;
        if let Some(at) = known.iter().find(|at| causes[**at as usize] == cause) {
            return *at;
        }
        let at = number(causes.len());
        causes.push(cause);
        known.push(at);
        at
    }

    /// All that can be seen from graphs; the rest is left to be walked.
    fn paint(&mut self, snapshot: &Snapshot, family: Family) {
        let mut net = Net::new(snapshot, family);
        let mut tables = Tables::new(&net, self.matrix.targets.iter().map(|target| target.addr));
        tables.settle_doubts(&mut net);
        let mut stops = Stops::default();
        tables.compile(&net, &mut stops);
        let sources: Vec<Option<u32>> = self.matrix.sources.iter().map(|name| net.node(name)).collect();
        let targets: Vec<(Option<u32>, Option<u32>)> =
            self.matrix.targets.iter().map(|it| (net.node(&it.node), tables.column(it.addr))).collect();
        let run = Run { net: &net, tables: &tables, sources, targets };
        let mut column = Column::new(net.nodes.len());
        let mut kept = Kept::default();
        let mut answers = Answers { by_column: vec![Vec::new(); tables.columns.len()], arrived: BTreeMap::new() };
        self.forth(&run, &mut stops, &mut column, &mut kept, &mut answers);
        let open = self.back(&run, &mut stops, &mut column, &mut kept, &answers);
        self.asked_before(&run, &mut stops, &mut column, &mut kept, open);
    }

    /// The number of a cause: a stop there or back, or another node than it should be.
    fn stopped(
        &mut self,
        kept: &mut Kept,
        net: &Net<'_>,
        stops: &Stops,
        ending: Ending,
        back: bool,
        wanted: &NsName,
    ) -> u32 {
        let known = match ending {
            Ending::Ask => return ASK,
            Ending::Stop(stop) => kept.of_stop(stop, back),
            Ending::At(node) => kept.elsewhere.entry((node, wanted.clone(), back)).or_insert(ASK),
        };
        if *known != ASK {
            return *known;
        }
        let (node, reason) = match ending {
            Ending::Stop(stop) => {
                let stop = &stops.list[stop as usize];
                (stop.node, stop.reason.clone())
            }
            Ending::At(node) => (node, Reason::WrongNode { wanted: wanted.clone() }),
            Ending::Ask => return ASK,
        };
        let undecided = reason.is_undecided();
        let trouble = Trouble { back, node: net.names[node as usize].clone(), reason };
        let cause = self.cause(Cause { trouble: Some(trouble), undecided });
        *known = cause;
        cause
    }

    /// The ways there.
    fn forth(
        &mut self,
        run: &Run<'_, '_>,
        stops: &mut Stops,
        column: &mut Column,
        kept: &mut Kept,
        answers: &mut Answers,
    ) {
        let Run { net, tables, sources, targets } = run;
        let mut order: Vec<(u32, usize)> = Vec::new();
        for (at, (node, to)) in targets.iter().enumerate() {
            let (Some(to), Some(node)) = (to, node) else { continue };
            if net.is_clear(self.matrix.targets[at].addr, *node) && !net.is_mute(*node) {
                order.push((*to, at));
            }
        }
        order.sort_unstable();
        let width = targets.len();
        let mut last_used = vec![None; sources.len()];
        let mut columns = Vec::new();
        let mut sweep = Sweep::default();
        let mut painter = Painter::new(net, tables, stops);
        let mut filled = None;
        for (to, target) in order {
            if filled.replace(to) != Some(to) {
                sweep.go_to(tables, to, &mut painter.routes);
                painter.fill(to, column);
                answers.arrived.extend(targets[target].0.map(|node| (to, column.arrived(node))));
            }
            let Target { node: wanted, .. } = self.matrix.targets[target].clone();
            for (at, source) in sources.iter().enumerate() {
                let Some(source) = source.filter(|source| Some(*source) != targets[target].0) else { continue };
                let ending = column.ending(source);
                if ending == Ending::Ask {
                    continue;
                }
                painter.sources(source, &mut columns);
                if columns.is_empty() && painter.leaves(source) {
                    continue;
                }
                let arrives = matches!(ending, Ending::At(node) if Some(node) == targets[target].0);
                let cell = match *columns.as_slice() {
                    [] if arrives => ASK,
                    [back] if arrives => {
                        if last_used[at].replace(back) != Some(back) {
                            let users = &mut answers.by_column[back as usize];
                            if !users.contains(&Answer::Only(number(at))) {
                                users.push(Answer::Only(number(at)));
                            }
                        }
                        PENDING | back
                    }
                    // They reach each other if the answer to each arrives.
                    _ if arrives => {
                        for back in &columns {
                            answers.by_column[*back as usize].push(Answer::OneOf(number(at), number(target)));
                        }
                        REACHED
                    }
                    _ => self.stopped(kept, net, painter.stops, ending, false, &wanted),
                };
                self.matrix.cells[at * width + target] = cell;
            }
        }
    }

    /// The ways back. Returns those that end where somebody asks in vain for an address that the packet
    /// may have taught: source, target, the stop, and the interface.
    fn back(
        &mut self,
        run: &Run<'_, '_>,
        stops: &mut Stops,
        column: &mut Column,
        kept: &mut Kept,
        answers: &Answers,
    ) -> Vec<(usize, usize, u32, u32)> {
        let Run { net, tables, sources, targets } = run;
        let width = targets.len();
        let mut open = Vec::new();
        let mut sweep = Sweep::default();
        let mut painter = Painter::new(net, tables, stops);
        for (to, answers_to) in (0..).zip(&answers.by_column) {
            let mut known = answers.arrived.get(&to);
            let mut is_filled = false;
            for answer in answers_to {
                let (source, only) = match *answer {
                    Answer::Only(source) => (source as usize, None),
                    Answer::OneOf(source, target) => (source as usize, Some(target as usize)),
                };
                for target in only.map_or(0..width, |target| target..target + 1) {
                    let at = source * width + target;
                    let Some(node) = targets[target].0 else { continue };
                    if only.is_none() && self.matrix.cells[at] != PENDING | to {
                        continue;
                    }
                    if known.is_some_and(|known| known.has(node, sources[source])) {
                        if only.is_none() {
                            self.matrix.cells[at] = REACHED;
                        }
                        continue;
                    }
                    if !is_filled {
                        sweep.go_to(tables, to, &mut painter.routes);
                        painter.fill(to, column);
                        (is_filled, known) = (true, None);
                    }
                    let ending = column.ending(node);
                    let arrives = matches!(ending, Ending::At(end) if Some(end) == sources[source]);
                    if only.is_some() {
                        if !arrives {
                            self.matrix.cells[at] = ASK;
                        }
                        continue;
                    }
                    let asked_by = match ending {
                        Ending::Stop(stop) => painter.stops.asked_by(stop).map(|iface| (stop, iface)),
                        _ => None,
                    };
                    self.matrix.cells[at] = match asked_by {
                        _ if arrives => REACHED,
                        Some((stop, iface)) => {
                            open.push((target, source, stop, iface));
                            ASK
                        }
                        None => {
                            let name = self.matrix.sources[source].clone();
                            self.stopped(kept, net, painter.stops, ending, true, &name)
                        }
                    };
                }
            }
        }
        open
    }

    /// An answer that ends where a neighbour is asked for in vain: if the packet came by the same interface,
    /// it may have taught who asks now, and is walked.
    fn asked_before(
        &mut self,
        run: &Run<'_, '_>,
        stops: &mut Stops,
        column: &mut Column,
        kept: &mut Kept,
        mut open: Vec<(usize, usize, u32, u32)>,
    ) {
        let Run { net, tables, sources, targets } = run;
        open.sort_unstable();
        let mut painter = Painter::new(net, tables, stops);
        let mut filled = None;
        for (target, source, stop, iface) in open {
            let (Some(to), Some(from)) = (targets[target].1, sources[source]) else { continue };
            if filled.replace(to) != Some(to) {
                for node in 0..number(net.nodes.len()) {
                    painter.routes[node as usize] = tables.route_at(node, to);
                }
                painter.fill(to, column);
            }
            if !painter.comes_to(from, iface, column) {
                let name = self.matrix.sources[source].clone();
                let cause = self.stopped(kept, net, painter.stops, Ending::Stop(stop), true, &name);
                self.matrix.cells[source * targets.len() + target] = cause;
            }
        }
    }

    /// What is left is walked.
    fn walk(&mut self, snapshot: &Snapshot) {
        let width = self.matrix.targets.len();
        for at in 0..self.matrix.cells.len() {
            if self.matrix.cells[at] != ASK {
                continue;
            }
            let (target, source) = (&self.matrix.targets[at % width], &self.matrix.sources[at / width]);
            if target.node == *source {
                self.matrix.cells[at] = OWN;
                continue;
            }
            let packet = Packet::probe(target.addr, Protocol::Icmp, 0);
            let query = Query { from: source.clone(), packet, wanted: Some(target.node.clone()) };
            let verdict = explain(snapshot, &query, &Choices::new());
            self.matrix.walked += 1;
            let outcome = verdict.outcome();
            self.matrix.cells[at] = match outcome {
                Outcome::Yes => REACHED,
                _ => self.cause(Cause { trouble: verdict.trouble(), undecided: outcome == Outcome::Undecided }),
            };
        }
    }
}

/// The causes that belong to stops, and to packets that end at another node than they should.
#[derive(Default)]
struct Kept {
    stops: Vec<[u32; 2]>,
    elsewhere: HashMap<(u32, NsName, bool), u32>,
}

impl Kept {
    fn of_stop(&mut self, stop: u32, back: bool) -> &mut u32 {
        let at = stop as usize;
        if self.stops.len() <= at {
            self.stops.resize(at + 1, [ASK; 2]);
        }
        &mut self.stops[at][usize::from(back)]
    }
}

/// An answer that has to arrive.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// Those to a source, from all targets whose cells wait for that column.
    Only(u32),
    /// That to a source, from a target; the packet may get other sources as well, and each has to do.
    OneOf(u32, u32),
}

/// What the ways there leave for the ways back.
struct Answers {
    /// By the column that they go to.
    by_column: Vec<Vec<Answer>>,
    /// Whose packets arrive, by column, where that is known already.
    arrived: BTreeMap<u32, Arrived>,
}

/// What the passes share.
struct Run<'n, 'a> {
    net: &'n Net<'a>,
    tables: &'n Tables<'a>,
    /// The nodes that ask.
    sources: Vec<Option<u32>>,
    /// Node and column of those that are asked.
    targets: Vec<(Option<u32>, Option<u32>)>,
}

/// Goes through the columns in order.
#[derive(Default)]
struct Sweep {
    done: usize,
}

impl Sweep {
    /// Sets the route of each node to that for a column.
    fn go_to(&mut self, tables: &Tables<'_>, column: u32, routes: &mut [u32]) {
        while let Some(&(at, node, route)) = tables.changes.get(self.done).filter(|(at, ..)| *at <= column) {
            debug_assert!(at <= column, "in order");
            routes[node as usize] = route;
            self.done += 1;
        }
    }
}
