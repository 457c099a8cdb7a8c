//! A lab in one argument: `home -- near -- far`, or a generator such as `fat-tree:4`.

use hopyard_model::{Lab, LabDoc, NodeDoc, Problem, Span, did_you_mean};

use crate::generate::{GENERATORS, MAX_NODES};
use crate::lab_name;
use crate::links::{Line, is_no_name};

/// The lab that an argument describes, with warnings.
///
/// # Errors
/// All problems; their places are in the argument.
pub fn inline(text: &str) -> Result<(Lab, Vec<Problem>), Vec<Problem>> {
    let (doc, problems) = parse(text);
    crate::finish(&doc, problems)
}

/// Is an argument a lab in itself, rather than the path of a file?
///
/// Also where it is not quite one: `a--b`, `a - b`, `chian:3`. There the reader can say what is missing,
/// while "no such file" would not help.
pub fn looks_inline(arg: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let mut words = arg.split_whitespace();
    if words.clone().any(|word| word == "--") {
        return true;
    }
    // In the place of `--`, but for what file names have there: `this & that`.
    let no_link = |word: &str| is_no_name(word) && word.chars().any(|c| DASHES.contains(&c));
    if words.nth(1).is_some_and(no_link) && is_plain(arg) {
        return true;
    }
    match arg.split_once(':') {
        Some((name, _)) if GENERATORS.iter().any(|generator| generator.name == name) => true,
        Some((name, rest)) => {
            name.len() > 1 && name.chars().all(word) && rest.starts_with(|c: char| c.is_ascii_digit()) && is_plain(arg)
        }
        None => arg.trim_matches('-').contains("--") && is_plain(arg),
    }
}

/// What people write where a link is `--`, or make of it who mean well.
const DASHES: [char; 6] = ['-', '\u{2010}', '\u{2011}', '\u{2013}', '\u{2014}', '\u{2212}'];

fn is_plain(arg: &str) -> bool {
    !arg.contains(['/', '\\', '.'])
}

/// What an argument says.
pub(crate) fn parse(text: &str) -> (LabDoc, Vec<Problem>) {
    if let Some(generated) = generated(text) {
        return generated;
    }
    let mut problems = Vec::new();
    let mut doc = LabDoc { implicit_nodes: true, hand_written: true, ..LabDoc::default() };
    let mut names: Vec<String> = Vec::new();
    let mut start = 0;
    for item in text.split([',', ';', '\n']) {
        let at = u32::try_from(start).ok();
        let whole = Span { start: at.unwrap_or(u32::MAX), end: u32::try_from(start + item.len()).unwrap_or(u32::MAX) };
        let line = Line::read(item, at, Some(whole), &mut problems);
        start += item.len() + 1;
        doc.links.extend(line.links());
        if let [alone] = line.ends.as_slice() {
            doc.nodes.push(NodeDoc { name: alone.node.clone(), ..NodeDoc::default() });
        }
        for end in line.ends {
            // A name is no longer than 40 bytes: more nodes than that cannot tell anything.
            if names.len() < 64 && !names.contains(&end.node.value) {
                names.push(end.node.value);
            }
        }
    }
    if names.is_empty() {
        problems.push(
            Problem::error("empty-lab", None, "there is no node in it")
                .help("write links as in `home -- near -- far`, or a generator as in `chain:3`"),
        );
    }
    doc.name = Some(lab_name::from_text(&names.join("-")).into());
    (doc, problems)
}

/// `None`: the text is none of `NAME:ARGUMENTS`.
fn generated(text: &str) -> Option<(LabDoc, Vec<Problem>)> {
    let trimmed = text.trim();
    let (name, args) = trimmed.split_once(':')?;
    if trimmed.contains(char::is_whitespace) || trimmed.contains([',', ';']) {
        return None;
    }
    let lead = text.len() - text.trim_start().len();
    let span = |from: usize, to: usize| {
        Some(Span { start: u32::try_from(lead + from).ok()?, end: u32::try_from(lead + to).ok()? })
    };
    let Some(generator) = GENERATORS.iter().find(|generator| generator.name == name) else {
        let mut problem =
            Problem::error("unknown-generator", span(0, name.len()), format!("there is no generator `{name}`"));
        let names = GENERATORS.iter().map(|generator| generator.name);
        let all: Vec<String> = names.clone().map(|name| format!("`{name}`")).collect();
        problem.help = did_you_mean(name, names).or_else(|| Some(format!("there are {}", all.join(", "))));
        return Some((LabDoc::default(), vec![problem]));
    };
    Some(match generator.make(args) {
        Ok(doc) => (doc, Vec::new()),
        Err(why) => {
            let problem = Problem::error("bad-generator", span(name.len() + 1, trimmed.len()), why.to_string())
                .help(format!("write it as in `{}`; at most {MAX_NODES} nodes", generator.example));
            (LabDoc::default(), vec![problem])
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_argument_is_a_lab_or_a_path() {
        for lab in [
            "a -- b",
            "chain:3",
            "fat-tree:4",
            "a--b",
            "chian:3",
            "chain:",
            "grid:3x3",
            "a -- b\nb -- c",
            "a - b",
            "a -> b",
        ] {
            assert!(looks_inline(lab), "{lab}");
        }
        for path in [
            "three.hop.yaml",
            "./a--b",
            "a--b.yaml",
            "labs/x",
            "three",
            "C:\\x",
            "http://x/3",
            "-",
            "--",
            "a & b",
            "./a - b",
        ] {
            let expected = path == "--";
            assert_eq!(looks_inline(path), expected, "{path}");
        }
    }
}
