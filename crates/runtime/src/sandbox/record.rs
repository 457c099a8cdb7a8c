//! What a sandbox tried to reach.

use std::collections::BTreeMap;
use std::net::IpAddr;

use hopyard_net::{Allow, Hosts, IpNet, Protocol, Transport, is_outside};

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
    /// A host was to be reached by the echo of ICMP (ping).
    Echo(Hosts),
    /// A name was looked up.
    LookUp(String),
    /// A packet of a protocol that passes no sandbox.
    Other {
        /// Where it should have gone.
        to: IpAddr,
        /// The protocol, by its number in an IP header.
        protocol: u8,
    },
}

/// What became of something that was allowed, in the network outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// A connection was made.
    Connected,
    /// A datagram came back.
    Answered,
    /// The host has nobody at that port, or does not want the connection.
    Refused,
    /// Nothing leads there, or a firewall on the way says no.
    Unreachable,
    /// The kernel outside does not let this user send that.
    Forbidden,
    /// The name has addresses.
    Found,
    /// There is no such name, or it has no address.
    NoSuchName,
    /// It could not be found out whether there is such a name.
    LookUpFailed,
}

/// How often something was tried, and what came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tries {
    /// So often the sandbox let it pass.
    pub allowed: u64,
    /// So often the sandbox did not.
    pub blocked: u64,
    /// How often which answer came from outside to what was let pass; to the rest of it none came.
    pub outcomes: BTreeMap<Outcome, u64>,
}

impl Tries {
    /// So often nothing was heard of what was let pass.
    pub fn unanswered(&self) -> u64 {
        self.allowed.saturating_sub(self.outcomes.values().sum())
    }
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
        *(if allowed { &mut tries.allowed } else { &mut tries.blocked }) += 1;
    }

    /// What came of one that was let pass. More answers than attempts there are not: each counts once.
    pub(super) fn answered(&mut self, attempt: &Attempt, outcome: Outcome) {
        if let Some(tries) = self.tries.get_mut(attempt).filter(|tries| tries.unanswered() > 0) {
            *tries.outcomes.entry(outcome).or_default() += 1;
        }
    }

    /// What has to be allowed so that all of it passes, and no more. A name that was looked up and never
    /// used needs nothing: nobody knows at which port. What no sandbox reaches, as everybody in a network, is not in it.
    pub fn needed(&self) -> Vec<Allow> {
        let mut ports: BTreeMap<(&Hosts, Option<u16>), Option<Protocol>> = BTreeMap::new();
        for attempt in self.tries.keys() {
            let (host, port, protocol) = match attempt {
                Attempt::Reach { host, port, transport } => (host, Some(*port), Protocol::from(*transport)),
                Attempt::Echo(host) => (host, None, Protocol::Icmp),
                _ => continue,
            };
            if matches!(host, Hosts::Net(net) if !is_outside(net.addr())) {
                continue;
            }
            ports
                .entry((host, port))
                .and_modify(|known| *known = known.filter(|known| *known == protocol))
                .or_insert(Some(protocol));
        }
        ports.into_iter().map(|((hosts, port), protocol)| Allow { hosts: hosts.clone(), port, protocol }).collect()
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
    fn no_attempt_has_two_answers() {
        let mut record = Record::default();
        let name = Attempt::LookUp("example.net".into());
        record.answered(&name, Outcome::Found);
        assert!(record.tries.is_empty(), "of what nobody tried nothing is known");
        record.note(name.clone(), false);
        record.answered(&name, Outcome::Found);
        assert!(record.tries[&name].outcomes.is_empty(), "what was blocked never came outside");
        record.note(name.clone(), true);
        record.note(name.clone(), true);
        assert_eq!(record.tries[&name].unanswered(), 2);
        for _ in 0..3 {
            record.answered(&name, Outcome::NoSuchName);
        }
        assert_eq!(record.tries[&name].outcomes, [(Outcome::NoSuchName, 2)].into());
        assert_eq!(record.tries[&name].unanswered(), 0);
    }

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
        // Broadcast, as DHCP and those who look for each other do it.
        record.note(
            Attempt::Reach { host: host(None, IpAddr::from([255; 4])), port: 67, transport: Transport::Udp },
            false,
        );
        record.note(Attempt::Echo("fd00::1".parse::<Allow>().unwrap().hosts), false);
        let line: Vec<String> = record.needed().iter().map(ToString::to_string).collect();
        assert_eq!(line, ["10.0.0.1:53/udp", "fd00::1/icmp", "[fd00::1]:80/tcp", "example.org:443"]);
        assert_eq!(record.tries.len(), 7);
        assert!(line.iter().all(|word| word.parse::<Allow>().is_ok()), "{line:?}");
    }
}
