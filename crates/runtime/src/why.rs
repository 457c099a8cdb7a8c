//! Why one node does not reach another: what the model computes from a snapshot, what each node's
//! own kernel answers, and where the two differ.

mod elsewhere;
mod fix;
mod forbidden;
mod many;
mod probe;
mod recorded;
mod volley;
mod witness;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

pub use elsewhere::{Elsewhere, Place, Probing};
pub use fix::{Fixed, fix};
pub use forbidden::Forbidden;
pub use probe::{Asking, Passing, Seen, SeenAt};
pub use recorded::{Network, computed, main_addresses, record};
pub use witness::{Lost, Traced};

use hopyard_explain::{
    Choices, End, Hop, Outcome, Packet, Protocol, Query, Reason, Repair, Trouble, Verdict, Walk, behind, explain,
    repair,
};
use hopyard_kernel::nftables::TraceStep;
use hopyard_kernel::{RouteAnswer, SnapshotScope, World};
use hopyard_net::{Family, NextHop, NsName, Op, Redirect, Snapshot};
use hopyard_plan::Wanted;

use crate::attach::Attachments;
use crate::check::comes_through;
use crate::error::Error;
use crate::running::Running;
pub(crate) use many::{examine_all, with_habits};
use probe::Prepared;

/// What a node's kernel says of one hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// On the way back?
    pub back: bool,
    /// Which hop of it.
    pub hop: usize,
    /// Its answer.
    pub answer: RouteAnswer,
}

/// Where the model and other evidence differ. Never hidden: one of them is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Disagreement {
    /// A node's kernel would do something else.
    Routing {
        /// On the way back?
        back: bool,
        /// The node.
        node: NsName,
        /// What its kernel says.
        answer: RouteAnswer,
    },
    /// The sender's kernel would choose another source address.
    Source {
        /// What the model chooses.
        model: Option<IpAddr>,
        /// What the kernel chooses.
        kernel: IpAddr,
    },
    /// The probe was answered and should not have been, or the other way round.
    Reached {
        /// What the model says.
        model: bool,
        /// What was seen.
        seen: bool,
    },
    /// It ended elsewhere.
    Place {
        /// On the way back?
        back: bool,
        /// Where the model has it end.
        model: NsName,
        /// Where it was seen last; `None`: it went on from there.
        seen: Option<NsName>,
    },
    /// A firewall did something else with it.
    Firewall {
        /// On the way back?
        back: bool,
        /// The node.
        node: NsName,
        /// What dropped it there; `None`: nothing did.
        stopped: Option<TraceStep>,
    },
}

/// All that is known about a packet and its answer.
#[derive(Clone, Debug)]
pub struct Report {
    /// What was asked.
    pub query: Query,
    /// What the model says.
    pub verdict: Verdict,
    /// What the nodes' kernels say.
    pub asked: Vec<Asked>,
    /// What was seen of a probe; `None`: none was sent.
    pub seen: Option<Seen>,
    /// Where they differ.
    pub disagreements: Vec<Disagreement>,
    /// What makes it work; `None` where nothing is wrong, nothing was found, or what the file forbids would come of it.
    pub repair: Option<Repair>,
    /// What the lab's file forbids of it.
    pub forbidden: Forbidden,
    /// The node that has the destination address.
    pub owner: Option<NsName>,
    /// What all of it was computed from.
    pub snapshot: Arc<Snapshot>,
}

impl Report {
    /// What comes of it: by the model, and where that leaves it open, by what was seen.
    pub fn outcome(&self) -> Outcome {
        match (self.verdict.outcome(), &self.seen) {
            (Outcome::Undecided, Some(seen)) if seen.reached(&self.query, self.owner.as_ref()) && self.is_shown() => {
                Outcome::Yes
            }
            (Outcome::Undecided, Some(seen)) if self.is_answered_from_beyond(seen) => Outcome::Yes,
            (Outcome::Undecided, Some(_)) if self.settled().is_some() => Outcome::No,
            // That it did not arrive once does not say that it never does.
            (outcome, _) => outcome,
        }
    }

    /// Was it seen to leave what is known, and its answer to come back? From whom, nobody here can tell.
    fn is_answered_from_beyond(&self, seen: &Seen) -> bool {
        let Some(Trouble { node, reason: Reason::LeavesKnown { .. }, back: false }) = self.verdict.trouble() else {
            return false;
        };
        let source = seen.at(&self.query.from);
        let is_answered = match self.query.packet.protocol {
            Protocol::Icmp | Protocol::Tcp => seen.answered && !source.reset,
            Protocol::Udp => source.reply.came.is_some(),
        };
        self.owner.is_none() && seen.at(&node).packet.went.is_some() && is_answered
    }

    /// Does the packet come through, whether or not something waits for it? `None`: not known.
    pub fn comes_through(&self) -> Option<bool> {
        comes_through(&self.query, &self.verdict, self.outcome(), false).filter(|_| self.disagreements.is_empty())
    }

    /// Does a probe that has arrived show what the model leaves open? A datagram is seen no further than the interface by
    /// which it comes to its end, and need not be answered.
    fn is_shown(&self) -> bool {
        let Verdict { there, back } = &self.verdict;
        let before_its_end = there.is_undecided() && there.last().map(|hop| &hop.node) != self.owner.as_ref();
        let and_back = back.as_ref().is_some_and(|back| back.arrives() && !back.is_undecided());
        self.query.packet.protocol != Protocol::Udp || before_its_end && and_back
    }

    /// The first thing that is wrong: by the model, and where that does not know, by what the firewall did.
    pub fn trouble(&self) -> Option<Trouble> {
        let settled = (self.outcome() == Outcome::No).then(|| self.settled()).flatten();
        settled.or_else(|| self.verdict.trouble())
    }

    fn settled(&self) -> Option<Trouble> {
        witness::settle(self, &self.verdict.trouble()?)
    }
}

/// What is done beside computing and asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sending {
    /// Nothing.
    Nothing,
    /// One packet is sent, and watched.
    Probe,
    /// The same, but no firewall tells of it: that takes a table in each node that has one, for a moment.
    Untraced,
}

/// `true`: a probe, with all that tell of it.
impl From<bool> for Sending {
    fn from(probe: bool) -> Self {
        if probe { Sending::Probe } else { Sending::Nothing }
    }
}

impl Sending {
    fn prepare(self, packet: &Packet) -> Option<Prepared> {
        (self != Sending::Nothing).then(|| Prepared::start(packet, self == Sending::Probe))
    }
}

/// Looks into it. The port that a packet comes from is chosen anew each time, as that of a client is.
///
/// # Errors
/// [`Error::NoSuchNode`], [`Error::IsSwitch`], or the lab cannot be read.
pub fn why(
    running: &Running,
    from: &str,
    packet: Packet,
    wanted: Option<NsName>,
    sending: impl Into<Sending>,
) -> Result<Report, Error> {
    let query = question(running.node(from)?, packet, wanted);
    let probe = sending.into().prepare(&query.packet);
    let mut world = running.world()?;
    let snapshot = world.snapshot(&SnapshotScope::default())?;
    let (mut report, choices) = examine(&mut world, snapshot, query, |_| probe)?;
    let expected = forbidden::line(&running.contents()?.lab, &report);
    report.forbidden.by = expected.filter(|(_, reaches)| !reaches).map(|(at, _)| at);
    if report.forbidden.by.is_none() && report.verdict.outcome() != Outcome::Yes {
        let drift = drift(running, &mut world)?;
        report.repair = mend(&world, &report, &choices, &drift)?;
        if let Some(repair) = &report.repair {
            report.forbidden.spoilt = forbidden::spoilt(running, &world, &report.snapshot, repair)?;
        }
        let may_spoil = report.forbidden.spoilt.is_empty() || expected.is_some();
        report.repair = report.repair.filter(|_| may_spoil);
    }
    Ok(report)
}

/// A question from a port of those that Linux gives to clients, and not that of the question before: where its answer was
/// lost, somebody may still wait for the rest of that connection, or translate it as it was translated then.
pub(crate) fn question(from: NsName, mut packet: Packet, wanted: Option<NsName>) -> Query {
    /// The default of `ip_local_port_range`, as ip(7) has it.
    const PORTS: std::ops::RangeInclusive<u16> = 32_768..=60_999;
    if packet.protocol != Protocol::Icmp {
        let spread = u32::from(PORTS.end() - PORTS.start()) + 1;
        packet.source_port = PORTS.start() + u16::try_from(crate::ping::salt() % spread).unwrap_or_default();
    }
    Query { from, packet, wanted }
}

/// The same in any namespaces, of which nothing was declared. `probe` says whether a packet may be sent, when it is known
/// where it would go.
fn look_into(
    world: &mut World,
    snapshot: Snapshot,
    query: Query,
    probe: impl FnOnce(&Verdict) -> Option<Prepared>,
) -> Result<Report, Error> {
    let (mut report, choices) = examine(world, snapshot, query, probe)?;
    if report.verdict.outcome() != Outcome::Yes {
        report.repair = mend(world, &report, &choices, &[])?;
    }
    Ok(report)
}

/// The same without a repair.
fn examine(
    world: &mut World,
    mut snapshot: Snapshot,
    query: Query,
    probe: impl FnOnce(&Verdict) -> Option<Prepared>,
) -> Result<(Report, Choices), Error> {
    add_listeners(world, &mut snapshot, &query)?;
    let mut computed = compute(world, &snapshot, query)?;
    while learn_redirects(&mut snapshot, &computed.verdict, &computed.asked) {
        computed = compute(world, &snapshot, computed.query)?;
    }
    let Computed { query, verdict, choices, .. } = &computed;
    let (target, choices) = (computed.target(), choices.clone());
    let mut seen = None;
    if let Some(prepared) = probe(verdict) {
        let trace = prepared.trace;
        let send = |prepared| probe::probe(world, &snapshot, query, verdict, target, prepared).map_err(Error::of_probe);
        let mut probed = send(prepared)?;
        let mut differ = probe::compare(query, verdict, target, &probed);
        if !differ.is_empty() && was_given_up(&snapshot, verdict, &probed) {
            probed = send(Prepared::start(&query.packet, trace))?;
            differ = probe::compare(query, verdict, target, &probed);
        }
        computed.disagreements.extend(differ);
        seen = Some(probed);
    }
    Ok((computed.report(seen, Arc::new(snapshot)), choices))
}

/// What can be said before a packet is sent.
struct Computed {
    query: Query,
    verdict: Verdict,
    choices: Choices,
    asked: Vec<Asked>,
    disagreements: Vec<Disagreement>,
    owner: Option<NsName>,
}

/// Walks the packet, and asks the nodes' kernels.
fn compute(world: &mut World, snapshot: &Snapshot, mut query: Query) -> Result<Computed, Error> {
    query.packet.src = source(world, snapshot, &query)?;
    let (verdict, choices) = follow(world, snapshot, &query)?;
    let mut disagreements = Vec::new();
    let asked = ask(world, &verdict, &mut disagreements)?;
    let owner = query.owner(snapshot);
    Ok(Computed { query, verdict, choices, asked, disagreements, owner })
}

impl Computed {
    /// Where the packet should arrive.
    fn target(&self) -> Option<&NsName> {
        let there = &self.verdict.there;
        there.last().filter(|_| there.arrives()).map(|hop| &hop.node).or(self.owner.as_ref())
    }

    fn report(self, seen: Option<Seen>, snapshot: Arc<Snapshot>) -> Report {
        let Computed { query, verdict, choices: _, asked, disagreements, owner } = self;
        Report {
            query,
            verdict,
            asked,
            seen,
            disagreements,
            repair: None,
            forbidden: Forbidden::default(),
            owner,
            snapshot,
        }
    }
}

/// Did the probe end where a node had to ask for a neighbour, and did not? When it has asked in vain, it gives up three
/// seconds later, with all packets that wait for that neighbour, also those that came last; of the next one it asks anew.
fn was_given_up(snapshot: &Snapshot, verdict: &Verdict, seen: &Seen) -> bool {
    let walks = std::iter::once((&verdict.there, false)).chain(verdict.back.iter().map(|back| (back, true)));
    let mut hops = walks.flat_map(|(walk, back)| walk.hops.iter().map(move |hop| (hop, back)));
    hops.any(|(hop, back)| {
        let (Some(next), None, Some(node)) = (&hop.next, &hop.end, snapshot.nodes.get(&hop.node)) else { return false };
        let at = seen.at(&hop.node);
        let passing = if back { at.reply } else { at.packet };
        let addr = next.via.unwrap_or(hop.sent.dst);
        let is_known = node.neighbours.iter().any(|it| it.dev == next.dev && it.addr == addr);
        // The answer begins where the packet came.
        let begins = hop.input.is_none() && (!back || at.packet.came.is_some());
        let came = passing.came.is_some() || begins;
        came && passing.went.is_none() && !is_known && !at.asked.contains_key(&addr)
    })
}

/// Looks for a repair of the network as it is now: from a probe, nodes have learnt who has which address.
fn mend(world: &World, report: &Report, choices: &Choices, drift: &[Op]) -> Result<Option<Repair>, Error> {
    let Report { snapshot, query, .. } = report;
    if report.seen.is_some() {
        let mut now = world.snapshot(&SnapshotScope::default())?;
        for (name, node) in &mut now.nodes {
            let Some(before) = snapshot.nodes.get(name) else { continue };
            node.listeners.clone_from(&before.listeners);
            node.habits = before.habits;
        }
        // It may work by chance, and not the next time.
        if explain(&now, query, choices).outcome() != Outcome::Yes {
            return Ok(repair(&now, query, choices, drift));
        }
    }
    Ok(repair(snapshot, query, choices, drift))
}

/// Notes the ways that kernels have learnt by redirects and only tell who asks for them: one that was not taken yet is not
/// among the routes. Was there one?
fn learn_redirects(snapshot: &mut Snapshot, verdict: &Verdict, asked: &[Asked]) -> bool {
    let mut is_new = false;
    for Asked { back, hop, answer } in asked {
        let walk = if *back { verdict.back.as_ref() } else { Some(&verdict.there) };
        let Some(hop) = walk.and_then(|walk| walk.hops.get(*hop)) else { continue };
        let (Some(route), Some(node)) = (&hop.route, snapshot.nodes.get_mut(&hop.node)) else { continue };
        let RouteAnswer::On { dev, via, redirected: true, .. } = answer else { continue };
        let hop_on = NextHop { via: *via, dev: *dev, weight: 1 };
        let redirect = Redirect { table: route.key.table, dst: hop.routed.dst, hop: hop_on };
        if hop.next.as_ref() != Some(&redirect.hop) && !node.redirects.contains(&redirect) {
            // The last one counts.
            node.redirects.retain(|it| (it.table, it.dst, it.hop.dev) != (redirect.table, redirect.dst, *dev));
            node.redirects.push(redirect);
            is_new = true;
        }
    }
    is_new
}

/// Adds how the nodes send and answer between which the packet goes; and who listens where it ends, if that matters.
fn add_listeners(world: &World, snapshot: &mut Snapshot, query: &Query) -> Result<(), Error> {
    let ends: BTreeSet<NsName> = query.owner(snapshot).into_iter().chain([query.from.clone()]).collect();
    for (name, habits) in world.habits(&ends)? {
        snapshot.nodes.entry(name).or_default().habits = Some(habits);
    }
    if query.packet.protocol == Protocol::Icmp {
        return Ok(());
    }
    // Where it ends is not known before it is walked.
    let verdict = explain(snapshot, query, &Choices::new());
    let mut ends: BTreeSet<NsName> = verdict.there.last().map(|hop| hop.node.clone()).into_iter().collect();
    ends.extend(query.owner(snapshot));
    // Who translates may hide the one that is meant.
    ends.extend(verdict.there.last().map(|hop| behind(snapshot, &hop.node)).unwrap_or_default().into_keys());
    for (name, listeners) in world.listeners(&ends)? {
        snapshot.nodes.entry(name).or_default().listeners = Some(listeners);
    }
    Ok(())
}

/// What would have to be done to make the network as it was declared.
fn drift(running: &Running, world: &mut World) -> Result<Vec<Op>, Error> {
    // A topology that came up can be planned.
    let Wanted { mut state, .. } = crate::wanted::desired(&running.contents()?.lab).map_err(Error::Plan)?;
    let mut found = running.observe(world, &state)?;
    // What is a container's own was not declared. Where that has taken a name of the lab's, what was declared cannot be.
    match Attachments::read(running.dir())?.set_aside(&mut found, &mut state) {
        Ok(()) => Ok(hopyard_plan::diff(&found, &state)),
        Err(_) => Ok(Vec::new()),
    }
}

/// The source of a TCP connection, where several routes would give it different ones.
fn source(world: &mut World, snapshot: &Snapshot, query: &Query) -> Result<Option<IpAddr>, Error> {
    let verdict = explain(snapshot, query, &Choices::new());
    match verdict.there.hops.first() {
        Some(hop) if query.packet.protocol == Protocol::Tcp && several(hop) => {
            match ask_hop(world, &query.packet, hop, false)? {
                RouteAnswer::On { src, .. } => Ok(src),
                _ => Ok(None),
            }
        }
        _ => Ok(None),
    }
}

/// Walks the packet, asking the kernel wherever several routes are equal which one it takes.
fn follow(world: &mut World, snapshot: &Snapshot, query: &Query) -> Result<(Verdict, Choices), Error> {
    /// More equal routes on one path than any lab has.
    const QUESTIONS: usize = 255;
    let mut choices = Choices::new();
    let mut momentary = BTreeSet::new();
    for _ in 0..QUESTIONS {
        let verdict = explain(snapshot, query, &choices);
        let walks = std::iter::once((&verdict.there, false)).chain(verdict.back.iter().map(|back| (back, true)));
        let mut open = walks.flat_map(|(walk, back)| walk.hops.iter().map(move |hop| (hop.routed, hop, back)));
        let open = open.find(|(packet, hop, _)| {
            let key = (hop.node.clone(), hop.input, packet.dst);
            is_known_choice(hop, packet) && !choices.contains_key(&key) && !momentary.contains(&key)
        });
        let Some((packet, hop, back)) = open else { return Ok((verdict, choices)) };
        let answer = ask_hop(world, &packet, hop, back)?;
        let hops = hop.route.iter().flat_map(hopyard_net::FibRoute::next_hops);
        let taken = |it: &&NextHop| matches!(&answer, RouteAnswer::On { dev, via, redirected, .. } if *dev == it.dev && (*via == it.via || *redirected));
        // An answer that is none of them shows as a disagreement.
        let chosen = hops.clone().find(taken).or(hops.clone().next()).cloned();
        let Some(chosen) = chosen else { return Ok((verdict, choices)) };
        let key = (hop.node.clone(), hop.input, packet.dst);
        choices.insert(key.clone(), chosen);
        // IPv6 passes over a way whose neighbour has not answered, for as long as that is known: this is no answer for the
        // next packet.
        let fails_here = |walk: &Walk| {
            let unanswered =
                matches!(walk.reason(), Some(Reason::NeighbourUnresolved { .. } | Reason::ArpRefused { .. }));
            unanswered && walk.last().is_some_and(|last| last.node == key.0)
        };
        let verdict = explain(snapshot, query, &choices);
        let walk = if back { verdict.back.as_ref() } else { Some(&verdict.there) };
        if packet.family() == Family::Ipv6 && walk.is_some_and(fails_here) {
            choices.remove(&key);
            momentary.insert(key);
        }
    }
    Ok((explain(snapshot, query, &choices), choices))
}

/// Does a node take one of several routes, and does its kernel say which? In IPv6 that depends on a label
/// which the packet gets when it is sent, and nobody can ask with it. (Of a TCP connection another one than that of a
/// probe.)
fn is_known_choice(hop: &Hop, packet: &Packet) -> bool {
    several(hop)
        && match hop.input {
            None => packet.protocol != Protocol::Tcp || packet.family() == Family::Ipv4,
            Some(_) => packet.family() == Family::Ipv4,
        }
}

fn several(hop: &Hop) -> bool {
    hop.route.as_ref().is_some_and(|route| route.next_hops().len() > 1)
}

fn ask_hop(world: &mut World, packet: &Packet, hop: &Hop, back: bool) -> Result<RouteAnswer, Error> {
    // The sender's kernel chooses the source by itself; an answer has one from the start. A TCP connection is routed twice,
    // once more when it has its source.
    let again = packet.protocol == Protocol::Tcp;
    let from = packet.src.filter(|_| back || hop.input.is_some() || again);
    let ports = (packet.protocol != Protocol::Icmp).then_some((packet.source_port, packet.destination_port));
    let protocol = packet.protocol.number(packet.family());
    Ok(world.ask_route(&hop.node, hop.input, (from, packet.dst), protocol, ports, hop.mark)?)
}

/// Asks every node on both ways, and compares.
fn ask(world: &mut World, verdict: &Verdict, disagreements: &mut Vec<Disagreement>) -> Result<Vec<Asked>, Error> {
    let mut asked = Vec::new();
    // What would be, if the packet arrived, a kernel cannot be asked.
    let back = verdict.back.iter().filter(|_| verdict.there.arrives()).map(|back| (back, true));
    for (walk, back) in std::iter::once((&verdict.there, false)).chain(back) {
        for (at, hop) in walk.hops.iter().enumerate() {
            // The same packet again, in a circle.
            if matches!(&hop.end, Some(End::Dropped(Reason::Loop(_)))) {
                continue;
            }
            let answer = ask_hop(world, &hop.routed, hop, back)?;
            if !agrees(hop, walk.by_chance, &answer, &hop.routed) {
                let node = hop.node.clone();
                disagreements.push(Disagreement::Routing { back, node, answer: answer.clone() });
            }
            // The source that it would choose, it says only if it is asked without one.
            let chooses = match packet_of_connection(hop, back) {
                Some(packet) => ask_hop(world, &packet, hop, back)?,
                None => answer.clone(),
            };
            let is_open = hop.next.is_none() && matches!(&hop.end, Some(End::Dropped(Reason::Undecided(_))));
            if let (RouteAnswer::On { src: Some(kernel), .. }, None, false) = (&chooses, hop.input, back)
                && Some(*kernel) != hop.routed.src
                && !is_open
                && !(hop.routed.protocol == Protocol::Tcp && several(hop))
            {
                disagreements.push(Disagreement::Source { model: hop.routed.src, kernel: *kernel });
            }
            asked.push(Asked { back, hop: at, answer });
        }
    }
    Ok(asked)
}

/// The packet by which a TCP connection gets its source.
fn packet_of_connection(hop: &Hop, back: bool) -> Option<Packet> {
    let own = hop.input.is_none() && !back && hop.routed.protocol == Protocol::Tcp;
    own.then_some(Packet { src: None, ..hop.routed })
}

/// Does the kernel's routing do what the model says? It knows nothing of neighbours, firewalls and sizes. `by_chance`: does the
/// walk leave open which of several ways is taken?
fn agrees(hop: &Hop, by_chance: bool, answer: &RouteAnswer, packet: &Packet) -> bool {
    let family = packet.family();
    // What an IPv6 kernel says of a way whose neighbour does not answer holds for a moment.
    let is_momentary = by_chance && family == Family::Ipv6;
    let reason = match &hop.end {
        Some(End::Dropped(reason)) => Some(reason),
        _ => None,
    };
    match (reason, &hop.next) {
        // What is not understood cannot be wrong; and whether it forwards what comes from a link-local
        // address, nobody says who is asked for a route.
        (Some(Reason::SourceAddress), Some(_)) | (Some(Reason::Undecided(_)), None) => true,
        // Asked for a route, IPv6 does not say whether it would forward.
        (Some(Reason::ForwardingOff { .. } | Reason::NotAnOwner), _) if family == Family::Ipv6 => true,
        (
            Some(
                Reason::NoRoute { .. }
                | Reason::RouteRefuses(_)
                | Reason::PolicyRule(_)
                | Reason::ForwardingOff { .. }
                | Reason::NotAnOwner
                | Reason::RpFilter { .. }
                | Reason::LocalSource
                | Reason::SourceAddress,
            ),
            _,
        ) => matches!(answer, RouteAnswer::Refused(_)),
        (_, Some(_)) if several(hop) && (is_momentary || !is_known_choice(hop, packet)) => {
            let hops = hop.route.iter().flat_map(hopyard_net::FibRoute::next_hops);
            let is =
                |it: &NextHop| matches!(answer, RouteAnswer::On { dev, via, .. } if (*dev, *via) == (it.dev, it.via));
            hops.into_iter().chain(&hop.next).any(is)
        }
        (_, Some(next)) => {
            matches!(answer, RouteAnswer::On { dev, via, .. } if *dev == next.dev && *via == next.via)
        }
        // The firewall may decide before the routing does.
        (Some(Reason::Firewall { .. }), None) if hop.route.is_none() => true,
        (_, None) => *answer == RouteAnswer::Local,
    }
}
