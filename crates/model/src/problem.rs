//! What is wrong with a topology, and where.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A range of bytes in the text of a topology.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Span {
    /// The first byte.
    pub start: u32,
    /// The byte behind the last.
    pub end: u32,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The topology cannot be used.
    Error,
    /// It can, but not all of it means what it seems to.
    Warning,
}

/// A stable name for a kind of problem, in kebab-case: `unknown-node`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Code(pub &'static str);

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.0)
    }
}

/// Something that is wrong, or was lost, in a topology.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// How bad.
    pub severity: Severity,
    /// Which kind.
    pub code: Code,
    /// One line: lower case, no final period, names in backticks, what was given and what is allowed.
    pub message: String,
    /// Where; `None` when no place in the text is at fault.
    pub at: Option<Span>,
    /// Other places that matter, each with a few words.
    pub also: Vec<(Span, String)>,
    /// The way out.
    pub help: Option<String>,
}

impl Problem {
    /// A problem that makes the topology unusable.
    pub fn error(code: &'static str, at: Option<Span>, message: impl Into<String>) -> Self {
        Problem {
            severity: Severity::Error,
            code: Code(code),
            message: message.into(),
            at,
            also: Vec::new(),
            help: None,
        }
    }

    /// Something to know.
    pub fn warning(code: &'static str, at: Option<Span>, message: impl Into<String>) -> Self {
        Problem { severity: Severity::Warning, ..Problem::error(code, at, message) }
    }

    /// Names another place that matters.
    pub fn also(mut self, at: Option<Span>, note: impl Into<String>) -> Self {
        if let Some(at) = at {
            self.also.push((at, note.into()));
        }
        self
    }

    /// Adds the way out.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Is it an error?
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// In the order of the text, each once; what has no place comes last, in the order in which it was found.
pub fn sort_by_place(problems: &mut Vec<Problem>) {
    problems.sort_by_key(|problem| problem.at.map_or((u32::MAX, u32::MAX), |at| (at.start, at.end)));
    // Two links of one mistyped line may say the same of it.
    problems.dedup();
}
