//! An ordinary user's way out: `pasta` (<https://passt.top>), which carries connections between an
//! interface of the node and ordinary sockets of the host.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use hopyard_kernel::{Process, helper};
use hopyard_model::{Lab, Node};
use hopyard_net::{IfName, Ipv4Net, NsName};

use super::{HostStep, Plan, Uplink, UplinkError, choose, host, resolver};
use crate::error::{Error, IoContext};

const TUN: &str = "/dev/net/tun";

/// Can this user give a lab a way out?
#[derive(Debug)]
pub enum Readiness {
    /// Yes.
    Ready(PathBuf),
    /// No.
    Missing(UplinkError),
}

/// Looks for the program and the device.
pub fn readiness() -> Readiness {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let programs = std::env::split_paths(&path).map(|dir| dir.join("pasta"));
    let Some(program) = programs.into_iter().find(|program| program.is_file()) else {
        return Readiness::Missing(UplinkError::NoPasta);
    };
    match std::fs::OpenOptions::new().read(true).write(true).open(TUN) {
        Ok(_) => Readiness::Ready(program),
        Err(source) => Readiness::Missing(UplinkError::NoTun { source }),
    }
}

pub(super) fn plan(
    lab: &Lab,
    missing: &BTreeSet<NsName>,
    mut taken: Vec<Ipv4Net>,
    plan: &mut Plan,
) -> Result<(), Error> {
    for node in missing {
        let uplink = Uplink { node: node.clone(), net: choose(lab, node, &mut taken)?, dev: IfName::LO };
        let step = HostStep::Pasta { node: node.clone(), args: args(&uplink) };
        plan.uplinks.push((uplink, vec![step]));
    }
    Ok(())
}

fn args(uplink: &Uplink) -> Vec<String> {
    let gateway = uplink.host_address().addr().to_string();
    let address = uplink.node_address();
    let mut args = vec!["--config-net", "--ns-ifname", Node::UPLINK, "--ipv4-only"];
    // No port of the host is a port of the node or the other way round, and the gateway is not the host.
    args.extend(["-t", "none", "-u", "none", "-T", "none", "-U", "none", "--no-map-gw"]);
    let mut args: Vec<String> = args.into_iter().map(str::to_owned).collect();
    let given = [
        ("--address", address.addr().to_string()),
        ("--netmask", address.prefix_len().to_string()),
        ("--gateway", gateway.clone()),
    ];
    args.extend(given.into_iter().flat_map(|(key, value)| [key.to_owned(), value]));
    // What is asked of the gateway it asks the first resolver of /etc/resolv.conf.
    args.extend(["--dns-forward".to_owned(), gateway]);
    args
}

/// Starts it among the processes of the lab, and waits until it is ready.
pub(super) fn connect(
    dir: &Path,
    keeper: &Process,
    node: &OwnedFd,
    uplink: &Uplink,
    steps: &[HostStep],
) -> Result<(), Error> {
    let program = match readiness() {
        Readiness::Ready(program) => program,
        Readiness::Missing(why) => return Err(why.into()),
    };
    same_network(keeper)?;
    let args = steps.iter().find_map(|step| match step {
        HostStep::Pasta { args, .. } => Some(args),
        HostStep::Op { .. } | HostStep::Masquerade { .. } => None,
    });
    // Where it finds the network of the node: a file that nobody else sees.
    let place = dir.join("view").join("network");
    let seen = PathBuf::from(format!("/proc/{}/root{}", keeper.pid(), place.display()));
    std::fs::write(&seen, "").context(|| format!("write {}", seen.display()))?;
    // It reads the lab's /etc/resolv.conf, once; the lab's own comes later.
    let servers: Vec<String> = resolver::of_host().iter().map(|server| format!("nameserver {server}\n")).collect();
    let resolv = PathBuf::from(format!("/proc/{}/root/etc/resolv.conf", keeper.pid()));
    std::fs::write(&resolv, servers.concat()).context(|| format!("write {}", resolv.display()))?;
    let doing = || format!("start {}", program.display());
    let of_lab = Process::open(keeper.pid()).context(doing)?;
    let node = node.try_clone().context(doing)?;
    let mut command = helper(of_lab, true, (node, place.clone()), &program);
    command.args(["--quiet", "--stderr", "--runas", "0:0", "--netns-only", "--netns"]).arg(&place);
    command.args(args.into_iter().flatten());
    let output = command.stdin(std::process::Stdio::null()).output().context(doing)?;
    if output.status.success() {
        return Ok(());
    }
    // Where there is no system log it complains of that, line by line.
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> =
        said.lines().map(str::trim).filter(|line| !line.is_empty() && !line.contains("to syslog")).collect();
    let said = if lines.is_empty() { output.status.to_string() } else { lines.join("; ") };
    Err(UplinkError::Pasta { node: uplink.node.clone(), said }.into())
}

/// It opens its sockets where this process is, and that must be where the lab came from.
fn same_network(keeper: &Process) -> Result<(), Error> {
    use std::os::unix::fs::MetadataExt;
    let doing = || "look at the host's network".to_owned();
    let id = |path: String| std::fs::metadata(path).map(|it| (it.dev(), it.ino()));
    let own = id("/proc/self/ns/net".to_owned()).context(doing)?;
    match id(format!("/proc/{}/ns/net", keeper.pid())) {
        Ok(there) if there != own => Err(UplinkError::Elsewhere.into()),
        // Not to be seen is not another one.
        _ => host::own().map(drop).context(doing),
    }
}
