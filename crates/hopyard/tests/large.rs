//! How the time for an answer grows with the network, without a kernel.
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

use std::time::{Duration, Instant};

use hopyard::explain::{Choices, Packet, Protocol, Query, derive, explain, repair};
use hopyard::formats::{SourceFile, read};
use hopyard::net::IpNet;
use hopyard::plan::desired;

#[test]
fn a_thousand_nodes_on_one_switch_are_looked_at_once() {
    let hosts: Vec<String> = (0..1000).map(|number| format!("h{number}")).collect();
    let text = format!("switches: {{ lan: [r, {}] }}\nlinks: [src -- r]\n", hosts.join(", "));
    let (lab, _) = read(&SourceFile::new("large.hop.yaml", text)).unwrap();
    let mut state = desired(&lab).unwrap().state;
    let node = |name: &str| lab.nodes().iter().find(|node| node.name.as_str() == name).unwrap().name.clone();
    let dst = state.namespaces[&node("h7")].links.values().flat_map(|link| &link.addresses);
    let dst = dst.map(IpNet::addr).find(|addr| addr.is_ipv4() && !addr.is_loopback()).unwrap();
    state.namespaces.get_mut(&node("src")).unwrap().routes.clear();
    let net = derive(&state, None);
    let query = Query { from: node("src"), packet: Packet::probe(dst, Protocol::Icmp, 0), wanted: None };
    let start = Instant::now();
    assert!(explain(&net, &query, &Choices::new()).trouble().is_some());
    let found = repair(&net, &query, &Choices::new(), &[]).unwrap();
    assert_eq!(found.edits().count(), 1);
    // A tenth of a second, not optimised; fourteen seconds, if each node asked for all others.
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}
