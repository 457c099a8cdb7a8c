//! Error numbers with their names.

use std::fmt;
use std::io;

/// What the kernel answered, by number: displays as `File exists (EEXIST)`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Errno(i32);

/// Linux's own number for "this combination is not supported", which it should not show but does.
const ENOTSUPP: i32 = 524;

/// Names and words for the numbers that network requests meet. The words are glibc's, written down
/// here so that a message is the same whatever the program is linked with.
const NAMES: [(i32, &str, &str); 40] = [
    (libc::EPERM, "EPERM", "Operation not permitted"),
    (libc::ENOENT, "ENOENT", "No such file or directory"),
    (libc::ESRCH, "ESRCH", "No such process"),
    (libc::EINTR, "EINTR", "Interrupted system call"),
    (libc::EIO, "EIO", "Input/output error"),
    (libc::ENXIO, "ENXIO", "No such device or address"),
    (libc::E2BIG, "E2BIG", "Argument list too long"),
    (libc::EBADF, "EBADF", "Bad file descriptor"),
    (libc::EAGAIN, "EAGAIN", "Resource temporarily unavailable"),
    (libc::ENOMEM, "ENOMEM", "Cannot allocate memory"),
    (libc::EACCES, "EACCES", "Permission denied"),
    (libc::EBUSY, "EBUSY", "Device or resource busy"),
    (libc::EEXIST, "EEXIST", "File exists"),
    (libc::EXDEV, "EXDEV", "Invalid cross-device link"),
    (libc::ENODEV, "ENODEV", "No such device"),
    (libc::ENOTDIR, "ENOTDIR", "Not a directory"),
    (libc::EINVAL, "EINVAL", "Invalid argument"),
    (libc::ENFILE, "ENFILE", "Too many open files in system"),
    (libc::EMFILE, "EMFILE", "Too many open files"),
    (libc::ENOTTY, "ENOTTY", "Inappropriate ioctl for device"),
    (libc::EFBIG, "EFBIG", "File too large"),
    (libc::ENOSPC, "ENOSPC", "No space left on device"),
    (libc::EROFS, "EROFS", "Read-only file system"),
    (libc::ERANGE, "ERANGE", "Numerical result out of range"),
    (libc::ENAMETOOLONG, "ENAMETOOLONG", "File name too long"),
    (libc::ENOSYS, "ENOSYS", "Function not implemented"),
    (libc::ELOOP, "ELOOP", "Too many levels of symbolic links"),
    (libc::EPROTONOSUPPORT, "EPROTONOSUPPORT", "Protocol not supported"),
    (libc::EMSGSIZE, "EMSGSIZE", "Message too long"),
    (libc::EOPNOTSUPP, "EOPNOTSUPP", "Operation not supported"),
    (libc::EAFNOSUPPORT, "EAFNOSUPPORT", "Address family not supported by protocol"),
    (libc::EADDRINUSE, "EADDRINUSE", "Address already in use"),
    (libc::EADDRNOTAVAIL, "EADDRNOTAVAIL", "Cannot assign requested address"),
    (libc::ENETDOWN, "ENETDOWN", "Network is down"),
    (libc::ENETUNREACH, "ENETUNREACH", "Network is unreachable"),
    (libc::ENOBUFS, "ENOBUFS", "No buffer space available"),
    (libc::ENOTCONN, "ENOTCONN", "Transport endpoint is not connected"),
    (libc::ETIMEDOUT, "ETIMEDOUT", "Connection timed out"),
    (libc::EHOSTUNREACH, "EHOSTUNREACH", "No route to host"),
    (ENOTSUPP, "ENOTSUPP", "Operation not supported by the kernel"),
];

impl Errno {
    /// Not permitted.
    pub const PERM: Errno = Errno(libc::EPERM);
    /// No such file, namespace or sysctl.
    pub const NOENT: Errno = Errno(libc::ENOENT);
    /// It exists already.
    pub const EXIST: Errno = Errno(libc::EEXIST);
    /// It is in use, or up.
    pub const BUSY: Errno = Errno(libc::EBUSY);
    /// A file, or a link to nowhere, is where a directory should be.
    pub const NOTDIR: Errno = Errno(libc::ENOTDIR);
    /// It is mounted read-only.
    pub const ROFS: Errno = Errno(libc::EROFS);
    /// The kernel does not do that.
    pub const INVAL: Errno = Errno(libc::EINVAL);
    /// The rights are missing.
    pub const ACCES: Errno = Errno(libc::EACCES);
    /// No memory is left.
    pub const NOMEM: Errno = Errno(libc::ENOMEM);
    /// No such device, or no driver for one.
    pub const NODEV: Errno = Errno(libc::ENODEV);
    /// The process may have no more files open (`RLIMIT_NOFILE`).
    pub const MFILE: Errno = Errno(libc::EMFILE);
    /// The machine may have no more files open (`fs.file-max`).
    pub const NFILE: Errno = Errno(libc::ENFILE);
    /// A limit on namespaces is reached (`user.max_net_namespaces`).
    pub const NOSPC: Errno = Errno(libc::ENOSPC);
    /// No more processes may be made (`RLIMIT_NPROC`), or something is not there yet.
    pub const AGAIN: Errno = Errno(libc::EAGAIN);
    /// Nobody has answered in time.
    pub const TIMEDOUT: Errno = Errno(libc::ETIMEDOUT);
    /// No room in a queue or a table.
    pub const NOBUFS: Errno = Errno(libc::ENOBUFS);
    /// A message that the kernel sent cannot be understood.
    pub const BADMSG: Errno = Errno(libc::EBADMSG);

    /// From the number itself, without a sign.
    pub const fn from_raw(number: i32) -> Self {
        Errno(number)
    }

    /// The number.
    pub const fn raw(self) -> i32 {
        self.0
    }

    /// Its name in the manual pages, where it has one: `EEXIST`.
    pub fn name(self) -> Option<&'static str> {
        self.row().map(|&(_, name, _)| name)
    }

    /// Does it say that this kernel lacks what was asked for?
    pub fn is_unsupported(self) -> bool {
        matches!(self.0, libc::EOPNOTSUPP | libc::EAFNOSUPPORT | libc::EPROTONOSUPPORT | libc::ENOSYS | ENOTSUPP)
    }

    fn row(self) -> Option<&'static (i32, &'static str, &'static str)> {
        NAMES.iter().find(|(number, ..)| *number == self.0)
    }
}

impl From<io::Error> for Errno {
    fn from(error: io::Error) -> Self {
        Errno(error.raw_os_error().unwrap_or(libc::EIO))
    }
}

impl From<rustix::io::Errno> for Errno {
    fn from(errno: rustix::io::Errno) -> Self {
        Errno(errno.raw_os_error())
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.row() {
            Some((_, name, words)) => write!(f, "{words} ({name})"),
            None => write!(f, "error number {}", self.0),
        }
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "Errno({})", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_shown_with_words_and_name() {
        assert_eq!(Errno::EXIST.to_string(), "File exists (EEXIST)");
        assert_eq!(Errno::from_raw(9999).to_string(), "error number 9999");
        assert!(Errno::from_raw(524).is_unsupported());
        let mut numbers = NAMES.map(|(number, ..)| number);
        numbers.sort_unstable();
        assert!(numbers.windows(2).all(|pair| pair[0] != pair[1]), "a number is listed twice");
    }
}
