//! Routes given by hand, in the words of ip-route(8).

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use hopyard_net::{Family, IfName, IpNet, RouteKey};

use super::cables::Cables;
use super::nodes::{iface, unknown_iface};
use super::segments::Segments;
use super::vertices::Vertices;
use crate::nearest::did_you_mean;
use crate::{NodeDoc, NodeId, Problem, Span, StaticRoute, StaticRouteKind, Vertex, Via};

/// What a route may say, for the help.
const USAGE: &str = "write `[blackhole|unreachable|prohibit] PREFIX|default [via ADDRESS|NODE] [dev INTERFACE] \
                     [metric NUMBER] [table NUMBER]`";

/// Who is next to whom.
pub(super) struct Neighbours<'r, 'a> {
    pub(super) vertices: &'r Vertices<'a>,
    pub(super) cables: &'r Cables<'a>,
    pub(super) segments: &'r Segments,
}

/// The routes of a node.
pub(super) fn all(
    doc: &NodeDoc,
    node: NodeId,
    neighbours: &Neighbours<'_, '_>,
    problems: &mut Vec<Problem>,
) -> Vec<StaticRoute> {
    let mut routes: Vec<StaticRoute> = Vec::new();
    let mut first: HashMap<RouteKey, Option<Span>> = HashMap::new();
    for given in &doc.routes {
        let route = match Words::of(&given.value).and_then(|words| words.route(node, given.span, neighbours)) {
            Ok(route) => route,
            Err(problem) => {
                let mut problem = *problem;
                problem.at = given.span;
                problems.push(problem);
                continue;
            }
        };
        let key = route.key();
        if let Some(at) = first.get(&key) {
            let node = neighbours.vertices.text(Vertex::Node(node));
            problems.push(
                Problem::error("duplicate-route", given.span, format!("`{node}` has two routes to `{key}`"))
                    .also(*at, "the first")
                    .help("give one of them another `metric`"),
            );
            continue;
        }
        first.insert(key, given.span);
        routes.push(route);
    }
    routes
}

/// Why a route is none; boxed, because it is much larger than what it stands in for.
type Refused = Box<Problem>;

#[expect(clippy::unnecessary_box_returns, reason = "it is the error of every function here")]
fn bad(message: impl Into<String>) -> Refused {
    Box::new(Problem::error("bad-route", None, message).help(USAGE))
}

/// A route's words, each in its place.
#[derive(Default)]
struct Words<'t> {
    kind: Option<&'t str>,
    family: Option<Family>,
    to: &'t str,
    via: Option<&'t str>,
    dev: Option<&'t str>,
    metric: Option<&'t str>,
    table: Option<&'t str>,
}

impl<'t> Words<'t> {
    fn of(text: &'t str) -> Result<Self, Refused> {
        let mut words = Words::default();
        let mut rest = text.split_whitespace().peekable();
        while let Some(word) = rest.next_if(|word| matches!(*word, "-4" | "-6")) {
            words.family = Some(if word == "-4" { Family::Ipv4 } else { Family::Ipv6 });
        }
        words.kind = rest.next_if(|word| matches!(*word, "blackhole" | "unreachable" | "prohibit"));
        words.to = rest.next().ok_or_else(|| bad("the route has no destination"))?;
        while let Some(key) = rest.next() {
            let slot = match key {
                "via" => &mut words.via,
                "dev" => &mut words.dev,
                "metric" => &mut words.metric,
                "table" => &mut words.table,
                _ => {
                    let mut problem = bad(format!("a route does not know `{key}`"));
                    if let Some(meant) = did_you_mean(key, ["via", "dev", "metric", "table"]) {
                        problem.help = Some(meant);
                    }
                    return Err(problem);
                }
            };
            if slot.is_some() {
                return Err(bad(format!("`{key}` stands twice in the route")));
            }
            *slot = Some(rest.next().ok_or_else(|| bad(format!("nothing follows `{key}` in the route")))?);
        }
        Ok(words)
    }

    fn route(&self, node: NodeId, at: Option<Span>, neighbours: &Neighbours<'_, '_>) -> Result<StaticRoute, Refused> {
        let via = self.via.map(|via| neighbours.via(node, via)).transpose()?;
        let to = self.destination(via)?;
        let dev = self.dev.map(|dev| neighbours.dev(node, dev)).transpose()?;
        if let Some(Via::Addr(addr)) = via {
            check_gateway(addr, to, dev.is_some())?;
        }
        let kind = match self.kind {
            None if via.is_none() && dev.is_none() => {
                return Err(bad(format!("the route to `{}` leads nowhere: it has neither `via` nor `dev`", self.to)));
            }
            None => StaticRouteKind::Unicast { via, dev },
            Some(word) if via.is_some() || dev.is_some() => {
                return Err(bad(format!("a `{word}` route leads nowhere, so it takes neither `via` nor `dev`")));
            }
            Some("blackhole") => StaticRouteKind::Blackhole,
            Some("unreachable") => StaticRouteKind::Unreachable,
            Some(_) => StaticRouteKind::Prohibit,
        };
        let metric = self.metric.map_or(Ok(0), |text| number("metric", text))?;
        let table = match self.table {
            None | Some("main") => RouteKey::MAIN,
            Some("default") => 253,
            Some(text) => number("table", text)?,
        };
        // Table 0 means "unspecified", and 255 is the kernel's own.
        if matches!(table, 0 | 255) {
            return Err(bad(format!("table {table} cannot have routes of yours; allowed are 1 to 4294967295 but 255")));
        }
        Ok(StaticRoute { to, kind, metric, table, origin: at })
    }

    fn destination(&self, via: Option<Via>) -> Result<IpNet, Refused> {
        if matches!(self.to, "default" | "any" | "all") {
            let of_via = match via {
                Some(Via::Addr(addr)) => Some(Family::of(addr)),
                _ => None,
            };
            return Ok(self.family.or(of_via).unwrap_or(Family::Ipv4).default_prefix());
        }
        let net = match self.to.parse::<IpAddr>() {
            Ok(addr) => IpNet::from(addr),
            Err(_) => self.to.parse::<IpNet>().map_err(|_| {
                let mut problem = bad(format!("`{}` is no destination of a route", self.to));
                if let Some(meant) = did_you_mean(self.to, ["default", "blackhole", "unreachable", "prohibit"]) {
                    problem.help = Some(meant);
                }
                problem
            })?,
        };
        if net.trunc() != net {
            let problem = bad(format!("`{net}` is an address; a destination has no bit set beyond its length"));
            return Err(Box::new(problem.help(format!("did you mean `{}`?", net.trunc()))));
        }
        match self.family {
            Some(family) if family != Family::of(net.addr()) => {
                Err(bad(format!("`{net}` is {}, but the route says {family}", Family::of(net.addr()))))
            }
            _ => Ok(net),
        }
    }
}

/// Can a packet to `to` be handed to this neighbour?
fn check_gateway(addr: IpAddr, to: IpNet, has_dev: bool) -> Result<(), Refused> {
    let (family, wanted) = (Family::of(addr), Family::of(to.addr()));
    if family != wanted {
        return Err(bad(format!("the destination is {wanted} and the next hop `{addr}` {family}")));
    }
    if addr.is_unspecified() || addr.is_multicast() || addr.is_loopback() {
        return Err(bad(format!("`{addr}` cannot be a next hop")));
    }
    if let IpAddr::V6(v6) = addr
        && v6.is_unicast_link_local()
        && !has_dev
    {
        let problem = bad(format!("`{addr}` is link-local, so the route must say on which link"));
        return Err(Box::new(problem.help("add `dev INTERFACE`")));
    }
    Ok(())
}

fn number(key: &str, text: &str) -> Result<u32, Refused> {
    text.parse().map_err(|_| bad(format!("`{key}` is `{text}`; allowed are numbers from 0 to 4294967295")))
}

impl Neighbours<'_, '_> {
    fn via(&self, node: NodeId, text: &str) -> Result<Via, Refused> {
        if let Ok(addr) = text.parse::<IpAddr>() {
            return Ok(Via::Addr(addr));
        }
        let Some(found) = self.vertices.find(text) else {
            if text.contains(['/', ':']) {
                return Err(bad(format!("`{text}` is no next hop; a next hop is one address, without a length")));
            }
            return Err(Box::new(self.vertices.unknown("next hop", text, None)));
        };
        let Vertex::Node(next) = found else {
            return Err(bad(format!("`{text}` is a switch, which forwards no packets; a next hop is a node")));
        };
        if self.places(node).any(|place| self.places(next).any(|other| other == place)) && next != node {
            return Ok(Via::Node(next));
        }
        let own = self.vertices.text(Vertex::Node(node));
        let message = format!("`{own}` has no link to `{text}`, so it cannot be its next hop");
        let near = self.near(node);
        let problem = Problem::error("not-a-neighbour", None, message);
        let few: Vec<String> = near.iter().take(8).map(|name| format!("`{name}`")).collect();
        let more = if near.len() > 8 { ", …" } else { "" };
        Err(Box::new(if few.is_empty() {
            problem.help("it has no link at all")
        } else {
            problem.help(format!("its neighbours are {}{more}", super::list(&few)))
        }))
    }

    fn dev(&self, node: NodeId, name: &str) -> Result<IfName, Refused> {
        iface(self.cables, node, name).ok_or_else(|| {
            Box::new(unknown_iface(self.cables, node, self.vertices.text(Vertex::Node(node)), name, None))
        })
    }

    /// The links and segments that a node is on.
    fn places(&self, node: NodeId) -> impl Iterator<Item = (bool, usize)> {
        self.cables.at_node[node.index()].iter().map(|&(cable, _)| match self.cables.list[cable].ends[1].vertex {
            Vertex::Node(_) => (false, cable),
            Vertex::Switch(id) => (true, self.segments.segment(id)),
        })
    }

    /// The nodes on a node's links and segments, by name.
    fn near(&self, node: NodeId) -> BTreeSet<&str> {
        let mut near = BTreeSet::new();
        let places: HashSet<(bool, usize)> = self.places(node).collect();
        for (index, cable) in self.cables.list.iter().enumerate() {
            let place = match cable.ends[1].vertex {
                Vertex::Node(_) => (false, index),
                Vertex::Switch(id) => (true, self.segments.segment(id)),
            };
            if places.contains(&place) {
                let others = cable.ends.iter().map(|end| end.vertex);
                let others = others.filter(|vertex| matches!(vertex, Vertex::Node(id) if *id != node));
                near.extend(others.map(|vertex| self.vertices.text(vertex)));
            }
        }
        near
    }
}
