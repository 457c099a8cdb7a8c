//! By which bytes the packets of a probe are known to those who look with few instructions: the firewall
//! and a program in the kernel.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

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

/// What packets of several probes have in common, for those who look for all of them at once. Others may have it too, so
/// what is found is to be looked at once more.
pub(crate) fn in_common(marks: &[Mark]) -> Vec<Signature> {
    let mut kinds: BTreeMap<(u8, bool), Vec<Signature>> = BTreeMap::new();
    for mark in marks {
        let signatures = mark.signatures();
        match kinds.entry((mark.protocol, mark.dst.is_ipv6())) {
            Entry::Vacant(free) => {
                free.insert(signatures);
            }
            Entry::Occupied(mut known) => {
                for (known, other) in known.get_mut().iter_mut().zip(&signatures) {
                    known.bytes = agreeing(&known.bytes, &other.bytes);
                }
            }
        }
    }
    kinds.into_values().flatten().collect()
}

/// The bytes that are the same in both. What was one piece may become several.
fn agreeing(some: &[(usize, Vec<u8>)], other: &[(usize, Vec<u8>)]) -> Vec<(usize, Vec<u8>)> {
    let single = |pieces: &[(usize, Vec<u8>)]| -> BTreeMap<usize, u8> {
        pieces.iter().flat_map(|(at, bytes)| (*at..).zip(bytes.iter().copied())).collect()
    };
    let (some, other) = (single(some), single(other));
    let mut left: Vec<(usize, u8)> = some.into_iter().filter(|(at, byte)| other.get(at) == Some(byte)).collect();
    let mut pieces = Vec::new();
    while let Some(&(first, _)) = left.first() {
        let in_row = left.iter().zip(first..).take_while(|((at, _), wanted)| at == wanted).count();
        let fits = |length: &usize| *length <= in_row && first.is_multiple_of(*length);
        let length = [4, 2].into_iter().find(fits).unwrap_or(1);
        pieces.push((first, left.drain(..length).map(|(_, byte)| byte).collect()));
    }
    pieces
}

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

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(protocol: u8, source_port: u16, token: [u8; 8]) -> Mark {
        let dst = "10.0.0.2".parse().unwrap();
        Mark { protocol, src: None, dst, source_port, destination_port: 53, becomes: (dst, 53), token, length: 60 }
    }

    #[test]
    fn several_probes_are_known_by_what_they_have_in_common() {
        let [a, b] = [7, 9].map(|number| mark(17, 0x8000 + u16::from(number), [1, 2, 3, number, 5, 6, 7, 8]));
        assert_eq!(in_common(&[a]), a.signatures());
        let bytes: Vec<_> = in_common(&[a, b]).into_iter().map(|signature| signature.bytes).collect();
        let piece = |at: usize, bytes: &[u8]| (at, bytes.to_vec());
        let expected = [
            vec![piece(8, &[1, 2]), piece(10, &[3]), piece(12, &[5, 6, 7, 8])],
            vec![piece(2, &[0x80])],
            // Behind the headers of the error, and of the packet that it quotes.
            vec![piece(36, &[1, 2]), piece(38, &[3]), piece(40, &[5, 6, 7, 8])],
            vec![piece(30, &[0x80])],
        ];
        assert_eq!(bytes, expected);
        assert_eq!(in_common(&[a, b, mark(1, 0, a.token)]).len(), 8, "of each protocol for itself");
    }
}
