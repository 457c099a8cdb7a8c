//! The firewall of a namespace, read over `NETLINK_NETFILTER`: chains, rules and sets, down to the kernel's
//! own instructions. What is not understood keeps its name, so that whoever follows a packet knows
//! where to stop.

use hopyard_net::{
    BaseChain, Chain, Comparison, Element, ElementValue, Family, Hook, Loaded, NatStep, PortChoice, Rule, RuleStep,
    RuleVerdict, Ruleset, Set, Stored,
};
use netlink_packet_core::NlasIterator;

use super::encode::{set_request, table_request};
use super::{
    HEADER_BYTES, NFT_MSG_GETCHAIN, NFT_MSG_GETRULE, NFT_MSG_GETSET, NFT_MSG_GETSETELEM, NFT_MSG_GETTABLE,
    NFT_MSG_NEWCHAIN, NFT_MSG_NEWRULE, NFT_MSG_NEWSET, NFT_MSG_NEWSETELEM, TableName, family_name, names, trace, xt,
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
    dump(socket, NFT_MSG_GETCHAIN, ANY, inbox, &mut |found| match found {
        None => rules.chains.clear(),
        Some((NFT_MSG_NEWCHAIN, payload)) => rules.chains.extend(chain(payload)),
        Some(_) => {}
    })?;
    trace::leave_out(&mut rules.chains, socket, inbox)?;
    if rules.chains.is_empty() {
        return Ok(rules);
    }
    dump(socket, NFT_MSG_GETRULE, ANY, inbox, &mut |found| match found {
        None => rules.chains.iter_mut().for_each(|chain| chain.rules.clear()),
        Some((NFT_MSG_NEWRULE, payload)) => add_rule(&mut rules, payload),
        Some(_) => {}
    })?;
    read_sets(socket, &mut rules, inbox)?;
    Ok(rules)
}

/// The sets that rules ask. Where none does, nothing is read.
fn read_sets(socket: &RtSocket, rules: &mut Ruleset, inbox: &mut Inbox) -> Result<(), Refusal> {
    let steps = rules.chains.iter().flat_map(|chain| chain.rules.iter().map(move |rule| (chain, rule)));
    let asks = |step: &RuleStep| matches!(step, RuleStep::Lookup { .. });
    let asked: std::collections::BTreeSet<(String, String, String)> = steps
        .flat_map(|(chain, rule)| rule.steps.iter().filter(|step| asks(step)).map(move |step| (chain, step)))
        .filter_map(|(chain, step)| match step {
            RuleStep::Lookup { set, .. } => Some((chain.family.clone(), chain.table.clone(), set.clone())),
            _ => None,
        })
        .collect();
    if asked.is_empty() {
        return Ok(());
    }
    let mut sets = Vec::new();
    dump(socket, NFT_MSG_GETSET, ANY, inbox, &mut |found| match found {
        None => sets.clear(),
        Some((NFT_MSG_NEWSET, payload)) => sets.extend(set(payload)),
        Some(_) => {}
    })?;
    sets.retain(|set| asked.contains(&(set.family.clone(), set.table.clone(), set.name.clone())));
    for set in &mut sets {
        let request = set_request(&set.family, &set.table, &set.name);
        let read = dump(socket, NFT_MSG_GETSETELEM, &request, inbox, &mut |found| match found {
            None => set.elements.clear(),
            Some((NFT_MSG_NEWSETELEM, payload)) => add_elements(set, payload),
            Some(_) => {}
        });
        match read {
            // It has gone with its rule since.
            Err(refusal) if refusal.errno == Errno::NOENT => {}
            other => other?,
        }
    }
    rules.sets = sets;
    Ok(())
}

/// What the messages of a kernel say of its firewall: one behind the other, as a socket gives them. What is
/// broken is passed over.
pub fn ruleset_of_messages(bytes: &[u8]) -> Ruleset {
    let mut rules = Ruleset::default();
    for answer in Answers(bytes) {
        match answer.kind {
            NFT_MSG_NEWCHAIN => rules.chains.extend(chain(answer.payload)),
            NFT_MSG_NEWRULE => add_rule(&mut rules, answer.payload),
            NFT_MSG_NEWSET => rules.sets.extend(set(answer.payload)),
            NFT_MSG_NEWSETELEM => {
                if let Some((family, table, name)) = set_of_elements(answer.payload)
                    && let Some(set) =
                        rules.sets.iter_mut().find(|it| it.family == family && it.table == table && it.name == name)
                {
                    add_elements(set, answer.payload);
                }
            }
            _ => {}
        }
    }
    rules
}

fn add_rule(rules: &mut Ruleset, payload: &[u8]) {
    if let Some((family, table, name, rule)) = rule(payload)
        && let Some(chain) =
            rules.chains.iter_mut().find(|it| it.family == family && it.table == table && it.name == name)
    {
        chain.rules.push(rule);
    }
}

/// A message of a list, its kind and what is in it; `None`: the list begins, or begins again.
pub(super) type Found<'a> = Option<(u16, &'a [u8])>;

/// The body of a request for all that there is.
pub(super) const ANY: &[u8] = &[0; HEADER_BYTES];

/// Asks for a list.
pub(super) fn dump(
    socket: &RtSocket,
    kind: u16,
    body: &[u8],
    inbox: &mut Inbox,
    on: &mut dyn FnMut(Found<'_>),
) -> Result<(), Refusal> {
    let mut batch = Batch::default();
    batch.push_bytes(1, kind, DUMP, body);
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
        let devices = devices(hook);
        Some(BaseChain { hook: hook_of(&family, find(hook, 1).and_then(number)?)?, priority, drops, kind, devices })
    });
    Some(Chain { table: text(find(body, TABLE)?), name: text(find(body, NAME)?), family, base, rules: Vec::new() })
}

/// The interfaces of a chain: one, or a list, in which a name may stand for all that begin so.
fn devices(hook: &[u8]) -> Vec<String> {
    const ONE: u16 = 3;
    const LIST: u16 = 4;
    const NAME: u16 = 1;
    const START: u16 = 2;
    let named = |(kind, value): (u16, &[u8])| match kind {
        NAME => Some(text(value)),
        START => Some(format!("{}*", text(value))),
        _ => None,
    };
    match find(hook, LIST) {
        Some(list) => attributes(list).filter_map(named).collect(),
        None => find(hook, ONE).map(text).into_iter().collect(),
    }
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

/// A set, without its elements.
fn set(payload: &[u8]) -> Option<Set> {
    const TABLE: u16 = 1;
    const NAME: u16 = 2;
    const FLAGS: u16 = 3;
    const KEY_TYPE: u16 = 4;
    const KEY_LENGTH: u16 = 5;
    const DATA_LENGTH: u16 = 7;
    const DESCRIPTION: u16 = 9;
    const PARTS: u16 = 2;
    const ELEMENT: u16 = 1;
    const LENGTH: u16 = 1;
    /// `NFT_SET_ANONYMOUS`, `_INTERVAL`, `_EVAL`.
    const ANONYMOUS: u32 = 1;
    const INTERVAL: u32 = 4;
    const EVAL: u32 = 0x20;
    let body = payload.get(HEADER_BYTES..)?;
    let flags = find(body, FLAGS).and_then(number).unwrap_or_default();
    let parts = find(body, DESCRIPTION).and_then(|it| find(it, PARTS)).unwrap_or_default();
    let parts = attributes(parts).filter(|(kind, _)| *kind == ELEMENT).filter_map(|(_, it)| number(find(it, LENGTH)?));
    let mut parts: Vec<u32> = parts.collect();
    if parts.is_empty() {
        // Of keys that are compared as a whole the kernel does not keep the parts. nft(8) puts them into the type.
        let length = find(body, KEY_LENGTH).and_then(number)?;
        let key_type = find(body, KEY_TYPE).and_then(number).unwrap_or_default();
        parts = names::parts_of(key_type, length).unwrap_or_else(|| vec![length]);
    }
    Some(Set {
        family: family_name(*payload.first()?),
        table: text(find(body, TABLE)?),
        name: text(find(body, NAME)?),
        anonymous: flags & ANONYMOUS != 0,
        intervals: flags & INTERVAL != 0,
        dynamic: flags & EVAL != 0,
        parts,
        value_bytes: find(body, DATA_LENGTH).and_then(number).unwrap_or_default(),
        elements: Vec::new(),
    })
}

/// Family, table and name of the set of a message of elements.
fn set_of_elements(payload: &[u8]) -> Option<(String, String, String)> {
    let body = payload.get(HEADER_BYTES..)?;
    Some((family_name(*payload.first()?), text(find(body, 1)?), text(find(body, 2)?)))
}

fn add_elements(set: &mut Set, payload: &[u8]) {
    const ELEMENTS: u16 = 3;
    const ELEMENT: u16 = 1;
    let list = payload.get(HEADER_BYTES..).and_then(|body| find(body, ELEMENTS)).unwrap_or_default();
    let all = attributes(list).filter(|(kind, _)| *kind == ELEMENT);
    set.elements.extend(all.map(|(_, bytes)| element(bytes)));
}

fn element(bytes: &[u8]) -> Element {
    const KEY: u16 = 1;
    const DATA: u16 = 2;
    const FLAGS: u16 = 3;
    const EXPIRATION: u16 = 5;
    const EXPRESSION: u16 = 7;
    const OBJECT: u16 = 9;
    const KEY_END: u16 = 10;
    const EXPRESSIONS: u16 = 11;
    /// `NFT_SET_ELEM_INTERVAL_END`, `NFT_SET_ELEM_CATCHALL`.
    const ENDS: u32 = 1;
    const CATCHALL: u32 = 2;
    let flags = find(bytes, FLAGS).and_then(number).unwrap_or_default();
    let data = find(bytes, DATA).map(|data| {
        let found = match find(data, VERDICT) {
            Some(code) => verdict(code).map(ElementValue::Verdict),
            None => value(data).map(ElementValue::Bytes),
        };
        found.unwrap_or_else(|| ElementValue::Unknown("a verdict".to_owned()))
    });
    let object = || find(bytes, OBJECT).map(|name| ElementValue::Unknown(text(name)));
    let expressions = find(bytes, EXPRESSION).into_iter().chain(
        find(bytes, EXPRESSIONS).into_iter().flat_map(attributes).filter(|(kind, _)| *kind == 1).map(|(_, it)| it),
    );
    Element {
        key: find(bytes, KEY).and_then(value).filter(|_| flags & CATCHALL == 0),
        last: find(bytes, KEY_END).and_then(value),
        ends: flags & ENDS != 0,
        value: data.or_else(object),
        expires_ms: find(bytes, EXPIRATION).and_then(|it| it.first_chunk().copied().map(u64::from_be_bytes)),
        depends_on: expressions.filter_map(|it| find(it, 1).map(text)).find(|name| depends(name)),
    }
}

/// Does an instruction go on or not, depending on what has passed before?
fn depends(name: &str) -> bool {
    matches!(name, "limit" | "quota" | "connlimit")
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
    let mut steps = Vec::new();
    for (_, element) in attributes(expressions).filter(|(kind, _)| *kind == ELEMENT) {
        add_step(element, &family, &mut steps);
    }
    Some((family, text(find(body, TABLE)?), text(find(body, CHAIN)?), Rule { handle, steps }))
}

fn add_step(element: &[u8], family: &str, steps: &mut Vec<RuleStep>) {
    const NAME: u16 = 1;
    const DATA: u16 = 2;
    let name = find(element, NAME).map(text).unwrap_or_default();
    let data = find(element, DATA).unwrap_or_default();
    // iptables(8): one extension may be several steps.
    match name.as_str() {
        "match" => return steps.extend(xt::of_match(data, family)),
        "target" => return steps.extend(xt::of_target(data, family)),
        _ => {}
    }
    let read = match name.as_str() {
        "meta" => meta(data),
        "ct" => connection(data),
        "payload" => payload(data),
        "bitwise" => bitwise(data),
        "byteorder" => byte_order(data),
        "cmp" => compare(data),
        "range" => range(data),
        "lookup" => lookup(data),
        "dynset" => Some(dynamic(data)),
        "immediate" => immediate(data),
        "fib" => fib(data),
        "exthdr" => extension(data),
        "rt" | "socket" | "osf" | "xfrm" | "tunnel" | "numgen" => load_other(data, 1, &name),
        "hash" => load_other(data, 2, &name),
        "nat" => translation(data),
        "masq" => masquerade(data),
        "redir" => redirect(data),
        "tproxy" => Some(transparent_proxy(data)),
        "reject" => Some(reject(data)),
        "notrack" => Some(RuleStep::NoTrack),
        "objref" => object(data),
        "counter" => Some(RuleStep::Counter),
        "log" | "last" => Some(RuleStep::Pass),
        name if depends(name) => Some(RuleStep::Depends(name.to_owned())),
        _ => None,
    };
    // As nft(8) calls it.
    let word = match name.as_str() {
        "masq" => "masquerade".to_owned(),
        "redir" => "redirect".to_owned(),
        "nat" => "a translation".to_owned(),
        _ => name,
    };
    steps.push(read.unwrap_or(RuleStep::Unknown(word)));
}

/// What is loaded cannot be known.
fn load_other(data: &[u8], register: u16, name: &str) -> Option<RuleStep> {
    Some(RuleStep::Load { register: find(data, register).and_then(number)?, what: Loaded::Other(name.to_owned()) })
}

fn meta(data: &[u8]) -> Option<RuleStep> {
    const REGISTER: u16 = 1;
    const KEY: u16 = 2;
    const FROM: u16 = 3;
    let key = find(data, KEY).and_then(number)?;
    if let Some(register) = find(data, FROM).and_then(number) {
        let what = match key {
            3 => Stored::Mark,
            key => Stored::Other(names::meta(key)?.to_owned()),
        };
        return Some(RuleStep::Store { register, what });
    }
    let what = match key {
        0 => Loaded::Length,
        1 => Loaded::EtherType,
        3 => Loaded::Mark,
        4 => Loaded::InputIndex,
        5 => Loaded::OutputIndex,
        6 => Loaded::InputName,
        7 => Loaded::OutputName,
        8 => Loaded::InputType,
        9 => Loaded::OutputType,
        15 => Loaded::NetworkFamily,
        16 => Loaded::Layer4Protocol,
        17 => Loaded::BridgeInputName,
        18 => Loaded::BridgeOutputName,
        19 => Loaded::PacketType,
        26 => Loaded::InputKind,
        27 => Loaded::OutputKind,
        key => Loaded::Other(names::meta(key)?.to_owned()),
    };
    Some(RuleStep::Load { register: find(data, REGISTER).and_then(number)?, what })
}

fn connection(data: &[u8]) -> Option<RuleStep> {
    const REGISTER: u16 = 1;
    const KEY: u16 = 2;
    const DIRECTION: u16 = 3;
    const FROM: u16 = 4;
    let key = find(data, KEY).and_then(number)?;
    if let Some(register) = find(data, FROM).and_then(number) {
        let what = match key {
            3 => Stored::ConnectionMark,
            key => Stored::Other(names::connection(key, None)?),
        };
        return Some(RuleStep::Store { register, what });
    }
    let what = match key {
        0 => Loaded::ConnectionState,
        1 => Loaded::ConnectionDirection,
        2 => Loaded::ConnectionStatus,
        3 => Loaded::ConnectionMark,
        key => Loaded::Other(names::connection(key, find(data, DIRECTION).and_then(|it| it.first().copied()))?),
    };
    Some(RuleStep::Load { register: find(data, REGISTER).and_then(number)?, what })
}

fn payload(data: &[u8]) -> Option<RuleStep> {
    const NETWORK: u32 = 1;
    /// The first two bytes of either IP: version, length or class, and nothing that a way depends on.
    const CLASS_BYTES: u32 = 2;
    let part = |kind| find(data, kind).and_then(number);
    let (base, offset, length) = (part(2)?, part(3)?, part(4)?);
    if let Some(register) = part(5) {
        let class = base == NETWORK && offset.checked_add(length)? <= CLASS_BYTES;
        return class.then(|| RuleStep::Store { register, what: Stored::Other("ip dscp".to_owned()) });
    }
    Some(RuleStep::Payload { register: part(1)?, base, offset, length })
}

fn bitwise(data: &[u8]) -> Option<RuleStep> {
    const MASK_AND_XOR: u32 = 0;
    let part = |kind| find(data, kind).and_then(number);
    if part(6).unwrap_or(MASK_AND_XOR) != MASK_AND_XOR {
        return load_other(data, 2, "bitwise");
    }
    let mask = value(find(data, 4)?)?;
    let xor = value(find(data, 5)?)?;
    Some(RuleStep::Bitwise { from: part(1)?, to: part(2)?, mask, xor })
}

/// To the network's order or to the machine's is the same.
fn byte_order(data: &[u8]) -> Option<RuleStep> {
    let part = |kind| find(data, kind).and_then(number);
    Some(RuleStep::ByteOrder { from: part(1)?, to: part(2)?, length: part(4)?, size: part(5)? })
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

fn range(data: &[u8]) -> Option<RuleStep> {
    let inverted = match find(data, 2).and_then(number)? {
        0 => false,
        1 => true,
        _ => return None,
    };
    let ranges = vec![(value(find(data, 3)?)?, value(find(data, 4)?)?)];
    Some(RuleStep::Range { register: find(data, 1).and_then(number)?, ranges, inverted })
}

fn lookup(data: &[u8]) -> Option<RuleStep> {
    /// `NFT_LOOKUP_F_INV`.
    const INVERTED: u32 = 1;
    let part = |kind| find(data, kind).and_then(number);
    Some(RuleStep::Lookup {
        register: part(2)?,
        set: text(find(data, 1)?),
        inverted: part(5).unwrap_or_default() & INVERTED != 0,
        to: part(3),
    })
}

/// Adds an element to a set, which by itself decides nothing.
fn dynamic(data: &[u8]) -> RuleStep {
    const SET: u16 = 1;
    const EXPRESSION: u16 = 7;
    const EXPRESSIONS: u16 = 10;
    let set = find(data, SET).map(text).unwrap_or_default();
    let list = find(data, EXPRESSIONS).into_iter().flat_map(attributes).filter(|(kind, _)| *kind == 1);
    let mut inner = find(data, EXPRESSION).into_iter().chain(list.map(|(_, it)| it));
    match inner.find_map(|it| find(it, 1).map(text).filter(|name| depends(name))) {
        Some(name) => RuleStep::Depends(format!("{name} of @{set}")),
        None => RuleStep::Pass,
    }
}

/// An object with a name. One that a map names is found where the packet is.
fn object(data: &[u8]) -> Option<RuleStep> {
    const KIND: u16 = 1;
    match find(data, KIND).and_then(number) {
        // Counters, helpers, timeouts, expectations, security marks.
        Some(1 | 3 | 7..=9) => Some(RuleStep::Pass),
        Some(2) => Some(RuleStep::Depends("quota".to_owned())),
        Some(4) => Some(RuleStep::Depends("limit".to_owned())),
        Some(5) => Some(RuleStep::Depends("connlimit".to_owned())),
        _ => None,
    }
}

/// The bytes in an attribute of data.
fn value(data: &[u8]) -> Option<Vec<u8>> {
    find(data, 1).map(<[u8]>::to_vec)
}

/// In data: a verdict, rather than a value for a register.
const VERDICT: u16 = 2;

fn immediate(data: &[u8]) -> Option<RuleStep> {
    let inner = find(data, 2)?;
    let Some(code) = find(inner, VERDICT) else {
        return Some(RuleStep::Immediate { register: find(data, 1).and_then(number)?, value: value(inner)? });
    };
    verdict(code).map(RuleStep::Verdict)
}

fn verdict(code: &[u8]) -> Option<RuleVerdict> {
    let chain = || find(code, 2).map(text);
    Some(match find(code, 1).and_then(number)?.cast_signed() {
        0 => RuleVerdict::Drop,
        1 => RuleVerdict::Accept,
        -1 => RuleVerdict::Continue,
        -3 => RuleVerdict::Jump(chain()?),
        -4 => RuleVerdict::Goto(chain()?),
        -5 => RuleVerdict::Return,
        _ => return None,
    })
}

fn fib(data: &[u8]) -> Option<RuleStep> {
    const INTERFACE: u32 = 1;
    const ADDRESS_TYPE: u32 = 3;
    // `NFTA_FIB_F_*`.
    const SOURCE: u32 = 1;
    const DESTINATION: u32 = 2;
    const MARK: u32 = 4;
    const INPUT: u32 = 8;
    const PRESENT: u32 = 32;
    let part = |kind| find(data, kind).and_then(number);
    let (register, flags) = (part(1)?, part(3)?);
    Some(match (part(2)?, flags & !MARK) {
        (ADDRESS_TYPE, DESTINATION) => RuleStep::DestinationType { register },
        (ADDRESS_TYPE, SOURCE) => RuleStep::SourceType { register },
        (INTERFACE, rest) if rest & !INPUT == SOURCE | PRESENT => {
            RuleStep::WayBack { register, by_input: rest & INPUT != 0 }
        }
        _ => RuleStep::Load { register, what: Loaded::Other("fib".to_owned()) },
    })
}

/// Options and extension headers.
fn extension(data: &[u8]) -> Option<RuleStep> {
    const REGISTER: u16 = 1;
    const FLAGS: u16 = 5;
    const OP: u16 = 6;
    const FROM: u16 = 7;
    const IPV6: u32 = 0;
    const TCP_OPTION: u32 = 1;
    const IPV4_OPTION: u32 = 2;
    const SCTP: u32 = 3;
    const DCCP: u32 = 4;
    const PRESENT: u32 = 1;
    let part = |kind| find(data, kind).and_then(number);
    let name = match part(OP).unwrap_or(IPV6) {
        IPV6 => "exthdr",
        TCP_OPTION => "tcp option",
        IPV4_OPTION => "ip option",
        SCTP => "sctp chunk",
        DCCP => "dccp option",
        _ => return None,
    };
    let name = name.to_owned();
    if let Some(register) = part(FROM) {
        return Some(RuleStep::Store { register, what: Stored::Other(name) });
    }
    let what = match part(OP).unwrap_or(IPV6) {
        TCP_OPTION => Loaded::Other(name),
        _ => Loaded::Extension { name, asked: part(FLAGS).unwrap_or_default() & PRESENT != 0 },
    };
    Some(RuleStep::Load { register: part(REGISTER)?, what })
}

/// Which error, as nft(8) names it; it leaves out that for a port where nobody listens.
fn reject(data: &[u8]) -> RuleStep {
    const ICMP: u32 = 0;
    const TCP_RESET: u32 = 1;
    let (kind, code) = (find(data, 1).and_then(number), find(data, 2).and_then(|it| it.first().copied()));
    let with = match (kind, code) {
        (Some(ICMP), Some(code)) => names::unreachable(code).map(|name| format!("icmp {name}")),
        (Some(2), Some(code)) => ["no-route", "", "host-unreachable", "admin-prohibited"]
            .get(usize::from(code))
            .map(|name| format!("icmpx {name}")),
        _ => None,
    };
    let with = with.filter(|with| !with.ends_with(' '));
    RuleStep::Reject { reset: kind == Some(TCP_RESET), with }
}

fn family(number: u32) -> Option<Family> {
    match number {
        2 => Some(Family::Ipv4),
        10 => Some(Family::Ipv6),
        _ => None,
    }
}

/// `NF_NAT_RANGE_MAP_IPS` and `NF_NAT_RANGE_PROTO_SPECIFIED`: they say what the registers say.
const SPECIFIED: u32 = 3;

/// The flags of a translation beside these. `None`: one is not understood.
pub(super) fn choice_flags(flags: u32) -> Option<u32> {
    const KNOWN: u32 = PortChoice::RANDOM | PortChoice::FULLY_RANDOM | PortChoice::PERSISTENT;
    let flags = flags & !SPECIFIED;
    (flags & !KNOWN == 0).then_some(flags)
}

/// The first port, and how one of several is chosen, by the kinds of the attributes.
fn ports(data: &[u8], [first, last, flags]: [u16; 3]) -> Option<(Option<u32>, PortChoice)> {
    let part = |kind| find(data, kind).and_then(number);
    let flags = choice_flags(part(flags).unwrap_or_default())?;
    let first = part(first);
    let last = part(last).filter(|last| Some(*last) != first);
    Some((first, PortChoice { last, flags }))
}

fn translation(data: &[u8]) -> Option<RuleStep> {
    let part = |kind| find(data, kind).and_then(number);
    let destination = part(1)? == 1;
    let (port, choice) = ports(data, [5, 6, 7])?;
    // Of a range of addresses one is chosen.
    let address = part(3);
    if part(4).is_some_and(|last| Some(last) != address) {
        return Some(RuleStep::Unknown(if destination { "dnat" } else { "snat" }.to_owned()));
    }
    Some(RuleStep::Nat(NatStep { destination, family: family(part(2)?)?, address, port, choice }))
}

fn masquerade(data: &[u8]) -> Option<RuleStep> {
    let (port, choice) = ports(data, [2, 3, 1])?;
    let is_plain = port.is_none() && choice.is_plain();
    Some(if is_plain { RuleStep::Masquerade } else { RuleStep::MasqueradePorts { port, choice } })
}

fn redirect(data: &[u8]) -> Option<RuleStep> {
    let (port, choice) = ports(data, [1, 2, 3])?;
    Some(RuleStep::Redirect { port, choice })
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
            expression("nonsense", &[]),
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
                RuleStep::Depends("quota".to_owned()),
                RuleStep::Unknown("nonsense".to_owned()),
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
