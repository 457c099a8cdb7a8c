//! Echo requests (ping; RFC 792, RFC 4443) of a sandbox: taken in at the gate, sent again outside.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use hopyard_net::Family;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, ipproto, sockopt};

use super::calls::{option, receive, set_filter, set_option};
use super::frame::{EchoEnds, IcmpError};
use crate::icmp::internet_checksum;

const ECHO: u8 = 8;
const ECHO_REPLY: u8 = 0;
const ECHO6: u8 = 128;
const ECHO6_REPLY: u8 = 129;
/// Type, code, checksum, identifier, sequence number.
const HEADER_BYTES: usize = 8;
/// ip(7): fragment where it has to be; never.
const PMTUDISC_DONT: i32 = 0;
const PMTUDISC_DO: i32 = 2;

/// A socket for echo requests, where the network lets the caller have one: by its group (`ping_group_range`, icmp(7)),
/// or by a right to raw sockets.
///
/// # Errors
/// `EACCES` or `EPERM`: it lets him have neither.
pub(crate) fn open_client(family: Family) -> rustix::io::Result<OwnedFd> {
    use rustix::io::Errno;
    match open(family, SocketType::DGRAM) {
        Err(Errno::ACCESS | Errno::PERM | Errno::PROTONOSUPPORT) => open(family, SocketType::RAW),
        opened => opened,
    }
}

fn open(family: Family, kind: SocketType) -> rustix::io::Result<OwnedFd> {
    let (domain, protocol) = match family {
        Family::Ipv4 => (AddressFamily::INET, ipproto::ICMP),
        Family::Ipv6 => (AddressFamily::INET6, ipproto::ICMPV6),
    };
    rustix::net::socket_with(domain, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, Some(protocol))
}

/// One that a process of the sandbox has sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EchoRequest {
    /// Who is in it.
    pub ends: EchoEnds,
    /// How many routers it may pass.
    pub hop_limit: u8,
    /// May it be cut into fragments?
    pub fragments: bool,
    /// What is to come back.
    pub payload: Vec<u8>,
}

/// A raw socket of the gate, which takes echo requests in, and whole: whatever fragments they came in.
pub(super) fn open_gate(family: Family) -> io::Result<OwnedFd> {
    let socket = open(family, SocketType::RAW)?;
    pass_alone(&socket, family, if family == Family::Ipv4 { ECHO } else { ECHO6 })?;
    if family == Family::Ipv6 {
        for wanted in [libc::IPV6_RECVPKTINFO, libc::IPV6_RECVHOPLIMIT, libc::IPV6_RECVFRAGSIZE] {
            set_option(socket.as_fd(), libc::SOL_IPV6, wanted, 1)?;
        }
    }
    Ok(socket)
}

/// The next request that such a socket has. What is none is passed over.
pub(super) fn take(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<Option<EchoRequest>> {
    loop {
        let received = match receive(socket, buffer, 0) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            received => received?,
        };
        let Some(from) = received.from else { continue };
        let bytes = &buffer[..received.length];
        let request = if from.is_ipv4() {
            of_ipv4(bytes)
        } else {
            let hop_limit = received.hop_limit.unwrap_or(u8::MAX);
            received.to.and_then(|to| message(bytes, ECHO6, from.ip(), to.ip(), hop_limit, received.is_fragmented))
        };
        if request.is_some() {
            return Ok(request);
        }
    }
}

/// A raw socket of IPv4 gives the header, too.
fn of_ipv4(packet: &[u8]) -> Option<EchoRequest> {
    const DONT_FRAGMENT: u8 = 0x40;
    let (icmp, header) = behind_ipv4(packet)?;
    let address = |at: usize| Some(IpAddr::V4(Ipv4Addr::from(*header.get(at..)?.first_chunk::<4>()?)));
    let fragments = header.get(6)? & DONT_FRAGMENT == 0;
    message(icmp, ECHO, address(12)?, address(16)?, *header.get(8)?, fragments)
}

fn behind_ipv4(packet: &[u8]) -> Option<(&[u8], &[u8])> {
    let (header, icmp) = packet.split_at_checked((usize::from(packet.first()? & 0x0f) * 4).max(20))?;
    Some((icmp, header))
}

fn message(icmp: &[u8], kind: u8, from: IpAddr, to: IpAddr, hop_limit: u8, fragments: bool) -> Option<EchoRequest> {
    let (header, payload) = icmp.split_at_checked(HEADER_BYTES)?;
    if header[0] != kind || header[1] != 0 {
        return None;
    }
    let number = |at: usize| Some(u16::from_be_bytes(*header.get(at..)?.first_chunk::<2>()?));
    let ends = EchoEnds { from: SocketAddr::new(from, number(4)?), to, sequence: number(6)? };
    Some(EchoRequest { ends, hop_limit, fragments, payload: payload.to_vec() })
}

/// Lets only one type of ICMP message come to a raw socket.
fn pass_alone(socket: &OwnedFd, family: Family, kind: u8) -> io::Result<()> {
    /// `ICMP_FILTER` (linux/icmp.h) and `ICMPV6_FILTER` (linux/icmpv6.h): of what is blocked the bit is set.
    const FILTER: i32 = 1;
    match family {
        Family::Ipv4 => set_filter(socket.as_fd(), libc::SOL_RAW, FILTER, &!(1_u32 << kind)),
        Family::Ipv6 => {
            let mut blocked = [u32::MAX; 8];
            blocked[usize::from(kind >> 5)] &= !(1 << (kind & 31));
            set_filter(socket.as_fd(), libc::IPPROTO_ICMPV6, FILTER, &blocked)
        }
    }
}

/// A socket outside, by which requests of one sender go to one host.
#[derive(Debug)]
pub struct EchoClient {
    socket: OwnedFd,
    to: IpAddr,
    /// The identifier, where the kernel does not choose it: of a raw socket.
    raw: Option<u16>,
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EchoHeard {
    /// The echo.
    Reply {
        /// The number of the request.
        sequence: u16,
        /// The hop limit with which it came.
        hop_limit: u8,
        /// Where in the buffer its payload is.
        payload: Range<usize>,
    },
    /// An error.
    Error {
        /// The number of the request.
        sequence: u16,
        /// What was said of it.
        error: IcmpError,
    },
}

impl EchoClient {
    /// Takes a socket of an agent's for that.
    ///
    /// # Errors
    /// No way leads there.
    pub fn connect(socket: OwnedFd, to: IpAddr) -> io::Result<Self> {
        let family = Family::of(to);
        let (level, errors, hop_limit) = match family {
            Family::Ipv4 => (libc::SOL_IP, libc::IP_RECVERR, libc::IP_RECVTTL),
            Family::Ipv6 => (libc::SOL_IPV6, libc::IPV6_RECVERR, libc::IPV6_RECVHOPLIMIT),
        };
        set_option(socket.as_fd(), level, errors, 1)?;
        set_option(socket.as_fd(), level, hop_limit, 1)?;
        let raw = if sockopt::socket_type(&socket)? == SocketType::RAW {
            pass_alone(&socket, family, if family == Family::Ipv4 { ECHO_REPLY } else { ECHO6_REPLY })?;
            Some(random_identifier())
        } else {
            None
        };
        rustix::net::connect(&socket, &SocketAddr::new(to, 0))?;
        Ok(EchoClient { socket, to, raw })
    }

    /// The size of the packets that reach the host whole, as far as it is known.
    ///
    /// # Errors
    /// Those of getsockopt(2).
    pub fn mtu(&self) -> io::Result<u32> {
        path_mtu(&self.socket, Family::of(self.to))
    }

    /// Sends a request on.
    ///
    /// # Errors
    /// The kernel's: `EMSGSIZE` if it is longer than the way allows, and may not be cut.
    pub fn send(&self, request: &EchoRequest) -> io::Result<()> {
        let (level, hops, discover, kind) = match self.to {
            IpAddr::V4(_) => (libc::SOL_IP, libc::IP_TTL, libc::IP_MTU_DISCOVER, ECHO),
            IpAddr::V6(_) => (libc::SOL_IPV6, libc::IPV6_UNICAST_HOPS, libc::IPV6_MTU_DISCOVER, ECHO6),
        };
        set_option(self.socket.as_fd(), level, hops, i32::from(request.hop_limit.max(1)))?;
        let cut = if request.fragments { PMTUDISC_DONT } else { PMTUDISC_DO };
        set_option(self.socket.as_fd(), level, discover, cut)?;
        let mut packet = Vec::with_capacity(HEADER_BYTES + request.payload.len());
        packet.extend([kind, 0, 0, 0]);
        packet.extend(self.raw.unwrap_or(0).to_be_bytes());
        packet.extend(request.ends.sequence.to_be_bytes());
        packet.extend(&request.payload);
        if self.raw.is_some() && self.to.is_ipv4() {
            // Of the others the kernel makes it.
            let sum = internet_checksum(&packet);
            packet[2..4].copy_from_slice(&sum.to_be_bytes());
        }
        // What a socket says first may be of a request before, and is in its queue of errors as well.
        self.send_bytes(&packet).or_else(|_| self.send_bytes(&packet))
    }

    fn send_bytes(&self, packet: &[u8]) -> io::Result<()> {
        match rustix::net::send(&self.socket, packet, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            // As on every other network, what does not fit is lost.
            Ok(_) | Err(rustix::io::Errno::AGAIN | rustix::io::Errno::NOBUFS) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// What came; `None`: nothing more.
    ///
    /// # Errors
    /// Those of recvmsg(2).
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<EchoHeard>> {
        loop {
            match receive(&self.socket, buffer, libc::MSG_ERRQUEUE) {
                Ok(received) => {
                    let Some((kind, code, info)) = received.error.and_then(|error| error.icmp) else { continue };
                    let from = received.error.and_then(|error| error.from);
                    let Some(sequence) = self.own_request(&buffer[..received.length]) else { continue };
                    if let Some(error) = IcmpError::passed_on(self.to, kind, code, info, from) {
                        return Ok(Some(EchoHeard::Error { sequence, error }));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        loop {
            match receive(&self.socket, buffer, 0) {
                Ok(received) => {
                    let is_from_there = received.from.is_some_and(|from| from.ip() == self.to);
                    if let Some(heard) = self.reply(&buffer[..received.length], received.hop_limit)
                        && is_from_there
                    {
                        return Ok(Some(heard));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                // It is in the queue of errors as well, from which it comes the next time.
                Err(_) => return Ok(None),
            }
        }
    }

    /// The number of a request of ours that an error quotes. All raw sockets that have sent to a host get the errors.
    fn own_request(&self, quoted: &[u8]) -> Option<u16> {
        let kind = if self.to.is_ipv4() { ECHO } else { ECHO6 };
        self.numbered(quoted, kind)
    }

    fn reply(&self, packet: &[u8], hop_limit: Option<u8>) -> Option<EchoHeard> {
        let (icmp, kind) = match self.to {
            IpAddr::V4(_) if self.raw.is_some() => (behind_ipv4(packet)?.0, ECHO_REPLY),
            IpAddr::V4(_) => (packet, ECHO_REPLY),
            IpAddr::V6(_) => (packet, ECHO6_REPLY),
        };
        let sequence = self.numbered(icmp, kind)?;
        let payload = packet.len() - icmp.len() + HEADER_BYTES..packet.len();
        Some(EchoHeard::Reply { sequence, hop_limit: hop_limit.unwrap_or(u8::MAX), payload })
    }

    /// The sequence number of a message of that type, if it is of ours.
    fn numbered(&self, icmp: &[u8], kind: u8) -> Option<u16> {
        let [found, _, _, _, a, b, c, d] = *icmp.first_chunk::<HEADER_BYTES>()?;
        let is_ours = self.raw.is_none_or(|own| own == u16::from_be_bytes([a, b]));
        (found == kind && is_ours).then_some(u16::from_be_bytes([c, d]))
    }
}

impl AsFd for EchoClient {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// One that no other ping of this machine is likely to have at the moment.
fn random_identifier() -> u16 {
    use std::hash::{BuildHasher, Hasher};
    let [a, b, ..] = std::hash::RandomState::new().build_hasher().finish().to_ne_bytes();
    u16::from_ne_bytes([a, b])
}

/// The size of the packets that a connected socket can send whole to its peer, as far as it is known.
///
/// # Errors
/// Those of getsockopt(2).
pub fn path_mtu(socket: impl AsFd, family: Family) -> io::Result<u32> {
    /// linux/in.h, linux/in6.h
    const IP_MTU: i32 = 14;
    const IPV6_MTU: i32 = 24;
    let mtu = match family {
        Family::Ipv4 => option(socket.as_fd(), libc::SOL_IP, IP_MTU)?,
        Family::Ipv6 => option(socket.as_fd(), libc::SOL_IPV6, IPV6_MTU)?,
    };
    u32::try_from(mtu).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_and_what_is_cut_is_none() {
        let mut packet = vec![0x45, 0, 0, 31, 0, 0, 0x40, 0, 7, 1, 0, 0, 192, 0, 0, 2, 10, 0, 0, 1];
        packet.extend([ECHO, 0, 0, 0, 0x12, 0x34, 0, 9, b'a', b'b', b'c']);
        let request = of_ipv4(&packet).unwrap();
        assert_eq!(request.ends.from, "192.0.0.2:4660".parse().unwrap());
        assert_eq!(request.ends.to, "10.0.0.1".parse::<IpAddr>().unwrap());
        assert_eq!((request.ends.sequence, request.hop_limit, request.fragments), (9, 7, false));
        assert_eq!(request.payload, b"abc");
        for length in 0..28 {
            assert_eq!(of_ipv4(&packet[..length]), None, "{length}");
        }
        packet[20] = ECHO_REPLY;
        assert_eq!(of_ipv4(&packet), None);
    }
}
