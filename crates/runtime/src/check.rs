//! Who reaches whom, of all pairs: what the model predicts, what packets do, and what was expected.

mod expected;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::time::Duration;

use hopyard_explain::{
    Cell, Choices, Matrix, Outcome, Packet, Protocol, Query, Reason, Target, Verdict, explain, matrix,
};
use hopyard_kernel::neighbours::times_full;
use hopyard_kernel::{Realm, SnapshotScope, World};
use hopyard_model::Lab;
use hopyard_net::{Family, NsName, Snapshot};

use crate::error::Error;
use crate::ping::{self, Probe, ping};
use crate::running::Running;
use crate::why::{Elsewhere, Place, Probing, main_addresses, with_habits};
use expected::Rules;

pub use expected::{Expected, Judged, Tried};
pub(crate) use expected::{Question, comes_through, questions};

/// All pairs of a network.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The network as it was.
    pub snapshot: Snapshot,
    /// What the model predicts for each pair.
    pub matrix: Matrix,
    /// What a probe of each pair met, in the order of [`Matrix::pairs`]; `None` where it was not sent. Empty: none
    /// was.
    pub observed: Vec<Option<ping::Outcome>>,
    /// The pairs of which prediction and packet differ, by their place in that order.
    pub differing: Vec<usize>,
    /// What became of the packets that lines about ports and addresses are about, in the order of the lines.
    pub tried: Vec<Tried>,
    /// The families of which the machine's table of neighbours was full meanwhile, so that packets were lost.
    pub crowded: Vec<Family>,
    rules: Rules,
}

/// Is an answer no proof? Another node may have the address, and answers as well.
fn is_impostor(cell: Cell<'_>) -> bool {
    let trouble = if let Cell::Stopped(cause) = cell { cause.trouble.as_ref() } else { None };
    trouble.is_some_and(|trouble| !trouble.back && matches!(trouble.reason, Reason::WrongNode { .. }))
}

impl Checked {
    /// Predicts all pairs; nothing is sent.
    fn predict(snapshot: Snapshot, nodes: &[NsName], targets: &[Target], rules: Rules) -> Self {
        let matrix = matrix(&snapshot, nodes, targets);
        let (observed, differing, tried, crowded) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Checked { snapshot, matrix, observed, differing, tried, crowded, rules }
    }

    /// Does a pair reach each other, as far as is known? `at` is its place in the order of [`Matrix::pairs`].
    pub fn reached(&self, at: usize, cell: Cell<'_>) -> Option<bool> {
        match (self.observed.get(at).and_then(Option::as_ref), cell) {
            (Some(seen), _) => Some(seen.is_reply() && !is_impostor(cell)),
            (None, Cell::Stopped(cause)) if cause.undecided => None,
            (None, cell) => Some(cell == Cell::Reached),
        }
    }

    /// What is expected of a pair, by the places of source and target.
    pub fn expected(&self, source: usize, target: usize) -> Expected<'_> {
        self.rules.of_pair(source, target, self.matrix.targets()[target].addr)
    }

    /// Whether what each line of a lab expects is so, in their order.
    pub fn judge(&self, lab: &Lab) -> Vec<Judged> {
        let mut judged = vec![Judged::default(); lab.expectations().len()];
        if judged.is_empty() {
            return judged;
        }
        for (at, (source, target, cell)) in self.matrix.pairs().enumerate() {
            match self.expected(source, target) {
                Expected::Reached(Some(line)) => judged[line].note(self.reached(at, cell), true),
                Expected::NotReached(line) => judged[line].note(self.reached(at, cell), false),
                _ => {}
            }
        }
        for tried in &self.tried {
            judged[tried.line].note(tried.reached, lab.expectations()[tried.line].reaches);
        }
        for (judged, line) in judged.iter_mut().zip(lab.expectations()).filter(|(judged, _)| judged.about == 0) {
            judged.is_void = !self.matrix.pairs().any(|(source, target, _)| self.rules.concerns(line, source, target));
        }
        judged
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
    let mut world = running.world()?;
    let lab = &running.contents()?.lab;
    let nodes: Vec<NsName> = lab.nodes().iter().map(|node| node.name.clone()).collect();
    let addresses = running.all_main_addresses()?;
    let (mut targets, mut owners) = (Vec::new(), Vec::new());
    for (id, node) in lab.node_ids().zip(&nodes) {
        let here = addresses.get(node).into_iter().flatten().filter(|addr| families.contains(&Family::of(**addr)));
        for addr in here {
            targets.push(Target { node: node.clone(), addr: *addr });
            owners.push(id);
        }
    }
    let read = |world: &World| with_habits(world, world.snapshot(&SnapshotScope::default())?, nodes.iter().cloned());
    let snapshot = read(&world)?;
    let rules = Rules::of(lab, owners)?;
    let mut checked = Checked::predict(snapshot, &nodes, &targets, rules);
    let room = Room::now();
    if let Some(patience) = patience {
        let namespaces: BTreeMap<NsName, OwnedFd> = running.namespaces()?.into_iter().collect();
        let prober = Prober { realm: running.realm(), namespaces: &namespaces, patience };
        prober.try_all(&mut checked, |_, _| true, || read(&world))?;
    }
    let probing = patience.is_some();
    checked.tried = expected::try_all(running, &mut world, &checked.snapshot, families, probing)?;
    checked.crowded = room.was_missing();
    Ok(checked)
}

/// The same of namespaces that are no lab's, as [`Elsewhere::around`] has named them.
///
/// # Errors
/// They cannot be read, or not be entered.
pub fn check_elsewhere(
    elsewhere: &Elsewhere,
    nodes: &[NsName],
    families: &[Family],
    probing: Probing,
    patience: Duration,
) -> Result<Checked, Error> {
    let read = || with_habits(elsewhere.world(), elsewhere.read()?, nodes.iter().cloned());
    let snapshot = read()?;
    let targets = targets_of(&snapshot, nodes, families, main_addresses);
    let mut checked = Checked::predict(snapshot, nodes, &targets, Rules::default());
    if probing != Probing::Never {
        let world = elsewhere.world();
        let open = |name: &NsName| Ok((name.clone(), world.ns_fd(name)?));
        let namespaces: BTreeMap<NsName, OwnedFd> = nodes.iter().map(open).collect::<Result<_, Error>>()?;
        let prober = Prober { realm: world.realm(), namespaces: &namespaces, patience };
        let may = |from: &NsName, cell: Cell<'_>| {
            let leaves = matches!(cell, Cell::Stopped(cause) if cause.trouble.as_ref().is_some_and(|trouble| {
                matches!(trouble.reason, Reason::LeavesKnown { .. })
            }));
            probing == Probing::Always || elsewhere.places().get(from) != Some(&Place::Host) && !leaves
        };
        let room = Room::now();
        prober.try_all(&mut checked, may, read)?;
        checked.crowded = room.was_missing();
    }
    Ok(checked)
}

/// What the machine had no room for.
struct Room([(Family, Option<u64>); 2]);

impl Room {
    fn now() -> Self {
        Room(Family::BOTH.map(|family| (family, times_full(family))))
    }

    /// The families of which a neighbour has found no room since.
    fn was_missing(self) -> Vec<Family> {
        self.0.into_iter().filter(|(family, before)| times_full(*family) > *before).map(|(family, _)| family).collect()
    }
}

/// The same of a network that is not here: by the model alone. `addresses`: by which a node is asked.
pub fn check_recorded(
    snapshot: Snapshot,
    nodes: &[NsName],
    families: &[Family],
    addresses: impl Fn(&Snapshot, &NsName) -> Vec<std::net::IpAddr>,
) -> Checked {
    let targets = targets_of(&snapshot, nodes, families, addresses);
    Checked::predict(snapshot, nodes, &targets, Rules::default())
}

fn targets_of(
    snapshot: &Snapshot,
    nodes: &[NsName],
    families: &[Family],
    addresses: impl Fn(&Snapshot, &NsName) -> Vec<std::net::IpAddr>,
) -> Vec<Target> {
    let of = |node: &NsName| {
        let here = addresses(snapshot, node).into_iter().filter(|addr| families.contains(&Family::of(*addr)));
        here.map(|addr| Target { node: node.clone(), addr }).collect::<Vec<_>>()
    };
    nodes.iter().flat_map(of).collect()
}

/// Whom nothing is expected of need not be waited for so long.
const UNEXPECTED: Duration = Duration::from_millis(500);

/// Where packets are sent from, and how long is waited for an answer.
struct Prober<'a> {
    realm: &'a Realm,
    namespaces: &'a BTreeMap<NsName, OwnedFd>,
    patience: Duration,
}

/// A pair to probe: source, target, and whether an answer is predicted.
type Pair = (usize, usize, bool);

impl Prober<'_> {
    /// Sends a packet for each pair that may send one, and compares. `now`: the network as it is by then.
    fn try_all(
        &self,
        checked: &mut Checked,
        may: impl Fn(&NsName, Cell<'_>) -> bool,
        now: impl FnOnce() -> Result<Snapshot, Error>,
    ) -> Result<(), Error> {
        let matrix = &checked.matrix;
        let mut places = Vec::new();
        let mut pairs: Vec<Pair> = Vec::new();
        for (at, (source, target, cell)) in matrix.pairs().enumerate() {
            if may(&matrix.sources()[source], cell) {
                places.push(at);
                pairs.push((source, target, cell == Cell::Reached));
            }
        }
        checked.observed = vec![None; matrix.pairs().count()];
        for (at, outcome) in places.into_iter().zip(self.observe(matrix, &pairs).map_err(Error::of_probe)?) {
            checked.observed[at] = Some(outcome);
        }
        checked.differing = differing(&checked.matrix, &checked.observed);
        // Packets teach neighbours, so that what was true may not be true behind them: once more.
        if checked.differing.is_empty() { Ok(()) } else { self.settle(checked, &now()?) }
    }

    /// A probe for each pair.
    fn observe(&self, matrix: &Matrix, pairs: &[Pair]) -> Result<Vec<ping::Outcome>, Error> {
        let mut outcomes = vec![ping::Outcome::Silence; pairs.len()];
        let mut send = |which: &dyn Fn(usize, &[ping::Outcome]) -> bool, patience: Duration| -> Result<(), Error> {
            let chosen: Vec<usize> = (0..pairs.len()).filter(|&at| which(at, &outcomes)).collect();
            let probe = |&at: &usize| {
                let (source, target, _) = pairs[at];
                Probe { from: matrix.sources()[source].clone(), to: matrix.targets()[target].addr }
            };
            let probes: Vec<Probe> = chosen.iter().map(probe).collect();
            for (at, outcome) in chosen.into_iter().zip(ping(self.realm, self.namespaces, &probes, patience)?) {
                outcomes[at] = outcome;
            }
            Ok(())
        };
        send(&|at, _| pairs[at].2, self.patience)?;
        // Once more for the silent: a packet may be lost while neighbours are learnt by the hundred.
        send(&|at, outcomes| pairs[at].2 && !outcomes[at].is_reply(), self.patience)?;
        send(&|at, _| !pairs[at].2, self.patience.min(UNEXPECTED))?;
        Ok(outcomes)
    }

    /// Those that differ are predicted again from the network as it is now, and probed again.
    fn settle(&self, checked: &mut Checked, now: &Snapshot) -> Result<(), Error> {
        let pairs: Vec<(usize, usize)> = checked.matrix.pairs().map(|(source, target, _)| (source, target)).collect();
        let mut again: Vec<Pair> = Vec::new();
        let mut outcomes = Vec::new();
        for &at in &checked.differing {
            let (source, target) = pairs[at];
            let verdict = explain(now, &query(&checked.matrix, source, target), &Choices::new());
            let outcome = match verdict.there.reason() {
                Some(Reason::WrongNode { .. }) => Outcome::Undecided,
                _ => verdict.outcome(),
            };
            again.push((source, target, outcome == Outcome::Yes));
            outcomes.push(outcome);
        }
        let seen = self.observe(&checked.matrix, &again)?;
        let mut left = Vec::new();
        for ((at, outcome), seen) in checked.differing.iter().zip(outcomes).zip(seen) {
            if outcome != Outcome::Undecided && (outcome == Outcome::Yes) != seen.is_reply() {
                left.push(*at);
            }
            checked.observed[*at] = Some(seen);
        }
        checked.differing = left;
        Ok(())
    }
}

fn differing(matrix: &Matrix, observed: &[Option<ping::Outcome>]) -> Vec<usize> {
    let differs = |(at, (.., cell)): (usize, (usize, usize, Cell<'_>))| {
        let reply = observed.get(at)?.as_ref()?.is_reply();
        let differs = match cell {
            Cell::Reached => !reply,
            Cell::Stopped(cause) => reply && !cause.undecided && !is_impostor(cell),
            Cell::Own => false,
        };
        differs.then_some(at)
    };
    matrix.pairs().enumerate().filter_map(differs).collect()
}
