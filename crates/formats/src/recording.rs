//! A network as it was at one moment, in one file: all that decides where packets go, to be explained
//! on another machine, or kept as a test.
//!
//! ```json
//! {
//!   "format": "hopyard-snapshot",
//!   "version": 3,
//!   "nodes": {
//!     "home": {
//!       "interfaces": {
//!         "eth0": {
//!           "index": 2, "kind": {"veth": "near:eth0"}, "mac": "02:00:00:00:00:01", "mtu": 1500,
//!           "up": true, "carrier": true, "addresses": [{"net": "10.0.1.1/24"}]
//!         }
//!       },
//!       "routes": [{"to": "10.0.1.0/24", "hops": [{"dev": "eth0"}], "src": "10.0.1.1", "derived": true}],
//! ```
//!
//! What is left out has the value that it usually has. A key that is not known is an error, and so is a
//! file of a later version: an answer from half of a network would be wrong.

mod document;
mod layout;

use std::collections::BTreeMap;
use std::net::IpAddr;

use hopyard_model::{Problem, Span};
use hopyard_net::{NsName, Op, Snapshot};
use serde::{Deserialize, Serialize};

use crate::SourceFile;
use document::NodeDocument;

/// What a file of this kind says of itself.
pub const FORMAT: &str = "hopyard-snapshot";
/// Grows when a file cannot be understood any more by who knows the one before. Since 2 a firewall has sets, its
/// chains name their interfaces, and a bridge says whether the chains of IP see its frames; since 3 there is what was learnt by
/// redirects, for whom a node answers, how it sends and answers, and what stands on an interface.
pub const VERSION: u32 = 3;
/// The first one, which is read as well.
const FIRST: u32 = 1;

/// A snapshot, and what was known about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recording {
    /// By whom, where and when.
    pub recorded: Option<Recorded>,
    /// What it should be, where somebody has declared it.
    pub declared: Option<Declared>,
    /// What it was.
    pub snapshot: Snapshot,
}

/// By whom, where and when a snapshot was recorded. Nothing that names a machine or a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recorded {
    /// The program and its version.
    pub by: String,
    /// The kernel's release.
    pub kernel: String,
    /// When: RFC 3339, in UTC.
    pub at: String,
}

/// What a network was declared to be, as far as an explanation needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Declared {
    /// The lab's name.
    pub lab: String,
    /// The topology file, without directories; `None`: there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Its nodes. What has a namespace and is not among them is a switch.
    pub nodes: BTreeMap<NsName, DeclaredNode>,
    /// What would have to be done to make the network as it was declared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drift: Vec<Op>,
}

/// What was declared of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeclaredNode {
    /// Its addresses, the main one of each family first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpAddr>,
    /// The line of the file where it has settings of its own; `None` also where routes are planned, and
    /// the file cannot say them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// Does it have routes there already?
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub routes: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: String,
    version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    recorded: Option<Recorded>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    declared: Option<Declared>,
    nodes: BTreeMap<NsName, NodeDocument>,
}

/// The part that every version has.
#[derive(Deserialize)]
struct Head {
    format: Option<String>,
    version: Option<u64>,
}

impl Recording {
    /// The text of the file: the same for the same network.
    ///
    /// # Errors
    /// It cannot be said in JSON; of a network that a kernel has shown it can.
    pub fn to_text(&self) -> Result<String, serde_json::Error> {
        let file = File {
            format: FORMAT.to_owned(),
            version: VERSION,
            recorded: self.recorded.clone(),
            declared: self.declared.clone(),
            nodes: self.snapshot.nodes.iter().map(|(name, node)| (name.clone(), node.into())).collect(),
        };
        Ok(layout::lay_out(&serde_json::to_string(&file)?))
    }

    /// Reads what [`to_text`](Self::to_text) has written.
    ///
    /// # Errors
    /// It is none, or one of a later version; with the place where that shows.
    pub fn read(source: &SourceFile) -> Result<Self, Problem> {
        let text = source.text();
        if text.len() > crate::MAX_TEXT * 4 {
            return Err(Problem::error("too-long", None, format!("a recording of {} bytes is none", text.len())));
        }
        // First what it is: a file of a later version has keys that are not known.
        let head: Head = serde_json::from_str(text).map_err(|error| no_head(source, &error))?;
        if head.format.as_deref() != Some(FORMAT) {
            let message = format!("this is no recording: its first key should be `\"format\": \"{FORMAT}\"`");
            return Err(
                Problem::error("not-a-recording", at_key(text, "format"), message).help("`hop record` makes one")
            );
        }
        match head.version {
            Some(version) if (FIRST.into()..=VERSION.into()).contains(&version) => {}
            Some(version) if version > u64::from(VERSION) => {
                let message = format!("the recording is of version {version}; this program reads up to {VERSION}");
                return Err(
                    Problem::error("later-version", at_key(text, "version"), message).help("a newer hop reads it")
                );
            }
            _ => {
                let message =
                    format!("the recording has no version that this program knows; it knows {FIRST} to {VERSION}");
                return Err(Problem::error("bad-version", at_key(text, "version"), message));
            }
        }
        let file: File = serde_json::from_str(text).map_err(|error| problem(source, &error))?;
        let nodes = file.nodes.into_iter().map(|(name, node)| (name, node.into())).collect();
        Ok(Recording { recorded: file.recorded, declared: file.declared, snapshot: Snapshot { nodes } })
    }
}

/// Of a file that does not even say what it is: another kind of file, or a recording that is broken.
fn no_head(source: &SourceFile, error: &serde_json::Error) -> Problem {
    let text = source.text();
    let is_broken = text.trim_start().starts_with('{') && text.contains(FORMAT);
    if is_broken || error.is_eof() {
        return problem(source, error);
    }
    let why = if error.is_syntax() {
        "it is no JSON".to_owned()
    } else {
        format!("its first key should be `\"format\": \"{FORMAT}\"`")
    };
    let start = source.offset(error.line(), error.column());
    let at = Span { start, end: start.saturating_add(1) };
    Problem::error("not-a-recording", Some(at), format!("this is no recording: {why}")).help("`hop record` makes one")
}

/// What the reader of JSON says, and where.
fn problem(source: &SourceFile, error: &serde_json::Error) -> Problem {
    let text = error.to_string();
    // The place is shown, and need not be told as well.
    let mut message = text.split(" at line ").next().unwrap_or_default().to_owned();
    let start = source.offset(error.line(), error.column());
    if message.starts_with("invalid ")
        && let Some(key) = key_before(source.text(), start)
    {
        message = format!("`{key}` has an {message}");
    }
    let mut problem = Problem::error("bad-recording", Some(Span { start, end: start.saturating_add(1) }), message);
    if error.is_eof() {
        problem = problem.help("the file ends too early: it was cut, or is still being written");
    }
    problem
}

/// The key whose value ends, or begins, at a place.
fn key_before(text: &str, place: u32) -> Option<&str> {
    let (before, _) = text.get(..place as usize)?.rsplit_once("\":")?;
    let (_, key) = before.rsplit_once('"')?;
    let is_key = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    is_key.then_some(key)
}

/// Where a key stands, to point at; the beginning, where there is none.
fn at_key(text: &str, key: &str) -> Option<Span> {
    let quoted = format!("\"{key}\"");
    let (start, length) = text.find(&quoted).map_or((0, 1), |start| (start, quoted.len()));
    let start = u32::try_from(start).ok()?;
    Some(Span { start, end: start.saturating_add(u32::try_from(length).ok()?) })
}
