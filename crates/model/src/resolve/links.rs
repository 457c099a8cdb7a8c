//! What is set on a link: addresses, hardware addresses, MTU, cost.

use std::collections::HashMap;

use hopyard_net::{Family, IpNet, MacAddr, Mtu};

use super::addresses::{self, AddressBook, Spot};
use super::cables::{Cable, CableEnd, Cables};
use super::segments::{Segments, given_prefix};
use super::vertices::Vertices;
use crate::{Addressing, End, FamilyDoc, Link, LinkAddresses, LinkDoc, Problem, Span, Spanned, Switch, Vertex};

/// The links; `None` where a problem says why.
pub(super) fn all(
    cables: &Cables<'_>,
    vertices: &Vertices<'_>,
    segments: &Segments,
    switches: Option<&[Switch]>,
    addressing: &Addressing,
    book: &mut AddressBook,
    problems: &mut Vec<Problem>,
) -> Option<Vec<Link>> {
    for doc in &cables.dangling {
        mtu(doc.mtu.as_ref(), problems);
        cost(doc.cost.as_ref(), problems);
        for given in &doc.mac {
            mac(given, problems);
        }
    }
    let mut reader = Reader { vertices, cables, segments, switches, addressing, book, macs: HashMap::new() };
    let links = cables.list.iter().enumerate().map(|(at, cable)| reader.link(at, cable, problems)).collect();
    if cables.dangling.is_empty() { Some(links) } else { None }
}

/// What the links are read against.
struct Reader<'r, 'a> {
    vertices: &'r Vertices<'a>,
    cables: &'r Cables<'a>,
    segments: &'r Segments,
    switches: Option<&'r [Switch]>,
    addressing: &'r Addressing,
    book: &'r mut AddressBook,
    /// Who has a hardware address, by the piece of Ethernet that it must be unique on.
    macs: HashMap<(Ethernet, MacAddr), (Option<Span>, String)>,
}

/// A piece of Ethernet: a link between two nodes, or a segment.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Ethernet {
    Link(usize),
    Segment(usize),
}

impl Reader<'_, '_> {
    fn link(&mut self, at: usize, cable: &Cable<'_>, problems: &mut Vec<Problem>) -> Link {
        let segment = cable.ends.iter().find_map(|end| match end.vertex {
            Vertex::Switch(id) => Some(id),
            Vertex::Node(_) => None,
        });
        let switch = segment.and_then(|id| self.switches?.get(id.index()));
        let segment_mtu = switch.and_then(|switch| switch.mtu);

        let [a, b] = &cable.ends;
        let end = |end: &CableEnd| End { vertex: end.vertex, iface: end.iface.clone(), mac: None };
        let mut link = Link {
            ends: [end(a), end(b)],
            ipv4: LinkAddresses::Auto,
            ipv6: LinkAddresses::Auto,
            mtu: segment_mtu,
            cost: 1,
            delay_us: None,
            origin: cable.at,
        };
        if let [Vertex::Switch(_), Vertex::Switch(_)] = [a.vertex, b.vertex] {
            link.ipv4 = LinkAddresses::None;
            link.ipv6 = LinkAddresses::None;
        }
        let Some(doc) = cable.doc else {
            if link.mtu.is_some_and(|mtu| mtu < Mtu::IPV6_MIN) {
                link.ipv6 = LinkAddresses::None;
            }
            return link;
        };

        link.cost = cost(doc.cost.as_ref(), problems);
        link.delay_us = doc.delay_us;
        let own_mtu = mtu(doc.mtu.as_ref(), problems);
        if let (Some(own), Some(theirs)) = (own_mtu, segment_mtu)
            && own != theirs
        {
            let message =
                format!("an MTU of {own} bytes, while the switch has {theirs}: larger packets vanish silently");
            problems.push(
                Problem::warning("mtu-mismatch", doc.mtu.as_ref().and_then(|mtu| mtu.span), message)
                    .help("all interfaces of a segment need the same MTU"),
            );
        }
        link.mtu = own_mtu.or(segment_mtu);
        self.macs(Ethernet::of(at, segment.map(|id| self.segments.segment(id))), cable, doc, &mut link, problems);
        for family in Family::BOTH {
            let given = match family {
                Family::Ipv4 => &doc.ipv4,
                Family::Ipv6 => &doc.ipv6,
            };
            let Some(given) = given else { continue };
            let addresses = match [a.vertex, b.vertex] {
                [Vertex::Node(_), Vertex::Node(_)] => self.between_nodes(family, given, at, problems),
                [Vertex::Node(_), Vertex::Switch(_)] => self.at_switch(family, given, at, switch, problems),
                [Vertex::Switch(_), _] => between_switches(given, problems),
            };
            match family {
                Family::Ipv4 => link.ipv4 = addresses,
                Family::Ipv6 => link.ipv6 = addresses,
            }
        }
        if let Some(mtu) = link.mtu.filter(|mtu| *mtu < Mtu::IPV6_MIN)
            && link.ipv6 != LinkAddresses::None
        {
            let wanted = doc.ipv6.as_ref().map_or(Ipv6::ByPool, |given| Ipv6::Asked(given.span()));
            // Where the MTU is the switch's, that was said there already.
            if own_mtu.is_some() || matches!(wanted, Ipv6::Asked(_)) {
                let what = format!("the link `{} -- {}`", self.vertices.text(a.vertex), self.vertices.text(b.vertex));
                let at = doc.mtu.as_ref().map_or(cable.at, |mtu| mtu.span);
                problems.extend(too_small_for_ipv6(mtu, at, wanted, self.addressing, &what));
            }
            link.ipv6 = LinkAddresses::None;
        }
        link
    }

    /// A prefix to choose from, or the address of each end.
    fn between_nodes(
        &mut self,
        family: Family,
        given: &FamilyDoc,
        at: usize,
        problems: &mut Vec<Problem>,
    ) -> LinkAddresses {
        let cable = &self.cables.list[at];
        let prefix = match given {
            FamilyDoc::Prefix(given) if given.value == "none" => return LinkAddresses::None,
            FamilyDoc::Prefix(given) => given,
            FamilyDoc::Each(list) => return self.pair(family, list, given.span().or(cable.at), at, problems),
        };
        if let Ok(net) = prefix.value.parse::<IpNet>()
            && net.trunc() != net
            && Family::of(net.addr()) == family
        {
            let message = format!("`{net}` is one address, but the link has two ends");
            problems.push(Problem::error("prefix-or-pair", prefix.span, message).help(format!(
                "give the prefix to choose from, `{}`, or an address for each end, as in `[{net}, {}]`",
                net.trunc(),
                other_address(net)
            )));
            return LinkAddresses::Auto;
        }
        match addresses::prefix_for(prefix, family, 2, problems) {
            Some(net) => {
                let [a, b] = cable.ends.each_ref().map(|end| self.vertices.text(end.vertex));
                self.book.prefix(net, prefix.span, format!("the link `{a} -- {b}`"), at);
                LinkAddresses::Prefix(net)
            }
            None => LinkAddresses::Auto,
        }
    }

    fn pair(
        &mut self,
        family: Family,
        list: &[Spanned<String>],
        at: Option<Span>,
        link: usize,
        problems: &mut Vec<Problem>,
    ) -> LinkAddresses {
        let cable = &self.cables.list[link];
        let [first, second] = list else {
            let some = if list.len() == 1 { "address is" } else { "addresses are" };
            let message = format!("{} {some} given for a link with two ends", list.len());
            problems.push(
                Problem::error("prefix-or-pair", at, message)
                    .help("give one prefix to choose from, or an address for each end"),
            );
            return LinkAddresses::Auto;
        };
        let mut read = |given: &Spanned<String>, end: &CableEnd| {
            let net = addresses::address(given, Some(family), problems)?;
            self.book.address(net, given.span, self.owner(end), spot(end, link));
            Some(net)
        };
        // Both are read before either is missed: all problems at once.
        let (Some(a), Some(b)) = (read(first, &cable.ends[0]), read(second, &cable.ends[1])) else {
            return LinkAddresses::Auto;
        };
        if !a.contains(&b.addr()) || !b.contains(&a.addr()) {
            problems.push(
                Problem::warning("different-subnets", at, format!("`{a}` and `{b}` do not reach each other directly"))
                    .help("where that is not meant, give both the same prefix"),
            );
        }
        LinkAddresses::Pair([a, b])
    }

    /// On a switch's port the prefix is the segment's; a node can be given its address in it.
    fn at_switch(
        &mut self,
        family: Family,
        given: &FamilyDoc,
        at: usize,
        switch: Option<&Switch>,
        problems: &mut Vec<Problem>,
    ) -> LinkAddresses {
        let cable = &self.cables.list[at];
        let switch_name = self.vertices.text(cable.ends[1].vertex);
        let one = match given {
            FamilyDoc::Prefix(given) if given.value == "none" => return LinkAddresses::None,
            FamilyDoc::Prefix(one) => one,
            FamilyDoc::Each(list) => match list.as_slice() {
                [one] => one,
                list => {
                    let message = format!(
                        "{} addresses are given for a link to the switch `{switch_name}`, where only the node has one",
                        list.len()
                    );
                    problems.push(Problem::error("prefix-or-pair", given.span().or(cable.at), message));
                    return LinkAddresses::Auto;
                }
            },
        };
        if let Ok(net) = one.value.parse::<IpNet>()
            && net.trunc() == net
            && net.prefix_len() < net.max_prefix_len() - 1
        {
            let message = format!("`{net}` is a prefix, which belongs to the switch `{switch_name}`");
            problems.push(
                Problem::error("misplaced-addresses", one.span, message)
                    .help("give it to the switch, or give the node's address here"),
            );
            return LinkAddresses::Auto;
        }
        let Some(net) = addresses::address(one, Some(family), problems) else { return LinkAddresses::Auto };
        let network = self.segments.network(self.cables, at);
        self.book.address(net, one.span, self.owner(&cable.ends[0]), spot(&cable.ends[0], network));
        if let Some(segment) = switch.and_then(|switch| given_prefix(switch, family))
            && (!segment.contains(&net.addr()) || net.prefix_len() != segment.prefix_len())
        {
            let message = format!("`{net}` does not fit the prefix `{segment}` of the switch `{switch_name}`");
            problems.push(Problem::warning("different-subnets", one.span, message));
        }
        LinkAddresses::One(net)
    }

    /// Hardware addresses, in the order of the ends as written.
    fn macs(
        &mut self,
        ethernet: Ethernet,
        cable: &Cable<'_>,
        doc: &LinkDoc,
        link: &mut Link,
        problems: &mut Vec<Problem>,
    ) {
        let to_switch = matches!([&cable.ends[0].vertex, &cable.ends[1].vertex], [Vertex::Node(_), Vertex::Switch(_)]);
        let ends: &[usize] = match (doc.mac.len(), cable.swapped) {
            (0, _) => return,
            (1, _) if to_switch => &[0],
            (2, false) => &[0, 1],
            (2, true) => &[1, 0],
            (given, _) => {
                let some = if given == 1 { "address" } else { "addresses" };
                let message = format!("{given} Ethernet {some} for a link with two ends");
                problems.push(Problem::error("bad-mac", doc.mac[0].span.or(cable.at), message));
                return;
            }
        };
        for (given, &end) in doc.mac.iter().zip(ends) {
            let Some(mac) = mac(given, problems) else { continue };
            link.ends[end].mac = Some(mac);
            let owner = self.owner(&cable.ends[end]);
            if let Some((first, who)) = self.macs.get(&(ethernet, mac)) {
                let message =
                    format!("Ethernet address `{mac}` is given to `{owner}` and to `{who}`, which hear each other");
                problems.push(
                    Problem::error("duplicate-mac", given.span, message).also(*first, format!("given to `{who}` here")),
                );
            } else {
                self.macs.insert((ethernet, mac), (given.span, owner));
            }
        }
    }

    /// `near:eth0`.
    fn owner(&self, end: &CableEnd) -> String {
        let iface = end.iface.long.as_ref().map_or(end.iface.name.as_str(), |long| long.as_str());
        format!("{}:{iface}", self.vertices.text(end.vertex))
    }
}

/// Where the address of an end counts.
fn spot(end: &CableEnd, network: usize) -> Spot {
    match end.vertex {
        Vertex::Node(id) => Spot::Port { node: id.index(), network },
        Vertex::Switch(_) => Spot::Network(network),
    }
}

impl Ethernet {
    fn of(link: usize, segment: Option<usize>) -> Self {
        segment.map_or(Ethernet::Link(link), Ethernet::Segment)
    }
}

impl FamilyDoc {
    /// Its place.
    fn span(&self) -> Option<Span> {
        match self {
            FamilyDoc::Prefix(given) => given.span,
            FamilyDoc::Each(list) => super::hull(list.first().and_then(|a| a.span), list.last().and_then(|b| b.span)),
        }
    }
}

/// A link between two switches carries the frames of others.
fn between_switches(given: &FamilyDoc, problems: &mut Vec<Problem>) -> LinkAddresses {
    if !matches!(given, FamilyDoc::Prefix(none) if none.value == "none") {
        let message = "a link between two switches has no addresses";
        problems
            .push(Problem::error("misplaced-addresses", given.span(), message).help("give the prefix to one switch"));
    }
    LinkAddresses::None
}

/// Another address of the same prefix, for an example.
fn other_address(net: IpNet) -> IpNet {
    let next = net.trunc().hosts().find(|addr| *addr != net.addr()).unwrap_or(net.addr());
    IpNet::new(next, net.prefix_len()).unwrap_or(net)
}

fn mac(given: &Spanned<String>, problems: &mut Vec<Problem>) -> Option<MacAddr> {
    given
        .value
        .parse()
        .map_err(|error: hopyard_net::MacAddrError| {
            problems.push(Problem::error("bad-mac", given.span, error.to_string()));
        })
        .ok()
}

pub(super) fn mtu(given: Option<&Spanned<u64>>, problems: &mut Vec<Problem>) -> Option<Mtu> {
    let given = given?;
    let bytes = u32::try_from(given.value).unwrap_or(u32::MAX);
    let mtu = Mtu::try_from(bytes).ok();
    if mtu.is_none() {
        let message =
            format!("an MTU of {} bytes is out of range; the kernel allows 68 to 65535 on such a link", given.value);
        problems.push(Problem::error("bad-mtu", given.span, message));
    }
    mtu
}

pub(super) fn cost(given: Option<&Spanned<u64>>, problems: &mut Vec<Problem>) -> u32 {
    let Some(given) = given else { return 1 };
    if let Ok(cost @ 1..) = u16::try_from(given.value) {
        return u32::from(cost);
    }
    let message = format!("a cost of {} is out of range; allowed are 1 to 65535", given.value);
    problems.push(Problem::error("bad-cost", given.span, message));
    1
}

/// Why a link would have IPv6.
#[derive(Clone, Copy)]
pub(super) enum Ipv6 {
    /// The file asks for it here.
    Asked(Option<Span>),
    /// It would get it from the lab's pool, where there is one.
    ByPool,
}

/// IPv6 needs an MTU of 1280 bytes: an error where it was asked for, a warning where it was not.
pub(super) fn too_small_for_ipv6(
    mtu: Mtu,
    at: Option<Span>,
    wanted: Ipv6,
    addressing: &Addressing,
    what: &str,
) -> Option<Problem> {
    let least = Mtu::IPV6_MIN;
    match wanted {
        Ipv6::Asked(given) => {
            let message = format!("{what} is given IPv6, which needs an MTU of at least {least} bytes, and {mtu}");
            Some(
                Problem::error("mtu-no-ipv6", at, message)
                    .also(given, "IPv6 is given here")
                    .help(format!("raise the MTU to {least}, or write `ipv6: none`")),
            )
        }
        Ipv6::ByPool if addressing.ipv6.is_some() => {
            let message = format!("{what} gets no IPv6: its MTU of {mtu} bytes is below the {least} that IPv6 needs");
            Some(Problem::warning("mtu-no-ipv6", at, message).help("write `ipv6: none` there if that is meant"))
        }
        Ipv6::ByPool => None,
    }
}
