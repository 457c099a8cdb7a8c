//! `hop record`.

use std::path::PathBuf;

use hopyard::formats::recording::{Declared, DeclaredNode, Recorded, Recording};
use hopyard::runtime::why::{Elsewhere, Network, Place, record};
use hopyard::runtime::{Home, Running, keep_room_for_files};

use super::why::File;
use crate::commands::up::count;
use crate::error::CliError;
use crate::new_file;
use crate::target::{LabArg, lab_name};
use crate::ui::Ui;

/// Write a network down as it is now, in one file that `hop why --from` explains anywhere.
///
/// In it is all that decides where packets go: interfaces, addresses, routes, policy rules, neighbours, sysctls,
/// firewall rules and listening ports of every node. No content of packets, no process, no host name.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The file; `-` is standard output. Without this, NAME.snapshot.json in the current directory.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace the file if it is there already.
    #[arg(long)]
    force: bool,
    /// Namespaces instead of a lab, as for `hop why --ns`, with all that cables lead to from there.
    #[arg(long)]
    ns: bool,
    /// The lab, which need not be named where only one runs; with --ns, the namespaces.
    #[arg(value_name = "NAME")]
    names: Vec<String>,
}

pub(crate) fn run(args: &Args, ui: &mut Ui) -> Result<u8, CliError> {
    keep_room_for_files();
    let (name, recording) = if args.ns { of_namespaces(&args.names, ui)? } else { of_lab(&args.names)? };
    let text = recording.to_text().map_err(|error| CliError::failure(format!("cannot write it down: {error}")))?;
    let nodes = count(recording.snapshot.nodes.len(), "namespace", "namespaces");
    let path = match &args.output {
        Some(path) if path.as_os_str() == "-" => {
            ui.text(&text)?;
            return Ok(0);
        }
        Some(path) => path.clone(),
        None => PathBuf::from(format!("{name}.snapshot.json")),
    };
    new_file::write(&path, &text, args.force)?;
    ui.line(format_args!("{nodes} in {}", path.display()))?;
    Ok(0)
}

fn of_lab(names: &[String]) -> Result<(String, Recording), CliError> {
    let lab = match names {
        [] => None,
        [name] => Some(lab_name(name).map_err(CliError::usage)?),
        _ => {
            return Err(
                CliError::usage("one lab at a time").hint("`--ns` records namespaces, of which several may be named")
            );
        }
    };
    let running = LabArg { lab }.find(&Home::of_caller()?)?;
    let Network { snapshot, drift } = record(&running)?;
    let declared = Declared { drift, ..declared(&running)? };
    let recording = Recording { recorded: Some(recorded()), declared: Some(declared), snapshot };
    Ok((running.name().to_string(), recording))
}

fn declared(running: &Running) -> Result<Declared, CliError> {
    let hosts = &running.contents()?.hosts;
    let node =
        |addresses: &Vec<std::net::IpAddr>| DeclaredNode { addresses: addresses.clone(), ..DeclaredNode::default() };
    let mut declared = Declared {
        lab: running.name().to_string(),
        nodes: hosts.iter().map(|(name, addresses)| (name.clone(), node(addresses))).collect(),
        ..Declared::default()
    };
    if let Some(file) = File::of(running) {
        file.declare(&mut declared);
    }
    Ok(declared)
}

fn of_namespaces(names: &[String], ui: &mut Ui) -> Result<(String, Recording), CliError> {
    let places: Vec<Place> = names.iter().map(|name| name.parse()).collect::<Result<_, hopyard::runtime::Error>>()?;
    if places.is_empty() {
        return Err(CliError::usage("no namespace was named")
            .hint("`hop ns list` lists those that have names; `host` is the machine's own"));
    }
    let (elsewhere, names) = Elsewhere::around(&places)?;
    super::why::tell_of_closed(&elsewhere, ui);
    let recording = Recording { recorded: Some(recorded()), declared: None, snapshot: elsewhere.snapshot()? };
    Ok((names.first().map_or_else(String::new, ToString::to_string), recording))
}

fn recorded() -> Recorded {
    // Where /proc is not to be read, there is no lab either.
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    Recorded {
        by: format!("hop {}", env!("CARGO_PKG_VERSION")),
        kernel: format!("Linux {}", kernel.trim_end()),
        at: rfc3339(now),
    }
}

/// A time in seconds since 1970 as RFC 3339 has it, in UTC.
fn rfc3339(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let (mut year, mut days) = (1970, days);
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 1;
    for length in lengths {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z", days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_as_the_calendar_has_it() {
        // As `date -u -d @SECONDS +%FT%TZ` says.
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_868_799, "2000-02-29T23:59:59Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (1_795_571_527, "2026-11-25T01:52:07Z"),
        ] {
            assert_eq!(rfc3339(seconds), text);
        }
    }
}
