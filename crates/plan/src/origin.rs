//! Which line of the file asked for what, and plans whose steps know it.

use std::collections::BTreeMap;

use hopyard_model::Span;
use hopyard_net::{Endpoint, NetState, NsName, Op, RouteKey};
use serde::Serialize;

use crate::{Wanted, diff};

/// Which place in the file asked for each thing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins {
    /// Of nodes and switches.
    pub namespaces: BTreeMap<NsName, Span>,
    /// Of interfaces, and so of what is set on them.
    pub interfaces: BTreeMap<Endpoint, Span>,
    /// Of routes given by hand.
    pub routes: BTreeMap<(NsName, RouteKey), Span>,
    /// Of the translation of addresses.
    pub nat: BTreeMap<NsName, Span>,
}

impl Origins {
    /// The place that asked for an operation; `None` where the plan itself did.
    pub fn of(&self, op: &Op) -> Option<Span> {
        let specific = match op {
            Op::SetRoute { ns, route } => self.routes.get(&(ns.clone(), route.key.clone())),
            Op::SetNat { ns, .. } => self.nat.get(ns),
            Op::AddVeth { a, .. } => self.interfaces.get(&a.at),
            Op::AddBridge(at)
            | Op::TakeLink(at)
            | Op::AddAltName { at, .. }
            | Op::SetMac { at, .. }
            | Op::SetMtu { at, .. }
            | Op::SetMaster { at, .. }
            | Op::SetUp { at, .. }
            | Op::AddAddr { at, .. }
            | Op::SetNeigh { at, .. } => self.interfaces.get(at),
            Op::AddNs(_)
            | Op::DelNs(_)
            | Op::SetSysctl { .. }
            | Op::ReturnLink(_)
            | Op::DelLink(_)
            | Op::DelAltName { .. }
            | Op::DelAddr { .. }
            | Op::DelRoute { .. }
            | Op::DelNeigh { .. }
            | Op::DelNat(_) => None,
        };
        specific.or_else(|| self.namespaces.get(op.ns())).copied()
    }
}

/// An operation and the place in the file that asked for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// What to do.
    pub op: Op,
    /// Who asked.
    pub origin: Option<Span>,
}

/// What to do, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// The steps.
    pub steps: Vec<Step>,
}

impl Plan {
    /// The way from the network that was found to the wanted one.
    pub fn new(found: &NetState, wanted: &Wanted) -> Plan {
        let step = |op: Op| Step { origin: wanted.origins.of(&op), op };
        Plan { steps: diff(found, &wanted.state).into_iter().map(step).collect() }
    }

    /// Is there nothing to do?
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}
