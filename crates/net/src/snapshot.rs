//! A network as its kernels see it at one moment: all that decides where a packet goes.
//!
//! Not [`NetState`](crate::NetState), which is canonical so that equality means agreement. Here is
//! what the kernel adds by itself as well (local and connected routes, learnt neighbours, carrier),
//! because a packet does not care who added it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{Family, IfName, LinkKind, MacAddr, NextHop, NsName, Route, RouteKey, RouteKind, Ruleset, SysctlKey};

/// Namespaces at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// By name, switches among them.
    pub nodes: BTreeMap<NsName, NodeState>,
}

/// One namespace at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeState {
    /// Interfaces by name.
    pub links: BTreeMap<IfName, LinkState>,
    /// The routes of all tables, in the kernel's order.
    pub routes: Vec<FibRoute>,
    /// Policy rules of both families, those of a family in the order in which they are tried.
    pub rules: Vec<PolicyRule>,
    /// Ways that routers have told it, beside its tables.
    pub redirects: Vec<Redirect>,
    /// Who is known to be where on a link.
    pub neighbours: Vec<Neighbour>,
    /// For whom it answers, on which link (`ip neigh add proxy`).
    pub proxied: Vec<(IfName, IpAddr)>,
    /// `net.ipv4.conf.all`.
    pub all: Ipv4Conf,
    /// `net.ipv6.conf.all.forwarding`.
    pub forwards_ipv6: bool,
    /// Sockets that wait for packets; `None`: nobody looked.
    pub listeners: Option<Vec<Listener>>,
    /// The firewall; `None`: nobody looked, or may not.
    pub firewall: Option<Ruleset>,
    /// `net.bridge.bridge-nf-call-*`; `None`: nobody looked, because nothing here could depend on it.
    pub bridge_nf: Option<BridgeNf>,
    /// How it sends and answers; `None`: nobody looked.
    pub habits: Option<Habits>,
}

/// How a node sends packets of its own, and answers those that come to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Habits {
    /// `net.ipv4.ip_default_ttl`.
    pub ttl: u8,
    /// `net.ipv4.icmp_echo_ignore_all`: no ping is answered.
    pub ignores_echo: bool,
    /// `net.ipv6.icmp.echo_ignore_all`.
    pub ignores_echo_ipv6: bool,
}

impl Default for Habits {
    fn default() -> Self {
        Habits { ttl: Habits::TTL, ignores_echo: false, ignores_echo_ipv6: false }
    }
}

impl Habits {
    /// What Linux puts into a packet when nothing else is said.
    pub const TTL: u8 = 64;

    /// The switch by which no ping of a family is answered.
    pub fn echo_key(family: Family) -> SysctlKey {
        match family {
            Family::Ipv4 => SysctlKey::IPV4_IGNORE_ECHO,
            Family::Ipv6 => SysctlKey::IPV6_IGNORE_ECHO,
        }
    }

    /// Is a ping of a family left without an answer?
    pub fn ignores_echo_of(&self, family: Family) -> bool {
        match family {
            Family::Ipv4 => self.ignores_echo,
            Family::Ipv6 => self.ignores_echo_ipv6,
        }
    }
}

/// Do the chains of IP see the frames that cross a bridge?
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgeNf {
    /// Those with IPv4.
    pub ipv4: bool,
    /// Those with IPv6.
    pub ipv6: bool,
}

impl BridgeNf {
    /// Of one kind.
    pub fn of(self, family: Family) -> bool {
        match family {
            Family::Ipv4 => self.ipv4,
            Family::Ipv6 => self.ipv6,
        }
    }

    /// The same, to be changed.
    pub fn of_mut(&mut self, family: Family) -> &mut bool {
        match family {
            Family::Ipv4 => &mut self.ipv4,
            Family::Ipv6 => &mut self.ipv6,
        }
    }
}

/// An interface at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkState {
    /// Its number, by which the kernel orders interfaces.
    pub index: u32,
    /// What it is.
    pub kind: LinkKind,
    /// Its Ethernet address.
    pub mac: Option<MacAddr>,
    /// The largest packet that it sends, in bytes. That of `lo` is beyond what an
    /// [`Mtu`](crate::Mtu) allows.
    pub mtu: u32,
    /// The bridge that it is a port of.
    pub master: Option<IfName>,
    /// Administratively up.
    pub up: bool,
    /// Is there a signal? Not the operational state, which lags behind.
    pub carrier: bool,
    /// Addresses in the kernel's order, which decides between equals.
    pub addresses: Vec<IfAddress>,
    /// `net.ipv4.conf.IF`.
    pub conf: Ipv4Conf,
    /// `net.ipv6.conf.IF`.
    pub ipv6: Ipv6Conf,
    /// Of a bridge: `nf_call_iptables` and `nf_call_ip6tables` (ip-link(8)), beside the sysctls.
    pub bridge_nf: BridgeNf,
    /// Something about it that is not understood, and may decide what comes through: a bridge that filters VLANs, a port
    /// that is isolated.
    pub beyond: Option<String>,
    /// Another interface that stands on it and gets frames by it, such as a macvlan: those are not followed.
    pub shared_by: Option<String>,
}

impl LinkState {
    /// An interface that is up, with a signal and nothing else.
    pub fn new(kind: LinkKind) -> Self {
        LinkState {
            index: 0,
            kind,
            mac: None,
            mtu: crate::Mtu::DEFAULT.get(),
            master: None,
            up: true,
            carrier: true,
            addresses: Vec::new(),
            conf: Ipv4Conf::default(),
            ipv6: Ipv6Conf::default(),
            bridge_nf: BridgeNf::default(),
            beyond: None,
            shared_by: None,
        }
    }
}

/// An address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is a mark of the kernel")]
pub struct IfAddress {
    /// The address and the length of its network's prefix.
    pub net: IpNet,
    /// IPv4: another address of the same network came first.
    pub secondary: bool,
    /// IPv6: it is not being checked for a duplicate, and was not found to be one.
    pub usable: bool,
    /// Is it for this machine alone (`127.0.0.1`, `::1`)?
    pub host_only: bool,
    /// IPv4: is it for its own link alone, as a source (ip-address(8), `scope link`)?
    pub link_only: bool,
    /// IPv6: its preferred lifetime is over; others are sent from, if there are any.
    pub deprecated: bool,
}

impl IfAddress {
    /// One that can be used, with nothing else to say of it.
    pub fn new(net: IpNet) -> Self {
        IfAddress { net, secondary: false, usable: true, host_only: false, link_only: false, deprecated: false }
    }
}

/// What `net.ipv4.conf.IF` and `net.ipv4.conf.all` say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the kernel")]
pub struct Ipv4Conf {
    /// Are packets that come in here and are for others sent on? (Of `all`: the last value written.)
    pub forwarding: bool,
    /// Must the way back to the source lead through here? 0 no, 1 yes, 2 through any interface.
    pub rp_filter: u8,
    /// Are packets from an own address taken in?
    pub accept_local: bool,
    /// Which ARP requests are not answered (ip-sysctl(5)).
    pub arp_ignore: u8,
    /// Is ARP answered for others?
    pub proxy_arp: bool,
    /// Are routes through an interface without signal passed over?
    pub ignore_routes_with_linkdown: bool,
}

/// What `net.ipv6.conf.IF` says.
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the kernel")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ipv6Conf {
    /// Are packets that come in here and are for others sent on, even if the node does not forward (since Linux 6.17)?
    pub force_forwarding: bool,
    /// The hop limit of the node's own packets that leave here, where it is not [the usual one](Self::HOP_LIMIT).
    pub hop_limit: Option<u8>,
    /// Are routes through here passed over while there is no signal?
    pub ignore_routes_with_linkdown: bool,
    /// Are questions answered for others ([`Neighbour`]s of proxy)?
    pub proxy_ndp: bool,
    /// Has it no part in IPv6 (`disable_ipv6`)? It takes no address then, and drops what comes in.
    pub disabled: bool,
}

impl Ipv6Conf {
    /// The hop limit of packets where nothing else is said.
    pub const HOP_LIMIT: u8 = 64;
}

/// A way that a node has learnt for one destination: the router that it sent to has told it a shorter one, by ICMP (RFC 792,
/// RFC 4861 section 8). It stands beside the tables, and will be forgotten.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redirect {
    /// In the place of the next hop of that table's route which leaves by the same interface.
    pub table: u32,
    /// For that destination.
    pub dst: IpAddr,
    /// The way on.
    pub hop: NextHop,
}

/// An entry of a routing table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FibRoute {
    /// Destination, table, priority.
    pub key: RouteKey,
    /// What it does.
    pub action: FibAction,
    /// The source address that packets of the node itself get.
    pub src: Option<IpAddr>,
    /// The TTL or hop limit of the node's own packets along it.
    pub hop_limit: Option<u8>,
    /// The largest packet that is sent along it, if that is not the interface's own.
    pub mtu: Option<u32>,
    /// Did the kernel add it, with an address?
    pub derived: bool,
}

impl From<&Route> for FibRoute {
    /// The entry that a route becomes which somebody adds.
    fn from(route: &Route) -> Self {
        FibRoute {
            key: route.key.clone(),
            action: FibAction::Route(route.kind.clone()),
            src: route.src,
            hop_limit: route.hop_limit,
            mtu: None,
            derived: false,
        }
    }
}

/// What an entry of a routing table does.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FibAction {
    /// What anybody can add.
    Route(RouteKind),
    /// The address is the node's own.
    Local,
    /// Broadcast and multicast: no destination of this crate's users.
    Group,
    /// The table has nothing to say: on to the next rule.
    Throw,
    /// A kind that is not understood.
    Other(u8),
}

impl FibRoute {
    /// The table of a node's own addresses.
    pub const LOCAL: u32 = 255;

    /// The number by which entries for the same prefix are ordered: less is preferred.
    pub fn metric(&self) -> u32 {
        /// What IPv6 has where none is given, and a [`RouteKey`] has as 0.
        const IPV6_DEFAULT: u32 = 1024;
        match (self.key.family(), self.key.metric) {
            (Family::Ipv6, 0) => IPV6_DEFAULT,
            (_, metric) => metric,
        }
    }

    /// The ways on.
    pub fn next_hops(&self) -> &[NextHop] {
        match &self.action {
            FibAction::Route(RouteKind::Unicast(hops)) => hops,
            _ => &[],
        }
    }
}

/// A policy rule (ip-rule(8)).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyRule {
    /// The packets that it is about.
    pub family: Family,
    /// Less is tried earlier.
    pub priority: u32,
    /// It is about all packets but those that match.
    pub invert: bool,
    /// From there; `None`: from anywhere.
    pub from: Option<IpNet>,
    /// To there.
    pub to: Option<IpNet>,
    /// Came in there; `lo`: the node's own packets.
    pub iif: Option<String>,
    /// Bound to go out there.
    pub oif: Option<String>,
    /// Marked: value and mask.
    pub mark: Option<(u32, u32)>,
    /// Of that protocol, by its number.
    pub protocol: Option<u8>,
    /// From a port in that range.
    pub source_port: Option<(u16, u16)>,
    /// To a port in that range.
    pub destination_port: Option<(u16, u16)>,
    /// Entries of at most that prefix length do not count.
    pub suppress_prefix: Option<u32>,
    /// What it does.
    pub action: RuleAction,
    /// What of it is not understood.
    pub beyond: Option<String>,
}

impl PolicyRule {
    /// A rule about all packets of a family.
    pub fn lookup(family: Family, priority: u32, table: u32) -> Self {
        PolicyRule {
            family,
            priority,
            invert: false,
            from: None,
            to: None,
            iif: None,
            oif: None,
            mark: None,
            protocol: None,
            source_port: None,
            destination_port: None,
            suppress_prefix: None,
            action: RuleAction::Lookup(table),
            beyond: None,
        }
    }

    /// What a new namespace has.
    pub fn defaults() -> Vec<Self> {
        vec![
            Self::lookup(Family::Ipv4, 0, FibRoute::LOCAL),
            Self::lookup(Family::Ipv4, 32766, RouteKey::MAIN),
            Self::lookup(Family::Ipv4, 32767, 253),
            Self::lookup(Family::Ipv6, 0, FibRoute::LOCAL),
            Self::lookup(Family::Ipv6, 32766, RouteKey::MAIN),
        ]
    }
}

/// What a policy rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RuleAction {
    /// Looks into that table.
    Lookup(u32),
    /// Goes on with the rule of that priority.
    Goto(u32),
    /// Nothing.
    Nop,
    /// Drops it and says nothing.
    Blackhole,
    /// Drops it and answers "host unreachable".
    Unreachable,
    /// Drops it and answers "administratively prohibited".
    Prohibit,
}

/// An entry of the neighbour table that has an Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neighbour {
    /// On that link
    pub dev: IfName,
    /// is that address
    pub addr: IpAddr,
    /// at that Ethernet address.
    pub mac: MacAddr,
    /// Somebody set it for good; else it was learnt.
    pub permanent: bool,
}

/// A socket that waits for packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Listener {
    /// TCP, or else UDP.
    pub tcp: bool,
    /// Of the socket; an IPv6 one may take IPv4 too.
    pub family: Family,
    /// The address that it is bound to; `None`: any.
    pub addr: Option<IpAddr>,
    /// Its port.
    pub port: u16,
    /// IPv6 alone.
    pub only_ipv6: bool,
    /// Is it bound to one interface?
    pub bound_to_device: bool,
}
