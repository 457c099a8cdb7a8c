//! What firewalls do with a frame between the interface that it leaves and the one that takes it in: those of
//! the interfaces themselves, and those of the switches on its way.
//!
//! The order is that of Linux: `__dev_queue_xmit()` runs the chains of egress before anything else,
//! `__netif_receive_skb_core()` those of ingress behind the taps and tc(8), and before a bridge gets the frame
//! (net/core/dev.c). The bridge then runs its own hooks (net/bridge/br_input.c, br_forward.c); where
//! `net.bridge.bridge-nf-call-iptables` says so, the chains of IP run inside of them, at priority 0 as the frame
//! comes in and crosses, and behind all others as it leaves (net/bridge/br_netfilter_hooks.c). They see the
//! bridge as the interface that it comes in and goes out by.

use std::net::IpAddr;

use hopyard_net::{Endpoint, Hook, IfName, NodeState, NsName, Snapshot, SysctlKey};

use crate::Reason;
use crate::filter::{self, Kept, Level, Passed, Seen, Side};
use crate::header::{Content, Frame, Question};
use crate::segment::{Crossing, Way, link_at};

/// `NF_BR_PRI_BRNF`: where the chains of IP run in a bridge.
const BRIDGE_NF: i32 = 0;

/// A frame on its way.
#[derive(Clone, Copy)]
pub(crate) struct Carried<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) content: Content<'a>,
    pub(crate) frame: Frame,
    /// Has a node seen the packet that this one answers?
    pub(crate) knows: &'a dyn Fn(&NsName) -> bool,
}

/// Asks who has an address: the question comes to who has it, and the answer back. `Err`: why one does not.
pub(crate) fn ask(
    snapshot: &Snapshot,
    from: &Endpoint,
    to: &Endpoint,
    way: &Way,
    question: Question,
) -> Result<(), Reason> {
    let answer = question.answer();
    for (question, from, to, crossings) in
        [(&question, from, to, way.crossings.clone()), (&answer, to, from, way.back())]
    {
        let carried =
            Carried { snapshot, content: Content::Asks(question), frame: question.frame(), knows: &|_| false };
        let leaves = carried.leave_as_question(from);
        let comes = || carried.cross(from, &crossings).and_then(|()| carried.come_as_question(to));
        leaves.and_then(|()| comes()).map_err(|dropped| dropped.reason(Some((question.addr, question.answers))))?;
    }
    Ok(())
}

/// That a frame is dropped.
struct Dropped {
    by: NsName,
    /// The sysctl by which rules about packets see frames, if it is such a rule.
    bridge_nf: Option<SysctlKey>,
    why: Reason,
}

impl Dropped {
    fn new(by: &NsName, why: Reason) -> Box<Self> {
        Box::new(Dropped { by: by.clone(), bridge_nf: None, why })
    }

    /// `asking`: it is not the packet, but this question or its answer.
    fn reason(self, asking: Option<(IpAddr, bool)>) -> Reason {
        let Dropped { by, bridge_nf, why } = self;
        match why {
            Reason::Undecided(what) => Reason::Undecided(format!("{by}: {what}")),
            why => Reason::FrameDropped { by, bridge_nf, asking, why: Box::new(why) },
        }
    }
}

type Carries = Result<(), Box<Dropped>>;

impl Carried<'_> {
    /// From an interface over all bridges on its way. `Err`: why it does not get through.
    pub(crate) fn carry(&self, from: &Endpoint, way: &Way) -> Result<(), Reason> {
        self.cross(from, &way.crossings).map_err(|dropped| {
            if dropped.by == from.ns && dropped.bridge_nf.is_none() { dropped.why } else { dropped.reason(None) }
        })
    }

    /// What the node does with a question of its own, or its answer, before the interface has it.
    fn leave_as_question(&self, from: &Endpoint) -> Carries {
        let out = Some(from.dev);
        match self.content.family() {
            None => self.run(&from.ns, Level::Arp, Hook::Output, None, out),
            Some(_) => self
                .run(&from.ns, Level::Ip, Hook::Output, None, out)
                .and_then(|()| self.run(&from.ns, Level::Ip, Hook::Postrouting, None, out)),
        }
    }

    /// What the node does that gets it, from the interface on.
    fn come_as_question(&self, to: &Endpoint) -> Carries {
        let by = Some(to.dev);
        self.run(&to.ns, Level::Device, Hook::Ingress, by, None)?;
        match self.content.family() {
            None => self.run(&to.ns, Level::Arp, Hook::Input, by, None),
            Some(_) => self
                .run(&to.ns, Level::Ip, Hook::Prerouting, by, None)
                .and_then(|()| self.run(&to.ns, Level::Ip, Hook::Input, by, None)),
        }
    }

    fn run(&self, ns: &NsName, level: Level, hook: Hook, input: Option<IfName>, output: Option<IfName>) -> Carries {
        let Some(node) = self.snapshot.nodes.get(ns) else { return Ok(()) };
        // A frame gets its header when it leaves.
        let has_none = level == Level::Ip && matches!(hook, Hook::Output | Hook::Postrouting);
        let seen = Seen { input, output, ..Seen::frame(node, self.content, self.frame) };
        let seen = Seen { frame: seen.frame.filter(|_| !has_none), ..seen };
        filter::check(level, hook, seen).map(drop).map_err(|stopped| Dropped::new(ns, stopped.reason))
    }

    /// Out of the interface, and over the bridges.
    fn cross(&self, from: &Endpoint, crossings: &[Crossing]) -> Carries {
        self.run(&from.ns, Level::Device, Hook::Egress, None, Some(from.dev))?;
        crossings.iter().try_for_each(|crossing| self.cross_one(crossing))
    }

    fn cross_one(&self, crossing: &Crossing) -> Carries {
        let Some(node) = self.snapshot.nodes.get(&crossing.bridge.ns) else { return Ok(()) };
        let mut inside = Inside { carried: self, node, crossing, kept: Kept::default() };
        if let Some(port) = crossing.input {
            self.run(&crossing.bridge.ns, Level::Device, Hook::Ingress, Some(port), None)?;
            // What is for the node itself comes to the chains of IP there, once.
            inside.hook(Hook::Prerouting, crossing.output.is_some())?;
        }
        let Some(port) = crossing.output else { return inside.hook(Hook::Input, false) };
        match crossing.input {
            Some(_) => inside.hook(Hook::Forward, true)?,
            None => inside.hook(Hook::Output, false)?,
        }
        inside.hook(Hook::Postrouting, crossing.input.is_some())?;
        self.run(&crossing.bridge.ns, Level::Device, Hook::Egress, None, Some(port))
    }
}

/// A frame in a bridge.
struct Inside<'c, 'a> {
    carried: &'c Carried<'a>,
    node: &'c NodeState,
    crossing: &'c Crossing,
    kept: Kept,
}

impl Inside<'_, '_> {
    /// `ip`: may the chains of IP see it?
    fn hook(&mut self, hook: Hook, ip: bool) -> Carries {
        let ns = &self.crossing.bridge.ns;
        let at = |side| Level::Bridge(Some(side));
        let last = if hook == Hook::Postrouting { i32::MAX } else { BRIDGE_NF };
        self.run(at(Side::UpTo(last)), hook).map_err(|why| Dropped::new(ns, why))?;
        if ip {
            self.ip(hook)?;
        }
        self.run(at(Side::Behind(last)), hook).map_err(|why| Dropped::new(ns, why))
    }

    fn run(&mut self, level: Level, hook: Hook) -> Result<(), Reason> {
        /// `PACKET_OTHERHOST`, as a port takes what is for somebody else.
        const FOR_OTHERS: u8 = 3;
        let Carried { content, frame, .. } = *self.carried;
        let Crossing { bridge, input, output } = self.crossing;
        let in_ip = level == Level::Ip;
        let others = frame.kind == Frame::UNICAST && output.is_some() && !in_ip;
        let frame = Frame { kind: if others { FOR_OTHERS } else { frame.kind }, ..frame };
        let by = |port: &Option<IfName>| if in_ip { port.map(|_| bridge.dev) } else { *port };
        let (comes, leaves) = match hook {
            Hook::Prerouting | Hook::Input => (by(input), None),
            Hook::Output | Hook::Postrouting => (None, by(output)),
            _ => (by(input), by(output)),
        };
        let seen = Seen {
            input: comes,
            output: leaves,
            knows_connection: (self.carried.knows)(&bridge.ns),
            kept: self.kept,
            ..Seen::frame(self.node, content, frame)
        };
        let Passed { packet, kept } = filter::check(level, hook, seen).map_err(|stopped| stopped.reason)?;
        self.kept = kept;
        match (packet, content) {
            (Some(after), Content::Packet(before)) if after.ends() != before.ends() => {
                Err(Reason::Undecided("frames that cross its bridge are translated".to_owned()))
            }
            _ => Ok(()),
        }
    }

    /// The chains of IP, where they see frames.
    fn ip(&mut self, hook: Hook) -> Carries {
        let Crossing { bridge, .. } = self.crossing;
        let Some(family) = self.carried.content.family() else { return Ok(()) };
        let rules = self.node.firewall.iter();
        let chains = rules.flat_map(|rules| filter::chains_of(rules, Level::Ip, hook, None, Some(family)));
        let mut deciding =
            chains.filter(|chain| !chain.rules.is_empty() || chain.base.as_ref().is_some_and(|base| base.drops));
        let Some(chain) = deciding.next() else { return Ok(()) };
        let by_bridge = link_at(self.carried.snapshot, bridge).is_some_and(|link| link.bridge_nf.of(family));
        let sysctl = match self.node.bridge_nf {
            // In a recording of an earlier version.
            None if !by_bridge => {
                let what = format!("chain {} {} {} may look at frames", chain.family, chain.table, chain.name);
                return Err(Dropped::new(&bridge.ns, Reason::Undecided(what)));
            }
            None => false,
            Some(all) => all.of(family),
        };
        if !sysctl && !by_bridge {
            return Ok(());
        }
        let bridge_nf = Some(SysctlKey::bridge_nf(family));
        self.run(Level::Ip, hook).map_err(|why| Box::new(Dropped { by: bridge.ns.clone(), bridge_nf, why }))
    }
}
