//! Who is hidden from whom by a node that translates addresses: a lab says so, and no route leads there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use hopyard_model::{Lab, Problem};

use crate::address;
use crate::fabric::{Fabric, index};
use hopyard_net::Family;

/// What nodes hide by translating addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hiding {
    /// For each node the domains that its packets come to, as they are or with another source.
    comes_to: Vec<BTreeSet<usize>>,
    /// For each node and address of it that is hidden from somebody the node that hides it, and the domains
    /// that it is in.
    behind: BTreeMap<(usize, IpAddr), (usize, BTreeSet<usize>)>,
    /// For each node the part of the network that it is in.
    parts: Vec<usize>,
}

impl Hiding {
    /// What a lab hides.
    ///
    /// # Errors
    /// The lab cannot be planned.
    pub fn of(lab: &Lab) -> Result<Self, Vec<Problem>> {
        let fabric = Fabric::new(lab);
        // A gateway: a node, and a domain that it hides.
        let mut gateways: BTreeSet<(usize, usize)> = BTreeSet::new();
        for node in 0..lab.nodes().len() {
            gateways.extend(fabric.inner_ports(node).map(|port| (node, fabric.domain(fabric.ports[port].net))));
        }
        if gateways.is_empty() {
            return Ok(Hiding::default());
        }
        let hidden_by: BTreeMap<usize, usize> = gateways.iter().rev().map(|(node, domain)| (*domain, *node)).collect();
        let touched: Vec<BTreeSet<usize>> = (0..lab.nodes().len())
            .map(|node| fabric.ports_of[node].iter().map(|&port| fabric.domain(fabric.ports[port].net)).collect())
            .collect();
        let mut ways_out: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
        for (node, domain) in &gateways {
            ways_out.entry(*domain).or_default().extend(&touched[*node]);
        }
        let addresses = address::choose(&fabric)?;
        let mut behind = BTreeMap::new();
        for (node, touched) in touched.iter().enumerate() {
            let mut hide = |addr: IpAddr, domains: &BTreeSet<usize>| {
                if let Some(by) = domains.iter().find_map(|domain| hidden_by.get(domain)) {
                    behind.insert((node, addr), (*by, domains.clone()));
                }
            };
            // What is on no network is where its node is.
            let further = addresses.further[node].iter().map(|(_, net)| net);
            addresses.loopbacks[node].iter().chain(further).for_each(|net| hide(net.addr(), touched));
            for &port in &fabric.ports_of[node] {
                for family in Family::BOTH {
                    if let Some(net) = addresses.ports[port][index(family)] {
                        hide(net.addr(), &BTreeSet::from([fabric.domain(fabric.ports[port].net)]));
                    }
                }
            }
        }
        let comes_to = touched.into_iter().map(|domains| closure(domains, &ways_out)).collect();
        Ok(Hiding { comes_to, behind, parts: lab.parts() })
    }

    /// The node that hides an address of a node from another one, each by its place in the lab. `None`: none
    /// does, whether there is a way or not.
    pub fn hides(&self, from: usize, to: usize, addr: IpAddr) -> Option<usize> {
        let (by, domains) = self.behind.get(&(to, addr))?;
        let is_out = self.comes_to.get(from)?.is_disjoint(domains) && self.parts[from] == self.parts[to];
        is_out.then_some(*by)
    }
}

/// What can be come to from some domains.
fn closure(mut domains: BTreeSet<usize>, ways_out: &BTreeMap<usize, BTreeSet<usize>>) -> BTreeSet<usize> {
    let mut todo: Vec<usize> = domains.iter().copied().collect();
    while let Some(domain) = todo.pop() {
        for next in ways_out.get(&domain).into_iter().flatten() {
            if domains.insert(*next) {
                todo.push(*next);
            }
        }
    }
    domains
}
