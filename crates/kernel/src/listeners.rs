//! Sockets that wait for packets, by sock_diag(7), which the codec crate does not have.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hopyard_net::{Family, Listener};
use netlink_packet_core::NlasIterator;

use crate::Errno;
use crate::error::Refusal;
use crate::netlink::{Answers, Batch, Inbox, RtSocket, Step};

/// `SOCK_DIAG_BY_FAMILY` (linux/sock_diag.h).
const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// `INET_DIAG_SKV6ONLY` (linux/inet_diag.h).
const INET_DIAG_SKV6ONLY: u16 = 11;
/// The size of `struct inet_diag_msg`.
const MESSAGE_BYTES: usize = 72;
/// States as bits: `TCP_LISTEN`; and `TCP_CLOSE`, which a UDP socket has that is not connected.
const LISTENS: u32 = 1 << 10;
const UNCONNECTED: u32 = 1 << 7;

/// All of the network namespace that the calling thread is in. `None`: this kernel cannot be asked (it lacks, and may
/// not load, the modules `tcp_diag` and `udp_diag`).
pub(crate) fn read(inbox: &mut Inbox) -> Result<Option<Vec<Listener>>, Refusal> {
    let socket = RtSocket::open_for(Some(rustix::net::netlink::SOCK_DIAG))?;
    let mut found = Vec::new();
    for (protocol, states) in [(libc::IPPROTO_TCP, LISTENS), (libc::IPPROTO_UDP, UNCONNECTED)] {
        for family in [libc::AF_INET, libc::AF_INET6] {
            let mut batch = Batch::default();
            batch.push_bytes(1, SOCK_DIAG_BY_FAMILY, super::netlink::DUMP, &request(family, protocol, states));
            let tcp = protocol == libc::IPPROTO_TCP;
            let before = found.len();
            let asked = socket.converse(&batch, super::netlink::DUMP, inbox, &mut |step| {
                match step {
                    Step::Anew => found.truncate(before),
                    Step::Message(bytes) => {
                        found.extend(Answers(bytes).filter_map(|answer| listener(answer.payload, tcp)));
                    }
                }
                Ok(())
            });
            match asked {
                Err(refusal) if refusal.errno == Errno::NOENT => return Ok(None),
                asked => asked?,
            }
        }
    }
    found.sort();
    found.dedup();
    Ok(Some(found))
}

/// `struct inet_diag_req_v2`.
fn request(family: i32, protocol: i32, states: u32) -> Vec<u8> {
    /// The size of `struct inet_diag_sockid`: all zero, which is any.
    const ID_BYTES: usize = 48;
    // Families and protocols have one byte.
    let byte = |number: i32| u8::try_from(number).unwrap_or_default();
    let mut body = vec![byte(family), byte(protocol), 0, 0];
    body.extend(states.to_ne_bytes());
    body.extend([0; ID_BYTES]);
    body
}

/// Reads `struct inet_diag_msg` and what follows it.
fn listener(payload: &[u8], tcp: bool) -> Option<Listener> {
    let family = match i32::from(*payload.first()?) {
        libc::AF_INET => Family::Ipv4,
        libc::AF_INET6 => Family::Ipv6,
        _ => return None,
    };
    let port = u16::from_be_bytes(*payload.get(4..)?.first_chunk()?);
    let local: [u8; 16] = *payload.get(8..)?.first_chunk()?;
    let addr: IpAddr = match family {
        Family::Ipv4 => Ipv4Addr::new(local[0], local[1], local[2], local[3]).into(),
        Family::Ipv6 => Ipv6Addr::from(local).into(),
    };
    let device = u32::from_ne_bytes(*payload.get(40..)?.first_chunk()?);
    let only_ipv6 = NlasIterator::new(payload.get(MESSAGE_BYTES..).unwrap_or_default())
        .flatten()
        .any(|attribute| attribute.kind() == INET_DIAG_SKV6ONLY && attribute.value().first() == Some(&1));
    Some(Listener {
        tcp,
        family,
        addr: Some(addr).filter(|addr| !addr.is_unspecified()),
        port,
        only_ipv6,
        bound_to_device: device != 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_read_and_a_cut_message_is_none() {
        let mut payload = vec![2, 10, 0, 0, 0x1f, 0x90, 0, 0, 10, 0, 0, 1];
        payload.resize(MESSAGE_BYTES, 0);
        let found = listener(&payload, true).unwrap();
        assert_eq!((found.port, found.addr), (8080, Some("10.0.0.1".parse().unwrap())));
        for length in 0..44 {
            assert_eq!(listener(&payload[..length], true), None);
        }
    }
}
