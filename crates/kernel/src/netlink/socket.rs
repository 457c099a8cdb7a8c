//! A blocking `NETLINK_ROUTE` socket. It stays in the namespace in which it was opened, whatever
//! thread uses it afterwards, so it is all that is needed to change and to read that namespace.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use netlink_packet_core::{NLM_F_DUMP, NLM_F_DUMP_INTR, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use super::{Answers, Batch};
use crate::Errno;
use crate::error::Refusal;

/// `_IO(0x89, 0x4C)`: a descriptor of the network namespace of a socket (linux/sockios.h).
const SIOCGSKNS: libc::Ioctl = 0x894C;

/// `NETLINK_ROUTE`, which is protocol 0.
const ROUTE: Option<rustix::net::Protocol> = None;

/// How often a dump is begun anew because the tables changed meanwhile.
const DUMP_ATTEMPTS: usize = 20;

/// The kernel never puts more than 32 KiB into one datagram of a dump; a refusal that echoes a
/// request is capped.
const INBOX_BYTES: usize = 64 << 10;

/// Room for one datagram from the kernel; one for each thread that talks to it.
pub(crate) struct Inbox(Box<[u8]>);

impl Default for Inbox {
    fn default() -> Self {
        Inbox(vec![0; INBOX_BYTES].into_boxed_slice())
    }
}

/// A socket for links, addresses, routes and neighbours of one namespace.
#[derive(Debug)]
pub(crate) struct RtSocket(OwnedFd);

impl RtSocket {
    /// Opens one in the calling thread's network namespace.
    pub(crate) fn open() -> io::Result<Self> {
        Self::open_for(ROUTE)
    }

    /// The same for another of netlink's protocols, whose messages are not decoded here.
    pub(crate) fn open_for(protocol: Option<rustix::net::Protocol>) -> io::Result<Self> {
        let fd = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
        // Refusals come with text and offset, without an echo of the whole request; requests with
        // unknown or misplaced fields are refused instead of being half understood.
        for option in [libc::NETLINK_EXT_ACK, libc::NETLINK_CAP_ACK, libc::NETLINK_GET_STRICT_CHK] {
            set_netlink_option(fd.as_fd(), option, 1)?;
        }
        Ok(RtSocket(fd))
    }

    /// The namespace that it is in. Only who has rights there may ask the socket; anybody may open its own.
    pub(crate) fn namespace(&self) -> io::Result<OwnedFd> {
        match namespace_of_socket(self.0.as_fd()) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && self.is_here()? => {
                crate::pin::own_network()
            }
            namespace => namespace,
        }
    }

    /// Is it in the calling thread's namespace?
    fn is_here(&self) -> io::Result<bool> {
        let here = crate::inside::cookie_of(&Self::open()?);
        Ok(here.is_some() && here == crate::inside::cookie_of(self))
    }

    /// Sends the requests of a batch, which the kernel carries out before this returns, and empties
    /// the batch. `refused` learns of each that failed, in order, by its sequence number.
    ///
    /// No acknowledgement is asked for: what is not refused was done.
    ///
    /// # Errors
    /// The batch could not be sent; some of its requests may have been.
    pub(crate) fn submit(
        &self,
        batch: &mut Batch,
        inbox: &mut Inbox,
        refused: &mut dyn FnMut(u32, Refusal),
    ) -> io::Result<()> {
        let mut rest = batch.bytes();
        while !rest.is_empty() {
            let (now, later) = rest.split_at(datagram_length(rest));
            self.send(now)?;
            self.drain(inbox, refused)?;
            rest = later;
        }
        batch.clear();
        Ok(())
    }

    /// Sends a batch that the kernel takes as one, all of it or nothing, in one datagram.
    ///
    /// # Errors
    /// It could not be sent, and nothing was done.
    pub(crate) fn submit_whole(
        &self,
        batch: &Batch,
        inbox: &mut Inbox,
        refused: &mut dyn FnMut(u32, Refusal),
    ) -> Result<(), Refusal> {
        if batch.is_full() {
            let size = batch.bytes().len().saturating_mul(2);
            // Beyond `net.core.wmem_max` it takes a right that only the machine's root has.
            rustix::net::sockopt::set_socket_send_buffer_size_force(&self.0, size)
                .or_else(|_| rustix::net::sockopt::set_socket_send_buffer_size(&self.0, size))?;
        }
        self.send(batch.bytes())?;
        Ok(self.drain(inbox, refused)?)
    }

    /// Listens to what the kernel tells all who want to hear of it.
    pub(crate) fn join(&self, group: libc::c_int) -> io::Result<()> {
        set_netlink_option(self.0.as_fd(), libc::NETLINK_ADD_MEMBERSHIP, group)
    }

    /// Reads what has been told so far.
    ///
    /// # Errors
    /// `ENOBUFS`: it was more than there is room for, and some is lost.
    pub(crate) fn hear(&self, inbox: &mut Inbox, on: &mut dyn FnMut(u16, &[u8])) -> rustix::io::Result<()> {
        loop {
            match self.receive(inbox, RecvFlags::DONTWAIT) {
                Ok(length) => Answers(&inbox.0[..length]).for_each(|answer| on(answer.kind, answer.payload)),
                Err(rustix::io::Errno::AGAIN) => return Ok(()),
                Err(errno) => return Err(errno),
            }
        }
    }

    /// Its descriptor.
    pub(crate) fn into_fd(self) -> OwnedFd {
        self.0
    }

    /// Sends one request and returns all messages that answer it, decoded; a dump until its end.
    pub(crate) fn ask(
        &self,
        request: RouteNetlinkMessage,
        flags: u16,
        inbox: &mut Inbox,
    ) -> Result<Vec<RouteNetlinkMessage>, Refusal> {
        let mut batch = Batch::default();
        batch.push(1, flags, request);
        let mut found = Vec::new();
        self.converse(&batch, flags, inbox, &mut |step| {
            match step {
                Step::Anew => found.clear(),
                Step::Message(bytes) => match NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes) {
                    Ok(NetlinkMessage { payload: NetlinkPayload::InnerMessage(message), .. }) => found.push(message),
                    Ok(_) => {}
                    Err(error) => return Err(Refusal::saying(Errno::BADMSG, error.to_string())),
                },
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// Sends one request that is in `batch`, and hands over the answers as bytes.
    pub(crate) fn converse(
        &self,
        batch: &Batch,
        flags: u16,
        inbox: &mut Inbox,
        on: &mut dyn FnMut(Step<'_>) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let dump = flags & NLM_F_DUMP == NLM_F_DUMP;
        for _ in 0..DUMP_ATTEMPTS {
            on(Step::Anew)?;
            self.send(batch.bytes())?;
            let mut interrupted = false;
            // What comes behind a fault is still read, or it would answer the next question.
            let mut fault = None;
            'answers: loop {
                let length = match self.receive(inbox, RecvFlags::empty()) {
                    // Something was dropped: the dump is not whole. It goes on, and is done again.
                    Err(rustix::io::Errno::NOBUFS) if dump => {
                        interrupted = true;
                        continue;
                    }
                    other => other?,
                };
                for answer in Answers(&inbox.0[..length]) {
                    interrupted |= answer.flags & NLM_F_DUMP_INTR != 0;
                    if let Some(refusal) = answer.refusal() {
                        return Err(refusal);
                    }
                    if answer.is_done() {
                        break 'answers;
                    }
                    if fault.is_none() {
                        fault = on(Step::Message(answer.bytes())).err();
                    }
                    if !dump {
                        break 'answers;
                    }
                }
            }
            match fault {
                Some(fault) => return Err(fault),
                None if !interrupted => return Ok(()),
                None => {}
            }
        }
        Err(Refusal::saying(Errno::from_raw(libc::EINTR), "the tables kept changing while they were read"))
    }

    fn send(&self, bytes: &[u8]) -> rustix::io::Result<()> {
        rustix::io::retry_on_intr(|| rustix::net::send(&self.0, bytes, SendFlags::empty())).map(|_all| ())
    }

    fn receive(&self, inbox: &mut Inbox, flags: RecvFlags) -> rustix::io::Result<usize> {
        let (_, length) =
            rustix::io::retry_on_intr(|| rustix::net::recv(&self.0, &mut *inbox.0, flags | RecvFlags::TRUNC))?;
        if length > inbox.0.len() { Err(rustix::io::Errno::MSGSIZE) } else { Ok(length) }
    }

    /// Reads what is there. The kernel works through a request while it is being sent, so all
    /// refusals have arrived by then.
    fn drain(&self, inbox: &mut Inbox, refused: &mut dyn FnMut(u32, Refusal)) -> rustix::io::Result<()> {
        loop {
            match self.receive(inbox, RecvFlags::DONTWAIT) {
                Ok(length) => {
                    for answer in Answers(&inbox.0[..length]) {
                        if let Some(refusal) = answer.refusal() {
                            refused(answer.sequence, refusal);
                        }
                    }
                }
                Err(rustix::io::Errno::AGAIN) => return Ok(()),
                // So many refusals that the last ones were dropped; the first ones are what matters.
                Err(rustix::io::Errno::NOBUFS) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
}

/// The network namespace that a socket, of whatever kind, is in.
pub(crate) fn namespace_of_socket(socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // SAFETY: on a socket this request takes no argument and returns a new descriptor or -1; on anything
    // else it is refused.
    let fd = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCGSKNS) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just made this descriptor for us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

impl AsFd for RtSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What happens in the course of an answer.
pub(crate) enum Step<'a> {
    /// The answer begins, or begins again: what came before is void.
    Anew,
    /// A message, with its header.
    Message(&'a [u8]),
}

/// As many whole requests as fit one datagram, and at least one; in bytes.
fn datagram_length(bytes: &[u8]) -> usize {
    if bytes.len() <= Batch::DATAGRAM_BYTES {
        return bytes.len();
    }
    let mut length = 0;
    for request in Answers(bytes) {
        let next = length + super::answer::align(request.bytes().len());
        if length > 0 && next > Batch::DATAGRAM_BYTES {
            break;
        }
        length = next;
    }
    length
}

fn set_netlink_option(fd: BorrowedFd<'_>, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    /// The size of an int.
    const SIZE: libc::socklen_t = 4;
    // SAFETY: the value is an int that lives through the call, and its size is given.
    let result =
        unsafe { libc::setsockopt(fd.as_raw_fd(), libc::SOL_NETLINK, option, (&raw const value).cast(), SIZE) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_is_cut_between_requests() {
        let mut batch = Batch::default();
        for sequence in 0..5000 {
            batch.push_bytes(sequence, 24, 0, &[0; 41]);
        }
        let mut rest = batch.bytes();
        let mut lengths = Vec::new();
        while !rest.is_empty() {
            let (now, later) = rest.split_at(datagram_length(rest));
            lengths.push(now.len());
            rest = later;
        }
        assert_eq!(lengths, [159_960, 140_040]);
    }
}
