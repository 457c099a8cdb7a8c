//! `hop ns move`.

use std::ffi::OsString;

use hopyard::net::IfName;
use hopyard::runtime::ns::{self, Moved, Place};

use super::{existing, tell_of_lost};
use crate::error::CliError;
use crate::ui::Ui;

/// Move an interface into a namespace, or back, with what the kernel would take from it on the way.
///
/// It keeps its name, its second names, its Ethernet address and its MTU, and is given again that it is up, its
/// addresses, routes, permanent neighbours and sysctls. Policy rules that name it (`iif`, `oif`) go with it. What it cannot
/// be given is told: its queueing discipline, and what it shares with others, as its place in a bridge, which it has
/// again when it comes back.
///
/// A wireless interface moves with its radio, and with all other interfaces of that: they keep the same, and lose their
/// connection to an access point.
///
/// `hop ns delete` brings it back to where it came from, with what it had there.
#[derive(Debug, clap::Args)]
#[command(name = "move")]
pub(crate) struct Args {
    /// The interface.
    #[arg(value_name = "DEV")]
    dev: IfName,
    /// Where to: the name of a namespace, or `host` for the one that this runs in, which is what is meant if it is
    /// not given.
    #[arg(value_name = "NAME", required_unless_present = "from")]
    to: Option<OsString>,
    /// Where from, if not from here: the name of a namespace.
    #[arg(long, value_name = "NAME")]
    from: Option<OsString>,
    /// Let it be down and have nothing, as after `ip link set DEV netns NAME`.
    #[arg(long)]
    bare: bool,
}

/// The namespace that hop runs in.
const HOST: &str = "host";

pub(crate) fn run(args: &Args, ui: &mut Ui) -> Result<u8, CliError> {
    let from = args.from.as_ref().map_or(Ok(Place::Here), place)?;
    let to = args.to.as_ref().map_or(Ok(Place::Here), place)?;
    for Moved { dev, lost } in ns::move_interface(args.dev, &from, &to, args.bare)? {
        if dev != args.dev {
            ui.note(format_args!("{dev} has moved along: it is of the same radio"));
        }
        tell_of_lost(dev, &lost, ui);
    }
    Ok(0)
}

fn place(name: &OsString) -> Result<Place, CliError> {
    if name == HOST { Ok(Place::Here) } else { existing(name).map(Place::Named) }
}
