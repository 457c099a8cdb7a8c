//! The types of the file, and what each is in a snapshot. They are the file's own, so that a snapshot can
//! change without the file.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use hopyard_net::{
    BridgeNf, Endpoint, Family, FibAction, FibRoute, Habits, IfAddress, IfName, IpNet, Ipv4Conf, Ipv6Conf, LinkKind,
    LinkState, Listener, MacAddr, Neighbour, NextHop, NodeState, PolicyRule, Redirect, RouteKey, RouteKind, RuleAction,
    Ruleset,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde wants it")]
fn is_false(value: &bool) -> bool {
    !value
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A text that is read by its own rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Text<T>(T);

impl<T: fmt::Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&self.0)
    }
}

impl<'de, T: FromStr<Err: fmt::Display>> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map(Text).map_err(serde::de::Error::custom)
    }
}

/// `near:eth0`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct End(Endpoint);

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.0.ns, self.0.dev)
    }
}

impl FromStr for End {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (ns, dev) = text.split_once(':').ok_or_else(|| format!("`{text}` is no NODE:INTERFACE"))?;
        let ns = ns.parse().map_err(|error| format!("{error}"))?;
        Ok(End(Endpoint { ns, dev: dev.parse().map_err(|error| format!("{error}"))? }))
    }
}

/// An Ethernet address as a kernel shows it, also one that nobody could choose: that of `lo`, of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mac(MacAddr);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Mac {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no Ethernet address");
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2 && part.bytes().all(|it| it.is_ascii_hexdigit()));
            *byte = part.and_then(|part| u8::from_str_radix(part, 16).ok()).ok_or_else(wrong)?;
        }
        if parts.next().is_some() { Err(wrong()) } else { Ok(Mac(MacAddr::from_bytes(bytes))) }
    }
}

/// A namespace.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NodeDocument {
    interfaces: BTreeMap<IfName, Interface>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    routes: Vec<Route>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    rules: Vec<Rule>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    neighbours: Vec<NeighbourDocument>,
    /// For whom it answers, on which link.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    proxied: Vec<(IfName, IpAddr)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    redirects: Vec<RedirectDocument>,
    /// `net.ipv4.conf.all`.
    #[serde(default, skip_serializing_if = "is_default")]
    ipv4_all: Conf,
    /// `net.ipv6.conf.all.forwarding`.
    #[serde(default, skip_serializing_if = "is_false")]
    ipv6_forwarding: bool,
    /// Left out: nobody looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    listeners: Option<Vec<ListenerDocument>>,
    /// Left out: nobody looked, or could.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    firewall: Option<Ruleset>,
    /// `net.bridge.bridge-nf-call-*`. Left out: nobody looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bridge_nf: Option<BridgeNf>,
    /// Left out: nobody looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    habits: Option<HabitsDocument>,
}

/// As [`Habits`]: what is left out is as usual.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HabitsDocument {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ttl: Option<u8>,
    #[serde(default, skip_serializing_if = "is_false")]
    ignores_echo: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    ignores_echo_ipv6: bool,
}

/// As [`Redirect`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RedirectDocument {
    to: IpAddr,
    /// Left out: `main`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    table: Option<u32>,
    hop: HopDocument,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Interface {
    index: u32,
    kind: Kind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mac: Option<Text<Mac>>,
    mtu: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bridge: Option<IfName>,
    up: bool,
    carrier: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    addresses: Vec<Address>,
    /// `net.ipv4.conf.IF`.
    #[serde(default, skip_serializing_if = "is_default")]
    ipv4: Conf,
    /// `net.ipv6.conf.IF`.
    #[serde(default, skip_serializing_if = "is_default")]
    ipv6: Conf6,
    /// `nf_call_iptables` and `nf_call_ip6tables` of a bridge.
    #[serde(default, skip_serializing_if = "is_default")]
    bridge_nf: BridgeNf,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    beyond: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shared_by: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    Loopback,
    /// The other end; `null`: it is not in the file.
    Veth(Option<Text<End>>),
    Bridge,
    Lent,
    Other(String),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each is a mark of the kernel")]
struct Address {
    net: IpNet,
    #[serde(default, skip_serializing_if = "is_false")]
    secondary: bool,
    /// It cannot be used yet, or not at all.
    #[serde(default, skip_serializing_if = "is_false")]
    tentative: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    host_only: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    link_only: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    deprecated: bool,
}

/// As [`Ipv6Conf`].
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the kernel")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Conf6 {
    #[serde(default, skip_serializing_if = "is_false")]
    force_forwarding: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hop_limit: Option<u8>,
    #[serde(default, skip_serializing_if = "is_false")]
    ignore_routes_with_linkdown: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    proxy_ndp: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    disabled: bool,
}

/// As [`Ipv4Conf`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the kernel")]
struct Conf {
    #[serde(default, skip_serializing_if = "is_false")]
    forwarding: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    rp_filter: u8,
    #[serde(default, skip_serializing_if = "is_false")]
    accept_local: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    arp_ignore: u8,
    #[serde(default, skip_serializing_if = "is_false")]
    proxy_arp: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    ignore_routes_with_linkdown: bool,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Route {
    to: IpNet,
    /// Left out: `main`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    table: Option<u32>,
    #[serde(default, skip_serializing_if = "is_default")]
    metric: u32,
    /// Left out: it leads on, by `hops`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kind: Option<RouteType>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    hops: Vec<HopDocument>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    src: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hop_limit: Option<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mtu: Option<u32>,
    #[serde(default, skip_serializing_if = "is_false")]
    derived: bool,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RouteType {
    Blackhole,
    Unreachable,
    Prohibit,
    Local,
    Group,
    Throw,
    /// By the kernel's number.
    Other(u8),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HopDocument {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    via: Option<IpAddr>,
    dev: IfName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    weight: Option<u16>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    family: Family,
    priority: u32,
    #[serde(default, skip_serializing_if = "is_false")]
    invert: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<IpNet>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    to: Option<IpNet>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    iif: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    oif: Option<String>,
    /// Value and mask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mark: Option<(u32, u32)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    protocol: Option<u8>,
    /// The first and the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    source_port: Option<(u16, u16)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    destination_port: Option<(u16, u16)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    suppress_prefix: Option<u32>,
    action: RuleAction,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    beyond: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NeighbourDocument {
    addr: IpAddr,
    dev: IfName,
    mac: Text<Mac>,
    #[serde(default, skip_serializing_if = "is_false")]
    permanent: bool,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Transport {
    Tcp,
    Udp,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ListenerDocument {
    protocol: Transport,
    family: Family,
    /// Left out: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    addr: Option<IpAddr>,
    port: u16,
    #[serde(default, skip_serializing_if = "is_false")]
    only_ipv6: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    bound_to_device: bool,
}

impl From<&NodeState> for NodeDocument {
    fn from(node: &NodeState) -> Self {
        // Taken apart, so that a part that is added is not forgotten here.
        let NodeState {
            links,
            routes,
            rules,
            redirects,
            neighbours,
            proxied,
            all,
            forwards_ipv6,
            listeners,
            firewall,
            bridge_nf,
            habits,
        } = node;
        NodeDocument {
            interfaces: links.iter().map(|(dev, link)| (*dev, link.into())).collect(),
            routes: routes.iter().map(Route::from).collect(),
            rules: rules.iter().map(Rule::from).collect(),
            neighbours: neighbours.iter().map(NeighbourDocument::from).collect(),
            proxied: proxied.clone(),
            redirects: redirects.iter().map(RedirectDocument::from).collect(),
            ipv4_all: (*all).into(),
            ipv6_forwarding: *forwards_ipv6,
            listeners: listeners.as_ref().map(|all| all.iter().map(ListenerDocument::from).collect()),
            firewall: firewall.clone(),
            bridge_nf: *bridge_nf,
            habits: habits.map(HabitsDocument::from),
        }
    }
}

impl From<Habits> for HabitsDocument {
    fn from(habits: Habits) -> Self {
        let Habits { ttl, ignores_echo, ignores_echo_ipv6 } = habits;
        HabitsDocument { ttl: Some(ttl).filter(|ttl| *ttl != Habits::TTL), ignores_echo, ignores_echo_ipv6 }
    }
}

impl From<HabitsDocument> for Habits {
    fn from(habits: HabitsDocument) -> Self {
        let HabitsDocument { ttl, ignores_echo, ignores_echo_ipv6 } = habits;
        Habits { ttl: ttl.unwrap_or(Habits::TTL), ignores_echo, ignores_echo_ipv6 }
    }
}

impl From<&Redirect> for RedirectDocument {
    fn from(redirect: &Redirect) -> Self {
        let Redirect { table, dst, hop } = redirect;
        RedirectDocument { to: *dst, table: Some(*table).filter(|table| *table != RouteKey::MAIN), hop: hop.into() }
    }
}

impl From<RedirectDocument> for Redirect {
    fn from(redirect: RedirectDocument) -> Self {
        let RedirectDocument { to, table, hop } = redirect;
        Redirect { table: table.unwrap_or(RouteKey::MAIN), dst: to, hop: hop.into() }
    }
}

impl From<NodeDocument> for NodeState {
    fn from(node: NodeDocument) -> Self {
        NodeState {
            links: node.interfaces.into_iter().map(|(dev, link)| (dev, link.into())).collect(),
            routes: node.routes.into_iter().map(FibRoute::from).collect(),
            rules: node.rules.into_iter().map(PolicyRule::from).collect(),
            redirects: node.redirects.into_iter().map(Redirect::from).collect(),
            neighbours: node.neighbours.into_iter().map(Neighbour::from).collect(),
            proxied: node.proxied,
            all: node.ipv4_all.into(),
            forwards_ipv6: node.ipv6_forwarding,
            listeners: node.listeners.map(|all| all.into_iter().map(Listener::from).collect()),
            firewall: node.firewall,
            bridge_nf: node.bridge_nf,
            habits: node.habits.map(Habits::from),
        }
    }
}

impl From<&LinkState> for Interface {
    fn from(link: &LinkState) -> Self {
        let LinkState {
            index,
            kind,
            mac,
            mtu,
            master,
            up,
            carrier,
            addresses,
            conf,
            ipv6,
            bridge_nf,
            beyond,
            shared_by,
        } = link;
        Interface {
            index: *index,
            kind: match kind {
                LinkKind::Loopback => Kind::Loopback,
                LinkKind::Veth { peer } => Kind::Veth(peer.clone().map(|peer| Text(End(peer)))),
                LinkKind::Bridge => Kind::Bridge,
                LinkKind::Lent => Kind::Lent,
                LinkKind::Other(name) => Kind::Other(name.clone()),
            },
            mac: mac.map(|mac| Text(Mac(mac))),
            mtu: *mtu,
            bridge: *master,
            up: *up,
            carrier: *carrier,
            addresses: addresses.iter().map(Address::from).collect(),
            ipv4: (*conf).into(),
            ipv6: (*ipv6).into(),
            bridge_nf: *bridge_nf,
            beyond: beyond.clone(),
            shared_by: shared_by.clone(),
        }
    }
}

impl From<Interface> for LinkState {
    fn from(link: Interface) -> Self {
        LinkState {
            index: link.index,
            kind: match link.kind {
                Kind::Loopback => LinkKind::Loopback,
                Kind::Veth(peer) => LinkKind::Veth { peer: peer.map(|Text(End(peer))| peer) },
                Kind::Bridge => LinkKind::Bridge,
                Kind::Lent => LinkKind::Lent,
                Kind::Other(name) => LinkKind::Other(name),
            },
            mac: link.mac.map(|Text(Mac(mac))| mac),
            mtu: link.mtu,
            master: link.bridge,
            up: link.up,
            carrier: link.carrier,
            addresses: link.addresses.into_iter().map(IfAddress::from).collect(),
            conf: link.ipv4.into(),
            ipv6: link.ipv6.into(),
            bridge_nf: link.bridge_nf,
            beyond: link.beyond,
            shared_by: link.shared_by,
        }
    }
}

impl From<&IfAddress> for Address {
    fn from(address: &IfAddress) -> Self {
        let IfAddress { net, secondary, usable, host_only, link_only, deprecated } = *address;
        Address { net, secondary, tentative: !usable, host_only, link_only, deprecated }
    }
}

impl From<Address> for IfAddress {
    fn from(address: Address) -> Self {
        let Address { net, secondary, tentative, host_only, link_only, deprecated } = address;
        IfAddress { net, secondary, usable: !tentative, host_only, link_only, deprecated }
    }
}

impl From<Ipv6Conf> for Conf6 {
    fn from(conf: Ipv6Conf) -> Self {
        let Ipv6Conf { force_forwarding, hop_limit, ignore_routes_with_linkdown, proxy_ndp, disabled } = conf;
        Conf6 { force_forwarding, hop_limit, ignore_routes_with_linkdown, proxy_ndp, disabled }
    }
}

impl From<Conf6> for Ipv6Conf {
    fn from(conf: Conf6) -> Self {
        let Conf6 { force_forwarding, hop_limit, ignore_routes_with_linkdown, proxy_ndp, disabled } = conf;
        Ipv6Conf { force_forwarding, hop_limit, ignore_routes_with_linkdown, proxy_ndp, disabled }
    }
}

impl From<Ipv4Conf> for Conf {
    fn from(conf: Ipv4Conf) -> Self {
        let Ipv4Conf { forwarding, rp_filter, accept_local, arp_ignore, proxy_arp, ignore_routes_with_linkdown } = conf;
        Conf { forwarding, rp_filter, accept_local, arp_ignore, proxy_arp, ignore_routes_with_linkdown }
    }
}

impl From<Conf> for Ipv4Conf {
    fn from(conf: Conf) -> Self {
        let Conf { forwarding, rp_filter, accept_local, arp_ignore, proxy_arp, ignore_routes_with_linkdown } = conf;
        Ipv4Conf { forwarding, rp_filter, accept_local, arp_ignore, proxy_arp, ignore_routes_with_linkdown }
    }
}

impl From<&FibRoute> for Route {
    fn from(route: &FibRoute) -> Self {
        let FibRoute { key: RouteKey { prefix, table, metric }, action, src, hop_limit, mtu, derived } = route;
        let (kind, hops) = match action {
            FibAction::Route(RouteKind::Unicast(hops)) => (None, hops.as_slice()),
            FibAction::Route(RouteKind::Blackhole) => (Some(RouteType::Blackhole), &[][..]),
            FibAction::Route(RouteKind::Unreachable) => (Some(RouteType::Unreachable), &[][..]),
            FibAction::Route(RouteKind::Prohibit) => (Some(RouteType::Prohibit), &[][..]),
            FibAction::Local => (Some(RouteType::Local), &[][..]),
            FibAction::Group => (Some(RouteType::Group), &[][..]),
            FibAction::Throw => (Some(RouteType::Throw), &[][..]),
            FibAction::Other(number) => (Some(RouteType::Other(*number)), &[][..]),
        };
        Route {
            to: *prefix,
            table: Some(*table).filter(|table| *table != RouteKey::MAIN),
            metric: *metric,
            kind,
            hops: hops.iter().map(HopDocument::from).collect(),
            src: *src,
            hop_limit: *hop_limit,
            mtu: *mtu,
            derived: *derived,
        }
    }
}

impl From<Route> for FibRoute {
    fn from(route: Route) -> Self {
        FibRoute {
            key: RouteKey { prefix: route.to, table: route.table.unwrap_or(RouteKey::MAIN), metric: route.metric },
            action: match route.kind {
                None => FibAction::Route(RouteKind::Unicast(route.hops.into_iter().map(NextHop::from).collect())),
                Some(RouteType::Blackhole) => FibAction::Route(RouteKind::Blackhole),
                Some(RouteType::Unreachable) => FibAction::Route(RouteKind::Unreachable),
                Some(RouteType::Prohibit) => FibAction::Route(RouteKind::Prohibit),
                Some(RouteType::Local) => FibAction::Local,
                Some(RouteType::Group) => FibAction::Group,
                Some(RouteType::Throw) => FibAction::Throw,
                Some(RouteType::Other(number)) => FibAction::Other(number),
            },
            src: route.src,
            hop_limit: route.hop_limit,
            mtu: route.mtu,
            derived: route.derived,
        }
    }
}

impl From<&NextHop> for HopDocument {
    fn from(hop: &NextHop) -> Self {
        let NextHop { via, dev, weight } = hop;
        HopDocument { via: *via, dev: *dev, weight: Some(*weight).filter(|weight| *weight != 1) }
    }
}

impl From<HopDocument> for NextHop {
    fn from(hop: HopDocument) -> Self {
        NextHop { via: hop.via, dev: hop.dev, weight: hop.weight.unwrap_or(1) }
    }
}

impl From<&PolicyRule> for Rule {
    fn from(rule: &PolicyRule) -> Self {
        let PolicyRule {
            family,
            priority,
            invert,
            from,
            to,
            iif,
            oif,
            mark,
            protocol,
            source_port,
            destination_port,
            suppress_prefix,
            action,
            beyond,
        } = rule.clone();
        Rule {
            family,
            priority,
            invert,
            from,
            to,
            iif,
            oif,
            mark,
            protocol,
            source_port,
            destination_port,
            suppress_prefix,
            action,
            beyond,
        }
    }
}

impl From<Rule> for PolicyRule {
    fn from(rule: Rule) -> Self {
        PolicyRule {
            family: rule.family,
            priority: rule.priority,
            invert: rule.invert,
            from: rule.from,
            to: rule.to,
            iif: rule.iif,
            oif: rule.oif,
            mark: rule.mark,
            protocol: rule.protocol,
            source_port: rule.source_port,
            destination_port: rule.destination_port,
            suppress_prefix: rule.suppress_prefix,
            action: rule.action,
            beyond: rule.beyond,
        }
    }
}

impl From<&Neighbour> for NeighbourDocument {
    fn from(neighbour: &Neighbour) -> Self {
        let Neighbour { dev, addr, mac, permanent } = *neighbour;
        NeighbourDocument { addr, dev, mac: Text(Mac(mac)), permanent }
    }
}

impl From<NeighbourDocument> for Neighbour {
    fn from(neighbour: NeighbourDocument) -> Self {
        let NeighbourDocument { addr, dev, mac: Text(Mac(mac)), permanent } = neighbour;
        Neighbour { dev, addr, mac, permanent }
    }
}

impl From<&Listener> for ListenerDocument {
    fn from(listener: &Listener) -> Self {
        let Listener { tcp, family, addr, port, only_ipv6, bound_to_device } = *listener;
        let protocol = if tcp { Transport::Tcp } else { Transport::Udp };
        ListenerDocument { protocol, family, addr, port, only_ipv6, bound_to_device }
    }
}

impl From<ListenerDocument> for Listener {
    fn from(listener: ListenerDocument) -> Self {
        let ListenerDocument { protocol, family, addr, port, only_ipv6, bound_to_device } = listener;
        Listener { tcp: matches!(protocol, Transport::Tcp), family, addr, port, only_ipv6, bound_to_device }
    }
}
