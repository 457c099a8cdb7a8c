//! Names of network sysctls.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{ConfOf, Family, IfName};

/// A sysctl of a network namespace, such as `net.ipv4.ip_forward`.
///
/// Only `net.` ones: all others belong to the whole machine. Written with dots; an interface name
/// with a dot in it is written with a `/` there, as sysctl(8) has it (`net.ipv4.conf.eth0/1.forwarding`).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SysctlKey(Cow<'static, str>);

/// Why a text is no sysctl of a network namespace.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SysctlKeyError {
    /// It does not begin with `net.`.
    #[error("sysctl `{0}` does not belong to a network namespace; only those that begin with `net.` do")]
    NotNet(String),
    /// An empty part, `..`, or a character that no sysctl has.
    #[error("`{0}` is no sysctl name; write it as in `net.ipv4.ip_forward`")]
    Syntax(String),
}

impl SysctlKey {
    /// `net.ipv4.ip_forward`.
    pub const IPV4_FORWARD: SysctlKey = SysctlKey(Cow::Borrowed("net.ipv4.ip_forward"));
    /// `net.ipv6.conf.all.forwarding`.
    pub const IPV6_FORWARD: SysctlKey = SysctlKey(Cow::Borrowed("net.ipv6.conf.all.forwarding"));
    /// `net.ipv4.icmp_echo_ignore_all`: no ping is answered.
    pub const IPV4_IGNORE_ECHO: SysctlKey = SysctlKey(Cow::Borrowed("net.ipv4.icmp_echo_ignore_all"));
    /// `net.ipv6.icmp.echo_ignore_all`: the same.
    pub const IPV6_IGNORE_ECHO: SysctlKey = SysctlKey(Cow::Borrowed("net.ipv6.icmp.echo_ignore_all"));
    /// `net.ipv4.route.flush`: what was learnt of single destinations is forgotten.
    pub const IPV4_FORGET: SysctlKey = SysctlKey(Cow::Borrowed("net.ipv4.route.flush"));
    /// `net.ipv6.route.flush`: the same.
    pub const IPV6_FORGET: SysctlKey = SysctlKey(Cow::Borrowed("net.ipv6.route.flush"));
    /// `net.ipv4.ip_default_ttl`.
    pub const IPV4_TTL: SysctlKey = SysctlKey(Cow::Borrowed("net.ipv4.ip_default_ttl"));

    /// `net.ipv4.conf.all.promote_secondaries`: the addresses of a subnet do not go with its first.
    pub const PROMOTE_SECONDARIES: SysctlKey = SysctlKey(Cow::Borrowed("net.ipv4.conf.all.promote_secondaries"));

    /// `net.ipv4.conf.all.NAME` or `net.ipv4.conf.default.NAME`.
    pub(crate) fn ipv4_conf(of: ConfOf, name: &str) -> SysctlKey {
        SysctlKey(Cow::Owned(format!("net.ipv4.conf.{of}.{name}")))
    }

    /// `net.bridge.bridge-nf-call-iptables` or its like of IPv6: the chains of IP see the frames of bridges.
    pub const fn bridge_nf(family: Family) -> SysctlKey {
        SysctlKey(Cow::Borrowed(match family {
            Family::Ipv4 => "net.bridge.bridge-nf-call-iptables",
            Family::Ipv6 => "net.bridge.bridge-nf-call-ip6tables",
        }))
    }

    /// `net.ipv6.conf.DEV.disable_ipv6`: an interface for which it is 1 takes no address of IPv6.
    pub fn disable_ipv6(dev: IfName) -> SysctlKey {
        SysctlKey(Cow::Owned(format!("net.ipv6.conf.{}.disable_ipv6", dev.as_str().replace('.', "/"))))
    }

    /// Does it say whether an interface takes addresses?
    pub fn is_disable_ipv6(&self) -> bool {
        self.0.ends_with(".disable_ipv6")
    }

    /// The name as sysctl(8) writes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The file below `/proc/sys/`: `net/ipv4/ip_forward`.
    pub fn path(&self) -> String {
        self.0
            .chars()
            .map(|c| match c {
                '.' => '/',
                '/' => '.',
                c => c,
            })
            .collect()
    }

    /// Does it belong to the interface of that name (`net.ipv4.conf.NAME.…`)?
    pub fn interface(&self) -> Option<String> {
        let mut parts = self.0.split('.');
        let (_net, _family, table, interface) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let per_interface = matches!(table, "conf" | "neigh") && !matches!(interface, "all" | "default");
        per_interface.then(|| interface.replace('/', "."))
    }
}

impl FromStr for SysctlKey {
    type Err = SysctlKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // sysctl(8) takes `net/ipv4/ip_forward` as well.
        let key: String = if text.starts_with("net/") {
            text.chars()
                .map(|c| match c {
                    '.' => '/',
                    '/' => '.',
                    c => c,
                })
                .collect()
        } else {
            text.to_owned()
        };
        let syntax = || SysctlKeyError::Syntax(text.to_owned());
        if !key.starts_with("net.") {
            return Err(SysctlKeyError::NotNet(text.to_owned()));
        }
        let good = |part: &str| {
            !part.is_empty()
                && !part.starts_with('/')
                && !part.contains("//")
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'/' | b'@'))
        };
        if !key.split('.').all(good) {
            return Err(syntax());
        }
        Ok(SysctlKey(Cow::Owned(key)))
    }
}

impl TryFrom<String> for SysctlKey {
    type Error = SysctlKeyError;

    fn try_from(text: String) -> Result<Self, SysctlKeyError> {
        text.parse()
    }
}

impl From<SysctlKey> for String {
    fn from(key: SysctlKey) -> String {
        key.0.into_owned()
    }
}

impl fmt::Display for SysctlKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for SysctlKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SysctlKey({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_cannot_leave_proc_sys_net() {
        for bad in [
            "kernel.panic",
            "net",
            "net..ipv4",
            "net.",
            "net.ipv4.../../kernel.panic",
            "net./etc",
            "net.ipv4.a b",
            "net/../kernel/panic",
            "net.ipv4.//",
        ] {
            assert!(
                bad.parse::<SysctlKey>().is_err(),
                "{bad:?} was accepted as {:?}",
                bad.parse::<SysctlKey>().map(|k| k.path())
            );
        }
        assert_eq!(
            "net.ipv4.conf.eth0/1.rp_filter".parse::<SysctlKey>().unwrap().path(),
            "net/ipv4/conf/eth0.1/rp_filter"
        );
        assert_eq!("net/ipv4/ip_forward".parse::<SysctlKey>().unwrap(), SysctlKey::IPV4_FORWARD);
    }

    #[test]
    fn an_interface_is_recognised() {
        let of = |key: &str| key.parse::<SysctlKey>().unwrap().interface();
        assert_eq!(of("net.ipv4.conf.eth0.rp_filter").as_deref(), Some("eth0"));
        assert_eq!(of("net.ipv6.neigh.eth0.retrans_time_ms").as_deref(), Some("eth0"));
        assert_eq!(of("net.ipv4.conf.all.rp_filter"), None);
        assert_eq!(of("net.ipv4.ip_forward"), None);
    }
}
