//! YAML as a tree of values with their places. Knows no key.
//!
//! The parser is the one below serde-saphyr. Through serde a file ends at its first mistake; from
//! the parser's events we keep every value's place, and go on.

use std::collections::HashMap;

use granit_parser::{Event, Parser, ScalarStyle};
use hopyard_model::{Problem, Span, Spanned};

/// No topology nests deeper; a hostile one could nest until the stack ends.
const MAX_DEPTH: usize = 32;

/// How many values aliases may stand for altogether, so that a few lines cannot become gigabytes
/// ("billion laughs").
const MAX_ALIASED: usize = 100_000;

/// A value and its place.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Value {
    pub(super) span: Span,
    pub(super) kind: Kind,
}

/// What a value is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    /// Nothing, `~` or `null`.
    Null,
    /// Text, still without a meaning.
    Scalar(Scalar),
    List(Vec<Value>),
    /// In the order written, every key once.
    Map(Vec<(Spanned<String>, Value)>),
}

/// A piece of text.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Scalar {
    pub(super) text: String,
    /// Written without quotes; only such a one is a number or `true`.
    pub(super) plain: bool,
    /// Where the text begins, if it stands in the source as it is; not where it has escapes or
    /// is folded from several lines.
    pub(super) start: Option<u32>,
}

/// Reads the one document of a text; `None` where a problem says why.
pub(super) fn parse(text: &str, problems: &mut Vec<Problem>) -> Option<Value> {
    let options = granit_parser::options! {
        emit_comments: false,
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH
    };
    let mut builder = Builder { text, stack: Vec::new(), root: None, anchors: HashMap::new(), aliased: 0 };
    let mut documents = 0;
    for next in Parser::new_from_str_with_options(text, options) {
        let (event, place) = match next {
            Ok(next) => next,
            Err(error) => {
                problems.push(syntax(&error, text));
                return None;
            }
        };
        let span = place.byte_range().map_or(Span { start: 0, end: 0 }, |range| span(range.start, range.end));
        if matches!(event, Event::DocumentStart(..)) {
            documents += 1;
            if documents == 2 {
                let message = "a second document begins here; a topology is one document";
                problems.push(Problem::error("bad-yaml", Some(span), message).help("remove the line `---`"));
                return None;
            }
        }
        if let Err(problem) = builder.event(event, span, problems) {
            problems.push(*problem);
            return None;
        }
    }
    if builder.root.is_none() {
        problems
            .push(Problem::error("empty-lab", None, "the file is empty").help("see `hop schema` for what it can say"));
    }
    builder.root
}

/// Where the parser stopped.
fn syntax(error: &granit_parser::ScanError, text: &str) -> Problem {
    let at = error.marker().byte_offset().unwrap_or(text.len()).min(text.len());
    let len = text.get(at..).and_then(|rest| rest.chars().next()).map_or(0, char::len_utf8);
    let said = error.info();
    let problem = Problem::error("bad-yaml", Some(span(at, at + len)), format!("this is no YAML: {said}"));
    if said.contains("tab") {
        problem.help("indent with spaces")
    } else if said.contains("mapping values are not allowed") {
        problem.help(
            "put the value in quotes, or begin the key on a line of its own with the same indentation as the others",
        )
    } else {
        problem
    }
}

/// The tree as far as it is made.
struct Builder<'t> {
    text: &'t str,
    /// Collections that are open, from the outermost.
    stack: Vec<Open>,
    root: Option<Value>,
    /// Finished values that have an anchor, with how many values each is.
    anchors: HashMap<usize, (Value, usize)>,
    aliased: usize,
}

/// A collection that is not yet complete.
struct Open {
    span: Span,
    anchor: usize,
    /// How many values it is, with all that is in it.
    size: usize,
    items: Items,
}

enum Items {
    List(Vec<Value>),
    Map {
        entries: Vec<(Spanned<String>, Value)>,
        seen: HashMap<String, Span>,
        /// The key that waits for its value.
        key: Key,
    },
}

/// What a mapping waits for.
enum Key {
    /// A key.
    Wanted,
    /// The value of this one.
    Of(Spanned<String>),
    /// A value that is dropped, because its key is wrong.
    Dropped,
}

type Fatal = Box<Problem>;

impl Builder<'_> {
    fn event(&mut self, event: Event<'_>, span: Span, problems: &mut Vec<Problem>) -> Result<(), Fatal> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                refuse_tag(tag.is_some(), span, problems);
                self.finished(self.scalar(&text, style, span), anchor, 1, problems);
            }
            Event::SequenceStart(_, anchor, tag) => {
                refuse_tag(tag.is_some(), span, problems);
                self.open(span, anchor, Items::List(Vec::new()))?;
            }
            Event::MappingStart(_, anchor, tag) => {
                refuse_tag(tag.is_some(), span, problems);
                let items = Items::Map { entries: Vec::new(), seen: HashMap::new(), key: Key::Wanted };
                self.open(span, anchor, items)?;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(open) = self.stack.pop() {
                    let kind = match open.items {
                        Items::List(list) => Kind::List(list),
                        Items::Map { entries, .. } => Kind::Map(entries),
                    };
                    let mut whole = Span { start: open.span.start, end: span.end.max(open.span.end) };
                    // A block ends where the next thing begins; what it covers ends with its last line.
                    let covered = self.text.get(whole.start as usize..whole.end as usize).unwrap_or_default();
                    whole.end = whole.start + u32::try_from(covered.trim_end().len()).unwrap_or_default();
                    self.finished(Value { span: whole, kind }, open.anchor, open.size, problems);
                }
            }
            Event::Alias(anchor) => {
                let Some((value, size)) = self.anchors.get(&anchor) else {
                    return Err(Box::new(Problem::error(
                        "bad-yaml",
                        Some(span),
                        "this alias stands within its own anchor",
                    )));
                };
                let (value, size) = (value.clone(), *size);
                self.aliased += size;
                if self.aliased > MAX_ALIASED {
                    let message = format!("the aliases of this file stand for more than {MAX_ALIASED} values");
                    return Err(Box::new(Problem::error("bad-yaml", Some(span), message)));
                }
                self.finished(value, 0, size, problems);
            }
            _ => {}
        }
        Ok(())
    }

    fn scalar(&self, text: &str, style: ScalarStyle, span: Span) -> Value {
        let raw = self.text.get(span.start as usize..span.end as usize).unwrap_or_default();
        let plain = style == ScalarStyle::Plain;
        if plain && (raw.is_empty() || matches!(raw, "~" | "null" | "Null" | "NULL")) {
            return Value { span, kind: Kind::Null };
        }
        let start = match style {
            ScalarStyle::Plain if raw == text => Some(span.start),
            ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted
                if raw.get(1..raw.len().saturating_sub(1)) == Some(text) =>
            {
                Some(span.start + 1)
            }
            _ => None,
        };
        Value { span, kind: Kind::Scalar(Scalar { text: text.to_owned(), plain, start }) }
    }

    fn open(&mut self, span: Span, anchor: usize, items: Items) -> Result<(), Fatal> {
        // The scanner counts flow and block separately.
        if self.stack.len() == MAX_DEPTH {
            let message = format!("more than {MAX_DEPTH} collections stand within each other");
            return Err(Box::new(Problem::error("bad-yaml", Some(span), message)));
        }
        self.stack.push(Open { span, anchor, size: 1, items });
        Ok(())
    }

    /// Puts a complete value where it belongs.
    fn finished(&mut self, value: Value, anchor: usize, size: usize, problems: &mut Vec<Problem>) {
        if anchor > 0 {
            self.anchors.insert(anchor, (value.clone(), size));
        }
        let Some(open) = self.stack.last_mut() else {
            self.root = Some(value);
            return;
        };
        open.size += size;
        match &mut open.items {
            Items::List(list) => list.push(value),
            Items::Map { entries, seen, key } => match std::mem::replace(key, Key::Wanted) {
                Key::Wanted => *key = read_key(value, seen, problems),
                Key::Of(key) => entries.push((key, value)),
                Key::Dropped => {}
            },
        }
    }
}

fn read_key(value: Value, seen: &mut HashMap<String, Span>, problems: &mut Vec<Problem>) -> Key {
    let text = match value.kind {
        Kind::Scalar(scalar) => scalar.text,
        Kind::Null => {
            problems.push(Problem::error("bad-yaml", Some(value.span), "a key is empty"));
            return Key::Dropped;
        }
        Kind::List(_) | Kind::Map(_) => {
            problems.push(Problem::error("bad-yaml", Some(value.span), "a key must be text, not a collection"));
            return Key::Dropped;
        }
    };
    if let Some(first) = seen.get(&text) {
        problems.push(
            Problem::error("duplicate-key", Some(value.span), format!("key `{text}` stands here twice"))
                .also(Some(*first), "the first"),
        );
        return Key::Dropped;
    }
    seen.insert(text.clone(), value.span);
    Key::Of(Spanned::at(text, value.span))
}

fn refuse_tag(tagged: bool, at: Span, problems: &mut Vec<Problem>) {
    if tagged {
        let problem = Problem::error("bad-yaml", Some(at), "this value has a tag, which means nothing here");
        problems.push(problem.help("remove the `!…` before it; to keep a value text, put it in quotes"));
    }
}

fn span(start: usize, end: usize) -> Span {
    let clamp = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
    Span { start: clamp(start), end: clamp(end) }
}
