//! Netlink messages as parts of a network's state.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use hopyard_net::{
    AltName, BridgeNf, Family, FibAction, FibRoute, IfName, IpNet, Ipv4Conf, MacAddr, Mtu, Neighbour, NextHop,
    PolicyRule, Route, RouteKey, RouteKind, RuleAction,
};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressProtocol, AddressScope};
use netlink_packet_route::link::{
    AfSpecInet, AfSpecUnspec, InfoBridge, InfoData, InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType,
    LinkMessage, Prop,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::nsid::NsidAttribute;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteProtocol, RouteType, RouteVia,
};
use netlink_packet_route::rule::{RuleAttribute, RuleFlags, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::encode::{IPV6_DEFAULT_METRIC, link_local};
use crate::links::IfIndex;

/// An interface as the kernel shows it.
#[derive(Clone, Debug)]
pub(crate) struct FoundLink {
    pub(crate) index: IfIndex,
    pub(crate) dev: IfName,
    pub(crate) kind: FoundKind,
    pub(crate) alt_names: BTreeSet<AltName>,
    pub(crate) mac: Option<MacAddr>,
    pub(crate) mtu: Option<Mtu>,
    pub(crate) master: Option<IfIndex>,
    pub(crate) up: bool,
    /// `net.ipv4.conf.DEV.promote_secondaries`.
    pub(crate) promotes_secondaries: bool,
    /// Is there a signal?
    pub(crate) carrier: bool,
    /// The MTU as it is, also beyond what an [`Mtu`] allows.
    pub(crate) mtu_bytes: u32,
    /// `net.ipv4.conf.DEV`, as far as it decides about packets.
    pub(crate) conf: Ipv4Conf,
    /// A bridge that looks at more than Ethernet addresses.
    pub(crate) beyond: Option<String>,
    /// A bridge whose frames the chains of IP see.
    pub(crate) bridge_nf: BridgeNf,
}

/// What an interface is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FoundKind {
    Loopback,
    /// Its other end: the index there, and the number by which its own namespace knows the other
    /// one. `None`: it is in the same namespace.
    Veth {
        peer: IfIndex,
        namespace: Option<i32>,
    },
    Bridge,
    Other(String),
}

impl FoundLink {
    /// Is it none that was made by a request, but a device of the machine? It may have a radio then.
    pub(crate) fn is_device(&self) -> bool {
        matches!(&self.kind, FoundKind::Other(kind) if kind == DEVICE)
    }
}

/// What has no kind.
const DEVICE: &str = "device";

/// An interface; `None`: the message is none, or of an interface that has a name which no request
/// can carry (a `%` in it).
pub(crate) fn link(message: &RouteNetlinkMessage) -> Option<FoundLink> {
    let RouteNetlinkMessage::NewLink(LinkMessage { header, attributes, .. }) = message else { return None };
    let mut dev = None;
    let mut kind = None;
    let mut peer = header.index;
    let mut namespace = None;
    let mut found = FoundLink {
        index: header.index,
        dev: IfName::LO,
        kind: FoundKind::Loopback,
        alt_names: BTreeSet::new(),
        mac: None,
        mtu: None,
        master: None,
        up: header.flags.contains(LinkFlags::Up),
        promotes_secondaries: false,
        carrier: header.flags.contains(LinkFlags::LowerUp),
        mtu_bytes: 0,
        conf: Ipv4Conf::default(),
        beyond: None,
        bridge_nf: BridgeNf::default(),
    };
    for attribute in attributes {
        match attribute {
            LinkAttribute::IfName(name) => dev = name.parse().ok(),
            LinkAttribute::Address(bytes) => found.mac = bytes.as_slice().try_into().ok().map(MacAddr::from_bytes),
            LinkAttribute::Mtu(bytes) => {
                found.mtu_bytes = *bytes;
                found.mtu = Mtu::try_from(*bytes).ok();
            }
            LinkAttribute::Carrier(signal) => found.carrier = *signal != 0,
            LinkAttribute::Controller(index) => found.master = Some(*index),
            LinkAttribute::Link(index) => peer = *index,
            LinkAttribute::LinkNetNsId(number) => namespace = Some(*number),
            LinkAttribute::LinkInfo(infos) => {
                kind = infos.iter().find_map(|info| match info {
                    LinkInfo::Kind(kind) => Some(kind),
                    _ => None,
                });
                found.beyond = infos.iter().find_map(bridge_beyond);
                found.bridge_nf = infos.iter().find_map(bridge_nf).unwrap_or_default();
            }
            LinkAttribute::PropList(properties) => {
                found.alt_names.extend(properties.iter().filter_map(|property| match property {
                    Prop::AltIfName(name) => name.parse().ok(),
                    _ => None,
                }));
            }
            LinkAttribute::AfSpecUnspec(families) => {
                let parts = families.iter().filter_map(|family| match family {
                    AfSpecUnspec::Inet(parts) => Some(parts),
                    _ => None,
                });
                for part in parts.flatten() {
                    let AfSpecInet::DevConf(conf) = part else { continue };
                    found.promotes_secondaries = conf.promote_secondaries != 0;
                    found.conf = Ipv4Conf {
                        forwarding: conf.forwarding != 0,
                        rp_filter: small(conf.rp_filter),
                        accept_local: conf.accept_local != 0,
                        arp_ignore: small(conf.arp_ignore),
                        proxy_arp: conf.proxy_arp != 0,
                        ignore_routes_with_linkdown: conf.ignore_routes_with_linkdown != 0,
                    };
                }
            }
            _ => {}
        }
    }
    found.dev = dev?;
    found.kind = match kind {
        Some(InfoKind::Veth) => FoundKind::Veth { peer, namespace },
        Some(InfoKind::Bridge) => FoundKind::Bridge,
        None if header.link_layer_type == LinkLayerType::Loopback => FoundKind::Loopback,
        Some(kind) => FoundKind::Other(kind.to_string()),
        None => FoundKind::Other(DEVICE.to_owned()),
    };
    Some(found)
}

/// The number of a namespace, if it has one.
pub(crate) fn nsid(message: &RouteNetlinkMessage) -> Option<i32> {
    let RouteNetlinkMessage::NewNsId(message) = message else { return None };
    message.attributes.iter().find_map(|attribute| match attribute {
        NsidAttribute::Id(number) if *number >= 0 => Some(*number),
        _ => None,
    })
}

/// A sysctl of few values.
pub(crate) fn small(value: i32) -> u8 {
    u8::try_from(value).unwrap_or(u8::MAX)
}

/// What decides in a bridge besides Ethernet addresses.
fn bridge_beyond(info: &LinkInfo) -> Option<String> {
    let LinkInfo::Data(InfoData::Bridge(parts)) = info else { return None };
    let filters = parts.iter().any(|part| matches!(part, InfoBridge::VlanFiltering(true)));
    filters.then(|| "the bridge filters VLANs".to_owned())
}

/// Does a bridge show its frames to the chains of IP, whatever the sysctls say?
fn bridge_nf(info: &LinkInfo) -> Option<BridgeNf> {
    let LinkInfo::Data(InfoData::Bridge(parts)) = info else { return None };
    let has = |is: fn(&InfoBridge) -> bool| parts.iter().any(is);
    Some(BridgeNf {
        ipv4: has(|part| matches!(part, InfoBridge::NfCallIpTables(true))),
        ipv6: has(|part| matches!(part, InfoBridge::NfCallIp6Tables(true))),
    })
}

/// An address as the kernel shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a mark of the kernel")]
pub(crate) struct FoundAddr {
    pub(crate) index: IfIndex,
    pub(crate) addr: IpNet,
    /// IPv4: it came after another one of the same network, and goes with it.
    pub(crate) secondary: bool,
    /// The kernel gave it by itself, or it was given for a time only.
    pub(crate) automatic: bool,
    /// It is not (any more) being checked for a duplicate.
    pub(crate) usable: bool,
    /// For this machine alone.
    pub(crate) host_only: bool,
}

/// An address, with the marks that tell whose it is.
pub(crate) fn address(message: &RouteNetlinkMessage) -> Option<FoundAddr> {
    let RouteNetlinkMessage::NewAddress(AddressMessage { header, attributes, .. }) = message else { return None };
    let mut local = None;
    let mut address = None;
    let mut origin = None;
    for attribute in attributes {
        match attribute {
            // With a peer, `Address` is the peer's.
            AddressAttribute::Local(addr) => local = Some(*addr),
            AddressAttribute::Address(addr) => address = Some(*addr),
            AddressAttribute::Protocol(protocol) => origin = Some(*protocol),
            _ => {}
        }
    }
    let addr = IpNet::new(local.or(address)?, header.prefix_len).ok()?;
    // These two flags are in the lower eight, which the header has.
    let has = |flag: AddressFlags| u32::from(header.flags.bits()) & flag.bits() != 0;
    let from_kernel = matches!(
        origin,
        Some(AddressProtocol::Loopback | AddressProtocol::LinkLocal | AddressProtocol::RouterAnnouncement)
    );
    Some(FoundAddr {
        index: header.index,
        addr,
        secondary: addr.addr().is_ipv4() && has(AddressFlags::Secondary),
        automatic: from_kernel || !has(AddressFlags::Permanent),
        usable: addr.addr().is_ipv4() || !has(AddressFlags::Tentative) && !has(AddressFlags::Dadfailed),
        host_only: header.scope == AddressScope::Host,
    })
}

/// Is it an address that an interface has without anybody having asked for it? On kernels before
/// 5.18 they carry no mark.
pub(crate) fn is_own_accord(addr: IpNet, loopback: bool, mac: Option<MacAddr>) -> bool {
    match addr.addr() {
        IpAddr::V4(v4) => loopback && v4 == std::net::Ipv4Addr::LOCALHOST,
        IpAddr::V6(v6) if loopback => v6 == std::net::Ipv6Addr::LOCALHOST,
        IpAddr::V6(v6) => mac.is_some_and(|mac| v6 == link_local(mac)),
    }
}

/// A route that somebody added. `None`: the kernel's own, or one that [`RouteKey`] cannot tell from
/// others (by type of service or source).
pub(crate) fn route(message: &RouteNetlinkMessage, names: &BTreeMap<IfIndex, IfName>) -> Option<Route> {
    let Entry { route, by_more } = entry(message, names)?;
    match route.action {
        FibAction::Route(kind) if !route.derived && !by_more && route.key.table != FibRoute::LOCAL => {
            Some(Route { key: route.key, kind, src: route.src, hop_limit: route.hop_limit })
        }
        _ => None,
    }
}

/// An entry of any table. `None`: one that is copied from another for a single destination.
pub(crate) fn fib_route(message: &RouteNetlinkMessage, names: &BTreeMap<IfIndex, IfName>) -> Option<FibRoute> {
    let RouteNetlinkMessage::NewRoute(RouteMessage { header, .. }) = message else { return None };
    let Entry { mut route, by_more } = entry(message, names)?;
    if by_more {
        route.action = FibAction::Other(header.kind.into());
    }
    Some(route)
}

/// A route as the kernel shows it.
struct Entry {
    route: FibRoute,
    /// It is not for all packets to its destination.
    by_more: bool,
}

fn entry(message: &RouteNetlinkMessage, names: &BTreeMap<IfIndex, IfName>) -> Option<Entry> {
    let RouteNetlinkMessage::NewRoute(RouteMessage { header, attributes, .. }) = message else { return None };
    if header.flags.contains(RouteFlags::Cloned) {
        return None;
    }
    let family = match header.address_family {
        AddressFamily::Inet => Family::Ipv4,
        AddressFamily::Inet6 => Family::Ipv6,
        _ => return None,
    };
    let mut destination = family.default_prefix().addr();
    let mut table = u32::from(header.table);
    let mut metric = 0;
    let mut src = None;
    let mut hop_limit = None;
    let mut dev = None;
    let mut gateway = None;
    let mut multipath = None;
    for attribute in attributes {
        match attribute {
            RouteAttribute::Destination(to) => destination = ip(to)?,
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::Priority(number) => metric = *number,
            RouteAttribute::PrefSource(addr) => src = ip(addr),
            RouteAttribute::Oif(index) => dev = Some(*index),
            RouteAttribute::Gateway(_) | RouteAttribute::Via(_) => gateway = via(attribute),
            RouteAttribute::MultiPath(hops) => multipath = Some(hops),
            RouteAttribute::Metrics(metrics) => {
                hop_limit = metrics.iter().find_map(|metric| match metric {
                    RouteMetric::Hoplimit(limit) => u8::try_from(*limit).ok().filter(|&limit| limit != 0),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    if family == Family::Ipv6 && metric == IPV6_DEFAULT_METRIC {
        metric = 0;
    }
    let action = match header.kind {
        RouteType::Unicast => {
            let mut hops = match multipath {
                None => vec![NextHop { via: gateway, dev: *names.get(&dev?)?, weight: 1 }],
                Some(hops) => hops
                    .iter()
                    .map(|hop| {
                        Some(NextHop {
                            via: hop.attributes.iter().find_map(via),
                            dev: *names.get(&hop.interface_index)?,
                            weight: u16::from(hop.hops) + 1,
                        })
                    })
                    .collect::<Option<Vec<_>>>()?,
            };
            hops.sort();
            FibAction::Route(RouteKind::Unicast(hops))
        }
        RouteType::BlackHole => FibAction::Route(RouteKind::Blackhole),
        RouteType::Unreachable => FibAction::Route(RouteKind::Unreachable),
        RouteType::Prohibit => FibAction::Route(RouteKind::Prohibit),
        // An anycast address answers like one of the node's own.
        RouteType::Local | RouteType::Anycast => FibAction::Local,
        RouteType::Broadcast | RouteType::Multicast => FibAction::Group,
        RouteType::Throw => FibAction::Throw,
        kind => FibAction::Other(kind.into()),
    };
    let prefix = IpNet::new(destination, header.destination_prefix_length).ok()?;
    let derived = matches!(header.protocol, RouteProtocol::Kernel | RouteProtocol::IcmpRedirect | RouteProtocol::Ra);
    Some(Entry {
        route: FibRoute { key: RouteKey { prefix, table, metric }, action, src, hop_limit, derived },
        by_more: header.tos != 0 || header.source_prefix_length != 0,
    })
}

/// A policy rule.
pub(crate) fn rule(message: &RouteNetlinkMessage) -> Option<PolicyRule> {
    use netlink_packet_route::rule::RuleAction as Kind;
    /// What an attribute has that was not given.
    const NONE: u32 = u32::MAX;
    let RouteNetlinkMessage::NewRule(RuleMessage { header, attributes, .. }) = message else { return None };
    let family = match header.family {
        AddressFamily::Inet => Family::Ipv4,
        AddressFamily::Inet6 => Family::Ipv6,
        _ => return None,
    };
    let mut rule = PolicyRule::lookup(family, 0, u32::from(header.table));
    rule.invert = header.flags.contains(RuleFlags::Invert);
    let mut table = u32::from(header.table);
    let mut target = 0;
    let mut mark: Option<u32> = None;
    let mut mask = u32::MAX;
    let mut beyond = |what: &str| {
        rule.beyond.get_or_insert_with(|| what.to_owned());
    };
    if header.tos != 0 {
        beyond("it looks at the type of service");
    }
    for attribute in attributes {
        match attribute {
            RuleAttribute::Destination(addr) => rule.to = IpNet::new(*addr, header.dst_len).ok(),
            RuleAttribute::Source(addr) => rule.from = IpNet::new(*addr, header.src_len).ok(),
            RuleAttribute::Iifname(name) => rule.iif = Some(name.clone()),
            RuleAttribute::Oifname(name) => rule.oif = Some(name.clone()),
            RuleAttribute::Priority(number) => rule.priority = *number,
            RuleAttribute::Goto(number) => target = *number,
            RuleAttribute::FwMark(value) => mark = Some(*value),
            RuleAttribute::FwMask(value) => mask = *value,
            RuleAttribute::Table(number) => table = *number,
            RuleAttribute::SuppressPrefixLen(length) if *length != NONE => rule.suppress_prefix = Some(*length),
            RuleAttribute::SuppressIfGroup(group) if *group != NONE => beyond("it suppresses a group of interfaces"),
            RuleAttribute::TunId(id) if *id != 0 => beyond("it looks at a tunnel"),
            RuleAttribute::L3MDev(true) => beyond("it is about VRFs"),
            RuleAttribute::UidRange(_) => beyond("it looks at who sends"),
            RuleAttribute::IpProtocol(protocol) => rule.protocol = Some((*protocol).into()),
            RuleAttribute::SourcePortRange(range) => rule.source_port = Some((range.start, range.end)),
            RuleAttribute::DestinationPortRange(range) => rule.destination_port = Some((range.start, range.end)),
            RuleAttribute::Other(_) => beyond("a kind of match that is newer than this program"),
            _ => {}
        }
    }
    rule.mark = mark.map(|value| (value, mask));
    rule.action = match header.action {
        Kind::ToTable => RuleAction::Lookup(table),
        Kind::Goto => RuleAction::Goto(target),
        Kind::Blackhole => RuleAction::Blackhole,
        Kind::Unreachable => RuleAction::Unreachable,
        Kind::Prohibit => RuleAction::Prohibit,
        _ => RuleAction::Nop,
    };
    Some(rule)
}

fn via(attribute: &RouteAttribute) -> Option<IpAddr> {
    match attribute {
        RouteAttribute::Gateway(addr) => ip(addr),
        RouteAttribute::Via(RouteVia::Inet(addr)) => Some((*addr).into()),
        RouteAttribute::Via(RouteVia::Inet6(addr)) => Some((*addr).into()),
        _ => None,
    }
}

fn ip(addr: &RouteAddress) -> Option<IpAddr> {
    match addr {
        RouteAddress::Inet(addr) => Some((*addr).into()),
        RouteAddress::Inet6(addr) => Some((*addr).into()),
        _ => None,
    }
}

/// A permanent neighbour: interface, address, Ethernet address.
pub(crate) fn neighbour(message: &RouteNetlinkMessage) -> Option<(IfIndex, IpAddr, MacAddr)> {
    let RouteNetlinkMessage::NewNeighbour(NeighbourMessage { header, attributes, .. }) = message else { return None };
    if header.state != NeighbourState::Permanent || header.flags.contains(NeighbourFlags::Proxy) {
        return None;
    }
    let (addr, mac) = neighbour_parts(attributes)?;
    Some((header.ifindex, addr, mac))
}

/// A neighbour that packets are sent to: set by somebody, or learnt.
pub(crate) fn any_neighbour(message: &RouteNetlinkMessage, names: &BTreeMap<IfIndex, IfName>) -> Option<Neighbour> {
    let RouteNetlinkMessage::NewNeighbour(NeighbourMessage { header, attributes, .. }) = message else { return None };
    let permanent = match header.state {
        NeighbourState::Permanent => true,
        NeighbourState::Reachable | NeighbourState::Stale | NeighbourState::Delay | NeighbourState::Probe => false,
        _ => return None,
    };
    if header.flags.contains(NeighbourFlags::Proxy) {
        return None;
    }
    let (addr, mac) = neighbour_parts(attributes)?;
    Some(Neighbour { dev: *names.get(&header.ifindex)?, addr, mac, permanent })
}

fn neighbour_parts(attributes: &[NeighbourAttribute]) -> Option<(IpAddr, MacAddr)> {
    let mut addr = None;
    let mut mac = None;
    for attribute in attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => addr = Some((*v4).into()),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => addr = Some((*v6).into()),
            NeighbourAttribute::LinkLayerAddress(bytes) => {
                mac = bytes.as_slice().try_into().ok().map(MacAddr::from_bytes);
            }
            _ => {}
        }
    }
    Some((addr?, mac?))
}
