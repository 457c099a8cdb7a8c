//! `hop down`.

use hopyard::model::LabName;
use hopyard::runtime::boot::{self, Manager};
use hopyard::runtime::{self, Home};

use crate::error::CliError;
use crate::target::{refuse_inside, the_only_lab};
use crate::ui::Ui;

/// Take labs down: their processes end, nothing of them is left.
///
/// It is no error that a lab is down already.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The labs; not needed where only one runs.
    #[arg(value_name = "LAB", conflicts_with = "all")]
    labs: Vec<LabName>,
    /// All of them, also what is left of crashed ones.
    #[arg(long)]
    all: bool,
    /// Return only when the kernel has freed everything.
    #[arg(long)]
    wait: bool,
}

pub(crate) fn run(args: &Args, ui: &mut Ui) -> Result<u8, CliError> {
    refuse_inside()?;
    let home = Home::of_caller()?;
    let labs = if args.all {
        home.lab_names()?
    } else if args.labs.is_empty() {
        if home.lab_names()?.is_empty() {
            ui.note("no lab is running");
            return Ok(0);
        }
        vec![the_only_lab(&home)?.name().clone()]
    } else {
        args.labs.clone()
    };
    let manager = Manager::of_caller();
    let labs: std::collections::BTreeSet<LabName> = labs.into_iter().collect();
    let mut failed = None;
    let mut pending = Vec::new();
    for lab in labs {
        // One that does not go must not keep the others.
        match runtime::down(&home, &lab, args.wait) {
            Ok(down) => {
                let word = if down.was_running { "is down" } else { "was not running" };
                ui.line(format_args!("{lab} {word}"))?;
                if down.was_running && boot::is_enabled(&manager, &lab) {
                    ui.hint(format_args!("it is enabled, and comes up again; `hop disable {lab}` ends that"));
                }
                pending.extend(down.pending);
            }
            Err(error) => {
                if let Some(earlier) = failed.replace(CliError::from(error)) {
                    earlier.report(ui);
                }
            }
        }
    }
    for pending in pending {
        pending.wait().map_err(|error| CliError::failure(error.to_string()))?;
    }
    // What a killed hop may have left beside its lab.
    home.tidy();
    failed.map_or(Ok(0), Err)
}
