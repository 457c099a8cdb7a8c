//! Routes: destinations, next hops, what makes two routes the same.

use std::fmt;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use crate::{IfName, SysctlKey};

/// An Internet protocol version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

impl Family {
    /// Both, IPv4 first.
    pub const BOTH: [Family; 2] = [Family::Ipv4, Family::Ipv6];

    /// The family of an address.
    pub const fn of(addr: IpAddr) -> Self {
        match addr {
            IpAddr::V4(_) => Family::Ipv4,
            IpAddr::V6(_) => Family::Ipv6,
        }
    }

    /// The prefix that contains every address of the family.
    pub fn default_prefix(self) -> IpNet {
        match self {
            Family::Ipv4 => IpNet::V4(Ipv4Net::default()),
            Family::Ipv6 => IpNet::V6(Ipv6Net::default()),
        }
    }

    /// The switch that makes a namespace a router for the family.
    pub fn forwarding_key(self) -> SysctlKey {
        match self {
            Family::Ipv4 => SysctlKey::IPV4_FORWARD,
            Family::Ipv6 => SysctlKey::IPV6_FORWARD,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Family::Ipv4 => "IPv4",
            Family::Ipv6 => "IPv6",
        })
    }
}

/// What makes a route a route of its own: a table may have one entry of each (ip-route(8)).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RouteKey {
    /// The destination, with no bit set beyond its length.
    pub prefix: IpNet,
    /// The routing table; 254 is `main`.
    pub table: u32,
    /// The priority; less is preferred. The kernel makes 0 of IPv6 into 1024, so 1024 is IPv6's
    /// "none given" and is kept as 0 here.
    pub metric: u32,
}

impl RouteKey {
    /// The number of the table `main`.
    pub const MAIN: u32 = 254;

    /// An entry of `main` without a metric. Bits beyond the prefix length are cleared.
    pub fn main(prefix: IpNet) -> Self {
        RouteKey { prefix: prefix.trunc(), table: Self::MAIN, metric: 0 }
    }

    /// The family of the destination.
    pub fn family(&self) -> Family {
        match self.prefix {
            IpNet::V4(_) => Family::Ipv4,
            IpNet::V6(_) => Family::Ipv6,
        }
    }

    /// Is it `0.0.0.0/0` or `::/0`?
    pub fn is_default(&self) -> bool {
        self.prefix.prefix_len() == 0
    }
}

/// One way on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NextHop {
    /// The neighbour to send to; `None`: the destination is on the link itself.
    pub via: Option<IpAddr>,
    /// The interface to send from.
    pub dev: IfName,
    /// Its share among several, 1 to 256.
    pub weight: u16,
}

/// A way on in a route of a family, as ip-route(8) writes it.
#[derive(Clone, Copy, Debug)]
pub struct WayOn<'a> {
    hop: &'a NextHop,
    family: Family,
}

/// What a route does with a packet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RouteKind {
    /// Sends it on. Never empty; several: equal-cost multipath. In ascending order.
    Unicast(Vec<NextHop>),
    /// Drops it and says nothing.
    Blackhole,
    /// Drops it and answers "host unreachable".
    Unreachable,
    /// Drops it and answers "administratively prohibited".
    Prohibit,
}

/// A route and where it leads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Route {
    /// What makes it a route of its own.
    pub key: RouteKey,
    /// What it does.
    pub kind: RouteKind,
    /// The source address that packets sent by the node itself get.
    pub src: Option<IpAddr>,
    /// The TTL or hop limit of packets that the node itself sends along it.
    pub hop_limit: Option<u8>,
}

impl Route {
    /// A route in `main` through one or more next hops.
    pub fn unicast(prefix: IpNet, mut hops: Vec<NextHop>) -> Self {
        hops.sort();
        Route { key: RouteKey::main(prefix), kind: RouteKind::Unicast(hops), src: None, hop_limit: None }
    }

    /// The ways on; none where it drops packets.
    pub fn next_hops(&self) -> &[NextHop] {
        match &self.kind {
            RouteKind::Unicast(hops) => hops,
            RouteKind::Blackhole | RouteKind::Unreachable | RouteKind::Prohibit => &[],
        }
    }
}

impl fmt::Display for RouteKey {
    /// As ip-route(8) writes it: `10.0.2.0/24`, `default`, with `table` and `metric` where set.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_default() {
            f.write_str("default")?;
        } else {
            write!(f, "{}", self.prefix)?;
        }
        if self.table != Self::MAIN {
            write!(f, " table {}", self.table)?;
        }
        if self.metric != 0 {
            write!(f, " metric {}", self.metric)?;
        }
        Ok(())
    }
}

impl NextHop {
    /// As a route of that family has it.
    pub fn of(&self, family: Family) -> WayOn<'_> {
        WayOn { hop: self, family }
    }
}

impl WayOn<'_> {
    /// `via 10.0.1.1`, or `via inet6 fe80::1` in a route of IPv4; `None`: the destination is on the link itself.
    pub fn via(&self) -> Option<String> {
        let via = self.hop.via?;
        let word = match (self.family, Family::of(via)) {
            (Family::Ipv4, Family::Ipv6) => "inet6 ",
            (Family::Ipv6, Family::Ipv4) => "inet ",
            _ => "",
        };
        Some(format!("via {word}{via}"))
    }
}

impl fmt::Display for WayOn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(via) = self.via() {
            write!(f, "{via} ")?;
        }
        write!(f, "dev {}", self.hop.dev)
    }
}

impl fmt::Display for Route {
    /// The arguments of `ip route add`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            RouteKind::Unicast(_) => {}
            RouteKind::Blackhole => f.write_str("blackhole ")?,
            RouteKind::Unreachable => f.write_str("unreachable ")?,
            RouteKind::Prohibit => f.write_str("prohibit ")?,
        }
        write!(f, "{}", self.key)?;
        if let Some(src) = self.src {
            write!(f, " src {src}")?;
        }
        if let Some(limit) = self.hop_limit {
            write!(f, " hoplimit {limit}")?;
        }
        match &self.kind {
            RouteKind::Unicast(hops) if hops.len() == 1 => write!(f, " {}", hops[0].of(self.key.family())),
            RouteKind::Unicast(hops) => {
                for hop in hops {
                    write!(f, " nexthop {} weight {}", hop.of(self.key.family()), hop.weight)?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
