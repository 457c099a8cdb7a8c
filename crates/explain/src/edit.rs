//! A change that repairs something, as data; its text is the command that a person types in the node.

use std::fmt;
use std::net::IpAddr;

use hopyard_net::{
    Endpoint, Family, FibAction, FibRoute, IfAddress, IfName, IpNet, Ipv6Conf, Nat, Neighbour, NextHop, NodeState,
    NsName, Op, PolicyRule, Route, RouteKey, RouteKind, Rule, Snapshot, SysctlKey,
};
use serde::Serialize;

use crate::packet::is_link_local;
use crate::{Flow, segment};

/// A change to one node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Edit {
    /// One that a plan could have as well.
    Op(Op),
    /// A route.
    Route {
        /// The node.
        ns: NsName,
        /// The route.
        route: Route,
        /// In the place of another one for the same prefix.
        replaces: bool,
    },
    /// Removes a policy rule.
    DelPolicyRule {
        /// The node.
        ns: NsName,
        /// Of that family
        family: Family,
        /// the one of that priority.
        priority: u32,
    },
    /// Adds a rule to the firewall that accepts one flow alone.
    AcceptFlow {
        /// The node.
        ns: NsName,
        /// The family of the table.
        family: String,
        /// The table.
        table: String,
        /// The chain.
        chain: String,
        /// Where in the chain.
        place: Place,
        /// What it accepts.
        flow: Flow,
    },
    /// Removes a rule of the firewall.
    DelFilterRule {
        /// The node.
        ns: NsName,
        /// The family of the table.
        family: String,
        /// The table.
        table: String,
        /// The chain.
        chain: String,
        /// Which rule.
        handle: u64,
    },
    /// Lets a chain pass what no rule decides about.
    AcceptByDefault {
        /// The node.
        ns: NsName,
        /// The family of the table.
        family: String,
        /// The table.
        table: String,
        /// The chain.
        chain: String,
    },
}

/// Where a rule is added to a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// Before all others.
    Start,
    /// Before the one with that handle.
    Before(u64),
    /// Behind all others.
    End,
}

impl Edit {
    /// An operation, as an edit.
    pub(crate) fn of(op: Op, snapshot: &Snapshot) -> Self {
        match op {
            Op::SetRoute { ns, route } => Self::set_route(snapshot, ns, route),
            op => Edit::Op(op),
        }
    }

    /// A route, in the place of what is there for its prefix.
    pub(crate) fn set_route(snapshot: &Snapshot, ns: NsName, route: Route) -> Self {
        let replaces = snapshot.nodes.get(&ns).is_some_and(|node| node.routes.iter().any(|it| it.key == route.key));
        Edit::Route { ns, route, replaces }
    }

    /// The same as an operation; `None`: no operation does it.
    pub fn op(&self) -> Option<Op> {
        match self {
            Edit::Op(op) => Some(op.clone()),
            Edit::Route { ns, route, .. } => Some(Op::SetRoute { ns: ns.clone(), route: route.clone() }),
            Edit::DelPolicyRule { .. }
            | Edit::AcceptFlow { .. }
            | Edit::DelFilterRule { .. }
            | Edit::AcceptByDefault { .. } => None,
        }
    }

    /// The node in which the command is typed.
    pub fn node(&self) -> &NsName {
        match self {
            Edit::Op(op) => op.ns(),
            Edit::Route { ns, .. }
            | Edit::DelPolicyRule { ns, .. }
            | Edit::AcceptFlow { ns, .. }
            | Edit::DelFilterRule { ns, .. }
            | Edit::AcceptByDefault { ns, .. } => ns,
        }
    }

    /// Makes the change in a snapshot, with all that the kernel would do by itself.
    pub fn apply(&self, snapshot: &mut Snapshot) {
        match self {
            Edit::Op(op) => apply_op(op, snapshot),
            Edit::Route { ns, route, .. } => {
                apply_op(&Op::SetRoute { ns: ns.clone(), route: route.clone() }, snapshot);
            }
            Edit::DelPolicyRule { ns, family, priority } => {
                if let Some(node) = snapshot.nodes.get_mut(ns) {
                    let is_it = |rule: &PolicyRule| rule.family == *family && rule.priority == *priority;
                    if let Some(at) = node.rules.iter().position(is_it) {
                        node.rules.remove(at);
                    }
                }
            }
            Edit::AcceptFlow { ns, family, table, chain, place, flow } => {
                let handle = next_handle(snapshot, ns, family, table);
                for it in chains(snapshot, ns, family, table, chain) {
                    let at = match place {
                        Place::Start => Some(0),
                        Place::Before(handle) => it.rules.iter().position(|rule| rule.handle == *handle),
                        Place::End => Some(it.rules.len()),
                    };
                    // nft(8) refuses a place that is not there.
                    if let Some(at) = at {
                        it.rules.insert(at, Rule { handle, steps: flow.accept(family) });
                    }
                }
            }
            Edit::DelFilterRule { ns, family, table, chain, handle } => {
                for it in chains(snapshot, ns, family, table, chain) {
                    it.rules.retain(|rule| rule.handle != *handle);
                }
            }
            Edit::AcceptByDefault { ns, family, table, chain } => {
                for it in chains(snapshot, ns, family, table, chain) {
                    if let Some(base) = &mut it.base {
                        base.drops = false;
                    }
                }
            }
        }
    }
}

fn chains<'a>(
    snapshot: &'a mut Snapshot,
    ns: &NsName,
    family: &'a str,
    table: &'a str,
    chain: &'a str,
) -> impl Iterator<Item = &'a mut hopyard_net::Chain> {
    let rules = snapshot.nodes.get_mut(ns).and_then(|node| node.firewall.as_mut());
    let all = rules.into_iter().flat_map(|rules| &mut rules.chains);
    all.filter(move |it| it.family == family && it.table == table && it.name == chain)
}

/// A handle that no rule of a table has: the kernel counts them by table.
fn next_handle(snapshot: &Snapshot, ns: &NsName, family: &str, table: &str) -> u64 {
    let rules = snapshot.nodes.get(ns).and_then(|node| node.firewall.as_ref());
    let all = rules.into_iter().flat_map(|rules| &rules.chains);
    let all = all.filter(|it| it.family == family && it.table == table).flat_map(|it| &it.rules);
    all.map(|rule| rule.handle).max().unwrap_or_default().saturating_add(1)
}

fn apply_op(op: &Op, snapshot: &mut Snapshot) {
    if let Op::SetUp { at, up } = op {
        set_up(snapshot, at, *up);
        return;
    }
    let Some(node) = snapshot.nodes.get_mut(op.ns()) else { return };
    match op {
        Op::SetSysctl { key, value, .. } => set_sysctl(node, key, value),
        Op::SetMtu { at, mtu } => {
            if let Some(link) = node.links.get_mut(&at.dev) {
                link.mtu = mtu.get();
            }
        }
        Op::SetMac { at, mac } => {
            if let Some(link) = node.links.get_mut(&at.dev) {
                link.mac = Some(*mac);
                // `neigh_changeaddr()`: those that were set as well.
                node.neighbours.retain(|it| it.dev != at.dev);
            }
        }
        Op::AddAddr { at, addr } => add_address(node, at.dev, *addr),
        Op::DelAddr { at, addr } => del_address(node, at.dev, *addr),
        Op::SetRoute { route, .. } => {
            node.routes.retain(|it| it.key != route.key);
            node.routes.push(FibRoute::from(route));
        }
        Op::DelRoute { key, .. } => {
            if let Some(at) = node.routes.iter().position(|it| it.key == *key) {
                node.routes.remove(at);
            }
        }
        Op::SetNeigh { at, addr, mac } => {
            node.neighbours.retain(|it| (it.dev, it.addr) != (at.dev, *addr));
            node.neighbours.push(Neighbour { dev: at.dev, addr: *addr, mac: *mac, permanent: true });
        }
        Op::DelNeigh { at, addr } => node.neighbours.retain(|it| (it.dev, it.addr) != (at.dev, *addr)),
        Op::SetNat { nat, .. } => {
            let rules = node.firewall.get_or_insert_default();
            rules.chains.retain(|chain| !(chain.family == "inet" && chain.table == Nat::TABLE));
            rules.chains.extend(nat.chains());
        }
        // No repair makes, removes or renames what a plan has built.
        _ => {}
    }
}

fn set_up(snapshot: &mut Snapshot, at: &Endpoint, up: bool) {
    let peer = segment::link_at(snapshot, at).and_then(segment::peer_of).cloned();
    let peer_is_up = peer.as_ref().and_then(|peer| segment::link_at(snapshot, peer)).is_none_or(|peer| peer.up);
    let Some(node) = snapshot.nodes.get_mut(&at.ns) else { return };
    let Some(link) = node.links.get_mut(&at.dev) else { return };
    link.up = up;
    link.carrier = up && peer_is_up;
    let addresses: Vec<IpNet> = link.addresses.iter().map(|own| own.net).collect();
    for net in addresses.into_iter().filter(|_| up) {
        add_connected(node, at.dev, net);
    }
    if let Some(peer) = peer
        && let Some(link) = snapshot.nodes.get_mut(&peer.ns).and_then(|node| node.links.get_mut(&peer.dev))
    {
        link.carrier = up && link.up;
    }
}

pub(crate) fn set_sysctl(node: &mut NodeState, key: &SysctlKey, value: &str) {
    let number: u8 = value.parse().unwrap_or_default();
    if *key == SysctlKey::IPV4_FORWARD {
        // One switch for all interfaces.
        node.all.forwarding = number != 0;
        for link in node.links.values_mut() {
            link.conf.forwarding = number != 0;
        }
        return;
    }
    if *key == SysctlKey::IPV6_FORWARD {
        node.forwards_ipv6 = number != 0;
        return;
    }
    if let Some(family) = Family::BOTH.into_iter().find(|family| SysctlKey::bridge_nf(*family) == *key) {
        *node.bridge_nf.get_or_insert_default().of_mut(family) = number != 0;
        return;
    }
    let forgets = [(SysctlKey::IPV4_FORGET, Family::Ipv4), (SysctlKey::IPV6_FORGET, Family::Ipv6)];
    if let Some((_, family)) = forgets.iter().find(|(forgets, _)| forgets == key) {
        node.redirects.retain(|it| Family::of(it.dst) != *family);
        return;
    }
    if [SysctlKey::IPV4_TTL, SysctlKey::IPV4_IGNORE_ECHO, SysctlKey::IPV6_IGNORE_ECHO].contains(key) {
        let habits = node.habits.get_or_insert_default();
        match key {
            _ if *key == SysctlKey::IPV4_TTL => habits.ttl = number,
            _ if *key == SysctlKey::IPV4_IGNORE_ECHO => habits.ignores_echo = number != 0,
            _ => habits.ignores_echo_ipv6 = number != 0,
        }
        return;
    }
    if let Some((dev, what)) = key.as_str().strip_prefix("net.ipv6.conf.").and_then(|rest| rest.rsplit_once('.')) {
        let name: Option<IfName> = dev.replace('/', ".").parse().ok();
        let Some(link) = name.and_then(|name| node.links.get_mut(&name)) else { return };
        match what {
            "force_forwarding" => link.ipv6.force_forwarding = number != 0,
            "disable_ipv6" => link.ipv6.disabled = number != 0,
            "hop_limit" => link.ipv6.hop_limit = Some(number).filter(|limit| *limit != Ipv6Conf::HOP_LIMIT),
            _ => {}
        }
        return;
    }
    let Some(rest) = key.as_str().strip_prefix("net.ipv4.conf.") else { return };
    let Some((dev, what)) = rest.rsplit_once('.') else { return };
    let conf = if dev == "all" {
        Some(&mut node.all)
    } else {
        let name: Option<IfName> = dev.replace('/', ".").parse().ok();
        name.and_then(|name| node.links.get_mut(&name)).map(|link| &mut link.conf)
    };
    let Some(conf) = conf else { return };
    match what {
        "forwarding" => conf.forwarding = number != 0,
        "rp_filter" => conf.rp_filter = number,
        "accept_local" => conf.accept_local = number != 0,
        "arp_ignore" => conf.arp_ignore = number,
        "proxy_arp" => conf.proxy_arp = number != 0,
        _ => {}
    }
}

fn host_route(net: IpNet) -> RouteKey {
    let bits = if net.addr().is_ipv4() { 32 } else { 128 };
    let prefix = IpNet::new(net.addr(), bits).unwrap_or(net);
    RouteKey { prefix, table: FibRoute::LOCAL, metric: 0 }
}

pub(crate) fn add_address(node: &mut NodeState, dev: IfName, net: IpNet) {
    let Some(link) = node.links.get_mut(&dev) else { return };
    // IPv6 takes the same address twice with no other length either.
    let has = |own: &IfAddress| own.net == net || net.addr().is_ipv6() && own.net.addr() == net.addr();
    if link.addresses.iter().any(has) {
        return;
    }
    let primary = link.addresses.iter().find(|own| own.net.trunc() == net.trunc()).map(|own| own.net.addr());
    let secondary = primary.is_some();
    link.addresses.push(IfAddress { secondary, ..IfAddress::new(net) });
    let up = link.up;
    node.routes.push(FibRoute {
        key: host_route(net),
        action: FibAction::Local,
        // To one of several IPv4 addresses of a network the node sends from the first (`fib_add_ifaddr()`).
        src: Some(primary.filter(IpAddr::is_ipv4).unwrap_or(net.addr())),
        hop_limit: None,
        mtu: None,
        derived: true,
    });
    if up {
        add_connected(node, dev, net);
    }
}

fn add_connected(node: &mut NodeState, dev: IfName, net: IpNet) {
    /// What IPv6 gives to the network of an address.
    const IPV6_METRIC: u32 = 256;
    if dev == IfName::LO || net.prefix_len() == net.max_prefix_len() && net.addr().is_ipv4() {
        return;
    }
    let metric = if net.addr().is_ipv4() { 0 } else { IPV6_METRIC };
    let key = RouteKey { prefix: net.trunc(), table: RouteKey::MAIN, metric };
    let hop = NextHop { via: None, dev, weight: 1 };
    if node.routes.iter().any(|it| it.key == key && it.next_hops() == [hop.clone()]) {
        return;
    }
    let src = net.addr().is_ipv4().then_some(net.addr());
    let action = FibAction::Route(RouteKind::Unicast(vec![hop]));
    node.routes.push(FibRoute { key, action, src, hop_limit: None, mtu: None, derived: true });
}

fn del_address(node: &mut NodeState, dev: IfName, net: IpNet) {
    let Some(link) = node.links.get_mut(&dev) else { return };
    link.addresses.retain(|own| own.net != net);
    let shared = link.addresses.iter().any(|own| own.net.trunc() == net.trunc());
    let last = !link.addresses.iter().any(|own| own.net.addr().is_ipv4());
    let key = host_route(net);
    let elsewhere = node.links.values().flat_map(|link| &link.addresses).any(|own| own.net.addr() == net.addr());
    if !elsewhere {
        node.routes.retain(|it| it.key.table != FibRoute::LOCAL || it.key.prefix != key.prefix);
        node.routes.retain(|it| it.derived || it.src != Some(net.addr()));
    }
    if !shared {
        let connected = |it: &FibRoute| {
            it.derived && it.key.prefix == net.trunc() && it.next_hops().iter().any(|hop| hop.dev == dev)
        };
        node.routes.retain(|it| !connected(it));
    }
    if net.addr().is_ipv4() && last {
        // Without an address an interface has no part in IPv4.
        let through = |it: &FibRoute| it.next_hops().iter().any(|hop| hop.dev == dev);
        node.routes.retain(|it| it.key.family() != Family::Ipv4 || !through(it));
    }
}

impl fmt::Display for Edit {
    /// The command to type in the node: ip(8), sysctl(8), nft(8).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Edit::Op(op) => write_op(f, op),
            Edit::Route { route, replaces, .. } => {
                let default_v6 = route.key.is_default() && route.key.family() == Family::Ipv6;
                let flag = if default_v6 { "-6 " } else { "" };
                write!(f, "ip {flag}route {} ", if *replaces { "replace" } else { "add" })?;
                write_route(f, route)
            }
            Edit::DelPolicyRule { family, priority, .. } => {
                let flag = if *family == Family::Ipv6 { "-6 " } else { "" };
                write!(f, "ip {flag}rule delete priority {priority}")
            }
            Edit::AcceptFlow { family, table, chain, place, flow, .. } => {
                let verb = if *place == Place::End { "add" } else { "insert" };
                write!(f, "nft {verb} rule {family} {table} {chain} ")?;
                if let Place::Before(handle) = place {
                    write!(f, "position {handle} ")?;
                }
                write!(f, "{flow} accept")
            }
            Edit::DelFilterRule { family, table, chain, handle, .. } => {
                write!(f, "nft delete rule {family} {table} {chain} handle {handle}")
            }
            Edit::AcceptByDefault { family, table, chain, .. } => {
                write!(f, "nft chain {family} {table} {chain} '{{ policy accept; }}'")
            }
        }
    }
}

/// An operation is typed from outside, as `ip -n NODE ...`; this one inside.
fn write_op(f: &mut fmt::Formatter<'_>, op: &Op) -> fmt::Result {
    let text = op.to_string();
    let outside = [format!("ip -n {} ", op.ns()), format!("ip netns exec {} ", op.ns())];
    match (text.strip_prefix(&outside[0]), text.strip_prefix(&outside[1])) {
        (Some(rest), _) => write!(f, "ip {rest}"),
        (None, Some(rest)) => f.write_str(rest),
        (None, None) => f.write_str(&text),
    }
}

/// Without the interface, which follows from the neighbour.
fn write_route(f: &mut fmt::Formatter<'_>, route: &Route) -> fmt::Result {
    match (&route.kind, route.src, route.hop_limit) {
        (RouteKind::Unicast(hops), None, None) if hops.len() == 1 && !hops[0].via.is_some_and(is_link_local) => {
            match hops[0].of(route.key.family()).via() {
                Some(via) => write!(f, "{} {via}", route.key),
                None => write!(f, "{route}"),
            }
        }
        _ => write!(f, "{route}"),
    }
}
