//! Watching a guest move, from outside and without asking: events of both QEMUs, and `/proc`.

use std::time::{Duration, Instant};

use sealift_lab::Error;
use sealift_lab::guest::{Guest, PATIENCE};
use sealift_qemu::Event;

use super::cpu::Meter;
use super::transport::Moving;

/// A guest that has not arrived by then is rewritten faster than it is moved: several times what the slowest of the named cases takes.
const LIMIT: Duration = Duration::from_secs(180);

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

impl Watch<'_> {
    /// Until the guest runs at the destination and everybody who moved it is done.
    pub(super) fn until_there(&mut self) -> Result<Times, Error> {
        let deadline = Instant::now() + LIMIT;
        let (mut stop, mut resume, mut done) = (None, None, false);
        loop {
            self.meter.look();
            let from_source = events(self.source)?;
            // sealift ends the source's QEMU, which it does only once that is done.
            done |= from_source.is_none();
            for event in from_source.unwrap_or_default() {
                match (event.name.as_str(), event.data["status"].as_str()) {
                    ("STOP", _) => stop = Some(event.at_ns),
                    ("MIGRATION", Some("completed")) => done = true,
                    ("MIGRATION", Some(status @ ("failed" | "cancelled"))) => {
                        self.sealifts_word()?;
                        return Err(Error::new(format!("the source's QEMU reports: {status}")));
                    }
                    _ => {}
                }
            }
            let from_destination = events(self.destination)?
                .ok_or_else(|| Error::new("the destination's QEMU has ended"))?;
            for event in from_destination {
                if event.name == "RESUME" {
                    resume = resume.or(Some(event.at_ns));
                }
            }
            let sealift_done = self.sealifts_word()?;
            if let (Some(stop), Some(resume)) = (stop, resume)
                && done
                && sealift_done
            {
                return Ok(Times { stop, resume });
            }
            if Instant::now() >= deadline {
                return Err(Error::new(format!(
                    "not there after {} s (stopped: {}, runs there: {}, QEMU done: {done}, sealift done: {sealift_done})",
                    LIMIT.as_secs(),
                    stop.is_some(),
                    resume.is_some(),
                )));
            }
        }
    }

    /// Whether sealift is done, if it is there; its error once it has failed.
    fn sealifts_word(&mut self) -> Result<bool, Error> {
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

/// The events that have come, waiting a little for the first; nothing once QEMU has ended.
fn events(guest: &mut Guest) -> Result<Option<Vec<Event>>, Error> {
    let qmp = guest.qmp();
    let mut all = qmp.take_events();
    match qmp.wait_event(&["STOP", "RESUME", "MIGRATION"], LOOK / 2) {
        Ok(event) => all.push(event),
        Err(sealift_qemu::Error::NoEvent { .. }) => {}
        Err(sealift_qemu::Error::Closed { .. }) if all.is_empty() => return Ok(None),
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
        std::thread::sleep(LOOK);
    }
}
