//! JSON for people: what fits on a line is on one. Works on the text, so that keys stay in the order in
//! which they were written.

/// As wide as a line may be.
const WIDTH: usize = 118;
/// Above this depth every entry begins a line of its own, however small.
const OPEN: usize = 3;

/// A value in the text.
enum Part<'a> {
    /// A number, a word, or a text with its quotation marks.
    Leaf(&'a str),
    /// An object or an array: its brackets, and what is in it, in an object with its key.
    List([char; 2], Vec<(Option<&'a str>, Part<'a>)>),
}

/// Lays out JSON that has no white space outside of texts.
pub(super) fn lay_out(compact: &str) -> String {
    let mut rest = compact;
    let part = take(&mut rest);
    let mut out = String::with_capacity(compact.len() * 2);
    put(&mut out, &part, 0, 0);
    out.push('\n');
    out
}

fn take<'a>(rest: &mut &'a str) -> Part<'a> {
    let brackets = match rest.as_bytes().first() {
        Some(b'{') => ['{', '}'],
        Some(b'[') => ['[', ']'],
        _ => return Part::Leaf(take_leaf(rest)),
    };
    *rest = &rest[1..];
    let mut entries = Vec::new();
    while !rest.is_empty() && !rest.starts_with(brackets[1]) {
        let key = (brackets[0] == '{').then(|| take_leaf(rest));
        *rest = rest.strip_prefix(':').unwrap_or(rest);
        entries.push((key, take(rest)));
        *rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    *rest = rest.strip_prefix(brackets[1]).unwrap_or(rest);
    Part::List(brackets, entries)
}

fn take_leaf<'a>(rest: &mut &'a str) -> &'a str {
    let bytes = rest.as_bytes();
    let end = if bytes.first() == Some(&b'"') {
        let mut at = 1;
        while bytes.get(at).is_some_and(|byte| *byte != b'"') {
            at += if bytes[at] == b'\\' { 2 } else { 1 };
        }
        (at + 1).min(bytes.len())
    } else {
        rest.find([',', ':', '}', ']']).unwrap_or(rest.len())
    };
    let (leaf, behind) = rest.split_at(end);
    *rest = behind;
    leaf
}

/// `before`: so much stands on the line already, behind its indentation.
fn put(out: &mut String, part: &Part<'_>, depth: usize, before: usize) {
    let (brackets, entries) = match part {
        Part::Leaf(text) => return out.push_str(text),
        Part::List(brackets, entries) => (brackets, entries),
    };
    let room = WIDTH.saturating_sub(2 * depth + before);
    if (depth >= OPEN || entries.is_empty()) && width(part, room).is_some() {
        return put_flat(out, part);
    }
    out.push(brackets[0]);
    for (at, (key, part)) in entries.iter().enumerate() {
        out.push_str(if at == 0 { "\n" } else { ",\n" });
        indent(out, depth + 1);
        let mut before = 0;
        if let Some(key) = key {
            out.push_str(key);
            out.push_str(": ");
            before = key.len() + 2;
        }
        put(out, part, depth + 1, before);
    }
    out.push('\n');
    indent(out, depth);
    out.push(brackets[1]);
}

fn indent(out: &mut String, depth: usize) {
    out.extend(std::iter::repeat_n("  ", depth));
}

fn put_flat(out: &mut String, part: &Part<'_>) {
    match part {
        Part::Leaf(text) => out.push_str(text),
        Part::List(brackets, entries) => {
            out.push(brackets[0]);
            for (at, (key, part)) in entries.iter().enumerate() {
                out.push_str(if at == 0 { "" } else { ", " });
                if let Some(key) = key {
                    out.push_str(key);
                    out.push_str(": ");
                }
                put_flat(out, part);
            }
            out.push(brackets[1]);
        }
    }
}

/// What [`put_flat`] takes; `None`: more than there is room.
fn width(part: &Part<'_>, room: usize) -> Option<usize> {
    let taken = match part {
        Part::Leaf(text) => text.len(),
        Part::List(_, entries) => {
            let mut taken = 2 + 2 * entries.len().saturating_sub(1);
            for (key, part) in entries {
                taken += key.map_or(0, |key| key.len() + 2);
                taken += width(part, room.checked_sub(taken)?)?;
            }
            taken
        }
    };
    (taken <= room).then_some(taken)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn what_is_deep_and_short_is_on_one_line() {
        let compact = r#"{"nodes":{"a":{"routes":[{"to":"10.0.0.0/8","hops":[{"dev":"e"}]}],"rules":[]}}}"#;
        let expected = r#"{
  "nodes": {
    "a": {
      "routes": [{"to": "10.0.0.0/8", "hops": [{"dev": "e"}]}],
      "rules": []
    }
  }
}
"#;
        assert_eq!(lay_out(compact), expected);
    }

    #[test]
    fn it_is_the_same_value() {
        let hostile = r#"a"b\{[,:]}ü\\"#;
        for value in [
            json!({"a": {"b": {"c": ["x".repeat(80), "y".repeat(80)], "d": hostile, hostile: [1, -2.5, null, true]}}}),
            json!([]),
            json!({}),
            json!("x"),
            json!([[[[[[hostile]]]]]]),
        ] {
            let text = lay_out(&value.to_string());
            assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value, "{text}");
            assert!(text.lines().all(|line| line.len() <= WIDTH), "{text}");
        }
    }
}
