//! How fast `hop` is: ratios to the fastest programs that could be written for the same work.
//!
//! `docs/benchmarks.md` says what is measured, and what came out.

mod child;
mod course;
mod isp;
#[path = "../../hopyard/tests/common/mod.rs"]
mod labs;
mod measure;
mod racer;
mod report;
mod sample;
mod suite;

use std::io::Write as _;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Measure hop against the fastest programs that could be written for the same work.
///
/// To be run by root, on a machine that is otherwise idle. The status is 1 if a target was missed.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    child: Option<Child>,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own on the command line")]
pub(crate) struct Options {
    /// Labs of 10 and 100 nodes, and one of 1000.
    #[arg(long, conflicts_with = "full")]
    quick: bool,
    /// Labs of up to 10 000 nodes.
    #[arg(long)]
    full: bool,
    /// How often, instead of what is usual for the size.
    #[arg(long, value_name = "N")]
    runs: Option<usize>,
    /// Only rows of which the name contains this.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// The program to measure; usually the `hop` beside this program.
    #[arg(long, value_name = "PATH")]
    hop: Option<PathBuf>,
    /// The C program `limit`, for the physical limit of IPv4 labs.
    #[arg(long, value_name = "PATH")]
    limit: Option<PathBuf>,
    /// The C program `exec`; usually the one beside `limit`.
    #[arg(long, value_name = "PATH")]
    exec: Option<PathBuf>,
    /// An ordinary user, for labs without root.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// A directory of GraphML files that are all to come up.
    #[arg(long, value_name = "DIR")]
    zoo: Option<PathBuf>,
    /// With a /run of its own, in memory, as nearly all machines have it.
    #[arg(long)]
    private_run: bool,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Child {
    /// The comparison program.
    #[command(hide = true)]
    Race { course: PathBuf },
    /// Start `hop up` and wait for the first packet.
    #[command(hide = true)]
    Up {
        #[arg(long)]
        hop: PathBuf,
        #[arg(long)]
        name: String,
        #[arg(long)]
        from: String,
        #[arg(long)]
        to: Vec<IpAddr>,
        #[arg(last = true)]
        topology: Vec<String>,
    },
    /// Plan a topology.
    #[command(hide = true)]
    Plan { topology: String },
    /// Say who reaches whom in a topology, without a kernel.
    #[command(hide = true)]
    Pairs { topology: String },
    /// Make namespaces that have names, and nothing else: what the kernel takes for it.
    #[command(hide = true)]
    Names { count: usize },
    /// Write a course for the comparison program, to run it by hand.
    #[command(hide = true)]
    Course { topology: String, from: String, to: String, file: PathBuf },
}

/// Why there is no result.
#[derive(Debug)]
pub(crate) struct Failure(String);

impl Failure {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Failure(text.into())
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        Failure(text)
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(Failure(text)) => {
            writeln!(std::io::stderr(), "error: {text}").ok();
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<usize, Failure> {
    // Before anything else: of the comparison program, the time from its start counts.
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|argument| argument == "race")
        && let Some(course) = arguments.next()
    {
        racer::run(course.as_ref(), &mut std::io::stdout())?;
        return Ok(0);
    }
    let cli = Cli::parse();
    let out = &mut std::io::stdout();
    match &cli.child {
        None => return suite::run(&cli.options),
        Some(Child::Race { course }) => racer::run(course, out)?,
        Some(Child::Up { hop, name, from, to, topology }) => {
            child::answer(out, &child::up(hop, name, from, to, topology)?)?;
        }
        Some(Child::Plan { topology }) => child::answer(out, &child::plan(topology)?)?,
        Some(Child::Pairs { topology }) => child::answer(out, &child::pairs(topology)?)?,
        Some(Child::Names { count }) => child::names(*count)?,
        Some(Child::Course { topology, from, to, file }) => {
            let wanted = child::desired(&child::lab(topology)?)?;
            let packet = measure::first_packet(&wanted, from, to)?;
            std::fs::write(file, course::of(&wanted.state, &packet)?)?;
        }
    }
    Ok(0)
}
