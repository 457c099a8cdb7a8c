//! Valid, unique node names from the labels of other programs.

use std::collections::{HashMap, HashSet};

/// The longest name that is made of a label: what a name may have in the DNS (RFC 1035).
const MAX_LEN: usize = 63;

/// A node as it is labelled.
#[derive(Debug)]
pub(super) struct Labelled<'a> {
    /// Its label; `None`: it has none.
    pub(super) label: Option<&'a str>,
    /// What identifies it in the file.
    pub(super) id: &'a str,
}

/// A name for each, in their order: valid, and unique even where case does not matter, as in
/// `/etc/hosts`.
///
/// The first of several with one label gets it as it is; the others are numbered, and never take
/// what another label says.
pub(super) fn unique(nodes: &[Labelled<'_>]) -> Vec<String> {
    let wanted: Vec<String> = nodes.iter().map(Labelled::wanted).collect();
    // Every node's name for itself.
    let mut taken: HashSet<String> = HashSet::from(["localhost".to_owned()]);
    let first: Vec<bool> = wanted.iter().map(|name| taken.insert(name.to_ascii_lowercase())).collect();
    let mut next: HashMap<String, u64> = HashMap::new();
    wanted
        .into_iter()
        .zip(first)
        .map(|(name, first)| if first { name } else { numbered(&name, &mut next, &mut taken) })
        .collect()
}

fn numbered(name: &str, next: &mut HashMap<String, u64>, taken: &mut HashSet<String>) -> String {
    let lower = name.to_ascii_lowercase();
    let number = next.entry(lower).or_insert(1);
    loop {
        *number += 1;
        let suffix = format!("-{number}");
        let kept = name.get(..name.len().min(MAX_LEN - suffix.len())).unwrap_or(name);
        let name = format!("{kept}{suffix}");
        if taken.insert(name.to_ascii_lowercase()) {
            return name;
        }
    }
}

impl Labelled<'_> {
    /// The name that it would have if it were the only one.
    fn wanted(&self) -> String {
        let of = |text: &str| Some(valid(text)).filter(|name| !name.is_empty());
        let name = self.label.and_then(of).or_else(|| of(self.id)).unwrap_or_else(|| "node".to_owned());
        // `ip netns` takes a number for a process id.
        if name.bytes().all(|b| b.is_ascii_digit()) { format!("n{name}") } else { name }
    }
}

/// The letters, digits, `_` and `.` of a text, transliterated, with a `-` for whatever else stands between
/// them; empty if there are none.
fn valid(text: &str) -> String {
    let mut name = String::new();
    for c in text.chars() {
        // A hostile label of megabytes is cut anyway.
        if name.len() > 2 * MAX_LEN {
            break;
        }
        for c in any_ascii::any_ascii_char(c).chars() {
            match c {
                'A'..='Z' | 'a'..='z' | '0'..='9' => name.push(c),
                '_' | '.' if !name.is_empty() => name.push(c),
                _ if name.is_empty() || name.ends_with('-') => {}
                _ => name.push('-'),
            }
        }
    }
    name.truncate(MAX_LEN);
    name.truncate(name.trim_end_matches(['-', '.', '_']).len());
    name
}

/// Is there anything in the label that a name can have?
pub(super) fn says_anything(label: &str) -> bool {
    !valid(label).is_empty()
}

/// Is a name the label but for spaces, so that nothing is lost?
pub(super) fn is_faithful(label: &str, name: &str) -> bool {
    label.split_whitespace().eq(name.split('-')) || label.split_whitespace().collect::<Vec<_>>().join("-") == name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_become_valid_and_unique_names() {
        let labels = [
            ("Zürich (ETH)", "Zurich-ETH"),
            ("El Paso/Las Cruces", "El-Paso-Las-Cruces"),
            ("A", "A"),
            ("A", "A-3"),
            ("A-2", "A-2"),
            ("a", "a-4"),
            ("?", "n5"),
            ("1", "n1"),
            ("localhost", "localhost-2"),
            ("../../etc", "etc"),
            ("-x-", "x"),
            ("Łódź", "Lodz"),
            ("", "n11"),
        ];
        let ids: Vec<String> = (0..labels.len())
            .map(|id| {
                if id == 6 {
                    "5".into()
                } else if id == 12 {
                    "11".into()
                } else {
                    id.to_string()
                }
            })
            .collect();
        let nodes: Vec<Labelled<'_>> =
            labels.iter().zip(&ids).map(|((label, _), id)| Labelled { label: Some(*label), id }).collect();
        let expected: Vec<&str> = labels.iter().map(|(_, name)| *name).collect();
        assert_eq!(unique(&nodes), expected);
        for name in unique(&nodes) {
            assert!(name.parse::<hopyard_net::NsName>().is_ok(), "{name}");
        }
    }

    #[test]
    fn a_huge_label_is_cut_and_stays_unique() {
        let huge = "x".repeat(1 << 20);
        let nodes = [Labelled { label: Some(&huge), id: "0" }, Labelled { label: Some(&huge), id: "1" }];
        let names = unique(&nodes);
        assert_eq!((names[0].len(), names[1].len()), (MAX_LEN, MAX_LEN));
        assert_ne!(names[0], names[1]);
    }

    #[test]
    fn a_space_that_became_a_dash_is_no_loss() {
        assert!(is_faithful("New York", "New-York"));
        assert!(is_faithful("a-b", "a-b"));
        assert!(!is_faithful("a/b", "a-b"));
        assert!(!is_faithful("A", "A-2"));
    }
}
