//! Where a packet goes in a network, why it does not arrive, and the smallest repair.
//!
//! [`explain`] walks a packet and its answer through a [`Snapshot`](hopyard_net::Snapshot), hop by
//! hop, each with the thing that decides; [`repair`] looks for the cheapest changes that make both arrive.
//!
//! Pure. Knows nothing of sockets and of where a snapshot comes from; says nothing in words.
#![forbid(unsafe_code)]

mod code;
mod derive;
mod edit;
mod filter;
mod flow;
mod forwarding;
mod frames;
mod header;
mod hidden;
mod lookup;
mod matrix;
mod packet;
mod reason;
mod repair;
mod segment;
mod steps;
mod twins;
mod verdict;
mod walk;

pub use code::Code;
pub use derive::derive;
pub use edit::{Edit, Place};
pub use flow::Flow;
pub use hidden::{Behind, Hidden, behind, hidden, translators, waiting_behind};
pub use matrix::{Cause, Cell, Matrix, Target, matrix};
pub use packet::{Packet, Protocol, no_single_node};
pub use reason::{ArpRefusal, Reason, TwinFate};
pub use repair::{Repair, Stage, repair};
pub use steps::{Part, Step, steps, table_name};
pub use verdict::{Outcome, Query, Trouble, Verdict, explain, owner, owner_for};
pub use walk::{Choices, End, Hop, Trace, Translated, Walk, walk};
