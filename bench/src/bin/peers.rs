//! `cargo xtask bench peers`: moving a guest by sealift and by what QEMU has itself, in turn, on the same link.
#![forbid(unsafe_code)]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a bench talks to its user"
)]

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use sealift_bench::machine::{self, Alone};
use sealift_bench::peers::{
    Bench, Dirty, Link, Measured, News, Outcome, Record, Row, Sealift, Transport, Work, hold,
    reference, text, usual, verdicts,
};

/// Move a guest by sealift and by what QEMU has itself, in turn, and hold the figures against each other. Takes root, and the machine to itself.
///
/// Without --row and --link every named row is measured, which takes hours.
#[derive(Parser)]
struct Arguments {
    /// Only this row; --list names them. May be given more than once.
    #[arg(long, value_name = "NAME", value_parser = named, conflicts_with = "link")]
    row: Vec<Row>,
    /// List the rows, with what is wanted in them, and measure nothing.
    #[arg(long)]
    list: bool,
    /// For an experiment, the link's rate, such as 1gbit, or unshaped.
    #[arg(long, value_name = "RATE")]
    link: Option<Link>,
    /// For an experiment, milliseconds that everything is on its way, either way.
    #[arg(long, value_name = "MS", requires = "link", default_value_t = 0)]
    delay: u16,
    /// For an experiment, the guest: mix, churn, random, idle or debian.
    #[arg(long, value_name = "GUEST", requires = "link", default_value = "mix")]
    guest: String,
    /// For an experiment, pages a second that mix, churn and random rewrite, and the MiB that they are in.
    #[arg(
        long,
        value_name = "RATE:MIB",
        requires = "link",
        default_value = "2000:64"
    )]
    dirty: Dirty,
    /// How often each transport has its turn.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Only this transport, such as tls, multifd-tls-zstd, sealift-stream or sealift. May be given more than once.
    #[arg(long, value_name = "NAME")]
    only: Vec<Transport>,
    /// Have the guests' memory in shared files, as sealift can map it.
    #[arg(long)]
    shared_memory: bool,
    /// Have all of the destination's memory there before each move. Where this machine is a guest itself, its host may take 2 s to give a GiB
    /// that nobody has touched, and that is then much of what is measured.
    #[arg(long)]
    populated: bool,
    /// The sealift to measure.
    #[arg(long, value_name = "PROGRAM")]
    sealift: Option<PathBuf>,
    /// Write the figures here, as JSON [default: peers.json below target/bench].
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Measure nothing: make the report of figures that were saved before.
    #[arg(long, value_name = "FILE")]
    show: Option<PathBuf>,
    /// Write the report here, as one HTML file [default: beside the figures].
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

fn named(name: &str) -> Result<Row, String> {
    let found = Row::NAMED.iter().find(|row| row.name == name);
    found.cloned().ok_or_else(|| {
        let names = Row::NAMED.map(|row| row.name).join(", ");
        format!("there is no row `{name}`, but {names}")
    })
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peers: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    if arguments.list {
        for row in &Row::NAMED {
            println!("{:<18} {row}: {}", row.name, row.wanted);
        }
        return Ok(());
    }
    if let Some(file) = &arguments.show {
        return arguments.write_report(&Record::load(file)?);
    }
    let _alone =
        Alone::on_this_machine(|| eprintln!("another bench is measuring; waiting for it"))?;
    let sealift = sealift(arguments);
    let mut record = Record {
        machine: machine::describe(),
        date: machine::date(),
        load_before: machine::load(),
        qemu: String::new(),
        rows: Vec::new(),
    };
    for row in arguments.rows()? {
        let measured = measure(arguments, &row, sealift.clone(), &mut record.qemu)?;
        record.rows.push(measured);
        // After every row: a later one may fail, and each takes minutes.
        record.save(&arguments.save_at())?;
        arguments.write_report(&record)?;
    }
    let load = load_in_words(record.load_before);
    println!("\n{}, {load}", record.machine);
    println!("{}", arguments.report_at().display());
    Ok(())
}

impl Arguments {
    fn rows(&self) -> Result<Vec<Row>, sealift_lab::Error> {
        Ok(match (self.link, self.row.as_slice()) {
            (Some(link), _) => {
                let delay = Duration::from_millis(self.delay.into());
                let work = Work::named(&self.guest, self.dirty)?;
                vec![Row::free(work, Link { delay, ..link })]
            }
            (None, []) => Row::NAMED.to_vec(),
            (None, some) => some.to_vec(),
        })
    }

    /// Those of a row that are wanted and can be measured.
    fn transports(&self, row: &Row, sealift: Option<&Sealift>) -> Vec<Transport> {
        let mut transports = match self.only.as_slice() {
            [] => usual(row),
            only => only.to_vec(),
        };
        transports.retain(|&one| match one {
            Transport::Sealift => sealift.is_some(),
            Transport::SealiftStream => sealift.is_some_and(|sealift| sealift.knows_access),
            _ => true,
        });
        transports
    }

    fn save_at(&self) -> PathBuf {
        let otherwise = || sealift_lab::tools::target_directory().join("bench/peers.json");
        self.save.clone().unwrap_or_else(otherwise)
    }

    fn report_at(&self) -> PathBuf {
        let figures = self.show.clone().unwrap_or_else(|| self.save_at());
        let beside = || figures.with_extension("html");
        self.report.clone().unwrap_or_else(beside)
    }

    fn write_report(&self, record: &Record) -> Result<(), Box<dyn Error>> {
        let page = sealift_bench::peers::html(record);
        Ok(sealift_bench::peers::write(
            &self.report_at(),
            page.as_bytes(),
        )?)
    }
}

/// The one to measure; else it is said why there is none.
fn sealift(arguments: &Arguments) -> Option<Sealift> {
    let Some(program) = &arguments.sealift else {
        eprintln!("NOT MEASURED: sealift. No --sealift was given");
        return None;
    };
    match Sealift::new(program) {
        Ok(sealift) => {
            if !sealift.knows_access {
                eprintln!("NOT MEASURED: sealift-stream. This sealift knows no --access");
            }
            Some(sealift)
        }
        Err(error) => {
            eprintln!("NOT MEASURED: sealift. {error}");
            None
        }
    }
}

fn measure(
    arguments: &Arguments,
    row: &Row,
    sealift: Option<Sealift>,
    qemu: &mut String,
) -> Result<Measured, Box<dyn Error>> {
    eprintln!("{}: {row}", row.name);
    let transports = arguments.transports(row, sealift.as_ref());
    let bench = Bench::new(row, sealift, arguments.shared_memory, arguments.populated)?;
    bench.qemu_version().clone_into(qemu);
    let rounds = usize::from(arguments.rounds);
    let outcomes = hold(&bench, row, &transports, rounds, |news| tell(&news));
    println!("\n{row}; QEMU {qemu}\n\n{}", text(&outcomes));
    let verdicts = verdicts(row, &outcomes);
    for verdict in &verdicts {
        let reached = if verdict.reached { "ok" } else { "MISSED" };
        println!("{}: {}: {reached}", verdict.transport, verdict.line);
    }
    let against = reference(row, Transport::Sealift, &outcomes);
    Ok(Measured {
        name: row.name.to_owned(),
        what: row.to_string(),
        against: against.map(|against| against.to_string()),
        runs: outcomes,
        verdicts,
    })
}

fn tell(news: &News<'_>) {
    match news {
        News::Turn {
            transport,
            round,
            calmer,
        } => {
            let calmer = if *calmer { ", calmer guest" } else { "" };
            eprint!("  round {round}: {transport}{calmer} … ");
        }
        News::Came(outcome) => came(outcome),
        News::Out { transport, why } => {
            eprintln!("  no further turn: {transport}, which {why}");
        }
    }
}

fn came(outcome: &Outcome) {
    match (outcome.figures(), outcome.failure()) {
        (Some(figures), _) => {
            let access = figures.access.as_deref().unwrap_or_default();
            eprintln!(
                "{:.2} s, blackout {:.0} ms  {access}",
                figures.time_s, figures.blackout_ms
            );
            if let Some(damage) = &figures.damage {
                eprintln!("  DAMAGE: {damage}");
            }
        }
        (None, why) => eprintln!("no arrival: {}", why.unwrap_or_default()),
    }
}

fn load_in_words(load: Option<f64>) -> String {
    /// The mean over a minute of a machine that does nothing, with what the shell and the build before leave.
    const QUIET: f64 = 0.5;
    match load {
        Some(load) if load > QUIET => {
            format!("SOMETHING ELSE WAS RUNNING: a load of {load} before the first run")
        }
        Some(load) => format!("a load of {load} before the first run"),
        None => "its load is not known".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn an_experiment_is_a_row_of_its_own() {
        Arguments::command().debug_assert();
        let line = "peers --link unshaped --delay 20 --guest idle";
        let arguments = Arguments::try_parse_from(line.split(' ')).unwrap();
        let rows = arguments.rows().unwrap();
        assert_eq!(
            rows[0].to_string(),
            "an idle Linux, unshaped, 20 ms each way"
        );
        assert_eq!(rows.len(), 1);
    }

    #[test]
    fn without_a_word_all_rows_are_measured_and_a_name_selects_one() {
        let rows =
            |line: &str| Arguments::try_parse_from(line.split(' ')).map(|all| all.rows().unwrap());
        assert_eq!(rows("peers").unwrap().len(), Row::NAMED.len());
        assert_eq!(rows("peers --row random-1g").unwrap()[0].name, "random-1g");
        assert!(rows("peers --row nonsense").is_err());
        assert!(rows("peers --dirty 2000:64").is_err());
    }
}
