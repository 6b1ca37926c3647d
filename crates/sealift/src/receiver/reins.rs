//! The reins of the destination's QEMU while a guest arrives: what it is told, and how far it has come by what it says.
//!
//! ```text
//!  loads ── its return path ends, and QMP says completed ──▶ loaded
//!  loaded ── cont, or the stream's end ──▶ runs, when QMP says so, or its return path ends
//! ```

use std::time::Duration;

use sealift_net::inbound::Inbound;
use sealift_qemu::channel::Closer;
use sealift_qemu::machine::{Machine, MigrationStatus as Status};
use sealift_session::control::{ErrorKind, Fault};
use sealift_session::handoff::receiver::Event;
use tokio::sync::mpsc::UnboundedReceiver;

use super::relay::Clearance;
use crate::clock::now_ns;
use crate::ending::{failure, failure_of};
use crate::fault;
use crate::memory::Memory;
use crate::monitor::Monitor;
use crate::settings::Before;
use crate::under_way::UnderWay;
use crate::voice::Voice;
use crate::watch::{Seen, Watch};

/// How long QEMU may take to end in good order; three times this is within what the machine waits for it.
const QUITS_WITHIN: Duration = Duration::from_secs(4);

/// The destination's QEMU, held.
pub(crate) struct Reins {
    monitor: Option<Monitor>,
    /// How it was set up before.
    before: Option<Before>,
    watch: Watch,
    /// Ends its main channel.
    closer: Closer,
    clearance: Clearance,
    memory: Memory,
    /// It has ended its return path without an error.
    shut: bool,
    /// QMP says that the guest is loaded and stands still.
    loaded: bool,
    /// The machine was told so.
    told_loaded: bool,
    /// It was told to run the guest, and has not said that it does.
    continuing: bool,
    /// It was ever told.
    ordered: bool,
}

impl Reins {
    /// Takes them. What QEMU is seen to do comes out of the other end.
    pub(crate) fn take(
        monitor: Option<Monitor>,
        before: Option<Before>,
        closer: Closer,
        clearance: Clearance,
        memory: Memory,
    ) -> (Self, UnboundedReceiver<Result<Seen, sealift_qemu::Error>>) {
        let (watch, looks) = Watch::start(monitor.clone());
        let this = Self {
            monitor,
            before,
            watch,
            closer,
            clearance,
            memory,
            shut: false,
            loaded: false,
            told_loaded: false,
            continuing: false,
            ordered: false,
        };
        (this, looks)
    }

    /// The guest is here: QEMU is set up as it was, for what becomes of it next.
    pub(crate) async fn put_back(&mut self, voice: &Voice) {
        if let (Some(monitor), Some(before)) = (&self.monitor, self.before.take()) {
            before.put_back(monitor, voice).await;
        }
    }

    /// QEMU can be asked and told.
    pub(crate) const fn managed(&self) -> bool {
        self.monitor.is_some()
    }

    /// QEMU may load what follows memory.
    pub(crate) fn load(&self) {
        self.watch.hurry();
        self.clearance.give();
    }

    /// QEMU gets the stream's end.
    pub(crate) fn release_end(&self) {
        fault::at("before-release");
        self.clearance.release_end();
        fault::at("after-release");
    }

    /// QEMU has ended its return path without an error.
    pub(crate) fn shut(&mut self) -> Option<Event> {
        self.shut = true;
        if self.managed() {
            self.watch.hurry();
            return self.loaded();
        }
        // It had the last byte, and runs the guest if that ran.
        Some(Event::QemuContinued { at_ns: now_ns() })
    }

    /// It has ended its return path.
    pub(crate) const fn is_shut(&self) -> bool {
        self.shut
    }

    fn loaded(&mut self) -> Option<Event> {
        let first = self.shut && self.loaded && !std::mem::replace(&mut self.told_loaded, true);
        first.then_some(Event::QemuLoaded)
    }

    /// What QMP says.
    pub(crate) fn seen(&mut self, seen: Seen) -> Option<Event> {
        if self.continuing {
            let resumed = seen.events.iter().find(|event| event.name == "RESUME");
            if let Some(event) = resumed {
                self.continuing = false;
                return Some(Event::QemuContinued { at_ns: event.at_ns });
            }
            if seen.status.let_go() {
                self.continuing = false;
                return Some(Event::QemuContinued { at_ns: now_ns() });
            }
        }
        if seen.status.running && !self.ordered {
            // Nobody but this session may let it run.
            self.ordered = true;
            return Some(Event::QemuContinued { at_ns: now_ns() });
        }
        match seen.migration.status {
            Status::Completed if !seen.status.running => {
                self.loaded = true;
                self.loaded()
            }
            Status::Failed => Some(Event::QemuFailed(failure(
                ErrorKind::Qemu,
                Fault::Receiver,
                &match seen.migration.error {
                    Some(error) => {
                        format!("the destination's QEMU could not load the guest: {error}")
                    }
                    None => "the destination's QEMU could not load the guest; its log says why"
                        .to_owned(),
                },
            ))),
            _ => None,
        }
    }

    /// Reads the guest's memory again.
    pub(crate) fn read_memory(&self, under_way: &UnderWay<Event>) {
        let (monitor, memory) = (self.monitor.clone(), self.memory.clone());
        under_way.start(async move {
            Some(match memory.read(monitor?).await {
                Ok(verification) => Event::MemoryRead(verification),
                Err(why) => Event::Failed(failure(ErrorKind::Qemu, Fault::Receiver, &why)),
            })
        });
    }

    /// The one place where a guest is let run at the destination.
    pub(crate) fn continue_guest(&mut self, under_way: &UnderWay<Event>) {
        let Some(monitor) = self.monitor.clone() else {
            return;
        };
        fault::at("before-continue");
        self.continuing = true;
        self.ordered = true;
        self.watch.hurry();
        under_way.start(async move {
            match go_on(&monitor).await {
                // One that takes long is watched on.
                Ok(()) | Err(sealift_qemu::Error::NoAnswer { .. }) => None,
                Err(error) => {
                    let why = failure_of(ErrorKind::Qemu, Fault::Receiver, &error);
                    Some(Event::QemuFailed(why))
                }
            }
        });
        fault::at("after-continue");
    }

    /// QEMU's control socket was closed. That its process has ended is another thing.
    pub(crate) fn socket_closed(&self, under_way: &UnderWay<Event>) {
        let monitor = self.monitor.clone();
        under_way.start(async move {
            Some(if monitor?.ends_within(QUITS_WITHIN).await {
                Event::QemuGone
            } else {
                Event::Failed(failure(
                    ErrorKind::Qemu,
                    Fault::Receiver,
                    "the destination's QEMU closed its control socket, and lives: it cannot be told anything any more",
                ))
            })
        });
    }

    /// Ends QEMU, with whatever it has of the guest.
    pub(crate) fn kill(&self, inbound: &mut Inbound, under_way: &UnderWay<Event>) {
        match self.monitor.clone() {
            Some(monitor) => {
                self.close();
                under_way.start(async move {
                    let ended = monitor.end(QUITS_WITHIN).await;
                    ended.then_some(Event::QemuGone)
                });
            }
            // The stream ends before its end: QEMU fails, and ends by itself. That it has shows in its closing the channel.
            None => {
                inbound.close();
                self.clearance.abandon();
            }
        }
    }

    /// Closes QEMU's main channel.
    pub(crate) fn close(&self) {
        self.closer.close();
    }
}

/// Lets QEMU run its guest.
pub(crate) async fn go_on(monitor: &Monitor) -> Result<(), sealift_qemu::Error> {
    monitor.ask(Machine::cont).await?;
    // The network learns a little later; the guest runs by now, and an error here is not worth more than that.
    let _ = monitor.ask(Machine::announce_self).await;
    Ok(())
}
