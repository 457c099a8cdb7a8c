//! What a lab's file forbids: the line of `expect` that is about a packet, and those that would not hold any more after a
//! change.

use std::collections::BTreeSet;

use hopyard_explain::{Choices, Protocol, Repair, explain};
use hopyard_kernel::World;
use hopyard_model::{ExpectTarget, Expectation, Lab};
use hopyard_net::{Family, Service, Snapshot, Transport};

use super::Report;
use super::many::with_listeners;
use crate::check::{Question, comes_through, questions};
use crate::error::Error;
use crate::running::Running;

/// What lines of `expect`, by their numbers, have to say about an answer of `hop why`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forbidden {
    /// The one that says that this packet shall not come through; then no repair is sought.
    pub by: Option<usize>,
    /// Those that hold, and would not any more after the repair that was found. It is left out then, unless a line says
    /// that this packet shall be answered.
    pub spoilt: Vec<usize>,
}

/// The line that decides whether the packet of a report shall come through, and whether it shall.
pub(super) fn line(lab: &Lab, report: &Report) -> Option<(usize, bool)> {
    let packet = &report.query.packet;
    let service = |transport: Transport| Some(Service { transport, port: packet.destination_port });
    let service = match packet.protocol {
        Protocol::Icmp => None,
        Protocol::Tcp => service(Transport::Tcp),
        Protocol::Udp => service(Transport::Udp),
    };
    let id = |name: &_| lab.node_ids().find(|id| lab.node(*id).name == *name);
    let from = id(&report.query.from)?;
    let to = report.query.wanted.as_ref().or(report.owner.as_ref()).and_then(id);
    let is_about = |line: &&(usize, &Expectation)| match &line.1.to {
        ExpectTarget::Addr(addr) => *addr == packet.dst && line.1.from.contains(from),
        ExpectTarget::Nodes(_) => to.is_some_and(|to| line.1.is_about(from, to)),
    };
    let lines: Vec<(usize, &Expectation)> =
        lab.expectations().iter().enumerate().filter(|(_, line)| line.service == service).collect();
    let about = lines.iter().filter(is_about);
    // Of equals the first.
    let decides = about.min_by_key(|(at, line)| (std::cmp::Reverse(line.weight()), *at));
    decides.map(|(at, line)| (*at, line.reaches))
}

/// Which lines hold and would not any more, if the changes of a repair were made.
pub(super) fn spoilt(
    running: &Running,
    world: &World,
    snapshot: &Snapshot,
    repair: &Repair,
) -> Result<Vec<usize>, Error> {
    /// More are not looked at: each is walked.
    const MOST: usize = 20_000;
    let lab = &running.contents()?.lab;
    if lab.expectations().iter().all(|line| line.reaches) {
        return Ok(Vec::new());
    }
    let asked = questions(running, &Family::BOTH, |line| !line.reaches)?;
    let queries: Vec<_> = asked.iter().take(MOST).map(|asked| asked.query.clone()).collect();
    let before = with_listeners(world, snapshot.clone(), &queries)?;
    let mut after = before.clone();
    repair.edits().for_each(|edit| edit.apply(&mut after));
    let comes = |snapshot: &Snapshot, asked: &Question| {
        let verdict = explain(snapshot, &asked.query, &Choices::new());
        comes_through(&asked.query, &verdict, verdict.outcome(), false) == Some(true)
    };
    let spoilt = |asked: &&Question| comes(&after, asked) && !comes(&before, asked);
    let lines: BTreeSet<usize> = asked.iter().take(MOST).filter(spoilt).map(|asked| asked.line).collect();
    Ok(lines.into_iter().collect())
}
