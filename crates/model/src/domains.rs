//! Which networks share one space of addresses: the one that a node joins to another one by translating
//! addresses does not know what is behind it.

use crate::{Lab, Routing, Vertex};

/// For each network, the domain that it is in: networks of which packets come from one to the other as
/// they are have the same number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Domains {
    of_network: Vec<usize>,
}

/// A node, as far as it joins networks.
pub(crate) struct Joint {
    /// The networks that it is on, each with whether it is outside of what the node hides.
    pub(crate) networks: Vec<(usize, bool)>,
    /// Does it pass packets on?
    pub(crate) forwards: bool,
}

impl Domains {
    pub(crate) fn new(networks: usize, joints: &[Joint]) -> Self {
        let mut root: Vec<usize> = (0..networks).collect();
        for joint in joints.iter().filter(|joint| joint.forwards) {
            for side in [false, true] {
                let mut of_side = joint.networks.iter().filter(|(_, outside)| *outside == side).map(|(net, _)| *net);
                let Some(first) = of_side.next() else { continue };
                for other in of_side {
                    let (a, b) = (find(&mut root, first), find(&mut root, other));
                    root[a.max(b)] = a.min(b);
                }
            }
        }
        Domains { of_network: (0..networks).map(|net| find(&mut root, net)).collect() }
    }

    /// The domain of a network.
    pub fn of(&self, network: usize) -> usize {
        self.of_network[network]
    }

    /// The numbers of all domains, ascending.
    pub fn all(&self) -> Vec<usize> {
        let mut all = self.of_network.clone();
        all.sort_unstable();
        all.dedup();
        all
    }
}

fn find(root: &mut [usize], mut at: usize) -> usize {
    while root[at] != at {
        root[at] = root[root[at]];
        at = root[at];
    }
    at
}

impl Lab {
    /// The domains of its networks, which the caller has numbered: `network_of` has the number of each
    /// link that is not between two switches.
    pub fn domains(&self, networks: usize, network_of: &dyn Fn(usize) -> usize) -> Domains {
        let mut joints: Vec<Joint> = self
            .nodes
            .iter()
            .map(|node| Joint { networks: Vec::new(), forwards: self.routing == Routing::Auto || node.forwards() })
            .collect();
        let outside: Vec<_> = self.nodes.iter().map(|node| node.nat.outside()).collect();
        for (at, link) in self.links.iter().enumerate() {
            for end in &link.ends {
                if let Vertex::Node(id) = end.vertex {
                    let is_outside = outside[id.index()].contains(&end.iface.name);
                    joints[id.index()].networks.push((network_of(at), is_outside));
                }
            }
        }
        Domains::new(networks, &joints)
    }
}
