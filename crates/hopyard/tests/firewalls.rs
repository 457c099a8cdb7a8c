//! Firewalls as people have them, and random ones made by nft(8): what the model says of a packet is what becomes of it.
//!
//! `FIREWALL_CASES=300` runs more of the random ones, `FIREWALL_SEED=n` begins elsewhere; a failure names its seed.
//!
//! ```text
//!  a .1.2 -- .1.1 r .2.1 --+
//!                b .2.2 -- sw        10.0.N.H, and fd00:N::H
//!                c .2.3 --+
//! ```
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test says what is wrong by failing")]

mod common;
#[path = "firewalls/random.rs"]
mod random;

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{TcpListener, UdpSocket};
use std::process::{Command, Stdio};

use common::Dice;
use hopyard::Network;
use hopyard::explain::{Outcome, Packet, Protocol, Reason};
use hopyard::kernel::SnapshotScope;
use hopyard::runtime::why::{Report, why};

const LAB: &str = "\
name: firewalls
nodes: { a: , r: , b: , c: }
switches: { sw: }
links:
  - endpoints: [a:eth0, r:eth0]
    ipv4: [10.0.1.2/24, 10.0.1.1/24]
    ipv6: [fd00:1::2/64, fd00:1::1/64]
  - { endpoints: [r:eth1, sw], ipv4: 10.0.2.1/24, ipv6: fd00:2::1/64 }
  - { endpoints: [b:eth0, sw], ipv4: 10.0.2.2/24, ipv6: fd00:2::2/64 }
  - { endpoints: [c:eth0, sw], ipv4: 10.0.2.3/24, ipv6: fd00:2::3/64 }
";

/// The lab, and sockets that wait at 22 and 80 in every node.
struct Lab {
    net: Network,
    _listening: Vec<(TcpListener, UdpSocket)>,
}

impl Lab {
    fn new() -> Self {
        let net = Network::start(LAB).unwrap();
        let mut listening = Vec::new();
        for node in ["a", "r", "b", "c"] {
            for port in [22, 80] {
                let bind = || (TcpListener::bind(("::", port)).unwrap(), UdpSocket::bind(("::", port)).unwrap());
                listening.push(net.node(node).unwrap().run(bind).unwrap());
            }
        }
        Lab { net, _listening: listening }
    }

    fn command(&self, node: &str, program: &str) -> Command {
        let entry = self.net.running().entry(node, "/".into(), None).unwrap();
        let mut command = entry.command(program);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Loads rules; `Err`: nft(8) refuses them, and what it says.
    fn try_load(&self, node: &str, rules: &str) -> Result<(), String> {
        let mut child = self.command(node, "nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    }

    #[track_caller]
    fn load(&self, node: &str, rules: &str) {
        self.try_load(node, rules).unwrap_or_else(|said| panic!("{said}{rules}"));
    }

    fn list(&self, node: &str) -> String {
        let output = self.command(node, "nft").args(["list", "ruleset"]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn ask(&self, from: &str, to: &str, protocol: Protocol, port: u16) -> Report {
        let packet = Packet::probe(to.parse().unwrap(), protocol, port);
        why(self.net.running(), from, packet, None, true).unwrap()
    }

    /// What is asked as `a 10.0.2.2 tcp 22`, and what comes of it: `yes`, `no`, or the reason and by whom, if the
    /// model, the kernels and the packet agree.
    fn verdict(&self, question: &str) -> String {
        let words: Vec<&str> = question.split(' ').collect();
        let (protocol, port) = match words[2..] {
            ["tcp", port] => (Protocol::Tcp, port.parse().unwrap()),
            ["udp", port] => (Protocol::Udp, port.parse().unwrap()),
            _ => (Protocol::Icmp, 0),
        };
        let report = self.ask(words[0], words[1], protocol, port);
        assert!(report.disagreements.is_empty(), "{question}: {}", shown(&report));
        told(&report)
    }

    #[track_caller]
    fn expect(&self, all: &[(&str, &str)]) {
        let found: Vec<(&str, String)> = all.iter().map(|(question, _)| (*question, self.verdict(question))).collect();
        let wanted: Vec<(&str, String)> =
            all.iter().map(|(question, wanted)| (*question, (*wanted).to_owned())).collect();
        assert_eq!(found, wanted);
    }
}

/// `no firewall at b: input drop`: the code, where, and by which rule.
fn told(report: &Report) -> String {
    let Some(trouble) = report.verdict.trouble() else { return "yes".to_owned() };
    let (by, reason) = match &trouble.reason {
        Reason::FrameDropped { by, why, .. } => (by, &**why),
        other => (&trouble.node, other),
    };
    let rule = match reason {
        Reason::Firewall { rule: None, chain, .. } => format!(": policy of {chain}"),
        Reason::Firewall { text: Some(text), .. } => format!(": {text}"),
        Reason::Undecided(what) => format!(": {what}"),
        _ => String::new(),
    };
    let back = if trouble.back { "back " } else { "" };
    format!("{back}{} at {by}{rule}", trouble.code())
}

fn shown(report: &Report) -> String {
    format!(
        "{} -> {:?}: {}\nthere {:#?}\nback {:#?}\nseen {:#?}\nDISAGREE {:?}",
        report.query.from,
        report.query.packet,
        told(report),
        report.verdict.there.hops.iter().map(|hop| (&hop.node, &hop.end)).collect::<Vec<_>>(),
        report.verdict.back.iter().flat_map(|back| &back.hops).map(|hop| (&hop.node, &hop.end)).collect::<Vec<_>>(),
        report.seen,
        report.disagreements,
    )
}

fn has_nft() -> bool {
    let found = Command::new("nft").arg("--version").output().is_ok();
    assert!(found || std::env::var_os("REQUIRE_LABS").is_none(), "there is no nft");
    if !found {
        println!("skipped: there is no nft");
    }
    found
}

// ------------------------------------------------------------------------------- firewalls as people have them

/// As Debian's nftables.conf(5) and the wiki of nftables have it: sets, verdict maps, a policy.
#[test]
fn a_host_with_sets_and_verdict_maps() {
    if !has_nft() {
        return;
    }
    let lab = Lab::new();
    lab.load(
        "b",
        "\
table inet filter {
  set friends { type ipv4_addr; flags interval; elements = { 10.0.1.0/24, 192.0.2.1-192.0.2.9 } }
  set blocked { type ipv4_addr . inet_service; flags interval; elements = { 10.0.2.0/30 . 80-90, 10.0.1.2 . 22 } }
  chain services {
    tcp dport { 22, 443, 8000-8100 } accept
    ip saddr . tcp dport @blocked counter drop
    ip saddr @friends tcp dport 80 accept
  }
  chain input {
    type filter hook input priority filter; policy drop;
    ct state vmap { established : accept, related : accept, invalid : drop }
    iifname lo accept
    icmp type { echo-request, timestamp-request } ip saddr != 10.0.2.3 accept
    icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-advert } accept
    ip saddr . tcp dport @blocked reject with icmpx admin-prohibited
    meta l4proto vmap { tcp : jump services, udp : drop }
    counter
  }
}
",
    );
    lab.expect(&[
        ("a 10.0.2.2", "yes"),
        ("c 10.0.2.2", "firewall at b: policy of input"),
        ("b 10.0.1.2", "yes"),
        ("b 10.0.1.2 tcp 22", "yes"),
        ("a 10.0.2.2 tcp 22", "firewall at b: ip saddr . tcp dport @blocked reject with icmpx admin-prohibited"),
        ("c 10.0.2.2 tcp 22", "yes"),
        ("a 10.0.2.2 tcp 80", "yes"),
        ("c 10.0.2.2 tcp 80", "firewall at b: ip saddr . tcp dport @blocked reject with icmpx admin-prohibited"),
        ("r 10.0.2.2 tcp 25", "firewall at b: policy of input"),
        ("c 10.0.2.2 udp 22", "firewall at b: meta l4proto vmap { tcp : jump services, udp : drop }"),
        ("c fd00:2::2 tcp 22", "yes"),
        ("c fd00:2::2", "firewall at b: policy of input"),
    ]);
}

/// What forgets neighbour discovery: nobody finds the node.
#[test]
fn a_policy_that_drops_neighbour_discovery() {
    if !has_nft() {
        return;
    }
    let lab = Lab::new();
    lab.load(
        "b",
        "\
table inet filter {
  chain input {
    type filter hook input priority filter; policy drop;
    ct state established,related accept
    tcp dport 22 accept
  }
}
",
    );
    lab.expect(&[
        ("c 10.0.2.2 tcp 22", "yes"),
        ("c fd00:2::2 tcp 22", "firewall at b: policy of input"),
        ("a fd00:2::2 tcp 22", "firewall at b: policy of input"),
    ]);
}

/// As firewalld writes it: chains by zones, reached by interface and source, and its reverse path filter of IPv6.
#[test]
fn a_router_of_zones() {
    if !has_nft() {
        return;
    }
    let lab = Lab::new();
    lab.load(
        "r",
        "\
table inet firewalld {
  chain mangle_PREROUTING {
    type filter hook prerouting priority mangle + 10; policy accept;
    icmpv6 type { nd-router-advert, nd-neighbor-solicit } accept
    meta nfproto ipv6 fib saddr . mark . iif oif missing drop
  }
  chain filter_INPUT {
    type filter hook input priority filter + 10; policy accept;
    ct state { established, related } accept
    ct status dnat accept
    iifname \"lo\" accept
    ct state invalid drop
    jump filter_INPUT_ZONES
    reject with icmpx admin-prohibited
  }
  chain filter_FORWARD {
    type filter hook forward priority filter + 10; policy accept;
    ct state { established, related } accept
    ct status dnat accept
    iifname \"lo\" accept
    ct state invalid drop
    ip6 daddr { ::/96, ::ffff:0.0.0.0/96, 2002:a00::/24 } reject with icmpv6 addr-unreachable
    jump filter_FORWARD_ZONES
    reject with icmpx admin-prohibited
  }
  chain filter_INPUT_ZONES {
    ip saddr 10.0.1.0/24 goto filter_IN_home
    iifname vmap { \"eth0\" : goto filter_IN_public, \"eth1\" : goto filter_IN_public }
    goto filter_IN_public
  }
  chain filter_FORWARD_ZONES {
    iifname \"eth0\" oifname \"eth1\" goto filter_FWD_home
    iifname { \"eth1\", \"wlan*\" } goto filter_FWD_public
  }
  chain filter_IN_home { tcp dport 22 accept; meta l4proto { icmp, ipv6-icmp } accept; }
  chain filter_IN_public { icmp type { destination-unreachable, echo-request } accept; icmpv6 type != { echo-request } accept; }
  chain filter_FWD_home { meta l4proto icmp accept; ct state { new, untracked } tcp dport 80 accept; }
  chain filter_FWD_public { meta l4proto icmp reject with icmpx admin-prohibited; }
  chain nat_PREROUTING {
    type nat hook prerouting priority dstnat + 10; policy accept;
    iifname eth0 dnat ip to tcp dport map { 8080 : 10.0.2.3 . 80, 2222 : 10.0.2.3 . 22 }
    tcp dport 2022 redirect to :22
  }
  chain nat_POSTROUTING {
    type nat hook postrouting priority srcnat + 10; policy accept;
    oifname eth0 ip saddr 10.0.2.0/24 masquerade
  }
}
"
        .replace("; meta", "\n meta")
        .replace("; icmpv6 type !=", "\n icmpv6 type !=")
        .replace("; ct state { new", "\n ct state { new")
        .replace("; }", "\n }")
        .as_str(),
    );
    lab.expect(&[
        ("a 10.0.2.2", "yes"),
        ("a 10.0.2.2 tcp 80", "yes"),
        ("a 10.0.2.2 tcp 22", "firewall at r: reject with icmpx admin-prohibited"),
        ("b 10.0.1.2", "firewall at r: meta l4proto icmp reject with icmpx admin-prohibited"),
        ("b 10.0.1.2 tcp 22", "firewall at r: reject with icmpx admin-prohibited"),
        ("a 10.0.1.1 tcp 22", "yes"),
        ("b 10.0.2.1 tcp 22", "firewall at r: reject with icmpx admin-prohibited"),
        ("b 10.0.2.1", "yes"),
        ("a 10.0.1.1 tcp 8080", "yes"),
        ("a 10.0.1.1 tcp 2222", "yes"),
        ("a 10.0.1.1 tcp 2022", "yes"),
        ("a fd00:1::1 tcp 22", "firewall at r: reject with icmpx admin-prohibited"),
        ("a fd00:1::1", "firewall at r: reject with icmpx admin-prohibited"),
        ("a fd00:2::2", "firewall at r: reject with icmpx admin-prohibited"),
    ]);
}

/// Which port a translation gives may be a matter of chance; which address, is not.
#[test]
fn ports_that_the_kernel_chooses() {
    if !has_nft() {
        return;
    }
    let lab = Lab::new();
    lab.load(
        "r",
        "\
table ip nat {
  chain p {
    type nat hook prerouting priority dstnat;
    iifname eth0 ip daddr 10.0.1.1 tcp dport 80 dnat to 10.0.2.3:70-90
    iifname eth0 ip daddr 10.0.1.1 tcp dport 8080 dnat to 10.0.2.3:70-90
    iifname eth0 ip daddr 10.0.1.1 udp dport 80 dnat to 10.0.2.3:70-90 random
    iifname eth0 ip daddr 10.0.1.1 tcp dport 8081 dnat to 10.0.2.2-10.0.2.3
  }
  chain q {
    type nat hook postrouting priority srcnat;
    tcp dport 22 masquerade fully-random
    tcp dport 80 snat to 10.0.2.1:1024-65535
    udp dport 22 masquerade to :1000-1010
    masquerade random
  }
}
",
    );
    lab.expect(&[
        ("a 10.0.2.2", "yes"),
        ("a 10.0.2.2 tcp 22", "yes"),
        ("a 10.0.2.2 tcp 80", "yes"),
        ("a 10.0.1.1 tcp 80", "yes"),
        (
            "a 10.0.1.1 tcp 8080",
            "undecided at r: handle 4 of ip nat p: which port of 70-90 `dnat` gives it is not known",
        ),
        ("a 10.0.1.1 udp 80", "undecided at r: handle 5 of ip nat p: which port of 70-90 `dnat` gives it is not known"),
        ("a 10.0.1.1 tcp 8081", "undecided at r: handle 6 of ip nat p: `dnat` is not understood"),
        (
            "a 10.0.2.2 udp 22",
            "undecided at r: handle 9 of ip nat q: which port of 1000-1010 `masquerade` gives it is not known",
        ),
    ]);
}

/// As ufw(8) writes it, by iptables(8): its extensions for states, ports, kinds of addresses.
#[test]
fn a_host_with_iptables() {
    if !has_nft() || Command::new("iptables-nft").arg("--version").output().is_err() {
        return;
    }
    let lab = Lab::new();
    let output = lab
        .command("b", "sh")
        .args([
            "-ec",
            "\
i() { iptables-nft -w \"$@\"; }
i -P INPUT DROP
i -N ufw-before-input
i -N ufw-not-local
i -N ufw-user-input
i -N ufw-logging-deny
i -A INPUT -j ufw-before-input
i -A ufw-before-input -i lo -j ACCEPT
i -A ufw-before-input -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
i -A ufw-before-input -m conntrack --ctstate INVALID -j ufw-logging-deny
i -A ufw-before-input -m conntrack --ctstate INVALID -j DROP
i -A ufw-before-input -p icmp -m icmp --icmp-type 3 -j ACCEPT
i -A ufw-before-input -p icmp -m icmp --icmp-type 8 -j ACCEPT
i -A ufw-before-input -p udp -m udp --sport 67 --dport 68 -j ACCEPT
i -A ufw-before-input -j ufw-not-local
i -A ufw-before-input -d 224.0.0.251/32 -p udp -m udp --dport 5353 -j ACCEPT
i -A ufw-before-input -j ufw-user-input
i -A ufw-not-local -m addrtype --dst-type LOCAL -j RETURN
i -A ufw-not-local -m addrtype --dst-type MULTICAST -j RETURN
i -A ufw-not-local -m addrtype --dst-type BROADCAST -j RETURN
i -A ufw-not-local -m limit --limit 3/min --limit-burst 10 -j ufw-logging-deny
i -A ufw-not-local -j DROP
i -A ufw-logging-deny -m limit --limit 3/min -j LOG --log-prefix '[UFW BLOCK] '
i -A ufw-user-input -p tcp -m multiport --dports 80,8000:8010 -m comment --comment web -j ACCEPT
i -A ufw-user-input -p udp -m multiport --dports 53,5353 -j ACCEPT
i -A ufw-user-input -m iprange --src-range 10.0.2.3-10.0.2.9 -p tcp --dport 22 -j ACCEPT
i -A ufw-user-input -p udp --dport 22 -j REJECT --reject-with icmp-port-unreachable
",
        ])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    lab.expect(&[
        ("a 10.0.2.2", "yes"),
        ("a 10.0.2.2 tcp 80", "yes"),
        ("a 10.0.2.2 tcp 8010", "no-listener at b"),
        ("a 10.0.2.2 tcp 8011", "firewall at b: policy of INPUT"),
        ("a 10.0.2.2 tcp 22", "firewall at b: policy of INPUT"),
        ("c 10.0.2.2 tcp 22", "yes"),
        ("c 10.0.2.2 udp 53", "no-listener at b"),
        ("c 10.0.2.2 udp 22", "firewall at b: udp dport 22 counter reject"),
        ("b 10.0.1.2 tcp 22", "yes"),
    ]);
}

/// As docker(1) and podman(1) write it, by iptables(8): a node behind the router is published, and the rest hidden.
#[test]
fn a_router_of_containers() {
    if !has_nft() || Command::new("iptables-nft").arg("--version").output().is_err() {
        return;
    }
    let lab = Lab::new();
    let output = lab
        .command("r", "sh")
        .args([
            "-ec",
            "\
i() { iptables-nft -w \"$@\"; }
i -P FORWARD DROP
i -N DOCKER
i -N DOCKER-USER
i -N DOCKER-ISOLATION-STAGE-1
i -N DOCKER-ISOLATION-STAGE-2
i -A FORWARD -j DOCKER-USER
i -A FORWARD -j DOCKER-ISOLATION-STAGE-1
i -A FORWARD -o eth1 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
i -A FORWARD -o eth1 -j DOCKER
i -A FORWARD -i eth1 ! -o eth1 -j ACCEPT
i -A FORWARD -i eth1 -o eth1 -j ACCEPT
i -A DOCKER -d 10.0.2.2/32 ! -i eth1 -o eth1 -p tcp -m tcp --dport 80 -j ACCEPT
i -A DOCKER-ISOLATION-STAGE-1 -i eth1 ! -o eth1 -j DOCKER-ISOLATION-STAGE-2
i -A DOCKER-ISOLATION-STAGE-1 -j RETURN
i -A DOCKER-ISOLATION-STAGE-2 -o docker9 -j DROP
i -A DOCKER-ISOLATION-STAGE-2 -j RETURN
i -A DOCKER-USER -j RETURN
i -t nat -N DOCKER
i -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
i -t nat -A POSTROUTING -s 10.0.2.0/24 ! -o eth1 -j MASQUERADE
i -t nat -A DOCKER -i eth1 -j RETURN
i -t nat -A DOCKER ! -i eth1 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.0.2.2:80
",
        ])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    lab.expect(&[
        ("a 10.0.1.1 tcp 8080", "yes"),
        // Its port is now taken, and what comes to 10.0.2.2:80 by itself would get another source.
        ("a 10.0.2.2 tcp 22", "firewall at r: policy of FORWARD"),
        ("a 10.0.2.3 tcp 80", "firewall at r: policy of FORWARD"),
        ("a 10.0.2.2", "firewall at r: policy of FORWARD"),
        ("b 10.0.1.2 tcp 22", "yes"),
        ("b 10.0.1.2", "yes"),
        ("a 10.0.1.1", "yes"),
    ]);
}

// --------------------------------------------------------------------------------------- frames

/// The policy of a router in a switch (containerlab 2389): frames die, and nothing of it is in the bridge.
#[test]
fn a_switch_whose_chains_of_ip_see_frames() {
    if !has_nft() {
        return;
    }
    let lab = Lab::new();
    lab.load(
        "sw",
        "table inet filter {\n chain FORWARD {\n type filter hook forward priority 0; policy drop;\n }\n}\n",
    );
    lab.expect(&[
        ("a 10.0.2.2", "firewall-bridge at sw: policy of FORWARD"),
        ("b 10.0.2.3 tcp 22", "firewall-bridge at sw: policy of FORWARD"),
        // Neighbour discovery is of IPv6, and is dropped before anything else; ARP is not.
        ("b fd00:2::3", "firewall-bridge at sw: policy of FORWARD"),
        ("a 10.0.2.1", "yes"),
    ]);
    let report = lab.ask("a", "10.0.2.2", Protocol::Icmp, 0);
    let edits: Vec<String> = report.repair.unwrap().edits().map(ToString::to_string).collect();
    assert_eq!(edits, ["sysctl -w net.bridge.bridge-nf-call-iptables=0"]);
    for key in ["iptables", "ip6tables"] {
        let value = format!("net.bridge.bridge-nf-call-{key}=0");
        assert!(lab.command("sw", "sysctl").args(["-w", &value]).output().unwrap().status.success());
    }
    lab.expect(&[("a 10.0.2.2", "yes"), ("b fd00:2::3", "yes")]);
    // The bridge's own switch does the same.
    let set = ["link", "set", "br0", "type", "bridge", "nf_call_iptables", "1"];
    let output = lab.command("sw", "ip").args(set).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    lab.expect(&[("a 10.0.2.2", "firewall-bridge at sw: policy of FORWARD"), ("c fd00:2::2", "yes")]);
}

#[test]
fn a_switch_with_chains_of_its_own() {
    if !has_nft() {
        return;
    }
    let lab = Lab::new();
    lab.load(
        "sw",
        "\
table bridge filter {
  set macs { type ether_addr; elements = { 02:00:00:00:00:01 } }
  chain pre { type filter hook prerouting priority -300; ether saddr @macs drop; }
  chain forward {
    type filter hook forward priority filter; policy accept;
    ether type arp accept
    ip saddr . ip daddr { 10.0.2.2 . 10.0.2.3 } drop
    iifname \"port0\" tcp dport { 80, 443 } drop
    ether type vmap { ip6 : jump six }
  }
  chain six {
    icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } ip6 saddr fd00:2::2 drop
  }
}
"
        .replace("; ether saddr @macs drop; }", "\n ether saddr @macs drop\n }")
        .as_str(),
    );
    lab.expect(&[
        ("a 10.0.2.2", "yes"),
        ("b 10.0.2.3", "firewall at sw: ip saddr . ip daddr { 10.0.2.2 . 10.0.2.3 } drop"),
        ("c 10.0.2.2", "back firewall at sw: ip saddr . ip daddr { 10.0.2.2 . 10.0.2.3 } drop"),
        ("a 10.0.2.2 tcp 80", "firewall at sw: iifname \"port0\" tcp dport { 80, 443 } drop"),
        ("c 10.0.2.1 tcp 80", "yes"),
    ]);
    lab.load("sw", "flush chain bridge filter forward\nchain bridge filter forward {\n policy drop; \n}\nadd rule bridge filter forward meta protocol ip accept\n");
    // ARP is not let through any more; what is known is still sent to.
    for node in ["a", "r", "b", "c"] {
        lab.command(node, "ip").args(["neigh", "flush", "all"]).output().unwrap();
    }
    lab.expect(&[("b 10.0.2.3", "firewall at sw: policy of forward"), ("a 10.0.1.1", "yes")]);
}

#[test]
fn chains_at_interfaces() {
    if !has_nft() {
        return;
    }
    let lab = Lab::new();
    lab.load(
        "b",
        "\
table netdev filter {
  set ports { type inet_service; flags interval; elements = { 20-25, 443 } }
  chain in {
    type filter hook ingress devices = { eth0, lo } priority 0; policy accept;
    ip saddr 10.0.2.3 tcp dport @ports drop
    icmp type echo-request ip saddr { 10.0.1.0/24 } drop
  }
  chain out {
    type filter hook egress device eth0 priority 0; policy accept;
    ip daddr 10.0.2.1 icmp type { echo-reply, echo-request } drop
  }
}
",
    );
    lab.expect(&[
        ("c 10.0.2.2 tcp 22", "firewall at b: ip saddr 10.0.2.3 tcp dport @ports drop"),
        ("c 10.0.2.2 tcp 80", "yes"),
        ("a 10.0.2.2", "firewall at b: icmp type echo-request ip saddr 10.0.1.0/24 drop"),
        ("c 10.0.2.2", "yes"),
        ("r 10.0.2.2", "back firewall at b: ip daddr 10.0.2.1 icmp type { echo-reply, echo-request } drop"),
        ("b 10.0.2.1", "firewall at b: ip daddr 10.0.2.1 icmp type { echo-reply, echo-request } drop"),
    ]);
    // ARP passes there as well, or does not.
    lab.load("b", "flush ruleset\ntable netdev filter {\n chain in {\n type filter hook ingress device eth0 priority 0; policy drop;\n ip protocol { icmp, tcp } accept\n }\n}\n");
    for node in ["r", "b", "c"] {
        lab.command(node, "ip").args(["neigh", "flush", "all"]).output().unwrap();
    }
    lab.expect(&[("c 10.0.2.2", "firewall at b: policy of in")]);
}

/// A firewall marks packets, and policy rules send them elsewhere.
#[test]
fn a_mark_that_policy_rules_ask_for() {
    if !has_nft() {
        return;
    }
    let lab = Lab::new();
    lab.load(
        "r",
        "\
table ip mangle {
  chain prerouting {
    type filter hook prerouting priority mangle; policy accept;
    meta mark set tcp dport map { 80 : 0x1, 443 : 0x2 }
  }
  chain forward {
    type filter hook forward priority mangle; policy accept;
    meta mark & 0xf == 0x2 drop
  }
}
",
    );
    let rule = ["rule", "add", "fwmark", "0x1/0xf", "priority", "100", "prohibit"];
    assert!(lab.command("r", "ip").args(rule).output().unwrap().status.success());
    lab.expect(&[
        ("a 10.0.2.2 tcp 22", "yes"),
        ("a 10.0.2.2 tcp 80", "policy-rule at r"),
        ("a 10.0.2.2 tcp 443", "firewall at r: meta mark & 0x0000000f == 0x00000002 drop"),
    ]);
}

/// What comes of a set depends on the moment, or on what has passed.
#[test]
fn elements_that_go_and_sets_that_packets_fill() {
    if !has_nft() {
        return;
    }
    let lab = Lab::new();
    lab.load(
        "b",
        "\
table inet filter {
  set slow { type ipv4_addr; flags dynamic,timeout; timeout 60s; }
  set blocked { type ipv4_addr; flags timeout; elements = { 10.0.2.3 timeout 1h, 10.0.2.1 timeout 1s } }
  map where { type inet_service : verdict; elements = { 22 : accept, * : continue } }
  chain input {
    type filter hook input priority filter; policy accept;
    ip saddr @blocked drop
    tcp dport vmap @where
    tcp dport 80 ip saddr @slow drop
    tcp dport 81 limit rate 10/second log
    tcp dport 82 limit rate 10/second accept
    tcp dport 82 drop
  }
}
",
    );
    // It is gone after a second, from the kernel's lists too.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while lab.list("b").contains("10.0.2.1") {
        assert!(std::time::Instant::now() < deadline, "the element stays: {}", lab.list("b"));
        std::thread::yield_now();
    }
    lab.expect(&[
        ("c 10.0.2.2", "firewall at b: ip saddr @blocked drop"),
        ("r 10.0.2.2", "yes"),
        ("a 10.0.2.2 tcp 22", "yes"),
        ("a 10.0.2.2 tcp 81", "no-listener at b"),
        ("a 10.0.2.2 tcp 82", "undecided at b: handle 9 of inet filter input: `limit` depends on more than the packet"),
    ]);
    let told = lab.verdict("a 10.0.2.2 tcp 80");
    assert!(told.ends_with("packets fill the set slow"), "{told}");
}

// --------------------------------------------------------------------------------------- any of them

/// Few enough for every run of the tests.
const CASES: u64 = 12;

#[test]
fn the_model_of_random_firewalls_is_what_packets_do() {
    if !has_nft() {
        return;
    }
    let number = |name: &str, other: u64| std::env::var(name).map_or(other, |text| text.parse().unwrap());
    let first = number("FIREWALL_SEED", 1);
    let mut failed = Vec::new();
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    let (mut rules, mut refused, mut again) = (0, 0, 0);
    for seed in first..first + number("FIREWALL_CASES", CASES) {
        let mut dice = Dice(seed);
        let lab = Lab::new();
        let mut loaded = BTreeMap::new();
        for _ in 0..=dice.roll(2) {
            let node = *dice.pick(&["a", "r", "r", "b", "b", "c", "sw", "sw"]);
            let mut commands = random::chains(&mut dice, node);
            for _ in 0..=dice.roll(8) {
                commands.push(random::rule(&mut dice, node));
            }
            for command in commands {
                rules += 1;
                // Not all that can be written makes sense to it.
                match lab.try_load(node, &command) {
                    Ok(()) => loaded.entry(node).or_insert_with(Vec::new).push(command),
                    Err(_) => refused += 1,
                }
            }
        }
        for _ in 0..4 {
            let (from, to, protocol, port) = random::question(&mut dice);
            let mut report = lab.ask(from, &to, protocol, port);
            if !report.disagreements.is_empty() {
                // A node may still be asking for a neighbour on behalf of an earlier question, and teach that one.
                report = lab.ask(from, &to, protocol, port);
                again += 1;
            }
            let outcome = match report.verdict.outcome() {
                Outcome::Yes => "yes",
                Outcome::No if report.verdict.trouble().is_some_and(|it| it.code().starts_with("firewall")) => {
                    "firewall"
                }
                Outcome::No => "no",
                Outcome::Undecided => "undecided",
            };
            *counts.entry(outcome).or_default() += 1;
            if !report.disagreements.is_empty() {
                let nodes: Vec<&str> = loaded.keys().copied().collect();
                let lists: Vec<String> = nodes.iter().map(|node| format!("{node}:\n{}", lab.list(node))).collect();
                failed.push(format!("seed {seed}: {}\n{}\n{loaded:#?}", shown(&report), lists.join("\n")));
            }
        }
    }
    println!("{counts:?}; {} differ, {again} asked twice; {refused} of {rules} commands refused", failed.len());
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
    let of = |what| counts.get(what).copied().unwrap_or_default();
    let all: u32 = counts.values().sum();
    assert!(of("yes") > 0 && of("firewall") > 0 && of("undecided") * 4 < all, "{counts:?}");
}

/// The same of translations, which have chains of their own.
fn nat_texts(lab: &Lab, node: &str) {
    const RULES: &[&str] = &[
        "dnat to tcp dport map { 80 : 10.0.2.3, 81-90 : 10.0.2.9 }",
        "dnat ip to tcp dport map { 80 : 10.0.2.3 . 8080 }",
        "tcp dport 8080 dnat to 10.0.2.3:80",
        "tcp dport 80 redirect to :8080",
        "tcp dport 80 redirect to :80-90 random",
        "udp dport 80 redirect random",
        "meta l4proto tcp dnat to 10.0.2.3:1000-2000",
        "tcp dport 80 dnat to 10.0.2.3 persistent",
        "ip saddr 10.0.1.0/24 snat to 10.0.2.2",
        "oifname \"eth0\" masquerade",
        "masquerade fully-random,persistent",
        "tcp dport 1 masquerade to :1024-2048 random",
        "tcp dport 1 snat to 10.0.2.2:1000-2000",
    ];
    lab.load(node, "table ip n {\n chain p {\n type nat hook prerouting priority -100;\n }\n chain q {\n type nat hook postrouting priority 100;\n }\n}\n");
    for rule in RULES {
        let chain = if rule.contains("snat") || rule.contains("masq") { "q" } else { "p" };
        lab.load(node, &format!("add rule ip n {chain} {rule}\n"));
    }
    let rules = lab.net.running().world().unwrap().firewall(&node.parse().unwrap()).unwrap().unwrap();
    let chains = ["p", "q"].map(|name| rules.chain("ip", "n", name).unwrap());
    let found: Vec<String> =
        chains.iter().flat_map(|chain| chain.rules.iter().map(|rule| rules.text_of(chain, rule))).collect();
    assert_eq!(found, RULES);
}

/// What `hop why` says a rule is, nft(8) takes, and lists as the same.
#[test]
fn the_text_of_a_rule_is_what_nft_lists() {
    if !has_nft() {
        return;
    }
    let lab = Lab::new();
    for (node, table) in [("r", "inet"), ("b", "ip"), ("a", "netdev"), ("sw", "bridge"), ("c", "arp")] {
        let chain = if table == "netdev" { "type filter hook ingress device eth0 priority 0;" } else { "" };
        lab.load(node, &format!("table {table} t {{\n chain c {{\n {chain}\n }}\n chain x {{\n }}\n}}\n"));
        // Where there is no IP, nft(8) takes the first byte for a part of another field.
        for line in random::TEXTS.iter().filter(|line| table != "arp" || !line.starts_with('@')) {
            // What the table is not about, it refuses.
            lab.try_load(node, &format!("add rule {table} t c {line}\n")).ok();
        }
        let listed = lab.list(node);
        let world = lab.net.running().world().unwrap();
        let state = world.snapshot(&SnapshotScope::default()).unwrap().nodes.remove(node).unwrap();
        let rules = state.firewall.as_ref().unwrap();
        let chain = rules.chain(table, "t", "c").unwrap();
        let mut lines: Vec<&str> = listed.lines().map(str::trim).collect();
        let start = lines.iter().position(|line| *line == "chain c {").unwrap();
        lines.drain(..=start);
        let wanted: Vec<&str> =
            lines.into_iter().take_while(|line| *line != "}").filter(|line| !line.starts_with("type ")).collect();
        if table == "ip" {
            nat_texts(&lab, node);
        }
        let found: Vec<String> = chain.rules.iter().map(|rule| rules.text_in(&state, chain, rule)).collect();
        let ports_of = |text: &str| text.replace("counter packets 0 bytes 0", "counter");
        let wanted: Vec<String> = wanted.into_iter().map(ports_of).collect();
        assert_eq!(found, wanted, "{table}");
        assert!(found.len() > if table == "arp" { 8 } else { 15 }, "{table}: {found:?}");
    }
}
