//! `hop why --ns` in networks that have what labs do not: what decides there is read and followed, or the answer is "not
//! known". Each answer of the model alone is compared with an ordinary ping, and must not contradict the probe.
//!
//! `STRANGE=macvlan` makes the rows alone that have that word in their name, and prints what is said.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test says what is wrong by failing")]

mod common;

use std::process::Command;
use std::sync::Mutex;

use common::machine::{HOP, Machine};
use common::text;

/// ```text
/// a e0 ------- e0 r e1 ------- e0 b
///   10.1.0.2   .1   10.2.0.1   .2          and fd01::2 and so on
/// ```
const CHAIN: &str = "\
for n in a r b; do node $n; done
ip -n a link add e0 type veth peer name e0 netns r
ip -n r link add e1 type veth peer name e0 netns b
addr a e0 10.1.0.2/24 fd01::2/64; addr r e0 10.1.0.1/24 fd01::1/64
addr r e1 10.2.0.1/24 fd02::1/64; addr b e0 10.2.0.2/24 fd02::2/64
ip -n a route add default via 10.1.0.1; ip -n b route add default via 10.2.0.1
ip -n a route add default via fd01::1; ip -n b route add default via fd02::1
in_ r sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
";

/// a, b and c at the bridge of s: 10.3.0.1 to .3; b has 10.5.0.1 as well, beside a node d.
const BRIDGE: &str = "\
node s; ip -n s link add br0 type bridge
i=1
for n in a b c; do
  node $n; ip -n $n link add e0 type veth peer name p$n netns s; ip -n s link set p$n master br0 up
  addr $n e0 10.3.0.$i/24 fd03::$i/64; i=$((i+1))
done
ip -n s link set br0 up
node d; ip -n b link add e1 type veth peer name e0 netns d
addr b e1 10.5.0.1/24 fd05::1/64; addr d e0 10.5.0.2/24 fd05::2/64; ip -n d route add default via 10.5.0.1
";

/// What the scripts say, and an end: signals and neighbours are there.
const WORDS: &str = "\
set -e
in_() { at=$1; shift; ip netns exec $at \"$@\"; }
node() {
  ip netns add $1
  in_ $1 sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0
  ip -n $1 link set lo up
}
addr() {
  ip -n $1 link set $2 up; ip -n $1 addr add $3 dev $2; ip -n $1 addr add $4 dev $2 nodad
}
mac() { ip -n $1 -br link show $2 | awk '{print $3}'; }
# The second interface has the Ethernet address of the first.
twins() { ip -n $3 link set $4 address $(mac $1 $2); }
# The kernel finds out about a signal a moment later.
settle() {
  while for n in $(ip netns list | cut -d' ' -f1); do ip -n $n link show up; done | grep -q -e LOWERLAYERDOWN -e M-DOWN; do :; done
}
";

struct Row {
    name: &'static str,
    net: &'static str,
    /// Lines of a shell.
    does: &'static str,
    from: &'static str,
    /// A namespace and its address, or an address alone.
    to: (&'static str, &'static str),
    /// `yes`, `no CODE` or `open`.
    says: &'static str,
}

const fn row(name: &'static str, does: &'static str, says: &'static str) -> Row {
    Row { name, net: CHAIN, does, from: "a", to: ("b", "10.2.0.2"), says }
}

const fn row6(name: &'static str, does: &'static str, says: &'static str) -> Row {
    Row { to: ("fd02::2", "fd02::2"), ..row(name, does, says) }
}

const fn bridged(name: &'static str, does: &'static str, says: &'static str) -> Row {
    Row { net: BRIDGE, to: ("b", "10.3.0.2"), ..row(name, does, says) }
}

#[rustfmt::skip]
const ROWS: &[Row] = &[
    row("nothing", "", "yes"),
    row6("nothing, IPv6", "", "yes"),
    bridged("nothing, at the bridge", "", "yes"),

    // Routes and policy rules.
    row("a nexthop object", "ip -n a nexthop add id 5 via 10.1.0.1 dev e0; ip -n a route replace default nhid 5", "yes"),
    row("a nexthop object that swallows",
        "ip -n a nexthop add id 5 blackhole; ip -n a route add 10.2.0.0/24 nhid 5", "no blackhole"),
    row6("a nexthop object that swallows, IPv6",
        "ip -n a -6 nexthop add id 5 blackhole; ip -n a -6 route add fd02::/64 nhid 5", "no blackhole"),
    row("a group of nexthop objects",
        "ip -n a nexthop add id 5 via 10.1.0.1 dev e0; ip -n a nexthop add id 6 via 10.1.0.1 dev e0
         ip -n a nexthop add id 7 group 5/6; ip -n a route replace default nhid 7", "yes"),
    row6("a group of nexthop objects, one of them to nobody, IPv6",
        "ip -n a nexthop add id 5 via fd01::9 dev e0; ip -n a nexthop add id 6 via fd01::8 dev e0
         ip -n a nexthop add id 7 group 5/6; ip -n a -6 route replace default nhid 7", "open"),
    row("a gateway that is on no network of the interface (onlink)",
        "ip -n a route replace default via 10.77.0.1 dev e0 onlink; ip -n r addr add 10.77.0.1/32 dev lo", "yes"),
    row("a gateway of the other family", "ip -n a route replace default via inet6 fd01::1 dev e0", "yes"),
    row("a blackhole with a lower metric",
        "ip -n a route add 10.2.0.0/24 via 10.1.0.1 metric 60; ip -n a route add blackhole 10.2.0.0/24 metric 50", "no blackhole"),
    row6("a blackhole with a lower metric, IPv6",
        "ip -n a route add fd02::/64 via fd01::1 metric 60; ip -n a route add blackhole fd02::/64 metric 50", "no blackhole"),
    row("a route that throws",
        "ip -n a rule add prio 100 lookup 100; ip -n a route add throw 10.2.0.0/24 table 100
         ip -n a route add blackhole default table 100", "yes"),
    row("a rule that goes to another",
        "ip -n a rule add prio 10 to 10.2.0.0/24 goto 100; ip -n a rule add prio 50 prohibit; ip -n a rule add prio 100 lookup main", "yes"),
    row("a rule that suppresses defaults",
        "ip -n a rule add prio 100 lookup main suppress_prefixlength 0
         ip -n a rule add prio 110 lookup 100; ip -n a route add blackhole default table 100", "no blackhole"),
    row("a rule that suppresses a group of interfaces",
        "ip -n a link set e0 group 7; ip -n a rule add prio 100 lookup main suppress_ifgroup 7; ip -n a rule add prio 110 prohibit", "open"),
    row("a rule about users", "ip -n a rule add uidrange 0-0 prohibit", "open"),
    row("a rule about marks, and a firewall that marks",
        "ip -n a rule add fwmark 5 lookup 100; ip -n a route add blackhole default table 100
         in_ a nft 'table inet m { chain o { type route hook output priority -150; ip protocol icmp meta mark set 5; }; }'", "open"),
    row("a rule about the type of service", "ip -n a rule add dsfield 0x10 prohibit", "open"),
    row("a route for a type of service", "ip -n a route add 10.2.0.0/24 via 10.1.0.9 tos 0x10", "open"),
    row6("a route for a source", "ip -n a -6 route add fd02::/64 from fd01::5 via fd01::9 dev e0", "open"),
    row6("a route into another header", "ip -n a -6 route add fd02::/64 encap seg6 mode inline segs fd01::1 dev e0 via fd01::1", "open"),
    row("rules before the one of own addresses",
        "ip -n b rule add prio 200 lookup local; ip -n b rule del prio 0
         ip -n b route add blackhole 10.2.0.2/32 table 77; ip -n b rule add prio 100 lookup 77", "no neighbour-unresolved"),
    Row { to: ("10.66.0.5", "10.66.0.5"), ..row("a network that is all of a node's own",
        "ip -n b route add local 10.66.0.0/16 dev lo; ip -n r route add 10.66.0.0/16 via 10.2.0.2", "yes") },
    row("an address that is a broadcast one", "ip -n r route add broadcast 10.2.0.2/32 dev e1 table local", "open"),
    row("equal routes, one by a link without a signal",
        "node x; ip -n a link add e1 type veth peer name e0 netns x; ip -n a link set e1 up; ip -n a addr add 10.7.0.1/24 dev e1
         in_ a sysctl -qw net.ipv4.conf.e1.ignore_routes_with_linkdown=1
         ip -n a route replace default nexthop via 10.1.0.1 nexthop via 10.7.0.9", "yes"),
    row6("a route by a link without a signal is passed over, IPv6",
        "node x; ip -n a link add e1 type veth peer name e0 netns x; ip -n a link set e1 up; ip -n a addr add fd07::1/64 dev e1 nodad
         in_ a sysctl -qw net.ipv6.conf.e1.ignore_routes_with_linkdown=1; ip -n a route add fd02::/64 via fd07::9 metric 5", "yes"),
    row6("a node that forwards what comes in by one interface, IPv6",
        "in_ r sysctl -qw net.ipv6.conf.all.forwarding=0; in_ r sysctl -qw net.ipv6.conf.e0.force_forwarding=1", "no forwarding-off"),
    row6("a node that forwards what comes in by two interfaces, IPv6",
        "in_ r sysctl -qw net.ipv6.conf.all.forwarding=0
         in_ r sysctl -qw net.ipv6.conf.e0.force_forwarding=1 net.ipv6.conf.e1.force_forwarding=1", "yes"),
    row("too few hops from the start", "in_ a sysctl -qw net.ipv4.ip_default_ttl=1", "no ttl-expired"),
    row6("too few hops from the start, IPv6", "in_ a sysctl -qw net.ipv6.conf.e0.hop_limit=1", "no ttl-expired"),

    // Addresses.
    row("an address with a peer",
        "ip -n a addr flush dev e0 scope global; ip -n r addr del 10.1.0.1/24 dev e0
         ip -n a addr add 10.9.0.1 peer 10.9.0.9 dev e0; ip -n r addr add 10.9.0.9 peer 10.9.0.1 dev e0
         ip -n a route add default via 10.9.0.9", "yes"),
    row("an address for its link alone is no source for what is behind a gateway",
        "ip -n a addr flush dev e0 scope global; ip -n a addr add 10.1.0.2/24 dev e0 scope link
         ip -n a addr add 10.1.0.7/32 dev lo; ip -n a route add default via 10.1.0.1", "yes"),
    row("an address of the loopback as the source",
        "ip -n a addr add 127.5.0.1/32 dev lo; ip -n a route replace default via 10.1.0.1 src 127.5.0.1", "no source-address"),
    row6("an address whose time is over is no source, if there is another, IPv6",
        "ip -n a addr del fd01::2/64 dev e0; ip -n a addr add fd01::2/64 dev e0 nodad preferred_lft 0
         ip -n a addr add 2001:db8::5/64 dev e0 nodad; ip -n r route add 2001:db8::/64 dev e0", "yes"),
    row6("an address whose time is over is none to masquerade by, if there is another, IPv6",
        "ip -n r addr del fd02::1/64 dev e1; ip -n r addr add fd02::1/64 dev e1 nodad preferred_lft 0; ip -n b -6 route del default
         in_ r nft 'table ip6 n { chain p { type nat hook postrouting priority 100; oifname e1 masquerade; }; }'", "no no-return-route"),
    row6("an address to masquerade by, IPv6",
        "ip -n b -6 route del default
         in_ r nft 'table ip6 n { chain p { type nat hook postrouting priority 100; oifname e1 masquerade; }; }'", "yes"),
    row("an address for its link alone is none to masquerade by",
        "ip -n r addr del 10.2.0.1/24 dev e1; ip -n r addr add 10.2.0.1/24 dev e1 scope link; ip -n b route del default
         in_ r nft 'table ip n { chain p { type nat hook postrouting priority 100; oifname e1 masquerade; }; }'", "no no-return-route"),
    row("a source whose interface is down",
        "node x; ip -n a link add e1 type veth peer name e0 netns x; ip -n a addr add 10.7.0.1/24 dev e1
         ip -n a route add 10.2.0.0/24 via 10.1.0.1 src 10.7.0.1", "no no-return-route"),
    Row { to: ("fd01::", "fd01::"), ..row6("the address of all routers of a network", "", "yes") },
    Row { to: ("fd02::", "fd02::"), ..row6("the address of all routers of another network", "", "yes") },
    Row { to: ("10.1.0.255", "10.1.0.255"), ..row("a broadcast address", "", "open") },

    // Neighbours.
    row("a neighbour that is told of and not asked for (noarp)",
        "ip -n a neigh replace 10.1.0.1 dev e0 nud noarp lladdr 02:00:00:00:00:09", "no wrong-static-neighbour"),
    row("a neighbour that is said to have the sender's own Ethernet address (noarp)",
        "ip -n a neigh replace 10.1.0.1 dev e0 nud noarp lladdr $(mac a e0)", "no wrong-static-neighbour"),
    row("an interface that asks for nobody (arp off)", "ip -n a link set e0 arp off", "open"),
    row("an interface that asks for nobody, beside one that would not answer",
        "ip -n a link set e0 arp off; in_ r sysctl -qw net.ipv4.conf.all.arp_ignore=8", "open"),
    Row { to: ("c", "10.1.0.7"), ..row("one who answers for another (proxy_arp)",
        "node c; ip -n r link add e2 type veth peer name e0 netns c; ip -n r link set e2 up; ip -n c link set e0 up
         ip -n c addr add 10.1.0.7/32 dev e0; ip -n c route add 10.1.0.0/24 dev e0; ip -n r route add 10.1.0.7/32 dev e2
         in_ r sysctl -qw net.ipv4.conf.e0.proxy_arp=1 net.ipv4.conf.e2.proxy_arp=1", "yes") },
    Row { to: ("c", "10.1.0.7"), ..row("one who would answer for another, and has no way to it",
        "node c; ip -n r link add e2 type veth peer name e0 netns c; ip -n r link set e2 up; ip -n c link set e0 up
         ip -n c addr add 10.1.0.7/32 dev e0; ip -n c route add 10.1.0.0/24 dev e0
         in_ r sysctl -qw net.ipv4.conf.e0.proxy_arp=1 net.ipv4.conf.e2.proxy_arp=1", "no wrong-mask") },
    Row { to: ("c", "10.1.0.7"), ..row("one who answers for one other (ip neigh add proxy)",
        "node c; ip -n r link add e2 type veth peer name e0 netns c; ip -n r link set e2 up; ip -n c link set e0 up
         ip -n c addr add 10.1.0.7/32 dev e0; ip -n c route add 10.1.0.1/32 dev e0; ip -n c route add default via 10.1.0.1
         ip -n r route add 10.1.0.7/32 dev e2; ip -n r neigh add proxy 10.1.0.7 dev e0", "yes") },
    Row { to: ("fd01::7", "fd01::7"), ..row6("one who answers for one other, IPv6",
        "node c; ip -n r link add e2 type veth peer name e0 netns c; ip -n r link set e2 up; ip -n c link set e0 up
         ip -n c addr add fd01::7/128 dev e0 nodad; ip -n r addr add fd08::1/64 dev e2 nodad
         ip -n c route add fd08::1/128 dev e0; ip -n c -6 route add default via fd08::1
         ip -n r route add fd01::7/128 dev e2; ip -n r neigh add proxy fd01::7 dev e0
         in_ r sysctl -qw net.ipv6.conf.e0.proxy_ndp=1", "yes") },
    // What alone makes it work, as the router that has told it does not forward any more.
    Row { net: BRIDGE, to: ("10.5.0.2", "10.5.0.2"), ..row("a way that was learnt by a redirect, and not yet taken",
        "ip -n a route add default via 10.3.0.3; ip -n c route add 10.5.0.0/24 via 10.3.0.2
         for n in b c; do in_ $n sysctl -qw net.ipv4.ip_forward=1; done
         in_ a ping -qc2 -i0.3 10.5.0.2 >/dev/null; in_ c sysctl -qw net.ipv4.ip_forward=0", "yes") },
    Row { net: BRIDGE, to: ("10.5.0.2", "10.5.0.2"), ..row("a way that was learnt by a redirect, and taken",
        "ip -n a route add default via 10.3.0.3; ip -n c route add 10.5.0.0/24 via 10.3.0.2
         for n in b c; do in_ $n sysctl -qw net.ipv4.ip_forward=1; done
         in_ a ping -qc3 -i0.3 10.5.0.2 >/dev/null; in_ c sysctl -qw net.ipv4.ip_forward=0", "yes") },
    // Model, kernel and packet agree that it fails now; to forget it is a repair.
    Row { net: BRIDGE, to: ("10.5.0.2", "10.5.0.2"), ..row("a way that was learnt by a redirect, and is none any more",
        "ip -n a route add default via 10.3.0.3; ip -n c route add 10.5.0.0/24 via 10.3.0.2
         for n in b c; do in_ $n sysctl -qw net.ipv4.ip_forward=1; done; in_ a ping -qc3 -i0.3 10.5.0.2 >/dev/null
         ip -n d addr add 10.4.0.2/24 dev e0; ip -n c link add e1 type veth peer name e1 netns d
         ip -n c link set e1 up; ip -n d link set e1 up; ip -n c addr add 10.7.0.1/24 dev e1; ip -n d addr add 10.7.0.2/24 dev e1
         ip -n c route replace 10.5.0.0/24 via 10.7.0.2; ip -n d route add 10.3.0.0/24 via 10.7.0.1
         in_ b sysctl -qw net.ipv4.ip_forward=0", "no forwarding-off") },
    row("a node that answers no ping", "in_ b sysctl -qw net.ipv4.icmp_echo_ignore_all=1", "no echo-ignored"),
    row6("a node that answers no ping, IPv6", "in_ b sysctl -qw net.ipv6.icmp.echo_ignore_all=1", "no echo-ignored"),

    // Interfaces.
    Row { from: "b", to: ("c", "10.1.0.7"), ..row("a macvlan at the other end",
        "node c; ip -n a link add mv0 link e0 type macvlan mode bridge; ip -n a link set mv0 netns c
         ip -n c link set mv0 up; ip -n c addr add 10.1.0.7/24 dev mv0; ip -n c route add default via 10.1.0.1", "open") },
    row("beside a macvlan", "ip -n a link add mv0 link e0 type macvlan mode bridge; ip -n a link set mv0 up", "yes"),
    row("a macvlan as the way on",
        "ip -n r addr del 10.1.0.1/24 dev e0; ip -n r link add mv0 link e0 type macvlan mode bridge
         ip -n r addr add 10.1.0.1/24 dev mv0; ip -n r link set mv0 up", "open"),
    Row { to: ("10.6.0.2", "10.6.0.2"), ..row("a vxlan",
        "ip -n a link add vx type vxlan id 5 dstport 4789 local 10.1.0.2 remote 10.2.0.2
         ip -n b link add vx type vxlan id 5 dstport 4789 local 10.2.0.2 remote 10.1.0.2
         ip -n a addr add 10.6.0.1/24 dev vx; ip -n b addr add 10.6.0.2/24 dev vx; ip -n a link set vx up; ip -n b link set vx up", "open") },
    row("an interface that swallows (ifb)",
        "ip -n a link add i0 type ifb; ip -n a link set i0 up; ip -n a route add 10.2.0.0/24 dev i0", "open"),
    row("a VRF",
        "ip -n r link add red type vrf table 10; ip -n r link set red up; ip -n r link set e0 master red; ip -n r link set e1 master red", "open"),
    row("a tunnel",
        "ip -n a link add t0 type ipip local 10.1.0.2 remote 10.2.0.2; ip -n a link set t0 up; ip -n a route add 10.2.0.2/32 dev t0", "open"),
    row("a tag of a VLAN",
        "ip -n a link add link e0 name v5 type vlan id 5; ip -n a link set v5 up; ip -n a route add 10.2.0.0/24 dev v5", "open"),
    bridged("a bridge that filters VLANs",
        "ip -n s link set br0 type bridge vlan_filtering 1; in_ s bridge vlan add dev pb vid 7 pvid untagged", "open"),
    bridged("ports that are isolated from each other",
        "in_ s bridge link set dev pa isolated on; in_ s bridge link set dev pb isolated on", "open"),
    bridged("beside ports that are isolated", "in_ s bridge link set dev pc isolated on", "yes"),
    bridged("a port that gets nothing that is flooded",
        "in_ s bridge link set dev pb flood off mcast_flood off bcast_flood off learning off", "open"),
    bridged("a port that the spanning tree keeps shut", "ip -n s link set pb nomaster; ip -n s link set br0 type bridge stp_state 1 forward_delay 2000; ip -n s link set pb master br0", "open"),
    bridged("an Ethernet address that was said to be elsewhere",
        "m=$(ip -n b -br link show e0 | awk '{print $3}'); in_ s bridge fdb replace $m dev pc master permanent", "open"),

    // Ethernet addresses that are there twice.
    bridged("the Ethernet address of the target twice", "twins b e0 c e0", "open"),
    Row { to: ("fd03::2", "fd03::2"), ..bridged("the Ethernet address of the target twice, IPv6", "twins b e0 c e0", "open") },
    bridged("the Ethernet address of the target twice, and the other one spoke last",
        "twins b e0 c e0; in_ a ping -qc1 10.3.0.2 >/dev/null; in_ c ping -qc1 10.3.0.1 >/dev/null", "open"),
    bridged("the Ethernet address of the sender twice", "twins a e0 c e0", "yes"),
    bridged("the Ethernet address of the sender twice, and the other one spoke last",
        "twins a e0 c e0; in_ a ping -qc1 10.3.0.2 >/dev/null; in_ c ping -qc1 10.3.0.2 >/dev/null", "yes"),
    bridged("the same Ethernet address at both ends", "twins a e0 b e0", "no duplicate-mac"),
    Row { to: ("fd03::2", "fd03::2"), ..bridged("the same Ethernet address at both ends, IPv6", "twins a e0 b e0", "no duplicate-mac") },
    bridged("the same Ethernet address at both ends, which know each other",
        "twins a e0 b e0; m=$(mac a e0); ip -n a neigh add 10.3.0.2 lladdr $m dev e0; ip -n b neigh add 10.3.0.1 lladdr $m dev e0", "no duplicate-mac"),
    bridged("the Ethernet address of a port of the switch", "twins s pa b e0", "open"),
    bridged("the sender has the Ethernet address of a port of the switch", "twins s pb a e0", "open"),
    row("the same Ethernet address at both ends of a cable", "twins a e0 r e0", "yes"),
    row6("the same Ethernet address at both ends of a cable, IPv6", "twins a e0 r e0", "yes"),
    row("an Ethernet address that has changed since it was learnt, and its owner asks",
        "in_ a ping -qc1 10.2.0.2 >/dev/null; ip -n a link set e0 address 02:00:00:00:00:77", "yes"),
    row6("an Ethernet address that has changed since it was learnt, and its owner asks, IPv6",
        "in_ a ping -qc1 fd02::2 >/dev/null; ip -n a link set e0 address 02:00:00:00:00:77", "yes"),
];

const THREADS: usize = 6;

#[test]
fn what_labs_do_not_have_is_followed_or_said_to_be_not_known() {
    if Command::new("ping").arg("-V").output().is_err() {
        println!("skipped: no ping to compare with");
        return;
    }
    let only = std::env::var("STRANGE").ok();
    let wanted = |row: &&Row| only.as_ref().is_none_or(|only| row.name.contains(only.as_str()));
    let queue = Mutex::new(ROWS.iter().filter(wanted));
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let Some(row) = queue.lock().unwrap().next() else { break };
                    match check(row) {
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

fn check(row: &Row) -> Result<String, String> {
    let Some(machine) = Machine::new() else { return Ok(String::new()) };
    machine.sh(&format!("{WORDS}{}settle", row.net));
    let made = machine.output("sh", &["-c", &format!("{WORDS}{}\nsettle", row.does)]);
    if !made.status.success() {
        // Not every kernel has all of it.
        println!("skipped: {}: {}", row.name, text(&made.stderr).trim());
        return Ok(String::new());
    }
    let mut told = format!("=== {}\n", row.name);
    let mut why = |args: &[&str]| {
        let output = machine.output(HOP, &[&["why", "--ns"], args, &[row.from, row.to.0]].concat());
        let said = text(&output.stdout) + &text(&output.stderr);
        if !args.contains(&"--json") {
            told.push_str(&said);
        }
        (output.status.code(), said)
    };
    // Before anything that teaches a node something.
    let alone = why(&["--no-probe", "--json"]).1;
    let (_, probed) = why(&["--probe"]);
    let ping = machine.output("ip", &["netns", "exec", row.from, "ping", "-c3", "-i0.3", "-W2", row.to.1]);
    let works = text(&ping.stdout).contains("bytes from");
    let answer: serde_json::Value =
        serde_json::from_str(&alone).map_err(|error| format!("{told}no answer: {error}"))?;
    let says = match answer["reachable"].as_bool() {
        Some(true) => "yes".to_owned(),
        Some(false) => format!("no {}", answer["verdict"]["reason"].as_str().unwrap_or_default()),
        None => "open".to_owned(),
    };
    let right = says == "open" || works == (says == "yes");
    if says == row.says && right && !probed.contains("contradiction") {
        return Ok(told);
    }
    Err(format!(
        "{told}it says `{says}`, `{}` is right; a ping gets {}\n",
        row.says,
        if works { "through" } else { "nowhere" }
    ))
}
