//! Nodes and switches: one namespace of names.

use std::cell::Cell;
use std::collections::HashMap;

use hopyard_net::NsName;

use crate::nearest::did_you_mean;
use crate::{EndDoc, LabDoc, NodeDoc, NodeId, Problem, Span, Spanned, SwitchDoc, SwitchId, Vertex};

/// How many unknown names get a "did you mean": each costs a comparison with every known name.
const HINTS: u32 = 32;

/// Every node and switch of the lab, and how to find it by name.
pub(super) struct Vertices<'a> {
    pub(super) nodes: Vec<Declared<'a, NodeDoc>>,
    pub(super) switches: Vec<Declared<'a, SwitchDoc>>,
    by_name: HashMap<&'a str, (Vertex, Option<Span>)>,
    hints: Cell<u32>,
}

/// A node or switch that the document declares, or implies.
pub(super) struct Declared<'a, T> {
    /// As written.
    pub(super) text: &'a str,
    /// `None`: not a name that a namespace can have; a problem says so.
    pub(super) name: Option<NsName>,
    /// Where it is declared, or first used.
    pub(super) at: Option<Span>,
    /// What is said of it; `None`: only its name, in a link.
    pub(super) doc: Option<&'a T>,
}

impl<'a> Vertices<'a> {
    pub(super) fn of(doc: &'a LabDoc, problems: &mut Vec<Problem>) -> Self {
        let mut this = Vertices {
            nodes: Vec::with_capacity(doc.nodes.len()),
            switches: Vec::with_capacity(doc.switches.len()),
            by_name: HashMap::new(),
            hints: Cell::new(HINTS),
        };
        for node in &doc.nodes {
            this.node(&node.name, Some(node), problems);
        }
        for switch in &doc.switches {
            let id = SwitchId(count(this.switches.len()));
            if this.claim(&switch.name, Vertex::Switch(id), problems) {
                let name = ns_name(&switch.name, problems);
                this.switches.push(Declared {
                    text: &switch.name.value,
                    name,
                    at: switch.name.span,
                    doc: Some(switch),
                });
            }
        }
        if doc.implicit_nodes {
            let members = doc.switches.iter().flat_map(|switch| &switch.members);
            for end in members.chain(doc.links.iter().flat_map(|link| &link.ends)) {
                if !this.by_name.contains_key(end.node.value.as_str()) {
                    this.node(&end.node, None, problems);
                }
            }
        }
        this.warn_of_case(problems);
        this
    }

    /// Names that differ only in case are one name in `/etc/hosts`.
    fn warn_of_case(&self, problems: &mut Vec<Problem>) {
        let mut seen: HashMap<String, (&str, Option<Span>)> = HashMap::new();
        for node in &self.nodes {
            let lower = node.text.to_ascii_lowercase();
            if let Some((other, at)) = seen.get(&lower) {
                let message = format!("nodes `{}` and `{other}` differ only in case", node.text);
                problems.push(
                    Problem::warning("similar-names", node.at, message)
                        .also(*at, "the other one")
                        .help("host names have no case: looked up, either name may lead to the other node"),
                );
            } else {
                seen.insert(lower, (node.text, node.at));
            }
        }
    }

    /// The node or switch that an end names; a problem where there is none.
    pub(super) fn end(&self, end: &EndDoc, problems: &mut Vec<Problem>) -> Option<Vertex> {
        let found = self.find(&end.node.value);
        if found.is_none() {
            problems.push(self.unknown("node", &end.node.value, end.node.span));
        }
        found
    }

    pub(super) fn find(&self, name: &str) -> Option<Vertex> {
        self.by_name.get(name).map(|(vertex, _)| *vertex)
    }

    /// That nothing has this name.
    pub(super) fn unknown(&self, what: &str, name: &str, at: Option<Span>) -> Problem {
        let mut problem = Problem::error("unknown-node", at, format!("{what} `{name}` is not declared"));
        if self.hints.get() > 0 {
            self.hints.set(self.hints.get() - 1);
            let names = self.nodes.iter().map(|n| n.text).chain(self.switches.iter().map(|s| s.text));
            problem.help = did_you_mean(name, names);
        }
        problem
    }

    /// Where it is declared, or first used.
    pub(super) fn place(&self, vertex: Vertex) -> Option<Span> {
        match vertex {
            Vertex::Node(id) => self.nodes[id.index()].at,
            Vertex::Switch(id) => self.switches[id.index()].at,
        }
    }

    /// The name as written.
    pub(super) fn text(&self, vertex: Vertex) -> &'a str {
        match vertex {
            Vertex::Node(id) => self.nodes[id.index()].text,
            Vertex::Switch(id) => self.switches[id.index()].text,
        }
    }

    fn node(&mut self, name: &'a Spanned<String>, doc: Option<&'a NodeDoc>, problems: &mut Vec<Problem>) {
        let id = NodeId(count(self.nodes.len()));
        if self.claim(name, Vertex::Node(id), problems) {
            let text = &name.value;
            self.nodes.push(Declared { text, name: ns_name(name, problems), at: name.span, doc });
        }
    }

    /// Enters a name, or says who has it.
    fn claim(&mut self, name: &'a Spanned<String>, vertex: Vertex, problems: &mut Vec<Problem>) -> bool {
        if let Some((first, at)) = self.by_name.get(name.value.as_str()) {
            let what = |vertex: &Vertex| if matches!(vertex, Vertex::Node(_)) { "node" } else { "switch" };
            let message = match (first, &vertex) {
                (Vertex::Node(_), Vertex::Node(_)) | (Vertex::Switch(_), Vertex::Switch(_)) => {
                    format!("{} `{}` is declared twice", what(&vertex), name.value)
                }
                _ => format!("{} `{}` has the name of a {}", what(&vertex), name.value, what(first)),
            };
            problems.push(
                Problem::error("duplicate-node", name.span, message)
                    .also(*at, "declared here first")
                    .help("nodes and switches share their names; choose another one"),
            );
            return false;
        }
        self.by_name.insert(&name.value, (vertex, name.span));
        true
    }
}

/// Ids are 32 bits wide; a document of four thousand million nodes does not fit in memory.
fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

fn ns_name(name: &Spanned<String>, problems: &mut Vec<Problem>) -> Option<NsName> {
    let problem = match name.value.parse::<NsName>() {
        Ok(_) if name.value.eq_ignore_ascii_case("localhost") => {
            let message = format!("a node cannot be named `{}`, which is every node's name for itself", name.value);
            Problem::error("bad-name", name.span, message).help("choose another name")
        }
        Ok(name) => return Some(name),
        Err(error) => Problem::error("bad-name", name.span, error.to_string()),
    };
    problems.push(problem);
    None
}
