//! The namespaces of a lab, open: changed by lists of operations, and read back.

mod apply;
mod beside;
mod fresh;
mod lend;
mod observe;
mod peers;
mod phase;
mod ready;
mod snapshot;

pub use snapshot::{RouteAnswer, SnapshotScope};

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use hopyard_net::NsName;

use crate::error::Refusal;
use crate::links::LinkTable;
use crate::netlink::{Inbox, RtSocket};
use crate::sysctl::Closer;
use crate::{Errno, KernelError, Realm, namespace};

pub(crate) use observe::read_links;

/// Network namespaces by name, each held open by one socket in it.
///
/// A namespace that nothing else holds (no process, no pin, no descriptor) ends when its `World` is
/// dropped, and everything in it.
pub struct World {
    realm: Realm,
    spaces: BTreeMap<NsName, Netns>,
    /// Both ends of the veth pairs that were made or observed, either way round.
    pairs: peers::Pairs,
    closer: Closer,
}

/// One namespace.
#[derive(Debug)]
struct Netns {
    socket: RtSocket,
    /// `None`: not read since somebody else may have changed them.
    links: Option<LinkTable>,
}

impl World {
    /// No namespaces yet; they will be made and entered with the rights of `realm`.
    pub fn new(realm: Realm) -> Self {
        World { realm, spaces: BTreeMap::new(), pairs: peers::Pairs::new(), closer: Closer::default() }
    }

    /// Takes in a namespace that exists.
    ///
    /// # Errors
    /// It cannot be entered, or the name is taken.
    pub fn adopt(&mut self, name: NsName, namespace: OwnedFd) -> Result<(), KernelError> {
        self.adopt_all(vec![(name, namespace)])
    }

    /// Takes in namespaces that exist, all in one visit.
    ///
    /// # Errors
    /// One of them cannot be entered, or its name is taken; then none is taken in.
    pub fn adopt_all(&mut self, namespaces: Vec<(NsName, OwnedFd)>) -> Result<(), KernelError> {
        namespace::make_room_for_files(self.spaces.len() + 2 * namespaces.len());
        let open = |name: &NsName, fd: &OwnedFd| {
            namespace::enter(fd)
                .and_then(|()| RtSocket::open())
                .map_err(|error| KernelError::new(format!("enter node {name}"), error))
        };
        let visit =
            || -> Result<Vec<RtSocket>, KernelError> { namespaces.iter().map(|(name, fd)| open(name, fd)).collect() };
        let sockets = self.realm.run(visit).map_err(|error| KernelError::new("enter the nodes", error))??;
        if let Some((name, _)) = namespaces.iter().find(|(name, _)| self.spaces.contains_key(name)) {
            return Err(KernelError::new(format!("adopt node {name}"), Errno::EXIST));
        }
        for ((name, _), socket) in namespaces.into_iter().zip(sockets) {
            self.spaces.insert(name, Netns { socket, links: None });
        }
        Ok(())
    }

    /// Lets go of a namespace without changing it. Does nothing when it is not there.
    pub fn release(&mut self, name: &NsName) {
        self.spaces.remove(name);
        self.forget_pairs(|ns| ns == name);
    }

    /// The names of the namespaces, in order.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &NsName> {
        self.spaces.keys()
    }

    /// Is there a namespace of that name?
    pub fn contains(&self, name: &NsName) -> bool {
        self.spaces.contains_key(name)
    }

    /// A descriptor of a namespace: to pin it, or to enter it.
    ///
    /// # Errors
    /// There is no such namespace, or no descriptor is left.
    pub fn ns_fd(&self, name: &NsName) -> Result<OwnedFd, KernelError> {
        let open = |space: &Netns| space.socket.namespace().map_err(Refusal::from);
        self.space(name).and_then(open).map_err(|refusal| refusal.while_doing(format!("open node {name}")))
    }

    /// What tells a namespace from all others since the machine started; `None`: the kernel has no such thing
    /// (before 5.14), or there is no such namespace.
    pub fn cookie(&self, name: &NsName) -> Option<u64> {
        self.spaces.get(name).and_then(|space| crate::inside::cookie_of(&space.socket))
    }

    /// The rights with which it works.
    pub fn realm(&self) -> &Realm {
        &self.realm
    }

    fn space(&self, name: &NsName) -> Result<&Netns, Refusal> {
        self.spaces.get(name).ok_or_else(|| no_such_node(name))
    }

    /// The interfaces of a namespace, read where they are not known.
    fn links_mut(&mut self, name: &NsName, inbox: &mut Inbox) -> Result<&mut LinkTable, Refusal> {
        let space = self.spaces.get_mut(name).ok_or_else(|| no_such_node(name))?;
        if space.links.is_none() {
            space.links = Some(
                observe::read_links(&space.socket, inbox)?
                    .iter()
                    .map(|link| (link.dev, link.index, link.mac))
                    .collect(),
            );
        }
        space.links.as_mut().ok_or_else(|| no_such_node(name))
    }

    fn forget_pairs(&mut self, gone: impl Fn(&NsName) -> bool) {
        self.pairs.retain(|a, b| !gone(&a.ns) && !gone(&b.ns));
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World")
            .field("realm", &self.realm)
            .field("namespaces", &self.spaces.keys())
            .finish_non_exhaustive()
    }
}

fn no_such_node(name: &NsName) -> Refusal {
    Refusal::saying(Errno::NOENT, format!("there is no node {name}"))
}

/// More than two gain nothing: most of the kernel's work is done under one lock (RTNL).
const MAX_THREADS: usize = 2;

/// Below so many pieces of work a second thread costs more than it brings.
const WORTH_A_THREAD: usize = 8;

/// Hands out pieces of work, each once, to several threads.
struct Queue<'a, T> {
    pieces: &'a [T],
    next: AtomicUsize,
}

impl<'a, T> Queue<'a, T> {
    fn take(&self) -> Option<(usize, &'a T)> {
        let index = self.next.fetch_add(1, Ordering::Relaxed);
        self.pieces.get(index).map(|piece| (index, piece))
    }
}

/// Works through the pieces on as many threads as are worth it: `work` runs once on each, and takes
/// pieces until there are none.
fn in_parallel<T: Sync, R: Send>(pieces: &[T], work: impl Fn(&Queue<'_, T>) -> R + Sync) -> Vec<R> {
    // Asked once: the answer is read from a dozen files of control groups.
    static CORES: LazyLock<usize> = LazyLock::new(|| thread::available_parallelism().map_or(1, NonZero::get));
    let threads = if pieces.len() < WORTH_A_THREAD { 1 } else { (*CORES).min(MAX_THREADS) };
    let queue = Queue { pieces, next: AtomicUsize::new(0) };
    thread::scope(|scope| {
        let helpers: Vec<_> = (1..threads)
            // Where there is no thread to be had, this one does it all.
            .filter_map(|_| thread::Builder::new().name("hop-net".to_owned()).spawn_scoped(scope, || work(&queue)).ok())
            .collect();
        let mut results = vec![work(&queue)];
        for helper in helpers {
            match helper.join() {
                Ok(result) => results.push(result),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        results
    })
}

/// Runs `work` where it may enter namespaces, and says what it was for if that is refused.
fn visit<R: Send>(realm: &Realm, work: impl FnOnce() -> R + Send) -> Result<R, Refusal> {
    realm
        .run(work)
        .map_err(|error: io::Error| Refusal { doing: Some("start work in the nodes".to_owned()), ..error.into() })
}
