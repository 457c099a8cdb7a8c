//! The cases of `crates/explain/corpus`, made anew on this kernel: each breaks something in a network, and what
//! the kernel shows of it explains in the words that are kept there.
//!
//! A case is a directory with `case.txt`: the lab, the commands that break it (`NODE: COMMAND`), the question
//! (`why: SRC DST[:PORT] [BYTES]`). One without a lab was recorded elsewhere, and is only read. Beside it are
//! `snapshot.json`, what `hop record` wrote of it; `words.txt`, what `hop why --from` says of that; and
//! `expected.txt`, of the tests of `explain`.
//!
//! `RECORD=NAME cargo test -p hopyard-cli --test corpus` records that case anew, `RECORD=1` all of them, and
//! then writes what is said of them; read the difference. (What the kernel adds by itself comes in any order,
//! and a neighbour or two may have been learnt.) A new case needs its `case.txt` only.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test says what is wrong by failing")]

mod common;

use std::process::Command;

use common::case::Case;
use common::{Place, text};
use hopyard::formats::SourceFile;
use hopyard::formats::recording::Recording;

impl Case {
    fn snapshot(&self) -> String {
        self.dir.join("snapshot.json").display().to_string()
    }

    /// What is said of a recording.
    fn words(&self, place: &Place, file: &str) -> String {
        let question: Vec<&str> = self.question.iter().map(String::as_str).collect();
        let output = place.output(&[&["why", "--from", file], &question[..]].concat());
        assert!(matches!(output.status.code(), Some(0 | 1 | 3)), "{}: {}", self.name(), text(&output.stderr));
        text(&output.stdout)
    }

    /// Makes the network, breaks it, and writes it down.
    fn make(&self, place: &Place) -> String {
        self.bring_up(place);
        let recorded = place.path().join("recorded.json").display().to_string();
        place.hop(&["record", "--force", "-o", &recorded]);
        // What is another one each time.
        let source = SourceFile::new("x", std::fs::read_to_string(&recorded).unwrap());
        let mut recording = Recording::read(&source).unwrap();
        recording.recorded = None;
        recording.declared.as_mut().unwrap().lab.clone_from(&self.lab);
        std::fs::write(&recorded, recording.to_text().unwrap()).unwrap();
        recorded
    }
}

#[test]
fn this_kernel_makes_of_every_case_what_is_kept_of_it() {
    if Command::new("nft").arg("--version").output().is_err() {
        assert!(std::env::var_os("REQUIRE_LABS").is_none(), "there is no nft");
        println!("skipped: there is no nft");
        return;
    }
    let wanted = std::env::var("RECORD").ok();
    let mut failed = Vec::new();
    for case in Case::all().into_iter().filter(|case| !case.lab.is_empty()) {
        let place = Place::new();
        let recorded = case.make(&place);
        if wanted.as_ref().is_some_and(|wanted| wanted == "1" || *wanted == case.name()) {
            std::fs::copy(&recorded, case.snapshot()).unwrap();
            std::fs::write(case.dir.join("words.txt"), case.words(&place, &recorded)).unwrap();
        }
        let kept = std::fs::read_to_string(case.dir.join("words.txt")).unwrap_or_default();
        let now = case.words(&place, &recorded);
        if now != kept {
            failed.push(format!("{}: this kernel shows something else:\n{now}", case.name()));
        }
        // A packet does what the recording says.
        let live = case.live(&place);
        let word = match live["reachable"].as_bool() {
            Some(true) => "YES",
            Some(false) => "NO ",
            None => "???",
        };
        // What is not known may be seen to work.
        let open = now.starts_with("???") && live["disagreements"].as_array().unwrap().is_empty();
        if !(now.starts_with(word) || open) || live["verdict"]["confidence"] != "seen" {
            failed.push(format!("{}: the packet did something else: {live:#}", case.name()));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn what_is_kept_explains_without_a_kernel() {
    if std::env::var_os("RECORD").is_some() {
        println!("skipped: what is kept is being written");
        return;
    }
    let place = Place::new();
    let mut failed = Vec::new();
    for case in Case::all() {
        let path = case.dir.join("words.txt");
        let words = case.words(&place, &case.snapshot());
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, &words).unwrap();
        } else if words != std::fs::read_to_string(&path).unwrap_or_default() {
            failed.push(format!("=== {}\n{words}", case.name()));
        }
    }
    assert!(failed.is_empty(), "not as expected (UPDATE=1 rewrites):\n{}", failed.join("\n"));
}
