//! Where an answer comes from, and what that means for how it is told: which file declares the network,
//! how a command is typed there.

use std::collections::BTreeMap;
use std::fmt;

use hopyard::explain::Edit;
use hopyard::net::NsName;
use hopyard::runtime::why::Place;

use super::file::File;
use crate::ui::quoted;

/// See above.
#[derive(Debug, Default)]
pub(super) struct Scene {
    /// The topology file; `None`: there is none, or it says something else by now.
    pub(super) file: Option<File>,
    /// Of a lab that runs: what stands before the name of a node, `LAB/`, or nothing where it need not be named.
    pub(super) lab: Option<String>,
    /// What the namespaces are, where they are no lab's.
    pub(super) places: BTreeMap<NsName, Place>,
    /// What the file has under `expect` about this, by the numbers of the lines.
    pub(super) expect: BTreeMap<usize, ExpectLine>,
    /// A last line: what there is to know of how the answer came about.
    pub(super) remark: Option<String>,
}

/// A line of `expect`.
#[derive(Debug)]
pub(super) struct ExpectLine {
    /// `star.hop.yaml:13`.
    pub(super) place: String,
    /// The same for programs; `None`: it came from no file, or that says something else by now.
    pub(super) file: Option<String>,
    pub(super) line: Option<usize>,
    /// `guest -x-> db`.
    pub(super) words: String,
}

impl fmt::Display for ExpectLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.words)
    }
}

impl Scene {
    /// The command that makes a change: of a lab as typed in the node, else from where hop is.
    pub(super) fn command(&self, edit: &Edit) -> String {
        match self.places.get(edit.node()) {
            None | Some(Place::Host) => edit.to_string(),
            Some(place) => format!("{} {edit}", into(place)),
        }
    }

    /// The command that makes a change, as it is typed where hop is. `None`: the network is not here.
    pub(super) fn command_here(&self, edit: &Edit) -> Option<String> {
        match &self.lab {
            Some(lab) => Some(format!("hop exec {lab}{} -- {edit}", edit.node())),
            None => (!self.places.is_empty()).then(|| self.command(edit)),
        }
    }

    /// Could `--fix` make the change?
    pub(super) fn may_make(&self, edit: &Edit) -> bool {
        edit.op().is_some() && self.places.get(edit.node()) != Some(&Place::Host)
    }
}

/// How to enter a namespace: ip-netns(8), nsenter(1).
fn into(place: &Place) -> String {
    match place {
        Place::Host => String::new(),
        Place::Named(name) => format!("ip netns exec {}", quoted(&name.to_string())),
        Place::Process(pid) => format!("nsenter -t {pid} -n"),
        Place::Path(path) => format!("nsenter --net={}", quoted(&path.display().to_string())),
    }
}
