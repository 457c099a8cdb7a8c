//! What is written down of a running lab, before the first side effect and after each stage.

use std::fs;
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::Path;

use hopyard_kernel::Process;
use hopyard_model::{Lab, LabName};
use hopyard_net::NsName;
use serde::{Deserialize, Serialize};

use crate::attach::{ATTACHED, ATTACHED_NEW};
use crate::error::{Error, IoContext};
use crate::home::remove_file;
use crate::lent::{LENT, LENT_NEW};
use crate::uplink;
use crate::whole_file::WholeFile;

/// What is to know of every running lab. Small, whatever the lab's size: every `hop exec` reads it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    version: u32,
    /// The lab's name.
    pub name: LabName,
    /// How far it came.
    pub stage: Stage,
    /// The process that it lives in.
    pub keeper: Option<KeeperId>,
    /// Where the topology came from: a path, or the inline text.
    pub source: String,
    /// Does it end with the command that started it?
    pub ephemeral: bool,
    /// When it was brought up, in seconds since 1970 (UTC).
    pub created: u64,
    /// How many nodes it has.
    pub nodes: usize,
    /// How many links it has.
    pub links: usize,
}

/// What a lab is, as it was last brought up.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Contents {
    /// Every node and its addresses, the main one of each family first.
    pub hosts: Vec<(NsName, Vec<IpAddr>)>,
    /// The topology.
    pub lab: Lab,
}

/// How far a lab came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// It is being built.
    Starting,
    /// It runs as the record says.
    Up,
    /// It ran and is being changed into what the record says.
    Changing,
}

/// A process, and when it started: the id alone may be another's by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeeperId {
    /// Its process id.
    pub pid: i32,
    /// Its start, in clock ticks since boot.
    pub start_time: u64,
}

impl KeeperId {
    pub(crate) fn of(process: &Process) -> Self {
        KeeperId { pid: process.pid(), start_time: process.start_time() }
    }

    /// The process, if it lives and is not about to end.
    pub(crate) fn find_alive(self) -> Result<Option<Process>, Error> {
        let Some(process) = self.find()? else { return Ok(None) };
        let ending = process.is_ending().context(|| format!("look at the lab's keeper, process {}", self.pid))?;
        Ok((!ending).then_some(process))
    }

    /// The process, as long as there is anything left of it.
    pub(crate) fn find(self) -> Result<Option<Process>, Error> {
        Process::find(self.pid, self.start_time).context(|| format!("look for the lab's keeper, process {}", self.pid))
    }
}

/// Names of the files in a lab's directory.
pub(crate) const RECORD: &str = "record.json";
const RECORD_NEW: &str = "record.json.new";
/// What the record will be when the keeper is released: whoever comes first, the keeper or its starter, gives it its name.
/// So no lab is up by its record that ends with its starter, and none outlives it that is not.
const RECORD_UP: &str = "record.json.up";
const RECORD_UP_NEW: &str = "record.json.up.new";
/// What the keeper is to rename, and to what.
pub(crate) const ON_RELEASE: (&str, &str) = (RECORD_UP, RECORD);
const CONTENTS: &str = "lab.json";
const CONTENTS_NEW: &str = "lab.json.new";
pub(crate) const NODES: &str = "nodes";
const NODES_NEW: &str = "nodes.new";
/// Those that a keeper that was abandoned takes with it: all but the one by which a lent interface gets again what it
/// had. That one is for the next `up` or `down`.
pub(crate) fn of_keeper() -> Vec<&'static str> {
    FILES.into_iter().filter(|file| *file != LENT).collect()
}

/// All of them, for removal.
pub(crate) const FILES: [&str; 18] = [
    RECORD,
    RECORD_NEW,
    RECORD_UP,
    RECORD_UP_NEW,
    CONTENTS,
    CONTENTS_NEW,
    NODES,
    NODES_NEW,
    LENT,
    LENT_NEW,
    ATTACHED,
    ATTACHED_NEW,
    uplink::FILE,
    uplink::FILE_NEW,
    "ctl",
    "hosts",
    "nsswitch.conf",
    "resolv.conf",
];
/// The directories in it.
pub(crate) const DIRS: [&str; 1] = ["view"];

impl Record {
    const VERSION: u32 = 1;

    pub(crate) fn new(lab: &Lab, source: String, ephemeral: bool) -> Self {
        let created = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |t| t.as_secs());
        Record {
            version: Self::VERSION,
            name: lab.name().clone(),
            stage: Stage::Starting,
            keeper: None,
            source,
            ephemeral,
            created,
            nodes: lab.nodes().len(),
            links: lab.links().len(),
        }
    }

    /// Reads the record in a lab's directory; `None`: there is none.
    pub(crate) fn read(dir: &Path) -> Result<Option<Self>, Error> {
        let Some(record) = read_json::<Record>(dir, RECORD)? else { return Ok(None) };
        if record.version != Self::VERSION {
            let why = format!("it is of version {}, this program knows {}", record.version, Self::VERSION);
            return Err(Error::Record { path: dir.join(RECORD), why });
        }
        Ok(Some(record))
    }

    /// Writes it, whole or not at all.
    pub(crate) fn write(&self, dir: &Path) -> Result<(), Error> {
        write_json(dir, RECORD, RECORD_NEW, self)
    }

    /// Writes what it will be when the keeper is released.
    pub(crate) fn write_ahead(&self, dir: &Path) -> Result<(), Error> {
        write_json(dir, RECORD_UP, RECORD_UP_NEW, self)
    }

    /// The keeper is released.
    pub(crate) fn take_effect(dir: &Path) -> Result<(), Error> {
        match fs::rename(dir.join(RECORD_UP), dir.join(RECORD)) {
            // The keeper was faster.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            renamed => renamed.context(|| format!("write {}", dir.join(RECORD).display())),
        }
    }
}

impl Contents {
    /// Reads them from a lab's directory.
    pub(crate) fn read(dir: &Path) -> Result<Self, Error> {
        read_json(dir, CONTENTS)?
            .ok_or_else(|| Error::Record { path: dir.join(CONTENTS), why: "there is none".to_owned() })
    }

    /// Writes them, whole or not at all.
    pub(crate) fn write(&self, dir: &Path) -> Result<(), Error> {
        write_json(dir, CONTENTS, CONTENTS_NEW, self)
    }
}

pub(crate) fn read_json<T: for<'de> Deserialize<'de>>(dir: &Path, name: &str) -> Result<Option<T>, Error> {
    let path = dir.join(name);
    match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        text => {
            let text = text.context(|| format!("read {}", path.display()))?;
            serde_json::from_slice(&text).map(Some).map_err(|error| Error::Record { path, why: error.to_string() })
        }
    }
}

pub(crate) fn write_json(dir: &Path, name: &str, temporary: &str, value: &impl Serialize) -> Result<(), Error> {
    let text = serde_json::to_vec(value).map_err(io::Error::from).context(|| "write down the lab".to_owned())?;
    replace(dir, name, temporary, &text)
}

/// The same for a list, whose file is there only where there is something in it.
pub(crate) fn write_list(dir: &Path, name: &str, temporary: &str, list: &[impl Serialize]) -> Result<(), Error> {
    if list.is_empty() { remove_file(&dir.join(name)) } else { write_json(dir, name, temporary, &list) }
}

/// The descriptors by which the keeper holds the namespaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// Name, and number of the descriptor in the keeper.
    pub(crate) nodes: Vec<(NsName, u32)>,
}

impl Held {
    /// A line a node: a plain format, because every `hop exec` reads it.
    pub(crate) fn read(dir: &Path) -> Result<Self, Error> {
        let path = dir.join(NODES);
        let text = fs::read_to_string(&path).context(|| format!("read {}", path.display()))?;
        let nodes = text.lines().map(parse_line).collect::<Option<Vec<_>>>();
        match nodes {
            Some(nodes) => Ok(Held { nodes }),
            None => Err(Error::Record { path, why: "a line is not a number and a name".to_owned() }),
        }
    }

    /// The number of one node alone.
    pub(crate) fn find(dir: &Path, node: &str) -> Result<Option<u32>, Error> {
        let path = dir.join(NODES);
        let text = fs::read_to_string(&path).context(|| format!("read {}", path.display()))?;
        Ok(text
            .lines()
            .filter_map(|line| line.split_once(' '))
            .find(|(_, name)| *name == node)
            .and_then(|(n, _)| n.parse().ok()))
    }

    pub(crate) fn write(&self, dir: &Path) -> Result<(), Error> {
        let mut text = Vec::new();
        for (name, number) in &self.nodes {
            writeln!(text, "{number} {name}").context(|| "write down the nodes".to_owned())?;
        }
        replace(dir, NODES, NODES_NEW, &text)
    }
}

fn parse_line(line: &str) -> Option<(NsName, u32)> {
    let (number, name) = line.split_once(' ')?;
    Some((name.parse().ok()?, number.parse().ok()?))
}

fn replace(dir: &Path, name: &str, temporary: &str, text: &[u8]) -> Result<(), Error> {
    let path = dir.join(name);
    // They end with the machine, as the lab does.
    WholeFile::new(&path, &dir.join(temporary)).replace(text).context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_reads_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let held = Held { nodes: vec![("a".parse().unwrap(), 7), ("b.c".parse().unwrap(), 12)] };
        held.write(dir.path()).unwrap();
        assert_eq!(Held::read(dir.path()).unwrap(), held);
        assert_eq!(Held::find(dir.path(), "b.c").unwrap(), Some(12));
        assert_eq!(Held::find(dir.path(), "b").unwrap(), None);
        fs::write(dir.path().join(NODES), "x y\n").unwrap();
        assert!(matches!(Held::read(dir.path()), Err(Error::Record { .. })));
    }
}
