//! Real operators' networks: each comes up, and who should reach whom does, both ways, in both families.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test says what is wrong by failing")]

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use common::{Place, text, unique};
use hopyard::formats::SourceFile;

fn check(path: &Path) {
    let source = SourceFile::new(path.display().to_string(), std::fs::read_to_string(path).unwrap());
    let (lab, _) = hopyard::formats::read(&source).unwrap();
    let parts: BTreeMap<String, usize> =
        lab.nodes().iter().zip(lab.parts()).map(|(node, part)| (node.name.to_string(), part)).collect();
    let place = Place::new();
    let name = unique("zoo");
    let hop = env!("CARGO_BIN_EXE_hop");
    let output =
        place.output(&["run", "--name", &name, &path.display().to_string(), "--", hop, "ping", "--all", "--json"]);
    let pairs: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{}: {error}: {}", path.display(), text(&output.stderr)));
    let mut connected = 0;
    for pair in &pairs {
        let together = parts[pair["from"].as_str().unwrap()] == parts[pair["to"].as_str().unwrap()];
        assert_eq!(pair["reached"].as_bool(), Some(together), "{}: {pair}", path.display());
        connected += usize::from(together);
    }
    let size = |part: usize| parts.values().filter(|&&other| other == part).count();
    let expected: usize = parts.values().map(|&part| size(part) - 1).sum();
    assert_eq!(connected, expected * 2, "{}: not every connected pair was measured in both families", path.display());
}

/// `HOPYARD_ZOO` names another directory, with all 276 files for instance.
fn files() -> Vec<PathBuf> {
    let own = concat!(env!("CARGO_MANIFEST_DIR"), "/../formats/corpus/graphml");
    let mut found = Vec::new();
    collect(Path::new(&std::env::var("HOPYARD_ZOO").unwrap_or_else(|_| own.to_owned())), &mut found);
    found.retain(|path| {
        // Of the corpus, those that are networks and not traps for the reader.
        let source = SourceFile::new("", std::fs::read_to_string(path).unwrap_or_default());
        source.text().contains("Topology Zoo")
            && hopyard::formats::read(&SourceFile::new(path.display().to_string(), source.text())).is_ok()
    });
    found.sort();
    found
}

fn collect(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap().filter_map(Result::ok) {
        if entry.path().is_dir() {
            collect(&entry.path(), found);
        } else if entry.path().extension().is_some_and(|extension| extension == "graphml") {
            found.push(entry.path());
        }
    }
}

#[test]
fn every_connected_pair_of_a_real_network_reaches_each_other() {
    let files = files();
    assert!(files.len() >= 3, "the corpus has lost its networks: {files:?}");
    for file in &files {
        check(file);
    }
    println!("{} networks", files.len());
}
