//! bpf(2), as far as it is used here.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use super::program::Instruction;

// Commands (linux/bpf.h).
const MAP_CREATE: libc::c_long = 0;
const MAP_UPDATE_ELEM: libc::c_long = 2;
const PROG_LOAD: libc::c_long = 5;
const RAW_TRACEPOINT_OPEN: libc::c_long = 17;

const PROG_TYPE_RAW_TRACEPOINT: u32 = 17;

/// A kind of map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Map {
    /// A set of numbers of 32 bits.
    Numbers,
    /// A ring buffer.
    Ring,
}

/// Makes a map for so many numbers, or a ring buffer of so many bytes.
pub(super) fn make_map(kind: Map, size: u32) -> io::Result<OwnedFd> {
    const HASH: u32 = 1;
    const RINGBUF: u32 = 27;
    #[repr(C)]
    struct Attributes {
        kind: u32,
        key_bytes: u32,
        value_bytes: u32,
        size: u32,
        flags: u32,
    }
    let attributes = match kind {
        // All memory is taken now. Before Linux 6.1 the kernel warns of a program at a tracepoint whose map takes it
        // later, and does not load it where it is a real-time kernel.
        Map::Numbers => Attributes { kind: HASH, key_bytes: 4, value_bytes: 4, size, flags: 0 },
        Map::Ring => Attributes { kind: RINGBUF, key_bytes: 0, value_bytes: 0, size, flags: 0 },
    };
    call_for_file(MAP_CREATE, &attributes)
}

/// Adds a number to a set.
pub(super) fn add_number(map: BorrowedFd<'_>, number: u32) -> io::Result<()> {
    #[repr(C)]
    struct Attributes {
        map: RawFd,
        unused: u32,
        key: u64,
        value: u64,
        flags: u64,
    }
    let value: u32 = 1;
    let (key, value) = ((&raw const number).expose_provenance() as u64, (&raw const value).expose_provenance() as u64);
    call(MAP_UPDATE_ELEM, &Attributes { map: map.as_raw_fd(), unused: 0, key, value, flags: 0 }).map(|_zero| ())
}

/// Loads a program for a tracepoint. The kernel checks that it ends, and reads nothing that it may not.
pub(super) fn load(code: &[Instruction]) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Attributes {
        kind: u32,
        count: u32,
        instructions: u64,
        license: u64,
        log_level: u32,
        log_bytes: u32,
        log: u64,
        kernel_version: u32,
        flags: u32,
        name: [u8; 16],
    }
    /// One that the kernel takes for free enough to read its memory; hop's own has no line in its list.
    const LICENSE: &CStr = c"Dual MIT/GPL";
    call_for_file(
        PROG_LOAD,
        &Attributes {
            kind: PROG_TYPE_RAW_TRACEPOINT,
            count: u32::try_from(code.len()).map_err(io::Error::other)?,
            instructions: code.as_ptr().expose_provenance() as u64,
            license: LICENSE.as_ptr().expose_provenance() as u64,
            log_level: 0,
            log_bytes: 0,
            log: 0,
            kernel_version: 0,
            flags: 0,
            name: *b"hop_why_drops\0\0\0",
        },
    )
}

/// Lets a program run at a tracepoint as long as what is returned is open.
pub(super) fn attach(program: BorrowedFd<'_>, tracepoint: &CStr) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Attributes {
        name: u64,
        program: RawFd,
        unused: u32,
    }
    let name = tracepoint.as_ptr().expose_provenance() as u64;
    call_for_file(RAW_TRACEPOINT_OPEN, &Attributes { name, program: program.as_raw_fd(), unused: 0 })
}

/// `attributes` is the part of `union bpf_attr` that belongs to the command; what it points to is alive.
fn call<A>(command: libc::c_long, attributes: &A) -> io::Result<RawFd> {
    // SAFETY: the attributes and what they point to live through the call, and their size is given; the kernel
    // takes what is behind them as zero, and writes to none of them for the commands above.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<A>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { RawFd::try_from(result).map_err(io::Error::other) }
}

fn call_for_file<A>(command: libc::c_long, attributes: &A) -> io::Result<OwnedFd> {
    let fd = call(command, attributes)?;
    // SAFETY: the kernel just made this descriptor for us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_takes_its_memory_before_a_program_runs() {
        let Ok(map) = make_map(Map::Numbers, 8) else {
            println!("skipped: no rights to make a map");
            return;
        };
        let told = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", map.as_raw_fd())).unwrap();
        assert!(told.lines().any(|line| line == "map_flags:\t0x0"), "{told}");
    }
}
