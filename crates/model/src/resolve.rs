//! From a topology as written to a valid lab, or all that is wrong with it.
//!
//! | code | what it says |
//! |---|---|
//! | `bad-lab-name`, `bad-name`, `bad-interface` | a name that the lab, a namespace or an interface cannot have |
//! | `no-lab-name` | nothing names the lab |
//! | `duplicate-node`, `duplicate-interface` | two things of one name |
//! | `similar-names` (warning) | two nodes whose names are one name in `/etc/hosts` |
//! | `unknown-node`, `unknown-interface` | a name that nothing has |
//! | `bad-word` | a word where one of a few others is allowed |
//! | `self-loop` | a link from a node or switch to itself |
//! | `switch-loop` | switches linked in a ring, in which frames would circle for ever |
//! | `too-many-ports` | more on a switch than a Linux bridge has ports |
//! | `bad-prefix`, `bad-address` | no prefix or address, of the wrong family, or one that no interface can have |
//! | `prefix-too-small` | a prefix with fewer addresses than there are interfaces to number |
//! | `prefix-or-pair` | one address where a prefix or an address for each end is needed |
//! | `misplaced-addresses` | addresses where none can be: on a link between two switches, a prefix on a switch's port |
//! | `duplicate-address`, `duplicate-mac` | an address given to two interfaces |
//! | `overlapping-prefix` | two links or segments to number from the same addresses |
//! | `different-subnets` (warning) | two addresses of one link that do not reach each other without a route |
//! | `segment-conflict` | two linked switches, hence one segment, that are told different things |
//! | `bad-mac`, `bad-mtu`, `bad-cost` | a value out of range |
//! | `mtu-mismatch` (warning) | a port whose MTU is not its segment's |
//! | `mtu-no-ipv6` | IPv6 where the MTU is below the 1280 bytes that it needs; a warning where nobody asked for IPv6 |
//! | `role-conflict`, `forward-conflict` | a host that shall forward, a router that shall not |
//! | `bad-sysctl` | no sysctl of a namespace, or a value that is no line of text |
//! | `bad-route`, `duplicate-route` | a route that ip-route(8) would not take, or not twice |
//! | `bad-nat`, `duplicate-nat` | a translation of addresses that nftables could not do, or not twice |
//! | `nat-without-forward` (warning) | translation of addresses on a node that is told never to forward |
//! | `bad-expectation`, `contrary-expectations` | a line of `expect` that says nothing, or the contrary of another |
//! | `uplink-without-forward` (warning) | a way out, linked to others, on a node that is told never to forward |
//! | `not-a-neighbour` | a route via a node to which there is no link |

mod addresses;
mod cables;
mod expect;
mod lent;
mod links;
mod nat;
mod nodes;
mod routes;
mod segments;
mod vertices;

use hopyard_net::{Family, IpNet, Ipv4Net, Ipv6Net};

use self::addresses::{AddressBook, Places};
use self::cables::Cables;
use self::segments::Segments;
use self::vertices::Vertices;
use crate::domains::{Domains, Joint};
use crate::nearest::did_you_mean;
use crate::problem::sort_by_place;
use crate::{
    Addressing, AddressingMode, Lab, LabDoc, LabName, Multipath, NeighbourMode, Node, Problem, Routing, Span, Spanned,
};

/// Up to here a lab that a person wrote keeps its addresses when a line is added.
const STABLE_LINKS: usize = 256;

/// The pool for IPv4 where the file gives none: all of RFC 1918's largest block.
const POOL_V4: Ipv4Net = Ipv4Net::new_assert(std::net::Ipv4Addr::new(10, 0, 0, 0), 8);

/// The pool for IPv6 where the file gives none: a unique local prefix (RFC 4193), "hopya" in ASCII.
const POOL_V6: Ipv6Net = Ipv6Net::new_assert(std::net::Ipv6Addr::new(0xfd68, 0x6f70, 0x7961, 0, 0, 0, 0, 0), 48);

impl LabDoc {
    /// Checks everything that can be known without choosing an address, and names every interface.
    ///
    /// The second value are warnings: what was not meant as it seems.
    ///
    /// # Errors
    /// All problems, errors and warnings, in the order of their places.
    pub fn resolve(&self) -> Result<(Lab, Vec<Problem>), Vec<Problem>> {
        let mut problems = Vec::new();
        let lab = self.build(&mut problems);
        sort_by_place(&mut problems);
        match lab {
            Some(lab) if !problems.iter().any(Problem::is_error) => Ok((lab, problems)),
            _ => Err(problems),
        }
    }

    /// `None` only where a problem says why.
    fn build(&self, problems: &mut Vec<Problem>) -> Option<Lab> {
        let name = lab_name(self.name.as_ref(), problems);
        let routing = routing(self, problems);
        let multipath = multipath(self, problems);
        let neighbours = neighbours(self, problems);

        let vertices = Vertices::of(self, problems);
        let cables = Cables::of(self, &vertices, problems);
        let segments = Segments::of(&vertices, &cables, problems);
        let addressing = addressing(self, cables.list.len(), problems);

        let mut book = AddressBook::default();
        let switches = segments.switches(&vertices, &cables, &addressing, &mut book, problems);
        let links = links::all(&cables, &vertices, &segments, switches.as_deref(), &addressing, &mut book, problems);
        let nodes = nodes::all(&vertices, &cables, &segments, &mut book, problems);
        let domains = domains(&cables, &segments, routing, nodes.as_deref());
        book.check(&domains, problems);
        let expect = expect::all(self, &vertices, problems);

        Some(Lab {
            name: name?,
            nodes: nodes?,
            switches: switches?,
            links: links?,
            routing,
            multipath,
            neighbours,
            addressing,
            expect,
        })
    }
}

/// Who shares addresses with whom. Where a node is not known, all share them.
fn domains(cables: &Cables<'_>, segments: &Segments, routing: Routing, nodes: Option<&[Node]>) -> Places {
    let count = cables.list.len() + segments.len();
    let of_node: Vec<Vec<usize>> = cables
        .at_node
        .iter()
        .map(|ends| ends.iter().map(|(cable, _)| segments.network(cables, *cable)).collect())
        .collect();
    let joints: Vec<Joint> = cables
        .at_node
        .iter()
        .enumerate()
        .map(|(at, ends)| {
            let node = nodes.and_then(|nodes| nodes.get(at));
            let outside = node.map(|node| node.nat.outside()).unwrap_or_default();
            let network = |(cable, end): &(usize, usize)| {
                let name = cables.list[*cable].ends[*end].iface.name;
                (segments.network(cables, *cable), outside.contains(&name))
            };
            let forwards = routing == Routing::Auto || node.is_none_or(Node::forwards);
            Joint { networks: ends.iter().map(network).collect(), forwards }
        })
        .collect();
    Places { domains: Domains::new(count, &joints), of_node }
}

fn lab_name(name: Option<&Spanned<String>>, problems: &mut Vec<Problem>) -> Option<LabName> {
    let Some(name) = name else {
        problems
            .push(Problem::error("no-lab-name", None, "the lab has no name").help("give it one, as in `name: three`"));
        return None;
    };
    let read = name.value.parse::<LabName>();
    read.map_err(|error| problems.push(Problem::error("bad-lab-name", name.span, error.to_string()))).ok()
}

fn routing(doc: &LabDoc, problems: &mut Vec<Problem>) -> Routing {
    word("routing", doc.routing.as_ref(), &[("auto", Routing::Auto), ("none", Routing::None)], problems)
        .unwrap_or_default()
}

fn multipath(doc: &LabDoc, problems: &mut Vec<Problem>) -> Multipath {
    let words = [("auto", Multipath::Auto), ("full", Multipath::Full), ("compact", Multipath::Compact)];
    word("multipath", doc.multipath.as_ref(), &words, problems).unwrap_or_default()
}

fn neighbours(doc: &LabDoc, problems: &mut Vec<Problem>) -> NeighbourMode {
    let words = [("auto", NeighbourMode::Auto), ("static", NeighbourMode::Static), ("dynamic", NeighbourMode::Dynamic)];
    word("neighbours", doc.neighbours.as_ref(), &words, problems).unwrap_or_default()
}

fn addressing(doc: &LabDoc, links: usize, problems: &mut Vec<Problem>) -> Addressing {
    let words =
        [("auto", AddressingMode::Auto), ("stable", AddressingMode::Stable), ("compact", AddressingMode::Compact)];
    let mode = match word("mode", doc.addressing.mode.as_ref(), &words, problems).unwrap_or_default() {
        AddressingMode::Auto if doc.hand_written && links <= STABLE_LINKS => AddressingMode::Stable,
        AddressingMode::Auto => AddressingMode::Compact,
        mode => mode,
    };
    let mut pool = |family| {
        let given = doc.addressing.family(family)?;
        if given.value == "none" { Some(None) } else { addresses::prefix(given, family, problems).map(Some) }
    };
    let ipv4 = match pool(Family::Ipv4) {
        None => Some(POOL_V4),
        Some(Some(IpNet::V4(net))) => Some(net),
        Some(_) => None,
    };
    let ipv6 = match pool(Family::Ipv6) {
        None => Some(POOL_V6),
        Some(Some(IpNet::V6(net))) => Some(net),
        Some(_) => None,
    };
    Addressing { ipv4, ipv6, mode }
}

/// One of a few words, for the key of that name.
fn word<T: Copy>(
    key: &str,
    given: Option<&Spanned<String>>,
    words: &[(&str, T)],
    problems: &mut Vec<Problem>,
) -> Option<T> {
    let given = given?;
    let found = words.iter().find(|(word, _)| *word == given.value).map(|(_, value)| *value);
    if found.is_none() {
        let allowed: Vec<String> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
        let message = format!("`{key}` is `{}`; allowed are {}", given.value, list(&allowed));
        let mut problem = Problem::error("bad-word", given.span, message);
        problem.help = did_you_mean(&given.value, words.iter().map(|(word, _)| *word));
        problems.push(problem);
    }
    found
}

/// `a`, `a and b`, `a, b and c`.
fn list(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

/// The smallest range around two places.
fn hull(a: Option<Span>, b: Option<Span>) -> Option<Span> {
    match (a, b) {
        (Some(a), Some(b)) => Some(Span { start: a.start.min(b.start), end: a.end.max(b.end) }),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests;
