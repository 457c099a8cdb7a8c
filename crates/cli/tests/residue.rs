//! Nothing is left, whatever is killed and whenever: the host before and after are the same.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test says what is wrong by failing")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use common::{Place, is_root, text, unique, wait_until};

/// What a lab must not change on the host.
#[derive(Debug, PartialEq, Eq)]
struct Host {
    interfaces: String,
    routes: String,
    rules: String,
    sysctls: BTreeMap<String, String>,
    mounts: String,
    etc: BTreeMap<String, (u64, i64, i64)>,
    run: BTreeSet<String>,
    names: BTreeSet<String>,
    keepers: BTreeSet<String>,
    namespaces: BTreeSet<u64>,
}

/// One test at a time: each looks at the whole machine.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn host(place: &Place) -> Host {
    let run = |program: &str, args: &[&str]| {
        std::process::Command::new(program)
            .args(args)
            .output()
            .map_or_else(|_| String::new(), |output| text(&output.stdout))
    };
    let list = |dir: &str| -> BTreeSet<String> {
        std::fs::read_dir(dir)
            .into_iter()
            .flatten()
            .filter_map(Result::ok)
            .map(|entry| entry.path().display().to_string())
            .collect()
    };
    let mut sysctls = BTreeMap::new();
    read_all(Path::new("/proc/sys/net"), &mut sysctls);
    let etc = list("/etc").into_iter().filter_map(|path| {
        use std::os::unix::fs::MetadataExt;
        let meta = std::fs::symlink_metadata(&path).ok()?;
        Some((path, (meta.len(), meta.mtime(), meta.mtime_nsec())))
    });
    // Of names and processes, those of this test's labs: others may be at work on the machine.
    let mut names = list("/run/netns");
    names.extend(list("/dev/shm/hopyard-netns"));
    names.retain(|name| name.contains(&format!("-{}-", std::process::id())));
    names.extend(list(&place.records().display().to_string()));
    let mine = place.path().display().to_string();
    let (mut keepers, mut namespaces) = (BTreeSet::new(), BTreeSet::new());
    for entry in std::fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
        let dir = entry.path();
        let command = std::fs::read(dir.join("cmdline")).unwrap_or_default();
        if text(&command).contains(&mine) || environment_has(&dir, &mine) {
            keepers.insert(dir.display().to_string());
            namespaces
                .extend(std::fs::metadata(dir.join("ns/net")).map(|meta| std::os::unix::fs::MetadataExt::ino(&meta)));
        }
    }
    Host {
        interfaces: run("ip", &["-o", "address"]),
        routes: run("ip", &["route", "show", "table", "all"]) + &run("ip", &["-6", "route", "show", "table", "all"]),
        rules: run("ip", &["rule"]) + &run("nft", &["list", "ruleset"]),
        sysctls,
        mounts: std::fs::read_to_string("/proc/mounts").unwrap(),
        etc: etc.collect(),
        run: list("/run").into_iter().filter(|path| path != "/run/netns" && path != "/run/hopyard").collect(),
        names,
        keepers,
        namespaces,
    }
}

/// The keeper is a fork of hop and has its environment, with the test's directory of records.
fn environment_has(process: &Path, needle: &str) -> bool {
    let own = process.file_name().is_some_and(|pid| pid.to_str() == Some(&std::process::id().to_string()));
    !own && std::fs::read(process.join("environ")).is_ok_and(|environ| text(&environ).contains(needle))
}

fn read_all(dir: &Path, into: &mut BTreeMap<String, String>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok) {
        let path = entry.path();
        if path.is_dir() {
            read_all(&path, into);
        } else if let Ok(value) = std::fs::read_to_string(&path) {
            // Counters of the whole machine, not settings.
            if !path.ends_with("nf_conntrack_count") {
                into.insert(path.display().to_string(), value);
            }
        }
    }
}

/// Waits until the host is as it was; says what is not, if it never is.
fn wait_until_as(before: &Host, place: &Place) {
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    loop {
        let now = host(place);
        if now == *before {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "{}", difference(before, &now));
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The lines in which two descriptions differ.
fn difference(before: &Host, now: &Host) -> String {
    let lines = |host: &Host| -> BTreeSet<String> { format!("{host:#?}").lines().map(str::to_owned).collect() };
    let (before, now) = (lines(before), lines(now));
    let gone = before.difference(&now).map(|line| format!("- {line}"));
    let new = now.difference(&before).map(|line| format!("+ {line}"));
    gone.chain(new).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_running_lab_changes_nothing_on_the_host() {
    let _alone = alone();
    let place = Place::new();
    let before = host(&place);
    let name = unique("quiet");
    place.hop(&["up", "grid:3x3", "--name", &name]);
    place.hop(&["ping", "--all"]);
    let during = host(&place);
    assert_eq!(during.interfaces, before.interfaces);
    assert_eq!(during.routes, before.routes);
    assert_eq!(during.rules, before.rules);
    assert_eq!(during.sysctls, before.sysctls);
    assert_eq!(during.mounts, before.mounts);
    assert_eq!(during.etc, before.etc);
    assert_eq!(during.keepers.len(), 1, "{:?}", during.keepers);
    place.hop(&["down", "--wait", &name]);
    wait_until_as(&before, &place);
}

/// Kills hop at many moments of its life; then `down`, or `up` and `down`, must leave nothing.
fn killed_at_every_moment(args: &[&str], prepare: &[&str], span: Duration, moments: u32) {
    let place = Place::new();
    let before = host(&place);
    let name = unique("killed");
    let with_name = |args: &[&str]| -> Vec<String> { args.iter().map(|arg| arg.replace("NAME", &name)).collect() };
    let mut survived = 0;
    for moment in 0..moments {
        if !prepare.is_empty() {
            place.hop(&with_name(prepare).iter().map(String::as_str).collect::<Vec<_>>());
        }
        let args = with_name(args);
        let mut command = place.command(&args.iter().map(String::as_str).collect::<Vec<_>>());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // Not a wait for something: the moment itself is what is tried.
        std::thread::sleep(span * moment / moments);
        if child.try_wait().unwrap().is_some() {
            survived += 1;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // A fresh `up` comes through, too, on every other one.
        if moment % 2 == 1 {
            place.hop(&["up", "chain:6", "--name", &name]);
            place.hop(&["ping", "n1", "n6"]);
        }
        place.hop(&["down", "--all"]);
        wait_until_as(&before, &place);
    }
    assert!(survived < moments, "no moment was early enough");
}

#[test]
fn up_can_be_killed_at_any_moment() {
    let _alone = alone();
    killed_at_every_moment(&["up", "chain:6", "--name", "NAME"], &[], Duration::from_millis(20), 40);
}

#[test]
fn down_can_be_killed_at_any_moment() {
    let _alone = alone();
    killed_at_every_moment(&["down", "NAME"], &["up", "chain:6", "--name", "NAME"], Duration::from_millis(12), 24);
}

#[test]
fn a_change_can_be_killed_at_any_moment() {
    let _alone = alone();
    killed_at_every_moment(
        &["up", "ring:8", "--name", "NAME"],
        &["up", "chain:6", "--name", "NAME"],
        Duration::from_millis(24),
        24,
    );
}

#[test]
fn run_can_be_killed_and_tidies_up_by_itself() {
    let _alone = alone();
    let place = Place::new();
    let before = host(&place);
    for moment in 0..16 {
        let name = unique("run");
        let mut command = place.command(&["run", "--name", &name, "chain:6", "--", "sleep", "60"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(3) * moment);
        child.kill().unwrap();
        child.wait().unwrap();
        // No `down`: what the kernel and the keeper do by themselves is all there is.
        wait_until("nothing of the lab runs", || host(&place).keepers == before.keepers);
    }
    // A hop that was killed before its keeper started leaves a directory at most.
    place.hop(&["down", "--all"]);
    wait_until_as(&before, &place);
}

#[test]
fn a_killed_keeper_takes_the_lab_with_it_and_up_makes_it_anew() {
    let _alone = alone();
    let place = Place::new();
    let before = host(&place);
    let name = unique("keeper");
    place.hop(&["up", "a -- b", "--name", &name]);
    let ls = place.hop(&["ls", "--json"]);
    let keeper = ls.split("\"keeper\": ").nth(1).and_then(|rest| rest.split(',').next()).unwrap().trim().to_owned();
    assert!(std::process::Command::new("kill").args(["-9", &keeper]).status().unwrap().success());
    wait_until("the lab is gone", || place.output(&["ls"]).stdout.is_empty());
    place.fails(2, &["exec", "a", "true"]);
    place.hop(&["up", "a -- b", "--name", &name]);
    place.hop(&["ping", "--all"]);
    place.hop(&["down", "--wait"]);
    wait_until_as(&before, &place);
}

/// Kills the keeper of a lab, and waits until the lab is gone with it.
fn kill_keeper(place: &Place, name: &str) {
    let record = std::fs::read_to_string(place.records().join(name).join("record.json")).unwrap();
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    let keeper = record["keeper"]["pid"].to_string();
    assert!(std::process::Command::new("kill").args(["-9", &keeper]).status().unwrap().success());
    wait_until("the lab is gone", || !text(&place.output(&["ls"]).stdout).contains(name));
}

#[test]
fn the_remains_of_a_killed_keeper_are_told_and_cleared() {
    let _alone = alone();
    let place = Place::new();
    let before = host(&place);
    let (first, second) = (unique("remains"), unique("others"));
    for name in [&first, &second] {
        place.hop(&["up", "a -- b", "--name", name]);
    }
    kill_keeper(&place, &first);
    let told = |name: &str| {
        let output = place.output(&["ls", "--json"]);
        assert!(output.status.success(), "{output:?}");
        text(&output.stderr).contains(&format!("`hop down {name}` clears its remains"))
    };
    assert!(told(&first) && !told(&second));
    // The one that runs is the one that is meant.
    assert_eq!(place.hop(&["down"]), format!("{second} is down\n"));
    assert!(told(&first));
    assert_eq!(place.hop(&["down"]), format!("{first} was not running; its remains are cleared\n"));
    assert!(!place.records().exists(), "the directory of records is left");
    wait_until_as(&before, &place);

    for name in [&first, &second] {
        place.hop(&["up", "a -- b", "--name", name]);
        kill_keeper(&place, name);
    }
    let said = place.fails(2, &["down"]);
    assert!(said.contains(&first) && said.contains(&second) && said.contains("--all"), "{said}");
    assert!(told(&first) && told(&second));
    let said = place.hop(&["down", "--all"]);
    for name in [&first, &second] {
        assert!(said.contains(&format!("{name} was not running; its remains are cleared\n")), "{said}");
    }
    wait_until_as(&before, &place);
}

#[test]
fn a_lab_that_is_just_being_started_is_no_remains() {
    let _alone = alone();
    let place = Place::new();
    let name = unique("held");
    place.hop(&["up", "a -- b", "--name", &name]);
    let dir = place.records().join(&name);
    let record = std::fs::read_to_string(dir.join("record.json")).unwrap();
    place.hop(&["down", "--wait"]);
    // As it is before the keeper is on record.
    let mut record: serde_json::Value = serde_json::from_str(&record).unwrap();
    record["stage"] = "starting".into();
    record["keeper"] = serde_json::Value::Null;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).unwrap();
    std::fs::write(dir.join("record.json"), record.to_string()).unwrap();
    let held = std::fs::File::open(&dir).unwrap();
    held.lock().unwrap();
    let told = || text(&place.output(&["ls"]).stderr).contains("clears its remains");
    assert!(!told());
    place.fails(2, &["down"]);
    drop(held);
    // Whoever started it died.
    assert!(told());
    assert_eq!(place.hop(&["down"]), format!("{name} was not running; its remains are cleared\n"));
}

#[test]
fn a_lab_whose_record_cannot_be_read_goes_down_all_the_same() {
    let _alone = alone();
    let place = Place::new();
    let before = host(&place);
    let name = unique("unreadable");
    place.hop(&["up", "a -- b", "--name", &name]);
    std::fs::write(place.records().join(&name).join("record.json"), "{ nonsense").unwrap();
    let said = place.fails(1, &["up", "a -- b", "--name", &name]);
    assert!(said.contains("cannot be read") && said.contains(&format!("hop down {name}")), "{said}");
    assert_eq!(place.hop(&["down", &name]), format!("{name} is down\n"));
    // Whose names they were is not known either, but they lead nowhere, and the next `up` takes them.
    place.hop(&["up", "a -- b", "--name", &name]);
    place.hop(&["ping", "--all"]);
    place.hop(&["down", &name]);
    wait_until_as(&before, &place);
}

#[test]
fn a_full_disk_and_a_hostile_directory_are_errors_that_leave_nothing() {
    let _alone = alone();
    let place = Place::new();
    // Somebody else's directory: a link to it is not taken.
    std::os::unix::fs::symlink("/tmp", place.records()).unwrap();
    let said = place.fails(1, &["up", "a -- b"]);
    assert!(said.contains("is not a directory that only you can write to"), "{said}");
    std::fs::remove_file(place.records()).unwrap();
    if !is_root() {
        println!("skipped: a full disk, which needs a mount");
        return;
    }
    std::fs::create_dir(place.records()).unwrap();
    let records = place.records().display().to_string();
    let mount = ["-t", "tmpfs", "-o", "size=4k,nr_inodes=5,mode=700", "full", &records];
    assert!(std::process::Command::new("mount").args(mount).status().unwrap().success());
    let output = place.output(&["up", "chain:200", "--name", "full"]);
    let left: Vec<_> =
        std::fs::read_dir(place.records()).unwrap().filter_map(Result::ok).map(|entry| entry.path()).collect();
    // A keeper that is just ending may still look at it.
    wait_until("the full disk is gone", || {
        std::process::Command::new("umount").arg(&records).status().unwrap().success()
    });
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("No space left on device (ENOSPC)"), "{said}");
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn too_few_file_descriptors_are_an_error_that_leaves_nothing() {
    let _alone = alone();
    let place = Place::new();
    let before = host(&place);
    let name = unique("fds");
    let hop = env!("CARGO_BIN_EXE_hop");
    let output = std::process::Command::new("sh")
        .args(["-c", &format!("ulimit -n 40 && exec {hop} up chain:100 --name {name}")])
        .env("HOPYARD_DIR", place.records())
        .output()
        .unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("Too many open files") && said.contains("ulimit -n"), "{said}");
    wait_until_as(&before, &place);
}
