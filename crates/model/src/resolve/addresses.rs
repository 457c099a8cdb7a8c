//! Addresses and prefixes given by hand: read, checked, and kept apart.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use hopyard_net::{Family, IpNet};

use crate::domains::Domains;
use crate::{Problem, Span, Spanned};

/// A prefix with no bit set beyond its length.
pub(super) fn prefix(given: &Spanned<String>, family: Family, problems: &mut Vec<Problem>) -> Option<IpNet> {
    let net = net(given, Some(family), problems)?;
    if net.trunc() == net {
        return Some(net);
    }
    let message = format!("`{}` is an address; a prefix has no bit set beyond its length", given.value);
    problems.push(Problem::error("bad-prefix", given.span, message).help(format!("did you mean `{}`?", net.trunc())));
    None
}

/// A prefix from which at least `needed` interfaces can be numbered.
pub(super) fn prefix_for(
    given: &Spanned<String>,
    family: Family,
    needed: usize,
    problems: &mut Vec<Problem>,
) -> Option<IpNet> {
    let net = prefix(given, family, problems)?;
    let available = hosts(net);
    if available >= needed as u128 {
        return Some(net);
    }
    let some = if available == 1 { "address" } else { "addresses" };
    let message = format!("`{net}` has {available} {some} for interfaces; {needed} are needed");
    let mut problem = Problem::error("prefix-too-small", given.span, message);
    let longest = (0..=net.max_prefix_len())
        .rev()
        .filter_map(|len| IpNet::new(net.addr(), len).ok())
        .find(|net| hosts(*net) >= needed as u128);
    if let Some(enough) = longest {
        problem = problem.help(format!("a `/{}` is large enough", enough.prefix_len()));
    }
    problems.push(problem);
    None
}

/// How many interfaces can be numbered from a prefix.
fn hosts(net: IpNet) -> u128 {
    let bits = u32::from(net.max_prefix_len() - net.prefix_len());
    let all = 1u128.checked_shl(bits).unwrap_or(u128::MAX);
    match (net, bits) {
        // RFC 3021 and RFC 6164: the two addresses of such a prefix are both for interfaces.
        (_, 0 | 1) => all,
        // The first is the network's own, the last is the broadcast address.
        (IpNet::V4(_), _) => all - 2,
        // The first is the routers' anycast address (RFC 4291, section 2.6.1).
        (IpNet::V6(_), _) => all - 1,
    }
}

/// An address with its prefix length, such as an interface can have.
pub(super) fn address(given: &Spanned<String>, family: Option<Family>, problems: &mut Vec<Problem>) -> Option<IpNet> {
    let net = net(given, family, problems)?;
    usable(net).map_err(|why| problems.push(Problem::error("bad-address", given.span, why))).ok().map(|()| net)
}

/// An address for `lo`: without a length it is a single one.
pub(super) fn loopback(given: &Spanned<String>, problems: &mut Vec<Problem>) -> Option<IpNet> {
    match given.value.parse::<IpAddr>() {
        Ok(addr) => {
            let net = IpNet::from(addr);
            usable(net).map_err(|why| problems.push(Problem::error("bad-address", given.span, why))).ok().map(|()| net)
        }
        Err(_) => address(given, None, problems),
    }
}

/// `ADDRESS/LENGTH`, of the family where one is wanted.
fn net(given: &Spanned<String>, family: Option<Family>, problems: &mut Vec<Problem>) -> Option<IpNet> {
    let text = given.value.as_str();
    let Ok(net) = text.parse::<IpNet>() else {
        problems.push(no_net(text, given.span, family));
        return None;
    };
    let found = Family::of(net.addr());
    match family {
        Some(wanted) if wanted != found => {
            let message = format!("`{text}` is {found}; {wanted} is wanted here");
            let key = if found == Family::Ipv4 { "ipv4" } else { "ipv6" };
            problems
                .push(Problem::error("bad-address", given.span, message).help(format!("move it to the key `{key}`")));
            None
        }
        _ => Some(net),
    }
}

fn no_net(text: &str, at: Option<Span>, family: Option<Family>) -> Problem {
    if let Ok(addr) = text.parse::<IpAddr>() {
        let len = if addr.is_ipv4() { 24 } else { 64 };
        return Problem::error("bad-address", at, format!("`{text}` lacks its prefix length"))
            .help(format!("write it as in `{addr}/{len}`"));
    }
    let example = if family == Some(Family::Ipv6) { "fd00:1::1/64" } else { "10.0.2.1/24" };
    Problem::error("bad-address", at, format!("`{text}` is no address with a prefix length"))
        .help(format!("write it as in `{example}`"))
}

/// Can an interface have this address?
pub(super) fn usable(net: IpNet) -> Result<(), String> {
    let addr = net.addr();
    let no = |what: String| Err(format!("`{addr}` {what}"));
    if addr.is_unspecified() {
        return no("means \"no address\"; no interface can have it".to_owned());
    }
    if addr.is_multicast() {
        return no("is a multicast address; an interface needs a unicast one".to_owned());
    }
    if addr.is_loopback() {
        return no("is a loopback address, which every node has already".to_owned());
    }
    match net {
        IpNet::V4(net) => {
            if net.addr().is_broadcast() {
                return no("is the broadcast address of every network".to_owned());
            }
            // RFC 3021: a /31 has neither; a /32 is one address.
            if net.prefix_len() < 31 && net.addr() == net.network() {
                return no(format!(
                    "is the address of the network `{}` itself, not of an interface in it",
                    net.trunc()
                ));
            }
            if net.prefix_len() < 31 && net.addr() == net.broadcast() {
                return no(format!("is the broadcast address of `{}`", net.trunc()));
            }
        }
        IpNet::V6(net) => {
            // The kernel makes these, and nothing tells its own from ours.
            if net.addr().is_unicast_link_local() {
                return no("is link-local; the kernel chooses those".to_owned());
            }
            if net.prefix_len() < 127 && net.addr() == net.network() {
                return no(format!("is the anycast address of all routers of `{net}`"));
            }
        }
    }
    Ok(())
}

/// Where an address counts.
#[derive(Clone, Debug)]
pub(super) enum Spot {
    /// On an interface of a node.
    Port { node: usize, network: usize },
    /// On a network.
    Network(usize),
    /// Wherever the node is.
    Node(usize),
    /// On the outer side of a node.
    Outside { node: usize, outside: Vec<usize> },
}

/// Who shares addresses with whom.
pub(super) struct Places {
    pub(super) domains: Domains,
    /// The networks of each node.
    pub(super) of_node: Vec<Vec<usize>>,
}

impl Places {
    /// The domains in which an address counts.
    fn domains_of(&self, spot: &Spot) -> Vec<usize> {
        let of = |networks: &[usize]| networks.iter().map(|&network| self.domains.of(network)).collect();
        match spot {
            Spot::Port { network, .. } | Spot::Network(network) => of(&[*network]),
            Spot::Node(node) => of(&self.of_node[*node]),
            Spot::Outside { outside, .. } => of(outside),
        }
    }

    /// Would one address be two at the same place? A node cannot have it twice either.
    fn meet(&self, a: &Spot, b: &Spot) -> bool {
        let there = self.domains_of(b);
        spot_node(a).is_some() && spot_node(a) == spot_node(b)
            || self.domains_of(a).iter().any(|domain| there.contains(domain))
            // Of nodes without a link nothing is known.
            || there.is_empty()
    }
}

fn spot_node(spot: &Spot) -> Option<usize> {
    match spot {
        Spot::Port { node, .. } | Spot::Node(node) | Spot::Outside { node, .. } => Some(*node),
        Spot::Network(_) => None,
    }
}

/// Something given by hand: the address or prefix, its place in the text, whose it is, where it counts.
type Entry<T> = (T, Option<Span>, String, Spot);

/// Every address and prefix given by hand, and for what.
#[derive(Default)]
pub(super) struct AddressBook {
    addresses: Vec<Entry<IpAddr>>,
    prefixes: Vec<(IpNet, Option<Span>, String, usize)>,
}

impl AddressBook {
    /// Enters an address of an interface, which is named as in `near:eth0`.
    pub(super) fn address(&mut self, net: IpNet, at: Option<Span>, owner: String, spot: Spot) {
        self.addresses.push((net.addr(), at, owner, spot));
    }

    /// Enters a prefix that a link or segment is to be numbered from.
    pub(super) fn prefix(&mut self, net: IpNet, at: Option<Span>, owner: String, network: usize) {
        self.prefixes.push((net, at, owner, network));
    }

    /// Reports what is given twice where it must be one thing.
    pub(super) fn check(self, places: &Places, problems: &mut Vec<Problem>) {
        let mut by_address: HashMap<IpAddr, Vec<&Entry<IpAddr>>> = HashMap::new();
        for entry in &self.addresses {
            let others = by_address.entry(entry.0).or_default();
            match others.iter().find(|other| places.meet(&other.3, &entry.3)) {
                Some(first) => problems.push(twice(first, entry)),
                None => others.push(entry),
            }
        }
        self.check_prefixes(places, problems);
    }

    /// Two links numbered from one prefix would get the same addresses.
    fn check_prefixes(self, places: &Places, problems: &mut Vec<Problem>) {
        // A node that joins two domains is in both.
        let mut of_domain: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        let mut of_network: HashMap<usize, Vec<usize>> = HashMap::new();
        for (at, (.., network)) in self.prefixes.iter().enumerate() {
            of_domain.entry(places.domains.of(*network)).or_default().push(at);
            of_network.entry(*network).or_default().push(at);
        }
        let of_node = places.of_node.iter().map(|networks| {
            let networks: BTreeSet<usize> = networks.iter().copied().collect();
            networks.iter().filter_map(|network| of_network.get(network)).flatten().copied().collect()
        });
        let mut said = HashSet::new();
        for mut group in of_domain.into_values().chain(of_node) {
            // Sorted by network and then by length, a prefix stands before all that it contains; so it
            // is enough to compare each with the widest one that is still open.
            group.sort_by_key(|&at| {
                (self.prefixes[at].0.network(), self.prefixes[at].0.prefix_len(), self.prefixes[at].1)
            });
            let mut open: Option<usize> = None;
            for at in group {
                match open {
                    Some(wide) if self.prefixes[wide].0.contains(&self.prefixes[at].0) => {
                        if said.insert((wide, at)) {
                            problems.push(self.overlap(wide, at));
                        }
                    }
                    _ => open = Some(at),
                }
            }
        }
    }

    fn overlap(&self, wide: usize, inner: usize) -> Problem {
        let (wide, first, who, _) = &self.prefixes[wide];
        let (net, at, owner, _) = &self.prefixes[inner];
        // Blame the later line, whichever is the wider.
        let (first, at) = if first > at { (*at, *first) } else { (*first, *at) };
        let message = if wide == net {
            format!("prefix `{net}` is given to {owner} and to {who}")
        } else {
            format!("prefix `{net}` of {owner} lies in `{wide}` of {who}")
        };
        Problem::error("overlapping-prefix", at, message)
            .also(first, "overlaps with this one")
            .help("give each a prefix of its own, or let them be chosen; behind `nat` they may be the same")
    }
}

fn twice(first: &Entry<IpAddr>, second: &Entry<IpAddr>) -> Problem {
    // Blame the later line, whichever was read first.
    let (first, second) = if first.1 > second.1 { (second, first) } else { (first, second) };
    let (addr, at, owner, _) = second;
    let (_, before, who, _) = first;
    let message = format!("address `{addr}` is given to `{owner}` and to `{who}`");
    Problem::error("duplicate-address", *at, message)
        .also(*before, format!("given to `{who}` here"))
        .help("every interface needs its own")
}
