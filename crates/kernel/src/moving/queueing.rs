//! The queueing disciplines of an interface, which the kernel takes off when it moves.

use netlink_packet_core::NLM_F_DUMP;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::TcMessage;

use crate::error::Refusal;
use crate::links::IfIndex;
use crate::netlink::{Batch, Inbox, RtSocket, Step};

/// What stands before the attributes: of netlink(7) and of `struct tcmsg`.
const HEADERS: usize = 16 + 20;
const TCA_KIND: u16 = 1;

/// What somebody has put where packets leave, and where they arrive, by its kind. What the kernel has put there has no number.
pub(super) fn read(socket: &RtSocket, inbox: &mut Inbox, of: IfIndex) -> Result<Vec<String>, Refusal> {
    let mut batch = Batch::default();
    batch.push(1, NLM_F_DUMP, RouteNetlinkMessage::GetQueueDiscipline(TcMessage::default()));
    let mut found = Vec::new();
    // As bytes: of many kinds the codec does not know the options.
    let read = socket.converse(&batch, NLM_F_DUMP, inbox, &mut |step| {
        match step {
            Step::Anew => found.clear(),
            Step::Message(bytes) => found.extend(outermost(bytes, of)),
        }
        Ok(())
    });
    match read {
        Err(refusal) if refusal.errno.is_unsupported() => Ok(Vec::new()),
        read => read.map(|()| found),
    }
}

/// The kind of one that is in no other one, and that somebody has put there.
fn outermost(message: &[u8], of: IfIndex) -> Option<String> {
    /// `TC_H_ROOT`, and `TC_H_INGRESS`, which is that of `clsact`, too.
    const NOWHERE: [u32; 2] = [0xffff_ffff, 0xffff_fff1];
    let word = |at: usize| Some(u32::from_ne_bytes(message.get(at..at + 4)?.try_into().ok()?));
    let (index, handle, parent) = (word(20)?, word(24)?, word(28)?);
    if index != of || handle == 0 || !NOWHERE.contains(&parent) {
        return None;
    }
    let mut rest = message.get(HEADERS..)?;
    while let [l0, l1, k0, k1, ..] = *rest {
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let content = rest.get(4..length)?;
        if u16::from_ne_bytes([k0, k1]) == TCA_KIND {
            return Some(String::from_utf8_lossy(content).trim_end_matches('\0').to_owned());
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
    None
}
