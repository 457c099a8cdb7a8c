//! Giving up for good what a process could leave its sandbox with.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use rustix::thread::CapabilitySets;

use crate::Failure;
use crate::failure::Doing;

/// Gives up all capabilities, in every set in which they could come back; from here on no program has more
/// rights than who starts it (`no_new_privs`), none opens a socket that no network namespace holds, and none signals
/// a process outside. `control_groups`: nor makes any a namespace of control groups.
///
/// Of root what is left is that it owns files.
pub(super) fn confine(control_groups: bool) -> Result<(), Failure> {
    const DOING: &str = "give up all capabilities";
    // Root's programs have no capabilities by being root's, and nobody changes that again (capabilities(7)). Who wants
    // to keep capabilities when the user changes may say so, as ping does: there are none.
    const SECURE_BITS: libc::c_ulong = 0b1100_1111;
    rustix::thread::set_no_new_privs(true).doing("forbid new privileges")?;
    rustix::thread::clear_ambient_capability_set().doing(DOING)?;
    prctl(libc::PR_SET_SECUREBITS, SECURE_BITS).doing(DOING)?;
    for capability in 0.. {
        match prctl(libc::PR_CAPBSET_DROP, capability) {
            // Behind the last one that this kernel has.
            Err(error) if capability > 0 && error.raw_os_error() == Some(libc::EINVAL) => break,
            dropped => dropped.doing(DOING)?,
        }
    }
    let none = rustix::thread::CapabilitySet::empty();
    rustix::thread::set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })
        .doing(DOING)?;
    let groups =
        if keep_signals_inside().doing("keep signals in the sandbox")? { Groups::Open } else { Groups::Closed };
    filter_calls(groups, control_groups).doing("forbid what no namespace confines")
}

/// May a process signal its group (`kill(0, …)`)?
///
/// The command is in the group of `hop`, so that the terminal and the shell treat both as one job. No pid namespace
/// keeps a signal to the group from those of it who are outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Groups {
    /// Something else sees to it that this reaches nobody outside.
    Open,
    /// Nothing else does.
    Closed,
}

/// No process of the sandbox signals one outside, nor connects to an abstract socket outside, by whatever socket it
/// has (Landlock's scopes, landlock(7)). False: this kernel has no such thing, which came with Linux 6.12, or no more.
fn keep_signals_inside() -> io::Result<bool> {
    /// linux/landlock.h
    #[repr(C)]
    struct Ruleset {
        handled_access_fs: u64,
        handled_access_net: u64,
        scoped: u64,
    }
    const CREATE_RULESET_VERSION: u32 = 1;
    const FIRST_WITH_SCOPES: libc::c_long = 6;
    const SCOPE_ABSTRACT_UNIX_SOCKET: u64 = 1;
    const SCOPE_SIGNAL: u64 = 2;
    // SAFETY: with this flag there is no ruleset to read.
    let version = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<Ruleset>(), 0_usize, CREATE_RULESET_VERSION)
    };
    // It may also be switched off, or refused by a filter around this process.
    if version < FIRST_WITH_SCOPES {
        return Ok(false);
    }
    let ruleset =
        Ruleset { handled_access_fs: 0, handled_access_net: 0, scoped: SCOPE_ABSTRACT_UNIX_SOCKET | SCOPE_SIGNAL };
    // SAFETY: the ruleset lives through the call, and its size is given.
    let made =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, &raw const ruleset, size_of_val(&ruleset), 0_u32) };
    let made = i32::try_from(made).map_err(io::Error::other)?;
    if made < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call above has made this descriptor, and nobody else has it.
    let made = unsafe { OwnedFd::from_raw_fd(made) };
    // SAFETY: takes numbers.
    if unsafe { libc::syscall(libc::SYS_landlock_restrict_self, made.as_raw_fd(), 0_u32) } == 0 {
        return Ok(true);
    }
    match io::Error::last_os_error() {
        // This process stands in as many of them as there can be.
        error if error.raw_os_error() == Some(libc::E2BIG) => Ok(false),
        error => Err(error),
    }
}

fn prctl(option: libc::c_int, value: libc::c_ulong) -> io::Result<()> {
    // SAFETY: these options take a number and touch no memory.
    if unsafe { libc::prctl(option, value, 0, 0, 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// `AUDIT_ARCH_…` (linux/audit.h) of the system calls that this program makes.
const ARCHITECTURE: Option<u32> = if cfg!(target_arch = "x86_64") {
    Some(0xc000_003e)
} else if cfg!(target_arch = "aarch64") {
    Some(0xc000_00b7)
} else if cfg!(target_arch = "riscv64") {
    Some(0xc000_00f3)
} else {
    None
};

/// Families that a network namespace confines. Not, above all, vsock(7), which leads to the hypervisor
/// from everywhere.
const FAMILIES: [i32; 5] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK, libc::AF_PACKET];

/// A filter of system calls (seccomp(2)), which all programs of the sandbox inherit:
///
/// * socket(2) and socketpair(2) of the families above only, and io_uring, which makes sockets past every filter, not
///   at all;
/// * no keyrings (keyrings(7)): no namespace holds those of the caller, and for a key that is missing the kernel runs
///   /sbin/request-key in the first namespaces, which asks the machine's name servers (request_key(2));
/// * no input is typed into the terminal (`TIOCSTI`, `TIOCLINUX`), which a shell outside would read;
/// * no namespace of control groups, where one would be a way to those outside: who makes a user namespace besides mounts them anew,
///   and stops or kills what is in them. Of clone3(2) no filter sees what is asked for; programs know how to do without it;
/// * no signal to the own group, where those of it who are outside would get it;
/// * system calls of another architecture fail: this filter knows the numbers of one.
fn filter_calls(groups: Groups, control_groups: bool) -> io::Result<()> {
    /// Offsets in `struct seccomp_data`; the low half of an argument comes first in little endian.
    const NUMBER: u32 = 0;
    const ARCH: u32 = 4;
    const FIRST: u32 = 16;
    const SECOND: u32 = 24;
    /// x32: the same architecture with other numbers.
    const X32: u32 = 0x4000_0000;
    const TIOCLINUX: u32 = 0x541c;
    let architecture = ARCHITECTURE.ok_or(io::ErrorKind::Unsupported)?;
    let mut program = Program::default();
    program.load(ARCH);
    program.unless_equal_return(architecture, libc::ENOSYS);
    program.load(NUMBER);
    if cfg!(target_arch = "x86_64") {
        program.if_at_least_return(X32, libc::ENOSYS);
    }
    for call in [libc::SYS_io_uring_setup, libc::SYS_request_key, libc::SYS_add_key, libc::SYS_keyctl] {
        program.if_equal_return(number(call), libc::EPERM);
    }
    if control_groups {
        program.if_equal_return(number(libc::SYS_clone3), libc::ENOSYS);
        for call in [libc::SYS_clone, libc::SYS_unshare] {
            program.unless_equal_skip(number(call), 4);
            program.load(FIRST);
            program.unless_any_skip(libc::CLONE_NEWCGROUP.cast_unsigned(), 1);
            program.refuse(libc::EPERM);
            program.permit();
        }
    }
    for call in [libc::SYS_socket, libc::SYS_socketpair] {
        // Behind the check: the load of the argument, one comparison a family, the refusal, the permission.
        program.unless_equal_skip(number(call), u8::try_from(FAMILIES.len()).unwrap_or(u8::MAX) + 3);
        program.load(FIRST);
        for (at, family) in FAMILIES.iter().enumerate() {
            program.if_equal_skip(family.cast_unsigned(), u8::try_from(FAMILIES.len() - at).unwrap_or(u8::MAX));
        }
        program.refuse(libc::EAFNOSUPPORT);
        program.permit();
    }
    if groups == Groups::Closed {
        program.unless_equal_skip(number(libc::SYS_kill), 4);
        program.load(FIRST);
        program.unless_equal_skip(0, 1);
        program.refuse(libc::EPERM);
        program.permit();
    }
    program.unless_equal_skip(number(libc::SYS_ioctl), 4);
    program.load(SECOND);
    program.if_equal_skip(u32::try_from(libc::TIOCSTI).unwrap_or(u32::MAX), 1);
    program.unless_equal_skip(TIOCLINUX, 1);
    program.refuse(libc::EPERM);
    program.permit();
    program.install()
}

fn number(call: libc::c_long) -> u32 {
    u32::try_from(call).unwrap_or(u32::MAX)
}

/// Instructions of classic BPF.
#[derive(Default)]
struct Program(Vec<libc::sock_filter>);

impl Program {
    fn push(&mut self, code: u32, jump_if: u8, jump_else: u8, value: u32) {
        let code = u16::try_from(code).unwrap_or(u16::MAX);
        self.0.push(libc::sock_filter { code, jt: jump_if, jf: jump_else, k: value });
    }

    fn load(&mut self, offset: u32) {
        self.push(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, offset);
    }

    fn if_equal_skip(&mut self, value: u32, count: u8) {
        self.push(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, count, 0, value);
    }

    fn unless_equal_skip(&mut self, value: u32, count: u8) {
        self.push(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, count, value);
    }

    fn unless_any_skip(&mut self, bits: u32, count: u8) {
        self.push(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, 0, count, bits);
    }

    fn if_equal_return(&mut self, value: u32, errno: i32) {
        self.unless_equal_skip(value, 1);
        self.refuse(errno);
    }

    fn unless_equal_return(&mut self, value: u32, errno: i32) {
        self.if_equal_skip(value, 1);
        self.refuse(errno);
    }

    fn if_at_least_return(&mut self, value: u32, errno: i32) {
        self.push(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 0, 1, value);
        self.refuse(errno);
    }

    fn refuse(&mut self, errno: i32) {
        self.push(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | errno.cast_unsigned());
    }

    fn permit(&mut self) {
        self.push(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW);
    }

    fn install(mut self) -> io::Result<()> {
        let program = libc::sock_fprog {
            len: u16::try_from(self.0.len()).map_err(io::Error::other)?,
            filter: self.0.as_mut_ptr(),
        };
        // SAFETY: the program lives through the call; its length is given. Speculation stays as it is, for
        // no secret is kept from the confined process in its own memory.
        let set = unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
                &raw const program,
            )
        };
        if set != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a check in a process of its own, which gives up its rights first. Only system calls are made in it.
    fn confined(check: impl FnOnce() -> bool) {
        // SAFETY: the child makes system calls alone, and ends by _exit.
        let status = unsafe {
            let child = libc::fork();
            if child == 0 {
                // As an ordinary user there are no capabilities to give up without a user namespace.
                let ready =
                    rustix::thread::set_no_new_privs(true).is_ok() && filter_calls(Groups::Closed, true).is_ok();
                libc::_exit(i32::from(!(ready && check())));
            }
            let mut status = 0;
            libc::waitpid(child, &raw mut status, 0);
            status
        };
        assert_eq!(status, 0);
    }

    fn socket(family: i32) -> i32 {
        // SAFETY: takes numbers.
        match unsafe { libc::socket(family, libc::SOCK_STREAM, 0) } {
            -1 => io::Error::last_os_error().raw_os_error().unwrap_or(0),
            _ => 0,
        }
    }

    #[test]
    fn sockets_are_of_families_that_a_namespace_holds() {
        confined(|| socket(libc::AF_UNIX) == 0 && socket(libc::AF_INET) == 0);
        confined(|| socket(libc::AF_VSOCK) == libc::EAFNOSUPPORT && socket(libc::AF_ALG) == libc::EAFNOSUPPORT);
        confined(|| {
            // SAFETY: takes numbers and a null pointer.
            let ring = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, std::ptr::null::<u8>()) };
            ring == -1 && io::Error::last_os_error().raw_os_error() == Some(libc::EPERM)
        });
    }

    #[test]
    fn control_groups_are_those_outside() {
        let errno = || io::Error::last_os_error().raw_os_error();
        // SAFETY: takes numbers.
        let unshare = |flags| unsafe { libc::unshare(flags) };
        confined(|| unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWCGROUP) == -1 && errno() == Some(libc::EPERM));
        confined(|| unshare(libc::CLONE_FS) == 0);
        // SAFETY: without flags and a stack it is fork(2); the child ends at once.
        let clone = |flags: i32| unsafe {
            let pid = libc::syscall(libc::SYS_clone, libc::c_long::from(flags | libc::SIGCHLD), 0, 0, 0, 0);
            if pid == 0 {
                libc::_exit(0);
            }
            pid
        };
        confined(|| clone(libc::CLONE_NEWUSER | libc::CLONE_NEWCGROUP) == -1 && errno() == Some(libc::EPERM));
        confined(|| clone(0) > 0);
        // SAFETY: there are no arguments to read.
        let clone3 = || unsafe { libc::syscall(libc::SYS_clone3, std::ptr::null::<u8>(), 0_usize) };
        confined(|| clone3() == -1 && errno() == Some(libc::ENOSYS));
    }

    #[test]
    fn keys_are_not_reached() {
        /// keyctl(2)
        const GET_KEYRING_ID: libc::c_long = 0;
        const PROCESS_KEYRING: libc::c_long = -2;
        let refused = |made: libc::c_long| made == -1 && io::Error::last_os_error().raw_os_error() == Some(libc::EPERM);
        let (kind, name) = (c"user".as_ptr(), c"hopyard".as_ptr());
        // SAFETY: the strings live and end; no payload is given, and none is asked for.
        confined(|| refused(unsafe { libc::syscall(libc::SYS_request_key, kind, name, name, PROCESS_KEYRING) }));
        // SAFETY: likewise.
        confined(|| refused(unsafe { libc::syscall(libc::SYS_add_key, kind, name, name, 1, PROCESS_KEYRING) }));
        // SAFETY: takes numbers.
        confined(|| refused(unsafe { libc::syscall(libc::SYS_keyctl, GET_KEYRING_ID, PROCESS_KEYRING, 1) }));
    }

    #[test]
    fn the_own_group_gets_no_signal_where_it_would_leave_the_sandbox() {
        // SAFETY: the signal 0 only asks whether there is somebody.
        let asks = |pid: i32| unsafe { libc::kill(pid, 0) };
        confined(|| asks(0) == -1 && io::Error::last_os_error().raw_os_error() == Some(libc::EPERM));
        // SAFETY: takes nothing.
        confined(|| asks(unsafe { libc::getpid() }) == 0);
    }

    #[test]
    fn nobody_types_into_the_terminal() {
        /// asm-generic/ioctls.h
        const TIOCSTI: u64 = 0x5412;
        const TIOCGWINSZ: u64 = 0x5413;
        const TIOCLINUX: u64 = 0x541c;
        let refused = |request: u64| {
            // SAFETY: the pointer is to a byte that lives; another descriptor than a terminal's refuses it.
            let typed = unsafe { libc::ioctl(0, request as _, c"x".as_ptr()) };
            typed == -1 && io::Error::last_os_error().raw_os_error() == Some(libc::EPERM)
        };
        confined(|| refused(TIOCSTI) && refused(TIOCLINUX));
        // The kernel takes 32 bits of it.
        confined(|| refused(TIOCSTI | 1 << 32));
        confined(|| !refused(TIOCGWINSZ));
    }
}
