//! What the running kernel says of its own types: where the fields of a structure are, and the names of an
//! enumeration.
//!
//! The BPF Type Format (kernel documentation: bpf/btf) lists every type of the kernel, 100 000 and more. Here it
//! is passed once, and nothing is made of a type that nobody asks for. The crates for it make a table of all,
//! which takes longer than everything else that is done here; the one that is kept best is LGPL.

#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;

use super::mapping::Mapping;

/// The description of the running kernel.
pub(super) enum Description {
    /// Since Linux 6.16: not copied.
    Mapped(Mapping),
    Copied(Vec<u8>),
}

impl Description {
    pub(super) const PATH: &'static str = "/sys/kernel/btf/vmlinux";

    pub(super) fn open() -> io::Result<Self> {
        let mut file = File::open(Self::PATH)?;
        let length = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        match Mapping::private(file.as_fd(), length) {
            Ok(mapping) => Ok(Description::Mapped(mapping)),
            Err(_) => Self::copy(&mut file, length),
        }
    }

    fn copy(file: &mut File, length: usize) -> io::Result<Self> {
        let mut bytes = Vec::with_capacity(length + 1);
        file.read_to_end(&mut bytes)?;
        Ok(Description::Copied(bytes))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            // SAFETY: the mapping is that long, lives as long as `self`, and the kernel does not change what it says of
            // its types.
            Description::Mapped(mapping) => unsafe {
                std::slice::from_raw_parts(mapping.start().cast().as_ptr(), mapping.length())
            },
            Description::Copied(bytes) => bytes,
        }
    }
}

/// Types of a kernel, or of anything else that has been described so.
pub(super) struct Btf<'a> {
    types: &'a [u8],
    strings: &'a [u8],
    /// Where each type begins in `types`. Type 0 is none.
    starts: Vec<u32>,
    /// The structures and enumerations that were asked for.
    named: BTreeMap<&'static str, usize>,
}

const MAGIC: u16 = 0xeb9f;
/// Name, kind, and a size or another type.
const TYPE_BYTES: usize = 12;
const MEMBER_BYTES: usize = 12;

// Kinds of types (linux/btf.h).
const INT: u32 = 1;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
const TYPEDEF: u32 = 8;
const VOLATILE: u32 = 9;
const CONST: u32 = 10;
const RESTRICT: u32 = 11;
const FUNC_PROTO: u32 = 13;
const VAR: u32 = 14;
const DATASEC: u32 = 15;
const DECL_TAG: u32 = 17;
const TYPE_TAG: u32 = 18;
const ENUM64: u32 = 19;

impl<'a> Btf<'a> {
    /// Looks through all types for the structures and enumerations of these names. `None`: that is no BTF, or
    /// one that is not understood.
    pub(super) fn read(bytes: &'a [u8], names: &[&'static str]) -> Option<Self> {
        /// Most types are pointers and structures of a few members.
        const USUAL_BYTES: usize = 24;
        let magic = u16::from_ne_bytes(*bytes.first_chunk()?);
        let header = number(bytes, 4)?;
        let section = |at: usize| -> Option<&'a [u8]> {
            let start = header.checked_add(number(bytes, at)?)?;
            bytes.get(start..start.checked_add(number(bytes, at + 4)?)?)
        };
        if magic != MAGIC {
            return None;
        }
        let (types, strings) = (section(8)?, section(16)?);
        let mut starts = Vec::with_capacity(types.len() / USUAL_BYTES);
        starts.push(u32::MAX);
        let mut named = BTreeMap::new();
        let mut start = 0;
        while start < types.len() {
            let info = word(types, start + 4)?;
            let (kind, members) = (kind_of(info), count_of(info));
            if matches!(kind, STRUCT | ENUM) {
                let name = string(strings, number(types, start)?);
                if let Some(name) = names.iter().find(|wanted| name == wanted.as_bytes()) {
                    named.entry(*name).or_insert(starts.len());
                }
            }
            starts.push(u32::try_from(start).ok()?);
            let behind = match kind {
                INT | VAR | DECL_TAG => 4,
                ARRAY => 12,
                ENUM | FUNC_PROTO => members * 8,
                STRUCT | UNION | DATASEC | ENUM64 => members * MEMBER_BYTES,
                kind if kind <= ENUM64 => 0,
                // How long that is, nobody knows.
                _ => return None,
            };
            start += TYPE_BYTES + behind;
        }
        Some(Btf { types, strings, starts, named })
    }

    /// Where a field is in one of the structures that were asked for, in bytes. `path` leads into structures
    /// in it; what has no name on the way is found by itself.
    pub(super) fn offset(&self, structure: &str, path: &[&str]) -> Option<usize> {
        let mut at = *self.named.get(structure)?;
        let mut offset = 0;
        for field in path {
            let (more, next) = self.field(at, field, DEEPEST)?;
            offset += more;
            at = next;
        }
        Some(offset)
    }

    /// The names of an enumeration that was asked for, by number.
    pub(super) fn enumeration(&self, name: &str) -> Option<BTreeMap<u32, &'a str>> {
        let start = self.start(*self.named.get(name)?)?;
        let info = word(self.types, start + 4)?;
        let values = (0..count_of(info)).map(|at| start + TYPE_BYTES + at * 8);
        let pair = |at: usize| {
            let name = string(self.strings, number(self.types, at)?);
            Some((word(self.types, at + 4)?, std::str::from_utf8(name).ok()?))
        };
        (kind_of(info) == ENUM).then(|| values.filter_map(pair).collect())
    }

    fn start(&self, id: usize) -> Option<usize> {
        self.starts.get(id).filter(|start| **start != u32::MAX).map(|start| *start as usize)
    }

    /// The structure or union that a type is, by whatever name.
    fn structure(&self, mut id: usize) -> Option<usize> {
        for _ in 0..DEEPEST {
            let start = self.start(id)?;
            match kind_of(word(self.types, start + 4)?) {
                STRUCT | UNION => return Some(start),
                TYPEDEF | VOLATILE | CONST | RESTRICT | TYPE_TAG => id = number(self.types, start + 8)?,
                _ => return None,
            }
        }
        None
    }

    /// Where a field is, in bytes, and its type.
    fn field(&self, id: usize, field: &str, depth: usize) -> Option<(usize, usize)> {
        /// With this flag the upper byte of an offset is the size of a bit field.
        const BIT_FIELDS: u32 = 1 << 31;
        let start = self.structure(id)?;
        let info = word(self.types, start + 4)?;
        let mask = if info & BIT_FIELDS == 0 { u32::MAX } else { 0x00ff_ffff };
        for at in (0..count_of(info)).map(|at| start + TYPE_BYTES + at * MEMBER_BYTES) {
            let name = string(self.strings, number(self.types, at)?);
            let inner = number(self.types, at + 4)?;
            let bits = word(self.types, at + 8)? & mask;
            let offset = (bits / 8) as usize;
            if name == field.as_bytes() {
                return (bits % 8 == 0).then_some((offset, inner));
            }
            if name.is_empty()
                && depth > 0
                && let Some((more, found)) = self.field(inner, field, depth - 1)
            {
                return Some((offset + more, found));
            }
        }
        None
    }
}

/// More structures are in each other nowhere, unless the description is broken.
const DEEPEST: usize = 16;

fn kind_of(info: u32) -> u32 {
    info >> 24 & 0x1f
}

fn count_of(info: u32) -> usize {
    (info & 0xffff) as usize
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_ne_bytes)
}

fn number(bytes: &[u8], at: usize) -> Option<usize> {
    word(bytes, at).map(|word| word as usize)
}

fn string(strings: &[u8], at: usize) -> &[u8] {
    strings.get(at..).and_then(|rest| rest.split(|byte| *byte == 0).next()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::program::Layout;
    use super::*;

    /// `struct net { int; struct { struct common ns : 8; } }` in a type of its own, and an enumeration.
    fn sample() -> Vec<u8> {
        let strings = b"\0net\0ns\0common\0inum\0why\0SKB_NO\0SKB_YES\0";
        let at = |text: &str| {
            let wanted = [text.as_bytes(), &[0]].concat();
            u32::try_from(strings.windows(wanted.len()).position(|window| window == wanted).unwrap()).unwrap()
        };
        let head = |name: u32, kind: u32, count: u32, last: u32| vec![name, kind << 24 | count, last];
        let types: Vec<u32> = [
            // 1: an integer, with its description; 2: struct common { pad; inum }
            [head(0, INT, 0, 4), vec![32]].concat(),
            [head(at("common"), STRUCT, 2, 8), vec![0, 1, 0, at("inum"), 1, 32]].concat(),
            // 3: a typedef of it; 4: the nameless structure; 5: struct net
            head(at("common"), TYPEDEF, 0, 2),
            [head(0, UNION, 1, 8), vec![at("ns"), 3, 0]].concat(),
            [head(at("net"), STRUCT, 2, 24), vec![0, 1, 0, 0, 4, 128]].concat(),
            // 6: an enumeration
            [head(at("why"), ENUM, 2, 4), vec![at("SKB_NO"), 0, at("SKB_YES"), 7]].concat(),
        ]
        .concat();
        let length = |bytes: usize| u32::try_from(bytes).unwrap().to_ne_bytes();
        let mut bytes = MAGIC.to_ne_bytes().to_vec();
        bytes.extend([1, 0]);
        for number in [24, 0, types.len() * 4, types.len() * 4, strings.len()] {
            bytes.extend(length(number));
        }
        bytes.extend(types.iter().flat_map(|word| word.to_ne_bytes()));
        bytes.extend(strings);
        bytes
    }

    #[test]
    fn fields_are_found_through_what_has_no_name() {
        let bytes = sample();
        let btf = Btf::read(&bytes, &["net", "why"]).unwrap();
        assert_eq!(btf.offset("net", &["ns"]), Some(16));
        assert_eq!(btf.offset("net", &["ns", "inum"]), Some(20));
        assert_eq!(btf.offset("net", &["inum"]), None);
        assert_eq!(btf.offset("common", &["inum"]), None, "nobody asked for it");
        assert_eq!(btf.enumeration("why").unwrap(), BTreeMap::from([(0, "SKB_NO"), (7, "SKB_YES")]));
        assert!(btf.enumeration("net").is_none());
    }

    /// A kernel that lets itself be mapped says the same to who copies.
    #[test]
    fn the_running_kernel_knows_its_structures() {
        let Ok(mut file) = File::open(Description::PATH) else {
            println!("skipped: there is no {}", Description::PATH);
            return;
        };
        let names = [&Layout::STRUCTURES[..], &["skb_drop_reason"]].concat();
        let layout = |description: &Description| {
            let btf = Btf::read(description.bytes(), &names).unwrap();
            let reasons = btf.enumeration("skb_drop_reason").unwrap();
            assert!(reasons.values().any(|name| *name == "SKB_DROP_REASON_NOT_SPECIFIED"), "{reasons:?}");
            Layout::of(&btf).unwrap()
        };
        let copied = Description::copy(&mut file, 0).unwrap();
        assert_eq!(layout(&copied), layout(&Description::open().unwrap()));
    }

    #[test]
    fn a_broken_description_is_no_panic() {
        let bytes = sample();
        for length in 0..bytes.len() {
            let mut cut = bytes[..length].to_vec();
            for wrong in [None, Some(0xff), Some(4)] {
                if let (Some(wrong), Some(last)) = (wrong, cut.last_mut()) {
                    *last = wrong;
                }
                if let Some(btf) = Btf::read(&cut, &["net", "why"]) {
                    btf.offset("net", &["ns", "inum"]);
                    btf.enumeration("why");
                }
            }
        }
        let mut wrong = bytes.clone();
        for at in 0..bytes.len() {
            wrong[at] = 0xff;
            if let Some(btf) = Btf::read(&wrong, &["net", "why"]) {
                btf.offset("net", &["ns", "inum"]);
                btf.enumeration("why");
            }
            wrong[at] = bytes[at];
        }
    }
}
