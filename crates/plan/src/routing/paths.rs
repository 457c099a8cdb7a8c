//! Shortest paths from one node to all others, as sets of first hops.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::graph::{Edge, Graph, Lists, Vertex};

/// A neighbour to which a node can send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hop {
    /// The neighbour.
    pub(crate) to: Vertex,
    /// What it costs.
    pub(crate) cost: u32,
    /// The segment between the two, if it is one.
    pub(crate) segment: Option<Vertex>,
}

/// The first hops of all shortest paths from a node, for each vertex a set of bits, one for each
/// [`Hop`]; and working memory that is used again for the next node.
///
/// Empty for what cannot be reached, and for the node itself and its own segments.
#[derive(Clone, Debug, Default)]
pub(crate) struct FirstHops {
    /// The words of a set.
    pub(crate) words: usize,
    sets: Vec<u64>,
    /// The greatest distance to a node of the core, in hops, and beyond it down the trees.
    pub(crate) farthest: u32,
    /// How many hops away each vertex is.
    hops: Vec<u32>,
    /// For Dijkstra's search: the distance so far, and whether it is final.
    distance: Vec<u64>,
    settled: Vec<bool>,
    heap: BinaryHeap<Reverse<(u64, bool, u32)>>,
    /// For the search in breadth: the vertices of this level and of the next.
    level: Vec<u32>,
    next: Vec<u32>,
}

/// Not reached.
const FAR: u32 = u32::MAX;

fn small(vertex: Vertex) -> u32 {
    u32::try_from(vertex).unwrap_or(u32::MAX)
}

impl FirstHops {
    /// The set of a vertex.
    pub(crate) fn of(&self, vertex: Vertex) -> &[u64] {
        &self.sets[vertex * self.words..][..self.words]
    }

    /// The sets of all vertices, where each is a single word.
    pub(crate) fn single_words(&self) -> Option<&[u64]> {
        (self.words == 1).then_some(&self.sets)
    }

    /// Finds all first hops of a node; `own` is its vertex, if it has one. The hops are sorted by
    /// neighbour, then by cost.
    ///
    /// `beyond` is how far the trees below each vertex reach, for [`Self::farthest`].
    pub(crate) fn find(&mut self, graph: &Graph, own: Option<Vertex>, hops: &[Hop], beyond: &[Option<u32>]) {
        // One bit more than there are hops: the highest bit of the last word stays free.
        self.words = hops.len() / 64 + 1;
        self.sets.clear();
        self.sets.resize(graph.len() * self.words, 0);
        self.farthest = 0;
        match own {
            Some(own) if graph.is_core(own) => {
                self.search(graph, &graph.core, Some(own), hops, beyond);
                self.fill_trees(graph);
                self.set_below(graph, hops, |hop| !graph.is_core(hop.to));
            }
            Some(own) if !graph.segment[graph.parent[own]] => {
                // In a tree everything but the own subtree is behind the parent.
                let up = graph.parent[own];
                let set = self.set_of(hops, up);
                if let [word] = set[..] {
                    self.sets.fill(word);
                } else {
                    for vertex in self.sets.chunks_exact_mut(self.words) {
                        vertex.copy_from_slice(&set);
                    }
                }
                if graph.parts > 1 {
                    for at in (0..graph.len()).filter(|&at| graph.component[at] != graph.component[own]) {
                        self.sets[at * self.words..][..self.words].fill(0);
                    }
                }
                let subtree = graph.subtree(own);
                self.sets[subtree.start * self.words..subtree.end * self.words].fill(0);
                self.set_below(graph, hops, |hop| hop.to != up);
            }
            _ => self.search(graph, &graph.all, own, hops, beyond),
        }
    }

    /// The cheapest hops to a neighbour.
    fn set_of(&self, hops: &[Hop], to: Vertex) -> Vec<u64> {
        let mut set = vec![0; self.words];
        let least = hops.iter().filter(|hop| hop.to == to).map(|hop| hop.cost).min();
        for (bit, hop) in hops.iter().enumerate() {
            if hop.to == to && Some(hop.cost) == least {
                set[bit / 64] |= 1 << (bit % 64);
            }
        }
        set
    }

    /// Every vertex of a tree of which the node is no part is reached as its root is.
    fn fill_trees(&mut self, graph: &Graph) {
        for &root in &graph.roots {
            let (start, end) = (root * self.words, graph.subtree(root).end * self.words);
            if self.words == 1 {
                let set = self.sets[start];
                self.sets[start + 1..end].fill(set);
                continue;
            }
            for at in (start + self.words..end).step_by(self.words) {
                self.sets.copy_within(start..start + self.words, at);
            }
        }
    }

    /// What hangs on a neighbour is reached through it.
    fn set_below(&mut self, graph: &Graph, hops: &[Hop], below: impl Fn(&Hop) -> bool) {
        let mut bit = 0;
        for parallel in hops.chunk_by(|a, b| a.to == b.to) {
            let first = bit;
            bit += parallel.len();
            if !below(&parallel[0]) {
                continue;
            }
            let subtree = graph.subtree(parallel[0].to);
            self.sets[subtree.start * self.words..subtree.end * self.words].fill(0);
            for (bit, _) in (first..).zip(parallel).filter(|(_, hop)| hop.cost == parallel[0].cost) {
                for at in subtree.clone() {
                    self.sets[at * self.words + bit / 64] |= 1 << (bit % 64);
                }
            }
        }
    }

    fn search(&mut self, graph: &Graph, lists: &Lists, own: Option<Vertex>, hops: &[Hop], beyond: &[Option<u32>]) {
        self.hops.clear();
        self.hops.resize(graph.len(), FAR);
        // The own segments are no way on: their members are neighbours.
        let settled = hops.iter().filter_map(|hop| hop.segment).chain(own);
        for at in settled.clone() {
            self.hops[at] = 0;
        }
        let on_lists = |hop: &Hop| std::ptr::eq(lists, &raw const graph.all) || graph.is_core(hop.to);
        if graph.even && hops.iter().all(|hop| hop.cost == hops[0].cost) {
            let mut level = std::mem::take(&mut self.level);
            level.clear();
            for (bit, hop) in hops.iter().enumerate().filter(|(_, hop)| on_lists(hop)) {
                if self.hops[hop.to] == FAR {
                    self.hops[hop.to] = 1;
                    level.push(small(hop.to));
                }
                if self.hops[hop.to] == 1 {
                    self.sets[hop.to * self.words + bit / 64] |= 1 << (bit % 64);
                }
            }
            // Nearly always one word is enough: that case gets code of its own.
            if self.words == 1 {
                self.breadth_first::<true>(graph, lists, &mut level);
            } else {
                self.breadth_first::<false>(graph, lists, &mut level);
            }
            self.level = level;
        } else {
            self.distance.clear();
            self.distance.resize(graph.len(), u64::MAX);
            self.settled.clear();
            self.settled.resize(graph.len(), false);
            for at in settled {
                self.settled[at] = true;
            }
            self.heap.clear();
            for (bit, hop) in hops.iter().enumerate().filter(|(_, hop)| on_lists(hop)) {
                self.begin(bit, hop);
            }
            self.dijkstra(graph, lists);
        }
        for &root in &graph.roots {
            if self.hops[root] != FAR
                && let Some(down) = beyond[root]
            {
                self.farthest = self.farthest.max(self.hops[root] + down);
            }
        }
    }

    /// Enters a first hop, before Dijkstra's search begins.
    fn begin(&mut self, bit: usize, hop: &Hop) {
        let (to, cost) = (hop.to, u64::from(hop.cost));
        if cost > self.distance[to] {
            return;
        }
        if cost < self.distance[to] {
            self.sets[to * self.words..][..self.words].fill(0);
            self.heap.push(Reverse((cost, true, small(to))));
        }
        self.distance[to] = cost;
        self.hops[to] = 1;
        self.sets[to * self.words + bit / 64] |= 1 << (bit % 64);
    }

    /// Where each hop costs the same: level by level, and segments before the nodes behind them.
    fn breadth_first<const ONE: bool>(&mut self, graph: &Graph, lists: &Lists, level: &mut Vec<u32>) {
        let mut next = std::mem::take(&mut self.next);
        let mut hops = 2;
        while !level.is_empty() {
            next.clear();
            for &from in level.iter().filter(|&&from| graph.transit[from as usize]) {
                for edge in lists.of(from as usize) {
                    self.step::<ONE>(from as usize, *edge, hops, &mut next);
                }
            }
            // What is behind a segment belongs to the same level.
            let mut at = 0;
            while at < next.len() {
                let from = next[at] as usize;
                at += 1;
                if graph.segment[from] && graph.transit[from] {
                    for edge in lists.of(from) {
                        self.step::<ONE>(from, *edge, hops, &mut next);
                    }
                }
            }
            next.retain(|&at| !graph.segment[at as usize]);
            std::mem::swap(level, &mut next);
            hops += 1;
        }
        self.next = next;
    }

    #[inline]
    fn step<const ONE: bool>(&mut self, from: Vertex, edge: Edge, hops: u32, next: &mut Vec<u32>) {
        let words = if ONE { 1 } else { self.words };
        let to = edge.to as usize;
        if self.hops[to] == FAR {
            self.hops[to] = hops;
            next.push(edge.to);
        } else if self.hops[to] != hops {
            return;
        }
        for word in 0..words {
            self.sets[to * words + word] |= self.sets[from * words + word];
        }
    }

    fn dijkstra(&mut self, graph: &Graph, lists: &Lists) {
        let words = self.words;
        // At the same distance segments come first: leaving one costs nothing.
        while let Some(Reverse((distance, is_node, from))) = self.heap.pop() {
            let from = from as usize;
            if self.settled[from] {
                continue;
            }
            self.settled[from] = true;
            if !graph.transit[from] {
                continue;
            }
            for edge in lists.of(from) {
                let to = edge.to as usize;
                if self.settled[to] {
                    continue;
                }
                let there = distance + u64::from(edge.cost);
                let hops = self.hops[from] + u32::from(is_node);
                if there < self.distance[to] {
                    self.distance[to] = there;
                    self.hops[to] = hops;
                    self.sets.copy_within(from * words..(from + 1) * words, to * words);
                    self.heap.push(Reverse((there, !graph.segment[to], edge.to)));
                } else if there == self.distance[to] {
                    self.hops[to] = self.hops[to].max(hops);
                    for word in 0..words {
                        self.sets[to * words + word] |= self.sets[from * words + word];
                    }
                }
            }
        }
    }
}
