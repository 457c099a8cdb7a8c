//! Plans as people read them.

#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use hopyard_model::{EndDoc, FamilyDoc, Lab, LabDoc, LinkDoc, NatDoc, NatSourceDoc, NodeDoc, Problem, SwitchDoc};
use hopyard_net::{Family, NetState, Op};
use hopyard_plan::{Hiding, Wanted, desired, diff};

fn end(text: &str) -> EndDoc {
    match text.split_once(':') {
        Some((node, iface)) => EndDoc { node: node.into(), iface: Some(iface.into()) },
        None => EndDoc { node: text.into(), iface: None },
    }
}

fn link(a: &str, b: &str) -> LinkDoc {
    LinkDoc { ends: [end(a), end(b)], ..LinkDoc::default() }
}

fn each(addresses: [&str; 2]) -> FamilyDoc {
    FamilyDoc::Each(addresses.map(Into::into).into())
}

fn node(name: &str) -> NodeDoc {
    NodeDoc { name: name.into(), ..NodeDoc::default() }
}

fn resolved(doc: &LabDoc) -> Lab {
    doc.resolve().unwrap().0
}

fn wanted(doc: &LabDoc) -> Wanted {
    desired(&resolved(doc)).unwrap()
}

fn problems(doc: &LabDoc) -> Vec<Problem> {
    desired(&resolved(doc)).unwrap_err()
}

/// The commands for a lab, without Ethernet addresses, which are hashes.
fn commands(wanted: &Wanted) -> Vec<String> {
    let plain = |op: &Op| {
        let words: Vec<String> = op.to_string().split(' ').map(str::to_owned).collect();
        let mut out = Vec::new();
        let mut skip = false;
        for word in words {
            if skip || (word == "address" && out.contains(&"link".to_owned())) {
                skip = !skip;
            } else {
                out.push(word);
            }
        }
        out.join(" ")
    };
    diff(&NetState::default(), &wanted.state).iter().map(plain).collect()
}

/// The commands that contain a text.
fn some(wanted: &Wanted, text: &str) -> Vec<String> {
    commands(wanted).into_iter().filter(|line| line.contains(text)).collect()
}

/// The tutorial that this project began with, with its names and numbers:
/// `home:one -- near:two`, `near:three -- far:four`, and `far` has a network of its own.
fn tutorial() -> LabDoc {
    LabDoc {
        name: Some("tutorial".into()),
        hand_written: true,
        nodes: vec![node("home"), node("near"), NodeDoc { loopback: vec!["10.9.0.1/24".into()], ..node("far") }],
        links: vec![
            LinkDoc { ipv4: Some(each(["10.0.1.1/24", "10.0.1.2/24"])), ..link("home:one", "near:two") },
            LinkDoc { ipv4: Some(each(["10.0.2.1/24", "10.0.2.2/24"])), ..link("near:three", "far:four") },
        ],
        addressing: hopyard_model::AddressingDoc { ipv6: Some("none".into()), ..Default::default() },
        ..LabDoc::default()
    }
}

#[test]
fn the_tutorial_reads_as_a_person_would_type_it() {
    assert_eq!(
        commands(&wanted(&tutorial())),
        [
            "ip netns add far",
            "ip netns add home",
            "ip netns add near",
            "ip netns exec far sysctl -w net.ipv4.ip_forward=0",
            "ip netns exec far sysctl -w net.ipv6.conf.all.forwarding=0",
            "ip netns exec home sysctl -w net.ipv4.ip_forward=0",
            "ip netns exec home sysctl -w net.ipv6.conf.all.forwarding=0",
            "ip netns exec near sysctl -w net.ipv4.ip_forward=1",
            "ip netns exec near sysctl -w net.ipv6.conf.all.forwarding=0",
            "ip -n far link add name four type veth peer name three netns near",
            "ip -n home link add name one type veth peer name two netns near",
            "ip -n far link set dev lo up",
            "ip -n far link set dev four up",
            "ip -n far address add 10.0.2.2/24 dev four",
            "ip -n far address add 10.9.0.1/24 dev lo",
            "ip -n far route replace default via 10.0.2.1 dev four",
            "ip -n home link set dev lo up",
            "ip -n home link set dev one up",
            "ip -n home address add 10.0.1.1/24 dev one",
            "ip -n home route replace default via 10.0.1.2 dev one",
            "ip -n near link set dev lo up",
            "ip -n near link set dev three up",
            "ip -n near link set dev two up",
            "ip -n near address add 10.80.153.101/32 dev lo",
            "ip -n near address add 10.0.2.1/24 dev three",
            "ip -n near address add 10.0.1.2/24 dev two",
            "ip -n near route replace 10.9.0.0/24 via 10.0.2.2 dev three",
        ]
    );
}

#[test]
fn routes_given_by_hand_name_their_gateway() {
    let mut doc = tutorial();
    doc.routing = Some("none".into());
    doc.nodes[0].routes = vec!["default via near".into(), "10.77.0.0/16 via 10.0.1.9".into()];
    doc.nodes[1].routes = vec!["10.9.0.0/24 via far".into(), "blackhole 10.66.0.0/16".into()];
    doc.nodes[1].forward = Some(true.into());
    assert_eq!(
        some(&wanted(&doc), " route "),
        [
            "ip -n home route replace default via 10.0.1.2 dev one",
            "ip -n home route replace 10.77.0.0/16 via 10.0.1.9 dev one",
            "ip -n near route replace blackhole 10.66.0.0/16",
            "ip -n near route replace 10.9.0.0/24 via 10.0.2.2 dev three",
        ]
    );
}

#[test]
fn a_gateway_out_of_reach_is_a_problem() {
    let mut doc = tutorial();
    doc.nodes[0].routes = vec!["10.77.0.0/16 via 10.0.7.1".into(), "10.78.0.0/16 via 10.0.1.1".into()];
    let found = problems(&doc);
    let lines: Vec<String> = found.iter().map(|it| format!("{it}; {}", it.help.clone().unwrap_or_default())).collect();
    assert_eq!(
        lines,
        [
            "`home` cannot reach the gateway `10.0.7.1` directly; `home` has `10.0.1.1/24` on `one`",
            "`10.0.1.1` is an address of `home` itself (`10.0.1.1/24`); a gateway is a neighbour's address",
        ]
    );
    // Whoever has written no address has one in mind all the same.
    doc.links.iter_mut().for_each(|link| link.ipv4 = None);
    doc.nodes[0].routes = vec!["10.77.0.0/16 via 10.0.7.1".into()];
    let help = problems(&doc)[0].help.clone().unwrap();
    assert!(help.contains("on `one`, which hop chose: `via near` names"), "{help}");
    doc.nodes[0].routes = vec!["10.77.0.0/16 via near".into()];
    wanted(&doc);
}

#[test]
fn what_is_given_by_hand_wins() {
    let mut doc = tutorial();
    doc.nodes[0].routes = vec!["default via 10.0.1.77".into()];
    assert_eq!(some(&wanted(&doc), "home route"), ["ip -n home route replace default via 10.0.1.77 dev one"]);
}

#[test]
fn who_routes_by_hand_and_gives_one_family_gets_no_other() {
    let mut doc = tutorial();
    doc.addressing.ipv6 = None;
    assert_eq!(some(&wanted(&doc), "nodad").len(), 5);
    doc.routing = Some("none".into());
    assert_eq!(some(&wanted(&doc), "nodad").len(), 0);
}

#[test]
fn equal_cost_paths_are_kept() {
    let wanted = desired(&common::lab("a -- b, b -- d, a -- c, c -- d")).unwrap();
    let a = some(&wanted, "-n a route");
    assert!(a[0].contains("nexthop via") && a[0].matches("dev").count() == 2, "{a:?}");
}

/// 1344 nodes: each edge switch sends to hosts in other pods through all eight of its uplinks.
#[test]
fn a_large_fat_tree_keeps_its_paths() {
    let wanted = desired(&common::lab("fat-tree:16")).unwrap();
    let hops = wanted.state.namespaces.values().flat_map(|space| space.routes.values()).map(|it| it.next_hops().len());
    let count = hops.filter(|&hops| hops >= 8).count();
    assert!(count > 2 * 128 * 15, "only {count} routes have eight paths");
}

#[test]
fn a_pool_that_is_too_small_says_what_is_needed() {
    let mut doc = tutorial();
    doc.links = (0..3).map(|_| link("home", "near")).chain([link("near", "far")]).collect();
    doc.addressing.ipv4 = Some("192.168.7.0/29".into());
    let found = problems(&doc);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].message, "the pool `192.168.7.0/29` has 8 addresses free; the lab needs 10");
    assert_eq!(found[0].help.as_deref(), Some("give it a larger one, as in `addressing: { ipv4: 10.0.0.0/8 }`"));
}

#[test]
fn a_segment_has_one_subnet_and_a_gateway() {
    let doc = LabDoc {
        name: Some("office".into()),
        nodes: vec![node("pc"), node("printer"), node("gw"), node("isp")],
        switches: vec![SwitchDoc {
            name: "lan".into(),
            members: vec![end("pc"), end("printer"), end("gw")],
            ipv4: Some("192.168.1.0/24".into()),
            ipv6: Some("none".into()),
            ..SwitchDoc::default()
        }],
        links: vec![LinkDoc { ipv4: Some(each(["203.0.113.2/30", "203.0.113.1/30"])), ..link("gw", "isp") }],
        addressing: hopyard_model::AddressingDoc {
            ipv6: Some("none".into()),
            mode: Some("compact".into()),
            ..Default::default()
        },
        ..LabDoc::default()
    };
    let wanted = wanted(&doc);
    let addresses = |wanted: &Wanted| {
        some(wanted, "address add").into_iter().filter(|it| it.contains("192.168")).collect::<Vec<_>>()
    };
    assert_eq!(
        addresses(&wanted),
        [
            "ip -n gw address add 192.168.1.3/24 dev eth0",
            "ip -n pc address add 192.168.1.1/24 dev eth0",
            "ip -n printer address add 192.168.1.2/24 dev eth0",
        ]
    );
    assert_eq!(
        some(&wanted, " route "),
        [
            "ip -n isp route replace default via 203.0.113.2 dev eth0",
            "ip -n pc route replace default via 192.168.1.3 dev eth0",
            "ip -n printer route replace default via 192.168.1.3 dev eth0",
        ]
    );
}

#[test]
fn a_change_touches_nothing_else() {
    let before = tutorial();
    let mut after = before.clone();
    after.nodes.push(node("new"));
    after.links.push(link("far", "new"));
    let [before, after] = [before, after].map(|doc| wanted(&doc).state);
    let lines: Vec<String> = diff(&after, &before).iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "ip -n far route delete 10.0.1.0/24",
            "ip -n far route delete 10.80.153.101/32",
            "ip -n near route delete 10.62.221.14/31",
            "ip -n far link delete dev eth0",
            "ip netns delete new",
            "ip netns exec far sysctl -w net.ipv4.ip_forward=0",
            "ip -n far route replace default via 10.0.2.1 dev four",
        ]
    );
    let forward: Vec<String> = diff(&before, &after).iter().map(ToString::to_string).collect();
    assert!(forward.iter().all(|line| !line.contains("delete") || line.contains("route")), "{forward:#?}");
}

#[test]
fn what_the_file_leaves_to_the_kernel_is_set_back() {
    let set = |state: &NetState, values: &[(&str, &str)]| {
        let mut state = state.clone();
        let near = state.namespaces.get_mut(&"near".parse::<hopyard_net::NsName>().unwrap()).unwrap();
        near.sysctls.extend(values.iter().map(|(key, value)| (key.parse().unwrap(), (*value).to_owned())));
        state
    };
    let lines = |found: &NetState, wanted: &NetState| -> Vec<String> {
        diff(found, wanted)
            .iter()
            .map(|op| op.to_string().replace("ip netns exec near sysctl -w net.ipv4.", ""))
            .collect()
    };
    let wanted = wanted(&tutorial()).state;
    let odd = [("net.ipv4.conf.all.rp_filter", "1"), ("net.ipv4.conf.default.accept_source_route", "0")];
    let found = set(&wanted, &odd);
    assert_eq!(lines(&found, &wanted), ["conf.all.rp_filter=0", "conf.default.accept_source_route=1"]);
    assert_eq!(lines(&found, &set(&wanted, &odd)), [""; 0], "the file says so");
    assert_eq!(lines(&wanted, &set(&wanted, &odd[..1])), ["conf.all.rp_filter=1"]);
    // It goes with forwarding, unless the file has it.
    let redirects = [("net.ipv4.conf.all.accept_redirects", "1")];
    assert_eq!(lines(&set(&wanted, &redirects), &wanted), [""; 0]);
    let off = set(&wanted, &[("net.ipv4.ip_forward", "0"), redirects[0]]);
    assert_eq!(lines(&off, &set(&wanted, &redirects)), ["ip_forward=1", "conf.all.accept_redirects=1"]);
}

#[test]
fn long_paths_get_a_long_life() {
    let limit = |n: usize| {
        let wanted = desired(&common::lab(&format!("chain:{n}"))).unwrap();
        assert_eq!(usize::try_from(wanted.longest_path).unwrap(), n - 1, "chain:{n}");
        let limited = some(&wanted, "hoplimit 255").len();
        (limited == some(&wanted, " route ").len(), limited == 0, wanted.warnings.len())
    };
    assert_eq!(limit(61), (false, true, 0));
    assert_eq!(limit(62), (true, false, 0));
    assert_eq!(limit(256), (true, false, 0));
    assert_eq!(limit(257), (true, false, 1));
}

#[test]
fn a_large_lab_needs_no_room_in_the_neighbour_table() {
    let count = |text: &str| some(&desired(&common::lab(text)).unwrap(), " neigh ").len();
    assert_eq!(count("chain:100"), 0);
    assert_eq!(count("chain:400"), 2 * 2 * 399);
}

/// ```text
///  a1 -- ra -- net -- isp -- web
///  b1 -- rb -- net
/// ```
fn behind_nat() -> LabDoc {
    let text = |text: &str| Some(FamilyDoc::Prefix(text.into()));
    let link = |a: (&str, &str), b: (&str, &str), ipv4: Option<FamilyDoc>| LinkDoc {
        ends: [a, b].map(|(node, iface)| EndDoc { node: node.into(), iface: Some(iface.into()) }),
        ipv4,
        ipv6: text("none"),
        ..LinkDoc::default()
    };
    let masquerade = || vec![NatSourceDoc { out: Some("out".into()), ..NatSourceDoc::default() }];
    let floating = vec![("192.0.2.10".into(), "a1".into())];
    let nat = |floating| NatDoc { masquerade: masquerade(), floating, ..NatDoc::default() };
    LabDoc {
        name: Some("x".into()),
        nodes: vec![
            node("a1"),
            node("b1"),
            node("a2"),
            NodeDoc { nat: nat(floating), ..node("ra") },
            NodeDoc { nat: nat(Vec::new()), ..node("rb") },
            node("isp"),
            node("web"),
        ],
        switches: vec![SwitchDoc { name: "net".into(), ipv4: Some("192.0.2.0/24".into()), ..SwitchDoc::default() }],
        links: vec![
            link(("a1", "eth0"), ("ra", "in"), text("10.0.0.0/24")),
            link(("b1", "eth0"), ("rb", "in"), text("10.0.0.0/24")),
            link(("a2", "eth0"), ("a1", "eth1"), text("10.1.0.0/24")),
            link(("ra", "out"), ("net", "p0"), None),
            link(("rb", "out"), ("net", "p1"), None),
            link(("isp", "eth0"), ("net", "p2"), None),
            link(("isp", "eth1"), ("web", "eth0"), text("198.51.100.0/24")),
        ],
        ..LabDoc::default()
    }
}

#[test]
fn nobody_outside_has_a_route_to_what_is_hidden_and_everybody_inside_has_one_out() {
    let (lab, problems) = behind_nat().resolve().unwrap();
    assert_eq!(problems, []);
    let wanted = desired(&lab).unwrap();
    let routes = |ns: &str| -> Vec<String> {
        let routes = wanted.state.namespaces[ns].routes.values();
        let of_ipv4 = routes.filter(|route| route.key.family() == Family::Ipv4);
        // Addresses of `lo` are chosen.
        of_ipv4.map(ToString::to_string).filter(|it| !it.contains("/32")).collect()
    };
    assert_eq!(routes("a1"), ["default via 10.0.0.2 dev eth0"]);
    assert_eq!(routes("a2"), ["default via 10.1.0.2 dev eth0"]);
    assert_eq!(routes("b1"), ["default via 10.0.0.2 dev eth0"]);
    let isp = routes("isp");
    assert!(!isp.iter().any(|route| route.starts_with("10.") || route.starts_with("default")), "{isp:?}");
    let [ra, rb] = ["ra", "rb"].map(routes);
    assert!(ra.iter().any(|route| route.starts_with("198.51.100.0/24")), "{ra:?}");
    assert!(ra.iter().any(|route| route.starts_with("10.1.0.0/24 via 10.0.0.1 dev in")), "{ra:?}");
    assert!(!rb.iter().any(|route| route.starts_with("10.")), "{rb:?}");
}

#[test]
fn a_neighbour_of_the_router_that_hides_has_no_default_route_to_it() {
    let masquerade = vec![NatSourceDoc { out: Some("out".into()), ..NatSourceDoc::default() }];
    let doc = LabDoc {
        name: Some("x".into()),
        nodes: vec![
            node("inn"),
            NodeDoc { nat: NatDoc { masquerade, ..NatDoc::default() }, ..node("gw") },
            node("ext"),
        ],
        links: vec![link("inn", "gw"), link("gw:out", "ext")],
        ..LabDoc::default()
    };
    let wanted = wanted(&doc);
    let of = |ns: &str| wanted.state.namespaces[ns].routes.keys().map(|key| key.prefix).collect::<Vec<_>>();
    let hidden: Vec<_> = wanted.state.namespaces["inn"].links.values().flat_map(|link| &link.addresses).collect();
    assert!(of("inn").iter().any(|prefix| prefix.prefix_len() == 0), "inside there is a way out");
    let ext = of("ext");
    // The router's own addresses can be reached.
    assert!(!ext.is_empty());
    for addr in hidden.iter().map(|net| net.addr()).filter(|addr| !addr.is_loopback()) {
        assert!(!ext.iter().any(|prefix| prefix.contains(&addr)), "{addr} is hidden, and ext has {ext:?}");
    }
}

#[test]
fn what_is_hidden_is_hidden_from_all_outside_and_from_nobody_else() {
    let (lab, _) = behind_nat().resolve().unwrap();
    let (wanted, hiding) = (desired(&lab).unwrap(), Hiding::of(&lab).unwrap());
    let at = |name: &str| lab.node_named(name).unwrap().index();
    // All that `/etc/hosts` has of it.
    let by = |from: &str, to: &str| -> Vec<Option<&str>> {
        let mut all: Vec<_> = wanted.hosts[at(to)]
            .1
            .iter()
            .map(|addr| hiding.hides(at(from), at(to), *addr).map(|by| lab.nodes()[by].name.as_str()))
            .collect();
        all.dedup();
        all
    };
    for (from, to, expected) in [
        ("web", "a1", &[Some("ra")][..]),
        ("isp", "a2", &[Some("ra")]),
        ("a1", "b1", &[Some("rb")]),
        ("rb", "a2", &[Some("ra")]),
        ("a1", "web", &[None]),
        ("a2", "a1", &[None]),
        ("ra", "a2", &[None]),
        ("a2", "rb", &[None, Some("rb"), None]),
        ("isp", "web", &[None]),
    ] {
        assert_eq!(by(from, to), expected, "{from} -> {to}");
    }
    let without_nat = LabDoc::named("x").link("a", "b").resolve().unwrap().0;
    assert_eq!(Hiding::of(&without_nat), Ok(Hiding::default()));
}

/// `r` reaches twenty networks through the router that hides another one among them.
#[test]
fn no_route_for_several_networks_covers_one_that_is_hidden_among_them() {
    let prefix = |third: usize| Some(FamilyDoc::Prefix(format!("10.0.{third}.0/24").as_str().into()));
    let masquerade = ["o1", "o2"].map(|out| NatSourceDoc { out: Some(out.into()), ..NatSourceDoc::default() }).to_vec();
    let mut doc = LabDoc {
        name: Some("x".into()),
        nodes: vec![
            node("inn"),
            NodeDoc { nat: NatDoc { masquerade, ..NatDoc::default() }, ..node("gw") },
            node("r"),
            node("far"),
            node("stub"),
        ],
        links: vec![
            LinkDoc { ipv4: prefix(9), ..link("inn", "gw") },
            LinkDoc { ipv4: prefix(100), ..link("gw:o1", "r") },
            LinkDoc { ipv4: prefix(101), ..link("gw:o2", "far") },
            LinkDoc { ipv4: prefix(102), ..link("r", "stub") },
        ],
        ..LabDoc::default()
    };
    for at in (0..21).filter(|&at| at != 9) {
        doc.nodes.push(node(&format!("h{at}")));
        doc.links.push(LinkDoc { ipv4: prefix(at), ..link("far", &format!("h{at}")) });
    }
    let wanted = wanted(&doc);
    let hidden: std::net::IpAddr = "10.0.9.1".parse().unwrap();
    let there: std::net::IpAddr = "10.0.8.2".parse().unwrap();
    let of = |ns: &str| wanted.state.namespaces[ns].routes.keys().map(|key| key.prefix).collect::<Vec<_>>();
    let r = of("r");
    assert!(r.iter().any(|prefix| prefix.contains(&there)), "{r:?}");
    assert!(!r.iter().any(|prefix| prefix.contains(&hidden)), "{r:?}");
    // Behind a router that knows no route to it, a default route is one to that router.
    assert!(of("stub").iter().any(|prefix| prefix.prefix_len() == 0));
}

#[test]
fn a_floating_address_is_one_of_the_router_and_stands_for_the_node_behind_it() {
    let (lab, _) = behind_nat().resolve().unwrap();
    let wanted = desired(&lab).unwrap();
    let ra = &wanted.state.namespaces["ra"];
    assert!(ra.links[&"out".parse().unwrap()].addresses.contains(&"192.0.2.10/32".parse().unwrap()));
    let rules: Vec<String> = ra.nat.as_ref().unwrap().rules.iter().map(ToString::to_string).collect();
    assert_eq!(
        rules,
        [
            "ip daddr 192.0.2.10 dnat ip to 10.0.0.1",
            "oifname \"out\" ip saddr 10.0.0.1 snat ip to 192.0.2.10",
            "oifname \"out\" masquerade",
        ]
    );
    let set = diff(&NetState::default(), &wanted.state);
    let first = |is: &dyn Fn(&Op) -> bool| set.iter().position(is).unwrap();
    let of_ra = |op: &Op| op.ns().as_str() == "ra";
    let nat = first(&|op| of_ra(op) && matches!(op, Op::SetNat { .. }));
    let up = first(&|op| of_ra(op) && matches!(op, Op::SetUp { .. }));
    assert!(nat < up, "a connection that began before it would stay as it is");
}

#[test]
fn a_floating_address_on_no_given_network_is_refused() {
    let mut doc = behind_nat();
    doc.nodes[3].nat.floating[0].0 = "203.0.113.10".into();
    let (lab, _) = doc.resolve().unwrap();
    let problems = desired(&lab).unwrap_err();
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].message, "`ra` is on no network whose prefix the file gives and that has `203.0.113.10`");
}
