//! Which operations may go to the kernel together.

use std::ops::Range;

use hopyard_net::Op;

/// What the operations of a phase have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Namespaces end.
    EndSpaces,
    /// Interfaces go.
    RemoveLinks,
    /// Namespaces are made, and get the sysctls that belong to no interface while a thread is there.
    MakeSpaces,
    /// Interfaces are made.
    MakeLinks,
    /// Interfaces come from the machine, or go there.
    MoveLinks,
    /// Each operation concerns one namespace, and no other one sees it.
    Configure,
}

/// Consecutive operations that may go to the kernel together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Phase {
    pub(super) kind: Kind,
    pub(super) ops: Range<usize>,
}

/// Cuts a list of operations into as few phases as keep its meaning.
pub(super) fn phases(ops: &[Op]) -> Vec<Phase> {
    let mut phases: Vec<Phase> = Vec::new();
    for (at, op) in ops.iter().enumerate() {
        let kind = match op {
            Op::DelNs(_) => Kind::EndSpaces,
            Op::DelLink(_) => Kind::RemoveLinks,
            Op::AddNs(_) => Kind::MakeSpaces,
            Op::AddBridge(_) | Op::AddVeth { .. } => Kind::MakeLinks,
            Op::TakeLink(_) | Op::ReturnLink(_) => Kind::MoveLinks,
            _ => Kind::Configure,
        };
        match phases.last_mut() {
            Some(last) if last.kind == kind || joins(last.kind, op) => last.ops.end = at + 1,
            _ => phases.push(Phase { kind, ops: at..at + 1 }),
        }
    }
    phases
}

fn joins(kind: Kind, op: &Op) -> bool {
    kind == Kind::MakeSpaces && matches!(op, Op::SetSysctl { key, .. } if key.interface().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hopyard_net::{Endpoint, SysctlKey};

    #[test]
    fn a_new_lab_has_three_phases() {
        let ns = |name: &str| name.parse().unwrap();
        let lo = |name: &str| Endpoint { ns: ns(name), dev: "lo".parse().unwrap() };
        let sysctl =
            |key: &str| Op::SetSysctl { ns: ns("a"), key: key.parse::<SysctlKey>().unwrap(), value: "1".into() };
        let ops = [
            Op::AddNs(ns("a")),
            Op::AddNs(ns("b")),
            sysctl("net.ipv4.ip_forward"),
            Op::AddBridge(lo("a")),
            Op::SetUp { at: lo("a"), up: true },
            sysctl("net.ipv4.conf.lo.rp_filter"),
            sysctl("net.ipv4.ip_forward"),
            Op::SetUp { at: lo("b"), up: true },
            Op::DelNs(ns("a")),
        ];
        let found: Vec<_> = phases(&ops).into_iter().map(|phase| (phase.kind, phase.ops)).collect();
        assert_eq!(
            found,
            [(Kind::MakeSpaces, 0..3), (Kind::MakeLinks, 3..4), (Kind::Configure, 4..8), (Kind::EndSpaces, 8..9)]
        );
    }
}
