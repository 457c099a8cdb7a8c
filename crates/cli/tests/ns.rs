//! `hop ns` and `ip netns`: one directory, both ways; and what the one does better than the other.
//!
//! Everything happens in a mount, a network and, for an ordinary user, a user namespace of the test's own,
//! with a /run of its own, so nobody else's names are met, and none is left.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test says what is wrong by failing")]

mod common;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use common::machine::{HOP, Machine, SETUP};
use common::{fail, is_root, text, wait_until};

// ------------------------------------------------------------------------------- a place to be in

impl Machine {
    fn ns(&self, args: &[&str]) -> String {
        self.run(HOP, &[&["ns"], args].concat())
    }

    /// Must end with that status. Returns what it printed on standard error.
    fn ns_fails(&self, status: i32, args: &[&str]) -> String {
        fail(status, self.command(HOP, &[&["ns"], args].concat()))
    }

    fn ip(&self, args: &[&str]) -> String {
        self.run("ip", &[&["netns"], args].concat())
    }

    /// Where its names are, from here.
    fn names_dir(&self) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.pid()));
        // From here, a link would lead to what is of that name here.
        match std::fs::read_link(root.join("run/netns")) {
            Ok(to) => root.join(to.strip_prefix("/").unwrap()),
            Err(_) => root.join("run/netns"),
        }
    }

    /// All that is in the directory, but for what is there for some microseconds.
    fn names(&self) -> BTreeSet<String> {
        let names = std::fs::read_dir(self.names_dir()).into_iter().flatten();
        names
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !is_temporary(name))
            .collect()
    }

    fn is_namespace(&self, name: &str) -> bool {
        let there = std::fs::metadata(self.names_dir().join(name));
        there.is_ok_and(|there| there.dev() == std::fs::metadata("/proc/self/ns/net").unwrap().dev())
    }

    /// A row of `hop ns list --json`.
    fn row(&self, name: &str) -> serde_json::Value {
        let rows: Vec<serde_json::Value> = serde_json::from_str(&self.ns(&["list", "--json"])).unwrap();
        rows.into_iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("no row for {name}"))
    }

    /// What somebody who was killed a while ago has left.
    fn make_dead(&self, name: &str) {
        let file = std::fs::File::create(self.names_dir().join(name)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_mins(1)).unwrap();
    }
}

fn is_temporary(name: &str) -> bool {
    name.starts_with(".hop-")
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// What `ip netns list` prints, without numbers.
fn listed_by_ip(machine: &Machine) -> BTreeSet<String> {
    machine.ip(&["list"]).lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect()
}

// ------------------------------------------------------------------------- as `ip netns` has it

#[test]
fn what_one_makes_the_other_sees_enters_and_deletes() {
    let Some(machine) = Machine::new() else { return };
    machine.ns(&["add", "a", "b"]);
    machine.ip(&["add", "c"]);
    machine.ip(&["add", "d"]);
    assert_eq!(listed_by_ip(&machine), set(&["a", "b", "c", "d"]));
    for name in ["a", "c"] {
        assert_eq!(machine.row(name)["kind"], "mount");
        assert_eq!(machine.row(name)["interfaces"], serde_json::json!(["lo"]));
        // Down, as new ones are.
        let links = machine.ip(&["exec", name, "ip", "-o", "link"]);
        assert_eq!(machine.ns(&["exec", name, "ip", "-o", "link"]), links);
        assert!(links.contains("lo: <LOOPBACK>"), "{links}");
        assert_eq!(machine.ip(&["exec", name, "ls", "/sys/class/net"]), "lo\n");
        assert_eq!(machine.ns(&["exec", name, "ls", "/sys/class/net"]), "lo\n");
    }
    machine.ip(&["delete", "a"]);
    machine.ns(&["delete", "c"]);
    assert_eq!(machine.names(), set(&["b", "d"]));
    assert_eq!(listed_by_ip(&machine), machine.names());
    assert_eq!(machine.mounted_namespaces(), 2, "a name is mounted twice, or not at all");
    // All of them, by either.
    machine.ns(&["delete", "--all"]);
    assert_eq!(machine.names(), set(&[]));
    machine.ns(&["add", "e", "f"]);
    machine.run("ip", &["-all", "netns", "delete"]);
    assert_eq!(machine.names(), set(&[]));
}

#[test]
fn processes_are_found_by_name_and_names_by_process() {
    let Some(machine) = Machine::new() else { return };
    machine.ns(&["add", "a", "b"]);
    machine.sh("ip netns exec a sleep 1000 >/dev/null 2>&1 & echo $! > /run/pid");
    wait_until("it is in the namespace", || !machine.ip(&["pids", "a"]).is_empty());
    let pid = machine.sh("cat /run/pid");
    let pid = pid.trim();
    assert_eq!(machine.ns(&["pids", "a"]), machine.ip(&["pids", "a"]));
    assert_eq!(machine.ns(&["pids", "a"]).trim(), pid);
    assert_eq!(machine.ns(&["pids", "b"]), "");
    assert_eq!(machine.ns(&["identify", pid]), machine.ip(&["identify", pid]));
    assert_eq!(machine.ns(&["identify", pid]), "a\n");
    assert_eq!(machine.ns(&["identify"]), "", "the caller is in none");
    assert_eq!(machine.ns(&["exec", "b", HOP, "ns", "identify"]), "b\n");
    assert_eq!(machine.row("a")["processes"], 1);
    // A second name of the same, by either; both are told.
    machine.ns(&["attach", "c", pid]);
    machine.ip(&["attach", "d", pid]);
    assert_eq!(machine.ns(&["identify", pid]), "a\nc\nd\n");
    assert_eq!(machine.ns(&["pids", "d"]).trim(), pid);
    let json = |args: &[&str]| machine.ns(args).split_whitespace().collect::<String>();
    assert_eq!(json(&["pids", "d", "--json"]), format!("[{pid}]"));
    assert_eq!(json(&["identify", pid, "--json"]), r#"["a","c","d"]"#);
    let said = machine.ns_fails(2, &["attach", "e", "999999"]);
    assert!(said.contains("no process 999999"), "{said}");
    assert!(machine.ns_fails(1, &["attach", "a", pid]).contains("a namespace `a` exists already"));
    assert!(machine.ns_fails(2, &["identify", "999999"]).contains("no process 999999"));
}

#[test]
fn a_number_is_given_once() {
    let Some(machine) = Machine::new() else { return };
    machine.ns(&["add", "a", "b", "c"]);
    machine.ns(&["set", "a", "7"]);
    machine.ns(&["set", "b", "auto"]);
    assert!(machine.ip(&["list"]).contains("a (id: 7)"));
    assert_eq!(machine.row("a")["id"], 7);
    assert!(machine.row("b")["id"].is_number());
    for (name, number, why) in
        [("a", "8", "Peer netns already has a nsid assigned"), ("c", "7", "The specified nsid is already used")]
    {
        let said = machine.ns_fails(1, &["set", name, number]);
        assert!(said.contains(&format!("cannot give `{name}` a number: File exists (EEXIST): {why}")), "{said}");
        assert!(said.contains("`ip netns list-id`"), "{said}");
    }
    for bad in ["x", "4294967296", ""] {
        assert!(machine.ns_fails(2, &["set", "a", bad]).contains("a number from 0"));
    }
}

// ----------------------------------------------------------------------------- names come whole

/// Looks at the directory again and again, until `done`; every name must be a namespace each time. Returns
/// how often it saw some, but not all.
fn watch_names(machine: &Machine, all: usize, done: &AtomicBool) -> usize {
    let dir = machine.names_dir();
    let mut on_the_way = 0;
    while !done.load(Ordering::Relaxed) {
        let Ok(entries) = std::fs::read_dir(&dir) else { continue };
        let names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        let names: Vec<String> = names.into_iter().filter(|name| !is_temporary(name)).collect();
        for name in &names {
            // Gone meanwhile is no fault.
            assert!(machine.is_namespace(name) || !dir.join(name).exists(), "{name} is there and is no namespace");
        }
        on_the_way += usize::from((1..all).contains(&names.len()));
    }
    on_the_way
}

#[test]
fn a_name_that_can_be_seen_can_be_entered() {
    const COUNT: usize = 300;
    let Some(machine) = Machine::new() else { return };
    machine.ns(&["add", "first"]);
    let names: Vec<String> = (0..COUNT).map(|n| format!("n{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let done = AtomicBool::new(false);
    let on_the_way = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| watch_names(&machine, COUNT + 1, &done));
        for _ in 0..3 {
            machine.ns(&[&["add"], &names[..]].concat());
            assert_eq!(machine.names().len(), COUNT + 1);
            machine.ns(&[&["delete"], &names[..]].concat());
            assert_eq!(machine.names(), set(&["first"]));
        }
        done.store(true, Ordering::Relaxed);
        watcher.join().unwrap()
    });
    assert!(on_the_way >= 10, "the names were looked at {on_the_way} times while they came");
    // And a name that is none would have been seen.
    machine.make_dead("dead");
    done.store(false, Ordering::Relaxed);
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| watch_names(&machine, 1, &done)));
    assert!(caught.is_err());
}

#[test]
fn there_may_be_more_names_than_open_files() {
    let Some(machine) = Machine::new() else { return };
    let names: Vec<String> = (0..300).map(|n| format!("n{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let limited = |args: &[&str]| machine.run("prlimit", &[&["--nofile=290:290", HOP, "ns"], args].concat());
    limited(&[&["add"], &names[..]].concat());
    assert_eq!(limited(&["list"]).lines().count(), 301);
    assert_eq!(limited(&["list", "--json"]).matches("\"cookie\": ").count(), 300);
    assert_eq!(limited(&["identify"]), "");
    limited(&["delete", "--all"]);
    assert_eq!(machine.names(), set(&[]));
}

/// Starts all at once, and waits for all; which of them succeeded.
fn at_once(commands: Vec<Command>) -> Vec<(bool, String)> {
    let spawn = |mut command: Command| command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let children: Vec<Child> = commands.into_iter().map(spawn).collect();
    let ended = children.into_iter().map(|child| child.wait_with_output().unwrap());
    ended.map(|output| (output.status.success(), text(&output.stderr))).collect()
}

#[test]
fn thirty_adds_of_one_name_have_one_winner() {
    let Some(machine) = Machine::new() else { return };
    for round in 0..3 {
        let name = format!("n{round}");
        let hop = |_| machine.command(HOP, &["ns", "add", &name]);
        let results = at_once((0..30).map(hop).collect());
        assert_eq!(results.iter().filter(|(won, _)| *won).count(), 1, "{results:?}");
        for (_, said) in results.iter().filter(|(won, _)| !won) {
            assert!(said.contains(&format!("a namespace `{name}` exists already")), "{said}");
        }
        assert!(machine.is_namespace(&name));
        // With `ip netns` among them.
        let name = format!("mixed{round}");
        let hop = |_| machine.command(HOP, &["ns", "add", &name]);
        let ip = |_| machine.command("ip", &["netns", "add", &name]);
        let results = at_once((0..10).map(hop).chain((0..10).map(ip)).collect());
        assert_eq!(results.iter().filter(|(won, _)| *won).count(), 1, "{results:?}");
        assert!(machine.is_namespace(&name));
    }
    let temporary = std::fs::read_dir(machine.names_dir()).unwrap().count() - machine.names().len();
    assert_eq!(temporary, 0, "losers have left something");
}

#[test]
fn the_first_adds_after_a_boot_may_come_all_at_once() {
    for _ in 0..3 {
        let Some(machine) = Machine::new() else { return };
        // The machine below may have one that a user cannot get rid of.
        let mounted = || machine.sh("grep -c ' /run/netns ' /proc/self/mounts || true").trim().parse::<u32>().unwrap();
        let below = mounted();
        let names: Vec<String> = (0..20).map(|n| format!("n{n}")).collect();
        let add = |(n, name): (usize, &String)| match n % 2 {
            0 => machine.command(HOP, &["ns", "add", name]),
            _ => machine.command("ip", &["netns", "add", name]),
        };
        let results = at_once(names.iter().enumerate().map(add).collect());
        assert!(results.iter().all(|(won, _)| *won), "{results:?}");
        assert_eq!(mounted() - below, 1, "mounted on itself more than once");
        assert_eq!(machine.mounted_namespaces(), 20);
        assert_eq!(machine.names().len(), 20);
    }
}

#[test]
fn an_add_that_is_killed_leaves_no_dead_name() {
    let Some(machine) = Machine::new() else { return };
    let names: Vec<String> = (0..300).map(|n| format!("n{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    machine.ns(&["add", "before"]);
    let (mut partly, mut round) = (0, 0_u32);
    while partly < 5 {
        // The end of nsenter is the end of hop: it has become it, in another pid namespace.
        assert!(round < 400, "no add was killed on the way: {partly}");
        // Earlier and later: the shell sees a name, and kills.
        let seen = round * 37 % 300;
        let until = format!("until [ -e /run/netns/n{seen} ] || ! kill -0 $! 2>/dev/null; do :; done");
        let script = format!("{HOP} ns add {} & {until}; kill -9 $!; wait", names.join(" "));
        round += 1;
        machine.output("sh", &["-c", &script]);
        let there = machine.names();
        for name in &there {
            assert!(machine.is_namespace(name), "{name} is dead");
        }
        if there.len() > 1 && there.len() < names.len() {
            partly += 1;
            // The rest can be made, and only the rest.
            let output = machine.output(HOP, &[&["ns", "add"], &names[..]].concat());
            assert_eq!(text(&output.stderr).matches("exists already").count(), there.len() - 1);
            assert_eq!(machine.names().len(), names.len() + 1);
        }
        let present = machine.names();
        let present: Vec<&str> = present.iter().map(String::as_str).filter(|name| *name != "before").collect();
        if !present.is_empty() {
            machine.ns(&[&["delete"], &present[..]].concat());
        }
    }
    assert!(!machine.ns(&["list"]).contains(".hop-"), "what is about to be a name is listed");
}

#[test]
fn no_zombie_is_left_where_process_1_waits_for_none() {
    let Some(machine) = Machine::new() else { return };
    let zombies = "grep -c 'State:.*Z' /proc/[0-9]*/status | grep -c ':1$' || true";
    wait_until("process 1 is such a one", || machine.sh("cat /proc/1/comm") == "cat\n");
    for n in 0..3 {
        machine.ns(&["add", &format!("n{n}")]);
        machine.ns(&["delete", &format!("n{n}")]);
    }
    assert_eq!(machine.sh(zombies), "0\n");
}

/// As programs do that are process 1 of a container, and start others: each of those it has waited for.
#[test]
fn no_zombie_is_left_where_process_1_waits_for_its_own_alone() {
    let Some(machine) = Machine::new() else { return };
    let process_1 = format!(
        "import glob, signal, subprocess
signal.signal(signal.SIGCHLD, lambda *_: None)
for n in range(3):
    subprocess.run(['{HOP}', 'ns', 'add', f'n{{n}}'], check=True)
print(sum('State:\\tZ' in open(status).read() for status in glob.glob('/proc/[0-9]*/status')))"
    );
    let run = ["--pid", "--fork", "--mount-proc", "python3", "-c", &process_1];
    assert_eq!(machine.run("unshare", &run), "0\n");
}

#[test]
fn what_a_killed_add_has_left_is_cleared_away() {
    let Some(machine) = Machine::new() else { return };
    machine.ns(&["add", "a"]);
    machine.make_dead(".hop-0123456789abcdef");
    // One of another add, which is at work just now.
    std::fs::File::create(machine.names_dir().join(".hop-fedcba9876543210")).unwrap();
    // One that was killed after it had mounted.
    machine.sh("touch /run/netns/.hop-mounted; mount --bind /run/netns/a /run/netns/.hop-mounted");
    let left = || -> BTreeSet<String> {
        let entries = std::fs::read_dir(machine.names_dir()).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| is_temporary(name))
            .collect()
    };
    machine.ns(&["add", "b"]);
    assert_eq!(left(), set(&[".hop-fedcba9876543210", ".hop-mounted"]));
    assert_eq!(machine.names(), set(&["a", "b"]));
    // When they are ten seconds old nobody is at work.
    wait_until("an add clears them away", || {
        machine.ns(&["add", "c"]);
        machine.ns(&["delete", "c"]);
        std::thread::sleep(Duration::from_millis(200));
        left().is_empty()
    });
    assert_eq!(machine.mounted_namespaces(), 2);
    assert!(machine.is_namespace("a"));
}

// --------------------------------------------------------------------------------- dead names

#[test]
fn dead_names_are_told_and_made_alive_or_deleted() {
    let Some(machine) = Machine::new() else { return };
    machine.ns(&["add", "alive"]);
    for name in ["one", "two", "three"] {
        machine.make_dead(name);
        assert_eq!(machine.row(name)["kind"], "dead");
    }
    // What `ip netns` makes of it.
    assert!(!machine.output("ip", &["netns", "exec", "one", "true"]).status.success());
    assert!(!machine.output("ip", &["netns", "add", "one"]).status.success());
    let said = machine.ns_fails(1, &["exec", "one", "true"]);
    assert!(said.contains("the name `one` is dead") && said.contains("`hop ns add one`"), "{said}");
    assert!(machine.ns_fails(1, &["pids", "one"]).contains("is dead"));
    machine.ns(&["add", "one", "other"]);
    assert!(machine.is_namespace("one"));
    machine.ip(&["exec", "one", "true"]);
    machine.ns(&["attach", "two", "1"]);
    assert!(machine.is_namespace("two"));
    machine.ns(&["delete", "three"]);
    assert_eq!(machine.names(), set(&["alive", "one", "other", "two"]));
    // A link to what is gone.
    machine.sh("ln -s /proc/999999/ns/net /run/netns/nowhere; ln -s /proc/1/ns/net /run/netns/somewhere");
    assert_eq!(machine.row("nowhere")["kind"], "dead");
    assert_eq!(machine.row("somewhere")["kind"], "link");
    machine.ns(&["add", "nowhere"]);
    assert_eq!(machine.row("nowhere")["kind"], "mount");
    assert!(machine.ns_fails(1, &["add", "somewhere"]).contains("exists already"));
    machine.ns(&["delete", "somewhere"]);
    assert!(!machine.names().contains("somewhere"));
}

/// The way out that is shown is one that a shell takes, and does nothing to other names.
#[test]
fn a_dead_name_is_shown_as_it_has_to_be_typed() {
    let Some(machine) = Machine::new() else { return };
    machine.ns(&["add", "a", "b"]);
    for (name, way_out) in [
        ("a b", "hint: `hop ns delete 'a b'` removes it"),
        ("$(id)", "hint: `hop ns delete '$(id)'` removes it"),
        ("-n", "hint: `hop ns delete -- -n` removes it"),
        ("c", "hint: `hop ns add c` makes it a namespace again, `hop ns delete c` removes it"),
    ] {
        machine.make_dead(name);
        let said = machine.ns_fails(1, &["exec", "--", name, "true"]);
        assert_eq!(said.lines().nth(1), Some(way_out));
        let typed = way_out.split('`').rfind(|part| part.starts_with("hop ns delete")).unwrap();
        machine.sh(&typed.replacen("hop", HOP, 1));
        assert_eq!(machine.names(), set(&["a", "b"]), "{typed}");
    }
    machine.make_dead("x\ny");
    let said = machine.ns_fails(1, &["exec", "x\ny", "true"]);
    assert!(said.lines().count() == 2 && !said.contains("delete x"), "{said}");
}

#[test]
fn a_namespace_that_may_not_be_opened_is_not_dead() {
    let Some(machine) = Machine::new() else { return };
    // Root of a container may not look at a process that has more rights (ptrace(2)).
    let less =
        |args: &[&str]| machine.output("setpriv", &[&["--bounding-set", "-sys_ptrace", HOP, "ns"], args].concat());
    machine.sh("mkdir /run/netns && ln -s /proc/1/ns/net /run/netns/closed");
    let rows: serde_json::Value = serde_json::from_slice(&less(&["list", "--json"]).stdout).unwrap();
    assert_eq!((&rows[0]["kind"], &rows[0]["processes"]), (&"link".into(), &serde_json::Value::Null), "{rows}");
    let said = text(&less(&["exec", "closed", "true"]).stderr);
    assert!(said.contains("`closed`, a link to /proc/1/ns/net: Permission denied (EACCES)"), "{said}");
    let added = less(&["add", "closed"]);
    assert!(text(&added.stderr).contains("exists already"), "a name that lives was replaced: {added:?}");
    assert_eq!(machine.sh("readlink /run/netns/closed"), "/proc/1/ns/net\n");
}

#[test]
fn names_of_a_lab_whose_keeper_is_a_zombie_are_dead() {
    // Its process 1 waits for nobody.
    let Some(machine) = Machine::new() else { return };
    machine.run(HOP, &["up", "near -- far", "--name", "lab"]);
    let labs: serde_json::Value = serde_json::from_str(&machine.run(HOP, &["ls", "--json"])).unwrap();
    let keeper = labs[0]["keeper"].as_u64().unwrap();
    machine.sh(&format!("kill -9 {keeper}"));
    wait_until("the keeper has ended", || {
        machine.sh(&format!("cat /proc/{keeper}/status 2>/dev/null || true")).contains("zombie")
    });
    assert_eq!(machine.row("lab.near")["kind"], "dead");
    machine.ns(&["add", "lab.near"]);
    assert_eq!(machine.row("lab.near")["kind"], "mount");
    machine.ns(&["delete", "--all"]);
    assert_eq!(machine.names(), set(&[]));
    machine.run(HOP, &["down", "lab"]);
}

#[test]
fn a_name_in_the_making_is_left_to_whoever_makes_it() {
    let Some(machine) = Machine::new() else { return };
    machine.ns(&["add", "a"]);
    // `ip netns add`, slowed down between its two steps. However long hop takes to start, it is young.
    let slow = std::fs::File::create(machine.names_dir().join("slow")).unwrap();
    slow.set_modified(SystemTime::now() + Duration::from_hours(1)).unwrap();
    let mut hop = machine.command(HOP, &["ns", "add", "slow"]).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(100));
    assert!(hop.try_wait().unwrap().is_none(), "it did not wait");
    machine.sh("mount --bind /run/netns/a /run/netns/slow");
    let output = hop.wait_with_output().unwrap();
    assert!(!output.status.success());
    assert!(text(&output.stderr).contains("a namespace `slow` exists already"), "{}", text(&output.stderr));
    // One that was stopped for good is no namespace some seconds later, and then it is replaced.
    std::fs::File::create(machine.names_dir().join("stopped")).unwrap();
    let begun = Instant::now();
    machine.ns(&["add", "stopped"]);
    assert!(begun.elapsed() > Duration::from_secs(2), "it did not wait");
    assert!(machine.is_namespace("stopped"));
}

// ------------------------------------------------------------------------------- hostile names

#[test]
fn no_name_leads_out_of_the_directory() {
    let Some(machine) = Machine::new() else { return };
    machine.ns(&["add", "a"]);
    machine.sh("mkdir -p /run/precious && touch /run/precious/file /run/file");
    for bad in ["../file", "/run/file", "..", ".", "", "a/../../file", "precious/file"] {
        for command in [&["delete", bad][..], &["exec", bad, "true"], &["pids", bad], &["set", bad, "auto"]] {
            let said = machine.ns_fails(2, command);
            assert!(said.contains("is no name of a namespace"), "{said}");
        }
        machine.ns_fails(2, &["add", "--", bad]);
        machine.ns_fails(2, &["attach", bad, "1"]);
    }
    for bad in ["123", "-x", ".x", "a b", "a\nb", "$(id)", "10.0.0.1", &"x".repeat(256)] {
        machine.ns_fails(2, &["add", "--", bad]);
    }
    assert_eq!(machine.names(), set(&["a"]));
    // Links are deleted, not what they lead to; what is no name is left alone.
    machine.sh("ln -s /run/file /run/netns/link; mkdir /run/netns/dir; mkfifo /run/netns/pipe");
    assert_eq!(machine.row("link")["kind"], "dead");
    assert!(machine.ns_fails(1, &["exec", "link", "true"]).contains("is dead"));
    machine.ns(&["delete", "link"]);
    for (name, what) in [("dir", "a directory"), ("pipe", "a device or a pipe")] {
        assert_eq!(machine.row(name)["kind"], "foreign");
        for command in [&["delete", name][..], &["exec", name, "true"], &["add", name]] {
            let said = machine.ns_fails(1, command);
            assert!(said.contains(&format!("is no namespace, but {what}")) && said.contains("hint: "), "{said}");
        }
    }
    assert_eq!(machine.sh("ls /run/precious /run/file"), "/run/file\n\n/run/precious:\nfile\n");
}

#[test]
fn names_that_only_ip_netns_gives_can_be_used_and_deleted() {
    let Some(machine) = Machine::new() else { return };
    let odd = ["a b", "123", "$(id)", "x\ny", "-n", "é"];
    for name in odd {
        machine.run("ip", &["netns", "add", name]);
        assert_eq!(machine.row(name)["kind"], "mount", "{name:?}");
        assert_eq!(machine.ns(&["exec", "--", name, "ls", "/sys/class/net"]), "lo\n", "{name:?}");
        assert_eq!(machine.ns(&["pids", "--", name]), "");
    }
    assert_eq!(machine.ns(&["list"]).lines().count(), 1 + odd.len(), "a name takes more than its line");
    machine.ns(&[&["delete", "--"], &odd[..]].concat());
    assert_eq!(machine.names(), set(&[]));
}

// ------------------------------------------------------------------------------------- deleting

#[test]
fn a_name_that_is_mounted_twice_is_deleted_at_once() {
    let Some(machine) = Machine::new() else { return };
    machine.ns(&["add", "a", "b"]);
    machine.sh("mount --bind /run/netns/a /run/netns/a; mount --bind /run/netns/b /run/netns/a");
    machine.ns(&["delete", "a"]);
    assert_eq!(machine.names(), set(&["b"]));
    assert_eq!(machine.mounted_namespaces(), 1);
}

#[test]
fn delete_goes_on_and_says_what_failed() {
    let Some(machine) = Machine::new() else { return };
    machine.ns(&["add", "alpha", "beta"]);
    let said = machine.ns_fails(2, &["delete", "alpha", "alpa", "beta", "nobody"]);
    assert!(said.contains("no namespace `alpa`") && said.contains("no namespace `nobody`"), "{said}");
    assert_eq!(machine.names(), set(&[]));
    let said = machine.ns_fails(1, &["add", "a", "a", "b"]);
    assert!(said.contains("a namespace `a` exists already"), "{said}");
    assert_eq!(machine.names(), set(&["a", "b"]));
    let said = machine.ns_fails(2, &["exec", "aa", "true"]);
    assert!(said.contains("did you mean `a`?"), "{said}");
}

#[test]
fn delete_says_what_still_holds_the_namespace() {
    let Some(machine) = Machine::new() else { return };
    machine.ns(&["add", "process", "file", "socket", "mount", "elsewhere", "free"]);
    machine.sh("exec >/dev/null 2>&1
        ip netns exec process sleep 1000 &
        sleep 1000 7</run/netns/file &
        mount --bind /run/netns/mount /run/upper/../file-of-mine || { touch /run/file-of-mine; \
        mount --bind /run/netns/mount /run/file-of-mine; }
        unshare --mount --propagation private sh -c 'touch /run/theirs; \
            mount --bind /run/netns/elsewhere /run/theirs; exec sleep 1000' &");
    // A socket that was made in the namespace by a process that has gone elsewhere since.
    let python = "import ctypes, os, socket, time
libc = ctypes.CDLL(None)
own = os.open('/proc/self/ns/net', os.O_RDONLY)
there = os.open('/run/netns/socket', os.O_RDONLY)
assert libc.setns(there, 0) == 0
held = socket.socket()
assert libc.setns(own, 0) == 0
os.close(there)
open('/run/ready', 'w').close()
time.sleep(1000)";
    let has_python = Command::new("python3").arg("--version").output().is_ok_and(|output| output.status.success());
    let mut holder =
        has_python.then(|| machine.command("python3", &["-c", python]).stdout(Stdio::null()).spawn().unwrap());
    wait_until("all of them hold on", || {
        let ready = machine.output("sh", &["-c", "test -e /run/theirs && grep -q theirs /proc/[0-9]*/mounts"]);
        let python = machine.output("test", &["-e", "/run/ready"]);
        ready.status.success()
            && (holder.is_none() || python.status.success())
            && !machine.ip(&["pids", "process"]).is_empty()
    });
    let mut names = vec!["process", "file", "mount", "elsewhere", "free"];
    names.extend(holder.as_ref().map(|_| "socket"));
    // While they have names, `list` tells the same.
    let listed = machine.ns(&["list", "--holders"]);
    for words in ["(sleep) runs in it", "(sleep) has it open, as file 7", "it is mounted on /run/file-of-mine\n"] {
        assert!(listed.contains(words), "{listed}");
    }
    assert!(!listed.contains("mounted on /run/netns"), "{listed}");
    let rows: Vec<serde_json::Value> = serde_json::from_str(&machine.ns(&["list", "--holders", "--json"])).unwrap();
    let holders = |name: &str| rows.iter().find(|row| row["name"] == name).unwrap()["holders"].clone();
    assert_eq!(holders("free"), serde_json::json!([]));
    assert_eq!(holders("file")[0]["kind"], "file");
    assert_eq!(holders("file")[0]["number"], 7);
    assert_eq!(holders("elsewhere")[0]["path"], "/run/theirs");
    assert!(machine.row("file")["holders"].is_null(), "nobody has asked");
    let output = machine.output(HOP, &[&["ns", "delete"], &names[..]].concat());
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    let told = |name: &str| -> String {
        let rest = said.split_once(&format!("that was `{name}` lives on:\n")).map_or("", |(_, rest)| rest);
        rest.lines().take_while(|line| line.starts_with("  ")).collect()
    };
    assert!(told("process").contains("(sleep) runs in it"), "{said}");
    assert!(told("file").contains("(sleep) has it open, as file 7"), "{said}");
    assert!(told("mount").contains("it is mounted on /run/file-of-mine"), "{said}");
    assert!(told("elsewhere").contains("it is mounted on /run/theirs in the mount namespace of process"), "{said}");
    assert_eq!(told("free"), "", "{said}");
    if holder.is_some() {
        assert!(told("socket").contains("(python3) has a socket in it, as file"), "{said}");
    } else {
        println!("skipped: a socket that holds a namespace: there is no python3 here");
    }
    if let Some(holder) = &mut holder {
        holder.kill().unwrap();
        holder.wait().unwrap();
    }
}

#[test]
fn delete_waits_until_nothing_holds_the_namespace() {
    let Some(machine) = Machine::new() else { return };
    machine.ns(&["add", "a", "b"]);
    machine.ns(&["delete", "--wait", "b"]);
    machine.sh("ip netns exec a sleep 1000 >/dev/null 2>&1 & echo $! > /run/pid");
    wait_until("it is in the namespace", || !machine.ns(&["pids", "a"]).is_empty());
    let mut hop = machine.command(HOP, &["ns", "delete", "--wait", "a"]).stderr(Stdio::piped()).spawn().unwrap();
    wait_until("the name is gone", || machine.names().is_empty());
    std::thread::sleep(Duration::from_millis(100));
    assert!(hop.try_wait().unwrap().is_none(), "it did not wait");
    machine.sh("kill $(cat /run/pid)");
    wait_until("it has been waited for", || hop.try_wait().unwrap().is_some());
    let output = hop.wait_with_output().unwrap();
    assert!(output.status.success());
    assert!(text(&output.stderr).contains("(sleep) runs in it"), "{}", text(&output.stderr));
}

// -------------------------------------------------------------------------------------- running

#[test]
fn a_command_ends_as_it_would_anywhere() {
    let Some(machine) = Machine::new() else { return };
    machine.ns(&["add", "a", "b"]);
    for script in ["exit 0", "exit 42", "kill -SEGV $$"] {
        let status = |program: &str, args: &[&str]| machine.output(program, args).status.code();
        let by_ip = status("ip", &["netns", "exec", "a", "sh", "-c", script]);
        assert_eq!(status(HOP, &["ns", "exec", "a", "sh", "-c", script]), by_ip, "{script}");
    }
    let output = machine.output(HOP, &["ns", "exec", "a", "no-such-command"]);
    assert_eq!(output.status.code(), Some(127));
    assert_eq!(text(&output.stderr), "error: cannot run `no-such-command`: not found\n");
    assert_eq!(machine.output(HOP, &["ns", "exec", "a", "/etc/passwd"]).status.code(), Some(126));
    assert_eq!(machine.ns(&["exec", "-C", "/usr", "-e", "A=b c", "a", "sh", "-c", "pwd; echo $A"]), "/usr\nb c\n");
    if is_root() {
        assert_eq!(machine.ns(&["exec", "--user", "nobody", "a", "id", "-u"]), "65534\n");
    }
    // In all of them: one that fails does not keep the others from it.
    let output =
        machine.output(HOP, &["ns", "exec", "--all", "-e", "A=1", "sh", "-c", "echo $A; ls /sys/class/net; exit 3"]);
    assert_eq!(text(&output.stdout), "1\nlo\n1\nlo\n");
    assert_eq!(text(&output.stderr), "netns: a\nnetns: b\n");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(machine.ns(&["exec", "--all", "--", "true"]), "");
}

#[test]
fn a_signal_ends_a_command_in_all_namespaces() {
    let Some(machine) = Machine::new() else { return };
    machine.ns(&["add", "a", "b", "c"]);
    for (signal, status) in [("TERM", 143), ("INT", 130)] {
        // By a program that ends as if nothing were the matter, too.
        let script = format!("trap 'exit 0' INT TERM; kill -{signal} $PPID; while :; do sleep 0.01; done");
        let output = machine.output(HOP, &["ns", "exec", "--all", "--", "sh", "-c", &script]);
        assert_eq!(text(&output.stderr), "netns: a\n", "{signal}");
        assert_eq!(output.status.code(), Some(status), "{signal}");
    }
}

#[test]
fn what_is_mounted_below_sys_stays() {
    let Some(machine) = Machine::new() else { return };
    machine.ns(&["add", "a"]);
    machine.sh("mount -t tmpfs none /sys/fs/cgroup && touch /sys/fs/cgroup/here");
    let points = |table: &str| -> BTreeSet<String> {
        let points = table.lines().map(|line| line.split(' ').nth(1).unwrap().to_owned());
        points.filter(|point| point.starts_with("/sys/")).collect()
    };
    let before = points(&machine.sh("cat /proc/self/mounts"));
    assert!(!before.is_empty());
    assert_eq!(points(&machine.ns(&["exec", "a", "cat", "/proc/self/mounts"])), before);
    assert_eq!(machine.ns(&["exec", "a", "ls", "/sys/fs/cgroup"]), "here\n");
    assert_eq!(points(&machine.sh("cat /proc/self/mounts")), before, "the mounts of the host have changed");
}

#[test]
fn files_of_a_namespace_cover_those_of_the_host_or_nothing_runs() {
    let Some(machine) = Machine::new() else { return };
    machine.ns(&["add", "a", "b"]);
    machine.sh(
        "mkdir -p /etc/netns/a && echo 'nameserver 192.0.2.1' > /etc/netns/a/resolv.conf && touch /etc/resolv.conf",
    );
    let resolver = |by: &str, name: &str| match by {
        "ip" => machine.ip(&["exec", name, "cat", "/etc/resolv.conf"]),
        _ => machine.ns(&["exec", name, "cat", "/etc/resolv.conf"]),
    };
    assert_eq!(resolver("hop", "a"), "nameserver 192.0.2.1\n");
    assert_eq!(resolver("hop", "a"), resolver("ip", "a"));
    assert_eq!(resolver("hop", "b"), "nameserver 198.51.100.1\n");
    // There is nothing that it could cover: the command would see what it should not.
    machine.sh("touch /etc/netns/a/no-such-file");
    let said = machine.ns_fails(1, &["exec", "a", "touch", "/run/has-run"]);
    assert!(said.contains("cannot put /etc/netns/a/no-such-file in the place of /etc/no-such-file"), "{said}");
    assert!(!machine.output("test", &["-e", "/run/has-run"]).status.success());
}

// --------------------------------------------------------------------------------------- moving

/// Two ends of a link, one of which has all that an interface can lose.
const LINK: &str = "ip link set lo up
ip link add v0 type veth peer name v1 && ip link set v1 up && ip link set v0 up mtu 1400
ip addr add 10.9.0.1/24 dev v1
ip addr add 10.1.0.9/24 dev v0
ip addr add 10.1.0.1/24 dev v0 valid_lft 4000 preferred_lft 3000
ip addr add 10.2.0.1 peer 10.2.0.2/32 dev v0
ip addr add fd01::1/64 dev v0 nodad
ip route add default via 10.1.0.254
ip -6 route add default via fd01::fe
ip route add 10.5.0.0/16 via 10.6.0.1 onlink dev v0 proto 77 metric 5
ip route add 10.6.0.0/16 via 10.5.0.1
ip route add 172.16.0.0/12 dev v0 table 99
ip neigh add 10.1.0.254 lladdr 02:00:00:00:00:99 dev v0 nud permanent
ip link property add dev v0 altname a-second-and-longer-name";

/// What an interface has; what the kernel gives it by itself is left out, and what passes. The local route of an IPv6
/// address comes a moment after the address.
fn properties(machine: &Machine, ns: Option<&str>, dev: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    wait_until("its addresses can be reached", || {
        found = properties_now(machine, ns, dev);
        let has = |start: &str| found.iter().any(|line| line.starts_with(start));
        !has(",UP,LOWER_UP>: true") || !has(&format!("{dev} inet6 fd01::1")) || has("local fd01::1 ")
    });
    found
}

fn properties_now(machine: &Machine, ns: Option<&str>, dev: &str) -> BTreeSet<String> {
    let ip = |args: &[&str]| {
        let within = ns.map_or(vec![], |ns| vec!["-n", ns]);
        machine.run("ip", &[&within[..], args].concat())
    };
    let mut found = BTreeSet::new();
    let link = ip(&["-o", "link", "show", "dev", dev]);
    found.extend(["mtu 1400", ",UP,LOWER_UP>"].map(|word| format!("{word}: {}", link.contains(word))));
    found.extend(link.split_once("link/ether ").map(|(_, mac)| mac[..17].to_owned()));
    found.extend(link.split_once("altname ").map(|(_, name)| name.trim_end().to_owned()));
    for args in [
        &["-o", "addr", "show", "dev", dev][..],
        &["-4", "route", "show", "table", "all", "dev", dev],
        &["-6", "route", "show", "table", "all", "dev", dev],
        &["neigh", "show", "dev", dev, "nud", "permanent"],
    ] {
        for line in ip(args).lines().filter(|line| !line.contains("fe80::") && !line.contains("ff00::/8")) {
            // Without the index in front, and the seconds that are left.
            let line = line.split_once(": ").map_or(line, |(_, rest)| rest);
            let words = line.split_whitespace().filter(|word| !word.ends_with("sec") && *word != "linkdown");
            found.insert(words.collect::<Vec<_>>().join(" "));
        }
    }
    found
}

#[test]
fn an_interface_keeps_what_it_has_when_it_moves() {
    let Some(machine) = Machine::new() else { return };
    machine.sh(LINK);
    machine.ns(&["add", "a", "b"]);
    let before = properties(&machine, None, "v0");
    assert!(before.len() > 12, "{before:?}");
    let quietly = |args: &[&str]| {
        let output = machine.output(HOP, &[&["ns", "move"], args].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert_eq!(text(&output.stderr), "");
    };
    quietly(&["v0", "a"]);
    assert!(machine.sh("ip -o link").contains("v1@") && !machine.sh("ip -o link").contains(" v0@"));
    assert_eq!(properties(&machine, Some("a"), "v0"), before);
    // Packets cross.
    machine.sh("ip addr add 10.1.0.2/24 dev v1");
    if Command::new("ping").arg("-V").output().is_ok_and(|output| output.status.success()) {
        // The other end has been without a carrier, and the kernel sends by it again a moment later.
        wait_until("a packet crosses", || machine.output("ping", &["-c", "1", "-W", "5", "10.1.0.9"]).status.success());
    } else {
        println!("skipped: packets to an interface that was moved: there is no ping here");
    }
    quietly(&["v0", "--from", "a", "b"]);
    assert_eq!(properties(&machine, Some("b"), "v0"), before);
    quietly(&["v0", "--from", "b"]);
    assert_eq!(properties(&machine, None, "v0"), before);
    assert!(machine.sh("ls -A /run/hopyard 2>/dev/null || true").is_empty(), "it is home, and still on record");
    // As `ip link set` does it.
    quietly(&["--bare", "v0", "a"]);
    let bare = properties(&machine, Some("a"), "v0");
    assert!(bare.contains(",UP,LOWER_UP>: false") && bare.len() == 4, "{bare:?}");
}

#[test]
fn what_an_interface_loses_when_it_moves_is_told() {
    let Some(machine) = Machine::new() else { return };
    machine.sh(LINK);
    machine.sh("ip route add 10.7.0.0/16 nexthop via 10.1.0.2 dev v0 nexthop via 10.9.0.2 dev v1
        ip addr add 10.8.0.1/32 dev lo && ip route add 10.10.0.0/16 dev v0 src 10.8.0.1
        ip link add br0 type bridge && ip link add p0 type veth peer name p1 && ip link set p0 master br0 up");
    machine.ns(&["add", "a"]);
    let said = |args: &[&str]| text(&machine.output(HOP, &[&["ns", "move"], args].concat()).stderr);
    let lost = said(&["v0", "a"]);
    assert!(lost.contains("v0 has lost its part in the route to 10.7.0.0/16, which has other ways"), "{lost}");
    assert!(lost.contains("v0 has lost the route to 10.10.0.0/16: Invalid argument (EINVAL)"), "{lost}");
    assert_eq!(lost.lines().count(), 2, "{lost}");
    assert_eq!(said(&["p0", "a"]), "warning: p0 has lost its place in br0\n");
}

#[test]
fn what_an_interface_shares_with_others_it_has_again_where_it_came_from() {
    let Some(machine) = Machine::new() else { return };
    machine.sh(LINK);
    machine.sh("ip link add br0 type bridge && ip link add p0 type veth peer name p1 && ip link set p0 master br0 up
        ip addr add 10.9.0.1/24 dev p1 && ip addr add fd09::1/64 dev p1 nodad && ip link set p1 up
        ip route add 10.7.0.0/16 nexthop via 10.1.0.2 dev v0 nexthop via 10.9.0.2 dev p1 weight 3
        ip route add fd77::/48 nexthop via fd01::2 dev v0 nexthop via fd09::2 dev p1");
    let routes = || {
        let lines = machine.sh("ip route show 10.7.0.0/16; ip -6 route show fd77::/48");
        lines.lines().map(|line| line.trim().replace(" linkdown", "")).collect::<BTreeSet<_>>()
    };
    let before = routes();
    assert_eq!(before.len(), 6, "{before:?}");
    for way_back in [&["delete", "a"][..], &["move", "v0", "--from", "a"]] {
        machine.ns(&["add", "a", "b"]);
        machine.ns(&["move", "p0", "b"]);
        machine.ns(&["move", "v0", "a"]);
        // The other ways stay: the kernel would take those of IPv4 as well.
        let left = machine.sh("ip route show 10.7.0.0/16; ip -6 route show fd77::/48");
        assert!(left.contains("via 10.9.0.2 dev p1") && left.contains("via fd09::2 dev p1"), "{left}");
        assert!(!left.contains("v0"), "{left}");
        machine.ns(way_back);
        assert_eq!(routes(), before, "{way_back:?}");
        let output = machine.output(HOP, &["ns", "delete", "b"]);
        assert_eq!(text(&output.stderr), "p0 is back from where it had been moved to\n");
        assert!(machine.sh("ip -o link show dev p0").contains("master br0"));
        machine.output(HOP, &["ns", "delete", "a"]);
    }
    // A group of nexthop objects goes on with the others by itself.
    machine.sh("ip nexthop add id 1 via 10.1.0.2 dev v0; ip nexthop add id 2 via 10.9.0.2 dev p1; ip nexthop add id 3 group 1/2
        ip route add 10.6.0.0/16 nhid 3");
    machine.ns(&["add", "a"]);
    machine.ns(&["move", "v0", "a"]);
    let group = || machine.sh("ip route show 10.6.0.0/16").trim().replace(" linkdown", "");
    let rest = group();
    assert!(rest.starts_with("10.6.0.0/16 nhid 3 via 10.9.0.2 dev p1") && rest.lines().count() == 1, "{rest}");
    let said = text(&machine.output(HOP, &["ns", "delete", "a"]).stderr);
    assert_eq!(said, "v0 is back from where it had been moved to\nwarning: v0 has lost its part in the nexthop 3\n");
    assert_eq!(group(), rest);
    // A bridge that is gone cannot have it.
    machine.ns(&["add", "a"]);
    machine.ns(&["move", "p0", "a"]);
    machine.sh("ip link delete br0");
    let said = text(&machine.output(HOP, &["ns", "delete", "a"]).stderr);
    assert!(said.contains("p0 has lost its place in br0: No such device (ENODEV)"), "{said}");
    // Nor is a route that somebody has made meanwhile replaced.
    machine.ns(&["add", "a"]);
    machine.ns(&["move", "v0", "a"]);
    machine.sh("ip route replace 10.7.0.0/16 dev p1");
    let said = text(&machine.output(HOP, &["ns", "delete", "a"]).stderr);
    assert!(said.contains("v0 has lost its part in the route to 10.7.0.0/16"), "{said}");
    assert!(machine.sh("ip route show 10.7.0.0/16").starts_with("10.7.0.0/16 dev p1"));
}

#[test]
fn what_is_set_for_an_interface_goes_with_it() {
    const SYSCTLS: &[&str] = &[
        "net.ipv4.conf.v0.rp_filter=2",
        "net.ipv4.conf.v0.proxy_arp=1",
        "net.ipv4.conf.v0.forwarding=1",
        "net.ipv6.conf.v0.accept_ra=2",
        "net.ipv6.conf.v0.addr_gen_mode=1",
        "net.ipv4.neigh.v0.base_reachable_time_ms=5000",
    ];
    let Some(machine) = Machine::new() else { return };
    machine.sh("ip link add v0 type veth peer name v1");
    machine.run("sysctl", &[&["-qw"], SYSCTLS].concat());
    machine.sh("ip link set v0 up; ip link set v1 up; ip addr add 10.1.0.1/24 dev v0; ip addr add fd01::1/64 dev v0 nodad; ip token set ::99 dev v0
        ip neigh add proxy 10.1.0.77 dev v0; ip neigh add proxy fd01::77 dev v0
        ip route add 10.2.0.0/16 via 10.1.0.2; ip route append 10.2.0.0/16 via 10.1.0.3
        ip -6 route add fd02::/16 via fd01::2 expires 1000
        ip nexthop add id 5 via 10.1.0.4 dev v0; ip route add 10.3.0.0/16 nhid 5
        tc qdisc add dev v0 root tbf rate 1mbit burst 10k latency 10ms");
    let state = |within: &str| {
        let names = SYSCTLS.iter().map(|it| it.split_once('=').unwrap().0).collect::<Vec<_>>().join(" ");
        let found = machine.sh(&format!(
            "run() {{ {within} \"$@\"; }}; run sysctl {names}; run ip neigh show proxy; run ip token list dev v0
            run ip route show 10.2.0.0/16; run ip route show 10.3.0.0/16; run ip -6 route show fd02::/16; run ip -6 -o address show dev v0 scope link"
        ));
        let words = |line: &str| {
            let words = line.split_whitespace().filter(|word| !word.ends_with("sec"));
            words.collect::<Vec<_>>().join(" ").replace("nhid 5 ", "")
        };
        found.lines().map(words).collect::<Vec<_>>()
    };
    let before = state("");
    assert!(before.iter().any(|line| line.ends_with("expires pref medium")), "{before:?}");
    assert!(before.contains(&"token ::99 dev v0".to_owned()) && before.len() == 13, "{before:?}");
    machine.ns(&["add", "a"]);
    let said = text(&machine.output(HOP, &["ns", "move", "v0", "a"]).stderr);
    let told = "warning: v0 has lost the nexthop 5, without which its routes go the same way\n\
        warning: v0 has lost its queueing discipline tbf\n";
    assert_eq!(said, told);
    assert_eq!(state("ip netns exec a"), before);
    let said = text(&machine.output(HOP, &["ns", "delete", "a"]).stderr);
    assert!(said.ends_with(told), "{said}");
    assert_eq!(state(""), before);
}

#[test]
fn a_route_that_another_interface_has_already_is_told() {
    let Some(machine) = Machine::new() else { return };
    machine.sh("ip link add v0 type veth peer name v1; ip link set v0 up; ip link set v1 up; ip addr add fd01::1/64 dev v0 nodad
        ip addr add 10.1.0.1/24 dev v0; ip -6 route add default via fd01::fe; ip route add default via 10.1.0.254");
    machine.ns(&["add", "a"]);
    machine.sh("ip -n a link add w0 type veth peer name w1; ip -n a link set w0 up; ip -n a addr add fd05::1/64 dev w0 nodad
        ip -n a addr add 10.5.0.1/24 dev w0; ip -n a -6 route add default via fd05::fe; ip -n a route add default via 10.5.0.254");
    let said = text(&machine.output(HOP, &["ns", "move", "v0", "a"]).stderr);
    assert_eq!(said, "warning: v0 has lost the default route: File exists (EEXIST)\n");
    // Neither is split between both; of IPv4 the second one waits behind.
    let routes = machine.sh("ip -n a route show default; ip -n a -6 route show default");
    let ways: Vec<&str> = routes.lines().filter_map(|line| line.split(' ').nth(2)).collect();
    assert_eq!(ways, ["10.5.0.254", "10.1.0.254", "fd05::fe"], "{routes}");
}

#[test]
fn the_rules_that_name_an_interface_go_with_it() {
    /// As `ip rule` shows them, without those that every namespace has.
    fn rules(machine: &Machine, ns: Option<&str>) -> BTreeSet<String> {
        let within = ns.map_or(vec![], |ns| vec!["-n", ns]);
        let shown = ["-4", "-6"].map(|family| machine.run("ip", &[&within[..], &[family, "rule"]].concat()));
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let own = |line: &&str| {
            !["lookup local", "lookup main", "lookup default"].iter().any(|end| line.trim_end().ends_with(end))
        };
        shown.iter().flat_map(|family| family.lines()).filter(own).map(words).collect()
    }
    let Some(machine) = Machine::new() else { return };
    machine.sh(LINK);
    machine.ns(&["add", "a", "b"]);
    let stays = set(&["90: from 10.9.0.0/16 lookup 99", "91: from all iif v1 lookup 99"]);
    machine.sh("ip rule add from 10.9.0.0/16 lookup 99 prio 90; ip rule add iif v1 lookup 99 prio 91
        ip rule add iif v0 lookup 99 prio 100
        ip rule add not from 10.1.0.0/24 oif v0 fwmark 3/7 ipproto tcp dport 80-90 prohibit prio 101
        ip rule add iif v0 goto 101 prio 99
        ip -6 rule add iif v0 to fd09::/16 lookup 99 suppress_prefixlength 0 prio 102");
    let before = rules(&machine, None);
    let moved: BTreeSet<String> = before.difference(&stays).cloned().collect();
    assert_eq!((before.len(), moved.len()), (6, 4), "{before:?}");
    machine.ns(&["move", "v0", "a"]);
    assert_eq!((rules(&machine, None), rules(&machine, Some("a"))), (stays.clone(), moved.clone()));
    machine.ns(&["move", "v0", "--from", "a", "b"]);
    assert_eq!((rules(&machine, Some("a")), rules(&machine, Some("b"))), (set(&[]), moved));
    machine.ns(&["delete", "b"]);
    assert_eq!(rules(&machine, None), before);
    // It has no rules of its own there, and those that it has here wait for it.
    machine.ns(&["move", "--bare", "v0", "a"]);
    assert_eq!((rules(&machine, None), rules(&machine, Some("a"))), (stays, set(&[])));
    machine.ns(&["delete", "a"]);
    assert_eq!(rules(&machine, None), before);
    // One that is about another interface too stays with that one.
    machine.sh("ip rule add iif v0 oif v1 lookup 99 prio 103");
    machine.ns(&["add", "a"]);
    let said = text(&machine.output(HOP, &["ns", "move", "v0", "a"]).stderr);
    assert_eq!(said, "warning: v0 has lost its part in the rule 103, which names v1 too\n");
    assert!(rules(&machine, None).contains("103: from all iif v0 [detached] oif v1 lookup 99"));
}

#[test]
fn other_kinds_of_interfaces_move_too() {
    let Some(machine) = Machine::new() else { return };
    machine.ns(&["add", "a"]);
    machine.sh("ip link add v0 type veth peer name v1 && ip link set v1 up");
    let mut kinds = vec!["m0"];
    machine.sh("ip link add m0 link v1 type macvlan mode bridge && ip link set m0 up");
    if machine.output("ip", &["tuntap", "add", "mode", "tap", "name", "t0"]).status.success() {
        machine.sh("ip link set t0 up");
        kinds.push("t0");
    } else {
        println!("skipped: a tap interface: /dev/net/tun cannot be used here");
    }
    for dev in kinds {
        machine.sh(&format!("ip addr add 10.3.0.1/24 dev {dev}"));
        machine.ns(&["move", dev, "a"]);
        let there = machine.run("ip", &["-n", "a", "-o", "addr", "show", "dev", dev]);
        assert!(there.contains("inet 10.3.0.1/24"), "{there}");
        machine.ns(&["move", dev, "--from", "a", "host"]);
        assert!(machine.run("ip", &["-o", "addr", "show", "dev", dev]).contains("inet 10.3.0.1/24"));
        machine.sh(&format!("ip link delete {dev}"));
    }
}

#[test]
fn a_move_that_cannot_be_is_told_and_changes_nothing() {
    let Some(machine) = Machine::new() else { return };
    machine.sh(LINK);
    machine.ns(&["add", "a"]);
    machine.sh("ip link add br0 type bridge; ip link add other type veth peer name v0 netns a");
    let before = properties(&machine, None, "v0");
    for (status, args, words) in [
        (1, &["v0", "a"][..], "another interface `v0` in `a`"),
        (1, &["br0", "a"], "The interface netns is immutable"),
        (2, &["lo", "a"], "the interface `lo` cannot leave its namespace"),
        (2, &["v2", "a"], "did you mean `v"),
        (2, &["v0", "host"], "the interface `v0` is here already"),
        (2, &["v0", "--from", "a", "a"], "the interface `v0` is in `a` already"),
        (2, &["v0", "nowhere"], "no namespace `nowhere`"),
        (2, &["v0", "../a"], "is no name of a namespace"),
        (2, &["../v0", "a"], "interface name"),
    ] {
        let said = machine.ns_fails(status, &[&["move"], args].concat());
        assert!(said.contains(words), "{said}");
    }
    assert_eq!(properties(&machine, None, "v0"), before);
    assert!(machine.sh("ls -A /run/hopyard 2>/dev/null || true").is_empty(), "something is on record");
}

#[test]
fn an_interface_comes_back_before_its_namespace_goes() {
    let Some(machine) = Machine::new() else { return };
    machine.sh(LINK);
    machine.ns(&["add", "a", "b"]);
    let before = properties(&machine, None, "v0");
    machine.ns(&["move", "v0", "a"]);
    machine.ns(&["move", "v0", "--from", "a", "b"]);
    // What it has there meanwhile is another matter.
    machine.sh("ip -n b addr flush dev v0; ip -n b link set v0 down");
    // A second name of the same: the namespace stays, and what is in it.
    machine.sh("ip netns exec b sleep 1000 >/dev/null 2>&1 & echo $! > /run/pid");
    wait_until("it is in the namespace", || !machine.ns(&["pids", "b"]).is_empty());
    machine.ns(&["attach", "again", machine.sh("cat /run/pid").trim()]);
    machine.ns(&["delete", "again"]);
    assert!(machine.run("ip", &["-n", "b", "-o", "link"]).contains(" v0@"));
    // Another one has its name: nothing is lost.
    machine.sh("ip link add v0 type veth peer name other");
    let said = machine.ns_fails(1, &["delete", "b"]);
    assert!(said.contains("cannot move the interface v0: File exists (EEXIST)"), "{said}");
    assert!(machine.is_namespace("b") && machine.run("ip", &["-n", "b", "-o", "link"]).contains(" v0@"));
    machine.sh("ip link delete v0");
    // A process that stays does not keep it.
    let output = machine.output(HOP, &["ns", "delete", "b"]);
    let said = text(&output.stderr);
    assert!(output.status.success() && said.contains("v0 is back from where it had been moved to"), "{said}");
    assert!(said.contains("(sleep) runs in it"), "{said}");
    assert_eq!(properties(&machine, None, "v0"), before);
    assert!(machine.sh("ls -A /run/hopyard 2>/dev/null || true").is_empty(), "it is home, and still on record");
    // A name for the very namespace that it is in is but a name.
    machine.ns(&["move", "v0", "a"]);
    machine.ns(&["attach", "here", "1"]);
    machine.ns(&["move", "v0", "--from", "a"]);
    machine.ns(&["delete", "here"]);
    assert_eq!(properties(&machine, None, "v0"), before);
    // What `ip` has moved there, and is nobody's device, goes with the namespace, as with `ip netns delete`.
    machine.sh("ip link set v0 netns a");
    machine.ns(&["delete", "--wait", "a"]);
    assert!(!machine.sh("ip -o link").contains(" v0@"));
}

#[test]
fn an_interface_comes_back_from_a_node_before_its_lab_goes() {
    let Some(machine) = Machine::new() else { return };
    machine.run(HOP, &["up", "near -- far", "--name", "lab"]);
    machine.sh("ip link add v0 type veth peer v1; ip address add 192.0.2.1/24 dev v0; ip link set v0 up; ip link add v2 type veth peer v3");
    machine.ns(&["move", "v0", "lab.near"]);
    // What `ip` has moved there shares the fate of the namespace.
    machine.sh("ip link set v2 netns lab.near");
    let down = machine.output(HOP, &["down", "lab"]);
    assert_eq!(text(&down.stderr), "v0 is back from where it had been moved to\n");
    assert!(machine.sh("ip -4 -o address show dev v0 up").contains("192.0.2.1/24"));
    assert_eq!(machine.sh("ls -A /run/hopyard 2>/dev/null || true"), "");
    // Nor is it deleted as what the file does not know, whatever it is called there.
    machine.run(HOP, &["up", "near -- far", "--name", "lab"]);
    machine.ns(&["move", "v0", "lab.near"]);
    machine.sh("ip -n lab.near link set v0 down; ip -n lab.near link set v0 name v9");
    assert_eq!(text(&machine.output(HOP, &["diff"]).stdout), "ip -n near link set dev v9 netns 1\n");
    let up = machine.output(HOP, &["up", "far -- other", "--name", "lab"]);
    assert_eq!(text(&up.stderr), "v0 is back from where it had been moved to\n");
    assert!(machine.sh("ip -4 -o address show dev v0 up").contains("192.0.2.1/24"));
    machine.run(HOP, &["down", "lab"]);
    // One that cannot is not lost: the lab stays.
    machine.run(HOP, &["up", "near -- far", "--name", "lab"]);
    machine.ns(&["move", "v0", "lab.near"]);
    machine.sh("ip link add v0 type veth peer v4");
    let said = fail(1, machine.command(HOP, &["down", "lab"]));
    assert!(said.contains("there is another `v0`"), "{said}");
    assert!(machine.run(HOP, &["exec", "near", "ls", "/sys/class/net"]).contains("v0"));
    machine.sh("ip link delete v0");
    machine.run(HOP, &["down", "lab"]);
    assert!(machine.sh("ip -4 -o address show dev v0 up").contains("192.0.2.1/24"));
}

#[test]
fn an_interface_is_not_lost_in_a_namespace_that_is_deleted_while_it_moves_there() {
    let Some(machine) = Machine::new() else { return };
    machine.sh("ip link add v0 type veth peer v1; ip address add 192.0.2.1/24 dev v0; ip link set v0 up");
    for turn in 0..30 {
        machine.ns(&["add", "a"]);
        let delete = format!("sleep 0.0{turn:02}; {HOP} ns delete a");
        let done =
            at_once(vec![machine.command(HOP, &["ns", "move", "v0", "a"]), machine.command("sh", &["-c", &delete])]);
        let here = text(&machine.output("ip", &["-4", "-o", "address", "show", "dev", "v0", "up"]).stdout);
        assert!(here.contains("192.0.2.1/24"), "turn {turn}: {done:?}");
    }
    assert_eq!(machine.sh("ls -A /run/hopyard 2>/dev/null || true"), "");
}

#[test]
fn an_interface_has_all_again_also_where_who_brings_it_back_is_killed() {
    let Some(machine) = Machine::new() else { return };
    machine.sh("ip link add br0 type bridge; ip link set br0 up; ip link add v0 type veth peer name v1; ip link set v1 up
        ip link set v0 master br0; sysctl -qw net.ipv4.conf.v0.rp_filter=2; ip link set v0 up
        ip address add 192.0.2.1/24 dev v0; ip address add fd01::1/64 dev v0 nodad; ip route add 10.0.0.0/8 via 192.0.2.9");
    let state = || {
        machine.sh("ip -o link show dev v0 | grep -o 'master br0'; ip -o address show dev v0 scope global | grep -o 'inet.*/[0-9]*'
            ip route show 10.0.0.0/8 | sed 's/ linkdown//'; cat /proc/sys/net/ipv4/conf/v0/rp_filter")
    };
    let before = state();
    assert_eq!(before.lines().count(), 5, "{before}");
    for turn in 0..48 {
        machine.ns(&["add", "a"]);
        machine.ns(&["move", "v0", "a"]);
        let what = if turn % 2 == 0 { "delete a" } else { "move v0 --from a" };
        let after = turn * 3 / 2;
        machine.sh(&format!(
            "{HOP} ns {what} >/dev/null 2>&1 & sleep 0.0{after:02}; kill -9 $! 2>/dev/null || true; wait $! || true"
        ));
        machine.output(HOP, &["ns", "delete", "a"]);
        assert_eq!(state(), before, "{what}, killed after {after} ms");
    }
    assert_eq!(machine.sh("ls -A /run/hopyard 2>/dev/null || true"), "");
}

#[test]
fn an_interface_of_which_the_record_cannot_be_read_is_not_lost() {
    let Some(machine) = Machine::new() else { return };
    machine.sh("ip link add v0 type veth peer v1; ip address add 192.0.2.1/24 dev v0; ip link set v0 up");
    machine.ns(&["add", "a"]);
    machine.ns(&["move", "v0", "a"]);
    machine.sh("for file in /run/hopyard/.moved-*; do echo nonsense >$file; done");
    let said = machine.ns_fails(1, &["delete", "a"]);
    assert!(said.contains("the record of the interface `v0` in `a` cannot be read: /run/hopyard/.moved-"), "{said}");
    assert!(said.contains("hint: `hop ns move v0 --from a` brings it here"), "{said}");
    machine.ns(&["move", "v0", "--from", "a"]);
    assert!(machine.sh("ip -4 -o address show dev v0 up").contains("192.0.2.1/24"));
    machine.ns(&["delete", "a"]);
    assert_eq!(machine.sh("ls -A /run/hopyard 2>/dev/null || true"), "");
}

#[test]
fn an_interface_that_is_called_something_else_there_comes_back_by_its_name() {
    let Some(machine) = Machine::new() else { return };
    machine.sh(LINK);
    machine.ns(&["add", "a"]);
    let before = properties(&machine, None, "v0");
    machine.ns(&["move", "v0", "a"]);
    // And another one there has its name by now.
    machine.sh("ip -n a link set v0 down; ip -n a link set v0 name wan; ip -n a link set wan up
         ip -n a link add v0 type veth peer name other");
    machine.ns(&["delete", "a"]);
    assert_eq!(properties(&machine, None, "v0"), before);
    // Here its name is taken: it comes back by the other one, and that is told.
    machine.ns(&["add", "b"]);
    machine.ns(&["move", "v0", "b"]);
    machine.sh("ip -n b link set v0 down; ip -n b link set v0 name wan; ip link add v0 type veth peer name other");
    let said = text(&machine.output(HOP, &["ns", "delete", "b"]).stderr);
    assert!(said.contains("wan is back") && said.contains("its name v0"), "{said}");
    // Labels of addresses are kept as they were.
    let renamed = |all: std::collections::BTreeSet<String>| -> Vec<String> {
        all.into_iter().map(|line| line.replace("v0", "wan")).collect()
    };
    assert_eq!(renamed(properties(&machine, None, "wan")), renamed(before));
}

#[test]
fn interfaces_come_back_whatever_they_are_called() {
    const NAMES: [&str; 4] = ["v0.new", "v0", "v0.lock", "v0.5"];
    let Some(machine) = Machine::new() else { return };
    machine.ns(&["add", "a"]);
    for (number, dev) in NAMES.iter().enumerate() {
        machine.sh(&format!("ip link add {dev} type veth peer name other{number}"));
        machine.ns(&["move", dev, "a"]);
    }
    machine.ns(&["delete", "a"]);
    let here = machine.sh("ip -o link");
    for dev in NAMES {
        assert!(here.contains(&format!(" {dev}@")), "{dev} is lost: {here}");
    }
    assert!(machine.sh("ls -A /run/hopyard 2>/dev/null || true").is_empty(), "they are home, and still on record");
}

#[test]
fn an_interface_comes_back_to_the_namespace_that_it_came_from() {
    let Some(machine) = Machine::new() else { return };
    machine.ns(&["add", "origin", "a", "gone", "b"]);
    machine.sh("ip -n origin link add v0 type veth peer name v1; ip -n origin addr add 10.3.0.1/24 dev v0
        ip -n gone link add w0 type veth peer name w1");
    machine.ns(&["move", "v0", "--from", "origin", "a"]);
    machine.ns(&["delete", "a"]);
    assert!(machine.run("ip", &["-n", "origin", "-o", "addr"]).contains("v0    inet 10.3.0.1/24"));
    machine.ns(&["move", "w0", "--from", "gone", "b"]);
    machine.ns(&["move", "w1", "--from", "gone", "origin"]);
    machine.ns(&["delete", "--wait", "gone"]);
    let said = machine.ns_fails(1, &["delete", "b"]);
    assert!(said.contains("`w0` in `b` came from a namespace that cannot be found"), "{said}");
    machine.ns(&["move", "w0", "--from", "b"]);
    machine.ns(&["delete", "b"]);
    assert!(machine.sh("ip -o link").contains(" w0@"));
    // It is here now, and does not leave with a second name of this namespace.
    machine.ns(&["attach", "here", "1"]);
    machine.ns(&["delete", "here"]);
    assert!(machine.sh("ip -o link").contains(" w0@"));
    // Where both go at once, nothing is in the way.
    machine.ns(&["move", "w1", "--from", "origin", "host"]);
    machine.ns(&["add", "one", "two"]);
    machine.sh("ip -n one link add x0 type veth peer name x1; ip -n two link add y0 type veth peer name y1");
    machine.ns(&["move", "x0", "--from", "one", "two"]);
    machine.ns(&["move", "y0", "--from", "two", "one"]);
    machine.ns(&["delete", "--all"]);
    assert_eq!(machine.names(), set(&[]));
}

// ------------------------------------------------------------------------------------- watching

#[test]
fn monitor_tells_of_a_name_when_it_can_be_entered() {
    let Some(machine) = Machine::new() else { return };
    machine.ns(&["add", "before"]);
    let mut monitor = machine.command(HOP, &["ns", "monitor", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(monitor.stdout.take().unwrap()).lines();
    let mut next = || -> (String, String) {
        let line: serde_json::Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        (line["event"].as_str().unwrap().to_owned(), line["name"].as_str().unwrap().to_owned())
    };
    let event = |event: &str, name: &str| (event.to_owned(), name.to_owned());
    // It may not yet be watching.
    let mut tries = 0;
    let first = std::thread::scope(|scope| {
        let first = scope.spawn(&mut next);
        while !first.is_finished() {
            let name = format!("try{tries}");
            machine.ns(&["add", &name]);
            tries += 1;
            std::thread::sleep(Duration::from_millis(50));
            assert!(tries < 200, "the monitor says nothing");
        }
        first.join().unwrap()
    });
    let started: usize = first.1.strip_prefix("try").unwrap().parse().unwrap();
    assert_eq!(first.0, "add");
    for n in started + 1..tries {
        assert_eq!(next(), event("add", &format!("try{n}")));
    }
    for round in 0..20 {
        let (a, b) = (format!("a{round}"), format!("b{round}"));
        machine.ns(&["add", &a]);
        assert_eq!(next(), event("add", &a));
        let mut ip = machine.command("ip", &["netns", "add", &b]).spawn().unwrap();
        assert_eq!(next(), event("add", &b));
        assert!(machine.is_namespace(&b), "it is told of before it can be entered");
        assert!(ip.wait().unwrap().success());
        machine.ip(&["delete", &a]);
        assert_eq!(next(), event("delete", &a));
        machine.ns(&["delete", &b]);
        assert_eq!(next(), event("delete", &b));
    }
    machine.make_dead("dead");
    assert_eq!(next(), event("dead", "dead"));
    machine.ns(&["add", "dead"]);
    assert_eq!(next(), event("delete", "dead"));
    assert_eq!(next(), event("add", "dead"));
    monitor.kill().unwrap();
    monitor.wait().unwrap();
}

// ----------------------------------------------------------------------------- labs, and their names

/// Where /run is on a disk, labs put the names into memory.
const ON_A_DISK: &str = "mkdir -p \"$DISK/run\" && mount --bind \"$DISK/run\" /run && mount -t tmpfs none /dev/shm && \
    echo && exec cat";

#[test]
fn names_and_labs_do_not_disturb_each_other() {
    let disk = tempfile::tempdir().unwrap();
    let on_a_disk = ON_A_DISK.replace("$DISK", &disk.path().display().to_string());
    let mut tried = 0;
    for setup in [SETUP, &on_a_disk] {
        let Some(machine) = Machine::with(setup) else { continue };
        tried += 1;
        machine.run(HOP, &["up", "near -- far", "--name", "lab"]);
        machine.ns(&["add", "mine"]);
        machine.ip(&["add", "too"]);
        assert_eq!(machine.names(), set(&["lab.far", "lab.near", "mine", "too"]));
        assert_eq!(machine.row("lab.near")["kind"], "node");
        assert_eq!(machine.row("lab.near")["interfaces"], serde_json::json!(["lo", "eth0"]));
        assert_eq!(machine.ns(&["exec", "lab.near", "ls", "/sys/class/net"]), "eth0\nlo\n");
        let said = machine.ns_fails(1, &["delete", "lab.near"]);
        assert!(said.contains("`lab.near` is a node of a lab") && said.contains("`hop down lab`"), "{said}");
        assert!(machine.ns_fails(1, &["add", "lab.far"]).contains("exists already"));
        machine.run(HOP, &["down", "lab"]);
        assert_eq!(machine.names(), set(&["mine", "too"]));
        assert!(machine.is_namespace("mine") && machine.is_namespace("too"));
        // The other way round: names first.
        machine.run(HOP, &["up", "near -- far", "--name", "lab"]);
        machine.ns(&["delete", "--all"]);
        assert_eq!(machine.names(), set(&["lab.far", "lab.near"]), "--all takes what is a lab's");
        machine.run(HOP, &["down", "lab"]);
        machine.ns(&["add", "again"]);
        machine.ip(&["delete", "again"]);
        assert_eq!(machine.names(), set(&[]));
    }
    assert!(tried == 2 || std::env::var_os("REQUIRE_LABS").is_none());
}

// ---------------------------------------------------------------------------------- what cannot be

#[test]
fn a_run_that_cannot_be_written_to_is_told() {
    let Some(machine) = Machine::new() else { return };
    machine.sh("mount -o remount,ro,bind /run");
    let said = machine.ns_fails(1, &["add", "a"]);
    assert!(said.contains("cannot make /run/netns: Read-only file system (EROFS)"), "{said}");
    assert!(said.contains("hint: it is mounted read-only"), "{said}");
    machine.sh("mount -o remount,rw,bind /run");
    machine.ns(&["add", "a"]);
    machine.sh("mount -o remount,ro,bind /run/netns");
    let said = machine.ns_fails(1, &["add", "b", "c", "d"]);
    assert!(said.contains("cannot make a name in /run/netns: Read-only file system (EROFS)"), "{said}");
    assert!(said.contains("2 more were not tried") && said.matches("error").count() == 2, "{said}");
    assert!(machine.ns_fails(1, &["add", "b", "c"]).contains("1 more was not tried"));
    assert_eq!(machine.names(), set(&["a"]));
    assert_eq!(machine.ns(&["exec", "a", "ls", "/sys/class/net"]), "lo\n");
}

#[test]
fn what_is_in_the_place_of_the_directory_is_told_and_left_alone() {
    let Some(machine) = Machine::new() else { return };
    for make in ["echo precious >/run/netns", "ln -s /run/nowhere /run/netns"] {
        machine.sh(make);
        let before = machine.sh("ls -l /run/netns; cat /proc/self/mountinfo");
        let added = machine.ns_fails(1, &["add", "a"]);
        let brought = fail(1, machine.command(HOP, &["up", "a -- b", "--name", "lab"]));
        for said in [added, brought] {
            assert!(said.contains("/run/netns") && said.contains("Not a directory (ENOTDIR)"), "{said}");
            assert!(said.contains("move it away"), "{said}");
        }
        assert_eq!(machine.sh("ls -l /run/netns; cat /proc/self/mountinfo"), before);
        assert_eq!(machine.sh("ls -A /run | grep hopyard || true"), "", "a lab has left something");
        machine.run(HOP, &["down", "--all"]);
        machine.sh("rm /run/netns");
    }
}

#[test]
fn a_limit_on_namespaces_is_told_and_leaves_what_there_is() {
    let Some(machine) = Machine::new() else { return };
    if is_root() {
        // The limit is the machine's.
        println!("skipped: a limit on namespaces, for root");
        return;
    }
    machine.sh("echo 20 > /proc/sys/user/max_net_namespaces");
    let names: Vec<String> = (0..30).map(|n| format!("n{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let said = machine.ns_fails(1, &[&["add"], &names[..]].concat());
    assert!(said.contains("No space left on device (ENOSPC)") && said.contains("more were not tried"), "{said}");
    assert!((15..20).contains(&machine.names().len()), "{:?}", machine.names());
    assert!(machine.names().iter().all(|name| machine.is_namespace(name)));
}

/// Without rights, whoever calls.
fn without_rights(args: &[&str]) -> Output {
    let mut command = Command::new("setpriv");
    // An ordinary user has none that could be taken away.
    if is_root() {
        command.args(["--bounding-set", "-all", "--inh-caps", "-all"]);
    }
    command.arg(HOP).arg("ns").args(args).output().unwrap()
}

#[test]
fn an_ordinary_user_is_told_the_way_out() {
    for command in [
        &["add", "a"][..],
        &["delete", "a"],
        &["delete", "--all"],
        &["exec", "a", "true"],
        &["exec", "--all", "true"],
        &["attach", "a", "1"],
        &["set", "a", "auto"],
        &["move", "lo", "a"],
    ] {
        let output = without_rights(command);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{command:?}: {said}");
        // Root of a container may be without rights as well, and is root already.
        let words = if is_root() {
            ["error: cannot ", "this root has no CAP_SYS_ADMIN", "--cap-add SYS_ADMIN"]
        } else {
            ["error: only root can ", "`hop up` runs a network of your own", "`hop sandbox CMD`"]
        };
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
    }
    // To look is everybody's.
    for command in [&["list"][..], &["list", "--json"], &["identify"]] {
        let output = without_rights(command);
        assert!(output.status.success(), "{command:?}: {}", text(&output.stderr));
    }
    assert!(!Path::new("/run/netns/a").exists());
}

#[test]
fn a_reader_that_stops_reading_is_no_error_of_names() {
    let Some(machine) = Machine::new() else { return };
    machine.ns(&["add", "a"]);
    let mut child =
        machine.command(HOP, &["ns", "list"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    std::io::stdout().flush().unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(text(&output.stderr), "");
}

#[test]
fn the_directory_of_names_may_be_any_mount() {
    let Some(machine) = Machine::new() else { return };
    for mount in ["mount -t tmpfs other /run/netns", "mkdir -p /run/elsewhere; mount --bind /run/elsewhere /run/netns"]
    {
        machine.sh(&format!("mkdir -p /run/netns; {mount}"));
        machine.ns(&["add", "a", "b"]);
        assert!(machine.is_namespace("a") && machine.is_namespace("b"), "{mount}");
        assert_eq!(machine.sh("ls -A /run/netns"), "a\nb\n", "{mount}");
        // A dead one as well.
        machine.sh("touch -d '1 hour ago' /run/netns/dead");
        machine.ns(&["add", "dead"]);
        assert!(machine.is_namespace("dead"), "{mount}");
        machine.ns(&["delete", "a", "b", "dead"]);
        assert_eq!(machine.sh("ls -A /run/netns"), "", "{mount}");
        machine.sh("umount -R /run/netns");
    }
}

#[test]
fn dashes_before_a_command_are_no_command() {
    let Some(machine) = Machine::new() else { return };
    machine.ns(&["add", "a"]);
    assert_eq!(machine.ns(&["exec", "a", "--", "echo", "--", "x"]), "-- x\n");
    assert_eq!(machine.output(HOP, &["ns", "exec", "a", "--"]).status.code(), Some(2));
}

#[test]
fn names_come_and_go_where_run_is_shared_and_ip_netns_was_first() {
    // As systemd mounts it. Then the directory of names is in one group with what is below it, and each name is
    // mounted in both.
    let shared = SETUP.replace("none /run &&", "none /run && mount --make-shared /run &&");
    assert_ne!(shared, SETUP);
    let Some(machine) = Machine::with(&shared) else { return };
    machine.ip(&["add", "first"]);
    assert_eq!(machine.sh("grep -c netns/first /proc/self/mountinfo").trim(), "2", "it is mounted twice");
    machine.ns(&["add", "second", "third"]);
    assert_eq!(machine.sh("ls -A /run/netns"), "first\nsecond\nthird\n");
    machine.ns(&["delete", "first", "second"]);
    machine.ip(&["delete", "third"]);
    assert_eq!(machine.sh("ls -A /run/netns"), "");
    // A dead name is replaced by an exchange.
    machine.sh("touch /run/netns/dead; touch -d '1 hour ago' /run/netns/dead");
    machine.ns(&["add", "dead"]);
    assert!(machine.is_namespace("dead"));
    machine.ns(&["delete", "--all"]);
    assert_eq!(machine.mounted_namespaces(), 0);
}

/// The root of a chroot may be a mount or not, and its names those of the machine or its own.
#[test]
fn names_come_and_go_in_a_chroot() {
    const MAKE: &str = "mkdir -p /run/c && cd /run/c && if [ $ROOT = mount ]; then mount --bind . . && cd /run/c; fi &&
        mkdir -p usr proc dev etc run sys opt && touch opt/hop && mount --bind $HOP opt/hop &&
        for dir in bin sbin lib lib64; do ln -sfn usr/$dir $dir; done &&
        mount --rbind /usr usr && mount --rbind /proc proc && mount --rbind /dev dev && mount --rbind /sys sys";
    for root in ["mount", "directory"] {
        let Some(machine) = Machine::new() else { return };
        machine.sh(&MAKE.replace("$ROOT", root).replace("$HOP", HOP));
        let ns = |args: &[&str]| machine.run("chroot", &[&["/run/c", "/opt/hop", "ns"], args].concat());
        let sandboxed = ["/run/c", "/opt/hop", "sandbox", "--", "sh", "-c", "ls -d /opt /work; ls /sys/class/net"];
        assert_eq!(text(&machine.output("chroot", &sandboxed).stdout), "/opt\nlo\n", "{root}");
        // Nor does a command in a node get out.
        let hop = |args: &[&str]| machine.output("chroot", &[&["/run/c", "/opt/hop"], args].concat());
        assert!(hop(&["up", "near -- far", "--name", "lab"]).status.success(), "{root}");
        let inside = hop(&["exec", "near", "sh", "-c", "ls -d /opt /work; tail -n 1 /etc/hosts; ls /sys/class/net"]);
        let inside = text(&inside.stdout);
        assert!(inside.starts_with("/opt\n") && inside.ends_with("far\neth0\nlo\n"), "{root}: {inside}");
        assert!(hop(&["ping", "near", "far"]).status.success(), "{root}");
        assert!(hop(&["down", "lab"]).status.success(), "{root}");
        let own = || machine.sh("echo $(ls /run/c/run/netns)");
        ns(&["add", "a", "b"]);
        machine.sh("touch -d '1 hour ago' /run/c/run/netns/dead");
        ns(&["add", "dead"]);
        assert_eq!(own(), "a b dead\n", "{root}");
        assert_eq!(ns(&["exec", "a", "ls", "/sys/class/net"]), "lo\n");
        ns(&["add", "1a", "2a", "3a", "4a", "5a", "6a", "7a", "8a", "9a"]);
        ns(&["delete", "--all"]);
        assert_eq!(own(), "\n");
        assert_eq!(machine.mounted_namespaces(), 0);
        // Those of the machine, which are mounted where nobody in there sees it.
        machine.ns(&["add", "mine", "other", "x", "y", "z"]);
        machine.sh("umount -R /run/c/run/netns && mount --rbind /run/netns /run/c/run/netns");
        ns(&["delete", "mine"]);
        ns(&["delete", "x", "y", "z"]);
        ns(&["add", "theirs"]);
        assert_eq!(machine.names(), set(&["other", "theirs"]), "{root}");
        assert!(["other", "theirs"].iter().all(|name| machine.is_namespace(name)));
        machine.ns(&["delete", "--all"]);
        assert_eq!((machine.names(), machine.mounted_namespaces()), (set(&[]), 0), "{root}");
    }
}

#[test]
fn names_come_and_go_where_run_is_mounted_in_another_place_too() {
    // As for a chroot: what is mounted in the one is mounted in the other.
    let shared = SETUP.replace("none /run &&", "none /run && mount --make-shared /run &&");
    assert_ne!(shared, SETUP);
    let Some(machine) = Machine::with(&shared) else { return };
    machine.ns(&["add", "first"]);
    machine.sh("mkdir /run/root && mount --rbind /run /run/root");
    machine.ns(&["add", "second"]);
    assert_eq!(machine.sh("grep -c /root/netns/second /proc/self/mountinfo").trim(), "1", "it is not mounted there");
    machine.ip(&["add", "third"]);
    machine.ns(&["delete", "first"]);
    machine.ns(&["delete", "second", "third"]);
    // A dead name is replaced by an exchange.
    machine.sh("touch -d '1 hour ago' /run/netns/dead");
    machine.ns(&["add", "dead"]);
    assert!(machine.is_namespace("dead"));
    machine.ns(&["delete", "--all"]);
    assert_eq!(machine.mounted_namespaces(), 0);
    assert_eq!(machine.names(), set(&[]));
}
