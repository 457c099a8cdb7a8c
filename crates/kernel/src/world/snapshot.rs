//! All that decides where a packet goes, read from the namespaces; and what a node's own kernel
//! answers when it is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use hopyard_net::{
    BridgeNf, Family, Habits, IfAddress, IfName, LinkKind, LinkState, Listener, NodeState, NsName, Ruleset, Snapshot,
    SysctlKey,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteType, RouteVia};

use super::observe::{DUMP, kind_of};
use super::peers::{Pairs, Space};
use super::{World, in_parallel, visit};
use crate::decode::{self, FoundKind, FoundLink};
use crate::encode::{self, RouteQuestion};
use crate::error::Refusal;
use crate::links::IfIndex;
use crate::netlink::Inbox;
use crate::{Errno, KernelError, listeners, namespace, netconf, nftables, rights};

/// What of a network is read.
#[derive(Clone, Debug, Default)]
pub struct SnapshotScope {
    /// The nodes of which is read what matters where packets begin and end: waiting sockets, habits. That is dear.
    pub ends: BTreeSet<NsName>,
}

/// What a node's kernel does with a packet, as it says itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteAnswer {
    /// It is for the node.
    Local,
    /// It is sent on.
    On {
        /// By that interface.
        dev: IfName,
        /// To that neighbour; `None`: to the destination itself.
        via: Option<IpAddr>,
        /// The source that the node would give it.
        src: Option<IpAddr>,
        /// Has it learnt that by an ICMP redirect?
        redirected: bool,
    },
    /// It is refused, with that error number.
    Refused(Errno),
    /// Something else: broadcast, multicast.
    Other,
}

impl World {
    /// Reads all that decides where packets go.
    ///
    /// # Errors
    /// A namespace could not be read.
    pub fn snapshot(&self, scope: &SnapshotScope) -> Result<Snapshot, KernelError> {
        let links = |refusal: Refusal| refusal.while_doing("read the links of the nodes");
        let spaces = self.read_all_links().map_err(links)?;
        let pairs = Self::find_pairs(&spaces).map_err(links)?;
        // Once: to look it up in a node's namespace leaves entries of its `/proc/sys` with the kernel.
        let has_ipv6 = rights::has_ipv6();
        let results = in_parallel(&spaces, |queue| {
            let read_all = || {
                let mut inbox = Inbox::default();
                let mut found = Vec::new();
                while let Some((_, space)) = queue.take() {
                    let state = read_node(space, &pairs, scope, has_ipv6, &mut inbox)
                        .map_err(|refusal| refusal.while_doing(format!("read node {}", space.name)))?;
                    found.push((space.name.clone(), state));
                }
                Ok(found)
            };
            // Sockets of other protocols are opened in the node.
            visit(&self.realm, read_all).map_err(|refusal| refusal.while_doing("read the nodes"))?
        });
        let mut snapshot = Snapshot::default();
        for result in results {
            snapshot.nodes.extend(result?);
        }
        for (at, by) in Self::find_shared(&spaces).map_err(links)? {
            if let Some(link) = snapshot.nodes.get_mut(&at.ns).and_then(|node| node.links.get_mut(&at.dev)) {
                link.shared_by.get_or_insert(by);
            }
        }
        drop(spaces);
        self.read_settings_of_all(&mut snapshot)?;
        for (name, habits) in self.habits(&scope.ends)? {
            snapshot.nodes.entry(name).or_default().habits = Some(habits);
        }
        Ok(snapshot)
    }

    /// Reads the sockets that wait for packets, of these nodes alone.
    ///
    /// # Errors
    /// There is no such node, or it could not be read.
    pub fn listeners(&self, nodes: &BTreeSet<NsName>) -> Result<BTreeMap<NsName, Vec<Listener>>, KernelError> {
        let read = || -> Result<BTreeMap<NsName, Vec<Listener>>, Refusal> {
            let mut inbox = Inbox::default();
            let mut found = BTreeMap::new();
            for name in nodes {
                namespace::enter(self.space(name)?.socket.namespace()?)?;
                found.extend(listeners::read(&mut inbox)?.map(|listeners| (name.clone(), listeners)));
            }
            Ok(found)
        };
        let doing = |refusal: Refusal| refusal.while_doing("read who listens in the nodes");
        visit(&self.realm, read).map_err(doing)?.map_err(doing)
    }

    /// Reads how nodes send and answer, of these nodes alone.
    ///
    /// # Errors
    /// They could not be read.
    pub fn habits(&self, nodes: &BTreeSet<NsName>) -> Result<BTreeMap<NsName, Habits>, KernelError> {
        let keys = BTreeSet::from([SysctlKey::IPV4_TTL, SysctlKey::IPV4_IGNORE_ECHO, SysctlKey::IPV6_IGNORE_ECHO]);
        let wanted = nodes.iter().map(|name| (name.clone(), keys.clone())).collect();
        let mut found = BTreeMap::new();
        for (name, values) in self.sysctls(&wanted)? {
            // One that is not there, as in a kernel without IPv6, does nothing.
            let number = |key: &SysctlKey| values.get(key).and_then(|value| value.parse::<u8>().ok());
            let is_on = |key: &SysctlKey| number(key).is_some_and(|value| value != 0);
            let habits = Habits {
                ttl: number(&SysctlKey::IPV4_TTL).unwrap_or(Habits::TTL),
                ignores_echo: is_on(&SysctlKey::IPV4_IGNORE_ECHO),
                ignores_echo_ipv6: is_on(&SysctlKey::IPV6_IGNORE_ECHO),
            };
            found.insert(name, habits);
        }
        Ok(found)
    }

    /// The values of `net.ipv4.conf.all` that no socket tells, and of `net.bridge` where they decide.
    fn read_settings_of_all(&self, snapshot: &mut Snapshot) -> Result<(), KernelError> {
        let keys = ["net.ipv4.conf.all.arp_ignore", "net.ipv4.conf.all.accept_local"];
        let keys: BTreeSet<SysctlKey> = keys.iter().filter_map(|key| key.parse().ok()).collect();
        let mut wanted: BTreeMap<NsName, BTreeSet<SysctlKey>> =
            self.names().map(|name| (name.clone(), keys.clone())).collect();
        for (name, node) in &mut snapshot.nodes {
            let has_rules = node.firewall.as_ref().is_some_and(|rules| !rules.chains.is_empty());
            if has_rules && node.links.values().any(|link| link.kind == LinkKind::Bridge) {
                // A kernel without these sysctls shows no frames to anybody.
                node.bridge_nf = Some(BridgeNf::default());
                wanted.entry(name.clone()).or_default().extend(Family::BOTH.map(SysctlKey::bridge_nf));
            }
        }
        for (name, values) in self.sysctls(&wanted)? {
            let Some(node) = snapshot.nodes.get_mut(&name) else { continue };
            for (key, value) in values {
                let number = value.parse().unwrap_or_default();
                if let Some(family) = Family::BOTH.into_iter().find(|family| SysctlKey::bridge_nf(*family) == key) {
                    *node.bridge_nf.get_or_insert_default().of_mut(family) = number != 0;
                    continue;
                }
                match key.as_str().rsplit('.').next() {
                    Some("arp_ignore") => node.all.arp_ignore = number,
                    _ => node.all.accept_local = number != 0,
                }
            }
        }
        Ok(())
    }

    /// The firewall of a namespace; `None`: it may not be read.
    ///
    /// # Errors
    /// There is no such namespace, or it cannot be entered.
    pub fn firewall(&self, name: &NsName) -> Result<Option<Ruleset>, KernelError> {
        let reading = |refusal: Refusal| refusal.while_doing(format!("read the firewall of {name}"));
        let space = self.space(name).map_err(reading)?;
        let read = || {
            namespace::enter(space.socket.namespace()?)?;
            read_firewall(&mut Inbox::default())
        };
        visit(&self.realm, read).map_err(reading)?.map_err(reading)
    }

    /// Asks the kernel of a node what it does with a packet that came in there, or is the node's own.
    ///
    /// # Errors
    /// There is no such node or interface. That the kernel refuses the packet is an answer.
    pub fn ask_route(
        &mut self,
        name: &NsName,
        input: Option<IfName>,
        (from, to): (Option<IpAddr>, IpAddr),
        protocol: u8,
        ports: Option<(u16, u16)>,
        mark: u32,
    ) -> Result<RouteAnswer, KernelError> {
        let asking = |refusal: Refusal| refusal.while_doing(format!("ask {name} for a route"));
        let mut inbox = Inbox::default();
        let space = self.space(name).map_err(asking)?;
        let links = super::observe::read_links(&space.socket, &mut inbox).map_err(asking)?;
        let index = |dev: IfName| links.iter().find(|link| link.dev == dev).map(|link| link.index);
        let input = match input {
            Some(dev) => Some(index(dev).ok_or_else(|| asking(Refusal::from(Errno::NODEV)))?),
            None => None,
        };
        let question = RouteQuestion { from, to, input, protocol, ports, mark };
        let answers = match space.socket.ask(encode::get_route_of(&question), 0, &mut inbox) {
            Ok(answers) => answers,
            Err(refusal) => return Ok(RouteAnswer::Refused(refusal.errno)),
        };
        let names: BTreeMap<IfIndex, IfName> = links.iter().map(|link| (link.index, link.dev)).collect();
        Ok(answers.iter().find_map(|answer| answer_of(answer, &names)).unwrap_or(RouteAnswer::Other))
    }
}

fn answer_of(message: &RouteNetlinkMessage, names: &BTreeMap<IfIndex, IfName>) -> Option<RouteAnswer> {
    let RouteNetlinkMessage::NewRoute(route) = message else { return None };
    let (mut dev, mut via, mut src) = (None, None, None);
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Oif(index) => dev = names.get(index).copied(),
            RouteAttribute::Gateway(addr) => via = ip(addr),
            RouteAttribute::Via(RouteVia::Inet(addr)) => via = Some((*addr).into()),
            RouteAttribute::Via(RouteVia::Inet6(addr)) => via = Some((*addr).into()),
            RouteAttribute::PrefSource(addr) => src = ip(addr),
            _ => {}
        }
    }
    Some(match route.header.kind {
        RouteType::Local | RouteType::Anycast => RouteAnswer::Local,
        RouteType::Unicast => {
            let redirected = decode::is_redirected(&route.header);
            dev.map_or(RouteAnswer::Other, |dev| RouteAnswer::On { dev, via, src, redirected })
        }
        RouteType::BlackHole => RouteAnswer::Refused(Errno::from_raw(libc::EINVAL)),
        RouteType::Unreachable => RouteAnswer::Refused(Errno::from_raw(libc::EHOSTUNREACH)),
        RouteType::Prohibit => RouteAnswer::Refused(Errno::ACCES),
        _ => RouteAnswer::Other,
    })
}

fn ip(addr: &RouteAddress) -> Option<IpAddr> {
    match addr {
        RouteAddress::Inet(addr) => Some((*addr).into()),
        RouteAddress::Inet6(addr) => Some((*addr).into()),
        _ => None,
    }
}

fn read_node(
    space: &Space<'_>,
    pairs: &Pairs,
    scope: &SnapshotScope,
    has_ipv6: bool,
    inbox: &mut Inbox,
) -> Result<NodeState, Refusal> {
    let socket = &space.netns.socket;
    let names: BTreeMap<IfIndex, IfName> = space.links.iter().map(|link| (link.index, link.dev)).collect();
    let bridges: BTreeSet<IfIndex> =
        space.links.iter().filter(|link| link.kind == FoundKind::Bridge).map(|link| link.index).collect();
    let links = space.links.iter().map(|link| {
        let mut state = state_of(space.name, link, pairs, &names);
        // What else interfaces may be parts of, is not followed.
        state.master = state.master.filter(|_| link.master.is_some_and(|index| bridges.contains(&index)));
        (link.dev, state)
    });
    let mut node = NodeState { links: links.collect(), ..NodeState::default() };
    for found in socket.ask(encode::get_addresses(None), DUMP, inbox)?.iter().filter_map(decode::address) {
        let Some(link) = names.get(&found.index).and_then(|dev| node.links.get_mut(dev)) else { continue };
        let decode::FoundAddr { addr, secondary, usable, host_only, link_only, deprecated, .. } = found;
        link.addresses.push(IfAddress { net: addr, secondary, usable, host_only, link_only, deprecated });
    }
    // Asked for those of IPv6, a kernel without it answers with those of IPv4.
    for family in Family::BOTH.into_iter().filter(|family| has_ipv6 || *family == Family::Ipv4) {
        let messages = socket.ask(encode::get_routes(family), DUMP, inbox)?;
        node.routes.extend(messages.iter().filter_map(|message| decode::fib_route(message, &names)));
        node.redirects.extend(messages.iter().filter_map(|message| decode::redirect(message, &names)));
        // A kernel without policy rules has the tables alone.
        let rules = socket.ask(encode::get_rules(family), DUMP, inbox)?;
        node.rules.extend(rules.iter().filter_map(decode::rule));
    }
    for message in socket.ask(encode::get_neighbours(), DUMP, inbox)? {
        let silent = |dev: IfName| node.links.get(&dev).filter(|link| link.beyond.is_some()).and_then(|link| link.mac);
        node.neighbours.extend(decode::any_neighbour(&message, &names, silent));
    }
    if !bridges.is_empty() {
        let own: BTreeSet<_> = space.links.iter().filter_map(|link| link.mac).collect();
        let known = socket.ask(encode::get_macs_of_bridges(), DUMP, inbox)?;
        for (bridge, mac) in known.iter().filter_map(decode::fixed_mac).filter(|(_, mac)| !own.contains(mac)) {
            let link = names.get(&bridge).and_then(|dev| node.links.get_mut(dev));
            let what = || format!("somebody has said at which port {mac} is (bridge fdb), and that is not followed");
            link.map(|link| link.beyond.get_or_insert_with(what));
        }
    }
    let proxied = socket.ask(encode::get_proxied(), DUMP, inbox)?;
    node.proxied = proxied.iter().filter_map(|message| decode::proxied(message, &names)).collect();
    node.all = netconf::read_all(socket, inbox)?;
    if has_ipv6 {
        let ipv6 = netconf::read_all_ipv6(socket, inbox)?;
        node.forwards_ipv6 = ipv6.forwarding;
        if ipv6.proxy_ndp {
            node.links.values_mut().for_each(|link| link.ipv6.proxy_ndp = true);
        }
    }
    namespace::enter(socket.namespace()?)?;
    node.firewall = read_firewall(inbox)?;
    if scope.ends.contains(space.name) {
        node.listeners = listeners::read(inbox)?;
    }
    Ok(node)
}

/// `None`: it may not be read. A kernel without nftables has no rules.
fn read_firewall(inbox: &mut Inbox) -> Result<Option<Ruleset>, Refusal> {
    match nftables::read(inbox) {
        Ok(rules) => Ok(Some(rules)),
        Err(refusal) if refusal.errno.is_unsupported() => Ok(Some(Ruleset::default())),
        Err(refusal) if refusal.errno == Errno::PERM || refusal.errno == Errno::ACCES => Ok(None),
        Err(refusal) => Err(refusal),
    }
}

fn state_of(ns: &NsName, found: &FoundLink, pairs: &Pairs, names: &BTreeMap<IfIndex, IfName>) -> LinkState {
    LinkState {
        index: found.index,
        mac: found.mac,
        mtu: found.mtu_bytes,
        master: found.master.and_then(|index| names.get(&index).copied()),
        up: found.up,
        carrier: found.carrier,
        conf: found.conf,
        ipv6: found.ipv6,
        bridge_nf: found.bridge_nf,
        beyond: found.beyond.clone(),
        ..LinkState::new(kind_of(ns, found, pairs))
    }
}
