//! UDP, from outside to inside: each visitor of a published port is a flow, with a socket in the sandbox of its own.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Instant;

use hopyard_kernel::agent::Kind;
use hopyard_net::Family;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use super::token::Token;
use super::{Door, Ends, MOST_FLOWS, Relay, TURN};

/// What a visitor and a server of the sandbox have to say to each other.
pub(super) struct Visit {
    /// The published port, the visitor, and the address outside to which he came.
    key: (u32, Ends),
    inside: OwnedFd,
    pub(super) used: Instant,
    /// Is it known on which loopback the server is? Until it is heard by IPv4, it may be on that of IPv6.
    is_settled: bool,
    /// What was sent last, until that is known.
    last: Option<Vec<u8>>,
}

/// Anybody may send, from as many addresses as he likes: what is longer is not kept, and lost where the server is on the
/// loopback of IPv6.
const MOST_KEPT: usize = 2048;

impl Relay {
    pub(super) fn take_visitors(&mut self, number: u32) {
        let mut buffer = std::mem::take(&mut self.scratch);
        for _ in 0..TURN {
            let Some(published) = self.tools.published.get(number as usize) else { break };
            let Door::Datagrams(door) = &published.door else { break };
            let inner = published.inner;
            match door.receive(&mut buffer) {
                Ok(Some((length, from, to))) => self.visit((number, (from, to)), inner, &buffer[..length]),
                Ok(None) => break,
                // An answer of ours did not arrive: nobody has to know.
                Err(_) => {}
            }
        }
        self.scratch = buffer;
    }

    fn visit(&mut self, key: (u32, Ends), port: u16, payload: &[u8]) {
        let at = match self.visit_of.get(&key) {
            Some(&at) => at,
            None => {
                match self.begin_visit(key, Family::Ipv4, port).or_else(|| self.begin_visit(key, Family::Ipv6, port)) {
                    Some(at) => at,
                    // There is no room: as on every other network, what does not fit is lost.
                    None => return,
                }
            }
        };
        self.give(at, payload);
    }

    fn begin_visit(&mut self, key: (u32, Ends), family: Family, port: u16) -> Option<u32> {
        if self.visit_of.len() >= MOST_FLOWS
            && let Some((oldest, _)) = self.visits.iter().min_by_key(|(_, visit)| visit.used)
        {
            self.end_visit(oldest);
        }
        let inside = self.socket_inside(family, Kind::Datagram).ok()??;
        let to: SocketAddr = match family {
            Family::Ipv4 => (Ipv4Addr::LOCALHOST, port).into(),
            Family::Ipv6 => (Ipv6Addr::LOCALHOST, port).into(),
        };
        rustix::net::connect(&inside, &to).ok()?;
        let (at, generation) = self.visits.next();
        self.watch(&inside, Token::Visit { at, generation }).ok()?;
        let is_settled = family == Family::Ipv6;
        self.visits.insert(Visit { key, inside, used: Instant::now(), is_settled, last: None });
        self.visit_of.insert(key, at);
        Some(at)
    }

    /// Gives a datagram to the server.
    fn give(&mut self, at: u32, payload: &[u8]) {
        let Some(visit) = self.visits.get_mut(at) else { return };
        visit.used = Instant::now();
        visit.last = (!visit.is_settled && payload.len() <= MOST_KEPT).then(|| payload.to_vec());
        // What does not fit is lost, as on every other network. A refusal is of the datagram before; what was sent last
        // goes to the next one who may be there.
        let sent = rustix::net::send(&visit.inside, payload, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
        if sent == Err(Errno::CONNREFUSED) {
            self.refused(at);
        }
    }

    pub(super) fn take_answers_to_visitor(&mut self, at: u32) {
        for _ in 0..TURN {
            let Some(visit) = self.visits.get_mut(at) else { return };
            match rustix::net::recv(&visit.inside, &mut self.scratch[..], RecvFlags::DONTWAIT) {
                Ok((_, length)) => {
                    visit.used = Instant::now();
                    (visit.is_settled, visit.last) = (true, None);
                    let (number, (visitor, own)) = visit.key;
                    let published = self.tools.published.get(number as usize);
                    if let Some(Door::Datagrams(door)) = published.map(|published| &published.door) {
                        door.send(&self.scratch[..length], own, visitor).ok();
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::CONNREFUSED) => return self.refused(at),
                Err(_) => return,
            }
        }
    }

    /// Nobody listens on that loopback: as with TCP, a server may be on the other one. If it is on none, the visitor
    /// outside is not told, for no socket of ours can say that; his next datagram finds who is there then.
    fn refused(&mut self, at: u32) {
        let Some(Visit { key, is_settled: false, last, .. }) = self.end_visit(at) else { return };
        let Some(port) = self.tools.published.get(key.0 as usize).map(|published| published.inner) else { return };
        if let Some(at) = self.begin_visit(key, Family::Ipv6, port)
            && let Some(payload) = last
        {
            self.give(at, &payload);
        }
    }

    pub(super) fn end_visit(&mut self, at: u32) -> Option<Visit> {
        let visit = self.visits.remove(at)?;
        self.visit_of.remove(&visit.key);
        self.has_room = true;
        Some(visit)
    }
}
