//! `hop completions`.

use clap::CommandFactory;

use crate::error::CliError;
use crate::ui::Ui;

/// Print the completions for a shell.
///
/// Those of bash know the nodes and labs that run, and names of namespaces: `source <(hop completions bash)`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The shell.
    shell: clap_complete::Shell,
}

/// Asks `hop complete` first, for names.
const NAMES_IN_BASH: &str = r#"
_hop_with_names() {
    local cur="${COMP_WORDS[COMP_CWORD]}" name names
    names=$("${COMP_WORDS[0]}" complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    COMPREPLY=()
    [[ "${cur}" == = ]] && cur=""
    case "${names}" in
        "")
            _hop "$@"
            ;;
        :command:)
            COMPREPLY=( $(compgen -c -- "${cur}") )
            ;;
        :file:)
            compopt -o filenames 2>/dev/null
            mapfile -t COMPREPLY < <(compgen -f -- "${cur}")
            ;;
        *)
            # Not by `compgen -W`, which would run what stands in a name as `$(...)`.
            while IFS= read -r name; do
                [[ "${name}" == "${cur}"* ]] && COMPREPLY+=( "$(printf %q "${name}")" )
            done <<<"${names}"
            ;;
    esac
}

"#;

pub(crate) fn run(args: &Args, ui: &mut Ui) -> Result<u8, CliError> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut shown(), "hop", &mut text);
    let mut text = String::from_utf8_lossy(&text).into_owned();
    if args.shell == clap_complete::Shell::Bash
        && let Some(at) = text.rfind("\nif [[ \"${BASH_VERSINFO[0]}\"")
    {
        let registered = text.split_off(at + 1).replace("complete -F _hop ", "complete -F _hop_with_names ");
        text.push_str(NAMES_IN_BASH.trim_start());
        text.push_str(&registered);
    }
    ui.text(&text)?;
    Ok(0)
}

/// Without the commands that nobody types.
fn shown() -> clap::Command {
    let all = crate::args::Args::command();
    // Which those are, only a command that is made knows.
    let mut made = all.clone();
    made.build();
    let hides = |name: &str| made.find_subcommand(name).is_some_and(clap::Command::is_hide_set);
    let commands = all.get_subcommands().filter(|command| !hides(command.get_name())).cloned();
    let shown = clap::Command::new("hop").version(env!("CARGO_PKG_VERSION")).disable_help_subcommand(true);
    shown.args(all.get_arguments().cloned()).subcommands(commands)
}
