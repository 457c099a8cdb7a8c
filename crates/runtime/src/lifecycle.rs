//! Bringing labs up, changing them while they run, and taking them down.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use hopyard_kernel::keeper::{self, Keeper, KeeperSpec};
use hopyard_kernel::{Process, Realm, World, cleanup};
use hopyard_model::{Lab, LabName, Problem, Span};
use hopyard_net::{Endpoint, LinkKind, NetState, NsName, Op};
use hopyard_plan::{Origins, Wanted};

use crate::attach::Attachments;
use crate::error::{Error, IoContext};
use crate::home::{Home, LabDir, remove_file};
use crate::lent::{self, Loans};
use crate::netns_dir;
use crate::ns::{Moved, bring_back_from_lab, moved_to_lab};
use crate::record::{self, Contents, DIRS, FILES, Held, KeeperId, Record, Stage};
use crate::running::Running;
use crate::uplink::{self, HostStep};
use crate::view;

/// How long a lab lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// Until somebody takes it down.
    UntilDown,
    /// As long as the [`Tied`] value, and at most as long as the process that started it.
    Tied,
}

/// What `up` did.
#[derive(Debug)]
pub struct Up {
    /// The lab.
    pub running: Running,
    /// The leash on its keeper, if it is tied to this process.
    pub tied: Option<Tied>,
    /// Was it running before?
    pub existed: bool,
    /// What was changed, in order. Empty: it was as wanted.
    pub steps: Vec<Op>,
    /// What was done on the host, for nodes with a way out.
    pub host: Vec<HostStep>,
    /// Every node and its addresses, the main one of each family first.
    pub hosts: Vec<(NsName, Vec<IpAddr>)>,
    /// The interfaces that were brought back from where `hop ns move` had moved them to, for the lab knows nothing of them.
    pub returned: Vec<Moved>,
    /// What is to know about the lab.
    pub warnings: Vec<Problem>,
}

/// Holds a lab that ends with this value.
#[derive(Debug)]
pub struct Tied {
    keeper: Option<Keeper>,
    home: Home,
    name: LabName,
}

/// What separates a lab that runs from one that is wanted.
#[derive(Debug)]
pub struct Difference {
    /// The steps from what is to what is wanted.
    pub steps: Vec<Op>,
    /// What is missing on the host, for nodes with a way out.
    pub host: Vec<HostStep>,
    /// Which place in the topology asked for what.
    pub origins: Origins,
    /// Does a lab of that name run?
    pub running: bool,
    /// What is to know about the lab.
    pub warnings: Vec<Problem>,
}

/// Brings a lab up; one of that name that runs is changed into it.
///
/// # Errors
/// Of a lab that did not run before, nothing is left then. One that did run keeps the steps that
/// were done; another `up` finishes it.
pub fn up(home: &Home, lab: &Lab, source: &str, lifetime: Lifetime) -> Result<Up, Error> {
    lent::require_lendable(home, lab)?;
    let dir = home.lock(lab.name())?;
    let record = Record::read(dir.path())?;
    let keeper = match &record {
        Some(record) if record.stage != Stage::Starting => {
            record.keeper.map(KeeperId::find_alive).transpose()?.flatten()
        }
        _ => None,
    };
    match (record, keeper) {
        (Some(record), Some(_)) if lifetime == Lifetime::Tied || record.ephemeral => {
            Err(Error::AlreadyRunning { name: lab.name().clone() })
        }
        (Some(record), Some(keeper)) => {
            let id = KeeperId::of(&keeper);
            match change(home, &dir, record.clone(), keeper, lab, source) {
                // Somebody has killed it just now; whatever failed for that, it is built anew.
                Err(_) if id.find_alive()?.is_none() => {
                    clear(home, &dir, Some(&record))?;
                    start(home, dir, lab, source, lifetime)
                }
                changed => changed,
            }
        }
        (record, _) => {
            clear(home, &dir, record.as_ref())?;
            start(home, dir, lab, source, lifetime)
        }
    }
}

/// How long the end of a keeper may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Says what [`up`] would do.
///
/// # Errors
/// The lab cannot be planned, or the running one not be looked at.
pub fn difference(home: &Home, lab: &Lab) -> Result<Difference, Error> {
    let mut wanted = crate::wanted::desired(lab).map_err(Error::Plan)?;
    let (found, uplinks, host, running) = match Running::find(home, lab.name()) {
        Ok(running) => {
            let attached = Attachments::read(&home.dir_of(lab.name()))?;
            attached.prepare(&mut wanted.state);
            let (mut found, uplinks) = running.observe_all(&mut running.world()?, &wanted.state)?;
            attached.set_aside(&mut found, &mut wanted.state)?;
            attached.forget_ended(&mut found)?;
            // They go back, and are not deleted.
            for Endpoint { ns, dev } in moved_to_lab(home, running.name(), running.keeper().pid())? {
                if let Some(link) = found.namespaces.get_mut(&ns).and_then(|state| state.links.get_mut(&dev)) {
                    link.kind = LinkKind::Lent;
                }
            }
            (found, uplinks, uplink::host::of_keeper(running.keeper()), true)
        }
        Err(Error::NotRunning { .. }) => (NetState::default(), uplink::Found::default(), uplink::host::own(), false),
        Err(error) => return Err(error),
    };
    let steps = hopyard_plan::diff(&found, &wanted.state);
    let mut plan = uplink::plan(home, &home.dir_of(lab.name()), lab, &wanted.state, &uplinks, host)?;
    let host = plan.steps().cloned().collect();
    let mut warnings = wanted.warnings;
    warnings.append(&mut plan.warnings);
    Ok(Difference { steps, host, origins: wanted.origins, running, warnings })
}

fn start(home: &Home, dir: LabDir, lab: &Lab, source: &str, lifetime: Lifetime) -> Result<Up, Error> {
    let built = build(home, &dir, lab, source, lifetime);
    if built.is_err() {
        // The keeper is gone by now, and with it all that was built; the first error is the one to tell.
        let record = Record::read(dir.path()).ok().flatten();
        if clear(home, &dir, record.as_ref()).is_ok() {
            dir.remove(&FILES, &DIRS).ok();
            home.tidy();
        }
    }
    built
}

fn build(home: &Home, dir: &LabDir, lab: &Lab, source: &str, lifetime: Lifetime) -> Result<Up, Error> {
    keeper::raise_descriptor_limit();
    let mut record = Record::new(lab, source.to_owned(), lifetime == Lifetime::Tied);
    record.write(dir.path())?;
    // Before the plan is made: the keeper is a fork of this process, and need not carry it. It makes
    // itself ready meanwhile.
    let keeper = Keeper::launch(&KeeperSpec {
        user_namespace: !home.is_privileged(),
        dir: dir.path(),
        files: &record::of_keeper(),
        links: home.netns_dir(),
        on_release: Some(record::ON_RELEASE),
    })?;
    let plan =
        crate::wanted::desired(lab).map(|wanted| (hopyard_plan::diff(&NetState::default(), &wanted.state), wanted));
    let keeper = keeper.ready()?;
    record.keeper = Some(KeeperId::of(keeper.process()));
    record.write(dir.path())?;
    let (steps, Wanted { state, origins, hosts, mut warnings, .. }) = plan.map_err(Error::Plan)?;
    let mut world = World::new(keeper.realm().clone());
    let mut loans = Loans::default();
    loans.note(dir.path(), &steps, &world)?;
    // Whatever ends this process ends the namespaces that it alone holds, and with them what is lent to them. So the
    // keeper holds these first.
    let (made, early) = if loans.are_none() {
        (0, None)
    } else {
        let made = spaces(&steps);
        apply(&mut world, &steps, 0..made, &origins, false)?;
        let held = hold(dir.path(), &world, state.namespaces.keys())?;
        held.write(dir.path())?;
        lent::entrust(dir.path(), &steps, &held)?;
        (made, Some(held))
    };
    // The names need no more than the numbers, and while links are made a processor is idle.
    let expected = Held { nodes: state.namespaces.keys().cloned().zip(keeper::FIRST_HELD..).collect() };
    std::thread::scope(|scope| {
        let names = scope.spawn(|| link_names(home, lab.name(), keeper.process(), &expected));
        let applied = apply(&mut world, &steps, made..steps.len(), &origins, false);
        let named = names.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        applied.and(named)
    })
    .and_then(|()| loans.settle(dir.path(), &steps, &world, &state))
    // Before the keeper ends, and the namespaces with it.
    .inspect_err(|_| loans.bring_back(&mut world).unwrap_or_default())?;
    let finish = || -> Result<Vec<HostStep>, Error> {
        let held = early.map_or_else(|| hold(dir.path(), &world, state.namespaces.keys()), Ok)?;
        held.write(dir.path())?;
        if held != expected {
            link_names(home, lab.name(), keeper.process(), &held)?;
        }
        let host = uplink::host::of_keeper(keeper.process());
        let mut plan = uplink::plan(home, dir.path(), lab, &state, &uplink::Found::default(), host)?;
        let host = connect(home, dir, keeper.process(), &plan, lab, &world)?;
        warnings.append(&mut plan.warnings);
        let resolvers = uplink::resolvers(home, dir.path(), !host.is_empty(), &state)?;
        warnings.extend((!host.is_empty() && resolvers.is_empty()).then(|| uplink::no_resolver(lab)).flatten());
        let for_services = (home.is_privileged() && lifetime == Lifetime::UntilDown).then_some(dir.path());
        view::write(keeper.process(), for_services, lab.name(), &hosts, &resolvers)?;
        Contents { hosts: hosts.clone(), lab: lab.clone() }.write(dir.path())?;
        record.stage = Stage::Up;
        record.write_ahead(dir.path())?;
        Ok(host)
    };
    let finished = finish();
    let host = finished.inspect_err(|_| loans.bring_back(&mut world).unwrap_or_default())?;
    let (process, keeper) = match lifetime {
        Lifetime::UntilDown => (keeper.release()?, None),
        Lifetime::Tied => {
            let process =
                Process::open(keeper.process().pid()).context(|| "take hold of the lab's keeper".to_owned())?;
            (process, Some(keeper))
        }
    };
    Record::take_effect(dir.path())?;
    let running = Running::new(dir.path().to_owned(), record, process)?;
    // From here on nothing fails: its end takes the lock that is held here.
    let tied = keeper.map(|keeper| Tied { keeper: Some(keeper), home: home.clone(), name: lab.name().clone() });
    Ok(Up { running, tied, existed: false, steps, host, hosts, returned: Vec::new(), warnings })
}

/// Gives nodes their way out.
fn connect(
    home: &Home,
    dir: &LabDir,
    keeper: &Process,
    plan: &uplink::Plan,
    lab: &Lab,
    world: &World,
) -> Result<Vec<HostStep>, Error> {
    let nodes = uplink::wanted(lab).into_iter().map(|name| world.ns_fd(&name).map(|namespace| (name, namespace)));
    let nodes = nodes.collect::<Result<BTreeMap<_, _>, _>>()?;
    uplink::connect(home, dir.path(), keeper, &nodes, plan)?;
    Ok(plan.steps().cloned().collect())
}

fn change(home: &Home, dir: &LabDir, old: Record, keeper: Process, lab: &Lab, source: &str) -> Result<Up, Error> {
    let Wanted { mut state, origins, hosts, mut warnings, .. } = crate::wanted::desired(lab).map_err(Error::Plan)?;
    let running = Running::new(dir.path().to_owned(), old, keeper)?;
    let mut attached = Attachments::read(dir.path())?;
    let_go_of_strays(dir.path(), running.keeper(), &attached)?;
    warnings.extend(attached.release_gone(dir.path(), running.realm(), running.keeper(), &state)?);
    attached.check(lab)?;
    attached.prepare(&mut state);
    // It would be deleted as what nobody has declared.
    let returned = bring_back_from_lab(home, running.keeper().pid())?;
    let mut world = running.world()?;
    Loans::read(dir.path())?.name_again(&world)?;
    let (mut found, uplinks) = running.observe_all(&mut world, &state)?;
    attached.set_aside(&mut found, &mut state)?;
    // Before anything is changed, as `hop diff` does, so that both say the same.
    let host = uplink::host::of_keeper(running.keeper());
    let mut plan = uplink::plan(home, dir.path(), lab, &state, &uplinks, host)?;
    warnings.append(&mut plan.warnings);
    let steps = hopyard_plan::diff(&found, &state);

    let mut record = running.record().clone();
    source.clone_into(&mut record.source);
    (record.nodes, record.links) = (lab.nodes().len(), lab.links().len());
    // First: whatever happens on the way, what is wanted is on record, and `hop diff` compares with it.
    Contents { hosts: hosts.clone(), lab: lab.clone() }.write(dir.path())?;
    uplink::disconnect(home, dir.path(), running.keeper(), &mut world, &plan)?;
    // One that was killed may have done all steps, and not have told the keeper of them.
    if !steps.is_empty() || record.stage == Stage::Changing {
        record.stage = Stage::Changing;
        record.write(dir.path())?;
        let leaving = found.namespaces.keys().filter(|name| !state.namespaces.contains_key(*name));
        let leaving = leaving.map(|name| world.ns_fd(name)).collect::<Result<Vec<_>, _>>()?;
        let mut loans = Loans::read(dir.path())?;
        loans.locate(&found);
        loans.note(dir.path(), &steps, &world)?;
        attached.note(dir.path(), &found, &state)?;
        let old = Held::read(dir.path())?;
        let mut new = Held::default();
        let mut carry_out = || -> Result<Held, Error> {
            let made = spaces(&steps);
            apply(&mut world, &steps, 0..made, &origins, true)?;
            // Before anything is lent to a new node: whatever ends this process would end a namespace that it alone
            // holds, and with that an interface which is not of hardware.
            let is_new = |name: &&NsName| !found.namespaces.contains_key(*name);
            new = hold(dir.path(), &world, state.namespaces.keys().filter(is_new))?;
            let mut all = Held { nodes: [&old.nodes[..], &new.nodes[..]].concat() };
            all.nodes.sort();
            all.write(dir.path())?;
            lent::entrust(dir.path(), &steps, &all)?;
            apply(&mut world, &steps, made..steps.len(), &origins, true)?;
            loans.settle(dir.path(), &steps, &world, &state)?;
            attached.note_done(dir.path(), &state)?;
            // A node that goes takes its processes with it; they would hold its namespace, unseen.
            for namespace in &leaving {
                let doing = || "end the processes of a node that is no more".to_owned();
                for process in Process::all_in_network(namespace.as_fd()).context(doing)? {
                    process.kill().context(doing)?;
                }
            }
            Ok(all)
        };
        let outcome = carry_out();
        let numbers = |nodes: Vec<(NsName, u32)>| nodes.into_iter().map(|(_, number)| number).collect::<Vec<_>>();
        let all = outcome.inspect_err(|_| {
            // What failed made no node, and an interface is where it was before its namespace ends.
            loans.recover(dir.path(), &steps, &mut world, &state, &old).unwrap_or_default();
            if old.write(dir.path()).is_ok() {
                keeper::drop_held(dir.path(), &numbers(new.nodes)).unwrap_or_default();
            }
        })?;
        let (kept, gone): (Vec<_>, Vec<_>) =
            all.nodes.into_iter().partition(|(name, _)| state.namespaces.contains_key(name));
        let held = Held { nodes: kept };
        held.write(dir.path())?;
        keeper::drop_held(dir.path(), &numbers(gone))?;
        link_names(home, lab.name(), running.keeper(), &held)?;
    }
    let host = connect(home, dir, running.keeper(), &plan, lab, &world)?;
    let resolvers = uplink::resolvers(home, dir.path(), !uplink::wanted(lab).is_empty(), &state)?;
    warnings.extend((plan.connects() && resolvers.is_empty()).then(|| uplink::no_resolver(lab)).flatten());
    view::write(running.keeper(), home.is_privileged().then_some(dir.path()), lab.name(), &hosts, &resolvers)?;
    record.stage = Stage::Up;
    record.write(dir.path())?;
    let running = Running::find(home, lab.name())?;
    Ok(Up { running, tied: None, existed: true, steps, host, hosts, returned, warnings })
}

/// Takes hold of a running lab, alone.
pub(crate) fn take(home: &Home, lab: &LabName) -> Result<(LabDir, Record, Running), Error> {
    let none = || Error::NotRunning { name: lab.clone() };
    let dir = home.lock_existing(lab)?.ok_or_else(none)?;
    let running = Running::find(home, lab)?;
    Ok((dir, running.record().clone(), running))
}

/// [`up`] of a running lab whose directory is held already.
pub(crate) fn change_locked(home: &Home, dir: &LabDir, record: Record, lab: &Lab, source: &str) -> Result<Up, Error> {
    let keeper = record.keeper.map(KeeperId::find_alive).transpose()?.flatten();
    let keeper = keeper.ok_or_else(|| Error::NotRunning { name: lab.name().clone() })?;
    change(home, dir, record, keeper, lab, source)
}

/// How many steps it takes to make the namespaces: they come first.
fn spaces(steps: &[Op]) -> usize {
    steps.iter().rposition(|op| matches!(op, Op::AddNs(_))).map_or(0, |last| last + 1)
}

/// Does some of the steps; those before them are done.
fn apply(
    world: &mut World,
    steps: &[Op],
    some: Range<usize>,
    origins: &Origins,
    was_running: bool,
) -> Result<(), Error> {
    let before = some.start;
    world.apply(&steps[some], &mut |_| {}).map_err(|mut failed| {
        failed.at += before;
        failed.done += before;
        let origin: Option<Span> = steps.get(failed.at).and_then(|op| origins.of(op));
        Error::step(failed, steps, origin, was_running)
    })
}

/// Hands namespaces to the keeper, a few at a time: each needs a second descriptor meanwhile. All of them, or none.
fn hold<'a>(dir: &Path, world: &World, names: impl Iterator<Item = &'a NsName>) -> Result<Held, Error> {
    const AT_ONCE: usize = 250;
    let names: Vec<&NsName> = names.collect();
    let mut held = Held::default();
    let mut hand_over = |names: &[&NsName]| -> Result<(), Error> {
        let fds = names.iter().map(|name| world.ns_fd(name)).collect::<Result<Vec<_>, _>>()?;
        let borrowed: Vec<_> = fds.iter().map(|fd| fd.as_fd()).collect();
        let numbers = keeper::hold(dir, &borrowed)?;
        held.nodes.extend(names.iter().map(|&name| name.clone()).zip(numbers));
        Ok(())
    };
    let handed = names.chunks(AT_ONCE).try_for_each(&mut hand_over);
    if handed.is_err() {
        let numbers: Vec<u32> = held.nodes.iter().map(|(_, number)| *number).collect();
        // The first error is the one to tell.
        keeper::drop_held(dir, &numbers).unwrap_or_default();
    }
    handed.map(|()| held)
}

/// Has the keeper let go of what is on no record: one that was killed has handed it over and not written that down, or the
/// other way round. It would stay as long as the lab, and with it a container's interfaces, or a table of the host's.
fn let_go_of_strays(dir: &Path, keeper: &Process, attached: &Attachments) -> Result<(), Error> {
    let mut known: BTreeSet<u32> = Held::read(dir)?.nodes.into_iter().map(|(_, number)| number).collect();
    known.extend(attached.numbers());
    known.extend(uplink::numbers(dir)?);
    let mut strays = keeper::all_held(keeper)?;
    strays.retain(|number| !known.contains(number));
    if strays.is_empty() { Ok(()) } else { Ok(keeper::drop_held(dir, &strays)?) }
}

/// Names the namespaces `LAB.NODE` for `ip netns`, by links that cost no mount each.
fn link_names(home: &Home, lab: &LabName, keeper: &Process, held: &Held) -> Result<(), Error> {
    let Some(dir) = home.netns_dir() else { return Ok(()) };
    let target = keeper::link_target(&keeper.pid());
    keeper::remove_links(dir, &target).context(|| format!("remove old names from {}", dir.display()))?;
    let link = |(node, number): &(NsName, u32)| {
        let link = dir.join(format!("{lab}.{node}"));
        symlink(format!("{target}{number}"), &link)
            .context(|| format!("name a node for `ip netns`, {}", link.display()))
    };
    let mut nodes = held.nodes.iter();
    if let Some(first) = nodes.next() {
        // Together with the directory, which the end of another user's last lab would take away as long as
        // it is empty.
        let (before, linked) = netns_dir::make_and(|| link(first)).context(|| format!("make {}", dir.display()))?;
        before.map_or(Ok(()), |before| home.note_netns_dir(before))?;
        linked?;
    }
    nodes.try_for_each(link)?;
    Ok(())
}

/// What `down` did.
#[derive(Debug)]
pub struct Down {
    /// Was there anything to take down?
    pub was_running: bool,
    /// It was not running, and what a lab had left there is removed.
    pub had_remains: bool,
    /// The interfaces that were brought back from where `hop ns move` had moved them to.
    pub returned: Vec<Moved>,
    /// The kernel is still freeing what there was.
    pub pending: Option<cleanup::Pending>,
}

/// Takes a lab down: returns when its processes have ended and its names are gone. The kernel may
/// be busy for a while freeing the namespaces; `pending` waits for it.
///
/// # Errors
/// It is another user's, or a file of its record cannot be removed.
pub fn down(home: &Home, name: &LabName, wait: bool) -> Result<Down, Error> {
    let Some(dir) = home.lock_existing(name)? else {
        return Ok(Down { was_running: false, had_remains: false, returned: Vec::new(), pending: None });
    };
    // A record that cannot be read, of another version perhaps, does not keep a lab from going.
    let record = Record::read(dir.path()).unwrap_or(None);
    let pending = if wait { watch_cleanup(record.as_ref())? } else { None };
    let (was_running, returned) = clear(home, &dir, record.as_ref())?;
    dir.remove(&FILES, &DIRS)?;
    home.tidy();
    Ok(Down { was_running, had_remains: !was_running, returned, pending })
}

fn watch_cleanup(record: Option<&Record>) -> Result<Option<cleanup::Pending>, Error> {
    let keeper = record.and_then(|record| record.keeper).map(KeeperId::find).transpose()?.flatten();
    let realm: Option<Realm> = keeper.as_ref().map(keeper::realm_of).transpose()?;
    Ok(realm.map(|realm| cleanup::Pending::watch(&realm)).transpose()?)
}

/// Ends what there is of a lab in its directory, whatever its state; says whether it was running, and which interfaces came
/// back from it that were not lent to it.
/// The directory stays, and its lock.
fn clear(home: &Home, dir: &LabDir, record: Option<&Record>) -> Result<(bool, Vec<Moved>), Error> {
    // Without a keeper on record the starter died before it could write it down; then that keeper is
    // ending by itself, and has built nothing.
    let id = record.and_then(|record| record.keeper);
    let keeper = id.map(KeeperId::find).transpose()?.flatten();
    let alive = id.map(KeeperId::find_alive).transpose()?.flatten();
    let mut loans = lent::return_held(dir.path(), alive.as_ref())?;
    let mut returned = Vec::new();
    if let Some(keeper) = &alive {
        returned = bring_back_from_lab(home, keeper.pid())?;
        Attachments::clean_all(dir.path(), &keeper::realm_of(keeper)?, Some(keeper))?;
    } else if home.is_privileged() {
        Attachments::clean_all(dir.path(), &Realm::host(), None)?;
    }
    // The host that it came from, which only its keeper knows.
    let host = keeper.as_ref().map_or_else(uplink::host::own, uplink::host::of_keeper).ok();
    let was_unknown = keeper.is_none() && keeper::end_unknown(dir.path())?;
    if let Some(keeper) = &keeper {
        let doing = || format!("end the lab's keeper, process {}", keeper.pid());
        keeper.kill().context(doing)?;
        if !keeper.wait(Some(PATIENCE)).context(doing)? {
            // The kernel lets it go when the last process of the lab is gone, and that waits for its parent.
            return Err(Error::Held { keeper: keeper.pid() });
        }
    }
    // Before the record of what they had goes.
    lent::give_again(&mut loans)?;
    if let Some(links) = home.netns_dir() {
        let removed = match id {
            Some(id) => keeper::remove_links(links, &keeper::link_target(&id.pid)).map(drop),
            None => netns_dir::remove_dangling(&dir.lab_prefix()),
        };
        removed.context(|| format!("remove the lab's names from {}", links.display()))?;
    }
    if let Some(host) = host.filter(|_| home.is_privileged()) {
        uplink::host::heal(home, &host)?;
    }
    for file in FILES {
        remove_file(&dir.path().join(file))?;
    }
    for sub in DIRS {
        std::fs::remove_dir(dir.path().join(sub)).ok();
    }
    // One that was killed and has not come to its end is no lab that runs, here as for `hop ls`.
    Ok((alive.is_some() || was_unknown, returned))
}

impl Tied {
    /// Takes the lab down now, and says what went wrong.
    ///
    /// # Errors
    /// As for [`down`].
    pub fn end(mut self) -> Result<(), Error> {
        self.end_now()
    }

    fn end_now(&mut self) -> Result<(), Error> {
        let Some(keeper) = self.keeper.take() else { return Ok(()) };
        let id = KeeperId::of(keeper.process());
        let dir = self.home.lock_existing(&self.name)?;
        let record = dir.as_ref().map(|dir| Record::read(dir.path())).transpose().unwrap_or(None).flatten();
        match (dir, record) {
            (Some(dir), Some(record)) if record.keeper == Some(id) => {
                clear(&self.home, &dir, Some(&record))?;
                dir.remove(&FILES, &DIRS)?;
                self.home.tidy();
            }
            // Somebody took it down, and what is there by its name now is another's.
            _ => {}
        }
        drop(keeper);
        Ok(())
    }
}

impl Drop for Tied {
    fn drop(&mut self) {
        // Nobody to tell; the keeper ends with its leash in any case, and tidies up itself.
        self.end_now().ok();
    }
}
