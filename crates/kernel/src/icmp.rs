//! Echo requests from inside of namespaces (RFC 792, RFC 4443).
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use hopyard_net::Family;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto, sockopt};
use rustix::thread::LinkNameSpaceType;

use crate::Realm;

/// A socket for echo requests of one family in one namespace.
#[derive(Debug)]
pub struct EchoSocket {
    fd: OwnedFd,
    family: Family,
}

/// What came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EchoEvent {
    /// The identifier and sequence number of the request that it belongs to.
    pub token: u32,
    /// Who sent it.
    pub from: IpAddr,
    /// What it says.
    pub says: EchoSays,
}

/// What an answer to an echo request says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EchoSays {
    /// The echo.
    Reply,
    /// An ICMP error about the request: type and code.
    Error {
        /// The type: 3 or 11 of ICMP, 1 to 4 of ICMPv6.
        kind: u8,
        /// The code.
        code: u8,
    },
}

const ICMP_ECHO_REPLY: u8 = 0;
const ICMP_UNREACHABLE: u8 = 3;
const ICMP_ECHO: u8 = 8;
const ICMP_TIME_EXCEEDED: u8 = 11;
const ICMP_PARAMETER_PROBLEM: u8 = 12;
const ICMP6_ECHO: u8 = 128;
const ICMP6_ECHO_REPLY: u8 = 129;
/// `ICMP_FILTER` (linux/icmp.h) and `ICMPV6_FILTER` (linux/icmpv6.h).
const ICMP_FILTER: i32 = 1;
/// Replies of all pairs of a lab may arrive before they are read.
const RECEIVE_BUFFER_BYTES: usize = 1 << 20;

impl EchoSocket {
    /// Opens one in each of the namespaces, in order.
    ///
    /// # Errors
    /// A namespace cannot be entered, or there is no room for so many descriptors.
    pub fn open_all(realm: &Realm, wanted: &[(BorrowedFd<'_>, Family)]) -> io::Result<Vec<EchoSocket>> {
        realm.outside()?.run(|| {
            wanted
                .iter()
                .map(|&(namespace, family)| {
                    rustix::thread::move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))?;
                    EchoSocket::open(family)
                })
                .collect()
        })?
    }

    fn open(family: Family) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (domain, protocol) = match family {
            Family::Ipv4 => (AddressFamily::INET, ipproto::ICMP),
            Family::Ipv6 => (AddressFamily::INET6, ipproto::ICMPV6),
        };
        let fd = rustix::net::socket_with(domain, SocketType::RAW, flags, Some(protocol))?;
        // As far as an IP packet can go: what is asked is whether there is a way, not how long it is.
        match family {
            Family::Ipv4 => sockopt::set_ip_ttl(&fd, 255)?,
            Family::Ipv6 => sockopt::set_ipv6_unicast_hops(&fd, Some(255))?,
        }
        // A smaller buffer is no failure.
        sockopt::set_socket_recv_buffer_size(&fd, RECEIVE_BUFFER_BYTES).ok();
        let socket = EchoSocket { fd, family };
        socket.pass_answers_only()?;
        Ok(socket)
    }

    /// Without a filter every raw socket of the node would get every ICMP message that it receives.
    fn pass_answers_only(&self) -> io::Result<()> {
        match self.family {
            Family::Ipv4 => {
                let passed = [ICMP_ECHO_REPLY, ICMP_UNREACHABLE, ICMP_TIME_EXCEEDED, ICMP_PARAMETER_PROBLEM];
                let blocked = !passed.iter().fold(0_u32, |mask, kind| mask | 1 << kind);
                self.set_option(libc::SOL_RAW, &blocked)
            }
            Family::Ipv6 => {
                let mut blocked = [u32::MAX; 8];
                for kind in [1, 2, 3, 4, ICMP6_ECHO_REPLY] {
                    blocked[usize::from(kind >> 5)] &= !(1 << (kind & 31));
                }
                self.set_option(libc::IPPROTO_ICMPV6, &blocked)
            }
        }
    }

    fn set_option<T>(&self, level: i32, value: &T) -> io::Result<()> {
        let len = libc::socklen_t::try_from(size_of::<T>()).map_err(io::Error::other)?;
        // SAFETY: reads `len` bytes of `value`, which is a number or an array of numbers.
        let result = unsafe {
            libc::setsockopt(self.fd.as_raw_fd(), level, ICMP_FILTER, std::ptr::from_ref(value).cast::<c_void>(), len)
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Sends a request; its answers carry the token.
    ///
    /// # Errors
    /// The kernel's: `ENETUNREACH` where there is no route, `EAGAIN` where the queue is full.
    pub fn send(&self, to: IpAddr, token: u32, payload: &[u8]) -> io::Result<()> {
        let mut packet = Vec::with_capacity(8 + payload.len());
        let kind = if self.family == Family::Ipv4 { ICMP_ECHO } else { ICMP6_ECHO };
        packet.extend([kind, 0, 0, 0]);
        packet.extend(token.to_be_bytes());
        packet.extend(payload);
        if self.family == Family::Ipv4 {
            // Of ICMPv6 the kernel makes the checksum.
            let sum = internet_checksum(&packet);
            packet[2..4].copy_from_slice(&sum.to_be_bytes());
        }
        rustix::net::sendto(&self.fd, &packet, SendFlags::empty(), &SocketAddr::new(to, 0))?;
        Ok(())
    }

    /// Takes one answer, if one is there. What is no answer to a request is passed over.
    ///
    /// # Errors
    /// Those of recv(2), but for `EAGAIN`.
    pub fn receive(&self) -> io::Result<Option<EchoEvent>> {
        let mut buffer = [0; 2048];
        loop {
            match rustix::net::recvfrom(&self.fd, &mut buffer[..], RecvFlags::empty()) {
                Ok((_, len, from)) => {
                    let from = from.and_then(|from| SocketAddr::try_from(from).ok()).map(|from| from.ip());
                    if let Some(event) = parse(self.family, &buffer[..len], from) {
                        return Ok(Some(event));
                    }
                }
                Err(rustix::io::Errno::AGAIN) => return Ok(None),
                // A pending error of an earlier request, which its ICMP message tells as well.
                Err(rustix::io::Errno::INTR | rustix::io::Errno::HOSTUNREACH | rustix::io::Errno::NETUNREACH) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

impl AsFd for EchoSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// RFC 1071.
pub(crate) fn internet_checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = 0;
    for pair in bytes.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    // The folded sum has 16 bits.
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

/// Reads an answer. A raw ICMP socket gives the IPv4 header too, one of ICMPv6 begins with ICMPv6.
fn parse(family: Family, packet: &[u8], from: Option<IpAddr>) -> Option<EchoEvent> {
    match family {
        Family::Ipv4 => {
            let (icmp, source) = skip_ipv4_header(packet)?;
            let from = IpAddr::V4(source);
            match *icmp.first()? {
                ICMP_ECHO_REPLY => Some(EchoEvent { token: token(icmp)?, from, says: EchoSays::Reply }),
                kind => {
                    let (quoted, _) = skip_ipv4_header(icmp.get(8..)?)?;
                    let is_request = *quoted.first()? == ICMP_ECHO;
                    let says = EchoSays::Error { kind, code: *icmp.get(1)? };
                    is_request.then_some(EchoEvent { token: token(quoted)?, from, says })
                }
            }
        }
        Family::Ipv6 => {
            let from = from.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
            match *packet.first()? {
                ICMP6_ECHO_REPLY => Some(EchoEvent { token: token(packet)?, from, says: EchoSays::Reply }),
                kind => {
                    // The quoted packet: 40 bytes of header, then ICMPv6 if nothing else comes first.
                    let quoted = packet.get(8 + 40..)?;
                    let is_request = *quoted.first()? == ICMP6_ECHO;
                    let says = EchoSays::Error { kind, code: *packet.get(1)? };
                    is_request.then_some(EchoEvent { token: token(quoted)?, from, says })
                }
            }
        }
    }
}

fn skip_ipv4_header(packet: &[u8]) -> Option<(&[u8], Ipv4Addr)> {
    let len = usize::from(packet.first()? & 0x0f) * 4;
    let source: [u8; 4] = packet.get(12..16)?.try_into().ok()?;
    Some((packet.get(len..)?, source.into()))
}

fn token(icmp: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(icmp.get(4..8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_of_a_packet_with_its_checksum_is_zero() {
        let mut packet = vec![ICMP_ECHO, 0, 0, 0, 0x12, 0x34, 0xff, 0xff, 7];
        let sum = internet_checksum(&packet);
        packet[2..4].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(internet_checksum(&packet), 0);
    }

    #[test]
    fn truncated_answers_are_passed_over() {
        let mut reply = vec![0x45; 20];
        reply.extend([ICMP_ECHO_REPLY, 0, 0, 0, 1, 2, 3, 4]);
        for len in 0..reply.len() {
            assert_eq!(parse(Family::Ipv4, &reply[..len], None), None, "{len} bytes");
        }
        assert_eq!(parse(Family::Ipv4, &reply, None).map(|event| event.token), Some(0x0102_0304));
    }
}
