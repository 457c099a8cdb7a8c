//! The keeper: the process that a lab lives in.
//!
//! It is the first process of the lab's pid namespace, the owner of its mount namespace and, for
//! an ordinary user, of its user namespace, and it holds the file descriptors that keep the
//! network namespaces. When it ends, by whatever cause, the kernel frees all of them: there is
//! nothing that a crash could leave behind.
//!
//! It is deliberately dumb: it holds what it is handed, reaps orphans, and knows no network, but for the interfaces of
//! the machine that it brings back when it ends by itself: the kernel would destroy a virtual one. It is
//! a fork of the process that starts it, so no second program has to be found.
#![allow(unsafe_code)]

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, UnmountFlags};
use rustix::net::sockopt::Timeout;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketAddrUnix, SocketFlags, SocketType, sockopt,
};
use rustix::thread::UnshareFlags;

use hopyard_net::IfName;

use crate::Failure;
use crate::etc;
use crate::failure::Doing;
use crate::leash::{self, IdMaps};
use crate::moving::Space;
use crate::pidfd::Process;
use crate::pin::{self, NSFS};
use crate::realm::Realm;

/// What a keeper needs to start.
#[derive(Debug)]
pub struct KeeperSpec<'a> {
    /// Make a user namespace, in which the caller is root: for a caller that is not.
    pub user_namespace: bool,
    /// A directory of the caller's: the keeper listens on `ctl` in it, and mounts a file system of
    /// its own, which nobody else sees, on `view`.
    pub dir: &'a Path,
    /// Files of `dir` that go when the keeper ends because its starter did.
    pub files: &'a [&'a str],
    /// A directory of links to `/proc/KEEPER/fd/…` that go then, too.
    pub links: Option<&'a Path>,
    /// A file of `dir`, and what it is called from the moment at which the keeper is released: whatever ends the starter
    /// then, it has that name if, and only if, the keeper outlives it.
    pub on_release: Option<(&'a str, &'a str)>,
}

/// A keeper, seen from the process that started it.
///
/// Until [`released`](Keeper::release) it is tied to this value: when this is dropped, or this
/// process dies, the keeper ends, and the lab with it.
#[derive(Debug)]
pub struct Keeper {
    process: Process,
    realm: Realm,
    leash: OwnedFd,
}

/// A keeper that is not ready yet. When this is dropped, it ends.
#[derive(Debug)]
pub struct Starting {
    leash: Option<OwnedFd>,
    /// The process that makes the namespaces, which ends when the keeper is in them.
    launcher: i32,
    user_namespace: bool,
}

/// The most descriptors that one message carries (`SCM_MAX_FD`).
const FDS_PER_MESSAGE: usize = 253;
const START: &str = "start the lab's keeper";
/// The names in the keeper's directory.
pub(crate) const CONTROL: &str = "ctl";
const VIEW: &str = "view";
/// Files of /etc that a lab has of its own.
pub const ETC_FILES: [&str; 3] = ["hosts", "nsswitch.conf", "resolv.conf"];

impl Keeper {
    /// Starts one, and waits until it is ready.
    ///
    /// # Errors
    /// Those of [`launch`](Self::launch) and [`Starting::ready`].
    pub fn start(spec: &KeeperSpec<'_>) -> Result<Keeper, Failure> {
        Self::launch(spec)?.ready()
    }

    /// Starts one, which makes itself ready while the caller does something else. The directory must
    /// exist and be empty but for the caller's own files.
    ///
    /// # Errors
    /// What could not be done on the way to it; nothing is left then.
    pub fn launch(spec: &KeeperSpec<'_>) -> Result<Starting, Failure> {
        let listener = listen(&spec.dir.join(CONTROL))?;
        rustix::fs::mkdir(spec.dir.join(VIEW), Mode::RWXU).doing("make the directory of the lab's view")?;
        let (ours, theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .doing("make a pair of sockets")?;
        let maps = spec.user_namespace.then(IdMaps::root_for_caller);
        // SAFETY: the child runs `launch`, which ends in `_exit`. Where this process has other
        // threads, glibc's fork leaves the allocator usable in the child, and `launch` takes no
        // lock of this process's.
        match unsafe { libc::fork() } {
            -1 => Err(io::Error::last_os_error()).doing(START),
            0 => {
                drop(ours);
                launch(spec, maps.as_ref(), &listener, theirs)
            }
            launcher => {
                drop((theirs, listener));
                Ok(Starting { leash: Some(ours), launcher, user_namespace: spec.user_namespace })
            }
        }
    }

    /// The keeper's process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// The rights with which the lab's namespaces are made.
    pub fn realm(&self) -> &Realm {
        &self.realm
    }

    /// Lets the keeper outlive this process, and returns its process. A file may still have its old name then (see
    /// [`KeeperSpec::on_release`]); the caller may give it the new one as well.
    ///
    /// # Errors
    /// The keeper is gone.
    pub fn release(self) -> Result<Process, Failure> {
        rustix::net::send(&self.leash, b"C", SendFlags::NOSIGNAL).doing("hand the lab over to its keeper")?;
        Ok(self.process)
    }

    /// Ends the keeper and waits until it, and every process of the lab, has ended.
    ///
    /// # Errors
    /// Those of kill(2) and poll(2).
    pub fn end(self) -> Result<(), Failure> {
        self.process.kill().and_then(|()| self.process.wait(None)).map(drop).doing("end the lab's keeper")
    }
}

impl Starting {
    /// Waits until it is ready.
    ///
    /// # Errors
    /// What could not be done in the keeper; nothing is left then.
    pub fn ready(mut self) -> Result<Keeper, Failure> {
        let Some(leash) = self.leash.take() else { return Err(io::Error::other("there is none")).doing(START) };
        let (process, leash) = await_ready(leash)?;
        let realm = if self.user_namespace { realm_of(&process)? } else { Realm::host() };
        Ok(Keeper { process, realm, leash })
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        // Without its leash it ends, if nobody has waited for it.
        self.leash = None;
        wait_for_child(self.launcher);
    }
}

/// The rights that the caller has in the user namespace of a keeper.
///
/// # Errors
/// The keeper is gone, or another user's.
pub fn realm_of(keeper: &Process) -> Result<Realm, Failure> {
    let path = format!("/proc/{}/ns/user", keeper.pid());
    let fd = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .doing("open the lab's user namespace")?;
    // Whoever runs in that user namespace already (a `hop` inside a lab) cannot join it again.
    let own = rustix::fs::stat("/proc/self/ns/user").doing("look at the own user namespace")?;
    let there = rustix::fs::fstat(&fd).doing("look at the lab's user namespace")?;
    if (own.st_dev, own.st_ino) == (there.st_dev, there.st_ino) {
        return Ok(Realm::host());
    }
    let member = keeper.as_fd().try_clone_to_owned().doing("keep hold of the lab's keeper")?;
    Ok(Realm::of_user_namespace(fd, Some(member)))
}

/// The number from which a keeper holds descriptors, one after the other in the order in which they
/// are handed over as long as none is let go. So they are known before there is anything to hold.
pub const FIRST_HELD: u32 = 64;

/// Hands descriptors to the keeper that listens in `dir`; returns their numbers there, in order.
///
/// # Errors
/// The keeper is gone, or has no room for more descriptors (`EMFILE`). Then it holds none of them.
pub fn hold(dir: &Path, fds: &[BorrowedFd<'_>]) -> Result<Vec<u32>, Failure> {
    let control = connect(&dir.join(CONTROL))?;
    let mut numbers = Vec::with_capacity(fds.len());
    let handed = fds.chunks(FDS_PER_MESSAGE).try_for_each(|chunk| hand_over(&control, chunk, &mut numbers));
    if handed.is_err() {
        // One that is gone holds nothing.
        drop_held(dir, &numbers).ok();
    }
    handed.map(|()| numbers).map_err(in_time).doing("hand the namespaces to the lab's keeper")
}

/// Hands over as many as go into a message.
fn hand_over(control: &OwnedFd, fds: &[BorrowedFd<'_>], numbers: &mut Vec<u32>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_PER_MESSAGE))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::other("the message does not hold them"));
    }
    rustix::net::sendmsg(control, &[IoSlice::new(b"H")], &mut ancillary, SendFlags::NOSIGNAL)?;
    let mut reply = [0; 4 * FDS_PER_MESSAGE];
    let (_, len) = rustix::net::recv(control, &mut reply[..], RecvFlags::empty())?;
    numbers.extend(decode_numbers(&reply[..len]));
    if len != 4 * fds.len() {
        // The kernel installs as many descriptors as there is room for.
        return Err(io::Error::from_raw_os_error(libc::EMFILE));
    }
    Ok(())
}

/// Asks the keeper that listens in `dir` to close descriptors of those numbers.
///
/// # Errors
/// The keeper is gone.
pub fn drop_held(dir: &Path, numbers: &[u32]) -> Result<(), Failure> {
    const DOING: &str = "have the lab's keeper let go of namespaces";
    let control = connect(&dir.join(CONTROL))?;
    for chunk in numbers.chunks(FDS_PER_MESSAGE) {
        let mut message = vec![b'D'];
        message.extend(chunk.iter().flat_map(|n| n.to_ne_bytes()));
        exchange(&control, &message).doing(DOING)?;
    }
    Ok(())
}

/// Sends a request, and waits for the answer; says whether there was one, or the keeper has closed the connection.
fn exchange(control: &OwnedFd, message: &[u8]) -> io::Result<bool> {
    rustix::net::send(control, message, SendFlags::NOSIGNAL).map_err(in_time)?;
    let (_, length) = rustix::net::recv(control, &mut [0][..], RecvFlags::empty()).map_err(in_time)?;
    Ok(length > 0)
}

/// The numbers of all that was handed to a keeper and not let go of since. Others of its descriptors may be among them, which it
/// does not let go of.
///
/// # Errors
/// The keeper is gone.
pub fn all_held(keeper: &Process) -> Result<Vec<u32>, Failure> {
    let path = format!("/proc/{}/fd", keeper.pid());
    let entries = std::fs::read_dir(&path).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let entries = entries.doing(format!("look at what the lab's keeper holds, {path}"))?;
    let numbers = entries.iter().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    Ok(numbers.filter(|number| *number >= FIRST_HELD).collect())
}

/// Tells the keeper that listens in `dir` that an interface of the network that it was started in is about to be in a
/// namespace that it holds, by that number. When the keeper ends by itself, because its starter has or because it is asked
/// to, it brings the interface back first.
///
/// # Errors
/// The keeper is gone.
pub fn lend(dir: &Path, to: u32, dev: IfName) -> Result<(), Failure> {
    tell(dir, &[b"L", &to.to_ne_bytes()[..], dev.as_str().as_bytes()].concat())
}

/// Tells it that the interface is there, and by which number: somebody may call it something else there.
///
/// # Errors
/// The keeper is gone, or knows of no such loan.
pub fn lent(dir: &Path, to: u32, dev: IfName, number: u32) -> Result<(), Failure> {
    tell(dir, &[b"N", &to.to_ne_bytes()[..], &number.to_ne_bytes(), dev.as_str().as_bytes()].concat())
}

fn tell(dir: &Path, message: &[u8]) -> Result<(), Failure> {
    const DOING: &str = "tell the lab's keeper of an interface that is lent";
    let control = connect(&dir.join(CONTROL))?;
    if exchange(&control, message).doing(DOING)? {
        return Ok(());
    }
    Err(io::Error::from(io::ErrorKind::UnexpectedEof)).doing(DOING)
}

/// Ends the keeper that listens in `dir`, and waits until it has ended; says whether there was one.
/// For a lab whose record cannot be read: otherwise its process is known.
///
/// # Errors
/// It cannot be reached.
pub fn end_unknown(dir: &Path) -> Result<bool, Failure> {
    const DOING: &str = "end the lab's keeper";
    let control = match connect(&dir.join(CONTROL)) {
        Err(failure) if matches!(failure.cause.raw_os_error(), Some(libc::ENOENT | libc::ECONNREFUSED)) => {
            return Ok(false);
        }
        control => control?,
    };
    rustix::net::send(&control, b"Q", SendFlags::NOSIGNAL).map_err(in_time).doing(DOING)?;
    // It answers by closing the connection, which it does by ending.
    match rustix::net::recv(&control, &mut [0][..], RecvFlags::empty()) {
        Ok(_) | Err(rustix::io::Errno::CONNRESET) => Ok(true),
        Err(errno) => Err(in_time(errno)).doing(DOING),
    }
}

fn decode_numbers(bytes: &[u8]) -> impl Iterator<Item = u32> + '_ {
    bytes.as_chunks::<4>().0.iter().map(|n| u32::from_ne_bytes(*n))
}

/// The address of a socket. Where the path is longer than the 108 bytes that unix(7) has room for, or not from the root on, by way
/// of a descriptor of its directory. Otherwise not: a sandbox covers sockets where the kernel's table says that they are.
fn with_address<T>(path: &Path, f: impl FnOnce(&SocketAddrUnix) -> rustix::io::Result<T>) -> io::Result<T> {
    if let Some(address) = SocketAddrUnix::new(path).ok().filter(|_| path.is_absolute()) {
        return Ok(f(&address)?);
    }
    let dir = path.parent().unwrap_or(Path::new("."));
    let dir = rustix::fs::open(dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let name = path.file_name().unwrap_or_default();
    let short = PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd())).join(name);
    Ok(f(&SocketAddrUnix::new(short)?)?)
}

fn socket() -> rustix::io::Result<OwnedFd> {
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
}

fn listen(path: &Path) -> Result<OwnedFd, Failure> {
    let socket = socket().doing("make a socket")?;
    with_address(path, |address| rustix::net::bind(&socket, address)).doing(format!("listen at {}", path.display()))?;
    rustix::net::listen(&socket, 16).doing("listen for requests")?;
    Ok(socket)
}

/// A keeper that is asked answers at once, if nobody has stopped it.
const PATIENCE: Duration = Duration::from_secs(10);

fn connect(path: &Path) -> Result<OwnedFd, Failure> {
    let socket = socket().doing("make a socket")?;
    for direction in [Timeout::Recv, Timeout::Send] {
        sockopt::set_socket_timeout(&socket, direction, Some(PATIENCE)).doing("make a socket")?;
    }
    with_address(path, |address| rustix::net::connect(&socket, address))
        .map_err(in_time)
        .doing(format!("reach the lab's keeper at {}", path.display()))?;
    Ok(socket)
}

/// What a call says that has waited for a keeper for as long as it may.
fn in_time(error: impl Into<io::Error>) -> io::Error {
    let error = error.into();
    if error.kind() == io::ErrorKind::WouldBlock { io::Error::from_raw_os_error(libc::ETIMEDOUT) } else { error }
}

/// What a starting keeper says: its pid, that it is ready, or what failed.
fn await_ready(leash: OwnedFd) -> Result<(Process, OwnedFd), Failure> {
    // The launcher says the first, the keeper the second; which is heard first is open.
    let mut process: Option<io::Result<Process>> = None;
    let mut ready = false;
    loop {
        if ready && let Some(process) = process {
            return Ok((process.doing("take hold of the lab's keeper")?, leash));
        }
        let mut message = [0; 256];
        let (_, len) =
            rustix::net::recv(&leash, &mut message[..], RecvFlags::empty()).doing("hear from the lab's keeper")?;
        match &message[..len] {
            [b'P', pid @ ..] => {
                let pid = pid.try_into().map(i32::from_ne_bytes).unwrap_or_default();
                // One that is gone already has said why, and that is what to tell.
                process = Some(Process::open(pid));
            }
            [b'R'] => ready = true,
            other => return Err(leash::failure(other, START)),
        }
    }
}

fn wait_for_child(pid: i32) {
    let mut status = 0;
    // SAFETY: waits for a child of this process.
    while unsafe { libc::waitpid(pid, &raw mut status, 0) } == -1
        && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
    {}
}

/// In the forked child: makes the namespaces, forks the keeper into them and ends.
fn launch(spec: &KeeperSpec<'_>, maps: Option<&IdMaps>, listener: &OwnedFd, leash: OwnedFd) -> ! {
    let outcome = make_namespaces(maps).and_then(|()| {
        // SAFETY: this process has one thread.
        match unsafe { libc::fork() } {
            -1 => Err(io::Error::last_os_error()).doing("start the first process of the pid namespace"),
            pid => Ok(pid),
        }
    });
    match outcome {
        Err(failure) => leash::say_failure(&leash, &failure),
        Ok(0) => keep(spec, listener, leash),
        Ok(pid) => {
            let mut message = [b'P', 0, 0, 0, 0];
            message[1..].copy_from_slice(&pid.to_ne_bytes());
            rustix::net::send(&leash, &message, SendFlags::NOSIGNAL).ok();
        }
    }
    // SAFETY: ends this process without the exit handlers of the one it was forked from.
    unsafe { libc::_exit(0) }
}

fn make_namespaces(maps: Option<&IdMaps>) -> Result<(), Failure> {
    if let Some(maps) = maps {
        // SAFETY: this process has one thread and shares nothing with another.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWUSER) }.doing("make a user namespace")?;
        maps.write()?;
    }
    // SAFETY: as above.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::NEWPID) }
        .doing("make a mount and a pid namespace")
}

/// The keeper's life.
fn keep(spec: &KeeperSpec<'_>, listener: &OwnedFd, leash: OwnedFd) -> ! {
    match settle_in(spec, &leash) {
        Err(failure) => leash::say_failure(&leash, &failure),
        Ok(home) => {
            // Before it says that it is ready: a first process loses the signals that it does not wait for.
            let signals = leash::close_everything_but([listener, &leash]).and_then(|()| wanted_signals());
            let started = signals.ok().filter(|_| rustix::net::send(&leash, b"R", SendFlags::NOSIGNAL).is_ok());
            let mut loans = Vec::new();
            if started.is_none_or(|signals| serve(listener, leash, &signals, &home, &mut loans)) {
                loans.iter().for_each(Loan::bring_back);
                home.remove_files();
            }
        }
    }
    // SAFETY: as the first process of its pid namespace it takes all others with it.
    unsafe { libc::_exit(0) }
}

/// An interface of the machine, and the descriptor of the namespace that it may be in.
struct Loan {
    to: RawFd,
    dev: IfName,
    /// Its number there. `None`: nobody has said that it is there.
    number: Option<u32>,
}

impl Loan {
    /// Back to the network that the keeper is in. Nobody can be told if that fails; what the interface had is on record.
    fn bring_back(&self) {
        if !is_namespace(self.to) {
            return;
        }
        // SAFETY: it is open, and nothing else in this process of one thread closes it meanwhile.
        let namespace = unsafe { BorrowedFd::borrow_raw(self.to) };
        let (Ok(mut there), Ok(own)) = (Space::open(namespace), pin::own_network()) else { return };
        let called = match self.number {
            Some(number) => there.named(number).ok().flatten(),
            None => Some(self.dev),
        };
        if let Some(called) = called
            && there.send(called, own.as_fd()).is_ok()
            && called != self.dev
            && let Ok(mut home) = Space::open(own.as_fd())
        {
            home.rename(called, self.dev).ok();
        }
    }

    fn is(&self, to: RawFd, dev: IfName) -> bool {
        (self.to, self.dev) == (to, dev)
    }
}

/// What a keeper that was abandoned takes away with it.
struct Home {
    dir: PathBuf,
    files: Vec<String>,
    links: Option<PathBuf>,
    on_release: Option<(PathBuf, PathBuf)>,
    /// The start of the target of every link to one of the keeper's descriptors.
    link_target: String,
    /// Which file its control socket is.
    control: Option<FileId>,
}

/// Takes the lock on a directory. A starter that dies lets go of its leash a moment before its lock.
fn locked(dir: &std::fs::File) -> bool {
    (0..200).any(|_| {
        dir.try_lock().is_ok() || {
            std::thread::sleep(Duration::from_millis(5));
            false
        }
    })
}

/// What tells a file from a later one of the same name.
type FileId = (u64, u64, i64, u64);

fn file_id(path: &Path) -> Option<FileId> {
    let stat = rustix::fs::lstat(path).ok()?;
    Some((stat.st_dev, stat.st_ino, stat.st_ctime, stat.st_ctime_nsec))
}

impl Home {
    /// Gives the file its name, if the starter has not.
    fn is_released(&self) {
        if let Some((from, to)) = &self.on_release {
            std::fs::rename(from, to).ok();
        }
    }

    /// Removes the keeper's files.
    fn remove_files(&self) {
        let Ok(dir) = std::fs::File::open(&self.dir) else { return };
        // Somebody else may be at work here, or have been: then all of it is theirs.
        if !locked(&dir) || self.control.is_none() || file_id(&self.dir.join(CONTROL)) != self.control {
            return;
        }
        if let Some(links) = &self.links {
            // Errors have nobody to be told to: whatever stays is found by the next `up` or `down`.
            drop(remove_links(links, &self.link_target));
        }
        for file in &self.files {
            drop(std::fs::remove_file(self.dir.join(file)));
        }
        drop(std::fs::remove_file(self.dir.join(CONTROL)));
        // A directory with a mount on it stays.
        rustix::mount::unmount(self.dir.join(VIEW), UnmountFlags::DETACH).ok();
        drop(std::fs::remove_dir(self.dir.join(VIEW)));
        drop(std::fs::remove_dir(&self.dir));
    }
}

/// What the target of a link to a descriptor of a process begins with.
pub fn link_target(pid: &dyn std::fmt::Display) -> String {
    format!("/proc/{pid}/fd/")
}

/// Removes the symbolic links in `dir` whose target begins with `target`.
///
/// # Errors
/// The first that occurred; it goes on nevertheless.
pub fn remove_links(dir: &Path, target: &str) -> io::Result<usize> {
    let mut removed = 0;
    let mut first_error = Ok(());
    let entries = match std::fs::read_dir(dir) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(0),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let is_ours =
            std::fs::read_link(entry.path()).is_ok_and(|to| to.to_str().is_some_and(|to| to.starts_with(target)));
        if is_ours {
            match std::fs::remove_file(entry.path()) {
                Ok(()) => removed += 1,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => first_error = first_error.and(Err(error)),
            }
        }
    }
    first_error.map(|()| removed)
}

/// Makes the view that the lab's processes share: mounts that follow the host's but are not seen
/// there, a /proc of the lab's processes, an /etc of which the lab may change what it likes.
fn settle_in(spec: &KeeperSpec<'_>, leash: &OwnedFd) -> Result<Home, Failure> {
    // Another's terminal, session and signals do not concern it.
    rustix::process::setsid().doing("start a session for the lab")?;
    rustix::thread::set_name(c"hop-keeper").doing("name the lab's keeper")?;
    // /proc is still the host's.
    let own_pid = std::fs::read_link("/proc/self").doing("read the keeper's process id")?;
    let home = Home {
        dir: spec.dir.to_owned(),
        files: spec.files.iter().map(|&file| file.to_owned()).collect(),
        links: spec.links.map(Path::to_owned),
        on_release: spec.on_release.map(|(from, to)| (spec.dir.join(from), spec.dir.join(to))),
        link_target: link_target(&own_pid.display()),
        control: file_id(&spec.dir.join(CONTROL)),
    };
    raise_descriptor_limit();
    crate::chroot::settle().doing("keep the lab's mounts from the host")?;
    let files = ETC_FILES.map(|file| (file, ""));
    etc::cover(&spec.dir.join(VIEW), spec.user_namespace, &files, MountFlags::empty())?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount("proc", "/proc", "proc", flags, None).doing("mount /proc for the lab's processes")?;
    rustix::process::chdir("/").doing("leave the working directory")?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).doing("open /dev/null")?;
    for standard in [0, 1, 2] {
        // SAFETY: 0 to 2 are the standard streams of this process, which owns nothing by these numbers.
        if unsafe { libc::dup2(null.as_raw_fd(), standard) } < 0 {
            return Err(io::Error::last_os_error()).doing("leave the terminal");
        }
    }
    debug_assert!(leash.as_raw_fd() > 2, "the standard streams are open in every process that starts a keeper");
    Ok(home)
}

/// A lab needs a descriptor a node, and the usual soft limit is 1024: raises it as far as it goes,
/// and says how far that is.
pub fn raise_descriptor_limit() -> u64 {
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current = limit.maximum;
    // Refused only where it already is what it can be.
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).ok();
    limit.maximum.unwrap_or(u64::MAX)
}

/// Serves until the starter is gone without having released the keeper, or until somebody asks it to
/// end by SIGTERM; says whether its files go with it.
fn serve(listener: &OwnedFd, leash: OwnedFd, children: &OwnedFd, home: &Home, loans: &mut Vec<Loan>) -> bool {
    let mut leash = Some(leash);
    let mut clients: Vec<OwnedFd> = Vec::new();
    loop {
        let mut watched = vec![PollFd::new(children, PollFlags::IN), PollFd::new(listener, PollFlags::IN)];
        watched.extend(clients.iter().map(|client| PollFd::new(client, PollFlags::IN)));
        watched.extend(leash.iter().map(|leash| PollFd::new(leash, PollFlags::IN)));
        match rustix::event::poll(&mut watched, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return true,
        }
        let ready: Vec<bool> = watched.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(watched);
        if ready[0] && reap(children) == libc::SIGTERM {
            return true;
        }
        if leash.is_some() && ready[2 + clients.len()] {
            match leash.as_ref().map(|leash| rustix::net::recv(leash, &mut [0][..], RecvFlags::empty())) {
                Some(Ok((_, 1..))) => {
                    home.is_released();
                    leash = None;
                }
                Some(Err(rustix::io::Errno::INTR)) => {}
                _ => return true,
            }
        }
        let mut answered = ready[2..].iter();
        clients.retain(|client| !answered.next().is_some_and(|&ready| ready) || answer(client, loans).is_some());
        if ready[1]
            && let Ok(client) = rustix::net::accept_with(listener, SocketFlags::CLOEXEC)
        {
            clients.push(client);
        }
    }
}

/// Answers one request; `None`: the client is done.
fn answer(client: &OwnedFd, loans: &mut Vec<Loan>) -> Option<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_PER_MESSAGE))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [0; 1 + 4 * FDS_PER_MESSAGE];
    let received =
        rustix::net::recvmsg(client, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)
            .ok()?;
    let mut held: Vec<OwnedFd> = Vec::new();
    let reply: Vec<u8> = match &bytes[..received.bytes] {
        [b'H'] => {
            for message in ancillary.drain() {
                if let RecvAncillaryMessage::ScmRights(fds) = message {
                    for fd in fds {
                        let Ok(fd) = rustix::io::fcntl_dupfd_cloexec(&fd, FIRST_HELD.cast_signed()) else { break };
                        held.push(fd);
                    }
                }
            }
            held.iter().flat_map(|fd| fd.as_raw_fd().to_ne_bytes()).collect()
        }
        [b'D', numbers @ ..] => {
            for number in decode_numbers(numbers) {
                let Ok(number) = RawFd::try_from(number) else { continue };
                // Another one may have the number then.
                loans.retain(|loan| loan.to != number);
                if is_namespace(number) || is_netlink(number) {
                    // SAFETY: only descriptors that a request handed over are namespaces or sockets of
                    // netlink, and only requests name them.
                    drop(unsafe { OwnedFd::from_raw_fd(number) });
                }
            }
            vec![b'K']
        }
        [b'L', a, b, c, d, dev @ ..] => {
            let to = i32::from_ne_bytes([*a, *b, *c, *d]);
            let dev = std::str::from_utf8(dev).ok()?.parse().ok()?;
            loans.retain(|loan| !loan.is(to, dev));
            loans.push(Loan { to, dev, number: None });
            vec![b'K']
        }
        [b'N', a, b, c, d, e, f, g, h, dev @ ..] => {
            let to = i32::from_ne_bytes([*a, *b, *c, *d]);
            let dev = std::str::from_utf8(dev).ok()?.parse().ok()?;
            loans.iter_mut().find(|loan| loan.is(to, dev))?.number = Some(u32::from_ne_bytes([*e, *f, *g, *h]));
            vec![b'K']
        }
        [b'Q'] => {
            loans.iter().for_each(Loan::bring_back);
            // SAFETY: ends this process, and with it the lab; nothing else in it has to be tidied up.
            unsafe { libc::_exit(0) }
        }
        _ => return None,
    };
    // Where the client has gone nobody knows the numbers, and nothing is held.
    rustix::net::send(client, &reply, SendFlags::NOSIGNAL).ok()?;
    for fd in held {
        // From here on by its number alone.
        let _number = fd.into_raw_fd();
    }
    Some(())
}

/// Is it a descriptor of a namespace? The keeper's own descriptors are sockets.
fn is_namespace(number: RawFd) -> bool {
    // SAFETY: used for one call; if nothing is open by that number, fstatfs says so.
    let fd = unsafe { BorrowedFd::borrow_raw(number) };
    number > 2 && rustix::fs::fstatfs(fd).is_ok_and(|fs| fs.f_type == NSFS)
}

/// Is it a socket of netlink? Such a one may own a table of the host's firewall.
fn is_netlink(number: RawFd) -> bool {
    // SAFETY: used for one call; if nothing is open by that number, getsockopt says so.
    let fd = unsafe { BorrowedFd::borrow_raw(number) };
    number > 2 && sockopt::socket_domain(fd).is_ok_and(|domain| domain == AddressFamily::NETLINK)
}

fn wanted_signals() -> io::Result<OwnedFd> {
    // SAFETY: an all-zero set is a valid value for sigemptyset to overwrite; the calls only read it.
    unsafe {
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        // As the first process of its pid namespace it would not even notice it otherwise.
        libc::sigaddset(&raw mut set, libc::SIGTERM);
        if libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
        let fd = libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(fd)) }
    }
}

/// Takes a signal, and the status of all children that have ended: orphans of the lab are the
/// keeper's, it is their init. Returns the signal's number.
fn reap(signals: &OwnedFd) -> i32 {
    let mut signal = [0; size_of::<libc::signalfd_siginfo>()];
    rustix::io::read(signals, &mut signal).ok();
    // SAFETY: takes the status of any child that has ended.
    while unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) } > 0 {}
    // The number is the first field of the structure.
    let [a, b, c, d, ..] = signal;
    i32::from_ne_bytes([a, b, c, d])
}
