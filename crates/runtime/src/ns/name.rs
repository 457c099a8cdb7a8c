//! The name of an entry of the directory.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::os::unix::ffi::OsStrExt;

use hopyard_net::NsName;

use super::NsError;
use crate::error::Error;

/// A name that `ip netns` would take, hence one that may be found in the directory, and nothing that leads
/// out of it. New names are held to more: see [`NsName`].
///
/// Displays on one line, whatever is in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryName(OsString);

/// The longest name of a file (`NAME_MAX`).
const MAX_LEN: usize = 255;

impl EntryName {
    /// Checks a name.
    ///
    /// # Errors
    /// [`NsError::BadName`].
    pub fn new(name: impl AsRef<OsStr>) -> Result<Self, Error> {
        let name = name.as_ref();
        let bytes = name.as_bytes();
        let why = if bytes.is_empty() {
            "a name cannot be empty"
        } else if bytes.contains(&b'/') {
            "a name cannot contain `/`"
        } else if matches!(bytes, b"." | b"..") {
            "that is a directory"
        } else if bytes.contains(&0) {
            "a name cannot contain a zero byte"
        } else if bytes.len() > MAX_LEN {
            "it is longer than a file name can be, which is 255 bytes"
        } else {
            return Ok(EntryName(name.to_owned()));
        };
        Err(NsError::BadName { name: name.to_string_lossy().into_owned(), why }.into())
    }

    /// As a file name.
    pub fn as_os_str(&self) -> &OsStr {
        &self.0
    }

    /// Is it one that is about to be given, by [`add`](super::add), or was taken away?
    pub(super) fn is_temporary(&self) -> bool {
        self.0.as_bytes().starts_with(TEMPORARY.as_bytes())
    }
}

/// What names begin with that are about to be given, or were taken away.
const TEMPORARY: &str = ".hop-";

/// A name for what has none yet, or none any more. `ip netns` shows it for the microseconds for which it is there.
pub(super) fn temporary() -> OsString {
    format!("{TEMPORARY}{:016x}", RandomState::new().build_hasher().finish()).into()
}

impl From<&NsName> for EntryName {
    fn from(name: &NsName) -> Self {
        EntryName(name.as_str().into())
    }
}

impl fmt::Display for EntryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string_lossy();
        if !text.contains(char::is_control) {
            return f.pad(&text);
        }
        let escape = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
        f.pad(&text.chars().map(escape).collect::<String>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leads_out_of_the_directory() {
        for bad in ["", ".", "..", "a/b", "../../proc/1/ns/net", "/etc/passwd", "a\0b", &"x".repeat(256)] {
            assert!(EntryName::new(bad).is_err(), "{bad:?} was accepted");
        }
        for good in ["a", "a b", "123", "--", "$(id)", "...", &"x".repeat(255)] {
            assert!(EntryName::new(good).is_ok(), "{good:?} was refused");
        }
    }

    #[test]
    fn a_name_is_shown_on_one_line() {
        assert_eq!(EntryName::new("a\nb\u{1b}[1m").unwrap().to_string(), "a\\nb\\u{1b}[1m");
        assert_eq!(format!("{:4}|", EntryName::new("ab").unwrap()), "ab  |");
    }
}
