//! Netlink messages as parts of a network's state.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use hopyard_net::{
    AltName, BridgeNf, Family, FibAction, FibRoute, IfName, IpNet, Ipv4Conf, Ipv6Conf, MacAddr, Mtu, Neighbour,
    NextHop, PolicyRule, Redirect, Route, RouteKey, RouteKind, RuleAction,
};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressProtocol, AddressScope};
use netlink_packet_route::link::{
    AfSpecInet, AfSpecInet6, AfSpecUnspec, BridgePortState, InfoBridge, InfoBridgePort, InfoData, InfoKind,
    InfoPortData, InfoPortKind, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage, Prop,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::nsid::NsidAttribute;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric, RouteProtocol, RouteType,
    RouteVia,
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
    /// `net.ipv6.conf.DEV`, the same.
    pub(crate) ipv6: Ipv6Conf,
    /// The end of the addresses that it takes from routers (`ip token`).
    pub(crate) token: Option<std::net::Ipv6Addr>,
    /// What decides about its frames besides Ethernet addresses, and is not followed.
    pub(crate) beyond: Option<String>,
    /// The interface that it stands on, and shares frames with, and the number of the namespace of that, if it is another one.
    pub(crate) shares: Option<(IfIndex, Option<i32>)>,
    /// The same of any that stands on another one, as a VLAN does.
    pub(crate) stands_on: Option<(IfIndex, Option<i32>)>,
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
    let mut port = None;
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
        ipv6: Ipv6Conf::default(),
        token: None,
        beyond: None,
        shares: None,
        stands_on: None,
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
                port = infos.iter().find_map(port_beyond);
                found.bridge_nf = infos.iter().find_map(bridge_nf).unwrap_or_default();
            }
            LinkAttribute::PropList(properties) => {
                found.alt_names.extend(properties.iter().filter_map(|property| match property {
                    Prop::AltIfName(name) => name.parse().ok(),
                    _ => None,
                }));
            }
            LinkAttribute::AfSpecUnspec(families) => {
                let ipv6 = families.iter().find_map(|family| match family {
                    AfSpecUnspec::Inet6(parts) => Some(parts),
                    _ => None,
                });
                let ipv6 = ipv6.map_or(&[][..], Vec::as_slice);
                found.ipv6 = ipv6.iter().find_map(ipv6_conf).unwrap_or_default();
                found.token = ipv6.iter().find_map(|part| match part {
                    AfSpecInet6::Token(token) if !token.is_unspecified() => Some(*token),
                    _ => None,
                });
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
    // A port takes a moment to work when it comes up, and does not while it is down.
    let works = found.up && found.carrier;
    found.beyond = found.beyond.or(port.filter(|_| works));
    if header.flags.contains(LinkFlags::Noarp) && header.link_layer_type == LinkLayerType::Ether {
        found.beyond.get_or_insert_with(|| "it asks and answers nobody for addresses (NOARP)".to_owned());
    }
    found.stands_on = kind.filter(|kind| !is_pair(kind)).map(|_| (peer, namespace));
    found.stands_on.take_if(|below| *below == (header.index, None));
    found.shares = kind.filter(|kind| shares_frames(kind)).map(|_| (peer, namespace));
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

/// What decides in a port of a bridge besides Ethernet addresses, or in another thing that the interface is a part of.
fn port_beyond(info: &LinkInfo) -> Option<String> {
    let parts = match info {
        LinkInfo::PortKind(InfoPortKind::Bridge) => return None,
        LinkInfo::PortKind(kind) => return Some(format!("it is a part of a {kind} interface")),
        LinkInfo::PortData(InfoPortData::BridgePort(parts)) => parts,
        _ => return None,
    };
    let what = parts.iter().find_map(|part| match part {
        InfoBridgePort::State(state) if *state != BridgePortState::Forwarding => {
            Some("as a port it does not forward (spanning tree)")
        }
        InfoBridgePort::Isolated(true) => Some("the port is isolated"),
        InfoBridgePort::Locked(true) => Some("the port is locked"),
        InfoBridgePort::UnicastFlood(false)
        | InfoBridgePort::BroadcastFlood(false)
        | InfoBridgePort::MulticastFlood(false) => Some("the port does not get what is flooded"),
        InfoBridgePort::Learning(false) => Some("the port does not learn"),
        InfoBridgePort::ProxyARP(true) | InfoBridgePort::ProxyARPWifi(true) | InfoBridgePort::NeighSupress(true) => {
            Some("the bridge answers for others at the port")
        }
        _ => None,
    });
    what.map(str::to_owned)
}

/// Does an interface of that kind get frames from the one that it stands on, by an Ethernet address of its own, or by more?
fn shares_frames(kind: &InfoKind) -> bool {
    matches!(kind, InfoKind::MacVlan | InfoKind::MacVtap | InfoKind::IpVlan | InfoKind::IpVtap)
}

/// Is the interface that it names its other end, and none that it stands on?
fn is_pair(kind: &InfoKind) -> bool {
    matches!(kind, InfoKind::Veth | InfoKind::Vxcan | InfoKind::Netkit)
}

/// What `net.ipv6.conf` says of an interface.
fn ipv6_conf(part: &AfSpecInet6) -> Option<Ipv6Conf> {
    let AfSpecInet6::DevConf(conf) = part else { return None };
    let limit = u8::try_from(conf.hoplimit).ok();
    Some(Ipv6Conf {
        force_forwarding: conf.force_forwarding != 0,
        hop_limit: limit.filter(|limit| *limit != Ipv6Conf::HOP_LIMIT),
        ignore_routes_with_linkdown: conf.ignore_routes_with_linkdown != 0,
        proxy_ndp: conf.proxy_ndp != 0,
        disabled: conf.disable_ipv6 != 0,
    })
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
    /// IPv4: for its own link alone.
    pub(crate) link_only: bool,
    /// Its preferred lifetime is over.
    pub(crate) deprecated: bool,
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
        link_only: addr.addr().is_ipv4() && header.scope == AddressScope::Link,
        deprecated: addr.addr().is_ipv6() && has(AddressFlags::Deprecated),
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
    let Entry { route, by_more } = entry(in_table(message)?, names)?;
    match route.action {
        FibAction::Route(kind) if !route.derived && !by_more && route.key.table != FibRoute::LOCAL => {
            Some(Route { key: route.key, kind, src: route.src, hop_limit: route.hop_limit })
        }
        _ => None,
    }
}

/// A way that a router has told, which the kernel shows among the routes.
pub(crate) fn redirect(message: &RouteNetlinkMessage, names: &BTreeMap<IfIndex, IfName>) -> Option<Redirect> {
    let RouteNetlinkMessage::NewRoute(route) = message else { return None };
    if !route.header.flags.contains(RouteFlags::Cloned) || !is_redirected(&route.header) {
        return None;
    }
    let Entry { route: FibRoute { key, action, .. }, .. } = entry(route, names)?;
    let FibAction::Route(RouteKind::Unicast(hops)) = action else { return None };
    Some(Redirect { table: key.table, dst: key.prefix.addr(), hop: hops.into_iter().next()? })
}

/// Was a way learnt by an ICMP redirect? (`RTCF_REDIRECTED` of linux/in_route.h; IPv6 has a protocol for it.)
pub(crate) fn is_redirected(header: &RouteHeader) -> bool {
    const REDIRECTED: u32 = 0x0004_0000;
    header.flags.bits() & REDIRECTED != 0 || header.protocol == RouteProtocol::IcmpRedirect
}

/// An entry of any table. `None`: one that is copied from another for a single destination.
pub(crate) fn fib_route(message: &RouteNetlinkMessage, names: &BTreeMap<IfIndex, IfName>) -> Option<FibRoute> {
    let message = in_table(message)?;
    let Entry { mut route, by_more } = entry(message, names)?;
    if by_more {
        route.action = FibAction::Other(message.header.kind.into());
    }
    Some(route)
}

/// A route as the kernel shows it.
struct Entry {
    route: FibRoute,
    /// It is not for all packets to its destination, or does more with them.
    by_more: bool,
}

/// `None`: it is copied from another for a single destination.
fn in_table(message: &RouteNetlinkMessage) -> Option<&RouteMessage> {
    let RouteNetlinkMessage::NewRoute(route) = message else { return None };
    (!route.header.flags.contains(RouteFlags::Cloned)).then_some(route)
}

fn entry(message: &RouteMessage, names: &BTreeMap<IfIndex, IfName>) -> Option<Entry> {
    let RouteMessage { header, attributes, .. } = message;
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
    let mut mtu = None;
    let mut dev = None;
    let mut gateway = None;
    let mut multipath = None;
    // Into a tunnel or labels of another protocol.
    let wraps = |attribute: &RouteAttribute| matches!(attribute, RouteAttribute::EncapType(_));
    let mut is_wrapped = attributes.iter().any(wraps);
    for attribute in attributes {
        match attribute {
            RouteAttribute::Destination(to) => destination = ip(to)?,
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::Priority(number) => metric = *number,
            RouteAttribute::PrefSource(addr) => src = ip(addr),
            RouteAttribute::Oif(index) => dev = Some(*index),
            RouteAttribute::Gateway(_) | RouteAttribute::Via(_) => gateway = via(attribute),
            RouteAttribute::MultiPath(hops) => {
                is_wrapped |= hops.iter().flat_map(|hop| &hop.attributes).any(wraps);
                multipath = Some(hops);
            }
            RouteAttribute::Metrics(metrics) => {
                mtu = metrics.iter().find_map(|metric| match metric {
                    RouteMetric::Mtu(bytes) => Some(*bytes).filter(|bytes| *bytes != 0),
                    _ => None,
                });
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
        route: FibRoute { key: RouteKey { prefix, table, metric }, action, src, hop_limit, mtu, derived },
        by_more: header.tos != 0 || header.source_prefix_length != 0 || is_wrapped,
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
/// `silent`: the Ethernet address of an interface, if it is one that may ask for nobody.
pub(crate) fn any_neighbour(
    message: &RouteNetlinkMessage,
    names: &BTreeMap<IfIndex, IfName>,
    silent: impl Fn(IfName) -> Option<MacAddr>,
) -> Option<Neighbour> {
    let RouteNetlinkMessage::NewNeighbour(NeighbourMessage { header, attributes, .. }) = message else { return None };
    let permanent = match header.state {
        NeighbourState::Permanent | NeighbourState::Noarp => true,
        NeighbourState::Reachable | NeighbourState::Stale | NeighbourState::Delay | NeighbourState::Probe => false,
        _ => return None,
    };
    if header.flags.contains(NeighbourFlags::Proxy) {
        return None;
    }
    let (addr, mac) = neighbour_parts(attributes)?;
    let dev = *names.get(&header.ifindex)?;
    // Of groups the kernel has entries by itself, and of all that it does not ask for: at `lo`, and where nobody is asked.
    if addr.is_multicast()
        || header.state == NeighbourState::Noarp && (mac.bytes() == [0; 6] || silent(dev) == Some(mac))
    {
        return None;
    }
    Some(Neighbour { dev, addr, mac, permanent })
}

/// An Ethernet address of which somebody has said at which port of a bridge it is, so that the bridge does not learn it: the bridge,
/// and the address. (An address of a port is there as well.)
pub(crate) fn fixed_mac(message: &RouteNetlinkMessage) -> Option<(IfIndex, MacAddr)> {
    let RouteNetlinkMessage::NewNeighbour(NeighbourMessage { header, attributes, .. }) = message else { return None };
    let sticky = header.flags.contains(NeighbourFlags::Sticky);
    if header.state != NeighbourState::Permanent && !(header.state == NeighbourState::Noarp && sticky) {
        return None;
    }
    let bridge = attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Controller(index) => Some(*index),
        _ => None,
    });
    let mac = attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(bytes) => bytes.as_slice().try_into().ok().map(MacAddr::from_bytes),
        _ => None,
    });
    Some((bridge?, mac?)).filter(|(_, mac)| mac.bytes()[0] & 1 == 0)
}

/// An address for which a node answers, and on which link.
pub(crate) fn proxied(message: &RouteNetlinkMessage, names: &BTreeMap<IfIndex, IfName>) -> Option<(IfName, IpAddr)> {
    let RouteNetlinkMessage::NewNeighbour(NeighbourMessage { header, attributes, .. }) = message else { return None };
    let addr = attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => Some((*v4).into()),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => Some((*v6).into()),
        _ => None,
    });
    header.flags.contains(NeighbourFlags::Proxy).then_some((*names.get(&header.ifindex)?, addr?))
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
