//! What the kernels themselves tell of a probe: which rules of their firewalls decided about it, and why they
//! dropped it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use hopyard_explain::{Reason, Trouble, Verdict, Walk};
use hopyard_kernel::drops::{Beginning, DropWatch, Dropped};
use hopyard_kernel::holders::NamespaceId;
use hopyard_kernel::nftables::{Decided, Heard, TraceStep, Tracer};
use hopyard_kernel::tap::Mark;
use hopyard_kernel::{KernelError, Part, World};
use hopyard_net::{Hook, LinkKind, NsName, RuleStep, Snapshot};

use super::probe::Seen;
use super::volley::Shot;
use super::{Disagreement, Report};
use crate::error::{Error, IoContext};

/// What the kernel of a node told of its firewall.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Traced {
    /// It was not asked: no rule is there, or the packet was not expected.
    #[default]
    Not,
    /// It would not tell.
    Refused(KernelError),
    /// It was.
    Told {
        /// The packets that came to its rules.
        met: BTreeSet<Part>,
        /// What was decided about them, in order.
        steps: Vec<TraceStep>,
    },
}

/// A packet of the probe that a kernel dropped.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lost {
    /// Which packet.
    pub part: Part,
    /// The kernel's word for the reason. Not the same in all kernels.
    pub reason: String,
}

impl Traced {
    /// What was decided about one of the packets.
    pub fn of(&self, part: Part) -> impl Iterator<Item = &TraceStep> {
        let steps = if let Traced::Told { steps, .. } = self { steps.as_slice() } else { &[] };
        steps.iter().filter(move |step| step.part == part)
    }

    /// What ended one of the packets.
    pub fn end_of(&self, part: Part) -> Option<&TraceStep> {
        self.of(part).filter(|step| step.decided == Decided::Drop).last()
    }
}

/// Who is asked.
#[derive(Debug)]
pub(super) struct Asked {
    /// The firewalls.
    pub(super) trace: bool,
    /// The kernel that drops packets, of one probe alone.
    pub(super) watch: Option<Beginning>,
}

/// The witnesses of probes.
#[derive(Debug)]
pub(super) struct Witnesses {
    tracers: Vec<(NsName, Tracer)>,
    drops: Option<(DropWatch, BTreeMap<u64, NsName>)>,
}

impl Witnesses {
    /// Calls them: the firewalls of those nodes that have rules and may get to see a probe, and the kernel that drops
    /// packets. Who does not come is noted.
    pub(super) fn call(
        world: &World,
        snapshot: &Snapshot,
        nodes: &[(NsName, OwnedFd)],
        shots: &mut [Shot<'_>],
        Asked { trace, watch }: Asked,
    ) -> Result<Self, Error> {
        let rules = |node: &NsName| {
            let rules = snapshot.nodes.get(node).and_then(|node| node.firewall.as_ref());
            rules.filter(|rules| !rules.chains.is_empty())
        };
        // Also the switches between those that it passes.
        let is_switch = |node: &NsName| {
            let links = snapshot.nodes.get(node).map(|node| node.links.values());
            links.into_iter().flatten().any(|link| link.kind == LinkKind::Bridge)
        };
        let asked = nodes.iter().filter(|_| trace);
        let ruled = asked.filter_map(|(node, at)| Some((node, (at.as_fd(), rules(node)?))));
        let ruled: Vec<_> =
            ruled.filter(|(node, _)| is_switch(node) || shots.iter().any(|shot| shot.passes(node))).collect();
        let mut tracers = Vec::new();
        if !ruled.is_empty() {
            let namespaces: Vec<_> = ruled.iter().map(|(_, at)| *at).collect();
            let marks: Vec<Mark> = shots.iter().map(|shot| shot.mark).collect();
            let opened = Tracer::open_all(world.realm(), &namespaces, &marks);
            let opened = opened.context(|| "trace the packet through the firewalls of the nodes".to_owned())?;
            for ((node, _), tracer) in ruled.into_iter().zip(opened) {
                let traced = match &tracer {
                    Ok(_) => Traced::Told { met: BTreeSet::new(), steps: Vec::new() },
                    Err(error) => Traced::Refused(error.clone()),
                };
                for shot in shots.iter_mut().filter(|shot| is_switch(node) || shot.passes(node)) {
                    shot.seen.nodes.entry(node.clone()).or_default().traced = traced.clone();
                }
                tracers.extend(tracer.ok().map(|tracer| (node.clone(), tracer)));
            }
        }
        let Some(watch) = watch else { return Ok(Witnesses { tracers, drops: None }) };
        let drops = watch.finish().and_then(|watch| {
            let namespaces: Vec<_> = nodes.iter().map(|(_, namespace)| namespace.as_fd()).collect();
            watch.watch(&namespaces)?;
            Ok(watch)
        });
        let drops = match drops {
            Ok(watch) => {
                let name = |(node, namespace): &(NsName, OwnedFd)| {
                    Ok((NamespaceId::of(namespace.as_fd())?.inode(), node.clone()))
                };
                let names = nodes.iter().map(name).collect::<io::Result<_>>();
                Some((watch, names.context(|| "look at the nodes".to_owned())?))
            }
            Err(error) => {
                for shot in shots {
                    shot.seen.no_reasons = Some(error.clone());
                }
                None
            }
        };
        Ok(Witnesses { tracers, drops })
    }

    /// What becomes readable when there is something new.
    pub(super) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.tracers.iter().map(|(_, tracer)| tracer.as_fd())
    }

    /// Notes what they have said since the last time. `marks`: of the probes, in their order.
    pub(super) fn listen(&mut self, marks: &[Mark], shots: &mut [Shot<'_>]) {
        self.tracers.retain_mut(|(node, tracer)| match tracer.read() {
            Ok(Heard { met: new, steps: decided }) => {
                for (at, part) in new {
                    if let Some(Traced::Told { met, .. }) = shots.get_mut(at).and_then(|shot| shot.traced_at(node)) {
                        met.insert(part);
                    }
                }
                for (at, step) in decided {
                    if let Some(Traced::Told { steps, .. }) = shots.get_mut(at).and_then(|shot| shot.traced_at(node)) {
                        steps.push(step);
                    }
                }
                true
            }
            // Half of it would say something else.
            Err(error) => {
                for traced in shots.iter_mut().filter_map(|shot| shot.traced_at(node)) {
                    *traced = Traced::Refused(error.clone());
                }
                false
            }
        });
        let Some((watch, names)) = &mut self.drops else { return };
        let ([mark], [shot]) = (marks, shots) else { return };
        while let Some(Dropped { namespace, part, reason }) = watch.next(mark) {
            let Some(node) = names.get(&namespace) else { continue };
            let lost = &mut shot.seen.nodes.entry(node.clone()).or_default().lost;
            let found = Lost { part, reason };
            if !lost.contains(&found) {
                lost.push(found);
            }
        }
    }

    /// They are not needed any more. What is returned is to be closed.
    pub(super) fn dismiss(self) -> impl Iterator<Item = OwnedFd> {
        self.tracers.into_iter().map(|(_, tracer)| tracer.into())
    }
}

/// Where a firewall did something else than the model says.
pub(super) fn compare(verdict: &Verdict, seen: &Seen) -> Vec<Disagreement> {
    let mut found = Vec::new();
    let back = verdict.back.iter().filter(|_| verdict.there.arrives()).map(|walk| (walk, true));
    // Which of several ways it went is not known.
    let walks = std::iter::once((&verdict.there, false)).chain(back).filter(|(walk, _)| !walk.by_chance);
    for (walk, back) in walks {
        let last = walk.last().map(|last| &last.node);
        let mut nodes: BTreeMap<&NsName, Option<&Reason>> =
            walk.nodes().map(|node| (node, walk.reason().filter(|_| last == Some(node)))).collect();
        // It leaves that node, and ends at another one, which is on no way.
        if let Some(Reason::FrameDropped { by, asking: None, why, .. }) = walk.reason() {
            nodes.extend(last.map(|last| (last, None)));
            nodes.insert(by, Some(&**why));
        }
        found.extend(nodes.into_iter().filter_map(|(node, reason)| compare_at(back, node, reason, seen)));
    }
    found
}

/// `reason`: why it ends in that node.
fn compare_at(back: bool, node: &NsName, reason: Option<&Reason>, seen: &Seen) -> Option<Disagreement> {
    let at = seen.nodes.get(node)?;
    let Traced::Told { met, .. } = &at.traced else { return None };
    if !met.contains(&Part::on_way(back)) {
        return None;
    }
    let stopped = at.traced.end_of(Part::on_way(back));
    let agrees = match reason {
        // It is wrong there, whatever becomes of it.
        Some(Reason::Undecided(_) | Reason::WrongNode { .. }) => true,
        // It comes to those before it can be traced.
        Some(Reason::Firewall { family, .. }) if family == "netdev" => true,
        // Several rules would do the same.
        Some(Reason::Firewall { certain: false, .. }) => stopped.is_some(),
        Some(Reason::Firewall { family, table, chain, rule, .. }) => stopped
            .is_some_and(|step| (&step.family, &step.table, &step.chain, &step.rule) == (family, table, chain, rule)),
        _ => stopped.is_none(),
    };
    (!agrees).then(|| Disagreement::Firewall { back, node: node.clone(), stopped: stopped.cloned() })
}

/// What may have kept a packet from getting where it should: what dropped it in nodes that are on no way, which are
/// switches.
pub(super) fn beside(verdict: &Verdict, back: bool, seen: &Seen) -> Vec<Disagreement> {
    let stops = stops_beside(verdict, back, seen);
    let told = |(node, stopped): (&NsName, &TraceStep)| Disagreement::Firewall {
        back,
        node: node.clone(),
        stopped: Some(stopped.clone()),
    };
    stops.map(told).collect()
}

fn stops_beside<'a>(
    verdict: &'a Verdict,
    back: bool,
    seen: &'a Seen,
) -> impl Iterator<Item = (&'a NsName, &'a TraceStep)> {
    let is_on_way =
        |node: &NsName| verdict.there.nodes().chain(verdict.back.iter().flat_map(Walk::nodes)).any(|it| it == node);
    let others = seen.nodes.iter().filter(move |(node, _)| !is_on_way(node));
    others.filter_map(move |(node, at)| Some((node, at.traced.end_of(Part::on_way(back))?)))
}

/// Has a firewall dropped the packet where the model does not know what it does? Then nothing more is to be seen.
pub(super) fn has_settled(verdict: &Verdict, seen: &Seen) -> bool {
    verdict.trouble().is_some_and(|open| stopped(verdict, &open, seen).is_some())
}

/// The node and what dropped it there: at the place that is not known, or at a switch behind it.
fn stopped<'a>(verdict: &'a Verdict, open: &'a Trouble, seen: &'a Seen) -> Option<(&'a NsName, &'a TraceStep)> {
    let Trouble { back, node, reason: Reason::Undecided(_) } = open else { return None };
    let here = seen.nodes.get(node).and_then(|at| at.traced.end_of(Part::on_way(*back)));
    here.map(|step| (node, step)).or_else(|| stops_beside(verdict, *back, seen).next())
}

/// Where the model does not know what a node does and a firewall has dropped the packet: that, instead.
pub(super) fn settle(report: &Report, open: &Trouble) -> Option<Trouble> {
    let seen = report.seen.as_ref()?;
    let (node, step) = stopped(&report.verdict, open, seen)?;
    let TraceStep { part, family, table, chain, rule, .. } = step;
    let traced = &seen.nodes.get(node)?.traced;
    let state = report.snapshot.nodes.get(node)?;
    let firewall = state.firewall.as_ref()?;
    let chains = &firewall.chains;
    let named = |name: &str, step: &TraceStep| {
        chains.iter().find(|it| it.name == name && it.table == step.table && it.family == step.family)
    };
    // A chain that was jumped to has no hook of its own.
    let base = |step: &TraceStep| named(&step.chain, step)?.base.as_ref().map(|base| base.hook);
    let hook: Hook = traced.of(*part).filter_map(base).last()?;
    let rules = chains.iter().filter(|it| (&it.family, &it.table, &it.name) == (family, table, chain));
    let decisive = rules
        .flat_map(|chain| chain.rules.iter().map(move |rule| (chain, rule)))
        .find(|(_, it)| Some(it.handle) == *rule);
    let rejects = decisive.is_some_and(|(_, it)| it.steps.iter().any(|step| matches!(step, RuleStep::Reject { .. })));
    let text = decisive.map(|(chain, it)| firewall.text_in(state, chain, it));
    let (family, table, chain) = (family.clone(), table.clone(), chain.clone());
    let reason = Reason::Firewall { hook, family, table, chain, rule: *rule, text, certain: true, rejects };
    Some(Trouble { back: open.back, node: node.clone(), reason })
}

#[cfg(test)]
mod tests {
    use super::*;
    use hopyard_explain::{End, Hop, Packet, Protocol};
    use hopyard_net::Ruleset;

    fn step(part: Part, chain: &str, rule: Option<u64>, decided: Decided) -> TraceStep {
        TraceStep { part, family: "inet".to_owned(), table: "fw".to_owned(), chain: chain.to_owned(), rule, decided }
    }

    fn firewall(family: &str, rule: Option<u64>) -> Reason {
        let (family, table, chain) = (family.to_owned(), "fw".to_owned(), "forward".to_owned());
        Reason::Firewall { hook: Hook::Forward, family, table, chain, rule, text: None, certain: true, rejects: false }
    }

    /// One node, at which the packet ends so.
    fn verdict(end: End) -> Verdict {
        let packet = Packet::probe("10.0.0.1".parse().unwrap(), Protocol::Icmp, 0);
        let hop = Hop {
            node: "r".parse().unwrap(),
            input: Some("eth0".parse().unwrap()),
            ttl: 64,
            mark: 0,
            crossed: Vec::new(),
            route: None,
            next: None,
            to: None,
            end: Some(end),
            came: packet,
            routed: packet,
            sent: packet,
        };
        let there = Walk { packet, hops: vec![hop], by_chance: false, translations: Vec::new() };
        Verdict { there, back: None }
    }

    fn seen(met: &[Part], steps: Vec<TraceStep>) -> Seen {
        let mut seen = Seen::default();
        let traced = Traced::Told { met: met.iter().copied().collect(), steps };
        seen.nodes.entry("r".parse().unwrap()).or_default().traced = traced;
        seen
    }

    #[test]
    fn another_rule_than_the_model_says_is_a_contradiction() {
        /// What the model says, what was met and decided, and what that contradicts.
        type Case<'a> = (End, &'a [Part], Vec<TraceStep>, Option<Option<TraceStep>>);
        let unknown = Reason::Undecided("a set".to_owned());
        let by = |rule| step(Part::Packet, "forward", rule, Decided::Drop);
        let passed = || vec![step(Part::Packet, "forward", None, Decided::Accept)];
        let wrong = || Reason::WrongNode { wanted: "b".parse().unwrap() };
        let met = &[Part::Packet][..];
        let cases: [Case<'_>; 13] = [
            (End::Dropped(firewall("inet", Some(4))), met, vec![by(Some(4))], None),
            (End::Dropped(firewall("inet", Some(4))), met, vec![by(Some(5))], Some(Some(by(Some(5))))),
            (End::Dropped(firewall("inet", Some(4))), met, vec![by(None)], Some(Some(by(None)))),
            (End::Dropped(firewall("inet", None)), met, vec![by(None)], None),
            (End::Dropped(firewall("inet", Some(4))), met, passed(), Some(None)),
            (End::Dropped(firewall("inet", Some(4))), &[], Vec::new(), None),
            (End::Dropped(firewall("netdev", Some(4))), met, passed(), None),
            (End::Dropped(unknown), met, vec![by(Some(4))], None),
            (End::Dropped(Reason::NotAnOwner), met, vec![by(Some(4))], Some(Some(by(Some(4))))),
            (End::Dropped(wrong()), met, vec![by(Some(4))], None),
            (End::Dropped(wrong()), met, passed(), None),
            (End::Delivered, met, passed(), None),
            (End::Delivered, met, vec![by(Some(4))], Some(Some(by(Some(4))))),
        ];
        for (end, met, steps, stopped) in cases {
            let name = format!("{end:?} {steps:?}");
            let node: NsName = "r".parse().unwrap();
            let expected = stopped.map(|stopped| Disagreement::Firewall { back: false, node, stopped });
            assert_eq!(compare(&verdict(end), &seen(met, steps)), Vec::from_iter(expected), "{name}");
        }
    }

    #[test]
    fn what_the_model_does_not_know_the_trace_settles() {
        let open = verdict(End::Dropped(Reason::Undecided("rule 4: a set".to_owned())));
        let jumped = step(Part::Packet, "forward", Some(4), Decided::On);
        let dropped = step(Part::Packet, "more", Some(7), Decided::Drop);
        let back = step(Part::Reply, "forward", Some(8), Decided::Drop);
        assert!(!has_settled(&open, &seen(&[Part::Packet], vec![jumped.clone(), back])));
        let seen = seen(&[Part::Packet], vec![jumped, dropped]);
        assert!(has_settled(&open, &seen));
        let chain = |name: &str, base: Option<hopyard_net::BaseChain>, rules: Vec<hopyard_net::Rule>| {
            hopyard_net::Chain { family: "inet".to_owned(), table: "fw".to_owned(), name: name.to_owned(), base, rules }
        };
        let base = hopyard_net::BaseChain {
            hook: Hook::Forward,
            priority: 0,
            drops: false,
            kind: "filter".to_owned(),
            devices: Vec::new(),
        };
        let reject = hopyard_net::Rule { handle: 7, steps: vec![RuleStep::Reject { reset: false, with: None }] };
        let chains = vec![chain("forward", Some(base), Vec::new()), chain("more", None, vec![reject])];
        let mut snapshot = Snapshot::default();
        snapshot.nodes.entry("r".parse().unwrap()).or_default().firewall = Some(Ruleset { chains, sets: Vec::new() });
        let packet = open.there.packet;
        let report = Report {
            query: hopyard_explain::Query { from: "a".parse().unwrap(), packet, wanted: None },
            verdict: open,
            asked: Vec::new(),
            seen: Some(seen),
            disagreements: Vec::new(),
            repair: None,
            forbidden: super::super::Forbidden::default(),
            owner: None,
            snapshot: snapshot.into(),
        };
        let trouble = report.trouble().unwrap();
        let Reason::Firewall { hook, chain, rule, rejects, .. } = trouble.reason else { panic!("{trouble:?}") };
        assert_eq!((hook, chain.as_str(), rule, rejects), (Hook::Forward, "more", Some(7), true));
        assert_eq!(report.outcome(), hopyard_explain::Outcome::No);
    }
}
