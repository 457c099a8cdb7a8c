//! `hop doctor`.

use hopyard::runtime::Home;
use hopyard::runtime::doctor::{Verdict, examine};

use crate::error::CliError;
use crate::ui::{ERROR, GOOD, HINT, Ui, WARNING};

/// Find out, by doing it, whether this machine can run labs for you, and what to do where it cannot.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_args: &Args, ui: &mut Ui) -> Result<u8, CliError> {
    let findings = examine(&Home::of_caller()?);
    for finding in &findings {
        let mark = match finding.verdict {
            Verdict::Good => format!("{GOOD}good{GOOD:#}   "),
            Verdict::Limited => format!("{WARNING}limited{WARNING:#}"),
            Verdict::Bad => format!("{ERROR}bad{ERROR:#}    "),
        };
        ui.line(format_args!("{mark}  {:10}  {}", finding.subject, finding.detail))?;
        for line in finding.fix.iter().flat_map(|fix| fix.lines()) {
            ui.line(format_args!("{:21}{HINT}fix{HINT:#}: {line}", ""))?;
        }
    }
    Ok(u8::from(findings.iter().any(|finding| finding.verdict == Verdict::Bad)))
}
