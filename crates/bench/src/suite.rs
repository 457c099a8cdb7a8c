//! What is measured, and in which turns.

mod names;
mod pairs;
mod sandbox;

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use hopyard::formats::SourceFile;
use hopyard::net::Family;

use crate::measure::{As, Families, Programs, Subject};
use crate::report::{Report, Row, Target, seconds};
use crate::sample::Sample;
use crate::{Failure, Options, isp};

/// A kind of network that `limit` knows as well.
struct Kind {
    name: &'static str,
    limit: &'static str,
    /// Arguments, so that there are about 100, 1000 and 4000 nodes.
    sizes: [u64; 3],
}

const KINDS: [Kind; 3] = [
    Kind { name: "chain", limit: "chain", sizes: [100, 1000, 4000] },
    Kind { name: "star", limit: "star", sizes: [100, 1000, 4000] },
    Kind { name: "fat-tree", limit: "fattree", sizes: [6, 14, 24] },
];

const RATIO_IPV4: Target = Target::Ratio(1.4);
const RATIO_BOTH: Target = Target::Ratio(1.8);
const RATIO_RACE: Target = Target::Ratio(1.25);
const RATIO_USER: Target = Target::Ratio(1.5);
const RATIO_DOWN: Target = Target::Ratio(1.25);
const RATIO_NAME: Target = Target::Ratio(1.0);
const RATIO_MANY_NAMES: Target = Target::Ratio(0.1);
const ABOVE_UNSHARE: Target = Target::Above(0.010);

pub(crate) fn run(options: &Options) -> Result<usize, Failure> {
    if options.private_run && std::env::var_os(INSIDE).is_none() {
        return with_private_run();
    }
    let real_time = prefer();
    let programs = Programs::new(options)?;
    writeln!(
        std::io::stderr(),
        "scheduled {}; load {}",
        if real_time { "first in, first out (chrt -f 20)" } else { "as everybody" },
        std::fs::read_to_string("/proc/loadavg")?.trim()
    )?;
    let mut suite = Suite { options, programs, report: Report::new(std::io::stdout(), options.json)? };
    let measured = suite.up("chain:10", ["chain", "10"], suite.runs(15), Size::Tiny);
    suite.go_on("chain:10", measured)?;
    for (at, size) in [Size::Small, Size::Middle, Size::Large].into_iter().enumerate() {
        for kind in &KINDS {
            let n = kind.sizes[at];
            let runs = match size {
                Size::Large if !options.full => continue,
                Size::Middle if options.quick && kind.name != "chain" => continue,
                Size::Tiny | Size::Small => suite.runs(9),
                Size::Middle => suite.runs(if options.quick { 3 } else { 5 }),
                Size::Large => suite.runs(3),
            };
            let topology = format!("{}:{n}", kind.name);
            let measured = suite.up(&topology, [kind.limit, &n.to_string()], runs, size);
            suite.go_on(&topology, measured)?;
        }
    }
    let measured = suite.exec();
    suite.go_on("exec", measured)?;
    let measured = suite.names();
    suite.go_on("names", measured)?;
    let measured = suite.sandboxes();
    suite.go_on("sandboxes", measured)?;
    let measured = suite.ping_all();
    suite.go_on("ping_all", measured)?;
    let measured = suite.pairs();
    suite.go_on("pairs", measured)?;
    let measured = suite.verdicts();
    suite.go_on("verdicts", measured)?;
    let measured = suite.plans();
    suite.go_on("plans", measured)?;
    let measured = suite.zoo();
    suite.go_on("zoo", measured)?;
    if options.full {
        let measured = suite.growth();
        suite.go_on("growth", measured)?;
    }
    suite.report.finish()
}

/// Set where /run is private already.
const INSIDE: &str = "HOPYARD_BENCH_INSIDE";

/// Runs this program again where /run is a file system in memory that nobody else sees.
fn with_private_run() -> Result<usize, Failure> {
    const SCRIPT: &str = "mount -t tmpfs none /run && exec \"$@\"";
    let status = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", SCRIPT, "sh"])
        .arg(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env(INSIDE, "1")
        .status()?;
    match status.code() {
        Some(0) => Ok(0),
        Some(1) => Ok(1),
        _ => Err(Failure::new(format!("the benchmark with a private /run: {status}"))),
    }
}

/// Others may work on this machine meanwhile; a real-time process goes before them.
fn prefer() -> bool {
    let pid = std::process::id().to_string();
    let chrt = Command::new("chrt").args(["-f", "-p", "20", &pid]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    chrt.is_ok_and(|status| status.success())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Size {
    Tiny,
    Small,
    Middle,
    Large,
}

struct Suite<'a> {
    options: &'a Options,
    programs: Programs,
    report: Report<std::io::Stdout>,
}

impl Suite<'_> {
    fn runs(&self, usual: usize) -> usize {
        self.options.runs.unwrap_or(usual)
    }

    /// What fails, for example because others on the machine have filled its neighbour table, is told
    /// and counted, and the rest is measured.
    fn go_on(&mut self, what: &str, measured: Result<(), Failure>) -> Result<(), Failure> {
        match measured {
            Ok(()) => Ok(()),
            Err(failure) => self.report.failed(what, &failure),
        }
    }

    fn wants(&self, what: &str) -> bool {
        self.options.only.as_ref().is_none_or(|only| what.contains(only.as_str()))
    }

    fn row(
        &mut self,
        what: String,
        hop: &Sample,
        other: &Sample,
        target: Target,
        remark: String,
    ) -> Result<(), Failure> {
        // Without the other program there is nothing to compare.
        if hop.is_empty() || (other.is_empty() && matches!(target, Target::Ratio(_) | Target::Above(_))) {
            return Ok(());
        }
        self.report.add(Row { what, hop: hop.clone(), other: other.clone(), target, remark })
    }

    fn up(&mut self, topology: &str, limit: [&str; 2], runs: usize, size: Size) -> Result<(), Failure> {
        if !self.wants(topology) {
            return Ok(());
        }
        let (from, to) = ends(limit)?;
        let subject = Subject::new(&self.programs, topology, &from, &to)?;
        let programs = &self.programs;
        let [packet4, packet] = &subject.packets;
        let mut times: [Sample; 9] = Default::default();
        let [limit_up, limit_down, hop4, hop, race4, race, user, down, down_wait] = &mut times;
        for _ in 0..runs {
            if let Some(limit) = programs.limit(&limit)? {
                limit_up.push(limit.up_total_s);
                limit_down.push(limit.down_s);
            }
            hop4.push(programs.up(topology, Families::Ipv4, packet4, As::Root)?.answered);
            down_wait.push(programs.down(true, As::Root)?);
            race4.push(programs.race(&subject.courses[0])?);
            hop.push(programs.up(topology, Families::Both, packet, As::Root)?.answered);
            down.push(programs.down(false, As::Root)?);
            race.push(programs.race(&subject.courses[1])?);
            if let Some(name) = &self.options.user {
                user.push(programs.up(topology, Families::Both, packet, As::User(name))?.answered);
                programs.down(true, As::User(name))?;
            }
        }
        let [limit_up, limit_down, hop4, hop, race4, race, user, down, down_wait] = &times;
        let shape = format!("{} nodes, {} links", subject.nodes, subject.links);
        let row = |what: &str| format!("{topology} {what}");
        if size == Size::Tiny {
            self.row(row("up, IPv4, until answered"), hop4, limit_up, Target::Above(0.010), "above limit".into())?;
        } else {
            self.row(row("up, IPv4, until answered"), hop4, limit_up, RATIO_IPV4, format!("to limit; {shape}"))?;
        }
        let both = if size == Size::Tiny { Target::None } else { RATIO_BOTH };
        self.row(row("up, both families"), hop, limit_up, both, "to limit, which has IPv4 alone".into())?;
        self.row(row("up, IPv4"), hop4, race4, Target::None, "to the comparison program".into())?;
        let target = if size == Size::Tiny { Target::None } else { RATIO_RACE };
        self.row(row("up, both families"), hop, race, target, "to the comparison program".into())?;
        self.row(row("up without root"), user, hop, RATIO_USER, "to root".into())?;
        if size == Size::Middle {
            self.row(row("down"), down, &Sample::default(), Target::Seconds(0.050), "returns".into())?;
        }
        let target = if size == Size::Middle || size == Size::Large { RATIO_DOWN } else { Target::None };
        self.row(row("down --wait"), down_wait, limit_down, target, "to limit".into())
    }

    /// A command in a node, with few and with many namespaces around it.
    fn exec(&mut self) -> Result<(), Failure> {
        const TIMES: usize = 20;
        if !self.wants("exec") {
            return Ok(());
        }
        for topology in ["chain:3", "chain:1000"] {
            let programs = &self.programs;
            let subject = Subject::new(programs, topology, "n1", "n3")?;
            programs.up(topology, Families::Both, &subject.packets[1], As::Root)?;
            let (mut hop, mut limit) = (Sample::default(), Sample::default());
            let measured: Result<(), Failure> = (0..self.runs(5)).try_for_each(|_| {
                let times: Sample = (0..TIMES).map(|_| programs.exec("n2")).collect::<Result<_, Failure>>()?;
                hop.push(times.median());
                if let Some(time) = programs.exec_limit("n2", TIMES)? {
                    limit.push(time);
                }
                Ok(())
            });
            programs.down(true, As::Root)?;
            measured?;
            let remark = format!("medians of {TIMES}; to setns and vfork alone");
            self.row(format!("exec -- true, {topology}"), &hop, &limit, Target::Above(0.002), remark)?;
        }
        Ok(())
    }

    fn ping_all(&mut self) -> Result<(), Failure> {
        let Some(zoo) = &self.options.zoo else { return Ok(()) };
        let file = zoo.join("TataNld.graphml");
        if !file.is_file() || !self.wants("ping --all") {
            return Ok(());
        }
        let programs = &self.programs;
        programs.hop(&["up", "-q", "--name", "hopyard-bench", &file.to_string_lossy()])?;
        let times = (0..self.runs(3)).map(|_| programs.ping_all()).collect::<Result<Sample, Failure>>();
        programs.down(true, As::Root)?;
        let remark = "both families, every pair".into();
        self.row("ping --all, TataNld".into(), &times?, &Sample::default(), Target::None, remark)
    }

    fn plans(&mut self) -> Result<(), Failure> {
        if !self.wants("plan") {
            return Ok(());
        }
        let provider = self.programs.file("provider.graphml");
        std::fs::write(&provider, isp::graphml(10_000))?;
        let provider = provider.to_string_lossy().into_owned();
        for topology in ["chain:10000", "star:10000", "grid:100x100", "fat-tree:34", &provider] {
            let mut times = Sample::default();
            let mut last = None;
            for _ in 0..self.runs(3) {
                let planned = self.programs.plan(topology)?;
                times.push(planned.seconds);
                last = Some(planned);
            }
            let Some(plan) = last else { continue };
            let remark = format!(
                "{} MiB; routes per router {} on average, at most {}; {} steps",
                plan.peak >> 20,
                plan.routes / plan.routers.max(1),
                plan.most_routes,
                plan.operations
            );
            let name = if topology == provider { "provider of 10 000 nodes (GraphML)" } else { topology };
            self.row(format!("plan {name}"), &times, &Sample::default(), Target::None, remark)?;
        }
        Ok(())
    }

    /// Every file of a directory, up and down.
    fn zoo(&mut self) -> Result<(), Failure> {
        let Some(zoo) = &self.options.zoo else { return Ok(()) };
        if !self.wants("zoo") {
            return Ok(());
        }
        let mut files: Vec<_> =
            std::fs::read_dir(zoo)?.map(|entry| Ok(entry?.path())).collect::<Result<_, Failure>>()?;
        files.retain(|file| file.extension().is_some_and(|kind| kind == "graphml"));
        files.sort();
        let mut times = Sample::default();
        let mut slowest = (0.0, String::new());
        let mut pairs = 0;
        for file in &files {
            let time = self.programs.hop(&["up", "-q", "--name", "hopyard-bench", &file.to_string_lossy()])?;
            let reached = self.programs.reached();
            self.programs.down(false, As::Root)?;
            let (reached, connected) = (reached?, connected_pairs(file)?);
            if reached != connected {
                let text = format!("{}: {reached} of {connected} answers that should come", file.display());
                return Err(Failure::new(text));
            }
            pairs += reached;
            times.push(time);
            if time > slowest.0 {
                slowest = (time, file.file_stem().unwrap_or_default().to_string_lossy().into_owned());
            }
        }
        let remark = format!(
            "{} files; the slowest is {}; {pairs} of {pairs} connected pairs answer, both families",
            files.len(),
            slowest.1
        );
        self.row("zoo: up, each file".into(), &times, &Sample::default(), Target::None, remark)
    }

    /// Is the last node as cheap as the first?
    fn growth(&mut self) -> Result<(), Failure> {
        let mut first = None;
        for n in [1000, 4000, 10_000] {
            let topology = format!("chain:{n}");
            if !self.wants("growth") && !self.wants(&topology) {
                continue;
            }
            let subject = Subject::new(&self.programs, &topology, "n1", "n256")?;
            let mut times = Sample::default();
            for _ in 0..self.runs(if n == 10_000 { 1 } else { 3 }) {
                times.push(self.programs.up(&topology, Families::Both, &subject.packets[1], As::Root)?.answered);
                self.programs.down(true, As::Root)?;
            }
            let each = times.median() / f64::from(n);
            let growth = each / *first.get_or_insert(each);
            let remark = format!("{} a node, {growth:.2} times that of 1000", seconds(each));
            self.row(format!("growth: {topology} up"), &times, &Sample::default(), Target::None, remark)?;
        }
        Ok(())
    }
}

/// How many ordered pairs of nodes are joined, once for each family.
fn connected_pairs(file: &Path) -> Result<usize, Failure> {
    let source = SourceFile::new(file.display().to_string(), std::fs::read_to_string(file)?);
    let (lab, _) = hopyard::formats::read(&source)
        .map_err(|problems| Failure::new(format!("{}: {} problems", file.display(), problems.len())))?;
    let parts = lab.parts();
    let size = |part: &usize| parts.iter().filter(|&other| other == part).count();
    Ok(Family::BOTH.len() * parts.iter().map(|part| size(part) - 1).sum::<usize>())
}

/// The nodes of the longest path that a packet can cross: its hop limit has 8 bits.
fn ends([kind, n]: [&str; 2]) -> Result<(String, String), Failure> {
    let n: u64 = n.parse()?;
    Ok(match kind {
        "chain" => ("n1".to_owned(), format!("n{}", n.min(256))),
        "fattree" => ("h1-1-1".to_owned(), format!("h{n}-{}-{}", n / 2, n / 2)),
        _ => ("n1".to_owned(), format!("n{n}")),
    })
}
