//! The kernel does what operations say, and shows it again: on real namespaces, as root and in a
//! user namespace.
// Helpers of tests may do what tests may do.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use hopyard_kernel::{Errno, World};
use hopyard_net::{IfName, Link, LinkKind, NetState, NextHop, NsState, Op, Route, RouteKey, RouteKind, SysctlKey};
use support::{addr, apply, at, inside, ops_for, parse, ping, realms, run_inside, some_realm, sysctls_of, up, veth};

fn link(kind: LinkKind, addresses: &[&str]) -> Link {
    Link { up: true, addresses: addresses.iter().map(|text| parse(text)).collect(), ..Link::new(kind) }
}

fn end(peer: &str, mac: &str, mtu: u32, addresses: &[&str]) -> Link {
    let mut link = link(LinkKind::Veth { peer: Some(at(peer)) }, addresses);
    link.mac = Some(parse(mac));
    link.mtu = Some(mtu.try_into().unwrap());
    link
}

fn hop(via: &str, dev: &str, weight: u16) -> NextHop {
    NextHop { via: Some(parse(via)), dev: parse(dev), weight }
}

fn routes(list: impl IntoIterator<Item = Route>) -> BTreeMap<RouteKey, Route> {
    list.into_iter().map(|route| (route.key.clone(), route)).collect()
}

/// Everything that a state can say, once:
///
/// ```text
/// a eth0 -- eth0 b        a eth1 -- p1 sw (br0) p2 -- eth0 c
/// a eth2 -- eth1 b
/// ```
fn everything() -> NetState {
    let mut a = NsState::default();
    a.links.insert(IfName::LO, link(LinkKind::Loopback, &["10.255.0.1/32", "fd00:ffff::1/128"]));
    a.links
        .insert(parse("eth0"), end("b:eth0", "02:00:00:00:00:01", 1500, &["10.0.0.1/24", "10.0.0.3/24", "fd00::1/64"]));
    a.links.insert(parse("eth1"), end("sw:p1", "02:00:00:00:00:03", 1500, &["10.0.1.1/24", "fe80::99/64"]));
    a.links.insert(parse("eth2"), end("b:eth1", "02:00:00:00:00:05", 9000, &["10.0.2.1/31", "fd00:2::1/64"]));
    let mut with_alt_name = a.links.remove(&parse::<IfName>("eth0")).unwrap();
    with_alt_name.alt_names = BTreeSet::from([parse("to-b-with-a-rather-long-name"), parse("second")]);
    a.links.insert(parse("eth0"), with_alt_name);
    let both = |x: &str, y: &str| vec![hop(x, "eth0", 1), hop(y, "eth2", 3)];
    let mut limited = Route::unicast(parse("0.0.0.0/0"), vec![hop("10.0.0.2", "eth0", 1)]);
    limited.hop_limit = Some(255);
    limited.src = Some(parse("10.255.0.1"));
    let mut other_table = Route::unicast(parse("10.9.0.0/16"), vec![hop("10.0.0.2", "eth0", 1)]);
    other_table.key.table = 1000;
    other_table.key.metric = 50;
    let mut second_best = Route::unicast(parse("fd00:9::/48"), vec![hop("fd00::2", "eth0", 1)]);
    second_best.key.metric = 2000;
    let dead_end = |prefix: &str, kind| Route { kind, ..Route::unicast(parse(prefix), Vec::new()) };
    a.routes = routes([
        limited,
        other_table,
        second_best,
        Route::unicast(parse("10.3.0.0/16"), both("10.0.0.2", "10.0.2.0")),
        Route::unicast(parse("fd00:3::/32"), both("fd00::2", "fd00:2::2")),
        Route::unicast(parse("fd00:9::/48"), vec![hop("fd00::2", "eth0", 1)]),
        Route::unicast(parse("10.4.0.0/16"), vec![NextHop { via: None, dev: parse("eth1"), weight: 1 }]),
        Route::unicast(parse("fd00:4::/48"), vec![NextHop { via: None, dev: parse("eth1"), weight: 1 }]),
        Route::unicast(parse("10.5.0.0/16"), vec![hop("fd00::2", "eth0", 1)]),
        dead_end("10.6.0.0/16", RouteKind::Blackhole),
        dead_end("10.7.0.0/16", RouteKind::Unreachable),
        dead_end("fd00:8::/48", RouteKind::Prohibit),
        dead_end("fd00:7::/48", RouteKind::Blackhole),
    ]);
    a.neighbours = BTreeMap::from([
        ((parse("eth0"), parse("10.0.0.2")), parse("02:00:00:00:00:02")),
        ((parse("eth0"), parse("fd00::2")), parse("02:00:00:00:00:02")),
    ]);
    a.sysctls = BTreeMap::from([
        (SysctlKey::IPV4_FORWARD, "1".to_owned()),
        (SysctlKey::IPV6_FORWARD, "1".to_owned()),
        (parse("net.ipv4.tcp_rmem"), "4096 65536 1048576".to_owned()),
        (parse("net.ipv4.conf.eth0.rp_filter"), "2".to_owned()),
    ]);

    let mut b = NsState::default();
    b.links.insert(parse("eth0"), end("a:eth0", "02:00:00:00:00:02", 1500, &["10.0.0.2/24", "fd00::2/64"]));
    b.links.insert(parse("eth1"), end("a:eth2", "02:00:00:00:00:06", 9000, &["10.0.2.0/31", "fd00:2::2/64"]));
    b.sysctls = BTreeMap::from([(SysctlKey::IPV6_FORWARD, "0".to_owned())]);

    let mut c = NsState::default();
    c.links.insert(parse("eth0"), end("sw:p2", "02:00:00:00:00:08", 1500, &["10.0.1.2/24"]));
    c.routes = routes([Route::unicast(parse("0.0.0.0/0"), vec![hop("10.0.1.1", "eth0", 1)])]);

    let mut sw = NsState::default();
    let mut bridge = link(LinkKind::Bridge, &[]);
    bridge.mtu = Some(1500.try_into().unwrap());
    sw.links.insert(parse("br0"), bridge);
    for (port, peer, mac) in [("p1", "a:eth1", "02:00:00:00:00:04"), ("p2", "c:eth0", "02:00:00:00:00:07")] {
        sw.links.insert(parse(port), Link { master: Some(parse("br0")), ..end(peer, mac, 1500, &[]) });
    }

    NetState { namespaces: BTreeMap::from([(parse("a"), a), (parse("b"), b), (parse("c"), c), (parse("sw"), sw)]) }
}

#[test]
fn what_was_wanted_is_observed() {
    for (how, realm) in realms() {
        let wanted = everything();
        let mut world = World::new(realm.clone());
        apply(&mut world, &ops_for(&wanted));
        let found = world.observe(&sysctls_of(&wanted)).unwrap();
        pretty_assert_eq(how, &found, &wanted);

        // Who comes later sees the same, by the namespaces alone.
        let mut later = World::new(realm);
        let names: Vec<_> = world.names().cloned().collect();
        later.adopt_all(names.into_iter().map(|ns| (ns.clone(), world.ns_fd(&ns).unwrap())).collect()).unwrap();
        drop(world);
        pretty_assert_eq(how, &later.observe(&sysctls_of(&wanted)).unwrap(), &wanted);
        assert!(ping(&later, "c", "10.0.0.1"), "{how}: no answer across the bridge");
        assert!(ping(&later, "b", "fd00:2::1"), "{how}: no answer over IPv6");
    }
}

/// Says which namespace differs, in lines.
fn pretty_assert_eq(how: &str, found: &NetState, wanted: &NetState) {
    for (name, wanted) in &wanted.namespaces {
        let found = &found.namespaces[name];
        assert_eq!(format!("{found:#?}"), format!("{wanted:#?}"), "{how}, node {name}");
    }
    assert_eq!(found, wanted, "{how}");
}

#[test]
fn a_change_changes_what_it_says_and_no_more() {
    for (how, realm) in realms() {
        let mut state = everything();
        let mut world = World::new(realm);
        apply(&mut world, &ops_for(&state));
        let keys = sysctls_of(&state);

        let new_default = Route::unicast(parse("0.0.0.0/0"), vec![hop("10.0.2.0", "eth2", 1)]);
        let single = Route::unicast(parse("fd00:3::/32"), vec![hop("fd00:2::2", "eth2", 1)]);
        let gone = RouteKey::main(parse("fd00:9::/48"));
        let ns = || parse("a");
        apply(
            &mut world,
            &[
                Op::DelLink(at("c:eth0")),
                // A veth of the same name, in the place where one has just gone.
                veth("c:eth0", "b:eth2"),
                // The primary address goes, the other one stays.
                Op::DelAddr { at: at("a:eth0"), addr: parse("10.0.0.1/24") },
                Op::DelAltName { at: at("a:eth0"), name: parse("second") },
                Op::SetMac { at: at("b:eth1"), mac: parse("02:00:00:00:00:0b") },
                Op::SetMtu { at: at("a:eth0"), mtu: 1400.try_into().unwrap() },
                Op::SetRoute { ns: ns(), route: new_default.clone() },
                Op::SetRoute { ns: ns(), route: single.clone() },
                Op::DelRoute { ns: ns(), key: gone.clone() },
                Op::DelNeigh { at: at("a:eth0"), addr: parse("fd00::2") },
                Op::SetSysctl { ns: ns(), key: SysctlKey::IPV4_FORWARD, value: "0".into() },
                Op::SetMaster { at: at("sw:p1"), master: None },
                Op::SetUp { at: at("sw:p1"), up: false },
            ],
        );

        let a = state.namespaces.get_mut("a").unwrap();
        a.routes.extend(routes([new_default, single]));
        a.routes.remove(&gone);
        a.neighbours.remove(&(parse("eth0"), parse("fd00::2")));
        // The kernel sets these with `ip_forward`, for interfaces that are and that will be.
        a.sysctls.insert(SysctlKey::IPV4_FORWARD, "0".into());
        let eth0 = a.links.get_mut(&parse::<IfName>("eth0")).unwrap();
        eth0.addresses.remove(&parse("10.0.0.1/24"));
        eth0.alt_names.remove(&parse("second"));
        eth0.mtu = Some(1400.try_into().unwrap());
        let sw = state.namespaces.get_mut("sw").unwrap();
        sw.links.remove(&parse::<IfName>("p2"));
        let p1 = sw.links.get_mut(&parse::<IfName>("p1")).unwrap();
        (p1.master, p1.up) = (None, false);
        let mut found = world.observe(&keys).unwrap();
        // The new pair has addresses of the kernel's choice.
        let c = state.namespaces.get_mut("c").unwrap();
        let drawn = |ns: &str, dev: &str| found.namespaces[ns].links[&parse::<IfName>(dev)].mac;
        let new_end = |peer: &str, mac| Link {
            mac,
            mtu: Some(1500.try_into().unwrap()),
            ..Link::new(LinkKind::Veth { peer: Some(at(peer)) })
        };
        c.links.insert(parse("eth0"), new_end("b:eth2", drawn("c", "eth0")));
        c.routes.clear();
        let eth2 = new_end("c:eth0", drawn("b", "eth2"));
        let b = state.namespaces.get_mut("b").unwrap();
        b.links.insert(parse("eth2"), eth2);
        b.links.get_mut(&parse::<IfName>("eth1")).unwrap().mac = Some(parse("02:00:00:00:00:0b"));
        found.namespaces.get_mut("c").unwrap().sysctls.clear();
        pretty_assert_eq(how, &found, &state);
    }
}

#[test]
fn a_node_that_ends_takes_its_links_with_it_at_once() {
    for (how, realm) in realms() {
        let mut world = World::new(realm);
        let hub = |i: u32| format!("hub:p{i}");
        let mut ops = vec![Op::AddNs(parse("hub"))];
        ops.extend((0..4).map(|i| Op::AddNs(parse(&format!("n{i}")))));
        ops.extend((0..4).map(|i| veth(&hub(i), &format!("n{i}:eth0"))));
        ops.push(veth("n2:x", "n3:x"));
        apply(&mut world, &ops);
        for _ in 0..3 {
            apply(
                &mut world,
                &[
                    Op::DelNs(parse("n2")),
                    Op::DelNs(parse("n3")),
                    Op::AddNs(parse("n3")),
                    veth(&hub(2), "n3:eth0"),
                    veth(&hub(3), "n3:eth1"),
                ],
            );
            let found = world.observe(&BTreeMap::new()).unwrap();
            let names: Vec<_> = found.namespaces.keys().map(ToString::to_string).collect();
            assert_eq!(names, ["hub", "n0", "n1", "n3"], "{how}");
            let peer = &found.namespaces["hub"].links[&parse::<IfName>("p2")].kind;
            assert_eq!(*peer, LinkKind::Veth { peer: Some(at("n3:eth0")) }, "{how}");
            apply(&mut world, &[Op::AddNs(parse("n2"))]);
        }
    }
}

/// Where there is no IPv6, nothing is said in it; when it comes to a link that is up, it works at once.
#[test]
fn ipv6_comes_to_a_link_that_had_none() {
    for (_, realm) in realms() {
        let mut world = World::new(realm);
        let mut ops: Vec<Op> = ["a", "b"].map(|ns| Op::AddNs(parse(ns))).into();
        ops.push(veth("a:eth0", "b:eth0"));
        ops.extend([up("a:eth0"), up("b:eth0"), addr("a:eth0", "10.0.0.0/31"), addr("b:eth0", "10.0.0.1/31")]);
        apply(&mut world, &ops);
        let shown = |world: &World| inside(world, "a", || std::fs::read_to_string("/proc/thread-self/net/if_inet6"));
        assert_eq!(shown(&world).unwrap(), "");
        apply(&mut world, &[addr("a:eth0", "fd00::1/64"), addr("b:eth0", "fd00::2/64")]);
        assert_eq!(shown(&world).unwrap().lines().filter(|line| line.starts_with("fe80")).count(), 1);
        assert!(ping(&world, "a", "fd00::2"));
    }
}

#[test]
fn iproute2_shows_the_same() {
    let Some(realm) = realms().into_iter().find(|(how, _)| *how == "root").map(|(_, realm)| realm) else { return };
    let mut world = World::new(realm);
    apply(&mut world, &ops_for(&everything()));
    let ip = |ns: &str, words: &[&str]| {
        let output = run_inside(&world, ns, &[&["ip"], words].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let has = |text: &str, parts: &[&str]| {
        for part in parts {
            assert!(text.contains(part), "{part:?} is not in {text}");
        }
    };
    has(
        &ip("a", &["-o", "-d", "link", "show", "eth0"]),
        &[
            "02:00:00:00:00:01",
            "mtu 1500",
            "altname second",
            "altname to-b-with-a-rather-long-name",
            "numtxqueues 1",
            "state UP",
        ],
    );
    has(&ip("sw", &["-o", "-d", "link", "show", "br0"]), &["mcast_snooping 0", "stp_state 0", "state UP"]);
    has(&ip("a", &["-o", "-6", "address", "show", "dev", "eth0"]), &["fd00::1/64", "nodad"]);
    let addresses = ip("a", &["-6", "-o", "address"]);
    assert!(addresses.contains("fe80::ff:fe00:1/64") && !addresses.contains("tentative"), "{addresses}");
    has(
        &ip("a", &["-4", "route", "show", "table", "all"]),
        &[
            "default via 10.0.0.2 dev eth0 proto static src 10.255.0.1 hoplimit 255",
            "10.9.0.0/16 via 10.0.0.2 dev eth0 table 1000 proto static metric 50",
            "nexthop via 10.0.2.0 dev eth2 weight 3",
            "10.4.0.0/16 dev eth1 proto static scope link",
            "10.5.0.0/16 via inet6 fd00::2 dev eth0 proto static",
            "blackhole 10.6.0.0/16 proto static",
            "unreachable 10.7.0.0/16 proto static",
        ],
    );
    has(
        &ip("a", &["-6", "route", "show"]),
        &[
            "prohibit fd00:8::/48",
            "fd00:9::/48 via fd00::2 dev eth0 proto static metric 2000",
            "nexthop via fd00:2::2 dev eth2 weight 3",
        ],
    );
    has(&ip("a", &["neigh", "show"]), &["10.0.0.2 dev eth0 lladdr 02:00:00:00:00:02 PERMANENT"]);
}

#[test]
fn the_first_operation_that_fails_is_named_with_the_kernels_words() {
    let Some(realm) = some_realm() else { return };
    let mut world = World::new(realm);
    let route = |prefix: &str, via: &str| Op::SetRoute {
        ns: parse("a"),
        route: Route::unicast(parse(prefix), vec![hop(via, "eth0", 1)]),
    };
    let ops = [
        Op::AddNs(parse("a")),
        Op::AddNs(parse("b")),
        veth("a:eth0", "b:eth0"),
        up("a:eth0"),
        up("b:eth0"),
        addr("a:eth0", "10.0.0.1/24"),
        route("10.1.0.0/16", "10.0.0.2"),
        route("10.2.0.0/16", "10.9.9.9"),
        route("10.3.0.0/16", "10.0.0.2"),
        route("10.4.0.0/16", "10.9.9.9"),
    ];
    let error = world.apply(&ops, &mut |_| {}).unwrap_err();
    assert_eq!((error.at, error.done), (7, 8));
    assert_eq!(
        error.to_string(),
        "cannot set the route to 10.2.0.0/16 in a: Network is unreachable (ENETUNREACH): Nexthop has invalid gateway"
    );
    assert_eq!(error.error.op.as_deref(), Some(&ops[7]));

    let mut refused = |op: Op| {
        let error = world.apply(&[op], &mut |_| {}).unwrap_err().error;
        (error.errno(), error.to_string())
    };
    assert_eq!(refused(Op::AddNs(parse("a"))).0, Errno::EXIST);
    assert_eq!(
        refused(veth("a:eth0", "b:eth1")).1,
        "cannot create link a:eth0 -- b:eth1: File exists (EEXIST): a has an interface eth0 already"
    );
    assert_eq!(
        refused(addr("a:eth0", "10.0.0.1/24")).1,
        "cannot give a:eth0 the address 10.0.0.1/24: File exists (EEXIST): ipv4: Address already assigned"
    );
    assert_eq!(refused(up("a:eth7")).0, Errno::NODEV);
    assert_eq!(refused(up("z:eth7")).0, Errno::NOENT);
    let sysctl = Op::SetSysctl { ns: parse("a"), key: parse("net.ipv4.no_such_thing"), value: "1".into() };
    assert_eq!(
        refused(sysctl).1,
        "cannot set net.ipv4.no_such_thing = 1 in a: no such sysctl in this namespace; \
         No such file or directory (ENOENT)"
    );
    let sysctl = Op::SetSysctl { ns: parse("a"), key: SysctlKey::IPV4_FORWARD, value: "perhaps".into() };
    assert_eq!(refused(sysctl).1, "cannot set net.ipv4.ip_forward = perhaps in a: Invalid argument (EINVAL)");
}

#[test]
fn many_refusals_do_not_hide_the_first() {
    let Some(realm) = some_realm() else { return };
    let mut world = World::new(realm);
    let mut ops = vec![Op::AddNs(parse("a")), up("a:lo"), addr("a:lo", "10.0.0.1/24")];
    ops.extend((0..20_000_u32).map(|i| {
        let prefix = format!("10.{}.{}.0/24", 1 + i / 256, i % 256);
        Op::SetRoute { ns: parse("a"), route: Route::unicast(parse(&prefix), vec![hop("192.0.2.1", "lo", 1)]) }
    }));
    let error = world.apply(&ops, &mut |_| {}).unwrap_err();
    assert_eq!(error.at, 3);
    // The socket works as before.
    assert!(world.observe(&BTreeMap::new()).is_ok());
}

#[test]
fn packets_flow_when_apply_returns() {
    const NODES: usize = 50;
    for (how, realm) in realms() {
        let mut world = World::new(realm);
        let name = |i: usize| format!("r{i}");
        let mut ops: Vec<Op> = (0..NODES).map(|i| Op::AddNs(parse(&name(i)))).collect();
        for key in [SysctlKey::IPV4_FORWARD, SysctlKey::IPV6_FORWARD] {
            ops.extend((0..NODES).map(|i| Op::SetSysctl { ns: parse(&name(i)), key: key.clone(), value: "1".into() }));
        }
        ops.extend((1..NODES).map(|i| veth(&format!("{}:right", name(i - 1)), &format!("{}:left", name(i)))));
        for i in 0..NODES {
            if i > 0 {
                let left = format!("{}:left", name(i));
                ops.extend([
                    up(&left),
                    addr(&left, &format!("10.0.{i}.2/24")),
                    addr(&left, &format!("fd00:{i}::2/64")),
                ]);
            }
            if i + 1 < NODES {
                let (right, next) = (format!("{}:right", name(i)), i + 1);
                ops.extend([
                    up(&right),
                    addr(&right, &format!("10.0.{next}.1/24")),
                    addr(&right, &format!("fd00:{next}::1/64")),
                ]);
            }
            let mut route = |prefix: String, via: String, dev: &str| {
                let route = Route::unicast(parse(&prefix), vec![hop(&via, dev, 1)]);
                ops.push(Op::SetRoute { ns: parse(&name(i)), route });
            };
            if i + 1 < NODES {
                route("0.0.0.0/0".into(), format!("10.0.{}.2", i + 1), "right");
                route("::/0".into(), format!("fd00:{}::2", i + 1), "right");
            }
            for j in 1..i {
                route(format!("10.0.{j}.0/24"), format!("10.0.{i}.1"), "left");
                route(format!("fd00:{j}::/64"), format!("fd00:{i}::1"), "left");
            }
        }
        // The last has no way back but by the routes above; its own default leads left.
        apply(&mut world, &ops);
        assert!(ping(&world, "r0", "10.0.49.2"), "{how}: IPv4 does not flow");
        assert!(ping(&world, "r0", "fd00:49::2"), "{how}: IPv6 does not flow");
    }
}

#[test]
fn sysctls_of_many_nodes_do_not_get_mixed_up() {
    // Enough for both threads to take a procfs of their own.
    const NODES: usize = 300;
    for (how, realm) in realms() {
        let mut world = World::new(realm);
        let key: SysctlKey = parse("net.ipv4.ip_default_ttl");
        let value = |i: usize| (100 + i % 100).to_string();
        let name = |i: usize| parse::<hopyard_net::NsName>(&format!("n{i}"));
        let mut ops: Vec<Op> = (0..NODES).map(|i| Op::AddNs(name(i))).collect();
        ops.extend((0..NODES).map(|i| Op::SetSysctl { ns: name(i), key: key.clone(), value: value(i) }));
        apply(&mut world, &ops);
        let asked = (0..NODES).map(|i| (name(i), BTreeSet::from([key.clone()]))).collect();
        let found = world.observe(&asked).unwrap();
        for i in 0..NODES {
            assert_eq!(found.namespaces[&name(i)].sysctls[&key], value(i), "{how}, node {i}");
        }
    }
}

#[test]
fn other_users_of_the_namespace_are_no_obstacle() {
    // Interfaces that somebody else made between two calls of `apply` keep their indexes.
    let Some(realm) = realms().into_iter().find(|(how, _)| *how == "root").map(|(_, realm)| realm) else { return };
    let mut world = World::new(realm);
    apply(&mut world, &[Op::AddNs(parse("a")), Op::AddNs(parse("b"))]);
    let made = run_inside(&world, "a", &["ip", "link", "add", "alien", "type", "bridge"]);
    assert!(made.status.success());
    apply(&mut world, &[veth("a:eth0", "b:eth0")]);
    let found = world.observe(&BTreeMap::new()).unwrap();
    assert_eq!(found.namespaces["a"].links.len(), 3);
    let value = inside(&world, "a", || std::fs::read_to_string("/proc/sys/net/ipv4/conf/alien/forwarding").unwrap());
    assert_eq!(value.trim(), "0");
}
