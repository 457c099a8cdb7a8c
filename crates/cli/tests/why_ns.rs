//! `hop why --ns`: networks that Hopyard did not build.
//!
//! In namespaces of the test's own, where it is root, so that the machine's own network is not touched: what is
//! called `host` here is that of the test.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test says what is wrong by failing")]

mod common;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use common::machine::Machine;
use common::{Place, is_root, text};

const HOP: &str = env!("CARGO_BIN_EXE_hop");

/// ```text
/// a e0 ------ e0 r e1 ------ p1 (host: bridge br0) p2 ------ e0 c        c has no name, only a process
///   10.1.0.2  .1   10.2.0.2      10.2.0.1                10.2.0.3
/// ```
const NETWORK: &str = "\
set -e
ip netns add a; ip netns add r
ip -n a link add e0 type veth peer name e0 netns r
ip link add p1 type veth peer name e1 netns r
ip link add br0 type bridge
ip link set p1 master br0
unshare --net sleep 1000 >/dev/null 2>&1 &
pid=$!
while [ $(readlink /proc/$pid/ns/net) = $(readlink /proc/self/ns/net) ]; do :; done
echo $pid > /run/c.pid
ip link add p2 type veth peer name e0 netns $pid
ip link set p2 master br0
ip -n a addr add 10.1.0.2/24 dev e0; ip -n r addr add 10.1.0.1/24 dev e0; ip -n r addr add 10.2.0.2/24 dev e1
ip addr add 10.2.0.1/24 dev br0
nsenter -t $pid -n ip addr add 10.2.0.3/24 dev e0
for i in lo br0 p1 p2; do ip link set $i up; done
for i in lo e0; do ip -n a link set $i up; done
for i in lo e0 e1; do ip -n r link set $i up; done
for i in lo e0; do nsenter -t $pid -n ip link set $i up; done
# The kernel finds out about a signal a moment later.
while (ip link; ip -n a link; ip -n r link; nsenter -t $pid -n ip link) | grep -q -e NO-CARRIER -e M-DOWN; do :; done
";

fn machine() -> Option<(Machine, String)> {
    let machine = Machine::new()?;
    machine.sh(NETWORK);
    let pid = machine.sh("cat /run/c.pid").trim().to_owned();
    Some((machine, pid))
}

/// Asks; returns the status and what was said.
fn why(machine: &Machine, args: &[&str]) -> (Option<i32>, String, String) {
    let output = machine.output(HOP, &[&["why", "--ns"], args].concat());
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn what_cables_lead_to_is_found_and_explained_and_mended() {
    let Some((machine, pid)) = machine() else { return };
    let c = format!("pid:{pid}");
    // Nobody has named r, nor the host's bridge between r and c.
    let (status, said, beside) = why(&machine, &["a", &c]);
    assert_eq!(status, Some(1), "{said}{beside}");
    // Columns are as wide as a number is long.
    let lines = said.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ") + "\n");
    let squeezed = lines.collect::<String>().replace(&format!("pid-{pid}"), "C").replace(&pid, "PID");
    assert_eq!(
        squeezed,
        "\
NO a -> 10.2.0.3 (C) icmp: a has no route to 10.2.0.3
there 1 a x no route: main has only 10.1.0.0/24 kernel: ENETUNREACH; nothing sent
back not reached
3 changes make it work both ways (checked in the model):
1 a ip netns exec a ip route add 10.2.0.0/24 via 10.1.0.1
2 r ip netns exec r sysctl -w net.ipv4.ip_forward=1
3 C nsenter -t PID -n ip route add 10.1.0.0/24 via 10.2.0.2
Only 1 shows now; after that the packet would stop at r (2), then the reply at C (3).
"
    );
    // Each command works as it stands.
    for line in said.lines().filter(|line| line.starts_with(" 1 a") || line.starts_with(" 2 r")) {
        machine.sh(line.split_once("ip netns").map(|(_, rest)| format!("ip netns{rest}")).unwrap().as_str());
    }
    let (status, said, _) = why(&machine, &["a", &c]);
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("it arrives, but pid-"), "{said}");
    let (status, said, beside) = why(&machine, &["--fix", "a", &c]);
    assert_eq!(status, Some(0), "{said}{beside}");
    assert!(said.contains("done: YES a -> 10.2.0.3"), "{said}");
    // A path is the same namespace, and so is what it leads to by an address.
    let (status, said, _) = why(&machine, &[&format!("/proc/{pid}/ns/net"), "10.1.0.2"]);
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("sent, ttl 64"), "{said}");
    // A port, behind a process.
    let (status, said, _) = why(&machine, &["a", &format!("{c}:80/tcp")]);
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("nothing listens on port 80 of pid-"), "{said}");
}

#[test]
fn the_hosts_own_network_is_looked_at_and_never_changed() {
    let Some((machine, _)) = machine() else { return };
    // The host has the address, and no way back.
    machine.sh("ip netns exec r sysctl -qw net.ipv4.ip_forward=1; ip -n a route add default via 10.1.0.1");
    // What somebody has set; carrier and IPv6 come by themselves, and late.
    let shown = || {
        machine.sh(
            "ip -4 -o addr; ip -4 route show table all; ip rule; ip neigh show nud permanent; bridge link | cut -d: -f2; \
             nft list ruleset 2>/dev/null; sysctl -a 2>/dev/null | grep -e forward -e filter",
        )
    };
    let before = shown();
    let (status, said, beside) = why(&machine, &["--fix", "a", "host"]);
    assert_eq!(status, Some(1), "{said}{beside}");
    assert!(
        said.starts_with("NO  a -> 10.2.0.1 (host) icmp: it arrives, but host has no route back to 10.1.0.2\n"),
        "{said}"
    );
    assert!(said.contains("\n 1 host  ip route add 10.1.0.0/24 via 10.2.0.2\n"), "{said}");
    assert!(beside.contains("nothing was changed: change 1 is to the machine's own network"), "{beside}");
    assert_eq!(shown(), before);
    // From there, no packet unless asked for.
    let (_, said, _) = why(&machine, &["host", "a"]);
    assert!(said.contains("No packet was sent") && said.contains("`--probe` sends one"), "{said}");
    let (_, said, _) = why(&machine, &["--probe", "host", "10.2.0.2"]);
    assert!(said.starts_with("YES host -> 10.2.0.2 (r)") && said.contains("sent, ttl 64"), "{said}");
    // Nor a rule to trace it with: what the firewall does there is computed.
    if Command::new("nft").arg("--version").output().is_err() {
        println!("skipped: no nft to load rules");
        return;
    }
    machine.sh(
        "ip route add 10.1.0.0/24 via 10.2.0.2; \
         nft 'table inet fw { chain input { type filter hook input priority 0; icmp type echo-request drop; }; }'; \
         ip netns exec r nft 'table inet fw { chain forward { type filter hook forward priority 0; ip daddr 10.2.0.1 accept; }; }'",
    );
    let (status, said, _) = why(&machine, &["a", "host"]);
    assert_eq!(status, Some(1), "{said}");
    assert!(
        said.contains("the firewall of host drops it: the rule with handle 2 of chain inet fw input (input)"),
        "{said}"
    );
    assert!(said.contains("traced: handle 2 of inet fw forward accepts it"), "{said}");
    let refused = "not traced: Operation not permitted (EPERM): hop or the machine itself runs in it";
    assert!(said.contains(refused), "{said}");
}

#[test]
fn what_leads_out_of_what_is_known_is_an_answer_of_its_own() {
    let Some((machine, _)) = machine() else { return };
    // Where its process cannot be seen, c cannot be either.
    let blind = |args: &[&str]| {
        let words = [&["--pid", "--fork", "--mount-proc", "--", HOP, "why", "--ns"], args].concat();
        let output = machine.output("unshare", &words);
        (output.status.code(), text(&output.stdout))
    };
    let (status, said) = blind(&["host", "10.2.0.3"]);
    assert_eq!(status, Some(3), "{said}");
    let first =
        "??? host -> 10.2.0.3 icmp: it leaves what is known, by host:p2; what is beyond, nobody here can tell\n";
    assert!(said.starts_with(first), "{said}");
    let answer: serde_json::Value = serde_json::from_str(&blind(&["--json", "host", "10.2.0.3"]).1).unwrap();
    assert_eq!(answer["verdict"]["reason"], "leaves-known", "{answer}");
    assert_eq!(answer["reachable"], serde_json::Value::Null, "{answer}");
    // Asked to, a packet goes there, and its answer is an answer.
    let (status, said) = blind(&["--probe", "host", "10.2.0.3"]);
    assert!(said.contains("sent, ttl 64") && said.contains("is answered from beyond"), "{said}");
    assert_eq!(status, Some(0), "{said}");
}

/// Links and routes anybody may read, rules only who has rights.
#[test]
fn a_firewall_that_may_not_be_read_is_not_taken_for_none() {
    let Some((machine, _)) = machine() else { return };
    let powerless = |args: &[&str]| {
        let words = [&["--bounding-set=-all", "--inh-caps=-all", "--", HOP, "why", "--ns"], args].concat();
        let output = machine.output("setpriv", &words);
        (output.status.code(), text(&output.stdout) + &text(&output.stderr))
    };
    let (status, said) = powerless(&["host", "10.2.0.2"]);
    assert_eq!(status, Some(3), "{said}");
    assert!(said.contains("not known what host does: its firewall could not be read, and may decide"), "{said}");
    assert!(said.contains("beside these may not be entered, and count as unknown"), "{said}");
    // Where no route is, no rule matters.
    let (status, said) = powerless(&["host", "10.9.9.9"]);
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("host has no route to 10.9.9.9"), "{said}");
    let (status, said) = powerless(&["a", "10.2.0.1"]);
    assert_eq!(status, Some(3), "{said}");
    assert!(said.contains("cannot enter node a") && said.contains("hint: as root it can be entered"), "{said}");
}

/// As with a container engine that needs no root: the namespaces belong to a user namespace of the caller's.
#[test]
fn an_ordinary_user_may_ask_about_containers_of_its_own() {
    if is_root() {
        // Root may enter all there are; the tests run as an ordinary user too.
        return;
    }
    let script = "unshare --net sleep 1000 >/dev/null 2>&1 & b=$!; \
        while [ $(readlink /proc/$b/ns/net) = $(readlink /proc/self/ns/net) ]; do :; done; \
        ip link add v0 type veth peer name v1 netns $b; ip addr add 10.7.0.1/24 dev v0; ip link set v0 up; \
        nsenter -t $b -n ip addr add 10.7.0.2/24 dev v1; nsenter -t $b -n ip link set v1 up; \
        echo $$ $b; read end; kill $b";
    let mut containers = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "sh", "-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(containers.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let places: Vec<String> = line.split_whitespace().map(|pid| format!("pid:{pid}")).collect();
    let [a, b] = places.as_slice() else { panic!("no containers: {line:?}") };
    let ask = |args: &[&str]| Command::new(HOP).args(["why", "--ns"]).args(args).output().unwrap();
    let works = ask(&[a, b]);
    let broken = ask(&["--fix", b, "10.8.0.1"]);
    drop(containers.stdin.take());
    containers.wait().unwrap();
    let said = text(&works.stdout);
    assert_eq!(works.status.code(), Some(0), "{said}{}", text(&works.stderr));
    assert!(said.starts_with("YES pid-") && said.contains("sent, ttl 64"), "{said}");
    assert_eq!(broken.status.code(), Some(1), "{}", text(&broken.stderr));
    assert!(text(&broken.stdout).contains("has no route to 10.8.0.1"), "{}", text(&broken.stdout));
}

#[test]
fn what_cannot_be_asked_is_said() {
    let Some((machine, pid)) = machine() else { return };
    for (args, status, expected) in [
        (&["a", "nobody"][..], 2, "there is no namespace `nobody`"),
        (&["pid:0", "a"], 2, "`pid:` wants the number of a process"),
        (&["pid:999999", "a"], 2, "there is no process 999999"),
        (&["/etc/passwd", "a"], 2, "that is no file of a network namespace"),
        (&["/no/such", "a"], 2, "cannot open /no/such"),
        (&["a", "a:http"], 2, "`http` is no port in `a:http`"),
        (&["a", "a:80/sctp"], 2, "`sctp` is no protocol with ports"),
        (&["a", "224.0.0.1"], 2, "224.0.0.1 is for a group of nodes"),
        (&["a", "0.0.0.0:80"], 2, "0.0.0.0 is no node's address"),
        (&["-6", "a", "r"], 2, "`r` has no IPv6 address"),
        (&["--lab", "x", "a", "r"], 2, "cannot be used with"),
    ] {
        let (found, _, beside) = why(&machine, args);
        assert_eq!(found, Some(status), "{args:?}: {beside}");
        assert!(beside.contains(expected), "{args:?}: {beside}");
    }
    // All that is known of a network is in its recording.
    machine.sh(&format!("cd /run && {HOP} record --ns a -o x.json"));
    let said = machine.output(HOP, &["why", "--from", "/run/x.json", "a", &format!("pid-{pid}")]);
    assert!(text(&said.stdout).starts_with("NO  a -> 10.2.0.3"), "{}{}", text(&said.stdout), text(&said.stderr));
}

/// r has it too, and stands behind a: by name, a is always the first.
#[test]
fn an_address_that_the_sender_has_is_its_own() {
    let Some((machine, _)) = machine() else { return };
    machine.sh("ip -n a addr add 10.3.0.1/32 dev lo; ip -n r addr add 10.3.0.1/32 dev lo");
    machine.sh("cd /run && $HOP record --ns r -o own.json".replace("$HOP", HOP).as_str());
    for dst in ["127.0.0.1", "10.3.0.1"] {
        let (status, said, beside) = why(&machine, &["r", dst]);
        assert_eq!(status, Some(0), "{said}{beside}");
        assert!(said.starts_with(&format!("YES r -> {dst} (r) icmp: there and back, 1 node\n")), "{said}");
        let recorded = machine.output(HOP, &["why", "--from", "/run/own.json", "r", dst]);
        assert!(text(&recorded.stdout).starts_with(&format!("YES r -> {dst} (r) icmp")), "{}", text(&recorded.stdout));
    }
}

#[test]
fn a_namespace_without_addresses_is_said_to_have_none() {
    let Some((machine, _)) = machine() else { return };
    machine.sh("ip netns add bare");
    let (status, _, beside) = why(&machine, &["a", "bare"]);
    assert_eq!(status, Some(2), "{beside}");
    assert!(beside.contains("`bare` has no address that others could send to"), "{beside}");
    assert!(beside.contains("`ip address` in it lists what it has"), "{beside}");
}

#[test]
fn pairs_of_namespaces_are_checked_as_those_of_a_lab() {
    let Some((machine, pid)) = machine() else { return };
    let c = format!("pid:{pid}");
    let check = |args: &[&str]| {
        let output = machine.output(HOP, &[&["check", "--ns", "-4"], args].concat());
        assert_eq!(text(&output.stderr), "", "{args:?}");
        (output.status.code(), text(&output.stdout).replace(&format!("pid-{pid}"), "C").replace(&pid, "PID"))
    };
    let (status, said) = check(&["a", "r", &c]);
    assert_eq!(status, Some(1), "{said}");
    // Who asks for what comes from r by the cable between them; nobody forwards.
    for line in [
        "   hop why --ns a pid:PID   a has no route to 10.2.0.3\n",
        "   hop why --ns pid:PID a   C has no route to 10.1.0.2\n",
        " of 6 pairs reach each other, as predicted, in ",
    ] {
        assert!(said.contains(line), "{line}\n{said}");
    }
    machine.sh(&format!(
        "ip netns exec r sysctl -qw net.ipv4.ip_forward=1; ip -n a route add default via 10.1.0.1; \
         nsenter -t {pid} -n ip route add default via 10.2.0.2; ip route add 10.1.0.0/24 via 10.2.0.2"
    ));
    let (status, said) = check(&["a", "r", &c]);
    assert!(said.contains("\n6 of 6 pairs reach each other, as predicted, in "), "{said}");
    assert_eq!(status, Some(0));
    // From the machine's own network nothing is sent, unless that is asked for.
    let before = machine.sh("nstat -asz IcmpOutEchos | grep Echos");
    let (status, said) = check(&["a", "host"]);
    assert!(said.contains("\n2 of 2 pairs reach each other, as predicted, in "), "{said}");
    assert!(said.contains("\nNo packet was sent that would come from the machine's own network"), "{said}");
    assert_eq!(status, Some(0));
    assert_eq!(machine.sh("nstat -asz IcmpOutEchos | grep Echos"), before);
    let (_, said) = check(&["--probe", "a", "host"]);
    assert!(!said.contains("No packet was sent"), "{said}");
    assert_ne!(machine.sh("nstat -asz IcmpOutEchos | grep Echos"), before);
    let (_, said) = check(&["--no-probe", "a", "host"]);
    assert!(said.contains("2 of 2 pairs reach each other, predicted, no packet was sent, in "), "{said}");
    // A cell, as programs read it.
    let (_, said) = check(&["--json", "a", "r"]);
    let json: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&json["lab"], &json["pairs"]), (&serde_json::Value::Null, &2.into()));
    for (args, wanted) in [
        (&["a"][..], "a pair takes two namespaces: name those to check"),
        (&["a", "a"], "a pair takes two namespaces"),
        (&[], "a pair takes two namespaces"),
        (&["a", "nothere"], "nothere"),
        (&["a", "pid:0"], "`pid:` wants the number of a process"),
    ] {
        let output = machine.output(HOP, &[&["check", "--ns"], args].concat());
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", text(&output.stderr));
        assert!(text(&output.stderr).contains(wanted), "{args:?}: {}", text(&output.stderr));
    }
}

/// Who may look at a network need not have the right to watch it.
#[test]
fn who_may_not_probe_is_told_how_to_ask_without() {
    if is_root() {
        return;
    }
    let place = Place::new();
    let output = place.output(&["why", "--ns", "host", "127.0.0.1", "--probe"]);
    let said = text(&output.stderr);
    assert!(said.starts_with("error: no probe can be sent and watched: cannot "), "{said}");
    assert!(said.contains("\nhint: `--no-probe` sends none"), "{said}");
    // A failure is not the answer "no".
    assert_eq!(output.status.code(), Some(3), "{said}");
    let output = place.output(&["why", "--ns", "host", "127.0.0.1", "--no-probe"]);
    assert!(text(&output.stdout).contains("host -> 127.0.0.1"), "{}", text(&output.stderr));
}
