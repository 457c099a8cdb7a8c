//! Interfaces that are ready when they say so.
//!
//! When the second end of a veth pair comes up, both get a carrier, but they drop every packet until
//! the kernel's linkwatch worker has activated them: at once on a quiet machine, seconds later after
//! many links (18 s after 1000, measured). `ETHTOOL_GLINK` does that interface's share now.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use hopyard_net::IfName;

const SIOCETHTOOL: libc::Ioctl = 0x8946;
const ETHTOOL_GLINK: u32 = 0x0000_000a;

/// `struct ethtool_value` (linux/ethtool.h).
#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

/// Activates an interface that has got its carrier, in the namespace of the socket. `Ok(false)`: it
/// has none.
pub(crate) fn activate(socket: impl AsFd, dev: IfName) -> io::Result<bool> {
    let mut value = EthtoolValue { command: ETHTOOL_GLINK, data: 0 };
    // SAFETY: `ifreq` is plain data, for which all zero is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The name is at least one byte shorter than the field, which was zeroed: it stays terminated.
    for (to, from) in request.ifr_name.iter_mut().zip(dev.as_str().bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: SIOCETHTOOL reads the `ifreq` and, for this command, reads and writes the
    // `ethtool_value` that it points to; both live through the call.
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), SIOCETHTOOL, &raw mut request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(value.data != 0) }
}
