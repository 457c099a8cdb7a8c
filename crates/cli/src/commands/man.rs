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

/// What no option tells.
const ENVIRONMENT_AND_FILES: &str = r".SH ENVIRONMENT
.TP
.B HOP_LAB
The lab that is meant where several run. Set for the commands of `hop run`, `exec` and `shell`.
.TP
.B HOP_NODE
Set for a command in a node: its name.
.TP
.B HOPYARD_DIR
The directory of records, instead of the one below. Labs that one hop brought up are found by another only if both look in the same.
.TP
.B XDG_RUNTIME_DIR
See below.
.SH FILES
.TP
.I /run/hopyard
Records of running labs, for root.
.TP
.I $XDG_RUNTIME_DIR/hopyard, /run/user/UID/hopyard, /tmp/hopyard\-UID
For other users: the first whose parent is there and is theirs.
.TP
.I /run/netns/LAB.NODE
A link for every node of root's labs, for `ip netns`. Where /run is on a disk, /run/netns is made in /dev/shm.
";

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
        section(sub, "hop", &mut text)?;
    }
    man.render_extra_section(&mut text)?;
    text.extend(ENVIRONMENT_AND_FILES.bytes());
    Ok(text)
}

/// What is to be said of a command, and of those below it.
fn section(command: &clap::Command, parent: &str, text: &mut Vec<u8>) -> io::Result<()> {
    let name = format!("{parent} {}", command.get_name());
    let command = command.clone().bin_name(name.clone()).display_name(name.clone());
    text.extend(format!(".SH {}\n", name.to_uppercase()).bytes());
    let man = clap_mangen::Man::new(command.clone());
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
    command.get_subcommands().try_for_each(|sub| section(sub, &name, text))
}
