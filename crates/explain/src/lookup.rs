//! Routing tables: policy rules, longest prefix, the source address. As `fib_lookup()`,
//! `fib_validate_source()` and `inet_select_addr()` of the kernel have it, and RFC 6724.

use std::net::IpAddr;

use hopyard_net::{
    Family, FibAction, FibRoute, IfName, IpNet, Ipv4Conf, LinkState, NextHop, NodeState, PolicyRule, RouteKey,
    RouteKind, RuleAction,
};
use std::cmp::Reverse;

use crate::Packet;
use crate::filter::Mark;

/// What the tables of a node say of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found<'a> {
    /// The first entry that is about it.
    Route(&'a FibRoute),
    /// A rule refuses it.
    Refused(&'a PolicyRule),
    /// No entry is about it.
    Nothing,
    /// What decides is not understood.
    Beyond(String),
}

/// A question to the tables of a node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question<'a> {
    pub(crate) packet: &'a Packet,
    /// Where it came in; `None`: it is the node's own.
    pub(crate) input: Option<IfName>,
    /// Routes through that interface only.
    pub(crate) output: Option<IfName>,
    /// What a firewall has marked it with.
    pub(crate) mark: Mark,
}

impl<'a> Question<'a> {
    pub(crate) fn of(packet: &'a Packet, input: Option<IfName>) -> Self {
        Question { packet, input, output: None, mark: Mark::default() }
    }
}

/// Asks the policy rules in order, and the tables that they name.
pub(crate) fn find<'a>(node: &'a NodeState, question: &Question<'_>) -> Found<'a> {
    let family = question.packet.family();
    let mut rules = node.rules.iter().filter(|rule| rule.family == family);
    let mut jump: Option<u32> = None;
    // By reference, so that a jump goes on behind where it is.
    for rule in rules.by_ref() {
        if jump.is_some_and(|target| rule.priority < target) {
            continue;
        }
        jump = None;
        let holds = match question.mark {
            Mark::Known(mark) => matches(rule, question, mark),
            // With the mark that it asks for, and with another one.
            Mark::Unknown => {
                let (value, mask) = rule.mark.unwrap_or_default();
                let holds = matches(rule, question, value);
                if holds != matches(rule, question, value ^ mask) {
                    return Found::Beyond(format!(
                        "policy rule {} asks for the mark, which is not known",
                        rule.priority
                    ));
                }
                holds
            }
        };
        if !holds {
            continue;
        }
        if let Some(what) = &rule.beyond {
            return Found::Beyond(format!("policy rule {}: {what}", rule.priority));
        }
        match rule.action {
            RuleAction::Blackhole | RuleAction::Unreachable | RuleAction::Prohibit => return Found::Refused(rule),
            RuleAction::Nop => {}
            RuleAction::Goto(target) => jump = Some(target),
            RuleAction::Lookup(table) => {
                let Some(route) = in_table(node, table, rule.suppress_prefix, question) else { continue };
                match route.action {
                    FibAction::Throw => {}
                    FibAction::Other(kind) => {
                        return Found::Beyond(format!("the route {} is of kind {kind}", route.key));
                    }
                    _ => return Found::Route(route),
                }
            }
        }
    }
    Found::Nothing
}

fn matches(rule: &PolicyRule, question: &Question<'_>, mark: u32) -> bool {
    let packet = question.packet;
    let within = |range: Option<(u16, u16)>, port| range.is_none_or(|(first, last)| (first..=last).contains(&port));
    let input = question.input.map_or_else(|| "lo".to_owned(), |dev| dev.to_string());
    let holds = rule.from.is_none_or(|net| packet.src.is_some_and(|src| net.contains(&src)))
        && rule.to.is_none_or(|net| net.contains(&packet.dst))
        && rule.iif.as_ref().is_none_or(|iif| *iif == input)
        && rule.oif.as_ref().is_none_or(|oif| question.output.is_some_and(|dev| dev.as_str() == oif))
        && rule.mark.is_none_or(|(value, mask)| mark & mask == value)
        && rule.protocol.is_none_or(|number| number == packet.protocol.number(packet.family()))
        && within(rule.source_port, packet.source_port)
        && within(rule.destination_port, packet.destination_port);
    holds != rule.invert
}

/// The entry of a table for a packet: the longest prefix, then the least metric, of those that have
/// a way on.
fn in_table<'a>(
    node: &'a NodeState,
    table: u32,
    suppress: Option<u32>,
    question: &Question<'_>,
) -> Option<&'a FibRoute> {
    let dst = question.packet.dst;
    let mut best: Option<&FibRoute> = None;
    for route in node.routes.iter().filter(|route| route.key.table == table && route.key.prefix.contains(&dst)) {
        let better = best.is_none_or(|best| {
            let (new, old) = (route.key.prefix.prefix_len(), best.key.prefix.prefix_len());
            new > old || new == old && route.metric() < best.metric()
        });
        if better && is_usable(node, route, question.output) {
            best = Some(route);
        }
    }
    best.filter(|route| suppress.is_none_or(|most| u32::from(route.key.prefix.prefix_len()) > most))
}

pub(crate) fn is_usable(node: &NodeState, route: &FibRoute, output: Option<IfName>) -> bool {
    match &route.action {
        FibAction::Route(RouteKind::Unicast(hops)) => hops.iter().any(|hop| hop_is_usable(node, route, hop, output)),
        // Of `lo`, so not through another interface.
        FibAction::Local => output.is_none_or(|dev| dev == IfName::LO),
        _ => true,
    }
}

fn hop_is_usable(node: &NodeState, route: &FibRoute, hop: &NextHop, output: Option<IfName>) -> bool {
    // A route whose only way died with an address is gone, so that the way of one that is there was given without any.
    let is_one_of_several = route.next_hops().len() > 1;
    let skips = |link: &LinkState| {
        let ignores = match route.key.family() {
            Family::Ipv4 => link.conf.ignore_routes_with_linkdown || node.all.ignore_routes_with_linkdown,
            Family::Ipv6 => link.ipv6.ignore_routes_with_linkdown,
        };
        // With its last address an interface loses its part in IPv4, and what led there dies (`fib_disable_ip()`).
        let may_die = is_one_of_several && hop.via.is_some_and(|via| via.is_ipv4());
        let no_part = may_die && !link.addresses.iter().any(|own| own.net.addr().is_ipv4());
        !link.up || ignores && !link.carrier || no_part
    };
    output.is_none_or(|dev| dev == hop.dev) && node.links.get(&hop.dev).is_some_and(|link| !skips(link))
}

/// The ways on of a route that can be used now.
pub(crate) fn usable_hops<'a>(node: &NodeState, route: &'a FibRoute) -> Vec<&'a NextHop> {
    route.next_hops().iter().filter(|hop| hop_is_usable(node, route, hop, None)).collect()
}

/// The way that the node has learnt for a destination, in the place of one that a route has.
pub(crate) fn redirect<'a>(node: &'a NodeState, route: &FibRoute, hop: &NextHop, dst: IpAddr) -> Option<&'a NextHop> {
    let is_it = |it: &&hopyard_net::Redirect| {
        it.dst == dst && it.table == route.key.table && it.hop.dev == hop.dev && it.hop != *hop
    };
    node.redirects.iter().find(is_it).map(|it| &it.hop)
}

/// Is it an address of the node?
pub(crate) fn is_own(node: &NodeState, addr: IpAddr) -> bool {
    node.links.values().flat_map(|link| &link.addresses).any(|own| own.net.addr() == addr)
}

/// The source address that the node gives to a packet of its own. `None`: it has none to give.
pub(crate) fn source(node: &NodeState, route: &FibRoute, hop: Option<&NextHop>, dst: IpAddr) -> Option<IpAddr> {
    if let Some(src) = route.src {
        return Some(src);
    }
    if route.action == FibAction::Local {
        return Some(dst);
    }
    let hop = hop?;
    match Family::of(dst) {
        Family::Ipv4 => source_v4(node, hop.dev, hop.via.unwrap_or(dst), hop.via.is_none()),
        Family::Ipv6 => source_v6(node, hop.dev, dst),
    }
}

/// The first address of the interface, one of the gateway's network rather than another; where it
/// has none, the first one of another interface. `on_link`: for what is on the link, not behind a gateway.
pub(crate) fn source_v4(node: &NodeState, dev: IfName, towards: IpAddr, on_link: bool) -> Option<IpAddr> {
    let candidates = |link: &LinkState, on_link: bool| -> Vec<IpNet> {
        let fit = link.addresses.iter().filter(|own| own.net.addr().is_ipv4() && !own.secondary && !own.host_only);
        let fit = fit.filter(|own| on_link || !own.link_only);
        fit.map(|own| own.net).collect()
    };
    let here = candidates(node.links.get(&dev)?, on_link);
    let near = here.iter().find(|net| net.contains(&towards)).or(here.first());
    if let Some(net) = near {
        return Some(net.addr());
    }
    let mut others: Vec<&LinkState> = node.links.values().filter(|link| link.up).collect();
    others.sort_by_key(|link| link.index);
    others.into_iter().find_map(|link| candidates(link, false).first().map(IpNet::addr))
}

/// RFC 6724, section 5: scope, then whether it is still preferred, then the interface that it leaves by, then the label, then
/// the longest common prefix; the first of equals.
pub(crate) fn source_v6(node: &NodeState, dev: IfName, dst: IpAddr) -> Option<IpAddr> {
    /// More is better, the first first.
    type Rank = (bool, bool, bool, bool, u32);
    let IpAddr::V6(dst) = dst else { return None };
    let mut links: Vec<(&IfName, &LinkState)> = node.links.iter().filter(|(_, link)| link.up).collect();
    links.sort_by_key(|(_, link)| link.index);
    let mut best: Option<(Rank, IpAddr)> = None;
    for (name, link) in links {
        for own in link.addresses.iter().filter(|own| own.usable && !own.host_only) {
            let IpAddr::V6(addr) = own.net.addr() else { continue };
            let scope = addr.is_unicast_link_local() == dst.is_unicast_link_local();
            if !scope && *name != dev {
                continue;
            }
            let common = (u128::from(addr) ^ u128::from(dst)).leading_zeros().min(u32::from(own.net.prefix_len()));
            let rank = (scope, !own.deprecated, *name == dev, label(addr) == label(dst), common);
            if best.is_none_or(|(other, _)| rank > other) {
                best = Some((rank, addr.into()));
            }
        }
    }
    best.map(|(_, addr)| addr)
}

/// RFC 6724, section 2.1, as far as a lab meets it.
fn label(addr: std::net::Ipv6Addr) -> u8 {
    match addr.octets() {
        [0xfc | 0xfd, ..] => 13,
        [0x20, 0x02, ..] => 2,
        [0x20, 0x01, 0, 0, ..] => 5,
        _ => 1,
    }
}

/// Why a node does not believe the source address of a packet that came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Disbelief {
    /// It is the node's own.
    OwnAddress,
    /// The way back leads elsewhere, through that interface if there is one.
    NoWayBack { strict: bool, back_by: Option<IfName> },
    /// What decides is not understood.
    Beyond(String),
}

/// `fib_validate_source()`: does the node believe the source of an IPv4 packet that came in there
/// and would go out there?
pub(crate) fn check_source(
    node: &NodeState,
    packet: &Packet,
    input: IfName,
    output: Option<IfName>,
) -> Option<Disbelief> {
    let (Family::Ipv4, Some(src)) = (packet.family(), packet.src) else { return None };
    let conf = node.links.get(&input).map(|link| link.conf).unwrap_or_default();
    let Ipv4Conf { accept_local, .. } = conf;
    let accept_local = accept_local || node.all.accept_local;
    let filter = conf.rp_filter.max(node.all.rp_filter);
    if filter == 0 && output != Some(input) {
        let own = !accept_local && is_own(node, src);
        return own.then_some(Disbelief::OwnAddress);
    }
    let reverse = Packet {
        src: Some(packet.dst),
        dst: src,
        source_port: packet.destination_port,
        destination_port: packet.source_port,
        ..*packet
    };
    let no_way_back = |back_by| (filter > 0).then_some(Disbelief::NoWayBack { strict: filter == 1, back_by });
    // The kernel asks as if the packet had come from where it would go to.
    match find(node, &Question::of(&reverse, output)) {
        Found::Beyond(what) => Some(Disbelief::Beyond(what)),
        Found::Nothing | Found::Refused(_) => no_way_back(None),
        Found::Route(route) => match &route.action {
            FibAction::Local if accept_local => None,
            FibAction::Local | FibAction::Group => Some(Disbelief::OwnAddress),
            FibAction::Route(RouteKind::Unicast(hops)) => {
                if hops.iter().any(|hop| hop.dev == input) {
                    return None;
                }
                let back_by = hops.first().map(|hop| hop.dev);
                if filter == 1 {
                    return no_way_back(back_by);
                }
                None
            }
            _ => no_way_back(None),
        },
    }
}

/// The route of `main` that a node has to an address.
pub(crate) fn main_route(node: &NodeState, to: IpAddr) -> Option<&FibRoute> {
    let routes = node.routes.iter().filter(|it| it.key.table == RouteKey::MAIN && it.key.prefix.contains(&to));
    routes.max_by_key(|it| (it.key.prefix.prefix_len(), Reverse(it.metric())))
}

/// The destinations of the table `main`.
pub(crate) fn known(node: &NodeState, family: Family) -> Vec<IpNet> {
    let main = node.routes.iter().filter(|route| {
        let link_local = matches!(route.key.prefix, IpNet::V6(net) if net.network().is_unicast_link_local());
        route.key.table == RouteKey::MAIN
            && route.key.family() == family
            && matches!(route.action, FibAction::Route(_))
            && !link_local
    });
    let mut known: Vec<_> = main.map(|route| route.key.prefix).collect();
    known.sort_unstable();
    known.dedup();
    known
}
