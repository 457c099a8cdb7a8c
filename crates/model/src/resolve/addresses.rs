//! Addresses and prefixes given by hand: read, checked, and kept apart.

use std::collections::HashMap;
use std::net::IpAddr;

use hopyard_net::{Family, IpNet};

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
fn usable(net: IpNet) -> Result<(), String> {
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

/// Every address and prefix given by hand, and for what.
#[derive(Default)]
pub(super) struct AddressBook {
    addresses: HashMap<IpAddr, (Option<Span>, String)>,
    prefixes: Vec<(IpNet, Option<Span>, String)>,
}

impl AddressBook {
    /// Enters an address of an interface, which is named as in `near:eth0`.
    pub(super) fn address(&mut self, net: IpNet, at: Option<Span>, owner: String, problems: &mut Vec<Problem>) {
        let addr = net.addr();
        let Some((first, who)) = self.addresses.get(&addr) else {
            self.addresses.insert(addr, (at, owner));
            return;
        };
        // Blame the later line, whichever was read first.
        let ((at, owner), (first, who)) =
            if *first > at { ((*first, who), (at, &owner)) } else { ((at, &owner), (*first, who)) };
        let message = format!("address `{addr}` is given to `{owner}` and to `{who}`");
        problems.push(
            Problem::error("duplicate-address", at, message)
                .also(first, format!("given to `{who}` here"))
                .help("every interface needs its own"),
        );
    }

    /// Enters a prefix that a link or segment is to be numbered from.
    pub(super) fn prefix(&mut self, net: IpNet, at: Option<Span>, owner: String) {
        self.prefixes.push((net, at, owner));
    }

    /// Two links numbered from one prefix would get the same addresses.
    pub(super) fn check_prefixes(mut self, problems: &mut Vec<Problem>) {
        // Sorted by network and then by length, a prefix stands before all that it contains; so it
        // is enough to compare each with the widest one that is still open.
        self.prefixes.sort_by_key(|(net, at, _)| (net.network(), net.prefix_len(), *at));
        let mut open: Option<&(IpNet, Option<Span>, String)> = None;
        for entry in &self.prefixes {
            let (net, at, owner) = entry;
            let mut at = *at;
            match open {
                Some((wide, first, who)) if wide.contains(net) => {
                    let mut first = *first;
                    // Blame the later line, whichever is the wider.
                    if first > at {
                        std::mem::swap(&mut first, &mut at);
                    }
                    let message = if wide == net {
                        format!("prefix `{net}` is given to {owner} and to {who}")
                    } else {
                        format!("prefix `{net}` of {owner} lies in `{wide}` of {who}")
                    };
                    problems.push(
                        Problem::error("overlapping-prefix", at, message)
                            .also(first, "overlaps with this one")
                            .help("give each a prefix of its own, or let them be chosen"),
                    );
                }
                _ => open = Some(entry),
            }
        }
    }
}
