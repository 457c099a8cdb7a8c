//! A rule as nft(8) lists it, as far as what is kept of it goes: remarks, counts and the words of a log entry are not.

mod values;

use std::fmt::Write as _;

use super::{
    Chain, Comparison, Element, ElementValue, Loaded, NatStep, PortChoice, Rule, RuleStep, RuleVerdict, Ruleset, Set,
    Stored,
};
use crate::{Family, NodeState};
use values::{Kind, Links};

impl Ruleset {
    /// A rule as `nft list ruleset` shows it, with the elements of sets that stand in it.
    pub fn text_of(&self, chain: &Chain, rule: &Rule) -> String {
        self.text(chain, rule, None)
    }

    /// The same of a node's rule: it has the names of its interfaces.
    pub fn text_in(&self, node: &NodeState, chain: &Chain, rule: &Rule) -> String {
        self.text(chain, rule, Some(&node.links))
    }

    fn text(&self, chain: &Chain, rule: &Rule, links: Links<'_>) -> String {
        let mut writer =
            Writer { rules: self, links, chain, parts: Vec::new(), loaded: Vec::new(), ip: None, above: None };
        writer.ip = match chain.family.as_str() {
            "ip" => Some(Family::Ipv4),
            "ip6" => Some(Family::Ipv6),
            _ => None,
        };
        for (at, step) in rule.steps.iter().enumerate() {
            match step {
                RuleStep::Lookup { register, set, inverted, to } => {
                    // What a map gives is what the next step takes it for.
                    let values = rule.steps.get(at + 1).map_or_else(Vec::new, values::taken);
                    writer.lookup(*register, set, *inverted, *to, &values);
                }
                step => writer.step(step),
            }
        }
        let parts = writer.parts.into_iter().map(|part| part.text).filter(|text| !text.is_empty());
        parts.collect::<Vec<_>>().join(" ")
    }
}

/// What a register has.
#[derive(Clone)]
struct Value<'r> {
    /// As nft(8) names it; of a constant, nothing.
    name: String,
    kind: Kind<'r>,
    /// Of what was masked: the bits that stay.
    mask: Option<Vec<u8>>,
    /// Of a constant, its bytes.
    constant: Option<Vec<u8>>,
    /// Of neighbouring fields that nft(8) asks for at once: each with its length.
    fields: Vec<(&'static str, Kind<'static>, usize)>,
}

/// A part of the text.
struct Part {
    text: String,
    /// It says what a later part says by its name, which then stands alone.
    implied_by: Option<Layer>,
    /// Of a comparison with a least value: the register and the value, as a greatest may follow.
    least: Option<(u32, Vec<u8>)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Layer {
    Link,
    Network,
    Transport,
}

struct Writer<'r> {
    rules: &'r Ruleset,
    links: Links<'r>,
    chain: &'r Chain,
    parts: Vec<Part>,
    loaded: Vec<(u32, Value<'r>)>,
    /// Which IP it is about, if that is known; and the protocol above.
    ip: Option<Family>,
    above: Option<u8>,
}

impl<'r> Writer<'r> {
    fn say(&mut self, text: impl Into<String>) {
        self.parts.push(Part { text: text.into(), implied_by: None, least: None });
    }

    fn put(&mut self, register: u32, name: impl Into<String>, kind: Kind<'r>) {
        self.put_value(register, Value { name: name.into(), kind, mask: None, constant: None, fields: Vec::new() });
    }

    fn put_value(&mut self, register: u32, value: Value<'r>) {
        let register = first_of(register);
        self.loaded.retain(|(other, _)| *other != register);
        self.loaded.push((register, value));
    }

    fn get(&self, register: u32) -> Option<&Value<'r>> {
        self.loaded.iter().find(|(other, _)| *other == first_of(register)).map(|(_, value)| value)
    }

    /// What was said that is now said by a name.
    fn implied(&mut self, layer: Layer) {
        self.parts.retain(|part| part.implied_by != Some(layer));
    }

    fn step(&mut self, step: &RuleStep) {
        match step {
            RuleStep::Load { register, what } => {
                let (name, kind) = values::loaded(what, self.links);
                self.put(*register, name, kind);
            }
            RuleStep::Payload { register, base, offset, length } => self.payload(*register, *base, *offset, *length),
            RuleStep::Bitwise { from, to, mask, xor } => {
                let Some(value) = self.get(*from).cloned() else { return };
                // A constant is put in: the bits beside the mask.
                let sets = xor.iter().any(|byte| *byte != 0);
                let name = if sets {
                    format!("{} & {} ^ {}", value.name, value.kind.text(mask), value.kind.text(xor))
                } else {
                    value.name.clone()
                };
                self.put_value(*to, Value { name, mask: (!sets).then(|| mask.clone()), ..value });
            }
            RuleStep::ByteOrder { from, to, .. } => {
                let Some(value) = self.get(*from).cloned() else { return };
                let kind = value.kind.turned();
                self.put_value(*to, Value { kind, ..value });
            }
            RuleStep::Compare { register, how, with } => self.compare(*register, *how, with),
            RuleStep::Range { register, ranges, inverted } => self.range(*register, ranges, *inverted),
            RuleStep::Lookup { register, set, inverted, to } => self.lookup(*register, set, *inverted, *to, &[]),
            RuleStep::Immediate { register, value } => {
                let constant = Some(value.clone());
                let fields = Vec::new();
                self.put_value(
                    *register,
                    Value { name: String::new(), kind: Kind::Bytes, mask: None, constant, fields },
                );
            }
            RuleStep::DestinationType { register } => self.put(*register, "fib daddr type", Kind::AddressType),
            RuleStep::SourceType { register } => self.put(*register, "fib saddr type", Kind::AddressType),
            RuleStep::WayBack { register, by_input } => {
                let name = if *by_input { "fib saddr . iif oif" } else { "fib saddr oif" };
                self.put(*register, name, Kind::Presence);
            }
            RuleStep::Counter => self.say("counter"),
            RuleStep::Pass => {}
            RuleStep::NoTrack => self.say("notrack"),
            RuleStep::Store { register, what } => {
                let (name, kind) = match what {
                    Stored::Mark => ("meta mark", Kind::Mark),
                    Stored::ConnectionMark => ("ct mark", Kind::Mark),
                    Stored::Other(name) => (name.as_str(), Kind::Bytes),
                };
                let value = self.value_text(*register, kind);
                self.say(format!("{name} set {value}"));
            }
            RuleStep::Nat(nat) => self.translation(nat),
            RuleStep::Masquerade => self.say("masquerade"),
            RuleStep::MasqueradePorts { port, choice } => self.sent_to("masquerade", *port, choice),
            RuleStep::Redirect { port, choice } => self.sent_to("redirect", *port, choice),
            RuleStep::TransparentProxy { .. } => self.say("tproxy"),
            RuleStep::Reject { reset: true, .. } => {
                // In a table of one IP it goes without saying.
                if matches!(self.chain.family.as_str(), "ip" | "ip6") {
                    self.implied(Layer::Transport);
                }
                self.say("reject with tcp reset");
            }
            RuleStep::Reject { with: Some(with), .. } => self.say(format!("reject with {with}")),
            RuleStep::Reject { with: None, .. } => self.say("reject"),
            RuleStep::Verdict(verdict) => self.say(verdict_text(verdict)),
            RuleStep::Depends(name) | RuleStep::Unknown(name) => self.say(format!("{name} ...")),
        }
    }

    fn payload(&mut self, register: u32, base: u32, offset: u32, length: u32) {
        if let Some((name, kind)) = self.field(base, offset, length) {
            // Which of its halves it is about, the mask says.
            if !matches!(kind, Kind::FirstByte(_)) {
                self.said_by_a_field(name);
            }
            return self.put(register, name, kind);
        }
        let fields = self.fields(base, offset, length).unwrap_or_default();
        let base = ["@ll", "@nh", "@th"].get(base as usize).unwrap_or(&"@ih");
        let name = format!("{base},{},{}", u64::from(offset) * 8, u64::from(length) * 8);
        self.put_value(register, Value { name, kind: Kind::Bytes, mask: None, constant: None, fields });
    }

    fn field(&self, base: u32, offset: u32, length: u32) -> Option<(&'static str, Kind<'static>)> {
        match base {
            0 => values::ethernet(offset, length),
            1 => values::network(self.ip, self.chain.family == "arp", offset, length),
            _ => values::transport(self.above, offset, length),
        }
    }

    /// The fields that bytes are, each as long as it can be; `None`: they are not whole fields.
    fn fields(&self, base: u32, offset: u32, length: u32) -> Option<Vec<(&'static str, Kind<'static>, usize)>> {
        let end = offset.checked_add(length)?;
        let (mut at, mut found) = (offset, Vec::new());
        while at < end {
            // No field is longer than an address of IPv6.
            let longest = (1..=(end - at).min(16)).rev();
            let (field, length) =
                longest.into_iter().find_map(|length| Some((self.field(base, at, length)?, length)))?;
            found.push((field.0, field.1, length as usize));
            at += length;
        }
        Some(found)
    }

    /// What a field of this name says as well.
    fn said_by_a_field(&mut self, name: &str) {
        let layer = match name.split(' ').next() {
            Some("ether") => Layer::Link,
            Some("ip" | "ip6" | "arp") => Layer::Network,
            _ => Layer::Transport,
        };
        self.implied(layer);
        // What is of one protocol alone implies the IP below as well.
        if matches!(self.above, Some(1 | 58)) && layer == Layer::Transport {
            self.implied(Layer::Network);
        }
    }

    fn compare(&mut self, register: u32, how: Comparison, with: &[u8]) {
        let Some(Value { name, kind, mask, fields, .. }) = self.get(register).cloned() else { return };
        let whole = fields.iter().map(|(_, _, length)| length).sum::<usize>() == with.len();
        if how == Comparison::Equal && mask.is_none() && !fields.is_empty() && whole {
            let mut rest = with;
            for (name, kind, length) in fields {
                let (value, behind) = rest.split_at(length);
                self.said_by_a_field(name);
                self.put(register, name, kind);
                self.compare(register, how, value);
                rest = behind;
            }
            return;
        }
        if let (Comparison::LessOrEqual, Some(Part { text, least, .. })) = (how, self.parts.last_mut())
            && let Some((_, first)) = least.take_if(|(before, _)| *before == first_of(register))
        {
            *text = format!("{name} {}", kind.range(&first, with));
            return;
        }
        let equal = how == Comparison::Equal;
        let mut implied_by = None;
        if equal && mask.is_none() {
            // `meta l4proto tcp` is said by `tcp dport` as well.
            match (kind, with) {
                (Kind::Protocol, [number, ..]) => {
                    self.above = Some(*number);
                    implied_by = Some(Layer::Transport).filter(|_| name == "meta l4proto");
                }
                // Of Ethernet.
                (Kind::Hardware, [1, 0] | [0, 1]) if name == "meta iiftype" => implied_by = Some(Layer::Link),
                (Kind::NetworkFamily, [number, ..]) => {
                    self.ip = if *number == 2 { Some(Family::Ipv4) } else { Some(Family::Ipv6) };
                    implied_by = Some(Layer::Network);
                }
                (Kind::EtherType, [high, low, ..]) if name != "arp ptype" => {
                    const ARP: u16 = 0x0806;
                    let number = u16::from_be_bytes([*high, *low]);
                    self.ip = match number {
                        0x0800 => Some(Family::Ipv4),
                        0x86dd => Some(Family::Ipv6),
                        _ => None,
                    };
                    implied_by = Some(Layer::Network).filter(|_| self.ip.is_some() || number == ARP);
                }
                _ => {}
            }
        }
        let sign = match how {
            Comparison::Equal => "",
            Comparison::Unequal => "!= ",
            Comparison::Less => "< ",
            Comparison::LessOrEqual => "<= ",
            Comparison::Greater => "> ",
            Comparison::GreaterOrEqual => ">= ",
        };
        if let (Kind::FirstByte(ip @ Family::Ipv4), None, [_], true) = (kind, &mask, with, equal) {
            for (name, number) in
                [0xf0, 0x0f].into_iter().filter_map(|mask| values::half(ip, &[mask], &[with[0] & mask]))
            {
                self.said_by_a_field(name);
                self.say(format!("{name} {number}"));
            }
            return;
        }
        let half = match (kind, &mask) {
            (Kind::FirstByte(ip), Some(mask)) => values::half(ip, mask, with),
            _ => None,
        };
        if let Some((name, number)) = half {
            self.said_by_a_field(name);
            return self.say(format!("{name} {sign}{number}"));
        }
        let text = match &mask {
            None => format!("{name} {sign}{}", kind.text(with)),
            Some(mask) => masked(&name, kind, mask, how, sign, with),
        };
        let least = (how == Comparison::GreaterOrEqual).then(|| (first_of(register), with.to_vec()));
        self.parts.push(Part { text, implied_by, least });
    }

    fn range(&mut self, register: u32, ranges: &[(Vec<u8>, Vec<u8>)], inverted: bool) {
        let Some(Value { name, kind, .. }) = self.get(register).cloned() else { return };
        let sign = if inverted { "!= " } else { "" };
        let text = match ranges {
            [(first, last)] => kind.range(first, last),
            several => braces(&several.iter().map(|(first, last)| kind.range(first, last)).collect::<Vec<_>>()),
        };
        self.say(format!("{name} {sign}{text}"));
    }

    fn lookup(&mut self, register: u32, set: &str, inverted: bool, to: Option<u32>, taken: &[Kind<'_>]) {
        let Chain { family, table, .. } = self.chain;
        let set = self.rules.set(family, table, set).ok_or(set);
        // The parts of a key are in registers that follow.
        let mut at = first_of(register);
        let lengths = set.map_or(&[][..], |set| &set.parts);
        let mut values = Vec::new();
        while let Some(value) = self.get(at) {
            values.push(value.clone());
            let Some(length) = lengths.get(values.len() - 1).filter(|_| values.len() < lengths.len()) else { break };
            at += length.div_ceil(4);
        }
        let name = values.iter().map(|value| value.name.as_str()).collect::<Vec<_>>().join(" . ");
        let kinds: Vec<Kind<'_>> = values.iter().map(|value| value.kind).collect();
        let list = match set {
            Ok(set) if set.anonymous => braces(&elements(set, &kinds, taken)),
            Ok(Set { name, .. }) => format!("@{name}"),
            Err(name) => format!("@{name}"),
        };
        match to {
            None => self.say(format!("{name} {}{list}", if inverted { "!= " } else { "" })),
            Some(0) => self.say(format!("{name} vmap {list}")),
            Some(register) => self.put(register, format!("{name} map {list}"), Kind::Bytes),
        }
    }

    /// What a register has: a constant, or by its name.
    fn value_text(&self, register: u32, kind: Kind<'_>) -> String {
        match self.get(register) {
            Some(Value { constant: Some(bytes), .. }) => kind.text(bytes),
            Some(value) if value.mask.is_some() => {
                let mask = value.mask.as_deref().unwrap_or_default();
                format!("{} & {}", value.name, value.kind.text(mask))
            }
            Some(value) => value.name.clone(),
            None => "...".to_owned(),
        }
    }

    fn ports(&self, first: u32, choice: &PortChoice) -> String {
        let first = self.value_text(first, Kind::Port);
        choice.last.map_or(first.clone(), |last| format!("{first}-{}", self.value_text(last, Kind::Port)))
    }

    fn sent_to(&mut self, verb: &str, port: Option<u32>, choice: &PortChoice) {
        let to = port.map_or_else(String::new, |port| format!(" to :{}", self.ports(port, choice)));
        self.say(format!("{verb}{to}{}", values::how(*choice)));
    }

    fn translation(&mut self, nat: &NatStep) {
        let NatStep { destination, family, address, port, choice } = *nat;
        let mut text = if destination { "dnat" } else { "snat" }.to_owned();
        // Both come from one map.
        let both = port.is_some_and(|port| address.is_some() && self.get(port).is_none());
        if self.chain.family == "inet" || both {
            text.push_str(if family == Family::Ipv4 { " ip" } else { " ip6" });
        }
        let kind = if family == Family::Ipv4 { Kind::Ipv4 } else { Kind::Ipv6 };
        let addr = address.map(|register| self.value_text(register, kind));
        let port = port.map(|register| self.ports(register, &choice));
        // Writing to a String cannot fail.
        match (addr, port) {
            (Some(addr), Some(_)) if both => write!(text, " to {addr}"),
            (Some(addr), Some(port)) if family == Family::Ipv6 => write!(text, " to [{addr}]:{port}"),
            (Some(addr), Some(port)) => write!(text, " to {addr}:{port}"),
            (Some(addr), None) => write!(text, " to {addr}"),
            (None, Some(port)) => write!(text, " to :{port}"),
            (None, None) => Ok(()),
        }
        .ok();
        self.say(text + &values::how(choice));
    }
}

/// The number of the four bytes that a register begins at: numbers 1 to 4 are the old ones of 16 bytes.
fn first_of(register: u32) -> u32 {
    match register {
        1..=4 => 8 + (register - 1) * 4,
        other => other,
    }
}

fn verdict_text(verdict: &RuleVerdict) -> String {
    match verdict {
        RuleVerdict::Accept => "accept".to_owned(),
        RuleVerdict::Drop => "drop".to_owned(),
        RuleVerdict::Continue => "continue".to_owned(),
        RuleVerdict::Return => "return".to_owned(),
        RuleVerdict::Jump(chain) => format!("jump {chain}"),
        RuleVerdict::Goto(chain) => format!("goto {chain}"),
    }
}

fn masked(name: &str, kind: Kind<'_>, mask: &[u8], how: Comparison, sign: &str, with: &[u8]) -> String {
    let none = with.iter().all(|byte| *byte == 0);
    match (kind, how) {
        // One of several bits.
        (Kind::Bits(_), Comparison::Unequal) if none => format!("{name} {}", kind.text(mask)),
        (Kind::Bits(_), Comparison::Equal) if none && name != "tcp flags" => format!("! {name} {}", kind.text(mask)),
        (Kind::Bits(_), _) if name == "tcp flags" => format!("{name} {sign}{} / {}", kind.text(with), kind.text(mask)),
        _ => match kind.prefix_of(mask) {
            Some(length) => format!("{name} {sign}{}/{length}", kind.text(with)),
            None if kind == Kind::Dscp => format!("{name} {sign}{}", kind.text(with)),
            None => {
                let sign = if how == Comparison::Equal { "== " } else { sign };
                format!("{name} & {} {sign}{}", kind.text(mask), kind.text(with))
            }
        },
    }
}

fn braces(list: &[String]) -> String {
    format!("{{ {} }}", list.join(", "))
}

/// The elements of a set in the order of their keys, as nft(8) has them.
fn elements(set: &Set, kinds: &[Kind<'_>], value: &[Kind<'_>]) -> Vec<String> {
    let mut sorted: Vec<&Element> = set.elements.iter().filter(|it| it.key.is_some()).collect();
    let first = kinds.first().copied().unwrap_or(Kind::Bytes);
    sorted.sort_by_key(|it| (it.key.as_ref().map(|key| first.in_order(key)), !it.ends));
    let mut texts = Vec::new();
    for (at, element) in sorted.iter().enumerate() {
        let (Some(key), false) = (&element.key, element.ends) else { continue };
        let text = if set.parts.len() > 1 {
            concatenation(set, kinds, key, element.last.as_ref().unwrap_or(key))
        } else if set.intervals {
            let end = sorted.get(at + 1).and_then(|next| next.key.as_ref());
            let last = end.map_or_else(|| vec![u8::MAX; key.len()], |end| values::before(end));
            first.range(key, &last)
        } else {
            first.text(key)
        };
        texts.push(with_value(text, element, value));
    }
    texts.extend(set.elements.iter().filter(|it| it.key.is_none()).map(|it| with_value("*".to_owned(), it, value)));
    texts
}

fn concatenation(set: &Set, kinds: &[Kind<'_>], first: &[u8], last: &[u8]) -> String {
    let mut at = 0;
    let mut texts = Vec::new();
    for (part, length) in set.parts.iter().enumerate() {
        let range = at..at + *length as usize;
        at += length.next_multiple_of(4) as usize;
        let kind = kinds.get(part).copied().unwrap_or(Kind::Bytes);
        let bytes = |of: &[u8]| of.get(range.clone()).unwrap_or_default().to_vec();
        texts.push(kind.range(&bytes(first), &bytes(last)));
    }
    texts.join(" . ")
}

fn with_value(key: String, element: &Element, kinds: &[Kind<'_>]) -> String {
    match &element.value {
        None => key,
        Some(ElementValue::Verdict(verdict)) => format!("{key} : {}", verdict_text(verdict)),
        Some(ElementValue::Bytes(bytes)) => {
            let mut rest = bytes.as_slice();
            let mut take = |kind: &Kind<'_>| {
                let (value, behind) = rest.split_at(kind.bytes().unwrap_or(rest.len()).min(rest.len()));
                rest = behind;
                kind.text(value)
            };
            let texts: Vec<String> =
                if kinds.is_empty() { vec![take(&Kind::Bytes)] } else { kinds.iter().map(take).collect() };
            format!("{key} : {}", texts.join(" . "))
        }
        Some(ElementValue::Unknown(name)) => format!("{key} : {name}"),
    }
}

impl Loaded {
    /// Of a part that is loaded by its name alone.
    fn own_name(&self) -> Option<&str> {
        match self {
            Loaded::Other(name) | Loaded::Extension { name, .. } => Some(name),
            _ => None,
        }
    }
}
