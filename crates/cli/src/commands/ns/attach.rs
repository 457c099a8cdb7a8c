//! `hop ns attach`.

use hopyard::net::NsName;
use hopyard::runtime::ns;

use crate::error::CliError;

/// Give the network namespace of a process a name.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The name.
    #[arg(value_name = "NAME")]
    name: NsName,
    /// The process.
    #[arg(value_name = "PID")]
    pid: i32,
}

pub(crate) fn run(args: &Args) -> Result<u8, CliError> {
    ns::attach(&args.name, args.pid)?;
    Ok(0)
}
