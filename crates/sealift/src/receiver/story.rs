//! What the receiver tells its operator.

use std::time::Duration;

use sealift::event::{Peer, Progress, Resumed, Stage, Traffic, What};
use sealift::outcome::{Ending, Fault, Kind, Teller};
use sealift_net::inbound::Standing;
use sealift_session::control::{Failure, Role, StageChange};
use sealift_session::handoff::receiver::Outcome;

use crate::voice::Voice;

/// The session as it is told.
pub(crate) struct Story {
    pub(crate) voice: Voice,
    pub(crate) guest: String,
    pub(crate) page_bytes: u64,
    pub(crate) stage: Stage,
    pub(crate) teller: Teller,
    /// The source has said Done.
    pub(crate) source_knows: bool,
    /// What the wire and the guest had when progress was told last.
    pub(crate) last: Standing,
}

impl Story {
    /// Tells something.
    pub(crate) fn tell(&self, what: What) {
        self.voice.tell(what);
    }

    fn stage(&mut self, stage: Stage) {
        if self.stage < stage {
            self.stage = stage;
            self.voice.stage(stage);
        }
    }

    /// The source takes a step.
    pub(crate) fn peer_step(&mut self, change: &StageChange) {
        match change {
            StageChange::PreCopy => self.stage(Stage::PreCopy),
            StageChange::StopAndCopy { .. } => self.stage(Stage::StopAndCopy),
            StageChange::Commit { .. } => self.stage(Stage::Activation),
            StageChange::Done => {
                self.source_knows = true;
                self.stage(Stage::Done);
            }
            StageChange::Abort(_) => self.teller = Teller::Peer,
            _ => {}
        }
    }

    /// This end takes one.
    pub(crate) fn step(&mut self, change: &StageChange) {
        match change {
            StageChange::Prepared { .. } => self.stage(Stage::Commitment),
            StageChange::Abort(_) | StageChange::Aborted => self.stage(Stage::Aborted),
            _ => {}
        }
    }

    /// Connections broke.
    pub(crate) fn interrupted(&self, why: &Failure) {
        let message = why.message.as_str().to_owned();
        self.tell(What::Interrupted { message });
    }

    /// The source is back.
    pub(crate) fn reconnected(&self, after: Duration, peer: &Peer) {
        self.tell(What::Resumed(Resumed {
            after,
            batches_again: None,
            address: peer.address.clone(),
        }));
    }

    /// About once a second.
    pub(crate) fn progress(&mut self, standing: &Standing, held: u64) {
        let last = std::mem::replace(&mut self.last, *standing);
        let raw = |standing: &Standing| standing.pages.saturating_mul(self.page_bytes);
        self.tell(What::Progress(Progress {
            stage: self.stage,
            round: 0,
            traffic: Traffic {
                raw_bytes: raw(standing),
                wire_bytes: standing.wire,
            },
            wire_bytes_per_s: standing.wire.saturating_sub(last.wire),
            raw_bytes_per_s: raw(standing).saturating_sub(raw(&last)),
            dirty_bytes_per_s: None,
            in_flight_bytes: held,
            remaining_bytes: None,
            predicted_end: None,
            predicted_blackout: None,
        }));
    }

    /// Tells how it ended.
    pub(crate) fn end(&mut self, outcome: Outcome, standing: &Standing) -> Ending {
        self.progress(standing, 0);
        let guest = &self.guest;
        match outcome {
            Outcome::Moved { managed, .. } => {
                let how = if managed {
                    ""
                } else {
                    ", by its QEMU itself: without --qmp the hand-off is not managed"
                };
                Ending::new(Kind::Moved, format!("{guest} is here{how}"))
            }
            Outcome::Aborted { why, confirmed } => {
                self.stage(Stage::Aborted);
                let ending = Ending::failed(Role::Receiver, &why, self.teller);
                if confirmed {
                    ending
                } else {
                    ending.advice(
                        "this host's QEMU has not ended in time: end it, for it may hold the guest's disks",
                    )
                }
            }
            Outcome::InDoubt { why } => Ending::new(Kind::InDoubt, why.message.as_str())
                .fault(Fault::seen_by(Role::Receiver, why.fault))
                .advice(
                    "ask the source which of the two runs the guest; until then start it nowhere",
                ),
        }
    }
}
