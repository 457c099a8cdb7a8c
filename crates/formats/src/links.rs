//! The short way to write links: `home -- near:eth1 -- far`.

use hopyard_model::{EndDoc, LinkDoc, Problem, Span, Spanned};

/// What a line of links says.
#[derive(Debug, Default)]
pub(crate) struct Line {
    /// The names in it, in order; one alone is a node without a link.
    pub(crate) ends: Vec<EndDoc>,
}

impl Line {
    /// Reads names that stand between ` -- `. The text begins at `start` of the source; `None`
    /// where it is not a plain piece of it, and then `whole` is where it stands.
    pub(crate) fn read(text: &str, start: Option<u32>, whole: Option<Span>, problems: &mut Vec<Problem>) -> Line {
        let place = |at: usize, len: usize| match start {
            Some(start) => Some(span(start as usize + at, len)),
            None => whole,
        };
        let mut line = Line::default();
        let mut want_name = true;
        let mut end = 0;
        let mut all = words(text).peekable();
        while let Some((at, word)) = all.next() {
            end = at + word.len();
            let here = place(at, word.len());
            match (word, want_name) {
                ("--", false) => want_name = true,
                ("--", true) => problems.push(
                    Problem::error("bad-link", here, "`--` stands between two names; one is missing before it")
                        .help("write a link as in `home -- near`"),
                ),
                (word, true) => {
                    if !word.contains(':') && word.trim_matches('-').contains("--") {
                        problems.push(joined(word, here));
                    }
                    line.ends.push(EndDoc::read(word, at, &place));
                    want_name = false;
                }
                // One mistake is said once: what stands in the place of `--` is no name as well, and it need not
                // be followed by one.
                (word, false) if is_no_name(word) => {
                    let before = line.ends.last().map_or("home", |end| &end.node.value);
                    while all.next_if(|(_, next)| is_no_name(next)).is_some() {}
                    let after = all.peek().map_or("near", |(_, next)| next);
                    let message = format!("`{word}` joins no nodes");
                    problems
                        .push(Problem::error("bad-link", here, message).help(format!("write `{before} -- {after}`")));
                    want_name = all.peek().is_some();
                }
                (word, false) => {
                    let message = format!("`{word}` follows a name without `--` between them");
                    problems.push(Problem::error("bad-link", here, message).help("write a link as in `home -- near`"));
                    line.ends.push(EndDoc::read(word, at, &place));
                }
            }
        }
        line.refuse_interfaces_between(problems);
        if want_name && !line.ends.is_empty() {
            let message = "nothing follows the last `--`";
            let here = place(end.saturating_sub(2), 2);
            problems.push(Problem::error("bad-link", here, message).help("write a link as in `home -- near`"));
        }
        line
    }

    /// In `a -- b:eth1 -- c` two links meet at `b`, and one name is not enough for both.
    fn refuse_interfaces_between(&mut self, problems: &mut Vec<Problem>) {
        let last = self.ends.len().saturating_sub(1);
        for (at, end) in self.ends.iter_mut().enumerate() {
            if at == 0 || at == last {
                continue;
            }
            if let Some(iface) = end.iface.take() {
                let message = format!(
                    "`{}:{}` stands between two links, which cannot both end there",
                    end.node.value, iface.value
                );
                problems.push(
                    Problem::error("bad-link", iface.span, message)
                        .help("write the two links apart, each with its own interface"),
                );
            }
        }
    }

    /// The links of the chain.
    pub(crate) fn links(&self) -> impl Iterator<Item = LinkDoc> {
        self.ends.windows(2).map(|pair| LinkDoc {
            span: hull(&pair[0], &pair[1]),
            ends: [pair[0].clone(), pair[1].clone()],
            ..LinkDoc::default()
        })
    }
}

/// Such as `-`, `<->` or a long dash.
pub(crate) fn is_no_name(word: &str) -> bool {
    !word.contains(char::is_alphanumeric)
}

/// Reads `NODE` or `NODE:INTERFACE`.
pub(crate) fn end(text: &str, start: Option<u32>, whole: Option<Span>) -> EndDoc {
    EndDoc::read(text, 0, &|at, len| match start {
        Some(start) => Some(span(start as usize + at, len)),
        None => whole,
    })
}

trait Read {
    fn read(word: &str, at: usize, place: &dyn Fn(usize, usize) -> Option<Span>) -> Self;
}

impl Read for EndDoc {
    fn read(word: &str, at: usize, place: &dyn Fn(usize, usize) -> Option<Span>) -> Self {
        let (node, iface) = match word.split_once(':') {
            Some((node, iface)) => (node, Some(iface)),
            None => (word, None),
        };
        let spanned = |text: &str, at| Spanned { value: text.to_owned(), span: place(at, text.len()) };
        EndDoc { node: spanned(node, at), iface: iface.map(|iface| spanned(iface, at + node.len() + 1)) }
    }
}

/// A hyphen can be part of a name, so `a--b` is one name; hardly what was meant.
fn joined(word: &str, at: Option<Span>) -> Problem {
    let message = format!("`{word}` is one name, because there is no space around `--`");
    Problem::error("bad-link", at, message).help(format!("write `{}`", word.replacen("--", " -- ", 1)))
}

fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let base = text.as_ptr() as usize;
    text.split_whitespace().map(move |word| (word.as_ptr() as usize - base, word))
}

fn hull(a: &EndDoc, b: &EndDoc) -> Option<Span> {
    let last = b.iface.as_ref().map_or(b.node.span, |iface| iface.span);
    Some(Span { start: a.node.span?.start, end: last?.end })
}

fn span(start: usize, len: usize) -> Span {
    let clamp = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
    Span { start: clamp(start), end: clamp(start + len) }
}
