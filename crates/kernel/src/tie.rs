//! A child process that ends when the one that forked it does.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::process::{PidfdFlags, Signal};

use crate::pidfd::wait_for_end;

/// What ties a child to its parent, made by the parent before it forks.
#[derive(Debug)]
pub(crate) struct Tie {
    parent: OwnedFd,
}

impl Tie {
    /// To the calling process.
    ///
    /// # Errors
    /// Those of pidfd_open(2).
    pub(crate) fn to_caller() -> rustix::io::Result<Self> {
        let parent = rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty())?;
        Ok(Tie { parent })
    }

    /// In the child: from here on the kernel kills this process when the thread that forked it ends
    /// (`PR_SET_PDEATHSIG`, prctl(2)). A change of ids takes this away again.
    ///
    /// # Errors
    /// `ESRCH`: the parent has ended already, so there is nothing left to be done. Its number would
    /// not tell: that of a parent outside of the pid namespace is 0, and so is that of its heir.
    pub(crate) fn hold(&self) -> io::Result<()> {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        if wait_for_end(&self.parent, Some(Duration::ZERO))? {
            return Err(rustix::io::Errno::SRCH.into());
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(unsafe_code)]
mod tests {
    use super::*;

    #[test]
    fn a_child_whose_parent_has_ended_already_is_told() {
        let (reader, writer) = std::io::pipe().unwrap();
        // SAFETY: the children make system calls alone, and end by _exit.
        unsafe {
            let parent = libc::fork();
            if parent == 0 {
                let tie = Tie::to_caller();
                if libc::fork() == 0 {
                    let Ok(tie) = tie else { libc::_exit(1) };
                    // The moment that a tie without a look at the parent misses.
                    drop(wait_for_end(&tie.parent, Some(Duration::from_secs(5))));
                    let said = if tie.hold().is_err() { b"gone" } else { b"here" };
                    libc::write(std::os::fd::AsRawFd::as_raw_fd(&writer), said.as_ptr().cast(), said.len());
                }
                libc::_exit(0);
            }
            libc::waitpid(parent, std::ptr::null_mut(), 0);
        }
        drop(writer);
        let mut said = String::new();
        std::io::Read::read_to_string(&mut { reader }, &mut said).unwrap();
        assert_eq!(said, "gone");
    }

    #[test]
    fn a_child_of_a_live_parent_goes_on() {
        assert!(Tie::to_caller().unwrap().hold().is_ok());
        rustix::process::set_parent_process_death_signal(None).unwrap();
    }
}
