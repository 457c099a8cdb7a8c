//! What is sent.

use std::net::IpAddr;

use hopyard_net::Family;
use serde::Serialize;

/// A protocol above IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// An echo request and its reply.
    Icmp,
    /// The first segment of a connection, and its answer.
    Tcp,
    /// A datagram, and one in the other direction.
    Udp,
}

impl Protocol {
    /// Its number in an IP header.
    pub fn number(self, family: Family) -> u8 {
        match (self, family) {
            (Protocol::Icmp, Family::Ipv4) => 1,
            (Protocol::Icmp, Family::Ipv6) => 58,
            (Protocol::Tcp, _) => 6,
            (Protocol::Udp, _) => 17,
        }
    }

    /// As people write it behind a port.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Icmp => "icmp",
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        }
    }
}

/// A packet on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Packet {
    /// The address that it comes from; `None`: the sender's kernel chooses.
    pub src: Option<IpAddr>,
    /// The address that it goes to.
    pub dst: IpAddr,
    /// What is in it.
    pub protocol: Protocol,
    /// The port that it comes from; of an echo, nothing.
    pub source_port: u16,
    /// The port that it goes to.
    pub destination_port: u16,
    /// How many more hops it may make.
    pub ttl: u8,
    /// Its length in bytes, with the IP header.
    pub length: u32,
    /// May it be cut into pieces on the way?
    pub may_fragment: bool,
    /// Does it answer another one? Firewalls then take it as part of an established connection.
    pub reply: bool,
    /// Is it the ICMP error that tells a sender what fits (RFC 1191, RFC 8201)?
    pub too_big: bool,
}

impl Packet {
    /// Between whom it goes: addresses and ports, the source first.
    pub(crate) fn ends(&self) -> (Option<IpAddr>, u16, IpAddr, u16) {
        (self.src, self.source_port, self.dst, self.destination_port)
    }

    /// The port from which a probe comes: of those that Linux gives to clients (`ip_local_port_range`).
    pub const CLIENT_PORT: u16 = 40_119;
    /// What Linux puts into a packet when nothing else is said.
    pub const TTL: u8 = 64;

    /// A small packet as a probe sends it.
    pub fn probe(dst: IpAddr, protocol: Protocol, port: u16) -> Self {
        let header = if dst.is_ipv4() { 20 } else { 40 };
        Packet {
            src: None,
            dst,
            protocol,
            source_port: if protocol == Protocol::Icmp { 0 } else { Self::CLIENT_PORT },
            destination_port: port,
            ttl: Self::TTL,
            length: header + 24,
            may_fragment: false,
            reply: false,
            too_big: false,
        }
    }

    /// Its answer. `None`: it has no source yet.
    pub fn answer(&self) -> Option<Packet> {
        Some(Packet {
            src: Some(self.dst),
            dst: self.src?,
            source_port: self.destination_port,
            destination_port: self.source_port,
            ttl: Self::TTL,
            // An IPv4 kernel lets its echo replies be cut.
            may_fragment: self.protocol == Protocol::Icmp && self.dst.is_ipv4(),
            reply: true,
            ..*self
        })
    }

    /// The ICMP error by which a router tells the sender of this packet that it is too long. `None`: it has no
    /// source yet.
    pub(crate) fn too_big(&self) -> Option<Packet> {
        /// Headers, and as much of the packet as every kernel quotes.
        const LENGTH: u32 = 68;
        let error = Packet { src: None, length: LENGTH, too_big: true, ..Packet::probe(self.src?, Protocol::Icmp, 0) };
        Some(error)
    }

    /// Which IP.
    pub fn family(&self) -> Family {
        Family::of(self.dst)
    }
}

/// What an address stands for that is no single node's: where a packet to it goes is no way from one node to another.
pub fn no_single_node(addr: IpAddr) -> Option<&'static str> {
    let broadcast = matches!(addr, IpAddr::V4(addr) if addr.is_broadcast());
    match addr {
        _ if addr.is_multicast() || broadcast => Some("is for a group of nodes"),
        _ if addr.is_unspecified() => Some("is no node's address"),
        _ => None,
    }
}

pub(crate) fn is_link_local(addr: IpAddr) -> bool {
    matches!(addr, IpAddr::V6(addr) if addr.is_unicast_link_local())
}
