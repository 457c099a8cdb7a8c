//! In random labs with random faults, all pairs at once are what each pair is when it is walked alone.
//!
//! `PAIRS_CASES=10000` runs more of them, `PAIRS_SEED=n` begins elsewhere; a failure names its seed.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test says what is wrong by failing")]

mod common;

use std::net::IpAddr;

use common::{Dice, fault, topology};
use hopyard::explain::{Cell, Choices, Edit, Outcome, Packet, Protocol, Query, Target, derive, explain, matrix};
use hopyard::net::{
    BaseChain, BridgeNf, Chain, Comparison, Element, Endpoint, Habits, Hook, IfName, IpNet, Loaded, Neighbour,
    NetState, NodeState, NsName, Op, Rule, RuleStep, RuleVerdict, Ruleset, Set, Snapshot,
};
use hopyard::plan::desired;

/// Few enough for every run of the tests.
const CASES: u64 = 150;

/// One of so many is large.
const MESHED: u64 = 25;

/// All pairs of a network, both ways of finding them. Returns pairs, those reached, and those that were
/// walked by the first way too.
fn compare(net: &Snapshot, nodes: &[NsName], targets: &[Target]) -> Result<[usize; 3], String> {
    let all = matrix(net, nodes, targets);
    let mut counts = [0, 0, all.walked()];
    for (source, target, cell) in all.pairs() {
        let (from, to) = (&nodes[source], &targets[target]);
        let packet = Packet::probe(to.addr, Protocol::Icmp, 0);
        let query = Query { from: from.clone(), packet, wanted: Some(to.node.clone()) };
        let verdict = explain(net, &query, &Choices::new());
        counts[0] += 1;
        let (outcome, trouble) = match cell {
            Cell::Reached => (Outcome::Yes, None),
            Cell::Stopped(cause) if cause.undecided => (Outcome::Undecided, cause.trouble.clone()),
            Cell::Stopped(cause) => (Outcome::No, cause.trouble.clone()),
            Cell::Own => continue,
        };
        counts[1] += usize::from(outcome == Outcome::Yes);
        if (outcome, &trouble) != (verdict.outcome(), &verdict.trouble()) {
            return Err(format!(
                "{from} -> {} ({}): all pairs say {outcome:?} {trouble:?}, alone {:?} {:?}\n{verdict:#?}",
                to.node,
                to.addr,
                verdict.outcome(),
                verdict.trouble()
            ));
        }
    }
    Ok(counts)
}

fn targets(state: &NetState) -> Vec<Target> {
    let mut found = Vec::new();
    for (node, space) in &state.namespaces {
        let links = space.links.values().flat_map(|link| &link.addresses);
        let addresses: Vec<IpAddr> = links.map(IpNet::addr).collect();
        found.extend(addresses.into_iter().map(|addr| Target { node: node.clone(), addr }));
    }
    found
}

/// Rules in a node that may be a switch: about one address, in the hooks of IP, of a bridge, or at an interface.
fn firewall(dice: &mut Dice, node: &NodeState, targets: &[Target]) -> Ruleset {
    let devices: Vec<IfName> = node.links.keys().copied().collect();
    let mut rules = Ruleset::default();
    for at in 0..=dice.roll(2) {
        let (family, hook) = *dice.pick(&[
            ("inet", Hook::Forward),
            ("inet", Hook::Prerouting),
            ("inet", Hook::Input),
            ("ip", Hook::Output),
            ("ip6", Hook::Forward),
            ("inet", Hook::Postrouting),
            ("netdev", Hook::Ingress),
            ("netdev", Hook::Egress),
            ("bridge", Hook::Forward),
            ("arp", Hook::Input),
        ]);
        let devices = if family == "netdev" { vec![dice.pick(&devices).to_string()] } else { Vec::new() };
        let drops = dice.roll(6) == 0;
        let base = BaseChain { hook, priority: 0, drops, kind: "filter".to_owned(), devices };
        let addr = dice.pick(targets).addr;
        let (ether, length, offset, octets) = match addr {
            IpAddr::V4(addr) => ([8, 0], 4, 12, addr.octets().to_vec()),
            IpAddr::V6(addr) => ([0x86, 0xdd], 16, 8, addr.octets().to_vec()),
        };
        let how = if dice.roll(5) == 0 { Comparison::Unequal } else { Comparison::Equal };
        let mut steps = vec![
            RuleStep::Load { register: 1, what: Loaded::EtherType },
            RuleStep::Compare { register: 1, how: Comparison::Equal, with: ether.to_vec() },
            // The source, or the destination.
            RuleStep::Payload { register: 1, base: 1, offset: offset + length * u32::from(dice.roll(2) == 0), length },
        ];
        if dice.roll(2) == 0 {
            steps.push(RuleStep::Compare { register: 1, how, with: octets });
        } else {
            let name = format!("s{at}");
            rules.sets.push(Set {
                family: family.to_owned(),
                table: "t".to_owned(),
                name: name.clone(),
                anonymous: false,
                intervals: false,
                dynamic: dice.roll(8) == 0,
                parts: vec![length],
                value_bytes: 0,
                elements: vec![Element { key: Some(octets), ..Element::default() }],
            });
            let inverted = how == Comparison::Unequal;
            steps.push(RuleStep::Lookup { register: 1, set: name, inverted, to: None });
        }
        if dice.roll(8) == 0 {
            steps.push(RuleStep::Depends("limit".to_owned()));
        }
        let verdict = if drops { RuleVerdict::Accept } else { RuleVerdict::Drop };
        steps.push(RuleStep::Verdict(verdict));
        rules.chains.push(Chain {
            family: family.to_owned(),
            table: "t".to_owned(),
            name: format!("c{at}"),
            base: Some(base),
            rules: vec![Rule { handle: 4, steps }],
        });
    }
    rules
}

fn case(seed: u64) -> Result<[usize; 3], String> {
    let mut dice = Dice(seed);
    // Now and then one with many equal ways.
    let text = match seed % MESHED {
        0 => (*dice.pick(&["grid:4x3", "ring:6", "fat-tree:4"])).to_owned(),
        _ => topology(&mut dice, "auto"),
    };
    let lab = match seed % MESHED {
        0 => hopyard::formats::inline(&text),
        _ => hopyard::formats::read(&hopyard::formats::SourceFile::new("pairs.hop.yaml", &*text)),
    };
    let lab = lab.unwrap_or_else(|problems| panic!("{text}{problems:?}")).0;
    let state = desired(&lab).unwrap().state;
    let mut net = derive(&state, None);
    let nodes: Vec<NsName> = state.namespaces.keys().cloned().collect();
    let targets = targets(&state);
    let mut faults = Vec::new();
    // Now and then none at all.
    for _ in 0..dice.roll(7) {
        let (one, other) = (dice.pick(&targets).addr, dice.pick(&targets).addr);
        if one.is_ipv4() == other.is_ipv4() {
            faults.extend(fault(&mut dice, &state, &nodes, one, other));
        }
    }
    for op in &faults {
        Edit::Op(op.clone()).apply(&mut net);
    }
    let mut others = Vec::new();
    // How a node sends and answers; from a dice of its own, so that a seed stays the lab that it was.
    let mut habits = Dice(seed ^ 0x5eed);
    if habits.roll(4) == 0 {
        let name = habits.pick(&nodes).clone();
        if let Some(node) = net.nodes.get_mut(&name) {
            let ttl = *habits.pick(&[Habits::TTL, 1, 2]);
            let (ignores_echo, ignores_echo_ipv6) = (habits.roll(3) == 0, habits.roll(3) == 0);
            node.habits = Some(Habits { ttl, ignores_echo, ignores_echo_ipv6 });
            others.push(format!("{name}: {:?}", node.habits));
            let devs: Vec<IfName> = node.links.keys().copied().collect();
            let dev = *habits.pick(&devs);
            if let Some(link) = node.links.get_mut(&dev).filter(|_| habits.roll(4) == 0) {
                link.ipv6.disabled = true;
                others.push(format!("{name}: {dev} without IPv6"));
            }
        }
    }
    // Now and then an Ethernet address twice; and somebody has learnt one.
    let mut twins = Dice(seed ^ 0x7215);
    let all: Vec<Endpoint> = net
        .nodes
        .iter()
        .flat_map(|(ns, node)| node.links.keys().map(|dev| Endpoint { ns: ns.clone(), dev: *dev }))
        .filter(|end| end.dev != IfName::LO)
        .collect();
    for _ in 0..twins.roll(3).saturating_sub(usize::from(!seed.is_multiple_of(3))) {
        let (one, other) = (twins.pick(&all).clone(), twins.pick(&all).clone());
        let mac = net.nodes.get(&one.ns).and_then(|node| node.links.get(&one.dev)).and_then(|link| link.mac);
        let Some((mac, node)) = mac.zip(net.nodes.get_mut(&other.ns)) else { continue };
        if twins.roll(3) > 0 {
            Edit::Op(Op::SetMac { at: other.clone(), mac }).apply(&mut net);
        } else {
            let addr = twins.pick(&targets).addr;
            node.neighbours.retain(|it| (it.dev, it.addr) != (other.dev, addr));
            node.neighbours.push(Neighbour { dev: other.dev, addr, mac, permanent: false });
        }
        others.push(format!("{other}: {mac}"));
    }
    // Now and then rules in a node or a switch.
    for _ in 0..dice.roll(3).saturating_sub(usize::from(seed.is_multiple_of(2))) {
        let names: Vec<NsName> = net.nodes.keys().cloned().collect();
        let name = dice.pick(&names).clone();
        let Some(node) = net.nodes.get_mut(&name) else { continue };
        let rules = firewall(&mut dice, node, &targets);
        node.firewall = Some(rules.clone());
        node.bridge_nf = Some(BridgeNf { ipv4: dice.roll(2) == 0, ipv6: dice.roll(2) == 0 });
        others.push(format!("{name}: {rules:?}"));
    }
    let faults = || faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    let shown = || format!("{}\n{}", faults(), others.join("\n"));
    compare(&net, &nodes, &targets).map_err(|what| format!("seed {seed}: {text}{}\n{what}", shown()))
}

#[test]
fn all_pairs_at_once_are_what_each_is_alone() {
    let number = |name: &str, other: u64| std::env::var(name).map_or(other, |text| text.parse().unwrap());
    let first = number("PAIRS_SEED", 1);
    let mut sums = [0; 3];
    for seed in first..first + number("PAIRS_CASES", CASES) {
        let counts = case(seed).unwrap_or_else(|what| panic!("{what}"));
        sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
    }
    let [pairs, reached, walked] = sums;
    println!("{pairs} pairs, {reached} reach each other, {walked} walked alone");
    // Each kind of answer, by both ways.
    assert!(reached * 4 > pairs && reached * 20 < pairs * 19, "{reached} of {pairs} reach each other");
    assert!(walked * 2 < pairs && walked > 0, "{walked} of {pairs} were walked");
}
