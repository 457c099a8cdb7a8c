//! Routes where nodes translate addresses: each domain for itself, and the way out of it.
//!
//! Nobody outside has a route to what a node hides; inside, that node is the way to everything that is
//! not inside.

use std::collections::BTreeSet;
use std::net::IpAddr;

use hopyard_net::{Family, IpNet, NextHop, Route, RouteKey};

use super::Routes;
use crate::address::Addresses;
use crate::fabric::{Fabric, index};

/// A node that hides what is behind one of its ports.
struct Gateway {
    node: usize,
    /// Its port inside.
    port: usize,
    domain: usize,
}

/// What nodes hide from a domain: the prefixes behind them, and which nodes they are.
#[derive(Debug, Default)]
pub(super) struct Hidden {
    /// The networks and addresses behind them, sorted, each once.
    pub(super) nets: Vec<IpNet>,
    /// The nodes between, each by its place in the lab.
    pub(super) by: BTreeSet<usize>,
}

/// What is hidden from a domain, as far as one family sees it. Only what the nodes at its edge hide: they know
/// no route to what another one hides behind them.
pub(super) fn hidden_from(fabric: &Fabric<'_>, addresses: &Addresses, domain: usize, family: Family) -> Hidden {
    let touches = |node: usize, domain: usize| {
        fabric.ports_of[node].iter().any(|&port| fabric.domain(fabric.ports[port].net) == domain)
    };
    let mut hidden = Hidden::default();
    let mut behind = BTreeSet::new();
    for gateway in gateways(fabric) {
        let outside = fabric.lab.nodes()[gateway.node].nat.outside();
        let hides = fabric.ports_of[gateway.node].iter().any(|&port| {
            outside.contains(&fabric.ports[port].iface) && fabric.domain(fabric.ports[port].net) == domain
        });
        if hides {
            hidden.by.insert(gateway.node);
            behind.insert(gateway.domain);
        }
    }
    for domain in behind {
        let ports = fabric.ports.iter().zip(&addresses.ports).filter(|(port, _)| fabric.domain(port.net) == domain);
        hidden.nets.extend(ports.filter_map(|(_, nets)| nets[index(family)]).map(|net| net.trunc()));
        for node in (0..fabric.ports_of.len()).filter(|&node| touches(node, domain)) {
            let further = addresses.further[node].iter().map(|(_, net)| *net);
            let own = addresses.loopbacks[node].iter().copied().chain(further);
            hidden.nets.extend(own.filter(|net| Family::of(net.addr()) == family).map(|net| net.trunc()));
        }
    }
    hidden.nets.sort_unstable();
    hidden.nets.dedup();
    hidden
}

/// Adds default routes that lead out of each domain.
pub(super) fn add_ways_out(fabric: &Fabric<'_>, addresses: &Addresses, routes: &mut Routes) {
    let gateways = gateways(fabric);
    let mut served = BTreeSet::new();
    for gateway in &gateways {
        // Of several the first: packets of one connection must not take two.
        if !served.insert(gateway.domain) {
            continue;
        }
        let mut members: Vec<usize> = fabric
            .ports
            .iter()
            .filter(|port| fabric.domain(port.net) == gateway.domain)
            .map(|port| port.node)
            .collect();
        members.sort_unstable();
        members.dedup();
        for family in Family::BOTH {
            let Some(way) = addresses.ports[gateway.port][index(family)] else { continue };
            for &node in &members {
                let leaves_here = gateways.iter().any(|it| it.node == node && it.domain == gateway.domain);
                let has_default = routes.of_node[node].iter().any(|it| it.key.prefix == family.default_prefix());
                if leaves_here || has_default {
                    continue;
                }
                if let Some(hops) = towards(fabric, addresses, &routes.of_node[node], node, gateway, way) {
                    routes.of_node[node].push(Route::unicast(family.default_prefix(), hops));
                }
            }
        }
    }
}

fn gateways(fabric: &Fabric<'_>) -> Vec<Gateway> {
    let of_node = |node| {
        let gateway = move |port: usize| Gateway { node, port, domain: fabric.domain(fabric.ports[port].net) };
        fabric.inner_ports(node).map(gateway)
    };
    (0..fabric.lab.nodes().len()).flat_map(of_node).collect()
}

/// The next hops from a node to the inner address of a gateway.
fn towards(
    fabric: &Fabric<'_>,
    addresses: &Addresses,
    table: &[Route],
    node: usize,
    gateway: &Gateway,
    way: IpNet,
) -> Option<Vec<NextHop>> {
    let family = Family::of(way.addr());
    // It may have several ports inside.
    let inner =
        fabric.ports_of[gateway.node].iter().filter(|&&port| fabric.domain(fabric.ports[port].net) == gateway.domain);
    for &port in inner {
        let Some(via) = addresses.ports[port][index(family)] else { continue };
        let own = fabric.ports_of[node].iter().find(|&&own| {
            fabric.ports[own].net == fabric.ports[port].net
                && addresses.ports[own][index(family)].is_some_and(|net| net.contains(&via.addr()))
        });
        if let Some(&own) = own {
            return Some(vec![NextHop { via: Some(via.addr()), dev: fabric.ports[own].iface, weight: 1 }]);
        }
    }
    lookup(table, way.addr()).map(|route| route.next_hops().to_vec())
}

/// The route of the longest prefix.
fn lookup(table: &[Route], to: IpAddr) -> Option<&Route> {
    let fits = |route: &&Route| route.key.table == RouteKey::MAIN && route.key.prefix.contains(&to);
    table.iter().filter(fits).max_by_key(|route| route.key.prefix.prefix_len())
}
