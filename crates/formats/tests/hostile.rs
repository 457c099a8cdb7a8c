//! Files that want to hurt: deep, huge, mutated. Every reader ends, soon, with a lab or with problems.

mod listing;

use std::fmt::Write;

use hopyard_formats::{SourceFile, inline, read, render, to_yaml};
use proptest::prelude::*;

/// Reads and shows; panics only where the reader does.
fn survive(name: &str, text: &str) {
    let source = SourceFile::new(name, text);
    let problems = match read(&source) {
        Ok((_, problems)) | Err(problems) => problems,
    };
    for problem in &problems {
        assert!(!render(problem, &source).is_empty());
    }
}

fn survive_inline(text: &str) {
    let source = SourceFile::inline(text);
    for problem in inline(text).err().unwrap_or_default() {
        assert!(!render(&problem, &source).is_empty());
    }
}

fn codes(name: &str, text: &str) -> Vec<&'static str> {
    let problems = read(&SourceFile::new(name, text)).err().unwrap_or_default();
    problems.iter().map(|problem| problem.code.0).collect()
}

#[test]
fn deep_nesting_does_not_end_the_stack() {
    for (open, close) in [("[", "]"), ("{a: ", "}"), ("- ", ""), ("? ", "")] {
        let text = format!("{}x{}", open.repeat(100_000), close.repeat(100_000));
        assert_eq!(codes("x.hop.yaml", &text), ["bad-yaml"], "{open}");
    }
    let text: String = (0..5000).fold(String::new(), |mut text, depth| {
        writeln!(text, "{:depth$}a:", "").unwrap();
        text
    });
    assert_eq!(codes("x.hop.yaml", &text), ["bad-yaml"]);
    assert_eq!(codes("x.graphml", &"<graphml>".repeat(100_000)), ["bad-xml"]);
    assert_eq!(codes("x.graphml", &format!("<graphml>{}", "<graph><node>".repeat(100_000))), ["bad-xml"]);
}

#[test]
fn a_switch_has_no_more_ports_than_a_bridge() {
    let members = |count: usize| (0..count).map(|at| format!("n{at}")).collect::<Vec<_>>().join(", ");
    let text = |count| format!("switches: {{ hub: [{}] }}", members(count));
    assert!(read(&SourceFile::new("x.hop.yaml", text(1023))).is_ok());
    let text = text(5000);
    let problems = read(&SourceFile::new("x.hop.yaml", text)).unwrap_err();
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].message, "switch `hub` has 5000 ports; a Linux bridge has at most 1023");
}

#[test]
fn many_mistakes_take_no_time() {
    // Ten thousand unknown names among ten thousand nodes: a hint for each would be a hundred million comparisons.
    let mut text = String::from("nodes:\n");
    for at in 0..10_000 {
        writeln!(text, "  node-number-{at}:").unwrap();
    }
    text.push_str("links:\n");
    for at in 0..10_000 {
        writeln!(text, "  - node-number-{at} -- nodenumber-{at}").unwrap();
    }
    assert_eq!(codes("x.hop.yaml", &text).len(), 10_000);
}

#[test]
fn a_huge_label_is_cut() {
    let label = "Ü".repeat(1 << 20);
    let text = format!(
        "<graphml><key id=\"l\" attr.name=\"label\"/><graph><node id=\"a\"><data key=\"l\">{label}</data></node></graph></graphml>"
    );
    let (lab, warnings) = read(&SourceFile::new("x.graphml", text)).unwrap();
    assert_eq!(lab.nodes()[0].name.as_str().len(), 63);
    assert!(warnings.iter().all(|problem| problem.message.len() < 1000));
}

const YAML: &str = include_str!("../corpus/yaml/everything/three.hop.yaml");
const GRAPHML: &str = include_str!("../corpus/graphml/labels/x.graphml");

/// A text with a few of its bytes changed, left out or repeated.
fn mutated(text: &'static str) -> impl Strategy<Value = String> {
    let edit = (
        0..text.len(),
        0..12usize,
        prop_oneof![
            any::<String>(),
            Just("\"".to_owned()),
            Just("&a ".to_owned()),
            Just("*a".to_owned()),
            Just("[".to_owned()),
            Just("]]>".to_owned()),
            Just("<node id=\"0\">".to_owned()),
            Just("\n".to_owned()),
            Just("18446744073709551616".to_owned()),
        ],
    );
    prop::collection::vec(edit, 1..6).prop_map(move |edits| {
        let mut bytes = text.as_bytes().to_vec();
        for (at, len, with) in edits {
            let at = at.min(bytes.len());
            bytes.splice(at..(at + len).min(bytes.len()), with.into_bytes());
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// A lab as one could write it inline.
fn some_inline() -> impl Strategy<Value = String> {
    prop::collection::vec((0..6u8, 0..6u8, prop::option::of(0..3u8)), 0..12).prop_map(|links| {
        let link = |(a, b, iface): (u8, u8, Option<u8>)| match iface {
            Some(iface) => format!("n{a}:wan{iface} -- n{b}"),
            None => format!("n{a} -- n{b}"),
        };
        links.into_iter().map(link).collect::<Vec<_>>().join(", ")
    })
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in any::<String>()) {
        survive("x.hop.yaml", &text);
        survive("x.graphml", &text);
        survive("<inline>", &text);
        survive_inline(&text);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let text = String::from_utf8_lossy(&bytes);
        survive("x.hop.yaml", &text);
        survive("x.graphml", &text);
        if let Ok(source) = SourceFile::from_bytes("x.graphml", &bytes) {
            survive(source.name(), source.text());
        }
    }

    #[test]
    fn a_mutated_topology_is_read_or_refused(text in mutated(YAML)) {
        survive("x.hop.yaml", &text);
    }

    #[test]
    fn a_mutated_graphml_is_read_or_refused(text in mutated(GRAPHML)) {
        survive("x.graphml", &text);
    }

    #[test]
    fn generators_take_any_arguments(name in "chain|ring|star|grid|tree|mesh|fat-tree", args in "[0-9x+-]{0,4}") {
        survive_inline(&format!("{name}:{args}"));
    }

    #[test]
    fn what_is_written_reads_as_the_same_lab(text in some_inline()) {
        if let Ok((lab, _)) = inline(&text) {
            let written = to_yaml(&lab);
            let (again, _) = read(&SourceFile::new("x.hop.yaml", written.clone())).expect(&written);
            prop_assert_eq!(listing::without_places(&again), listing::without_places(&lab));
        }
    }
}
