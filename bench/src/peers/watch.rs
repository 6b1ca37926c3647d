//! Watching a guest move, from outside: events of both QEMUs, `/proc`, and now and then a question.

use std::thread;
use std::time::{Duration, Instant};

use sealift_lab::guest::{Guest, PATIENCE};
use sealift_lab::{Context as _, Error};
use sealift_qemu::Event;

use super::order::Moving;
use super::samples::Sampler;
use crate::cpu::Meter;

/// A guest that has not arrived by then is rewritten faster than it is moved: several times what sealift may take on any of the named
/// links.
const LIMIT: Duration = Duration::from_secs(100);

/// How often `/proc` is looked at, and so how much of an ended process's last processor time may go to the wrong thread.
const LOOK: Duration = Duration::from_millis(20);

/// When what happened, in nanoseconds on the clock of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Times {
    pub(super) stop: u64,
    pub(super) resume: u64,
    /// Nothing of it is at the source any more: the same as the resume, but for post-copy.
    pub(super) whole: u64,
}

/// Both ends, while it lasts.
pub(super) struct Watch<'a> {
    pub(super) source: &'a mut Guest,
    pub(super) destination: &'a mut Guest,
    pub(super) moving: &'a mut Moving,
    pub(super) meter: &'a mut Meter,
    pub(super) sampler: &'a mut Sampler,
}

/// What has been seen so far.
#[derive(Debug, Default)]
struct Seen {
    stop: Option<u64>,
    resume: Option<u64>,
    /// The destination's QEMU says that all has come.
    came: Option<u64>,
    /// The order to go over has been given.
    goes_over: bool,
    /// The source's QEMU says that all was well, or was ended by sealift, which does that only then.
    source_done: bool,
    /// What else it says.
    source_failed: Option<String>,
}

impl Watch<'_> {
    /// Until the guest runs at the destination and everybody who moved it is done.
    pub(super) fn until_there(&mut self) -> Result<Times, Error> {
        let deadline = Instant::now() + LIMIT;
        let mut seen = Seen::default();
        loop {
            self.meter.look();
            self.sample(&mut seen)?;
            self.look_at_source(&mut seen)?;
            self.look_at_destination(&mut seen)?;
            // Where sealift is at work, a failure is its to explain.
            let sealift_done = self.sealift_is_done()?;
            if sealift_done && let Some(status) = seen.source_failed {
                return Err(Error::new(format!("the source's QEMU reports: {status}")));
            }
            if sealift_done
                && seen.source_done
                && let (Some(stop), Some(resume)) = (seen.stop, seen.resume)
                && let Some(whole) = self.whole(&seen, resume)
            {
                return Ok(Times {
                    stop,
                    resume,
                    whole,
                });
            }
            if Instant::now() >= deadline {
                let (limit, stands) = (LIMIT.as_secs(), seen.in_words());
                let what = format!("no end after {limit} s: {stands}");
                return Err(match &*self.moving {
                    Moving::Sealift { sender, .. } => sender.complaint(&what),
                    Moving::Qemu { .. } => Error::new(what),
                });
            }
        }
    }

    /// When all of it had come; nothing while that is still to be waited for.
    fn whole(&self, seen: &Seen, resume: u64) -> Option<u64> {
        match self.moving {
            Moving::Qemu { goes_over: true } => seen.came,
            Moving::Qemu { goes_over: false } | Moving::Sealift { .. } => Some(resume),
        }
    }

    fn sample(&mut self, seen: &mut Seen) -> Result<(), Error> {
        /// The first walk has sent all memory once; with the second begun only what was rewritten is left.
        const WALKS: u64 = 2;
        let (source, goes_over) = match self.moving {
            Moving::Qemu { goes_over } => (Some(&mut *self.source), *goes_over),
            Moving::Sealift { .. } => (None, false),
        };
        let Some(says) = self.sampler.look(source) else {
            return Ok(());
        };
        if goes_over && !seen.goes_over && says.walks >= WALKS {
            seen.goes_over = true;
            self.source
                .qmp()
                .execute("migrate-start-postcopy", serde_json::Value::Null)?;
        }
        Ok(())
    }

    fn look_at_source(&mut self, seen: &mut Seen) -> Result<(), Error> {
        let Some(events) = events(self.source)? else {
            if matches!(self.moving, Moving::Qemu { .. }) {
                self.source.alive().context("the source")?;
            }
            seen.source_done = true;
            return Ok(());
        };
        for event in events {
            match (event.name.as_str(), event.data["status"].as_str()) {
                ("STOP", _) => seen.stop = Some(event.at_ns),
                ("MIGRATION", Some("completed")) => seen.source_done = true,
                ("MIGRATION", Some(status @ ("failed" | "cancelled"))) => {
                    seen.source_failed = Some(status.to_owned());
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn look_at_destination(&mut self, seen: &mut Seen) -> Result<(), Error> {
        let Some(events) = events(self.destination)? else {
            if matches!(self.moving, Moving::Qemu { .. }) {
                self.destination.alive().context("the destination")?;
            }
            return Ok(());
        };
        for event in events {
            match (event.name.as_str(), event.data["status"].as_str()) {
                ("RESUME", _) => seen.resume = seen.resume.or(Some(event.at_ns)),
                ("MIGRATION", Some("completed")) => seen.came = Some(event.at_ns),
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether sealift is done, if it is there; its error once it has failed.
    fn sealift_is_done(&mut self) -> Result<bool, Error> {
        let Moving::Sealift { receiver, sender } = &mut *self.moving else {
            return Ok(true);
        };
        let mut all = true;
        // The source's first: its word is the one that says why.
        for program in [sender, receiver] {
            if program.has_ended() {
                // Before it is waited for and gone.
                self.meter.look();
                program.judge()?;
            } else {
                all = false;
            }
        }
        Ok(all)
    }
}

impl Seen {
    fn in_words(&self) -> &'static str {
        match (self.stop, self.resume) {
            (None, _) => "the guest still runs at the source",
            (Some(_), None) => "the guest is stopped, and does not run at the destination",
            (Some(_), Some(_)) => "the guest runs at the destination, but somebody is not done",
        }
    }
}

/// The events that have come, waiting a little for the first; nothing once QEMU has ended.
fn events(guest: &mut Guest) -> Result<Option<Vec<Event>>, Error> {
    let qmp = guest.qmp();
    // A wait that is in vain leaves what else has come.
    let mut all = qmp.take_events();
    match qmp.wait_event(&["STOP", "RESUME", "MIGRATION"], LOOK / 2) {
        Ok(event) => all.push(event),
        Err(sealift_qemu::Error::NoEvent { .. }) => {}
        Err(sealift_qemu::Error::Closed { .. }) if all.is_empty() => {
            // There is nothing to wait for any more, and the loop is not to spin.
            thread::sleep(LOOK / 2);
            return Ok(None);
        }
        Err(sealift_qemu::Error::Closed { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(Some(all))
}

/// Waits until QEMU's own account is there; sealift may have ended that QEMU.
pub(super) fn qemu_downtime(source: &mut Guest) -> Option<f64> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = source
            .qmp()
            .execute("query-migrate", serde_json::Value::Null)
            .ok()?;
        if let Some(downtime) = status["downtime"].as_f64() {
            return Some(downtime);
        }
        if Instant::now() >= deadline {
            return None;
        }
        thread::sleep(LOOK);
    }
}
