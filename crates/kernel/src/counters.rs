//! What a namespace counts of packets that it does not send on: the SNMP counters of RFC 1213, RFC 4293 and
//! Linux, and what its interfaces drop.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;

use rustix::thread::LinkNameSpaceType;

use crate::Realm;

/// The counters of one namespace, kept open: they are read from anywhere.
#[derive(Debug)]
pub struct Counters {
    /// A line of names, and below it one of values.
    tables: Vec<File>,
    /// A name and a value in each line. `None`: the kernel has no IPv6.
    lines: Option<File>,
    /// Interfaces.
    devices: File,
}

/// By name, as `nstat` has it without the name of its table; of an interface, `eth0 tx dropped`.
pub type Counted = BTreeMap<String, u64>;

/// Those that tell why a packet was not sent on, or what was wrong with it. The others count what goes well,
/// or everything.
const SPEAKING: &[&str] = &[
    "Ip.InHdrErrors",
    "Ip.InAddrErrors",
    "Ip.InUnknownProtos",
    "Ip.InDiscards",
    "Ip.OutDiscards",
    "Ip.OutNoRoutes",
    "Ip.FragFails",
    "Ip.ReasmFails",
    "Udp.NoPorts",
    "IpExt.InNoRoutes",
    "IpExt.InTruncatedPkts",
    "TcpExt.IPReversePathFilter",
    "TcpExt.ListenOverflows",
    "TcpExt.ListenDrops",
    "Ip6InHdrErrors",
    "Ip6InTooBigErrors",
    "Ip6InNoRoutes",
    "Ip6InAddrErrors",
    "Ip6InDiscards",
    "Ip6OutDiscards",
    "Ip6OutNoRoutes",
    "Ip6FragFails",
    "Udp6NoPorts",
];

/// More than any of the files has.
const MOST_BYTES: usize = 1 << 20;

impl Counters {
    /// Opens those of each of the namespaces, in order.
    ///
    /// # Errors
    /// A namespace cannot be entered, or there is no procfs.
    pub fn open_all(realm: &Realm, namespaces: &[BorrowedFd<'_>]) -> io::Result<Vec<Counters>> {
        realm.outside()?.run(|| {
            let open_here = || -> io::Result<Counters> {
                let open = |name: &str| File::open(format!("/proc/thread-self/net/{name}"));
                let lines = match open("snmp6") {
                    Ok(file) => Some(file),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                    Err(error) => return Err(error),
                };
                Ok(Counters { tables: vec![open("snmp")?, open("netstat")?], lines, devices: open("dev")? })
            };
            let open = |&namespace: &BorrowedFd<'_>| {
                rustix::thread::move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))?;
                open_here()
            };
            namespaces.iter().map(open).collect()
        })?
    }

    /// Reads those that tell why a packet was not sent on.
    ///
    /// # Errors
    /// Those of pread(2).
    pub fn read(&self) -> io::Result<Counted> {
        let mut found = Counted::new();
        for file in &self.tables {
            read_table(&text_of(file)?, &mut found);
        }
        if let Some(file) = &self.lines {
            read_lines(&text_of(file)?, &mut found);
        }
        found.retain(|name, _| SPEAKING.contains(&name.as_str()));
        let mut found: Counted =
            found.into_iter().map(|(name, value)| (without_table(&name).to_owned(), value)).collect();
        read_devices(&text_of(&self.devices)?, &mut found);
        Ok(found)
    }
}

/// From the beginning, wherever it was read before: the kernel writes it anew.
fn text_of(file: &File) -> io::Result<String> {
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 1 << 14];
    while bytes.len() < MOST_BYTES {
        match file.read_at(&mut buffer, u64::try_from(bytes.len()).map_err(io::Error::other)?) {
            Ok(0) => break,
            Ok(length) => bytes.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    String::from_utf8(bytes).map_err(io::Error::other)
}

fn without_table(name: &str) -> &str {
    name.split_once('.').map_or(name, |(_, name)| name)
}

/// `Ip: Forwarding DefaultTTL`, and below it `Ip: 1 64`.
fn read_table(text: &str, found: &mut Counted) {
    let mut lines = text.lines();
    while let (Some(names), Some(values)) = (lines.next(), lines.next()) {
        let (Some((table, names)), Some((_, values))) = (names.split_once(':'), values.split_once(':')) else {
            continue;
        };
        for (name, value) in names.split_whitespace().zip(values.split_whitespace()) {
            if let Ok(value) = value.parse() {
                found.insert(format!("{table}.{name}"), value);
            }
        }
    }
}

/// `Ip6InNoRoutes 3`.
fn read_lines(text: &str, found: &mut Counted) {
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if let (Some(name), Some(Ok(value))) = (words.next(), words.next().map(str::parse)) {
            found.insert(name.to_owned(), value);
        }
    }
}

/// `eth0: bytes packets errs drop fifo frame compressed multicast`, and the same for what is sent.
fn read_devices(text: &str, found: &mut Counted) {
    const RECEIVED_DROP: usize = 3;
    const SENT_DROP: usize = 11;
    for line in text.lines() {
        let Some((dev, rest)) = line.split_once(':') else { continue };
        let values: Vec<&str> = rest.split_whitespace().collect();
        for (at, what) in [(RECEIVED_DROP, "rx dropped"), (SENT_DROP, "tx dropped")] {
            if let Some(Ok(value)) = values.get(at).map(|value| value.parse()) {
                found.insert(format!("{} {what}", dev.trim()), value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_by_name() {
        let mut found = Counted::new();
        read_table("Ip: Forwarding InAddrErrors\nIp: 1 7\nTcp: MaxConn OutRsts\nTcp: -1 2\n", &mut found);
        read_lines("Ip6InNoRoutes                   \t3\n", &mut found);
        read_devices(
            "Inter-|   Receive  |  Transmit\n face |bytes packets\n  eth0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n",
            &mut found,
        );
        let expected = [
            ("Ip.Forwarding", 1),
            ("Ip.InAddrErrors", 7),
            ("Ip6InNoRoutes", 3),
            ("Tcp.OutRsts", 2),
            ("eth0 rx dropped", 4),
            ("eth0 tx dropped", 12),
        ];
        let found: Vec<(&str, u64)> = found.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn nonsense_is_no_counter() {
        let mut found = Counted::new();
        for text in ["", "Ip", "Ip:\nIp:", "Ip: a\n", ":\n:\n", "eth0:\n", "x y z"] {
            read_table(text, &mut found);
            read_lines(text, &mut found);
            read_devices(text, &mut found);
        }
        assert_eq!(found, Counted::new());
    }
}
