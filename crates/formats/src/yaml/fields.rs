//! Reading values for what they should be, and saying so where they are not.

use hopyard_model::{Problem, Spanned, did_you_mean};

use super::tree::{Kind, Scalar, Value};

/// The keys of a mapping, taken one by one; what nobody takes is unknown.
pub(super) struct Fields<'v> {
    /// What the mapping is, for messages: `a link`.
    owner: &'static str,
    entries: Vec<Option<(&'v Spanned<String>, &'v Value)>>,
    known: &'static [&'static str],
}

/// What people look for where it is not, by the owner and the key, and where it is.
const ELSEWHERE: [((&str, &str), &str); 6] = [
    (("a node", "ip"), AN_ADDRESS),
    (("a node", "address"), AN_ADDRESS),
    (("a node", "ipv4"), AN_ADDRESS),
    (("a node", "ipv6"), AN_ADDRESS),
    (("a node", "gateway"), A_GATEWAY),
    (("a node", "gw"), A_GATEWAY),
];
const AN_ADDRESS: &str =
    "an address is an interface's: `ipv4:` of the link, or `addresses: { eth0: 10.0.0.1/24 }` of the node";
const A_GATEWAY: &str = "write it as a route: `routes: default via ADDRESS`";

impl<'v> Fields<'v> {
    /// The keys of a mapping that can have these.
    pub(super) fn of(
        owner: &'static str,
        entries: &'v [(Spanned<String>, Value)],
        known: &'static [&'static str],
    ) -> Self {
        Fields { owner, entries: entries.iter().map(|(key, value)| Some((key, value))).collect(), known }
    }

    /// The value of a key; a key with nothing behind it is as good as absent.
    pub(super) fn take(&mut self, key: &'static str) -> Option<&'v Value> {
        debug_assert!(self.known.contains(&key), "{key} is not among the keys of {}", self.owner);
        let entry = self.entries.iter_mut().find(|entry| entry.is_some_and(|(found, _)| found.value == key))?;
        entry.take().map(|(_, value)| value).filter(|value| value.kind != Kind::Null)
    }

    /// Reports every key that was not taken.
    pub(super) fn finish(self, problems: &mut Vec<Problem>) {
        for (key, _) in self.entries.into_iter().flatten() {
            let message = format!("{} has no key `{}`", self.owner, key.value);
            let problem = Problem::error("unknown-key", key.span, message);
            problems.push(if key.value == "<<" {
                problem.help("YAML 1.2 has no merge keys; an alias for a whole value, `key: *name`, works")
            } else if let Some((_, text)) = ELSEWHERE.iter().find(|(other, _)| (self.owner, &*key.value) == *other) {
                problem.help(*text)
            } else {
                problem.help(did_you_mean(&key.value, self.known.iter().copied()).unwrap_or_else(|| {
                    let known: Vec<String> = self.known.iter().map(|key| format!("`{key}`")).collect();
                    format!("it has {}", known.join(", "))
                }))
            });
        }
    }
}

impl Value {
    /// What it is, for messages.
    pub(super) fn what(&self) -> &'static str {
        match self.kind {
            Kind::Null => "nothing",
            Kind::Scalar(_) => "one value",
            Kind::List(_) => "a list",
            Kind::Map(_) => "a mapping",
        }
    }

    /// The place of its first line: a whole mapping is too much to point at.
    fn mismatch(&self, key: &str, wanted: &str) -> Problem {
        Problem::error("bad-type", Some(self.span), format!("`{key}` is {}; {wanted} is wanted", self.what()))
    }

    fn scalar(&self) -> Option<&Scalar> {
        match &self.kind {
            Kind::Scalar(scalar) => Some(scalar),
            _ => None,
        }
    }

    /// A text, whatever it looks like.
    pub(super) fn text(&self, key: &str, problems: &mut Vec<Problem>) -> Option<Spanned<String>> {
        let scalar = self.scalar();
        if scalar.is_none() {
            problems.push(self.mismatch(key, "one value"));
        }
        scalar.map(|scalar| Spanned::at(scalar.text.clone(), self.span))
    }

    /// The same, and where the text itself begins if it stands in the source as it is.
    pub(super) fn text_and_start(&self, key: &str, problems: &mut Vec<Problem>) -> Option<(&str, Option<u32>)> {
        let scalar = self.scalar();
        if scalar.is_none() {
            problems.push(self.mismatch(key, "one value"));
        }
        scalar.map(|scalar| (scalar.text.as_str(), scalar.start))
    }

    /// `true` or `false`.
    pub(super) fn boolean(&self, key: &str, problems: &mut Vec<Problem>) -> Option<Spanned<bool>> {
        let scalar = self.scalar();
        let value = match scalar {
            Some(scalar) if scalar.plain && scalar.text == "true" => true,
            Some(scalar) if scalar.plain && scalar.text == "false" => false,
            Some(scalar) => {
                let message = format!("`{key}` is `{}`; allowed are `true` and `false`", scalar.text);
                let mut problem = Problem::error("bad-type", Some(self.span), message);
                problem.help = match scalar.text.to_ascii_lowercase().as_str() {
                    "yes" | "on" | "y" | "true" | "1" => Some("write `true`".to_owned()),
                    "no" | "off" | "n" | "false" | "0" => Some("write `false`".to_owned()),
                    _ => None,
                };
                problems.push(problem);
                return None;
            }
            None => {
                problems.push(self.mismatch(key, "`true` or `false`"));
                return None;
            }
        };
        Some(Spanned::at(value, self.span))
    }

    /// A whole number in decimal digits.
    pub(super) fn number(&self, key: &str, problems: &mut Vec<Problem>) -> Option<Spanned<u64>> {
        let Some(scalar) = self.scalar() else {
            problems.push(self.mismatch(key, "a whole number"));
            return None;
        };
        let digits = scalar.plain && !scalar.text.is_empty() && scalar.text.bytes().all(|b| b.is_ascii_digit());
        // `0644` is octal in YAML 1.1 and decimal in 1.2.
        let octal = scalar.text.len() > 1 && scalar.text.starts_with('0');
        if digits
            && !octal
            && let Ok(value) = scalar.text.parse()
        {
            return Some(Spanned::at(value, self.span));
        }
        let message = format!("`{key}` is `{}`; a whole number in decimal digits is wanted", scalar.text);
        problems.push(Problem::error("bad-type", Some(self.span), message));
        None
    }

    /// A mapping's keys and values.
    pub(super) fn map(&self, key: &str, problems: &mut Vec<Problem>) -> Option<&[(Spanned<String>, Value)]> {
        match &self.kind {
            Kind::Map(entries) => Some(entries),
            Kind::Null => Some(&[]),
            _ => {
                problems.push(self.mismatch(key, "a mapping of `key: value`"));
                None
            }
        }
    }

    /// The same, with how to write it where there is something else.
    pub(super) fn map_as(
        &self,
        key: &str,
        example: &str,
        problems: &mut Vec<Problem>,
    ) -> Option<&[(Spanned<String>, Value)]> {
        let before = problems.len();
        let map = self.map(key, problems);
        if let Some(problem) = problems.get_mut(before) {
            problem.help = Some(format!("write it as in `{example}`"));
        }
        map
    }

    /// A list's values.
    pub(super) fn list(&self, key: &str, problems: &mut Vec<Problem>) -> Option<&[Value]> {
        if let Kind::List(list) = &self.kind {
            return Some(list);
        }
        problems.push(self.mismatch(key, "a list").help("begin each of its lines with `- `"));
        None
    }

    /// The values of a list; what is no list is the only one.
    pub(super) fn one_or_list(&self) -> &[Value] {
        match &self.kind {
            Kind::List(list) => list,
            _ => std::slice::from_ref(self),
        }
    }

    /// The texts of a list, or the only one.
    pub(super) fn texts(&self, key: &str, problems: &mut Vec<Problem>) -> Vec<Spanned<String>> {
        self.one_or_list().iter().filter_map(|value| value.text(key, problems)).collect()
    }
}
