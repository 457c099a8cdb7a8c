//! Switches, and the segments that linked switches form together.

use hopyard_net::{Family, IfName, IpNet, Mtu};

use super::addresses::{self, AddressBook};
use super::cables::{BRIDGE, Cables};
use super::links::{Ipv6, cost, mtu, too_small_for_ipv6};
use super::vertices::Vertices;
use crate::{Addressing, Problem, Span, Switch, SwitchAddresses, SwitchId, Vertex};

/// Which switches are one segment, because links join them.
pub(super) struct Segments {
    /// For each switch the first of its segment.
    root: Vec<usize>,
}

/// A value that some switch of a segment was given.
type Given<T> = Option<(T, Option<Span>, usize)>;

impl Segments {
    pub(super) fn of(vertices: &Vertices<'_>, cables: &Cables<'_>, problems: &mut Vec<Problem>) -> Self {
        let mut this = Segments { root: (0..vertices.switches.len()).collect() };
        let mut ports = vec![0usize; vertices.switches.len()];
        for cable in &cables.list {
            for end in &cable.ends {
                if let Vertex::Switch(id) = end.vertex {
                    ports[id.index()] += 1;
                }
            }
            let [Vertex::Switch(a), Vertex::Switch(b)] = [cable.ends[0].vertex, cable.ends[1].vertex] else { continue };
            let (x, y) = (this.find(a.index()), this.find(b.index()));
            if x == y {
                let message = format!(
                    "this link closes a ring of switches (`{}` and `{}` are connected already)",
                    vertices.text(Vertex::Switch(a)),
                    vertices.text(Vertex::Switch(b))
                );
                problems.push(
                    Problem::error("switch-loop", cable.at, message)
                        .help("a switch runs no spanning tree, so frames would circle for ever; remove one link"),
                );
            } else {
                this.root[x.max(y)] = x.min(y);
            }
        }
        for at in 0..this.root.len() {
            this.root[at] = this.find(at);
        }
        for (switch, ports) in vertices.switches.iter().zip(ports) {
            if ports > Switch::MAX_PORTS {
                let message = format!(
                    "switch `{}` has {ports} ports; a Linux bridge has at most {}",
                    switch.text,
                    Switch::MAX_PORTS
                );
                problems.push(
                    Problem::error("too-many-ports", switch.at, message)
                        .help("split it into several switches that are linked to each other"),
                );
            }
        }
        this
    }

    /// The segment of a switch, as a number.
    pub(super) fn segment(&self, switch: SwitchId) -> usize {
        self.root[switch.index()]
    }

    /// As many as there are switches, at most.
    pub(super) fn len(&self) -> usize {
        self.root.len()
    }

    /// The network of a cable, as a number: that of the segment at its end, or one of its own.
    pub(super) fn network(&self, cables: &Cables<'_>, cable: usize) -> usize {
        let switch = cables.list[cable].ends.iter().find_map(|end| match end.vertex {
            Vertex::Switch(id) => Some(id),
            Vertex::Node(_) => None,
        });
        switch.map_or(cable, |id| network_of_segment(cables, self.segment(id)))
    }

    fn find(&mut self, mut at: usize) -> usize {
        while self.root[at] != at {
            self.root[at] = self.root[self.root[at]];
            at = self.root[at];
        }
        at
    }

    /// The switches. What one switch of a segment is told holds for all of them, so each says the
    /// same; `None` where a name is wrong.
    pub(super) fn switches(
        &self,
        vertices: &Vertices<'_>,
        cables: &Cables<'_>,
        addressing: &Addressing,
        book: &mut AddressBook,
        problems: &mut Vec<Problem>,
    ) -> Option<Vec<Switch>> {
        let count = vertices.switches.len();
        let mut members = vec![0usize; count];
        for cable in &cables.list {
            if let [Vertex::Node(_), Vertex::Switch(id)] = [cable.ends[0].vertex, cable.ends[1].vertex] {
                members[self.segment(id)] += 1;
            }
        }
        let mut mtus: Vec<Given<Mtu>> = vec![None; count];
        let mut nets: [Vec<Given<SwitchAddresses>>; 2] = [vec![None; count], vec![None; count]];
        let mut costs = vec![1; count];
        for (at, switch) in vertices.switches.iter().enumerate() {
            let Some(doc) = switch.doc else { continue };
            let segment = self.root[at];
            costs[at] = cost(doc.cost.as_ref(), problems);
            if let (Some(value), Some(given)) = (mtu(doc.mtu.as_ref(), problems), &doc.mtu) {
                agree(&mut mtus[segment], (value, given.span, at), "MTU", vertices, problems);
            }
            for (family, nets) in Family::BOTH.into_iter().zip(&mut nets) {
                let given = match family {
                    Family::Ipv4 => &doc.ipv4,
                    Family::Ipv6 => &doc.ipv6,
                };
                let Some(given) = given else { continue };
                let value = if given.value == "none" {
                    SwitchAddresses::None
                } else {
                    let needed = members[segment];
                    let Some(net) = addresses::prefix_for(given, family, needed, problems) else { continue };
                    SwitchAddresses::Prefix(net)
                };
                let what = if family == Family::Ipv4 { "IPv4 prefix" } else { "IPv6 prefix" };
                if agree(&mut nets[segment], (value, given.span, at), what, vertices, problems)
                    && let SwitchAddresses::Prefix(net) = value
                {
                    let network = network_of_segment(cables, segment);
                    book.prefix(net, given.span, format!("switch `{}`", switch.text), network);
                }
            }
        }
        for segment in 0..count {
            if self.root[segment] == segment {
                ipv6_fits(mtus[segment], &mut nets[1][segment], addressing, vertices, problems);
            }
        }

        let bridge: IfName = BRIDGE.parse().unwrap_or(IfName::LO);
        let build = |(at, switch): (usize, &super::vertices::Declared<'_, _>)| {
            let segment = self.root[at];
            let addresses = |family: usize| nets[family][segment].map(|(value, ..)| value).unwrap_or_default();
            Some(Switch {
                name: switch.name.clone()?,
                bridge,
                ipv4: addresses(0),
                ipv6: addresses(1),
                mtu: mtus[segment].map(|(mtu, ..)| mtu),
                cost: costs[at],
                origin: switch.at,
            })
        };
        vertices.switches.iter().enumerate().map(build).collect()
    }
}

/// The network of a segment, as a number that no cable has.
fn network_of_segment(cables: &Cables<'_>, segment: usize) -> usize {
    cables.list.len() + segment
}

/// Takes what a switch says for its whole segment, unless another one said otherwise. Is it new?
fn agree<T: Copy + PartialEq>(
    segment: &mut Given<T>,
    (value, at, switch): (T, Option<Span>, usize),
    what: &str,
    vertices: &Vertices<'_>,
    problems: &mut Vec<Problem>,
) -> bool {
    match segment {
        None => {
            *segment = Some((value, at, switch));
            true
        }
        Some((first, ..)) if *first == value => false,
        Some((_, first, other)) => {
            let (switch, other) = (vertices.switches[switch].text, vertices.switches[*other].text);
            let message = format!("`{switch}` and `{other}` are one segment, but each is given another {what}");
            problems.push(
                Problem::error("segment-conflict", at, message)
                    .also(*first, format!("given to `{other}` here"))
                    .help("say it at one of the switches only"),
            );
            false
        }
    }
}

/// IPv6 needs 1280 bytes.
fn ipv6_fits(
    mtu: Given<Mtu>,
    ipv6: &mut Given<SwitchAddresses>,
    addressing: &Addressing,
    vertices: &Vertices<'_>,
    problems: &mut Vec<Problem>,
) {
    let Some((mtu, at, switch)) = mtu.filter(|(mtu, ..)| *mtu < Mtu::IPV6_MIN) else { return };
    let wanted = match ipv6 {
        Some((SwitchAddresses::None, ..)) => return,
        Some((_, given, _)) => Ipv6::Asked(*given),
        None => Ipv6::ByPool,
    };
    let what = format!("switch `{}`", vertices.switches[switch].text);
    problems.extend(too_small_for_ipv6(mtu, at, wanted, addressing, &what));
    *ipv6 = Some((SwitchAddresses::None, at, switch));
}

/// The prefix of a segment, where it was given.
pub(super) fn given_prefix(switch: &Switch, family: Family) -> Option<IpNet> {
    match switch.addresses(family) {
        SwitchAddresses::Prefix(net) => Some(net),
        SwitchAddresses::Auto | SwitchAddresses::None => None,
    }
}
