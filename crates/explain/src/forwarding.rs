//! Does a node send on what is for others, and by which switch?

use hopyard_net::{Family, IfName, LinkState, NodeState, SysctlKey};

use crate::Reason;

pub(crate) fn forwards(node: &NodeState, family: Family, input: IfName) -> bool {
    match family {
        Family::Ipv4 => node.links.get(&input).is_some_and(|link| link.conf.forwarding),
        Family::Ipv6 => node.forwards_ipv6 || node.links.get(&input).is_some_and(|link| link.ipv6.force_forwarding),
    }
}

/// `taken_for_it`: who sent it here took this node for the destination.
pub(crate) fn not_forwarding(
    node: &NodeState,
    family: Family,
    taken_for_it: bool,
    dev: IfName,
    by: Option<IfName>,
) -> Reason {
    if taken_for_it {
        return Reason::NotAnOwner;
    }
    Reason::ForwardingOff { key: own_switch(node, family, dev).unwrap_or(family.forwarding_key()), by }
}

/// The switch that decides about what comes in by an interface, and whether it is on.
pub(crate) fn switch(node: &NodeState, family: Family, dev: IfName) -> (SysctlKey, bool) {
    let own = match family {
        Family::Ipv4 => switch_of(family, dev),
        Family::Ipv6 => own_switch(node, family, dev).filter(|_| !node.forwards_ipv6),
    };
    (own.unwrap_or(family.forwarding_key()), forwards(node, family, dev))
}

/// That of the interface alone, where a node forwards by single interfaces: then it has that switch (which IPv6 has since
/// Linux 6.17), and is not meant to forward what comes in anywhere.
fn own_switch(node: &NodeState, family: Family, dev: IfName) -> Option<SysctlKey> {
    let is_on = |link: &LinkState| match family {
        Family::Ipv4 => link.conf.forwarding,
        Family::Ipv6 => link.ipv6.force_forwarding,
    };
    let elsewhere = node.links.iter().any(|(name, link)| *name != IfName::LO && is_on(link));
    if elsewhere { switch_of(family, dev) } else { None }
}

/// `net.ipv4.conf.IF.forwarding`, `net.ipv6.conf.IF.force_forwarding`.
fn switch_of(family: Family, dev: IfName) -> Option<SysctlKey> {
    match family {
        Family::Ipv4 => conf_key("ipv4", dev, "forwarding"),
        Family::Ipv6 => conf_key("ipv6", dev, "force_forwarding"),
    }
}

/// `net.ipv4.conf.IF.KEY`, with the dots of the name as sysctl(8) wants them.
pub(crate) fn conf_key(family: &str, dev: IfName, key: &str) -> Option<SysctlKey> {
    format!("net.{family}.conf.{}.{key}", dev.as_str().replace('.', "/")).parse().ok()
}
