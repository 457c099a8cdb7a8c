//! What a sandbox tried to reach.

use std::collections::BTreeMap;
use std::net::IpAddr;

use hopyard_net::{Allow, Hosts, IpNet, Transport};

/// Something that was tried.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Attempt {
    /// A host was to be reached at a port.
    Reach {
        /// The host: by the name by which the sandbox knows it, or by address.
        host: Hosts,
        /// The port.
        port: u16,
        /// Over which protocol.
        transport: Transport,
    },
    /// A name was looked up.
    LookUp(String),
    /// A packet of another protocol than TCP and UDP, which no sandbox can send: ping, for instance.
    Other {
        /// Where it should have gone.
        to: IpAddr,
        /// The protocol, by its number in an IP header.
        protocol: u8,
    },
}

/// How often something was tried, and whether it was allowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tries {
    /// So often it was let pass.
    pub allowed: u64,
    /// So often it was refused.
    pub refused: u64,
}

/// All that was tried.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Each thing once.
    pub tries: BTreeMap<Attempt, Tries>,
}

/// A program may try more than anybody reads.
const MOST: usize = 10_000;

impl Record {
    pub(super) fn note(&mut self, attempt: Attempt, allowed: bool) {
        if self.tries.len() >= MOST && !self.tries.contains_key(&attempt) {
            return;
        }
        let tries = self.tries.entry(attempt).or_default();
        *(if allowed { &mut tries.allowed } else { &mut tries.refused }) += 1;
    }

    /// What has to be allowed so that all of it passes, and no more. A name that was looked up and never
    /// used needs nothing: nobody knows at which port.
    pub fn needed(&self) -> Vec<Allow> {
        let mut ports: BTreeMap<(&Hosts, u16), Option<Transport>> = BTreeMap::new();
        for attempt in self.tries.keys() {
            let Attempt::Reach { host, port, transport } = attempt else { continue };
            ports
                .entry((host, *port))
                .and_modify(|known| *known = known.filter(|known| known == transport))
                .or_insert(Some(*transport));
        }
        ports
            .into_iter()
            .map(|((hosts, port), transport)| Allow { hosts: hosts.clone(), port: Some(port), transport })
            .collect()
    }
}

/// The host of an address, by a name or by itself.
pub(super) fn host(name: Option<&str>, addr: IpAddr) -> Hosts {
    name.map_or_else(|| Hosts::Net(IpNet::from(addr)), |name| Hosts::Name(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_lets_what_was_tried_and_no_more() {
        let mut record = Record::default();
        let reach = |host: &str, port, transport| Attempt::Reach {
            host: host.parse::<Allow>().unwrap().hosts,
            port,
            transport,
        };
        record.note(reach("example.org", 443, Transport::Tcp), false);
        record.note(reach("example.org", 443, Transport::Tcp), false);
        record.note(reach("example.org", 443, Transport::Udp), false);
        record.note(reach("10.0.0.1", 53, Transport::Udp), true);
        record.note(reach("fd00::1", 80, Transport::Tcp), false);
        record.note(Attempt::LookUp("example.net".into()), false);
        let line: Vec<String> = record.needed().iter().map(ToString::to_string).collect();
        assert_eq!(line, ["10.0.0.1:53/udp", "[fd00::1]:80/tcp", "example.org:443"]);
        assert_eq!(record.tries.len(), 5);
    }
}
