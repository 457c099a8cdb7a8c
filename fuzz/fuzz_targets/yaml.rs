//! Any text as a topology file: a lab that can be written and read again, or problems that can be shown.
//!
//! `cargo +nightly fuzz run yaml`, with `crates/formats/corpus/yaml/*/x.hop.yaml` as seeds.
#![no_main]

use hopyard_formats::{SourceFile, read, render, to_yaml};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let source = SourceFile::new("fuzz.hop.yaml", text);
    match read(&source) {
        Ok((lab, _)) => {
            let written = SourceFile::new("written.hop.yaml", to_yaml(&lab));
            assert!(read(&written).is_ok(), "{}", written.text());
        }
        Err(problems) => {
            for problem in &problems {
                assert!(!render(problem, &source).contains('\u{1b}'));
            }
        }
    }
});
