//! Every fault that `hop why` is for, row by row: each is made in a network that runs, and has to be told by its node,
//! its direction and its reason. Model, kernels and packet have to agree; the commands that are proposed
//! are typed as they stand; and then ordinary sockets have to get through.
//!
//! `ROW=10` runs those of that number alone, and prints what was found.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test says what is wrong by failing")]

mod common;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use hopyard::Network;
use hopyard::explain::{Edit, Outcome, Packet, Protocol};
use hopyard::runtime::ping::{Probe, ping};
use hopyard::runtime::why::{Report, why};

use common::once_more;

/// `a ra -- ab r1 rr -- rr r2 rb -- br b`, by hand.
const CHAIN: &str = include_str!("../../explain/corpus/chain.hop.yaml");
/// c, d and e at one switch.
const SEGMENT: &str = "\
nodes: { c: , d: , e: }
switches: { sw: }
links:
  - { endpoints: [c:eth0, sw], ipv4: 10.0.0.1/24, ipv6: \"fd00::1/64\" }
  - { endpoints: [d:eth0, sw], ipv4: 10.0.0.2/24, ipv6: \"fd00::2/64\" }
  - { endpoints: [e:eth0, sw], ipv4: 10.0.0.3/24, ipv6: \"fd00::3/64\" }
";
/// Somebody waits here in every target.
const PORT: u16 = 4242;
/// Only at the loopback address.
const ELSEWHERE: u16 = 4343;
const PATIENCE: Duration = Duration::from_secs(5);
const ALL: &[Protocol] = &[Protocol::Icmp, Protocol::Tcp, Protocol::Udp];
const SIZED: &[Protocol] = &[Protocol::Icmp, Protocol::Udp];
const PORTS: &[Protocol] = &[Protocol::Tcp, Protocol::Udp];

#[derive(Clone, Copy)]
struct Row {
    /// Its number in the matrix, and what it is.
    name: &'static str,
    /// The lab: `CHAIN` or `SEGMENT`.
    lab: &'static str,
    /// `NODE: COMMAND` lines.
    breaks: &'static str,
    from: &'static str,
    /// Who should get it, and at which address.
    to: (&'static str, &'static str),
    protocols: &'static [Protocol],
    port: u16,
    size: Option<u32>,
    /// `there NODE CODE`, `back NODE CODE`, the same behind `?` where chance or something that is not understood
    /// decides, or nothing.
    says: &'static str,
    /// `NODE: COMMAND` lines; behind `perhaps` what is needed only if the probe has taught somebody something wrong.
    repair: &'static str,
}

const fn row(name: &'static str, breaks: &'static str, says: &'static str, repair: &'static str) -> Row {
    let to = ("b", "10.0.3.2");
    Row { name, lab: CHAIN, breaks, from: "a", to, protocols: ALL, port: PORT, size: None, says, repair }
}

const fn row6(name: &'static str, breaks: &'static str, says: &'static str, repair: &'static str) -> Row {
    Row { to: ("b", "fd00:3::2"), ..row(name, breaks, says, repair) }
}

/// At the switch.
const fn beside(name: &'static str, breaks: &'static str, says: &'static str, repair: &'static str) -> Row {
    Row { lab: SEGMENT, from: "c", to: ("d", "10.0.0.2"), ..row(name, breaks, says, repair) }
}

const fn beside6(name: &'static str, breaks: &'static str, says: &'static str, repair: &'static str) -> Row {
    Row { to: ("d", "fd00::2"), ..beside(name, breaks, says, repair) }
}

#[rustfmt::skip]
const ROWS: &[Row] = &[
    row("0 nothing is wrong", "", "", ""),
    row6("0 nothing is wrong, IPv6", "", "", ""),
    beside("0 nothing is wrong at the switch", "", "", ""),
    beside6("0 nothing is wrong at the switch, IPv6", "", "", ""),

    row("1 no route at the source",
        "a: ip route delete default",
        "there a no-route", "a: ip route add default via 10.0.1.1"),
    row6("1 no route at the source, IPv6",
        "a: ip -6 route delete default",
        "there a no-route", "a: ip -6 route add default via fd00:1::1"),
    row("2 no route at r1",
        "r1: ip route delete 10.0.3.0/24",
        "there r1 no-route", "r1: ip route add 10.0.3.0/24 via 10.0.2.2"),
    row6("2 no route at r1, IPv6",
        "r1: ip -6 route delete fd00:3::/64",
        "there r1 no-route", "r1: ip route add fd00:3::/64 via fd00:2::2"),
    Row { to: ("b", "10.9.0.1"), ..row("2 no route behind a default",
        "r1: ip route delete 10.9.0.0/24",
        "there r1 no-route", "r1: ip route add 10.9.0.0/24 via 10.0.2.2") },
    row("3a no route back at the target",
        "b: ip route delete 10.0.0.0/16",
        "back b no-return-route", "b: ip route add 10.0.0.0/16 via 10.0.3.1"),
    row6("3a no route back at the target, IPv6",
        "b: ip -6 route delete fd00:1::/64",
        "back b no-return-route", "b: ip route add fd00:1::/64 via fd00:3::1"),
    row("3b no route back at r2",
        "r2: ip route delete 10.0.1.0/24",
        "back r2 no-return-route", "r2: ip route add 10.0.1.0/24 via 10.0.2.1"),
    row6("3b no route back at r2, IPv6",
        "r2: ip -6 route delete fd00:1::/64",
        "back r2 no-return-route", "r2: ip route add fd00:1::/64 via fd00:2::1"),

    row("4 no forwarding at r1",
        "r1: sysctl -w net.ipv4.ip_forward=0",
        "there r1 forwarding-off", "r1: sysctl -w net.ipv4.ip_forward=1"),
    row6("4 no forwarding at r1, IPv6",
        "r1: sysctl -w net.ipv6.conf.all.forwarding=0",
        "there r1 forwarding-off", "r1: sysctl -w net.ipv6.conf.all.forwarding=1"),
    row("4 no forwarding at the interface of r1 by which it comes",
        "r1: sysctl -w net.ipv4.conf.ab.forwarding=0",
        "there r1 forwarding-off", "r1: sysctl -w net.ipv4.conf.ab.forwarding=1"),
    row("4 no forwarding at the interface of r1 by which the answer comes",
        "r1: sysctl -w net.ipv4.conf.rr.forwarding=0",
        "back r1 forwarding-off", "r1: sysctl -w net.ipv4.conf.rr.forwarding=1"),
    row6("4 that switch of an interface is none in IPv6",
        "r1: sysctl -w net.ipv6.conf.ab.forwarding=0",
        "", ""),

    row("5 rp_filter at r2, whose way back is another",
        "r2: sysctl -w net.ipv4.conf.all.rp_filter=1
         r2: ip route replace 10.0.1.0/24 via 10.0.3.2",
        "there r2 rp-filter", "r2: ip route replace 10.0.1.0/24 via 10.0.2.1"),
    row("5 rp_filter at r2, which has no way back",
        "r2: sysctl -w net.ipv4.conf.rr.rp_filter=2
         r2: ip route delete 10.0.1.0/24",
        "there r2 rp-filter", "r2: ip route add 10.0.1.0/24 via 10.0.2.1"),
    row("5b rp_filter at the first hop",
        "r1: sysctl -w net.ipv4.conf.all.rp_filter=1
         r1: ip route add 10.0.1.2/32 via 10.0.2.2",
        "there a arp-refused", "r1: ip route delete 10.0.1.2/32"),
    row("5b arp_ignore at the first hop",
        "r1: sysctl -w net.ipv4.conf.all.arp_ignore=8",
        "there a arp-refused", "r1: sysctl -w net.ipv4.conf.all.arp_ignore=0"),

    row("6 the interface on is down",
        "r1: ip link set dev rr down",
        "there r1 link-down",
        "r1: ip link set dev rr up
         r1: ip route add 10.0.3.0/24 via 10.0.2.2"),
    row6("6 the interface on is down, IPv6",
        "r1: ip link set dev rr down",
        "there r1 link-down",
        "r1: ip link set dev rr up
         r1: ip address add fd00:2::1/64 dev rr nodad
         r1: ip route add fd00:3::/64 via fd00:2::2"),
    row("7 the other end is down",
        "b: ip link set dev br down",
        "there r2 no-carrier",
        "b: ip link set dev br up
         b: ip route add 10.0.0.0/16 via 10.0.3.1"),
    row6("7 the other end is down, IPv6",
        "b: ip link set dev br down",
        "there r2 no-carrier",
        "b: ip link set dev br up
         b: ip address add fd00:3::2/64 dev br nodad
         b: ip route add fd00:1::/64 via fd00:3::1"),

    row("8a the target has another address",
        "b: ip address add 10.0.3.7/24 dev br
         b: ip address delete 10.0.3.2/24 dev br",
        "there r2 neighbour-unresolved",
        "b: ip address add 10.0.3.2/24 dev br
         b: ip route add 10.0.0.0/16 via 10.0.3.1"),
    row6("8a the target has another address, IPv6",
        "b: ip address add fd00:3::7/64 dev br nodad
         b: ip address delete fd00:3::2/64 dev br",
        "there r2 neighbour-unresolved",
        "b: ip address add fd00:3::2/64 dev br nodad"),
    row("8b a wrong mask at the source",
        "a: ip address add 10.0.1.2/16 dev ra
         a: ip address delete 10.0.1.2/24 dev ra",
        "there a wrong-mask",
        "a: ip address add 10.0.1.2/24 dev ra
         a: ip address delete 10.0.1.2/16 dev ra"),
    row6("8b a wrong mask at the source, IPv6",
        "a: ip address delete fd00:1::2/64 dev ra
         a: ip address add fd00:1::2/16 dev ra nodad",
        "there a wrong-mask",
        "a: ip address delete fd00:1::2/16 dev ra
         a: ip address add fd00:1::2/64 dev ra nodad"),
    row("8c a wrong mask at the target",
        "b: ip route delete 10.0.0.0/16
         b: ip address add 10.0.3.2/16 dev br
         b: ip address delete 10.0.3.2/24 dev br",
        "back b wrong-mask", "b: ip route replace 10.0.0.0/16 via 10.0.3.1"),
    row6("8c a wrong mask at the target, IPv6",
        "b: ip -6 route delete fd00:1::/64
         b: ip address delete fd00:3::2/64 dev br
         b: ip address add fd00:3::2/16 dev br nodad",
        "back b wrong-mask", "b: ip route add fd00:1::/64 via fd00:3::1"),
    // Which one answers first is chance, and remembered: nothing that is asked later is open any more.
    Row { protocols: &[Protocol::Icmp], ..beside("9 two have the address",
        "e: ip address add 10.0.0.2/24 dev eth0",
        "? there c duplicate-address",
        "e: ip address delete 10.0.0.2/24 dev eth0
         perhaps c: ip neigh delete 10.0.0.2 dev eth0") },
    Row { protocols: &[Protocol::Icmp], ..beside6("9 two have the address, IPv6",
        "e: ip address add fd00::2/64 dev eth0 nodad",
        "? there c duplicate-address",
        "e: ip address delete fd00::2/64 dev eth0
         perhaps c: ip neigh delete fd00::2 dev eth0") },
    Row { protocols: &[Protocol::Udp], ..beside("9 two have the address, UDP",
        "e: ip address add 10.0.0.2/24 dev eth0",
        "? there c duplicate-address",
        "e: ip address delete 10.0.0.2/24 dev eth0
         perhaps c: ip neigh delete 10.0.0.2 dev eth0") },
    // To itself it answers by its own firewall, which is beside the point.
    Row { protocols: &[Protocol::Icmp], to: ("e", "fd00::3"), from: "d", ..beside6("9 the target has the address of the sender, and a firewall, IPv6",
        "e: ip address add fd00::2/64 dev eth0 nodad
         e: nft add table inet fw
         e: nft 'add chain inet fw output { type filter hook output priority 0; policy accept; }'
         e: nft add rule inet fw output ip6 daddr fd00::2 icmpv6 type echo-reply drop",
        "back e return-to-wrong-node",
        "e: ip address delete fd00::2/64 dev eth0
         e: nft insert rule inet fw output position 2 ip6 saddr fd00::3 ip6 daddr fd00::2 meta l4proto icmpv6 accept") },
    // Cloned, with its Ethernet address: the one gets it of whom the switch has heard last.
    beside("9 two have the Ethernet address",
        "e: ip link set dev eth0 address 02:3e:9c:5f:ee:20",
        "? there c duplicate-mac",
        "e: ip link set dev eth0 address 02:8d:d5:1f:ac:e7
         perhaps c: ip neigh delete 10.0.0.2 dev eth0"),
    beside6("9 two have the Ethernet address, IPv6",
        "e: ip link set dev eth0 address 02:3e:9c:5f:ee:20",
        "? there c duplicate-mac",
        "e: ip link set dev eth0 address 02:8d:d5:1f:ac:e7
         perhaps c: ip neigh delete fd00::2 dev eth0"),
    Row { from: "e", ..beside("9 the two that have the Ethernet address",
        "e: ip link set dev eth0 address 02:3e:9c:5f:ee:20",
        "there e duplicate-mac",
        "e: ip link set dev eth0 address 02:8d:d5:1f:ac:e7") },
    Row { from: "e", ..beside6("9 the two that have the Ethernet address, IPv6",
        "e: ip link set dev eth0 address 02:3e:9c:5f:ee:20",
        "there e duplicate-mac",
        "e: ip link set dev eth0 address 02:8d:d5:1f:ac:e7") },
    // Who asks speaks before the answer comes.
    Row { from: "e", to: ("c", "10.0.0.1"), ..beside("9 one of two that have the Ethernet address asks a third",
        "e: ip link set dev eth0 address 02:3e:9c:5f:ee:20", "", "") },

    row("10a a rule of a firewall at r1",
        "r1: nft add table inet fw
         r1: nft 'add chain inet fw forward { type filter hook forward priority 0; policy accept; }'
         r1: nft add rule inet fw forward ip daddr 10.0.3.2 drop",
        "there r1 firewall",
        "r1: nft insert rule inet fw forward position 2 ip saddr 10.0.1.2 ip daddr 10.0.3.2 meta l4proto icmp accept"),
    row6("10a a rule of a firewall at r1, IPv6",
        "r1: nft add table inet fw
         r1: nft 'add chain inet fw forward { type filter hook forward priority 0; policy accept; }'
         r1: nft add rule inet fw forward ip6 daddr fd00:3::2 drop",
        "there r1 firewall",
        "r1: nft insert rule inet fw forward position 2 ip6 saddr fd00:1::2 ip6 daddr fd00:3::2 meta l4proto icmpv6 accept"),
    row("10b the policy of a firewall at r1",
        "r1: nft add table ip fw
         r1: nft 'add chain ip fw forward { type filter hook forward priority 0; policy drop; }'
         r1: nft add rule ip fw forward ip daddr 10.0.1.2 accept",
        "there r1 firewall",
        "r1: nft add rule ip fw forward ip saddr 10.0.1.2 ip daddr 10.0.3.2 meta l4proto icmp accept"),
    row6("10b the policy of a firewall at r1, IPv6",
        "r1: nft add table ip6 fw
         r1: nft 'add chain ip6 fw forward { type filter hook forward priority 0; policy drop; }'
         r1: nft add rule ip6 fw forward ip6 daddr fd00:1::2 accept",
        "there r1 firewall",
        "r1: nft add rule ip6 fw forward ip6 saddr fd00:1::2 ip6 daddr fd00:3::2 meta l4proto icmpv6 accept"),
    row("10c a firewall at the target",
        "b: nft add table inet fw
         b: nft 'add chain inet fw input { type filter hook input priority 0; policy accept; }'
         b: nft add rule inet fw input ip saddr 10.0.1.2 drop",
        "there b firewall",
        "b: nft insert rule inet fw input position 2 ip saddr 10.0.1.2 ip daddr 10.0.3.2 meta l4proto icmp accept"),
    row6("10c a firewall at the target, IPv6",
        "b: nft add table inet fw
         b: nft 'add chain inet fw input { type filter hook input priority 0; policy accept; }'
         b: nft add rule inet fw input ip6 saddr fd00:1::2 drop",
        "there b firewall",
        "b: nft insert rule inet fw input position 2 ip6 saddr fd00:1::2 ip6 daddr fd00:3::2 meta l4proto icmpv6 accept"),
    // Both the rule and the policy drop it, so which one does not matter; it is accepted before either.
    Row { protocols: &[Protocol::Icmp], ..row("10c a firewall at the target that drops by one rule or another",
        "b: nft add table inet fw
         b: nft 'add chain inet fw input { type filter hook input priority 0; policy drop; }'
         b: nft add rule inet fw input limit rate 1/day burst 1 packets counter drop",
        "there b firewall",
        "b: nft insert rule inet fw input ip saddr 10.0.1.2 ip daddr 10.0.3.2 meta l4proto icmp accept") },
    row6("10c a firewall that drops neighbour discovery, IPv6",
        "r2: nft add table inet fw
         r2: nft 'add chain inet fw input { type filter hook input priority 0; policy accept; }'
         r2: nft add rule inet fw input icmpv6 type nd-neighbor-solicit drop
         r1: ip neigh flush dev rr",
        "there r1 firewall", "r2: nft delete rule inet fw input handle 2"),
    row("10d a firewall at the source",
        "a: nft add table inet fw
         a: nft 'add chain inet fw output { type filter hook output priority 0; policy accept; }'
         a: nft add rule inet fw output ip daddr 10.0.3.0/24 drop",
        "there a firewall",
        "a: nft insert rule inet fw output position 2 ip saddr 10.0.1.2 ip daddr 10.0.3.2 meta l4proto icmp accept"),
    row6("10d a firewall at the source, IPv6",
        "a: nft add table inet fw
         a: nft 'add chain inet fw output { type filter hook output priority 0; policy accept; }'
         a: nft add rule inet fw output ip6 daddr fd00:3::/64 drop",
        "there a firewall",
        "a: nft insert rule inet fw output position 2 ip6 saddr fd00:1::2 ip6 daddr fd00:3::2 meta l4proto icmpv6 accept"),
    row("10e a firewall on the way back",
        "r2: nft add table inet fw
         r2: nft 'add chain inet fw forward { type filter hook forward priority 0; policy accept; }'
         r2: nft add rule inet fw forward ip saddr 10.0.3.2 drop",
        "back r2 firewall",
        "r2: nft insert rule inet fw forward position 2 ip saddr 10.0.3.2 ip daddr 10.0.1.2 meta l4proto icmp accept"),
    row6("10e a firewall on the way back, IPv6",
        "r2: nft add table inet fw
         r2: nft 'add chain inet fw forward { type filter hook forward priority 0; policy accept; }'
         r2: nft add rule inet fw forward ip6 saddr fd00:3::2 drop",
        "back r2 firewall",
        "r2: nft insert rule inet fw forward position 2 ip6 saddr fd00:3::2 ip6 daddr fd00:1::2 meta l4proto icmpv6 accept"),
    row("10e a firewall behind the translation of sources",
        "r2: nft add table ip nat
         r2: nft 'add chain ip nat post { type nat hook postrouting priority 100; }'
         r2: nft add rule ip nat post oifname rb masquerade
         r2: nft add table inet fw
         r2: nft 'add chain inet fw post { type filter hook postrouting priority 200; policy accept; }'
         r2: nft add rule inet fw post ip saddr 10.0.3.1 counter drop",
        "there r2 firewall",
        "r2: nft insert rule inet fw post position 2 ip saddr 10.0.3.1 ip daddr 10.0.3.2 meta l4proto icmp accept"),
    row6("10e a firewall behind the translation of sources, IPv6",
        "r2: nft add table ip6 nat
         r2: nft 'add chain ip6 nat post { type nat hook postrouting priority 100; }'
         r2: nft add rule ip6 nat post oifname rb masquerade
         r2: nft add table inet fw
         r2: nft 'add chain inet fw post { type filter hook postrouting priority 200; policy accept; }'
         r2: nft add rule inet fw post icmpv6 type nd-neighbor-solicit accept
         r2: nft add rule inet fw post icmpv6 type nd-neighbor-advert accept
         r2: nft add rule inet fw post ip6 saddr fd00:3::1 counter drop",
        "there r2 firewall",
        "r2: nft insert rule inet fw post position 4 ip6 saddr fd00:3::1 ip6 daddr fd00:3::2 meta l4proto icmpv6 accept"),
    row("10f a firewall of an interface",
        "r1: nft add table netdev fw
         r1: nft 'add chain netdev fw in { type filter hook ingress device ab priority 0; policy accept; }'
         r1: nft add rule netdev fw in ip daddr 10.0.3.2 drop",
        "there r1 firewall",
        "r1: nft insert rule netdev fw in position 2 ip saddr 10.0.1.2 ip daddr 10.0.3.2 meta l4proto icmp accept"),
    row6("10f a firewall of an interface, IPv6",
        "r1: nft add table netdev fw
         r1: nft 'add chain netdev fw in { type filter hook ingress device ab priority 0; policy accept; }'
         r1: nft add rule netdev fw in ip6 daddr fd00:3::2 drop",
        "there r1 firewall",
        "r1: nft insert rule netdev fw in position 2 ip6 saddr fd00:1::2 ip6 daddr fd00:3::2 meta l4proto icmpv6 accept"),
    beside("10g a firewall of IP in a switch",
        "sw: nft add table ip fw
         sw: nft 'add chain ip fw forward { type filter hook forward priority 0; policy drop; }'",
        "there c firewall-bridge", "sw: sysctl -w net.bridge.bridge-nf-call-iptables=0"),
    beside6("10g a firewall of IP in a switch, IPv6",
        "sw: nft add table ip6 fw
         sw: nft 'add chain ip6 fw forward { type filter hook forward priority 0; policy drop; }'",
        "there c firewall-bridge", "sw: sysctl -w net.bridge.bridge-nf-call-ip6tables=0"),
    row("11 a firewall that rejects",
        "r2: nft add table inet fw
         r2: nft 'add chain inet fw forward { type filter hook forward priority 0; policy accept; }'
         r2: nft add rule inet fw forward ip daddr 10.0.3.2 reject with icmpx type admin-prohibited",
        "there r2 firewall",
        "r2: nft insert rule inet fw forward position 2 ip saddr 10.0.1.2 ip daddr 10.0.3.2 meta l4proto icmp accept"),
    row6("11 a firewall that rejects, IPv6",
        "r2: nft add table inet fw
         r2: nft 'add chain inet fw forward { type filter hook forward priority 0; policy accept; }'
         r2: nft add rule inet fw forward ip6 daddr fd00:3::2 reject with icmpx type admin-prohibited",
        "there r2 firewall",
        "r2: nft insert rule inet fw forward position 2 ip6 saddr fd00:1::2 ip6 daddr fd00:3::2 meta l4proto icmpv6 accept"),
    Row { protocols: &[Protocol::Tcp], ..row("11b a firewall that resets",
        "r2: nft add table inet fw
         r2: nft 'add chain inet fw forward { type filter hook forward priority 0; policy accept; }'
         r2: nft add rule inet fw forward tcp dport 4242 reject with tcp reset",
        "there r2 firewall",
        "r2: nft insert rule inet fw forward position 2 ip saddr 10.0.1.2 ip daddr 10.0.3.2 tcp dport 4242 accept") },
    Row { protocols: &[Protocol::Tcp], ..row6("11b a firewall that resets, IPv6",
        "r2: nft add table inet fw
         r2: nft 'add chain inet fw forward { type filter hook forward priority 0; policy accept; }'
         r2: nft add rule inet fw forward tcp dport 4242 reject with tcp reset",
        "there r2 firewall",
        "r2: nft insert rule inet fw forward position 2 ip6 saddr fd00:1::2 ip6 daddr fd00:3::2 tcp dport 4242 accept") },

    Row { protocols: SIZED, size: Some(1400), ..row("12a too long for the way",
        "r1: ip link set dev rr mtu 1280",
        "there r1 mtu", "r1: ip link set dev rr mtu 1500") },
    Row { protocols: SIZED, size: Some(1400), ..row6("12a too long for the way, IPv6",
        "r1: ip link set dev rr mtu 1280",
        "there r1 mtu", "r1: ip link set dev rr mtu 1500") },
    Row { protocols: SIZED, size: Some(1400), ..row("12b too long for the other end",
        "r2: ip link set dev rr mtu 1280",
        "there r1 mtu-mismatch", "r2: ip link set dev rr mtu 1500") },
    Row { protocols: SIZED, size: Some(1400), ..row6("12b too long for the other end, IPv6",
        "r2: ip link set dev rr mtu 1280",
        "there r1 mtu-mismatch", "r2: ip link set dev rr mtu 1500") },
    Row { protocols: SIZED, size: Some(1400), ..row("12c too long, and nobody is told",
        "r1: ip link set dev rr mtu 1280
         r1: nft add table inet fw
         r1: nft 'add chain inet fw output { type filter hook output priority 0; policy accept; }'
         r1: nft add rule inet fw output icmp type destination-unreachable drop",
        "there r1 pmtud-blackhole", "r1: ip link set dev rr mtu 1500") },
    Row { protocols: SIZED, size: Some(1400), ..row6("12c too long, and nobody is told, IPv6",
        "r1: ip link set dev rr mtu 1280
         r1: nft add table inet fw
         r1: nft 'add chain inet fw output { type filter hook output priority 0; policy accept; }'
         r1: nft add rule inet fw output icmpv6 type packet-too-big drop",
        "there r1 pmtud-blackhole", "r1: ip link set dev rr mtu 1500") },

    Row { protocols: SIZED, size: Some(1400), ..row("12d too long for a route",
        "r1: ip route replace 10.0.3.0/24 via 10.0.2.2 mtu 1280",
        "there r1 mtu", "r1: ip route replace 10.0.3.0/24 via 10.0.2.2") },

    Row { protocols: PORTS, port: 4241, ..row("13 nothing waits at the port", "", "there b no-listener", "") },
    Row { protocols: PORTS, port: 4241, ..row6("13 nothing waits at the port, IPv6", "", "there b no-listener", "") },
    Row { protocols: PORTS, port: ELSEWHERE, ..row("13 it waits at another address", "", "there b wrong-bind-address", "") },
    Row { protocols: PORTS, port: ELSEWHERE, ..row6("13 it waits at another address, IPv6", "", "there b wrong-bind-address", "") },

    row("14a a blackhole",
        "r1: ip route add blackhole 10.0.3.2/32",
        "there r1 blackhole", "r1: ip route delete 10.0.3.2/32"),
    row6("14a a blackhole, IPv6",
        "r1: ip -6 route add blackhole fd00:3::2/128",
        "there r1 blackhole", "r1: ip route delete fd00:3::2/128"),
    row("14b an unreachable route",
        "r1: ip route add unreachable 10.0.3.2/32",
        "there r1 unreachable", "r1: ip route delete 10.0.3.2/32"),
    row6("14b an unreachable route, IPv6",
        "r1: ip -6 route add unreachable fd00:3::2/128",
        "there r1 unreachable", "r1: ip route delete fd00:3::2/128"),
    row("14c a route that prohibits",
        "r1: ip route add prohibit 10.0.3.2/32",
        "there r1 prohibit", "r1: ip route delete 10.0.3.2/32"),
    row6("14c a route that prohibits, IPv6",
        "r1: ip -6 route add prohibit fd00:3::2/128",
        "there r1 prohibit", "r1: ip route delete fd00:3::2/128"),
    row("14 a policy rule that prohibits",
        "r1: ip rule add priority 100 to 10.0.3.0/24 prohibit",
        "there r1 policy-rule", "r1: ip rule delete priority 100"),
    row6("14 a policy rule that prohibits, IPv6",
        "r1: ip -6 rule add priority 100 to fd00:3::/64 blackhole",
        "there r1 policy-rule", "r1: ip -6 rule delete priority 100"),
    row("15 a circle",
        "r2: ip route add 10.0.3.2/32 via 10.0.2.1",
        "there r2 ttl-loop", "r2: ip route delete 10.0.3.2/32"),
    row6("15 a circle, IPv6",
        "r2: ip -6 route add fd00:3::2/128 via fd00:2::1",
        "there r2 ttl-loop", "r2: ip route delete fd00:3::2/128"),

    row("16 r2 has the address of the source",
        "r2: ip address add 10.0.1.2/32 dev lo",
        "there r2 local-source", "r2: ip address delete 10.0.1.2/32 dev lo"),
    row6("16 r2 has the address of the source, IPv6",
        "r2: ip address add fd00:1::2/128 dev lo",
        "back r2 return-to-wrong-node", "r2: ip address delete fd00:1::2/128 dev lo"),
    row("17 a static neighbour that nobody is",
        "r2: ip neigh replace 10.0.3.2 lladdr 02:00:00:00:ff:ff dev rb nud permanent",
        "there r2 wrong-static-neighbour", "r2: ip neigh delete 10.0.3.2 dev rb"),
    row6("17 a static neighbour that nobody is, IPv6",
        "r2: ip neigh replace fd00:3::2 lladdr 02:00:00:00:ff:ff dev rb nud permanent",
        "there r2 wrong-static-neighbour", "r2: ip neigh delete fd00:3::2 dev rb"),

    Row { protocols: &[Protocol::Icmp], ..row("18 the target answers no ping",
        "b: sysctl -w net.ipv4.icmp_echo_ignore_all=1",
        "there b echo-ignored", "b: sysctl -w net.ipv4.icmp_echo_ignore_all=0") },
    Row { protocols: &[Protocol::Icmp], ..row6("18 the target answers no ping, IPv6",
        "b: sysctl -w net.ipv6.icmp.echo_ignore_all=1",
        "there b echo-ignored", "b: sysctl -w net.ipv6.icmp.echo_ignore_all=0") },
    Row { protocols: PORTS, ..row("18 the target answers no ping, and all else",
        "b: sysctl -w net.ipv4.icmp_echo_ignore_all=1",
        "", "") },
];

// ------------------------------------------------------------------------------------------ the test

#[test]
fn every_row_is_told_and_its_repair_works() {
    if Command::new("nft").arg("--version").output().is_err() {
        assert!(std::env::var_os("REQUIRE_LABS").is_none(), "there is no nft");
        println!("skipped: there is no nft");
        return;
    }
    let only = std::env::var("ROW").ok();
    let wanted = |row: &&Row| only.as_ref().is_none_or(|only| row.name.split(' ').next() == Some(only));
    let queue = Mutex::new(ROWS.iter().filter(wanted));
    let failed = Mutex::new(Vec::new());
    // Each has its own lab and waits most of the time: for what does not come.
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let Some(row) = queue.lock().unwrap().next() else { break };
                    match once_more(row.name, || check(row)) {
                        Ok(text) if only.is_some() => println!("{text}"),
                        Ok(_) => {}
                        Err(text) => failed.lock().unwrap().push(text),
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{} of {} rows:\n{}", failed.len(), ROWS.len(), failed.join("\n"));
}

/// In a black hole of path MTU discovery: instead of a larger MTU, senders that listen are told what fits.
#[test]
fn who_is_told_what_fits_sends_no_more_at_once() {
    if Command::new("nft").arg("--version").output().is_err() {
        assert!(std::env::var_os("REQUIRE_LABS").is_none(), "there is no nft");
        println!("skipped: there is no nft");
        return;
    }
    for row in ROWS.iter().filter(|row| row.name.starts_with("12c ")) {
        let net = Network::start(row.lab).unwrap();
        let row = Row { protocols: &[Protocol::Tcp], ..*row };
        let sockets = Sockets::open(&net, &row);
        lines(row.breaks).for_each(|(node, command)| type_in(&net, node, command).unwrap());
        let stuck = sockets.get_through(&net, &row);
        assert!(stuck.as_ref().is_err_and(|text| text.starts_with("read: ")), "{}: {stuck:?}", row.name);
        let report = ask(&net, &row, Protocol::Icmp);
        let told = report.repair.and_then(|repair| repair.told).unwrap();
        let (icmp, ip, told_to) = if row.to.1.contains(':') {
            ("icmpv6 type packet-too-big", "ip6", ["fd00:1::1", "fd00:1::2"])
        } else {
            ("icmp type destination-unreachable icmp code frag-needed", "ip", ["10.0.1.1", "10.0.1.2"])
        };
        let [from, to] = told_to;
        let expected =
            format!("nft insert rule inet fw output position 2 {ip} saddr {from} {ip} daddr {to} {icmp} accept");
        assert_eq!((told.node().as_str(), told.to_string()), ("r1", expected), "{}", row.name);
        type_in(&net, "r1", &told.to_string()).unwrap();
        assert_eq!(said(&ask(&net, &row, Protocol::Icmp)), "there r1 mtu", "{}", row.name);
        assert_eq!(sockets.get_through(&net, &row), Ok(()), "{}", row.name);
    }
}

const THREADS: usize = 8;

fn check(row: &Row) -> Result<String, String> {
    let mut text = format!("=== {}\n", row.name);
    let net = Network::start(row.lab).unwrap();
    let sockets = Sockets::open(&net, row);
    for (node, command) in lines(row.breaks) {
        type_in(&net, node, command).map_err(|error| format!("{text}{node}: {command}: {error}"))?;
    }
    let mut repairs = Vec::new();
    for &protocol in row.protocols {
        let report = ask(&net, row, protocol);
        let says = said(&report);
        writeln!(text, "{}: {says}", protocol.name()).unwrap();
        if says != row.says {
            return Err(format!("{text}{}", shown(&report)));
        }
        agree(&report, &text)?;
        repairs.push(report.repair.iter().flat_map(|repair| repair.edits().cloned()).collect::<Vec<Edit>>());
    }
    let repair = &repairs[0];
    let typed: Vec<String> = repair.iter().map(|edit| format!("{}: {edit}", edit.node())).collect();
    writeln!(text, "repair: {}", typed.join("\n        ")).unwrap();
    if repairs.iter().any(|other| !are_alike(other, repair)) {
        return Err(format!("{text}another repair for another protocol: {repairs:?}"));
    }
    let lines = row.repair.lines().map(str::trim);
    let surely: Vec<&str> = lines.clone().filter(|line| !line.starts_with("perhaps ")).collect();
    let at_most: Vec<&str> = lines.map(|line| line.trim_start_matches("perhaps ")).collect();
    if typed != surely && typed != at_most {
        return Err(text);
    }
    // What a firewall is to accept is another flow for each protocol, all else the same.
    let mut all: Vec<&Edit> = Vec::new();
    for edit in repairs.iter().flatten() {
        if !all.contains(&edit) {
            all.push(edit);
        }
    }
    for edit in all {
        type_in(&net, edit.node().as_str(), &edit.to_string()).map_err(|error| format!("{text}{edit}: {error}"))?;
    }
    // An interface that has come up is asked about for a second or two whether its address is another's, too.
    let deadline = Instant::now() + PATIENCE;
    while is_open(&net, row) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    let works = row.says.is_empty() || !repair.is_empty();
    if works {
        for &protocol in row.protocols {
            let report = ask(&net, row, protocol);
            if report.verdict.outcome() != Outcome::Yes {
                return Err(format!("{text}after the repair: {} {}", protocol.name(), shown(&report)));
            }
            agree(&report, &format!("{text}after the repair, {}\n", protocol.name()))?;
        }
        sockets.get_through(&net, row).map_err(|error| format!("{text}after the repair: {error}"))?;
    }
    Ok(text)
}

/// Are two repairs the same but for the protocol and port of what is to be accepted?
fn are_alike(one: &[Edit], other: &[Edit]) -> bool {
    let any_protocol = |edits: &[Edit]| {
        let mut edits = edits.to_vec();
        for edit in &mut edits {
            if let Edit::AcceptFlow { flow, .. } = edit {
                (flow.protocol, flow.port) = (Protocol::Icmp, 0);
            }
        }
        edits
    };
    any_protocol(one) == any_protocol(other)
}

/// What waits for the route of an IPv6 address that a command adds: the kernel makes it a moment later.
fn until_taken_in(command: &str) -> String {
    let added = command.strip_prefix("ip address add ").and_then(|rest| rest.split('/').next());
    match added.filter(|address| address.contains(':')) {
        Some(address) => {
            let there = format!("ip -6 route show table local | grep -q '^local {address} '");
            format!(" && timeout 20 sh -c \"while ! {there}; do :; done\"")
        }
        None => String::new(),
    }
}

/// `NODE: COMMAND`.
fn lines(text: &'static str) -> impl Iterator<Item = (&'static str, &'static str)> {
    text.lines().map(|line| line.trim().split_once(": ").unwrap())
}

fn type_in(net: &Network, node: &str, command: &str) -> Result<(), String> {
    // Switches are no nodes to the library, and can be entered all the same.
    let entry = net.running().entry(node, "/".into(), None).map_err(|error| error.to_string())?;
    let command = command.to_owned() + &until_taken_in(command);
    let output = entry.command("sh").args(["-c", &command]).output().map_err(|error| error.to_string())?;
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(()) } else { Err(error) }
}

/// Is it open to the model whether the packet gets through, as something is not ready yet?
fn is_open(net: &Network, row: &Row) -> bool {
    row.repair.contains("ip link") && {
        let packet = Packet::probe(row.to.1.parse().unwrap(), Protocol::Icmp, 0);
        let report = why(net.running(), row.from, packet, Some(row.to.0.parse().unwrap()), false).unwrap();
        report.outcome() == Outcome::Undecided
    }
}

fn ask(net: &Network, row: &Row, protocol: Protocol) -> Report {
    let port = if protocol == Protocol::Icmp { 0 } else { row.port };
    let mut packet = Packet::probe(row.to.1.parse().unwrap(), protocol, port);
    packet.length = row.size.unwrap_or(packet.length);
    why(net.running(), row.from, packet, Some(row.to.0.parse().unwrap()), true).unwrap()
}

/// What is told, as a row has it.
fn said(report: &Report) -> String {
    let open = if report.verdict.outcome() == Outcome::Undecided { "? " } else { "" };
    report.verdict.trouble().map_or_else(String::new, |it| {
        format!("{open}{} {} {}", if it.back { "back" } else { "there" }, it.node, it.code())
    })
}

fn agree(report: &Report, text: &str) -> Result<(), String> {
    let reached = report.seen.as_ref().unwrap().reached(&report.query, report.owner.as_ref());
    // Where it is open to the model, the packet is free.
    let open = report.verdict.outcome() == Outcome::Undecided;
    // Nobody sees a datagram at its socket, nor has it an answer.
    let datagram = report.query.packet.protocol == Protocol::Udp;
    let at_its_end = report.verdict.trouble().is_some_and(|it| Some(it.node) == report.owner);
    if open && datagram && at_its_end && report.outcome() == Outcome::Yes {
        return Err(format!("{text}what nobody has seen\n{}", shown(report)));
    }
    if report.disagreements.is_empty() && (open || datagram || reached == (report.verdict.outcome() == Outcome::Yes)) {
        return Ok(());
    }
    Err(format!("{text}{}", shown(report)))
}

/// All that is known, a line a hop.
fn shown(report: &Report) -> String {
    let mut text = String::new();
    let walks = [("there", Some(&report.verdict.there)), ("back", report.verdict.back.as_ref())];
    for (way, walk) in walks.into_iter().filter_map(|(way, walk)| Some((way, walk?))) {
        for hop in &walk.hops {
            let seen = report.seen.as_ref().map(|seen| seen.at(&hop.node)).unwrap_or_default();
            let passing = if way == "there" { seen.packet } else { seen.reply };
            writeln!(text, "  {way} {} {:?} -> {:?} {:?}", hop.node, hop.input, hop.next, hop.end).unwrap();
            writeln!(text, "        {passing:?} {:?} {:?}", seen.errors, seen.asked).unwrap();
        }
    }
    let answered = report.seen.as_ref().map(|seen| (seen.answered, seen.refused));
    writeln!(text, "  answered, refused: {answered:?}; {:?}", report.disagreements).unwrap();
    text
}

/// Somebody waits in the target: at one port for all, at another one for the node itself.
struct Sockets {
    listener: TcpListener,
    datagrams: UdpSocket,
    _elsewhere: Vec<(TcpListener, UdpSocket)>,
}

impl Sockets {
    fn open(net: &Network, row: &Row) -> Self {
        let bind = |addr: SocketAddr| {
            let node = net.node(row.to.0).unwrap();
            node.run(|| (TcpListener::bind(addr).unwrap(), UdpSocket::bind(addr).unwrap())).unwrap()
        };
        let (listener, datagrams) = bind((Ipv6Addr::UNSPECIFIED, PORT).into());
        datagrams.set_read_timeout(Some(PATIENCE)).unwrap();
        let elsewhere = ["127.0.0.1", "::1"].map(|addr| bind((addr.parse::<IpAddr>().unwrap(), ELSEWHERE).into()));
        Sockets { listener, datagrams, _elsewhere: elsewhere.into() }
    }

    /// Ordinary programs do what the row is about.
    fn get_through(&self, net: &Network, row: &Row) -> Result<(), String> {
        let to: IpAddr = row.to.1.parse().unwrap();
        let from = net.node(row.from).unwrap();
        let namespaces: BTreeMap<_, _> = net.running().namespaces().unwrap().into_iter().collect();
        for protocol in row.protocols {
            match protocol {
                Protocol::Icmp => {
                    let probe = Probe { from: row.from.parse().unwrap(), to };
                    let outcomes = ping(net.running().realm(), &namespaces, &[probe], PATIENCE).unwrap();
                    if !outcomes[0].is_reply() {
                        return Err(format!("ping: {outcomes:?}"));
                    }
                }
                Protocol::Tcp => {
                    // More than one segment.
                    let text = vec![7; 20_000];
                    let connected = from.run(|| TcpStream::connect_timeout(&(to, PORT).into(), PATIENCE)).unwrap();
                    let mut connected = connected.map_err(|error| format!("connect: {error}"))?;
                    connected.write_all(&text).unwrap();
                    connected.shutdown(std::net::Shutdown::Write).unwrap();
                    let (mut stream, _) = self.listener.accept().unwrap();
                    stream.set_read_timeout(Some(PATIENCE)).unwrap();
                    let mut read = Vec::new();
                    stream.read_to_end(&mut read).map_err(|error| format!("read: {error}"))?;
                    assert_eq!(read, text);
                }
                Protocol::Udp => {
                    let bind: IpAddr = if to.is_ipv4() { [0; 4].into() } else { Ipv6Addr::UNSPECIFIED.into() };
                    let socket = from.run(|| UdpSocket::bind((bind, 0))).unwrap().unwrap();
                    socket.set_read_timeout(Some(PATIENCE)).unwrap();
                    let text = vec![7; row.size.map_or(10, |size| size as usize - 48)];
                    socket.send_to(&text, (to, PORT)).map_err(|error| format!("send: {error}"))?;
                    let mut buffer = [0; 2000];
                    // Before it, what the probes have sent.
                    loop {
                        let (length, peer) =
                            self.datagrams.recv_from(&mut buffer).map_err(|error| format!("receive: {error}"))?;
                        if buffer[..length] == text {
                            self.datagrams.send_to(&text, peer).map_err(|error| format!("answer: {error}"))?;
                            break;
                        }
                    }
                    let read = socket.recv_from(&mut buffer).map_err(|error| format!("read the answer: {error}"))?;
                    assert_eq!(read.0, text.len());
                }
            }
        }
        Ok(())
    }
}
