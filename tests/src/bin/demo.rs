//! `cargo xtask demo`: what sealift is for. A guest that counts, and checks its memory all the while, moves live from one host to another.
//!
//! ```text
//!   host a                                     host b
//!   QEMU, the guest counts                     QEMU -incoming, waits
//!   sealift migrate ═════════ 200 Mbit/s ═════▶ sealift receive
//! ```
//!
//! The hosts are network namespaces, which takes root; without it both are this machine, and the link is its loopback.
#![allow(clippy::print_stdout, reason = "a demo talks to its user")]

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use sealift_lab::guest::{Guest, Launch, PATIENCE, accelerator};
use sealift_lab::hosts::{Host, Hosts};
use sealift_lab::image::Workload;
use sealift_lab::qemu::{self, Machine};
use sealift_lab::rate::BitRate;
use sealift_lab::tools::{is_root, progress, run, target_directory};
use sealift_lab::{Context, Error};
use tempfile::TempDir;

/// A guest of 160 MiB (and 8 KiB: see `guest::MEMORY`), which checks 128 MiB of it, and rewrites 8 MiB of those: enough for some rounds.
const MEMORY: &str = "163848K";
const WORKLOAD: Workload = Workload {
    pages: 32768,
    hot: 2048,
    gap: 150,
    tick: 2048,
    seeds: 256,
};
/// Slow enough that the way can be watched for some seconds.
const LINK_MBIT: u32 = 200;
/// sealift's own port; on hosts of their own it is always free.
const PORT: u16 = 7325;
/// How often the receiver's log is looked at, and whether a program has ended.
const LOOK_EVERY: Duration = Duration::from_millis(20);

fn main() -> ExitCode {
    match demo() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            progress(&format!("the demo failed: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn demo() -> Result<(), Error> {
    let all = qemu::all()?;
    let qemu = all.last().ok_or_else(|| Error::new("no QEMU was found"))?;
    let machine = qemu.machine(Machine::I440fx);
    let stage = Stage::set()?;
    println!(
        "QEMU {}, {machine}, accelerator {}; {}\n",
        qemu.full_version(),
        accelerator(),
        stage.network.describe()
    );

    println!("1. A CA, and certificates for two hosts:");
    stage.certify()?;

    println!("\n2. A guest runs on host a and checks its memory. A QEMU on host b waits for it:");
    let launch = |host: Option<&Host>| {
        let launch = Launch::new(qemu, &machine)
            .memory(MEMORY)
            .workload(WORKLOAD)
            .arguments(["-name", "web1"]);
        match host {
            Some(host) => launch.on(host),
            None => launch,
        }
    };
    let mut source = launch(stage.network.a()).start()?;
    let mut destination = launch(stage.network.b()).incoming().start()?;
    source.wait_tick(source.ticks_per_pass() + 2)?;
    for line in last_words(&source, 2)? {
        println!("   a | {line}");
    }

    println!("\n3. It moves:");
    let mut receiver = stage.receive(&destination)?;
    stage.migrate(&source)?;
    let stopped = source.serial().progress()?;
    receiver.finish()?;

    println!("\n4. On host a it said last, and on host b it goes on from there:");
    for line in last_words(&source, 1)? {
        println!("   a | {line}");
    }
    let every_page = stopped.tick + destination.ticks_per_pass() + 2;
    destination.wait_tick(every_page)?;
    for line in first_words(&destination, 2)? {
        println!("   b | {line}");
    }
    println!("     | …");
    for line in last_words(&destination, 1)? {
        println!("   b | {line}");
    }
    println!("\nIt has looked at every page there: not one is bad. The guest did not notice.");
    Ok(())
}

/// All that the play needs beside the guests.
struct Stage {
    sealift: PathBuf,
    network: Network,
    port: u16,
    /// Certificates, journals and the receiver's log.
    directory: TempDir,
}

impl Stage {
    fn set() -> Result<Self, Error> {
        let sealift = match std::env::args_os().skip(1).collect::<Vec<_>>().as_slice() {
            [] => target_directory().join("release/sealift"),
            [program] => PathBuf::from(program),
            _ => return Err(Error::new("usage: demo [PATH OF SEALIFT]")),
        };
        let sealift = fs::canonicalize(&sealift).context(format!(
            "no program at {}; cargo xtask demo builds it",
            sealift.display()
        ))?;
        let network = Network::make()?;
        Ok(Self {
            sealift,
            port: network.free_port()?,
            network,
            directory: tempfile::Builder::new()
                .prefix("sealift-demo-")
                .tempdir()
                .context("cannot make a directory")?,
        })
    }

    fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.directory.path().join(name)
    }

    fn at_b(&self) -> String {
        format!("{}:{}", self.network.address(), self.port)
    }

    fn certify(&self) -> Result<(), Error> {
        let ca = self.path("ca");
        let ca = ca.to_string_lossy();
        let address = self.network.address().to_string();
        for arguments in [
            &["pki", "init", &ca][..],
            &["pki", "issue", &ca, "host-a.example"],
            &["pki", "issue", &ca, "host-b.example", "--san", &address],
        ] {
            show("any", arguments);
            run(Command::new(&self.sealift).args(arguments))?;
        }
        Ok(())
    }

    /// A command on a host, which is shown. It ends with the demo.
    fn command(&self, name: &str, host: Option<&Host>, arguments: &[&str]) -> Command {
        show(name, arguments);
        let mut command = match host {
            Some(host) => host.command(&self.sealift),
            None => {
                let mut command = Command::new("setpriv");
                command
                    .args(["--pdeathsig", "KILL", "--"])
                    .arg(&self.sealift);
                command
            }
        };
        command.args(arguments).stdin(Stdio::null());
        command
    }

    /// Starts the receiver, and returns when it waits for a source.
    fn receive(&self, destination: &Guest) -> Result<Receiver, Error> {
        let (pki, journal) = (self.path("ca/host-b.example"), self.path("sessions-b"));
        let arguments = [
            "receive",
            "--listen",
            &self.at_b(),
            "--qemu",
            &format!("unix:{}", destination.path("incoming").display()),
            "--qmp",
            &destination.free_control().to_string(),
            "--pki",
            &pki.to_string_lossy(),
            "--journal",
            &journal.to_string_lossy(),
            "--allow",
            "host-a.example",
            "--once",
        ];
        let log = self.path("receive.log");
        let made = File::create(&log).context(format!("cannot make {}", log.display()))?;
        let again = made.try_clone().context("a second handle of the log")?;
        let child = self
            .command("b", self.network.b(), &arguments)
            .stdout(made)
            .stderr(again)
            .spawn()
            .context("cannot start sealift receive")?;
        let mut receiver = Receiver { child, log };
        receiver.wait(|receiver| Ok(receiver.said()?.contains("waiting at")))?;
        Ok(receiver)
    }

    /// Moves the guest, the progress going to the user.
    fn migrate(&self, source: &Guest) -> Result<(), Error> {
        let (pki, journal) = (self.path("ca/host-a.example"), self.path("sessions-a"));
        let arguments = [
            "migrate",
            "--qmp",
            &source.free_control().to_string(),
            "--to",
            &self.at_b(),
            "--pki",
            &pki.to_string_lossy(),
            "--journal",
            &journal.to_string_lossy(),
            "--max-downtime",
            "50ms",
        ];
        let mut command = self.command("a", self.network.a(), &arguments);
        println!();
        let mut child = command.spawn().context("cannot start sealift migrate")?;
        let deadline = Instant::now() + PATIENCE;
        let end = loop {
            match child.try_wait().context("asking for sealift migrate")? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => break format!("ended ({status})"),
                None if Instant::now() >= deadline => break "hangs".to_owned(),
                None => thread::sleep(LOOK_EVERY),
            }
        };
        // It may have ended already.
        let _ = child.kill();
        let _ = child.wait();
        let said = fs::read_to_string(self.path("receive.log")).unwrap_or_default();
        Err(Error::new(format!(
            "sealift migrate {end}; the receiver said:\n{said}"
        )))
    }
}

/// A command as its user would type it, with the directories left out.
fn show(host: &str, arguments: &[&str]) {
    let short = arguments.iter().map(|argument| {
        let path = argument.strip_prefix("unix:").unwrap_or(argument);
        let name = Path::new(path).file_name().unwrap_or_default();
        match path.starts_with('/') {
            true => name.to_string_lossy(),
            false => (*argument).into(),
        }
    });
    let line = short.collect::<Vec<_>>().join(" ");
    println!("   {host} $ sealift {line}");
}

/// What the hosts are.
enum Network {
    Namespaces(Hosts),
    Loopback,
}

impl Network {
    fn make() -> Result<Self, Error> {
        if !is_root() {
            return Ok(Self::Loopback);
        }
        let mut hosts = Hosts::new()?;
        hosts.shape(BitRate::mbit(LINK_MBIT))?;
        Ok(Self::Namespaces(hosts))
    }

    fn describe(&self) -> String {
        match self {
            Self::Namespaces(_) => {
                format!("two hosts (network namespaces), a link of {LINK_MBIT} Mbit/s")
            }
            Self::Loopback => {
                "not root, so there are no network namespaces: both hosts are this one, over loopback"
                    .to_owned()
            }
        }
    }

    fn a(&self) -> Option<&Host> {
        match self {
            Self::Namespaces(hosts) => Some(hosts.a()),
            Self::Loopback => None,
        }
    }

    fn b(&self) -> Option<&Host> {
        match self {
            Self::Namespaces(hosts) => Some(hosts.b()),
            Self::Loopback => None,
        }
    }

    /// Where host b is.
    fn address(&self) -> IpAddr {
        self.b().map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), Host::ipv4)
    }

    fn free_port(&self) -> Result<u16, Error> {
        if let Self::Namespaces(_) = self {
            return Ok(PORT);
        }
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?;
        Ok(listener.local_addr().context("the free port")?.port())
    }
}

/// The receiving sealift. Dropping it ends it.
struct Receiver {
    child: Child,
    log: PathBuf,
}

impl Receiver {
    fn said(&self) -> Result<String, Error> {
        fs::read_to_string(&self.log).context(format!("cannot read {}", self.log.display()))
    }

    /// Waits until something is so, or it has ended.
    fn wait(
        &mut self,
        mut holds: impl FnMut(&mut Self) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        let deadline = Instant::now() + PATIENCE;
        while !holds(self)? {
            let ended = self.ended()?;
            if ended || Instant::now() >= deadline {
                return Err(Error::new(format!(
                    "sealift receive {}; it said:\n{}",
                    if ended { "ended" } else { "hangs" },
                    self.said()?
                )));
            }
            thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    fn ended(&mut self) -> Result<bool, Error> {
        let status = self.child.try_wait().context("asking for the receiver")?;
        Ok(status.is_some())
    }

    /// Waits for its end, and passes on what it said.
    fn finish(&mut self) -> Result<(), Error> {
        self.wait(Self::ended)?;
        println!("\n   Meanwhile on host b:");
        for line in self.said()?.lines() {
            println!("   b | {line}");
        }
        let status = self.child.wait().context("the receiver's end")?;
        if status.success() {
            Ok(())
        } else {
            Err(Error::new(format!("sealift receive ended ({status})")))
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The first whole lines that the guest printed on this host.
fn first_words(guest: &Guest, count: usize) -> Result<Vec<String>, Error> {
    Ok(words(guest)?.into_iter().take(count).collect())
}

/// The newest whole lines that the guest printed.
fn last_words(guest: &Guest, count: usize) -> Result<Vec<String>, Error> {
    let mut lines = words(guest)?;
    Ok(lines.split_off(lines.len().saturating_sub(count)))
}

fn words(guest: &Guest) -> Result<Vec<String>, Error> {
    let text = guest.serial().text()?;
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    Ok(whole.lines().map(str::to_owned).collect())
}
