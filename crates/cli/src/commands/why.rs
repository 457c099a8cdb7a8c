//! `hop why`.

mod evidence;
mod file;
mod json;
pub(super) mod words;

use std::net::IpAddr;

use hopyard::explain::{Outcome, Packet, Protocol};
use hopyard::net::{Family, NsName};
use hopyard::runtime::why::{Fixed, Report, fix, why};
use hopyard::runtime::{Home, Running, keep_room_for_files};

use crate::error::CliError;
use crate::target::LabArg;
use crate::ui::Ui;

/// Say why one node does not reach another: hop by hop, there and back, with the smallest repair.
///
/// What each hop does is computed from all that its kernel shows, the kernel itself is asked, and one
/// packet is sent and watched on its way. Where they differ, that is shown. Nothing is changed, unless
/// `--fix` says so.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own on the command line")]
#[command(after_help = "\
Exit status: 0 it reaches it; 1 it does not; 2 the input is wrong; 3 it is not known, or the evidence
contradicts itself.")]
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
    /// Send no packet: only compute and ask.
    #[arg(long)]
    no_probe: bool,
    /// Make the changes, and take them back if a packet shows that they do not help.
    #[arg(long, conflicts_with_all = ["no_probe", "json"])]
    fix: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// The node that sends, as NODE or LAB/NODE.
    #[arg(value_name = "SRC")]
    from: String,
    /// The node or address that should answer, with a port for TCP or UDP: `far`, `far:80/tcp`,
    /// `10.0.2.2:53/udp`, `[fd00::1]:80`.
    #[arg(value_name = "DST[:PORT[/PROTO]]")]
    to: String,
}

/// Not known, or contradictory.
const OPEN: u8 = 3;

pub(crate) fn run(args: &Args, ui: &mut Ui) -> Result<u8, CliError> {
    let home = Home::of_caller()?;
    keep_room_for_files();
    let (running, from) = args.lab.find_node(&home, &args.from)?;
    let target = Target::parse(&args.to)?;
    let (dst, wanted) = target.find(args, &running)?;
    let mut packet = Packet::probe(dst, target.protocol, target.port);
    if let Some(size) = args.size {
        if target.protocol == Protocol::Tcp {
            return Err(CliError::usage("--size is not for TCP, whose first segment has no content")
                .hint("ask without a port, or for `/udp`"));
        }
        packet.length = size;
    }
    let report = why(&running, &from, packet, wanted, !args.no_probe)?;
    let file = file::File::of(&running);
    if args.json {
        json::print(ui, &report, file.as_ref())?;
    } else {
        words::print(ui, &report, file.as_ref(), !args.fix)?;
    }
    if args.fix && report.outcome() != Outcome::Yes {
        return make_changes(ui, &home, &running, &report);
    }
    Ok(status(&report))
}

fn make_changes(ui: &mut Ui, home: &Home, running: &Running, report: &Report) -> Result<u8, CliError> {
    match fix(home, running, report)? {
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
        Fixed::Nothing => Ok(status(report)),
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
    fn parse(text: &str) -> Result<Self, CliError> {
        let wrong = || {
            CliError::usage(format!("`{text}` is no target"))
                .hint("write a node or an address, and a port for TCP or UDP: `far`, `far:80/tcp`, `[fd00::1]:53/udp`")
        };
        let (host, service) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']').ok_or_else(wrong)?;
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
            _ => return Err(wrong()),
        };
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?;
        if host.is_empty() { Err(wrong()) } else { Ok(Target { host, protocol, port }) }
    }

    /// The address, and the node that it should lead to.
    fn find(&self, args: &Args, running: &Running) -> Result<(IpAddr, Option<NsName>), CliError> {
        if let Ok(address) = self.host.parse::<IpAddr>() {
            return Ok((address, running.owner_of(address).cloned()));
        }
        let wanted = |address: &IpAddr| match Family::of(*address) {
            Family::Ipv4 => !args.ipv6_only,
            Family::Ipv6 => !args.ipv4_only,
        };
        let address = running.main_addresses(&self.host)?.into_iter().find(wanted).ok_or_else(|| {
            CliError::usage(format!("`{}` has no such address", self.host)).hint("`hop show` lists the addresses")
        })?;
        Ok((address, self.host.parse().ok()))
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
            assert_eq!(Target::parse(text).unwrap(), Target { host: host.to_owned(), protocol, port }, "{text}");
        }
        for bad in ["", ":80", "far:", "far:0", "far:http", "far:80/sctp", "[fd00::1", "[]", "far:70000", "[a]b"] {
            assert!(Target::parse(bad).is_err(), "{bad:?} was accepted");
        }
    }
}
