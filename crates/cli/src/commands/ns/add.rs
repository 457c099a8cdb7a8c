//! `hop ns add`.

use hopyard::net::NsName;
use hopyard::runtime::ns;

use super::all_told;
use crate::error::CliError;
use crate::ui::Ui;

/// Make namespaces, as many as there are names; in each is `lo`, down.
///
/// A name appears together with its namespace. One that is dead, because something was killed or the
/// machine was started anew, is made a namespace again. A name that is taken does not keep the others
/// from being made.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Their names: ASCII letters, digits, `_`, `.` and `-`, the first one a letter or a digit.
    #[arg(value_name = "NAME", required = true)]
    names: Vec<NsName>,
}

pub(crate) fn run(args: &Args, ui: &mut Ui) -> Result<u8, CliError> {
    all_told(ns::add(&args.names)?.failed, ui)
}
