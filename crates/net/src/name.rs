//! The names that the kernel and `ip netns` accept, right by construction.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The name of a network interface, as the kernel's `dev_valid_name()` accepts it:
/// 1 to 15 bytes, no `/`, no `:`, no white space, not `.` and not `..`.
///
/// `%` is refused too: in a request the kernel takes `%d` as "choose a number".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IfName {
    // Zero-padded, so that the derived order is the order of the names.
    bytes: [u8; IfName::MAX_LEN],
}

/// Why a text is no interface name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum IfNameError {
    /// Nothing was given.
    #[error("an interface name cannot be empty")]
    Empty,
    /// More bytes than fit in the kernel's `IFNAMSIZ`.
    #[error("interface name `{name}` is {} bytes; the kernel allows {}", name.len(), IfName::MAX_LEN)]
    TooLong {
        /// The name that was given.
        name: String,
    },
    /// A character that the kernel refuses.
    #[error("interface name `{name}` contains {found:?}, which the kernel does not allow")]
    BadCharacter {
        /// The name that was given.
        name: String,
        /// The first character at fault.
        found: char,
    },
    /// `.` or `..`, which sysfs could not show as a directory.
    #[error("`{name}` cannot be the name of an interface")]
    Dots {
        /// The name that was given.
        name: String,
    },
}

impl IfName {
    /// The longest name in bytes (`IFNAMSIZ` less the terminating zero).
    pub const MAX_LEN: usize = 15;

    /// The loopback interface, which every namespace has.
    pub const LO: IfName = {
        let mut bytes = [0; IfName::MAX_LEN];
        bytes[0] = b'l';
        bytes[1] = b'o';
        IfName { bytes }
    };

    /// The name as text.
    pub fn as_str(&self) -> &str {
        let len = self.bytes.iter().position(|&b| b == 0).unwrap_or(Self::MAX_LEN);
        // Only `from_str` makes one, and it copies whole UTF-8 text.
        std::str::from_utf8(&self.bytes[..len]).unwrap_or_default()
    }
}

impl FromStr for IfName {
    type Err = IfNameError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        if name.is_empty() {
            return Err(IfNameError::Empty);
        }
        check_if_name_characters(name)?;
        if name.len() > Self::MAX_LEN {
            return Err(IfNameError::TooLong { name: name.to_owned() });
        }
        let mut bytes = [0; Self::MAX_LEN];
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        Ok(IfName { bytes })
    }
}

/// The checks that short names and alternative names share.
pub(crate) fn check_if_name_characters(name: &str) -> Result<(), IfNameError> {
    if name == "." || name == ".." {
        return Err(IfNameError::Dots { name: name.to_owned() });
    }
    match name.chars().find(|&c| matches!(c, '/' | ':' | '%') || c.is_whitespace() || c.is_control()) {
        Some(found) => Err(IfNameError::BadCharacter { name: name.to_owned(), found }),
        None => Ok(()),
    }
}

impl fmt::Display for IfName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for IfName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IfName({})", self.as_str())
    }
}

impl Serialize for IfName {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for IfName {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The name of a network namespace: what a lab calls a node.
///
/// Stricter than `ip netns`, which takes spaces, newlines and `--`: an ASCII letter or digit,
/// then letters, digits, `_`, `.` and `-`; at most 200 bytes, so that `LAB.NODE` is a file name;
/// not only digits, which `ip netns` takes for a process id.
///
/// Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NsName(Arc<str>);

/// Why a text is no namespace name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NsNameError {
    /// Nothing was given.
    #[error("a name cannot be empty")]
    Empty,
    /// Too long for a file name.
    #[error("name `{name}` is {} bytes; at most {} are allowed", name.len(), NsName::MAX_LEN)]
    TooLong {
        /// The name that was given.
        name: String,
    },
    /// A character outside `A-Z a-z 0-9 _ . -`.
    #[error("name `{name}` contains {found:?}; allowed are ASCII letters, digits, `_`, `.` and `-`")]
    BadCharacter {
        /// The name that was given.
        name: String,
        /// The first character at fault.
        found: char,
    },
    /// Begins with `_`, `.` or `-`.
    #[error("name `{name}` begins with {found:?}; it must begin with an ASCII letter or digit")]
    BadStart {
        /// The name that was given.
        name: String,
        /// The first character.
        found: char,
    },
    /// An IP address.
    #[error("name `{name}` is an IP address, and would be taken for one")]
    Address {
        /// The name that was given.
        name: String,
    },
    /// Only digits.
    #[error("name `{name}` is only digits, which `ip netns` takes for a process id; add a letter")]
    OnlyDigits {
        /// The name that was given.
        name: String,
    },
}

impl NsName {
    /// The longest name in bytes.
    pub const MAX_LEN: usize = 200;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NsName {
    type Err = NsNameError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        let Some(first) = name.chars().next() else {
            return Err(NsNameError::Empty);
        };
        if let Some(found) = name.chars().find(|&c| !allowed(c)) {
            return Err(NsNameError::BadCharacter { name: name.to_owned(), found });
        }
        if !first.is_ascii_alphanumeric() {
            return Err(NsNameError::BadStart { name: name.to_owned(), found: first });
        }
        if name.len() > Self::MAX_LEN {
            return Err(NsNameError::TooLong { name: name.to_owned() });
        }
        if name.bytes().all(|b| b.is_ascii_digit()) {
            return Err(NsNameError::OnlyDigits { name: name.to_owned() });
        }
        // inet_aton(3) takes `127.1` for an address too.
        if name.split('.').all(|part| part.parse::<u32>().is_ok()) {
            return Err(NsNameError::Address { name: name.to_owned() });
        }
        Ok(NsName(name.into()))
    }
}

impl fmt::Display for NsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for NsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NsName({})", self.0)
    }
}

impl std::borrow::Borrow<str> for NsName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Serialize for NsName {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for NsName {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_names_are_what_the_kernel_takes() {
        for good in ["lo", "eth0", "a", "123456789012345", "wg-0.1", "é"] {
            assert_eq!(good.parse::<IfName>().unwrap().as_str(), good);
        }
        for bad in ["", ".", "..", "a/b", "a:b", "a b", "a\tb", "eth%d", "a\u{0}b", "1234567890123456"] {
            assert!(bad.parse::<IfName>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn a_long_interface_name_is_counted() {
        let error = "backbone-router-1".parse::<IfName>().unwrap_err();
        assert_eq!(error.to_string(), "interface name `backbone-router-1` is 17 bytes; the kernel allows 15");
    }

    #[test]
    fn interface_names_order_as_text() {
        let mut names: Vec<IfName> = ["eth10", "eth1", "lo", "eth2"].map(|n| n.parse().unwrap()).into();
        names.sort();
        assert_eq!(names.map_str(), ["eth1", "eth10", "eth2", "lo"]);
    }

    trait MapStr {
        fn map_str(&self) -> Vec<&str>;
    }
    impl MapStr for Vec<IfName> {
        fn map_str(&self) -> Vec<&str> {
            self.iter().map(IfName::as_str).collect()
        }
    }

    #[test]
    fn hostile_namespace_names_are_refused() {
        for bad in
            ["", "../../etc", "a/b", "-n", ".hidden", "a b", "a\nb", "$(id)", "123", "--", "é", "10.0.0.1", "127.1"]
        {
            assert!(bad.parse::<NsName>().is_err(), "{bad:?} was accepted");
        }
        for good in ["a", "r1", "1a", "pod-3.edge_2"] {
            assert!(good.parse::<NsName>().is_ok(), "{good:?} was refused");
        }
        assert!("x".repeat(200).parse::<NsName>().is_ok());
        assert!("x".repeat(201).parse::<NsName>().is_err());
    }
}
