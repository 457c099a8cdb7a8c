//! Whether a namespace that is held no more has come to its end.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// What is left of a namespace when it is let go of: its file handle (name_to_handle_at(2)), by which it can
/// be found as long as it lives, and which does not keep it alive. The kernel has such since 6.18.
#[derive(Clone, Debug)]
pub struct Trace(Handle);

/// `struct file_handle`, with room for the largest.
#[repr(C)]
#[derive(Clone, Debug)]
struct Handle {
    bytes: u32,
    kind: i32,
    data: [u8; HANDLE_BYTES],
}

/// `MAX_HANDLE_SZ` (fcntl.h).
const HANDLE_BYTES: usize = 128;
/// `FD_NSFS_ROOT` (linux/fcntl.h): instead of a descriptor of the file system, which is mounted nowhere.
const NSFS_ROOT: i32 = -10003;

impl Trace {
    /// Of an open namespace; `None`: this kernel has none.
    pub fn of(namespace: BorrowedFd<'_>) -> Option<Self> {
        // The size of an array of 128.
        const ROOM: u32 = 128;
        let mut handle = Handle { bytes: ROOM, kind: 0, data: [0; HANDLE_BYTES] };
        let mut mount = 0;
        // SAFETY: the handle says how much room it has, and the kernel writes no more; path, handle and mount
        // id live through the call.
        let result = unsafe {
            libc::name_to_handle_at(
                namespace.as_raw_fd(),
                c"".as_ptr(),
                (&raw mut handle).cast(),
                &raw mut mount,
                libc::AT_EMPTY_PATH,
            )
        };
        (result == 0).then_some(Trace(handle))
    }

    /// For a file, as long as the machine runs.
    pub fn to_bytes(&self) -> Vec<u8> {
        let length = usize::try_from(self.0.bytes).unwrap_or(0).min(HANDLE_BYTES);
        [&self.0.kind.to_ne_bytes()[..], &self.0.data[..length]].concat()
    }

    /// From what [`to_bytes`](Self::to_bytes) has made; `None`: it has not.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (kind, handle) = bytes.split_first_chunk()?;
        let mut data = [0; HANDLE_BYTES];
        data.get_mut(..handle.len())?.copy_from_slice(handle);
        Some(Trace(Handle { bytes: u32::try_from(handle.len()).ok()?, kind: i32::from_ne_bytes(*kind), data }))
    }

    /// Has nothing kept the namespace alive? `None`: the caller may not know.
    pub fn has_ended(&self) -> Option<bool> {
        let mut handle = self.0.clone();
        // SAFETY: reads the handle, which the kernel has made and which lives through the call.
        let fd =
            unsafe { libc::open_by_handle_at(NSFS_ROOT, (&raw mut handle).cast(), libc::O_RDONLY | libc::O_CLOEXEC) };
        if fd >= 0 {
            // SAFETY: the kernel just made this descriptor for us; nobody else owns it.
            drop(unsafe { OwnedFd::from_raw_fd(fd) });
            return Some(false);
        }
        (io::Error::last_os_error().raw_os_error() == Some(libc::ESTALE)).then_some(true)
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::pin;

    #[test]
    fn a_namespace_has_ended_when_it_is_let_go_of() {
        let Ok(network) = pin::make_network() else {
            println!("skipped: no rights to make a network namespace");
            return;
        };
        let Some(trace) = Trace::of(network.as_fd()) else {
            println!("skipped: this kernel has no handles of namespaces");
            return;
        };
        let trace = Trace::from_bytes(&trace.to_bytes()).unwrap();
        assert_eq!(trace.has_ended(), Some(false));
        drop(network);
        // The thread that has made it is in it until it is gone.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while trace.has_ended() != Some(true) {
            assert!(std::time::Instant::now() < deadline, "{:?}", trace.has_ended());
            std::thread::yield_now();
        }
    }
}
