//! Routes given by hand.

use std::collections::BTreeMap;
use std::net::IpAddr;

use hopyard_model::{NodeId, Problem, StaticRoute, StaticRouteKind, Via};
use hopyard_net::{Family, IfName, IpNet, NextHop, Route, RouteKey, RouteKind};

use crate::address::Addresses;
use crate::fabric::{Fabric, index};

/// The routes that a node's entry in the file asks for.
pub(crate) fn routes<'a>(
    fabric: &'a Fabric<'_>,
    addresses: &Addresses,
    node: usize,
    problems: &mut Vec<Problem>,
) -> Vec<(Route, &'a StaticRoute)> {
    let mut seen: BTreeMap<RouteKey, &StaticRoute> = BTreeMap::new();
    let mut routes = Vec::new();
    for given in &fabric.lab.nodes()[node].routes {
        let key = given.key();
        if let Some(first) = seen.insert(key.clone(), given) {
            let message = format!("two routes to {key}, of which a node can have one");
            problems.push(
                Problem::error("duplicate-route", given.origin, message)
                    .also(first.origin, "the first one")
                    .help("give one of them a `metric`"),
            );
            continue;
        }
        let kind = match given.kind {
            StaticRouteKind::Blackhole => RouteKind::Blackhole,
            StaticRouteKind::Unreachable => RouteKind::Unreachable,
            StaticRouteKind::Prohibit => RouteKind::Prohibit,
            StaticRouteKind::Unicast { via, dev } => {
                match (Reader { fabric, addresses, node }).next_hop(given, via, dev) {
                    Ok(hop) => RouteKind::Unicast(vec![hop]),
                    Err(problem) => {
                        problems.push(*problem);
                        continue;
                    }
                }
            }
        };
        routes.push((Route { key, kind, src: None, hop_limit: None }, given));
    }
    routes
}

struct Reader<'r, 'a> {
    fabric: &'r Fabric<'a>,
    addresses: &'r Addresses,
    node: usize,
}

impl Reader<'_, '_> {
    fn next_hop(&self, given: &StaticRoute, via: Option<Via>, dev: Option<IfName>) -> Result<NextHop, Box<Problem>> {
        let (via, dev) = match via {
            None => (None, dev.unwrap_or(IfName::LO)),
            Some(Via::Node(peer)) => self.via_node(given, peer, dev)?,
            Some(Via::Addr(addr)) => (Some(addr), self.dev_towards(given, addr, dev)?),
        };
        Ok(NextHop { via, dev, weight: 1 })
    }

    /// The address of a neighbour on the first network that both are on.
    fn via_node(
        &self,
        given: &StaticRoute,
        peer: NodeId,
        dev: Option<IfName>,
    ) -> Result<(Option<IpAddr>, IfName), Box<Problem>> {
        let family = Family::of(given.to.addr());
        let ports = &self.fabric.ports;
        for &port in &self.fabric.ports_of[self.node] {
            if dev.is_some_and(|dev| dev != ports[port].iface) {
                continue;
            }
            let Some(own) = self.addresses.ports[port][index(family)] else { continue };
            let theirs = self.fabric.networks[ports[port].net]
                .ports
                .iter()
                .filter(|&&other| ports[other].node == peer.index())
                .find_map(|&other| self.addresses.ports[other][index(family)].filter(|it| own.contains(&it.addr())));
            if let Some(theirs) = theirs {
                return Ok((Some(theirs.addr()), ports[port].iface));
            }
        }
        let (node, peer) = (&self.fabric.lab.nodes()[self.node].name, &self.fabric.lab.node(peer).name);
        let on = dev.map(|dev| format!(" on `{dev}`")).unwrap_or_default();
        let message = format!("`{node}` and `{peer}` have no {family} subnet in common{on}");
        Err(Box::new(Problem::error("no-gateway", given.origin, message)))
    }

    /// The interface on which an address can be reached directly.
    fn dev_towards(&self, given: &StaticRoute, addr: IpAddr, dev: Option<IfName>) -> Result<IfName, Box<Problem>> {
        let own = self.subnets(Family::of(addr));
        if let Some((_, net)) = own.iter().find(|(_, net)| net.addr() == addr) {
            let node = &self.fabric.lab.nodes()[self.node].name;
            let message = format!("`{addr}` is an address of `{node}` itself (`{net}`)");
            return Err(Box::new(
                Problem::error("no-gateway", given.origin, message).help("a gateway is a neighbour's address"),
            ));
        }
        let link_local = matches!(addr, IpAddr::V6(addr) if addr.is_unicast_link_local());
        if let (true, Some(dev)) = (link_local, dev) {
            return Ok(dev);
        }
        let directly = |at: &IfName, net: &IpNet| dev.is_none_or(|dev| dev == *at) && net.contains(&addr);
        // Or by another route of the node, one without a gateway.
        let nodes_routes = &self.fabric.lab.nodes()[self.node].routes;
        let by_route = nodes_routes.iter().filter_map(|route| match route.kind {
            StaticRouteKind::Unicast { via: None, dev: Some(at) } => Some((at, route.to)),
            _ => None,
        });
        let found = own.iter().copied().chain(by_route).filter(|(at, net)| directly(at, net));
        // The longest prefix, as the kernel decides; of equals the first.
        if let Some((at, _)) = found.reduce(|a, b| if b.1.prefix_len() > a.1.prefix_len() { b } else { a }) {
            return Ok(at);
        }
        let node = &self.fabric.lab.nodes()[self.node].name;
        let on = dev.map(|dev| format!(" on `{dev}`")).unwrap_or_default();
        let message = format!("`{node}` cannot reach the gateway `{addr}` directly{on}");
        let has: Vec<String> = own
            .iter()
            .filter(|(at, _)| dev.is_none_or(|dev| dev == *at))
            .map(|(at, net)| format!("`{net}` on `{at}`"))
            .collect();
        let family = Family::of(addr);
        let has = if has.is_empty() { format!("no {family} address{on}") } else { has.join(", ") };
        let by_name = self.by_name(family, dev).unwrap_or_default();
        Err(Box::new(Problem::error("no-gateway", given.origin, message).help(format!("`{node}` has {has}{by_name}"))))
    }

    /// Where the node has only addresses that nobody has written, its author has others in mind.
    fn by_name(&self, family: Family, dev: Option<IfName>) -> Option<String> {
        let Fabric { ports, ports_of, networks, lab, .. } = self.fabric;
        let has = |port: &&usize| self.addresses.ports[**port][index(family)].is_some();
        let own: Vec<usize> = ports_of[self.node]
            .iter()
            .filter(|&&port| dev.is_none_or(|dev| dev == ports[port].iface))
            .filter(has)
            .copied()
            .collect();
        let first = *own.first()?;
        let is_chosen = |&port: &usize| {
            let addr = self.addresses.ports[port][index(family)].map(|net| net.addr());
            addr.is_some_and(|addr| !self.fabric.given_prefixes(port).iter().any(|net| net.contains(&addr)))
        };
        if !self.addresses.further[self.node].is_empty() || !own.iter().all(is_chosen) {
            return None;
        }
        let beside = networks[ports[first].net].ports.iter().map(|&other| ports[other].node);
        let beside: Vec<usize> = beside.filter(|other| *other != self.node).collect();
        let router = beside.iter().find(|&&other| self.fabric.forwards[other][index(family)]);
        let peer = &lab.nodes()[*router.or(beside.first())?].name;
        Some(format!(
            ", which hop chose: `via {peer}` names a neighbour whatever its address is, and `{family}:` of the link or switch gives \
             it a prefix of yours",
            family = family.to_string().to_lowercase(),
        ))
    }

    /// The interfaces of the node and the addresses on them; not `lo`.
    fn subnets(&self, family: Family) -> Vec<(IfName, IpNet)> {
        let ports = self.fabric.ports_of[self.node]
            .iter()
            .filter_map(|&port| Some((self.fabric.ports[port].iface, self.addresses.ports[port][index(family)]?)));
        let further = self.addresses.further[self.node].iter().copied();
        ports.chain(further.filter(|(dev, net)| *dev != IfName::LO && Family::of(net.addr()) == family)).collect()
    }
}
