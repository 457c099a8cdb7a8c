//! Routes that a repair adds, replaces or removes: towards a destination, and back to a source.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;

use hopyard_net::{Endpoint, FibAction, IfName, IpNet, NextHop, NodeState, NsName, Op, Route, RouteKind};

use super::proposals::{Context, LOOSENING, Proposal, at, conf_all, plain, push, sysctl};
use crate::Edit;
use crate::forwarding::conf_key;
use crate::hidden::is_behind;
use crate::lookup::{is_own, main_route};
use crate::segment::{self, link_at, owners, segment};

impl Context<'_> {
    /// Routes to an address by neighbours that are nearer to it, the nearest first.
    pub(super) fn routes(&self, ns: &NsName, node: &NodeState, to: IpAddr, no_shorter: u8, found: &mut Vec<Proposal>) {
        for edit in self.route_edits(ns, node, to, no_shorter, None) {
            plain(edit, found);
        }
    }

    fn route_edits(
        &self,
        ns: &NsName,
        node: &NodeState,
        to: IpAddr,
        no_shorter: u8,
        only: Option<IfName>,
    ) -> Vec<Edit> {
        let own_distances;
        let distances = if to == self.dst {
            &self.distances
        } else {
            let owner = owners(self.snapshot, to).into_iter().next();
            own_distances = owner.map(|end| segment::distances(self.snapshot, &end.ns)).unwrap_or_default();
            &own_distances
        };
        let Some(&own) = distances.get(ns) else { return Vec::new() };
        let Some(prefix) = self.prefix_of(ns, to, no_shorter) else { return Vec::new() };
        let mut ways: Vec<(usize, IfName, IpAddr)> = Vec::new();
        for (dev, link) in &node.links {
            if *dev == IfName::LO || !link.up || link.master.is_some() || only.is_some_and(|only| only != *dev) {
                continue;
            }
            for end in segment(self.snapshot, &at(ns, *dev), true).ends.keys() {
                let Some(&distance) = distances.get(&end.ns) else { continue };
                if distance >= own {
                    continue;
                }
                let Some(there) = link_at(self.snapshot, end) else { continue };
                // What it hides from that side, nobody there gets a route to.
                let hides = self.outside.get(&end.ns).filter(|outside| outside.contains(&end.dev));
                let hides = hides.zip(self.snapshot.nodes.get(&end.ns));
                if hides.is_some_and(|(outside, node)| is_behind(node, outside, to)) {
                    continue;
                }
                let on_link = |addr: IpAddr| {
                    link.addresses.iter().any(|own| own.net.contains(&addr) && own.net.addr() != addr && !own.host_only)
                };
                let addresses = there.addresses.iter().map(|it| it.net.addr());
                let takes = |addr: &IpAddr| addr.is_ipv4() == to.is_ipv4() && on_link(*addr) && !is_own(node, *addr);
                let same = addresses.filter(|addr| *addr != to && takes(addr));
                ways.extend(same.map(|addr| (distance, *dev, addr)));
            }
        }
        ways.sort();
        let route = |(_, dev, via): (usize, IfName, IpAddr)| {
            let hop = NextHop { via: Some(via), dev, weight: 1 };
            let mut route = Route::unicast(prefix, vec![hop]);
            // What the kernel added with an address stays beside it.
            if node.routes.iter().any(|it| it.derived && it.key == route.key) {
                route.key.metric = 0;
            }
            if takes(node, &route) {
                return Some(Edit::set_route(self.snapshot, ns.clone(), route));
            }
            // First the one to the network that its neighbour is on, which did not come with the address.
            let own = node.links.get(&dev)?.addresses.iter().find(|own| own.net.contains(&via))?;
            let beside = Route::unicast(own.net.trunc(), vec![NextHop { via: None, dev, weight: 1 }]);
            Some(Edit::set_route(self.snapshot, ns.clone(), beside))
        };
        let mut found: Vec<Edit> = Vec::new();
        for edit in ways.into_iter().filter_map(route) {
            if !found.contains(&edit) {
                found.push(edit);
            }
        }
        found
    }

    /// Where nobody has the address that a route names as its gateway, the same route by a neighbour that is nearer to the
    /// destination: another one beside it would leave the mistake for all else that takes it.
    pub(super) fn mend_gateway(
        &self,
        ns: &NsName,
        node: &NodeState,
        dev: IfName,
        gateway: IpAddr,
        found: &mut Vec<Proposal>,
    ) {
        let Some(route) = self.walk.last().and_then(|hop| hop.route.as_ref()) else { return };
        let FibAction::Route(RouteKind::Unicast(hops)) = &route.action else { return };
        let is_named = hops.len() == 1 && hops[0].via == Some(gateway);
        if route.derived || !is_named || !owners(self.snapshot, gateway).is_empty() {
            return;
        }
        let mut ways = Vec::new();
        for edit in self.route_edits(ns, node, self.dst, 0, Some(dev)) {
            let Edit::Route { route: Route { kind: RouteKind::Unicast(hops), .. }, .. } = edit else { continue };
            if let [NextHop { via: Some(via), .. }] = hops[..] {
                ways.push((via, hops));
            }
        }
        // A neighbour may have several addresses: first one on the network that was meant.
        let own = node.links.get(&dev).into_iter().flat_map(|link| &link.addresses);
        let meant: Vec<IpNet> = own.map(|own| own.net).filter(|net| net.contains(&gateway)).collect();
        ways.sort_by_key(|(via, _)| !meant.iter().any(|net| net.contains(via)));
        for (_, hops) in ways {
            let kind = RouteKind::Unicast(hops);
            let same = Route { key: route.key.clone(), kind, src: route.src, hop_limit: route.hop_limit };
            plain(Edit::set_route(self.snapshot, ns.clone(), same), found);
        }
    }

    /// The network of an address: as the last router before it has it, rather than its owner, whose
    /// mask may be wrong.
    fn prefix_of(&self, ns: &NsName, to: IpAddr, no_shorter: u8) -> Option<IpNet> {
        let bits = if to.is_ipv4() { 32 } else { 128 };
        let owner = owners(self.snapshot, to).into_iter().find(|end| end.ns != *ns)?;
        let on = |end: &Endpoint| -> Vec<IpNet> {
            let links = link_at(self.snapshot, end).into_iter().flat_map(|link| &link.addresses);
            links.map(|own| own.net).filter(|net| net.contains(&to)).collect()
        };
        let beside = segment(self.snapshot, &owner, true).ends;
        let mut nets: Vec<IpNet> = beside.keys().flat_map(on).collect();
        if nets.is_empty() {
            nets = on(&owner);
        }
        // The one that most have; of equals the longest.
        let mut having: BTreeMap<u8, usize> = BTreeMap::new();
        for net in beside.keys().flat_map(on) {
            *having.entry(net.prefix_len()).or_default() += 1;
        }
        nets.sort_by_key(|net| Reverse((having.get(&net.prefix_len()), net.prefix_len())));
        let length = nets.first()?.prefix_len().max(no_shorter).min(bits);
        IpNet::new(to, length).ok().map(|net| net.trunc())
    }

    /// Makes a node believe the source of the packet: by a way back first.
    pub(super) fn believe(
        &self,
        ns: &NsName,
        node: &NodeState,
        input: Option<IfName>,
        strict: bool,
        has_way_back: bool,
        found: &mut Vec<Proposal>,
    ) {
        let Some(src) = self.walk.packet.src else { return };
        let matched = if has_way_back { main_route(node, src) } else { None };
        let length = matched.map_or(0, |route| route.key.prefix.prefix_len());
        if let Some(route) = matched.filter(|route| !route.derived) {
            plain(Edit::Op(Op::DelRoute { ns: ns.clone(), key: route.key.clone() }), found);
        }
        for edit in self.route_edits(ns, node, src, length, input) {
            plain(edit, found);
        }
        let mut edits = Vec::new();
        // The larger of the two counts.
        let value = if strict && has_way_back { "2" } else { "0" };
        if node.all.rp_filter > 0 {
            edits.extend(conf_all("rp_filter").map(|key| sysctl(ns, key, value)));
        }
        if let Some(dev) = input
            && node.links.get(&dev).is_some_and(|link| link.conf.rp_filter > 0)
        {
            edits.extend(conf_key("ipv4", dev, "rp_filter").map(|key| sysctl(ns, key, value)));
        }
        push(found, LOOSENING, edits);
    }

    /// Where the packet is sent away from its destination, a route towards it.
    pub(super) fn straighten(&self, found: &mut Vec<Proposal>) {
        for hop in &self.walk.hops {
            let (Some(to), Some(route)) = (&hop.to, &hop.route) else { continue };
            let (Some(here), Some(there)) = (self.distances.get(&hop.node), self.distances.get(&to.ns)) else {
                continue;
            };
            if there < here {
                continue;
            }
            let Some(node) = self.snapshot.nodes.get(&hop.node) else { continue };
            let least = route.key.prefix.prefix_len();
            self.routes(&hop.node, node, self.dst, least, found);
            if !route.derived {
                plain(Edit::Op(Op::DelRoute { ns: hop.node.clone(), key: route.key.clone() }), found);
            }
        }
        // The last one sends to a neighbour that is not there.
        if let Some(hop) = self.walk.last()
            && let (Some(route), Some(node)) = (&hop.route, self.snapshot.nodes.get(&hop.node))
            && matches!(route.action, FibAction::Route(RouteKind::Unicast(_)))
            && !is_own(node, self.dst)
        {
            self.routes(&hop.node, node, self.dst, route.key.prefix.prefix_len(), found);
            if !route.derived {
                plain(Edit::Op(Op::DelRoute { ns: hop.node.clone(), key: route.key.clone() }), found);
            }
        }
    }
}

/// Would the kernel take the route? Its gateways have to be on a link of the node.
pub(super) fn takes(node: &NodeState, route: &Route) -> bool {
    let on_link = |hop: &NextHop| {
        let Some(via) = hop.via else { return node.links.contains_key(&hop.dev) };
        !is_own(node, via)
            && main_route(node, via)
                .is_some_and(|it| it.next_hops().iter().any(|to| to.via.is_none() && to.dev == hop.dev))
    };
    route.next_hops().iter().all(on_link)
}
