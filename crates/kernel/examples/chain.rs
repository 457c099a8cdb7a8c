//! How long it takes to bring up a chain of routers: the same one as `limit chain N` makes, to be
//! compared with it in turns (`shared/limit/README.md`).
//!
//! ```text
//! cargo run --release -p hopyard-kernel --example chain -- 1000 [observe] [user]
//!
//! r0 eth0 -- eth0 r1 eth1 -- eth0 r2 eth1 -- ... 10.0.0.0/31, 10.0.0.2/31, ...
//! ```
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::panic)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::net::Ipv4Addr;
use std::time::Instant;

use hopyard_kernel::{Realm, World};
use hopyard_net::{Endpoint, IfName, IpNet, Ipv4Net, NextHop, NsName, Op, Route, SysctlKey, VethEnd};

const BASE: u32 = 0x0a00_0000;

fn main() -> Result<(), Box<dyn Error>> {
    let nodes: u32 = std::env::args().nth(1).ok_or("usage: chain NODES [observe] [user]")?.parse()?;
    let ops = chain(nodes)?;

    let options: BTreeSet<String> = std::env::args().skip(2).collect();
    let realm = if options.contains("user") {
        support::user_realm().ok_or("there are no user namespaces here")?
    } else {
        Realm::host()
    };
    let mut world = World::new(realm);
    let start = Instant::now();
    world.apply(&ops, &mut |_| {})?;
    let up = start.elapsed().as_secs_f64();
    println!("{{\"nodes\":{nodes},\"ops\":{},\"up_s\":{up:.4}}}", ops.len());

    if options.contains("observe") {
        let sysctls: BTreeMap<_, _> =
            world.names().map(|ns| (ns.clone(), BTreeSet::from([SysctlKey::IPV4_FORWARD]))).collect();
        let start = Instant::now();
        let state = world.observe(&sysctls)?;
        let observe = start.elapsed().as_secs_f64();
        let routes: usize = state.namespaces.values().map(|ns| ns.routes.len()).sum();
        println!("{{\"observe_s\":{observe:.4},\"routes\":{routes}}}");
    }
    Ok(())
}

fn chain(nodes: u32) -> Result<Vec<Op>, Box<dyn Error>> {
    let names: Vec<NsName> = (0..nodes).map(|i| format!("r{i}").parse()).collect::<Result<_, _>>()?;
    let (eth0, eth1): (IfName, IfName) = ("eth0".parse()?, "eth1".parse()?);
    // The first node has only a right-hand link, which is then its `eth0`.
    let right_of = |i: u32| if i == 0 { eth0 } else { eth1 };
    let at = |i: u32, dev: IfName| Endpoint { ns: names[i as usize].clone(), dev };
    let end = |i: u32, dev: IfName| VethEnd { at: at(i, dev), mac: None, mtu: None };

    let mut ops: Vec<Op> = names.iter().cloned().map(Op::AddNs).collect();
    ops.extend(names.iter().map(|ns| Op::SetSysctl {
        ns: ns.clone(),
        key: SysctlKey::IPV4_FORWARD,
        value: "1".into(),
    }));
    ops.extend((1..nodes).map(|i| Op::AddVeth { a: end(i - 1, right_of(i - 1)), b: end(i, eth0) }));
    for i in 0..nodes {
        let left = (i > 0).then_some((eth0, BASE + 2 * i - 1, BASE + 2 * i - 2));
        let right = (i + 1 < nodes).then_some((right_of(i), BASE + 2 * i, BASE + 2 * i + 1));
        ops.push(Op::SetUp { at: at(i, IfName::LO), up: true });
        for (dev, _, _) in [left, right].into_iter().flatten() {
            ops.push(Op::SetUp { at: at(i, dev), up: true });
        }
        for (dev, own, _) in [left, right].into_iter().flatten() {
            ops.push(Op::AddAddr { at: at(i, dev), addr: prefix(own, 31)? });
        }
        let mut route = |to: IpNet, (dev, _, via): (IfName, u32, u32)| {
            let hop = NextHop { via: Some(Ipv4Addr::from(via).into()), dev, weight: 1 };
            ops.push(Op::SetRoute { ns: names[i as usize].clone(), route: Route::unicast(to, vec![hop]) });
        };
        match (left, right) {
            (Some(left), Some(right)) => {
                route(prefix(0, 0)?, right);
                // All that is further left, in aligned blocks.
                let (mut low, high) = (0_u32, 2 * (i - 1));
                while low < high {
                    let mut size = if low == 0 { 1 << 30 } else { 1 << low.trailing_zeros() };
                    while low + size > high {
                        size >>= 1;
                    }
                    route(prefix(BASE + low, 32 - u8::try_from(size.trailing_zeros())?)?, left);
                    low += size;
                }
            }
            (Some(only), None) | (None, Some(only)) => route(prefix(0, 0)?, only),
            (None, None) => {}
        }
    }
    Ok(ops)
}

fn prefix(addr: u32, length: u8) -> Result<IpNet, Box<dyn Error>> {
    Ok(Ipv4Net::new(addr.into(), length)?.into())
}
