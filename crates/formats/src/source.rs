//! A text with a name, and the lines in it.

use hopyard_model::{Problem, Span};

/// The text of a topology and where it comes from. The caller reads the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFile {
    name: String,
    text: String,
    /// The first byte of each line.
    lines: Vec<usize>,
}

impl SourceFile {
    /// What a text is called that is no file.
    pub const INLINE: &str = "<inline>";

    /// A text, and the path that it was read from.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        let text = text.into();
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        SourceFile { name: name.into(), text, lines }
    }

    /// The same from the bytes of a file.
    ///
    /// They are UTF-8, with or without a byte order mark; or, where an XML declaration says so,
    /// ISO 8859-1 as old tools wrote it.
    ///
    /// # Errors
    /// The first byte that is no UTF-8; its place is in what [`String::from_utf8_lossy`] makes of the bytes.
    pub fn from_bytes(name: impl Into<String>, bytes: &[u8]) -> Result<Self, Problem> {
        let valid = match std::str::from_utf8(bytes) {
            Ok(text) => return Ok(SourceFile::new(name, text)),
            Err(error) => error.valid_up_to(),
        };
        let declaration: String = bytes.iter().take(200).map(|byte| char::from(*byte).to_ascii_lowercase()).collect();
        if declaration.starts_with("<?xml") && declaration.contains("\"iso-8859-1\"") {
            // Its 256 characters are the first 256 of Unicode.
            return Ok(SourceFile::new(name, bytes.iter().map(|byte| char::from(*byte)).collect::<String>()));
        }
        let at = u32::try_from(valid).unwrap_or(u32::MAX);
        let message =
            format!("byte {valid} is 0x{:02x}, which is no UTF-8", bytes.get(valid).copied().unwrap_or_default());
        Err(Problem::error("not-utf8", Some(Span { start: at, end: at.saturating_add(1) }), message)
            .help("save the file as UTF-8"))
    }

    /// A text that was given as an argument.
    pub fn inline(text: impl Into<String>) -> Self {
        SourceFile::new(Self::INLINE, text)
    }

    /// The path, or `<inline>`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The whole text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Line and column of a byte, both from 1; the column counts characters.
    ///
    /// Behind the end of the text it is the end.
    pub fn position(&self, offset: u32) -> (usize, usize) {
        let offset = self.clamp(offset);
        let line = self.lines.partition_point(|start| *start <= offset);
        let start = self.lines.get(line - 1).copied().unwrap_or_default();
        let before = self.text.get(start..offset).unwrap_or_default();
        (line, before.chars().count() + 1)
    }

    /// The byte at a line and a column, both from 1; the column counts bytes, as a reader of JSON does.
    /// Beyond the end of the line or the text it is the end.
    pub(crate) fn offset(&self, line: usize, column: usize) -> u32 {
        let start = line.checked_sub(1).and_then(|at| self.lines.get(at)).copied().unwrap_or(self.text.len());
        let within = column.saturating_sub(1).min(self.line_text(line).len());
        u32::try_from(start + within).unwrap_or(u32::MAX)
    }

    /// A line without its end; the first is 1.
    pub fn line_text(&self, line: usize) -> &str {
        let start = line.checked_sub(1).and_then(|at| self.lines.get(at));
        let Some(&start) = start else { return "" };
        let end = self.lines.get(line).copied().unwrap_or(self.text.len());
        self.text.get(start..end).unwrap_or_default().trim_end_matches(['\n', '\r'])
    }

    /// The piece of its first line that a range covers, as bytes of that line.
    pub(crate) fn in_first_line(&self, span: Span) -> (usize, std::ops::Range<usize>) {
        let (line, _) = self.position(span.start);
        let first = self.lines.get(line - 1).copied().unwrap_or_default();
        let len = self.line_text(line).len();
        let start = (self.clamp(span.start) - first).min(len);
        let end = self.clamp(span.end.max(span.start)).saturating_sub(first).clamp(start, len);
        (line, start..end)
    }

    /// An offset in the text, at the beginning of a character.
    fn clamp(&self, offset: u32) -> usize {
        let mut at = usize::try_from(offset).unwrap_or(usize::MAX).min(self.text.len());
        while !self.text.is_char_boundary(at) {
            at -= 1;
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_utf8_or_declared_latin1() {
        assert_eq!(SourceFile::from_bytes("x", "é".as_bytes()).unwrap().text(), "é");
        let latin = b"<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?><a>\xe9</a>";
        assert!(SourceFile::from_bytes("x", latin).unwrap().text().ends_with("<a>é</a>"));
        let problem = SourceFile::from_bytes("x", b"ab\xff").unwrap_err();
        assert_eq!(problem.message, "byte 2 is 0xff, which is no UTF-8");
    }

    #[test]
    fn a_position_counts_characters() {
        let source = SourceFile::new("x", "ab\r\ncé d\n");
        assert_eq!(source.position(0), (1, 1));
        assert_eq!(source.position(4), (2, 1));
        assert_eq!(source.position(7), (2, 3));
        assert_eq!(source.position(6), (2, 2), "within a character: its beginning");
        assert_eq!(source.position(9), (2, 5));
        assert_eq!(source.position(u32::MAX), (3, 1));
        assert_eq!((source.line_text(1), source.line_text(2), source.line_text(3)), ("ab", "cé d", ""));
        assert_eq!((source.line_text(0), source.line_text(9)), ("", ""));
    }
}
