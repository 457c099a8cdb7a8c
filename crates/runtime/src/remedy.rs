//! The way out of what keeps labs and sandboxes from running on a machine: a module that is not loaded, a limit, or
//! what takes namespaces away from ordinary users.

use std::fs;
use std::io;

use hopyard_kernel::{Errno, rights};
use hopyard_net::{Family, Op};

use crate::apparmor;
use crate::error::Error;
use crate::sandbox::RunError;
use crate::wanted::NO_IPV6;

/// What to do about an error, where the machine is to blame and it is known how.
pub fn remedy(error: &Error) -> Option<String> {
    if let Some(modules) = missing_modules(error) {
        return Some(load(modules));
    }
    if is_of_ipv6(error) && !rights::has_ipv6() {
        return Some(NO_IPV6.to_owned());
    }
    if is_of_proc_or_sys(error) {
        return Some(WHOLE_PROC_AND_SYS.to_owned());
    }
    match errno_of(error)? {
        Errno::ROFS if is_of_setting(error) => Some(WRITABLE_SETTINGS.to_owned()),
        Errno::NOSPC => used_up(),
        Errno::PERM | Errno::ACCES if !rights::is_privileged() => forbidden(error),
        _ => None,
    }
}

fn errno_of(error: &Error) -> Option<Errno> {
    match error {
        Error::Step { error, .. } => Some(error.errno()),
        Error::Kernel(error) => Some(error.errno()),
        Error::System(failure) => failure.errno(),
        _ => None,
    }
}

/// The same for what a sandbox needs besides what a lab needs.
pub fn sandbox_remedy(error: &RunError) -> Option<String> {
    /// What the gate is made of beyond links.
    const FIREWALL: [&str; 4] = ["add table", "add chain", "add a rule", "the firewall"];
    let RunError::Runtime(error) = error else { return None };
    match error {
        // How nf_tables says that it lacks a part, or that it is not there itself.
        Error::System(failure) if FIREWALL.iter().any(|part| failure.doing.contains(part)) => {
            Some(load("-a nf_tables nft_tproxy"))
        }
        Error::System(failure) if failure.errno().is_some_and(Errno::is_unsupported) => Some(load("veth")),
        error => remedy(error),
    }
}

/// The same for /dev/net/tun, which cannot be opened.
pub fn tun_remedy(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "as root: chmod 0666 /dev/net/tun, as most systems have it".to_owned(),
        // Some have the file, and load the module when it is opened.
        _ => load("tun"),
    }
}

fn load(modules: &str) -> String {
    format!("as root: modprobe {modules}; if there is no such module, the kernel was built without it")
}

/// The modules of the kernel that a lab misses. It loads them by itself, where it may.
fn missing_modules(error: &Error) -> Option<&'static str> {
    match error {
        Error::Step { op, error, .. } if error.is_unsupported() => match **op {
            Op::AddVeth { .. } => Some("veth"),
            Op::AddBridge(_) => Some("bridge"),
            Op::SetNat { .. } => Some("-a nft_chain_nat nft_nat nft_masq nft_ct"),
            _ => None,
        },
        // mount(2): a file system that the kernel does not have. The keeper mounts tmpfs, proc and this one.
        Error::System(failure) if failure.errno() == Some(Errno::NODEV) => Some("overlay"),
        _ => None,
    }
}

/// Was it a step that takes IPv6?
fn is_of_ipv6(error: &Error) -> bool {
    let Error::Step { op, .. } = error else { return false };
    match &**op {
        Op::AddAddr { addr, .. } => addr.addr().is_ipv6(),
        Op::SetRoute { route, .. } => Family::of(route.key.prefix.addr()) == Family::Ipv6,
        Op::SetSysctl { key, .. } => key.as_str().starts_with("net.ipv6."),
        _ => false,
    }
}

fn setting(name: &str) -> Option<u64> {
    fs::read_to_string(format!("/proc/sys/{name}")).ok()?.trim().parse().ok()
}

/// A limit that is 0 (namespaces(7)): another one that was reached is `hop doctor`'s to tell.
fn used_up() -> Option<String> {
    const KINDS: [&str; 6] = ["net", "mnt", "pid", "uts", "ipc", "cgroup"];
    // Root takes no user namespace.
    let user = (!rights::is_privileged()).then_some("user");
    let mut names = user.into_iter().chain(KINDS).map(|kind| format!("max_{kind}_namespaces"));
    let name = names.find(|name| setting(&format!("user/{name}")) == Some(0))?;
    Some(set(&format!("user.{name}"), 10000))
}

/// What takes user namespaces, or their rights, away from an ordinary user.
fn forbidden(error: &Error) -> Option<String> {
    if setting("kernel/unprivileged_userns_clone") == Some(0) {
        return Some(set("kernel.unprivileged_userns_clone", 1));
    }
    if let Some(fix) = apparmor::remedy() {
        return Some(fix);
    }
    match error {
        Error::System(failure) if failure.errno() == Some(Errno::PERM) => Some(
            "a container or a seccomp filter forbids namespaces here: run it with --privileged, or run hop outside of it"
                .to_owned(),
        ),
        _ => None,
    }
}

/// What to do about a setting of the kernel, now and for good.
pub(crate) fn set(key: &str, value: u64) -> String {
    format!(
        "as root: sysctl -w {key}={value}\n\
         to keep that when the machine starts again: echo {key}={value} >>/etc/sysctl.d/90-hop.conf"
    )
}

/// The kernel makes a new /proc or /sys for those alone who see all of the old one.
pub(crate) const WHOLE_PROC_AND_SYS: &str = "/proc and /sys must be there, and nothing mounted over parts of them: in a \
     container that takes `--privileged`";

const WRITABLE_SETTINGS: &str = "/proc/sys is mounted read-only: as root, `mount -o remount,rw /proc/sys`; a container takes \
     `--privileged`";

/// Was a setting of a network to be written?
fn is_of_setting(error: &Error) -> bool {
    let doing = match error {
        Error::Step { op, .. } => return matches!(**op, Op::SetSysctl { .. }),
        Error::Kernel(error) => error.doing.as_str(),
        Error::System(failure) => &failure.doing,
        _ => return false,
    };
    doing.starts_with("set net.")
}

/// Was it a mount of /proc or /sys?
fn is_of_proc_or_sys(error: &Error) -> bool {
    let Error::System(failure) = error else { return false };
    failure.errno() == Some(Errno::PERM)
        && failure.doing.starts_with("mount ")
        && ["/proc", "/sys"].iter().any(|path| failure.doing.contains(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_that_the_kernel_lacks_is_named() {
        let at = hopyard_net::Endpoint { ns: "hub".parse().unwrap(), dev: "br0".parse().unwrap() };
        let op = Op::AddBridge(at);
        let refused = |errno| hopyard_kernel::KernelError {
            op: Some(Box::new(op.clone())),
            doing: op.purpose(),
            errno,
            kernel_said: None,
            offset: None,
        };
        let step = |errno| Error::Step {
            op: Box::new(op.clone()),
            origin: None,
            error: Box::new(refused(errno)),
            done: (0, 1),
            was_running: false,
        };
        let fix = remedy(&step(Errno::from_raw(95)));
        assert!(fix.as_ref().is_some_and(|fix| fix.contains("modprobe bridge")), "{fix:?}");
        assert_eq!(missing_modules(&step(Errno::EXIST)), None);
    }
}
