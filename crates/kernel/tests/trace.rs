//! The way of a probe through the rules of a namespace, as the kernel tells it: as root and in a user namespace.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test says what is wrong by failing")]

mod support;

use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use hopyard_kernel::nftables::{Decided, TraceStep, Tracer};
use hopyard_kernel::tap::Mark;
use hopyard_kernel::{Errno, Part, Realm, SnapshotScope, World, pin};
use hopyard_net::{NextHop, Op, Route, Ruleset, SysctlKey};
use support::{addr, apply, mark, parse, realms, run_inside, until, up, veth};

/// ```text
/// a eth0 ------------- eth0 r eth1 ------------- eth0 b
///   10.0.0.1    10.0.0.2      10.1.0.1    10.1.0.2
///   fd00::1     fd00::2       fd01::1     fd01::2
/// ```
fn three(realm: Realm) -> World {
    let mut world = World::new(realm);
    let route = |ns: &str, to: &str, via: &str| {
        let hop = NextHop { via: Some(parse(via)), dev: parse("eth0"), weight: 1 };
        Op::SetRoute { ns: parse(ns), route: Route::unicast(parse(to), vec![hop]) }
    };
    let set = |ns: &str, key: SysctlKey, value: &str| Op::SetSysctl { ns: parse(ns), key, value: value.to_owned() };
    let mut ops: Vec<Op> = ["a", "r", "b"].map(|ns| Op::AddNs(parse(ns))).into();
    ops.extend([veth("a:eth0", "r:eth0"), veth("r:eth1", "b:eth0")]);
    for (ns, devs) in [("a", &["eth0"][..]), ("r", &["eth0", "eth1"]), ("b", &["eth0"])] {
        for dev in devs {
            ops.push(set(ns, parse(&format!("net.ipv6.conf.{dev}.accept_dad")), "0"));
            ops.push(up(&format!("{ns}:{dev}")));
        }
    }
    for (at, net) in [
        ("a:eth0", "10.0.0.1/24"),
        ("r:eth0", "10.0.0.2/24"),
        ("r:eth1", "10.1.0.1/24"),
        ("b:eth0", "10.1.0.2/24"),
        ("a:eth0", "fd00::1/64"),
        ("r:eth0", "fd00::2/64"),
        ("r:eth1", "fd01::1/64"),
        ("b:eth0", "fd01::2/64"),
    ] {
        ops.push(addr(at, net));
    }
    ops.push(set("r", SysctlKey::IPV4_FORWARD, "1"));
    ops.push(set("r", parse("net.ipv6.conf.all.forwarding"), "1"));
    ops.extend([route("a", "10.1.0.0/24", "10.0.0.2"), route("b", "10.0.0.0/24", "10.1.0.1")]);
    ops.extend([route("a", "fd01::/64", "fd00::2"), route("b", "fd00::/64", "fd01::1")]);
    apply(&mut world, &ops);
    world
}

fn nft(world: &World, ns: &str, rules: &str) {
    let output = run_inside(world, ns, &["nft", rules]);
    assert!(output.status.success(), "{rules}: {}", String::from_utf8_lossy(&output.stderr));
}

fn tables(world: &World, ns: &str) -> String {
    String::from_utf8(run_inside(world, ns, &["nft", "list", "tables"]).stdout).unwrap()
}

/// The table of a tracer goes with its socket, which a process that another test starts meanwhile has too, until it
/// executes its program.
fn assert_only(world: &World, ns: &str, expected: &str, how: &str) {
    let mut found = String::new();
    let same = until(Duration::from_secs(5), || {
        found = tables(world, ns);
        found == expected
    });
    assert!(same, "{how}: {found:?} and not {expected:?}");
}

fn begin(world: &World, ns: &str, mark: &Mark) -> Tracer {
    let fd = world.ns_fd(&parse(ns)).unwrap();
    let rules = world.firewall(&parse(ns)).unwrap().unwrap();
    Tracer::open_all(world.realm(), &[(fd.as_fd(), &rules)], &[*mark]).unwrap().remove(0).unwrap()
}

/// Sends a probe from a, and returns what r has decided, in a line each, until `last` has been decided.
fn trace(world: &World, mark: &Mark, last: impl Fn(&TraceStep) -> bool) -> Vec<String> {
    let mut tracer = begin(world, "r", mark);
    let source = world.ns_fd(&parse("a")).unwrap();
    let _socket = mark.send(world.realm(), source.as_fd()).unwrap();
    let mut steps = Vec::new();
    let done = until(Duration::from_secs(5), || {
        steps.extend(tracer.read().unwrap().steps.into_iter().map(|(_, step)| step));
        steps.iter().any(&last)
    });
    let line = |step: &TraceStep| {
        let TraceStep { part, family, table, chain, rule, decided } = step;
        let by = rule.map_or_else(|| "policy".to_owned(), |handle| format!("rule {handle}"));
        format!("{} {family} {table} {chain} {by} {decided:?}", part.name())
    };
    let lines: Vec<String> = steps.iter().map(line).collect();
    assert!(done, "{lines:?}");
    lines
}

fn has_nft() -> bool {
    let has = std::process::Command::new("nft").arg("--version").output().is_ok();
    if !has {
        println!("skipped: no nft to load rules");
    }
    has
}

/// Tests `r` with rules, as everybody who can be here; where rules can be loaded.
fn with_rules(rules: &str, test: impl Fn(&str, World)) {
    if !has_nft() {
        return;
    }
    for (how, realm) in realms() {
        let world = three(realm);
        nft(&world, "r", rules);
        test(how, world);
    }
}

/// `nft -a` numbers chains and rules of a table from 1.
#[test]
fn the_rule_that_decides_is_named_there_and_back() {
    let rules = "table inet fw { chain more { meta l4proto { 1, 58 } accept; }; \
             chain forward { type filter hook forward priority 0; policy drop; counter; jump more; ct state established accept; }; }";
    with_rules(rules, |how, world| {
        let passed =
            |part| move |step: &TraceStep| step.part == part && step.chain == "more" && step.decided == Decided::Accept;
        for (protocol, dst) in [(1, "10.1.0.2"), (58, "fd01::2")] {
            let lines = trace(&world, &mark(protocol, dst), passed(Part::Reply));
            let expected = ["forward rule 4 On", "forward rule 5 On", "more rule 3 Accept"];
            let expected: Vec<String> = ["packet", "reply"]
                .iter()
                .flat_map(|part| expected.map(|line| format!("{part} inet fw {line}")))
                .collect();
            assert_eq!(lines.len(), 6, "{how}: {lines:?}");
            for (line, expected) in lines.iter().zip(&expected) {
                let (words, other): (Vec<_>, Vec<_>) = (line.split(' ').collect(), expected.split(' ').collect());
                assert_eq!((&words[..4], words.last()), (&other[..4], other.last()), "{how}: {lines:?}");
            }
        }
        // Nobody lets these pass.
        for (protocol, dst) in [(6, "10.1.0.2"), (17, "10.1.0.2"), (6, "fd01::2"), (17, "fd01::2")] {
            let lines = trace(&world, &mark(protocol, dst), |step| step.decided == Decided::Drop);
            assert_eq!(lines.last().unwrap(), "packet inet fw forward policy Drop", "{how} {protocol}: {lines:?}");
        }
        assert_only(&world, "r", "table inet fw\n", how);
    });
}

/// The kernel's number for a packet does not depend on its addresses.
#[test]
fn a_packet_is_followed_through_its_translation_and_an_error_about_it_too() {
    let rules = "table ip nat { chain prerouting { type nat hook prerouting priority dstnat; ip daddr 10.9.9.9 dnat to 10.1.0.2; }; \
             chain forward { type filter hook forward priority 0; icmp type destination-unreachable drop; }; \
             chain postrouting { type nat hook postrouting priority srcnat; masquerade; }; }";
    with_rules(rules, |how, mut world| {
        let hop = NextHop { via: Some(parse("10.0.0.2")), dev: parse("eth0"), weight: 1 };
        let route = Route::unicast(parse("10.9.9.9/32"), vec![hop]);
        apply(&mut world, &[Op::SetRoute { ns: parse("a"), route }]);
        let back = |step: &TraceStep| step.part == Part::Reply && step.chain == "forward";
        for protocol in [1, 6] {
            let mark = mark(protocol, "10.9.9.9");
            let lines = trace(&world, &mark, back);
            let of =
                |part: &str, chain: &str| lines.iter().any(|line| line.starts_with(&format!("{part} ip nat {chain}")));
            assert!(
                of("packet", "prerouting") && of("packet", "forward") && of("packet", "postrouting"),
                "{how}: {lines:?}"
            );
            assert!(of("reply", "forward"), "{how}: {lines:?}");
        }
        // Nobody listens, and nobody is told.
        let lines =
            trace(&world, &mark(17, "10.9.9.9"), |step| step.part == Part::Error && step.decided == Decided::Drop);
        assert!(lines.last().unwrap().starts_with("error ip nat forward rule "), "{how}: {lines:?}");
    });
}

#[test]
fn several_at_once_see_their_own_packets_and_nobody_reads_their_tables() {
    let rules = "table inet fw { chain forward { type filter hook forward priority 0; accept; }; }";
    with_rules(rules, |how, world| {
        let before = world.snapshot(&SnapshotScope::default()).unwrap().nodes["r"].firewall.clone();
        let marks = [mark(1, "10.1.0.2"), mark(1, "10.1.0.2")];
        let mut tracers = marks.map(|mark| begin(&world, "r", &mark));
        assert_eq!(tables(&world, "r").lines().count(), 3, "{how}");
        assert_eq!(world.snapshot(&SnapshotScope::default()).unwrap().nodes["r"].firewall, before, "{how}");
        // A table that nobody owns is somebody's, whatever it is called.
        nft(&world, "r", "table inet hopyard-trace-me { chain input { type filter hook input priority 0; }; }");
        let tables_of = || {
            let rules = world.snapshot(&SnapshotScope::default()).unwrap().nodes["r"].firewall.clone().unwrap();
            rules.chains.into_iter().map(|chain| chain.table).collect::<Vec<_>>()
        };
        assert_eq!(tables_of(), ["fw", "hopyard-trace-me"], "{how}");
        // Who removes all rules that may be removed does not remove these.
        nft(&world, "r", "flush ruleset");
        nft(&world, "r", "table inet fw { chain forward { type filter hook forward priority 0; accept; }; }");
        let source = world.ns_fd(&parse("a")).unwrap();
        let _socket = marks[0].send(world.realm(), source.as_fd()).unwrap();
        let mut first = Vec::new();
        until(Duration::from_secs(5), || {
            first.extend(tracers[0].read().unwrap().steps);
            first.len() == 2
        });
        let parts: Vec<Part> = first.iter().map(|(_, step)| step.part).collect();
        assert_eq!(parts, [Part::Packet, Part::Reply], "{how}: {first:?}");
        // It has heard of them by now.
        assert_eq!(tracers[1].read().unwrap().steps, [], "{how}");
        drop(tracers);
        assert_only(&world, "r", "table inet fw\n", how);
    });
}

/// One table for all of them.
#[test]
fn of_several_probes_each_is_told_for_itself() {
    if !has_nft() {
        return;
    }
    for (how, realm) in realms() {
        let world = three(realm);
        nft(
            &world,
            "r",
            "table inet fw { chain forward { type filter hook forward priority 0; tcp dport 81 drop; }; }",
        );
        let marks: Vec<Mark> = (0..20)
            .map(|number| {
                let mut mark = mark([1, 6, 17][usize::from(number) % 3], "10.1.0.2");
                mark.token[3] = number;
                (mark.source_port, mark.destination_port) = (0x9000 + u16::from(number), 80 + u16::from(number) % 2);
                mark.becomes.1 = mark.destination_port;
                mark
            })
            .collect();
        let fd = world.ns_fd(&parse("r")).unwrap();
        let rules = world.firewall(&parse("r")).unwrap().unwrap();
        let mut tracer = Tracer::open_all(world.realm(), &[(fd.as_fd(), &rules)], &marks).unwrap().remove(0).unwrap();
        let source = world.ns_fd(&parse("a")).unwrap();
        let (mut met, mut dropped, mut sockets) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
        let is_dropped = |at: &usize| marks[*at].protocol == 6 && marks[*at].destination_port == 81;
        let wanted: BTreeSet<usize> = (0..marks.len()).filter(is_dropped).collect();
        let mut hear = |met: &mut BTreeSet<usize>| {
            let heard = tracer.read().unwrap();
            met.extend(heard.met.into_iter().filter(|(_, part)| *part == Part::Packet).map(|(at, _)| at));
            let drops = heard.steps.into_iter().filter(|(_, step)| step.decided == Decided::Drop);
            dropped.extend(drops.map(|(at, _)| at));
            dropped.clone()
        };
        for mark in &marks {
            sockets.push(mark.send(world.realm(), source.as_fd()).unwrap());
            hear(&mut met);
        }
        let mut dropped = BTreeSet::new();
        let done = until(Duration::from_secs(5), || {
            dropped = hear(&mut met);
            met.len() == marks.len() && dropped.len() >= wanted.len()
        });
        assert!(done, "{how}: {met:?} {dropped:?}");
        assert_eq!(dropped, wanted, "{how}");
    }
}

#[test]
fn the_table_is_gone_when_the_tracer_is() {
    for (how, realm) in realms() {
        let world = three(realm);
        let mut times = Vec::new();
        for _ in 0..20 {
            let start = Instant::now();
            let tracer = begin(&world, "r", &mark(1, "10.1.0.2"));
            let ready = start.elapsed();
            drop(tracer);
            times.push((ready, start.elapsed()));
        }
        assert_eq!(world.snapshot(&SnapshotScope::default()).unwrap().nodes["r"].firewall, Some(Ruleset::default()));
        if has_nft() {
            assert_only(&world, "r", "", how);
        }
        times.sort();
        println!("{how}: ready in {:?}, gone again after {:?} (median of 20)", times[10].0, times[10].1);
    }
}

/// Whoever has the rights for it: in the machine's own network nothing is changed.
#[test]
fn the_machines_own_network_is_left_alone() {
    let own = pin::own_network().unwrap();
    for realm in [Some(Realm::host()), support::user_realm()].into_iter().flatten() {
        let mut refused =
            Tracer::open_all(&realm, &[(own.as_fd(), &Ruleset::default())], &[mark(1, "127.0.0.1")]).unwrap();
        let error = refused.remove(0).unwrap_err();
        assert_eq!(error.errno(), Errno::PERM);
        assert_eq!(error.answer(), "Operation not permitted (EPERM): hop or the machine itself runs in it");
    }
}
