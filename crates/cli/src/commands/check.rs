//! `hop check`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use hopyard::explain::{Cause, Cell};
use hopyard::kernel::Errno;
use hopyard::net::{Family, NsName};
use hopyard::runtime::check::{Checked, check};
use hopyard::runtime::{Home, Running, keep_room_for_files, ping};
use serde::Serialize;

use super::ping::{MATRIX_NODES, grid, icmp_words};
use super::up::{Took, count};
use super::why::words;
use crate::error::CliError;
use crate::target::LabArg;
use crate::ui::{ERROR, GOOD, Ui, WARNING};

/// Say who reaches whom: predicted for all pairs of nodes, and tried.
///
/// Predictions are made from one look at all nodes, without a packet; then one is sent for each pair. Pairs
/// that do not reach each other are told by what stops them, and where prediction and packet differ, that is
/// shown. IPv4 and IPv6, where the target has both.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own on the command line")]
#[command(after_help = "\
Exit status: 0 all reach each other; 1 some do not; 2 the input is wrong; 3 some pairs are not known, or
predictions and packets differ.")]
pub(crate) struct Args {
    #[command(flatten)]
    lab: LabArg,
    /// IPv4 only.
    #[arg(short = '4', long, conflicts_with = "ipv6_only")]
    ipv4_only: bool,
    /// IPv6 only.
    #[arg(short = '6', long)]
    ipv6_only: bool,
    /// Send no packet: only predict.
    #[arg(long)]
    no_probe: bool,
    /// How long to wait for an expected answer, in milliseconds.
    #[arg(short = 'W', long, value_name = "MS", default_value_t = 2000, value_parser = clap::value_parser!(u64).range(1..=600_000))]
    timeout: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// The lab; not needed where only one runs.
    #[arg(value_name = "LAB", conflicts_with = "lab")]
    name: Option<hopyard::model::LabName>,
}

/// One pair in one family.
#[derive(Clone, Copy)]
struct Pair<'a> {
    source: usize,
    target: usize,
    cell: Cell<'a>,
    seen: Option<&'a ping::Outcome>,
    differs: bool,
    /// `None`: not known.
    reached: Option<bool>,
}

impl Pair<'_> {
    fn cause(&self) -> Option<&Cause> {
        match self.cell {
            Cell::Stopped(cause) if self.reached != Some(true) => Some(cause),
            _ => None,
        }
    }

    /// Does something decide that is not understood?
    fn is_unpredicted(&self) -> bool {
        matches!(self.cell, Cell::Stopped(cause) if cause.undecided)
    }
}

/// Pairs that are stopped in one place by one kind of thing.
struct Group {
    pairs: usize,
    /// The first of them.
    source: usize,
    target: usize,
}

/// Status: prediction and packet differ, or something is not known.
const OPEN: u8 = 3;

pub(crate) fn run(args: &Args, ui: &mut Ui) -> Result<u8, CliError> {
    let home = Home::of_caller()?;
    keep_room_for_files();
    let started = Instant::now();
    let running = match &args.name {
        Some(name) => Running::find(&home, name)?,
        None => args.lab.find(&home)?,
    };
    let families: Vec<Family> = Family::BOTH
        .into_iter()
        .filter(|family| match family {
            Family::Ipv4 => !args.ipv6_only,
            Family::Ipv6 => !args.ipv4_only,
        })
        .collect();
    let patience = (!args.no_probe).then(|| Duration::from_millis(args.timeout));
    let checked = check(&running, &families, patience)?;
    let took = Took(started.elapsed());
    let pairs = pairs(&checked);
    if args.json {
        ui.json(&json(&running, &checked, &pairs))?;
    } else {
        print(args, ui, &running, &checked, &pairs, &took)?;
    }
    let all = |value: Option<bool>| pairs.iter().all(|pair| pair.reached == value);
    Ok(match () {
        () if !checked.differing.is_empty() => OPEN,
        () if all(Some(true)) => 0,
        () if pairs.iter().any(|pair| pair.reached.is_none()) => OPEN,
        () => 1,
    })
}

fn pairs(checked: &Checked) -> Vec<Pair<'_>> {
    let mut differing = checked.differing.iter().peekable();
    let observed = checked.observed.as_ref();
    let pair = |(at, (source, target, cell))| Pair {
        source,
        target,
        cell,
        seen: observed.and_then(|all| all.get(at)),
        differs: differing.next_if(|next| **next == at).is_some(),
        reached: checked.reached(at, cell),
    };
    checked.matrix.pairs().enumerate().map(pair).collect()
}

/// Where, what, and whether it is the reply that ends.
type Stop = (NsName, &'static str, bool);

fn groups(pairs: &[Pair<'_>]) -> Vec<(Option<Stop>, Group)> {
    let mut found: BTreeMap<Option<Stop>, Group> = BTreeMap::new();
    for pair in pairs {
        let Some(cause) = pair.cause() else { continue };
        let key = cause.trouble.as_ref().map(|trouble| (trouble.node.clone(), trouble.code(), trouble.back));
        let new = || Group { pairs: 0, source: pair.source, target: pair.target };
        found.entry(key).or_insert_with(new).pairs += 1;
    }
    let mut found: Vec<_> = found.into_iter().collect();
    // What stops most comes first; the rest in order.
    found.sort_by_key(|(_, group)| std::cmp::Reverse(group.pairs));
    found
}

/// So many groups, and pairs that differ, are worth their lines.
const LISTED: usize = 40;

fn print(
    args: &Args,
    ui: &mut Ui,
    running: &Running,
    checked: &Checked,
    pairs: &[Pair<'_>],
    took: &Took,
) -> Result<(), CliError> {
    let (sources, targets) = (checked.matrix.sources(), checked.matrix.targets());
    if sources.len() <= MATRIX_NODES {
        let mut cells: BTreeMap<(&str, &str), Vec<&Pair<'_>>> = BTreeMap::new();
        for pair in pairs {
            let ends = (sources[pair.source].as_str(), targets[pair.target].node.as_str());
            cells.entry(ends).or_default().push(pair);
        }
        let nodes: Vec<&NsName> = sources.iter().collect();
        grid(ui, &nodes, |from, to| {
            let pairs = cells.get(&(from.as_str(), to.as_str()))?;
            let is = |pair: &&&Pair<'_>| pair.reached == Some(true);
            let one = pairs.iter().find(is).map(|pair| Family::of(targets[pair.target].addr));
            Some(match one {
                _ if pairs.iter().any(|pair| pair.differs) => (WARNING, '!'),
                _ if pairs.iter().all(|pair| pair.reached == Some(true)) => (GOOD, '.'),
                _ if pairs.iter().any(|pair| pair.reached.is_none()) => (WARNING, '?'),
                Some(Family::Ipv4) => (ERROR, '4'),
                Some(Family::Ipv6) => (ERROR, '6'),
                None => (ERROR, 'x'),
            })
        })?;
    }
    let groups = groups(pairs);
    for (key, group) in groups.iter().take(LISTED) {
        let (source, target) = (group.source, group.target);
        let what = match key {
            Some((node, code, back)) => {
                let who =
                    if *back { count(group.pairs, "reply", "replies") } else { count(group.pairs, "pair", "pairs") };
                let verb = if group.pairs == 1 { "ends" } else { "end" };
                format!("{who} {verb} at {node}: {ERROR}{code}{ERROR:#}")
            }
            None => format!("{}: no address to answer to", count(group.pairs, "pair", "pairs")),
        };
        ui.line(what)?;
        let verdict = checked.verdict(source, target);
        let text = verdict.trouble().map_or_else(String::new, |trouble| {
            let arrives = if trouble.back { "it arrives, but " } else { "" };
            format!("   {arrives}{}", words::sentence(&verdict, &trouble))
        });
        ui.line(format_args!("   {}{text}", command(args, running, checked, source, target)))?;
    }
    if groups.len() > LISTED {
        ui.line(format_args!("… and {} more; --json lists all", groups.len() - LISTED))?;
    }
    for pair in pairs.iter().filter(|pair| pair.differs).take(LISTED) {
        let (from, to) = (&sources[pair.source], &targets[pair.target]);
        let predicted = if pair.cell == Cell::Reached { "should reach" } else { "should not reach" };
        let seen = pair.seen.map_or_else(String::new, |seen| observed(seen, running));
        ui.line(format_args!(
            "{WARNING}contradiction{WARNING:#}: {from} {predicted} {} ({}), and {seen}",
            to.node, to.addr
        ))?;
        ui.line(format_args!("   {}", command(args, running, checked, pair.source, pair.target)))?;
    }
    if checked.differing.len() > LISTED {
        ui.line(format_args!("… and {} more; --json lists all", checked.differing.len() - LISTED))?;
    }
    let unaddressed: Vec<&str> =
        sources.iter().filter(|node| !targets.iter().any(|target| target.node == **node)).map(NsName::as_str).collect();
    if !unaddressed.is_empty() {
        ui.line(format_args!("no address: {}", unaddressed.join(" ")))?;
    }
    let reached = pairs.iter().filter(|pair| pair.reached == Some(true)).count();
    let unpredicted = pairs.iter().filter(|pair| pair.is_unpredicted()).count();
    let how = match &checked.observed {
        None => "predicted, no packet was sent",
        Some(_) if !checked.differing.is_empty() => "not all as predicted",
        Some(_) if unpredicted > 0 && unpredicted == pairs.len() => "which could not be predicted",
        Some(_) => "as predicted",
    };
    let how = match unpredicted {
        some if some > 0 && some < pairs.len() => format!("{how}; {some} of them could not be predicted"),
        _ => how.to_owned(),
    };
    let verb = if pairs.len() == 1 { "reaches" } else { "reach" };
    ui.line(format_args!("{reached} of {} {verb} each other, {how}, in {took}", count(pairs.len(), "pair", "pairs")))
}

/// The command that says more of a pair.
fn command(args: &Args, running: &Running, checked: &Checked, source: usize, target: usize) -> String {
    let (from, to) = (&checked.matrix.sources()[source], &checked.matrix.targets()[target]);
    let lab = match (&args.name, &args.lab.lab) {
        (None, None) => String::new(),
        _ => format!(" -l {}", running.name()),
    };
    let six = if to.addr.is_ipv6() { " -6" } else { "" };
    format!("hop why{lab}{six} {from} {}", to.node)
}

/// What became of a probe.
fn observed(outcome: &ping::Outcome, running: &Running) -> String {
    match outcome {
        ping::Outcome::Reply(_) => "was answered".to_owned(),
        ping::Outcome::Silence => "got no answer".to_owned(),
        ping::Outcome::NotSent(errno) => format!("was not sent: {}", Errno::from_raw(*errno)),
        ping::Outcome::Error { by, kind, code } => {
            let who = running.owner_of(*by).map_or_else(|| by.to_string(), |node| format!("{node} ({by})"));
            format!("{who} answered {}", icmp_words(Family::of(*by), *kind, *code))
        }
    }
}

/// Grows when something changes its meaning.
const VERSION: u32 = 1;

#[derive(Serialize)]
struct Object<'a> {
    v: u32,
    lab: &'a str,
    nodes: usize,
    pairs: usize,
    reached: usize,
    /// Were packets sent?
    probed: bool,
    causes: Vec<JsonCause<'a>>,
    /// All pairs that do not reach each other, or of which that is not known, or that differ.
    open: Vec<JsonPair<'a>>,
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

fn json<'a>(running: &'a Running, checked: &'a Checked, pairs: &'a [Pair<'a>]) -> Object<'a> {
    let (sources, targets) = (checked.matrix.sources(), checked.matrix.targets());
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
    let causes = causes.collect();
    let open = pairs.iter().filter(|pair| pair.differs || pair.reached != Some(true)).map(|pair| {
        let trouble = match pair.cell {
            Cell::Stopped(cause) => cause.trouble.as_ref(),
            _ => None,
        };
        JsonPair {
            from: &sources[pair.source],
            to: &targets[pair.target].node,
            address: targets[pair.target].addr,
            reached: pair.reached,
            predicted: (!pair.is_unpredicted()).then_some(pair.cell == Cell::Reached),
            observed: pair.seen.map(|seen| observed(seen, running)),
            direction: trouble.map(|trouble| direction(trouble.back)),
            node: trouble.map(|trouble| &trouble.node),
            reason: trouble.map(hopyard::explain::Trouble::code),
        }
    });
    Object {
        v: VERSION,
        lab: running.name().as_str(),
        nodes: sources.len(),
        pairs: pairs.len(),
        reached: pairs.iter().filter(|pair| pair.reached == Some(true)).count(),
        probed: checked.observed.is_some(),
        causes,
        open: open.collect(),
    }
}
