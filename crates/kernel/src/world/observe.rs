//! The namespaces as they are.

use std::collections::{BTreeMap, BTreeSet};

use hopyard_net::{
    ConfOf, Endpoint, Family, IfName, Ipv4Setting, Link, LinkKind, Nat, NetState, NsName, NsState, SysctlKey,
};
use netlink_packet_core::NLM_F_DUMP;

use super::peers::{Pairs, Space};
use super::{Netns, World, in_parallel, visit};
use crate::decode::{self, FoundKind, FoundLink};
use crate::error::Refusal;
use crate::links::IfIndex;
use crate::netconf::{self, Told};
use crate::netlink::{Inbox, RtSocket};
use crate::nftables::{self, TableName};
use crate::sysctl::SysctlFiles;
use crate::{KernelError, encode, namespace};

pub(super) const DUMP: u16 = NLM_F_DUMP;

/// Sysctls and their values.
pub(super) type Values = BTreeMap<SysctlKey, String>;

impl World {
    /// Reads the state of all namespaces, and those sysctls of them that are asked for. A sysctl
    /// that does not exist is left out. Where any is asked for, also those are told of `net.ipv4.conf.all` that are known to
    /// be other than the kernel has them.
    ///
    /// # Errors
    /// A namespace could not be read.
    pub fn observe(&mut self, sysctls: &BTreeMap<NsName, BTreeSet<SysctlKey>>) -> Result<NetState, KernelError> {
        let links = |refusal: Refusal| refusal.while_doing("read the links of the nodes");
        let spaces = self.read_all_links().map_err(links)?;
        let pairs = Self::find_pairs(&spaces).map_err(links)?;
        let results = in_parallel(&spaces, |queue| {
            let mut inbox = Inbox::default();
            let mut found = Vec::new();
            while let Some((_, space)) = queue.take() {
                let state = read_space(space, &pairs, sysctls.get(space.name), &mut inbox)
                    .map_err(|refusal| refusal.while_doing(format!("read node {}", space.name)))?;
                found.push((space.name.clone(), state));
            }
            Ok(found)
        });
        drop(spaces);
        self.pairs = pairs;
        let mut state = NetState::default();
        for result in results {
            state.namespaces.extend(result?);
        }
        self.read_sysctls(sysctls, &mut state)?;
        self.read_nat(&mut state)?;
        Ok(state)
    }

    /// The tables that translate addresses: sockets of netfilter are opened in the namespaces.
    fn read_nat(&self, state: &mut NetState) -> Result<(), KernelError> {
        let spaces: Vec<(&NsName, &Netns)> = self.spaces.iter().collect();
        let results = in_parallel(&spaces, |queue| {
            let read_all = || {
                let mut inbox = Inbox::default();
                let mut found = Vec::new();
                while let Some((_, (name, space))) = queue.take() {
                    let nat = read_nat_of(space, &mut inbox)
                        .map_err(|refusal| refusal.while_doing(format!("read the address translation of {name}")))?;
                    found.extend(nat.map(|nat| ((*name).clone(), nat)));
                }
                Ok(found)
            };
            visit(&self.realm, read_all).map_err(|refusal| refusal.while_doing("read the nodes"))?
        });
        for result in results {
            for (name, nat) in result? {
                state.namespaces.entry(name).or_default().nat = Some(nat);
            }
        }
        Ok(())
    }

    /// Those that no socket tells.
    fn read_sysctls(
        &self,
        wanted: &BTreeMap<NsName, BTreeSet<SysctlKey>>,
        state: &mut NetState,
    ) -> Result<(), KernelError> {
        let mut unknown: BTreeMap<NsName, BTreeSet<SysctlKey>> = BTreeMap::new();
        for (name, keys) in wanted {
            let known = state.namespaces.get(name).map(|state| &state.sysctls);
            let rest: BTreeSet<_> =
                keys.iter().filter(|key| !known.is_some_and(|known| known.contains_key(*key))).cloned().collect();
            if !rest.is_empty() {
                unknown.insert(name.clone(), rest);
            }
        }
        for (name, values) in self.sysctls(&unknown)? {
            state.namespaces.entry(name).or_default().sysctls.extend(values);
        }
        Ok(())
    }

    /// Reads sysctls from their files. One that does not exist is left out.
    pub(super) fn sysctls(
        &self,
        wanted: &BTreeMap<NsName, BTreeSet<SysctlKey>>,
    ) -> Result<Vec<(NsName, Values)>, KernelError> {
        let asked: Vec<(&NsName, &Netns, &BTreeSet<SysctlKey>)> =
            wanted.iter().filter_map(|(name, keys)| Some((name, self.spaces.get(name)?, keys))).collect();
        if asked.is_empty() {
            return Ok(Vec::new());
        }
        let results = in_parallel(&asked, |queue| {
            let read_all = || {
                let mut files = SysctlFiles::new(None, 0);
                let mut found = Vec::new();
                while let Some((_, (name, space, keys))) = queue.take() {
                    let values = read_sysctls_of(space, keys, &mut files)
                        .map_err(|refusal| refusal.while_doing(format!("read the sysctls of node {name}")))?;
                    found.push(((*name).clone(), values));
                }
                Ok(found)
            };
            visit(&self.realm, read_all).map_err(|refusal| refusal.while_doing("read the sysctls of the nodes"))?
        });
        let mut all = Vec::new();
        for result in results {
            all.extend(result?);
        }
        Ok(all)
    }
}

/// All that its socket tells of one namespace.
fn read_space(
    space: &Space<'_>,
    pairs: &Pairs,
    sysctls: Option<&BTreeSet<SysctlKey>>,
    inbox: &mut Inbox,
) -> Result<NsState, Refusal> {
    let socket = &space.netns.socket;
    let names: BTreeMap<IfIndex, IfName> = space.links.iter().map(|link| (link.index, link.dev)).collect();
    let links = space.links.iter().map(|link| (link.dev, state_of(space.name, link, pairs, &names))).collect();
    let mut state = NsState { links, ..NsState::default() };
    let without_ipv6 = space.links.iter().filter(|link| link.ipv6.disabled);
    state.sysctls.extend(without_ipv6.map(|link| (SysctlKey::disable_ipv6(link.dev), "1".to_owned())));
    let dev_of = |index: IfIndex| names.get(&index).copied();
    for address in socket.ask(encode::get_addresses(None), DUMP, inbox)?.iter().filter_map(decode::address) {
        let Some(link) = dev_of(address.index).and_then(|dev| state.links.get_mut(&dev)) else { continue };
        let loopback = link.kind == LinkKind::Loopback;
        if !address.automatic && !decode::is_own_accord(address.addr, loopback, link.mac) {
            link.addresses.insert(address.addr);
        }
    }
    for family in Family::BOTH {
        let messages = socket.ask(encode::get_routes(family), DUMP, inbox)?;
        for route in messages.iter().filter_map(|message| decode::route(message, &names)) {
            // The kernel shows the entry that it prefers first.
            state.routes.entry(route.key.clone()).or_insert(route);
        }
    }
    for message in socket.ask(encode::get_neighbours(), DUMP, inbox)? {
        if let Some((index, addr, mac)) = decode::neighbour(&message)
            && let Some(dev) = names.get(&index)
        {
            state.neighbours.insert((*dev, addr), mac);
        }
    }
    if let Some(keys) = sysctls {
        read_switches(socket, keys, &mut state.sysctls, inbox);
    }
    Ok(state)
}

/// Those of the sysctls that a socket tells, and those of IPv4 that are not as the kernel has them. What it refuses, is read
/// from its file.
fn read_switches(socket: &RtSocket, keys: &BTreeSet<SysctlKey>, values: &mut Values, inbox: &mut Inbox) {
    if let Ok(told) = Told::ask(socket, ConfOf::All, inbox) {
        let forwarding = told.value(&Ipv4Setting::FORWARDING).filter(|_| keys.contains(&SysctlKey::IPV4_FORWARD));
        values.extend(forwarding.map(|value| (SysctlKey::IPV4_FORWARD, value.to_string())));
        for setting in &Ipv4Setting::ALL {
            if let Some(value) = told.value(setting).filter(|value| Some(*value) != setting.all) {
                values.insert(setting.key(ConfOf::All), value.to_string());
            }
        }
    }
    if keys.contains(&SysctlKey::IPV6_FORWARD)
        && let Ok(Some(value)) = netconf::ipv6_forwarding(socket, ConfOf::All, inbox)
    {
        values.insert(SysctlKey::IPV6_FORWARD, value.to_string());
    }
}

/// What an interface is, of a veth pair with its other end.
pub(super) fn kind_of(ns: &NsName, found: &FoundLink, pairs: &Pairs) -> LinkKind {
    match &found.kind {
        FoundKind::Loopback => LinkKind::Loopback,
        FoundKind::Bridge => LinkKind::Bridge,
        FoundKind::Veth { .. } => {
            LinkKind::Veth { peer: pairs.get(&Endpoint { ns: ns.clone(), dev: found.dev }).cloned() }
        }
        FoundKind::Other(kind) => LinkKind::Other(kind.clone()),
    }
}

/// An interface as the state has it, still without its addresses.
fn state_of(ns: &NsName, found: &FoundLink, pairs: &Pairs, names: &BTreeMap<IfIndex, IfName>) -> Link {
    let kind = kind_of(ns, found, pairs);
    // The kernel's own choice, and not to be compared: of `lo` both, of a bridge the Ethernet
    // address, which follows its ports.
    let mac = found.mac.filter(|_| !matches!(kind, LinkKind::Loopback | LinkKind::Bridge));
    let mtu = found.mtu.filter(|_| kind != LinkKind::Loopback);
    Link {
        mac,
        mtu,
        master: found.master.and_then(|index| names.get(&index).copied()),
        up: found.up,
        alt_names: found.alt_names.clone(),
        ..Link::new(kind)
    }
}

fn read_sysctls_of(space: &Netns, keys: &BTreeSet<SysctlKey>, files: &mut SysctlFiles) -> Result<Values, Refusal> {
    namespace::enter(space.socket.namespace()?)?;
    files.arrive();
    let mut values = BTreeMap::new();
    for key in keys {
        if let Some(value) = files.read(key)? {
            values.insert(key.clone(), value);
        }
    }
    Ok(values)
}

fn read_nat_of(space: &Netns, inbox: &mut Inbox) -> Result<Option<Nat>, Refusal> {
    namespace::enter(space.socket.namespace()?)?;
    match nftables::read_table(&TableName::inet(Nat::TABLE), inbox) {
        Ok(chains) => Ok(chains.map(|chains| Nat::of_chains(&chains))),
        // A kernel without nftables has no tables.
        Err(refusal) if refusal.errno.is_unsupported() => Ok(None),
        Err(refusal) => Err(refusal),
    }
}

/// The interfaces of the namespace of a socket.
pub(crate) fn read_links(socket: &RtSocket, inbox: &mut Inbox) -> Result<Vec<FoundLink>, Refusal> {
    Ok(socket.ask(encode::get_links(), DUMP, inbox)?.iter().filter_map(decode::link).collect())
}
