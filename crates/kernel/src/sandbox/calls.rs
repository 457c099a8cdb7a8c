//! System calls for which there is no safe function elsewhere.
#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// Sets an option of a socket that is a number.
pub(super) fn set_option(socket: BorrowedFd<'_>, level: i32, option: i32, value: i32) -> io::Result<()> {
    set_bytes(socket, level, option, &value)
}

/// Only frames that the program accepts reach the socket (`SO_ATTACH_FILTER`, socket(7)).
pub(super) fn attach_filter(socket: BorrowedFd<'_>, program: &mut [libc::sock_filter]) -> io::Result<()> {
    let program =
        libc::sock_fprog { len: u16::try_from(program.len()).map_err(io::Error::other)?, filter: program.as_mut_ptr() };
    set_bytes(socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
}

/// Sets the filter of a raw socket for the types of ICMP messages.
pub(super) fn set_filter<T: Copy>(socket: BorrowedFd<'_>, level: i32, option: i32, filter: &T) -> io::Result<()> {
    set_bytes(socket, level, option, filter)
}

fn set_bytes<T>(socket: BorrowedFd<'_>, level: i32, option: i32, value: &T) -> io::Result<()> {
    let size = libc::socklen_t::try_from(size_of::<T>()).map_err(io::Error::other)?;
    // SAFETY: the value lives through the call, and its size is given.
    let set = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, std::ptr::from_ref(value).cast(), size) };
    if set != 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Binds a packet socket to an interface, from which on it takes frames in.
pub(super) fn bind_packet(socket: BorrowedFd<'_>, protocol: u16, index: u32) -> io::Result<()> {
    // SAFETY: all zero is a valid `sockaddr_ll`, which consists of numbers.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = u16::try_from(libc::AF_PACKET).map_err(io::Error::other)?;
    address.sll_protocol = protocol.to_be();
    address.sll_ifindex = i32::try_from(index).map_err(io::Error::other)?;
    let size = libc::socklen_t::try_from(size_of_val(&address)).map_err(io::Error::other)?;
    // SAFETY: the address lives through the call, and its size is given.
    let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size) };
    if bound != 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Reads an option of a socket that is a number.
pub(super) fn option(socket: BorrowedFd<'_>, level: i32, option: i32) -> io::Result<i32> {
    let mut value = 0_i32;
    let mut size = libc::socklen_t::try_from(size_of_val(&value)).map_err(io::Error::other)?;
    // SAFETY: the number lives through the call, and its size is given.
    let got = unsafe { libc::getsockopt(socket.as_raw_fd(), level, option, (&raw mut value).cast(), &raw mut size) };
    if got != 0 { Err(io::Error::last_os_error()) } else { Ok(value) }
}

/// A packet that has come, and what the kernel says of it, as far as the options of the socket ask for it.
#[derive(Debug, Default)]
pub(super) struct Received {
    pub(super) length: usize,
    /// Who sent it; of an error, to whom the packet went that met it.
    pub(super) from: Option<SocketAddr>,
    /// To whom it was sent (`IP_RECVORIGDSTADDR`; without the port, `IPV6_RECVPKTINFO`).
    pub(super) to: Option<SocketAddr>,
    /// Its TTL or hop limit (`IP_RECVTTL`, `IPV6_RECVHOPLIMIT`).
    pub(super) hop_limit: Option<u8>,
    /// It came in fragments (`IPV6_RECVFRAGSIZE`).
    pub(super) is_fragmented: bool,
    /// What kept a packet from arriving (`IP_RECVERR`, `IPV6_RECVERR`).
    pub(super) error: Option<ErrorReceived>,
}

/// Why a packet did not arrive, as its sender is told (`struct sock_extended_err`, ip(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ErrorReceived {
    /// The ICMP message's type, code, and what it says besides; `None`: this kernel itself has said it.
    pub(super) icmp: Option<(u8, u8, u32)>,
    /// Who has said it.
    pub(super) from: Option<IpAddr>,
}

/// Receives without waiting; with `MSG_ERRQUEUE` among the flags, an error instead.
///
/// # Errors
/// Those of recvmsg(2): `EAGAIN` if there is nothing.
pub(super) fn receive(socket: impl AsFd, buffer: &mut [u8], flags: i32) -> io::Result<Received> {
    // Room for all that can come, as aligned as the kernel writes it.
    let mut control = [0_u64; 64];
    let mut from = MaybeUninit::<libc::sockaddr_storage>::zeroed();
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: all zero is a valid `msghdr`: it points to nothing.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_name = from.as_mut_ptr().cast();
    message.msg_namelen = u32::try_from(size_of_val(&from)).map_err(io::Error::other)?;
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control) as _;
    // SAFETY: all that the header points to lives through the call, and the sizes are given.
    let length = unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT | flags) };
    let Ok(length) = usize::try_from(length) else { return Err(io::Error::last_os_error()) };
    // SAFETY: it was zero, which is valid, and the kernel has written an address.
    let from = address_in(unsafe { from.assume_init_ref() });
    let mut received = Received { length, from, ..Received::default() };
    // SAFETY: the header is as the kernel has left it, and these go through what it points to.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(&raw const message);
        while !header.is_null() {
            #[allow(clippy::useless_conversion, reason = "it has 32 bits in another libc")]
            let length = usize::try_from((*header).cmsg_len).unwrap_or(0).saturating_sub(header_bytes());
            let data = std::slice::from_raw_parts(libc::CMSG_DATA(header), length);
            received.take((*header).cmsg_level, (*header).cmsg_type, data);
            header = libc::CMSG_NXTHDR(&raw const message, header);
        }
    }
    Ok(received)
}

impl Received {
    /// Takes one control message in.
    fn take(&mut self, level: i32, kind: i32, data: &[u8]) {
        match (level, kind) {
            (libc::SOL_IP, libc::IP_ORIGDSTADDR) | (libc::SOL_IPV6, libc::IPV6_ORIGDSTADDR) => {
                self.to = address_of(data);
            }
            (libc::SOL_IPV6, libc::IPV6_PKTINFO) => {
                let addr = data.first_chunk::<16>().map(|bytes| Ipv6Addr::from(*bytes));
                self.to = addr.map(|addr| SocketAddr::new(addr.into(), 0));
            }
            (libc::SOL_IP, libc::IP_TTL) | (libc::SOL_IPV6, libc::IPV6_HOPLIMIT) => {
                let number = data.first_chunk::<4>().map(|bytes| i32::from_ne_bytes(*bytes));
                self.hop_limit = number.and_then(|number| u8::try_from(number).ok());
            }
            (libc::SOL_IPV6, libc::IPV6_RECVFRAGSIZE) => self.is_fragmented = true,
            (libc::SOL_IP, libc::IP_RECVERR) | (libc::SOL_IPV6, libc::IPV6_RECVERR) => {
                self.error = ErrorReceived::parse(data);
            }
            _ => {}
        }
    }
}

impl ErrorReceived {
    /// `struct sock_extended_err`: number (4), origin, type, code, filling, information (4), data (4); behind it the
    /// address of who has said it.
    fn parse(data: &[u8]) -> Option<Self> {
        const BYTES: usize = 16;
        const ORIGIN_ICMP: u8 = 2;
        const ORIGIN_ICMP6: u8 = 3;
        let [_, _, _, _, origin, kind, code, _, info @ ..] = data.first_chunk::<BYTES>()?;
        let info = u32::from_ne_bytes(*info.first_chunk::<4>()?);
        let icmp = matches!(*origin, ORIGIN_ICMP | ORIGIN_ICMP6).then_some((*kind, *code, info));
        Some(ErrorReceived { icmp, from: address_of(&data[BYTES..]).map(|addr| addr.ip()) })
    }
}

/// Of a control message, before its data.
fn header_bytes() -> usize {
    // SAFETY: computes a number.
    unsafe { libc::CMSG_LEN(0) as usize }
}

/// The address that begins these bytes.
fn address_of(data: &[u8]) -> Option<SocketAddr> {
    let mut storage = MaybeUninit::<libc::sockaddr_storage>::zeroed();
    let size = data.len().min(size_of_val(&storage));
    // SAFETY: of both there are so many bytes; all zero is valid in the rest.
    let storage = unsafe {
        std::ptr::copy_nonoverlapping(data.as_ptr(), storage.as_mut_ptr().cast::<u8>(), size);
        storage.assume_init()
    };
    address_in(&storage)
}

/// Sends a datagram from one of the addresses of this network (`IP_PKTINFO`, ip(7)).
///
/// # Errors
/// Those of sendmsg(2).
pub(super) fn send_from_to(socket: impl AsFd, payload: &[u8], from: IpAddr, to: SocketAddr) -> io::Result<()> {
    // As aligned as the kernel reads it.
    let mut control = [0_u64; 8];
    let mut part = libc::iovec { iov_base: payload.as_ptr().cast_mut().cast(), iov_len: payload.len() };
    let (mut storage, size) = storage_of(to)?;
    // SAFETY: all zero is a valid `msghdr`: it points to nothing.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_name = (&raw mut storage).cast();
    message.msg_namelen = size;
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    // SAFETY: the control message fits into what the header points to, which lives through the call; the structures
    // consist of numbers, for which all zero is valid.
    let sent = unsafe {
        let header = match from {
            IpAddr::V4(from) => {
                let mut info: libc::in_pktinfo = std::mem::zeroed();
                info.ipi_spec_dst.s_addr = u32::from(from).to_be();
                put(&mut message, libc::SOL_IP, libc::IP_PKTINFO, info)
            }
            IpAddr::V6(from) => {
                let mut info: libc::in6_pktinfo = std::mem::zeroed();
                info.ipi6_addr.s6_addr = from.octets();
                put(&mut message, libc::SOL_IPV6, libc::IPV6_PKTINFO, info)
            }
        };
        header?;
        libc::sendmsg(socket.as_fd().as_raw_fd(), &raw const message, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Makes a value the only control message of a header.
///
/// # Safety
/// The header points to room for it.
unsafe fn put<T>(message: &mut libc::msghdr, level: i32, kind: i32, value: T) -> io::Result<()> {
    let size = u32::try_from(size_of::<T>()).map_err(io::Error::other)?;
    // SAFETY: the caller has made room.
    unsafe {
        message.msg_controllen = libc::CMSG_SPACE(size) as _;
        let header = libc::CMSG_FIRSTHDR(&raw const *message);
        (*header).cmsg_level = level;
        (*header).cmsg_type = kind;
        (*header).cmsg_len = libc::CMSG_LEN(size) as _;
        libc::CMSG_DATA(header).cast::<T>().write_unaligned(value);
    }
    Ok(())
}

/// An address as the kernel takes it, and how long it is.
fn storage_of(addr: SocketAddr) -> io::Result<(libc::sockaddr_storage, libc::socklen_t)> {
    let mut storage = MaybeUninit::<libc::sockaddr_storage>::zeroed();
    let size = match addr {
        SocketAddr::V4(addr) => {
            let four = libc::sockaddr_in {
                sin_family: u16::try_from(libc::AF_INET).map_err(io::Error::other)?,
                sin_port: addr.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from(*addr.ip()).to_be() },
                sin_zero: [0; 8],
            };
            // SAFETY: the storage is larger, and aligned for all.
            unsafe { storage.as_mut_ptr().cast::<libc::sockaddr_in>().write(four) };
            size_of_val(&four)
        }
        SocketAddr::V6(addr) => {
            let six = libc::sockaddr_in6 {
                sin6_family: u16::try_from(libc::AF_INET6).map_err(io::Error::other)?,
                sin6_port: addr.port().to_be(),
                sin6_flowinfo: 0,
                sin6_addr: libc::in6_addr { s6_addr: addr.ip().octets() },
                sin6_scope_id: addr.scope_id(),
            };
            // SAFETY: as above.
            unsafe { storage.as_mut_ptr().cast::<libc::sockaddr_in6>().write(six) };
            size_of_val(&six)
        }
    };
    // SAFETY: all zero is valid, and so is an address.
    Ok((unsafe { storage.assume_init() }, libc::socklen_t::try_from(size).map_err(io::Error::other)?))
}

/// The address in it, of either family.
pub(crate) fn address_in(storage: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match i32::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says what it is; the storage is larger, and aligned for all.
            let four = unsafe { &*std::ptr::from_ref(storage).cast::<libc::sockaddr_in>() };
            let addr = Ipv4Addr::from(u32::from_be(four.sin_addr.s_addr));
            Some(SocketAddr::V4(SocketAddrV4::new(addr, u16::from_be(four.sin_port))))
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let six = unsafe { &*std::ptr::from_ref(storage).cast::<libc::sockaddr_in6>() };
            let addr = Ipv6Addr::from(six.sin6_addr.s6_addr);
            Some(SocketAddr::V6(SocketAddrV6::new(addr, u16::from_be(six.sin6_port), 0, six.sin6_scope_id)))
        }
        _ => None,
    }
}

/// Forks into new namespaces; the child is the first process of the pid namespace. The number of the child,
/// or 0 in the child.
///
/// # Safety
/// The process has one thread.
pub(super) unsafe fn fork_into(namespaces: i32) -> io::Result<i32> {
    // SAFETY: all zero is a valid `clone_args`.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = u64::from(namespaces.cast_unsigned());
    arguments.exit_signal = u64::from(libc::SIGCHLD.cast_unsigned());
    // SAFETY: without CLONE_VM and a stack this is fork(2). The handlers that glibc's own fork runs take
    // and release locks of other threads, which there are none of.
    let mut pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of_val(&arguments)) };
    // A sandbox around this one, or a container, has forbidden it: no filter sees what it is asked for.
    if pid == -1 && io::Error::last_os_error().raw_os_error() == Some(libc::ENOSYS) {
        let flags = libc::c_long::from(namespaces | libc::SIGCHLD);
        // SAFETY: as above; it has no stack and no addresses to write to, whatever their order.
        pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0_usize, 0_usize, 0_usize, 0_usize) };
    }
    match i32::try_from(pid) {
        Ok(pid) if pid >= 0 => Ok(pid),
        _ => Err(io::Error::last_os_error()),
    }
}
