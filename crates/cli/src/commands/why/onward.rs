//! What to ask next, where the answer alone is no way out.

use std::net::IpAddr;

use hopyard::explain::{Choices, Outcome, Packet, Query, Reason, Verdict, Walk, explain};
use hopyard::net::NsName;
use hopyard::runtime::why::Report;
use hopyard::runtime::{self, Home, Running};

use super::scene::Scene;
use super::words::sentence;
use crate::error::CliError;
use crate::ui::Ui;

/// What becomes of the longest packet that a node would send to another one.
#[derive(Debug)]
pub(super) struct Long {
    from: NsName,
    to: IpAddr,
    length: u32,
    text: String,
    /// Is it no longer than what TCP sends to the other end?
    of_tcp: bool,
}

/// Of a short packet that is answered: is there a longer one, there or back, that is lost, and nobody is told? Where the
/// sender is told what fits, it sends no longer ones, and all is well.
pub(super) fn long_packets(report: &Report) -> Option<Long> {
    if report.outcome() != Outcome::Yes || !report.disagreements.is_empty() {
        return None;
    }
    let Verdict { there, back } = &report.verdict;
    let walks = || [Some(there), back.as_ref()].into_iter().flatten();
    let sizes: Vec<u32> = walks().filter_map(|walk| longest(report, walk)).collect();
    // Each end says at the start what it takes in (MSS), by the interface that it sends by.
    let agreed = sizes.iter().copied().min().filter(|_| sizes.len() == 2);
    let of_tcp = agreed.and_then(|length| walks().find_map(|walk| lost(report, walk, length, true)));
    of_tcp.or_else(|| walks().find_map(|walk| lost(report, walk, longest(report, walk)?, agreed.is_none())))
}

/// What the interface takes by which a walk begins.
fn longest(report: &Report, walk: &Walk) -> Option<u32> {
    let first = walk.hops.first()?;
    Some(report.snapshot.nodes.get(&first.node)?.links.get(&first.next.as_ref()?.dev)?.mtu)
}

fn lost(report: &Report, walk: &Walk, length: u32, of_tcp: bool) -> Option<Long> {
    let (first, last) = (walk.hops.first()?, walk.last()?);
    if length <= walk.packet.length {
        return None;
    }
    let (from, to) = (first.node.clone(), walk.packet.dst);
    let packet = Packet { length, ..walk.packet };
    let query = Query { from: from.clone(), packet, wanted: Some(last.node.clone()) };
    let verdict = explain(&report.snapshot, &query, &Choices::new());
    let trouble = verdict.trouble().filter(|trouble| !trouble.back)?;
    let is_lost = matches!(trouble.reason, Reason::PmtudBlackhole { .. } | Reason::MtuMismatch { .. });
    is_lost.then(|| Long { from, to, length, text: sentence(&verdict, &trouble), of_tcp })
}

impl Long {
    pub(super) fn words(&self) -> String {
        let what = if self.of_tcp {
            "Long packets are lost, so a connection may open and then hang"
        } else {
            "Long packets are lost, but for those of TCP, whose ends agree on shorter ones"
        };
        format!("{what}: {}.", self.text)
    }

    /// The question that tells more of it, in a lab.
    pub(super) fn question(&self, scene: &Scene) -> Option<String> {
        let Long { from, to, length, .. } = self;
        scene.lab.as_ref().map(|lab| format!("hop why {lab}{from} {to} --size {length}"))
    }
}

/// Where nothing that would help was found: a lab that is not as declared, or a way out by the machine's own network.
pub(super) fn hint(ui: &mut Ui, home: &Home, running: &Running, report: &Report, named: bool) -> Result<(), CliError> {
    let none_found = report.repair.is_none() && report.forbidden.by.is_none() && report.forbidden.spoilt.is_empty();
    let Some(trouble) = report.trouble().filter(|_| report.outcome() != Outcome::Yes && none_found) else {
        return Ok(());
    };
    if matches!(trouble.reason, Reason::NoListener { .. } | Reason::WrongBindAddress { .. }) {
        return Ok(());
    }
    let lab = running.name();
    let difference = runtime::difference(home, &running.contents()?.lab)?;
    if difference.steps.len() + difference.host.len() > 0 {
        let option = if named { format!(" -l {lab}") } else { String::new() };
        ui.hint(format_args!(
            "the lab is not as declared: `hop diff{option}` shows what differs, `hop up` restores it"
        ));
    } else if let Reason::LeavesKnown { by } = &trouble.reason {
        let uplink = running.contents()?.lab.nodes().iter().any(|node| node.uplink && node.name == by.ns);
        if uplink && home.is_privileged() {
            let (from, to) = (&report.query.from, report.query.packet.dst);
            ui.hint(format_args!("`hop why --ns {lab}.{from} {to}` goes on in the machine's own network"));
        } else if uplink {
            ui.hint(format_args!(
                "beyond it is the machine's own network: can that reach {}?",
                report.query.packet.dst
            ));
        }
    }
    Ok(())
}
