//! Why the kernel drops a packet, in its own word for it: `IP_INADDRERRORS`, `NETFILTER_DROP`.
//!
//! A small program in the kernel looks at every packet that is dropped (the tracepoint `skb:kfree_skb`, since
//! Linux 5.17 with a reason) and hands on those of one probe, from the namespaces that are watched. It goes with
//! the descriptors that this process has of it. The words are those of the running kernel: they are not the same in
//! all, and neither are the numbers behind them.

mod btf;
mod mapping;
mod program;
mod ring;
mod system;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread::{self, JoinHandle};

use hopyard_net::Family;

use crate::holders::NamespaceId;
use crate::tap::{Mark, Sight, recognise};
use crate::{Errno, KernelError, Part};
use btf::{Btf, Description};
use program::{Layout, RECORD_BYTES, program};
use ring::Ring;
use system::Map;

/// Sees what the kernel drops of a probe.
#[derive(Debug)]
pub struct DropWatch {
    /// Keys are the numbers of the namespaces.
    watched: OwnedFd,
    ring: Ring,
    /// By number.
    reasons: BTreeMap<u32, String>,
    /// The program runs as long as this is open.
    _link: OwnedFd,
}

/// A [`DropWatch`] that a thread begins.
#[derive(Debug)]
pub struct Beginning(io::Result<JoinHandle<Result<DropWatch, KernelError>>>);

/// A packet of a probe that was dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// In which namespace, by its inode.
    pub namespace: u64,
    /// Which packet it was.
    pub part: Part,
    /// The kernel's word for why, or its number where it has none.
    pub reason: String,
}

/// Room for so many bytes of records: some hundred.
const RING_BYTES: u32 = 1 << 16;
/// More namespaces are on no path.
const MOST_NAMESPACES: u32 = 4096;
/// What all words of the kernel begin with, there.
const PREFIX: &str = "SKB_DROP_REASON_";

impl Beginning {
    /// Waits until it has begun.
    ///
    /// # Errors
    /// Those of [`DropWatch::begin`], or no thread was to be had.
    pub fn finish(self) -> Result<DropWatch, KernelError> {
        let thread = self.0.map_err(|error| KernelError::new("start a thread", error))?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl DropWatch {
    /// Begins while the caller does something else.
    pub fn begin_beside(mark: Mark) -> Beginning {
        Beginning(thread::Builder::new().name("hop-drops".to_owned()).spawn(move || Self::begin(&mark)))
    }

    /// Begins to look for packets of a probe; where that is, `mark` need not say. It takes some milliseconds, for
    /// which nothing else is needed, and `CAP_BPF` and `CAP_PERFMON` in the machine's own user namespace.
    ///
    /// # Errors
    /// It may not be done, or this kernel does not say.
    pub fn begin(mark: &Mark) -> Result<Self, KernelError> {
        let failed = |what: &'static str| move |error: io::Error| KernelError::new(what, error);
        let unknown = || KernelError::new("find out why the kernel drops packets", Errno::from_raw(libc::EOPNOTSUPP));
        // The program takes an address for 64 bits.
        if cfg!(not(target_pointer_width = "64")) {
            return Err(unknown());
        }
        // First what is refused at once to who may not.
        let ring = system::make_map(Map::Ring, RING_BYTES).map_err(failed("make a ring buffer for the kernel"))?;
        let watched = system::make_map(Map::Numbers, MOST_NAMESPACES).map_err(failed("make a map for the kernel"))?;
        let ring = Ring::of(ring, RING_BYTES as usize).map_err(failed("share memory with the kernel"))?;
        let described = Description::open();
        let described = described.map_err(|error| KernelError::new(format!("read {}", Description::PATH), error))?;
        let names = [&Layout::STRUCTURES[..], &["skb_drop_reason"]].concat();
        let btf = Btf::read(described.bytes(), &names).ok_or_else(unknown)?;
        let reasons = btf.enumeration("skb_drop_reason").ok_or_else(unknown)?;
        let reasons = reasons.into_iter().map(|(number, name)| (number, name.strip_prefix(PREFIX).unwrap_or(name)));
        let layout = Layout::of(&btf).ok_or_else(unknown)?;
        let code = program(&layout, &mark.signatures(), watched.as_fd(), ring.as_fd());
        let program = system::load(&code).map_err(failed("load a program that sees what the kernel drops"))?;
        let link = system::attach(program.as_fd(), c"kfree_skb").map_err(failed("see what the kernel drops"))?;
        let reasons = reasons.map(|(number, name)| (number, name.to_owned())).collect();
        Ok(DropWatch { watched, ring, reasons, _link: link })
    }

    /// Looks at these namespaces too.
    ///
    /// # Errors
    /// They are too many, or no namespaces.
    pub fn watch(&self, namespaces: &[BorrowedFd<'_>]) -> Result<(), KernelError> {
        let add = |namespace: &BorrowedFd<'_>| {
            let number = u32::try_from(NamespaceId::of(*namespace)?.inode()).map_err(io::Error::other)?;
            system::add_number(self.watched.as_fd(), number)
        };
        let doing = |error: io::Error| KernelError::new("see what the kernel drops in a namespace", error);
        namespaces.iter().try_for_each(add).map_err(doing)
    }

    /// Takes the next packet of the probe that was dropped, if there is one.
    pub fn next(&mut self, mark: &Mark) -> Option<Dropped> {
        loop {
            let record: [u8; RECORD_BYTES] = self.ring.take()?;
            let (head, packet) = record.split_first_chunk::<8>()?;
            let [n0, n1, n2, n3, r0, r1, r2, r3] = *head;
            let number = u32::from_ne_bytes([r0, r1, r2, r3]);
            if let Some(part) = recognised(mark, packet) {
                let reason = self.reasons.get(&number).map_or_else(|| number.to_string(), Clone::clone);
                return Some(Dropped { namespace: u32::from_ne_bytes([n0, n1, n2, n3]).into(), part, reason });
            }
        }
    }
}

/// Behind the end of a packet its memory may have the remains of another one.
fn recognised(mark: &Mark, packet: &[u8]) -> Option<Part> {
    let length = |at: usize| packet.get(at..)?.first_chunk().copied().map(u16::from_be_bytes).map(usize::from);
    let (family, length) = match packet.first()? >> 4 {
        4 => (Family::Ipv4, length(2)?),
        6 => (Family::Ipv6, 40 + length(4)?),
        _ => return None,
    };
    match recognise(&[*mark], family, packet.get(..length).unwrap_or(packet))?.2 {
        Sight::Request => Some(Part::Packet),
        Sight::Reply | Sight::Reset => Some(Part::Reply),
        Sight::Error { .. } => Some(Part::Error),
        Sight::WhoHas(_) | Sight::IsAt(..) => None,
    }
}
