//! Which interface is at the other end of which.
//!
//! The kernel shows of a veth end the index of its peer and a number for the peer's namespace, which
//! means something in the end's own namespace only. Whose number it is, is asked the other way
//! round: by what number does this namespace know that one? To try all namespaces for each link
//! would be quadratic, so the candidates are those that have an interface of the peer's Ethernet
//! address and index, which the kernel shows across the border. The same goes for what stands on an interface.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::AsFd;

use hopyard_net::{Endpoint, IfName, MacAddr, NsName};

use super::{Netns, World, in_parallel};
use crate::decode::{self, FoundKind, FoundLink};
use crate::encode;
use crate::error::Refusal;
use crate::links::IfIndex;
use crate::netlink::Inbox;

/// A namespace and its interfaces.
pub(super) struct Space<'a> {
    pub(super) name: &'a NsName,
    pub(super) netns: &'a Netns,
    pub(super) links: Vec<FoundLink>,
}

/// What is seen of an interface from elsewhere.
type Fingerprint = (IfIndex, Option<MacAddr>);

/// Ends of veth pairs, either way round.
pub(super) type Pairs = BTreeMap<Endpoint, Endpoint>;

impl World {
    /// All veth pairs of which both ends are in the world, either way round.
    pub(super) fn find_pairs(spaces: &[Space<'_>]) -> Result<Pairs, Refusal> {
        let mut finder = Finder::new(spaces);
        let mut inbox = Inbox::default();
        let mut pairs = Pairs::new();
        for (here, space) in spaces.iter().enumerate() {
            for link in &space.links {
                let end = Endpoint { ns: space.name.clone(), dev: link.dev };
                let FoundKind::Veth { peer, namespace } = link.kind else { continue };
                if pairs.contains_key(&end) {
                    continue;
                }
                let there = match namespace {
                    None => Some(here),
                    Some(number) => finder.space_of(here, number, peer, &mut inbox)?,
                };
                if let Some(there) = there
                    && let Some(&dev) = finder.names[there].get(&peer)
                {
                    let other = Endpoint { ns: spaces[there].name.clone(), dev };
                    pairs.insert(other.clone(), end.clone());
                    pairs.insert(end, other);
                }
            }
        }
        Ok(pairs)
    }

    /// Interfaces whose frames others get as well, which stand on them.
    pub(super) fn find_shared(spaces: &[Space<'_>]) -> Result<Vec<(Endpoint, String)>, Refusal> {
        let mut found = Vec::new();
        if spaces.iter().flat_map(|space| &space.links).all(|link| link.shares.is_none()) {
            return Ok(found);
        }
        let mut inbox = Inbox::default();
        let mut finder = Finder::new(spaces);
        for (here, space) in spaces.iter().enumerate() {
            for link in &space.links {
                let Some((below, namespace)) = link.shares else { continue };
                let FoundKind::Other(kind) = &link.kind else { continue };
                let there = match namespace {
                    None => Some(here),
                    Some(number) => finder.space_of(here, number, below, &mut inbox)?,
                };
                if let Some(there) = there
                    && let Some(&dev) = finder.names[there].get(&below)
                {
                    let at = Endpoint { ns: spaces[there].name.clone(), dev };
                    found.push((at, format!("the {kind} {}:{}", space.name, link.dev)));
                }
            }
        }
        Ok(found)
    }

    /// All namespaces in order, each with its interfaces.
    pub(super) fn read_all_links(&self) -> Result<Vec<Space<'_>>, Refusal> {
        let spaces: Vec<(&NsName, &Netns)> = self.spaces.iter().collect();
        let results = in_parallel(&spaces, |queue| {
            let mut inbox = Inbox::default();
            let mut found = Vec::new();
            while let Some((at, &(name, netns))) = queue.take() {
                let links = super::observe::read_links(&netns.socket, &mut inbox)?;
                found.push((at, Space { name, netns, links }));
            }
            Ok::<_, Refusal>(found)
        });
        let mut found = Vec::with_capacity(spaces.len());
        for result in results {
            found.extend(result?);
        }
        found.sort_by_key(|(at, _)| *at);
        Ok(found.into_iter().map(|(_, space)| space).collect())
    }
}

struct Finder<'a> {
    spaces: &'a [Space<'a>],
    names: Vec<HashMap<IfIndex, IfName>>,
    candidates: HashMap<Fingerprint, Vec<usize>>,
    /// What is known: by that number this namespace knows that one, or one outside of the world.
    known: HashMap<(usize, i32), Option<usize>>,
}

impl<'a> Finder<'a> {
    fn new(spaces: &'a [Space<'a>]) -> Self {
        let mut candidates: HashMap<Fingerprint, Vec<usize>> = HashMap::new();
        for (at, space) in spaces.iter().enumerate() {
            for link in &space.links {
                candidates.entry((link.index, link.mac)).or_default().push(at);
            }
        }
        let names =
            spaces.iter().map(|space| space.links.iter().map(|link| (link.index, link.dev)).collect()).collect();
        Finder { spaces, names, candidates, known: HashMap::new() }
    }

    /// The namespace that `here` knows by a number, and that has an interface of that index.
    fn space_of(
        &mut self,
        here: usize,
        number: i32,
        index: IfIndex,
        inbox: &mut Inbox,
    ) -> Result<Option<usize>, Refusal> {
        if let Some(&known) = self.known.get(&(here, number)) {
            return Ok(known);
        }
        let socket = &self.spaces[here].netns.socket;
        // A namespace that may not be looked into is none of ours.
        let shown = socket.ask(encode::get_link_elsewhere(number, index), 0, inbox).unwrap_or_default();
        let mut found = None;
        if let Some(shown) = shown.iter().find_map(decode::link) {
            for &there in self.candidates.get(&(index, shown.mac)).into_iter().flatten() {
                if self.number_of(here, there, inbox)? == Some(number) {
                    found = Some(there);
                    break;
                }
            }
        }
        self.known.insert((here, number), found);
        Ok(found)
    }

    /// The number by which `here` knows `there`, if it has one.
    fn number_of(&self, here: usize, there: usize, inbox: &mut Inbox) -> Result<Option<i32>, Refusal> {
        let namespace = self.spaces[there].netns.socket.namespace()?;
        let request = encode::get_nsid(namespace.as_fd());
        let answers = self.spaces[here].netns.socket.ask(request, 0, inbox)?;
        Ok(answers.iter().find_map(decode::nsid))
    }
}
