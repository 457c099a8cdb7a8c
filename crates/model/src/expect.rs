//! What shall be so once the lab runs: who reaches whom, and who does not.

use std::fmt;
use std::net::IpAddr;

use hopyard_net::{Service, Transport};
use serde::{Deserialize, Serialize};

use crate::{Lab, NodeId, Span};

/// That nodes reach others, or that they do not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expectation {
    /// Who asks.
    pub from: Nodes,
    /// Who is asked.
    pub to: ExpectTarget,
    /// The port; `None`: it is an echo request.
    pub service: Option<Service>,
    /// Shall it be answered?
    pub reaches: bool,
    /// Its place in the text.
    pub origin: Option<Span>,
}

/// Nodes of a lab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Nodes {
    /// All of them.
    All,
    /// These.
    These(Vec<NodeId>),
}

/// Whom an expectation is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExpectTarget {
    /// Nodes, by the main address of each family that they have.
    Nodes(Nodes),
    /// An address, whoever has it.
    Addr(IpAddr),
}

impl Nodes {
    /// Is a node among them?
    pub fn contains(&self, node: NodeId) -> bool {
        match self {
            Nodes::All => true,
            Nodes::These(list) => list.contains(&node),
        }
    }

    /// Are there nodes in both?
    fn meets(&self, other: &Nodes) -> bool {
        match (self, other) {
            (Nodes::These(list), other) | (other, Nodes::These(list)) => list.iter().any(|node| other.contains(*node)),
            (Nodes::All, Nodes::All) => true,
        }
    }

    fn is_named(&self) -> bool {
        *self != Nodes::All
    }
}

impl Expectation {
    /// Is it about that node asking the other? Nobody asks itself.
    pub fn is_about(&self, from: NodeId, to: NodeId) -> bool {
        let is_target = matches!(&self.to, ExpectTarget::Nodes(nodes) if nodes.contains(to));
        from != to && is_target && self.from.contains(from)
    }

    /// Does it name both sides?
    pub fn names_both(&self) -> bool {
        self.weight() == 2
    }

    /// How many of its sides are named, not `all`: of two that are about one pair, that which names more decides.
    pub fn weight(&self) -> u8 {
        let to = match &self.to {
            ExpectTarget::Nodes(nodes) => nodes.is_named(),
            ExpectTarget::Addr(_) => true,
        };
        u8::from(self.from.is_named()) + u8::from(to)
    }

    /// Do the two say the contrary of one pair, and neither decides?
    pub(crate) fn contradicts(&self, other: &Expectation) -> bool {
        let same_target = match (&self.to, &other.to) {
            (ExpectTarget::Nodes(a), ExpectTarget::Nodes(b)) => a.meets(b),
            (a, b) => a == b,
        };
        self.reaches != other.reaches
            && self.service == other.service
            && self.weight() == other.weight()
            && same_target
            && self.from.meets(&other.from)
    }

    /// As it stands in a topology file: `web -> db:5432/tcp`.
    pub fn words<'l>(&'l self, lab: &'l Lab) -> impl fmt::Display + 'l {
        Words { what: self, lab }
    }
}

struct Words<'l> {
    what: &'l Expectation,
    lab: &'l Lab,
}

impl Words<'_> {
    fn nodes(&self, nodes: &Nodes, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Nodes::These(list) = nodes else { return f.write_str(Expectation::ALL) };
        for (at, node) in list.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{}", self.lab.node(*node).name)?;
        }
        Ok(())
    }
}

impl fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Expectation { from, to, service, reaches, .. } = self.what;
        self.nodes(from, f)?;
        write!(f, " {} ", if *reaches { Expectation::REACHES } else { Expectation::REACHES_NOT })?;
        match to {
            ExpectTarget::Nodes(nodes) => self.nodes(nodes, f)?,
            ExpectTarget::Addr(addr) if addr.is_ipv6() && service.is_some() => write!(f, "[{addr}]")?,
            ExpectTarget::Addr(addr) => write!(f, "{addr}")?,
        }
        match service {
            None => Ok(()),
            // As it is mostly written.
            Some(Service { transport: Transport::Tcp, port }) => write!(f, ":{port}"),
            Some(Service { transport, port }) => write!(f, ":{port}/{transport}"),
        }
    }
}

impl Expectation {
    /// The word for all nodes.
    pub const ALL: &'static str = "all";
    /// Between who asks and who answers.
    pub const REACHES: &'static str = "->";
    /// Between who asks and who does not answer.
    pub const REACHES_NOT: &'static str = "-x->";
}
