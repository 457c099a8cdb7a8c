//! Does a node send on what is for others, and by which switch?

use hopyard_net::{Family, IfName, NodeState, SysctlKey};

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
    let elsewhere = node.links.iter().any(|(name, link)| *name != IfName::LO && link.conf.forwarding);
    let key = match (family, elsewhere) {
        (Family::Ipv4, true) => forwarding_of(dev).unwrap_or(SysctlKey::IPV4_FORWARD),
        _ => family.forwarding_key(),
    };
    Reason::ForwardingOff { key, by }
}

/// `net.ipv4.conf.IF.forwarding`.
pub(crate) fn forwarding_of(dev: IfName) -> Option<SysctlKey> {
    conf_key(dev, "forwarding")
}

/// `net.ipv4.conf.IF.KEY`, with the dots of the name as sysctl(8) wants them.
pub(crate) fn conf_key(dev: IfName, key: &str) -> Option<SysctlKey> {
    format!("net.ipv4.conf.{}.{key}", dev.as_str().replace('.', "/")).parse().ok()
}
