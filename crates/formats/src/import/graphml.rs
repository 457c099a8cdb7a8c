//! GraphML (graphml.graphdrawing.org), as the Internet Topology Zoo has it.
//!
//! A node becomes a node named after its label, an edge a link with the delay of light in fibre
//! between the places of its ends, a hyperedge a switch. What a lab has no room for (directions,
//! groups, ports, speeds) is listed.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use hopyard_model::{EndDoc, LabDoc, LinkDoc, NodeDoc, Problem, Span, Spanned, Switch, SwitchDoc};

use super::Importer;
use super::names::{self, Labelled};
use super::xml::{self, Element};
use crate::{SourceFile, lab_name};

pub(super) const IMPORTER: Importer = Importer {
    name: "graphml",
    about: "GraphML, as the Internet Topology Zoo has it",
    recognise: |source| {
        let is_graphml = |name: &str| name.to_ascii_lowercase().ends_with(".graphml");
        let start: String = source.text().chars().take(4096).collect();
        let start = start.trim_start_matches(['\u{feff}', ' ', '\t', '\r', '\n']);
        is_graphml(source.name()) || (start.starts_with('<') && start.contains("<graphml"))
    },
    import,
};

/// What of a node's or graph's data is used; all else is listed as lost.
const USED: [&str; 5] = ["label", "Latitude", "Longitude", "hyperedge", "Network"];

/// Whose data is about the file rather than about the network.
const GRAPH: &str = "the graph";

/// How far light gets in fibre in a microsecond, in kilometres: two thirds of its speed in vacuum.
const KM_PER_US: f64 = 0.299_792_458 * 2.0 / 3.0;

/// The mean radius of the Earth in kilometres.
const EARTH_KM: f64 = 6371.0088;

fn import(source: &SourceFile) -> (LabDoc, Vec<Problem>) {
    let mut problems = Vec::new();
    let Some(root) = xml::parse(source.text(), &mut problems) else { return (LabDoc::default(), problems) };
    let mut graph = Graph::default();
    if !graph.read(&root, &mut problems) {
        return (LabDoc::default(), problems);
    }
    let doc = graph.doc(source, &mut problems);
    hopyard_model::sort_by_place(&mut problems);
    (doc, problems)
}

/// What the file says, before names are chosen.
#[derive(Default)]
struct Graph {
    network: Option<String>,
    nodes: Vec<Vertex>,
    /// The node of an id.
    by_id: HashMap<String, usize>,
    edges: Vec<Edge>,
    /// Data that a lab has no room for: on what, and which.
    lost: BTreeMap<&'static str, BTreeSet<String>>,
    lost_at: Option<Span>,
}

struct Vertex {
    id: String,
    label: Option<String>,
    /// Latitude and longitude in degrees.
    place: Option<(f64, f64)>,
    /// Does it stand for a hyperedge, which joins all its neighbours?
    hyperedge: bool,
    at: Option<Span>,
}

struct Edge {
    ends: [usize; 2],
    at: Option<Span>,
}

/// The names of the data keys, by what they are for and their id.
type Keys<'e> = HashMap<&'e str, &'e str>;

impl Graph {
    /// Is there a graph in it?
    fn read(&mut self, root: &Element, problems: &mut Vec<Problem>) -> bool {
        if root.name != "graphml" {
            let message = format!("the file is `{}`, not `graphml`", root.name);
            problems.push(Problem::error("bad-graphml", root.span, message));
            return false;
        }
        let keys: Keys<'_> = root
            .named("key")
            .filter_map(|key| Some((key.attribute("id")?, key.attribute("attr.name").or(key.attribute("name"))?)))
            .collect();
        let mut graphs = root.named("graph");
        let Some(graph) = graphs.next() else {
            problems.push(Problem::error("bad-graphml", root.span, "there is no `graph` in it"));
            return false;
        };
        if let Some(second) = graphs.next() {
            let message = format!("only the first of {} graphs is read", graphs.count() + 2);
            problems.push(Problem::warning("several-graphs", second.span, message));
        }
        self.network = self.data(graph, &keys, GRAPH).remove("Network");
        self.nodes_of(graph, &keys, problems);
        self.edges_of(graph, &keys, problems);
        true
    }

    /// The nodes of a graph, and of the graphs within its nodes.
    fn nodes_of(&mut self, graph: &Element, keys: &Keys<'_>, problems: &mut Vec<Problem>) {
        for node in graph.named("node") {
            let mut data = self.data(node, keys, "nodes");
            let id = node.attribute("id").unwrap_or_default().to_owned();
            let degrees = |text: Option<&String>, most: f64| {
                text?.trim().parse::<f64>().ok().filter(|degrees| degrees.abs() <= most)
            };
            let place = degrees(data.get("Latitude"), 90.0).zip(degrees(data.get("Longitude"), 180.0));
            let index = self.nodes.len();
            if let Some(first) = self.by_id.get(&id) {
                let first = self.nodes[*first].at;
                let message = format!("a second node has the id `{id}`; links to it lead to the first");
                problems.push(Problem::warning("duplicate-id", node.span, message).also(first, "the first"));
            } else {
                self.by_id.insert(id.clone(), index);
            }
            self.nodes.push(Vertex {
                id,
                label: data.remove("label").map(|label| unescaped_twice(&label)),
                place,
                hyperedge: data.get("hyperedge").is_some_and(|value| matches!(value.trim(), "1" | "true")),
                at: node.span,
            });
            for inner in node.named("graph") {
                let message =
                    format!("the graph within node `{}` is read as a part of the whole", self.nodes[index].id);
                problems.push(Problem::warning("nested-graph", inner.span, message));
                self.data(inner, keys, GRAPH);
                self.nodes_of(inner, keys, problems);
            }
        }
    }

    /// The edges of a graph, and of the graphs within its nodes: all nodes are known by then.
    fn edges_of(&mut self, graph: &Element, keys: &Keys<'_>, problems: &mut Vec<Problem>) {
        let edges: Vec<&Element> = graph.named("edge").collect();
        let by_default = graph.attribute("edgedefault") == Some("directed");
        let directed =
            edges.iter().filter(|edge| edge.attribute("directed").map_or(by_default, |own| own == "true")).count();
        if directed > 0 {
            let message = format!("{} with a direction; a link has none", count(directed, "edge"));
            problems.push(Problem::warning("directed", graph.span, message));
        }
        let mut ports = graph.named("node").filter(|node| node.named("port").next().is_some()).count();
        for edge in edges {
            self.data(edge, keys, "links");
            ports += usize::from(edge.attribute("sourceport").or(edge.attribute("targetport")).is_some());
            let ends = ["source", "target"].map(|end| edge.attribute(end).unwrap_or_default());
            self.edge(ends, edge.span, problems);
        }
        for hyper in graph.named("hyperedge") {
            self.data(hyper, keys, "links");
            let index = self.nodes.len();
            let label = hyper.attribute("id").map_or_else(|| format!("hyperedge-{index}"), ToOwned::to_owned);
            self.nodes.push(Vertex {
                id: String::new(),
                label: Some(label),
                place: None,
                hyperedge: true,
                at: hyper.span,
            });
            for endpoint in hyper.named("endpoint") {
                ports += usize::from(endpoint.attribute("port").is_some());
                let id = endpoint.attribute("node").unwrap_or_default();
                match self.by_id.get(id) {
                    Some(node) => self.edges.push(Edge { ends: [*node, index], at: endpoint.span }),
                    None => problems.push(dangling(id, endpoint.span)),
                }
            }
        }
        if ports > 0 {
            let message = format!("ports in {} are left out; interfaces are named anew", count(ports, "place"));
            problems.push(Problem::warning("ports", graph.span, message));
        }
        for inner in graph.named("node").flat_map(|node| node.named("graph")) {
            self.edges_of(inner, keys, problems);
        }
    }

    fn edge(&mut self, ids: [&str; 2], at: Option<Span>, problems: &mut Vec<Problem>) {
        let [a, b] = ids.map(|id| self.by_id.get(id).copied());
        match (a, b) {
            (Some(a), Some(b)) if a == b => {
                let vertex = &self.nodes[a];
                let name = vertex.label.as_deref().unwrap_or(&vertex.id);
                let message = format!("an edge from `{name}` to itself is left out");
                problems.push(Problem::warning("self-loop", at, message));
            }
            (Some(a), Some(b)) => self.edges.push(Edge { ends: [a, b], at }),
            (None, _) => problems.push(dangling(ids[0], at)),
            (_, None) => problems.push(dangling(ids[1], at)),
        }
    }

    /// The data of an element by name. What is not used goes on the list of what is lost.
    fn data(&mut self, element: &Element, keys: &Keys<'_>, owner: &'static str) -> HashMap<String, String> {
        let mut all = HashMap::new();
        for data in element.named("data") {
            let id = data.attribute("key").unwrap_or_default();
            let name = keys.get(id).copied().unwrap_or(id);
            // `label` and `Network` are names of nodes and graphs only.
            let used = USED.contains(&name) && owner != "links" && (name != "label" || owner == "nodes");
            let says_nothing = data.text.trim().is_empty() && data.children.is_empty();
            // An `id` or `key` says only what identifies the element in its file.
            if !used && !says_nothing && !matches!(name, "id" | "key") {
                self.lost.entry(owner).or_default().insert(name.to_owned());
                self.lost_at = self.lost_at.or(data.span);
            }
            all.entry(name.to_owned()).or_insert_with(|| data.text.trim().to_owned());
        }
        all
    }

    fn doc(mut self, source: &SourceFile, problems: &mut Vec<Problem>) -> LabDoc {
        self.demote(problems);
        let names = self.names(problems);
        self.warn_of_lost(problems);
        self.warn_of_places(&names, problems);
        self.warn_of_parts(&names, problems);

        let mut doc = LabDoc { name: Some(self.lab_name(source).into()), ..LabDoc::default() };
        for (vertex, name) in self.nodes.iter().zip(&names) {
            let name = Spanned { value: name.clone(), span: vertex.at };
            if vertex.hyperedge {
                doc.switches.push(SwitchDoc { name, ..SwitchDoc::default() });
            } else {
                doc.nodes.push(NodeDoc { name, ..NodeDoc::default() });
            }
        }
        for edge in &self.edges {
            let [a, b] = edge.ends;
            let end = |at: usize| EndDoc { node: Spanned { value: names[at].clone(), span: edge.at }, iface: None };
            let delay_us = self.nodes[a].place.zip(self.nodes[b].place).map(|(a, b)| delay_us(a, b));
            doc.links.push(LinkDoc { ends: [end(a), end(b)], delay_us, span: edge.at, ..LinkDoc::default() });
        }
        doc
    }

    /// The file's name is what the user knows it by, and tells editions of one network apart
    /// (`Garr200908`, `Garr201005`); the network's own name serves a text without a file.
    fn lab_name(&self, source: &SourceFile) -> String {
        match &self.network {
            Some(network) if matches!(source.name(), SourceFile::INLINE | "-" | "") => lab_name::from_text(network),
            _ => lab_name::from_path(source.name()),
        }
    }

    /// A node that stands for a hyperedge is a switch, unless a lab could not have it: then it is
    /// a node like any other.
    fn demote(&mut self, problems: &mut Vec<Problem>) {
        let mut ports = vec![0usize; self.nodes.len()];
        for at in self.edges.iter().flat_map(|edge| edge.ends) {
            ports[at] += 1;
        }
        for (vertex, ports) in self.nodes.iter_mut().zip(ports) {
            if vertex.hyperedge && ports > Switch::MAX_PORTS {
                vertex.hyperedge = false;
                problems.push(demoted(vertex, &format!("a switch has at most {} ports", Switch::MAX_PORTS)));
            }
        }
        let mut segments = Parts::new(self.nodes.len());
        for edge in &self.edges {
            let [a, b] = edge.ends;
            if self.nodes[a].hyperedge && self.nodes[b].hyperedge && !segments.join(a, b) {
                self.nodes[a].hyperedge = false;
                problems.push(demoted(&self.nodes[a], "switches must not form a ring"));
            }
        }
    }

    fn names(&self, problems: &mut Vec<Problem>) -> Vec<String> {
        // The zoo's files have Python's `None` where a label is missing.
        let label = |vertex: &'_ Vertex| match vertex.label.as_deref() {
            Some("" | "None") | None => None,
            Some(_) => Some(()),
        };
        let labelled: Vec<Labelled<'_>> = self
            .nodes
            .iter()
            .map(|vertex| Labelled { label: label(vertex).and(vertex.label.as_deref()), id: &vertex.id })
            .collect();
        let names = names::unique(&labelled);
        let mut renamed = Vec::new();
        let mut unlabelled = Vec::new();
        let (mut renamed_at, mut unlabelled_at) = (None, None);
        for ((vertex, labelled), name) in self.nodes.iter().zip(&labelled).zip(&names) {
            match labelled.label {
                None => {
                    unlabelled_at = unlabelled_at.or(vertex.at);
                    unlabelled.push(format!("`{name}`"));
                }
                Some(label) if !names::says_anything(label) => {
                    unlabelled_at = unlabelled_at.or(vertex.at);
                    unlabelled.push(format!("`{name}`"));
                }
                Some(label) if !names::is_faithful(label, name) => {
                    renamed_at = renamed_at.or(vertex.at);
                    renamed.push(format!("`{}` is `{name}`", shortened(label)));
                }
                Some(_) => {}
            }
        }
        if !renamed.is_empty() {
            let message =
                format!("changed {} to get valid, unique names: {}", count(renamed.len(), "label"), renamed.join(", "));
            problems.push(Problem::warning("renamed", renamed_at, message));
        }
        if !unlabelled.is_empty() {
            let message = format!(
                "{} without a label that can be a name, named after the id: {}",
                count(unlabelled.len(), "node"),
                unlabelled.join(", ")
            );
            problems.push(Problem::warning("no-label", unlabelled_at, message));
        }
        names
    }

    fn warn_of_lost(&self, problems: &mut Vec<Problem>) {
        if self.lost.is_empty() {
            return;
        }
        let lists = self.lost.iter().map(|(owner, names)| {
            // What a file says of itself (who drew it, when, from what) is long, and the same in all.
            if *owner == GRAPH {
                return format!("{} on the graph itself", count(names.len(), "note"));
            }
            let names: Vec<String> = names.iter().map(|name| format!("`{}`", shortened(name))).collect();
            format!("of {owner} {}", names.join(", "))
        });
        let message = format!("data that a lab has no use for is left out: {}", lists.collect::<Vec<_>>().join("; "));
        problems.push(Problem::warning("unused-data", self.lost_at, message));
    }

    /// A file without any place says nothing of distances; one with gaps does.
    fn warn_of_places(&self, names: &[String], problems: &mut Vec<Problem>) {
        let without = |(vertex, _): &(&Vertex, &String)| vertex.place.is_none();
        let missing: Vec<(&Vertex, &String)> = self.nodes.iter().zip(names).filter(without).collect();
        if let Some((first, _)) = missing.first()
            && missing.len() < self.nodes.len()
        {
            let list: Vec<String> = missing.iter().map(|(_, name)| format!("`{name}`")).collect();
            let message = format!(
                "{} without coordinates, so the delay of their links is not known: {}",
                count(list.len(), "node"),
                list.join(", ")
            );
            problems.push(Problem::warning("no-coordinates", first.at, message));
        }
    }

    fn warn_of_parts(&self, names: &[String], problems: &mut Vec<Problem>) {
        let mut parts = Parts::new(self.nodes.len());
        let mut linked = vec![false; self.nodes.len()];
        for edge in &self.edges {
            let [a, b] = edge.ends;
            parts.join(a, b);
            (linked[a], linked[b]) = (true, true);
        }
        let isolated: Vec<usize> = (0..self.nodes.len()).filter(|at| !linked[*at]).collect();
        if let Some(first) = isolated.first() {
            let list: Vec<String> = isolated.iter().map(|at| format!("`{}`", names[*at])).collect();
            let message = format!("{} without a link: {}", count(list.len(), "node"), list.join(", "));
            problems.push(Problem::warning("isolated", self.nodes[*first].at, message));
        }
        let roots: BTreeSet<usize> = (0..self.nodes.len()).filter(|at| linked[*at]).map(|at| parts.find(at)).collect();
        if roots.len() > 1 {
            let message = format!("the network falls into {} parts, between which there is no link", roots.len());
            problems.push(Problem::warning("disconnected", None, message));
        }
    }
}

fn dangling(id: &str, at: Option<Span>) -> Problem {
    if id.is_empty() {
        return Problem::warning("dangling-edge", at, "an edge without a source or target is left out");
    }
    Problem::warning("dangling-edge", at, format!("an edge to `{}`, which is no node, is left out", shortened(id)))
}

fn demoted(vertex: &Vertex, why: &str) -> Problem {
    let name = vertex.label.as_deref().unwrap_or(&vertex.id);
    let message = format!("`{}` stands for a hyperedge but becomes a node: {why}", shortened(name));
    Problem::warning("hyperedge", vertex.at, message)
}

/// `1 label`, `2 labels`.
fn count(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// A label that is quoted in a message.
fn shortened(label: &str) -> String {
    match label.char_indices().nth(60) {
        Some((at, _)) => format!("{}…", &label[..at]),
        None => label.to_owned(),
    }
}

/// The zoo has `&amp;quot;`: text that was escaped twice.
fn unescaped_twice(label: &str) -> String {
    quick_xml::escape::unescape(label).map_or_else(|_| label.to_owned(), std::borrow::Cow::into_owned)
}

/// How long light takes along the great circle between two places, in fibre.
fn delay_us(a: (f64, f64), b: (f64, f64)) -> u64 {
    let [(lat_a, lon_a), (lat_b, lon_b)] = [a, b].map(|(lat, lon)| (lat.to_radians(), lon.to_radians()));
    let haversine = |angle: f64| libm::sin(angle / 2.0).powi(2);
    let h = haversine(lat_b - lat_a) + libm::cos(lat_a) * libm::cos(lat_b) * haversine(lon_b - lon_a);
    let km = 2.0 * EARTH_KM * libm::asin(h.clamp(0.0, 1.0).sqrt());
    // Half the Earth's circumference is 100 ms.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 100 151")]
    let us = (km / KM_PER_US).round() as u64;
    us
}

/// Which of some things are joined, directly or not.
struct Parts(Vec<usize>);

impl Parts {
    fn new(count: usize) -> Self {
        Parts((0..count).collect())
    }

    fn find(&mut self, mut at: usize) -> usize {
        while self.0[at] != at {
            self.0[at] = self.0[self.0[at]];
            at = self.0[at];
        }
        at
    }

    /// Were they apart?
    fn join(&mut self, a: usize, b: usize) -> bool {
        let (a, b) = (self.find(a), self.find(b));
        self.0[a.max(b)] = a.min(b);
        a != b
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn light_takes_29_ms_from_paris_to_new_york() {
        let (paris, new_york) = ((48.8566, 2.3522), (40.7128, -74.006));
        assert_eq!(delay_us(paris, new_york), 29_206);
        assert_eq!(delay_us(paris, paris), 0);
        assert_eq!(delay_us((0.0, 0.0), (0.0, 180.0)), 100_145);
    }
}
