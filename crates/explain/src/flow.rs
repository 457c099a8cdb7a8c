//! The packets of one flow in one direction, and the rule of nftables that accepts them and no others.

use std::fmt;
use std::net::IpAddr;

use hopyard_net::{Family, Loaded, RuleStep, RuleVerdict};
use serde::Serialize;

use crate::{Packet, Protocol};

/// From one address to another, of one protocol, and one port where that has any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Flow {
    /// From there
    pub src: IpAddr,
    /// to there.
    pub dst: IpAddr,
    /// What is in the packets.
    pub protocol: Protocol,
    /// The port of the service; of an echo, nothing. The other one is another for each connection.
    pub port: u16,
    /// Is the port the one that they come from?
    pub answers: bool,
    /// They are errors: that a packet was too long (RFC 1191, RFC 8201).
    pub too_big: bool,
}

/// What is known of the headers (linux/netfilter/nf_tables.h, RFC 791, RFC 8200, RFC 9293).
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;

impl Flow {
    /// That of a packet, as it is in one place. `None`: it has no source yet.
    pub(crate) fn of(packet: &Packet) -> Option<Self> {
        let Packet { src, dst, protocol, reply, too_big, .. } = *packet;
        let port = match (protocol, reply) {
            (Protocol::Icmp, _) => 0,
            (_, false) => packet.destination_port,
            (_, true) => packet.source_port,
        };
        Some(Flow { src: src?, dst, protocol, port, answers: reply, too_big })
    }

    /// The steps of a rule that accepts it in a table of a family, as nft(8) makes them.
    pub(crate) fn accept(&self, table_family: &str) -> Vec<RuleStep> {
        let mut steps = Vec::new();
        let family = Family::of(self.dst);
        let which = match (table_family, family) {
            // The table sees no other.
            ("ip" | "ip6", _) => None,
            // `NFPROTO_IPV4`, `NFPROTO_IPV6`
            ("inet", Family::Ipv4) => Some((Loaded::NetworkFamily, vec![2])),
            ("inet", Family::Ipv6) => Some((Loaded::NetworkFamily, vec![10])),
            // `ETH_P_IP`, `ETH_P_IPV6`
            (_, Family::Ipv4) => Some((Loaded::EtherType, vec![0x08, 0x00])),
            (_, Family::Ipv6) => Some((Loaded::EtherType, vec![0x86, 0xdd])),
        };
        if let Some((what, with)) = which {
            steps.push(RuleStep::Load { register: 1, what });
            steps.push(RuleStep::equal(with));
        }
        let (length, source, destination) = match family {
            Family::Ipv4 => (4, 12, 16),
            Family::Ipv6 => (16, 8, 24),
        };
        for (offset, addr) in [(source, self.src), (destination, self.dst)] {
            steps.push(RuleStep::Payload { register: 1, base: NETWORK_HEADER, offset, length });
            steps.push(RuleStep::equal(RuleStep::octets(addr)));
        }
        steps.push(RuleStep::Load { register: 1, what: Loaded::Layer4Protocol });
        steps.push(RuleStep::equal(vec![self.protocol.number(family)]));
        if self.too_big {
            let (kind, code) = if family == Family::Ipv4 { (3, Some(4)) } else { (2, None) };
            for (offset, value) in [(0, Some(kind)), (1, code)] {
                let Some(value) = value else { continue };
                steps.push(RuleStep::Payload { register: 1, base: TRANSPORT_HEADER, offset, length: 1 });
                steps.push(RuleStep::equal(vec![value]));
            }
        }
        if self.protocol != Protocol::Icmp {
            let offset = if self.answers { 0 } else { 2 };
            steps.push(RuleStep::Payload { register: 1, base: TRANSPORT_HEADER, offset, length: 2 });
            steps.push(RuleStep::equal(self.port.to_be_bytes().to_vec()));
        }
        steps.push(RuleStep::Verdict(RuleVerdict::Accept));
        steps
    }
}

impl fmt::Display for Flow {
    /// What a rule says that matches it: nft(8).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Flow { src, dst, protocol, port, answers, too_big } = self;
        let (ip, icmp) = match Family::of(*dst) {
            Family::Ipv4 => ("ip", "icmp"),
            Family::Ipv6 => ("ip6", "icmpv6"),
        };
        write!(f, "{ip} saddr {src} {ip} daddr {dst} ")?;
        match protocol {
            _ if *too_big && dst.is_ipv4() => f.write_str("icmp type destination-unreachable icmp code frag-needed"),
            _ if *too_big => f.write_str("icmpv6 type packet-too-big"),
            Protocol::Icmp => write!(f, "meta l4proto {icmp}"),
            _ => write!(f, "{} {} {port}", protocol.name(), if *answers { "sport" } else { "dport" }),
        }
    }
}

#[cfg(test)]
mod tests {
    use hopyard_net::{Chain, Rule, Ruleset};

    use super::*;

    /// What is typed is what is tried in the model.
    #[test]
    fn the_steps_read_as_the_command_does() {
        let four = (IpAddr::from([10, 0, 1, 2]), IpAddr::from([10, 0, 3, 2]));
        let six = (IpAddr::from([0xfd00, 1, 0, 0, 0, 0, 0, 2]), IpAddr::from([0xfd00, 3, 0, 0, 0, 0, 0, 2]));
        for (family, (src, dst)) in [
            ("ip", four),
            ("inet", four),
            ("inet", six),
            ("ip6", six),
            ("bridge", four),
            ("bridge", six),
            ("netdev", six),
        ] {
            for (protocol, answers, too_big) in [
                (Protocol::Icmp, false, false),
                (Protocol::Tcp, false, false),
                (Protocol::Udp, true, false),
                (Protocol::Icmp, false, true),
            ] {
                let flow = Flow { src, dst, protocol, port: 80, answers, too_big };
                let chain = Chain {
                    family: family.to_owned(),
                    table: "fw".to_owned(),
                    name: "c".to_owned(),
                    base: None,
                    rules: Vec::new(),
                };
                let text = Ruleset::default().text_of(&chain, &Rule { handle: 1, steps: flow.accept(family) });
                // nft(8) takes both names, and lists the one of the protocol.
                let text = text.replace("ipv6-icmp", "icmpv6").replace("icmp code 4", "icmp code frag-needed");
                // Which nft(8) says by itself.
                let text =
                    text.replace("meta l4proto icmp icmp ", "icmp ").replace("meta l4proto icmpv6 icmpv6 ", "icmpv6 ");
                assert_eq!(text, format!("{flow} accept"), "{family}");
            }
        }
    }
}
