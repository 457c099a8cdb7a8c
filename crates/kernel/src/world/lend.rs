//! Interfaces that come from the machine, which is the caller's own namespace, and go back there.

use std::ops::Range;
use std::os::fd::AsFd;

use hopyard_net::{Endpoint, Op};

use super::World;
use super::apply::{Failures, Progress};
use crate::Errno;
use crate::error::Refusal;
use crate::moving;
use crate::netlink::{Inbox, RtSocket};

impl World {
    pub(super) fn move_links(&mut self, ops: &[Op], range: Range<usize>, on: Progress<'_>) -> Failures {
        let mut failures = Failures::new();
        for (done, at) in range.enumerate() {
            if let Err(refusal) = self.move_link(&ops[at]) {
                failures.push((at, refusal));
            }
            on(done + 1);
        }
        // Indexes of interfaces are read anew where they are next needed.
        self.spaces.values_mut().for_each(|space| space.links = None);
        failures
    }

    fn move_link(&self, op: &Op) -> Result<(), Refusal> {
        let here = RtSocket::open()?;
        match op {
            Op::TakeLink(at) => send(&here, at, &self.space(&at.ns)?.socket),
            Op::ReturnLink(at) => send(&self.space(&at.ns)?.socket, at, &here),
            _ => Ok(()),
        }
    }
}

fn send(from: &RtSocket, Endpoint { dev, .. }: &Endpoint, to: &RtSocket) -> Result<(), Refusal> {
    let mut inbox = Inbox::default();
    let mut find = |place: &RtSocket| -> Result<_, Refusal> {
        Ok(super::observe::read_links(place, &mut inbox)?.into_iter().find(|link| link.dev == *dev))
    };
    if let Some(link) = find(from)? {
        return moving::send(from, &mut inbox, &link, to.namespace()?.as_fd());
    }
    // With another one of its radio it has moved already.
    if let Some(link) = find(to)?
        && moving::radio_of(to, &link)?.is_some()
    {
        return Ok(());
    }
    Err(Refusal::saying(Errno::NODEV, format!("there is no interface {dev}")))
}
