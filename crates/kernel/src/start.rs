//! How a program starts: as Rust's own does, but without the bounds of its stack.
//!
//! The standard library reads them from /proc/self/maps, so as to say of a segmentation fault that it is a stack which
//! has overflowed. A command that takes a millisecond spends a sixth of it on that.
#![allow(unsafe_code)]

use std::io;

/// Makes a `fn() -> u8`, which returns the exit status, what the program runs. Where the C library is glibc, it is called
/// without the standard library's preparations, and the crate needs
/// `#![cfg_attr(all(target_env = "gnu", not(test)), no_main)]`. musl does not read a file for the bounds of the stack, and
/// hands the arguments to `main` alone.
#[macro_export]
macro_rules! main {
    ($run:path) => {
        #[cfg(all(target_env = "gnu", not(test)))]
        // SAFETY: the name is that of the C library, and so is the type; there is no other one, the crate being `no_main`.
        #[unsafe(no_mangle)]
        extern "C" fn main(_: std::ffi::c_int, _: *const *const std::ffi::c_char) -> std::ffi::c_int {
            $crate::start($run)
        }

        #[cfg(not(all(target_env = "gnu", not(test))))]
        fn main() -> std::process::ExitCode {
            $run().into()
        }
    };
}

/// The status of a program that has panicked.
const PANICKED: u8 = 101;

/// What the standard library does before and after `main`, but for the bounds of the stack.
pub fn start(run: fn() -> u8) -> ! {
    open_standard_streams();
    // A pipe that nobody reads is an error of who writes, and not its end.
    // SAFETY: it is ignored, so no handler runs; no other thread is there yet.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    let status = std::panic::catch_unwind(run).unwrap_or(PANICKED);
    // Writes what is still to be written to the standard output.
    std::process::exit(status.into())
}

/// What is opened later must not become a standard stream, and be written to as such.
fn open_standard_streams() {
    for stream in 0..3 {
        // SAFETY: asks for the flags of a descriptor, whether it is open or not.
        let is_closed = unsafe { libc::fcntl(stream, libc::F_GETFD) } == -1
            && io::Error::last_os_error().raw_os_error() == Some(libc::EBADF);
        // SAFETY: the path lives through the call. The new descriptor is the lowest one, and stays open.
        if is_closed && unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) } == -1 {
            std::process::abort();
        }
    }
}
