//! The place in the topology file that a change belongs to.

use std::collections::BTreeMap;

use hopyard::explain::Edit;
use hopyard::formats::recording::Declared;
use hopyard::formats::{self, SourceFile};
use hopyard::model::{Node, Routing};
use hopyard::net::{NsName, Op, SysctlKey};
use hopyard::runtime::Running;

/// The file that a lab came from, as far as changes to it are concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::commands) struct File {
    /// Without directories.
    name: String,
    /// The nodes that have settings: the line, and whether routes are among them. Empty where the planner
    /// chooses routes and switches, which are not in the file.
    nodes: BTreeMap<NsName, (usize, bool)>,
}

/// A change to the file.
#[derive(Debug, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct FileEdit {
    /// The file's name, without directories.
    pub(super) path: String,
    /// The line of the node.
    pub(super) line: usize,
    /// What is to be changed: `nodes.home.routes`.
    pub(super) key: String,
    /// To what.
    pub(super) value: String,
    /// Beside what is there.
    pub(super) append: bool,
}

impl std::fmt::Display for FileEdit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let FileEdit { path, line, key, value, append } = self;
        let sign = if *append { " +=" } else { ":" };
        write!(f, "{path}:{line}  {key}{sign} {value}")
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
        Some(File { name: source.name().rsplit('/').next().unwrap_or_default().to_owned(), nodes })
    }

    /// As it was when a network was recorded.
    pub(super) fn of_recording(declared: &Declared) -> Option<Self> {
        let lines = declared.nodes.iter().filter_map(|(name, node)| Some((name.clone(), (node.line?, node.routes))));
        Some(File { name: declared.file.clone()?, nodes: lines.collect() })
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
        let (line, routes) = self.nodes.get(edit.node())?;
        let (key, value, append) = content(*routes, edit)?;
        Some(FileEdit {
            path: self.name.clone(),
            line: *line,
            key: format!("nodes.{}.{key}", edit.node()),
            value,
            append,
        })
    }
}

/// The line where a node has settings. A node that only a link names has none.
fn line_of(source: &SourceFile, node: &Node) -> Option<usize> {
    let origin = node.origin?;
    let from = |at: u32| source.text().get(usize::try_from(at).ok()?..);
    let named = from(origin.start)?.trim_start_matches(['"', '\'']).strip_prefix(node.name.as_str())?;
    let is_key = named.trim_start_matches(['"', '\'']).starts_with(':');
    is_key.then(|| source.position(origin.start).0)
}

/// `routes`: the node has some already.
fn content(routes: bool, edit: &Edit) -> Option<(String, String, bool)> {
    match edit {
        Edit::Route { .. } => {
            let command = edit.to_string();
            let route = command.strip_prefix("ip route add ")?;
            Some(("routes".to_owned(), route.to_owned(), routes))
        }
        Edit::Op(Op::SetSysctl { key, value, .. })
            if *key == SysctlKey::IPV4_FORWARD || *key == SysctlKey::IPV6_FORWARD =>
        {
            (value == "1").then(|| ("forward".to_owned(), "true".to_owned(), false))
        }
        Edit::Op(Op::SetSysctl { key, value, .. }) => Some((format!("sysctls.{key}"), value.clone(), false)),
        _ => None,
    }
}
