//! `hop record`, `hop why --from` and `--explain`; what programs read of it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test says what is wrong by failing")]

mod common;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use common::{Place, text, unique};
use hopyard::explain::Code;
use serde_json::Value;

/// A lab in which the way back is missing; its name.
fn lab(place: &Place) -> String {
    let name = unique("from");
    let yaml = format!(
        "name: {name}\nnodes:\n  a: {{ routes: default via 10.0.1.1 }}\n  r: {{ forward: true }}\n  b:\n\
         switches:\n  sw: {{ ipv4: 10.0.2.0/24, ipv6: none }}\n\
         links:\n  - {{ endpoints: [a, r], ipv4: [10.0.1.2/24, 10.0.1.1/24] }}\n  - {{ endpoints: [r, sw], ipv4: 10.0.2.1/24 }}\n  \
         - {{ endpoints: [b, sw], ipv4: 10.0.2.2/24 }}\nrouting: none\n"
    );
    place.hop(&["up", &place.file("from.hop.yaml", &yaml)]);
    name
}

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../explain/corpus")
}

/// Each recording of the corpus, with the words of its question.
fn cases() -> Vec<(String, Vec<String>)> {
    let dirs = std::fs::read_dir(corpus()).unwrap().map(|entry| entry.unwrap().path());
    let mut cases = Vec::new();
    for dir in dirs.filter(|path| path.is_dir()) {
        let text = std::fs::read_to_string(dir.join("case.txt")).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("why: ")).unwrap();
        let mut words = line.split_whitespace().map(ToOwned::to_owned);
        let mut question: Vec<String> = words.by_ref().take(2).collect();
        question.extend(words.flat_map(|bytes| ["--size".to_owned(), bytes]));
        cases.push((dir.join("snapshot.json").display().to_string(), question));
    }
    assert!(cases.len() > 30);
    cases
}

// ------------------------------------------------------------------------------------------ recording

#[test]
fn all_pairs_of_a_recording_are_those_of_the_lab() {
    let place = Place::new();
    let name = lab(&place);
    let file = place.path().join("x.json").display().to_string();
    place.hop(&["record", "-o", &file]);
    let live = text(&place.output(&["check", "--no-probe"]).stdout);
    place.hop(&["down", &name]);
    // In the order of the file; else in that of names.
    let output = place.output(&["check", "--from", &file, "a", "r", "b"]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    // But for the words of commands, the time, and where it comes from.
    let same = |said: &str| {
        let said = said.replace(&format!(" --from {file}"), "");
        said.split(", in ").next().unwrap().to_owned()
    };
    assert_eq!(same(&said), same(&live));
    assert!(said.contains(&format!("   hop why --from {file} a b   it arrives, but b has no route back")), "{said}");
    assert!(said.trim_end().ends_with("; nobody was asked, and nothing sent."), "{said}");
    let all = text(&place.output(&["check", "--from", &file]).stdout);
    let summary = |said: &str| said.lines().nth_back(1).unwrap().split(", in ").next().unwrap().to_owned();
    assert_eq!(summary(&all), summary(&said));
    assert!(all.starts_with("a  ") && all.lines().nth(1).unwrap().starts_with("b  "), "{all}");
    // Some nodes of it.
    let (two, status) = {
        let output = place.output(&["check", "--from", &file, "a", "r"]);
        (text(&output.stdout), output.status.code())
    };
    assert!(two.contains("2 of 2 pairs reach each other, predicted"), "{two}");
    assert_eq!(status, Some(0));
    let json: Value = serde_json::from_str(&text(&place.output(&["check", "--json", "--from", &file]).stdout)).unwrap();
    assert_eq!((&json["lab"], &json["probed"]), (&name.as_str().into(), &false.into()));
    assert!(
        text(&place.output(&["check", "--from", &file, "a", "r", "a"]).stdout)
            .starts_with(&two[..two.find(", in ").unwrap()])
    );
    // No pair at all is not well.
    for one in [&["a"][..], &["a", "a"]] {
        let said = place.fails(2, &[&["check", "--from", &file], one].concat());
        assert!(said.contains("a pair takes two nodes") && said.contains("the recording has a, b, r"), "{said}");
    }
    assert!(place.fails(2, &["check", "--from", &file, "bb"]).contains("hint: did you mean `b`?"));
    assert!(place.fails(2, &["check", "--from", &file, "--no-probe"]).contains("cannot be used with"));
    assert!(place.fails(2, &["check", "--from", "/nonexistent"]).contains("`hop record` writes one"));
}

#[test]
fn a_recording_says_what_the_lab_says_and_needs_no_lab() {
    let place = Place::new();
    let name = lab(&place);
    let file = place.path().join("x.json").display().to_string();
    assert_eq!(place.hop(&["record", "-o", &file]), format!("4 namespaces in {file}\n"));
    let live = text(&place.output(&["why", "--no-probe", "a", "b"]).stdout);
    let (shown, hint) = live.split_once("  kernel").map_or((live.as_str(), ""), |(before, _)| (before, "kernel"));
    assert_eq!(hint, "kernel", "{live}");
    place.hop(&["down", &name]);
    let output = place.output(&["why", "--from", &file, "a", "b"]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said.starts_with("NO  a -> 10.0.2.2 (b) icmp: it arrives, but b has no route back to 10.0.1.2\n"),
        "{said}"
    );
    assert_eq!(said.lines().next(), shown.lines().next());
    // The place in a file that is not needed any more.
    assert!(said.contains(" 1 b  ip route add 10.0.1.0/24 via 10.0.2.1  from.hop.yaml:5  nodes.b.routes: "), "{said}");
    assert!(said.contains("; nobody was asked, and nothing sent.\n"), "{said}");
    assert!(!said.contains("--fix"), "{said}");
    // Listeners of all nodes are in it.
    let said = text(&place.output(&["why", "--from", &file, "a", "b:80"]).stdout);
    assert!(said.contains("nothing listens on port 80 of b"), "{said}");
    assert!(place.fails(2, &["why", "--from", &file, "a", "sw"]).contains("`sw` is a switch"));
    assert!(place.fails(2, &["why", "--from", &file, "a", "bb"]).contains("hint: did you mean `b`?"));
    assert!(place.fails(2, &["why", "--from", &file, "--fix", "a", "b"]).contains("cannot be used with"));
    // From standard input, as from a file.
    let mut child = place.command(&["why", "--from", "-", "a", "b"]);
    let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&std::fs::read(&file).unwrap()).unwrap();
    assert!(text(&child.wait_with_output().unwrap().stdout).starts_with("NO  a -> 10.0.2.2"));
}

#[test]
fn a_file_is_written_whole_and_never_over_another_one() {
    let place = Place::new();
    let name = lab(&place);
    let here = |args: &[&str]| place.command(args).current_dir(place.path()).output().unwrap();
    assert!(here(&["record"]).status.success());
    let file = place.path().join(format!("{name}.snapshot.json"));
    std::fs::write(&file, "mine").unwrap();
    let refused = here(&["record", &name]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        text(&refused.stderr).contains("is there already\nhint: `--force` replaces it"),
        "{}",
        text(&refused.stderr)
    );
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
    assert!(here(&["record", "--force"]).status.success());
    let written = std::fs::read_to_string(&file).unwrap();
    // Standard output has the same, but for the time.
    let printed = place.hop(&["record", "-o", "-"]);
    let timeless =
        |text: &str| text.lines().filter(|line| !line.contains("\"at\": ")).map(ToOwned::to_owned).collect::<Vec<_>>();
    assert_eq!(timeless(&printed), timeless(&written));
    assert!(place.fails(2, &["record", "--force", "-o", "/dev/null"]).contains("/dev/null is there, and is no file"));
    assert!(place.fails(1, &["record", "-o", "/proc/self/x.json"]).contains("cannot write /proc/self/x.json"));
    assert!(place.fails(2, &["record", "no-such-lab"]).contains("no lab `no-such-lab` is running"));
    assert!(place.fails(2, &["record", "--ns"]).contains("no namespace was named"));
    let left = std::fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(left.into_iter().all(|name| !name.starts_with('.')), "something is left");
    // A file that was cut says where, and what that may mean.
    std::fs::write(&file, &written[..written.len() / 2]).unwrap();
    let said = place.fails(2, &["why", "--from", &file.display().to_string(), "a", "b"]);
    assert!(said.contains("snapshot.json:") && said.contains("help: the file ends too early"), "{said}");
    let newer = written.replacen("\"version\": 3", "\"version\": 4", 1);
    std::fs::write(&file, newer).unwrap();
    let said = place.fails(2, &["why", "--from", &file.display().to_string(), "a", "b"]);
    assert!(said.contains("the recording is of version 4; this program reads up to 3"), "{said}");
    let readme = place.file("README.md", "# A file\n\nof another kind\n");
    let said = place.fails(2, &["why", "--from", &readme, "a", "b"]);
    assert!(said.contains("this is no recording: it is no JSON") && said.contains("`hop record` makes one"), "{said}");
    let empty = place.file("empty.json", "{\"format\": \"hopyard-snapshot\", \"version\": 1, \"nodes\": {}}");
    let said = place.fails(2, &["why", "--from", &empty, "a", "b"]);
    assert!(said.contains("the recording has no node `a`: it has none at all") && !said.contains("hint"), "{said}");
    assert!(place.fails(2, &["why", "--from", "/no/such", "a", "b"]).contains("hint: `hop record` writes one"));
    assert!(place.fails(2, &["why", "--from", "/dev/zero", "a", "b"]).contains("/dev/zero is larger than"));
}

// ------------------------------------------------------------------------------------------ programs

/// Checks values by the schema that the program prints.
struct Checker {
    schemas: boon::Schemas,
    index: boon::SchemaIndex,
}

impl Checker {
    fn new(place: &Place) -> Self {
        let schema: Value = serde_json::from_str(&place.hop(&["schema", "--why"])).unwrap();
        let (mut schemas, mut compiler) = (boon::Schemas::new(), boon::Compiler::new());
        compiler.add_resource("why.json", schema).unwrap();
        let index = compiler.compile("why.json", &mut schemas).unwrap();
        Checker { schemas, index }
    }

    #[track_caller]
    fn check(&self, value: &Value) {
        if let Err(error) = self.schemas.validate(value, self.index) {
            panic!("{error:#}\n{value:#}");
        }
    }
}

#[test]
fn what_is_printed_for_programs_is_as_its_schema_says() {
    let place = Place::new();
    let checker = Checker::new(&place);
    let mut reasons = BTreeSet::new();
    for (file, question) in cases() {
        let question: Vec<&str> = question.iter().map(String::as_str).collect();
        let output = place.output(&[&["why", "--json", "--from", &file], &question[..]].concat());
        let value: Value = serde_json::from_slice(&output.stdout).unwrap();
        checker.check(&value);
        reasons.extend(value["verdict"]["reason"].as_str().map(ToOwned::to_owned));
    }
    assert!(reasons.len() > 20, "{reasons:?}");
    // Of a lab there is more in it.
    lab(&place);
    for args in [
        &["a", "b"][..],
        &["a", "r"],
        &["--no-probe", "a", "b"],
        &["a", "b:80"],
        &["a", "b:53/udp"],
        &["a", "192.0.2.9"],
    ] {
        let output = place.output(&[&["why", "--json"], args].concat());
        checker.check(&serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output.stderr))));
    }
    // The schema refuses what is not so.
    let output = place.output(&["why", "--json", "a", "b"]);
    let good: Value = serde_json::from_slice(&output.stdout).unwrap();
    for (pointer, bad) in [("/verdict/reason", "no-such-reason"), ("/query/proto", "sctp"), ("/there", "x")] {
        let mut value = good.clone();
        *value.pointer_mut(pointer).unwrap() = bad.into();
        assert!(checker.schemas.validate(&value, checker.index).is_err(), "{pointer} = {bad} was accepted");
    }
}

/// Each reason is in the table of the page, and none that there is not.
#[test]
fn the_page_lists_the_reasons_that_there_are() {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/why.md")).unwrap();
    let table = page.split_once("| reason | what it is |\n|---|---|\n").unwrap().1;
    let rows = table.lines().take_while(|line| line.starts_with('|'));
    let names = rows.flat_map(|row| row.split('|').nth(1).unwrap_or_default().split(',').map(str::trim));
    let mut listed: Vec<&str> = names.map(|name| name.trim_matches('`')).collect();
    let mut there: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    listed.sort_unstable();
    there.sort_unstable();
    assert_eq!(listed, there);
}

// ------------------------------------------------------------------------------------------ teaching

#[test]
fn every_fault_is_taught_up_to_the_step_that_ends_the_packet() {
    let place = Place::new();
    for (file, question) in cases() {
        let question: Vec<&str> = question.iter().map(String::as_str).collect();
        let said = text(&place.output(&[&["why", "--explain", "--from", &file], &question[..]].concat()).stdout);
        let json = place.output(&[&["why", "--json", "--from", &file], &question[..]].concat());
        let answer: Value = serde_json::from_slice(&json.stdout).unwrap();
        let taught = said.split_once("What the kernels do with it, in their order:").map(|(_, taught)| taught);
        let taught = taught.unwrap_or_else(|| panic!("{said}"));
        let ends = taught.lines().filter(|line| line.starts_with(" x")).count();
        match answer["verdict"]["reason"].as_str() {
            None => assert_eq!(ends, 0, "{said}"),
            Some(reason) => {
                assert!(taught.contains(&format!("\n{reason}\n  ")), "{said}");
                assert!(taught.contains("\n  Read: "), "{said}");
                assert_eq!(ends, usize::from(reason != "undecided"), "{said}");
            }
        }
        assert!(taught.lines().all(|line| line.chars().count() <= 110), "{said}");
    }
}
