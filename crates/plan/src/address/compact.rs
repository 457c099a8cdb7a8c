//! Addresses from the shape of the network, so that routes aggregate.
//!
//! A tree is spanned from the middle of the network, and every subtree gets a block of its own:
//! whoever is outside needs one route to it. Blocks are powers of two and every level of nesting
//! wastes some, so a deep tree cannot have a block for each subtree. Therefore each vertex
//! continues the block of its parent if it has the largest subtree among its siblings (a *heavy
//! path*; from the root to any vertex there are few changes from one path to another):
//!
//! ```text
//! block of a path   | v0 | v1 |   v2 and its     | v3 |            v4 |   ...   |
//!                   |    |    |   other children |    |               |         |
//!                             ^cut                    ^cut
//! ```
//!
//! For `v2` what is left of the cut is upwards, and what is right of it downwards. How many
//! prefixes that takes depends on the cut: one at `.1000` of the block takes one for each side,
//! one at `.1011` takes more, one for each change between the bits. So each pair of vertices is
//! placed at the next cut with few changes, as few as there is room for.

use super::pool::Pool;
use super::{Exhausted, Need, What};
use crate::fabric::Fabric;

/// The blocks, in the order of the needs.
pub(super) fn lay_out(fabric: &Fabric<'_>, needs: &[Need], pool: &mut Pool) -> Result<Layout, Exhausted> {
    let tree = Span::new(fabric);
    let wire_owner = wire_owners(fabric, &tree);
    let owned = owned(fabric, &tree, needs, &wire_owner);
    let own: Vec<Option<u32>> = owned.iter().map(|list| block_bits(needs, list)).collect();

    // The largest free block, and how much room in it can be spent on good cuts.
    let room = (0..=pool.bits()).rev().find(|&bits| pool.first_free(0, bits).is_some());
    let fits = |slack: u32| {
        let paths = Paths::new(&tree, &own, slack);
        room.is_some_and(|room| paths.bits() <= room).then_some(paths)
    };
    let mut best = None;
    let (mut low, mut high) = (0, pool.bits() + 1);
    while low < high {
        let slack = u32::midpoint(low, high);
        match fits(slack) {
            Some(paths) => {
                best = Some(paths);
                low = slack + 1;
            }
            None => high = slack,
        }
    }
    let exhausted = Exhausted { needed: needs.iter().map(|need| 1 << need.bits).sum(), available: pool.free() };
    let mut offsets = vec![0; needs.len()];
    if let Some(paths) = best {
        let base = pool.first_free(0, paths.bits()).ok_or_else(|| exhausted.clone())?;
        for (at, start) in paths.positions(&tree).into_iter().enumerate() {
            place_owned(needs, &owned[at], base + start, own[at].unwrap_or(0), &mut offsets);
        }
        pool.take(base, 1 << paths.bits());
    } else {
        // Too tight for blocks of subtrees: one after the other, in the order of the tree.
        let mut next = 0;
        for need in tree.depth_first().into_iter().flat_map(|at| owned[at].iter().copied()) {
            let bits = needs[need].bits;
            let at = pool.first_free(next, bits).or_else(|| pool.first_free(0, bits));
            next = at.ok_or_else(|| exhausted.clone())?;
            pool.take(next, 1 << bits);
            offsets[need] = next;
        }
    }
    Ok(Layout { offsets, wire_owner })
}

/// Where everything is.
pub(super) struct Layout {
    /// The offset of each need.
    pub(super) offsets: Vec<u64>,
    /// For each wire the node in whose block it is.
    pub(super) wire_owner: Vec<Option<usize>>,
}

/// A tree that spans the network: nodes, and behind them the segments, as vertices.
struct Span {
    /// The children of each vertex.
    children: Vec<Vec<usize>>,
    parent: Vec<usize>,
    /// Parents before children; the roots, one for each part of the network, are first.
    order: Vec<usize>,
    roots: Vec<usize>,
    nodes: usize,
}

impl Span {
    fn new(fabric: &Fabric<'_>) -> Self {
        let nodes = fabric.ports_of.len();
        let count = nodes + fabric.networks.len();
        let mut lists: Vec<Vec<usize>> = vec![Vec::new(); count];
        for (net, network) in fabric.networks.iter().enumerate() {
            let ports: Vec<usize> = network.ports.iter().map(|&port| fabric.ports[port].node).collect();
            if !network.is_wire() {
                for node in ports {
                    lists[node].push(nodes + net);
                    lists[nodes + net].push(node);
                }
            } else if let [a, b] = ports[..] {
                lists[a].push(b);
                lists[b].push(a);
            }
        }
        let mut this = Span {
            children: vec![Vec::new(); count],
            parent: (0..count).collect(),
            order: Vec::new(),
            roots: Vec::new(),
            nodes,
        };
        let mut seen = vec![false; count];
        let mut distance = vec![u32::MAX; count];
        for start in 0..count {
            let is_wire = start >= nodes && fabric.networks[start - nodes].is_wire();
            if seen[start] || is_wire {
                continue;
            }
            let root = middle(&lists, start, &mut distance);
            this.roots.push(root);
            seen[root] = true;
            let mut at = this.order.len();
            this.order.push(root);
            while at < this.order.len() {
                let from = this.order[at];
                at += 1;
                for &to in &lists[from] {
                    if !seen[to] {
                        seen[to] = true;
                        this.parent[to] = from;
                        this.children[from].push(to);
                        this.order.push(to);
                    }
                }
            }
        }
        this
    }

    fn depth_first(&self) -> Vec<usize> {
        let mut order = Vec::with_capacity(self.order.len());
        let mut todo: Vec<usize> = self.roots.iter().rev().copied().collect();
        while let Some(at) = todo.pop() {
            order.push(at);
            todo.extend(self.children[at].iter().rev());
        }
        order
    }
}

/// A vertex in the middle of a longest path, as far as two searches find one.
fn middle(lists: &[Vec<usize>], start: usize, distance: &mut [u32]) -> usize {
    let mut search = |from: usize| {
        // Only what this search reached before is set again.
        let mut order = vec![from];
        let mut before = vec![from];
        distance[from] = 0;
        let mut at = 0;
        while at < order.len() {
            let here = order[at];
            for &to in &lists[here] {
                if distance[to] == u32::MAX {
                    distance[to] = distance[here] + 1;
                    order.push(to);
                    before.push(here);
                }
            }
            at += 1;
        }
        let last = order[order.len() - 1];
        let mut path = vec![last];
        let place: std::collections::BTreeMap<usize, usize> = order.iter().copied().zip(before).collect();
        while let Some(&prior) = place.get(&path[path.len() - 1])
            && prior != path[path.len() - 1]
        {
            path.push(prior);
        }
        for at in order {
            distance[at] = u32::MAX;
        }
        path
    };
    let far = search(start)[0];
    let path = search(far);
    path[path.len() / 2]
}

/// Which end of each wire has its addresses in its block: the one that carries transit; of two,
/// the child of the other in the tree; else the one with fewer networks.
fn wire_owners(fabric: &Fabric<'_>, tree: &Span) -> Vec<Option<usize>> {
    let carries = |node: usize| fabric.forwards[node].contains(&true) && fabric.degree(node) >= 2;
    let mut load: Vec<usize> = vec![0; tree.nodes];
    let mut owner = vec![None; fabric.networks.len()];
    for pass in ["tree", "rest"] {
        for (net, network) in fabric.networks.iter().enumerate().filter(|(_, network)| network.is_wire()) {
            let [a, b] = [0, 1].map(|end| fabric.ports[network.ports[end]].node);
            let in_tree = tree.parent[a] == b || tree.parent[b] == a;
            if owner[net].is_some() || in_tree != (pass == "tree") {
                continue;
            }
            let chosen = match (carries(a), carries(b)) {
                (true, false) => a,
                (false, true) => b,
                _ if tree.parent[a] == b => a,
                _ if tree.parent[b] == a => b,
                _ if load[a] < load[b] => a,
                _ => b,
            };
            load[chosen] += 1;
            owner[net] = Some(chosen);
        }
    }
    owner
}

/// The needs in the block of each vertex, the largest first.
fn owned(fabric: &Fabric<'_>, tree: &Span, needs: &[Need], wire_owner: &[Option<usize>]) -> Vec<Vec<usize>> {
    let mut owned: Vec<Vec<usize>> = vec![Vec::new(); tree.nodes + fabric.networks.len()];
    for (at, need) in needs.iter().enumerate() {
        match need.what {
            What::Loopback(node) => owned[node].push(at),
            What::Segment(net) => owned[tree.nodes + net].push(at),
            What::Wire(net) => {
                if let Some(owner) = wire_owner[net] {
                    owned[owner].push(at);
                }
            }
        }
    }
    for list in &mut owned {
        list.sort_by_key(|&need| std::cmp::Reverse(needs[need].bits));
    }
    owned
}

/// The size of a block for some needs, as a power of two.
fn block_bits(needs: &[Need], owned: &[usize]) -> Option<u32> {
    let size: u64 = owned.iter().map(|&need| 1u64 << needs[need].bits).sum();
    // A block of one address could be the very first of the pool, which looks like a network's.
    (size > 0).then(|| log2(size.max(2)))
}

/// Puts the needs into their block: the largest at its start, the loopback at its end.
fn place_owned(needs: &[Need], owned: &[usize], start: u64, bits: u32, offsets: &mut [u64]) {
    let mut next = start;
    for &need in owned {
        if let What::Loopback(_) = needs[need].what {
            offsets[need] = start + (1 << bits) - 1;
        } else {
            offsets[need] = next;
            next += 1 << needs[need].bits;
        }
    }
}

/// The exponent of the next power of two.
fn log2(size: u64) -> u32 {
    size.next_power_of_two().trailing_zeros()
}

/// The heavy paths of a tree and the blocks on them.
struct Paths {
    /// The start of each vertex's own block, and of the block of the path that begins at it,
    /// within the block of the path around.
    own_start: Vec<u64>,
    path_start: Vec<u64>,
    /// The size of the block of the path that begins at a vertex, as a power of two.
    path_bits: Vec<Option<u32>>,
    heavy: Vec<Option<usize>>,
    /// The size of everything.
    bits: u32,
}

/// What one vertex contributes to its path: its own block, and those of its light children.
#[derive(Default)]
struct Group {
    /// Size as a power of two, and whose it is; the largest first.
    pieces: Vec<(u32, Piece)>,
}

#[derive(Clone, Copy)]
enum Piece {
    Own(usize),
    Path(usize),
}

impl Group {
    fn size(&self) -> u64 {
        self.pieces.iter().map(|(bits, _)| 1u64 << bits).sum()
    }

    fn align(&self) -> u32 {
        self.pieces.first().map_or(0, |(bits, _)| *bits)
    }
}

impl Paths {
    /// Blocks for everything, where a path may take `slack` bits more than it needs at least.
    fn new(tree: &Span, own: &[Option<u32>], slack: u32) -> Self {
        let count = tree.parent.len();
        let mut size: Vec<u64> = own.iter().map(|bits| bits.map_or(0, |bits| 1 << bits)).collect();
        let mut heavy: Vec<Option<usize>> = vec![None; count];
        for &at in tree.order.iter().rev() {
            let up = tree.parent[at];
            if up == at || size[at] == 0 {
                continue;
            }
            if heavy[up].is_none_or(|other| size[other] <= size[at]) {
                heavy[up] = Some(at);
            }
            size[up] += size[at];
        }
        let mut this = Paths {
            own_start: vec![0; count],
            path_start: vec![0; count],
            path_bits: vec![None; count],
            heavy,
            bits: 0,
        };
        // Tops of paths, those farther from the root first: a path contains the blocks of others.
        for &top in tree.order.iter().rev() {
            let up = tree.parent[top];
            if size[top] == 0 || (up != top && this.heavy[up] == Some(top)) {
                continue;
            }
            let groups = this.groups(tree, own, top);
            let (bits, starts) = place(&groups, slack);
            this.path_bits[top] = Some(bits);
            for (piece, start) in starts {
                match piece {
                    Piece::Own(at) => this.own_start[at] = start,
                    Piece::Path(at) => this.path_start[at] = start,
                }
            }
        }
        // The parts of the network side by side.
        let mut parts = Group::default();
        for &root in &tree.roots {
            parts.pieces.extend(this.path_bits[root].map(|bits| (bits, Piece::Path(root))));
        }
        parts.pieces.sort_by_key(|(bits, _)| std::cmp::Reverse(*bits));
        let mut next = 0;
        for (bits, piece) in &parts.pieces {
            if let Piece::Path(root) = piece {
                this.path_start[*root] = next;
            }
            next += 1 << bits;
        }
        this.bits = log2(next.max(1));
        this
    }

    fn bits(&self) -> u32 {
        self.bits
    }

    fn groups(&self, tree: &Span, own: &[Option<u32>], top: usize) -> Vec<Group> {
        let mut groups = Vec::new();
        let mut next = Some(top);
        while let Some(at) = next {
            let mut group = Group::default();
            group.pieces.extend(own[at].map(|bits| (bits, Piece::Own(at))));
            let light = tree.children[at].iter().filter(|&&child| Some(child) != self.heavy[at]);
            group.pieces.extend(light.filter_map(|&child| Some((self.path_bits[child]?, Piece::Path(child)))));
            group.pieces.sort_by_key(|(bits, _)| std::cmp::Reverse(*bits));
            if !group.pieces.is_empty() {
                groups.push(group);
            }
            next = self.heavy[at];
        }
        groups
    }

    /// The start of each vertex's own block.
    fn positions(&self, tree: &Span) -> Vec<u64> {
        // The start of the path that each vertex is on.
        let mut base = vec![0; tree.parent.len()];
        for &at in &tree.order {
            let up = tree.parent[at];
            base[at] = match up {
                up if up == at => self.path_start[at],
                up if self.heavy[up] == Some(at) => base[up],
                up => base[up] + self.path_start[at],
            };
        }
        (0..base.len()).map(|at| base[at] + self.own_start[at]).collect()
    }
}

/// Places the groups of a path one after the other, each second boundary at a good cut: the size
/// of the block, and the start of each piece.
fn place(groups: &[Group], slack: u32) -> (u32, Vec<(Piece, u64)>) {
    let Some((least, mut best)) = place_with(groups, u32::MAX, 62) else { return (0, Vec::new()) };
    let least = log2(least);
    let most = least + slack;
    let mut bits = least;
    for changes in 0..most {
        let Some((_, starts)) = place_with(groups, changes, most) else { continue };
        (bits, best) = (most, starts);
        // As good in less room?
        while bits > least
            && let Some((_, starts)) = place_with(groups, changes, bits - 1)
        {
            (bits, best) = (bits - 1, starts);
        }
        break;
    }
    (bits, best)
}

/// Places the groups at cuts with no more than so many changes, in a block of that size: the end
/// of the last one, and the starts.
fn place_with(groups: &[Group], changes: u32, bits: u32) -> Option<(u64, Vec<(Piece, u64)>)> {
    let mut starts = Vec::new();
    let mut end = 0;
    for pair in groups.chunks(2) {
        match pair {
            [left, right] => {
                let align = left.align().max(right.align());
                let cut = next_cut(end + left.size(), align, changes, bits)?;
                let mut at = cut;
                for (bits, piece) in &left.pieces {
                    at -= 1 << bits;
                    starts.push((*piece, at));
                }
                end = put(right, cut, &mut starts);
            }
            [one] => {
                end = end.next_multiple_of(1 << one.align());
                end = put(one, end, &mut starts);
            }
            _ => {}
        }
    }
    (end <= 1 << bits).then_some((end, starts))
}

fn put(group: &Group, start: u64, starts: &mut Vec<(Piece, u64)>) -> u64 {
    let mut at = start;
    for (bits, piece) in &group.pieces {
        starts.push((*piece, at));
        at += 1 << bits;
    }
    at
}

/// The first multiple of a power of two, not below a number, whose bits as an offset in a block
/// have few enough changes.
fn next_cut(from: u64, align: u32, changes: u32, bits: u32) -> Option<u64> {
    let from = from.next_multiple_of(1 << align);
    let good = |cut: u64| cut >> bits == 0 && self::changes(cut, bits) <= changes;
    if changes == u32::MAX || good(from) {
        return Some(from);
    }
    // A greater number differs at some bit, where it has a one; zeros behind that cost nothing.
    (align..bits).filter(|bit| from >> bit & 1 == 0).map(|bit| (from >> bit | 1) << bit).find(|&cut| good(cut))
}

/// How often the label alternates on the way down to a cut: outside of the block and left of a
/// one is "up", right of a zero is "down". The last one does not count: there the sides part.
fn changes(cut: u64, bits: u32) -> u32 {
    if cut == 0 {
        return 0;
    }
    let last = cut.trailing_zeros();
    // A one stands for the outside.
    let way = (1 << (bits - last - 1)) | (cut >> (last + 1));
    let len = bits - last;
    let alternations = way ^ (way >> 1);
    (alternations & ((1u64 << (len - 1)) - 1)).count_ones()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_counted_from_the_outside() {
        for (cut, expected) in
            [(0b1000, 0), (0b1100, 0), (0b0100, 1), (0b1010, 1), (0b0010, 1), (0b1011, 2), (0b0101, 3)]
        {
            assert_eq!(changes(cut, 4), expected, "{cut:04b}");
        }
    }

    #[test]
    fn the_next_cut_is_the_first_good_one() {
        for changes_allowed in 0..5 {
            for from in 0..64 {
                let expected = (from..64).find(|&cut| changes(cut, 6) <= changes_allowed);
                assert_eq!(next_cut(from, 0, changes_allowed, 6), expected, "{from} {changes_allowed}");
            }
        }
    }
}
