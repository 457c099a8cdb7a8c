//! The state of a set of namespaces: wanted, or found.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::{IfName, Link, LinkKind, MacAddr, Nat, NsName, Route, RouteKey, SysctlKey};

/// What a set of namespaces looks like.
///
/// One type for what is wanted and what was found, so that a dry run, an idempotent `up`, drift
/// and verification are all one comparison. It is canonical: what the kernel derives by itself
/// (interface indexes, link-local addresses, connected and local routes, learnt neighbours,
/// counters) is not in it, so equality means agreement.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetState {
    /// The namespaces by name.
    pub namespaces: BTreeMap<NsName, NsState>,
}

/// What one namespace looks like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NsState {
    /// Interfaces by name, `lo` among them.
    pub links: BTreeMap<IfName, Link>,
    /// Routes that somebody added; not those that come with an address.
    #[serde(with = "route_list")]
    pub routes: BTreeMap<RouteKey, Route>,
    /// Permanent neighbours: interface and address, and the hardware address of it.
    #[serde(with = "neighbour_list")]
    pub neighbours: BTreeMap<(IfName, IpAddr), MacAddr>,
    /// Sysctls that somebody asked about, as text without the final newline.
    pub sysctls: BTreeMap<SysctlKey, String>,
    /// What it translates, in the table that is ours; `None`: there is no such table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nat: Option<Nat>,
}

impl Default for NsState {
    /// A new namespace: `lo`, down, and nothing else.
    fn default() -> Self {
        NsState {
            links: BTreeMap::from([(IfName::LO, Link::new(LinkKind::Loopback))]),
            routes: BTreeMap::new(),
            neighbours: BTreeMap::new(),
            sysctls: BTreeMap::new(),
            nat: None,
        }
    }
}

/// Maps whose keys are no text become lists, so that the state can be JSON.
mod route_list {
    use super::{BTreeMap, Deserialize, Route, RouteKey, Serialize};

    pub(super) fn serialize<S: serde::Serializer>(map: &BTreeMap<RouteKey, Route>, s: S) -> Result<S::Ok, S::Error> {
        map.values().collect::<Vec<_>>().serialize(s)
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(d: D) -> Result<BTreeMap<RouteKey, Route>, D::Error> {
        let list = Vec::<Route>::deserialize(d)?;
        Ok(list.into_iter().map(|route| (route.key.clone(), route)).collect())
    }
}

mod neighbour_list {
    use super::{BTreeMap, Deserialize, IfName, IpAddr, MacAddr, Serialize};

    pub(super) fn serialize<S: serde::Serializer>(
        map: &BTreeMap<(IfName, IpAddr), MacAddr>,
        s: S,
    ) -> Result<S::Ok, S::Error> {
        map.iter().map(|((dev, addr), mac)| (dev, addr, mac)).collect::<Vec<_>>().serialize(s)
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(
        d: D,
    ) -> Result<BTreeMap<(IfName, IpAddr), MacAddr>, D::Error> {
        let list = Vec::<(IfName, IpAddr, MacAddr)>::deserialize(d)?;
        Ok(list.into_iter().map(|(dev, addr, mac)| ((dev, addr), mac)).collect())
    }
}
