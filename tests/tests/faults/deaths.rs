//! What becomes of a move when an end dies at a step of the hand-off, step by step.

use std::thread;
use std::time::{Duration, Instant};

use sealift_identity::Side;
use sealift_identity::journal::Step;
use sealift_lab::guest::PATIENCE;
use sealift_lab::qemu::Qemu;
use sealift_lab::trial::{Trial, listening, wait_state};

use crate::pair::{Pair, Runs};

/// What must be seen before the end that is held is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    /// That it is held.
    Held,
    /// That what it journals meanwhile is written.
    Written,
    /// That the other end has come to this stage as well.
    Stage(&'static str),
    /// That the guest runs at the destination.
    Running,
    /// That the other end has ended.
    Ended,
}

/// One end is held at a step and killed there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    side: Side,
    pub(crate) step: &'static str,
    until: Until,
    runs: Runs,
    /// The exit code of the end that is left.
    code: i32,
    /// The last steps in the journals of source and receiver.
    left: (&'static str, &'static str),
}

const fn source(
    step: &'static str,
    until: Until,
    runs: Runs,
    code: i32,
    left: (&'static str, &'static str),
) -> Case {
    Case {
        side: Side::Source,
        step,
        until,
        runs,
        code,
        left,
    }
}

const fn receiver(
    step: &'static str,
    until: Until,
    runs: Runs,
    code: i32,
    left: (&'static str, &'static str),
) -> Case {
    let case = source(step, until, runs, code, left);
    Case {
        side: Side::Receiver,
        ..case
    }
}

use Runs::{AtDestination, AtSource, Nowhere};
use Until::{Held, Running, Stage, Written};

/// The source dies. Before SHUT its QEMU keeps the guest; the receiver, once it is prepared, cannot know whether SHUT was passed, and holds
/// what it has. INTENT is journaled while the receiver still loads, and COMPLETED while the guest already goes on there.
pub(crate) const SOURCES: [Case; 14] = [
    source("before-say-stop-and-copy", Held, AtSource, 5, ("", "")),
    source("before-say-drained", Written, AtSource, 5, ("Intent", "")),
    source(
        "before-journal-intent",
        Stage("commitment"),
        AtSource,
        6,
        ("", "Prepared"),
    ),
    source(
        "after-journal-intent",
        Stage("commitment"),
        AtSource,
        6,
        ("Intent", "Prepared"),
    ),
    source(
        "before-say-intent",
        Held,
        AtSource,
        6,
        ("Intent", "Prepared"),
    ),
    source("before-shut", Held, AtSource, 6, ("Intent", "Prepared")),
    source("after-shut", Held, Nowhere, 6, ("Intent", "Prepared")),
    source(
        "before-journal-completed",
        Running,
        AtDestination,
        0,
        ("Intent", "Done"),
    ),
    source(
        "after-journal-completed",
        Running,
        AtDestination,
        0,
        ("Completed", "Done"),
    ),
    source(
        "before-say-commit",
        Held,
        Nowhere,
        6,
        ("Completed", "Prepared"),
    ),
    source(
        "after-say-commit",
        Running,
        AtDestination,
        0,
        ("Completed", "Done"),
    ),
    source(
        "before-journal-done",
        Held,
        AtDestination,
        0,
        ("Completed", "Done"),
    ),
    source(
        "after-journal-done",
        Held,
        AtDestination,
        0,
        ("Done", "Done"),
    ),
    source("before-say-done", Held, AtDestination, 0, ("Done", "Done")),
];

/// The receiver dies. Until SHUT is passed the source goes on as if nothing had been; afterwards it cannot know. It keeps its journal, as
/// the receiver could not be told how it ended. COMMIT is journaled while the guest already goes on.
pub(crate) const RECEIVERS: [Case; 13] = [
    receiver("before-load", Held, AtSource, 5, ("Aborted", "")),
    receiver("after-load", Written, AtSource, 5, ("Aborted", "Prepared")),
    receiver(
        "before-journal-prepared",
        Held,
        AtSource,
        5,
        ("Aborted", ""),
    ),
    receiver(
        "after-journal-prepared",
        Held,
        AtSource,
        5,
        ("Aborted", "Prepared"),
    ),
    receiver(
        "before-say-prepared",
        Held,
        AtSource,
        5,
        ("Aborted", "Prepared"),
    ),
    receiver(
        "after-say-prepared",
        Stage("activation"),
        Nowhere,
        6,
        ("Completed", "Prepared"),
    ),
    receiver(
        "before-journal-commit",
        Running,
        AtDestination,
        6,
        ("Completed", "Prepared"),
    ),
    receiver(
        "after-journal-commit",
        Running,
        AtDestination,
        6,
        ("Completed", "Commit"),
    ),
    receiver("before-continue", Held, Nowhere, 6, ("Completed", "Commit")),
    receiver(
        "after-continue",
        Running,
        AtDestination,
        6,
        ("Completed", "Commit"),
    ),
    receiver(
        "before-journal-active",
        Held,
        AtDestination,
        6,
        ("Completed", "Commit"),
    ),
    receiver(
        "before-say-active",
        Held,
        AtDestination,
        6,
        ("Completed", "Active"),
    ),
    receiver(
        "after-say-active",
        Until::Ended,
        AtDestination,
        0,
        ("", "Active"),
    ),
];

/// Those that are tried each time: one for each answer to who has the guest.
pub(crate) const FEW: [&str; 8] = [
    "before-journal-intent",
    "before-shut",
    "after-shut",
    "before-say-commit",
    "after-say-commit",
    "before-journal-prepared",
    "before-journal-commit",
    "before-say-active",
];

impl Case {
    pub(crate) fn run(&self, qemu: &Qemu) {
        let trial = Trial::new().unwrap();
        let mut pair = Pair::start(&trial, qemu);
        let (mut send, mut receive) = (pair.send(&trial), trial.managed(&pair.destination));
        match self.side {
            Side::Source => send = send.held(self.step),
            Side::Receiver => receive = receive.held(self.step),
        }
        let receiver = listening(&receive).unwrap();
        let sender = send.start().unwrap();
        let (mut held, mut other) = match self.side {
            Side::Source => (sender, receiver),
            Side::Receiver => (receiver, sender),
        };
        held.wait_held().unwrap();
        pair.never_two();
        let ended = match self.until {
            Held => None,
            Written => {
                self.wait_written(&trial);
                None
            }
            Stage(stage) => {
                other.wait_stage(stage).unwrap();
                None
            }
            Running => {
                wait_state(&mut pair.destination, "running").unwrap();
                None
            }
            Until::Ended => Some(()),
        };
        let ended = match ended {
            Some(()) => {
                let ended = pair.watch(other);
                held.kill().unwrap();
                ended
            }
            None => {
                held.kill().unwrap();
                pair.watch(other)
            }
        };
        assert_eq!(ended.code, Some(self.code), "{}", ended.said());
        let expected = match self.code {
            0 => "destination",
            6 => "unknown",
            _ => "source",
        };
        assert_eq!(ended.last("outcome")["guest_at"], expected);
        pair.is(self.runs);
        let left = |side| name(trial.left_behind(side).unwrap());
        assert_eq!((left(Side::Source), left(Side::Receiver)), self.left);
    }

    /// Waits until the end that is held has its last step in its journal.
    fn wait_written(&self, trial: &Trial) {
        let expected = match self.side {
            Side::Source => self.left.0,
            Side::Receiver => self.left.1,
        };
        let deadline = Instant::now() + PATIENCE;
        while name(trial.left_behind(self.side).unwrap()) != expected {
            assert!(Instant::now() < deadline, "{expected} is not journaled");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

fn name(step: Option<Step>) -> &'static str {
    match step {
        None => "",
        Some(Step::Intent) => "Intent",
        Some(Step::Completed { .. }) => "Completed",
        Some(Step::Prepared) => "Prepared",
        Some(Step::Commit { .. }) => "Commit",
        Some(Step::Active) => "Active",
        Some(Step::Done) => "Done",
        Some(Step::Aborted) => "Aborted",
    }
}
