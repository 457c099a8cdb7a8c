//! Who reaches whom, predicted; and how often `hop why` is right.

use std::collections::BTreeMap;
use std::time::Instant;

use hopyard::explain::Target as Asked;
use hopyard::kernel::SnapshotScope;
use hopyard::net::{Family, NsName};
use hopyard::runtime::{Home, Running};

use super::Suite;
use crate::labs::case::{Ending, Faults, case};
use crate::measure::As;
use crate::report::Target;
use crate::sample::Sample;
use crate::{Failure, child, isp};

/// Nodes of the provider's network.
const NODES: usize = 1000;
const SNAPSHOT: Target = Target::Seconds(0.300);
const MATRIX: Target = Target::Seconds(0.200);

impl Suite<'_> {
    /// A snapshot of all nodes, and all pairs from it.
    pub(super) fn pairs(&mut self) -> Result<(), Failure> {
        if !self.wants("check") {
            return Ok(());
        }
        let file = self.programs.file("provider-1000.graphml");
        std::fs::write(&file, isp::graphml(NODES))?;
        let file = file.to_string_lossy().into_owned();
        for (topology, name) in [(file.as_str(), "provider of 1000 nodes"), ("fat-tree:14", "fat-tree:14")] {
            self.programs.hop(&["up", "-q", "--name", "hopyard-bench", topology])?;
            let measured = self.predicted(name);
            self.programs.down(true, As::Root)?;
            measured?;
        }
        Ok(())
    }

    fn predicted(&mut self, name: &str) -> Result<(), Failure> {
        let running = Running::find(&Home::of_caller()?, &"hopyard-bench".parse()?)?;
        let nodes: Vec<NsName> = running.contents()?.lab.nodes().iter().map(|node| node.name.clone()).collect();
        let addresses = running.all_main_addresses()?;
        let world = running.world()?;
        let mut times = Sample::default();
        let mut predicted: BTreeMap<&str, (Sample, child::Predicted)> = BTreeMap::new();
        for _ in 0..self.runs(5) {
            let started = Instant::now();
            let snapshot = world.snapshot(&SnapshotScope::default())?;
            times.push(started.elapsed().as_secs_f64());
            let [four, six] = Family::BOTH;
            for (name, families) in [("IPv4", &[four][..]), ("IPv6", &[six]), ("both families", &[four, six])] {
                let of = |node: &NsName| -> Vec<Asked> {
                    let first = |family: &Family| {
                        let here = addresses.get(node).into_iter().flatten().find(|addr| Family::of(**addr) == *family);
                        here.map(|addr| Asked { node: node.clone(), addr: *addr })
                    };
                    families.iter().filter_map(first).collect()
                };
                let targets: Vec<Asked> = nodes.iter().flat_map(of).collect();
                let new = child::predict(&snapshot, &nodes, &targets);
                let seconds = new.seconds;
                predicted.entry(name).or_insert_with(|| (Sample::default(), new)).0.push(seconds);
            }
        }
        let routes = predicted.values().next().map_or(0, |(_, found)| found.routes);
        let remark = format!("{} nodes; {routes} routes in their tables", nodes.len());
        self.row(format!("check: snapshot, {name}"), &times, &Sample::default(), SNAPSHOT, remark)?;
        for (families, (times, found)) in predicted {
            let name = format!("check: all pairs predicted, {name}, {families}");
            let remark = format!(
                "{} pairs, there and back; {} reach each other; {} walked alone",
                found.pairs, found.reached, found.walked
            );
            self.row(name, &times, &Sample::default(), MATRIX, remark)?;
        }
        Ok(())
    }

    /// Random labs with random faults, on the real kernel: is the answer what packets say, and does the repair work?
    pub(super) fn verdicts(&mut self) -> Result<(), Failure> {
        if !self.wants("why: verdicts") {
            return Ok(());
        }
        let cases: u64 = match self.options {
            options if options.full => 1000,
            options if options.quick => 20,
            _ => 200,
        };
        let mut times = Sample::default();
        let mut endings: BTreeMap<Ending, u32> = BTreeMap::new();
        let mut wrong = Vec::new();
        for seed in 1..=cases {
            let started = Instant::now();
            match case(seed, Faults::Usual) {
                Ok((ending, _)) => *endings.entry(ending).or_default() += 1,
                Err(_) => wrong.push(seed),
            }
            times.push(started.elapsed().as_secs_f64());
        }
        let of = |ending| endings.get(&ending).copied().unwrap_or_default();
        let seeds = if wrong.is_empty() { String::new() } else { format!(" (wrong: seeds {wrong:?})") };
        let broken = of(Ending::Repaired) + of(Ending::NotRepaired);
        let remark = format!(
            "{} of {cases} right{seeds}; {broken} broken, {} of them repaired and proved; {} left to chance or not known",
            cases - wrong.len() as u64,
            of(Ending::Repaired),
            of(Ending::Open)
        );
        self.row("why: verdicts on random labs".into(), &times, &Sample::default(), Target::None, remark)
    }
}
