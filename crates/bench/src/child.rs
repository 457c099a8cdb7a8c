//! What this program does as a child of itself: one measurement, as whoever it is started as.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use hopyard::explain::{Cell, Target, derive, matrix};
use hopyard::formats::{self, SourceFile};
use hopyard::kernel::pin;
use hopyard::model::Lab;
use hopyard::net::{Family, NetState, Snapshot};
use hopyard::plan::Wanted;
use hopyard::runtime::ping::{Probe, ping};
use hopyard::runtime::{Home, Running};
use serde::{Deserialize, Serialize};

use crate::Failure;

/// How long an echo may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Times of one `hop up`, from before its process is started, in seconds.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Upped {
    /// Until it had ended.
    pub(crate) returned: f64,
    /// Until the first packet had crossed the longest path and its answer too; of each family.
    pub(crate) answered: f64,
}

/// Starts `hop up`, and asks for an echo as soon as it returns.
pub(crate) fn up(hop: &Path, name: &str, from: &str, to: &[IpAddr], topology: &[String]) -> Result<Upped, Failure> {
    let started = Instant::now();
    let status = Command::new(hop).args(["up", "-q", "--name", name]).args(topology).stderr(Stdio::null()).status()?;
    let returned = started.elapsed().as_secs_f64();
    if !status.success() {
        return Err(Failure::new(format!("hop up {topology:?}: {status}")));
    }
    let running = Running::find(&Home::of_caller()?, &name.parse()?)?;
    let source: hopyard::net::NsName = from.parse()?;
    let namespaces = BTreeMap::from([(source.clone(), running.namespace(from)?)]);
    let probes: Vec<Probe> = to.iter().map(|&to| Probe { from: source.clone(), to }).collect();
    let outcomes = ping(running.realm(), &namespaces, &probes, PATIENCE)?;
    let answered = started.elapsed().as_secs_f64();
    match outcomes.iter().find(|outcome| !outcome.is_reply()) {
        None => Ok(Upped { returned, answered }),
        Some(outcome) => {
            Err(Failure::new(format!("{topology:?}: the first packet from {from} to {to:?}: {outcome:?}")))
        }
    }
}

/// Makes namespaces and mounts each on a file of the directory of names, which is there, by the threads of `hop ns add`.
pub(crate) fn names(count: usize) -> Result<(), Failure> {
    let dir = File::open("/run/netns")?;
    let next = AtomicUsize::new(0);
    let (dir, next) = (&dir, &next);
    let (failed, told) = mpsc::channel();
    let make = move |maker: &pin::Maker| {
        let name = || Some(next.fetch_add(1, Ordering::Relaxed)).filter(|n| *n < count).map(|n| format!("n{n}"));
        while let Some(name) = name() {
            let made = maker.make().and_then(|network| pin::pin(network.as_fd(), dir.as_fd(), name.as_ref()));
            if made.is_err() {
                failed.send(made).ok();
                break;
            }
        }
    };
    pin::make_networks(make, || ())?;
    told.iter().try_for_each(|made| Ok(made?))
}

/// What planning a topology takes.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Planned {
    /// From the text to the operations.
    pub(crate) seconds: f64,
    /// The most memory that the process had, in bytes.
    pub(crate) peak: u64,
    pub(crate) routers: usize,
    pub(crate) routes: usize,
    pub(crate) most_routes: usize,
    pub(crate) operations: usize,
}

/// Plans a topology.
pub(crate) fn plan(topology: &str) -> Result<Planned, Failure> {
    let started = Instant::now();
    let lab = lab(topology)?;
    let Wanted { state, .. } = desired(&lab)?;
    let operations = hopyard::plan::diff(&NetState::default(), &state).len();
    let seconds = started.elapsed().as_secs_f64();
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse().ok());
    let routes: Vec<usize> = state.namespaces.values().map(|space| space.routes.len()).filter(|n| *n > 0).collect();
    Ok(Planned {
        seconds,
        peak: peak.unwrap_or(0) * 1024,
        routers: routes.len(),
        routes: routes.iter().sum(),
        most_routes: routes.into_iter().max().unwrap_or(0),
        operations,
    })
}

/// What it takes to say who reaches whom, without a kernel.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Predicted {
    /// From the snapshot to the last pair, in seconds.
    pub(crate) seconds: f64,
    /// In all tables of all nodes.
    pub(crate) routes: usize,
    /// There and back, in both families.
    pub(crate) pairs: usize,
    pub(crate) reached: usize,
    /// Those that were walked one by one.
    pub(crate) walked: usize,
}

/// Says who reaches whom in a topology that was planned.
pub(crate) fn pairs(topology: &str) -> Result<Predicted, Failure> {
    let lab = lab(topology)?;
    let Wanted { state, .. } = desired(&lab)?;
    let network = derive(&state, None);
    let nodes: Vec<hopyard::net::NsName> = lab.nodes().iter().map(|node| node.name.clone()).collect();
    let mut targets = Vec::new();
    for node in &nodes {
        let links = state.namespaces.get(node).into_iter().flat_map(|space| space.links.values());
        let addresses: Vec<IpAddr> = links.flat_map(|link| &link.addresses).map(hopyard::net::IpNet::addr).collect();
        for family in Family::BOTH {
            let first = addresses.iter().find(|addr| Family::of(**addr) == family);
            targets.extend(first.map(|addr| Target { node: node.clone(), addr: *addr }));
        }
    }
    Ok(predict(&network, &nodes, &targets))
}

/// Predicts all pairs, and takes the time.
pub(crate) fn predict(network: &Snapshot, nodes: &[hopyard::net::NsName], targets: &[Target]) -> Predicted {
    let started = Instant::now();
    let all = matrix(network, nodes, targets);
    let seconds = started.elapsed().as_secs_f64();
    Predicted {
        seconds,
        routes: network.nodes.values().map(|node| node.routes.len()).sum(),
        pairs: all.pairs().count(),
        reached: all.pairs().filter(|(.., cell)| *cell == Cell::Reached).count(),
        walked: all.walked(),
    }
}

/// Reads a topology, as `hop` does.
pub(crate) fn lab(topology: &str) -> Result<Lab, Failure> {
    let problems = |problems: Vec<_>| Failure::new(format!("{topology}: {problems:?}"));
    let (lab, _) = if formats::looks_inline(topology) {
        formats::inline(topology).map_err(problems)?
    } else {
        let source = SourceFile::new(topology, std::fs::read_to_string(PathBuf::from(topology))?);
        formats::read(&source).map_err(problems)?
    };
    Ok(lab)
}

pub(crate) fn desired(lab: &Lab) -> Result<Wanted, Failure> {
    hopyard::plan::desired(lab).map_err(|problems| Failure::new(format!("{}: {problems:?}", lab.name())))
}

/// The answer of a child, for its parent.
pub(crate) fn answer(out: &mut impl Write, answer: &impl Serialize) -> Result<(), Failure> {
    serde_json::to_writer(&mut *out, answer)?;
    out.flush()?;
    Ok(())
}
