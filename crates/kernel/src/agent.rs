//! A process of ours in another network: it opens sockets there, and looks names up as a program there
//! would. It is dumb on purpose, as the keeper is; it ends with its starter.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use hopyard_net::Family;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType,
};

use crate::Failure;
use crate::failure::Doing;
use crate::leash;
use crate::sandbox::{address_in, open_echo_client};
use crate::tie::Tie;

/// An agent, seen from its starter. Ends when this is dropped.
#[derive(Debug)]
pub struct Agent {
    sockets: OwnedFd,
    names: OwnedFd,
}

/// The kind of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// TCP.
    Stream,
    /// UDP.
    Datagram,
    /// Echo requests of ICMP. Where the network has no such sockets for the caller, a raw one.
    Echo,
}

impl Kind {
    const ALL: [Kind; 3] = [Kind::Stream, Kind::Datagram, Kind::Echo];

    fn open(self, family: Family) -> rustix::io::Result<OwnedFd> {
        let kind = match self {
            Kind::Stream => SocketType::STREAM,
            Kind::Datagram => SocketType::DGRAM,
            Kind::Echo => return open_echo_client(family),
        };
        let domain = if family == Family::Ipv4 { AddressFamily::INET } else { AddressFamily::INET6 };
        rustix::net::socket_with(domain, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)
    }
}

/// What is known of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Its addresses, in the order of the resolver.
    Addresses(Vec<IpAddr>),
    /// It does not exist, or has no address.
    Nothing,
    /// It could not be found out: the words of getaddrinfo(3).
    Failed(String),
}

const START: &str = "start a process in the other network";
/// So many names are looked up at a time; the others wait.
const LOOKUPS: usize = 4;
/// Of a name that has more addresses, the others stay closed.
const MOST_ADDRESSES: usize = 512;
const MESSAGE_BYTES: usize = 5 + 17 * MOST_ADDRESSES;

impl Agent {
    /// Starts one. `enter` takes it where it is to be. The process must have one thread.
    ///
    /// # Errors
    /// What could not be done on the way.
    pub fn start(enter: impl FnOnce() -> Result<(), Failure>) -> Result<Agent, Failure> {
        let pair = || {
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .doing("make a pair of sockets")
        };
        let ((sockets, their_sockets), (names, their_names)) = (pair()?, pair()?);
        let tie = Tie::to_caller().doing(START)?;
        // SAFETY: the process has one thread, as the caller promises; the child runs `live`, which ends in
        // `_exit`.
        match unsafe { libc::fork() } {
            -1 => return Err(io::Error::last_os_error()).doing(START),
            0 => {
                drop((sockets, names));
                live(enter, &tie, &their_sockets, &their_names)
            }
            _ => {}
        }
        drop((their_sockets, their_names));
        let mut message = [0; 256];
        match rustix::net::recv(&sockets, &mut message[..], RecvFlags::empty()).doing(START)?.1 {
            1 if message[0] == b'R' => Ok(Agent { sockets, names }),
            length => Err(leash::failure(&message[..length], START)),
        }
    }

    /// A socket in the other network, which never blocks.
    ///
    /// # Errors
    /// Those of socket(2) there, or the agent is gone (`ECONNRESET`).
    pub fn socket(&self, family: Family, kind: Kind) -> io::Result<OwnedFd> {
        let request = [u8::from(family == Family::Ipv6), kind as u8];
        rustix::net::send(&self.sockets, &request, SendFlags::NOSIGNAL)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut errno = [0; 4];
        let length = loop {
            let mut parts = [IoSliceMut::new(&mut errno)];
            match rustix::net::recvmsg(&self.sockets, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
                Err(rustix::io::Errno::INTR) => {}
                received => break received?.bytes,
            }
        };
        let socket = ancillary.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        match (socket, length) {
            (Some(socket), _) => Ok(socket),
            (None, 4) => Err(io::Error::from_raw_os_error(i32::from_ne_bytes(errno))),
            // It has ended, or this process has no descriptor left.
            (None, 0) => Err(io::ErrorKind::ConnectionReset.into()),
            (None, _) => Err(io::Error::from_raw_os_error(libc::EMFILE)),
        }
    }

    /// Has a name looked up; what is found comes by [`answer`](Self::answer), under that number.
    ///
    /// # Errors
    /// The agent is gone, or has too many names to look up (`EAGAIN`).
    pub fn look_up(&self, number: u32, name: &str) -> io::Result<()> {
        let request = [&number.to_ne_bytes(), name.as_bytes()].concat();
        rustix::net::send(&self.names, &request, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?;
        Ok(())
    }

    /// Becomes readable when there is an answer.
    pub fn answers(&self) -> BorrowedFd<'_> {
        self.names.as_fd()
    }

    /// The next answer, if one is there.
    ///
    /// # Errors
    /// The agent is gone.
    pub fn answer(&self) -> io::Result<Option<(u32, Found)>> {
        let mut message = [0; MESSAGE_BYTES];
        let length = match rustix::net::recv(&self.names, &mut message[..], RecvFlags::DONTWAIT) {
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return Ok(None),
            received => received?.1,
        };
        match &message[..length] {
            [a, b, c, d, kind, rest @ ..] => {
                let number = u32::from_ne_bytes([*a, *b, *c, *d]);
                Ok(Some((number, decode(*kind, rest))))
            }
            _ => Err(io::ErrorKind::ConnectionReset.into()),
        }
    }
}

fn decode(kind: u8, rest: &[u8]) -> Found {
    match kind {
        b'A' => Found::Addresses(
            rest.as_chunks::<17>()
                .0
                .iter()
                .map(|[family, bytes @ ..]| match (family, bytes.first_chunk::<4>()) {
                    (4, Some(four)) => IpAddr::V4(Ipv4Addr::from(*four)),
                    _ => IpAddr::V6(Ipv6Addr::from(*bytes)),
                })
                .collect(),
        ),
        b'N' => Found::Nothing,
        _ => Found::Failed(String::from_utf8_lossy(rest).into_owned()),
    }
}

fn encode(number: u32, found: &Found) -> Vec<u8> {
    let mut message = number.to_ne_bytes().to_vec();
    match found {
        Found::Addresses(addresses) => {
            message.push(b'A');
            for addr in addresses.iter().take(MOST_ADDRESSES) {
                match addr {
                    IpAddr::V4(addr) => {
                        message.push(4);
                        message.extend(addr.octets());
                        message.extend([0; 12]);
                    }
                    IpAddr::V6(addr) => {
                        message.push(6);
                        message.extend(addr.octets());
                    }
                }
            }
        }
        Found::Nothing => message.push(b'N'),
        Found::Failed(why) => {
            message.push(b'F');
            message.extend(why.bytes().take(MESSAGE_BYTES - 5));
        }
    }
    message
}

fn live(enter: impl FnOnce() -> Result<(), Failure>, tie: &Tie, sockets: &OwnedFd, names: &OwnedFd) -> ! {
    // What the terminal and others say to the group of its starter does not concern it.
    let ready = rustix::process::setsid()
        .and_then(|_| rustix::thread::set_name(c"hop-agent"))
        .doing(START)
        .and_then(|()| enter())
        .and_then(|()| tie.hold().doing(START))
        .and_then(|()| leash::close_everything_but([sockets, names]).doing("close what was open"));
    match ready {
        Err(failure) => leash::say_failure(sockets, &failure),
        Ok(()) => serve(sockets, names),
    }
    // SAFETY: ends this process without the exit handlers of the one it was forked from.
    unsafe { libc::_exit(0) }
}

fn serve(sockets: &OwnedFd, names: &OwnedFd) {
    if rustix::net::send(sockets, b"R", SendFlags::NOSIGNAL).is_err() {
        return;
    }
    std::thread::scope(|scope| {
        for _ in 0..LOOKUPS {
            // Where there is no thread to be had, names stay unknown, and the asker says so.
            std::thread::Builder::new().spawn_scoped(scope, || look_names_up(names)).ok();
        }
        open_sockets(sockets);
        // The lookups may wait for a resolver; nobody waits for them any more.
        // SAFETY: as in `live`.
        unsafe { libc::_exit(0) }
    });
}

fn open_sockets(control: &OwnedFd) {
    let mut request = [0; 2];
    loop {
        match rustix::net::recv(control, &mut request[..], RecvFlags::empty()) {
            Ok((_, 2)) => {}
            Err(rustix::io::Errno::INTR) => continue,
            _ => return,
        }
        let family = if request[0] == 0 { Family::Ipv4 } else { Family::Ipv6 };
        let Some(kind) = Kind::ALL.get(usize::from(request[1])) else { return };
        let sent = match kind.open(family) {
            Ok(socket) => {
                let fds = [socket.as_fd()];
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
                let mut ancillary = SendAncillaryBuffer::new(&mut space);
                ancillary.push(SendAncillaryMessage::ScmRights(&fds));
                rustix::net::sendmsg(control, &[IoSlice::new(b"S")], &mut ancillary, SendFlags::NOSIGNAL)
            }
            Err(errno) => rustix::net::send(control, &errno.raw_os_error().to_ne_bytes(), SendFlags::NOSIGNAL),
        };
        if sent.is_err() {
            return;
        }
    }
}

fn look_names_up(names: &OwnedFd) {
    let mut request = [0; 4 + 256];
    loop {
        let length = match rustix::net::recv(names, &mut request[..], RecvFlags::empty()) {
            Err(rustix::io::Errno::INTR) => continue,
            Ok((_, length)) if length > 4 => length,
            _ => return,
        };
        let [a, b, c, d, name @ ..] = &request[..length] else { return };
        let number = u32::from_ne_bytes([*a, *b, *c, *d]);
        let found = CString::new(name).map_or(Found::Nothing, |name| addresses_of(&name));
        if rustix::net::send(names, &encode(number, &found), SendFlags::NOSIGNAL).is_err() {
            return;
        }
    }
}

/// The addresses of a name, as every program of this network finds them (getaddrinfo(3)).
fn addresses_of(name: &CStr) -> Found {
    // SAFETY: all zero is a valid `addrinfo`: no family, no pointers.
    let mut hints: libc::addrinfo = unsafe { std::mem::zeroed() };
    // One entry an address.
    hints.ai_socktype = libc::SOCK_STREAM;
    let mut list: *mut libc::addrinfo = std::ptr::null_mut();
    // SAFETY: name and hints live through the call; the list is written where it succeeds.
    let status = unsafe { libc::getaddrinfo(name.as_ptr(), std::ptr::null(), &raw const hints, &raw mut list) };
    match status {
        0 => {}
        // What a resolver says of a name without addresses, too (EAI_NODATA).
        libc::EAI_NONAME | -5 => return Found::Nothing,
        libc::EAI_SYSTEM => return Found::Failed(io::Error::last_os_error().to_string()),
        other => {
            // SAFETY: it returns a text that lives for ever.
            let text = unsafe { CStr::from_ptr(libc::gai_strerror(other)) };
            return Found::Failed(text.to_string_lossy().into_owned());
        }
    }
    let mut found = Vec::new();
    let mut next = list;
    while !next.is_null() {
        // SAFETY: an entry of the list, which is freed below.
        let entry = unsafe { &*next };
        let mut storage = MaybeUninit::<libc::sockaddr_storage>::zeroed();
        let size = (entry.ai_addrlen as usize).min(size_of_val(&storage));
        // SAFETY: the entry has an address of that length, and the storage is at least as long; all zero is
        // valid in the rest of it.
        let storage = unsafe {
            std::ptr::copy_nonoverlapping(entry.ai_addr.cast::<u8>(), storage.as_mut_ptr().cast::<u8>(), size);
            storage.assume_init()
        };
        found.extend(address_in(&storage).map(|addr| addr.ip()));
        next = entry.ai_next;
    }
    // SAFETY: the list that getaddrinfo has made, which nobody uses any more.
    unsafe { libc::freeaddrinfo(list) };
    if found.is_empty() { Found::Nothing } else { Found::Addresses(found) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_survive_the_way() {
        let addresses = Found::Addresses(vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()]);
        for found in [addresses, Found::Nothing, Found::Failed("no server".into())] {
            let bytes = encode(7, &found);
            assert_eq!(decode(bytes[4], &bytes[5..]), found);
        }
    }
}
