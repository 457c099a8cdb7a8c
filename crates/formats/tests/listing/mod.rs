//! A lab as a few lines of text, for comparison.
#![allow(dead_code, unreachable_pub, reason = "each test program uses a part of it")]
#![allow(clippy::unwrap_used, reason = "writing to a string cannot fail")]

use std::fmt::Write;

use hopyard_model::{Iface, Lab, LinkAddresses, SwitchAddresses};
use serde_json::Value;

/// More of a kind than this is counted, not listed.
const MOST: usize = 40;

/// The lab in a line for each node, switch and link; what is as ever is left out.
pub fn list(lab: &Lab) -> String {
    let mut out = format!("lab {}", lab.name());
    let addressing = lab.addressing();
    let pool = |net: Option<String>| net.unwrap_or_else(|| "none".to_owned());
    writeln!(
        out,
        " routing={:?} multipath={:?} neighbours={:?} ipv4={} ipv6={} mode={:?}",
        lab.routing(),
        lab.multipath(),
        lab.neighbours(),
        pool(addressing.ipv4.map(|net| net.to_string())),
        pool(addressing.ipv6.map(|net| net.to_string())),
        addressing.mode
    )
    .unwrap();
    section(
        &mut out,
        lab.nodes().iter().map(|node| {
            let mut line = format!("node {}", node.name);
            if let Some(role) = node.role {
                write!(line, " role={role:?}").unwrap();
            }
            if let Some(forward) = node.forward {
                write!(line, " forward={forward}").unwrap();
            }
            if let Some(list) = &node.loopback {
                write!(line, " loopback={list:?}").unwrap();
            }
            for dev in &node.interfaces {
                write!(line, " lent={dev}").unwrap();
            }
            for (iface, list) in &node.addresses {
                write!(line, " {iface}={list:?}").unwrap();
            }
            for (key, value) in &node.sysctls {
                write!(line, " {key}={value:?}").unwrap();
            }
            for it in &node.nat.sources {
                write!(line, "\n  source {} {:?} {:?}", it.out, it.from, it.to).unwrap();
            }
            for it in &node.nat.destinations {
                write!(line, "\n  destination {:?} {:?} {:?} {:?}", it.address, it.service, it.to, it.port).unwrap();
            }
            for it in &node.nat.floating {
                write!(line, "\n  floating {} {:?}", it.address, it.to).unwrap();
            }
            for route in &node.routes {
                write!(line, "\n  route {} {:?} metric={} table={}", route.to, route.kind, route.metric, route.table)
                    .unwrap();
            }
            line
        }),
    );
    section(
        &mut out,
        lab.switches().iter().map(|switch| {
            let mut line = format!("switch {}", switch.name);
            for (key, given) in [("ipv4", switch.ipv4), ("ipv6", switch.ipv6)] {
                if given != SwitchAddresses::Auto {
                    write!(line, " {key}={given:?}").unwrap();
                }
            }
            if let Some(mtu) = switch.mtu {
                write!(line, " mtu={mtu}").unwrap();
            }
            if switch.cost != 1 {
                write!(line, " cost={}", switch.cost).unwrap();
            }
            line
        }),
    );
    section(
        &mut out,
        lab.links().iter().map(|link| {
            let [a, b] =
                link.ends.each_ref().map(|end| format!("{}:{}", lab.vertex_name(end.vertex), iface(&end.iface)));
            let mut line = format!("link {a} -- {b}");
            for (key, given) in [("ipv4", link.ipv4), ("ipv6", link.ipv6)] {
                if given != LinkAddresses::Auto {
                    write!(line, " {key}={given:?}").unwrap();
                }
            }
            for mac in link.ends.iter().filter_map(|end| end.mac) {
                write!(line, " mac={mac}").unwrap();
            }
            if let Some(mtu) = link.mtu {
                write!(line, " mtu={mtu}").unwrap();
            }
            if link.cost != 1 {
                write!(line, " cost={}", link.cost).unwrap();
            }
            if let Some(delay) = link.delay_us {
                write!(line, " delay={delay}us").unwrap();
            }
            line
        }),
    );
    section(&mut out, lab.expectations().iter().map(|expectation| format!("expect {}", expectation.words(lab))));
    out
}

fn section(out: &mut String, lines: impl ExactSizeIterator<Item = String>) {
    let more = lines.len().saturating_sub(MOST);
    for line in lines.take(MOST) {
        out.push_str(&line);
        out.push('\n');
    }
    if more > 0 {
        writeln!(out, "… and {more} more").unwrap();
    }
}

fn iface(iface: &Iface) -> String {
    match &iface.long {
        Some(long) => format!("{}({long})", iface.name),
        None => iface.name.to_string(),
    }
}

/// All that a lab says but for places in a text and delays, which a topology file cannot say.
pub fn without_places(lab: &Lab) -> Value {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(object) => {
                object.remove("origin");
                object.remove("delay_us");
                object.values_mut().for_each(strip);
            }
            Value::Array(list) => list.iter_mut().for_each(strip),
            _ => {}
        }
    }
    let mut value = serde_json::to_value(lab).unwrap();
    strip(&mut value);
    value
}
