//! Every case of `corpus/`: a network that was recorded from a kernel, and what comes of a packet in it.
//!
//! How a case is made, `crates/cli/tests/corpus.rs` says. `UPDATE=1 cargo test -p hopyard-explain --test corpus`
//! rewrites the expected files; the difference is then to be read.
#![expect(clippy::disallowed_methods, reason = "the tests of a pure crate bring the files")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test without its files has failed")]

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use hopyard_explain::{Choices, End, Outcome, Packet, Protocol, Query, Repair, Verdict, Walk, explain, repair};
use hopyard_formats::SourceFile;
use hopyard_formats::recording::{Recording, VERSION};
use hopyard_net::{Op, RouteKey, Snapshot};
use proptest::prelude::*;

/// The directories of the cases, in order.
fn cases() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let entries = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
    let mut cases: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
    cases.sort();
    assert!(cases.len() > 30, "the corpus is not all there: {}", cases.len());
    cases
}

fn recording(case: &Path) -> Recording {
    let path = case.join("snapshot.json");
    let source = SourceFile::new(path.display().to_string(), std::fs::read_to_string(&path).unwrap());
    Recording::read(&source).unwrap_or_else(|problem| panic!("{}", hopyard_formats::render(&problem, &source)))
}

/// The line `why: SRC DST[:PORT] [BYTES]` of a case.
fn question(case: &Path, recording: &Recording) -> Query {
    let text = std::fs::read_to_string(case.join("case.txt")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("why: ")).unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    let (addr, port) = match words[1].parse::<IpAddr>() {
        Ok(addr) => (addr, None),
        Err(_) => words[1].rsplit_once(':').map(|(addr, port)| (addr.parse().unwrap(), port.parse().ok())).unwrap(),
    };
    let protocol = if port.is_some() { Protocol::Tcp } else { Protocol::Icmp };
    let mut packet = Packet::probe(addr, protocol, port.unwrap_or_default());
    if let Some(bytes) = words.get(2) {
        packet.length = bytes.parse().unwrap();
    }
    let wanted = match &recording.declared {
        Some(declared) => {
            declared.nodes.iter().find(|(_, node)| node.addresses.contains(&addr)).map(|(name, _)| name.clone())
        }
        None => hopyard_explain::owner(&recording.snapshot, addr),
    };
    Query { from: words[0].parse().unwrap(), packet, wanted }
}

// ------------------------------------------------------------------------------------------ as a text

fn outcome(query: &Query, verdict: &Verdict, repair: Option<&Repair>) -> String {
    let mut text = String::new();
    let word = match verdict.outcome() {
        Outcome::Yes => "yes",
        Outcome::No => "no",
        Outcome::Undecided => "undecided",
    };
    let packet = query.packet;
    writeln!(text, "{word}: {} -> {} {}", query.from, packet.dst, packet.protocol.name()).unwrap();
    if let Some(trouble) = verdict.trouble() {
        let way = if trouble.back { "back" } else { "there" };
        writeln!(text, "{way} at {}: {}\n  {:?}", trouble.node, trouble.code(), trouble.reason).unwrap();
    }
    text.push_str("there\n");
    hops(&mut text, &verdict.there, false);
    if let Some(back) = &verdict.back {
        text.push_str(if verdict.there.arrives() { "back\n" } else { "back, if it arrived\n" });
        hops(&mut text, back, true);
    }
    if let Some(repair) = repair {
        writeln!(text, "repair, cost {}", repair.cost).unwrap();
        for stage in &repair.stages {
            for (edit, declared) in &stage.edits {
                let why = if *declared { ", as declared" } else { "" };
                writeln!(text, "  {}: {edit}  ({} at {}{why})", edit.node(), stage.trouble.code(), stage.trouble.node)
                    .unwrap();
            }
        }
    }
    text
}

fn hops(text: &mut String, walk: &Walk, back: bool) {
    let src = walk.packet.src.map_or_else(|| "?".to_owned(), |src| src.to_string());
    writeln!(text, "  {src} -> {}, {} bytes", walk.packet.dst, walk.packet.length).unwrap();
    for hop in &walk.hops {
        let input = hop.input.map_or_else(String::new, |dev| format!(":{dev}"));
        let route = hop.route.as_ref().map_or_else(String::new, |route| {
            let table = if route.key.table == RouteKey::MAIN { "" } else { " (other table)" };
            format!(" by {}{table}", route.key.prefix)
        });
        let next = hop.next.as_ref().map_or_else(String::new, |next| format!(", {}", next.of(hop.routed.family())));
        let end = match &hop.end {
            None => String::new(),
            Some(End::Delivered) => ": delivered".to_owned(),
            Some(End::Dropped(reason)) => format!(": {}", reason.code(back)),
        };
        writeln!(text, "  {}{input} ttl {}{route}{next}{end}", hop.node, hop.ttl).unwrap();
    }
}

// ------------------------------------------------------------------------------------------ the tests

#[test]
fn every_recorded_network_is_explained_as_expected() {
    let mut failed = Vec::new();
    for case in cases() {
        let recording = recording(&case);
        // What is written of it is the file, to the byte; but for the version, of one that is older.
        let text = std::fs::read_to_string(case.join("snapshot.json")).unwrap();
        let head = |version: u32| format!("\n  \"version\": {version},");
        let text = (1..VERSION).fold(text, |text, older| text.replacen(&head(older), &head(VERSION), 1));
        assert!(recording.to_text().unwrap() == text, "{}: written anew it is another file", case.display());
        let query = question(&case, &recording);
        let verdict = explain(&recording.snapshot, &query, &Choices::new());
        let drift: &[Op] = recording.declared.as_ref().map_or(&[], |declared| &declared.drift);
        let repair = match verdict.outcome() {
            Outcome::Yes => None,
            _ => repair(&recording.snapshot, &query, &Choices::new(), drift),
        };
        if let Some(repair) = &repair {
            mends(&case, &recording.snapshot, &query, repair);
        }
        let found = outcome(&query, &verdict, repair.as_ref());
        let path = case.join("expected.txt");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, &found).unwrap();
        } else if std::fs::read_to_string(&path).unwrap_or_default() != found {
            failed.push(format!("=== {}\n{found}", case.file_name().unwrap().display()));
        }
    }
    assert!(failed.is_empty(), "not as expected (UPDATE=1 rewrites):\n{}", failed.join("\n"));
}

/// After the changes the network does its part.
fn mends(case: &Path, snapshot: &Snapshot, query: &Query, repair: &Repair) {
    let mut after = snapshot.clone();
    repair.edits().for_each(|edit| edit.apply(&mut after));
    let verdict = explain(&after, query, &Choices::new());
    let code = verdict.trouble().map(|trouble| trouble.code());
    assert!(matches!(code, None | Some("no-listener")), "{}: the repair repairs nothing: {code:?}", case.display());
}

/// A network of which the file was changed is explained or refused, soon.
#[test]
fn a_changed_recording_is_explained_or_refused() {
    let texts: Vec<(Query, String)> = cases()
        .iter()
        .map(|case| (question(case, &recording(case)), std::fs::read_to_string(case.join("snapshot.json")).unwrap()))
        .collect();
    let config = ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() };
    let change = (any::<prop::sample::Index>(), any::<prop::sample::Index>());
    let strategy = (any::<prop::sample::Index>(), prop::collection::vec(change, 1..6));
    let read = std::cell::Cell::new(0);
    proptest!(config, |((case, changes) in strategy)| {
        let (query, text) = &texts[case.index(texts.len())];
        let mut text = text.clone();
        for (at, other) in changes {
            // A value in the place of another one that looks like it.
            let values = values(&text);
            let at = values[at.index(values.len())].clone();
            let kind = |range: &std::ops::Range<usize>| {
                (text[range.clone()].starts_with('"'), text[range.clone()].parse::<u64>().is_ok(), text[range.clone()].contains('/'))
            };
            let alike: Vec<_> = values.iter().filter(|range| kind(range) == kind(&at)).collect();
            let token = text[alike[other.index(alike.len())].clone()].to_owned();
            text.replace_range(at, &token);
        }
        if let Ok(recording) = Recording::read(&SourceFile::new("x", text)) {
            read.set(read.get() + 1);
            let verdict = explain(&recording.snapshot, query, &Choices::new());
            prop_assert!(!verdict.there.hops.is_empty());
            repair(&recording.snapshot, query, &Choices::new(), &[]);
        }
    });
    assert!(read.get() > 100, "hardly any was read: {}", read.get());
}

/// Where the numbers and words of a text are.
fn values(text: &str) -> Vec<std::ops::Range<usize>> {
    let starts: BTreeSet<usize> = text.match_indices(": ").map(|(at, _)| at + 2).collect();
    let end = |start: usize| text[start..].find([',', '}', ']', '\n', '{', '[']).map_or(text.len(), |at| start + at);
    starts.into_iter().map(|start| start..end(start)).filter(|range| !range.is_empty()).collect()
}

/// Chains that jump to each other, many times over: the kernel would not take them, a file may have them.
#[test]
fn a_maze_of_chains_is_given_up() {
    let case = cases().into_iter().find(|case| case.ends_with("firewall-rule-forward")).unwrap();
    let mut recording = recording(&case);
    let query = question(&case, &recording);
    let rules = recording.snapshot.nodes.get_mut("r1").unwrap().firewall.as_mut().unwrap();
    let chain = &mut rules.chains[0];
    let jump = hopyard_net::RuleStep::Verdict(hopyard_net::RuleVerdict::Jump(chain.name.clone()));
    chain.rules = (0..1000).map(|handle| hopyard_net::Rule { handle, steps: vec![jump.clone()] }).collect();
    let verdict = explain(&recording.snapshot, &query, &Choices::new());
    assert_eq!(verdict.trouble().map(|trouble| trouble.code()), Some("undecided"));
}
