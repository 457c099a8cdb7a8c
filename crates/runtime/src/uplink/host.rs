//! What a host must be told to forward packets of labs, and that it is as before when none needs it.
//!
//! All labs that have a way out to one network share a file, which has the values from before and who needs
//! the new ones. Whoever looks at it last sets them back: the end of a lab, or, after a `kill -9`, any command.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use hopyard_kernel::{Process, Realm, Trace, World, look_inside, own_cookie, rights};
use hopyard_net::{Family, NsName, Op, SysctlKey};
use serde::{Deserialize, Serialize};

use super::UplinkError;
use crate::error::{Error, IoContext};
use crate::home::{Home, remove_file};
use crate::record::KeeperId;
use crate::whole_file::WholeFile;

/// What is on record.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Shared {
    /// Sysctls as they were, each as it was found first; what is missing here was never changed.
    before: Vec<(SysctlKey, String)>,
    /// The keepers of the labs that need it.
    users: Vec<KeeperId>,
    /// By what it is known whether the network is still there.
    #[serde(default)]
    trace: Vec<u8>,
}

impl Shared {
    fn has(&self, key: &SysctlKey) -> bool {
        self.before.iter().any(|(it, _)| it == key)
    }
}

/// Where the files are, whatever the directory of records: a host is one for all of them. Only where
/// nothing can be written there, as in a container of a user, they are among the records.
const DIR: &str = "/run";
const PREFIX: &str = "hopyard-uplink-";
const AMONG_RECORDS: &str = ".uplink-";

/// The network namespace that a lab's keeper is in: that of the host.
pub(crate) fn of_keeper(keeper: &Process) -> io::Result<OwnedFd> {
    File::open(format!("/proc/{}/ns/net", keeper.pid())).map(OwnedFd::from)
}

/// The network namespace of this process.
pub(crate) fn own() -> io::Result<OwnedFd> {
    File::open("/proc/self/ns/net").map(OwnedFd::from)
}

/// Lets a host forward, for a lab: IPv4, and by the interfaces whose switches are `through`, IPv6.
pub(crate) fn acquire(home: &Home, host: &OwnedFd, keeper: &Process, through: &[SysctlKey]) -> Result<(), Error> {
    forget_ended(home);
    let Some(path) = file_of(home, host, true)? else { return Ok(()) };
    let Some(file) = Locked::open(&path, true)? else { return Ok(()) };
    let mut shared = file.read()?.unwrap_or_default();
    shared.trace = Trace::of(host.as_fd()).map(|trace| trace.to_bytes()).unwrap_or_default();
    shared.users.retain(|user| lives(*user));
    let ipv4 = Family::Ipv4.forwarding_key();
    if !shared.has(&ipv4) {
        shared.before.extend(settings(host)?);
    }
    let off = read(host, through)?.into_iter().filter(|(_, value)| value == "0");
    let off: Vec<(SysctlKey, String)> = off.collect();
    shared.before.extend(off.iter().filter(|(key, _)| !shared.has(key)).cloned().collect::<Vec<_>>());
    let own = KeeperId::of(keeper);
    if !shared.users.contains(&own) {
        shared.users.push(own);
    }
    // First: whatever happens from here on, somebody sets it back.
    file.write(&shared)?;
    let on = shared.has(&ipv4).then_some(ipv4).into_iter().chain(off.into_iter().map(|(key, _)| key));
    set(host, &on.map(|key| (key, "1".to_owned())).collect::<Vec<_>>())
}

/// Is anything on record of any network?
pub(super) fn is_any_on_record(home: &Home) -> bool {
    records(home).next().is_some()
}

/// The records of all networks.
fn records(home: &Home) -> impl Iterator<Item = PathBuf> {
    let in_run = std::fs::read_dir(DIR).into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path());
    let among_records = home.notes(AMONG_RECORDS).unwrap_or_default();
    in_run.chain(among_records).filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_ours = name.starts_with(PREFIX) || name.starts_with(AMONG_RECORDS);
        is_ours && !name.ends_with(LOCK) && !name.ends_with(NEW)
    })
}

/// Removes the records of networks that have ended, as far as the kernel tells (since Linux 6.18), and their labs with
/// them. There is nothing to be set back, and who comes next does not look at them.
fn forget_ended(home: &Home) {
    for path in records(home) {
        // One that cannot be read is told of by whoever needs it.
        let Ok(Some(file)) = Locked::open(&path, false) else { continue };
        let Ok(Some(shared)) = file.read() else { continue };
        let has_ended = Trace::from_bytes(&shared.trace).and_then(|trace| trace.has_ended());
        if has_ended == Some(true) && !shared.users.iter().any(|user| lives(*user)) {
            file.remove().ok();
        }
    }
}

/// A lab needs it no more.
pub(crate) fn release(home: &Home, host: &OwnedFd, keeper: &Process) -> Result<(), Error> {
    let own = KeeperId::of(keeper);
    settle(file_of(home, host, false)?, || host.try_clone(), |user| user != own)
}

/// Sets back what labs that are no more have left.
pub(crate) fn heal(home: &Home, host: &OwnedFd) -> Result<(), Error> {
    forget_ended(home);
    settle(file_of(home, host, false)?, || host.try_clone(), |_| true)
}

/// The same in the network of this process. Every command begins with it: where there is nothing to be done, it has
/// looked at one file.
pub(super) fn heal_own(home: &Home) -> Result<(), Error> {
    let file = own_cookie().map(|cookie| path_of(home, cookie, false)).transpose()?.flatten();
    settle(file, own, |_| true)
}

fn settle(
    file: Option<PathBuf>,
    host: impl FnOnce() -> io::Result<OwnedFd>,
    stays: impl Fn(KeeperId) -> bool,
) -> Result<(), Error> {
    let Some(path) = file else { return Ok(()) };
    let Some(file) = Locked::open(&path, false)? else { return Ok(()) };
    let Some(mut shared) = file.read()? else { return file.remove() };
    let known = shared.users.len();
    shared.users.retain(|user| stays(*user));
    if shared.users.iter().any(|user| lives(*user)) {
        // Those that are dead may stay on record: nothing is to be written where the disk is full.
        return if shared.users.len() < known { file.write(&shared) } else { Ok(()) };
    }
    set(&host().context(|| "open the host's network namespace".to_owned())?, &shared.before)?;
    file.remove()
}

/// Is the keeper still there? Its user is its lab, until it has ended.
fn lives(user: KeeperId) -> bool {
    user.find_alive().is_ok_and(|process| process.is_some())
}

/// The file of a network; `None`: this kernel does not tell networks apart.
fn file_of(home: &Home, host: &OwnedFd, make: bool) -> Result<Option<PathBuf>, Error> {
    let doing = || "look at the host's network".to_owned();
    let mut inside = look_inside(&[host.as_fd()]).context(doing)?;
    let cookie = match inside.pop() {
        Some(inside) => inside?.cookie,
        None => None,
    };
    cookie.map_or(Ok(None), |cookie| path_of(home, cookie, make))
}

fn path_of(home: &Home, cookie: u64, make: bool) -> Result<Option<PathBuf>, Error> {
    if rights::may_write(Path::new(DIR)) {
        return Ok(Some(Path::new(DIR).join(format!("{PREFIX}{cookie}.json"))));
    }
    let name = format!("{AMONG_RECORDS}{cookie}");
    if make {
        home.note(&name).map(Some)
    } else {
        // Its lock may be all that is left of it.
        Ok(home.notes(&name)?.first().map(|path| path.with_file_name(&name)))
    }
}

/// All that switching forwarding of IPv4 on changes (`inet_forward_change()` of Linux), as it is; nothing where the
/// host forwards.
fn settings(host: &OwnedFd) -> Result<Vec<(SysctlKey, String)>, Error> {
    let forwarding = Family::Ipv4.forwarding_key();
    if read(host, std::slice::from_ref(&forwarding))?.iter().all(|(_, value)| value != "0") {
        return Ok(Vec::new());
    }
    let Some((name, mut world)) = world(host)? else { return Ok(Vec::new()) };
    let state = world.observe(&BTreeMap::new())?;
    let devices = state.namespaces.get(&name).into_iter().flat_map(|space| space.links.keys());
    let mut keys = vec![forwarding];
    keys.extend("net.ipv4.conf.all.accept_redirects".parse::<SysctlKey>().ok());
    keys.extend("net.ipv4.conf.default.forwarding".parse::<SysctlKey>().ok());
    keys.extend(devices.filter_map(|dev| {
        // A point in a name is written as a slash.
        format!("net.ipv4.conf.{}.forwarding", dev.as_str().replace('.', "/")).parse::<SysctlKey>().ok()
    }));
    // In this order they are set back: the first one resets the others.
    read(host, &keys)
}

/// The values of sysctls in their order, without those that there are none of.
fn read(host: &OwnedFd, keys: &[SysctlKey]) -> Result<Vec<(SysctlKey, String)>, Error> {
    let Some((name, mut world)) = world(host)?.filter(|_| !keys.is_empty()) else { return Ok(Vec::new()) };
    let mut state = world.observe(&BTreeMap::from([(name.clone(), keys.iter().cloned().collect())]))?;
    let mut values = state.namespaces.remove(&name).map(|space| space.sysctls).unwrap_or_default();
    Ok(keys.iter().filter_map(|key| values.remove_entry(key)).collect())
}

fn world(host: &OwnedFd) -> Result<Option<(NsName, World)>, Error> {
    let Some(name) = name() else { return Ok(None) };
    let mut world = World::new(Realm::host());
    world.adopt(name.clone(), host.try_clone().context(|| "look at the host's network".to_owned())?)?;
    Ok(Some((name, world)))
}

fn set(host: &OwnedFd, values: &[(SysctlKey, String)]) -> Result<(), Error> {
    let Some((name, mut world)) = world(host)?.filter(|_| !values.is_empty()) else { return Ok(()) };
    for (key, value) in values {
        let op = Op::SetSysctl { ns: name.clone(), key: key.clone(), value: value.clone() };
        match world.apply(&[op], &mut |_| {}) {
            // An interface that is gone has nothing to be set back.
            Err(failed) if key.interface().is_some() && failed.error.is_unsupported() => {}
            done => done.map_err(|failed| Error::Kernel(failed.error))?,
        }
    }
    Ok(())
}

fn name() -> Option<NsName> {
    "host".parse().ok()
}

/// The record, for this process alone. What is locked is a file beside it, for the record is replaced as a whole:
/// whatever ends this process, and on a full disk, there is the old one or the new one.
struct Locked {
    record: PathBuf,
    lock: PathBuf,
    /// Its lock ends with it.
    _file: File,
}

impl Locked {
    /// `None`: there is no record, and none was to be made.
    fn open(record: &Path, make: bool) -> Result<Option<Self>, Error> {
        let lock = beside(record, LOCK);
        let doing = || format!("open {}", lock.display());
        loop {
            if !make && !record.exists() && !lock.exists() {
                return Ok(None);
            }
            let mut options = OpenOptions::new();
            let file =
                options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&lock).context(doing)?;
            file.lock().context(doing)?;
            // Another one may have removed it meanwhile.
            let inode = file.metadata().context(doing)?.ino();
            if std::fs::metadata(&lock).is_ok_and(|now| now.ino() == inode) {
                return Ok(Some(Locked { record: record.to_owned(), lock, _file: file }));
            }
        }
    }

    /// `None`: there is none. One that cannot be read is an error, for it had what is to be set back.
    fn read(&self) -> Result<Option<Shared>, Error> {
        let text = match std::fs::read(&self.record) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.context(|| format!("read {}", self.record.display()))?,
        };
        let broken = |error: serde_json::Error| UplinkError::HostRecord {
            path: self.record.clone(),
            why: if text.is_empty() { "it is empty".to_owned() } else { error.to_string() },
        };
        Ok(Some(serde_json::from_slice(&text).map_err(broken)?))
    }

    fn write(&self, shared: &Shared) -> Result<(), Error> {
        let new = beside(&self.record, NEW);
        let file = WholeFile::new(&self.record, &new).mode(0o600).lasting();
        let written = serde_json::to_vec(shared).map_err(io::Error::from).and_then(|text| file.replace(&text));
        written.context(|| format!("write {}", self.record.display()))
    }

    /// Removes all of it; the lock last.
    fn remove(self) -> Result<(), Error> {
        for path in [&beside(&self.record, NEW), &self.record, &self.lock] {
            remove_file(path)?;
        }
        Ok(())
    }
}

/// What the names of the files beside the record end in.
const LOCK: &str = ".lock";
const NEW: &str = ".new";

fn beside(record: &Path, end: &str) -> PathBuf {
    let mut path = record.as_os_str().to_owned();
    path.push(end);
    path.into()
}
