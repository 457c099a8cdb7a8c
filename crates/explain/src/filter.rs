//! The firewall of a node: the chains of a hook, run as the kernel runs them.

use std::net::IpAddr;

use hopyard_net::{
    Chain, Comparison, Family, Hook, IfName, Loaded, NatStep, NodeState, Rule, RuleStep, RuleVerdict, Ruleset,
};

use crate::packet::Discovery;
use crate::{Packet, Protocol, Reason, lookup};

/// What a packet looks like to the firewall.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen<'a> {
    pub(crate) node: &'a NodeState,
    pub(crate) packet: &'a Packet,
    pub(crate) input: Option<IfName>,
    pub(crate) output: Option<IfName>,
    /// Who gets it next, where it leaves.
    pub(crate) next: Option<IpAddr>,
    /// Did the node see the packet that this one answers?
    pub(crate) knows_connection: bool,
    /// As it becomes here, because it belongs to a connection whose addresses the node translates.
    pub(crate) translated: Option<Packet>,
}

/// From which priority on a hook translates addresses (`NF_IP_PRI_NAT_DST`, `NF_IP_PRI_NAT_SRC`).
fn translates_at(hook: Hook) -> i32 {
    if matches!(hook, Hook::Prerouting | Hook::Output) { -100 } else { 100 }
}

/// What is said where nobody has read the rules.
pub(crate) const UNREAD: &str = "its firewall could not be read, and may decide";

/// Runs the chains of a hook; returns the packet that goes on.
pub(crate) fn check(hook: Hook, seen: Seen<'_>) -> Result<Packet, Reason> {
    // Not to be confused with a firewall that has no rules.
    let Some(rules) = &seen.node.firewall else { return Err(Reason::Undecided(UNREAD.to_owned())) };
    let mut packet = *seen.packet;
    let mut to_be = seen.translated;
    let mut is_translated = false;
    let own = if seen.packet.family() == Family::Ipv4 { "ip" } else { "ip6" };
    let at_interface = matches!(hook, Hook::Ingress | Hook::Egress);
    let is_here = |chain: &&Chain| {
        let family = chain.family == "inet" || chain.family == own || at_interface && chain.family == "netdev";
        chain.base.as_ref().is_some_and(|base| base.hook == hook) && family
    };
    let mut chains: Vec<&Chain> = rules.chains.iter().filter(is_here).collect();
    chains.sort_by_key(|chain| chain.base.as_ref().map_or(0, |base| base.priority));
    for chain in chains {
        let Some(base) = &chain.base else { continue };
        if base.priority >= translates_at(hook) {
            packet = to_be.take().unwrap_or(packet);
        }
        // Address translation looks at the first packet of a connection alone, and once.
        if base.kind == "nat" && ((packet.reply || packet.too_big) && seen.knows_connection || is_translated) {
            continue;
        }
        let firewall = |chain: &Chain, rule: Option<u64>, rejects: bool| Reason::Firewall {
            hook,
            family: chain.family.clone(),
            table: chain.table.clone(),
            chain: chain.name.clone(),
            rule,
            rejects,
        };
        if chain.family == "netdev" {
            // Which interface it belongs to is not read.
            let decides = !chain.rules.is_empty() || base.drops;
            let what = format!("chain netdev {} {} looks at frames", chain.table, chain.name);
            if decides {
                return Err(Reason::Undecided(what));
            }
            continue;
        }
        match run(rules, chain, &Seen { packet: &packet, ..seen }, 0, &mut { RULES }) {
            Outcome::Drop { chain, rule, rejects } => return Err(firewall(chain, Some(rule), rejects)),
            Outcome::Beyond(what) => return Err(Reason::Undecided(what)),
            Outcome::End if base.drops => return Err(firewall(chain, None, false)),
            Outcome::Accept | Outcome::End => {}
            // The source of such a packet was chosen for another destination, and it is routed again.
            Outcome::Translated(_) if hook == Hook::Output => {
                let what = format!("chain {} {} translates the node's own packets", chain.table, chain.name);
                return Err(Reason::Undecided(what));
            }
            Outcome::Translated(translation) => {
                is_translated = true;
                translation.apply(&mut packet);
            }
        }
    }
    Ok(to_be.unwrap_or(packet))
}

/// What a rule makes of a packet, and of all that belong to its connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Translation {
    destination: bool,
    address: Option<IpAddr>,
    port: Option<u16>,
}

impl Translation {
    fn apply(self, packet: &mut Packet) {
        let ports = packet.protocol != Protocol::Icmp;
        if self.destination {
            packet.dst = self.address.unwrap_or(packet.dst);
            packet.destination_port = self.port.filter(|_| ports).unwrap_or(packet.destination_port);
        } else {
            packet.src = self.address.or(packet.src);
            packet.source_port = self.port.filter(|_| ports).unwrap_or(packet.source_port);
        }
    }
}

/// The address by which a packet leaves that is masqueraded: of those of the interface one in the network of
/// the next hop, or else the first (`inet_select_addr()` of Linux).
fn address_of(seen: &Seen<'_>) -> Option<IpAddr> {
    let link = seen.node.links.get(&seen.output?)?;
    let family = seen.packet.family();
    let link_local = |addr: IpAddr| matches!(addr, IpAddr::V6(addr) if addr.is_unicast_link_local());
    let usable = |own: &&hopyard_net::IfAddress| {
        Family::of(own.net.addr()) == family && !own.secondary && !own.host_only && !link_local(own.net.addr())
    };
    let near = |own: &&hopyard_net::IfAddress| seen.next.is_some_and(|next| own.net.contains(&next));
    let all = || link.addresses.iter().filter(usable);
    all().find(near).or_else(|| all().next()).map(|own| own.net.addr())
}

enum Outcome<'a> {
    Accept,
    Drop {
        chain: &'a Chain,
        rule: u64,
        rejects: bool,
    },
    /// The end of the chain, or `return`.
    End,
    Beyond(String),
    Translated(Translation),
}

/// As deep as the kernel lets chains jump (`NFT_JUMP_STACK_SIZE`).
const DEEPEST: usize = 16;

/// So many rules are looked at for one packet: many more than a firewall has, and far fewer than chains that
/// jump to each other again and again could make of them.
const RULES: usize = 1_000_000;

fn run<'a>(rules: &'a Ruleset, chain: &'a Chain, seen: &Seen<'_>, depth: usize, budget: &mut usize) -> Outcome<'a> {
    let beyond = |rule: &Rule, what: &str| {
        let Chain { family, table, name, .. } = chain;
        Outcome::Beyond(format!("rule {} of {family} {table} {name}: {what}", rule.handle))
    };
    for rule in &chain.rules {
        if *budget == 0 {
            return beyond(rule, "too many rules are jumped to");
        }
        *budget -= 1;
        match apply(rule, seen) {
            Applied::Not => {}
            Applied::Reject => return Outcome::Drop { chain, rule: rule.handle, rejects: true },
            Applied::Unknown(what) => return beyond(rule, &what),
            Applied::Translated(translation) => return Outcome::Translated(translation),
            Applied::Verdict(verdict) => match verdict {
                RuleVerdict::Accept => return Outcome::Accept,
                RuleVerdict::Drop => return Outcome::Drop { chain, rule: rule.handle, rejects: false },
                RuleVerdict::Continue => {}
                RuleVerdict::Return => return Outcome::End,
                RuleVerdict::Jump(name) | RuleVerdict::Goto(name) => {
                    let target = rules.chains.iter().find(|other| {
                        other.name == *name && other.table == chain.table && other.family == chain.family
                    });
                    let Some(target) = target.filter(|_| depth < DEEPEST) else {
                        return beyond(rule, "a jump that leads nowhere");
                    };
                    match run(rules, target, seen, depth + 1, budget) {
                        Outcome::End if matches!(verdict, RuleVerdict::Jump(_)) => {}
                        outcome => return outcome,
                    }
                }
            },
        }
    }
    Outcome::End
}

enum Applied<'a> {
    /// A step did not hold, or nothing was decided.
    Not,
    Verdict(&'a RuleVerdict),
    Reject,
    Unknown(String),
    Translated(Translation),
}

/// The size of a register.
const REGISTER_BYTES: usize = 4;
/// Room for all of them.
const REGISTERS: usize = 32;

fn apply<'a>(rule: &'a Rule, seen: &Seen<'_>) -> Applied<'a> {
    let mut memory = [0_u8; REGISTER_BYTES * REGISTERS];
    for step in &rule.steps {
        match step {
            RuleStep::Load { register, what } => {
                let bytes = load(*what, seen);
                match room(&mut memory, *register, bytes.len()) {
                    Some(room) => room.copy_from_slice(&bytes),
                    None => return Applied::Unknown("a register that is none".to_owned()),
                }
            }
            RuleStep::Payload { register, base, offset, length } => {
                let header = match base {
                    1 => network_header(seen.packet),
                    2 => transport_header(seen.packet),
                    _ => return Applied::Unknown("it looks at the Ethernet header".to_owned()),
                };
                let (offset, length) = (*offset as usize, *length as usize);
                let bytes = header.get(offset..offset + length).and_then(|bytes| bytes.iter().copied().collect());
                let Some(bytes): Option<Vec<u8>> = bytes else {
                    return Applied::Unknown("it looks at more of the packet than is known".to_owned());
                };
                match room(&mut memory, *register, length) {
                    Some(room) => room.copy_from_slice(&bytes),
                    None => return Applied::Unknown("a register that is none".to_owned()),
                }
            }
            RuleStep::Bitwise { from, to, mask, xor } => {
                let Some(value) = room(&mut memory, *from, mask.len()).map(|room| room.to_vec()) else {
                    return Applied::Unknown("a register that is none".to_owned());
                };
                let Some(room) = room(&mut memory, *to, mask.len()) else {
                    return Applied::Unknown("a register that is none".to_owned());
                };
                for (at, byte) in room.iter_mut().enumerate() {
                    *byte = (value[at] & mask[at]) ^ xor.get(at).copied().unwrap_or_default();
                }
            }
            RuleStep::Compare { register, how, with } => {
                let Some(value) = room(&mut memory, *register, with.len()) else {
                    return Applied::Unknown("a register that is none".to_owned());
                };
                let order = (*value).cmp(with.as_slice());
                let holds = match how {
                    Comparison::Equal => order.is_eq(),
                    Comparison::Unequal => order.is_ne(),
                    Comparison::Less => order.is_lt(),
                    Comparison::LessOrEqual => order.is_le(),
                    Comparison::Greater => order.is_gt(),
                    Comparison::GreaterOrEqual => order.is_ge(),
                };
                if !holds {
                    return Applied::Not;
                }
            }
            RuleStep::Immediate { register, value } => match room(&mut memory, *register, value.len()) {
                Some(room) => room.copy_from_slice(value),
                None => return Applied::Unknown("a register that is none".to_owned()),
            },
            RuleStep::Counter | RuleStep::Pass => {}
            // In a table for both families it concerns one of them.
            RuleStep::Nat(NatStep { family, .. }) if *family != seen.packet.family() => {}
            RuleStep::Nat(NatStep { destination, family, address, port }) => {
                let length = if *family == Family::Ipv4 { 4 } else { 16 };
                let mut read = |register: &Option<u32>, length: usize| match register {
                    Some(register) => room(&mut memory, *register, length).map(|room| Some(room.to_vec())),
                    None => Some(None),
                };
                let (Some(address), Some(port)) = (read(address, length), read(port, 2)) else {
                    return Applied::Unknown("a register that is none".to_owned());
                };
                let address = address.and_then(|bytes| match bytes.len() {
                    4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
                    _ => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
                });
                let port = port.and_then(|bytes| bytes.try_into().ok().map(u16::from_be_bytes));
                return Applied::Translated(Translation { destination: *destination, address, port });
            }
            RuleStep::Masquerade => {
                let Some(address) = address_of(seen) else {
                    return Applied::Unknown("the interface has no address to give".to_owned());
                };
                return Applied::Translated(Translation { destination: false, address: Some(address), port: None });
            }
            RuleStep::Redirect { .. } => return not_understood("redir"),
            RuleStep::TransparentProxy { .. } => return not_understood("tproxy"),
            RuleStep::DestinationType { register } => {
                /// `RTN_LOCAL` and `RTN_UNICAST`.
                const KINDS: [u32; 2] = [1, 2];
                let kind = KINDS[usize::from(lookup::is_own(seen.node, seen.packet.dst))];
                match room(&mut memory, *register, REGISTER_BYTES) {
                    Some(room) => room.copy_from_slice(&kind.to_ne_bytes()),
                    None => return Applied::Unknown("a register that is none".to_owned()),
                }
            }
            RuleStep::Reject { .. } => return Applied::Reject,
            RuleStep::Verdict(verdict) => return Applied::Verdict(verdict),
            RuleStep::Unknown(what) => return not_understood(what),
        }
    }
    Applied::Not
}

/// By the kernel's name of the instruction.
fn not_understood<'a>(what: &str) -> Applied<'a> {
    Applied::Unknown(match what {
        // As nft(8) calls it; that of the kernel nobody has written.
        "lookup" => "a set is not understood".to_owned(),
        what => format!("`{what}` is not understood"),
    })
}

/// Bytes of registers. Numbers 1 to 4 are the old ones of 16 bytes, from 8 on those of four bytes,
/// in the same place (linux/netfilter/nf_tables.h).
fn room(memory: &mut [u8], register: u32, length: usize) -> Option<&mut [u8]> {
    let start = match register as usize {
        0 => return None,
        old @ 1..=4 => (old - 1) * 16,
        new => (new.checked_sub(8)?) * REGISTER_BYTES,
    };
    memory.get_mut(start..start + length)
}

fn load(what: Loaded, seen: &Seen<'_>) -> Vec<u8> {
    /// `IFNAMSIZ`.
    const NAME_BYTES: usize = 16;
    let name = |dev: Option<IfName>| {
        let mut bytes = vec![0; NAME_BYTES];
        if let Some(dev) = dev {
            bytes[..dev.as_str().len()].copy_from_slice(dev.as_str().as_bytes());
        }
        bytes
    };
    let index = |dev: Option<IfName>| {
        let link = dev.and_then(|dev| seen.node.links.get(&dev));
        link.map_or(0, |link| link.index).to_ne_bytes().to_vec()
    };
    match what {
        Loaded::Layer4Protocol => vec![seen.packet.protocol.number(seen.packet.family())],
        Loaded::NetworkFamily => vec![if seen.packet.family() == Family::Ipv4 { 2 } else { 10 }],
        Loaded::InputIndex => index(seen.input),
        Loaded::OutputIndex => index(seen.output),
        Loaded::InputName => name(seen.input),
        Loaded::OutputName => name(seen.output),
        Loaded::ConnectionState => {
            const INVALID: u32 = 1;
            const ESTABLISHED: u32 = 2;
            const NEW: u32 = 8;
            const RELATED: u32 = 4;
            const UNTRACKED: u32 = 64;
            let state = match (seen.packet.reply, seen.knows_connection) {
                _ if seen.packet.discovery.is_some() => UNTRACKED,
                (_, true) if seen.packet.too_big => RELATED,
                (_, false) if seen.packet.too_big => INVALID,
                (false, _) => NEW,
                (true, true) => ESTABLISHED,
                (true, false) if seen.packet.protocol == Protocol::Udp => NEW,
                (true, false) => INVALID,
            };
            state.to_ne_bytes().to_vec()
        }
        Loaded::Mark => vec![0; 4],
    }
}

/// A header, byte by byte; `None`: what is in it is chosen when the packet is sent.
type Header = Vec<Option<u8>>;

fn add(header: &mut Header, bytes: &[u8]) {
    header.extend(bytes.iter().copied().map(Some));
}

fn add_unknown(header: &mut Header, bytes: usize) {
    header.resize(header.len() + bytes, None);
}

/// RFC 791, RFC 8200.
fn network_header(packet: &Packet) -> Header {
    let number = packet.protocol.number(packet.family());
    let length = u16::try_from(packet.length).unwrap_or(u16::MAX);
    let mut header = Header::new();
    match packet.dst {
        IpAddr::V4(dst) => {
            add(&mut header, &[0x45, 0]);
            add(&mut header, &length.to_be_bytes());
            // The identification.
            add_unknown(&mut header, 2);
            add(&mut header, &[0x40, 0, packet.ttl, number]);
            // The checksum.
            add_unknown(&mut header, 2);
            match packet.src {
                Some(IpAddr::V4(src)) => add(&mut header, &src.octets()),
                _ => add_unknown(&mut header, 4),
            }
            add(&mut header, &dst.octets());
        }
        IpAddr::V6(dst) => {
            add(&mut header, &[0x60]);
            // The flow label.
            add_unknown(&mut header, 3);
            add(&mut header, &length.saturating_sub(40).to_be_bytes());
            add(&mut header, &[number, packet.ttl]);
            match packet.src {
                Some(IpAddr::V6(src)) => add(&mut header, &src.octets()),
                _ => add_unknown(&mut header, 16),
            }
            add(&mut header, &dst.octets());
        }
    }
    header
}

/// Ports, the flags of TCP, the type of ICMP.
fn transport_header(packet: &Packet) -> Header {
    let mut header = Header::new();
    match packet.protocol {
        Protocol::Icmp if packet.discovery.is_some() => {
            let kind = if packet.discovery == Some(Discovery::Question) { 135 } else { 136 };
            add(&mut header, &[kind, 0]);
        }
        Protocol::Icmp if packet.too_big => {
            let (kind, code) = if packet.family() == Family::Ipv4 { (3, 4) } else { (2, 0) };
            add(&mut header, &[kind, code]);
        }
        Protocol::Icmp => {
            let kind = match (packet.family(), packet.reply) {
                (Family::Ipv4, false) => 8,
                (Family::Ipv4, true) => 0,
                (Family::Ipv6, false) => 128,
                (Family::Ipv6, true) => 129,
            };
            add(&mut header, &[kind, 0]);
        }
        Protocol::Tcp | Protocol::Udp => {
            add(&mut header, &packet.source_port.to_be_bytes());
            add(&mut header, &packet.destination_port.to_be_bytes());
            if packet.protocol == Protocol::Tcp {
                const SYN: u8 = 0x02;
                const ACK: u8 = 0x10;
                // Sequence numbers, and how long the header is.
                add_unknown(&mut header, 9);
                add(&mut header, &[if packet.reply { SYN | ACK } else { SYN }]);
            }
        }
    }
    header
}
