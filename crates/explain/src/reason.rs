//! Why a packet ends where it should not, as data.

use std::net::IpAddr;

use hopyard_net::{Endpoint, FibRoute, Hook, IfName, IpNet, Listener, MacAddr, NsName, PolicyRule, SysctlKey};
use serde::Serialize;

use crate::{Code, Packet};

/// Why a packet ends at a node. [`code`](Reason::code) is stable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// No route to the destination.
    NoRoute {
        /// The destinations that the table `main` has.
        known: Vec<IpNet>,
        /// An interface that leads there and is down; its routes went with it.
        down: Option<IfName>,
    },
    /// The route says so: blackhole, unreachable or prohibit.
    RouteRefuses(FibRoute),
    /// A policy rule says so.
    PolicyRule(Box<PolicyRule>),
    /// It is for somebody else, and the node does not forward.
    ForwardingOff {
        /// The switch.
        key: SysctlKey,
        /// Where it would leave.
        by: Option<IfName>,
    },
    /// It was sent here as if the node had the address.
    NotAnOwner,
    /// The way back to its source does not lead where it came from (RFC 3704).
    RpFilter {
        /// Must it lead through the same interface?
        strict: bool,
        /// Where it leads.
        back_by: Option<IfName>,
    },
    /// It comes from outside with an address of the node's own as its source.
    LocalSource,
    /// The interface by which it would leave is down.
    LinkDown(IfName),
    /// There is no signal on the interface: the other end is down.
    NoCarrier {
        /// The interface.
        dev: IfName,
        /// The other end.
        peer: Option<Endpoint>,
    },
    /// Nobody answers for the address of the next hop.
    NeighbourUnresolved {
        /// The address that is asked for.
        addr: IpAddr,
        /// On that link.
        dev: IfName,
        /// A port or interface on the way that is down.
        down: Option<Endpoint>,
    },
    /// Who has the address of the next hop does not answer for it.
    ArpRefused {
        /// The address that is asked for.
        addr: IpAddr,
        /// On that link.
        dev: IfName,
        /// Who has it.
        by: Endpoint,
        /// Why there is no answer.
        why: ArpRefusal,
    },
    /// The destination is taken for a neighbour, because the network of an interface is too large.
    WrongMask {
        /// The destination.
        addr: IpAddr,
        /// The interface.
        dev: IfName,
        /// What is set on it.
        net: IpNet,
    },
    /// Several nodes answer for the address of the next hop.
    DuplicateAddress {
        /// The address.
        addr: IpAddr,
        /// Who answers.
        owners: Vec<Endpoint>,
    },
    /// Several interfaces of the segment have the Ethernet address that the frame is for.
    DuplicateMac {
        /// The Ethernet address.
        mac: MacAddr,
        /// Who has it.
        owners: Vec<Endpoint>,
        /// What becomes of the frame.
        fate: TwinFate,
    },
    /// The neighbour table has a wrong Ethernet address.
    WrongNeighbour {
        /// Of that address
        addr: IpAddr,
        /// on that link
        dev: IfName,
        /// it says this.
        mac: MacAddr,
        /// Somebody set it; else it was learnt and is out of date.
        permanent: bool,
        /// Who has that Ethernet address.
        leads_to: Option<Endpoint>,
    },
    /// The firewall drops or rejects it.
    Firewall {
        /// Where.
        hook: Hook,
        /// The family of the table.
        family: String,
        /// The table.
        table: String,
        /// The chain.
        chain: String,
        /// The handle of the rule; `None`: the chain's policy.
        rule: Option<u64>,
        /// The rule as nft(8) lists it.
        text: Option<String>,
        /// Is it certainly this one? A rule before it, of which it is not known whether it holds, may have done the same.
        certain: bool,
        /// Does the sender get an answer?
        rejects: bool,
    },
    /// On the wire a firewall drops it: that of a switch, or of the interface at the other end.
    FrameDropped {
        /// Whose firewall it is.
        by: NsName,
        /// The sysctl by which rules about packets see the frames of a switch; `None`: it is a rule about frames.
        bridge_nf: Option<SysctlKey>,
        /// Not the packet itself, but the question for this address, or the answer to it.
        asking: Option<(IpAddr, bool)>,
        /// What it drops it by.
        why: Box<Reason>,
    },
    /// It is larger than the interface sends, and may not be cut.
    TooBig {
        /// The interface.
        dev: IfName,
        /// What it sends.
        mtu: u32,
    },
    /// The same, and the ICMP error that says so does not come to the sender: whoever looks for the size that
    /// fits (RFC 1191, RFC 8201) finds none, and waits.
    PmtudBlackhole {
        /// The interface.
        dev: IfName,
        /// What it sends.
        mtu: u32,
        /// The node where the error ends.
        lost: NsName,
        /// Why it does.
        why: Box<Reason>,
        /// The error, as it is where it ends.
        error: Box<Packet>,
    },
    /// It is larger than the other end takes in, which drops it without a word.
    MtuMismatch {
        /// Who takes less in.
        at: Endpoint,
        /// How much.
        mtu: u32,
    },
    /// It goes round in a circle.
    Loop(Vec<NsName>),
    /// It may make no more hops.
    TtlExpired,
    /// Nothing waits for it.
    NoListener {
        /// What else waits there.
        others: Vec<Listener>,
    },
    /// Something waits at the port, on another address.
    WrongBindAddress {
        /// The socket.
        listener: Listener,
    },
    /// It is a ping, and the node is told to answer none.
    EchoIgnored {
        /// The switch.
        key: SysctlKey,
    },
    /// It comes to another node than it should.
    WrongNode {
        /// Where it should come.
        wanted: NsName,
    },
    /// The node has no address to send from.
    SourceAddress,
    /// It leaves what is known: by an interface of which the other end cannot be seen.
    LeavesKnown {
        /// The interface.
        by: Endpoint,
    },
    /// What decides is not understood.
    Undecided(String),
}

/// What becomes of a frame for an Ethernet address that is there twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TwinFate {
    /// It comes to the one of whom the switches have heard last.
    Chance,
    /// Its sender has the address too: no switch sends it back to where it comes from.
    OfSender,
    /// A switch on its way has the address too, and keeps the frame. Its node may send it on.
    OfSwitch,
}

/// Why a node does not answer for an address that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ArpRefusal {
    /// It does not believe the address that asks.
    RpFilter {
        /// Must the way back lead through the same interface?
        strict: bool,
    },
    /// The address that asks is its own.
    OwnAddress,
    /// It is told to keep silent.
    ArpIgnore,
    /// IPv6: it answers to a wrong Ethernet address, which its neighbour table has for the address that asks.
    WrongNeighbour {
        /// The address that asks.
        asker: IpAddr,
    },
}

impl Reason {
    /// Its name, which does not change, as a text. `back`: it is about the answer.
    pub fn code(&self, back: bool) -> &'static str {
        self.kind(back).as_str()
    }

    /// The same, as one of a closed list.
    pub fn kind(&self, back: bool) -> Code {
        match self {
            Reason::NoRoute { down: Some(_), .. } | Reason::LinkDown(_) => Code::LinkDown,
            Reason::NoRoute { .. } if back => Code::NoReturnRoute,
            Reason::NoRoute { .. } => Code::NoRoute,
            Reason::RouteRefuses(route) => match &route.action {
                hopyard_net::FibAction::Route(hopyard_net::RouteKind::Unreachable) => Code::Unreachable,
                hopyard_net::FibAction::Route(hopyard_net::RouteKind::Prohibit) => Code::Prohibit,
                _ => Code::Blackhole,
            },
            Reason::PolicyRule(_) => Code::PolicyRule,
            Reason::ForwardingOff { .. } => Code::ForwardingOff,
            Reason::NotAnOwner => Code::NotAnOwner,
            Reason::RpFilter { .. } => Code::RpFilter,
            Reason::LocalSource => Code::LocalSource,
            Reason::NoCarrier { .. } => Code::NoCarrier,
            Reason::NeighbourUnresolved { .. } => Code::NeighbourUnresolved,
            Reason::ArpRefused { .. } => Code::ArpRefused,
            Reason::WrongMask { .. } => Code::WrongMask,
            Reason::DuplicateAddress { .. } => Code::DuplicateAddress,
            Reason::DuplicateMac { .. } => Code::DuplicateMac,
            Reason::WrongNeighbour { permanent: true, .. } => Code::WrongStaticNeighbour,
            Reason::WrongNeighbour { .. } => Code::StaleNeighbour,
            Reason::Firewall { .. } | Reason::FrameDropped { bridge_nf: None, .. } => Code::Firewall,
            Reason::FrameDropped { bridge_nf: Some(_), .. } => Code::FirewallBridge,
            Reason::TooBig { .. } => Code::Mtu,
            Reason::PmtudBlackhole { .. } => Code::PmtudBlackhole,
            Reason::MtuMismatch { .. } => Code::MtuMismatch,
            Reason::Loop(_) => Code::TtlLoop,
            Reason::TtlExpired => Code::TtlExpired,
            Reason::NoListener { .. } => Code::NoListener,
            Reason::WrongBindAddress { .. } => Code::WrongBindAddress,
            Reason::EchoIgnored { .. } => Code::EchoIgnored,
            Reason::WrongNode { .. } if back => Code::ReturnToWrongNode,
            Reason::WrongNode { .. } => Code::WrongNode,
            Reason::SourceAddress => Code::SourceAddress,
            Reason::LeavesKnown { .. } => Code::LeavesKnown,
            Reason::Undecided(_) => Code::Undecided,
        }
    }

    /// Does it leave open whether the packet arrives?
    pub fn is_undecided(&self) -> bool {
        // Which of two answers comes first is chance, and so is who has spoken last.
        matches!(
            self,
            Reason::Undecided(_)
                | Reason::LeavesKnown { .. }
                | Reason::DuplicateAddress { .. }
                | Reason::DuplicateMac { fate: TwinFate::Chance | TwinFate::OfSwitch, .. }
        )
    }
}
