//! The fewest routes that lead every destination to a neighbour that is right for it.
//!
//! ORTC (Draves, King, Venkatachary, Zill, "Constructing optimal IP routing tables", INFOCOM
//! 1999) with sets: any of the next hops in a destination's set is right, and where nobody lives
//! anything is. Afterwards each route gets every next hop that is right for *all* destinations it
//! serves, so equal-cost paths survive where they cost nothing, and is cut down to the longest
//! prefix around those destinations. Cutting down is safe: were a more specific route to lie
//! between the two, that one would serve them.

use std::collections::BTreeMap;
use std::ops::Range;

/// A prefix of either family: the bits from the left, and how many count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Prefix {
    pub(crate) bits: u128,
    pub(crate) len: u8,
}

impl Prefix {
    /// How many leading bits two prefixes share.
    fn common(self, other: Prefix) -> u8 {
        let same = (self.bits ^ other.bits).leading_zeros().min(128);
        u8::try_from(same).unwrap_or(128).min(self.len).min(other.len)
    }

    pub(crate) fn contains(self, other: Prefix) -> bool {
        self.len <= other.len && self.common(other) == self.len
    }

    /// The longest prefix around two.
    pub(crate) fn around(self, other: Prefix) -> Prefix {
        let len = self.common(other);
        let mask = if len == 0 { 0 } else { u128::MAX << (128 - u32::from(len)) };
        Prefix { bits: self.bits & mask, len }
    }

    /// Both halves.
    pub(crate) fn halves(self) -> [Prefix; 2] {
        let len = self.len + 1;
        [Prefix { bits: self.bits, len }, Prefix { bits: self.bits | 1 << (128 - u32::from(len)), len }]
    }
}

/// A child in the tree: a destination or an inner node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Child {
    Leaf(u32),
    Inner(u32),
}

/// The binary tree over a list of disjoint prefixes, without the nodes that have one child.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    leaves: Vec<Prefix>,
    /// Children before their parents.
    inner: Vec<[Child; 2]>,
    root: Option<Child>,
}

/// A route: the first and last destination that it serves. Its next hops are with the [`Solver`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) first: u32,
    pub(crate) last: u32,
}

impl Tree {
    /// The tree over sorted disjoint prefixes.
    pub(crate) fn new(leaves: Vec<Prefix>) -> Self {
        let mut tree = Tree { inner: Vec::with_capacity(leaves.len()), leaves, root: None };
        if !tree.leaves.is_empty() {
            tree.root = Some(tree.build(0..tree.leaves.len()));
        }
        tree
    }

    fn build(&mut self, range: Range<usize>) -> Child {
        if range.len() == 1 {
            return Child::Leaf(small(range.start));
        }
        let len = self.leaves[range.start].common(self.leaves[range.end - 1]);
        let bit = 1u128 << (127 - u32::from(len.min(127)));
        let split = range.start + self.leaves[range.clone()].partition_point(|leaf| leaf.bits & bit == 0);
        // Disjoint prefixes differ within their lengths, so both sides have something.
        let children = [self.build(range.start..split), self.build(split..range.end)];
        self.inner.push(children);
        Child::Inner(small(self.inner.len() - 1))
    }

    /// Is every leaf where the leaf of the same number is in the other tree?
    pub(crate) fn same_shape(&self, other: &Tree) -> bool {
        self.root == other.root && self.inner == other.inner && self.leaves.len() == other.leaves.len()
    }

    pub(crate) fn leaves(&self) -> &[Prefix] {
        &self.leaves
    }

    /// The largest subtrees whose leaves all have one owner, as ranges of leaves.
    pub(crate) fn groups(&self, owner: &[usize]) -> Vec<Range<usize>> {
        // The owner of each inner node, where it is one, and the range below.
        let mut below: Vec<(Option<usize>, Range<usize>)> = Vec::with_capacity(self.inner.len());
        let of = |child: Child, below: &[(Option<usize>, Range<usize>)]| match child {
            Child::Leaf(at) => (Some(owner[at as usize]), at as usize..at as usize + 1),
            Child::Inner(at) => below[at as usize].clone(),
        };
        for [left, right] in &self.inner {
            let ((a, left), (b, right)) = (of(*left, &below), of(*right, &below));
            below.push((a.filter(|_| a == b), left.start..right.end));
        }
        let mut groups = Vec::new();
        let mut todo: Vec<Child> = self.root.into_iter().collect();
        while let Some(child) = todo.pop() {
            match (of(child, &below), child) {
                ((Some(_), range), _) => groups.push(range),
                ((None, _), Child::Inner(at)) => todo.extend(self.inner[at as usize].iter().rev()),
                ((None, _), Child::Leaf(_)) => {}
            }
        }
        groups
    }
}

fn small(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

/// Working memory, used again for the next table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Solver {
    words: usize,
    /// A set for each leaf; all ones: anything is right. The highest bit marks nothing else.
    leaves: Vec<u64>,
    inner: Vec<u64>,
    /// What each inner node inherits: a hop, and the entry that brings it; `NONE`: nothing yet.
    inherited: Vec<(u32, u32)>,
    pub(crate) entries: Vec<Entry>,
    sets: Vec<u64>,
}

const NONE: u32 = u32::MAX;

impl Solver {
    /// Begins a table for a tree, with sets of that many words and nothing that must be served.
    pub(crate) fn begin(&mut self, tree: &Tree, words: usize) {
        self.words = words;
        self.leaves.clear();
        self.leaves.resize(tree.leaves.len() * words, u64::MAX);
    }

    /// Says which hops are right for a destination. The highest bit of the set is unused.
    pub(crate) fn set(&mut self, leaf: usize, set: &[u64]) {
        self.leaves[leaf * self.words..][..self.words].copy_from_slice(set);
    }

    /// Says it of all destinations at once, by their owners. An empty set: anything is right.
    pub(crate) fn set_all(&mut self, sets: &[u64], owners: &[usize]) {
        for (leaf, &owner) in self.leaves.iter_mut().zip(owners) {
            *leaf = if sets[owner] == 0 { u64::MAX } else { sets[owner] };
        }
    }

    /// Has every destination that must be served exactly one hop that is right?
    pub(crate) fn is_unambiguous(&self) -> bool {
        let hops = |set: &[u64]| {
            if set[set.len() - 1] >> 63 == 1 { 1 } else { set.iter().map(|word| word.count_ones()).sum() }
        };
        self.leaves.chunks_exact(self.words).all(|set| hops(set) == 1)
    }

    /// The next hops of an entry.
    pub(crate) fn hops(&self, entry: usize) -> &[u64] {
        &self.sets[entry * self.words..][..self.words]
    }

    /// Finds the entries. False: they are more than `most`, and not all were found.
    pub(crate) fn solve(&mut self, tree: &Tree, most: usize) -> bool {
        // Nearly always one word is enough: that case gets code of its own.
        if self.words == 1 {
            self.gather::<true>(tree);
            self.spread::<true>(tree, most)
        } else {
            self.gather::<false>(tree);
            self.spread::<false>(tree, most)
        }
    }

    fn words<const ONE: bool>(&self) -> usize {
        if ONE { 1 } else { self.words }
    }

    /// From the leaves up: what is right for both children, or else for one of them.
    fn gather<const ONE: bool>(&mut self, tree: &Tree) {
        let words = self.words::<ONE>();
        self.inner.clear();
        self.inner.resize(tree.inner.len() * words, 0);
        for (at, [left, right]) in tree.inner.iter().enumerate() {
            let mut any = 0;
            for word in 0..words {
                let both = self.word::<ONE>(*left, word) & self.word::<ONE>(*right, word);
                self.inner[at * words + word] = both;
                any |= both;
            }
            if any == 0 {
                for word in 0..words {
                    self.inner[at * words + word] = self.word::<ONE>(*left, word) | self.word::<ONE>(*right, word);
                }
            }
        }
    }

    #[inline]
    fn word<const ONE: bool>(&self, child: Child, word: usize) -> u64 {
        let words = self.words::<ONE>();
        match child {
            Child::Leaf(at) => self.leaves[at as usize * words + word],
            Child::Inner(at) => self.inner[at as usize * words + word],
        }
    }

    /// From the root down: a new entry only where what is inherited is wrong. Each serves at least
    /// one destination, for a hop that is right for a node is right for one of its children.
    fn spread<const ONE: bool>(&mut self, tree: &Tree, most: usize) -> bool {
        self.entries.clear();
        self.sets.clear();
        self.inherited.clear();
        self.inherited.resize(tree.inner.len(), (NONE, NONE));
        if let Some(root) = tree.root {
            self.inherit::<ONE>(root, (NONE, NONE));
        }
        for at in (0..tree.inner.len()).rev() {
            let inherited = self.inherited[at];
            for child in tree.inner[at] {
                self.inherit::<ONE>(child, inherited);
            }
            if self.entries.len() > most {
                return false;
            }
        }
        true
    }

    #[inline]
    fn inherit<const ONE: bool>(&mut self, child: Child, inherited: (u32, u32)) {
        let words = self.words::<ONE>();
        let last = self.word::<ONE>(child, words - 1);
        // Nobody lives here.
        if last >> 63 == 1 {
            if let Child::Inner(at) = child {
                self.inherited[at as usize] = inherited;
            }
            return;
        }
        let (mut hop, mut entry) = inherited;
        if hop == NONE || self.word::<ONE>(child, hop as usize / 64) >> (hop % 64) & 1 == 0 {
            let Some(lowest) = (0..words).find_map(|word| {
                let bits = self.word::<ONE>(child, word);
                (bits != 0).then(|| small(word * 64) + bits.trailing_zeros())
            }) else {
                return;
            };
            hop = lowest;
            entry = small(self.entries.len());
            self.entries.push(Entry { first: NONE, last: NONE });
            self.sets.extend(std::iter::repeat_n(u64::MAX, words));
        }
        match child {
            Child::Inner(at) => self.inherited[at as usize] = (hop, entry),
            Child::Leaf(at) => {
                let it = &mut self.entries[entry as usize];
                it.first = it.first.min(at);
                it.last = if it.last == NONE { at } else { it.last.max(at) };
                for word in 0..words {
                    self.sets[entry as usize * words + word] &= self.leaves[at as usize * words + word];
                }
            }
        }
    }
}

/// Numbers distinct sets in the order of their first appearance, so that a table can be made in
/// which each destination keeps exactly its set.
#[derive(Clone, Debug, Default)]
pub(crate) struct Labels {
    numbers: BTreeMap<Vec<u64>, u32>,
    pub(crate) of_leaf: Vec<u32>,
}

impl Labels {
    /// For the leaves that a solver has been given; `NONE` where anything is right.
    pub(crate) fn number(&mut self, solver: &Solver) -> usize {
        self.numbers.clear();
        self.of_leaf.clear();
        let mut last: Option<(&[u64], u32)> = None;
        for set in solver.leaves.chunks_exact(solver.words) {
            if set[set.len() - 1] >> 63 == 1 {
                self.of_leaf.push(NONE);
                continue;
            }
            let number = match last {
                Some((same, number)) if same == set => number,
                _ => {
                    let next = small(self.numbers.len());
                    if let Some(number) = self.numbers.get(set) {
                        *number
                    } else {
                        self.numbers.insert(set.to_vec(), next);
                        next
                    }
                }
            };
            last = Some((set, number));
            self.of_leaf.push(number);
        }
        self.numbers.len()
    }
}

/// Solves for exact sets, with no more than so many entries: no destination loses an equal-cost
/// path. The entries are those of `exact`, their next hops are those of `any`'s leaves.
pub(crate) fn solve_exactly(tree: &Tree, any: &Solver, labels: &mut Labels, exact: &mut Solver, most: usize) -> bool {
    let count = labels.number(any);
    exact.begin(tree, count / 64 + 1);
    let mut set = vec![0; exact.words];
    for (leaf, &label) in labels.of_leaf.iter().enumerate() {
        if label != NONE {
            set[label as usize / 64] = 1 << (label % 64);
            exact.set(leaf, &set);
            set[label as usize / 64] = 0;
        }
    }
    exact.solve(tree, most)
}

impl Solver {
    /// The set that a destination was given.
    pub(crate) fn given(&self, leaf: usize) -> &[u64] {
        &self.leaves[leaf * self.words..][..self.words]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Prefixes of an 8-bit family, as in `01xx`, with the hops that are right, as in `ab`; `*`:
    /// nobody lives there.
    fn check(destinations: &[(&str, &str)], expected: &[&str]) {
        let prefix = |text: &str| {
            let bits = text.bytes().fold(0u128, |bits, b| bits << 1 | u128::from(b == b'1'));
            let len = u8::try_from(text.trim_end_matches('x').len()).unwrap();
            Prefix { bits: bits << (128 - text.len()), len }
        };
        let tree = Tree::new(destinations.iter().map(|(text, _)| prefix(text)).collect());
        let mut solver = Solver::default();
        solver.begin(&tree, 1);
        for (leaf, (_, hops)) in destinations.iter().enumerate() {
            if *hops != "*" {
                solver.set(leaf, &[hops.bytes().fold(0, |set, hop| set | 1 << (hop - b'a'))]);
            }
        }
        assert!(solver.solve(&tree, usize::MAX));
        let mut lines: Vec<String> = solver
            .entries
            .iter()
            .enumerate()
            .map(|(at, entry)| {
                let around = tree.leaves()[entry.first as usize].around(tree.leaves()[entry.last as usize]);
                let hops: String =
                    (0..26u8).filter(|bit| solver.hops(at)[0] >> bit & 1 == 1).map(|b| char::from(b'a' + b)).collect();
                let bits: String =
                    (0..around.len).map(|bit| if around.bits >> (127 - bit) & 1 == 1 { '1' } else { '0' }).collect();
                format!("{bits} {hops}")
            })
            .collect();
        lines.sort();
        assert_eq!(lines, expected);
    }

    #[test]
    fn neighbouring_destinations_share_a_route() {
        check(&[("00", "a"), ("01", "a"), ("10", "b"), ("11", "b")], &["0 a", "1 b"]);
        check(&[("000", "a"), ("001", "b"), ("01x", "a")], &["0 a", "001 b"]);
    }

    #[test]
    fn where_nobody_lives_anything_is_right() {
        check(&[("00", "a"), ("01", "*"), ("10", "*"), ("11", "a")], &[" a"]);
        check(&[("00", "*"), ("01", "a"), ("10", "*")], &["01 a"]);
    }

    #[test]
    fn equal_cost_paths_survive_where_they_cost_nothing() {
        check(&[("00", "ab"), ("01", "ab"), ("1x", "ab")], &[" ab"]);
        check(&[("00", "ab"), ("01", "b"), ("10", "bc")], &[" b"]);
    }

    #[test]
    fn a_route_is_no_wider_than_what_it_serves() {
        check(&[("0000", "a"), ("0001", "a"), ("1000", "b"), ("1011", "b")], &["000 a", "10 b"]);
    }
}
