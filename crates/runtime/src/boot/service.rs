//! Names of services.

use std::fmt;
use std::str::FromStr;

use super::BootError;

/// The name of a service as systemd.unit(5) allows it, with its suffix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceName(String);

/// What [`ServiceName`]s end with.
const SUFFIX: &str = ".service";
/// Units of other kinds.
const OTHERS: [&str; 9] = [".socket", ".target", ".timer", ".path", ".mount", ".slice", ".scope", ".device", ".swap"];
/// `UNIT_NAME_MAX` of systemd, with the byte at the end.
const MAX_LEN: usize = 255;

impl ServiceName {
    /// The name as text, with its suffix.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ServiceName {
    type Err = BootError;

    fn from_str(given: &str) -> Result<Self, BootError> {
        let bad = |why| Err(BootError::BadService { name: given.to_owned(), why });
        // As systemctl(1) does; other kinds of units are named with their suffix.
        if OTHERS.iter().any(|other| given.ends_with(other)) {
            return bad("it is a unit of another kind");
        }
        let stem = given.strip_suffix(SUFFIX).unwrap_or(given);
        let is_good = |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '-' | '_' | '.' | '\\' | '@');
        if !stem.chars().all(is_good) {
            return bad("allowed are ASCII letters and digits and `: - _ . \\ @`");
        }
        if stem.is_empty() || stem.starts_with(['@', '.']) {
            return bad("something must stand before the dot, or the `@`");
        }
        if stem.starts_with(super::unit::PREFIX) {
            return bad("it is a lab's own");
        }
        if stem.len() + SUFFIX.len() > MAX_LEN {
            return bad("it is too long");
        }
        Ok(ServiceName(format!("{stem}{SUFFIX}")))
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_systemd_allows() {
        for (given, name) in [
            ("nginx", "nginx.service"),
            ("nginx.service", "nginx.service"),
            ("getty@tty1", "getty@tty1.service"),
            ("a@.service", "a@.service"),
            (r"dev-\x2d", r"dev-\x2d.service"),
        ] {
            assert_eq!(given.parse::<ServiceName>().unwrap().as_str(), name);
        }
        let long = "x".repeat(250);
        for bad in
            ["", ".service", "@x", "../x", "a/b", "a b", "a\n", "ssh.socket", "hopyard-three", "%i", "$x", &long, "é"]
        {
            assert!(bad.parse::<ServiceName>().is_err(), "{bad:?} was accepted");
        }
    }
}
