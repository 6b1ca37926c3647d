//! What the source tells its operator, and remembers for the report.

use std::time::{Duration, Instant};

use sealift::event::{
    Access, Blackout, Full, Guest, Peer, Progress, Resumed, Round, Stage, Traffic, Verification,
    What,
};
use sealift::outcome::{Ending, Fault, Kind, Teller};
use sealift::report::{HandOff, Opaque, Pages, Records, Report};
use sealift_net::outbound::Standing;
use sealift_pages::Algorithm;
use sealift_precopy::Why;
use sealift_qemu::machine::Migration;
use sealift_seal::Suite;
use sealift_session::clock::Offset;
use sealift_session::control::{ErrorKind, Failure, Role, StageChange};
use sealift_session::handoff::source::Outcome;

use super::pace::{Outlook, Pace};
use super::steps::Told;
use super::trust::Distrust;
use crate::ending::whole;
use crate::voice::Voice;

/// What can be done about a guest that does not converge.
const MORE_OR_LESS: &str = "allow a longer --max-downtime, give the link more bandwidth, or slow the guest: --if-not-converging throttle";

/// The session as it is told.
pub(crate) struct Story {
    pub(crate) voice: Voice,
    pub(crate) facts: Facts,
    pub(crate) started: Instant,
    stage: Stage,
    rounds: u64,
    stopped_ns: Option<u64>,
    /// From the order to the word that the guest is live.
    time: Option<Duration>,
    qemu_downtime: Option<Duration>,
    teller: Teller,
    /// The receiver has said that nothing of the guest is left there.
    pub(crate) receiver_let_go: bool,
    verified: Full,
    warned_stuck: bool,
}

/// What does not change any more.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) guest: Guest,
    pub(crate) peer: Option<Peer>,
    pub(crate) lanes: u16,
    pub(crate) suite: Suite,
    pub(crate) tls: Option<String>,
    pub(crate) algorithm: Algorithm,
    pub(crate) page_bytes: u64,
    /// Why the hand-off is not managed, if it is not.
    pub(crate) unmanaged: Option<String>,
    pub(crate) keep_source: bool,
    /// How the guest's memory is read, and why so.
    pub(crate) access: Access,
    pub(crate) access_reason: String,
}

impl Story {
    pub(crate) fn new(voice: Voice, facts: Facts, started: Instant) -> Self {
        Self {
            voice,
            facts,
            started,
            stage: Stage::Reservation,
            rounds: 0,
            stopped_ns: None,
            time: None,
            qemu_downtime: None,
            teller: Teller::Us,
            receiver_let_go: false,
            verified: Full::NotAsked,
            warned_stuck: false,
        }
    }

    /// Tells something.
    pub(crate) fn tell(&self, what: What) {
        self.voice.tell(what);
    }

    /// Connections broke.
    pub(crate) fn interrupted(&self, why: &Failure) {
        let message = why.message.as_str().to_owned();
        self.voice.tell(What::Interrupted { message });
    }

    /// They are made anew, and so many batches go again.
    pub(crate) fn reconnected(&self, after: Duration, again: u64, peer: &Peer) {
        self.voice.tell(What::Resumed(Resumed {
            after,
            batches_again: Some(again),
            address: peer.address.clone(),
        }));
    }

    pub(crate) fn stage(&mut self, stage: Stage) {
        if self.stage < stage {
            self.stage = stage;
            self.voice.stage(stage);
        }
    }

    /// This end takes a step.
    pub(crate) fn step(&mut self, change: &StageChange) {
        match change {
            StageChange::Commit { .. } => self.stage(Stage::Activation),
            StageChange::Done => self.stage(Stage::Done),
            StageChange::Abort(_) => self.stage(Stage::Aborted),
            _ => {}
        }
    }

    /// The receiver takes one.
    pub(crate) fn peer_step(&mut self, change: &StageChange) {
        match change {
            StageChange::Prepared { .. } => self.stage(Stage::Commitment),
            StageChange::Abort(_) => self.teller = Teller::Peer,
            StageChange::Aborted => self.receiver_let_go = true,
            StageChange::Active { .. } => self.time = Some(self.started.elapsed()),
            _ => {}
        }
    }

    /// The receiver says what went wrong.
    pub(crate) const fn told_by_peer(&mut self) {
        self.teller = Teller::Peer;
    }

    /// The guest was stopped then. QMP and the stream both say so; the earlier one is nearer to it.
    pub(crate) fn stopped(&mut self, at_ns: u64) {
        let earliest = self.stopped_ns.map_or(at_ns, |known| known.min(at_ns));
        self.stopped_ns = Some(earliest);
    }

    /// It goes on, whoever had stopped it.
    pub(crate) const fn resumed(&mut self) {
        self.stopped_ns = None;
    }

    pub(crate) fn qemu_says(&mut self, migration: &Migration) {
        if let Some(millis) = migration.downtime_ms {
            self.qemu_downtime = Some(Duration::from_millis(millis));
        }
    }

    pub(crate) const fn read_again(&mut self, bytes: u64) {
        self.verified = Full::Equal { full_bytes: bytes };
    }

    /// Direct access was tried with a block, and is not to be had.
    pub(crate) fn distrusted(&mut self, block: &str, why: &Distrust) {
        let why = match why {
            Distrust::Differs => {
                format!("what is read directly of {block} is not what QEMU sends of it")
            }
            Distrust::Unreadable(error) => format!("{block} cannot be read directly: {error}"),
        };
        self.voice
            .warn(format!("{why}; its pages come by the stream"));
        self.facts.access_reason = format!("{}; but {why}", self.facts.access_reason);
    }

    pub(crate) fn kept(&self) {
        self.voice.warn(
            "the source's QEMU was kept: it holds the guest as it was when it left; cont would run it a second time",
        );
    }

    /// The guest is slowed, or more than before; or QEMU does not do it.
    pub(crate) fn throttled(&self, told: &Told) {
        self.voice.warn(match told {
            Told::Slowed { percent } => format!(
                "the guest changes its memory faster than the link carries the changes: its processors are stopped for {percent} % of the time until it moves"
            ),
            Told::Refused(error) => format!(
                "the guest is not slowed any further, for its QEMU does not take the order: {}",
                whole(error)
            ),
        });
    }

    pub(crate) fn progress(&mut self, standing: &Standing, pace: &Pace) {
        for round in pace.take_rounds() {
            self.rounds += 1;
            self.tell(What::Round(Round {
                round: self.rounds,
                pages: round.pages(),
                zero_pages: round.zero,
                dirty_bytes_per_s: (round.number > 0).then(|| pace.outlook().dirty_rate),
            }));
        }
        let outlook = pace.outlook();
        // QEMU decides itself when a guest that is saved is stopped.
        if let Some(why) = outlook.stuck
            && self.facts.peer.is_some()
            && !std::mem::replace(&mut self.warned_stuck, true)
        {
            self.voice.warn(match why {
                Why::NotConverging { .. } => format!("{why}; {MORE_OR_LESS}"),
                _ => why.to_string(),
            });
        }
        let Outlook {
            round,
            dirty_rate,
            remaining,
            end,
            blackout,
            wire_rate,
            raw_rate,
            ..
        } = outlook;
        self.tell(What::Progress(Progress {
            stage: self.stage,
            round,
            traffic: traffic(standing),
            wire_bytes_per_s: wire_rate,
            raw_bytes_per_s: raw_rate,
            dirty_bytes_per_s: (round > 1).then_some(dirty_rate),
            in_flight_bytes: standing.in_flight.content,
            remaining_bytes: Some(remaining),
            predicted_end: end,
            predicted_blackout: blackout,
        }));
    }

    /// Tells how it ended.
    pub(crate) fn end(
        &mut self,
        outcome: Outcome,
        standing: &Standing,
        pace: &Pace,
        offset: &Offset,
    ) -> Ending {
        match outcome {
            Outcome::Moved {
                managed,
                resumed_ns,
            } => {
                let blackout = self.blackout(resumed_ns, offset);
                if let Some(blackout) = blackout {
                    self.tell(What::Blackout(blackout));
                }
                let verification = Verification {
                    algorithm: self.facts.algorithm,
                    version_maps_equal: true,
                    full: self.verified,
                };
                self.tell(What::Verification(verification));
                // What is left counts too, but nobody waits for it any more.
                self.rounds += pace.take_rounds().len() as u64 + 1;
                let channels = pace.channels();
                let report = self.report(standing, channels, blackout, verification, managed);
                self.tell(What::Report(Box::new(report)));
                let name = self.facts.guest.name.as_deref().unwrap_or("the guest");
                let ending = match &self.facts.peer {
                    Some(peer) => {
                        Ending::new(Kind::Moved, format!("{name} has moved to {}", peer.name))
                    }
                    None => Ending::saved(format!("{name} is saved")),
                };
                if self.facts.keep_source {
                    ending.advice(
                        "the source's QEMU was kept; end it, and never let it run while the guest runs at the destination",
                    )
                } else {
                    ending
                }
            }
            Outcome::StillAtSource { why, stopped } => {
                self.stage(Stage::Aborted);
                let mut ending = Ending::failed(Role::Source, &why, self.teller);
                if why.kind == ErrorKind::Cancelled && self.teller == Teller::Peer {
                    ending =
                        Ending::new(Kind::StillAtSource, why.message.as_str()).fault(Fault::Peer);
                }
                if why.kind == ErrorKind::Convergence {
                    ending = ending.advice(MORE_OR_LESS);
                }
                if stopped {
                    ending.guest_stopped()
                } else {
                    ending
                }
            }
            Outcome::InDoubt { why } => Ending::new(Kind::InDoubt, why.message.as_str())
                .fault(Fault::seen_by(Role::Source, why.fault))
                .advice(
                    "ask the destination's QEMU whether the guest runs there; only when that QEMU is ended for certain, cont runs it here. \
                     The session's journal says how far it came",
                ),
            Outcome::Gone { why } => Ending::new(Kind::InDoubt, why.message.as_str())
                .fault(Fault::seen_by(Role::Source, why.fault)),
        }
    }

    fn blackout(&self, resumed_ns: u64, offset: &Offset) -> Option<Blackout> {
        if resumed_ns == 0 {
            return None;
        }
        let true_length = self
            .stopped_ns
            .zip(offset.offset_ns())
            .and_then(|(stopped, offset)| {
                // The peer's clock is ahead by the offset.
                let resumed = i128::from(resumed_ns) - i128::from(offset);
                let length = resumed - i128::from(stopped);
                u64::try_from(length.max(0)).ok().map(Duration::from_nanos)
            });
        Some(Blackout {
            qemu_downtime: self.qemu_downtime,
            true_length,
            uncertainty: offset.uncertainty_ns().map(Duration::from_nanos),
        })
    }

    fn report(
        &self,
        standing: &Standing,
        channels: u64,
        blackout: Option<Blackout>,
        verification: Verification,
        managed: bool,
    ) -> Report {
        let facts = &self.facts;
        let tally = standing.tally;
        let pages = |pages: u64| Pages {
            pages,
            raw_bytes: pages.saturating_mul(facts.page_bytes),
        };
        Report {
            guest: facts.guest.clone(),
            peer: facts.peer.clone(),
            time: self.time.unwrap_or_else(|| self.started.elapsed()),
            rounds: self.rounds,
            traffic: traffic(standing),
            records: Records {
                zero: pages(tally.zero.pages),
                literal: pages(tally.literal.pages),
                same_as: pages(tally.same_as.pages),
                delta: pages(tally.delta.pages),
                opaque: Opaque {
                    raw_bytes: tally.opaque_bytes,
                },
            },
            lanes: facts.lanes,
            channels,
            blackout,
            suite: facts.suite,
            tls: facts.tls.clone(),
            verification,
            hand_off: match (&facts.unmanaged, &facts.peer) {
                (_, None) => HandOff::None,
                (None, _) if managed => HandOff::Managed,
                (why, _) => HandOff::Unmanaged {
                    hand_off_reason: why.clone().unwrap_or_default(),
                },
            },
            access: facts.access,
            access_reason: facts.access_reason.clone(),
        }
    }
}

fn traffic(standing: &Standing) -> Traffic {
    Traffic {
        raw_bytes: standing.tally.raw_bytes(),
        wire_bytes: standing.wire,
    }
}
