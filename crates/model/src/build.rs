//! Labs without a file: a document written in Rust.

use crate::{EndDoc, LabDoc, LinkDoc, NodeDoc, SwitchDoc};

impl LabDoc {
    /// An empty lab of this name, in which a link makes the nodes that it names.
    ///
    /// ```
    /// # use hopyard_model::LabDoc;
    /// let (lab, _warnings) = LabDoc::named("three").link("home", "near").link("near:wan", "far").resolve().unwrap();
    /// assert_eq!(lab.nodes().len(), 3);
    /// assert_eq!(lab.links()[1].ends[0].iface.name.as_str(), "wan");
    /// ```
    pub fn named(name: &str) -> Self {
        LabDoc { name: Some(name.into()), implicit_nodes: true, hand_written: true, ..LabDoc::default() }
    }

    /// Adds a link between two ends, each a name with or without an interface: `near`, `near:eth1`.
    pub fn link(self, a: &str, b: &str) -> Self {
        self.link_with(a, b, |_| {})
    }

    /// Adds a link and says more of it.
    pub fn link_with(mut self, a: &str, b: &str, more: impl FnOnce(&mut LinkDoc)) -> Self {
        let mut link = LinkDoc { ends: [EndDoc::named(a), EndDoc::named(b)], ..LinkDoc::default() };
        more(&mut link);
        self.links.push(link);
        self
    }

    /// Adds a node of which nothing but the name is said.
    pub fn node(self, name: &str) -> Self {
        self.node_with(name, |_| {})
    }

    /// Adds a node and says more of it.
    pub fn node_with(mut self, name: &str, more: impl FnOnce(&mut NodeDoc)) -> Self {
        let mut node = NodeDoc { name: name.into(), ..NodeDoc::default() };
        more(&mut node);
        self.nodes.push(node);
        self
    }

    /// Adds a line of what shall be so once the lab runs, in the words of the file: `web -> db:5432`.
    pub fn expect(mut self, line: &str) -> Self {
        self.expect.push(line.into());
        self
    }

    /// Adds a switch with its members, each a name with or without an interface.
    pub fn switch<'m>(mut self, name: &str, members: impl IntoIterator<Item = &'m str>) -> Self {
        let members = members.into_iter().map(EndDoc::named).collect();
        self.switches.push(SwitchDoc { name: name.into(), members, ..SwitchDoc::default() });
        self
    }
}

impl EndDoc {
    /// `NODE` or `NODE:INTERFACE`.
    pub fn named(text: &str) -> Self {
        match text.split_once(':') {
            Some((node, iface)) => EndDoc { node: node.into(), iface: Some(iface.into()) },
            None => EndDoc { node: text.into(), iface: None },
        }
    }
}
