//! Which interfaces there are: what each link joins, and what each of its ends is called.

use std::collections::{HashMap, HashSet};

use hopyard_net::{AltName, IfName};

use super::hull;
use super::lent::{self, Lent};
use super::vertices::Vertices;
use crate::name::stable_hash;
use crate::{EndDoc, Iface, LabDoc, LinkDoc, NodeId, Problem, Span, Vertex};

/// The bridge in a switch's namespace.
pub(super) const BRIDGE: &str = "br0";

/// The port that a switch's list of members makes has no name in the text.
static UNNAMED: EndDoc = EndDoc::unnamed();

/// Every link, be it written as such or as a switch's member.
pub(super) struct Cables<'a> {
    /// Those whose ends are known, in the order of the lab's links.
    pub(super) list: Vec<Cable<'a>>,
    /// The ends at each node: cable and end.
    pub(super) at_node: Vec<Vec<(usize, usize)>>,
    /// The machine's interfaces at each node.
    lent: Vec<Vec<Iface>>,
    /// Links that have an end that nothing is known of: only their values can be checked.
    pub(super) dangling: Vec<&'a LinkDoc>,
    /// Nodes at the known ends of those: an interface that they lack may be there.
    pub(super) incomplete: HashSet<NodeId>,
}

/// A link whose ends are known.
pub(super) struct Cable<'a> {
    /// Its ends; where one is a node and one a switch, the node is first.
    pub(super) ends: [CableEnd; 2],
    /// Were they written the other way round?
    pub(super) swapped: bool,
    /// What is said of it; `None`: a member that a switch lists.
    pub(super) doc: Option<&'a LinkDoc>,
    /// Its place.
    pub(super) at: Option<Span>,
}

/// An end of a cable.
pub(super) struct CableEnd {
    pub(super) vertex: Vertex,
    pub(super) iface: Iface,
}

/// A cable before its interfaces are named.
struct Loose<'a> {
    ends: [(Vertex, &'a EndDoc); 2],
    swapped: bool,
    doc: Option<&'a LinkDoc>,
    at: Option<Span>,
}

impl<'a> Cables<'a> {
    pub(super) fn of(doc: &'a LabDoc, vertices: &Vertices<'a>, problems: &mut Vec<Problem>) -> Self {
        let mut dangling = Vec::new();
        let loose = loose(doc, vertices, &mut dangling, problems);
        let mut names = Names::default();
        let mut lent = vec![Vec::new(); vertices.nodes.len()];
        for Lent { node, name, at } in lent::all(vertices, problems) {
            names.taken.insert((Vertex::Node(node), name), at);
            lent[node.index()].push(Iface { name, long: None });
        }
        names.take_given(&loose, vertices, problems);

        let mut list = Vec::with_capacity(loose.len());
        let mut at_node = vec![Vec::new(); vertices.nodes.len()];
        for cable in loose {
            let ends = cable.ends.map(|(vertex, end)| CableEnd { vertex, iface: names.iface(vertex, end) });
            for (at, end) in ends.iter().enumerate() {
                if let Vertex::Node(id) = end.vertex {
                    at_node[id.index()].push((list.len(), at));
                }
            }
            list.push(Cable { ends, swapped: cable.swapped, doc: cable.doc, at: cable.at });
        }
        let ends = dangling.iter().flat_map(|link| &link.ends).filter_map(|end| vertices.find(&end.node.value));
        let nodes = ends.filter_map(|vertex| match vertex {
            Vertex::Node(id) => Some(id),
            Vertex::Switch(_) => None,
        });
        let incomplete = nodes.collect();
        Cables { list, at_node, lent, dangling, incomplete }
    }

    /// The interface of a node that has this name, short or long; `lo` is not among them.
    pub(super) fn iface(&self, node: NodeId, name: &str) -> Option<IfName> {
        self.ifaces(node)
            .find(|iface| iface.name.as_str() == name || iface.long.as_ref().is_some_and(|long| long.as_str() == name))
            .map(|iface| iface.name)
    }

    /// The interfaces of a node.
    pub(super) fn ifaces(&self, node: NodeId) -> impl Iterator<Item = &Iface> {
        let ends = self.at_node[node.index()].iter().map(|&(cable, end)| &self.list[cable].ends[end].iface);
        ends.chain(&self.lent[node.index()])
    }

    /// Those that are the machine's.
    pub(super) fn lent(&self, node: NodeId) -> impl Iterator<Item = IfName> + '_ {
        self.lent[node.index()].iter().map(|iface| iface.name)
    }
}

/// What is joined to what. Members of switches come first, in the order of the switches.
fn loose<'a>(
    doc: &'a LabDoc,
    vertices: &Vertices<'a>,
    dangling: &mut Vec<&'a LinkDoc>,
    problems: &mut Vec<Problem>,
) -> Vec<Loose<'a>> {
    let mut cables = Vec::new();
    for (id, switch) in vertices.switches.iter().enumerate() {
        let Some(Vertex::Switch(own)) = vertices.find(switch.text) else { continue };
        debug_assert_eq!(own.index(), id);
        for member in switch.doc.iter().flat_map(|doc| &doc.members) {
            let Some(vertex) = vertices.end(member, problems) else { continue };
            let at = hull(member.node.span, member.iface.as_ref().and_then(|iface| iface.span));
            let ends = [(vertex, member), (Vertex::Switch(own), &UNNAMED)];
            if vertex == Vertex::Switch(own) {
                problems.push(self_loop(vertices, vertex, at));
                continue;
            }
            cables.push(Loose { ends, swapped: false, doc: None, at });
        }
    }
    for link in &doc.links {
        let [a, b] = &link.ends;
        let (Some(first), Some(second)) = (vertices.end(a, problems), vertices.end(b, problems)) else {
            dangling.push(link);
            continue;
        };
        let at = link.span.or_else(|| hull(a.node.span, b.node.span));
        if first == second {
            problems.push(self_loop(vertices, first, at));
            dangling.push(link);
            continue;
        }
        let swapped = matches!((first, second), (Vertex::Switch(_), Vertex::Node(_)));
        let mut ends = [(first, a), (second, b)];
        if swapped {
            ends.swap(0, 1);
        }
        cables.push(Loose { ends, swapped, doc: Some(link), at });
    }
    cables
}

fn self_loop(vertices: &Vertices<'_>, vertex: Vertex, at: Option<Span>) -> Problem {
    Problem::error("self-loop", at, format!("`{}` is linked to itself", vertices.text(vertex)))
        .help("a link joins two different nodes; remove it")
}

/// The names of interfaces, given and chosen.
#[derive(Default)]
struct Names<'a> {
    /// Who has a kernel name.
    taken: HashMap<(Vertex, IfName), Option<Span>>,
    /// Given names that are too long for the kernel, and what they became.
    short: HashMap<(Vertex, &'a str), (IfName, Option<Span>)>,
    /// The next number to try.
    next: HashMap<Vertex, u32>,
}

impl<'a> Names<'a> {
    /// Enters all given names before any is chosen, so that a chosen one never takes what is
    /// given further down.
    fn take_given(&mut self, cables: &[Loose<'a>], vertices: &Vertices<'a>, problems: &mut Vec<Problem>) {
        let mut long = Vec::new();
        for &(vertex, end) in cables.iter().flat_map(|cable| &cable.ends) {
            let Some(given) = &end.iface else { continue };
            let text = given.value.as_str();
            if let Err(message) = check(text, vertex) {
                problems.push(Problem::error("bad-interface", given.span, message));
                continue;
            }
            let first = if let Ok(name) = text.parse::<IfName>() {
                let first = self.taken.get(&(vertex, name)).copied();
                self.taken.entry((vertex, name)).or_insert(given.span);
                first
            } else {
                let first = self.short.get(&(vertex, text)).map(|(_, first)| *first);
                if first.is_none() {
                    // The name for the kernel follows when all short names are known.
                    self.short.insert((vertex, text), (IfName::LO, given.span));
                    long.push((vertex, text, given.span));
                }
                first
            };
            let Some(first) = first else { continue };
            // Members of switches are read first, wherever they stand.
            let (at, first) = if first > given.span { (first, given.span) } else { (given.span, first) };
            let message = format!("interface `{text}` of `{}` is used twice", vertices.text(vertex));
            problems.push(
                Problem::error("duplicate-interface", at, message)
                    .also(first, "used here first")
                    .help("name another one, or none: then one is chosen"),
            );
        }
        for (vertex, text, at) in long {
            let name = (0..).find_map(|salt| {
                let name = shorten(text, salt)?;
                (!self.taken.contains_key(&(vertex, name))).then_some(name)
            });
            if let Some(name) = name {
                self.taken.insert((vertex, name), at);
                self.short.insert((vertex, text), (name, at));
            }
        }
    }

    /// The names of one end.
    fn iface(&mut self, vertex: Vertex, end: &'a EndDoc) -> Iface {
        if let Some(given) = &end.iface {
            let is_good = check(&given.value, vertex).is_ok();
            if is_good && let Ok(name) = given.value.parse() {
                return Iface { name, long: None };
            }
            if let (Some((name, _)), Ok(long)) = (self.short.get(&(vertex, given.value.as_str())), given.value.parse())
            {
                return Iface { name: *name, long: Some(long) };
            }
        }
        let prefix = if matches!(vertex, Vertex::Node(_)) { "eth" } else { "port" };
        let next = self.next.entry(vertex).or_default();
        loop {
            // At most ten digits: never too long, so `LO` stands for what cannot happen.
            let name = format!("{prefix}{next}").parse().unwrap_or(IfName::LO);
            *next = next.saturating_add(1);
            if let std::collections::hash_map::Entry::Vacant(free) = self.taken.entry((vertex, name)) {
                free.insert(None);
                return Iface { name, long: None };
            }
        }
    }
}

/// Can the interface have this name?
fn check(text: &str, vertex: Vertex) -> Result<(), String> {
    if text.len() > AltName::MAX_LEN {
        let start: String = text.chars().take(20).collect();
        return Err(format!(
            "interface name `{start}…` is {} bytes; the kernel allows {} in a second name",
            text.len(),
            AltName::MAX_LEN
        ));
    }
    text.parse::<AltName>().map_err(|error| error.to_string())?;
    match vertex {
        _ if text == "lo" => Err("`lo` is the loopback interface, which no link can end at".to_owned()),
        // The kernel makes these names mean all interfaces in `net.ipv4.conf`.
        _ if matches!(text, "all" | "default") => {
            Err(format!("an interface cannot be named `{text}`, which means others in `net.ipv4.conf.{text}`"))
        }
        Vertex::Switch(_) if text == BRIDGE => Err(format!("`{BRIDGE}` is the switch's own bridge")),
        _ => Ok(()),
    }
}

/// A kernel name for a longer one: its first letters, `-`, and six digits that depend on all of it.
fn shorten(text: &str, salt: u32) -> Option<IfName> {
    let mut cut = IfName::MAX_LEN - 7;
    while !text.is_char_boundary(cut) {
        cut -= 1;
    }
    let mut bytes = text.as_bytes().to_vec();
    if salt > 0 {
        bytes.extend(salt.to_le_bytes());
    }
    format!("{}-{:06x}", text.get(..cut)?, stable_hash(&bytes) & 0xff_ffff).parse().ok()
}
