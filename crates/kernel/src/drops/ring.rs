//! A ring buffer that a program in the kernel writes and this process reads (kernel documentation: bpf/ringbuf).
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use rustix::mm::ProtFlags;

use super::mapping::Mapping;

/// A page with how far was read; a page with how far was written, and behind it the data, twice, so
/// that a record which goes round the end is whole.
#[derive(Debug)]
pub(super) struct Ring {
    /// What the kernel writes to.
    map: OwnedFd,
    read: Mapping,
    written: Mapping,
    /// Of the data: a power of two.
    size: usize,
}

/// Before a record: its length and two flags, and a word for the kernel.
const HEADER_BYTES: usize = 8;
/// It is still being written.
const BUSY: u32 = 1 << 31;
/// It was given up.
const DISCARDED: u32 = 1 << 30;

impl Ring {
    /// Of a map of `size` bytes.
    pub(super) fn of(map: OwnedFd, size: usize) -> io::Result<Self> {
        let page = rustix::param::page_size();
        let read = Mapping::shared(map.as_fd(), page, ProtFlags::READ | ProtFlags::WRITE, 0)?;
        let written = Mapping::shared(map.as_fd(), page + 2 * size, ProtFlags::READ, page)?;
        Ok(Ring { map, read, written, size })
    }

    /// Takes the next record of `N` bytes, if one is there.
    pub(super) fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let page = rustix::param::page_size();
        // SAFETY: both pages begin with a counter of 64 bits, are mapped as long as `self` lives, and the kernel
        // changes them only as a whole.
        let (read, written) = unsafe {
            (self.read.start().cast::<AtomicU64>().as_ref(), self.written.start().cast::<AtomicU64>().as_ref())
        };
        loop {
            let at = read.load(Ordering::Relaxed);
            if at == written.load(Ordering::Acquire) {
                return None;
            }
            let place = usize::try_from(at).ok()? & (self.size - 1);
            // SAFETY: records begin at multiples of eight below `size`, behind the first page; the mapping has two
            // times `size` bytes there.
            let header = unsafe { self.written.start().byte_add(page + place) };
            // SAFETY: the header begins with a word that the kernel sets as a whole.
            let word = unsafe { header.cast::<AtomicU32>().as_ref() }.load(Ordering::Acquire);
            if word & BUSY != 0 {
                return None;
            }
            let length = (word & !(BUSY | DISCARDED)) as usize;
            let whole = (HEADER_BYTES + length).next_multiple_of(8);
            let found = (word & DISCARDED == 0 && length == N).then(|| {
                // SAFETY: the record has `N` bytes behind its header, all of them mapped as above and written
                // before the flag was cleared; the kernel leaves them alone until `read` has passed them.
                unsafe { header.byte_add(HEADER_BYTES).cast::<[u8; N]>().read_unaligned() }
            });
            read.store(at + whole as u64, Ordering::Release);
            if found.is_some() {
                return found;
            }
        }
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.map.as_fd()
    }
}
