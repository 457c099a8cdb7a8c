//! Netlink: a blocking socket, requests in batches, answers matched by sequence number.

mod answer;
mod batch;
mod socket;

pub(crate) use answer::Answers;
pub(crate) use batch::Batch;
pub(crate) use socket::{Inbox, RtSocket, Step, namespace_of_socket};

/// The flags of a request for a list.
pub(crate) const DUMP: u16 = netlink_packet_core::NLM_F_DUMP;
