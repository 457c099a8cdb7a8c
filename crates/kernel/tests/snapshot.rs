//! What a snapshot has of real namespaces, and what a node's kernel answers: as root and in a user namespace.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test says what is wrong by failing")]

mod support;

use std::collections::BTreeSet;

use hopyard_kernel::{RouteAnswer, SnapshotScope, World};
use hopyard_net::{
    Family, FibAction, IfName, LinkKind, NextHop, NodeState, Op, Route, RouteKey, RouteKind, RuleAction,
};
use support::{addr, apply, at, inside, parse, realms, up, veth};

/// ```text
/// a eth0 -- eth0 b eth1 -- eth0 c
/// ```
fn three(world: &mut World) {
    let sysctl =
        |ns: &str, key: &str, value: &str| Op::SetSysctl { ns: parse(ns), key: parse(key), value: value.to_owned() };
    let hop = NextHop { via: Some(parse("10.0.0.2")), dev: parse("eth0"), weight: 1 };
    let refuse = Route { kind: RouteKind::Prohibit, ..Route::unicast(parse("10.9.0.0/16"), Vec::new()) };
    apply(
        world,
        &[
            Op::AddNs(parse("a")),
            Op::AddNs(parse("b")),
            Op::AddNs(parse("c")),
            veth("a:eth0", "b:eth0"),
            veth("b:eth1", "c:eth0"),
            up("a:lo"),
            up("a:eth0"),
            up("b:eth0"),
            up("b:eth1"),
            addr("a:eth0", "10.0.0.1/24"),
            addr("a:eth0", "10.0.0.9/24"),
            addr("b:eth0", "10.0.0.2/24"),
            addr("b:eth1", "10.0.1.1/24"),
            sysctl("b", "net.ipv4.ip_forward", "1"),
            sysctl("b", "net.ipv4.conf.eth0.rp_filter", "2"),
            sysctl("b", "net.ipv4.conf.all.rp_filter", "1"),
            sysctl("b", "net.ipv4.conf.all.arp_ignore", "2"),
            Op::SetRoute { ns: parse("a"), route: Route::unicast(parse("10.0.1.0/24"), vec![hop]) },
            Op::SetRoute { ns: parse("a"), route: refuse },
            Op::SetNeigh { at: at("a:eth0"), addr: parse("10.0.0.7"), mac: parse("02:00:00:00:00:07") },
        ],
    );
}

fn route<'a>(node: &'a NodeState, prefix: &str, table: u32) -> &'a FibAction {
    let prefix = parse(prefix);
    let found = node.routes.iter().find(|route| route.key.prefix == prefix && route.key.table == table);
    &found.unwrap_or_else(|| panic!("no route to {prefix} in table {table}: {:?}", node.routes)).action
}

#[test]
fn a_snapshot_has_what_decides_about_packets() {
    for (how, realm) in realms() {
        let mut world = World::new(realm);
        three(&mut world);
        let listener = inside(&world, "b", || std::net::TcpListener::bind("10.0.0.2:4242").unwrap());
        let scope = SnapshotScope { ends: BTreeSet::from([parse("b")]) };
        let snapshot = world.snapshot(&scope).unwrap();
        drop(listener);
        let (a, b) = (&snapshot.nodes["a"], &snapshot.nodes["b"]);
        let eth0: IfName = parse("eth0");
        let eth1: IfName = parse("eth1");

        assert_eq!(a.links[&eth0].kind, LinkKind::Veth { peer: Some(at("b:eth0")) }, "{how}");
        assert!(a.links[&eth0].up && a.links[&eth0].carrier, "{how}");
        // The other end was never set up.
        assert!(b.links[&eth1].up && !b.links[&eth1].carrier, "{how}");
        let addresses: Vec<(String, bool)> = a.links[&eth0]
            .addresses
            .iter()
            .filter(|own| own.net.addr().is_ipv4())
            .map(|own| (own.net.to_string(), own.secondary))
            .collect();
        assert_eq!(addresses, [("10.0.0.1/24".to_owned(), false), ("10.0.0.9/24".to_owned(), true)], "{how}");
        let loopback = a.links[&IfName::LO].addresses.iter().find(|own| own.net.addr().is_ipv4()).unwrap();
        assert!(loopback.host_only, "{how}");

        assert_eq!(route(a, "10.0.0.1/32", 255), &FibAction::Local, "{how}");
        assert_eq!(route(a, "10.9.0.0/16", RouteKey::MAIN), &FibAction::Route(RouteKind::Prohibit), "{how}");
        assert!(matches!(route(a, "10.0.1.0/24", RouteKey::MAIN), FibAction::Route(RouteKind::Unicast(_))), "{how}");
        let rules: Vec<(u32, RuleAction)> = a
            .rules
            .iter()
            .filter(|rule| rule.family == Family::Ipv4)
            .map(|rule| (rule.priority, rule.action))
            .collect();
        assert_eq!(
            rules,
            [(0, RuleAction::Lookup(255)), (32766, RuleAction::Lookup(254)), (32767, RuleAction::Lookup(253))],
            "{how}"
        );
        assert!(
            a.neighbours.iter().any(|it| it.addr == parse::<std::net::IpAddr>("10.0.0.7") && it.permanent),
            "{how}"
        );

        assert!(b.links[&eth0].conf.forwarding && !a.links[&eth0].conf.forwarding, "{how}");
        assert_eq!((b.links[&eth0].conf.rp_filter, b.all.rp_filter, b.all.arp_ignore), (2, 1, 2), "{how}");
        let listeners = b.listeners.as_ref().unwrap();
        assert!(
            listeners.iter().any(|it| it.tcp && it.port == 4242 && it.addr == Some(parse("10.0.0.2"))),
            "{how}: {listeners:?}"
        );
        assert_eq!(a.listeners, None, "{how}: nobody asked for them");
        assert!(a.firewall.as_ref().is_some_and(|rules| rules.chains.is_empty()), "{how}");
    }
}

#[test]
fn a_kernel_says_what_it_does_with_a_packet() {
    for (how, realm) in realms() {
        let mut world = World::new(realm);
        three(&mut world);
        let mut ask = |ns: &str, input: Option<&str>, from: Option<&str>, to: &str| {
            let from = from.map(parse);
            world.ask_route(&parse(ns), input.map(parse), (from, parse(to)), 1, None, 0).unwrap()
        };
        let via = Some(parse("10.0.0.2"));
        let on = RouteAnswer::On { dev: parse("eth0"), via, src: Some(parse("10.0.0.1")), redirected: false };
        assert_eq!(ask("a", None, None, "10.0.1.7"), on, "{how}");
        assert_eq!(ask("a", None, None, "10.0.0.1"), RouteAnswer::Local, "{how}");
        assert!(matches!(ask("a", None, None, "10.9.1.1"), RouteAnswer::Refused(_)), "{how}");
        assert!(matches!(ask("a", None, None, "192.0.2.1"), RouteAnswer::Refused(_)), "{how}");
        assert!(matches!(ask("b", Some("eth0"), Some("10.0.0.1"), "10.0.1.7"), RouteAnswer::On { .. }), "{how}");
        // Its way back is another.
        assert!(matches!(ask("b", Some("eth1"), Some("10.0.0.1"), "10.0.0.9"), RouteAnswer::Refused(_)), "{how}");
    }
}
