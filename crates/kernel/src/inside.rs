//! What is in a network namespace, in a word; and its number.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use crate::netlink::{Batch, Inbox, RtSocket};
use crate::world::read_links;
use crate::{KernelError, Realm, decode, encode, namespace};

/// What a network namespace is known by, and has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inside {
    /// A number that no other namespace ever has on this machine until it restarts. `None`: a kernel
    /// before 5.14.
    pub cookie: Option<u64>,
    /// The number by which the caller's own namespace knows it, if it has one (`ip netns set`).
    pub number: Option<i32>,
    /// Its interfaces, in the order in which they were made.
    pub interfaces: Vec<String>,
}

/// `SO_NETNS_COOKIE` (asm-generic/socket.h).
const SO_NETNS_COOKIE: libc::c_int = 71;

/// Looks into namespaces, all in one visit.
///
/// # Errors
/// No thread could be started; of each namespace, that it could not be entered or read.
pub fn look_inside(namespaces: &[BorrowedFd<'_>]) -> io::Result<Vec<Result<Inside, KernelError>>> {
    Realm::host().run(|| {
        let own = RtSocket::open();
        let mut inbox = Inbox::default();
        let mut look = |namespace: &BorrowedFd<'_>| -> Result<Inside, KernelError> {
            let failed = |error: io::Error| KernelError::new("enter the namespace", error);
            namespace::enter(namespace).map_err(failed)?;
            let socket = RtSocket::open().map_err(failed)?;
            let links = read_links(&socket, &mut inbox)
                .map_err(|refusal| refusal.while_doing("read the interfaces of the namespace"))?;
            // Whoever has no socket at home knows no number either.
            let number = own.as_ref().ok().and_then(|own| number_of(own, *namespace, &mut inbox));
            let interfaces = links.iter().map(|link| link.dev.to_string()).collect();
            Ok(Inside { cookie: cookie_of(&socket), number, interfaces })
        };
        let found = namespaces.iter().map(&mut look).collect();
        go_home();
        found
    })
}

/// In which of the namespaces is there nothing but `lo`? Asked of /proc and in one visit: unlike a socket, which
/// the kernel frees later, that holds a namespace no longer than it takes.
///
/// # Errors
/// No thread could be started.
pub fn have_only_loopback(namespaces: &[BorrowedFd<'_>]) -> io::Result<Vec<bool>> {
    /// The first two lines are a head.
    const HEAD: usize = 2;
    Realm::host().run(|| {
        let look = |namespace: &BorrowedFd<'_>| {
            let table = namespace::enter(namespace).and_then(|()| std::fs::read_to_string("/proc/thread-self/net/dev"));
            let is_lo = |line: &str| line.split(':').next().is_some_and(|name| name.trim() == "lo");
            table.is_ok_and(|table| table.lines().skip(HEAD).all(is_lo))
        };
        let found = namespaces.iter().map(look).collect();
        go_home();
        found
    })
}

/// The thread ends soon, but whoever has waited for it may not yet have been waited for by the kernel: it would
/// still hold the namespace that it was in.
pub(crate) fn go_home() {
    // The namespace of the process.
    if let Ok(own) = std::fs::File::open("/proc/self/ns/net") {
        namespace::enter(own).ok();
    }
}

/// Gives a namespace the number by which the caller's own knows it; `None`: one of the kernel's choice.
///
/// # Errors
/// `EEXIST`: it has one already, or the number is another's.
pub fn set_number(namespace: BorrowedFd<'_>, number: Option<i32>) -> Result<(), KernelError> {
    const DOING: &str = "give the namespace a number";
    let set = || -> Result<(), KernelError> {
        let socket = RtSocket::open().map_err(|error| KernelError::new(DOING, error))?;
        let mut batch = Batch::default();
        let (request, flags) = encode::set_nsid(namespace, number);
        batch.push(1, flags, request);
        let mut refused = None;
        socket
            .submit(&mut batch, &mut Inbox::default(), &mut |_, refusal| refused = Some(refusal))
            .map_err(|error| KernelError::new(DOING, error))?;
        refused.map_or(Ok(()), |refusal| Err(refusal.while_doing(DOING)))
    };
    Realm::host().run(set).map_err(|error| KernelError::new(DOING, error))?
}

fn number_of(own: &RtSocket, namespace: BorrowedFd<'_>, inbox: &mut Inbox) -> Option<i32> {
    let answers = own.ask(encode::get_nsid(namespace), 0, inbox).ok()?;
    answers.iter().find_map(decode::nsid)
}

/// The cookie of the caller's own namespace, as of [`Inside`].
pub fn own_cookie() -> Option<u64> {
    // Any socket will do, and the kernel lets go of this kind at once.
    let any = std::os::unix::net::UnixDatagram::unbound().ok()?;
    cookie_of_socket(any.as_fd())
}

pub(crate) fn cookie_of(socket: &RtSocket) -> Option<u64> {
    cookie_of_socket(socket.as_fd())
}

fn cookie_of_socket(socket: BorrowedFd<'_>) -> Option<u64> {
    let mut cookie = 0_u64;
    let mut length: libc::socklen_t = 8;
    // SAFETY: writes at most `length` bytes, which is the size of `cookie`; both live through the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    // Kernels that do not know the option say so.
    (result == 0).then_some(cookie)
}
