//! Interfaces that come from the machine, which is the caller's own namespace, and go back there.

use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};

use hopyard_net::{Endpoint, Op};

use super::World;
use super::apply::{Failures, Progress};
use crate::Errno;
use crate::encode;
use crate::error::Refusal;
use crate::netlink::{Batch, Inbox, RtSocket};

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
            Op::TakeLink(at) => send(&here, at, &self.space(&at.ns)?.socket.namespace()?),
            Op::ReturnLink(at) => send(&self.space(&at.ns)?.socket, at, &here.namespace()?),
            _ => Ok(()),
        }
    }
}

fn send(from: &RtSocket, Endpoint { dev, .. }: &Endpoint, to: &OwnedFd) -> Result<(), Refusal> {
    let mut inbox = Inbox::default();
    let links = super::observe::read_links(from, &mut inbox)?;
    let link = links.iter().find(|link| link.dev == *dev);
    let index = link.ok_or_else(|| Refusal::saying(Errno::NODEV, format!("there is no interface {dev}")))?.index;
    let mut batch = Batch::default();
    let (request, flags) = encode::move_link(index, to.as_fd());
    batch.push(1, flags, request);
    let mut refused = None;
    from.submit(&mut batch, &mut inbox, &mut |_, refusal| refused = Some(refusal))?;
    refused.map_or(Ok(()), Err)
}
