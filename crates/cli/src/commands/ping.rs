//! `hop ping`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use hopyard::kernel::Errno;
use hopyard::net::{Family, NsName};
use hopyard::runtime::ping::{Outcome, Probe, ping};
use hopyard::runtime::{Home, Running, keep_room_for_files};
use serde::Serialize;

use super::up::{Took, count};
use crate::error::CliError;
use crate::target::LabArg;
use crate::ui::{ERROR, GOOD, Ui};

/// Measure who reaches whom: one pair of nodes, or all of them.
///
/// Requests are sent from inside of the nodes, by IPv4 and by IPv6 where the target has both. The exit
/// status is 1 if any of them is not answered.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own on the command line")]
pub(crate) struct Args {
    #[command(flatten)]
    lab: LabArg,
    /// Every node to every other; who is not answered is asked a second time.
    #[arg(long, conflicts_with_all = ["from", "to"])]
    all: bool,
    /// IPv4 only.
    #[arg(short = '4', long, conflicts_with = "ipv6_only")]
    ipv4_only: bool,
    /// IPv6 only.
    #[arg(short = '6', long)]
    ipv6_only: bool,
    /// How many requests to send, one after the other's answer.
    #[arg(short, long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    count: u32,
    /// How long to wait for an answer, in milliseconds.
    #[arg(short = 'W', long, value_name = "MS", default_value_t = 2000, value_parser = clap::value_parser!(u64).range(1..=600_000))]
    timeout: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// The node that asks, as NODE or LAB/NODE.
    #[arg(value_name = "FROM", required_unless_present = "all")]
    from: Option<String>,
    /// The node that answers, or an address.
    #[arg(value_name = "TO", required_unless_present = "all")]
    to: Option<String>,
}

/// One measured pair, in one family.
#[derive(Serialize)]
struct Pair {
    from: String,
    to: String,
    address: IpAddr,
    reached: bool,
    /// Round-trip time in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    ms: Option<f64>,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

pub(crate) fn run(args: &Args, ui: &mut Ui) -> Result<u8, CliError> {
    let home = Home::of_caller()?;
    keep_room_for_files();
    let timeout = Duration::from_millis(args.timeout);
    match (&args.from, &args.to) {
        (Some(from), Some(to)) => {
            let (running, from) = args.lab.find_node(&home, from)?;
            one_pair(args, ui, &running, &from, to, timeout)
        }
        _ => all_pairs(args, ui, &args.lab.find(&home)?, timeout),
    }
}

impl Args {
    fn wants(&self, address: &IpAddr) -> bool {
        match Family::of(*address) {
            Family::Ipv4 => !self.ipv6_only,
            Family::Ipv6 => !self.ipv4_only,
        }
    }
}

fn one_pair(
    args: &Args,
    ui: &mut Ui,
    running: &Running,
    from: &str,
    to: &str,
    timeout: Duration,
) -> Result<u8, CliError> {
    let source = running.node(from)?;
    let namespaces = BTreeMap::from([(source.clone(), running.namespace(from)?)]);
    let addresses: Vec<IpAddr> = match to.parse::<IpAddr>() {
        Ok(address) => vec![address],
        Err(_) => running.main_addresses(to)?.into_iter().filter(|address| args.wants(address)).collect(),
    };
    if addresses.is_empty() {
        return Err(CliError::failure(format!("`{to}` has no address to ping")).hint("`hop show` lists the addresses"));
    }
    let probes: Vec<Probe> = addresses.iter().map(|&to| Probe { from: source.clone(), to }).collect();
    let mut pairs = Vec::new();
    for _ in 0..args.count {
        let outcomes = ping(running.realm(), &namespaces, &probes, timeout)?;
        for (probe, outcome) in probes.iter().zip(outcomes) {
            let pair = pair(from, to, probe.to, &outcome, running);
            if !args.json {
                ui.line(sentence(&pair))?;
                ui.finish()?;
            }
            pairs.push(pair);
        }
    }
    if args.json {
        ui.json(&pairs)?;
    }
    Ok(u8::from(!pairs.iter().all(|pair| pair.reached)))
}

fn sentence(pair: &Pair) -> String {
    let Pair { from, to, address, .. } = pair;
    let target = if *to == address.to_string() { to.clone() } else { format!("{to} ({address})") };
    match (pair.ms, &pair.why) {
        (Some(ms), _) => format!("{GOOD}{from} reaches {target}{GOOD:#} in {ms:.3} ms"),
        (None, why) => {
            format!("{ERROR}{from} does not reach {target}{ERROR:#}: {}", why.as_deref().unwrap_or("no answer"))
        }
    }
}

fn all_pairs(args: &Args, ui: &mut Ui, running: &Running, timeout: Duration) -> Result<u8, CliError> {
    let started = std::time::Instant::now();
    let hosts = running.all_main_addresses()?;
    let nodes: Vec<&NsName> = running.contents()?.lab.nodes().iter().map(|node| &node.name).collect();
    let namespaces: BTreeMap<NsName, _> = running.namespaces()?.into_iter().collect();
    let mut probes = Vec::new();
    let mut targets = Vec::new();
    for from in &nodes {
        for to in nodes.iter().filter(|to| *to != from) {
            for address in hosts.get(*to).into_iter().flatten().filter(|address| args.wants(address)) {
                probes.push(Probe { from: (*from).clone(), to: *address });
                targets.push(*to);
            }
        }
    }
    let mut outcomes = ping(running.realm(), &namespaces, &probes, timeout)?;
    // Once more for the silent: a packet may be lost while neighbours are learnt by the hundred.
    let silent: Vec<usize> = (0..probes.len()).filter(|&at| outcomes[at] == Outcome::Silence).collect();
    if !silent.is_empty() {
        let again: Vec<Probe> = silent.iter().map(|&at| probes[at].clone()).collect();
        for (at, outcome) in silent.into_iter().zip(ping(running.realm(), &namespaces, &again, timeout)?) {
            outcomes[at] = outcome;
        }
    }
    let pairs: Vec<Pair> = probes
        .iter()
        .zip(&targets)
        .zip(&outcomes)
        .map(|((probe, to), outcome)| pair(probe.from.as_str(), to.as_str(), probe.to, outcome, running))
        .collect();
    if args.json {
        ui.json(&pairs)?;
    } else {
        matrix(ui, &nodes, &pairs)?;
        let unaddressed: Vec<&str> =
            nodes.iter().filter(|node| hosts.get(**node).is_none_or(Vec::is_empty)).map(|node| node.as_str()).collect();
        if !unaddressed.is_empty() {
            ui.line(format_args!("no address: {}", unaddressed.join(" ")))?;
        }
        let reached = pairs.iter().filter(|pair| pair.reached).count();
        let took = Took(started.elapsed());
        ui.line(format_args!(
            "{reached} of {} answered, {} in {took}",
            count(pairs.len(), "request", "requests"),
            count(nodes.len(), "node", "nodes")
        ))?;
    }
    Ok(u8::from(!pairs.iter().all(|pair| pair.reached)))
}

/// So many nodes fit beside each other on a terminal; and so many failures are worth a line each.
pub(super) const MATRIX_NODES: usize = 32;
const LISTED_FAILURES: usize = 40;

/// Rows ask, columns answer: `.` both families or all there are, `x` none, `4` or `6` that one alone.
fn matrix(ui: &mut Ui, nodes: &[&NsName], pairs: &[Pair]) -> Result<(), CliError> {
    let failed: Vec<&Pair> = pairs.iter().filter(|pair| !pair.reached).collect();
    if nodes.len() <= MATRIX_NODES {
        let mut cells: BTreeMap<(&str, &str), (bool, bool, bool)> = BTreeMap::new();
        for pair in pairs {
            let (any_failed, four, six) = cells.entry((&pair.from, &pair.to)).or_default();
            *any_failed |= !pair.reached;
            match Family::of(pair.address) {
                Family::Ipv4 => *four |= pair.reached,
                Family::Ipv6 => *six |= pair.reached,
            }
        }
        grid(ui, nodes, |from, to| {
            Some(match cells.get(&(from.as_str(), to.as_str()))? {
                (false, ..) => (GOOD, '.'),
                (true, true, false) => (ERROR, '4'),
                (true, false, true) => (ERROR, '6'),
                _ => (ERROR, 'x'),
            })
        })?;
    }
    for pair in failed.iter().take(LISTED_FAILURES) {
        ui.line(sentence(pair))?;
    }
    if failed.len() > LISTED_FAILURES {
        ui.line(format_args!("… and {} more; --json lists all", failed.len() - LISTED_FAILURES))?;
    }
    Ok(())
}

/// Rows ask, columns answer.
pub(super) fn grid(
    ui: &mut Ui,
    nodes: &[&NsName],
    cell: impl Fn(&NsName, &NsName) -> Option<(anstyle::Style, char)>,
) -> Result<(), CliError> {
    let width = nodes.iter().map(|node| node.as_str().len()).max().unwrap_or(0);
    for from in nodes {
        let mut row = format!("{from:width$} ");
        for to in nodes {
            row.push(' ');
            match cell(from, to) {
                // Writing to a String cannot fail.
                Some((style, letter)) => write!(row, "{style}{letter}{style:#}").unwrap_or_default(),
                None => row.push(' '),
            }
        }
        ui.line(row.trim_end())?;
    }
    Ok(())
}

fn pair(from: &str, to: &str, address: IpAddr, outcome: &Outcome, running: &Running) -> Pair {
    let (ms, why) = match outcome {
        Outcome::Reply(time) => (Some(time.as_secs_f64() * 1000.0), None),
        Outcome::Silence => (None, Some("no answer".to_owned())),
        Outcome::NotSent(errno) => (None, Some(format!("not sent: {}", not_sent(Family::of(address), *errno)))),
        Outcome::Error { by, kind, code } => {
            let who = running.owner_of(*by).map_or_else(|| by.to_string(), |node| format!("{node} ({by})"));
            (None, Some(format!("{who} answers {}", icmp_words(Family::of(*by), *kind, *code))))
        }
    };
    Pair { from: from.to_owned(), to: to.to_owned(), address, reached: outcome.is_reply(), ms, why }
}

/// Why the kernel has not sent a packet; where its error says less than it means, also that (`ip6_finish_output2()` and
/// `ip6_blk_hole_entry_template` of net/ipv6, `__neigh_create()` of net/core).
pub(super) fn not_sent(family: Family, errno: i32) -> String {
    let errno = Errno::from_raw(errno);
    match (family, errno) {
        (Family::Ipv6, Errno::INVAL) => {
            format!("{errno}: a blackhole route, or the machine's table of neighbours is full, `hop doctor`")
        }
        (Family::Ipv4, Errno::NOBUFS) => format!("{errno}: the machine's table of neighbours is full, `hop doctor`"),
        _ => errno.to_string(),
    }
}

/// RFC 792, RFC 1812 and RFC 4443: always the type and code too, because the words are not the same
/// everywhere.
pub(super) fn icmp_words(family: Family, kind: u8, code: u8) -> String {
    let words = match (family, kind, code) {
        (Family::Ipv4, 3, 0) => "network unreachable",
        (Family::Ipv4, 3, 1) => "host unreachable",
        (Family::Ipv4, 3, 3) | (Family::Ipv6, 1, 4) => "port unreachable",
        (Family::Ipv4, 3, 4) => "fragmentation needed",
        (Family::Ipv4, 3, 9 | 10 | 13) | (Family::Ipv6, 1, 1) => "administratively prohibited",
        (Family::Ipv4, 5, _) | (Family::Ipv6, 137, _) => "redirect",
        (Family::Ipv4, 11, _) | (Family::Ipv6, 3, _) => "time to live exceeded",
        (Family::Ipv6, 1, 0) => "no route to destination",
        (Family::Ipv6, 1, 3) => "address unreachable",
        (Family::Ipv6, 2, _) => "packet too big",
        _ => "an error",
    };
    let protocol = if family == Family::Ipv4 { "ICMP" } else { "ICMPv6" };
    format!("{words} ({protocol} {kind}/{code})")
}
