//! Where the lines of `expect` stand.

use hopyard::formats::{self, SourceFile};
use hopyard::model::{Expectation, Lab};
use hopyard::runtime::Running;

use crate::ui::{Ui, quoted};

/// The places of a lab's expectations in the file that it came from.
pub(in crate::commands) struct Places {
    /// Without directories; `None`: it came from no file.
    pub(in crate::commands) file: Option<String>,
    /// By line of `expect`; none if the file says something else by now.
    lines: Vec<Option<usize>>,
}

impl Places {
    /// Where no file says what is expected.
    pub(in crate::commands) fn none() -> Self {
        Places { file: None, lines: Vec::new() }
    }

    /// Says so if the file expects something else by now.
    pub(in crate::commands) fn of(running: &Running, lab: &Lab, ui: &mut Ui) -> Places {
        let path = running.record().source.as_str();
        if formats::looks_inline(path) {
            return Self::none();
        }
        let Ok(text) = std::fs::read_to_string(path) else { return Self::none() };
        let source = SourceFile::new(path, text);
        let Ok((file, _)) = formats::read(&source) else { return Self::none() };
        let words = |lab: &Lab| lab.expectations().iter().map(|it| it.words(lab).to_string()).collect::<Vec<_>>();
        if words(&file) != words(lab) {
            ui.note(format_args!("{path} expects something else by now; `hop up {}` takes it over", quoted(path)));
            return Self::none();
        }
        let line = |it: &Expectation| it.origin.map(|origin| source.position(origin.start).0);
        Places {
            file: source.name().rsplit('/').next().map(str::to_owned),
            lines: file.expectations().iter().map(line).collect(),
        }
    }

    /// `star.hop.yaml:13`, by the line of `expect`.
    pub(in crate::commands) fn of_line(&self, at: usize) -> String {
        match (&self.file, self.line(at)) {
            (Some(file), Some(number)) => format!("{file}:{number}"),
            _ => "expect".to_owned(),
        }
    }

    /// The line in the file, by the line of `expect`.
    pub(in crate::commands) fn line(&self, at: usize) -> Option<usize> {
        self.lines.get(at).copied().flatten()
    }
}
