//! What networks may have that labs do not: each of it is followed by the model, or the answer is "not known".

use std::net::IpAddr;

use hopyard::net::{Endpoint, IfName, IpNet, MacAddr, NetState, NsName};

use super::breaks::Break;
use super::{Dice, neighbour};

/// Something of it between two addresses. `number`: what no other fault of the case has.
pub(crate) fn strange(
    dice: &mut Dice,
    state: &NetState,
    path: &[NsName],
    (target, source): (IpAddr, IpAddr),
    number: usize,
) -> Vec<Break> {
    let ns = dice.pick(path).clone();
    let here = &state.namespaces[&ns];
    let links: Vec<IfName> = here.links.keys().copied().filter(|dev| *dev != IfName::LO).collect();
    let Some(&dev) = links.get(dice.roll(links.len().max(1))) else { return Vec::new() };
    let link = &here.links[&dev];
    let (bits, flag) = if target.is_ipv4() { (32, "-4") } else { (128, "-6") };
    let towards = *dice.pick(&[target, target, source]);
    let via = neighbour(dice, state, link, target);
    let (id, table, priority) = (10 + number, 100 + number, 200 + number);
    let own: Vec<IpNet> =
        link.addresses.iter().copied().filter(|net| net.addr().is_ipv4() == target.is_ipv4()).collect();
    let all = here.links.values().flat_map(|link| &link.addresses);
    if all.map(IpNet::addr).any(|addr| addr == via) {
        // Which the kernel takes for no gateway: docs/why.md, what it does not know.
        return Vec::new();
    }
    let typed = |lines: &[String]| lines.iter().map(|line| Break::Typed(ns.clone(), line.clone())).collect();
    let one = |line: String| vec![Break::Typed(ns.clone(), line)];
    match dice.roll(14) {
        0 => typed(&[
            format!("ip {flag} nexthop add id {id} via {via} dev {dev}"),
            format!("ip {flag} route replace {towards}/{bits} nhid {id}"),
        ]),
        1 => typed(&[
            format!("ip {flag} nexthop add id {id} blackhole"),
            format!("ip {flag} route replace {towards}/{bits} nhid {id} metric 5"),
        ]),
        2 => {
            let about = *dice.pick(&[
                "uidrange 0-100000",
                "fwmark 7",
                "not fwmark 7",
                "ipproto tcp",
                "ipproto udp dport 4242",
                "dsfield 0x10",
                "suppress_prefixlength 0",
                "suppress_ifgroup 5",
            ]);
            let what = if about.starts_with("suppress") { "lookup main" } else { "prohibit" };
            let mut lines = vec![format!("ip {flag} rule add priority {priority} {what} {about}")];
            if what != "prohibit" {
                let behind = *dice.pick(&["lookup main", "unreachable"]);
                lines.push(format!("ip {flag} rule add priority {} to {towards} {behind}", priority + 100));
            }
            typed(&lines)
        }
        3 => typed(&[
            format!("ip {flag} route add {} {towards}/{bits} table {table}", *dice.pick(&["throw", "prohibit"])),
            format!("ip {flag} route add blackhole default table {table}"),
            format!("ip {flag} rule add priority {priority} from {source} to {target} lookup {table}"),
        ]),
        4 => {
            let key = match dice.roll(5) {
                0 | 1 => format!("net.ipv6.conf.{dev}.force_forwarding=1"),
                2 => format!("net.ipv4.conf.{dev}.proxy_arp=1"),
                3 => format!("net.ipv6.conf.{dev}.proxy_ndp=1"),
                4 => format!("net.ipv4.conf.{dev}.ignore_routes_with_linkdown=1"),
                _ => format!("net.ipv6.conf.{dev}.ignore_routes_with_linkdown=1"),
            };
            one(format!("sysctl -w {key}"))
        }
        5 if !own.is_empty() => {
            // The same address, for less than before.
            let net = *dice.pick(&own);
            let how = if net.addr().is_ipv4() {
                *dice.pick(&["scope link", "scope host", "noprefixroute", "metric 9"])
            } else {
                *dice.pick(&["nodad preferred_lft 0", "nodad noprefixroute", "nodad metric 9"])
            };
            typed(&[format!("ip address delete {net} dev {dev}"), format!("ip address add {net} dev {dev} {how}")])
        }
        6 if !own.is_empty() => {
            // Another one beside it.
            let more = if target.is_ipv4() { format!("10.254.{number}.1/24") } else { format!("fc00:{number}::1/64") };
            let how = if target.is_ipv4() { "" } else { "nodad" };
            one(format!("ip address add {more} dev {dev} {how}"))
        }
        7 => {
            let macs: Vec<MacAddr> =
                state.namespaces.values().flat_map(|space| space.links.values()).filter_map(|link| link.mac).collect();
            if macs.is_empty() {
                return Vec::new();
            }
            one(format!("ip neigh replace {via} dev {dev} lladdr {} nud noarp", dice.pick(&macs)))
        }
        8 => one(format!("ip neigh add proxy {towards} dev {dev}")),
        9 => one(format!("ip link set dev {dev} arp off")),
        10 => typed(&[
            format!("ip link add mv{number} link {dev} type macvlan mode bridge"),
            format!("ip link set mv{number} up"),
        ]),
        // Cloned, with its Ethernet address.
        11 => {
            let macs: Vec<MacAddr> =
                state.namespaces.values().flat_map(|space| space.links.values()).filter_map(|link| link.mac).collect();
            if macs.is_empty() {
                return Vec::new();
            }
            one(format!("ip link set dev {dev} address {}", dice.pick(&macs)))
        }
        12 => {
            // A port of a switch, if there is one.
            let ports: Vec<Endpoint> = state
                .namespaces
                .iter()
                .flat_map(|(ns, space)| space.links.iter().map(move |(dev, link)| (ns, dev, link)))
                .filter(|(_, _, link)| link.master.is_some())
                .map(|(ns, dev, _)| Endpoint { ns: ns.clone(), dev: *dev })
                .collect();
            if ports.is_empty() {
                return Vec::new();
            }
            let how = *dice.pick(&[
                "isolated on",
                "learning off flood off",
                "bcast_flood off",
                "mcast_flood off",
                "locked on",
            ]);
            let port = |dice: &mut Dice| dice.pick(&ports).clone();
            let set = |at: Endpoint| Break::Typed(at.ns, format!("bridge link set dev {} {how}", at.dev));
            vec![set(port(dice)), set(port(dice))]
        }
        _ => {
            let far = if target.is_ipv4() { "10.253.0.1".to_owned() } else { "fc00:fd::1".to_owned() };
            let hop = dice.pick(&[via.to_string(), far]).clone();
            one(format!(
                "ip {flag} route replace {towards}/{bits} nexthop via {via} dev {dev} nexthop via {hop} dev {dev} onlink"
            ))
        }
    }
}
