//! What a kernel network looks like.
//!
//! Names, links, addresses, routes; [`NetState`], which is both the network that is *wanted* and
//! the one that was *found*; and [`Op`], a single change to it, which displays as the `ip` or
//! `sysctl` line that a person would have typed. [`Snapshot`] is all that decides where a packet goes.
//!
//! Pure. Knows nothing of labs, files or sockets; the caller brings the state.
#![forbid(unsafe_code)]

mod allow;
mod brackets;
mod execute;
mod ipv4_setting;
mod link;
mod name;
mod nat;
mod op;
mod route;
mod ruleset;
mod snapshot;
mod state;
mod sysctl;
mod transport;

pub use allow::{Allow, AllowError, Deny, DenyError, Hosts, Protocol, is_host_name, is_opened_by_name, is_outside};
pub use brackets::without_brackets;
pub use execute::Refused;
pub use ipv4_setting::{ConfOf, Ipv4Setting};
pub use link::{AltName, Link, LinkKind, MacAddr, MacAddrError, Mtu, MtuError};
pub use name::{IfName, IfNameError, NsName, NsNameError};
pub use nat::{Nat, NatRule, Service, drop_unasked, masquerade_from};
pub use op::{Endpoint, Op, VethEnd};
pub use route::{Family, NextHop, Route, RouteKey, RouteKind, WayOn};
pub use ruleset::{
    BaseChain, Chain, Comparison, Element, ElementValue, Hook, Loaded, NatStep, PortChoice, Rule, RuleStep,
    RuleVerdict, Ruleset, Set, Stored,
};
pub use snapshot::{
    BridgeNf, FibAction, FibRoute, Habits, IfAddress, Ipv4Conf, Ipv6Conf, LinkState, Listener, Neighbour, NodeState,
    PolicyRule, Redirect, RuleAction, Snapshot,
};
pub use state::{NetState, NsState};
pub use sysctl::{SysctlKey, SysctlKeyError};
pub use transport::Transport;

pub use ipnet::{IpNet, Ipv4Net, Ipv6Net};
