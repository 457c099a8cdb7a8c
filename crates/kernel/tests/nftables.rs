//! Rules as `hopyard-kernel` writes them, read again by it and by nft(8): as root and in a user namespace.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test says what is wrong by failing")]

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use hopyard_kernel::nftables::{NftSocket, Owner, TableName, Transaction};
use hopyard_kernel::{SnapshotScope, World};
use hopyard_net::{
    BaseChain, Chain, Comparison, Family, Hook, Loaded, Nat, NatRule, NatStep, Op, PortChoice, Rule, RuleStep,
    RuleVerdict, Service, Transport,
};
use support::{apply, inside, parse, realms, run_inside, some_realm, until};

fn chain(name: &str, hook: Option<(Hook, &str, i32, bool)>, rules: Vec<Vec<RuleStep>>) -> Chain {
    Chain {
        family: "inet".to_owned(),
        table: "t".to_owned(),
        name: name.to_owned(),
        base: hook.map(|(hook, kind, priority, drops)| BaseChain {
            hook,
            priority,
            drops,
            kind: kind.to_owned(),
            devices: Vec::new(),
        }),
        rules: rules.into_iter().map(|steps| Rule { handle: 0, steps }).collect(),
    }
}

fn load(what: Loaded) -> RuleStep {
    RuleStep::Load { register: 1, what }
}

fn equal(with: &[u8]) -> RuleStep {
    RuleStep::Compare { register: 1, how: Comparison::Equal, with: with.to_vec() }
}

fn constant(register: u32, value: &[u8]) -> RuleStep {
    RuleStep::Immediate { register, value: value.to_vec() }
}

fn device(name: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    bytes
}

/// Everything that can be written.
fn chains() -> Vec<Chain> {
    let verdict = |verdict| RuleStep::Verdict(verdict);
    let translate = |destination, port| {
        RuleStep::Nat(NatStep {
            destination,
            family: Family::Ipv4,
            address: Some(1),
            port,
            choice: PortChoice::default(),
        })
    };
    let tcp = || [load(Loaded::Layer4Protocol), equal(&[6])];
    let port = |port: u16| {
        let load = RuleStep::Payload { register: 1, base: 2, offset: 2, length: 2 };
        [load, equal(&port.to_be_bytes())]
    };
    vec![
        chain(
            "forward",
            Some((Hook::Forward, "filter", 0, true)),
            vec![
                vec![
                    load(Loaded::ConnectionState),
                    RuleStep::Bitwise { from: 1, to: 1, mask: 6_u32.to_ne_bytes().to_vec(), xor: vec![0; 4] },
                    RuleStep::Compare { register: 1, how: Comparison::Unequal, with: vec![0; 4] },
                    RuleStep::Counter,
                    verdict(RuleVerdict::Accept),
                ],
                vec![load(Loaded::InputName), equal(&device("eth0")), verdict(RuleVerdict::Jump("more".to_owned()))],
                [tcp().to_vec(), vec![RuleStep::Reject { reset: true, with: None }]].concat(),
                vec![load(Loaded::Mark), equal(&7_u32.to_ne_bytes()), verdict(RuleVerdict::Drop)],
                vec![RuleStep::Reject { reset: false, with: None }],
            ],
        ),
        chain("more", None, vec![vec![load(Loaded::OutputIndex), equal(&[1, 0, 0, 0]), verdict(RuleVerdict::Return)]]),
        chain(
            "mangle",
            Some((Hook::Prerouting, "filter", -150, false)),
            vec![
                [
                    tcp().to_vec(),
                    vec![
                        constant(1, &[127, 0, 0, 1]),
                        constant(2, &99_u16.to_be_bytes()),
                        RuleStep::TransparentProxy { family: Some(Family::Ipv4), address: Some(1), port: Some(2) },
                    ],
                ]
                .concat(),
            ],
        ),
        chain(
            "before",
            Some((Hook::Prerouting, "nat", -100, false)),
            vec![
                [
                    vec![RuleStep::DestinationType { register: 1 }, equal(&2_u32.to_ne_bytes())],
                    tcp().to_vec(),
                    port(8080).to_vec(),
                    vec![constant(1, &[10, 0, 0, 5]), constant(2, &80_u16.to_be_bytes()), translate(true, Some(2))],
                ]
                .concat(),
                [
                    tcp().to_vec(),
                    port(22).to_vec(),
                    vec![
                        constant(1, &2222_u16.to_be_bytes()),
                        RuleStep::Redirect { port: Some(1), choice: PortChoice::default() },
                    ],
                ]
                .concat(),
            ],
        ),
        chain(
            "behind",
            Some((Hook::Postrouting, "nat", 100, false)),
            vec![
                vec![
                    load(Loaded::OutputName),
                    equal(&device("eth1")),
                    constant(1, &[192, 0, 2, 9]),
                    translate(false, None),
                ],
                vec![load(Loaded::NetworkFamily), equal(&[10]), RuleStep::Masquerade],
            ],
        ),
    ]
}

/// What nft(8) says of them.
const LISTED: [&str; 14] = [
    "type filter hook forward priority filter; policy drop;",
    "ct state established,related counter packets 0 bytes 0 accept",
    "iifname \"eth0\" jump more",
    "meta l4proto tcp reject with tcp reset",
    "meta mark 0x00000007 drop",
    "reject",
    "oif \"lo\" return",
    "type filter hook prerouting priority mangle; policy accept;",
    "meta l4proto tcp tproxy ip to 127.0.0.1:99",
    "type nat hook prerouting priority dstnat; policy accept;",
    "fib daddr type local tcp dport 8080 dnat ip to 10.0.0.5:80",
    "tcp dport 22 redirect to :2222",
    "oifname \"eth1\" snat ip to 192.0.2.9",
    "meta nfproto ipv6 masquerade",
];

fn replace(chains: &[Chain], owner: Owner) -> Transaction {
    let mut transaction = Transaction::new();
    transaction.replace_table(&TableName::inet("t"), owner);
    transaction.add_chains(chains);
    transaction
}

#[test]
fn what_is_written_is_read_again_and_nft_says_the_same() {
    for (how, realm) in realms() {
        let mut world = World::new(realm);
        apply(&mut world, &[Op::AddNs(parse("a"))]);
        // Twice: what is there is replaced.
        for _ in 0..2 {
            inside(&world, "a", || NftSocket::open().unwrap().commit(replace(&chains(), Owner::Nobody)).unwrap());
            let snapshot = world.snapshot(&SnapshotScope::default()).unwrap();
            let mut found = snapshot.nodes["a"].firewall.clone().unwrap().chains;
            for rule in found.iter_mut().flat_map(|chain| &mut chain.rules) {
                rule.handle = 0;
            }
            assert_eq!(found, chains(), "{how}");
        }
        let listed = run_inside(&world, "a", &["nft", "list", "ruleset"]);
        let listed = String::from_utf8(listed.stdout).unwrap();
        let lines: Vec<&str> = listed.lines().map(str::trim).collect();
        for line in LISTED {
            assert!(lines.contains(&line), "{how}: no `{line}` in\n{listed}");
        }
    }
}

#[test]
fn a_remark_is_shown_by_nft() {
    let Some(realm) = some_realm() else { return };
    let mut world = World::new(realm);
    apply(&mut world, &[Op::AddNs(parse("a"))]);
    inside(&world, "a", || {
        let mut transaction = Transaction::new();
        let chain = chain("c", None, Vec::new());
        transaction.add_table(&TableName::inet("t"), Owner::Nobody);
        transaction.add_chain(&chain);
        transaction.add_rule(&chain, &[RuleStep::Verdict(RuleVerdict::Accept)], Some("lab.hop.yaml:12"));
        NftSocket::open().unwrap().commit(transaction).unwrap();
    });
    let listed = run_inside(&world, "a", &["nft", "list", "ruleset"]);
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.contains("accept comment \"lab.hop.yaml:12\""), "{listed}");
}

#[test]
fn of_a_transaction_that_is_refused_nothing_is_done_and_the_refused_part_is_named() {
    for (how, realm) in realms() {
        let mut world = World::new(realm);
        apply(&mut world, &[Op::AddNs(parse("a"))]);
        inside(&world, "a", || NftSocket::open().unwrap().commit(replace(&chains(), Owner::Nobody)).unwrap());
        let before = world.snapshot(&SnapshotScope::default()).unwrap();
        let mut wrong = chains();
        let jump = RuleStep::Verdict(RuleVerdict::Jump("nowhere".to_owned()));
        wrong[1].rules.push(Rule { handle: 0, steps: vec![jump] });
        let error = inside(&world, "a", || NftSocket::open().unwrap().commit(replace(&wrong, Owner::Nobody)));
        let error = error.unwrap_err();
        assert_eq!(error.doing, "add a rule to chain inet t more", "{how}: {error}");
        assert!(error.to_string().contains("No such file or directory (ENOENT)"), "{how}: {error}");
        let mut unknown = chains();
        unknown[0].rules[0].steps = vec![RuleStep::Unknown("nonsense".to_owned())];
        let error = inside(&world, "a", || NftSocket::open().unwrap().commit(replace(&unknown, Owner::Nobody)));
        assert_eq!(error.unwrap_err().doing, "add a rule to chain inet t forward", "{how}");
        assert!(world.snapshot(&SnapshotScope::default()).unwrap() == before, "{how}: something was changed");
    }
}

#[test]
fn many_rules_are_one_transaction() {
    for (how, realm) in realms() {
        let mut world = World::new(realm);
        apply(&mut world, &[Op::AddNs(parse("a"))]);
        let rule = vec![load(Loaded::InputName), equal(&device("eth0")), RuleStep::Verdict(RuleVerdict::Accept)];
        let many = [chain("c", None, vec![rule; 1500])];
        inside(&world, "a", || NftSocket::open().unwrap().commit(replace(&many, Owner::Nobody)).unwrap());
        let found = world.snapshot(&SnapshotScope::default()).unwrap();
        let firewall = found.nodes["a"].firewall.clone().unwrap();
        assert_eq!(firewall.chains[0].rules.len(), 1500, "{how}");
    }
}

#[test]
fn a_table_that_a_socket_owns_goes_with_it() {
    for (how, realm) in realms() {
        let mut world = World::new(realm);
        apply(&mut world, &[Op::AddNs(parse("a"))]);
        let socket = inside(&world, "a", || {
            let socket = NftSocket::open().unwrap();
            socket.commit(replace(&chains(), Owner::Socket)).unwrap();
            // Nobody else can touch it.
            let error = NftSocket::open().unwrap().commit(replace(&chains(), Owner::Nobody)).unwrap_err();
            assert!(error.to_string().contains("(EPERM)"), "{how}: {error}");
            socket.into_fd()
        });
        let tables = |world: &mut World| {
            let snapshot = world.snapshot(&SnapshotScope::default()).unwrap();
            snapshot.nodes["a"].firewall.clone().unwrap().chains.len()
        };
        assert_eq!(tables(&mut world), chains().len(), "{how}");
        drop(socket);
        assert!(until(Duration::from_secs(5), || tables(&mut world) == 0), "{how}: the table is still there");
    }
}

/// A rule of each kind, and both ways to match a prefix.
fn nat() -> Nat {
    let tcp = |port| Some(Service { transport: Transport::Tcp, port });
    let to = |address: Option<&str>, service, to: &str, port| NatRule::Destination {
        address: address.map(parse),
        service,
        to: parse(to),
        port,
    };
    let out = parse("eth1");
    Nat::new(vec![
        to(None, tcp(8080), "10.0.0.5", Some(80)),
        to(None, tcp(8080), "fd00::5", Some(80)),
        to(Some("192.0.2.7"), Some(Service { transport: Transport::Udp, port: 53 }), "10.0.0.5", None),
        to(Some("2001:db8::7"), tcp(80), "fd00::5", Some(99)),
        to(Some("192.0.2.10"), None, "10.0.0.5", None),
        NatRule::Source { out, from: Some(parse("10.0.0.5/32")), to: parse("192.0.2.10") },
        NatRule::Source { out, from: Some(parse("10.0.0.0/24")), to: parse("192.0.2.1") },
        NatRule::Source { out, from: None, to: parse("2001:db8::1") },
        NatRule::Masquerade { out, from: Some(parse("10.0.0.0/22")) },
        NatRule::Masquerade { out, from: Some(parse("fd00::/61")) },
        NatRule::Masquerade { out: parse("it's.2"), from: None },
    ])
}

#[test]
fn the_line_that_an_operation_displays_does_what_the_operation_does() {
    for (how, realm) in realms() {
        let mut world = World::new(realm);
        let set = |ns: &str, replace| Op::SetNat { ns: parse(ns), nat: nat(), replace };
        apply(&mut world, &[Op::AddNs(parse("a")), Op::AddNs(parse("b")), set("a", false)]);
        for replace in [false, true] {
            let line = set("b", replace).to_string();
            let line = line.strip_prefix("ip netns exec b ").unwrap();
            let output = run_inside(&world, "b", &["sh", "-c", line]);
            assert!(output.status.success(), "{how}: {line}\n{}", String::from_utf8_lossy(&output.stderr));
        }
        // What is made anew in the place of the old is the same again.
        apply(&mut world, &[set("a", true)]);
        let state = world.observe(&BTreeMap::new()).unwrap();
        for ns in ["a", "b"] {
            assert_eq!(state.namespaces[ns].nat, Some(nat()), "{how}: {ns}");
        }
        // Somebody's hand in our table is seen; another table is not ours.
        run_inside(&world, "a", &["nft", "add rule inet hopyard postrouting counter"]);
        run_inside(&world, "b", &["nft", "add table inet mine"]);
        let state = world.observe(&BTreeMap::new()).unwrap();
        assert!(state.namespaces["a"].nat.as_ref().unwrap().foreign, "{how}");
        assert_eq!(state.namespaces["b"].nat, Some(nat()), "{how}");
        apply(&mut world, &[Op::DelNat(parse("a")), Op::DelNat(parse("b"))]);
        let state = world.observe(&BTreeMap::new()).unwrap();
        assert!(state.namespaces.values().all(|space| space.nat.is_none()), "{how}");
        let left = run_inside(&world, "b", &["nft", "list", "tables"]);
        assert_eq!(String::from_utf8(left.stdout).unwrap(), "table inet mine\n", "{how}");
    }
}
