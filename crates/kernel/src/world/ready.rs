//! IPv6 addresses that are ready when they say so.
//!
//! The kernel accepts an address at once, also without duplicate address detection, but it makes the
//! local route by which packets for it are taken in later, on a work queue that all namespaces
//! share. Until then the node does not answer on an address that `ip address` shows.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use hopyard_net::{IpNet, NsName, Op};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::RouteType;

use super::{World, in_parallel};
use crate::encode;
use crate::netlink::{Inbox, RtSocket};

/// Longer than the work queue takes for 10 000 nodes.
const PATIENCE: Duration = Duration::from_secs(10);
/// The kernel's work on an address takes some ten microseconds. A socket that listened for its end
/// would have to take in the news of every address of the node meanwhile.
const PAUSE: Duration = Duration::from_micros(200);

impl World {
    /// Waits until the addresses that the operations have added take packets in.
    ///
    /// An address that never does (its interface was taken down meanwhile) is no failure: it is as
    /// the operations have left it.
    pub(super) fn await_addresses(&self, ops: &[Op]) {
        let mut added: BTreeMap<&NsName, Vec<Ipv6Addr>> = BTreeMap::new();
        for op in ops {
            if let Op::AddAddr { at, addr: IpNet::V6(net) } = op {
                added.entry(&at.ns).or_default().push(net.addr());
            }
        }
        let added: Vec<_> = added.into_iter().collect();
        let deadline = Instant::now() + PATIENCE;
        in_parallel(&added, |queue| {
            let mut inbox = Inbox::default();
            while let Some((_, (ns, addresses))) = queue.take() {
                let Ok(space) = self.space(ns) else { continue };
                for &address in addresses {
                    while !takes_in(&space.socket, address, &mut inbox) && Instant::now() < deadline {
                        std::thread::sleep(PAUSE);
                    }
                }
            }
        });
    }
}

/// Would the kernel take in a packet for the address? One that was removed since is not waited for.
fn takes_in(socket: &RtSocket, address: Ipv6Addr, inbox: &mut Inbox) -> bool {
    match socket.ask(encode::get_route_to(address), 0, inbox) {
        Ok(answers) => answers.iter().any(
            |answer| matches!(answer, RouteNetlinkMessage::NewRoute(route) if route.header.kind == RouteType::Local),
        ),
        Err(_) => false,
    }
}
