//! A single change to a network, and the command that a person would type for it.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{AltName, IfName, MacAddr, Mtu, Nat, NsName, Route, RouteKey, SysctlKey};

/// An interface in a namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Endpoint {
    /// The namespace.
    pub ns: NsName,
    /// The interface in it.
    pub dev: IfName,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.ns, self.dev)
    }
}

/// One end of a veth pair that is to be made.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct VethEnd {
    /// Where it is.
    pub at: Endpoint,
    /// Its Ethernet address; `None`: the kernel draws one.
    pub mac: Option<MacAddr>,
    /// Its MTU; `None`: the kernel's default of 1500.
    pub mtu: Option<Mtu>,
}

/// A single change.
///
/// [`NetState::execute`](crate::NetState::execute) says what each means.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Op {
    /// Makes a namespace, with `lo` in it, down.
    AddNs(NsName),
    /// Gives a namespace up, with all that is in it; a veth end elsewhere goes with its peer.
    DelNs(NsName),
    /// Sets a sysctl.
    SetSysctl {
        /// The namespace.
        ns: NsName,
        /// Which.
        key: SysctlKey,
        /// The value.
        value: String,
    },
    /// Makes a bridge: down, without spanning tree and multicast snooping.
    AddBridge(Endpoint),
    /// Makes a veth pair, both ends in place, both down.
    AddVeth {
        /// One end.
        a: VethEnd,
        /// The other.
        b: VethEnd,
    },
    /// Moves an interface of the machine into the namespace, where it is down and has nothing.
    TakeLink(Endpoint),
    /// Gives an interface back to the machine.
    ReturnLink(Endpoint),
    /// Removes an interface; of a veth pair, both ends.
    DelLink(Endpoint),
    /// Gives an interface a second name.
    AddAltName {
        /// The interface.
        at: Endpoint,
        /// The second name.
        name: AltName,
    },
    /// Takes a second name away.
    DelAltName {
        /// The interface.
        at: Endpoint,
        /// The second name.
        name: AltName,
    },
    /// Sets the Ethernet address.
    SetMac {
        /// The interface.
        at: Endpoint,
        /// Its new address.
        mac: MacAddr,
    },
    /// Sets the MTU.
    SetMtu {
        /// The interface.
        at: Endpoint,
        /// Its new MTU.
        mtu: Mtu,
    },
    /// Makes an interface a port of a bridge, or of none.
    SetMaster {
        /// The interface.
        at: Endpoint,
        /// The bridge, in the same namespace.
        master: Option<IfName>,
    },
    /// Sets an interface administratively up or down.
    SetUp {
        /// The interface.
        at: Endpoint,
        /// Up?
        up: bool,
    },
    /// Adds an address. IPv6: usable at once, without duplicate address detection.
    AddAddr {
        /// The interface.
        at: Endpoint,
        /// The address and its prefix length.
        addr: IpNet,
    },
    /// Removes an address.
    DelAddr {
        /// The interface.
        at: Endpoint,
        /// The address and its prefix length.
        addr: IpNet,
    },
    /// Adds a route that is not there, or replaces the one of the same [`RouteKey`].
    SetRoute {
        /// The namespace.
        ns: NsName,
        /// The route.
        route: Route,
    },
    /// Removes a route.
    DelRoute {
        /// The namespace.
        ns: NsName,
        /// Which.
        key: RouteKey,
    },
    /// Adds or replaces a permanent neighbour.
    SetNeigh {
        /// The interface.
        at: Endpoint,
        /// The neighbour's address.
        addr: IpAddr,
        /// Its Ethernet address.
        mac: MacAddr,
    },
    /// Removes a permanent neighbour.
    DelNeigh {
        /// The interface.
        at: Endpoint,
        /// The neighbour's address.
        addr: IpAddr,
    },
    /// Makes the table that translates addresses, in the place of the one that is there: at once,
    /// without a moment in which there is none. Connections that are translated stay as they are.
    SetNat {
        /// The namespace.
        ns: NsName,
        /// What it translates.
        nat: Nat,
        /// Is there such a table?
        replace: bool,
    },
    /// Removes the table that translates addresses.
    DelNat(NsName),
}

impl Op {
    /// The namespace in which it happens: of a veth pair, that of its first end.
    pub fn ns(&self) -> &NsName {
        match self {
            Op::AddNs(ns)
            | Op::DelNs(ns)
            | Op::DelNat(ns)
            | Op::SetNat { ns, .. }
            | Op::SetSysctl { ns, .. }
            | Op::SetRoute { ns, .. }
            | Op::DelRoute { ns, .. } => ns,
            Op::AddVeth { a, .. } => &a.at.ns,
            Op::AddBridge(at)
            | Op::TakeLink(at)
            | Op::ReturnLink(at)
            | Op::DelLink(at)
            | Op::AddAltName { at, .. }
            | Op::DelAltName { at, .. }
            | Op::SetMac { at, .. }
            | Op::SetMtu { at, .. }
            | Op::SetMaster { at, .. }
            | Op::SetUp { at, .. }
            | Op::AddAddr { at, .. }
            | Op::DelAddr { at, .. }
            | Op::SetNeigh { at, .. }
            | Op::DelNeigh { at, .. } => &at.ns,
        }
    }

    /// What it does, in words that fit behind "cannot".
    pub fn purpose(&self) -> String {
        match self {
            Op::AddNs(ns) => format!("create node {ns}"),
            Op::DelNs(ns) => format!("remove node {ns}"),
            Op::SetSysctl { ns, key, value } => format!("set {key} = {value} in {ns}"),
            Op::AddBridge(at) => format!("create bridge {at}"),
            Op::AddVeth { a, b } => format!("create link {} -- {}", a.at, b.at),
            Op::TakeLink(at) => format!("take the machine's interface {} into {}", at.dev, at.ns),
            Op::ReturnLink(at) => format!("give the interface {} of {} back to the machine", at.dev, at.ns),
            Op::DelLink(at) => format!("remove interface {at}"),
            Op::AddAltName { at, name } => format!("name {at} also {name}"),
            Op::DelAltName { at, name } => format!("take the name {name} from {at}"),
            Op::SetMac { at, mac } => format!("give {at} the Ethernet address {mac}"),
            Op::SetMtu { at, mtu } => format!("set the MTU of {at} to {mtu}"),
            Op::SetMaster { at, master: Some(bridge) } => format!("make {at} a port of {bridge}"),
            Op::SetMaster { at, master: None } => format!("take {at} out of its bridge"),
            Op::SetUp { at, up: true } => format!("set {at} up"),
            Op::SetUp { at, up: false } => format!("set {at} down"),
            Op::AddAddr { at, addr } => format!("give {at} the address {addr}"),
            Op::DelAddr { at, addr } => format!("take the address {addr} from {at}"),
            Op::SetRoute { ns, route } => format!("set the route to {} in {ns}", route.key),
            Op::DelRoute { ns, key } => format!("remove the route to {key} from {ns}"),
            Op::SetNeigh { at, addr, .. } => format!("set the neighbour {addr} of {at}"),
            Op::DelNeigh { at, addr } => format!("remove the neighbour {addr} of {at}"),
            Op::SetNat { ns, .. } => format!("translate addresses in {ns}"),
            Op::DelNat(ns) => format!("stop translating addresses in {ns}"),
        }
    }
}

impl fmt::Display for Op {
    /// The line that a person would have typed: ip-link(8), ip-address(8), ip-route(8),
    /// ip-neighbour(8), ip-netns(8), sysctl(8), nft(8). Interfaces are named behind `dev` or `name`, for ip(8) takes
    /// a bare word that abbreviates one of its keywords, as `br` does, for that keyword.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Op::AddNs(ns) => write!(f, "ip netns add {ns}"),
            Op::DelNs(ns) => write!(f, "ip netns delete {ns}"),
            Op::SetSysctl { ns, key, value } => {
                // Values are numbers or lists of them; quoted only where a shell would split them.
                if value.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':')) {
                    write!(f, "ip netns exec {ns} sysctl -w {key}={value}")
                } else {
                    write!(f, "ip netns exec {ns} sysctl -w {key}='{}'", value.replace('\'', r"'\''"))
                }
            }
            Op::AddBridge(at) => write!(f, "ip -n {} link add name {} type bridge mcast_snooping 0", at.ns, at.dev),
            Op::AddVeth { a, b } => {
                write!(f, "ip -n {} link add name {}", a.at.ns, a.at.dev)?;
                write_veth_end(f, a)?;
                write!(f, " type veth peer name {}", b.at.dev)?;
                write_veth_end(f, b)?;
                write!(f, " netns {}", b.at.ns)
            }
            Op::TakeLink(at) => write!(f, "ip link set dev {} netns {}", at.dev, at.ns),
            Op::ReturnLink(at) => write!(f, "ip -n {} link set dev {} netns 1", at.ns, at.dev),
            Op::DelLink(at) => write!(f, "ip -n {} link delete dev {}", at.ns, at.dev),
            Op::AddAltName { at, name } => write!(f, "ip -n {} link property add dev {} altname {name}", at.ns, at.dev),
            Op::DelAltName { at, name } => write!(f, "ip -n {} link property del dev {} altname {name}", at.ns, at.dev),
            Op::SetMac { at, mac } => write!(f, "ip -n {} link set dev {} address {mac}", at.ns, at.dev),
            Op::SetMtu { at, mtu } => write!(f, "ip -n {} link set dev {} mtu {mtu}", at.ns, at.dev),
            Op::SetMaster { at, master: Some(bridge) } => {
                write!(f, "ip -n {} link set dev {} master {bridge}", at.ns, at.dev)
            }
            Op::SetMaster { at, master: None } => write!(f, "ip -n {} link set dev {} nomaster", at.ns, at.dev),
            Op::SetUp { at, up } => {
                write!(f, "ip -n {} link set dev {} {}", at.ns, at.dev, if *up { "up" } else { "down" })
            }
            Op::AddAddr { at, addr } => {
                write!(f, "ip -n {} address add {addr} dev {}", at.ns, at.dev)?;
                if matches!(addr, IpNet::V6(_)) { f.write_str(" nodad") } else { Ok(()) }
            }
            Op::DelAddr { at, addr } => write!(f, "ip -n {} address delete {addr} dev {}", at.ns, at.dev),
            Op::SetRoute { ns, route } => write!(f, "ip -n {ns} {}route replace {route}", family_flag(&route.key)),
            Op::DelRoute { ns, key } => write!(f, "ip -n {ns} {}route delete {key}", family_flag(key)),
            Op::SetNeigh { at, addr, mac } => {
                write!(f, "ip -n {} neigh replace {addr} lladdr {mac} dev {} nud permanent", at.ns, at.dev)
            }
            Op::DelNeigh { at, addr } => write!(f, "ip -n {} neigh delete {addr} dev {}", at.ns, at.dev),
            Op::SetNat { ns, nat, replace } => {
                write!(f, "ip netns exec {ns} nft '")?;
                if *replace {
                    write!(f, "delete table inet {}; ", Nat::TABLE)?;
                }
                // An interface may be named with this mark, too.
                write!(f, "{}'", nat.to_string().replace('\'', r"'\''"))
            }
            Op::DelNat(ns) => write!(f, "ip netns exec {ns} nft delete table inet {}", Nat::TABLE),
        }
    }
}

/// `default` alone would be taken for IPv4.
fn family_flag(key: &RouteKey) -> &'static str {
    if key.is_default() && matches!(key.prefix, IpNet::V6(_)) { "-6 " } else { "" }
}

fn write_veth_end(f: &mut fmt::Formatter<'_>, end: &VethEnd) -> fmt::Result {
    if let Some(mac) = end.mac {
        write!(f, " address {mac}")?;
    }
    if let Some(mtu) = end.mtu {
        write!(f, " mtu {mtu}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NextHop;

    fn at(ns: &str, dev: &str) -> Endpoint {
        Endpoint { ns: ns.parse().unwrap(), dev: dev.parse().unwrap() }
    }

    #[test]
    fn an_op_is_the_command_that_a_person_would_type() {
        let end =
            |ns, dev, mac: Option<&str>| VethEnd { at: at(ns, dev), mac: mac.map(|m| m.parse().unwrap()), mtu: None };
        let hop = |via: &str| NextHop { via: Some(via.parse().unwrap()), dev: "eth0".parse().unwrap(), weight: 1 };
        let cases: [(Op, &str); 8] = [
            (Op::AddNs("r1".parse().unwrap()), "ip netns add r1"),
            (
                Op::AddVeth { a: end("r1", "eth1", Some("02:00:00:00:00:01")), b: end("r2", "eth0", None) },
                "ip -n r1 link add name eth1 address 02:00:00:00:00:01 type veth peer name eth0 netns r2",
            ),
            (
                Op::SetRoute {
                    ns: "r1".parse().unwrap(),
                    route: Route::unicast("10.0.2.0/24".parse().unwrap(), vec![hop("10.0.1.1")]),
                },
                "ip -n r1 route replace 10.0.2.0/24 via 10.0.1.1 dev eth0",
            ),
            (
                Op::SetRoute {
                    ns: "r1".parse().unwrap(),
                    route: Route::unicast("10.0.2.0/24".parse().unwrap(), vec![hop("fe80::1")]),
                },
                "ip -n r1 route replace 10.0.2.0/24 via inet6 fe80::1 dev eth0",
            ),
            (
                Op::SetRoute {
                    ns: "r1".parse().unwrap(),
                    route: Route::unicast("::/0".parse().unwrap(), vec![hop("fd00::2"), hop("fd00::1")]),
                },
                "ip -n r1 -6 route replace default nexthop via fd00::1 dev eth0 weight 1 nexthop via fd00::2 dev eth0 weight 1",
            ),
            (
                Op::SetSysctl { ns: "r1".parse().unwrap(), key: SysctlKey::IPV4_FORWARD, value: "1".into() },
                "ip netns exec r1 sysctl -w net.ipv4.ip_forward=1",
            ),
            (
                Op::SetSysctl {
                    ns: "r1".parse().unwrap(),
                    key: "net.ipv4.tcp_rmem".parse().unwrap(),
                    value: "1 2 '".into(),
                },
                r"ip netns exec r1 sysctl -w net.ipv4.tcp_rmem='1 2 '\'''",
            ),
            (
                Op::AddAddr { at: at("r1", "lo"), addr: "fd00::1/128".parse().unwrap() },
                "ip -n r1 address add fd00::1/128 dev lo nodad",
            ),
        ];
        for (op, line) in cases {
            assert_eq!(op.to_string(), line);
        }
    }
}
