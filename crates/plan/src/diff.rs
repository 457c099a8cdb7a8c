//! From the network that was found to the one that is wanted, in an order the kernel accepts.
//!
//! What is right already is not touched. What a step makes the kernel throw away (the routes of
//! a removed link) is not removed by a step of its own, and comes back where it is still wanted.
//! The order: removals first, innermost first; then namespaces and their own sysctls, bridges
//! and links; then each namespace from its interfaces outwards to its routes, but address translation first.
//!
//! What `wanted` leaves open is not compared: a MAC or MTU of `None`, and sysctls that it does
//! not name, but those of `net.ipv4.conf.all` of which it is known what the kernel gives to a namespace.

use std::collections::{BTreeMap, BTreeSet};

use hopyard_net::{
    ConfOf, Endpoint, Family, IfName, Ipv4Setting, Link, LinkKind, Mtu, NetState, NsName, NsState, Op, Route,
    SysctlKey, VethEnd,
};

/// The operations that make `found` into `wanted`; empty where they agree.
///
/// Executed in this order on `found`, none is refused
/// (see [`NetState::execute`](hopyard_net::NetState::execute)).
pub fn diff(found: &NetState, wanted: &NetState) -> Vec<Op> {
    let doomed = Doomed::new(found, wanted);
    let mut ops = Vec::new();
    for (ns, have, want) in common(found, wanted) {
        remove_routes(ns, have, want, &doomed, &mut ops);
    }
    for (ns, have, want) in common(found, wanted) {
        remove_neighbours(ns, have, want, &doomed, &mut ops);
    }
    for (ns, have, want) in common(found, wanted) {
        remove_addresses(ns, have, want, &doomed, &mut ops);
    }
    doomed.delete_links(found, wanted, &mut ops);
    ops.extend(found.namespaces.keys().filter(|ns| !wanted.namespaces.contains_key(*ns)).cloned().map(Op::DelNs));

    ops.extend(wanted.namespaces.keys().filter(|ns| !found.namespaces.contains_key(*ns)).cloned().map(Op::AddNs));
    let sides: Vec<Side<'_>> =
        wanted.namespaces.iter().map(|(ns, want)| Side::new(ns, found.namespaces.get(ns), want, &doomed)).collect();
    // Before any interface: a new one takes its settings from the namespace.
    for side in &sides {
        // Forwarding first, for it sets others: whether redirects are accepted.
        let forwarding = Family::BOTH.map(Family::forwarding_key);
        side.set_sysctls(|key| forwarding.contains(key), &mut ops);
        side.set_sysctls(|key| key.interface().is_none() && !forwarding.contains(key), &mut ops);
        side.set_back_sysctls(&mut ops);
    }
    for side in &sides {
        side.add_bridges(&mut ops);
    }
    for side in &sides {
        side.add_veths(wanted, &mut ops);
    }
    for side in &sides {
        side.take_lent(&mut ops);
    }
    for side in &sides {
        side.set_up(&mut ops);
    }
    ops
}

/// The namespaces that stay.
fn common<'a>(
    found: &'a NetState,
    wanted: &'a NetState,
) -> impl Iterator<Item = (&'a NsName, &'a NsState, &'a NsState)> {
    found.namespaces.iter().filter_map(|(ns, have)| Some((ns, have, wanted.namespaces.get(ns)?)))
}

/// The interfaces of the namespaces that stay which have to go, by namespace.
struct Doomed(BTreeMap<NsName, BTreeSet<IfName>>);

impl Doomed {
    fn new(found: &NetState, wanted: &NetState) -> Self {
        let mut doomed: BTreeMap<NsName, BTreeSet<IfName>> = BTreeMap::new();
        let mut doom = |at: &Endpoint| {
            if found.namespaces.contains_key(&at.ns) {
                doomed.entry(at.ns.clone()).or_default().insert(at.dev);
            }
        };
        for (ns, have) in &found.namespaces {
            let want = wanted.namespaces.get(ns);
            for (dev, link) in &have.links {
                let stays = link.kind == LinkKind::Loopback
                    || (want.and_then(|want| want.links.get(dev)).is_some_and(|want| want.kind == link.kind)
                        && is_whole(found, ns, *dev, link));
                if stays {
                    continue;
                }
                doom(&Endpoint { ns: ns.clone(), dev: *dev });
                // Half a veth pair cannot stay.
                if let LinkKind::Veth { peer: Some(peer) } = &link.kind {
                    doom(peer);
                }
            }
        }
        Doomed(doomed)
    }

    fn contains(&self, ns: &NsName, dev: IfName) -> bool {
        self.of(ns).is_some_and(|devs| devs.contains(&dev))
    }

    fn of(&self, ns: &NsName) -> Option<&BTreeSet<IfName>> {
        self.0.get(ns)
    }

    /// One operation for each veth pair, and none for what goes with a namespace.
    ///
    /// A pair with one end in a namespace that stays is removed by name although the other end's
    /// namespace goes: the kernel empties a namespace some time after it was given up, and a new
    /// link may need the name at once.
    fn delete_links(&self, found: &NetState, wanted: &NetState, ops: &mut Vec<Op>) {
        for (ns, devs) in &self.0 {
            if !wanted.namespaces.contains_key(ns) {
                continue;
            }
            for dev in devs {
                let peer = match found.namespaces.get(ns).and_then(|have| have.links.get(dev)).map(|link| &link.kind) {
                    Some(LinkKind::Veth { peer }) => peer.as_ref(),
                    Some(_) => None,
                    // Named as a peer, but not there.
                    None => continue,
                };
                let with_its_peer = peer.is_some_and(|peer| {
                    (&peer.ns, peer.dev) < (ns, *dev)
                        && wanted.namespaces.contains_key(&peer.ns)
                        && self.contains(&peer.ns, peer.dev)
                        && found.namespaces.get(&peer.ns).is_some_and(|have| have.links.contains_key(&peer.dev))
                });
                if !with_its_peer {
                    let at = Endpoint { ns: ns.clone(), dev: *dev };
                    let is_lent = found.namespaces.get(ns).is_some_and(|have| is_lent(have, *dev));
                    ops.push(if is_lent { Op::ReturnLink(at) } else { Op::DelLink(at) });
                }
            }
        }
        // The machine's own do not end with a namespace.
        for (ns, have) in found.namespaces.iter().filter(|(ns, _)| !wanted.namespaces.contains_key(*ns)) {
            let lent = have.links.keys().filter(|dev| is_lent(have, **dev));
            ops.extend(lent.map(|dev| Op::ReturnLink(Endpoint { ns: ns.clone(), dev: *dev })));
        }
    }
}

/// Is it an interface of the machine?
fn is_lent(have: &NsState, dev: IfName) -> bool {
    have.links.get(&dev).is_some_and(|link| link.kind == LinkKind::Lent)
}

/// Does the other end of a veth pair, too, know of this one?
fn is_whole(found: &NetState, ns: &NsName, dev: IfName, link: &Link) -> bool {
    let LinkKind::Veth { peer: Some(peer) } = &link.kind else { return true };
    let far = found.namespaces.get(&peer.ns).and_then(|there| there.links.get(&peer.dev));
    far.is_some_and(|far| matches!(&far.kind, LinkKind::Veth { peer: Some(back) } if back.ns == *ns && back.dev == dev))
}

fn remove_routes(ns: &NsName, have: &NsState, want: &NsState, doomed: &Doomed, ops: &mut Vec<Op>) {
    for (key, route) in &have.routes {
        let mut hops = route.next_hops().iter();
        // Of a route of IPv6 the next hops by other interfaces stay.
        let goes_with_its_link = match key.family() {
            Family::Ipv4 => hops.any(|hop| doomed.contains(ns, hop.dev)),
            Family::Ipv6 => !route.next_hops().is_empty() && hops.all(|hop| doomed.contains(ns, hop.dev)),
        };
        if !goes_with_its_link && !want.routes.contains_key(key) {
            ops.push(Op::DelRoute { ns: ns.clone(), key: key.clone() });
        }
    }
}

fn remove_neighbours(ns: &NsName, have: &NsState, want: &NsState, doomed: &Doomed, ops: &mut Vec<Op>) {
    for (dev, addr) in have.neighbours.keys() {
        if !doomed.contains(ns, *dev) && !want.neighbours.contains_key(&(*dev, *addr)) {
            ops.push(Op::DelNeigh { at: Endpoint { ns: ns.clone(), dev: *dev }, addr: *addr });
        }
    }
}

/// Addresses, and second names: what another interface may be waiting for.
fn remove_addresses(ns: &NsName, have: &NsState, want: &NsState, doomed: &Doomed, ops: &mut Vec<Op>) {
    for (dev, link) in &have.links {
        if doomed.contains(ns, *dev) {
            continue;
        }
        let want = want.links.get(dev);
        let at = || Endpoint { ns: ns.clone(), dev: *dev };
        for addr in &link.addresses {
            if !want.is_some_and(|want| want.addresses.contains(addr)) {
                ops.push(Op::DelAddr { at: at(), addr: *addr });
            }
        }
        for name in &link.alt_names {
            if !want.is_some_and(|want| want.alt_names.contains(name)) {
                ops.push(Op::DelAltName { at: at(), name: name.clone() });
            }
        }
    }
}

/// A wanted namespace and what is left of it once the removals are done.
struct Side<'a> {
    ns: &'a NsName,
    have: Option<&'a NsState>,
    want: &'a NsState,
    doomed: Option<&'a BTreeSet<IfName>>,
}

impl<'a> Side<'a> {
    fn new(ns: &'a NsName, have: Option<&'a NsState>, want: &'a NsState, doomed: &'a Doomed) -> Self {
        Side { ns, have, want, doomed: doomed.of(ns) }
    }

    fn at(&self, dev: IfName) -> Endpoint {
        Endpoint { ns: self.ns.clone(), dev }
    }

    fn is_doomed(&self, dev: IfName) -> bool {
        self.doomed.is_some_and(|devs| devs.contains(&dev))
    }

    /// The interface, if it was there and stays. `lo` of a new namespace is there, down.
    fn have_link(&self, dev: IfName) -> Option<&'a Link> {
        self.have.and_then(|have| have.links.get(&dev)).filter(|_| !self.is_doomed(dev))
    }

    /// Sets those that are picked.
    fn set_sysctls(&self, pick: impl Fn(&SysctlKey) -> bool, ops: &mut Vec<Op>) {
        for (key, value) in self.want.sysctls.iter().filter(|(key, _)| pick(key)) {
            let goes = key.interface().and_then(|name| name.parse().ok()).is_some_and(|dev| self.is_doomed(dev));
            let reset = goes || (self.switches_ipv4() && *key == Ipv4Setting::ACCEPT_REDIRECTS.key(ConfOf::All));
            let have = self.have.and_then(|have| have.sysctls.get(key)).filter(|_| !reset);
            if have != Some(value) {
                ops.push(Op::SetSysctl { ns: self.ns.clone(), key: key.clone(), value: value.clone() });
            }
        }
    }

    /// Is forwarding of IPv4 about to change? Then the kernel sets whether redirects are accepted.
    fn switches_ipv4(&self) -> bool {
        let of = |state: &NsState| state.sysctls.get(&SysctlKey::IPV4_FORWARD).cloned();
        self.have.is_some_and(|have| of(have) != of(self.want))
    }

    /// Sets back what somebody has set, and the file leaves to the kernel.
    fn set_back_sysctls(&self, ops: &mut Vec<Op>) {
        let found = self.have.into_iter().flat_map(|have| &have.sysctls);
        for (key, value) in found.filter(|(key, _)| !self.want.sysctls.contains_key(key)) {
            if let Some(own) = Ipv4Setting::value_of(key).map(|own| own.to_string()).filter(|own| own != value) {
                ops.push(Op::SetSysctl { ns: self.ns.clone(), key: key.clone(), value: own });
            }
        }
    }

    fn add_bridges(&self, ops: &mut Vec<Op>) {
        for (dev, link) in &self.want.links {
            if link.kind == LinkKind::Bridge && self.have_link(*dev).is_none() {
                ops.push(Op::AddBridge(self.at(*dev)));
            }
        }
    }

    /// Each pair once, from the end that comes first.
    fn add_veths(&self, wanted: &NetState, ops: &mut Vec<Op>) {
        for (dev, link) in &self.want.links {
            let LinkKind::Veth { peer: Some(peer) } = &link.kind else { continue };
            if self.have_link(*dev).is_some() || (&peer.ns, peer.dev) < (self.ns, *dev) {
                continue;
            }
            let Some(far) = wanted.namespaces.get(&peer.ns).and_then(|ns| ns.links.get(&peer.dev)) else { continue };
            let end = |at, link: &Link| VethEnd { at, mac: link.mac, mtu: link.mtu.filter(|&mtu| mtu != Mtu::DEFAULT) };
            ops.push(Op::AddVeth { a: end(self.at(*dev), link), b: end(peer.clone(), far) });
        }
    }

    fn take_lent(&self, ops: &mut Vec<Op>) {
        for (dev, link) in &self.want.links {
            if link.kind == LinkKind::Lent && self.have_link(*dev).is_none() {
                ops.push(Op::TakeLink(self.at(*dev)));
            }
        }
    }

    /// Everything inside the namespace, from the interfaces outwards.
    fn set_up(&self, ops: &mut Vec<Op>) {
        self.set_nat(ops);
        let mut lost = Vec::new();
        for (dev, want) in &self.want.links {
            self.set_link(*dev, want, &mut lost, ops);
        }
        let first = ops.len();
        self.set_link_states(&mut lost, ops);
        // `lo` first, as a person would.
        if let Some(at) = ops[first..].iter().position(|op| matches!(op, Op::SetUp { at, .. } if at.dev == IfName::LO))
        {
            ops[first..=first + at].rotate_right(1);
        }
        // An interface for which IPv6 is off takes no address of it.
        self.take_ipv6(ops);
        self.set_sysctls(|key| key.interface().is_some() && key.is_disable_ipv6(), ops);
        self.add_addresses(&mut lost, ops);
        self.set_sysctls(|key| key.interface().is_some() && !key.is_disable_ipv6(), ops);
        self.set_neighbours(&lost, ops);
        self.set_routes(&lost, ops);
    }

    /// Turns IPv6 on where somebody has turned it off, and the file does not say so.
    fn take_ipv6(&self, ops: &mut Vec<Op>) {
        for (dev, _) in self.want.links.iter().filter(|(_, want)| want.has_ipv6()) {
            let key = SysctlKey::disable_ipv6(*dev);
            let is_off = self.have.and_then(|have| have.sysctls.get(&key)).is_some_and(|value| value == "1");
            if is_off && !self.is_doomed(*dev) && !self.want.sysctls.contains_key(&key) {
                ops.push(Op::SetSysctl { ns: self.ns.clone(), key, value: "0".to_owned() });
            }
        }
    }

    /// Before the first packet: a connection that began without it goes on without it.
    fn set_nat(&self, ops: &mut Vec<Op>) {
        let have = self.have.and_then(|have| have.nat.as_ref());
        match &self.want.nat {
            want if want.as_ref() == have => {}
            Some(nat) => {
                ops.push(Op::SetNat { ns: self.ns.clone(), nat: nat.clone(), replace: have.is_some() });
            }
            None => ops.push(Op::DelNat(self.ns.clone())),
        }
    }

    fn set_link(&self, dev: IfName, want: &Link, lost: &mut Vec<Lost>, ops: &mut Vec<Op>) {
        let have = self.have_link(dev);
        for name in &want.alt_names {
            if !have.is_some_and(|have| have.alt_names.contains(name)) {
                ops.push(Op::AddAltName { at: self.at(dev), name: name.clone() });
            }
        }
        // A new veth is made with both.
        let is_new_veth = have.is_none() && matches!(want.kind, LinkKind::Veth { .. });
        if let Some(mac) = want.mac
            && !is_new_veth
            && have.and_then(|have| have.mac) != Some(mac)
        {
            ops.push(Op::SetMac { at: self.at(dev), mac });
        }
        if let Some(mtu) = want.mtu
            && !is_new_veth
            && have.and_then(|have| have.mtu) != Some(mtu)
        {
            ops.push(Op::SetMtu { at: self.at(dev), mtu });
            if mtu < Mtu::IPV6_MIN {
                lost.push(Lost { dev, family: Family::Ipv6 });
            }
        }
        let master = have.and_then(|have| have.master).filter(|bridge| !self.is_doomed(*bridge));
        if master != want.master {
            ops.push(Op::SetMaster { at: self.at(dev), master: want.master });
        }
    }

    fn set_link_states(&self, lost: &mut Vec<Lost>, ops: &mut Vec<Op>) {
        for (dev, want) in &self.want.links {
            let was_up = self.have_link(*dev).is_some_and(|have| have.up);
            if was_up != want.up {
                ops.push(Op::SetUp { at: self.at(*dev), up: want.up });
            }
            if was_up && !want.up {
                lost.extend(Family::BOTH.map(|family| Lost { dev: *dev, family }));
            }
        }
    }

    fn add_addresses(&self, lost: &mut Vec<Lost>, ops: &mut Vec<Op>) {
        for (dev, want) in &self.want.links {
            let have = self.have_link(*dev);
            let lost_ipv6 = lost.contains(&Lost { dev: *dev, family: Family::Ipv6 });
            for addr in &want.addresses {
                let there = have.is_some_and(|have| have.addresses.contains(addr));
                if !there || (lost_ipv6 && addr.addr().is_ipv6()) {
                    ops.push(Op::AddAddr { at: self.at(*dev), addr: *addr });
                }
            }
            // Without any IPv4 address, if only for a moment, the interface loses its routes.
            let is_ipv4 = |addr: &&hopyard_net::IpNet| addr.addr().is_ipv4();
            let had_ipv4 = have.is_some_and(|have| have.addresses.iter().any(|addr| is_ipv4(&addr)));
            let kept_ipv4 = have
                .is_some_and(|have| have.addresses.iter().filter(is_ipv4).any(|addr| want.addresses.contains(addr)));
            if had_ipv4 && !kept_ipv4 {
                lost.push(Lost { dev: *dev, family: Family::Ipv4 });
            }
        }
    }

    fn set_neighbours(&self, lost: &[Lost], ops: &mut Vec<Op>) {
        for ((dev, addr), mac) in &self.want.neighbours {
            let have = self.have.and_then(|have| have.neighbours.get(&(*dev, *addr)));
            let gone = self.is_doomed(*dev) || lost.contains(&Lost { dev: *dev, family: Family::of(*addr) });
            if have != Some(mac) || gone {
                ops.push(Op::SetNeigh { at: self.at(*dev), addr: *addr, mac: *mac });
            }
        }
    }

    /// First those without a gateway: the gateway of another may be reached through them.
    fn set_routes(&self, lost: &[Lost], ops: &mut Vec<Op>) {
        let have = |route: &Route| {
            let same = self.have.and_then(|have| have.routes.get(&route.key)) == Some(route);
            same && !self.is_lost(route, lost)
        };
        let missing: Vec<&Route> = self.want.routes.values().filter(|route| !have(route)).collect();
        let direct = |route: &&&Route| route.next_hops().iter().all(|hop| hop.via.is_none());
        let set = |route: &&Route| Op::SetRoute { ns: self.ns.clone(), route: (*route).clone() };
        ops.extend(missing.iter().filter(direct).map(set));
        ops.extend(missing.iter().filter(|route| !direct(route)).map(set));
    }

    /// Has a removal, or one of the steps so far, made the kernel throw the route away?
    fn is_lost(&self, route: &Route, lost: &[Lost]) -> bool {
        let family = route.key.family();
        let by_its_link = route
            .next_hops()
            .iter()
            .any(|hop| self.is_doomed(hop.dev) || lost.contains(&Lost { dev: hop.dev, family }));
        let by_its_source = || {
            route.src.is_some_and(|src| {
                // The address itself stayed where it was?
                !self.want.links.iter().any(|(dev, want)| {
                    let on = |link: &Link| {
                        link.addresses.iter().any(|addr| addr.addr() == src && want.addresses.contains(addr))
                    };
                    self.have_link(*dev).is_some_and(on)
                        && !(src.is_ipv6() && lost.contains(&Lost { dev: *dev, family: Family::Ipv6 }))
                })
            })
        };
        by_its_link || by_its_source()
    }
}

/// What the kernel has thrown away of an interface: addresses (IPv6), neighbours, routes.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Lost {
    dev: IfName,
    family: Family,
}
