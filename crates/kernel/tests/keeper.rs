//! The keeper on a real kernel: what it holds, who runs in it, and that nothing outlives it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test says what is wrong by failing")]

use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use hopyard_kernel::keeper::{self, Keeper, KeeperSpec};
use hopyard_kernel::{Entry, Identity, Process, World, rights};
use hopyard_net::Op;

fn spec(dir: &Path) -> KeeperSpec<'_> {
    KeeperSpec {
        user_namespace: !rights::is_privileged(),
        dir,
        files: &["record", "record.up"],
        links: None,
        on_release: Some(("record.up", "record")),
    }
}

fn start(dir: &Path) -> Keeper {
    Keeper::start(&spec(dir)).unwrap()
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !is_so() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A keeper that holds one namespace.
struct Lab {
    keeper: Keeper,
    net: u32,
    _dir: tempfile::TempDir,
}

impl Lab {
    fn new() -> Lab {
        let dir = tempfile::tempdir().unwrap();
        let keeper = start(dir.path());
        let node: hopyard_net::NsName = "near".parse().unwrap();
        let mut world = World::new(keeper.realm().clone());
        world.apply(&[Op::AddNs(node.clone())], &mut |_| {}).unwrap();
        let fd = world.ns_fd(&node).unwrap();
        let numbers = keeper::hold(dir.path(), &[fd.as_fd()]).unwrap();
        Lab { keeper, net: numbers[0], _dir: dir }
    }

    fn entry(&self, identity: Option<Identity>) -> Entry {
        let pid = self.keeper.process().pid();
        let net = std::fs::File::open(format!("/proc/{pid}/fd/{}", self.net)).unwrap();
        Entry {
            keeper: Process::open(pid).unwrap(),
            user_namespace: self.keeper.realm().user_namespace().is_some(),
            net: net.into(),
            host_name: "near".to_owned(),
            cwd: "/tmp".into(),
            identity,
        }
    }

    fn sh(&self, script: &str) -> String {
        let output = self.entry(None).command("sh").args(["-c", script]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }
}

#[test]
fn a_process_in_a_node_has_a_view_of_its_own() {
    let lab = Lab::new();
    assert_eq!(lab.sh("hostname; pwd; ls /sys/class/net; id -u"), "near\n/tmp\nlo\n0\n");
    let pid: u32 = lab.sh("readlink /proc/self").trim().parse().unwrap();
    assert!(pid < 100, "{pid} is no number of the lab's pid namespace");
    // What is mounted below /sys is kept.
    let below = "find /sys/fs/cgroup -mindepth 1 -maxdepth 1 | sort";
    let host = std::process::Command::new("sh").args(["-c", below]).output().unwrap().stdout;
    assert_eq!(lab.sh(below), String::from_utf8(host).unwrap());
    // /etc can be written to, and nobody outside sees it.
    assert_eq!(lab.sh("echo x > /etc/hopyard-test; cat /etc/hopyard-test"), "x\n");
    assert_eq!(lab.sh("cat /etc/hopyard-test"), "x\n");
    assert!(!Path::new("/etc/hopyard-test").exists());
}

#[test]
fn a_process_can_be_another_user() {
    let lab = Lab::new();
    let (uid, gid) = if rights::is_privileged() { (65534, 65534) } else { (rights::user_id(), rights::group_id()) };
    let identity = Identity { uid, gid, groups: vec![gid] };
    let output = lab.entry(Some(identity)).command("id").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with(&format!("uid={uid}")), "{text} {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn exit_statuses_and_signals_pass_through() {
    use std::os::unix::process::ExitStatusExt;
    let lab = Lab::new();
    let run = |script: &str| lab.entry(None).command("sh").args(["-c", script]).status().unwrap();
    assert_eq!(run("exit 7").code(), Some(7));
    assert_eq!(run("kill -TERM $$").signal(), Some(15));
    let mut child = lab
        .entry(None)
        .command("sh")
        .args(["-c", "trap 'exit 9' TERM; echo; sleep 60 & wait"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = [0];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut ready).unwrap();
    let pid = Process::open(child.id().cast_signed()).unwrap();
    terminate(pid.pid());
    assert_eq!(child.wait().unwrap().code(), Some(9));
    let error = lab.entry(None).command("/no/such/program").spawn().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
}

fn terminate(pid: i32) {
    std::process::Command::new("kill").arg(pid.to_string()).status().unwrap();
}

#[test]
fn a_keeper_that_is_not_released_ends_with_its_starter_and_tidies_up() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("lab");
    std::fs::create_dir(&home).unwrap();
    std::fs::write(home.join("record"), "x").unwrap();
    let keeper = start(&home);
    let process = Process::open(keeper.process().pid()).unwrap();
    assert!(home.join("view").exists() && home.join("ctl").exists());
    drop(keeper);
    assert!(process.wait(Some(Duration::from_secs(10))).unwrap());
    wait_until("the keeper's files are gone", || !home.exists());
}

#[test]
fn a_keeper_that_is_terminated_tidies_up_too() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("lab");
    std::fs::create_dir(&home).unwrap();
    let keeper = start(&home).release().unwrap();
    terminate(keeper.pid());
    assert!(keeper.wait(Some(Duration::from_secs(10))).unwrap());
    wait_until("the keeper's files are gone", || !home.exists());
}

/// The starter may be killed at any moment, and either both hold or none.
#[test]
fn a_file_has_its_name_when_the_keeper_outlives_its_starter() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("record"), "starting").unwrap();
    std::fs::write(dir.path().join("record.up"), "up").unwrap();
    let record = || std::fs::read_to_string(dir.path().join("record")).unwrap();
    let keeper = start(dir.path());
    assert_eq!(record(), "starting");
    let keeper = keeper.release().unwrap();
    wait_until("the file has its name", || record() == "up");
    assert!(!dir.path().join("record.up").exists());
    terminate(keeper.pid());
    assert!(keeper.wait(Some(Duration::from_secs(10))).unwrap());
}

#[test]
fn a_keeper_leaves_alone_what_somebody_else_has_made_since() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("lab");
    std::fs::create_dir(&home).unwrap();
    let keeper = start(&home);
    let process = Process::open(keeper.process().pid()).unwrap();
    std::fs::remove_file(home.join("ctl")).unwrap();
    std::fs::write(home.join("ctl"), "another's").unwrap();
    std::fs::write(home.join("record"), "another's").unwrap();
    drop(keeper);
    assert!(process.wait(Some(Duration::from_secs(10))).unwrap());
    assert_eq!(std::fs::read_to_string(home.join("record")).unwrap(), "another's");
}

#[test]
fn a_failure_inside_is_told() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("view")).unwrap();
    let spec = KeeperSpec { files: &[], on_release: None, ..spec(dir.path()) };
    let error = Keeper::start(&spec).unwrap_err().to_string();
    assert_eq!(error, "cannot make the directory of the lab's view: File exists (EEXIST)");
}

#[test]
fn many_descriptors_are_held_and_let_go() {
    let dir = tempfile::tempdir().unwrap();
    let keeper = start(dir.path());
    let mut world = World::new(keeper.realm().clone());
    world.apply(&[Op::AddNs("n".parse().unwrap())], &mut |_| {}).unwrap();
    let fd = world.ns_fd(&"n".parse().unwrap()).unwrap();
    let fds = vec![fd.as_fd(); 600];
    let open = || std::fs::read_dir(format!("/proc/{}/fd", keeper.process().pid())).unwrap().count();
    wait_until("the earlier request is over", || open() == 6);
    let before = 6;
    let numbers = keeper::hold(dir.path(), &fds).unwrap();
    assert_eq!(numbers.len(), 600);
    wait_until("all are held", || open() == before + 600);
    keeper::drop_held(dir.path(), &numbers).unwrap();
    wait_until("they are closed", || open() == before);
    // What is no namespace stays open, whatever is asked.
    keeper::drop_held(dir.path(), &(0..10).collect::<Vec<_>>()).unwrap();
    wait_until("none is closed", || open() == before);
}
