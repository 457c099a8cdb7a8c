//! What is on record of interfaces that were moved: a file for each.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use hopyard_kernel::moving::Space;
use hopyard_kernel::{Inside, look_inside};
use hopyard_net::IfName;
use serde::{Deserialize, Serialize};

use super::directory::{Names, open};
use crate::error::{Error, IoContext};
use crate::home::Home;
use crate::whole_file::WholeFile;

/// That an interface was moved by us: it goes back when the name of its namespace is deleted.
///
/// A file for each, whose name says what is looked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Move {
    /// The interface.
    pub(super) dev: IfName,
    /// The cookie of the namespace that it is in.
    pub(super) at: u64,
    /// The cookie of the one that it came from.
    pub(super) from: u64,
    /// What it had there.
    pub(super) settings: Vec<u8>,
    /// Its number where it is, for it may be called something else by then. `None`: it was not there yet.
    #[serde(default)]
    pub(super) number: Option<u32>,
    /// What it was called there when it set out for home. Until this is forgotten, it may not have all again that it had.
    #[serde(default)]
    pub(super) returning: Option<IfName>,
}

/// What the files begin with, and what they begin with while they are written. An interface may be called `eth0.new`.
const PREFIX: &str = ".moved-";
const UNFINISHED: &str = ".moving-";

impl Move {
    fn file_name(at: u64, dev: IfName) -> String {
        format!("{PREFIX}{at}-{dev}")
    }

    pub(super) fn write(&self, home: &Home) -> Result<(), Error> {
        let name = Self::file_name(self.at, self.dev);
        let path = home.note(&name)?;
        let text =
            serde_json::to_vec(self).map_err(io::Error::other).context(|| format!("write {}", path.display()))?;
        let new = path.with_file_name(name.replacen(PREFIX, UNFINISHED, 1));
        WholeFile::new(&path, &new).replace(&text).context(|| format!("write {}", path.display()))
    }

    pub(super) fn forget(home: &Home, at: u64, dev: IfName) {
        // It may never have been written down.
        if let Ok(path) = home.note(&Self::file_name(at, dev)) {
            fs::remove_file(path).ok();
        }
        home.tidy();
    }

    /// What it is called where it is; `None`: it is there no more.
    pub(super) fn called(&self, there: &mut Space) -> Result<Option<IfName>, Error> {
        Ok(match self.number {
            Some(number) => there.named(number)?,
            None => there.interfaces()?.into_iter().find(|it| *it == self.dev),
        })
    }

    /// What it is called at home, if it has come there and whoever brought it was killed before it had all again.
    pub(super) fn arrived(&self, home: &mut Space) -> Result<Option<IfName>, Error> {
        let Some(called) = self.returning else { return Ok(None) };
        let there = home.interfaces()?;
        // By the first name there was none here when it came.
        Ok([called, self.dev].into_iter().find(|dev| there.contains(dev)))
    }

    /// Forgets those of namespaces whose names somebody else has deleted.
    pub(super) fn forget_gone(home: &Home) -> Result<(), Error> {
        let mut known = BTreeSet::new();
        Names::visit(|entries| {
            let open = open(&entries.iter().collect::<Vec<_>>());
            let insides = look_inside(&open).context(|| "look into the namespaces".to_owned())?;
            known.extend(insides.iter().flatten().filter_map(|inside| inside.cookie));
            Ok(())
        })?;
        let all = home.notes(PREFIX)?;
        let all = all.iter().filter_map(|path| Self::subject(path));
        all.filter(|(at, _)| !known.contains(at)).for_each(|(at, dev)| Self::forget(home, at, dev));
        Ok(())
    }

    /// Which namespace and which interface a file is about, by its name.
    fn subject(path: &Path) -> Option<(u64, IfName)> {
        let (at, dev) = path.file_name()?.to_str()?.strip_prefix(PREFIX)?.split_once('-')?;
        Some((at.parse().ok()?, dev.parse().ok()?))
    }
}

/// All moves on record, by the namespace that the interface is in.
#[derive(Debug, Default)]
pub(super) struct Moves {
    pub(super) known: BTreeMap<u64, Vec<Move>>,
    /// Those of which it can be read what they are about, and no more.
    pub(super) unreadable: BTreeMap<u64, Vec<(IfName, PathBuf)>>,
}

impl Moves {
    pub(super) fn read(home: &Home) -> Result<Self, Error> {
        let mut moves = Moves::default();
        for path in home.notes(PREFIX)? {
            let text = match fs::read(&path) {
                // It has just come back.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                text => text.unwrap_or_default(),
            };
            if let Ok(found) = serde_json::from_slice::<Move>(&text) {
                moves.known.entry(found.at).or_default().push(found);
            } else if let Some((at, dev)) = Move::subject(&path) {
                moves.unreadable.entry(at).or_default().push((dev, path));
            }
        }
        Ok(moves)
    }

    pub(super) fn are_none(&self) -> bool {
        self.known.is_empty() && self.unreadable.is_empty()
    }

    pub(super) fn of(&self, inside: &Inside) -> &[Move] {
        inside.cookie.and_then(|cookie| self.known.get(&cookie)).map_or(&[], Vec::as_slice)
    }

    /// Is anything on record of the namespace?
    pub(super) fn concern(&self, inside: &Inside) -> bool {
        inside.cookie.is_some_and(|cookie| self.known.contains_key(&cookie) || self.unreadable.contains_key(&cookie))
    }
}
