//! `hop complete`: what the completions of a shell ask at a TAB, for names that only the machine knows.

use std::ffi::OsString;

use clap::{Arg, CommandFactory};
use hopyard::runtime::ns::Names;
use hopyard::runtime::{Home, Running};

use crate::error::CliError;
use crate::ui::Ui;

/// Print the names that may stand at the end of a command line, one a line; for the completions of a shell.
///
/// `:command:` stands for the name of any program, `:file:` for that of any file. Nothing is printed where only options are
/// known.
#[derive(Debug, clap::Args)]
#[command(hide = true)]
pub(crate) struct Args {
    /// The words behind `hop`, up to the one that is being typed.
    #[arg(value_name = "WORD", trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<OsString>,
}

/// What stands in a place of the command line.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    /// A node; of that lab, where one was named.
    Node(Option<String>),
    Lab,
    /// A namespace that has a name.
    Namespace,
    /// A node as `LAB/NODE`, or a namespace.
    Network,
    Program,
    File,
    /// Nothing that could be listed.
    Other,
}

pub(crate) fn run(args: &Args, ui: &mut Ui) -> Result<u8, CliError> {
    let words: Vec<String> = args.words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let words = whole(words);
    let names = match wanted(&words) {
        Wanted::Other => Vec::new(),
        Wanted::Program => vec![":command:".to_owned()],
        Wanted::File => vec![":file:".to_owned()],
        Wanted::Lab => Home::of_caller()?.lab_names()?.iter().map(ToString::to_string).collect(),
        Wanted::Namespace => namespaces()?,
        Wanted::Node(lab) => {
            let typed = words.last().is_some_and(|word| word.contains('/'));
            nodes(lab.as_deref(), typed)?
        }
        Wanted::Network => [nodes(None, true)?, namespaces()?].concat(),
    };
    names.iter().try_for_each(|name| ui.line(name))?;
    Ok(0)
}

/// Bash takes `--lab=shop` for three words: `--lab`, `=` and `shop`.
fn whole(mut words: Vec<String>) -> Vec<String> {
    // The last one is what is being typed.
    if words.last().is_some_and(|word| word == "=") {
        words.push(String::new());
    }
    let mut before = String::new();
    words.retain(|word| {
        let splits = word == "=" && before.starts_with("--") && before.len() > 2;
        before.clone_from(word);
        !splits
    });
    words
}

fn namespaces() -> Result<Vec<String>, CliError> {
    Ok(Names::kinds()?.into_iter().map(|(name, _)| name.to_string()).collect())
}

/// Of one lab they need no other name; of several each has its lab's before it.
fn nodes(lab: Option<&str>, with_lab: bool) -> Result<Vec<String>, CliError> {
    let (mut labs, _unreadable) = Running::all(&Home::of_caller()?)?;
    let chosen = lab.map(ToOwned::to_owned).or_else(|| std::env::var("HOP_LAB").ok());
    if let Some(chosen) = chosen.filter(|chosen| !with_lab && !chosen.is_empty()) {
        labs.retain(|lab| lab.name().as_str() == chosen);
    }
    let with_lab = with_lab || labs.len() > 1;
    let mut names = Vec::new();
    for lab in &labs {
        // One that goes down meanwhile has none.
        let Ok(contents) = lab.contents() else { continue };
        let before = if with_lab { format!("{}/", lab.name()) } else { String::new() };
        names.extend(contents.lab.nodes().iter().map(|node| format!("{before}{}", node.name)));
    }
    Ok(names)
}

/// What the last word is to be, by those before it.
fn wanted(words: &[String]) -> Wanted {
    let Some((last, before)) = words.split_last() else { return Wanted::Other };
    let mut root = crate::args::Args::command();
    root.build();
    let mut command = &root;
    let mut path: Vec<&str> = Vec::new();
    let (mut lab, mut value_of, mut only_positional, mut count): (_, Option<&Arg>, _, _) = (None, None, false, 0);
    for word in before {
        let trails = is_own(command, &path, count);
        if let Some(option) = value_of.take() {
            if option.get_id() == "lab" {
                lab = Some(word.clone());
            }
        } else if !only_positional && !trails && word == "--" {
            only_positional = true;
        } else if let Some(option) = option_of(command, word).filter(|_| !only_positional && !trails) {
            let (option, value) = (Some(option).filter(|it| it.get_action().takes_values()), word.split_once('='));
            match value {
                Some((_, value)) if option.is_some_and(|it| it.get_id() == "lab") => lab = Some(value.to_owned()),
                Some(_) => {}
                None => value_of = option,
            }
        } else if !only_positional && !trails && word.starts_with('-') {
            // One that is not known, or several in one word.
        } else if let Some(sub) = command.find_subcommand(word).filter(|_| count == 0) {
            (command, path) = (sub, [path, vec![sub.get_name()]].concat());
        } else {
            count += 1;
        }
    }
    let positionals: Vec<&Arg> = command.get_positionals().collect();
    let Some(arg) = value_of.or_else(|| positionals.get(count).or(positionals.last()).copied()) else {
        return Wanted::Other;
    };
    let may_be_option = value_of.is_none() && !only_positional && !is_own(command, &path, count);
    let is_typed_option = may_be_option && last.starts_with('-');
    let is_list = arg.get_num_args().is_some_and(|range| range.max_values() > 1);
    if is_typed_option || value_of.is_none() && count >= positionals.len() && !is_list {
        return Wanted::Other;
    }
    let in_namespaces = before.iter().any(|word| word == "--ns") || path.first() == Some(&"ns");
    let of_recording = before.iter().any(|word| word == "--from");
    match (arg.get_value_names().and_then(|names| names.first()).map_or("", |name| name.as_str()), path.as_slice()) {
        ("SRC" | "DST[:PORT[/PROTO]]", _) | ("NAME", ["check" | "record"]) if of_recording => Wanted::Other,
        ("SRC" | "DST[:PORT[/PROTO]]", _) | ("NAME", ["check" | "record"]) if in_namespaces => Wanted::Namespace,
        ("NODE" | "SRC" | "FROM" | "TO" | "DST[:PORT[/PROTO]]", _) => Wanted::Node(lab),
        ("LAB", _) | ("NAME", ["check" | "record"]) => Wanted::Lab,
        // A new one.
        ("NAME", ["ns", "add" | "attach"]) => Wanted::Other,
        ("NAME", ["ns", ..]) => Wanted::Namespace,
        ("NAME CMD", _) if before.iter().any(|word| word == "--all") && count == 0 => Wanted::Program,
        ("NAME CMD", _) if count == 0 => Wanted::Namespace,
        ("NAME CMD", _) if count == 1 => Wanted::Program,
        ("NET", _) => Wanted::Network,
        ("CMD", _) if count + 1 == positionals.len() => Wanted::Program,
        ("CMD" | "NAME CMD" | "TOPOLOGY" | "FILE" | "DIR", _) => Wanted::File,
        _ => Wanted::Other,
    }
}

/// Is it a word of the command that is to be run, behind its first one? Those of `ns exec` begin with a name.
fn is_own(command: &clap::Command, path: &[&str], count: usize) -> bool {
    let first = command.get_positionals().position(Arg::is_trailing_var_arg_set);
    first.is_some_and(|first| count > first + usize::from(path == ["ns", "exec"]))
}

/// The option that a word is, with what may stand behind it in the same word.
fn option_of<'c>(command: &'c clap::Command, word: &str) -> Option<&'c Arg> {
    let name = word.split('=').next()?;
    if let Some(long) = name.strip_prefix("--") {
        return command.get_arguments().find(|arg| !long.is_empty() && arg.get_long() == Some(long));
    }
    let mut letters = name.strip_prefix('-')?.chars();
    let (letter, None) = (letters.next()?, letters.next()) else { return None };
    command.get_arguments().find(|arg| arg.get_short() == Some(letter))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Wanted {
        wanted(&whole(line.split(' ').map(ToOwned::to_owned).collect()))
    }

    #[test]
    fn what_a_place_of_the_command_line_takes_follows_from_the_words_before_it() {
        let node = || Wanted::Node(None);
        for (line, expected) in [
            ("exec ", node()),
            ("exec -u root ho", node()),
            ("exec -l shop ", Wanted::Node(Some("shop".to_owned()))),
            ("exec --lab = sh", Wanted::Lab),
            ("exec --lab =", Wanted::Lab),
            ("exec --lab = shop ", Wanted::Node(Some("shop".to_owned()))),
            ("exec --lab=shop ", Wanted::Node(Some("shop".to_owned()))),
            ("exec home grep = ", Wanted::File),
            ("exec home ", Wanted::Program),
            ("exec home -- l", Wanted::Program),
            ("exec home ls ", Wanted::File),
            ("exec home ls -", Wanted::File),
            ("exec -", Wanted::Other),
            ("exec -l ", Wanted::Lab),
            ("shell ", node()),
            ("why ", node()),
            ("why home ", node()),
            ("why home far ", Wanted::Other),
            ("why --ns ", Wanted::Namespace),
            ("why --from x.json ", Wanted::Other),
            ("why --from ", Wanted::File),
            ("ping home ", node()),
            ("down ", Wanted::Lab),
            ("down one ", Wanted::Lab),
            ("check ", Wanted::Lab),
            ("check --ns a ", Wanted::Namespace),
            ("up ", Wanted::File),
            ("up --name ", Wanted::Other),
            ("run x.hop.yaml -- ", Wanted::Program),
            ("run --node ", node()),
            ("run x.hop.yaml -- ls ", Wanted::File),
            ("sandbox ", Wanted::Program),
            ("sandbox --net ", Wanted::Network),
            ("sandbox ls ", Wanted::File),
            ("ns add ", Wanted::Other),
            ("ns delete a ", Wanted::Namespace),
            ("ns exec ", Wanted::Namespace),
            ("ns exec red ", Wanted::Program),
            ("ns exec red ls ", Wanted::File),
            ("ns exec --all ", Wanted::Program),
            ("ls ", Wanted::Other),
            ("", Wanted::Other),
            ("nothing ", Wanted::Other),
        ] {
            assert_eq!(of(line), expected, "hop {line:?}");
        }
    }
}
