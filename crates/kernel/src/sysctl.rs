//! Sysctls of the network namespace that the calling thread is in.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write};

use hopyard_net::SysctlKey;

use crate::Errno;

/// The value of a sysctl: one line, its parts separated by single spaces (the kernel puts tabs
/// between them, sysctl(8) and people put spaces). `None`: there is no such sysctl here.
pub(crate) fn read(key: &SysctlKey) -> io::Result<Option<String>> {
    match fs::read_to_string(path(key)) {
        Ok(text) => Ok(Some(text.split_ascii_whitespace().collect::<Vec<_>>().join(" "))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Sets a sysctl. The kernel takes a value in one write, as sysctl(8) makes it: with its newline.
pub(crate) fn write(key: &SysctlKey, value: &str) -> Result<(), Errno> {
    let mut file = fs::OpenOptions::new().write(true).open(path(key))?;
    let line = format!("{value}\n");
    match file.write(line.as_bytes()) {
        Ok(length) if length == line.len() => Ok(()),
        Ok(_) => Err(Errno::from_raw(libc::EINVAL)),
        Err(error) => Err(error.into()),
    }
}

fn path(key: &SysctlKey) -> String {
    // Below `/proc/sys/net` the kernel shows each thread the tables of its own namespace.
    format!("/proc/sys/{}", key.path())
}

/// What new namespaces have before anybody writes: all the same, so that it is read once, and what
/// would change nothing is not written. A write costs 0.1 ms, which is a tenth of a node.
#[derive(Default)]
pub(crate) struct FreshValues(HashMap<SysctlKey, Option<String>>);

impl FreshValues {
    /// Does a namespace that is as new have this value already? Asked in such a namespace.
    pub(crate) fn has(&mut self, key: &SysctlKey, value: &str) -> bool {
        if !self.0.contains_key(key) {
            // What cannot be read is written, and that tells what is wrong.
            self.0.insert(key.clone(), read(key).ok().flatten());
        }
        matches!(self.0.get(key), Some(Some(fresh)) if fresh == value)
    }
}
