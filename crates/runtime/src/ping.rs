//! Reachability, measured: echo requests sent from inside of the nodes, without a child process.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use hopyard_kernel::Realm;
use hopyard_kernel::icmp::{EchoSays, EchoSocket};
use hopyard_net::{Family, NsName};
use rustix::event::epoll;
use rustix::event::{PollFd, PollFlags, Timespec};

use crate::error::{Error, IoContext};

/// A request to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The node that sends it.
    pub from: NsName,
    /// Where it goes.
    pub to: IpAddr,
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The echo came back, after so long.
    Reply(Duration),
    /// A node on the way, or the sender's own, answered with an ICMP error.
    Error {
        /// Who.
        by: IpAddr,
        /// The type of the message.
        kind: u8,
        /// Its code.
        code: u8,
    },
    /// The sender's kernel did not send it: this is the error number.
    NotSent(i32),
    /// Nothing came within the time allowed.
    Silence,
}

impl Outcome {
    /// Did the echo come back?
    pub fn is_reply(&self) -> bool {
        matches!(self, Outcome::Reply(_))
    }
}

/// How many requests may be unanswered at a time: enough to keep the kernel busy, and few enough
/// that their answers fit in the sockets' buffers.
const WINDOW: usize = 2048;

/// Sends all the probes and waits for each at most `timeout`; the outcomes are in their order.
///
/// # Errors
/// A namespace cannot be entered, or there is no room for so many descriptors.
pub fn ping(
    realm: &Realm,
    namespaces: &BTreeMap<NsName, OwnedFd>,
    probes: &[Probe],
    timeout: Duration,
) -> Result<Vec<Outcome>, Error> {
    let mut run = Run::new(realm, namespaces, probes, timeout)?;
    run.send_and_receive()?;
    Ok(run
        .states
        .into_iter()
        .map(|state| if let State::Done(outcome) = state { outcome } else { Outcome::Silence })
        .collect())
}

enum State {
    Unsent,
    Sent(Instant),
    Done(Outcome),
}

struct Run<'a> {
    probes: &'a [Probe],
    timeout: Duration,
    sockets: Vec<EchoSocket>,
    /// Which socket sends each probe.
    socket_of: Vec<usize>,
    epoll: OwnedFd,
    states: Vec<State>,
    waiting: usize,
    /// Tells the answers to this run from those to another.
    salt: u32,
}

impl<'a> Run<'a> {
    fn new(
        realm: &Realm,
        namespaces: &BTreeMap<NsName, OwnedFd>,
        probes: &'a [Probe],
        timeout: Duration,
    ) -> Result<Self, Error> {
        let mut index = BTreeMap::new();
        let mut wanted = Vec::new();
        let mut socket_of = Vec::with_capacity(probes.len());
        for probe in probes {
            let family = Family::of(probe.to);
            let next = wanted.len();
            let at = *index.entry((&probe.from, family)).or_insert(next);
            if at == next {
                let namespace = namespaces.get(&probe.from).ok_or_else(|| Error::Io {
                    doing: format!("ping from {}", probe.from),
                    source: std::io::Error::from(std::io::ErrorKind::NotFound),
                })?;
                wanted.push((namespace.as_fd(), family));
            }
            socket_of.push(at);
        }
        let sockets = EchoSocket::open_all(realm, &wanted).context(|| "open sockets for echo requests".to_owned())?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(std::io::Error::from);
        let epoll = epoll.context(|| "wait for echo replies".to_owned())?;
        for (at, socket) in sockets.iter().enumerate() {
            epoll::add(&epoll, socket, epoll::EventData::new_u64(at as u64), epoll::EventFlags::IN)
                .map_err(std::io::Error::from)
                .context(|| "wait for echo replies".to_owned())?;
        }
        let states = probes.iter().map(|_| State::Unsent).collect();
        let salt = salt();
        Ok(Run { probes, timeout, sockets, socket_of, epoll, states, waiting: 0, salt })
    }

    fn send_and_receive(&mut self) -> Result<(), Error> {
        let mut next = 0;
        // Requests end in the order in which they were sent, as all have the same time.
        let mut oldest = 0;
        while next < self.probes.len() || self.waiting > 0 {
            let mut blocked = false;
            while next < self.probes.len() && self.waiting < WINDOW && !blocked {
                blocked = !self.send(next);
                next += usize::from(!blocked);
                // Answers are read as they come, or they would fill the buffers.
                if next.is_multiple_of(64) {
                    break;
                }
            }
            let sending = next < self.probes.len() && self.waiting < WINDOW && !blocked;
            let patience = if sending { Duration::ZERO } else { self.patience(oldest) };
            self.receive(patience)?;
            oldest = self.give_up(oldest, next);
        }
        Ok(())
    }

    /// Sends a probe; `false`: the socket has no room just now.
    fn send(&mut self, at: usize) -> bool {
        let token = u32::try_from(at).unwrap_or(u32::MAX) ^ self.salt;
        let socket = &self.sockets[self.socket_of[at]];
        let now = Instant::now();
        match socket.send(self.probes[at].to, token, b"hopyard") {
            Ok(()) => {
                self.states[at] = State::Sent(now);
                self.waiting += 1;
                true
            }
            Err(error)
                if matches!(error.raw_os_error(), Some(libc_again::EAGAIN | libc_again::ENOBUFS))
                    && self.waiting > 0 =>
            {
                false
            }
            Err(error) => {
                self.states[at] = State::Done(Outcome::NotSent(error.raw_os_error().unwrap_or_default()));
                true
            }
        }
    }

    /// How long the oldest unanswered request may still take.
    fn patience(&self, oldest: usize) -> Duration {
        let sent =
            self.states[oldest..].iter().find_map(|state| if let State::Sent(at) = state { Some(*at) } else { None });
        sent.map_or(Duration::ZERO, |at| self.timeout.saturating_sub(at.elapsed()))
    }

    fn receive(&mut self, patience: Duration) -> Result<(), Error> {
        // Without one, should it be longer than can be said.
        let timeout = Timespec::try_from(patience).ok();
        // poll(2) on the epoll descriptor first: it waits with a resolution below a millisecond.
        match rustix::event::poll(&mut [PollFd::new(&self.epoll, PollFlags::IN)], timeout.as_ref()) {
            Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(()),
            Ok(_) => {}
            Err(errno) => return Err(std::io::Error::from(errno)).context(|| "wait for echo replies".to_owned()),
        }
        let mut events = Vec::with_capacity(256);
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&zero))
            .map_err(std::io::Error::from)
            .context(|| "wait for echo replies".to_owned())?;
        for event in &events {
            let at = usize::try_from(event.data.u64()).unwrap_or(usize::MAX);
            while let Some(echo) = self.sockets[at].receive().context(|| "read echo replies".to_owned())? {
                let Ok(probe) = usize::try_from(echo.token ^ self.salt) else { continue };
                let Some(State::Sent(sent)) = self.states.get(probe) else { continue };
                if self.socket_of[probe] != at {
                    continue;
                }
                if echo.says == EchoSays::Reply && echo.from != self.probes[probe].to {
                    continue;
                }
                let outcome = match echo.says {
                    EchoSays::Reply => Outcome::Reply(sent.elapsed()),
                    EchoSays::Error { kind, code } => Outcome::Error { by: echo.from, kind, code },
                };
                self.states[probe] = State::Done(outcome);
                self.waiting -= 1;
            }
        }
        Ok(())
    }

    /// Ends the requests whose time is over; returns the oldest that has not ended.
    fn give_up(&mut self, oldest: usize, next: usize) -> usize {
        let mut at = oldest;
        while at < next {
            if let State::Sent(sent) = self.states[at] {
                if sent.elapsed() < self.timeout {
                    break;
                }
                self.states[at] = State::Done(Outcome::Silence);
                self.waiting -= 1;
            }
            at += 1;
        }
        at
    }
}

/// A number that no other run has, in this process or another: late answers to one are none to the next.
pub(crate) fn salt() -> u32 {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |time| time.subsec_nanos());
    let run = RUNS.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x85eb_ca6b);
    now.wrapping_mul(0xc2b2_ae35) ^ std::process::id().wrapping_mul(0x9e37_79b1) ^ run
}

/// Error numbers of Linux; `std` has no names for them.
mod libc_again {
    pub(super) const EAGAIN: i32 = rustix::io::Errno::AGAIN.raw_os_error();
    pub(super) const ENOBUFS: i32 = rustix::io::Errno::NOBUFS.raw_os_error();
}
