//! The command line: what can be typed. Help texts are the doc comments of each command's struct.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue};
use clap::{ColorChoice, CommandFactory, FromArgMatches, Parser, Subcommand};

use hopyard::model::nearest;

use crate::commands;

/// Declare a network; it runs in milliseconds, without root, and goes away without a trace.
#[derive(Debug, Parser)]
#[command(name = "hop", version, max_term_width = 100, disable_help_subcommand = true)]
#[command(after_help = "\
A TOPOLOGY is a file (three.hop.yaml, a Topology Zoo .graphml) or written on the spot:
  'home -- near -- far'  chain:5  ring:5  star:8  grid:3x3  tree:2x3  mesh:4  fat-tree:4

Exit status: 0 done; 1 failed; 2 the input is wrong. `why`, `check` and `ping`: 0 yes, 1 no; `why` and `check`: \
3 not known. `diff`: 1 if there is a difference. `exec`, `shell`, `run` and `sandbox` end as the command does.")]
pub(crate) struct Args {
    /// Colours: `auto` is on a terminal only.
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: ColorChoice,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// A command is a file in `commands/` and a line here. Of the command line only the part is made that is typed.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(crate) enum Command {
    Up(commands::up::Args),
    Down(commands::down::Args),
    Run(commands::run::Args),
    Ls(commands::ls::Args),
    Show(commands::show::Args),
    Plan(commands::plan::Args),
    Diff(commands::diff::Args),
    Exec(commands::exec::Args),
    Shell(commands::shell::Args),
    Sandbox(commands::sandbox::Args),
    Ping(commands::ping::Args),
    Why(commands::why::Args),
    Check(commands::check::Args),
    Record(commands::record::Args),
    Ns(commands::ns::Args),
    Attach(commands::attach::Args),
    Detach(commands::detach::Args),
    Enable(commands::enable::Args),
    Disable(commands::disable::Args),
    Unit(commands::unit::Args),
    Boot(commands::boot::Args),
    Doctor(commands::doctor::Args),
    Schema(commands::schema::Args),
    Complete(commands::complete::Args),
    Completions(commands::completions::Args),
    Man(commands::man::Args),
}

impl Args {
    /// What was typed.
    ///
    /// # Errors
    /// It makes no sense, or is a question for help.
    pub(crate) fn of_process() -> Result<Self, clap::Error> {
        // Where it is not typed, no command needs to know of it.
        let is_coloured = std::env::args_os().any(|word| word.as_encoded_bytes().starts_with(b"--color"));
        let typed = Self::command().mut_arg("color", |arg| arg.global(is_coloured));
        typed.try_get_matches().and_then(|matches| Self::from_arg_matches(&matches)).or_else(|_| {
            // What is to be said may be about any of them.
            let mut all = Self::command();
            all.build();
            let words: Vec<OsString> = std::env::args_os().collect();
            let matches = all
                .try_get_matches_from_mut(&words)
                .map_err(|error| with_quotes(with_nearest(error, &all, &words), &words))?;
            Self::from_arg_matches(&matches)
        })
    }
}

/// A topology that was typed without quotes, `hop up a -- b`, is several arguments.
fn with_quotes(mut error: clap::Error, words: &[OsString]) -> clap::Error {
    let is_topology = words.get(1).is_some_and(|word| ["up", "plan", "enable"].iter().any(|it| word == it));
    let links = words.iter().skip(3).position(|word| word == "--");
    if let (clap::error::ErrorKind::UnknownArgument, true, Some(_)) = (error.kind(), is_topology, links) {
        let typed: Vec<_> = words.iter().skip(1).map(|word| word.to_string_lossy()).collect();
        let tip = format!("a topology with blanks is one argument: hop {} '{}'", typed[0], typed[1..].join(" "));
        error.remove(ContextKind::SuggestedArg);
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    error
}

/// Names the command that was meant. Clap's own measure looks for the letters of a name in their places, and of a short
/// one in which two are swapped it finds none.
fn with_nearest(mut error: clap::Error, all: &clap::Command, words: &[OsString]) -> clap::Error {
    let Some(ContextValue::String(typed)) = error.get(ContextKind::InvalidSubcommand) else { return error };
    if error.get(ContextKind::SuggestedSubcommand).is_some() {
        return error;
    }
    // The commands that lead to it were understood.
    let understood = words.iter().skip(1).take_while(|word| word.as_os_str() != typed.as_str());
    let above = understood.fold(all, |above, word| above.find_subcommand(word).unwrap_or(above));
    let commands = above.get_subcommands().flat_map(clap::Command::get_name_and_visible_aliases);
    if let Some(near) = nearest(typed, commands) {
        error.insert(ContextKind::SuggestedSubcommand, ContextValue::String(near.to_owned()));
    }
    error
}
