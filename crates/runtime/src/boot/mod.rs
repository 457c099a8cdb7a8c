//! Labs that are up when the machine is: files for systemd, and what its units run.
//!
//! An enabled lab has two files of ours: a copy of its topology, and a unit that brings it up. The unit's
//! process holds on to the lab's keeper, so that systemd knows whether the lab lives; the keeper itself
//! outlives that process, and the next start adopts it.

mod error;
mod files;
mod keep;
mod manager;
mod notify;
mod service;
mod unit;

pub use error::{BootError, Wish};
pub use keep::{await_interfaces, is_restarting, keep, ready};
pub use manager::{Manager, Scope, belongs_to_root, lingers};
pub use service::ServiceName;
pub use unit::{DropIn, LabUnit, drop_in_text, unit_name};

use std::path::{Path, PathBuf};

use hopyard_model::LabName;

use crate::error::Error;
use crate::home::{Home, remove_file};

/// What [`enable`] did.
#[derive(Debug)]
pub struct Enabled {
    /// The unit.
    pub unit: PathBuf,
    /// The copy of the topology.
    pub topology: PathBuf,
    /// Was anything written?
    pub changed: bool,
}

/// Has a lab brought up whenever the machine, or the user's session, starts.
///
/// `text` is its topology, which the caller has checked. `force`: also over files that somebody has edited.
///
/// # Errors
/// There is no systemd, a file cannot be written or is somebody's own, or systemd refuses the unit.
pub fn enable(manager: &Manager, unit: &LabUnit<'_>, text: &str, force: bool) -> Result<Enabled, Error> {
    manager.require(Wish::Enable)?;
    manager.make_dir()?;
    let _lock = manager.lock()?;
    let topology = manager.topology(unit.lab);
    let path = manager.unit(unit.lab);
    let old = files::read(&path)?;
    // All that could keep us from it, before anything is written.
    files::may_replace(&path, old.as_deref(), unit::is_unchanged, force)?;
    let copied = sums_of_copy(manager, unit.lab, old.as_deref());
    let is_our_copy = |there: &str| copied.contains(&Some(files::checksum(there)));
    let there = files::read(&topology)?;
    files::may_replace(&topology, there.as_deref().filter(|there| *there != text), is_our_copy, force)?;
    let wanted = unit.text(&topology, files::checksum(text))?;
    let changed =
        there.as_deref() != Some(text) || old.as_deref() != Some(wanted.as_str()) || !is_enabled(manager, unit.lab);
    let plan = manager.plan(unit.lab);
    let done = files::write(&plan, &unit::topology_line(files::checksum(text)))
        .and_then(|()| files::write(&topology, text))
        .and_then(|()| files::write(&path, &wanted))
        .and_then(|()| Ok(manager.reload()?))
        .and_then(|()| Ok(manager.systemctl(&["enable", "--quiet", &unit_name(unit.lab)])?));
    if done.is_err() {
        // As it was before: a copy that its unit does not know would pass for somebody else's. The first error is the one to
        // tell. What was given up by `force` is not written again.
        for (path, before) in [(&path, &old), (&topology, &there)] {
            if !force || before.is_none() {
                files::put_back(path, before.as_deref()).ok();
            }
        }
        remove_file(&plan).ok();
        files::remove_if_empty(manager.topologies());
        manager.reload().ok();
    }
    done?;
    remove_file(&plan)?;
    Ok(Enabled { unit: path, topology, changed })
}

/// The checksums by which the copy of a topology is told from one that somebody has edited: what its unit says, and what
/// one was about to copy that may have been killed before it wrote the unit.
fn sums_of_copy(manager: &Manager, lab: &LabName, unit: Option<&str>) -> [Option<u64>; 2] {
    let plan = files::read(&manager.plan(lab)).ok().flatten();
    [unit, plan.as_deref()].map(|text| text.and_then(unit::topology_checksum))
}

/// What [`disable`] did.
#[derive(Debug)]
pub struct Disabled {
    /// Was it enabled?
    pub was_enabled: bool,
    /// The topology, where it stays because somebody has edited the copy.
    pub kept: Option<PathBuf>,
    /// Services that are still to run in the lab.
    pub services: Vec<String>,
}

/// Has a lab not brought up any more; `now`: and takes it down.
///
/// # Errors
/// There is no systemd, or a file cannot be removed or is somebody's own.
pub fn disable(manager: &Manager, lab: &LabName, now: bool, force: bool) -> Result<Disabled, Error> {
    manager.require(Wish::Disable)?;
    let _lock = manager.lock()?;
    let path = manager.unit(lab);
    let Some(old) = files::read(&path)? else {
        // Somebody may have been killed who was about to enable it, or had disabled it but for this.
        let is_planned = manager.plan(lab).symlink_metadata().is_ok();
        let kept = if is_planned { remove_copy(manager, lab, None, force)? } else { None };
        return Ok(Disabled { was_enabled: false, kept, services: Vec::new() });
    };
    files::may_replace(&path, Some(&old), unit::is_unchanged, force)?;
    let name = unit_name(lab);
    if now {
        manager.systemctl(&["disable", "--quiet", "--now", &name])?;
        // One that was brought up by hand is none of the unit's.
        crate::lifecycle::down(&Home::of_caller()?, lab, false)?;
    } else {
        manager.systemctl(&["disable", "--quiet", &name])?;
    }
    let kept = remove_copy(manager, lab, Some(&old), force)?;
    remove_file(&path)?;
    path.parent().into_iter().for_each(files::remove_unfinished);
    manager.reload()?;
    Ok(Disabled { was_enabled: true, kept, services: manager.services_of(lab) })
}

/// Removes the copy of a topology, and what says that one is about to be; returns its file if somebody has edited that.
fn remove_copy(manager: &Manager, lab: &LabName, unit: Option<&str>, force: bool) -> Result<Option<PathBuf>, Error> {
    let topology = manager.topology(lab);
    let copied = sums_of_copy(manager, lab, unit);
    let kept = match files::read(&topology)? {
        Some(there) if !force && !copied.contains(&Some(files::checksum(&there))) => Some(topology),
        _ => {
            remove_file(&topology)?;
            None
        }
    };
    remove_file(&manager.plan(lab))?;
    files::remove_if_empty(manager.topologies());
    Ok(kept)
}

/// Is the lab brought up whenever the machine, or the user's session, starts?
pub fn is_enabled(manager: &Manager, lab: &LabName) -> bool {
    manager.wanted_by(lab).symlink_metadata().is_ok()
}

/// What [`install`] did.
#[derive(Debug)]
pub struct Installed {
    /// The drop-in.
    pub path: PathBuf,
    /// Was it written?
    pub changed: bool,
    /// Sockets by which systemd listens for the service elsewhere.
    pub sockets: Vec<ServiceName>,
}

/// Makes a service run in a node, or a socket listen there.
///
/// # Errors
/// There is no systemd, no such service, the lab is not enabled, or the file is somebody's own.
pub fn install(
    manager: &Manager,
    service: &ServiceName,
    drop_in: &DropIn<'_>,
    force: bool,
) -> Result<Installed, Error> {
    manager.require(Wish::Install)?;
    if !is_enabled(manager, drop_in.lab) {
        return Err(BootError::NotEnabled { lab: drop_in.lab.clone() }.into());
    }
    manager.require_service(service)?;
    manager.make_dir()?;
    let _lock = manager.lock()?;
    let path = manager.drop_in(service);
    let old = files::read(&path)?;
    files::may_replace(&path, old.as_deref(), unit::is_unchanged, force)?;
    let text = drop_in_text(drop_in)?;
    let changed = old.as_deref() != Some(text.as_str());
    if changed {
        files::write(&path, &text)?;
        reload_or_put_back(manager, &path, old.as_deref())?;
    }
    // A drop-in that comes later has the last word.
    let network = manager.property(service, "NetworkNamespacePath")?;
    if network != drop_in.network() {
        if changed {
            put_back(manager, &path, old.as_deref());
        }
        return Err(BootError::Overruled { name: service.to_string(), network }.into());
    }
    let mut sockets = manager.sockets_of(service)?;
    sockets.retain(|socket| manager.property(socket, "NetworkNamespacePath").is_ok_and(|it| it != drop_in.network()));
    Ok(Installed { path, changed, sockets })
}

/// Makes a service run where it did before [`install`]; says whether there was anything to undo.
///
/// # Errors
/// There is no systemd, or the file cannot be removed or is somebody's own.
pub fn uninstall(manager: &Manager, service: &ServiceName, force: bool) -> Result<bool, Error> {
    manager.require(Wish::Uninstall)?;
    let _lock = manager.lock()?;
    let path = manager.drop_in(service);
    let Some(old) = files::read(&path)? else { return Ok(false) };
    files::may_replace(&path, Some(&old), unit::is_unchanged, force)?;
    remove_file(&path)?;
    path.parent().map(Path::to_owned).iter().for_each(|dir| files::remove_if_empty(dir));
    reload_or_put_back(manager, &path, Some(&old))?;
    Ok(true)
}

/// A service runs where systemd has read that it does. So where it does not read, the file is what it was: otherwise the next
/// one would find nothing to change.
fn reload_or_put_back(manager: &Manager, path: &Path, old: Option<&str>) -> Result<(), Error> {
    let reloaded = manager.reload();
    if reloaded.is_err() {
        // The first error is the one to tell.
        put_back(manager, path, old);
    }
    Ok(reloaded?)
}

fn put_back(manager: &Manager, path: &Path, old: Option<&str>) {
    files::put_back(path, old).ok();
    path.parent().iter().for_each(|dir| files::remove_if_empty(dir));
    manager.reload().ok();
}
