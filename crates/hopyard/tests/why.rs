//! Random labs with random faults: what the model says, what each kernel says and what a packet does
//! agree, and every repair that is proposed works.
//!
//! `WHY_CASES=1000` runs more of them, `WHY_SEED=n` begins elsewhere; a failure names its seed.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test says what is wrong by failing")]

use std::fmt::Write as _;
use std::net::IpAddr;

use hopyard::Network;
use hopyard::explain::{Outcome, Packet, Protocol};
use hopyard::net::{Endpoint, Family, IfName, IpNet, LinkKind, NetState, NextHop, NsName, Op, Route, RouteKind};
use hopyard::plan::desired;
use hopyard::runtime::why::{Report, why};

/// Few enough for every run of the tests.
const CASES: u64 = 30;

/// SplitMix64: the same on every machine.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % u64::try_from(sides).unwrap()).unwrap()
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.roll(of.len())]
    }
}

/// A tree of nodes, some behind switches, and now and then a cable more.
fn topology(dice: &mut Dice, routing: &str) -> String {
    let nodes = 3 + dice.roll(4);
    let mut links = Vec::new();
    for node in 1..nodes {
        let other = dice.roll(node);
        links.push(format!("n{other} -- n{node}"));
    }
    if dice.roll(3) == 0 {
        links.push(format!("n0 -- n{}", nodes - 1));
    }
    let mut text = String::from("name: why\nnodes:\n");
    for node in 0..nodes {
        writeln!(text, "  n{node}:").unwrap();
    }
    if dice.roll(2) == 0 {
        let members = [dice.roll(nodes), dice.roll(nodes)];
        writeln!(
            text,
            "  m:\nswitches:\n  sw: [n{}, m{}]",
            members[0],
            if members[0] == members[1] { String::new() } else { format!(", n{}", members[1]) }
        )
        .unwrap();
    }
    text.push_str("links:\n");
    for link in links {
        writeln!(text, "  - {link}").unwrap();
    }
    writeln!(text, "routing: {routing}").unwrap();
    text
}

/// An address of the other end of a cable; behind a switch, of any node.
fn neighbour(dice: &mut Dice, state: &NetState, link: &hopyard::net::Link, family_of: IpAddr) -> IpAddr {
    let LinkKind::Veth { peer: Some(peer) } = &link.kind else { return family_of };
    let there = &state.namespaces[&peer.ns].links[&peer.dev];
    let all = || state.namespaces.values().flat_map(|space| space.links.values());
    let candidates: Vec<IpAddr> = if there.master.is_some() {
        let beside =
            all().flat_map(|it| &it.addresses).filter(|net| link.addresses.iter().any(|own| own.contains(&net.addr())));
        beside.map(IpNet::addr).collect()
    } else {
        there.addresses.iter().map(IpNet::addr).collect()
    };
    let same: Vec<IpAddr> = candidates.into_iter().filter(|addr| addr.is_ipv4() == family_of.is_ipv4()).collect();
    if same.is_empty() { family_of } else { *dice.pick(&same) }
}

/// What is wrong, once more.
fn fault(dice: &mut Dice, state: &NetState, path: &[NsName], target: IpAddr, source: IpAddr) -> Vec<Op> {
    let all: Vec<NsName> = state.namespaces.keys().cloned().collect();
    let nodes = *dice.pick(&[path, path, path, &all]);
    let ns = dice.pick(nodes).clone();
    let here = &state.namespaces[&ns];
    let links: Vec<IfName> = here.links.keys().copied().filter(|dev| *dev != IfName::LO).collect();
    let dev = *dice.pick(&links);
    let at = Endpoint { ns: ns.clone(), dev };
    let link = &here.links[&dev];
    let routes: Vec<&Route> = here.routes.values().collect();
    let sysctl = |key: String, value: &str| {
        vec![Op::SetSysctl { ns: ns.clone(), key: key.parse().unwrap(), value: value.to_owned() }]
    };
    let bits = |addr: IpAddr| if addr.is_ipv4() { 32 } else { 128 };
    let exactly = |addr: IpAddr| IpNet::new(addr, bits(addr)).unwrap();
    let towards = *dice.pick(&[target, target, source]);
    let own: Vec<IpNet> =
        link.addresses.iter().copied().filter(|net| net.addr().is_ipv4() == target.is_ipv4()).collect();
    match dice.roll(16) {
        0 | 1 if !routes.is_empty() => vec![Op::DelRoute { ns: ns.clone(), key: dice.pick(&routes).key.clone() }],
        2 => {
            // To a neighbour that need not be on the way.
            let LinkKind::Veth { peer: Some(peer) } = &link.kind else { return Vec::new() };
            let there = &state.namespaces[&peer.ns].links[&peer.dev];
            let via = there.addresses.iter().map(IpNet::addr).find(|addr| addr.is_ipv4() == target.is_ipv4());
            let hop = via.map(|via| NextHop { via: Some(via), dev, weight: 1 });
            let route = hop.map(|hop| Route::unicast(exactly(towards), vec![hop]));
            route.into_iter().map(|route| Op::SetRoute { ns: ns.clone(), route }).collect()
        }
        3 => {
            let kind = dice.pick(&[RouteKind::Blackhole, RouteKind::Unreachable, RouteKind::Prohibit]).clone();
            let route = Route { kind, ..Route::unicast(exactly(towards), Vec::new()) };
            vec![Op::SetRoute { ns, route }]
        }
        4 => sysctl("net.ipv4.ip_forward".to_owned(), "0"),
        5 => sysctl("net.ipv6.conf.all.forwarding".to_owned(), "0"),
        6 => sysctl(format!("net.ipv4.conf.{dev}.forwarding"), "0"),
        7 => sysctl(format!("net.ipv4.conf.{}.rp_filter", dice.pick(&["all", dev.as_str()])), ["1", "2"][dice.roll(2)]),
        8 => vec![Op::SetUp { at, up: false }],
        9 if !own.is_empty() => vec![Op::DelAddr { at, addr: *dice.pick(&own) }],
        10 if !own.is_empty() => {
            let net = *dice.pick(&own);
            let wrong = IpNet::new(net.addr(), net.prefix_len() - 8).unwrap();
            vec![Op::DelAddr { at: at.clone(), addr: net }, Op::AddAddr { at, addr: wrong }]
        }
        13 => {
            // Nobody has that Ethernet address.
            let mac = hopyard::net::MacAddr::from_bytes([2, 0, 0, 0, 0, 1]);
            vec![Op::SetNeigh { at, addr: neighbour(dice, state, link, target), mac }]
        }
        14 if !own.is_empty() => {
            // What a neighbour has.
            let addr = IpNet::new(neighbour(dice, state, link, target), own[0].prefix_len()).unwrap();
            vec![Op::AddAddr { at, addr }]
        }
        15 => {
            // A port of a switch, if there is one.
            let switches =
                state.namespaces.iter().filter(|(_, space)| space.links.values().any(|it| it.master.is_some()));
            let ports: Vec<Endpoint> = switches
                .flat_map(|(ns, space)| {
                    space.links.iter().filter(|(_, it)| it.master.is_some()).map(move |(dev, _)| (ns, *dev))
                })
                .map(|(ns, dev)| Endpoint { ns: ns.clone(), dev })
                .collect();
            if ports.is_empty() { Vec::new() } else { vec![Op::SetUp { at: dice.pick(&ports).clone(), up: false }] }
        }
        11 if source.is_ipv4() => {
            vec![Op::AddAddr { at: Endpoint { ns, dev: IfName::LO }, addr: exactly(towards) }]
        }
        12 => {
            sysctl(format!("net.ipv4.conf.{}.arp_ignore", dice.pick(&["all", dev.as_str()])), ["1", "8"][dice.roll(2)])
        }
        _ => Vec::new(),
    }
}

/// How a case ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Ending {
    Healthy,
    Repaired,
    NotRepaired,
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

fn case(seed: u64) -> Result<Ending, String> {
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
    let (Some(source), Some(target)) = (address(from), address(to)) else { return Ok(Ending::Healthy) };
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
    let is_service = |report: &Report| report.verdict.trouble().is_some_and(|it| it.code() == "no-listener");
    match report.outcome() {
        Outcome::Yes => return Ok(Ending::Healthy),
        Outcome::Undecided => return Ok(Ending::Open),
        Outcome::No if is_service(&report) => return Ok(Ending::Healthy),
        Outcome::No => {}
    }
    let Some(repair) = &report.repair else {
        println!("seed {seed}: no repair: {}", shown(&text, &faults, &report));
        return Ok(Ending::NotRepaired);
    };
    let ops: Vec<Op> = repair.edits().filter_map(hopyard::explain::Edit::op).collect();
    if let Err(error) = world.apply(&ops, &mut |_| {}) {
        return Err(format!("seed {seed}: {error}\n{}", shown(&text, &faults, &report)));
    }
    let after = ask();
    let works = after.outcome() == Outcome::Yes || is_service(&after);
    if works && after.disagreements.is_empty() {
        return Ok(Ending::Repaired);
    }
    let (before, after) = (shown(&text, &faults, &report), shown("", &ops, &after));
    Err(format!("seed {seed}: the repair does not work: {before}\nAFTER {after}"))
}

#[test]
fn model_kernel_and_packet_agree_and_repairs_work() {
    let number = |name: &str, other: u64| std::env::var(name).map_or(other, |text| text.parse().unwrap());
    let first = number("WHY_SEED", 1);
    let mut failures = Vec::new();
    let mut endings = std::collections::BTreeMap::new();
    for seed in first..first + number("WHY_CASES", CASES) {
        match case(seed) {
            Ok(ending) => *endings.entry(ending).or_insert(0_u32) += 1,
            Err(text) => failures.push(text),
        }
    }
    println!("{endings:?}, {} failures", failures.len());
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    let of = |ending| endings.get(&ending).copied().unwrap_or_default();
    let broken = of(Ending::Repaired) + of(Ending::NotRepaired);
    assert!(broken > 0, "no case was broken");
    assert!(of(Ending::NotRepaired) * 5 <= broken, "more than a fifth is not repaired: {endings:?}");
}
