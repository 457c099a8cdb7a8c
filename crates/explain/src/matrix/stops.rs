//! Where packets end, and why: each reason once.

use std::collections::HashMap;

use hopyard_net::IfName;

use super::net::{Net, number};
use crate::Reason;

/// Where packets end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// At that node, whose address it is.
    At(u32),
    /// At a stop of that number.
    Stop(u32),
    /// That is not seen from the graph.
    Ask,
}

/// A node where packets end, and why.
pub(super) struct Stop {
    pub(super) node: u32,
    pub(super) reason: Reason,
    /// The interface by which it asks for a neighbour.
    asked_by: Option<u32>,
}

/// All stops, each once.
#[derive(Default)]
pub(super) struct Stops {
    pub(super) list: Vec<Stop>,
    by_node: HashMap<u32, Vec<u32>>,
    no_route: HashMap<(u32, Option<IfName>), u32>,
    off: HashMap<(u32, bool, Option<IfName>), u32>,
    expired: HashMap<u32, u32>,
}

impl Stops {
    pub(super) fn add(&mut self, node: u32, reason: Reason) -> u32 {
        self.intern(Stop { node, reason, asked_by: None })
    }

    pub(super) fn add_at(&mut self, node: u32, by: u32, reason: Reason) -> u32 {
        self.intern(Stop { node, reason, asked_by: Some(by) })
    }

    fn intern(&mut self, stop: Stop) -> u32 {
        let known = self.by_node.entry(stop.node).or_default();
        let same = |at: &&u32| {
            let other = &self.list[**at as usize];
            other.asked_by == stop.asked_by && other.reason == stop.reason
        };
        if let Some(at) = known.iter().find(same) {
            return *at;
        }
        let at = number(self.list.len());
        known.push(at);
        self.list.push(stop);
        at
    }

    pub(super) fn no_route(&mut self, node: u32, down: Option<IfName>, reason: impl FnOnce() -> Reason) -> u32 {
        if let Some(at) = self.no_route.get(&(node, down)) {
            return *at;
        }
        let at = self.add(node, reason());
        self.no_route.insert((node, down), at);
        at
    }

    /// A packet has no hop left at a node.
    pub(super) fn expired(&mut self, node: u32) -> u32 {
        if let Some(at) = self.expired.get(&node) {
            return *at;
        }
        let at = self.add(node, Reason::TtlExpired);
        self.expired.insert(node, at);
        at
    }

    /// A node does not send on what came in at an interface.
    pub(super) fn off(
        &mut self,
        net: &Net<'_>,
        at: u32,
        taken: bool,
        by: Option<IfName>,
        reason: impl FnOnce() -> Reason,
    ) -> u32 {
        let key = (at, taken, by);
        if let Some(at) = self.off.get(&key) {
            return *at;
        }
        let stop = self.add(net.ifaces[at as usize].node, reason());
        self.off.insert(key, stop);
        stop
    }

    pub(super) fn asked_by(&self, stop: u32) -> Option<u32> {
        self.list[stop as usize].asked_by
    }
}
