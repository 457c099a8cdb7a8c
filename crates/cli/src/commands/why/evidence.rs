//! What was seen beside the packet itself: questions for neighbours, rules that decided, counters, and the
//! kernel's word for why it dropped the packet.

use std::collections::BTreeMap;

use hopyard::explain::{End, Hop, Packet, Reason};
use hopyard::kernel::nftables::{Decided, TraceStep};
use hopyard::kernel::{Part, rights};
use hopyard::net::{Chain, NodeState};
use hopyard::runtime::why::{Seen, SeenAt, Traced};

use super::words::text_of;

/// What the firewall did with it: what dropped it, or which rules let it pass. That a policy did is told where nobody
/// could say so before; that an address was translated stands there already.
fn traces(at: &SeenAt, hop: &Hop, node: Option<&NodeState>, back: bool) -> Vec<String> {
    let reason = match &hop.end {
        Some(End::Dropped(reason)) => Some(reason),
        _ => None,
    };
    let undecided = matches!(reason, Some(Reason::Undecided(_)));
    match &at.traced {
        Traced::Refused(error) if undecided || matches!(reason, Some(Reason::Firewall { .. })) => {
            return vec![format!("not traced: {}", error.answer())];
        }
        _ => {}
    }
    let rules = node.and_then(|node| node.firewall.as_ref());
    if let Some(end) = at.traced.end_of(Part::on_way(back)) {
        // What the model says too stands there already.
        let is_shown = matches!(reason, Some(Reason::Firewall { rule, .. }) if *rule == end.rule);
        return vec![traced(end, node.filter(|_| !is_shown))];
    }
    let translates = |step: &TraceStep| {
        let is_it = |it: &&Chain| (&it.family, &it.table, &it.name) == (&step.family, &step.table, &step.chain);
        let chain = rules.and_then(|rules| rules.chains.iter().find(is_it));
        chain.and_then(|chain| chain.base.as_ref()).is_some_and(|base| base.kind == "nat")
    };
    let tells = |step: &&TraceStep| match step.decided {
        Decided::Accept => (step.rule.is_some() || undecided) && !translates(step),
        Decided::Taken => true,
        Decided::Drop | Decided::On => false,
    };
    at.traced.of(Part::on_way(back)).filter(tells).map(|step| traced(step, node)).collect()
}

/// `traced: handle 4 of inet fw forward accepts it: tcp dport 22 accept`.
fn traced(step: &TraceStep, node: Option<&NodeState>) -> String {
    let TraceStep { family, table, chain, rule, decided, .. } = step;
    let by = rule.map_or_else(|| "the policy".to_owned(), |handle| format!("handle {handle}"));
    let text = node.and_then(|node| text_of(node, step)).map_or_else(String::new, |text| format!(": {text}"));
    let verb = match decided {
        Decided::Accept => "accepts it",
        Decided::Drop => "drops it",
        Decided::On => "lets it go on",
        Decided::Taken => "takes it away",
    };
    format!("traced: {by} of {family} {table} {chain} {verb}{text}")
}

/// What speaks about a hop beside the packet, in the order in which it happened. Counters and reasons to drop: where
/// it ends.
pub(super) fn beside(seen: &Seen, hop: &Hop, node: Option<&NodeState>, packet: &Packet, back: bool) -> Vec<String> {
    let at = &seen.at(&hop.node);
    let traces = traces(at, hop, node, back);
    let Some(End::Dropped(reason)) = &hop.end else { return traces };
    let mut parts: Vec<String> = asked(at, reason).into_iter().chain(traces).collect();
    if hop.input.is_some() {
        let counters = at.counters.iter().flatten().filter(|(name, _)| is_about(name, reason, packet));
        parts.extend(counters.map(|(name, more)| format!("{name} +{more}")));
    }
    let lost = at.lost.iter().filter(|lost| lost.part == Part::on_way(back));
    parts.extend(lost.map(|lost| format!("drop {}", lost.reason)));
    // Root is used to be told. Others never are, nor is who is root in a user namespace alone.
    let is_root = || rights::is_privileged() && rights::is_in_first_user_namespace();
    let untold = seen.no_reasons.as_ref().filter(|_| is_root());
    parts.extend(untold.map(|error| format!("the kernel does not say why: {}", error.answer())));
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
