//! Which lab, and which node of it: one running lab need not be named.

use std::path::Path;

use clap::Args;
use hopyard::model::{LabName, LabNameError};
use hopyard::runtime::{Home, Running};

use crate::error::{CliError, remains_hint};

/// The lab that a command is about.
#[derive(Debug, Args)]
pub(crate) struct LabArg {
    /// The lab; not needed where only one runs.
    #[arg(short = 'l', long, value_name = "LAB", value_parser = lab_name)]
    pub(crate) lab: Option<LabName>,
}

/// The name of a lab that runs; whoever names its file is told the difference.
pub(crate) fn lab_name(text: &str) -> Result<LabName, String> {
    text.parse().map_err(|error: LabNameError| {
        if Path::new(text).extension().is_some_and(|it| it == "yaml" || it == "yml") {
            "a lab that runs goes by its name, not by its file; `hop ls` lists those that run".to_owned()
        } else {
            error.to_string()
        }
    })
}

impl LabArg {
    /// Finds it.
    pub(crate) fn find(&self, home: &Home) -> Result<Running, CliError> {
        match &self.lab {
            Some(name) => Ok(Running::find(home, name)?),
            None => the_only_lab(home),
        }
    }

    /// Finds the lab and the node of `NODE` or `LAB/NODE`.
    pub(crate) fn find_node(&self, home: &Home, node: &str) -> Result<(Running, String), CliError> {
        let Some((lab, node)) = node.split_once('/') else { return Ok((self.find(home)?, node.to_owned())) };
        let lab: LabName = lab.parse().map_err(|error| CliError::usage(format!("{error}")))?;
        if let Some(other) = self.lab.as_ref().filter(|&other| *other != lab) {
            return Err(CliError::usage(format!("the node is of lab `{lab}`, but --lab says `{other}`")));
        }
        Ok((Running::find(home, &lab)?, node.to_owned()))
    }
}

/// Labs cannot be brought up or taken down from inside of one: its processes have numbers of their own.
pub(crate) fn refuse_inside() -> Result<(), CliError> {
    match std::env::var("HOP_NODE") {
        Err(_) => Ok(()),
        Ok(node) => Err(CliError::usage(format!("this is inside of node `{node}`, where labs cannot be managed"))
            .hint("leave it first")),
    }
}

/// The labs of which only remains are left, as far as that can be told: inside of a node no keeper outside is seen.
pub(crate) fn remains(home: &Home) -> Result<Vec<LabName>, CliError> {
    if std::env::var_os("HOP_NODE").is_some() { Ok(Vec::new()) } else { Ok(Running::remains(home)?) }
}

/// The lab that runs, if it is one.
pub(crate) fn the_only_lab(home: &Home) -> Result<Running, CliError> {
    choose(home, "`-l LAB`, or `LAB/NODE` for a node")
}

/// The same, where several are told apart in a way of the command's own.
pub(crate) fn choose(home: &Home, how: &str) -> Result<Running, CliError> {
    if let Some(name) = std::env::var_os("HOP_LAB").filter(|name| !name.is_empty()) {
        // Set by `hop run` for its command, which means its own lab.
        let name = name.to_string_lossy().parse().map_err(|error| CliError::usage(format!("HOP_LAB: {error}")))?;
        return Ok(Running::find(home, &name)?);
    }
    let (mut labs, _unreadable) = Running::all(home)?;
    match labs.len() {
        0 => {
            Err(match remains(home)?.first() {
                Some(name) => CliError::usage(format!("no lab is running: the keeper of `{name}` has ended"))
                    .hint(remains_hint(name)),
                None => CliError::usage("no lab is running")
                    .hint("`hop up TOPOLOGY` brings one up, `hop up chain:3` for a try"),
            })
        }
        1 => Ok(labs.remove(0)),
        _ => {
            let names: Vec<&str> = labs.iter().map(|lab| lab.name().as_str()).collect();
            Err(CliError::usage(format!("several labs are running: {}", names.join(", ")))
                .hint(format!("name one: {how}")))
        }
    }
}
