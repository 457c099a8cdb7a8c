//! ICMP: echo requests of one socket to one host are a flow, with a socket outside of its own.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use hopyard_kernel::agent::Kind;
use hopyard_kernel::sandbox::{EchoClient, EchoEnds, EchoHeard, EchoRequest, IcmpError, Unreachable};
use hopyard_net::Family;

use super::token::Token;
use super::{MOST_FLOWS, Parked, Relay, TURN, is_gate, is_of_the_link, outcome, unreachable};
use crate::sandbox::policy::{Aim, Decision};
use crate::sandbox::record::Outcome;

/// Whose requests go out by which socket.
pub(super) struct Echoes {
    from: SocketAddr,
    to: IpAddr,
    client: EchoClient,
    pub(super) used: Instant,
    /// Something came back.
    is_heard: bool,
}

impl Relay {
    pub(super) fn take_echo_requests(&mut self, socket: usize) -> io::Result<()> {
        for _ in 0..TURN {
            match self.tools.gate.next_echo(socket, &mut self.scratch) {
                Ok(Some(request)) => self.echo(request, Instant::now()),
                Ok(None) => break,
                Err(error) if is_of_the_link(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    pub(super) fn echo(&mut self, request: EchoRequest, since: Instant) {
        let EchoEnds { from, to, .. } = request.ends;
        if is_gate(to) {
            return self.refuse_echo(&request.ends, Unreachable::Host);
        }
        if let Some(&at) = self.echoes_of.get(&(from, to)) {
            return self.pass_echo_on(at, &request);
        }
        let aim = Aim::Echo(to);
        match self.tools.policy.decide(aim, since) {
            Decision::Allowed => {
                self.note(aim, true);
                match self.begin_echoes(from, to) {
                    Ok(at) => self.pass_echo_on(at, &request),
                    Err(why) => {
                        self.note_outcome(aim, if self.may_not_ping { Outcome::Forbidden } else { outcome(why) });
                        self.refuse_echo(&request.ends, why);
                    }
                }
            }
            Decision::Denied => {
                self.note(aim, false);
                self.refuse_echo(&request.ends, Unreachable::Prohibited);
            }
            Decision::Unknown(names) => self.park(Parked::Echo(request), names, since),
        }
    }

    fn refuse_echo(&self, ends: &EchoEnds, why: Unreachable) {
        self.tools.gate.refuse_echo(ends, IcmpError::unreachable(ends.to, why)).ok();
    }

    fn begin_echoes(&mut self, from: SocketAddr, to: IpAddr) -> Result<u32, Unreachable> {
        if self.echoes_of.len() >= MOST_FLOWS
            && let Some((oldest, _)) = self.echoes.iter().min_by_key(|(_, echoes)| echoes.used)
        {
            self.end_echoes(oldest);
        }
        let socket = self.with_room(|tools| tools.outside.socket(Family::of(to), Kind::Echo)).map_err(|error| {
            self.may_not_ping |= error.kind() == io::ErrorKind::PermissionDenied;
            unreachable(&error).unwrap_or(Unreachable::Host)
        })?;
        let why = |error: io::Error| unreachable(&error).unwrap_or(Unreachable::Host);
        let client = EchoClient::connect(socket, to).map_err(why)?;
        let (at, generation) = self.echoes.next();
        self.watch(&client, Token::Echo { at, generation }).map_err(why)?;
        self.echoes.insert(Echoes { from, to, client, used: Instant::now(), is_heard: false });
        self.echoes_of.insert((from, to), at);
        Ok(at)
    }

    fn pass_echo_on(&mut self, at: u32, request: &EchoRequest) {
        let Some(echoes) = self.echoes.get_mut(at) else { return };
        echoes.used = Instant::now();
        let Err(error) = echoes.client.send(request) else { return };
        let to = echoes.to;
        if rustix::io::Errno::from_io_error(&error) == Some(rustix::io::Errno::MSGSIZE) {
            if let Ok(mtu) = echoes.client.mtu() {
                self.tools.gate.refuse_echo(&request.ends, IcmpError::too_big(to, mtu)).ok();
            }
            return;
        }
        if let Some(why) = unreachable(&error) {
            self.refuse_echo(&request.ends, why);
            self.hear_echo(at, outcome(why));
        }
    }

    pub(super) fn take_echoes(&mut self, at: u32) {
        for _ in 0..TURN {
            let Some(echoes) = self.echoes.get_mut(at) else { return };
            let (from, to) = (echoes.from, echoes.to);
            match echoes.client.receive(&mut self.scratch) {
                Ok(Some(EchoHeard::Reply { sequence, hop_limit, payload })) => {
                    echoes.used = Instant::now();
                    let ends = EchoEnds { from, to, sequence };
                    self.tools.gate.echo(&ends, hop_limit, &self.scratch[payload]).ok();
                    self.hear_echo(at, Outcome::Answered);
                }
                Ok(Some(EchoHeard::Error { sequence, error })) => {
                    self.tools.gate.refuse_echo(&EchoEnds { from, to, sequence }, error).ok();
                    if error.is_unreachable(to) {
                        self.hear_echo(at, Outcome::Unreachable);
                    }
                }
                Ok(None) | Err(_) => return,
            }
        }
    }

    /// The first that is heard is noted.
    fn hear_echo(&mut self, at: u32, heard: Outcome) {
        if let Some(echoes) = self.echoes.get_mut(at)
            && !std::mem::replace(&mut echoes.is_heard, true)
        {
            let aim = Aim::Echo(echoes.to);
            self.note_outcome(aim, heard);
        }
    }

    pub(super) fn end_echoes(&mut self, at: u32) {
        if let Some(echoes) = self.echoes.remove(at) {
            self.echoes_of.remove(&(echoes.from, echoes.to));
            self.has_room = true;
        }
    }
}
