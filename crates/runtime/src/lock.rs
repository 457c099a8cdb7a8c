//! Locks on files that everybody may open, and may lock: who wants one does not wait for good.

use std::fs::TryLockError;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

/// Tries to lock something until it succeeds.
pub(crate) fn within(patience: Duration, mut try_lock: impl FnMut() -> Result<(), TryLockError>) -> io::Result<()> {
    /// Whoever holds one needs some milliseconds mostly.
    const PAUSE: Duration = Duration::from_millis(2);
    let begin = Instant::now();
    loop {
        match try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if begin.elapsed() < patience => thread::sleep(PAUSE),
            Err(TryLockError::WouldBlock) => {
                let seconds = patience.as_secs();
                let text = format!("somebody else has had it locked for {seconds} s; `lslocks` tells who");
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn a_lock_that_is_held_for_good_is_told_and_one_that_is_let_go_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let open = || File::open(dir.path()).unwrap();
        let (held, file) = (open(), open());
        held.lock_shared().unwrap();
        within(Duration::ZERO, || file.try_lock_shared()).unwrap();
        file.unlock().unwrap();
        let error = within(Duration::from_millis(20), || file.try_lock()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(error.to_string().contains("`lslocks` tells who"), "{error}");
        let mut tries = 0;
        let let_go = || {
            tries += 1;
            if tries == 3 {
                held.unlock().unwrap();
            }
            file.try_lock()
        };
        within(Duration::from_secs(10), let_go).unwrap();
        assert_eq!(tries, 3);
    }
}
