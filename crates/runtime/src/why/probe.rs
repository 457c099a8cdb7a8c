//! One marked packet, and where it was seen.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};

use hopyard_explain::{Outcome, Packet, Protocol, Query, Reason, Verdict, Walk};
use hopyard_kernel::counters::{Counted, Counters};
use hopyard_kernel::drops::{Beginning, DropWatch};
use hopyard_kernel::tap::{Mark, Sight, Sighting};
use hopyard_kernel::{KernelError, Part, World};
use hopyard_net::{FibAction, IfName, MacAddr, NsName, Snapshot};

use super::Disagreement;
use super::volley::{Range, Shot};
use super::witness::{self, Asked, Lost, Traced};
use crate::error::{Error, IoContext};

/// What was seen of a probe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The error number with which the sender's kernel refused to send it.
    pub refused: Option<i32>,
    /// The answer came through to the sender's socket, past its firewall. Not of a UDP datagram.
    pub answered: bool,
    /// By node.
    pub nodes: BTreeMap<NsName, SeenAt>,
    /// Why the kernel does not say for which reason it drops a packet; `None`: it does.
    pub no_reasons: Option<KernelError>,
}

/// What was seen at one node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeenAt {
    /// The packet.
    pub packet: Passing,
    /// Its answer, or a TCP reset in its place.
    pub reply: Passing,
    /// A TCP reset came out or in.
    pub reset: bool,
    /// ICMP errors that came in or went out: who sent each, its type and its code.
    pub errors: BTreeSet<(IpAddr, u8, u8)>,
    /// The ICMP error that the node itself sent about the packet.
    pub complained: Option<(u8, u8)>,
    /// The one about its answer.
    pub complained_back: Option<(u8, u8)>,
    /// Who was asked for while the packet was on its way, by the address.
    pub asked: BTreeMap<IpAddr, Asking>,
    /// The counters of what is not sent on that went up meanwhile, and by how much. `None`: nobody looked.
    pub counters: Option<BTreeMap<String, u64>>,
    /// What its firewall decided.
    pub traced: Traced,
    /// What its kernel dropped, and why.
    pub lost: Vec<Lost>,
}

/// A node that looks for a neighbour.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asking {
    /// So often it asked.
    pub times: u32,
    /// The Ethernet addresses of those that answered.
    pub answers: BTreeSet<MacAddr>,
}

/// How a packet passed a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passing {
    /// It came in, with so many hops left.
    pub came: Option<u8>,
    /// It went out, with so many hops left.
    pub went: Option<u8>,
}

impl Seen {
    /// What was seen at a node.
    pub fn at(&self, node: &NsName) -> SeenAt {
        self.nodes.get(node).cloned().unwrap_or_default()
    }

    /// Did the packet do what was asked? A UDP datagram has to arrive; whether somebody answers is the
    /// program's matter.
    pub fn reached(&self, query: &Query, target: Option<&NsName>) -> bool {
        let at_source = self.at(&query.from);
        // Somebody else may have answered.
        let arrived = target.is_some_and(|target| self.at(target).packet.came.is_some());
        arrived
            && match query.packet.protocol {
                Protocol::Icmp | Protocol::Tcp => self.answered && !at_source.reset,
                Protocol::Udp => at_source.errors.is_empty(),
            }
    }
}

/// A probe of which it is not yet known where it will go: what needs nothing else, and some milliseconds, is done beside.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// What no other probe has.
    token: [u8; 8],
    /// For which reason the kernel drops it.
    watch: Beginning,
    /// Are the firewalls asked?
    pub(super) trace: bool,
}

impl Prepared {
    pub(super) fn start(packet: &Packet, trace: bool) -> Self {
        let salt = [crate::ping::salt(), crate::ping::salt().rotate_left(16)].map(u32::to_be_bytes);
        let mut token = [0; 8];
        token[..4].copy_from_slice(&salt[0]);
        token[4..].copy_from_slice(&salt[1]);
        Prepared { token, watch: DropWatch::begin_beside(mark(packet, packet, token)), trace }
    }
}

/// Sends the packet of a query and watches it.
pub(super) fn probe(
    world: &World,
    snapshot: &Snapshot,
    query: &Query,
    verdict: &Verdict,
    target: Option<&NsName>,
    prepared: Prepared,
) -> Result<Seen, Error> {
    let Prepared { token, watch, trace } = prepared;
    let mut shot = [Shot::new(query, verdict, target, mark_of(query, verdict, token))];
    let nodes: BTreeSet<&NsName> = snapshot.nodes.keys().filter(|node| shot[0].passes(node)).collect();
    let namespaces: Vec<OwnedFd> = nodes.iter().map(|node| world.ns_fd(node)).collect::<Result<_, _>>()?;
    let borrowed: Vec<_> = namespaces.iter().map(AsFd::as_fd).collect();
    let counting = || "read the counters of the nodes".to_owned();
    let counters = Counters::open_all(world.realm(), &borrowed).context(counting)?;
    let before: Vec<Counted> = counters.iter().map(Counters::read).collect::<Result<_, _>>().context(counting)?;
    Range::default().fire(world, snapshot, &mut shot, Asked { trace, watch: Some(watch) })?;
    let [Shot { mut seen, .. }] = shot;
    for ((node, counters), before) in nodes.into_iter().zip(&counters).zip(before) {
        let mut after = counters.read().context(counting)?;
        for (name, value) in &mut after {
            *value = value.saturating_sub(before.get(name).copied().unwrap_or_default());
        }
        after.retain(|_, value| *value > 0);
        seen.nodes.entry(node.clone()).or_default().counters = Some(after);
    }
    if seen.answered
        && let Some(source) = seen.nodes.get_mut(&query.from)
    {
        // It came through to our socket; what is dropped is the copy for a program, and none waits for it.
        source.lost.retain(|lost| lost.part != Part::Reply);
    }
    Ok(seen)
}

/// What a probe is known by.
pub(super) fn mark_of(query: &Query, verdict: &Verdict, token: [u8; 8]) -> Mark {
    // As it is when it leaves: on its way it may have become smaller.
    let src = verdict.there.hops.first().and_then(|hop| hop.routed.src);
    mark(&Packet { src, ..query.packet }, &verdict.there.packet, token)
}

fn mark(packet: &Packet, last: &Packet, token: [u8; 8]) -> Mark {
    Mark {
        protocol: packet.protocol.number(packet.family()),
        src: packet.src,
        dst: packet.dst,
        source_port: packet.source_port,
        destination_port: packet.destination_port,
        becomes: (last.dst, last.destination_port),
        token,
        length: packet.length,
    }
}

/// Notes that something was seen at a node.
pub(super) fn note(seen: &mut Seen, snapshot: &Snapshot, node: &NsName, sighting: &Sighting) {
    // What a node sends to itself passes `lo`, out and in again.
    let own = snapshot.nodes.get(node).and_then(|node| node.links.get(&IfName::LO));
    let through_lo = own.is_some_and(|lo| lo.index == sighting.index);
    // A switch shows each frame at the port and at the bridge; any of them will do.
    let at = seen.nodes.entry(node.clone()).or_default();
    let passing = match sighting.what {
        Sight::Request => &mut at.packet,
        Sight::Reply => &mut at.reply,
        Sight::Reset => {
            at.reset = true;
            &mut at.reply
        }
        Sight::WhoHas(addr) => {
            // It goes to all; who asks is the one that sends it.
            if sighting.out {
                at.asked.entry(addr).or_default().times += 1;
            }
            return;
        }
        Sight::IsAt(addr, mac) => {
            if let Some(asking) = at.asked.get_mut(&addr).filter(|_| !sighting.out) {
                asking.answers.insert(mac);
            }
            return;
        }
        Sight::Error { by, kind, code, about_reply } => {
            at.errors.insert((by, kind, code));
            let is_own = |link: &hopyard_net::LinkState| link.addresses.iter().any(|own| own.net.addr() == by);
            let by_itself = snapshot.nodes.get(node).is_some_and(|node| node.links.values().any(is_own));
            if sighting.out && by_itself {
                let complained = if about_reply { &mut at.complained_back } else { &mut at.complained };
                *complained = Some((kind, code));
            }
            return;
        }
    };
    if sighting.out {
        passing.went = Some(sighting.ttl);
    } else {
        passing.came = Some(sighting.ttl);
    }
    // An answer of a node to itself goes both ways at once.
    if through_lo && sighting.out {
        passing.came.get_or_insert(sighting.ttl);
    }
}

/// Where what was seen and what the model says differ.
pub(super) fn compare(query: &Query, verdict: &Verdict, target: Option<&NsName>, seen: &Seen) -> Vec<Disagreement> {
    let mut found = witness::compare(verdict, seen);
    let model = match verdict.outcome() {
        // Neither of two answers is wrong.
        Outcome::Undecided => return found,
        outcome => outcome == Outcome::Yes,
    };
    let reached = seen.reached(query, target);
    // Nobody needs to answer a datagram; where it was seen is all there is.
    if query.packet.protocol != Protocol::Udp && model != reached {
        found.push(Disagreement::Reached { model, seen: reached });
    }
    let there = place(&verdict.there, |node| seen.at(node).packet);
    found.extend(there.map(|(model, seen)| Disagreement::Place { back: false, model, seen }));
    if verdict.there.arrives()
        && query.packet.protocol != Protocol::Udp
        && let Some(back) = &verdict.back
    {
        let back = place(back, |node| seen.at(node).reply);
        found.extend(back.map(|(model, seen)| Disagreement::Place { back: true, model, seen }));
    }
    if !found.is_empty() {
        found.extend([false, true].into_iter().flat_map(|back| witness::beside(verdict, back, seen)));
    }
    found
}

/// The node at which the model has the packet end and the one where it was last seen, if they differ.
fn place(walk: &Walk, passing: impl Fn(&NsName) -> Passing) -> Option<(NsName, Option<NsName>)> {
    let last = walk.last()?;
    // What a node sends to itself goes through `lo`, out and in again.
    if walk.hops.len() == 1 && last.route.as_ref().is_some_and(|route| route.action == FibAction::Local) {
        return None;
    }
    // It leaves the node, and is lost on the wire; or it goes round, and comes and goes everywhere.
    let lost = matches!(
        walk.reason(),
        Some(
            Reason::MtuMismatch { .. }
                | Reason::WrongNeighbour { .. }
                | Reason::DuplicateMac { .. }
                | Reason::NoCarrier { .. }
                | Reason::FrameDropped { asking: None, .. }
                | Reason::Loop(_)
                | Reason::TtlExpired
        )
    );
    let came = |at: usize, node: &NsName| if at == 0 { Some(0) } else { passing(node).came };
    let reached = walk.hops.iter().enumerate().rfind(|(at, hop)| came(*at, &hop.node).is_some());
    let (_, furthest) = reached?;
    if furthest.node != last.node {
        return Some((last.node.clone(), Some(furthest.node.clone())));
    }
    let before = walk.hops.iter().filter(|hop| hop.node == last.node).count() > 1;
    let left = !walk.arrives() && !lost && !before && passing(&last.node).went.is_some();
    left.then(|| (last.node.clone(), None))
}
