//! Recordings: what is written reads as the same, whatever the network; what is no recording is an error
//! with its place.
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

use std::net::IpAddr;

use hopyard_formats::recording::{Declared, DeclaredNode, FORMAT, Recorded, Recording};
use hopyard_formats::{SourceFile, render};
use hopyard_net::{
    BaseChain, BridgeNf, Chain, Comparison, Element, ElementValue, Endpoint, Family, FibAction, FibRoute, Habits, Hook,
    IfAddress, IfName, IpNet, Ipv4Conf, Ipv6Conf, LinkKind, LinkState, Listener, Loaded, MacAddr, Neighbour, NextHop,
    NodeState, NsName, Op, PolicyRule, Redirect, RouteKey, RouteKind, Rule, RuleAction, RuleStep, RuleVerdict, Ruleset,
    Set, Snapshot, Stored,
};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

// --------------------------------------------------------------------- any network, in all of its parts

fn ns() -> impl Strategy<Value = NsName> {
    "[a-d][0-9]{0,2}".prop_map(|name| name.parse().unwrap())
}

fn dev() -> impl Strategy<Value = IfName> {
    // What the kernel allows, and JSON has to escape.
    select(vec!["lo", "eth0", "eth1", "é\"\\'", "br-0.1", "{a,b}[c]"]).prop_map(|name| name.parse().unwrap())
}

fn end() -> impl Strategy<Value = Endpoint> {
    (ns(), dev()).prop_map(|(ns, dev)| Endpoint { ns, dev })
}

fn addr() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<u32>().prop_map(|bits| IpAddr::V4(bits.into())),
        any::<u128>().prop_map(|bits| IpAddr::V6(bits.into()))
    ]
}

fn net() -> impl Strategy<Value = IpNet> {
    (addr(), any::<u8>())
        .prop_map(|(addr, length)| IpNet::new(addr, length % if addr.is_ipv4() { 33 } else { 129 }).unwrap())
}

fn text() -> impl Strategy<Value = String> {
    ".{0,12}"
}

fn mac() -> impl Strategy<Value = MacAddr> {
    // Also those that nobody can choose: zero, of a group.
    prop_oneof![Just([0; 6]), any::<[u8; 6]>()].prop_map(MacAddr::from_bytes)
}

fn conf() -> impl Strategy<Value = Ipv4Conf> {
    (any::<bool>(), 0..3_u8, any::<bool>(), any::<u8>(), any::<bool>(), any::<bool>()).prop_map(
        |(forwarding, rp_filter, accept_local, arp_ignore, proxy_arp, ignore_routes_with_linkdown)| Ipv4Conf {
            forwarding,
            rp_filter,
            accept_local,
            arp_ignore,
            proxy_arp,
            ignore_routes_with_linkdown,
        },
    )
}

fn conf6() -> impl Strategy<Value = Ipv6Conf> {
    (any::<[bool; 4]>(), option::of(any::<u8>())).prop_map(
        |([force_forwarding, ignore_routes_with_linkdown, proxy_ndp, disabled], hop_limit)| Ipv6Conf {
            force_forwarding,
            hop_limit,
            ignore_routes_with_linkdown,
            proxy_ndp,
            disabled,
        },
    )
}

fn habits() -> impl Strategy<Value = Habits> {
    any::<(u8, bool, bool)>().prop_map(|(ttl, ignores_echo, ignores_echo_ipv6)| Habits {
        ttl,
        ignores_echo,
        ignores_echo_ipv6,
    })
}

fn redirect() -> impl Strategy<Value = Redirect> {
    (prop_oneof![Just(RouteKey::MAIN), any::<u32>()], addr(), hop()).prop_map(|(table, dst, hop)| Redirect {
        table,
        dst,
        hop,
    })
}

fn address() -> impl Strategy<Value = IfAddress> {
    (net(), any::<[bool; 5]>()).prop_map(|(net, [secondary, usable, host_only, link_only, deprecated])| IfAddress {
        net,
        secondary,
        usable,
        host_only,
        link_only,
        deprecated,
    })
}

fn link() -> impl Strategy<Value = LinkState> {
    let kind = prop_oneof![
        Just(LinkKind::Loopback),
        option::of(end()).prop_map(|peer| LinkKind::Veth { peer }),
        Just(LinkKind::Bridge),
        text().prop_map(LinkKind::Other),
    ];
    let parts = (any::<u32>(), option::of(mac()), any::<u32>(), option::of(dev()), any::<bool>(), any::<bool>());
    let open = (option::of(text()), option::of(text()));
    (kind, parts, vec(address(), 0..4), (conf(), conf6()), bridge_nf(), open).prop_map(
        |(kind, (index, mac, mtu, master, up, carrier), addresses, (conf, ipv6), bridge_nf, (beyond, shared_by))| {
            LinkState {
                index,
                kind,
                mac,
                mtu,
                master,
                up,
                carrier,
                addresses,
                conf,
                ipv6,
                bridge_nf,
                beyond,
                shared_by,
            }
        },
    )
}

fn bridge_nf() -> impl Strategy<Value = BridgeNf> {
    any::<(bool, bool)>().prop_map(|(ipv4, ipv6)| BridgeNf { ipv4, ipv6 })
}

fn hop() -> impl Strategy<Value = NextHop> {
    (option::of(addr()), dev(), 1..=256_u16).prop_map(|(via, dev, weight)| NextHop { via, dev, weight })
}

fn route() -> impl Strategy<Value = FibRoute> {
    let action = prop_oneof![
        vec(hop(), 0..3).prop_map(|hops| FibAction::Route(RouteKind::Unicast(hops))),
        select(vec![RouteKind::Blackhole, RouteKind::Unreachable, RouteKind::Prohibit]).prop_map(FibAction::Route),
        select(vec![FibAction::Local, FibAction::Group, FibAction::Throw]),
        any::<u8>().prop_map(FibAction::Other),
    ];
    let table = prop_oneof![Just(RouteKey::MAIN), any::<u32>()];
    let metrics = (option::of(any::<u8>()), option::of(any::<u32>()));
    (net(), table, any::<u32>(), action, option::of(addr()), metrics, any::<bool>()).prop_map(
        |(prefix, table, metric, action, src, (hop_limit, mtu), derived)| FibRoute {
            key: RouteKey { prefix, table, metric },
            action,
            src,
            hop_limit,
            mtu,
            derived,
        },
    )
}

fn policy_rule() -> impl Strategy<Value = PolicyRule> {
    let action = prop_oneof![
        any::<u32>().prop_map(RuleAction::Lookup),
        any::<u32>().prop_map(RuleAction::Goto),
        select(vec![RuleAction::Nop, RuleAction::Blackhole, RuleAction::Unreachable, RuleAction::Prohibit]),
    ];
    let ports = || option::of((any::<u16>(), any::<u16>()));
    let selectors = (option::of(net()), option::of(net()), option::of(text()), option::of(text()));
    let more = (option::of(any::<(u32, u32)>()), option::of(any::<u8>()), ports(), ports(), option::of(any::<u32>()));
    let family = select(Family::BOTH.to_vec());
    (family, any::<u32>(), any::<bool>(), selectors, more, action, option::of(text())).prop_map(
        |(family, priority, invert, (from, to, iif, oif), more, action, beyond)| {
            let (mark, protocol, source_port, destination_port, suppress_prefix) = more;
            PolicyRule {
                family,
                priority,
                invert,
                from,
                to,
                iif,
                oif,
                mark,
                protocol,
                source_port,
                destination_port,
                suppress_prefix,
                action,
                beyond,
            }
        },
    )
}

fn step() -> impl Strategy<Value = RuleStep> {
    let bytes = || vec(any::<u8>(), 0..5);
    let what = select(vec![
        Loaded::Layer4Protocol,
        Loaded::InputName,
        Loaded::ConnectionState,
        Loaded::Mark,
        Loaded::Extension { name: "exthdr".to_owned(), asked: true },
        Loaded::Other("meta hour".to_owned()),
    ]);
    let how = select(vec![Comparison::Equal, Comparison::Unequal, Comparison::Less, Comparison::GreaterOrEqual]);
    let verdict = prop_oneof![
        select(vec![RuleVerdict::Accept, RuleVerdict::Drop, RuleVerdict::Continue, RuleVerdict::Return]),
        text().prop_map(RuleVerdict::Jump),
        text().prop_map(RuleVerdict::Goto),
    ];
    prop_oneof![
        (any::<u32>(), what).prop_map(|(register, what)| RuleStep::Load { register, what }),
        any::<(u32, u32, u32, u32)>().prop_map(|(register, base, offset, length)| RuleStep::Payload {
            register,
            base,
            offset,
            length
        }),
        (any::<u32>(), any::<u32>(), bytes(), bytes()).prop_map(|(from, to, mask, xor)| RuleStep::Bitwise {
            from,
            to,
            mask,
            xor
        }),
        (any::<u32>(), how, bytes()).prop_map(|(register, how, with)| RuleStep::Compare { register, how, with }),
        (any::<u32>(), vec((bytes(), bytes()), 0..3), any::<bool>())
            .prop_map(|(register, ranges, inverted)| RuleStep::Range { register, ranges, inverted }),
        (any::<u32>(), text(), any::<bool>(), option::of(any::<u32>()))
            .prop_map(|(register, set, inverted, to)| RuleStep::Lookup { register, set, inverted, to }),
        any::<(u32, u32, u32, u32)>().prop_map(|(from, to, size, length)| RuleStep::ByteOrder {
            from,
            to,
            size,
            length
        }),
        (any::<u32>(), text()).prop_map(|(register, name)| RuleStep::Store { register, what: Stored::Other(name) }),
        (any::<u32>(), any::<bool>()).prop_map(|(register, by_input)| RuleStep::WayBack { register, by_input }),
        text().prop_map(RuleStep::Depends),
        Just(RuleStep::NoTrack),
        Just(RuleStep::Pass),
        (any::<bool>(), option::of(text())).prop_map(|(reset, with)| RuleStep::Reject { reset, with }),
        verdict.prop_map(RuleStep::Verdict),
        text().prop_map(RuleStep::Unknown),
    ]
}

fn chain() -> impl Strategy<Value = Chain> {
    let hook = select(vec![Hook::Prerouting, Hook::Input, Hook::Forward, Hook::Output, Hook::Egress]);
    let base = (hook, any::<i32>(), any::<bool>(), text(), vec(text(), 0..3))
        .prop_map(|(hook, priority, drops, kind, devices)| BaseChain { hook, priority, drops, kind, devices });
    let rule = (any::<u64>(), vec(step(), 0..4)).prop_map(|(handle, steps)| Rule { handle, steps });
    (text(), text(), text(), option::of(base), vec(rule, 0..3)).prop_map(|(family, table, name, base, rules)| Chain {
        family,
        table,
        name,
        base,
        rules,
    })
}

fn set() -> impl Strategy<Value = Set> {
    let bytes = || vec(any::<u8>(), 0..5);
    let value = prop_oneof![
        bytes().prop_map(ElementValue::Bytes),
        text().prop_map(|chain| ElementValue::Verdict(RuleVerdict::Jump(chain))),
        text().prop_map(ElementValue::Unknown),
    ];
    let rest = (option::of(value), option::of(any::<u64>()), option::of(text()));
    let element = (option::of(bytes()), option::of(bytes()), any::<bool>(), rest).prop_map(
        |(key, last, ends, (value, expires_ms, depends_on))| Element { key, last, ends, value, expires_ms, depends_on },
    );
    let kind = (any::<(bool, bool, bool)>(), vec(any::<u32>(), 1..3), any::<u32>());
    (text(), text(), text(), kind, vec(element, 0..4)).prop_map(
        |(family, table, name, ((anonymous, intervals, dynamic), parts, value_bytes), elements)| Set {
            family,
            table,
            name,
            anonymous,
            intervals,
            dynamic,
            parts,
            value_bytes,
            elements,
        },
    )
}

fn listener() -> impl Strategy<Value = Listener> {
    let family = select(Family::BOTH.to_vec());
    (any::<bool>(), family, option::of(addr()), any::<u16>(), any::<bool>(), any::<bool>()).prop_map(
        |(tcp, family, addr, port, only_ipv6, bound_to_device)| Listener {
            tcp,
            family,
            addr,
            port,
            only_ipv6,
            bound_to_device,
        },
    )
}

fn node() -> impl Strategy<Value = NodeState> {
    let neighbour = (dev(), addr(), mac(), any::<bool>()).prop_map(|(dev, addr, mac, permanent)| Neighbour {
        dev,
        addr,
        mac,
        permanent,
    });
    let firewall =
        option::of((vec(chain(), 0..3), vec(set(), 0..2)).prop_map(|(chains, sets)| Ruleset { chains, sets }));
    let bridge_nf = option::of(bridge_nf());
    let tables = (vec(route(), 0..4), vec(policy_rule(), 0..3), vec(neighbour, 0..3));
    let rest = (conf(), any::<bool>(), option::of(vec(listener(), 0..3)), firewall, bridge_nf);
    let beside = (vec(redirect(), 0..3), vec((dev(), addr()), 0..3), option::of(habits()));
    (btree_map(dev(), link(), 0..4), tables, rest, beside).prop_map(
        |(
            links,
            (routes, rules, neighbours),
            (all, forwards_ipv6, listeners, firewall, bridge_nf),
            (redirects, proxied, habits),
        )| NodeState {
            links,
            routes,
            rules,
            neighbours,
            all,
            forwards_ipv6,
            listeners,
            firewall,
            bridge_nf,
            redirects,
            proxied,
            habits,
        },
    )
}

fn recording() -> impl Strategy<Value = Recording> {
    let recorded = (text(), text(), text()).prop_map(|(by, kernel, at)| Recorded { by, kernel, at });
    let declared_node = (vec(addr(), 0..3), option::of(any::<usize>()), any::<bool>())
        .prop_map(|(addresses, line, routes)| DeclaredNode { addresses, line, routes });
    let op = prop_oneof![
        end().prop_map(|at| Op::SetUp { at, up: true }),
        (ns(), net()).prop_map(|(ns, net)| Op::DelRoute { ns, key: RouteKey::main(net) }),
    ];
    let declared = (text(), option::of(text()), btree_map(ns(), declared_node, 0..3), vec(op, 0..3))
        .prop_map(|(lab, file, nodes, drift)| Declared { lab, file, nodes, drift });
    let snapshot = btree_map(ns(), node(), 0..4).prop_map(|nodes| Snapshot { nodes });
    (option::of(recorded), option::of(declared), snapshot).prop_map(|(recorded, declared, snapshot)| Recording {
        recorded,
        declared,
        snapshot,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_reads_as_the_same(recording in recording()) {
        let text = recording.to_text().unwrap();
        let source = SourceFile::new("x.json", text.as_str());
        let again = Recording::read(&source).map_err(|problem| TestCaseError::fail(render(&problem, &source)))?;
        prop_assert_eq!(&again, &recording);
        prop_assert_eq!(again.to_text().unwrap(), text);
    }

    #[test]
    fn what_is_cut_or_changed_is_an_error_with_a_place_or_a_recording(
        recording in recording(),
        at in any::<prop::sample::Index>(),
        by in prop_oneof![Just(None), any::<char>().prop_map(Some)],
    ) {
        let text: Vec<char> = recording.to_text().unwrap().chars().collect();
        let at = at.index(text.len());
        let mut changed: String = text[..at].iter().collect();
        if let Some(by) = by {
            changed.push(by);
            changed.extend(&text[at + 1..]);
        }
        let source = SourceFile::new("x.json", changed);
        match Recording::read(&source) {
            Ok(_) => prop_assert!(by.is_some() || at + 1 >= text.len(), "a cut file was read"),
            Err(problem) => {
                prop_assert!(problem.at.is_some(), "{problem:?}");
                prop_assert!(render(&problem, &source).contains("x.json:"));
            }
        }
    }
}

// --------------------------------------------------------------------------------- what is said of wrong ones

#[track_caller]
fn refused(text: &str, expected: &str) {
    let source = SourceFile::new("x.json", text);
    let problem = Recording::read(&source).unwrap_err();
    let shown = format!("[{}] {}", problem.code, render(&problem, &source));
    assert_eq!(shown.trim_end(), expected.trim_end());
}

#[test]
fn a_wrong_file_is_shown_where_it_is_wrong() {
    refused(
        "",
        "\
[bad-recording] error: EOF while parsing a value
 --> x.json:1:1
1 |
  | ^
help: the file ends too early: it was cut, or is still being written",
    );
    refused(
        "name: three\n",
        "\
[not-a-recording] error: this is no recording: it is no JSON
 --> x.json:1:2
1 | name: three
  |  ^
help: `hop record` makes one",
    );
    refused(
        "[1, 2]",
        "\
[not-a-recording] error: this is no recording: its first key should be `\"format\": \"hopyard-snapshot\"`
 --> x.json:1:2
1 | [1, 2]
  |  ^
help: `hop record` makes one",
    );
    // Once it has said what it is, it is one, though a broken one.
    refused(
        "{\"format\": \"hopyard-snapshot\", \"version\": 1, nodes: {}}",
        "\
[bad-recording] error: key must be a string
 --> x.json:1:46
1 | {\"format\": \"hopyard-snapshot\", \"version\": 1, nodes: {}}
  |                                              ^",
    );
    refused(
        "{\"name\": \"three\"}",
        "\
[not-a-recording] error: this is no recording: its first key should be `\"format\": \"hopyard-snapshot\"`
 --> x.json:1:1
1 | {\"name\": \"three\"}
  | ^
help: `hop record` makes one",
    );
    refused(
        "{\n  \"format\": \"hopyard-snapshot\",\n  \"version\": 4,\n  \"flows\": {}\n}",
        "\
[later-version] error: the recording is of version 4; this program reads up to 3
 --> x.json:3:3
3 |   \"version\": 4,
  |   ^^^^^^^^^
help: a newer hop reads it",
    );
    let head = format!("{{\"format\": \"{FORMAT}\", \"version\": 1,\n");
    refused(
        &format!("{head}\"nodes\": {{\"a\": {{\"interfaces\": {{}}, \"colour\": 1}}}}}}"),
        "\
[bad-recording] error: unknown field `colour`, expected one of `interfaces`, `routes`, `rules`, `neighbours`, `proxied`, `redirects`, \
`ipv4_all`, `ipv6_forwarding`, `listeners`, `firewall`, `bridge_nf`, `habits`
 --> x.json:2:42
2 | \"nodes\": {\"a\": {\"interfaces\": {}, \"colour\": 1}}}
  |                                          ^",
    );
    refused(
        &format!("{head}\"nodes\": {{\"a\": {{\"interfaces\": {{\"e\": {{\"index\": \"x\"}}}}}}}}}}"),
        "\
[bad-recording] error: `index` has an invalid type: string \"x\", expected u32
 --> x.json:2:49
2 | \"nodes\": {\"a\": {\"interfaces\": {\"e\": {\"index\": \"x\"}}}}}
  |                                                 ^",
    );
    refused(
        &format!("{head}\"nodes\": {{\"../etc\": {{\"interfaces\": {{}}}}}}}}"),
        "\
[bad-recording] error: name `../etc` contains '/'; allowed are ASCII letters, digits, `_`, `.` and `-`
 --> x.json:2:18
2 | \"nodes\": {\"../etc\": {\"interfaces\": {}}}}
  |                  ^",
    );
}

#[test]
fn hostile_files_end_soon() {
    let head = format!("{{\"format\": \"{FORMAT}\", \"version\": 1, \"nodes\": ");
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let text = format!("{head}{}1{}}}", open.repeat(100_000), close.repeat(100_000));
        assert_eq!(Recording::read(&SourceFile::new("x", text)).unwrap_err().code.0, "bad-recording");
    }
    for version in ["-1", "1.5", "\"1\"", "null", "18446744073709551616", "[]"] {
        let text = format!("{{\"format\": \"{FORMAT}\", \"version\": {version}, \"nodes\": {{}}}}");
        let code = Recording::read(&SourceFile::new("x", text)).unwrap_err().code.0;
        assert!(["bad-recording", "bad-version"].contains(&code), "{version}: {code}");
    }
    let twice = format!("{head}{{}}, \"nodes\": {{}}}}");
    assert!(Recording::read(&SourceFile::new("x", twice)).unwrap_err().message.contains("duplicate field `nodes`"));
}
