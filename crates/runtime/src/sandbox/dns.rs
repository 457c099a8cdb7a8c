//! The resolver of a sandbox: answers for names that are allowed, and knows no others.

use std::net::IpAddr;

use hopyard_kernel::agent::Found;
use simple_dns::rdata::{A, AAAA, RData};
use simple_dns::{CLASS, OPCODE, Packet, PacketFlag, QCLASS, QTYPE, RCODE, ResourceRecord, TYPE};

use super::policy::FRESH;

/// What fits into a datagram that nobody has said to be larger (RFC 1035, section 4.2.1).
const MOST_BYTES: usize = 512;
/// No record of an address is shorter.
const RECORD_BYTES: usize = 16;

/// A question that the resolver understands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Question {
    /// The whole message: the answer repeats parts of it.
    message: Vec<u8>,
    /// In lower case, for names are compared without regard to it (RFC 4343); without the dot at its end.
    pub(super) name: String,
    wants: Wants,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wants {
    Ipv4,
    Ipv6,
    /// Something else than an address.
    Other,
}

impl Question {
    /// `None`: it is none, and gets no answer.
    pub(super) fn parse(message: &[u8]) -> Option<Self> {
        let packet = Packet::parse(message).ok()?;
        let is_query = !packet.has_flags(PacketFlag::RESPONSE) && packet.opcode() == OPCODE::StandardQuery;
        let [question] = packet.questions.as_slice() else { return None };
        if !is_query {
            return None;
        }
        let wants = match (question.qclass, question.qtype) {
            (QCLASS::CLASS(CLASS::IN), QTYPE::TYPE(TYPE::A)) => Wants::Ipv4,
            (QCLASS::CLASS(CLASS::IN), QTYPE::TYPE(TYPE::AAAA)) => Wants::Ipv6,
            _ => Wants::Other,
        };
        let name = question.qname.to_string().to_ascii_lowercase();
        Some(Question { message: message.to_vec(), name, wants })
    }

    /// The answer to it; `None`: there is no such name here.
    pub(super) fn answer(&self, found: Option<&Found>) -> Option<Vec<u8>> {
        let asked = Packet::parse(&self.message).ok()?;
        let mut reply = Packet::new_reply(asked.id());
        reply.set_flags(PacketFlag::RECURSION_AVAILABLE);
        if asked.has_flags(PacketFlag::RECURSION_DESIRED) {
            reply.set_flags(PacketFlag::RECURSION_DESIRED);
        }
        let question = asked.questions.first()?;
        reply.questions.push(question.clone());
        match found {
            None | Some(Found::Nothing) => *reply.rcode_mut() = RCODE::NameError,
            Some(Found::Failed(_)) => *reply.rcode_mut() = RCODE::ServerFailure,
            Some(Found::Addresses(addresses)) => {
                let ttl = u32::try_from(FRESH.as_secs()).unwrap_or(0);
                for &addr in addresses {
                    // What cannot fit is not tried: a name may have hundreds.
                    if reply.answers.len() * RECORD_BYTES >= MOST_BYTES {
                        break;
                    }
                    let data = match (self.wants, addr) {
                        (Wants::Ipv4, IpAddr::V4(addr)) => RData::A(A::from(addr)),
                        (Wants::Ipv6, IpAddr::V6(addr)) => RData::AAAA(AAAA::from(addr)),
                        _ => continue,
                    };
                    reply.answers.push(ResourceRecord::new(question.qname.clone(), CLASS::IN, ttl, data));
                }
            }
        }
        loop {
            let bytes = reply.build_bytes_vec_compressed().ok()?;
            // Any of the addresses will do; nobody has to come back by TCP for the rest.
            if bytes.len() <= MOST_BYTES || reply.answers.pop().is_none() {
                return Some(bytes);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use simple_dns::{Name, Question as Asked};

    fn ask(name: &str, kind: TYPE) -> Vec<u8> {
        let mut packet = Packet::new_query(0x1234);
        packet.set_flags(PacketFlag::RECURSION_DESIRED);
        let name = Name::new_unchecked(name);
        packet.questions.push(Asked::new(name, QTYPE::TYPE(kind), QCLASS::CLASS(CLASS::IN), false));
        packet.build_bytes_vec().unwrap()
    }

    fn addresses(bytes: &[u8]) -> (RCODE, usize) {
        let packet = Packet::parse(bytes).unwrap();
        assert_eq!(packet.id(), 0x1234);
        assert_eq!(packet.questions.len(), 1);
        (packet.rcode(), packet.answers.len())
    }

    #[test]
    fn an_address_of_the_family_asked_for_is_answered() {
        let found = Found::Addresses(vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()]);
        for kind in [TYPE::A, TYPE::AAAA] {
            let question = Question::parse(&ask("Example.ORG", kind)).unwrap();
            assert_eq!(question.name, "example.org");
            assert_eq!(addresses(&question.answer(Some(&found)).unwrap()), (RCODE::NoError, 1));
        }
        let question = Question::parse(&ask("example.org", TYPE::MX)).unwrap();
        assert_eq!(addresses(&question.answer(Some(&found)).unwrap()), (RCODE::NoError, 0));
    }

    #[test]
    fn what_is_not_known_and_what_failed_differ() {
        let question = Question::parse(&ask("example.org", TYPE::A)).unwrap();
        assert_eq!(addresses(&question.answer(None).unwrap()), (RCODE::NameError, 0));
        let failed = Found::Failed("no server".into());
        assert_eq!(addresses(&question.answer(Some(&failed)).unwrap()), (RCODE::ServerFailure, 0));
    }

    #[test]
    fn an_answer_fits_into_a_datagram() {
        let many = (0..=255).map(|n| std::net::Ipv4Addr::new(10, 0, 0, n).into()).collect();
        let question = Question::parse(&ask("example.org", TYPE::A)).unwrap();
        let bytes = question.answer(Some(&Found::Addresses(many))).unwrap();
        assert!(bytes.len() <= MOST_BYTES && bytes.len() + RECORD_BYTES > MOST_BYTES, "as many as fit");
        assert!(addresses(&bytes).1 > 20);
    }

    #[test]
    fn garbage_gets_no_answer() {
        let whole = ask("example.org", TYPE::A);
        for length in 0..whole.len() {
            assert_eq!(Question::parse(&whole[..length]), None);
        }
        let answer = Question::parse(&whole).unwrap().answer(None).unwrap();
        assert_eq!(Question::parse(&answer), None);
    }
}
