//! Closing sockets that take their time.

use std::os::fd::OwnedFd;
use std::thread;

/// More do not wait at once.
const THREADS: usize = 64;

/// Closes sockets of which each lets its closer wait until no processor looks at it any more: packet sockets, and those
/// that own a table of nftables. That takes some milliseconds, for one or for all that wait at the same time.
pub fn close_together(sockets: impl IntoIterator<Item = OwnedFd>) {
    let mut sockets = sockets.into_iter().peekable();
    while sockets.peek().is_some() {
        thread::scope(|scope| {
            for socket in sockets.by_ref().take(THREADS) {
                // Where no thread is to be had it is closed here.
                thread::Builder::new().name("hop-close".to_owned()).spawn_scoped(scope, move || drop(socket)).ok();
            }
        });
    }
}
