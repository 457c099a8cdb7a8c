//! The place in the topology file that a change belongs to.

use std::collections::{BTreeMap, BTreeSet};

use hopyard::explain::Edit;
use hopyard::formats::recording::Declared;
use hopyard::formats::{self, SourceFile};
use hopyard::model::{Lab, Node, Routing, Span};
use hopyard::net::{Endpoint, IpNet, NsName, Op, RouteKey, SysctlKey};
use hopyard::runtime::Running;

/// The file that a lab came from, as far as changes to it are concerned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::commands) struct File {
    /// Without directories.
    name: String,
    /// The nodes that have settings: the line, and whether routes are among them. Empty where the planner
    /// chooses routes and switches, which are not in the file.
    nodes: BTreeMap<NsName, (usize, bool)>,
    /// The routes in it, by node: the line and the text. Not of a recording.
    routes: BTreeMap<(NsName, RouteKey), (usize, String)>,
    /// The nodes that it lets forward, or not, by a sysctl. Beside that it cannot say `forward`. Not of a recording.
    forwarding: BTreeSet<NsName>,
    /// The links in it that have an MTU, by their ends: the line, and which it is. Not of a recording.
    sizes: BTreeMap<Endpoint, (usize, usize)>,
    /// The addresses in it that nodes give to interfaces: the line of the node, and which they are. Not of a recording.
    addresses: BTreeMap<Endpoint, (usize, Vec<IpNet>)>,
}

/// A change to the file.
#[derive(Debug, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct FileEdit {
    /// The file's name, without directories.
    pub(super) path: String,
    /// The line of the node, or of what is changed there.
    pub(super) line: usize,
    /// What is to be changed: `nodes.home.routes`.
    pub(super) key: String,
    /// To what.
    pub(super) value: String,
    /// Beside what is there.
    pub(super) append: bool,
    /// It is to be taken away.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) remove: bool,
    /// In the place of this entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) instead_of: Option<String>,
}

impl std::fmt::Display for FileEdit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let FileEdit { path, line, key, value, append, remove, instead_of } = self;
        match instead_of {
            Some(old) => write!(f, "{path}:{line}  {key}: {old} -> {value}"),
            None if *remove => write!(f, "{path}:{line}  {key} -= {value}"),
            None if *append => write!(f, "{path}:{line}  {key} += {value}"),
            None => write!(f, "{path}:{line}  {key}: {value}"),
        }
    }
}

impl File {
    /// `None`: it came from no file, or the file says something else by now.
    pub(in crate::commands) fn of(running: &Running) -> Option<Self> {
        let path = &running.record().source;
        let is_yaml = std::path::Path::new(path).extension().is_some_and(|it| it == "yaml" || it == "yml");
        if formats::looks_inline(path) || !is_yaml {
            return None;
        }
        let source = SourceFile::new(path.as_str(), std::fs::read_to_string(path).ok()?);
        let (lab, _) = formats::read(&source).ok()?;
        let runs = &running.contents().ok()?.lab;
        if lab.renamed(runs.name().clone()) != *runs {
            return None;
        }
        let nodes = lab.nodes().iter().filter(|_| lab.routing() == Routing::None);
        let lines =
            nodes.filter_map(|node| Some((node.name.clone(), (line_of(&source, node)?, !node.routes.is_empty()))));
        let nodes = lines.collect();
        let name = source.name().rsplit('/').next().unwrap_or_default().to_owned();
        let (routes, sizes, addresses) =
            (routes_in(&source, &lab), sizes_in(&source, &lab), addresses_in(&source, &lab));
        Some(File { name, nodes, routes, forwarding: forwarding_in(&lab), sizes, addresses })
    }

    /// As it was when a network was recorded.
    pub(super) fn of_recording(declared: &Declared) -> Option<Self> {
        let lines = declared.nodes.iter().filter_map(|(name, node)| Some((name.clone(), (node.line?, node.routes))));
        Some(File { name: declared.file.clone()?, nodes: lines.collect(), ..File::default() })
    }

    /// The same, to be recorded.
    pub(in crate::commands) fn declare(&self, declared: &mut Declared) {
        declared.file = Some(self.name.clone());
        for (name, (line, routes)) in &self.nodes {
            let node = declared.nodes.entry(name.clone()).or_default();
            (node.line, node.routes) = (Some(*line), *routes);
        }
    }

    /// The file's name, without directories.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// What to write into it. `None`: it cannot say it, or not at one place.
    pub(super) fn edit(&self, edit: &Edit) -> Option<FileEdit> {
        let change = |line: usize, key: String, value: String| FileEdit {
            path: self.name.clone(),
            line,
            key,
            value,
            append: false,
            remove: false,
            instead_of: None,
        };
        let node = edit.node();
        let in_node = |key: &str| format!("nodes.{node}.{key}");
        let written = |key: &RouteKey| self.routes.get(&(node.clone(), key.clone()));
        match edit {
            Edit::Op(Op::DelRoute { key, .. }) => {
                let (line, text) = written(key)?;
                Some(FileEdit { remove: true, ..change(*line, in_node("routes"), text.clone()) })
            }
            Edit::Op(Op::SetMtu { at, mtu }) => {
                let (line, number) = self.sizes.get(at)?;
                Some(change(*line, format!("links[{number}].mtu"), mtu.to_string()))
            }
            Edit::Op(Op::AddAddr { at, addr }) => {
                let (line, _) = self.addresses.get(at)?;
                let key = in_node(&format!("addresses.{}", at.dev));
                Some(FileEdit { append: true, ..change(*line, key, addr.to_string()) })
            }
            Edit::Op(Op::DelAddr { at, addr }) => {
                let (line, _) = self.addresses.get(at).filter(|(_, own)| own.contains(addr))?;
                let key = in_node(&format!("addresses.{}", at.dev));
                Some(FileEdit { remove: true, ..change(*line, key, addr.to_string()) })
            }
            Edit::Route { route, .. } => {
                let value = route_text(edit)?;
                if let Some((line, old)) = written(&route.key) {
                    let instead_of = Some(old.clone());
                    return Some(FileEdit { instead_of, ..change(*line, in_node("routes"), value) });
                }
                let (line, append) = self.nodes.get(node)?;
                Some(FileEdit { append: *append, ..change(*line, in_node("routes"), value) })
            }
            Edit::Op(Op::SetSysctl { key, value, .. }) => {
                let (line, _) = self.nodes.get(node)?;
                if FORWARDING.contains(key) && !self.forwarding.contains(node) {
                    return (value == "1").then(|| change(*line, in_node("forward"), "true".to_owned()));
                }
                Some(change(*line, in_node(&format!("sysctls.{key}")), value.clone()))
            }
            _ => None,
        }
    }
}

const FORWARDING: [SysctlKey; 2] = [SysctlKey::IPV4_FORWARD, SysctlKey::IPV6_FORWARD];

fn forwarding_in(lab: &Lab) -> BTreeSet<NsName> {
    let by_sysctl = |node: &&Node| FORWARDING.iter().any(|key| node.sysctls.contains_key(key));
    lab.nodes().iter().filter(by_sysctl).map(|node| node.name.clone()).collect()
}

/// As the file has it.
fn route_text(edit: &Edit) -> Option<String> {
    let command = edit.to_string();
    let rest = command.strip_prefix("ip ")?;
    let rest = rest.strip_prefix("-6 ").unwrap_or(rest).strip_prefix("route ")?;
    let route = rest.strip_prefix("add ").or_else(|| rest.strip_prefix("replace "))?;
    Some(route.to_owned())
}

fn text_at(source: &SourceFile, span: Span) -> Option<(usize, &str)> {
    let range = usize::try_from(span.start).ok()?..usize::try_from(span.end).ok()?;
    let text = source.text().get(range)?;
    Some((source.position(span.start).0, text.trim_matches(['"', '\'', ' '])))
}

fn routes_in(source: &SourceFile, lab: &Lab) -> BTreeMap<(NsName, RouteKey), (usize, String)> {
    let routes = lab.nodes().iter().flat_map(|node| node.routes.iter().map(move |route| (&node.name, route)));
    let written = routes.filter_map(|(node, route)| {
        let (line, text) = text_at(source, route.origin?)?;
        Some(((node.clone(), route.key()), (line, text.to_owned())))
    });
    written.collect()
}

fn sizes_in(source: &SourceFile, lab: &Lab) -> BTreeMap<Endpoint, (usize, usize)> {
    let sized = lab.links().iter().enumerate().filter(|(_, link)| link.mtu.is_some());
    let ends = sized.flat_map(|(number, link)| link.ends.iter().map(move |end| (number, link, end)));
    let written = ends.filter_map(|(number, link, end)| {
        let (line, _) = source.position(link.origin?.start);
        let at = Endpoint { ns: lab.vertex_name(end.vertex).clone(), dev: end.iface.name };
        Some((at, (line, number)))
    });
    written.collect()
}

fn addresses_in(source: &SourceFile, lab: &Lab) -> BTreeMap<Endpoint, (usize, Vec<IpNet>)> {
    let lines = lab.nodes().iter().filter_map(|node| Some((node, line_of(source, node)?)));
    let of_node = |(node, line): (&Node, usize)| {
        let at = |dev| Endpoint { ns: node.name.clone(), dev };
        node.addresses.iter().map(|(dev, nets)| (at(*dev), (line, nets.clone()))).collect::<Vec<_>>()
    };
    lines.flat_map(of_node).collect()
}

/// The line where a node has settings. A node that only a link names has none.
fn line_of(source: &SourceFile, node: &Node) -> Option<usize> {
    let origin = node.origin?;
    let from = |at: u32| source.text().get(usize::try_from(at).ok()?..);
    let named = from(origin.start)?.trim_start_matches(['"', '\'']).strip_prefix(node.name.as_str())?;
    let is_key = named.trim_start_matches(['"', '\'']).starts_with(':');
    is_key.then(|| source.position(origin.start).0)
}
