//! Names of services, and of the sockets that start them.

use std::fmt;
use std::str::FromStr;

use super::BootError;

/// The name of a service as systemd.unit(5) allows it, with its suffix; or of a socket (systemd.socket(5)), by which systemd
/// listens for a service, where that socket is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceName(String);

/// What [`ServiceName`]s end with.
const SUFFIX: &str = ".service";
const SOCKET: &str = ".socket";
/// Units of other kinds.
const OTHERS: [&str; 8] = [".target", ".timer", ".path", ".mount", ".slice", ".scope", ".device", ".swap"];
/// `UNIT_NAME_MAX` of systemd, with the byte at the end.
const MAX_LEN: usize = 255;

impl ServiceName {
    /// The name as text, with its suffix.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Is it that of a socket?
    pub fn is_socket(&self) -> bool {
        self.0.ends_with(SOCKET)
    }

    /// The socket that by its name starts the instances of a template; `None`: it is no template.
    pub(super) fn socket_of_template(&self) -> Option<Self> {
        Some(ServiceName(format!("{}{SOCKET}", self.0.strip_suffix(SUFFIX)?.strip_suffix('@')?)))
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
        let (stem, suffix) = match given.strip_suffix(SOCKET) {
            Some(stem) => (stem, SOCKET),
            None => (given.strip_suffix(SUFFIX).unwrap_or(given), SUFFIX),
        };
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
        if stem.len() + suffix.len() > MAX_LEN {
            return bad("it is too long");
        }
        Ok(ServiceName(format!("{stem}{suffix}")))
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
            ("ssh.socket", "ssh.socket"),
        ] {
            assert_eq!(given.parse::<ServiceName>().unwrap().as_str(), name);
        }
        let socket = |name: &str| name.parse::<ServiceName>().unwrap().socket_of_template();
        assert_eq!(socket("ssh@"), "ssh.socket".parse().ok());
        assert_eq!((socket("ssh"), socket("ssh@x")), (None, None));
        let long = "x".repeat(250);
        for bad in [
            "",
            ".service",
            "@x",
            "../x",
            "a/b",
            "a b",
            "a\n",
            "ssh.timer",
            ".socket",
            "hopyard-three",
            "%i",
            "$x",
            &long,
            "é",
        ] {
            assert!(bad.parse::<ServiceName>().is_err(), "{bad:?} was accepted");
        }
    }
}
