//! What keeps network namespaces alive, as far as /proc tells the caller.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::mounts::unescape;
use crate::netlink::namespace_of_socket;
use crate::pidfd::Process;

/// What tells a network namespace from others as long as it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamespaceId {
    device: u64,
    inode: u64,
}

impl NamespaceId {
    /// Of an open namespace.
    ///
    /// # Errors
    /// Those of fstat(2).
    pub fn of(namespace: BorrowedFd<'_>) -> io::Result<Self> {
        let stat = rustix::fs::fstat(namespace)?;
        Ok(NamespaceId { device: stat.st_dev, inode: stat.st_ino })
    }

    /// The number that `ls -l /proc/PID/ns` shows.
    pub fn inode(self) -> u64 {
        self.inode
    }

    fn at(path: &Path) -> Option<Self> {
        let stat = rustix::fs::stat(path).ok()?;
        Some(NamespaceId { device: stat.st_dev, inode: stat.st_ino })
    }
}

/// Something that keeps a namespace alive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A process.
    Process {
        /// Its id.
        pid: i32,
        /// Its name, as `ps -o comm` shows it.
        command: String,
        /// What of it.
        by: Hold,
    },
    /// A mount.
    Mount {
        /// On what.
        path: PathBuf,
        /// A process that sees it; `None`: the caller does.
        seen_by: Option<i32>,
    },
}

/// What of a process keeps a namespace alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hold {
    /// It runs there.
    Process,
    /// One of its threads runs there.
    Thread(i32),
    /// It has the namespace open, as this descriptor.
    Descriptor(i32),
    /// It has a socket there, as this descriptor.
    Socket(i32),
}

/// The processes with a thread in one of the namespaces.
///
/// # Errors
/// /proc cannot be read.
pub fn processes_in(namespaces: &BTreeSet<NamespaceId>) -> io::Result<BTreeMap<NamespaceId, BTreeSet<i32>>> {
    let mut found: BTreeMap<NamespaceId, BTreeSet<i32>> = BTreeMap::new();
    for pid in numbers(Path::new("/proc"))? {
        for (_, id) in threads(pid) {
            if namespaces.contains(&id) {
                found.entry(id).or_default().insert(pid);
            }
        }
    }
    Ok(found)
}

/// The names of the namespaces that the threads of a process are in.
///
/// # Errors
/// There is no such process, or it is not the caller's to look at.
pub fn networks_of(pid: i32) -> io::Result<BTreeSet<NamespaceId>> {
    // The process itself, so that its absence shows.
    let own = rustix::fs::stat(format!("/proc/{pid}/ns/net"))?;
    let own = NamespaceId { device: own.st_dev, inode: own.st_ino };
    Ok(threads(pid).map(|(_, id)| id).chain([own]).collect())
}

/// The network namespaces that processes are in, open, each once and with the first process that is in it.
/// Those that the caller may not open are left out.
///
/// # Errors
/// /proc cannot be read.
pub fn networks_of_all() -> io::Result<Vec<(i32, OwnedFd)>> {
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for pid in numbers(Path::new("/proc"))? {
        // Most are where another one is, and need not be opened.
        let Some(id) = NamespaceId::at(&PathBuf::from(format!("/proc/{pid}/ns/net"))) else { continue };
        if !seen.contains(&id)
            && let Ok(network) = crate::pin::network_of(pid)
            && NamespaceId::of(network.as_fd())? == id
        {
            seen.insert(id);
            found.push((pid, network));
        }
    }
    Ok(found)
}

/// What keeps the namespaces alive, this process apart. What the caller may not see is not among it.
///
/// # Errors
/// /proc cannot be read.
pub fn holders_of(namespaces: &BTreeSet<NamespaceId>) -> io::Result<BTreeMap<NamespaceId, Vec<Holder>>> {
    let mut search = Search { wanted: namespaces, found: BTreeMap::new(), sockets: HashMap::new() };
    let mut seen = BTreeSet::new();
    seen.extend(NamespaceId::at(Path::new("/proc/self/ns/mnt")));
    search.mounts(Path::new("/proc/self/mountinfo"), None);
    let own = rustix::process::getpid().as_raw_nonzero().get();
    for pid in numbers(Path::new("/proc"))? {
        if pid == own {
            continue;
        }
        search.process(pid);
        if NamespaceId::at(&PathBuf::from(format!("/proc/{pid}/ns/mnt"))).is_some_and(|id| seen.insert(id)) {
            search.mounts(&PathBuf::from(format!("/proc/{pid}/mountinfo")), Some(pid));
        }
    }
    Ok(search.found)
}

struct Search<'a> {
    wanted: &'a BTreeSet<NamespaceId>,
    found: BTreeMap<NamespaceId, Vec<Holder>>,
    /// Sockets that were looked at: processes inherit them from each other.
    sockets: HashMap<Vec<u8>, Option<NamespaceId>>,
}

impl Search<'_> {
    fn process(&mut self, pid: i32) {
        let mut holds: BTreeSet<(NamespaceId, Hold)> = BTreeSet::new();
        for (tid, id) in threads(pid) {
            let whole = holds.contains(&(id, Hold::Process));
            if self.wanted.contains(&id) && !whole {
                holds.insert((id, if tid == pid { Hold::Process } else { Hold::Thread(tid) }));
            }
        }
        let mut process = None;
        for fd in numbers(&PathBuf::from(format!("/proc/{pid}/fd"))).unwrap_or_default() {
            let Ok(target) = fs::read_link(format!("/proc/{pid}/fd/{fd}")) else { continue };
            let target = target.as_os_str().as_bytes();
            if target.starts_with(b"socket:[") {
                let known = if let Some(known) = self.sockets.get(target) {
                    *known
                } else {
                    // Held, so that the descriptor is of the process that the rest is about.
                    let process = process.get_or_insert_with(|| Process::open(pid).ok());
                    let id = process.as_ref().and_then(|process| network_of_socket(process, fd));
                    self.sockets.insert(target.to_vec(), id);
                    id
                };
                holds.extend(known.filter(|id| self.wanted.contains(id)).map(|id| (id, Hold::Socket(fd))));
            } else if !target.starts_with(b"pipe:[") && !target.starts_with(b"anon_inode:") {
                // What was opened by the name that it had shows as that.
                let id = NamespaceId::at(&PathBuf::from(format!("/proc/{pid}/fd/{fd}")));
                holds.extend(id.filter(|id| self.wanted.contains(id)).map(|id| (id, Hold::Descriptor(fd))));
            }
        }
        if holds.is_empty() {
            return;
        }
        let command = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim_end().to_owned();
        for (id, by) in holds {
            self.found.entry(id).or_default().push(Holder::Process { pid, command: command.clone(), by });
        }
    }

    fn mounts(&mut self, table: &Path, seen_by: Option<i32>) {
        let Ok(table) = fs::read(table) else { return };
        for line in table.split(|&byte| byte == b'\n') {
            // proc_pid_mountinfo(5): the fourth field is the root of the mount within its file system, which
            // for a namespace is its name; the fifth is where it is mounted.
            let mut fields = line.split(|&byte| byte == b' ').skip(3);
            let (Some(root), Some(point)) = (fields.next(), fields.next()) else { continue };
            let inode = root.strip_prefix(b"net:[").and_then(|rest| rest.strip_suffix(b"]"));
            let inode = inode.and_then(|digits| std::str::from_utf8(digits).ok()).and_then(|text| text.parse().ok());
            let Some(inode) = inode else { continue };
            if let Some(id) = self.wanted.iter().find(|id| id.inode == inode) {
                let path = PathBuf::from(unescape(point));
                self.found.entry(*id).or_default().push(Holder::Mount { path, seen_by });
            }
        }
    }
}

/// The network namespace of a socket that another process has open; `None`: the caller may not know.
fn network_of_socket(process: &Process, fd: i32) -> Option<NamespaceId> {
    let flags = rustix::process::PidfdGetfdFlags::empty();
    let socket = rustix::process::pidfd_getfd(process, fd, flags).ok()?;
    let namespace = namespace_of_socket(socket.as_fd()).ok()?;
    NamespaceId::of(namespace.as_fd()).ok()
}

/// The threads of a process, as far as they can be seen, and the network namespace of each; the first
/// one's own comes first.
fn threads(pid: i32) -> impl Iterator<Item = (i32, NamespaceId)> {
    let ids = numbers(&PathBuf::from(format!("/proc/{pid}/task"))).unwrap_or_default();
    ids.into_iter()
        .filter_map(move |tid| Some((tid, NamespaceId::at(&PathBuf::from(format!("/proc/{pid}/task/{tid}/ns/net")))?)))
}

/// The entries of a directory of /proc that are numbers, in order.
fn numbers(dir: &Path) -> io::Result<Vec<i32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        // A process that ends takes its directory along while it is read.
        let Ok(entry) = entry else { break };
        found.extend(number(&entry.file_name()));
    }
    found.sort_unstable();
    Ok(found)
}

fn number(name: &OsStr) -> Option<i32> {
    name.to_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Realm, pin};

    /// Networks need rights that an ordinary user has in a user namespace only.
    fn network() -> Option<std::os::fd::OwnedFd> {
        pin::make_network().ok()
    }

    #[test]
    fn a_socket_of_another_process_is_found_to_hold_its_network() {
        let Some(network) = network() else {
            println!("skipped: no rights to make a network namespace");
            return;
        };
        let id = NamespaceId::of(network.as_fd()).unwrap();
        let inside = || {
            crate::enter_network(network.as_fd())?;
            std::net::UdpSocket::bind("0.0.0.0:0")
        };
        let socket = Realm::host().run(inside).unwrap().unwrap();
        let mut child =
            std::process::Command::new("sleep").arg("60").stdin(std::os::fd::OwnedFd::from(socket)).spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let found = holders_of(&BTreeSet::from([id])).unwrap().remove(&id).unwrap_or_default();
        child.kill().unwrap();
        child.wait().unwrap();
        let expected = Holder::Process { pid, command: "sleep".to_owned(), by: Hold::Socket(0) };
        assert!(found.contains(&expected), "{found:?}");
        assert!(holders_of(&BTreeSet::from([id])).unwrap().is_empty());
    }

    #[test]
    fn a_process_is_where_one_of_its_threads_is() {
        let Some(network) = network() else {
            println!("skipped: no rights to make a network namespace");
            return;
        };
        let id = NamespaceId::of(network.as_fd()).unwrap();
        let own = rustix::process::getpid().as_raw_nonzero().get();
        let is_there = || {
            let found = processes_in(&BTreeSet::from([id])).unwrap();
            (found.get(&id).is_some_and(|pids| pids.contains(&own)), networks_of(own).unwrap().contains(&id))
        };
        // The thread that has made it is in it until it is gone.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while is_there() != (false, false) {
            assert!(std::time::Instant::now() < deadline, "{:?}", is_there());
            std::thread::yield_now();
        }
        let (entered, tell) = std::sync::mpsc::channel();
        let (leave, told) = std::sync::mpsc::channel::<()>();
        std::thread::scope(|scope| {
            let network = network.as_fd();
            scope.spawn(move || {
                entered.send(crate::enter_network(network)).unwrap();
                // Until nobody can tell it any more.
                told.recv().ok();
            });
            tell.recv().unwrap().unwrap();
            let there = is_there();
            drop(leave);
            assert_eq!(there, (true, true));
        });
    }

    #[test]
    fn this_process_is_in_its_own_network() {
        let own = rustix::process::getpid().as_raw_nonzero().get();
        let ids = networks_of(own).unwrap();
        assert!(processes_in(&ids).unwrap().values().any(|pids| pids.contains(&own)));
        assert!(networks_of(i32::MAX).is_err());
    }
}
