//! Sandboxes: a process, and all that it starts, with a network of its own and without any right to
//! another one.
//!
//! ```text
//!  hop ──clone──▶ init: first process of new pid, mount, ipc and network namespaces (and, for an ordinary
//!   │              user, of a user namespace); makes them what they should be, gives up all rights
//!   │              └──▶ the command
//!   └── relay, if there is something to relay: the sockets of the gate on one side, those of an agent on the other
//! ```
//!
//! The first process keeps nothing that could be taken from it: no capability, no descriptor. It is killed
//! with its starter, and all others of the sandbox with it.
#![allow(unsafe_code)]

mod calls;
mod confine;
mod datagrams;
mod echo;
mod frame;
mod gate;
mod sockets;
mod streams;
mod view;

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{Mode, OFlags};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType,
};
use rustix::process::{Pid, PidfdFlags, Signal};

use crate::failure::Doing;
use crate::leash::{self, IdMaps};
use crate::supervise::{Children, Foreground, SignalMask, supervise_as_init};
use crate::tie::Tie;
use crate::{Failure, Realm, pidfd};

pub(crate) use calls::address_in;
pub use datagrams::Datagrams;
pub(crate) use echo::open_client as open_echo_client;
pub use echo::{EchoClient, EchoHeard, EchoRequest, path_mtu};
pub use frame::{EchoEnds, IcmpError, Seen, Unreachable};
pub use gate::{GATE_ADDRESSES, Gate, Request, SANDBOX_ADDRESSES};
pub use sockets::{Reached, reached};
pub use streams::{StreamKind, WayOut};

/// What a sandbox is to be.
#[derive(Debug)]
pub struct SandboxSpec<'a> {
    /// Make a user namespace, in which the caller is who it is: for a caller that is not root.
    pub user_namespace: bool,
    /// Make a gate; without one nothing but the sandbox's own loopback is reached.
    pub gate: bool,
    /// The working directory.
    pub cwd: &'a Path,
    /// Files of /etc, and their texts.
    pub etc: &'a [(&'a str, &'a str)],
    /// Directories that are to be empty, where they are.
    pub cover_dirs: &'a [PathBuf],
    /// What else is not to be reached, where it is.
    pub reached: &'a Reached,
}

/// A sandbox whose command runs.
pub struct Sandbox {
    init: i32,
    gate: Option<Gate>,
    network: Option<Network>,
    foreground: Foreground,
}

/// The user and the network namespace of a sandbox.
struct Network {
    user: OwnedFd,
    net: OwnedFd,
}

/// Why there is no sandbox.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// It could not be made.
    #[error(transparent)]
    System(#[from] Failure),
    /// The command could not be started in it.
    #[error("the command cannot be started: {0}")]
    Command(io::Error),
    /// A standard stream would lead out of it.
    #[error(transparent)]
    Stream(#[from] WayOut),
}

const START: &str = "start the sandbox";
/// Two namespaces, two taps, and of each family three sockets.
const MOST_FDS: usize = 10;

impl Sandbox {
    /// Makes one and starts the command in it. The process must have one thread; signals that are meant for
    /// the command are held back until [`wait`](Self::wait).
    ///
    /// # Errors
    /// What could not be done; nothing is left then.
    pub fn start(spec: &SandboxSpec<'_>, command: Command) -> Result<Sandbox, SandboxError> {
        streams::check()?;
        let (ours, theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .doing("make a pair of sockets")?;
        let tie = Tie::to_caller().doing(START)?;
        // In the new user namespace the caller has no name until it is given one.
        let maps = spec.user_namespace.then(IdMaps::same_for_caller);
        let foreground = Foreground::begin().doing(START)?;
        let mut namespaces = libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWNET | libc::CLONE_NEWIPC;
        if spec.user_namespace {
            namespaces |= libc::CLONE_NEWUSER;
        }
        // SAFETY: the process has one thread, as the caller promises.
        let init = match unsafe { calls::fork_into(namespaces) }.doing("make the namespaces of the sandbox") {
            Ok(0) => {
                drop(ours);
                live(spec, maps.as_ref(), command, &foreground.before, &tie, theirs)
            }
            Ok(init) => init,
            Err(failure) => {
                foreground.before.restore().ok();
                return Err(failure.into());
            }
        };
        drop(theirs);
        match await_start(&ours) {
            Ok(None) => Ok(Sandbox { init, gate: None, network: None, foreground }),
            Ok(Some((gate, network))) => Ok(Sandbox { init, gate: Some(gate), network: Some(network), foreground }),
            Err(error) => {
                // It ends by itself, and says no more. The first error is the one to tell.
                foreground.end(Ok(init), Children::One).ok();
                Err(error)
            }
        }
    }

    /// The sockets of its gate, where it has one.
    pub fn take_gate(&mut self) -> Option<Gate> {
        self.gate.take()
    }

    /// The rights in its namespaces, and its network namespace; of one with a gate.
    ///
    /// # Errors
    /// It has no gate, or there is no room for more descriptors.
    pub fn network(&self) -> Result<(Realm, OwnedFd), Failure> {
        const DOING: &str = "open the sandbox's network";
        let Some(Network { user, net }) = &self.network else {
            return Err(io::Error::from(io::ErrorKind::NotFound)).doing(DOING);
        };
        let own = rustix::fs::stat("/proc/self/ns/user").doing("look at the own user namespace")?;
        let there = rustix::fs::fstat(user).doing("look at the sandbox's user namespace")?;
        let realm = if (own.st_dev, own.st_ino) == (there.st_dev, there.st_ino) {
            Realm::host()
        } else {
            Realm::of_user_namespace(user.try_clone().doing(DOING)?, None)
        };
        Ok((realm, net.try_clone().doing(DOING)?))
    }

    /// Ends it at once.
    pub fn kill(&self) {
        kill(self.init);
    }

    /// Something that ends it from another thread, until it has been waited for.
    ///
    /// # Errors
    /// There is no room for a descriptor.
    pub fn killer(&self) -> io::Result<Killer> {
        // A child that has not been waited for: its number is its own. /proc may not show it (`hidepid`), for it lets
        // nobody look into it.
        let init = Pid::from_raw(self.init).ok_or(rustix::io::Errno::SRCH)?;
        Ok(Killer(rustix::process::pidfd_open(init, PidfdFlags::empty())?))
    }

    /// Waits until the command has ended; its exit status by the shell's convention. Signals that are sent to
    /// this process go on to the command meanwhile.
    ///
    /// # Errors
    /// Those of waitpid(2).
    pub fn wait(self) -> io::Result<u8> {
        Ok(self.foreground.end(Ok(self.init), Children::One)?.status)
    }
}

/// What ends a sandbox, from any thread.
#[derive(Debug)]
pub struct Killer(OwnedFd);

impl Killer {
    /// Ends it, and all that runs in it.
    ///
    /// # Errors
    /// None for one that has ended.
    pub fn kill(&self) -> io::Result<()> {
        pidfd::signal(&self.0, Signal::KILL)
    }
}

impl std::fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sandbox").field("init", &self.init).finish_non_exhaustive()
    }
}

fn kill(pid: i32) {
    // SAFETY: the child has not been waited for, so the number is still its own.
    unsafe { libc::kill(pid, libc::SIGKILL) };
}

/// What the first process says until its command runs.
fn await_start(leash: &OwnedFd) -> Result<Option<(Gate, Network)>, SandboxError> {
    let mut gate = None;
    loop {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut bytes = [0; 256];
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let received = match rustix::net::recvmsg(leash, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => continue,
            received => received.doing("hear from the sandbox")?.bytes,
        };
        let fds = ancillary.drain().flat_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => fds.collect::<Vec<_>>(),
            _ => Vec::new(),
        });
        match &bytes[..received] {
            b"G" => {
                let mut fds = fds;
                gate = fds
                    .next()
                    .zip(fds.next())
                    .and_then(|(user, net)| Gate::from_fds(fds.collect()).map(|gate| (gate, Network { user, net })));
            }
            b"R" => return Ok(gate),
            [b'X', a, b, c, d] => {
                let errno = i32::from_ne_bytes([*a, *b, *c, *d]);
                return Err(SandboxError::Command(io::Error::from_raw_os_error(errno)));
            }
            other => return Err(leash::failure(other, START).into()),
        }
    }
}

/// The life of the first process.
fn live(
    spec: &SandboxSpec<'_>,
    maps: Option<&IdMaps>,
    command: Command,
    before: &SignalMask,
    tie: &Tie,
    leash: OwnedFd,
) -> ! {
    let prepared = prepare(spec, maps).and_then(|gate| {
        if let Some(gate) = gate {
            hand_over(&leash, gate)?;
        }
        confine::confine(spec.reached.control_groups)?;
        // The command is the same user's: nobody traces this process, or takes what it has open until the
        // command runs.
        rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable).doing(START)?;
        // Last: what changes the rights of a process may untie it.
        tie.hold().doing(START)?;
        leash::close_everything_but([&leash]).doing("close what was open")
    });
    if let Err(failure) = prepared {
        leash::say_failure(&leash, &failure);
        // SAFETY: ends this process without the exit handlers of the one it was forked from.
        unsafe { libc::_exit(255) }
    }
    let mut leash = Some(leash);
    let status = supervise_as_init(command, before, || {
        if let Some(leash) = leash.take() {
            rustix::net::send(&leash, b"R", SendFlags::NOSIGNAL).ok();
        }
    });
    if let (Err(error), Some(leash)) = (&status, &leash) {
        let errno = error.raw_os_error().unwrap_or(libc::EIO);
        rustix::net::send(leash, &[&b"X"[..], &errno.to_ne_bytes()].concat(), SendFlags::NOSIGNAL).ok();
    }
    // SAFETY: as above; it takes all that is left in the sandbox with it.
    unsafe { libc::_exit(status.map_or(255, i32::from)) }
}

fn prepare(spec: &SandboxSpec<'_>, maps: Option<&IdMaps>) -> Result<Option<Gate>, Failure> {
    rustix::thread::set_name(c"hop-sandbox").doing(START)?;
    if let Some(maps) = maps {
        maps.write()?;
    }
    let network = if spec.gate { gate::make().map(Some) } else { gate::make_closed().map(|()| None) };
    let gate = network.map_err(|error| match error {
        gate::NetworkError::System(failure) => failure,
        gate::NetworkError::Kernel(error) => {
            Failure { doing: error.doing.clone().into(), cause: io::Error::from_raw_os_error(error.errno.raw()) }
        }
    })?;
    view::make(spec)?;
    Ok(gate)
}

fn hand_over(leash: &OwnedFd, gate: Gate) -> Result<(), Failure> {
    const DOING: &str = "hand the gate's sockets over";
    let open = |name: &str| {
        let path = format!("/proc/self/ns/{name}");
        rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).doing("open the sandbox's namespaces")
    };
    let mut fds = vec![open("user")?, open("net")?];
    fds.extend(gate.into_fds());
    let borrowed: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(&borrowed)) {
        return Err(io::Error::from_raw_os_error(libc::EMSGSIZE)).doing(DOING);
    }
    rustix::net::sendmsg(leash, &[IoSlice::new(b"G")], &mut ancillary, SendFlags::NOSIGNAL).doing(DOING)?;
    Ok(())
}
