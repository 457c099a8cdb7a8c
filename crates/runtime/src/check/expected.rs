//! What a lab expects of its pairs: by the lines of its file, and by what its nodes hide.

use std::net::IpAddr;

use hopyard_explain::{Outcome, Packet, Protocol, Query, Verdict};
use hopyard_kernel::World;
use hopyard_model::{ExpectTarget, Expectation, Lab, NodeId};
use hopyard_net::{Family, NsName, Service, Snapshot, Transport};
use hopyard_plan::Hiding;

use crate::error::Error;
use crate::running::Running;
use crate::why::{Disagreement, examine_all};

/// What is expected of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected<'a> {
    /// That it is answered: by the line of that number, or because nothing else was said of any pair.
    Reached(Option<usize>),
    /// That it is not, by the line of that number.
    NotReached(usize),
    /// That it is not: this node hides the target by translating addresses.
    Hidden(&'a NsName),
    /// Nothing: there are lines, and none is about it.
    Nothing,
}

/// What is expected of all pairs of a lab.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules {
    /// `None`: that all reach each other, as no lab says otherwise.
    lab: Option<Lab>,
    hiding: Hiding,
    /// The lines about nodes alone, those that name most first; each with its number.
    lines: Vec<(usize, Expectation)>,
    /// The sources are all nodes, in their order.
    sources: Vec<NodeId>,
    /// Whose the targets are, in their order.
    owners: Vec<NodeId>,
}

impl Rules {
    pub(super) fn of(lab: &Lab, owners: Vec<NodeId>) -> Result<Self, Error> {
        let lines = lab.expectations().iter().cloned().enumerate();
        let mut lines: Vec<(usize, Expectation)> = lines.filter(|(_, line)| is_pair(line)).collect();
        lines.sort_by_key(|(at, line)| (std::cmp::Reverse(line.weight()), *at));
        let (hiding, sources) = (Hiding::of(lab).map_err(Error::Plan)?, lab.node_ids().collect());
        Ok(Rules { lab: Some(lab.clone()), hiding, lines, sources, owners })
    }

    /// Is a line about a pair, whether or not it decides?
    pub(super) fn concerns(&self, line: &Expectation, source: usize, target: usize) -> bool {
        let pair = self.sources.get(source).zip(self.owners.get(target));
        pair.is_some_and(|(from, to)| line.is_about(*from, *to))
    }

    /// Of a pair, by the places of source and target, and the address of the target.
    pub(super) fn of_pair(&self, source: usize, target: usize, addr: IpAddr) -> Expected<'_> {
        let Some(lab) = &self.lab else { return Expected::Reached(None) };
        let (Some(&from), Some(&to)) = (self.sources.get(source), self.owners.get(target)) else {
            return Expected::Reached(None);
        };
        let line = self.lines.iter().find(|(_, line)| line.is_about(from, to));
        let named = line.is_some_and(|(_, line)| line.names_both());
        let hidden = self.hiding.hides(from.index(), to.index(), addr).filter(|_| !named);
        match (hidden, line) {
            (Some(by), _) => Expected::Hidden(&lab.nodes()[by].name),
            (None, Some((at, line))) if line.reaches => Expected::Reached(Some(*at)),
            (None, Some((at, _))) => Expected::NotReached(*at),
            (None, None) if lab.expectations().is_empty() => Expected::Reached(None),
            (None, None) => Expected::Nothing,
        }
    }
}

/// What became of one packet that a line is about, where the line names a port or an address.
#[derive(Clone, Debug)]
pub struct Tried {
    /// The number of the line.
    pub line: usize,
    /// Who asks.
    pub from: NsName,
    /// Whom; `None`: whoever has the address.
    pub to: Option<NsName>,
    /// By which address.
    pub addr: IpAddr,
    /// And port.
    pub service: Option<Service>,
    /// What the model says.
    pub verdict: Verdict,
    /// Where evidence and model differ.
    pub disagreements: Vec<Disagreement>,
    /// Does it come through, and does the answer? Where the line says that it shall not, a packet that nothing
    /// waits for comes through. `None`: not known.
    pub reached: Option<bool>,
}

/// Is it about nodes alone, so that all pairs tell?
fn is_pair(line: &Expectation) -> bool {
    line.service.is_none() && matches!(line.to, ExpectTarget::Nodes(_))
}

/// A packet that a line is about.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    /// The number of the line.
    pub(crate) line: usize,
    /// Whom it names; `None`: an address.
    to: Option<NsName>,
    pub(crate) query: Query,
}

/// The packets that lines are about, and decide about.
pub(crate) fn questions(
    running: &Running,
    families: &[Family],
    which: impl Fn(&Expectation) -> bool,
) -> Result<Vec<Question>, Error> {
    let lab = &running.contents()?.lab;
    let hiding = Hiding::of(lab).map_err(Error::Plan)?;
    let addresses = running.all_main_addresses()?;
    let mut found = Vec::new();
    for (at, line) in lab.expectations().iter().enumerate().filter(|(_, line)| which(line)) {
        let targets: Vec<(Option<NodeId>, IpAddr)> = match &line.to {
            ExpectTarget::Addr(addr) => vec![(None, *addr)],
            ExpectTarget::Nodes(nodes) => {
                let named = lab.node_ids().filter(|id| nodes.contains(*id));
                let of =
                    |id: NodeId| addresses.get(&lab.node(id).name).into_iter().flatten().map(move |it| (Some(id), *it));
                named.flat_map(of).collect()
            }
        };
        for from in lab.node_ids().filter(|id| line.from.contains(*id)) {
            for &(to, addr) in targets.iter().filter(|(to, addr)| {
                // A line with `all` means a pair only as far as nothing hides one from the other.
                let is_hidden = |to: NodeId| hiding.hides(from.index(), to.index(), *addr).is_some();
                let leaves_out = line.reaches && !line.names_both();
                *to != Some(from)
                    && families.contains(&Family::of(*addr))
                    && decides(lab, at, from, *to)
                    && !to.is_some_and(|to| leaves_out && is_hidden(to))
            }) {
                let (protocol, port) = match line.service {
                    None => (Protocol::Icmp, 0),
                    Some(Service { transport: Transport::Tcp, port }) => (Protocol::Tcp, port),
                    Some(Service { transport: Transport::Udp, port }) => (Protocol::Udp, port),
                };
                let from = lab.node(from).name.clone();
                let to = to.map(|to| lab.node(to).name.clone());
                let wanted = to.clone().or_else(|| running.owner_for(&from, addr));
                let query = Query { from, packet: Packet::probe(addr, protocol, port), wanted };
                found.push(Question { line: at, to, query });
            }
        }
    }
    Ok(found)
}

/// Tries all that lines about ports and addresses name. `by_probe`: sends a packet for each as well.
pub(super) fn try_all(
    running: &Running,
    world: &mut World,
    snapshot: &Snapshot,
    families: &[Family],
    by_probe: bool,
) -> Result<Vec<Tried>, Error> {
    let lab = &running.contents()?.lab;
    let asked = questions(running, families, |line| !is_pair(line))?;
    if asked.is_empty() {
        return Ok(Vec::new());
    }
    let queries: Vec<Query> = asked.iter().map(|asked| asked.query.clone()).collect();
    let mut tried: Vec<Option<Tried>> = vec![None; asked.len()];
    examine_all(world, snapshot.clone(), &queries, by_probe, |at, report| {
        let Question { line, to, .. } = &asked[at];
        let Expectation { reaches, service, .. } = lab.expectations()[*line];
        tried[at] = Some(Tried {
            line: *line,
            to: to.clone(),
            service,
            reached: comes_through(&report.query, &report.verdict, report.outcome(), reaches),
            from: report.query.from,
            addr: report.query.packet.dst,
            verdict: report.verdict,
            disagreements: report.disagreements,
        });
    })?;
    Ok(tried.into_iter().flatten().collect())
}

/// Is it this line that decides about a pair and its port, and no other that names more?
fn decides(lab: &Lab, at: usize, from: NodeId, to: Option<NodeId>) -> bool {
    let lines = lab.expectations();
    let Some(to) = to else { return true };
    let is_stronger = |other: &Expectation| {
        other.service == lines[at].service && other.is_about(from, to) && other.weight() > lines[at].weight()
    };
    !lines.iter().any(is_stronger)
}

/// Does a packet do what a line is about? `with_answer`: that shall come back. Else a packet that nothing waits for comes
/// through. `outcome`: what is known to come of it.
pub(crate) fn comes_through(query: &Query, verdict: &Verdict, outcome: Outcome, with_answer: bool) -> Option<bool> {
    let there = &verdict.there;
    // A datagram does what it does, whether or not its answer comes back.
    if !with_answer && query.packet.protocol == Protocol::Udp && there.is_carried() && !there.is_undecided() {
        return Some(true);
    }
    match outcome {
        Outcome::Yes => Some(true),
        Outcome::Undecided => None,
        // A closed port is no wall.
        Outcome::No => Some(!with_answer && verdict.failing_network().is_none()),
    }
}

/// Whether what a line expects is so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judged {
    /// So many pairs, or packets, it decides about.
    pub about: usize,
    /// Of those it does not hold for so many.
    pub broken: usize,
    /// And of so many that is not known.
    pub open: usize,
    /// It is about no pair at all: there is no address to send to.
    pub is_void: bool,
}

impl Judged {
    /// Does it hold? `None`: not known, or there was nothing to look at. Where others decide about all its
    /// pairs, it does.
    pub fn holds(&self) -> Option<bool> {
        match self {
            Judged { broken: 1.., .. } => Some(false),
            Judged { open: 1.., .. } | Judged { is_void: true, .. } => None,
            _ => Some(true),
        }
    }

    pub(super) fn note(&mut self, reached: Option<bool>, expected: bool) {
        self.about += 1;
        match reached {
            None => self.open += 1,
            Some(reached) => self.broken += usize::from(reached != expected),
        }
    }
}
