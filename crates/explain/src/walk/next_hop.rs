//! From an interface to the one that takes a frame in: who has the address of the next hop, and what lies between.

use std::net::IpAddr;

use hopyard_net::{Endpoint, IfName, LinkState, MacAddr, NextHop, NodeState, NsName, Snapshot};

use super::{State, Walker};
use crate::forwarding::forwards;
use crate::frames::Carried;
use crate::header::{Content, Frame};
use crate::packet::is_link_local;
use crate::segment::{self, Segment};
use crate::{Packet, Reason, lookup, twins};

/// What a veth end takes in beyond its MTU: room for a VLAN tag.
const SPARE: u32 = 4;

impl Walker<'_> {
    /// From an interface to the one that takes the frame in, and over which switches.
    pub(super) fn deliver_frame(
        &self,
        node: &NodeState,
        state: &State,
        by: &NextHop,
        link: &LinkState,
    ) -> Result<(Endpoint, Vec<NsName>), Reason> {
        let dev = by.dev;
        let here = Endpoint { ns: state.at.clone(), dev };
        let addr = by.via.unwrap_or(state.packet.dst);
        if !link.up {
            return Err(Reason::LinkDown(dev));
        }
        if !link.carrier {
            return Err(Reason::NoCarrier { dev, peer: segment::peer_of(link).cloned() });
        }
        if dev == IfName::LO {
            return Err(Reason::Undecided("it is sent to `lo`, and is no address of the node".to_owned()));
        }
        // It may send otherwise than others, and ask for nobody.
        if let Some(what) = &link.beyond {
            return Err(Reason::Undecided(format!("{here}: {what}")));
        }
        let segment = segment::segment(self.snapshot, &here, false);
        // Who has just asked is believed before what was learnt earlier (`neigh_event_ns()`, `ndisc_recv_ns()`).
        let heard = state.learnt.get(&(here.clone(), addr)).filter(|end| segment.ends.contains_key(end));
        let known = node.neighbours.iter().find(|it| it.dev == dev && it.addr == addr);
        let known = known.filter(|it| it.permanent || heard.is_none());
        let end = match known {
            Some(known) => {
                let family = state.packet.family();
                let takes = |end: &Endpoint| {
                    let node = self.snapshot.nodes.get(&end.ns);
                    node.is_some_and(|node| lookup::is_own(node, addr) || forwards(node, family, end.dev))
                };
                let ends = || segment::ends_with_mac(self.snapshot, &segment, known.mac);
                let found = ends().find(|end| takes(end)).or_else(|| ends().next()).cloned();
                let wrong = |leads_to| Reason::WrongNeighbour {
                    addr,
                    dev,
                    mac: known.mac,
                    permanent: known.permanent,
                    leads_to,
                };
                match found {
                    Some(end) => {
                        // A router there sends on what it gets, for whomever it is.
                        if known.permanent && !takes(&end) {
                            return Err(wrong(Some(end)));
                        }
                        end
                    }
                    None if segment.beyond.is_some() => return Err(undecided(&segment)),
                    // A frame to an address that no interface has is dropped by all that it comes to.
                    None => {
                        let behind = self.behind_mac(&here, known.mac);
                        match behind {
                            Some(down) if !known.permanent || segment::owners(self.snapshot, addr).contains(&down) => {
                                let down = segment.down.first().cloned();
                                return Err(Reason::NeighbourUnresolved { addr, dev, down });
                            }
                            _ => return Err(wrong(None)),
                        }
                    }
                }
            }
            None => match heard {
                Some(end) => end.clone(),
                None => self.resolve(node, state, dev, addr, by.via.is_none(), &segment)?,
            },
        };
        let Some(way) = segment.ends.get(&end) else { return Ok((end, Vec::new())) };
        if let Some(what) = &way.beyond {
            return Err(Reason::Undecided(what.clone()));
        }
        if let Some(twins) = twins::between(self.snapshot, &segment, (&here, &end), way, &state.spoken) {
            return Err(twins);
        }
        if let Some((mtu, at)) = &way.narrowest
            && state.packet.length > mtu + SPARE
        {
            return Err(Reason::MtuMismatch { at: at.clone(), mtu: *mtu });
        }
        let mac = segment::link_at(self.snapshot, &end).and_then(|link| link.mac);
        let frame = Frame::between(link.mac, known.map(|known| known.mac).or(mac));
        let knows = |ns: &NsName| self.before.nodes.contains(ns);
        let content = Content::Packet(&state.packet);
        Carried { snapshot: self.snapshot, content, frame, knows: &knows }.carry(&here, way)?;
        Ok((end, way.switches().cloned().collect()))
    }

    /// Asks who has an address, as ARP and neighbour discovery do.
    fn resolve(
        &self,
        node: &NodeState,
        state: &State,
        dev: IfName,
        addr: IpAddr,
        on_link: bool,
        segment: &Segment,
    ) -> Result<Endpoint, Reason> {
        let asker = segment::asker(node, dev, &state.packet, addr);
        let link = node.links.get(&dev);
        if addr.is_ipv6() && asker.is_none() {
            // Neighbour discovery needs an address to ask from (RFC 4861, section 7.2.2). A network that is only planned
            // has none, and will have.
            let own = link.into_iter().flat_map(|link| &link.addresses).map(|own| own.net.addr());
            if let Some(own) = own.into_iter().find(|own| is_link_local(*own)) {
                let what =
                    format!("{own} on {dev} is not ready yet (tentative), and no neighbour is asked for until then");
                return Err(Reason::Undecided(what));
            }
        }
        let here = Endpoint { ns: state.at.clone(), dev };
        let is_own = link.is_some_and(|link| link.addresses.iter().any(|own| own.net.addr() == addr));
        if is_own && addr.is_ipv6() {
            // Whoever says to have an own address is not believed.
            return Err(Reason::NeighbourUnresolved { addr, dev, down: None });
        }
        let mut answers = segment::who_has(self.snapshot, &here, segment, addr, asker);
        match (answers.owners.as_slice(), answers.refusals.first()) {
            ([one], _) => Ok(one.clone()),
            ([], _) if segment.beyond.is_some() => Err(undecided(segment)),
            ([], _) if answers.beyond.is_some() => Err(Reason::Undecided(answers.beyond.unwrap_or_default())),
            ([], None) if !answers.dropped.is_empty() => Err(answers.dropped.swap_remove(0)),
            ([], Some((by, why))) => Err(Reason::ArpRefused { addr, dev, by: by.clone(), why: *why }),
            ([], None) => {
                let elsewhere = segment::owners(self.snapshot, addr);
                let wired = segment::segment(self.snapshot, &here, true);
                let on_this_segment = elsewhere.iter().any(|owner| wired.ends.contains_key(owner));
                let net = link.and_then(|link| link.addresses.iter().find(|own| own.net.contains(&addr)));
                match net {
                    Some(own) if on_link && !elsewhere.is_empty() && !on_this_segment => {
                        Err(Reason::WrongMask { addr, dev, net: own.net })
                    }
                    _ => {
                        let down = segment.down.first().cloned();
                        Err(Reason::NeighbourUnresolved { addr, dev, down })
                    }
                }
            }
            (owners, _) => Err(Reason::DuplicateAddress { addr, owners: owners.to_vec() }),
        }
    }

    /// The interface with an Ethernet address that would be reached if all were up.
    fn behind_mac(&self, from: &Endpoint, mac: MacAddr) -> Option<Endpoint> {
        let wired = segment::segment(self.snapshot, from, true);
        segment::ends_with_mac(self.snapshot, &wired, mac).next().cloned()
    }
}

/// What the node at the other end of a link learns when a packet is sent to it: where the address is
/// from which it is asked for its own. Nothing, where nobody needs to ask.
pub(super) fn learnt(
    snapshot: &Snapshot,
    from: &NsName,
    next: &NextHop,
    packet: &Packet,
    to: &Endpoint,
) -> Option<((Endpoint, IpAddr), Endpoint)> {
    let node = snapshot.nodes.get(from)?;
    let addr = next.via.unwrap_or(packet.dst);
    if node.neighbours.iter().any(|it| it.dev == next.dev && it.addr == addr) {
        return None;
    }
    let asker = segment::asker(node, next.dev, packet, addr)?;
    Some(((to.clone(), asker), Endpoint { ns: from.clone(), dev: next.dev }))
}

fn undecided(segment: &Segment) -> Reason {
    if let Some(by) = &segment.outside {
        return Reason::LeavesKnown { by: by.clone() };
    }
    Reason::Undecided(segment.beyond.clone().unwrap_or_else(|| "the segment".to_owned()))
}
