//! Networks for tests, written as a person would type them.
#![allow(dead_code, reason = "not every test file uses all of it")]

use hopyard_explain::{Choices, Edit, Packet, Protocol, Query, Verdict, explain};
use hopyard_net::{
    BaseChain, Chain, Endpoint, FibAction, Hook, IfAddress, IfName, LinkKind, LinkState, Listener, Nat, NatRule,
    Neighbour, NextHop, NodeState, Op, PolicyRule, Route, RouteKind, Rule, RuleAction, RuleStep, RuleVerdict, Ruleset,
    Snapshot,
};

/// Four nodes in a row, routed by hand:
///
/// ```text
/// a ra --- ab r1 rr ------ rr r2 rb --- br b lo 10.9.0.1/24
///   10.0.1.2  .1  10.0.2.1  .2  10.0.3.1  .2
/// ```
pub(crate) fn chain() -> Snapshot {
    let mut net = Snapshot::default();
    for node in ["a", "r1", "r2", "b"] {
        type_in(&mut net, &format!("node {node}"));
    }
    for line in [
        "link a:ra r1:ab",
        "link r1:rr r2:rr",
        "link r2:rb b:br",
        "a addr 10.0.1.2/24 dev ra",
        "a addr fd00:1::2/64 dev ra",
        "r1 addr 10.0.1.1/24 dev ab",
        "r1 addr fd00:1::1/64 dev ab",
        "r1 addr 10.0.2.1/24 dev rr",
        "r1 addr fd00:2::1/64 dev rr",
        "r2 addr 10.0.2.2/24 dev rr",
        "r2 addr fd00:2::2/64 dev rr",
        "r2 addr 10.0.3.1/24 dev rb",
        "r2 addr fd00:3::1/64 dev rb",
        "b addr 10.0.3.2/24 dev br",
        "b addr fd00:3::2/64 dev br",
        "b addr 10.9.0.1/24 dev lo",
        "a route 0.0.0.0/0 via 10.0.1.1 dev ra",
        "a route ::/0 via fd00:1::1 dev ra",
        "r1 route 10.0.3.0/24 via 10.0.2.2 dev rr",
        "r1 route fd00:3::/64 via fd00:2::2 dev rr",
        "r1 route 10.9.0.0/24 via 10.0.2.2 dev rr",
        "r2 route 10.0.1.0/24 via 10.0.2.1 dev rr",
        "r2 route fd00:1::/64 via fd00:2::1 dev rr",
        "r2 route 10.9.0.0/24 via 10.0.3.2 dev rb",
        "b route 10.0.1.0/24 via 10.0.3.1 dev br",
        "b route fd00:1::/64 via fd00:3::1 dev br",
        "b route 10.0.2.0/24 via 10.0.3.1 dev br",
        "r1 sysctl net.ipv4.ip_forward 1",
        "r1 sysctl net.ipv6.conf.all.forwarding 1",
        "r2 sysctl net.ipv4.ip_forward 1",
        "r2 sysctl net.ipv6.conf.all.forwarding 1",
    ] {
        type_in(&mut net, line);
    }
    net
}

fn parse<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().unwrap_or_else(|error| panic!("{text:?}: {error:?}"))
}

pub(crate) fn at(text: &str) -> Endpoint {
    let (ns, dev) = text.split_once(':').unwrap();
    Endpoint { ns: parse(ns), dev: parse(dev) }
}

fn node<'a>(net: &'a mut Snapshot, name: &str) -> &'a mut NodeState {
    net.nodes.get_mut(name).unwrap_or_else(|| panic!("no node {name}"))
}

/// Carries out one line.
pub(crate) fn type_in(net: &mut Snapshot, line: &str) {
    let words: Vec<&str> = line.split_whitespace().collect();
    let op = |net: &mut Snapshot, op: Op| Edit::Op(op).apply(net);
    match words.as_slice() {
        ["node", name] => {
            let mut lo = LinkState::new(LinkKind::Loopback);
            lo.index = 1;
            lo.mtu = 65536;
            let state = NodeState {
                rules: PolicyRule::defaults(),
                firewall: Some(Ruleset::default()),
                listeners: Some(Vec::new()),
                ..NodeState::default()
            };
            net.nodes.insert(parse(name), state);
            node(net, name).links.insert(IfName::LO, lo);
            for own in ["127.0.0.1/8", "::1/128"] {
                op(net, Op::AddAddr { at: at(&format!("{name}:lo")), addr: parse(own) });
            }
            for own in &mut node(net, name).links.get_mut(&IfName::LO).unwrap().addresses {
                *own = IfAddress { host_only: true, ..*own };
            }
        }
        ["link", one, other] => {
            for (here, there) in [(one, other), (other, one)] {
                let end = at(here);
                let count: usize = net.nodes.values().map(|node| node.links.len()).sum();
                let mut link = LinkState::new(LinkKind::Veth { peer: Some(at(there)) });
                let links = &mut node(net, end.ns.as_str()).links;
                link.index = u32::try_from(links.len() + 1).unwrap();
                link.mac = Some(parse(&format!("02:00:00:00:00:{count:02x}")));
                links.insert(end.dev, link);
            }
        }
        ["bridge", end] => {
            let end = at(end);
            node(net, end.ns.as_str()).links.insert(end.dev, LinkState::new(LinkKind::Bridge));
        }
        ["port", end, bridge] => {
            let end = at(end);
            node(net, end.ns.as_str()).links.get_mut(&end.dev).unwrap().master = Some(parse(bridge));
        }
        [ns, "addr", addr, "dev", dev] => op(net, Op::AddAddr { at: at(&format!("{ns}:{dev}")), addr: parse(addr) }),
        [ns, "noaddr", addr, "dev", dev] => op(net, Op::DelAddr { at: at(&format!("{ns}:{dev}")), addr: parse(addr) }),
        [ns, "route", prefix, "via", via, "dev", dev] => {
            let hop = NextHop { via: Some(parse(via)), dev: parse(dev), weight: 1 };
            op(net, Op::SetRoute { ns: parse(ns), route: Route::unicast(parse(prefix), vec![hop]) });
        }
        [ns, "route", prefix, "dev", dev] => {
            let hop = NextHop { via: None, dev: parse(dev), weight: 1 };
            op(net, Op::SetRoute { ns: parse(ns), route: Route::unicast(parse(prefix), vec![hop]) });
        }
        [ns, "route", prefix, kind @ ("blackhole" | "unreachable" | "prohibit")] => {
            let kind = match *kind {
                "blackhole" => RouteKind::Blackhole,
                "unreachable" => RouteKind::Unreachable,
                _ => RouteKind::Prohibit,
            };
            let route = Route { kind, ..Route::unicast(parse(prefix), Vec::new()) };
            op(net, Op::SetRoute { ns: parse(ns), route });
        }
        [ns, "noroute", prefix] => {
            let prefix: hopyard_net::IpNet = parse(prefix);
            node(net, ns).routes.retain(|route| route.key.prefix != prefix);
        }
        [ns, "sysctl", key, value] => {
            op(net, Op::SetSysctl { ns: parse(ns), key: parse(key), value: (*value).to_owned() });
        }
        // As the kernel has it: the routes through the interface go as well.
        [ns, "down", dev] => {
            let dev: IfName = parse(dev);
            op(net, Op::SetUp { at: at(&format!("{ns}:{dev}")), up: false });
            node(net, ns).routes.retain(|route| {
                route.action == FibAction::Local || !route.next_hops().iter().any(|hop| hop.dev == dev)
            });
        }
        [ns, "mtu", dev, mtu] => {
            node(net, ns).links.get_mut(&parse::<IfName>(dev)).unwrap().mtu = parse(mtu);
        }
        [ns, "mac", mac, "dev", dev] => op(net, Op::SetMac { at: at(&format!("{ns}:{dev}")), mac: parse(mac) }),
        [ns, "neigh", addr, mac, "dev", dev, how] => {
            let permanent = *how == "permanent";
            node(net, ns).neighbours.push(Neighbour { dev: parse(dev), addr: parse(addr), mac: parse(mac), permanent });
        }
        [ns, "rule", priority, "to", to, "prohibit"] => {
            let mut rule = PolicyRule::lookup(hopyard_net::Family::Ipv4, parse(priority), 0);
            rule.to = Some(parse(to));
            rule.action = RuleAction::Prohibit;
            node(net, ns).rules.insert(1, rule);
        }
        [ns, "listen", proto, addr, port] => {
            let addr: std::net::IpAddr = parse(addr);
            let listener = Listener {
                tcp: *proto == "tcp",
                family: hopyard_net::Family::of(addr),
                addr: Some(addr).filter(|addr| !addr.is_unspecified()),
                port: parse(port),
                only_ipv6: false,
                bound_to_device: false,
            };
            node(net, ns).listeners.get_or_insert_default().push(listener);
        }
        [ns, "masquerade", dev] => {
            let rule = NatRule::Masquerade { out: parse(dev), from: None };
            let chains = Nat::new(vec![rule]).chains();
            node(net, ns).firewall.get_or_insert_default().chains.extend(chains);
        }
        [ns, "dnat", from, to] => {
            let rule = NatRule::Destination { address: Some(parse(from)), service: None, to: parse(to), port: None };
            let chains = Nat::new(vec![rule]).chains();
            node(net, ns).firewall.get_or_insert_default().chains.extend(chains);
        }
        [ns, "filter", hook, policy, steps @ ..] => {
            let hook = match *hook {
                "input" => Hook::Input,
                "forward" => Hook::Forward,
                "output" => Hook::Output,
                "prerouting" => Hook::Prerouting,
                _ => Hook::Postrouting,
            };
            let base = BaseChain {
                hook,
                priority: 0,
                drops: *policy == "drop",
                kind: "filter".to_owned(),
                devices: Vec::new(),
            };
            let icmp = RuleStep::Load { register: 1, what: hopyard_net::Loaded::Layer4Protocol };
            let is =
                |number: u8| RuleStep::Compare { register: 1, how: hopyard_net::Comparison::Equal, with: vec![number] };
            let steps = steps.iter().map(|word| match *word {
                "l4proto" => icmp.clone(),
                "sequence" => RuleStep::Payload { register: 1, base: 2, offset: 4, length: 4 },
                "icmp" => is(1),
                // The type of an ICMP message, and the state of a connection.
                "type" => RuleStep::Payload { register: 1, base: 2, offset: 0, length: 1 },
                "unreachable" => is(3),
                "state" => RuleStep::Load { register: 1, what: hopyard_net::Loaded::ConnectionState },
                "unrelated" => RuleStep::Compare {
                    register: 1,
                    how: hopyard_net::Comparison::Equal,
                    with: 1_u32.to_ne_bytes().to_vec(),
                },
                "tcp" => is(6),
                "drop" => RuleStep::Verdict(RuleVerdict::Drop),
                "accept" => RuleStep::Verdict(RuleVerdict::Accept),
                "return" => RuleStep::Verdict(RuleVerdict::Return),
                "reject" => RuleStep::Reject { reset: false, with: None },
                other => RuleStep::Unknown(other.to_owned()),
            });
            let rules = vec![Rule { handle: 4, steps: steps.collect() }];
            let chain = Chain {
                family: "inet".to_owned(),
                table: "fw".to_owned(),
                name: hook.name().to_owned(),
                base: Some(base),
                rules,
            };
            node(net, ns).firewall.get_or_insert_default().chains.push(chain);
        }
        _ => panic!("not understood: {line}"),
    }
}

pub(crate) fn ask(from: &str, to: &str) -> Query {
    Query { from: parse(from), packet: Packet::probe(parse(to), Protocol::Icmp, 0), wanted: None }
}

pub(crate) fn told(net: &Snapshot, query: &Query) -> Verdict {
    explain(net, query, &Choices::new())
}
