//! Knowing when the kernel has freed namespaces.
//!
//! Closing the last reference to a namespace returns at once; `cleanup_net` frees it later, on an
//! ordered work queue, in batches. Two marker namespaces tell when: the first, given up after the
//! others, is in their batch or a later one; the second, given up when the first is seen to be
//! gone, is in a batch that starts only when the one before it has wholly ended.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use hopyard_net::{Endpoint, IfName, NsName, Op, VethEnd};
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::LinkAttribute;
use rustix::net::sockopt::Timeout;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, netlink};
use rustix::thread::LinkNameSpaceType;

use crate::failure::Doing;
use crate::{Failure, KernelError, Realm, World};

/// Markers in place: namespaces that are given up from now on can be waited for.
#[derive(Debug)]
pub struct Pending {
    events: OwnedFd,
    markers: [(IfName, OwnedFd); 2],
}

/// `RTNLGRP_LINK` as the bit that bind(2) takes.
pub(crate) const GROUP_LINK: u32 = 1;

impl Pending {
    /// Puts markers in place.
    ///
    /// # Errors
    /// The marker namespaces cannot be made.
    pub fn watch(realm: &Realm) -> Result<Self, PendingError> {
        let mut world = World::new(realm.clone());
        let watcher = name("watcher")?;
        let markers = [name("marker1")?, name("marker2")?];
        let device = |marker: &NsName| marker.as_str().parse::<IfName>().map_err(invalid);
        let mut ops = vec![Op::AddNs(watcher.clone())];
        ops.extend(markers.iter().cloned().map(Op::AddNs));
        for marker in &markers {
            let end = |ns: &NsName| -> Result<VethEnd, PendingError> {
                Ok(VethEnd { at: Endpoint { ns: ns.clone(), dev: device(marker)? }, mac: None, mtu: None })
            };
            ops.push(Op::AddVeth { a: end(&watcher)?, b: end(marker)? });
        }
        world.apply(&ops, &mut |_| {}).map_err(|failed| failed.error)?;
        let watcher = world.ns_fd(&watcher)?;
        let events = realm
            .run(|| {
                rustix::thread::move_into_link_name_space(watcher.as_fd(), Some(LinkNameSpaceType::Network))?;
                let socket = rustix::net::socket_with(
                    AddressFamily::NETLINK,
                    SocketType::RAW,
                    SocketFlags::CLOEXEC,
                    // NETLINK_ROUTE is 0, which is what no protocol means.
                    None,
                )?;
                rustix::net::bind(&socket, &netlink::SocketAddrNetlink::new(0, GROUP_LINK))?;
                Ok(socket)
            })
            .and_then(|socket: Result<OwnedFd, rustix::io::Errno>| Ok(socket?))
            .doing("watch a marker namespace")?;
        let [first, second] = &markers;
        let markers = [(device(first)?, world.ns_fd(first)?), (device(second)?, world.ns_fd(second)?)];
        Ok(Pending { events, markers })
    }

    /// Waits until everything that was given up before this call is freed.
    ///
    /// # Errors
    /// The markers cannot be watched.
    pub fn wait(self) -> Result<(), PendingError> {
        self.wait_for_markers()
    }

    /// The same, but not for ever: gives up when the kernel frees nothing for that long.
    ///
    /// # Errors
    /// It has given up, or the markers cannot be watched.
    pub fn wait_at_most(self, patience: Duration) -> Result<(), PendingError> {
        rustix::net::sockopt::set_socket_timeout(&self.events, Timeout::Recv, Some(patience))
            .doing("wait for the kernel to free the namespaces")?;
        self.wait_for_markers()
    }

    fn wait_for_markers(self) -> Result<(), PendingError> {
        for (device, marker) in self.markers {
            drop(marker);
            wait_until_gone(&self.events, device).doing("wait for the kernel to free the namespaces")?;
        }
        Ok(())
    }
}

/// Why the end of the clean-up cannot be known.
#[derive(Debug, thiserror::Error)]
pub enum PendingError {
    /// The markers could not be made.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// They could not be watched.
    #[error(transparent)]
    System(#[from] Failure),
}

fn name(text: &str) -> Result<NsName, PendingError> {
    text.parse().map_err(invalid)
}

fn invalid(error: impl std::error::Error + Send + Sync + 'static) -> PendingError {
    PendingError::System(Failure { doing: "name a marker".into(), cause: io::Error::other(error) })
}

fn wait_until_gone(events: &OwnedFd, device: IfName) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let (_, len) = match rustix::net::recv(events, &mut buffer[..], RecvFlags::empty()) {
            Err(rustix::io::Errno::INTR) => continue,
            received => received?,
        };
        let mut rest = &buffer[..len];
        while let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest) {
            let size = (message.header.length as usize).next_multiple_of(4).clamp(16, rest.len());
            if let NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(link)) = message.payload
                && link.attributes.iter().any(|a| matches!(a, LinkAttribute::IfName(name) if *name == device.as_str()))
            {
                return Ok(());
            }
            rest = &rest[size..];
        }
    }
}
