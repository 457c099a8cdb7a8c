//! Where packets can be sent to, and to which vertex that leads.

use std::collections::BTreeMap;
use std::ops::Range;

use super::aggregate::{Prefix, Tree};
use super::graph::Vertex;

/// A prefix that lives somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Destination {
    /// The prefix.
    pub(crate) prefix: Prefix,
    /// Where packets for it are sent; `None`: nowhere, it concerns only those that are connected.
    pub(crate) owner: Option<Vertex>,
    /// The nodes that have it on one of their interfaces, sorted; they need no route.
    pub(crate) connected: Vec<usize>,
}

/// All destinations, arranged for the solver: the leaves of its tree are the largest prefixes in
/// which everything has one owner.
#[derive(Clone, Debug)]
pub(crate) struct Destinations {
    pub(crate) tree: Tree,
    /// The owner of each leaf.
    pub(crate) owner: Vec<Vertex>,
    /// For each node the leaves that it needs no route to.
    pub(crate) connected: Vec<Vec<u32>>,
    /// For each node the destinations that lie inside a prefix it is connected to, and are
    /// elsewhere nevertheless: only a route of exactly that prefix wins over the connected one.
    pub(crate) inside: Vec<Vec<(Prefix, Vertex)>>,
}

impl Destinations {
    /// Arranges a list in which no prefix occurs twice.
    pub(crate) fn new(mut list: Vec<Destination>, nodes: usize) -> Self {
        list.sort_by_key(|it| it.prefix);
        let mut inside: Vec<Vec<(Prefix, Vertex)>> = vec![Vec::new(); nodes];
        let mut pieces: Vec<(Prefix, usize)> = Vec::with_capacity(list.len());
        let mut around: Vec<usize> = Vec::new();
        let mut nested: BTreeMap<usize, Vec<Prefix>> = BTreeMap::new();
        for (at, it) in list.iter().enumerate() {
            while around.last().is_some_and(|&outer| !list[outer].prefix.contains(it.prefix)) {
                around.pop();
            }
            if let Some(&outer) = around.last() {
                nested.entry(outer).or_default().push(it.prefix);
            }
            for &outer in &around {
                for &node in &list[outer].connected {
                    if let Some(owner) = it.owner
                        && it.connected.binary_search(&node).is_err()
                    {
                        inside[node].push((it.prefix, owner));
                    }
                }
            }
            around.push(at);
        }
        for (at, it) in list.iter().enumerate().filter(|(_, it)| it.owner.is_some()) {
            match nested.get(&at) {
                None => pieces.push((it.prefix, at)),
                Some(holes) => without(it.prefix, holes, &mut |piece| pieces.push((piece, at))),
            }
        }
        pieces.sort_unstable();

        let owners: Vec<Vertex> = pieces.iter().filter_map(|&(_, at)| list[at].owner).collect();
        let whole = Tree::new(pieces.iter().map(|&(prefix, _)| prefix).collect());
        let groups = whole.groups(&owners);
        let mut connected: Vec<Vec<u32>> = vec![Vec::new(); nodes];
        for (leaf, group) in groups.iter().enumerate() {
            for node in connected_to_all(&list, &pieces[group.clone()]) {
                connected[node].push(u32::try_from(leaf).unwrap_or(u32::MAX));
            }
        }
        let leaf = |group: &Range<usize>| whole.leaves()[group.start].around(whole.leaves()[group.end - 1]);
        Destinations {
            owner: groups.iter().map(|group| owners[group.start]).collect(),
            tree: Tree::new(groups.iter().map(leaf).collect()),
            connected,
            inside,
        }
    }
}

/// The nodes that are connected to every piece.
fn connected_to_all(list: &[Destination], pieces: &[(Prefix, usize)]) -> Vec<usize> {
    let mut all = list[pieces[0].1].connected.clone();
    for (_, at) in &pieces[1..] {
        all.retain(|node| list[*at].connected.binary_search(node).is_ok());
    }
    all
}

/// A prefix without the sorted prefixes inside it, in pieces.
fn without(prefix: Prefix, holes: &[Prefix], piece: &mut impl FnMut(Prefix)) {
    if holes.is_empty() {
        piece(prefix);
    } else if holes[0] != prefix {
        for half in prefix.halves() {
            let first = holes.partition_point(|hole| hole.bits < half.bits);
            let inside = holes[first..].iter().take_while(|hole| half.contains(**hole)).count();
            without(half, &holes[first..first + inside], piece);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        let net: hopyard_net::Ipv4Net = text.parse().unwrap();
        Prefix { bits: u128::from(net.network().to_bits()) << 96, len: net.prefix_len() }
    }

    #[test]
    fn a_prefix_around_another_keeps_the_rest() {
        let at = |text, owner| Destination { prefix: prefix(text), owner: Some(owner), connected: vec![owner] };
        let all = Destinations::new(vec![at("10.0.0.0/24", 0), at("10.0.0.64/26", 1), at("10.0.1.0/24", 0)], 2);
        let leaves: Vec<(Prefix, Vertex)> = all.tree.leaves().iter().copied().zip(all.owner.iter().copied()).collect();
        assert_eq!(
            leaves,
            [
                (prefix("10.0.0.0/26"), 0),
                (prefix("10.0.0.64/26"), 1),
                (prefix("10.0.0.128/25"), 0),
                (prefix("10.0.1.0/24"), 0)
            ]
        );
        assert_eq!(all.inside, [vec![(prefix("10.0.0.64/26"), 1)], vec![]]);
    }
}
