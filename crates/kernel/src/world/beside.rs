//! Which namespaces are at the other ends of cables: for networks that somebody else has built.

use std::collections::BTreeSet;
use std::os::fd::BorrowedFd;

use hopyard_net::NsName;

use super::World;
use crate::decode::{self, FoundKind};
use crate::error::Refusal;
use crate::netlink::Inbox;
use crate::{KernelError, encode};

impl World {
    /// Those of the candidates, by their places in the list, in which a veth pair of a namespace ends.
    ///
    /// The kernel shows of such a pair a number for the other namespace, which only the namespace itself
    /// understands; so it is asked for the number of each candidate. That gives no candidate a number.
    ///
    /// # Errors
    /// There is no such namespace, or it could not be read.
    pub fn beside(&self, name: &NsName, candidates: &[BorrowedFd<'_>]) -> Result<Vec<usize>, KernelError> {
        let read = || -> Result<Vec<usize>, Refusal> {
            let socket = &self.space(name)?.socket;
            let mut inbox = Inbox::default();
            let links = super::observe::read_links(socket, &mut inbox)?;
            let number =
                |kind: &FoundKind| if let FoundKind::Veth { namespace, .. } = kind { *namespace } else { None };
            let mut wanted: BTreeSet<i32> = links.iter().filter_map(|link| number(&link.kind)).collect();
            let mut found = Vec::new();
            for (at, candidate) in candidates.iter().enumerate() {
                if wanted.is_empty() {
                    break;
                }
                let answers = socket.ask(encode::get_nsid(*candidate), 0, &mut inbox)?;
                if answers.iter().find_map(decode::nsid).is_some_and(|number| wanted.remove(&number)) {
                    found.push(at);
                }
            }
            Ok(found)
        };
        read().map_err(|refusal| refusal.while_doing(format!("look for what is beside {name}")))
    }
}
