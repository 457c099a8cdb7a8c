//! Any text as an argument: a lab, or problems.
//!
//! `cargo +nightly fuzz run inline`.
#![no_main]

use hopyard_formats::{SourceFile, inline, looks_inline, render};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    // A large network is large work by right; what is fuzzed is the reading.
    if text.bytes().filter(u8::is_ascii_digit).count() > 3 {
        return;
    }
    looks_inline(text);
    let source = SourceFile::inline(text);
    if let Err(problems) = inline(text) {
        for problem in &problems {
            render(problem, &source);
        }
    }
});
