//! A firewall: the chains and sets of nftables, their rules as the kernel's own small instructions.

mod text;

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::Family;

/// All chains of a namespace, and the sets that their rules ask.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ruleset {
    /// In the kernel's order.
    pub chains: Vec<Chain>,
    /// In the kernel's order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sets: Vec<Set>,
}

impl Ruleset {
    /// A chain by its name.
    pub fn chain(&self, family: &str, table: &str, name: &str) -> Option<&Chain> {
        self.chains.iter().find(|it| it.name == name && it.table == table && it.family == family)
    }

    /// A set by its name.
    pub fn set(&self, family: &str, table: &str, name: &str) -> Option<&Set> {
        self.sets.iter().find(|it| it.name == name && it.table == table && it.family == family)
    }
}

/// A chain and its rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    /// The kind of packets: `ip`, `ip6`, `inet`, `arp`, `bridge`, `netdev`.
    pub family: String,
    /// The table that it is in.
    pub table: String,
    /// Its name.
    pub name: String,
    /// Where packets come to it; `None`: from other chains only.
    pub base: Option<BaseChain>,
    /// Its rules in order.
    pub rules: Vec<Rule>,
}

/// Where packets come to a chain from outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseChain {
    /// The place.
    pub hook: Hook,
    /// Less comes earlier.
    pub priority: i32,
    /// Is a packet dropped that no rule decides about?
    pub drops: bool,
    /// `filter`, `nat` or `route`.
    pub kind: String,
    /// The interfaces that it is about, of a chain at interfaces; a `*` at the end stands for any rest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<String>,
}

impl BaseChain {
    /// Is it about an interface?
    pub fn is_at(&self, dev: &str) -> bool {
        self.devices.iter().any(|it| match it.strip_suffix('*') {
            Some(start) => dev.starts_with(start),
            None => it == dev,
        })
    }
}

/// A place on a packet's way through a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hook {
    /// As it comes in.
    Prerouting,
    /// When it is for the node itself.
    Input,
    /// When it is for others.
    Forward,
    /// When it is of the node itself.
    Output,
    /// As it goes out.
    Postrouting,
    /// At the interface, before all else.
    Ingress,
    /// At the interface, behind all else.
    Egress,
}

impl Hook {
    /// As nft(8) writes it.
    pub fn name(self) -> &'static str {
        match self {
            Hook::Prerouting => "prerouting",
            Hook::Input => "input",
            Hook::Forward => "forward",
            Hook::Output => "output",
            Hook::Postrouting => "postrouting",
            Hook::Ingress => "ingress",
            Hook::Egress => "egress",
        }
    }
}

/// A set: keys, each of which may have a value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Set {
    /// The family of the table that it is in.
    pub family: String,
    /// The table.
    pub table: String,
    /// Its name; of one that stands in a rule, the kernel has made it up.
    pub name: String,
    /// Does it stand in a rule?
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub anonymous: bool,
    /// Do elements say where intervals begin and end?
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub intervals: bool,
    /// Do packets add elements?
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dynamic: bool,
    /// The lengths of the parts of a key, in bytes: more than one of a concatenation. In a key, each part
    /// begins at a multiple of four bytes.
    pub parts: Vec<u32>,
    /// The length of a value in bytes; 0: there is none, or it is a verdict.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub value_bytes: u32,
    /// In the kernel's order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub elements: Vec<Element>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde wants it")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// An element of a set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Element {
    /// Its key; `None`: it is what is found where no other is (`*`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Vec<u8>>,
    /// The last key of its interval, of a concatenation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Vec<u8>>,
    /// It is the first key behind the interval that begins before it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ends: bool,
    /// What belongs to the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<ElementValue>,
    /// It is gone after so many milliseconds; `None`: it stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<u64>,
    /// What it makes depend on what has passed before (`limit`, `quota`), by the kernel's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub depends_on: Option<String>,
}

/// What belongs to a key of a map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ElementValue {
    /// Bytes for registers.
    Bytes(Vec<u8>),
    /// What to do with the packet.
    Verdict(RuleVerdict),
    /// Something that is not understood.
    Unknown(String),
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// The number by which nft(8) names it.
    pub handle: u64,
    /// What it does, step by step; the first step that does not hold ends it.
    pub steps: Vec<RuleStep>,
}

/// One instruction of a rule. Registers are numbered as the kernel does: bytes, in units of four.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RuleStep {
    /// Puts something about the packet into a register.
    Load {
        /// Which register.
        register: u32,
        /// What.
        what: Loaded,
    },
    /// Puts bytes of a header into a register.
    Payload {
        /// Which register.
        register: u32,
        /// 0 link layer, 1 network layer, 2 transport layer.
        base: u32,
        /// From that byte on,
        offset: u32,
        /// so many.
        length: u32,
    },
    /// `register = register & mask ^ xor`.
    Bitwise {
        /// From that register
        from: u32,
        /// to that one.
        to: u32,
        /// The bits that stay.
        mask: Vec<u8>,
        /// The bits that are turned.
        xor: Vec<u8>,
    },
    /// Goes on if a register compares so.
    Compare {
        /// Which register.
        register: u32,
        /// How.
        how: Comparison,
        /// With what.
        with: Vec<u8>,
    },
    /// Puts a constant into a register.
    Immediate {
        /// Which register.
        register: u32,
        /// Its bytes.
        value: Vec<u8>,
    },
    /// Goes on if a register lies within one of some ranges, of which both ends count.
    Range {
        /// Which register.
        register: u32,
        /// The least and the greatest.
        ranges: Vec<(Vec<u8>, Vec<u8>)>,
        /// Goes on if it lies in none.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        inverted: bool,
    },
    /// Goes on if registers are a key of a set.
    Lookup {
        /// The first register of the key.
        register: u32,
        /// The set, of the same table.
        set: String,
        /// Goes on if they are none.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        inverted: bool,
        /// The register that gets what belongs to the key; 0: it is a verdict, and decides.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<u32>,
    },
    /// Turns numbers between the byte order of the machine and that of the network.
    ByteOrder {
        /// From that register
        from: u32,
        /// to that one.
        to: u32,
        /// The bytes of one number.
        size: u32,
        /// All bytes.
        length: u32,
    },
    /// Asks the routing tables what kind of address the destination is (`fib daddr type`): 2 is one
    /// of the node's own (`RTN_LOCAL`), in the byte order of the machine.
    DestinationType {
        /// Which register.
        register: u32,
    },
    /// The same of the source.
    SourceType {
        /// Which register.
        register: u32,
    },
    /// Asks the routing tables for the way back to the source (`fib saddr oif`).
    WayBack {
        /// The register that gets 1 or 0.
        register: u32,
        /// Only by the interface that the packet came in by.
        by_input: bool,
    },
    /// Sets something of the packet or its connection from a register.
    Store {
        /// Which register.
        register: u32,
        /// What.
        what: Stored,
    },
    /// The packet belongs to no connection from here on.
    NoTrack,
    /// Goes on or not, depending on what has passed before (`limit`, `quota`, `connlimit`), by the kernel's name.
    Depends(String),
    /// Counts packets and bytes; what it has counted is not kept.
    Counter,
    /// Goes on, whatever the packet: a log entry.
    Pass,
    /// Translates an address, and with it all packets of the connection, there and back.
    Nat(NatStep),
    /// Gives the packet the address of the interface that it leaves by.
    Masquerade,
    /// The same, with a say in which port it gets.
    MasqueradePorts {
        /// The register with the port; `None`: the packet's, where that is free.
        port: Option<u32>,
        /// Which of several.
        choice: PortChoice,
    },
    /// Sends the packet to the node itself.
    Redirect {
        /// The register with the port; `None`: the packet's.
        port: Option<u32>,
        /// Which of several.
        #[serde(default, skip_serializing_if = "PortChoice::is_plain")]
        choice: PortChoice,
    },
    /// Hands the packet to a local socket as it is (`tproxy`).
    TransparentProxy {
        /// Of which kind of packets; `None`: both.
        family: Option<Family>,
        /// The register with the address of the socket.
        address: Option<u32>,
        /// The register with its port.
        port: Option<u32>,
    },
    /// Drops the packet and answers.
    Reject {
        /// By a TCP reset; else by ICMP.
        reset: bool,
        /// By which ICMP error, as nft(8) writes it; `None`: that for a port where nobody listens.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        with: Option<String>,
    },
    /// Decides.
    Verdict(RuleVerdict),
    /// Something that is not understood, by the kernel's name for it.
    Unknown(String),
}

/// A translation of addresses, of which each is in registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NatStep {
    /// Of the destination; else of the source.
    pub destination: bool,
    /// Of which kind of packets.
    pub family: Family,
    /// The register with the new address; `None`: the address stays.
    pub address: Option<u32>,
    /// The register with the new port; `None`: the port stays, where that is free.
    pub port: Option<u32>,
    /// Which of several ports.
    #[serde(default, skip_serializing_if = "PortChoice::is_plain")]
    pub choice: PortChoice,
}

/// How the kernel chooses the port that a translation gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortChoice {
    /// The register with the last port of a range; `None`: it is one port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<u32>,
    /// [`RANDOM`](Self::RANDOM) and the others, as bits.
    #[serde(default)]
    pub flags: u32,
}

impl PortChoice {
    /// `NF_NAT_RANGE_PROTO_RANDOM` of linux/netfilter/nf_nat.h: not the packet's own port, even where that is free.
    pub const RANDOM: u32 = 4;
    /// `NF_NAT_RANGE_PERSISTENT`: the same address for all connections of a client.
    pub const PERSISTENT: u32 = 8;
    /// `NF_NAT_RANGE_PROTO_RANDOM_FULLY`.
    pub const FULLY_RANDOM: u32 = 16;

    /// Nothing is said of it.
    pub fn is_plain(&self) -> bool {
        *self == PortChoice::default()
    }

    /// Is the packet's own port not preferred?
    pub fn is_random(&self) -> bool {
        self.flags & (Self::RANDOM | Self::FULLY_RANDOM) != 0
    }
}

/// What a rule sets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stored {
    /// The packet's mark.
    Mark,
    /// The mark of its connection.
    ConnectionMark,
    /// What decides about no packet, as nft(8) writes it: `meta nftrace`, `meta priority`.
    Other(String),
}

/// Something about a packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loaded {
    /// The protocol of the transport layer.
    Layer4Protocol,
    /// 2 for IPv4, 10 for IPv6.
    NetworkFamily,
    /// The number of the interface that it came in by.
    InputIndex,
    /// The number of the interface that it goes out by.
    OutputIndex,
    /// The name of the interface that it came in by.
    InputName,
    /// The name of the interface that it goes out by.
    OutputName,
    /// The state of its connection: 2 established, 4 related, 8 new, as bits.
    ConnectionState,
    /// Its mark.
    Mark,
    /// The protocol of the network layer, as the Ethernet header has it.
    EtherType,
    /// Its length in bytes, from the IP header on.
    Length,
    /// To whom its frame goes: 0 to the interface, 1 to all, 2 to a group, 3 to another one.
    PacketType,
    /// The kind of hardware of the interface that it came in by: 1 Ethernet, 772 `lo`.
    InputType,
    /// The same of the one that it goes out by.
    OutputType,
    /// What the interface that it came in by is, as ip-link(8) names it: `veth`, `bridge`.
    InputKind,
    /// The same of the one that it goes out by.
    OutputKind,
    /// The bridge of the port that it came in by.
    BridgeInputName,
    /// The bridge of the port that it goes out by.
    BridgeOutputName,
    /// The mark of its connection.
    ConnectionMark,
    /// The direction of the packet in its connection: 0 as the first one, 1 as its answer.
    ConnectionDirection,
    /// What became of its connection, as bits: 16 its source is translated, 32 its destination.
    ConnectionStatus,
    /// A part that no packet of ours has: an extension header, an option.
    Extension {
        /// As nft(8) writes it.
        name: String,
        /// Only whether it is there: 1 or 0. Else who asks for one that is not there goes on no further.
        asked: bool,
    },
    /// Something that nobody knows beforehand, or that is not followed, as nft(8) writes it.
    Other(String),
}

/// How two values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Comparison {
    /// `==`
    Equal,
    /// `!=`
    Unequal,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

impl RuleStep {
    /// Goes on if the first register, which rules that look at one thing after the other use, has these bytes.
    pub fn equal(with: Vec<u8>) -> Self {
        RuleStep::Compare { register: 1, how: Comparison::Equal, with }
    }

    /// An address as it is in a register.
    pub fn octets(addr: IpAddr) -> Vec<u8> {
        match addr {
            IpAddr::V4(addr) => addr.octets().to_vec(),
            IpAddr::V6(addr) => addr.octets().to_vec(),
        }
    }
}

/// What a rule decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RuleVerdict {
    /// On to the next base chain.
    Accept,
    /// The end of the packet.
    Drop,
    /// On to the next rule.
    Continue,
    /// Back to the chain that jumped here.
    Return,
    /// To a chain, and back behind its end.
    Jump(String),
    /// To a chain.
    Goto(String),
}
