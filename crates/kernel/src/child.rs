//! Work in a process of its own, for what a thread may not do: join a user namespace, or leave others
//! to free a mount namespace.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::io;

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags};

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
    let (result, pid) = start(work)?;
    wait(pid)?;
    result
}

/// The same, but does not wait until the kernel has freed what the process alone had: of a mount
/// namespace that takes a millisecond. Whoever inherits orphans gets to know of its end.
///
/// # Errors
/// As for [`run`].
pub(crate) fn run_and_leave<W: FnOnce() -> io::Result<R>, R>(work: W) -> io::Result<R> {
    // The process between has nothing to free, and when it ends the other one is nobody's child.
    run(|| start(work)?.0)
}

/// Returns when the child is done with the memory of this process: what it returned, and its number.
fn start<W: FnOnce() -> io::Result<R>, R>(work: W) -> io::Result<(io::Result<R>, libc::pid_t)> {
    let stack = Stack::new()?;
    let mut parcel = Parcel { tie: Tie::to_caller()?, work: Some(work), result: None };
    // No CLONE_FS and no CLONE_THREAD: only a process of one thread with a root directory of its own
    // may join a user namespace. No exit signal: the program's own SIGCHLD handling is not disturbed.
    let flags = libc::CLONE_VM | libc::CLONE_FILES | libc::CLONE_VFORK;
    // SAFETY: the child runs `child_main` on a stack of its own that outlives it, and `parcel` is
    // used by the child alone until it has ended: CLONE_VFORK suspends this thread until then. The
    // child uses this thread's thread-local storage, which this thread cannot touch meanwhile.
    let pid = unsafe { libc::clone(child_main::<W, R>, stack.top(), flags, (&raw mut parcel).cast::<c_void>()) };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    let killed = || Err(io::Error::other("the process that was to do it was killed"));
    Ok((parcel.result.unwrap_or_else(killed), pid))
}

fn wait(pid: libc::pid_t) -> io::Result<()> {
    loop {
        let mut status = 0;
        // SAFETY: waits for a child that `start` has made; __WALL because it has no exit signal.
        let waited = unsafe { libc::waitpid(pid, &raw mut status, libc::__WALL) };
        if waited == pid {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
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

impl Stack {
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
