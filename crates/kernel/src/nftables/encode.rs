//! Tables, chains and rules as the kernel takes them: one batch, of which all is done or nothing.

use std::fmt;

use hopyard_net::{Chain, Comparison, Family, Hook, Loaded, NatStep, PortChoice, RuleStep, RuleVerdict};

use super::{
    HEADER_BYTES, MAKE, NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END, NFNL_SUBSYS_NFTABLES, NFT_MSG_DELTABLE,
    NFT_MSG_NEWCHAIN, NFT_MSG_NEWRULE, NFT_MSG_NEWTABLE, TABLE_OWNED, family_number,
};
use crate::KernelError;
use crate::error::Refusal;
use crate::netlink::{Batch, Inbox, RtSocket};

/// A table of nftables.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TableName {
    /// The kind of packets: `ip`, `ip6`, `inet`, `arp`, `bridge`, `netdev`.
    pub family: String,
    /// Its name.
    pub name: String,
}

impl TableName {
    /// A table of the family `inet`: IPv4 and IPv6.
    pub fn inet(name: &str) -> Self {
        TableName { family: "inet".to_owned(), name: name.to_owned() }
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.family, self.name)
    }
}

/// Whose a table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Anybody's who has the rights.
    Nobody,
    /// The socket's that makes it (`NFT_TABLE_F_OWNER`, since Linux 5.12): only through it can the table
    /// be changed, and when its last descriptor is closed, however that happens, the table goes.
    Socket,
}

/// Changes that are made together: all of them, or none.
#[derive(Default)]
pub struct Transaction {
    batch: Batch,
    /// What each message is for, in words that fit behind "cannot"; by sequence number, from 1.
    doing: Vec<String>,
}

impl Transaction {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a table, where it is not there yet.
    pub fn add_table(&mut self, table: &TableName, owner: Owner) {
        let mut body = Attributes::of(table);
        body.text(1, &table.name);
        if owner == Owner::Socket {
            body.number(2, TABLE_OWNED);
        }
        self.push(NFT_MSG_NEWTABLE, MAKE, &body, format!("add table {table}"));
    }

    /// Removes a table and all that is in it.
    pub fn delete_table(&mut self, table: &TableName) {
        let mut body = Attributes::of(table);
        body.text(1, &table.name);
        self.push(NFT_MSG_DELTABLE, 0, &body, format!("delete table {table}"));
    }

    /// Removes a table where it is there, and makes it empty. Connections that are being translated
    /// stay as they are.
    pub fn replace_table(&mut self, table: &TableName, owner: Owner) {
        self.add_table(table, owner);
        self.delete_table(table);
        self.add_table(table, owner);
    }

    /// Makes chains with their rules. The tables are there, or made before; a rule may jump to any of the
    /// chains.
    pub fn add_chains(&mut self, chains: &[Chain]) {
        for chain in chains {
            self.add_chain(chain);
        }
        for chain in chains {
            for rule in &chain.rules {
                self.add_rule(chain, &rule.steps, None);
            }
        }
    }

    /// Makes a chain of the families `inet`, `ip` or `ip6`, without its rules.
    pub fn add_chain(&mut self, chain: &Chain) {
        let table = table_of(chain);
        let mut body = Attributes::of(&table);
        body.text(1, &chain.table);
        body.text(3, &chain.name);
        if let Some(base) = &chain.base {
            body.nested(4, |hook| {
                hook.number(1, hook_number(base.hook));
                hook.number(2, base.priority.cast_unsigned());
            });
            body.number(5, u32::from(!base.drops));
            body.text(7, &base.kind);
        }
        self.push(NFT_MSG_NEWCHAIN, MAKE, &body, format!("add chain {table} {}", chain.name));
    }

    /// Adds a rule behind the others of a chain, with a remark that nft(8) shows behind it, of at most 127
    /// bytes.
    pub fn add_rule(&mut self, chain: &Chain, steps: &[RuleStep], comment: Option<&str>) {
        self.add_expressions(chain, steps.iter().map(expression), comment);
    }

    /// The same with instructions that no rule of a person's is read as.
    pub(super) fn add_expressions<'a>(
        &mut self,
        chain: &Chain,
        expressions: impl Iterator<Item = (&'a str, Attributes)>,
        comment: Option<&str>,
    ) {
        let table = table_of(chain);
        let mut body = Attributes::of(&table);
        body.text(1, &chain.table);
        body.text(2, &chain.name);
        body.nested(4, |list| {
            for (name, data) in expressions {
                list.nested(1, |element| {
                    element.text(1, name);
                    element.attribute(2 | NESTED, &data.bytes);
                });
            }
        });
        if let Some(comment) = comment {
            // libnftnl's user data: kind 0 (a remark), length, text with its zero.
            let text = &comment.as_bytes()[..comment.floor_char_boundary(127)];
            let length = u8::try_from(text.len() + 1).unwrap_or(u8::MAX);
            body.attribute(7, &[&[0, length], text, &[0]].concat());
        }
        self.push(NFT_MSG_NEWRULE, MAKE, &body, format!("add a rule to chain {table} {}", chain.name));
    }

    fn push(&mut self, kind: u16, flags: u16, body: &Attributes, doing: String) {
        if self.batch.is_empty() {
            self.batch.push_bytes(0, NFNL_MSG_BATCH_BEGIN, 0, &frame());
        }
        self.doing.push(doing);
        let sequence = u32::try_from(self.doing.len()).unwrap_or(u32::MAX);
        self.batch.push_bytes(sequence, kind, flags, &body.bytes);
    }
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.doing).finish()
    }
}

/// A socket to the firewall of one namespace: that in which it was opened.
#[derive(Debug)]
pub struct NftSocket(pub(super) RtSocket);

impl NftSocket {
    /// Opens one in the calling thread's network namespace.
    ///
    /// # Errors
    /// This kernel has no netfilter.
    pub fn open() -> Result<Self, KernelError> {
        Self::open_here().map_err(|refusal| refusal.while_doing("open a socket to the firewall"))
    }

    pub(crate) fn open_here() -> Result<Self, Refusal> {
        Ok(NftSocket(RtSocket::open_for(Some(rustix::net::netlink::NETFILTER))?))
    }

    /// Makes all changes of a transaction, or none.
    ///
    /// # Errors
    /// The first that the kernel refused, with its own words.
    pub fn commit(&self, transaction: Transaction) -> Result<(), KernelError> {
        self.submit(transaction).map_err(|mut refusal| {
            let doing = refusal.doing.take().unwrap_or_else(|| "change the firewall".to_owned());
            refusal.while_doing(doing)
        })
    }

    pub(crate) fn submit(&self, transaction: Transaction) -> Result<(), Refusal> {
        let Transaction { mut batch, doing } = transaction;
        if batch.is_empty() {
            return Ok(());
        }
        batch.push_bytes(0, NFNL_MSG_BATCH_END, 0, &frame());
        let mut first: Option<(u32, Refusal)> = None;
        self.0.submit_whole(&batch, &mut Inbox::default(), &mut |sequence, refusal| {
            // A batch that is refused as a whole is refused at its begin.
            if first.as_ref().is_none_or(|(earlier, _)| sequence < *earlier) {
                first = Some((sequence, refusal));
            }
        })?;
        let Some((sequence, mut refusal)) = first else { return Ok(()) };
        let message = sequence.checked_sub(1).and_then(|at| doing.get(at as usize));
        if let Some(message) = message {
            refusal.doing = Some(message.clone());
        }
        Err(refusal)
    }

    /// Its descriptor: whoever holds it keeps the tables that it owns.
    pub fn into_fd(self) -> std::os::fd::OwnedFd {
        self.0.into_fd()
    }
}

/// The body of a request for a table.
pub(super) fn table_request(table: &TableName) -> Vec<u8> {
    let mut body = Attributes::of(table);
    body.text(1, &table.name);
    body.bytes
}

/// `struct nfgenmsg` of a batch's begin and end: it is for nftables.
fn frame() -> [u8; HEADER_BYTES] {
    let [high, low] = NFNL_SUBSYS_NFTABLES.to_be_bytes();
    [0, 0, high, low]
}

/// The body of a request for the elements of a set.
pub(super) fn set_request(family: &str, table: &str, name: &str) -> Vec<u8> {
    let mut body = Attributes::of(&TableName { family: family.to_owned(), name: table.to_owned() });
    body.text(1, table);
    body.text(2, name);
    body.bytes
}

fn table_of(chain: &Chain) -> TableName {
    TableName { family: chain.family.clone(), name: chain.table.clone() }
}

/// `NLA_F_NESTED`.
const NESTED: u16 = 1 << 15;

/// A list of attributes, some of them lists again.
#[derive(Default)]
pub(super) struct Attributes {
    pub(super) bytes: Vec<u8>,
}

impl Attributes {
    /// Those of a message about a table, behind its header.
    pub(super) fn of(table: &TableName) -> Self {
        Attributes { bytes: vec![family_number(&table.family), 0, 0, 0] }
    }

    pub(super) fn attribute(&mut self, kind: u16, value: &[u8]) {
        // A longer one does not exist: names and values are checked, rules have few steps.
        let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    pub(super) fn text(&mut self, kind: u16, text: &str) {
        self.attribute(kind, &[text.as_bytes(), &[0]].concat());
    }

    /// In network byte order, as all of nftables.
    pub(super) fn number(&mut self, kind: u16, number: u32) {
        self.attribute(kind, &number.to_be_bytes());
    }

    pub(super) fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Attributes)) {
        let mut inner = Attributes::default();
        fill(&mut inner);
        self.attribute(kind | NESTED, &inner.bytes);
    }

    /// An attribute of data: bytes for a register, or to compare with.
    fn value(&mut self, kind: u16, bytes: &[u8]) {
        self.nested(kind, |data| data.attribute(1, bytes));
    }
}

/// `enum nf_inet_hooks`. Those of the families `arp` and `netdev` are numbered otherwise; no chain of
/// theirs is made.
fn hook_number(hook: Hook) -> u32 {
    match hook {
        Hook::Prerouting => 0,
        Hook::Input => 1,
        Hook::Forward => 2,
        Hook::Output => 3,
        Hook::Postrouting => 4,
        Hook::Ingress | Hook::Egress => 5,
    }
}

/// An instruction: the kernel's name for it, and its attributes.
pub(super) fn expression(step: &RuleStep) -> (&str, Attributes) {
    let mut data = Attributes::default();
    let name = match step {
        RuleStep::Load { register, what } => {
            // Of what no rule of ours asks, the name alone: the kernel refuses it.
            let Some((name, key)) = load(what) else { return ("load", data) };
            data.number(1, *register);
            data.number(2, key);
            name
        }
        RuleStep::Payload { register, base, offset, length } => {
            for (kind, number) in (1..).zip([register, base, offset, length]) {
                data.number(kind, *number);
            }
            "payload"
        }
        RuleStep::Bitwise { from, to, mask, xor } => {
            data.number(1, *from);
            data.number(2, *to);
            data.number(3, u32::try_from(mask.len()).unwrap_or(u32::MAX));
            data.value(4, mask);
            data.value(5, xor);
            "bitwise"
        }
        RuleStep::Compare { register, how, with } => {
            data.number(1, *register);
            data.number(2, comparison(*how));
            data.value(3, with);
            "cmp"
        }
        RuleStep::Immediate { register, value } => {
            data.number(1, *register);
            data.value(2, value);
            "immediate"
        }
        RuleStep::DestinationType { register } => {
            const ADDRESS_TYPE: u32 = 3;
            const DESTINATION: u32 = 2;
            for (kind, number) in (1..).zip([*register, ADDRESS_TYPE, DESTINATION]) {
                data.number(kind, number);
            }
            "fib"
        }
        RuleStep::Counter => "counter",
        // Of what is read as this, a log entry is all there is.
        RuleStep::Pass => "log",
        RuleStep::Nat(NatStep { destination, family, address, port, choice }) => {
            data.number(1, u32::from(*destination));
            data.number(2, family_of(*family));
            if let Some(register) = address {
                data.number(3, *register);
            }
            if let Some(register) = port {
                data.number(5, *register);
            }
            choose(&mut data, *choice, 6, 7);
            "nat"
        }
        RuleStep::Masquerade => "masq",
        RuleStep::MasqueradePorts { port, choice } => {
            if let Some(register) = port {
                data.number(2, *register);
            }
            choose(&mut data, *choice, 3, 1);
            "masq"
        }
        RuleStep::Redirect { port, choice } => {
            if let Some(register) = port {
                data.number(1, *register);
            }
            choose(&mut data, *choice, 2, 3);
            "redir"
        }
        RuleStep::TransparentProxy { family, address, port } => {
            data.number(1, family.map_or(0, family_of));
            for (kind, register) in [(2, address), (3, port)] {
                if let Some(register) = register {
                    data.number(kind, *register);
                }
            }
            "tproxy"
        }
        RuleStep::Reject { reset, .. } => {
            const TCP_RESET: u32 = 1;
            const ICMP_OF_THE_FAMILY: u32 = 2;
            const PORT_UNREACHABLE: u8 = 1;
            data.number(1, if *reset { TCP_RESET } else { ICMP_OF_THE_FAMILY });
            if !*reset {
                data.attribute(2, &[PORT_UNREACHABLE]);
            }
            "reject"
        }
        RuleStep::Verdict(verdict) => {
            data.number(1, 0);
            data.nested(2, |inner| inner.nested(2, |code| encode_verdict(verdict, code)));
            "immediate"
        }
        // No rule of ours has them. Without what belongs to it the kernel refuses an instruction, by its name.
        RuleStep::Range { .. } => "range",
        RuleStep::Lookup { .. } => "lookup",
        RuleStep::ByteOrder { .. } => "byteorder",
        RuleStep::SourceType { .. } | RuleStep::WayBack { .. } => "fib",
        RuleStep::Store { .. } => "store",
        RuleStep::NoTrack => "notrack",
        RuleStep::Depends(name) | RuleStep::Unknown(name) => name,
    };
    (name, data)
}

fn load(what: &Loaded) -> Option<(&'static str, u32)> {
    Some(match what {
        Loaded::Mark => ("meta", 3),
        Loaded::InputIndex => ("meta", 4),
        Loaded::OutputIndex => ("meta", 5),
        Loaded::InputName => ("meta", 6),
        Loaded::OutputName => ("meta", 7),
        Loaded::NetworkFamily => ("meta", 15),
        Loaded::Layer4Protocol => ("meta", 16),
        Loaded::ConnectionState => ("ct", 0),
        Loaded::ConnectionStatus => ("ct", 2),
        _ => return None,
    })
}

fn comparison(how: Comparison) -> u32 {
    match how {
        Comparison::Equal => 0,
        Comparison::Unequal => 1,
        Comparison::Less => 2,
        Comparison::LessOrEqual => 3,
        Comparison::Greater => 4,
        Comparison::GreaterOrEqual => 5,
    }
}

/// `NFPROTO_IPV4` and `NFPROTO_IPV6`.
/// How one of several ports is chosen: the kinds of the attributes for the last, and for the flags.
fn choose(data: &mut Attributes, choice: PortChoice, last: u16, flags: u16) {
    if let Some(register) = choice.last {
        data.number(last, register);
    }
    if choice.flags != 0 {
        data.number(flags, choice.flags);
    }
}

fn family_of(family: Family) -> u32 {
    match family {
        Family::Ipv4 => 2,
        Family::Ipv6 => 10,
    }
}

fn encode_verdict(verdict: &RuleVerdict, code: &mut Attributes) {
    let (number, chain): (i32, Option<&str>) = match verdict {
        RuleVerdict::Drop => (0, None),
        RuleVerdict::Accept => (1, None),
        RuleVerdict::Continue => (-1, None),
        RuleVerdict::Jump(chain) => (-3, Some(chain)),
        RuleVerdict::Goto(chain) => (-4, Some(chain)),
        RuleVerdict::Return => (-5, None),
    };
    code.number(1, number.cast_unsigned());
    if let Some(chain) = chain {
        code.text(2, chain);
    }
}
