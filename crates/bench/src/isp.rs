//! A network such as a large provider has, as GraphML: a core, points of presence, access rings.

use std::fmt::Write as _;

/// Always the same one for the same size.
pub(crate) fn graphml(nodes: usize) -> String {
    let mut text = String::from(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n\
         <graphml xmlns=\"http://graphml.graphdrawing.org/xmlns\">\n<graph edgedefault=\"undirected\">\n",
    );
    for node in 0..nodes {
        writeln!(text, "<node id=\"{node}\"/>").ok();
    }
    let mut edge = |a: usize, b: usize| {
        writeln!(text, "<edge source=\"{a}\" target=\"{b}\"/>").ok();
    };
    let core = (nodes / 200).max(4);
    for at in 0..core {
        edge(at, (at + 1) % core);
        if at % 3 == 0 {
            edge(at, (at + core / 2) % core);
        }
    }
    // Points of presence, each with two lines to the core; and behind each a tree of customers.
    let presence = nodes / 10;
    let mut random = 88_172_645_463_325_252_u64;
    let mut below = |limit: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random % u64::try_from(limit).unwrap_or(1)).unwrap_or_default()
    };
    for at in core..core + presence {
        let first = below(core);
        edge(at, first);
        edge(at, (first + 1) % core);
    }
    for at in core + presence..nodes {
        edge(at, core + below(presence));
    }
    text.push_str("</graph>\n</graphml>\n");
    text
}
