//! The lab as a router sees it: nodes with ports on networks.
//!
//! A *network* is what IP calls a link: one wire between two nodes, or one segment, which is all
//! the switches that are joined to each other and every node at them.

use hopyard_model::{Domains, Lab, LinkAddresses, Role, Routing, SwitchAddresses, Vertex};
use hopyard_net::{Family, IfName, IpNet, SysctlKey};

/// A value for each family, IPv4 first.
pub(crate) type PerFamily<T> = [T; 2];

/// The place of a family in a [`PerFamily`].
pub(crate) const fn index(family: Family) -> usize {
    match family {
        Family::Ipv4 => 0,
        Family::Ipv6 => 1,
    }
}

/// An interface of a node on a network.
#[derive(Debug)]
pub(crate) struct Port {
    /// The node, by its place in the lab.
    pub(crate) node: usize,
    /// The interface.
    pub(crate) iface: IfName,
    /// The network, by its place in the fabric.
    pub(crate) net: usize,
    /// The link, by its place in the lab.
    pub(crate) link: usize,
    /// Which end of the link.
    pub(crate) end: usize,
    /// What it costs to send from it.
    pub(crate) cost: u32,
}

/// A wire or a segment.
#[derive(Debug, Default)]
pub(crate) struct Network {
    /// Its ports, in the order written.
    pub(crate) ports: Vec<usize>,
    /// Its switches, in the order written; none: it is a wire.
    pub(crate) switches: Vec<usize>,
}

impl Network {
    /// Is it a wire between two nodes?
    pub(crate) fn is_wire(&self) -> bool {
        self.switches.is_empty()
    }
}

/// Nodes, ports and networks of a lab.
#[derive(Debug)]
pub(crate) struct Fabric<'a> {
    pub(crate) lab: &'a Lab,
    pub(crate) ports: Vec<Port>,
    pub(crate) networks: Vec<Network>,
    /// The ports of each node, in the order written.
    pub(crate) ports_of: Vec<Vec<usize>>,
    /// Does each node forward?
    pub(crate) forwards: Vec<PerFamily<bool>>,
    /// Which networks share one space of addresses.
    domains: Domains,
}

impl<'a> Fabric<'a> {
    pub(crate) fn new(lab: &'a Lab) -> Self {
        let mut fabric = Fabric {
            lab,
            ports: Vec::with_capacity(lab.links().len() * 2),
            networks: Vec::new(),
            ports_of: vec![Vec::new(); lab.nodes().len()],
            forwards: Vec::new(),
            domains: Domains::default(),
        };
        fabric.find_networks();
        let mut network_of = vec![0; lab.links().len()];
        for port in &fabric.ports {
            network_of[port.link] = port.net;
        }
        fabric.domains = lab.domains(fabric.networks.len(), &|link| network_of[link]);
        fabric.forwards = (0..lab.nodes().len()).map(|node| fabric.forwarding(node)).collect();
        fabric
    }

    fn find_networks(&mut self) {
        let lab = self.lab;
        let segment_of = segments(lab);
        // The networks of the segments, made when their first port or switch comes along.
        let mut network_of = vec![None; lab.switches().len()];
        for (id, link) in lab.links().iter().enumerate() {
            let [a, b] = [link.ends[0].vertex, link.ends[1].vertex];
            match (a, b) {
                (Vertex::Node(a), Vertex::Node(b)) => {
                    let net = self.networks.len();
                    self.networks.push(Network::default());
                    self.add_port(a.index(), id, 0, net, link.cost);
                    self.add_port(b.index(), id, 1, net, link.cost);
                }
                (Vertex::Node(node), Vertex::Switch(switch)) | (Vertex::Switch(switch), Vertex::Node(node)) => {
                    let net = self.segment_network(&mut network_of, segment_of[switch.index()]);
                    let cost = link.cost.max(lab.switch(switch).cost);
                    self.add_port(node.index(), id, usize::from(matches!(b, Vertex::Node(_))), net, cost);
                }
                (Vertex::Switch(_), Vertex::Switch(_)) => {}
            }
        }
        for (id, &segment) in segment_of.iter().enumerate() {
            let net = self.segment_network(&mut network_of, segment);
            self.networks[net].switches.push(id);
        }
    }

    fn segment_network(&mut self, network_of: &mut [Option<usize>], segment: usize) -> usize {
        *network_of[segment].get_or_insert_with(|| {
            self.networks.push(Network::default());
            self.networks.len() - 1
        })
    }

    fn add_port(&mut self, node: usize, link: usize, end: usize, net: usize, cost: u32) {
        let id = self.ports.len();
        let iface = self.lab.links()[link].ends[end].iface.name;
        // A cost of nothing would make a shortest path go in circles.
        self.ports.push(Port { node, iface, net, link, end, cost: cost.max(1) });
        self.networks[net].ports.push(id);
        self.ports_of[node].push(id);
    }

    /// How many networks does a node join?
    pub(crate) fn degree(&self, node: usize) -> usize {
        let ports = &self.ports_of[node];
        let first = |(at, port): (usize, &usize)| {
            !ports[..at].iter().any(|earlier| self.ports[*earlier].net == self.ports[*port].net)
        };
        // Two decide everything; a hub with thousands of ports need not be counted.
        ports.iter().enumerate().filter(|&it| first(it)).take(2).count()
    }

    /// The domain of a network.
    pub(crate) fn domain(&self, net: usize) -> usize {
        self.domains.of(net)
    }

    /// The domains of all networks, each once.
    pub(crate) fn domains(&self) -> Vec<usize> {
        self.domains.all()
    }

    /// The ports of a node behind which is what it hides: it forwards, and what leaves by its other ports
    /// has another source.
    pub(crate) fn inner_ports(&self, node: usize) -> impl Iterator<Item = usize> {
        let outside = self.lab.nodes()[node].nat.outside();
        let (outer, inner): (Vec<usize>, Vec<usize>) =
            self.ports_of[node].iter().partition(|&&port| outside.contains(&self.ports[port].iface));
        let hides = (!outer.is_empty() || self.lab.nodes()[node].uplink) && self.forwards[node] != [false; 2];
        let beyond: Vec<usize> = outer.iter().map(|&port| self.domain(self.ports[port].net)).collect();
        // Where there is another way around it, it hides nothing.
        inner.into_iter().filter(move |&port| hides && !beyond.contains(&self.domain(self.ports[port].net)))
    }

    /// The prefixes that the file gives for the network of a port.
    pub(crate) fn given_prefixes(&self, port: usize) -> Vec<IpNet> {
        let mut all = Vec::new();
        for &other in &self.networks[self.ports[port].net].ports {
            let it = &self.ports[other];
            for family in Family::BOTH {
                match self.lab.links()[it.link].addresses(family) {
                    LinkAddresses::Prefix(net) => all.push(net),
                    LinkAddresses::Pair(pair) if other == port => all.push(pair[it.end].trunc()),
                    LinkAddresses::One(net) if other == port => all.push(net.trunc()),
                    _ => {}
                }
            }
        }
        for &switch in &self.networks[self.ports[port].net].switches {
            for family in Family::BOTH {
                if let SwitchAddresses::Prefix(net) = self.lab.switches()[switch].addresses(family) {
                    all.push(net);
                }
            }
        }
        all
    }

    fn forwarding(&self, node: usize) -> PerFamily<bool> {
        let it = &self.lab.nodes()[node];
        let chosen = match (it.forward, it.role, self.lab.routing()) {
            (Some(forward), ..) => forward,
            (None, Some(role), _) => role == Role::Router,
            (None, None, Routing::Auto) => self.degree(node) + usize::from(it.uplink) >= 2,
            (None, None, Routing::None) => false,
        };
        let told = |key: SysctlKey| it.sysctls.get(&key).map(|value| value.trim() != "0");
        Family::BOTH.map(|family| told(family.forwarding_key()).unwrap_or(chosen))
    }
}

/// Which switches are joined: for each, the first one that it is joined to.
fn segments(lab: &Lab) -> Vec<usize> {
    let mut parent: Vec<usize> = (0..lab.switches().len()).collect();
    for link in lab.links() {
        if let [Vertex::Switch(a), Vertex::Switch(b)] = [link.ends[0].vertex, link.ends[1].vertex] {
            let (a, b) = (find(&mut parent, a.index()), find(&mut parent, b.index()));
            parent[a.max(b)] = a.min(b);
        }
    }
    (0..parent.len()).map(|at| find(&mut parent, at)).collect()
}

/// The representative of a set of switches, with the ways to it cut short.
fn find(parent: &mut [usize], mut at: usize) -> usize {
    while parent[at] != at {
        parent[at] = parent[parent[at]];
        at = parent[at];
    }
    at
}
