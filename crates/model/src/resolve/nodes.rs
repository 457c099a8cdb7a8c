//! What is set on a node: role, addresses, sysctls.

use std::collections::{BTreeMap, HashMap};

use hopyard_net::{Family, IfName, IpNet, SysctlKey};

use super::addresses::{self, AddressBook, Spot};
use super::cables::Cables;
use super::segments::Segments;
use super::vertices::Vertices;
use super::{nat, routes, word};
use crate::nearest::did_you_mean;
use crate::{Node, NodeDoc, NodeId, NodeNat, Problem, Role, Span, Spanned};

/// The longest value that a sysctl takes: a page, as proc(5) hands it to the kernel.
const MAX_SYSCTL: usize = 4095;

/// The nodes; `None` where a name is wrong.
pub(super) fn all(
    vertices: &Vertices<'_>,
    cables: &Cables<'_>,
    segments: &Segments,
    book: &mut AddressBook,
    problems: &mut Vec<Problem>,
) -> Option<Vec<Node>> {
    let neighbours = routes::Neighbours { vertices, cables, segments };
    let mut nodes = Some(Vec::with_capacity(vertices.nodes.len()));
    for (index, declared) in vertices.nodes.iter().enumerate() {
        let id = NodeId(u32::try_from(index).unwrap_or(u32::MAX));
        let mut reader = Reader { node: id, text: declared.text, cables, segments, book, problems };
        let settings = declared.doc.map(|doc| reader.settings(doc)).unwrap_or_default();
        let routes = declared.doc.map(|doc| routes::all(doc, id, &neighbours, problems)).unwrap_or_default();
        let nat = declared.doc.map(|doc| nat::all(&doc.nat, id, vertices, cables, problems)).unwrap_or_default();
        let uplink = declared.doc.and_then(|doc| doc.uplink.as_ref()).filter(|uplink| uplink.value);
        if let Some(given) = uplink
            && let Some(&(cable, _)) = cables.at_node[index]
                .iter()
                .find(|(cable, end)| cables.list[*cable].ends[*end].iface.name.as_str() == Node::UPLINK)
        {
            let message = format!(
                "`{}` has an interface `{}` already, which is the name of the way out",
                declared.text,
                Node::UPLINK
            );
            problems.push(
                Problem::error("duplicate-interface", given.span, message)
                    .also(cables.list[cable].at, "named here")
                    .help("give that interface another name"),
            );
        }
        let uplink = uplink.is_some();
        for floating in &nat.floating {
            let spot = Spot::Outside { node: index, outside: outside_of(&nat, cables, segments, index) };
            let owner = format!("{}, floating", declared.text);
            book.address(IpNet::from(floating.address), floating.origin, owner, spot);
        }
        let Some(name) = declared.name.clone() else {
            nodes = None;
            continue;
        };
        if let Some(nodes) = &mut nodes {
            let node = Node {
                name,
                role: settings.role,
                forward: settings.forward,
                loopback: settings.loopback,
                interfaces: cables.lent(id).collect(),
                addresses: settings.addresses,
                sysctls: settings.sysctls,
                routes,
                nat,
                uplink,
                origin: declared.at,
            };
            problems.extend(declared.doc.and_then(|doc| nat_without_forward(&node, doc, declared.text)));
            let has_neighbours = !cables.at_node[index].is_empty();
            problems.extend(
                declared
                    .doc
                    .filter(|_| has_neighbours)
                    .and_then(|doc| uplink_without_forward(&node, doc, declared.text)),
            );
            nodes.push(node);
        }
    }
    nodes
}

/// A node that is told never to forward has nothing of others to translate.
fn nat_without_forward(node: &Node, doc: &NodeDoc, text: &str) -> Option<Problem> {
    let told = match (&doc.forward, &doc.role) {
        (Some(forward), _) if !forward.value => forward.span,
        (None, Some(role)) if node.role == Some(Role::Host) => role.span,
        _ => return None,
    };
    if node.nat.is_empty() || node.forwards() {
        return None;
    }
    let message = format!("`{text}` translates addresses, and does not forward: what others send ends there");
    Some(
        Problem::warning("nat-without-forward", node.nat.origin, message)
            .also(told, "said here")
            .help("leave that out, or `nat`"),
    )
}

/// A node that is told never to forward is no way out for those that it is linked to. That of a host is its own.
fn uplink_without_forward(node: &Node, doc: &NodeDoc, text: &str) -> Option<Problem> {
    let uplink = doc.uplink.as_ref().filter(|uplink| uplink.value)?;
    let told = doc.forward.as_ref().filter(|forward| !forward.value)?;
    if node.role == Some(Role::Host) {
        return None;
    }
    let message = format!("`{text}` has a way out, and does not forward: for nobody but itself");
    Some(
        Problem::warning("uplink-without-forward", uplink.span, message)
            .also(told.span, "said here")
            .help("leave that out, or say `role: host` if it is meant"),
    )
}

/// What a node's document says, but for its routes.
#[derive(Default)]
struct Settings {
    role: Option<Role>,
    forward: Option<bool>,
    loopback: Option<Vec<IpNet>>,
    addresses: BTreeMap<IfName, Vec<IpNet>>,
    sysctls: BTreeMap<SysctlKey, String>,
}

struct Reader<'r, 'a> {
    node: NodeId,
    text: &'a str,
    cables: &'r Cables<'a>,
    segments: &'r Segments,
    book: &'r mut AddressBook,
    problems: &'r mut Vec<Problem>,
}

impl Reader<'_, '_> {
    fn settings(&mut self, doc: &NodeDoc) -> Settings {
        let role = word("role", doc.role.as_ref(), &[("host", Role::Host), ("router", Role::Router)], self.problems);
        let forward = doc.forward.as_ref().map(|forward| forward.value);
        let clash = match (role, forward) {
            (Some(Role::Host), Some(true)) => Some("is a host, which does not forward, and shall forward"),
            (Some(Role::Router), Some(false)) => Some("is a router, which forwards, and shall not forward"),
            _ => None,
        };
        if let (Some(clash), Some(forward)) = (clash, &doc.forward) {
            self.problems.push(
                Problem::error("role-conflict", forward.span, format!("`{}` {clash}", self.text))
                    .also(doc.role.as_ref().and_then(|role| role.span), "its role")
                    .help("leave one of the two out"),
            );
        }
        Settings {
            role,
            forward,
            loopback: self.loopback(doc),
            addresses: self.addresses(doc),
            sysctls: self.sysctls(doc, forward),
        }
    }

    fn loopback(&mut self, doc: &NodeDoc) -> Option<Vec<IpNet>> {
        match doc.loopback.as_slice() {
            [] => return None,
            [one] if one.value == "auto" => return None,
            [one] if one.value == "none" => return Some(Vec::new()),
            _ => {}
        }
        let mut list = Vec::new();
        for given in &doc.loopback {
            if matches!(given.value.as_str(), "auto" | "none") {
                let message = format!("`{}` cannot stand beside addresses", given.value);
                self.problems.push(Problem::error("bad-word", given.span, message).help("leave it out"));
            } else if let Some(net) = addresses::loopback(given, self.problems) {
                self.own(net, given.span, "lo", None);
                list.push(net);
            }
        }
        Some(list)
    }

    fn addresses(&mut self, doc: &NodeDoc) -> BTreeMap<IfName, Vec<IpNet>> {
        let mut all: BTreeMap<IfName, Vec<IpNet>> = BTreeMap::new();
        for (iface, given) in &doc.addresses {
            let name = self.iface(&iface.value, iface.span);
            let net = if iface.value == "lo" {
                addresses::loopback(given, self.problems)
            } else {
                addresses::address(given, None, self.problems)
            };
            if let Some(net) = net {
                self.own(net, given.span, &iface.value, name);
                if let Some(name) = name {
                    all.entry(name).or_default().push(net);
                }
            }
        }
        all
    }

    fn sysctls(&mut self, doc: &NodeDoc, forward: Option<bool>) -> BTreeMap<SysctlKey, String> {
        let mut all = BTreeMap::new();
        let mut first: HashMap<SysctlKey, Option<Span>> = HashMap::new();
        for (given, value) in &doc.sysctls {
            let text = value.value.trim();
            if text.is_empty() || text.len() > MAX_SYSCTL || text.chars().any(|c| c.is_control() && c != '\t') {
                let message = format!("the value of `{}` must be one line of text", given.value);
                self.problems.push(Problem::error("bad-sysctl", value.span, message));
            }
            if matches!(text, "true" | "false" | "yes" | "no" | "on" | "off") {
                let message = format!("`{}` is `{text}`, which no sysctl takes", given.value);
                self.problems.push(Problem::error("bad-sysctl", value.span, message).help("write `1` or `0`"));
            }
            let key = match given.value.parse::<SysctlKey>() {
                Ok(key) => key,
                Err(error) => {
                    self.problems.push(Problem::error("bad-sysctl", given.span, error.to_string()));
                    continue;
                }
            };
            let Some(key) = self.kernel_key(key, given) else { continue };
            self.forward_clash(&key, text, value, forward, doc);
            if let Some(at) = first.get(&key) {
                self.problems.push(
                    Problem::error("bad-sysctl", given.span, format!("sysctl `{key}` is set twice"))
                        .also(*at, "set here first"),
                );
            } else {
                first.insert(key.clone(), given.span);
                all.insert(key, text.to_owned());
            }
        }
        all
    }

    /// The key with the interface's name as the kernel has it; only that one is in `/proc/sys`.
    fn kernel_key(&mut self, key: SysctlKey, given: &Spanned<String>) -> Option<SysctlKey> {
        let Some(iface) = key.interface() else { return Some(key) };
        let name = self.iface(&iface, given.span)?;
        if name.as_str() == iface {
            return Some(key);
        }
        let dotted = |name: &str| name.replace('.', "/");
        let rewritten = key.as_str().replacen(&dotted(&iface), &dotted(name.as_str()), 1);
        let read = rewritten.parse::<SysctlKey>();
        read.map_err(|error| self.problems.push(Problem::error("bad-sysctl", given.span, error.to_string()))).ok()
    }

    /// `forward: true` and `net.ipv4.ip_forward: 0` cannot both hold.
    fn forward_clash(
        &mut self,
        key: &SysctlKey,
        text: &str,
        value: &Spanned<String>,
        forward: Option<bool>,
        doc: &NodeDoc,
    ) {
        let is_forwarding = Family::BOTH.iter().any(|family| family.forwarding_key() == *key);
        if let Some(forward) = forward
            && is_forwarding
            && (text != "0") != forward
        {
            let message = format!("`{key}` is {text}, but `forward` is {forward}");
            self.problems.push(
                Problem::error("forward-conflict", value.span, message)
                    .also(doc.forward.as_ref().and_then(|forward| forward.span), "said here")
                    .help("leave one of the two out"),
            );
        }
    }

    /// The interface of this node with that name.
    fn iface(&mut self, name: &str, at: Option<Span>) -> Option<IfName> {
        let found = iface(self.cables, self.node, name);
        if found.is_none() {
            self.problems.push(unknown_iface(self.cables, self.node, self.text, name, at));
        }
        found
    }

    fn own(&mut self, net: IpNet, at: Option<Span>, iface: &str, dev: Option<IfName>) {
        let node = self.node.index();
        let ends = self.cables.at_node[node].iter();
        let mut on = ends.filter(|(cable, end)| Some(self.cables.list[*cable].ends[*end].iface.name) == dev);
        let spot = match on.next() {
            Some((cable, _)) => Spot::Port { node, network: self.segments.network(self.cables, *cable) },
            None => Spot::Node(node),
        };
        self.book.address(net, at, format!("{}:{iface}", self.text), spot);
    }
}

/// The networks on the outer side of a node that translates addresses; all of its, where it has no such side.
fn outside_of(nat: &NodeNat, cables: &Cables<'_>, segments: &Segments, node: usize) -> Vec<usize> {
    let outside = nat.outside();
    let ends = cables.at_node[node].iter();
    let there = |(cable, end): &&(usize, usize)| {
        outside.is_empty() || outside.contains(&cables.list[*cable].ends[*end].iface.name)
    };
    ends.filter(there).map(|(cable, _)| segments.network(cables, *cable)).collect()
}

/// The interface of a node with that name, `lo` among them.
pub(super) fn iface(cables: &Cables<'_>, node: NodeId, name: &str) -> Option<IfName> {
    let found = if name == "lo" { Some(IfName::LO) } else { cables.iface(node, name) };
    // A link that is wrong would have made it: that one problem is enough, and there is no lab anyway.
    found.or_else(|| cables.incomplete.contains(&node).then_some(IfName::LO))
}

/// That a node has no interface of that name.
pub(super) fn unknown_iface(cables: &Cables<'_>, node: NodeId, text: &str, name: &str, at: Option<Span>) -> Problem {
    let problem = Problem::error("unknown-interface", at, format!("node `{text}` has no interface `{name}`"));
    let names: Vec<&str> = cables
        .ifaces(node)
        .map(|iface| iface.long.as_ref().map_or(iface.name.as_str(), |long| long.as_str()))
        .chain(["lo"])
        .collect();
    let few: Vec<String> = names.iter().take(8).map(|name| format!("`{name}`")).collect();
    let more = if names.len() > 8 { ", …" } else { "" };
    let has = format!("it has {}{more}", super::list(&few));
    problem.help(match did_you_mean(name, names) {
        Some(meant) => format!("{meant} {has}"),
        None => has,
    })
}
