//! Whole processes, timed from outside.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use hopyard::kernel::{Realm, cleanup};
use hopyard::net::Family;
use hopyard::plan::Wanted;
use serde::Deserialize;

use crate::child::{self, Planned, Upped};
use crate::course::{self, FirstPacket};
use crate::{Failure, Options};

/// The name of every lab of the benchmark.
const LAB: &str = "hopyard-bench";

/// Which addresses a lab has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Families {
    Ipv4,
    Both,
}

/// As whom `hop` runs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum As<'a> {
    Root,
    User(&'a str),
}

/// The programs that take part, in a directory that everybody can read.
#[derive(Debug)]
pub(crate) struct Programs {
    directory: tempfile::TempDir,
    own: PathBuf,
    hop: PathBuf,
    /// iproute2's, copied as `hop` is: how a file was written decides how fast its pages are found.
    ip: PathBuf,
    pub(crate) limit: Option<PathBuf>,
    pub(crate) exec: Option<PathBuf>,
}

/// What `hop ping --json` says of one pair.
#[derive(Clone, Copy, Debug, Deserialize)]
struct Pair {
    reached: bool,
}

/// What `limit` says of one run, in seconds.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Limit {
    pub(crate) up_total_s: f64,
    pub(crate) down_s: f64,
    errors: u64,
}

impl Programs {
    pub(crate) fn new(options: &Options) -> Result<Self, Failure> {
        use std::os::unix::fs::PermissionsExt;
        let own = std::env::current_exe()?;
        let hop = options.hop.clone().unwrap_or_else(|| own.with_file_name("hop"));
        if !hop.is_file() {
            return Err(Failure::new(format!("there is no {}: `cargo build --release` makes it", hop.display())));
        }
        let exec = options.exec.clone().or_else(|| Some(options.limit.as_ref()?.with_file_name("exec")));
        let directory = tempfile::Builder::new().prefix("hopyard-bench-").tempdir()?;
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755))?;
        let copy = |from: &Path, name: &str| -> Result<PathBuf, Failure> {
            let to = directory.path().join(name);
            std::fs::copy(from, &to)?;
            std::fs::set_permissions(&to, std::fs::Permissions::from_mode(0o755))?;
            Ok(to)
        };
        let (own, hop) = (copy(&own, "bench")?, copy(&hop, "hop")?);
        let paths = std::env::var_os("PATH").unwrap_or_default();
        let ip = std::env::split_paths(&paths).map(|dir| dir.join("ip")).find(|path| path.is_file());
        // Where there is none, what needs it says so.
        let ip = ip.map_or_else(|| Ok("ip".into()), |ip| copy(&ip, "ip"))?;
        let exec = exec.filter(|path| path.is_file());
        Ok(Programs { own, hop, ip, limit: options.limit.clone(), exec, directory })
    }

    /// A file of this run.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn command(&self, program: &Path, who: As<'_>) -> Command {
        let mut command = match who {
            As::Root => Command::new(program),
            As::User(name) => {
                let mut command = Command::new("setpriv");
                command.arg(format!("--reuid={name}")).arg(format!("--regid={name}")).arg("--clear-groups");
                command.arg(program).env_remove("XDG_RUNTIME_DIR").env("HOME", "/nonexistent");
                command
            }
        };
        command.current_dir(self.directory.path());
        command
    }

    /// `hop up`, until it is answered.
    pub(crate) fn up(
        &self,
        topology: &str,
        families: Families,
        packet: &FirstPacket,
        who: As<'_>,
    ) -> Result<Upped, Failure> {
        let mut command = self.command(&self.own, who);
        command.arg("up").arg("--hop").arg(&self.hop).args(["--name", LAB, "--from", packet.from.as_str()]);
        command.args(packet.to.iter().map(|to| format!("--to={to}"))).args(["--", topology]);
        if families == Families::Ipv4 {
            command.arg("-4");
        }
        let upped = output(&mut command).and_then(|text| Ok(serde_json::from_slice(&text)?));
        if upped.is_err() {
            // It may run nevertheless.
            self.down(true, who).ok();
        }
        upped
    }

    /// `hop down`, until it returns; then waits until nothing is left.
    pub(crate) fn down(&self, wait: bool, who: As<'_>) -> Result<f64, Failure> {
        let mut command = self.command(&self.hop, who);
        command.arg("down").arg(LAB).args(wait.then_some("--wait"));
        let started = Instant::now();
        output(&mut command)?;
        let seconds = started.elapsed().as_secs_f64();
        settle()?;
        Ok(seconds)
    }

    /// `hop` with arguments, until it returns.
    pub(crate) fn hop(&self, arguments: &[&str]) -> Result<f64, Failure> {
        let mut command = self.command(&self.hop, As::Root);
        timed(command.args(arguments))
    }

    /// Runs iproute2's `ip`, as [`other`](Self::other) does.
    pub(crate) fn ip(&self, args: &[&str]) -> Result<f64, Failure> {
        self.other(&self.ip.to_string_lossy(), args)
    }

    /// Another program with arguments, until it returns.
    pub(crate) fn other(&self, program: &str, arguments: &[&str]) -> Result<f64, Failure> {
        timed(self.command(Path::new(program), As::Root).args(arguments))
    }

    /// So many namespaces with names, by a program that does nothing else.
    pub(crate) fn names(&self, count: usize) -> Result<f64, Failure> {
        timed(self.command(&self.own, As::Root).args(["names", &count.to_string()]))
    }

    /// The comparison program, until it is answered.
    pub(crate) fn race(&self, course: &Path) -> Result<f64, Failure> {
        let mut command = self.command(&self.own, As::Root);
        let started = Instant::now();
        let mut child = command.arg("race").arg(course).stdout(Stdio::piped()).spawn()?;
        let mut byte = [0];
        let read = child.stdout.take().map(|mut out| out.read(&mut byte));
        let seconds = started.elapsed().as_secs_f64();
        let status = child.wait()?;
        settle()?;
        match read {
            Some(Ok(1)) => Ok(seconds),
            _ => Err(Failure::new(format!("the comparison program: {status}"))),
        }
    }

    pub(crate) fn limit(&self, arguments: &[&str]) -> Result<Option<Limit>, Failure> {
        let Some(limit) = &self.limit else { return Ok(None) };
        let text = output(Command::new(limit).args(arguments).arg("--threads=2"))?;
        let limit: Limit = serde_json::from_slice(&text)?;
        if limit.errors == 0 { Ok(Some(limit)) } else { Err(Failure::new("limit met errors")) }
    }

    /// The median of so many `/bin/true` in a node, by a program that does nothing else.
    pub(crate) fn exec_limit(&self, node: &str, times: usize) -> Result<Option<f64>, Failure> {
        #[derive(Deserialize)]
        struct Median {
            median_us: f64,
        }
        let Some(exec) = &self.exec else { return Ok(None) };
        let namespace = format!("/run/netns/{LAB}.{node}");
        let text = output(Command::new(exec).arg("setns-vfork").arg(times.to_string()).arg(namespace))?;
        Ok(Some(serde_json::from_slice::<Median>(&text)?.median_us / 1e6))
    }

    /// `hop exec NODE -- true`.
    pub(crate) fn exec(&self, node: &str) -> Result<f64, Failure> {
        self.hop(&["exec", "--lab", LAB, node, "--", "/bin/true"])
    }

    pub(crate) fn ping_all(&self) -> Result<f64, Failure> {
        self.hop(&["ping", "--lab", LAB, "--all"])
    }

    /// How many questions from one node to another are answered: there and back, in every family.
    pub(crate) fn reached(&self) -> Result<usize, Failure> {
        let mut command = self.command(&self.hop, As::Root);
        command.args(["ping", "--lab", LAB, "--all", "--json"]).stdin(Stdio::null());
        // Its status is not 0 where a part of the network cannot reach another.
        let pairs: Vec<Pair> = serde_json::from_slice(&command.output()?.stdout)?;
        Ok(pairs.iter().filter(|pair| pair.reached).count())
    }

    /// A topology planned by a process of its own.
    pub(crate) fn plan(&self, topology: &str) -> Result<Planned, Failure> {
        let text = output(self.command(&self.own, As::Root).args(["plan", topology]))?;
        Ok(serde_json::from_slice(&text)?)
    }
}

/// How long it takes to end well.
fn timed(command: &mut Command) -> Result<f64, Failure> {
    command.stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::null());
    let started = Instant::now();
    let status = command.status()?;
    let seconds = started.elapsed().as_secs_f64();
    if status.success() { Ok(seconds) } else { Err(Failure::new(format!("{command:?}: {status}"))) }
}

fn output(command: &mut Command) -> Result<Vec<u8>, Failure> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        let text = String::from_utf8_lossy(&output.stderr);
        Err(Failure::new(format!("{}: {}: {}", command.get_program().display(), output.status, text.trim())))
    }
}

/// Waits until the kernel has freed what was given up: the next one starts on a quiet kernel.
pub(crate) fn settle() -> Result<(), Failure> {
    cleanup::Pending::watch(&Realm::host())?.wait()?;
    Ok(())
}

/// A topology with all that the measurements need to know of it.
#[derive(Debug)]
pub(crate) struct Subject {
    pub(crate) nodes: usize,
    pub(crate) links: usize,
    /// For IPv4 alone, and for both.
    pub(crate) packets: [FirstPacket; 2],
    /// For IPv4 alone, and for both.
    pub(crate) courses: [PathBuf; 2],
}

impl Subject {
    pub(crate) fn new(programs: &Programs, topology: &str, from: &str, to: &str) -> Result<Self, Failure> {
        let both = child::lab(topology)?;
        let ipv4 = both.clone().without_family(Family::Ipv6);
        let prepare = |lab: &hopyard::model::Lab, name: &str| -> Result<(FirstPacket, PathBuf), Failure> {
            let wanted = child::desired(lab)?;
            let packet = first_packet(&wanted, from, to)?;
            let course = programs.file(&format!("{}-{name}", topology.replace([':', '/'], "-")));
            std::fs::write(&course, course::of(&wanted.state, &packet)?)?;
            Ok((packet, course))
        };
        let ((packet4, course4), (packet, course)) = (prepare(&ipv4, "4")?, prepare(&both, "46")?);
        Ok(Subject {
            nodes: both.nodes().len(),
            links: both.links().len(),
            packets: [packet4, packet],
            courses: [course4, course],
        })
    }
}

/// From a node to the main addresses of another.
pub(crate) fn first_packet(wanted: &Wanted, from: &str, to: &str) -> Result<FirstPacket, Failure> {
    let missing = || Failure::new(format!("no node {to}"));
    let (_, addresses) = wanted.hosts.iter().find(|(name, _)| name.as_str() == to).ok_or_else(missing)?;
    let of = |is_ipv6: bool| addresses.iter().find(|address| address.is_ipv6() == is_ipv6).copied();
    Ok(FirstPacket { from: from.parse()?, to: of(false).into_iter().chain(of(true)).collect() })
}
