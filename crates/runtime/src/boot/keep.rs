//! What the process of a lab's unit does: waits for the lab to end.

use std::io;

use hopyard_model::LabName;

use super::notify::notify;
use super::{BootError, Manager, unit_name};
use crate::error::{Error, IoContext};
use crate::home::Home;
use crate::record::Record;
use crate::running::Running;

/// Tells systemd that the lab is up.
///
/// # Errors
/// It cannot be told, and would wait in vain.
pub fn ready(status: &str) -> Result<(), Error> {
    notify(&format!("READY=1\nSTATUS={}", status.replace('\n', " ")))
        .context(|| "tell systemd that the lab is up".to_owned())
}

/// Waits until a running lab is taken down. A lab that is brought up anew meanwhile is waited for as well.
///
/// # Errors
/// [`BootError::KeeperKilled`]: it ended otherwise.
pub fn keep(home: &Home, lab: &LabName) -> Result<(), Error> {
    loop {
        match Running::find(home, lab) {
            Ok(running) => {
                running.keeper().wait(None).context(|| "wait for the end of the lab".to_owned())?;
            }
            Err(Error::NotRunning { .. }) => {
                // Whoever is at work on it has the lock; then it is down, or up again.
                let dir = home.lock_existing(lab)?;
                let record = dir.as_ref().map(|dir| Record::read(dir.path())).transpose()?.flatten();
                let Some(record) = record else { return Ok(()) };
                let alive = record.keeper.map(crate::record::KeeperId::find_alive).transpose()?.flatten();
                if alive.is_none() {
                    return Err(BootError::KeeperKilled { lab: lab.clone() }.into());
                }
            }
            Err(error) => return Err(error),
        }
    }
}

/// Is systemd stopping the lab's unit only to start it again?
///
/// While a unit that is to be restarted is being stopped, its job is of the type `restart`.
///
/// # Errors
/// Nobody could be asked.
pub fn is_restarting(manager: &Manager, lab: &LabName) -> io::Result<bool> {
    let unit = unit_name(lab);
    let jobs = manager.systemctl(&["list-jobs", "--no-legend", "--plain"]).map_err(io::Error::other)?;
    Ok(jobs.lines().any(|job| {
        let mut words = job.split_ascii_whitespace().skip(1);
        words.next() == Some(&unit) && words.next() == Some("restart")
    }))
}
