//! The cheapest changes that make a packet and its answer arrive: uniform-cost search, in which only
//! the first thing that is wrong proposes changes.

mod addresses;
mod proposals;
mod routes;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use hopyard_net::{NsName, Op, Snapshot};
use serde::Serialize;

use crate::verdict::{explain_later, trouble_of};
use crate::walk::Choices;
use crate::{Edit, Flow, Outcome, Query, Reason, Trouble, Verdict, explain};
use proposals::{Context, Proposal, accepting};

/// Changes that make it work both ways, in the order in which their need shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Repair {
    /// What to change, and for what.
    pub stages: Vec<Stage>,
    /// Where packets are too long and their senders are not told: a change by which they are, as another way out. It makes this
    /// packet no shorter, but what is sent by who listens.
    pub told: Option<Edit>,
    /// What it costs: 2 for an ordinary change, 1 for one that restores what was declared.
    pub cost: u32,
    /// The same packet and its answer when as much is done as it needs to arrive.
    pub next: Verdict,
    /// The same when all is done: it works, or only the service is missing.
    pub after: Verdict,
}

/// One thing that is wrong, and the changes for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stage {
    /// What is wrong, as it shows when the stages before this one are done.
    pub trouble: Trouble,
    /// The changes, each with whether it restores what was declared.
    pub edits: Vec<(Edit, bool)>,
}

impl Repair {
    /// All changes in order.
    pub fn edits(&self) -> impl Iterator<Item = &Edit> {
        self.stages.iter().flat_map(|stage| &stage.edits).map(|(edit, _)| edit)
    }
}

/// So many states are looked at before it is given up: fewer of a large network, of which each takes longer.
fn most_states(snapshot: &Snapshot) -> usize {
    /// Copied and walked within a second or so.
    const ROUTES: usize = 500_000;
    let routes: usize = snapshot.nodes.values().map(|node| 10 + node.routes.len()).sum();
    (ROUTES / routes.max(1)).clamp(50, 3000)
}

/// So many more, once something works, for what goes on working.
const MORE_STATES: usize = 200;

/// No repair takes more changes.
const MOST_EDITS: usize = 12;

/// Looks for the cheapest repair. `drift` is what would have to be done to make the network as it was
/// declared. `None`: nothing is wrong, or nothing was found.
pub fn repair(snapshot: &Snapshot, query: &Query, choices: &Choices, drift: &[Op]) -> Option<Repair> {
    let mut states: Vec<Vec<Stage>> = vec![Vec::new()];
    // The cheapest first; of equals the one with less that nobody has declared.
    let mut queue = BinaryHeap::from([Reverse((0_u32, 0_usize, 0_usize))]);
    let mut seen = BTreeSet::new();
    let mut left = most_states(snapshot);
    // What works as long as nobody forgets who has which address.
    let mut for_now: Option<Repair> = None;
    while left > 0 {
        let Some(Reverse((cost, _, at))) = queue.pop() else { break };
        let stages = states[at].clone();
        // Only when its turn comes: the same may have been proposed again, for less.
        if !seen.insert(outcome_of(stages.iter().flat_map(|stage| &stage.edits).map(|(edit, _)| edit))) {
            continue;
        }
        left -= 1;
        let mut changed = snapshot.clone();
        for (edit, _) in stages.iter().flat_map(|stage| &stage.edits) {
            edit.apply(&mut changed);
        }
        // What a kernel said of equal routes holds as long as they are the same.
        let touched: BTreeSet<&NsName> =
            stages.iter().flat_map(|stage| &stage.edits).map(|(it, _)| it.node()).collect();
        let mut choices = choices.clone();
        choices.retain(|(node, ..), _| !touched.contains(node));
        let choices = &choices;
        let mut verdict = explain(&changed, query, choices);
        if is_carried(&verdict) && !stages.is_empty() {
            let later = explain_later(&changed, query, choices);
            let mut changed = snapshot.clone();
            let there = stages.iter().take_while(|stage| !stage.trouble.back);
            there.flat_map(|stage| &stage.edits).for_each(|(edit, _)| edit.apply(&mut changed));
            let next = explain(&changed, query, choices);
            let told = tells(snapshot, query, choices, &stages);
            let repair = Repair { stages: stages.clone(), told, cost, next, after: verdict };
            if is_carried(&later) {
                return Some(repair);
            }
            if for_now.is_none() {
                for_now = Some(repair);
                left = left.min(MORE_STATES);
            }
            verdict = later;
        }
        let Some((walk, back)) = verdict.failing_network() else { continue };
        let Some(trouble) = trouble_of(walk, back) else { continue };
        let done = |edit: &Edit| stages.iter().flat_map(|stage| &stage.edits).any(|(other, _)| other == edit);
        let count = stages.iter().map(|stage| stage.edits.len()).sum::<usize>();
        let way = verdict.there.nodes().chain(walk.nodes()).cloned().collect();
        let context = Context::new(&changed, query, (walk, back), way, drift);
        for Proposal { cost: more, edits } in context.proposals(&trouble) {
            if count + edits.len() > MOST_EDITS || edits.iter().any(|(edit, _)| done(edit)) {
                continue;
            }
            let mut next = stages.clone();
            next.push(Stage { trouble: trouble.clone(), edits });
            let new = next.iter().flat_map(|stage| &stage.edits).filter(|(_, declared)| !declared).count();
            states.push(next);
            queue.push(Reverse((cost + more, new, states.len() - 1)));
        }
    }
    for_now
}

/// The change that lets the error pass by which senders learn what fits.
fn tells(snapshot: &Snapshot, query: &Query, choices: &Choices, stages: &[Stage]) -> Option<Edit> {
    let is_lost = |stage: &&Stage| matches!(stage.trouble.reason, Reason::PmtudBlackhole { .. });
    let at = stages.iter().position(|stage| is_lost(&stage))?;
    let Trouble { node, reason: Reason::PmtudBlackhole { lost, why, error, .. }, back } = &stages[at].trouble else {
        return None;
    };
    let mut changed = snapshot.clone();
    stages[..at].iter().flat_map(|stage| &stage.edits).for_each(|(edit, _)| edit.apply(&mut changed));
    // Is it then only too long?
    let helps = |edit: &Edit| {
        let mut changed = changed.clone();
        edit.apply(&mut changed);
        let verdict = explain(&changed, query, choices);
        let left = verdict.failing_network().and_then(|(walk, back)| trouble_of(walk, back));
        left.is_some_and(|it| (&it.node, it.back) == (node, *back) && matches!(it.reason, Reason::TooBig { .. }))
    };
    let flow = Flow::of(error)?;
    accepting(lost, why, flow).into_iter().map(|(edit, _)| edit).find(helps)
}

/// The same for changes that lead to the same, by node. Where addresses or interfaces come and go their order matters:
/// routes go with them.
fn outcome_of<'a>(edits: impl Iterator<Item = &'a Edit>) -> BTreeMap<NsName, Vec<Edit>> {
    let mut by_node: BTreeMap<NsName, Vec<Edit>> = BTreeMap::new();
    for edit in edits {
        by_node.entry(edit.node().clone()).or_default().push(edit.clone());
    }
    let takes_along =
        |edit: &Edit| matches!(edit, Edit::Op(Op::AddAddr { .. } | Op::DelAddr { .. } | Op::SetUp { .. }));
    for edits in by_node.values_mut().filter(|edits| !edits.iter().any(takes_along)) {
        edits.sort();
    }
    by_node
}

/// Does the network do its part? No change to it starts a service.
fn is_carried(verdict: &Verdict) -> bool {
    let back = verdict.back.as_ref().is_some_and(|back| back.arrives() && !back.is_undecided());
    verdict.outcome() == Outcome::Yes || back && verdict.there.is_carried() && !verdict.there.by_chance
}
