//! TCP, from inside to outside.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Instant;

use hopyard_kernel::agent::Kind;
use hopyard_kernel::sandbox::{Request, Seen, Unreachable};
use hopyard_net::{Family, Transport};
use rustix::event::epoll;
use rustix::net::sockopt;

use super::token::Token;
use super::{
    Connection, Ends, Parked, Relay, TURN, Waiting, is_gate, is_of_the_link, lacks_descriptors, lacks_room, outcome,
    plain, unreachable,
};
use crate::sandbox::policy::{Aim, Decision};
use crate::sandbox::record::{Attempt, Outcome};
use crate::sandbox::splice::{Progress, Splice, break_off};

impl Relay {
    pub(super) fn take_requests(&mut self) -> io::Result<()> {
        for _ in 0..TURN {
            match self.tools.gate.next() {
                Ok(None) => return Ok(()),
                Ok(Some((Seen::Connect { from, to }, request))) => self.consider((from, to), request, Instant::now()),
                Ok(Some((Seen::Other { to, protocol }, request))) => {
                    if self.tools.records {
                        self.record.note(Attempt::Other { to, protocol }, false);
                    }
                    self.refuse(&request, Unreachable::Prohibited);
                }
                Err(error) if is_of_the_link(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    pub(super) fn refuse(&self, request: &Request, why: Unreachable) {
        // What is lost is asked for again.
        self.tools.gate.refuse(request, why).ok();
    }

    /// `since`: when it came.
    pub(super) fn consider(&mut self, ends: Ends, request: Request, since: Instant) {
        // Asked for again while it is being made.
        if self.pending.contains_key(&ends) {
            return;
        }
        // Nobody is at the gate itself but the resolver, which speaks UDP; outside, that address is another's.
        if is_gate(ends.1.ip()) {
            return self.refuse(&request, Unreachable::Port);
        }
        let aim = Aim::Port(ends.1, Transport::Tcp);
        match self.tools.policy.decide(aim, since) {
            Decision::Allowed => {
                self.note(aim, true);
                if let Err(why) = self.connect(ends, &request)
                    && let Some(why) = why
                {
                    self.note_outcome(aim, outcome(why));
                    self.refuse(&request, why);
                }
            }
            Decision::Denied => {
                self.note(aim, false);
                self.refuse(&request, Unreachable::Prohibited);
            }
            Decision::Unknown(names) => {
                let is_parked =
                    |waiting: &Waiting| matches!(&waiting.what, Parked::Request(other, _) if *other == ends);
                if !self.parked.iter().any(is_parked) {
                    self.park(Parked::Request(ends, request), names, since);
                }
            }
        }
    }

    /// `Err(None)`: that is known to nobody yet.
    pub(super) fn connect(&mut self, ends: Ends, request: &Request) -> Result<(), Option<Unreachable>> {
        let family = Family::of(ends.1.ip());
        let outside = self.with_room(|tools| tools.outside.socket(family, Kind::Stream));
        let outside = outside.map_err(|error| unreachable(&error))?;
        let seat = self.with_room(|tools| tools.stop.try_clone()).map_err(|error| unreachable(&error))?;
        match rustix::net::connect(&outside, &ends.1) {
            Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
            Err(errno) => return Err(unreachable(&errno.into())),
        }
        let (at, generation) = self.connections.next();
        self.watch(&outside, Token::Connection { at, side: 1, generation }).map_err(|error| unreachable(&error))?;
        self.connections.insert(Connection::Connecting { ends, request: request.clone(), outside });
        self.pending.insert(ends, at);
        self.seats.push(seat);
        Ok(())
    }

    pub(super) fn accept(&mut self, number: u32) {
        for _ in 0..TURN {
            let Some(listener) = self.tools.gate.listeners.get(number as usize) else { return };
            let (stream, from) = match listener.accept() {
                Ok(accepted) => accepted,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    let errno = rustix::io::Errno::from_io_error(&error);
                    if errno.is_some_and(lacks_descriptors) && (self.seats.pop().is_some() || self.make_room()) {
                        continue;
                    }
                    // It waits in the queue until there is room; otherwise there is nobody more.
                    if errno.is_some_and(lacks_room) {
                        self.rest(Token::Listener(number));
                    }
                    return;
                }
            };
            let Ok(to) = stream.local_addr() else { continue };
            let ends = (plain(from), plain(to));
            let stream = OwnedFd::from(stream);
            let passed = self.no_more_pending(&ends).and_then(|at| self.connections.remove(at));
            let Some(Connection::Passed { outside, .. }) = passed else {
                // It waited for too long: the connection outside is gone.
                break_off(&stream);
                continue;
            };
            if rustix::io::ioctl_fionbio(&stream, true).is_err() {
                break_off(&stream);
                continue;
            }
            self.open(stream, outside, true);
        }
    }

    /// Joins two connections. The one outside may be watched already, by another number.
    pub(super) fn open(&mut self, inside: OwnedFd, outside: OwnedFd, is_watched: bool) {
        if is_watched {
            // It cannot fail for what is watched.
            epoll::delete(&self.epoll, &outside).ok();
        }
        let (at, generation) = self.connections.next();
        let splice = Splice::new([inside, outside]);
        for (side, watched) in (0..).zip(&splice.sides) {
            if self.watch(watched.fd(), Token::Connection { at, side, generation }).is_err() {
                splice.break_off();
                return;
            }
        }
        self.connections.insert(Connection::Open(splice));
        self.pump(at, generation);
    }

    pub(super) fn advance(&mut self, at: u32, generation: u16, side: u8, flags: epoll::EventFlags) {
        use epoll::EventFlags as Flags;
        let both = Flags::ERR | Flags::HUP;
        match self.connections.get_mut(at) {
            Some(Connection::Open(splice)) => {
                if let Some(side) = splice.sides.get_mut(usize::from(side)) {
                    side.wake(flags.intersects(both | Flags::IN | Flags::RDHUP), flags.intersects(both | Flags::OUT));
                }
                self.pump(at, generation);
            }
            Some(Connection::Connecting { outside, .. }) => {
                let outcome = sockopt::socket_error(&*outside);
                self.connected_outside(at, outcome);
            }
            Some(Connection::Entering { inside, .. }) if side == 0 => {
                let outcome = sockopt::socket_error(&*inside);
                self.connected_inside(at, outcome);
            }
            // What it has to say will be heard when it is open.
            Some(Connection::Passed { .. } | Connection::Entering { .. }) | None => {}
        }
    }

    pub(super) fn connected_outside(&mut self, at: u32, ended: rustix::io::Result<Result<(), rustix::io::Errno>>) {
        let Some(Connection::Connecting { request, outside, ends }) = self.connections.get_mut(at) else { return };
        let aim = Aim::Port(ends.1, Transport::Tcp);
        let passed = match ended {
            // It also wakes before it is connected.
            Ok(Ok(())) if rustix::net::getpeername(&*outside).is_err() => return,
            Ok(Ok(())) => self.tools.gate.let_pass(request),
            Ok(Err(errno)) | Err(errno) => Err(errno.into()),
        };
        match passed {
            Ok(()) => {
                self.connections.become_another(at, |connection| match connection {
                    Connection::Connecting { ends, outside, .. } => {
                        Connection::Passed { ends, outside, since: Instant::now() }
                    }
                    other => other,
                });
                self.note_outcome(aim, Outcome::Connected);
            }
            Err(error) => {
                if let Some(why) = unreachable(&error) {
                    self.tools.gate.refuse(request, why).ok();
                    self.note_outcome(aim, outcome(why));
                }
                self.end(at);
            }
        }
    }

    pub(super) fn pump(&mut self, at: u32, generation: u16) {
        let Some(Connection::Open(splice)) = self.connections.get_mut(at) else { return };
        match splice.advance(&mut self.scratch) {
            Ok(Progress::Waits) => {}
            Ok(Progress::GoesOn) => self.busy.push((at, generation)),
            Ok(Progress::Done) => self.end(at),
            Err(_) => {
                splice.break_off();
                self.end(at);
            }
        }
    }

    fn no_more_pending(&mut self, ends: &Ends) -> Option<u32> {
        let at = self.pending.remove(ends);
        self.seats.truncate(self.pending.len());
        at
    }

    pub(super) fn end(&mut self, at: u32) {
        self.has_room = true;
        match self.connections.remove(at) {
            Some(Connection::Connecting { ends, .. }) => {
                self.no_more_pending(&ends);
            }
            Some(Connection::Passed { ends, outside, .. }) => {
                self.no_more_pending(&ends);
                break_off(&outside);
            }
            Some(Connection::Entering { outside, .. }) => break_off(&outside),
            Some(Connection::Open(_)) | None => {}
        }
    }
}
