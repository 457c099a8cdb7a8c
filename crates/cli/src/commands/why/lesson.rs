//! `hop why --explain`: what the kernels do with the packet, in the order in which they do it, and where that
//! is written. For a student; so in whole sentences.

use std::collections::BTreeSet;

use hopyard::explain::{Code, End, Hop, Part, Protocol, Reason, Step, Walk, steps, table_name};
use hopyard::net::{Hook, SysctlKey};
use hopyard::runtime::why::Report;

use crate::error::CliError;
use crate::ui::{ERROR, Ui};

/// As wide as prose is.
const WIDTH: usize = 100;

/// Prints it: each kind of step on the way once, the hops that translate it, and the one that decides.
pub(super) fn print(ui: &mut Ui, report: &Report) -> Result<(), CliError> {
    ui.line("")?;
    ui.line("What the kernels do with it, in their order:")?;
    let (mut told, mut said) = (BTreeSet::new(), BTreeSet::new());
    let back = report.verdict.back.iter().filter(|_| report.verdict.there.arrives()).map(|back| (back, true));
    for (walk, back) in std::iter::once((&report.verdict.there, false)).chain(back) {
        for (at, hop) in walk.hops.iter().enumerate() {
            let decides = matches!(hop.end, Some(End::Dropped(_)));
            if told.insert(hop.part()) || decides || hop.translates() {
                tell_hop(ui, report, (walk, back), at, &mut said)?;
            }
        }
    }
    if let Some(trouble) = report.trouble() {
        let code = trouble.reason.kind(trouble.back);
        let Lesson { text, read } = lesson(code);
        ui.line("")?;
        ui.line(format_args!("{ERROR}{code}{ERROR:#}"))?;
        put(ui, "  ", "  ", text)?;
        put(ui, "  Read: ", "        ", read)?;
    }
    Ok(())
}

/// `told`: what was said already, and need not be said again.
fn tell_hop(
    ui: &mut Ui,
    report: &Report,
    (walk, back): (&Walk, bool),
    at: usize,
    told: &mut BTreeSet<&'static str>,
) -> Result<(), CliError> {
    let Some(hop) = walk.hops.get(at) else { return Ok(()) };
    let what = if back { "the answer" } else { "the packet" };
    ui.line("")?;
    ui.line(match (hop.part(), hop.input) {
        (Part::Sender, _) => format!("{} sends {what} to {}", hop.node, hop.routed.dst),
        (_, Some(dev)) => format!("{}, into which {what} comes by {dev}", hop.node),
        (_, None) => format!("{}", hop.node),
    })?;
    let mut number = 0;
    for (step, passes) in steps(&report.snapshot, walk, at) {
        let Some(Said { question, how, found, read }) = words(&step, hop, walk) else { continue };
        number += 1;
        let mark = if passes { ' ' } else { 'x' };
        let text =
            if told.insert(how) { format!("{question} {how} {found} [{read}]") } else { format!("{question} {found}") };
        put(ui, &format!(" {mark}{number}. "), "     ", &text)?;
    }
    if let Some(End::Dropped(Reason::Undecided(what))) = &hop.end {
        put(ui, " ?   ", "     ", &format!("From here on it is not known: {what}."))?;
    }
    Ok(())
}

/// A step, in words.
struct Said {
    /// What the kernel wants to know. Empty: it needs no question.
    question: &'static str,
    /// How it finds out. Told once.
    how: &'static str,
    /// What it finds here.
    found: String,
    /// Where that is written. Told once.
    read: &'static str,
}

/// `None`: nothing is there to be told.
fn words(step: &Step, hop: &Hop, walk: &Walk) -> Option<Said> {
    let ipv4 = walk.packet.dst.is_ipv4();
    let said = |question, how, found, read| Some(Said { question, how, found, read });
    match step {
        // Where no chain is, nothing happens.
        Step::Hook { chains: Some(0), .. } => None,
        Step::Hook { hook, chains } => {
            let question = match hook {
                Hook::Ingress => "What says the firewall of the interface, before all else?",
                Hook::Prerouting => "What says the firewall before it is routed?",
                Hook::Input => "What says the firewall, as it is for this node?",
                Hook::Forward => "What says the firewall, as it is to be forwarded?",
                Hook::Output => "What says the firewall, as the node sends it itself?",
                Hook::Postrouting => "What says the firewall before it leaves?",
                Hook::Egress => "What says the firewall of the interface, last of all?",
            };
            let how = "The chains of a hook run in the order of their priorities, and each may drop it.";
            let name = hook.name();
            let found = match chains {
                Some(1) => format!("The hook {name} has one chain."),
                Some(count) => format!("The hook {name} has {count} chains."),
                None => format!("The chains of the hook {name} could not be read."),
            };
            said(question, how, found, "nft(8)")
        }
        Step::Translation { hook, chain, before, after } => {
            let how = "A chain of the type nat looks at the first packet of a connection: at the destination in \
                       prerouting, before the routing decision, at the source in postrouting, behind it. All later \
                       packets follow, and answers get back what was replaced.";
            let by = match chain {
                _ if after.reply => "The connection is known".to_owned(),
                Some(chain) => format!("The chain {chain}"),
                None => "A chain".to_owned(),
            };
            let end = |addr: Option<std::net::IpAddr>, port: u16, other: u16| match addr {
                Some(addr) if port != other => std::net::SocketAddr::new(addr, port).to_string(),
                Some(addr) => addr.to_string(),
                None => "none".to_owned(),
            };
            let ports = [(before.source_port, after.source_port), (before.destination_port, after.destination_port)];
            let ends = [(before.src, after.src), (Some(before.dst), Some(after.dst))];
            let changed = ["source", "destination"].iter().zip(ends.iter().zip(ports)).filter_map(|(what, it)| {
                let ((old, new), (port, becomes)) = it;
                let is_new = old != new || port != becomes;
                is_new.then(|| format!("the {what} {} becomes {}", end(*old, port, becomes), end(*new, becomes, port)))
            });
            let changed = changed.collect::<Vec<_>>().join(", ");
            let found = format!("{by} (hook {}): {changed}.", hook.name());
            said("Is it translated?", how, found, "nft(8), NAT statements; RFC 3022")
        }
        Step::Lookup { route, local } => {
            let how = "The policy rules are tried in their order; in the table that a rule names, the longest prefix \
                       that contains the destination wins.";
            let found = match route {
                Some(route) if *local => format!("{} is an address of its own (table local).", route.key.prefix.addr()),
                Some(route) => {
                    let by =
                        hop.next.as_ref().map_or_else(String::new, |next| format!(" {}", next.of(route.key.family())));
                    let key = hopyard::net::RouteKey { table: hopyard::net::RouteKey::MAIN, metric: 0, ..route.key };
                    format!("{key}{by} (table {}).", table_name(route.key.table))
                }
                None => "No route contains it, or a rule refuses it.".to_owned(),
            };
            said("Where to?", how, found, "ip-rule(8), ip-route(8), RFC 1812 section 5.2.4.3")
        }
        Step::Source { addr } => {
            let (how, read) = if ipv4 {
                (
                    "If the program has chosen no address, that which the route names (src); else the first one of \
                     the interface, of the next hop's network if there is one.",
                    "ip-route(8), RFC 1122 section 3.3.4.3",
                )
            } else {
                (
                    "If the program has chosen no address, the one that fits the destination best: by scope, \
                     interface, label and common prefix.",
                    "RFC 6724 section 5",
                )
            };
            let found = addr.map_or_else(|| "It has none.".to_owned(), |addr| format!("From {addr}."));
            said("From where?", how, found, read)
        }
        Step::Forwarding { key, on } => {
            let how = if *key == SysctlKey::IPV6_FORWARD {
                "It is for another one, so the switch of the node decides."
            } else {
                "It is for another one, so the switch of the interface decides by which it came."
            };
            let read = "ip-sysctl (kernel documentation), RFC 1812 section 5.2.1";
            said("Is it forwarded?", how, format!("{key} = {}.", u8::from(*on)), read)
        }
        Step::Believe { rp_filter } => {
            let how = "An address of the node's own cannot come from outside; and rp_filter may ask for more.";
            let found = match rp_filter {
                0 => "rp_filter = 0: nothing more.",
                1 => "rp_filter = 1: the way back to it must lead through the same interface.",
                _ => "rp_filter = 2: there must be a way back to it, through any interface.",
            };
            let read = "ip-sysctl (kernel documentation), RFC 3704";
            said("Is its source believed?", how, found.to_owned(), read)
        }
        Step::Ttl { left } => {
            let (how, read) = if ipv4 {
                ("Each router takes one from its TTL; at none it is dropped.", "RFC 1812 section 5.3.1")
            } else {
                ("Each router takes one from its hop limit; at none it is dropped.", "RFC 8200 section 3")
            };
            said("How far may it go?", how, format!("{left} are left."), read)
        }
        Step::Size { bytes, mtu } => {
            let how = "No interface sends more than its MTU at once.";
            let read = if ipv4 { "ip-link(8), RFC 1191" } else { "ip-link(8), RFC 8201" };
            said("Does it fit?", how, format!("It has {bytes} bytes, the MTU is {mtu}."), read)
        }
        Step::Link { dev, up, carrier } => {
            let state = match (up, carrier) {
                (false, _) => "is down",
                (true, false) => "is up, and has no signal",
                (true, true) => "is up and has a signal",
            };
            let how = "It must be up, and so must the other end.";
            said("Can the interface send?", how, format!("{dev} {state}."), "ip-link(8), netdevice(7)")
        }
        Step::Neighbour { addr, dev, known } => {
            let how = "A frame needs the Ethernet address of the next hop. What the neighbour table does not have, \
                       all on the link are asked for.";
            let found = match known {
                Some(mac) => format!("The table has {mac} for {addr} on {dev}."),
                None => format!("The table has nothing for {addr} on {dev}."),
            };
            let read = if ipv4 { "arp(7), ip-neighbour(8), RFC 826" } else { "ip-neighbour(8), RFC 4861 section 7.2" };
            said("To whom?", how, found, read)
        }
        Step::Wire { to } => {
            let found = match to {
                Some(to) => format!("It comes out at {to}."),
                None => "It goes to the other end of the link.".to_owned(),
            };
            said("", "The frame is sent.", found, "veth(4)")
        }
        Step::Socket { protocol: Protocol::Icmp, .. } if walk.packet.reply => {
            said("Who gets it?", "", "It is an echo reply, for the program that has asked.".to_owned(), "RFC 792")
        }
        Step::Socket { protocol: Protocol::Icmp, .. } => {
            let read = if ipv4 { "icmp(7), RFC 1122 section 3.2.2.6" } else { "RFC 4443 section 4.2" };
            said("Who gets it?", "", "It is an echo request, which the kernel answers by itself.".to_owned(), read)
        }
        Step::Socket { protocol, .. } if walk.packet.reply => {
            let found = format!("The {} socket that has sent what it answers.", protocol.name());
            said("Who gets it?", "", found, "tcp(7), udp(7)")
        }
        Step::Socket { protocol, port } => {
            let found =
                format!("A socket that is bound to {} port {port}, and to this address or to any.", protocol.name());
            said("Who gets it?", "", found, "bind(2), ss(8)")
        }
    }
}

/// What there is to know of a reason, and where it is written.
struct Lesson {
    text: &'static str,
    read: &'static str,
}

/// Each code has one: the compiler misses what is not here.
fn lesson(code: Code) -> Lesson {
    let (text, read) = match code {
        Code::NoRoute => (
            "A node sends a packet only where one of its routes leads; a destination that none of them contains is refused. The sender's program gets ENETUNREACH; of another node's packet the router tells its sender by ICMP: destination unreachable, no route. The route of a network of its own comes with the address of an interface, all others have to be given.",
            "ip-route(8); RFC 1812 section 5.2.7.1 (IPv4), RFC 4443 section 3.1 (IPv6)",
        ),
        Code::NoReturnRoute => (
            "Each direction is routed by itself, by the tables of the nodes on its way. That a packet has arrived says nothing about its answer: that needs a route of its own to the address that the packet came from, at the node that answers and at every router on the way back. Nothing tells the first sender of it: it waits in vain.",
            "ip-route(8); RFC 1812 section 5.2.1",
        ),
        Code::Blackhole => (
            "A route of type blackhole drops what it contains, and tells nobody. A local program gets EINVAL.",
            "ip-route(8), route types",
        ),
        Code::Unreachable => (
            "A route of type unreachable drops what it contains, and answers by ICMP: host unreachable. A local program gets EHOSTUNREACH.",
            "ip-route(8), route types; RFC 792",
        ),
        Code::Prohibit => (
            "A route of type prohibit drops what it contains, and answers by ICMP: communication administratively prohibited. A local program gets EACCES. A firewall that rejects can look the same from outside.",
            "ip-route(8), route types; RFC 1812 section 5.2.7.1",
        ),
        Code::PolicyRule => (
            "Before any table is looked into, the policy rules are tried from the lowest priority number on. A rule may name a table, or refuse the packet itself, by its source, its destination, its ports, its mark or the interface by which it came.",
            "ip-rule(8)",
        ),
        Code::ForwardingOff => (
            "Linux is a host unless it is told to be a router: what comes in and is for another one is dropped, and its sender is not told. For IPv4 each interface has a switch, for what comes in by it; net.ipv4.ip_forward sets all of them. For IPv6 net.ipv6.conf.all.forwarding is the switch; since Linux 6.17 force_forwarding of an interface lets through what comes in by it alone.",
            "ip-sysctl (kernel documentation): ip_forward, forwarding; RFC 1122 section 3.1",
        ),
        Code::NotAnOwner => (
            "Who sent it here took this node for the destination, and it is not: a frame has come to a node that does not have the address, and does not forward. A host drops that and tells nobody.",
            "RFC 1122 section 3.2.1.3",
        ),
        Code::RpFilter => (
            "With rp_filter, a node looks up the way back to the source before it takes a packet in. Strict (1), it must lead through the interface by which the packet came; loose (2), there must be one at all. The larger value of conf.all and of the interface counts. So a missing or other route back shows on the way there, as silence.",
            "ip-sysctl (kernel documentation): rp_filter; RFC 3704 sections 2.2 and 2.4",
        ),
        Code::LocalSource => (
            "What comes in from outside cannot come from an address of the node itself, so it is taken for forged and dropped. Either two nodes have the address, or a packet has come back.",
            "ip-sysctl (kernel documentation): accept_local; RFC 1812 section 5.3.8",
        ),
        Code::SourceAddress => (
            "A packet needs an address to come from that its answer can be sent to. Without one it is not sent, nor from one that is not the node's own any more, nor from one of the loopback; and what comes from a link-local address is never sent on to another link.",
            "RFC 6724 section 5; RFC 4291 section 2.5.6",
        ),
        Code::LinkDown => (
            "An interface that is set down neither sends nor takes anything in, and the kernel removes all its routes. Set up again, it gets back the routes of its own networks; those that somebody has given are gone, and of IPv6 the addresses as well, unless keep_addr_on_down is set.",
            "ip-link(8), ip-route(8); ip-sysctl (kernel documentation): keep_addr_on_down",
        ),
        Code::NoCarrier => (
            "An interface has a signal only while the other end is up: the two ends of a veth pair are like two ends of a cable. The routes stay, so the packet is sent, and lost; IPv4 gives up when nobody answers for the next hop.",
            "veth(4), netdevice(7); ip-sysctl (kernel documentation): ignore_routes_with_linkdown",
        ),
        Code::NeighbourUnresolved => (
            "To send a frame, a node needs the Ethernet address of the next hop, and asks all on the link for it. Nobody has answered. It asks three times, a second apart, and then tells the sender: host unreachable. Either the address is wrong, or its owner is on another link, or something between is down.",
            "arp(7), RFC 826 (IPv4); RFC 4861 section 7.2 (IPv6); ip-neighbour(8)",
        ),
        Code::ArpRefused => (
            "The owner of the address was asked, and keeps silent on purpose: a request is checked like a packet (rp_filter, own addresses), and arp_ignore says which requests are answered at all. Nothing is counted there; who asks sees only that nobody answers.",
            "ip-sysctl (kernel documentation): arp_ignore, rp_filter; arp(7)",
        ),
        Code::WrongMask => (
            "The prefix length of an interface's address says which addresses are on the link itself. It is too short here, so the node takes the destination for a neighbour: it asks the link for it, instead of sending to the router.",
            "RFC 1122 section 3.3.1.1; RFC 4632; ip-address(8)",
        ),
        Code::DuplicateAddress => (
            "Several nodes of the link have the address, and all answer for it. Who asks believes one of them, often the last; so it works and does not, by chance.",
            "RFC 5227 (IPv4); RFC 4862 section 5.4 (IPv6); arping(8)",
        ),
        Code::DuplicateMac => (
            "A switch knows nothing of IP: it remembers at which port it last heard an Ethernet address, and sends there what is for it. Machines that were cloned with their Ethernet address take each other's frames away, whoever spoke last, so it works and does not, by chance. Two of them do not reach each other at all, for the switch never sends a frame back to the port that it came from. All see the right entries in their neighbour tables; only the table of the switch shows the address move.",
            "IEEE 802.1D section 7.8 (how a bridge learns); bridge(8): bridge fdb show; ip-link(8): address",
        ),
        Code::WrongStaticNeighbour => (
            "A permanent entry of the neighbour table is believed and never checked. Frames go to the Ethernet address that it has, whoever that is; if nobody has it, all drop them.",
            "ip-neighbour(8), arp(7)",
        ),
        Code::StaleNeighbour => (
            "The neighbour table remembers where an address was. Has it moved since, frames go to the old place until the entry is checked anew, which takes some seconds to a minute.",
            "arp(7): base_reachable_time; RFC 4861 section 7.3; ip-neighbour(8)",
        ),
        Code::Firewall => (
            "In each hook, the chains run in the order of their priorities, and in a chain its rules in order. accept ends the chain and goes on with the next one; drop ends the packet at once, whatever other chains say. What no rule decides about gets the policy of the chain. A rule is named here by its handle, which nft -a list ruleset shows. A packet that is dropped tells nobody, one that is rejected tells its sender. Neighbour discovery of IPv6 is made of packets as well (ICMPv6, types 135 and 136): a firewall that does not let them pass keeps a node from being found on its own link.",
            "nft(8); RFC 1812 section 5.3.9; RFC 4890 section 4.4.1, which ICMPv6 must not be dropped",
        ),
        Code::FirewallBridge => (
            "A switch looks at Ethernet addresses alone, unless net.bridge.bridge-nf-call-iptables (of IPv6: -ip6tables) is 1, as it is in a new network namespace. Then the chains of IP see each frame that crosses a bridge, as if the node forwarded it: a policy that is meant for a router drops what a switch should only pass on. With 0 frames pass as they are; rules that are meant for frames stand in a table of the family bridge.",
            "bridge-nf in nft(8) and Documentation/networking/ip-sysctl.rst of Linux (net.bridge); ip-link(8): nf_call_iptables",
        ),
        Code::Mtu => (
            "A packet that is longer than the MTU of the interface is cut into pieces, unless that is forbidden (don't fragment), as it always is in IPv6. Then it is dropped, and the sender told by ICMP how long it may be; it learns the MTU of the path so.",
            "RFC 1191 (IPv4), RFC 8201 (IPv6); ip-link(8); ip(7): IP_MTU_DISCOVER",
        ),
        Code::PmtudBlackhole => (
            "A packet that is too long and may not be cut is dropped, and its sender told by ICMP how long it may be: fragmentation needed (IPv4, type 3 code 4) or packet too big (IPv6, type 2). Here that message is lost, often because a firewall drops all of ICMP. Short packets pass, so a connection opens, and then hangs with the first long one.",
            "RFC 2923 section 2.1, of this problem; RFC 1191, RFC 8201; RFC 4890, which ICMPv6 a firewall must pass; tcp(7): tcp_mtu_probing",
        ),
        Code::MtuMismatch => (
            "The two ends of a link should have one MTU. Here the receiving end takes in less than the other sends: the frame is dropped on arrival, and nobody is told, because no router was asked to forward it.",
            "ip-link(8), veth(4); RFC 4821, of MTUs that nobody tells",
        ),
        Code::TtlLoop => (
            "Nodes send the packet to each other in a circle. None of them can see that; only the TTL, one less at each, ends it, and the sender is told: time exceeded. Two routers whose defaults lead to each other do that with every address that neither has.",
            "RFC 1812 section 5.3.1; RFC 792; ip-route(8)",
        ),
        Code::TtlExpired => (
            "Each router takes one from the TTL (IPv6: hop limit); at none the packet is dropped and its sender told: time exceeded. Linux begins at 64. traceroute uses just that.",
            "RFC 1812 section 5.3.1; ip-sysctl (kernel documentation): ip_default_ttl",
        ),
        Code::NoListener => (
            "The network has done its part: the packet is at its destination, and no socket is bound to the port. TCP answers with a reset (connection refused), UDP with ICMP: port unreachable.",
            "RFC 9293 section 3.5.2 (TCP); RFC 1122 section 4.1.3.1 (UDP); ss(8)",
        ),
        Code::WrongBindAddress => (
            "A socket that is bound to one address gets nothing that is for another, also if both are of the same node. Bound to 127.0.0.1, a server serves its own node alone; bound to 0.0.0.0, all.",
            "bind(2), ip(7); ss(8)",
        ),
        Code::EchoIgnored => (
            "Pings are answered by the kernel itself, unless it is told not to; then a node is silent to them and works otherwise. That hides it from nobody who tries a port.",
            "ip-sysctl (kernel documentation): icmp_echo_ignore_all, icmp/echo_ignore_all; RFC 1122 section 3.2.2.6",
        ),
        Code::WrongNode => (
            "Routes and addresses are as they should be for some node, and it is not the one that was asked for: another one has the address as well, or a route leads to that one.",
            "ip-address(8); RFC 5227",
        ),
        Code::ReturnToWrongNode => (
            "The answer goes to the address that the packet came from, and another node has that as well, on the way that the answer takes.",
            "ip-address(8); RFC 5227",
        ),
        Code::LeavesKnown => (
            "The frame leaves by an interface of which the other end is not in any namespace that can be seen from here: a network card, a tunnel, a machine elsewhere. What happens there, neither model nor taps can tell.",
            "ip-link(8); veth(4)",
        ),
        Code::Undecided => (
            "Something decides here that is not understood, or could not be read. Rather than to guess, it is named; a packet shows what comes of it.",
            "docs/why.md: what it does not know",
        ),
    };
    Lesson { text, read }
}

/// Prints a paragraph.
fn put(ui: &mut Ui, first: &str, others: &str, text: &str) -> Result<(), CliError> {
    let mut line = first.to_owned();
    let mut empty = true;
    for word in text.split_whitespace() {
        if !empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
            ui.line(&line)?;
            others.clone_into(&mut line);
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    ui.line(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_taught_in_sentences_with_a_source() {
        let mut texts = BTreeSet::new();
        for code in Code::ALL {
            let Lesson { text, read } = lesson(*code);
            assert!(text.ends_with('.') && text.len() > 80, "{code}: {text}");
            assert!(read.contains('(') || read.contains("RFC") || read.contains("docs/"), "{code}: {read}");
            assert!(texts.insert(text), "{code} is taught as another one is");
        }
    }
}
