//! There and back.

use std::net::IpAddr;

use hopyard_net::{NsName, Snapshot};
use serde::Serialize;

use crate::walk::{Choices, Trace, Walk, walk_with};
use crate::{Packet, Reason, lookup, segment};

/// What is asked: does a packet get there, and its answer back?
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Query {
    /// The node that sends.
    pub from: NsName,
    /// What it sends.
    pub packet: Packet,
    /// The node that should get it; `None`: whoever has the address.
    pub wanted: Option<NsName>,
}

/// The two ways.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Of the packet.
    pub there: Walk,
    /// Of its answer, also where the packet does not arrive: what would be. `None`: it is not known
    /// from where to where it would go.
    pub back: Option<Walk>,
}

/// What comes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The packet arrives, and its answer too.
    Yes,
    /// One of them does not.
    No,
    /// Something that is not understood decides, or chance.
    Undecided,
}

/// The first thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Trouble {
    /// On the way back?
    pub back: bool,
    /// Where.
    pub node: NsName,
    /// What.
    pub reason: Reason,
}

impl Trouble {
    /// The stable name of the reason.
    pub fn code(&self) -> &'static str {
        self.reason.code(self.back)
    }
}

impl Verdict {
    /// What comes of it.
    pub fn outcome(&self) -> Outcome {
        if self.there.is_undecided() {
            return Outcome::Undecided;
        }
        match &self.back {
            _ if !self.there.arrives() => Outcome::No,
            Some(back) if back.is_undecided() => Outcome::Undecided,
            Some(back) if back.arrives() => Outcome::Yes,
            _ => Outcome::No,
        }
    }

    /// The walk that ends in the wrong place first, and whether it is the one back.
    pub fn failing(&self) -> Option<(&Walk, bool)> {
        if !self.there.arrives() {
            return Some((&self.there, false));
        }
        self.back.as_ref().filter(|back| !back.arrives()).map(|back| (back, true))
    }

    /// The same, where the network alone is looked at: a packet for which nothing waits has arrived.
    pub fn failing_network(&self) -> Option<(&Walk, bool)> {
        match &self.back {
            Some(back) if self.there.is_carried() => (!back.arrives()).then_some((back, true)),
            _ => self.failing(),
        }
    }

    /// The first thing that is wrong.
    pub fn trouble(&self) -> Option<Trouble> {
        let (walk, back) = self.failing()?;
        trouble_of(walk, back)
    }

    /// What would be wrong with the way back of a packet that does not arrive.
    pub fn trouble_back(&self) -> Option<Trouble> {
        self.back.as_ref().and_then(|back| trouble_of(back, true))
    }
}

pub(crate) fn trouble_of(walk: &Walk, back: bool) -> Option<Trouble> {
    let reason = walk.reason()?.clone();
    Some(Trouble { back, node: walk.last()?.node.clone(), reason })
}

/// The node that has an address: the first by name.
pub fn owner(snapshot: &Snapshot, addr: IpAddr) -> Option<NsName> {
    segment::owners(snapshot, addr).into_iter().next().map(|end| end.ns)
}

/// The node that a sender means by an address: itself if it has it, as its kernel looks there first (an address of the
/// loopback is every node's own: RFC 1122, section 3.2.1.3; RFC 4291, section 2.5.3). Else the first by name that has it.
pub fn owner_for(snapshot: &Snapshot, from: &NsName, addr: IpAddr) -> Option<NsName> {
    let itself = addr.is_loopback() || snapshot.nodes.get(from).is_some_and(|node| lookup::is_own(node, addr));
    if itself { Some(from.clone()) } else { owner(snapshot, addr) }
}

impl Query {
    /// The node that it is about: the one that is wanted, or else that has the address.
    pub fn owner(&self, snapshot: &Snapshot) -> Option<NsName> {
        self.wanted.clone().or_else(|| owner_for(snapshot, &self.from, self.packet.dst))
    }
}

/// Walks the packet there and its answer back.
pub fn explain(snapshot: &Snapshot, query: &Query, choices: &Choices) -> Verdict {
    there_and_back(snapshot, query, choices, true)
}

/// The same where nobody remembers who has an address, or learns it by being asked: as it is when all that was learnt has
/// been forgotten, a minute or an hour later.
pub(crate) fn explain_later(snapshot: &Snapshot, query: &Query, choices: &Choices) -> Verdict {
    let mut later = snapshot.clone();
    for node in later.nodes.values_mut() {
        node.neighbours.retain(|it| it.permanent);
    }
    there_and_back(&later, query, choices, false)
}

fn there_and_back(snapshot: &Snapshot, query: &Query, choices: &Choices, learns: bool) -> Verdict {
    let (nothing, wanted) = (Trace::default(), query.wanted.as_ref());
    let there = walk_with(snapshot, &query.from, query.packet, wanted, (&nothing, learns), choices);
    let answers = match there.last() {
        Some(last) if there.arrives() => Some(last.node.clone()),
        _ => query.owner(snapshot),
    };
    let back = there.packet.answer().zip(answers).map(|(packet, from)| {
        let mut trace = there.trace(snapshot);
        if !learns {
            trace.learnt.clear();
        }
        if !there.arrives() {
            // What is to be is taken as having come through.
            trace.nodes = snapshot.nodes.keys().cloned().collect();
        }
        let walk = |packet| walk_with(snapshot, &from, packet, Some(&query.from), (&trace, learns), choices);
        let mut back = walk(packet);
        // Of several equal ways, each may give the packet another source.
        for src in other_sources(snapshot, query, &there, choices) {
            let other = walk(Packet { dst: src, ..packet });
            if back.ends_like(&other) {
                back.by_chance |= other.by_chance;
            } else {
                if back.arrives() {
                    back = other;
                }
                back.by_chance = true;
            }
        }
        back
    });
    Verdict { there, back }
}

/// The sources that the packet would have got by the other ways on that its sender has.
fn other_sources(snapshot: &Snapshot, query: &Query, there: &Walk, choices: &Choices) -> Vec<IpAddr> {
    let dst = query.packet.dst;
    let Some((node, route)) =
        snapshot.nodes.get(&query.from).zip(there.hops.first().and_then(|hop| hop.route.as_ref()))
    else {
        return Vec::new();
    };
    let hops = lookup::usable_hops(node, route);
    let is_chosen = choices.get(&(query.from.clone(), None, dst)).is_some_and(|hop| hops.contains(&hop));
    if query.packet.src.is_some() || is_chosen || hops.len() < 2 {
        return Vec::new();
    }
    let mut found: Vec<IpAddr> =
        hops.into_iter().filter_map(|hop| lookup::source(node, route, Some(hop), dst)).collect();
    found.sort_unstable();
    found.dedup();
    found.retain(|src| Some(*src) != there.packet.src);
    found
}
