//! The rules of [`resolve`](crate::LabDoc::resolve), as tables. What a person is shown of each is in
//! the corpus of `hopyard-formats`.

use proptest::prelude::*;

use crate::{EndDoc, FamilyDoc, Lab, LabDoc, LinkDoc, NodeDoc, Problem, Span, Spanned, SwitchDoc};

/// A lab of these links, in which whatever they name is a node.
fn lab(links: &[(&str, &str)]) -> LabDoc {
    links.iter().fold(LabDoc::named("x"), |doc, (a, b)| doc.link(a, b))
}

fn codes(doc: &LabDoc) -> Vec<&'static str> {
    match doc.resolve() {
        Ok((_, problems)) | Err(problems) => problems.iter().map(|problem| problem.code.0).collect(),
    }
}

fn ifaces(lab: &Lab) -> Vec<String> {
    let end = |end: &crate::End| format!("{}:{}", lab.vertex_name(end.vertex), end.iface.name);
    lab.links().iter().flat_map(|link| link.ends.iter().map(end)).collect()
}

#[test]
fn chosen_interfaces_avoid_given_ones() {
    let doc = lab(&[("a", "b"), ("a:eth1", "b"), ("a", "c"), ("a:eth0", "c:wan")]);
    let (lab, _) = doc.resolve().unwrap();
    assert_eq!(ifaces(&lab), ["a:eth2", "b:eth0", "a:eth1", "b:eth1", "a:eth3", "c:eth0", "a:eth0", "c:wan"]);
}

#[test]
fn parts_are_what_links_and_switches_join() {
    let mut doc = lab(&[("a", "b"), ("c", "hub"), ("d", "hub"), ("d", "e"), ("f", "f2")]).node("alone");
    doc.switches.push(SwitchDoc { name: "hub".into(), ..SwitchDoc::default() });
    let (lab, _) = doc.resolve().unwrap();
    let parts = lab.parts();
    let mut named: Vec<(usize, &str)> =
        parts.into_iter().zip(lab.nodes()).map(|(part, node)| (part, node.name.as_str())).collect();
    named.sort_unstable();
    let groups: Vec<Vec<&str>> =
        named.chunk_by(|a, b| a.0 == b.0).map(|group| group.iter().map(|(_, name)| *name).collect()).collect();
    let mut groups: Vec<String> = groups.into_iter().map(|group| group.join(" ")).collect();
    groups.sort();
    assert_eq!(groups, ["a b", "alone", "c d e", "f f2"]);
}

#[test]
fn a_long_interface_name_gets_a_short_one_for_the_kernel() {
    let doc = lab(&[("a:backbone-router-1", "b:über-breite-leitung-1"), ("a:backbone-router-2", "b")]);
    let (lab, _) = doc.resolve().unwrap();
    let names = ifaces(&lab);
    assert!(names[0].starts_with("a:backbone-") && names[0].len() == "a:".len() + 15, "{names:?}");
    assert_ne!(names[0], names[2]);
    assert_eq!(lab.links()[0].ends[0].iface.long.as_ref().unwrap().as_str(), "backbone-router-1");
    assert!(lab.links()[1].ends[1].iface.long.is_none());
    assert_eq!(codes(&super::tests::lab(&[(&format!("a:{}", "x".repeat(127)), "b")])), [""; 0]);
    assert_eq!(codes(&super::tests::lab(&[(&format!("a:{}", "x".repeat(128)), "b")])), ["bad-interface"]);
}

#[test]
fn a_switch_stands_second() {
    let doc =
        LabDoc { switches: vec![SwitchDoc { name: "s".into(), ..SwitchDoc::default() }], ..lab(&[("s:up", "a")]) };
    let (lab, _) = doc.resolve().unwrap();
    assert_eq!(ifaces(&lab), ["a:eth0", "s:up"]);
}

#[test]
fn the_mode_of_addressing_depends_on_who_wrote_it() {
    use crate::AddressingMode::{Compact, Stable};
    let chain = |links: usize| {
        (0..links).fold(LabDoc::named("x"), |doc, at| doc.link(&format!("n{at}"), &format!("n{}", at + 1)))
    };
    for (hand_written, links, mode) in [(true, 256, Stable), (true, 257, Compact), (false, 1, Compact)] {
        let doc = LabDoc { hand_written, ..chain(links) };
        assert_eq!(doc.resolve().unwrap().0.addressing().mode, mode, "{hand_written} {links}");
    }
}

#[test]
fn a_prefix_or_a_pair_is_told_from_a_mistake() {
    let prefix = |text: &str| FamilyDoc::Prefix(text.into());
    let each = |texts: &[&str]| FamilyDoc::Each(texts.iter().map(|text| (*text).into()).collect());
    for (given, expected) in [
        (prefix("none"), None),
        (prefix("10.0.0.0/24"), None),
        (prefix("10.0.0.0/31"), None),
        (prefix("10.0.0.0/32"), Some("prefix-too-small")),
        (prefix("10.0.0.1/24"), Some("prefix-or-pair")),
        (prefix("fd00::/64"), Some("bad-address")),
        (each(&["10.0.0.1/24", "10.0.0.2/24"]), None),
        (each(&["10.0.0.0/31", "10.0.0.1/31"]), None),
        (each(&["10.0.0.1/24", "10.0.1.2/24"]), Some("different-subnets")),
        (each(&["10.0.0.1/24"]), Some("prefix-or-pair")),
        (each(&["10.0.0.1/24", "10.0.0.1/24"]), Some("duplicate-address")),
        (each(&["10.0.0.0/24", "10.0.0.2/24"]), Some("bad-address")),
        (each(&["10.0.0.255/24", "10.0.0.2/24"]), Some("bad-address")),
        (each(&[]), Some("prefix-or-pair")),
    ] {
        let mut doc = lab(&[("a", "b")]);
        doc.links[0].ipv4 = Some(given.clone());
        assert_eq!(codes(&doc), Vec::from_iter(expected), "{given:?}");
    }
}

#[test]
fn every_code_is_in_the_table() {
    let table = include_str!("../resolve.rs");
    let sources = [
        table,
        include_str!("addresses.rs"),
        include_str!("cables.rs"),
        include_str!("links.rs"),
        include_str!("nodes.rs"),
        include_str!("routes.rs"),
        include_str!("segments.rs"),
        include_str!("vertices.rs"),
    ];
    let calls = |source: &'static str| source.split("Problem::error(").chain(source.split("Problem::warning(")).skip(1);
    let codes = sources
        .iter()
        .flat_map(|source| calls(source))
        .filter_map(|call| call.trim_start().strip_prefix('"')?.split('"').next());
    for code in codes {
        assert!(table.contains(&format!("`{code}`")), "{code} is not in the table");
    }
}

#[test]
fn problems_come_in_the_order_of_the_text() {
    let at = |start| Some(Span { start, end: start + 1 });
    let mut doc = lab(&[("a", "b")]);
    doc.links[0].mtu = Some(Spanned { value: 1, span: at(9) });
    doc.links[0].cost = Some(Spanned { value: 0, span: at(3) });
    doc.routing = Some(Spanned { value: "ospf".into(), span: at(6) });
    doc.name = None;
    assert_eq!(codes(&doc), ["bad-cost", "bad-word", "bad-mtu", "no-lab-name"]);
}

#[test]
fn a_lab_reads_as_it_is_written_as_json() {
    let (lab, _) = lab(&[("a", "b"), ("b", "c:a-very-long-interface-name")]).resolve().unwrap();
    assert_eq!(lab.node_named("b").map(|id| lab.node(id).name.as_str()), Some("b"));
    assert_eq!(lab.node_named("z"), None);
}

// Few different words, so that they often meet.
fn word() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "a",
        "b",
        "c",
        "s",
        "t",
        "",
        "localhost",
        "lo",
        "eth0",
        "eth1",
        "port0",
        "br0",
        "none",
        "auto",
        "10.0.0.1/24",
        "10.0.0.0/24",
        "10.0.0.0/32",
        "0.0.0.0/0",
        "fd00::1/64",
        "fd00::/64",
        "::/0",
        "fe80::1",
        "10.0.0.1",
        "host",
        "router",
        "net.ipv4.ip_forward",
        "net.ipv4.conf.eth0.rp_filter",
        "net.ipv4.conf..x",
        "02:00:00:00:00:01",
        "default via b",
        "default via s dev eth0",
        "blackhole ::/0",
        "via via via",
        "é",
        "a-name-longer-than-15-bytes",
        "../../etc",
        "\u{0}",
    ])
    .prop_map(str::to_owned)
}

fn text() -> impl Strategy<Value = Spanned<String>> {
    (word(), prop::option::of(0..50u32))
        .prop_map(|(value, at)| Spanned { value, span: at.map(|start| Span { start, end: start + 1 }) })
}

fn number() -> impl Strategy<Value = Option<Spanned<u64>>> {
    prop::option::of(prop_oneof![0..3000u64, any::<u64>()].prop_map(Spanned::nowhere))
}

fn texts() -> impl Strategy<Value = Vec<Spanned<String>>> {
    prop::collection::vec(text(), 0..3)
}

fn pairs() -> impl Strategy<Value = Vec<(Spanned<String>, Spanned<String>)>> {
    prop::collection::vec((text(), text()), 0..3)
}

fn end() -> impl Strategy<Value = EndDoc> {
    (text(), prop::option::of(text())).prop_map(|(node, iface)| EndDoc { node, iface })
}

fn family() -> impl Strategy<Value = Option<FamilyDoc>> {
    prop::option::of(prop_oneof![text().prop_map(FamilyDoc::Prefix), texts().prop_map(FamilyDoc::Each)])
}

prop_compose! {
    fn node()(
        name in text(), role in prop::option::of(text()), forward in prop::option::of(any::<bool>()),
        loopback in texts(), addresses in pairs(), sysctls in pairs(), routes in texts(),
    ) -> NodeDoc {
        NodeDoc { name, role, forward: forward.map(Spanned::nowhere), loopback, addresses, sysctls, routes, ..NodeDoc::default() }
    }
}

prop_compose! {
    fn link()(
        a in end(), b in end(), ipv4 in family(), ipv6 in family(), mac in texts(), mtu in number(), cost in number(),
    ) -> LinkDoc {
        LinkDoc { ends: [a, b], ipv4, ipv6, mac, mtu, cost, ..LinkDoc::default() }
    }
}

prop_compose! {
    fn switch()(
        name in text(), members in prop::collection::vec(end(), 0..4), ipv4 in prop::option::of(text()),
        ipv6 in prop::option::of(text()), mtu in number(), cost in number(),
    ) -> SwitchDoc {
        SwitchDoc { name, members, ipv4, ipv6, mtu, cost }
    }
}

prop_compose! {
    fn any_doc()(
        name in prop::option::of(text()), routing in prop::option::of(text()), implicit_nodes in any::<bool>(),
        nodes in prop::collection::vec(node(), 0..4), switches in prop::collection::vec(switch(), 0..3),
        links in prop::collection::vec(link(), 0..6), hand_written in any::<bool>(),
    ) -> LabDoc {
        LabDoc { name, routing, nodes, implicit_nodes, switches, links, hand_written, ..LabDoc::default() }
    }
}

proptest! {
    #[test]
    fn any_document_is_a_lab_or_has_errors(doc in any_doc()) {
        match doc.resolve() {
            Ok((lab, warnings)) => {
                prop_assert!(!warnings.iter().any(Problem::is_error));
                prop_assert_eq!(lab.links().len(), doc.links.len() + doc.switches.iter().map(|s| s.members.len()).sum::<usize>());
            }
            Err(problems) => prop_assert!(problems.iter().any(Problem::is_error)),
        }
    }

    #[test]
    fn resolving_twice_gives_the_same(doc in any_doc()) {
        prop_assert_eq!(doc.resolve(), doc.resolve());
    }

    #[test]
    fn links_of_few_nodes_are_a_lab(links in prop::collection::vec((0..5u8, 5..9u8), 1..30)) {
        let doc = links.iter().fold(LabDoc::named("x"), |doc, (a, b)| doc.link(&format!("n{a}"), &format!("n{b}")));
        let (lab, warnings) = doc.resolve().unwrap();
        prop_assert!(warnings.is_empty());
        let mut names = ifaces(&lab);
        names.sort();
        names.dedup();
        prop_assert_eq!(names.len(), 2 * links.len(), "an interface has two links");
    }
}
