//! The graph on which shortest paths are found.
//!
//! Vertices are nodes and segments. Whatever hangs on the rest by one edge only, and so on, is
//! *pendant*: a shortest path into such a tree goes through its root, so searches run on the
//! *core* that is left, and a tree's vertices are numbered in one row behind their root, so that a
//! subtree is a range.

use std::ops::Range;

/// A vertex.
pub(crate) type Vertex = usize;

/// An edge to a neighbouring vertex.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Edge {
    pub(crate) to: u32,
    pub(crate) cost: u32,
}

/// Adjacency lists in one piece of memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lists {
    start: Vec<u32>,
    edges: Vec<Edge>,
}

impl Lists {
    fn new(lists: &[Vec<Edge>]) -> Self {
        let mut this = Lists { start: vec![0], edges: Vec::new() };
        for list in lists {
            this.edges.extend(list);
            this.start.push(u32::try_from(this.edges.len()).unwrap_or(u32::MAX));
        }
        this
    }

    pub(crate) fn of(&self, vertex: Vertex) -> &[Edge] {
        &self.edges[self.start[vertex] as usize..self.start[vertex + 1] as usize]
    }
}

/// What the graph is made of, with vertices numbered by the caller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spec {
    /// May paths go through each vertex? Segments always carry traffic.
    pub(crate) transit: Vec<bool>,
    /// Is each vertex a segment? Leaving one costs nothing.
    pub(crate) segment: Vec<bool>,
    /// Does each vertex have neighbours that are not in the graph, hosts with nothing behind them?
    pub(crate) hosts: Vec<bool>,
    /// Pairs of neighbours, with the cost from the first and from the second.
    pub(crate) edges: Vec<(Vertex, Vertex, u32, u32)>,
}

/// The graph.
#[derive(Clone, Debug)]
pub(crate) struct Graph {
    /// The vertex of each of the caller's.
    pub(crate) number: Vec<Vertex>,
    /// All edges, parallel ones once, with the least cost.
    pub(crate) all: Lists,
    /// Those of the core.
    pub(crate) core: Lists,
    /// May paths go through?
    pub(crate) transit: Vec<bool>,
    /// Is it a segment?
    pub(crate) segment: Vec<bool>,
    /// The next vertex on the way to the core; itself: it is in the core.
    pub(crate) parent: Vec<Vertex>,
    /// The end of the subtree, which begins at the vertex itself.
    end: Vec<Vertex>,
    /// The vertices of the core, in ascending order.
    pub(crate) roots: Vec<Vertex>,
    /// Vertices that can reach each other, as a number.
    pub(crate) component: Vec<usize>,
    /// How many such parts there are.
    pub(crate) parts: usize,
    /// Does each hop cost the same?
    pub(crate) even: bool,
    hosts: Vec<bool>,
}

impl Graph {
    pub(crate) fn new(spec: &Spec) -> Self {
        let count = spec.transit.len();
        let lists = simple(spec);
        let (parent, order) = peel(spec, &lists);
        let (number, end, roots) = preorder(&parent, &order);

        let mut old = vec![0; count];
        for (from, &to) in number.iter().enumerate() {
            old[to] = from;
        }
        let renumber = |list: &[Edge]| -> Vec<Edge> {
            let mut list: Vec<Edge> =
                list.iter().map(|edge| Edge { to: small(number[edge.to as usize]), ..*edge }).collect();
            list.sort_by_key(|edge| edge.to);
            list
        };
        let all: Vec<Vec<Edge>> = old.iter().map(|&from| renumber(&lists[from])).collect();
        let parent: Vec<Vertex> = old.iter().map(|&from| number[parent[from]]).collect();
        let in_core = |list: &Vec<Edge>| -> Vec<Edge> {
            list.iter().copied().filter(|edge| parent[edge.to as usize] == edge.to as usize).collect()
        };
        let core: Vec<Vec<Edge>> = all
            .iter()
            .enumerate()
            .map(|(at, list)| if parent[at] == at { in_core(list) } else { Vec::new() })
            .collect();
        let pick = |values: &[bool]| old.iter().map(|&from| values[from]).collect::<Vec<bool>>();
        let mut costs = spec.edges.iter().flat_map(|&(a, b, from_a, from_b)| {
            [(!spec.segment[a]).then_some(from_a), (!spec.segment[b]).then_some(from_b)].into_iter().flatten()
        });
        let first = costs.next();
        let even = costs.all(|cost| Some(cost) == first);
        let component = components(&all);
        let parts = component.iter().enumerate().filter(|(at, first)| at == *first).count();
        Graph {
            parts,
            all: Lists::new(&all),
            core: Lists::new(&core),
            transit: pick(&spec.transit),
            segment: pick(&spec.segment),
            hosts: pick(&spec.hosts),
            number,
            parent,
            end,
            roots,
            component,
            even,
        }
    }

    /// How many vertices there are.
    pub(crate) fn len(&self) -> usize {
        self.parent.len()
    }

    /// Is it in the core?
    pub(crate) fn is_core(&self, vertex: Vertex) -> bool {
        self.parent[vertex] == vertex
    }

    /// A vertex and everything that hangs on it.
    pub(crate) fn subtree(&self, vertex: Vertex) -> Range<Vertex> {
        vertex..self.end[vertex]
    }

    /// How far the pendant trees reach.
    pub(crate) fn reach(&self) -> Reach {
        let mut reach = Reach { up: vec![None; self.len()], down: vec![None; self.len()], longest: 0 };
        for at in 0..self.len() {
            if !self.segment[at] {
                // A host beyond is one hop away, and its first hop leads here.
                let host = u32::from(self.hosts[at]);
                (reach.up[at], reach.down[at]) = (Some(host), Some(host));
                reach.longest = reach.longest.max(2 * host);
            } else if self.hosts[at] {
                (reach.up[at], reach.down[at]) = (Some(1), Some(0));
            }
        }
        // Children have greater numbers than their parents.
        for at in (0..self.len()).rev() {
            let parent = self.parent[at];
            if parent == at {
                continue;
            }
            let up = reach.up[at].map(|hops| hops + u32::from(!self.segment[at]));
            let down = reach.down[at].map(|hops| hops + u32::from(!self.segment[parent]));
            for (a, b) in [(up, reach.down[parent]), (reach.up[parent], down)] {
                if let (Some(a), Some(b)) = (a, b) {
                    reach.longest = reach.longest.max(a + b);
                }
            }
            reach.up[parent] = reach.up[parent].max(up);
            reach.down[parent] = reach.down[parent].max(down);
        }
        reach
    }
}

/// How far the trees reach, in hops: the sender counts, the receiver does not.
#[derive(Clone, Debug)]
pub(crate) struct Reach {
    /// From the farthest node of each subtree up to its root.
    pub(crate) up: Vec<Option<u32>>,
    /// From the root down to the farthest node.
    pub(crate) down: Vec<Option<u32>>,
    /// The longest path inside one tree.
    pub(crate) longest: u32,
}

fn small(vertex: Vertex) -> u32 {
    u32::try_from(vertex).unwrap_or(u32::MAX)
}

/// Adjacency lists in which parallel edges are one, with the least cost.
fn simple(spec: &Spec) -> Vec<Vec<Edge>> {
    let mut lists: Vec<Vec<Edge>> = vec![Vec::new(); spec.transit.len()];
    for &(a, b, from_a, from_b) in &spec.edges {
        if a != b {
            lists[a].push(Edge { to: small(b), cost: if spec.segment[a] { 0 } else { from_a } });
            lists[b].push(Edge { to: small(a), cost: if spec.segment[b] { 0 } else { from_b } });
        }
    }
    for list in &mut lists {
        list.sort_by_key(|edge| (edge.to, edge.cost));
        list.dedup_by_key(|edge| edge.to);
    }
    lists
}

/// Takes pendant vertices off until none is left: the parent of each, and all in such an order
/// that parents come after their children.
fn peel(spec: &Spec, lists: &[Vec<Edge>]) -> (Vec<Vertex>, Vec<Vertex>) {
    let mut degree: Vec<usize> = lists.iter().map(Vec::len).collect();
    let mut parent: Vec<Vertex> = (0..lists.len()).collect();
    let mut gone = vec![false; lists.len()];
    let mut order = Vec::with_capacity(lists.len());
    let mut todo: Vec<Vertex> = (0..lists.len()).filter(|&at| degree[at] == 1).collect();
    while let Some(at) = todo.pop() {
        if gone[at] || degree[at] != 1 {
            continue;
        }
        let Some(next) = lists[at].iter().map(|edge| edge.to as usize).find(|&next| !gone[next]) else { continue };
        // Nothing is reached through a vertex that carries no transit.
        if !spec.transit[next] {
            continue;
        }
        gone[at] = true;
        parent[at] = next;
        order.push(at);
        degree[next] -= 1;
        if degree[next] == 1 {
            todo.push(next);
        }
    }
    order.extend((0..lists.len()).filter(|&at| !gone[at]));
    (parent, order)
}

/// Numbers roots in their order and each tree's vertices behind their root: the numbers, the end
/// of each subtree by number, and the roots by number.
fn preorder(parent: &[Vertex], children_first: &[Vertex]) -> (Vec<Vertex>, Vec<Vertex>, Vec<Vertex>) {
    let count = parent.len();
    let mut size = vec![1; count];
    for &at in children_first {
        if parent[at] != at {
            size[parent[at]] += size[at];
        }
    }
    let mut number = vec![0; count];
    let mut next_child = vec![0; count];
    let mut next = 0;
    let mut roots = Vec::new();
    for at in 0..count {
        if parent[at] == at {
            number[at] = next;
            next_child[at] = next + 1;
            roots.push(next);
            next += size[at];
        }
    }
    // Parents before children, and siblings in the caller's order.
    for &at in children_first.iter().rev() {
        let up = parent[at];
        if up != at {
            number[at] = next_child[up];
            next_child[at] = number[at] + 1;
            next_child[up] += size[at];
        }
    }
    let mut end = vec![0; count];
    for at in 0..count {
        end[number[at]] = number[at] + size[at];
    }
    (number, end, roots)
}

fn components(lists: &[Vec<Edge>]) -> Vec<usize> {
    let mut component = vec![usize::MAX; lists.len()];
    let mut stack = Vec::new();
    for start in 0..lists.len() {
        if component[start] != usize::MAX {
            continue;
        }
        stack.push(start);
        while let Some(at) = stack.pop() {
            if component[at] == usize::MAX {
                component[at] = start;
                stack.extend(lists[at].iter().map(|edge| edge.to as usize));
            }
        }
    }
    component
}
