//! A lab that is edited while it runs, in many ways one after the other, is each time as declared: what the kernel keeps and
//! throws away of routes, addresses and links is not what a model of it says, if the two differ.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test says what is wrong by failing")]

mod common;

use std::collections::BTreeSet;
use std::fmt::Write as _;

use common::{Place, text, unique};

/// xorshift64 (Marsaglia 2003): the same edits on every machine.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// Nodes by their numbers, and pairs of them that are linked.
type Links = BTreeSet<(u64, u64)>;

/// Adds a link or two, or takes as many away; rings and equal ways come and go.
fn edit(links: &mut Links, dice: &mut Dice) {
    for _ in 0..=dice.below(2) {
        let (a, b) = (dice.below(7), dice.below(7));
        let pair = (a.min(b), a.max(b));
        if a != b && !links.remove(&pair) {
            links.insert(pair);
        }
    }
}

fn topology(name: &str, links: &Links, mode: &str) -> String {
    let nodes: BTreeSet<u64> = links.iter().flat_map(|(a, b)| [*a, *b]).collect();
    let mut text = format!("name: {name}\naddressing: {{ mode: {mode} }}\nnodes:\n");
    for node in nodes {
        writeln!(text, "  n{node}:").unwrap();
    }
    text.push_str("links:\n");
    for (a, b) in links {
        writeln!(text, "  - n{a} -- n{b}").unwrap();
    }
    text
}

#[test]
fn a_running_lab_is_as_declared_after_each_edit() {
    let place = Place::new();
    for (mode, seed) in [("stable", 0x9e37_79b9_7f4a_7c15), ("compact", 0x2545_f491_4f6c_dd1d)] {
        let name = unique("edits");
        let mut dice = Dice(seed);
        let mut links: Links = [(0, 1), (1, 2), (2, 3), (0, 3), (3, 4), (4, 5), (0, 5)].into();
        let mut before = String::new();
        for round in 0..25 {
            let wanted = topology(&name, &links, mode);
            let file = place.file("edits.hop.yaml", &wanted);
            place.hop(&["up", &file]);
            let differs = place.output(&["diff", "-l", &name]);
            let said = text(&differs.stdout);
            assert!(
                differs.status.success() && said.is_empty(),
                "round {round}: {before}\nbecame\n{wanted}\nand has\n{said}"
            );
            before = wanted;
            edit(&mut links, &mut dice);
        }
        place.hop(&["down", &name]);
    }
}
