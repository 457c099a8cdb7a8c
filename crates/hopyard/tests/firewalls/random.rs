//! Random rules, as nft(8) takes them, over sets, maps and frames.

use hopyard::explain::Protocol;

use super::common::Dice;

const V4: &[&str] = &["10.0.1.2", "10.0.1.1", "10.0.2.1", "10.0.2.2", "10.0.2.3"];
const V4_MORE: &[&str] =
    &["10.0.1.0/24", "10.0.2.0/30", "10.0.2.2-10.0.2.9", "10.0.0.0/8", "192.0.2.0/24", "10.0.2.2/31"];
const V6: &[&str] = &["fd00:1::2", "fd00:2::1", "fd00:2::2", "fd00:2::3", "fd00:2::/64", "fd00:1::-fd00:1::ff"];
const PORTS: &[&str] = &["22", "80", "22-80", "443", "1000-65535", "0-21", "81-90"];
const FAMILIES: &[&str] = &["inet", "ip", "ip6"];

fn several(dice: &mut Dice, of: &[&str]) -> String {
    let mut chosen = vec![*dice.pick(of)];
    if dice.roll(2) == 0 {
        chosen.push(*dice.pick(of));
    }
    chosen.join(", ")
}

/// The table of a node's rules, by what the node is.
fn table(dice: &mut Dice, node: &str) -> (&'static str, &'static [(&'static str, &'static str)]) {
    const HOST: &[(&str, &str)] = &[
        ("prerouting", "prerouting"),
        ("input", "input"),
        ("forward", "forward"),
        ("output", "output"),
        ("postrouting", "postrouting"),
    ];
    const BRIDGE: &[(&str, &str)] =
        &[("prerouting", "prerouting"), ("forward", "forward"), ("postrouting", "postrouting")];
    const AT_INTERFACES: &[(&str, &str)] = &[("ingress", "ingress"), ("egress", "egress")];
    if dice.roll(4) == 0 {
        return ("netdev", AT_INTERFACES);
    }
    if node == "sw" && dice.roll(2) == 0 {
        return ("bridge", BRIDGE);
    }
    (*dice.pick(FAMILIES), if node == "sw" { BRIDGE } else { HOST })
}

/// Chains, and some sets to be asked.
pub(super) fn chains(dice: &mut Dice, node: &str) -> Vec<String> {
    let mut commands = Vec::new();
    for family in ["inet", "ip", "ip6", "netdev", "bridge"] {
        commands.push(format!("add table {family} t\nadd chain {family} t x\n"));
        let sets = [
            format!(
                "add set {family} t s4 {{ type ipv4_addr; flags interval; elements = {{ {} }}; }}",
                dice.pick(V4_MORE)
            ),
            format!("add set {family} t s6 {{ type ipv6_addr; flags interval; elements = {{ {} }}; }}", dice.pick(V6)),
            format!(
                "add set {family} t sp {{ type inet_service; flags interval; elements = {{ {} }}; }}",
                dice.pick(PORTS)
            ),
            format!(
                "add set {family} t sc {{ type ipv4_addr . inet_service; flags interval; elements = {{ {} . {} }}; }}",
                dice.pick(V4_MORE),
                dice.pick(PORTS)
            ),
            format!(
                "add map {family} t vm {{ type ipv4_addr : verdict; elements = {{ {} : drop, {} : jump x }}; }}",
                V4[dice.roll(2)],
                V4[2 + dice.roll(3)]
            ),
        ];
        commands.extend(sets.map(|set| format!("{set}\n")));
    }
    for _ in 0..=dice.roll(2) {
        let (family, hooks) = table(dice, node);
        let (name, hook) = *dice.pick(hooks);
        let device = match (family, node) {
            ("netdev", "sw") => format!("device port{}", dice.roll(3)),
            ("netdev", "r") => format!("device eth{}", dice.roll(2)),
            ("netdev", _) => "device eth0".to_owned(),
            _ => String::new(),
        };
        let priority = dice.pick(&[-300, -150, -10, 0, 0, 10, 300]);
        let policy = if dice.roll(3) == 0 { "drop" } else { "accept" };
        commands.push(format!(
            "add chain {family} t {name} {{ type filter hook {hook} {device} priority {priority}; policy {policy}; }}\n"
        ));
    }
    commands
}

fn matches(dice: &mut Dice) -> String {
    let not = |dice: &mut Dice| if dice.roll(4) == 0 { "!= " } else { "" };
    let end = *dice.pick(&["saddr", "daddr"]);
    let port = *dice.pick(&["dport", "dport", "sport"]);
    match dice.roll(26) {
        0 => format!("ip {end} {}{{ {} }}", not(dice), several(dice, V4)),
        1 => format!("ip {end} {}{{ {} }}", not(dice), several(dice, V4_MORE)),
        2 => format!("ip {end} {}{}", not(dice), dice.pick(V4_MORE)),
        3 => format!("ip {end} {}@s4", not(dice)),
        4 => format!("ip6 {end} {}@s6", not(dice)),
        5 => format!("ip6 {end} {}{{ {} }}", not(dice), dice.pick(V6)),
        6 => format!("tcp {port} {}{{ {} }}", not(dice), dice.pick(PORTS)),
        7 => format!("th {port} {}@sp", not(dice)),
        8 => format!("ip {end} . tcp dport {}@sc", not(dice)),
        9 => format!("ip saddr . ip daddr {}{{ {} . {} }}", not(dice), dice.pick(V4), dice.pick(V4)),
        10 => format!("ip saddr . ip daddr {{ {} . {} }}", dice.pick(V4_MORE), dice.pick(V4_MORE)),
        11 => format!("meta l4proto {}{{ {} }}", not(dice), several(dice, &["icmp", "tcp", "udp", "ipv6-icmp"])),
        12 => format!("iifname {}{{ \"eth0\", \"br*\" }}", not(dice)),
        13 => format!("oifname {}\"eth*\"", not(dice)),
        14 => format!("ct state {}{{ {} }}", not(dice), several(dice, &["new", "established", "untracked", "invalid"])),
        15 => format!("ct state {}", dice.pick(&["new", "established,related", "invalid"])),
        16 => format!("icmp type {}{{ {} }}", not(dice), several(dice, &["echo-request", "echo-reply"])),
        17 => "tcp flags syn / syn,ack".to_owned(),
        18 => format!("ip ttl {} {}", dice.pick(&["<", ">=", "!="]), dice.pick(&["63", "64"])),
        19 => format!("fib daddr type {}local", not(dice)),
        20 => format!("fib saddr . iif oif {}", dice.pick(&["exists", "missing"])),
        21 => format!("meta protocol {}{{ {} }}", not(dice), several(dice, &["ip", "ip6", "arp"])),
        22 => format!("meta mark {}", dice.pick(&["0x1", "!= 0x1", "{ 0, 2-5 }"])),
        23 => format!("meta length {}", dice.pick(&["0-50", "{ 40-60 }", "> 100"])),
        24 => format!("ether type {}", dice.pick(&["arp", "ip", "ip6"])),
        _ => format!("icmpv6 type {}", dice.pick(&["echo-request", "nd-neighbor-solicit", "{ 128-136 }"])),
    }
}

fn verdict(dice: &mut Dice) -> &'static str {
    dice.pick::<&str>(&[
        "drop",
        "drop",
        "accept",
        "accept",
        "jump x",
        "return",
        "counter",
        "reject",
        "meta mark set 0x1",
        "continue",
    ])
}

/// A rule in one of the chains that there may be.
pub(super) fn rule(dice: &mut Dice, node: &str) -> String {
    let (family, hooks) = table(dice, node);
    let chain = if dice.roll(4) == 0 { "x" } else { dice.pick(hooks).0 };
    let body = match dice.roll(12) {
        0 => format!("ct state vmap {{ established : {}, new : {} }}", verdict_alone(dice), verdict_alone(dice)),
        1 => format!("ip protocol vmap {{ icmp : {}, tcp : {} }}", verdict_alone(dice), verdict_alone(dice)),
        2 => format!("tcp dport vmap {{ 22 : {}, 23-100 : {} }}", verdict_alone(dice), verdict_alone(dice)),
        3 => format!("iifname vmap {{ \"eth0\" : {}, \"br*\" : {} }}", verdict_alone(dice), verdict_alone(dice)),
        4 => "ip saddr vmap @vm".to_owned(),
        5 => format!(
            "meta l4proto . th dport vmap {{ tcp . 22 : {}, udp . 80 : {} }}",
            verdict_alone(dice),
            verdict_alone(dice)
        ),
        6 => format!("meta mark set ip saddr map {{ {} : 0x1, {} : 0x2 }}", V4[dice.roll(2)], V4[2 + dice.roll(3)]),
        7 => format!("{} {} {}", matches(dice), matches(dice), verdict(dice)),
        8 if dice.roll(4) == 0 => format!("{} limit rate 5/second {}", matches(dice), verdict(dice)),
        _ => format!("{} {}", matches(dice), verdict(dice)),
    };
    format!("add rule {family} t {chain} {body}\n")
}

fn verdict_alone(dice: &mut Dice) -> &'static str {
    dice.pick::<&str>(&["accept", "drop", "jump x", "continue", "return"])
}

/// Who asks whom, by what.
pub(super) fn question(dice: &mut Dice) -> (&'static str, String, Protocol, u16) {
    let from = *dice.pick(&["a", "a", "r", "b", "c"]);
    let v6 = dice.roll(4) == 0;
    let others: Vec<&str> = match from {
        "a" => vec!["1::1", "2::2", "2::3"],
        "b" => vec!["1::2", "2::1", "2::3"],
        _ => vec!["1::2", "2::2"],
    };
    let other = *dice.pick(&others);
    let to = if v6 { format!("fd00:{other}") } else { format!("10.0.{}", other.replace("::", ".")) };
    let protocol = *dice.pick(&[Protocol::Icmp, Protocol::Icmp, Protocol::Tcp, Protocol::Tcp, Protocol::Udp]);
    let port = if protocol == Protocol::Icmp { 0 } else { *dice.pick(&[22, 80]) };
    (from, to, protocol, port)
}

/// Rules whose text is compared with what nft(8) lists.
pub(super) const TEXTS: &[&str] = &[
    "ip saddr { 1.2.3.4, 10.0.0.0/8 } drop",
    "ip saddr 10.0.0.0/8 accept",
    "ip saddr 10.0.0.0/9 accept",
    "ip daddr != 1.2.3.4-1.2.3.9 drop",
    "ip saddr . tcp dport { 1.2.3.0/24 . 22-30, 1.2.3.4 . 80 } drop",
    "ip saddr . ip daddr { 1.2.3.4 . 5.6.7.8 } drop",
    "ip6 saddr fe80::/10 accept",
    "ip6 daddr { fd00::1, fd00:1::/64 } drop",
    "tcp dport 22 accept",
    "tcp dport { 22, 80, 1000-2000 } accept",
    "tcp dport != { 22, 80 } drop",
    "udp sport 1000-2000 drop",
    "th dport 53 accept",
    "tcp flags syn / fin,syn,rst,ack accept",
    "ct state established,related accept",
    "ct state { established, related } accept",
    "ct state vmap { invalid : drop, established : accept }",
    "ct mark 0x00000001 drop",
    "ct status dnat accept",
    "ip protocol icmp drop",
    "ip protocol vmap { icmp : accept, tcp : jump x }",
    "icmp type { echo-reply, echo-request } accept",
    "icmpv6 type nd-neighbor-solicit accept",
    "meta l4proto { tcp, udp } accept",
    "meta mark 0x00000005 accept",
    "meta mark & 0x000000ff == 0x00000005 accept",
    "meta mark set 0x00000005",
    "meta mark set tcp dport map { 80 : 0x00000005, 443 : 0x00000006 }",
    "iifname \"eth0\" accept",
    "iif \"eth0\" accept",
    "iif \"lo\" accept",
    "iif != \"lo\" drop",
    "iif { \"lo\", \"eth0\" } drop",
    "oif . ip daddr { \"eth0\" . 1.2.3.4 } drop",
    "oif \"lo\" accept",
    "iifname \"v*\" accept",
    "iifname { \"eth0\", \"eth1\" } drop",
    "iifname vmap { \"eth0\" : jump x, \"eth1\" : drop }",
    "fib daddr type local accept",
    "ip ttl > 5 accept",
    "ip dscp cs1 accept",
    // Neighbouring fields, which nft(8) asks for at once.
    "ip ttl 63 ip protocol tcp drop",
    "ip length 40 ip id 7 drop",
    "ip ttl 63 ip protocol 99 drop",
    "ip6 nexthdr tcp ip6 hoplimit 3 drop",
    "ip saddr 1.2.3.4 ip daddr 5.6.7.8 drop",
    "tcp sport 1 tcp dport 2 drop",
    "ether saddr 02:00:00:00:00:01 ether type ip drop",
    // Halves of a byte.
    "ip version 4 drop",
    "ip version != 4 drop",
    "ip hdrlength 5 drop",
    "ip version 4 ip hdrlength 5 drop",
    "ip6 version 6 drop",
    "@nh,0,8 0x46 drop",
    // ARP, which but for tables of IP may be in any.
    "arp operation request drop",
    "ether type arp arp operation reply drop",
    "arp operation request arp saddr ip 1.2.3.4 drop",
    "arp saddr ether 02:00:00:00:00:01 arp saddr ip 1.2.3.4 drop",
    "arp htype 1 arp ptype ip drop",
    "arp plen 4 drop",
    "meta protocol arp drop",
    "ether saddr 02:00:00:00:00:01 drop",
    "ether type arp accept",
    "meta protocol ip accept",
    "counter drop",
    "reject",
    "reject with tcp reset",
    "tcp dport vmap { 22 : accept, 80-90 : drop }",
    "meta l4proto . th dport vmap { tcp . 22 : accept, udp . 53 : drop }",
];
