//! The firewall of a node: the chains of a hook, run as the kernel runs them.

mod registers;
mod rule;
mod sets;

use std::net::IpAddr;

use hopyard_net::{Chain, Family, Hook, IfName, NodeState, Rule, RuleStep, RuleVerdict, Ruleset, Stored};

use crate::header::{Content, Frame};
use crate::{Packet, Protocol, Reason};
use rule::{Applied, Machine};

/// What a packet looks like to the firewall.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen<'a> {
    pub(crate) node: &'a NodeState,
    pub(crate) content: Content<'a>,
    /// Its Ethernet header; `None`: it has none yet.
    pub(crate) frame: Option<Frame>,
    pub(crate) input: Option<IfName>,
    pub(crate) output: Option<IfName>,
    /// Who gets it next, where it leaves.
    pub(crate) next: Option<IpAddr>,
    /// Did the node see the packet that this one answers?
    pub(crate) knows_connection: bool,
    /// As it becomes here, because it belongs to a connection whose addresses the node translates.
    pub(crate) translated: Option<Packet>,
    /// Are source and destination of its connection translated here, as far as it has come?
    pub(crate) is_translated: (bool, bool),
    /// What the node has put on it.
    pub(crate) kept: Kept,
}

impl<'a> Seen<'a> {
    /// A frame in a switch, or at an interface.
    pub(crate) fn frame(node: &'a NodeState, content: Content<'a>, frame: Frame) -> Self {
        Seen {
            node,
            content,
            frame: Some(frame),
            input: None,
            output: None,
            next: None,
            knows_connection: false,
            translated: None,
            is_translated: (false, false),
            kept: Kept::default(),
        }
    }
}

/// What a node puts on a packet, for as long as it has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    /// Its mark; `None`: it is not known.
    pub(crate) mark: Mark,
    /// It belongs to no connection.
    pub(crate) untracked: bool,
}

/// The mark of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    Known(u32),
    Unknown,
}

impl Default for Mark {
    fn default() -> Self {
        Mark::Known(0)
    }
}

/// A packet that gets through.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Passed {
    /// As it goes on; `None`: it was none, but a question for an address.
    pub(crate) packet: Option<Packet>,
    pub(crate) kept: Kept,
}

/// A packet that does not get through.
#[derive(Clone, Debug)]
pub(crate) struct Stopped {
    pub(crate) reason: Reason,
    /// As the chain saw it that decides: those before it may have translated it.
    pub(crate) packet: Option<Packet>,
}

/// Whose chains are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// Those of IP.
    Ip,
    /// Those of ARP.
    Arp,
    /// Those of an interface.
    Device,
    /// Those of a bridge, by priority: `None`, all; else those up to one, or those behind it.
    Bridge(Option<Side>),
}

/// On which side of a priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The priority itself is on this side.
    UpTo(i32),
    Behind(i32),
}

impl Level {
    fn has(self, chain: &Chain, family: Option<Family>) -> bool {
        let base = chain.base.as_ref();
        match self {
            Level::Ip => match family {
                Some(Family::Ipv4) => matches!(chain.family.as_str(), "inet" | "ip"),
                Some(Family::Ipv6) => matches!(chain.family.as_str(), "inet" | "ip6"),
                None => false,
            },
            Level::Arp => chain.family == "arp" && family.is_none(),
            // At an interface, `inet` is about IP alone.
            Level::Device => chain.family == "netdev" || chain.family == "inet" && family.is_some(),
            Level::Bridge(side) => {
                let priority = base.map_or(0, |base| base.priority);
                chain.family == "bridge"
                    && match side {
                        None => true,
                        Some(Side::UpTo(most)) => priority <= most,
                        Some(Side::Behind(least)) => priority > least,
                    }
            }
        }
    }
}

/// From which priority on a hook translates addresses (`NF_IP_PRI_NAT_DST`, `NF_IP_PRI_NAT_SRC`).
fn translates_at(hook: Hook) -> i32 {
    if matches!(hook, Hook::Prerouting | Hook::Output) { -100 } else { 100 }
}

/// What is said where nobody has read the rules.
pub(crate) const UNREAD: &str = "its firewall could not be read, and may decide";

/// The base chains that a packet comes to in a hook, in their order: by priority, and of the same priority
/// the one that was added last comes first (`nf_hook_entries_grow()` of Linux).
pub(crate) fn chains_of(
    rules: &Ruleset,
    level: Level,
    hook: Hook,
    dev: Option<IfName>,
    family: Option<Family>,
) -> Vec<&Chain> {
    let is_here = |chain: &&Chain| {
        chain.base.as_ref().is_some_and(|base| {
            let at =
                level != Level::Device || base.devices.is_empty() || dev.is_some_and(|dev| base.is_at(dev.as_str()));
            base.hook == hook && level.has(chain, family) && at
        })
    };
    let mut chains: Vec<&Chain> = rules.chains.iter().filter(is_here).collect();
    chains.reverse();
    chains.sort_by_key(|chain| chain.base.as_ref().map_or(0, |base| base.priority));
    chains
}

/// Runs the chains of a hook; returns the packet that goes on.
pub(crate) fn check(level: Level, hook: Hook, seen: Seen<'_>) -> Result<Passed, Box<Stopped>> {
    // Not to be confused with a firewall that has no rules.
    let mut packet = match seen.content {
        Content::Packet(packet) => Some(*packet),
        Content::Asks(_) => None,
    };
    let Some(rules) = &seen.node.firewall else {
        // The packet that is asked for comes to it as well, and then that is said.
        let passed = Passed { packet, kept: seen.kept };
        let unread = || Box::new(Stopped { reason: Reason::Undecided(UNREAD.to_owned()), packet });
        return if packet.is_some() { Err(unread()) } else { Ok(passed) };
    };
    let mut to_be = seen.translated;
    let mut is_translated = false;
    let mut kept = seen.kept;
    let dev = if hook == Hook::Egress { seen.output } else { seen.input };
    for chain in chains_of(rules, level, hook, dev, seen.content.family()) {
        let Some(base) = &chain.base else { continue };
        if base.priority >= translates_at(hook) {
            packet = to_be.take().or(packet);
        }
        // Address translation looks at the first packet of a connection alone, and once; not at questions
        // for an address, which belong to none.
        let first = packet.is_some_and(|it| !((it.reply || it.too_big) && seen.knows_connection));
        if base.kind == "nat" && (!first || is_translated || kept.untracked) {
            continue;
        }
        let decides = !chain.rules.is_empty() || base.drops;
        if level == Level::Device && base.devices.is_empty() && decides {
            // In a recording of an earlier version.
            let what = format!("chain {} {} {} looks at frames", chain.family, chain.table, chain.name);
            return Err(Box::new(Stopped { reason: Reason::Undecided(what), packet }));
        }
        let firewall = |chain: &Chain, rule: Option<&Rule>, rejects: bool, certain: bool| Reason::Firewall {
            hook,
            family: chain.family.clone(),
            table: chain.table.clone(),
            chain: chain.name.clone(),
            rule: rule.map(|rule| rule.handle),
            text: rule.map(|rule| rules.text_in(seen.node, chain, rule)),
            certain,
            rejects,
        };
        let content = packet.as_ref().map_or(seen.content, Content::Packet);
        let seen = Seen { content, ..seen };
        let mut run = Run {
            rules,
            seen: &seen,
            hook,
            priority: base.priority,
            drops: Some(base.drops),
            budget: RULES,
            kept,
            certain: true,
        };
        let outcome = run.chain(chain, 0, 0);
        let certain = run.certain;
        kept = run.kept;
        let seen_packet = packet;
        let stopped = |reason| Box::new(Stopped { reason, packet: seen_packet });
        match outcome {
            Outcome::Drop { chain, rule, rejects } => {
                return Err(stopped(firewall(chain, Some(rule), rejects, certain)));
            }
            Outcome::Beyond(what) => return Err(stopped(Reason::Undecided(what))),
            Outcome::End if base.drops => return Err(stopped(firewall(chain, None, false, certain))),
            Outcome::Accept | Outcome::End => {}
            Outcome::Translated(translation) => {
                // The source of such a packet was chosen for another destination, and it is routed again.
                // In a switch, the frame leaves its way.
                let own = hook == Hook::Output;
                let Some(packet) = packet.as_mut().filter(|_| !own && level == Level::Ip) else {
                    let whose = if own { "the node's own packets" } else { "it" };
                    let what = format!("chain {} {} translates {whose}", chain.table, chain.name);
                    return Err(Box::new(Stopped { reason: Reason::Undecided(what), packet: seen_packet }));
                };
                is_translated = true;
                translation.apply(packet);
            }
        }
    }
    Ok(Passed { packet: to_be.or(packet), kept })
}

/// What a rule makes of a packet, and of all that belong to its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Translation {
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

enum Outcome<'a> {
    Accept,
    Drop {
        chain: &'a Chain,
        rule: &'a Rule,
        rejects: bool,
    },
    /// The end of the chain, or `return`.
    End,
    Beyond(String),
    Translated(Translation),
}

impl Outcome<'_> {
    /// Do both leave the packet in the same place? `policy`: where the chain ends, it is dropped, or not.
    fn is_like(&self, other: &Outcome<'_>, policy: Option<bool>) -> bool {
        match (self, other) {
            (Outcome::Accept, Outcome::Accept) | (Outcome::End, Outcome::End) => true,
            (Outcome::Accept, Outcome::End) | (Outcome::End, Outcome::Accept) => policy == Some(false),
            (Outcome::Drop { rejects, .. }, Outcome::End) | (Outcome::End, Outcome::Drop { rejects, .. }) => {
                policy == Some(true) && !rejects
            }
            (Outcome::Drop { rejects: one, .. }, Outcome::Drop { rejects: other, .. }) => one == other,
            (Outcome::Translated(one), Outcome::Translated(other)) => one == other,
            _ => false,
        }
    }
}

/// As deep as the kernel lets chains jump (`NFT_JUMP_STACK_SIZE`).
const DEEPEST: usize = 16;

/// So many rules are looked at for one packet in one chain: many more than a firewall has, and far fewer than
/// chains that jump to each other again and again could make of them.
const RULES: usize = 1_000_000;

/// One base chain, and where it leads.
struct Run<'a, 's> {
    rules: &'a Ruleset,
    seen: &'s Seen<'s>,
    hook: Hook,
    priority: i32,
    /// The policy of the base chain.
    drops: Option<bool>,
    budget: usize,
    kept: Kept,
    /// Is it known which rule decides, not only how?
    certain: bool,
}

impl<'a> Run<'a, '_> {
    /// A chain from one of its rules on.
    fn chain(&mut self, chain: &'a Chain, from: usize, depth: usize) -> Outcome<'a> {
        for (at, rule) in chain.rules.iter().enumerate().skip(from) {
            if self.budget == 0 {
                return beyond(chain, rule, "too many rules are jumped to");
            }
            self.budget -= 1;
            let (applied, maybe) = self.rule(chain, rule);
            let outcome = match applied {
                Applied::Not => continue,
                Applied::Reject => Some(Outcome::Drop { chain, rule, rejects: true }),
                Applied::Unknown(what) => return beyond(chain, rule, &what),
                Applied::Translated(translation) => Some(Outcome::Translated(translation)),
                Applied::Verdict(verdict) => {
                    let before = self.kept;
                    let outcome = self.verdict(chain, rule, verdict, depth);
                    if maybe.is_some() && self.kept != before {
                        self.kept.mark = Mark::Unknown;
                    }
                    outcome
                }
            };
            let Some(what) = maybe else {
                match outcome {
                    None => continue,
                    Some(outcome) => return outcome,
                }
            };
            // Whether the rule holds is not known. Where that makes no difference, it need not be.
            if let Some(Outcome::Beyond(what)) = outcome {
                return Outcome::Beyond(what);
            }
            let before = self.kept;
            let other = self.chain(chain, at + 1, depth);
            if self.kept != before {
                self.kept.mark = Mark::Unknown;
            }
            return match outcome {
                None => other,
                Some(outcome) if outcome.is_like(&other, self.drops.filter(|_| depth == 0)) => {
                    self.certain = false;
                    other
                }
                Some(_) => match other {
                    Outcome::Beyond(what) => Outcome::Beyond(what),
                    _ => beyond(chain, rule, &what),
                },
            };
        }
        Outcome::End
    }

    /// What a verdict leads to; `None`: the next rule.
    fn verdict(
        &mut self,
        chain: &'a Chain,
        rule: &'a Rule,
        verdict: &'a RuleVerdict,
        depth: usize,
    ) -> Option<Outcome<'a>> {
        match verdict {
            RuleVerdict::Accept => Some(Outcome::Accept),
            RuleVerdict::Drop => Some(Outcome::Drop { chain, rule, rejects: false }),
            RuleVerdict::Continue => None,
            RuleVerdict::Return => Some(Outcome::End),
            RuleVerdict::Jump(name) | RuleVerdict::Goto(name) => {
                let target = self.rules.chain(&chain.family, &chain.table, name);
                let Some(target) = target.filter(|_| depth < DEEPEST) else {
                    return Some(beyond(chain, rule, "a jump that leads nowhere"));
                };
                match self.chain(target, 0, depth + 1) {
                    Outcome::End if matches!(verdict, RuleVerdict::Jump(_)) => None,
                    outcome => Some(outcome),
                }
            }
        }
    }

    /// One rule; and, where it depends on what is not known whether it holds, on what.
    fn rule(&mut self, chain: &'a Chain, rule: &'a Rule) -> (Applied<'a>, Option<String>) {
        let mut machine = Machine::new(self.rules, chain, self.seen, self.hook, self.priority, self.kept);
        let applied = machine.run(rule);
        self.kept = machine.kept;
        (applied, machine.maybe)
    }
}

fn beyond<'a>(chain: &Chain, rule: &Rule, what: &str) -> Outcome<'a> {
    let Chain { family, table, name, .. } = chain;
    Outcome::Beyond(format!("handle {} of {family} {table} {name}: {what}", rule.handle))
}

/// Does a rule of the node mark connections?
fn marks_connections(rules: &Ruleset) -> bool {
    let mut steps = rules.chains.iter().flat_map(|chain| &chain.rules).flat_map(|rule| &rule.steps);
    steps.any(|step| matches!(step, RuleStep::Store { what: Stored::ConnectionMark, .. }))
}
