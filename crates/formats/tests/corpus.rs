//! Every case of `corpus/`: an input, and what a person is shown of it.
//!
//! `UPDATE=1 cargo test -p hopyard-formats --test corpus` rewrites the expected files; the
//! difference is then to be read.
#![expect(clippy::disallowed_methods, reason = "the tests of a pure crate bring the files")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test without its files has failed")]

mod listing;

use std::fmt::Write;
use std::path::{Path, PathBuf};

use hopyard_formats::{SourceFile, inline, read, render, to_yaml};
use hopyard_model::{Lab, Problem};

type Read = Result<(Lab, Vec<Problem>), Vec<Problem>>;

#[test]
fn yaml() {
    run("yaml", |source| read(&source));
}

#[test]
fn graphml() {
    run("graphml", |source| read(&source));
}

#[test]
fn inline_form() {
    run("inline", |source| inline(source.text()));
}

/// Reads every case of a stage and compares what comes out with what is expected.
fn run(stage: &str, reader: impl Fn(SourceFile) -> Read) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(stage);
    let mut cases: Vec<PathBuf> = entries(&root).into_iter().filter(|path| path.is_dir()).collect();
    cases.sort();
    assert!(!cases.is_empty(), "no case in {}", root.display());
    let mut failed = Vec::new();
    for case in &cases {
        let name = case.file_name().unwrap().to_str().unwrap();
        let source = input(case);
        let result = reader(source.clone());
        if let Ok((lab, _)) = &result {
            round_trip(name, lab);
        }
        let found = outcome(&result, &source);
        let path = case.join("expected.txt");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, &found).unwrap();
        } else if std::fs::read_to_string(&path).unwrap_or_default() != found {
            failed.push(format!("=== {stage}/{name}\n{found}"));
        }
    }
    assert!(failed.is_empty(), "not as expected (UPDATE=1 rewrites):\n{}", failed.join("\n"));
}

/// The one file of a case beside what is expected.
fn input(case: &Path) -> SourceFile {
    let is_input = |path: &PathBuf| path.file_name().is_some_and(|name| name != "expected.txt");
    let mut inputs: Vec<PathBuf> = entries(case).into_iter().filter(is_input).collect();
    assert_eq!(inputs.len(), 1, "one input in {}", case.display());
    let path = inputs.remove(0);
    let text = std::fs::read_to_string(&path).unwrap();
    let name = path.file_name().unwrap().to_str().unwrap();
    if name == "input.txt" { SourceFile::inline(text.trim_end_matches('\n')) } else { SourceFile::new(name, text) }
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

fn outcome(result: &Read, source: &SourceFile) -> String {
    let (lab, problems) = match result {
        Ok((lab, warnings)) => (Some(lab), warnings),
        Err(problems) => (None, problems),
    };
    let mut out = String::new();
    for problem in problems {
        writeln!(out, "[{}] {}", problem.code, render(problem, source)).unwrap();
    }
    if let Some(lab) = lab {
        out.push_str(&listing::list(lab));
    }
    out
}

/// A lab that is written as a topology file reads as the same lab.
fn round_trip(case: &str, lab: &Lab) {
    let text = to_yaml(lab);
    let source = SourceFile::new("written.hop.yaml", text.clone());
    let (again, _) = read(&source).unwrap_or_else(|problems| {
        let shown: String = problems.iter().map(|problem| render(problem, &source)).collect();
        panic!("{case}: what was written cannot be read:\n{shown}\n{text}");
    });
    assert_eq!(listing::without_places(&again), listing::without_places(lab), "{case}:\n{text}");
}
