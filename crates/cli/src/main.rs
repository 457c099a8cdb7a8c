//! The program `hop`: words, colours and exit statuses. Everything else is in the library.
#![forbid(unsafe_code)]
#![cfg_attr(all(target_env = "gnu", not(test)), no_main)]

mod args;
mod commands;
mod error;
mod new_file;
mod source;
mod target;
mod ui;

hopyard::kernel::main!(run);

fn run() -> u8 {
    let args = match args::Args::of_process() {
        Ok(args) => args,
        // `--help` is no error, and what clap prints cannot be printed twice.
        Err(error) => {
            error.print().ok();
            return u8::try_from(error.exit_code()).unwrap_or(error::USAGE);
        }
    };
    let mut ui = ui::Ui::new(args.color);
    // What a lab that was killed has left of the host's settings.
    if let Err(error) = hopyard::runtime::uplink::heal() {
        ui.note(format_args!("warning: {error}"));
        if let Some(hint) = error::hint(&error) {
            ui.note(format_args!("  help: {hint}"));
        }
    }
    let result = commands::run(args.command, &mut ui).and_then(|status| ui.finish().map(|()| status));
    result.unwrap_or_else(|error| error.report(&mut ui))
}
