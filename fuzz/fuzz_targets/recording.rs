//! Any text as a recorded network: one that is written as it was read and can be explained, or a problem with
//! its place.
//!
//! `cargo +nightly fuzz run recording`, with `crates/explain/corpus/*/snapshot.json` as seeds.
#![no_main]

use hopyard_explain::{Choices, Packet, Protocol, Query, explain, repair};
use hopyard_formats::recording::Recording;
use hopyard_formats::{SourceFile, render};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let source = SourceFile::new("fuzz.json", text);
    let recording = match Recording::read(&source) {
        Ok(recording) => recording,
        Err(problem) => {
            assert!(problem.at.is_some());
            render(&problem, &source);
            return;
        }
    };
    let written = recording.to_text().expect("what was read can be written");
    assert_eq!(Recording::read(&SourceFile::new("again.json", written)).as_ref(), Ok(&recording));
    let (Some(from), Some(to)) = (recording.snapshot.nodes.keys().next(), recording.snapshot.nodes.values().last())
    else {
        return;
    };
    for own in to.links.values().flat_map(|link| &link.addresses) {
        for protocol in [Protocol::Icmp, Protocol::Tcp] {
            let packet = Packet::probe(own.net.addr(), protocol, 80);
            let query = Query { from: from.clone(), packet, wanted: None };
            explain(&recording.snapshot, &query, &Choices::new());
            repair(&recording.snapshot, &query, &Choices::new(), &[]);
        }
    }
});
