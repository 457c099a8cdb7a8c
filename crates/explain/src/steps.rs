//! What a kernel does with a packet at one hop, step by step in its order, up to the step that ends it: for
//! people who want to learn it.

use std::net::IpAddr;

use hopyard_net::{Endpoint, Family, FibRoute, Hook, IfName, MacAddr, NodeState, RouteKey, Snapshot, SysctlKey};

use crate::filter::{Level, chains_of};
use crate::forwarding::switch;
use crate::walk::{End, Hop, Walk};
use crate::{Packet, Protocol, Reason};

/// One thing that the kernel looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The chains of the firewall in a hook.
    Hook {
        /// Which.
        hook: Hook,
        /// How many chains are there that look at the packet; `None`: they could not be read.
        chains: Option<usize>,
    },
    /// Its addresses or ports are replaced.
    Translation {
        /// In that hook.
        hook: Hook,
        /// By which chain, as nft(8) names it, if only one there can.
        chain: Option<String>,
        /// As it came to the hook.
        before: Packet,
        /// As it goes on.
        after: Packet,
    },
    /// The routing decision: policy rules, and the longest prefix of the tables that they name.
    Lookup {
        /// What was found.
        route: Option<FibRoute>,
        /// Was it found among the node's own addresses?
        local: bool,
    },
    /// The source address, if the program has chosen none.
    Source {
        /// Which; `None`: there is none.
        addr: Option<IpAddr>,
    },
    /// Whether the node forwards what comes in there.
    Forwarding {
        /// The switch.
        key: SysctlKey,
        /// Is it on?
        on: bool,
    },
    /// Whether the source is believed (IPv4).
    Believe {
        /// 0 no check, 1 strict, 2 loose.
        rp_filter: u8,
    },
    /// The hops that are left.
    Ttl {
        /// So many when it leaves.
        left: u8,
    },
    /// Whether it fits through the interface.
    Size {
        /// The packet's.
        bytes: u32,
        /// The interface's MTU.
        mtu: u32,
    },
    /// The interface by which it leaves.
    Link {
        /// Which.
        dev: IfName,
        /// Administratively up.
        up: bool,
        /// With a signal.
        carrier: bool,
    },
    /// The Ethernet address of the next hop.
    Neighbour {
        /// Whose.
        addr: IpAddr,
        /// On which link.
        dev: IfName,
        /// What the neighbour table has; `None`: it is asked for.
        known: Option<MacAddr>,
    },
    /// The way to the other end.
    Wire {
        /// Where it comes in.
        to: Option<Endpoint>,
    },
    /// The socket that waits for it.
    Socket {
        /// Of which protocol.
        protocol: Protocol,
        /// At which port; of ICMP, none.
        port: u16,
    },
}

/// The part that a node has in a packet's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// It sends it.
    Sender,
    /// It sends it on.
    Router,
    /// It is for the node.
    Receiver,
}

impl Hop {
    /// Does the node replace its addresses or ports?
    pub fn translates(&self) -> bool {
        self.came.ends() != self.routed.ends() || self.routed.ends() != self.sent.ends()
    }

    /// The node's part in it.
    pub fn part(&self) -> Part {
        let local = self.route.as_ref().is_some_and(|route| route.key.table == FibRoute::LOCAL);
        match (self.input, local) {
            (None, _) => Part::Sender,
            (Some(_), true) => Part::Receiver,
            (Some(_), false) => Part::Router,
        }
    }
}

/// The steps of one hop, each with whether the packet gets past it. `at`: its place on the way.
pub fn steps(snapshot: &Snapshot, walk: &Walk, at: usize) -> Vec<(Step, bool)> {
    let Some(hop) = walk.hops.get(at) else { return Vec::new() };
    let Some(node) = snapshot.nodes.get(&hop.node) else { return Vec::new() };
    let teller = Teller { node, hop };
    let all = match hop.part() {
        Part::Sender => teller.sender(),
        Part::Router => teller.router(),
        Part::Receiver => teller.receiver(),
    };
    let Some(End::Dropped(reason)) = &hop.end else { return all.into_iter().map(|step| (step, true)).collect() };
    let mut told = Vec::new();
    for step in all {
        let ends = is_end(&step, reason, hop.part());
        told.push((step, !ends));
        if ends {
            break;
        }
    }
    // What is not understood ends it behind what is known: at the last chains, if there are any.
    if let Reason::Undecided(_) = reason {
        let looks = |step: &Step| matches!(step, Step::Hook { chains, .. } if *chains != Some(0));
        let chains = told.iter().rposition(|(step, _)| looks(step));
        let known = if hop.route.is_none() { 0 } else { told.len() };
        told.truncate(chains.map_or(known, |at| at + 1));
    }
    told
}

struct Teller<'a> {
    node: &'a NodeState,
    hop: &'a Hop,
}

impl Teller<'_> {
    fn sender(&self) -> Vec<Step> {
        let mut steps = vec![self.lookup(), Step::Source { addr: self.hop.routed.src }];
        if self.hop.route.as_ref().is_some_and(|route| route.key.table == FibRoute::LOCAL) {
            // From itself to itself.
            steps.extend([self.hook(Hook::Output), self.hook(Hook::Input), self.socket()]);
            return steps;
        }
        steps.extend(self.size());
        steps.push(self.hook(Hook::Output));
        steps.extend(self.leaving());
        steps
    }

    fn router(&self) -> Vec<Step> {
        let mut steps = self.coming();
        if let Some(dev) = self.hop.input {
            let (key, on) = switch(self.node, self.hop.routed.family(), dev);
            steps.push(Step::Forwarding { key, on });
        }
        steps.extend(self.believe());
        steps.push(Step::Ttl { left: self.hop.ttl });
        steps.extend(self.size());
        steps.push(self.hook(Hook::Forward));
        steps.extend(self.leaving());
        steps
    }

    fn receiver(&self) -> Vec<Step> {
        let mut steps = self.coming();
        steps.extend(self.believe());
        steps.extend([self.hook(Hook::Input), self.socket()]);
        steps
    }

    /// Up to the routing decision.
    fn coming(&self) -> Vec<Step> {
        let mut steps = vec![self.hook(Hook::Ingress), self.hook(Hook::Prerouting)];
        steps.extend(self.translation(Hook::Prerouting, self.hop.came, self.hop.routed));
        steps.push(self.lookup());
        steps
    }

    /// The last hook, and out.
    fn leaving(&self) -> Vec<Step> {
        let mut steps = vec![self.hook(Hook::Postrouting)];
        steps.extend(self.translation(Hook::Postrouting, self.hop.routed, self.hop.sent));
        steps.extend(self.wire());
        steps
    }

    fn translation(&self, hook: Hook, before: Packet, after: Packet) -> Option<Step> {
        if before.ends() == after.ends() {
            return None;
        }
        let chains = self.chains(hook).into_iter().flatten();
        let mut chains = chains.filter(|chain| chain.base.as_ref().is_some_and(|base| base.kind == "nat"));
        let first = chains.next().filter(|_| chains.next().is_none());
        let chain = first.map(|chain| format!("{} {} {}", chain.family, chain.table, chain.name));
        Some(Step::Translation { hook, chain, before, after })
    }

    fn hook(&self, hook: Hook) -> Step {
        Step::Hook { hook, chains: self.chains(hook).map(|chains| chains.len()) }
    }

    /// The chains that look at it in a hook.
    fn chains(&self, hook: Hook) -> Option<Vec<&hopyard_net::Chain>> {
        let (level, dev) = match hook {
            Hook::Ingress => (Level::Device, self.hop.input),
            Hook::Egress => (Level::Device, self.hop.next.as_ref().map(|next| next.dev)),
            _ => (Level::Ip, None),
        };
        let family = Some(self.hop.routed.family());
        self.node.firewall.as_ref().map(|rules| chains_of(rules, level, hook, dev, family))
    }

    fn lookup(&self) -> Step {
        let local = self.hop.route.as_ref().is_some_and(|route| route.key.table == FibRoute::LOCAL);
        Step::Lookup { route: self.hop.route.clone(), local }
    }

    fn believe(&self) -> Option<Step> {
        if self.hop.routed.family() == Family::Ipv6 {
            return None;
        }
        let link = self.node.links.get(&self.hop.input?)?;
        Some(Step::Believe { rp_filter: link.conf.rp_filter.max(self.node.all.rp_filter) })
    }

    fn size(&self) -> Option<Step> {
        let link = self.node.links.get(&self.hop.next.as_ref()?.dev)?;
        Some(Step::Size { bytes: self.hop.sent.length, mtu: link.mtu })
    }

    fn wire(&self) -> Vec<Step> {
        let Some(next) = &self.hop.next else { return Vec::new() };
        let Some(link) = self.node.links.get(&next.dev) else { return Vec::new() };
        let addr = next.via.unwrap_or(self.hop.sent.dst);
        let known = self.node.neighbours.iter().find(|it| it.dev == next.dev && it.addr == addr);
        let mut steps = vec![
            Step::Link { dev: next.dev, up: link.up, carrier: link.carrier },
            Step::Neighbour { addr, dev: next.dev, known: known.map(|known| known.mac) },
        ];
        // Few have any.
        if self.chains(Hook::Egress).is_some_and(|chains| !chains.is_empty()) {
            steps.push(self.hook(Hook::Egress));
        }
        steps.push(Step::Wire { to: self.hop.to.clone() });
        steps
    }

    fn socket(&self) -> Step {
        Step::Socket { protocol: self.hop.routed.protocol, port: self.hop.routed.destination_port }
    }
}

/// Is it this step that ends the packet?
fn is_end(step: &Step, reason: &Reason, part: Part) -> bool {
    match reason {
        Reason::NoRoute { .. } | Reason::RouteRefuses(_) | Reason::PolicyRule(_) | Reason::WrongNode { .. } => {
            matches!(step, Step::Lookup { .. })
        }
        Reason::ForwardingOff { .. } | Reason::NotAnOwner => matches!(step, Step::Forwarding { .. }),
        Reason::RpFilter { .. } | Reason::LocalSource => matches!(step, Step::Believe { .. }),
        Reason::SourceAddress if part == Part::Sender => matches!(step, Step::Source { .. }),
        Reason::SourceAddress => matches!(step, Step::Forwarding { .. }),
        Reason::LinkDown(_) | Reason::NoCarrier { .. } => matches!(step, Step::Link { .. }),
        Reason::NeighbourUnresolved { .. }
        | Reason::ArpRefused { .. }
        | Reason::WrongMask { .. }
        | Reason::DuplicateAddress { .. }
        | Reason::WrongNeighbour { .. }
        | Reason::DuplicateMac { .. }
        | Reason::LeavesKnown { .. } => matches!(step, Step::Neighbour { .. }),
        Reason::FrameDropped { asking: Some(_), .. } => matches!(step, Step::Neighbour { .. }),
        Reason::FrameDropped { asking: None, .. } => matches!(step, Step::Wire { .. }),
        Reason::Firewall { hook, .. } => matches!(step, Step::Hook { hook: here, .. } if here == hook),
        Reason::TooBig { .. } | Reason::PmtudBlackhole { .. } => matches!(step, Step::Size { .. }),
        Reason::MtuMismatch { .. } => matches!(step, Step::Wire { .. }),
        Reason::Loop(_) | Reason::TtlExpired => matches!(step, Step::Ttl { .. }),
        Reason::NoListener { .. } | Reason::WrongBindAddress { .. } | Reason::EchoIgnored { .. } => {
            matches!(step, Step::Socket { .. })
        }
        Reason::Undecided(_) => false,
    }
}

/// The name of a table, as ip-route(8) writes it.
pub fn table_name(table: u32) -> String {
    match table {
        RouteKey::MAIN => "main".to_owned(),
        FibRoute::LOCAL => "local".to_owned(),
        253 => "default".to_owned(),
        other => other.to_string(),
    }
}
