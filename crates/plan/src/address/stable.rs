//! Addresses from names: they stay when another line is added.
//!
//! Each block is where the hash of its owner's name says. Where two meet, the one that is written
//! first stays and the other one looks further, so that a line at the end of the file moves
//! nothing, and a line elsewhere next to never. Wires, loopbacks and segments have a part of the
//! pool each: a segment is as large as 128 wires and would meet one of them far too often.

use std::collections::BTreeMap;

use super::pool::Pool;
use super::{Exhausted, Need, What, probes};
use crate::fabric::Fabric;
use crate::hash::hash;

/// How often a hash is asked for another place before the next free one is taken.
const PROBES: usize = 16;

pub(super) fn lay_out(fabric: &Fabric<'_>, needs: &[Need], pool: &mut Pool) -> Result<Vec<u64>, Exhausted> {
    let available = pool.free();
    let exhausted = || Exhausted { needed: needs.iter().map(|need| 1 << need.bits).sum(), available };
    let mut names = Names::new(fabric);
    needs.iter().map(|need| place(names.hash(need.what), *need, pool).ok_or_else(exhausted)).collect()
}

/// Finds a block and takes it.
fn place(hash: u64, need: Need, pool: &mut Pool) -> Option<u64> {
    let len = 1u64.checked_shl(need.bits)?;
    let (start, size) = part(need.what, pool.size());
    let slots = size / len;
    if slots > 0 {
        for probe in probes(hash).take(PROBES) {
            let at = start + (probe % slots) * len;
            if pool.claim(at, len) {
                return Some(at);
            }
        }
    }
    // A crowded pool: the next free block from there on, then any.
    let from = start + hash.checked_rem(slots).unwrap_or(0) * len;
    let at = pool.first_free(from, need.bits).or_else(|| pool.first_free(0, need.bits))?;
    pool.take(at, len);
    Some(at)
}

/// The part of the pool for a kind of need: start and size.
fn part(what: What, size: u64) -> (u64, u64) {
    match what {
        What::Wire(_) => (0, size / 4),
        What::Loopback(_) => (size / 4, size / 4),
        What::Segment(_) => (size / 2, size / 2),
    }
}

/// What each need is known by.
struct Names<'f, 'a> {
    fabric: &'f Fabric<'a>,
    /// How many wires between two nodes have been seen.
    parallel: BTreeMap<[usize; 2], usize>,
}

impl<'f, 'a> Names<'f, 'a> {
    fn new(fabric: &'f Fabric<'a>) -> Self {
        Names { fabric, parallel: BTreeMap::new() }
    }

    fn hash(&mut self, what: What) -> u64 {
        let lab = self.fabric.lab;
        let node = |node: usize| lab.nodes()[node].name.as_str();
        match what {
            What::Wire(net) => {
                let mut ends = [0, 1].map(|end| self.fabric.ports[self.fabric.networks[net].ports[end]].node);
                ends.sort_by_key(|&end| node(end));
                let parallel = self.parallel.entry(ends).or_default();
                let which = parallel.to_string();
                *parallel += 1;
                hash(["wire", node(ends[0]), node(ends[1]), &which])
            }
            What::Segment(net) => {
                let switches = self.fabric.networks[net].switches.iter();
                let name = switches.map(|&switch| lab.switches()[switch].name.as_str()).min();
                hash(["segment", name.unwrap_or_default()])
            }
            What::Loopback(owner) => hash(["loopback", node(owner)]),
        }
    }
}
