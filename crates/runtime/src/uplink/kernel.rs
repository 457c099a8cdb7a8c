//! Root's way out: a veth pair between node and host, and a masquerade on the host.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use hopyard_kernel::nftables::{NftSocket, Owner, TableName, Transaction};
use hopyard_kernel::{Process, Realm, SnapshotScope, World, enter_network, keeper};
use hopyard_model::{Lab, Node, Problem};
use hopyard_net::{
    BaseChain, Chain, Endpoint, Family, Hook, IfName, IpNet, LinkState, NextHop, NodeState, NsName, Op, Route, Rule,
    RuleStep, RuleVerdict, Ruleset, SysctlKey, VethEnd, drop_unasked, masquerade_from,
};

use super::{Asked, HostStep, Plan, Uplink, choose, host, outside, resolver};
use crate::error::{Error, IoContext};

/// The name by which operations call the host's namespace.
pub(super) fn host_name(lab: &Lab) -> Option<NsName> {
    let mut name = "host".to_owned();
    while lab.nodes().iter().any(|node| node.name.as_str() == name) {
        name.push('-');
        name.push('0');
    }
    name.parse().ok()
}

pub(super) fn plan(asked: &Asked<'_>, mut taken: Vec<IpNet>, namespace: OwnedFd, plan: &mut Plan) -> Result<(), Error> {
    let Some(host) = host_name(asked.lab) else { return Ok(()) };
    let mut world = World::new(Realm::host());
    world.adopt(host.clone(), namespace)?;
    let seen = world.snapshot(&SnapshotScope::default())?.nodes.remove(&host).unwrap_or_default();
    taken.extend(outside::prefixes(&seen));
    let devices = if asked.with_ipv6.is_empty() {
        BTreeSet::new()
    } else {
        outside::ipv6_devices(&mut world, &host, &seen, &resolver::reachable(true, &[]))?
    };
    if devices.is_empty() && !outside::leads_by_ipv4(&mut world, &host)? {
        plan.warnings.push(leads_nowhere(asked.nodes.iter().find_map(|node| asked.node(node))));
    }
    let on_record: BTreeMap<NsName, Uplink> =
        plan.stay.iter().filter_map(|node| Some((node.clone(), asked.on_record(node)?))).collect();
    let is_ours = |link: &LinkState| {
        let mut addresses = on_record.values().flat_map(Uplink::host_addresses);
        addresses.any(|address| link.addresses.iter().any(|it| it.net == address))
    };
    let ours = seen.links.iter().filter(|(_, link)| is_ours(link)).map(|(dev, _)| *dev);
    let settings = Settings::read(&mut world, &host, &devices.iter().copied().chain(ours).collect())?;
    let way = Ipv6::of(&settings, devices);
    let (mut given, mut refused) = (BTreeSet::from([Family::Ipv4]), None);
    match &way {
        Ipv6::Nothing => {}
        Ipv6::Open(_) => drop(given.insert(Family::Ipv6)),
        Ipv6::Closed => refused = Some(Family::Ipv6),
    }

    let mut names: BTreeSet<String> = seen.links.keys().map(ToString::to_string).collect();
    // A table that an `up` which was killed has made is the keeper's as long as the lab is there.
    let firewall = seen.firewall.as_ref();
    names.extend(firewall.iter().flat_map(|rules| &rules.chains).map(|chain| chain.table.clone()));
    if settings.is(&SysctlKey::IPV4_FORWARD, "0") {
        plan.host.push(set(&host, SysctlKey::IPV4_FORWARD, "1"));
    }
    let mut leads_ipv6 = false;
    let mut switched_off = Vec::new();
    for node in &asked.nodes {
        let whole = on_record.get(node).filter(|uplink| asked.suffices(uplink, &given, refused));
        let uplink = if let Some(uplink) = whole.and_then(|uplink| find(uplink, &seen)) {
            // Whoever switches forwarding of the host on and off takes it away.
            switched_off.extend(force_key(uplink.dev).filter(|_| uplink.has_ipv6()));
            uplink
        } else {
            plan.stay.remove(node);
            let nets = asked.families(node, &given).into_iter();
            let nets = nets.map(|family| choose(asked.lab, node, family, &mut taken)).collect::<Result<_, _>>()?;
            let dev = dev_name(asked.lab, node, &mut names)?;
            let uplink = Uplink { node: node.clone(), nets, dev };
            let mut steps = vec![HostStep::Masquerade { table: uplink.table(), from: uplink.nets.clone() }];
            steps.extend(ops(&uplink, &host, &settings).into_iter().map(|op| HostStep::Op { op, host: host.clone() }));
            plan.uplinks.push((uplink.clone(), steps));
            uplink
        };
        leads_ipv6 |= uplink.has_ipv6();
        plan.warnings.extend(firewall.into_iter().flat_map(|rules| firewall_warnings(rules, asked.lab, &uplink)));
    }
    if leads_ipv6 && !settings.forwards_ipv6() {
        if let Ipv6::Open(devices) = way {
            plan.through.extend(devices.into_iter().filter_map(force_key));
        }
        plan.through.extend(switched_off);
        let off = plan.through.iter().filter(|key| settings.is(key, "0"));
        plan.host.extend(off.map(|key| set(&host, key.clone(), "1")));
    } else if refused.is_some()
        && let Some(node) = asked.with_ipv6.first()
    {
        plan.warnings.push(closed_warning(asked.node(node)));
    }
    Ok(())
}

fn set(host: &NsName, key: SysctlKey, value: &str) -> HostStep {
    HostStep::Op { op: Op::SetSysctl { ns: host.clone(), key, value: value.to_owned() }, host: host.clone() }
}

/// How packets of IPv6 get through a host.
enum Ipv6 {
    /// It has no way for them.
    Nothing,
    /// By these interfaces.
    Open(BTreeSet<IfName>),
    /// It has one, and forwards nothing. Since Linux 6.17 single interfaces can be told to (`force_forwarding`). Before
    /// that it would have to become a router, which no longer listens to its own: not for us to decide.
    Closed,
}

impl Ipv6 {
    fn of(settings: &Settings, devices: BTreeSet<IfName>) -> Self {
        let has_switch = |dev: &IfName| force_key(*dev).is_some_and(|key| settings.0.contains_key(&key));
        if devices.is_empty() {
            Ipv6::Nothing
        } else if settings.forwards_ipv6() || devices.iter().all(has_switch) {
            Ipv6::Open(devices)
        } else {
            Ipv6::Closed
        }
    }
}

/// Sysctls of the host that matter, as far as it has them.
struct Settings(BTreeMap<SysctlKey, String>);

impl Settings {
    fn read(world: &mut World, host: &NsName, devices: &BTreeSet<IfName>) -> Result<Self, Error> {
        let mut keys: BTreeSet<SysctlKey> = devices.iter().filter_map(|dev| force_key(*dev)).collect();
        keys.extend(Family::BOTH.map(Family::forwarding_key));
        keys.extend(["accept_ra", "disable_ipv6"].iter().filter_map(|key| ipv6_key("default", key)));
        let mut state = world.observe(&BTreeMap::from([(host.clone(), keys)]))?;
        Ok(Settings(state.namespaces.remove(host).map(|space| space.sysctls).unwrap_or_default()))
    }

    fn is(&self, key: &SysctlKey, value: &str) -> bool {
        self.0.get(key).is_some_and(|it| it == value)
    }

    fn forwards_ipv6(&self) -> bool {
        self.0.get(&SysctlKey::IPV6_FORWARD).is_some_and(|value| value != "0")
    }

    /// What a new interface of the host must be told, because it would be otherwise.
    fn of_new(&self, uplink: &Uplink) -> Vec<(SysctlKey, &'static str)> {
        let dev = uplink.dev.as_str();
        let mut told = Vec::new();
        let mut tell = |name: &str, value: &'static str| {
            let is_so = ipv6_key("default", name).is_none_or(|key| self.0.get(&key).is_none_or(|it| it == value));
            told.extend(ipv6_key(dev, name).filter(|_| !is_so).map(|key| (key, value)));
        };
        // The host takes no routes from a lab.
        tell("accept_ra", "0");
        if uplink.has_ipv6() {
            tell("disable_ipv6", "0");
        }
        if uplink.has_ipv6() && !self.forwards_ipv6() {
            told.extend(force_key(uplink.dev).map(|key| (key, "1")));
        }
        told
    }
}

/// `net.ipv6.conf.DEV.force_forwarding`: what comes in there is sent on, whatever the host does otherwise. So the interface by
/// which the answers come needs it, as well as that by which the questions do.
fn force_key(dev: IfName) -> Option<SysctlKey> {
    ipv6_key(dev.as_str(), "force_forwarding")
}

fn ipv6_key(dev: &str, name: &str) -> Option<SysctlKey> {
    // A point in a name is written as a slash.
    format!("net.ipv6.conf.{}.{name}", dev.replace('.', "/")).parse().ok()
}

/// That nodes have no IPv6 outside, though the host has.
fn closed_warning(node: Option<&Node>) -> Problem {
    let message = "the host has IPv6 and does not forward it, so nodes have a way out by IPv4 alone: before Linux 6.17 no \
                   single interface can be told to";
    Problem::warning("uplink-ipv6", node.and_then(|node| node.origin), message).help(
        "`sysctl -w net.ipv6.conf.all.forwarding=1` makes the host forward, and then `hop up` again. It is a router then: where \
         it has its own route from one, `sysctl -w net.ipv6.conf.DEV.accept_ra=2` first, of the interface DEV that leads there, \
         or that route goes. `addressing: { ipv6: none }` in the file does without IPv6",
    )
}

/// That nodes reach the host and its neighbours, and nothing else.
fn leads_nowhere(node: Option<&Node>) -> Problem {
    let message =
        "the host has no route to the Internet, so the uplink leads to the host's own networks and no further";
    Problem::warning("uplink-nowhere", node.and_then(|node| node.origin), message).help(
        "it leads on as soon as the host has a default route (`ip route add default via ADDRESS`); IPv6 takes another `hop up` then",
    )
}

/// The host's part of one, if it is all there. A firewall that cannot be read is taken for whole.
fn find(uplink: &Uplink, host: &NodeState) -> Option<Uplink> {
    let has = |link: &LinkState, address: IpNet| link.addresses.iter().any(|it| it.net == address);
    let (dev, _) =
        host.links.iter().find(|(_, link)| link.up && uplink.host_addresses().all(|address| has(link, address)))?;
    let uplink = Uplink { dev: *dev, ..uplink.clone() };
    let table = uplink.table();
    let rules = host.firewall.as_ref();
    // Of a `hop` of before it kept the way in closed there is one chain.
    let are_there = |rules: &Ruleset| rules.chains.iter().filter(|chain| chain.table == table).count() == CHAINS;
    rules.is_none_or(are_there).then_some(uplink)
}

/// `hop` and a number from the names. One that is there may be dying; the next one is as good.
fn dev_name(lab: &Lab, node: &NsName, names: &mut BTreeSet<String>) -> Result<IfName, Error> {
    let hash = hopyard_model::stable_hash(format!("{} {node}", lab.name()).as_bytes());
    for at in 0..u64::MAX {
        let name = format!("hop{:010x}", hash.wrapping_add(at) & 0xff_ffff_ffff);
        if names.insert(name.clone())
            && let Ok(dev) = name.parse()
        {
            return Ok(dev);
        }
    }
    Err(super::UplinkError::NoAddresses { pool: super::pool(Family::Ipv4).0 }.into())
}

fn ops(uplink: &Uplink, host: &NsName, settings: &Settings) -> Vec<Op> {
    let Some(dev) = super::name() else { return Vec::new() };
    let outer = Endpoint { ns: host.clone(), dev: uplink.dev };
    let inner = Endpoint { ns: uplink.node.clone(), dev };
    let end = |at: &Endpoint| VethEnd { at: at.clone(), mac: None, mtu: None };
    let told = settings.of_new(uplink).into_iter();
    let told = told.map(|(key, value)| Op::SetSysctl { ns: host.clone(), key, value: value.to_owned() });
    let addresses = |at: &Endpoint, all: Vec<IpNet>| {
        let at = at.clone();
        all.into_iter().map(move |addr| Op::AddAddr { at: at.clone(), addr })
    };
    let routes = uplink.host_addresses().map(|addr| {
        let hop = NextHop { via: Some(addr.addr()), dev, weight: 1 };
        let route = Route::unicast(Family::of(addr.addr()).default_prefix(), vec![hop]);
        Op::SetRoute { ns: uplink.node.clone(), route }
    });
    let mut ops = vec![Op::AddVeth { a: end(&outer), b: end(&inner) }];
    ops.extend(told);
    ops.push(Op::SetUp { at: outer.clone(), up: true });
    ops.extend(addresses(&outer, uplink.host_addresses().collect()));
    ops.push(Op::SetUp { at: inner.clone(), up: true });
    ops.extend(addresses(&inner, uplink.node_addresses().collect()));
    ops.extend(routes);
    ops
}

/// What a chain does with all that comes to its end, where that is not to let it on: as firewalld, and iptables of Red Hat, say it.
fn last_word(chain: &Chain) -> Option<&'static str> {
    let mut steps = chain.rules.last()?.steps.iter().filter(|step| !matches!(step, RuleStep::Counter | RuleStep::Pass));
    match (steps.next(), steps.next()) {
        (Some(RuleStep::Reject { .. }), None) => Some("rejects the rest"),
        (Some(RuleStep::Verdict(RuleVerdict::Drop)), None) => Some("drops the rest"),
        _ => None,
    }
}

/// Does a firewall of the host drop what it forwards?
fn firewall_warnings(rules: &Ruleset, lab: &Lab, uplink: &Uplink) -> Vec<Problem> {
    let mut told = BTreeSet::new();
    let mut warnings = Vec::new();
    for family in uplink.families() {
        let (word, tool) = match family {
            Family::Ipv4 => ("ip", "iptables"),
            Family::Ipv6 => ("ip6", "ip6tables"),
        };
        let chains = || rules.chains.iter().filter(|chain| [word, "inet"].contains(&chain.family.as_str()));
        let refusal = |chain: &Chain| {
            let base = chain.base.as_ref().filter(|base| base.hook == Hook::Forward)?;
            if base.drops { Some("has the policy `drop`") } else { last_word(chain) }
        };
        let others = || chains().filter(|chain| chain.table != uplink.table());
        let Some((chain, refusal)) = others().find_map(|it| Some((it, refusal(it)?))) else { continue };
        // Somebody has done what the help says.
        let name = uplink.dev.as_str().as_bytes();
        let asks = |step: &RuleStep| matches!(step, RuleStep::Compare { with, .. } if with.starts_with(name));
        let mut steps = others().flat_map(|chain| &chain.rules).flat_map(|rule| &rule.steps);
        if steps.any(asks) || !told.insert((&chain.family, &chain.table, &chain.name)) {
            continue;
        }
        let docker = chains().any(|chain| chain.name == "DOCKER-USER");
        let at = lab.nodes().iter().find(|node| node.name == uplink.node).and_then(|node| node.origin);
        let message = format!(
            "the host's firewall drops what it does not know: chain {} {} {} {refusal}, so nothing{} may pass the {} of `{}`",
            chain.family,
            chain.table,
            chain.name,
            if chain.family == "ip6" { " of IPv6" } else { "" },
            Node::UPLINK,
            uplink.node
        );
        let dev = uplink.dev;
        warnings.push(Problem::warning("uplink-firewall", at, message).help(if docker {
            format!("Docker's chain for this: `{tool} -I DOCKER-USER -i {dev} -j ACCEPT; {tool} -I DOCKER-USER -o {dev} -j ACCEPT`")
        } else {
            format!("let it forward what comes in and goes out by {dev}")
        }));
    }
    warnings
}

/// Makes one. `note` puts the number on record by which the keeper holds the owner of its table, before
/// anything else can fail.
pub(super) fn connect(
    dir: &Path,
    lab_keeper: &Process,
    node: &OwnedFd,
    uplink: &Uplink,
    steps: &[HostStep],
    note: impl FnOnce(u32) -> Result<(), Error>,
) -> Result<(), Error> {
    let opening = || "open the host's network namespace".to_owned();
    let namespace = host::of_keeper(lab_keeper).context(opening)?;
    // Before the first packet.
    let socket = masquerade(&namespace, uplink)?;
    let numbers = keeper::hold(dir, &[socket.as_fd()])?;
    note(numbers.first().copied().unwrap_or_default())?;
    let steps = steps.iter().filter_map(|step| match step {
        HostStep::Op { op, host } => Some((op.clone(), host)),
        _ => None,
    });
    let (ops, hosts): (Vec<Op>, Vec<&NsName>) = steps.unzip();
    let mut world = World::new(Realm::host());
    if let Some(&host) = hosts.first() {
        world.adopt(host.clone(), namespace)?;
    }
    world.adopt(uplink.node.clone(), node.try_clone().context(opening)?)?;
    world.apply(&ops, &mut |_| {}).map_err(|failed| Error::Kernel(failed.error))
}

/// How many chains the table has.
const CHAINS: usize = 2;

/// Makes the table; its socket owns it.
fn masquerade(namespace: &OwnedFd, uplink: &Uplink) -> Result<OwnedFd, Error> {
    let table = TableName::inet(&uplink.table());
    let chain = |(hook, priority, kind): (Hook, i32, &str), rules: Vec<Vec<RuleStep>>| Chain {
        family: table.family.clone(),
        table: table.name.clone(),
        name: hook.name().to_owned(),
        base: Some(BaseChain { hook, priority, drops: false, kind: kind.to_owned(), devices: Vec::new() }),
        rules: rules.into_iter().map(|steps| Rule { handle: 0, steps }).collect(),
    };
    let chains: [Chain; CHAINS] = [
        chain((Hook::Postrouting, 100, "nat"), uplink.nets.iter().map(|net| masquerade_from(*net)).collect()),
        chain((Hook::Forward, 0, "filter"), vec![drop_unasked(uplink.dev)]),
    ];
    let make = || -> Result<OwnedFd, Error> {
        enter_network(namespace.as_fd()).context(|| "enter the host's network".to_owned())?;
        let socket = NftSocket::open()?;
        let mut transaction = Transaction::new();
        transaction.add_table(&table, Owner::Socket);
        transaction.add_chains(&chains);
        socket.commit(transaction)?;
        Ok(socket.into_fd())
    };
    Realm::host().run(make).context(|| "enter the host's network".to_owned())?
}
