//! `hop why`.

mod elsewhere;
mod evidence;
mod file;
mod json;
mod lesson;
mod onward;
pub(super) mod recording;
pub(super) mod scene;
pub(super) mod words;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use hopyard::explain::{Outcome, Packet, Protocol, no_single_node};
use hopyard::net::{Family, IpNet};
use hopyard::runtime;
use hopyard::runtime::why::{Fixed, Forbidden, Report, Sending, fix, why};
use hopyard::runtime::{Home, Running, keep_room_for_files};

use super::check::Places;
use crate::error::CliError;
use crate::target::LabArg;
use crate::ui::Ui;
use scene::{ExpectLine, Scene};

pub(in crate::commands) use elsewhere::{around, tell_of_closed};
pub(in crate::commands) use file::File;
pub(in crate::commands) use json::schema;

/// Say why one node does not reach another: hop by hop, there and back, with the smallest repair.
///
/// What each hop does is computed from all that its kernel shows, the kernel itself is asked, and one
/// packet is sent and watched on its way. Where they differ, that is shown. Nothing is changed, unless
/// `--fix` says so; where rules of nftables are, a table that traces the packet is there while it is on its way
/// (`--no-trace`: it is not).
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own on the command line")]
#[command(after_help = "\
Exit status: 0 it reaches it; 1 it does not; 2 the input is wrong; 3 it is not known, the evidence \
contradicts itself, or something failed.")]
pub(crate) struct Args {
    #[command(flatten)]
    lab: LabArg,
    /// The target's IPv4 address.
    #[arg(short = '4', long, conflicts_with = "ipv6_only")]
    ipv4_only: bool,
    /// The target's IPv6 address; without this, IPv4 where it has both.
    #[arg(short = '6', long)]
    ipv6_only: bool,
    /// How long the packet is, in bytes with its IP header; it may not be cut on the way. Not for TCP.
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(64..=65535))]
    size: Option<u32>,
    /// SRC and DST are namespaces: names in /run/netns, `pid:1234`, a path, or `host` for the machine's own
    /// network. With them comes all that cables lead to from there.
    #[arg(long, conflicts_with = "lab")]
    ns: bool,
    /// Explain what `hop record` has written, here or elsewhere: nobody is asked, and nothing sent.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["lab", "ns", "probe", "no_probe", "fix"])]
    from: Option<PathBuf>,
    /// Send no packet: only compute and ask.
    #[arg(long)]
    no_probe: bool,
    /// Send a packet, but let no firewall tell of it: else a table that traces it is in each node that has rules, as long
    /// as it is on its way.
    #[arg(long, conflicts_with_all = ["no_probe", "from"])]
    no_trace: bool,
    /// With --ns: send a packet also from the machine's own network, and where it leaves what is known.
    #[arg(long, requires = "ns", conflicts_with = "no_probe")]
    probe: bool,
    /// Make the changes, and take them back if a packet shows that they do not help.
    #[arg(long, conflicts_with_all = ["no_probe", "json"])]
    fix: bool,
    /// Below the answer, teach: what each kernel does with the packet, in its order, and where that is written.
    #[arg(long, conflicts_with = "json")]
    explain: bool,
    /// Print JSON; `hop schema --why` says in which form.
    #[arg(long)]
    json: bool,
    /// The node that sends, as NODE or LAB/NODE.
    #[arg(value_name = "SRC")]
    source: String,
    /// The node or address that should answer, with a port for TCP or UDP: `far`, `far:80/tcp`,
    /// `10.0.2.2:53/udp`, `[fd00::1]:80`.
    #[arg(value_name = "DST[:PORT[/PROTO]]")]
    to: String,
}

/// Not known, or contradictory.
pub(super) const OPEN: u8 = 3;

pub(crate) fn run(args: &Args, ui: &mut Ui) -> Result<u8, CliError> {
    keep_room_for_files();
    if let Some(path) = &args.from {
        let (report, scene) = recording::look(args, path)?;
        tell(args, ui, &report, &scene)?;
        return Ok(status(&report));
    }
    if args.ns {
        return elsewhere::run(args, ui);
    }
    let home = Home::of_caller()?;
    let (running, from) = args.lab.find_node(&home, &args.source)?;
    let source = running.node(&from).map_err(|error| no_source(&running, &from, error))?;
    let target = Target::parse(in_lab(&running, &args.to), false)?;
    let (dst, wanted) = if let Ok(address) = target.host.parse::<IpAddr>() {
        (address, running.owner_for(&source, address))
    } else {
        let addresses = running.main_addresses(&target.host);
        let addresses = addresses.map_err(|error| no_target(&running, &target.host, error))?;
        (args.address_of(&target.host, &addresses)?, target.host.parse().ok())
    };
    let report = why(&running, &from, args.packet(&target, dst)?, wanted, args.sending())?;
    let expect = expected(&running, &report, ui)?;
    let is_named = args.lab.lab.is_some() || args.source.contains('/');
    let lab = Some(if is_named { format!("{}/", running.name()) } else { String::new() });
    let scene = Scene { file: File::of(&running), expect, lab, ..Scene::default() };
    tell(args, ui, &report, &scene)?;
    if !args.json {
        onward::hint(ui, &home, &running, &report, is_named)?;
    }
    if args.fix && report.outcome() != Outcome::Yes {
        return made(ui, fix(&home, &running, &report)?, &report);
    }
    Ok(status(&report))
}

/// What is no node, and may have been meant for one that sends.
fn no_source(running: &Running, text: &str, error: runtime::Error) -> CliError {
    if let Some(node) = text.parse().ok().and_then(|address| running.owner_of(address)) {
        return CliError::usage(error.to_string()).hint(format!("{text} is an address of {node}: write that name"));
    }
    match text.split_once(':') {
        Some((node, _)) if running.node(node).is_ok() => CliError::usage(error.to_string())
            .hint(format!("write `{node}`: the port from which it sends is chosen for each packet")),
        _ => error.into(),
    }
}

/// What is no node, and may have been meant for a target.
fn no_target(running: &Running, text: &str, error: runtime::Error) -> CliError {
    let Some((host, rest)) = text.split_once('/') else { return error.into() };
    let is_host = host.parse::<IpAddr>().is_ok() || running.node(host).is_ok();
    let meant = match (rest.parse::<u16>(), rest) {
        _ if !is_host => return error.into(),
        (Ok(_), _) if text.parse::<IpNet>().is_ok() => format!("write `{host}`: a packet goes to one address"),
        (Ok(port), _) => format!("write `{host}:{port}` for a port"),
        (_, "tcp" | "udp") => format!("write `{host}:PORT/{rest}`"),
        _ => return error.into(),
    };
    CliError::usage(error.to_string()).hint(meant)
}

/// The lines of `expect` that have something to say about an answer.
fn expected(running: &Running, report: &Report, ui: &mut Ui) -> Result<BTreeMap<usize, ExpectLine>, CliError> {
    let Forbidden { by, spoilt } = &report.forbidden;
    if by.is_none() && spoilt.is_empty() {
        return Ok(BTreeMap::new());
    }
    let lab = &running.contents()?.lab;
    let places = Places::of(running, lab, ui);
    let line = |at: &usize| {
        let words = lab.expectations()[*at].words(lab).to_string();
        let (file, line) = (places.file.clone().filter(|_| places.line(*at).is_some()), places.line(*at));
        (*at, ExpectLine { place: places.of_line(*at), file, line, words })
    };
    Ok(by.iter().chain(spoilt).map(line).collect())
}

/// A target as a node of the lab that the sender is of: `LAB/NODE` says that again.
fn in_lab<'a>(running: &Running, target: &'a str) -> &'a str {
    let node = target.split_once('/').filter(|(lab, _)| *lab == running.name().as_str());
    node.map_or(target, |(_, node)| node)
}

fn tell(args: &Args, ui: &mut Ui, report: &Report, scene: &Scene) -> Result<(), CliError> {
    if args.json {
        return json::print(ui, report, scene);
    }
    words::print(ui, report, scene, !args.fix && args.from.is_none())?;
    if args.explain { lesson::print(ui, report) } else { Ok(()) }
}

/// Says what became of the changes.
fn made(ui: &mut Ui, fixed: Fixed, report: &Report) -> Result<u8, CliError> {
    match fixed {
        Fixed::Works(after) => {
            ui.line(format_args!("done: {}", words::headline(&after)))?;
            Ok(status(&after))
        }
        Fixed::Undone(after) => {
            ui.line(format_args!("undone, as it did not help: {}", words::headline(&after)))?;
            Ok(status(&after))
        }
        Fixed::NotForUs(number) => {
            ui.hint(format_args!("nothing was changed: change {number} is about a firewall or a policy rule, which `hop why` leaves to you"));
            Ok(status(report))
        }
        Fixed::OfHost(number) => {
            ui.hint(format_args!(
                "nothing was changed: change {number} is to the machine's own network, which `hop why` only looks at"
            ));
            Ok(status(report))
        }
        Fixed::Nothing => Ok(status(report)),
    }
}

impl Args {
    fn sending(&self) -> Sending {
        match (self.no_probe, self.no_trace) {
            (true, _) => Sending::Nothing,
            (false, true) => Sending::Untraced,
            (false, false) => Sending::Probe,
        }
    }

    /// What is sent.
    fn packet(&self, target: &Target, dst: IpAddr) -> Result<Packet, CliError> {
        if let Some(what) = no_single_node(dst) {
            return Err(CliError::usage(format!("{dst} {what}: `hop why` follows a packet to one node"))
                .hint("name that node, or an address of its own"));
        }
        let mut packet = Packet::probe(dst, target.protocol, target.port);
        if let Some(size) = self.size {
            if target.protocol == Protocol::Tcp {
                return Err(CliError::usage("--size is not for TCP, whose first segment has no content")
                    .hint("ask without a port, or for `/udp`"));
            }
            packet.length = size;
        }
        Ok(packet)
    }

    /// The one of a node's addresses that is meant.
    fn address_of(&self, node: &str, addresses: &[IpAddr]) -> Result<IpAddr, CliError> {
        let wanted = |address: &&IpAddr| match Family::of(**address) {
            Family::Ipv4 => !self.ipv6_only,
            Family::Ipv6 => !self.ipv4_only,
        };
        addresses.iter().find(wanted).copied().ok_or_else(|| {
            let what = match (self.ipv4_only, self.ipv6_only) {
                (true, _) => "IPv4 address",
                (_, true) => "IPv6 address",
                _ => "address",
            };
            let shows = match (self.ns, node) {
                (true, "host") => "`ip address`",
                (true, _) => "`ip address` in it",
                _ => "`hop show`",
            };
            CliError::usage(format!("`{node}` has no {what} that others could send to"))
                .hint(format!("{shows} lists what it has"))
        })
    }
}

fn status(report: &Report) -> u8 {
    match report.outcome() {
        _ if !report.disagreements.is_empty() => OPEN,
        Outcome::Yes => 0,
        Outcome::No => 1,
        Outcome::Undecided => OPEN,
    }
}

/// What the command line names.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    host: String,
    protocol: Protocol,
    port: u16,
}

impl Target {
    /// `in_ns`: a host may be `pid:1234`.
    fn parse(text: &str, in_ns: bool) -> Result<Self, CliError> {
        if let Some(process) = text.strip_prefix("pid:").filter(|_| in_ns) {
            let target = Self::parse(process, false)?;
            return Ok(Target { host: format!("pid:{}", target.host), ..target });
        }
        let wrong = || {
            CliError::usage(format!("`{text}` is no target"))
                .hint("write a node or an address, and a port for TCP or UDP: `far`, `far:80/tcp`, `[fd00::1]:53/udp`")
        };
        let (host, service) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']').ok_or_else(wrong)?;
                if host.parse::<IpAddr>().is_err() {
                    let message = format!("`[{host}]` is no address; in brackets stands an address of IPv6");
                    return Err(CliError::usage(message).hint(format!("write `{host}{rest}` if that is a node")));
                }
                if rest.is_empty() { (host, None) } else { (host, Some(rest.strip_prefix(':').ok_or_else(wrong)?)) }
            }
            None if text.parse::<IpAddr>().is_ok() => (text, None),
            None => text.split_once(':').map_or((text, None), |(host, service)| (host, Some(service))),
        };
        let host = host.to_owned();
        let Some(service) = service else {
            return if host.is_empty() { Err(wrong()) } else { Ok(Target { host, protocol: Protocol::Icmp, port: 0 }) };
        };
        let (port, protocol) = service.split_once('/').unwrap_or((service, "tcp"));
        let protocol = match protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            other => {
                return Err(CliError::usage(format!("`{other}` is no protocol with ports"))
                    .hint("allowed are `tcp` and `udp`; without a port it is an echo request"));
            }
        };
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(|| {
            CliError::usage(format!("`{port}` is no port in `{text}`")).hint("a port is a number, 1 to 65535")
        })?;
        if host.is_empty() { Err(wrong()) } else { Ok(Target { host, protocol, port }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_host_with_or_without_a_port() {
        let cases = [
            ("far", "far", Protocol::Icmp, 0),
            ("far:80", "far", Protocol::Tcp, 80),
            ("far:53/udp", "far", Protocol::Udp, 53),
            ("10.0.0.1", "10.0.0.1", Protocol::Icmp, 0),
            ("10.0.0.1:80/tcp", "10.0.0.1", Protocol::Tcp, 80),
            ("fd00::1", "fd00::1", Protocol::Icmp, 0),
            ("[fd00::1]", "fd00::1", Protocol::Icmp, 0),
            ("[fd00::1]:53/udp", "fd00::1", Protocol::Udp, 53),
        ];
        for (text, host, protocol, port) in cases {
            assert_eq!(Target::parse(text, false).unwrap(), Target { host: host.to_owned(), protocol, port }, "{text}");
        }
        let process = Target { host: "pid:12".to_owned(), protocol: Protocol::Udp, port: 53 };
        assert_eq!(Target::parse("pid:12:53/udp", true).unwrap(), process);
        assert_eq!(Target::parse("pid:12", false).unwrap().port, 12, "a node may be called so");
        for bad in
            ["", ":80", "far:", "far:0", "far:http", "far:80/sctp", "[fd00::1", "[]", "far:70000", "[a]b", "[far]:80"]
        {
            assert!(Target::parse(bad, false).is_err(), "{bad:?} was accepted");
        }
    }
}
