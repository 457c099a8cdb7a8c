//! Permanent neighbour entries.
//!
//! The kernel has one neighbour table per family for all namespaces of the machine, 1024 entries
//! by default (`net.ipv4.neigh.default.gc_thresh3`, arp(7)); when it is full, packets are lost
//! everywhere. Permanent entries do not count.

use hopyard_model::{NeighbourMode, Problem};
use hopyard_net::{Family, MacAddr};

use crate::address::Addresses;
use crate::fabric::{Fabric, Network, index};

/// Neighbours that may be learnt before the table is in danger.
const SAFE: u64 = 700;
/// The size of the kernel's table.
const TABLE: u64 = 1024;
/// Segments of up to this many ports get permanent entries, each port one for each other.
const SMALL_SEGMENT: usize = 32;

/// A port, and a neighbour's port.
pub(crate) type Pair = (usize, usize);

/// Which ports get a permanent entry for which others.
pub(crate) fn permanent(fabric: &Fabric<'_>, addresses: &Addresses, warnings: &mut Vec<Problem>) -> Vec<Pair> {
    let expected = Family::BOTH.map(|family| expected(fabric, addresses, family)).into_iter().max().unwrap_or(0);
    let wanted = match fabric.lab.neighbours() {
        NeighbourMode::Static => true,
        NeighbourMode::Auto => expected > SAFE,
        NeighbourMode::Dynamic => {
            if expected > TABLE {
                let message = format!(
                    "up to {expected} neighbours are learnt, but all namespaces of the machine share a table of {TABLE}"
                );
                warnings.push(
                    Problem::warning("many-neighbours", None, message)
                        .help("raise `net.ipv4.neigh.default.gc_thresh3` and its IPv6 twin on the host, or leave out `neighbours: dynamic`"),
                );
            }
            false
        }
    };
    if !wanted {
        return Vec::new();
    }
    let meshed = |network: &&Network| network.is_wire() || network.ports.len() <= SMALL_SEGMENT;
    fabric
        .networks
        .iter()
        .filter(meshed)
        .flat_map(|network| {
            let all = &network.ports;
            all.iter().flat_map(move |&from| all.iter().map(move |&to| (from, to)))
        })
        .filter(|&(from, to)| fabric.ports[from].node != fabric.ports[to].node)
        .collect()
}

/// How many entries everyone talking to everyone would need. On a segment that is rare: each
/// node with its gateways and a few others.
fn expected(fabric: &Fabric<'_>, addresses: &Addresses, family: Family) -> u64 {
    const OTHERS: u64 = 16;
    let of = |network: &Network| {
        let ports = network.ports.iter().filter(|&&port| addresses.ports[port][index(family)].is_some()).count() as u64;
        ports * ports.saturating_sub(1).min(OTHERS)
    };
    fabric.networks.iter().map(of).sum()
}

/// The address and hardware address of each permanent entry of a pair.
pub(crate) fn entries(
    fabric: &Fabric<'_>,
    addresses: &Addresses,
    macs: &[[MacAddr; 2]],
    (from, to): Pair,
) -> impl Iterator<Item = (std::net::IpAddr, MacAddr)> {
    let peer = &fabric.ports[to];
    let mac = macs[peer.link][peer.end];
    let (own, theirs) = (addresses.ports[from], addresses.ports[to]);
    Family::BOTH.into_iter().filter_map(move |family| {
        let (own, theirs) = (own[index(family)]?, theirs[index(family)]?);
        own.contains(&theirs.addr()).then_some((theirs.addr(), mac))
    })
}
