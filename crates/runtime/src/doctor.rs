//! Can this machine run labs, for this user? Found out by doing it, not by asking for versions.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use hopyard_kernel::{end_before_exec, rights};
use hopyard_model::{LabDoc, LabName};

use crate::error::Error;
use crate::home::Home;
use crate::lifecycle::{Lifetime, up};
use crate::ping::{Outcome as Echo, Probe, ping};
use crate::remedy::{WHOLE_PROC_AND_SYS, remedy, sandbox_remedy, set, tun_remedy};
use crate::sandbox::{self, Outcome, Outside, Wanted};
use crate::uplink::{self, Readiness, UplinkError};

/// What one check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was checked.
    pub subject: &'static str,
    /// How it is.
    pub verdict: Verdict,
    /// What was found.
    pub detail: String,
    /// What to do about it, as a command where there is one.
    pub fix: Option<String>,
}

/// How a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As labs need it.
    Good,
    /// Enough for small labs, or for most.
    Limited,
    /// No lab can run.
    Bad,
}

/// Checks everything.
pub fn examine(home: &Home) -> Vec<Finding> {
    let mut findings = vec![kernel(), rights_of_caller(home)];
    findings.extend(trial(home));
    findings.push(sandbox());
    findings.extend([descriptors(), mounts(), neighbours(), bridge_ports(), namespaces(), memory(), way_out(home)]);
    findings
}

/// Could a node of a lab have an uplink?
fn way_out(home: &Home) -> Finding {
    let found = |verdict, detail: String, fix| Finding { subject: "uplink", verdict, detail, fix };
    if home.is_privileged() {
        return found(Verdict::Good, "by a veth pair, and a masquerade on the host".to_owned(), None);
    }
    match uplink::readiness() {
        Readiness::Ready(program) => found(Verdict::Good, format!("by {}", program.display()), None),
        Readiness::Missing(why) => {
            let fix = match &why {
                UplinkError::NoTun { source } => tun_remedy(source),
                _ => "install it: the package is named `passt`".to_owned(),
            };
            found(Verdict::Limited, format!("none: {why}"), Some(fix))
        }
    }
}

/// The oldest that the tests run on, all of them: Debian 12's.
const OLDEST_KERNEL: (u32, u32) = (6, 1);

fn kernel() -> Finding {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    let (major, minor) = OLDEST_KERNEL;
    let old = version(release).is_some_and(|version| version < OLDEST_KERNEL);
    let (verdict, fix) = if old {
        (Verdict::Limited, Some(format!("Linux {major}.{minor} is the oldest that hop is tested on")))
    } else {
        (Verdict::Good, None)
    };
    Finding { subject: "kernel", verdict, detail: format!("Linux {release}"), fix }
}

/// The first two numbers of a release, as in `6.1.0-56-amd64`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn rights_of_caller(home: &Home) -> Finding {
    let detail = if home.is_privileged() {
        "root: namespaces are made with your own rights, `ip netns` sees them".to_owned()
    } else {
        format!("user {}: labs run in a user namespace of yours", rights::user_id())
    };
    Finding { subject: "rights", verdict: Verdict::Good, detail, fix: None }
}

/// Two nodes and a switch, up, measured, entered and down again.
fn trial(home: &Home) -> Vec<Finding> {
    let found = |subject, verdict, detail: String, fix| Finding { subject, verdict, detail, fix };
    let lab = match trial_lab() {
        Ok(lab) => lab,
        Err(why) => return vec![found("a lab", Verdict::Bad, why, None)],
    };
    let started = std::time::Instant::now();
    let mut lab = match up(home, &lab, "doctor", Lifetime::Tied) {
        Ok(lab) => lab,
        Err(error) => return vec![found("a lab", Verdict::Bad, error.to_string(), remedy(&error))],
    };
    let took = started.elapsed().as_millis();
    let mut findings =
        vec![found("a lab", Verdict::Good, format!("two nodes, a link and a switch came up in {took} ms"), None)];
    findings.push(match reach(&lab.running, &lab.hosts) {
        Ok(true) if rights::has_ipv6() => {
            found("packets", Verdict::Good, "IPv4 and IPv6 cross a link and a switch".to_owned(), None)
        }
        Ok(true) => found(
            "packets",
            Verdict::Limited,
            "IPv4 crosses a link and a switch; this kernel has no IPv6".to_owned(),
            Some("start it without `ipv6.disable=1`, or load the module `ipv6`".to_owned()),
        ),
        Ok(false) => found("packets", Verdict::Bad, "not every echo request was answered".to_owned(), Some("sysctl net.ipv6.conf.all.disable_ipv6 must be 0 for IPv6; a host firewall with bridge-nf-call-iptables = 1 may drop frames".to_owned())),
        Err(error) => found("packets", Verdict::Bad, error.to_string(), remedy(&error)),
    });
    findings.push(match enter(&lab.running) {
        Ok(()) => found(
            "exec",
            Verdict::Good,
            "a process in a node has its own /sys, /etc/hosts and host name".to_owned(),
            None,
        ),
        Err(why) => found("exec", Verdict::Bad, why, Some(WHOLE_PROC_AND_SYS.to_owned())),
    });
    if let Some(tied) = lab.tied.take()
        && let Err(error) = tied.end()
    {
        findings.push(found("down", Verdict::Bad, error.to_string(), None));
    }
    findings
}

/// It is never started: a machine may lack any.
const NO_PROGRAM: &str = "true";

/// A command behind a gate.
fn sandbox() -> Finding {
    const SUBJECT: &str = "sandbox";
    let wanted = Wanted {
        allow: Vec::new(),
        deny: Vec::new(),
        publish: Vec::new(),
        outside: Outside::Here,
        records: true,
        cwd: PathBuf::from("/"),
    };
    let mut command = Command::new(NO_PROGRAM);
    end_before_exec(&mut command);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let bad = |detail, fix| Finding { subject: SUBJECT, verdict: Verdict::Bad, detail, fix };
    match sandbox::run(&wanted, command) {
        Ok(Outcome { status: 0, .. }) => Finding {
            subject: SUBJECT,
            verdict: Verdict::Good,
            detail: "a command behind a gate reaches what is allowed, and nothing else".to_owned(),
            fix: None,
        },
        Ok(Outcome { status, .. }) => bad(format!("a process in a sandbox ended with status {status}"), None),
        Err(error) => {
            let fix = sandbox_remedy(&error);
            bad(error.to_string(), fix)
        }
    }
}

fn trial_lab() -> Result<hopyard_model::Lab, String> {
    let mut doc = LabDoc { implicit_nodes: true, ..LabDoc::default() };
    let name = format!("doctor-{}", std::process::id());
    doc.name = Some(name.as_str().into());
    doc.switches.push(hopyard_model::SwitchDoc { name: "lan".into(), ..Default::default() });
    for (a, b) in [("a", "b"), ("a", "lan"), ("b", "lan")] {
        let end = |node: &str| hopyard_model::EndDoc { node: node.into(), iface: None };
        doc.links.push(hopyard_model::LinkDoc { ends: [end(a), end(b)], ..Default::default() });
    }
    debug_assert!(name.parse::<LabName>().is_ok(), "the name of the trial lab is one");
    let problems =
        |problems: Vec<hopyard_model::Problem>| problems.into_iter().map(|p| p.message).collect::<Vec<_>>().join("; ");
    doc.resolve().map(|(lab, _)| lab).map_err(problems)
}

fn reach(running: &crate::Running, hosts: &[(hopyard_net::NsName, Vec<std::net::IpAddr>)]) -> Result<bool, Error> {
    let Some(from) = hosts.first().map(|(name, _)| name.clone()) else { return Ok(false) };
    let others = hosts.iter().filter(|(name, _)| *name != from).flat_map(|(_, addresses)| addresses);
    let probes: Vec<Probe> = others.map(|&to| Probe { from: from.clone(), to }).collect();
    let namespaces = running.namespaces()?.into_iter().collect();
    let outcomes = ping(running.realm(), &namespaces, &probes, Duration::from_secs(2))?;
    Ok(!outcomes.is_empty() && outcomes.iter().all(Echo::is_reply))
}

fn enter(running: &crate::Running) -> Result<(), String> {
    let entry = running.entry("a", PathBuf::from("/"), None).map_err(|error| error.to_string())?;
    let mut command = entry.command(NO_PROGRAM);
    end_before_exec(&mut command);
    let status = command.status().map_err(|error| format!("a process could not enter a node: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("a process in a node ended with {status}")) }
}

fn descriptors() -> Finding {
    let limit = hopyard_kernel::keeper::raise_descriptor_limit();
    let detail = format!("{limit} file descriptors: labs of about {} nodes", limit.saturating_sub(100));
    let small = limit < 4096;
    Finding {
        subject: "open files",
        verdict: if small { Verdict::Limited } else { Verdict::Good },
        detail,
        fix: small.then(|| "raise the hard limit: `ulimit -Hn`, nofile in /etc/security/limits.conf".to_owned()),
    }
}

/// A lab has a copy of the mounts that the machine has, each running command another one, and a few of its own.
fn mounts() -> Finding {
    const OWN: u64 = 100;
    let limit = fs::read_to_string("/proc/sys/fs/mount-max").ok().and_then(|text| text.trim().parse::<u64>().ok());
    let there = fs::read_to_string("/proc/self/mountinfo").ok().map(|text| text.lines().count() as u64);
    let (verdict, detail, fix) = match (there, limit) {
        (Some(there), Some(limit)) => {
            let small = there + OWN > limit;
            let fix = small.then(|| set("fs.mount-max", limit.max(there + OWN) * 2));
            let verdict = if small { Verdict::Limited } else { Verdict::Good };
            (verdict, format!("{there} of at most {limit}; a lab needs a few, however large it is"), fix)
        }
        _ => (Verdict::Good, "the limit cannot be read here; a lab needs a few, however large it is".to_owned(), None),
    };
    Finding { subject: "mounts", verdict, detail, fix }
}

/// `BR_MAX_PORTS`: no kernel has more, and no setting changes it.
fn bridge_ports() -> Finding {
    let detail = format!(
        "a switch has at most {}; link several switches for a network of more nodes, as star:5000 does",
        hopyard_model::Switch::MAX_PORTS
    );
    Finding { subject: "bridge ports", verdict: Verdict::Good, detail, fix: None }
}

fn neighbours() -> Finding {
    const NEEDS: &str = "larger labs get permanent neighbours on their links by themselves";
    let read = |family: &str| -> Option<u64> {
        let path = format!("/proc/sys/net/{family}/neigh/default/gc_thresh3");
        fs::read_to_string(path).ok()?.trim().parse().ok()
    };
    let (verdict, detail, fix) = match (read("ipv4"), read("ipv6")) {
        (Some(four), Some(six)) => {
            let small = four.min(six) < 1024;
            let detail =
                format!("{four} IPv4 and {six} IPv6 neighbours for all namespaces of the machine together; {NEEDS}");
            let fix = small.then(|| {
                "as root: sysctl -w net.ipv4.neigh.default.gc_thresh3=16384 net.ipv6.neigh.default.gc_thresh3=16384"
                    .to_owned()
            });
            (if small { Verdict::Limited } else { Verdict::Good }, detail, fix)
        }
        _ => (Verdict::Good, format!("the limit cannot be read here; {NEEDS}"), None),
    };
    Finding { subject: "neighbours", verdict, detail, fix }
}

fn namespaces() -> Finding {
    let limit =
        fs::read_to_string("/proc/sys/user/max_net_namespaces").ok().and_then(|text| text.trim().parse::<u64>().ok());
    let detail = limit
        .map_or_else(|| "the limit cannot be read".to_owned(), |limit| format!("at most {limit} network namespaces"));
    let small = limit.is_some_and(|limit| limit < 1024);
    Finding {
        subject: "namespaces",
        verdict: if small { Verdict::Limited } else { Verdict::Good },
        detail,
        fix: small.then(|| set("user.max_net_namespaces", 10000)),
    }
}

fn memory() -> Finding {
    // Measured: a bare namespace takes 0.22 MB of the kernel's memory, one with a link 0.33.
    const KIB_PER_NODE: u64 = 340;
    let available = fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
        line.trim().strip_suffix(" kB")?.parse::<u64>().ok()
    });
    let detail = available.map_or_else(
        || "/proc/meminfo cannot be read".to_owned(),
        |kib| format!("{} MiB available: room for about {} nodes", kib / 1024, kib / KIB_PER_NODE),
    );
    Finding { subject: "memory", verdict: Verdict::Good, detail, fix: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_by_their_numbers() {
        assert_eq!(version("6.1.0-56-amd64"), Some((6, 1)));
        assert_eq!(version("6.18.44-fc-v657"), Some((6, 18)));
        assert_eq!(version("5.15-rc3"), Some((5, 15)));
        assert_eq!(version(""), None);
        assert!(version("5.15.0").unwrap() < OLDEST_KERNEL && version("6.18.0").unwrap() > OLDEST_KERNEL);
    }
}
