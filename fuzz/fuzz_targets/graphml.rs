//! Any bytes as GraphML: a lab whose nodes have valid and different names, or problems.
//!
//! `cargo +nightly fuzz run graphml`, with `crates/formats/corpus/graphml/*/*.graphml` as seeds.
#![no_main]

use hopyard_formats::{SourceFile, read, render};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(source) = SourceFile::from_bytes("fuzz.graphml", bytes) else { return };
    let problems = match read(&source) {
        Ok((_, warnings)) => warnings,
        Err(problems) => problems,
    };
    for problem in &problems {
        render(problem, &source);
        // An importer makes names; that they are wrong is its fault and not the file's.
        assert!(!matches!(
            problem.code.0,
            "bad-name" | "duplicate-node" | "similar-names" | "unknown-node" | "switch-loop"
        ));
    }
});
