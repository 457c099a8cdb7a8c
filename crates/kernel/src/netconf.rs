//! What is set for all interfaces, read over netlink: a tenth of the price of a visit to `/proc/sys`, and
//! nothing that the kernel would have to remember. The codec crate has no `RTM_GETNETCONF`.

use hopyard_net::{ConfOf, Family, Ipv4Conf, Ipv4Setting};
use netlink_packet_core::NlasIterator;

use crate::error::Refusal;
use crate::links::LOOPBACK;
use crate::netlink::{Answers, Batch, Inbox, RtSocket, Step};
use crate::{decode, encode};

const RTM_NEWNETCONF: u16 = 80;
const RTM_GETNETCONF: u16 = 82;
const NETCONFA_IFINDEX: u16 = 1;
const NETCONFA_FORWARDING: u16 = 2;
const NETCONFA_RP_FILTER: u16 = 3;
/// Of IPv4 `proxy_arp`, of IPv6 `proxy_ndp`.
const NETCONFA_PROXY_NEIGH: u16 = 5;
const NETCONFA_IGNORE_ROUTES_WITH_LINKDOWN: u16 = 6;
const NETCONFA_BC_FORWARDING: u16 = 8;

/// What of `net.ipv4.conf.all` or `.default` this socket tells: of each setting the number, and the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told(Vec<(u16, i32)>);

impl Told {
    pub(crate) fn ask(socket: &RtSocket, of: ConfOf, inbox: &mut Inbox) -> Result<Told, Refusal> {
        let mut values = Vec::new();
        read(socket, Family::Ipv4, of, inbox, |kind, value| {
            values.extend(setting_told_by(kind).map(|number| (number, value)));
        })?;
        Ok(Told(values))
    }

    pub(crate) fn value(&self, setting: &Ipv4Setting) -> Option<i32> {
        self.0.iter().find(|(number, _)| *number == setting.number).map(|(_, value)| *value)
    }
}

/// The number that a value of IPv4 has among those of an interface (`linux/ip.h`).
fn setting_told_by(kind: u16) -> Option<u16> {
    Some(match kind {
        NETCONFA_FORWARDING => 1,
        NETCONFA_PROXY_NEIGH => 3,
        NETCONFA_RP_FILTER => 8,
        NETCONFA_IGNORE_ROUTES_WITH_LINKDOWN => 29,
        NETCONFA_BC_FORWARDING => 32,
        _ => return None,
    })
}

/// Is it among what this socket tells?
pub(crate) fn tells(setting: &Ipv4Setting) -> bool {
    (NETCONFA_FORWARDING..=NETCONFA_BC_FORWARDING).any(|kind| setting_told_by(kind) == Some(setting.number))
}

/// All values of `net.ipv4.conf.lo`, in the order of their numbers, which begin with 1.
pub(crate) fn of_loopback(socket: &RtSocket, inbox: &mut Inbox) -> Result<Vec<i32>, Refusal> {
    /// `struct ifinfomsg`.
    const HEADER: usize = 16;
    let mut batch = Batch::default();
    batch.push(1, 0, encode::get_link(LOOPBACK));
    let mut values = Vec::new();
    socket.converse(&batch, 0, inbox, &mut |step| {
        let Step::Message(bytes) = step else { return Ok(()) };
        for answer in Answers(bytes).filter(|answer| answer.kind == libc::RTM_NEWLINK) {
            let conf = answer
                .payload
                .get(HEADER..)
                .and_then(|attributes| within(attributes, encode::IFLA_AF_SPEC))
                .and_then(|families| within(&families, u16::try_from(libc::AF_INET).ok()?))
                .and_then(|family| within(&family, encode::IFLA_INET_CONF));
            values.extend(conf.unwrap_or_default().as_chunks().0.iter().copied().map(i32::from_ne_bytes));
        }
        Ok(())
    })?;
    Ok(values)
}

/// What the attribute of that kind has in it.
fn within(attributes: &[u8], kind: u16) -> Option<Vec<u8>> {
    NlasIterator::new(attributes).flatten().find(|it| it.kind() == kind).map(|it| it.value().to_vec())
}

/// `net.ipv6.conf.all.forwarding` or its like in `default`. `None`: the kernel does not say.
pub(crate) fn ipv6_forwarding(socket: &RtSocket, of: ConfOf, inbox: &mut Inbox) -> Result<Option<i32>, Refusal> {
    let mut forwarding = None;
    read(socket, Family::Ipv6, of, inbox, |kind, value| {
        if kind == NETCONFA_FORWARDING {
            forwarding = Some(value);
        }
    })?;
    Ok(forwarding)
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
    read(socket, Family::Ipv6, ConfOf::All, inbox, |kind, value| match kind {
        NETCONFA_FORWARDING => all.forwarding = value != 0,
        NETCONFA_PROXY_NEIGH => all.proxy_ndp = value != 0,
        _ => {}
    })?;
    Ok(all)
}

/// `net.ipv4.conf.all`, as far as this socket tells it.
pub(crate) fn read_all(socket: &RtSocket, inbox: &mut Inbox) -> Result<Ipv4Conf, Refusal> {
    let mut conf = Ipv4Conf::default();
    read(socket, Family::Ipv4, ConfOf::All, inbox, |kind, value| match kind {
        NETCONFA_FORWARDING => conf.forwarding = value != 0,
        NETCONFA_RP_FILTER => conf.rp_filter = decode::small(value),
        NETCONFA_PROXY_NEIGH => conf.proxy_arp = value != 0,
        NETCONFA_IGNORE_ROUTES_WITH_LINKDOWN => conf.ignore_routes_with_linkdown = value != 0,
        _ => {}
    })?;
    Ok(conf)
}

/// Each value of a family, by the kernel's number for it.
fn read(
    socket: &RtSocket,
    family: Family,
    of: ConfOf,
    inbox: &mut Inbox,
    mut take: impl FnMut(u16, i32),
) -> Result<(), Refusal> {
    let mut batch = Batch::default();
    batch.push_bytes(1, RTM_GETNETCONF, 0, &request(family, of));
    socket.converse(&batch, 0, inbox, &mut |step| {
        let Step::Message(bytes) = step else { return Ok(()) };
        for answer in Answers(bytes).filter(|answer| answer.kind == RTM_NEWNETCONF) {
            for attribute in NlasIterator::new(answer.payload.get(4..).unwrap_or_default()).flatten() {
                let Some(value) = attribute.value().first_chunk().copied().map(i32::from_ne_bytes) else { continue };
                take(attribute.kind(), value);
            }
        }
        Ok(())
    })?;
    Ok(())
}

/// `struct netconfmsg`, padded, and the interface.
fn request(family: Family, of: ConfOf) -> Vec<u8> {
    let family = match family {
        Family::Ipv4 => libc::AF_INET,
        Family::Ipv6 => libc::AF_INET6,
    };
    // `NETCONFA_IFINDEX_ALL` and `NETCONFA_IFINDEX_DEFAULT`.
    let index: i32 = match of {
        ConfOf::All => -1,
        ConfOf::Default => -2,
    };
    let mut body = vec![u8::try_from(family).unwrap_or_default(), 0, 0, 0];
    body.extend(8_u16.to_ne_bytes());
    body.extend(NETCONFA_IFINDEX.to_ne_bytes());
    body.extend(index.to_ne_bytes());
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_has_the_name_of_its_sysctl() {
        let all = [&Ipv4Setting::FORWARDING].into_iter().chain(&Ipv4Setting::ALL);
        let name = |kind| all.clone().find(|it| Some(it.number) == setting_told_by(kind)).map(|it| it.name);
        assert_eq!(name(NETCONFA_FORWARDING), Some("forwarding"));
        assert_eq!(name(NETCONFA_PROXY_NEIGH), Some("proxy_arp"));
        assert_eq!(name(NETCONFA_RP_FILTER), Some("rp_filter"));
        assert_eq!(name(NETCONFA_IGNORE_ROUTES_WITH_LINKDOWN), Some("ignore_routes_with_linkdown"));
        assert_eq!(name(NETCONFA_BC_FORWARDING), Some("bc_forwarding"));
        assert_eq!(name(NETCONFA_IFINDEX), None);
    }
}
