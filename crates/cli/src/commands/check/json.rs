//! `hop check --json`.

use std::net::IpAddr;

use hopyard::explain::{Cell, Trouble};
use hopyard::net::NsName;
use hopyard::runtime::check::Expected;
use serde::Serialize;

use super::words::{failure, observed};
use super::{All, groups};
use crate::commands::why::words;

/// Grows when something changes its meaning.
const VERSION: u32 = 1;

#[derive(Serialize)]
pub(super) struct Object<'a> {
    v: u32,
    /// `null`: it is none.
    lab: Option<&'a str>,
    nodes: usize,
    pairs: usize,
    reached: usize,
    /// So many pairs are hidden by nat, as declared, and do not reach each other.
    hidden: usize,
    /// Were packets sent?
    probed: bool,
    /// The lines of `expect`, in their order.
    expectations: Vec<JsonExpectation<'a>>,
    causes: Vec<JsonCause<'a>>,
    /// All pairs that do not reach each other, or of which that is not known, or that differ, or that should not
    /// reach each other and do.
    open: Vec<JsonPair<'a>>,
    /// The families of which the machine had no room for more neighbours meanwhile, and lost packets for it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    no_room: Vec<String>,
}

#[derive(Serialize)]
struct JsonExpectation<'a> {
    expect: &'a str,
    file: Option<&'a str>,
    line: Option<usize>,
    /// `null`: not known.
    holds: Option<bool>,
    /// So many pairs it decides about.
    pairs: usize,
    /// Of those it does not hold for so many.
    broken: usize,
    /// And of so many that is not known.
    unknown: usize,
    /// What is wrong with the first of them.
    text: Option<String>,
    /// The command that says more of it.
    command: Option<String>,
}

#[derive(Serialize)]
struct JsonCause<'a> {
    direction: Option<&'static str>,
    node: Option<NsName>,
    reason: Option<&'static str>,
    pairs: usize,
    from: &'a NsName,
    to: &'a NsName,
    address: IpAddr,
    text: Option<String>,
}

#[derive(Serialize)]
struct JsonPair<'a> {
    from: &'a NsName,
    to: &'a NsName,
    address: IpAddr,
    /// `reached`, `not-reached`, `hidden` (by nat), or `null`: nothing.
    expected: Option<&'static str>,
    /// `null`: not known.
    reached: Option<bool>,
    predicted: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    observed: Option<String>,
    direction: Option<&'static str>,
    node: Option<&'a NsName>,
    reason: Option<&'static str>,
}

fn direction(back: bool) -> &'static str {
    if back { "back" } else { "there" }
}

pub(super) fn object<'a>(all: &'a All<'a>) -> Object<'a> {
    let All { field, checked, count, reached, pairs, lines, places, .. } = all;
    let (sources, targets) = (checked.matrix.sources(), checked.matrix.targets());
    let expectations = lines.iter().enumerate().map(|(at, line)| {
        let failure = failure(all, at, line);
        JsonExpectation {
            expect: &line.words,
            file: places.file.as_deref(),
            line: places.line(at),
            holds: line.judged.holds(),
            pairs: line.judged.about,
            broken: line.judged.broken,
            unknown: line.judged.open,
            text: failure.as_ref().map(|(text, _)| text.clone()),
            command: failure.and_then(|(_, command)| command),
        }
    });
    let causes = groups(pairs).into_iter().map(|(key, group)| {
        let verdict = checked.verdict(group.source, group.target);
        JsonCause {
            direction: key.as_ref().map(|(.., back)| direction(*back)),
            node: key.as_ref().map(|(node, ..)| node.clone()),
            reason: key.as_ref().map(|(_, code, _)| *code),
            pairs: group.pairs,
            from: &sources[group.source],
            to: &targets[group.target].node,
            address: targets[group.target].addr,
            text: verdict.trouble().map(|trouble| words::sentence(&verdict, &trouble)),
        }
    });
    let open = pairs.iter().filter(|pair| pair.differs || pair.is_wrong() || pair.reached != Some(true));
    let open = open.map(|pair| {
        let trouble = match pair.cell {
            Cell::Stopped(cause) => cause.trouble.as_ref(),
            _ => None,
        };
        JsonPair {
            from: &sources[pair.source],
            to: &targets[pair.target].node,
            address: targets[pair.target].addr,
            expected: match pair.expected {
                Expected::Reached(_) => Some("reached"),
                Expected::NotReached(_) => Some("not-reached"),
                Expected::Hidden(_) => Some("hidden"),
                Expected::Nothing => None,
            },
            reached: pair.reached,
            predicted: (!pair.is_unpredicted()).then_some(pair.cell == Cell::Reached),
            observed: pair.seen.map(|seen| observed(seen, field, checked)),
            direction: trouble.map(|trouble| direction(trouble.back)),
            node: trouble.map(|trouble| &trouble.node),
            reason: trouble.map(Trouble::code),
        }
    });
    Object {
        v: VERSION,
        lab: field.lab_name(),
        nodes: sources.len(),
        pairs: *count,
        reached: *reached,
        hidden: pairs.iter().filter(|pair| pair.is_hidden()).count(),
        probed: checked.observed.iter().any(Option::is_some),
        expectations: expectations.collect(),
        causes: causes.collect(),
        open: open.collect(),
        no_room: checked.crowded.iter().map(ToString::to_string).collect(),
    }
}
