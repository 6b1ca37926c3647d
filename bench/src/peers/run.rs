//! One run: a guest is started, looked at undisturbed, moved, and looked at again.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sealift_lab::guest::Guest;
use sealift_lab::hosts::{Hosts, Traffic};
use sealift_lab::mix::Line;
use sealift_lab::qemu::{self, Machine, Qemu};
use sealift_lab::{Context as _, Error};
use serde_json::Value;

use super::Certificates;
use super::figures::{CameTo, Figures, Outcome};
use super::order::{Moving, Sealift};
use super::row::{Against, Row};
use super::samples::Sampler;
use super::subject::{Stand, Subject};
use super::transport::Transport;
use super::watch::{Watch, qemu_downtime};
use crate::cpu::Meter;

/// What QEMU is told of a guest's memory, which is as large as all guests here are.
#[derive(Clone, Copy, Debug)]
enum Memory {
    Private,
    /// In a file without a name, which whoever may look at QEMU can map.
    Shared,
}

impl Memory {
    fn at_the_source(self) -> [String; 4] {
        self.words("")
    }

    fn at_the_destination(self, populated: bool) -> [String; 4] {
        self.words(if populated { ",prealloc=on" } else { "" })
    }

    fn words(self, more: &str) -> [String; 4] {
        let backend = match self {
            Self::Private => "memory-backend-ram",
            Self::Shared => "memory-backend-memfd,share=on",
        };
        [
            "-object".to_owned(),
            format!("{backend},id=memory,size=1G{more}"),
            "-machine".to_owned(),
            "memory-backend=memory".to_owned(),
        ]
    }
}

/// What all runs of a row have in common.
#[derive(Debug)]
pub struct Bench {
    pub(super) hosts: Hosts,
    pub(super) certificates: Certificates,
    pub(super) sealift: Option<Sealift>,
    qemu: Qemu,
    machine: String,
    memory: Memory,
    /// The destination's memory is all there before anything is measured, whoever writes it then.
    populated: bool,
    subject: Subject,
    /// The guest that this one is held against, where it is no transport.
    calmer: Option<Subject>,
}

impl Bench {
    /// Makes the hosts, the link and the certificates; builds the guest.
    pub fn new(
        row: &Row,
        sealift: Option<Sealift>,
        shared_memory: bool,
        populated: bool,
    ) -> Result<Self, Error> {
        let all = qemu::all()?;
        // 7.2 damages guests by itself.
        let newest = all.last().filter(|qemu| qemu.is_modern());
        let qemu = newest.ok_or_else(|| Error::new("there is no QEMU from 10.0 on"))?;
        let mut hosts = match row.link.delay {
            Duration::ZERO => Hosts::new()?,
            delay => Hosts::distant(delay)?,
        };
        if let Some(rate) = row.link.rate {
            hosts.shape(rate)?;
        }
        let certificates = Certificates::new(
            &[hosts.a().ipv4(), hosts.a().ipv6()],
            &[hosts.b().ipv4(), hosts.b().ipv6()],
        )?;
        let calmer = match row.against {
            Against::Calmer(work) => Some(Subject::new(work)?),
            Against::Encrypted | Against::Plain => None,
        };
        Ok(Self {
            hosts,
            certificates,
            sealift,
            machine: qemu.machine(Machine::Q35),
            qemu: qemu.clone(),
            memory: match shared_memory {
                true => Memory::Shared,
                false => Memory::Private,
            },
            populated,
            subject: Subject::new(row.work)?,
            calmer,
        })
    }

    /// QEMU's version, for the record.
    #[must_use]
    pub fn qemu_version(&self) -> &str {
        self.qemu.full_version()
    }

    /// Moves one guest: the row's own, or the calmer one that it is held against.
    #[must_use]
    pub fn run(&self, transport: Transport, round: usize, calmer: bool) -> Outcome {
        let subject = match &self.calmer {
            Some(subject) if calmer => subject,
            _ => &self.subject,
        };
        let came_to = match self.figures(subject, transport) {
            Ok(figures) => CameTo::Figures(Box::new(figures)),
            Err(error) => CameTo::Failure(error.to_string()),
        };
        Outcome {
            transport,
            round,
            calmer,
            came_to,
        }
    }

    fn figures(&self, subject: &Subject, transport: Transport) -> Result<Figures, Error> {
        let directory = tempfile::tempdir().context("cannot make a directory")?;
        // The same at both ends, as it is one guest.
        let launch = subject.launch(&self.qemu, &self.machine, directory.path())?;
        let source = launch.clone().arguments(self.memory.at_the_source());
        let mut source = source.on(self.hosts.a()).start()?;
        let settled = subject.settle(&mut source).context("the guest")?.line;
        let destination = launch.arguments(self.memory.at_the_destination(self.populated));
        let mut destination = destination.on(self.hosts.b()).incoming().start()?;
        let ready = transport.prepare(self, &mut source, &mut destination, directory.path())?;

        // With everything started and nothing under way.
        let from = Stand::of(&source)?.map_or(settled, |stand| stand.line);
        let until = from.at + subject.undisturbed();
        subject
            .wait_clock(&mut source, until)
            .context("the guest")?;
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
        let mut sampler = Sampler::new(destination.pid());
        let mut moving = ready.go(&mut source, directory.path())?;
        if let Moving::Sealift { sender, .. } = &moving {
            meter.add_whole(sender.pid());
        }
        let times = Watch {
            source: &mut source,
            destination: &mut destination,
            moving: &mut moving,
            meter: &mut meter,
            sampler: &mut sampler,
        }
        .until_there()
        .map_err(|error| with_last_words(&error, &mut source, &mut destination))?;
        let traffic = since(passed, self.hosts.a().traffic()?);
        meter.look();

        let mut all = Line::all(&source.serial().text()?);
        let left = Stand::of(&source)?.unwrap_or_default();
        // A guest that is not yet all there is slow: its time until then counts.
        let slow = match moving {
            Moving::Qemu { goes_over: true } => Line::all(&destination.serial().text()?),
            Moving::Qemu { goes_over: false } | Moving::Sealift { .. } => Vec::new(),
        };
        let damage = subject.goes_on(&mut destination, left);
        let arrived = Line::all(&destination.serial().text()?);
        let first = arrived
            .get(slow.len().saturating_sub(1))
            .ok_or_else(|| Error::new("the guest says nothing at the destination"))?;
        all.extend(slow);
        all.push(*first);
        let blackout = between(times.stop, times.resume)?;
        let during = Work::between(&all, last, *first, blackout);
        let sealift = match &moving {
            Moving::Qemu { .. } => Vec::new(),
            Moving::Sealift { sender, .. } => sender.events(),
        };
        Ok(Figures {
            time_s: between(ordered, times.whole)?.as_secs_f64(),
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
            samples: sampler.into_samples(ordered, &sealift),
            access: access(&sealift),
            sealift,
        })
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

fn between(from: u64, to: u64) -> Result<Duration, Error> {
    let nanoseconds = to.checked_sub(from);
    nanoseconds
        .map(Duration::from_nanos)
        .ok_or_else(|| Error::new("this host's clock was set back during the run"))
}

/// A QEMU that has ended may have said why, and only in its log.
fn with_last_words(error: &Error, source: &mut Guest, destination: &mut Guest) -> Error {
    let mut text = error.to_string();
    for (which, guest) in [("source", source), ("destination", destination)] {
        if let Err(words) = guest.alive() {
            text = format!("{text}\nthe {which}'s {words}");
        }
    }
    Error::new(text)
}

/// How the source reached the guest's memory, as it told when it was let in.
fn access(events: &[Value]) -> Option<String> {
    let admitted = events
        .iter()
        .rev()
        .find(|event| event["event"] == "admitted")?;
    let words = ["access", "access_reason"].map(|field| admitted[field].as_str());
    Some(words.into_iter().flatten().collect::<Vec<_>>().join(": "))
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
