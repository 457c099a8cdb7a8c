//! `hop boot`: what the units of labs run.

use hopyard::model::LabName;
use hopyard::runtime::boot::{self, Manager};
use hopyard::runtime::{self, Home};

use super::unit::enabled;
use super::up::{Words, bring_up, count};
use crate::error::CliError;
use crate::ui::Ui;

/// What the units that `hop enable` writes run; nothing to type.
#[derive(Debug, clap::Args)]
#[command(hide = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Bring the lab up, or adopt it; end when it does.
    Run(Lab),
    /// Change the running lab into what its topology says.
    Reload(Lab),
    /// Take the lab down, unless the unit is only being restarted.
    Stop(Lab),
}

#[derive(Debug, clap::Args)]
struct Lab {
    /// The lab.
    lab: LabName,
}

pub(crate) fn run(args: &Args, ui: &mut Ui) -> Result<u8, CliError> {
    let home = Home::of_caller()?;
    let manager = Manager::of_caller();
    match &args.verb {
        Verb::Run(Lab { lab }) => {
            let topology = enabled(&manager, lab);
            boot::await_interfaces(&home, &topology.read(ui)?.lab)?;
            let up = bring_up(Some(&home), &topology, Words::Changes, ui)?;
            ui.finish()?;
            let record = up.running.record();
            let status = format!("{}, {}", count(record.nodes, "node", "nodes"), count(record.links, "link", "links"));
            // Of a large lab that is much memory for a process that only waits.
            drop(up);
            boot::ready(&status)?;
            boot::keep(&home, lab)?;
            ui.line(format_args!("{lab} was taken down"))?;
        }
        Verb::Reload(Lab { lab }) => {
            bring_up(Some(&home), &enabled(&manager, lab), Words::Changes, ui)?;
        }
        // systemd runs it, too, when the process that waits for the lab has ended by itself: then the lab is down,
        // and one of its name that somebody has brought up since is none of the unit's.
        Verb::Stop(_) if std::env::var_os("MAINPID").is_none() => {}
        Verb::Stop(Lab { lab }) => match boot::is_restarting(&manager, lab) {
            Ok(true) => ui.line(format_args!("{lab} stays up for the restart"))?,
            asked => {
                if let Err(error) = asked {
                    ui.note(format_args!("warning: cannot tell a restart from a stop: {error}"));
                }
                runtime::down(&home, lab, false)?;
                ui.line(format_args!("{lab} is down"))?;
            }
        },
    }
    Ok(0)
}
