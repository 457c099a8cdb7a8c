//! `hop ns list`.

use std::time::{SystemTime, UNIX_EPOCH};

use hopyard::kernel::holders::{Hold, Holder};
use hopyard::runtime::ns::{self, Kind, Listed};
use serde::Serialize;

use super::holder_words;
use crate::commands::ls::age;
use crate::error::CliError;
use crate::ui::Ui;

/// List the names, and what lives behind them.
///
/// KIND is `mount` for a namespace as `ip netns add` makes it, `node` for a node of a lab, `link` for a link
/// to a namespace that something else holds, `dead` for a name that leads to no namespace, and `foreign` for
/// what is no name. `-` is what the caller may not see.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Say also what holds each namespace besides its name: processes, open files, sockets, other mounts.
    #[arg(long)]
    holders: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// `null` is what the caller may not know.
#[derive(Serialize)]
struct Row {
    name: String,
    /// The same on one line, whatever is in it.
    #[serde(skip)]
    shown: String,
    kind: &'static str,
    inode: Option<u64>,
    cookie: Option<u64>,
    /// The number by which this namespace knows it.
    id: Option<i32>,
    processes: Option<usize>,
    interfaces: Option<Vec<String>>,
    /// Seconds since it was made.
    age_s: u64,
    /// Of a node, the process that holds it.
    keeper: Option<i32>,
    /// Of a link, where it leads.
    to: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    holders: Option<Vec<HolderRow>>,
    /// The same in words.
    #[serde(skip)]
    held: Vec<String>,
}

#[derive(Default, Serialize)]
struct HolderRow {
    kind: &'static str,
    /// For a mount, a process that sees it; `null`: the caller does.
    pid: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<String>,
    /// Of a thread its id, of a file or a socket its descriptor.
    #[serde(skip_serializing_if = "Option::is_none")]
    number: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
}

pub(crate) fn run(args: &Args, ui: &mut Ui) -> Result<u8, CliError> {
    let rows: Vec<Row> = ns::list(args.holders)?.into_iter().map(|listed| row(listed, args.holders)).collect();
    if args.json {
        ui.json(&rows)?;
        return Ok(0);
    }
    if rows.is_empty() {
        ui.note("no namespace has a name; `hop ns add NAME` makes one");
        return Ok(0);
    }
    let width = rows.iter().map(|row| row.shown.chars().count()).max().unwrap_or(0).max(4);
    ui.line(format_args!("{:width$}  KIND     PROCESSES  AGE      INTERFACES", "NAME"))?;
    for row in rows {
        let interfaces = row.interfaces.map_or_else(|| "-".to_owned(), |devs| devs.join(" "));
        let age = age(row.age_s);
        let processes = row.processes.map_or_else(|| "-".to_owned(), |count| count.to_string());
        ui.line(format_args!("{:width$}  {:7}  {processes:>9}  {age:7}  {interfaces}", row.shown, row.kind))?;
        for held in row.held {
            ui.line(format_args!("  {held}"))?;
        }
    }
    Ok(0)
}

fn row(listed: Listed, with_holders: bool) -> Row {
    let (kind, keeper, to) = match listed.kind {
        Kind::Mount => ("mount", None, None),
        Kind::Node { keeper } => ("node", Some(keeper), None),
        Kind::Link { to } => ("link", None, Some(to.display().to_string())),
        Kind::Dead => ("dead", None, None),
        Kind::Foreign(_) => ("foreign", None, None),
    };
    let inside = listed.inside;
    Row {
        name: listed.name.as_os_str().to_string_lossy().into_owned(),
        shown: listed.name.to_string(),
        kind,
        inode: listed.inode,
        cookie: inside.as_ref().and_then(|inside| inside.cookie),
        id: inside.as_ref().and_then(|inside| inside.number),
        processes: listed.processes,
        interfaces: inside.map(|inside| inside.interfaces),
        age_s: seconds_since(listed.made),
        keeper,
        to,
        held: listed.holders.iter().map(holder_words).collect(),
        holders: with_holders.then(|| listed.holders.into_iter().map(holder).collect()),
    }
}

fn holder(holder: Holder) -> HolderRow {
    match holder {
        Holder::Process { pid, command, by } => {
            let (kind, number) = match by {
                Hold::Process => ("process", None),
                Hold::Thread(tid) => ("thread", Some(tid)),
                Hold::Descriptor(fd) => ("file", Some(fd)),
                Hold::Socket(fd) => ("socket", Some(fd)),
            };
            HolderRow { kind, pid: Some(pid), command: Some(command), number, path: None }
        }
        Holder::Mount { path, seen_by } => {
            HolderRow { kind: "mount", pid: seen_by, path: Some(path.display().to_string()), ..HolderRow::default() }
        }
    }
}

fn seconds_since(made: SystemTime) -> u64 {
    let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    seconds(SystemTime::now()).saturating_sub(seconds(made))
}
