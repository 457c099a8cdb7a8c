//! XML as a tree of elements with their places. Knows no format.

use std::collections::BTreeSet;

use hopyard_model::{Problem, Span};
use quick_xml::Reader;
use quick_xml::escape::{resolve_predefined_entity, unescape};
use quick_xml::events::{BytesStart, Event};

/// No file that we import nests deeper; a hostile one could nest until the stack ends.
const MAX_DEPTH: usize = 64;

/// An element.
#[derive(Debug, Default)]
pub(super) struct Element {
    /// Its name without a namespace prefix.
    pub(super) name: String,
    attributes: Vec<(String, String)>,
    /// All text directly in it.
    pub(super) text: String,
    pub(super) children: Vec<Element>,
    /// Its start tag.
    pub(super) span: Option<Span>,
}

impl Element {
    /// The value of an attribute.
    pub(super) fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// Its children of that name.
    pub(super) fn named<'e>(&'e self, name: &'e str) -> impl Iterator<Item = &'e Element> {
        self.children.iter().filter(move |child| child.name == name)
    }
}

/// Reads the one element that a document is; `None` where a problem says why.
///
/// Entities are never expanded but for XML's own five: a document that defines others says so in
/// vain, so none can grow to gigabytes or name a file.
pub(super) fn parse(text: &str, problems: &mut Vec<Problem>) -> Option<Element> {
    let marked = text.strip_prefix('\u{feff}').unwrap_or(text);
    let base = text.len() - marked.len();
    let mut reader = Reader::from_str(marked);
    let mut stack: Vec<Element> = Vec::new();
    let mut root = None;
    let mut foreign: Option<(Option<Span>, BTreeSet<String>)> = None;
    loop {
        let start = position(reader.buffer_position(), base);
        let event = match reader.read_event() {
            Ok(event) => event,
            Err(error) => {
                let at = position(reader.error_position(), base);
                problems.push(Problem::error("bad-xml", span(at, at + 1), format!("this is no XML: {error}")));
                return None;
            }
        };
        let place = span(start, position(reader.buffer_position(), base));
        match event {
            Event::Start(tag) => {
                if stack.len() == MAX_DEPTH {
                    let message = format!("more than {MAX_DEPTH} elements stand within each other");
                    problems.push(Problem::error("bad-xml", place, message));
                    return None;
                }
                stack.push(element(&tag, place));
            }
            Event::Empty(tag) => close(element(&tag, place), &mut stack, &mut root),
            Event::End(_) => {
                if let Some(done) = stack.pop() {
                    close(done, &mut stack, &mut root);
                }
            }
            Event::Text(text) => append(&mut stack, &text.xml10_content()),
            Event::CData(text) => append(&mut stack, &text.xml10_content()),
            Event::GeneralRef(reference) => {
                let name = reference.xml10_content().into_owned();
                if let Ok(Some(c)) = reference.resolve_char_ref() {
                    append(&mut stack, c.encode_utf8(&mut [0; 4]));
                } else if let Some(text) = resolve_predefined_entity(&name) {
                    append(&mut stack, text);
                } else {
                    append(&mut stack, &format!("&{name};"));
                    foreign.get_or_insert((place, BTreeSet::new())).1.insert(name);
                }
            }
            Event::DocType(_) => {
                problems.push(Problem::warning("doctype", place, "the document type definition is not read"));
            }
            Event::Eof => break,
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
        }
    }
    if let Some((place, names)) = foreign {
        let names: Vec<String> = names.iter().take(8).map(|name| format!("`&{name};`")).collect();
        let message = format!("entities other than XML's own are not expanded: {}", names.join(", "));
        problems.push(Problem::warning("entity", place, message));
    }
    if let Some(open) = stack.pop() {
        let message = format!("the element `{}` is not closed; the file is cut off", open.name);
        problems.push(Problem::error("bad-xml", open.span, message));
        return None;
    }
    if root.is_none() {
        problems.push(Problem::error("bad-xml", None, "there is no element in it"));
    }
    root
}

fn element(tag: &BytesStart<'_>, span: Option<Span>) -> Element {
    let mut attributes = tag.attributes();
    let attributes = attributes.with_checks(false).flatten().map(|attribute| {
        let name = attribute.key.local_name().as_ref().to_owned();
        let raw: &str = &attribute.value;
        // What cannot be unescaped stays as it is written.
        let value = unescape(raw).map_or_else(|_| raw.to_owned(), std::borrow::Cow::into_owned);
        (name, value)
    });
    Element { name: tag.local_name().as_ref().to_owned(), attributes: attributes.collect(), span, ..Element::default() }
}

/// Puts a complete element where it belongs; a second root is no part of the document.
fn close(done: Element, stack: &mut [Element], root: &mut Option<Element>) {
    match stack.last_mut() {
        Some(parent) => parent.children.push(done),
        None => {
            root.get_or_insert(done);
        }
    }
}

fn append(stack: &mut [Element], text: &str) {
    if let Some(open) = stack.last_mut() {
        open.text.push_str(text);
    }
}

fn position(offset: u64, base: usize) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX).saturating_add(base)
}

#[expect(clippy::unnecessary_wraps, reason = "every place that takes one takes an option")]
fn span(start: usize, end: usize) -> Option<Span> {
    let clamp = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
    Some(Span { start: clamp(start), end: clamp(end) })
}
