//! Requests, one behind the other, for one send.

use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;

use super::answer::{HEADER_BYTES, align};

/// Requests for one namespace, in order. Each carries a sequence number of the caller's choice, by
/// which its refusal is known.
#[derive(Default)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
}

impl Batch {
    /// What one datagram may hold, so that it fits the default send buffer of a socket
    /// (`net.core.wmem_default`, 208 KiB).
    pub(crate) const DATAGRAM_BYTES: usize = 160_000;

    /// Adds a request.
    pub(crate) fn push(&mut self, sequence: u32, flags: u16, request: RouteNetlinkMessage) {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(request));
        message.finalize();
        let start = self.bytes.len();
        self.bytes.resize(start + align(message.buffer_len()), 0);
        message.serialize(&mut self.bytes[start..]);
    }

    /// Adds a request of a kind that the codec crate lacks: its body as bytes.
    pub(crate) fn push_bytes(&mut self, sequence: u32, kind: u16, flags: u16, body: &[u8]) {
        let length = u32::try_from(HEADER_BYTES + body.len()).unwrap_or(u32::MAX);
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend((NLM_F_REQUEST | flags).to_ne_bytes());
        self.bytes.extend(sequence.to_ne_bytes());
        self.bytes.extend([0; 4]);
        self.bytes.extend(body);
        self.bytes.resize(align(self.bytes.len()), 0);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Is it time to send?
    pub(crate) fn is_full(&self) -> bool {
        self.bytes.len() >= Self::DATAGRAM_BYTES
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}
