//! An ordinary user's way out: `pasta` (<https://passt.top>), which carries connections between an
//! interface of the node and ordinary sockets of the host.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use hopyard_kernel::{HELPER_NETWORK, Process, Realm, SnapshotScope, World, helper};
use hopyard_model::Node;
use hopyard_net::{Family, IfName, IpNet};

use super::{Asked, HostStep, Plan, Uplink, UplinkError, choose, host, outside, resolver};
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

pub(super) fn plan(asked: &Asked<'_>, mut taken: Vec<IpNet>, plan: &mut Plan) -> Result<(), Error> {
    // Its sockets are those of this process, whatever network the lab came from.
    let own = host::own().context(|| "look at the host's network".to_owned())?;
    let Some(host) = super::kernel::host_name(asked.lab) else { return Ok(()) };
    let mut world = World::new(Realm::host());
    world.adopt(host.clone(), own)?;
    let seen = world.snapshot(&SnapshotScope::default())?.nodes.remove(&host).unwrap_or_default();
    let given = outside::carried(&seen);
    for node in &asked.nodes {
        let on_record = asked.on_record(node).filter(|_| plan.stay.contains(node));
        if on_record.is_some_and(|uplink| asked.suffices(&uplink, &given, None)) {
            continue;
        }
        plan.stay.remove(node);
        let mut families = asked.families(node, &given);
        if families.is_empty() {
            // It says itself what is missing.
            families.insert(Family::Ipv4);
        }
        let nets = families.into_iter().map(|family| choose(asked.lab, node, family, &mut taken));
        let uplink = Uplink { node: node.clone(), nets: nets.collect::<Result<_, _>>()?, dev: IfName::LO };
        let step = HostStep::Pasta { node: node.clone(), args: args(&uplink) };
        plan.uplinks.push((uplink, vec![step]));
    }
    Ok(())
}

fn args(uplink: &Uplink) -> Vec<String> {
    let mut args: Vec<String> = ["--config-net", "--ns-ifname", Node::UPLINK].map(str::to_owned).into();
    match uplink.nets.as_slice() {
        [IpNet::V4(_)] => args.push("--ipv4-only".to_owned()),
        [IpNet::V6(_)] => args.push("--ipv6-only".to_owned()),
        _ => {}
    }
    // No port of the host is a port of the node or the other way round, and the gateway is not the host. Whom the node sends
    // to is said here, and by no router advertisement.
    args.extend(["-t", "none", "-u", "none", "-T", "none", "-U", "none", "--no-map-gw", "--no-ra"].map(str::to_owned));
    for (address, gateway) in uplink.node_addresses().zip(uplink.host_addresses()) {
        args.extend(["--address".to_owned(), address.addr().to_string()]);
        if address.addr().is_ipv4() {
            args.extend(["--netmask".to_owned(), address.prefix_len().to_string()]);
        }
        args.extend(["--gateway".to_owned(), gateway.addr().to_string()]);
        // What is asked of the gateway it asks the first resolver of that family in /etc/resolv.conf.
        args.extend(["--dns-forward".to_owned(), gateway.addr().to_string()]);
    }
    args
}

/// The gateways that a resolver of the host answers behind, in the host's order; they hand on what is asked of them, also
/// to one that only the host reaches.
pub(super) fn resolvers(uplink: &Uplink) -> Vec<IpAddr> {
    let mut families: Vec<Family> = resolver::of_host().into_iter().map(Family::of).collect();
    families.push(Family::Ipv4);
    let gateway = |family: Family| uplink.host_addresses().map(|it| it.addr()).find(|addr| Family::of(*addr) == family);
    let mut gateways = Vec::new();
    for gateway in families.into_iter().filter_map(gateway) {
        if !gateways.contains(&gateway) {
            gateways.push(gateway);
        }
    }
    gateways
}

/// Starts it among the processes of the lab, and waits until it is ready.
pub(super) fn connect(keeper: &Process, node: &OwnedFd, uplink: &Uplink, steps: &[HostStep]) -> Result<(), Error> {
    let program = match readiness() {
        Readiness::Ready(program) => program,
        Readiness::Missing(why) => return Err(why.into()),
    };
    same_network(keeper)?;
    let args = steps.iter().find_map(|step| match step {
        HostStep::Pasta { args, .. } => Some(args),
        HostStep::Op { .. } | HostStep::Masquerade { .. } => None,
    });
    // It reads the lab's /etc/resolv.conf, once; the lab's own comes later.
    let servers: Vec<String> = resolver::of_host().iter().map(|server| format!("nameserver {server}\n")).collect();
    let resolv = PathBuf::from(format!("/proc/{}/root/etc/resolv.conf", keeper.pid()));
    std::fs::write(&resolv, servers.concat()).context(|| format!("write {}", resolv.display()))?;
    let doing = || format!("start {}", program.display());
    let of_lab = Process::open(keeper.pid()).context(doing)?;
    let node = node.try_clone().context(doing)?;
    let mut command = helper(of_lab, true, node, &program);
    command.args(["--quiet", "--stderr", "--runas", "0:0", "--netns-only", "--netns", HELPER_NETWORK]);
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
