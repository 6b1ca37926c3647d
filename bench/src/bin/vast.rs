//! `cargo xtask bench vast`: what a guest of 256 GiB costs sealift itself.
#![forbid(unsafe_code)]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a bench talks to its user"
)]

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use sealift_bench::machine::{self, Alone};
use sealift_bench::vast::{Bench, Turn, Verdict, book, text, verdicts};

/// Move made-up guests of 16, 64 and 256 GiB, and see what memory either end takes, and whether time grows with the guest. Takes root; run it with nothing else running.
#[derive(Parser)]
struct Arguments {
    /// Rounds, in which each guest has its turn, and small ones several.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// The sealift to measure.
    #[arg(long, value_name = "PROGRAM")]
    sealift: PathBuf,
}

/// The sizes that are held against each other, and how often each has its turn in a round: what takes a second is more at the mercy of chance than what
/// takes half a minute.
const SIZES: [(u64, usize); 3] = [(16, 4), (64, 2), (256, 1)];
/// sealift's own, and the least that it takes.
const BUDGETS: [u64; 2] = [512, 128];

/// As sealift has it: the books are measured in this process.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vast: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let _alone =
        Alone::on_this_machine(|| eprintln!("another bench is measuring; waiting for it"))?;
    println!("{}\n", machine::describe());
    let bench = Bench::new(&arguments.sealift)?;
    let [budget, least] = BUDGETS;
    let mut turns: Vec<Turn> = SIZES
        .iter()
        .flat_map(|&(gib, times)| {
            let turn = Turn {
                gib,
                budget_mib: budget,
            };
            std::iter::repeat_n(turn, times)
        })
        .collect();
    let [.., (largest, _)] = SIZES;
    turns.push(Turn {
        gib: largest,
        budget_mib: least,
    });
    let mut all = Vec::new();
    for round in 1..=arguments.rounds {
        for turn in &turns {
            let figures = bench.run(*turn)?;
            eprintln!("round {round}: {figures}");
            all.push(figures);
        }
        // Whoever comes first finds the machine in another state.
        turns.reverse();
    }
    all.sort_by_key(|run| (std::cmp::Reverse(run.turn.budget_mib), run.turn.gib));
    println!("{}", text(&all));
    let mut verdicts = verdicts(&all);
    verdicts.push(book::verdict().ok_or("the engine has lost pages")?);
    for Verdict { line, reached } in verdicts {
        let reached = if reached { "ok" } else { "MISSED" };
        println!("{line}: {reached}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }
}
