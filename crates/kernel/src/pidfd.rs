//! Processes that keep their identity: a process id alone may be another's tomorrow.

use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal};

/// A live process, held by a pidfd (pidfd_open(2)).
#[derive(Debug)]
pub struct Process {
    pid: i32,
    start_time: u64,
    fd: OwnedFd,
}

impl Process {
    /// Takes hold of a process.
    ///
    /// # Errors
    /// `ESRCH`: there is none of that id.
    pub fn open(pid: i32) -> io::Result<Self> {
        let id = if pid > 0 { Pid::from_raw(pid) } else { None }.ok_or(rustix::io::Errno::SRCH)?;
        let fd = rustix::process::pidfd_open(id, PidfdFlags::empty())?;
        let start_time = Stat::read(pid)?.start_time;
        Ok(Process { pid, start_time, fd })
    }

    /// Takes hold of the process that had this id and started at this time, if it still lives.
    ///
    /// # Errors
    /// None for a process that has ended: that is `Ok(None)`.
    pub fn find(pid: i32, start_time: u64) -> io::Result<Option<Self>> {
        match Self::open(pid) {
            Ok(process) if process.start_time == start_time && !process.has_ended()? => Ok(Some(process)),
            Ok(_) => Ok(None),
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The processes in a network namespace, as far as the caller may see them.
    ///
    /// # Errors
    /// /proc cannot be read.
    pub fn all_in_network(namespace: BorrowedFd<'_>) -> io::Result<Vec<Self>> {
        let wanted = rustix::fs::fstat(namespace)?;
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc")? {
            let entry = entry?;
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
            // Held first: what is looked at then is the same process, if it still lives afterwards.
            // Those that cannot be are another user's, or have just ended.
            let Ok(process) = Self::open(pid) else { continue };
            let Ok(own) = rustix::fs::stat(entry.path().join("ns/net")) else { continue };
            if (own.st_dev, own.st_ino) == (wanted.st_dev, wanted.st_ino) && !process.has_ended()? {
                found.push(process);
            }
        }
        Ok(found)
    }

    /// Its id, in the pid namespace of the caller.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// When it started, in clock ticks since boot (proc_pid_stat(5), field 22).
    pub fn start_time(&self) -> u64 {
        self.start_time
    }

    /// Ends it at once, with everything in a pid namespace of which it is the first process.
    ///
    /// # Errors
    /// `EPERM`: it is another user's. That it has ended already is no error.
    pub fn kill(&self) -> io::Result<()> {
        signal(&self.fd, Signal::KILL)
    }

    /// Asks it to end by itself.
    ///
    /// # Errors
    /// `EPERM`: it is another user's. That it has ended already is no error.
    pub fn terminate(&self) -> io::Result<()> {
        signal(&self.fd, Signal::TERM)
    }

    /// Has it ended?
    ///
    /// # Errors
    /// Those of poll(2).
    pub fn has_ended(&self) -> io::Result<bool> {
        self.wait(Some(Duration::ZERO))
    }

    /// Has it ended, or is it about to? A process that was killed lives on for a moment: it is still
    /// there, but its memory, its descriptors and its files in /proc go one after the other. As soon as
    /// the first of them is gone, this is true.
    ///
    /// # Errors
    /// Those of poll(2), or /proc cannot be read.
    pub fn is_ending(&self) -> io::Result<bool> {
        if self.has_ended()? {
            return Ok(true);
        }
        // Whoever has taken its id since has no say: it has ended by then.
        match Stat::read(self.pid) {
            Err(error) if is_gone(&error) => Ok(true),
            stat => Ok(stat?.ending || self.has_ended()?),
        }
    }

    /// Waits until it has ended, or for so long; says whether it has.
    ///
    /// # Errors
    /// Those of poll(2).
    pub fn wait(&self, timeout: Option<Duration>) -> io::Result<bool> {
        wait_for_end(&self.fd, timeout)
    }
}

/// Signals a process by its pidfd. That it has ended already is no error.
pub(crate) fn signal(pidfd: &OwnedFd, signal: Signal) -> io::Result<()> {
    match rustix::process::pidfd_send_signal(pidfd, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// [`Process::wait`], for a bare pidfd.
pub(crate) fn wait_for_end(pidfd: &OwnedFd, timeout: Option<Duration>) -> io::Result<bool> {
    let timeout = timeout.map(timespec);
    loop {
        match poll(&mut [PollFd::new(pidfd, PollFlags::IN)], timeout.as_ref()) {
            Ok(ready) => return Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// A time to wait, as poll(2) takes it.
pub(crate) fn timespec(time: Duration) -> Timespec {
    Timespec { tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX), tv_nsec: i64::from(time.subsec_nanos()) }
}

impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Is this how the kernel says that there is no such process?
fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ESRCH | libc::ENOENT | libc::EINVAL))
}

/// What of /proc/PID/stat matters here (proc_pid_stat(5)).
struct Stat {
    /// Field 22: when it started, in clock ticks since boot.
    start_time: u64,
    /// Fields 9 and 31: it is on its way out, or SIGKILL is on its way to it.
    ending: bool,
}

impl Stat {
    fn read(pid: i32) -> io::Result<Self> {
        /// `include/linux/sched.h`
        const PF_EXITING: u64 = 0x4;
        const SIGKILL: u64 = 1 << (libc::SIGKILL - 1);
        /// 52 numbers of at most 20 digits, and a name.
        const LONGEST: usize = 2048;
        let mut file = std::fs::File::open(format!("/proc/{pid}/stat"))?;
        let mut text = [0; LONGEST];
        let len = file.read(&mut text)?;
        // The second field, the name, is in parentheses and may contain anything.
        let text = String::from_utf8_lossy(&text[..len]);
        let after_name = text.rsplit_once(')').map_or("", |(_, rest)| rest);
        let fields: Vec<&str> = after_name.split_ascii_whitespace().collect();
        let field = |number: usize| {
            let value = fields.get(number - 3).and_then(|text| text.parse::<u64>().ok());
            value.ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat cannot be read")))
        };
        Ok(Stat { start_time: field(22)?, ending: field(9)? & PF_EXITING != 0 || field(31)? & SIGKILL != 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_found_by_its_start_and_not_by_its_id_alone() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let process = Process::open(pid).unwrap();
        assert!(Process::find(pid, process.start_time()).unwrap().is_some());
        assert!(Process::find(pid, process.start_time() + 1).unwrap().is_none());
        process.kill().unwrap();
        assert!(process.wait(Some(Duration::from_secs(5))).unwrap());
        // A zombie still has its id, but it has ended.
        assert!(Process::find(pid, process.start_time()).unwrap().is_none());
        child.wait().unwrap();
        assert!(Process::find(pid, process.start_time()).unwrap().is_none());
    }

    #[test]
    fn a_process_that_was_killed_is_ending_before_it_loses_anything() {
        // Many at once: some are looked at in the midst of it.
        let mut children: Vec<_> =
            (0..32).map(|_| std::process::Command::new("sleep").arg("60").spawn().unwrap()).collect();
        for child in &children {
            let process = Process::open(i32::try_from(child.id()).unwrap()).unwrap();
            assert!(!process.is_ending().unwrap());
            process.kill().unwrap();
            let memory = format!("/proc/{}/maps", process.pid());
            while std::fs::read(&memory).is_ok_and(|maps| !maps.is_empty()) {}
            assert!(process.is_ending().unwrap());
            assert!(process.wait(Some(Duration::from_secs(5))).unwrap());
            assert!(process.is_ending().unwrap());
        }
        for child in &mut children {
            child.wait().unwrap();
        }
    }

    #[test]
    fn an_impossible_id_is_nobody() {
        assert!(Process::find(0, 1).unwrap().is_none());
        assert!(Process::find(-1, 1).unwrap().is_none());
    }
}
