//! The keys of `meta` and `ct` that are not followed, as nft(8) writes them (linux/netfilter/nf_tables.h has
//! their numbers).

/// A key of `meta`.
pub(super) fn meta(key: u32) -> Option<&'static str> {
    Some(match key {
        2 => "meta priority",
        3 => "meta mark",
        10 => "meta skuid",
        11 => "meta skgid",
        12 => "meta nftrace",
        13 => "meta rtclassid",
        14 => "meta secmark",
        19 => "meta pkttype",
        20 => "meta cpu",
        21 => "meta iifgroup",
        22 => "meta oifgroup",
        23 => "meta cgroup",
        24 => "meta random",
        25 => "meta ipsec",
        28 => "meta ibrpvid",
        29 => "meta ibrvproto",
        30 => "meta time",
        31 => "meta day",
        32 => "meta hour",
        33 => "meta sdif",
        34 => "meta sdifname",
        35 => "meta broute",
        _ => return None,
    })
}

/// A key of `ct`, of one direction.
pub(super) fn connection(key: u32, direction: Option<u8>) -> Option<String> {
    let name = match key {
        3 => "mark",
        4 => "secmark",
        5 => "expiration",
        6 => "helper",
        7 => "l3proto",
        8 => "saddr",
        9 => "daddr",
        10 => "protocol",
        11 => "proto-src",
        12 => "proto-dst",
        13 => "label",
        14 => "packets",
        15 => "bytes",
        16 => "avgpkt",
        17 => "zone",
        18 => "event",
        19 => "ip saddr",
        20 => "ip daddr",
        21 => "ip6 saddr",
        22 => "ip6 daddr",
        23 => "id",
        _ => return None,
    };
    Some(match direction {
        Some(0) => format!("ct original {name}"),
        Some(_) => format!("ct reply {name}"),
        None => format!("ct {name}"),
    })
}

/// A code of ICMP "destination unreachable" with which nft(8) rejects; that of IPv6 it names otherwise.
pub(super) fn unreachable(code: u8) -> Option<&'static str> {
    Some(match code {
        0 => "net-unreachable",
        1 => "host-unreachable",
        2 => "prot-unreachable",
        9 => "net-prohibited",
        10 => "host-prohibited",
        13 => "admin-prohibited",
        _ => return None,
    })
}

/// The lengths of the parts of a key in bytes, by its type: six bits a part, as nft(8) numbers them. `None`: they do
/// not make up the key.
pub(super) fn parts_of(key_type: u32, length: u32) -> Option<Vec<u32>> {
    const BITS: u32 = 6;
    let mut parts = Vec::new();
    let mut rest = key_type;
    while rest != 0 {
        parts.push(match rest & ((1 << BITS) - 1) {
            8 | 30 | 41 => 16,
            9 => 6,
            10 | 11 | 13 | 21 => 2,
            2 | 12 | 14..=17 | 27 | 29 | 31..=34 | 36 | 37 | 39 | 42 => 1,
            7 | 18..=20 | 22..=26 | 28 | 35 | 38 => 4,
            _ => return None,
        });
        rest >>= BITS;
    }
    parts.reverse();
    let whole: u32 = parts.iter().map(|part: &u32| part.next_multiple_of(4)).sum();
    (parts.len() > 1 && whole == length).then_some(parts)
}
