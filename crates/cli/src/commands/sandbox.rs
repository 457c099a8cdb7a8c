//! `hop sandbox`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use hopyard::model::LabName;
use hopyard::net::{Allow, Deny, Hosts, Transport};
use hopyard::runtime::ns::{EntryName, NsError};
use hopyard::runtime::remedy::sandbox_remedy;
use hopyard::runtime::sandbox::{self, Attempt, Heard, Outside, Publish, Record, RunError, Tries, Wanted};
use hopyard::runtime::{self, Home, Running};

use super::exec::{cannot_start, current_dir};
use crate::error::CliError;
use crate::ui::Ui;

/// Run a command that reaches nothing but what is allowed.
///
/// It has a network of its own. Without --allow that is a loopback and nothing else: no host, no resolver, no
/// service of this machine, neither by an abstract socket nor by one in /run. No root is needed. The command
/// runs as you, without any capability; it sees your files, and may write to them.
///
/// The working directory, the terminal, signals and the exit status pass through. Everything ends with
/// the command, and with this process.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The network outside: none, a node as LAB/NODE, or a NAME in /run/netns; this one, if not given.
    #[arg(long, value_name = "NET")]
    net: Option<String>,
    /// What may be reached: HOST:PORT, HOST, ADDRESS, NETWORK/LENGTH or any, each with :PORT, /tcp, /udp, /icmp.
    ///
    /// Without a port all ports are open, and ping passes; /icmp opens that alone. `*.example.org` is each name below
    /// that one. A name is looked up outside when the command asks for it, and its addresses are open then, for
    /// that port. Of an IPv6 address with a port the address stands in brackets: `[2001:db8::1]:443`.
    #[arg(short, long, value_name = "WHAT")]
    allow: Vec<Allow>,
    /// What may not be reached, whatever is allowed: ADDRESS, NETWORK/LENGTH or any, each with :PORT, /tcp, /udp, /icmp.
    ///
    /// Also where an allowed name leads there.
    #[arg(long, value_name = "WHAT")]
    deny: Vec<Deny>,
    /// A port of the command that outside may reach: PORT, OUTER:INNER, ADDRESS:OUTER:INNER; UDP with /udp.
    ///
    /// Without an address, only on the loopback outside. Without /udp it is one of TCP.
    #[arg(short, long, value_name = "PORT")]
    publish: Vec<Publish>,
    /// List at the end what it tried to reach, and the options that would let it.
    #[arg(short, long)]
    record: bool,
    /// Run in this directory instead of the current one.
    #[arg(short = 'C', long, value_name = "DIR")]
    cwd: Option<PathBuf>,
    /// The command and its arguments.
    #[arg(value_name = "CMD", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

pub(crate) fn run(args: &Args, ui: &mut Ui) -> Result<u8, CliError> {
    let (program, arguments) = args.command.split_first().ok_or_else(|| CliError::usage("no command was given"))?;
    let cwd = match &args.cwd {
        Some(dir) => std::path::absolute(dir).map_err(|error| CliError::failure(error.to_string()))?,
        None => current_dir()?,
    };
    let wanted = Wanted {
        allow: args.allow.clone(),
        deny: args.deny.clone(),
        publish: args.publish.clone(),
        outside: outside(args)?,
        records: args.record,
        cwd,
    };
    let mut command = Command::new(program);
    command.args(arguments);
    ui.finish()?;
    let outcome = sandbox::run(&wanted, command).map_err(|error| match error {
        RunError::Command(error) => cannot_start(program, &error),
        RunError::Runtime(error @ runtime::Error::Ns(_)) => error_of_name(error),
        other => error_of(other),
    })?;
    if let Some(record) = &outcome.record {
        report(record, args, ui);
    }
    if outcome.may_not_ping {
        ui.warn(format_args!("no ping was passed on: the network outside lets you send none"));
        ui.hint("as root: sysctl net.ipv4.ping_group_range='0 2147483647', as most systems have it");
    }
    Ok(outcome.status)
}

fn outside(args: &Args) -> Result<Outside, CliError> {
    let Some(net) = &args.net else { return Ok(Outside::Here) };
    if net == "none" {
        if let Some(allow) = args.allow.first() {
            return Err(CliError::usage(format!("`--net none` has nothing outside, so `{allow}` cannot be allowed"))
                .hint("without `--net` the network outside is this one"));
        }
        if !args.publish.is_empty() {
            return Err(CliError::usage("`--net none` has nothing outside to publish a port to")
                .hint("without `--net` the network outside is this one"));
        }
        return Ok(Outside::Here);
    }
    let Some((lab, node)) = net.split_once('/') else {
        let name = EntryName::new(net).map_err(error_of_name)?;
        return Ok(Outside::Named(name));
    };
    let lab: LabName = lab.parse().map_err(|error| CliError::usage(format!("{error}")))?;
    let lab = Running::find(&Home::of_caller()?, &lab)?;
    let node = lab.node(node)?.as_str().to_owned();
    Ok(Outside::Node { lab: Box::new(lab), node })
}

/// Who gives one word may have meant a node.
fn error_of_name(error: runtime::Error) -> CliError {
    const NODE: &str = "a node of a lab is written LAB/NODE (`hop ls` lists the labs)";
    let text = error.to_string();
    match error {
        runtime::Error::Ns(NsError::NoRights { .. }) => {
            CliError::failure(text).hint(format!("{NODE}; a NAME alone is one of /run/netns, and those are root's"))
        }
        runtime::Error::Ns(NsError::NotFound { .. }) => {
            CliError::usage(text).hint(format!("{NODE}; `hop ns list` lists the namespaces that have a name"))
        }
        runtime::Error::Ns(NsError::BadName { .. }) => CliError::usage(text).hint(NODE),
        other => other.into(),
    }
}

fn error_of(error: RunError) -> CliError {
    if let Some(fix) = sandbox_remedy(&error) {
        return CliError::failure(error.to_string()).hint(fix);
    }
    match error {
        RunError::Runtime(error) => error.into(),
        RunError::Publish { ref source, addr, transport } => {
            let protocol = if transport == Transport::Tcp { "" } else { "/udp" };
            let hint = match source.kind() {
                std::io::ErrorKind::AddrInUse => format!(
                    "something listens there already; `--publish OTHER:PORT{protocol}` takes another port, OTHER"
                ),
                std::io::ErrorKind::PermissionDenied => format!(
                    "ports below 1024 are root's (net.ipv4.ip_unprivileged_port_start); `--publish {}:PORT{protocol}` \
                     takes one that is not",
                    8000 + u32::from(addr.port())
                ),
                std::io::ErrorKind::AddrNotAvailable => "the address outside has to be one of this host or node".into(),
                _ => return CliError::failure(error.to_string()),
            };
            CliError::failure(error.to_string()).hint(hint)
        }
        RunError::Stream(_) => CliError::failure(error.to_string()).hint(
            "a file or a pipe passes: `hop sandbox … < /dev/null`, or `cat | hop sandbox … | cat` for a connection",
        ),
        other => CliError::failure(other.to_string()),
    }
}

/// Beside what the command has printed.
fn report(record: &Record, args: &Args, ui: &mut Ui) {
    if record.tries.is_empty() {
        ui.note("it tried to reach nothing");
        return;
    }
    ui.note("it tried to reach:");
    // That a name was looked up goes without saying where it was used.
    let is_used = |name: &str| {
        let is_it = |attempt: &Attempt| {
            matches!(attempt, Attempt::Reach { host: Hosts::Name(used), .. } | Attempt::Echo(Hosts::Name(used))
                if used == name)
        };
        record.tries.keys().any(is_it)
    };
    let shown = record.tries.iter().filter(|(attempt, _)| !matches!(attempt, Attempt::LookUp(name) if is_used(name)));
    let rows: Vec<(String, String)> = shown.map(|(attempt, tries)| row(attempt, tries)).collect();
    let width = rows.iter().map(|(what, _)| what.chars().count()).max().unwrap_or(0);
    for (what, how) in rows {
        ui.note(format_args!("  {what:width$}  {how}"));
    }
    let mut needed = record.needed();
    // What the caller has closed, he is not told to open.
    needed.retain(|allow| !args.deny.iter().any(|deny| deny.covers(allow)));
    let is_new = |allow: &Allow| !args.allow.contains(allow);
    if record.tries.values().all(|tries| tries.blocked == 0) && !needed.iter().any(is_new) {
        return;
    }
    if needed.is_empty() {
        return;
    }
    let mut words = vec!["hop".to_owned(), "sandbox".to_owned()];
    if let Some(net) = &args.net {
        words.extend(["--net".to_owned(), net.clone()]);
    }
    words.extend(needed.iter().flat_map(|allow| ["--allow".to_owned(), allow.to_string()]));
    words.extend(args.deny.iter().flat_map(|deny| ["--deny".to_owned(), deny.to_string()]));
    for publish in &args.publish {
        words.extend(["--publish".to_owned(), publish.to_string()]);
    }
    if let Some(dir) = &args.cwd {
        words.extend(["--cwd".to_owned(), dir.display().to_string()]);
    }
    words.push("--".to_owned());
    words.extend(args.command.iter().map(|word| word.to_string_lossy().into_owned()));
    let line: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    ui.note(format_args!("to allow just that:\n  {}", line.join(" ")));
}

fn row(attempt: &Attempt, tries: &Tries) -> (String, String) {
    match attempt {
        Attempt::Reach { host, port, transport } => {
            let host = host.to_string();
            let host = if host.contains(':') { format!("[{host}]") } else { host };
            (format!("{host}:{port}/{transport}"), outcomes(tries, true))
        }
        Attempt::Echo(host) => (format!("{host}/icmp"), outcomes(tries, true)),
        // Each family of addresses is a question of its own: how many there were says nothing.
        Attempt::LookUp(name) => (name.clone(), format!("looked up: {}", outcomes(tries, false))),
        Attempt::Other { to, protocol } => {
            let how = outcomes(tries, true);
            (
                format!("{to} IP protocol {protocol}"),
                format!("{how}; a sandbox passes TCP, UDP and ping on, nothing else"),
            )
        }
    }
}

/// What came of it: by the sandbox, which blocks, or outside.
fn outcomes(tries: &Tries, counted: bool) -> String {
    let heard = tries.outcomes.iter().map(|(heard, count)| {
        let words = match heard {
            Heard::Connected => "connected",
            Heard::Answered => "answered",
            Heard::Refused => "refused outside",
            Heard::Unreachable => "unreachable outside",
            Heard::Forbidden => "not permitted outside",
            Heard::Found => "found",
            Heard::NoSuchName => "no such name",
            Heard::LookUpFailed => "the resolver outside has failed",
        };
        (words, *count)
    });
    let others = [("no answer outside", tries.unanswered()), ("blocked", tries.blocked)];
    let all: Vec<String> = heard
        .chain(others)
        .filter(|(_, count)| *count > 0)
        .map(|(words, count)| if counted && count > 1 { format!("{words} {count} times") } else { words.to_owned() })
        .collect();
    all.join(", ")
}

/// A word as a shell reads it again.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@%".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_the_shell() {
        assert_eq!(quoted("10.0.0.0/8:443"), "10.0.0.0/8:443");
        assert_eq!(quoted("[fd00::1]:80"), "'[fd00::1]:80'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }
}
