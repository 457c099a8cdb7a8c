//! What the kernel tests share: realms to run in, networks to build, packets to send.
#![allow(dead_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use hopyard_kernel::tap::Mark;
use hopyard_kernel::{Realm, World};
use hopyard_net::{Endpoint, IfName, LinkKind, NetState, NsName, NsState, Op, SysctlKey, VethEnd};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, ipproto, sockopt};
use rustix::process::{Pid, PidfdFlags};
use rustix::thread::LinkNameSpaceType;

/// Where labs can be made here: as root, and in a user namespace. Says which are skipped; with
/// `REQUIRE_KERNEL` set, none may be.
pub(crate) fn realms() -> Vec<(&'static str, Realm)> {
    let mut realms = Vec::new();
    if rustix::process::geteuid().is_root() {
        realms.push(("root", Realm::host()));
    } else {
        println!("skipped as root: this is an ordinary user");
    }
    match user_realm() {
        Some(realm) => realms.push(("user namespace", realm)),
        None => println!("skipped in a user namespace: none can be made here"),
    }
    assert!(realms.len() == 2 || std::env::var_os("REQUIRE_KERNEL").is_none(), "REQUIRE_KERNEL is set");
    realms
}

/// The first realm there is; says so when there is none.
pub(crate) fn some_realm() -> Option<Realm> {
    realms().into_iter().next().map(|(_, realm)| realm)
}

/// A user namespace with a mount and a pid namespace of its own, as an ordinary user's lab has it.
pub(crate) fn user_realm() -> Option<Realm> {
    // It ends with this program: its standard input does.
    static HOLDER: OnceLock<Option<(Child, Realm)>> = OnceLock::new();
    HOLDER.get_or_init(start_holder).as_ref().map(|(_, realm)| realm.clone())
}

fn start_holder() -> Option<(Child, Realm)> {
    let words = ["--user", "--map-root-user", "--mount", "--pid", "--fork", "--mount-proc", "cat"];
    let unshare = Command::new("unshare").args(words).stdin(Stdio::piped()).spawn().ok()?;
    let children = format!("/proc/{0}/task/{0}/children", unshare.id());
    let child = || std::fs::read_to_string(&children).ok()?.trim().parse::<i32>().ok();
    // It becomes `cat` when its namespaces are complete.
    let is_cat = |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "cat");
    until(Duration::from_secs(5), || child().is_some_and(is_cat)).then_some(())?;
    let member = child()?;
    let user_namespace = std::fs::File::open(format!("/proc/{member}/ns/user")).ok()?;
    let member = rustix::process::pidfd_open(Pid::from_raw(member)?, PidfdFlags::empty()).ok()?;
    Some((unshare, Realm::of_user_namespace(user_namespace.into(), Some(member))))
}

/// Waits until something holds; false: it did not in time.
pub(crate) fn until(patience: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + patience;
    loop {
        if holds() {
            return true;
        }
        if Instant::now() > deadline {
            return false;
        }
        std::thread::yield_now();
    }
}

/// Something that a test writes as text.
pub(crate) fn parse<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().unwrap_or_else(|error| panic!("{text:?}: {error:?}"))
}

pub(crate) fn at(text: &str) -> Endpoint {
    let (ns, dev) = text.split_once(':').unwrap();
    Endpoint { ns: parse(ns), dev: parse(dev) }
}

pub(crate) fn veth(a: &str, b: &str) -> Op {
    let end = |text| VethEnd { at: at(text), mac: None, mtu: None };
    Op::AddVeth { a: end(a), b: end(b) }
}

pub(crate) fn up(end: &str) -> Op {
    Op::SetUp { at: at(end), up: true }
}

pub(crate) fn addr(end: &str, addr: &str) -> Op {
    Op::AddAddr { at: at(end), addr: parse(addr) }
}

/// The operations that make a network from nothing, in the order in which plans have them.
pub(crate) fn ops_for(wanted: &NetState) -> Vec<Op> {
    let each = || wanted.namespaces.iter();
    let mut ops: Vec<Op> = each().map(|(ns, _)| Op::AddNs(ns.clone())).collect();
    let sysctl = |ns: &NsName, key: &SysctlKey, value: &String| Op::SetSysctl {
        ns: ns.clone(),
        key: key.clone(),
        value: value.clone(),
    };
    for (ns, state) in each() {
        let general = state.sysctls.iter().filter(|(key, _)| key.interface().is_none());
        ops.extend(general.map(|(key, value)| sysctl(ns, key, value)));
    }
    let mut pairs = Vec::new();
    for (ns, state) in each() {
        for (dev, link) in &state.links {
            let at = Endpoint { ns: ns.clone(), dev: *dev };
            match &link.kind {
                LinkKind::Bridge => ops.push(Op::AddBridge(at)),
                LinkKind::Veth { peer: Some(peer) } if at < *peer => {
                    let there = &wanted.namespaces[&peer.ns].links[&peer.dev];
                    let end = |at: &Endpoint, link: &hopyard_net::Link| VethEnd {
                        at: at.clone(),
                        mac: link.mac,
                        mtu: link.mtu,
                    };
                    pairs.push(Op::AddVeth { a: end(&at, link), b: end(peer, there) });
                }
                _ => {}
            }
        }
    }
    ops.extend(pairs);
    for (ns, state) in each() {
        ops.extend(configuration(ns, state));
        let particular = state.sysctls.iter().filter(|(key, _)| key.interface().is_some());
        ops.extend(particular.map(|(key, value)| sysctl(ns, key, value)));
        ops.extend(state.neighbours.iter().map(|((dev, addr), mac)| Op::SetNeigh {
            at: Endpoint { ns: ns.clone(), dev: *dev },
            addr: *addr,
            mac: *mac,
        }));
        ops.extend(state.routes.values().map(|route| Op::SetRoute { ns: ns.clone(), route: route.clone() }));
    }
    ops
}

/// Ports before their bridges, links before their addresses.
fn configuration(ns: &NsName, state: &NsState) -> Vec<Op> {
    let at = |dev: &IfName| Endpoint { ns: ns.clone(), dev: *dev };
    let mut ops = Vec::new();
    for (dev, link) in &state.links {
        ops.extend(link.alt_names.iter().map(|name| Op::AddAltName { at: at(dev), name: name.clone() }));
        ops.extend(link.master.map(|bridge| Op::SetMaster { at: at(dev), master: Some(bridge) }));
    }
    let (bridges, others): (Vec<_>, Vec<_>) = state.links.iter().partition(|(_, link)| link.kind == LinkKind::Bridge);
    for (dev, link) in others.into_iter().chain(bridges) {
        ops.extend(link.up.then(|| Op::SetUp { at: at(dev), up: true }));
    }
    for (dev, link) in &state.links {
        ops.extend(link.addresses.iter().map(|addr| Op::AddAddr { at: at(dev), addr: *addr }));
    }
    ops
}

/// The sysctls that a state speaks of.
pub(crate) fn sysctls_of(state: &NetState) -> BTreeMap<NsName, BTreeSet<SysctlKey>> {
    state.namespaces.iter().map(|(ns, state)| (ns.clone(), state.sysctls.keys().cloned().collect())).collect()
}

pub(crate) fn apply(world: &mut World, ops: &[Op]) {
    if let Err(error) = world.apply(ops, &mut |_| {}) {
        panic!("{error}\n  op {} of {}: {}", error.at, ops.len(), ops[error.at]);
    }
}

/// Does something inside a namespace of the world.
pub(crate) fn inside<R: Send>(world: &World, ns: &str, work: impl FnOnce() -> R + Send) -> R {
    let namespace = world.ns_fd(&parse(ns)).unwrap();
    let enter_and_work = || {
        rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        work()
    };
    world.realm().run(enter_and_work).unwrap()
}

/// Runs a program inside a namespace, as root's world has it.
pub(crate) fn run_inside(world: &World, ns: &str, words: &[&str]) -> Output {
    inside(world, ns, || Command::new(words[0]).args(&words[1..]).output().unwrap())
}

/// Is one echo request answered? One only: a lab that says that it is up loses no packet.
pub(crate) fn ping(world: &World, from: &str, to: &str) -> bool {
    let to: IpAddr = parse(to);
    inside(world, from, || {
        let (family, protocol, request, reply, header) = match to {
            IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP, 8_u8, 0_u8, 20),
            IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6, 128, 129, 0),
        };
        let socket = rustix::net::socket(family, SocketType::RAW, Some(protocol)).unwrap();
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(Duration::from_secs(2))).unwrap();
        let mut packet = [request, 0, 0, 0, 0x12, 0x34, 0, 1];
        let sum: u32 = packet.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
        packet[2..4].copy_from_slice(&(!u16::try_from(sum).unwrap()).to_be_bytes());
        let to = std::net::SocketAddr::new(to, 0);
        if rustix::net::sendto(&socket, &packet, SendFlags::empty(), &to).is_err() {
            return false;
        }
        let deadline = Instant::now() + Duration::from_secs(2);
        let mut answer = [0; 256];
        while Instant::now() < deadline {
            match rustix::net::recv(&socket, &mut answer, RecvFlags::empty()) {
                Ok((_, length)) if length >= header + 8 => {
                    let icmp = &answer[header..length];
                    if icmp[0] == reply && icmp[4..8] == packet[4..8] {
                        return true;
                    }
                }
                Ok(_) => {}
                Err(_) => return false,
            }
        }
        false
    })
}

/// A probe from 10.0.0.1 or fd00::1.
pub(crate) fn mark(protocol: u8, dst: &str) -> Mark {
    let dst: IpAddr = parse(dst);
    // No other test has the same.
    let salt = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
    Mark {
        protocol,
        src: Some(if dst.is_ipv4() { parse("10.0.0.1") } else { parse("fd00::1") }),
        dst,
        source_port: 40000,
        destination_port: 7,
        becomes: (dst, 7),
        token: u64::try_from(salt & u128::from(u64::MAX)).unwrap().to_be_bytes(),
        length: 84,
    }
}
