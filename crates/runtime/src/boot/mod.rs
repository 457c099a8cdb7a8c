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
    let topology = manager.topology(unit.lab);
    let path = manager.unit(unit.lab);
    let old = files::read(&path)?;
    // All that could keep us from it, before anything is written.
    let replaces_unit = files::may_replace(&path, old.as_deref(), unit::is_unchanged, force)?;
    let copied = old.as_deref().and_then(unit::topology_checksum);
    let is_our_copy = |there: &str| copied.is_some_and(|sum| sum == files::checksum(there));
    let there = files::read(&topology)?;
    files::may_replace(&topology, there.as_deref().filter(|there| *there != text), is_our_copy, force)?;
    let wanted = unit.text(&topology, files::checksum(text))?;
    let changed =
        there.as_deref() != Some(text) || old.as_deref() != Some(wanted.as_str()) || !is_enabled(manager, unit.lab);
    files::write(&topology, text)?;
    files::write(&path, &wanted)?;
    let systemd = manager.reload().and_then(|()| manager.systemctl(&["enable", "--quiet", &unit_name(unit.lab)]));
    if let (Err(_), false) = (&systemd, replaces_unit) {
        // As it was before.
        remove_file(&path)?;
        remove_file(&topology)?;
    }
    systemd?;
    Ok(Enabled { unit: path, topology, changed })
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
    let path = manager.unit(lab);
    let Some(old) = files::read(&path)? else {
        return Ok(Disabled { was_enabled: false, kept: None, services: Vec::new() });
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
    let topology = manager.topology(lab);
    let copied = unit::topology_checksum(&old);
    let kept = match files::read(&topology)? {
        Some(there) if !force && copied != Some(files::checksum(&there)) => Some(topology),
        _ => {
            remove_file(&topology)?;
            None
        }
    };
    remove_file(&path)?;
    files::remove_if_empty(manager.topologies());
    manager.reload()?;
    Ok(Disabled { was_enabled: true, kept, services: manager.services_of(lab) })
}

/// Is the lab brought up whenever the machine, or the user's session, starts?
pub fn is_enabled(manager: &Manager, lab: &LabName) -> bool {
    manager.wanted_by(lab).symlink_metadata().is_ok()
}

/// Makes a service run in a node; returns the file that says so, and whether it was changed.
///
/// # Errors
/// There is no systemd, no such service, the lab is not enabled, or the file is somebody's own.
pub fn install(
    manager: &Manager,
    service: &ServiceName,
    drop_in: &DropIn<'_>,
    force: bool,
) -> Result<(PathBuf, bool), Error> {
    manager.require(Wish::Install)?;
    if !is_enabled(manager, drop_in.lab) {
        return Err(BootError::NotEnabled { lab: drop_in.lab.clone() }.into());
    }
    manager.require_service(service)?;
    let path = manager.drop_in(service);
    let old = files::read(&path)?;
    files::may_replace(&path, old.as_deref(), unit::is_unchanged, force)?;
    let text = drop_in_text(drop_in)?;
    if old.as_deref() == Some(text.as_str()) {
        return Ok((path, false));
    }
    files::write(&path, &text)?;
    manager.reload()?;
    Ok((path, true))
}

/// Makes a service run where it did before [`install`]; says whether there was anything to undo.
///
/// # Errors
/// There is no systemd, or the file cannot be removed or is somebody's own.
pub fn uninstall(manager: &Manager, service: &ServiceName, force: bool) -> Result<bool, Error> {
    manager.require(Wish::Uninstall)?;
    let path = manager.drop_in(service);
    let Some(old) = files::read(&path)? else { return Ok(false) };
    files::may_replace(&path, Some(&old), unit::is_unchanged, force)?;
    remove_file(&path)?;
    path.parent().map(Path::to_owned).iter().for_each(|dir| files::remove_if_empty(dir));
    manager.reload()?;
    Ok(true)
}
