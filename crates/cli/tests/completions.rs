//! What bash offers at a TAB.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test says what is wrong by failing")]

mod common;

use std::process::Command;

use common::machine::Machine;
use common::{Place, text, unique};

/// Offers what is offered for the last word of a line.
const TAB: &str = r#"
    source <(hop completions bash)
    COMP_WORDS=(hop $LINE) COMP_LINE="hop $LINE"
    [[ $LINE == *' ' || -z $LINE ]] && COMP_WORDS+=('')
    COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 ))
    function=$(complete -p hop | sed 's/.*-F \([^ ]*\) .*/\1/')
    $function hop "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
    printf '%s\n' "${COMPREPLY[@]}""#;

fn path() -> String {
    let hop = std::path::Path::new(env!("CARGO_BIN_EXE_hop"));
    format!("{}:{}", hop.parent().unwrap().display(), std::env::var("PATH").unwrap())
}

/// Bash with the completions of hop, which it finds in its path.
fn offered(place: &Place, line: &str) -> Vec<String> {
    let mut bash = Command::new("bash");
    bash.args(["--norc", "-c", TAB]).env("LINE", line).env("PATH", path());
    bash.env("HOPYARD_DIR", place.records()).env_remove("HOP_LAB").current_dir(place.path());
    let output = bash.output().unwrap();
    assert!(output.status.success(), "{line}: {}", text(&output.stderr));
    text(&output.stdout).lines().map(ToOwned::to_owned).filter(|it| !it.is_empty()).collect()
}

#[test]
fn names_of_nodes_and_labs_are_offered() {
    let place = Place::new();
    let (one, two) = (unique("tab"), unique("tab"));
    place.file("lab.hop.yaml", "links: [a -- b]\n");
    assert_eq!(offered(&place, "up la"), ["lab.hop.yaml"]);
    place.hop(&["up", "home -- sw", "--name", &one]);
    assert_eq!(offered(&place, "exec "), ["home", "sw"]);
    assert_eq!(offered(&place, "why home s"), ["sw"]);
    assert_eq!(offered(&place, "exec home ipcr"), offered(&place, "exec home -- ipcr"));
    place.hop(&["up", "far -- sw", "--name", &two]);
    assert_eq!(offered(&place, &format!("exec {two}/f")), [format!("{two}/far")]);
    assert_eq!(offered(&place, &format!("ping --lab {two} ")), ["far", "sw"]);
    let mut both = [one, two];
    both.sort();
    assert_eq!(offered(&place, "down "), both);
}

#[test]
fn a_name_is_not_expanded() {
    let Some(machine) = Machine::new() else { return };
    machine.sh("mkdir /run/netns && : >'/run/netns/a$(touch pwned)' && cd /run/netns");
    let line = "LINE=ns delete a".to_owned();
    let output = machine.output("env", &["-C", "/run/netns", &line, &format!("PATH={}", path()), "bash", "-c", TAB]);
    assert_eq!(text(&output.stdout), "a\\$\\(touch\\ pwned\\)\n", "{}", text(&output.stderr));
    assert!(!machine.output("test", &["-e", "/run/netns/pwned"]).status.success());
}

#[test]
fn commands_and_options_are_offered_and_what_nobody_types_is_not() {
    let place = Place::new();
    let commands = offered(&place, "");
    assert!(commands.iter().any(|it| it == "why") && !commands.iter().any(|it| it == "boot" || it == "complete"));
    assert_eq!(offered(&place, "wh"), ["why"]);
    assert!(offered(&place, "up --na").contains(&"--name".to_owned()));
    assert_eq!(offered(&place, "ns mo"), ["monitor", "move"]);
    assert!(offered(&place, "sandbox bas").contains(&"bash".to_owned()));
}
