//! Linux network namespaces, netlink and sysctls behind safe types.
//!
//! The only crate with `unsafe`. Knows namespaces, processes and mounts, but nothing of labs or
//! files of a user.

pub mod cleanup;
mod decode;
mod encode;
mod enter;
mod errno;
mod error;
mod failure;
pub mod icmp;
pub mod keeper;
mod links;
mod listeners;
mod memory_files;
mod namespace;
mod netconf;
mod netlink;
mod nftables;
mod pidfd;
mod realm;
pub mod rights;
mod settle;
mod supervise;
mod sysctl;
pub mod tap;
mod tie;
pub mod users;
mod world;

pub use enter::{Entry, Identity, enter_network};
pub use errno::Errno;
pub use error::{ApplyError, KernelError};
pub use failure::Failure;
pub use memory_files::is_in_memory;
pub use pidfd::Process;
pub use realm::Realm;
pub use supervise::supervise;
pub use world::{RouteAnswer, SnapshotScope, World};
