//! Running a command in the foreground: its signals, its terminal, its exit status.
#![allow(unsafe_code)]

use std::io::{self, IsTerminal as _};
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus};

use crate::tie::Tie;

/// Signals that somebody sends to the program and means for the command.
const FORWARDED: [i32; 6] = [libc::SIGTERM, libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGUSR1, libc::SIGUSR2];

/// Runs a command until it ends; returns the exit status by the shell's convention (128 and the
/// signal's number for a command that a signal ended).
///
/// Signals sent to this process go on to the command; those of the terminal reach it by
/// themselves. If this process is killed, the command is killed too. The process must have one
/// thread.
///
/// # Errors
/// The command cannot be started.
pub fn supervise(command: Command) -> io::Result<u8> {
    Ok(supervise_one_of_many(command)?.status)
}

/// As [`supervise`], for a shell: where it reads from the terminal that this process has, it gets it, as the leader of
/// a process group of its own. One that finds a group in front which it has no number for, as in a pid namespace,
/// cannot give the terminal back when it ends, and some fail then (dash).
///
/// # Errors
/// The command cannot be started.
pub fn supervise_shell(mut command: Command) -> io::Result<u8> {
    let mut foreground = Foreground::begin()?;
    if let Some(terminal) = &mut foreground.terminal
        && io::stdin().is_terminal()
    {
        terminal.is_lent = true;
        let fd = terminal.fd.as_raw_fd();
        // SAFETY: between fork and exec only system calls are made, and the descriptor is open there.
        unsafe {
            command.pre_exec(move || {
                if libc::setpgid(0, 0) != 0 {
                    return Err(io::Error::last_os_error());
                }
                put_in_front(fd, libc::getpid());
                Ok(())
            });
        }
    }
    let child = spawn(command, &foreground.before);
    Ok(foreground.end(child, Children::One)?.status)
}

/// How a command ended, by the shell's convention, and whether this process was told to end meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Supervised {
    /// The exit status.
    pub status: u8,
    /// The status with which to end, instead of going on with the next one.
    pub told_to_end: Option<u8>,
}

/// The same, where others are to follow. Who interrupts means them all.
///
/// # Errors
/// The command cannot be started.
pub fn supervise_one_of_many(command: Command) -> io::Result<Supervised> {
    let foreground = Foreground::begin()?;
    let child = spawn(command, &foreground.before);
    foreground.end(child, Children::One)
}

/// As [`supervise`], for the first process of a pid namespace: takes the status of every process that ends
/// there without a parent. `started` is called when the command runs.
pub(crate) fn supervise_as_init(command: Command, before: &SignalMask, started: impl FnOnce()) -> io::Result<u8> {
    let child = spawn(command, before)?;
    started();
    wait_and_forward(child, Children::All).map(|waited| exit_status(waited.status))
}

/// Has a command end, well, where its program would begin: all that is done to start one is done, and nothing has to be
/// installed for it.
pub fn end_before_exec(command: &mut Command) {
    // SAFETY: ends the child, without the exit handlers of the process that it was forked from.
    unsafe { command.pre_exec(|| libc::_exit(0)) };
}

fn spawn(mut command: Command, before: &SignalMask) -> io::Result<i32> {
    let restored = before.0;
    let tie = Tie::to_caller()?;
    // SAFETY: between fork and exec only system calls are made.
    unsafe {
        command.pre_exec(move || {
            tie.hold()?;
            SignalMask(restored).restore()
        });
    }
    i32::try_from(command.spawn()?.id()).map_err(io::Error::other)
}

/// By the shell's convention: 128 and the signal's number for what a signal ended.
fn exit_status(status: i32) -> u8 {
    let status = ExitStatus::from_raw(status);
    let code = status.code().or(status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}

/// What this process does while it is there for a child in the foreground: signals wait for
/// [`wait_and_forward`], and the terminal is known, to be taken back.
pub(crate) struct Foreground {
    pub(crate) before: SignalMask,
    terminal: Option<Terminal>,
}

impl Foreground {
    /// Before the child is started.
    pub(crate) fn begin() -> io::Result<Self> {
        let before = SignalMask::block()?;
        Ok(Foreground { before, terminal: Terminal::of_caller() })
    }

    /// Waits for the child, where there is one, and is as before.
    pub(crate) fn end(self, child: io::Result<i32>, children: Children) -> io::Result<Supervised> {
        let lent = self.terminal.as_ref().filter(|terminal| terminal.is_lent);
        let lent_to = child.as_ref().ok().copied().filter(|_| lent.is_some());
        let waited = child.and_then(|child| wait(child, children, lent));
        if let Some(terminal) = self.terminal {
            terminal.take_back(lent_to);
        }
        self.before.restore()?;
        let told_to_end = |signal: i32| u8::try_from(128 + signal).unwrap_or(u8::MAX);
        waited.map(|Waited { status, told_to_end: signal }| Supervised {
            status: exit_status(status),
            told_to_end: signal.map(told_to_end),
        })
    }
}

/// Whose end is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Children {
    /// That child's alone.
    One,
    /// That child's, and the status of all others that end meanwhile is taken.
    All,
}

/// The controlling terminal, and the process group in its foreground.
///
/// A shell in a pid namespace of its own cannot give the terminal back to a group outside of it.
struct Terminal {
    fd: std::fs::File,
    group: libc::pid_t,
    /// Does the child have it, as a process group of its own?
    is_lent: bool,
}

impl Terminal {
    fn of_caller() -> Option<Self> {
        let fd = std::fs::File::open("/dev/tty").ok()?;
        // SAFETY: asks about an open descriptor.
        let group = unsafe { libc::tcgetpgrp(fd.as_raw_fd()) };
        // What runs in the background has no claim on it.
        // SAFETY: asks for a number of this process.
        (group > 0 && group == unsafe { libc::getpgrp() }).then_some(Terminal { fd, group, is_lent: false })
    }

    fn in_front(&self) -> libc::pid_t {
        // SAFETY: asks about an open descriptor.
        unsafe { libc::tcgetpgrp(self.fd.as_raw_fd()) }
    }

    /// After the child: what it has left in front, being gone, or in the group that it was lent to, where others of it may
    /// live on. Somebody else may have the terminal by now, where this process has been sent to the background meanwhile.
    fn take_back(&self, lent_to: Option<i32>) {
        let front = self.in_front();
        // SAFETY: asks whether there is a process in a group; none is signalled.
        let is_gone =
            || unsafe { libc::kill(-front, 0) } != 0 && io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH);
        if front > 1 && front != self.group && (lent_to == Some(front) || is_gone()) {
            put_in_front(self.fd.as_raw_fd(), self.group);
        }
    }

    /// The group that has the terminal has been stopped: so is that of this process, as one job. Whoever lets this one go
    /// on lets that one go on.
    fn stop_with(&self, child: i32) {
        if self.in_front() == child {
            put_in_front(self.fd.as_raw_fd(), self.group);
        }
        // Not SIGSTOP: where no shell waits for this group, nobody would let it go on, and the kernel does not stop it so.
        // SAFETY: signals processes; the child has not been waited for, so the number is still that of its group.
        unsafe {
            libc::kill(0, libc::SIGTSTP);
            if self.in_front() == self.group {
                put_in_front(self.fd.as_raw_fd(), child);
            }
            libc::kill(-child, libc::SIGCONT);
        }
    }
}

/// Gives the terminal to a process group, also where this process is not in front.
fn put_in_front(terminal: libc::c_int, group: libc::pid_t) {
    // SAFETY: changes the disposition of a signal that would stop this process, which is not in
    // the foreground just now, for the length of one call.
    unsafe {
        let before = libc::signal(libc::SIGTTOU, libc::SIG_IGN);
        libc::tcsetpgrp(terminal, group);
        libc::signal(libc::SIGTTOU, before);
    }
}

/// The signals that were blocked before.
pub(crate) struct SignalMask(libc::sigset_t);

impl SignalMask {
    /// Blocks what [`wait_and_forward`] waits for.
    pub(crate) fn block() -> io::Result<Self> {
        let set = waited_for();
        let mut before = MaybeUninit::uninit();
        // Where the caller ignores it, children vanish without a word.
        // SAFETY: sets the default action; no handler runs.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
        // SAFETY: reads one set and writes the other.
        if unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const set, before.as_mut_ptr()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call above has written it.
        Ok(SignalMask(unsafe { before.assume_init() }))
    }

    pub(crate) fn restore(&self) -> io::Result<()> {
        // SAFETY: reads the set.
        if unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const self.0, std::ptr::null_mut()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

fn waited_for() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset writes the set, the others change it; the numbers are valid.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in FORWARDED {
            libc::sigaddset(set.as_mut_ptr(), signal);
        }
        libc::sigaddset(set.as_mut_ptr(), libc::SIGCHLD);
        set.assume_init()
    }
}

/// What came of a child.
pub(crate) struct Waited {
    /// Its wait status.
    pub(crate) status: i32,
    /// The first signal of those by which a program is told to end.
    told_to_end: Option<i32>,
}

/// Waits for a child, passing signals on to it. The signals must be blocked.
pub(crate) fn wait_and_forward(child: i32, children: Children) -> io::Result<Waited> {
    wait(child, children, None)
}

/// The same, for a child that may have been lent the terminal: it is stopped as a job of its own then.
fn wait(child: i32, children: Children, lent: Option<&Terminal>) -> io::Result<Waited> {
    let set = waited_for();
    let mut told_to_end = None;
    let whom = if children == Children::All { -1 } else { child };
    let how = if lent.is_some() { libc::WNOHANG | libc::WUNTRACED } else { libc::WNOHANG };
    loop {
        let mut status = 0;
        // SAFETY: asks for the status of a child of this process.
        match unsafe { libc::waitpid(whom, &raw mut status, how) } {
            0 => {}
            -1 => return Err(io::Error::last_os_error()),
            stopped if stopped == child && libc::WIFSTOPPED(status) => {
                if let Some(terminal) = lent {
                    terminal.stop_with(child);
                }
                continue;
            }
            ended if ended == child => return Ok(Waited { status, told_to_end }),
            // An orphan; there may be more.
            _ => continue,
        }
        let mut info = MaybeUninit::<libc::siginfo_t>::uninit();
        // SAFETY: waits for a signal of the set and writes what is known of it.
        let signal = unsafe { libc::sigwaitinfo(&raw const set, info.as_mut_ptr()) };
        if signal < 0 || signal == libc::SIGCHLD {
            continue;
        }
        // SAFETY: written by the call above, which returned a signal.
        let info = unsafe { info.assume_init() };
        let from_kernel = info.si_code > 0;
        // To the first process of a pid namespace somebody outside has no number. Those inside reach the command by
        // themselves; one that signals its group has done so already.
        // SAFETY: of a signal that a process has sent, this field is the sender.
        if children == Children::All && !from_kernel && unsafe { info.si_pid() } != 0 {
            continue;
        }
        if matches!(signal, libc::SIGTERM | libc::SIGHUP | libc::SIGINT | libc::SIGQUIT) {
            told_to_end = told_to_end.or(Some(signal));
        }
        // What the terminal sends, the kernel sends to the whole foreground group, the command included;
        // but the end of the terminal it tells only the leader of the session, which this may be.
        if !(from_kernel && matches!(signal, libc::SIGINT | libc::SIGQUIT)) {
            // SAFETY: the child has not been waited for, so the id is still its own.
            unsafe { libc::kill(child, signal) };
        }
    }
}
