//! `hop why --from FILE`: a network that is not here.

use std::net::IpAddr;
use std::path::Path;

use hopyard::explain::{Query, owner_for};
use hopyard::formats::SourceFile;
use hopyard::formats::recording::{Declared, DeclaredNode, Recorded, Recording};
use hopyard::model::nearest;
use hopyard::net::{Family, NsName, Snapshot};
use hopyard::runtime::why::{Report, computed, main_addresses};

use super::file::File;
use super::scene::Scene;
use super::{Args, Target};
use crate::error::CliError;
use crate::source::read_file;

/// Reads the file.
pub(in crate::commands) fn read(path: &Path) -> Result<Recording, CliError> {
    // As everywhere: standard input.
    let path = if path.as_os_str() == "-" { Path::new("/dev/stdin") } else { path };
    let source = read_file(path, "`hop record` writes one")?;
    let source = SourceFile::new(source.name(), tame(source.text()));
    let read = Recording::read(&source);
    read.map_err(|problem| CliError::Topology { problems: vec![problem], source: Box::new(source) })
}

/// Where an answer from a recording comes from.
pub(in crate::commands) fn remark(recorded: Option<&Recorded>) -> String {
    match recorded {
        Some(it) => {
            format!("Computed from a recording of {} ({}); nobody was asked, and nothing sent.", it.at, it.kernel)
        }
        None => "Computed from a recording; nobody was asked, and nothing sent.".to_owned(),
    }
}

/// Reads the file and looks into it.
pub(super) fn look(args: &Args, path: &Path) -> Result<(Report, Scene), CliError> {
    let Recording { recorded, declared, snapshot } = read(path)?;
    let from = node(&snapshot, declared.as_ref(), &args.source)?;
    let target = Target::parse(&args.to, false)?;
    let (dst, wanted) = if let Ok(address) = target.host.parse::<IpAddr>() {
        (address, owner_of(&snapshot, declared.as_ref(), &from, address))
    } else {
        let node = node(&snapshot, declared.as_ref(), &target.host)?;
        (args.address_of(&target.host, &addresses(&snapshot, declared.as_ref(), &node))?, Some(node))
    };
    let query = Query { from, packet: args.packet(&target, dst)?, wanted };
    let drift = declared.as_ref().map_or(&[][..], |declared| &declared.drift);
    let scene = Scene {
        file: declared.as_ref().and_then(File::of_recording),
        remark: Some(remark(recorded.as_ref())),
        ..Scene::default()
    };
    Ok((computed(snapshot, query, drift), scene))
}

/// The same JSON without characters that command a terminal: somebody else may have written the file.
fn tame(text: &str) -> String {
    let commands = |c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t');
    let mut tamed = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        // An escape in a text is one of two or of six characters.
        let escape = (c == '\\').then(|| rest.get(..if rest[1..].starts_with('u') { 6 } else { 2 })).flatten();
        if let Some(escape) = escape {
            let code = escape.strip_prefix("\\u").and_then(|digits| u32::from_str_radix(digits, 16).ok());
            let control = code.and_then(char::from_u32).is_some_and(char::is_control);
            tamed.push_str(match escape {
                _ if control => "\\ufffd",
                "\\b" | "\\f" | "\\n" | "\\r" | "\\t" => "  ",
                other => other,
            });
            rest = &rest[escape.len()..];
        } else {
            tamed.push(if commands(c) { char::REPLACEMENT_CHARACTER } else { c });
            rest = &rest[c.len_utf8()..];
        }
    }
    tamed
}

pub(in crate::commands) fn node(
    snapshot: &Snapshot,
    declared: Option<&Declared>,
    text: &str,
) -> Result<NsName, CliError> {
    let found = snapshot.nodes.keys().find(|name| name.as_str() == text);
    let is_node = |name: &&NsName| declared.is_none_or(|declared| declared.nodes.contains_key(*name));
    match found {
        Some(name) if is_node(&name) => Ok(name.clone()),
        Some(name) => Err(CliError::usage(format!("`{name}` is a switch: it has no address, and nothing runs in it"))),
        None => {
            let names: Vec<&str> = snapshot.nodes.keys().filter(is_node).map(NsName::as_str).collect();
            if names.is_empty() {
                return Err(CliError::usage(format!("the recording has no node `{text}`: it has none at all")));
            }
            let hint = match nearest(text, names.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None if names.len() <= 20 => format!("it has {}", names.join(", ")),
                None => format!("it has {} others", names.len()),
            };
            Err(CliError::usage(format!("the recording has no node `{text}`")).hint(hint))
        }
    }
}

/// As declared, the main one of each family first; else as the node has them.
pub(in crate::commands) fn addresses(snapshot: &Snapshot, declared: Option<&Declared>, node: &NsName) -> Vec<IpAddr> {
    match declared.and_then(|declared| declared.nodes.get(node)) {
        Some(node) => {
            let first = |family| node.addresses.iter().copied().find(|addr| Family::of(*addr) == family);
            Family::BOTH.into_iter().filter_map(first).collect()
        }
        None => main_addresses(snapshot, node),
    }
}

/// The node that a node means by an address: itself, or the one that the address was given to, or else has it.
fn owner_of(snapshot: &Snapshot, declared: Option<&Declared>, from: &NsName, address: IpAddr) -> Option<NsName> {
    let Some(declared) = declared.filter(|_| !address.is_loopback()) else {
        return owner_for(snapshot, from, address);
    };
    let has = |(_, node): &(&NsName, &DeclaredNode)| node.addresses.contains(&address);
    let own = declared.nodes.get_key_value(from).filter(has);
    own.or_else(|| declared.nodes.iter().find(has)).map(|(name, _)| name.clone())
}

#[cfg(test)]
mod tests {
    use super::tame;

    #[test]
    fn nothing_in_a_file_commands_the_terminal() {
        for (text, tamed) in [
            ("{\n  \"a\": \"\u{e9}\"\n}", "{\n  \"a\": \"\u{e9}\"\n}"),
            (r#""\u001b[2J""#, r#""\ufffd[2J""#),
            (r#""\\u001b""#, r#""\\u001b""#),
            (r#""a\nb\"\u00e9""#, r#""a  b\"\u00e9""#),
            ("\"\u{9b}2J\u{7f}\"", "\"\u{fffd}2J\u{fffd}\""),
            (r"\", r"\"),
            (r"\u1", r"\u1"),
            ("\\\u{e9}", "\\\u{e9}"),
        ] {
            assert_eq!(tame(text), tamed, "{text:?}");
        }
    }
}
