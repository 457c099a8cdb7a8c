//! What the host's network has to give.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hopyard_kernel::{RouteAnswer, World};
use hopyard_net::{Family, FibAction, IfName, IpNet, LinkState, NodeState, NsName, RouteKey, RouteKind};

use crate::error::Error;

/// An address of the Internet, to be asked for and never sent to: the first one that is given out (RFC 4291, section 2.5.4).
const SOMEWHERE: Ipv6Addr = Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 1);
/// The same of IPv4. Nobody has one of these, or a route to them alone (RFC 5737).
const SOMEWHERE_BY_IPV4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const UDP: u8 = 17;
const DNS: u16 = 53;

/// The interfaces by which a host reaches others by IPv6: those of its default routes, and those that its kernel says lead
/// to the Internet (a VPN has other routes) and to its resolvers. Where there are none, those that have a public address.
pub(super) fn ipv6_devices(
    world: &mut World,
    host: &NsName,
    state: &NodeState,
    resolvers: &[IpAddr],
) -> Result<BTreeSet<IfName>, Error> {
    let mut devices: BTreeSet<IfName> = default_devices(state, Family::Ipv6).collect();
    let resolvers = resolvers.iter().copied().filter(IpAddr::is_ipv6);
    for to in resolvers.chain([SOMEWHERE.into()]) {
        let answer = world.ask_route(host, None, (None, to), UDP, Some((DNS, DNS)), 0)?;
        if let RouteAnswer::On { dev, .. } = answer {
            devices.insert(dev);
        }
    }
    if devices.is_empty() {
        let public = |link: &LinkState| {
            link.up && link.addresses.iter().any(|it| matches!(it.net.addr(), IpAddr::V6(addr) if is_public(addr)))
        };
        devices.extend(state.links.iter().filter(|(_, link)| public(link)).map(|(dev, _)| *dev));
    }
    devices.remove(&IfName::LO);
    Ok(devices)
}

/// Has a host a way to the Internet by IPv4, as its kernel sees it?
pub(super) fn leads_by_ipv4(world: &mut World, host: &NsName) -> Result<bool, Error> {
    let answer = world.ask_route(host, None, (None, SOMEWHERE_BY_IPV4.into()), UDP, Some((DNS, DNS)), 0)?;
    Ok(matches!(answer, RouteAnswer::On { dev, .. } if dev != IfName::LO))
}

/// The families that `pasta` can carry: those with a default route by an interface that has an address.
pub(super) fn carried(state: &NodeState) -> BTreeSet<Family> {
    let has_address = |dev: IfName, family: Family| {
        let addresses = state.links.get(&dev).into_iter().flat_map(|link| &link.addresses);
        let is_of = |addr: IpAddr| Family::of(addr) == family && !is_link_local(addr);
        addresses.into_iter().any(|it| !it.host_only && is_of(it.net.addr()))
    };
    let leads = |family: &Family| default_devices(state, *family).any(|dev| has_address(dev, *family));
    Family::BOTH.into_iter().filter(leads).collect()
}

/// The interfaces of the default routes of a family, as the table `main` has them, whoever has put them there.
fn default_devices(state: &NodeState, family: Family) -> impl Iterator<Item = IfName> {
    let leads = move |key: &RouteKey| key.table == RouteKey::MAIN && key.prefix == family.default_prefix();
    let hops = state.routes.iter().filter(move |route| leads(&route.key)).flat_map(|route| match &route.action {
        FibAction::Route(RouteKind::Unicast(hops)) => hops.as_slice(),
        _ => &[],
    });
    hops.map(|hop| hop.dev).filter(|dev| *dev != IfName::LO)
}

/// Is it one of those that are given out for the Internet (2000::/3)?
fn is_public(addr: Ipv6Addr) -> bool {
    addr.segments()[0] & 0xe000 == 0x2000
}

/// Is it one that means something on its link alone? Those of IPv4 do in theory; clouds have their resolvers there, and hosts
/// forward to them.
pub(super) fn is_link_local(addr: IpAddr) -> bool {
    matches!(addr, IpAddr::V6(addr) if addr.is_unicast_link_local())
}

/// The prefixes that a host uses.
pub(super) fn prefixes(state: &NodeState) -> impl Iterator<Item = IpNet> {
    let addresses = state.links.values().flat_map(|link| link.addresses.iter().map(|it| it.net.trunc()));
    addresses.chain(state.routes.iter().map(|route| route.key.prefix))
}
