//! What `hop check` prints.

use std::collections::BTreeMap;

use hopyard::explain::Cell;
use hopyard::kernel::Errno;
use hopyard::net::{Family, NsName};
use hopyard::runtime::check::{Checked, Expected, Tried};
use hopyard::runtime::ping;

use super::field::Field;
use super::{All, Line, Pair, groups};
use crate::commands::ping::{MATRIX_NODES, grid, icmp_words};
use crate::commands::up::{Took, count};
use crate::commands::why::words;
use crate::error::CliError;
use crate::ui::{ERROR, GOOD, Ui, WARNING};

/// So many groups, and pairs that differ, are worth their lines.
const LISTED: usize = 40;

pub(super) fn print(ui: &mut Ui, all: &All<'_>, took: &Took) -> Result<(), CliError> {
    if all.count > 0 && all.checked.matrix.sources().len() <= MATRIX_NODES {
        table(ui, all)?;
    }
    causes(ui, all)?;
    wrong(ui, all)?;
    for (at, line) in all.lines.iter().enumerate() {
        expectation(ui, all, at, line)?;
    }
    contradictions(ui, all)?;
    summary(ui, all, took)
}

/// Rows ask, columns answer.
fn table(ui: &mut Ui, all: &All<'_>) -> Result<(), CliError> {
    let (sources, targets) = (all.checked.matrix.sources(), all.checked.matrix.targets());
    let mut open: BTreeMap<(&str, &str), Vec<&Pair<'_>>> = BTreeMap::new();
    for pair in &all.pairs {
        let ends = (sources[pair.source].as_str(), targets[pair.target].node.as_str());
        open.entry(ends).or_default().push(pair);
    }
    let nodes: Vec<&NsName> = sources.iter().collect();
    grid(ui, &nodes, |from, to| {
        // Of the others there is nothing to tell.
        let pairs = open.get(&(from.as_str(), to.as_str())).map_or(&[][..], Vec::as_slice);
        let fails = |at: usize| pairs.iter().any(|pair| pair.target == at && pair.reached != Some(true));
        let mut by = targets.iter().enumerate().filter(|(_, target)| target.node == *to && from != to).peekable();
        by.peek()?;
        let one = by.find(|(at, _)| !fails(*at)).map(|(_, target)| Family::of(target.addr));
        Some(match one {
            _ if pairs.iter().any(|pair| pair.differs) => (WARNING, '!'),
            _ if pairs.iter().any(|pair| pair.is_wrong()) => (ERROR, '!'),
            _ if pairs.iter().all(|pair| pair.reached == Some(true)) => (GOOD, '.'),
            _ if pairs.iter().any(|pair| pair.reached.is_none()) => (WARNING, '?'),
            Some(Family::Ipv4) => (ERROR, '4'),
            Some(Family::Ipv6) => (ERROR, '6'),
            None if pairs.iter().all(|pair| pair.shall_not()) => (GOOD, '-'),
            None => (ERROR, 'x'),
        })
    })
}

/// What stops pairs that nobody said shall be stopped.
fn causes(ui: &mut Ui, all: &All<'_>) -> Result<(), CliError> {
    let groups = groups(&all.pairs);
    for (key, group) in groups.iter().take(LISTED) {
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
        let text = why_not(all.checked, group.source, group.target);
        let text = text.map_or_else(String::new, |text| format!("   {text}"));
        ui.line(format_args!("   {}{text}", command(all, group.source, group.target)))?;
    }
    more(ui, groups.len())
}

/// Pairs that nodes hide from each other, and that reach each other all the same.
fn wrong(ui: &mut Ui, all: &All<'_>) -> Result<(), CliError> {
    let targets = all.checked.matrix.targets();
    let mut shown = 0;
    for pair in all.pairs.iter().filter(|pair| pair.is_wrong()) {
        let Expected::Hidden(by) = pair.expected else { continue };
        shown += 1;
        if shown > LISTED {
            continue;
        }
        let (from, to) = (&all.checked.matrix.sources()[pair.source], &targets[pair.target]);
        ui.line(format_args!(
            "{ERROR}not hidden{ERROR:#}: {from} reaches {} ({}), which is behind the nat of {by}",
            to.node, to.addr
        ))?;
        ui.line(format_args!("   {}", command(all, pair.source, pair.target)))?;
    }
    more(ui, shown)
}

fn expectation(ui: &mut Ui, all: &All<'_>, at: usize, line: &Line) -> Result<(), CliError> {
    let Some((text, command)) = failure(all, at, line) else { return Ok(()) };
    let place = all.places.of_line(at);
    let judged = &line.judged;
    let (style, what, some) = match judged.holds() {
        Some(_) => (ERROR, "does not hold", judged.broken),
        None if judged.is_void => (WARNING, "was not tried", 0),
        None => (WARNING, "is not known", judged.open),
    };
    let part = if judged.about > 1 { format!(" for {some} of {} pairs", judged.about) } else { String::new() };
    ui.line(format_args!("{place}: {}  {style}{what}{style:#}{part}: {text}", line.words))?;
    command.map_or(Ok(()), |command| ui.line(format_args!("   {command}")))
}

/// What is wrong with the first pair for which a line does not hold, or is not known to, and the command that
/// says more of it. `None`: it holds.
pub(super) fn failure(all: &All<'_>, at: usize, line: &Line) -> Option<(String, Option<String>)> {
    let holds = line.judged.holds();
    if holds == Some(true) {
        return None;
    }
    if line.judged.is_void {
        return Some(("there is no address to send to".to_owned(), None));
    }
    // One that breaks it, where there is one.
    let fails = |reached: Option<bool>| match holds {
        Some(_) => reached == Some(!line.reaches),
        None => reached.is_none(),
    };
    let is = |pair: &&Pair<'_>| {
        let of_line = matches!(pair.expected, Expected::Reached(Some(line)) | Expected::NotReached(line) if line == at);
        of_line && fails(pair.reached)
    };
    if let Some(pair) = all.pairs.iter().find(is) {
        let answers = || format!("{} answers", all.checked.matrix.targets()[pair.target].node);
        let text = match pair.reached {
            Some(true) => answers(),
            _ if pair.cell == Cell::Reached => "no answer came".to_owned(),
            _ => why_not(all.checked, pair.source, pair.target).unwrap_or_else(|| "chance decides".to_owned()),
        };
        return Some((text, Some(command(all, pair.source, pair.target))));
    }
    let tried = all.checked.tried.iter().find(|tried| tried.line == at && fails(tried.reached))?;
    let Tried { from, to, addr, service, verdict, .. } = tried;
    let text = match verdict.trouble() {
        None if tried.reached == Some(true) => "it is answered".to_owned(),
        None => "chance decides".to_owned(),
        Some(trouble) => {
            let text = words::sentence(verdict, &trouble);
            match tried.reached {
                Some(true) if trouble.back => format!("it comes through, and only the answer does not: {text}"),
                Some(true) => format!("it comes through, although {text}"),
                _ if trouble.back => format!("it arrives, but {text}"),
                _ => text,
            }
        }
    };
    Some((text, Some(all.field.command(from, to.as_ref(), *addr, *service))))
}

fn contradictions(ui: &mut Ui, all: &All<'_>) -> Result<(), CliError> {
    let (sources, targets) = (all.checked.matrix.sources(), all.checked.matrix.targets());
    let mut shown = 0;
    for pair in all.pairs.iter().filter(|pair| pair.differs) {
        shown += 1;
        if shown > LISTED {
            continue;
        }
        let (from, to) = (&sources[pair.source], &targets[pair.target]);
        let predicted = if pair.cell == Cell::Reached { "should reach" } else { "should not reach" };
        let seen = pair.seen.map_or_else(String::new, |seen| observed(seen, all.field, all.checked));
        ui.line(format_args!(
            "{WARNING}contradiction{WARNING:#}: {from} {predicted} {} ({}), and {seen}",
            to.node, to.addr
        ))?;
        ui.line(format_args!("   {}", command(all, pair.source, pair.target)))?;
    }
    for tried in all.checked.tried.iter().filter(|tried| !tried.disagreements.is_empty()) {
        shown += 1;
        if shown > LISTED {
            continue;
        }
        let Tried { from, to, addr, service, .. } = tried;
        ui.line(format_args!("{WARNING}contradiction{WARNING:#}: model and packet differ"))?;
        ui.line(format_args!("   {}", all.field.command(from, to.as_ref(), *addr, *service)))?;
    }
    more(ui, shown)?;
    if shown > 0 { crowded(ui, all) } else { Ok(()) }
}

/// What is not the network's fault.
fn crowded(ui: &mut Ui, all: &All<'_>) -> Result<(), CliError> {
    let full = &all.checked.crowded;
    if full.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = full.iter().map(ToString::to_string).collect();
    let room = |family: &Family| {
        let name = if *family == Family::Ipv4 { "ipv4" } else { "ipv6" };
        format!("net.{name}.neigh.default.gc_thresh3=16384")
    };
    let room: Vec<String> = full.iter().map(room).collect();
    ui.line(format_args!(
        "The machine had no room for more {} neighbours meanwhile, and lost packets for it; all networks on it share that room.",
        names.join(" and ")
    ))?;
    ui.line(format_args!("   on the host, as root: sysctl -w {}", room.join(" ")))
}

fn summary(ui: &mut Ui, all: &All<'_>, took: &Took) -> Result<(), CliError> {
    let All { pairs, checked, lines, .. } = all;
    let (sources, targets) = (checked.matrix.sources(), checked.matrix.targets());
    let unaddressed: Vec<&str> =
        sources.iter().filter(|node| !targets.iter().any(|target| target.node == **node)).map(NsName::as_str).collect();
    let of_family = all.family.map_or_else(String::new, |family| format!("{family} "));
    // Where none has, it is said once.
    if !unaddressed.is_empty() && all.count > 0 {
        ui.line(format_args!("no {of_family}address: {}", unaddressed.join(" ")))?;
    }
    if !lines.is_empty() {
        let held = lines.iter().filter(|line| line.judged.holds() == Some(true)).count();
        let verb = if lines.len() == 1 { "holds" } else { "hold" };
        ui.line(format_args!("{held} of {} {verb}", count(lines.len(), "expectation", "expectations")))?;
    }
    if all.count == 0 {
        let what = if sources.len() < 2 {
            "a pair takes two nodes".to_owned()
        } else {
            format!("no node has an {of_family}address")
        };
        ui.line(format_args!("{WARNING}nothing was checked{WARNING:#}: {what}"))?;
        return all.remark.map_or(Ok(()), |remark| ui.line(remark));
    }
    let unpredicted = pairs.iter().filter(|pair| pair.is_unpredicted()).count();
    let is_probed = checked.observed.iter().any(Option::is_some);
    let how = match () {
        () if !is_probed => "predicted, no packet was sent",
        () if !checked.differing.is_empty() => "not all as predicted",
        () if unpredicted > 0 && unpredicted == all.count => "which could not be predicted",
        () => "as predicted",
    };
    let how = match unpredicted {
        some if some > 0 && some < all.count => format!("{how}; {some} of them could not be predicted"),
        _ => how.to_owned(),
    };
    let hidden = match pairs.iter().filter(|pair| pair.is_hidden()).count() {
        0 => String::new(),
        1 => "; 1 is hidden by nat".to_owned(),
        some => format!("; {some} are hidden by nat"),
    };
    let verb = if all.count == 1 { "reaches" } else { "reach" };
    let (reached, pairs) = (all.reached, count(all.count, "pair", "pairs"));
    ui.line(format_args!("{reached} of {pairs} {verb} each other{hidden}, {how}, in {took}"))?;
    all.remark.map_or(Ok(()), |remark| ui.line(remark))
}

fn more(ui: &mut Ui, all: usize) -> Result<(), CliError> {
    if all > LISTED { ui.line(format_args!("… and {} more; --json lists all", all - LISTED)) } else { Ok(()) }
}

/// What the model says of a pair that does not reach each other.
fn why_not(checked: &Checked, source: usize, target: usize) -> Option<String> {
    let verdict = checked.verdict(source, target);
    let trouble = verdict.trouble()?;
    let arrives = if trouble.back { "it arrives, but " } else { "" };
    Some(format!("{arrives}{}", words::sentence(&verdict, &trouble)))
}

/// The command that says more of a pair.
fn command(all: &All<'_>, source: usize, target: usize) -> String {
    let to = &all.checked.matrix.targets()[target];
    all.field.command(&all.checked.matrix.sources()[source], Some(&to.node), to.addr, None)
}

/// What became of a probe.
pub(super) fn observed(outcome: &ping::Outcome, field: &Field, checked: &Checked) -> String {
    match outcome {
        ping::Outcome::Reply(_) => "was answered".to_owned(),
        ping::Outcome::Silence => "got no answer".to_owned(),
        ping::Outcome::NotSent(errno) => format!("was not sent: {}", Errno::from_raw(*errno)),
        ping::Outcome::Error { by, kind, code } => {
            let who = field.owner_of(checked, *by).map_or_else(|| by.to_string(), |node| format!("{node} ({by})"));
            format!("{who} answered {}", icmp_words(Family::of(*by), *kind, *code))
        }
    }
}
