//! The resolvers of the host.

use std::fs;
use std::net::IpAddr;

/// Where systemd-resolved writes the resolvers that it asks itself.
const UPSTREAM: &str = "/run/systemd/resolve/resolv.conf";
/// The most that a resolver library asks (`MAXNS`, resolv.conf(5)).
const MOST: usize = 3;

/// All that resolv.conf(5) of the host names.
pub(super) fn of_host() -> Vec<IpAddr> {
    servers(&fs::read_to_string("/etc/resolv.conf").unwrap_or_default())
}

/// Those that can be reached from another network: of a resolver on the host itself those that it asks.
pub(super) fn reachable() -> Vec<IpAddr> {
    let by_ipv4 = |list: Vec<IpAddr>| -> Vec<IpAddr> {
        list.into_iter().filter(|addr| addr.is_ipv4() && !addr.is_loopback()).take(MOST).collect()
    };
    let own = by_ipv4(of_host());
    if own.is_empty() { by_ipv4(servers(&fs::read_to_string(UPSTREAM).unwrap_or_default())) } else { own }
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
}
