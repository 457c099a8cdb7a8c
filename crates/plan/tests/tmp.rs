//! tmp
mod common;
use common::*;
use hopyard_plan::*;
use hopyard_net::NetState;
#[test]
fn show() {
    for text in ["chain:4", "star:3", "a -- b, b -- d, a -- c, c -- d", "grid:3x3"] {
        println!("=== {text}");
        let lab = lab(text);
        let wanted = desired(&lab).unwrap();
        let ops = diff(&NetState::default(), &wanted.state);
        for op in &ops { println!("{op}"); }
        let mut state = NetState::default();
        for op in &ops { state.execute(op).unwrap(); }
        println!("{:?} {:?}", diff(&state, &wanted.state), wanted.warnings);
        println!("{:?}", wanted.hosts);
        let w = Walker::new(&wanted.state);
        for (from, _) in &wanted.hosts { for (_, to) in &wanted.hosts { for a in to { w.walk(from, *a).unwrap_or_else(|e| panic!("{from} {a} {e:?}")); } } }
    }
}
