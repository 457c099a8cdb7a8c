//! The firewall of a namespace over `NETLINK_NETFILTER`: read, and changed by transactions of which
//! all is done or nothing.

mod decode;
mod encode;
mod names;
mod trace;
mod xt;

use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE};

pub use decode::ruleset_of_messages;
pub(crate) use decode::{read, read_table};
pub use encode::{NftSocket, Owner, TableName, Transaction};
pub use trace::{Decided, Heard, TraceStep, Tracer};

// linux/netfilter/nfnetlink.h and nf_tables.h.
const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFT_MSG_NEWTABLE: u16 = NFNL_SUBSYS_NFTABLES << 8;
const NFT_MSG_GETTABLE: u16 = NFT_MSG_NEWTABLE | 1;
const NFT_MSG_DELTABLE: u16 = NFT_MSG_NEWTABLE | 2;
const NFT_MSG_NEWCHAIN: u16 = NFT_MSG_NEWTABLE | 3;
const NFT_MSG_GETCHAIN: u16 = NFT_MSG_NEWTABLE | 4;
const NFT_MSG_NEWRULE: u16 = NFT_MSG_NEWTABLE | 6;
const NFT_MSG_GETRULE: u16 = NFT_MSG_NEWTABLE | 7;
const NFT_MSG_NEWSET: u16 = NFT_MSG_NEWTABLE | 9;
const NFT_MSG_GETSET: u16 = NFT_MSG_NEWTABLE | 0xa;
const NFT_MSG_NEWSETELEM: u16 = NFT_MSG_NEWTABLE | 0xc;
const NFT_MSG_GETSETELEM: u16 = NFT_MSG_NEWTABLE | 0xd;
/// Of what a rule or a policy decides about a packet that is traced.
const NFT_MSG_TRACE: u16 = NFT_MSG_NEWTABLE + 17;
const NFNL_MSG_BATCH_BEGIN: u16 = 0x10;
const NFNL_MSG_BATCH_END: u16 = 0x11;
/// `NFT_TABLE_F_OWNER`.
const TABLE_OWNED: u32 = 2;
/// Make it, where it is not there; a rule behind the others.
const MAKE: u16 = NLM_F_CREATE | NLM_F_APPEND;
/// `struct nfgenmsg`: family, version, resource.
const HEADER_BYTES: usize = 4;

/// Families by number (linux/netfilter.h).
const FAMILIES: [(u8, &str); 6] = [(1, "inet"), (2, "ip"), (3, "arp"), (5, "netdev"), (7, "bridge"), (10, "ip6")];

fn family_name(number: u8) -> String {
    let known = FAMILIES.iter().find(|(known, _)| *known == number);
    known.map_or_else(|| format!("family {number}"), |(_, name)| (*name).to_owned())
}

/// An unknown one is `NFPROTO_UNSPEC`, which the kernel refuses.
fn family_number(name: &str) -> u8 {
    FAMILIES.iter().find(|(_, known)| *known == name).map_or(0, |(number, _)| *number)
}
