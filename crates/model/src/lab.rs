//! A valid lab.

use std::collections::BTreeMap;
use std::net::IpAddr;

use hopyard_net::{AltName, Family, IfName, IpNet, Ipv4Net, Ipv6Net, MacAddr, Mtu, NsName, RouteKey, SysctlKey};
use serde::{Deserialize, Serialize};

use crate::{Expectation, LabName, NodeNat, Span};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub(crate) u32);

        impl $name {
            /// Its place in the lab's list.
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }
    };
}

id! {
    /// A node of a [`Lab`].
    NodeId
}
id! {
    /// A switch of a [`Lab`].
    SwitchId
}
id! {
    /// A link of a [`Lab`].
    LinkId
}

/// A topology in which every reference resolves, every name is unique, every interface has a name
/// that the kernel takes, and whatever was given by hand is consistent.
///
/// Only [`LabDoc::resolve`](crate::LabDoc::resolve) makes one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lab {
    pub(crate) name: LabName,
    pub(crate) nodes: Vec<Node>,
    pub(crate) switches: Vec<Switch>,
    pub(crate) links: Vec<Link>,
    pub(crate) routing: Routing,
    pub(crate) multipath: Multipath,
    pub(crate) neighbours: NeighbourMode,
    pub(crate) addressing: Addressing,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) expect: Vec<Expectation>,
}

impl Lab {
    /// Its name.
    pub fn name(&self) -> &LabName {
        &self.name
    }

    /// The same lab by another name.
    pub fn renamed(&self, name: LabName) -> Lab {
        Lab { name, ..self.clone() }
    }

    /// The same lab, in which no address of a family is chosen.
    pub fn without_family(mut self, family: Family) -> Lab {
        match family {
            Family::Ipv4 => self.addressing.ipv4 = None,
            Family::Ipv6 => self.addressing.ipv6 = None,
        }
        self
    }

    /// Its nodes, in the order written; a [`NodeId`] is an index of it.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Its switches, in the order written; a [`SwitchId`] is an index of it.
    pub fn switches(&self) -> &[Switch] {
        &self.switches
    }

    /// Its links, in the order written; a [`LinkId`] is an index of it. The members that a switch
    /// lists are links too.
    pub fn links(&self) -> &[Link] {
        &self.links
    }

    /// Who fills the routing tables.
    pub fn routing(&self) -> Routing {
        self.routing
    }

    /// How much use automatic routing makes of equal-cost paths.
    pub fn multipath(&self) -> Multipath {
        self.multipath
    }

    /// Who fills the neighbour tables.
    pub fn neighbours(&self) -> NeighbourMode {
        self.neighbours
    }

    /// Where addresses come from.
    pub fn addressing(&self) -> &Addressing {
        &self.addressing
    }

    /// What shall be so once it runs, in the order written.
    pub fn expectations(&self) -> &[Expectation] {
        &self.expect
    }

    /// For each node the part of the network that it is in: two nodes are joined, by links and
    /// switches, if and only if the numbers are the same.
    pub fn parts(&self) -> Vec<usize> {
        let nodes = self.nodes.len();
        let number = |vertex: Vertex| match vertex {
            Vertex::Node(id) => id.index(),
            Vertex::Switch(id) => nodes + id.index(),
        };
        let mut around = vec![Vec::new(); nodes + self.switches.len()];
        for link in &self.links {
            let [a, b] = link.ends.each_ref().map(|end| number(end.vertex));
            around[a].push(b);
            around[b].push(a);
        }
        let mut part = vec![usize::MAX; around.len()];
        let mut todo = Vec::new();
        for start in 0..nodes {
            todo.push(start);
            while let Some(at) = todo.pop() {
                if part[at] == usize::MAX {
                    part[at] = start;
                    todo.extend(&around[at]);
                }
            }
        }
        part.truncate(nodes);
        part
    }

    /// The node behind an id.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.index()]
    }

    /// The switch behind an id.
    pub fn switch(&self, id: SwitchId) -> &Switch {
        &self.switches[id.index()]
    }

    /// The link behind an id.
    pub fn link(&self, id: LinkId) -> &Link {
        &self.links[id.index()]
    }

    /// The node of that name.
    pub fn node_named(&self, name: &str) -> Option<NodeId> {
        let at = self.nodes.iter().position(|node| node.name.as_str() == name)?;
        self.node_ids().nth(at)
    }

    /// Every node's id, in order.
    pub fn node_ids(&self) -> impl DoubleEndedIterator<Item = NodeId> + ExactSizeIterator + use<> {
        (0..u32::try_from(self.nodes.len()).unwrap_or(u32::MAX)).map(NodeId)
    }

    /// Every switch's id, in order.
    pub fn switch_ids(&self) -> impl DoubleEndedIterator<Item = SwitchId> + ExactSizeIterator + use<> {
        (0..u32::try_from(self.switches.len()).unwrap_or(u32::MAX)).map(SwitchId)
    }

    /// Every link's id, in order.
    pub fn link_ids(&self) -> impl DoubleEndedIterator<Item = LinkId> + ExactSizeIterator + use<> {
        (0..u32::try_from(self.links.len()).unwrap_or(u32::MAX)).map(LinkId)
    }

    /// The name of a node or switch.
    pub fn vertex_name(&self, vertex: Vertex) -> &NsName {
        match vertex {
            Vertex::Node(id) => &self.node(id).name,
            Vertex::Switch(id) => &self.switch(id).name,
        }
    }
}

/// Who fills the routing tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Routing {
    /// Hopyard: shortest paths between all nodes, forwarding where a node carries transit.
    #[default]
    Auto,
    /// The user: only what the file gives.
    None,
}

/// How much use automatic routing makes of equal-cost paths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Multipath {
    /// All of them, unless that makes a node's table much larger.
    #[default]
    Auto,
    /// All of them.
    Full,
    /// Those that cost no entry.
    Compact,
}

/// Who fills the neighbour tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NeighbourMode {
    /// The kernel in a small lab; permanent entries where the table that all namespaces of the
    /// machine share (1024 entries by default, arp(7)) could overflow.
    #[default]
    Auto,
    /// Permanent entries on every link between two nodes.
    Static,
    /// ARP and neighbour discovery.
    Dynamic,
}

/// Where addresses come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addressing {
    /// The pool for IPv4; `None`: the lab has no IPv4 but what is given by hand.
    pub ipv4: Option<Ipv4Net>,
    /// The pool for IPv6; `None`: the lab has no IPv6 but what is given by hand.
    pub ipv6: Option<Ipv6Net>,
    /// How addresses are laid out in the pools. Never `Auto` in a [`Lab`].
    pub mode: AddressingMode,
}

impl Addressing {
    /// The pool of a family.
    pub fn pool(&self, family: Family) -> Option<IpNet> {
        match family {
            Family::Ipv4 => self.ipv4.map(IpNet::V4),
            Family::Ipv6 => self.ipv6.map(IpNet::V6),
        }
    }
}

/// How addresses are laid out in the pools.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AddressingMode {
    /// `Stable` for what a person wrote, up to a few hundred links; `Compact` for generators,
    /// importers and larger labs.
    #[default]
    Auto,
    /// From the names of what they belong to: they stay when another line is added.
    Stable,
    /// From the shape of the whole network, so that routes aggregate.
    Compact,
}

/// What a node is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Sends and receives, never forwards.
    Host,
    /// Forwards.
    Router,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its name.
    pub name: NsName,
    /// What it is for; `None`: a router where it joins networks, else a host.
    pub role: Option<Role>,
    /// Forwarding, if the file says it.
    pub forward: Option<bool>,
    /// Addresses for `lo` beside 127.0.0.1 and ::1; `None`: the plan chooses whether one is needed.
    pub loopback: Option<Vec<IpNet>>,
    /// Interfaces of the machine that it is lent.
    #[serde(default)]
    pub interfaces: Vec<IfName>,
    /// Further addresses of interfaces.
    pub addresses: BTreeMap<IfName, Vec<IpNet>>,
    /// Sysctls.
    pub sysctls: BTreeMap<SysctlKey, String>,
    /// Routes given by hand.
    pub routes: Vec<StaticRoute>,
    /// What it translates.
    #[serde(default, skip_serializing_if = "NodeNat::is_empty")]
    pub nat: NodeNat,
    /// Has it a way out of the lab, by an interface [`Node::UPLINK`] that leads to the host?
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub uplink: bool,
    /// Its place in the text.
    pub origin: Option<Span>,
}

impl Node {
    /// The name of the interface that leads out of the lab.
    pub const UPLINK: &'static str = "uplink";

    /// Does the file say that it forwards packets of IPv4 or IPv6?
    pub(crate) fn forwards(&self) -> bool {
        let by_sysctl = |family: &Family| self.sysctls.get(&family.forwarding_key()).map(|value| value.trim() != "0");
        let said = self.forward.or(self.role.map(|role| role == Role::Router)).unwrap_or(false);
        said || Family::BOTH.iter().filter_map(by_sysctl).any(|on| on)
    }
}

/// A route given by hand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StaticRoute {
    /// The destination.
    pub to: IpNet,
    /// What it does.
    pub kind: StaticRouteKind,
    /// The priority; 0: none given.
    pub metric: u32,
    /// The table; 254 is `main`.
    pub table: u32,
    /// Its place in the text.
    pub origin: Option<Span>,
}

impl StaticRoute {
    /// What makes it a route of its own.
    pub fn key(&self) -> RouteKey {
        /// What the kernel makes of 0, for IPv6.
        const USUAL: u32 = 1024;
        let metric = if self.to.addr().is_ipv6() && self.metric == USUAL { 0 } else { self.metric };
        RouteKey { prefix: self.to.trunc(), table: self.table, metric }
    }
}

/// What a route given by hand does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StaticRouteKind {
    /// Sends on; at least one of the two is given.
    Unicast {
        /// The next hop.
        via: Option<Via>,
        /// The interface.
        dev: Option<IfName>,
    },
    /// Drops silently.
    Blackhole,
    /// Answers "unreachable".
    Unreachable,
    /// Answers "prohibited".
    Prohibit,
}

/// A next hop, as given by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Via {
    /// An address.
    Addr(IpAddr),
    /// A neighbouring node; the plan looks up its address on the link between the two.
    Node(NodeId),
}

/// A node or a switch: what a link can end at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Vertex {
    /// A node.
    Node(NodeId),
    /// A switch.
    Switch(SwitchId),
}

/// An interface's names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Iface {
    /// The name that the kernel has room for.
    pub name: IfName,
    /// The name in the file, where it was longer than that.
    pub long: Option<AltName>,
}

/// One end of a link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// The node or switch.
    pub vertex: Vertex,
    /// The interface there.
    pub iface: Iface,
    /// Its Ethernet address; `None`: the plan chooses.
    pub mac: Option<MacAddr>,
}

/// What was given by hand for a family of a link between two nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkAddresses {
    /// Nothing: the plan chooses from the pool, where the lab has one for the family.
    #[default]
    Auto,
    /// None wanted.
    None,
    /// A prefix to choose two addresses from.
    Prefix(IpNet),
    /// Both addresses, in the order of the ends; of the same prefix or not.
    Pair([IpNet; 2]),
    /// On a link between a node and a switch: the address of the node.
    One(IpNet),
}

/// A link: between two nodes, a node and a switch, or two switches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Its ends. Where one is a switch and one a node, the node is first.
    pub ends: [End; 2],
    /// IPv4.
    pub ipv4: LinkAddresses,
    /// IPv6; never but `None` where the MTU is too small for it.
    pub ipv6: LinkAddresses,
    /// The MTU of both ends; at a switch it is the segment's where the link was given none.
    pub mtu: Option<Mtu>,
    /// The cost of using it, either way.
    pub cost: u32,
    /// One-way delay in microseconds, as an importer found it. Not yet applied.
    pub delay_us: Option<u64>,
    /// Its place in the text.
    pub origin: Option<Span>,
}

impl Link {
    /// What was given for a family.
    pub fn addresses(&self, family: Family) -> LinkAddresses {
        match family {
            Family::Ipv4 => self.ipv4,
            Family::Ipv6 => self.ipv6,
        }
    }
}

/// What was given by hand for a family of a switch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SwitchAddresses {
    /// Nothing: the plan chooses.
    #[default]
    Auto,
    /// None wanted.
    None,
    /// The prefix of the segment.
    Prefix(IpNet),
}

/// A switch: one segment that joins several nodes.
///
/// Switches that links join are one segment. What one of them was given, addresses and MTU, each
/// of them says; such links never form a ring.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switch {
    /// Its name; never that of a node.
    pub name: NsName,
    /// The bridge in its namespace.
    pub bridge: IfName,
    /// IPv4 of the segment.
    pub ipv4: SwitchAddresses,
    /// IPv6 of the segment.
    pub ipv6: SwitchAddresses,
    /// The MTU of the segment.
    pub mtu: Option<Mtu>,
    /// The cost of entering it.
    pub cost: u32,
    /// Its place in the text.
    pub origin: Option<Span>,
}

impl Switch {
    /// The most ports that a Linux bridge has (`BR_MAX_PORTS` less one).
    pub const MAX_PORTS: usize = 1023;

    /// What was given for a family.
    pub fn addresses(&self, family: Family) -> SwitchAddresses {
        match family {
            Family::Ipv4 => self.ipv4,
            Family::Ipv6 => self.ipv6,
        }
    }
}
