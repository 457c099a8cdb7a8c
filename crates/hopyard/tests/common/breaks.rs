//! All that may be wrong in a random lab: the faults of operations, and those that only a command in a node can make,
//! so that each row of the fault matrix may come up, in any mix.

use std::fmt::{self, Write as _};
use std::net::IpAddr;

use hopyard::net::{Endpoint, IfName, IpNet, MacAddr, NetState, NextHop, NsName, Op, Route, RouteKind};

use super::{Dice, fault};

/// One step of a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Break {
    /// An operation.
    Op(Op),
    /// What a shell of the node runs.
    Typed(NsName, String),
}

impl fmt::Display for Break {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Break::Op(op) => op.fmt(f),
            Break::Typed(node, command) => write!(f, "{node}: {command}"),
        }
    }
}

/// What is wrong between two addresses, once more. `number`: what no other fault of the case has.
pub(crate) fn breaks(
    dice: &mut Dice,
    state: &NetState,
    path: &[NsName],
    (target, source): (IpAddr, IpAddr),
    number: usize,
) -> Vec<Break> {
    if dice.roll(5) < 3 {
        return fault(dice, state, path, target, source).into_iter().map(Break::Op).collect();
    }
    let ns = dice.pick(path).clone();
    let here = &state.namespaces[&ns];
    let links: Vec<IfName> = here.links.keys().copied().filter(|dev| *dev != IfName::LO).collect();
    let Some(&dev) = links.get(dice.roll(links.len().max(1))) else { return Vec::new() };
    let at = Endpoint { ns: ns.clone(), dev };
    let link = &here.links[&dev];
    let (bits, flag) = if target.is_ipv4() { (32, "") } else { (128, "-6 ") };
    let towards = *dice.pick(&[target, target, source]);
    let own: Vec<IpNet> =
        link.addresses.iter().copied().filter(|net| net.addr().is_ipv4() == target.is_ipv4()).collect();
    let typed = |lines: Vec<String>| lines.into_iter().map(|line| Break::Typed(ns.clone(), line)).collect();
    match dice.roll(8) {
        0..=2 => typed(firewall(dice, (target, source), number)),
        3 => {
            // What a packet of 1400 bytes does not pass, here or at the other end.
            let mtu = *dice.pick(if target.is_ipv4() { &[576, 1280] } else { &[1280] });
            vec![Break::Op(Op::SetMtu { at, mtu: mtu.try_into().unwrap() })]
        }
        4 => {
            let about = match dice.roll(3) {
                0 => format!("from {source}"),
                1 => format!("iif {dev}"),
                _ => format!("to {towards}"),
            };
            let table = 100 + number;
            let what = *dice.pick(&["prohibit", "blackhole", "unreachable", "lookup"]);
            let mut lines = Vec::new();
            let what = if what == "lookup" {
                // A table of its own, which sends back or has nothing for it.
                if let Some(net) = own.first() {
                    lines.push(format!(
                        "ip {flag}route add {towards}/{bits} dev {dev} src {} table {table}",
                        net.addr()
                    ));
                }
                format!("lookup {table}")
            } else {
                what.to_owned()
            };
            lines.push(format!("ip {flag}rule add priority {table} {about} {what}"));
            typed(lines)
        }
        5 => {
            // The Ethernet address of somebody else.
            let macs: Vec<MacAddr> =
                state.namespaces.values().flat_map(|space| space.links.values()).filter_map(|link| link.mac).collect();
            let addr = super::neighbour(dice, state, link, target);
            if macs.is_empty() {
                return Vec::new();
            }
            vec![Break::Op(Op::SetNeigh { at, addr, mac: *dice.pick(&macs) })]
        }
        6 if !own.is_empty() => {
            // A mask that is too long.
            let net = *dice.pick(&own);
            let wrong = IpNet::new(net.addr(), bits).unwrap();
            vec![Break::Op(Op::DelAddr { at: at.clone(), addr: net }), Break::Op(Op::AddAddr { at, addr: wrong })]
        }
        7 if !own.is_empty() => {
            // From an address that the others may have no route to, or by a wrong neighbour.
            let all = here.links.values().flat_map(|link| &link.addresses).map(IpNet::addr);
            let all: Vec<IpAddr> = all.filter(|addr| addr.is_ipv4() == target.is_ipv4()).collect();
            let via = super::neighbour(dice, state, link, target);
            if all.contains(&via) {
                // Which the kernel takes for no gateway: docs/why.md, what it does not know.
                return Vec::new();
            }
            let prefix = *dice.pick(&[IpNet::new(towards, bits).unwrap(), IpNet::new(towards, 0).unwrap().trunc()]);
            let hop = NextHop { via: Some(via), dev, weight: 1 };
            let route = Route { src: Some(*dice.pick(&all)), ..Route::unicast(prefix, vec![hop]) };
            debug_assert!(matches!(route.kind, RouteKind::Unicast(_)));
            vec![Break::Op(Op::SetRoute { ns, route })]
        }
        _ => Vec::new(),
    }
}

/// A firewall in one hook: that drops, rejects, or lets pass only what it names.
fn firewall(dice: &mut Dice, (target, source): (IpAddr, IpAddr), number: usize) -> Vec<String> {
    let ip = if target.is_ipv4() { "ip" } else { "ip6" };
    let family = *dice.pick(&["inet", ip]);
    let hook = *dice.pick(&["forward", "forward", "input", "output", "prerouting", "postrouting"]);
    let (icmp, told) =
        if target.is_ipv4() { ("icmp", "destination-unreachable") } else { ("icmpv6", "packet-too-big") };
    let mut rules = Vec::new();
    let mut policy = "accept";
    match dice.roll(6) {
        0 => rules.push(format!("{ip} daddr {target} drop")),
        1 => rules.push(format!("{ip} saddr {target} counter drop")),
        2 if hook != "prerouting" && hook != "postrouting" => {
            rules.push(format!("{ip} daddr {target} reject with icmpx type admin-prohibited"));
        }
        3 => {
            policy = "drop";
            // Neighbour discovery is not what this is about.
            if ip == "ip6" && dice.roll(4) == 0 {
                rules.push("icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept".to_owned());
            } else if ip == "ip6" {
                rules.push("icmpv6 type nd-neighbor-solicit accept".to_owned());
                rules.push("icmpv6 type nd-neighbor-advert accept".to_owned());
            }
            rules.push(format!("{ip} daddr {} accept", *dice.pick(&[target, source])));
        }
        4 => rules.push(format!("{icmp} type {told} drop")),
        _ => {
            policy = "drop";
            if ip == "ip6" {
                rules.push("icmpv6 type nd-neighbor-solicit accept".to_owned());
                rules.push("icmpv6 type nd-neighbor-advert accept".to_owned());
            }
            rules.push("ct state established,related accept".to_owned());
            let protocol = *dice.pick(&["tcp", "udp", icmp]);
            rules.push(format!("meta l4proto {protocol} accept"));
        }
    }
    let table = format!("{family} fw{number}");
    let mut chain = format!("add chain {table} c {{ type filter hook {hook} priority {}; ", dice.roll(3));
    write!(chain, "policy {policy}; }}").unwrap();
    let mut lines = vec![format!("nft add table {table}"), format!("nft '{chain}'")];
    lines.extend(rules.into_iter().map(|rule| format!("nft 'add rule {table} c {rule}'")));
    lines
}

/// A network with more in it than a tree: circles, so that several ways are equal; switches with many members; a host
/// behind a router that translates.
pub(crate) fn wide_topology(dice: &mut Dice, routing: &str) -> String {
    let nodes = 3 + dice.roll(5);
    let mut links: Vec<String> = (1..nodes).map(|node| format!("n{} -- n{node}", dice.roll(node))).collect();
    for _ in 0..dice.roll(3) {
        let (one, other) = (dice.roll(nodes), dice.roll(nodes));
        if one != other {
            links.push(format!("n{one} -- n{other}"));
        }
    }
    let mut text = String::from("name: why\nnodes:\n");
    for node in 0..nodes {
        writeln!(text, "  n{node}:").unwrap();
    }
    if dice.roll(4) == 0 {
        text.push_str("  gw: { nat: { masquerade: out } }\n  inn:\n");
        links.push(format!("gw:out -- n{}", dice.roll(nodes)));
        links.push("inn -- gw".to_owned());
    }
    let mut switches = Vec::new();
    for switch in 0..dice.roll(3) {
        let mut members: Vec<usize> = (0..nodes).filter(|_| dice.roll(2) == 0).collect();
        if members.is_empty() {
            members.push(dice.roll(nodes));
        }
        let members: Vec<String> = members.into_iter().map(|node| format!("n{node}")).collect();
        writeln!(text, "  m{switch}:").unwrap();
        switches.push(format!("  sw{switch}: [{}, m{switch}]", members.join(", ")));
    }
    if !switches.is_empty() {
        writeln!(text, "switches:\n{}", switches.join("\n")).unwrap();
    }
    text.push_str("links:\n");
    for link in links {
        writeln!(text, "  - {link}").unwrap();
    }
    writeln!(text, "routing: {routing}").unwrap();
    text
}
