//! Root's way out: a veth pair between node and host, and a masquerade on the host.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use hopyard_kernel::nftables::{NftSocket, Owner, TableName, Transaction};
use hopyard_kernel::{Process, Realm, World, enter_network, keeper};
use hopyard_model::{Lab, Node, Problem};
use hopyard_net::{
    BaseChain, Chain, Endpoint, Family, Hook, IfName, Ipv4Net, NextHop, NsName, NsState, Op, Route, Rule, RuleStep,
    Ruleset, VethEnd, masquerade_from,
};

use super::{Connected, HostStep, Plan, Uplink, choose, host, prefixes};
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

pub(super) fn plan(
    lab: &Lab,
    wanted: &BTreeSet<NsName>,
    connected: &[Connected],
    mut taken: Vec<Ipv4Net>,
    namespace: OwnedFd,
    plan: &mut Plan,
) -> Result<(), Error> {
    let Some(host) = host_name(lab) else { return Ok(()) };
    let mut world = World::new(Realm::host());
    world.adopt(host.clone(), namespace)?;
    let key = Family::Ipv4.forwarding_key();
    let keys = BTreeMap::from([(host.clone(), BTreeSet::from([key.clone()]))]);
    let state = world.observe(&keys)?;
    taken.extend(prefixes(&state));
    let firewall = world.firewall(&host)?;
    let there = &state.namespaces[&host];
    let mut names: BTreeSet<String> = there.links.keys().map(ToString::to_string).collect();
    // A table that an `up` which was killed has made is the keeper's as long as the lab is there.
    names.extend(firewall.iter().flat_map(|rules| &rules.chains).map(|chain| chain.table.clone()));
    if there.sysctls.get(&key).is_some_and(|value| value == "0") {
        let op = Op::SetSysctl { ns: host.clone(), key, value: "1".to_owned() };
        plan.host.push(HostStep::Op { op, host: host.clone() });
    }
    for node in wanted {
        let on_record = connected.iter().find(|it| it.node == *node && plan.stay.contains(node));
        let there = on_record.and_then(|it| find(Uplink::of_record(it), there, firewall.as_ref()));
        let uplink = if let Some(uplink) = there {
            uplink
        } else {
            plan.stay.remove(node);
            let net = choose(lab, node, &mut taken)?;
            let dev = dev_name(lab, node, &mut names)?;
            let uplink = Uplink { node: node.clone(), net, dev };
            let mut steps = vec![HostStep::Masquerade { table: uplink.table(), from: net }];
            steps.extend(ops(&uplink, &host).into_iter().map(|op| HostStep::Op { op, host: host.clone() }));
            plan.uplinks.push((uplink.clone(), steps));
            uplink
        };
        plan.warnings.extend(firewall.as_ref().and_then(|rules| firewall_warning(rules, lab, &uplink)));
    }
    Ok(())
}

/// The host's part of one, if it is all there. A firewall that cannot be read is taken for whole.
fn find(uplink: Uplink, host: &NsState, firewall: Option<&Ruleset>) -> Option<Uplink> {
    let address = uplink.host_address().into();
    let (dev, _) = host.links.iter().find(|(_, link)| link.up && link.addresses.contains(&address))?;
    let uplink = Uplink { dev: *dev, ..uplink };
    let table = uplink.table();
    firewall.is_none_or(|rules| rules.chains.iter().any(|chain| chain.table == table)).then_some(uplink)
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
    Err(super::UplinkError::NoAddresses { pool: super::POOL }.into())
}

fn ops(uplink: &Uplink, host: &NsName) -> Vec<Op> {
    let Some(dev) = super::name() else { return Vec::new() };
    let outer = Endpoint { ns: host.clone(), dev: uplink.dev };
    let inner = Endpoint { ns: uplink.node.clone(), dev };
    let end = |at: &Endpoint| VethEnd { at: at.clone(), mac: None, mtu: None };
    let hop = NextHop { via: Some(uplink.host_address().addr().into()), dev, weight: 1 };
    let route = Route::unicast(Family::Ipv4.default_prefix(), vec![hop]);
    vec![
        Op::AddVeth { a: end(&outer), b: end(&inner) },
        Op::SetUp { at: outer.clone(), up: true },
        Op::AddAddr { at: outer, addr: uplink.host_address().into() },
        Op::SetUp { at: inner.clone(), up: true },
        Op::AddAddr { at: inner, addr: uplink.node_address().into() },
        Op::SetRoute { ns: uplink.node.clone(), route },
    ]
}

/// Does a firewall of the host drop what it forwards?
fn firewall_warning(rules: &Ruleset, lab: &Lab, uplink: &Uplink) -> Option<Problem> {
    let drops = |chain: &&Chain| {
        chain.base.as_ref().is_some_and(|base| base.hook == Hook::Forward && base.drops)
            && matches!(chain.family.as_str(), "ip" | "inet")
    };
    let chain = rules.chains.iter().find(drops)?;
    // Somebody has done what the help says.
    let name = uplink.dev.as_str().as_bytes();
    let asks = |step: &RuleStep| matches!(step, RuleStep::Compare { with, .. } if with.starts_with(name));
    if rules.chains.iter().flat_map(|chain| &chain.rules).any(|rule| rule.steps.iter().any(asks)) {
        return None;
    }
    let docker = rules.chains.iter().any(|chain| chain.name == "DOCKER-USER");
    let at = lab.nodes().iter().find(|node| node.name == uplink.node).and_then(|node| node.origin);
    let message = format!(
        "the host's firewall drops what it does not know: chain {} {} {} has the policy `drop`, so nothing may pass \
         the {} of `{}`",
        chain.family,
        chain.table,
        chain.name,
        Node::UPLINK,
        uplink.node
    );
    let dev = uplink.dev;
    Some(Problem::warning("uplink-firewall", at, message).help(if docker {
        format!("Docker's chain for this: `iptables -I DOCKER-USER -i {dev} -j ACCEPT; iptables -I DOCKER-USER -o {dev} -j ACCEPT`")
    } else {
        format!("let it forward what comes in and goes out by {dev}")
    }))
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

/// Makes the table; its socket owns it.
fn masquerade(namespace: &OwnedFd, uplink: &Uplink) -> Result<OwnedFd, Error> {
    let table = TableName::inet(&uplink.table());
    let base =
        BaseChain { hook: Hook::Postrouting, priority: 100, drops: false, kind: "nat".to_owned(), devices: Vec::new() };
    let chain = Chain {
        family: table.family.clone(),
        table: table.name.clone(),
        name: base.hook.name().to_owned(),
        base: Some(base),
        rules: vec![Rule { handle: 0, steps: masquerade_from(uplink.net.into()) }],
    };
    let make = || -> Result<OwnedFd, Error> {
        enter_network(namespace.as_fd()).context(|| "enter the host's network".to_owned())?;
        let socket = NftSocket::open()?;
        let mut transaction = Transaction::new();
        transaction.add_table(&table, Owner::Socket);
        transaction.add_chains(&[chain]);
        socket.commit(transaction)?;
        Ok(socket.into_fd())
    };
    Realm::host().run(make).context(|| "enter the host's network".to_owned())?
}
