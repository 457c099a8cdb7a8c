//! A machine of a test's own, as far as networks, mounts and processes go.
#![allow(clippy::print_stdout, reason = "a test that is skipped says why")]

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdin, Command, Output, Stdio};

use super::{is_root, succeed, text};

pub(crate) const HOP: &str = env!("CARGO_BIN_EXE_hop");

/// A machine of its own, as far as names go. Ends with the value, and with all that runs in it.
pub(crate) struct Machine {
    init: Child,
    /// It ends when this is closed.
    _leash: ChildStdin,
}

/// What there is on it, beside an empty /run and an /etc that can be written to. Names that the machine below has are mounts
/// here as well, which a user cannot get rid of.
pub(crate) const SETUP: &str = "umount -R -l /run/netns 2>/dev/null; mount -t tmpfs -o mode=755 none /run && mkdir /run/upper /run/work && \
    echo nameserver 198.51.100.1 > /run/upper/resolv.conf && \
    mount -t overlay -o lowerdir=/etc,upperdir=/run/upper,workdir=/run/work none /etc && echo && exec cat";

impl Machine {
    /// `None`: there is none to be had here, for a reason that is printed.
    pub(crate) fn new() -> Option<Self> {
        Self::with(SETUP)
    }

    pub(crate) fn with(setup: &str) -> Option<Self> {
        let mut command = Command::new("unshare");
        if !is_root() {
            command.args(["--user", "--map-root-user"]);
        }
        // Processes of its own as well, so that nothing is left running.
        command.args([
            "--net",
            "--mount",
            "--propagation",
            "private",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
        ]);
        command.args(["sh", "-c", setup]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut init = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(init.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        if line != "\n" {
            let why = text(&init.wait_with_output().unwrap().stderr);
            assert!(
                std::env::var_os("REQUIRE_LABS").is_none(),
                "REQUIRE_LABS is set, but there are no namespaces: {why}"
            );
            println!("skipped: {}: {why}", std::thread::current().name().unwrap_or_default());
            return None;
        }
        let leash = init.stdin.take().unwrap();
        Some(Machine { init, _leash: leash })
    }

    /// How many mounts of namespaces there are on what it has made itself, its /run; those that the machine below had at the
    /// start lie hidden under that.
    pub(crate) fn mounted_namespaces(&self) -> usize {
        let table = std::fs::read_to_string(format!("/proc/{}/mountinfo", self.pid())).unwrap();
        // proc_pid_mountinfo(5): the mount, that which it is on, and where; behind a dash, the kind.
        let mounts: Vec<Vec<&str>> = table.lines().map(|line| line.split(' ').collect()).collect();
        let is_namespace = |mount: &[&str]| {
            let dash = mount.iter().position(|field| *field == "-").unwrap();
            mount[dash + 1] == "nsfs"
        };
        let mut own = std::collections::BTreeSet::new();
        own.extend(mounts.iter().rfind(|mount| mount[4] == "/run").map(|mount| mount[0]));
        loop {
            let known = own.len();
            own.extend(mounts.iter().filter(|mount| own.contains(mount[1])).map(|mount| mount[0]).collect::<Vec<_>>());
            if own.len() == known {
                break;
            }
        }
        mounts.iter().filter(|mount| own.contains(mount[0]) && is_namespace(mount)).count()
    }

    /// The first process in it; `unshare` is its parent.
    pub(crate) fn pid(&self) -> u32 {
        let children = format!("/proc/{0}/task/{0}/children", self.init.id());
        std::fs::read_to_string(children).unwrap().trim().parse().unwrap()
    }

    pub(crate) fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.pid().to_string(), "--mount", "--net", "--pid"]);
        if !is_root() {
            command.args(["--user", "--preserve-credentials"]);
        }
        command.arg("--").arg(program).args(args).stdin(Stdio::null());
        command.env_remove("HOPYARD_DIR").env_remove("HOP_LAB").env_remove("XDG_RUNTIME_DIR");
        command
    }

    pub(crate) fn output(&self, program: &str, args: &[&str]) -> Output {
        self.command(program, args).output().unwrap()
    }

    /// Must succeed. Returns what it printed.
    pub(crate) fn run(&self, program: &str, args: &[&str]) -> String {
        succeed(self.command(program, args))
    }

    pub(crate) fn sh(&self, script: &str) -> String {
        self.run("sh", &["-c", script])
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Its first process too (--kill-child), and with that all others.
        self.init.kill().ok();
        self.init.wait().ok();
    }
}
