//! From a lab to the wanted network, and from the found network to the wanted one in ordered steps.
//!
//! [`desired`] chooses what the file leaves open (addresses, routes, forwarding, Ethernet
//! addresses) and returns the [`Wanted`] network; [`diff`] says what to do to get there.
//!
//! Pure: same input, same bytes. Reads no file, clock or environment and draws no random number.
#![forbid(unsafe_code)]

mod address;
mod diff;
mod fabric;
pub mod foreign;
mod hash;
mod hiding;
mod mac;
mod nat;
mod neighbour;
mod origin;
mod routing;
mod statics;
mod wanted;

pub use diff::diff;
pub use hiding::Hiding;
pub use origin::{Origins, Plan, Step};
pub use wanted::{Wanted, desired};
