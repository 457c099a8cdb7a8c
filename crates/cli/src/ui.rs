//! What the program prints, and where.

use std::fmt;
use std::io::{self, Write};

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use serde::Serialize;

use crate::error::CliError;

/// The two streams of the program.
pub(crate) struct Ui {
    out: AutoStream<io::StdoutLock<'static>>,
    err: AutoStream<io::Stderr>,
    buffer: String,
    /// Why an earlier part of the result could not be written.
    failed: Option<CliError>,
}

/// Bold red: what stops.
pub(crate) const ERROR: Style = AnsiColor::Red.on_default().bold();
/// Bold yellow: what should be known.
pub(crate) const WARNING: Style = AnsiColor::Yellow.on_default().bold();
/// Bold cyan: the way out.
pub(crate) const HINT: Style = AnsiColor::Cyan.on_default().bold();
/// Green: as it should be.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();

impl Ui {
    pub(crate) fn new(color: clap::ColorChoice) -> Self {
        let choice = match color {
            clap::ColorChoice::Auto => ColorChoice::Auto,
            clap::ColorChoice::Always => ColorChoice::Always,
            clap::ColorChoice::Never => ColorChoice::Never,
        };
        let out = AutoStream::new(io::stdout().lock(), choice);
        Ui { out, err: AutoStream::new(io::stderr(), choice), buffer: String::new(), failed: None }
    }

    /// A line of the result, on standard output.
    pub(crate) fn line(&mut self, text: impl fmt::Display) -> Result<(), CliError> {
        use fmt::Write as _;
        // Writing to a String cannot fail.
        writeln!(self.buffer, "{text}").ok();
        if self.buffer.len() > 32 << 10 { self.flush() } else { Ok(()) }
    }

    /// Text of the result as it is, on standard output.
    pub(crate) fn text(&mut self, text: &str) -> Result<(), CliError> {
        self.buffer.push_str(text);
        self.flush()
    }

    /// The result as JSON.
    pub(crate) fn json(&mut self, value: &(impl Serialize + ?Sized)) -> Result<(), CliError> {
        let text = serde_json::to_string_pretty(value).map_err(|error| CliError::failure(error.to_string()))?;
        self.line(text)
    }

    /// Writes out what is left; the last thing before the program ends or runs another.
    pub(crate) fn finish(&mut self) -> Result<(), CliError> {
        self.failed.take().map_or_else(|| self.flush(), Err)
    }

    fn flush(&mut self) -> Result<(), CliError> {
        let written = self.out.write_all(self.buffer.as_bytes()).and_then(|()| self.out.flush());
        self.buffer.clear();
        written.map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => CliError::BrokenPipe,
            _ => CliError::failure(format!("cannot write to standard output: {error}")),
        })
    }

    /// A message beside the result, on standard error.
    pub(crate) fn note(&mut self, text: impl fmt::Display) {
        // What was printed before comes before; if it could not be, that is told when the program ends.
        if let Err(error) = self.flush() {
            self.failed.get_or_insert(error);
        }
        // Where standard error cannot be written to, nobody can be told.
        writeln!(self.err, "{text}").ok();
    }

    /// What may not be as it should be, though the command goes on.
    pub(crate) fn warn(&mut self, text: impl fmt::Display) {
        self.note(format_args!("{WARNING}warning{WARNING:#}: {text}"));
    }

    /// A way out.
    pub(crate) fn hint(&mut self, text: impl fmt::Display) {
        self.note(format_args!("{HINT}hint{HINT:#}: {text}"));
    }
}

/// As a shell takes it for one word.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '/' | ':' | '+' | '@');
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// A text of a user's in a table: what would break its lines, or steer a terminal, is written as in a program.
pub(crate) fn on_one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
}
