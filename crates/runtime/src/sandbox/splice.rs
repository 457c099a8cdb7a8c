//! Two TCP connections made one: what comes on one goes out on the other, an end is passed on as an end, and
//! a break as a break.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::{RecvFlags, SendFlags, Shutdown, sockopt};

/// Something that is so of what comes from the peer, and of what goes to it.
#[derive(Clone, Copy, Debug)]
struct Directions {
    read: bool,
    write: bool,
}

/// One of the two connections, non-blocking.
#[derive(Debug)]
pub(super) struct Side {
    fd: OwnedFd,
    /// Since the last time that there was nothing to read, or no room to write, there may be some.
    may: Directions,
    /// The peer sends no more; nothing more is sent to the peer.
    has_ended: Directions,
    /// What the peer could not take yet.
    waiting: Vec<u8>,
    written: usize,
}

impl Side {
    pub(super) fn new(fd: OwnedFd) -> Self {
        // What one peer has sent at once, the other should get at once.
        sockopt::set_tcp_nodelay(&fd, true).ok();
        let may = Directions { read: true, write: true };
        let has_ended = Directions { read: false, write: false };
        Side { fd, may, has_ended, waiting: Vec::new(), written: 0 }
    }

    pub(super) fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// Something has happened: it will be found out what.
    pub(super) fn wake(&mut self, readable: bool, writable: bool) {
        self.may.read |= readable;
        self.may.write |= writable;
    }

    /// Sends as much as the peer takes; true: that was all.
    fn flush(&mut self) -> io::Result<bool> {
        while self.written < self.waiting.len() {
            if !self.may.write {
                return Ok(false);
            }
            match send(&self.fd, &self.waiting[self.written..])? {
                Some(sent) => self.written += sent,
                None => self.may.write = false,
            }
        }
        self.written = 0;
        self.waiting.clear();
        Ok(true)
    }
}

/// `None`: there is no room.
fn send(fd: &OwnedFd, bytes: &[u8]) -> io::Result<Option<usize>> {
    loop {
        match rustix::net::send(fd, bytes, SendFlags::NOSIGNAL) {
            Ok(sent) => return Ok(Some(sent)),
            Err(rustix::io::Errno::AGAIN) => return Ok(None),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Closes a connection so that its peer sees that it broke.
pub(super) fn break_off(fd: &OwnedFd) {
    // If it is refused, the connection has broken already.
    sockopt::set_socket_linger(fd, Some(Duration::ZERO)).ok();
}

/// Both connections.
#[derive(Debug)]
pub(super) struct Splice {
    pub(super) sides: [Side; 2],
}

/// Whether there is more to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Not until something happens.
    Waits,
    /// There is, but others had to wait for long enough.
    GoesOn,
    /// Both directions have ended.
    Done,
}

/// So much of one connection before others have their turn.
const TURN_BYTES: usize = 1 << 20;

impl Splice {
    pub(super) fn new(sides: [OwnedFd; 2]) -> Self {
        Splice { sides: sides.map(Side::new) }
    }

    /// Moves what can be moved.
    ///
    /// # Errors
    /// One of the connections broke; the other one should.
    pub(super) fn advance(&mut self, scratch: &mut [u8]) -> io::Result<Progress> {
        let [a, b] = &mut self.sides;
        let goes_on = [pump(a, b, scratch)?, pump(b, a, scratch)?];
        Ok(if a.has_ended.write && b.has_ended.write {
            Progress::Done
        } else if goes_on.contains(&true) {
            Progress::GoesOn
        } else {
            Progress::Waits
        })
    }

    /// Ends both as broken.
    pub(super) fn break_off(&self) {
        self.sides.iter().for_each(|side| break_off(&side.fd));
    }
}

/// True: there may be more, but it is the turn of others.
fn pump(from: &mut Side, to: &mut Side, scratch: &mut [u8]) -> io::Result<bool> {
    let mut moved = 0;
    loop {
        if !to.flush()? {
            return Ok(false);
        }
        if from.has_ended.read {
            if !to.has_ended.write {
                to.has_ended.write = true;
                rustix::net::shutdown(&to.fd, Shutdown::Write)?;
            }
            return Ok(false);
        }
        // Nothing is taken that could not be passed on: the sender waits, as if there were one connection.
        if !from.may.read || !to.may.write {
            return Ok(false);
        }
        if moved >= TURN_BYTES {
            return Ok(true);
        }
        let length = match rustix::net::recv(&from.fd, &mut *scratch, RecvFlags::empty()) {
            Ok((_, 0)) => {
                from.has_ended.read = true;
                continue;
            }
            Ok((_, length)) => length,
            Err(rustix::io::Errno::AGAIN) => {
                from.may.read = false;
                continue;
            }
            Err(rustix::io::Errno::INTR) => continue,
            Err(errno) => return Err(errno.into()),
        };
        moved += length;
        let sent = send(&to.fd, &scratch[..length])?;
        to.may.write = sent.is_some();
        let sent = sent.unwrap_or(0);
        to.waiting.extend_from_slice(&scratch[sent..length]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    /// A connection to talk on, and its other end for the splice.
    fn connection() -> (TcpStream, OwnedFd) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let talks = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (other, _) = listener.accept().unwrap();
        other.set_nonblocking(true).unwrap();
        (talks, other.into())
    }

    /// Advances as if something had happened on all sides, until it says that it waits.
    fn settle(splice: &mut Splice) -> io::Result<Progress> {
        let mut scratch = vec![0; 1 << 16];
        loop {
            splice.sides.iter_mut().for_each(|side| side.wake(true, true));
            match splice.advance(&mut scratch)? {
                Progress::GoesOn => {}
                other => return Ok(other),
            }
        }
    }

    #[test]
    fn one_direction_ends_and_the_other_goes_on() {
        let ((mut a, inner), (mut b, outer)) = (connection(), connection());
        let mut splice = Splice::new([inner, outer]);
        a.write_all(b"question").unwrap();
        a.shutdown(std::net::Shutdown::Write).unwrap();
        while !splice.sides[0].has_ended.read {
            settle(&mut splice).unwrap();
        }
        let mut text = String::new();
        b.read_to_string(&mut text).unwrap();
        assert_eq!(text, "question");
        b.write_all(b"answer").unwrap();
        drop(b);
        let mut last = Progress::Waits;
        while last != Progress::Done {
            last = settle(&mut splice).unwrap();
        }
        text.clear();
        a.read_to_string(&mut text).unwrap();
        assert_eq!(text, "answer");
    }

    #[test]
    fn a_slow_reader_stops_the_writer_and_nothing_is_lost() {
        const ALL: usize = 32 << 20;
        let ((mut a, inner), (mut b, outer)) = (connection(), connection());
        let mut splice = Splice::new([inner, outer]);
        let writer = std::thread::spawn(move || a.write_all(&vec![7; ALL]));
        // Until neither end takes any more.
        for _ in 0..1000 {
            settle(&mut splice).unwrap();
        }
        assert!(splice.sides.iter().all(|side| side.waiting.len() <= 1 << 16), "memory is bounded");
        assert!(!writer.is_finished(), "the writer waits");
        b.set_nonblocking(true).unwrap();
        let (mut read, mut buffer) = (0, vec![0; 1 << 16]);
        while read < ALL {
            settle(&mut splice).unwrap();
            match b.read(&mut buffer) {
                Ok(length) => read += length,
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        }
        assert_eq!(read, ALL);
        writer.join().unwrap().unwrap();
    }

    #[test]
    fn a_break_is_passed_on_as_a_break() {
        let ((a, inner), (mut b, outer)) = (connection(), connection());
        let mut splice = Splice::new([inner, outer]);
        break_off(&a.into());
        let error = loop {
            if let Err(error) = settle(&mut splice) {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        splice.break_off();
        drop(splice);
        let error = b.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
}
