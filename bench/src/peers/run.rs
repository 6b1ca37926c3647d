//! One run: a guest is started, looked at undisturbed, moved, and looked at again.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use sealift_lab::guest::{Guest, Launch, PATIENCE};
use sealift_lab::hosts::{Hosts, Traffic};
use sealift_lab::linux::Linux;
use sealift_lab::mix::{Line, Mix};
use sealift_lab::qemu::{self, Machine, Qemu};
use sealift_lab::{Context as _, Error};
use serde_json::Value;

use super::cpu::Meter;
use super::figures::{CameTo, Figures, Outcome};
use super::transport::{self, Moving, Transport};
use super::watch::{Times, Watch, qemu_downtime};
use super::{Certificates, Row};

/// Seconds on the guest's clock before it is looked at: rewriting has begun everywhere, and the kernel has nothing left to set up.
const SETTLE: f64 = 4.0;

/// Seconds on the guest's clock for which it is looked at undisturbed.
const UNDISTURBED: f64 = 3.0;

/// Each page is checked so often after the move: once more than what the sweep may be in the midst of.
const PASSES_AFTER: u64 = 2;

/// And the guest must go on for so many seconds on its clock: what goes wrong in the kernel shows later than in the pages.
const GO_ON: f64 = 3.0;

/// How often a guest's lines are read while nothing is measured.
const LOOK: Duration = Duration::from_millis(100);

/// What all runs of a row have in common.
#[derive(Debug)]
pub struct Bench {
    pub(super) hosts: Hosts,
    pub(super) certificates: Certificates,
    pub(super) sealift: Option<PathBuf>,
    qemu: Qemu,
    machine: String,
    linux: Linux,
    mix: Mix,
}

impl Bench {
    /// Makes the hosts, the link and the certificates; builds the guest.
    pub fn new(row: &Row, sealift: Option<PathBuf>) -> Result<Self, Error> {
        let all = qemu::all()?;
        // 7.2 damages guests by itself.
        let newest = all.last().filter(|qemu| qemu.is_modern());
        let qemu = newest.ok_or_else(|| Error::new("there is no QEMU from 10.0 on"))?;
        let mut hosts = Hosts::new()?;
        hosts.shape(row.link)?;
        let certificates = Certificates::new(
            &[hosts.a().ipv4(), hosts.a().ipv6()],
            &[hosts.b().ipv4(), hosts.b().ipv6()],
        )?;
        let mix = row.mix();
        Ok(Self {
            hosts,
            certificates,
            sealift,
            machine: qemu.machine(Machine::Q35),
            qemu: qemu.clone(),
            linux: mix.linux()?,
            mix,
        })
    }

    /// QEMU's version, for the record.
    #[must_use]
    pub fn qemu_version(&self) -> &str {
        self.qemu.full_version()
    }

    /// Why a sealift cannot be measured; nothing if it can.
    pub fn objection(sealift: &Path) -> Result<Option<String>, Error> {
        Ok(transport::lacks(sealift)?
            .map(|command| format!("{} has no `{command}` yet", sealift.display())))
    }

    /// Moves one guest.
    #[must_use]
    pub fn run(&self, transport: Transport, round: usize) -> Outcome {
        let came_to = match self.figures(transport) {
            Ok(figures) => CameTo::Figures(Box::new(figures)),
            Err(error) => CameTo::Failure(error.to_string()),
        };
        Outcome {
            transport,
            round,
            came_to,
        }
    }

    fn figures(&self, transport: Transport) -> Result<Figures, Error> {
        let directory = tempfile::tempdir().context("cannot make a directory")?;
        // The same at both ends, as it is one guest.
        let launch = || {
            let name = ["-name", "mix,debug-threads=on"];
            Launch::linux(&self.qemu, &self.machine, &self.linux).arguments(name)
        };
        let mut source = launch().on(self.hosts.a()).start()?;
        let settled = wait_line(&mut source, |line| line.at >= SETTLE).context("the guest")?;
        let mut destination = launch().on(self.hosts.b()).incoming().start()?;
        let ready = transport.prepare(self, &mut source, &mut destination, directory.path())?;

        // With everything started and nothing under way.
        let from = newest(&source)?.unwrap_or(settled);
        let until = from.at + UNDISTURBED;
        wait_line(&mut source, |line| line.at >= until).context("the guest")?;
        let lines = Line::all(&source.serial().text()?);
        let last = lines.last().copied().unwrap_or(from);
        let before = Work::between(&lines, from, last, Duration::ZERO);

        let mut meter = Meter::default();
        for pid in [source.pid(), destination.pid()] {
            meter.add(pid);
        }
        if let Some(pid) = ready.waiting() {
            meter.add(pid);
        }
        let passed = self.hosts.a().traffic()?;
        let ordered = now()?;
        let mut moving = ready.go(&mut source, directory.path())?;
        if let Moving::Sealift { sender, .. } = &moving {
            meter.add_whole(sender.pid());
        }
        let times = Watch {
            source: &mut source,
            destination: &mut destination,
            moving: &mut moving,
            meter: &mut meter,
        }
        .until_there()?;
        let traffic = since(passed, self.hosts.a().traffic()?);
        meter.look();

        let left = Line::all(&source.serial().text()?);
        let damage = self.goes_on(&mut destination, left.last().copied());
        let arrived = Line::all(&destination.serial().text()?);
        let blackout = blackout(times)?;
        let during = during(&left, last, &arrived, blackout)?;
        let sealift = match &moving {
            Moving::Qemu => Vec::new(),
            Moving::Sealift { sender, .. } => sender.events(),
        };
        Ok(Figures {
            time_s: between(ordered, times.resume)?.as_secs_f64(),
            blackout_ms: blackout.as_secs_f64() * 1e3,
            qemu_downtime_ms: qemu_downtime(&mut source)
                .or_else(|| find_number(&sealift, "qemu_downtime_ms")),
            wire_bytes: traffic.sent + traffic.received,
            cpu_s: meter.used().as_secs_f64(),
            work: during.rate / before.rate,
            work_before: before.rate,
            stall_ms: during.stall * 1e3,
            stall_before_ms: before.stall * 1e3,
            damage: damage.err().map(|error| error.to_string()),
            sealift,
        })
    }

    /// The guest checks every page at the destination, and lives.
    fn goes_on(&self, destination: &mut Guest, left: Option<Line>) -> Result<(), Error> {
        let left = left.unwrap_or_default();
        let checked = left.checked + PASSES_AFTER * self.mix.pages();
        let at = left.at + GO_ON;
        wait_line(destination, |line| line.checked >= checked && line.at >= at).map(drop)
    }
}

/// How fast the guest worked, and how long it did not.
struct Work {
    /// Pages a second.
    rate: f64,
    /// Seconds.
    stall: f64,
}

impl Work {
    /// Between two lines, with a time added in which its clock stood.
    #[expect(clippy::cast_precision_loss, reason = "pages are far below 2^53")]
    fn between(lines: &[Line], from: Line, to: Line, stood: Duration) -> Self {
        let within = lines
            .iter()
            .filter(|line| line.at > from.at && line.at <= to.at);
        let checked = to.checked.saturating_sub(from.checked);
        Self {
            rate: checked as f64 / (to.at - from.at + stood.as_secs_f64()),
            stall: within.map(|line| line.stall).fold(0.0, f64::max),
        }
    }
}

/// The guest's work from its last line before the order to its first at the destination.
fn during(
    left: &[Line],
    ordered: Line,
    arrived: &[Line],
    blackout: Duration,
) -> Result<Work, Error> {
    let first = arrived
        .first()
        .ok_or_else(|| Error::new("the guest says nothing at the destination"))?;
    let mut lines = left.to_vec();
    lines.push(*first);
    Ok(Work::between(&lines, ordered, *first, blackout))
}

/// Waits for a line; an error as soon as the guest has found damage or has ended.
fn wait_line(guest: &mut Guest, wanted: impl Fn(&Line) -> bool) -> Result<Line, Error> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        // This is what notices damage.
        guest.serial().progress()?;
        if let Some(line) = newest(guest)?.filter(&wanted) {
            return Ok(line);
        }
        guest.alive()?;
        if Instant::now() >= deadline {
            let said = guest.serial().text()?;
            let last: Vec<&str> = said.lines().rev().take(5).collect();
            return Err(Error::new(format!(
                "it does not go on; the newest it said:\n{}",
                last.join("\n")
            )));
        }
        thread::sleep(LOOK);
    }
}

fn newest(guest: &Guest) -> Result<Option<Line>, Error> {
    Ok(Line::all(&guest.serial().text()?).last().copied())
}

fn since(before: Traffic, now: Traffic) -> Traffic {
    Traffic {
        sent: now.sent.saturating_sub(before.sent),
        received: now.received.saturating_sub(before.received),
    }
}

fn now() -> Result<u64, Error> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let nanoseconds = since.context("this host's clock")?.as_nanos();
    u64::try_from(nanoseconds).context("this host's clock")
}

fn blackout(times: Times) -> Result<Duration, Error> {
    between(times.stop, times.resume)
}

fn between(from: u64, to: u64) -> Result<Duration, Error> {
    let nanoseconds = to.checked_sub(from);
    nanoseconds
        .map(Duration::from_nanos)
        .ok_or_else(|| Error::new("this host's clock was set back during the run"))
}

/// The last number of this name anywhere in sealift's events.
fn find_number(events: &[Value], name: &str) -> Option<f64> {
    events.iter().rev().find_map(|event| match event {
        Value::Object(fields) => fields.get(name).and_then(Value::as_f64).or_else(|| {
            let inner: Vec<Value> = fields.values().cloned().collect();
            find_number(&inner, name)
        }),
        _ => None,
    })
}
