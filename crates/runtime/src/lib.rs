//! Lifetimes of labs: how they come up, change, are entered and questioned, and go.
//!
//! Owns records and locks: all that outlives a process is written down here, before the first side
//! effect, and everything here can be repeated.
#![forbid(unsafe_code)]

mod apparmor;
pub mod attach;
pub mod boot;
pub mod check;
pub mod doctor;
pub mod effect;
mod error;
mod home;
mod lent;
mod lifecycle;
mod lock;
mod netns_dir;
pub mod ns;
pub mod ping;
mod record;
pub mod remedy;
mod running;
pub mod sandbox;
pub mod uplink;
mod view;
mod wanted;
pub mod whole_file;
pub mod why;

pub use error::Error;
pub use home::Home;
pub use hopyard_kernel::keeper::raise_descriptor_limit as keep_room_for_files;
pub use lent::require_lendable;
pub use lifecycle::{Difference, Down, Lifetime, Tied, Up, difference, down, up};
pub use record::{Contents, KeeperId, Record, Stage};
pub use running::Running;
pub use uplink::{HostStep, UplinkError};
