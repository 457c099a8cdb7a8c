//! A system call that failed, and what it was for.

use std::borrow::Cow;
use std::fmt;
use std::io;

use thiserror::Error;

use crate::Errno;

/// Something that could not be done outside of netlink: a process, a mount, a file.
///
/// Displays as `cannot mount an overlay on /etc: Invalid argument (EINVAL)`.
#[derive(Debug, Error)]
pub struct Failure {
    /// What was tried, in words that fit behind "cannot".
    pub doing: Cow<'static, str>,
    /// What the kernel answered.
    pub cause: io::Error,
}

impl Failure {
    /// The error number, where the kernel gave one.
    pub fn errno(&self) -> Option<Errno> {
        self.cause.raw_os_error().map(Errno::from_raw)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}: ", self.doing)?;
        match self.errno() {
            Some(errno) => write!(f, "{errno}"),
            None => write!(f, "{}", self.cause),
        }
    }
}

/// Says what a fallible call was for.
pub(crate) trait Doing<T> {
    fn doing(self, what: impl Into<Cow<'static, str>>) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, what: impl Into<Cow<'static, str>>) -> Result<T, Failure> {
        self.map_err(|error| Failure { doing: what.into(), cause: error.into() })
    }
}
