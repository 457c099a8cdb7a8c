//! A socket outside to which anybody may send: a published port of UDP.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::sockopt;

use super::calls::{receive, send_from_to, set_option};

/// A socket that tells to which of its network's addresses a datagram was sent, so that the answer comes from there.
#[derive(Debug)]
pub struct Datagrams(OwnedFd);

impl Datagrams {
    /// Binds a socket of the address's family. Nobody shares the port with it.
    ///
    /// # Errors
    /// Those of bind(2).
    pub fn bind(socket: OwnedFd, addr: SocketAddr) -> io::Result<Self> {
        if addr.is_ipv6() {
            sockopt::set_ipv6_v6only(&socket, true)?;
            set_option(socket.as_fd(), libc::SOL_IPV6, libc::IPV6_RECVORIGDSTADDR, 1)?;
        } else {
            set_option(socket.as_fd(), libc::SOL_IP, libc::IP_RECVORIGDSTADDR, 1)?;
        }
        rustix::net::bind(&socket, &addr)?;
        Ok(Datagrams(socket))
    }

    /// The next datagram: its length, from whom and to which address. `None`: there is none.
    ///
    /// # Errors
    /// Those of recvmsg(2).
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<(usize, SocketAddr, SocketAddr)>> {
        match receive(&self.0, buffer, 0) {
            Ok(received) => Ok(received.from.zip(received.to).map(|(from, to)| (received.length, from, to))),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Answers, from the address to which it was sent.
    ///
    /// # Errors
    /// Those of sendmsg(2).
    pub fn send(&self, payload: &[u8], from: SocketAddr, to: SocketAddr) -> io::Result<()> {
        send_from_to(&self.0, payload, from.ip(), to)
    }
}

impl AsFd for Datagrams {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn an_answer_comes_from_where_the_question_went() {
        for (any, there) in [("0.0.0.0:0", "127.0.0.7"), ("[::]:0", "::1")] {
            let socket = UdpSocket::bind(any).unwrap();
            let port = socket.local_addr().unwrap().port();
            drop(socket);
            let any: SocketAddr = SocketAddr::new(any.parse::<SocketAddr>().unwrap().ip(), port);
            let socket =
                if any.is_ipv4() { rustix::net::AddressFamily::INET } else { rustix::net::AddressFamily::INET6 };
            let socket = rustix::net::socket(socket, rustix::net::SocketType::DGRAM, None).unwrap();
            let server = Datagrams::bind(socket, any).unwrap();
            let client = UdpSocket::bind((if any.is_ipv4() { "127.0.0.1" } else { "::1" }, 0)).unwrap();
            let there = SocketAddr::new(there.parse().unwrap(), port);
            client.send_to(b"question", there).unwrap();
            let mut buffer = [0; 16];
            let (length, from, to) = server.receive(&mut buffer).unwrap().unwrap();
            assert_eq!((&buffer[..length], from, to), (&b"question"[..], client.local_addr().unwrap(), there));
            server.send(b"answer", to, from).unwrap();
            let (length, from) = client.recv_from(&mut buffer).unwrap();
            assert_eq!((&buffer[..length], from), (&b"answer"[..], there));
            assert_eq!(server.receive(&mut buffer).unwrap(), None);
        }
    }
}
