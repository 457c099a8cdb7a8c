//! The resolvers of the host.

use std::fs;
use std::net::IpAddr;

use hopyard_net::IpNet;

use super::outside::is_link_local;

/// Where systemd-resolved writes the resolvers that it asks itself.
const UPSTREAM: &str = "/run/systemd/resolve/resolv.conf";
/// The most that a resolver library asks (`MAXNS`, resolv.conf(5)).
const MOST: usize = 3;

/// All that resolv.conf(5) of the host names.
pub(super) fn of_host() -> Vec<IpAddr> {
    servers(&fs::read_to_string("/etc/resolv.conf").unwrap_or_default())
}

/// Those that can be reached from another network, by IPv6 where there is a way out by it: of a resolver on the host
/// itself those that it asks. In its own networks, `inside`, that one meets another host.
pub(super) fn reachable(by_ipv6: bool, inside: &[IpNet]) -> Vec<IpAddr> {
    let upstream = || servers(&fs::read_to_string(UPSTREAM).unwrap_or_default());
    let own = within_reach(of_host(), by_ipv6, inside);
    if own.is_empty() { within_reach(upstream(), by_ipv6, inside) } else { own }
}

fn within_reach(list: Vec<IpAddr>, by_ipv6: bool, inside: &[IpNet]) -> Vec<IpAddr> {
    let reached = |addr: &IpAddr| {
        let may_leave = !addr.is_loopback() && !is_link_local(*addr) && !inside.iter().any(|net| net.contains(addr));
        may_leave && (by_ipv6 || addr.is_ipv4())
    };
    list.into_iter().filter(reached).take(MOST).collect()
}

fn servers(text: &str) -> Vec<IpAddr> {
    let server = |line: &str| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()?.parse().ok()).flatten()
    };
    text.lines().filter_map(server).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_of_servers_count() {
        let text = "# nameserver 9.9.9.9\nnameserver 127.0.0.53\nsearch nameserver\n nameserver 192.0.2.1 x\nnameserver fe80::1%eth0\n";
        assert_eq!(servers(text), ["127.0.0.53".parse::<IpAddr>().unwrap(), "192.0.2.1".parse().unwrap()]);
    }

    #[test]
    fn a_resolver_is_named_where_there_is_a_way_to_it() {
        let list: Vec<IpAddr> =
            ["::1", "2001:db8::53", "fe80::1", "127.0.0.53", "192.0.2.1"].map(|addr| addr.parse().unwrap()).into();
        assert_eq!(within_reach(list.clone(), true, &[]), [list[1], list[4]]);
        assert_eq!(within_reach(list.clone(), false, &[]), [list[4]]);
        assert_eq!(within_reach(list.clone(), true, &["192.0.2.0/24".parse().unwrap()]), [list[1]]);
    }
}
