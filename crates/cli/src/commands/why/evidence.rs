//! What was seen beside the packet itself: questions for neighbours, and counters.

use std::collections::BTreeMap;

use hopyard::explain::{End, Hop, Packet, Reason};
use hopyard::runtime::why::SeenAt;

/// What speaks about a hop where a packet ends, in the order in which it happened.
pub(super) fn beside(at: &SeenAt, hop: &Hop, packet: &Packet) -> Vec<String> {
    let Some(End::Dropped(reason)) = &hop.end else { return Vec::new() };
    let mut parts: Vec<String> = asked(at, reason).into_iter().collect();
    if hop.input.is_some() {
        let counters = at.counters.iter().flatten().filter(|(name, _)| is_about(name, reason, packet));
        parts.extend(counters.map(|(name, more)| format!("{name} +{more}")));
    }
    parts
}

/// Does nothing tell that a reply was lost? Whoever looks for it in the counters finds none.
pub(super) fn is_silent(at: &SeenAt, hop: &Hop, packet: &Packet) -> bool {
    let Some(End::Dropped(reason)) = &hop.end else { return false };
    let moved = |counters: &BTreeMap<String, u64>| counters.keys().any(|name| is_about(name, reason, packet));
    hop.input.is_none() && at.reply.went.is_none() && at.counters.as_ref().is_some_and(|counters| !moved(counters))
}

/// Can a counter have moved because of the packet? Other packets of the lab are counted too.
fn is_about(counter: &str, reason: &Reason, packet: &Packet) -> bool {
    let six = counter.starts_with("Ip6") || counter.starts_with("Udp6");
    match reason {
        // Interfaces drop for many reasons; these are about what is between them.
        Reason::MtuMismatch { .. } | Reason::NoCarrier { .. } | Reason::LinkDown(_) => counter.ends_with("dropped"),
        _ => !counter.ends_with("dropped") && six == packet.dst.is_ipv6() || counter.starts_with("Tcp"),
    }
}

/// `asked who has 10.0.2.9, nobody answers`.
fn asked(at: &SeenAt, reason: &Reason) -> Option<String> {
    let (Reason::NeighbourUnresolved { addr, .. }
    | Reason::ArpRefused { addr, .. }
    | Reason::WrongMask { addr, .. }
    | Reason::DuplicateAddress { addr, .. }) = reason
    else {
        return None;
    };
    let asking = at.asked.get(addr)?;
    let answers: Vec<String> = asking.answers.iter().map(ToString::to_string).collect();
    let what = match answers.as_slice() {
        [] if asking.times > 1 => format!("{} times, nobody answers", asking.times),
        [] => "nobody answers".to_owned(),
        [one] => format!("{one} answers"),
        all => format!("{} answer", all.join(" and ")),
    };
    Some(format!("asked who has {addr}: {what}"))
}
