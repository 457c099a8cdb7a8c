//! The names of what rules ask for, and constants as nft(8) writes them.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::super::{Loaded, NatStep, PortChoice, RuleStep, Stored};
use crate::{Family, IfName, LinkState};

/// What a constant is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind<'r> {
    Ipv4,
    Ipv6,
    Ethernet,
    Port,
    Protocol,
    IcmpType,
    Icmpv6Type,
    Name,
    Mark,
    NetworkFamily,
    EtherType,
    PacketType,
    Hardware,
    AddressType,
    Presence,
    ArpOperation,
    Dscp,
    /// The first byte of an IP header: two numbers of four bits.
    FirstByte(Family),
    /// Bits with names, in the byte order of the machine.
    Bits(&'static [(u32, &'static str)]),
    /// A number in the byte order of the network.
    Number,
    /// One in that of the machine.
    OwnNumber,
    /// An interface by its number, and those that the node has.
    Interface(Links<'r>),
    Bytes,
}

/// The interfaces of the node that a rule is of, if they are known.
pub(super) type Links<'r> = Option<&'r BTreeMap<IfName, LinkState>>;

const STATES: &[(u32, &str)] = &[(1, "invalid"), (2, "established"), (4, "related"), (8, "new"), (64, "untracked")];
const STATUS: &[(u32, &str)] =
    &[(1, "expected"), (2, "seen-reply"), (4, "assured"), (8, "confirmed"), (16, "snat"), (32, "dnat"), (512, "dying")];
const TCP_FLAGS: &[(u32, &str)] = &[
    (0x01, "fin"),
    (0x02, "syn"),
    (0x04, "rst"),
    (0x08, "psh"),
    (0x10, "ack"),
    (0x20, "urg"),
    (0x40, "ecn"),
    (0x80, "cwr"),
];
const PROTOCOLS: &[(u32, &str)] = &[
    (1, "icmp"),
    (2, "igmp"),
    (6, "tcp"),
    (17, "udp"),
    (33, "dccp"),
    (47, "gre"),
    (50, "esp"),
    (51, "ah"),
    (58, "ipv6-icmp"),
    (108, "comp"),
    (132, "sctp"),
    (136, "udplite"),
];
const ICMP: &[(u32, &str)] = &[
    (0, "echo-reply"),
    (3, "destination-unreachable"),
    (4, "source-quench"),
    (5, "redirect"),
    (8, "echo-request"),
    (9, "router-advertisement"),
    (10, "router-solicitation"),
    (11, "time-exceeded"),
    (12, "parameter-problem"),
    (13, "timestamp-request"),
    (14, "timestamp-reply"),
];
const ICMPV6: &[(u32, &str)] = &[
    (1, "destination-unreachable"),
    (2, "packet-too-big"),
    (3, "time-exceeded"),
    (4, "parameter-problem"),
    (128, "echo-request"),
    (129, "echo-reply"),
    (130, "mld-listener-query"),
    (131, "mld-listener-report"),
    (132, "mld-listener-done"),
    (133, "nd-router-solicit"),
    (134, "nd-router-advert"),
    (135, "nd-neighbor-solicit"),
    (136, "nd-neighbor-advert"),
    (137, "nd-redirect"),
    (143, "mld2-listener-report"),
];
const FAMILIES: &[(u32, &str)] = &[(2, "ipv4"), (10, "ipv6")];
const ETHER_TYPES: &[(u32, &str)] =
    &[(0x0800, "ip"), (0x0806, "arp"), (0x86dd, "ip6"), (0x8100, "8021q"), (0x88a8, "8021ad")];
const PACKET_TYPES: &[(u32, &str)] = &[(0, "host"), (1, "broadcast"), (2, "multicast"), (3, "other")];
const ADDRESS_TYPES: &[(u32, &str)] = &[
    (0, "unspec"),
    (1, "unicast"),
    (2, "local"),
    (3, "broadcast"),
    (4, "anycast"),
    (5, "multicast"),
    (6, "blackhole"),
    (7, "unreachable"),
    (8, "prohibit"),
];
const HARDWARE: &[(u32, &str)] = &[(1, "ether"), (772, "loopback")];
const ARP_OPERATIONS: &[(u32, &str)] = &[(1, "request"), (2, "reply")];
const PRESENCE: &[(u32, &str)] = &[(0, "missing"), (1, "exists")];
const DSCP: &[(u32, &str)] = &[
    (0x00, "cs0"),
    (0x08, "cs1"),
    (0x10, "cs2"),
    (0x18, "cs3"),
    (0x20, "cs4"),
    (0x28, "cs5"),
    (0x30, "cs6"),
    (0x38, "cs7"),
    (0x0a, "af11"),
    (0x12, "af21"),
    (0x1a, "af31"),
    (0x22, "af41"),
    (0x2e, "ef"),
];

/// What `meta` and `ct` ask for.
pub(super) fn loaded<'r>(what: &Loaded, links: Links<'r>) -> (String, Kind<'r>) {
    let (name, kind) = match what {
        Loaded::Layer4Protocol => ("meta l4proto", Kind::Protocol),
        Loaded::NetworkFamily => ("meta nfproto", Kind::NetworkFamily),
        Loaded::EtherType => ("meta protocol", Kind::EtherType),
        Loaded::Length => ("meta length", Kind::OwnNumber),
        Loaded::InputIndex => ("iif", Kind::Interface(links)),
        Loaded::OutputIndex => ("oif", Kind::Interface(links)),
        Loaded::InputName => ("iifname", Kind::Name),
        Loaded::OutputName => ("oifname", Kind::Name),
        Loaded::InputType => ("meta iiftype", Kind::Hardware),
        Loaded::OutputType => ("meta oiftype", Kind::Hardware),
        Loaded::InputKind => ("meta iifkind", Kind::Name),
        Loaded::OutputKind => ("meta oifkind", Kind::Name),
        Loaded::BridgeInputName => ("meta ibrname", Kind::Name),
        Loaded::BridgeOutputName => ("meta obrname", Kind::Name),
        Loaded::PacketType => ("meta pkttype", Kind::PacketType),
        Loaded::Mark => ("meta mark", Kind::Mark),
        Loaded::ConnectionState => ("ct state", Kind::Bits(STATES)),
        Loaded::ConnectionStatus => ("ct status", Kind::Bits(STATUS)),
        Loaded::ConnectionMark => ("ct mark", Kind::Mark),
        Loaded::ConnectionDirection => ("ct direction", Kind::Number),
        Loaded::Extension { asked: true, .. } => (what.own_name().unwrap_or_default(), Kind::Presence),
        Loaded::Extension { .. } | Loaded::Other(_) => (what.own_name().unwrap_or_default(), Kind::Bytes),
    };
    (name.to_owned(), kind)
}

type Field = Option<(&'static str, Kind<'static>)>;

/// A field of the Ethernet header.
pub(super) fn ethernet(offset: u32, length: u32) -> Field {
    match (offset, length) {
        (0, 6) => Some(("ether daddr", Kind::Ethernet)),
        (6, 6) => Some(("ether saddr", Kind::Ethernet)),
        (12, 2) => Some(("ether type", Kind::EtherType)),
        _ => None,
    }
}

/// A field of the IP header. Of an address, the first bytes may be all that is asked for.
pub(super) fn network(ip: Option<Family>, arp: bool, offset: u32, length: u32) -> Field {
    if arp || ip.is_none() {
        return match (offset, length) {
            (0, 2) => Some(("arp htype", Kind::Number)),
            (2, 2) => Some(("arp ptype", Kind::EtherType)),
            (4, 1) => Some(("arp hlen", Kind::Number)),
            (5, 1) => Some(("arp plen", Kind::Number)),
            (6, 2) => Some(("arp operation", Kind::ArpOperation)),
            (8, 6) => Some(("arp saddr ether", Kind::Ethernet)),
            (14, 4) => Some(("arp saddr ip", Kind::Ipv4)),
            (18, 6) => Some(("arp daddr ether", Kind::Ethernet)),
            (24, 4) => Some(("arp daddr ip", Kind::Ipv4)),
            _ => None,
        };
    }
    match (ip?, offset, length) {
        (ip, 0, 1) => Some(("@nh,0,8", Kind::FirstByte(ip))),
        (Family::Ipv4, 12, 1..=4) => Some(("ip saddr", Kind::Ipv4)),
        (Family::Ipv4, 16, 1..=4) => Some(("ip daddr", Kind::Ipv4)),
        (Family::Ipv4, 9, 1) => Some(("ip protocol", Kind::Protocol)),
        (Family::Ipv4, 8, 1) => Some(("ip ttl", Kind::Number)),
        (Family::Ipv4, 2, 2) => Some(("ip length", Kind::Number)),
        (Family::Ipv4, 4, 2) => Some(("ip id", Kind::Number)),
        (Family::Ipv4, 6, 2) => Some(("ip frag-off", Kind::Number)),
        (Family::Ipv4, 1, 1) => Some(("ip dscp", Kind::Dscp)),
        (Family::Ipv6, 8, 1..=16) => Some(("ip6 saddr", Kind::Ipv6)),
        (Family::Ipv6, 24, 1..=16) => Some(("ip6 daddr", Kind::Ipv6)),
        (Family::Ipv6, 6, 1) => Some(("ip6 nexthdr", Kind::Protocol)),
        (Family::Ipv6, 7, 1) => Some(("ip6 hoplimit", Kind::Number)),
        (Family::Ipv6, 4, 2) => Some(("ip6 length", Kind::Number)),
        _ => None,
    }
}

/// A field of the header above, of a protocol.
pub(super) fn transport(above: Option<u8>, offset: u32, length: u32) -> Field {
    Some(match (above, offset, length) {
        (Some(6), 0, 2) => ("tcp sport", Kind::Port),
        (Some(6), 2, 2) => ("tcp dport", Kind::Port),
        (Some(6), 13, 1) => ("tcp flags", Kind::Bits(TCP_FLAGS)),
        (Some(17), 0, 2) => ("udp sport", Kind::Port),
        (Some(17), 2, 2) => ("udp dport", Kind::Port),
        (Some(132), 0, 2) => ("sctp sport", Kind::Port),
        (Some(132), 2, 2) => ("sctp dport", Kind::Port),
        (Some(1), 0, 1) => ("icmp type", Kind::IcmpType),
        (Some(1), 1, 1) => ("icmp code", Kind::Number),
        (Some(58), 0, 1) => ("icmpv6 type", Kind::Icmpv6Type),
        (Some(58), 1, 1) => ("icmpv6 code", Kind::Number),
        (None, 0, 2) => ("th sport", Kind::Port),
        (None, 2, 2) => ("th dport", Kind::Port),
        _ => return None,
    })
}

/// The field that one half of the first byte of an IP header is, and what it is compared with.
pub(super) fn half(ip: Family, mask: &[u8], with: &[u8]) -> Option<(&'static str, u8)> {
    let &[with] = with else { return None };
    match (ip, mask) {
        (Family::Ipv4, [0xf0]) => Some(("ip version", with >> 4)),
        (Family::Ipv4, [0x0f]) => Some(("ip hdrlength", with)),
        (Family::Ipv6, [0xf0]) => Some(("ip6 version", with >> 4)),
        _ => None,
    }
}

/// How a port is chosen, behind where it goes to.
pub(super) fn how(choice: PortChoice) -> String {
    let words = [
        (PortChoice::RANDOM, "random"),
        (PortChoice::FULLY_RANDOM, "fully-random"),
        (PortChoice::PERSISTENT, "persistent"),
    ];
    let said: Vec<&str> = words.into_iter().filter(|(bit, _)| choice.flags & bit != 0).map(|(_, word)| word).collect();
    if said.is_empty() { String::new() } else { format!(" {}", said.join(",")) }
}

/// What a step takes from registers, one behind the other.
pub(super) fn taken(step: &RuleStep) -> Vec<Kind<'static>> {
    match step {
        RuleStep::Store { what: Stored::Mark | Stored::ConnectionMark, .. } => vec![Kind::Mark],
        RuleStep::Redirect { port: Some(_), .. } => vec![Kind::Port],
        RuleStep::Nat(NatStep { family, address, port, .. }) => {
            let kind = if *family == Family::Ipv4 { Kind::Ipv4 } else { Kind::Ipv6 };
            [address.map(|_| kind), port.map(|_| Kind::Port)].into_iter().flatten().collect()
        }
        _ => Vec::new(),
    }
}

/// The bytes of a number that is one less.
pub(super) fn before(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for byte in bytes.iter_mut().rev() {
        let (less, borrows) = byte.overflowing_sub(1);
        *byte = less;
        if !borrows {
            break;
        }
    }
    bytes
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn own_number(bytes: &[u8]) -> u64 {
    let mut bytes = bytes.to_vec();
    if cfg!(target_endian = "little") {
        bytes.reverse();
    }
    number(&bytes)
}

fn named(names: &[(u32, &str)], number: u64) -> String {
    let known = names.iter().find(|(known, _)| u64::from(*known) == number);
    known.map_or_else(|| number.to_string(), |(_, name)| (*name).to_owned())
}

fn padded<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut whole = [0; N];
    for (to, from) in whole.iter_mut().zip(bytes) {
        *to = *from;
    }
    whole
}

/// Of an address the first bytes are a prefix.
fn shortened(text: String, length: usize, whole: usize) -> String {
    if length < whole { format!("{text}/{}", length * 8) } else { text }
}

impl Kind<'_> {
    /// A constant.
    pub(super) fn text(self, bytes: &[u8]) -> String {
        match self {
            Kind::Ipv4 => {
                let text = Ipv4Addr::from(padded::<4>(bytes)).to_string();
                shortened(text, bytes.len(), 4)
            }
            Kind::Ipv6 => {
                let text = Ipv6Addr::from(padded::<16>(bytes)).to_string();
                shortened(text, bytes.len(), 16)
            }
            Kind::Ethernet => bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":"),
            Kind::Port | Kind::Number => number(bytes).to_string(),
            Kind::OwnNumber => own_number(bytes).to_string(),
            Kind::Interface(links) => {
                let number = own_number(bytes);
                let mut all = links.into_iter().flatten();
                let found = all.find(|(_, link)| u64::from(link.index) == number);
                found.map_or_else(|| number.to_string(), |(dev, _)| format!("\"{dev}\""))
            }
            Kind::Protocol => named(PROTOCOLS, number(bytes)),
            Kind::IcmpType => named(ICMP, number(bytes)),
            Kind::Icmpv6Type => named(ICMPV6, number(bytes)),
            Kind::NetworkFamily => named(FAMILIES, number(bytes)),
            Kind::EtherType => named(ETHER_TYPES, number(bytes)),
            Kind::PacketType => named(PACKET_TYPES, number(bytes)),
            Kind::Hardware => named(HARDWARE, own_number(bytes)),
            Kind::AddressType => named(ADDRESS_TYPES, own_number(bytes)),
            Kind::ArpOperation => named(ARP_OPERATIONS, number(bytes)),
            Kind::Presence => named(PRESENCE, own_number(bytes)),
            // The upper six bits of the byte.
            Kind::Dscp => named(DSCP, number(bytes) >> 2),
            Kind::Mark => format!("0x{:08x}", own_number(bytes)),
            Kind::Name => {
                let end = bytes.iter().position(|byte| *byte == 0);
                let name = String::from_utf8_lossy(&bytes[..end.unwrap_or(bytes.len())]).into_owned();
                // What is compared with the beginning alone stands for any rest.
                if end.is_none() && bytes.len() < 16 { format!("\"{name}*\"") } else { format!("\"{name}\"") }
            }
            Kind::Bits(names) => {
                let value = own_number(bytes);
                let set: Vec<&str> =
                    names.iter().filter(|(bit, _)| value & u64::from(*bit) != 0).map(|(_, name)| *name).collect();
                if set.is_empty() { format!("0x{value:x}") } else { set.join(",") }
            }
            Kind::Bytes | Kind::FirstByte(_) => {
                bytes.iter().fold("0x".to_owned(), |text, byte| format!("{text}{byte:02x}"))
            }
        }
    }

    /// From one constant to another; as one, or as a prefix, where it is that.
    pub(super) fn range(self, first: &[u8], last: &[u8]) -> String {
        if first == last {
            return self.text(first);
        }
        if matches!(self, Kind::Ipv4 | Kind::Ipv6) && first.len() == last.len() {
            let differ: Vec<u8> = first.iter().zip(last).map(|(first, last)| !(first ^ last)).collect();
            let is_whole = first
                .iter()
                .zip(last)
                .zip(&differ)
                .all(|((first, last), same)| first & !same == 0 && last & !same == !same);
            if let Some(length) = self.prefix_of(&differ).filter(|_| is_whole) {
                return format!("{}/{length}", self.text(first));
            }
        }
        if self == Kind::Name {
            // A prefix of names is one up to the next name that does not begin so.
            let end = first.iter().position(|byte| *byte == 0).unwrap_or(first.len());
            return self.text(&first[..end]);
        }
        format!("{}-{}", self.text(first), self.text(last))
    }

    /// The length of the prefix that a mask of an address keeps.
    pub(super) fn prefix_of(self, mask: &[u8]) -> Option<u32> {
        if !matches!(self, Kind::Ipv4 | Kind::Ipv6) {
            return None;
        }
        let length = mask.iter().map(|byte| byte.count_ones()).sum::<u32>();
        let leading = mask.iter().take_while(|byte| **byte == u8::MAX).count();
        let rest = mask.get(leading).copied().unwrap_or_default();
        let is_prefix =
            rest.leading_ones() == rest.count_ones() && mask.iter().skip(leading + 1).all(|byte| *byte == 0);
        is_prefix.then_some(length)
    }

    /// How many it has; `None`: any number.
    pub(super) fn bytes(self) -> Option<usize> {
        match self {
            Kind::Ipv4 | Kind::Mark => Some(4),
            Kind::Ipv6 => Some(16),
            Kind::Port => Some(2),
            _ => None,
        }
    }

    /// Behind a turn of its byte order.
    pub(super) fn turned(self) -> Self {
        match self {
            Kind::OwnNumber => Kind::Number,
            Kind::Number => Kind::OwnNumber,
            other => other,
        }
    }

    /// Bytes that compare as the numbers do.
    pub(super) fn in_order(self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        if cfg!(target_endian = "little")
            && matches!(self, Kind::Bits(_) | Kind::OwnNumber | Kind::Interface(_) | Kind::Mark)
        {
            bytes.reverse();
        }
        bytes
    }
}
