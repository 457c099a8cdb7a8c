//! Linux network namespaces, netlink and sysctls behind safe types.
//!
//! The only crate with `unsafe`. Knows namespaces, processes and mounts, but nothing of labs or
//! files of a user.

pub mod agent;
mod arrival;
mod child;
mod chroot;
pub mod cleanup;
mod closing;
pub mod counters;
mod decode;
pub mod drops;
mod encode;
mod enter;
mod errno;
mod error;
mod etc;
mod failure;
pub mod holders;
pub mod icmp;
mod inside;
pub mod keeper;
mod leash;
mod links;
mod listeners;
mod memory_files;
mod mounts;
pub mod moving;
mod namespace;
pub mod neighbours;
mod netconf;
mod netlink;
pub mod nftables;
mod pidfd;
pub mod pin;
mod realm;
pub mod rights;
pub mod sandbox;
mod settle;
mod signature;
mod start;
mod supervise;
mod sysctl;
pub mod tap;
mod tie;
mod trace;
pub mod users;
pub mod watch;
mod wireless;
mod world;

pub use arrival::wait_for_interfaces;
pub use closing::close_together;
pub use enter::{Entry, HELPER_NETWORK, Identity, NetworkEntry, enter_network, helper};
pub use errno::Errno;
pub use error::{ApplyError, KernelError};
pub use failure::Failure;
pub use inside::{Inside, have_only_loopback, look_inside, own_cookie, set_number};
pub use memory_files::is_in_memory;
pub use pidfd::Process;
pub use realm::Realm;
pub use signature::Part;
pub use start::start;
pub use supervise::{Supervised, end_before_exec, supervise, supervise_one_of_many, supervise_shell};
pub use trace::Trace;
pub use world::{RouteAnswer, SnapshotScope, World};
