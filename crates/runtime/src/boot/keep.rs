//! What the process of a lab's unit does: waits for the lab to end.

use std::io;
use std::time::Duration;

use hopyard_model::{Lab, LabName};
use hopyard_net::IfName;

use super::notify::notify;
use super::{BootError, Manager, unit_name};
use crate::error::{Error, IoContext};
use crate::home::Home;
use crate::record::Record;
use crate::running::Running;

/// How long interfaces may take to appear when the machine starts; the host's network waits, too.
const ARRIVAL: Duration = Duration::from_secs(30);

/// Waits until the machine has the interfaces that a lab takes, unless the lab has them already. What does not come
/// in time, `up` will say.
///
/// # Errors
/// The interfaces of the machine cannot be read.
pub fn await_interfaces(home: &Home, lab: &Lab) -> Result<(), Error> {
    let devs: Vec<IfName> = lab.nodes().iter().flat_map(|node| node.interfaces.iter().copied()).collect();
    if devs.is_empty() || Running::find(home, lab.name()).is_ok() {
        return Ok(());
    }
    let waited = hopyard_kernel::wait_for_interfaces(&devs, ARRIVAL);
    waited.map(drop).context(|| "wait for the machine's interfaces".to_owned())
}

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
