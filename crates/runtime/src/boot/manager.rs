//! Which systemd: that of the machine, or that of the user.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use hopyard_kernel::{rights, users};
use hopyard_model::LabName;

use super::{BootError, ServiceName, Wish, files, unit_name};
use crate::error::Error;

/// Whose systemd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The machine's.
    System,
    /// The user's own (`systemctl --user`).
    User,
}

impl Scope {
    /// What wants the labs: everything that is up when the machine, or the user, is ready to work.
    pub(super) fn target(self) -> &'static str {
        match self {
            Scope::System => "multi-user.target",
            Scope::User => "default.target",
        }
    }

    /// The options that make systemctl(1) speak to it.
    pub fn option(self) -> Option<&'static str> {
        (self == Scope::User).then_some("--user")
    }
}

/// A systemd, and where its files are.
#[derive(Clone, Debug)]
pub struct Manager {
    scope: Scope,
    units: PathBuf,
    topologies: PathBuf,
    runtime_dir: PathBuf,
}

/// The name of our drop-ins.
const DROP_IN: &str = "50-hopyard.conf";

impl Manager {
    /// That of root is the machine's, that of everybody else their own.
    pub fn of_caller() -> Self {
        let uid = rights::user_id();
        if uid == 0 {
            return Manager {
                scope: Scope::System,
                units: PathBuf::from("/etc/systemd/system"),
                topologies: PathBuf::from("/etc/hopyard"),
                runtime_dir: PathBuf::from("/run"),
            };
        }
        let dir = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|dir| dir.is_absolute());
        let config = dir("XDG_CONFIG_HOME").unwrap_or_else(|| dir("HOME").unwrap_or_default().join(".config"));
        Manager {
            scope: Scope::User,
            units: config.join("systemd/user"),
            topologies: config.join("hopyard"),
            runtime_dir: dir("XDG_RUNTIME_DIR").unwrap_or_else(|| PathBuf::from(format!("/run/user/{uid}"))),
        }
    }

    /// Whose it is.
    pub fn scope(&self) -> Scope {
        self.scope
    }

    /// Where the copies of topologies are.
    pub fn topologies(&self) -> &Path {
        &self.topologies
    }

    /// The copy of a lab's topology.
    pub fn topology(&self, lab: &LabName) -> PathBuf {
        self.topologies.join(format!("{lab}.hop.yaml"))
    }

    /// What is about to be copied there: a file that says so for so long.
    pub(super) fn plan(&self, lab: &LabName) -> PathBuf {
        self.topologies.join(format!(".hop-plan-{lab}"))
    }

    /// The unit of a lab.
    pub fn unit(&self, lab: &LabName) -> PathBuf {
        self.units.join(unit_name(lab))
    }

    /// The link by which the lab is started with everything else.
    pub(super) fn wanted_by(&self, lab: &LabName) -> PathBuf {
        self.units.join(format!("{}.wants", self.scope.target())).join(unit_name(lab))
    }

    /// Our drop-in of a service.
    pub fn drop_in(&self, service: &ServiceName) -> PathBuf {
        self.units.join(format!("{service}.d")).join(DROP_IN)
    }

    /// Is it there (sd_booted(3))?
    pub(super) fn require(&self, wish: Wish) -> Result<(), BootError> {
        if !Path::new("/run/systemd/system").is_dir() {
            return Err(BootError::NoSystemd { wish });
        }
        let socket = self.runtime_dir.join("systemd/private");
        if self.scope == Scope::User && !socket.exists() {
            return Err(BootError::NoUserManager { socket });
        }
        Ok(())
    }

    /// Keeps others of us from its files, as long as the value lives.
    pub(super) fn lock(&self) -> Result<Option<File>, Error> {
        files::lock(&self.units)
    }

    /// Makes the directory of its units, where there is none.
    pub(super) fn make_dir(&self) -> Result<(), Error> {
        files::make_dir(&self.units)
    }

    /// Does it know the service?
    pub(super) fn require_service(&self, service: &ServiceName) -> Result<(), BootError> {
        let name = || service.to_string();
        match self.property(service, "LoadState")?.as_str() {
            "not-found" => Err(BootError::NoService { name: name() }),
            "masked" => Err(BootError::Masked { name: name() }),
            _ => Ok(()),
        }
    }

    /// The sockets by which it listens for a service.
    pub(super) fn sockets_of(&self, service: &ServiceName) -> Result<Vec<ServiceName>, BootError> {
        if service.is_socket() {
            return Ok(Vec::new());
        }
        if let Some(socket) = service.socket_of_template() {
            let is_there = self.property(&socket, "LoadState")? == "loaded";
            return Ok(if is_there { vec![socket] } else { Vec::new() });
        }
        let names = self.property(service, "TriggeredBy")?;
        let names = names.split_whitespace().filter_map(|name| name.parse::<ServiceName>().ok());
        Ok(names.filter(ServiceName::is_socket).collect())
    }

    /// What it has read of a service.
    pub(super) fn property(&self, service: &ServiceName, property: &str) -> Result<String, BootError> {
        // A template is no unit itself, but one of its instances is.
        let name = service.as_str().replace("@.", "@x.");
        let property = format!("--property={property}");
        Ok(self.systemctl(&["show", &property, "--value", "--", &name])?.trim().to_owned())
    }

    /// Has it read its files again.
    pub(super) fn reload(&self) -> Result<(), BootError> {
        self.systemctl(&["daemon-reload"]).map(drop)
    }

    /// Starts a lab's unit, or makes the running lab what its topology says.
    ///
    /// # Errors
    /// It does not come up.
    pub fn start(&self, lab: &LabName) -> Result<(), Error> {
        Ok(self.systemctl(&["reload-or-restart", &unit_name(lab)]).map(drop)?)
    }

    /// Does the lab's unit say that it runs?
    pub fn is_active(&self, lab: &LabName) -> bool {
        self.systemctl(&["is-active", "--quiet", &unit_name(lab)]).is_ok()
    }

    /// Runs systemctl(1); returns what it prints.
    pub(super) fn systemctl(&self, args: &[&str]) -> Result<String, BootError> {
        let mut command = Command::new("systemctl");
        command.args(self.scope.option()).args(["--no-pager", "--no-ask-password"]).args(args);
        command.env("XDG_RUNTIME_DIR", &self.runtime_dir).env("LC_ALL", "C.UTF-8");
        let failed = |said: String| {
            let mut words = vec!["systemctl"];
            words.extend(self.scope.option());
            words.extend(args);
            BootError::Systemctl { command: words.join(" "), said }
        };
        let output = command.stdin(Stdio::null()).output().map_err(|error| failed(error.to_string()))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() {
            return Ok(text(&output.stdout));
        }
        let said = text(&output.stderr);
        Err(failed(if said.is_empty() { output.status.to_string() } else { said }))
    }

    /// The services that have a drop-in of ours for a lab.
    pub(super) fn services_of(&self, lab: &LabName) -> Vec<String> {
        let line = format!("BindsTo={}", unit_name(lab));
        let Ok(entries) = std::fs::read_dir(&self.units) else { return Vec::new() };
        let mut services: Vec<String> = entries
            .filter_map(Result::ok)
            .filter(|entry| {
                let text = std::fs::read_to_string(entry.path().join(DROP_IN));
                text.is_ok_and(|text| text.lines().any(|other| other == line))
            })
            .filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".d")?.to_owned()))
            .collect();
        services.sort();
        services
    }
}

/// May root alone change the file, and everything on the way to it?
pub fn belongs_to_root(path: &Path) -> bool {
    path.ancestors().all(|part| {
        std::fs::metadata(part)
            .is_ok_and(|meta| meta.uid() == 0 && (meta.mode() & 0o022 == 0 || meta.mode() & 0o1000 != 0))
    })
}

/// Does the caller's systemd run from the start of the machine on (loginctl(1), `enable-linger`)?
pub fn lingers() -> bool {
    users::name_of(rights::user_id()).is_some_and(|name| Path::new("/var/lib/systemd/linger").join(name).exists())
}
