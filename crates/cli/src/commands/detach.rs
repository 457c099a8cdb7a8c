//! `hop detach`.

use hopyard::runtime::Home;
use hopyard::runtime::attach;

use crate::error::CliError;
use crate::target::{LabArg, refuse_inside};
use crate::ui::Ui;

/// Make an attached node one as any other again.
///
/// The container goes on, without what the lab has made in it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    lab: LabArg,
    /// The node, as NODE or LAB/NODE.
    #[arg(value_name = "NODE")]
    node: String,
}

pub(crate) fn run(args: &Args, ui: &mut Ui) -> Result<u8, CliError> {
    refuse_inside()?;
    let home = Home::of_caller()?;
    let (running, node) = args.lab.find_node(&home, &args.node)?;
    let node = running.node(&node)?;
    let lab = running.name().clone();
    drop(running);
    let (_, attachment) = attach::detach(&home, &lab, &node)?;
    ui.line(format_args!("{} is not {lab}/{node} any more", attachment.label))?;
    Ok(0)
}
