//! Memory that is the kernel's as well.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;

use rustix::mm::{MapFlags, ProtFlags};

/// A file or a map of the kernel, in memory.
#[derive(Debug)]
pub(super) struct Mapping {
    start: NonNull<c_void>,
    length: usize,
}

// SAFETY: the memory belongs to the process, not to a thread; who looks at it says how.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Of which the kernel sees what is written to it.
    pub(super) fn shared(
        file: BorrowedFd<'_>,
        length: usize,
        protection: ProtFlags,
        offset: usize,
    ) -> io::Result<Self> {
        Self::make(file, length, protection, MapFlags::SHARED, offset)
    }

    /// To be read.
    pub(super) fn private(file: BorrowedFd<'_>, length: usize) -> io::Result<Self> {
        Self::make(file, length, ProtFlags::READ, MapFlags::PRIVATE, 0)
    }

    fn make(
        file: BorrowedFd<'_>,
        length: usize,
        protection: ProtFlags,
        flags: MapFlags,
        offset: usize,
    ) -> io::Result<Self> {
        // SAFETY: a new mapping, at an address of the kernel's choice, replaces none.
        let start = unsafe { rustix::mm::mmap(std::ptr::null_mut(), length, protection, flags, file, offset as u64)? };
        let start = NonNull::new(start).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Mapping { start, length })
    }

    /// Where it begins: a page, as long as `self` lives.
    pub(super) fn start(&self) -> NonNull<c_void> {
        self.start
    }

    pub(super) fn length(&self) -> usize {
        self.length
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: it was mapped with this length, and nothing borrows from it any more.
        unsafe { rustix::mm::munmap(self.start.as_ptr(), self.length) }.ok();
    }
}
