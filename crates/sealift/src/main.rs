//! The `sealift` command.
#![forbid(unsafe_code)]

mod clock;
mod ending;
mod fault;
mod guest;
mod inspect;
mod journals;
mod memory;
mod monitor;
mod pki;
mod random;
mod receiver;
mod saved;
mod settings;
mod signals;
mod source;
mod tie;
mod under_way;
mod voice;
mod watch;

use std::ffi::OsString;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use sealift::arguments::{Output, export, migrate, receive, send};
use sealift::event::{Event, What};
use sealift::outcome::{Ending, Fault, Kind, exit_codes};
use sealift::reporter::{Reporter, Stdout};
use sealift_net::lock::lock;
use sealift_qemu::{Channel, shim};
use tokio::runtime::{Builder, Runtime};

/// Batches are allocated by one thread and freed by another, a megabyte each, hundreds a second: the system's allocator gives such memory
/// back at once, and the kernel clears it again for the next one. See bench/RESULTS.md.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// This program, for the peer's log.
const SOFTWARE: &str = concat!("sealift ", env!("CARGO_PKG_VERSION"));
/// The only version of TLS that either end speaks.
const TLS: &str = "TLS 1.3";

/// Moves running virtual machines between hosts over networks that nobody trusts.
#[derive(Parser)]
#[command(version, arg_required_else_help = true, after_help = exit_codes())]
struct Arguments {
    /// The process behind the one that QEMU started; see `shim`.
    #[arg(long, hide = true)]
    behind_shim: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Migrate(migrate::Arguments),
    Send(send::Arguments),
    Receive(receive::Arguments),
    Export(export::Arguments),
    Pki(pki::Arguments),
    Inspect(inspect::Arguments),
}

fn main() -> ExitCode {
    let Arguments {
        behind_shim,
        command,
    } = Arguments::parse();
    match command {
        Command::Inspect(arguments) => {
            plain(inspect::run(&arguments).map_err(|why| why.to_string()))
        }
        Command::Pki(arguments) => plain(pki::run(&arguments).map_err(|why| why.to_string())),
        Command::Export(arguments) => opened(&arguments),
        Command::Migrate(arguments) => session(
            arguments.output,
            Stdout::Free,
            behind_shim,
            async |reporter, _| source::migrate(&arguments, reporter).await,
        ),
        Command::Send(arguments) => session(
            arguments.output,
            arguments.stdout(),
            behind_shim,
            async |reporter, channel| source::send(&arguments, channel, reporter).await,
        ),
        Command::Receive(arguments) => session(
            arguments.output,
            arguments.stdout(),
            behind_shim,
            async |reporter, channel| receiver::run(&arguments, channel, reporter).await,
        ),
    }
}

/// A command that works on files.
fn plain(outcome: Result<(), String>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            complain(&failure);
            Kind::Host.code().into()
        }
    }
}

/// A saved guest is written out. What is told goes to standard error: the guest may be on standard output.
fn opened(arguments: &export::Arguments) -> ExitCode {
    let ending = match runtime() {
        Ok(runtime) => {
            let ending = runtime.block_on(receiver::export(arguments));
            // A thread that waits for whoever reads standard output must not keep the program.
            runtime.shutdown_background();
            ending
        }
        Err(error) => Ending::because(Kind::Host, &error).fault(Fault::ThisHost),
    };
    // Nobody is left to tell when even that cannot be written.
    let _ = writeln!(std::io::stderr(), "{ending}");
    ExitCode::from(&ending)
}

fn complain(message: &str) {
    // Nobody is left to tell when even that cannot be written.
    let _ = std::io::stderr().write_fmt(format_args!("sealift: {message}\n"));
}

/// A command that carries a guest. With QEMU at the other ends of the standard streams this process only stands in for the real one.
fn session(
    output: Output,
    stdout: Stdout,
    behind_shim: bool,
    work: impl AsyncFnOnce(Arc<Reporter>, Option<Channel>) -> Ending,
) -> ExitCode {
    let channel = match stdout {
        Stdout::Free => None,
        Stdout::Stream if !behind_shim => return stand_in(),
        Stdout::Stream => match shim::channel() {
            Ok(channel) => Some(channel),
            Err(error) => {
                complain(&ending::whole(&error));
                return Kind::Host.code().into();
            }
        },
    };
    let face = output.face(std::io::stderr().is_terminal(), stdout);
    let started =
        Reporter::new(face, output.verbose).and_then(|reporter| Ok((reporter, runtime()?)));
    let (reporter, runtime) = match started {
        Ok((reporter, runtime)) => (Arc::new(reporter), runtime),
        Err(error) => {
            complain(&error.to_string());
            return Kind::Host.code().into();
        }
    };
    let ending = runtime.block_on(work(Arc::clone(&reporter), channel));
    // Threads that wait for a QEMU which will not answer must not keep the program.
    runtime.shutdown_background();
    reporter.finish(Event {
        at: std::time::SystemTime::now(),
        session: None,
        what: What::Outcome(ending.clone()),
    });
    ExitCode::from(&ending)
}

/// One thread: what takes time has threads of its own.
fn runtime() -> std::io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .thread_name("reactor")
        .build()
}

/// QEMU waits for its child with its main loop blocked: the child must end when QEMU has closed the channel.
fn stand_in() -> ExitCode {
    let arguments =
        std::iter::once(OsString::from("--behind-shim")).chain(std::env::args_os().skip(1));
    let arguments: Vec<OsString> = arguments.collect();
    let run = std::env::current_exe().and_then(|program| shim::run(&program, &arguments));
    match run {
        Ok(code) => code,
        Err(error) => {
            let ending = Ending::because(Kind::Host, &error).fault(Fault::ThisHost);
            complain(&ending.line());
            ExitCode::from(&ending)
        }
    }
}

/// How many threads can run at once.
fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
