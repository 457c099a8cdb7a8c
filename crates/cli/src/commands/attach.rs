//! `hop attach`.

use hopyard::kernel::Process;
use hopyard::runtime::attach::{self, Engine, Found};
use hopyard::runtime::ns::NsError;
use hopyard::runtime::{self, Home};

use crate::error::{CliError, report_problems};
use crate::target::{LabArg, refuse_inside};
use crate::ui::Ui;

/// Make a running container a node of a running lab.
///
/// Its network becomes the node's: links, addresses, routes and forwarding that the topology asks for are made
/// in it; what it has of its own stays. `hop up` keeps it so. `hop detach` takes away what was made, and the
/// node is one as any other again; so does `hop up` when the container has ended.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true))]
pub(crate) struct Args {
    #[command(flatten)]
    lab: LabArg,
    /// The node, as NODE or LAB/NODE; no processes may run in it.
    #[arg(value_name = "NODE")]
    node: String,
    /// A container of podman or docker, or a machine of systemd-nspawn.
    #[arg(long, value_name = "NAME", group = "what")]
    container: Option<String>,
    /// Any process, by its number.
    #[arg(long, value_name = "PID", group = "what")]
    pid: Option<i32>,
    /// Ask this one for the container.
    #[arg(long, value_enum, value_name = "ENGINE", requires = "container")]
    engine: Option<EngineName>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum EngineName {
    Podman,
    Docker,
    Machinectl,
}

pub(crate) fn run(args: &Args, ui: &mut Ui) -> Result<u8, CliError> {
    refuse_inside()?;
    let home = Home::of_caller()?;
    let (running, node) = args.lab.find_node(&home, &args.node)?;
    let node = running.node(&node)?;
    let Found { process, label } = match (&args.container, args.pid) {
        (Some(name), _) => {
            let engine = args.engine.map(|engine| match engine {
                EngineName::Podman => Engine::Podman,
                EngineName::Docker => Engine::Docker,
                EngineName::Machinectl => Engine::Machinectl,
            });
            attach::find(name, engine)?
        }
        (None, pid) => {
            let pid = pid.unwrap_or_default();
            let process = Process::open(pid).map_err(|_| runtime::Error::from(NsError::NoProcess { pid }))?;
            Found { process, label: format!("process {pid}") }
        }
    };
    let lab = running.name().clone();
    drop(running);
    let up = attach::attach(&home, &lab, &node, &process, &label)?;
    report_problems(ui, &up.warnings, &hopyard::formats::SourceFile::inline(""));
    ui.line(format_args!("{label} is {lab}/{node}"))?;
    Ok(0)
}
