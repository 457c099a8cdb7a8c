//! Packets as they pass the interfaces of a node, and one marked packet to look for.
//!
//! A packet socket that is bound to no interface sees what comes in before the firewall and what goes
//! out behind it: what comes in and does not go out, the node has kept. No filter is set in the kernel;
//! a lab is quiet, and the taps are open for a moment only.
#![allow(unsafe_code)]

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use hopyard_net::{Family, MacAddr};
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto, sockopt};
use rustix::thread::LinkNameSpaceType;

use crate::Realm;
use crate::icmp::internet_checksum;
use crate::links::IfIndex;

/// What a probe is made of, and what it is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The protocol, by its number in an IP header.
    pub protocol: u8,
    /// Where it comes from; the node's kernel chooses for ICMP and UDP.
    pub src: Option<IpAddr>,
    /// Where it goes.
    pub dst: IpAddr,
    /// The port that it comes from.
    pub source_port: u16,
    /// The port that it goes to.
    pub destination_port: u16,
    /// Where it goes when all nodes on its way have translated it: the same, where none does.
    pub becomes: (IpAddr, u16),
    /// In the payload, or (TCP) its first half is the sequence number.
    pub token: [u8; 8],
    /// Its length with the IP header; of a TCP segment it is fixed. It may not be cut on the way.
    pub length: u32,
}

/// A packet of interest that passed an interface: the probe, an answer to it, or a question for a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// The interface, by its number in the node.
    pub index: IfIndex,
    /// It went out; else it came in.
    pub out: bool,
    /// Its TTL or hop limit; of ARP, 0.
    pub ttl: u8,
    /// What it is.
    pub what: Sight,
}

/// What a packet of interest is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// The probe.
    Request,
    /// The answer to it.
    Reply,
    /// A TCP reset that answers it.
    Reset,
    /// The question who has an address, by ARP (RFC 826) or neighbour discovery (RFC 4861).
    WhoHas(IpAddr),
    /// The answer to it.
    IsAt(IpAddr, MacAddr),
    /// An ICMP error about the probe or, if `about_reply`, about its answer.
    Error {
        /// Who sent it.
        by: IpAddr,
        /// The type.
        kind: u8,
        /// The code.
        code: u8,
        /// Is it about the answer?
        about_reply: bool,
    },
}

/// A socket that sees all packets of a node.
#[derive(Debug)]
pub struct Tap(OwnedFd);

/// `ETH_P_ALL`, `ETH_P_IP`, `ETH_P_ARP` and `ETH_P_IPV6` (linux/if_ether.h).
const ETH_P_ALL: u16 = 3;
const ETH_P_IP: u16 = 0x0800;
const ETH_P_ARP: u16 = 0x0806;
const ETH_P_IPV6: u16 = 0x86dd;
/// `PACKET_OTHERHOST` and `PACKET_OUTGOING` (linux/if_packet.h).
const PACKET_OTHERHOST: u8 = 3;
const PACKET_OUTGOING: u8 = 4;
/// As much of a packet as it takes to know it: an ICMP error has two headers before the mark.
const SNAP_BYTES: usize = 256;

impl Tap {
    /// Opens one in each of the namespaces, in order.
    ///
    /// # Errors
    /// A namespace cannot be entered, or there is no room for so many descriptors.
    pub fn open_all(realm: &Realm, namespaces: &[BorrowedFd<'_>]) -> io::Result<Vec<Tap>> {
        realm.outside()?.run(|| {
            namespaces
                .iter()
                .map(|&namespace| {
                    rustix::thread::move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))?;
                    let protocol = NonZeroU32::new(u32::from(ETH_P_ALL.to_be())).map(Protocol::from_raw);
                    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
                    // Without the Ethernet header.
                    let kind = SocketType::DGRAM;
                    Ok(Tap(rustix::net::socket_with(AddressFamily::PACKET, kind, flags, protocol)?))
                })
                .collect()
        })?
    }

    /// Takes the next packet that belongs to one of the probes, if one is there, and says to which. A question for a
    /// neighbour, or the answer to one, belongs to none.
    ///
    /// # Errors
    /// Those of recv(2), but for `EAGAIN`.
    pub fn next(&self, marks: &[Mark]) -> io::Result<Option<(Option<usize>, Sighting)>> {
        let mut buffer = [0_u8; SNAP_BYTES];
        loop {
            // SAFETY: all zero is a valid `sockaddr_ll`, which consists of numbers.
            let mut from: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
            let mut size = libc::socklen_t::try_from(size_of_val(&from)).map_err(io::Error::other)?;
            // SAFETY: buffer and address live through the call, and their sizes are given.
            let length = unsafe {
                libc::recvfrom(
                    self.0.as_raw_fd(),
                    buffer.as_mut_ptr().cast(),
                    buffer.len(),
                    0,
                    (&raw mut from).cast(),
                    &raw mut size,
                )
            };
            let Ok(length) = usize::try_from(length) else {
                let error = io::Error::last_os_error();
                match error.kind() {
                    io::ErrorKind::WouldBlock => return Ok(None),
                    io::ErrorKind::Interrupted => continue,
                    // An interface of the node went down.
                    _ if error.raw_os_error() == Some(libc::ENETDOWN) => continue,
                    _ => return Err(error),
                }
            };
            // A switch that does not know an Ethernet address sends to all; who has another one drops it.
            if from.sll_pkttype == PACKET_OTHERHOST {
                continue;
            }
            let packet = &buffer[..length.min(SNAP_BYTES)];
            let of_probe = |(at, ttl, what)| (Some(at), ttl, what);
            let found = match u16::from_be(from.sll_protocol) {
                ETH_P_IP => recognise(marks, Family::Ipv4, packet).map(of_probe),
                ETH_P_IPV6 => {
                    let of_none = || discovery(packet).map(|(ttl, what)| (None, ttl, what));
                    recognise(marks, Family::Ipv6, packet).map(of_probe).or_else(of_none)
                }
                ETH_P_ARP => arp(packet).map(|what| (None, 0, what)),
                _ => continue,
            };
            if let Some((whose, ttl, what)) = found {
                let index = from.sll_ifindex.cast_unsigned();
                let out = from.sll_pkttype == PACKET_OUTGOING;
                return Ok(Some((whose, Sighting { index, out, ttl, what })));
            }
        }
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// To be closed, [`close_together`](crate::close_together) where there are several.
impl From<Tap> for OwnedFd {
    fn from(tap: Tap) -> Self {
        tap.0
    }
}

/// A packet that is too long is refused or answered, rather than cut; whatever the kernel remembers of the path.
fn forbid_fragments(socket: BorrowedFd<'_>, family: Family) -> io::Result<()> {
    // `IP_PMTUDISC_PROBE` and `IPV6_PMTUDISC_PROBE` are the same.
    let options: &[(i32, i32, i32)] = match family {
        Family::Ipv4 => &[(libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE)],
        Family::Ipv6 => &[
            (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE),
            (libc::IPPROTO_IPV6, libc::IPV6_DONTFRAG, 1),
        ],
    };
    for (level, option, value) in options {
        let size = libc::socklen_t::try_from(size_of_val(value)).map_err(io::Error::other)?;
        // SAFETY: the value is an int that lives through the call, and its size is given.
        let result =
            unsafe { libc::setsockopt(socket.as_raw_fd(), *level, *option, std::ptr::from_ref(value).cast(), size) };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// A packet's headers.
struct Parts<'a> {
    ttl: u8,
    protocol: u8,
    src: IpAddr,
    rest: &'a [u8],
}

fn parts(family: Family, packet: &[u8]) -> Option<Parts<'_>> {
    match family {
        Family::Ipv4 => {
            let header: &[u8; 20] = packet.first_chunk()?;
            let at =
                |start: usize| Ipv4Addr::new(header[start], header[start + 1], header[start + 2], header[start + 3]);
            let rest = packet.get(usize::from(header[0] & 0x0f) * 4..)?;
            Some(Parts { ttl: header[8], protocol: header[9], src: at(12).into(), rest })
        }
        Family::Ipv6 => {
            let header: &[u8; 40] = packet.first_chunk()?;
            let at = |start: usize| -> Option<Ipv6Addr> {
                header.get(start..)?.first_chunk::<16>().copied().map(Ipv6Addr::from)
            };
            let rest = packet.get(40..)?;
            Some(Parts { ttl: header[7], protocol: header[6], src: at(8)?.into(), rest })
        }
    }
}

/// Of which of the probes this is a packet, or about which; its TTL, and what it is. It begins with its IP header.
pub(crate) fn recognise(marks: &[Mark], family: Family, packet: &[u8]) -> Option<(usize, u8, Sight)> {
    let parts = parts(family, packet)?;
    let of_one = |parts: &Parts<'_>| {
        let known = |(at, mark)| Some((at, known(mark, family, parts)?));
        marks.iter().enumerate().find_map(known)
    };
    if let Some((at, what)) = of_one(&parts) {
        return Some((at, parts.ttl, what));
    }
    let (is_icmp, errors) = match family {
        Family::Ipv4 => (parts.protocol == 1, [3, 5, 11, 12]),
        Family::Ipv6 => (parts.protocol == 58, [1, 2, 3, 4]),
    };
    let (&kind, &code) = (parts.rest.first()?, parts.rest.get(1)?);
    if !is_icmp || !errors.contains(&kind) {
        return None;
    }
    let (at, quoted) = of_one(&self::parts(family, parts.rest.get(8..)?)?)?;
    let about_reply = quoted != Sight::Request;
    Some((at, parts.ttl, Sight::Error { by: parts.src, kind, code, about_reply }))
}

/// RFC 826, for IPv4 over Ethernet.
fn arp(packet: &[u8]) -> Option<Sight> {
    const ETHERNET_IPV4: [u8; 6] = [0, 1, 8, 0, 6, 4];
    let packet: &[u8; 28] = packet.first_chunk()?;
    if !packet.starts_with(&ETHERNET_IPV4) {
        return None;
    }
    let addr = |at: usize| IpAddr::from(Ipv4Addr::new(packet[at], packet[at + 1], packet[at + 2], packet[at + 3]));
    match packet[7] {
        1 => Some(Sight::WhoHas(addr(24))),
        2 => Some(Sight::IsAt(addr(14), MacAddr::from_bytes(*packet.get(8..)?.first_chunk()?))),
        _ => None,
    }
}

/// RFC 4861, sections 4.3 and 4.4: a solicitation, or an advertisement with the address of the link.
fn discovery(packet: &[u8]) -> Option<(u8, Sight)> {
    const SOLICITATION: u8 = 135;
    const ADVERTISEMENT: u8 = 136;
    const TARGET_LINK_ADDRESS: [u8; 2] = [2, 1];
    let parts = parts(Family::Ipv6, packet)?;
    let target = || parts.rest.get(8..)?.first_chunk::<16>().copied().map(Ipv6Addr::from).map(IpAddr::from);
    match (parts.protocol, *parts.rest.first()?) {
        (58, SOLICITATION) => Some((parts.ttl, Sight::WhoHas(target()?))),
        (58, ADVERTISEMENT) => {
            let option = parts.rest.get(24..)?.strip_prefix(&TARGET_LINK_ADDRESS)?;
            Some((parts.ttl, Sight::IsAt(target()?, MacAddr::from_bytes(*option.first_chunk()?))))
        }
        _ => None,
    }
}

/// Is it the probe, or an answer?
fn known(mark: &Mark, family: Family, parts: &Parts<'_>) -> Option<Sight> {
    if parts.protocol != mark.protocol || Family::of(mark.dst) != family {
        return None;
    }
    let rest = parts.rest;
    let ports = || Some((u16::from_be_bytes(*rest.first_chunk()?), u16::from_be_bytes(*rest.get(2..)?.first_chunk()?)));
    let number = |at: usize| rest.get(at..)?.first_chunk().copied().map(u32::from_be_bytes);
    match parts.protocol {
        1 | 58 => {
            let marked = rest.get(8..)?.starts_with(&mark.token);
            match (*rest.first()?, family) {
                (8, Family::Ipv4) | (128, Family::Ipv6) if marked => Some(Sight::Request),
                (0, Family::Ipv4) | (129, Family::Ipv6) if marked => Some(Sight::Reply),
                _ => None,
            }
        }
        6 => {
            const RESET: u8 = 0x04;
            let sequence = mark.sequence();
            let flags = rest.get(13).copied().unwrap_or_default();
            let (from, to) = ports()?;
            // By its number: who translates may give it any port to come from (`masquerade random`).
            if mark.is_port(from) && number(8)? == sequence.wrapping_add(1) {
                return Some(if flags & RESET == 0 { Sight::Reply } else { Sight::Reset });
            }
            // The sender's own reset of the connection that it does not know is no probe.
            (mark.is_port(to) && number(4)? == sequence && flags & RESET == 0).then_some(Sight::Request)
        }
        17 => match ports()? {
            (_, to) if mark.is_port(to) && rest.get(8..)?.starts_with(&mark.token) => Some(Sight::Request),
            (from, to) if to == mark.source_port => {
                let answers = [(mark.dst, mark.destination_port), mark.becomes].contains(&(parts.src, from));
                answers.then_some(Sight::Reply)
            }
            _ => None,
        },
        _ => None,
    }
}

impl Mark {
    /// Is it the port that the probe goes to, before or behind a translation?
    fn is_port(&self, port: u16) -> bool {
        port == self.destination_port || port == self.becomes.1
    }

    pub(crate) fn sequence(&self) -> u32 {
        let [a, b, c, d, ..] = self.token;
        u32::from_be_bytes([a, b, c, d])
    }

    /// Sends the probe from inside of a namespace. A TCP probe is a first segment that no socket of
    /// the node has sent: the node resets the connection when it is answered, and no program is bothered.
    ///
    /// Returns the socket, which is to be kept until the answer is there.
    ///
    /// # Errors
    /// The kernel's: `ENETUNREACH` where there is no route, `EPERM` where the firewall drops it.
    pub fn send(&self, realm: &Realm, namespace: BorrowedFd<'_>) -> io::Result<OwnedFd> {
        let socket = Self::open_all(realm, &[(namespace, *self)])?.pop();
        let socket = socket.unwrap_or_else(|| Err(io::ErrorKind::NotFound.into()))?;
        self.send_by(socket.as_fd())?;
        Ok(socket)
    }

    /// Opens the sockets by which probes are sent, in order, each inside of its namespace. The inner error: that one is
    /// refused. Of ICMP and TCP one socket serves all probes of a namespace that come from one address.
    ///
    /// # Errors
    /// A namespace cannot be entered.
    pub fn open_all(realm: &Realm, wanted: &[(BorrowedFd<'_>, Mark)]) -> io::Result<Vec<io::Result<OwnedFd>>> {
        realm.outside()?.run(|| {
            let open = |&(namespace, mark): &(BorrowedFd<'_>, Mark)| {
                rustix::thread::move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))?;
                Ok(mark.open_here())
            };
            wanted.iter().map(open).collect()
        })?
    }

    /// Which of the probes that a socket has sent has been answered, and the answer come through to it? The next one, if
    /// there is one. A tap sees it before the firewall does.
    ///
    /// # Errors
    /// Those of recv(2), but for `EAGAIN`.
    pub fn next_answer<'m>(
        socket: BorrowedFd<'_>,
        marks: &(impl Iterator<Item = (usize, &'m Mark)> + Clone),
    ) -> io::Result<Option<usize>> {
        let mut buffer = [0_u8; SNAP_BYTES];
        loop {
            let length = match rustix::net::recv(socket, &mut buffer, RecvFlags::empty()) {
                Ok((length, _)) => length,
                Err(rustix::io::Errno::AGAIN) => return Ok(None),
                // An ICMP error about the probe, or a signal.
                Err(rustix::io::Errno::INTR | rustix::io::Errno::HOSTUNREACH | rustix::io::Errno::NETUNREACH) => {
                    continue;
                }
                Err(rustix::io::Errno::CONNREFUSED | rustix::io::Errno::ACCESS) => continue,
                Err(errno) => return Err(errno.into()),
            };
            let packet = &buffer[..length.min(SNAP_BYTES)];
            let answers = |mark: &Mark| {
                let what = match Family::of(mark.dst) {
                    Family::Ipv4 => parts(Family::Ipv4, packet).and_then(|parts| known(mark, Family::Ipv4, &parts)),
                    // A raw socket of IPv6 gives no IP header.
                    Family::Ipv6 => {
                        let parts = Parts { ttl: 0, protocol: mark.protocol, src: mark.dst, rest: packet };
                        known(mark, Family::Ipv6, &parts)
                    }
                };
                matches!(what, Some(Sight::Reply | Sight::Reset))
            };
            if let Some((at, _)) = marks.clone().find(|(_, mark)| answers(mark)) {
                return Ok(Some(at));
            }
        }
    }

    fn unspecified(&self) -> IpAddr {
        match self.dst {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        }
    }

    fn open_here(&self) -> io::Result<OwnedFd> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let family = Family::of(self.dst);
        let domain = if family == Family::Ipv4 { AddressFamily::INET } else { AddressFamily::INET6 };
        let (kind, protocol) = match self.protocol {
            1 => (SocketType::RAW, ipproto::ICMP),
            58 => (SocketType::RAW, ipproto::ICMPV6),
            6 => (SocketType::RAW, ipproto::TCP),
            _ => (SocketType::DGRAM, ipproto::UDP),
        };
        let socket = rustix::net::socket_with(domain, kind, flags, Some(protocol))?;
        forbid_fragments(socket.as_fd(), family)?;
        match (self.protocol, self.src) {
            (1 | 58, _) => {}
            // A link-local one would need its interface; the kernel chooses it again.
            (6, Some(IpAddr::V6(src))) if src.is_unicast_link_local() => {}
            (6, src) => rustix::net::bind(&socket, &SocketAddr::new(src.unwrap_or(self.unspecified()), 0))?,
            _ => {
                sockopt::set_socket_reuseaddr(&socket, true)?;
                rustix::net::bind(&socket, &SocketAddr::new(self.unspecified(), self.source_port))?;
            }
        }
        Ok(socket)
    }

    /// Sends the probe by a socket that [`open_all`](Self::open_all) has opened for it, or for one like it.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn send_by(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        let (packet, port) = match self.protocol {
            1 => (self.echo(8), 0),
            58 => (self.echo(128), 0),
            6 => (self.first_segment(self.src.unwrap_or(self.unspecified())), 0),
            _ => (self.filled(self.token.to_vec(), 8), self.destination_port),
        };
        rustix::net::sendto(socket, &packet, SendFlags::empty(), &SocketAddr::new(self.dst, port))?;
        Ok(())
    }

    fn echo(&self, kind: u8) -> Vec<u8> {
        let mut packet = vec![kind, 0, 0, 0];
        packet.extend(&self.token[4..]);
        packet.extend(self.token);
        packet = self.filled(packet, 0);
        if kind == 8 {
            // Of ICMPv6 the kernel makes the checksum.
            let sum = internet_checksum(&packet);
            packet[2..4].copy_from_slice(&sum.to_be_bytes());
        }
        packet
    }

    /// Zeros up to the length of the whole; `header` is what comes between this and the IP header.
    fn filled(&self, mut packet: Vec<u8>, header: usize) -> Vec<u8> {
        let ip = if self.dst.is_ipv4() { 20 } else { 40 };
        let length = usize::try_from(self.length).unwrap_or(usize::MAX).saturating_sub(ip + header);
        packet.resize(length.max(packet.len()), 0);
        packet
    }

    /// RFC 9293: a SYN with one option, the maximum segment size.
    fn first_segment(&self, src: IpAddr) -> Vec<u8> {
        const SYN: u8 = 0x02;
        const WORDS: u8 = 6;
        let mut segment = self.source_port.to_be_bytes().to_vec();
        segment.extend(self.destination_port.to_be_bytes());
        segment.extend(self.sequence().to_be_bytes());
        segment.extend([0; 4]);
        segment.extend([WORDS << 4, SYN]);
        segment.extend(u16::MAX.to_be_bytes());
        segment.extend([0; 4]);
        segment.extend([2, 4]);
        segment.extend(1460_u16.to_be_bytes());
        let length = u16::try_from(segment.len()).unwrap_or_default();
        let mut summed = Vec::new();
        for addr in [src, self.dst] {
            match addr {
                IpAddr::V4(addr) => summed.extend(addr.octets()),
                IpAddr::V6(addr) => summed.extend(addr.octets()),
            }
        }
        // The sum is the same with the longer fields of IPv6, which are zero in front.
        summed.extend([0, self.protocol]);
        summed.extend(length.to_be_bytes());
        summed.extend(&segment);
        let sum = internet_checksum(&summed);
        segment[16..18].copy_from_slice(&sum.to_be_bytes());
        segment
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(protocol: u8) -> Mark {
        Mark {
            protocol,
            src: Some("10.0.0.1".parse().unwrap()),
            dst: "10.0.0.2".parse().unwrap(),
            source_port: 4000,
            destination_port: 80,
            becomes: ("10.0.0.2".parse().unwrap(), 80),
            token: *b"\x01\x02\x03\x04hopy",
            length: 44,
        }
    }

    fn ipv4(protocol: u8, src: [u8; 4], dst: [u8; 4], rest: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 61, protocol, 0, 0];
        packet.extend(src);
        packet.extend(dst);
        packet.extend(rest);
        packet
    }

    #[test]
    fn a_probe_its_answer_and_errors_about_it_are_known() {
        let icmp = mark(1);
        let request = ipv4(1, [10, 0, 0, 1], [10, 0, 0, 2], &icmp.echo(8));
        assert_eq!(recognise(&[icmp], Family::Ipv4, &request), Some((0, 61, Sight::Request)));
        let mut reply = request.clone();
        reply[20] = 0;
        assert_eq!(recognise(&[icmp], Family::Ipv4, &reply), Some((0, 61, Sight::Reply)));
        let error = ipv4(1, [10, 0, 0, 9], [10, 0, 0, 1], &[&[3, 1, 0, 0, 0, 0, 0, 0], &request[..]].concat());
        let by = "10.0.0.9".parse().unwrap();
        let what = Sight::Error { by, kind: 3, code: 1, about_reply: false };
        assert_eq!(recognise(&[icmp], Family::Ipv4, &error), Some((0, 61, what)));
        let other = Mark { token: *b"\x01\x02\x03\x04xxxx", ..icmp };
        assert_eq!(recognise(&[other], Family::Ipv4, &request), None);
        // Of many, the one that it is of.
        assert_eq!(recognise(&[other, icmp], Family::Ipv4, &error), Some((1, 61, what)));
        for length in 0..error.len() {
            // Cut anywhere, it is known or not, and no panic.
            recognise(&[icmp], Family::Ipv4, &error[..length]);
        }
    }

    #[test]
    fn questions_for_neighbours_are_known() {
        let mut question = vec![0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 2];
        assert_eq!(arp(&question), Some(Sight::WhoHas("10.0.0.2".parse().unwrap())));
        question[7] = 2;
        let mac = "02:00:00:00:00:01".parse().unwrap();
        assert_eq!(arp(&question), Some(Sight::IsAt("10.0.0.1".parse().unwrap(), mac)));
        assert_eq!(arp(&question[..27]), None);

        let target: Ipv6Addr = "fd00::2".parse().unwrap();
        let mut packet = vec![0x60, 0, 0, 0, 0, 32, 58, 255];
        packet.extend([0; 32]);
        packet.extend([135, 0, 0, 0, 0, 0, 0, 0]);
        packet.extend(target.octets());
        assert_eq!(discovery(&packet), Some((255, Sight::WhoHas(target.into()))));
        packet[40] = 136;
        packet.extend([2, 1]);
        packet.extend(mac.bytes());
        assert_eq!(discovery(&packet), Some((255, Sight::IsAt(target.into(), mac))));
        for length in 0..packet.len() {
            discovery(&packet[..length]);
        }
    }

    #[test]
    fn a_first_segment_is_answered_by_its_sequence_number() {
        let tcp = mark(6);
        let segment = tcp.first_segment(tcp.src.unwrap());
        let request = ipv4(6, [10, 0, 0, 1], [10, 0, 0, 2], &segment);
        assert_eq!(recognise(&[tcp], Family::Ipv4, &request), Some((0, 61, Sight::Request)));
        let answer = |flags: u8| {
            let mut segment = [80_u16.to_be_bytes(), 4000_u16.to_be_bytes()].concat();
            segment.extend([0; 4]);
            segment.extend(0x0102_0305_u32.to_be_bytes());
            segment.extend([0x50, flags]);
            ipv4(6, [10, 0, 0, 2], [10, 0, 0, 1], &segment)
        };
        assert_eq!(recognise(&[tcp], Family::Ipv4, &answer(0x12)), Some((0, 61, Sight::Reply)));
        assert_eq!(recognise(&[tcp], Family::Ipv4, &answer(0x14)), Some((0, 61, Sight::Reset)));
    }
}
