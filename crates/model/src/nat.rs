//! What a node translates, as the file asks for it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use hopyard_net::{IfName, IpNet, Service};
use serde::{Deserialize, Serialize};

use crate::{NodeId, Span};

/// What a node translates.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeNat {
    /// Sources of what leaves: `masquerade` and `snat`.
    pub sources: Vec<NatSource>,
    /// Destinations of what comes: `dnat` and `publish`.
    pub destinations: Vec<NatDestination>,
    /// Addresses that stand for others, both ways: `floating`.
    pub floating: Vec<NatFloating>,
    /// Its place in the text.
    pub origin: Option<Span>,
}

/// A source of packets that leave by an interface is replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NatSource {
    /// The interface.
    pub out: IfName,
    /// Only these sources; `None`: all.
    pub from: Option<IpNet>,
    /// The new source; `None`: the address of the interface.
    pub to: Option<IpAddr>,
    /// Its place in the text.
    pub origin: Option<Span>,
}

/// A destination is replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NatDestination {
    /// Of what goes to this address; `None`: to any of the node's own.
    pub address: Option<IpAddr>,
    /// Of what goes to this port; `None`: to any, and what has none.
    pub service: Option<Service>,
    /// The new destination.
    pub to: NatTarget,
    /// The new port; `None`: the same.
    pub port: Option<u16>,
    /// Its place in the text.
    pub origin: Option<Span>,
}

/// An address of the node that stands for another node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NatFloating {
    /// The address outside.
    pub address: IpAddr,
    /// Whom it stands for.
    pub to: NatTarget,
    /// Its place in the text.
    pub origin: Option<Span>,
}

/// Where to, as given by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NatTarget {
    /// An address.
    Addr(IpAddr),
    /// A node; the plan looks up its address.
    Node(NodeId),
}

impl NodeNat {
    /// Is nothing asked for?
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty() && self.destinations.is_empty() && self.floating.is_empty()
    }

    /// The interfaces behind which other addresses count: those by which something leaves with
    /// another source, whatever its source was.
    pub fn outside(&self) -> BTreeSet<IfName> {
        self.sources.iter().filter(|source| source.from.is_none()).map(|source| source.out).collect()
    }
}
