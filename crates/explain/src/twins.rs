//! Where an Ethernet address is there twice on a segment: what switches do with a frame that is for it.
//!
//! A bridge remembers by which port it has last got a frame from an address, and sends out by that port what is for it
//! (`br_fdb_update()` and `br_handle_frame_finish()`, net/bridge/br_fdb.c and br_input.c). So of several with one address
//! the one gets it that spoke last. Nothing goes out by the port that it came in by (`should_deliver()`), so that a frame is
//! lost that is for its sender's own address. The addresses of the bridge itself and of its ports are its own: what is for one of them is
//! for its node, which may still send it on if it is a router.

use std::collections::BTreeSet;

use hopyard_net::{Endpoint, IfName, LinkState, MacAddr, Snapshot};

use crate::segment::{Crossing, Segment, Way, link_at};
use crate::{Reason, TwinFate};

/// Whose frames have come where: by these, the switches between the two know where an address is.
pub(crate) type Spoken = BTreeSet<(Endpoint, Endpoint)>;

/// Why a frame from one end of a segment may not come to another, for an address that is there twice. `spoken`: who has got
/// frames from whom just now.
pub(crate) fn between(
    snapshot: &Snapshot,
    segment: &Segment,
    (from, to): (&Endpoint, &Endpoint),
    way: &Way,
    spoken: &Spoken,
) -> Option<Reason> {
    let mac = link_at(snapshot, to)?.mac?;
    if let Some(lost) = lost(snapshot, (from, to), &way.crossings) {
        return Some(lost);
    }
    let others: Vec<&Endpoint> = segment.ends.keys().filter(|end| *end != to && has(snapshot, end, mac)).collect();
    let has_spoken = |end: &Endpoint| spoken.contains(&(end.clone(), from.clone()));
    let is_known = has_spoken(to) && !others.iter().any(|end| has_spoken(end));
    // A cable has one other end.
    if others.is_empty() || way.crossings.is_empty() || is_known {
        return None;
    }
    let mut owners: Vec<Endpoint> = others.into_iter().chain([to]).cloned().collect();
    owners.sort();
    Some(Reason::DuplicateMac { mac, owners, fate: TwinFate::Chance })
}

/// The same, as far as it does not matter who has spoken.
pub(crate) fn lost(snapshot: &Snapshot, (from, to): (&Endpoint, &Endpoint), crossings: &[Crossing]) -> Option<Reason> {
    let mac = link_at(snapshot, to)?.mac?;
    let (first, last) = (crossings.first()?, crossings.last()?);
    let on_way = || crossings.iter().filter(|it| it.output.is_some()).find_map(|it| own(snapshot, it, mac));
    let passes_on = first.input.is_some() && last.output.is_some();
    let (other, fate) = match on_way() {
        Some(own) => (own, TwinFate::OfSwitch),
        None if !has(snapshot, from, mac) => return None,
        None if passes_on => (from.clone(), TwinFate::OfSender),
        // One of the two is the bridge itself.
        None => (from.clone(), TwinFate::OfSwitch),
    };
    let mut owners = vec![other, to.clone()];
    owners.sort();
    Some(Reason::DuplicateMac { mac, owners, fate })
}

/// The bridge or the port of it that has an address.
fn own(snapshot: &Snapshot, crossing: &Crossing, mac: MacAddr) -> Option<Endpoint> {
    let bridge = &crossing.bridge;
    let node = snapshot.nodes.get(&bridge.ns)?;
    let is_own = |dev: IfName, link: &LinkState| dev == bridge.dev || link.master == Some(bridge.dev);
    let found = node.links.iter().filter(|(dev, link)| link.mac == Some(mac) && is_own(**dev, link));
    // The bridge has the address of one of its ports; the port says more.
    let dev = found.map(|(dev, _)| *dev).max_by_key(|dev| *dev != bridge.dev)?;
    Some(Endpoint { ns: bridge.ns.clone(), dev })
}

fn has(snapshot: &Snapshot, end: &Endpoint, mac: MacAddr) -> bool {
    link_at(snapshot, end).is_some_and(|link| link.mac == Some(mac))
}
