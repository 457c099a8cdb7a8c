//! Files that other programs made.
//!
//! What an importer cannot carry over is a problem with a place, never silence. A new one is a
//! file here and a line in [`IMPORTERS`].

mod graphml;
mod names;
mod xml;

use hopyard_model::{LabDoc, Problem};

use crate::SourceFile;

/// A reader of a foreign format.
#[derive(Clone, Copy, Debug)]
pub struct Importer {
    /// What the format is called.
    pub name: &'static str,
    /// What it is, in a line.
    pub about: &'static str,
    recognise: fn(&SourceFile) -> bool,
    import: fn(&SourceFile) -> (LabDoc, Vec<Problem>),
}

/// Every importer. Whatever none of them recognises is read as a topology file.
pub const IMPORTERS: &[Importer] = &[graphml::IMPORTER];

impl Importer {
    /// Is this file of its format, by name or content?
    pub fn recognises(&self, source: &SourceFile) -> bool {
        (self.recognise)(source)
    }

    /// What the file says, and what of it was lost.
    pub(crate) fn import(&self, source: &SourceFile) -> (LabDoc, Vec<Problem>) {
        (self.import)(source)
    }
}
