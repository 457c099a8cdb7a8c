//! `hop ls`.

use hopyard::model::LabName;
use hopyard::runtime::attach::{self, Attachment};
use hopyard::runtime::boot::{self, Manager};
use hopyard::runtime::{Home, Running};
use serde::Serialize;

use crate::error::{CliError, remains_hint};
use crate::target::{refuse_inside, remains};
use crate::ui::{self, Ui};

/// List the labs that run.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Row {
    lab: String,
    nodes: usize,
    links: usize,
    /// Seconds since it was brought up.
    age_s: u64,
    keeper: i32,
    source: String,
    /// Does it end with the command that started it?
    ephemeral: bool,
    /// Does it come up by itself?
    enabled: bool,
    /// Nodes that are containers.
    attached: Vec<Attached>,
}

#[derive(Serialize)]
struct Attached {
    node: String,
    what: String,
    running: bool,
}

impl Attached {
    fn of(it: &Attachment) -> Result<Self, CliError> {
        Ok(Attached { node: it.node.to_string(), what: it.label.clone(), running: it.is_running()? })
    }

    fn line(&self, lab: &str) -> String {
        let Attached { node, what, running } = self;
        if *running {
            format!("{lab}/{node} is {what}")
        } else {
            format!("{lab}/{node} was {what}, which has ended; `hop up` or `hop detach` makes it a node again")
        }
    }
}

pub(crate) fn run(args: &Args, ui: &mut Ui) -> Result<u8, CliError> {
    let home = Home::of_caller()?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |t| t.as_secs());
    let manager = Manager::of_caller();
    let row = |lab: &Running, attached: &[Attachment]| -> Result<Row, CliError> {
        let record = lab.record();
        Ok(Row {
            lab: lab.name().to_string(),
            nodes: record.nodes,
            links: record.links,
            age_s: now.saturating_sub(record.created),
            keeper: lab.keeper().pid(),
            source: record.source.clone(),
            ephemeral: record.ephemeral,
            enabled: boot::is_enabled(&manager, lab.name()),
            attached: attached.iter().map(Attached::of).collect::<Result<_, _>>()?,
        })
    };
    let (labs, unreadable) = Running::all(&home)?;
    for error in unreadable {
        CliError::from(error).report(ui);
    }
    if labs.is_empty() {
        // From inside of a node no keeper outside is seen, so each lab would look as if it had ended.
        refuse_inside()?;
    }
    for name in remains(&home)? {
        ui.warn(format_args!("{name} does not run any more: its keeper has ended"));
        ui.hint(remains_hint(&name));
    }
    let mut rows: Vec<Row> = Vec::with_capacity(labs.len());
    for lab in &labs {
        // A record that cannot be read hides neither its lab nor the others.
        let attached = attach::attachments(&home, lab.name()).unwrap_or_else(|error| {
            CliError::from(error).report(ui);
            Vec::new()
        });
        rows.push(row(lab, &attached)?);
    }
    if args.json {
        ui.json(&rows)?;
        return Ok(0);
    }
    let attached: Vec<String> = rows.iter().flat_map(|row| row.attached.iter().map(|it| it.line(&row.lab))).collect();
    if rows.is_empty() {
        ui.note("no lab is running; `hop up TOPOLOGY` brings one up, `hop up chain:3` for a try");
        return Ok(0);
    }
    let width = rows.iter().map(|row| row.lab.len()).max().unwrap_or(0).max(3);
    ui.line(format_args!("{:width$}  NODES  LINKS  AGE      FROM", "LAB"))?;
    for row in rows {
        let source = ui::on_one_line(&row.source);
        let from = match (row.ephemeral, row.enabled) {
            (true, _) => format!("{source} (until its command ends)"),
            (_, true) => format!("{source} (enabled)"),
            _ => source,
        };
        ui.line(format_args!("{:width$}  {:5}  {:5}  {:7}  {from}", row.lab, row.nodes, row.links, age(row.age_s)))?;
    }
    attached.iter().try_for_each(|line| ui.line(line))?;
    Ok(0)
}

/// Which nodes of a lab are containers; a line each.
pub(crate) fn note_attached(home: &Home, lab: &LabName) -> Result<Vec<String>, CliError> {
    attach::attachments(home, lab)?.iter().map(|it| Ok(Attached::of(it)?.line(lab.as_str()))).collect()
}

/// The two largest units, as people say it.
pub(crate) fn age(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, m) => format!("{m}m{}s", seconds % 60),
        (0, h, m) => format!("{h}h{}m", m % 60),
        (d, h, _) => format!("{d}d{}h", h % 24),
    }
}
