//! Netlink messages as parts of a network's state.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use hopyard_net::{AltName, Family, IfName, IpNet, MacAddr, Mtu, NextHop, Route, RouteKey, RouteKind};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressProtocol};
use netlink_packet_route::link::{
    AfSpecInet, AfSpecUnspec, InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage, Prop,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::nsid::NsidAttribute;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteProtocol, RouteType, RouteVia,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::encode::{IPV6_DEFAULT_METRIC, link_local};
use crate::links::IfIndex;

/// The table of a namespace's own addresses, which the kernel keeps.
const TABLE_LOCAL: u32 = 255;

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
    };
    for attribute in attributes {
        match attribute {
            LinkAttribute::IfName(name) => dev = name.parse().ok(),
            LinkAttribute::Address(bytes) => found.mac = bytes.as_slice().try_into().ok().map(MacAddr::from_bytes),
            LinkAttribute::Mtu(bytes) => found.mtu = Mtu::try_from(*bytes).ok(),
            LinkAttribute::Controller(index) => found.master = Some(*index),
            LinkAttribute::Link(index) => peer = *index,
            LinkAttribute::LinkNetNsId(number) => namespace = Some(*number),
            LinkAttribute::LinkInfo(infos) => {
                kind = infos.iter().find_map(|info| match info {
                    LinkInfo::Kind(kind) => Some(kind),
                    _ => None,
                });
            }
            LinkAttribute::PropList(properties) => {
                found.alt_names.extend(properties.iter().filter_map(|property| match property {
                    Prop::AltIfName(name) => name.parse().ok(),
                    _ => None,
                }));
            }
            LinkAttribute::AfSpecUnspec(families) => {
                found.promotes_secondaries = families.iter().any(|family| match family {
                    AfSpecUnspec::Inet(parts) => parts
                        .iter()
                        .any(|part| matches!(part, AfSpecInet::DevConf(conf) if conf.promote_secondaries != 0)),
                    _ => false,
                });
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
        None => FoundKind::Other("device".to_owned()),
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

/// An address as the kernel shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FoundAddr {
    pub(crate) index: IfIndex,
    pub(crate) addr: IpNet,
    /// IPv4: it came after another one of the same network, and goes with it.
    pub(crate) secondary: bool,
    /// The kernel gave it by itself, or it was given for a time only.
    pub(crate) automatic: bool,
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
    let RouteNetlinkMessage::NewRoute(RouteMessage { header, attributes, .. }) = message else { return None };
    let derived = matches!(header.protocol, RouteProtocol::Kernel | RouteProtocol::IcmpRedirect | RouteProtocol::Ra);
    if derived || header.flags.contains(RouteFlags::Cloned) || header.tos != 0 || header.source_prefix_length != 0 {
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
    if table == TABLE_LOCAL {
        return None;
    }
    if family == Family::Ipv6 && metric == IPV6_DEFAULT_METRIC {
        metric = 0;
    }
    let kind = match header.kind {
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
            RouteKind::Unicast(hops)
        }
        RouteType::BlackHole => RouteKind::Blackhole,
        RouteType::Unreachable => RouteKind::Unreachable,
        RouteType::Prohibit => RouteKind::Prohibit,
        _ => return None,
    };
    let prefix = IpNet::new(destination, header.destination_prefix_length).ok()?;
    Some(Route { key: RouteKey { prefix, table, metric }, kind, src, hop_limit })
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
    Some((header.ifindex, addr?, mac?))
}
