//! The standard streams: what the command keeps of the descriptors of its starter.
//!
//! A stream that was opened outside is of the network, and sees the files, outside. So it has to be one by which
//! nothing else is reached than what is at its other end.
#![allow(unsafe_code)]

use std::os::fd::BorrowedFd;

use rustix::fs::FileType;
use rustix::net::{AddressFamily, SocketType, sockopt};

/// A standard stream that would be a way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} is {kind}", self.name())]
pub struct WayOut {
    /// Its number.
    pub number: i32,
    /// What it is.
    pub kind: StreamKind,
}

impl WayOut {
    fn name(self) -> &'static str {
        match self.number {
            0 => "standard input",
            1 => "standard output",
            _ => "standard error",
        }
    }
}

/// What a stream is that cannot be let into a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamKind {
    /// `/proc/self/fd/0/…` would lead past what is covered.
    Directory,
    /// connect(2) leads one of the network to any other host, after it was dissolved by `AF_UNSPEC`; and one
    /// of unix(7) that is not connected to the abstract sockets outside.
    Socket,
    /// A pidfd, a namespace, an epoll instance, a ring of io_uring.
    Other,
}

impl std::fmt::Display for StreamKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            StreamKind::Directory => "a directory, and the command would reach by it what a sandbox covers",
            StreamKind::Socket => "a socket of the network outside, and the command could connect it to others there",
            StreamKind::Other => "neither a file, a pipe, a device nor one end of a pair of sockets",
        })
    }
}

/// Looks at the three streams.
pub(super) fn check() -> Result<(), WayOut> {
    for number in 0..=2 {
        // SAFETY: used for a few calls; if nothing is open by that number, the first one says so.
        let stream = unsafe { BorrowedFd::borrow_raw(number) };
        if let Some(kind) = way_out(stream) {
            return Err(WayOut { number, kind });
        }
    }
    Ok(())
}

fn way_out(stream: BorrowedFd<'_>) -> Option<StreamKind> {
    /// linux/magic.h, linux/pidfs.h: the files of these are no files.
    const NSFS: u64 = 0x6e73_6673;
    const PIDFS: u64 = 0x5049_4446;
    let stat = rustix::fs::fstat(stream).ok()?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Fifo | FileType::CharacterDevice | FileType::BlockDevice => None,
        FileType::RegularFile => {
            #[allow(
                clippy::cast_sign_loss,
                clippy::unnecessary_cast,
                reason = "its type differs between architectures"
            )]
            let of = rustix::fs::fstatfs(stream).map(|system| system.f_type as u64);
            matches!(of, Ok(NSFS | PIDFS)).then_some(StreamKind::Other)
        }
        FileType::Directory => Some(StreamKind::Directory),
        FileType::Socket => (!is_end_of_a_pair(stream)).then_some(StreamKind::Socket),
        _ => Some(StreamKind::Other),
    }
}

/// A connected stream of unix(7) stays connected to whom it is.
fn is_end_of_a_pair(socket: BorrowedFd<'_>) -> bool {
    let is_stream = matches!(sockopt::socket_type(socket), Ok(SocketType::STREAM | SocketType::SEQPACKET));
    sockopt::socket_domain(socket) == Ok(AddressFamily::UNIX) && is_stream && rustix::net::getpeername(socket).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::fd::AsFd;
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

    #[test]
    fn what_leads_to_one_peer_passes() {
        let (a, b) = UnixStream::pair().unwrap();
        let (reader, writer) = std::io::pipe().unwrap();
        let file = std::fs::File::open("/etc/passwd").unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        for stream in [a.as_fd(), reader.as_fd(), writer.as_fd(), file.as_fd(), null.as_fd()] {
            assert_eq!(way_out(stream), None);
        }
        drop(b);
        assert_eq!(way_out(a.as_fd()), None, "also when the peer has gone");
    }

    #[test]
    fn what_leads_elsewhere_does_not() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let connected = TcpStream::connect(tcp.local_addr().unwrap()).unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (datagrams, _other) = UnixDatagram::pair().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("socket")).unwrap();
        for socket in [tcp.as_fd(), connected.as_fd(), udp.as_fd(), datagrams.as_fd(), listener.as_fd()] {
            assert_eq!(way_out(socket), Some(StreamKind::Socket));
        }
        let root = std::fs::File::open("/").unwrap();
        assert_eq!(way_out(root.as_fd()), Some(StreamKind::Directory));
        let network = std::fs::File::open("/proc/self/ns/net").unwrap();
        let own = crate::Process::open(i32::try_from(std::process::id()).unwrap()).unwrap();
        let epoll = rustix::event::epoll::create(rustix::event::epoll::CreateFlags::CLOEXEC).unwrap();
        for other in [network.as_fd(), own.as_fd(), epoll.as_fd()] {
            assert_eq!(way_out(other), Some(StreamKind::Other));
        }
    }
}
