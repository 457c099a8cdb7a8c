//! Interfaces of the machine that nodes are lent.

use std::collections::HashMap;

use hopyard_net::IfName;

use super::vertices::Vertices;
use crate::{NodeId, Problem, Span};

/// An interface of the machine, and who asks for it.
pub(super) struct Lent {
    pub(super) node: NodeId,
    pub(super) name: IfName,
    pub(super) at: Option<Span>,
}

/// All of them, in the order written.
pub(super) fn all(vertices: &Vertices<'_>, problems: &mut Vec<Problem>) -> Vec<Lent> {
    let mut list: Vec<Lent> = Vec::new();
    let mut first: HashMap<IfName, (&str, Option<Span>)> = HashMap::new();
    for (index, declared) in vertices.nodes.iter().enumerate() {
        let node = NodeId(u32::try_from(index).unwrap_or(u32::MAX));
        for given in declared.doc.iter().flat_map(|doc| &doc.interfaces) {
            let name = match given.value.parse::<IfName>() {
                Ok(IfName::LO) => Err("every node has a `lo` of its own".to_owned()),
                Ok(name) if matches!(name.as_str(), "all" | "default") => {
                    Err(format!("an interface cannot be named `{name}`"))
                }
                Ok(name) => Ok(name),
                Err(error) => Err(error.to_string()),
            };
            match name {
                Err(message) => problems.push(Problem::error("bad-interface", given.span, message)),
                Ok(name) => {
                    if let Some((other, at)) = first.insert(name, (declared.text, given.span)) {
                        let message = format!("the machine's interface `{name}` cannot be in two places");
                        problems.push(
                            Problem::error("duplicate-interface", given.span, message)
                                .also(at, format!("asked for by `{other}` here")),
                        );
                        continue;
                    }
                    list.push(Lent { node, name, at: given.span });
                }
            }
        }
    }
    list
}
