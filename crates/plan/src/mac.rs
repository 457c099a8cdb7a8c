//! Ethernet addresses: from the names of what they belong to, so that they stay.

use std::collections::BTreeSet;

use hopyard_model::Lab;
use hopyard_net::MacAddr;

use crate::hash::{hash, rehash};

/// The Ethernet address of each end of each link, in the order of [`Lab::links`].
///
/// Locally administered and unicast (`02:…`), a hash of node and interface. In the rare case that
/// two ends of a lab meet, the one that is written later moves on.
pub(crate) fn choose(lab: &Lab) -> Vec<[MacAddr; 2]> {
    let mut taken: BTreeSet<MacAddr> =
        lab.links().iter().flat_map(|link| &link.ends).filter_map(|end| end.mac).collect();
    let mut of = |end: &hopyard_model::End| {
        if let Some(mac) = end.mac {
            return mac;
        }
        let mut value = hash(["mac", lab.vertex_name(end.vertex).as_str(), end.iface.name.as_str()]);
        loop {
            let [.., a, b, c, d, e] = value.to_be_bytes();
            let mac = MacAddr::from_bytes([0x02, a, b, c, d, e]);
            if taken.insert(mac) {
                return mac;
            }
            value = rehash(value);
        }
    };
    lab.links().iter().map(|link| [of(&link.ends[0]), of(&link.ends[1])]).collect()
}
