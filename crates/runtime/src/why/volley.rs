//! Probes on their way, watched in all nodes to which they may come: one, or many at a time, each known by its mark.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use hopyard_explain::{Outcome, Protocol, Query, Verdict, Walk};
use hopyard_kernel::tap::{Mark, Tap};
use hopyard_kernel::{World, close_together};
use hopyard_net::{LinkKind, NsName, Snapshot};
use rustix::event::{PollFd, PollFlags, Timespec};

use super::probe::{Seen, compare, note};
use super::witness::{self, Asked, Traced, Witnesses};
use crate::error::{Error, IoContext};

/// As long as less was seen than the model expects, so long is waited for more: a packet may have to
/// wait a second for a neighbour that was asked for in vain before, and the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(2);
/// If all was seen that it expects, so long for what it does not. A packet takes microseconds; who
/// cannot find a neighbour gives up after three seconds, which nobody needs to wait for.
const QUIET: Duration = Duration::from_millis(250);

/// A probe, and what was seen of it.
#[derive(Debug)]
pub(super) struct Shot<'a> {
    pub(super) query: &'a Query,
    pub(super) verdict: &'a Verdict,
    /// Where it should arrive.
    pub(super) target: Option<&'a NsName>,
    pub(super) mark: Mark,
    pub(super) seen: Seen,
    state: State,
    /// Whether something was seen that has not been judged yet.
    is_new: bool,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Unsent,
    /// Since so long nothing was seen of it, and for so long is waited for more.
    Waiting {
        since: Instant,
        patience: Duration,
    },
    /// The answer came. To be looked at once more: what was looked at before it came has more to tell.
    Answered,
    Over,
}

impl<'a> Shot<'a> {
    pub(super) fn new(query: &'a Query, verdict: &'a Verdict, target: Option<&'a NsName>, mark: Mark) -> Self {
        Shot { query, verdict, target, mark, seen: Seen::default(), state: State::Unsent, is_new: false }
    }

    /// Is a node on its way, or on that of its answer?
    pub(super) fn passes(&self, node: &NsName) -> bool {
        let Verdict { there, back } = self.verdict;
        there.nodes().chain(back.iter().flat_map(Walk::nodes)).any(|other| other == node)
    }

    /// The nodes on both ways, and those beside them, to which it may go astray.
    fn concerned(&self, snapshot: &Snapshot) -> BTreeSet<NsName> {
        let mut nodes: BTreeSet<NsName> = self.verdict.there.nodes().cloned().collect();
        nodes.extend(self.verdict.back.iter().flat_map(Walk::nodes).cloned());
        nodes.insert(self.query.from.clone());
        nodes.extend(self.query.wanted.clone());
        let mut beside = BTreeSet::new();
        for node in nodes.iter().filter_map(|node| snapshot.nodes.get(node)) {
            for link in node.links.values() {
                if let LinkKind::Veth { peer: Some(peer) } = &link.kind {
                    beside.insert(peer.ns.clone());
                }
            }
        }
        nodes.extend(beside);
        nodes.retain(|node| snapshot.nodes.contains_key(node));
        nodes
    }

    /// What a firewall told of it, if it was asked.
    pub(super) fn traced_at(&mut self, node: &NsName) -> Option<&mut Traced> {
        let traced = self.seen.nodes.get_mut(node).map(|at| &mut at.traced);
        let traced = traced.filter(|traced| **traced != Traced::Not)?;
        self.is_new = true;
        Some(traced)
    }

    fn is_on_its_way(&self) -> bool {
        matches!(self.state, State::Waiting { .. } | State::Answered)
    }

    fn was_sent(&mut self) {
        self.state = State::Waiting { since: Instant::now(), patience: QUIET };
        self.is_new = true;
    }

    /// Something was seen of it.
    fn was_heard(&mut self) {
        self.is_new = true;
        if let State::Waiting { since, .. } = &mut self.state {
            *since = Instant::now();
        }
    }

    /// Goes on by what has been seen; returns how long is to be waited for more. `None`: it is over, or not yet sent.
    fn judge(&mut self) -> Option<Duration> {
        let State::Waiting { since, patience } = self.state else {
            if matches!(self.state, State::Answered) {
                self.state = State::Over;
            }
            return None;
        };
        if self.seen.at(&self.query.from).reply.came.is_some() {
            self.state = State::Answered;
            return Some(Duration::ZERO);
        }
        let patience = if std::mem::take(&mut self.is_new) { self.patience() } else { patience };
        self.state = State::Waiting { since, patience };
        let left = patience.saturating_sub(since.elapsed());
        if left.is_zero() {
            self.state = State::Over;
            return None;
        }
        Some(left)
    }

    fn patience(&self) -> Duration {
        let Shot { query, verdict, target, seen, .. } = self;
        let undecided = verdict.outcome() == Outcome::Undecided && !witness::has_settled(verdict, seen);
        let open = undecided || !compare(query, verdict, *target, seen).is_empty();
        if open && seen.refused.is_none() { PATIENCE } else { QUIET }
    }
}

/// Taps in nodes: opened when they are first needed, and closed together.
#[derive(Debug, Default)]
pub(crate) struct Range(Vec<(NsName, Tap)>);

impl Drop for Range {
    fn drop(&mut self) {
        close_together(self.0.drain(..).map(|(_, tap)| tap.into()));
    }
}

impl Range {
    /// Opens the taps that it takes to see these probes, and that are not open yet.
    fn open(&mut self, world: &World, snapshot: &Snapshot, shots: &[Shot<'_>]) -> Result<(), Error> {
        let mut nodes: BTreeSet<NsName> = shots.iter().flat_map(|shot| shot.concerned(snapshot)).collect();
        for (known, _) in &self.0 {
            nodes.remove(known);
        }
        let namespaces: Vec<OwnedFd> = nodes.iter().map(|node| world.ns_fd(node)).collect::<Result<_, _>>()?;
        let borrowed: Vec<_> = namespaces.iter().map(AsFd::as_fd).collect();
        let opened = Tap::open_all(world.realm(), &borrowed).context(|| "watch the packets of the nodes".to_owned())?;
        self.0.extend(nodes.into_iter().zip(opened));
        Ok(())
    }

    /// Sends the probes, and watches them until of each all was seen that is to be expected.
    pub(super) fn fire(
        &mut self,
        world: &World,
        snapshot: &Snapshot,
        shots: &mut [Shot<'_>],
        asked: Asked,
    ) -> Result<(), Error> {
        self.open(world, snapshot, shots)?;
        let open = |(node, _): &(NsName, Tap)| Ok((node.clone(), world.ns_fd(node)?));
        let places: Vec<(NsName, OwnedFd)> = self.0.iter().map(open).collect::<Result<_, Error>>()?;
        let marks: Vec<Mark> = shots.iter().map(|shot| shot.mark).collect();
        let mut witnesses = Witnesses::call(world, snapshot, &places, shots, asked)?;
        let senders = Senders::open(world, shots)?;
        for at in 0..shots.len() {
            if let Err(error) = senders.send(at, &marks[at]) {
                let Some(errno) = error.raw_os_error() else { return Err(error).context(|| "send a probe".to_owned()) };
                shots[at].seen.refused = Some(errno);
            }
            shots[at].was_sent();
            // Read as it comes, or it would be more than the buffers hold.
            self.look(snapshot, &marks, shots, Duration::ZERO, &witnesses)?;
            witnesses.listen(&marks, shots);
        }
        let mut patience = Duration::ZERO;
        loop {
            self.look(snapshot, &marks, shots, patience, &witnesses)?;
            witnesses.listen(&marks, shots);
            senders.hear(&marks, shots)?;
            let Some(left) = shots.iter_mut().filter_map(Shot::judge).min() else { break };
            patience = left;
        }
        // A tap sees a packet before the firewall of its node does.
        witnesses.listen(&marks, shots);
        close_together(witnesses.dismiss());
        Ok(())
    }

    /// Notes what the taps have seen; waits for it, if there is nothing yet.
    fn look(
        &self,
        snapshot: &Snapshot,
        marks: &[Mark],
        shots: &mut [Shot<'_>],
        patience: Duration,
        witnesses: &Witnesses,
    ) -> Result<(), Error> {
        let fds = self.0.iter().map(|(_, tap)| tap.as_fd()).chain(witnesses.fds());
        let mut fds: Vec<PollFd<'_>> = fds.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
        // Without one, should it be longer than can be said.
        let timeout = Timespec::try_from(patience).ok();
        match rustix::event::poll(&mut fds, timeout.as_ref()) {
            Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(()),
            Ok(_) => {}
            Err(errno) => return Err(std::io::Error::from(errno)).context(|| "wait for packets".to_owned()),
        }
        for ((node, tap), _) in self.0.iter().zip(&fds).filter(|(_, fd)| !fd.revents().is_empty()) {
            while let Some((whose, sighting)) = tap.next(marks).context(|| format!("watch the packets of {node}"))? {
                match whose.and_then(|at| shots.get_mut(at)) {
                    Some(shot) => {
                        note(&mut shot.seen, snapshot, node, &sighting);
                        shot.was_heard();
                    }
                    // A question for a neighbour, or its answer. It may be another's, and makes nobody wait.
                    None => {
                        for shot in shots.iter_mut().filter(|shot| shot.is_on_its_way() && shot.passes(node)) {
                            note(&mut shot.seen, snapshot, node, &sighting);
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

/// The sockets by which probes are sent.
struct Senders {
    sockets: Vec<io::Result<OwnedFd>>,
    /// Which one sends each probe.
    of: Vec<usize>,
}

impl Senders {
    fn open(world: &World, shots: &[Shot<'_>]) -> Result<Self, Error> {
        let (mut known, mut wanted, mut of) = (BTreeMap::new(), Vec::new(), Vec::new());
        for shot in shots {
            let Mark { protocol, src, dst, source_port, .. } = shot.mark;
            // To a datagram only its own socket is answered; of the others one sees all that comes in.
            let port = (shot.query.packet.protocol == Protocol::Udp).then_some(source_port);
            let next = wanted.len();
            let at = *known.entry((&shot.query.from, protocol, dst.is_ipv6(), src, port)).or_insert(next);
            if at == next {
                wanted.push((world.ns_fd(&shot.query.from)?, shot.mark));
            }
            of.push(at);
        }
        let borrowed: Vec<_> = wanted.iter().map(|(namespace, mark)| (namespace.as_fd(), *mark)).collect();
        let sockets = Mark::open_all(world.realm(), &borrowed).context(|| "open sockets for probes".to_owned())?;
        Ok(Senders { sockets, of })
    }

    fn send(&self, at: usize, mark: &Mark) -> io::Result<()> {
        match &self.sockets[self.of[at]] {
            Ok(socket) => mark.send_by(socket.as_fd()),
            // What stood in it is not lost: it is an error number.
            Err(error) => Err(error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error)),
        }
    }

    /// Notes which answers came through.
    fn hear(&self, marks: &[Mark], shots: &mut [Shot<'_>]) -> Result<(), Error> {
        for (number, socket) in self.sockets.iter().enumerate() {
            let Ok(socket) = socket else { continue };
            let sent = |at: &usize| self.of[*at] == number && shots[*at].query.packet.protocol != Protocol::Udp;
            let sent: Vec<usize> = (0..shots.len()).filter(sent).collect();
            if !sent.iter().any(|at| shots[*at].is_on_its_way()) {
                continue;
            }
            let of_socket = sent.iter().map(|at| (*at, &marks[*at]));
            while let Some(at) =
                Mark::next_answer(socket.as_fd(), &of_socket).context(|| "read the answer".to_owned())?
            {
                shots[at].seen.answered = true;
                shots[at].is_new = true;
            }
        }
        Ok(())
    }
}
