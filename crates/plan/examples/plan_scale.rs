//! How long planning takes, and how many routes it makes, on the graphs of the performance report.
//!
//! `cargo run --release -p hopyard-plan --example plan_scale [LARGEST]`
#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a measurement, not part of the library")]
#![allow(clippy::cast_precision_loss, reason = "an average for people")]

use std::time::Instant;

use hopyard_model::{EndDoc, Lab, LabDoc, LinkDoc, NodeDoc};
use hopyard_net::{Family, NetState};
use hopyard_plan::{desired, diff};

fn main() {
    let largest: usize = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(10_000);
    println!(
        "{:<14} {:>6} {:>6} | {:>9} {:>6} {:>8} | {:>8} {:>8} {:>8} | {:>8}",
        "graph", "nodes", "links", "routes", "avg", "max", "plan ms", "diff ms", "ops", "peak MiB"
    );
    for n in [100usize, 1000, 10_000].into_iter().filter(|&n| n <= largest) {
        let k = [6, 14, 34][n.ilog10() as usize - 2];
        let side = n.isqrt();
        let named = |text: String| (text.clone(), hopyard_formats::inline(&text));
        let edges =
            |name: &str, edges: Vec<(usize, usize)>| (format!("{name} {n}"), lab(&edges).map(|lab| (lab, Vec::new())));
        let graphs = [
            named(format!("chain:{n}")),
            edges("hub", (1..n).map(|leaf| (0, leaf)).collect()),
            named(format!("star:{n}")),
            named(format!("fat-tree:{k}")),
            named(format!("tree:3x{}", [3, 5, 7][n.ilog10() as usize - 2])),
            edges("tree3", (1..n).map(|at| ((at - 1) / 3, at)).collect()),
            named(format!("grid:{side}x{side}")),
            edges("random", random(n)),
            edges("ba", barabasi_albert(n, &mut Random(1))),
            edges("isp", isp(n)),
        ];
        let only = std::env::args().nth(2).unwrap_or_default();
        for (name, lab) in graphs.into_iter().filter(|(name, _)| name.starts_with(&only)) {
            // A random graph of this size has 14 million routes.
            if n == 10_000 && (name.starts_with("random") || name.starts_with("ba")) {
                continue;
            }
            match lab {
                Ok((lab, _)) => measure(&name, &lab),
                Err(problems) => println!("{name}: {problems:?}"),
            }
        }
    }
    if largest >= 1000
        && let Ok((lab, _)) = hopyard_formats::inline("fat-tree:16")
    {
        measure("fat-tree:16", &lab);
    }
}

fn measure(name: &str, lab: &Lab) {
    let start = Instant::now();
    let wanted = match desired(lab) {
        Ok(wanted) => wanted,
        Err(problems) => {
            println!("{name}: {problems:?}");
            return;
        }
    };
    let plan = start.elapsed();
    let start = Instant::now();
    let ops = diff(&NetState::default(), &wanted.state).len();
    let diffing = start.elapsed();
    let ipv4 = |key: &hopyard_net::RouteKey| key.family() == Family::Ipv4;
    let tables: Vec<usize> = wanted
        .hosts
        .iter()
        .map(|(ns, _)| wanted.state.namespaces[ns].routes.keys().filter(|key| ipv4(key)).count())
        .collect();
    let total: usize = tables.iter().sum();
    println!(
        "{:<14} {:>6} {:>6} | {:>9} {:>6.2} {:>8} | {:>8.1} {:>8.1} {:>8} | {:>8}",
        name,
        lab.nodes().len(),
        lab.links().len(),
        total,
        total as f64 / tables.len() as f64,
        tables.iter().max().unwrap_or(&0),
        plan.as_secs_f64() * 1e3,
        diffing.as_secs_f64() * 1e3,
        ops,
        peak_mib(),
    );
}

/// The most memory that the process has had.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()).unwrap_or(0) / 1024
}

fn lab(edges: &[(usize, usize)]) -> Result<Lab, Vec<hopyard_model::Problem>> {
    let count = edges.iter().map(|&(a, b)| a.max(b) + 1).max().unwrap_or(0);
    let name = |at: usize| format!("n{at}").as_str().into();
    let doc = LabDoc {
        name: Some("scale".into()),
        nodes: (0..count).map(|at| NodeDoc { name: name(at), ..NodeDoc::default() }).collect(),
        links: edges
            .iter()
            .map(|&(a, b)| LinkDoc {
                ends: [a, b].map(|at| EndDoc { node: name(at), iface: None }),
                ..LinkDoc::default()
            })
            .collect(),
        ..LabDoc::default()
    };
    doc.resolve().map(|(lab, _)| lab)
}

/// splitmix64: the same graphs on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % bound as u64).unwrap_or(0)
    }
}

/// As many links as give each node four on average.
fn random(n: usize) -> Vec<(usize, usize)> {
    let mut random = Random(1);
    let mut edges = std::collections::BTreeSet::new();
    while edges.len() < 2 * n {
        let (a, b) = (random.below(n), random.below(n));
        if a != b {
            edges.insert((a.min(b), a.max(b)));
        }
    }
    edges.into_iter().collect()
}

/// Each new node gets two links, to old ones in proportion to their links.
fn barabasi_albert(n: usize, random: &mut Random) -> Vec<(usize, usize)> {
    let mut edges = vec![(0, 2), (1, 2)];
    let mut ends = vec![0, 1, 2, 2];
    for new in 3..n {
        let first = ends[random.below(ends.len())];
        let mut second = first;
        while second == first {
            second = ends[random.below(ends.len())];
        }
        for old in [first, second] {
            edges.push((old, new));
            ends.extend([old, new]);
        }
    }
    edges
}

/// A power-law core, points of presence with one or two links into it, and stubs.
fn isp(n: usize) -> Vec<(usize, usize)> {
    let mut random = Random(1);
    let core = (n / 50).max(4);
    let mut edges = barabasi_albert(core, &mut random);
    let mut pops: Vec<usize> = Vec::new();
    let mut next = core;
    while next < n {
        let pop = next;
        next += 1;
        let first = random.below(core);
        edges.push((pop, first));
        if random.below(2) == 0 {
            let second = random.below(core);
            if second != first {
                edges.push((pop, second));
            }
        }
        for _ in 0..(5 + random.below(16)).min(n - next) {
            edges.push((next, pop));
            if random.below(10) == 0 && !pops.is_empty() {
                edges.push((next, pops[random.below(pops.len())]));
            }
            next += 1;
        }
        pops.push(pop);
    }
    edges
}
