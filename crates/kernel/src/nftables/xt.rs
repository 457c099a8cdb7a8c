//! The extensions of iptables(8) in rules of nftables, as its newer kind writes them (iptables-nft(8)): each is
//! the kernel's own structure (linux/netfilter/xt_*.h), here as the steps that nft(8) would have written.
//! What is not understood keeps its name.

use hopyard_net::{Comparison, Family, Loaded, NatStep, PortChoice, RuleStep, Stored};

use super::decode::{choice_flags, find, number, text};

/// The register that steps use. Each extension fills it before it asks it.
const REGISTER: u32 = 1;
/// The register of a port, and of the last of several.
const SECOND: u32 = 2;
const THIRD: u32 = 3;

/// `enum nft_payload_bases`.
const NETWORK: u32 = 1;
const TRANSPORT: u32 = 2;

/// A structure of the kernel, byte by byte.
struct Info<'a>(&'a [u8]);

impl Info<'_> {
    fn byte(&self, at: usize) -> Option<u8> {
        self.0.get(at).copied()
    }

    fn short(&self, at: usize) -> Option<u16> {
        self.0.get(at..)?.first_chunk().copied().map(u16::from_ne_bytes)
    }

    fn long(&self, at: usize) -> Option<u32> {
        self.0.get(at..)?.first_chunk().copied().map(u32::from_ne_bytes)
    }

    fn bytes(&self, at: usize, length: usize) -> Option<Vec<u8>> {
        self.0.get(at..at + length).map(<[u8]>::to_vec)
    }
}

/// Name, revision and structure.
fn parts(data: &[u8]) -> (String, u32, Info<'_>) {
    let name = find(data, 1).map(text).unwrap_or_default();
    (name, find(data, 2).and_then(number).unwrap_or_default(), Info(find(data, 3).unwrap_or_default()))
}

fn family_of(name: &str) -> Option<Family> {
    match name {
        "ip" => Some(Family::Ipv4),
        "ip6" => Some(Family::Ipv6),
        _ => None,
    }
}

/// `-m NAME`.
pub(super) fn of_match(data: &[u8], family: &str) -> Vec<RuleStep> {
    let (name, revision, info) = parts(data);
    let read = match (name.as_str(), revision) {
        ("conntrack", 1..=3) => connection(&info, revision),
        ("state", 0) => info.long(0).map(states),
        ("addrtype", 1) => address_type(&info),
        ("multiport", 1) => several_ports(&info),
        ("tcp", 0) => tcp(&info),
        ("udp", 0) => udp(&info),
        ("icmp" | "icmp6", 0) => icmp(&info),
        ("pkttype", 0) => packet_type(&info),
        ("iprange", 1) => address_range(&info, family),
        ("mark", 1) => mark(&info, Loaded::Mark),
        ("connmark", 1) => mark(&info, Loaded::ConnectionMark),
        ("comment", _) => Some(vec![RuleStep::Pass]),
        _ => None,
    };
    // An extension of this kind decides nothing but whether the rule goes on.
    read.unwrap_or_else(|| vec![RuleStep::Depends(format!("-m {name}"))])
}

/// `-j NAME`.
pub(super) fn of_target(data: &[u8], family: &str) -> Vec<RuleStep> {
    let (name, revision, info) = parts(data);
    let read = match (name.as_str(), revision) {
        // What they change decides about no packet here.
        ("LOG" | "NFLOG" | "ULOG" | "AUDIT" | "TCPMSS" | "CHECKSUM" | "CLASSIFY" | "DSCP" | "TOS" | "TRACE", _) => {
            Some(vec![RuleStep::Pass])
        }
        ("REJECT", 0) => {
            let tcp_reset = if family == "ip" { 7 } else { 6 };
            info.long(0).map(|with| vec![RuleStep::Reject { reset: with == tcp_reset, with: None }])
        }
        ("MARK", 2) => set_mark(&info),
        ("CONNMARK", 1 | 2) => connection_mark(&info),
        ("MASQUERADE", 0) => {
            let target = match family_of(family) {
                Some(Family::Ipv4) => Target::read(&info, 4, 4, 4),
                _ => Target::read(&info, 0, 16, 16),
            };
            target.map(|target| match target.ports() {
                (steps, None, choice) if choice.is_plain() => steps.into_iter().chain([RuleStep::Masquerade]).collect(),
                (mut steps, port, choice) => {
                    steps.push(RuleStep::MasqueradePorts { port, choice });
                    steps
                }
            })
        }
        ("SNAT" | "DNAT", _) => translation(&info, name == "DNAT", revision, family),
        ("REDIRECT", 0) if family == "ip" => redirect(&info),
        _ => None,
    };
    read.unwrap_or_else(|| vec![RuleStep::Unknown(format!("-j {name}"))])
}

fn compare(what: Loaded, mask: Vec<u8>, how: Comparison, with: Vec<u8>) -> Vec<RuleStep> {
    let xor = vec![0; mask.len()];
    vec![
        RuleStep::Load { register: REGISTER, what },
        RuleStep::Bitwise { from: REGISTER, to: REGISTER, mask, xor },
        RuleStep::Compare { register: REGISTER, how, with },
    ]
}

/// Any of these bits, of which nftables has the same.
fn states(mask: u32) -> Vec<RuleStep> {
    compare(Loaded::ConnectionState, mask.to_ne_bytes().to_vec(), Comparison::Unequal, vec![0; 4])
}

/// `struct xt_conntrack_mtinfo1` to `3`: addresses and masks, of which only the state is understood.
fn connection(info: &Info<'_>, revision: u32) -> Option<Vec<RuleStep>> {
    const FLAGS: usize = 8 * 16 + 8 + 2 + 8;
    const STATE: u16 = 1;
    /// `XT_CONNTRACK_STATE_ALIAS`: it was written as `-m state`.
    const ALIAS: u16 = 1 << 13;
    /// Those that nftables has in another place, or not at all.
    const TRANSLATED: u16 = 0b1100_0000;
    const UNTRACKED: u16 = 1 << 8;
    const NFT_UNTRACKED: u32 = 1 << 6;
    let (wanted, inverted) = (info.short(FLAGS)?, info.short(FLAGS + 2)?);
    let mask = if revision == 1 { info.byte(FLAGS + 4)?.into() } else { info.short(FLAGS + 4)? };
    if wanted & !ALIAS != STATE || mask & TRANSLATED != 0 {
        return None;
    }
    let untracked = if mask & UNTRACKED == 0 { 0 } else { NFT_UNTRACKED };
    let mask = u32::from(mask & !UNTRACKED) | untracked;
    let how = if inverted & STATE == 0 { Comparison::Unequal } else { Comparison::Equal };
    Some(compare(Loaded::ConnectionState, mask.to_ne_bytes().to_vec(), how, vec![0; 4]))
}

/// `struct xt_addrtype_info_v1`, of one of both addresses and one kind.
fn address_type(info: &Info<'_>) -> Option<Vec<RuleStep>> {
    let (source, destination, flags) = (info.short(0)?, info.short(2)?, info.long(4)?);
    let (load, mask, inverted) = match (source, destination, flags) {
        (0, mask, 0 | 2) => (RuleStep::DestinationType { register: REGISTER }, mask, flags == 2),
        (mask, 0, 0 | 1) => (RuleStep::SourceType { register: REGISTER }, mask, flags == 1),
        _ => return None,
    };
    // Bit and number of a kind are the same.
    let one = |kind: u32| (kind.to_ne_bytes().to_vec(), kind.to_ne_bytes().to_vec());
    let ranges = (0..16).filter(|kind| mask & (1 << kind) != 0).map(one).collect();
    Some(vec![load, RuleStep::Range { register: REGISTER, ranges, inverted }])
}

fn ports(offset: u32, ranges: Vec<(u16, u16)>, inverted: bool) -> Vec<RuleStep> {
    let bytes = |(first, last): (u16, u16)| (first.to_be_bytes().to_vec(), last.to_be_bytes().to_vec());
    vec![
        RuleStep::Payload { register: REGISTER, base: TRANSPORT, offset, length: 2 },
        RuleStep::Range { register: REGISTER, ranges: ranges.into_iter().map(bytes).collect(), inverted },
    ]
}

/// `struct xt_multiport_v1`. Where a flag is set, the port begins a range that the next one ends.
fn several_ports(info: &Info<'_>) -> Option<Vec<RuleStep>> {
    const MOST: usize = 15;
    let (which, count) = (info.byte(0)?, usize::from(info.byte(1)?));
    let mut ranges = Vec::new();
    let mut at = 0;
    while at < count.min(MOST) {
        let first = info.short(2 + 2 * at)?;
        let is_range = info.byte(2 + 2 * MOST + at)? != 0;
        at += usize::from(is_range);
        ranges.push((first, info.short(2 + 2 * at)?));
        at += 1;
    }
    let inverted = info.byte(2 + 3 * MOST)? != 0;
    match which {
        0 => Some(ports(0, ranges, inverted)),
        1 => Some(ports(2, ranges, inverted)),
        // Either of both.
        _ => None,
    }
}

/// `struct xt_tcp`.
fn tcp(info: &Info<'_>) -> Option<Vec<RuleStep>> {
    const FLAGS: u32 = 13;
    let invert = info.byte(11)?;
    // An option.
    if info.byte(8)? != 0 {
        return None;
    }
    let mut steps = ports(0, vec![(info.short(0)?, info.short(2)?)], invert & 1 != 0);
    steps.extend(ports(2, vec![(info.short(4)?, info.short(6)?)], invert & 2 != 0));
    let (mask, with) = (info.byte(9)?, info.byte(10)?);
    let how = if invert & 4 == 0 { Comparison::Equal } else { Comparison::Unequal };
    steps.extend([
        RuleStep::Payload { register: REGISTER, base: TRANSPORT, offset: FLAGS, length: 1 },
        RuleStep::Bitwise { from: REGISTER, to: REGISTER, mask: vec![mask], xor: vec![0] },
        RuleStep::Compare { register: REGISTER, how, with: vec![with] },
    ]);
    Some(steps)
}

/// `struct xt_udp`.
fn udp(info: &Info<'_>) -> Option<Vec<RuleStep>> {
    let invert = info.byte(8)?;
    let mut steps = ports(0, vec![(info.short(0)?, info.short(2)?)], invert & 1 != 0);
    steps.extend(ports(2, vec![(info.short(4)?, info.short(6)?)], invert & 2 != 0));
    Some(steps)
}

/// `struct ipt_icmp` and `struct ip6t_icmp`: a kind, and codes from one to another.
fn icmp(info: &Info<'_>) -> Option<Vec<RuleStep>> {
    const ANY: u8 = 0xff;
    let (kind, first, last, inverted) = (info.byte(0)?, info.byte(1)?, info.byte(2)?, info.byte(3)? & 1 != 0);
    let any_code = (first, last) == (0, ANY);
    if inverted && !any_code {
        return None;
    }
    let byte = |offset, range: (u8, u8)| {
        [
            RuleStep::Payload { register: REGISTER, base: TRANSPORT, offset, length: 1 },
            RuleStep::Range { register: REGISTER, ranges: vec![(vec![range.0], vec![range.1])], inverted },
        ]
    };
    let mut steps = Vec::new();
    if kind != ANY {
        steps.extend(byte(0, (kind, kind)));
    }
    if !any_code {
        steps.extend(byte(1, (first, last)));
    }
    Some(steps)
}

/// `struct xt_pkttype_info`.
fn packet_type(info: &Info<'_>) -> Option<Vec<RuleStep>> {
    let kind = vec![u8::try_from(info.long(0)?).ok()?];
    let how = if info.long(4)? == 0 { Comparison::Equal } else { Comparison::Unequal };
    Some(vec![
        RuleStep::Load { register: REGISTER, what: Loaded::PacketType },
        RuleStep::Compare { register: REGISTER, how, with: kind },
    ])
}

/// `struct xt_iprange_mtinfo`.
fn address_range(info: &Info<'_>, family: &str) -> Option<Vec<RuleStep>> {
    let (length, source, destination) = match family_of(family)? {
        Family::Ipv4 => (4, 12, 16),
        Family::Ipv6 => (16, 8, 24),
    };
    let flags = info.byte(64)?;
    let mut steps = Vec::new();
    for (wanted, inverted, at, offset) in [(1, 16, 0, source), (2, 32, 32, destination)] {
        if flags & wanted != 0 {
            let width = u32::try_from(length).ok()?;
            let ranges = vec![(info.bytes(at, length)?, info.bytes(at + 16, length)?)];
            steps.push(RuleStep::Payload { register: REGISTER, base: NETWORK, offset, length: width });
            steps.push(RuleStep::Range { register: REGISTER, ranges, inverted: flags & inverted != 0 });
        }
    }
    Some(steps)
}

/// `struct xt_mark_mtinfo1`, `struct xt_connmark_mtinfo1`.
fn mark(info: &Info<'_>, what: Loaded) -> Option<Vec<RuleStep>> {
    let how = if info.byte(8)? == 0 { Comparison::Equal } else { Comparison::Unequal };
    Some(compare(what, info.bytes(4, 4)?, how, info.bytes(0, 4)?))
}

/// `struct xt_mark_tginfo2`.
fn set_mark(info: &Info<'_>) -> Option<Vec<RuleStep>> {
    let stays = !info.long(4)?;
    Some(vec![
        RuleStep::Load { register: REGISTER, what: Loaded::Mark },
        RuleStep::Bitwise { from: REGISTER, to: REGISTER, mask: stays.to_ne_bytes().to_vec(), xor: info.bytes(0, 4)? },
        RuleStep::Store { register: REGISTER, what: Stored::Mark },
    ])
}

/// `struct xt_connmark_tginfo1`, without its masks: what a connection was marked with is not known anyway.
fn connection_mark(info: &Info<'_>) -> Option<Vec<RuleStep>> {
    /// `XT_CONNMARK_RESTORE`.
    const RESTORE: u8 = 2;
    let restores = info.byte(12)? == RESTORE;
    let (from, to) =
        if restores { (Loaded::ConnectionMark, Stored::Mark) } else { (Loaded::Mark, Stored::ConnectionMark) };
    let load = RuleStep::Load { register: REGISTER, what: from };
    Some(vec![load, RuleStep::Store { register: REGISTER, what: to }])
}

/// Addresses and ports from one to another; of a range of addresses the kernel chooses one.
struct Target {
    address: Option<Vec<u8>>,
    port: Option<Vec<u8>>,
    last_port: Option<Vec<u8>>,
    flags: u32,
}

/// `NF_NAT_RANGE_MAP_IPS`, `NF_NAT_RANGE_PROTO_SPECIFIED`.
const ADDRESS: u32 = 1;
const PORT: u32 = 2;

impl Target {
    fn read(info: &Info<'_>, at: usize, length: usize, stride: usize) -> Option<Self> {
        let flags = info.long(at)?;
        let ports = at + 4 + 2 * stride;
        let address = (info.bytes(at + 4, length)?, info.bytes(at + 4 + stride, length)?);
        let port = (info.bytes(ports, 2)?, info.bytes(ports + 2, 2)?);
        if flags & ADDRESS != 0 && address.0 != address.1 {
            return None;
        }
        Some(Target {
            address: (flags & ADDRESS != 0).then_some(address.0),
            last_port: (flags & PORT != 0 && port.0 != port.1).then_some(port.1),
            port: (flags & PORT != 0).then_some(port.0),
            flags: choice_flags(flags)?,
        })
    }

    /// The steps that put the ports into registers, the register of the first, and how one is chosen.
    fn ports(self) -> (Vec<RuleStep>, Option<u32>, PortChoice) {
        let choice = PortChoice { last: self.last_port.as_ref().map(|_| THIRD), flags: self.flags };
        let port = self.port.as_ref().map(|_| SECOND);
        let constant =
            |(register, value): (u32, Option<Vec<u8>>)| Some(RuleStep::Immediate { register, value: value? });
        let steps = [(SECOND, self.port), (THIRD, self.last_port)].into_iter().filter_map(constant);
        (steps.collect(), port, choice)
    }
}

/// `struct nf_nat_ipv4_multi_range_compat` of one range, or `struct nf_nat_range`.
fn translation(info: &Info<'_>, destination: bool, revision: u32, family: &str) -> Option<Vec<RuleStep>> {
    let family = family_of(family)?;
    let target = match (family, revision) {
        (Family::Ipv4, 0) => Target::read(info, 4, 4, 4)?,
        (Family::Ipv4, 1 | 2) => Target::read(info, 0, 4, 16)?,
        (Family::Ipv6, 1 | 2) => Target::read(info, 0, 16, 16)?,
        _ => return None,
    };
    let address = target.address.clone();
    let register = address.as_ref().map(|_| REGISTER);
    let (ports, port, choice) = target.ports();
    let nat = NatStep { destination, family, address: register, port, choice };
    let constant = address.map(|value| RuleStep::Immediate { register: REGISTER, value });
    Some(constant.into_iter().chain(ports).chain([RuleStep::Nat(nat)]).collect())
}

fn redirect(info: &Info<'_>) -> Option<Vec<RuleStep>> {
    let (mut steps, port, choice) = Target::read(info, 4, 4, 4)?.ports();
    steps.push(RuleStep::Redirect { port, choice });
    Some(steps)
}
