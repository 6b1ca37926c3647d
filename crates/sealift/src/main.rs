//! The `sealift` command.
#![forbid(unsafe_code)]

mod inspect;
mod pki;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use sealift::outcome::{Kind, exit_codes};

/// Moves running virtual machines between hosts over networks that nobody trusts.
#[derive(Parser)]
#[command(version, arg_required_else_help = true, after_help = exit_codes())]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Inspect(inspect::Arguments),
    Pki(pki::Arguments),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Inspect(arguments) => inspect::run(&arguments).map_err(|why| why.to_string()),
        Command::Pki(arguments) => pki::run(&arguments).map_err(|why| why.to_string()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Nobody is left to tell when even that cannot be written.
            let _ = std::io::Write::write_fmt(
                &mut std::io::stderr(),
                format_args!("sealift: {failure}\n"),
            );
            Kind::Host.code().into()
        }
    }
}
