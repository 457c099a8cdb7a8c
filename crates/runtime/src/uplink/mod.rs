//! The way out of a lab: an interface `uplink` of a node, that leads to the host's network.
//!
//! As root it is a veth pair, and the host masquerades what comes out of it and lets nothing in but the answers, in a table
//! that a socket of the keeper owns: both go with the lab, whatever ends it. What the host must be told besides, to forward, is
//! in `host.rs`. As an ordinary user it is the program `pasta`, which runs among the processes of the lab.
//!
//! To the rest of the lab the interface does not exist: plans neither make nor remove it.

pub(crate) mod host;
mod kernel;
mod outside;
mod pasta;
mod resolver;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::path::Path;

use hopyard_kernel::{Process, World};
use hopyard_model::{Lab, Node, Problem};
use hopyard_net::{
    Endpoint, Family, IfName, IpNet, Ipv4Net, Ipv6Net, LinkKind, NetState, NsName, NsState, Op, SysctlKey,
};
use serde::{Deserialize, Serialize};

use crate::error::{Error, IoContext};
use crate::home::Home;
use crate::record::{read_json, write_json};

pub use pasta::{Readiness, readiness};

/// Why there is no way out.
#[derive(Debug, thiserror::Error)]
pub enum UplinkError {
    /// An ordinary user needs a program that is not there.
    #[error("a way out of a lab needs the program `pasta`, which is not installed")]
    NoPasta,
    /// And the device by which it makes an interface.
    #[error("a way out of a lab needs /dev/net/tun, which cannot be opened: {source}")]
    NoTun {
        /// Why not.
        source: std::io::Error,
    },
    /// It ended.
    #[error("`pasta` could not connect {node} to the host: {said}")]
    Pasta {
        /// The node.
        node: NsName,
        /// Its own words.
        said: String,
    },
    /// Every address that could be used is.
    #[error("no addresses are left for a way out of the lab: the host uses all of {pool}")]
    NoAddresses {
        /// Where they are chosen from.
        pool: IpNet,
    },
    /// The record of what the host had before cannot be understood.
    #[error("{}, which has the host's settings from before its labs, cannot be read: {why}", .path.display())]
    HostRecord {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// This process is in another network than the lab came from.
    #[error("the way out leads to the network that the lab was brought up in, and this is another one")]
    Elsewhere,
}

/// Something that is done outside of the lab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostStep {
    /// An operation in which this name stands for the host's namespace.
    Op {
        /// The operation.
        op: Op,
        /// The name of the host in it.
        host: NsName,
    },
    /// A table of the host that goes with the lab.
    Masquerade {
        /// Its name, which is that of the interface, too.
        table: String,
        /// The addresses that nobody outside knows.
        from: Vec<IpNet>,
    },
    /// A program that runs as long as the lab.
    Pasta {
        /// The node that it connects.
        node: NsName,
        /// Its arguments.
        args: Vec<String>,
    },
}

impl fmt::Display for HostStep {
    /// The line that a person would have typed on the host.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostStep::Op { op, host } => {
                let line = op.to_string();
                f.write_str(
                    &line.replace(&format!("ip -n {host} "), "ip ").replace(&format!("ip netns exec {host} "), ""),
                )
            }
            HostStep::Masquerade { table, from } => {
                write!(
                    f,
                    "nft -i 'table inet {table} {{ flags owner; chain postrouting {{ type nat hook postrouting priority 100;"
                )?;
                for net in from {
                    let family = if net.addr().is_ipv4() { "ip" } else { "ip6" };
                    write!(f, " {family} saddr {net} masquerade;")?;
                }
                write!(
                    f,
                    " }}; chain forward {{ type filter hook forward priority 0; oifname {table} ct state ! established,related \
                     ct status ! dnat drop; }}; }}'"
                )
            }
            HostStep::Pasta { node, args } => {
                write!(f, "pasta {} --netns {node}", args.join(" "))
            }
        }
    }
}

impl Serialize for HostStep {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

/// Where the network between a node and the host is chosen from, and how large it is: of IPv4 addresses for tests of
/// networks (RFC 2544), which hardly anybody uses for anything else; of IPv6 a unique local prefix (RFC 4193), "hopup" in
/// ASCII, and in it the size of a network that `pasta` knows no other of.
fn pool(family: Family) -> (IpNet, u8) {
    match family {
        Family::Ipv4 => (IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(198, 18, 0, 0), 15)), 30),
        Family::Ipv6 => (IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0xfd68, 0x6f70, 0x7570, 0, 0, 0, 0, 0), 48)), 64),
    }
}

/// One way out.
#[derive(Clone, Debug)]
pub(crate) struct Uplink {
    pub(crate) node: NsName,
    /// The networks between node and host, one of a family, IPv4 first; the host has the first address, the node the second.
    pub(crate) nets: Vec<IpNet>,
    /// The interface of the host. Not for `pasta`.
    pub(crate) dev: IfName,
}

impl Uplink {
    /// One that is on record; its interface is not.
    fn of_record(it: &Connected) -> Self {
        Uplink { node: it.node.clone(), nets: it.nets.clone(), dev: IfName::LO }
    }

    pub(crate) fn host_addresses(&self) -> impl Iterator<Item = IpNet> {
        self.nets.iter().map(|net| nth(*net, 1))
    }

    pub(crate) fn node_addresses(&self) -> impl Iterator<Item = IpNet> {
        self.nets.iter().map(|net| nth(*net, 2))
    }

    pub(crate) fn families(&self) -> BTreeSet<Family> {
        self.nets.iter().map(|net| Family::of(net.addr())).collect()
    }

    fn has_ipv6(&self) -> bool {
        self.families().contains(&Family::Ipv6)
    }

    /// The table on the host.
    pub(crate) fn table(&self) -> String {
        self.dev.to_string()
    }
}

/// An address of a network, with the length of its prefix.
fn nth(net: IpNet, at: u32) -> IpNet {
    let addr = match net.network() {
        IpAddr::V4(addr) => Ipv4Addr::from_bits(addr.to_bits() + at).into(),
        IpAddr::V6(addr) => Ipv6Addr::from_bits(addr.to_bits() + u128::from(at)).into(),
    };
    IpNet::new(addr, net.prefix_len()).unwrap_or(net)
}

/// What is on record of one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Connected {
    pub(crate) node: NsName,
    /// Missing in a record of before there was IPv6: then it is made anew.
    #[serde(default)]
    pub(crate) nets: Vec<IpNet>,
    /// The number by which the keeper holds the socket that owns the host's table.
    pub(crate) held: Option<u32>,
}

/// The file in a lab's directory that has them.
pub(crate) const FILE: &str = "uplinks";
pub(crate) const FILE_NEW: &str = "uplinks.new";

pub(crate) fn read(dir: &Path) -> Result<Vec<Connected>, Error> {
    Ok(read_json(dir, FILE)?.unwrap_or_default())
}

/// The numbers by which a lab's keeper holds what belongs to them.
pub(crate) fn numbers(dir: &Path) -> Result<impl Iterator<Item = u32>, Error> {
    Ok(read(dir)?.into_iter().filter_map(|it| it.held))
}

/// The nodes of a lab that have one.
pub(crate) fn wanted(lab: &Lab) -> BTreeSet<NsName> {
    lab.nodes().iter().filter(|node| node.uplink).map(|node| node.name.clone()).collect()
}

/// Sets back what labs that were killed have left of the host's settings, where there is anything: for any
/// command to begin with.
///
/// # Errors
/// A setting cannot be set back, or the file that has it not be removed.
pub fn heal() -> Result<(), Error> {
    if !hopyard_kernel::rights::is_privileged() {
        return Ok(());
    }
    host::heal_own(&Home::of_caller()?)
}

fn name() -> Option<IfName> {
    Node::UPLINK.parse().ok()
}

/// The ways out that were found in the nodes of a lab.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The nodes that have such an interface, whatever its state.
    present: BTreeSet<NsName>,
    /// Those in which it is as it was made, as far as that is seen from inside.
    whole: BTreeMap<NsName, Whole>,
}

/// A way out as it was found in a node.
#[derive(Debug, Default)]
struct Whole {
    addresses: BTreeSet<IpNet>,
    /// The families that have a default route.
    led: BTreeSet<Family>,
}

impl Whole {
    /// Is it the one that is on record?
    fn is(&self, uplink: &Uplink) -> bool {
        uplink.node_addresses().all(|address| self.addresses.contains(&address))
            && uplink.families().is_subset(&self.led)
    }
}

/// Takes the ways out away from a state that was found, and says which nodes had one.
pub(crate) fn strip(found: &mut NetState, wanted: &NetState) -> Found {
    let mut ways = Found::default();
    let Some(dev) = name() else { return ways };
    for (ns, state) in &mut found.namespaces {
        let declared = wanted.namespaces.get(ns).is_some_and(|want| want.links.contains_key(&dev));
        let leads_out = state.links.get(&dev).is_some_and(|link| match &link.kind {
            LinkKind::Veth { peer } => peer.is_none(),
            LinkKind::Other(_) => true,
            LinkKind::Loopback | LinkKind::Bridge | LinkKind::Lent => false,
        });
        if declared || !leads_out {
            continue;
        }
        // The kernel takes it away when the interface is set down, and does not give it back.
        let is_led = |family: &Family| state.routes.keys().any(|key| key.prefix == family.default_prefix());
        let led: BTreeSet<Family> = Family::BOTH.into_iter().filter(is_led).collect();
        let Some(link) = state.links.remove(&dev) else { continue };
        state.routes.retain(|_, route| route.next_hops().iter().all(|hop| hop.dev != dev));
        state.neighbours.retain(|(on, _), _| *on != dev);
        ways.present.insert(ns.clone());
        if link.up && !led.is_empty() && !link.addresses.is_empty() {
            ways.whole.insert(ns.clone(), Whole { addresses: link.addresses.iter().copied().collect(), led });
        }
    }
    ways
}

/// What is to be done for the ways out.
#[derive(Default)]
pub(crate) struct Plan {
    /// The nodes whose way out is as it shall be.
    stay: BTreeSet<NsName>,
    /// The interfaces that go: of nodes that shall have none, and of those that get a new one.
    removals: Vec<Op>,
    /// The same, of nodes that do not go themselves.
    shown: Vec<HostStep>,
    /// What the host must be told, whatever the number of ways out.
    host: Vec<HostStep>,
    /// The switches of interfaces that must be on for IPv6, where the host does not forward it; some are already.
    through: Vec<SysctlKey>,
    /// Those that are made.
    uplinks: Vec<(Uplink, Vec<HostStep>)>,
    pub(crate) warnings: Vec<Problem>,
}

impl Plan {
    /// All that is done on the host.
    pub(crate) fn steps(&self) -> impl Iterator<Item = &HostStep> {
        let made = self.uplinks.iter().flat_map(|(_, steps)| steps);
        self.shown.iter().chain(&self.host).chain(made)
    }

    /// Is any made?
    pub(crate) fn connects(&self) -> bool {
        !self.uplinks.is_empty()
    }
}

/// What a lab asks for, and what it has on record.
struct Asked<'l> {
    lab: &'l Lab,
    /// The nodes that have a way out.
    nodes: BTreeSet<NsName>,
    /// Those of them that have IPv6.
    with_ipv6: BTreeSet<NsName>,
    connected: Vec<Connected>,
}

impl Asked<'_> {
    /// The families that a new way out of a node gets, of those that there is one for.
    fn families(&self, node: &NsName, given: &BTreeSet<Family>) -> BTreeSet<Family> {
        let mut families = given.clone();
        families.retain(|family| self.takes(node, *family));
        families
    }

    fn takes(&self, node: &NsName, family: Family) -> bool {
        family == Family::Ipv4 || self.with_ipv6.contains(node)
    }

    /// Has one all that it shall have? A family that the host has lost may come back; one that it refuses must go.
    fn suffices(&self, uplink: &Uplink, given: &BTreeSet<Family>, refused: Option<Family>) -> bool {
        let has = uplink.families();
        let may_have = |family: &Family| Some(*family) != refused && self.takes(&uplink.node, *family);
        self.families(&uplink.node, given).is_subset(&has) && has.iter().all(may_have)
    }

    fn on_record(&self, node: &NsName) -> Option<Uplink> {
        self.connected.iter().find(|it| it.node == *node).map(Uplink::of_record)
    }

    fn node(&self, name: &NsName) -> Option<&Node> {
        self.lab.nodes().iter().find(|node| node.name == *name)
    }
}

/// Has a node IPv6? One that is linked to nothing has nothing to tell.
fn has_ipv6(lab: &Lab, state: &NetState, node: &NsName) -> bool {
    let links = state.namespaces.get(node).into_iter().flat_map(|space| &space.links);
    let (own, others): (Vec<_>, Vec<_>) = links.partition(|(dev, _)| **dev == IfName::LO);
    let addresses = own.iter().chain(&others).flat_map(|(_, link)| &link.addresses);
    let any = addresses.into_iter().any(|net| matches!(net, IpNet::V6(net) if !net.addr().is_loopback()));
    any || others.is_empty() && lab.addressing().pool(Family::Ipv6).is_some()
}

/// Compares what a lab shall have with what was found in its nodes, with what is on record in its directory,
/// and with the host's network as it is.
pub(crate) fn plan(
    home: &Home,
    dir: &Path,
    lab: &Lab,
    state: &NetState,
    found: &Found,
    host: io::Result<OwnedFd>,
) -> Result<Plan, Error> {
    let mut plan = Plan::default();
    let asked = Asked {
        lab,
        nodes: wanted(lab),
        with_ipv6: wanted(lab).into_iter().filter(|node| has_ipv6(lab, state, node)).collect(),
        connected: read(dir)?,
    };
    let is_ours = |node: &NsName| {
        let is_there = |it: &Uplink| !it.nets.is_empty() && found.whole.get(node).is_some_and(|there| there.is(it));
        asked.on_record(node).as_ref().is_some_and(is_there)
    };
    plan.stay.extend(asked.nodes.iter().filter(|node| is_ours(node)).cloned());
    let taken: Vec<IpNet> = prefixes(state).collect();
    if !asked.nodes.is_empty() {
        if home.is_privileged() {
            let host = host.context(|| "open the host's network namespace".to_owned())?;
            kernel::plan(&asked, taken, host, &mut plan)?;
        } else {
            pasta::plan(&asked, taken, &mut plan)?;
        }
    }
    let (Some(dev), Some(host)) = (name(), kernel::host_name(lab)) else { return Ok(plan) };
    for node in found.present.difference(&plan.stay) {
        let op = Op::DelLink(Endpoint { ns: node.clone(), dev });
        if lab.nodes().iter().any(|it| it.name == *node) {
            plan.shown.push(HostStep::Op { op: op.clone(), host: host.clone() });
        }
        plan.removals.push(op);
    }
    Ok(plan)
}

/// Makes them. `keeper` is the lab's, whose directory `dir` is.
pub(crate) fn connect(
    home: &Home,
    dir: &Path,
    keeper: &Process,
    lab: &BTreeMap<NsName, OwnedFd>,
    plan: &Plan,
) -> Result<(), Error> {
    if plan.uplinks.is_empty() && plan.host.is_empty() {
        return Ok(());
    }
    if home.is_privileged() {
        let host = host::of_keeper(keeper).context(|| "open the host's network namespace".to_owned())?;
        host::acquire(home, &host, keeper, &plan.through)?;
    }
    let mut connected = read(dir)?;
    for (uplink, steps) in &plan.uplinks {
        let Some(node) = lab.get(&uplink.node) else { continue };
        connected.retain(|it| it.node != uplink.node);
        let mut note = |held: Option<u32>| {
            connected.push(Connected { node: uplink.node.clone(), nets: uplink.nets.clone(), held });
            write_json(dir, FILE, FILE_NEW, &connected)
        };
        if home.is_privileged() {
            kernel::connect(dir, keeper, node, uplink, steps, |held| note(Some(held)))?;
        } else {
            pasta::connect(keeper, node, uplink, steps)?;
            note(None)?;
        }
    }
    Ok(())
}

/// Removes those that do not stay, before any is made.
pub(crate) fn disconnect(
    home: &Home,
    dir: &Path,
    keeper: &Process,
    world: &mut World,
    plan: &Plan,
) -> Result<(), Error> {
    // Its other end goes with it, and `pasta` ends when it has lost its interface.
    world.apply(&plan.removals, &mut |_| {}).map_err(|failed| Error::Kernel(failed.error))?;
    let (stay, go): (Vec<_>, Vec<_>) = read(dir)?.into_iter().partition(|it| plan.stay.contains(&it.node));
    if !go.is_empty() {
        // First: a number that is dropped twice may be another's by then.
        write_json(dir, FILE, FILE_NEW, &stay)?;
        let held: Vec<u32> = go.iter().filter_map(|it| it.held).collect();
        if !held.is_empty() {
            hopyard_kernel::keeper::drop_held(dir, &held)?;
        }
    }
    // Also where none was on record: one that was killed may have told the host to forward, and have made none, or
    // have struck them off, and not have told the host.
    if home.is_privileged() && stay.is_empty() && !plan.connects() && host::is_any_on_record(home) {
        let host = host::of_keeper(keeper).context(|| "open the host's network namespace".to_owned())?;
        host::release(home, &host, keeper)?;
    }
    Ok(())
}

/// The resolvers that a lab asks, which is to be like this: the host's, as far as they can be reached.
pub(crate) fn resolvers(home: &Home, dir: &Path, wanted: bool, state: &NetState) -> Result<Vec<IpAddr>, Error> {
    let connected = read(dir)?;
    if !wanted {
        return Ok(Vec::new());
    }
    if let Some(first) = connected.first()
        && !home.is_privileged()
    {
        return Ok(pasta::resolvers(&Uplink::of_record(first)));
    }
    // What the node at the way out sends elsewhere.
    let gates = connected.iter().filter_map(|it| state.namespaces.get(&it.node));
    let inside: Vec<IpNet> = gates.flat_map(prefixes_of).filter(|net| net.prefix_len() > 0).collect();
    Ok(resolver::reachable(connected.iter().any(|it| Uplink::of_record(it).has_ipv6()), &inside))
}

/// That no name can be resolved.
pub(crate) fn no_resolver(lab: &Lab) -> Option<Problem> {
    let node = lab.nodes().iter().find(|node| node.uplink)?;
    let message = "the host names no resolver that the lab can reach, so names are not resolved in it";
    Some(Problem::warning("no-resolver", node.origin, message).help(
        "one on the host's loopback cannot be reached, nor one in a network that the lab has, too; `nameserver ADDRESS` in /etc/resolv.conf of the host, or \
         of the lab by `hop exec`, names another one",
    ))
}

/// The prefixes that a network uses.
fn prefixes(state: &NetState) -> impl Iterator<Item = IpNet> {
    state.namespaces.values().flat_map(prefixes_of)
}

fn prefixes_of(space: &NsState) -> impl Iterator<Item = IpNet> {
    let addresses = space.links.values().flat_map(|link| link.addresses.iter().copied());
    addresses.chain(space.routes.keys().map(|key| key.prefix))
}

/// A network that nobody uses, beginning where the names say.
fn choose(lab: &Lab, node: &NsName, family: Family, taken: &mut Vec<IpNet>) -> Result<IpNet, Error> {
    let (pool, length) = pool(family);
    let blocks = 1_u64 << (length - pool.prefix_len());
    let first = hopyard_model::stable_hash(format!("{} {node}", lab.name()).as_bytes()) % blocks;
    let is_used = |net: &IpNet, other: &IpNet| match other {
        // A default route is no use of every address.
        IpNet::V4(other) if other.prefix_len() == 0 => false,
        // Nor is a route for all addresses of this kind (fd00::/8), which many hosts have.
        IpNet::V6(other) if other.prefix_len() < pool.prefix_len() => false,
        other => other.contains(&net.network()) || net.contains(&other.network()),
    };
    for at in 0..blocks {
        let block = (first + at) % blocks;
        let addr = match pool.network() {
            IpAddr::V4(addr) => {
                let block = u32::try_from(block).unwrap_or_default();
                Ipv4Addr::from_bits(addr.to_bits() + (block << (32 - length))).into()
            }
            IpAddr::V6(addr) => Ipv6Addr::from_bits(addr.to_bits() + (u128::from(block) << (128 - length))).into(),
        };
        let Ok(net) = IpNet::new(addr, length) else { continue };
        if !taken.iter().any(|other| is_used(&net, other)) {
            taken.push(net);
            return Ok(net);
        }
    }
    Err(UplinkError::NoAddresses { pool }.into())
}
