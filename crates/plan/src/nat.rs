//! What nodes translate, as rules of the kernel.

use std::net::IpAddr;

use hopyard_model::{NatTarget, Node, Problem, Span};
use hopyard_net::{Family, IfName, IpNet, Nat, NatRule};

use crate::address::Addresses;
use crate::fabric::{Fabric, index};

/// The rules of a node; `None`: it translates nothing.
pub(crate) fn rules(
    fabric: &Fabric<'_>,
    addresses: &Addresses,
    node: usize,
    problems: &mut Vec<Problem>,
) -> Option<Nat> {
    let nat = &fabric.lab.nodes()[node].nat;
    let uplink = fabric.lab.nodes()[node].uplink;
    if nat.is_empty() && !uplink {
        return None;
    }
    let reader = Reader { fabric, addresses, node };
    let mut rules = Vec::new();
    if uplink && let Ok(out) = Node::UPLINK.parse() {
        // Outside nobody knows the lab's addresses.
        rules.push(NatRule::Masquerade { out, from: None });
    }
    for it in &nat.sources {
        rules.push(match it.to {
            Some(to) => NatRule::Source { out: it.out, from: it.from, to },
            None => NatRule::Masquerade { out: it.out, from: it.from },
        });
    }
    for it in &nat.destinations {
        // Of a node both families, where it has both; an address is of one.
        let families: &[Family] = match it.address {
            Some(address) => &[Family::of(address)],
            None => &Family::BOTH,
        };
        let before = rules.len();
        for &family in families {
            if let Some(to) = reader.target(it.to, family) {
                rules.push(NatRule::Destination { address: it.address, service: it.service, to, port: it.port });
            }
        }
        if rules.len() == before {
            problems.push(reader.no_address(it.to, families, it.origin));
        }
    }
    for it in &nat.floating {
        let family = Family::of(it.address);
        let Some(to) = reader.target(it.to, family) else {
            problems.push(reader.no_address(it.to, &[family], it.origin));
            continue;
        };
        rules.push(NatRule::Destination { address: Some(it.address), service: None, to, port: None });
        let dev = addresses.floating[node].iter().find(|(_, net)| net.addr() == it.address);
        rules.extend(dev.map(|(out, _)| NatRule::Source { out: *out, from: Some(to.into()), to: it.address }));
    }
    Some(Nat::new(rules))
}

struct Reader<'r, 'a> {
    fabric: &'r Fabric<'a>,
    addresses: &'r Addresses,
    node: usize,
}

impl Reader<'_, '_> {
    /// The address of a target: on a network that this node is on as well, or else its first one.
    fn target(&self, to: NatTarget, family: Family) -> Option<IpAddr> {
        let id = match to {
            NatTarget::Addr(addr) => return (Family::of(addr) == family).then_some(addr),
            NatTarget::Node(id) => id.index(),
        };
        let near: Vec<usize> =
            self.fabric.ports_of[self.node].iter().map(|&port| self.fabric.ports[port].net).collect();
        let address = |port: &usize| self.addresses.ports[*port][index(family)].map(|net| net.addr());
        let ports = &self.fabric.ports_of[id];
        let shared = ports.iter().filter(|port| near.contains(&self.fabric.ports[**port].net)).find_map(address);
        let of_family = |net: &&IpNet| Family::of(net.addr()) == family;
        let loopback = || self.addresses.loopbacks[id].iter().find(of_family).map(IpNet::addr);
        shared.or_else(loopback).or_else(|| ports.iter().find_map(address))
    }

    fn no_address(&self, to: NatTarget, families: &[Family], at: Option<Span>) -> Problem {
        let name = match to {
            NatTarget::Node(id) => self.fabric.lab.node(id).name.to_string(),
            NatTarget::Addr(addr) => addr.to_string(),
        };
        let what = match families {
            [one] => format!("no {one} address"),
            _ => "no address".to_owned(),
        };
        Problem::error("bad-nat", at, format!("`{name}` has {what} to send packets on to"))
            .help("link it to something, or give it an address of that family")
    }
}

/// Floating addresses, each with the interface on whose network it is given.
pub(crate) fn floating(fabric: &Fabric<'_>) -> Result<Vec<Vec<(IfName, IpNet)>>, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut all = vec![Vec::new(); fabric.lab.nodes().len()];
    for (node, it) in fabric.lab.nodes().iter().enumerate() {
        for floating in &it.nat.floating {
            let on = |port: &&usize| fabric.given_prefixes(**port).iter().any(|net| net.contains(&floating.address));
            if let Some(&port) = fabric.ports_of[node].iter().find(on) {
                all[node].push((fabric.ports[port].iface, IpNet::from(floating.address)));
                continue;
            }
            let message = format!(
                "`{}` is on no network whose prefix the file gives and that has `{}`",
                it.name, floating.address
            );
            problems.push(Problem::error("bad-nat", floating.origin, message).help(
                "give the outside network a prefix that contains it, as in `ipv4: 192.0.2.0/24`; an address \
                 that others route here needs `dnat` and `snat` instead",
            ));
        }
    }
    if problems.is_empty() { Ok(all) } else { Err(problems) }
}
