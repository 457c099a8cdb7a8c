//! A problem as a person reads it: what, where with the line itself, and the way out.

use std::fmt::Write;
use std::ops::Range;

use hopyard_model::{Problem, Severity, Span};
use unicode_width::UnicodeWidthChar;

use crate::SourceFile;

/// A longer line of the source is shown in part, in this many columns.
const COLUMNS: usize = 100;

/// How much of the line is shown before the place at fault, where the line is long.
const LEAD: usize = 30;

/// A longer message is cut: it quotes a hostile name.
const MESSAGE: usize = 600;

/// What is written before and after the parts of a rendered problem: escape sequences, or nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// Before `error`, and the marks under what is at fault.
    pub error: &'static str,
    /// Before `warning`, and its marks.
    pub warning: &'static str,
    /// Before `help`.
    pub help: &'static str,
    /// Before the message.
    pub message: &'static str,
    /// Before line numbers and the marks of other places.
    pub frame: &'static str,
    /// After each of them.
    pub reset: &'static str,
}

impl Style {
    /// No escape sequences at all.
    pub const PLAIN: Style = Style { error: "", warning: "", help: "", message: "", frame: "", reset: "" };

    /// The colours of rustc, in the sixteen that every terminal has.
    pub const ANSI: Style = Style {
        error: "\x1b[1;31m",
        warning: "\x1b[1;33m",
        help: "\x1b[1;36m",
        message: "\x1b[1m",
        frame: "\x1b[1;34m",
        reset: "\x1b[0m",
    };
}

/// The problem as plain text; ends with a line feed.
///
/// Nothing of the source reaches a terminal that could command it: control characters and those
/// that turn the direction of writing are replaced.
pub fn render(problem: &Problem, source: &SourceFile) -> String {
    render_with(problem, source, &Style::PLAIN)
}

/// The problem as text in a style; ends with a line feed.
pub fn render_with(problem: &Problem, source: &SourceFile, style: &Style) -> String {
    let (word, colour) = match problem.severity {
        Severity::Error => ("error", style.error),
        Severity::Warning => ("warning", style.warning),
    };
    let Style { help, message, frame, reset, .. } = style;
    let mut out = String::new();
    // Writing to a string cannot fail.
    let mut line = |text: String| {
        out.push_str(text.trim_end_matches(' '));
        out.push('\n');
    };
    line(format!("{colour}{word}{reset}{message}: {}{reset}", clean(&problem.message)));

    let places = || problem.at.iter().chain(problem.also.iter().map(|(at, _)| at));
    let gutter = places().map(|at| source.position(at.start).0).max().map_or(1, |line| line.to_string().len());
    match problem.at {
        Some(at) => {
            let (row, column) = source.position(at.start);
            line(format!("{:gutter$}{frame}-->{reset} {}:{row}:{column}", "", clean(source.name())));
            snippet(source, at, ('^', colour), "", gutter, style, &mut line);
        }
        // What was typed on the spot has no other place than there.
        None if source.name() == SourceFile::INLINE => {}
        // A text without a place to show is still a certain file.
        None => line(format!("{:gutter$}{frame}-->{reset} {}", "", clean(source.name()))),
    }
    for (at, note) in &problem.also {
        snippet(source, *at, ('-', frame), note, gutter, style, &mut line);
    }
    if let Some(text) = &problem.help {
        line(format!("{help}help{reset}: {}", clean(text)));
    }
    out
}

/// A line of the source with marks under the place.
fn snippet(
    source: &SourceFile,
    at: Span,
    (mark, colour): (char, &str),
    note: &str,
    gutter: usize,
    style: &Style,
    line: &mut dyn FnMut(String),
) {
    let Style { frame, reset, .. } = style;
    let (row, range) = source.in_first_line(at);
    let shown = Shown::of(source.line_text(row), range);
    line(format!("{frame}{row:>gutter$} |{reset} {}", shown.text));
    let mut marks = format!("{:gutter$} {frame}|{reset} {:skip$}{colour}", "", "", skip = shown.marked.start);
    marks.extend(std::iter::repeat_n(mark, shown.marked.len().max(1)));
    if !note.is_empty() {
        marks.push(' ');
        marks.push_str(&clean(note));
    }
    marks.push_str(reset);
    line(marks);
}

/// A line as it is shown, and the columns in it that are marked.
struct Shown {
    text: String,
    marked: Range<usize>,
}

impl Shown {
    /// Looks only at what it shows: a file of one line of megabytes can have thousands of problems.
    fn of(line: &str, place: Range<usize>) -> Shown {
        let fits = line.chars().try_fold(0, |sum, c| Some(sum + width(c)).filter(|sum| *sum <= COLUMNS)).is_some();
        let (before, _) = line.split_at(place.start);
        let mut from = 0;
        if !fits {
            let mut lead = 0;
            for (at, c) in before.char_indices().rev() {
                lead += width(c);
                if lead > LEAD {
                    from = at + c.len_utf8();
                    break;
                }
            }
        }
        let mut shown = Shown { text: String::new(), marked: 0..0 };
        let mut column = 0;
        if from > 0 {
            shown.text.push('…');
            column = 1;
        }
        let (mut start, mut end) = (None, 0);
        for (at, c) in line[from..].char_indices().map(|(at, c)| (from + at, c)) {
            if column + width(c) > COLUMNS {
                shown.text.push('…');
                break;
            }
            if at >= place.start && start.is_none() {
                start = Some(column);
            }
            push(c, &mut shown.text);
            column += width(c);
            if at < place.end {
                end = column;
            }
        }
        let start = start.unwrap_or(column);
        shown.marked = start..end.max(start);
        shown
    }
}

/// Writes a character as it is shown.
fn push(c: char, out: &mut String) {
    match c {
        '\t' => out.push_str("    "),
        c if is_harmful(c) => out.push('\u{fffd}'),
        c => out.push(c),
    }
}

/// In how many columns it is shown.
fn width(c: char) -> usize {
    match c {
        '\t' => 4,
        c if is_harmful(c) => 1,
        c => c.width().unwrap_or(0),
    }
}

/// Can it do more to a terminal than be seen? Controls, and what turns the direction of writing.
fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// One line of text for a terminal.
fn clean(text: &str) -> String {
    let mut out = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == MESSAGE {
            out.push('…');
            break;
        }
        if is_harmful(c) {
            // What it was can matter here: the message is about it.
            write!(out, "{}", c.escape_unicode()).unwrap_or_default();
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, place: &str, expected: &str) {
        let start = u32::try_from(text.find(place).unwrap()).unwrap();
        let at = Span { start, end: start + u32::try_from(place.len()).unwrap() };
        let source = SourceFile::new("x.hop.yaml", text);
        let problem = Problem::error("x", Some(at), "it is wrong");
        assert_eq!(render(&problem, &source), expected);
    }

    #[test]
    fn the_place_is_marked() {
        check(
            "a\n  - home -- nera\n",
            "nera",
            "error: it is wrong\n --> x.hop.yaml:2:13\n2 |   - home -- nera\n  |             ^^^^\n",
        );
    }

    #[test]
    fn marks_stand_under_wide_letters_and_tabs() {
        check("\té北x", "x", "error: it is wrong\n --> x.hop.yaml:1:4\n1 |     é北x\n  |        ^\n");
        check("\té北x", "北", "error: it is wrong\n --> x.hop.yaml:1:3\n1 |     é北x\n  |      ^^\n");
    }

    #[test]
    fn a_long_line_is_shown_in_part() {
        let text = format!("{}HERE{}", "a".repeat(500), "b".repeat(500));
        let start = 500;
        let problem = Problem::warning("x", Some(Span { start, end: start + 4 }), "it is wrong");
        let shown = render(&problem, &SourceFile::new("x", text));
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[2], format!("1 | …{}HERE{}…", "a".repeat(30), "b".repeat(65)));
        assert_eq!(lines[3], format!("  | {}^^^^", " ".repeat(31)));
    }

    #[test]
    fn a_hostile_file_cannot_command_the_terminal() {
        let text = "a: \x1b[2J\u{202e}x\r";
        let problem = Problem::error("x", Some(Span { start: 3, end: 4 }), "`\x1b[2J\n` is wrong").help("\x07");
        let shown = render(&problem, &SourceFile::new("\x1b]0;x", text));
        assert!(!shown.contains(|c: char| c != '\n' && is_harmful(c)), "{shown:?}");
        assert!(shown.contains("`\\u{1b}[2J\\u{a}` is wrong"), "{shown}");
    }

    #[test]
    fn other_places_and_the_way_out_are_shown() {
        let source = SourceFile::new("x", "one\ntwo\n");
        let problem = Problem::error("x", Some(Span { start: 4, end: 7 }), "it is wrong")
            .also(Some(Span { start: 0, end: 3 }), "first here")
            .help("do not");
        assert_eq!(
            render(&problem, &source),
            "error: it is wrong\n --> x:2:1\n2 | two\n  | ^^^\n1 | one\n  | --- first here\nhelp: do not\n"
        );
        let shown = render(&Problem::error("x", None, "it is wrong"), &source);
        assert_eq!(shown, "error: it is wrong\n --> x\n");
    }
}
