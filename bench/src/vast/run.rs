//! One run: both programs are started, the guest goes through them, and they are watched meanwhile.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use sealift_lab::{Context as _, Error};
use serde_json::Value;

use super::figures::{End, Figures, Turn};
use super::private::Private;
use super::shape::{Pool, Shape};
use super::{destination, source};
use crate::certificates::Certificates;
use crate::cpu::Meter;
use crate::program::Program;

/// How often memory is looked at.
const LOOK: Duration = Duration::from_millis(10);
/// How long a program may take to begin.
const BEGINS_WITHIN: Duration = Duration::from_secs(10);
/// How long a guest may take: some fifty times what the largest does on two cores.
const ENDS_WITHIN: Duration = Duration::from_secs(1800);
/// Both ends are on this host.
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// What all runs have in common.
#[derive(Debug)]
pub struct Bench {
    sealift: PathBuf,
    certificates: Certificates,
    pool: Pool,
}

impl Bench {
    /// Makes certificates and what the guest's pages hold. `sealift` is the program to measure.
    pub fn new(sealift: &Path) -> Result<Self, Error> {
        Ok(Self {
            sealift: sealift.to_owned(),
            certificates: Certificates::new(&[HERE], &[HERE])?,
            pool: Pool::new(),
        })
    }

    /// Moves a guest.
    pub fn run(&self, turn: Turn) -> Result<Figures, Error> {
        let directory = tempfile::tempdir().context("cannot make a directory")?;
        let directory = directory.path();
        let shape = Shape { gib: turn.gib };
        let incoming = directory.join("incoming");
        let outgoing = directory.join("outgoing");
        let listener = UnixListener::bind(&incoming).context("the made-up destination")?;
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            // However this ends, the programs end with it, and with them whatever the threads wait for.
            let (over, pool) = (Over(&over), &self.pool);
            let stopped = over.0;
            let taken = scope.spawn(move || {
                let channel = destination::accept(&listener, stopped)?;
                destination::take(channel, shape, pool)
            });
            let mut receiver = Watched::start(
                self.receive(turn, &incoming, directory)?,
                "receive",
                directory,
            )?;
            let address = receiver.listens_at()?;
            let mut sender = Watched::start(
                self.send(turn, &address, &outgoing, directory),
                "send",
                directory,
            )?;
            let channel = source::connect(&outgoing)?;
            let sent = scope.spawn(move || source::send(channel, shape, pool));
            let ended = until_done(&mut sender, &mut receiver);
            let reports = sender.program.events();
            let ends = (sender.end(), receiver.end());
            drop((sender, receiver, over));
            // A guest that came damaged is why sealift failed, and not the other way round.
            let taken = joined(taken);
            let sent = joined(sent);
            match (taken, sent, ended) {
                (Ok(()), Ok(time), Ok(())) => Ok(Figures {
                    turn,
                    time_s: time.as_secs_f64(),
                    wire_bytes: wire_bytes(&reports)?,
                    source: ends.0,
                    receiver: ends.1,
                }),
                (taken, sent, ended) => {
                    let errors = [taken.err(), sent.err(), ended.err()];
                    let errors = errors.into_iter().flatten();
                    let lines: Vec<String> = errors.map(|error| error.to_string()).collect();
                    Err(Error::new(lines.join("\n")))
                }
            }
        })
    }

    /// Adds what both ends are told.
    fn tell(&self, verb: &str, command: &mut Command, directory: &Path) {
        command.arg(verb).args(["--once", "--json", "--pki"]);
        command.arg(self.certificates.directory());
        let journal = directory.join(format!("journal-{verb}"));
        command.arg("--journal").arg(journal);
    }

    /// On a host that has the memory for the guest, or says so: otherwise nobody would be let in.
    fn receive(&self, turn: Turn, incoming: &Path, directory: &Path) -> Result<Command, Error> {
        let meminfo = directory.join("meminfo");
        let kib = turn.gib << 20;
        fs::write(&meminfo, format!("MemAvailable: {kib} kB\n")).context("the host's memory")?;
        let mut command = Command::new("unshare");
        // A view of the files of its own, until it ends.
        command.args(["--mount", "--", "sh", "-c"]);
        command.args([r#"mount --bind "$0" /proc/meminfo && exec "$@""#]);
        command.arg(meminfo).arg(&self.sealift);
        self.tell("receive", &mut command, directory);
        command.args(["--allow-any", "--listen", &format!("{HERE}:0")]);
        command.args(["--qemu", &format!("unix:{}", incoming.display())]);
        Ok(command)
    }

    fn send(&self, turn: Turn, to: &str, outgoing: &Path, directory: &Path) -> Command {
        let mut command = Command::new(&self.sealift);
        self.tell("send", &mut command, directory);
        command.args(["--to", to, "--guest", "vast"]);
        command.args(["--listen", &format!("unix:{}", outgoing.display())]);
        command.args(["--memory-budget", &format!("{}MiB", turn.budget_mib)]);
        command
    }
}

/// Says that it is over when it is dropped.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A program, and what it takes.
struct Watched {
    program: Program,
    meter: Meter,
    private: Private,
}

impl Watched {
    fn start(command: Command, name: &str, directory: &Path) -> Result<Self, Error> {
        let program = Program::start(command, name, directory)?;
        let mut meter = Meter::default();
        meter.add_whole(program.pid());
        Ok(Self {
            program,
            meter,
            private: Private::default(),
        })
    }

    /// The port is the system's choice.
    fn listens_at(&mut self) -> Result<String, Error> {
        let deadline = Instant::now() + BEGINS_WITHIN;
        loop {
            if let Some(event) = find(&self.program.events(), "listening")
                && let Some(address) = event["address"].as_str()
            {
                return Ok(address.to_owned());
            }
            if self.program.has_ended() || Instant::now() > deadline {
                return Err(self.program.complaint("it does not listen"));
            }
            thread::sleep(LOOK);
        }
    }

    /// Looks at it; whether it has ended, and well.
    fn is_done(&mut self) -> Result<bool, Error> {
        self.private.look(self.program.pid());
        self.meter.look();
        let ended = self.program.has_ended();
        if ended {
            // What it used is known until it has been waited for.
            self.meter.look();
            self.program.judge()?;
        }
        Ok(ended)
    }

    fn end(&self) -> End {
        End {
            private: self.private,
            cpu_s: self.meter.used().as_secs_f64(),
        }
    }
}

fn until_done(sender: &mut Watched, receiver: &mut Watched) -> Result<(), Error> {
    let deadline = Instant::now() + ENDS_WITHIN;
    let (mut sender_done, mut receiver_done) = (false, false);
    while !(sender_done && receiver_done) {
        sender_done = sender_done || sender.is_done()?;
        receiver_done = receiver_done || receiver.is_done()?;
        if Instant::now() > deadline {
            return Err(sender.program.complaint("it comes to no end"));
        }
        thread::sleep(LOOK);
    }
    Ok(())
}

fn joined<T>(thread: thread::ScopedJoinHandle<'_, Result<T, Error>>) -> Result<T, Error> {
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn find<'a>(events: &'a [Value], name: &str) -> Option<&'a Value> {
    events.iter().find(|event| event["event"] == name)
}

fn wire_bytes(events: &[Value]) -> Result<u64, Error> {
    find(events, "report")
        .and_then(|report| report["wire_bytes"].as_u64())
        .ok_or_else(|| Error::new("sealift send reports no bytes on the wire"))
}
