//! What bash offers at a TAB.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test says what is wrong by failing")]

mod common;

use std::process::Command;

use common::machine::{HOP, Machine};
use common::{Place, text, unique};

/// Bash with the completions of hop, which it finds in its path; returns what it offers for the last word of a line.
fn offered(place: &Place, line: &str) -> Vec<String> {
    let mut bash = Command::new("bash");
    bash.args(["--norc", "-c", SCRIPT]).env("HOPYARD_DIR", place.records()).env_remove("HOP_LAB");
    offered_by(bash.current_dir(place.path()), line)
}

const SCRIPT: &str = r#"
    source <(hop completions bash)
    COMP_WORDS=(hop $LINE) COMP_LINE="hop $LINE"
    [[ $LINE == *' ' || -z $LINE ]] && COMP_WORDS+=('')
    COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 ))
    function=$(complete -p hop | sed 's/.*-F \([^ ]*\) .*/\1/')
    $function hop "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
    printf '%s\n' "${COMPREPLY[@]}""#;

fn offered_by(bash: &mut Command, line: &str) -> Vec<String> {
    let hop = std::path::Path::new(HOP);
    let path = format!("{}:{}", hop.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let output = bash.env("LINE", line).env("PATH", path).output().unwrap();
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
    let mut bare = place.command(&["complete", "--", "exec", ""]);
    assert_eq!(text(&bare.env("HOP_LAB", "").output().unwrap().stdout), "home\nsw\n");
    assert_eq!(offered(&place, "why home s"), ["sw"]);
    assert_eq!(offered(&place, "exec home ipcr"), offered(&place, "exec home -- ipcr"));
    place.hop(&["up", "far -- sw", "--name", &two]);
    assert_eq!(offered(&place, &format!("exec {two}/f")), [format!("{two}/far")]);
    assert_eq!(offered(&place, &format!("ping --lab {two} ")), ["far", "sw"]);
    assert_eq!(offered(&place, &format!("exec --lab = {two} f")), ["far"]);
    assert_eq!(offered(&place, &format!("exec --lab = {two}")), std::slice::from_ref(&two));
    let mut both = [one, two];
    both.sort();
    assert_eq!(offered(&place, "down "), both);
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

#[test]
fn a_name_is_offered_and_not_run() {
    let Some(machine) = Machine::new() else { return };
    // Whoever makes namespaces for others, as a container's manager, may be told their names by others.
    machine.run("ip", &["netns", "add", "x$(touch${IFS}ran)"]);
    machine.run("ip", &["netns", "add", "a*"]);
    let place = Place::new();
    let mut bash = machine.command("bash", &["--norc", "-c", SCRIPT]);
    let offered = offered_by(bash.current_dir(place.path()), "ns delete ");
    assert_eq!(offered, [r"a\*", r"x\$\(touch\$\{IFS\}ran\)"]);
    assert!(!place.path().join("ran").exists());
}
