//! `hop man`.

use std::io;

use clap::CommandFactory;

use crate::error::CliError;
use crate::ui::Ui;

/// Print the manual page, hop(1), with a section for every command: `hop man | man -l -`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_args: &Args, ui: &mut Ui) -> Result<u8, CliError> {
    let page = page().map_err(|error| CliError::failure(format!("cannot write the manual page: {error}")))?;
    ui.text(&String::from_utf8_lossy(&page))?;
    Ok(0)
}

/// One page for all, so that a search finds everything.
fn page() -> io::Result<Vec<u8>> {
    let mut command = crate::args::Args::command();
    command.build();
    let mut text = Vec::new();
    let man = clap_mangen::Man::new(command.clone());
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    for sub in command.get_subcommands() {
        let name = format!("hop {}", sub.get_name());
        let sub = sub.clone().bin_name(name.clone()).display_name(name.clone());
        text.extend(format!(".SH {}\n", name.to_uppercase()).bytes());
        let man = clap_mangen::Man::new(sub);
        for render in [
            clap_mangen::Man::render_synopsis_section,
            clap_mangen::Man::render_description_section,
            clap_mangen::Man::render_options_section,
        ] {
            let mut section = Vec::new();
            render(&man, &mut section)?;
            // Sections of a section.
            text.extend(String::from_utf8_lossy(&section).replace("\n.SH ", "\n.SS ").bytes());
        }
    }
    man.render_extra_section(&mut text)?;
    Ok(text)
}
