//! The texts of units and drop-ins (systemd.unit(5), systemd.service(5), systemd.exec(5)).

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use hopyard_model::LabName;
use hopyard_net::IfName;

use super::files::checksum;
use super::manager::Scope;
use super::{BootError, Manager};
use crate::netns_dir::NETNS_DIR;
use crate::view;

/// What the names of labs' units begin with.
pub(super) const PREFIX: &str = "hopyard-";

/// The name of a lab's unit. Every character of a [`LabName`] is one that needs no escape there.
pub fn unit_name(lab: &LabName) -> String {
    format!("{PREFIX}{lab}.service")
}

/// A lab that is to come up by itself.
#[derive(Clone, Debug)]
pub struct LabUnit<'a> {
    /// The lab.
    pub lab: &'a LabName,
    /// The program `hop`.
    pub program: &'a Path,
    /// Whose systemd starts it.
    pub scope: Scope,
    /// Where the records of running labs are, if not in the usual place.
    pub records: Option<&'a Path>,
    /// Interfaces of the machine that it takes: before anybody else configures them.
    pub interfaces: &'a [IfName],
    /// Does a node have a way out by the host's network?
    pub uplink: bool,
}

/// A service that is to run in a node.
#[derive(Clone, Debug)]
pub struct DropIn<'a> {
    /// The lab.
    pub lab: &'a LabName,
    /// The node.
    pub node: &'a str,
    /// The directory of the lab's records.
    pub records: PathBuf,
    /// Is it no service, but a socket that starts one?
    pub socket: bool,
}

impl LabUnit<'_> {
    /// The unit, whose topology is in a file of that checksum.
    ///
    /// # Errors
    /// A path that cannot be written down.
    pub fn text(&self, topology: &Path, topology_sum: u64) -> Result<String, BootError> {
        let lab = self.lab;
        let program = quoted("the program hop", self.program)?;
        let copy = quoted("the topology", topology)?;
        let mut text = topology_line(topology_sum);
        add(&mut text, format_args!("\n[Unit]\nDescription=Network lab {lab} (Hopyard)"));
        add(&mut text, format_args!("RequiresMountsFor={program} {copy}"));
        if !self.interfaces.is_empty() {
            // Before anybody else configures them. Whoever is ordered before network-pre.target must not wait for
            // sysinit.target: on some systems that comes after the network. For the interfaces the unit's process
            // waits by itself: a unit of theirs would be waited for in vain when they are in the lab already.
            text.push_str(
                "DefaultDependencies=no\nConflicts=shutdown.target\nBefore=network-pre.target shutdown.target\n\
                 Wants=network-pre.target\nAfter=local-fs.target systemd-sysctl.service systemd-udev-trigger.service\n",
            );
        }
        if self.uplink && self.scope == Scope::System && self.interfaces.is_empty() {
            // The nodes ask the host's resolvers, which it has to know by then.
            text.push_str("Wants=network-online.target\nAfter=network-online.target\n");
        }
        text.push_str("\n[Service]\nType=notify\n");
        if let Some(records) = self.records {
            let setting = format!("HOPYARD_DIR={}", plain("HOPYARD_DIR", records)?);
            add(&mut text, format_args!("Environment={setting}"));
        }
        for (key, verb) in [("ExecStart", "run"), ("ExecReload", "reload"), ("ExecStop", "stop")] {
            add(&mut text, format_args!("{key}={program} boot {verb} {lab}"));
        }
        // The main process only waits. The keeper, in which the lab lives, must survive a restart; a stop ends it
        // by ExecStop.
        text.push_str("KillMode=process\nRestart=on-failure\nRestartSec=1\n\n[Install]\n");
        add(&mut text, format_args!("WantedBy={}", self.scope.target()));
        Ok(marked("enable", &text))
    }
}

impl DropIn<'_> {
    /// The file that leads to the node's network.
    pub(super) fn network(&self) -> String {
        format!("{NETNS_DIR}/{}.{}", self.lab, self.node)
    }
}

/// The drop-in that makes a service run in a node.
///
/// # Errors
/// A path that cannot be written down.
pub fn drop_in_text(drop_in: &DropIn<'_>) -> Result<String, BootError> {
    let DropIn { lab, records, .. } = drop_in;
    let unit = unit_name(lab);
    let records = plain("the directory of records", records)?;
    let mut text = format!("\n[Unit]\nBindsTo={unit}\nAfter={unit}\n");
    if drop_in.socket {
        // By itself a socket comes before what the lab's unit comes after.
        text.push_str("DefaultDependencies=no\nConflicts=shutdown.target\nBefore=shutdown.target\n\n[Socket]\n");
        add(&mut text, format_args!("NetworkNamespacePath={}", drop_in.network()));
        return Ok(marked("unit", &text));
    }
    text.push_str("\n[Service]\n");
    add(&mut text, format_args!("NetworkNamespacePath={}", drop_in.network()));
    for (file, target) in view::FOR_SERVICES {
        add(&mut text, format_args!("BindReadOnlyPaths={records}/{file}:{target}"));
    }
    // It would answer from the host's network.
    text.push_str("InaccessiblePaths=-/run/nscd\n");
    Ok(marked("unit", &text))
}

/// The first line: whose file it is, and by what its edits are seen.
const MARK: &str = "# Written by hop ";
const TOPOLOGY: &str = "# Topology ";

fn marked(command: &str, rest: &str) -> String {
    format!("{MARK}{command}, checksum {:016x}: once it is edited, hop leaves it alone.\n{rest}", checksum(rest))
}

/// Is it a text of ours that nobody has edited?
pub(super) fn is_unchanged(text: &str) -> bool {
    let Some((first, rest)) = text.split_once('\n') else { return false };
    first.starts_with(MARK) && number_behind(first, "checksum ") == Some(checksum(rest))
}

/// The checksum of the topology that a unit of ours was made for.
pub(super) fn topology_checksum(text: &str) -> Option<u64> {
    text.lines().take(2).find(|line| line.starts_with(TOPOLOGY)).and_then(|line| number_behind(line, TOPOLOGY))
}

/// A line by which [`topology_checksum`] knows it.
pub(super) fn topology_line(sum: u64) -> String {
    format!("{TOPOLOGY}{sum:016x}\n")
}

fn number_behind(line: &str, word: &str) -> Option<u64> {
    let (_, rest) = line.split_once(word)?;
    u64::from_str_radix(rest.get(..16)?, 16).ok()
}

fn add(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    writeln!(text, "{line}").ok();
}

/// A path as a word in quotes. `%` begins a specifier of systemd, `$` a variable in a command.
fn quoted(what: &'static str, path: &Path) -> Result<String, BootError> {
    let bad = || BootError::BadPath { what, path: path.to_owned() };
    let text = path.to_str().filter(|text| path.is_absolute() && !text.contains(char::is_control)).ok_or_else(bad)?;
    if is_plain(text) {
        return Ok(text.to_owned());
    }
    if text.contains('$') {
        // How it is read differs between the first word of a command and the others.
        return Err(bad());
    }
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '%' => quoted.push_str("%%"),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    Ok(quoted)
}

/// A path that needs no quotes anywhere.
fn plain<'p>(what: &'static str, path: &'p Path) -> Result<&'p str, BootError> {
    let bad = || BootError::BadPath { what, path: path.to_owned() };
    path.to_str().filter(|text| path.is_absolute() && is_plain(text)).ok_or_else(bad)
}

fn is_plain(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | '+' | '@' | '=' | ','))
}

impl Manager {
    /// The unit of a lab as it would be written, for who has no systemd, or wants to look first.
    ///
    /// # Errors
    /// A path that cannot be written down.
    pub fn text_of(&self, unit: &LabUnit<'_>, topology_text: &str) -> Result<String, BootError> {
        unit.text(&self.topology(unit.lab), checksum(topology_text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edit_is_seen() {
        let text = marked("enable", "# Topology 00000000000000ff\n[Unit]\n");
        assert!(is_unchanged(&text));
        assert_eq!(topology_checksum(&text), Some(255));
        for edited in [
            text.replace("[Unit]", "[Service]"),
            format!("{text}\n"),
            format!("\n{text}"),
            text.replace("hop enable", "hand"),
            String::new(),
        ] {
            assert!(!is_unchanged(&edited), "{edited}");
        }
    }

    #[test]
    fn hostile_paths_are_quoted_or_refused() {
        let quote = |path: &str| quoted("it", Path::new(path)).ok();
        assert_eq!(quote("/usr/bin/hop").as_deref(), Some("/usr/bin/hop"));
        assert_eq!(quote(r#"/a b/%n/"\x"#).as_deref(), Some(r#""/a b/%%n/\"\\x""#));
        for bad in ["relative", "/a\nExecStart=/bin/sh", "/$HOME/hop", "/a\u{7f}"] {
            assert_eq!(quote(bad), None, "{bad}");
        }
        assert!(plain("it", Path::new("/a:b")).is_err());
        assert!(plain("it", Path::new("/a b")).is_err());
    }
}
