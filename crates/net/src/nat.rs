//! Translation of addresses: what the one table has that is ours, `table inet hopyard`, and the rules of
//! nftables that it is made of.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{
    BaseChain, Chain, Family, Hook, IfName, Loaded, NatStep, PortChoice, Rule, RuleStep, RuleVerdict, Transport,
};

/// What a namespace translates.
///
/// In a canonical order, so that equal means equal: destinations before sources, of each the more
/// particular rule first, because the first one that fits a connection decides.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Nat {
    /// The rules, in order.
    pub rules: Vec<NatRule>,
    /// The table was found with something in it that is none of these. Never wanted.
    pub foreign: bool,
}

/// A translation of one direction; the answers of a connection are translated back by the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NatRule {
    /// What goes to one address goes to another.
    Destination {
        /// To what it goes; `None`: to any address of the node itself.
        address: Option<IpAddr>,
        /// To which port; `None`: to all, and what has no ports as well.
        service: Option<Service>,
        /// Where it goes instead.
        to: IpAddr,
        /// To which port; `None`: to the same.
        port: Option<u16>,
    },
    /// What leaves has another source.
    Source {
        /// By which interface.
        out: IfName,
        /// From where; `None`: whatever the source.
        from: Option<IpNet>,
        /// The new source.
        to: IpAddr,
    },
    /// What leaves has the address of the interface as its source.
    Masquerade {
        /// By which interface.
        out: IfName,
        /// From where; `None`: whatever the source.
        from: Option<IpNet>,
    },
}

/// A port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Service {
    /// TCP or UDP.
    pub transport: Transport,
    /// The number.
    pub port: u16,
}

impl Nat {
    /// The name of the table, of the family `inet`.
    pub const TABLE: &'static str = "hopyard";
    /// `NF_IP_PRI_NAT_DST` and `NF_IP_PRI_NAT_SRC`, which nft(8) names `dstnat` and `srcnat`.
    const PRIORITIES: [(Hook, i32); 3] = [(Hook::Prerouting, -100), (Hook::Output, -100), (Hook::Postrouting, 100)];

    /// Rules in their order, each once.
    pub fn new(mut rules: Vec<NatRule>) -> Self {
        rules.sort_by(|a, b| a.rank().cmp(&b.rank()).then_with(|| a.cmp(b)));
        rules.dedup();
        Nat { rules, foreign: false }
    }

    /// The chains of the table: those that have a rule.
    pub fn chains(&self) -> Vec<Chain> {
        let chain = |(hook, priority): (Hook, i32)| Chain {
            family: "inet".to_owned(),
            table: Self::TABLE.to_owned(),
            name: hook.name().to_owned(),
            base: Some(BaseChain { hook, priority, drops: false, kind: "nat".to_owned(), devices: Vec::new() }),
            rules: self.of(hook).map(|rule| Rule { handle: 0, steps: rule.steps() }).collect(),
        };
        Self::PRIORITIES.into_iter().map(chain).filter(|chain| !chain.rules.is_empty()).collect()
    }

    /// What the chains of the table mean, as they were found.
    pub fn of_chains(found: &[Chain]) -> Self {
        let steps = found
            .iter()
            .filter(|chain| chain.name != Hook::Output.name())
            .flat_map(|chain| chain.rules.iter().map(|rule| &rule.steps));
        let nat = Nat::new(steps.filter_map(|steps| NatRule::of_steps(steps)).collect());
        let bare = |chains: &[Chain]| {
            let mut chains = chains.to_vec();
            chains.iter_mut().flat_map(|chain| &mut chain.rules).for_each(|rule| rule.handle = 0);
            chains.sort_by(|a, b| a.name.cmp(&b.name));
            chains
        };
        // Whatever was not understood, is elsewhere or in another order is missing here.
        let foreign = bare(found) != bare(&nat.chains());
        Nat { foreign, ..nat }
    }

    fn of(&self, hook: Hook) -> impl Iterator<Item = &NatRule> {
        self.rules.iter().filter(move |rule| rule.is_at(hook))
    }
}

impl fmt::Display for Nat {
    /// The table in the words of nft(8), on one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "table inet {} {{", Self::TABLE)?;
        for (hook, priority) in Self::PRIORITIES {
            let mut rules = self.of(hook).peekable();
            if rules.peek().is_none() {
                continue;
            }
            let name = hook.name();
            write!(f, " chain {name} {{ type nat hook {name} priority {priority};")?;
            rules.try_for_each(|rule| write!(f, " {rule};"))?;
            f.write_str(" };")?;
        }
        f.write_str(" }")
    }
}

impl fmt::Display for NatRule {
    /// The rule in the words of nft(8).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NatRule::Destination { address, service, to, port } => {
                match address {
                    Some(address) => write!(f, "{} daddr {address}", family_word(*address))?,
                    None => f.write_str("fib daddr type local")?,
                }
                if let Some(Service { transport, port }) = service {
                    write!(f, " {transport} dport {port}")?;
                }
                write!(f, " dnat {} to ", family_word(*to))?;
                match (to, port) {
                    (to, None) => write!(f, "{to}"),
                    (IpAddr::V4(to), Some(port)) => write!(f, "{to}:{port}"),
                    (IpAddr::V6(to), Some(port)) => write!(f, "[{to}]:{port}"),
                }
            }
            NatRule::Source { out, from, to } => {
                write_leaving(f, *out, *from)?;
                write!(f, " snat {} to {to}", family_word(*to))
            }
            NatRule::Masquerade { out, from } => {
                write_leaving(f, *out, *from)?;
                f.write_str(" masquerade")
            }
        }
    }
}

fn write_leaving(f: &mut fmt::Formatter<'_>, out: IfName, from: Option<IpNet>) -> fmt::Result {
    write!(f, "oifname \"{out}\"")?;
    match from {
        Some(net) if net.prefix_len() == net.max_prefix_len() => {
            write!(f, " {} saddr {}", family_word(net.addr()), net.addr())
        }
        Some(net) => write!(f, " {} saddr {net}", family_word(net.addr())),
        None => Ok(()),
    }
}

fn family_word(addr: IpAddr) -> &'static str {
    if addr.is_ipv4() { "ip" } else { "ip6" }
}

/// `ip saddr FROM masquerade`, as instructions: what comes from there has the address of whatever interface it
/// leaves by.
pub fn masquerade_from(from: IpNet) -> Vec<RuleStep> {
    let mut steps = Vec::new();
    match_prefix(from, false, &mut steps);
    steps.push(RuleStep::Masquerade);
    steps
}

/// `oifname OUT ct state ! established,related ct status ! dnat drop`, as instructions: what goes out by that interface is an
/// answer, or somebody has a destination translated to what is behind it.
pub fn drop_unasked(out: IfName) -> Vec<RuleStep> {
    /// linux/netfilter/nf_conntrack_common.h
    const ESTABLISHED_OR_RELATED: u32 = 0b110;
    const DESTINATION_IS_TRANSLATED: u32 = 1 << 5;
    let mut steps = Vec::new();
    match_leaving(out, None, &mut steps);
    for (what, bits) in
        [(Loaded::ConnectionState, ESTABLISHED_OR_RELATED), (Loaded::ConnectionStatus, DESTINATION_IS_TRANSLATED)]
    {
        let none = 0_u32.to_ne_bytes().to_vec();
        let mask = bits.to_ne_bytes().to_vec();
        steps.push(RuleStep::Load { register: 1, what });
        steps.push(RuleStep::Bitwise { from: 1, to: 1, mask, xor: none.clone() });
        steps.push(RuleStep::equal(none));
    }
    steps.push(RuleStep::Verdict(RuleVerdict::Drop));
    steps
}

/// What is known of the headers (linux/netfilter/nf_tables.h, RFC 791, RFC 8200, RFC 9293).
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
const DESTINATION_PORT: u32 = 2;
/// `RTN_LOCAL`.
const LOCAL: u32 = 2;
/// `IFNAMSIZ`.
const NAME_BYTES: usize = 16;

impl NatRule {
    /// Less is more particular, and comes first.
    fn rank(&self) -> (u8, u8) {
        match self {
            NatRule::Destination { address, service, .. } => match (address, service) {
                (Some(_), Some(_)) => (0, 0),
                (None, Some(_)) => (0, 1),
                (_, None) => (0, 2),
            },
            NatRule::Source { from, .. } => (1, shortness(*from)),
            NatRule::Masquerade { from, .. } => (2, shortness(*from)),
        }
    }

    fn is_at(&self, hook: Hook) -> bool {
        match self {
            NatRule::Destination { address, .. } => {
                // Not what the node sends to itself: nothing could answer 127.0.0.1 from elsewhere.
                hook == Hook::Prerouting || hook == Hook::Output && address.is_some()
            }
            NatRule::Source { .. } | NatRule::Masquerade { .. } => hook == Hook::Postrouting,
        }
    }

    /// The kernel's instructions, as nft(8) makes them of the same rule.
    pub fn steps(&self) -> Vec<RuleStep> {
        let mut steps = Vec::new();
        match self {
            NatRule::Destination { address, service, to, port } => {
                if let Some(address) = address {
                    match_prefix(IpNet::from(*address), true, &mut steps);
                } else {
                    steps.push(RuleStep::DestinationType { register: 1 });
                    steps.push(RuleStep::equal(LOCAL.to_ne_bytes().to_vec()));
                }
                if let Some(Service { transport, port }) = service {
                    steps.push(RuleStep::Load { register: 1, what: Loaded::Layer4Protocol });
                    steps.push(RuleStep::equal(vec![transport.number()]));
                    let (base, offset) = (TRANSPORT_HEADER, DESTINATION_PORT);
                    steps.push(RuleStep::Payload { register: 1, base, offset, length: 2 });
                    steps.push(RuleStep::equal(port.to_be_bytes().to_vec()));
                }
                translate(true, *to, *port, &mut steps);
            }
            NatRule::Source { out, from, to } => {
                match_leaving(*out, *from, &mut steps);
                translate(false, *to, None, &mut steps);
            }
            NatRule::Masquerade { out, from } => {
                match_leaving(*out, *from, &mut steps);
                steps.push(RuleStep::Masquerade);
            }
        }
        steps
    }

    /// The rule that has just these steps; `None`: it is none of ours.
    pub fn of_steps(steps: &[RuleStep]) -> Option<Self> {
        let rule = Reader(steps).rule()?;
        (rule.steps() == steps).then_some(rule)
    }
}

/// How many bits of the longest prefix are missing.
fn shortness(from: Option<IpNet>) -> u8 {
    from.map_or(u8::MAX, |net| net.max_prefix_len() - net.prefix_len())
}

/// `NFPROTO_IPV4` and `NFPROTO_IPV6`.
fn family_number(family: Family) -> u8 {
    match family {
        Family::Ipv4 => 2,
        Family::Ipv6 => 10,
    }
}

fn match_leaving(out: IfName, from: Option<IpNet>, steps: &mut Vec<RuleStep>) {
    let mut name = out.as_str().as_bytes().to_vec();
    name.resize(NAME_BYTES, 0);
    steps.push(RuleStep::Load { register: 1, what: Loaded::OutputName });
    steps.push(RuleStep::equal(name));
    if let Some(from) = from {
        match_prefix(from, false, steps);
    }
}

/// Where in the header an address is.
fn offset(family: Family, destination: bool) -> u32 {
    match (family, destination) {
        (Family::Ipv4, false) => 12,
        (Family::Ipv4, true) => 16,
        (Family::Ipv6, false) => 8,
        (Family::Ipv6, true) => 24,
    }
}

fn match_prefix(net: IpNet, destination: bool, steps: &mut Vec<RuleStep>) {
    let family = Family::of(net.addr());
    steps.push(RuleStep::Load { register: 1, what: Loaded::NetworkFamily });
    steps.push(RuleStep::equal(vec![family_number(family)]));
    let mut value = RuleStep::octets(net.network());
    let whole_bytes = net.prefix_len().is_multiple_of(8);
    if whole_bytes {
        value.truncate(usize::from(net.prefix_len() / 8));
    }
    let length = u32::try_from(value.len()).unwrap_or(u32::MAX);
    steps.push(RuleStep::Payload { register: 1, base: NETWORK_HEADER, offset: offset(family, destination), length });
    if !whole_bytes {
        let (mask, xor) = (RuleStep::octets(net.netmask()), vec![0; value.len()]);
        steps.push(RuleStep::Bitwise { from: 1, to: 1, mask, xor });
    }
    steps.push(RuleStep::equal(value));
}

fn translate(destination: bool, to: IpAddr, port: Option<u16>, steps: &mut Vec<RuleStep>) {
    steps.push(RuleStep::Immediate { register: 1, value: RuleStep::octets(to) });
    if let Some(port) = port {
        steps.push(RuleStep::Immediate { register: 2, value: port.to_be_bytes().to_vec() });
    }
    let family = Family::of(to);
    steps.push(RuleStep::Nat(NatStep {
        destination,
        family,
        address: Some(1),
        port: port.map(|_| 2),
        choice: PortChoice::default(),
    }));
}

/// Reads instructions from the first to the last. What it passes over shows when they are made again.
struct Reader<'a>(&'a [RuleStep]);

impl<'a> Reader<'a> {
    fn next(&mut self) -> Option<&'a RuleStep> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    /// What the next comparison compares with.
    fn compared(&mut self) -> Option<&'a [u8]> {
        match self.next()? {
            RuleStep::Compare { with, .. } => Some(with),
            _ => None,
        }
    }

    fn rule(mut self) -> Option<NatRule> {
        match self.next()? {
            RuleStep::Load { what: Loaded::OutputName, .. } => {
                let name = self.compared()?.split(|&byte| byte == 0).next()?;
                let out = std::str::from_utf8(name).ok()?.parse().ok()?;
                let is_from = matches!(self.0.first()?, RuleStep::Load { what: Loaded::NetworkFamily, .. });
                let from = if is_from { Some(self.skip_family()?.prefix()?) } else { None };
                match self.next()? {
                    RuleStep::Masquerade => Some(NatRule::Masquerade { out, from }),
                    RuleStep::Immediate { value, .. } => Some(NatRule::Source { out, from, to: address(value)? }),
                    _ => None,
                }
            }
            RuleStep::Load { what: Loaded::NetworkFamily, .. } => {
                self.compared()?;
                let address = self.prefix()?.addr();
                self.destination(Some(address))
            }
            RuleStep::DestinationType { .. } => {
                self.compared()?;
                self.destination(None)
            }
            _ => None,
        }
    }

    fn skip_family(&mut self) -> Option<&mut Self> {
        self.next()?;
        self.compared()?;
        Some(self)
    }

    /// A prefix that a part of the network header is compared with.
    fn prefix(&mut self) -> Option<IpNet> {
        let RuleStep::Payload { offset, length, .. } = self.next()? else { return None };
        let mut bits = length.checked_mul(8)?;
        if let RuleStep::Bitwise { mask, .. } = self.0.first()? {
            bits = mask.iter().map(|byte| byte.leading_ones()).sum();
            self.next()?;
        }
        let mut value = self.compared()?.to_vec();
        value.resize(if matches!(offset, 12 | 16) { 4 } else { 16 }, 0);
        IpNet::new(address(&value)?, u8::try_from(bits).ok()?).ok()
    }

    fn destination(mut self, address: Option<IpAddr>) -> Option<NatRule> {
        let mut service = None;
        if let RuleStep::Load { what: Loaded::Layer4Protocol, .. } = self.0.first()? {
            self.next()?;
            let transport = match self.compared()? {
                [6] => Transport::Tcp,
                [17] => Transport::Udp,
                _ => return None,
            };
            self.next()?;
            let port = u16::from_be_bytes(self.compared()?.try_into().ok()?);
            service = Some(Service { transport, port });
        }
        let RuleStep::Immediate { value, .. } = self.next()? else { return None };
        let to = self::address(value)?;
        let port = match self.next()? {
            RuleStep::Immediate { value, .. } => Some(u16::from_be_bytes(value.as_slice().try_into().ok()?)),
            _ => None,
        };
        Some(NatRule::Destination { address, service, to, port })
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse<T: std::str::FromStr<Err: fmt::Debug>>(text: &str) -> T {
        text.parse().unwrap()
    }

    fn one_of_each() -> Vec<NatRule> {
        let tcp = |port| Some(Service { transport: Transport::Tcp, port });
        let out = parse("eth1");
        let to = |address: Option<&str>, service, to: &str, port| NatRule::Destination {
            address: address.map(parse),
            service,
            to: parse(to),
            port,
        };
        let masquerade = |from: Option<&str>| NatRule::Masquerade { out, from: from.map(parse) };
        vec![
            masquerade(None),
            masquerade(Some("10.0.0.0/22")),
            masquerade(Some("fd00::/61")),
            NatRule::Source { out, from: None, to: parse("192.0.2.1") },
            NatRule::Source { out, from: Some(parse("10.0.0.0/24")), to: parse("192.0.2.1") },
            NatRule::Source { out, from: Some(parse("fd00::5/128")), to: parse("2001:db8::9") },
            to(Some("192.0.2.7"), None, "10.0.0.7", None),
            to(Some("192.0.2.7"), tcp(80), "10.0.0.7", None),
            to(None, tcp(8080), "10.0.0.7", Some(80)),
            to(Some("2001:db8::7"), tcp(80), "fd00::7", Some(8080)),
        ]
    }

    #[test]
    fn instructions_say_what_the_rule_says() {
        for rule in one_of_each() {
            assert_eq!(NatRule::of_steps(&rule.steps()).as_ref(), Some(&rule), "{rule}");
        }
        let nat = Nat::new(one_of_each());
        assert_eq!(Nat::of_chains(&nat.chains()), nat);
    }

    #[test]
    fn the_more_particular_rule_comes_first() {
        let rules: Vec<String> = Nat::new(one_of_each()).rules.iter().map(ToString::to_string).collect();
        assert_eq!(
            rules,
            [
                "ip daddr 192.0.2.7 tcp dport 80 dnat ip to 10.0.0.7",
                "ip6 daddr 2001:db8::7 tcp dport 80 dnat ip6 to [fd00::7]:8080",
                "fib daddr type local tcp dport 8080 dnat ip to 10.0.0.7:80",
                "ip daddr 192.0.2.7 dnat ip to 10.0.0.7",
                "oifname \"eth1\" ip6 saddr fd00::5 snat ip6 to 2001:db8::9",
                "oifname \"eth1\" ip saddr 10.0.0.0/24 snat ip to 192.0.2.1",
                "oifname \"eth1\" snat ip to 192.0.2.1",
                "oifname \"eth1\" ip saddr 10.0.0.0/22 masquerade",
                "oifname \"eth1\" ip6 saddr fd00::/61 masquerade",
                "oifname \"eth1\" masquerade",
            ]
        );
    }

    #[test]
    fn what_somebody_else_put_into_the_table_is_seen() {
        let nat = Nat::new(one_of_each());
        let mut counted = nat.chains();
        counted[0].rules[0].steps.insert(0, RuleStep::Counter);
        let mut cut = nat.chains();
        cut[2].rules.remove(1);
        cut[0].rules.remove(0);
        let mut turned = nat.chains();
        turned[0].rules.reverse();
        for chains in [counted, cut, turned] {
            assert_ne!(Nat::of_chains(&chains), nat);
        }
        // Cut everywhere alike it is another table of ours.
        let mut less = nat.clone();
        less.rules.remove(0);
        assert!(!Nat::of_chains(&less.chains()).foreign);
    }
}
