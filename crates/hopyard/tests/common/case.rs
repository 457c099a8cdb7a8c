//! One random lab with random faults on the real kernel: what the model says, what each kernel says and what
//! packets do.

use std::fmt::Write as _;
use std::net::IpAddr;

use hopyard::Network;
use hopyard::explain::{Outcome, Packet, Protocol};
use hopyard::net::{Family, IpNet, NsName, Op};
use hopyard::plan::desired;
use hopyard::runtime::check::check;
use hopyard::runtime::why::{Report, why};

use super::{Dice, fault, topology};

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

fn shown(text: &str, faults: &[Op], report: &Report) -> String {
    let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
    let hops = |walk: &hopyard::explain::Walk| {
        walk.hops.iter().fold(String::new(), |mut text, hop| {
            writeln!(text, "  {:?} {} next {:?} end {:?}", hop.input, hop.node, hop.next, hop.end).unwrap();
            text
        })
    };
    format!(
        "{text}{}\n{} -> {}\nthere\n{}back\n{}asked {:#?}\nseen {:#?}\nDISAGREE {:?}\nrepair {:?}",
        faults.join("\n"),
        report.query.from,
        report.query.packet.dst,
        hops(&report.verdict.there),
        report.verdict.back.as_ref().map_or_else(String::new, hops),
        report.asked,
        report.seen,
        report.disagreements,
        report.repair.as_ref().map(|repair| repair.edits().map(ToString::to_string).collect::<Vec<_>>()),
    )
}

/// Breaks a random lab. `Err`: model, kernels and packets differ, or a repair does not help. Beside the ending stands what
/// to look at.
pub(crate) fn case(seed: u64) -> Result<(Ending, Option<String>), String> {
    let mut dice = Dice(seed);
    let declared = dice.roll(2) == 0;
    let mut shape = Dice(seed ^ 0x5555);
    let auto = topology(&mut Dice(shape.roll(1 << 30) as u64), "auto");
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
        let bare = world.observe(&std::collections::BTreeMap::new()).unwrap();
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
    assert_eq!(before.outcome(), Outcome::Yes, "seed {seed}: {}", shown(&text, &[], &before));
    let path: Vec<NsName> = before
        .verdict
        .there
        .nodes()
        .chain(before.verdict.back.iter().flat_map(hopyard::explain::Walk::nodes))
        .cloned()
        .collect();
    let mut faults = Vec::new();
    for _ in 0..=dice.roll(5) {
        for op in fault(&mut dice, &wanted, &path, target, source) {
            // One fault may have removed what another is about.
            if world.apply(std::slice::from_ref(&op), &mut |_| {}).is_ok() {
                faults.push(op);
            }
        }
    }
    let protocol = *dice.pick(&[Protocol::Icmp, Protocol::Icmp, Protocol::Icmp, Protocol::Tcp, Protocol::Udp]);
    let port = if protocol == Protocol::Icmp { 0 } else { 4242 };
    let ask = || {
        let packet = Packet::probe(target, protocol, port);
        why(net.running(), from.as_str(), packet, Some(to.clone()), true).unwrap()
    };
    let report = ask();
    if !report.disagreements.is_empty() {
        return Err(format!("seed {seed}: {}", shown(&text, &faults, &report)));
    }
    let checked = check(net.running(), &Family::BOTH, Some(std::time::Duration::from_secs(2))).unwrap();
    if !checked.differing.is_empty() {
        let pairs: Vec<_> = checked.matrix.pairs().collect();
        let tell = |at: &usize| {
            let (source, target, cell) = pairs[*at];
            let seen = checked.observed[*at].clone();
            format!(
                "{} -> {:?}: {cell:?}, seen {seen:?}",
                checked.matrix.sources()[source],
                checked.matrix.targets()[target]
            )
        };
        let pairs: Vec<String> = checked.differing.iter().map(tell).collect();
        return Err(format!("seed {seed}: {}\nALL PAIRS {}", shown(&text, &faults, &report), pairs.join("\n")));
    }
    let is_service = |report: &Report| report.verdict.trouble().is_some_and(|it| it.code() == "no-listener");
    match report.outcome() {
        Outcome::Yes => return Ok((Ending::Healthy, None)),
        Outcome::Undecided => return Ok((Ending::Open, None)),
        Outcome::No if is_service(&report) => return Ok((Ending::Healthy, None)),
        Outcome::No => {}
    }
    let Some(repair) = &report.repair else {
        let note = format!("seed {seed}: no repair: {}", shown(&text, &faults, &report));
        return Ok((Ending::NotRepaired, Some(note)));
    };
    let ops: Vec<Op> = repair.edits().filter_map(hopyard::explain::Edit::op).collect();
    if let Err(error) = world.apply(&ops, &mut |_| {}) {
        return Err(format!("seed {seed}: {error}\n{}", shown(&text, &faults, &report)));
    }
    let after = ask();
    let works = after.outcome() == Outcome::Yes || is_service(&after);
    if works && after.disagreements.is_empty() {
        return Ok((Ending::Repaired, None));
    }
    let (before, after) = (shown(&text, &faults, &report), shown("", &ops, &after));
    Err(format!("seed {seed}: the repair does not work: {before}\nAFTER {after}"))
}
