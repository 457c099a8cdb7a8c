//! The matrix of faults: each gets the right node, reason and repair, in both directions.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what is wrong by failing")]

mod common;

use common::{ask, chain, told, type_in};
use hopyard_explain::{Choices, Outcome, Packet, Protocol, Query, repair};
use hopyard_net::Snapshot;

/// `there NODE CODE` or `back NODE CODE`, or `yes`.
fn verdict(net: &Snapshot, query: &Query) -> String {
    let verdict = told(net, query);
    match (verdict.outcome(), verdict.trouble()) {
        (Outcome::Yes, None) => "yes".to_owned(),
        (outcome, Some(trouble)) => {
            let direction = if trouble.back { "back" } else { "there" };
            let open = if outcome == Outcome::Undecided { "? " } else { "" };
            format!("{open}{direction} {} {}", trouble.node, trouble.code())
        }
        other => panic!("{other:?}"),
    }
}

/// The commands of the repair, each with its node; after them it works.
fn commands(net: &Snapshot, query: &Query) -> Vec<String> {
    let Some(repair) = repair(net, query, &Choices::new(), &[]) else { return Vec::new() };
    let mut after = net.clone();
    for edit in repair.edits() {
        edit.apply(&mut after);
    }
    let missing = "there b no-listener";
    let after = verdict(&after, query);
    assert!(after == "yes" || after == missing, "the repair repairs nothing: {after}");
    repair.edits().map(|edit| format!("{}: {edit}", edit.node())).collect()
}

#[track_caller]
fn check(faults: &[&str], query: &Query, expected: &str, repaired: &[&str]) {
    let mut net = chain();
    for fault in faults {
        type_in(&mut net, fault);
    }
    assert_eq!(verdict(&net, query), expected, "{faults:?}: {:#?}", told(&net, query));
    assert_eq!(commands(&net, query), repaired, "{faults:?}");
}

fn a_to_b() -> Query {
    ask("a", "10.0.3.2")
}

#[test]
fn a_healthy_network_answers_in_both_families() {
    for to in ["10.0.3.2", "10.9.0.1", "10.0.2.2", "10.0.1.1", "10.0.1.2", "fd00:3::2", "fd00:2::2", "fd00:1::2"] {
        assert_eq!(verdict(&chain(), &ask("a", to)), "yes", "{to}");
    }
    let verdict = told(&chain(), &a_to_b());
    let nodes = |walk: &hopyard_explain::Walk| walk.nodes().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(nodes(&verdict.there), ["a", "r1", "r2", "b"]);
    assert_eq!(nodes(verdict.back.as_ref().unwrap()), ["b", "r2", "r1", "a"]);
    assert_eq!(verdict.there.packet.src, Some("10.0.1.2".parse().unwrap()));
    assert_eq!(verdict.there.hops.iter().map(|hop| hop.ttl).collect::<Vec<_>>(), [64, 63, 62, 62]);
}

#[test]
fn a_missing_route_is_named_where_it_is_missing() {
    check(&["a noroute 0.0.0.0/0"], &a_to_b(), "there a no-route", &["a: ip route add 10.0.3.0/24 via 10.0.1.1"]);
    check(&["r1 noroute 10.0.3.0/24"], &a_to_b(), "there r1 no-route", &["r1: ip route add 10.0.3.0/24 via 10.0.2.2"]);
    check(
        &["b noroute 10.0.1.0/24"],
        &a_to_b(),
        "back b no-return-route",
        &["b: ip route add 10.0.1.0/24 via 10.0.3.1"],
    );
    check(
        &["r2 noroute 10.0.1.0/24"],
        &a_to_b(),
        "back r2 no-return-route",
        &["r2: ip route add 10.0.1.0/24 via 10.0.2.1"],
    );
    check(
        &["r1 noroute fd00:3::/64"],
        &ask("a", "fd00:3::2"),
        "there r1 no-route",
        &["r1: ip route add fd00:3::/64 via fd00:2::2"],
    );
}

#[test]
fn forwarding_is_switched_on_as_far_as_it_is_off() {
    check(
        &["r1 sysctl net.ipv4.ip_forward 0"],
        &a_to_b(),
        "there r1 forwarding-off",
        &["r1: sysctl -w net.ipv4.ip_forward=1"],
    );
    check(
        &["r1 sysctl net.ipv4.conf.ab.forwarding 0"],
        &a_to_b(),
        "there r1 forwarding-off",
        &["r1: sysctl -w net.ipv4.conf.ab.forwarding=1"],
    );
    // Only the way back comes in here.
    check(
        &["r1 sysctl net.ipv4.conf.rr.forwarding 0"],
        &a_to_b(),
        "back r1 forwarding-off",
        &["r1: sysctl -w net.ipv4.conf.rr.forwarding=1"],
    );
    check(
        &["r2 sysctl net.ipv6.conf.all.forwarding 0"],
        &ask("a", "fd00:3::2"),
        "there r2 forwarding-off",
        &["r2: sysctl -w net.ipv6.conf.all.forwarding=1"],
    );
}

#[test]
fn a_strict_filter_wants_the_way_back_first() {
    // The way back from r2 leads to b.
    check(
        &["r2 sysctl net.ipv4.conf.all.rp_filter 1", "r2 route 10.0.1.0/24 via 10.0.3.2 dev rb"],
        &a_to_b(),
        "there r2 rp-filter",
        &["r2: ip route replace 10.0.1.0/24 via 10.0.2.1"],
    );
    // A missing return route shows on the way there.
    check(
        &["r2 sysctl net.ipv4.conf.rr.rp_filter 1", "r2 noroute 10.0.1.0/24"],
        &a_to_b(),
        "there r2 rp-filter",
        &["r2: ip route add 10.0.1.0/24 via 10.0.2.1"],
    );
    // At the first hop it shows as silence on the wire.
    check(
        &["r1 sysctl net.ipv4.conf.all.rp_filter 1", "r1 route 10.0.1.2/32 via 10.0.2.2 dev rr"],
        &a_to_b(),
        "there a arp-refused",
        &["r1: ip route delete 10.0.1.2/32"],
    );
    check(
        &["r1 sysctl net.ipv4.conf.all.arp_ignore 8"],
        &a_to_b(),
        "there a arp-refused",
        &["r1: sysctl -w net.ipv4.conf.all.arp_ignore=0"],
    );
}

#[test]
fn links_that_are_down_are_named_on_their_own_side() {
    check(
        &["r1 down rr"],
        &a_to_b(),
        "there r1 link-down",
        &["r1: ip link set dev rr up", "r1: ip route add 10.0.3.0/24 via 10.0.2.2"],
    );
    check(&["a down ra"], &ask("a", "10.0.1.1"), "there a link-down", &["a: ip link set dev ra up"]);
    check(
        &["b down br"],
        &a_to_b(),
        "there r2 no-carrier",
        &["b: ip link set dev br up", "b: ip route add 10.0.1.0/24 via 10.0.3.1"],
    );
}

#[test]
fn addresses_that_are_wrong_are_found_by_who_answers() {
    check(
        &["b addr 10.0.3.7/24 dev br", "b noaddr 10.0.3.2/24 dev br"],
        &Query { wanted: Some("b".parse().unwrap()), ..a_to_b() },
        "there r2 neighbour-unresolved",
        &["b: ip address add 10.0.3.2/24 dev br"],
    );
    // The mask of a is too short: b seems to be on its link.
    check(
        &["a addr 10.0.1.2/16 dev ra", "a noaddr 10.0.1.2/24 dev ra"],
        &a_to_b(),
        "there a wrong-mask",
        &["a: ip address add 10.0.1.2/24 dev ra", "a: ip address delete 10.0.1.2/16 dev ra"],
    );
    // Its routes have gone with its address: one alone is less to do.
    check(
        &["a noaddr 10.0.1.2/24 dev ra", "a addr 10.0.1.2/16 dev ra"],
        &a_to_b(),
        "there a wrong-mask",
        &["a: ip route add 10.0.3.0/24 via 10.0.1.1"],
    );
    // That of b: its answer stays on its link.
    check(
        &["b noaddr 10.0.3.2/24 dev br", "b addr 10.0.3.2/16 dev br", "b noroute 10.0.1.0/24"],
        &a_to_b(),
        "back b wrong-mask",
        &["b: ip route add 10.0.1.0/24 via 10.0.3.1"],
    );
}

#[test]
fn a_gateway_that_nobody_has_is_put_right_for_all_that_takes_it() {
    check(
        &["a noroute 0.0.0.0/0", "a route 0.0.0.0/0 via 10.0.1.254 dev ra"],
        &a_to_b(),
        "there a neighbour-unresolved",
        &["a: ip route replace default via 10.0.1.1"],
    );
    check(
        &["b noroute 10.0.1.0/24", "b route 10.0.0.0/16 via 10.0.3.254 dev br"],
        &a_to_b(),
        "back b neighbour-unresolved",
        &["b: ip route replace 10.0.0.0/16 via 10.0.3.1"],
    );
    check(
        &["r1 noroute fd00:3::/64", "r1 route fd00:3::/64 via fd00:2::9 dev rr"],
        &ask("a", "fd00:3::2"),
        "there r1 neighbour-unresolved",
        &["r1: ip route replace fd00:3::/64 via fd00:2::2"],
    );
    // Its router has an address on another network too.
    let two = [
        "a addr 10.0.0.2/24 dev ra",
        "r1 addr 10.0.0.1/24 dev ab",
        "r2 route 10.0.0.0/24 via 10.0.2.1 dev rr",
        "b route 10.0.0.0/24 via 10.0.3.1 dev br",
        "a noroute 0.0.0.0/0",
    ];
    check(
        &[&two[..], &["a route 0.0.0.0/0 via 10.0.1.254 dev ra"]].concat(),
        &a_to_b(),
        "there a neighbour-unresolved",
        &["a: ip route replace default via 10.0.1.1"],
    );
    // It is there, and its interface is down: the route is right.
    check(&["r1 down ab"], &ask("a", "10.0.1.1"), "there a no-carrier", &["r1: ip link set dev ab up"]);
}

#[test]
fn an_address_that_two_have_is_left_open_and_taken_from_the_wrong_one() {
    let faults = ["node c", "node sw", "bridge sw:br0", "link sw:p1 c:eth0", "link sw:p2 d:eth0", "link sw:p3 e:eth0"];
    let mut net = Snapshot::default();
    type_in(&mut net, "node d");
    type_in(&mut net, "node e");
    for line in faults {
        type_in(&mut net, line);
    }
    for port in ["p1", "p2", "p3"] {
        type_in(&mut net, &format!("port sw:{port} br0"));
    }
    for line in ["c addr 10.0.0.1/24 dev eth0", "d addr 10.0.0.2/24 dev eth0", "e addr 10.0.0.2/24 dev eth0"] {
        type_in(&mut net, line);
    }
    let query = Query { wanted: Some("d".parse().unwrap()), ..ask("c", "10.0.0.2") };
    assert_eq!(verdict(&net, &query), "? there c duplicate-address");
    assert_eq!(commands(&net, &query), ["e: ip address delete 10.0.0.2/24 dev eth0"]);
    // Rules in a switch may see its frames, or not.
    let mut filtered = net.clone();
    type_in(&mut filtered, "e noaddr 10.0.0.2/24 dev eth0");
    type_in(&mut filtered, "sw filter forward drop accept");
    assert_eq!(verdict(&filtered, &query), "? there c undecided");
    // A port of the switch that is down is the switch's matter.
    type_in(&mut net, "e noaddr 10.0.0.2/24 dev eth0");
    assert_eq!(verdict(&net, &query), "yes");
    type_in(&mut net, "sw down p2");
    assert_eq!(verdict(&net, &query), "there c neighbour-unresolved");
    assert_eq!(commands(&net, &query), ["sw: ip link set dev p2 up"]);
}

#[test]
fn an_ethernet_address_that_two_have_is_left_open_where_the_switch_decides() {
    let mut net = Snapshot::default();
    for line in ["node c", "node d", "node e", "node sw", "bridge sw:br0"] {
        type_in(&mut net, line);
    }
    for (number, node) in ["c", "d", "e"].into_iter().enumerate() {
        for line in [
            &format!("link {node}:eth0 sw:p{number}"),
            &format!("port sw:p{number} br0"),
            &format!("{node} addr 10.0.0.{}/24 dev eth0", number + 1),
            &format!("{node} addr fd00::{}/64 dev eth0", number + 1),
            &format!("{node} addr fe80::{}/64 dev eth0", number + 1),
        ] {
            type_in(&mut net, line);
        }
    }
    type_in(&mut net, "d mac 02:00:00:00:0a:ff dev eth0");
    type_in(&mut net, "e mac 02:00:00:00:0a:ff dev eth0");
    for (d, e, c) in [("10.0.0.2", "10.0.0.3", "10.0.0.1"), ("fd00::2", "fd00::3", "fd00::1")] {
        assert_eq!(verdict(&net, &ask("c", d)), "? there c duplicate-mac");
        assert_eq!(commands(&net, &ask("c", d)), ["e: ip link set dev eth0 address 02:00:00:00:0b:00"]);
        // The switch has just heard who asks.
        assert_eq!(verdict(&net, &ask("d", c)), "yes");
        // Nothing goes back to the port that it comes from.
        assert_eq!(verdict(&net, &ask("d", e)), "there d duplicate-mac");
        // What was learnt is right, and of no use.
        let mut warm = net.clone();
        type_in(&mut warm, &format!("c neigh {d} 02:00:00:00:0a:ff dev eth0 learnt"));
        assert_eq!(verdict(&warm, &ask("c", d)), "? there c duplicate-mac");
        // Who is asked anew speaks.
        let both = ["e: ip link set dev eth0 address 02:00:00:00:0b:00", &format!("c: ip neigh delete {d} dev eth0")];
        assert_eq!(commands(&warm, &ask("c", d)), both);
    }
    // What is for a switch itself it does not pass on; its node may.
    type_in(&mut net, "e mac 02:00:00:00:0a:01 dev eth0");
    let port = net.nodes["sw"].links[&"p0".parse().unwrap()].mac.unwrap();
    type_in(&mut net, &format!("d mac {port} dev eth0"));
    assert_eq!(verdict(&net, &ask("c", "10.0.0.2")), "? there c duplicate-mac");
    assert_eq!(verdict(&net, &ask("c", "10.0.0.3")), "yes");
    // A cable has one other end.
    let mut net = chain();
    type_in(&mut net, "a mac 02:00:00:00:0a:01 dev ra");
    type_in(&mut net, "r1 mac 02:00:00:00:0a:01 dev ab");
    assert_eq!(verdict(&net, &a_to_b()), "yes");
}

#[test]
fn routes_and_rules_that_refuse_are_named() {
    for (kind, code) in [("blackhole", "blackhole"), ("unreachable", "unreachable"), ("prohibit", "prohibit")] {
        check(
            &[&format!("r1 route 10.0.3.2/32 {kind}")],
            &a_to_b(),
            &format!("there r1 {code}"),
            &["r1: ip route delete 10.0.3.2/32"],
        );
    }
    check(
        &["r1 rule 100 to 10.0.3.0/24 prohibit"],
        &a_to_b(),
        "there r1 policy-rule",
        &["r1: ip rule delete priority 100"],
    );
}

#[test]
fn a_circle_is_opened() {
    check(
        &["r2 route 10.0.3.2/32 via 10.0.2.1 dev rr"],
        &a_to_b(),
        "there r2 ttl-loop",
        &["r2: ip route delete 10.0.3.2/32"],
    );
    check(
        &["r2 route 10.9.0.0/24 via 10.0.2.1 dev rr"],
        &ask("a", "10.9.0.1"),
        "there r2 ttl-loop",
        &["r2: ip route replace 10.9.0.0/24 via 10.0.3.2"],
    );
}

#[test]
fn the_neighbour_table_can_lie() {
    check(
        &["r2 neigh 10.0.3.2 02:00:00:00:ff:ff dev rb permanent"],
        &a_to_b(),
        "there r2 wrong-static-neighbour",
        &["r2: ip neigh delete 10.0.3.2 dev rb"],
    );
}

#[test]
fn a_source_that_the_node_has_itself_is_not_believed() {
    check(
        &["r2 addr 10.0.1.2/32 dev lo"],
        &a_to_b(),
        "there r2 local-source",
        &["r2: ip address delete 10.0.1.2/32 dev lo"],
    );
}

#[test]
fn packets_that_do_not_fit_are_named() {
    let big = |query: Query| Query { packet: Packet { length: 1400, ..query.packet }, ..query };
    check(&["r1 mtu rr 1280"], &big(a_to_b()), "there r1 mtu", &["r1: ip link set dev rr mtu 1500"]);
    check(&["r2 mtu rr 1280"], &big(a_to_b()), "there r1 mtu-mismatch", &["r2: ip link set dev rr mtu 1500"]);
    check(&["r1 mtu rr 1280"], &a_to_b(), "yes", &[]);
}

#[test]
fn a_sender_that_is_never_told_what_fits_is_named() {
    let big = |query: Query| Query { packet: Packet { length: 1400, ..query.packet }, ..query };
    let mends = &["r2: ip link set dev rb mtu 1500"];
    let narrow = "r2 mtu rb 1280";
    // The error is lost on its way, or at the sender itself.
    for lost in ["r1 filter forward accept type unreachable drop", "a filter input accept type unreachable drop"] {
        check(&[narrow, lost], &big(a_to_b()), "there r2 pmtud-blackhole", mends);
    }
    // The router has no way to the sender.
    check(
        &[narrow, "r2 noroute 10.0.1.0/24"],
        &big(a_to_b()),
        "there r2 pmtud-blackhole",
        &["r2: ip link set dev rb mtu 1500", "r2: ip route add 10.0.1.0/24 via 10.0.2.1"],
    );
    // A firewall knows to what the error belongs, if it has seen it.
    check(&[narrow, "r1 filter forward accept state unrelated drop"], &big(a_to_b()), "there r2 mtu", mends);
    // What is about other packets drops no error.
    check(&[narrow, "r1 filter output accept drop"], &big(a_to_b()), "there r2 mtu", mends);
    // The sender's own kernel needs no packet to say it.
    check(
        &["a mtu ra 1280", "a filter input accept type unreachable drop"],
        &big(a_to_b()),
        "there a mtu",
        &["a: ip link set dev ra mtu 1500"],
    );
    let six = big(ask("a", "fd00:3::2"));
    check(
        &[narrow, "r2 noroute fd00:1::/64"],
        &six,
        "there r2 pmtud-blackhole",
        &["r2: ip link set dev rb mtu 1500", "r2: ip route add fd00:1::/64 via fd00:2::1"],
    );
}

#[test]
fn ports_say_who_listens() {
    let tcp = |port| Query { packet: Packet::probe("10.0.3.2".parse().unwrap(), Protocol::Tcp, port), ..a_to_b() };
    check(&["b listen tcp 0.0.0.0 80"], &tcp(80), "yes", &[]);
    check(&["b listen tcp :: 80"], &tcp(80), "yes", &[]);
    check(&["b listen udp 0.0.0.0 80"], &tcp(80), "there b no-listener", &[]);
    check(&["b listen tcp 127.0.0.1 80"], &tcp(80), "there b wrong-bind-address", &[]);
    check(&["b listen tcp 10.0.3.2 80"], &tcp(80), "yes", &[]);
    // The network is repaired also where the service is missing.
    check(&["r1 noroute 10.0.3.0/24"], &tcp(80), "there r1 no-route", &["r1: ip route add 10.0.3.0/24 via 10.0.2.2"]);
}

#[test]
fn the_firewall_is_run_in_each_hook() {
    check(
        &["r1 filter forward accept l4proto icmp drop"],
        &a_to_b(),
        "there r1 firewall",
        &[
            "r1: nft insert rule inet fw forward position 4 ip saddr 10.0.1.2 ip daddr 10.0.3.2 meta l4proto icmp accept",
            "r1: nft insert rule inet fw forward position 4 ip saddr 10.0.3.2 ip daddr 10.0.1.2 meta l4proto icmp accept",
        ],
    );
    check(&["r1 filter forward accept l4proto tcp drop"], &a_to_b(), "yes", &[]);
    check(&["r1 filter forward drop l4proto icmp accept"], &a_to_b(), "yes", &[]);
    check(
        &["r1 filter forward drop l4proto tcp accept"],
        &a_to_b(),
        "there r1 firewall",
        &[
            "r1: nft add rule inet fw forward ip saddr 10.0.1.2 ip daddr 10.0.3.2 meta l4proto icmp accept",
            "r1: nft add rule inet fw forward ip saddr 10.0.3.2 ip daddr 10.0.1.2 meta l4proto icmp accept",
        ],
    );
    check(
        &["b filter input accept drop"],
        &a_to_b(),
        "there b firewall",
        &["b: nft insert rule inet fw input position 4 ip saddr 10.0.1.2 ip daddr 10.0.3.2 meta l4proto icmp accept"],
    );
    check(
        &["b filter output accept reject"],
        &a_to_b(),
        "back b firewall",
        &["b: nft insert rule inet fw output position 4 ip saddr 10.0.3.2 ip daddr 10.0.1.2 meta l4proto icmp accept"],
    );
    check(
        &["a filter output accept drop"],
        &a_to_b(),
        "there a firewall",
        &["a: nft insert rule inet fw output position 4 ip saddr 10.0.1.2 ip daddr 10.0.3.2 meta l4proto icmp accept"],
    );
    check(&["r2 filter forward accept masquerade"], &a_to_b(), "? there r2 undecided", &[]);
    // What is in the packet is not known to the last byte.
    check(&["r2 filter forward accept sequence unrelated drop"], &a_to_b(), "? there r2 undecided", &[]);
    // That matters where it is looked at, and makes a difference, alone.
    check(
        &["r2 filter forward drop sequence unrelated drop"],
        &a_to_b(),
        "there r2 firewall",
        &[
            "r2: nft insert rule inet fw forward ip saddr 10.0.1.2 ip daddr 10.0.3.2 meta l4proto icmp accept",
            "r2: nft insert rule inet fw forward ip saddr 10.0.3.2 ip daddr 10.0.1.2 meta l4proto icmp accept",
        ],
    );
    check(&["r2 filter forward accept sequence unrelated accept"], &a_to_b(), "yes", &[]);
    check(&["r2 filter forward accept l4proto tcp sequence drop"], &a_to_b(), "yes", &[]);
    // What is before it decides.
    check(&["r2 filter forward accept l4proto icmp accept masquerade"], &a_to_b(), "yes", &[]);
}

/// Not to be taken for one without rules.
#[test]
fn a_firewall_is_opened_for_the_flow_alone() {
    let tcp = |to: &str| Query { packet: Packet::probe(to.parse().unwrap(), Protocol::Tcp, 80), ..a_to_b() };
    let service = "b listen tcp 10.0.3.2 80";
    let there = "ip saddr 10.0.1.2 ip daddr 10.0.3.2 tcp dport 80 accept";
    let back = "ip saddr 10.0.3.2 ip daddr 10.0.1.2 tcp sport 80 accept";
    // The answer is another flow.
    check(
        &[service, "r1 filter forward accept drop"],
        &tcp("10.0.3.2"),
        "there r1 firewall",
        &[
            &format!("r1: nft insert rule inet fw forward position 4 {there}"),
            &format!("r1: nft insert rule inet fw forward position 4 {back}"),
        ],
    );
    // Behind a rule that ends the chain, nothing is reached.
    check(
        &[service, "r1 filter forward drop return"],
        &tcp("10.0.3.2"),
        "there r1 firewall",
        &[
            &format!("r1: nft insert rule inet fw forward {there}"),
            &format!("r1: nft insert rule inet fw forward {back}"),
        ],
    );
    // As it is where it is dropped.
    check(
        &[service, "r1 dnat 10.0.2.1 10.0.3.2", "r1 filter forward drop l4proto icmp accept"],
        &tcp("10.0.2.1"),
        "there r1 firewall",
        &[&format!("r1: nft add rule inet fw forward {there}"), &format!("r1: nft add rule inet fw forward {back}")],
    );
}

#[test]
fn a_firewall_that_nobody_could_read_leaves_it_open() {
    let mut net = chain();
    net.nodes.get_mut("r2").unwrap().firewall = None;
    assert_eq!(verdict(&net, &a_to_b()), "? there r2 undecided");
    // What ends it before is certain.
    type_in(&mut net, "r1 noroute 10.0.3.0/24");
    assert_eq!(verdict(&net, &a_to_b()), "there r1 no-route");
}

#[test]
fn a_cable_that_leads_elsewhere_leaves_what_is_known() {
    let mut net = chain();
    net.nodes.get_mut("r2").unwrap().links.get_mut(&"rb".parse::<hopyard_net::IfName>().unwrap()).unwrap().kind =
        hopyard_net::LinkKind::Veth { peer: None };
    assert_eq!(verdict(&net, &a_to_b()), "? there r2 leaves-known");
    assert_eq!(commands(&net, &a_to_b()), Vec::<String>::new());
    // What comes not as far is answered.
    assert_eq!(verdict(&net, &ask("a", "10.0.2.2")), "yes");
}

#[test]
fn a_broadcast_is_not_followed() {
    let mut net = chain();
    let key = hopyard_net::RouteKey { prefix: "10.0.1.255/32".parse().unwrap(), table: 255, metric: 0 };
    let action = hopyard_net::FibAction::Group;
    let route = hopyard_net::FibRoute { key, action, src: None, hop_limit: None, mtu: None, derived: true };
    net.nodes.get_mut("a").unwrap().routes.push(route);
    assert_eq!(verdict(&net, &ask("a", "10.0.1.255")), "? there a undecided");
}

#[test]
fn several_faults_are_all_found_in_one_run() {
    check(
        &["a noroute 0.0.0.0/0", "r1 sysctl net.ipv4.ip_forward 0", "r2 noroute 10.0.1.0/24", "b noroute 10.0.1.0/24"],
        &a_to_b(),
        "there a no-route",
        &[
            "a: ip route add 10.0.3.0/24 via 10.0.1.1",
            "r1: sysctl -w net.ipv4.ip_forward=1",
            "b: ip route add 10.0.1.0/24 via 10.0.3.1",
            "r2: ip route add 10.0.1.0/24 via 10.0.2.1",
        ],
    );
}

#[test]
fn what_was_declared_is_preferred() {
    let mut net = chain();
    type_in(&mut net, "r1 noroute 10.0.3.0/24");
    let declared = hopyard_net::Op::SetRoute {
        ns: "r1".parse().unwrap(),
        route: hopyard_net::Route::unicast(
            "10.0.0.0/8".parse().unwrap(),
            vec![hopyard_net::NextHop {
                via: Some("10.0.2.2".parse().unwrap()),
                dev: "rr".parse().unwrap(),
                weight: 1,
            }],
        ),
    };
    let repair = repair(&net, &a_to_b(), &Choices::new(), &[declared]).unwrap();
    let edits: Vec<String> = repair.edits().map(ToString::to_string).collect();
    assert_eq!(edits, ["ip route add 10.0.0.0/8 via 10.0.2.2"]);
    assert!(repair.stages[0].edits[0].1, "it restores what was declared");
}

#[test]
fn an_address_that_was_declared_comes_back() {
    let mut net = chain();
    type_in(&mut net, "b noaddr 10.0.3.2/24 dev br");
    let at = common::at("b:br");
    let drift = [hopyard_net::Op::AddAddr { at, addr: "10.0.3.2/24".parse().unwrap() }];
    for query in [
        Query { wanted: Some("a".parse().unwrap()), ..ask("b", "10.0.1.2") },
        Query { wanted: Some("b".parse().unwrap()), ..a_to_b() },
    ] {
        let repair = repair(&net, &query, &Choices::new(), &drift).unwrap();
        let edits: Vec<String> = repair.edits().map(ToString::to_string).collect();
        assert_eq!(edits, ["ip address add 10.0.3.2/24 dev br", "ip route add 10.0.1.0/24 via 10.0.3.1"]);
    }
}

#[test]
fn who_is_masqueraded_needs_no_route_back() {
    let faults = ["r2 noroute 10.0.1.0/24", "b noroute 10.0.1.0/24"];
    let mut net = chain();
    for fault in faults {
        type_in(&mut net, fault);
    }
    assert_eq!(verdict(&net, &a_to_b()), "back b no-return-route");
    type_in(&mut net, "r1 masquerade rr");
    assert_eq!(verdict(&net, &a_to_b()), "yes");
    let told = told(&net, &a_to_b());
    // Outside it has another source, and the answer finds the way to the first one.
    assert_eq!(told.there.packet.src, Some("10.0.2.1".parse().unwrap()));
    assert_eq!(told.back.unwrap().packet.dst.to_string(), "10.0.1.2");
}

#[test]
fn who_is_sent_on_answers_as_whom_was_asked() {
    let mut net = chain();
    type_in(&mut net, "r1 dnat 10.0.2.1 10.0.3.2");
    let query = ask("a", "10.0.2.1");
    assert_eq!(verdict(&net, &query), "yes");
    let told = told(&net, &query);
    assert_eq!(told.there.last().unwrap().node.as_str(), "b");
    assert_eq!(told.back.unwrap().packet.src, Some("10.0.2.1".parse().unwrap()));
    // What the router itself sends there is not followed.
    assert!(verdict(&net, &ask("r1", "10.0.2.1")).starts_with("? there r1"));
}

#[test]
fn who_is_masqueraded_needs_a_route_to_the_translator() {
    let mut net = chain();
    // b has a way to a, but what it got came from r1.
    for line in ["r1 masquerade rr", "b noroute 10.0.2.0/24"] {
        type_in(&mut net, line);
    }
    assert_eq!(verdict(&net, &a_to_b()), "back b no-return-route");
}
