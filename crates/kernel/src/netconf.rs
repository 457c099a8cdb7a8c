//! Forwarding switches, read over netlink: a tenth of the price of a visit to `/proc/sys`, and
//! nothing that the kernel would have to remember. The codec crate has no `RTM_GETNETCONF`.

use hopyard_net::{Family, Ipv4Conf, SysctlKey};
use netlink_packet_core::NlasIterator;

use crate::decode;
use crate::error::Refusal;
use crate::netlink::{Answers, Batch, Inbox, RtSocket, Step};

const RTM_NEWNETCONF: u16 = 80;
const RTM_GETNETCONF: u16 = 82;
const NETCONFA_IFINDEX: u16 = 1;
const NETCONFA_FORWARDING: u16 = 2;
const NETCONFA_RP_FILTER: u16 = 3;
/// Of IPv4 `proxy_arp`, of IPv6 `proxy_ndp`.
const NETCONFA_PROXY_NEIGH: u16 = 5;
const NETCONFA_IGNORE_ROUTES_WITH_LINKDOWN: u16 = 6;
/// What `conf.all` and `conf.default` are called here.
const NETCONFA_IFINDEX_ALL: i32 = -1;
const NETCONFA_IFINDEX_DEFAULT: i32 = -2;

/// The family whose forwarding switch the key is.
pub(crate) fn family_switched_by(key: &SysctlKey) -> Option<Family> {
    Family::BOTH.into_iter().find(|family| family.forwarding_key() == *key)
}

/// The forwarding switch of a family, as its sysctl shows it. `None`: the kernel does not say.
pub(crate) fn read_forwarding(socket: &RtSocket, family: Family, inbox: &mut Inbox) -> Result<Option<String>, Refusal> {
    read_switch(socket, family, NETCONFA_IFINDEX_ALL, inbox)
}

/// A switch, and what interfaces that are made later have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Switched {
    pub(crate) all: bool,
    pub(crate) default: bool,
}

/// Which parts of the switch have that value? A new namespace has of IPv4 what the machine's first one has in this very
/// moment. What the kernel does not say, has not.
pub(crate) fn switched(socket: &RtSocket, family: Family, value: &str, inbox: &mut Inbox) -> Switched {
    let mut is =
        |index: i32| read_switch(socket, family, index, inbox).is_ok_and(|found| found.as_deref() == Some(value));
    Switched { all: is(NETCONFA_IFINDEX_ALL), default: is(NETCONFA_IFINDEX_DEFAULT) }
}

fn read_switch(socket: &RtSocket, family: Family, index: i32, inbox: &mut Inbox) -> Result<Option<String>, Refusal> {
    let mut value = None;
    ask(socket, family, index, inbox, |payload| value = value.or_else(|| forwarding(payload)))?;
    Ok(value.map(|value| value.to_string()))
}

/// `net.ipv6.conf.all`, as far as it decides about packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct AllIpv6 {
    pub(crate) forwarding: bool,
    pub(crate) proxy_ndp: bool,
}

/// Nothing of it is on in a kernel without IPv6.
pub(crate) fn read_all_ipv6(socket: &RtSocket, inbox: &mut Inbox) -> Result<AllIpv6, Refusal> {
    let mut all = AllIpv6::default();
    read(socket, Family::Ipv6, inbox, |kind, value| match kind {
        NETCONFA_FORWARDING => all.forwarding = value != 0,
        NETCONFA_PROXY_NEIGH => all.proxy_ndp = value != 0,
        _ => {}
    })?;
    Ok(all)
}

/// `net.ipv4.conf.all`, as far as this socket tells it.
pub(crate) fn read_all(socket: &RtSocket, inbox: &mut Inbox) -> Result<Ipv4Conf, Refusal> {
    let mut conf = Ipv4Conf::default();
    read(socket, Family::Ipv4, inbox, |kind, value| match kind {
        NETCONFA_FORWARDING => conf.forwarding = value != 0,
        NETCONFA_RP_FILTER => conf.rp_filter = decode::small(value),
        NETCONFA_PROXY_NEIGH => conf.proxy_arp = value != 0,
        NETCONFA_IGNORE_ROUTES_WITH_LINKDOWN => conf.ignore_routes_with_linkdown = value != 0,
        _ => {}
    })?;
    Ok(conf)
}

/// Each value of a family's `conf.all`, by the kernel's number for it.
fn read(socket: &RtSocket, family: Family, inbox: &mut Inbox, mut take: impl FnMut(u16, i32)) -> Result<(), Refusal> {
    ask(socket, family, NETCONFA_IFINDEX_ALL, inbox, |payload| {
        for attribute in NlasIterator::new(payload.get(4..).unwrap_or_default()).flatten() {
            let Some(value) = attribute.value().first_chunk().copied().map(i32::from_ne_bytes) else { continue };
            take(attribute.kind(), value);
        }
    })
}

/// Asks for what a family has of an interface, or for all of them.
fn ask(
    socket: &RtSocket,
    family: Family,
    index: i32,
    inbox: &mut Inbox,
    mut take: impl FnMut(&[u8]),
) -> Result<(), Refusal> {
    let mut batch = Batch::default();
    batch.push_bytes(1, RTM_GETNETCONF, 0, &request(family, index));
    socket.converse(&batch, 0, inbox, &mut |step| {
        if let Step::Message(bytes) = step {
            Answers(bytes).filter(|answer| answer.kind == RTM_NEWNETCONF).for_each(|answer| take(answer.payload));
        }
        Ok(())
    })?;
    Ok(())
}

/// `struct netconfmsg`, padded, and the interface.
fn request(family: Family, index: i32) -> Vec<u8> {
    let family = match family {
        Family::Ipv4 => libc::AF_INET,
        Family::Ipv6 => libc::AF_INET6,
    };
    let mut body = vec![u8::try_from(family).unwrap_or_default(), 0, 0, 0];
    body.extend(8_u16.to_ne_bytes());
    body.extend(NETCONFA_IFINDEX.to_ne_bytes());
    body.extend(index.to_ne_bytes());
    body
}

fn forwarding(payload: &[u8]) -> Option<i32> {
    NlasIterator::new(payload.get(4..)?)
        .flatten()
        .find(|attribute| attribute.kind() == NETCONFA_FORWARDING)
        .and_then(|attribute| attribute.value().first_chunk().copied())
        .map(i32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_switch_is_found_among_other_values() {
        let mut payload = request(Family::Ipv6, NETCONFA_IFINDEX_ALL);
        assert_eq!(forwarding(&payload), None);
        payload.extend([8_u16, NETCONFA_FORWARDING].map(u16::to_ne_bytes).concat());
        payload.extend(1_i32.to_ne_bytes());
        assert_eq!(forwarding(&payload), Some(1));
        assert_eq!(forwarding(&[]), None);
    }

    #[test]
    fn only_the_two_switches_are_read_so() {
        assert_eq!(family_switched_by(&SysctlKey::IPV6_FORWARD), Some(Family::Ipv6));
        assert_eq!(family_switched_by(&"net.ipv4.conf.eth0.forwarding".parse().unwrap()), None);
    }
}
