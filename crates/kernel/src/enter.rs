//! Entering a node: its network, the lab's processes and files, and its own /sys.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, MoveMountFlags, OpenTreeFlags};
use rustix::process::{Gid, Uid};
use rustix::thread::{LinkNameSpaceType, ThreadNameSpaceType, UnshareFlags};

use crate::failure::Doing;
use crate::pidfd::Process;
use crate::supervise::{Children, SignalMask, wait_and_forward};
use crate::tie::Tie;
use crate::users::NOBODY_AT_ALL;
use crate::{Failure, chroot, mounts};

/// What a process that runs in a node should find.
#[derive(Debug)]
pub struct Entry {
    /// The lab's keeper.
    pub keeper: Process,
    /// Does the lab have a user namespace that the caller is not yet in?
    pub user_namespace: bool,
    /// The node's network namespace.
    pub net: OwnedFd,
    /// The node's host name.
    pub host_name: String,
    /// The working directory.
    pub cwd: PathBuf,
    /// Another user to be; `None`: the lab's root, who outside of an ordinary user's lab is root and
    /// in one is that user.
    pub identity: Option<Identity>,
}

/// A user to be.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Further groups. In an ordinary user's lab the kernel does not let them be changed.
    pub groups: Vec<u32>,
}

/// The longest host name (`HOST_NAME_MAX`).
const HOST_NAME_MAX: usize = 64;

impl Entry {
    /// Moves this process into the node, except that only its children will be in the lab's pid
    /// namespace. There is no way back.
    ///
    /// The process must have one thread.
    ///
    /// # Errors
    /// What could not be done. The process may be half-way in then, and should end.
    pub fn enter(&self) -> Result<(), Failure> {
        // While /proc still knows this process.
        let own = rustix::fs::open("/proc/self", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .doing("open /proc/self")?;
        if self.user_namespace {
            // Alone first: joining it gives the rights to join the others.
            rustix::thread::move_into_thread_name_spaces(self.keeper.as_fd(), ThreadNameSpaceType::USER)
                .doing("enter the lab's user namespace")?;
        }
        let shared = ThreadNameSpaceType::MOUNT | ThreadNameSpaceType::PROCESS_ID;
        rustix::thread::move_into_thread_name_spaces(self.keeper.as_fd(), shared).doing("enter the lab")?;
        rustix::thread::move_into_link_name_space(self.net.as_fd(), Some(LinkNameSpaceType::Network))
            .doing("enter the node's network namespace")?;
        // SAFETY: the process has one thread, as the caller promises, and shares nothing.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::NEWUTS) }
            .doing("make the node's view")?;
        let name = self.host_name.as_bytes();
        rustix::system::sethostname(&name[..name.len().min(HOST_NAME_MAX)]).doing("set the host name")?;
        // The lab's /proc shows the lab's processes, and this is not one of them; the keeper is, and this
        // mount namespace is a copy of its own.
        mount_sysfs(c"sysfs", "/proc/1/mountinfo", MountFlags::empty())?;
        rustix::process::chdir(&self.cwd)
            .doing(format!("go to the directory {} inside the lab", self.cwd.display()))?;
        self.identity.as_ref().map_or(Ok(()), |identity| identity.assume(self.user_namespace, &own))
    }

    /// Moves this process to where the node's network and the lab's files are, and no further: for work of
    /// ours that asks and connects as a program in the node would. There is no way back.
    ///
    /// The process must have one thread.
    ///
    /// # Errors
    /// What could not be done. The process may be half-way in then, and should end.
    pub fn enter_to_look(&self) -> Result<(), Failure> {
        if self.user_namespace {
            rustix::thread::move_into_thread_name_spaces(self.keeper.as_fd(), ThreadNameSpaceType::USER)
                .doing("enter the lab's user namespace")?;
        }
        rustix::thread::move_into_thread_name_spaces(self.keeper.as_fd(), ThreadNameSpaceType::MOUNT)
            .doing("enter the lab's mount namespace")?;
        rustix::thread::move_into_link_name_space(self.net.as_fd(), Some(LinkNameSpaceType::Network))
            .doing("enter the node's network namespace")
    }

    /// A command that runs in the node, in the lab's pid namespace, and ends with this process.
    ///
    /// May be spawned from a process with many threads.
    pub fn command(self, program: impl Into<OsString>) -> Command {
        let mut command = Command::new(program.into());
        let tie = Tie::to_caller();
        // SAFETY: what runs between fork and exec uses the allocator, which glibc's fork leaves
        // usable, and no lock of the parent's.
        unsafe {
            command.pre_exec(move || {
                // Only an error number passes through the pipe by which `Command` learns of a failure.
                self.enter().map_err(|failure| failure.cause)?;
                // Another identity would have untied it.
                tie.as_ref().map_err(|&errno| errno)?.hold()?;
                fork_into_pid_namespace()
            });
        }
        command
    }
}

/// Where what [`helper`] starts finds the network namespace that it was given. Profiles of AppArmor for `pasta` let it
/// open one here, where podman has its own, and hardly anywhere else.
pub const HELPER_NETWORK: &str = "/run/user/0/netns/node";

/// A command that serves a lab from outside of its network: it stays in the caller's network namespace, and
/// has the rights, the files and the processes of the lab. It ends with the lab, whatever ends that. At
/// [`HELPER_NETWORK`] it alone finds a network namespace, by which it can name a node.
///
/// May be spawned from a process with many threads.
pub fn helper(keeper: Process, user_namespace: bool, node: OwnedFd, program: impl Into<OsString>) -> Command {
    let mut command = Command::new(program.into());
    // SAFETY: what runs between fork and exec uses the allocator, which glibc's fork leaves usable, and
    // no lock of the parent's. It has one thread, and shares nothing.
    unsafe {
        command.pre_exec(move || {
            if user_namespace {
                rustix::thread::move_into_thread_name_spaces(keeper.as_fd(), ThreadNameSpaceType::USER)?;
            }
            let shared = ThreadNameSpaceType::MOUNT | ThreadNameSpaceType::PROCESS_ID;
            rustix::thread::move_into_thread_name_spaces(keeper.as_fd(), shared)?;
            rustix::process::chdir("/")?;
            fork_into_pid_namespace()?;
            rustix::thread::unshare_unsafe(UnshareFlags::NEWNS)?;
            make_place()?;
            // Only here, for the lab's /proc knows the lab's processes.
            rustix::mount::mount_bind(format!("/proc/self/fd/{}", node.as_raw_fd()), HELPER_NETWORK)?;
            Ok(())
        });
    }
    command
}

/// Makes that file, in a mount namespace of this process's own. The directories may be root's: a file system of its own
/// covers one of them.
fn make_place() -> io::Result<()> {
    let covered = ["/run/user", "/run"].into_iter().find(|dir| Path::new(dir).is_dir());
    let covered = covered.ok_or(rustix::io::Errno::NOENT)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount("hopyard", covered, "tmpfs", flags, Some(c"mode=0700"))?;
    let place = Path::new(HELPER_NETWORK);
    place.parent().map_or(Ok(()), std::fs::create_dir_all)?;
    std::fs::write(place, "")
}

/// What a process finds in a network namespace that belongs to no lab: as ip-netns(8) has it, but that
/// what is mounted below /sys stays, and that no file of the host is left where another one should be.
#[derive(Debug)]
pub struct NetworkEntry {
    /// The namespace.
    pub net: OwnedFd,
    /// Its name: `mount` shows it as the source of /sys.
    pub name: OsString,
    /// Files and directories, and what each covers.
    pub covers: Vec<(PathBuf, PathBuf)>,
    /// The working directory; `None`: the present one.
    pub cwd: Option<PathBuf>,
    /// Another user to be.
    pub identity: Option<Identity>,
}

impl NetworkEntry {
    /// Moves this process there. There is no way back.
    ///
    /// The process must have one thread.
    ///
    /// # Errors
    /// What could not be done. The process may be half-way in then, and should end.
    pub fn enter(&self) -> Result<(), Failure> {
        rustix::thread::move_into_link_name_space(self.net.as_fd(), Some(LinkNameSpaceType::Network))
            .doing("enter the network namespace")?;
        // SAFETY: the process has one thread, as the caller promises, and shares nothing.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }.doing("make the view of the namespace")?;
        chroot::follow_host().doing("make the view of the namespace")?;
        let source = CString::new(self.name.as_bytes()).doing("name the source of /sys")?;
        mount_sysfs(&source, "/proc/self/mountinfo", MountFlags::empty())?;
        for (file, covered) in &self.covers {
            rustix::mount::mount_bind(file, covered).doing(format!(
                "put {} in the place of {}",
                file.display(),
                covered.display()
            ))?;
        }
        if let Some(cwd) = &self.cwd {
            rustix::process::chdir(cwd).doing(format!("go to the directory {}", cwd.display()))?;
        }
        self.identity.as_ref().map_or(Ok(()), Identity::assume_as_root)
    }
}

/// Moves the calling thread into a network namespace: for work inside [`Realm::run`](crate::Realm::run).
///
/// # Errors
/// Those of setns(2).
pub fn enter_network(namespace: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::thread::move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))?)
}

/// Forks; the child returns and is in the pid namespace that this process has chosen for its
/// children, while this process becomes a shell around it: passes signals on, and ends as it does.
fn fork_into_pid_namespace() -> io::Result<()> {
    let before = SignalMask::block()?;
    let tie = Tie::to_caller()?;
    // SAFETY: this process is a fresh fork with one thread.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => tie.hold().and_then(|()| before.restore()),
        child => {
            // Above all the pipe by which `Command` learns that exec has succeeded: as long as a copy
            // of it is open, `spawn` does not return.
            // SAFETY: nothing in this process uses a descriptor from here on.
            unsafe { libc::syscall(libc::SYS_close_range, 0, u32::MAX, 0) };
            let status = wait_and_forward(child, Children::One).map_or(255 << 8, |waited| waited.status);
            if libc::WIFSIGNALED(status) {
                let signal = libc::WTERMSIG(status);
                before.restore().ok();
                // SAFETY: this process ends by the same signal, without a second core dump.
                unsafe {
                    libc::prctl(libc::PR_SET_DUMPABLE, 0);
                    libc::signal(signal, libc::SIG_DFL);
                    libc::raise(signal);
                }
            }
            // SAFETY: ends the process without the exit handlers of the one it was forked from.
            unsafe { libc::_exit(libc::WEXITSTATUS(status)) }
        }
    }
}

/// Replaces /sys by one that shows the interfaces of the network namespace that this process is
/// in, and keeps what is mounted below it (cgroup, bpf, tracefs), which `ip netns exec` loses.
pub(crate) fn mount_sysfs(source: &CStr, table: &str, more: MountFlags) -> Result<(), Failure> {
    const SYS: &str = "/sys";
    let mut kept: Vec<(PathBuf, OwnedFd)> = Vec::new();
    for point in mounts::below(SYS, table).doing("read the table of mounts")? {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
        match rustix::mount::open_tree(rustix::fs::CWD, &point, flags) {
            Ok(tree) => kept.push((point, tree)),
            // Hidden below another mount.
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::INVAL) => {}
            Err(errno) => return Err(errno).doing(format!("keep {}", point.display())),
        }
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount(source, SYS, "sysfs", flags | more, None).doing("mount the node's /sys")?;
    for (point, tree) in kept {
        let moved =
            rustix::mount::move_mount(&tree, "", rustix::fs::CWD, &point, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH);
        match moved {
            // A directory that this view of /sys does not have.
            Ok(()) | Err(rustix::io::Errno::NOENT) => {}
            Err(errno) => return Err(errno).doing(format!("put {} back", point.display())),
        }
    }
    Ok(())
}

impl Identity {
    fn assume(&self, user_namespace: bool, own: &OwnedFd) -> Result<(), Failure> {
        if user_namespace { self.assume_in_nested_user_namespace(own) } else { self.assume_as_root() }
    }

    fn assume_as_root(&self) -> Result<(), Failure> {
        const DOING: &str = "become the user asked for";
        // The process would stay root.
        if [self.uid, self.gid].iter().chain(&self.groups).any(|&id| id == NOBODY_AT_ALL) {
            return Err(io::Error::from_raw_os_error(libc::EINVAL)).doing(DOING);
        }
        let groups: Vec<Gid> = self.groups.iter().map(|&gid| Gid::from_raw(gid)).collect();
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        // The process has one thread, so a thread's ids are the process's.
        rustix::thread::set_thread_groups(&groups).doing(DOING)?;
        rustix::thread::set_thread_res_gid(gid, gid, gid).doing(DOING)?;
        rustix::thread::set_thread_res_uid(uid, uid, uid).doing(DOING)
    }

    /// In an ordinary user's lab there is one user, who is root there. In a user namespace below
    /// it the same user can go by its own number, and has no rights over the network.
    fn assume_in_nested_user_namespace(&self, own: &OwnedFd) -> Result<(), Failure> {
        const DOING: &str = "become the user asked for";
        // SAFETY: the process has one thread and shares nothing.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWUSER) }.doing(DOING)?;
        for (file, text) in [
            ("setgroups", "deny".to_owned()),
            ("uid_map", format!("{} 0 1\n", self.uid)),
            ("gid_map", format!("{} 0 1\n", self.gid)),
        ] {
            let fd = rustix::fs::openat(own, file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).doing(DOING)?;
            rustix::io::write(&fd, text.as_bytes()).doing(DOING)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_a_user_who_is_none() {
        for (uid, gid, groups) in [(u32::MAX, 1, vec![]), (1, u32::MAX, vec![]), (1, 1, vec![2, u32::MAX])] {
            let failure = Identity { uid, gid, groups }.assume_as_root().unwrap_err();
            assert_eq!(failure.cause.raw_os_error(), Some(libc::EINVAL));
        }
    }
}
