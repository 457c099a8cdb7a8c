//! Ethernet frames between a sandbox and its gate: what comes is told apart, what goes back is made.
//!
//! Pure. A frame that is not understood is nothing, and nothing is what becomes of it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::icmp::internet_checksum;

type Mac = [u8; 6];

/// The gate's end of the link, and the sandbox's.
pub(super) const GATE_MAC: Mac = [0x02, 0x68, 0x6f, 0x70, 0, 1];
pub(super) const SANDBOX_MAC: Mac = [0x02, 0x68, 0x6f, 0x70, 0, 2];
/// The sender of a frame that the gate lets pass. No process of the sandbox can send by this name: it has
/// no right to a packet socket.
pub(super) const PASS_MAC: Mac = [0x02, 0x68, 0x6f, 0x70, 0, 3];

const ETHERNET_BYTES: usize = 14;
const IPV4: [u8; 2] = [0x08, 0x00];
const IPV6: [u8; 2] = [0x86, 0xdd];
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const FRAGMENT: u8 = 44;
const ICMP6: u8 = 58;
const TTL: u8 = 64;
/// More does not fit through the link behind the longer of the two IP headers.
const MAX_PACKET: usize = 65_535 - 40;

/// What a frame of the sandbox is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Somebody wants a TCP connection.
    Connect {
        /// Who.
        from: SocketAddr,
        /// With whom.
        to: SocketAddr,
    },
    /// A packet of a protocol that passes no sandbox, to one destination.
    Other {
        /// Where it should go.
        to: IpAddr,
        /// The protocol, by its number in an IP header.
        protocol: u8,
    },
}

/// Why something was not reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreachable {
    /// It is forbidden.
    Prohibited,
    /// Nothing leads there.
    Network,
    /// There is nobody.
    Host,
    /// Nobody listens.
    Port,
}

/// An error of ICMP about a packet (RFC 792, RFC 4443).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpError {
    kind: u8,
    code: u8,
    /// The second word of the message.
    word: u32,
    /// Who says it; `None`: whom the packet should have reached, which tells the sandbox nothing of what is outside.
    from: Option<IpAddr>,
}

impl IcmpError {
    /// About a packet to this address.
    pub fn unreachable(to: IpAddr, why: Unreachable) -> Self {
        let (kind, code) = match (to, why) {
            (IpAddr::V4(_), Unreachable::Network) => (3, 0),
            (IpAddr::V4(_), Unreachable::Host) => (3, 1),
            (IpAddr::V4(_), Unreachable::Port) => (3, 3),
            (IpAddr::V4(_), Unreachable::Prohibited) => (3, 13),
            (IpAddr::V6(_), Unreachable::Network) => (1, 0),
            (IpAddr::V6(_), Unreachable::Prohibited) => (1, 1),
            (IpAddr::V6(_), Unreachable::Host) => (1, 3),
            (IpAddr::V6(_), Unreachable::Port) => (1, 4),
        };
        IcmpError { kind, code, word: 0, from: None }
    }

    /// The packet is longer than what the way to this address takes whole.
    pub fn too_big(to: IpAddr, mtu: u32) -> Self {
        let (kind, code) = if to.is_ipv4() { (3, 4) } else { (2, 0) };
        IcmpError { kind, code, word: mtu, from: None }
    }

    /// One from outside, if it is an error, and not advice to the sender of another kind.
    pub(super) fn passed_on(to: IpAddr, kind: u8, code: u8, info: u32, from: Option<IpAddr>) -> Option<Self> {
        let from = from.filter(|from| from.is_ipv4() == to.is_ipv4());
        match (to, kind, code) {
            (IpAddr::V4(_), 3, 4) | (IpAddr::V6(_), 2, _) => Some(IcmpError { from, ..Self::too_big(to, info) }),
            (IpAddr::V4(_), 3 | 11 | 12, _) | (IpAddr::V6(_), 1 | 3 | 4, _) => {
                Some(IcmpError { kind, code, word: 0, from })
            }
            _ => None,
        }
    }

    /// Does it say that this host is not reached, whatever is sent?
    pub fn is_unreachable(&self, to: IpAddr) -> bool {
        const TOO_BIG: u8 = 4;
        if to.is_ipv4() { self.kind == 3 && self.code != TOO_BIG } else { self.kind == 1 }
    }
}

/// Who is in an echo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EchoEnds {
    /// The sender, with the identifier of its requests as port.
    pub from: SocketAddr,
    /// Whom it means.
    pub to: IpAddr,
    /// The number of the request.
    pub sequence: u16,
}

/// The parts of an IP packet that matter.
struct Packet<'a> {
    from: IpAddr,
    to: IpAddr,
    protocol: u8,
    payload: &'a [u8],
}

fn packet(frame: &[u8]) -> Option<Packet<'_>> {
    let (kind, ip) = (frame.get(12..ETHERNET_BYTES)?, frame.get(ETHERNET_BYTES..)?);
    if kind == IPV4 {
        let header = usize::from(ip.first()? & 0x0f) * 4;
        let address = |at: usize| Some(Ipv4Addr::from(*ip.get(at..)?.first_chunk::<4>()?));
        let (from, to) = (address(12)?.into(), address(16)?.into());
        return Some(Packet { from, to, protocol: *ip.get(9)?, payload: ip.get(header.max(20)..)? });
    }
    if kind == IPV6 {
        let address = |at: usize| Some(Ipv6Addr::from(*ip.get(at..)?.first_chunk::<16>()?));
        let (from, to) = (address(8)?.into(), address(24)?.into());
        return Some(Packet { from, to, protocol: *ip.get(6)?, payload: ip.get(40..)? });
    }
    None
}

/// What a frame is, which the filter of the tap has let through.
pub(super) fn tell(frame: &[u8]) -> Option<Seen> {
    let Packet { from, to, protocol, payload } = packet(frame)?;
    match protocol {
        TCP => {
            let port = |at: usize| Some(u16::from_be_bytes(*payload.get(at..)?.first_chunk::<2>()?));
            Some(Seen::Connect { from: SocketAddr::new(from, port(0)?), to: SocketAddr::new(to, port(2)?) })
        }
        // What the kernel sends by itself to find routers and tell groups.
        _ if to.is_multicast() => None,
        // Echo requests come by another socket, and nobody answers anything else of ICMP. A fragment of IPv6 says
        // nothing of what it is of: that comes whole, or not at all.
        ICMP | ICMP6 | FRAGMENT => None,
        _ => Some(Seen::Other { to, protocol }),
    }
}

/// Makes the request for a connection one that passes.
///
/// Its checksum is made anew: the kernel leaves that to the network card, and there is none. Data that it carries (TCP Fast
/// Open) is cut off: no listener of the gate takes any, so the kernel of the sandbox sends it again, behind the request.
pub(super) fn let_pass(frame: &mut Vec<u8>) -> Option<()> {
    const CHECKSUM: usize = 16;
    let Packet { from, to, payload, .. } = packet(frame)?;
    let start = frame.len() - payload.len();
    let length = usize::from(payload.get(12)? >> 4) * 4;
    payload.get(..length.max(20))?;
    frame.truncate(start + length);
    let whole = u16::try_from(frame.len() - ETHERNET_BYTES).ok()?;
    let header = frame.get_mut(ETHERNET_BYTES..start)?;
    if from.is_ipv4() {
        header.get_mut(2..4)?.copy_from_slice(&whole.to_be_bytes());
        header.get_mut(10..12)?.fill(0);
        let sum = internet_checksum(header);
        header.get_mut(10..12)?.copy_from_slice(&sum.to_be_bytes());
    } else {
        header.get_mut(4..6)?.copy_from_slice(&u16::try_from(length).ok()?.to_be_bytes());
    }
    let segment = frame.get_mut(start..)?;
    segment.get_mut(CHECKSUM..CHECKSUM + 2)?.fill(0);
    let sum = transport_checksum(from, to, TCP, segment);
    segment.get_mut(CHECKSUM..CHECKSUM + 2)?.copy_from_slice(&sum.to_be_bytes());
    frame.get_mut(..6)?.copy_from_slice(&GATE_MAC);
    frame.get_mut(6..12)?.copy_from_slice(&PASS_MAC);
    Some(())
}

/// The answer of the network to a frame that does not arrive (RFC 792, RFC 4443).
pub(super) fn unreachable(why: Unreachable, frame: &[u8]) -> Option<Vec<u8>> {
    /// All that the minimum of an IPv4 packet has room for; more than any header.
    const QUOTED: usize = 500;
    let Packet { from, to, .. } = packet(frame)?;
    let ip = frame.get(ETHERNET_BYTES..)?;
    Some(icmp_error(IcmpError::unreachable(to, why), from, to, &ip[..ip.len().min(QUOTED)]))
}

/// The answer of the network to a datagram that does not arrive, of which only the addresses are known.
pub(super) fn datagram_error(error: IcmpError, from: SocketAddr, to: SocketAddr) -> Option<Vec<u8>> {
    let sent = datagram(from, to, &[])?;
    Some(icmp_error(error, from.ip(), to.ip(), &sent[ETHERNET_BYTES..]))
}

fn icmp_error(error: IcmpError, from: IpAddr, to: IpAddr, quoted: &[u8]) -> Vec<u8> {
    let IcmpError { kind, code, word, from: said_by } = error;
    let protocol = if from.is_ipv4() { ICMP } else { ICMP6 };
    let said_by = said_by.unwrap_or(to);
    let mut message = vec![kind, code, 0, 0];
    message.extend(word.to_be_bytes());
    message.extend(quoted);
    set_icmp_checksum(said_by, from, &mut message);
    wrap(said_by, from, protocol, TTL, &message)
}

/// Of ICMPv6 it covers also who says what to whom.
fn set_icmp_checksum(from: IpAddr, to: IpAddr, message: &mut [u8]) {
    let sum = if from.is_ipv4() { internet_checksum(message) } else { transport_checksum(from, to, ICMP6, message) };
    message[2..4].copy_from_slice(&sum.to_be_bytes());
}

/// The echo that a host outside has sent back. `None`: it is longer than a packet can be.
pub(super) fn echo_reply(request: &EchoEnds, hop_limit: u8, payload: &[u8]) -> Option<Vec<u8>> {
    echo(request.to, request.from.ip(), if request.to.is_ipv4() { 0 } else { 129 }, request, hop_limit, payload)
}

/// An error about an echo request.
pub(super) fn echo_error(request: &EchoEnds, error: IcmpError) -> Option<Vec<u8>> {
    let sent = echo(request.from.ip(), request.to, if request.to.is_ipv4() { 8 } else { 128 }, request, TTL, &[])?;
    Some(icmp_error(error, request.from.ip(), request.to, &sent[ETHERNET_BYTES..]))
}

fn echo(from: IpAddr, to: IpAddr, kind: u8, ends: &EchoEnds, hop_limit: u8, payload: &[u8]) -> Option<Vec<u8>> {
    (payload.len() <= MAX_PACKET - 8).then_some(())?;
    let mut message = vec![kind, 0, 0, 0];
    message.extend(ends.from.port().to_be_bytes());
    message.extend(ends.sequence.to_be_bytes());
    message.extend(payload);
    set_icmp_checksum(from, to, &mut message);
    Some(wrap(from, to, if from.is_ipv4() { ICMP } else { ICMP6 }, hop_limit, &message))
}

/// A datagram to the sandbox. `None`: it is longer than a packet can be.
pub(super) fn datagram(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(8 + payload.len()).ok().filter(|&length| usize::from(length) <= MAX_PACKET)?;
    let mut bytes = Vec::with_capacity(usize::from(length));
    for number in [from.port(), to.port(), length, 0] {
        bytes.extend(number.to_be_bytes());
    }
    bytes.extend(payload);
    // Of UDP, 0 means that there is none (RFC 768).
    let sum = match transport_checksum(from.ip(), to.ip(), UDP, &bytes) {
        0 => 0xffff,
        sum => sum,
    };
    bytes[6..8].copy_from_slice(&sum.to_be_bytes());
    Some(wrap(from.ip(), to.ip(), UDP, TTL, &bytes))
}

/// Puts a packet into headers of IP and of Ethernet. It is short enough.
fn wrap(from: IpAddr, to: IpAddr, protocol: u8, hop_limit: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(ETHERNET_BYTES + 40 + payload.len());
    frame.extend(SANDBOX_MAC);
    frame.extend(GATE_MAC);
    if let (IpAddr::V4(from), IpAddr::V4(to)) = (from, to) {
        let length = u16::try_from(20 + payload.len()).unwrap_or(u16::MAX);
        let mut header = vec![0x45, 0];
        header.extend(length.to_be_bytes());
        header.extend([0, 0, 0, 0, hop_limit, protocol, 0, 0]);
        header.extend(from.octets());
        header.extend(to.octets());
        let sum = internet_checksum(&header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        frame.extend(IPV4);
        frame.extend(header);
    } else {
        let length = u16::try_from(payload.len()).unwrap_or(u16::MAX);
        frame.extend(IPV6);
        frame.extend([0x60, 0, 0, 0]);
        frame.extend(length.to_be_bytes());
        frame.extend([protocol, hop_limit]);
        frame.extend(as_ipv6(from).octets());
        frame.extend(as_ipv6(to).octets());
    }
    frame.extend(payload);
    frame
}

/// Both addresses of a packet are of one family, so an IPv4 one never comes here.
fn as_ipv6(addr: IpAddr) -> Ipv6Addr {
    match addr {
        IpAddr::V4(addr) => addr.to_ipv6_mapped(),
        IpAddr::V6(addr) => addr,
    }
}

/// The checksum of what TCP, UDP and ICMPv6 cover: themselves, and who sends what to whom.
fn transport_checksum(from: IpAddr, to: IpAddr, protocol: u8, segment: &[u8]) -> u16 {
    let mut covered = Vec::with_capacity(40 + segment.len());
    for addr in [from, to] {
        match addr {
            IpAddr::V4(addr) => covered.extend(addr.octets()),
            IpAddr::V6(addr) => covered.extend(addr.octets()),
        }
    }
    covered.extend(u32::try_from(segment.len()).unwrap_or(u32::MAX).to_be_bytes());
    covered.extend([0, 0, 0, protocol]);
    covered.extend(segment);
    internet_checksum(&covered)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(text: [&str; 2]) -> [SocketAddr; 2] {
        text.map(|text| text.parse().unwrap())
    }

    /// A request for a connection as the kernel gives it, without a valid checksum.
    fn request(from: SocketAddr, to: SocketAddr) -> Vec<u8> {
        let mut segment = vec![0; 20];
        segment[..2].copy_from_slice(&from.port().to_be_bytes());
        segment[2..4].copy_from_slice(&to.port().to_be_bytes());
        segment[12] = 5 << 4;
        segment[13] = 2;
        segment[16] = 0xaa;
        wrap(from.ip(), to.ip(), TCP, TTL, &segment)
    }

    const PAIRS: [[&str; 2]; 2] = [["192.0.0.2:40000", "10.1.2.3:443"], ["[fd00::2]:40000", "[2001:db8::1]:443"]];

    #[test]
    fn a_request_is_told_and_passes_with_a_checksum() {
        for [from, to] in PAIRS.map(addresses) {
            let mut frame = request(from, to);
            assert_eq!(tell(&frame), Some(Seen::Connect { from, to }));
            let_pass(&mut frame).unwrap();
            assert_eq!(frame[6..12], PASS_MAC);
            let start = frame.len() - 20;
            // Over a segment with its checksum, the sum is 0.
            assert_eq!(transport_checksum(from.ip(), to.ip(), TCP, &frame[start..]), 0);
        }
    }

    #[test]
    fn a_short_frame_is_filled_up_and_that_does_not_count() {
        let [from, to] = addresses(PAIRS[0]);
        let mut frame = request(from, to);
        let (start, end) = (frame.len() - 20, frame.len());
        frame.resize(end + 6, 0);
        let_pass(&mut frame).unwrap();
        assert_eq!(transport_checksum(from.ip(), to.ip(), TCP, &frame[start..end]), 0);
    }

    /// As much as a tap sees of a long one.
    #[test]
    fn data_of_a_request_is_cut_off() {
        for [from, to] in PAIRS.map(addresses) {
            let mut expected = request(from, to);
            let mut frame = expected.clone();
            frame.extend([b'x'; 1500]);
            let length = u16::try_from(frame.len() - ETHERNET_BYTES + 1000).unwrap();
            let at = if from.is_ipv4() { 16 } else { 18 };
            frame[at..at + 2].copy_from_slice(&length.to_be_bytes());
            let_pass(&mut frame).unwrap();
            let_pass(&mut expected).unwrap();
            assert_eq!(frame, expected);
            let header = &frame[ETHERNET_BYTES..frame.len() - 20];
            assert!(!from.is_ipv4() || internet_checksum(header) == 0);
        }
    }

    #[test]
    fn a_datagram_has_checksums() {
        for [to, from] in PAIRS.map(addresses) {
            let frame = datagram(from, to, b"odd").unwrap();
            let packet = packet(&frame).unwrap();
            assert_eq!((packet.from, packet.to, packet.protocol), (from.ip(), to.ip(), UDP));
            assert_eq!(transport_checksum(from.ip(), to.ip(), UDP, packet.payload), 0);
            assert!(datagram(from, to, &vec![0; 65_500]).is_none());
        }
    }

    #[test]
    fn a_refusal_quotes_what_was_refused() {
        for [from, to] in PAIRS.map(addresses) {
            let sent = request(from, to);
            let answer = unreachable(Unreachable::Port, &sent).unwrap();
            let error = packet(&answer).unwrap();
            assert_eq!((error.from, error.to), (to.ip(), from.ip()));
            assert_eq!(error.payload[8..], sent[ETHERNET_BYTES..]);
            let error = IcmpError::unreachable(to.ip(), Unreachable::Prohibited);
            let answer = datagram_error(error, from, to).unwrap();
            assert_eq!(answer[..6], SANDBOX_MAC);
        }
    }

    #[test]
    fn an_echo_comes_back_with_checksums_and_an_error_by_who_says_it() {
        for ([from, to], router) in PAIRS.map(addresses).into_iter().zip(["10.9.9.9", "2001:db8::9"]) {
            let ends = EchoEnds { from, to: to.ip(), sequence: 7 };
            let answer = echo_reply(&ends, 61, b"odd").unwrap();
            let reply = packet(&answer).unwrap();
            assert_eq!((reply.from, reply.to, &reply.payload[8..]), (to.ip(), from.ip(), &b"odd"[..]));
            assert_eq!(reply.payload[4..8], [from.port().to_be_bytes(), 7_u16.to_be_bytes()].concat());
            let sum = |packet: &Packet<'_>| match packet.from {
                IpAddr::V4(_) => internet_checksum(packet.payload),
                IpAddr::V6(_) => transport_checksum(packet.from, packet.to, ICMP6, packet.payload),
            };
            assert_eq!(sum(&reply), 0);
            assert!(echo_reply(&ends, 61, &vec![0; 65_500]).is_none());
            let router: IpAddr = router.parse().unwrap();
            let (kind, code) = if router.is_ipv4() { (3, 4) } else { (2, 0) };
            let error = IcmpError::passed_on(to.ip(), kind, code, 1300, Some(router)).unwrap();
            let answer = echo_error(&ends, error).unwrap();
            let error = packet(&answer).unwrap();
            assert_eq!((error.from, error.to, sum(&error)), (router, from.ip(), 0));
            assert_eq!(error.payload[..2], [kind, code]);
            assert_eq!(error.payload[4..8], 1300_u32.to_be_bytes());
            let redirect = if router.is_ipv4() { 5 } else { 137 };
            assert_eq!(IcmpError::passed_on(to.ip(), redirect, 0, 0, Some(router)), None, "no error");
        }
    }

    #[test]
    fn what_is_cut_or_foreign_is_nothing() {
        for [from, to] in PAIRS.map(addresses) {
            let whole = request(from, to);
            for length in 0..whole.len() {
                let mut cut = whole[..length].to_vec();
                tell(&cut);
                unreachable(Unreachable::Host, &cut);
                let_pass(&mut cut);
            }
        }
        assert_eq!(tell(&[0xff; 60]), None);
    }
}
