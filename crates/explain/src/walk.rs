//! A packet's way, hop by hop, each with the thing that decides.

mod arrival;
mod next_hop;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use hopyard_net::{
    Endpoint, Family, FibAction, FibRoute, Hook, IfName, LinkState, Mtu, NextHop, NodeState, NsName, RouteKind,
    Snapshot, SysctlKey,
};
use serde::Serialize;

use crate::filter::{self, Kept, Level, Mark, Passed, Seen, Stopped};
use crate::forwarding::{forwards, not_forwarding};
use crate::header::{Content, Frame};
use crate::lookup::{self, Disbelief, Found, Question, known};
use crate::packet::is_link_local;
use crate::twins::Spoken;
use crate::{Packet, Protocol, Reason, no_single_node, segment};
use next_hop::learnt;

/// A packet's way through the nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Walk {
    /// The packet, with the source that it got.
    pub packet: Packet,
    /// Where it was, in order; never empty.
    pub hops: Vec<Hop>,
    /// Another one of equal routes would have led to another end, and which is taken is not known.
    pub by_chance: bool,
    /// The nodes that have translated it.
    #[serde(skip)]
    pub translations: Vec<Translated>,
}

/// A node that has translated a packet, and will translate what answers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Translated {
    /// The node.
    pub node: NsName,
    /// As the packet came to it, or as its own kernel made it.
    pub before: Packet,
    /// As it left.
    pub after: Packet,
}

impl Translated {
    /// Does a packet answer the one that left?
    fn is_answered_by(&self, packet: &Packet) -> bool {
        Some(packet.dst) == self.after.src
            && packet.src == Some(self.after.dst)
            && packet.destination_port == self.after.source_port
            && packet.source_port == self.after.destination_port
    }
}

/// What one node did with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hop {
    /// The node.
    pub node: NsName,
    /// Where it came in; `None`: it begins here.
    pub input: Option<IfName>,
    /// What is left of its life when it leaves, or ends here.
    pub ttl: u8,
    /// The route that decides.
    pub route: Option<FibRoute>,
    /// Where it goes on, or would.
    pub next: Option<NextHop>,
    /// Where it comes to, if it does.
    pub to: Option<Endpoint>,
    /// Its end, if it is here.
    pub end: Option<End>,
    /// The packet as it came.
    #[serde(skip)]
    pub came: Packet,
    /// As it was when the node looked for a route.
    #[serde(skip)]
    pub routed: Packet,
    /// As it left.
    #[serde(skip)]
    pub sent: Packet,
    /// What the node has marked it with before it looked for a route.
    #[serde(skip)]
    pub mark: u32,
    /// The switches that it crosses behind the node.
    #[serde(skip)]
    pub crossed: Vec<NsName>,
}

impl Hop {
    /// Does it go on by a way that the node has learnt by a redirect, and no route of its tables has?
    pub fn is_redirected(&self) -> bool {
        let routes = self.route.as_ref().map_or(&[][..], FibRoute::next_hops);
        self.next.as_ref().is_some_and(|next| !routes.is_empty() && !routes.contains(next))
    }
}

/// How it ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// Where it should.
    Delivered,
    /// Somewhere else.
    Dropped(Reason),
}

/// Which of several equal routes a node takes for a packet to an address that came in there (`None`: its own), as far as
/// somebody has asked it. A packet that goes in a circle may be sent on another way the second time.
pub type Choices = BTreeMap<(NsName, Option<IfName>, IpAddr), NextHop>;

impl Walk {
    /// Why it does not arrive; `None`: it does.
    pub fn reason(&self) -> Option<&Reason> {
        match &self.hops.last()?.end {
            Some(End::Dropped(reason)) => Some(reason),
            _ => None,
        }
    }

    /// The last hop.
    pub fn last(&self) -> Option<&Hop> {
        self.hops.last()
    }

    /// Does it arrive?
    pub fn arrives(&self) -> bool {
        self.hops.last().is_some_and(|hop| hop.end == Some(End::Delivered))
    }

    /// Does the network do its part: does it arrive, if only to find that nothing waits for it?
    pub fn is_carried(&self) -> bool {
        self.arrives() || matches!(self.reason(), Some(Reason::NoListener { .. } | Reason::WrongBindAddress { .. }))
    }

    /// Do both arrive, or end in the same place for the same reason?
    pub(crate) fn ends_like(&self, other: &Walk) -> bool {
        let place = |walk: &Walk| walk.last().map(|hop| (hop.node.clone(), hop.end.clone()));
        self.arrives() && other.arrives() || place(self) == place(other)
    }

    /// Is it open whether it does?
    pub fn is_undecided(&self) -> bool {
        self.by_chance || self.reason().is_some_and(Reason::is_undecided)
    }

    /// What it leaves behind. A node that is asked for its address remembers who has asked.
    pub fn trace(&self, snapshot: &Snapshot) -> Trace {
        let mut trace = Trace {
            nodes: self.hops.iter().flat_map(|hop| [&hop.node].into_iter().chain(&hop.crossed)).cloned().collect(),
            learnt: BTreeMap::new(),
            spoken: BTreeSet::new(),
            translations: self.translations.clone(),
        };
        for hop in &self.hops {
            if let (Some(to), Some(next)) = (&hop.to, &hop.next) {
                trace.learnt.extend(learnt(snapshot, &hop.node, next, &hop.sent, to));
                trace.spoken.insert((Endpoint { ns: hop.node.clone(), dev: next.dev }, to.clone()));
            }
        }
        trace
    }

    /// The nodes that it comes to, in order.
    pub fn nodes(&self) -> impl Iterator<Item = &NsName> {
        self.hops.iter().map(|hop| &hop.node)
    }
}

/// What a packet on its way has changed, and its answer finds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// The nodes that have seen it.
    pub nodes: BTreeSet<NsName>,
    /// Who has learnt, by being asked, where an address is on one of its links.
    pub learnt: BTreeMap<(Endpoint, IpAddr), Endpoint>,
    /// The interfaces by which it was sent, each with the one that it came to: the switches between know where the first is.
    pub spoken: BTreeSet<(Endpoint, Endpoint)>,
    /// Who has translated it, and how.
    pub translations: Vec<Translated>,
}

/// Walks a packet from a node to its end.
///
/// `wanted` is where it should end; `None`: wherever its destination is. `before` is what the packet
/// left behind that this one answers.
pub fn walk(
    snapshot: &Snapshot,
    from: &NsName,
    packet: Packet,
    wanted: Option<&NsName>,
    before: &Trace,
    choices: &Choices,
) -> Walk {
    walk_with(snapshot, from, packet, wanted, (before, true), choices)
}

/// The same. `before`: also whether a node that is asked by ARP or neighbour discovery learns who asks.
pub(crate) fn walk_with(
    snapshot: &Snapshot,
    from: &NsName,
    packet: Packet,
    wanted: Option<&NsName>,
    (before, learns): (&Trace, bool),
    choices: &Choices,
) -> Walk {
    let walker = Walker { snapshot, wanted, before, learns, choices };
    let mut budget = BRANCHES;
    let state = State {
        packet,
        at: from.clone(),
        input: None,
        hops: Vec::new(),
        been: BTreeSet::new(),
        learnt: before.learnt.clone(),
        spoken: before.spoken.clone(),
        translations: Vec::new(),
        answers: None,
        came: packet,
        frame: None,
        kept: Kept::default(),
        shown: None,
    };
    walker.go(state, &mut budget)
}

/// Where a packet that a node sends on by a way comes to, for one whose path has taught nobody anything.
pub(crate) fn step(snapshot: &Snapshot, at: &NsName, by: &NextHop, dst: IpAddr) -> Result<Endpoint, Reason> {
    let (before, choices) = (Trace::default(), Choices::new());
    let walker = Walker { snapshot, wanted: None, before: &before, learns: true, choices: &choices };
    let Some((node, link)) = snapshot.nodes.get(at).and_then(|node| Some((node, node.links.get(&by.dev)?))) else {
        return Err(Reason::Undecided(format!("there is no interface {}", by.dev)));
    };
    let packet = Packet::probe(dst, Protocol::Icmp, 0);
    let state = State {
        packet,
        at: at.clone(),
        input: None,
        hops: Vec::new(),
        been: BTreeSet::new(),
        learnt: BTreeMap::new(),
        spoken: BTreeSet::new(),
        translations: Vec::new(),
        answers: None,
        came: packet,
        frame: None,
        kept: Kept::default(),
        shown: None,
    };
    walker.deliver_frame(node, &state, by, link).map(|(end, _)| end)
}

/// So many ways are tried where several are equal.
pub(crate) const BRANCHES: usize = 512;

struct Walker<'a> {
    snapshot: &'a Snapshot,
    wanted: Option<&'a NsName>,
    before: &'a Trace,
    learns: bool,
    choices: &'a Choices,
}

#[derive(Clone)]
struct State {
    packet: Packet,
    at: NsName,
    input: Option<IfName>,
    hops: Vec<Hop>,
    been: BTreeSet<(NsName, Option<IfName>)>,
    learnt: BTreeMap<(Endpoint, IpAddr), Endpoint>,
    spoken: Spoken,
    translations: Vec<Translated>,
    /// The translation at this node of what this packet answers.
    answers: Option<Translated>,
    /// How it came to this node: the packet, and its frame.
    came: Packet,
    frame: Option<Frame>,
    /// What this node has put on it.
    kept: Kept,
    /// As the chain saw it that has dropped it.
    shown: Option<Packet>,
}

/// What a node does with a packet before it looks for the neighbour.
enum Routed<'a> {
    Here(&'a FibRoute),
    On(&'a FibRoute),
    Ends(Reason, Option<&'a FibRoute>, Option<NextHop>),
}

impl Walker<'_> {
    fn go(&self, mut state: State, budget: &mut usize) -> Walk {
        loop {
            let mut hop = Hop {
                node: state.at.clone(),
                input: state.input,
                ttl: state.packet.ttl,
                route: None,
                next: None,
                to: None,
                end: None,
                came: state.packet,
                routed: state.packet,
                sent: state.packet,
                mark: 0,
                crossed: Vec::new(),
            };
            let answered = self.before.translations.iter().rev();
            state.answers = answered
                .filter(|it| state.packet.reply && it.node == state.at)
                .find(|it| it.is_answered_by(&state.packet))
                .cloned();
            let ended = |mut state: State, hop: Hop, end: End| {
                state.hops.push(Hop { end: Some(end), ..hop });
                Walk { packet: state.packet, hops: state.hops, by_chance: false, translations: state.translations }
            };
            let dropped = |state: State, hop: Hop, reason: Reason| ended(state, hop, End::Dropped(reason));
            let Some(node) = self.snapshot.nodes.get(&state.at) else {
                return dropped(state, hop, Reason::Undecided("the node is not in the snapshot".to_owned()));
            };
            if !state.been.insert((state.at.clone(), state.input)) {
                let circle = circle(&state.hops, &state.at, state.input);
                return dropped(state, hop, Reason::Loop(circle));
            }
            let mut routed = self.route(node, &mut state);
            if let Routed::On(route) = routed
                && self.finds_its_source(node, &mut state, route)
            {
                routed = self.route(node, &mut state);
            }
            (hop.routed, hop.sent) = (state.packet, state.shown.unwrap_or(state.packet));
            if let Mark::Known(mark) = state.kept.mark {
                hop.mark = mark;
            }
            let (route, hops) = match routed {
                Routed::Ends(reason, route, next) => {
                    hop.route = route.cloned();
                    hop.next = next;
                    return dropped(state, hop, reason);
                }
                Routed::Here(route) => {
                    hop.route = Some(route.clone());
                    // What is translated to the node itself is translated back as the answer leaves.
                    if state.input.is_some() && hop.came.ends() != state.packet.ends() {
                        let (before, after) = (hop.came, state.packet);
                        state.translations.push(Translated { node: state.at.clone(), before, after });
                    }
                    let end = self.deliver(node, &state).map_or(End::Delivered, End::Dropped);
                    return ended(state, hop, end);
                }
                Routed::On(route) => (route, self.ways(node, &state, route)),
            };
            hop.route = Some(route.clone());
            let [one] = hops.as_slice() else {
                return self.branch(&state, &hop, node, &hops, budget);
            };
            match self.leave(node, &mut state, hop, one) {
                Ok(()) => {}
                Err(walk) => return *walk,
            }
        }
    }

    /// Equal ways: all are tried. If they end alike, the first stands for all.
    fn branch(&self, state: &State, hop: &Hop, node: &NodeState, hops: &[&NextHop], budget: &mut usize) -> Walk {
        let mut first: Option<Walk> = None;
        for one in hops {
            *budget = budget.saturating_sub(1);
            let mut state = state.clone();
            let walk = match self.leave(node, &mut state, hop.clone(), one) {
                Ok(()) if *budget > 0 => self.go(state, budget),
                Ok(()) => {
                    let reason = Reason::Undecided("too many equal ways".to_owned());
                    let end = Some(End::Dropped(reason));
                    let hops = vec![Hop { end, ..hop.clone() }];
                    Walk { packet: state.packet, hops, by_chance: true, translations: state.translations }
                }
                Err(walk) => *walk,
            };
            match &mut first {
                None => first = Some(walk),
                Some(first) if first.ends_like(&walk) => first.by_chance |= walk.by_chance,
                Some(first) => {
                    // The one that fails is the one to show; that of the network rather than a service.
                    if first.is_carried() {
                        *first = walk;
                    }
                    first.by_chance = true;
                }
            }
        }
        first.unwrap_or_else(|| {
            let end = Some(End::Dropped(Reason::Undecided("a route without a way on".to_owned())));
            let mut hops = state.hops.clone();
            hops.push(Hop { end, ..hop.clone() });
            Walk { packet: state.packet, hops, by_chance: false, translations: state.translations.clone() }
        })
    }

    /// The routing decision, with what comes before and behind it in the node.
    fn route<'n>(&self, node: &'n NodeState, state: &mut State) -> Routed<'n> {
        let family = state.packet.family();
        let input = state.input;
        if let Some(dev) = input {
            if let Some(what) =
                node.links.get(&dev).filter(|_| family == Family::Ipv6).and_then(|link| no_ipv6(dev, link))
            {
                return Routed::Ends(Reason::Undecided(what), None, None);
            }
            for (level, hook) in [(Level::Device, Hook::Ingress), (Level::Ip, Hook::Prerouting)] {
                if let Some(reason) = self.filter(node, state, level, hook, Some(dev), None) {
                    return Routed::Ends(reason, None, None);
                }
            }
        }
        let packet = state.packet;
        if input.is_none() && is_link_local(packet.dst) {
            let what = "a link-local address is another one on each interface".to_owned();
            return Routed::Ends(Reason::Undecided(what), None, None);
        }
        if let Some(what) = no_single_node(packet.dst) {
            return Routed::Ends(Reason::Undecided(format!("{} {what}", packet.dst)), None, None);
        }
        let found = lookup::find(node, &Question { mark: state.kept.mark, ..Question::of(&packet, input) });
        if let Found::Beyond(what) = found {
            return Routed::Ends(Reason::Undecided(what), None, None);
        }
        if let (Found::Route(route), Some(dev)) = (&found, input)
            && route.action == FibAction::Local
            && let Some(reason) = disbelief(node, &packet, dev, None)
        {
            return Routed::Ends(reason, Some(route), None);
        }
        if let Found::Route(route) = found
            && route.action == FibAction::Local
        {
            if input.is_none() && packet.src.is_none() {
                state.packet.src = lookup::source(node, route, None, packet.dst);
            }
            return Routed::Here(route);
        }
        // An IPv6 packet without a route is answered before anybody asks whether to forward it.
        let refuses = |found: &Found<'n>| match found {
            Found::Route(route) => match &route.action {
                FibAction::Route(RouteKind::Unicast(_)) => None,
                FibAction::Group => {
                    let what = format!("{} is for a group of nodes", packet.dst);
                    Some((Reason::Undecided(what), Some(*route)))
                }
                _ => Some((Reason::RouteRefuses((*route).clone()), Some(*route))),
            },
            Found::Refused(rule) => Some((Reason::PolicyRule(Box::new((*rule).clone())), None)),
            Found::Nothing | Found::Beyond(_) => {
                let known = known(node, family);
                Some((Reason::NoRoute { known, down: self.down_towards(node, &state.at, packet.dst) }, None))
            }
        };
        if let Some(dev) = input
            && (family == Family::Ipv4 || refuses(&found).is_none())
            && !forwards(node, family, dev)
        {
            let route = if let Found::Route(route) = found { Some(route) } else { None };
            let next = route.and_then(|route| route.next_hops().first()).cloned();
            let sender = state.hops.last().and_then(|hop| hop.next.as_ref());
            let taken_for_it = sender.is_some_and(|next| next.via.is_none());
            let reason = not_forwarding(node, family, taken_for_it, dev, next.as_ref().map(|next| next.dev));
            return Routed::Ends(reason, route, next);
        }
        if let Some((reason, route)) = refuses(&found) {
            return Routed::Ends(reason, route, None);
        }
        let Found::Route(route) = found else {
            return Routed::Ends(Reason::Undecided("the tables".to_owned()), None, None);
        };
        if let Some(dev) = input.filter(|dev| passes_on_by_itself(node, state, *dev, route)) {
            let what =
                format!("the bridge {dev} translates it, and passes it on by itself (bridge-nf); that is not followed");
            return Routed::Ends(Reason::Undecided(what), Some(route), None);
        }
        Routed::On(route)
    }

    /// A TCP connection gets its source by a first route, and is then routed again, from there (`ip_route_connect()`,
    /// `ip6_dst_lookup_flow()`). Has it got one now?
    fn finds_its_source(&self, node: &NodeState, state: &mut State, route: &FibRoute) -> bool {
        let packet = state.packet;
        if packet.protocol != Protocol::Tcp || packet.src.is_some() || state.input.is_some() {
            return false;
        }
        let mut sources: Vec<_> = self
            .ways(node, state, route)
            .into_iter()
            .map(|hop| lookup::source(node, route, Some(hop), packet.dst))
            .collect();
        sources.dedup();
        // Which of several it gets only the kernel knows.
        if let [Some(src)] = sources[..] {
            state.packet.src = Some(src);
        }
        state.packet.src.is_some()
    }

    /// The ways on that a packet may take here.
    fn ways<'r>(&self, node: &'r NodeState, state: &State, route: &'r FibRoute) -> Vec<&'r NextHop> {
        let dst = state.packet.dst;
        let learnt = |hop: &'r NextHop| -> &'r NextHop {
            lookup::redirect(node, route, hop, dst).filter(|_| self.learns).unwrap_or(hop)
        };
        let mut hops = lookup::usable_hops(node, route);
        if let Some(chosen) = self.choices.get(&(state.at.clone(), state.input, dst)) {
            let is_chosen = |hop: &&'r NextHop| *hop == chosen || learnt(hop) == chosen;
            if hops.iter().any(is_chosen) {
                hops.retain(is_chosen);
            }
        }
        hops.into_iter().map(learnt).collect()
    }

    /// Sends it on by one way; the state is then at the next node.
    fn leave(&self, node: &NodeState, state: &mut State, mut hop: Hop, by: &NextHop) -> Result<(), Box<Walk>> {
        let stop = |state: &State, hop: Hop, reason: Reason| {
            let mut hops = state.hops.clone();
            let sent = state.shown.unwrap_or(hop.sent);
            hops.push(Hop { end: Some(End::Dropped(reason)), sent, ..hop });
            let translations = state.translations.clone();
            Err(Box::new(Walk { packet: state.packet, hops, by_chance: false, translations }))
        };
        hop.next = Some(by.clone());
        if let Some(input) = state.input {
            if let Some(reason) = disbelief(node, &state.packet, input, Some(by.dev)) {
                return stop(state, hop, reason);
            }
            if state.packet.src.is_some_and(is_link_local) {
                return stop(state, hop, Reason::SourceAddress);
            }
            if state.packet.ttl <= 1 {
                return stop(state, hop, Reason::TtlExpired);
            }
            state.packet.ttl -= 1;
            hop.ttl = state.packet.ttl;
        } else {
            let route = hop.route.as_ref();
            let usual = || match state.packet.family() {
                Family::Ipv4 => node.habits.map(|habits| habits.ttl),
                Family::Ipv6 => node.links.get(&by.dev).and_then(|link| link.ipv6.hop_limit),
            };
            if let Some(limit) = route.and_then(|route| route.hop_limit).or_else(usual) {
                state.packet.ttl = limit;
                hop.ttl = limit;
            }
            if state.packet.src.is_none() {
                state.packet.src = route.and_then(|route| lookup::source(node, route, Some(by), state.packet.dst));
            }
            // Now that its source is known.
            (hop.came, hop.routed, hop.sent) = (state.packet, state.packet, state.packet);
            if state.packet.src.is_none() && state.packet.family() == Family::Ipv6 {
                return stop(state, hop, Reason::SourceAddress);
            }
            // Its source is known by now, whatever becomes of it.
            (hop.came, hop.routed) = (state.packet, state.packet);
            let of_loopback = state.packet.src.is_some_and(|src| src.is_ipv4() && src.is_loopback());
            if of_loopback && by.dev != IfName::LO {
                return stop(state, hop, Reason::SourceAddress);
            }
        }
        let Some(link) = node.links.get(&by.dev) else {
            return stop(state, hop, Reason::Undecided(format!("there is no interface {}", by.dev)));
        };
        // What a route has is for what is sent on: a sender that looks for the size that gets through does not ask it.
        let of_route = hop.route.as_ref().and_then(|route| route.mtu).filter(|_| state.input.is_some());
        // IPv4 goes by that alone (`ip_dst_mtu_maybe_forward()`).
        let mtu = match state.packet.family() {
            Family::Ipv4 => of_route.unwrap_or(link.mtu),
            Family::Ipv6 => of_route.map_or(link.mtu, |mtu| mtu.min(link.mtu)),
        };
        if state.packet.length > mtu && state.packet.may_fragment {
            // The largest of its pieces.
            state.packet.length = mtu;
        }
        if state.packet.length > mtu {
            let reason = self.too_long(state, by.dev, mtu);
            return stop(state, hop, reason);
        }
        let hook = if state.input.is_some() { Hook::Forward } else { Hook::Output };
        for hook in [hook, Hook::Postrouting] {
            if let Some(reason) = self.filter(node, state, Level::Ip, hook, state.input, Some(by)) {
                return stop(state, hop, reason);
            }
            // A mark on the node's own packets may lead them elsewhere.
            let by_mark = || {
                let family = state.packet.family();
                node.rules.iter().any(|rule| rule.family == family && rule.mark.is_some())
            };
            if hook == Hook::Output && state.kept.mark != Mark::default() && by_mark() {
                let what = "its firewall marks it, and the mark decides about its way".to_owned();
                return stop(state, hop, Reason::Undecided(what));
            }
        }
        hop.sent = state.packet;
        let (before, after) = (hop.came, hop.sent);
        let ends = |it: &Packet| (it.src, it.dst, it.source_port, it.destination_port);
        if ends(&before) != ends(&after) {
            state.translations.push(Translated { node: state.at.clone(), before, after });
        }
        match self.deliver_frame(node, state, by, link) {
            Err(reason) => stop(state, hop, reason),
            Ok((to, crossed)) => {
                if self.learns {
                    state.learnt.extend(learnt(self.snapshot, &state.at, by, &state.packet, &to));
                }
                state.spoken.insert((Endpoint { ns: state.at.clone(), dev: by.dev }, to.clone()));
                let mac = segment::link_at(self.snapshot, &to).and_then(|link| link.mac);
                state.frame = Some(Frame::between(link.mac, mac));
                // What a node puts on a packet does not leave it.
                state.kept = Kept::default();
                hop.to = Some(to.clone());
                hop.crossed = crossed;
                state.hops.push(hop);
                state.came = state.packet;
                state.at = to.ns;
                state.input = Some(to.dev);
                Ok(())
            }
        }
    }

    /// A packet that does not fit and may not be cut. A router says so to the sender; does that arrive?
    fn too_long(&self, state: &State, dev: IfName, mtu: u32) -> Reason {
        let told = Reason::TooBig { dev, mtu };
        // The sender itself is told by its own kernel.
        let (Some(error), Some(sender), true) = (state.packet.too_big(), state.hops.first(), state.input.is_some())
        else {
            return told;
        };
        if !state.translations.is_empty() {
            // Who translates back what the error quotes, is not followed.
            return told;
        }
        let mut before = self.before.clone();
        before.nodes.extend(state.hops.iter().flat_map(|hop| [&hop.node].into_iter().chain(&hop.crossed)).cloned());
        before.nodes.insert(state.at.clone());
        before.learnt.extend(state.learnt.clone());
        before.spoken.extend(state.spoken.clone());
        let before = (&before, self.learns);
        let walk = walk_with(self.snapshot, &state.at, error, Some(&sender.node), before, self.choices);
        match (walk.reason(), walk.last()) {
            (Some(why), Some(last)) if !walk.is_undecided() => {
                let (lost, why, error) = (last.node.clone(), Box::new(why.clone()), Box::new(last.sent));
                Reason::PmtudBlackhole { dev, mtu, lost, why, error }
            }
            _ => told,
        }
    }

    /// Runs the chains of a hook; the packet may be another one then.
    fn filter(
        &self,
        node: &NodeState,
        state: &mut State,
        level: Level,
        hook: Hook,
        input: Option<IfName>,
        output: Option<&NextHop>,
    ) -> Option<Reason> {
        let knows_connection = self.before.nodes.contains(&state.at);
        let packet = state.packet;
        // What belongs to a translated connection is translated back: its destination as it comes, its source as
        // it leaves.
        let answers = state.answers.as_ref().filter(|_| level == Level::Ip);
        let translated = answers.and_then(|it| match hook {
            Hook::Prerouting => Some(Packet { dst: it.before.src?, destination_port: it.before.source_port, ..packet }),
            Hook::Postrouting => {
                Some(Packet { src: Some(it.before.dst), source_port: it.before.destination_port, ..packet })
            }
            _ => None,
        });
        let next = output.map(|by| by.via.unwrap_or(packet.dst));
        let output = output.map(|by| by.dev);
        // The frame that it came in is there until it leaves by another one.
        let frame = state.frame.filter(|_| hook != Hook::Egress);
        let is_translated = Self::is_translated(state);
        let content = Content::Packet(&packet);
        let kept = state.kept;
        let seen =
            Seen { node, content, frame, input, output, next, knows_connection, translated, is_translated, kept };
        match filter::check(level, hook, seen) {
            Ok(Passed { packet, kept }) => {
                state.packet = packet.unwrap_or(state.packet);
                state.kept = kept;
                None
            }
            Err(stopped) => {
                let Stopped { reason, packet } = *stopped;
                state.shown = packet;
                Some(reason)
            }
        }
    }

    /// Are source and destination of its connection translated at this node, as far as it has come?
    fn is_translated(state: &State) -> (bool, bool) {
        let (before, after) = match &state.answers {
            Some(it) => (it.before, it.after),
            None => (state.came, state.packet),
        };
        let source = (before.src, before.source_port) != (after.src, after.source_port);
        let destination = (before.dst, before.destination_port) != (after.dst, after.destination_port);
        (source && before.src.is_some(), destination)
    }

    /// An interface that is down and would lead to the destination, where none that is up does.
    fn down_towards(&self, node: &NodeState, at: &NsName, dst: IpAddr) -> Option<IfName> {
        let owner = segment::owners(self.snapshot, dst).into_iter().next()?;
        let distances = segment::distances(self.snapshot, &owner.ns);
        let own = distances.get(at)?;
        let leads = |dev: IfName| {
            let ends = segment::segment(self.snapshot, &Endpoint { ns: at.clone(), dev }, true).ends;
            ends.keys().any(|end| distances.get(&end.ns).is_some_and(|there| there < own))
        };
        let mut towards = node.links.iter().filter(|(dev, _)| **dev != IfName::LO && leads(**dev));
        let first = towards.next()?;
        let all_down = !first.1.up && towards.all(|(_, link)| !link.up);
        all_down.then_some(*first.0)
    }
}

/// Is it for another host at the bridge by which it came, now that it is translated? Then it does not come to the routing
/// of a bridge that lets rules about packets see frames: `br_nf_pre_routing_finish()` (net/bridge/br_netfilter_hooks.c) gives
/// it back to the bridge, which sends nothing out by the port that it came in by.
fn passes_on_by_itself(node: &NodeState, state: &State, dev: IfName, route: &FibRoute) -> bool {
    let family = state.packet.family();
    let sees = |link: &LinkState| {
        link.kind == hopyard_net::LinkKind::Bridge
            && (link.bridge_nf.of(family) || node.bridge_nf.is_some_and(|all| all.of(family)))
    };
    state.came.dst != state.packet.dst
        && route.next_hops().iter().any(|next| next.dev == dev)
        && node.links.get(&dev).is_some_and(sees)
}

fn disbelief(node: &NodeState, packet: &Packet, input: IfName, output: Option<IfName>) -> Option<Reason> {
    lookup::check_source(node, packet, input, output).map(|disbelief| match disbelief {
        Disbelief::OwnAddress => Reason::LocalSource,
        Disbelief::NoWayBack { strict, back_by } => Reason::RpFilter { strict, back_by },
        Disbelief::Beyond(what) => Reason::Undecided(what),
    })
}

/// The nodes of the circle that closes here.
fn circle(hops: &[Hop], at: &NsName, input: Option<IfName>) -> Vec<NsName> {
    let start = hops.iter().position(|hop| hop.node == *at && hop.input == input).unwrap_or_default();
    hops[start..].iter().map(|hop| hop.node.clone()).collect()
}

/// Why an interface drops what comes in of IPv6, if it has no part in it.
fn no_ipv6(dev: IfName, link: &LinkState) -> Option<String> {
    if link.ipv6.disabled {
        return Some(format!("IPv6 is off at {dev} ({} = 1)", SysctlKey::disable_ipv6(dev)));
    }
    // RFC 8200, section 5; who knows its neighbour from before sends all the same.
    let least = Mtu::IPV6_MIN;
    (link.mtu < least.get()).then(|| format!("{dev} has no IPv6, for its MTU of {} is below {least}", link.mtu))
}
