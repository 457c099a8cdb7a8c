//! Input that is wrong: exit status 2, the place, the way out, and nothing left behind.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what is wrong by failing")]

mod common;

use common::Place;

/// What is said of a topology file, which must be refused.
fn refused(yaml: &str) -> String {
    let place = Place::new();
    let file = place.file("bad.hop.yaml", yaml);
    let said = place.fails(2, &["up", &file]);
    assert!(!place.records().exists(), "something was begun");
    for command in ["plan", "run"] {
        let args: &[&str] = if command == "run" { &[command, &file, "--", "true"] } else { &[command, &file] };
        assert_eq!(place.output(args).status.code(), Some(2), "{command} takes what up refuses");
    }
    said
}

#[test]
fn every_problem_is_told_at_once_with_its_place() {
    let said = refused(
        "name: x\nnodes:\n  near: { mtuu: 3 }\n  ../../etc:\n  far:\nlinks:\n  - near -- fra\n  - endpoints: [near, far]\n    mtu: 9\n    ipv4: [10.0.0.1/24, 10.0.0.1/24]\n",
    );
    for (line, words) in [(3, "mtuu"), (4, "../../etc"), (7, "`fra`"), (9, "MTU of 9 bytes"), (10, "10.0.0.1")] {
        assert!(said.contains(&format!("bad.hop.yaml:{line}:")), "no word of line {line}:\n{said}");
        assert!(said.contains(words), "no word of {words}:\n{said}");
    }
    assert!(said.contains("did you mean `far`?"), "{said}");
    assert!(said.trim_end().ends_with("5 errors"), "{said}");
}

#[test]
fn hostile_files_are_refused_quickly() {
    let laughs = {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
        for n in 1..9 {
            let uses = vec![format!("*a{}", n - 1); 9].join(", ");
            text.extend([format!("a{n}: &a{n} [{uses}]\n")]);
        }
        text
    };
    let deep = "[".repeat(100_000);
    let many = format!("switches:\n  lan: [{}]\n", (0..5000).map(|n| format!("n{n}")).collect::<Vec<_>>().join(", "));
    let started = std::time::Instant::now();
    refused(&laughs);
    refused(&deep);
    refused("name: x\nlinks: [a -- ");
    refused("name: x\nname: y\n");
    refused("\u{0}\u{1b}[31m");
    let said = refused(&many);
    assert!(said.contains("5000") && said.contains("1023"), "{said}");
    assert!(started.elapsed().as_secs() < 20);
}

#[test]
fn escape_sequences_of_a_file_do_not_reach_the_terminal() {
    let said = refused("name: x\nnodes: [\"\\e[31mred\"]\nlinks: [\"\u{1b}]0;title\u{7} -- b\"]\n");
    assert!(!said.contains('\u{1b}') && !said.contains('\u{7}'), "{said:?}");
}

#[test]
fn inline_topologies_and_files_that_are_not_there() {
    let place = Place::new();
    assert!(place.fails(2, &["up", "chain:0"]).contains("chain"));
    assert!(place.fails(2, &["up", "fat-tree:3"]).contains("even"));
    assert!(place.fails(2, &["up", "chain:99999999999999999999"]).contains("chain"));
    let said = place.fails(2, &["up", "no-such-file.yaml"]);
    assert!(said.contains("cannot read no-such-file.yaml") && said.contains("chain:5"), "{said}");
    assert!(place.fails(2, &["up", "/dev/zero"]).contains("larger than"), "a file without an end");
    let latin1 = place.path().join("latin1.hop.yaml");
    std::fs::write(&latin1, b"name: caf\xe9\n").unwrap();
    let said = place.fails(2, &["up", &latin1.display().to_string()]);
    assert!(said.contains("not UTF-8") && said.contains("iconv"), "{said}");
    assert!(!place.records().exists());
}

#[test]
fn a_wrong_command_line_is_status_two() {
    let place = Place::new();
    for args in [
        &["up"][..],
        &["no-such-command"],
        &["exec"],
        &["down", "../x"],
        &["up", "--name", "a/b", "a -- b"],
        &["ping", "a"],
    ] {
        assert_eq!(place.output(args).status.code(), Some(2), "{args:?}");
    }
    assert_eq!(place.output(&["--help"]).status.code(), Some(0));
    assert!(place.fails(2, &["exec", "a", "true"]).contains("no lab is running"));
}

#[test]
fn a_mistyped_command_finds_its_name() {
    let place = Place::new();
    for (typed, meant) in [
        (&["wyh", "a", "b"][..], "'why'"),
        (&["sl"], "'ls'"),
        (&["--color", "never", "shwo"], "'show'"),
        (&["ns", "adl", "x"], "'add'"),
        (&["boot", "stpo"], "'stop'"),
        (&["xyz"], ""),
    ] {
        let said = place.fails(2, typed);
        let tip = said.lines().find(|line| line.contains("tip:")).unwrap_or_default();
        assert!(tip.contains(meant) && tip.is_empty() == meant.is_empty(), "{said}");
    }
}

#[test]
fn a_pool_that_is_too_small_is_the_files_fault() {
    let said = refused("name: x\naddressing: { ipv4: 10.0.0.0/30 }\nlinks: [a -- b, b -- c, c -- d, d -- e]\n");
    assert!(said.contains("10.0.0.0/30"), "{said}");
}

#[test]
fn output_that_nobody_reads_is_no_crash() {
    let place = Place::new();
    let mut child = place
        .command(&["plan", "chain:300"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(!common::text(&output.stderr).contains("panicked"), "{}", common::text(&output.stderr));
    assert!(output.status.code().is_some(), "it is not killed by a signal: {}", output.status);
}

/// Or a file that is opened later would be written to as if it were one.
#[test]
fn a_standard_stream_that_is_closed_is_opened() {
    let place = Place::new();
    let hop = env!("CARGO_BIN_EXE_hop");
    for (closed, number) in [("<&-", 0), ("2>&-", 2)] {
        let script = format!("exec {hop} run 'a -- b' -- readlink /proc/self/fd/{number} {closed}");
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", &script]).env("HOPYARD_DIR", place.records());
        assert_eq!(common::text(&shell.output().unwrap().stdout), "/dev/null\n", "{closed}");
    }
}

#[test]
fn a_topology_without_quotes_is_told_how_it_is_typed() {
    let place = Place::new();
    let said = place.fails(2, &["up", "a", "--", "b"]);
    assert!(said.contains("a topology with blanks is one argument: hop up 'a -- b'"), "{said}");
    let said = place.fails(2, &["up", ""]);
    assert!(said.contains("the name of a file is empty"), "{said}");
}

#[test]
fn who_names_the_file_of_a_lab_that_runs_is_told_that_it_has_a_name() {
    let place = Place::new();
    for command in ["check", "diff", "down", "record"] {
        let said = place.fails(2, &[command, "shop.hop.yaml"]);
        assert!(said.contains("goes by its name, not by its file; `hop ls`"), "{command}: {said}");
        let said = place.fails(2, &[command, "sh.op"]);
        assert!(said.contains("lab name `sh.op` contains '.'"), "{command}: {said}");
    }
}
