//! What `hop why` prints.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;

use hopyard::explain::{
    ArpRefusal, Behind, Code, Edit, End, Hidden, Hop, Outcome, Protocol, Reason, Repair, Trouble, TwinFate, Verdict,
    Walk, hidden, owner, translators, waiting_behind,
};
use hopyard::kernel::RouteAnswer;
use hopyard::kernel::nftables::TraceStep;
use hopyard::net::{
    Chain, Endpoint, Family, FibAction, FibRoute, NodeState, NsName, Op, PolicyRule, RouteKey, RouteKind, RuleAction,
    Service, without_brackets,
};
use hopyard::runtime::why::{Asked, Disagreement, Report, Seen};

use super::evidence;
use super::onward;
use super::scene::Scene;
use crate::commands::ping::icmp_words;
use crate::commands::up::count;
use crate::error::CliError;
use crate::ui::{ERROR, GOOD, Ui, WARNING};

/// Wider than this a column is not padded.
const WIDEST: usize = 72;

/// `offer`: say how the changes are made.
pub(super) fn print(ui: &mut Ui, report: &Report, scene: &Scene, offer: bool) -> Result<(), CliError> {
    ui.line(headline(report))?;
    let table = Table::of(report);
    for line in table.lines() {
        ui.line(line)?;
    }
    for disagreement in &report.disagreements {
        ui.line(format_args!("{WARNING}contradiction{WARNING:#}: {}", contradiction(report, disagreement)))?;
    }
    if let Some(repair) = &report.repair {
        for line in changes(report, repair, scene) {
            ui.line(line)?;
        }
        let spoilt = spoilt(report, scene);
        if !spoilt.is_empty() {
            ui.line(format_args!("That also lets through what is forbidden here:\n {}", spoilt.join("\n ")))?;
        }
        if offer {
            ways(ui, repair, scene);
        }
    } else if let Some(text) = forbidden(report, scene).or_else(|| no_change(report)) {
        ui.line(text)?;
    }
    if let Some(long) = onward::long_packets(report) {
        ui.line(long.words())?;
        if let Some(command) = long.question(scene) {
            ui.hint(format_args!("`{command}` says how to mend that"));
        }
    }
    scene.remark.as_ref().map_or(Ok(()), |remark| ui.line(remark))
}

/// How changes are made: by hop, and by hand. In a lab they are shown as typed in a node.
fn ways(ui: &mut Ui, repair: &Repair, scene: &Scene) {
    if repair.edits().all(|edit| scene.may_make(edit)) {
        ui.hint("`--fix` makes the changes, and proves them with a packet");
    }
    if scene.lab.is_some() {
        ui.hint("by hand, from here:");
        for command in repair.edits().filter_map(|edit| scene.command_here(edit)) {
            ui.note(format_args!("  {command}"));
        }
    }
}

/// `NO  h1 -> 10.0.2.2 (h2) icmp: h1 has no route to 10.0.2.2`.
pub(super) fn headline(report: &Report) -> String {
    let packet = &report.query.packet;
    let what = match packet.protocol {
        Protocol::Icmp => "icmp".to_owned(),
        protocol => format!("{} port {}", protocol.name(), packet.destination_port),
    };
    let owner = report.owner.as_ref().map_or_else(String::new, |owner| format!(" ({owner})"));
    let (style, word) = match report.outcome() {
        _ if !report.disagreements.is_empty() => (WARNING, "???"),
        Outcome::Yes => (GOOD, "YES"),
        Outcome::No => (ERROR, "NO "),
        Outcome::Undecided => (WARNING, "???"),
    };
    let subject = format!("{} -> {}{owner} {what}", report.query.from, packet.dst);
    format!("{style}{word}{style:#} {subject}: {}", verdict(report))
}

/// What it comes to, in a sentence.
pub(super) fn verdict(report: &Report) -> String {
    match report.trouble() {
        Some(trouble) => {
            if let (Outcome::Yes, Reason::LeavesKnown { by }) = (report.outcome(), &trouble.reason) {
                return format!("it leaves what is known, by {by}, and is answered from beyond");
            }
            let text = sentence(&report.verdict, &trouble);
            if report.outcome() == Outcome::Yes {
                return format!("the probe was answered; {text}");
            }
            if trouble.back { format!("it arrives, but {text}") } else { text }
        }
        None if report.outcome() == Outcome::Undecided => {
            "which of several equal routes is taken decides, and one of them fails".to_owned()
        }
        None if is_unanswered(report) => "it arrives; no answer was seen (a program need not give one)".to_owned(),
        None => {
            let mut nodes: Vec<&NsName> = report.verdict.there.nodes().collect();
            nodes.extend(report.verdict.back.iter().flat_map(Walk::nodes));
            nodes.sort();
            nodes.dedup();
            format!("there and back, {}", count(nodes.len(), "node", "nodes"))
        }
    }
}

/// Was a datagram seen to arrive, and nothing on its way back? A program that reads it may say nothing.
fn is_unanswered(report: &Report) -> bool {
    let Report { query, seen, owner, .. } = report;
    let unanswered = |seen: &Seen| seen.reached(query, owner.as_ref()) && seen.at(&query.from).reply.came.is_none();
    query.packet.protocol == Protocol::Udp && seen.as_ref().is_some_and(unanswered)
}

/// `h2 has no route back to 10.0.1.2`.
pub(in crate::commands) fn sentence(verdict: &Verdict, trouble: &Trouble) -> String {
    let walk = match &verdict.back {
        Some(back) if trouble.back => back,
        _ => &verdict.there,
    };
    let (node, dst) = (&trouble.node, walk.packet.dst);
    let src = walk.packet.src.map_or_else(|| "the sender".to_owned(), |src| src.to_string());
    let to = if trouble.back { format!("back to {dst}") } else { format!("to {dst}") };
    match &trouble.reason {
        Reason::NoRoute { down: Some(dev), .. } => {
            format!("{node} has no route {to}, because its interface {dev} is down")
        }
        Reason::NoRoute { .. } => format!("{node} has no route {to}"),
        Reason::RouteRefuses(route) => {
            let verb = if trouble.reason.kind(false) == Code::Blackhole { "drops" } else { "refuses" };
            format!("{node} {verb} it by its route: {}", kind(route))
        }
        Reason::PolicyRule(rule) => {
            let verb = if rule.action == RuleAction::Blackhole { "drops" } else { "refuses" };
            format!("{node} {verb} it by policy rule {}", rule_text(rule))
        }
        Reason::ForwardingOff { key, .. } => format!("{node} does not forward ({key} = 0)"),
        Reason::NotAnOwner => {
            let before = walk.hops.len().checked_sub(2).and_then(|at| walk.hops.get(at));
            let taken = before.and_then(|hop| Some((&hop.node, hop.next.as_ref()?.via.unwrap_or(dst))));
            match taken {
                Some((other, addr)) => {
                    format!("{other} takes {node} for {addr}, which it is not; and {node} does not forward")
                }
                None => format!("it comes to {node}, which does not have the address {dst}, and does not forward"),
            }
        }
        Reason::RpFilter { back_by, .. } => match (back_by, walk.last().and_then(|hop| hop.input)) {
            (Some(back), Some(input)) => {
                format!(
                    "{node} drops what comes from {src} by {input}, because its own route to {src} is by {back} (rp_filter)"
                )
            }
            (Some(back), None) => format!("{node} drops it, because its own route to {src} is by {back} (rp_filter)"),
            (None, _) => format!("{node} drops what comes from {src}, because it has no route to {src} (rp_filter)"),
        },
        Reason::LocalSource => format!("{node} drops what comes from {src}, because it has that address itself"),
        Reason::LinkDown(dev) => format!("{node}'s interface {dev} is down"),
        Reason::NoCarrier { dev, peer } => match peer {
            Some(peer) => format!("{node}'s interface {dev} has no signal, because {peer} is down"),
            None => format!("{node}'s interface {dev} has no signal"),
        },
        Reason::NeighbourUnresolved { addr, dev, down } => match down {
            Some(down) => format!("nobody answers {node} for {addr} on {dev}; {down} is down"),
            None => format!("nobody answers {node} for {addr} on {dev}"),
        },
        Reason::ArpRefused { addr, by, why, .. } => {
            let why = match why {
                ArpRefusal::RpFilter { .. } => "because its own route to the one who asks is another (rp_filter)",
                ArpRefusal::OwnAddress => "because it has the address of the one who asks itself",
                ArpRefusal::ArpIgnore => "because of arp_ignore",
                ArpRefusal::WrongNeighbour { .. } => {
                    "as its neighbour table has a wrong Ethernet address for the sender"
                }
            };
            format!("{by} does not tell {node} that it has {addr}, {why}")
        }
        Reason::WrongMask { addr, dev, net } => {
            format!("{node} takes {addr} for a neighbour, because its own address on {dev} is {net}")
        }
        Reason::DuplicateAddress { addr, owners } => {
            let owners: Vec<String> = owners.iter().map(ToString::to_string).collect();
            format!("several answer for {addr}: {}; which one gets it is chance", owners.join(", "))
        }
        Reason::DuplicateMac { mac, owners, fate } => {
            let all: Vec<String> = owners.iter().map(ToString::to_string).collect();
            let all = format!("{} have the same Ethernet address, {mac}", all.join(" and "));
            match fate {
                TwinFate::Chance => {
                    format!("{all}: the switch sends a frame for it to the one that spoke last, which is chance")
                }
                TwinFate::OfSender => format!("{all}: the switch passes no frame from one to the other"),
                TwinFate::OfSwitch => format!("{all}: the switch keeps what is for its own"),
            }
        }
        Reason::WrongNeighbour { addr, mac, permanent, leads_to, .. } => {
            let how = if *permanent { "permanent" } else { "learnt" };
            let whose = leads_to
                .as_ref()
                .map_or_else(|| "nobody there has it".to_owned(), |end| format!("it is that of {end}"));
            format!("{node} has a wrong Ethernet address for {addr}, {mac} ({how}): {whose}")
        }
        Reason::Firewall { .. } => format!("the firewall of {node} {}", filtered("it", &trouble.reason)),
        Reason::FrameDropped { by, bridge_nf, asking, why } => {
            let what = match asking {
                None if bridge_nf.is_some() => "it in its bridge".to_owned(),
                None => "its frame".to_owned(),
                Some((addr, false)) => format!("the question of {node} for {addr}"),
                Some((addr, true)) => format!("the answer to {node} about {addr}"),
            };
            let sees = bridge_nf.as_ref().map_or_else(String::new, |key| format!(", which sees frames by {key}"));
            format!("the firewall of {by} {}{sees}", filtered(&what, why))
        }
        Reason::TooBig { dev, mtu } => {
            format!("{} bytes do not fit through {node}'s {dev}, whose MTU is {mtu}", walk.packet.length)
        }
        Reason::PmtudBlackhole { dev, mtu, lost, why, .. } => {
            let code = why.code(true);
            format!(
                "{} bytes do not fit through {node}'s {dev} (MTU {mtu}), and the ICMP error about it ends at {lost} ({code})",
                walk.packet.length
            )
        }
        Reason::MtuMismatch { at, mtu } => {
            format!("{} bytes are more than {at} takes in (MTU {mtu})", walk.packet.length)
        }
        Reason::Loop(nodes) => {
            let mut round: Vec<&str> = nodes.iter().map(NsName::as_str).collect();
            round.extend(nodes.first().map(NsName::as_str));
            format!("it goes round in a circle: {}", round.join(" -> "))
        }
        Reason::TtlExpired => format!("its hops are used up at {node}"),
        Reason::NoListener { others } => {
            let word = walk.packet.protocol.name();
            let mut ports: Vec<u16> = others.iter().map(|it| it.port).collect();
            ports.dedup();
            let listed: Vec<String> = ports.iter().map(ToString::to_string).collect();
            let rest = match listed.as_slice() {
                [] => format!("no {word} port does"),
                [one] => format!("{word} port {one} does"),
                _ => format!("{word} ports {} do", listed.join(", ")),
            };
            format!("nothing listens on port {} of {node} ({rest})", walk.packet.destination_port)
        }
        Reason::WrongBindAddress { listener } => {
            let family = || if listener.family == Family::Ipv4 { "IPv4" } else { "IPv6" }.to_owned();
            let addr = listener.addr.map_or_else(family, |addr| addr.to_string());
            format!("port {} of {node} listens on {addr} only", listener.port)
        }
        Reason::WrongNode { wanted } if trouble.back => format!("the answer to {dst} ends at {node}, not at {wanted}"),
        Reason::WrongNode { wanted } => format!("{dst} leads to {node}, not to {wanted}"),
        Reason::EchoIgnored { key } => format!("{node} is told not to answer pings ({key} = 1)"),
        Reason::SourceAddress if walk.packet.src.is_some() && walk.last().is_some_and(|hop| hop.input.is_none()) => {
            format!("{node} may not send from {src}, which its route says is the source")
        }
        Reason::SourceAddress if walk.packet.src.is_some() => {
            format!("{node} does not forward it, because it comes from the link-local address {src}")
        }
        Reason::SourceAddress => format!("{node} has no address to send from"),
        Reason::LeavesKnown { by } => format!("it leaves what is known, by {by}; what is beyond, nobody here can tell"),
        Reason::Undecided(what) => format!("not known what {node} does: {what}"),
    }
}

/// Rules are named as nft(8) numbers them; who reads them counts lines.
fn by_rule(handle: Option<u64>) -> String {
    handle.map_or_else(|| "the policy".to_owned(), |handle| format!("the rule with handle {handle}"))
}

/// The text of a rule, as long as it fits.
pub(super) fn cut(text: &str) -> String {
    /// A set may have any number of elements.
    const SHOWN: usize = 80;
    text.char_indices().nth(SHOWN).map_or_else(|| text.to_owned(), |(at, _)| format!("{}...", &text[..at]))
}

/// The text of a rule that a kernel has named.
pub(super) fn text_of(node: &NodeState, step: &TraceStep) -> Option<String> {
    let rules = node.firewall.as_ref()?;
    let is_chain = |it: &&Chain| (&it.family, &it.table, &it.name) == (&step.family, &step.table, &step.chain);
    let chain = rules.chains.iter().find(is_chain)?;
    let rule = chain.rules.iter().find(|rule| Some(rule.handle) == step.rule)?;
    Some(cut(&rules.text_in(node, chain, rule))).filter(|text| !text.is_empty())
}

/// `drops it: the rule with handle 2 of chain inet fw forward (forward)`.
fn filtered(what: &str, reason: &Reason) -> String {
    let Reason::Firewall { hook, family, table, chain, rule, rejects, .. } = reason else {
        return format!("drops {what}");
    };
    let verb = if *rejects { "rejects" } else { "drops" };
    let by = by_rule(*rule);
    format!("{verb} {what}: {by} of chain {family} {table} {chain} ({})", hook.name())
}

/// `forward, handle 2: ip protocol icmp drop`.
fn by_what(reason: &Reason) -> String {
    match reason {
        Reason::Firewall { chain, rule: Some(handle), text, .. } => match text.as_deref().unwrap_or_default() {
            "" => format!("{chain}, handle {handle}"),
            text => format!("{chain}, handle {handle}: {}", cut(text)),
        },
        Reason::Firewall { chain, .. } => format!("policy of {chain}"),
        _ => "a rule".to_owned(),
    }
}

/// `blackhole 10.0.3.2/32`, as ip-route(8) shows it.
fn kind(route: &FibRoute) -> String {
    let kind = match &route.action {
        FibAction::Route(RouteKind::Blackhole) => "blackhole",
        FibAction::Route(RouteKind::Unreachable) => "unreachable",
        FibAction::Route(RouteKind::Prohibit) => "prohibit",
        _ => "no way on for",
    };
    format!("{kind} {}", RouteKey { metric: 0, ..route.key.clone() })
}

/// `100: from 10.0.1.2 prohibit`, as ip-rule(8) shows it.
fn rule_text(rule: &PolicyRule) -> String {
    let mut text = format!("{}:", rule.priority);
    let mut add = |word: &str, what: Option<String>| {
        if let Some(what) = what {
            // Writing to a String cannot fail.
            write!(text, " {word}{what}").ok();
        }
    };
    let range = |(first, last): (u16, u16)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    add("", rule.invert.then(|| "not".to_owned()));
    add("from ", Some(rule.from.map_or_else(|| "all".to_owned(), |net| net.to_string())));
    add("to ", rule.to.map(|net| net.to_string()));
    add("iif ", rule.iif.clone());
    add("oif ", rule.oif.clone());
    add("fwmark ", rule.mark.map(|(value, mask)| format!("{value:#x}/{mask:#x}")));
    add("ipproto ", rule.protocol.map(|number| number.to_string()));
    add("sport ", rule.source_port.map(range));
    add("dport ", rule.destination_port.map(range));
    let action = match rule.action {
        RuleAction::Blackhole => "blackhole",
        RuleAction::Unreachable => "unreachable",
        RuleAction::Prohibit => "prohibit",
        RuleAction::Lookup(_) | RuleAction::Goto(_) | RuleAction::Nop => "",
    };
    add("", Some(action.to_owned()).filter(|action| !action.is_empty()));
    text
}

/// The hops, in columns.
struct Table {
    rows: Vec<[String; 4]>,
}

impl Table {
    fn of(report: &Report) -> Self {
        let mut numbers: BTreeMap<NsName, usize> = BTreeMap::new();
        let mut rows = Vec::new();
        for (at, hop) in report.verdict.there.hops.iter().enumerate() {
            let first = if at == 0 { "there" } else { "" };
            rows.push(row(report, &mut numbers, first, false, at, hop));
        }
        match &report.verdict.back {
            Some(back) if report.verdict.there.arrives() => {
                for (at, hop) in back.hops.iter().enumerate() {
                    let first = if at == 0 { "back" } else { "" };
                    rows.push(row(report, &mut numbers, first, true, at, hop));
                }
            }
            _ => rows.push(["back".to_owned(), String::new(), not_reached(report), String::new()]),
        }
        Table { rows }
    }

    fn lines(&self) -> impl Iterator<Item = String> + '_ {
        // What has nothing behind it makes no column wider.
        let filled = |at: usize| self.rows.iter().filter(move |row| row[at + 1..].iter().any(|cell| !cell.is_empty()));
        let widest = |at: usize| filled(at).map(|row| row[at].chars().count()).max().unwrap_or_default();
        let (second, third) = (widest(1), widest(2).min(WIDEST));
        self.rows.iter().map(move |[direction, place, decision, evidence]| {
            let mut line = format!(" {direction:5} {place:second$}  {decision:third$}  {evidence}");
            line.truncate(line.trim_end().len());
            line
        })
    }
}

fn row(
    report: &Report,
    numbers: &mut BTreeMap<NsName, usize>,
    direction: &str,
    back: bool,
    at: usize,
    hop: &Hop,
) -> [String; 4] {
    let next = numbers.len() + 1;
    let number = *numbers.entry(hop.node.clone()).or_insert(next);
    let mut place = format!("{number} {}", hop.node);
    if let Some(dev) = hop.input {
        // Writing to a String cannot fail.
        write!(place, " {dev}").ok();
    }
    let asked = report.asked.iter().find(|it| it.back == back && it.hop == at);
    let mut parts: Vec<String> = asked.and_then(|asked| said(report, hop, asked)).into_iter().collect();
    if let Some(seen) = &report.seen {
        let (here, packet) = (seen.at(&hop.node), &report.query.packet);
        let silent = if back && evidence::is_silent(&here, hop, packet) { " (no drop counter moves)" } else { "" };
        parts.push(format!("{}{silent}", sighting(seen, hop, Family::of(packet.dst), back)));
        let node = report.snapshot.nodes.get(&hop.node);
        parts.extend(evidence::beside(seen, hop, node, packet, back));
    }
    [direction.to_owned(), place, decision(hop), parts.join("; ")]
}

/// What a hop does.
pub(super) fn decision(hop: &Hop) -> String {
    let reason = match &hop.end {
        None => {
            let route = hop.route.as_ref().map_or_else(String::new, |route| route_text(route, hop));
            return translation(hop).map_or(route.clone(), |becomes| format!("{route}, {becomes}"));
        }
        Some(End::Delivered) => return "delivered".to_owned(),
        Some(End::Dropped(reason)) => reason,
    };
    let what = match reason {
        Reason::NoRoute { down: Some(dev), .. } => format!("no route: {dev} is down"),
        Reason::NoRoute { known, .. } if known.is_empty() => "no route: main is empty".to_owned(),
        Reason::NoRoute { known, .. } => {
            /// More are no help.
            const SHOWN: usize = 4;
            let default = |net: &hopyard::net::IpNet| {
                if net.prefix_len() == 0 { "default".to_owned() } else { net.to_string() }
            };
            let mut names: Vec<String> = known.iter().take(SHOWN).map(default).collect();
            if known.len() > SHOWN {
                names.push(format!("{} more", known.len() - SHOWN));
            }
            format!("no route: main has only {}", names.join(", "))
        }
        Reason::RouteRefuses(route) => kind(route),
        Reason::PolicyRule(rule) => format!("policy rule {}", rule.priority),
        Reason::ForwardingOff { by: Some(dev), .. } => format!("forwarding off; would leave by {dev}"),
        Reason::ForwardingOff { by: None, .. } => "forwarding off".to_owned(),
        Reason::NotAnOwner => "not its address".to_owned(),
        Reason::RpFilter { back_by: Some(dev), .. } => format!("rp_filter: the way back is by {dev}"),
        Reason::RpFilter { back_by: None, .. } => "rp_filter: no way back".to_owned(),
        Reason::LocalSource => "the source is its own address".to_owned(),
        Reason::LinkDown(dev) => format!("{dev} is down"),
        Reason::NoCarrier { dev, .. } => format!("{dev} has no signal"),
        Reason::NeighbourUnresolved { addr, dev, .. } => format!("nobody has {addr} on {dev}"),
        Reason::ArpRefused { addr, by, .. } => format!("{by} keeps silent about {addr}"),
        Reason::WrongMask { net, dev, .. } => format!("taken for a neighbour: {net} on {dev}"),
        Reason::DuplicateAddress { owners, .. } => format!("{} answer", owners.len()),
        Reason::DuplicateMac { mac, owners, .. } => format!("{} have {mac}", owners.len()),
        Reason::WrongNeighbour { mac, .. } => format!("the neighbour table says {mac}"),
        Reason::Firewall { .. } => format!("firewall: {}", by_what(reason)),
        Reason::FrameDropped { by, why, .. } => format!("firewall of {by}: {}", by_what(why)),
        Reason::TooBig { dev, mtu } => format!("too long for {dev}: MTU {mtu}"),
        Reason::PmtudBlackhole { dev, mtu, lost, .. } => format!("too long for {dev}: MTU {mtu}; not told, by {lost}"),
        Reason::MtuMismatch { at, mtu } => format!("too long for {at}: MTU {mtu}"),
        Reason::Loop(_) => "was here before".to_owned(),
        Reason::TtlExpired => "no hop left".to_owned(),
        Reason::NoListener { .. } => "nothing listens".to_owned(),
        Reason::WrongBindAddress { .. } => "listens on another address".to_owned(),
        Reason::EchoIgnored { key } => format!("answers no ping: {key} = 1"),
        Reason::WrongNode { wanted } => format!("should be {wanted}"),
        Reason::SourceAddress => "no address to come from".to_owned(),
        Reason::LeavesKnown { by } => format!("leaves what is known by {}", by.dev),
        Reason::Undecided(what) => what.clone(),
    };
    let mark = if reason.is_undecided() { "?" } else { "x" };
    format!("{mark} {what}")
}

/// What a node makes of the addresses of a packet, in the words of nft(8).
pub(super) fn translation(hop: &Hop) -> Option<String> {
    let (came, sent) = (&hop.came, &hop.sent);
    let mut parts = Vec::new();
    if (came.dst, came.destination_port) != (sent.dst, sent.destination_port) {
        let port = came.destination_port != sent.destination_port;
        let to = if port {
            std::net::SocketAddr::new(sent.dst, sent.destination_port).to_string()
        } else {
            sent.dst.to_string()
        };
        parts.push(format!("dnat to {to}"));
    }
    if came.src != sent.src
        && let Some(src) = sent.src
    {
        parts.push(format!("snat to {src}"));
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn route_text(route: &FibRoute, hop: &Hop) -> String {
    let RouteKey { table, .. } = route.key;
    let key = RouteKey { metric: 0, ..route.key.clone() };
    let by = hop.next.as_ref().map_or_else(String::new, |next| format!(" {}", next.of(route.key.family())));
    let told = route.next_hops().first().and_then(|hop| hop.via).filter(|_| hop.is_redirected());
    let why = match told {
        Some(by) => format!(" (learnt by a redirect from {by})"),
        None if route.derived && table == RouteKey::MAIN => " (connected)".to_owned(),
        None => String::new(),
    };
    format!("{key}{by}{why}")
}

/// What the kernel says of it, where that is worth telling.
fn said(report: &Report, hop: &Hop, asked: &Asked) -> Option<String> {
    let differs = report
        .disagreements
        .iter()
        .any(|it| matches!(it, Disagreement::Routing { back, node, .. } if *back == asked.back && *node == hop.node));
    match &asked.answer {
        answer if differs => Some(format!("kernel: {}", answer_words(answer))),
        RouteAnswer::Refused(errno) if hop.input.is_none() || report.seen.is_none() => {
            let name = errno.name().map_or_else(|| errno.to_string(), ToOwned::to_owned);
            Some(format!("kernel: {name}"))
        }
        _ if report.seen.is_none() => Some("kernel agrees".to_owned()),
        _ => None,
    }
}

/// What was seen at a hop.
fn sighting(seen: &Seen, hop: &Hop, family: Family, back: bool) -> String {
    let here = seen.at(&hop.node);
    let (passing, complaint) = if back { (here.reply, here.complained_back) } else { (here.packet, here.complained) };
    let complained =
        |(kind, code): (u8, u8)| format!("arrived; {} answered {}", hop.node, icmp_words(family, kind, code));
    match (hop.input, passing.came, passing.went) {
        (None, _, Some(_)) if back && here.reset => "a reset was sent".to_owned(),
        (None, _, Some(ttl)) => format!("sent, ttl {ttl}"),
        (None, _, None) if back => format!("no reply left {}", hop.node),
        (None, _, None) => "nothing sent".to_owned(),
        (Some(_), None, _) => "not seen".to_owned(),
        (Some(_), Some(ttl), None) if hop.end == Some(End::Delivered) => format!("arrived, ttl {ttl}"),
        (Some(_), Some(_), Some(ttl)) => format!("forwarded, ttl {ttl}"),
        (Some(_), Some(ttl), None) => match (complaint, &hop.end) {
            (Some(complaint), _) => complained(complaint),
            (None, Some(End::Dropped(Reason::NoListener { .. }))) if here.reset => format!("arrived, ttl {ttl}; reset"),
            // It is for that node, whatever is said of what becomes of it there.
            (None, _) if !back && here.reply.went.is_some() => format!("arrived, ttl {ttl}; answered"),
            (None, _) => "arrived, never left".to_owned(),
        },
    }
}

fn answer_words(answer: &RouteAnswer) -> String {
    match answer {
        RouteAnswer::Local => "for itself".to_owned(),
        RouteAnswer::On { dev, via: Some(via), .. } => format!("on by {dev} to {via}"),
        RouteAnswer::On { dev, via: None, .. } => format!("on by {dev}"),
        RouteAnswer::Refused(errno) => format!("{errno}"),
        RouteAnswer::Other => "something else".to_owned(),
    }
}

pub(super) fn contradiction(report: &Report, disagreement: &Disagreement) -> String {
    match disagreement {
        Disagreement::Routing { back, node, answer } => {
            let way = if *back { "on the way back" } else { "on the way there" };
            format!("{way}, the kernel of {node} says: {}", answer_words(answer))
        }
        Disagreement::Source { model, kernel } => {
            let model = model.map_or_else(|| "none".to_owned(), |model| model.to_string());
            format!("the kernel sends from {kernel}, the model from {model}")
        }
        Disagreement::Reached { model: true, .. } => "it should work, and the probe got no answer".to_owned(),
        Disagreement::Reached { model: false, .. } => "it should not work, and the probe was answered".to_owned(),
        Disagreement::Place { back, model, seen } => {
            let what = if *back { "the answer" } else { "the probe" };
            match seen {
                Some(seen) => format!("{what} should end at {model}, and was last seen at {seen}"),
                None => format!("{what} should end at {model}, and went on from there"),
            }
        }
        Disagreement::Firewall { back, node, stopped } => {
            let what = if *back { "the answer" } else { "the probe" };
            match stopped {
                Some(step @ TraceStep { family, table, chain, rule, .. }) => {
                    let by = by_rule(*rule);
                    let text = report.snapshot.nodes.get(node).and_then(|node| text_of(node, step));
                    let text = text.map_or_else(String::new, |text| format!(": {text}"));
                    format!("the firewall of {node} drops {what}, by {by} of chain {family} {table} {chain}{text}")
                }
                None => format!("the firewall of {node} does not drop {what}"),
            }
        }
    }
}

/// What would be of the way back, once the packet comes further.
fn not_reached(report: &Report) -> String {
    // The probe may have got on where the model does not know.
    let came = if report.outcome() == Outcome::Yes { "answered" } else { "not reached" };
    if report.verdict.back.is_none() {
        return came.to_owned();
    }
    let (verdict, when) = match &report.repair {
        None => (&report.verdict, String::new()),
        Some(repair) => {
            // All that the packet needs to arrive.
            let there = repair.stages.iter().take_while(|stage| !stage.trouble.back);
            let when = match there.map(|stage| stage.edits.len()).sum::<usize>() {
                0 | 1 => " once 1 is done".to_owned(),
                2 => " once 1 and 2 are done".to_owned(),
                done => format!(" once 1 to {done} are done"),
            };
            (&repair.next, when)
        }
    };
    let Some(back) = &verdict.back else { return came.to_owned() };
    if let Some(trouble) = verdict.trouble_back() {
        let text = match &trouble.reason {
            // Short: the line says already that it is about the way back.
            Reason::NoRoute { down: None, .. } => format!("{} has no route to {}", trouble.node, back.packet.dst),
            _ => sentence(verdict, &trouble),
        };
        return format!("{came}; computed: {text}");
    }
    let route = back.hops.first().and_then(|hop| Some((hop, hop.route.as_ref()?)));
    let how = route.map_or_else(String::new, |(hop, route)| {
        let via = hop.next.as_ref().and_then(|next| next.of(route.key.family()).via());
        let via = via.map_or_else(String::new, |via| format!(" {via}"));
        format!(" ({}: {}{via})", hop.node, route.key)
    });
    format!("{came}; computed: fine{when}{how}")
}

/// Is it something too much that goes?
fn removes(edit: &Edit) -> bool {
    let Edit::Op(op) = edit else { return false };
    matches!(op, Op::DelRoute { .. } | Op::DelAddr { .. } | Op::DelNeigh { .. } | Op::DelNat(_))
}

fn changes(report: &Report, repair: &Repair, scene: &Scene) -> Vec<String> {
    let edits: Vec<_> = repair.stages.iter().flat_map(|stage| &stage.edits).collect();
    let verb = if edits.len() == 1 { "makes" } else { "make" };
    let number = count(edits.len(), "change", "changes");
    let mut lines = vec![match repair.after.trouble() {
        None => format!("{number} {verb} it work both ways (checked in the model):"),
        Some(_) => format!("{number} {verb} the network carry it both ways (checked in the model):"),
    }];
    let rows: Vec<[String; 3]> = edits
        .iter()
        .map(|(edit, declared)| {
            let place = match &scene.file {
                Some(file) if *declared && removes(edit) => format!("{} does not have it", file.name()),
                Some(file) if *declared => format!("{} has it", file.name()),
                Some(file) => file.edit(edit).map_or_else(String::new, |edit| edit.to_string()),
                None => String::new(),
            };
            [edit.node().to_string(), scene.command(edit), place]
        })
        .collect();
    let widest = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or_default();
    let (first, second) = (widest(0), widest(1));
    for (at, [node, command, place]) in rows.iter().enumerate() {
        let line = format!(" {} {node:first$}  {command:second$}  {place}", at + 1);
        lines.push(line.trim_end().to_owned());
    }
    if let Some(edit) = &repair.told {
        let text = "Instead, senders could be told what fits; those that listen then send no more at once:";
        lines.push(text.to_owned());
        lines.push(format!("   {}  {}", edit.node(), scene.command(edit)));
    }
    lines.extend(later(report, repair));
    lines.extend(repair.after.trouble().map(|rest| format!("Then {}.", sentence(&repair.after, &rest))));
    lines
}

/// What cannot be seen yet: what would stop the packet when the first change is made.
fn later(report: &Report, repair: &Repair) -> Option<String> {
    // The way back is shown where it was computed.
    let shown = 1 + usize::from(report.verdict.back.is_some() && !report.verdict.there.arrives());
    if repair.stages.len() <= shown {
        return None;
    }
    // Stages at one node are one stop.
    let mut stops: Vec<(bool, &NsName, Vec<String>)> = Vec::new();
    let mut number = 1 + repair.stages.first()?.edits.len();
    for stage in &repair.stages[1..] {
        let numbers = (number..number + stage.edits.len()).map(|number| number.to_string());
        number += stage.edits.len();
        match stops.last_mut() {
            Some((back, node, list)) if (*back, *node) == (stage.trouble.back, &stage.trouble.node) => {
                list.extend(numbers);
            }
            _ => stops.push((stage.trouble.back, &stage.trouble.node, numbers.collect())),
        }
    }
    let mut text = String::new();
    let mut before = None;
    for (back, node, numbers) in stops {
        let who = match before {
            Some(same) if same == back => String::new(),
            _ if back => "the reply ".to_owned(),
            _ => "the packet ".to_owned(),
        };
        let verb = if before.is_none() { "would stop " } else { "" };
        let link = if before.is_none() { "" } else { ", then " };
        // Writing to a String cannot fail.
        write!(text, "{link}{who}{verb}at {node} ({})", numbers.join(", ")).ok();
        before = Some(back);
    }
    let first = repair.stages.first()?.edits.len();
    let first = match first {
        1 => "1 shows".to_owned(),
        2 => "1 and 2 show".to_owned(),
        _ => format!("1 to {first} show"),
    };
    Some(format!("Only {first} now; after that {text}."))
}

/// What the lab's file forbids.
fn forbidden(report: &Report, scene: &Scene) -> Option<String> {
    if let Some(line) = report.forbidden.by.and_then(|at| scene.expect.get(&at)) {
        return Some(match report.comes_through() {
            Some(true) if report.outcome() == Outcome::No => {
                format!("It should not come through, and does, although nothing waits for it: {line}")
            }
            Some(true) => format!("It should not come through: {line}"),
            Some(false) => format!("It is meant to be so, and nothing is to be changed: {line}"),
            None => format!("It is not meant to come through: {line}"),
        });
    }
    let lines = spoilt(report, scene).join("\n ");
    (!lines.is_empty()).then(|| {
        format!("No change is proposed: what was found would also let through what is forbidden here:\n {lines}")
    })
}

/// The lines that would not hold any more.
fn spoilt(report: &Report, scene: &Scene) -> Vec<String> {
    report.forbidden.spoilt.iter().filter_map(|at| scene.expect.get(at)).map(ToString::to_string).collect()
}

/// What to say where there is no repair.
fn no_change(report: &Report) -> Option<String> {
    let trouble = report.trouble()?;
    if let Some(text) = hidden_on_purpose(report, &trouble).or_else(|| waits_behind(report, &trouble)) {
        return Some(text);
    }
    // Where the model does not know what happens, it has not looked for a change either.
    if report.verdict.outcome() == Outcome::Undecided {
        let by_rule = matches!(trouble.reason, Reason::Firewall { .. });
        let text = "What this rule looks at is not understood, so no change was looked for; `nft -a list ruleset` there shows it.";
        return by_rule.then(|| text.to_owned());
    }
    match trouble.reason {
        Reason::NoListener { .. }
        | Reason::WrongBindAddress { .. }
        | Reason::LeavesKnown { .. }
        | Reason::Undecided(_) => None,
        _ if report.owner.is_none() => Some(nobody_has_it(report, &trouble)),
        _ => Some(no_address(report).unwrap_or_else(|| "No change was found that makes it work.".to_owned())),
    }
}

/// A node that has no address of the family: none that it could be given leads anywhere but to its own link.
fn no_address(report: &Report) -> Option<String> {
    let (from, dst) = (&report.query.from, report.query.packet.dst);
    let family = Family::of(dst);
    let of_all = |addr: &IpAddr| match addr {
        IpAddr::V4(_) => true,
        IpAddr::V6(addr) => !addr.is_unicast_link_local() && !addr.is_loopback(),
    };
    let links = report.snapshot.nodes.get(from)?.links.values().flat_map(|link| &link.addresses);
    let mut own = links.filter(|own| !own.host_only).map(|own| own.net.addr());
    let has = own.any(|addr| Family::of(addr) == family && !addr.is_loopback() && of_all(&addr));
    (!has).then(|| {
        format!("{from} has no {family} address that {dst} could answer to: give it one, or ask by the other family.")
    })
}

/// Nobody has a route to an address, as a node hides it.
fn hidden_on_purpose(report: &Report, trouble: &Trouble) -> Option<String> {
    let there = matches!(trouble.reason, Reason::NoRoute { down: None, .. }) && !trouble.back;
    let packet = &report.verdict.there.packet;
    let addr = packet.dst;
    let owner = report.owner.as_ref().filter(|_| there)?;
    let Hidden { by, instead, published } = hidden(&report.snapshot, owner, addr)?;
    let outside = |(address, service): &(Option<IpAddr>, Service)| {
        let of = address.map_or_else(|| by.to_string(), |address| address.to_string());
        format!("{} port {} of {of}", service.transport, service.port)
    };
    let how = match (instead, published.as_slice()) {
        (Some(instead), _) => format!("There it is {instead}."),
        (None, []) => format!(
            "To open it: `nodes.{by}.nat.floating` gives it an address there, `nodes.{by}.nat.publish` a single port."
        ),
        (None, published) => {
            let list: Vec<String> = published.iter().map(outside).collect();
            format!("What is open there: {}.", list.join(", "))
        }
    };
    Some(format!("Nobody outside has a route to {addr}: it is hidden by the nat of {by}, on purpose. {how}"))
}

/// Nothing waits at a port of a node that translates; but somebody behind it does. That opens what is hidden, so it is said,
/// and never done.
fn waits_behind(report: &Report, trouble: &Trouble) -> Option<String> {
    let packet = &report.verdict.there.packet;
    let (by, back) = (&trouble.node, trouble.back);
    if back || !matches!(trouble.reason, Reason::NoListener { .. } | Reason::WrongBindAddress { .. }) {
        return None;
    }
    let all = waiting_behind(&report.snapshot, by, packet);
    let (word, port) = (packet.protocol.name(), packet.destination_port);
    let Behind { node, addr, published } = all.first()?;
    let start = format!("Behind {by}, {node} ({addr}) listens on {word} port {port}");
    if let Some((address, outside)) = published {
        let at = address.map_or_else(|| format!("any address of {by}"), |address| address.to_string());
        return Some(format!("{start}, which is published as port {outside} of {at}."));
    }
    let others = match all.len() {
        1 => String::new(),
        more => format!(" (so do {})", count(more - 1, "other", "others")),
    };
    let outside = std::net::SocketAddr::new(packet.dst, port);
    let transport = if packet.protocol == Protocol::Udp { "/udp" } else { "" };
    Some(format!(
        "{start}{others}, and is hidden. To open it to all outside: nodes.{by}.nat.publish += {{ {outside}{transport}: {node} }}"
    ))
}

/// `[fd00::1]:80`, where somebody has fd00::1 and nobody fd00::1:80.
fn in_brackets(report: &Report, addr: IpAddr) -> Option<String> {
    let text = addr.to_string();
    let (other, port) = without_brackets(&text)?;
    owner(&report.snapshot, other.into()).map(|_| format!("[{other}]:{port}"))
}

/// Nobody has an address. On a link where somebody translates it may be missing in the file.
fn nobody_has_it(report: &Report, trouble: &Trouble) -> String {
    let addr = report.query.packet.dst;
    if let Some(meant) = in_brackets(report, addr) {
        return format!("No node has the address {addr}. Is a port meant? That is {meant}.");
    }
    let start = format!("No node has the address {addr}.");
    let Reason::NeighbourUnresolved { addr: asked, dev, .. } = &trouble.reason else { return start };
    if *asked != addr || trouble.back {
        return start;
    }
    let at = Endpoint { ns: trouble.node.clone(), dev: *dev };
    let translators = translators(&report.snapshot, &at, addr);
    let Some(first) = translators.first() else { return start };
    let names: Vec<&str> = translators.iter().map(NsName::as_str).collect();
    format!(
        "{start} On this link {} could let it stand for a node behind: nodes.{first}.nat.floating += {{ {addr}: NODE }}",
        names.join(" or ")
    )
}
