//! Sysctls of the network namespace that the calling thread is in.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use hopyard_net::{ConfOf, Ipv4Setting, SysctlKey};
use rustix::fs::{Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use crate::Errno;

/// The directory of all sysctls; below `sys/net` the kernel shows each thread the tables of its own
/// namespace.
///
/// The kernel keeps one `net/ipv4` for each namespace in which it was ever looked up, all under the
/// same name, and goes through them one by one: in 10 000 namespaces a lookup takes milliseconds. So
/// this looks them up in a procfs of its own, which forgets, and takes another one now and then.
pub(crate) struct SysctlFiles {
    own: Option<OwnedFd>,
    /// In how many namespaces sysctls were looked up, here and before.
    arrivals: usize,
    /// A procfs may be refused: to who is in no pid namespace of the same user namespace, and inside
    /// of containers that hide parts of theirs.
    refused: bool,
    spent: Spent,
}

/// Where a procfs goes that is not needed any more.
pub(crate) type Spent = Option<mpsc::Sender<OwnedFd>>;

/// A thread that ends procfs instances: each waits for an RCU grace period, 5 ms, and 50 ms on a busy
/// machine. Waits for the last of them when it is dropped.
#[derive(Debug, Default)]
pub(crate) struct Closer {
    work: Option<(mpsc::Sender<OwnedFd>, JoinHandle<()>)>,
}

impl Closer {
    /// Starts it, if so many namespaces need it and it does not run. Where there is no thread to be had,
    /// whoever has a procfs waits.
    pub(crate) fn start(&mut self, namespaces: usize) -> Spent {
        if self.work.is_none() && namespaces > ARRIVALS_IN_COMMON {
            let (spent, all) = mpsc::channel::<OwnedFd>();
            let body = move || all.into_iter().for_each(drop);
            self.work = thread::Builder::new().name("hop-closer".to_owned()).spawn(body).ok().map(|it| (spent, it));
        }
        self.work.as_ref().map(|(spent, _)| spent.clone())
    }
}

impl Drop for Closer {
    fn drop(&mut self) {
        if let Some((spent, thread)) = self.work.take() {
            drop(spent);
            // It does nothing that could panic.
            thread.join().ok();
        }
    }
}

/// For some namespaces the machine's own `/proc` is cheapest.
const ARRIVALS_IN_COMMON: usize = 128;

/// So many share a procfs: what they cost by being looked through is then about what it costs to make one.
const ARRIVALS_IN_OWN: usize = 128;

impl SysctlFiles {
    /// For a thread that is about to enter namespaces, after so many others have been entered.
    pub(crate) fn new(spent: Spent, arrivals: usize) -> Self {
        SysctlFiles { own: None, arrivals, refused: false, spent }
    }

    /// To be called when the thread has entered another namespace.
    pub(crate) fn arrive(&mut self) {
        let in_own = self.arrivals.checked_sub(ARRIVALS_IN_COMMON);
        self.arrivals += 1;
        let is_due = |arrivals: usize| self.own.is_none() || arrivals.is_multiple_of(ARRIVALS_IN_OWN);
        if !self.refused && in_own.is_some_and(is_due) {
            self.let_go();
            self.own = mount_procfs().ok();
            self.refused = self.own.is_none();
        }
    }

    fn let_go(&mut self) {
        if let (Some(own), Some(spent)) = (self.own.take(), &self.spent) {
            // Nobody there: it comes back, and ends here.
            spent.send(own).ok();
        }
    }

    /// The value of a sysctl: one line, its parts separated by single spaces (the kernel puts tabs
    /// between them, sysctl(8) and people put spaces). `None`: there is no such sysctl here.
    pub(crate) fn read(&self, key: &SysctlKey) -> io::Result<Option<String>> {
        let mut file = match self.open(key, OFlags::RDONLY) {
            Ok(file) => file,
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        Ok(Some(text.split_ascii_whitespace().collect::<Vec<_>>().join(" ")))
    }

    /// Sets a sysctl. The kernel takes a value in one write, as sysctl(8) makes it: with its newline.
    pub(crate) fn write(&self, key: &SysctlKey, value: &str) -> Result<(), Errno> {
        let line = format!("{value}\n");
        let length = self.open(key, OFlags::WRONLY)?.write(line.as_bytes())?;
        // `addrconf_sysctl_forward()` (net/ipv6/addrconf.c) of some kernels, such as Linux 6.12, returns 1 when it has set
        // the value, and write(2) that as the length. So a count that is too small says nothing yet.
        if length == line.len() || self.read(key)?.is_some_and(|now| now == value) {
            return Ok(());
        }
        Err(Errno::from_raw(libc::EINVAL))
    }

    /// The directory of `net.ipv4.conf`: of many sysctls there, each takes a tenth of the time then.
    pub(crate) fn ipv4_conf(&self) -> rustix::io::Result<Ipv4ConfFiles> {
        let (root, path) = self.at("net/ipv4/conf");
        let how = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Ipv4ConfFiles(rustix::fs::openat(root, path, how, Mode::empty())?))
    }

    fn open(&self, key: &SysctlKey, how: OFlags) -> rustix::io::Result<File> {
        let (root, path) = self.at(&key.path());
        Ok(rustix::fs::openat(root, path, how | OFlags::CLOEXEC, Mode::empty())?.into())
    }

    fn at(&self, path: &str) -> (BorrowedFd<'_>, String) {
        match &self.own {
            Some(procfs) => (procfs.as_fd(), format!("sys/{path}")),
            None => (rustix::fs::CWD, format!("/proc/sys/{path}")),
        }
    }
}

impl Drop for SysctlFiles {
    fn drop(&mut self) {
        self.let_go();
    }
}

/// `net.ipv4.conf` of one namespace, wherever the thread is later.
pub(crate) struct Ipv4ConfFiles(OwnedFd);

impl Ipv4ConfFiles {
    /// Of the namespace from which new ones take their values. `None`: the calling thread is not in that, or they take none.
    pub(crate) fn of_machine() -> Option<Ipv4ConfFiles> {
        // The machine's first namespace alone has it. 0: of IPv4 that is copied; 1: of IPv6 too (ip-sysctl).
        let inherits = std::fs::read("/proc/sys/net/core/devconf_inherit_init_net").ok()?;
        matches!(inherits.trim_ascii(), b"0" | b"1").then_some(())?;
        SysctlFiles::new(None, 0).ipv4_conf().ok()
    }

    /// A setting that can be read again and again. `None`: this kernel has none, or does not show it.
    pub(crate) fn open_to_read(&self, of: ConfOf, setting: &Ipv4Setting) -> Option<Ipv4SettingFile> {
        self.open(of, setting, OFlags::RDONLY).ok().map(Ipv4SettingFile)
    }

    pub(crate) fn write(&self, of: ConfOf, setting: &Ipv4Setting, value: i32) -> rustix::io::Result<()> {
        let file = self.open(of, setting, OFlags::WRONLY)?;
        rustix::io::write(file, format!("{value}\n").as_bytes())?;
        Ok(())
    }

    fn open(&self, of: ConfOf, setting: &Ipv4Setting, how: OFlags) -> rustix::io::Result<OwnedFd> {
        rustix::fs::openat(&self.0, format!("{of}/{}", setting.name), how | OFlags::CLOEXEC, Mode::empty())
    }
}

/// One of them, open.
pub(crate) struct Ipv4SettingFile(OwnedFd);

impl Ipv4SettingFile {
    pub(crate) fn read(&self) -> Option<i32> {
        let mut digits = [0; 16];
        let length = rustix::io::pread(&self.0, &mut digits, 0).ok()?;
        std::str::from_utf8(digits.get(..length)?).ok()?.trim().parse().ok()
    }
}

/// A procfs that is mounted nowhere, and goes with its descriptor.
fn mount_procfs() -> rustix::io::Result<OwnedFd> {
    let context = rustix::mount::fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_create(context.as_fd())?;
    let attributes =
        MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC | MountAttrFlags::MOUNT_ATTR_NOSUID;
    rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}
