//! Random labs and random faults: for tests, and for the benchmark.
#![allow(dead_code, reason = "not every user uses all of it")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "what cannot be is a failed case, as in a test"
)]

pub(crate) mod breaks;
pub(crate) mod case;
pub(crate) mod strange;

use std::fmt::Write as _;
use std::net::IpAddr;

use hopyard::net::{Endpoint, IfName, IpNet, LinkKind, NetState, NextHop, NsName, Op, Route, RouteKind};

/// How often the machine's neighbour tables, which all its namespaces share, were full: who needs a neighbour then gets none.
/// Somebody else may fill them.
fn overflows() -> u64 {
    let of = |table: &str| {
        let text = std::fs::read_to_string(format!("/proc/net/stat/{table}_cache")).unwrap_or_default();
        let mut lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let at = lines.next().and_then(|head| head.iter().position(|name| *name == "table_fulls"));
        // A line a processor.
        let values = lines.filter_map(|line| u64::from_str_radix(line.get(at?)?, 16).ok());
        values.sum::<u64>()
    };
    of("arp") + of("ndisc")
}

/// Does it once more where a failure may come of that.
pub(crate) fn once_more<T>(name: &str, what: impl Fn() -> Result<T, String>) -> Result<T, String> {
    let before = overflows();
    what().or_else(|text| {
        if overflows() == before {
            return Err(text);
        }
        println!("{name}: once more, because the machine's neighbour table was full");
        what()
    })
}

/// SplitMix64: the same on every machine.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % u64::try_from(sides).unwrap()).unwrap()
    }

    pub(crate) fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.roll(of.len())]
    }
}

/// A tree of nodes, some behind switches, and now and then a cable more.
pub(crate) fn topology(dice: &mut Dice, routing: &str) -> String {
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
pub(crate) fn fault(dice: &mut Dice, state: &NetState, path: &[NsName], target: IpAddr, source: IpAddr) -> Vec<Op> {
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
            // An Ethernet address that nobody has, or somebody else.
            let nobodys = hopyard::net::MacAddr::from_bytes([2, 0, 0, 0, 0, 1]);
            let links = state.namespaces.values().flat_map(|space| space.links.values());
            let macs: Vec<_> = links.filter_map(|link| link.mac).collect();
            let mac = if macs.is_empty() || dice.roll(2) == 0 { nobodys } else { *dice.pick(&macs) };
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
