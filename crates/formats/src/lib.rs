//! Text to lab and back: the topology file, the inline form, generators, importers.
//!
//! Every reader makes a [`LabDoc`] in which each value knows its place, and the list of what it
//! could not read or carry over; the model then says what else is wrong, and [`render`] shows each
//! [`Problem`] with the line that it is about.
//!
//! Pure. Reads no file: the caller brings the text, as a [`SourceFile`].
//!
//! The problems of reading, beside those of [`LabDoc::resolve`]:
//!
//! | code | what it says |
//! |---|---|
//! | `not-utf8`, `too-long` | a file that cannot be a text of ours |
//! | `bad-yaml`, `bad-xml`, `bad-graphml` | a text that is not of its format, or does more than we read |
//! | `empty-lab` | a text that names no node |
//! | `duplicate-key`, `unknown-key` | a key that stands twice, or that nothing has |
//! | `bad-type`, `bad-link` | a value of the wrong shape, a link that joins no two ends |
//! | `unknown-generator`, `bad-generator` | `NAME:ARGUMENTS` of which nothing can be made |
//! | `doctype`, `entity` (warnings) | what XML could expand and we do not |
//! | `renamed`, `no-label` (warnings) | names that are not those of the file |
//! | `unused-data`, `ports`, `directed`, `nested-graph`, `several-graphs` (warnings) | what a lab has no room for |
//! | `self-loop`, `dangling-edge`, `duplicate-id` (warnings) | edges that are left out, or lead elsewhere |
//! | `hyperedge` (warning) | a hyperedge that could not become a switch |
//! | `not-a-recording`, `later-version`, `bad-version`, `bad-recording` | a recording that cannot be read |
//! | `no-coordinates`, `isolated`, `disconnected` (warnings) | what is missing in the file itself |
#![forbid(unsafe_code)]

mod generate;
mod import;
mod inline;
mod lab_name;
mod links;
pub mod recording;
mod render;
mod source;
mod yaml;

use hopyard_model::{Lab, LabDoc, Problem};

pub use generate::{GENERATORS, Generator};
pub use import::{IMPORTERS, Importer};
pub use inline::{inline, looks_inline};
pub use render::{Style, render, render_with};
pub use source::SourceFile;
pub use yaml::{schema, to_yaml};

/// A text as it was read, before it is a lab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// What it says, as far as it could be read.
    pub doc: LabDoc,
    /// What could not be read or carried over.
    pub problems: Vec<Problem>,
}

/// The lab that a file describes, with warnings. The format is recognised by name and content.
///
/// # Errors
/// All problems, errors and warnings, in the order of their places.
pub fn read(source: &SourceFile) -> Result<(Lab, Vec<Problem>), Vec<Problem>> {
    let Parsed { doc, problems } = parse(source);
    finish(&doc, problems)
}

/// What a file says, before it is checked as a whole. The format is recognised by name and content.
pub fn parse(source: &SourceFile) -> Parsed {
    // Places are 32 bits wide, and a hundred thousand nodes are a few megabytes.
    if source.text().len() > MAX_TEXT {
        let message = format!("the file has {} bytes; allowed are {MAX_TEXT}", source.text().len());
        return Parsed { doc: LabDoc::default(), problems: vec![Problem::error("too-long", None, message)] };
    }
    let importer = IMPORTERS.iter().find(|importer| importer.recognises(source));
    let (mut doc, problems) = match importer {
        Some(importer) => importer.import(source),
        None => yaml::read(source),
    };
    if doc.name.is_none() && doc != LabDoc::default() {
        doc.name = Some(lab_name::from_path(source.name()).into());
    }
    Parsed { doc, problems }
}

/// The longest text that is read.
const MAX_TEXT: usize = 64 << 20;

/// Resolves what was read, and adds what reading it found.
fn finish(doc: &LabDoc, mut problems: Vec<Problem>) -> Result<(Lab, Vec<Problem>), Vec<Problem>> {
    let unreadable = problems.iter().any(Problem::is_error);
    // Of a text that says nothing there is nothing more to be said than why it could not be read.
    if unreadable && *doc == LabDoc::default() {
        return Err(problems);
    }
    if !unreadable && doc.nodes.is_empty() && doc.switches.is_empty() && doc.links.is_empty() {
        problems.push(
            Problem::error("empty-lab", None, "there is no node in it")
                .help("write links, as in `links:` with `  - home -- near` below it"),
        );
        return Err(problems);
    }
    let lab = match doc.resolve() {
        Ok((lab, warnings)) => {
            problems.extend(warnings);
            Some(lab)
        }
        Err(errors) => {
            problems.extend(errors);
            None
        }
    };
    hopyard_model::sort_by_place(&mut problems);
    match lab {
        Some(lab) if !unreadable => Ok((lab, problems)),
        _ => Err(problems),
    }
}
