//! A network walked as packets would walk it.

#![allow(dead_code, missing_docs, unreachable_pub, clippy::panic, clippy::unwrap_used)]

pub mod random;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use hopyard_model::Lab;
use hopyard_net::{Family, IfName, IpNet, LinkKind, NetState, NsName, NsState, RouteKind};

/// The lab behind an argument such as `chain:4`, or lines such as `a -- b`.
pub fn lab(text: &str) -> Lab {
    let doc = hopyard_formats::inline(text);
    match doc {
        Ok((lab, _)) => lab,
        Err(problems) => panic!("{text}: {problems:?}"),
    }
}

/// An index over a state, for walking.
pub struct Walker<'s> {
    state: &'s NetState,
    /// Who has an address, on which network.
    owners: BTreeMap<IpAddr, Vec<(NsName, IfName)>>,
    /// The broadcast domain of each interface.
    domain: BTreeMap<(NsName, IfName), usize>,
    /// For each namespace and family: prefix, and what to do.
    tables: BTreeMap<(NsName, Family), Vec<(IpNet, Action)>>,
}

#[derive(Clone, Debug)]
enum Action {
    Connected(IfName),
    Via(Vec<(IpAddr, IfName)>),
    Drop,
}

/// Why a packet did not arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lost {
    NoRoute(NsName),
    NobodyHas(IpAddr, NsName),
    NotForwarding(NsName),
    Loop(NsName),
    Dropped(NsName),
}

impl<'s> Walker<'s> {
    pub fn new(state: &'s NetState) -> Self {
        let mut owners: BTreeMap<IpAddr, Vec<(NsName, IfName)>> = BTreeMap::new();
        let mut tables: BTreeMap<(NsName, Family), Vec<(IpNet, Action)>> = BTreeMap::new();
        for (ns, space) in &state.namespaces {
            for (dev, link) in &space.links {
                for addr in &link.addresses {
                    owners.entry(addr.addr()).or_default().push((ns.clone(), *dev));
                    let family = Family::of(addr.addr());
                    tables.entry((ns.clone(), family)).or_default().push((addr.trunc(), Action::Connected(*dev)));
                }
            }
            for route in space.routes.values() {
                let action = match &route.kind {
                    RouteKind::Unicast(hops) if hops[0].via.is_none() => Action::Connected(hops[0].dev),
                    RouteKind::Unicast(hops) => {
                        Action::Via(hops.iter().map(|hop| (hop.via.unwrap(), hop.dev)).collect())
                    }
                    _ => Action::Drop,
                };
                tables.entry((ns.clone(), route.key.family())).or_default().push((route.key.prefix, action));
            }
        }
        for table in tables.values_mut() {
            // The longest first; a connected prefix before a route of the same.
            table.sort_by_key(|(prefix, action)| {
                (std::cmp::Reverse(prefix.prefix_len()), !matches!(action, Action::Connected(_)))
            });
        }
        Walker { state, owners, domain: domains(state), tables }
    }

    /// Follows a packet along every branch; the most hops that it makes.
    pub fn walk(&self, from: &NsName, to: IpAddr) -> Result<usize, Lost> {
        let mut done = BTreeMap::new();
        self.step(from, to, true, &mut done, &mut BTreeSet::new())
    }

    fn step(
        &self,
        at: &NsName,
        to: IpAddr,
        sender: bool,
        done: &mut BTreeMap<NsName, usize>,
        way: &mut BTreeSet<NsName>,
    ) -> Result<usize, Lost> {
        if self.owners.get(&to).is_some_and(|owners| owners.iter().any(|(ns, _)| ns == at)) {
            return Ok(0);
        }
        if let Some(&hops) = done.get(at) {
            return Ok(hops);
        }
        if !way.insert(at.clone()) {
            return Err(Lost::Loop(at.clone()));
        }
        if !sender && !forwards(&self.state.namespaces[at], Family::of(to)) {
            return Err(Lost::NotForwarding(at.clone()));
        }
        let table = self.tables.get(&(at.clone(), Family::of(to)));
        let action = table.and_then(|table| table.iter().find(|(prefix, _)| prefix.contains(&to)));
        let next: Vec<(IpAddr, IfName)> = match action {
            None => return Err(Lost::NoRoute(at.clone())),
            Some((_, Action::Drop)) => return Err(Lost::Dropped(at.clone())),
            Some((_, Action::Connected(dev))) => vec![(to, *dev)],
            Some((_, Action::Via(hops))) => hops.clone(),
        };
        let mut most = 0;
        for (via, dev) in next {
            let here = self.domain.get(&(at.clone(), dev));
            let owner =
                self.owners.get(&via).into_iter().flatten().find(|it| self.domain.get(it) == here && here.is_some());
            let Some((next, _)) = owner else { return Err(Lost::NobodyHas(via, at.clone())) };
            most = most.max(1 + self.step(next, to, false, done, way)?);
        }
        way.remove(at);
        done.insert(at.clone(), most);
        Ok(most)
    }
}

impl Walker<'_> {
    /// The number of the broadcast domain of an interface.
    pub fn network(&self, ns: &NsName, dev: IfName) -> usize {
        self.domain[&(ns.clone(), dev)]
    }

    /// Those at a broadcast domain, by its number.
    pub fn at_network(&self, network: usize) -> Vec<(NsName, IfName)> {
        self.members(network).map(|(ns, dev)| (ns.clone(), *dev)).collect()
    }

    /// The prefix of the route that a namespace takes to an address, and the gateways.
    pub fn route(&self, from: &NsName, to: IpAddr) -> Option<(IpNet, Vec<IpAddr>)> {
        let table = self.tables.get(&(from.clone(), Family::of(to)))?;
        let (prefix, action) = table.iter().find(|(prefix, _)| prefix.contains(&to))?;
        let gateways = match action {
            Action::Via(hops) => hops.iter().map(|(via, _)| *via).collect(),
            Action::Connected(_) | Action::Drop => Vec::new(),
        };
        Some((*prefix, gateways))
    }

    /// The namespaces that a packet of a family could reach, were everyone to know the way: from
    /// neighbour to neighbour, through those that forward.
    pub fn reachable(&self, from: &NsName, family: Family) -> BTreeSet<NsName> {
        let mut seen = BTreeSet::from([from.clone()]);
        let mut todo = vec![from.clone()];
        while let Some(at) = todo.pop() {
            let space = &self.state.namespaces[&at];
            if at != *from && !forwards(space, family) {
                continue;
            }
            for (dev, link) in space.links.iter().filter(|(dev, _)| **dev != IfName::LO) {
                let here = self.domain[&(at.clone(), *dev)];
                for own in link.addresses.iter().filter(|own| Family::of(own.addr()) == family) {
                    for (ns, other) in self.members(here) {
                        let theirs = &self.state.namespaces[ns].links[other].addresses;
                        if theirs.iter().any(|it| it.contains(&own.addr()) && own.contains(&it.addr()))
                            && seen.insert(ns.clone())
                        {
                            todo.push(ns.clone());
                        }
                    }
                }
            }
        }
        seen
    }

    fn members(&self, domain: usize) -> impl Iterator<Item = (&NsName, &IfName)> {
        self.domain.iter().filter(move |(_, it)| **it == domain).map(|((ns, dev), _)| (ns, dev))
    }
}

fn forwards(space: &NsState, family: Family) -> bool {
    space.sysctls.get(&family.forwarding_key()).is_some_and(|value| value == "1")
}

/// Interfaces that hear each other: the ends of a veth pair, and everything at joined bridges.
fn domains(state: &NetState) -> BTreeMap<(NsName, IfName), usize> {
    let mut domain = BTreeMap::new();
    let all = state.namespaces.iter().flat_map(|(ns, space)| space.links.keys().map(move |dev| (ns.clone(), *dev)));
    for (number, start) in all.enumerate() {
        let mut todo = vec![start];
        while let Some(at) = todo.pop() {
            let link = &state.namespaces[&at.0].links[&at.1];
            if domain.contains_key(&at) {
                continue;
            }
            domain.insert(at.clone(), number);
            if let LinkKind::Veth { peer: Some(peer) } = &link.kind {
                todo.push((peer.ns.clone(), peer.dev));
            }
            todo.extend(link.master.map(|bridge| (at.0.clone(), bridge)));
            let ports = state.namespaces[&at.0].links.iter().filter(|(_, port)| port.master == Some(at.1));
            todo.extend(ports.map(|(dev, _)| (at.0.clone(), *dev)));
        }
    }
    domain
}
