//! Who reaches whom, of all pairs: what the model predicts, and what packets do.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::time::Duration;

use hopyard_explain::{
    Cell, Choices, Matrix, Outcome, Packet, Protocol, Query, Reason, Target, Verdict, explain, matrix,
};
use hopyard_kernel::SnapshotScope;
use hopyard_net::{Family, NsName, Snapshot};

use crate::error::Error;
use crate::ping::{self, Probe, ping};
use crate::running::Running;

/// All pairs of a lab.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The network as it was.
    pub snapshot: Snapshot,
    /// What the model predicts for each pair.
    pub matrix: Matrix,
    /// What a probe of each pair met, in the order of [`Matrix::pairs`]. `None`: none were sent.
    pub observed: Option<Vec<ping::Outcome>>,
    /// The pairs of which prediction and packet differ, by their place in that order.
    pub differing: Vec<usize>,
}

/// Is an answer no proof? Another node may have the address, and answers as well.
fn is_impostor(cell: Cell<'_>) -> bool {
    let trouble = if let Cell::Stopped(cause) = cell { cause.trouble.as_ref() } else { None };
    trouble.is_some_and(|trouble| !trouble.back && matches!(trouble.reason, Reason::WrongNode { .. }))
}

impl Checked {
    /// Does a pair reach each other, as far as is known? `at` is its place in the order of [`Matrix::pairs`].
    pub fn reached(&self, at: usize, cell: Cell<'_>) -> Option<bool> {
        match (self.observed.as_ref().and_then(|all| all.get(at)), cell) {
            (Some(seen), _) => Some(seen.is_reply() && !is_impostor(cell)),
            (None, Cell::Stopped(cause)) if cause.undecided => None,
            (None, cell) => Some(cell == Cell::Reached),
        }
    }

    /// Walks the packet of one pair, and its answer.
    pub fn verdict(&self, source: usize, target: usize) -> Verdict {
        explain(&self.snapshot, &query(&self.matrix, source, target), &Choices::new())
    }
}

fn query(matrix: &Matrix, source: usize, target: usize) -> Query {
    let Target { node, addr } = &matrix.targets()[target];
    let packet = Packet::probe(*addr, Protocol::Icmp, 0);
    Query { from: matrix.sources()[source].clone(), packet, wanted: Some(node.clone()) }
}

/// Predicts all pairs of nodes and, if `patience` is given, sends a probe for each and waits so long.
/// `families`: to which addresses.
///
/// # Errors
/// The lab cannot be read, or its namespaces cannot be entered.
pub fn check(running: &Running, families: &[Family], patience: Option<Duration>) -> Result<Checked, Error> {
    let world = running.world()?;
    let nodes: Vec<NsName> = running.contents()?.lab.nodes().iter().map(|node| node.name.clone()).collect();
    let addresses = running.all_main_addresses()?;
    let mut targets = Vec::new();
    for node in &nodes {
        let here = addresses.get(node).into_iter().flatten().filter(|addr| families.contains(&Family::of(**addr)));
        targets.extend(here.map(|addr| Target { node: node.clone(), addr: *addr }));
    }
    let snapshot = world.snapshot(&SnapshotScope::default())?;
    let matrix = matrix(&snapshot, &nodes, &targets);
    let mut checked = Checked { snapshot, matrix, observed: None, differing: Vec::new() };
    if let Some(patience) = patience {
        let namespaces: BTreeMap<NsName, OwnedFd> = running.namespaces()?.into_iter().collect();
        let pairs: Vec<(usize, usize, bool)> =
            checked.matrix.pairs().map(|(source, target, cell)| (source, target, cell == Cell::Reached)).collect();
        let mut observed = observe(running, &namespaces, &checked.matrix, &pairs, patience)?;
        checked.differing = differing(&checked.matrix, &observed);
        if !checked.differing.is_empty() {
            // Packets teach neighbours, so that what was true may not be true behind them: once more.
            let now = world.snapshot(&SnapshotScope::default())?;
            settle(running, &namespaces, &mut checked, &now, &pairs, &mut observed, patience)?;
        }
        checked.observed = Some(observed);
    }
    Ok(checked)
}

/// Whom nothing is expected of need not be waited for so long.
const UNEXPECTED: Duration = Duration::from_millis(500);

/// A probe for each pair, with whether it is expected to be answered.
fn observe(
    running: &Running,
    namespaces: &BTreeMap<NsName, OwnedFd>,
    matrix: &Matrix,
    pairs: &[(usize, usize, bool)],
    patience: Duration,
) -> Result<Vec<ping::Outcome>, Error> {
    let mut outcomes = vec![ping::Outcome::Silence; pairs.len()];
    let mut send = |which: &dyn Fn(usize, &[ping::Outcome]) -> bool, patience: Duration| -> Result<(), Error> {
        let chosen: Vec<usize> = (0..pairs.len()).filter(|&at| which(at, &outcomes)).collect();
        let probe = |&at: &usize| {
            let (source, target, _) = pairs[at];
            Probe { from: matrix.sources()[source].clone(), to: matrix.targets()[target].addr }
        };
        let probes: Vec<Probe> = chosen.iter().map(probe).collect();
        for (at, outcome) in chosen.into_iter().zip(ping(running.realm(), namespaces, &probes, patience)?) {
            outcomes[at] = outcome;
        }
        Ok(())
    };
    send(&|at, _| pairs[at].2, patience)?;
    // Once more for the silent: a packet may be lost while neighbours are learnt by the hundred.
    send(&|at, outcomes| pairs[at].2 && !outcomes[at].is_reply(), patience)?;
    send(&|at, _| !pairs[at].2, patience.min(UNEXPECTED))?;
    Ok(outcomes)
}

fn differing(matrix: &Matrix, observed: &[ping::Outcome]) -> Vec<usize> {
    let differs = |(at, (.., cell)): (usize, (usize, usize, Cell<'_>))| {
        let reply = observed.get(at).is_some_and(ping::Outcome::is_reply);
        let differs = match cell {
            Cell::Reached => !reply,
            Cell::Stopped(cause) => reply && !cause.undecided && !is_impostor(cell),
            Cell::Own => false,
        };
        differs.then_some(at)
    };
    matrix.pairs().enumerate().filter_map(differs).collect()
}

/// Those that differ are predicted again from the network as it is now, and probed again.
fn settle(
    running: &Running,
    namespaces: &BTreeMap<NsName, OwnedFd>,
    checked: &mut Checked,
    now: &Snapshot,
    pairs: &[(usize, usize, bool)],
    observed: &mut [ping::Outcome],
    patience: Duration,
) -> Result<(), Error> {
    let mut again = Vec::new();
    let mut outcomes = Vec::new();
    for &at in &checked.differing {
        let (source, target, _) = pairs[at];
        let verdict = explain(now, &query(&checked.matrix, source, target), &Choices::new());
        let outcome = match verdict.there.reason() {
            Some(Reason::WrongNode { .. }) => Outcome::Undecided,
            _ => verdict.outcome(),
        };
        again.push((source, target, outcome == Outcome::Yes));
        outcomes.push(outcome);
    }
    let seen = observe(running, namespaces, &checked.matrix, &again, patience)?;
    let mut left = Vec::new();
    for ((at, outcome), seen) in checked.differing.iter().zip(outcomes).zip(seen) {
        if outcome != Outcome::Undecided && (outcome == Outcome::Yes) != seen.is_reply() {
            left.push(*at);
        }
        observed[*at] = seen;
    }
    checked.differing = left;
    Ok(())
}
