//! A firewall: the chains of nftables, their rules as the kernel's own small instructions.

use serde::{Deserialize, Serialize};

use crate::Family;

/// All chains of a namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ruleset {
    /// In the kernel's order.
    pub chains: Vec<Chain>,
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
    /// Asks the routing tables what kind of address the destination is (`fib daddr type`): 2 is one
    /// of the node's own (`RTN_LOCAL`), in the byte order of the machine.
    DestinationType {
        /// Which register.
        register: u32,
    },
    /// Counts packets and bytes; what it has counted is not kept.
    Counter,
    /// Goes on, whatever the packet: a log entry.
    Pass,
    /// Translates an address, and with it all packets of the connection, there and back.
    Nat(NatStep),
    /// Gives the packet the address of the interface that it leaves by.
    Masquerade,
    /// Sends the packet to the node itself.
    Redirect {
        /// The register with the port; `None`: the packet's.
        port: Option<u32>,
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
}

/// Something about a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
