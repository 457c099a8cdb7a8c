//! UDP: each pair of ends is a flow, with a socket outside of its own.

use std::io;
use std::time::Instant;

use hopyard_kernel::agent::Kind;
use hopyard_kernel::sandbox::{Gate, IcmpError, Unreachable, path_mtu};
use hopyard_net::{Family, Transport};
use rustix::net::{RecvFlags, SendFlags};

use super::token::Token;
use super::{
    Ends, Flow, MOST_FLOWS, Parked, RESOLVER_PORT, Relay, TURN, is_gate, is_of_the_link, outcome, plain, unreachable,
};
use crate::sandbox::dns::Question;
use crate::sandbox::policy::{Aim, Decision};
use crate::sandbox::record::Outcome;

/// A router outside has said that a datagram was longer than what the next network takes. So the kernel in the sandbox
/// knows what its own datagrams may have, and tells those who ask (`IP_MTU_DISCOVER`, ip(7)).
fn tell_size(gate: &Gate, flow: &Flow) {
    let (from, to) = flow.ends;
    if let Ok(mtu) = path_mtu(&flow.outside, Family::of(to.ip())) {
        gate.refuse_datagram(from, to, IcmpError::too_big(to.ip(), mtu)).ok();
    }
}

impl Relay {
    pub(super) fn take_datagrams(&mut self, socket: usize) -> io::Result<()> {
        let mut buffer = std::mem::take(&mut self.scratch);
        for _ in 0..TURN {
            match self.tools.gate.receive(socket, &mut buffer) {
                Ok(Some((length, from, to))) => {
                    self.datagram((plain(from), plain(to)), &buffer[..length], Instant::now());
                }
                Ok(None) => break,
                // An answer of ours that nobody took: nobody has to know.
                Err(error) if is_of_the_link(&error) => {}
                Err(error) => return Err(error),
            }
        }
        self.scratch = buffer;
        Ok(())
    }

    pub(super) fn datagram(&mut self, ends: Ends, payload: &[u8], since: Instant) {
        if is_gate(ends.1.ip()) {
            match Question::parse(payload) {
                Some(question) if ends.1.port() == RESOLVER_PORT => self.question(ends, question),
                _ if ends.1.port() == RESOLVER_PORT => {}
                _ => self.refuse_datagram(ends, Unreachable::Port),
            }
            return;
        }
        if let Some(&at) = self.flow_of.get(&ends) {
            return self.pass_on(at, payload);
        }
        let aim = Aim::Port(ends.1, Transport::Udp);
        match self.tools.policy.decide(aim, since) {
            Decision::Allowed => {
                self.note(aim, true);
                match self.begin_flow(ends) {
                    Ok(at) => self.pass_on(at, payload),
                    Err(error) => {
                        if let Some(why) = unreachable(&error) {
                            self.note_outcome(aim, outcome(why));
                            self.refuse_datagram(ends, why);
                        }
                    }
                }
            }
            Decision::Denied => {
                self.note(aim, false);
                self.refuse_datagram(ends, Unreachable::Prohibited);
            }
            Decision::Unknown(names) => self.park(Parked::Datagram(ends, payload.to_vec()), names, since),
        }
    }

    pub(super) fn refuse_datagram(&self, (from, to): Ends, why: Unreachable) {
        self.tools.gate.refuse_datagram(from, to, IcmpError::unreachable(to.ip(), why)).ok();
    }

    pub(super) fn begin_flow(&mut self, ends: Ends) -> io::Result<u32> {
        if self.flow_of.len() >= MOST_FLOWS
            && let Some((oldest, _)) = self.flows.iter().min_by_key(|(_, flow)| flow.used)
        {
            self.end_flow(oldest);
        }
        let family = Family::of(ends.1.ip());
        let outside = self.with_room(|tools| tools.outside.socket(family, Kind::Datagram))?;
        rustix::net::connect(&outside, &ends.1)?;
        let (at, generation) = self.flows.next();
        self.watch(&outside, Token::Flow { at, generation })?;
        self.flows.insert(Flow { ends, outside, used: Instant::now(), is_heard: false });
        self.flow_of.insert(ends, at);
        Ok(at)
    }

    pub(super) fn pass_on(&mut self, at: u32, payload: &[u8]) {
        let Some(flow) = self.flows.get_mut(at) else { return };
        flow.used = Instant::now();
        let ends = flow.ends;
        let mut heard = None;
        // What a socket says is of the datagram before; this one goes on its way nevertheless.
        for _ in 0..2 {
            match rustix::net::send(&flow.outside, payload, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(_) | Err(rustix::io::Errno::AGAIN | rustix::io::Errno::NOBUFS) => break,
                Err(rustix::io::Errno::MSGSIZE) => tell_size(&self.tools.gate, flow),
                Err(errno) => {
                    let Some(why) = unreachable(&errno.into()) else { break };
                    self.tools.gate.refuse_datagram(ends.0, ends.1, IcmpError::unreachable(ends.1.ip(), why)).ok();
                    heard = Some(outcome(why));
                }
            }
        }
        if let Some(heard) = heard {
            self.hear(at, heard);
        }
    }

    pub(super) fn take_answers(&mut self, at: u32) {
        let Some(flow) = self.flows.get_mut(at) else { return };
        let (from, to) = flow.ends;
        let mut heard = None;
        for _ in 0..TURN {
            match rustix::net::recv(&flow.outside, &mut self.scratch[..], RecvFlags::DONTWAIT) {
                Ok((_, length)) => {
                    flow.used = Instant::now();
                    heard = heard.or(Some(Outcome::Answered));
                    self.tools.gate.send(to, from, &self.scratch[..length]).ok();
                }
                Err(rustix::io::Errno::AGAIN) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::MSGSIZE) => tell_size(&self.tools.gate, flow),
                Err(errno) => {
                    if let Some(why) = unreachable(&errno.into()) {
                        heard = heard.or(Some(outcome(why)));
                        self.tools.gate.refuse_datagram(from, to, IcmpError::unreachable(to.ip(), why)).ok();
                    }
                }
            }
        }
        if let Some(heard) = heard {
            self.hear(at, heard);
        }
    }

    /// Of a flow the first that is heard is noted.
    fn hear(&mut self, at: u32, heard: Outcome) {
        if let Some(flow) = self.flows.get_mut(at)
            && !std::mem::replace(&mut flow.is_heard, true)
        {
            let aim = Aim::Port(flow.ends.1, Transport::Udp);
            self.note_outcome(aim, heard);
        }
    }

    pub(super) fn end_flow(&mut self, at: u32) {
        if let Some(flow) = self.flows.remove(at) {
            self.flow_of.remove(&flow.ends);
            self.has_room = true;
        }
    }
}
