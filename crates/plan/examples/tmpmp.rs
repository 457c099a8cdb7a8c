#![allow(missing_docs, clippy::all, clippy::print_stdout, clippy::disallowed_methods, clippy::unwrap_used, clippy::panic)]
use hopyard_model::*;
fn ft(k: usize) -> Vec<(String, String)> { let h = k/2; let mut e = vec![]; for p in 0..k { for x in 0..h { for y in 0..h { e.push((format!("h{p}-{x}-{y}"), format!("e{p}-{x}"))); e.push((format!("e{p}-{x}"), format!("a{p}-{y}"))); e.push((format!("a{p}-{x}"), format!("c{x}-{y}"))); } } } e }
fn grid(n: usize) -> Vec<(String, String)> { let mut e = vec![]; for r in 0..n { for c in 0..n { if c+1<n { e.push((format!("n{r}-{c}"), format!("n{r}-{}", c+1))); } if r+1<n { e.push((format!("n{r}-{c}"), format!("n{}-{c}", r+1))); } } } e }
fn main() {
    for (name, edges) in [("fat-tree:16", ft(16)), ("grid:31", grid(31)), ("fat-tree:34", ft(34))] { for mp in ["auto", "full", "compact"] {
        let links = edges.iter().map(|(a, b)| LinkDoc { ends: [a, b].map(|n| EndDoc { node: n.as_str().into(), iface: None }), ..LinkDoc::default() }).collect();
        let doc = LabDoc { name: Some("x".into()), implicit_nodes: true, links, multipath: Some(mp.into()), ..LabDoc::default() };
        let lab = doc.resolve().unwrap().0;
        let w = hopyard_plan::desired(&lab).unwrap_or_else(|e| panic!("{e:?}"));
        let (mut r, mut hops) = (0, 0);
        for s in w.state.namespaces.values() { for (k, v) in &s.routes { if k.family() == hopyard_net::Family::Ipv4 { r += 1; hops += v.next_hops().len(); } } }
        println!("{name} {mp}: routes {r} next hops {hops}");
    } }
}
