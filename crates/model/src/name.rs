//! The name of a lab.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The name of a lab: an ASCII letter or digit, then letters, digits, `_` and `-`; at most 40 bytes.
///
/// No dot, so that the lab and the node can be told apart in `LAB.NODE`, which is what `ip netns`
/// shows; and short, so that the path of its control socket fits in the 108 bytes of unix(7).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LabName(String);

/// Why a text is no lab name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LabNameError {
    /// Nothing was given.
    #[error("the name of a lab cannot be empty")]
    Empty,
    /// Too long.
    #[error("lab name `{0}` is {n} bytes; at most {max} are allowed", n = .0.len(), max = LabName::MAX_LEN)]
    TooLong(String),
    /// A character outside `A-Z a-z 0-9 _ -`, or one of the last two at the start.
    #[error("lab name `{name}` contains {found:?}{place}; allowed are ASCII letters and digits, and after the first also `_` and `-`", place = if *.start { " at its start" } else { "" })]
    BadCharacter {
        /// The name that was given.
        name: String,
        /// The first character at fault.
        found: char,
        /// Is it the first?
        start: bool,
    },
}

impl LabName {
    /// The longest name in bytes.
    pub const MAX_LEN: usize = 40;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for LabName {
    type Err = LabNameError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        if name.is_empty() {
            return Err(LabNameError::Empty);
        }
        let bad = |(at, c): &(usize, char)| !(c.is_ascii_alphanumeric() || (*at > 0 && matches!(c, '_' | '-')));
        if let Some((at, found)) = name.char_indices().find(bad) {
            return Err(LabNameError::BadCharacter { name: name.to_owned(), found, start: at == 0 });
        }
        if name.len() > Self::MAX_LEN {
            return Err(LabNameError::TooLong(name.to_owned()));
        }
        Ok(LabName(name.to_owned()))
    }
}

impl TryFrom<String> for LabName {
    type Error = LabNameError;

    fn try_from(name: String) -> Result<Self, LabNameError> {
        name.parse()
    }
}

impl From<LabName> for String {
    fn from(name: LabName) -> String {
        name.0
    }
}

impl fmt::Display for LabName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The FNV-1a hash, 64 bits: the same on every machine and in every version, which the standard
/// library does not promise of its own.
pub fn stable_hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_lab_names_are_refused() {
        for bad in ["", "..", "../x", "a.b", "a/b", "-a", "_a", "a b", "é"] {
            assert!(bad.parse::<LabName>().is_err(), "{bad:?} was accepted");
        }
        assert!("x".repeat(41).parse::<LabName>().is_err());
        for good in ["a", "three", "chain-1000", "grid_3x3", "1"] {
            assert!(good.parse::<LabName>().is_ok(), "{good:?} was refused");
        }
    }
}
