//! The place in the topology file that a change belongs to.

use hopyard::explain::Edit;
use hopyard::formats::{self, SourceFile};
use hopyard::model::{Lab, Node, Routing};
use hopyard::net::{Op, SysctlKey};
use hopyard::runtime::Running;

/// The file that a lab came from, as it was when the lab came up.
pub(super) struct File {
    source: SourceFile,
    lab: Lab,
}

/// A change to the file.
#[derive(Debug, PartialEq, Eq, serde::Serialize)]
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
    pub(super) fn of(running: &Running) -> Option<Self> {
        let path = &running.record().source;
        let is_yaml = std::path::Path::new(path).extension().is_some_and(|it| it == "yaml" || it == "yml");
        if formats::looks_inline(path) || !is_yaml {
            return None;
        }
        let source = SourceFile::new(path.as_str(), std::fs::read_to_string(path).ok()?);
        let (lab, _) = formats::read(&source).ok()?;
        let runs = &running.contents().ok()?.lab;
        (lab.renamed(runs.name().clone()) == *runs).then_some(File { source, lab })
    }

    /// The file's name, without directories.
    pub(super) fn name(&self) -> &str {
        self.source.name().rsplit('/').next().unwrap_or_default()
    }

    /// What to write into it. `None`: it cannot say it, or not at one place.
    pub(super) fn edit(&self, edit: &Edit) -> Option<FileEdit> {
        // Routes and switches that the planner chooses are not in the file.
        if self.lab.routing() != Routing::None {
            return None;
        }
        let id = self.lab.node_named(edit.node().as_str())?;
        let node = self.lab.node(id);
        let (key, value, append) = content(node, edit)?;
        Some(FileEdit {
            path: self.name().to_owned(),
            line: self.line_of(node)?,
            key: format!("nodes.{}.{key}", node.name),
            value,
            append,
        })
    }

    /// The line where the node has settings. A node that only a link names has none.
    fn line_of(&self, node: &Node) -> Option<usize> {
        let origin = node.origin?;
        let from = |at: u32| self.source.text().get(usize::try_from(at).ok()?..);
        let named = from(origin.start)?.trim_start_matches(['"', '\'']).strip_prefix(node.name.as_str())?;
        let is_key = named.trim_start_matches(['"', '\'']).starts_with(':');
        is_key.then(|| self.source.position(origin.start).0)
    }
}

fn content(node: &Node, edit: &Edit) -> Option<(String, String, bool)> {
    match edit {
        Edit::Route { .. } => {
            let command = edit.to_string();
            let route = command.strip_prefix("ip route add ")?;
            Some(("routes".to_owned(), route.to_owned(), !node.routes.is_empty()))
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
