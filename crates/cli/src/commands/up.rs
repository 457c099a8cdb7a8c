//! `hop up`.

use std::time::Instant;

use hopyard::runtime::{self, Home, Lifetime, Up};

use super::ns::tell_of_returned;
use crate::error::{CliError, report_problems};
use crate::source::TopologyArgs;
use crate::target::refuse_inside;
use crate::ui::Ui;

/// Bring a lab up, or change the running one into what the topology says.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    topology: TopologyArgs,
    /// Print every step, as the command that a person would type.
    #[arg(short, long)]
    verbose: bool,
    /// Print nothing but warnings and errors.
    #[arg(short, long, conflicts_with = "verbose")]
    quiet: bool,
}

/// More steps of a change are not printed unless asked for.
const LISTED_STEPS: usize = 40;

pub(crate) fn run(args: &Args, ui: &mut Ui) -> Result<u8, CliError> {
    let words = match (args.verbose, args.quiet) {
        (true, _) => Words::Steps,
        (false, false) => Words::Changes,
        (false, true) => Words::None,
    };
    bring_up(None, &args.topology, words, ui).map(|_| 0)
}

/// How much is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Words {
    /// Every step.
    Steps,
    /// What is changed in a lab that ran already, as long as somebody can read it.
    Changes,
    /// Nothing but warnings.
    None,
}

/// Brings a lab up; `home`: where its record is, if not in the caller's usual place.
pub(crate) fn bring_up(
    home: Option<&Home>,
    topology: &TopologyArgs,
    words: Words,
    ui: &mut Ui,
) -> Result<Up, CliError> {
    let started = Instant::now();
    let source = topology.read(ui)?;
    refuse_inside()?;
    let home = home.cloned().map_or_else(Home::of_caller, Ok)?;
    let up = runtime::up(&home, &source.lab, &topology.place(&source), Lifetime::UntilDown)
        .map_err(|error| CliError::of_lab(error, &source))?;
    report_problems(ui, &up.warnings, &source.file);
    for moved in &up.returned {
        tell_of_returned(moved, ui);
    }
    // Of a lab that is new, the steps are the whole lab; of a change they are what is worth knowing.
    let inside = up.steps.iter().map(ToString::to_string);
    let steps: Vec<String> = inside.chain(up.host.iter().map(ToString::to_string)).collect();
    let shown = match (words, up.existed) {
        (Words::Steps, _) => steps.len(),
        (Words::Changes, true) => steps.len().min(LISTED_STEPS),
        _ => 0,
    };
    for step in &steps[..shown] {
        ui.line(step)?;
    }
    if (1..steps.len()).contains(&shown) {
        ui.line(format_args!("… and {} more; --verbose lists all", steps.len() - shown))?;
    }
    if words != Words::None {
        let name = up.running.name();
        let took = Took(started.elapsed());
        match (up.existed, steps.len()) {
            (false, _) => {
                let lab = &source.lab;
                let switches = if lab.switches().is_empty() {
                    String::new()
                } else {
                    format!(", {}", count(lab.switches().len(), "switch", "switches"))
                };
                let (nodes, links) =
                    (count(lab.nodes().len(), "node", "nodes"), count(lab.links().len(), "link", "links"));
                ui.line(format_args!("{name} is up: {nodes}{switches}, {links}, in {took}"))?;
            }
            (true, 0) => ui.line(format_args!("{name} is up already; nothing to change"))?,
            (true, steps) => {
                ui.line(format_args!("{name} is changed: {}, in {took}", count(steps, "step", "steps")))?;
            }
        }
    }
    Ok(up)
}

/// A number and its noun.
pub(crate) fn count(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// A duration as people say it: `12 ms`, `1.3 s`.
pub(crate) struct Took(pub(crate) std::time::Duration);

impl std::fmt::Display for Took {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.as_millis() < 1000 {
            write!(f, "{} ms", self.0.as_millis())
        } else {
            write!(f, "{:.1} s", self.0.as_secs_f64())
        }
    }
}
