//! What a command in a sandbox reaches, and what it does not. The network outside is a node of a lab of the
//! test's own.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test says what is wrong by failing")]

mod common;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use common::{Place, is_root, text, unique, wait_until};
use hopyard::kernel::{Process, enter_network, keeper};

/// A lab `home -- near -- far`; sandboxes have `home` outside, servers are in `far`.
struct Lab {
    place: Place,
    name: String,
}

impl Lab {
    fn new() -> Lab {
        let place = Place::new();
        let name = unique("sandbox");
        place.hop(&["up", "home -- near -- far", "--name", &name]);
        Lab { place, name }
    }

    /// Runs something in a node, by a process or thread that is there alone.
    fn inside<R: Send>(&self, node: &str, work: impl FnOnce() -> R + Send) -> R {
        let dir = self.place.records().join(&self.name);
        let record: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(dir.join("record.json")).unwrap()).unwrap();
        let pid = record["keeper"]["pid"].as_i64().unwrap();
        let nodes = std::fs::read_to_string(dir.join("nodes")).unwrap();
        let line = nodes.lines().find(|line| line.split_once(' ').unwrap().1 == node).unwrap();
        let path = format!("/proc/{pid}/fd/{}", line.split_once(' ').unwrap().0);
        let namespace = OwnedFd::from(std::fs::File::open(path).unwrap());
        let realm = keeper::realm_of(&Process::open(i32::try_from(pid).unwrap()).unwrap()).unwrap();
        let there = || {
            enter_network(namespace.as_fd()).unwrap();
            work()
        };
        realm.outside().unwrap().run(there).unwrap()
    }

    /// The addresses of a node, IPv4 first.
    fn addresses(&self, node: &str) -> Vec<IpAddr> {
        let hosts = self.place.hop(&["exec", node, "cat", "/etc/hosts"]);
        let of_node = hosts.lines().filter_map(|line| line.split_once('\t')).filter(|(_, name)| *name == node);
        let mut addresses: Vec<IpAddr> = of_node.map(|(addr, _)| addr.parse().unwrap()).collect();
        addresses.sort();
        addresses
    }

    /// A server in `far` that says what it was told, as soon as it was told all.
    fn tcp_server(&self, addr: IpAddr) -> SocketAddr {
        let listener = self.inside("far", || TcpListener::bind((addr, 0)).unwrap());
        let at = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                std::thread::spawn(move || {
                    let mut heard = Vec::new();
                    if stream.read_to_end(&mut heard).is_ok() {
                        stream.write_all(b"heard ").and_then(|()| stream.write_all(&heard)).ok();
                    }
                });
            }
        });
        at
    }

    fn udp_server(&self, addr: IpAddr) -> SocketAddr {
        let socket = self.inside("far", || UdpSocket::bind((addr, 0)).unwrap());
        let at = socket.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut buffer = vec![0; 65_536];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                let answer = [b"heard ", &buffer[..length]].concat();
                socket.send_to(&answer[..answer.len().min(60_000)], from).ok();
            }
        });
        at
    }

    /// `hop sandbox --net LAB/home`, in which this program acts.
    fn act(&self, options: &[&str], act: &[&str]) -> Command {
        let mut args = vec!["sandbox".to_owned(), "--net".to_owned(), format!("{}/home", self.name)];
        args.extend(options.iter().map(|&option| option.to_owned()));
        acting(&self.place, &args, act)
    }

    /// The same, where anything is allowed, with as many open files as a line of the shell says.
    fn act_with_files(&self, limit: &str, act: &str) -> Output {
        let acting = self.act(&["--allow", "any"], &[act]);
        let mut command = shell(&self.place, &format!("{limit} && exec \"$@\""));
        command.arg("sh").arg(acting.get_program()).args(acting.get_args()).env("SANDBOX_ACT", act).output().unwrap()
    }

    fn says(&self, options: &[&str], act: &[&str]) -> String {
        said(&self.act(options, act).output().unwrap())
    }
}

/// `hop` with arguments, and behind them this very program, which does something.
fn acting(place: &Place, args: &[String], act: &[&str]) -> Command {
    let own = std::env::current_exe().unwrap();
    let mut command = place.command(&args.iter().map(String::as_str).collect::<Vec<_>>());
    command.arg("--").arg(own).args(["--exact", "acts_in_a_sandbox", "--nocapture", "--quiet"]);
    command.env("SANDBOX_ACT", act.join(" "));
    command
}

/// A shell in which `hop` has its records in that place.
fn shell(place: &Place, script: &str) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", script]).env("HOPYARD_DIR", place.records()).env_remove("HOP_LAB").stdin(Stdio::null());
    shell
}

/// What [`acts_in_a_sandbox`] has said, without what surrounds a test.
fn said(output: &Output) -> String {
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    let lines: Vec<&str> = out.lines().filter_map(|line| line.split_once("said: ")).map(|(_, said)| said).collect();
    assert!(!lines.is_empty(), "it said nothing: {out}{err}");
    lines.join("; ")
}

/// No test, but what runs in the sandboxes of the others.
/// The network of so many bits that an address is in.
fn network(addr: IpAddr, bits_of_ipv4: u32, bits_of_ipv6: u32) -> String {
    match addr {
        IpAddr::V4(addr) => {
            let mask = u32::MAX << (32 - bits_of_ipv4);
            format!("{}/{bits_of_ipv4}", Ipv4Addr::from_bits(addr.to_bits() & mask))
        }
        IpAddr::V6(addr) => {
            let mask = u128::MAX << (128 - bits_of_ipv6);
            format!("{}/{bits_of_ipv6}", Ipv6Addr::from_bits(addr.to_bits() & mask))
        }
    }
}

#[test]
fn acts_in_a_sandbox() {
    let Ok(act) = std::env::var("SANDBOX_ACT") else { return };
    let words: Vec<&str> = act.split(' ').collect();
    let outcome = match words.as_slice() {
        ["tcp", to] => tcp(to),
        ["listen", to] => listen(to),
        ["udp", to] => udp(to, b"hello"),
        ["large", to] => udp(to, &vec![b'x'; 20_000]).map(|heard| heard.len().to_string()),
        ["many", count, to] => many(count.parse().unwrap(), to),
        ["litter", count, to] => litter(count.parse().unwrap(), to),
        ["crowd", count, to] => Ok(crowd(count.parse().unwrap(), to)),
        ["bind", dir, name] => UnixListener::bind(format!("{dir}/{name}")).map(|listener| {
            println!("\nsaid: ready");
            // Until it is killed.
            listener.incoming().count().to_string()
        }),
        ["answer", port] => answer(port.parse().unwrap()),
        ["echo", addr, port] => echo(addr, port.parse().unwrap()),
        ["mtu", to] => mtu(to),
        ["serve", port] => serve(port.parse().unwrap()),
        ["abstract", name] => {
            let addr = std::os::unix::net::SocketAddr::from_abstract_name(name).unwrap();
            UnixStream::connect_addr(&addr).map(|_| "connected".to_owned())
        }
        // In two parts: a variable that names a socket does not come in here.
        ["unix", dir, name] => UnixStream::connect(format!("{dir}/{name}")).map(|_| "connected".to_owned()),
        _ => panic!("{act}?"),
    };
    println!("\nsaid: {}", outcome.unwrap_or_else(|error| error.to_string()));
}

fn tcp(to: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(to)?;
    stream.write_all(b"hello")?;
    // The server answers when it has seen this end.
    stream.shutdown(Shutdown::Write)?;
    let mut heard = String::new();
    stream.read_to_string(&mut heard)?;
    Ok(heard)
}

/// What comes, until it ends.
fn listen(to: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(to)?;
    stream.write_all(b"hello")?;
    let mut heard = String::new();
    stream.read_to_string(&mut heard)?;
    Ok(heard)
}

fn udp(to: &str, what: &[u8]) -> std::io::Result<String> {
    let to = to.to_socket_addrs()?.next().unwrap();
    let own: SocketAddr = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }.parse().unwrap();
    let socket = UdpSocket::bind(own)?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    socket.send(what)?;
    let mut heard = vec![0; 65_536];
    let length = socket.recv(&mut heard)?;
    Ok(String::from_utf8_lossy(&heard[..length]).into_owned())
}

/// Sends to many ports, and then connects.
fn litter(count: u16, to: &str) -> std::io::Result<String> {
    let addr: SocketAddr = to.parse().unwrap();
    let any = if addr.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    for port in 1..=count {
        UdpSocket::bind(any)?.send_to(b"x", (addr.ip(), 20_000 + port))?;
    }
    tcp(to)
}

/// Asks for many connections at one moment; how many of them open, and how many of those carry something.
fn crowd(count: usize, to: &str) -> String {
    let addr: SocketAddr = to.parse().unwrap();
    let start = std::sync::Barrier::new(count);
    let connect = || {
        start.wait();
        TcpStream::connect_timeout(&addr, Duration::from_secs(20))
    };
    let streams: Vec<TcpStream> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..count).map(|_| scope.spawn(connect)).collect();
        threads.into_iter().filter_map(|thread| thread.join().unwrap().ok()).collect()
    });
    let open = streams.len();
    let is_used = |mut stream: TcpStream| -> std::io::Result<bool> {
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.shutdown(Shutdown::Write)?;
        let mut heard = String::new();
        stream.read_to_string(&mut heard)?;
        Ok(heard == "heard ")
    };
    let used = streams.into_iter().filter_map(|stream| is_used(stream).ok()).filter(|used| *used).count();
    let another = tcp(to).map_or_else(|error| error.to_string(), |_| "another too".to_owned());
    format!("{open} open, {used} used, {another}")
}

/// All at once, each with its own words.
fn many(count: usize, to: &str) -> std::io::Result<String> {
    let mut streams = (0..count).map(|_| TcpStream::connect(to)).collect::<Result<Vec<_>, _>>()?;
    for (number, stream) in streams.iter_mut().enumerate() {
        write!(stream, "{number}")?;
        stream.shutdown(Shutdown::Write)?;
    }
    let mut right = 0;
    for (number, stream) in streams.iter_mut().enumerate() {
        let mut heard = String::new();
        stream.read_to_string(&mut heard)?;
        right += usize::from(heard == format!("heard {number}"));
    }
    Ok(format!("{right} right"))
}

/// A server of the sandbox, for one client.
fn answer(port: u16) -> std::io::Result<String> {
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    println!("\nsaid: ready");
    let (mut stream, _) = listener.accept()?;
    let mut heard = String::new();
    stream.read_to_string(&mut heard)?;
    stream.write_all(b"inside heard ")?;
    stream.write_all(heard.as_bytes())?;
    Ok(heard)
}

/// A server of the sandbox for datagrams, which takes its time.
fn echo(addr: &str, port: u16) -> std::io::Result<String> {
    println!("\nsaid: ready");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    let socket = UdpSocket::bind((addr, port))?;
    let mut buffer = vec![0; 65_536];
    loop {
        let (length, from) = socket.recv_from(&mut buffer)?;
        socket.send_to(&[b"inside heard ", &buffer[..length]].concat(), from)?;
    }
}

/// What a program that never has its datagrams cut finds out about the way.
fn mtu(to: &str) -> std::io::Result<String> {
    /// ip(7), ipv6(7): never fragment; what is known of the way.
    const SCRIPT: &str = r#"
        use IO::Socket::IP; use Socket;
        my ($host, $port) = $ARGV[0] =~ /^\[?(.*?)\]?:(\d+)$/;
        my $socket = IO::Socket::IP->new(Proto => "udp", PeerHost => $host, PeerPort => $port) or die $@;
        my ($level, $discover, $mtu) = $host =~ /:/ ? (41, 23, 24) : (0, 10, 14);
        setsockopt($socket, $level, $discover, pack("i", 2)) or die $!;
        alarm 20;
        until ($!{EMSGSIZE}) { $! = 0; $socket->send("x" x 1350); select(undef, undef, undef, 0.02) unless $!; }
        my $known = unpack("i", getsockopt($socket, $level, $mtu));
        # What is still pending is of one of those.
        until ($socket->send("x" x 1200)) { die $! unless $!{EMSGSIZE} }
        my $heard = "";
        $socket->recv($heard, 65536) until length $heard;
        print "$known, heard ", length($heard) - length("heard ");
    "#;
    let output = Command::new("perl").args(["-MErrno", "-e", SCRIPT, to]).output()?;
    Ok(text(&output.stdout) + &text(&output.stderr))
}

/// A server of the sandbox, for many clients at once.
fn serve(port: u16) -> std::io::Result<String> {
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    println!("\nsaid: ready");
    for stream in listener.incoming() {
        let mut stream = stream?;
        std::thread::spawn(move || {
            stream.read_to_end(&mut Vec::new()).and_then(|_| stream.write_all(b"heard")).ok();
        });
    }
    Ok(String::new())
}

const REFUSED: &str = "Connection refused (os error 111)";
const NO_ROUTE: &str = "Network is unreachable (os error 101)";
/// How a firewall's refusal shows, in IPv4 and in IPv6.
const FORBIDDEN: [&str; 2] = ["No route to host (os error 113)", "Permission denied (os error 13)"];

#[test]
fn without_a_word_nothing_is_reached() {
    let lab = Lab::new();
    for addr in lab.addresses("far") {
        let server = lab.tcp_server(addr).to_string();
        assert_eq!(lab.says(&["--allow", &server], &["tcp", &server]), "heard hello", "it is there");
        assert_eq!(lab.says(&[], &["tcp", &server]), NO_ROUTE);
        assert_eq!(lab.says(&[], &["udp", &server]), NO_ROUTE);
    }
    assert_eq!(lab.says(&[], &["tcp", "127.0.0.1:1"]), REFUSED);
}

#[test]
fn what_is_allowed_is_reached_and_nothing_beside_it() {
    let lab = Lab::new();
    for (addr, forbidden) in lab.addresses("far").into_iter().zip(FORBIDDEN) {
        let (server, other) = (lab.tcp_server(addr), lab.tcp_server(addr));
        let allow = ["--allow", &server.to_string()];
        assert_eq!(lab.says(&allow, &["tcp", &server.to_string()]), "heard hello");
        assert_eq!(lab.says(&allow, &["tcp", &other.to_string()]), forbidden);
        let datagrams = lab.udp_server(addr);
        let net = format!("{}/udp", network(addr, 24, 48));
        assert_eq!(lab.says(&["--allow", &net], &["udp", &datagrams.to_string()]), "heard hello");
        assert_eq!(lab.says(&["--allow", &net], &["large", &datagrams.to_string()]), "20006");
        assert_eq!(lab.says(&["--allow", &net], &["tcp", &server.to_string()]), forbidden);
        assert_eq!(lab.says(&allow, &["udp", &datagrams.to_string()]), forbidden);
    }
}

#[test]
fn what_is_allowed_and_not_there_is_as_it_is_outside() {
    let lab = Lab::new();
    for addr in lab.addresses("far") {
        let nobody = SocketAddr::new(addr, 9).to_string();
        assert_eq!(lab.says(&["--allow", "any"], &["tcp", &nobody]), REFUSED);
        assert_eq!(lab.says(&["--allow", "any"], &["udp", &nobody]), REFUSED);
    }
    // The lab has no way there.
    for nowhere in ["192.0.2.1:80", "[2001:db8::1]:80"] {
        assert_eq!(lab.says(&["--allow", "any"], &["tcp", nowhere]), NO_ROUTE);
    }
    // The loopback outside is not the sandbox's business, by whatever name.
    let host = lab.inside("home", || TcpListener::bind("127.0.0.1:0").unwrap());
    let port = host.local_addr().unwrap().port();
    assert_eq!(lab.says(&["--allow", "any"], &["tcp", &format!("127.0.0.1:{port}")]), REFUSED);
    let mapped = lab.says(&["--allow", "any"], &["tcp", &format!("[::ffff:127.0.0.1]:{port}")]);
    assert_ne!(mapped, "", "{mapped}");
    assert!(!mapped.contains("heard"), "{mapped}");
    host.set_nonblocking(true).unwrap();
    assert!(host.accept().is_err(), "nobody came");
}

#[test]
fn nobody_is_at_the_gate_whatever_is_allowed() {
    let lab = Lab::new();
    lab.place.hop(&["exec", "home", "ip", "addr", "add", "192.0.0.1/32", "dev", "lo"]);
    let host = lab.inside("home", || TcpListener::bind("192.0.0.1:0").unwrap());
    let to = host.local_addr().unwrap().to_string();
    std::thread::spawn(move || host.accept());
    assert_eq!(lab.says(&["--allow", "any"], &["tcp", &to]), REFUSED);
}

#[test]
fn names_are_those_outside_and_only_those_that_are_allowed() {
    let lab = Lab::new();
    let server = lab.tcp_server(lab.addresses("far")[0]);
    let by_name = format!("far:{}", server.port());
    assert_eq!(lab.says(&["--allow", &by_name], &["tcp", &by_name]), "heard hello");
    // Its address alone does as well, also when nobody has asked for the name before.
    assert_eq!(lab.says(&["--allow", &by_name], &["tcp", &server.to_string()]), "heard hello");
    let denied = lab.says(&["--allow", "near"], &["tcp", &by_name]);
    assert!(denied.contains("Name or service not known"), "{denied}");
    let nobody = lab.says(&["--allow", "nosuch.test"], &["tcp", "nosuch.test:80"]);
    assert!(nobody.contains("failed to lookup address"), "{nobody}");
    // Allowed for another port: known, and not reached.
    let other = lab.says(&["--allow", "far:9"], &["tcp", &by_name]);
    assert!(FORBIDDEN.contains(&other.as_str()), "{other}");
}

#[test]
fn however_many_names_are_allowed_each_is_looked_up() {
    let lab = Lab::new();
    let server = lab.tcp_server(lab.addresses("far")[0]);
    // More than the agent takes at a time; the one that has the address is the last.
    let names = (0..3000).map(|n| format!("n{n}.invalid")).chain(["far".to_owned()]);
    let options: Vec<String> = names.map(|name| format!("--allow={name}:{}", server.port())).collect();
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    assert_eq!(lab.says(&options, &["tcp", &server.to_string()]), "heard hello");
    assert_eq!(lab.says(&options, &["tcp", &format!("192.0.2.1:{}", server.port())]), FORBIDDEN[0]);
}

#[test]
fn names_have_many_addresses_or_those_of_one_family_or_none_outside() {
    let lab = Lab::new();
    let addresses = lab.addresses("far");
    let server = lab.tcp_server(addresses[1]);
    let port = server.port();
    // More than an answer has room for; one of IPv6 alone; a name that leads to the loopback outside.
    let many: Vec<String> = (1..=200).map(|number| format!("10.77.0.{number}\tmany\n")).collect();
    let hosts = format!("{}{}\tsix a.six.test\n127.0.0.1\tnear.test\n", many.concat(), addresses[1]);
    lab.place.hop(&["exec", "home", "sh", "-c", &format!("printf '%s' '{hosts}' >> /etc/hosts")]);
    let by_name = |name: &str| format!("{name}:{port}");
    assert_eq!(lab.says(&["--allow", &by_name("six")], &["tcp", &by_name("six")]), "heard hello");
    // All are open, and have no way outside.
    assert_eq!(lab.says(&["--allow", "many:80"], &["tcp", "10.77.0.200:80"]), NO_ROUTE);
    assert_eq!(lab.says(&["--allow", "many:80"], &["tcp", "10.77.0.201:80"]), FORBIDDEN[0]);
    let resolved = ["--allow", "many", "--", "getent", "ahosts", "many"];
    let net = format!("{}/home", lab.name);
    let known = lab.place.hop(&[&["sandbox", "--net", &net], &resolved[..]].concat());
    assert!(known.lines().count() > 20, "{known}");
    let host = lab.inside("home", || TcpListener::bind("127.0.0.1:0").unwrap());
    let loopback = format!("near.test:{}", host.local_addr().unwrap().port());
    assert_eq!(lab.says(&["--allow", "near.test"], &["tcp", &loopback]), REFUSED);
    host.set_nonblocking(true).unwrap();
    assert!(host.accept().is_err(), "nobody came");
    // Names below one.
    let below = ["--allow", &format!("*.six.test:{port}")];
    assert_eq!(lab.says(&below, &["tcp", &by_name("a.six.test")]), "heard hello");
    assert_eq!(lab.says(&below, &["tcp", &server.to_string()]), FORBIDDEN[1], "nobody has asked for the name");
    assert!(lab.says(&below, &["tcp", &by_name("six")]).contains("Name or service not known"));
}

#[test]
fn a_record_says_what_was_tried_and_its_line_lets_it() {
    let lab = Lab::new();
    let server = lab.tcp_server(lab.addresses("far")[0]);
    let by_name = format!("far:{}", server.port());
    let output = lab.act(&["--record"], &["tcp", &by_name]).output().unwrap();
    assert_eq!(said(&output), FORBIDDEN[0]);
    let report = text(&output.stderr);
    assert!(report.contains(&format!("  {by_name}/tcp  blocked\n")), "{report}");
    let line = report.lines().last().unwrap().trim();
    assert!(line.starts_with(&format!("hop sandbox --net {}/home --allow {by_name}/tcp -- /", lab.name)), "{line}");
    let pasted = line.replacen("hop ", &format!("{} ", env!("CARGO_BIN_EXE_hop")), 1);
    let mut shell = Command::new("sh");
    shell.args(["-c", &pasted]).env("HOPYARD_DIR", lab.place.records());
    let output = shell.env("SANDBOX_ACT", format!("tcp {by_name}")).output().unwrap();
    assert_eq!(said(&output), "heard hello");
    // With everything allowed it is an account of what was reached.
    let output = lab.act(&["--record", "--allow", "any"], &["tcp", &by_name]).output().unwrap();
    assert_eq!(said(&output), "heard hello");
    assert!(text(&output.stderr).contains(&format!("  {by_name}/tcp  connected")), "{}", text(&output.stderr));
    let output = lab.place.output(&["sandbox", "--record", "--", "true"]);
    assert_eq!(text(&output.stderr), "it tried to reach nothing\n");
}

#[test]
fn a_record_tells_what_the_sandbox_did_from_what_came_outside() {
    let lab = Lab::new();
    let record = |options: &[&str], act: &[&str]| {
        let options = [&["--record"], options].concat();
        text(&lab.act(&options, act).output().unwrap().stderr)
    };
    let addr = lab.addresses("far")[0];
    let (tcp, udp) = (lab.tcp_server(addr), lab.udp_server(addr));
    for (options, act, line) in [
        (&["--allow", "any"][..], ["tcp", &tcp.to_string()], format!("{tcp}/tcp  connected")),
        (&["--allow", "any"], ["tcp", &format!("{addr}:9")], format!("{addr}:9/tcp  refused outside")),
        (&["--allow", "any"], ["tcp", "192.0.2.1:80"], "192.0.2.1:80/tcp  unreachable outside".to_owned()),
        (&["--allow", "any"], ["udp", &udp.to_string()], format!("{udp}/udp  answered")),
        (&["--allow", "any"], ["udp", &format!("{addr}:9")], format!("{addr}:9/udp  refused outside")),
        (&[], ["tcp", &tcp.to_string()], format!("{tcp}/tcp  blocked")),
        (&[], ["udp", &udp.to_string()], format!("{udp}/udp  blocked")),
    ] {
        let said = record(options, &act);
        assert!(said.contains(&format!("  {line}\n")), "{line}: {said}");
    }
    // Nobody can be asked in this lab whether there is that name: it is not said that it was reached.
    let said = record(&["--allow", "any"], &["tcp", "nosuch.test:80"]);
    let line = said.lines().find(|line| line.contains("  nosuch.test")).unwrap();
    let outcomes = ["looked up: no such name", "looked up: the resolver outside has failed"];
    assert!(outcomes.iter().any(|outcome| line.ends_with(outcome)), "{said}");
}

#[test]
fn a_command_that_is_over_at_once_gives_its_status() {
    let lab = Lab::new();
    let net = format!("{}/home", lab.name);
    for round in 0..100 {
        let status = round % 7;
        let exit = format!("exit {status}");
        let mut args = vec!["sandbox", "--net", &net, "--publish", "18091:80"];
        args.extend((round % 2 == 0).then_some("--record"));
        args.extend(["--", "sh", "-c", &exit]);
        let output = lab.place.output(&args);
        assert_eq!(output.status.code(), Some(status), "{round}: {}", text(&output.stderr));
    }
}

#[test]
fn a_published_port_leads_inside_from_the_loopback_outside_alone() {
    let lab = Lab::new();
    let mut inside = lab.act(&["--publish", "8080:80"], &["answer", "80"]);
    let mut inside = ready(inside.stdout(Stdio::piped()).spawn().unwrap());
    let addr = lab.addresses("home")[0];
    assert_eq!(
        lab.inside("far", || TcpStream::connect((addr, 8080)).unwrap_err().kind()),
        std::io::ErrorKind::ConnectionRefused
    );
    assert_eq!(lab.inside("home", || tcp("127.0.0.1:8080").unwrap()), "inside heard hello");
    assert!(inside.wait().unwrap().success());
    // On another address if that is said.
    let all = lab.act(&["--publish", "0.0.0.0:8080:80"], &["answer", "80"]).stdout(Stdio::piped()).spawn();
    let mut inside = ready(all.unwrap());
    assert_eq!(lab.inside("far", || tcp(&format!("{addr}:8080")).unwrap()), "inside heard hello");
    assert!(inside.wait().unwrap().success());
    let _taken = lab.inside("home", || TcpListener::bind("127.0.0.1:8080").unwrap());
    let output = lab.act(&["--publish", "8080"], &["answer", "80"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("cannot listen on 127.0.0.1:8080/tcp outside"), "{}", text(&output.stderr));
}

/// Waits until an actor has said that it is ready.
fn ready(mut child: Child) -> Child {
    let stdout = child.stdout.as_mut().unwrap();
    let mut heard = Vec::new();
    while !text(&heard).contains("ready") {
        let mut byte = [0];
        assert_eq!(stdout.read(&mut byte).unwrap(), 1, "{}", text(&heard));
        heard.push(byte[0]);
    }
    child
}

#[test]
fn a_thousand_connections_at_once() {
    let lab = Lab::new();
    let server = lab.tcp_server(lab.addresses("far")[0]).to_string();
    // Descriptors of this program, which is the server, and of the sandboxed one.
    hopyard::runtime::keep_room_for_files();
    let output = lab.act_with_files("ulimit -n 4096 2>/dev/null || :", &format!("many 1000 {server}"));
    assert_eq!(said(&output), "1000 right");
}

#[test]
fn what_opens_has_room_to_be_used_also_when_not_all_have() {
    let lab = Lab::new();
    let server = lab.tcp_server(lab.addresses("far")[0]).to_string();
    let output = lab.act_with_files("ulimit -n 60", &format!("crowd 45 {server}"));
    let said = said(&output);
    let (open, used) = said.split_once(" open, ").unwrap_or_else(|| panic!("{said}"));
    let open: usize = open.parse().unwrap();
    assert!((5..45).contains(&open) && used == format!("{open} used, another too"), "{said}");
}

#[test]
fn what_nobody_answers_keeps_no_room_from_others() {
    let lab = Lab::new();
    let addr = lab.addresses("far")[0];
    let server = lab.tcp_server(addr).to_string();
    // They take it, and say nothing.
    let silent: Vec<UdpSocket> =
        (1..=60).map(|port| lab.inside("far", || UdpSocket::bind((addr, 20_000 + port)).unwrap())).collect();
    let output = lab.act_with_files("ulimit -n 60", &format!("litter {} {server}", silent.len()));
    assert_eq!(said(&output), "heard hello");
    let mut last = [0];
    let (length, _) = silent.last().unwrap().recv_from(&mut last).unwrap();
    assert_eq!((length, last), (1, *b"x"), "what came last went on its way");
}

#[test]
fn more_connections_than_there_is_room_for_wait_and_cost_nothing() {
    const PORT: &str = "127.0.0.1:8080";
    // A connection takes two descriptors: there is room for the first of the last pair, or there is not.
    for limit in [60, 61] {
        let lab = Lab::new();
        let room = format!("ulimit -n {limit} && exec \"$@\"");
        let own = std::env::current_exe().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", &room, "sh", env!("CARGO_BIN_EXE_hop"), "sandbox", "--net", &format!("{}/home", lab.name)]);
        command.args(["--publish", "8080:80", "--"]).arg(own);
        command.args(["--exact", "acts_in_a_sandbox", "--nocapture", "--quiet"]);
        command.env("HOPYARD_DIR", lab.place.records()).env("SANDBOX_ACT", "serve 80");
        let mut sandbox = ready(command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap());
        let proc = Path::new("/proc").join(sandbox.id().to_string());
        let open = || std::fs::read_dir(proc.join("fd")).unwrap().count();
        let relay = || {
            let mut tasks = std::fs::read_dir(proc.join("task")).unwrap().map(|task| task.unwrap().path());
            tasks.find(|task| std::fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == "hop-relay"))
        };
        // The command may run before it does.
        wait_until("the relay is there", || relay().is_some());
        let relay = relay().unwrap();
        let clients: Vec<TcpStream> =
            lab.inside("home", || (0..100).map(|_| TcpStream::connect(PORT).unwrap()).collect());
        wait_until("no descriptor is left", || open() >= limit - 1);
        // The first field is the time on a processor.
        let worked = || std::fs::read_to_string(relay.join("schedstat")).unwrap();
        let (mut before, mut same) = (worked(), 0);
        wait_until("the relay rests", || {
            let now = worked();
            same = if now == before { same + 1 } else { 0 };
            before = now;
            same == 50
        });
        drop(clients);
        wait_until("they are gone", || open() < limit / 2);
        assert_eq!(lab.inside("home", || tcp(PORT).unwrap()), "heard");
        sandbox.kill().unwrap();
        sandbox.wait().unwrap();
    }
}

#[test]
fn a_break_outside_is_a_break_inside() {
    let lab = Lab::new();
    let addr = lab.addresses("far")[0];
    let listener = lab.inside("far", || TcpListener::bind((addr, 0)).unwrap());
    let to = listener.local_addr().unwrap().to_string();
    let breaker = std::thread::spawn(move || {
        // What came is not read, so the kernel ends the connection by a reset.
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_exact(&mut [0]).unwrap();
    });
    assert_eq!(lab.says(&["--allow", "any"], &["listen", &to]), "Connection reset by peer (os error 104)");
    breaker.join().unwrap();
}

#[test]
fn no_socket_of_the_machine_is_a_way_out() {
    let place = Place::new();
    let act = |act: &[&str]| said(&acting(&place, &["sandbox".to_owned()], act).output().unwrap());
    let name = unique("hopyard-test");
    let addr = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let _abstract = UnixListener::bind_addr(&addr).unwrap();
    assert_eq!(act(&["abstract", &name]), REFUSED);
    // As an agent or a terminal multiplexer has it.
    let path = place.path().join("agent");
    let _agent = UnixListener::bind(&path).unwrap();
    assert!(UnixStream::connect(&path).is_ok());
    assert_eq!(act(&["unix", place.path().to_str().unwrap(), "agent"]), FORBIDDEN[1]);
    // What is in /run and its like is not there at all.
    for (dir, socket) in [
        ("/run/dbus", "system_bus_socket"),
        ("/var/run", "docker.sock"),
        ("/run/nscd", "socket"),
        ("/run/systemd/resolve", "io.systemd.Resolve"),
    ] {
        assert_eq!(act(&["unix", dir, socket]), "No such file or directory (os error 2)");
    }
    let runtime = place.path().join("runtime");
    std::fs::create_dir(&runtime).unwrap();
    let show = "ls -A /run/user/*; ls -A $XDG_RUNTIME_DIR; ls /run; env";
    let output = place
        .command(&["sandbox", "sh", "-c", show])
        .env("XDG_RUNTIME_DIR", &runtime)
        .env("SSH_AUTH_SOCK", "/nowhere")
        .env("DBUS_SESSION_BUS_ADDRESS", format!("unix:path={}", path.display()))
        .env("MY_OWN_AGENT", &path)
        .env("KEPT", "kept")
        .output()
        .unwrap();
    let shown = text(&output.stdout);
    assert!(shown.contains("KEPT=kept\n"), "{shown}{}", text(&output.stderr));
    for gone in ["SSH_AUTH_SOCK", "DBUS", "MY_OWN_AGENT", "dbus", "systemd"] {
        assert!(!shown.contains(gone), "{gone}: {shown}");
    }
}

#[test]
fn the_keepers_of_labs_are_not_reached() {
    let lab = Lab::new();
    let dir = lab.place.records().join(&lab.name);
    let act = |command: &mut Command| said(&command.output().unwrap());
    let args = ["sandbox".to_owned()];
    let named = || acting(&lab.place, &args, &["unix", dir.to_str().unwrap(), "ctl"]);
    assert_eq!(act(&mut named()), FORBIDDEN[1]);
    // Those in a directory that this `hop` knows nothing of.
    assert_eq!(act(named().env_remove("HOPYARD_DIR")), FORBIDDEN[1]);
    // And where the path is too long for the kernel to have it.
    let long = lab.place.path().join("x".repeat(100));
    std::fs::create_dir(&long).unwrap();
    let hop = |args: &[&str]| {
        let output = lab.place.command(args).env("HOPYARD_DIR", &long).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
    };
    let name = unique("long");
    hop(&["up", "a -- b", "--name", &name]);
    let mut there = acting(&lab.place, &args, &["unix", ".", "ctl"]);
    let mut there_by = |records: &str| act(there.current_dir(long.join(&name)).env("HOPYARD_DIR", records));
    let said = [there_by(long.to_str().unwrap()), there_by("..")];
    hop(&["down", &name]);
    assert_eq!(said, [FORBIDDEN[1]; 2]);
}

#[test]
fn a_sandbox_in_a_node_covers_the_sockets_of_the_machine_too() {
    let lab = Lab::new();
    let path = lab.place.path().join("agent");
    let _agent = UnixListener::bind(&path).unwrap();
    let hop = env!("CARGO_BIN_EXE_hop").to_owned();
    let act = ["unix", lab.place.path().to_str().unwrap(), "agent"];
    let in_node = |args: &[&str]| {
        let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
        said(&acting(&lab.place, &args, &act).output().unwrap())
    };
    assert_eq!(in_node(&["exec", "home"]), "connected", "it is there");
    assert_eq!(in_node(&["exec", "home", "--", &hop, "sandbox"]), FORBIDDEN[1]);
}

#[test]
fn sockets_that_are_bound_in_other_networks_are_covered_too() {
    let lab = Lab::new();
    let dir = lab.place.path().to_str().unwrap().to_owned();
    let in_node = ["exec", "far"].map(str::to_owned);
    let mut bound = acting(&lab.place, &in_node, &["bind", &dir, "service"]);
    let mut bound = ready(bound.stdout(Stdio::piped()).spawn().unwrap());
    let act = |args: &[&str]| {
        let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
        said(&acting(&lab.place, &args, &["unix", &dir, "service"]).output().unwrap())
    };
    let (outside, inside) = (act(&["exec", "home"]), act(&["sandbox"]));
    bound.kill().unwrap();
    bound.wait().unwrap();
    assert_eq!(outside, "connected", "it is there");
    assert_eq!(inside, FORBIDDEN[1]);
}

#[test]
fn a_socket_is_covered_by_whatever_name_it_has() {
    let place = Place::new();
    let dir = |name: &str| {
        let dir = place.path().join(name);
        std::fs::create_dir(&dir).unwrap();
        dir
    };
    let act = |dir: &std::path::Path, name: &str| {
        assert!(UnixStream::connect(dir.join(name)).is_ok(), "it is there");
        said(&acting(&place, &["sandbox".to_owned()], &["unix", dir.to_str().unwrap(), name]).output().unwrap())
    };
    let renamed = dir("renamed");
    let _renamed = UnixListener::bind(renamed.join("bound")).unwrap();
    std::fs::rename(renamed.join("bound"), renamed.join("other")).unwrap();
    assert_eq!(act(&renamed, "other"), FORBIDDEN[1]);
    // As ssh makes the socket of a master.
    let linked = dir("linked");
    let _linked = UnixListener::bind(linked.join("master.random")).unwrap();
    std::fs::hard_link(linked.join("master.random"), linked.join("master")).unwrap();
    std::fs::remove_file(linked.join("master.random")).unwrap();
    assert_eq!(act(&linked, "master"), FORBIDDEN[1]);
    // Where the kernel's table does not lead, but ssh is known to be.
    let home = dir("home");
    std::fs::create_dir_all(home.join(".ssh/masters")).unwrap();
    let elsewhere = dir("elsewhere");
    let _moved = UnixListener::bind(elsewhere.join("bound")).unwrap();
    std::fs::rename(elsewhere.join("bound"), home.join(".ssh/masters/host")).unwrap();
    let masters = home.join(".ssh/masters");
    let mut command = acting(&place, &["sandbox".to_owned()], &["unix", masters.to_str().unwrap(), "host"]);
    assert_eq!(said(&command.env("HOME", &home).output().unwrap()), FORBIDDEN[1]);
}

#[test]
fn a_socket_is_covered_wherever_its_file_system_is_mounted() {
    let place = Place::new();
    let hop = env!("CARGO_BIN_EXE_hop");
    let own = std::env::current_exe().unwrap();
    // In mounts of the test's own: a directory that is mounted once more, and /run; and a /var/run that is no link.
    let connect = format!("{} --exact acts_in_a_sandbox --nocapture --quiet", own.display());
    let (a, b) = (place.path().join("a"), place.path().join("b"));
    let var_run = std::fs::symlink_metadata("/var/run").is_ok_and(|meta| meta.is_symlink());
    for dir in [&a, &b] {
        std::fs::create_dir(dir).unwrap();
    }
    let _agent = UnixListener::bind(a.join("agent")).unwrap();
    let (a, b) = (a.display(), b.display());
    // All of it may be below /var, and has to be somewhere else then.
    let (programs, program) = (Path::new(hop).parent().unwrap(), own.strip_prefix(Path::new(hop).parent().unwrap()));
    let elsewhere =
        connect.replace(&own.display().to_string(), &format!("/mnt/programs/{}", program.unwrap().display()));
    let (programs, room) = (programs.display(), place.path().display());
    let script = format!(
        "cd /; mount --bind {a} {b} || exit; export SANDBOX_ACT='unix {b} agent'; {connect}; {hop} sandbox -- {connect}
         mount -t tmpfs none /mnt && mkdir /mnt/programs /mnt/room && mount --bind {programs} /mnt/programs || exit
         mount --bind {room} /mnt/room && export HOPYARD_DIR=/mnt/room/records || exit
         mount -t tmpfs none /var && mkdir /var/run && export SANDBOX_ACT='unix /var/run service' || exit
         (SANDBOX_ACT='bind /var/run service' exec {elsewhere}) > /mnt/room/log &
         until grep -q ready /mnt/room/log; do kill -0 $! || exit; done
         {elsewhere}; /mnt/programs/hop sandbox -- {elsewhere}; kill $!"
    );
    let options = if is_root() { "-m" } else { "-Urm" };
    let mut command = Command::new("unshare");
    command.args([options, "sh", "-c", &script]).env("HOPYARD_DIR", place.records()).stdin(Stdio::null());
    let said = said(&command.output().unwrap());
    let covered = format!("connected; {}", FORBIDDEN[1]);
    let wanted = if var_run { format!("{covered}; {covered}") } else { covered };
    assert_eq!(said, wanted);
}

#[test]
fn what_is_in_sys_is_not_changed_from_inside() {
    let place = Place::new();
    let table = place.hop(&["sandbox", "cat", "/proc/self/mounts"]);
    // What was mounted last at a place is what is there.
    let mounts: std::collections::BTreeMap<&str, &str> =
        table.lines().map(|line| line.split(' ').collect::<Vec<_>>()).map(|fields| (fields[1], fields[3])).collect();
    let has = |options: &str, option: &str| options.split(',').any(|one| one == option);
    for (point, options) in mounts {
        // Control groups, too: whoever may write to one kills all that is in it, outside of the sandbox as well.
        assert!(has(options, "ro") || !point.starts_with("/sys"), "{point} {options}");
        assert!(has(options, "nosuid"), "{point} {options}");
    }
}

#[test]
fn the_kernel_is_not_told_things_in_another_place_either() {
    let place = Place::new();
    let mut machine = Command::new("unshare");
    machine.args(if is_root() { &["-m"][..] } else { &["-rm"][..] });
    // As the /proc of a chroot is.
    let script = "mount --rbind /proc \"$1/proc\"; mount --rbind /sys \"$1/sys\"
        \"$0\" sandbox awk -v root=\"$1/\" 'index($5, root) { print $6 }' /proc/self/mountinfo
        \"$0\" sandbox sh -c 'echo written >\"$0/file\"; cat \"$0/file\"
            read panic <\"$0/proc/sys/kernel/panic\"; echo $panic >\"$0/proc/sys/kernel/panic\"' \"$1\"";
    let root = place.path().join("root");
    for name in ["proc", "sys"] {
        std::fs::create_dir_all(root.join(name)).unwrap();
    }
    machine.args(["sh", "-c", script, env!("CARGO_BIN_EXE_hop")]).arg(&root).env("HOPYARD_DIR", place.records());
    let output = machine.output().unwrap();
    let (said, refused) = (text(&output.stdout), text(&output.stderr));
    let (options, written) = said.rsplit_once("written\n").unwrap_or_else(|| panic!("{said}{refused}"));
    assert!(options.lines().count() >= 2 && written.is_empty(), "{said}{refused}");
    assert!(options.lines().all(|options| options.starts_with("ro,")), "{said}{refused}");
    // To others than root it is forbidden anyway.
    assert!(refused.contains("Read-only file system") || !is_root(), "{said}{refused}");
}

#[test]
fn message_queues_of_the_machine_are_not_reached_by_their_files() {
    let place = Place::new();
    let mut machine = Command::new("unshare");
    machine.args(if is_root() { &["-mi"][..] } else { &["-rmi"][..] });
    let script = "mount -t mqueue none \"$1\"; : >\"$1/service\"; ls \"$1\"; echo inside; \"$0\" sandbox ls \"$1\"";
    let queues = place.path().join("queues");
    std::fs::create_dir(&queues).unwrap();
    machine.args(["sh", "-ec", script, env!("CARGO_BIN_EXE_hop")]).arg(&queues).env("HOPYARD_DIR", place.records());
    let output = machine.output().unwrap();
    assert_eq!(text(&output.stdout), "service\ninside\n", "{}", text(&output.stderr));
}

#[test]
fn control_groups_that_are_not_delegated_are_not_mounted_inside() {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mut groups = table.lines().filter_map(|line| line.split_once(" - cgroup")).map(|(_, system)| system);
    let delegated = table.contains(" - cgroup") && groups.all(|system| system.contains("nsdelegate"));
    // Below the first one there are others, which are in the namespace.
    let delegated = delegated && !std::fs::read_to_string("/proc/self/cgroup").unwrap().contains("0::/\n");
    let place = Place::new();
    let in_sandbox = |args: &[&str]| place.output(&[&["sandbox", "--"], args].concat());
    // There, to mount them is no harm.
    let output = in_sandbox(&["unshare", "-U", "-C", "true"]);
    let said = text(&output.stderr);
    assert_eq!((output.status.success(), said.contains("Operation not permitted")), (delegated, !delegated), "{said}");
    assert!(in_sandbox(&["unshare", "-U", "true"]).status.success());
}

#[test]
fn a_directory_that_is_covered_is_not_entered_by_the_back_door() {
    let place = Place::new();
    let runtime = place.path().join("runtime");
    std::fs::create_dir(&runtime).unwrap();
    let socket = runtime.join("bus");
    std::fs::write(&socket, "").unwrap();
    let run = |dir: &std::path::Path| {
        place.command(&["sandbox", "ls", "bus"]).current_dir(dir).env("XDG_RUNTIME_DIR", &runtime).output().unwrap()
    };
    assert!(!run(&runtime).status.success(), "what the working directory was is covered");
    let output = place.command(&["sandbox", "true"]).stdin(std::fs::File::open("/run").unwrap()).output().unwrap();
    assert!(text(&output.stderr).contains("standard input is a directory"), "{}", text(&output.stderr));
}

#[test]
fn a_standard_stream_is_no_way_out() {
    let place = Place::new();
    let run = |stdin: OwnedFd| place.command(&["sandbox", "cat"]).stdin(stdin).output().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let connected = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (datagrams, _other) = std::os::unix::net::UnixDatagram::pair().unwrap();
    // Each could be connected anew: the first two to any host outside, the last to an abstract socket.
    for socket in [OwnedFd::from(connected), UdpSocket::bind("127.0.0.1:0").unwrap().into(), datagrams.into()] {
        let output = run(socket);
        assert_eq!(output.status.code(), Some(1));
        let said = text(&output.stderr);
        assert!(said.contains("standard input is a socket of the network outside"), "{said}");
        assert!(said.contains("hint: a file or a pipe passes"), "{said}");
    }
    // As an ssh server gives one to a command that has no terminal.
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    ours.write_all(b"passes").unwrap();
    ours.shutdown(Shutdown::Write).unwrap();
    assert_eq!(text(&run(theirs.into()).stdout), "passes");
}

#[test]
fn a_signal_to_the_group_stays_inside() {
    let place = Place::new();
    let hop = env!("CARGO_BIN_EXE_hop");
    // In one group: the outer shell, a process beside the sandbox, hop, and the command.
    let script = format!(
        "sleep 1000 & beside=$!; {hop} sandbox sh -c 'trap \"echo caught; exit 5\" TERM; kill -TERM 0; sleep 10'; \
         echo $?; kill $beside && echo alive"
    );
    let output = shell(&place, &script).process_group(0).output().unwrap();
    let said = text(&output.stdout);
    // Where the kernel cannot keep such a signal inside, there is none (`Operation not permitted`).
    assert!(["caught\n5\nalive\n", "0\nalive\n"].contains(&said.as_str()), "{said}{}", text(&output.stderr));
    // A group of the sandbox's own gets it as well.
    let own = "setsid sh -c 'trap \"exit 3\" TERM; kill 0; sleep 10'; echo $?";
    let said = place.hop(&["sandbox", "sh", "-c", own]);
    assert!(["3\n", "0\n"].contains(&said.as_str()), "{said}");
}

#[test]
fn nothing_is_left_of_rights_and_descriptors() {
    let place = Place::new();
    let status = place.hop(&["sandbox", "cat", "/proc/self/status"]);
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert!(status.contains(&format!("{set}:\t0000000000000000\n")), "{status}");
    }
    assert!(status.contains("NoNewPrivs:\t1\n") && status.contains("Seccomp:\t2\n"), "{status}");
    // The first process has no more than the command, and it cannot be looked into.
    let look = "readlink /proc/1/fd/0 || echo closed; grep CapPrm /proc/1/status";
    assert_eq!(place.hop(&["sandbox", "sh", "-c", look]), "closed\nCapPrm:\t0000000000000000\n");
    let own = Command::new("id").arg("-u").output().unwrap();
    assert_eq!(place.hop(&["sandbox", "id", "-u"]), text(&own.stdout));
    // A descriptor that was inherited without an end at exec.
    let hop = env!("CARGO_BIN_EXE_hop");
    let shell = format!("exec 7</etc/passwd; {hop} sandbox sh -c 'ls /proc/self/fd/7 || echo gone'");
    let output = Command::new("sh").args(["-c", &shell]).output().unwrap();
    assert_eq!(text(&output.stdout), "gone\n");
}

#[test]
fn rights_in_a_namespace_of_its_own_are_none_over_the_sandbox() {
    let place = Place::new();
    let try_all = "ip link add x type veth || echo no link; ip addr flush dev lo || echo no flush; \
         mount --bind /tmp /run && ls /run/user; umount /etc || echo no unmount; umount -l /run 2>/dev/null; \
         umount -l /run 2>/dev/null; test -e /run/dbus || echo covered; \
         nsenter -t 1 -n true || echo no way back";
    let output = place.output(&["sandbox", "unshare", "-Urm", "sh", "-c", try_all]);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    if is_root() {
        // Root without capabilities may not even be root in a namespace of its own (user_namespaces(7)).
        assert!(!output.status.success() && err.contains("Operation not permitted"), "{out}{err}");
        return;
    }
    for refused in ["no link", "no flush", "no unmount", "covered", "no way back"] {
        assert!(out.contains(refused), "{refused}: {out}{err}");
    }
}

#[test]
fn status_signals_streams_and_directory_pass_through() {
    let place = Place::new();
    assert_eq!(place.output(&["sandbox", "sh", "-c", "exit 7"]).status.code(), Some(7));
    assert_eq!(place.output(&["sandbox", "sh", "-c", "kill -TERM $$"]).status.code(), Some(143));
    assert!(place.fails(127, &["sandbox", "no-such-command"]).contains("cannot run `no-such-command`: not found"));
    assert!(place.fails(126, &["sandbox", "/etc/passwd"]).contains("cannot run `/etc/passwd`"));
    let output = place.command(&["sandbox", "pwd"]).current_dir("/usr").output().unwrap();
    assert_eq!(text(&output.stdout), "/usr\n");
    assert_eq!(place.hop(&["sandbox", "-C", "/var", "pwd"]), "/var\n");
    let file = place.path().join("made");
    place.hop(&["sandbox", "touch", file.to_str().unwrap()]);
    assert!(file.exists(), "files are the user's");
    // A signal to hop is one to the command.
    let mut child = place
        .command(&["sandbox", "sh", "-c", "trap 'echo caught; exit 3' TERM; echo ready; while :; do sleep 0.1; done"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child = ready(child);
    let pid = i32::try_from(child.id()).unwrap();
    assert!(Command::new("kill").args(["-TERM", &pid.to_string()]).status().unwrap().success());
    assert_eq!(child.wait_with_output().map(|output| output.status.code()).unwrap(), Some(3));
}

#[test]
fn the_terminals_signals_end_the_command_and_not_the_relay() {
    let place = Place::new();
    let mut command = place.command(&[
        "sandbox",
        "--record",
        // In the background of a script it is ignored, and then no shell may trap it.
        "env",
        "--default-signal=INT",
        "sh",
        "-c",
        "trap 'exit 9' INT; echo ready; while :; do sleep 0.1; done",
    ]);
    // A process group of its own stands for the one in the foreground.
    let child = ready(command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    let group = format!("-{}", child.id());
    assert!(Command::new("kill").args(["-INT", "--", &group]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(9), "{}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "it tried to reach nothing\n");
}

#[test]
fn whoever_is_killed_leaves_nothing() {
    let lab = Lab::new();
    let marker = unique("marker");
    let running = || {
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
            let path = entry.path();
            let line = std::fs::read(path.join("cmdline")).unwrap_or_default();
            let is_zombie =
                std::fs::read_to_string(path.join("status")).is_ok_and(|status| status.contains("\nState:\tZ"));
            if text(&line).contains(&marker) && !is_zombie {
                found.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        found
    };
    // hop itself, and the first process of the sandbox.
    for whom in ["hop", "init"] {
        let script = format!("echo ready; : {marker}; sleep 1000 & setsid sleep 1000 & wait");
        let mut command = lab.place.command(&["sandbox", "--net", &format!("{}/home", lab.name)]);
        command.args(["--allow", "any", "--publish", "8081", "--", "sh", "-c", &script]).stdout(Stdio::piped());
        let mut child = ready(command.spawn().unwrap());
        assert!(running().len() >= 3, "hop, its agents, the first process, the shell");
        let own = child.id();
        // The command may say so before hop has heard that it runs. Then there is a relay.
        wait_until("hop relays", || {
            let tasks = std::fs::read_dir(format!("/proc/{own}/task")).unwrap().filter_map(Result::ok);
            let mut names = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
            names.any(|name| name == "hop-relay\n")
        });
        let victim = if whom == "hop" {
            own.to_string()
        } else {
            let children = std::fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap();
            let name = |pid: &&str| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
            children.split_whitespace().find(|pid| name(pid) == "hop-sandbox\n").unwrap().to_owned()
        };
        assert!(Command::new("kill").args(["-9", &victim]).status().unwrap().success());
        let status = child.wait().unwrap();
        if whom == "init" {
            assert_eq!(status.code(), Some(137));
        }
        wait_until("all of the sandbox has ended", || running().is_empty());
        // The port is free again.
        wait_until("nobody listens", || lab.inside("home", || TcpStream::connect("127.0.0.1:8081").is_err()));
    }
}

#[test]
fn a_machine_without_programs_has_sandboxes() {
    let place = Place::new();
    let mut view = Command::new("unshare");
    view.args(if is_root() { &["-m"][..] } else { &["-rm"][..] });
    // What `true` is there cannot be started.
    let script = "for file in /bin/true /usr/bin/true; do mount --bind /dev/null $file; done; exec \"$0\" doctor";
    let doctor = view.args(["sh", "-ec", script, env!("CARGO_BIN_EXE_hop")]).env("HOPYARD_DIR", place.records());
    let said = text(&doctor.output().unwrap().stdout);
    for subject in ["exec", "sandbox"] {
        assert!(said.lines().any(|line| line.starts_with(&format!("good     {subject} "))), "{said}");
    }
}

#[test]
fn settings_that_cannot_be_written_are_told_with_their_way_out() {
    let place = Place::new();
    let mut view = Command::new("unshare");
    view.args(if is_root() { &["-m"][..] } else { &["-rm"][..] });
    let script = "mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys
        for what in 'sandbox' 'sandbox --allow any'; do \"$0\" $what true; done";
    view.args(["sh", "-c", script, env!("CARGO_BIN_EXE_hop")]).env("HOPYARD_DIR", place.records());
    let said = text(&view.output().unwrap().stderr);
    assert_eq!(
        said.matches("Read-only file system (EROFS)\nhint: /proc/sys is mounted read-only").count(),
        2,
        "{said}"
    );
}

#[test]
fn a_sandbox_ends_with_the_lab_that_is_outside() {
    let lab = Lab::new();
    let mut command = lab.place.command(&["sandbox", "--net", &format!("{}/home", lab.name), "--allow", "any"]);
    command.args(["--", "sh", "-c", "echo ready; sleep 1000"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = ready(command.spawn().unwrap());
    lab.place.hop(&["down", &lab.name]);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("went down, and the sandbox with it"), "{}", text(&output.stderr));
}

#[test]
fn a_named_namespace_is_outside() {
    if !is_root() {
        let place = Place::new();
        let said = place.fails(1, &["sandbox", "--net", "nosuch", "--allow", "any", "true"]);
        assert!(said.contains("root"), "{said}");
        return;
    }
    let lab = Lab::new();
    let server = lab.tcp_server(lab.addresses("far")[0]).to_string();
    let net = format!("{}.home", lab.name);
    let args = ["sandbox", "--net", &net, "--allow", &server].map(str::to_owned);
    assert_eq!(said(&acting(&lab.place, &args, &["tcp", &server]).output().unwrap()), "heard hello");
}

#[test]
fn what_cannot_be_is_said_before_anything_runs() {
    let place = Place::new();
    for (args, part) in [
        (&["--allow", "https://example.org/", "true"][..], "is a URL"),
        (&["--allow", "localhost:80", "true"], "own loopback"),
        (&["--allow", "10.0.0.0/8:x", "true"], "`x` is no port"),
        (&["--publish", "x", "true"], "`x` is no port"),
        (&["--net", "none", "--allow", "any", "true"], "has nothing outside"),
        (&["--net", "no such", "true"], if is_root() { "there is no namespace `no such`" } else { "only root can" }),
        (&["--net", "nosuch", "true"], "is written LAB/NODE"),
        (&["--net", "nosuch/home", "true"], "no lab `nosuch` is running"),
        (&["--net", "a/../b", "true"], "invalid"),
        (&[], "required"),
    ] {
        let args: Vec<&str> = ["sandbox"].iter().chain(args).copied().collect();
        let output = place.output(&args);
        // That a namespace is root's is no mistake in the line.
        let status = if text(&output.stderr).contains("only root can") { 1 } else { 2 };
        assert_eq!(output.status.code(), Some(status), "{args:?}: {}", text(&output.stderr));
        let said = text(&output.stderr);
        assert!(said.contains(part) || part == "invalid", "{args:?}: {said}");
    }
}

#[test]
fn what_a_program_has_by_its_file_is_no_right_in_here() {
    let place = Place::new();
    // Root makes such a program; an ordinary user has ping, where the machine has it like that.
    let (program, arguments) = if is_root() {
        let copy = place.path().join("capable");
        std::fs::copy("/bin/grep", &copy).unwrap();
        let set = Command::new("setcap").arg("cap_net_raw=ep").arg(&copy).status();
        assert!(set.is_ok_and(|status| status.success()), "setcap, of libcap2-bin");
        (copy.to_str().unwrap().to_owned(), ["CapEff", "/proc/self/status"])
    } else {
        ("/usr/bin/ping".to_owned(), ["-c1", "127.0.0.1"])
    };
    let capabilities = Command::new("getcap").arg(&program).env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin").output();
    if !capabilities.is_ok_and(|output| text(&output.stdout).contains("cap_net_raw")) {
        println!("skipped: {program} has no file capabilities here");
        return;
    }
    let said = place.hop(&[&["sandbox", &program][..], &arguments].concat());
    assert!(said.contains("CapEff:\t0000000000000000") || said.contains(" 0% packet loss"), "{said}");
}

impl Lab {
    /// `ping` in a sandbox that has `home` outside: what it says, and what hop says beside that.
    fn ping(&self, options: &[&str], arguments: &[&str]) -> (String, String) {
        let net = format!("{}/home", self.name);
        let args = [&["sandbox", "--net", &net], options, &["--", "ping", "-W5"], arguments].concat();
        let output = self.place.output(&args);
        (text(&output.stdout), text(&output.stderr))
    }
}

/// How many echoes ping has had. A busy machine may lose one.
fn received(said: &str) -> u32 {
    let line = said.lines().find_map(|line| line.split_once(" packets transmitted, ")).unwrap_or_default().1;
    line.split_once(' ').unwrap_or_default().0.parse().unwrap_or_else(|_| panic!("{said}"))
}

#[test]
fn ping_passes_where_no_port_is_named() {
    let lab = Lab::new();
    // Without `multi on` in host.conf(5) a name has the first of its addresses alone.
    let named = lab.place.hop(&["exec", "home", "getent", "ahosts", "far"]);
    for addr in lab.addresses("far") {
        let to = addr.to_string();
        let net = network(addr, 24, 64);
        let by_name = if named.contains(&to) { "far" } else { &to };
        for allow in [&to, &net, "any", by_name, &format!("{to}/icmp")] {
            let (said, _) = lab.ping(&["--allow", allow], &["-c3", "-i0.2", &to]);
            assert!(received(&said) >= 1, "{allow}: {said}");
            // Of the far end's 64 one router has taken one.
            assert!(said.contains(" ttl=63 "), "{said}");
        }
        for options in [&[][..], &["--allow", &format!("[{to}]:80")], &["--allow", "near"], &["--allow", "any/tcp"]] {
            let (said, _) = lab.ping(&[options, &["--record"]].concat(), &["-c1", &to]);
            assert_eq!(received(&said), 0, "{options:?}: {said}");
        }
        let (said, _) = lab.ping(&["--allow", "any", "--deny", &net], &["-c1", &to]);
        assert_eq!(received(&said), 0, "{said}");
    }
    let (said, _) = lab.ping(&["--allow", "far"], &["-c3", "-i0.2", "far"]);
    assert!(received(&said) >= 1, "{said}");
    // The loopback is the sandbox's own, also where nothing else is there.
    assert!(lab.place.hop(&["sandbox", "ping", "-c1", "127.0.0.1"]).contains("1 received"));
    assert!(lab.place.hop(&["sandbox", "ping", "-c1", "::1"]).contains("1 received"));
}

#[test]
fn ping_goes_out_by_whatever_socket_there_is() {
    let lab = Lab::new();
    let net = format!("{}/home", lab.name);
    let sockets = |table: &str| lab.place.hop(&["exec", "home", "cat", table]).lines().count() - 1;
    // A network that nobody has set up for it lets no group have the second kind.
    for (set_up, table) in [("true", "/proc/net/raw"), ("sysctl -qw net.ipv4.ping_group_range='0 0'", "/proc/net/icmp")]
    {
        lab.place.hop(&["exec", "home", "sh", "-c", set_up]);
        assert_eq!(sockets(table), 0);
        let args = ["sandbox", "--net", &net, "--allow", "far", "--", "ping", "-4", "-i0.2", "far"];
        let mut ping = lab.place.command(&args).stdout(Stdio::piped()).spawn().unwrap();
        let mut heard = Vec::new();
        while text(&heard).matches(" ttl=63 ").count() < 3 {
            let mut bytes = [0; 256];
            let length = ping.stdout.as_mut().unwrap().read(&mut bytes).unwrap();
            assert_ne!(length, 0, "{}", text(&heard));
            heard.extend(&bytes[..length]);
        }
        assert_eq!(sockets(table), 1, "{table}");
        ping.kill().unwrap();
        ping.wait().unwrap();
        wait_until("it has ended with hop", || sockets(table) == 0);
    }
}

#[test]
fn a_record_tells_of_ping_and_its_line_lets_it() {
    let lab = Lab::new();
    let (said, report) = lab.ping(&["--record"], &["-c2", "-i0.2", "far"]);
    assert!(said.contains("Packet filtered") && said.contains("0 received"), "{said}");
    // That ping asks by the way for the name of an address is no attempt to reach anything.
    let line = format!("hop sandbox --net {}/home --allow far/icmp -- ping -W5 -c2 -i0.2 far", lab.name);
    assert_eq!(report, format!("it tried to reach:\n  far/icmp  blocked 2 times\nto allow just that:\n  {line}\n"));
    let pasted = line.replacen("hop ", &format!("{} ", env!("CARGO_BIN_EXE_hop")), 1);
    let output = shell(&lab.place, &pasted).output().unwrap();
    assert!(received(&text(&output.stdout)) >= 1, "{}", text(&output.stdout));
    let (_, report) = lab.ping(&["--record", "--allow", "any"], &["-c3", "-i0.2", "far"]);
    assert!(report.contains("  far/icmp  answered\n"), "{report}");
    let (said, report) = lab.ping(&["--record", "--allow", "any"], &["-c1", "192.0.2.1"]);
    assert!(said.contains("Net Unreachable"), "{said}");
    assert!(report.contains("  192.0.2.1/icmp  unreachable outside\n"), "{report}");
}

#[test]
fn errors_on_the_way_come_back_to_ping() {
    let lab = Lab::new();
    let near: Vec<String> = lab.addresses("near").iter().map(ToString::to_string).collect();
    for addr in lab.addresses("far") {
        let to = addr.to_string();
        // The first router is asked to pass it on no further.
        let (said, _) = lab.ping(&["--allow", "any"], &["-n", "-c1", "-t1", &to]);
        let from = said.lines().find_map(|line| line.strip_prefix("From ")?.split_once(' ')).unwrap_or_default().0;
        assert!(near.iter().any(|near| near == from) && said.contains("exceeded"), "{said}");
        // As much as fits into a packet goes there and back in fragments, after the first has told the size.
        let (said, _) = lab.ping(&["--allow", "any"], &["-c5", "-i0.2", "-s60000", &to]);
        assert!(said.contains("mtu") && received(&said) >= 1, "{said}");
    }
}

/// Where the link behind the first router takes shorter packets than the one before.
fn narrow(lab: &Lab) {
    let far = lab.addresses("far")[0].to_string();
    let route = lab.place.hop(&["exec", "near", "ip", "route", "get", &far]);
    let dev = route.split_whitespace().skip_while(|&word| word != "dev").nth(1).unwrap();
    lab.place.hop(&["exec", "near", "ip", "link", "set", dev, "mtu", "1300"]);
}

#[test]
fn the_size_of_a_path_gets_in() {
    let lab = Lab::new();
    narrow(&lab);
    for addr in lab.addresses("far") {
        let to = addr.to_string();
        // First, for what `home` knows of the way it uses, and asks nobody. A program that minds the size of its
        // datagrams (IP_MTU_DISCOVER) is told.
        let server = lab.udp_server(addr).to_string();
        assert_eq!(lab.says(&["--allow", "any"], &["mtu", &server]), "1300, heard 1200");
        lab.place.hop(&["exec", "home", "sh", "-c", "ip route flush cache; ip -6 route flush cache"]);
        let (said, beside) = lab.ping(&["--allow", "any"], &["-Mdo", "-c2", "-i0.2", "-s1350", &to]);
        assert!(said.contains("mtu = 1300") || said.contains("mtu=1300"), "{said}{beside}");
        assert!(beside.contains("message too long"), "the second is not even sent: {said}{beside}");
        let (said, beside) = lab.ping(&["--allow", "any"], &["-Mdo", "-c3", "-i0.2", "-s1200", &to]);
        assert!(received(&said) >= 1, "{said}{beside}");
    }
}

#[test]
fn who_may_not_ping_outside_is_told_the_way_out() {
    if is_root() {
        println!("skipped: root may");
        return;
    }
    let place = Place::new();
    // A network in which nobody may, and no right to change that.
    let hop = env!("CARGO_BIN_EXE_hop");
    let script =
        format!("unshare -U --map-current-user -n {hop} sandbox --record --allow 192.0.2.1 -- ping -c1 -W5 192.0.2.1");
    let output = shell(&place, &script).output().unwrap();
    let said = text(&output.stderr);
    assert!(said.contains("192.0.2.1/icmp  not permitted outside"), "{said}");
    assert!(said.contains("warning: no ping was passed on") && said.contains("net.ipv4.ping_group_range"), "{said}");
}

#[test]
fn what_is_denied_stays_closed() {
    let lab = Lab::new();
    for (addr, forbidden) in lab.addresses("far").into_iter().zip(FORBIDDEN) {
        let (tcp, udp) = (lab.tcp_server(addr).to_string(), lab.udp_server(addr).to_string());
        let net = network(addr, 24, 64);
        let by_name = format!("far:{}", tcp.rsplit_once(':').unwrap().1);
        for allow in ["any", &tcp, &by_name] {
            assert_eq!(lab.says(&["--allow", allow], &["tcp", &tcp]), "heard hello");
            assert_eq!(lab.says(&["--allow", allow, "--deny", &net], &["tcp", &tcp]), forbidden);
        }
        assert_eq!(lab.says(&["--allow", "any", "--deny", "any/udp"], &["udp", &udp]), forbidden);
        assert_eq!(lab.says(&["--allow", "any", "--deny", "any/udp"], &["tcp", &tcp]), "heard hello");
        // Nobody is told to open what he has closed, and what he pastes keeps it closed.
        let record = |options: &[&str]| text(&lab.act(options, &["tcp", &tcp]).output().unwrap().stderr);
        let said = record(&["--record", "--deny", &net]);
        assert!(said.contains(&format!("  {tcp}/tcp  blocked\n")) && !said.contains("to allow just that"), "{said}");
        let said = record(&["--record", "--deny", "any/udp"]);
        let line = said.lines().last().unwrap();
        assert!(line.contains(&format!("{tcp}/tcp")) && line.contains(" --deny any/udp -- "), "{said}");
    }
}

#[test]
fn a_published_port_of_udp_leads_inside() {
    let lab = Lab::new();
    let home = lab.addresses("home");
    let ask = |node: &str, to: SocketAddr| lab.inside(node, || udp(&to.to_string(), b"hello"));
    // A server listens on either loopback.
    for inner in ["127.0.0.1", "::1"] {
        let publish = ["5353:53/udp", "0.0.0.0:5354:53/udp", "[::]:5354:53/udp", "5353:80"];
        let options: Vec<&str> = publish.iter().flat_map(|publish| ["--publish", publish]).collect();
        let inside = lab.act(&options, &["echo", inner, "53"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut inside = ready(inside.unwrap());
        // A client that goes on asking finds a server that is not there from the beginning.
        let early = lab.inside("home", || UdpSocket::bind("127.0.0.1:0").unwrap());
        early.connect("127.0.0.1:5353").unwrap();
        early.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let mut heard = [0; 64];
        early.send(b"early").unwrap();
        assert!(early.recv(&mut heard).is_err(), "nobody is there yet");
        drop(inside.stdin.take());
        wait_until("the server is there", || early.send(b"early").is_ok() && early.recv(&mut heard).is_ok());
        for loopback in ["127.0.0.1:5353", "[::1]:5353"] {
            assert_eq!(ask("home", loopback.parse().unwrap()).unwrap(), "inside heard hello");
        }
        for &addr in &home {
            // The client is connected, so an answer from another address would not be heard.
            assert_eq!(ask("far", (addr, 5354).into()).unwrap(), "inside heard hello");
            assert_eq!(ask("far", (addr, 5353).into()).unwrap_err().to_string(), REFUSED, "on the loopback alone");
        }
        // Many at once, each with its own answer.
        let right = lab.inside("far", || {
            let sockets: Vec<UdpSocket> = (0..200).map(|_| UdpSocket::bind(("0.0.0.0", 0)).unwrap()).collect();
            for (number, socket) in sockets.iter().enumerate() {
                socket.connect((home[0], 5354)).unwrap();
                socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
                socket.send(number.to_string().as_bytes()).unwrap();
            }
            let answer = |socket: &UdpSocket| {
                let mut heard = [0; 64];
                let length = socket.recv(&mut heard).unwrap();
                text(&heard[..length])
            };
            sockets.iter().enumerate().filter(|(at, socket)| answer(socket) == format!("inside heard {at}")).count()
        });
        assert_eq!(right, 200);
        // What is long is heard as well: on the loopback of IPv6 not the first time.
        let long = lab.inside("home", || UdpSocket::bind("127.0.0.1:0").unwrap());
        long.connect("127.0.0.1:5353").unwrap();
        long.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let mut whole = [0; 9000];
        wait_until("a long one is answered", || {
            long.send(&[b'x'; 5000]).is_ok() && long.recv(&mut whole).is_ok_and(|length| length > 5000)
        });
        // With hop the port goes, however that ends.
        inside.kill().unwrap();
        inside.wait().unwrap();
        wait_until("nobody listens", || {
            ask("home", "127.0.0.1:5353".parse().unwrap()).is_err_and(|error| error.to_string() == REFUSED)
        });
    }
}

#[test]
fn a_port_that_cannot_be_had_is_told_with_the_way_out() {
    let lab = Lab::new();
    let net = format!("{}/home", lab.name);
    let fails = |publish: &str| lab.place.fails(1, &["sandbox", "--net", &net, "--publish", publish, "true"]);
    let _taken = lab.inside("home", || UdpSocket::bind("127.0.0.1:5353").unwrap());
    let said = fails("5353:53/udp");
    assert!(said.contains("cannot listen on 127.0.0.1:5353/udp outside: Address already in use"), "{said}");
    assert!(said.contains("`--publish OTHER:PORT/udp`"), "{said}");
    // The same port of the other protocol is another one.
    lab.place.hop(&["sandbox", "--net", &net, "--publish", "5353:53", "true"]);
    assert!(fails("192.0.2.1:5353:53/udp").contains("has to be one of this host or node"));
    if !is_root() {
        let said = lab.place.fails(1, &["sandbox", "--publish", "53/udp", "true"]);
        assert!(said.contains("Permission denied") && said.contains("`--publish 8053:PORT/udp`"), "{said}");
    }
}
