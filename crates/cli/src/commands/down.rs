//! `hop down`.

use hopyard::model::LabName;
use hopyard::runtime::boot::{self, Manager};
use hopyard::runtime::{self, Home, Running};

use super::ns::tell_of_returned;
use crate::error::CliError;
use crate::target::{choose, lab_name, refuse_inside};
use crate::ui::Ui;

/// Take labs down: their processes end, nothing of them is left.
///
/// It is no error that a lab is down already, or never was up; where one of almost that name runs, it is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The labs; not needed where only one runs, or none, and one has crashed.
    #[arg(value_name = "LAB", conflicts_with = "all", value_parser = lab_name)]
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
        vec![the_one(&home)?]
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
                let word = match (down.was_running, down.had_remains) {
                    (true, _) => "is down",
                    (false, true) => "was not running; its remains are cleared",
                    (false, false) => "was not running",
                };
                for moved in &down.returned {
                    tell_of_returned(moved, ui);
                }
                ui.line(format_args!("{lab} {word}"))?;
                if !down.was_running
                    && !down.had_remains
                    && let Some(near) = near_to(&lab, &home)?
                {
                    ui.hint(format_args!("`{near}` is running; did you mean that?"));
                }
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

/// A lab that runs and whose name is much like this one's. Nothing tells a lab that is down already from one that never
/// was, so a slip of the finger is no error either.
fn near_to(lab: &LabName, home: &Home) -> Result<Option<LabName>, CliError> {
    let (running, _unreadable) = Running::all(home)?;
    let names = running.iter().map(|lab| lab.name().as_str());
    let near = hopyard::model::nearest(lab.as_str(), names);
    Ok(running.iter().map(Running::name).find(|name| Some(name.as_str()) == near).cloned())
}

/// The lab that runs, if it is one; where none does, the one of which there are remains.
fn the_one(home: &Home) -> Result<LabName, CliError> {
    let of_command = std::env::var_os("HOP_LAB").is_some_and(|name| !name.is_empty());
    if !of_command && Running::all(home)?.0.is_empty() {
        let mut remains = Running::remains(home)?;
        if remains.len() > 1 {
            let names: Vec<&str> = remains.iter().map(LabName::as_str).collect();
            return Err(CliError::usage(format!("no lab is running; there are remains of {}", names.join(", ")))
                .hint("name those to clear, or give `--all`"));
        }
        if let Some(name) = remains.pop() {
            return Ok(name);
        }
    }
    Ok(choose(home, "`hop down LAB`, or all: `--all`")?.name().clone())
}
