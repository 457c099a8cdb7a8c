//! Interfaces that are not there yet.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use hopyard_net::IfName;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, netlink};

use crate::cleanup::GROUP_LINK;
use crate::netlink::{Inbox, RtSocket};
use crate::pidfd::timespec;
use crate::world::read_links;

/// Waits until the calling thread's namespace has all these interfaces, or for so long; returns those that it lacks.
///
/// # Errors
/// The interfaces cannot be read, or not be watched.
pub fn wait_for_interfaces(devs: &[IfName], timeout: Duration) -> io::Result<Vec<IfName>> {
    let deadline = Instant::now() + timeout;
    // Watched first, so that none comes between the look and the watch.
    let events = watch()?;
    let socket = RtSocket::open()?;
    let mut inbox = Inbox::default();
    loop {
        let links =
            read_links(&socket, &mut inbox).map_err(|refusal| io::Error::from_raw_os_error(refusal.errno.raw()))?;
        let missing: Vec<IfName> =
            devs.iter().copied().filter(|dev| !links.iter().any(|link| link.dev == *dev)).collect();
        let left = deadline.saturating_duration_since(Instant::now());
        if missing.is_empty() || left.is_zero() {
            return Ok(missing);
        }
        match poll(&mut [PollFd::new(&events, PollFlags::IN)], Some(&timespec(left))) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        // What they say is read from the table; more than the kernel keeps (ENOBUFS) is as good as one.
        while rustix::net::recv(&events, &mut [0; 4096][..], RecvFlags::DONTWAIT).is_ok() {}
    }
}

fn watch() -> io::Result<OwnedFd> {
    let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    rustix::net::bind(&socket, &netlink::SocketAddrNetlink::new(0, GROUP_LINK))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_is_there_is_not_waited_for_and_another_one_not_for_ever() {
        let dev = |name: &str| name.parse::<IfName>().unwrap();
        let hour = Duration::from_hours(1);
        assert_eq!(wait_for_interfaces(&[IfName::LO], hour).unwrap(), []);
        let missing = wait_for_interfaces(&[IfName::LO, dev("no-such-one")], Duration::from_millis(20)).unwrap();
        assert_eq!(missing, [dev("no-such-one")]);
    }
}
