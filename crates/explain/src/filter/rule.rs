//! One rule: its steps, one after the other.

use std::net::IpAddr;

use hopyard_net::{
    Chain, ElementValue, Family, FibAction, Hook, IfName, LinkKind, Loaded, NatStep, NodeState, PortChoice, Rule,
    RuleStep, RuleVerdict, Ruleset, Stored,
};

use super::registers::{Byte, Holds, NoRegister, Registers};
use super::{Kept, Mark, Seen, Translation, marks_connections, sets};
use crate::header::{Content, Header};
use crate::lookup::{self, Found, Question};
use crate::{Packet, Protocol};

/// What a rule does.
pub(super) enum Applied<'a> {
    /// A step did not hold, or nothing was decided.
    Not,
    Verdict(&'a RuleVerdict),
    Reject,
    Unknown(String),
    Translated(Translation),
}

/// What a rule works with.
pub(super) struct Machine<'a, 's> {
    rules: &'a Ruleset,
    chain: &'a Chain,
    seen: &'s Seen<'s>,
    hook: Hook,
    priority: i32,
    registers: Registers,
    pub(super) kept: Kept,
    /// What a step depends on that is not known, so that it may not have held.
    pub(super) maybe: Option<String>,
    /// What was loaded last of what is not known.
    open: String,
}

/// What comes of a step that does not hold, or cannot be done.
enum Stop<'a> {
    Not,
    Ends(Applied<'a>),
}

impl From<NoRegister> for Stop<'_> {
    fn from(_: NoRegister) -> Self {
        Stop::Ends(Applied::Unknown("a register that is none".to_owned()))
    }
}

/// `NF_CT_STATE_*` and `IP_CT_UNTRACKED` of Linux, as bits.
const INVALID: u32 = 1;
const ESTABLISHED: u32 = 2;
const RELATED: u32 = 4;
const NEW: u32 = 8;
const UNTRACKED: u32 = 64;

impl<'a, 's> Machine<'a, 's> {
    pub(super) fn new(
        rules: &'a Ruleset,
        chain: &'a Chain,
        seen: &'s Seen<'s>,
        hook: Hook,
        priority: i32,
        kept: Kept,
    ) -> Self {
        let registers = Registers::default();
        Machine { rules, chain, seen, hook, priority, registers, kept, maybe: None, open: String::new() }
    }

    pub(super) fn run(&mut self, rule: &'a Rule) -> Applied<'a> {
        for step in &rule.steps {
            match self.step(step) {
                Ok(()) => {}
                Err(Stop::Not) => {
                    // That it does not go on is known.
                    self.maybe = None;
                    return Applied::Not;
                }
                Err(Stop::Ends(applied)) => return applied,
            }
        }
        Applied::Not
    }

    /// Goes on if it holds. If that is not known, it goes on, and that is kept in mind.
    fn goes_on(&mut self, holds: Holds, why: impl FnOnce(&Self) -> String) -> Result<(), Stop<'a>> {
        match holds {
            Holds::Yes => {}
            Holds::No => return Err(Stop::Not),
            Holds::Maybe => {
                let why = why(self);
                self.maybe.get_or_insert(why);
            }
        }
        Ok(())
    }

    fn step(&mut self, step: &'a RuleStep) -> Result<(), Stop<'a>> {
        let open = |machine: &Self| machine.open.clone();
        match step {
            RuleStep::Load { register, what } => self.load(*register, what)?,
            RuleStep::Payload { register, base, offset, length } => {
                self.payload(*register, *base, *offset as usize, *length as usize)?;
            }
            RuleStep::Bitwise { from, to, mask, xor } => self.registers.mask(*from, *to, mask, xor)?,
            RuleStep::ByteOrder { from, to, size, length } => {
                self.registers.turn(*from, *to, *size as usize, *length as usize)?;
            }
            RuleStep::Compare { register, how, with } => {
                let holds = self.registers.compare(*register, *how, with)?;
                self.goes_on(holds, open)?;
            }
            RuleStep::Range { register, ranges, inverted } => {
                let length = ranges.first().map_or(0, |(first, _)| first.len());
                let known = self.registers.known(*register, length)?;
                let holds = known.map_or(Holds::Maybe, |value| {
                    ranges.iter().any(|(first, last)| *first <= value && value <= *last).into()
                });
                self.goes_on(holds.invert(*inverted), open)?;
            }
            RuleStep::Lookup { register, set, inverted, to } => return self.lookup(*register, set, *inverted, *to),
            RuleStep::Immediate { register, value } => self.registers.put_known(*register, value)?,
            RuleStep::Counter | RuleStep::Pass => {}
            RuleStep::NoTrack => self.kept.untracked = true,
            RuleStep::Store { register, what } => self.store(*register, what)?,
            RuleStep::DestinationType { register } => {
                let (_, dst) = self.seen.content.ends();
                self.address_type(*register, dst)?;
            }
            RuleStep::SourceType { register } => {
                let (src, _) = self.seen.content.ends();
                self.address_type(*register, src)?;
            }
            RuleStep::WayBack { register, by_input } => self.way_back(*register, *by_input)?,
            RuleStep::Depends(name) => {
                let why = format!("`{name}` depends on more than the packet");
                self.goes_on(Holds::Maybe, |_| why)?;
            }
            RuleStep::Reject { .. } => return Err(Stop::Ends(Applied::Reject)),
            RuleStep::Verdict(verdict) => return Err(Stop::Ends(Applied::Verdict(verdict))),
            RuleStep::Nat(nat) => return self.translate(nat),
            RuleStep::Masquerade => {
                let Some(address) = address_of(self.seen) else {
                    return unknown("the interface has no address to give".to_owned());
                };
                return translated(Translation { destination: false, address: Some(address), port: None });
            }
            RuleStep::MasqueradePorts { port, choice } => {
                let Some(address) = address_of(self.seen) else {
                    return unknown("the interface has no address to give".to_owned());
                };
                let port = self.port("masquerade", false, *port, *choice)?;
                return translated(Translation { destination: false, address: Some(address), port });
            }
            RuleStep::Redirect { port, choice } => return self.redirect(*port, *choice),
            RuleStep::TransparentProxy { .. } => return not_understood("tproxy"),
            RuleStep::Unknown(what) => return not_understood(what),
        }
        Ok(())
    }

    /// Puts something into a register that is not known.
    fn put_unknown(&mut self, register: u32, length: usize, what: String) -> Result<(), Stop<'a>> {
        self.open = what;
        Ok(self.registers.put(register, &vec![Byte::default(); length])?)
    }

    fn payload(&mut self, register: u32, base: u32, offset: usize, length: usize) -> Result<(), Stop<'a>> {
        const LINK: u32 = 0;
        const NETWORK: u32 = 1;
        const TRANSPORT: u32 = 2;
        let content = self.seen.content;
        let header: Header = match base {
            // A packet of the node itself has none yet.
            LINK => self.seen.frame.map(|frame| frame.header(content)).ok_or(Stop::Not)?,
            NETWORK => content.network_header(),
            TRANSPORT => content.transport_header().ok_or(Stop::Not)?,
            _ => return not_understood("a payload of another header"),
        };
        let bytes = header.get(offset..offset.saturating_add(length));
        let bytes: Vec<Byte> = match bytes {
            Some(bytes) => bytes.iter().copied().map(Byte::from).collect(),
            // No frame has a VLAN tag here.
            None if base == LINK => return Err(Stop::Not),
            // No packet is so long.
            None if offset.saturating_add(length) > content.length() as usize => return Err(Stop::Not),
            None => vec![Byte::default(); length],
        };
        if bytes.iter().any(|byte| byte.known != u8::MAX) {
            "it looks at more of the packet than is known".clone_into(&mut self.open);
        }
        Ok(self.registers.put(register, &bytes)?)
    }

    fn load(&mut self, register: u32, what: &Loaded) -> Result<(), Stop<'a>> {
        let Seen { node, content, input, output, .. } = *self.seen;
        let index = |dev: Option<IfName>| {
            let link = dev.and_then(|dev| node.links.get(&dev));
            link.map_or(0, |link| link.index).to_ne_bytes()
        };
        let bytes: Vec<u8> = match what {
            // Of ARP there is nothing above.
            Loaded::Layer4Protocol => vec![content.protocol().ok_or(Stop::Not)?],
            Loaded::NetworkFamily => vec![self.network_family()],
            Loaded::EtherType => content.ether_type().to_be_bytes().to_vec(),
            Loaded::Length => content.length().to_ne_bytes().to_vec(),
            Loaded::InputIndex => index(input).to_vec(),
            Loaded::OutputIndex => index(output).to_vec(),
            Loaded::InputName => name_bytes(input.as_ref().map_or("", IfName::as_str)),
            Loaded::OutputName => name_bytes(output.as_ref().map_or("", IfName::as_str)),
            Loaded::BridgeInputName => name_bytes(master(node, input).as_ref().map_or("", IfName::as_str)),
            Loaded::BridgeOutputName => name_bytes(master(node, output).as_ref().map_or("", IfName::as_str)),
            Loaded::InputKind => name_bytes(kind_name(node, input).ok_or(Stop::Not)?),
            Loaded::OutputKind => name_bytes(kind_name(node, output).ok_or(Stop::Not)?),
            Loaded::InputType => hardware(node, input).ok_or(Stop::Not)?.to_ne_bytes().to_vec(),
            Loaded::OutputType => hardware(node, output).ok_or(Stop::Not)?.to_ne_bytes().to_vec(),
            Loaded::PacketType => vec![self.seen.frame.map_or(0, |frame| frame.kind)],
            Loaded::Mark => match self.kept.mark {
                Mark::Known(mark) => mark.to_ne_bytes().to_vec(),
                Mark::Unknown => return self.put_unknown(register, 4, "its mark is not known".to_owned()),
            },
            Loaded::ConnectionState => self.connection_state().to_ne_bytes().to_vec(),
            Loaded::ConnectionDirection => {
                self.connection()?;
                let back = matches!(content, Content::Packet(packet) if packet.reply || packet.too_big);
                vec![u8::from(back)]
            }
            Loaded::ConnectionStatus => {
                self.connection()?;
                return self.connection_status(register);
            }
            Loaded::ConnectionMark => {
                self.connection()?;
                if marks_connections(self.rules) {
                    return self.put_unknown(register, 4, "the mark of its connection is not known".to_owned());
                }
                vec![0; 4]
            }
            Loaded::Extension { asked: true, .. } => vec![0],
            Loaded::Extension { asked: false, .. } => return Err(Stop::Not),
            Loaded::Other(name) => {
                return self.put_unknown(register, 16, format!("`{name}` is not followed"));
            }
        };
        Ok(self.registers.put_known(register, &bytes)?)
    }

    /// `NFPROTO_*` of the chain's table, or of the packet in a table for both.
    fn network_family(&self) -> u8 {
        match (self.chain.family.as_str(), self.seen.content.family()) {
            ("bridge", _) => 7,
            ("netdev", _) => 5,
            (_, Some(Family::Ipv4)) => 2,
            (_, Some(Family::Ipv6)) => 10,
            (_, None) => 3,
        }
    }

    fn connection_state(&self) -> u32 {
        /// `NF_IP_PRI_CONNTRACK`.
        const TRACKS_AT: i32 = -200;
        let Seen { content, knows_connection, .. } = *self.seen;
        let early = match self.hook {
            Hook::Ingress | Hook::Egress => true,
            Hook::Prerouting | Hook::Output => self.priority < TRACKS_AT,
            _ => false,
        };
        let packet = match content {
            // Neighbour discovery belongs to no connection.
            Content::Asks(_) if !early => return UNTRACKED,
            Content::Packet(packet) if !early => packet,
            _ => return INVALID,
        };
        if self.kept.untracked {
            return UNTRACKED;
        }
        match (packet.reply, knows_connection) {
            (_, true) if packet.too_big => RELATED,
            (_, false) if packet.too_big => INVALID,
            (false, _) => NEW,
            (true, true) => ESTABLISHED,
            (true, false) if packet.protocol == Protocol::Udp => NEW,
            (true, false) => INVALID,
        }
    }

    /// Who has no connection is asked about none.
    fn connection(&self) -> Result<(), Stop<'a>> {
        if self.connection_state() & (INVALID | UNTRACKED) == 0 { Ok(()) } else { Err(Stop::Not) }
    }

    /// Of the bits of a connection's status (linux/netfilter/nf_conntrack_common.h), those of translation are known.
    fn connection_status(&mut self, register: u32) -> Result<(), Stop<'a>> {
        const SOURCE: u32 = 1 << 4;
        const DESTINATION: u32 = 1 << 5;
        let (source, destination) = self.seen.is_translated;
        let value = if source { SOURCE } else { 0 } | if destination { DESTINATION } else { 0 };
        let known = (SOURCE | DESTINATION).to_ne_bytes();
        let bytes = value.to_ne_bytes().into_iter().zip(known).map(|(value, known)| Byte { value, known });
        "the status of its connection is not known".clone_into(&mut self.open);
        Ok(self.registers.put(register, &bytes.collect::<Vec<_>>())?)
    }

    fn store(&mut self, register: u32, what: &Stored) -> Result<(), Stop<'a>> {
        if *what == Stored::Mark {
            let known = self.registers.known(register, 4)?;
            let mark = known.and_then(|bytes| bytes.first_chunk().copied().map(u32::from_ne_bytes));
            self.kept.mark = match mark {
                // What may not have come here, may not have been marked.
                Some(mark) if self.maybe.is_none() || self.kept.mark == Mark::Known(mark) => Mark::Known(mark),
                _ => Mark::Unknown,
            };
        }
        Ok(())
    }

    /// `RTN_LOCAL`, `RTN_UNICAST` or `RTN_MULTICAST`.
    fn address_type(&mut self, register: u32, addr: Option<IpAddr>) -> Result<(), Stop<'a>> {
        const UNICAST: u32 = 1;
        const LOCAL: u32 = 2;
        const MULTICAST: u32 = 5;
        // Of what is no IP there is none.
        if self.seen.content.family().is_none() {
            return Err(Stop::Not);
        }
        let Some(addr) = addr else {
            let group = matches!(self.seen.content, Content::Asks(question) if !question.answers);
            if group {
                return Ok(self.registers.put_known(register, &MULTICAST.to_ne_bytes())?);
            }
            return self.put_unknown(register, 4, "its source is not known".to_owned());
        };
        let kind = if lookup::is_own(self.seen.node, addr) { LOCAL } else { UNICAST };
        Ok(self.registers.put_known(register, &kind.to_ne_bytes())?)
    }

    /// `nft_fib4_eval()` and `nft_fib6_eval()`: is there a way back to the source?
    fn way_back(&mut self, register: u32, by_input: bool) -> Result<(), Stop<'a>> {
        if self.seen.content.family().is_none() {
            return Err(Stop::Not);
        }
        let (Content::Packet(packet), Some(src)) = (self.seen.content, self.seen.content.ends().0) else {
            return self.put_unknown(register, 4, "its source is not known".to_owned());
        };
        let Seen { node, input, .. } = *self.seen;
        let back = Packet { src: None, dst: src, ..*packet };
        // IPv6 asks for routes by the interface, IPv4 whether the route that it finds leads there too.
        let output = input.filter(|_| by_input && src.is_ipv6());
        let there = match lookup::find(node, &Question { output, ..Question::of(&back, None) }) {
            Found::Route(route) if matches!(route.action, FibAction::Route(_)) => {
                let mut hops = route.next_hops().iter();
                if by_input { hops.any(|hop| Some(hop.dev) == input) } else { hops.next().is_some() }
            }
            // On `lo` nobody asks.
            Found::Route(_) => input == Some(IfName::LO),
            Found::Nothing | Found::Refused(_) => false,
            Found::Beyond(what) => return self.put_unknown(register, 4, what),
        };
        Ok(self.registers.put_known(register, &[u8::from(there)])?)
    }

    fn lookup(&mut self, register: u32, name: &str, inverted: bool, to: Option<u32>) -> Result<(), Stop<'a>> {
        let Chain { family, table, .. } = self.chain;
        let Some(set) = self.rules.set(family, table, name) else {
            return unknown(format!("the set {name} is not known"));
        };
        if set.dynamic {
            let why = format!("packets fill the set {name}");
            if to.is_some() {
                return unknown(why);
            }
            return self.goes_on(Holds::Maybe, |_| why);
        }
        let Some(key) = self.registers.known(register, sets::key_bytes(set))? else {
            if to.is_some() {
                return unknown(self.open.clone());
            }
            return self.goes_on(Holds::Maybe, |machine| machine.open.clone());
        };
        let found = sets::find(set, &key);
        self.goes_on(Holds::from(found.is_some()).invert(inverted), |_| String::new())?;
        let Some(element) = found else { return Ok(()) };
        if let Some(name) = &element.depends_on {
            let why = format!("`{name}` depends on more than the packet");
            self.goes_on(Holds::Maybe, |_| why)?;
        }
        let Some(to) = to else { return Ok(()) };
        match &element.value {
            Some(ElementValue::Verdict(verdict)) if to == 0 => Err(Stop::Ends(Applied::Verdict(verdict))),
            Some(ElementValue::Bytes(bytes)) => Ok(self.registers.put_known(to, bytes)?),
            Some(ElementValue::Unknown(what)) => not_understood(what),
            _ => unknown(format!("the map {name} has no value there")),
        }
    }

    fn translate(&mut self, nat: &NatStep) -> Result<(), Stop<'a>> {
        let NatStep { destination, family, address, port, choice } = *nat;
        // In a table for both families it concerns one of them.
        if Some(family) != self.seen.content.family() {
            return Ok(());
        }
        let length = if family == Family::Ipv4 { 4 } else { 16 };
        let address = match address {
            Some(register) => match self.registers.known(register, length)? {
                Some(bytes) => Some(bytes),
                None => return unknown(self.open.clone()),
            },
            None => None,
        };
        let address = address.and_then(|bytes| match bytes.len() {
            4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
            _ => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        });
        let port = self.port(if destination { "dnat" } else { "snat" }, destination, port, choice)?;
        translated(Translation { destination, address, port })
    }

    /// The port that a translation gives; `None`: the packet keeps its own. Of several it keeps its own if that is among
    /// them (`nf_nat_l4proto_in_range()`), as that of a client is taken to be free. Which other one it would get, nobody says;
    /// nor which, where chance chooses where it goes to.
    fn port(
        &self,
        word: &str,
        destination: bool,
        port: Option<u32>,
        choice: PortChoice,
    ) -> Result<Option<u16>, Stop<'a>> {
        let open = |what: String| Stop::Ends(Applied::Unknown(what));
        let read = |register| match self.registers.known(register, 2)? {
            Some(bytes) => Ok(bytes.try_into().ok().map(u16::from_be_bytes)),
            None => Err(open(self.open.clone())),
        };
        let first = match port {
            Some(register) => read(register)?,
            None => None,
        };
        let (Some(first), Some(last)) = (first, choice.last) else { return Ok(first) };
        let last = read(last)?.unwrap_or(first);
        let Content::Packet(packet) = self.seen.content else { return Ok(None) };
        let own = if destination { packet.destination_port } else { packet.source_port };
        let keeps = (first..=last).contains(&own) && !(destination && choice.is_random());
        match packet.protocol {
            Protocol::Tcp | Protocol::Udp if !keeps => {
                Err(open(format!("which port of {first}-{last} `{word}` gives it is not known")))
            }
            _ => Ok(None),
        }
    }

    /// To the first address of the interface that it came in by (`nf_nat_redirect_ipv4()`).
    fn redirect(&mut self, port: Option<u32>, choice: PortChoice) -> Result<(), Stop<'a>> {
        let port = self.port("redirect", true, port, choice)?;
        let Some(family) = self.seen.content.family() else { return Err(Stop::Not) };
        let link = self.seen.input.and_then(|dev| self.seen.node.links.get(&dev));
        let all = link.into_iter().flat_map(|link| &link.addresses).filter(|own| own.usable && !own.secondary);
        let mut own = all.map(|own| own.net.addr()).filter(|addr| Family::of(*addr) == family);
        let Some(address) = own.find(|addr| !crate::packet::is_link_local(*addr)) else {
            return unknown("the interface has no address to redirect to".to_owned());
        };
        translated(Translation { destination: true, address: Some(address), port })
    }
}

fn unknown<'a>(what: String) -> Result<(), Stop<'a>> {
    Err(Stop::Ends(Applied::Unknown(what)))
}

fn translated<'a>(translation: Translation) -> Result<(), Stop<'a>> {
    Err(Stop::Ends(Applied::Translated(translation)))
}

/// By the kernel's name of the instruction.
fn not_understood<'a>(what: &str) -> Result<(), Stop<'a>> {
    unknown(match what {
        // In a recording of an earlier version: as nft(8) calls it; that of the kernel nobody has written.
        "lookup" => "a set is not understood".to_owned(),
        what => format!("`{what}` is not understood"),
    })
}

fn name_bytes(name: &str) -> Vec<u8> {
    /// `IFNAMSIZ`.
    const NAME_BYTES: usize = 16;
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(NAME_BYTES, 0);
    bytes
}

fn master(node: &NodeState, dev: Option<IfName>) -> Option<IfName> {
    node.links.get(&dev?)?.master
}

/// As ip-link(8) names it; `lo` has no such name.
fn kind_name(node: &NodeState, dev: Option<IfName>) -> Option<&str> {
    match &node.links.get(&dev?)?.kind {
        LinkKind::Veth { .. } => Some("veth"),
        LinkKind::Bridge => Some("bridge"),
        LinkKind::Other(name) => Some(name),
        LinkKind::Loopback | LinkKind::Lent => None,
    }
}

/// `ARPHRD_ETHER`, `ARPHRD_LOOPBACK` of linux/if_arp.h.
fn hardware(node: &NodeState, dev: Option<IfName>) -> Option<u16> {
    let link = node.links.get(&dev?)?;
    Some(if link.kind == LinkKind::Loopback { 772 } else { 1 })
}

/// The address by which a packet leaves that is masqueraded: that by which the node itself would send to the next hop (IPv4,
/// `inet_select_addr()` of Linux) or to the destination (IPv6, `ipv6_dev_get_saddr()`).
fn address_of(seen: &Seen<'_>) -> Option<IpAddr> {
    let dev = seen.output?;
    let (_, dst) = seen.content.ends();
    match seen.content.family()? {
        Family::Ipv4 => lookup::source_v4(seen.node, dev, seen.next.or(dst)?, false),
        Family::Ipv6 => lookup::source_v6(seen.node, dev, dst?),
    }
}
