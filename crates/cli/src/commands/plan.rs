//! `hop plan`.

mod effect;

use hopyard::runtime::{self, Home};

use super::up::count;
use crate::error::{CliError, report_problems};
use crate::source::TopologyArgs;
use crate::ui::Ui;

/// Print what `hop up` would do, step by step, without doing it.
///
/// Each step is the command that a person would type, with the namespaces named as the nodes are. Of a lab that
/// runs it is also said which pairs of nodes the change cuts and which it joins.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    topology: TopologyArgs,
    /// Print JSON: the list of steps.
    #[arg(long)]
    json: bool,
    /// With --json: an object with the steps, and with the pairs that the change cuts and joins.
    #[arg(long, requires = "json")]
    effect: bool,
}

/// The steps in the lab, and behind them those on the host, each as `{"host": LINE}`.
pub(super) fn all_steps(difference: &runtime::Difference) -> Vec<serde_json::Value> {
    let inside = difference.steps.iter().filter_map(|step| serde_json::to_value(step).ok());
    let host = difference.host.iter().map(|step| serde_json::json!({ "host": step }));
    inside.chain(host).collect()
}

pub(crate) fn run(args: &Args, ui: &mut Ui) -> Result<u8, CliError> {
    let source = args.topology.read(ui)?;
    let home = Home::of_caller()?;
    let difference = runtime::difference(&home, &source.lab).map_err(|error| CliError::of_lab(error, &source))?;
    report_problems(ui, &difference.warnings, &source.file);
    if let Err(error) = runtime::require_lendable(&home, &source.lab) {
        ui.warn(format_args!("`hop up` would refuse it: {error}"));
    }
    if args.json {
        let steps = all_steps(&difference);
        if args.effect {
            let effect = runtime::effect::effect(&home, &source.lab)?;
            ui.json(&effect::Object::new(&steps, &effect))?;
        } else {
            ui.json(&steps)?;
        }
        return Ok(0);
    }
    for step in &difference.steps {
        ui.line(step)?;
    }
    for step in &difference.host {
        ui.line(step)?;
    }
    let name = source.lab.name();
    let all = difference.steps.len() + difference.host.len();
    let steps = count(all, "step", "steps");
    ui.note(match (difference.running, all) {
        (true, 0) => format!("{name} is up as the topology says"),
        (true, _) => format!("{steps} from {name} as it runs to what the topology says"),
        (false, _) => format!("{steps} to bring {name} up"),
    });
    if difference.running && !difference.steps.is_empty() {
        effect::tell(ui, &runtime::effect::effect(&home, &source.lab)?);
    }
    Ok(0)
}
