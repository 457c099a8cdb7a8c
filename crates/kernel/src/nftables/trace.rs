//! The way of packets through the rules of a namespace, as the kernel tells it itself (nft(8), "monitor trace").
//!
//! For that, and as long as it takes, a table of our own stands before all others: what is of the probe is to be
//! traced, and nothing else happens to it. The table belongs to our socket, so the kernel removes it when that is
//! closed, however this process ends. Chains of family `netdev` at an interface come before it, and are not traced.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use hopyard_net::{BaseChain, Chain, Comparison, Family, Hook, Loaded, RuleStep, RuleVerdict, Ruleset};
use rustix::net::sockopt;
use rustix::thread::LinkNameSpaceType;

use super::decode::{ANY, dump, find, number, text};
use super::encode::{Attributes, NftSocket, Owner, TableName, Transaction, expression};
use super::{HEADER_BYTES, NFT_MSG_GETTABLE, NFT_MSG_NEWTABLE, NFT_MSG_TRACE, TABLE_OWNED, family_name};
use crate::error::Refusal;
use crate::holders::NamespaceId;
use crate::netlink::{Inbox, RtSocket};
use crate::signature::{Part, Signature, in_common};
use crate::tap::{Mark, Sight, recognise};
use crate::{Errno, KernelError, Realm, pin};

/// Listens to what the rules of one namespace do with the packets of one probe, or of several.
#[derive(Debug)]
pub struct Tracer {
    socket: NftSocket,
    /// The name of our tables.
    table: String,
    marks: Vec<Mark>,
    /// What the headers say of packets, by the kernel's numbers for those.
    headers: BTreeMap<u32, Whose>,
    /// Which packets of the probes the kernel's numbers stand for.
    known: BTreeMap<u32, Whose>,
}

/// Of which probe a packet is, and which one of it. Of an error that is not known where there are several: what it quotes
/// is not told.
type Whose = (usize, Part);

/// What a [`Tracer`] has heard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// The packets that have come to the rules of the namespace: by the place of their probe among all, and which one of
    /// it. Of an error that is the first, whichever it is about.
    pub met: Vec<(usize, Part)>,
    /// What has been decided, each with the place of the probe that it is about.
    pub steps: Vec<(usize, TraceStep)>,
}

/// A decision about a packet of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceStep {
    /// Which packet.
    pub part: Part,
    /// The kind of packets that the table is for: `inet`, `ip`, `ip6`, `bridge`.
    pub family: String,
    /// The table.
    pub table: String,
    /// The chain.
    pub chain: String,
    /// The handle of the rule; `None`: the policy of the chain.
    pub rule: Option<u64>,
    /// What was decided.
    pub decided: Decided,
}

/// What a rule or a policy decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decided {
    /// The chain lets it pass.
    Accept,
    /// It ends here; also where it is rejected.
    Drop,
    /// Nothing yet: it goes on in this chain or another.
    On,
    /// It is handed to a program, or taken away.
    Taken,
}

/// What the names of our tables begin with. A table that is called so and that a socket owns is not read, compared or
/// recorded.
const PREFIX: &str = "hopyard-trace-";
/// Before all others (`NF_IP_PRI_FIRST`).
const FIRST: i32 = i32::MIN;
/// What may be told and not read yet; who is not root gets less.
const ROOM_BYTES: usize = 4 << 20;
/// `NFNLGRP_NFTRACE`.
const GROUP: i32 = 9;

/// Is a table of that name one of ours, if a socket owns it?
fn is_trace(table: &str) -> bool {
    table.starts_with(PREFIX)
}

/// Leaves out the chains of such tables. They are nobody's rules: they are there for a moment, and look at the packet of
/// another question alone.
pub(super) fn leave_out(chains: &mut Vec<Chain>, socket: &RtSocket, inbox: &mut Inbox) -> Result<(), Refusal> {
    const NAME: u16 = 1;
    const FLAGS: u16 = 2;
    if !chains.iter().any(|chain| is_trace(&chain.table)) {
        return Ok(());
    }
    // One that no socket owns is somebody's, whatever it is called.
    let mut free = BTreeSet::new();
    dump(socket, NFT_MSG_GETTABLE, ANY, inbox, &mut |found| match found {
        None => free.clear(),
        Some((NFT_MSG_NEWTABLE, payload)) => {
            let body = payload.get(HEADER_BYTES..).unwrap_or_default();
            let flags = find(body, FLAGS).and_then(number).unwrap_or_default();
            free.extend(find(body, NAME).map(text).filter(|_| flags & TABLE_OWNED == 0));
        }
        Some(_) => {}
    })?;
    chains.retain(|chain| !is_trace(&chain.table) || free.contains(&chain.table));
    Ok(())
}

impl Tracer {
    /// Begins in each of the namespaces, in order; beside them stand their rules. The inner error: that one does not let
    /// itself be traced, because of the kernel or of whose it is; in the machine's own network nothing is changed,
    /// not even so little.
    ///
    /// # Errors
    /// A namespace cannot be entered.
    pub fn open_all(
        realm: &Realm,
        namespaces: &[(BorrowedFd<'_>, &Ruleset)],
        marks: &[Mark],
    ) -> io::Result<Vec<Result<Tracer, KernelError>>> {
        let machine = [pin::own_network(), pin::network_of(1)];
        // Who may not see process 1 has no rights in its network either.
        let machine = machine.into_iter().flatten().map(|network| NamespaceId::of(network.as_fd()));
        let machine: Vec<NamespaceId> = machine.collect::<Result<_, _>>()?;
        realm.outside()?.run(|| {
            let open = |&(namespace, rules): &(BorrowedFd<'_>, &Ruleset)| {
                if machine.contains(&NamespaceId::of(namespace)?) {
                    let refusal = Refusal::saying(Errno::PERM, "hop or the machine itself runs in it");
                    return Ok(Err(refusal.while_doing("trace a network")));
                }
                rustix::thread::move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))?;
                Ok(Self::open_here(rules, marks))
            };
            namespaces.iter().map(open).collect()
        })?
    }

    fn open_here(rules: &Ruleset, marks: &[Mark]) -> Result<Tracer, KernelError> {
        let socket = NftSocket::open()?;
        let token = marks.first().map_or(0, |mark| u64::from_be_bytes(mark.token));
        let table = format!("{PREFIX}{token:016x}");
        let signatures = in_common(marks);
        let mut transaction = Transaction::new();
        // Packets that a bridge passes on come to other rules than those of IP, if to any.
        let frames = rules.chains.iter().any(|chain| chain.family == "bridge");
        for family in ["inet"].into_iter().chain(frames.then_some("bridge")) {
            let table = TableName { family: family.to_owned(), name: table.clone() };
            add_table(&mut transaction, &table, &signatures);
        }
        socket.commit(transaction)?;
        let (headers, known) = (BTreeMap::new(), BTreeMap::new());
        let tracer = Tracer { socket, table, marks: marks.to_vec(), headers, known };
        // Of many probes there is more to hear than of one. What is not granted is not needed as long as they are few.
        let fd = tracer.socket.0.as_fd();
        let _is_enlarged = sockopt::set_socket_recv_buffer_size_force(fd, ROOM_BYTES)
            .or_else(|_| sockopt::set_socket_recv_buffer_size(fd, ROOM_BYTES))
            .is_ok();
        let join = tracer.socket.0.join(GROUP);
        join.map_err(|error| KernelError::new("listen to the firewall", error))?;
        Ok(tracer)
    }

    /// Reads what has become of them since the last time.
    ///
    /// # Errors
    /// `ENOBUFS`: more was decided than there is room for, and something is missing.
    pub fn read(&mut self) -> Result<Heard, KernelError> {
        let (mut met, mut steps) = (Vec::new(), Vec::new());
        let (table, marks, headers, known) = (&self.table, &self.marks, &mut self.headers, &mut self.known);
        let hear = self.socket.0.hear(&mut Inbox::default(), &mut |kind, payload| {
            let Some((id, mut step)) = (kind == NFT_MSG_TRACE).then(|| decode(payload)).flatten() else { return };
            if is_trace(&step.table) {
                // Another one's would say what its packet is.
                if step.table != *table {
                    return;
                }
                if let Some(whose) = whose(marks, payload) {
                    headers.insert(id, whose);
                }
                let part = Part::ALL.into_iter().find(|part| part.name() == step.chain);
                if let Some(whose) = headers.get(&id).filter(|(_, is)| part == Some(*is)) {
                    known.insert(id, *whose);
                    met.push(*whose);
                }
                return;
            }
            // On its way out of a bridge a packet gets another number.
            if !known.contains_key(&id)
                && let Some(whose) = whose(marks, payload).filter(|(_, part)| *part != Part::Error)
            {
                known.insert(id, whose);
                met.push(whose);
            }
            if let Some((at, part)) = known.get(&id) {
                step.part = *part;
                steps.push((*at, step));
            }
        });
        hear.map_err(|errno| KernelError::new("hear what the firewall decides", errno))?;
        Ok(Heard { met, steps })
    }
}

impl AsFd for Tracer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.0.as_fd()
    }
}

/// With it goes the table: [`close_together`](crate::close_together) where there are several.
impl From<Tracer> for OwnedFd {
    fn from(tracer: Tracer) -> Self {
        tracer.socket.into_fd()
    }
}

/// A table of ours: two chains that tell the packets of the probe, and one for each kind of them.
fn add_table(transaction: &mut Transaction, table: &TableName, signatures: &[Signature]) {
    let chain = |name: &str, base: Option<BaseChain>| Chain {
        family: table.family.clone(),
        table: table.name.clone(),
        name: name.to_owned(),
        base,
        rules: Vec::new(),
    };
    transaction.add_table(table, Owner::Socket);
    for part in Part::ALL {
        let chain = chain(part.name(), None);
        transaction.add_chain(&chain);
        transaction.add_expressions(&chain, trace_from_here().into_iter(), None);
    }
    for hook in [Hook::Prerouting, Hook::Output] {
        let base = BaseChain { hook, priority: FIRST, drops: false, kind: "filter".to_owned(), devices: Vec::new() };
        let chain = chain(hook.name(), Some(base));
        transaction.add_chain(&chain);
        for signature in signatures {
            transaction.add_rule(&chain, &steps(signature), None);
        }
    }
}

/// `meta l4proto PROTOCOL @th,AT,LENGTH BYTES goto PART`.
fn steps(signature: &Signature) -> Vec<RuleStep> {
    const REGISTER: u32 = 1;
    const TRANSPORT: u32 = 2;
    let equal = |with: &[u8]| RuleStep::Compare { register: REGISTER, how: Comparison::Equal, with: with.to_vec() };
    let mut steps =
        vec![RuleStep::Load { register: REGISTER, what: Loaded::Layer4Protocol }, equal(&[signature.protocol])];
    for (at, bytes) in &signature.bytes {
        let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let (offset, length) = (number(*at), number(bytes.len()));
        steps.push(RuleStep::Payload { register: REGISTER, base: TRANSPORT, offset, length });
        steps.push(equal(bytes));
    }
    steps.push(RuleStep::Verdict(RuleVerdict::Goto(signature.part.name().to_owned())));
    steps
}

/// `meta nftrace set 1`.
fn trace_from_here() -> [(&'static str, Attributes); 2] {
    const NFTRACE: u32 = 12;
    const REGISTER: u32 = 1;
    let mut set = Attributes::default();
    set.number(2, NFTRACE);
    set.number(3, REGISTER);
    let (_, one) = expression(&RuleStep::Immediate { register: REGISTER, value: vec![1] });
    [("immediate", one), ("meta", set)]
}

/// A message, with the number that the kernel has for the packet. `None`: nothing that decides, or a broken one.
fn decode(payload: &[u8]) -> Option<(u32, TraceStep)> {
    const TABLE: u16 = 1;
    const CHAIN: u16 = 2;
    const HANDLE: u16 = 3;
    const KIND: u16 = 4;
    const VERDICT: u16 = 5;
    const ID: u16 = 6;
    const POLICY: u16 = 16;
    const BY_POLICY: u32 = 1;
    const BY_RULE: u32 = 3;
    /// In the upper half of a verdict to drop may be an error number (`NF_VERDICT_MASK`).
    const MASK: i32 = 0xff;
    let family = family_name(*payload.first()?);
    let body = payload.get(HEADER_BYTES..)?;
    let (rule, verdict) = match find(body, KIND).and_then(number)? {
        BY_POLICY => (None, find(body, POLICY).and_then(number)?),
        BY_RULE => {
            let handle = find(body, HANDLE)?.first_chunk().copied().map(u64::from_be_bytes)?;
            (Some(handle), find(body, VERDICT).and_then(|verdict| find(verdict, 1)).and_then(number)?)
        }
        // The end of a chain that was jumped to.
        _ => return None,
    };
    let decided = match verdict.cast_signed() {
        negative if negative < 0 => Decided::On,
        verdict => match verdict & MASK {
            0 => Decided::Drop,
            1 => Decided::Accept,
            _ => Decided::Taken,
        },
    };
    let id = find(body, ID).and_then(number)?;
    let (table, chain) = (text(find(body, TABLE)?), text(find(body, CHAIN)?));
    // Whose packet it is, is not known yet.
    Some((id, TraceStep { part: Part::Packet, family, table, chain, rule, decided }))
}

/// Which packet of which probe, if it is one, has the headers in a message. They are in the first one of each base chain alone:
/// where the packet is traced already when it comes there, by `lo` or from a bridge, in that about our own first rule.
/// Our rules do not look at addresses; datagrams of others may come from the same port.
fn whose(marks: &[Mark], payload: &[u8]) -> Option<Whose> {
    const NETWORK_HEADER: u16 = 8;
    const TRANSPORT_HEADER: u16 = 9;
    let body = payload.get(HEADER_BYTES..)?;
    let (network, transport) = (find(body, NETWORK_HEADER)?, find(body, TRANSPORT_HEADER)?);
    let (family, length) = match network.first()? >> 4 {
        4 => (Family::Ipv4, usize::from(network.first()? & 0x0f) * 4),
        _ => (Family::Ipv6, 40),
    };
    let packet = [network.get(..length).unwrap_or(network), transport].concat();
    Some(match recognise(marks, family, &packet) {
        Some((at, _, Sight::Request)) => (at, Part::Packet),
        Some((at, _, Sight::Reply | Sight::Reset)) => (at, Part::Reply),
        // Of what an error quotes, the message has not enough.
        _ => (0, Part::Error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_and_policies_decide() {
        let message = |kind: u32, fill: &dyn Fn(&mut Attributes)| {
            let mut message = Attributes::of(&TableName::inet("fw"));
            message.text(1, "fw");
            message.text(2, "forward");
            message.number(4, kind);
            message.number(6, 77);
            fill(&mut message);
            message.bytes
        };
        let rule = |code: i32| {
            message(3, &|message| {
                message.attribute(3, &9_u64.to_be_bytes());
                message.nested(5, |verdict| verdict.number(1, code.cast_unsigned()));
            })
        };
        let policy = message(1, &|message| message.number(16, 0));
        let cases = [
            (rule(0), Some(9), Decided::Drop),
            // With an error number.
            (rule(libc::ECONNREFUSED << 16), Some(9), Decided::Drop),
            (rule(1), Some(9), Decided::Accept),
            (rule(3), Some(9), Decided::Taken),
            (rule(-1), Some(9), Decided::On),
            (policy, None, Decided::Drop),
        ];
        for (message, handle, decided) in cases {
            let (id, step) = decode(&message).unwrap();
            assert_eq!((id, step.table.as_str(), step.chain.as_str()), (77, "fw", "forward"));
            assert_eq!((step.rule, step.decided), (handle, decided));
            for length in 0..message.len() {
                decode(&message[..length]);
            }
        }
    }
}
