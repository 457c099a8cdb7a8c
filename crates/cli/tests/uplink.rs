//! A node's way out of its lab. A lab of this test plays "the host and its internet"; `hop` runs in a node of it.
//!
//! ```text
//!   lab (inner)              lab (outer, this test's)
//!   far -- near -- gate ═══ host ──────── internet
//!                  uplink   192.168.77.2  192.168.77.1, 203.0.113.80
//!                        2001:db8:77::2  2001:db8:77::1, 2001:db8:80::80, where it has IPv6
//! ```
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test says what is wrong by failing")]

mod common;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use common::{text, unique};
use hopyard::Network;

const HOST: &str = "\
nodes:
  host: { forward: false }
  internet: { loopback: 203.0.113.80/32 }
links:
  - { endpoints: [host:wan, internet], ipv4: [192.168.77.2/24, 192.168.77.1/24], ipv6: none }
";

const HOST_OF_BOTH: &str = "\
nodes:
  host: { forward: false }
  internet: { loopback: [203.0.113.80/32, 2001:db8:80::80/128] }
links:
  - endpoints: [host:wan, internet]
    ipv4: [192.168.77.2/24, 192.168.77.1/24]
    ipv6: [2001:db8:77::2/64, 2001:db8:77::1/64]
";

const HOST_OF_IPV6: &str = "\
nodes:
  host: { forward: false, loopback: none }
  internet: { loopback: 2001:db8:80::80/128 }
links:
  - { endpoints: [host:wan, internet], ipv4: none, ipv6: [2001:db8:77::2/64, 2001:db8:77::1/64] }
";

/// Who the lab is outside, and whom it asks there.
const INTERNET: [(&str, &str); 2] = [("203.0.113.80", "192.168.77.2"), ("2001:db8:80::80", "2001:db8:77::2")];

const LAB: &str = "\
name: NAME
nodes:
  far:
  near:
  gate: { uplink: true }
links:
  - far -- near -- gate
";

const PATIENCE: Duration = Duration::from_secs(10);

/// How timeout(1) ends.
const TIMED_OUT: &str = "exit status: 124";

/// A machine with an internet, and the records of the labs that run on it.
struct Machine {
    net: Network,
    dir: tempfile::TempDir,
    /// A shell of a user who may nothing, who runs `hop`. One for all commands, for a lab belongs to the user
    /// namespace that it came from.
    user: Option<Mutex<Child>>,
}

impl Machine {
    fn new() -> Machine {
        Machine::of(HOST)
    }

    fn of(topology: &str) -> Machine {
        let net = Network::start(topology).unwrap();
        let machine = Machine { net, dir: tempfile::tempdir().unwrap(), user: None };
        assert!(machine.on("host", "echo 'nameserver 203.0.113.80' > /etc/resolv.conf").status.success());
        machine
    }

    fn of_ordinary_user() -> Machine {
        Machine::new().for_ordinary_user()
    }

    fn for_ordinary_user(mut self) -> Machine {
        let machine = &mut self;
        let mut shell = machine.net.node("host").unwrap().command("unshare");
        shell.args(["--user", "--map-user=1000", "--map-group=1000", "sh"]).stdin(Stdio::piped());
        machine.user = Some(Mutex::new(shell.spawn().unwrap()));
        self
    }

    fn on(&self, node: &str, script: &str) -> Output {
        self.net.node(node).unwrap().command("sh").args(["-c", script]).output().unwrap()
    }

    /// What a command on the host prints.
    fn host(&self, script: &str) -> String {
        text(&self.on("host", script).stdout)
    }

    fn output(&self, args: &[&str]) -> Output {
        self.output_with("", args)
    }

    /// With variables as a shell takes them.
    fn output_with(&self, variables: &str, args: &[&str]) -> Output {
        let hop = quote(env!("CARGO_BIN_EXE_hop"));
        let words: Vec<String> = args.iter().map(|arg| quote(arg)).collect();
        let records = self.dir.path().join("records");
        let line = format!("HOPYARD_DIR={} HOP_LAB= {variables} {hop} {}", records.display(), words.join(" "));
        let Some(shell) = &self.user else { return self.on("host", &line) };
        let mut shell = shell.lock().unwrap();
        let [out, err, status] = ["out", "err", "status"].map(|name| self.dir.path().join(name));
        let (out_name, err_name, done) = (out.display(), err.display(), status.display());
        let script = format!("{line} >{out_name} 2>{err_name} </dev/null; echo $? >{done}.new; mv {done}.new {done}\n");
        shell.stdin.as_mut().unwrap().write_all(script.as_bytes()).unwrap();
        let code = until(|| std::fs::read_to_string(&status).ok())
            .unwrap_or_else(|| panic!("{line} does not end: {}", std::fs::read_to_string(&err).unwrap_or_default()));
        std::fs::remove_file(&status).unwrap();
        let code: i32 = code.trim().parse().unwrap();
        let [stdout, stderr] = [out, err].map(|path| std::fs::read(path).unwrap());
        Output { status: std::process::ExitStatus::from_raw(code << 8), stdout, stderr }
    }

    fn hop(&self, args: &[&str]) -> String {
        let output = self.output(args);
        let all = text(&output.stdout) + &text(&output.stderr);
        assert!(output.status.success(), "hop {args:?}: {all}");
        all
    }

    fn file(&self, topology: &str) -> (String, String) {
        let name = unique("out");
        let path = self.dir.path().join(format!("{name}.hop.yaml"));
        std::fs::write(&path, topology.replace("NAME", &name)).unwrap();
        (name, path.display().to_string())
    }

    /// All that a lab may leave on the host.
    fn marks(&self) -> String {
        self.host(
            "ip -o link | sed 's/^[0-9]*: \\([^:@]*\\).*/\\1/'; ip -4 route; ip -6 route; ip -o -6 address; nft list ruleset; \
             sysctl -a 2>/dev/null | grep -E 'forward|redirects|accept_ra|disable_ipv6' | grep -v hop",
        )
    }

    /// Nothing is left: the host comes to what it was.
    fn assert_is_as(&self, before: &str) {
        assert!(until(|| (self.marks() == before).then_some(())).is_some(), "{before}\nnow\n{}", self.marks());
    }

    /// Whom a server of the internet sees when a node connects to it.
    fn seen_from(&self, lab: &str, node: &str) -> Result<IpAddr, String> {
        self.seen_at(INTERNET[0].0, lab, node)
    }

    /// The same, for a server at that address.
    fn seen_at(&self, server: &str, lab: &str, node: &str) -> Result<IpAddr, String> {
        let once = || {
            self.seen_by(server, |port| {
                let script = format!("exec 3<>/dev/tcp/{server}/{port} && read line <&3 && echo $line");
                self.output(&["exec", "-l", lab, node, "timeout", "5", "bash", "-c", &script])
            })
        };
        match once() {
            // On a busy machine `pasta` (of 2023) connects to the server and tells the node nothing: one connection of some
            // thousands, of either family, straight from its own node as well. It is asked once more.
            Err(why) if self.user.is_some() && why.starts_with(TIMED_OUT) => once(),
            seen => seen,
        }
    }

    /// Whom it sees when a command connects to its port, and prints what it says.
    fn seen_by(&self, server: &str, ask: impl FnOnce(u16) -> Output) -> Result<IpAddr, String> {
        let bind = || TcpListener::bind((server, 0));
        let listener = self.net.node("internet").unwrap().run(bind).unwrap().unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::scope(|scope| {
            let server = scope.spawn(move || {
                listener.set_nonblocking(true).unwrap();
                until(|| listener.accept().ok()).map(|(mut stream, peer)| {
                    stream.set_nonblocking(false).unwrap();
                    stream.write_all(b"hello\n").ok();
                    stream.shutdown(std::net::Shutdown::Write).ok();
                    stream.read_to_end(&mut Vec::new()).ok();
                    peer.ip()
                })
            });
            let asked = ask(port);
            let seen = server.join().unwrap();
            if text(&asked.stdout) == "hello\n" {
                seen.ok_or("nobody came".to_owned())
            } else {
                Err(format!("{}, {seen:?} came: {}", asked.status, text(&asked.stderr)))
            }
        })
    }

    /// All nodes get out by both families, under the host's addresses.
    #[track_caller]
    fn assert_out_by_both(&self, lab: &str, when: &str) {
        for (server, host) in INTERNET {
            for node in ["gate", "far"] {
                assert_eq!(self.seen_at(server, lab, node), Ok(host.parse().unwrap()), "{node} to {server}, {when}");
            }
        }
    }

    /// What `hop why` says, and its exit status.
    fn why(&self, lab: &str, from: &str, to: &str) -> (Option<i32>, String) {
        let output = self.output(&["why", "-l", lab, from, to]);
        (output.status.code(), text(&output.stdout) + &text(&output.stderr))
    }

    #[track_caller]
    fn assert_marks(&self, before: &str) {
        assert!(until(|| (self.marks() == before).then_some(())).is_some(), "{before}\nnow\n{}", self.marks());
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // One that was in the middle of a command will not answer.
        if !std::thread::panicking() {
            self.output(&["down", "--all"]);
        }
        // Its end of input ends it.
        self.user.take();
    }
}

/// As a shell takes it for one word.
fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn until<T>(mut found: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = found() {
            return Some(found);
        }
        if Instant::now() > deadline {
            return None;
        }
        std::thread::yield_now();
    }
}

/// Answers questions for a name with an address of IPv4 (RFC 1035).
fn serve_dns(socket: &UdpSocket, address: [u8; 4]) {
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut question = [0; 512];
    while let Ok((length, from)) = socket.recv_from(&mut question)
        && length > 12
    {
        let mut answer = question[..length].to_vec();
        // Of the question only the first part: what follows is EDNS.
        let end = 12 + question[12..length].iter().position(|byte| *byte == 0).unwrap() + 5;
        answer.truncate(end);
        let is_ipv4 = answer[end - 4..end - 2] == [0, 1];
        answer[2..12].copy_from_slice(&[0x84, 0, 0, 1, 0, u8::from(is_ipv4), 0, 0, 0, 0]);
        if is_ipv4 {
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
            answer.extend(address);
        }
        socket.send_to(&answer, from).unwrap();
    }
}

/// The name of a host of the internet, as a node of a lab finds it.
fn resolve(machine: &Machine, lab: &str) -> String {
    resolve_at(INTERNET[0].0, machine, lab)
}

/// The same, by a resolver at that address.
fn resolve_at(resolver: &str, machine: &Machine, lab: &str) -> String {
    let socket = machine.net.node("internet").unwrap().run(|| UdpSocket::bind((resolver, 53))).unwrap().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| serve_dns(&socket, [203, 0, 113, 80]));
        let found = machine.output(&["exec", "-l", lab, "far", "getent", "ahostsv4", "www.example"]);
        // What is no question ends it.
        let stop = || UdpSocket::bind((resolver, 0))?.send_to(b"", (resolver, 53));
        machine.net.node("internet").unwrap().run(stop).unwrap().unwrap();
        text(&found.stdout)
    })
}

fn keeper(machine: &Machine, lab: &str) -> String {
    let record = std::fs::read_to_string(machine.dir.path().join("records").join(lab).join("record.json")).unwrap();
    let (_, rest) = record.split_once("\"pid\":").unwrap();
    rest.chars().take_while(char::is_ascii_digit).collect()
}

#[test]
fn every_node_reaches_the_internet_by_the_hosts_address_and_nothing_is_left() {
    let machine = Machine::new();
    let before = machine.marks();
    assert!(before.contains("net.ipv4.ip_forward = 0"), "{before}");
    let (name, file) = machine.file(LAB);
    let plan = machine.hop(&["plan", &file]);
    for line in [
        "sysctl -w net.ipv4.ip_forward=1\n",
        " ct status ! dnat drop; }; }'\n",
        " type veth peer name uplink netns gate\n",
    ] {
        assert!(plan.contains(line), "no {line} in\n{plan}");
    }
    assert_eq!(machine.marks(), before, "a plan changes nothing");

    machine.hop(&["up", &file]);
    for node in ["gate", "near", "far"] {
        assert_eq!(machine.seen_from(&name, node), Ok("192.168.77.2".parse().unwrap()), "{node}");
    }
    assert!(resolve(&machine, &name).contains("203.0.113.80"));
    assert!(machine.hop(&["up", &file]).contains("is up already; nothing to change"));
    assert!(machine.hop(&["diff", "-l", &name]).contains("is as declared"));
    machine.hop(&["down", "--wait", &name]);
    machine.assert_is_as(&before);
}

#[test]
fn a_way_out_is_no_way_in() {
    let machine = Machine::of(HOST_OF_BOTH);
    let (name, file) = machine.file(LAB);
    machine.hop(&["up", &file]);
    let gate: Vec<String> = machine
        .hop(&[
            "exec",
            &format!("{name}/gate"),
            "--",
            "sh",
            "-c",
            "ip -o addr show dev uplink | grep -o '[^ ]*/[36][04]'",
        ])
        .lines()
        .filter_map(|net| net.split_once('/'))
        .filter(|(addr, _)| !addr.starts_with("fe80"))
        .map(|(addr, _)| addr.to_owned())
        .collect();
    assert_eq!(gate.len(), 2, "{gate:?}");
    // Somebody beside the host knows the way.
    let way = "ip route add 198.18.0.0/15 via 192.168.77.2; ip route add fd68:6f70:7570::/48 via 2001:db8:77::2";
    assert!(machine.on("internet", way).status.success());
    let reaches = |node: &str, addr: &str| machine.on(node, &format!("ping -c1 -W1 {addr}")).status.success();
    for addr in &gate {
        // First: it is there, and its address is no longer tried for duplicates.
        assert!(until(|| reaches("host", addr).then_some(())).is_some(), "{addr}");
        assert!(!reaches("internet", addr), "{addr}");
    }
    machine.assert_out_by_both(&name, "though nobody gets in");
    // But where the host's administrator leads somebody in.
    let asked = || machine.hop(&["exec", &format!("{name}/gate"), "--", "nstat", "-asz", "IcmpInEchos"]);
    let before = asked();
    let publish = format!(
        "nft 'table ip in {{ chain p {{ type nat hook prerouting priority -100; ip daddr 192.168.77.2 dnat to {}; }}; }}'",
        gate[0]
    );
    assert!(machine.on("host", &publish).status.success());
    assert!(until(|| reaches("internet", "192.168.77.2").then_some(())).is_some());
    assert_ne!(asked(), before, "the gate has answered, and not the host");
}

#[test]
fn what_the_host_had_comes_back_exactly_and_only_with_the_last_lab() {
    let machine = Machine::new();
    // Forwarding that somebody has chosen for one interface, and what switching it on and off resets.
    machine.host("sysctl -qw net.ipv4.conf.wan.forwarding=1 net.ipv4.conf.all.accept_redirects=0");
    let before = machine.marks();
    let [(one, first), (two, second)] = [machine.file(LAB), machine.file(LAB)];
    machine.hop(&["up", &first]);
    machine.hop(&["up", &second]);
    let nets: BTreeSet<String> =
        machine.host("ip -4 -o addr show | grep -o '198[^ ]*'").lines().map(str::to_owned).collect();
    assert_eq!(nets.len(), 2, "{nets:?}");
    machine.hop(&["down", &one]);
    assert_eq!(machine.seen_from(&two, "far"), Ok("192.168.77.2".parse().unwrap()));
    // The way out is taken away, and given again.
    let without = std::fs::read_to_string(&second).unwrap().replace("{ uplink: true }", "");
    std::fs::write(&second, &without).unwrap();
    machine.hop(&["up", &second]);
    machine.assert_is_as(&before);
    assert!(machine.seen_from(&two, "far").is_err());
    std::fs::write(&second, without.replace("gate:", "gate: { uplink: true }")).unwrap();
    assert!(machine.hop(&["up", &second]).contains("type veth peer name uplink netns gate"));
    assert_eq!(machine.seen_from(&two, "far"), Ok("192.168.77.2".parse().unwrap()));
    machine.hop(&["down", "--wait", &two]);
    machine.assert_is_as(&before);
}

#[test]
fn what_a_killed_up_has_told_the_host_goes_with_the_next_one_that_needs_no_way_out() {
    let machine = Machine::new();
    let before = machine.marks();
    let (name, file) = machine.file(LAB);
    machine.hop(&["up", &file]);
    // As it is when `up` is killed after the host was told to forward, and before a way out is made and on record.
    machine.hop(&["exec", &format!("{name}/gate"), "--", "ip", "link", "delete", "uplink"]);
    let record = machine.dir.path().join("records").join(&name).join("uplinks");
    std::fs::write(record, "[]").unwrap();
    let without = std::fs::read_to_string(&file).unwrap().replace("{ uplink: true }", "");
    std::fs::write(&file, without).unwrap();
    machine.hop(&["up", &file]);
    // Nor does the keeper hold the table that was made for it.
    machine.assert_is_as(&before);
    machine.hop(&["down", "--wait", &name]);
    machine.assert_is_as(&before);
}

#[test]
fn the_table_of_a_way_out_that_was_killed_goes_when_another_one_is_made() {
    let machine = Machine::new();
    let before = machine.marks();
    let (name, file) = machine.file(LAB);
    machine.hop(&["up", &file]);
    // As it is when `up` is killed after it has struck the old one off, or before it has written the new one down.
    machine.hop(&["exec", &format!("{name}/gate"), "--", "ip", "link", "delete", "uplink"]);
    std::fs::write(machine.dir.path().join("records").join(&name).join("uplinks"), "[]").unwrap();
    machine.hop(&["up", &file]);
    let tables = || machine.host("nft list tables | grep -c 'inet hop'");
    assert!(until(|| (tables() == "1\n").then_some(())).is_some(), "{}", machine.host("nft list ruleset"));
    assert_eq!(machine.seen_from(&name, "far"), Ok("192.168.77.2".parse().unwrap()));
    machine.hop(&["down", "--wait", &name]);
    machine.assert_is_as(&before);
}

#[test]
fn a_keeper_that_is_killed_leaves_nothing_but_settings_which_the_next_command_sets_back() {
    let machine = Machine::new();
    let before = machine.marks();
    let (name, file) = machine.file(LAB);
    machine.hop(&["up", &file]);
    let pid: i32 = keeper(&machine, &name).parse().unwrap();
    // By its number in the outer lab, in which the commands run.
    assert!(machine.on("host", &format!("kill -9 {pid}")).status.success());
    let gone = || (!machine.host("nft list ruleset; ip link").contains("hop")).then_some(());
    assert!(until(gone).is_some(), "{}", machine.marks());
    assert!(machine.marks().contains("net.ipv4.ip_forward = 1"));
    machine.hop(&["ls"]);
    assert_eq!(machine.marks(), before);
}

/// Has the kernel handles by which a network that has ended is known (Linux 6.18)?
fn kernel_has_handles() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let numbers: Vec<u32> = release.split(['.', '-']).map_while(|word| word.parse().ok()).take(2).collect();
    numbers >= vec![6, 18]
}

#[test]
fn the_record_of_a_host_that_is_no_more_goes_with_the_next_lab() {
    if !kernel_has_handles() {
        println!("skipped: before Linux 6.18 it cannot be known");
        return;
    }
    let machine = Machine::new();
    let [(_, first), (name, second)] = [machine.file(LAB), machine.file(LAB)];
    let dir = machine.dir.path().display();
    let hop = format!("HOPYARD_DIR={dir}/records HOP_LAB= '{}'", env!("CARGO_BIN_EXE_hop"));
    // A host within: its lab is killed, and it has no command of its own after that.
    let within = format!(
        "{hop} up --quiet {first} 2>/dev/null && kill -9 $({hop} ls --json | sed -n 's/.*\"keeper\": \\([0-9]*\\),/\\1/p')"
    );
    let script = format!(
        "records() {{ ls /run | grep -c 'hopyard-uplink-.*json$'; }}
         mount -t tmpfs none /run && unshare -n sh -c {} || exit 1
         records
         # The kernel ends a network in the background: some lab's turn comes after that.
         for round in $(seq 100); do
             {hop} up {second} >/dev/null || exit 2
             n=$(records)
             {hop} down --wait {name} >/dev/null || exit 3
             [ $n != 1 ] || break
             sleep 0.1
         done
         echo $n; ls /run | grep hopyard-uplink && exit 4; echo none",
        quote(&within)
    );
    let output = machine.on("host", &format!("unshare -m sh -c {} 2>&1", quote(&script)));
    assert_eq!(text(&output.stdout), "1\n1\nnone\n", "{}", output.status);
}

#[test]
fn a_record_of_the_host_that_is_empty_is_told_and_never_taken_for_nothing() {
    let machine = Machine::new();
    let before = machine.marks();
    // Its own /run, so that the record is found by its name.
    let [(name, first), (_, second)] = [machine.file(LAB), machine.file(LAB)];
    let dir = machine.dir.path().display();
    let hop = format!("HOPYARD_DIR={dir}/records HOP_LAB= '{}'", env!("CARGO_BIN_EXE_hop"));
    let script = format!(
        "mount -t tmpfs none /run && {hop} up {first} && cp /run/hopyard-uplink-*.json {dir}/saved || exit 1
         : > $(echo /run/hopyard-uplink-*.json)
         {hop} up {second} && exit 2
         cat {dir}/saved > $(echo /run/hopyard-uplink-*.json)
         {hop} down --wait {name} || exit 3; ls /run | grep hopyard-uplink && exit 4; echo settled"
    );
    let output = machine.on("host", &format!("unshare -m sh -c {} 2>&1", quote(&script)));
    let said = text(&output.stdout);
    assert!(said.contains("cannot be read: it is empty"), "{said}");
    assert!(said.contains("sysctl -w net.ipv4.ip_forward=0"), "{said}");
    assert!(said.contains("settled"), "{said}");
    machine.assert_is_as(&before);
}

#[test]
fn a_full_disk_leaves_the_record_of_the_host_as_it_was() {
    let machine = Machine::new();
    let before = machine.marks();
    let [(name, first), (_, second)] = [machine.file(LAB), machine.file(LAB)];
    let dir = machine.dir.path().display();
    let hop = format!("HOPYARD_DIR={dir}/records HOP_LAB= '{}'", env!("CARGO_BIN_EXE_hop"));
    let script = format!(
        "mount -t tmpfs -o size=64k none /run && {hop} up {first} && cp /run/hopyard-uplink-*.json {dir}/saved || exit 1
         cat /dev/zero > /run/full 2>/dev/null
         {hop} up {second} && exit 2
         cmp /run/hopyard-uplink-*.json {dir}/saved || exit 3
         {hop} down --wait {name} || exit 4
         ls /run | grep hopyard && exit 5
         echo settled"
    );
    let output = machine.on("host", &format!("unshare -m sh -c {} 2>&1", quote(&script)));
    let said = text(&output.stdout);
    assert!(said.contains("settled") && said.contains("No space left"), "{said}");
    machine.assert_is_as(&before);
}

/// What `hop diff` counts, and then `hop up` does.
fn repair(machine: &Machine, name: &str, file: &str, broken: &str) -> String {
    let difference = machine.output(&["diff", "-l", name]);
    assert_eq!(difference.status.code(), Some(1), "{broken}: {}", text(&difference.stderr));
    let steps = text(&difference.stdout);
    let done = machine.hop(&["up", "--verbose", file]);
    let count = steps.lines().count();
    let said = format!(" {count} step{}, in", if count == 1 { "" } else { "s" });
    assert!(done.contains(&said), "{broken}: no{said} in\n{done}\n{steps}");
    assert_eq!(machine.seen_from(name, "far"), Ok("192.168.77.2".parse().unwrap()), "{broken}");
    assert!(machine.hop(&["diff", "-l", name]).contains("is as declared"), "{broken}");
    assert!(machine.hop(&["up", file]).contains("nothing to change"), "{broken}");
    steps
}

#[test]
fn an_uplink_that_was_changed_inside_is_repaired() {
    let machine = Machine::new();
    let before = machine.marks();
    let (name, file) = machine.file(LAB);
    machine.hop(&["up", &file]);
    for script in [
        "ip link set uplink down",
        "ip link delete uplink",
        "ip address flush dev uplink",
        "ip link set uplink down; ip link set uplink up",
        "ip address flush dev uplink; ip address add 198.19.255.254/30 dev uplink; ip route add default dev uplink",
    ] {
        machine.hop(&["exec", "-l", &name, "gate", "sh", "-c", script]);
        repair(&machine, &name, &file, script);
        let tables = machine.host("nft list tables");
        assert_eq!(tables.lines().filter(|line| line.contains("hop")).count(), 1, "{script}: {tables}");
    }
    // One that is not wanted any more goes, though it is not whole.
    machine.hop(&["exec", "-l", &name, "gate", "ip", "link", "set", "uplink", "down"]);
    std::fs::write(&file, std::fs::read_to_string(&file).unwrap().replace("{ uplink: true }", "")).unwrap();
    assert!(machine.hop(&["up", &file]).contains("ip -n gate link delete dev uplink"));
    machine.assert_is_as(&before);
}

#[test]
fn what_the_host_has_lost_of_an_uplink_is_a_difference_and_comes_back() {
    let machine = Machine::new();
    let before = machine.marks();
    let (name, file) = machine.file(LAB);
    machine.hop(&["up", &file]);
    let dev = "$(ip -o link | grep -o 'hop[0-9a-f]*' | head -n 1)";
    for script in [
        "sysctl -qw net.ipv4.ip_forward=0".to_owned(),
        format!("ip link set {dev} down"),
        format!("ip address flush dev {dev}"),
        format!("ip link delete {dev}"),
    ] {
        assert!(machine.on("host", &script).status.success(), "{script}");
        let steps = repair(&machine, &name, &file, &script);
        assert_eq!(steps == "sysctl -w net.ipv4.ip_forward=1\n", script.starts_with("sysctl"), "{script}: {steps}");
    }
    machine.hop(&["down", "--wait", &name]);
    machine.assert_is_as(&before);
    // A host that forwarded before, and was told not to since: that is what comes back.
    machine.host("sysctl -qw net.ipv4.ip_forward=1");
    machine.hop(&["up", &file]);
    machine.host("sysctl -qw net.ipv4.ip_forward=0");
    repair(&machine, &name, &file, "forwarding that was on");
    machine.hop(&["down", "--wait", &name]);
    assert_eq!(machine.host("sysctl -n net.ipv4.ip_forward"), "0\n");
}

#[test]
fn a_firewall_that_came_later_is_named_by_diff_and_up() {
    let machine = Machine::new();
    let (name, file) = machine.file(LAB);
    machine.hop(&["up", &file]);
    machine.host("nft 'table ip filter { chain FORWARD { type filter hook forward priority 0; policy drop; }; }'");
    for args in [["diff", "-l", &name].as_slice(), &["up", &file]] {
        let said = machine.hop(args);
        assert!(said.contains("chain ip filter FORWARD has the policy `drop`"), "{args:?}: {said}");
    }
    // Who has let it through need not read it again.
    machine.host(
        "dev=$(ip -o link | grep -o 'hop[0-9a-f]*' | head -n 1); nft add rule ip filter FORWARD iifname $dev accept; \
         nft add rule ip filter FORWARD oifname $dev accept",
    );
    assert_eq!(machine.seen_from(&name, "far"), Ok("192.168.77.2".parse().unwrap()));
    let said = machine.hop(&["diff", "-l", &name]);
    assert!(said.contains("is as declared") && !said.contains("policy"), "{said}");
}

#[test]
fn a_firewall_that_drops_what_is_forwarded_is_named() {
    let machine = Machine::new();
    machine.host("nft 'table ip filter { chain FORWARD { type filter hook forward priority 0; policy drop; }; chain DOCKER-USER { }; }'");
    let (name, file) = machine.file(LAB);
    let said = machine.hop(&["up", &file]);
    assert!(said.contains("chain ip filter FORWARD has the policy `drop`"), "{said}");
    assert!(said.contains("iptables -I DOCKER-USER -i hop"), "{said}");
    assert!(machine.seen_from(&name, "far").is_err());
}

#[test]
fn a_firewall_that_ends_in_a_refusal_is_named() {
    let machine = Machine::new();
    let (name, file) = machine.file(LAB);
    // As firewalld has it; and what `iptables -A FORWARD -j REJECT` becomes.
    for (chain, word) in [
        (
            "inet firewalld { chain filter_FORWARD { type filter hook forward priority 10; ct state established accept; reject with icmpx admin-prohibited; }; }",
            "rejects",
        ),
        (
            "ip filter { chain FORWARD { type filter hook forward priority 0; ct state established accept; counter drop; }; }",
            "drops",
        ),
    ] {
        machine.host(&format!("nft 'table {chain}'"));
        let said = machine.hop(&["up", &file]);
        let named = chain.split([' ', '{']).filter(|part| !part.is_empty()).collect::<Vec<_>>();
        let named = format!("chain {} {} {} {word} the rest", named[0], named[1], named[3]);
        assert!(said.contains(&named), "{named}: {said}");
        assert!(word == "drops" || machine.seen_from(&name, "far").is_err());
        machine.host("dev=$(ip -o link | grep -o 'hop[0-9a-f]*' | head -n 1); nft insert rule inet firewalld filter_FORWARD iifname $dev accept");
        let said = machine.hop(&["diff", "-l", &name]);
        assert_eq!(said.contains("the rest"), word == "drops", "{said}");
        machine.host("nft delete table inet firewalld; nft delete table ip filter");
    }
    assert_eq!(machine.seen_from(&name, "far"), Ok("192.168.77.2".parse().unwrap()));
}

#[test]
fn a_resolver_that_meets_another_host_in_the_lab_is_none() {
    let machine = Machine::new();
    machine.host("printf 'nameserver 192.168.77.1\\nnameserver 203.0.113.80\\n' >/etc/resolv.conf");
    // As with the router at home, and a lab that has the network of the home.
    let inside =
        LAB.replace("far -- near -- gate", "{ endpoints: [far, gate], ipv4: [192.168.77.1/24, 192.168.77.5/24] }");
    let (name, file) = machine.file(&inside.replace("  near:\n", ""));
    assert!(!machine.hop(&["up", &file]).contains("warning"));
    let asked = || machine.hop(&["exec", "-l", &name, "far", "--", "grep", "nameserver", "/etc/resolv.conf"]);
    assert_eq!(asked(), "nameserver 203.0.113.80\n");
    assert!(resolve(&machine, &name).contains("203.0.113.80"));
    machine.hop(&["down", &name]);
    machine.host("echo 'nameserver 192.168.77.1' >/etc/resolv.conf");
    let said = machine.hop(&["up", &file]);
    assert!(
        said.contains("names no resolver that the lab can reach") && said.contains("in a network that the lab has"),
        "{said}"
    );
}

#[test]
fn addresses_of_the_host_are_avoided() {
    let machine = Machine::new();
    let (_, file) = machine.file(LAB);
    let net =
        |plan: &str| plan.lines().find_map(|line| line.split_once("ip saddr ")?.1.split(' ').next().map(str::to_owned));
    let chosen = net(&machine.hop(&["plan", &file])).unwrap();
    machine.host(&format!("ip route add {chosen} via 192.168.77.1"));
    let other = net(&machine.hop(&["plan", &file])).unwrap();
    assert_ne!(chosen, other);
}

/// May somebody without rights make an interface here?
fn tun() -> bool {
    let usable = std::fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun").is_ok();
    let pasta = Command::new("pasta").arg("--version").output().is_ok();
    assert!(
        usable && pasta || std::env::var_os("REQUIRE_LABS").is_none(),
        "no pasta, or /dev/net/tun cannot be opened"
    );
    if !usable || !pasta {
        println!("skipped: no pasta, or /dev/net/tun cannot be opened");
    }
    usable && pasta
}

#[test]
fn an_ordinary_user_has_a_way_out_by_pasta() {
    if !tun() {
        return;
    }
    let machine = Machine::of_ordinary_user();
    let before = machine.marks();
    let (name, file) = machine.file(LAB);
    machine.hop(&["up", &file]);
    for node in ["gate", "far"] {
        assert_eq!(machine.seen_from(&name, node), Ok("192.168.77.2".parse().unwrap()), "{node}");
    }
    assert!(resolve(&machine, &name).contains("203.0.113.80"));
    assert_eq!(machine.marks(), before, "nothing of the host is changed");
    assert!(machine.hop(&["up", &file]).contains("is up already; nothing to change"));

    // It ends with its interface, and comes back with the next `up`.
    machine.hop(&["exec", "-l", &name, "gate", "ip", "link", "delete", "uplink"]);
    let difference = machine.output(&["diff", "-l", &name]);
    assert!(text(&difference.stdout).starts_with("pasta --config-net"), "{}", text(&difference.stdout));
    machine.hop(&["up", &file]);
    assert_eq!(machine.seen_from(&name, "far"), Ok("192.168.77.2".parse().unwrap()));

    // It is a process of the lab, and ends with it.
    let running = || machine.host("ps ax -o comm").lines().filter(|line| line.starts_with("pas")).count();
    assert!(until(|| (running() == 1).then_some(())).is_some(), "the first one has ended, or will");
    let pid = keeper(&machine, &name);
    machine.on("host", &format!("kill -9 {pid}"));
    assert!(until(|| (running() == 0).then_some(())).is_some());
}

#[test]
fn without_the_program_an_ordinary_user_is_told_what_to_install() {
    let machine = Machine::of_ordinary_user();
    let (_, file) = machine.file(LAB);
    let output = machine.output_with("PATH=/nowhere", &["up", &file]);
    let said = text(&output.stderr);
    assert!(!output.status.success());
    assert!(said.contains("needs the program `pasta`") && said.contains("install the package `passt`"), "{said}");
    assert!(machine.hop(&["ls"]).contains("no lab is running"));
}

/// Has the kernel a switch by which single interfaces forward IPv6 (Linux 6.17)?
fn kernel_has_switch() -> bool {
    let has = std::path::Path::new("/proc/sys/net/ipv6/conf/all/force_forwarding").exists();
    if !has {
        println!("skipped: before Linux 6.17 a host forwards IPv6 by all interfaces or none");
    }
    has
}

#[test]
fn every_node_has_ipv6_outside_where_the_host_has_and_the_host_becomes_no_router() {
    if !kernel_has_switch() {
        return;
    }
    let machine = Machine::of(HOST_OF_BOTH);
    let before = machine.marks();
    for line in ["net.ipv6.conf.all.forwarding = 0\n", "net.ipv6.conf.wan.force_forwarding = 0\n"] {
        assert!(before.contains(line), "{before}");
    }
    let (name, file) = machine.file(LAB);
    let plan = machine.hop(&["plan", &file]);
    for line in [
        "sysctl -w net.ipv6.conf.wan.force_forwarding=1\n",
        "/30 masquerade; ip6 saddr fd68:6f70:7570:",
        "::/64 masquerade; }; chain forward",
        ".force_forwarding=1\n",
        ".accept_ra=0\n",
        "ip -n gate -6 route replace default via fd68:6f70:7570:",
    ] {
        assert!(plan.contains(line), "no {line} in\n{plan}");
    }
    assert_eq!(machine.marks(), before, "a plan changes nothing");

    let said = machine.hop(&["up", &file]);
    assert!(!said.contains("warning"), "{said}");
    machine.assert_out_by_both(&name, "after up");
    let now = machine.marks();
    for line in ["net.ipv6.conf.all.forwarding = 0\n", "net.ipv6.conf.wan.accept_ra = 1\n"] {
        assert!(before.contains(line) && now.contains(line), "{now}");
    }
    let of_lab = machine.host("sysctl -a 2>/dev/null | grep -E 'hop.*accept_ra '");
    assert!(of_lab.trim().ends_with(" = 0"), "{of_lab}");
    assert!(machine.hop(&["ping", "-l", &name, "far", "2001:db8:80::80"]).contains("far reaches 2001:db8:80::80"));
    for (server, _) in INTERNET {
        let (status, why) = machine.why(&name, "far", server);
        let said = "it leaves what is known, by gate:uplink, and is answered from beyond";
        assert!(status == Some(0) && why.contains(said), "{server}: {status:?} {why}");
        // Nobody has this one, so nobody says no either.
        let nobody = if server.contains(':') { "2001:db8:80::99" } else { "203.0.113.99" };
        let (status, why) = machine.why(&name, "far", nobody);
        assert!(
            status == Some(3) && why.contains("what is beyond, nobody here can tell"),
            "{nobody}: {status:?} {why}"
        );
    }
    let seen = machine.seen_by("2001:db8:80::80", |port| {
        let (net, open) = (format!("{name}/far"), format!("[2001:db8:80::80]:{port}"));
        let script = format!("exec 3<>/dev/tcp/2001:db8:80::80/{port} && read line <&3 && echo $line");
        machine.output(&["sandbox", "--net", &net, "--allow", &open, "--", "timeout", "5", "bash", "-c", &script])
    });
    assert_eq!(seen, Ok("2001:db8:77::2".parse().unwrap()), "a sandbox in the lab");

    assert!(machine.hop(&["up", &file]).contains("is up already; nothing to change"));
    assert!(machine.hop(&["diff", "-l", &name]).contains("is as declared"));
    machine.hop(&["down", "--wait", &name]);
    machine.assert_marks(&before);
}

#[test]
fn a_resolver_is_asked_by_ipv6() {
    if !kernel_has_switch() {
        return;
    }
    for is_root in [true, false] {
        if !is_root && !tun() {
            return;
        }
        let machine = Machine::of(HOST_OF_BOTH);
        let machine = if is_root { machine } else { machine.for_ordinary_user() };
        machine.host("echo 'nameserver 2001:db8:80::80' > /etc/resolv.conf");
        let (name, file) = machine.file(LAB);
        let said = machine.hop(&["up", &file]);
        assert!(!said.contains("warning"), "{said}");
        assert!(resolve_at("2001:db8:80::80", &machine, &name).contains("203.0.113.80"), "root: {is_root}");
    }
}

#[test]
fn switches_of_ipv6_come_back_with_the_last_lab_also_when_it_is_killed() {
    if !kernel_has_switch() {
        return;
    }
    let machine = Machine::of(HOST_OF_BOTH);
    // IPv4 is forwarded already, so of that nothing is on record.
    machine.host("sysctl -qw net.ipv4.ip_forward=1");
    machine.host("sysctl -qw net.ipv4.ip_forward=0");
    let with_ipv4_off = machine.marks();
    machine.host("sysctl -qw net.ipv4.ip_forward=1");
    let [(one, first), (two, second), (_, third)] = [machine.file(LAB), machine.file(LAB), machine.file(LAB)];
    let off = std::fs::read_to_string(&first).unwrap() + "addressing: { ipv6: none }\n";
    std::fs::write(&first, off).unwrap();
    let plan = machine.hop(&["plan", &first]);
    assert!(!plan.contains("force_forwarding") && !plan.contains("ip6 saddr"), "{plan}");
    machine.hop(&["up", &first]);
    assert_eq!(machine.seen_at("2001:db8:80::80", &one, "far").ok(), None);
    // The second lab is the first one that needs the switch, and IPv4 has been switched off meanwhile.
    machine.host("sysctl -qw net.ipv4.ip_forward=0");
    machine.hop(&["up", &second]);
    machine.assert_out_by_both(&two, "beside one without IPv6");
    machine.hop(&["up", &third]);
    let kill = |lab: &str| {
        assert!(machine.on("host", &format!("kill -9 {}", keeper(&machine, lab))).status.success());
    };
    machine.hop(&["down", &one]);
    kill(&two);
    machine.hop(&["ls"]);
    assert_eq!(machine.host("sysctl -n net.ipv6.conf.wan.force_forwarding"), "1\n", "the third one needs it");
    let third = std::path::Path::new(&third).file_name().unwrap().to_str().unwrap().replace(".hop.yaml", "");
    machine.assert_out_by_both(&third, "when another one was killed");
    kill(&third);
    assert!(until(|| (!machine.host("nft list ruleset; ip link").contains("hop")).then_some(())).is_some());
    assert_eq!(machine.host("sysctl -n net.ipv6.conf.wan.force_forwarding"), "1\n", "nobody was there to set it back");
    machine.hop(&["ls"]);
    machine.assert_marks(&with_ipv4_off);
}

#[test]
fn where_the_host_forwards_ipv6_nothing_of_it_is_told_to() {
    let machine = Machine::of(HOST_OF_BOTH);
    machine.host("sysctl -qw net.ipv6.conf.all.forwarding=1");
    let before = machine.marks();
    let (name, file) = machine.file(LAB);
    let plan = machine.hop(&["plan", &file]);
    assert!(plan.contains("ip6 saddr") && !plan.contains("force_forwarding"), "{plan}");
    machine.hop(&["up", &file]);
    machine.assert_out_by_both(&name, "after up");
    machine.hop(&["down", "--wait", &name]);
    machine.assert_marks(&before);
}

#[test]
fn a_kernel_without_the_switch_leads_out_by_ipv4_and_says_why_and_the_way_out() {
    let machine = Machine::of(HOST_OF_BOTH);
    let (name, file) = machine.file(LAB);
    let dir = machine.dir.path().display();
    let hop = format!("HOPYARD_DIR={dir}/records HOP_LAB= '{}'", env!("CARGO_BIN_EXE_hop"));
    // What a kernel of before 6.17 has of the interface: less.
    let hide = if kernel_has_switch() { "mount -t tmpfs none /proc/sys/net/ipv6/conf/wan &&" } else { "" };
    let script = format!("unshare -m sh -c {}", quote(&format!("{hide} {hop} up {file} && {hop} up {file}")));
    let output = machine.on("host", &script);
    let (said, warned) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success() && said.contains("nothing to change"), "{said}{warned}");
    assert!(warned.contains("the host has IPv6 and does not forward it"), "{warned}");
    assert!(warned.contains("accept_ra=2"), "{warned}");
    assert_eq!(machine.seen_from(&name, "far"), Ok("192.168.77.2".parse().unwrap()));
    let (status, why) = machine.why(&name, "far", "2001:db8:80::80");
    assert!(status == Some(1) && why.contains("gate has no route"), "{status:?} {why}");
    // A node is told at once, and does not wait for what will not come.
    let asked = machine.output(&[
        "exec",
        "-l",
        &name,
        "far",
        "timeout",
        "3",
        "bash",
        "-c",
        "exec 3<>/dev/tcp/2001:db8:80::80/9",
    ]);
    assert!(text(&asked.stderr).contains("unreachable"), "{}", text(&asked.stderr));

    // The way out that was named.
    machine.host("sysctl -qw net.ipv6.conf.all.forwarding=1");
    machine.hop(&["up", &file]);
    machine.assert_out_by_both(&name, "after what was said was done");
}

#[test]
fn a_host_without_ipv6_is_told_nothing_of_it() {
    let machine = Machine::new();
    let (_, file) = machine.file(LAB);
    let plan = machine.hop(&["plan", &file]);
    let said = machine.hop(&["up", &file]);
    assert!(!plan.contains("ip6 saddr") && !plan.contains("force_forwarding"), "{plan}");
    assert!(!said.contains("warning"), "{said}");
}

#[test]
fn a_host_that_leads_nowhere_is_told_of_and_leads_on_when_it_does() {
    let machine = Machine::new();
    let (name, file) = machine.file(LAB);
    let route = machine.host("ip route show default");
    assert!(machine.on("host", "ip route delete default").status.success());
    let said = machine.hop(&["up", &file]);
    assert!(said.contains("warning: the host has no route to the Internet"), "{said}");
    assert!(said.contains("ip route add default via ADDRESS"), "{said}");
    assert!(machine.on("host", &format!("ip route add {route}")).status.success());
    assert_eq!(machine.seen_from(&name, "far").unwrap().to_string(), INTERNET[0].1);
    assert!(!machine.hop(&["up", &file]).contains("warning"));
}

#[test]
fn what_is_lost_of_ipv6_is_a_difference_and_comes_back() {
    if !kernel_has_switch() {
        return;
    }
    let machine = Machine::of(HOST_OF_BOTH);
    let before = machine.marks();
    let (name, file) = machine.file(LAB);
    machine.hop(&["up", &file]);
    let dev = "$(ip -o link | grep -o 'hop[0-9a-f]*' | head -n 1)";
    let inside = ["ip -6 address flush dev uplink scope global", "ip -6 route delete default dev uplink"];
    for script in inside {
        machine.hop(&["exec", "-l", &name, "gate", "sh", "-c", script]);
        repair(&machine, &name, &file, script);
        machine.assert_out_by_both(&name, script);
    }
    let on_host = [
        "sysctl -qw net.ipv6.conf.wan.force_forwarding=0".to_owned(),
        // The kernel takes the switches of all interfaces back.
        "sysctl -qw net.ipv6.conf.all.forwarding=1 net.ipv6.conf.all.forwarding=0".to_owned(),
        format!("ip -6 address flush dev {dev} scope global"),
    ];
    for script in on_host {
        assert!(machine.on("host", &script).status.success(), "{script}");
        let steps = repair(&machine, &name, &file, &script);
        assert_eq!(!steps.contains("ip link"), script.starts_with("sysctl"), "{script}: {steps}");
        machine.assert_out_by_both(&name, &script);
    }
    // A host that has lost its own way may find it again; a lab keeps its own.
    let route = machine.host("ip -6 route show default");
    machine.host("ip -6 route flush default; ip -6 address flush dev wan scope global");
    assert!(machine.hop(&["up", &file]).contains("nothing to change"));
    machine.host(&format!("ip -6 address add 2001:db8:77::2/64 dev wan nodad; ip -6 route add {}", route.trim()));
    machine.assert_out_by_both(&name, "when the host has its route again");
    machine.hop(&["down", "--wait", &name]);
    machine.assert_marks(&before);
}

#[test]
fn a_host_that_has_got_ipv6_gives_it_to_its_labs() {
    if !kernel_has_switch() {
        return;
    }
    let machine = Machine::of(HOST_OF_BOTH);
    let route = machine.host("ip -6 route show default");
    machine.host("ip -6 route flush default; ip -6 address flush dev wan scope global");
    let (name, file) = machine.file(LAB);
    let said = machine.hop(&["up", &file]);
    assert!(!said.contains("warning"), "{said}");
    // As a router advertisement has it (proto ra), which is how most hosts get one.
    let address = "ip -6 address add 2001:db8:77::2/64 dev wan nodad";
    machine.host(&format!(
        "{address}; ip -6 route add {} proto ra expires 1000",
        route.replace("proto static", "").trim()
    ));
    assert!(machine.hop(&["up", &file]).contains("ip -n gate link delete dev uplink"));
    machine.assert_out_by_both(&name, "after a second up");
}

#[test]
fn a_firewall_of_ipv6_that_drops_what_is_forwarded_is_named() {
    let machine = Machine::of(HOST_OF_BOTH);
    machine.host("sysctl -qw net.ipv6.conf.all.forwarding=1");
    machine.host("nft 'table ip6 filter { chain FORWARD { type filter hook forward priority 0; policy drop; }; }'");
    let (name, file) = machine.file(LAB);
    let said = machine.hop(&["up", &file]);
    assert!(said.contains("chain ip6 filter FORWARD has the policy `drop`, so nothing of IPv6 may pass"), "{said}");
    assert_eq!(machine.seen_from(&name, "far"), Ok("192.168.77.2".parse().unwrap()));
    assert!(machine.seen_at("2001:db8:80::80", &name, "far").is_err());
    machine.host(
        "dev=$(ip -o link | grep -o 'hop[0-9a-f]*' | head -n 1); nft add rule ip6 filter FORWARD iifname $dev accept; \
         nft add rule ip6 filter FORWARD oifname $dev accept",
    );
    machine.assert_out_by_both(&name, "when it is let through");
    assert!(!machine.hop(&["up", &file]).contains("policy"));
}

#[test]
fn an_ordinary_user_has_ipv6_outside_by_pasta() {
    if !tun() {
        return;
    }
    let machine = Machine::of(HOST_OF_BOTH).for_ordinary_user();
    let before = machine.marks();
    let (name, file) = machine.file(LAB);
    machine.hop(&["up", &file]);
    machine.assert_out_by_both(&name, "after up");
    assert_eq!(machine.marks(), before, "nothing of the host is changed");
    assert!(machine.hop(&["up", &file]).contains("is up already; nothing to change"));
    assert!(machine.hop(&["diff", "-l", &name]).contains("is as declared"));
    machine.hop(&["exec", "-l", &name, "gate", "ip", "-6", "address", "flush", "dev", "uplink", "scope", "global"]);
    assert!(text(&machine.output(&["diff", "-l", &name]).stdout).contains("pasta --config-net"));
    machine.hop(&["up", &file]);
    machine.assert_out_by_both(&name, "after a second up");
}

#[test]
fn an_ordinary_user_of_a_host_with_ipv6_alone_has_that() {
    if !tun() {
        return;
    }
    let machine = Machine::of(HOST_OF_IPV6).for_ordinary_user();
    machine.host("echo 'nameserver 2001:db8:80::80' > /etc/resolv.conf");
    let (name, file) = machine.file(LAB);
    machine.hop(&["up", &file]);
    assert_eq!(machine.seen_at("2001:db8:80::80", &name, "far"), Ok("2001:db8:77::2".parse().unwrap()));
    assert!(resolve_at("2001:db8:80::80", &machine, &name).contains("203.0.113.80"));
    assert!(machine.hop(&["up", &file]).contains("is up already; nothing to change"));
}
