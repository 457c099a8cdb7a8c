//! Every file of the Internet Topology Zoo that is at hand becomes a lab.
#![expect(clippy::disallowed_methods, reason = "the tests of a pure crate bring the files")]

mod listing;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use hopyard_formats::{SourceFile, read, render};
use hopyard_model::Problem;

#[test]
fn every_file_of_the_zoo_becomes_a_lab() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = std::env::var_os("HOPYARD_ZOO").map_or_else(|| here.join("../../../shared/zoo"), PathBuf::from);
    let Ok(entries) = std::fs::read_dir(&folder) else {
        eprintln!("skipped: there is no zoo in {}; HOPYARD_ZOO says where it is", folder.display());
        return;
    };
    let is_graphml = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "graphml");
    let files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).filter(is_graphml).collect();
    for path in &files {
        let name = path.file_name().unwrap().to_str().unwrap();
        let source = SourceFile::from_bytes(name, &std::fs::read(path).unwrap()).unwrap();
        let (lab, warnings) = read(&source).unwrap_or_else(|problems| {
            panic!("{}", problems.iter().map(|problem| render(problem, &source)).collect::<String>());
        });
        let text = source.text();
        let lost = |code: &str| warnings.iter().filter(|problem: &&Problem| problem.code.0 == code).count();

        // Nodes and edges are counted without the reader under test.
        assert_eq!(lab.nodes().len() + lab.switches().len(), text.matches("<node ").count(), "{name}: nodes");
        let dropped = lost("self-loop") + lost("dangling-edge");
        assert_eq!(lab.links().len() + dropped, text.matches("<edge ").count(), "{name}: links");

        let names = lab.nodes().iter().map(|node| &node.name).chain(lab.switches().iter().map(|switch| &switch.name));
        let distinct: BTreeSet<String> = names.map(|name| name.as_str().to_ascii_lowercase()).collect();
        assert_eq!(distinct.len(), lab.nodes().len() + lab.switches().len(), "{name}: names");
        assert_eq!(lab.name().as_str(), name.trim_end_matches(".graphml"));
    }
    eprintln!("{} files of the zoo became labs", files.len());
    assert!(!files.is_empty(), "no file in {}", folder.display());
}
