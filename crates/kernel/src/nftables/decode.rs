//! The firewall of a namespace, read over `NETLINK_NETFILTER`: chains and rules, down to the kernel's
//! own instructions. What is not understood keeps its name, so that whoever follows a packet knows
//! where to stop.

use hopyard_net::{BaseChain, Chain, Comparison, Family, Hook, Loaded, NatStep, Rule, RuleStep, RuleVerdict, Ruleset};
use netlink_packet_core::NlasIterator;

use super::encode::table_request;
use super::{
    HEADER_BYTES, NFT_MSG_GETCHAIN, NFT_MSG_GETRULE, NFT_MSG_GETTABLE, NFT_MSG_NEWCHAIN, NFT_MSG_NEWRULE, TableName,
    family_name, trace,
};
use crate::Errno;
use crate::error::Refusal;
use crate::netlink::{Answers, Batch, DUMP, Inbox, RtSocket, Step};

/// Length and kind.
const ATTRIBUTE_HEADER_BYTES: usize = 4;

/// All chains of the network namespace that the calling thread is in.
pub(crate) fn read(inbox: &mut Inbox) -> Result<Ruleset, Refusal> {
    read_by(&RtSocket::open_for(Some(rustix::net::netlink::NETFILTER))?, inbox)
}

/// The chains of one table there; `None`: there is no such table.
pub(crate) fn read_table(table: &TableName, inbox: &mut Inbox) -> Result<Option<Vec<Chain>>, Refusal> {
    let socket = RtSocket::open_for(Some(rustix::net::netlink::NETFILTER))?;
    let mut batch = Batch::default();
    batch.push_bytes(1, NFT_MSG_GETTABLE, 0, &table_request(table));
    match socket.converse(&batch, 0, inbox, &mut |_| Ok(())) {
        Ok(()) => {}
        Err(refusal) if refusal.errno == Errno::NOENT => return Ok(None),
        Err(refusal) => return Err(refusal),
    }
    let mut chains = read_by(&socket, inbox)?.chains;
    chains.retain(|chain| chain.family == table.family && chain.table == table.name);
    Ok(Some(chains))
}

fn read_by(socket: &RtSocket, inbox: &mut Inbox) -> Result<Ruleset, Refusal> {
    let mut rules = Ruleset::default();
    dump(socket, NFT_MSG_GETCHAIN, inbox, &mut |found| match found {
        None => rules.chains.clear(),
        Some((NFT_MSG_NEWCHAIN, payload)) => rules.chains.extend(chain(payload)),
        Some(_) => {}
    })?;
    trace::leave_out(&mut rules.chains, socket, inbox)?;
    if rules.chains.is_empty() {
        return Ok(rules);
    }
    dump(socket, NFT_MSG_GETRULE, inbox, &mut |found| match found {
        None => rules.chains.iter_mut().for_each(|chain| chain.rules.clear()),
        Some((NFT_MSG_NEWRULE, payload)) => {
            if let Some((family, table, name, rule)) = rule(payload)
                && let Some(chain) =
                    rules.chains.iter_mut().find(|it| it.family == family && it.table == table && it.name == name)
            {
                chain.rules.push(rule);
            }
        }
        Some(_) => {}
    })?;
    Ok(rules)
}

/// A message of a list, its kind and what is in it; `None`: the list begins, or begins again.
pub(super) type Found<'a> = Option<(u16, &'a [u8])>;

/// Asks for a list.
pub(super) fn dump(
    socket: &RtSocket,
    kind: u16,
    inbox: &mut Inbox,
    on: &mut dyn FnMut(Found<'_>),
) -> Result<(), Refusal> {
    let mut batch = Batch::default();
    batch.push_bytes(1, kind, DUMP, &[0; HEADER_BYTES]);
    socket.converse(&batch, DUMP, inbox, &mut |step| {
        match step {
            Step::Anew => on(None),
            Step::Message(bytes) => Answers(bytes).for_each(|answer| on(Some((answer.kind, answer.payload)))),
        }
        Ok(())
    })
}

/// The attributes of a message or of a nested attribute. A broken one ends them.
fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    NlasIterator::new(bytes).map_while(Result::ok).map(|attribute| {
        let (kind, length) = (attribute.kind(), attribute.value().len());
        // Behind it come the others.
        let whole: &[u8] = attribute.into_inner();
        (kind, whole.get(ATTRIBUTE_HEADER_BYTES..ATTRIBUTE_HEADER_BYTES + length).unwrap_or_default())
    })
}

pub(super) fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

pub(super) fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value.split(|&byte| byte == 0).next().unwrap_or_default()).into_owned()
}

/// Numbers are in network byte order here.
pub(super) fn number(value: &[u8]) -> Option<u32> {
    value.first_chunk().copied().map(u32::from_be_bytes)
}

fn chain(payload: &[u8]) -> Option<Chain> {
    const TABLE: u16 = 1;
    const NAME: u16 = 3;
    const HOOK: u16 = 4;
    const POLICY: u16 = 5;
    const TYPE: u16 = 7;
    let family = family_name(*payload.first()?);
    let body = payload.get(HEADER_BYTES..)?;
    let base = find(body, HOOK).and_then(|hook| {
        let drops = find(body, POLICY).and_then(number) == Some(0);
        let kind = find(body, TYPE).map(text).unwrap_or_default();
        let priority = find(hook, 2).and_then(number).unwrap_or_default().cast_signed();
        Some(BaseChain { hook: hook_of(&family, find(hook, 1).and_then(number)?)?, priority, drops, kind })
    });
    Some(Chain { table: text(find(body, TABLE)?), name: text(find(body, NAME)?), family, base, rules: Vec::new() })
}

fn hook_of(family: &str, number: u32) -> Option<Hook> {
    Some(match (family, number) {
        ("netdev", 0) | ("inet", 5) => Hook::Ingress,
        ("netdev", 1) => Hook::Egress,
        ("arp", 1) | (_, 3) => Hook::Output,
        ("arp", 0) | (_, 1) => Hook::Input,
        (_, 0) => Hook::Prerouting,
        (_, 2) => Hook::Forward,
        (_, 4) => Hook::Postrouting,
        _ => return None,
    })
}

/// A rule, with family, table and chain.
fn rule(payload: &[u8]) -> Option<(String, String, String, Rule)> {
    const TABLE: u16 = 1;
    const CHAIN: u16 = 2;
    const HANDLE: u16 = 3;
    const EXPRESSIONS: u16 = 4;
    const ELEMENT: u16 = 1;
    let family = family_name(*payload.first()?);
    let body = payload.get(HEADER_BYTES..)?;
    let handle = find(body, HANDLE)?.first_chunk().copied().map(u64::from_be_bytes)?;
    let expressions = find(body, EXPRESSIONS).unwrap_or_default();
    let steps = attributes(expressions).filter(|(kind, _)| *kind == ELEMENT).map(|(_, element)| step(element));
    Some((family, text(find(body, TABLE)?), text(find(body, CHAIN)?), Rule { handle, steps: steps.collect() }))
}

fn step(element: &[u8]) -> RuleStep {
    const NAME: u16 = 1;
    const DATA: u16 = 2;
    let name = find(element, NAME).map(text).unwrap_or_default();
    let data = find(element, DATA).unwrap_or_default();
    let read = match name.as_str() {
        "meta" => meta(data),
        "ct" => connection(data),
        "payload" => payload(data),
        "bitwise" => bitwise(data),
        "cmp" => compare(data),
        "immediate" => immediate(data),
        "fib" => destination_type(data),
        "nat" => translation(data),
        "masq" => (data.is_empty()).then_some(RuleStep::Masquerade),
        "redir" => redirect(data),
        "tproxy" => Some(transparent_proxy(data)),
        "reject" => Some(RuleStep::Reject { reset: find(data, 1).and_then(number) == Some(1) }),
        "counter" => Some(RuleStep::Counter),
        "log" => Some(RuleStep::Pass),
        _ => None,
    };
    read.unwrap_or(RuleStep::Unknown(name))
}

fn meta(data: &[u8]) -> Option<RuleStep> {
    let what = match find(data, 2).and_then(number)? {
        3 => Loaded::Mark,
        4 => Loaded::InputIndex,
        5 => Loaded::OutputIndex,
        6 => Loaded::InputName,
        7 => Loaded::OutputName,
        15 => Loaded::NetworkFamily,
        16 => Loaded::Layer4Protocol,
        _ => return None,
    };
    // Without a destination it sets something.
    Some(RuleStep::Load { register: find(data, 1).and_then(number)?, what })
}

fn connection(data: &[u8]) -> Option<RuleStep> {
    const STATE: u32 = 0;
    let is_state = find(data, 2).and_then(number)? == STATE;
    let register = find(data, 1).and_then(number)?;
    is_state.then_some(RuleStep::Load { register, what: Loaded::ConnectionState })
}

fn payload(data: &[u8]) -> Option<RuleStep> {
    let part = |kind| find(data, kind).and_then(number);
    Some(RuleStep::Payload { register: part(1)?, base: part(2)?, offset: part(3)?, length: part(4)? })
}

fn bitwise(data: &[u8]) -> Option<RuleStep> {
    const MASK_AND_XOR: u32 = 0;
    let part = |kind| find(data, kind).and_then(number);
    if part(6).unwrap_or(MASK_AND_XOR) != MASK_AND_XOR {
        return None;
    }
    let mask = value(find(data, 4)?)?;
    let xor = value(find(data, 5)?)?;
    Some(RuleStep::Bitwise { from: part(1)?, to: part(2)?, mask, xor })
}

fn compare(data: &[u8]) -> Option<RuleStep> {
    let how = match find(data, 2).and_then(number)? {
        0 => Comparison::Equal,
        1 => Comparison::Unequal,
        2 => Comparison::Less,
        3 => Comparison::LessOrEqual,
        4 => Comparison::Greater,
        5 => Comparison::GreaterOrEqual,
        _ => return None,
    };
    Some(RuleStep::Compare { register: find(data, 1).and_then(number)?, how, with: value(find(data, 3)?)? })
}

/// The bytes in an attribute of data.
fn value(data: &[u8]) -> Option<Vec<u8>> {
    find(data, 1).map(<[u8]>::to_vec)
}

fn immediate(data: &[u8]) -> Option<RuleStep> {
    /// A verdict, rather than a value for a register.
    const VERDICT: u16 = 2;
    let inner = find(data, 2)?;
    let Some(verdict) = find(inner, VERDICT) else {
        return Some(RuleStep::Immediate { register: find(data, 1).and_then(number)?, value: value(inner)? });
    };
    let chain = || find(verdict, 2).map(text);
    Some(RuleStep::Verdict(match find(verdict, 1).and_then(number)?.cast_signed() {
        0 => RuleVerdict::Drop,
        1 => RuleVerdict::Accept,
        -1 => RuleVerdict::Continue,
        -3 => RuleVerdict::Jump(chain()?),
        -4 => RuleVerdict::Goto(chain()?),
        -5 => RuleVerdict::Return,
        _ => return None,
    }))
}

fn destination_type(data: &[u8]) -> Option<RuleStep> {
    const ADDRESS_TYPE: u32 = 3;
    const DESTINATION: u32 = 2;
    let part = |kind| find(data, kind).and_then(number);
    let asked = part(2)? == ADDRESS_TYPE && part(3)? == DESTINATION;
    asked.then_some(RuleStep::DestinationType { register: part(1)? })
}

fn family(number: u32) -> Option<Family> {
    match number {
        2 => Some(Family::Ipv4),
        10 => Some(Family::Ipv6),
        _ => None,
    }
}

fn translation(data: &[u8]) -> Option<RuleStep> {
    /// `NF_NAT_RANGE_MAP_IPS` and `NF_NAT_RANGE_PROTO_SPECIFIED` say what the registers say.
    const PLAIN: u32 = 3;
    let part = |kind| find(data, kind).and_then(number);
    if part(7).unwrap_or_default() & !PLAIN != 0 {
        return None;
    }
    // Of a range of addresses or ports one is chosen.
    let one = |least, most| match (part(least), part(most)) {
        (least, most) if most.is_some() && most != least => None,
        (least, _) => Some(least),
    };
    let destination = part(1)? == 1;
    Some(RuleStep::Nat(NatStep { destination, family: family(part(2)?)?, address: one(3, 4)?, port: one(5, 6)? }))
}

fn redirect(data: &[u8]) -> Option<RuleStep> {
    /// `NF_NAT_RANGE_PROTO_SPECIFIED`.
    const PORT: u32 = 2;
    let part = |kind| find(data, kind).and_then(number);
    let plain = part(3).unwrap_or_default() & !PORT == 0 && (part(2).is_none() || part(1) == part(2));
    plain.then_some(RuleStep::Redirect { port: part(1) })
}

fn transparent_proxy(data: &[u8]) -> RuleStep {
    let part = |kind| find(data, kind).and_then(number);
    let family = part(1).and_then(family);
    RuleStep::TransparentProxy { family, address: part(2), port: part(3) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = u16::try_from(4 + value.len()).unwrap().to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn expression(name: &str, parts: &[Vec<u8>]) -> Vec<u8> {
        let named = [attribute(1, name.as_bytes()), attribute(2, &parts.concat())].concat();
        attribute(1, &named)
    }

    /// `meta l4proto icmp drop`, and something that nobody knows.
    fn message() -> Vec<u8> {
        let be = |number: u32| number.to_be_bytes();
        let verdict = attribute(2, &attribute(1, &be(0)));
        let steps = [
            expression("meta", &[attribute(1, &be(1)), attribute(2, &be(16))]),
            expression("cmp", &[attribute(1, &be(1)), attribute(2, &be(0)), attribute(3, &attribute(1, &[1]))]),
            expression("immediate", &[attribute(1, &be(0)), attribute(2, &verdict)]),
            expression("quota", &[]),
        ];
        let body = [
            attribute(1, b"fw\0"),
            attribute(2, b"forward\0"),
            attribute(3, &7_u64.to_be_bytes()),
            attribute(4, &steps.concat()),
        ];
        [vec![1, 0, 0, 0], body.concat()].concat()
    }

    #[test]
    fn a_rule_is_read_step_by_step() {
        let (family, table, chain, rule) = rule(&message()).unwrap();
        assert_eq!((family.as_str(), table.as_str(), chain.as_str(), rule.handle), ("inet", "fw", "forward", 7));
        assert_eq!(
            rule.steps,
            [
                RuleStep::Load { register: 1, what: Loaded::Layer4Protocol },
                RuleStep::Compare { register: 1, how: Comparison::Equal, with: vec![1] },
                RuleStep::Verdict(RuleVerdict::Drop),
                RuleStep::Unknown("quota".to_owned()),
            ]
        );
    }

    #[test]
    fn a_cut_message_is_no_panic() {
        let whole = message();
        for length in 0..whole.len() {
            rule(&whole[..length]);
            chain(&whole[..length]);
        }
    }
}
