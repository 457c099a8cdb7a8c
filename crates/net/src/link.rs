//! Interfaces: kinds, hardware addresses, sizes.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::name::check_if_name_characters;
use crate::{Endpoint, IfName, IfNameError};

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddr([u8; 6]);

/// Why a text is no usable Ethernet address.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MacAddrError {
    /// Not six hexadecimal bytes.
    #[error("`{text}` is no Ethernet address; write six bytes as in `02:00:00:00:00:01`")]
    Syntax {
        /// What was given.
        text: String,
    },
    /// The group bit is set.
    #[error("`{text}` is a multicast address; an interface needs a unicast one (an even first byte)")]
    Multicast {
        /// What was given.
        text: String,
    },
    /// All zero.
    #[error("`{text}` is all zero, which no interface can have")]
    Zero {
        /// What was given.
        text: String,
    },
}

impl MacAddr {
    /// An address from its bytes, unchecked: for what the kernel reports.
    pub const fn from_bytes(bytes: [u8; 6]) -> Self {
        MacAddr(bytes)
    }

    /// The bytes in transmission order.
    pub const fn bytes(self) -> [u8; 6] {
        self.0
    }
}

impl FromStr for MacAddr {
    type Err = MacAddrError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let syntax = || MacAddrError::Syntax { text: text.to_owned() };
        let mut bytes = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts.next().ok_or_else(syntax)?;
            if part.len() != 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(syntax());
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| syntax())?;
        }
        if parts.next().is_some() {
            return Err(syntax());
        }
        if bytes[0] & 1 == 1 {
            return Err(MacAddrError::Multicast { text: text.to_owned() });
        }
        if bytes == [0; 6] {
            return Err(MacAddrError::Zero { text: text.to_owned() });
        }
        Ok(MacAddr(bytes))
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MacAddr({self})")
    }
}

impl Serialize for MacAddr {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MacAddr {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The largest packet an interface carries, in bytes: 68 (RFC 791) to 65535, as a veth pair has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Mtu(u32);

/// An MTU that a veth pair cannot have.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("an MTU of {0} bytes is out of range; the kernel allows 68 to 65535 on such a link")]
pub struct MtuError(pub u32);

impl Mtu {
    /// What an interface has when nothing else is said.
    pub const DEFAULT: Mtu = Mtu(1500);
    /// The least at which IPv6 works on a link (RFC 8200, section 5).
    pub const IPV6_MIN: Mtu = Mtu(1280);

    /// Bytes.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for Mtu {
    type Error = MtuError;

    fn try_from(bytes: u32) -> Result<Self, MtuError> {
        if (68..=65535).contains(&bytes) { Ok(Mtu(bytes)) } else { Err(MtuError(bytes)) }
    }
}

impl From<Mtu> for u32 {
    fn from(mtu: Mtu) -> u32 {
        mtu.0
    }
}

impl fmt::Display for Mtu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A second, longer name of an interface (`ip link property add altname`): up to 127 bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AltName(String);

impl AltName {
    /// The longest alternative name in bytes (`ALTIFNAMSIZ` less the terminating zero).
    pub const MAX_LEN: usize = 127;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AltName {
    type Err = IfNameError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        if name.is_empty() {
            return Err(IfNameError::Empty);
        }
        check_if_name_characters(name)?;
        if name.len() > Self::MAX_LEN {
            return Err(IfNameError::TooLong { name: name.to_owned() });
        }
        Ok(AltName(name.to_owned()))
    }
}

impl TryFrom<String> for AltName {
    type Error = IfNameError;

    fn try_from(name: String) -> Result<Self, IfNameError> {
        name.parse()
    }
}

impl From<AltName> for String {
    fn from(name: AltName) -> String {
        name.0
    }
}

impl fmt::Display for AltName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// What an interface is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkKind {
    /// `lo`: the kernel makes it with the namespace.
    Loopback,
    /// One end of a virtual Ethernet cable.
    Veth {
        /// The other end; `None` when it is in a namespace outside the state.
        peer: Option<Endpoint>,
    },
    /// A software switch.
    Bridge,
    /// An interface of the machine that the namespace was lent. What it is matters to nobody here.
    Lent,
    /// Anything else that was found, by the kernel's name for it; never wanted.
    Other(String),
}

/// An interface and what is set on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// What it is.
    pub kind: LinkKind,
    /// Longer names.
    pub alt_names: BTreeSet<AltName>,
    /// Its Ethernet address; `None` where the kernel's own choice stands (`lo`, a bridge).
    pub mac: Option<MacAddr>,
    /// Its MTU; `None` where the kernel's own choice stands (`lo`).
    pub mtu: Option<Mtu>,
    /// The bridge that it is a port of.
    pub master: Option<IfName>,
    /// Administratively up.
    pub up: bool,
    /// Addresses with their prefix lengths. Not those that the kernel makes by itself
    /// (`127.0.0.1`, `::1`, `fe80::/64`).
    pub addresses: BTreeSet<IpNet>,
}

impl Link {
    /// Has it an address of IPv6?
    pub fn has_ipv6(&self) -> bool {
        self.addresses.iter().any(|net| net.addr().is_ipv6())
    }

    /// An interface of a kind, down and with nothing set.
    pub fn new(kind: LinkKind) -> Self {
        Link {
            kind,
            alt_names: BTreeSet::new(),
            mac: None,
            mtu: None,
            master: None,
            up: false,
            addresses: BTreeSet::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_address_reads_as_it_prints() {
        let mac: MacAddr = "02:00:5E:10:00:fF".parse().unwrap();
        assert_eq!(mac.to_string(), "02:00:5e:10:00:ff");
        for bad in [
            "",
            "02:00:00:00:00",
            "02:00:00:00:00:00:00",
            "01:00:00:00:00:01",
            "00:00:00:00:00:00",
            "2:0:0:0:0:1",
            "02:00:00:00:00:+1",
        ] {
            assert!(bad.parse::<MacAddr>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn an_mtu_has_bounds() {
        assert_eq!(
            Mtu::try_from(67).unwrap_err().to_string(),
            "an MTU of 67 bytes is out of range; the kernel allows 68 to 65535 on such a link"
        );
        assert!(Mtu::try_from(68).is_ok());
        assert!(Mtu::try_from(65535).is_ok());
        assert!(Mtu::try_from(65536).is_err());
    }
}
