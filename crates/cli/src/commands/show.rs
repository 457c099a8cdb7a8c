//! `hop show`.

use std::collections::BTreeMap;

use hopyard::model::Lab;
use hopyard::net::{IfName, LinkKind, NetState, NsState, SysctlKey};
use hopyard::runtime::Home;

use super::ls::note_attached;
use crate::error::CliError;
use crate::target::LabArg;
use crate::ui::Ui;

/// Show a lab, or one node of it, as it is now.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    lab: LabArg,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// The node, as NODE or LAB/NODE; without one, the whole lab in brief.
    #[arg(value_name = "NODE")]
    node: Option<String>,
}

pub(crate) fn run(args: &Args, ui: &mut Ui) -> Result<u8, CliError> {
    let home = Home::of_caller()?;
    let (running, node) = match &args.node {
        Some(node) => args.lab.find_node(&home, node).map(|(running, node)| (running, Some(node)))?,
        None => (args.lab.find(&home)?, None),
    };
    let mut world = match &node {
        Some(node) => running.world_of(node)?,
        None => running.world()?,
    };
    let forwarding = [SysctlKey::IPV4_FORWARD, SysctlKey::IPV6_FORWARD];
    let sysctls: BTreeMap<_, _> =
        world.names().map(|name| (name.clone(), forwarding.iter().cloned().collect())).collect();
    let state = world.observe(&sysctls).map_err(hopyard::runtime::Error::from)?;
    if args.json {
        ui.json(&state)?;
        return Ok(0);
    }
    let is_whole = node.is_none();
    match node {
        Some(_) => {
            let lab = &running.contents()?.lab;
            state.namespaces.iter().try_for_each(|(name, ns)| node_in_full(ui, lab, name.as_str(), ns))?;
        }
        None => lab_in_brief(ui, running.name().as_str(), &running.record().source, &state)?,
    }
    note_attached(&home, running.name())?.iter().filter(|_| is_whole).try_for_each(|line| ui.line(line))?;
    Ok(0)
}

fn lab_in_brief(ui: &mut Ui, lab: &str, source: &str, state: &NetState) -> Result<(), CliError> {
    ui.line(format_args!("{lab}, from {source}"))?;
    let width = state.namespaces.keys().map(|name| name.as_str().len()).max().unwrap_or(0).max(4);
    ui.line(format_args!("{:width$}  WHAT    INTERFACES  ROUTES  ADDRESSES", "NODE"))?;
    for (name, ns) in &state.namespaces {
        let addresses: Vec<String> =
            ns.links.values().flat_map(|link| &link.addresses).map(ToString::to_string).collect();
        // `lo` is no news.
        let interfaces = ns.links.len().saturating_sub(1);
        ui.line(format_args!(
            "{name:width$}  {:6}  {interfaces:10}  {:6}  {}",
            what(ns),
            ns.routes.len(),
            addresses.join(" ")
        ))?;
    }
    Ok(())
}

fn what(ns: &NsState) -> &'static str {
    if ns.links.values().any(|link| link.kind == LinkKind::Bridge) {
        "switch"
    } else if ns.sysctls.values().any(|value| value == "1") {
        "router"
    } else {
        "host"
    }
}

/// The other end of a link, as it was declared: one namespace alone does not show it.
fn declared_peer(lab: &Lab, node: &str, dev: IfName) -> Option<String> {
    lab.links().iter().find_map(|link| {
        let is_here =
            |at: usize| link.ends[at].iface.name == dev && lab.vertex_name(link.ends[at].vertex).as_str() == node;
        let there = &link.ends[if is_here(0) {
            1
        } else if is_here(1) {
            0
        } else {
            return None;
        }];
        Some(format!("{}:{}", lab.vertex_name(there.vertex), there.iface.name))
    })
}

fn node_in_full(ui: &mut Ui, lab: &Lab, name: &str, ns: &NsState) -> Result<(), CliError> {
    ui.line(format_args!("{name}, a {}", what(ns)))?;
    for (dev, link) in &ns.links {
        let mut words = vec![if link.up { "up".to_owned() } else { "down".to_owned() }];
        match &link.kind {
            LinkKind::Veth { peer: Some(peer) } => words.push(format!("to {peer}")),
            LinkKind::Veth { peer: None } => {
                words.extend(declared_peer(lab, name, *dev).map(|peer| format!("to {peer}")));
            }
            LinkKind::Lent => words.push("of the machine".to_owned()),
            LinkKind::Bridge => words.push("bridge".to_owned()),
            LinkKind::Loopback => {}
            LinkKind::Other(kind) => words.push(kind.clone()),
        }
        words.extend(link.master.map(|bridge| format!("port of {bridge}")));
        words.extend(link.mac.map(|mac| mac.to_string()));
        words.extend(link.mtu.map(|mtu| format!("mtu {mtu}")));
        words.extend(link.alt_names.iter().map(|name| format!("also {name}")));
        ui.line(format_args!("  {dev}  {}", words.join("  ")))?;
        for address in &link.addresses {
            ui.line(format_args!("      {address}"))?;
        }
    }
    for route in ns.routes.values() {
        ui.line(format_args!("  route  {route}"))?;
    }
    for ((dev, address), mac) in &ns.neighbours {
        ui.line(format_args!("  neighbour  {address}  {mac}  on {dev}"))?;
    }
    if let Some(nat) = &ns.nat {
        for rule in &nat.rules {
            ui.line(format_args!("  nat  {rule}"))?;
        }
        if nat.foreign {
            ui.line("  nat  and rules that are not of hop, in `table inet hopyard`")?;
        }
    }
    for (key, value) in &ns.sysctls {
        ui.line(format_args!("  sysctl  {key} = {value}"))?;
    }
    Ok(())
}
