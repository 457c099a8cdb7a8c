//! Nodes whose namespace is that of a running container, or of any other process.
//!
//! The keeper holds the container's namespace instead of one of its own; everything else is a change as any other:
//! what the node lacks there is made, what is there and not the lab's is left alone. What the lab has made there is on
//! record, so that it can be taken away again.

mod engine;
mod error;

pub use engine::{Engine, Found, find};
pub use error::AttachError;

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use hopyard_kernel::holders::NamespaceId;
use hopyard_kernel::{Errno, Process, Realm, World, keeper, pin};
use hopyard_model::{Lab, LabName, Problem};
use hopyard_net::{NetState, NsName, NsState, Op, SysctlKey};
use hopyard_plan::foreign;
use serde::{Deserialize, Serialize};

use crate::error::{Error, IoContext};
use crate::home::{Home, LabDir};
use crate::lifecycle::{self, Up};
use crate::ns::network_of;
use crate::record::{self, Contents, Held, KeeperId, Record};
use crate::running::Running;

/// The file in a lab's directory.
pub(crate) const ATTACHED: &str = "attached.json";
pub(crate) const ATTACHED_NEW: &str = "attached.json.new";

/// A node that is a container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Attachment {
    /// The node.
    pub node: NsName,
    /// What it is called: a container's name, or the number of a process.
    pub label: String,
    process: KeeperId,
    /// The cookie of the namespace, which the process may leave; `None` where the kernel has none (before 5.14).
    #[serde(default)]
    cookie: Option<u64>,
    /// The number by which the keeper holds the namespace.
    #[serde(default)]
    number: Option<u32>,
    /// What the lab has made there.
    ours: NsState,
    /// The settings that it has changed, as they were.
    #[serde(default)]
    before: BTreeMap<SysctlKey, String>,
}

impl Attachment {
    /// Does the container, or the process, still run?
    ///
    /// # Errors
    /// It cannot be looked for.
    pub fn is_running(&self) -> Result<bool, Error> {
        Ok(self.process.find()?.is_some())
    }
}

/// All of a lab.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Attachments(pub(crate) Vec<Attachment>);

/// Makes the namespace of a process a node of a running lab: of one that is there already, which was empty.
///
/// # Errors
/// It cannot be; the lab is then as it was.
pub fn attach(home: &Home, lab: &LabName, node: &NsName, process: &Process, label: &str) -> Result<Up, Error> {
    let (dir, mut record, running) = lifecycle::take(home, lab)?;
    let contents = Contents::read(dir.path())?;
    check_inside(&contents.lab, node).unwrap_or_else(|| Err(running.no_such_node(node.as_str())))?;
    let mut attachments = Attachments::read(dir.path())?;
    if let Some(other) = attachments.0.iter().find(|other| other.node == *node) {
        if other.is_running()? {
            return Err(AttachError::IsAttached { node: node.clone(), label: other.label.clone() }.into());
        }
        // One that was started anew is another process, with another network.
        record = detach_locked(home, &dir, &running, node, &contents)?.running.record().clone();
        attachments = Attachments::read(dir.path())?;
    }
    let network = network_of(process)?;
    let cookie = check_namespace(&running, node, &network, label)?;
    check_names(&running, &contents, node, &network, label)?;
    check_empty(&running, node)?;

    // From here on it is on record, and any `up` finishes it.
    let number = keeper::hold(dir.path(), &[network.as_fd()])?[0];
    attachments.0.push(Attachment {
        node: node.clone(),
        label: label.to_owned(),
        process: KeeperId::of(process),
        cookie,
        number: Some(number),
        ours: NsState::default(),
        before: BTreeMap::new(),
    });
    // What is not on record nobody would let go of as long as the lab runs.
    attachments.write(dir.path()).inspect_err(|_| keeper::drop_held(dir.path(), &[number]).unwrap_or_default())?;
    // The change has the keeper let go of the one that was the node's: whatever is on no record any more. To drop it again
    // behind that would be to drop what has its number by then.
    replace_held(dir.path(), node, Some(number))?;
    let source = record.source.clone();
    let mut changed = lifecycle::change_locked(home, &dir, record, &contents.lab, &source);
    if let Err(error) = &mut changed {
        // The first error is the one to tell. What this leaves, if anything, the next `up` mends.
        let undone = detach_locked(home, &dir, &running, node, &contents).is_ok();
        if let Error::Step { was_running, .. } = error {
            *was_running &= !undone;
        }
    }
    changed
}

/// Makes an attached node one of the lab's own again, and takes away what the lab has made in the container.
///
/// # Errors
/// It is not attached, or the lab cannot be changed.
pub fn detach(home: &Home, lab: &LabName, node: &NsName) -> Result<(Up, Attachment), Error> {
    let (dir, _, running) = lifecycle::take(home, lab)?;
    let contents = Contents::read(dir.path())?;
    let attachments = Attachments::read(dir.path())?;
    let Some(attachment) = attachments.0.into_iter().find(|it| it.node == *node) else {
        contents.lab.node_named(node.as_str()).ok_or_else(|| running.no_such_node(node.as_str()))?;
        return Err(AttachError::NotAttached { node: node.clone() }.into());
    };
    Ok((detach_locked(home, &dir, &running, node, &contents)?, attachment))
}

fn detach_locked(
    home: &Home,
    dir: &LabDir,
    running: &Running,
    node: &NsName,
    contents: &Contents,
) -> Result<Up, Error> {
    let mut attachments = Attachments::read(dir.path())?;
    attachments.release(dir.path(), running.realm(), running.keeper(), |it| Ok(it.node == *node))?;
    let record = Record::read(dir.path())?.ok_or_else(|| Error::NotRunning { name: contents.lab.name().clone() })?;
    let source = record.source.clone();
    lifecycle::change_locked(home, dir, record, &contents.lab, &source)
}

impl Attachments {
    pub(crate) fn read(dir: &Path) -> Result<Self, Error> {
        Ok(record::read_json(dir, ATTACHED)?.unwrap_or_default())
    }

    /// The numbers by which the keeper holds their namespaces.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = u32> {
        self.0.iter().filter_map(|it| it.number)
    }

    fn write(&self, dir: &Path) -> Result<(), Error> {
        record::write_list(dir, ATTACHED, ATTACHED_NEW, &self.0)
    }

    /// Lets go of containers that have ended, and of those whose node is no more; says what is to know of it.
    pub(crate) fn release_gone(
        &mut self,
        dir: &Path,
        realm: &Realm,
        keeper: &Process,
        wanted: &NetState,
    ) -> Result<Vec<Problem>, Error> {
        self.forget_unfinished(dir)?;
        let goes = |it: &Attachment| Ok(!wanted.namespaces.contains_key(&it.node) || !it.is_running()?);
        let gone = self.release(dir, realm, keeper, goes)?;
        let ended = gone.into_iter().filter(|it| wanted.namespaces.contains_key(&it.node));
        Ok(ended.map(|it| Problem::warning("container-ended", None, it.has_ended())).collect())
    }

    /// Forgets those that were killed before the container's namespace was the node's: nothing was made there.
    fn forget_unfinished(&mut self, dir: &Path) -> Result<(), Error> {
        if self.0.is_empty() {
            return Ok(());
        }
        let held = Held::read(dir)?;
        let is_held =
            |it: &Attachment, number| held.nodes.iter().any(|(node, held)| *node == it.node && *held == number);
        let (kept, gone): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.0).into_iter().partition(|it| it.number.is_none_or(|number| is_held(it, number)));
        self.0 = kept;
        if gone.is_empty() {
            return Ok(());
        }
        self.write(dir)?;
        let numbers: Vec<u32> = gone.iter().filter_map(|it| it.number).collect();
        Ok(keeper::drop_held(dir, &numbers)?)
    }

    /// Takes away what the lab has made in some containers, and has the keeper let go of them. Their nodes are then
    /// missing, for a change to make them.
    fn release(
        &mut self,
        dir: &Path,
        realm: &Realm,
        keeper: &Process,
        goes: impl Fn(&Attachment) -> Result<bool, Error>,
    ) -> Result<Vec<Attachment>, Error> {
        let mut gone = Vec::new();
        for attachment in &self.0 {
            if goes(attachment)? {
                attachment.clean(dir, realm, Some(keeper))?;
                gone.push(attachment.clone());
            }
        }
        if gone.is_empty() {
            return Ok(gone);
        }
        let mut numbers = Vec::new();
        for attachment in &gone {
            numbers.extend(replace_held(dir, &attachment.node, None)?);
        }
        self.0.retain(|it| !gone.iter().any(|other| other.node == it.node));
        // First: a number that is dropped twice may be another's by then.
        self.write(dir)?;
        keeper::drop_held(dir, &numbers)?;
        Ok(gone)
    }

    /// Refuses a topology that asks of a container what it cannot have.
    pub(crate) fn check(&self, lab: &Lab) -> Result<(), Error> {
        self.0.iter().filter_map(|it| check_inside(lab, &it.node)).collect()
    }

    /// Adds to what a lab wants what only containers must be told: before it is compared with what is there.
    pub(crate) fn prepare(&self, wanted: &mut NetState) {
        for it in &self.0 {
            if let Some(wanted) = wanted.namespaces.get_mut(&it.node) {
                foreign::take_ipv6(wanted);
            }
        }
    }

    /// Leaves out of a comparison what is the containers' own.
    ///
    /// # Errors
    /// An interface of a container's has a name that the lab needs.
    pub(crate) fn set_aside(&self, found: &mut NetState, wanted: &mut NetState) -> Result<(), Error> {
        for it in &self.0 {
            let spaces = (found.namespaces.get_mut(&it.node), wanted.namespaces.get_mut(&it.node));
            if let (Some(found), Some(wanted)) = spaces {
                foreign::set_aside(found, &it.ours, wanted).map_err(|dev| AttachError::NameTaken {
                    node: it.node.clone(),
                    label: it.label.clone(),
                    dev,
                })?;
            }
        }
        Ok(())
    }

    /// Writes down what the lab is about to have in its containers, and what of `found` it changes.
    pub(crate) fn note(&mut self, dir: &Path, found: &NetState, wanted: &NetState) -> Result<(), Error> {
        for it in &mut self.0 {
            let Some(wanted) = wanted.namespaces.get(&it.node) else { continue };
            it.ours = foreign::both(std::mem::take(&mut it.ours), wanted);
            let found = found.namespaces.get(&it.node);
            for (key, value) in found.into_iter().flat_map(|found| foreign::settings_before(found, &it.ours, wanted)) {
                it.before.entry(key).or_insert(value);
            }
        }
        self.write_any(dir)
    }

    /// Writes down that it has this by now, and nothing else.
    pub(crate) fn note_done(&mut self, dir: &Path, wanted: &NetState) -> Result<(), Error> {
        for it in &mut self.0 {
            if let Some(wanted) = wanted.namespaces.get(&it.node) {
                it.ours.clone_from(wanted);
            }
        }
        self.write_any(dir)
    }

    fn write_any(&self, dir: &Path) -> Result<(), Error> {
        if self.0.is_empty() { Ok(()) } else { self.write(dir) }
    }

    /// Those of which the container does not run any more are as if they were not there.
    pub(crate) fn forget_ended(&self, found: &mut NetState) -> Result<(), Error> {
        for it in &self.0 {
            if !it.is_running()? {
                found.namespaces.remove(&it.node);
            }
        }
        Ok(())
    }

    /// Takes away what the lab has made in its containers, before its keeper ends, or after it has.
    pub(crate) fn clean_all(dir: &Path, realm: &Realm, keeper: Option<&Process>) -> Result<(), Error> {
        Self::read(dir)?.0.iter().try_for_each(|it| it.clean(dir, realm, keeper))
    }
}

impl Attachment {
    /// The namespace: the one that the keeper holds. Where there is no keeper any more, the one that the process is
    /// in, which may be another by now: a process may leave its own for any other, setns(2). `None`: nothing leads to
    /// it.
    fn network(&self, dir: &Path, keeper: Option<&Process>) -> Result<Option<Network>, Error> {
        let held =
            keeper.map(|keeper| Held::find(dir, self.node.as_str()).map(|it| Some((keeper, it?)))).transpose()?;
        if let Some((keeper, number)) = held.flatten() {
            let path = format!("/proc/{}/fd/{number}", keeper.pid());
            let opened = std::fs::File::open(&path).context(|| format!("open the namespace of {}, {path}", self.node));
            return Ok(Some(Network { fd: opened?.into(), is_certain: true }));
        }
        let Some(process) = self.process.find()? else { return Ok(None) };
        match network_of(&process) {
            // It has ended meanwhile.
            Err(Error::Ns(_)) => Ok(None),
            network => Ok(Some(Network { fd: network?, is_certain: false })),
        }
    }

    /// In words.
    pub fn has_ended(&self) -> String {
        format!("{} of `{}` has ended; `{}` is a node as any other again", self.label, self.node, self.node)
    }

    /// Takes away what the lab has made there: what goes by itself when the lab ends is what leads to other nodes of
    /// its own, not what leads to other containers, and no address of `lo`.
    fn clean(&self, dir: &Path, realm: &Realm, keeper: Option<&Process>) -> Result<(), Error> {
        let Some(network) = self.network(dir, keeper)? else { return Ok(()) };
        let mut world = World::new(realm.clone());
        world.adopt(self.node.clone(), network.fd)?;
        // Another one: whatever bears our names there is not ours.
        if !network.is_certain && (self.cookie.is_none() || world.cookie(&self.node) != self.cookie) {
            return Ok(());
        }
        let settings = BTreeMap::from([(self.node.clone(), self.before.keys().cloned().collect())]);
        let mut found = world.observe(&settings)?;
        // Of what the lab wants there, nothing: but `lo` as it is.
        let mut wanted = NetState::default();
        if let Some(found) = found.namespaces.get_mut(&self.node) {
            // What is not there any more was of an interface that has gone.
            let is_there = |(key, _): &(&SysctlKey, &String)| found.sysctls.contains_key(*key);
            let sysctls =
                self.before.iter().filter(is_there).map(|(key, value)| (key.clone(), value.clone())).collect();
            let mut want = NsState { sysctls, ..NsState::default() };
            foreign::set_aside(found, &self.ours, &mut want).unwrap_or_default();
            if let (Some(lo), Some(have)) =
                (want.links.get_mut(&hopyard_net::IfName::LO), found.links.get(&hopyard_net::IfName::LO))
            {
                lo.up = have.up;
            }
            wanted.namespaces.insert(self.node.clone(), want);
        }
        let steps: Vec<Op> = hopyard_plan::diff(&found, &wanted);
        world.apply(&steps, &mut |_| {}).map_err(|failed| failed.error)?;
        Ok(())
    }
}

/// What may be the namespace of an attachment.
struct Network {
    fd: OwnedFd,
    /// Is it without doubt the one that was attached?
    is_certain: bool,
}

/// Refuses a node that joins the lab to something outside; `None`: there is no such node.
fn check_inside(lab: &Lab, node: &NsName) -> Option<Result<(), Error>> {
    let asks = lab.node(lab.node_named(node.as_str())?);
    let what = match () {
        () if !asks.interfaces.is_empty() => "interfaces of the machine",
        () if asks.uplink => "a way out by the host (`uplink`)",
        () => return Some(Ok(())),
    };
    Some(Err(AttachError::HasOutside { what, node: node.clone() }.into()))
}

/// Writes down by which number the keeper holds a node; returns those by which it did before.
fn replace_held(dir: &Path, node: &NsName, number: Option<u32>) -> Result<Vec<u32>, Error> {
    let held = Held::read(dir)?;
    let (old, mut nodes): (Vec<_>, Vec<_>) = held.nodes.into_iter().partition(|(name, _)| name == node);
    nodes.extend(number.map(|number| (node.clone(), number)));
    nodes.sort();
    Held { nodes }.write(dir)?;
    Ok(old.into_iter().map(|(_, number)| number).collect())
}

/// Refuses namespaces that cannot be a node; returns the cookie of one that can.
fn check_namespace(running: &Running, node: &NsName, network: &OwnedFd, label: &str) -> Result<Option<u64>, Error> {
    let id = |fd: &OwnedFd| NamespaceId::of(fd.as_fd()).context(|| "look at a namespace".to_owned());
    let wanted = id(network)?;
    if wanted == id(&pin::own_network().context(|| "open this namespace".to_owned())?)? {
        return Err(AttachError::IsHost { label: label.to_owned() }.into());
    }
    for (other, namespace) in running.namespaces()? {
        if id(&namespace)? == wanted {
            return Err(AttachError::IsNode { label: label.to_owned(), node: other }.into());
        }
    }
    let copy = network.try_clone().context(|| "keep hold of a namespace".to_owned())?;
    let mut world = World::new(running.realm().clone());
    match world.adopt(node.clone(), copy) {
        Err(error) if error.errno() == Errno::PERM => Err(AttachError::NotYours { label: label.to_owned() }.into()),
        entered => Ok(entered.map(|()| world.cookie(node))?),
    }
}

/// Refuses a container with an interface whose name the lab needs, before anything is changed.
fn check_names(
    running: &Running,
    contents: &Contents,
    node: &NsName,
    network: &OwnedFd,
    label: &str,
) -> Result<(), Error> {
    let copy = network.try_clone().context(|| "keep hold of a namespace".to_owned())?;
    let mut world = World::new(running.realm().clone());
    world.adopt(node.clone(), copy)?;
    let mut found = world.observe(&BTreeMap::default())?;
    let mut wanted = crate::wanted::desired(&contents.lab).map_err(Error::Plan)?.state;
    let attachment = Attachment {
        node: node.clone(),
        label: label.to_owned(),
        process: KeeperId { pid: 0, start_time: 0 },
        cookie: None,
        number: None,
        ours: NsState::default(),
        before: BTreeMap::new(),
    };
    Attachments(vec![attachment]).set_aside(&mut found, &mut wanted)
}

/// Refuses to take the namespace from processes that are in it.
fn check_empty(running: &Running, node: &NsName) -> Result<(), Error> {
    let namespace = running.namespace(node.as_str())?;
    let inside = Process::all_in_network(namespace.as_fd()).context(|| format!("look for processes in {node}"))?;
    let pids: BTreeSet<i32> = inside.iter().map(Process::pid).collect();
    if pids.is_empty() { Ok(()) } else { Err(AttachError::InUse { node: node.clone(), pids }.into()) }
}

/// The nodes of a running lab that are containers.
///
/// # Errors
/// Their record cannot be read.
pub fn attachments(home: &Home, lab: &LabName) -> Result<Vec<Attachment>, Error> {
    Ok(Attachments::read(&home.dir_of(lab))?.0)
}
