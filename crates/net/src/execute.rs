//! What each operation means: the model of the kernel on which plans are proved.
//!
//! It refuses what the kernel would refuse, and it forgets what the kernel would throw away by
//! itself: the far end of a removed veth, the routes of an interface that goes down. Where the
//! kernel only *may* throw something away (one next hop of several), it is thrown away here, so
//! that a plan proved on the model puts it back; putting back what is there does no harm, for
//! routes and neighbours are replaced, never just added.

use std::net::IpAddr;

use ipnet::IpNet;
use thiserror::Error;

use crate::{
    Endpoint, Family, IfName, Link, LinkKind, Mtu, NetState, NextHop, NsName, NsState, Op, Route, RouteKind, VethEnd,
};

/// An operation that the kernel would refuse in this state.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{op}` would be refused: {why}")]
pub struct Refused {
    /// The operation.
    pub op: Box<Op>,
    /// What is missing or in the way.
    pub why: String,
}

/// What is missing or in the way, before it is known of which operation.
type Outcome = Result<(), String>;

impl NetState {
    /// Changes the state as the kernel would.
    ///
    /// # Errors
    /// What the kernel would say no to; the state is then as it was.
    pub fn execute(&mut self, op: &Op) -> Result<(), Refused> {
        self.apply(op).map_err(|why| Refused { op: Box::new(op.clone()), why })
    }

    fn apply(&mut self, op: &Op) -> Outcome {
        match op {
            Op::AddNs(ns) => self.add_ns(ns),
            Op::DelNs(ns) => self.del_ns(ns),
            Op::SetSysctl { ns, key, value } => {
                let state = self.ns_mut(ns)?;
                if let Some(name) = key.interface()
                    && !state.links.keys().any(|dev| dev.as_str() == name)
                {
                    return Err(format!("{ns} has no interface {name}"));
                }
                state.sysctls.insert(key.clone(), value.clone());
                Ok(())
            }
            Op::AddBridge(at) => {
                let state = self.ns_mut(&at.ns)?;
                state.name_is_free(at.dev.as_str())?;
                state.links.insert(at.dev, Link::new(LinkKind::Bridge));
                Ok(())
            }
            Op::AddVeth { a, b } => self.add_veth(a, b),
            Op::TakeLink(at) => {
                let state = self.ns_mut(&at.ns)?;
                state.name_is_free(at.dev.as_str())?;
                state.links.insert(at.dev, Link::new(LinkKind::Lent));
                Ok(())
            }
            Op::ReturnLink(at) => match self.link_mut(at)?.kind {
                LinkKind::Lent => {
                    self.forget_link(at);
                    Ok(())
                }
                _ => Err(format!("{at} is none of the machine's")),
            },
            Op::DelLink(at) => self.del_link(at),
            Op::AddAltName { at, name } => {
                let state = self.ns_mut(&at.ns)?;
                state.name_is_free(name.as_str())?;
                state.link_mut(at)?.alt_names.insert(name.clone());
                Ok(())
            }
            Op::DelAltName { at, name } => {
                if self.link_mut(at)?.alt_names.remove(name) {
                    Ok(())
                } else {
                    Err(format!("{at} is not named {name}"))
                }
            }
            Op::SetMac { at, mac } => {
                let link = self.link_mut(at)?;
                if link.kind == LinkKind::Loopback {
                    return Err("lo has no Ethernet address to set".to_owned());
                }
                link.mac = Some(*mac);
                Ok(())
            }
            Op::SetMtu { at, mtu } => {
                let state = self.ns_mut(&at.ns)?;
                state.link_mut(at)?.mtu = Some(*mtu);
                if *mtu < Mtu::IPV6_MIN {
                    // addrconf_notify(): below 1280 the interface is none for IPv6.
                    state.forget_ipv6_addresses(at.dev);
                    state.forget_routes(at.dev, Some(Family::Ipv6));
                    state.neighbours.retain(|(dev, addr), _| *dev != at.dev || addr.is_ipv4());
                }
                Ok(())
            }
            Op::SetMaster { at, master } => self.ns_mut(&at.ns)?.set_master(at, *master),
            Op::SetUp { at, up } => {
                let state = self.ns_mut(&at.ns)?;
                state.link_mut(at)?.up = *up;
                if !*up {
                    state.forget_ipv6_addresses(at.dev);
                    state.forget_routes(at.dev, None);
                    state.neighbours.retain(|(dev, _), _| *dev != at.dev);
                }
                Ok(())
            }
            Op::AddAddr { at, addr } => add_addr(self.link_mut(at)?, at, *addr),
            Op::DelAddr { at, addr } => self.ns_mut(&at.ns)?.del_addr(at, *addr),
            Op::SetRoute { ns, route } => {
                let state = self.ns_mut(ns)?;
                state.takes_route(route)?;
                state.routes.insert(route.key.clone(), route.clone());
                Ok(())
            }
            Op::DelRoute { ns, key } => match self.ns_mut(ns)?.routes.remove(key) {
                Some(_) => Ok(()),
                None => Err(format!("{ns} has no route to {key}")),
            },
            Op::SetNeigh { at, addr, mac } => {
                let state = self.ns_mut(&at.ns)?;
                state.link_mut(at)?;
                state.neighbours.insert((at.dev, *addr), *mac);
                Ok(())
            }
            Op::DelNeigh { at, addr } => match self.ns_mut(&at.ns)?.neighbours.remove(&(at.dev, *addr)) {
                Some(_) => Ok(()),
                None => Err(format!("{at} has no neighbour {addr}")),
            },
            Op::SetNat { ns, nat, replace } => {
                let state = self.ns_mut(ns)?;
                if state.nat.is_some() != *replace {
                    let is = if *replace { "no" } else { "a" };
                    return Err(format!("{ns} has {is} table that translates addresses"));
                }
                state.nat = Some(nat.clone());
                Ok(())
            }
            Op::DelNat(ns) => match self.ns_mut(ns)?.nat.take() {
                Some(_) => Ok(()),
                None => Err(format!("{ns} translates no addresses")),
            },
        }
    }

    fn ns_mut(&mut self, ns: &NsName) -> Result<&mut NsState, String> {
        self.namespaces.get_mut(ns).ok_or_else(|| format!("there is no namespace {ns}"))
    }

    fn link_mut(&mut self, at: &Endpoint) -> Result<&mut Link, String> {
        self.ns_mut(&at.ns)?.link_mut(at)
    }

    fn add_ns(&mut self, ns: &NsName) -> Outcome {
        if self.namespaces.contains_key(ns) {
            return Err(format!("namespace {ns} exists"));
        }
        self.namespaces.insert(ns.clone(), NsState::default());
        Ok(())
    }

    fn del_ns(&mut self, ns: &NsName) -> Outcome {
        let gone = self.namespaces.remove(ns).ok_or_else(|| format!("there is no namespace {ns}"))?;
        for link in gone.links.values() {
            if let LinkKind::Veth { peer: Some(peer) } = &link.kind {
                self.forget_link(peer);
            }
        }
        Ok(())
    }

    fn add_veth(&mut self, a: &VethEnd, b: &VethEnd) -> Outcome {
        if a.at == b.at {
            return Err("both ends have one name".to_owned());
        }
        for end in [a, b] {
            self.ns_mut(&end.at.ns)?.name_is_free(end.at.dev.as_str())?;
        }
        for (end, peer) in [(a, b), (b, a)] {
            let mut link = Link::new(LinkKind::Veth { peer: Some(peer.at.clone()) });
            link.mac = end.mac;
            link.mtu = Some(end.mtu.unwrap_or(Mtu::DEFAULT));
            self.ns_mut(&end.at.ns)?.links.insert(end.at.dev, link);
        }
        Ok(())
    }

    fn del_link(&mut self, at: &Endpoint) -> Outcome {
        let kind = self.link_mut(at)?.kind.clone();
        if kind == LinkKind::Loopback {
            return Err("lo cannot be removed".to_owned());
        }
        self.forget_link(at);
        if let LinkKind::Veth { peer: Some(peer) } = kind {
            self.forget_link(&peer);
        }
        Ok(())
    }

    /// Removes an interface, where it is there, with everything that hangs on it.
    fn forget_link(&mut self, at: &Endpoint) {
        let Some(state) = self.namespaces.get_mut(&at.ns) else { return };
        if state.links.remove(&at.dev).is_none() {
            return;
        }
        state.forget_routes(at.dev, None);
        state.neighbours.retain(|(dev, _), _| *dev != at.dev);
        state.sysctls.retain(|key, _| key.interface().as_deref() != Some(at.dev.as_str()));
        for link in state.links.values_mut() {
            if link.master == Some(at.dev) {
                link.master = None;
            }
        }
    }
}

impl NsState {
    fn link_mut(&mut self, at: &Endpoint) -> Result<&mut Link, String> {
        self.links.get_mut(&at.dev).ok_or_else(|| format!("{} has no interface {}", at.ns, at.dev))
    }

    /// Names and second names of interfaces share one space.
    fn name_is_free(&self, name: &str) -> Outcome {
        let taken = self
            .links
            .iter()
            .any(|(dev, link)| dev.as_str() == name || link.alt_names.iter().any(|alt| alt.as_str() == name));
        if taken { Err(format!("an interface {name} exists")) } else { Ok(()) }
    }

    fn set_master(&mut self, at: &Endpoint, master: Option<IfName>) -> Outcome {
        if let Some(bridge) = master {
            match self.links.get(&bridge) {
                Some(Link { kind: LinkKind::Bridge, .. }) => {}
                Some(_) => return Err(format!("{bridge} is no bridge")),
                None => return Err(format!("{} has no interface {bridge}", at.ns)),
            }
        }
        let link = self.link_mut(at)?;
        if matches!(link.kind, LinkKind::Loopback | LinkKind::Bridge) {
            return Err(format!("{at} cannot be a port of a bridge"));
        }
        link.master = master;
        Ok(())
    }

    fn del_addr(&mut self, at: &Endpoint, addr: IpNet) -> Outcome {
        let link = self.link_mut(at)?;
        if !link.addresses.remove(&addr) {
            return Err(format!("{at} has no address {addr}"));
        }
        let last_ipv4 = addr.addr().is_ipv4() && !link.addresses.iter().any(|left| left.addr().is_ipv4());
        if last_ipv4 {
            // fib_inetaddr_event(): without its last address the interface is none for IPv4.
            self.forget_routes(at.dev, Some(Family::Ipv4));
        }
        let still_there = self.links.values().any(|l| l.addresses.iter().any(|left| left.addr() == addr.addr()));
        if !still_there {
            self.routes.retain(|_, route| route.src != Some(addr.addr()));
        }
        Ok(())
    }

    fn forget_ipv6_addresses(&mut self, dev: IfName) {
        if let Some(link) = self.links.get_mut(&dev) {
            link.addresses.retain(|addr| addr.addr().is_ipv4());
        }
    }

    /// Drops the routes that use an interface, of one family or of both. Of a route of IPv6 with several next hops the others
    /// stay (`fib6_ifdown()` of Linux), one of IPv4 goes as a whole (`fib_sync_down_dev()`).
    fn forget_routes(&mut self, dev: IfName, family: Option<Family>) {
        self.routes.retain(|key, route| {
            if family.is_some_and(|family| family != key.family()) {
                return true;
            }
            match &mut route.kind {
                RouteKind::Unicast(hops) if key.family() == Family::Ipv6 => {
                    hops.retain(|hop| hop.dev != dev);
                    !hops.is_empty()
                }
                _ => !route.next_hops().iter().any(|hop| hop.dev == dev),
            }
        });
    }

    fn takes_route(&self, route: &Route) -> Outcome {
        if route.key.prefix != route.key.prefix.trunc() {
            return Err(format!("{} has bits beyond its length", route.key.prefix));
        }
        if let RouteKind::Unicast(hops) = &route.kind
            && hops.is_empty()
        {
            return Err("the route leads nowhere".to_owned());
        }
        for hop in route.next_hops() {
            self.takes_next_hop(route, hop)?;
        }
        match route.src {
            Some(src) if !self.has_address(src) => Err(format!("the node has no address {src}")),
            _ => Ok(()),
        }
    }

    fn takes_next_hop(&self, route: &Route, hop: &NextHop) -> Outcome {
        let Some(link) = self.links.get(&hop.dev) else {
            return Err(format!("there is no interface {}", hop.dev));
        };
        if !link.up {
            return Err(format!("{} is down", hop.dev));
        }
        let Some(via) = hop.via else { return Ok(()) };
        if Family::of(via) != route.key.family() {
            return Err(format!("{via} is of another family than the destination"));
        }
        if self.has_address(via) {
            return Err(format!("{via} is an address of the node itself"));
        }
        let link_local = matches!(via, IpAddr::V6(via) if via.is_unicast_link_local());
        let connected = || link.addresses.iter().any(|addr| addr.contains(&via));
        // Or another route says so, one without a gateway.
        let routed = || {
            self.routes.values().any(|other| {
                other.key.prefix.contains(&via)
                    && other.next_hops().iter().any(|onlink| onlink.via.is_none() && onlink.dev == hop.dev)
            })
        };
        if link_local || connected() || routed() {
            Ok(())
        } else {
            Err(format!("{via} cannot be reached directly on {}", hop.dev))
        }
    }

    fn has_address(&self, addr: IpAddr) -> bool {
        self.links.values().any(|link| link.addresses.iter().any(|own| own.addr() == addr))
    }
}

fn add_addr(link: &mut Link, at: &Endpoint, addr: IpNet) -> Outcome {
    if addr.addr().is_ipv6() {
        if link.mtu.is_some_and(|mtu| mtu < Mtu::IPV6_MIN) {
            return Err(format!("the MTU of {at} is below {}, too small for IPv6", Mtu::IPV6_MIN));
        }
        // One prefix length only; IPv4 takes the same address with several.
        if link.addresses.iter().any(|own| own.addr() == addr.addr()) {
            return Err(format!("{at} has the address {}", addr.addr()));
        }
    }
    if link.addresses.insert(addr) { Ok(()) } else { Err(format!("{at} has the address {addr}")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MacAddr, RouteKey, SysctlKey};

    fn ns(name: &str) -> NsName {
        name.parse().unwrap()
    }

    fn at(ns_name: &str, dev: &str) -> Endpoint {
        Endpoint { ns: ns(ns_name), dev: dev.parse().unwrap() }
    }

    fn end(ns: &str, dev: &str) -> VethEnd {
        VethEnd { at: at(ns, dev), mac: None, mtu: None }
    }

    fn addr(ns: &str, dev: &str, addr: &str) -> Op {
        Op::AddAddr { at: at(ns, dev), addr: addr.parse().unwrap() }
    }

    fn route(prefix: &str, via: Option<&str>, dev: &str) -> Op {
        let hop = NextHop { via: via.map(|via| via.parse().unwrap()), dev: dev.parse().unwrap(), weight: 1 };
        Op::SetRoute { ns: ns("a"), route: Route::unicast(prefix.parse().unwrap(), vec![hop]) }
    }

    /// `a:eth0 -- b:eth0`, both up, with addresses of both families.
    fn pair() -> NetState {
        let mut state = NetState::default();
        for op in [
            Op::AddNs(ns("a")),
            Op::AddNs(ns("b")),
            Op::AddVeth { a: end("a", "eth0"), b: end("b", "eth0") },
            Op::SetUp { at: at("a", "eth0"), up: true },
            Op::SetUp { at: at("b", "eth0"), up: true },
            addr("a", "eth0", "10.0.0.0/31"),
            addr("b", "eth0", "10.0.0.1/31"),
            addr("a", "eth0", "fd00::/127"),
            addr("b", "eth0", "fd00::1/127"),
        ] {
            state.execute(&op).unwrap();
        }
        state
    }

    #[track_caller]
    fn refused(state: &NetState, op: &Op, why: &str) {
        let mut after = state.clone();
        assert_eq!(after.execute(op).unwrap_err().why, why, "{op}");
        assert_eq!(&after, state, "a refused operation changed something: {op}");
    }

    #[test]
    fn what_the_kernel_refuses_is_refused() {
        let state = pair();
        refused(&state, &Op::AddNs(ns("a")), "namespace a exists");
        refused(&state, &Op::DelNs(ns("c")), "there is no namespace c");
        refused(&state, &Op::AddVeth { a: end("a", "eth1"), b: end("b", "eth0") }, "an interface eth0 exists");
        refused(&state, &Op::AddVeth { a: end("a", "x"), b: end("a", "x") }, "both ends have one name");
        refused(&state, &Op::DelLink(at("a", "lo")), "lo cannot be removed");
        refused(&state, &addr("a", "eth0", "10.0.0.0/31"), "a:eth0 has the address 10.0.0.0/31");
        refused(&state, &addr("a", "eth0", "fd00::/64"), "a:eth0 has the address fd00::");
        refused(&state, &route("0.0.0.0/0", Some("10.0.0.2"), "eth0"), "10.0.0.2 cannot be reached directly on eth0");
        refused(&state, &route("0.0.0.0/0", Some("10.0.0.0"), "eth0"), "10.0.0.0 is an address of the node itself");
        refused(
            &state,
            &route("0.0.0.0/0", Some("fd00::1"), "eth0"),
            "fd00::1 is of another family than the destination",
        );
        refused(&state, &route("0.0.0.0/0", None, "lo"), "lo is down");
        refused(&state, &Op::SetMaster { at: at("a", "eth0"), master: Some(IfName::LO) }, "lo is no bridge");
        let key: SysctlKey = "net.ipv4.conf.eth7.rp_filter".parse().unwrap();
        refused(&state, &Op::SetSysctl { ns: ns("a"), key, value: "1".into() }, "a has no interface eth7");
    }

    #[test]
    fn a_gateway_may_be_reached_through_a_route_without_one() {
        let mut state = pair();
        state.execute(&route("10.7.0.0/24", None, "eth0")).unwrap();
        state.execute(&route("0.0.0.0/0", Some("10.7.0.9"), "eth0")).unwrap();
    }

    #[test]
    fn a_veth_goes_with_its_peer_and_takes_its_routes_along() {
        for op in [Op::DelLink(at("b", "eth0")), Op::DelNs(ns("b"))] {
            let mut state = pair();
            state.execute(&route("0.0.0.0/0", Some("10.0.0.1"), "eth0")).unwrap();
            let mac = MacAddr::from_bytes([2, 0, 0, 0, 0, 1]);
            let neigh = Op::SetNeigh { at: at("a", "eth0"), addr: "10.0.0.1".parse().unwrap(), mac };
            state.execute(&neigh).unwrap();
            state.execute(&op).unwrap();
            assert_eq!(state.namespaces[&ns("a")], NsState::default(), "{op}");
        }
    }

    #[test]
    fn down_loses_routes_and_ipv6_addresses() {
        let mut state = pair();
        state.execute(&route("0.0.0.0/0", Some("10.0.0.1"), "eth0")).unwrap();
        state.execute(&Op::SetUp { at: at("a", "eth0"), up: false }).unwrap();
        let a = &state.namespaces[&ns("a")];
        assert!(a.routes.is_empty());
        let left: Vec<String> = a.links[&"eth0".parse().unwrap()].addresses.iter().map(ToString::to_string).collect();
        assert_eq!(left, ["10.0.0.0/31"]);
    }

    #[test]
    fn a_small_mtu_ends_ipv6() {
        let mut state = pair();
        state.execute(&route("::/0", Some("fd00::1"), "eth0")).unwrap();
        state.execute(&Op::SetMtu { at: at("a", "eth0"), mtu: 1279.try_into().unwrap() }).unwrap();
        assert!(state.namespaces[&ns("a")].routes.is_empty());
        refused(&state, &addr("a", "eth0", "fd00::/127"), "the MTU of a:eth0 is below 1280, too small for IPv6");
    }

    #[test]
    fn a_lost_address_takes_its_routes_along() {
        let mut state = pair();
        state.execute(&addr("a", "lo", "10.9.0.1/32")).unwrap();
        let Op::SetRoute { ns: node, mut route } = route("10.8.0.0/24", Some("10.0.0.1"), "eth0") else {
            unreachable!()
        };
        route.src = Some("10.9.0.1".parse().unwrap());
        state.execute(&Op::SetRoute { ns: node.clone(), route }).unwrap();
        state.execute(&Op::DelAddr { at: at("a", "lo"), addr: "10.9.0.1/32".parse().unwrap() }).unwrap();
        let key = RouteKey::main("10.8.0.0/24".parse().unwrap());
        refused(&state, &Op::DelRoute { ns: node, key }, "a has no route to 10.8.0.0/24");
    }
}
