//! The library as a test of somebody's network program would use it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test says what is wrong by failing")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use hopyard::Network;

#[test]
fn closures_run_in_nodes_and_share_memory() {
    let net = Network::start("home -- near -- far").unwrap();
    let far = net.node("far").unwrap();
    let address = far.ipv4().unwrap();
    let listener = far.run(|| TcpListener::bind("0.0.0.0:7000")).unwrap().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let (mut stream, peer) = listener.accept().unwrap();
            stream.write_all(peer.ip().to_string().as_bytes()).unwrap();
        });
        let home = net.node("home").unwrap();
        let mut stream = home.run(|| TcpStream::connect((address, 7000))).unwrap().unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert_eq!(text, home.ipv4().unwrap().to_string());
    });
}

#[test]
fn sockets_stay_in_the_node_in_which_they_were_made() {
    let net = Network::start("a -- b").unwrap();
    let [a, b] = ["a", "b"].map(|name| net.node(name).unwrap());
    let bind = || UdpSocket::bind("[::]:9000");
    let (from, to) = (a.run(bind).unwrap().unwrap(), b.run(bind).unwrap().unwrap());
    to.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    from.send_to(b"x", (b.ipv6().unwrap(), 9000)).unwrap();
    let (_, peer) = to.recv_from(&mut [0; 8]).unwrap();
    assert_eq!(peer.ip(), std::net::IpAddr::V6(a.ipv6().unwrap()));
}

#[test]
fn a_panic_in_a_closure_is_the_callers() {
    let net = Network::start("a -- b").unwrap();
    let caught =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| net.node("a").unwrap().run(|| panic!("as planned"))));
    assert!(caught.is_err());
    assert!(net.ping("a", "b").unwrap().is_reply());
}

#[test]
fn networks_of_parallel_tests_do_not_meet() {
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..3 {
                    let net = Network::start("chain:4").unwrap();
                    assert!(net.ping("n1", "n4").unwrap().is_reply());
                    let output = net.node("n2").unwrap().command("hostname").output().unwrap();
                    assert_eq!(output.stdout, b"n2\n");
                }
            });
        }
    });
}

#[test]
fn a_dropped_network_leaves_nothing_and_a_panicking_test_neither() {
    let pid = |net: &Network| net.running().keeper().pid();
    let dropped = Network::start("a -- b").unwrap();
    let first = pid(&dropped);
    drop(dropped);
    let panicked = std::thread::spawn(move || {
        let net = Network::start("a -- b").unwrap();
        let second = net.running().keeper().pid();
        std::panic::panic_any(second);
    });
    let second = *panicked.join().unwrap_err().downcast::<i32>().unwrap();
    for pid in [first, second] {
        let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        assert!(state.is_empty() || state.contains(") Z "), "the keeper {pid} lives: {state}");
    }
}

#[test]
fn wrong_topologies_and_names_are_explained() {
    let error = Network::start("nodes: [near]\nlinks: [near -- nera]\n").unwrap_err().to_string();
    assert!(error.contains("`nera`") && error.contains("topology.hop.yaml:2:"), "{error}");
    let net = Network::start("a -- b").unwrap();
    assert!(net.node("c").unwrap_err().to_string().contains("no node `c`"));
}

#[test]
fn files_are_topologies_too() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/three.hop.yaml");
    let net = Network::start_file(path).unwrap();
    assert!(net.ping("home", "far").unwrap().is_reply());
    net.stop().unwrap();
    assert!(Network::start_file("/no/such/file").unwrap_err().to_string().contains("cannot read /no/such/file"));
}

#[test]
fn what_goes_wrong_reads_as_words_in_a_test_that_returns_it() {
    let net = Network::start("a -- b").unwrap();
    let error = net.ping("a", "c").unwrap_err();
    assert_eq!(format!("{error:?}"), format!("lab `{}` has no node `c`", net.name()));
    let error = Network::start("nodes: [a]\nlinks: [a -- bb]\n").unwrap_err();
    assert!(format!("{error:?}").contains("2 | links: [a -- bb]\n"), "{error:?}");
    assert!(!format!("{net:?} {:?}", net.node("a")).contains("OwnedFd"), "{net:?}");
}

#[test]
fn a_topology_is_a_file_where_it_has_keys() {
    for file in [
        "switches: { lan: [a, b] }",
        "switches:\n  lan: [a, b]\n# a -- b: a remark\nexpect: a -> b\n",
        "name: x\nswitches:\n  lan:\n    - a\n    - b\n",
        r#"{"nodes":["a","b"],"links":["a -- b"]}"#,
    ] {
        let net = Network::start(file).unwrap();
        let names: Vec<&str> = net.nodes().map(|node| node.name()).collect();
        assert_eq!(names, ["a", "b"], "{file}");
    }
    let net = Network::start("a:left -- b:right, b -- c").unwrap();
    assert_eq!(net.nodes().count(), 3);
}
