//! Many questions about one network: it is read once for all, and their probes are sent together.

use std::collections::BTreeSet;
use std::sync::Arc;

use hopyard_explain::{Protocol, Query};
use hopyard_kernel::{SnapshotScope, World};
use hopyard_net::{NsName, Snapshot};

use super::probe::{compare, mark_of};
use super::volley::{Range, Shot};
use super::witness::Asked;
use super::{Computed, Report, compute};
use crate::error::Error;
use crate::ping::salt;

/// So many probes are on their way at a time. Their number is a byte of what each is known by, and TCP answers with the
/// number behind it.
const VOLLEY: usize = 255;

/// Looks into all of them, without a repair, and tells what was found, not in their order. `by_probe`: also sends a packet
/// for each.
pub(crate) fn examine_all(
    world: &mut World,
    snapshot: Snapshot,
    questions: &[Query],
    by_probe: bool,
    mut tell: impl FnMut(usize, Report),
) -> Result<(), Error> {
    let mut range = by_probe.then(Range::default);
    let snapshot = Arc::new(with_listeners(world, snapshot, questions)?);
    let all: Vec<usize> = (0..questions.len()).collect();
    let mut differing = Vec::new();
    for volley in all.chunks(VOLLEY) {
        for (at, report) in volley.iter().zip(examine(world, &snapshot, questions, volley, range.as_mut())?) {
            if report.disagreements.is_empty() {
                tell(*at, report);
            } else {
                differing.push(*at);
            }
        }
    }
    if differing.is_empty() {
        return Ok(());
    }
    // Packets teach neighbours, so that what was true may not be true behind them: once more.
    let now = Arc::new(with_listeners(world, world.snapshot(&SnapshotScope::default())?, questions)?);
    for volley in differing.chunks(VOLLEY) {
        for (at, report) in volley.iter().zip(examine(world, &now, questions, volley, range.as_mut())?) {
            tell(*at, report);
        }
    }
    Ok(())
}

/// Adds how the nodes send and answer that are asked about, and who listens anywhere, if that matters: all of it at once takes less time than once for each question.
pub(super) fn with_listeners(world: &World, mut snapshot: Snapshot, questions: &[Query]) -> Result<Snapshot, Error> {
    let owners = questions.iter().filter_map(|query| query.owner(&snapshot));
    let ends: Vec<NsName> = questions.iter().map(|query| query.from.clone()).chain(owners).collect();
    snapshot = with_habits(world, snapshot, ends)?;
    if questions.iter().any(|query| query.packet.protocol != Protocol::Icmp) {
        let all: BTreeSet<NsName> = world.names().cloned().collect();
        for (name, listeners) in world.listeners(&all)? {
            snapshot.nodes.entry(name).or_default().listeners = Some(listeners);
        }
    }
    Ok(snapshot)
}

/// Adds how nodes send and answer, which matters where packets begin and end.
pub(crate) fn with_habits(
    world: &World,
    mut snapshot: Snapshot,
    ends: impl IntoIterator<Item = NsName>,
) -> Result<Snapshot, Error> {
    for (name, habits) in world.habits(&ends.into_iter().collect())? {
        snapshot.nodes.entry(name).or_default().habits = Some(habits);
    }
    Ok(snapshot)
}

/// Looks into some of them, whose probes are on their way together.
fn examine(
    world: &mut World,
    snapshot: &Arc<Snapshot>,
    questions: &[Query],
    volley: &[usize],
    range: Option<&mut Range>,
) -> Result<Vec<Report>, Error> {
    let [common, rest] = [salt(), salt().rotate_left(16)].map(u32::to_be_bytes);
    let mut computed = Vec::new();
    for (number, at) in (0..=u8::MAX).zip(volley) {
        let mut query = questions[*at].clone();
        if query.packet.protocol != Protocol::Icmp {
            query.packet.source_port = u16::from_be_bytes([block(rest[0]), number]);
        }
        computed.push(compute(world, snapshot, query)?);
    }
    let mut seen = vec![None; computed.len()];
    if let Some(range) = range {
        let shot = |(number, it): (u8, &Computed)| {
            let token = [common[0], common[1], common[2], number, rest[0], rest[1], rest[2], rest[3]];
            (mark_of(&it.query, &it.verdict, token), it.target().cloned())
        };
        let known: Vec<_> = (0..=u8::MAX).zip(&computed).map(shot).collect();
        let shots = computed.iter().zip(&known);
        let mut shots: Vec<Shot<'_>> =
            shots.map(|(it, (mark, target))| Shot::new(&it.query, &it.verdict, target.as_ref(), *mark)).collect();
        range.fire(world, snapshot, &mut shots, Asked { trace: true, watch: None }).map_err(Error::of_probe)?;
        seen = shots.into_iter().map(|shot| Some(shot.seen)).collect();
    }
    let report = |(mut it, seen): (Computed, Option<_>)| {
        let differ = seen.as_ref().map(|seen| compare(&it.query, &it.verdict, it.target(), seen));
        it.disagreements.extend(differ.into_iter().flatten());
        it.report(seen, snapshot.clone())
    };
    Ok(computed.into_iter().zip(seen).map(report).collect())
}

/// The upper half of the ports from which a volley comes: of those that Linux gives to clients.
fn block(chance: u8) -> u8 {
    /// Of 32768 to 60999, those blocks that are whole.
    const BLOCKS: std::ops::Range<u8> = 0x80..0xee;
    BLOCKS.start + chance % (BLOCKS.end - BLOCKS.start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volley_comes_from_ports_of_clients() {
        for chance in 0..=u8::MAX {
            for number in [0, u8::MAX] {
                let port = u16::from_be_bytes([block(chance), number]);
                assert!((32_768..=60_999).contains(&port), "{port}");
            }
        }
    }
}
