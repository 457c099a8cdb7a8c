//! The tables of neighbours, which all network namespaces of the machine share.

use std::fs;

use hopyard_net::Family;

/// How often the kernel has found no room for one more neighbour, and lost a packet for it, since the machine runs. `None`: it
/// does not say, as it tells this only in the machine's first network.
pub fn times_full(family: Family) -> Option<u64> {
    let name = match family {
        Family::Ipv4 => "arp_cache",
        Family::Ipv6 => "ndisc_cache",
    };
    sum(&fs::read_to_string(format!("/proc/net/stat/{name}")).ok()?)
}

/// A line of names, and below it one of hexadecimal numbers for each processor.
fn sum(text: &str) -> Option<u64> {
    let mut lines = text.lines();
    let column = lines.next()?.split_whitespace().position(|name| name == "table_fulls")?;
    let value = |line: &str| u64::from_str_radix(line.split_whitespace().nth(column)?, 16).ok();
    lines.map(value).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_processors_are_counted() {
        let text = "entries  allocs table_fulls\n000003b7 00054e19 00000700\n000003b7 00000000 0000000a\n";
        assert_eq!(sum(text), Some(0x70a));
        assert_eq!(sum("entries\n00000001\n"), None);
        assert_eq!(sum(""), None);
    }
}
