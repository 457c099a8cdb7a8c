//! By which bytes the packets of a probe are known to those who look with few instructions: the firewall
//! and a program in the kernel.

use crate::tap::Mark;

/// Which packet of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The probe itself.
    Packet,
    /// The answer to it.
    Reply,
    /// An ICMP error about one of them.
    Error,
}

impl Part {
    /// All of them.
    pub const ALL: [Part; 3] = [Part::Packet, Part::Reply, Part::Error];

    /// The one that goes that way.
    pub fn on_way(back: bool) -> Self {
        if back { Part::Reply } else { Part::Packet }
    }

    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Part::Packet => "packet",
            Part::Reply => "reply",
            Part::Error => "error",
        }
    }
}

/// What such a packet has behind its IP header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Signature {
    pub(crate) part: Part,
    /// Else it is IPv4.
    pub(crate) is_ipv6: bool,
    /// The protocol, by its number in the IP header.
    pub(crate) protocol: u8,
    /// From that byte on, these. Each begins at a multiple of its length, up to four.
    pub(crate) bytes: Vec<(usize, Vec<u8>)>,
}

/// Of an ICMP error: what comes before the packet that it quotes (RFC 792, RFC 4443).
const ERROR_HEADER_BYTES: usize = 8;

impl Mark {
    /// By what its packets are known. Addresses are not looked at, and of the ports only that of a sender to
    /// which a datagram is returned: nodes on the way may translate them.
    pub(crate) fn signatures(&self) -> Vec<Signature> {
        /// Types of ICMP and ICMPv6: asked, answered.
        const ECHO: [u8; 2] = [8, 0];
        const ECHO_V6: [u8; 2] = [128, 129];
        let token = self.token.to_vec();
        let [packet, reply] = match self.protocol {
            1 | 58 => {
                let types = if self.protocol == 1 { ECHO } else { ECHO_V6 };
                types.map(|kind| vec![(0, vec![kind]), (8, token.clone())])
            }
            6 => {
                let number = |more: u32| self.sequence().wrapping_add(more).to_be_bytes().to_vec();
                [vec![(4, number(0))], vec![(8, number(1))]]
            }
            _ => [vec![(8, token)], vec![(2, self.source_port.to_be_bytes().to_vec())]],
        };
        let is_ipv6 = self.dst.is_ipv6();
        let (icmp, header) = if is_ipv6 { (58, 40) } else { (1, 20) };
        let quoted = |bytes: &[(usize, Vec<u8>)]| {
            bytes.iter().map(|(at, bytes)| (ERROR_HEADER_BYTES + header + at, bytes.clone())).collect()
        };
        let errors = [quoted(&packet), quoted(&reply)];
        let whole = [(Part::Packet, packet), (Part::Reply, reply)];
        let whole = whole.map(|(part, bytes)| Signature { part, is_ipv6, protocol: self.protocol, bytes });
        let errors = errors.map(|bytes| Signature { part: Part::Error, is_ipv6, protocol: icmp, bytes });
        whole.into_iter().chain(errors).collect()
    }
}
