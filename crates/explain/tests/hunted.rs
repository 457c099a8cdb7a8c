//! What random labs with random faults have found (`crates/hopyard/tests/why.rs`), each as small as it gets.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what is wrong by failing")]

mod common;

use common::{ask, at, chain, told, type_in};
use hopyard_explain::{Choices, Outcome, Packet, Protocol, Query, explain, repair};
use hopyard_net::{
    Family, FibAction, FibRoute, IfAddress, LinkState, NextHop, Op, PolicyRule, Redirect, Route, RouteKey, RouteKind,
    RuleAction, Snapshot,
};

fn chain_with(faults: &[&str]) -> Snapshot {
    let mut net = chain();
    for fault in faults {
        type_in(&mut net, fault);
    }
    net
}

fn tcp(from: &str, to: &str) -> Query {
    Query { packet: Packet::probe(to.parse().unwrap(), Protocol::Tcp, 80), ..ask(from, to) }
}

/// `there NODE CODE`, behind `?` if it is open.
fn says(net: &Snapshot, query: &Query) -> String {
    let verdict = told(net, query);
    let open = if verdict.outcome() == Outcome::Undecided { "? " } else { "" };
    verdict.trouble().map_or_else(String::new, |it| {
        format!("{open}{} {} {}", if it.back { "back" } else { "there" }, it.node, it.code())
    })
}

#[track_caller]
fn repairs(net: &Snapshot, query: &Query, drift: &[Op], expected: &[&str]) {
    let repair = repair(net, query, &Choices::new(), drift).unwrap();
    let found: Vec<String> = repair.edits().map(|edit| format!("{}: {edit}", edit.node())).collect();
    assert_eq!(found, expected);
}

fn link<'a>(net: &'a mut Snapshot, end: &str) -> &'a mut LinkState {
    let end = at(end);
    net.nodes.get_mut(&end.ns).unwrap().links.get_mut(&end.dev).unwrap()
}

/// Two ways from r1 on, of which the one by `ab` leads to nobody.
fn forked() -> Snapshot {
    let mut net = chain();
    let hop = |via: &str, dev: &str| NextHop { via: Some(via.parse().unwrap()), dev: dev.parse().unwrap(), weight: 1 };
    let r1 = net.nodes.get_mut("r1").unwrap();
    let route = r1.routes.iter_mut().find(|it| it.key.prefix.to_string() == "10.0.3.0/24").unwrap();
    route.action = FibAction::Route(RouteKind::Unicast(vec![hop("10.0.2.2", "rr"), hop("10.0.1.9", "ab")]));
    net
}

#[test]
fn a_repair_holds_when_what_was_learnt_is_forgotten() {
    let faults = ["r1 sysctl net.ipv4.conf.ab.arp_ignore 8", "b noroute 10.0.1.0/24"];
    let mut net = chain_with(&faults);
    let mac = link(&mut net, "r1:ab").mac.unwrap();
    // As long as a remembers who r1 is, nobody asks for it.
    type_in(&mut net, &format!("a neigh 10.0.1.1 {mac} dev ra learnt"));
    let query = ask("a", "10.0.3.2");
    assert_eq!(says(&net, &query), "back b no-return-route");
    repairs(
        &net,
        &query,
        &[],
        &["b: ip route add 10.0.1.0/24 via 10.0.3.1", "r1: sysctl -w net.ipv4.conf.ab.arp_ignore=0"],
    );
}

/// c, d and e at one switch.
fn segment() -> Snapshot {
    let mut net = Snapshot::default();
    for line in ["node c", "node d", "node e", "node sw", "bridge sw:br0"] {
        type_in(&mut net, line);
    }
    for (number, node) in ["c", "d", "e"].into_iter().enumerate() {
        type_in(&mut net, &format!("link {node}:eth0 sw:p{number}"));
        type_in(&mut net, &format!("port sw:p{number} br0"));
        type_in(&mut net, &format!("{node} addr 10.0.0.{}/24 dev eth0", number + 1));
    }
    net
}

#[test]
fn a_wrong_neighbour_that_is_a_router_sends_it_on() {
    let mut net = segment();
    let mac = link(&mut net, "e:eth0").mac.unwrap();
    type_in(&mut net, &format!("c neigh 10.0.0.2 {mac} dev eth0 permanent"));
    let query = ask("c", "10.0.0.2");
    assert_eq!(says(&net, &query), "there c wrong-static-neighbour");
    repairs(&net, &query, &[], &["c: ip neigh delete 10.0.0.2 dev eth0"]);
    type_in(&mut net, "e sysctl net.ipv4.ip_forward 1");
    assert_eq!(says(&net, &query), "");
    let verdict = told(&net, &query);
    assert_eq!(verdict.there.nodes().map(ToString::to_string).collect::<Vec<_>>(), ["c", "e", "d"]);
}

#[test]
fn who_has_learnt_where_an_address_was_goes_on_sending_there() {
    let mut net = segment();
    type_in(&mut net, "e addr 10.0.0.2/24 dev eth0");
    let mac = link(&mut net, "e:eth0").mac.unwrap();
    type_in(&mut net, &format!("c neigh 10.0.0.2 {mac} dev eth0 learnt"));
    let query = Query { wanted: Some("d".parse().unwrap()), ..ask("c", "10.0.0.2") };
    assert_eq!(says(&net, &query), "there e wrong-node");
    let drift = [Op::DelAddr { at: at("e:eth0"), addr: "10.0.0.2/24".parse().unwrap() }];
    let both = ["e: ip address delete 10.0.0.2/24 dev eth0", "c: ip neigh delete 10.0.0.2 dev eth0"];
    repairs(&net, &query, &drift, &both);
    repairs(&net, &query, &[], &both);
}

#[test]
fn to_a_second_address_of_a_network_a_node_sends_from_the_first() {
    let mut net = segment();
    type_in(&mut net, "c addr 10.0.0.9/24 dev eth0");
    type_in(&mut net, "c addr fd00::1/64 dev eth0");
    type_in(&mut net, "c addr fd00::9/64 dev eth0");
    let source = |to| told(&net, &ask("c", to)).there.packet.src.unwrap().to_string();
    assert_eq!(source("10.0.0.9"), "10.0.0.1");
    assert_eq!(source("10.0.0.1"), "10.0.0.1");
    assert_eq!(source("fd00::9"), "fd00::9");
}

#[test]
fn who_asks_sets_right_what_was_learnt_of_it() {
    let mut net = segment();
    type_in(&mut net, "c neigh 10.0.0.2 02:00:00:00:09:99 dev eth0 learnt");
    assert_eq!(says(&net, &ask("c", "10.0.0.2")), "there c stale-neighbour");
    assert_eq!(says(&net, &ask("d", "10.0.0.1")), "", "d asks c, which learns where it is");
    // It need not ask.
    let mac = link(&mut net, "c:eth0").mac.unwrap();
    type_in(&mut net, &format!("d neigh 10.0.0.1 {mac} dev eth0 learnt"));
    assert_eq!(says(&net, &ask("d", "10.0.0.1")), "back c stale-neighbour");
    // What somebody has set stays.
    let mut net = segment();
    type_in(&mut net, "c neigh 10.0.0.2 02:00:00:00:09:99 dev eth0 permanent");
    assert_eq!(says(&net, &ask("d", "10.0.0.1")), "back c wrong-static-neighbour");
}

#[test]
fn who_sends_from_an_address_of_another_gets_no_answer_until_it_is_taken_away() {
    let mut net = segment();
    for line in ["c addr fd00::1/64", "d addr fd00::2/64", "e addr fd00::2/64", "e addr fd00::3/64"] {
        type_in(&mut net, &format!("{line} dev eth0"));
    }
    let mac = link(&mut net, "d:eth0").mac.unwrap();
    type_in(&mut net, &format!("c neigh fd00::2 {mac} dev eth0 learnt"));
    let query = ask("e", "fd00::1");
    assert_eq!(says(&net, &query), "", "e asks c, which believes it");
    let mac = link(&mut net, "c:eth0").mac.unwrap();
    type_in(&mut net, &format!("e neigh fd00::1 {mac} dev eth0 learnt"));
    let twice = at("e:eth0");
    let drift = [Op::DelAddr { at: twice, addr: "fd00::2/64".parse().unwrap() }];
    assert_eq!(says(&net, &query), "back d return-to-wrong-node");
    repairs(&net, &query, &drift, &["e: ip address delete fd00::2/64 dev eth0"]);
}

#[test]
fn what_the_file_declares_is_cheaper_than_as_many_other_changes() {
    let net = chain_with(&["a addr 10.0.1.2/16 dev ra", "a noaddr 10.0.1.2/24 dev ra"]);
    let (right, wrong) = ("10.0.1.2/24".parse().unwrap(), "10.0.1.2/16".parse().unwrap());
    let hop = NextHop { via: Some("10.0.1.1".parse().unwrap()), dev: "ra".parse().unwrap(), weight: 1 };
    // As `hop up` would do it. In another order it takes two changes, and one of them is proposed dearer as well.
    let drift = [
        Op::DelAddr { at: at("a:ra"), addr: wrong },
        Op::AddAddr { at: at("a:ra"), addr: right },
        Op::SetRoute { ns: "a".parse().unwrap(), route: Route::unicast("0.0.0.0/0".parse().unwrap(), vec![hop]) },
    ];
    let query = ask("a", "10.0.3.2");
    assert_eq!(says(&net, &query), "there a wrong-mask");
    let mended = ["a: ip address add 10.0.1.2/24 dev ra", "a: ip address delete 10.0.1.2/16 dev ra"];
    repairs(&net, &query, &drift, &mended);
    repairs(&net, &query, &[], &mended);
    // Where the others are of two minds, nobody knows which length is right.
    let mut net = net;
    type_in(&mut net, "r1 addr 10.0.1.9/26 dev ab");
    repairs(&net, &query, &[], &["a: ip route add 10.0.3.0/24 via 10.0.1.1"]);
}

#[test]
fn the_way_back_is_told_for_when_the_packet_arrives() {
    let net = chain_with(&["a noaddr fd00:1::2/64 dev ra", "a addr fd00:1::2/16 dev ra"]);
    let (right, wrong) = ("fd00:1::2/64".parse().unwrap(), "fd00:1::2/16".parse().unwrap());
    let drift = [Op::DelAddr { at: at("a:ra"), addr: wrong }, Op::AddAddr { at: at("a:ra"), addr: right }];
    let query = ask("a", "fd00:3::2");
    let repair = repair(&net, &query, &Choices::new(), &drift).unwrap();
    // With the first of them alone it has no address.
    assert_eq!(repair.stages.iter().map(|stage| stage.trouble.back).collect::<Vec<_>>(), [false, false]);
    assert_eq!(repair.next.trouble(), None);
}

#[test]
fn a_tcp_connection_is_routed_again_from_its_source() {
    let mut net = chain();
    let mut rule = PolicyRule::lookup(Family::Ipv4, 100, 0);
    rule.from = Some("10.0.1.2/32".parse().unwrap());
    rule.action = RuleAction::Prohibit;
    net.nodes.get_mut("a").unwrap().rules.insert(1, rule);
    assert_eq!(says(&net, &ask("a", "10.0.3.2")), "");
    assert_eq!(says(&net, &tcp("a", "10.0.3.2")), "there a policy-rule");
    repairs(&net, &tcp("a", "10.0.3.2"), &[], &["a: ip rule delete priority 100"]);
}

#[test]
fn of_equal_ways_one_that_died_with_an_address_is_none() {
    let query = ask("r1", "10.0.3.2");
    assert!(says(&forked(), &query).starts_with("? "), "{}", says(&forked(), &query));
    let mut net = forked();
    // The kernel keeps it beside the others, as dead.
    let ab = link(&mut net, "r1:ab");
    ab.addresses.retain(|own| own.net.addr().is_ipv6());
    assert_eq!(says(&net, &query), "");
}

#[test]
fn of_equal_ways_the_one_that_the_network_fails_on_is_shown() {
    let mut net = forked();
    type_in(&mut net, "b listen tcp 10.9.0.1 80");
    assert_eq!(says(&net, &tcp("r1", "10.0.3.2")), "? there r1 neighbour-unresolved");
}

#[test]
fn somebody_elses_address_is_in_the_way_to_the_one_who_has_it() {
    let net = chain_with(&["b addr 10.0.3.1/32 dev br", "b noroute 10.0.1.0/24"]);
    let query = ask("b", "10.0.1.2");
    let drift = [Op::DelAddr { at: at("b:br"), addr: "10.0.3.1/32".parse().unwrap() }];
    assert_eq!(says(&net, &query), "there b no-route");
    let both = ["b: ip address delete 10.0.3.1/32 dev br", "b: ip route add 10.0.1.0/24 via 10.0.3.1"];
    repairs(&net, &query, &drift, &both);
}

#[test]
fn firewalls_see_neighbour_discovery_and_not_arp() {
    let six = ask("r1", "fd00:2::2");
    for (filter, answer) in
        [("r2 filter input drop l4proto tcp accept", false), ("r2 filter output drop l4proto tcp accept", true)]
    {
        let mut net = chain_with(&[filter]);
        assert_eq!(says(&net, &ask("a", "10.0.3.2")), "", "{filter}");
        assert_eq!(says(&net, &six), "there r1 firewall", "{filter}");
        let trouble = told(&net, &six).trouble().unwrap();
        assert!(
            matches!(&trouble.reason, hopyard_explain::Reason::FrameDropped { by, asking: Some((_, is)), .. } if by.as_str() == "r2" && *is == answer),
            "{filter}: {:?}",
            trouble.reason
        );
        let hook = if answer { "output" } else { "input" };
        repairs(&net, &six, &[], &[&format!("r2: nft chain inet fw {hook} '{{ policy accept; }}'")]);
        // What is known need not be asked for.
        let mac = link(&mut net, "r2:rr").mac.unwrap();
        let known = chain_with(&[filter, &format!("r1 neigh fd00:2::2 {mac} dev rr permanent")]);
        assert_ne!(says(&known, &six), "there r1 firewall", "{filter}");
    }
}

#[test]
fn who_has_no_address_to_ask_from_yet_is_not_blamed() {
    let mut net = chain();
    let tentative = IfAddress { usable: false, ..IfAddress::new("fe80::1/64".parse().unwrap()) };
    link(&mut net, "r1:rr").addresses.push(tentative);
    assert_eq!(says(&net, &ask("a", "fd00:3::2")), "? there r1 undecided");
    // Its own packets ask from their own address.
    assert_eq!(says(&net, &ask("r1", "fd00:2::2")), "");
    assert_eq!(says(&net, &ask("a", "10.0.3.2")), "");
}

#[test]
fn an_ipv6_address_cannot_be_there_twice() {
    let net = chain_with(&["a noaddr fd00:1::2/64 dev ra", "a addr fd00:1::2/16 dev ra"]);
    let query = ask("a", "fd00:3::2");
    assert_eq!(says(&net, &query), "there a wrong-mask");
    let drift = [
        Op::DelAddr { at: at("a:ra"), addr: "fd00:1::2/16".parse().unwrap() },
        Op::AddAddr { at: at("a:ra"), addr: "fd00:1::2/64".parse().unwrap() },
    ];
    let mended = ["a: ip address delete fd00:1::2/16 dev ra", "a: ip address add fd00:1::2/64 dev ra nodad"];
    repairs(&net, &query, &drift, &mended);
    // A default route is there all the time.
    assert!(net.nodes["a"].routes.iter().any(|it| it.key.is_default() && it.key.table == RouteKey::MAIN));
}

#[test]
fn the_answer_to_another_source_may_be_a_matter_of_chance() {
    // ```text
    //      10.1.0.1 --- r --- 10.3.0.0/30
    // a <                                  > t lo 10.9.0.1
    //      10.2.0.1 --- s --- 10.4.0.0/30
    // ```
    let mut net = Snapshot::default();
    for line in [
        "node a",
        "node r",
        "node s",
        "node t",
        "link a:s s:a",
        "link a:r r:a",
        "link r:t t:r",
        "link s:t t:s",
        "a addr 10.1.0.1/30 dev r",
        "r addr 10.1.0.2/30 dev a",
        "a addr 10.2.0.1/30 dev s",
        "s addr 10.2.0.2/30 dev a",
        "r addr 10.3.0.1/30 dev t",
        "t addr 10.3.0.2/30 dev r",
        "s addr 10.4.0.1/30 dev t",
        "t addr 10.4.0.2/30 dev s",
        "t addr 10.9.0.1/32 dev lo",
        "r route 10.9.0.1/32 via 10.3.0.2 dev t",
        "s route 10.9.0.1/32 via 10.4.0.2 dev t",
        "s route 10.1.0.0/30 via 10.2.0.1 dev a",
        "t route 10.2.0.0/30 via 10.4.0.1 dev s",
        "r sysctl net.ipv4.ip_forward 1",
        "s sysctl net.ipv4.ip_forward 1",
        // Answers do not come through it.
        "s sysctl net.ipv4.conf.t.forwarding 0",
    ] {
        type_in(&mut net, line);
    }
    let hop = |via: &str, dev: &str| NextHop { via: Some(via.parse().unwrap()), dev: dev.parse().unwrap(), weight: 1 };
    for (node, to, hops) in [
        ("a", "10.9.0.1/32", [hop("10.2.0.2", "s"), hop("10.1.0.2", "r")]),
        ("t", "10.1.0.0/30", [hop("10.4.0.1", "s"), hop("10.3.0.1", "r")]),
    ] {
        let route = Route::unicast(to.parse().unwrap(), hops.into());
        hopyard_explain::Edit::Op(Op::SetRoute { ns: node.parse().unwrap(), route }).apply(&mut net);
    }
    assert_eq!(says(&net, &ask("a", "10.9.0.1")), "? back s forwarding-off");
}

#[test]
fn the_declared_address_of_the_gateway_is_put_back_too() {
    let mut net = chain_with(&["r1 noaddr 10.0.1.1/24 dev ab", "a noaddr 10.0.1.2/24 dev ra"]);
    type_in(&mut net, "r1 addr 10.0.1.1/32 dev ab");
    let hop = NextHop { via: Some("10.0.1.1".parse().unwrap()), dev: "ra".parse().unwrap(), weight: 1 };
    let drift = [
        Op::AddAddr { at: at("a:ra"), addr: "10.0.1.2/24".parse().unwrap() },
        Op::SetRoute { ns: "a".parse().unwrap(), route: Route::unicast("0.0.0.0/0".parse().unwrap(), vec![hop]) },
        Op::DelAddr { at: at("r1:ab"), addr: "10.0.1.1/32".parse().unwrap() },
        Op::AddAddr { at: at("r1:ab"), addr: "10.0.1.1/24".parse().unwrap() },
    ];
    assert_eq!(says(&net, &ask("a", "10.0.3.2")), "there a no-route");
    repairs(
        &net,
        &ask("a", "10.0.3.2"),
        &drift,
        &[
            "a: ip address add 10.0.1.2/24 dev ra",
            "a: ip route add default via 10.0.1.1",
            "r1: ip address add 10.0.1.1/24 dev ab",
        ],
    );
}

#[test]
fn what_is_for_a_group_of_nodes_is_no_matter_of_routes() {
    let net = chain();
    for dst in ["224.0.0.1", "255.255.255.255", "0.0.0.0"] {
        assert_eq!(says(&net, &ask("h1", dst)), "? there h1 undecided", "{dst}");
    }
}

// ------------------------------------------------- what networks have that are no labs: crates/cli/tests/why_strange.rs

#[test]
fn a_redirect_takes_the_place_of_the_next_hop_until_it_is_forgotten() {
    // c, d and e at one switch; e has 10.9.0.1, c sends to d, which has told it about e.
    let mut net = segment();
    for line in ["e addr 10.9.0.1/32 dev lo", "c route 10.9.0.0/24 via 10.0.0.2 dev eth0"] {
        type_in(&mut net, line);
    }
    let query = ask("c", "10.9.0.1");
    assert_eq!(says(&net, &query), "there d forwarding-off");
    let dev = "eth0".parse().unwrap();
    let hop = NextHop { via: Some("10.0.0.3".parse().unwrap()), dev, weight: 1 };
    let redirect = |table| Redirect { table, dst: "10.9.0.1".parse().unwrap(), hop: hop.clone() };
    net.nodes.get_mut("c").unwrap().redirects = vec![redirect(RouteKey::MAIN + 1)];
    assert_eq!(says(&net, &query), "there d forwarding-off", "of another table");
    net.nodes.get_mut("c").unwrap().redirects = vec![redirect(RouteKey::MAIN)];
    assert_eq!(says(&net, &query), "");
    let verdict = told(&net, &query);
    assert!(verdict.there.hops[0].is_redirected() && !verdict.there.hops[1].is_redirected());
    assert_eq!(verdict.there.nodes().map(ToString::to_string).collect::<Vec<_>>(), ["c", "e"]);
    // To another destination it says nothing.
    assert_eq!(says(&net, &ask("c", "10.9.0.2")), "there d forwarding-off");
    // One that leads nowhere is forgotten, and it works again.
    type_in(&mut net, "d sysctl net.ipv4.ip_forward 1");
    type_in(&mut net, "d route 10.9.0.0/24 via 10.0.0.3 dev eth0");
    let nobody = NextHop { via: Some("10.0.0.9".parse().unwrap()), ..hop };
    let redirect = Redirect { hop: nobody, ..redirect(RouteKey::MAIN) };
    net.nodes.get_mut("c").unwrap().redirects = vec![redirect];
    assert_eq!(says(&net, &query), "there c neighbour-unresolved");
    repairs(&net, &query, &[], &["c: sysctl -w net.ipv4.route.flush=1"]);
}

#[test]
fn what_stands_on_an_interface_or_a_port_leaves_it_open() {
    let query = ask("c", "10.0.0.2");
    let mut net = segment();
    link(&mut net, "sw:p1").beyond = Some("the port is isolated".to_owned());
    assert_eq!(says(&net, &query), "? there c undecided");
    assert_eq!(says(&net, &ask("c", "10.0.0.3")), "", "by other ports it goes on");
    // Who has the address is known; who else gets frames does not matter then.
    let mut net = segment();
    link(&mut net, "d:eth0").shared_by = Some("the macvlan x:mv0".to_owned());
    assert_eq!(says(&net, &query), "");
    assert_eq!(says(&net, &ask("c", "10.0.0.9")), "? there c undecided");
    let mac = hopyard_net::MacAddr::from_bytes([2, 0, 0, 0, 9, 9]);
    type_in(&mut net, &format!("c neigh 10.0.0.2 {mac} dev eth0 learnt"));
    assert_eq!(says(&net, &query), "? there c undecided");
}

#[test]
fn a_ping_may_be_ignored_and_all_else_taken_in() {
    let mut net = chain_with(&["b listen tcp 0.0.0.0 80", "b sysctl net.ipv4.icmp_echo_ignore_all 1"]);
    assert_eq!(says(&net, &ask("a", "10.0.3.2")), "there b echo-ignored");
    assert_eq!(says(&net, &ask("a", "fd00:3::2")), "");
    assert_eq!(says(&net, &tcp("a", "10.0.3.2")), "");
    assert_eq!(says(&net, &ask("b", "10.0.1.2")), "", "what it asks itself is answered");
    repairs(&net, &ask("a", "10.0.3.2"), &[], &["b: sysctl -w net.ipv4.icmp_echo_ignore_all=0"]);
    type_in(&mut net, "b sysctl net.ipv6.icmp.echo_ignore_all 1");
    assert_eq!(says(&net, &ask("a", "fd00:3::2")), "there b echo-ignored");
}

#[test]
fn hops_may_be_few_from_the_start() {
    let mut net = chain_with(&["a sysctl net.ipv4.ip_default_ttl 2"]);
    assert_eq!(says(&net, &ask("a", "10.0.3.2")), "there r2 ttl-expired");
    assert_eq!(says(&net, &ask("a", "10.0.2.2")), "");
    link(&mut net, "b:br").ipv6.hop_limit = Some(1);
    assert_eq!(says(&net, &ask("a", "fd00:3::2")), "back r2 ttl-expired");
    repairs(&net, &ask("a", "10.0.3.2"), &[], &["a: sysctl -w net.ipv4.ip_default_ttl=64"]);
    repairs(&net, &ask("a", "fd00:3::2"), &[], &["b: sysctl -w net.ipv6.conf.br.hop_limit=64"]);
}

#[test]
fn sources_are_chosen_as_their_scope_and_lifetime_allow() {
    let source = |net: &Snapshot, to: &str| told(net, &ask("a", to)).there.packet.src.unwrap().to_string();
    let mut net = chain_with(&["a addr 10.7.0.1/32 dev lo", "a addr fd00:1::3/64 dev ra"]);
    assert_eq!((source(&net, "10.0.3.2").as_str(), source(&net, "fd00:3::2").as_str()), ("10.0.1.2", "fd00:1::2"));
    for own in &mut link(&mut net, "a:ra").addresses {
        (own.link_only, own.deprecated) = (own.net.addr().is_ipv4(), own.net.addr().to_string() == "fd00:1::2");
    }
    assert_eq!((source(&net, "10.0.3.2").as_str(), source(&net, "fd00:3::2").as_str()), ("10.7.0.1", "fd00:1::3"));
    assert_eq!(source(&net, "10.0.1.1"), "10.0.1.2", "on the link");
    // That of another link is for that one.
    for line in
        ["node c", "link a:ac c:ca", "a route 10.8.0.1/32 dev ac", "link a:ad c:da", "a noaddr 10.7.0.1/32 dev lo"]
    {
        type_in(&mut net, line);
    }
    type_in(&mut net, "a addr 10.6.0.1/32 dev ad");
    assert_eq!(source(&net, "10.8.0.1"), "10.6.0.1");
    let mut net = chain();
    let route = net.nodes.get_mut("a").unwrap().routes.iter_mut().find(|it| it.key.prefix.to_string() == "0.0.0.0/0");
    route.unwrap().src = Some("127.5.0.1".parse().unwrap());
    assert_eq!(says(&net, &ask("a", "10.0.3.2")), "there a source-address");
}

#[test]
fn a_route_may_take_less_than_its_interface() {
    let mut net = chain();
    let r1 = net.nodes.get_mut("r1").unwrap();
    r1.routes.iter_mut().find(|it| it.key.prefix.to_string() == "10.0.3.0/24").unwrap().mtu = Some(1280);
    let query = |length| Query { packet: Packet { length, ..ask("a", "10.0.3.2").packet }, ..ask("a", "10.0.3.2") };
    assert_eq!(says(&net, &query(1280)), "");
    assert_eq!(says(&net, &query(1281)), "there r1 mtu");
    repairs(&net, &query(1281), &[], &["r1: ip route replace 10.0.3.0/24 via 10.0.2.2"]);
    // What IPv4 sends on is as long as the route says, whatever the interface is told.
    link(&mut net, "r1:rr").mtu = 1000;
    assert_eq!(says(&net, &query(1280)), "back r2 mtu-mismatch");
    let r1 = net.nodes.get_mut("r1").unwrap();
    r1.routes.iter_mut().find(|it| it.key.prefix.to_string() == "fd00:3::/64").unwrap().mtu = Some(1280);
    let query = Query { packet: Packet { length: 1280, ..ask("a", "fd00:3::2").packet }, ..ask("a", "fd00:3::2") };
    assert_eq!(says(&net, &query), "there r1 mtu");
}

#[test]
fn who_answers_for_another_has_a_way_to_it() {
    // d answers for 10.0.0.9, which is behind it.
    let mut net = segment();
    for line in [
        "node f",
        "link d:f f:eth0",
        "f addr 10.0.0.9/32 dev eth0",
        "f route 10.0.0.0/24 dev eth0",
        "d sysctl net.ipv4.ip_forward 1",
    ] {
        type_in(&mut net, line);
    }
    let query = ask("c", "10.0.0.9");
    let open = |net: &Snapshot| says(net, &query);
    assert_eq!(open(&net), "there c wrong-mask");
    type_in(&mut net, "d sysctl net.ipv4.conf.eth0.proxy_arp 1");
    assert_eq!(open(&net), "there c wrong-mask", "it has no way to it");
    type_in(&mut net, "d route 10.0.0.9/32 dev f");
    type_in(&mut net, "d sysctl net.ipv4.conf.f.proxy_arp 1");
    assert_eq!(open(&net), "");
    type_in(&mut net, "d sysctl net.ipv4.conf.eth0.proxy_arp 0");
    assert_eq!(open(&net), "there c wrong-mask");
    net.nodes.get_mut("d").unwrap().proxied = vec![("eth0".parse().unwrap(), "10.0.0.9".parse().unwrap())];
    assert_eq!(open(&net), "");
}

#[test]
fn all_routers_of_a_network_have_one_address() {
    let mut net = chain();
    // As a kernel has it that forwards.
    let key = RouteKey { prefix: "fd00:1::/128".parse().unwrap(), table: FibRoute::LOCAL, metric: 0 };
    let anycast = FibRoute { key, action: FibAction::Local, src: None, hop_limit: None, mtu: None, derived: true };
    net.nodes.get_mut("r1").unwrap().routes.push(anycast);
    assert_eq!(says(&net, &ask("a", "fd00:1::")), "");
    let mut net = chain_with(&["r1 sysctl net.ipv6.conf.all.forwarding 0"]);
    assert_eq!(says(&net, &ask("a", "fd00:1::")), "there a neighbour-unresolved");
    // One may forward what comes in there alone.
    assert_eq!(says(&net, &ask("a", "fd00:3::2")), "there r1 forwarding-off");
    link(&mut net, "r1:ab").ipv6.force_forwarding = true;
    assert_eq!(says(&net, &ask("a", "fd00:3::2")), "back r1 forwarding-off");
    link(&mut net, "r1:rr").ipv6.force_forwarding = true;
    assert_eq!(says(&net, &ask("a", "fd00:3::2")), "");
}

#[test]
fn an_interface_without_an_address_leads_to_a_gateway() {
    // The sender has an address elsewhere, and says by which interface the gateway is.
    let mut net = chain_with(&["a noaddr 10.0.1.2/24 dev ra", "a addr 10.0.1.2/32 dev lo"]);
    assert_eq!(says(&net, &ask("a", "10.0.3.2")), "there a no-route");
    type_in(&mut net, "a route 10.0.1.1/32 dev ra");
    type_in(&mut net, "a route 10.0.0.0/16 via 10.0.1.1 dev ra");
    assert_eq!(says(&net, &ask("a", "10.0.3.2")), "");
}

#[test]
fn a_node_that_forwards_by_single_interfaces_is_not_made_a_router() {
    let mut net = chain_with(&["r1 sysctl net.ipv6.conf.all.forwarding 0"]);
    link(&mut net, "r1:ab").ipv6.force_forwarding = true;
    let query = ask("a", "fd00:3::2");
    assert_eq!(says(&net, &query), "back r1 forwarding-off");
    repairs(&net, &query, &[], &["r1: sysctl -w net.ipv6.conf.rr.force_forwarding=1"]);
    // Of one that forwards nowhere, nobody knows whether its kernel has that switch.
    link(&mut net, "r1:ab").ipv6.force_forwarding = false;
    repairs(&net, &query, &[], &["r1: sysctl -w net.ipv6.conf.all.forwarding=1"]);
}

#[test]
fn in_a_circle_another_of_equal_ways_may_be_taken() {
    let mut net = forked();
    // r2 sends it back to r1.
    type_in(&mut net, "r2 noroute 10.0.3.0/24");
    type_in(&mut net, "r2 route 10.0.3.0/24 via 10.0.2.1 dev rr");
    let query = ask("a", "10.0.3.2");
    let hop = |via: &str, dev: &str| NextHop { via: Some(via.parse().unwrap()), dev: dev.parse().unwrap(), weight: 1 };
    let choice = |input: &str, hop: NextHop| ((at("r1:ab").ns, Some(input.parse().unwrap()), query.packet.dst), hop);
    let says = |choices: [_; 2]| {
        let trouble = explain(&net, &query, &Choices::from(choices)).trouble().unwrap();
        format!("{} {}", trouble.node, trouble.code())
    };
    let on = || hop("10.0.2.2", "rr");
    assert_eq!(says([choice("ab", on()), choice("rr", on())]), "r2 ttl-loop");
    assert_eq!(says([choice("ab", on()), choice("rr", hop("10.0.1.9", "ab"))]), "r1 neighbour-unresolved");
}

#[test]
fn where_ipv6_is_off_an_address_comes_after_it_is_on() {
    let mut net = chain();
    link(&mut net, "r1:ab").ipv6.disabled = true;
    // As long as somebody knows where it was.
    let query = ask("a", "fd00:3::2");
    assert_eq!(says(&net, &query), "? there r1 undecided");
    type_in(&mut net, "r1 noaddr fd00:1::1/64 dev ab");
    assert_eq!(says(&net, &query), "there a neighbour-unresolved");
    let sysctl = "r1: sysctl -w net.ipv6.conf.ab.disable_ipv6=0";
    repairs(&net, &query, &[], &[sysctl, "r1: ip address add fd00:1::1/64 dev ab nodad"]);
    let drift = [Op::AddAddr { at: at("r1:ab"), addr: "fd00:1::1/64".parse().unwrap() }];
    repairs(&net, &query, &drift, &[sysctl, "r1: ip address add fd00:1::1/64 dev ab nodad"]);
}

#[test]
fn a_port_of_a_bridge_lets_out_no_more_than_it_takes_in() {
    let mut net = segment();
    link(&mut net, "sw:p1").mtu = 1000;
    let query = |length| Query { packet: Packet { length, ..ask("c", "10.0.0.2").packet }, ..ask("c", "10.0.0.2") };
    // A VLAN tag more.
    assert_eq!(says(&net, &query(1004)), "");
    assert_eq!(says(&net, &query(1005)), "there c mtu-mismatch");
    repairs(&net, &query(1005), &[], &["sw: ip link set dev p1 mtu 1500"]);
}
