//! A place of its own for a test: records, names, and the labs in it end with it.
#![allow(dead_code, reason = "not every test file uses all of it")]

pub(crate) mod case;
pub(crate) mod machine;
pub(crate) mod systemd;
pub(crate) mod vm;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A directory for records and files; labs in it go down when it is dropped.
pub(crate) struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Place {
        Place { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The directory of records.
    pub(crate) fn records(&self) -> PathBuf {
        self.path().join("records")
    }

    /// A file in the place.
    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let path = self.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hop"));
        command.args(args).env("HOPYARD_DIR", self.records()).env_remove("HOP_LAB").stdin(Stdio::null());
        command
    }

    pub(crate) fn output(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs hop; it must succeed. Returns what it printed.
    pub(crate) fn hop(&self, args: &[&str]) -> String {
        succeed(self.command(args))
    }

    /// Runs hop; it must end with that status. Returns what it printed on standard error.
    pub(crate) fn fails(&self, status: i32, args: &[&str]) -> String {
        fail(status, self.command(args))
    }
}

/// Runs a command, which must succeed. Returns what it printed.
pub(crate) fn succeed(mut command: Command) -> String {
    let output = command.output().unwrap();
    let said = text(&output.stderr) + &text(&output.stdout);
    assert!(output.status.success(), "{command:?} ended with {}: {said}", output.status);
    text(&output.stdout)
}

/// Runs a command, which must end with that status. Returns what it printed on standard error.
pub(crate) fn fail(status: i32, mut command: Command) -> String {
    let output = command.output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{command:?}: {said}{}", text(&output.stdout));
    said
}

impl Drop for Place {
    fn drop(&mut self) {
        let down = self.command(&["down", "--all"]).output();
        if !std::thread::panicking() {
            assert!(down.unwrap().status.success());
        }
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A name for a lab that no other test of this machine has: as root all are in /run/netns.
pub(crate) fn unique(name: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{name}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Waits for a condition, not for a time.
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub(crate) fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output().unwrap();
    text(&output.stdout).trim() == "0"
}

/// What `hop why` is expected to say, as it says it here. `; drop REASON` is the kernel's own word for it, which only
/// root is told.
pub(crate) fn as_told_here(expected: &str) -> String {
    if is_told_of_drops() {
        expected.to_owned()
    } else {
        expected.lines().map(|line| without_drops(line) + "\n").collect()
    }
}

/// A line without `; drop REASON`.
pub(crate) fn without_drops(line: &str) -> String {
    const MARK: &str = "; drop ";
    let mut rest = line;
    let mut kept = String::new();
    while let Some((before, behind)) = rest.split_once(MARK) {
        kept.push_str(before);
        rest = behind.trim_start_matches(|c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
    }
    kept + rest
}

/// Does the kernel say here why it drops a packet?
pub(crate) fn is_told_of_drops() -> bool {
    static TOLD: OnceLock<bool> = OnceLock::new();
    *TOLD.get_or_init(|| {
        let place = Place::new();
        let yaml = format!("name: {}\nlinks: [a -- b]\n", unique("told"));
        place.hop(&["up", &place.file("told.hop.yaml", &yaml)]);
        let answer: serde_json::Value = serde_json::from_str(&place.hop(&["why", "--json", "a", "b"])).unwrap();
        let told = answer["no_drop_reasons"].is_null();
        assert!(told == is_root() || std::env::var_os("REQUIRE_KERNEL").is_none(), "{}", answer["no_drop_reasons"]);
        told
    })
}
