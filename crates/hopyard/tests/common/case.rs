//! One random lab with random faults on the real kernel: what the model says, what each kernel says and what
//! packets do.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv6Addr, TcpListener, UdpSocket};

use hopyard::Network;
use hopyard::explain::{Edit, Outcome, Packet, Protocol, Walk};
use hopyard::net::{Family, IpNet, NsName, Op};
use hopyard::plan::desired;
use hopyard::runtime::check::check;
use hopyard::runtime::why::{Report, why};

use super::Dice;
use super::breaks::{Break, breaks, wide_topology};
use super::strange::strange;

/// How a case ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ending {
    /// It works all the same.
    Healthy,
    /// It did not work; what was proposed was done, and a packet has shown that it helps.
    Repaired,
    /// It does not work, and nothing was proposed.
    NotRepaired,
    /// It is not known whether it works.
    Open,
}

/// At this port somebody waits, or nobody.
const PORT: u16 = 4242;

/// All that is known, a line a hop.
fn shown(report: &Report) -> String {
    let mut text = format!(
        "{} -> {} {} {} bytes, for {:?}\n",
        report.query.from,
        report.query.packet.dst,
        report.query.packet.protocol.name(),
        report.query.packet.length,
        report.query.wanted,
    );
    let walks = [("there", Some(&report.verdict.there)), ("back", report.verdict.back.as_ref())];
    for (way, walk) in walks.into_iter().filter_map(|(way, walk)| Some((way, walk?))) {
        let by_chance = if walk.by_chance { " (by chance)" } else { "" };
        writeln!(text, "{way}{by_chance}, from {:?}", walk.packet.src).unwrap();
        for (at, hop) in walk.hops.iter().enumerate() {
            let seen = report.seen.as_ref().map(|seen| seen.at(&hop.node)).unwrap_or_default();
            let passing = if way == "there" { seen.packet } else { seen.reply };
            let asked = report.asked.iter().find(|it| it.back == (way == "back") && it.hop == at);
            let route = hop.route.as_ref().map(|route| route.key.to_string());
            let dev = |dev: Option<hopyard::net::IfName>| dev.map_or_else(String::new, |dev| format!(":{dev}"));
            let next = hop.next.as_ref().map_or_else(|| "-".to_owned(), |next| next.of(hop.sent.family()).to_string());
            let (node, end) = (&hop.node, &hop.end);
            writeln!(text, "  {node}{} by {route:?} {next} {end:?}", dev(hop.input)).unwrap();
            let asking: Vec<_> = seen.asked.iter().map(|(addr, it)| (addr, it.times, it.answers.len())).collect();
            let came = (passing.came, passing.went);
            writeln!(text, "      {came:?} {:?} {asking:?} kernel {:?}", seen.errors, asked.map(|it| &it.answer))
                .unwrap();
        }
    }
    let answered = report.seen.as_ref().map(|seen| (seen.answered, seen.refused));
    writeln!(text, "answered, refused: {answered:?}; disagree: {:?}", report.disagreements).unwrap();
    for stage in report.repair.iter().flat_map(|repair| &repair.stages) {
        let edits: Vec<String> = stage.edits.iter().map(|(edit, _)| format!("{}: {edit}", edit.node())).collect();
        writeln!(text, "repair of {} at {}: {}", stage.trouble.code(), stage.trouble.node, edits.join("; ")).unwrap();
    }
    text
}

/// What a shell in a node makes of a command.
fn type_in(net: &Network, node: &NsName, command: &str) -> Result<(), String> {
    let entry = net.running().entry(node.as_str(), "/".into(), None).map_err(|error| error.to_string())?;
    let output = entry.command("sh").args(["-c", command]).output().map_err(|error| error.to_string())?;
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(()) } else { Err(format!("{node}: {command}: {error}")) }
}

/// What may be wrong in a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Faults {
    /// What people do to labs.
    Usual,
    /// Also what is in other networks.
    Strange,
}

/// Breaks a random lab. `Err`: model, kernels and packets differ, or a repair does not help. Beside the ending stands what
/// to look at.
pub(crate) fn case(seed: u64, may: Faults) -> Result<(Ending, Option<String>), String> {
    let mut dice = Dice(seed);
    let declared = dice.roll(2) == 0;
    let mut shape = Dice(seed ^ 0x5555);
    let auto = wide_topology(&mut Dice(shape.roll(1 << 30) as u64), "auto");
    let translates = auto.contains("nat:");
    let lab = |text: &str| {
        let source = hopyard::formats::SourceFile::new("why.hop.yaml", text);
        hopyard::formats::read(&source).unwrap_or_else(|problems| panic!("{text}{problems:?}")).0
    };
    let wanted = desired(&lab(&auto)).unwrap().state;
    let text = if declared { auto.clone() } else { auto.replace("routing: auto", "routing: none") };
    let net = Network::start(&text).unwrap();
    let mut world = net.running().world().unwrap();
    if !declared {
        // As if somebody had typed it: the file knows nothing of it.
        let bare = world.observe(&BTreeMap::new()).unwrap();
        let ops: Vec<Op> = hopyard::plan::diff(&bare, &wanted);
        world.apply(&ops, &mut |_| {}).unwrap_or_else(|error| panic!("{text}{error}"));
    }
    let nodes: Vec<&NsName> = net.running().contents().unwrap().lab.nodes().iter().map(|node| &node.name).collect();
    let family = *dice.pick(&[Family::Ipv4, Family::Ipv4, Family::Ipv6]);
    let address = |node: &NsName| -> Option<IpAddr> {
        let links = wanted.namespaces[node].links.values().flat_map(|link| &link.addresses);
        links.map(IpNet::addr).find(|addr| Family::of(*addr) == family)
    };
    let (from, to) = (*dice.pick(&nodes), *dice.pick(&nodes));
    let (Some(source), Some(target)) = (address(from), address(to)) else { return Ok((Ending::Healthy, None)) };
    let before = why(net.running(), from.as_str(), Packet::probe(target, Protocol::Icmp, 0), None, false).unwrap();
    if before.outcome() != Outcome::Yes {
        // What is hidden is not reached from outside.
        assert!(translates, "seed {seed}: {text}{}", shown(&before));
        return Ok((Ending::Healthy, None));
    }
    let ways = before.verdict.there.nodes().chain(before.verdict.back.iter().flat_map(Walk::nodes));
    let path: Vec<NsName> = ways.cloned().collect();
    let mut faults = Vec::new();
    for number in 0..=dice.roll(5) {
        let ends = (target, source);
        let some = if may == Faults::Strange && dice.roll(3) > 0 {
            strange(&mut dice, &wanted, &path, ends, number)
        } else {
            breaks(&mut dice, &wanted, &path, ends, number)
        };
        for one in some {
            // One fault may have removed what another is about.
            let done = match &one {
                Break::Op(op) => world.apply(std::slice::from_ref(op), &mut |_| {}).is_ok(),
                Break::Typed(node, command) => type_in(&net, node, command).is_ok(),
            };
            if done {
                faults.push(one.to_string());
            }
        }
    }
    let protocol = *dice.pick(&[Protocol::Icmp, Protocol::Icmp, Protocol::Icmp, Protocol::Tcp, Protocol::Udp]);
    let port = if protocol == Protocol::Icmp { 0 } else { PORT };
    let large = protocol != Protocol::Tcp && dice.roll(4) == 0;
    let bind: Option<IpAddr> =
        [None, Some(Ipv6Addr::UNSPECIFIED), Some(Ipv6Addr::LOCALHOST)][dice.roll(3)].map(Into::into);
    let target_node = net.node(to.as_str()).unwrap();
    let _waiting = bind.map(|addr| {
        let bound = || (TcpListener::bind((addr, PORT)).unwrap(), UdpSocket::bind((addr, PORT)).unwrap());
        target_node.run(bound).unwrap()
    });
    let told =
        |what: &str, report: &Report| format!("seed {seed}: {what}\n{text}{}\n{}", faults.join("\n"), shown(report));
    let ask = |from: &NsName, to: &NsName, packet: Packet| {
        why(net.running(), from.as_str(), packet, Some(to.clone()), true).unwrap()
    };
    let mut packet = Packet::probe(target, protocol, port);
    if large {
        packet.length = 1400;
    }
    // All pairs first: each packet teaches nodes who their neighbours are.
    let checked = check(net.running(), &Family::BOTH, Some(std::time::Duration::from_secs(2))).unwrap();
    if !checked.differing.is_empty() {
        let pairs: Vec<_> = checked.matrix.pairs().collect();
        let tell = |at: &usize| {
            let (source, target, cell) = pairs[*at];
            let seen = checked.observed[*at].clone();
            let (source, target) = (&checked.matrix.sources()[source], &checked.matrix.targets()[target]);
            let alone = ask(source, &target.node, Packet::probe(target.addr, Protocol::Icmp, 0));
            format!("{source} -> {target:?}: {cell:?}, seen {seen:?}\nALONE {}", shown(&alone))
        };
        let pairs: Vec<String> = checked.differing.iter().take(2).map(tell).collect();
        return Err(format!("seed {seed}: {text}{}\nALL PAIRS {}", faults.join("\n"), pairs.join("\n")));
    }
    let report = ask(from, to, packet);
    if !report.disagreements.is_empty() {
        return Err(told("they disagree", &report));
    }
    let is_service = |report: &Report| {
        report.verdict.trouble().is_some_and(|it| matches!(it.code(), "no-listener" | "wrong-bind-address"))
    };
    match report.outcome() {
        Outcome::Yes => return Ok((Ending::Healthy, None)),
        Outcome::Undecided => return Ok((Ending::Open, Some(told("open", &report)))),
        Outcome::No if is_service(&report) && report.repair.is_none() => return Ok((Ending::Healthy, None)),
        Outcome::No => {}
    }
    let Some(repair) = &report.repair else {
        return Ok((Ending::NotRepaired, Some(told("no repair", &report))));
    };
    let edits: Vec<&Edit> = repair.edits().collect();
    for edit in edits {
        let done = match edit.op() {
            Some(op) => world.apply(&[op], &mut |_| {}).map_err(|error| error.to_string()),
            None => type_in(&net, edit.node(), &edit.to_string()),
        };
        if let Err(error) = done {
            return Err(told(&format!("the repair is refused: {error}"), &report));
        }
    }
    let after = ask(from, to, packet);
    let works = after.outcome() == Outcome::Yes || is_service(&after) && after.repair.is_none();
    if works && after.disagreements.is_empty() {
        return Ok((Ending::Repaired, None));
    }
    Err(format!("{}\nAFTER\n{}", told("the repair does not work", &report), shown(&after)))
}
