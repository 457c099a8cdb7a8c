//! `hop ns set`.

use std::ffi::OsString;
use std::str::FromStr;

use hopyard::runtime::ns;

use super::existing;
use crate::error::CliError;

/// Give a namespace the number by which this one knows it (`link-netnsid` of `ip link`).
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The name of the namespace.
    #[arg(value_name = "NAME")]
    name: OsString,
    /// The number, or `auto` for one of the kernel's choice.
    #[arg(value_name = "NUMBER")]
    number: Number,
}

#[derive(Clone, Copy, Debug)]
struct Number(Option<i32>);

impl FromStr for Number {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Number(None));
        }
        let number = text.parse().ok().filter(|number| *number >= 0);
        number.map(|number| Number(Some(number))).ok_or_else(|| format!("a number from 0 to {}, or auto", i32::MAX))
    }
}

pub(crate) fn run(args: &Args) -> Result<u8, CliError> {
    ns::set_number(&existing(&args.name)?, args.number.0)?;
    Ok(0)
}
