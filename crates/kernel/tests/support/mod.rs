//! What the kernel tests share: realms to run in, networks to build, packets to send.
#![allow(dead_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Output};
use std::time::{Duration, Instant};

use hopyard_kernel::{Realm, World};
use hopyard_net::{Endpoint, IfName, LinkKind, NetState, NsName, NsState, Op, SysctlKey, VethEnd};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, ipproto, sockopt};
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
    match user_namespace() {
        Some(fd) => realms.push(("user namespace", Realm::of_user_namespace(fd))),
        None => println!("skipped in a user namespace: none can be made here"),
    }
    assert!(realms.len() == 2 || std::env::var_os("REQUIRE_KERNEL").is_none(), "REQUIRE_KERNEL is set");
    realms
}

/// The first realm there is; says so when there is none.
pub(crate) fn some_realm() -> Option<Realm> {
    realms().into_iter().next().map(|(_, realm)| realm)
}

struct Reaped(Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn user_namespace() -> Option<OwnedFd> {
    let holder = Reaped(Command::new("unshare").args(["-Ur", "sleep", "60"]).spawn().ok()?);
    let pid = holder.0.id();
    let is_asleep = || std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "sleep");
    // It becomes `sleep` when its user namespace is complete.
    until(Duration::from_secs(5), is_asleep).then_some(())?;
    std::fs::File::open(format!("/proc/{pid}/ns/user")).ok().map(OwnedFd::from)
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
