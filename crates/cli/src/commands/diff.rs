//! `hop diff`.

use hopyard::model::LabName;
use hopyard::runtime::{self, Home, Running};

use super::plan::all_steps;
use super::up::count;
use crate::error::CliError;
use crate::target::{LabArg, choose, lab_name};
use crate::ui::Ui;

/// Show what differs between a running lab and what was declared: what was changed by hand, and
/// what the lab itself lost.
///
/// Each line is a step that `hop up` would take to undo it. The exit status is 1 if there is any.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    lab: LabArg,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// The lab, which need not be named where only one runs.
    #[arg(value_name = "LAB", conflicts_with = "lab", value_parser = lab_name)]
    name: Option<LabName>,
}

pub(crate) fn run(args: &Args, ui: &mut Ui) -> Result<u8, CliError> {
    let home = Home::of_caller()?;
    let running = match args.name.as_ref().or(args.lab.lab.as_ref()) {
        Some(name) => Running::find(&home, name)?,
        None => choose(&home, "`hop diff LAB`")?,
    };
    let difference = runtime::difference(&home, &running.contents()?.lab)?;
    // What the host does to it; the rest concerns the file, and `hop check` and `hop up` have said it.
    for warning in difference.warnings.iter().filter(|it| it.code.0 == "uplink-firewall") {
        ui.note(format_args!("warning: {}", warning.message));
        if let Some(help) = &warning.help {
            ui.note(format_args!("  help: {help}"));
        }
    }
    let all = difference.steps.len() + difference.host.len();
    if args.json {
        ui.json(&all_steps(&difference))?;
    } else {
        for step in &difference.steps {
            ui.line(step)?;
        }
        for step in &difference.host {
            ui.line(step)?;
        }
        match all {
            0 => ui.note(format_args!("{} is as declared", running.name())),
            n => ui.note(format_args!(
                "{} from {} as it is to what was declared",
                count(n, "step", "steps"),
                running.name()
            )),
        }
    }
    Ok(u8::from(all > 0))
}
