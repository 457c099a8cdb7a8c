//! System calls for which there is no safe function elsewhere.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Makes the mount at that path, and those below it, read-only (mount_setattr(2)).
pub(super) fn make_mounts_read_only(path: &Path) -> rustix::io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| rustix::io::Errno::INVAL)?;
    let attributes = libc::mount_attr { attr_set: libc::MOUNT_ATTR_RDONLY, attr_clr: 0, propagation: 0, userns_fd: 0 };
    // SAFETY: path and attributes live through the call, and the size is theirs.
    let set = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::AT_RECURSIVE,
            &raw const attributes,
            size_of_val(&attributes),
        )
    };
    if set != 0 {
        return Err(rustix::io::Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(rustix::io::Errno::IO));
    }
    Ok(())
}

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

/// A datagram that a transparent proxy has got: its length, who sent it, and to whom
/// (`IP_RECVORIGDSTADDR`, ip(7)). `None`: there is none, or it is not known to whom.
pub(super) fn receive_from_to(
    socket: impl AsFd,
    buffer: &mut [u8],
) -> io::Result<Option<(usize, SocketAddr, SocketAddr)>> {
    // Room for an address of IPv6 and the flags behind it, as aligned as the kernel writes it.
    let mut control = [0_u64; 16];
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
    let length = unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
    let Ok(length) = usize::try_from(length) else { return Err(io::Error::last_os_error()) };
    // SAFETY: it was zero, which is valid, and the kernel has written an address.
    let from = address_in(unsafe { from.assume_init_ref() });
    let mut to = None;
    // SAFETY: the header is as the kernel has left it, and these go through what it points to.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(&raw const message);
        while !header.is_null() {
            let is_address = matches!(
                ((*header).cmsg_level, (*header).cmsg_type),
                (libc::SOL_IP, libc::IP_ORIGDSTADDR) | (libc::SOL_IPV6, libc::IPV6_ORIGDSTADDR)
            );
            #[allow(clippy::useless_conversion, reason = "it has 32 bits in another libc")]
            let length = usize::try_from((*header).cmsg_len).unwrap_or(0);
            let data = length.saturating_sub(header_bytes());
            if is_address {
                let mut storage = MaybeUninit::<libc::sockaddr_storage>::zeroed();
                let size = data.min(size_of_val(&storage));
                std::ptr::copy_nonoverlapping(libc::CMSG_DATA(header), storage.as_mut_ptr().cast::<u8>(), size);
                to = address_in(storage.assume_init_ref());
            }
            header = libc::CMSG_NXTHDR(&raw const message, header);
        }
    }
    Ok(from.zip(to).map(|(from, to)| (length, from, to)))
}

/// Of a control message, before its data.
fn header_bytes() -> usize {
    // SAFETY: computes a number.
    unsafe { libc::CMSG_LEN(0) as usize }
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
            Some(SocketAddr::V6(SocketAddrV6::new(addr, u16::from_be(six.sin6_port), 0, 0)))
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
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of_val(&arguments)) };
    match i32::try_from(pid) {
        Ok(pid) if pid >= 0 => Ok(pid),
        _ => Err(io::Error::last_os_error()),
    }
}
