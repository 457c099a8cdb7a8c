//! What the documentation says is what the program does: every fenced block of the README and of
//! `docs/` runs, every example comes up, and the generated reference is current.
//!
//! Conventions of a page, which is run from top to bottom in an empty directory with `hop` on PATH
//! and a link to `examples/`; no lab may be left running at its end:
//!
//! - ```` ```console ````: a line that starts with `$ ` is a command, `> ` continues it, and what
//!   follows is all that it prints. `...` stands for any text, alone on its line for any lines.
//!   Durations (`in 9 ms`) are all the same. `; drop REASON` is what only root is told: where a line has it, root must
//!   see it and nobody else may; where it has none, it does not matter. A command that prints nothing must succeed.
//!   `$ cat FILE` in the first line of a block makes the file: what follows is what is in it.
//! - ```` ```sh ````: a script that must succeed.
//! - ```` ```yaml ````: a topology that must come up. If its first line is a comment with a file
//!   name, the commands below find it under that name.
//! - ```` ```rust ````: stands in this file word for word, hence compiles and runs.
//! - `console,root`: needs root, so it runs in namespaces of its own, for an ordinary user too.
//! - `console,boot`: runs as root on a machine that systemd has started, with a user `someone` (`common/systemd.rs`).
//! - `console,norun`: is not run.
//!
//! What cannot run for lack of a tool or a right is skipped, and the reason printed; where
//! `REQUIRE_LABS` is set that is a failure. `UPDATE=1` rewrites the generated reference.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test says what is wrong by failing")]

mod common;

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

const HOP: &str = env!("CARGO_BIN_EXE_hop");
/// Longer than any page should take.
const TIMEOUT_S: &str = "180";
/// Where programs are, whoever runs the tests.
const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Programs that are not everywhere, and that a page may use.
const TOOLS: &[&str] = &["ip", "nft", "ping", "sysctl", "python3", "getent", "podman"];

// ---------------------------------------------------------------------------------- the tests

#[test]
fn every_page_runs() {
    let Some(how) = how_to_run() else { return };
    let pages = pages();
    let failures: Vec<String> = std::thread::scope(|scope| {
        let runs: Vec<_> = pages.iter().map(|page| scope.spawn(|| run_page(page, how))).collect();
        runs.into_iter().flat_map(|run| run.join().unwrap()).collect()
    });
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

/// The commands in the head of an example do what they say, and so does the example as a whole.
#[test]
fn every_example_runs_as_its_head_says() {
    let Some(how) = how_to_run() else { return };
    let examples = examples();
    assert!(!examples.is_empty());
    std::thread::scope(|scope| {
        for example in &examples {
            scope.spawn(|| check_example(example, how));
        }
    });
}

/// The plan of an example is the same bytes whenever it is made.
#[test]
fn every_example_has_one_plan() {
    let place = Place::new();
    for example in examples() {
        let plan = || place.hop(["plan".as_ref(), example.as_os_str()]);
        let (first, second) = (plan(), plan());
        assert!(first.status.success(), "{}: {}", example.display(), text(&first));
        assert!(!first.stdout.is_empty(), "{}: the plan is empty", example.display());
        assert_eq!(first.stdout, second.stdout, "{}", example.display());
    }
}

/// The manual page, the completions and the schema are those of this program.
#[test]
fn the_generated_reference_is_current() {
    let place = Place::new();
    let dir = root().join("docs/reference");
    let mut stale = Vec::new();
    for (path, args) in [
        ("hop.1", &["man"][..]),
        ("completions/hop.bash", &["completions", "bash"]),
        ("completions/_hop", &["completions", "zsh"]),
        ("completions/hop.fish", &["completions", "fish"]),
        ("hop.schema.json", &["schema"]),
        ("why.schema.json", &["schema", "--why"]),
    ] {
        let output = place.hop(args);
        assert!(output.status.success(), "{path}: {}", text(&output));
        let path = dir.join(path);
        if std::env::var_os("UPDATE").is_some() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &output.stdout).unwrap();
        } else if fs::read(&path).unwrap_or_default() != output.stdout {
            stale.push(path.display().to_string());
        }
    }
    assert!(stale.is_empty(), "not as the program says (UPDATE=1 rewrites): {}", stale.join(", "));
}

/// The example of the README, in its own words.
mod readme {
    #[test]
    fn far_answers_through_near() -> Result<(), hopyard::Error> {
        let net = hopyard::Network::start("home -- near -- far")?;
        assert!(net.ping("home", "far")?.is_reply());

        let far = net.node("far")?;
        let listener = far.run(|| std::net::TcpListener::bind("0.0.0.0:8080"))?;
        let address = (far.ipv4().unwrap(), 8080);
        let client = net.node("home")?.run(|| std::net::TcpStream::connect(address))?;
        assert!(listener.is_ok() && client.is_ok());
        Ok(())
    }
}

// ------------------------------------------------------------------------------- the examples

fn check_example(path: &Path, how: How) {
    let text = fs::read_to_string(path).unwrap();
    let file = format!("examples/{}", path.file_name().unwrap().display());
    let head = text.lines().map_while(|line| line.strip_prefix('#')).map(str::trim);
    let commands: Vec<&str> = head.filter(|line| line.starts_with("hop ")).collect();
    assert_eq!(commands.first(), Some(&format!("hop up {file}").as_str()), "{file}: what its head begins with");

    // A remark behind a command says why it fails.
    let mut steps: Vec<Step> = Vec::new();
    for command in &commands {
        steps.push(Step::ends(command, i32::from(command.contains(" # "))));
    }
    steps.push(Step::prints(&format!("hop up {file}"), "... is up already; nothing to change"));
    steps.push(Step::prints("hop diff", "... is as declared"));
    steps.push(Step::ends("hop down --wait", 0));
    let all_answer = !commands.iter().any(|command| command.contains(" # "));
    steps.push(Step::ends(&format!("hop run {file} -- hop ping --all -W 500"), i32::from(!all_answer)));
    steps.push(Step::prints("hop ls", "no lab is running..."));

    let place = Place::new();
    let failures = place.run(&file, &steps, how.labs());
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

fn examples() -> Vec<PathBuf> {
    files_of("examples", ".hop.yaml")
}

// ---------------------------------------------------------------------------------- the pages

fn pages() -> Vec<PathBuf> {
    let mut pages = vec![root().join("README.md")];
    pages.extend(files_of("docs", ".md"));
    pages
}

/// Runs a page; all that is not as it says.
fn run_page(path: &Path, how: How) -> Vec<String> {
    let name = path.strip_prefix(root()).unwrap().display().to_string();
    let text = fs::read_to_string(path).unwrap();
    let (mut steps, mut as_root, mut booted) = (Vec::new(), Vec::new(), Vec::new());
    let mut failures = Vec::new();
    for block in blocks(&text) {
        let steps = match () {
            () if block.has("root") => &mut as_root,
            () if block.has("boot") => &mut booted,
            () => &mut steps,
        };
        let place = format!("{name}:{}", block.line);
        match block.language() {
            _ if block.has("norun") => {}
            "console" => steps.extend(session(&place, &block.lines)),
            "sh" => steps.push(Step::ends(&block.lines.join("\n"), 0).at(place)),
            "yaml" => steps.extend(topology(&place, &block.lines)),
            "rust" if !is_in_this_file(&block.lines) => {
                failures.push(format!("{place}: the block does not stand in crates/cli/tests/docs.rs"));
            }
            _ => {}
        }
    }
    if !steps.is_empty() {
        steps.push(Step::prints("hop ls", "no lab is running...").at(format!("{name}: at its end")));
        failures.extend(Place::new().run(&name, &steps, how.labs()));
    }
    if !as_root.is_empty() {
        failures.extend(Place::new().run(&name, &as_root, how.root()));
    }
    if !booted.is_empty() {
        failures.extend(run_booted(&name, &booted));
    }
    failures
}

/// A fenced block.
struct Block<'t> {
    /// The words behind the fence.
    info: &'t str,
    /// The line of the fence, counted from 1.
    line: usize,
    lines: Vec<&'t str>,
}

impl Block<'_> {
    fn language(&self) -> &str {
        self.info.split(',').next().unwrap_or_default()
    }

    fn has(&self, word: &str) -> bool {
        self.info.split(',').skip(1).any(|found| found == word)
    }
}

fn blocks(text: &str) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    let mut open: Option<Block<'_>> = None;
    for (at, line) in text.lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(info)) => open = Some(Block { info: info.trim(), line: at + 1, lines: Vec::new() }),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(block), None) => block.lines.push(line),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block is not closed");
    blocks
}

/// The commands of a session, each with what it prints.
fn session(place: &str, lines: &[&str]) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for line in lines {
        match (line.strip_prefix("$ "), line.strip_prefix("> "), steps.last_mut()) {
            (Some(command), ..) => steps.push(Step::prints(command, "").at(place.to_owned())),
            (None, Some(more), Some(step)) if step.printed == Some(Vec::new()) => {
                write!(step.script, "\n{more}").unwrap();
            }
            (None, _, Some(step)) => step.printed.get_or_insert_default().push((*line).to_owned()),
            (None, _, None) => panic!("{place}: a session begins with a command"),
        }
    }
    // What the page shows of a file is the file, unless the page has made it.
    if let Some(first) = steps.first_mut()
        && let Some(file) = first.script.strip_prefix("cat ")
    {
        let content = first.printed.iter().flatten().fold(String::new(), |text, line| text + line + "\n");
        first.script = format!("test -e {file} || cat > {file} <<'END-OF-FILE'\n{content}END-OF-FILE\ncat {file}");
    }
    for step in &mut steps {
        step.status = (step.printed == Some(Vec::new())).then_some(0);
    }
    steps
}

/// Puts a topology where the commands find it, and brings it up once.
fn topology(place: &str, lines: &[&str]) -> Vec<Step> {
    let named = lines.first().and_then(|line| line.strip_prefix("# ")).filter(|name| name.ends_with(".hop.yaml"));
    let name = named.unwrap_or("block.hop.yaml");
    let text = lines.join("\n");
    let write = format!("cat > {name} <<'END-OF-BLOCK'\n{text}\nEND-OF-BLOCK");
    // Under a name of its own: the page may have the lab up.
    let run = format!("hop run {name} --name try -- true");
    vec![Step::ends(&write, 0).at(place.to_owned()), Step::ends(&run, 0).at(place.to_owned())]
}

fn is_in_this_file(lines: &[&str]) -> bool {
    let this = include_str!("docs.rs");
    let indented: Vec<String> =
        lines.iter().map(|line| if line.is_empty() { String::new() } else { format!("    {line}") }).collect();
    this.contains(&indented.join("\n"))
}

// ------------------------------------------------------------------------------ running things

/// A command and what it should do.
struct Step {
    /// Where it is written.
    at: String,
    script: String,
    /// All that it prints, line by line; `None`: whatever it is.
    printed: Option<Vec<String>>,
    /// How it ends; `None`: what it prints tells.
    status: Option<i32>,
}

impl Step {
    fn prints(script: &str, expected: &str) -> Self {
        let printed = Some(expected.lines().map(str::to_owned).collect());
        Step { at: String::new(), script: script.to_owned(), printed, status: None }
    }

    fn ends(script: &str, status: i32) -> Self {
        Step { status: Some(status), printed: None, ..Self::prints(script, "") }
    }

    fn at(self, at: String) -> Self {
        Step { at, ..self }
    }

    /// What is wrong with what it did.
    fn check(&self, page: &str, printed: &str, status: Option<i32>) -> Option<String> {
        let lines: Vec<&str> = printed.lines().map(str::trim_end).collect();
        let says_so = self.printed.as_ref().is_none_or(|expected| {
            let expected: Vec<&str> = expected.iter().map(|line| line.trim_end()).collect();
            lines_match(&expected, &lines)
        });
        let ends_so = status.is_some() && self.status.is_none_or(|wanted| Some(wanted) == status);
        if says_so && ends_so {
            return None;
        }
        let at = if self.at.is_empty() { page } else { &self.at };
        let word =
            |status: Option<i32>| status.map_or_else(|| "any status".to_owned(), |status| format!("status {status}"));
        let found = if status.is_some() { word(status) } else { "it did not end".to_owned() };
        let wanted = self.printed.as_ref().map_or_else(|| "...".to_owned(), |lines| lines.join("\n"));
        let script = &self.script;
        Some(format!("{at}: $ {script}\n--- wanted, {}:\n{wanted}\n--- found, {found}:\n{printed}", word(self.status)))
    }
}

/// `...` alone is any lines, and within a line any text.
fn lines_match(expected: &[&str], lines: &[&str]) -> bool {
    match (expected, lines) {
        ([], _) => lines.is_empty(),
        (["...", rest @ ..], _) => (0..=lines.len()).any(|skip| lines_match(rest, &lines[skip..])),
        ([first, rest @ ..], [line, others @ ..]) => line_matches(first, line) && lines_match(rest, others),
        (_, []) => false,
    }
}

fn line_matches(expected: &str, line: &str) -> bool {
    let (expected, line) = match common::without_drops(expected) {
        silent if silent == expected => (silent, common::without_drops(line)),
        silent if !common::is_told_of_drops() => (silent, line.to_owned()),
        _ => (expected.to_owned(), line.to_owned()),
    };
    let (expected, line) = (without_durations(&expected), without_durations(&line));
    let mut pieces = expected.split("...");
    let Some(mut rest) = pieces.next().and_then(|first| line.strip_prefix(first)) else { return false };
    let mut pieces: Vec<&str> = pieces.collect();
    let Some(last) = pieces.pop() else { return rest.is_empty() };
    for piece in pieces {
        let Some(at) = rest.find(piece) else { return false };
        rest = &rest[at + piece.len()..];
    }
    rest.ends_with(last)
}

/// `in 9 ms` and `in 1.3 s` are both `in TIME`.
fn without_durations(line: &str) -> String {
    let mut out: Vec<&str> = Vec::new();
    let mut words = line.split(' ').peekable();
    while let Some(word) = words.next() {
        out.push(word);
        let is_number = |word: &&str| word.parse::<f64>().is_ok();
        if word == "in" && words.next_if(is_number).is_some() {
            out.push("TIME");
            words.next_if(|word| matches!(*word, "ms" | "s"));
        }
    }
    out.join(" ")
}

/// As whom labs run.
#[derive(Clone, Copy)]
struct How {
    privileged: bool,
}

impl How {
    /// For a page's labs. The names for `ip netns` are one for the machine, so root gets a `/run` of
    /// its own: pages do not meet each other, nor labs that run here.
    fn labs(self) -> &'static [&'static str] {
        if self.privileged { &["unshare", "--mount", "--propagation", "private"] } else { &[] }
    }

    /// For what only root may do: in namespaces in which the caller is root.
    fn root(self) -> &'static [&'static str] {
        if self.privileged {
            &["unshare", "--net", "--mount", "--propagation", "private"]
        } else {
            &["unshare", "--user", "--map-root-user", "--net", "--mount", "--propagation", "private"]
        }
    }
}

/// `None`: no labs here, for a reason that is printed.
fn how_to_run() -> Option<How> {
    let place = Place::new();
    let doctor = place.hop(["doctor"]);
    if !doctor.status.success() {
        skip("labs", &format!("`hop doctor` says:\n{}", text(&doctor)));
        return None;
    }
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    let may_unshare =
        || Command::new("unshare").args(["--mount", "true"]).status().is_ok_and(|status| status.success());
    Some(How { privileged: is_root && may_unshare() })
}

fn skip(what: &str, why: &str) {
    assert!(std::env::var_os("REQUIRE_LABS").is_none(), "REQUIRE_LABS is set, but {what} cannot run: {why}");
    println!("skipped: {what}: {why}");
}

/// A directory to run in, with `hop` on PATH; whatever labs it has are down when it goes.
struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("hop-docs-").tempdir().unwrap();
        let path = dir.path();
        for sub in ["bin", "work", "out", "home"] {
            fs::create_dir(path.join(sub)).unwrap();
        }
        fs::DirBuilder::new().mode(0o700).create(path.join("labs")).unwrap();
        symlink(HOP, path.join("bin/hop")).unwrap();
        symlink(root().join("examples"), path.join("work/examples")).unwrap();
        Place { dir }
    }

    fn path(&self, sub: &str) -> PathBuf {
        self.dir.path().join(sub)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let path = format!("{}:{SYSTEM_PATH}", self.path("bin").display());
        command.env_clear().env("PATH", path).env("HOME", self.path("home")).env("LC_ALL", "C").env("SHELL", "/bin/sh");
        command.env("HOPYARD_DIR", self.path("labs")).current_dir(self.path("work")).stdin(Stdio::null());
        command
    }

    fn hop(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Output {
        self.command(HOP).args(args).output().unwrap()
    }

    /// Runs steps in one shell, so that a directory or a variable stays; what is not as it should be.
    fn run(&self, page: &str, steps: &[Step], within: &[&str]) -> Vec<String> {
        if let Some(tool) = missing_tool(steps) {
            skip(page, &format!("{} commands: there is no `{tool}` here", steps.len()));
            return Vec::new();
        }
        let mut script = String::new();
        if !within.is_empty() {
            script.push_str("mount -t tmpfs -o mode=755 none /run || exit 99\n");
        }
        let out = self.path("out");
        script.push_str(&script_of(steps, &out));
        let mut words: Vec<&str> = vec!["timeout", "--kill-after=5", TIMEOUT_S];
        words.extend(within);
        words.extend(["sh", "-c", &script]);
        let output = self.command(words[0]).args(&words[1..]).output().unwrap();
        check_all(page, steps, &output, &out)
    }
}

/// Runs steps on a machine that systemd has started.
fn run_booted(page: &str, steps: &[Step]) -> Vec<String> {
    let Some(disk) = common::systemd::Disk::new() else { return Vec::new() };
    if let Some(tool) = missing_tool(steps) {
        skip(page, &format!("{} commands: there is no `{tool}` here", steps.len()));
        return Vec::new();
    }
    let (home, shown) = (disk.path("home/page"), Path::new("/home/page"));
    fs::create_dir(&home).unwrap();
    let machine = disk.start();
    if steps.iter().any(|step| step.script.contains("podman ")) {
        machine.sh(common::systemd::PODMAN);
    }
    let script = format!("cd {}\n{}", shown.display(), script_of(steps, shown));
    let output = machine.output("timeout", &["--kill-after=5", TIMEOUT_S, "sh", "-c", &script]);
    check_all(page, steps, &output, &home)
}

/// Runs each step, and leaves in a directory what it prints and how it ends.
fn script_of(steps: &[Step], out: &Path) -> String {
    let mut script = String::new();
    for (at, step) in steps.iter().enumerate() {
        let out = out.join(at.to_string());
        let out = out.display();
        writeln!(script, "{{\n{}\n}} >{out} 2>&1 </dev/null\necho $? >{out}.status", step.script).unwrap();
    }
    script
}

/// What is not as it should be.
fn check_all(page: &str, steps: &[Step], output: &Output, out: &Path) -> Vec<String> {
    let mut failures = Vec::new();
    if !output.status.success() {
        failures.push(format!("{page}: the shell ends with {}\n{}", output.status, text(output)));
    }
    for (at, step) in steps.iter().enumerate() {
        let printed = fs::read(out.join(at.to_string())).unwrap_or_default();
        let status =
            fs::read_to_string(out.join(format!("{at}.status"))).ok().and_then(|text| text.trim().parse().ok());
        failures.extend(step.check(page, &String::from_utf8_lossy(&printed), status));
    }
    failures
}

impl Drop for Place {
    fn drop(&mut self) {
        // A test that fails must not leave a lab; where there is none this does nothing.
        let down = self.hop(["down", "--all", "--wait"]);
        assert!(down.status.success() || std::thread::panicking(), "{}", text(&down));
    }
}

/// A program that the steps use, but for commands of `hop` of the same name.
fn missing_tool(steps: &[Step]) -> Option<&'static str> {
    let there = |tool: &str| SYSTEM_PATH.split(':').any(|dir| Path::new(dir).join(tool).exists());
    let uses = |tool: &str| {
        steps.iter().any(|step| {
            let words: Vec<&str> = step.script.split_whitespace().collect();
            words.iter().enumerate().any(|(at, word)| *word == tool && (at == 0 || words[at - 1] != "hop"))
        })
    };
    TOOLS.iter().copied().find(|tool| uses(tool) && !there(tool))
}

fn files_of(dir: &str, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join(dir)).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries.filter(|path| path.display().to_string().ends_with(ending)).collect();
    files.sort();
    files
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn text(output: &Output) -> String {
    [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy).concat()
}

#[test]
fn what_a_page_expects_is_compared_as_it_says() {
    assert!(line_matches("home reaches far (...) in 0.4 ms", "home reaches far (10.0.0.1) in 12 ms"));
    assert!(line_matches("up, in 9 ms", "up, in 1.3 s"));
    assert!(!line_matches("up", "up again"));
    assert!(!line_matches("a ... b", "a c"));
    assert!(line_matches("arrived; Errors +1", "arrived; Errors +1; drop IP_ERROR"));
    assert_eq!(line_matches("arrived; drop IP_ERROR", "arrived; drop IP_ERROR"), common::is_told_of_drops());
    assert_eq!(line_matches("arrived; drop IP_ERROR", "arrived"), !common::is_told_of_drops());
    assert!(lines_match(&["a", "...", "b"], &["a", "b"]));
    assert!(lines_match(&["a", "...", "b"], &["a", "x", "y", "b"]));
    assert!(!lines_match(&["a"], &["a", "b"]));
    assert!(lines_match(&[], &[]));
    assert!(!lines_match(&[], &["a"]));
    let text = "x\n```console,root\n$ a\nb\n$ c\n> d\n```\n";
    let blocks = blocks(text);
    assert_eq!((blocks[0].language(), blocks[0].has("root"), blocks[0].line), ("console", true, 2));
    let steps = session("here", &blocks[0].lines);
    assert_eq!((steps[0].script.as_str(), steps[0].status), ("a", None));
    assert_eq!(steps[0].printed.as_deref().unwrap(), ["b"]);
    assert_eq!((steps[1].script.as_str(), steps[1].status), ("c\nd", Some(0)));
}
