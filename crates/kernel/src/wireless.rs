//! Wireless interfaces: they belong to a radio, and move with it (`NL80211_CMD_SET_WIPHY_NETNS`, linux/nl80211.h).
//!
//! Four requests of generic netlink; the crates that have them bring an asynchronous runtime along.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use hopyard_net::IfName;
use netlink_packet_core::{DefaultNla, Emitable, NlasIterator};

use crate::error::Refusal;
use crate::links::IfIndex;
use crate::netlink::{Answers, Batch, DUMP, Inbox, RtSocket, Step};
use crate::{Realm, inside, namespace};

/// `GENL_ID_CTRL`, and `CTRL_CMD_GETFAMILY` (linux/genetlink.h).
const CONTROL: u16 = 16;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
const NL80211_CMD_GET_INTERFACE: u8 = 5;
const NL80211_CMD_SET_WIPHY_NETNS: u8 = 49;
const NL80211_ATTR_WIPHY: u16 = 1;
const NL80211_ATTR_IFINDEX: u16 = 3;
const NL80211_ATTR_IFNAME: u16 = 4;
const NL80211_ATTR_NETNS_FD: u16 = 219;
/// `struct genlmsghdr`.
const HEADER_BYTES: usize = 4;

/// A radio, and its interfaces in a namespace. (Those that are no network devices, as for Wi-Fi Direct, have no name.)
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Radio {
    /// As in `phy#0` of `iw dev`.
    pub(crate) number: u32,
    pub(crate) devs: Vec<IfName>,
}

/// What the kernel says of the radios of a namespace.
pub(crate) struct Wireless {
    socket: RtSocket,
    family: u16,
    inbox: Inbox,
}

impl Wireless {
    /// Asks in the namespace of a socket. `None`: this kernel has loaded nothing for wireless interfaces, so there are
    /// none. It is not asked by name, for then it would load it.
    pub(crate) fn beside(socket: &RtSocket) -> Result<Option<Self>, Refusal> {
        let namespace = socket.namespace()?;
        let open = || -> io::Result<RtSocket> {
            let socket =
                namespace::enter(&namespace).and_then(|()| RtSocket::open_for(Some(rustix::net::netlink::GENERIC)));
            inside::go_home();
            socket
        };
        let socket = Realm::host().run(open)??;
        let mut inbox = Inbox::default();
        let id = |family: Attributes<'_>| {
            (family.text(CTRL_ATTR_FAMILY_NAME)? == "nl80211").then(|| family.find(CTRL_ATTR_FAMILY_ID))?
        };
        let ids = list(&socket, &mut inbox, CONTROL, CTRL_CMD_GETFAMILY, id)?;
        let family = ids.first().and_then(|id| id.first_chunk().copied()).map(u16::from_ne_bytes);
        Ok(family.map(|family| Wireless { socket, family, inbox }))
    }

    /// The radio of an interface; `None`: it has none.
    pub(crate) fn radio_of(&mut self, index: IfIndex) -> Result<Option<Radio>, Refusal> {
        let interface = |found: Attributes<'_>| {
            let dev: IfName = found.text(NL80211_ATTR_IFNAME)?.parse().ok()?;
            Some((found.number(NL80211_ATTR_WIPHY)?, found.number(NL80211_ATTR_IFINDEX)?, dev))
        };
        let all = list(&self.socket, &mut self.inbox, self.family, NL80211_CMD_GET_INTERFACE, interface)?;
        Ok(all.iter().find(|(_, found, _)| *found == index).map(|&(number, ..)| {
            let devs = all.iter().filter(|(of, ..)| *of == number).map(|(_, _, dev)| *dev).collect();
            Radio { number, devs }
        }))
    }

    /// Moves a radio, with all its interfaces, which are down then.
    ///
    /// `EOPNOTSUPP`: its driver cannot.
    pub(crate) fn send(&mut self, radio: &Radio, to: BorrowedFd<'_>) -> Result<(), Refusal> {
        let attributes = [
            DefaultNla::new(NL80211_ATTR_WIPHY, radio.number.to_ne_bytes().to_vec()),
            DefaultNla::new(NL80211_ATTR_NETNS_FD, to.as_raw_fd().to_ne_bytes().to_vec()),
        ];
        let mut batch = Batch::default();
        batch.push_bytes(1, self.family, 0, &message(NL80211_CMD_SET_WIPHY_NETNS, &attributes));
        let mut refused = None;
        self.socket.submit(&mut batch, &mut self.inbox, &mut |_, refusal| refused = Some(refusal))?;
        refused.map_or(Ok(()), Err)
    }
}

/// A command and its attributes.
fn message(command: u8, attributes: &[DefaultNla]) -> Vec<u8> {
    let mut bytes = vec![0; HEADER_BYTES + attributes.buffer_len()];
    // The version of both families has been 1 ever since.
    bytes[..2].copy_from_slice(&[command, 1]);
    attributes.emit(&mut bytes[HEADER_BYTES..]);
    bytes
}

/// Asks for a list, and reads of it what can be read.
fn list<T>(
    socket: &RtSocket,
    inbox: &mut Inbox,
    family: u16,
    command: u8,
    mut read: impl FnMut(Attributes<'_>) -> Option<T>,
) -> Result<Vec<T>, Refusal> {
    let mut batch = Batch::default();
    batch.push_bytes(1, family, DUMP, &message(command, &[]));
    let mut found = Vec::new();
    socket.converse(&batch, DUMP, inbox, &mut |step| {
        match step {
            Step::Anew => found.clear(),
            Step::Message(bytes) => {
                let attributes = |payload| <[u8]>::get(payload, HEADER_BYTES..).map(Attributes);
                found.extend(Answers(bytes).filter_map(|answer| read(attributes(answer.payload)?)));
            }
        }
        Ok(())
    })?;
    Ok(found)
}

/// The attributes of an answer.
struct Attributes<'a>(&'a [u8]);

impl Attributes<'_> {
    fn find(&self, kind: u16) -> Option<Vec<u8>> {
        NlasIterator::new(self.0).flatten().find(|it| it.kind() == kind).map(|it| it.value().to_vec())
    }

    fn number(&self, kind: u16) -> Option<u32> {
        self.find(kind)?.first_chunk().copied().map(u32::from_ne_bytes)
    }

    fn text(&self, kind: u16) -> Option<String> {
        let bytes = self.find(kind)?;
        String::from_utf8(bytes.split(|&byte| byte == 0).next()?.to_vec()).ok()
    }
}
