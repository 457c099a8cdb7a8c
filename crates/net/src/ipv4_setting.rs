//! What decides about packets of IPv4 at each interface: `net.ipv4.conf`.

use std::fmt;

use crate::SysctlKey;

/// A sysctl of `net.ipv4.conf`, and what it is where nobody has set it (`ipv4_devconf` and
/// `ipv4_devconf_dflt` in `net/ipv4/devinet.c` of Linux). Those that decide nothing are left out: `log_martians`, `tag`, and `mc_forwarding`, which
/// the kernel alone sets.
#[derive(Debug, PartialEq, Eq)]
pub struct Ipv4Setting {
    /// `rp_filter`.
    pub name: &'static str,
    /// Its number in `IFLA_INET_CONF` (`linux/ip.h`).
    pub number: u16,
    /// In `conf.all`, if that decides together with the interface's own.
    pub all: Option<i32>,
    /// In `conf.default`, and so of each interface.
    pub default: i32,
}

/// For which interfaces it is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfOf {
    /// For all, together with what each of them says.
    All,
    /// For those to come.
    Default,
}

impl ConfOf {
    /// Both.
    pub const BOTH: [ConfOf; 2] = [ConfOf::All, ConfOf::Default];
}

impl fmt::Display for ConfOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ConfOf::All => "all",
            ConfOf::Default => "default",
        })
    }
}

const fn setting(number: u16, name: &'static str, all: Option<i32>, default: i32) -> Ipv4Setting {
    Ipv4Setting { name, number, all, default }
}

impl Ipv4Setting {
    /// Each of them, but [`FORWARDING`](Self::FORWARDING).
    pub const ALL: [Ipv4Setting; 29] = [
        setting(3, "proxy_arp", Some(0), 0),
        Self::ACCEPT_REDIRECTS,
        setting(5, "secure_redirects", Some(1), 1),
        setting(6, "send_redirects", Some(1), 1),
        setting(7, "shared_media", Some(1), 1),
        setting(8, "rp_filter", Some(0), 0),
        setting(9, "accept_source_route", Some(0), 1),
        setting(10, "bootp_relay", Some(0), 0),
        setting(13, "arp_filter", Some(0), 0),
        setting(14, "medium_id", None, 0),
        setting(15, "disable_xfrm", None, 0),
        setting(16, "disable_policy", Some(0), 0),
        setting(17, "force_igmp_version", Some(0), 0),
        setting(18, "arp_announce", Some(0), 0),
        setting(19, "arp_ignore", Some(0), 0),
        setting(20, "promote_secondaries", Some(0), 0),
        setting(21, "arp_accept", Some(0), 0),
        setting(22, "arp_notify", Some(0), 0),
        setting(23, "accept_local", Some(0), 0),
        setting(24, "src_valid_mark", Some(0), 0),
        setting(25, "proxy_arp_pvlan", None, 0),
        setting(26, "route_localnet", Some(0), 0),
        setting(27, "igmpv2_unsolicited_report_interval", None, 10_000),
        setting(28, "igmpv3_unsolicited_report_interval", None, 1000),
        setting(29, "ignore_routes_with_linkdown", Some(0), 0),
        setting(30, "drop_unicast_in_l2_multicast", Some(0), 0),
        setting(31, "drop_gratuitous_arp", Some(0), 0),
        setting(32, "bc_forwarding", Some(0), 0),
        setting(33, "arp_evict_nocarrier", Some(1), 1),
    ];

    /// `forwarding`, the switch that `net.ipv4.ip_forward` is too.
    pub const FORWARDING: Ipv4Setting = setting(1, "forwarding", Some(0), 0);
    /// `accept_redirects`: in `all` it is 0 where the namespace forwards. The kernel sets it with `ip_forward`.
    pub const ACCEPT_REDIRECTS: Ipv4Setting = setting(4, "accept_redirects", Some(1), 1);

    /// The sysctl, such as `net.ipv4.conf.all.rp_filter`.
    pub fn key(&self, of: ConfOf) -> SysctlKey {
        SysctlKey::ipv4_conf(of, self.name)
    }

    /// What it is where nobody has set it. `None`: it decides nothing there.
    pub fn value(&self, of: ConfOf) -> Option<i32> {
        match of {
            ConfOf::All => self.all,
            ConfOf::Default => Some(self.default),
        }
    }

    /// What a namespace has of that sysctl if nobody sets it, whatever else is set in it.
    pub fn value_of(key: &SysctlKey) -> Option<i32> {
        let of = |of: ConfOf| {
            let name = key.as_str().strip_prefix(&format!("net.ipv4.conf.{of}."))?;
            let setting = Self::ALL.iter().find(|setting| setting.name == name)?;
            setting.value(of).filter(|_| *setting != Self::ACCEPT_REDIRECTS)
        };
        ConfOf::BOTH.into_iter().find_map(of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stands_once() {
        for (at, it) in Ipv4Setting::ALL.iter().enumerate() {
            let others = Ipv4Setting::ALL.iter().skip(at + 1);
            assert!(others.clone().all(|other| other.name != it.name && other.number > it.number), "{it:?}");
        }
    }

    #[test]
    fn a_key_has_its_value() {
        let of = |key: &str| Ipv4Setting::value_of(&key.parse().unwrap());
        assert_eq!(of("net.ipv4.conf.default.accept_source_route"), Some(1));
        assert_eq!(of("net.ipv4.conf.all.accept_source_route"), Some(0));
        assert_eq!(of("net.ipv4.conf.all.accept_redirects"), None, "it depends");
        assert_eq!(of("net.ipv4.conf.all.medium_id"), None, "it decides nothing");
        assert_eq!(of("net.ipv4.conf.eth0.rp_filter"), None);
        assert_eq!(of("net.ipv6.conf.all.accept_redirects"), None);
        for setting in &Ipv4Setting::ALL {
            assert_eq!(setting.key(ConfOf::Default).to_string(), format!("net.ipv4.conf.default.{}", setting.name));
        }
    }
}
