//! The relay: what the gate of a sandbox takes in, it passes on by sockets of the other network, or refuses.
//!
//! One thread and one epoll(7). Nothing here blocks but the agent's answer to a request for a socket, which
//! is there at once.

mod datagrams;
mod echoes;
mod inbound;
mod names;
mod outbound;
mod token;
mod visits;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use hopyard_kernel::Process;
use hopyard_kernel::agent::{Agent, Kind};
use hopyard_kernel::sandbox::{Datagrams, EchoRequest, GATE_ADDRESSES, Gate, Request, Unreachable};
use hopyard_net::Family;
use rustix::event::{Timespec, epoll};

use super::dns::Question;
use super::policy::{Aim, Policy};
use super::record::{Attempt, Outcome, Record, host};
use super::splice::Splice;
use echoes::Echoes;
use token::{Slab, Token};
use visits::Visit;

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
    pub(super) door: Door,
    pub(super) inner: u16,
}

/// Where somebody outside comes in.
#[derive(Debug)]
pub(super) enum Door {
    /// TCP.
    Listener(OwnedFd),
    /// UDP.
    Datagrams(Datagrams),
}

impl AsFd for Door {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Door::Listener(socket) => socket.as_fd(),
            Door::Datagrams(socket) => socket.as_fd(),
        }
    }
}

/// How it ended.
pub(super) struct Ended {
    pub(super) record: Record,
    /// The lab that was outside is gone.
    pub(super) lab_is_gone: bool,
    /// The network outside lets the caller not ping, and somebody wanted to.
    pub(super) may_not_ping: bool,
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
/// So many names wait at most until the agent takes them.
const MOST_UNASKED: usize = 4096;
/// Of one thing before others have their turn.
const TURN: usize = 256;
const SCRATCH_BYTES: usize = 1 << 16;

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
    /// Something came back.
    is_heard: bool,
}

/// What waits until names have been looked up.
enum Parked {
    Request(Ends, Request),
    Datagram(Ends, Vec<u8>),
    Echo(EchoRequest),
}

impl Parked {
    /// Where it wants to go.
    fn to(&self) -> IpAddr {
        match self {
            Parked::Request(ends, _) | Parked::Datagram(ends, _) => ends.1.ip(),
            Parked::Echo(request) => request.ends.to,
        }
    }
}

struct Waiting {
    what: Parked,
    /// By number, those of which nothing has been heard since.
    names: Vec<u32>,
    /// When it came. What has been looked up since then is decided by, however long that took.
    since: Instant,
}

pub(super) struct Relay {
    tools: Tools,
    epoll: OwnedFd,
    connections: Slab<Connection>,
    /// Those that are not open yet.
    pending: HashMap<Ends, u32>,
    /// Descriptors that stand for those which they will need inside, of each that is pending at most one: otherwise those
    /// that are being made could take all there are, and none of them would ever open.
    seats: Vec<OwnedFd>,
    flows: Slab<Flow>,
    flow_of: HashMap<Ends, u32>,
    echoes: Slab<Echoes>,
    echoes_of: HashMap<(SocketAddr, IpAddr), u32>,
    may_not_ping: bool,
    visits: Slab<Visit>,
    /// By the published port, the visitor, and the address to which he came.
    visit_of: HashMap<(u32, Ends), u32>,
    questions: HashMap<u32, Vec<(Ends, Question)>>,
    /// Names that are to be looked up, and for which the agent had no room.
    unasked: VecDeque<u32>,
    parked: Vec<Waiting>,
    /// Connections that have more to do than one turn allowed.
    busy: Vec<(u32, u16)>,
    /// Listeners that are not watched, for want of room for whoever waits at them.
    resting: Vec<Token>,
    /// Something has ended since they were looked at.
    has_room: bool,
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
        for (at, socket) in (0..).zip(tools.gate.echoes()) {
            watch(&socket, Token::Echoes(at))?;
        }
        for (at, published) in (0..).zip(&tools.published) {
            watch(&published.door, Token::Published(at))?;
        }
        Ok(Relay {
            tools,
            epoll,
            connections: Slab::new(),
            pending: HashMap::new(),
            seats: Vec::new(),
            flows: Slab::new(),
            flow_of: HashMap::new(),
            echoes: Slab::new(),
            echoes_of: HashMap::new(),
            may_not_ping: false,
            visits: Slab::new(),
            visit_of: HashMap::new(),
            questions: HashMap::new(),
            unasked: VecDeque::new(),
            parked: Vec::new(),
            busy: Vec::new(),
            resting: Vec::new(),
            has_room: false,
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
                    Token::Stop => return Ok(self.ended(false)),
                    Token::Lab => return Ok(self.ended(true)),
                    Token::Tap => self.take_requests()?,
                    Token::Names => self.take_names()?,
                    Token::Datagrams(at) => self.take_datagrams(at as usize)?,
                    Token::Listener(at) => self.accept(at),
                    Token::Published(at) => self.let_in(at),
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
                    Token::Echoes(at) => self.take_echo_requests(at as usize)?,
                    Token::Echo { at, generation } => {
                        if self.echoes.is(at, generation) {
                            self.take_echoes(at);
                        }
                    }
                    Token::Visit { at, generation } => {
                        if self.visits.is(at, generation) {
                            self.take_answers_to_visitor(at);
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
            if std::mem::take(&mut self.has_room) {
                self.watch_again();
            }
        }
    }

    fn ended(self, lab_is_gone: bool) -> Ended {
        Ended { record: self.record, lab_is_gone, may_not_ping: self.may_not_ping }
    }

    fn timeout(&self) -> Option<Timespec> {
        if !self.busy.is_empty() {
            return Some(Timespec { tv_sec: 0, tv_nsec: 0 });
        }
        let has_flows = !(self.flow_of.is_empty() && self.echoes_of.is_empty() && self.visit_of.is_empty());
        let waits = has_flows || !self.pending.is_empty() || !self.resting.is_empty();
        waits.then_some(Timespec { tv_sec: SWEEP.as_secs().cast_signed(), tv_nsec: 0 })
    }

    /// Ends what has been idle for too long.
    fn sweep(&mut self) {
        let now = Instant::now();
        if now.saturating_duration_since(self.swept) < SWEEP {
            return;
        }
        self.swept = now;
        // Others than this program may have made some.
        self.has_room = true;
        let idle = |since: Instant, limit| now.saturating_duration_since(since) >= limit;
        let flows: Vec<u32> =
            self.flows.iter().filter(|(_, flow)| idle(flow.used, FLOW_IDLE)).map(|(at, _)| at).collect();
        for at in flows {
            self.end_flow(at);
        }
        let echoes: Vec<u32> =
            self.echoes.iter().filter(|(_, echoes)| idle(echoes.used, FLOW_IDLE)).map(|(at, _)| at).collect();
        for at in echoes {
            self.end_echoes(at);
        }
        let visits: Vec<u32> =
            self.visits.iter().filter(|(_, visit)| idle(visit.used, FLOW_IDLE)).map(|(at, _)| at).collect();
        for at in visits {
            self.end_visit(at);
        }
        let is_late = |connection: &Connection| match connection {
            Connection::Passed { since, .. } => idle(*since, PASSED),
            _ => false,
        };
        let late: Vec<u32> =
            self.connections.iter().filter(|(_, connection)| is_late(connection)).map(|(at, _)| at).collect();
        for at in late {
            self.end(at);
        }
    }

    /// Makes something that takes a descriptor. Where there is none left, what of datagrams and echoes has been idle for the
    /// longest goes: it may stay for minutes, and only for the case that something still comes.
    fn with_room<T>(&mut self, make: impl Fn(&Tools) -> io::Result<T>) -> io::Result<T> {
        match make(&self.tools) {
            Err(error)
                if rustix::io::Errno::from_io_error(&error).is_some_and(lacks_descriptors) && self.make_room() =>
            {
                make(&self.tools)
            }
            made => made,
        }
    }

    /// A socket inside; `None`: nothing is published, so nobody makes any there.
    fn socket_inside(&mut self, family: Family, kind: Kind) -> io::Result<Option<OwnedFd>> {
        self.with_room(|tools| tools.inside.as_ref().map(|inside| inside.socket(family, kind)).transpose())
    }

    /// False: there is nothing that could go.
    fn make_room(&mut self) -> bool {
        type End = fn(&mut Relay, u32);
        let ends: [End; 3] = [Relay::end_flow, Relay::end_echoes, |relay, at| drop(relay.end_visit(at))];
        let oldest = [
            self.flows.iter().map(|(at, flow)| (flow.used, at)).min(),
            self.echoes.iter().map(|(at, echoes)| (echoes.used, at)).min(),
            self.visits.iter().map(|(at, visit)| (visit.used, at)).min(),
        ];
        let oldest = oldest.into_iter().zip(ends).filter_map(|(oldest, end)| Some((oldest?, end)));
        let Some(((_, at), end)) = oldest.min_by_key(|(oldest, _)| *oldest) else { return false };
        end(self, at);
        true
    }

    fn watch(&self, fd: impl AsFd, token: Token) -> io::Result<()> {
        use epoll::EventFlags as Flags;
        let flags = match token {
            Token::Flow { .. } | Token::Echo { .. } | Token::Visit { .. } => Flags::IN,
            // Both directions, and each change once: what was not read waits for its turn without noise.
            _ => Flags::IN | Flags::OUT | Flags::RDHUP | Flags::ET,
        };
        Ok(epoll::add(&self.epoll, fd, epoll::EventData::new_u64(token.to_number()), flags)?)
    }

    fn listener(&self, token: Token) -> Option<BorrowedFd<'_>> {
        match token {
            Token::Listener(at) => Some(self.tools.gate.listeners.get(at as usize)?.as_fd()),
            Token::Published(at) => Some(self.tools.published.get(at as usize)?.door.as_fd()),
            _ => None,
        }
    }

    /// Leaves a listener alone for now: who waits there would wake this thread again and again.
    fn rest(&mut self, token: Token) {
        if let Some(listener) = self.listener(token)
            && epoll::delete(&self.epoll, listener).is_ok()
        {
            self.resting.push(token);
        }
    }

    fn watch_again(&mut self) {
        for token in std::mem::take(&mut self.resting) {
            let data = epoll::EventData::new_u64(token.to_number());
            let Some(listener) = self.listener(token) else { continue };
            if epoll::add(&self.epoll, listener, data, epoll::EventFlags::IN).is_err() {
                self.resting.push(token);
            }
        }
    }

    /// Notes what was tried, where that is wanted.
    fn note(&mut self, aim: Aim, allowed: bool) {
        if self.tools.records {
            let attempt = self.attempt(aim);
            self.record.note(attempt, allowed);
        }
    }

    /// Notes what became outside of what was let pass, where that is wanted.
    fn note_outcome(&mut self, aim: Aim, outcome: Outcome) {
        if self.tools.records {
            let attempt = self.attempt(aim);
            self.record.answered(&attempt, outcome);
        }
    }

    fn attempt(&self, aim: Aim) -> Attempt {
        let host = host(self.tools.policy.name_of(aim), aim.addr());
        match aim {
            Aim::Port(to, transport) => Attempt::Reach { host, port: to.port(), transport },
            Aim::Echo(_) => Attempt::Echo(host),
        }
    }
}

/// What a record says of that.
fn outcome(why: Unreachable) -> Outcome {
    match why {
        Unreachable::Port => Outcome::Refused,
        Unreachable::Prohibited | Unreachable::Network | Unreachable::Host => Outcome::Unreachable,
    }
}

/// Is it the gate itself, where the resolver is?
fn is_gate(to: IpAddr) -> bool {
    to == GATE_ADDRESSES.0 || to == GATE_ADDRESSES.1
}

/// Is there no room for one more descriptor?
fn lacks_descriptors(errno: rustix::io::Errno) -> bool {
    matches!(errno, rustix::io::Errno::MFILE | rustix::io::Errno::NFILE)
}

/// Is there no room, of descriptors or of memory, for one more connection?
fn lacks_room(errno: rustix::io::Errno) -> bool {
    use rustix::io::Errno as E;
    matches!(errno, E::MFILE | E::NFILE | E::NOBUFS | E::NOMEM)
}

/// Without what only one end knows: scope and flow label.
fn plain(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip(), addr.port())
}

/// The link to the sandbox goes, when the sandbox does.
fn is_of_the_link(error: &io::Error) -> bool {
    matches!(rustix::io::Errno::from_io_error(error), Some(rustix::io::Errno::NETDOWN | rustix::io::Errno::CONNREFUSED))
}

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
