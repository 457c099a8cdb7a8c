//! Operations as netlink requests.

use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

use hopyard_net::{AltName, Family, IfName, IpNet, MacAddr, NextHop, Route, RouteKey, RouteKind, VethEnd};
use netlink_packet_core::{DefaultNla, NLA_F_NESTED, NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressProtocol};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoBridge, InfoData, InfoKind, InfoVeth, LinkAttribute, LinkExtentMask,
    LinkFlags, LinkInfo, LinkMessage, Prop,
};
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState};
use netlink_packet_route::nsid::{NsidAttribute, NsidMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteNextHop, RouteNextHopFlags,
    RouteProtocol, RouteScope, RouteType, RouteVia,
};
use netlink_packet_route::rule::{RuleFlags, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::links::IfIndex;

/// A request and the flags that it goes with.
pub(crate) type Request = (RouteNetlinkMessage, u16);

const NEW: u16 = NLM_F_CREATE | NLM_F_EXCL;
const PUT: u16 = NLM_F_CREATE | NLM_F_REPLACE;

/// The priority that the kernel gives an IPv6 route that asks for none (`IP6_RT_PRIO_USER`).
pub(crate) const IPV6_DEFAULT_METRIC: u32 = 1024;

/// One end of a new veth pair, with the index that it is to have.
pub(crate) struct NewEnd<'a> {
    pub(crate) end: &'a VethEnd,
    pub(crate) index: IfIndex,
    pub(crate) mac: MacAddr,
}

/// A veth pair, made in place: nothing is moved or renamed afterwards. Sent in the namespace of `a`.
///
/// One queue each way, for the default of one per processor costs time and memory and gains a veth
/// nothing; the index is preset, so that nobody has to ask for it.
pub(crate) fn add_veth(a: &NewEnd<'_>, b: &NewEnd<'_>, namespace_of_b: BorrowedFd<'_>) -> Request {
    let mut peer = new_end(b);
    peer.attributes.push(LinkAttribute::NetNsFd(namespace_of_b.as_raw_fd()));
    let mut message = new_end(a);
    message.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Veth),
        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
    ]));
    (RouteNetlinkMessage::NewLink(message), NEW)
}

fn new_end(NewEnd { end, index, mac }: &NewEnd<'_>) -> LinkMessage {
    let mut message = link(*index);
    let attributes = &mut message.attributes;
    attributes.reserve(7);
    attributes.push(LinkAttribute::IfName(end.at.dev.as_str().to_owned()));
    attributes.push(LinkAttribute::NumTxQueues(1));
    attributes.push(LinkAttribute::NumRxQueues(1));
    attributes.push(LinkAttribute::Address(mac.bytes().to_vec()));
    attributes.extend(end.mtu.map(|mtu| LinkAttribute::Mtu(mtu.get())));
    message
}

/// A bridge, down. Snooping is off from the start: switching it off afterwards costs more, and a lab
/// has no use for its timers.
pub(crate) fn add_bridge(dev: IfName, index: IfIndex) -> Request {
    let mut message = link(index);
    message.attributes = vec![
        LinkAttribute::IfName(dev.as_str().to_owned()),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Bridge),
            LinkInfo::Data(InfoData::Bridge(vec![InfoBridge::MulticastSnooping(false)])),
        ]),
    ];
    (RouteNetlinkMessage::NewLink(message), NEW)
}

pub(crate) fn del_link(index: IfIndex) -> Request {
    (RouteNetlinkMessage::DelLink(link(index)), 0)
}

pub(crate) fn set_group(index: IfIndex, group: u32) -> Request {
    set_link(index, LinkAttribute::Group(group))
}

/// Removes all interfaces of a group at once, which takes as long as one of them does.
pub(crate) fn del_group(group: u32) -> Request {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::Group(group));
    (RouteNetlinkMessage::DelLink(message), 0)
}

pub(crate) fn add_alt_name(index: IfIndex, name: &AltName) -> Request {
    (RouteNetlinkMessage::NewLinkProp(alt_name(index, name)), NEW | NLM_F_APPEND)
}

pub(crate) fn del_alt_name(index: IfIndex, name: &AltName) -> Request {
    (RouteNetlinkMessage::DelLinkProp(alt_name(index, name)), 0)
}

fn alt_name(index: IfIndex, name: &AltName) -> LinkMessage {
    let mut message = link(index);
    message.attributes.push(LinkAttribute::PropList(vec![Prop::AltIfName(name.as_str().to_owned())]));
    message
}

pub(crate) fn set_mac(index: IfIndex, mac: MacAddr) -> Request {
    set_link(index, LinkAttribute::Address(mac.bytes().to_vec()))
}

pub(crate) fn set_mtu(index: IfIndex, mtu: u32) -> Request {
    set_link(index, LinkAttribute::Mtu(mtu))
}

/// `None`: of no bridge.
pub(crate) fn set_master(index: IfIndex, master: Option<IfIndex>) -> Request {
    set_link(index, LinkAttribute::Controller(master.unwrap_or(0)))
}

pub(crate) fn set_up(index: IfIndex, up: bool) -> Request {
    let mut message = link(index);
    message.header.flags = if up { LinkFlags::Up } else { LinkFlags::empty() };
    message.header.change_mask = LinkFlags::Up;
    (RouteNetlinkMessage::SetLink(message), 0)
}

/// To another namespace.
pub(crate) fn move_link(index: IfIndex, to: BorrowedFd<'_>) -> Request {
    set_link(index, LinkAttribute::NetNsFd(to.as_raw_fd()))
}

pub(crate) fn rename_link(index: IfIndex, to: IfName) -> Request {
    set_link(index, LinkAttribute::IfName(to.as_str().to_owned()))
}

/// An address as the kernel has shown it, on an interface that has lost it. One that was found to be nobody
/// else's is usable at once.
pub(crate) fn add_again(shown: &AddressMessage, index: IfIndex) -> Request {
    let mut message = shown.clone();
    message.header.index = index;
    for attribute in &mut message.attributes {
        if let AddressAttribute::Flags(flags) = attribute {
            let checked = !flags.intersects(AddressFlags::Tentative | AddressFlags::Dadfailed);
            flags.remove(AddressFlags::Tentative | AddressFlags::Dadfailed | AddressFlags::Deprecated);
            flags.set(AddressFlags::Nodad, checked && message.header.family == AddressFamily::Inet6);
        }
    }
    (RouteNetlinkMessage::NewAddress(message), NEW)
}

/// A route as the kernel has shown it, over an interface that has lost it. `hops`: what becomes of the next hops of several,
/// by the number of their interface; `None`: such a one is left out.
pub(crate) fn set_again(shown: &RouteMessage, index: IfIndex, hops: impl Fn(IfIndex) -> Option<IfIndex>) -> Request {
    /// Of the clock in which the kernel shows times (`USER_HZ`).
    const TICKS: u32 = 100;
    let mut message = shown.clone();
    // The others say how it was doing.
    message.header.flags &= RouteFlags::Onlink;
    let mut left = None;
    // The object by which it went, if it went by one, is gone with the interface; the way itself is shown beside it.
    message.attributes.retain(|attribute| match attribute {
        RouteAttribute::CacheInfo(info) => {
            left = Some(info.expires).filter(|ticks| *ticks != 0);
            false
        }
        RouteAttribute::NhId(_) => false,
        _ => true,
    });
    message.attributes.extend(left.map(|ticks| RouteAttribute::Expires(ticks.div_ceil(TICKS))));
    let is_plain = !message
        .attributes
        .iter()
        .any(|part| matches!(part, RouteAttribute::Gateway(_) | RouteAttribute::Via(_) | RouteAttribute::MultiPath(_)));
    for attribute in &mut message.attributes {
        match attribute {
            RouteAttribute::Oif(oif) => *oif = index,
            RouteAttribute::MultiPath(all) => {
                all.retain_mut(|hop| hops(hop.interface_index).inspect(|it| hop.interface_index = *it).is_some());
                for hop in all {
                    hop.flags &= RouteNextHopFlags::Onlink;
                }
            }
            _ => {}
        }
    }
    // Behind those that are there. Of IPv6 one with a next hop would become a part of another one.
    let is_ipv4 = message.header.address_family == AddressFamily::Inet;
    (RouteNetlinkMessage::NewRoute(message), if is_ipv4 || is_plain { NLM_F_CREATE | NLM_F_APPEND } else { NEW })
}

/// The same, as further ways of a route that is there.
pub(crate) fn join_again(shown: &RouteMessage, index: IfIndex, hops: impl Fn(IfIndex) -> Option<IfIndex>) -> Request {
    (set_again(shown, index, hops).0, NLM_F_CREATE | NLM_F_APPEND)
}

/// Takes away what [`set_again`] has set.
pub(crate) fn unset(set: Request) -> Option<Request> {
    let RouteNetlinkMessage::NewRoute(message) = set.0 else { return None };
    Some((RouteNetlinkMessage::DelRoute(message), 0))
}

/// One for whom the namespace answers, as the kernel has shown it.
pub(crate) fn add_proxied_again(shown: &NeighbourMessage, index: IfIndex) -> Request {
    let mut message = shown.clone();
    message.header.ifindex = index;
    message.header.state = NeighbourState::None;
    message
        .attributes
        .retain(|part| matches!(part, NeighbourAttribute::Destination(_) | NeighbourAttribute::Protocol(_)));
    (RouteNetlinkMessage::NewNeighbour(message), PUT)
}

/// The end of the addresses that it takes from routers.
pub(crate) fn set_token(index: IfIndex, token: Ipv6Addr) -> Request {
    let ipv6 = AfSpecUnspec::Inet6(vec![AfSpecInet6::Token(token)]);
    set_link(index, LinkAttribute::AfSpecUnspec(vec![ipv6]))
}

/// A policy rule as the kernel has shown it.
pub(crate) fn add_rule_again(shown: &RuleMessage) -> Request {
    (RouteNetlinkMessage::NewRule(as_typed(shown)), NEW)
}

/// Takes away a policy rule that the kernel has shown.
pub(crate) fn del_rule(shown: &RuleMessage) -> Request {
    (RouteNetlinkMessage::DelRule(as_typed(shown)), 0)
}

/// Without what says how the rule was doing.
fn as_typed(shown: &RuleMessage) -> RuleMessage {
    let mut message = shown.clone();
    message.header.flags &= RuleFlags::Invert;
    message
}

/// The kernel shall give the interface no link-local address, and so send nothing of its own accord:
/// no duplicate address detection, no reports of groups, no search for routers.
pub(crate) fn no_link_local(index: IfIndex) -> Request {
    let ipv6 = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)]);
    set_link(index, LinkAttribute::AfSpecUnspec(vec![ipv6]))
}

/// `net.ipv4.conf.DEV.promote_secondaries`.
pub(crate) fn set_promote_secondaries(index: IfIndex, on: bool) -> Request {
    const IPV4_DEVCONF_PROMOTE_SECONDARIES: u16 = 20;
    set_ipv4_conf(index, &[(IPV4_DEVCONF_PROMOTE_SECONDARIES, i32::from(on))])
}

/// What stands by families in the message of an interface (`linux/if_link.h`).
pub(crate) const IFLA_AF_SPEC: u16 = 26;
/// There, of IPv4, its `net.ipv4.conf`.
pub(crate) const IFLA_INET_CONF: u16 = 1;

/// `net.ipv4.conf.DEV`, each setting by its number (`linux/ip.h`), without a visit to the namespace's `/proc`.
pub(crate) fn set_ipv4_conf(index: IfIndex, settings: &[(u16, i32)]) -> Request {
    const AF_INET: u16 = 2;
    // By hand, for the codec leaves zeroes out.
    let attribute = |kind: u16, value: &[u8]| {
        let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
        [&length.to_ne_bytes(), &kind.to_ne_bytes(), value].concat()
    };
    let mut nested: Vec<u8> =
        settings.iter().flat_map(|(number, value)| attribute(*number, &value.to_ne_bytes())).collect();
    for kind in [IFLA_INET_CONF | NLA_F_NESTED, AF_INET | NLA_F_NESTED] {
        nested = attribute(kind, &nested);
    }
    set_link(index, LinkAttribute::Other(DefaultNla::new(IFLA_AF_SPEC | NLA_F_NESTED, nested)))
}

pub(crate) fn add_addr(index: IfIndex, addr: IpNet) -> Request {
    let mut message = address(index, addr);
    if addr.addr().is_ipv6() {
        // Usable at once: nobody else can have it, and a lab cannot wait a second for each address.
        message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad | AddressFlags::Permanent));
    }
    (RouteNetlinkMessage::NewAddress(message), NEW)
}

/// The link-local address that the kernel would give the interface when it gets its carrier, given
/// now, and usable at once. The kernel then finds that it is there already.
///
/// Its own would be tentative for a second or two, and a router without a link-local address cannot
/// ask for its neighbours (RFC 4861, section 7.2.2): it would drop what it should forward.
pub(crate) fn add_link_local(index: IfIndex, mac: MacAddr) -> Option<Request> {
    let addr = IpNet::new(link_local(mac).into(), 64).ok()?;
    let mut message = address(index, addr);
    message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad | AddressFlags::Permanent));
    message.attributes.push(AddressAttribute::Protocol(AddressProtocol::LinkLocal));
    Some((RouteNetlinkMessage::NewAddress(message), NEW))
}

pub(crate) fn del_link_local(index: IfIndex, mac: MacAddr) -> Option<Request> {
    Some(del_addr(index, IpNet::new(link_local(mac).into(), 64).ok()?))
}

/// The address that an Ethernet address makes (RFC 4291, appendix A).
pub(crate) fn link_local(mac: MacAddr) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.bytes();
    [0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f].into()
}

pub(crate) fn del_addr(index: IfIndex, addr: IpNet) -> Request {
    (RouteNetlinkMessage::DelAddress(address(index, addr)), 0)
}

fn address(index: IfIndex, addr: IpNet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(Family::of(addr.addr()));
    message.header.prefix_len = addr.prefix_len();
    message.header.index = index;
    message.attributes.reserve(3);
    message.attributes.push(AddressAttribute::Local(addr.addr()));
    message.attributes.push(AddressAttribute::Address(addr.addr()));
    message
}

pub(crate) fn set_neigh(index: IfIndex, addr: IpAddr, mac: MacAddr) -> Request {
    let mut message = neighbour(index, addr);
    message.header.state = NeighbourState::Permanent;
    message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.bytes().to_vec()));
    (RouteNetlinkMessage::NewNeighbour(message), PUT)
}

pub(crate) fn del_neigh(index: IfIndex, addr: IpAddr) -> Request {
    (RouteNetlinkMessage::DelNeighbour(neighbour(index, addr)), 0)
}

fn neighbour(index: IfIndex, addr: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family(Family::of(addr));
    message.header.ifindex = index;
    message.attributes.push(NeighbourAttribute::Destination(addr.into()));
    message
}

/// `index` gives the index of an interface; an error of it is passed on.
pub(crate) fn set_route<E>(route: &Route, index: impl Fn(IfName) -> Result<IfIndex, E>) -> Result<Request, E> {
    let mut message = route_entry(&route.key);
    message.header.protocol = RouteProtocol::Static;
    message.header.kind = match route.kind {
        RouteKind::Unicast(_) => RouteType::Unicast,
        RouteKind::Blackhole => RouteType::BlackHole,
        RouteKind::Unreachable => RouteType::Unreachable,
        RouteKind::Prohibit => RouteType::Prohibit,
    };
    if route.key.metric != 0 {
        message.attributes.push(RouteAttribute::Priority(route.key.metric));
    }
    message.attributes.extend(route.src.map(|src| RouteAttribute::PrefSource(src.into())));
    if let Some(limit) = route.hop_limit {
        message.attributes.push(RouteAttribute::Metrics(vec![RouteMetric::Hoplimit(limit.into())]));
    }
    let own = route.key.family();
    match &route.kind {
        RouteKind::Unicast(hops) if hops.len() == 1 => {
            if hops[0].via.is_none() && own == Family::Ipv4 {
                // As ip-route(8) has it: what is on the link itself is reached in the scope of the link.
                message.header.scope = RouteScope::Link;
            }
            message.attributes.extend(via(&hops[0], own));
            message.attributes.push(RouteAttribute::Oif(index(hops[0].dev)?));
        }
        RouteKind::Unicast(hops) => {
            let hops: Result<Vec<_>, E> = hops
                .iter()
                .map(|hop| {
                    let mut next = RouteNextHop::default();
                    next.interface_index = index(hop.dev)?;
                    // The kernel counts weights from 0 to 255.
                    next.hops = u8::try_from(hop.weight.saturating_sub(1)).unwrap_or(u8::MAX);
                    next.attributes.extend(via(hop, own));
                    Ok(next)
                })
                .collect();
            message.attributes.push(RouteAttribute::MultiPath(hops?));
        }
        RouteKind::Blackhole | RouteKind::Unreachable | RouteKind::Prohibit => {}
    }
    Ok((RouteNetlinkMessage::NewRoute(message), PUT))
}

pub(crate) fn del_route(key: &RouteKey) -> Request {
    let mut message = route_entry(key);
    // Whatever its scope; that of the request is compared otherwise.
    message.header.scope = RouteScope::NoWhere;
    match (key.family(), key.metric) {
        // Without a metric any route to the prefix would do, even the one that an address brought.
        (Family::Ipv6, 0) => message.attributes.push(RouteAttribute::Priority(IPV6_DEFAULT_METRIC)),
        (_, 0) => {}
        (_, metric) => message.attributes.push(RouteAttribute::Priority(metric)),
    }
    (RouteNetlinkMessage::DelRoute(message), 0)
}

fn route_entry(key: &RouteKey) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(key.family());
    message.header.destination_prefix_length = key.prefix.prefix_len();
    message.attributes.reserve(4);
    match u8::try_from(key.table) {
        Ok(table) => message.header.table = table,
        Err(_) => message.attributes.push(RouteAttribute::Table(key.table)),
    }
    if !key.is_default() {
        message.attributes.push(RouteAttribute::Destination(key.prefix.network().into()));
    }
    message
}

fn via(hop: &NextHop, own: Family) -> Option<RouteAttribute> {
    hop.via.map(|via| match via {
        // RFC 5549: an IPv4 destination behind an IPv6 neighbour.
        IpAddr::V6(via) if own == Family::Ipv4 => RouteAttribute::Via(RouteVia::Inet6(via)),
        IpAddr::V4(via) if own == Family::Ipv6 => RouteAttribute::Via(RouteVia::Inet(via)),
        via => RouteAttribute::Gateway(via.into()),
    })
}

/// `ip route add local default dev lo`: a namespace that takes in whatever comes.
pub(crate) fn every_address_is_local(of: Family, lo: IfIndex) -> RouteNetlinkMessage {
    let mut message = route_entry(&RouteKey::main(of.default_prefix()));
    message.header.protocol = RouteProtocol::Static;
    message.header.kind = RouteType::Local;
    message.header.scope = RouteScope::Host;
    message.attributes.push(RouteAttribute::Oif(lo));
    RouteNetlinkMessage::NewRoute(message)
}

/// A dump of all interfaces, without their counters.
pub(crate) fn get_links() -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    RouteNetlinkMessage::GetLink(message)
}

/// One interface.
pub(crate) fn get_link(index: IfIndex) -> RouteNetlinkMessage {
    let mut message = link(index);
    message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    RouteNetlinkMessage::GetLink(message)
}

/// One interface of a namespace that the one of the socket knows by number.
pub(crate) fn get_link_elsewhere(namespace: i32, index: IfIndex) -> RouteNetlinkMessage {
    let mut message = link(index);
    message.attributes.push(LinkAttribute::IfNetnsId(namespace));
    message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    RouteNetlinkMessage::GetLink(message)
}

/// The number by which the namespace of the socket knows another one.
pub(crate) fn get_nsid(of: BorrowedFd<'_>) -> RouteNetlinkMessage {
    let mut message = NsidMessage::default();
    message.attributes.push(NsidAttribute::Fd(of.as_raw_fd().cast_unsigned()));
    RouteNetlinkMessage::GetNsId(message)
}

/// Gives a namespace a number by which the one of the socket knows it; `None`: one of the kernel's choice.
pub(crate) fn set_nsid(of: BorrowedFd<'_>, number: Option<i32>) -> Request {
    let mut message = NsidMessage::default();
    message.attributes.push(NsidAttribute::Fd(of.as_raw_fd().cast_unsigned()));
    message.attributes.push(NsidAttribute::Id(number.unwrap_or(-1)));
    (RouteNetlinkMessage::NewNsId(message), 0)
}

/// A dump of the addresses of a family, or of both.
pub(crate) fn get_addresses(of: Option<Family>) -> RouteNetlinkMessage {
    let mut message = AddressMessage::default();
    message.header.family = of.map_or(AddressFamily::Unspec, family);
    RouteNetlinkMessage::GetAddress(message)
}

/// A dump of all routes of a family.
pub(crate) fn get_routes(of: Family) -> RouteNetlinkMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(of);
    RouteNetlinkMessage::GetRoute(message)
}

/// A dump of the policy rules of a family.
pub(crate) fn get_rules(of: Family) -> RouteNetlinkMessage {
    let mut message = RuleMessage::default();
    message.header.family = family(of);
    RouteNetlinkMessage::GetRule(message)
}

/// A packet about which a node's own routing is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RouteQuestion {
    pub(crate) from: Option<IpAddr>,
    pub(crate) to: IpAddr,
    /// Where it came in; `None`: it is the node's own.
    pub(crate) input: Option<IfIndex>,
    pub(crate) protocol: u8,
    /// Of it, and to it.
    pub(crate) ports: Option<(u16, u16)>,
    /// What a firewall has marked it with.
    pub(crate) mark: u32,
}

/// The route that a packet would take.
pub(crate) fn get_route_of(question: &RouteQuestion) -> RouteNetlinkMessage {
    let of = Family::of(question.to);
    let mut message = RouteMessage::default();
    message.header.address_family = family(of);
    let bits = if of == Family::Ipv4 { 32 } else { 128 };
    message.header.destination_prefix_length = bits;
    message.attributes.push(RouteAttribute::Destination(question.to.into()));
    if let Some(from) = question.from {
        message.header.source_prefix_length = bits;
        message.attributes.push(RouteAttribute::Source(from.into()));
    }
    message.attributes.extend(question.input.map(RouteAttribute::Iif));
    if question.mark != 0 {
        message.attributes.push(RouteAttribute::Mark(question.mark));
    }
    message.attributes.push(RouteAttribute::IpProto(question.protocol));
    if let Some((from, to)) = question.ports {
        message.attributes.push(RouteAttribute::Sport(from));
        message.attributes.push(RouteAttribute::Dport(to));
    }
    RouteNetlinkMessage::GetRoute(message)
}

/// The route that a packet to an address would take.
pub(crate) fn get_route_to(address: Ipv6Addr) -> RouteNetlinkMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet6;
    message.header.destination_prefix_length = 128;
    message.attributes.push(RouteAttribute::Destination(RouteAddress::Inet6(address)));
    RouteNetlinkMessage::GetRoute(message)
}

/// A dump of all neighbours.
pub(crate) fn get_neighbours() -> RouteNetlinkMessage {
    RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default())
}

/// A dump of the Ethernet addresses that the bridges of the namespace know.
pub(crate) fn get_macs_of_bridges() -> RouteNetlinkMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    RouteNetlinkMessage::GetNeighbour(message)
}

/// A dump of those for whom the namespace answers, which no other dump has.
pub(crate) fn get_proxied() -> RouteNetlinkMessage {
    let mut message = NeighbourMessage::default();
    message.header.flags = NeighbourFlags::Proxy;
    RouteNetlinkMessage::GetNeighbour(message)
}

fn set_link(index: IfIndex, attribute: LinkAttribute) -> Request {
    let mut message = link(index);
    message.attributes.push(attribute);
    (RouteNetlinkMessage::SetLink(message), 0)
}

fn link(index: IfIndex) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message
}

fn family(family: Family) -> AddressFamily {
    match family {
        Family::Ipv4 => AddressFamily::Inet,
        Family::Ipv6 => AddressFamily::Inet6,
    }
}
