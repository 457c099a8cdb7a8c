//! Which interface gets which address.
//!
//! What is given by hand stays as it is. The rest comes from the lab's pools: a `/31` (RFC 3021)
//! or `/127` (RFC 6164) for a wire, a `/24` or larger for a segment, one address for the loopback
//! of a node that joins networks. Both families share one layout: what is at an offset in the
//! IPv4 pool is at the same offset in the IPv6 pool, so that one set of routes serves both.

mod compact;
mod pool;
mod stable;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hopyard_model::{AddressingMode, LinkAddresses, Problem, Routing, SwitchAddresses};
use hopyard_net::{Family, IfName, IpNet, Mtu};

use self::pool::Pool;
use crate::fabric::{Fabric, PerFamily, index};
use crate::hash::{hash, rehash};
use crate::nat;

/// The addresses of all nodes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Addresses {
    /// The main address of each port.
    pub(crate) ports: Vec<PerFamily<Option<IpNet>>>,
    /// The addresses of each node's `lo`.
    pub(crate) loopbacks: Vec<Vec<IpNet>>,
    /// Further addresses of each node, by interface.
    pub(crate) further: Vec<Vec<(IfName, IpNet)>>,
    /// Addresses of each node that stand for other nodes, by interface. They lie in the prefix of the
    /// interface, so nobody needs a route to them.
    pub(crate) floating: Vec<Vec<(IfName, IpNet)>>,
    /// For each network, if it is a wire, the end near whose other addresses the wire's are.
    /// Empty where addresses do not follow the shape of the network.
    pub(crate) wire_owner: Vec<Option<usize>>,
}

impl Addresses {
    /// All of them.
    fn all(&self) -> impl Iterator<Item = IpNet> {
        let ports = self.ports.iter().flatten().flatten().copied();
        let loopbacks = self.loopbacks.iter().flatten().copied();
        let further = self.further.iter().chain(&self.floating).flatten().map(|(_, net)| *net);
        ports.chain(loopbacks).chain(further)
    }
}

/// Something that needs a block of the pools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Need {
    what: What,
    /// The size of the block, as a power of two.
    bits: u32,
}

/// What needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Wire(usize),
    Segment(usize),
    Loopback(usize),
}

/// Where the addresses of a network come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// There are none but those of single ports.
    Hand,
    /// A prefix given by hand.
    Prefix(IpNet),
    /// The pool of the lab.
    Pool,
}

/// Chooses all addresses that are not given.
pub(crate) fn choose(fabric: &Fabric<'_>) -> Result<Addresses, Vec<Problem>> {
    let sources: Vec<PerFamily<Source>> =
        (0..fabric.networks.len()).map(|net| Family::BOTH.map(|family| source(fabric, net, family))).collect();
    let mut addresses = given(fabric);
    addresses.floating = nat::floating(fabric)?;
    let needs = needs(fabric, &sources);
    let pools = Pools::of(fabric);
    let mut pool = Pool::new(pools.bits);
    for net in all_given(fabric, &addresses) {
        pools.reserve(net, &mut pool);
    }
    let by_hand: BTreeSet<IpAddr> = addresses.all().map(|net| net.addr()).collect();
    let exhausted = |exhausted: Exhausted| vec![exhausted.problem(fabric.lab)];
    let offsets = match fabric.lab.addressing().mode {
        AddressingMode::Stable | AddressingMode::Auto => {
            stable::lay_out(fabric, &needs, &mut pool).map_err(exhausted)?
        }
        AddressingMode::Compact => {
            let layout = compact::lay_out(fabric, &needs, &mut pool).map_err(exhausted)?;
            addresses.wire_owner = layout.wire_owner;
            layout.offsets
        }
    };

    let mut problems = Vec::new();
    for (need, offset) in needs.iter().zip(&offsets) {
        match need.what {
            What::Loopback(node) => {
                let all = Family::BOTH.into_iter().filter_map(|family| pools.block(family, *offset, 0));
                addresses.loopbacks[node].extend(all);
            }
            What::Wire(net) | What::Segment(net) => {
                let blocks = Family::BOTH.map(|family| {
                    let pool = sources[net][index(family)] == Source::Pool;
                    if pool { pools.block(family, *offset, need.bits) } else { None }
                });
                number(fabric, net, blocks, &by_hand, &mut addresses);
            }
        }
    }
    for (net, sources) in sources.iter().enumerate() {
        let prefixes = sources.map(|source| match source {
            Source::Prefix(prefix) => Some(prefix),
            Source::Hand | Source::Pool => None,
        });
        if prefixes != [None; 2] && !number(fabric, net, prefixes, &by_hand, &mut addresses) {
            let at = fabric.lab.links()[fabric.ports[fabric.networks[net].ports[0]].link].origin;
            let prefix = prefixes.iter().flatten().map(|net| format!("`{net}`")).collect::<Vec<_>>().join(" and ");
            problems.push(Problem::error(
                "prefix-too-small",
                at,
                format!("{prefix} has no address left for each port"),
            ));
        }
    }
    if problems.is_empty() { Ok(addresses) } else { Err(problems) }
}

/// Where a network's addresses of a family come from.
fn source(fabric: &Fabric<'_>, net: usize, family: Family) -> Source {
    let network = &fabric.networks[net];
    let lab = fabric.lab;
    let links = || network.ports.iter().map(|&port| &lab.links()[fabric.ports[port].link]);
    let given = |family| {
        let by_switch = network
            .switches
            .first()
            .is_some_and(|&switch| matches!(lab.switches()[switch].addresses(family), SwitchAddresses::Prefix(_)));
        by_switch || links().any(|link| !matches!(link.addresses(family), LinkAddresses::Auto | LinkAddresses::None))
    };
    let other = match family {
        Family::Ipv4 => Family::Ipv6,
        Family::Ipv6 => Family::Ipv4,
    };
    // Whoever routes by hand and gives one family by hand has said all that is wanted.
    let pool = || {
        let wanted = lab.routing() == Routing::Auto || !given(other);
        if wanted && lab.addressing().pool(family).is_some() { Source::Pool } else { Source::Hand }
    };
    if let Some(&switch) = network.switches.first() {
        return match lab.switches()[switch].addresses(family) {
            SwitchAddresses::None => Source::Hand,
            SwitchAddresses::Prefix(prefix) => Source::Prefix(prefix),
            SwitchAddresses::Auto => {
                let by_member = links().find_map(|link| match link.addresses(family) {
                    LinkAddresses::One(net) => Some(net.trunc()),
                    _ => None,
                });
                match (by_member, lab.routing()) {
                    (Some(net), Routing::Auto) => Source::Prefix(net),
                    (Some(_), Routing::None) => Source::Hand,
                    (None, _) => pool(),
                }
            }
        };
    }
    match links().next().map(|link| link.addresses(family)) {
        Some(LinkAddresses::Auto) => pool(),
        Some(LinkAddresses::Prefix(prefix)) => Source::Prefix(prefix),
        Some(LinkAddresses::None | LinkAddresses::Pair(_) | LinkAddresses::One(_)) | None => Source::Hand,
    }
}

/// What is given by hand.
fn given(fabric: &Fabric<'_>) -> Addresses {
    let of_port = |port: &crate::fabric::Port| {
        Family::BOTH.map(|family| match fabric.lab.links()[port.link].addresses(family) {
            LinkAddresses::Pair(pair) => Some(pair[port.end]),
            LinkAddresses::One(net) => Some(net),
            LinkAddresses::Auto | LinkAddresses::None | LinkAddresses::Prefix(_) => None,
        })
    };
    let nodes = fabric.lab.nodes();
    Addresses {
        ports: fabric.ports.iter().map(of_port).collect(),
        loopbacks: nodes.iter().map(|node| node.loopback.clone().unwrap_or_default()).collect(),
        further: nodes
            .iter()
            .map(|node| node.addresses.iter().flat_map(|(dev, nets)| nets.iter().map(|net| (*dev, *net))).collect())
            .collect(),
        floating: Vec::new(),
        wire_owner: Vec::new(),
    }
}

/// Every prefix that a person has used.
fn all_given<'a>(fabric: &'a Fabric<'_>, given: &'a Addresses) -> impl Iterator<Item = IpNet> + 'a {
    let links = fabric.lab.links().iter().flat_map(|link| {
        Family::BOTH.into_iter().filter_map(|family| match link.addresses(family) {
            LinkAddresses::Prefix(net) => Some(net),
            _ => None,
        })
    });
    let switches = fabric.lab.switches().iter().flat_map(|switch| {
        Family::BOTH.into_iter().filter_map(|family| match switch.addresses(family) {
            SwitchAddresses::Prefix(net) => Some(net),
            SwitchAddresses::Auto | SwitchAddresses::None => None,
        })
    });
    given.all().chain(links).chain(switches)
}

/// What needs a block: wires, then segments, then loopbacks, each in the order written.
fn needs(fabric: &Fabric<'_>, sources: &[PerFamily<Source>]) -> Vec<Need> {
    let of_network = |wires: bool| {
        fabric.networks.iter().enumerate().filter_map(move |(net, network)| {
            let from_pool = sources[net].contains(&Source::Pool) && !network.ports.is_empty();
            if !from_pool || network.is_wire() != wires {
                return None;
            }
            if wires {
                return Some(Need { what: What::Wire(net), bits: 1 });
            }
            // The first address is the network's, the last is for broadcasts.
            let least = (network.ports.len() + 2).next_power_of_two().trailing_zeros();
            Some(Need { what: What::Segment(net), bits: least.max(8) })
        })
    };
    let chosen = |node: &usize| {
        fabric.lab.routing() == Routing::Auto
            && fabric.lab.nodes()[*node].loopback.is_none()
            && fabric.degree(*node) >= 2
    };
    let loopbacks = (0..fabric.lab.nodes().len())
        .filter(chosen)
        .map(|node| Need { what: What::Loopback(node), bits: 0 })
        .filter(|_| Family::BOTH.iter().any(|&family| fabric.lab.addressing().pool(family).is_some()));
    of_network(true).chain(of_network(false)).chain(loopbacks).collect()
}

/// Gives each port of a network its address from the prefixes, but none that is given by hand
/// somewhere. False: there are too few.
fn number(
    fabric: &Fabric<'_>,
    net: usize,
    prefixes: PerFamily<Option<IpNet>>,
    given: &BTreeSet<IpAddr>,
    addresses: &mut Addresses,
) -> bool {
    let network = &fabric.networks[net];
    let wants = |port: usize, family: Family, addresses: &Addresses| {
        let link = &fabric.lab.links()[fabric.ports[port].link];
        addresses.ports[port][index(family)].is_none()
            && link.addresses(family) != LinkAddresses::None
            && (family == Family::Ipv4 || link.mtu.is_none_or(|mtu| mtu >= Mtu::IPV6_MIN))
    };
    // One number for both families, as far as the smaller prefix goes; no more than sixteen bits of it.
    let last = prefixes.iter().flatten().map(|prefix| last_host(*prefix)).min().unwrap_or(0);
    let first = u64::from(prefixes.iter().flatten().any(|prefix| last_host(*prefix) > 1));
    let mut taken: BTreeSet<u64> = BTreeSet::new();
    for prefix in prefixes.iter().flatten() {
        let inside = given.range(prefix.network()..=prefix.broadcast());
        taken.extend(inside.filter_map(|addr| host_number(*prefix, *addr)));
    }
    let stable = fabric.lab.addressing().mode != AddressingMode::Compact;
    let mut next = first;
    for &port in &network.ports {
        let families = Family::BOTH.map(|family| prefixes[index(family)].filter(|_| wants(port, family, addresses)));
        if families == [None; 2] {
            continue;
        }
        if last - first < taken.range(first..=last).count() as u64 {
            return false;
        }
        let mut host =
            if network.is_wire() || !stable { next } else { first + preferred_host(fabric, port) % (last - first + 1) };
        while !taken.insert(host) {
            host = if host < last { host + 1 } else { first };
        }
        next = if host < last { host + 1 } else { first };
        for prefix in families.into_iter().flatten() {
            addresses.ports[port][index(family_of(prefix))] = at_host(prefix, host);
        }
    }
    true
}

/// Where a port would like to be among the hosts of its network: by its node, and if that has
/// several ports there, by which of them it is. Not by the interface's name, which may be another
/// number when a line is added.
fn preferred_host(fabric: &Fabric<'_>, port: usize) -> u64 {
    let it = &fabric.ports[port];
    let before = fabric.ports_of[it.node].iter().take_while(|&&other| other != port);
    let which = before.filter(|&&other| fabric.ports[other].net == it.net).count();
    hash(["host", fabric.lab.nodes()[it.node].name.as_str(), &which.to_string()])
}

fn family_of(net: IpNet) -> Family {
    Family::of(net.addr())
}

/// The greatest number of a host in a prefix; the least is 0 in a pair or a single address, else 1.
fn last_host(prefix: IpNet) -> u64 {
    let bits = u32::from(prefix.max_prefix_len() - prefix.prefix_len()).min(16);
    match (bits, prefix) {
        (0, _) => 0,
        (1, _) => 1,
        // The last one is for broadcasts.
        (bits, IpNet::V4(_)) => (1 << bits) - 2,
        (bits, IpNet::V6(_)) => (1 << bits) - 1,
    }
}

/// The number of an address in a prefix.
fn host_number(prefix: IpNet, addr: IpAddr) -> Option<u64> {
    let number = match (prefix, addr) {
        (IpNet::V4(net), IpAddr::V4(addr)) if net.contains(&addr) => {
            u64::from(addr.to_bits() - net.network().to_bits())
        }
        (IpNet::V6(net), IpAddr::V6(addr)) if net.contains(&addr) => {
            u64::try_from(addr.to_bits() - net.network().to_bits()).ok()?
        }
        _ => return None,
    };
    Some(number)
}

/// The address of that number, with the length of the prefix.
fn at_host(prefix: IpNet, host: u64) -> Option<IpNet> {
    let addr = match prefix {
        IpNet::V4(net) => IpAddr::V4(Ipv4Addr::from_bits(net.network().to_bits() | u32::try_from(host).ok()?)),
        IpNet::V6(net) => IpAddr::V6(Ipv6Addr::from_bits(net.network().to_bits() | u128::from(host))),
    };
    IpNet::new(addr, prefix.prefix_len()).ok()
}

/// The pools of both families, and how many bits of offset they have in common.
struct Pools {
    of: PerFamily<Option<IpNet>>,
    bits: u32,
}

impl Pools {
    /// The offset bits of an IPv6 pool alone: as many as the usual IPv4 pool has, so that it
    /// makes no difference to a lab's IPv6 addresses whether the lab has IPv4.
    const BITS: u32 = 24;

    fn of(fabric: &Fabric<'_>) -> Self {
        let of = Family::BOTH.map(|family| fabric.lab.addressing().pool(family));
        let bits = of.iter().flatten().map(|pool| u32::from(pool.max_prefix_len() - pool.prefix_len())).min();
        let only_ipv6 = of[index(Family::Ipv4)].is_none();
        let most = if only_ipv6 { Self::BITS } else { u32::BITS };
        Pools { of, bits: bits.unwrap_or(0).min(most) }
    }

    /// The block of a family at an offset.
    fn block(&self, family: Family, offset: u64, bits: u32) -> Option<IpNet> {
        let pool = self.of[index(family)]?;
        let len = pool.max_prefix_len() - u8::try_from(bits).ok()?;
        IpNet::new(at_host(pool.trunc(), offset)?.addr(), len).ok()
    }

    /// Keeps a prefix that a person has used out of both pools.
    fn reserve(&self, net: IpNet, pool: &mut Pool) {
        let Some(family_pool) = self.of[index(family_of(net))] else { return };
        let net = net.trunc();
        if net.contains(&family_pool) {
            pool.take(0, pool.size());
        } else if family_pool.contains(&net)
            && let Some(start) = host_number(family_pool, net.addr())
        {
            let bits = u32::from(net.max_prefix_len() - net.prefix_len());
            pool.take(start, 1u64.checked_shl(bits).unwrap_or(u64::MAX));
        }
    }
}

/// The pools have too little room.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Exhausted {
    /// How many addresses are asked for.
    needed: u64,
    /// How many the pool has that nobody has taken.
    available: u64,
}

impl Exhausted {
    fn problem(&self, lab: &hopyard_model::Lab) -> Problem {
        let pools: Vec<IpNet> = Family::BOTH.into_iter().filter_map(|family| lab.addressing().pool(family)).collect();
        // The smaller one is at fault: both are laid out alike.
        let Some(pool) = pools.into_iter().min_by_key(|pool| pool.max_prefix_len() - pool.prefix_len()) else {
            return Problem::error("pool-exhausted", None, "there is no pool to choose addresses from");
        };
        let Exhausted { needed, available } = self;
        let message = format!("the pool `{pool}` has {available} addresses free; the lab needs {needed}");
        let key = if family_of(pool) == Family::Ipv4 { "ipv4: 10.0.0.0/8" } else { "ipv6: fd00:1::/48" };
        Problem::error("pool-exhausted", None, message)
            .help(format!("give it a larger one, as in `addressing: {{ {key} }}`"))
    }
}

/// A place that a hash points at, and where to look next.
fn probes(first: u64) -> impl Iterator<Item = u64> {
    std::iter::successors(Some(first), |&last| Some(rehash(last)))
}
