//! What the comparison program has to do, as it reads it from a file: ready-made netlink requests.
//!
//! They are made from the operations of `hop up` itself, outside of the timed process, so that the
//! comparison program reads no topology, chooses no address and encodes no message.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use hopyard::net::{Endpoint, IfName, IpNet, MacAddr, NetState, NextHop, NsName, Op, Route, RouteKind, SysctlKey};

use crate::Failure;

/// Marks a request whose refusal does not matter.
pub(crate) const OPTIONAL: u32 = u32::MAX;

/// So many descriptors of peers' namespaces are open for one send.
const PEERS_AT_ONCE: usize = 200;

const RTM_NEWLINK: u16 = 16;
const RTM_SETLINK: u16 = 19;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const RTM_NEWNEIGH: u16 = 28;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_REPLACE: u16 = 0x100;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
const NEW: u16 = NLM_F_REQUEST | NLM_F_CREATE | NLM_F_EXCL;
const IFF_UP: u32 = 1;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_AF_SPEC: u16 = 26;
const AF_INET6: u16 = 10;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_NUM_TX_QUEUES: u16 = 31;
const IFLA_NUM_RX_QUEUES: u16 = 32;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFLA_BR_MCAST_SNOOPING: u16 = 23;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;
/// Without duplicate address detection, and for good.
const IFA_F_NODAD_PERMANENT: u32 = 0x82;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_METRICS: u16 = 8;
const RTA_MULTIPATH: u16 = 9;
const RTAX_HOPLIMIT: u16 = 10;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NUD_PERMANENT: u16 = 0x80;

/// A sender, a receiver's addresses: the first packet.
#[derive(Clone, Debug)]
pub(crate) struct FirstPacket {
    pub(crate) from: NsName,
    pub(crate) to: Vec<IpAddr>,
}

/// Bytes, with the structures of netlink in them.
#[derive(Default)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn u16(&mut self, value: u16) {
        self.0.extend(value.to_ne_bytes());
    }

    fn u32(&mut self, value: u32) {
        self.0.extend(value.to_ne_bytes());
    }

    fn count(&mut self, value: usize) {
        self.u32(u32::try_from(value).unwrap_or(u32::MAX));
    }

    fn blob(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.0.extend(bytes);
        self.align();
    }

    fn names(&mut self, devices: &[IfName]) {
        self.count(devices.len());
        for dev in devices {
            let mut name = dev.as_str().as_bytes().to_vec();
            name.resize(16, 0);
            self.0.extend(name);
        }
    }

    fn align(&mut self) {
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    /// What `body` writes, behind a header of `kind` with its length.
    fn message(&mut self, kind: u16, flags: u16, sequence: u32, body: impl FnOnce(&mut Bytes)) {
        let start = self.0.len();
        self.u32(0);
        self.u16(kind);
        self.u16(flags);
        self.u32(sequence);
        self.u32(0);
        body(self);
        let length = u32::try_from(self.0.len() - start).unwrap_or(u32::MAX);
        self.0[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.nest(kind, |bytes| bytes.0.extend(value));
    }

    fn nest(&mut self, kind: u16, body: impl FnOnce(&mut Bytes)) {
        let start = self.0.len();
        self.u16(0);
        self.u16(kind);
        body(self);
        let length = u16::try_from(self.0.len() - start).unwrap_or(u16::MAX);
        self.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.align();
    }

    /// `struct ifinfomsg`
    fn link(&mut self, index: u32, up: bool) {
        self.u32(0);
        self.u32(index);
        self.u32(if up { IFF_UP } else { 0 });
        self.u32(if up { IFF_UP } else { 0 });
    }

    fn end(&mut self, dev: IfName, mac: MacAddr, mtu: Option<u32>) {
        self.attribute(IFLA_IFNAME, &[dev.as_str().as_bytes(), &[0]].concat());
        self.attribute(IFLA_NUM_TX_QUEUES, &1u32.to_ne_bytes());
        self.attribute(IFLA_NUM_RX_QUEUES, &1u32.to_ne_bytes());
        self.attribute(IFLA_ADDRESS, &mac.bytes());
        if let Some(mtu) = mtu {
            self.attribute(IFLA_MTU, &mtu.to_ne_bytes());
        }
    }

    fn set_up(&mut self, index: u32, master: Option<u32>) {
        self.message(RTM_NEWLINK, NLM_F_REQUEST, 0, |bytes| {
            bytes.link(index, true);
            if let Some(master) = master {
                bytes.attribute(IFLA_MASTER, &master.to_ne_bytes());
            }
        });
    }

    /// The kernel gives the interface no link-local address, and sends nothing of its own accord.
    fn no_link_local(&mut self, index: u32) {
        self.message(RTM_SETLINK, NLM_F_REQUEST, OPTIONAL, |bytes| {
            bytes.link(index, false);
            bytes.nest(IFLA_AF_SPEC, |bytes| {
                bytes.nest(AF_INET6, |bytes| bytes.attribute(IFLA_INET6_ADDR_GEN_MODE, &[1]));
            });
        });
    }

    fn address(&mut self, index: u32, addr: IpNet, sequence: u32) {
        self.message(RTM_NEWADDR, NEW, sequence, |bytes| {
            bytes.0.extend([family(addr.addr()), addr.prefix_len(), 0, 0]);
            bytes.u32(index);
            let octets = octets(addr.addr());
            bytes.attribute(IFA_LOCAL, &octets);
            bytes.attribute(IFA_ADDRESS, &octets);
            if addr.addr().is_ipv6() {
                bytes.attribute(IFA_FLAGS, &IFA_F_NODAD_PERMANENT.to_ne_bytes());
            }
        });
    }

    /// Which route would a packet to this address take?
    fn question(&mut self, addr: IpAddr) {
        self.message(RTM_GETROUTE, NLM_F_REQUEST, 0, |bytes| {
            bytes.0.extend([family(addr), 128, 0, 0, 0, 0, 0, 0]);
            bytes.u32(0);
            bytes.attribute(RTA_DST, &octets(addr));
        });
    }

    fn neighbour(&mut self, index: u32, addr: IpAddr, mac: MacAddr) {
        self.message(RTM_NEWNEIGH, NLM_F_REQUEST | NLM_F_CREATE | NLM_F_REPLACE, 0, |bytes| {
            bytes.0.extend([family(addr), 0, 0, 0]);
            bytes.u32(index);
            bytes.u16(NUD_PERMANENT);
            bytes.u16(0);
            bytes.attribute(NDA_DST, &octets(addr));
            bytes.attribute(NDA_LLADDR, &mac.bytes());
        });
    }

    fn route(&mut self, route: &Route, index: impl Fn(&NextHop) -> Result<u32, Failure>) -> Result<(), Failure> {
        let RouteKind::Unicast(hops) = &route.kind else { return Err(unsupported("a route without next hops")) };
        let hops: Vec<(u32, &NextHop)> =
            hops.iter().map(|hop| Ok((index(hop)?, hop))).collect::<Result<_, Failure>>()?;
        let prefix = route.key.prefix;
        let scope = u8::from(hops.len() == 1 && hops[0].1.via.is_none() && prefix.addr().is_ipv4()) * 253;
        let table = u8::try_from(route.key.table).map_err(|_| unsupported("a table of its own"))?;
        self.message(RTM_NEWROUTE, NLM_F_REQUEST | NLM_F_CREATE | NLM_F_REPLACE, 0, |bytes| {
            const STATIC: u8 = 4;
            const UNICAST: u8 = 1;
            bytes.0.extend([family(prefix.addr()), prefix.prefix_len(), 0, 0, table, STATIC, scope, UNICAST]);
            bytes.u32(0);
            if prefix.prefix_len() > 0 {
                bytes.attribute(RTA_DST, &octets(prefix.network()));
            }
            if let Some(limit) = route.hop_limit {
                let limit = u32::from(limit).to_ne_bytes();
                bytes.nest(RTA_METRICS, |bytes| bytes.attribute(RTAX_HOPLIMIT, &limit));
            }
            match hops.as_slice() {
                [(index, hop)] => {
                    if let Some(via) = hop.via {
                        bytes.attribute(RTA_GATEWAY, &octets(via));
                    }
                    bytes.attribute(RTA_OIF, &index.to_ne_bytes());
                }
                hops => bytes.nest(RTA_MULTIPATH, |bytes| {
                    for (index, hop) in hops {
                        let start = bytes.0.len();
                        bytes.0.extend([0, 0, 0, u8::try_from(hop.weight.saturating_sub(1)).unwrap_or(u8::MAX)]);
                        bytes.u32(*index);
                        if let Some(via) = hop.via {
                            bytes.attribute(RTA_GATEWAY, &octets(via));
                        }
                        let length = u16::try_from(bytes.0.len() - start).unwrap_or(u16::MAX);
                        bytes.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
                    }
                }),
            }
        });
        Ok(())
    }
}

fn family(addr: IpAddr) -> u8 {
    if addr.is_ipv4() { 2 } else { 10 }
}

fn octets(addr: IpAddr) -> Vec<u8> {
    match addr {
        IpAddr::V4(addr) => addr.octets().to_vec(),
        IpAddr::V6(addr) => addr.octets().to_vec(),
    }
}

fn unsupported(what: &str) -> Failure {
    Failure::new(format!("the comparison program does not know {what}"))
}

/// One send of requests that make interfaces, and where the descriptors of peers' namespaces go.
#[derive(Default)]
struct Send {
    space: usize,
    patches: Vec<(usize, usize)>,
    bytes: Bytes,
}

/// What is known of one namespace.
#[derive(Default)]
struct Space {
    forwarding: u32,
    index: BTreeMap<IfName, u32>,
    mac: BTreeMap<IfName, MacAddr>,
    master: BTreeMap<IfName, IfName>,
    has_ipv6: bool,
    /// Up from the start.
    is_up: Vec<IfName>,
    ports: Vec<IfName>,
    bridges: Vec<IfName>,
    config: Bytes,
    questions: Bytes,
    /// What comes last: bridges come up when their ports have nothing more to say.
    late: Bytes,
}

impl Space {
    fn index_of(&self, dev: IfName) -> Result<u32, Failure> {
        if dev == IfName::LO {
            return Ok(1);
        }
        self.index.get(&dev).copied().ok_or_else(|| Failure::new(format!("no interface {dev}")))
    }

    fn assign(&mut self, dev: IfName) -> u32 {
        let index = 10 + u32::try_from(self.index.len()).unwrap_or_default();
        self.index.insert(dev, index);
        index
    }

    fn link_local(&self, dev: IfName) -> Option<IpNet> {
        let mac = self.mac.get(&dev).filter(|_| self.has_ipv6)?;
        let [a, b, c, d, e, f] = mac.bytes();
        let addr = std::net::Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f]);
        IpNet::new(addr.into(), 64).ok()
    }
}

/// Makes the course from what `hop up` would do.
pub(crate) fn of(wanted: &NetState, packet: &FirstPacket) -> Result<Vec<u8>, Failure> {
    let ops = hopyard::plan::diff(&NetState::default(), wanted);
    let number: HashMap<&NsName, usize> = wanted.namespaces.keys().zip(0..).collect();
    let at = |ns: &NsName| number.get(ns).copied().ok_or_else(|| Failure::new(format!("no namespace {ns}")));
    let mut spaces: Vec<Space> = number.iter().map(|_| Space::default()).collect();
    for op in &ops {
        let space = &mut spaces[at(op.ns())?];
        match op {
            Op::AddAddr { addr, .. } => space.has_ipv6 |= addr.addr().is_ipv6(),
            Op::SetMaster { at, master: Some(master) } => {
                space.master.insert(at.dev, *master);
            }
            _ => {}
        }
    }
    let mut sends: Vec<Send> = Vec::new();
    let mut sequence = 0;
    for op in &ops {
        let here = at(op.ns())?;
        match op {
            // Made by the racer; a master is set where the port is made or comes up.
            Op::AddNs(_) | Op::SetMaster { .. } => {}
            Op::SetSysctl { key, value, .. } => {
                let bit = match key {
                    key if *key == SysctlKey::IPV4_FORWARD => 1,
                    key if *key == SysctlKey::IPV6_FORWARD => 2,
                    key => return Err(unsupported(&format!("the sysctl {key}"))),
                };
                // A new namespace has both at 0 where the host has.
                spaces[here].forwarding |= if value == "1" { bit } else { bit << 2 };
            }
            Op::AddBridge(Endpoint { dev, .. }) => {
                let index = spaces[here].assign(*dev);
                spaces[here].bridges.push(*dev);
                let mut send = Send { space: here, ..Send::default() };
                send.bytes.message(RTM_NEWLINK, NEW, 0, |bytes| {
                    bytes.link(index, false);
                    bytes.attribute(IFLA_IFNAME, &[dev.as_str().as_bytes(), &[0]].concat());
                    bytes.nest(IFLA_LINKINFO, |bytes| {
                        bytes.attribute(IFLA_INFO_KIND, b"bridge");
                        bytes.nest(IFLA_INFO_DATA, |bytes| bytes.attribute(IFLA_BR_MCAST_SNOOPING, &[0]));
                    });
                });
                sends.push(send);
            }
            Op::AddVeth { a, b } => {
                let there = at(&b.at.ns)?;
                let (mac_a, mac_b) = (mac(a.mac, here, there, 0)?, mac(b.mac, here, there, 1)?);
                let index_a = spaces[here].assign(a.at.dev);
                let index_b = spaces[there].assign(b.at.dev);
                spaces[here].mac.insert(a.at.dev, mac_a);
                spaces[there].mac.insert(b.at.dev, mac_b);
                spaces[here].ports.push(a.at.dev);
                spaces[there].ports.push(b.at.dev);
                // The first end can come up as it is made; the second only when both are there.
                spaces[here].is_up.push(a.at.dev);
                let master = spaces[here].master.get(&a.at.dev).map(|dev| spaces[here].index_of(*dev)).transpose()?;
                match sends.last() {
                    Some(send) if send.space == here && send.patches.len() < PEERS_AT_ONCE => {}
                    _ => sends.push(Send { space: here, ..Send::default() }),
                }
                let Some(send) = sends.last_mut() else { continue };
                sequence += 1;
                send.bytes.message(RTM_NEWLINK, NEW, sequence, |bytes| {
                    bytes.link(index_a, true);
                    bytes.end(a.at.dev, mac_a, a.mtu.map(Into::into));
                    if let Some(master) = master {
                        bytes.attribute(IFLA_MASTER, &master.to_ne_bytes());
                    }
                    bytes.nest(IFLA_LINKINFO, |bytes| {
                        bytes.attribute(IFLA_INFO_KIND, b"veth");
                        bytes.nest(IFLA_INFO_DATA, |bytes| {
                            bytes.nest(VETH_INFO_PEER, |bytes| {
                                bytes.link(index_b, false);
                                bytes.end(b.at.dev, mac_b, b.mtu.map(Into::into));
                                bytes.attribute(IFLA_NET_NS_FD, &[0; 4]);
                                send.patches.push((bytes.0.len() - 4, there));
                            });
                        });
                    });
                });
                match spaces[here].link_local(a.at.dev) {
                    Some(addr) => send.bytes.address(index_a, addr, OPTIONAL),
                    None => send.bytes.no_link_local(index_a),
                }
            }
            Op::SetUp { at: Endpoint { dev, .. }, up: true } => {
                let space = &mut spaces[here];
                if !space.is_up.contains(dev) {
                    let index = space.index_of(*dev)?;
                    if space.bridges.contains(dev) {
                        space.late.no_link_local(index);
                        space.late.set_up(index, None);
                        continue;
                    }
                    match space.link_local(*dev) {
                        Some(addr) => space.config.address(index, addr, OPTIONAL),
                        None if *dev != IfName::LO => space.config.no_link_local(index),
                        None => {}
                    }
                    let master = space.master.get(dev).map(|dev| space.index_of(*dev)).transpose()?;
                    space.config.set_up(index, master);
                }
            }
            Op::AddAddr { at: Endpoint { dev, .. }, addr } => {
                let index = spaces[here].index_of(*dev)?;
                spaces[here].config.address(index, *addr, 0);
                if addr.addr().is_ipv6() {
                    spaces[here].questions.question(addr.addr());
                }
            }
            Op::SetNeigh { at: Endpoint { dev, .. }, addr, mac } => {
                let index = spaces[here].index_of(*dev)?;
                spaces[here].config.neighbour(index, *addr, *mac);
            }
            Op::SetRoute { route, .. } => {
                let mut config = std::mem::take(&mut spaces[here].config);
                config.route(route, |hop| spaces[here].index_of(hop.dev))?;
                spaces[here].config = config;
            }
            op => return Err(unsupported(&op.purpose())),
        }
    }
    let mut file = Bytes::default();
    file.count(spaces.len());
    file.count(at(&packet.from)?);
    file.count(packet.to.len());
    for to in &packet.to {
        file.u32(u32::from(to.is_ipv6()));
        let mut octets = octets(*to);
        octets.resize(16, 0);
        file.0.extend(octets);
    }
    for space in &spaces {
        file.u32(space.forwarding);
        file.names(&space.ports);
        file.names(&space.bridges);
        for blob in [&space.config, &space.questions, &space.late] {
            file.blob(&blob.0);
        }
    }
    file.count(sends.len());
    for send in &sends {
        file.count(send.space);
        file.count(send.patches.len());
        for (offset, space) in &send.patches {
            file.count(*offset);
            file.count(*space);
        }
        file.blob(&send.bytes.0);
    }
    Ok(file.0)
}

/// That of the plan, or one that nobody else has.
fn mac(given: Option<MacAddr>, here: usize, there: usize, side: u8) -> Result<MacAddr, Failure> {
    if let Some(mac) = given {
        return Ok(mac);
    }
    let small = |n: usize| u16::try_from(n).map(u16::to_be_bytes).map_err(|_| unsupported("so many namespaces"));
    let ([a, b], [c, d]) = (small(here)?, small(there)?);
    Ok(MacAddr::from_bytes([0x06 | side << 4, a, b, c, d, side]))
}
