//! From a lab to the network that it asks for.

use std::collections::BTreeMap;
use std::net::IpAddr;

use hopyard_model::{Lab, Problem, Routing, Vertex};
use hopyard_net::{
    Endpoint, Family, IfName, Link, LinkKind, Mtu, NetState, NsName, NsState, Route, RouteKind, SysctlKey,
};

use crate::address::{self, Addresses};
use crate::fabric::Fabric;
use crate::{Origins, mac, nat, neighbour, routing, statics};

/// The network that a lab asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// What the kernel shall have.
    pub state: NetState,
    /// Which place in the file asked for it.
    pub origins: Origins,
    /// Every node and its addresses, the main one of each family first: for `/etc/hosts`.
    pub hosts: Vec<(NsName, Vec<IpAddr>)>,
    /// What the user should know.
    pub warnings: Vec<Problem>,
    /// The most hops on a shortest path between two nodes, as far as automatic routing knows.
    pub longest_path: u32,
}

/// Packets leave with a hop limit of 64; where paths are longer than this, routes raise it.
const LONG_PATH: u32 = 60;
/// No packet crosses more.
const LONGEST_PATH: u32 = 255;
/// More routes than this, and more than [`MANY_EACH`] for each node, are worth a warning.
const MANY_ROUTES: usize = 100_000;
/// See [`MANY_ROUTES`].
const MANY_EACH: usize = 64;

/// Chooses everything that the lab leaves open.
///
/// # Errors
/// What makes that impossible: a pool that is too small, a gateway that cannot be reached.
pub fn desired(lab: &Lab) -> Result<Wanted, Vec<Problem>> {
    let fabric = Fabric::new(lab);
    let addresses = address::choose(&fabric)?;
    let macs = mac::choose(lab);
    let mut problems = Vec::new();
    let mut wanted = Wanted {
        state: NetState::default(),
        origins: Origins::default(),
        hosts: Vec::new(),
        warnings: Vec::new(),
        longest_path: 0,
    };

    let mut automatic = match lab.routing() {
        Routing::Auto => routing::route(&fabric, &addresses),
        Routing::None => routing::Routes::default(),
    };
    wanted.longest_path = automatic.longest;
    let hop_limit = (automatic.longest > LONG_PATH).then_some(u8::MAX);

    let mut spaces: Vec<NsState> = Vec::with_capacity(lab.nodes().len());
    for (at, node) in lab.nodes().iter().enumerate() {
        let mut space = NsState::default();
        set_addresses(&fabric, &addresses, at, &macs, &mut space);
        for (family, forwards) in Family::BOTH.into_iter().zip(fabric.forwards[at]) {
            // A family without an address has nothing to forward, unless the file says so.
            let forwards = forwards && (node.forward.is_some() || has_address(&space, family));
            space.sysctls.insert(family.forwarding_key(), u8::from(forwards).to_string());
        }
        space.sysctls.extend(node.sysctls.clone());
        space.nat = nat::rules(&fabric, &addresses, at, &mut problems);
        if let Some(origin) = node.nat.origin.filter(|_| space.nat.is_some()) {
            wanted.origins.nat.insert(node.name.clone(), origin);
        }
        for (route, given) in statics::routes(&fabric, &addresses, at, &mut problems) {
            if let Some(origin) = given.origin {
                wanted.origins.routes.insert((node.name.clone(), route.key.clone()), origin);
            }
            space.routes.insert(route.key.clone(), route);
        }
        for route in automatic.of_node.get_mut(at).map(std::mem::take).unwrap_or_default() {
            // What was given by hand stands.
            space.routes.entry(route.key.clone()).or_insert(route);
        }
        if hop_limit.is_some() {
            for route in space.routes.values_mut() {
                raise_hop_limit(route, hop_limit);
            }
        }
        wanted.hosts.push((node.name.clone(), host_addresses(&fabric, &addresses, at)));
        spaces.push(space);
    }
    for pair in neighbour::permanent(&fabric, &addresses, &mut wanted.warnings) {
        let from = &fabric.ports[pair.0];
        for (addr, mac) in neighbour::entries(&fabric, &addresses, &macs, pair) {
            spaces[from.node].neighbours.insert((from.iface, addr), mac);
        }
    }
    warn(&fabric, &spaces, &mut wanted);
    if !problems.is_empty() {
        return Err(problems);
    }
    let mut namespaces: BTreeMap<NsName, NsState> =
        lab.nodes().iter().map(|node| node.name.clone()).zip(spaces).collect();
    namespaces.extend(switches(lab, &macs));
    wanted.state = NetState { namespaces };
    origins(lab, &mut wanted.origins);
    Ok(wanted)
}

/// The interfaces of a node.
fn set_addresses(
    fabric: &Fabric<'_>,
    addresses: &Addresses,
    node: usize,
    macs: &[[hopyard_net::MacAddr; 2]],
    space: &mut NsState,
) {
    for &port in &fabric.ports_of[node] {
        let it = &fabric.ports[port];
        let mut link = veth(fabric.lab, it.link, it.end, macs);
        link.addresses.extend(addresses.ports[port].iter().flatten());
        space.links.insert(it.iface, link);
    }
    for dev in &fabric.lab.nodes()[node].interfaces {
        let mut lent = Link::new(LinkKind::Lent);
        lent.up = true;
        space.links.insert(*dev, lent);
    }
    if let Some(lo) = space.links.get_mut(&IfName::LO) {
        lo.up = true;
        lo.addresses.extend(&addresses.loopbacks[node]);
    }
    for (dev, net) in addresses.further[node].iter().chain(&addresses.floating[node]) {
        if let Some(link) = space.links.get_mut(dev) {
            link.addresses.insert(*net);
        }
    }
    promote_secondaries(space);
}

fn has_address(space: &NsState, family: Family) -> bool {
    space.links.values().flat_map(|link| &link.addresses).any(|net| Family::of(net.addr()) == family)
}

/// Where two IPv4 addresses of an interface are in one subnet, the second is *secondary*, and by
/// default the kernel drops it together with the first. A lab that changes while it runs must not
/// lose an address for that.
fn promote_secondaries(space: &mut NsState) {
    let key = SysctlKey::PROMOTE_SECONDARIES;
    let shares_a_subnet = |link: &Link| {
        let mut subnets: Vec<_> =
            link.addresses.iter().filter(|net| net.addr().is_ipv4()).map(hopyard_net::IpNet::trunc).collect();
        let all = subnets.len();
        subnets.sort_unstable();
        subnets.dedup();
        subnets.len() < all
    };
    if space.links.values().any(shares_a_subnet) {
        space.sysctls.entry(key).or_insert_with(|| "1".to_owned());
    }
}

/// One end of a link.
fn veth(lab: &Lab, link: usize, end: usize, macs: &[[hopyard_net::MacAddr; 2]]) -> Link {
    let it = &lab.links()[link];
    let far = &it.ends[1 - end];
    let peer = Endpoint { ns: lab.vertex_name(far.vertex).clone(), dev: far.iface.name };
    let mut veth = Link::new(LinkKind::Veth { peer: Some(peer) });
    veth.alt_names.extend(it.ends[end].iface.long.clone());
    veth.mac = Some(macs[link][end]);
    veth.mtu = Some(it.mtu.unwrap_or(Mtu::DEFAULT));
    veth.up = true;
    veth
}

/// Each switch is a namespace of its own, so that no firewall of the host sees its frames.
fn switches(lab: &Lab, macs: &[[hopyard_net::MacAddr; 2]]) -> Vec<(NsName, NsState)> {
    let mut spaces: Vec<NsState> = lab
        .switches()
        .iter()
        .map(|switch| {
            let mut space = NsState::default();
            if let Some(lo) = space.links.get_mut(&IfName::LO) {
                lo.up = true;
            }
            let mut bridge = Link::new(LinkKind::Bridge);
            bridge.up = true;
            space.links.insert(switch.bridge, bridge);
            space
        })
        .collect();
    for (id, link) in lab.links().iter().enumerate() {
        for (end, it) in link.ends.iter().enumerate() {
            if let Vertex::Switch(switch) = it.vertex {
                let mut port = veth(lab, id, end, macs);
                port.master = Some(lab.switch(switch).bridge);
                spaces[switch.index()].links.insert(it.iface.name, port);
            }
        }
    }
    lab.switches().iter().map(|switch| switch.name.clone()).zip(spaces).collect()
}

/// The main address of each family first: that of `lo`, which no broken link takes away.
fn host_addresses(fabric: &Fabric<'_>, addresses: &Addresses, node: usize) -> Vec<IpAddr> {
    let loopbacks = || addresses.loopbacks[node].iter().copied();
    let ports = || fabric.ports_of[node].iter().flat_map(|&port| addresses.ports[port].into_iter().flatten());
    let further = || addresses.further[node].iter().map(|(_, net)| *net);
    let all: Vec<IpAddr> = loopbacks().chain(ports()).chain(further()).map(|net| net.addr()).collect();
    let main: Vec<IpAddr> = Family::BOTH
        .into_iter()
        .filter_map(|family| all.iter().copied().find(|it| Family::of(*it) == family))
        .collect();
    let rest = all.iter().copied().filter(|it| !main.contains(it));
    main.iter().copied().chain(rest).collect()
}

fn raise_hop_limit(route: &mut Route, limit: Option<u8>) {
    if let RouteKind::Unicast(_) = route.kind {
        route.hop_limit = limit;
    }
}

fn origins(lab: &Lab, origins: &mut Origins) {
    let nodes = lab.nodes().iter().map(|node| (&node.name, node.origin));
    let switches = lab.switches().iter().map(|switch| (&switch.name, switch.origin));
    origins.namespaces.extend(nodes.chain(switches).filter_map(|(name, at)| Some((name.clone(), at?))));
    for link in lab.links() {
        for end in &link.ends {
            let at = Endpoint { ns: lab.vertex_name(end.vertex).clone(), dev: end.iface.name };
            origins.interfaces.extend(link.origin.map(|origin| (at, origin)));
        }
    }
    for node in lab.nodes() {
        for dev in &node.interfaces {
            let at = Endpoint { ns: node.name.clone(), dev: *dev };
            origins.interfaces.extend(node.origin.map(|origin| (at, origin)));
        }
    }
    for switch in lab.switches() {
        let at = Endpoint { ns: switch.name.clone(), dev: switch.bridge };
        origins.interfaces.extend(switch.origin.map(|origin| (at, origin)));
    }
}

fn warn(fabric: &Fabric<'_>, spaces: &[NsState], wanted: &mut Wanted) {
    let lab = fabric.lab;
    if wanted.longest_path > LONGEST_PATH {
        let message =
            format!("the longest path has {} hops; no packet can make more than {LONGEST_PATH}", wanted.longest_path);
        wanted.warnings.push(Problem::warning("long-path", None, message));
    }
    let routes: usize = spaces.iter().map(|space| space.routes.len()).sum();
    if routes > MANY_ROUTES && routes / spaces.len().max(1) > MANY_EACH {
        let message = format!(
            "shortest paths through this network take {routes} routes, {} for each node",
            routes / spaces.len().max(1)
        );
        wanted.warnings.push(
            Problem::warning("many-routes", None, message)
                .help("a network without hierarchy cannot be summarised; fewer links, or `routing: none`, take fewer"),
        );
    }
    if lab.routing() == Routing::Auto
        && let Some(pair) = disconnected(fabric)
    {
        let [first, second] = pair.map(|node| &lab.nodes()[node]);
        let message = format!("there is no path between `{}` and `{}`", first.name, second.name);
        wanted.warnings.push(Problem::warning("no-path", second.origin, message).also(first.origin, "the other one"));
    }
}

/// Two nodes with links that nothing joins, the first ones of their kind.
fn disconnected(fabric: &Fabric<'_>) -> Option<[usize; 2]> {
    let parts = fabric.lab.parts();
    let mut linked = (0..parts.len()).filter(|&node| !fabric.ports_of[node].is_empty());
    let first = linked.next()?;
    linked.find(|&node| parts[node] != parts[first]).map(|second| [first, second])
}
