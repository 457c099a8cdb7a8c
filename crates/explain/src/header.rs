//! What stands in a frame, byte by byte, as far as it is known beforehand.

use std::net::{IpAddr, Ipv6Addr};

use hopyard_net::{Family, MacAddr};

use crate::{Packet, Protocol};

/// What a frame carries.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Content<'a> {
    /// A packet that somebody sends.
    Packet(&'a Packet),
    /// A question of the kernel itself, or its answer: who has an address?
    Asks(&'a Question),
}

/// Who has an address, asked by ARP (RFC 826) or neighbour discovery (RFC 4861).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question {
    /// The address that is asked for.
    pub(crate) addr: IpAddr,
    /// Who asks.
    pub(crate) asker: Option<IpAddr>,
    /// The Ethernet address of who asks.
    pub(crate) asker_mac: Option<MacAddr>,
    /// That of who has it.
    pub(crate) owner_mac: Option<MacAddr>,
    /// It is the answer.
    pub(crate) answers: bool,
}

impl Question {
    /// The other way round.
    pub(crate) fn answer(self) -> Self {
        Question { answers: true, ..self }
    }

    /// The frame that it is in.
    pub(crate) fn frame(&self) -> Frame {
        match (self.answers, self.addr) {
            (true, _) => Frame { from: self.owner_mac, to: self.asker_mac.map(MacAddr::bytes), kind: Frame::UNICAST },
            (false, IpAddr::V4(_)) => Frame { from: self.asker_mac, to: Some([0xff; 6]), kind: Frame::BROADCAST },
            (false, IpAddr::V6(addr)) => {
                // RFC 2464, section 7, of a solicited-node address.
                let [.., a, b, c] = addr.octets();
                Frame { from: self.asker_mac, to: Some([0x33, 0x33, 0xff, a, b, c]), kind: Frame::MULTICAST }
            }
        }
    }
}

/// The Ethernet header.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame {
    pub(crate) from: Option<MacAddr>,
    pub(crate) to: Option<[u8; 6]>,
    /// As `PACKET_HOST` and its like of linux/if_packet.h.
    pub(crate) kind: u8,
}

impl Frame {
    pub(crate) const UNICAST: u8 = 0;
    pub(crate) const BROADCAST: u8 = 1;
    pub(crate) const MULTICAST: u8 = 2;

    /// From one interface to another.
    pub(crate) fn between(from: Option<MacAddr>, to: Option<MacAddr>) -> Self {
        Frame { from, to: to.map(MacAddr::bytes), kind: Self::UNICAST }
    }

    /// IEEE 802.3.
    pub(crate) fn header(&self, content: Content<'_>) -> Header {
        let mut header = Header::new();
        add_mac(&mut header, self.to);
        add_mac(&mut header, self.from.map(MacAddr::bytes));
        add(&mut header, &content.ether_type().to_be_bytes());
        header
    }
}

fn add_mac(header: &mut Header, mac: Option<[u8; 6]>) {
    match mac {
        Some(bytes) => add(header, &bytes),
        None => add_unknown(header, 6),
    }
}

/// A header, byte by byte; `None`: what is in it is chosen when the packet is sent.
pub(crate) type Header = Vec<Option<u8>>;

fn add(header: &mut Header, bytes: &[u8]) {
    header.extend(bytes.iter().copied().map(Some));
}

fn add_unknown(header: &mut Header, bytes: usize) {
    header.resize(header.len() + bytes, None);
}

fn add_address(header: &mut Header, addr: Option<IpAddr>, bytes: usize) {
    match addr {
        Some(IpAddr::V4(addr)) if bytes == 4 => add(header, &addr.octets()),
        Some(IpAddr::V6(addr)) if bytes == 16 => add(header, &addr.octets()),
        _ => add_unknown(header, bytes),
    }
}

/// The kind of ICMPv6 that asks, and that which answers.
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;

impl Content<'_> {
    /// Which IP; `None`: it is ARP.
    pub(crate) fn family(&self) -> Option<Family> {
        match self {
            Content::Packet(packet) => Some(packet.family()),
            Content::Asks(question) => question.addr.is_ipv6().then_some(Family::Ipv6),
        }
    }

    /// linux/if_ether.h.
    pub(crate) fn ether_type(&self) -> u16 {
        match self.family() {
            Some(Family::Ipv4) => 0x0800,
            Some(Family::Ipv6) => 0x86dd,
            None => 0x0806,
        }
    }

    /// The protocol above IP; `None`: it is ARP.
    pub(crate) fn protocol(&self) -> Option<u8> {
        match self {
            Content::Packet(packet) => Some(packet.protocol.number(packet.family())),
            Content::Asks(_) => self.family().map(|family| Protocol::Icmp.number(family)),
        }
    }

    /// Source and destination of a packet.
    pub(crate) fn ends(&self) -> (Option<IpAddr>, Option<IpAddr>) {
        match self {
            Content::Packet(packet) => (packet.src, Some(packet.dst)),
            Content::Asks(question) if question.answers => (Some(question.addr), question.asker),
            Content::Asks(question) => (question.asker, None),
        }
    }

    /// From the IP header on, in bytes.
    pub(crate) fn length(&self) -> u32 {
        /// Of IPv6, with the Ethernet address as an option.
        const ASKS_BYTES: u32 = 40 + 24 + 8;
        const ARP_BYTES: u32 = 28;
        match self {
            Content::Packet(packet) => packet.length,
            Content::Asks(_) if self.family().is_some() => ASKS_BYTES,
            Content::Asks(_) => ARP_BYTES,
        }
    }

    /// RFC 791, RFC 8200, RFC 826.
    pub(crate) fn network_header(&self) -> Header {
        match self {
            Content::Packet(packet) => network_header(packet),
            Content::Asks(question) if question.addr.is_ipv6() => {
                let (src, dst) = self.ends();
                let dst = dst.or_else(|| solicited_node(question.addr));
                ipv6_header(src, dst, self.length(), 58, u8::MAX)
            }
            Content::Asks(question) => arp_header(question),
        }
    }

    /// Ports, the flags of TCP, the type of ICMP; `None`: there is no such header.
    pub(crate) fn transport_header(&self) -> Option<Header> {
        match self {
            Content::Packet(packet) => Some(transport_header(packet)),
            Content::Asks(question) if question.addr.is_ipv6() => {
                let mut header = Header::new();
                add(&mut header, &[if question.answers { ADVERTISEMENT } else { SOLICITATION }, 0]);
                // The checksum, and who answers.
                add_unknown(&mut header, 6);
                add_address(&mut header, Some(question.addr), 16);
                Some(header)
            }
            Content::Asks(_) => None,
        }
    }
}

/// RFC 4291, section 2.7.1.
fn solicited_node(addr: IpAddr) -> Option<IpAddr> {
    let IpAddr::V6(addr) = addr else { return None };
    let [.., a, b, c] = addr.octets();
    Some(Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c]).into())
}

fn arp_header(question: &Question) -> Header {
    let Question { addr, asker, asker_mac, owner_mac, answers } = *question;
    let mut header = Header::new();
    // Ethernet, IPv4, their lengths, and what it is.
    add(&mut header, &[0, 1, 8, 0, 6, 4, 0, if answers { 2 } else { 1 }]);
    let (asker_mac, owner_mac) = (asker_mac.map(MacAddr::bytes), owner_mac.map(MacAddr::bytes));
    if answers {
        add_mac(&mut header, owner_mac);
        add_address(&mut header, Some(addr), 4);
        add_mac(&mut header, asker_mac);
        add_address(&mut header, asker, 4);
    } else {
        add_mac(&mut header, asker_mac);
        add_address(&mut header, asker, 4);
        add(&mut header, &[0; 6]);
        add_address(&mut header, Some(addr), 4);
    }
    header
}

fn network_header(packet: &Packet) -> Header {
    let number = packet.protocol.number(packet.family());
    let length = u16::try_from(packet.length).unwrap_or(u16::MAX);
    match packet.dst {
        IpAddr::V4(_) => {
            let mut header = Header::new();
            add(&mut header, &[0x45, 0]);
            add(&mut header, &length.to_be_bytes());
            // The identification.
            add_unknown(&mut header, 2);
            // Linux does not let what it sends be cut, but for echo replies.
            if packet.may_fragment {
                add_unknown(&mut header, 1);
            } else {
                add(&mut header, &[0x40]);
            }
            add(&mut header, &[0, packet.ttl, number]);
            // The checksum.
            add_unknown(&mut header, 2);
            add_address(&mut header, packet.src, 4);
            add_address(&mut header, Some(packet.dst), 4);
            header
        }
        IpAddr::V6(_) => ipv6_header(packet.src, Some(packet.dst), packet.length, number, packet.ttl),
    }
}

fn ipv6_header(src: Option<IpAddr>, dst: Option<IpAddr>, length: u32, next: u8, hops: u8) -> Header {
    let length = u16::try_from(length.saturating_sub(40)).unwrap_or(u16::MAX);
    let mut header = Header::new();
    add(&mut header, &[0x60]);
    // The flow label.
    add_unknown(&mut header, 3);
    add(&mut header, &length.to_be_bytes());
    add(&mut header, &[next, hops]);
    add_address(&mut header, src, 16);
    add_address(&mut header, dst, 16);
    header
}

fn transport_header(packet: &Packet) -> Header {
    let mut header = Header::new();
    match packet.protocol {
        Protocol::Icmp if packet.too_big => {
            let (kind, code) = if packet.family() == Family::Ipv4 { (3, 4) } else { (2, 0) };
            add(&mut header, &[kind, code]);
        }
        Protocol::Icmp => {
            let kind = match (packet.family(), packet.reply) {
                (Family::Ipv4, false) => 8,
                (Family::Ipv4, true) => 0,
                (Family::Ipv6, false) => 128,
                (Family::Ipv6, true) => 129,
            };
            add(&mut header, &[kind, 0]);
        }
        Protocol::Tcp | Protocol::Udp => {
            add(&mut header, &packet.source_port.to_be_bytes());
            add(&mut header, &packet.destination_port.to_be_bytes());
            if packet.protocol == Protocol::Tcp {
                const SYN: u8 = 0x02;
                const ACK: u8 = 0x10;
                // Sequence numbers, and how long the header is.
                add_unknown(&mut header, 9);
                add(&mut header, &[if packet.reply { SYN | ACK } else { SYN }]);
            }
        }
    }
    header
}
