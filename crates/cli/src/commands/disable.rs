//! `hop disable`.

use hopyard::model::LabName;
use hopyard::runtime::boot::{self, Manager};
use hopyard::runtime::{Home, Running};

use crate::error::CliError;
use crate::target::refuse_inside;
use crate::ui::Ui;

/// Do not bring a lab up any more when the machine starts.
///
/// Removes what `hop enable` has written. The running lab stays; `--now` takes it down.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The labs.
    #[arg(value_name = "LAB", required = true)]
    labs: Vec<LabName>,
    /// Take them down now as well.
    #[arg(long)]
    now: bool,
    /// Remove files that somebody has edited, too.
    #[arg(long)]
    force: bool,
}

pub(crate) fn run(args: &Args, ui: &mut Ui) -> Result<u8, CliError> {
    refuse_inside()?;
    let (manager, home) = (Manager::of_caller(), Home::of_caller()?);
    for lab in &args.labs {
        let disabled = boot::disable(&manager, lab, args.now, args.force)?;
        let word = match (disabled.was_enabled, args.now) {
            (false, _) => "was not enabled",
            (true, false) => "does not come up by itself any more",
            (true, true) => "is down, and does not come up by itself any more",
        };
        ui.line(format_args!("{lab} {word}"))?;
        if (!args.now || !disabled.was_enabled) && Running::find(&home, lab).is_ok() {
            ui.hint(format_args!("it runs on; `hop down {lab}` takes it down"));
        }
        if let Some(path) = disabled.kept {
            ui.note(format_args!("warning: {} was edited, and stays", path.display()));
        }
        for service in disabled.services {
            ui.note(format_args!("warning: {service} is still bound to it, and does not start without it"));
            ui.hint(format_args!("`hop unit --remove {service}` lets it run where it did before"));
        }
    }
    Ok(0)
}
