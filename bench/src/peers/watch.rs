//! Watching a guest move, from outside and without asking: events of both QEMUs, and `/proc`.

use std::thread;
use std::time::{Duration, Instant};

use sealift_lab::guest::{Guest, PATIENCE};
use sealift_lab::{Context as _, Error};
use sealift_qemu::Event;

use super::cpu::Meter;
use super::transport::Moving;

/// A guest that has not arrived by then is rewritten faster than it is moved: twice what the slowest of those takes that do arrive on the
/// named links.
const LIMIT: Duration = Duration::from_secs(100);

/// How often `/proc` is looked at, and so how much of an ended process's last processor time may go to the wrong thread.
const LOOK: Duration = Duration::from_millis(20);

/// When what happened, in nanoseconds on the clock of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Times {
    pub(super) stop: u64,
    pub(super) resume: u64,
}

/// Both ends, while it lasts.
pub(super) struct Watch<'a> {
    pub(super) source: &'a mut Guest,
    pub(super) destination: &'a mut Guest,
    pub(super) moving: &'a mut Moving,
    pub(super) meter: &'a mut Meter,
}

/// What has been seen so far.
#[derive(Debug, Default)]
struct Seen {
    stop: Option<u64>,
    resume: Option<u64>,
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
            {
                return Ok(Times { stop, resume });
            }
            if Instant::now() >= deadline {
                let (limit, stands) = (LIMIT.as_secs(), seen.in_words());
                return Err(Error::new(format!("no end after {limit} s: {stands}")));
            }
        }
    }

    fn look_at_source(&mut self, seen: &mut Seen) -> Result<(), Error> {
        let Some(events) = events(self.source)? else {
            if matches!(self.moving, Moving::Qemu) {
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
            if matches!(self.moving, Moving::Qemu) {
                self.destination.alive().context("the destination")?;
            }
            return Ok(());
        };
        let mut resumes = events.iter().filter(|event| event.name == "RESUME");
        seen.resume = seen.resume.or(resumes.next().map(|event| event.at_ns));
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
