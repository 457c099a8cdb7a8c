//! `hop enable`.

use std::path::{Path, PathBuf};

use hopyard::formats::{self, SourceFile};
use hopyard::model::{Lab, LabName};
use hopyard::runtime::boot::{self, BootError, LabUnit, Manager, Scope, unit_name};
use hopyard::runtime::{self, Home, Running};

use crate::error::{CliError, report_problems};
use crate::source::{Source, TopologyArgs};
use crate::target::refuse_inside;
use crate::ui::Ui;

/// Bring a lab up whenever the machine starts.
///
/// Copies the topology, to /etc/hopyard or ~/.config/hopyard, and writes a unit of systemd that brings it
/// up: the machine's for root, your own (`systemctl --user`) for everybody else. Repeat it to take over what
/// has changed in the topology. Instead of a topology, the name of a running lab will do.
///
/// A lab that runs already is adopted as it is. `systemctl reload` of the unit changes what differs,
/// `restart` does the same, `stop` takes the lab down.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A topology, as for `hop up`; or the name of a running lab.
    #[command(flatten)]
    topology: TopologyArgs,
    /// Bring it up now as well, or change the running lab into it.
    #[arg(long)]
    now: bool,
    /// Write nothing; print the unit.
    #[arg(long, conflicts_with_all = ["now", "force"])]
    print: bool,
    /// Replace files that somebody has edited.
    #[arg(long)]
    force: bool,
}

pub(crate) fn run(args: &Args, ui: &mut Ui) -> Result<u8, CliError> {
    let Wanted { lab, text } = read(&args.topology, ui)?;
    let manager = Manager::of_caller();
    let program = program()?;
    let records = records()?;
    let interfaces: Vec<_> = lab.nodes().iter().flat_map(|node| node.interfaces.iter().copied()).collect();
    let unit = LabUnit {
        lab: lab.name(),
        program: &program,
        scope: manager.scope(),
        records: records.as_deref(),
        interfaces: &interfaces,
        uplink: lab.nodes().iter().any(|node| node.uplink),
    };
    if args.print {
        ui.text(&manager.text_of(&unit, &text).map_err(runtime::Error::from)?)?;
        ui.note(format_args!(
            "# for {}, with the topology in {}",
            manager.unit(lab.name()).display(),
            manager.topology(lab.name()).display()
        ));
        return Ok(0);
    }
    refuse_inside()?;
    let enabled = boot::enable(&manager, &unit, &text, args.force)?;
    let name = lab.name();
    if enabled.changed {
        ui.line(format_args!(
            "{name} comes up {}: {}, from {}",
            when(manager.scope()),
            enabled.unit.display(),
            enabled.topology.display()
        ))?;
    } else {
        ui.line(format_args!("{name} is enabled already; nothing to change"))?;
    }
    if args.now {
        manager.start(name)?;
        ui.line(format_args!("{name} is up"))?;
    } else if enabled.changed {
        let systemctl = systemctl(&manager);
        if manager.is_active(name) {
            ui.hint(format_args!("`{systemctl} reload {}` changes the running lab into it", unit_name(name)));
        } else {
            ui.hint(format_args!("`{systemctl} start {}` brings it up now", unit_name(name)));
        }
    }
    note_linger(&manager, ui);
    if manager.scope() == Scope::System && !boot::belongs_to_root(&program) {
        ui.note(format_args!(
            "warning: root will run {}, which somebody else can replace; install hop in /usr/local/bin",
            program.display()
        ));
    }
    Ok(0)
}

struct Wanted {
    lab: Lab,
    /// What is to be in the copy.
    text: String,
}

/// Reads the topology, and makes of it a file that stands by itself.
fn read(args: &TopologyArgs, ui: &mut Ui) -> Result<Wanted, CliError> {
    if let Some(running) = running(args)? {
        let contents = running.contents()?;
        let source = running.record().source.as_str();
        // The file itself has remarks, and is nicer to read.
        let text = std::fs::read_to_string(source).ok().filter(|text| says(text, running.name(), &contents.lab));
        return Ok(Wanted { lab: contents.lab.clone(), text: text.unwrap_or_else(|| formats::to_yaml(&contents.lab)) });
    }
    let source = args.read(ui)?;
    check(&source, ui)?;
    let Source { file, lab } = source;
    let text = if says(file.text(), lab.name(), &lab) { file.text().to_owned() } else { formats::to_yaml(&lab) };
    Ok(Wanted { lab, text })
}

/// The running lab that was meant, if no file of that name is there.
fn running(args: &TopologyArgs) -> Result<Option<Running>, CliError> {
    let text = &args.topology;
    if formats::looks_inline(text) || Path::new(text).exists() {
        return Ok(None);
    }
    let Ok(name) = text.parse::<LabName>() else { return Ok(None) };
    if args.name.is_some() || args.ipv4_only || args.ipv6_only {
        return Err(CliError::usage(format!("`{text}` is no file; a running lab is enabled as it is")));
    }
    Ok(Some(Running::find(&Home::of_caller()?, &name)?))
}

/// Does the text describe that very lab, in a file of its name?
fn says(text: &str, name: &LabName, lab: &Lab) -> bool {
    let file = SourceFile::new(format!("{name}.hop.yaml"), text);
    formats::read(&file).is_ok_and(|(read, _)| formats::to_yaml(&read) == formats::to_yaml(lab))
}

/// A lab that cannot be planned would fail at the next start of the machine, when nobody looks.
fn check(source: &Source, ui: &mut Ui) -> Result<(), CliError> {
    let home = Home::of_caller()?;
    runtime::require_lendable(&home, &source.lab).map_err(|error| CliError::of_lab(error, source))?;
    let difference = runtime::difference(&home, &source.lab).map_err(|error| CliError::of_lab(error, source))?;
    report_problems(ui, &difference.warnings, &source.file);
    Ok(())
}

/// This program, by a path that is still there when the machine starts.
fn program() -> Result<PathBuf, CliError> {
    let missing = |why: String| CliError::from(runtime::Error::from(BootError::NoProgram { why }));
    let path = std::env::current_exe().map_err(|error| missing(error.to_string()))?;
    if path.exists() { Ok(path) } else { Err(missing(path.display().to_string())) }
}

/// Where the caller's labs have their records, if that was said.
pub(crate) fn records() -> Result<Option<PathBuf>, CliError> {
    let Some(dir) = std::env::var_os("HOPYARD_DIR").filter(|dir| !dir.is_empty()) else { return Ok(None) };
    std::path::absolute(dir).map(Some).map_err(|error| CliError::failure(error.to_string()))
}

fn when(scope: Scope) -> &'static str {
    match scope {
        Scope::System => "when the machine starts",
        Scope::User => "when you log in",
    }
}

/// The command that a person would type.
pub(crate) fn systemctl(manager: &Manager) -> &'static str {
    match manager.scope() {
        Scope::System => "systemctl",
        Scope::User => "systemctl --user",
    }
}

fn note_linger(manager: &Manager, ui: &mut Ui) {
    if manager.scope() == Scope::User && !boot::lingers() {
        ui.hint(
            "it goes when you log out for the last time; `loginctl enable-linger` has it up from the start of the \
             machine on, whether you are logged in or not",
        );
    }
}
