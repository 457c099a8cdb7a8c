//! The virtual machine of `.ci/vm`: with hardware, a kernel and a network that tests have to themselves.
#![allow(
    clippy::print_stdout,
    clippy::unused_self,
    reason = "a skipped test says why; only who has the machine uses it"
)]

use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::text;

/// Not where the build has it: there it is on a disk that the machine shares, and that may come late.
pub(crate) const HOP: &str = "/opt/hop";
/// What `.ci/vm/run` gives the two cards.
pub(crate) const CARDS: [&str; 2] = ["52:54:00:00:00:01", "52:54:00:00:00:02"];

/// The machine, which one test has after the other.
pub(crate) struct Machine {
    _turn: MutexGuard<'static, ()>,
}

impl Machine {
    /// `None`: this is none in which interfaces of hardware may be taken.
    pub(crate) fn new() -> Option<Machine> {
        static TURN: Mutex<()> = Mutex::new(());
        if std::env::var_os("HOPYARD_VM").is_none() {
            println!("skipped: {}: it takes the machine of .ci/vm", std::thread::current().name().unwrap_or_default());
            return None;
        }
        Some(Machine { _turn: TURN.lock().unwrap_or_else(PoisonError::into_inner) })
    }

    pub(crate) fn output(&self, program: &str, args: &[&str]) -> Output {
        Command::new(program).args(args).env_remove("HOPYARD_DIR").output().unwrap()
    }

    pub(crate) fn sh(&self, script: &str) -> String {
        let output = self.output("sh", &["-ec", script]);
        let said = text(&output.stderr) + &text(&output.stdout);
        assert!(output.status.success(), "{script} ended with {}: {said}", output.status);
        text(&output.stdout)
    }

    /// Runs hop; it must succeed. Returns what it printed on standard error.
    pub(crate) fn hop(&self, args: &[&str]) -> String {
        let output = self.output(HOP, args);
        let said = text(&output.stderr);
        assert!(output.status.success(), "hop {args:?} ended with {}: {said}", output.status);
        said
    }

    /// Runs hop; it must fail. Returns what it printed on standard error.
    pub(crate) fn fails(&self, args: &[&str]) -> String {
        let output = self.output(HOP, args);
        assert!(!output.status.success(), "hop {args:?} succeeds: {}", text(&output.stdout));
        text(&output.stderr)
    }

    /// The name that udev has given a card.
    pub(crate) fn card(&self, at: usize) -> String {
        self.sh(&format!("udevadm settle; ip -br link | sed -n 's/ .*{}.*//p'", CARDS[at])).trim().to_owned()
    }

    /// What an interface has.
    pub(crate) fn state(&self, dev: &str) -> String {
        self.sh(&format!(
            "udevadm settle; ip -br address show dev {dev} | tr -s ' '; ip route show dev {dev}; ip -6 route show dev {dev} | \
             grep -v fe80 || true; ip neigh show dev {dev} nud permanent"
        ))
    }

    /// A card takes a moment to see its wire again.
    pub(crate) fn is_again(&self, dev: &str, before: &str) {
        let mut now = String::new();
        let deadline = Instant::now() + Duration::from_secs(20);
        while now != before {
            assert!(Instant::now() < deadline, "{dev} was:\n{before}and is:\n{now}");
            now = self.state(dev);
        }
    }

    pub(crate) fn is_here(&self, dev: &str) -> bool {
        self.output("ip", &["link", "show", dev]).status.success()
    }

    pub(crate) fn outside_reaches(&self, address: &str) -> bool {
        self.output("ip", &["netns", "exec", "outside", "ping", "-c1", "-W1", address]).status.success()
    }

    pub(crate) fn kill_keeper(&self) {
        self.sh(&format!("kill -9 $({HOP} ls --json | sed -n 's/.*\"keeper\": \\([0-9]*\\),/\\1/p')"));
    }
}

/// Something of the kernel that is otherwise for as long as this lives.
pub(crate) struct Setting<'a> {
    machine: &'a Machine,
    file: String,
    before: String,
}

impl<'a> Setting<'a> {
    pub(crate) fn new(machine: &'a Machine, name: &str, value: &str) -> Self {
        let file = format!("/proc/sys/{name}");
        let before = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, value).unwrap();
        Setting { machine, file, before }
    }
}

impl Drop for Setting<'_> {
    fn drop(&mut self) {
        let set_back = format!("printf %s '{}' >{}", self.before.trim(), self.file);
        assert!(self.machine.output("sh", &["-c", &set_back]).status.success() || std::thread::panicking());
    }
}

/// Root, and an ordinary user.
pub(crate) const CALLERS: [&[&str]; 2] =
    [&["env"], &["setpriv", "--reuid", "hopci", "--regid", "hopci", "--init-groups", "env", "-i"]];

pub(crate) fn output(machine: &Machine, caller: &[&str], args: &[&str]) -> Output {
    let all = [&caller[1..], &["PATH=/usr/bin:/usr/sbin", "HOME=/home/hopci", HOP], args].concat();
    machine.output(caller[0], &all)
}

/// Must succeed. Returns what it printed.
pub(crate) fn hop(machine: &Machine, caller: &[&str], args: &[&str]) -> String {
    let output = output(machine, caller, args);
    assert!(output.status.success(), "hop {args:?} by {caller:?}: {}", text(&output.stderr));
    text(&output.stdout)
}
