//! Networks made by rule: `chain:1000`, `fat-tree:8`.

use hopyard_model::{EndDoc, LabDoc, LinkDoc, NodeDoc, SwitchDoc};
use thiserror::Error;

/// The largest network that a generator makes, in nodes and switches. Beyond it a machine runs
/// out of memory for namespaces, and a slip of a digit should not find out.
pub(crate) const MAX_NODES: u64 = 100_000;

/// The same in links.
const MAX_LINKS: u64 = 500_000;

/// The members of an access switch of a large star: less than the 1023 ports of a bridge.
const STAR_MEMBERS: u64 = 1000;

/// A kind of network that is made by rule.
#[derive(Clone, Copy, Debug)]
pub struct Generator {
    /// Its name, before the colon.
    pub name: &'static str,
    /// Name and arguments: `grid:ROWSxCOLUMNS`.
    pub form: &'static str,
    /// One use of it.
    pub example: &'static str,
    /// What it makes, in a line.
    pub about: &'static str,
    make: fn(&str) -> Result<LabDoc, Refused>,
}

/// Every generator.
pub const GENERATORS: &[Generator] = &[
    Generator { name: "chain", form: "chain:N", example: "chain:3", about: "N nodes in a line", make: chain },
    Generator { name: "ring", form: "ring:N", example: "ring:5", about: "N nodes in a circle", make: ring },
    Generator { name: "star", form: "star:N", example: "star:8", about: "N nodes around one switch", make: star },
    Generator {
        name: "grid",
        form: "grid:ROWSxCOLUMNS",
        example: "grid:3x3",
        about: "nodes in rows and columns, each linked to its neighbours",
        make: grid,
    },
    Generator {
        name: "tree",
        form: "tree:BRANCHESxLEVELS",
        example: "tree:2x3",
        about: "a root, and at each of the levels below it as many branches to a node",
        make: tree,
    },
    Generator {
        name: "mesh",
        form: "mesh:N",
        example: "mesh:4",
        about: "N nodes, each linked to all others",
        make: mesh,
    },
    Generator {
        name: "fat-tree",
        form: "fat-tree:K",
        example: "fat-tree:4",
        about: "a data centre of K pods with K*K*K/4 hosts (Al-Fares et al., SIGCOMM 2008)",
        make: fat_tree,
    },
];

impl Generator {
    /// The network for these arguments: what stands behind the colon.
    pub(crate) fn make(&self, args: &str) -> Result<LabDoc, Refused> {
        (self.make)(args)
            .map(|doc| LabDoc { name: Some(format!("{}-{}", self.name, args.replace('X', "x")).into()), ..doc })
    }
}

/// Why a generator makes nothing of its arguments.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum Refused {
    /// No plain decimal number.
    #[error("`{0}` is no number")]
    NoNumber(String),
    /// Not two numbers with an `x` between them.
    #[error("`{0}` is not two numbers with `x` between them")]
    NotTwo(String),
    /// Too small for its shape.
    #[error("{given} is too few; at least {least} are needed")]
    TooFew { given: u64, least: u64 },
    /// A fat tree splits its switches' ports in halves.
    #[error("{0} is odd; the ports of a fat tree's switches are split in halves, so it must be even")]
    Odd(u64),
    /// Too large.
    #[error("that makes {nodes} nodes and {links} links; allowed are {MAX_NODES} and {MAX_LINKS}")]
    TooMany { nodes: Count, links: Count },
}

/// A number of things that may not fit in 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Count(Option<u64>);

impl std::fmt::Display for Count {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(count) => count.fmt(f),
            None => f.write_str("more than 2^64"),
        }
    }
}

// n1 -- n2 -- n3
fn chain(args: &str) -> Result<LabDoc, Refused> {
    let n = at_least(1, number(args)?)?;
    check(Some(n), Some(n - 1))?;
    let mut doc = numbered(n);
    doc.links = (1..n).map(|i| link(name(i), name(i + 1))).collect();
    Ok(doc)
}

//   n1 -- n2
//   |      |
//   n4 -- n3
fn ring(args: &str) -> Result<LabDoc, Refused> {
    let n = at_least(3, number(args)?)?;
    check(Some(n), Some(n))?;
    let mut doc = numbered(n);
    doc.links = (1..=n).map(|i| link(name(i), name(i % n + 1))).collect();
    Ok(doc)
}

//        hub                       hub
//      /  |  \                   /     \
//    n1  n2  n3              hub1       hub2
//                           / | \      / | \
//                        n1  ..  n1000  n1001 ..
fn star(args: &str) -> Result<LabDoc, Refused> {
    let n = at_least(1, number(args)?)?;
    let access = if n > STAR_MEMBERS { n.div_ceil(STAR_MEMBERS) } else { 0 };
    check(n.checked_add(access + 1), n.checked_add(access))?;
    let mut doc = numbered(n);
    let members = |from: u64, to: u64| (from..=to).map(|i| end(name(i))).collect();
    if access == 0 {
        doc.switches.push(SwitchDoc { name: "hub".into(), members: members(1, n), ..SwitchDoc::default() });
        return Ok(doc);
    }
    doc.switches.push(SwitchDoc { name: "hub".into(), ..SwitchDoc::default() });
    for i in 0..access {
        let hub = format!("hub{}", i + 1);
        doc.links.push(link("hub".to_owned(), hub.clone()));
        let members = members(i * STAR_MEMBERS + 1, n.min((i + 1) * STAR_MEMBERS));
        doc.switches.push(SwitchDoc { name: hub.into(), members, ..SwitchDoc::default() });
    }
    Ok(doc)
}

// r1c1 -- r1c2
//  |       |
// r2c1 -- r2c2
fn grid(args: &str) -> Result<LabDoc, Refused> {
    let (rows, columns) = two(args)?;
    let (rows, columns) = (at_least(1, rows)?, at_least(1, columns)?);
    let nodes = rows.checked_mul(columns);
    check(nodes, nodes.and_then(|nodes| nodes.checked_mul(2)?.checked_sub(rows)?.checked_sub(columns)))?;
    let name = |row: u64, column: u64| format!("r{row}c{column}");
    let mut doc = LabDoc::default();
    for row in 1..=rows {
        for column in 1..=columns {
            doc.nodes.push(node(name(row, column)));
            if column < columns {
                doc.links.push(link(name(row, column), name(row, column + 1)));
            }
            if row < rows {
                doc.links.push(link(name(row, column), name(row + 1, column)));
            }
        }
    }
    Ok(doc)
}

//       n1
//      /  \
//    n2    n3
//   /  \  /  \
//  n4 n5 n6  n7
fn tree(args: &str) -> Result<LabDoc, Refused> {
    let (branches, levels) = two(args)?;
    let branches = at_least(1, branches)?;
    let mut nodes = Some(1u64);
    let mut row = Some(1u64);
    // A row never shrinks, so after this many rows the tree is too large whatever its branches are.
    for _ in 0..levels.min(MAX_NODES + 1) {
        row = row.and_then(|row| row.checked_mul(branches));
        nodes = nodes.and_then(|nodes| nodes.checked_add(row?));
    }
    check(nodes, nodes.map(|nodes| nodes - 1))?;
    let n = nodes.unwrap_or_default();
    let mut doc = numbered(n);
    doc.links = (2..=n).map(|i| link(name((i - 2) / branches + 1), name(i))).collect();
    Ok(doc)
}

fn mesh(args: &str) -> Result<LabDoc, Refused> {
    let n = at_least(2, number(args)?)?;
    check(Some(n), n.checked_mul(n - 1).map(|ends| ends / 2))?;
    let mut doc = numbered(n);
    doc.links = (1..=n).flat_map(|i| (i + 1..=n).map(move |j| link(name(i), name(j)))).collect();
    Ok(doc)
}

//            c1-1  c1-2    c2-1  c2-2        each reaches every pod
//              \    /        \    /
//   pod 1:     a1-1            a1-2
//               | \            / |
//              e1-1            e1-2
//              /  \            /  \
//       h1-1-1    h1-1-2  h1-2-1  h1-2-2
fn fat_tree(args: &str) -> Result<LabDoc, Refused> {
    let k = at_least(2, number(args)?)?;
    if k % 2 == 1 {
        return Err(Refused::Odd(k));
    }
    let half = k / 2;
    // K^3/4 hosts, K^2/2 edge and as many aggregation switches, K^2/4 cores; a layer of links has K^3/4.
    let square = k.checked_mul(k);
    let hosts = square.and_then(|square| Some(square.checked_mul(k)? / 4));
    let nodes = square.and_then(|square| hosts?.checked_add(square)?.checked_add(square / 4));
    check(nodes, hosts.and_then(|hosts| hosts.checked_mul(3)))?;

    let core = |i: u64, j: u64| format!("c{i}-{j}");
    let aggregation = |pod: u64, i: u64| format!("a{pod}-{i}");
    let edge = |pod: u64, i: u64| format!("e{pod}-{i}");
    let mut doc = LabDoc::default();
    doc.nodes.extend((1..=half).flat_map(|i| (1..=half).map(move |j| node(core(i, j)))));
    for pod in 1..=k {
        doc.nodes.extend((1..=half).map(|i| node(aggregation(pod, i))));
        doc.nodes.extend((1..=half).map(|i| node(edge(pod, i))));
        for i in 1..=half {
            for j in 1..=half {
                let host = format!("h{pod}-{i}-{j}");
                doc.links.push(link(host.clone(), edge(pod, i)));
                doc.nodes.push(NodeDoc { role: Some("host".into()), ..node(host) });
            }
        }
        doc.links.extend((1..=half).flat_map(|i| (1..=half).map(move |j| link(edge(pod, i), aggregation(pod, j)))));
        doc.links.extend((1..=half).flat_map(|i| (1..=half).map(move |j| link(aggregation(pod, i), core(i, j)))));
    }
    Ok(doc)
}

/// Plain decimal digits; `+3` and ` 3` are slips.
fn number(text: &str) -> Result<u64, Refused> {
    if !text.bytes().all(|b| b.is_ascii_digit()) || text.is_empty() {
        return Err(Refused::NoNumber(text.to_owned()));
    }
    text.parse().map_err(|_| Refused::TooMany { nodes: Count(None), links: Count(None) })
}

fn two(text: &str) -> Result<(u64, u64), Refused> {
    let (a, b) = text.split_once(['x', 'X']).ok_or_else(|| Refused::NotTwo(text.to_owned()))?;
    Ok((number(a)?, number(b)?))
}

fn at_least(least: u64, given: u64) -> Result<u64, Refused> {
    if given < least { Err(Refused::TooFew { given, least }) } else { Ok(given) }
}

/// `None`: more than 64 bits hold.
fn check(nodes: Option<u64>, links: Option<u64>) -> Result<(), Refused> {
    match (nodes, links) {
        (Some(nodes), Some(links)) if nodes <= MAX_NODES && links <= MAX_LINKS => Ok(()),
        _ => Err(Refused::TooMany { nodes: Count(nodes), links: Count(links) }),
    }
}

fn numbered(n: u64) -> LabDoc {
    LabDoc { nodes: (1..=n).map(|i| node(name(i))).collect(), ..LabDoc::default() }
}

fn name(i: u64) -> String {
    format!("n{i}")
}

fn node(name: String) -> NodeDoc {
    NodeDoc { name: name.into(), ..NodeDoc::default() }
}

fn end(node: String) -> EndDoc {
    EndDoc { node: node.into(), iface: None }
}

fn link(a: String, b: String) -> LinkDoc {
    LinkDoc { ends: [end(a), end(b)], ..LinkDoc::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inline;

    #[test]
    fn a_generator_makes_as_many_as_it_says() {
        for (text, nodes, switches, links) in [
            ("chain:1", 1, 0, 0),
            ("chain:1000", 1000, 0, 999),
            ("ring:5", 5, 0, 5),
            ("star:8", 8, 1, 8),
            ("star:1000", 1000, 1, 1000),
            ("star:2500", 2500, 4, 2503),
            ("grid:3x4", 12, 0, 17),
            ("tree:2x3", 15, 0, 14),
            ("tree:1x0", 1, 0, 0),
            ("mesh:4", 4, 0, 6),
            ("fat-tree:4", 16 + 8 + 8 + 4, 0, 48),
            ("fat-tree:8", 208, 0, 384),
        ] {
            let (lab, warnings) = inline(text).unwrap();
            assert_eq!(
                (lab.nodes().len(), lab.switches().len(), lab.links().len()),
                (nodes, switches, links),
                "{text}"
            );
            assert_eq!(warnings, [], "{text}");
            assert_eq!(lab.name().as_str(), text.replace(':', "-"));
        }
    }

    #[test]
    fn what_is_too_large_is_refused_before_it_is_made() {
        for text in [
            "chain:100001",
            "chain:18446744073709551615",
            "chain:99999999999999999999999",
            "ring:18446744073709551615",
            "star:18446744073709551615",
            "star:100000",
            "grid:4294967296x4294967296",
            "tree:2x18446744073709551615",
            "tree:1x18446744073709551615",
            "tree:18446744073709551615x2",
            "mesh:18446744073709551615",
            "mesh:2000",
            "fat-tree:18446744073709551614",
            "fat-tree:100",
        ] {
            let problems = inline(text).unwrap_err();
            assert_eq!(problems.len(), 1, "{text}: {problems:?}");
            assert!(problems[0].message.starts_with("that makes "), "{text}: {}", problems[0].message);
        }
    }

    #[test]
    fn every_example_works_and_has_its_name() {
        for generator in GENERATORS {
            assert!(generator.example.starts_with(&format!("{}:", generator.name)));
            assert!(generator.form.starts_with(&format!("{}:", generator.name)));
            assert!(inline(generator.example).is_ok(), "{}", generator.example);
        }
    }
}
