//! `hop ls`.

use hopyard::runtime::boot::{self, Manager};
use hopyard::runtime::{Home, Running};
use serde::Serialize;

use crate::error::CliError;
use crate::ui::Ui;

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
}

pub(crate) fn run(args: &Args, ui: &mut Ui) -> Result<u8, CliError> {
    let home = Home::of_caller()?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |t| t.as_secs());
    let manager = Manager::of_caller();
    let row = |lab: &Running| {
        let record = lab.record();
        Row {
            lab: lab.name().to_string(),
            nodes: record.nodes,
            links: record.links,
            age_s: now.saturating_sub(record.created),
            keeper: lab.keeper().pid(),
            source: record.source.clone(),
            ephemeral: record.ephemeral,
            enabled: boot::is_enabled(&manager, lab.name()),
        }
    };
    let (labs, unreadable) = Running::all(&home)?;
    for error in unreadable {
        CliError::from(error).report(ui);
    }
    let rows: Vec<Row> = labs.iter().map(row).collect();
    if args.json {
        let text = serde_json::to_string_pretty(&rows).map_err(|error| CliError::failure(error.to_string()))?;
        ui.line(text)?;
        return Ok(0);
    }
    if rows.is_empty() {
        ui.note("no lab is running; `hop up TOPOLOGY` brings one up, `hop up chain:3` for a try");
        return Ok(0);
    }
    let width = rows.iter().map(|row| row.lab.len()).max().unwrap_or(0).max(3);
    ui.line(format_args!("{:width$}  NODES  LINKS  AGE      FROM", "LAB"))?;
    for row in rows {
        let from = match (row.ephemeral, row.enabled) {
            (true, _) => format!("{} (until its command ends)", row.source),
            (_, true) => format!("{} (enabled)", row.source),
            _ => row.source,
        };
        ui.line(format_args!("{:width$}  {:5}  {:5}  {:7}  {from}", row.lab, row.nodes, row.links, age(row.age_s)))?;
    }
    Ok(0)
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
