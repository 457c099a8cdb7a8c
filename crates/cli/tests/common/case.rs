//! The cases of `crates/explain/corpus`: a network, what breaks it, and what is asked. `corpus.rs` says how one is
//! written.

use std::path::{Path, PathBuf};

use super::{Place, text, unique};

/// One of them.
pub(crate) struct Case {
    pub(crate) dir: PathBuf,
    /// Its lab; empty: it was recorded elsewhere, and is only read.
    pub(crate) lab: String,
    /// Node and command.
    breaks: Vec<(String, String)>,
    /// As for `hop why`.
    pub(crate) question: Vec<String>,
}

impl Case {
    pub(crate) fn all() -> Vec<Case> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../explain/corpus");
        let dirs = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
        let mut dirs: Vec<PathBuf> = dirs.filter(|path| path.is_dir()).collect();
        dirs.sort();
        assert!(dirs.len() > 30, "the corpus is not all there: {}", dirs.len());
        dirs.into_iter().map(Case::read).collect()
    }

    fn read(dir: PathBuf) -> Case {
        let mut case = Case { lab: String::new(), breaks: Vec::new(), question: Vec::new(), dir };
        let text = std::fs::read_to_string(case.dir.join("case.txt")).unwrap();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (key, value) = line.split_once(": ").unwrap_or_else(|| panic!("{}: {line}", case.name()));
            match key {
                "lab" => value.clone_into(&mut case.lab),
                "why" => {
                    let mut words = value.split_whitespace().map(ToOwned::to_owned);
                    case.question = words.by_ref().take(2).collect();
                    case.question.extend(words.flat_map(|bytes| ["--size".to_owned(), bytes]));
                }
                node => case.breaks.push((node.to_owned(), value.to_owned())),
            }
        }
        case
    }

    pub(crate) fn name(&self) -> String {
        self.dir.file_name().unwrap().display().to_string()
    }

    /// Makes the network, and breaks it.
    pub(crate) fn bring_up(&self, place: &Place) {
        let file = self.dir.parent().unwrap().join(format!("{}.hop.yaml", self.lab));
        place.hop(&["up", &file.display().to_string(), "--name", &unique("corpus")]);
        for (node, command) in &self.breaks {
            place.hop(&["exec", node, "--", "sh", "-c", command]);
        }
    }

    /// Asks, with a packet.
    pub(crate) fn live(&self, place: &Place) -> serde_json::Value {
        let question: Vec<&str> = self.question.iter().map(String::as_str).collect();
        let output = place.output(&[&["why", "--json"], &question[..]].concat());
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}: {}", self.name(), text(&output.stderr)))
    }
}
