//! What comes back from the kernel: messages in a datagram, and refusals among them.

use netlink_packet_core::{NLM_F_ACK_TLVS, NLM_F_CAPPED, NlasIterator};

use crate::Errno;
use crate::error::Refusal;

pub(crate) const HEADER_BYTES: usize = 16;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLMSG_OVERRUN: u16 = 4;
const NLMSGERR_ATTR_MSG: u16 = 1;
const NLMSGERR_ATTR_OFFS: u16 = 2;

/// One message of a datagram.
pub(crate) struct Answer<'a> {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    pub(crate) payload: &'a [u8],
    whole: &'a [u8],
}

impl<'a> Answer<'a> {
    /// The message with its header.
    pub(crate) fn bytes(&self) -> &'a [u8] {
        self.whole
    }

    /// Is it the end of a dump?
    pub(crate) fn is_done(&self) -> bool {
        self.kind == NLMSG_DONE
    }

    /// The sequence number of the request that this refuses, and why. A dump may also end in one.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        match self.kind {
            NLMSG_OVERRUN => Some(Errno::from_raw(libc::ENOBUFS).into()),
            NLMSG_ERROR | NLMSG_DONE => {
                let code = i32::from_ne_bytes(self.payload.first_chunk().copied().unwrap_or_default());
                if code == 0 {
                    return None;
                }
                let mut refusal = Refusal::from(Errno::from_raw(code.saturating_abs()));
                if self.flags & NLM_F_ACK_TLVS != 0 {
                    self.explain(&mut refusal);
                }
                Some(refusal)
            }
            _ => None,
        }
    }

    /// Reads the attributes of an extended acknowledgement, which follow the error number and, in an
    /// `NLMSG_ERROR`, the header of the request and (unless capped) its body.
    fn explain(&self, refusal: &mut Refusal) {
        let mut start = 4;
        if self.kind == NLMSG_ERROR {
            let request = self.payload.get(4..).and_then(|rest| rest.first_chunk()).copied().map(u32::from_ne_bytes);
            let echoed = match request {
                Some(length) if self.flags & NLM_F_CAPPED == 0 => align(length as usize),
                _ => HEADER_BYTES,
            };
            start += echoed;
        }
        for attribute in NlasIterator::new(self.payload.get(start..).unwrap_or_default()).flatten() {
            let value = attribute.value();
            match attribute.kind() {
                NLMSGERR_ATTR_MSG => {
                    let text = value.split(|&byte| byte == 0).next().unwrap_or_default();
                    refusal.kernel_said = Some(String::from_utf8_lossy(text).into_owned());
                }
                NLMSGERR_ATTR_OFFS => refusal.offset = value.first_chunk().copied().map(u32::from_ne_bytes),
                _ => {}
            }
        }
    }
}

/// The messages of a datagram, in order.
pub(crate) struct Answers<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Answers<'a> {
    type Item = Answer<'a>;

    fn next(&mut self) -> Option<Answer<'a>> {
        let header: &[u8; HEADER_BYTES] = self.0.first_chunk()?;
        let [l0, l1, l2, l3, k0, k1, f0, f1, s0, s1, s2, s3, ..] = *header;
        let length = u32::from_ne_bytes([l0, l1, l2, l3]) as usize;
        let whole = self.0.get(..length)?;
        let payload = whole.get(HEADER_BYTES..)?;
        self.0 = self.0.get(align(length)..).unwrap_or_default();
        Some(Answer {
            kind: u16::from_ne_bytes([k0, k1]),
            flags: u16::from_ne_bytes([f0, f1]),
            sequence: u32::from_ne_bytes([s0, s1, s2, s3]),
            payload,
            whole,
        })
    }
}

/// Messages and attributes begin at multiples of four bytes.
pub(crate) fn align(length: usize) -> usize {
    length.next_multiple_of(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, flags: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(HEADER_BYTES + payload.len()).unwrap();
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(payload);
        bytes.resize(align(bytes.len()), 0);
        bytes
    }

    #[test]
    fn a_refusal_has_the_kernels_words_and_the_place() {
        let mut payload = (-libc::EINVAL).to_ne_bytes().to_vec();
        payload.extend(message(24, 0, 7, &[]));
        for (kind, value) in [(NLMSGERR_ATTR_MSG, &b"No way\0"[..]), (NLMSGERR_ATTR_OFFS, &28_u32.to_ne_bytes())] {
            payload.extend(u16::try_from(4 + value.len()).unwrap().to_ne_bytes());
            payload.extend(kind.to_ne_bytes());
            payload.extend(value);
            payload.resize(align(payload.len()), 0);
        }
        let mut datagram = message(NLMSG_ERROR, NLM_F_ACK_TLVS | NLM_F_CAPPED, 7, &payload);
        datagram.extend(message(NLMSG_ERROR, 0, 8, &[0; 20]));
        let answers: Vec<_> = Answers(&datagram).map(|answer| (answer.sequence, answer.refusal())).collect();
        let refusal = Refusal {
            errno: Errno::from_raw(libc::EINVAL),
            kernel_said: Some("No way".to_owned()),
            offset: Some(28),
            doing: None,
        };
        assert_eq!(answers, [(7, Some(refusal)), (8, None)]);
    }

    #[test]
    fn a_cut_datagram_is_no_panic() {
        let datagram = message(NLMSG_ERROR, NLM_F_ACK_TLVS, 7, &[255; 40]);
        for length in 0..datagram.len() {
            for answer in Answers(&datagram[..length]) {
                answer.refusal();
            }
        }
    }
}
