//! countersign: the command line of operators and scripts.
#![forbid(unsafe_code)]

mod agent_program;
mod command;
mod exit;
mod failure;
mod moment;
mod output;
mod table;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use command::Cli;
use failure::Failure;
use output::Output;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return not_parsed(&error),
    };
    let output = Output::new(cli.global.json);
    match command::run(cli, &output) {
        Ok(exit) => exit.into(),
        Err(failure) => output.fail(&failure),
    }
}

/// Prints help or the version. Anything else is a usage error, in JSON if that was asked for.
fn not_parsed(error: &clap::Error) -> ExitCode {
    let json = std::env::args_os().take_while(|word| word != "--").any(|word| word == "--json");
    if !error.use_stderr() {
        let printed = error.print().and_then(|()| std::io::stdout().flush());
        return printed.map_or_else(
            |error| Output::new(json).fail(&Failure::Output(error)),
            |()| exit::Exit::Done.into(),
        );
    }
    if !json {
        // If the terminal is gone, nothing can be said.
        let _ = error.print();
        return exit::Exit::Usage.into();
    }
    let text = error.to_string();
    let message = text.trim_end().trim_start_matches("error: ").to_owned();
    Output::new(true).fail(&Failure::Usage(message))
}
