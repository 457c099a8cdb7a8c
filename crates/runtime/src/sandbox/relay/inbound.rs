//! TCP, from outside to inside: published ports.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use hopyard_kernel::agent::Kind;
use hopyard_net::Family;
use rustix::event::epoll;

use super::token::Token;
use super::{Connection, Door, Relay, TURN, lacks_descriptors, lacks_room};
use crate::sandbox::splice::break_off;

impl Relay {
    pub(super) fn let_in(&mut self, number: u32) {
        for _ in 0..TURN {
            let Some(published) = self.tools.published.get(number as usize) else { return };
            let Door::Listener(listener) = &published.door else { return self.take_visitors(number) };
            let flags = rustix::net::SocketFlags::CLOEXEC | rustix::net::SocketFlags::NONBLOCK;
            let outside = match rustix::net::accept_with(listener, flags) {
                Ok(outside) => outside,
                Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNABORTED) => continue,
                Err(errno) => {
                    if lacks_descriptors(errno) && self.make_room() {
                        continue;
                    }
                    if lacks_room(errno) {
                        self.rest(Token::Published(number));
                    }
                    return;
                }
            };
            let port = published.inner;
            self.enter(outside, Family::Ipv4, port);
        }
    }

    /// A server in the sandbox may listen on either loopback.
    pub(super) fn enter(&mut self, outside: OwnedFd, family: Family, port: u16) {
        let to: SocketAddr = match family {
            Family::Ipv4 => (Ipv4Addr::LOCALHOST, port).into(),
            Family::Ipv6 => (Ipv6Addr::LOCALHOST, port).into(),
        };
        let Some(inside) = self.socket_inside(family, Kind::Stream).transpose() else { return };
        let inside = inside.and_then(|inside| match rustix::net::connect(&inside, &to) {
            Ok(()) | Err(rustix::io::Errno::INPROGRESS) => Ok(inside),
            Err(errno) => Err(errno.into()),
        });
        let (at, generation) = self.connections.next();
        let watched = inside.and_then(|inside| {
            self.watch(&inside, Token::Connection { at, side: 0, generation })?;
            Ok(inside)
        });
        match watched {
            Ok(inside) => {
                self.connections.insert(Connection::Entering { outside, inside, family, port });
            }
            Err(_) if family == Family::Ipv4 => self.enter(outside, Family::Ipv6, port),
            Err(_) => break_off(&outside),
        }
    }

    pub(super) fn connected_inside(&mut self, at: u32, outcome: rustix::io::Result<Result<(), rustix::io::Errno>>) {
        if let (Ok(Ok(())), Some(Connection::Entering { inside, .. })) = (&outcome, self.connections.get_mut(at))
            && rustix::net::getpeername(&*inside).is_err()
        {
            return;
        }
        let Some(Connection::Entering { outside, inside, family, port }) = self.connections.remove(at) else { return };
        match outcome {
            Ok(Ok(())) => {
                epoll::delete(&self.epoll, &inside).ok();
                self.open(inside, outside, false);
            }
            _ if family == Family::Ipv4 => self.enter(outside, Family::Ipv6, port),
            _ => {
                self.has_room = true;
                break_off(&outside);
            }
        }
    }
}
