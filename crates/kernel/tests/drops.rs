//! Why the kernel drops the packets of a probe, as it says itself: as root, and refused to everybody else.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test says what is wrong by failing")]

mod support;

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use hopyard_kernel::drops::{DropWatch, Dropped};
use hopyard_kernel::holders::NamespaceId;
use hopyard_kernel::tap::Mark;
use hopyard_kernel::{Errno, Part, Realm, World};
use hopyard_net::{NextHop, Op, Route, SysctlKey};
use support::{addr, apply, mark, parse, until, up, veth};

/// ```text
/// a eth0 ------ eth0 b
///   10.0.0.1    10.0.0.2
///   fd00::1     fd00::2
/// ```
fn pair() -> World {
    let mut world = World::new(Realm::host());
    let via = |addr: &str| NextHop { via: Some(parse(addr)), dev: parse("eth0"), weight: 1 };
    let route =
        |to: &str, addr: &str| Op::SetRoute { ns: parse("a"), route: Route::unicast(parse(to), vec![via(addr)]) };
    let quiet: SysctlKey = parse("net.ipv6.conf.eth0.accept_dad");
    let no_detection = |ns: &str| Op::SetSysctl { ns: parse(ns), key: quiet.clone(), value: "0".to_owned() };
    apply(
        &mut world,
        &[
            Op::AddNs(parse("a")),
            Op::AddNs(parse("b")),
            veth("a:eth0", "b:eth0"),
            no_detection("a"),
            no_detection("b"),
            up("a:eth0"),
            up("b:eth0"),
            addr("a:eth0", "10.0.0.1/24"),
            addr("b:eth0", "10.0.0.2/24"),
            addr("a:eth0", "fd00::1/64"),
            addr("b:eth0", "fd00::2/64"),
            route("10.9.0.0/16", "10.0.0.2"),
            route("fd99::/16", "fd00::2"),
        ],
    );
    world
}

/// What is dropped of a probe, until something is.
fn dropped(world: &World, mark: &Mark) -> Vec<(String, Part, String)> {
    let mut watch = DropWatch::begin(mark).unwrap();
    let nodes: Vec<OwnedFd> = ["a", "b"].map(|node| world.ns_fd(&parse(node)).unwrap()).into();
    let fds: Vec<_> = nodes.iter().map(AsFd::as_fd).collect();
    watch.watch(&fds).unwrap();
    let sent = mark.send(world.realm(), fds[0]);
    sent.as_ref().unwrap();
    let mut found: Vec<Dropped> = Vec::new();
    until(Duration::from_secs(10), || {
        found.extend(std::iter::from_fn(|| watch.next(mark)));
        !found.is_empty()
    });
    let name = |namespace: u64| {
        let at = fds.iter().position(|fd| NamespaceId::of(*fd).unwrap().inode() == namespace);
        ["a", "b"][at.unwrap()].to_owned()
    };
    found.into_iter().map(|dropped| (name(dropped.namespace), dropped.part, dropped.reason)).collect()
}

fn may_look() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        println!("skipped: it takes root to see what the kernel drops");
    }
    is_root
}

#[test]
fn the_kernel_says_why_it_drops_a_packet_of_a_probe() {
    if !may_look() {
        return;
    }
    let world = pair();
    // b does not forward.
    for (protocol, dst) in [(1, "10.9.0.1"), (6, "10.9.0.1"), (17, "10.9.0.1")] {
        let found = dropped(&world, &mark(protocol, dst));
        assert_eq!(found, [("b".to_owned(), Part::Packet, "IP_INADDRERRORS".to_owned())], "{protocol}");
    }
    for protocol in [58, 6, 17] {
        let found = dropped(&world, &mark(protocol, "fd99::1"));
        assert_eq!(found.len(), 1, "{protocol}: {found:?}");
        assert_eq!((found[0].0.as_str(), found[0].1), ("b", Part::Packet), "{protocol}: {found:?}");
    }
    // Nobody listens; what comes back, a reset or an ICMP error, is nobody's either.
    for (protocol, dst) in [(6, "10.0.0.2"), (17, "10.0.0.2"), (6, "fd00::2"), (17, "fd00::2")] {
        let found = dropped(&world, &mark(protocol, dst));
        assert!(found.contains(&("b".to_owned(), Part::Packet, "NO_SOCKET".to_owned())), "{protocol}: {found:?}");
    }
}

/// Nobody answers for the address: after three questions, of a second each, the sender drops what waits for it.
#[test]
fn a_packet_that_waited_in_vain_for_a_neighbour_is_dropped_at_its_sender() {
    if !may_look() {
        return;
    }
    let found = dropped(&pair(), &mark(1, "10.0.0.77"));
    // It also tells itself, over an interface that is down.
    assert!(found.contains(&("a".to_owned(), Part::Packet, "NEIGH_FAILED".to_owned())), "{found:?}");
}

#[test]
fn packets_of_others_and_of_other_namespaces_are_not_seen() {
    if !may_look() {
        return;
    }
    let world = pair();
    let (mine, other) = (mark(1, "10.9.0.1"), mark(1, "10.9.0.1"));
    let mut watch = DropWatch::begin(&mine).unwrap();
    let [a, b] = ["a", "b"].map(|node| world.ns_fd(&parse(node)).unwrap());
    watch.watch(&[a.as_fd()]).unwrap();
    let mut reference = DropWatch::begin(&other).unwrap();
    reference.watch(&[b.as_fd()]).unwrap();
    let _sockets = [mine, other].map(|mark| mark.send(world.realm(), a.as_fd()).unwrap());
    // When the second is dropped, so was the first.
    assert!(until(Duration::from_secs(5), || reference.next(&other).is_some()));
    assert_eq!(watch.next(&mine), None);
}

#[test]
fn nothing_is_left_open() {
    const RUNS: usize = 20;
    if !may_look() {
        return;
    }
    let open = || {
        let links = std::fs::read_dir("/proc/self/fd").unwrap();
        let links = links.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
        links.filter(|link| link.to_string_lossy().contains("bpf")).count()
    };
    let mut times = Vec::new();
    for _ in 0..RUNS {
        let begin = Instant::now();
        let watch = DropWatch::begin(&mark(1, "10.9.0.1")).unwrap();
        let ready = begin.elapsed();
        assert!(open() >= 3, "this test sees no descriptors");
        drop(watch);
        times.push((ready, begin.elapsed()));
    }
    // The other tests of this program have some of their own.
    assert!(open() < RUNS, "{} left open", open());
    times.sort();
    let (ready, gone) = times[RUNS / 2];
    println!("ready in {ready:?}, gone again after {gone:?} (median of {RUNS})");
}

#[test]
fn who_may_not_look_is_told_at_once() {
    let refused = || DropWatch::begin(&mark(1, "10.9.0.1")).map(|_| ()).unwrap_err();
    if rustix::process::geteuid().is_root() {
        let Some(realm) = support::user_realm() else { return };
        // Root of a user namespace is not the machine's.
        let error = realm.run(refused).unwrap();
        assert_eq!(error.errno(), Errno::PERM, "{error}");
    } else {
        let error = refused();
        assert_eq!(error.errno(), Errno::PERM, "{error}");
        assert_eq!(error.to_string(), "cannot make a ring buffer for the kernel: Operation not permitted (EPERM)");
    }
}
