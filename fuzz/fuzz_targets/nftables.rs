//! Any bytes as what a kernel says of its firewall: rules that can be shown and followed, or none.
//!
//! `cargo +nightly fuzz run nftables`. What a kernel says of chains, rules, sets and elements, one message behind the
//! other, are its best seeds.
#![no_main]

use std::net::IpAddr;
use std::sync::LazyLock;

use hopyard_explain::{Choices, Packet, Protocol, Query, derive, explain};
use hopyard_kernel::nftables::ruleset_of_messages;
use hopyard_net::{BridgeNf, NsName, Snapshot};
use libfuzzer_sys::fuzz_target;

/// Two nodes at a switch, and an address of the second in each family.
static NET: LazyLock<(Snapshot, NsName, Vec<IpAddr>)> = LazyLock::new(|| {
    let text = "nodes: { a: , b: }\nswitches: { sw: [a, b] }\n";
    let lab = hopyard_formats::read(&hopyard_formats::SourceFile::new("fuzz.hop.yaml", text)).expect("it is a lab").0;
    let state = hopyard_plan::desired(&lab).expect("it has a plan").state;
    let b = &state.namespaces["b"];
    let to = b.links.values().flat_map(|link| &link.addresses).map(|net| net.addr()).filter(|it| !it.is_loopback());
    (derive(&state, None), "a".parse().expect("it is a name"), to.collect())
});

fuzz_target!(|bytes: &[u8]| {
    let rules = ruleset_of_messages(bytes);
    for chain in &rules.chains {
        for rule in &chain.rules {
            rules.text_of(chain, rule);
        }
    }
    let (net, from, targets) = &*NET;
    let mut net = net.clone();
    for node in net.nodes.values_mut() {
        node.firewall = Some(rules.clone());
        node.bridge_nf = Some(BridgeNf { ipv4: true, ipv6: true });
    }
    for to in targets {
        for protocol in [Protocol::Icmp, Protocol::Tcp] {
            let packet = Packet::probe(*to, protocol, 22);
            explain(&net, &Query { from: from.clone(), packet, wanted: None }, &Choices::new());
        }
    }
});
