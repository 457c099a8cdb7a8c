//! The sysctls of an interface, as far as somebody has set them: the kernel gives it those of every new one when it moves.

use std::fs;
use std::os::fd::BorrowedFd;

use hopyard_net::{IfName, SysctlKey};

use crate::inside::go_home;
use crate::sysctl::SysctlFiles;
use crate::{Errno, KernelError, Realm, namespace};

/// One that is not as a new interface has it, without the interface's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    table: String,
    name: String,
    value: String,
}

const TABLES: [&str; 4] = ["ipv6/conf", "ipv4/conf", "ipv4/neigh", "ipv6/neigh"];

/// Those that nobody sets: of IPv6 the MTU follows the interface's own, and the second of two that say the same is rounded.
const NOT_SET: [&str; 4] = ["mtu", "mc_forwarding", "retrans_time", "base_reachable_time"];

impl Setting {
    fn key(&self, dev: &str) -> Option<SysctlKey> {
        format!("net/{}/{dev}/{}", self.table, self.name).parse().ok()
    }

    /// For a file.
    pub(super) fn line(&self) -> String {
        format!("{} {} {}", self.table, self.name, self.value)
    }

    pub(super) fn from_line(line: &str) -> Option<Self> {
        let mut words = line.splitn(3, ' ').map(str::to_owned);
        Some(Setting { table: words.next()?, name: words.next()?, value: words.next()? })
    }

    /// As sysctl(8) names it.
    pub(super) fn text(&self, dev: IfName) -> String {
        self.key(dev.as_str()).map_or_else(|| self.name.clone(), |key| key.as_str().to_owned())
    }
}

/// What an interface has that a new one in its namespace would not have.
pub(super) fn read(of: BorrowedFd<'_>, dev: IfName) -> Result<Vec<Setting>, KernelError> {
    let read = || {
        let mut found = Vec::new();
        let files = SysctlFiles::new(None, 0);
        for table in TABLES {
            // Where there is no IPv6, there is no such directory.
            let Ok(entries) = fs::read_dir(format!("/proc/sys/net/{table}/{dev}")) else { continue };
            let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
            for name in names.filter(|name| !NOT_SET.contains(&name.as_str())) {
                let mut setting = Setting { table: table.to_owned(), name, value: String::new() };
                // Some cannot be read until they are set.
                let value = |dev: &str| files.read(&setting.key(dev)?).ok().flatten();
                if let Some(own) = value(dev.as_str())
                    && Some(&own) != value("default").as_ref()
                {
                    setting.value = own;
                    found.push(setting);
                }
            }
        }
        // Without IPv6 it has no addresses.
        found.sort_by_key(|setting| (setting.name != "disable_ipv6", setting.line()));
        found
    };
    within(of, format!("read the sysctls of {dev}"), read)
}

/// Sets them; returns those that cannot be had.
pub(super) fn set(of: BorrowedFd<'_>, dev: IfName, settings: &[Setting]) -> Result<Vec<(Setting, Errno)>, KernelError> {
    if settings.is_empty() {
        return Ok(Vec::new());
    }
    let set = || {
        let files = SysctlFiles::new(None, 0);
        let mut refused = Vec::new();
        for setting in settings {
            let Some(key) = setting.key(dev.as_str()) else { continue };
            let is_so = files.read(&key).ok().flatten().is_some_and(|now| now == setting.value);
            if !is_so && let Err(errno) = files.write(&key, &setting.value) {
                refused.push((setting.clone(), errno));
            }
        }
        refused
    };
    within(of, format!("set the sysctls of {dev}"), set)
}

fn within<R: Send>(of: BorrowedFd<'_>, doing: String, work: impl FnOnce() -> R + Send) -> Result<R, KernelError> {
    let enter = || {
        let done = namespace::enter(of).map(|()| work());
        go_home();
        done
    };
    let done = Realm::host().run(enter).and_then(|done| done);
    done.map_err(|error| KernelError::new(doing, error))
}
