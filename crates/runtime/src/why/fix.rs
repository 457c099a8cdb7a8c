//! Making the changes that a report names, and taking them back if they do not help.

use std::collections::{BTreeMap, BTreeSet};

use hopyard_explain::{Edit, Outcome, Packet, Query};
use hopyard_kernel::World;
use hopyard_net::{NsName, Op, SysctlKey};

use super::{Report, Sending, why};
use crate::error::Error;
use crate::home::Home;
use crate::running::Running;

/// What became of it.
#[derive(Debug)]
pub enum Fixed {
    /// It works, as the packet shows.
    Works(Box<Report>),
    /// It did not help, and all is as it was before.
    Undone(Box<Report>),
    /// The change of that number is not made for anybody: it is about a firewall or a policy rule.
    NotForUs(usize),
    /// The change of that number is to the machine's own network, which is only looked at.
    OfHost(usize),
    /// There is nothing to be done.
    Nothing,
}

/// Makes the changes, asks again with a packet, and takes them back if that is not answered.
///
/// # Errors
/// A change was refused; those before it are taken back.
pub fn fix(home: &Home, running: &Running, report: &Report) -> Result<Fixed, Error> {
    // Nobody else changes the lab meanwhile.
    let _lock = home.lock_existing(running.name())?;
    let mut world = running.world()?;
    make(&mut world, report, |_| {
        let Query { from, packet, wanted } = report.query.clone();
        why(running, from.as_str(), Packet { src: None, ..packet }, wanted, Sending::Probe)
    })
}

/// Makes the changes, and asks again by `ask`.
pub(super) fn make(
    world: &mut World,
    report: &Report,
    mut ask: impl FnMut(&mut World) -> Result<Report, Error>,
) -> Result<Fixed, Error> {
    let Some(repair) = &report.repair else { return Ok(Fixed::Nothing) };
    let edits: Vec<&Edit> = repair.edits().collect();
    let ops: Vec<Op> = edits.iter().filter_map(|edit| edit.op()).collect();
    if ops.len() < edits.len() {
        let first = edits.iter().position(|edit| edit.op().is_none()).unwrap_or_default();
        return Ok(Fixed::NotForUs(first + 1));
    }
    let sysctls = touched(&ops);
    let before = world.observe(&sysctls)?;
    let applied = world.apply(&ops, &mut |_| {}).map_err(|failed| Error::step(failed, &ops, None, true));
    let after = match &applied {
        Ok(()) => Some(ask(world)?),
        Err(_) => None,
    };
    if let Some(after) = after
        && works(&after)
    {
        return Ok(Fixed::Works(Box::new(after)));
    }
    let now = world.observe(&sysctls)?;
    let back = hopyard_plan::diff(&now, &before);
    world.apply(&back, &mut |_| {}).map_err(|failed| Error::step(failed, &back, None, true))?;
    applied?;
    Ok(Fixed::Undone(Box::new(ask(world)?)))
}

/// Does the network do its part now?
fn works(report: &Report) -> bool {
    let service = matches!(report.trouble(), Some(it) if matches!(it.code(), "no-listener" | "wrong-bind-address"));
    report.disagreements.is_empty() && (report.outcome() == Outcome::Yes || service)
}

/// The sysctls that the operations set, so that they can be set back.
fn touched(ops: &[Op]) -> BTreeMap<NsName, BTreeSet<SysctlKey>> {
    let mut touched: BTreeMap<NsName, BTreeSet<SysctlKey>> = BTreeMap::new();
    for op in ops {
        if let Op::SetSysctl { ns, key, .. } = op {
            touched.entry(ns.clone()).or_default().insert(key.clone());
        }
    }
    touched
}
