//! Work in a process of its own, for what a thread may not do: join a user namespace, or leave others
//! to free a mount namespace.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags};
use rustix::process::{WaitId, WaitIdOptions};

use crate::tie::Tie;

/// Room for the work: as much as a thread has by default.
const STACK_BYTES: usize = 2 << 20;

/// What passes between the two processes, by memory.
struct Parcel<W, R> {
    tie: Tie,
    work: Option<W>,
    result: Option<io::Result<R>>,
}

/// Runs `work` in a process of its own that shares memory and file descriptors with this one, and
/// waits until it has ended.
///
/// # Errors
/// No process could be made, or it was killed, or what `work` returns.
pub(crate) fn run<W: FnOnce() -> io::Result<R>, R>(work: W) -> io::Result<R> {
    let (result, child) = start(work)?;
    while !has_ended(&child, WaitIdOptions::empty())? {}
    result
}

/// Children that have done their work, and may not have come to their end.
static LEFT: Mutex<Vec<OwnedFd>> = Mutex::new(Vec::new());

/// The same, but does not wait until the kernel has freed what the process alone had: of a mount
/// namespace that takes a fifth of a millisecond. It is waited for when the next one is run, by [`wait_for_left`], or by
/// whoever inherits orphans: see [`leave`].
pub(crate) fn run_and_leave<W: FnOnce() -> io::Result<R>, R>(work: W) -> io::Result<R> {
    let (result, child) = start(work)?;
    let mut left = LEFT.lock().unwrap_or_else(PoisonError::into_inner);
    // One that somebody else has waited for is an error, and gone as well.
    left.retain(|child| has_ended(child, WaitIdOptions::NOHANG).is_ok_and(|ended| !ended));
    left.push(child);
    result
}

/// Waits for all that were left: then the kernel has freed what they had.
pub(crate) fn wait_for_left() {
    for child in LEFT.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
        // One that somebody else has waited for is gone as well.
        while has_ended(&child, WaitIdOptions::empty()).is_ok_and(|ended| !ended) {}
    }
}

/// Leaves them to whoever inherits orphans; where that one may not wait for them, they are waited for here and now.
pub(crate) fn leave() {
    if !orphans_are_waited_for() {
        wait_for_left();
    }
}

/// Does somebody wait for orphans, so that they do not stay as zombies? The process that inherits those of the machine
/// does. That of a container may be any program, and may wait for the children alone that it has started itself.
fn orphans_are_waited_for() -> bool {
    /// `PID_NS_INIT_INO` (linux/nsfs.h): the pid namespace of the machine.
    const MACHINE: u64 = 0xEFFF_FFFC;
    let namespace_of = |process: &str| rustix::fs::stat(format!("/proc/{process}/ns/pid")).map(|stat| stat.st_ino);
    let Ok(own) = namespace_of("self") else { return false };
    // /proc may be that of another namespace.
    own == MACHINE || (namespace_of("1") == Ok(own) && leaves_children_to_the_kernel(1))
}

/// Does a process ignore the signal that tells of a child's end? Then none becomes a zombie (wait(2)).
fn leaves_children_to_the_kernel(pid: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    // proc_pid_status(5): in hexadecimal.
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:\t"));
    let ignored = mask.and_then(|mask| u64::from_str_radix(mask, 16).ok()).unwrap_or(0);
    ignored & 1 << (libc::SIGCHLD - 1) != 0
}

/// Returns when the child is done with the memory of this process: what it returned, and the child.
fn start<W: FnOnce() -> io::Result<R>, R>(work: W) -> io::Result<(io::Result<R>, OwnedFd)> {
    let stack = Stack::get()?;
    let mut parcel = Parcel { tie: Tie::to_caller()?, work: Some(work), result: None };
    // No CLONE_FS and no CLONE_THREAD: only a process of one thread with a root directory of its own
    // may join a user namespace. No exit signal: the program's own SIGCHLD handling is not disturbed.
    let flags = libc::CLONE_VM | libc::CLONE_FILES | libc::CLONE_VFORK | libc::CLONE_PIDFD;
    let mut pidfd: libc::c_int = -1;
    let argument = (&raw mut parcel).cast::<c_void>();
    // SAFETY: the child runs `child_main` on a stack of its own that outlives it, and `parcel` is
    // used by the child alone until it has ended: CLONE_VFORK suspends this thread until then. The
    // child uses this thread's thread-local storage, which this thread cannot touch meanwhile.
    let pid = unsafe { libc::clone(child_main::<W, R>, stack.top(), flags, argument, &raw mut pidfd) };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: with CLONE_PIDFD the kernel has opened it for this process, and nothing else knows it.
    let child = unsafe { OwnedFd::from_raw_fd(pidfd) };
    stack.keep();
    let killed = || Err(io::Error::other("the process that was to do it was killed"));
    Ok((parcel.result.unwrap_or_else(killed), child))
}

/// Waits for a child that [`start`] has made.
fn has_ended(child: &OwnedFd, options: WaitIdOptions) -> io::Result<bool> {
    // One without an exit signal.
    let any = WaitIdOptions::from_bits_retain(libc::__WALL.cast_unsigned());
    match rustix::process::waitid(WaitId::PidFd(child.as_fd()), WaitIdOptions::EXITED | any | options) {
        Err(rustix::io::Errno::INTR) => Ok(false),
        ended => Ok(ended?.is_some()),
    }
}

extern "C" fn child_main<W: FnOnce() -> io::Result<R>, R>(parcel: *mut c_void) -> i32 {
    // SAFETY: `start` passes a parcel of this very type and does not touch it meanwhile.
    let parcel = unsafe { &mut *parcel.cast::<Parcel<W, R>>() };
    // It shares the program's descriptors: outliving it, it would keep what they hold, a lab included.
    parcel.result = match parcel.tie.hold() {
        Ok(()) => parcel.work.take().map(|work| work()),
        Err(error) => Some(Err(error)),
    };
    // SAFETY: ends this process at once; exit handlers and buffers belong to the other one.
    unsafe { libc::_exit(0) }
}

/// Memory for a stack, with a page below it that may not be touched.
struct Stack {
    base: *mut c_void,
}

const GUARD_BYTES: usize = 64 << 10;

/// One that nobody uses: to unmap it would interrupt the processor on which the child is still ending.
static SPARE: Mutex<Option<Stack>> = Mutex::new(None);

// SAFETY: it is memory that belongs to whoever has the value, in whichever thread.
unsafe impl Send for Stack {}

impl Stack {
    fn get() -> io::Result<Self> {
        let spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner).take();
        spare.map_or_else(Self::new, Ok)
    }

    /// For the next one.
    fn keep(self) {
        let surplus = SPARE.lock().unwrap_or_else(PoisonError::into_inner).replace(self);
        drop(surplus);
    }

    fn new() -> io::Result<Self> {
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::STACK;
        // SAFETY: a new anonymous mapping at a place of the kernel's choice.
        let base = unsafe {
            rustix::mm::mmap_anonymous(
                std::ptr::null_mut(),
                GUARD_BYTES + STACK_BYTES,
                ProtFlags::READ | ProtFlags::WRITE,
                flags,
            )
        }?;
        let stack = Stack { base };
        // SAFETY: the lowest pages of the mapping just made.
        unsafe { rustix::mm::mprotect(base, GUARD_BYTES, MprotectFlags::empty()) }?;
        Ok(stack)
    }

    /// Its high end: stacks grow downwards on every architecture that Rust's Linux targets have.
    fn top(&self) -> *mut c_void {
        self.base.wrapping_byte_add(GUARD_BYTES + STACK_BYTES)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: the mapping that `new` made, which nobody uses any more.
        let unmapped = unsafe { rustix::mm::munmap(self.base, GUARD_BYTES + STACK_BYTES) };
        debug_assert!(unmapped.is_ok(), "a mapping of our own can be unmapped");
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn what_a_child_says_comes_back_whether_or_not_it_is_waited_for() {
        let number = std::process::id();
        assert_ne!(run(|| Ok(std::process::id())).unwrap(), number);
        assert_ne!(run_and_leave(|| Ok(std::process::id())).unwrap(), number);
        let refused = || Err::<(), _>(io::Error::from_raw_os_error(libc::EPERM));
        assert_eq!(run(refused).unwrap_err().raw_os_error(), Some(libc::EPERM));
        let killed = || rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        assert!(run(|| Ok(killed()?)).unwrap_err().to_string().contains("was killed"));
    }

    #[test]
    fn children_that_are_left_do_not_pile_up() {
        let left = || LEFT.lock().unwrap().len();
        let deadline = Instant::now() + Duration::from_secs(10);
        for _ in 0..100 {
            run_and_leave(|| Ok(())).unwrap();
        }
        // Each is waited for once it has ended, but for the last.
        while left() > 1 {
            assert!(Instant::now() < deadline, "{} are left", left());
            run_and_leave(|| Ok(())).unwrap();
        }
    }
}
