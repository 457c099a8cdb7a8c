//! What one family sees of the fabric: who can send to whom, and what lives where.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use hopyard_net::{Family, IpNet};

use super::aggregate::Prefix;
use super::destinations::Destination;
use super::domains::{Hidden, hidden_from};
use super::graph::{Spec, Vertex};
use crate::address::Addresses;
use crate::fabric::{Fabric, index};

/// A neighbour and the two ports between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Neighbour {
    pub(crate) node: usize,
    pub(crate) cost: u32,
    /// The port to send from.
    pub(crate) port: usize,
    /// The neighbour's port.
    pub(crate) peer: usize,
    /// The vertex of the segment between, in the numbering of the [`Spec`].
    pub(crate) segment: Option<Vertex>,
}

/// The fabric for one family.
#[derive(Clone, Debug)]
pub(crate) struct Topology {
    pub(crate) spec: Spec,
    /// The vertex of each node. A host with nothing of its own behind it has none: whoever
    /// reaches its network reaches it.
    pub(crate) vertex: Vec<Option<Vertex>>,
    /// The neighbours of each node to which a packet may be worth sending.
    pub(crate) neighbours: Vec<Vec<Neighbour>>,
    pub(crate) destinations: Vec<Destination>,
    /// Does the node pass packets of others on?
    pub(crate) carries: Vec<bool>,
    /// Who owns what no route may lead to; no edge leads there. `None`: nothing is hidden.
    pub(crate) nowhere: Option<Vertex>,
    /// The nodes that hide something from the others here.
    pub(crate) hides: BTreeSet<usize>,
}

/// A prefix as the solver has it.
pub(crate) fn prefix(net: IpNet) -> Prefix {
    match net.trunc() {
        IpNet::V4(net) => Prefix { bits: u128::from(net.network().to_bits()) << 96, len: net.prefix_len() },
        IpNet::V6(net) => Prefix { bits: net.network().to_bits(), len: net.prefix_len() },
    }
}

/// And back.
pub(crate) fn net(prefix: Prefix, family: Family) -> Option<IpNet> {
    let addr: IpAddr = match family {
        Family::Ipv4 => std::net::Ipv4Addr::from_bits(u32::try_from(prefix.bits >> 96).ok()?).into(),
        Family::Ipv6 => std::net::Ipv6Addr::from_bits(prefix.bits).into(),
    };
    IpNet::new(addr, prefix.len).ok()
}

/// A single address as a prefix.
fn single(net: IpNet) -> IpNet {
    IpNet::from(net.addr())
}

impl Topology {
    /// Of one domain, or of all networks.
    pub(crate) fn new(fabric: &Fabric<'_>, addresses: &Addresses, domain: Option<usize>, family: Family) -> Self {
        Builder::new(fabric, addresses, domain, family).build()
    }
}

/// A network as far as the family can use it: its ports that can send to each other.
struct Usable {
    ports: Vec<usize>,
    prefix: IpNet,
}

struct Builder<'b, 'a> {
    fabric: &'b Fabric<'a>,
    addresses: &'b Addresses,
    /// Only what is in it; `None`: everything.
    domain: Option<usize>,
    family: Family,
    networks: Vec<Option<Usable>>,
    /// Does the node carry transit, and lead anywhere?
    carries: Vec<bool>,
    /// On how many usable networks is the node?
    degree: Vec<usize>,
    /// By prefix: who owns it, and who is connected to it.
    found: BTreeMap<IpNet, (Vec<Owner>, Vec<usize>)>,
}

/// Where packets for a prefix are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Owner {
    Node(usize),
    Segment(usize),
}

impl<'b, 'a> Builder<'b, 'a> {
    fn new(fabric: &'b Fabric<'a>, addresses: &'b Addresses, domain: Option<usize>, family: Family) -> Self {
        let f = index(family);
        let mut this = Builder {
            fabric,
            addresses,
            domain,
            family,
            networks: Vec::new(),
            carries: Vec::new(),
            degree: vec![0; fabric.ports_of.len()],
            found: BTreeMap::new(),
        };
        this.networks = (0..fabric.networks.len()).map(|net| this.usable(net)).collect();
        for network in this.networks.iter().flatten() {
            let mut nodes: Vec<usize> = network.ports.iter().map(|&port| fabric.ports[port].node).collect();
            nodes.sort_unstable();
            nodes.dedup();
            for node in nodes {
                this.degree[node] += 1;
            }
        }
        // What it hides sends everything to a node that translates addresses, also where it has one network there.
        let leads_out =
            |node| this.domain.is_some() && fabric.inner_ports(node).any(|port| this.has(fabric.ports[port].net));
        let carries = |node: usize| fabric.forwards[node][f] && (this.degree[node] >= 2 || leads_out(node));
        this.carries = (0..this.degree.len()).map(carries).collect();
        this
    }

    fn has(&self, net: usize) -> bool {
        self.domain.is_none_or(|domain| self.fabric.domain(net) == domain)
    }

    /// Is any port of the node there, or none anywhere?
    fn has_node(&self, node: usize) -> bool {
        let ports = &self.fabric.ports_of[node];
        ports.is_empty() || ports.iter().any(|&port| self.has(self.fabric.ports[port].net))
    }

    fn address(&self, port: usize) -> Option<IpNet> {
        self.addresses.ports[port][index(self.family)]
    }

    /// The ports of a network whose addresses are in the prefix of the first.
    fn usable(&self, net: usize) -> Option<Usable> {
        let network = &self.fabric.networks[net];
        if !self.has(net) {
            return None;
        }
        let prefix = network.ports.iter().find_map(|&port| self.address(port))?.trunc();
        let fits = |port: &usize| self.address(*port).is_some_and(|net| net.trunc() == prefix);
        let ports: Vec<usize> = network.ports.iter().copied().filter(fits).collect();
        (ports.len() >= 2 || !network.is_wire()).then_some(Usable { ports, prefix })
    }

    fn node(&self, port: usize) -> usize {
        self.fabric.ports[port].node
    }

    fn build(mut self) -> Topology {
        self.find_loopbacks();
        self.find_subnets();
        self.find_strays();

        let nodes = self.degree.len();
        let mut useful = self.carries.clone();
        for (owners, _) in self.found.values() {
            for owner in owners {
                if let Owner::Node(node) = owner {
                    useful[*node] = true;
                }
            }
        }
        let mut spec = Spec::default();
        let mut add = |transit: bool, segment: bool| {
            spec.transit.push(transit);
            spec.segment.push(segment);
            spec.hosts.push(false);
            spec.transit.len() - 1
        };
        let vertex: Vec<Option<Vertex>> =
            (0..nodes).map(|node| useful[node].then(|| add(self.carries[node], false))).collect();
        let segment: Vec<Option<Vertex>> = self
            .networks
            .iter()
            .enumerate()
            .map(|(net, usable)| {
                let wanted = !self.fabric.networks[net].is_wire()
                    && usable.as_ref().is_some_and(|it| it.ports.iter().any(|&port| useful[self.node(port)]));
                wanted.then(|| add(true, true))
            })
            .collect();
        // A prefix that lives in several places is reached at the nearest.
        let mut shared = Vec::new();
        let mut edges = Vec::new();
        for (prefix, (owners, _)) in &mut self.found {
            owners.sort_unstable();
            owners.dedup();
            if owners.len() > 1 {
                // Nothing goes through the meeting point: it is not there.
                let meeting = add(false, true);
                shared.push((*prefix, meeting));
                for owner in &*owners {
                    let at = match owner {
                        Owner::Node(node) => vertex[*node],
                        Owner::Segment(net) => segment[*net],
                    };
                    edges.extend(at.map(|at| (at, meeting, 1, 0)));
                }
            }
        }
        spec.edges = edges;
        let hidden = match self.domain {
            Some(domain) => hidden_from(self.fabric, self.addresses, domain, self.family),
            None => Hidden::default(),
        };
        // An address that is in use here as well is this one.
        let is_here = |net: &IpNet| self.found.keys().any(|here| here.contains(net));
        let nets: Vec<IpNet> = hidden.nets.into_iter().filter(|net| !is_here(net)).collect();
        let nowhere = (!nets.is_empty()).then(|| {
            spec.transit.push(false);
            spec.segment.push(true);
            spec.hosts.push(false);
            spec.transit.len() - 1
        });
        let neighbours = self.neighbours(&useful, &vertex, &segment, &mut spec);
        let hidden_nets =
            nets.into_iter().map(|net| Destination { prefix: prefix(net), owner: nowhere, connected: Vec::new() });
        let destinations = self
            .found
            .into_iter()
            .map(|(net, (owners, mut connected))| {
                let owner = match (shared.iter().find(|(shared, _)| *shared == net), owners.first()) {
                    (Some((_, meeting)), _) => Some(*meeting),
                    (None, Some(Owner::Node(node))) => vertex[*node],
                    (None, Some(Owner::Segment(net))) => segment[*net],
                    (None, None) => None,
                };
                connected.sort_unstable();
                connected.dedup();
                Destination { prefix: prefix(net), owner, connected }
            })
            .chain(hidden_nets)
            .collect();
        Topology { spec, vertex, neighbours, destinations, carries: self.carries, nowhere, hides: hidden.by }
    }

    fn found(&mut self, net: IpNet, owner: impl Into<Option<Owner>>, connected: impl IntoIterator<Item = usize>) {
        let entry = self.found.entry(net.trunc()).or_default();
        entry.0.extend(owner.into());
        entry.1.extend(connected);
    }

    fn find_loopbacks(&mut self) {
        let addresses = self.addresses;
        let nodes: Vec<usize> = (0..self.degree.len()).filter(|&node| self.has_node(node)).collect();
        for node in nodes {
            let further = addresses.further[node].iter().map(|(_, net)| *net);
            for net in addresses.loopbacks[node].iter().copied().chain(further) {
                if Family::of(net.addr()) == self.family {
                    self.found(net, Owner::Node(node), [node]);
                }
            }
        }
    }

    fn find_subnets(&mut self) {
        let networks: Vec<usize> = (0..self.networks.len()).filter(|&net| self.has(net)).collect();
        for net in networks {
            let network = &self.fabric.networks[net];
            let usable: Vec<usize> = self.networks[net].as_ref().map(|it| it.ports.clone()).unwrap_or_default();
            // Ports are numbered in the order in which networks list them.
            for &port in network.ports.iter().filter(|port| usable.binary_search(port).is_err()) {
                if let Some(addr) = self.address(port) {
                    self.found(addr, Owner::Node(self.node(port)), [self.node(port)]);
                }
            }
            let Some(prefix) = self.networks[net].as_ref().map(|it| it.prefix) else { continue };
            let connected: Vec<usize> = usable.iter().map(|&port| self.node(port)).collect();
            let owner = if network.is_wire() {
                self.owner(net, [connected[0], connected[1]]).map(Owner::Node)
            } else {
                Some(Owner::Segment(net))
            };
            self.found(prefix, owner, connected);
        }
    }

    /// Which end packets for a wire are sent to: one that carries transit, of two the one whose
    /// other addresses are near, or else the one with fewer networks.
    fn owner(&self, net: usize, [a, b]: [usize; 2]) -> Option<usize> {
        let near = self.addresses.wire_owner.get(net).copied().flatten();
        match (self.carries[a], self.carries[b]) {
            (true, true) if near.is_some() => near,
            (true, true) => Some(if self.degree[a] < self.degree[b] { a } else { b }),
            (true, false) => Some(a),
            (false, true) => Some(b),
            (false, false) => None,
        }
    }

    /// A node on several networks that carries no transit may be the only thing between them.
    /// Then each of its addresses is a destination of its own, reached from whichever side.
    fn find_strays(&mut self) {
        let side = self.sides();
        let mut strays = Vec::new();
        for node in (0..self.degree.len()).filter(|&node| !self.carries[node] && self.degree[node] >= 2) {
            let mut first = None;
            let several = self.fabric.ports_of[node].iter().any(|&port| {
                let net = self.fabric.ports[port].net;
                self.networks[net].is_some() && *first.get_or_insert(side[net]) != side[net]
            });
            if several {
                strays.push(node);
            }
        }
        for node in strays {
            for &port in &self.fabric.ports_of[node] {
                let net = self.fabric.ports[port].net;
                let Some(usable) = &self.networks[net] else { continue };
                if let Some(addr) = self.address(port).filter(|_| usable.ports.contains(&port)) {
                    let connected: Vec<usize> = usable.ports.iter().map(|&port| self.node(port)).collect();
                    self.found(single(addr), Owner::Node(node), connected);
                }
            }
        }
    }

    /// For each network, a number that it shares with all that transit joins it to.
    fn sides(&self) -> Vec<usize> {
        let mut side = vec![usize::MAX; self.networks.len()];
        let mut seen = vec![false; self.degree.len()];
        let mut stack = Vec::new();
        for start in 0..side.len() {
            stack.push(start);
            while let Some(net) = stack.pop() {
                if side[net] != usize::MAX {
                    continue;
                }
                side[net] = start;
                for port in self.networks[net].iter().flat_map(|it| &it.ports) {
                    let node = self.node(*port);
                    if self.carries[node] && !std::mem::replace(&mut seen[node], true) {
                        stack.extend(self.fabric.ports_of[node].iter().map(|&port| self.fabric.ports[port].net));
                    }
                }
            }
        }
        side
    }

    fn neighbours(
        &self,
        useful: &[bool],
        vertex: &[Option<Vertex>],
        segment: &[Option<Vertex>],
        spec: &mut Spec,
    ) -> Vec<Vec<Neighbour>> {
        let mut neighbours: Vec<Vec<Neighbour>> = vec![Vec::new(); vertex.len()];
        for (net, usable) in self.networks.iter().enumerate() {
            let Some(usable) = usable else { continue };
            let cost = |port: usize| self.fabric.ports[port].cost;
            let members: Vec<usize> = usable.ports.iter().copied().filter(|&port| useful[self.node(port)]).collect();
            for &port in &usable.ports {
                let node = self.node(port);
                for &peer in members.iter().filter(|&&peer| self.node(peer) != node) {
                    let segment = segment[net];
                    neighbours[node].push(Neighbour { node: self.node(peer), cost: cost(port), port, peer, segment });
                }
            }
            if let Some(segment) = segment[net] {
                spec.hosts[segment] = members.len() < usable.ports.len();
                for &port in &members {
                    if let Some(node) = vertex[self.node(port)] {
                        spec.edges.push((node, segment, cost(port), 0));
                    }
                }
            } else if self.fabric.networks[net].is_wire()
                && let [a, b] = usable.ports[..]
            {
                match (vertex[self.node(a)], vertex[self.node(b)]) {
                    (Some(from), Some(to)) => spec.edges.push((from, to, cost(a), cost(b))),
                    (Some(one), None) | (None, Some(one)) => spec.hosts[one] = true,
                    (None, None) => {}
                }
            }
        }
        neighbours
    }
}
