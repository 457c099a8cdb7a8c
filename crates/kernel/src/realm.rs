//! Where namespaces may be made and entered: with the rights of the caller, or those that the owner
//! of a user namespace has in it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use rustix::thread::{LinkNameSpaceType, ThreadNameSpaceType, move_into_link_name_space, move_into_thread_name_spaces};

use crate::child;
use crate::failure::Doing;

/// The rights with which the namespaces of a lab are made and entered.
///
/// As root: the caller's own. As an ordinary user: those in the user namespace of the lab, which
/// only a process of one thread can join (user_namespaces(7)); so that a library can do it from any
/// thread of any program, the work is done in a child process that shares this one's memory.
///
/// Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Realm {
    foreign: Option<Arc<Foreign>>,
}

/// A user namespace that the caller is not in.
#[derive(Debug)]
struct Foreign {
    user_namespace: OwnedFd,
    /// A process in it, whose mount and pid namespace belong to it as well.
    member: Option<OwnedFd>,
}

impl Realm {
    /// The caller's own rights.
    pub fn host() -> Self {
        Realm::default()
    }

    /// Those that the caller has in a user namespace that it owns. `member` is a pidfd of a process
    /// in it: its mount and pid namespace are joined too, because only there a file system (a procfs
    /// for the sysctls of many namespaces) can be mounted.
    pub fn of_user_namespace(user_namespace: OwnedFd, member: Option<OwnedFd>) -> Self {
        Realm { foreign: Some(Arc::new(Foreign { user_namespace, member })) }
    }

    /// Those with which the caller can enter a network namespace: its own, or those that it has in the user
    /// namespace that the network belongs to, as with its own containers.
    ///
    /// # Errors
    /// Those of fstat(2). Whether the rights are enough shows when they are used.
    pub fn for_network(network: BorrowedFd<'_>) -> io::Result<Self> {
        if crate::rights::is_privileged() {
            return Ok(Self::host());
        }
        // One that is not below the caller's is nothing to join.
        let Ok(owner) = crate::pin::owner_of(network) else { return Ok(Self::host()) };
        let own = rustix::fs::stat("/proc/self/ns/user")?;
        let there = rustix::fs::fstat(&owner)?;
        let same = (own.st_dev, own.st_ino) == (there.st_dev, there.st_ino);
        Ok(if same { Self::host() } else { Self::of_user_namespace(owner, None) })
    }

    /// The user namespace, where there is one.
    pub fn user_namespace(&self) -> Option<BorrowedFd<'_>> {
        self.foreign.as_ref().map(|foreign| foreign.user_namespace.as_fd())
    }

    /// The same rights without the mount and pid namespace: for work that may take long. What joins
    /// the pid namespace is killed with the lab wherever it is, and leaves locks and the allocator of
    /// this process as they are at that moment.
    pub fn outside(&self) -> io::Result<Self> {
        match &self.foreign {
            None => Ok(Realm::host()),
            Some(foreign) => Ok(Realm::of_user_namespace(foreign.user_namespace.try_clone()?, None)),
        }
    }

    /// Moves this process, which must have one thread, into the user namespace, where there is one. There is no
    /// way back.
    ///
    /// # Errors
    /// It cannot be joined.
    pub fn join(&self) -> Result<(), crate::Failure> {
        let Some(foreign) = &self.foreign else { return Ok(()) };
        move_into_link_name_space(foreign.user_namespace.as_fd(), Some(LinkNameSpaceType::User))
            .doing("join the user namespace")
    }

    /// Runs `work` where it may change namespaces as it likes; the caller's own stay as they are.
    ///
    /// `work` sees the caller's memory and file descriptors. It must not start threads, and should
    /// be short: the calling thread waits for it. A panic in it goes on in the caller.
    ///
    /// # Errors
    /// No thread or no process could be made, or the user namespace could not be joined.
    pub fn run<R: Send>(&self, work: impl FnOnce() -> R + Send) -> io::Result<R> {
        let foreign = self.foreign.as_deref();
        let outcome = std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("hop-realm".to_owned()).spawn_scoped(scope, || {
                match foreign {
                    // The thread ends after this, and its changed namespaces with it.
                    None => Ok(catch_unwind(AssertUnwindSafe(work))),
                    Some(foreign) => foreign.run(work),
                }
            })?;
            thread.join().unwrap_or_else(|panic| Ok(Err(panic)))
        })?;
        match outcome {
            Ok(result) => Ok(result),
            Err(panic) => resume_unwind(panic),
        }
    }
}

impl Foreign {
    fn run<W: FnOnce() -> R, R>(&self, work: W) -> io::Result<std::thread::Result<R>> {
        child::run(|| {
            // Alone first: joining it gives the rights to join the others.
            move_into_link_name_space(self.user_namespace.as_fd(), Some(LinkNameSpaceType::User))?;
            let Some(member) = &self.member else { return Ok(catch_unwind(AssertUnwindSafe(work))) };
            let directory = std::env::current_dir();
            move_into_thread_name_spaces(member.as_fd(), ThreadNameSpaceType::MOUNT | ThreadNameSpaceType::PROCESS_ID)?;
            if let Ok(directory) = directory {
                // Where the lab does not see the directory, work that uses it fails, and says so.
                rustix::process::chdir(&directory).ok();
            }
            // Only a child is in the pid namespace.
            child::run(|| Ok(catch_unwind(AssertUnwindSafe(work))))
        })
    }
}

#[cfg(test)]
#[allow(unsafe_code)]
mod tests {
    use super::*;

    fn net_namespace() -> u64 {
        rustix::fs::stat("/proc/thread-self/ns/net").map_or(0, |stat| stat.st_ino)
    }

    /// A user namespace made by a child process that has ended since.
    fn user_namespace() -> Option<OwnedFd> {
        let mut child = std::process::Command::new("unshare").args(["-Ur", "sleep", "60"]).spawn().ok()?;
        let path = format!("/proc/{}/ns/user", child.id());
        let own = std::fs::read_link("/proc/self/ns/user").unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
        while std::fs::read_link(&path).is_ok_and(|there| there == own) && std::time::Instant::now() < deadline {
            std::thread::yield_now();
        }
        // Wait for the maps as well: exec of `sleep` comes after them.
        let comm = format!("/proc/{}/comm", child.id());
        while std::fs::read_to_string(&comm).is_ok_and(|name| name.trim() != "sleep")
            && std::time::Instant::now() < deadline
        {
            std::thread::yield_now();
        }
        let fd = std::fs::File::open(path).ok().map(OwnedFd::from);
        child.kill().unwrap();
        child.wait().unwrap();
        fd
    }

    fn check(realm: &Realm) {
        let before = net_namespace();
        let inside = realm
            .run(|| {
                rustix::thread::move_into_link_name_space(
                    std::fs::File::open("/proc/thread-self/ns/net").unwrap().as_fd(),
                    None,
                )
                .ok();
                // SAFETY: only this thread or process gets a new network namespace.
                unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }.unwrap();
                net_namespace()
            })
            .unwrap();
        assert_ne!(inside, before);
        assert_eq!(net_namespace(), before);
    }

    #[test]
    fn work_in_a_user_namespace_leaves_the_caller_where_it_was() {
        let Some(fd) = user_namespace() else {
            println!("skipped: no user namespaces here");
            return;
        };
        let realm = Realm::of_user_namespace(fd, None);
        check(&realm);
        // From several threads at once, and from a busy allocator.
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..8 {
                        check(&realm);
                    }
                });
            }
        });
    }

    #[test]
    fn a_panic_goes_on_in_the_caller() {
        let realms = [Some(Realm::host()), user_namespace().map(|fd| Realm::of_user_namespace(fd, None))];
        for realm in realms.into_iter().flatten() {
            let caught = catch_unwind(AssertUnwindSafe(|| realm.run(|| panic!("as planned"))));
            let panic = caught.unwrap_err();
            assert_eq!(panic.downcast_ref::<&str>(), Some(&"as planned"));
        }
    }

    #[test]
    fn file_descriptors_made_inside_are_the_callers() {
        for realm in
            [Some(Realm::host()), user_namespace().map(|fd| Realm::of_user_namespace(fd, None))].into_iter().flatten()
        {
            let file = realm.run(|| std::fs::File::open("/proc/thread-self/ns/net")).unwrap().unwrap();
            assert!(rustix::fs::fstat(&file).is_ok());
        }
    }
}
