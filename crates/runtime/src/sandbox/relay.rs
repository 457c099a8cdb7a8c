//! The relay: what the gate of a sandbox takes in, it passes on by sockets of the other network, or refuses.
//!
//! One thread and one epoll(7). Nothing here blocks but the agent's answer to a request for a socket, which
//! is there at once.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use hopyard_kernel::agent::{Agent, Kind};
use hopyard_kernel::sandbox::{GATE_ADDRESSES, Gate, Request, Seen, Unreachable};
use hopyard_kernel::{Errno, Process};
use hopyard_net::{Family, Transport};
use rustix::event::{Timespec, epoll};
use rustix::net::{RecvFlags, SendFlags, sockopt};

use super::dns::Question;
use super::policy::{Answer, Decision, Policy};
use super::record::{Attempt, Record, host};
use super::splice::{Progress, Splice, break_off};

/// What the relay works with.
pub(super) struct Tools {
    pub(super) gate: Gate,
    pub(super) outside: Agent,
    /// Where something is published.
    pub(super) inside: Option<Agent>,
    pub(super) published: Vec<Published>,
    pub(super) policy: Policy,
    pub(super) records: bool,
    /// The relay ends when the other end of this pipe is closed.
    pub(super) stop: OwnedFd,
    /// The lab that is outside: the sandbox ends with it.
    pub(super) lab: Option<Process>,
}

/// A port outside that leads to one of the sandbox.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) listener: OwnedFd,
    pub(super) inner: u16,
}

/// How it ended.
pub(super) struct Ended {
    pub(super) record: Record,
    /// The lab that was outside is gone.
    pub(super) lab_is_gone: bool,
}

const RESOLVER_PORT: u16 = 53;
/// How long a UDP flow lasts of which nothing is heard. RFC 4787, REQ-5 asks for two minutes at least.
const FLOW_IDLE: Duration = Duration::from_mins(3);
/// A connection that was let pass is there at once, unless its client has gone.
const PASSED: Duration = Duration::from_secs(10);
/// How often it is looked at what has been idle.
const SWEEP: Duration = Duration::from_secs(5);
/// More flows at once need more room than a program can want; the oldest go.
const MOST_FLOWS: usize = 4096;
/// What waits for names at most.
const MOST_PARKED: usize = 1024;
/// Of one thing before others have their turn.
const TURN: usize = 256;
const SCRATCH_BYTES: usize = 1 << 16;

/// What an event is about: a kind, the number of a thing, and which of its things of that number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Stop,
    Lab,
    Tap,
    Names,
    Datagrams(u32),
    Listener(u32),
    Published(u32),
    Connection { at: u32, side: u8, generation: u16 },
    Flow { at: u32, generation: u16 },
}

impl Token {
    fn to_number(self) -> u64 {
        let (kind, at, side, generation): (u8, u32, u8, u16) = match self {
            Token::Stop => (0, 0, 0, 0),
            Token::Lab => (1, 0, 0, 0),
            Token::Tap => (2, 0, 0, 0),
            Token::Names => (3, 0, 0, 0),
            Token::Datagrams(at) => (4, at, 0, 0),
            Token::Listener(at) => (5, at, 0, 0),
            Token::Published(at) => (6, at, 0, 0),
            Token::Connection { at, side, generation } => (7, at, side, generation),
            Token::Flow { at, generation } => (8, at, 0, generation),
        };
        u64::from(at) | u64::from(generation) << 32 | u64::from(side) << 48 | u64::from(kind) << 56
    }

    fn of_number(number: u64) -> Option<Self> {
        let [kind, side, g1, g0, at @ ..] = number.to_be_bytes();
        let (at, generation) = (u32::from_be_bytes(at), u16::from_be_bytes([g1, g0]));
        Some(match kind {
            0 => Token::Stop,
            1 => Token::Lab,
            2 => Token::Tap,
            3 => Token::Names,
            4 => Token::Datagrams(at),
            5 => Token::Listener(at),
            6 => Token::Published(at),
            7 => Token::Connection { at, side, generation },
            8 => Token::Flow { at, generation },
            _ => return None,
        })
    }
}

/// Things by number. A number is used again, but not for what was called by it before.
struct Slab<T> {
    slots: Vec<(u16, Option<T>)>,
    free: Vec<u32>,
}

impl<T> Slab<T> {
    fn new() -> Self {
        Slab { slots: Vec::new(), free: Vec::new() }
    }

    /// The number, and which of that number, of what is inserted next.
    fn next(&self) -> (u32, u16) {
        match self.free.last() {
            Some(&at) => (at, self.slots.get(at as usize).map_or(0, |slot| slot.0)),
            None => (u32::try_from(self.slots.len()).unwrap_or(u32::MAX), 0),
        }
    }

    fn insert(&mut self, value: T) -> u32 {
        match self.free.pop() {
            Some(at) => {
                self.slots[at as usize].1 = Some(value);
                at
            }
            None => {
                self.slots.push((0, Some(value)));
                u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
            }
        }
    }

    fn get_mut(&mut self, at: u32) -> Option<&mut T> {
        self.slots.get_mut(at as usize)?.1.as_mut()
    }

    fn is(&self, at: u32, generation: u16) -> bool {
        self.slots.get(at as usize).is_some_and(|slot| slot.0 == generation && slot.1.is_some())
    }

    /// Makes another thing of it, which has its number.
    fn become_another(&mut self, at: u32, change: impl FnOnce(T) -> T) {
        if let Some((_, slot)) = self.slots.get_mut(at as usize) {
            *slot = slot.take().map(change);
        }
    }

    fn remove(&mut self, at: u32) -> Option<T> {
        let slot = self.slots.get_mut(at as usize)?;
        let value = slot.1.take()?;
        slot.0 = slot.0.wrapping_add(1);
        self.free.push(at);
        Some(value)
    }

    fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (0..).zip(&self.slots).filter_map(|(at, slot)| Some((at, slot.1.as_ref()?)))
    }
}

/// Who is in a conversation: the socket of the sandbox, and whom it means.
type Ends = (SocketAddr, SocketAddr);

enum Connection {
    /// Outside, it is being made.
    Connecting {
        ends: Ends,
        request: Request,
        outside: OwnedFd,
    },
    /// It was let pass, and will come to a listener.
    Passed {
        ends: Ends,
        outside: OwnedFd,
        since: Instant,
    },
    /// Somebody outside came to a published port; inside, the connection is being made.
    Entering {
        outside: OwnedFd,
        inside: OwnedFd,
        family: Family,
        port: u16,
    },
    Open(Splice),
}

struct Flow {
    ends: Ends,
    outside: OwnedFd,
    used: Instant,
}

/// What waits until names have been looked up.
enum Parked {
    Request(Ends, Request),
    Datagram(Ends, Vec<u8>),
}

pub(super) struct Relay {
    tools: Tools,
    epoll: OwnedFd,
    connections: Slab<Connection>,
    /// Those that are not open yet.
    pending: HashMap<Ends, u32>,
    flows: Slab<Flow>,
    flow_of: HashMap<Ends, u32>,
    questions: HashMap<u32, Vec<(Ends, Question)>>,
    parked: Vec<Parked>,
    /// Connections that have more to do than one turn allowed.
    busy: Vec<(u32, u16)>,
    record: Record,
    scratch: Vec<u8>,
    swept: Instant,
}

impl Relay {
    pub(super) fn new(tools: Tools) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let watch = |fd: &dyn AsFd, token: Token| {
            epoll::add(&epoll, fd.as_fd(), epoll::EventData::new_u64(token.to_number()), epoll::EventFlags::IN)
        };
        watch(&tools.stop, Token::Stop)?;
        if let Some(lab) = &tools.lab {
            watch(lab, Token::Lab)?;
        }
        watch(&tools.gate.tap(), Token::Tap)?;
        watch(&tools.outside.answers(), Token::Names)?;
        for (at, socket) in (0..).zip(tools.gate.datagrams()) {
            watch(&socket, Token::Datagrams(at))?;
        }
        for (at, listener) in (0..).zip(&tools.gate.listeners) {
            watch(listener, Token::Listener(at))?;
        }
        for (at, published) in (0..).zip(&tools.published) {
            watch(&published.listener, Token::Published(at))?;
        }
        Ok(Relay {
            tools,
            epoll,
            connections: Slab::new(),
            pending: HashMap::new(),
            flows: Slab::new(),
            flow_of: HashMap::new(),
            questions: HashMap::new(),
            parked: Vec::new(),
            busy: Vec::new(),
            record: Record::default(),
            scratch: vec![0; SCRATCH_BYTES],
            swept: Instant::now(),
        })
    }

    /// Relays until it is told to stop, or until the lab is gone.
    ///
    /// # Errors
    /// Those of epoll_wait(2); of what concerns one connection alone, none.
    pub(super) fn run(mut self) -> io::Result<Ended> {
        let mut events: Vec<epoll::Event> = Vec::with_capacity(256);
        loop {
            let timeout = self.timeout();
            events.clear();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), timeout.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            for event in &events {
                let Some(token) = Token::of_number(event.data.u64()) else { continue };
                let flags = event.flags;
                match token {
                    Token::Stop => return Ok(Ended { record: self.record, lab_is_gone: false }),
                    Token::Lab => return Ok(Ended { record: self.record, lab_is_gone: true }),
                    Token::Tap => self.take_requests()?,
                    Token::Names => self.take_names()?,
                    Token::Datagrams(at) => self.take_datagrams(at as usize)?,
                    Token::Listener(at) => self.accept(at as usize),
                    Token::Published(at) => self.let_in(at as usize),
                    Token::Connection { at, side, generation } => {
                        if self.connections.is(at, generation) {
                            self.advance(at, generation, side, flags);
                        }
                    }
                    Token::Flow { at, generation } => {
                        if self.flows.is(at, generation) {
                            self.take_answers(at);
                        }
                    }
                }
            }
            for (at, generation) in std::mem::take(&mut self.busy) {
                if self.connections.is(at, generation) {
                    self.pump(at, generation);
                }
            }
            self.sweep();
        }
    }

    fn timeout(&self) -> Option<Timespec> {
        if !self.busy.is_empty() {
            return Some(Timespec { tv_sec: 0, tv_nsec: 0 });
        }
        let waits = !self.flow_of.is_empty() || !self.pending.is_empty();
        waits.then_some(Timespec { tv_sec: SWEEP.as_secs().cast_signed(), tv_nsec: 0 })
    }

    /// Ends what has been idle for too long.
    fn sweep(&mut self) {
        let now = Instant::now();
        if now.saturating_duration_since(self.swept) < SWEEP {
            return;
        }
        self.swept = now;
        let idle = |since: Instant, limit| now.saturating_duration_since(since) >= limit;
        let flows: Vec<u32> =
            self.flows.iter().filter(|(_, flow)| idle(flow.used, FLOW_IDLE)).map(|(at, _)| at).collect();
        flows.into_iter().for_each(|at| self.end_flow(at));
        let is_late = |connection: &Connection| match connection {
            Connection::Passed { since, .. } => idle(*since, PASSED),
            _ => false,
        };
        let late: Vec<u32> =
            self.connections.iter().filter(|(_, connection)| is_late(connection)).map(|(at, _)| at).collect();
        late.into_iter().for_each(|at| self.end(at));
    }

    fn watch(&self, fd: impl AsFd, token: Token) -> io::Result<()> {
        use epoll::EventFlags as Flags;
        let flags = match token {
            Token::Flow { .. } => Flags::IN,
            // Both directions, and each change once: what was not read waits for its turn without noise.
            _ => Flags::IN | Flags::OUT | Flags::RDHUP | Flags::ET,
        };
        Ok(epoll::add(&self.epoll, fd, epoll::EventData::new_u64(token.to_number()), flags)?)
    }

    /// Notes what was tried, where that is wanted.
    fn note(&mut self, to: SocketAddr, transport: Transport, allowed: bool) {
        if self.tools.records {
            let name = self.tools.policy.name_of(to, transport);
            let attempt = Attempt::Reach { host: host(name, to.ip()), port: to.port(), transport };
            self.record.note(attempt, allowed);
        }
    }

    // TCP, from inside to outside.

    fn take_requests(&mut self) -> io::Result<()> {
        for _ in 0..TURN {
            match self.tools.gate.next() {
                Ok(None) => return Ok(()),
                Ok(Some((Seen::Connect { from, to }, request))) => self.consider((from, to), request),
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

    fn refuse(&self, request: &Request, why: Unreachable) {
        // What is lost is asked for again.
        self.tools.gate.refuse(request, why).ok();
    }

    fn consider(&mut self, ends: Ends, request: Request) {
        // Asked for again while it is being made.
        if self.pending.contains_key(&ends) {
            return;
        }
        match self.tools.policy.decide(ends.1, Transport::Tcp, Instant::now()) {
            Decision::Allowed => {
                self.note(ends.1, Transport::Tcp, true);
                if let Err(why) = self.connect(ends, &request)
                    && let Some(why) = why
                {
                    self.refuse(&request, why);
                }
            }
            Decision::Denied => {
                // Nobody is at the gate itself but the resolver, which speaks UDP.
                if !is_gate(ends.1) {
                    self.note(ends.1, Transport::Tcp, false);
                }
                let why = if is_gate(ends.1) { Unreachable::Port } else { Unreachable::Prohibited };
                self.refuse(&request, why);
            }
            Decision::Unknown(names) => {
                let is_parked = |parked: &Parked| matches!(parked, Parked::Request(other, _) if *other == ends);
                if !self.parked.iter().any(is_parked) {
                    self.park(Parked::Request(ends, request), &names);
                }
            }
        }
    }

    /// `Err(None)`: that is known to nobody yet.
    fn connect(&mut self, ends: Ends, request: &Request) -> Result<(), Option<Unreachable>> {
        let outside =
            self.tools.outside.socket(Family::of(ends.1.ip()), Kind::Stream).map_err(|error| unreachable(&error))?;
        match rustix::net::connect(&outside, &ends.1) {
            Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
            Err(errno) => return Err(unreachable(&errno.into())),
        }
        let (at, generation) = self.connections.next();
        self.watch(&outside, Token::Connection { at, side: 1, generation }).map_err(|error| unreachable(&error))?;
        self.connections.insert(Connection::Connecting { ends, request: request.clone(), outside });
        self.pending.insert(ends, at);
        Ok(())
    }

    fn accept(&mut self, at: usize) {
        for _ in 0..TURN {
            let Some(listener) = self.tools.gate.listeners.get(at) else { return };
            let (stream, from) = match listener.accept() {
                Ok(accepted) => accepted,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // Nobody more, or no descriptor left: then it waits in the queue.
                Err(_) => return,
            };
            let Ok(to) = stream.local_addr() else { continue };
            let ends = (plain(from), plain(to));
            let stream = OwnedFd::from(stream);
            let passed = self.pending.remove(&ends).and_then(|at| self.connections.remove(at));
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
    fn open(&mut self, inside: OwnedFd, outside: OwnedFd, is_watched: bool) {
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

    fn advance(&mut self, at: u32, generation: u16, side: u8, flags: epoll::EventFlags) {
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

    fn connected_outside(&mut self, at: u32, outcome: rustix::io::Result<Result<(), rustix::io::Errno>>) {
        let Some(Connection::Connecting { request, outside, .. }) = self.connections.get_mut(at) else { return };
        let outcome = match outcome {
            // It also wakes before it is connected.
            Ok(Ok(())) if rustix::net::getpeername(&*outside).is_err() => return,
            Ok(Ok(())) => self.tools.gate.let_pass(request),
            Ok(Err(errno)) | Err(errno) => Err(errno.into()),
        };
        match outcome {
            Ok(()) => self.connections.become_another(at, |connection| match connection {
                Connection::Connecting { ends, outside, .. } => {
                    Connection::Passed { ends, outside, since: Instant::now() }
                }
                other => other,
            }),
            Err(error) => {
                if let Some(why) = unreachable(&error) {
                    self.tools.gate.refuse(request, why).ok();
                }
                self.end(at);
            }
        }
    }

    fn pump(&mut self, at: u32, generation: u16) {
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

    fn end(&mut self, at: u32) {
        match self.connections.remove(at) {
            Some(Connection::Connecting { ends, .. }) => {
                self.pending.remove(&ends);
            }
            Some(Connection::Passed { ends, outside, .. }) => {
                self.pending.remove(&ends);
                break_off(&outside);
            }
            Some(Connection::Entering { outside, .. }) => break_off(&outside),
            Some(Connection::Open(_)) | None => {}
        }
    }

    // TCP, from outside to inside.

    fn let_in(&mut self, at: usize) {
        for _ in 0..TURN {
            let Some(published) = self.tools.published.get(at) else { return };
            let flags = rustix::net::SocketFlags::CLOEXEC | rustix::net::SocketFlags::NONBLOCK;
            let outside = match rustix::net::accept_with(&published.listener, flags) {
                Ok(outside) => outside,
                Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNABORTED) => continue,
                Err(_) => return,
            };
            let port = published.inner;
            self.enter(outside, Family::Ipv4, port);
        }
    }

    /// A server in the sandbox may listen on either loopback.
    fn enter(&mut self, outside: OwnedFd, family: Family, port: u16) {
        let to: SocketAddr = match family {
            Family::Ipv4 => (Ipv4Addr::LOCALHOST, port).into(),
            Family::Ipv6 => (Ipv6Addr::LOCALHOST, port).into(),
        };
        let Some(agent) = &self.tools.inside else { return };
        let inside = agent.socket(family, Kind::Stream).and_then(|inside| match rustix::net::connect(&inside, &to) {
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

    fn connected_inside(&mut self, at: u32, outcome: rustix::io::Result<Result<(), rustix::io::Errno>>) {
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
            _ => break_off(&outside),
        }
    }

    // UDP.

    fn take_datagrams(&mut self, socket: usize) -> io::Result<()> {
        let mut buffer = std::mem::take(&mut self.scratch);
        for _ in 0..TURN {
            match self.tools.gate.receive(socket, &mut buffer) {
                Ok(Some((length, from, to))) => self.datagram((plain(from), plain(to)), &buffer[..length]),
                Ok(None) => break,
                // An answer of ours that nobody took: nobody has to know.
                Err(error) if is_of_the_link(&error) => {}
                Err(error) => return Err(error),
            }
        }
        self.scratch = buffer;
        Ok(())
    }

    fn datagram(&mut self, ends: Ends, payload: &[u8]) {
        if is_gate(ends.1) {
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
        match self.tools.policy.decide(ends.1, Transport::Udp, Instant::now()) {
            Decision::Allowed => {
                self.note(ends.1, Transport::Udp, true);
                match self.begin_flow(ends) {
                    Ok(at) => self.pass_on(at, payload),
                    Err(error) => {
                        if let Some(why) = unreachable(&error) {
                            self.refuse_datagram(ends, why);
                        }
                    }
                }
            }
            Decision::Denied => {
                self.note(ends.1, Transport::Udp, false);
                self.refuse_datagram(ends, Unreachable::Prohibited);
            }
            Decision::Unknown(names) => self.park(Parked::Datagram(ends, payload.to_vec()), &names),
        }
    }

    fn refuse_datagram(&self, (from, to): Ends, why: Unreachable) {
        self.tools.gate.refuse_datagram(from, to, why).ok();
    }

    fn begin_flow(&mut self, ends: Ends) -> io::Result<u32> {
        if self.flow_of.len() >= MOST_FLOWS
            && let Some((oldest, _)) = self.flows.iter().min_by_key(|(_, flow)| flow.used)
        {
            self.end_flow(oldest);
        }
        let outside = self.tools.outside.socket(Family::of(ends.1.ip()), Kind::Datagram)?;
        rustix::net::connect(&outside, &ends.1)?;
        let (at, generation) = self.flows.next();
        self.watch(&outside, Token::Flow { at, generation })?;
        self.flows.insert(Flow { ends, outside, used: Instant::now() });
        self.flow_of.insert(ends, at);
        Ok(at)
    }

    fn pass_on(&mut self, at: u32, payload: &[u8]) {
        let Some(flow) = self.flows.get_mut(at) else { return };
        flow.used = Instant::now();
        let ends = flow.ends;
        // What a socket says is of the datagram before; this one goes on its way nevertheless.
        for _ in 0..2 {
            match rustix::net::send(&flow.outside, payload, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(_) | Err(rustix::io::Errno::AGAIN | rustix::io::Errno::NOBUFS) => return,
                Err(errno) => {
                    let Some(why) = unreachable(&errno.into()) else { return };
                    self.tools.gate.refuse_datagram(ends.0, ends.1, why).ok();
                }
            }
        }
    }

    fn take_answers(&mut self, at: u32) {
        let Some(flow) = self.flows.get_mut(at) else { return };
        let (from, to) = flow.ends;
        for _ in 0..TURN {
            match rustix::net::recv(&flow.outside, &mut self.scratch[..], RecvFlags::DONTWAIT) {
                Ok((_, length)) => {
                    flow.used = Instant::now();
                    self.tools.gate.send(to, from, &self.scratch[..length]).ok();
                }
                Err(rustix::io::Errno::AGAIN) => return,
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => {
                    if let Some(why) = unreachable(&errno.into()) {
                        self.tools.gate.refuse_datagram(from, to, why).ok();
                    }
                }
            }
        }
    }

    fn end_flow(&mut self, at: u32) {
        if let Some(flow) = self.flows.remove(at) {
            self.flow_of.remove(&flow.ends);
        }
    }

    // Names.

    fn question(&mut self, ends: Ends, question: Question) {
        let answer = self.tools.policy.answer(&question.name, Instant::now());
        if self.tools.records {
            let allowed = match &answer {
                Answer::Denied => false,
                Answer::LookUp(_) => true,
                Answer::Known(found) => !self.stands_in(found),
            };
            self.record.note(Attempt::LookUp(question.name.clone()), allowed);
        }
        match answer {
            Answer::Known(found) => self.reply(ends, question.answer(Some(&found))),
            Answer::Denied => self.reply(ends, question.answer(None)),
            Answer::LookUp(number) => {
                let waiting = self.questions.entry(number).or_default();
                if waiting.len() < MOST_PARKED {
                    waiting.push((ends, question));
                }
                self.look_up(number);
            }
        }
    }

    fn stands_in(&self, found: &hopyard_kernel::agent::Found) -> bool {
        match found {
            hopyard_kernel::agent::Found::Addresses(addresses) => {
                addresses.iter().any(|&addr| self.tools.policy.stand_in(addr).is_some())
            }
            _ => false,
        }
    }

    fn reply(&self, (from, to): Ends, answer: Option<Vec<u8>>) {
        if let Some(answer) = answer {
            self.tools.gate.send(to, from, &answer).ok();
        }
    }

    fn look_up(&mut self, number: u32) {
        let Some(name) = self.tools.policy.begin_look_up(number) else { return };
        if self.tools.outside.look_up(number, name).is_err() {
            let failed = hopyard_kernel::agent::Found::Failed("too many names at once".to_owned());
            self.found(number, failed);
        }
    }

    fn take_names(&mut self) -> io::Result<()> {
        while let Some((number, found)) = self.tools.outside.answer()? {
            self.found(number, found);
        }
        Ok(())
    }

    fn found(&mut self, number: u32, found: hopyard_kernel::agent::Found) {
        self.tools.policy.found(number, found.clone(), Instant::now());
        for (ends, question) in self.questions.remove(&number).unwrap_or_default() {
            self.reply(ends, question.answer(Some(&found)));
        }
        // What still does not know enough parks itself again.
        for parked in std::mem::take(&mut self.parked) {
            match parked {
                Parked::Request(ends, request) => self.consider(ends, request),
                Parked::Datagram(ends, payload) => self.datagram(ends, &payload),
            }
        }
    }

    fn park(&mut self, what: Parked, names: &[u32]) {
        if self.parked.len() < MOST_PARKED {
            self.parked.push(what);
        }
        for &number in names {
            self.look_up(number);
        }
    }
}

/// Is it the gate itself, where the resolver is?
fn is_gate(to: SocketAddr) -> bool {
    to.ip() == GATE_ADDRESSES.0 || to.ip() == GATE_ADDRESSES.1
}

/// Without what only one end knows: scope and flow label.
fn plain(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip(), addr.port())
}

/// The link to the sandbox goes, when the sandbox does.
fn is_of_the_link(error: &io::Error) -> bool {
    matches!(error.raw_os_error().map(Errno::from_raw), Some(errno) if errno == Errno::from_raw(ENETDOWN))
        || error.kind() == io::ErrorKind::ConnectionRefused
}

const ENETDOWN: i32 = rustix::io::Errno::NETDOWN.raw_os_error();

/// How the network outside says that something is not reached. `None`: it does not say anything, and who
/// asks finds that out by itself.
fn unreachable(error: &io::Error) -> Option<Unreachable> {
    use rustix::io::Errno as E;
    Some(match E::from_io_error(error)? {
        E::CONNREFUSED | E::CONNRESET => Unreachable::Port,
        // As when there is no address of that family outside.
        E::NETUNREACH | E::ADDRNOTAVAIL | E::AFNOSUPPORT | E::INVAL | E::NETDOWN => Unreachable::Network,
        E::ACCESS | E::PERM => Unreachable::Prohibited,
        E::TIMEDOUT | E::MSGSIZE => return None,
        _ => Unreachable::Host,
    })
}
