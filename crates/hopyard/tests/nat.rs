//! Address translation, seen by packets: `examples/neutron.hop.yaml`, as root and as an ordinary user.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test says what is wrong by failing")]

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use hopyard::runtime::{Home, Lifetime, Running};
use hopyard::{Network, Node};

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/neutron.hop.yaml");
const PATIENCE: Duration = Duration::from_secs(5);

/// Whom a server in a node sees when somebody connects to an address, and what the one who connects reads.
fn seen_from(client: &Node<'_>, server: &Node<'_>, listen: u16, to: &str) -> std::io::Result<IpAddr> {
    let deadline = Instant::now() + PATIENCE;
    let listener = loop {
        match server.run(|| TcpListener::bind(("0.0.0.0", listen))).unwrap() {
            // The children of other tests may have the last one open for a moment more.
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(5));
            }
            bound => break bound?,
        }
    };
    let to: SocketAddr = to.parse().unwrap();
    std::thread::scope(|scope| {
        let connected = client.run(|| TcpStream::connect_timeout(&to, PATIENCE)).unwrap()?;
        let accepted = scope.spawn(move || listener.accept());
        let (mut stream, peer) = accepted.join().unwrap()?;
        stream.write_all(b"x")?;
        connected.set_read_timeout(Some(PATIENCE))?;
        (&connected).read_exact(&mut [0])?;
        Ok(peer.ip())
    })
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn tenants_with_the_same_addresses_reach_outside_each_by_its_own_source() {
    let net = Network::start_file(EXAMPLE).unwrap();
    let node = |name| net.node(name).unwrap();
    let client = node("client");
    for (tenant, source) in [
        // Those with a floating address have it outside, the others the router's.
        ("red-web", "203.0.113.10"),
        ("red-db", "203.0.113.2"),
        ("blue-web", "203.0.113.20"),
        ("blue-router", "203.0.113.3"),
    ] {
        let seen = seen_from(&node(tenant), &client, 7000, "198.51.100.2:7000").unwrap();
        assert_eq!(seen, ip(source), "{tenant}");
    }
    let both = ["red-web", "blue-web"].map(|name| node(name).ipv4());
    assert_eq!(both, [Some("10.0.0.11".parse().unwrap()); 2], "the tenants' addresses are the same");
}

#[test]
fn a_floating_address_and_a_published_port_reach_the_host_behind_them() {
    let net = Network::start_file(EXAMPLE).unwrap();
    let node = |name| net.node(name).unwrap();
    for (floating, owner) in [("203.0.113.10:80", "red-web"), ("203.0.113.20:80", "blue-web")] {
        let seen = seen_from(&node("client"), &node(owner), 80, floating).unwrap();
        assert_eq!(seen, ip("198.51.100.2"), "{floating}: the source stays");
        // Also from the routers, and from the other tenant, who has its floating address outside.
        assert_eq!(seen_from(&node("isp"), &node(owner), 80, floating).unwrap(), ip("203.0.113.1"));
    }
    assert_eq!(seen_from(&node("blue-web"), &node("red-web"), 80, "203.0.113.10:80").unwrap(), ip("203.0.113.20"));
    assert!(seen_from(&node("red-router"), &node("red-web"), 80, "203.0.113.10:80").is_ok());
    let seen = seen_from(&node("client"), &node("red-db"), 5432, "203.0.113.2:5432").unwrap();
    assert_eq!(seen, ip("198.51.100.2"));
    // Another port is the router's own.
    let refused = node("client").run(|| TcpStream::connect("203.0.113.2:5433")).unwrap().unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[test]
fn answers_by_udp_come_back_through_the_translation() {
    let net = Network::start_file(EXAMPLE).unwrap();
    let node = |name| net.node(name).unwrap();
    let server = node("client").run(|| UdpSocket::bind("0.0.0.0:53")).unwrap().unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    for (tenant, source) in [("red-db", "203.0.113.2"), ("blue-web", "203.0.113.20")] {
        let socket = node(tenant).run(|| UdpSocket::bind("0.0.0.0:5353")).unwrap().unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.send_to(b"ask", "198.51.100.2:53").unwrap();
        let (_, from) = server.recv_from(&mut [0; 8]).unwrap();
        assert_eq!(from.ip(), ip(source));
        server.send_to(b"answer", from).unwrap();
        let (length, from) = socket.recv_from(&mut [0; 8]).unwrap();
        assert_eq!((length, from), (6, "198.51.100.2:53".parse().unwrap()));
    }
}

#[test]
fn tenants_do_not_reach_each_other_and_nobody_reaches_them_by_their_own_addresses() {
    let net = Network::start_file(EXAMPLE).unwrap();
    let node = |name| net.node(name).unwrap();
    // 10.0.0.12 is red's alone: nobody has it on blue's network.
    let _there = node("red-db").run(|| TcpListener::bind("0.0.0.0:80")).unwrap().unwrap();
    for from in ["blue-web", "blue-router", "isp", "client"] {
        let to = "10.0.0.12:80".parse().unwrap();
        let reached = node(from).run(|| TcpStream::connect_timeout(&to, Duration::from_millis(500))).unwrap();
        assert!(reached.is_err(), "{from} reaches a host of red");
    }
    // 10.0.0.11 is the tenant's own host, whichever tenant asks.
    let listener = node("red-web").run(|| TcpListener::bind("10.0.0.11:80")).unwrap().unwrap();
    listener.set_nonblocking(true).unwrap();
    let blue = node("blue-web").run(|| TcpStream::connect("10.0.0.11:80")).unwrap();
    assert!(blue.is_err() && listener.accept().is_err());
}

#[test]
fn a_neighbour_of_the_router_alone_does_not_reach_what_it_hides() {
    let text = "\
nodes:
  inn:
  gw: { nat: { masquerade: out } }
  ext:
links:
  - inn -- gw
  - gw:out -- ext
";
    let net = Network::start(text).unwrap();
    let node = |name| net.node(name).unwrap();
    let (inn, ext) = (node("inn"), node("ext"));
    let [inside, outside] = [&inn, &ext].map(|it| IpAddr::from(it.ipv4().unwrap()));

    // Out, and by the address of the router.
    let seen = seen_from(&inn, &ext, 7000, &format!("{outside}:7000")).unwrap();
    assert_ne!(seen, inside);
    assert!(node("gw").run(|| TcpListener::bind((seen, 0))).unwrap().is_ok(), "{seen} is not of the router");
    // Not in: no packet is sent at all.
    let _there = inn.run(|| TcpListener::bind((inside, 80))).unwrap().unwrap();
    let refused = ext.run(|| TcpStream::connect_timeout(&(inside, 80).into(), PATIENCE)).unwrap().unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::NetworkUnreachable);
    // What the router has outside can be reached.
    let refused = ext.run(|| TcpStream::connect_timeout(&(seen, 80).into(), PATIENCE)).unwrap().unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
}

/// Runs something in a node of a lab.
fn inside<R: Send>(lab: &Running, node: &str, work: impl FnOnce() -> R + Send) -> R {
    let namespace = lab.namespace(node).unwrap();
    let enter_and_work = || hopyard::kernel::enter_network(namespace.as_fd()).map(|()| work());
    lab.realm().outside().unwrap().run(enter_and_work).unwrap().unwrap()
}

fn identity(lab: &Running, node: &str) -> std::path::PathBuf {
    let namespace = lab.namespace(node).unwrap();
    std::fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&namespace))).unwrap()
}

#[test]
fn a_router_is_adopted_and_its_connections_go_on() {
    let home = Home::of_caller().unwrap();
    let text = std::fs::read_to_string(EXAMPLE).unwrap();
    let lab = |text: &str| {
        let text = format!("name: neutron-{}\n{text}", std::process::id());
        let source = hopyard::formats::SourceFile::new("x.hop.yaml", text);
        hopyard::formats::read(&source).unwrap().0
    };
    let first = lab(&text);
    hopyard::runtime::down(&home, first.name(), true).unwrap();
    let up = hopyard::runtime::up(&home, &first, "test", Lifetime::UntilDown).unwrap();
    let before = ["red-router", "blue-router"].map(|node| identity(&up.running, node));
    let listener = inside(&up.running, "client", || TcpListener::bind("0.0.0.0:7000")).unwrap();
    let mut red = inside(&up.running, "red-web", || TcpStream::connect("198.51.100.2:7000")).unwrap();
    let (mut there, peer) = listener.accept().unwrap();
    assert_eq!(peer.ip(), ip("203.0.113.10"));

    let again = hopyard::runtime::up(&home, &first, "test", Lifetime::UntilDown).unwrap();
    assert_eq!(again.steps, []);
    // Another rule: the table is replaced at once, and nothing else is touched.
    let changed = lab(&text.replace("203.0.113.2:5432: red-db", "203.0.113.2:5433: red-db"));
    let again = hopyard::runtime::up(&home, &changed, "test", Lifetime::UntilDown).unwrap();
    assert_eq!(again.steps.len(), 1, "{:?}", again.steps);
    assert_eq!(before, ["red-router", "blue-router"].map(|node| identity(&again.running, node)));

    red.write_all(b"x").unwrap();
    there.set_read_timeout(Some(PATIENCE)).unwrap();
    there.read_exact(&mut [0]).unwrap();
    there.write_all(b"y").unwrap();
    red.set_read_timeout(Some(PATIENCE)).unwrap();
    red.read_exact(&mut [0]).unwrap();
    hopyard::runtime::down(&home, first.name(), true).unwrap();
}

#[test]
fn each_step_of_a_lesson_is_of_the_packet_that_is_there() {
    use hopyard::explain::{Packet, Protocol, Step, steps};
    use hopyard::net::Hook;

    let net = Network::start_file(EXAMPLE).unwrap();
    let ask = |from: &str, to: &str| {
        let packet = Packet::probe(ip(to), Protocol::Icmp, 0);
        let report = hopyard::runtime::why::why(net.running(), from, packet, None, false).unwrap();
        let told = |at| steps(&report.snapshot, &report.verdict.there, at).into_iter().map(|(step, _)| step).collect();
        (0..report.verdict.there.hops.len()).map(told).collect::<Vec<Vec<Step>>>()
    };
    let translated = |steps: &[Step]| {
        steps.iter().find_map(|step| match step {
            Step::Translation { hook, chain, before, after } => Some((
                *hook,
                chain.clone().unwrap(),
                (before.src.unwrap(), before.dst),
                (after.src.unwrap(), after.dst),
            )),
            _ => None,
        })
    };

    let out = ask("red-db", "198.51.100.2");
    assert!(out[0].contains(&Step::Source { addr: Some(ip("10.0.0.12")) }), "{:?}", out[0]);
    let (before, after) = ((ip("10.0.0.12"), ip("198.51.100.2")), (ip("203.0.113.2"), ip("198.51.100.2")));
    let chain = "inet hopyard postrouting".to_owned();
    assert_eq!(translated(&out[1]), Some((Hook::Postrouting, chain, before, after)));
    assert!([0, 2, 3].iter().all(|&at| translated(&out[at]).is_none()));

    let inside = ask("client", "203.0.113.10");
    let neighbour = |step: &Step| matches!(step, Step::Neighbour { addr, .. } if *addr == ip("203.0.113.10"));
    assert!(inside[1].iter().any(neighbour), "{:?}", inside[1]);
    let (before, after) = ((ip("198.51.100.2"), ip("203.0.113.10")), (ip("198.51.100.2"), ip("10.0.0.11")));
    let chain = "inet hopyard prerouting".to_owned();
    assert_eq!(translated(&inside[2]), Some((Hook::Prerouting, chain, before, after)));
    // Before it is routed.
    let place = |is: &dyn Fn(&Step) -> bool| inside[2].iter().position(is).unwrap();
    assert!(place(&|it| matches!(it, Step::Translation { .. })) < place(&|it| matches!(it, Step::Lookup { .. })));
}

#[test]
fn hop_why_restores_what_is_translated_no_more_and_leads_nobody_to_what_is_hidden() {
    use hopyard::explain::{Edit, Outcome, Packet, Protocol, hidden};
    use hopyard::net::{Nat, NatRule, Op};
    use hopyard::runtime::why::{Fixed, fix, why};

    let home = Home::of_caller().unwrap();
    let text = std::fs::read_to_string(EXAMPLE).unwrap();
    let text = format!("name: neutron-why-{}\n{text}", std::process::id());
    let lab = hopyard::formats::read(&hopyard::formats::SourceFile::new("x.hop.yaml", text)).unwrap().0;
    hopyard::runtime::down(&home, lab.name(), true).unwrap();
    let running = hopyard::runtime::up(&home, &lab, "test", Lifetime::UntilDown).unwrap().running;
    let ask = |from: &str, to: &str, wanted: &str| {
        why(&running, from, Packet::probe(ip(to), Protocol::Icmp, 0), Some(wanted.parse().unwrap()), true).unwrap()
    };

    // As it was declared: a route would lead to what is hidden.
    let intact = ask("client", "10.0.0.11", "red-web");
    assert_eq!(intact.verdict.outcome(), Outcome::No);
    assert!(intact.repair.is_none(), "{:?}", intact.repair);
    let by = hidden(&intact.snapshot, &"red-web".parse().unwrap(), ip("10.0.0.11")).unwrap();
    assert_eq!((by.by.as_str(), by.instead), ("red-router", Some(ip("203.0.113.10"))));

    let router: hopyard::net::NsName = "red-router".parse().unwrap();
    let some = Nat::new(vec![NatRule::Destination {
        address: Some(ip("203.0.113.10")),
        service: None,
        to: ip("10.0.0.11"),
        port: None,
    }]);
    for broken in [Op::SetNat { ns: router.clone(), nat: some, replace: true }, Op::DelNat(router.clone())] {
        running.world().unwrap().apply(std::slice::from_ref(&broken), &mut |_| {}).unwrap();
        let report = ask("red-web", "198.51.100.2", "client");
        assert_eq!(report.verdict.outcome(), Outcome::No, "{broken}");
        let edits: Vec<&Edit> = report.repair.as_ref().unwrap().edits().collect();
        assert!(matches!(edits[..], [Edit::Op(Op::SetNat { ns, .. })] if *ns == router), "{broken}: {edits:?}");
        // Who hides the same address of another tenant has nothing to do with it, and no route is proposed.
        let from_outside = ask("client", "10.0.0.11", "red-web");
        assert_eq!(hidden(&from_outside.snapshot, &"red-web".parse().unwrap(), ip("10.0.0.11")), None);
        assert!(from_outside.repair.is_none(), "{:?}", from_outside.repair);
        let fixed = fix(&home, &running, &report).unwrap();
        assert!(matches!(&fixed, Fixed::Works(after) if after.outcome() == Outcome::Yes), "{fixed:?}");
        assert!(hopyard::runtime::up(&home, &lab, "test", Lifetime::UntilDown).unwrap().steps.is_empty());
    }
    hopyard::runtime::down(&home, lab.name(), true).unwrap();
}

#[test]
fn hop_why_knows_who_waits_behind_a_translator_and_opens_it_for_nobody() {
    use hopyard::explain::{Behind, Packet, Protocol, translators, waiting_behind};
    use hopyard::net::Endpoint;
    use hopyard::runtime::why::why;

    let text = std::fs::read_to_string(EXAMPLE).unwrap();
    let net = Network::start(&text).unwrap();
    let _waiting =
        [("red-db", "0.0.0.0:443"), ("red-db", "0.0.0.0:5432"), ("red-web", "127.0.0.1:443")].map(|(node, at)| {
            net.node(node).unwrap().run(|| (TcpListener::bind(at).unwrap(), UdpSocket::bind(at).unwrap())).unwrap()
        });
    let router = "red-router".parse().unwrap();
    for (protocol, to, port, node, published) in [
        (Protocol::Tcp, "203.0.113.2", 443, Some("red-db"), None),
        (Protocol::Udp, "203.0.113.2", 443, Some("red-db"), None),
        // What is at another port outside.
        (Protocol::Udp, "203.0.113.2", 5432, Some("red-db"), None),
        (Protocol::Tcp, "203.0.113.2", 444, None, None),
        // Another tenant's router.
        (Protocol::Tcp, "203.0.113.3", 443, None, None),
    ] {
        let what = format!("{} {to} {port}", protocol.name());
        let report = why(net.running(), "client", Packet::probe(ip(to), protocol, port), None, true).unwrap();
        assert_eq!(report.verdict.trouble().map(|it| it.code()), Some("no-listener"), "{what}");
        assert_eq!((&report.disagreements[..], &report.repair), (&[][..], &None), "{what}");
        let at = report.verdict.trouble().unwrap().node;
        let found = waiting_behind(&report.snapshot, &at, &report.query.packet);
        let wanted = node.map(|node| Behind { node: node.parse().unwrap(), addr: ip("10.0.0.12"), published });
        assert_eq!(found, wanted.into_iter().collect::<Vec<_>>(), "{what}");
    }

    // As it is told to be written: then it is open.
    let more = "203.0.113.2:5432: red-db, 203.0.113.2:443: red-db, 203.0.113.2:8443: red-db:443";
    let open = Network::start(&text.replace("203.0.113.2:5432: red-db", more)).unwrap();
    let node = |name| open.node(name).unwrap();
    assert!(seen_from(&node("client"), &node("red-db"), 443, "203.0.113.2:443").is_ok());
    let _there = node("red-db").run(|| TcpListener::bind("0.0.0.0:443")).unwrap().unwrap();
    let packet = Packet::probe(ip("203.0.113.2"), Protocol::Tcp, 443);
    let report = why(open.running(), "client", packet, None, true).unwrap();
    assert_eq!((report.verdict.trouble(), report.disagreements), (None, vec![]));
    // And where it is at another port, that is known.
    let elsewhere = text.replace("203.0.113.2:5432: red-db", "203.0.113.2:8443: red-db:443");
    let elsewhere = Network::start(&elsewhere).unwrap();
    let _there = elsewhere.node("red-db").unwrap().run(|| TcpListener::bind("0.0.0.0:443")).unwrap().unwrap();
    let report = why(elsewhere.running(), "client", packet, None, true).unwrap();
    let found = waiting_behind(&report.snapshot, &router, &packet);
    let published = Some((Some(ip("203.0.113.2")), 8443));
    assert_eq!(found, [Behind { node: "red-db".parse().unwrap(), addr: ip("10.0.0.12"), published }]);

    // An address that nobody has could be one of either router.
    let at = Endpoint { ns: "isp".parse().unwrap(), dev: "lan".parse().unwrap() };
    let routers: Vec<String> =
        translators(&report.snapshot, &at, ip("203.0.113.11")).iter().map(ToString::to_string).collect();
    assert_eq!(routers, ["blue-router", "red-router"]);
    assert!(translators(&report.snapshot, &at, ip("203.0.114.11")).is_empty());
}

#[test]
fn hop_why_follows_translations_and_agrees_with_kernels_and_packets() {
    use hopyard::explain::{Outcome, Packet, Protocol};

    let net = Network::start_file(EXAMPLE).unwrap();
    let node = |name| net.node(name).unwrap();
    let _db = node("red-db").run(|| TcpListener::bind("0.0.0.0:5432")).unwrap().unwrap();
    let _web = node("blue-web").run(|| TcpListener::bind("0.0.0.0:80")).unwrap().unwrap();
    let yes = Outcome::Yes;
    let no = Outcome::No;
    for (from, to, port, wanted, outcome, last) in [
        ("red-db", "198.51.100.2", None, None, yes, "client"),
        ("blue-web", "198.51.100.2", None, Some("client"), yes, "client"),
        ("client", "203.0.113.10", None, None, yes, "red-web"),
        ("blue-web", "203.0.113.10", None, None, yes, "red-web"),
        ("red-web", "203.0.113.20", Some(80), None, yes, "blue-web"),
        // The router has the address, and sends it on.
        ("client", "203.0.113.2", Some(5432), Some("red-router"), yes, "red-db"),
        ("client", "203.0.113.2", Some(5433), Some("red-router"), no, "red-router"),
        ("client", "10.0.0.12", None, Some("red-db"), no, "isp"),
    ] {
        let protocol = if port.is_some() { Protocol::Tcp } else { Protocol::Icmp };
        let packet = Packet::probe(ip(to), protocol, port.unwrap_or_default());
        let wanted = wanted.map(|name| name.parse().unwrap());
        let report = hopyard::runtime::why::why(net.running(), from, packet, wanted, true).unwrap();
        let what = format!("{from} -> {to} {port:?}");
        assert_eq!(report.disagreements, [], "{what}");
        assert_eq!(report.verdict.outcome(), outcome, "{what}: {:?}", report.verdict.trouble());
        assert_eq!(report.verdict.there.last().unwrap().node.as_str(), last, "{what}");
    }
}
