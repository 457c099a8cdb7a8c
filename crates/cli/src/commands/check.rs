//! `hop check`.

mod field;
mod json;
mod places;
mod words;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use hopyard::explain::{Cause, Cell};
use hopyard::net::{Family, NsName};
use hopyard::runtime::check::{Checked, Expected, Judged};
use hopyard::runtime::{keep_room_for_files, ping};

use super::up::Took;
use super::why::OPEN;
use crate::error::CliError;
use crate::target::LabArg;
use crate::ui::Ui;
use field::{Field, Found};

pub(in crate::commands) use places::Places;

/// Say who reaches whom, and whether it is as it should be: predicted for all pairs of nodes, and tried.
///
/// Predictions are made from one look at all nodes, without a packet; then one is sent for each pair. Pairs
/// that do not reach each other are told by what stops them, and where prediction and packet differ, that is
/// shown. IPv4 and IPv6, where the target has both. What the topology file says under `expect` is compared
/// with it; where that says nothing, all should reach each other but what `nat` hides.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own on the command line")]
#[command(after_help = "\
Exit status: 0 all is as expected: every line of `expect` holds, or, without any, all reach each other; \
1 it is not; 2 the input is wrong; 3 some of it is not known, or predictions and packets differ, or there \
is nothing to check.")]
pub(crate) struct Args {
    #[command(flatten)]
    lab: LabArg,
    /// IPv4 only.
    #[arg(short = '4', long, conflicts_with = "ipv6_only")]
    ipv4_only: bool,
    /// IPv6 only.
    #[arg(short = '6', long)]
    ipv6_only: bool,
    /// Check namespaces: names in /run/netns, `pid:1234`, a path, or `host` for the machine's own network. With
    /// them comes all that cables lead to from there.
    #[arg(long, conflicts_with = "lab")]
    ns: bool,
    /// Check what `hop record` has written, here or elsewhere: by prediction alone.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["lab", "ns", "probe", "no_probe"])]
    from: Option<PathBuf>,
    /// Send no packet: only predict.
    #[arg(long)]
    no_probe: bool,
    /// With --ns: send packets also from the machine's own network, and where they leave what is known.
    #[arg(long, requires = "ns", conflicts_with = "no_probe")]
    probe: bool,
    /// How long to wait for an expected answer, in milliseconds.
    #[arg(short = 'W', long, value_name = "MS", default_value_t = 2000, value_parser = clap::value_parser!(u64).range(1..=600_000))]
    timeout: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// The lab, which need not be named where only one runs; with --ns, the namespaces; with --from, the nodes,
    /// or else all.
    #[arg(value_name = "NAME", conflicts_with = "lab")]
    names: Vec<String>,
}

impl Args {
    fn families(&self) -> Vec<Family> {
        let wanted = |family: &Family| match family {
            Family::Ipv4 => !self.ipv6_only,
            Family::Ipv6 => !self.ipv4_only,
        };
        Family::BOTH.into_iter().filter(wanted).collect()
    }
}

/// All that is told.
struct All<'a> {
    field: &'a Field,
    checked: &'a Checked,
    /// `None`: both.
    family: Option<Family>,
    /// How many pairs there are, and how many reach each other.
    count: usize,
    reached: usize,
    /// Those of which there is something to tell: a large lab has millions.
    pairs: Vec<Pair<'a>>,
    /// What the lab's file expects.
    lines: Vec<Line>,
    places: Places,
    remark: Option<&'a str>,
}

/// One line of `expect`.
struct Line {
    words: String,
    reaches: bool,
    judged: Judged,
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
    expected: Expected<'a>,
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

    /// Is it said that they shall not reach each other?
    fn shall_not(&self) -> bool {
        matches!(self.expected, Expected::NotReached(_) | Expected::Hidden(_))
    }

    /// Do they reach each other and should not?
    fn is_wrong(&self) -> bool {
        self.shall_not() && self.reached == Some(true)
    }

    /// Does nat hide one from the other, as it should?
    fn is_hidden(&self) -> bool {
        matches!(self.expected, Expected::Hidden(_)) && self.reached == Some(false)
    }
}

/// Pairs that are stopped in one place by one kind of thing.
struct Group {
    pairs: usize,
    /// The first of them.
    source: usize,
    target: usize,
}

pub(crate) fn run(args: &Args, ui: &mut Ui) -> Result<u8, CliError> {
    keep_room_for_files();
    let started = Instant::now();
    let Found { field, checked, remark } = field::look(args, ui)?;
    let took = Took(started.elapsed());
    let mut all = All {
        family: Some(args.families())
            .filter(|families| families.len() == 1)
            .and_then(|families| families.first().copied()),
        count: 0,
        reached: 0,
        pairs: Vec::new(),
        lines: lines(&field, &checked)?,
        places: match &field {
            Field::Lab(running, _) => Places::of(running, &running.contents()?.lab, ui),
            _ => Places::none(),
        },
        field: &field,
        checked: &checked,
        remark: remark.as_deref(),
    };
    all.sift();
    if args.json {
        ui.json(&json::object(&all))?;
    } else {
        words::print(ui, &all, &took)?;
    }
    Ok(status(&all))
}

impl All<'_> {
    /// Goes through all pairs.
    fn sift(&mut self) {
        let checked = self.checked;
        let mut differing = checked.differing.iter().peekable();
        for (at, (source, target, cell)) in checked.matrix.pairs().enumerate() {
            let pair = Pair {
                source,
                target,
                cell,
                seen: checked.observed.get(at).and_then(Option::as_ref),
                differs: differing.next_if(|next| **next == at).is_some(),
                reached: checked.reached(at, cell),
                expected: checked.expected(source, target),
            };
            self.count += 1;
            self.reached += usize::from(pair.reached == Some(true));
            if pair.reached != Some(true) || pair.differs || pair.is_wrong() || pair.is_unpredicted() {
                self.pairs.push(pair);
            }
        }
    }
}

fn status(all: &All<'_>) -> u8 {
    let differ = !all.checked.differing.is_empty() || all.checked.tried.iter().any(|it| !it.disagreements.is_empty());
    // What lines are about, they judge.
    let pairs = all.pairs.iter().filter_map(|pair| match pair.expected {
        Expected::Reached(None) => Some(pair.reached),
        Expected::Hidden(_) => Some(pair.reached.map(|reached| !reached)),
        _ => None,
    });
    // Of nothing it is not known that all is well.
    let (mut broken, mut open) = (false, differ || all.count == 0);
    for good in pairs.chain(all.lines.iter().map(|line| line.judged.holds())) {
        broken |= good == Some(false);
        open |= good.is_none();
    }
    if open { OPEN } else { u8::from(broken) }
}

fn lines(field: &Field, checked: &Checked) -> Result<Vec<Line>, CliError> {
    let Some(lab) = field.lab()? else { return Ok(Vec::new()) };
    let judged = checked.judge(lab).into_iter().zip(lab.expectations());
    let line = |(judged, it): (Judged, &hopyard::model::Expectation)| Line {
        words: it.words(lab).to_string(),
        reaches: it.reaches,
        judged,
    };
    Ok(judged.map(line).collect())
}

/// Where, what, and whether it is the reply that ends.
type Stop = (NsName, &'static str, bool);

/// What stops pairs, but for those that shall be stopped.
fn groups(pairs: &[Pair<'_>]) -> Vec<(Option<Stop>, Group)> {
    let mut found: BTreeMap<Option<Stop>, Group> = BTreeMap::new();
    for pair in pairs.iter().filter(|pair| !pair.shall_not()) {
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
