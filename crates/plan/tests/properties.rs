//! What holds for every lab.

#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::random::sketch;
use common::{Walker, lab};
use hopyard_model::{EndDoc, Lab, LinkDoc, NatDoc, NatSourceDoc, NodeDoc, Routing, Vertex};
use hopyard_net::{Endpoint, Family, IpNet, LinkKind, Mtu, Nat, NatRule, NetState, Op};
use hopyard_plan::{desired, diff};
use proptest::prelude::*;

/// Makes a state into another one by a plan; a refusal is a failure.
fn change(state: &mut NetState, wanted: &NetState) -> Result<(), TestCaseError> {
    for op in diff(state, wanted) {
        state.execute(&op).map_err(|refused| TestCaseError::fail(refused.to_string()))?;
    }
    Ok(())
}

/// What a lab asks for.
fn plan(lab: &Lab) -> Result<NetState, TestCaseError> {
    match desired(lab) {
        Ok(wanted) => Ok(wanted.state),
        // A small pool may be too small.
        Err(problems) if problems.iter().all(|it| it.code.0 == "pool-exhausted") => Err(TestCaseError::reject("pool")),
        Err(problems) => Err(TestCaseError::fail(format!("{problems:?}"))),
    }
}

/// The links and the plan, for a failure that can be read.
fn describe(lab: &Lab) -> String {
    let links = lab.links().iter().map(|link| {
        let [a, b] = link.ends.each_ref().map(|end| lab.vertex_name(end.vertex));
        format!("{a} -- {b} cost {}\n", link.cost)
    });
    let plan = diff(&NetState::default(), &desired(lab).unwrap().state);
    let plan =
        plan.iter().filter(|op| !matches!(op, Op::AddVeth { .. } | Op::SetUp { .. })).map(|op| format!("{op}\n"));
    links.chain(plan).collect()
}

/// Lets some namespaces translate addresses: two bits of `which` for each of the first eight.
fn translate(state: &mut NetState, which: u16) {
    for (at, space) in state.namespaces.values_mut().take(8).enumerate() {
        let masquerade = |out: &str| NatRule::Masquerade { out: out.parse().unwrap(), from: None };
        space.nat = match (which >> (2 * at)) & 3 {
            0 => Some(Nat::new(vec![masquerade("eth0")])),
            1 => Some(Nat::new(vec![masquerade("eth1"), masquerade("eth0")])),
            _ => None,
        };
    }
}

/// What a careless person could do to a running lab.
fn damages(state: &NetState) -> Vec<Op> {
    let mut all = Vec::new();
    for (ns, space) in &state.namespaces {
        for (dev, link) in &space.links {
            let at = Endpoint { ns: ns.clone(), dev: *dev };
            all.push(Op::SetUp { at: at.clone(), up: false });
            all.extend(link.addresses.iter().map(|addr| Op::DelAddr { at: at.clone(), addr: *addr }));
            if link.kind != LinkKind::Loopback {
                all.push(Op::DelLink(at.clone()));
            }
            if link.master.is_some() {
                all.push(Op::SetMaster { at: at.clone(), master: None });
            }
            all.extend(Mtu::try_from(1000).ok().filter(|_| link.mtu.is_some()).map(|mtu| Op::SetMtu { at, mtu }));
        }
        all.extend(space.routes.keys().map(|key| Op::DelRoute { ns: ns.clone(), key: key.clone() }));
        all.extend(
            space
                .neighbours
                .keys()
                .map(|(dev, addr)| Op::DelNeigh { at: Endpoint { ns: ns.clone(), dev: *dev }, addr: *addr }),
        );
        all.push(Op::DelNs(ns.clone()));
    }
    all
}

/// Every address, by its interface, which is named after what is at its other end: its own name
/// may be another number when a line is added.
fn by_peer(state: &NetState) -> BTreeMap<String, BTreeSet<IpNet>> {
    let mut all: BTreeMap<String, BTreeSet<IpNet>> = BTreeMap::new();
    for (ns, space) in &state.namespaces {
        for (dev, link) in &space.links {
            let name = match &link.kind {
                LinkKind::Veth { peer: Some(peer) } => format!("{ns} to {}", peer.ns),
                _ => format!("{ns}:{dev}"),
            };
            all.entry(name).or_default().extend(&link.addresses);
        }
    }
    all
}

/// From every node to every address of every node that can be reached.
fn everyone_reaches_everyone(state: &NetState) -> Result<(), String> {
    let walker = Walker::new(state);
    for from in state.namespaces.keys() {
        for family in Family::BOTH {
            for to in walker.reachable(from, family) {
                let links = state.namespaces[&to].links.values();
                for addr in links.flat_map(|link| &link.addresses).filter(|it| Family::of(it.addr()) == family) {
                    let arrived = walker.walk(from, addr.addr());
                    arrived.map_err(|lost| format!("{from} -> {to} {}: {lost:?}", addr.addr()))?;
                }
            }
        }
    }
    Ok(())
}

/// No neighbour of a node that hides something sends it what is for that, unless by the way out of a network
/// that is hidden itself.
fn nobody_has_a_route_to_what_is_hidden(lab: &Lab, state: &NetState) -> Result<(), String> {
    let walker = Walker::new(state);
    // Each end of a link at a node: the node, the network, the interface.
    let mut ports = Vec::new();
    let mut network_of = vec![0; lab.links().len()];
    for (at, link) in lab.links().iter().enumerate() {
        for end in &link.ends {
            if let Vertex::Node(id) = end.vertex {
                network_of[at] = walker.network(&lab.node(id).name, end.iface.name);
                ports.push((id.index(), network_of[at], end.iface.name));
            }
        }
    }
    let networks = network_of.iter().max().map_or(0, |most| most + 1);
    let domains = lab.domains(networks, &|link| network_of[link]);
    let addresses = |network: usize| -> Vec<IpNet> {
        let links = walker.at_network(network).into_iter();
        links.flat_map(|(ns, dev)| state.namespaces[&ns].links[&dev].addresses.clone()).collect()
    };
    let own = |node: usize| -> Vec<IpNet> {
        let links = &state.namespaces[&lab.nodes()[node].name].links;
        let inner = links.iter().filter(|(_, link)| !matches!(link.kind, LinkKind::Veth { .. }));
        inner.flat_map(|(_, link)| link.addresses.iter().copied()).collect()
    };
    // All addresses of a domain.
    let of_domain = |domain: usize| -> Vec<IpNet> {
        let here = ports.iter().filter(|(_, network, _)| domains.of(*network) == domain);
        here.flat_map(|(node, network, _)| addresses(*network).into_iter().chain(own(*node))).collect()
    };
    for (node, it) in lab.nodes().iter().enumerate() {
        let outside = it.nat.outside();
        let of_node = || ports.iter().filter(move |(other, ..)| *other == node);
        for (_, out, _) in of_node().filter(|(.., dev)| outside.contains(dev)) {
            let beyond = of_domain(domains.of(*out));
            let leads_out = lab.nodes().iter().enumerate().any(|(other, it)| {
                let outside = it.nat.outside();
                let inside = |(at, network, dev): &(usize, usize, _)| {
                    *at == other && !outside.contains(dev) && domains.of(*network) == domains.of(*out)
                };
                !outside.is_empty() && ports.iter().any(inside)
            });
            let inside = of_node().map(|(_, network, _)| domains.of(*network)).filter(|it| *it != domains.of(*out));
            let forwards = |net: &IpNet| {
                let key = Family::of(net.addr()).forwarding_key();
                state.namespaces[&it.name].sysctls.get(&key).is_some_and(|value| value == "1")
            };
            let is_here = |it: &IpNet| beyond.iter().any(|net| net.contains(&it.addr()));
            for hidden in inside.flat_map(of_domain).filter(|it| forwards(it) && !is_here(it)) {
                for (ns, _) in walker.at_network(*out).into_iter().filter(|(ns, _)| *ns != it.name) {
                    let Some((prefix, gateways)) = walker.route(&ns, hidden.addr()) else { continue };
                    let here = addresses(*out);
                    let to_it = state.namespaces[&it.name].links.values().flat_map(|link| &link.addresses);
                    let mut to_it = to_it.filter(|net| here.contains(net)).map(IpNet::addr);
                    if !(prefix.prefix_len() == 0 && leads_out) && to_it.any(|addr| gateways.contains(&addr)) {
                        return Err(format!("{ns} has {prefix} via {}, which hides {hidden}", it.name));
                    }
                }
            }
        }
    }
    Ok(())
}

#[test]
fn generated_labs_are_connected() {
    for text in ["chain:2", "chain:7", "ring:5", "ring:6", "star:5", "tree:3x3", "grid:4x5", "mesh:5", "fat-tree:4"] {
        let wanted = desired(&lab(text)).unwrap();
        everyone_reaches_everyone(&wanted.state).unwrap();
        let mut state = NetState::default();
        change(&mut state, &wanted.state).unwrap();
        assert_eq!(diff(&state, &wanted.state), [], "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, max_global_rejects: 10_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn packets_arrive(sketch in sketch()) {
        let Some(lab) = sketch.lab().filter(|lab| lab.routing() == Routing::Auto) else { return Ok(()) };
        let wanted = plan(&lab)?;
        everyone_reaches_everyone(&wanted).map_err(|why| TestCaseError::fail(why + "\n" + &describe(&lab)))?;
    }

    #[test]
    fn what_nat_hides_has_no_route_outside(sketch in sketch(), which in any::<u16>()) {
        let mut doc = sketch.doc();
        doc.routing = None;
        let masquerade = |out: &str| NatSourceDoc { out: Some(out.into()), ..NatSourceDoc::default() };
        for (at, node) in doc.nodes.iter_mut().enumerate() {
            let outs: &[&str] = match (which >> (2 * at)) & 3 {
                0 => &["eth0"],
                1 => &["eth1"],
                _ => &[],
            };
            let wires = doc.links.iter().flat_map(|link| &link.ends).filter(|end| end.node == node.name).count();
            let outs = outs.iter().filter(|out| out[3..].parse::<usize>().is_ok_and(|at| at < wires));
            node.nat = NatDoc { masquerade: outs.map(|out| masquerade(out)).collect(), ..NatDoc::default() };
        }
        let Ok((lab, _)) = doc.resolve() else { return Ok(()) };
        let wanted = plan(&lab)?;
        nobody_has_a_route_to_what_is_hidden(&lab, &wanted)
            .map_err(|why| TestCaseError::fail(why + "\n" + &describe(&lab)))?;
    }

    #[test]
    fn a_plan_leads_to_what_is_wanted(sketches in (sketch(), sketch()), translating in any::<(u16, u16)>()) {
        let (Some(a), Some(b)) = (sketches.0.lab(), sketches.1.lab()) else { return Ok(()) };
        let (mut a, mut b) = (plan(&a)?, plan(&b)?);
        translate(&mut a, translating.0);
        translate(&mut b, translating.1);
        let mut state = NetState::default();
        change(&mut state, &a)?;
        prop_assert_eq!(diff(&state, &a), vec![]);
        change(&mut state, &b)?;
        prop_assert_eq!(diff(&state, &b), vec![]);
        change(&mut state, &NetState::default())?;
        prop_assert_eq!(state, NetState::default());
    }

    /// A node and a wire to it, at any place in the file: no address elsewhere moves.
    #[test]
    fn what_is_there_stays_when_a_line_is_added(sketch in sketch(), at in 0..40usize, to in 0..8usize) {
        let mut doc = sketch.doc();
        doc.addressing.mode = Some("stable".into());
        // In a crowded pool they meet, and the one that is written later moves.
        doc.addressing.ipv4 = doc.addressing.ipv4.filter(|it| it.value == "none");
        let Ok((before, _)) = doc.resolve() else { return Ok(()) };
        let to = doc.nodes[to % doc.nodes.len()].name.clone();
        let new = NodeDoc { name: "new".into(), ..NodeDoc::default() };
        doc.nodes.insert(at % (doc.nodes.len() + 1), new);
        let end = |node| EndDoc { node, iface: None };
        let link = LinkDoc { ends: [end(to.clone()), end("new".into())], ..LinkDoc::default() };
        doc.links.insert(at % (doc.links.len() + 1), link);
        let Ok((after, _)) = doc.resolve() else { return Err(TestCaseError::fail("the line broke the lab")) };
        let (before, after) = (by_peer(&plan(&before)?), by_peer(&plan(&after)?));
        for (name, addresses) in &before {
            // The node that gets the new wire may become a router, and get a loopback for that.
            if *name != format!("{}:lo", to.value) {
                prop_assert_eq!(after.get(name), Some(addresses), "{}", name);
            }
        }
    }

    /// Whatever somebody removed from a running lab by hand comes back, and nothing else is done.
    #[test]
    fn damage_is_repaired(sketch in sketch(), at in any::<prop::sample::Index>()) {
        let Some(lab) = sketch.lab() else { return Ok(()) };
        let wanted = plan(&lab)?;
        let damages = damages(&wanted);
        if damages.is_empty() {
            return Ok(());
        }
        let damage = at.get(&damages);
        let mut state = wanted.clone();
        state.execute(damage).map_err(|refused| TestCaseError::fail(refused.to_string()))?;
        change(&mut state, &wanted)?;
        prop_assert_eq!(&state, &wanted, "after {}", damage);
    }

    #[test]
    fn the_same_lab_is_the_same_plan(sketch in sketch()) {
        let Some(lab) = sketch.lab() else { return Ok(()) };
        prop_assert_eq!(plan(&lab)?, plan(&lab)?);
    }
}
