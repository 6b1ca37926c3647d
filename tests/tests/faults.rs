//! Whatever dies at whichever step of the hand-off: never two guests run, and whoever is left says what is known.
#![allow(
    clippy::unwrap_used,
    reason = "the tests share functions, and those are tests as well"
)]

use std::thread;
use std::time::{Duration, Instant};

use sealift_identity::Side;
use sealift_identity::journal::Step;
use sealift_lab::guest::{Guest, Launch, PATIENCE};
use sealift_lab::migration::goes_on;
use sealift_lab::qemu::{self, Machine, Qemu};
use sealift_lab::session::{Ended, Session};
use sealift_lab::trial::{self, Trial, listening, runs, runs_on, wait_state};
use sealift_lab::whole_matrix;

/// Where the guest runs in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Runs {
    AtSource,
    AtDestination,
    /// It stands still at both ends, and somebody must decide.
    Nowhere,
}

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
struct Case {
    side: Side,
    step: &'static str,
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
    let side = Side::Source;
    Case {
        side,
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
    let side = Side::Receiver;
    Case {
        side,
        step,
        until,
        runs,
        code,
        left,
    }
}

use Runs::{AtDestination, AtSource, Nowhere};
use Until::{Held, Running, Stage, Written};

/// The source dies. Before SHUT its QEMU keeps the guest; the receiver, once it is prepared, cannot know whether SHUT was passed, and holds
/// what it has. INTENT is journaled while the receiver still loads, and COMPLETED while the guest already goes on there.
const SOURCES: [Case; 14] = [
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
const RECEIVERS: [Case; 13] = [
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
const FEW: [&str; 8] = [
    "before-journal-intent",
    "before-shut",
    "after-shut",
    "before-say-commit",
    "after-say-commit",
    "before-journal-prepared",
    "before-journal-commit",
    "before-say-active",
];

/// Two QEMUs, one with a guest that runs.
struct Pair {
    source: Guest,
    destination: Guest,
}

impl Pair {
    fn start(trial: &Trial, qemu: &Qemu) -> Self {
        let launch = Launch::new(qemu, &qemu.machine(Machine::Q35));
        let source = launch.clone().on(trial.hosts().a()).start();
        let destination = launch.on(trial.hosts().b()).incoming().start();
        let (mut source, destination) = (source.unwrap(), destination.unwrap());
        source.wait_tick(2).unwrap();
        Self {
            source,
            destination,
        }
    }

    /// Looks at both QEMUs until an end has ended.
    fn watch(&mut self, mut session: Session) -> Ended {
        let deadline = Instant::now() + PATIENCE;
        while session.runs().unwrap() && Instant::now() < deadline {
            self.never_two();
            thread::sleep(Duration::from_millis(10));
        }
        self.never_two();
        session.wait().unwrap()
    }

    fn never_two(&mut self) {
        let two = runs(&mut self.source) && runs(&mut self.destination);
        assert!(!two, "the guest runs at both ends");
    }

    /// The guest is where it must be, whole, and nowhere else.
    fn is(&mut self, expected: Runs) {
        match expected {
            AtSource => {
                runs_on(&mut self.source).unwrap();
                assert!(!runs(&mut self.destination));
            }
            AtDestination => {
                wait_state(&mut self.destination, "running").unwrap();
                goes_on(&self.source, &mut self.destination).unwrap();
                assert!(!runs(&mut self.source));
            }
            Nowhere => {
                wait_state(&mut self.source, "postmigrate").unwrap();
                wait_state(&mut self.destination, "paused").unwrap();
            }
        }
    }
}

impl Case {
    fn run(&self, qemu: &Qemu) {
        let trial = Trial::new().unwrap();
        let mut pair = Pair::start(&trial, qemu);
        let (mut send, mut receive) = (
            trial.migrate(&pair.source, trial::PORT),
            trial.managed(&pair.destination),
        );
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

fn each(cases: &[Case]) {
    let all = qemu::all().unwrap();
    // The newest each time, all of them in the long matrix.
    let qemus = if whole_matrix() {
        &all[..]
    } else {
        &all[all.len() - 1..]
    };
    let mut wrong = Vec::new();
    for qemu in qemus {
        for case in cases {
            if whole_matrix() || FEW.contains(&case.step) {
                let ran = std::panic::catch_unwind(|| case.run(qemu));
                if ran.is_err() {
                    wrong.push(format!("{} on {}", case.step, qemu.release()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn a_source_that_dies_at_any_step_leaves_at_most_one_guest() {
    each(&SOURCES);
}

#[test]
fn a_receiver_that_dies_at_any_step_leaves_at_most_one_guest() {
    each(&RECEIVERS);
}

/// For how long an end stands still, so that something else can die meanwhile.
const MEANWHILE_SECONDS: u64 = 1;

/// Whose QEMU dies while an end is held at a step, and what both ends make of it.
fn qemu_dies(side: Side, step: &str, codes: (i32, i32), survivor: &str) {
    let trial = Trial::new().unwrap();
    let qemu = qemu::all().unwrap().pop().unwrap();
    let mut pair = Pair::start(&trial, &qemu);
    let send = trial.migrate(&pair.source, trial::PORT);
    let receive = trial.managed(&pair.destination);
    let (send, receive) = match side {
        Side::Source => (send.held_for(step, MEANWHILE_SECONDS), receive),
        Side::Receiver => (send, receive.held_for(step, MEANWHILE_SECONDS)),
    };
    let mut receiver = listening(&receive).unwrap();
    let mut sender = send.start().unwrap();
    match side {
        Side::Source => {
            sender.wait_held().unwrap();
            sender.wait_stage("commitment").unwrap();
            pair.source.kill().unwrap();
        }
        Side::Receiver => {
            receiver.wait_held().unwrap();
            pair.destination.kill().unwrap();
        }
    }
    let (sent, received) = (pair.watch(sender), pair.watch(receiver));
    let said = format!("{step}\n{}{}", sent.said(), received.said());
    assert_eq!(
        (sent.code, received.code),
        (Some(codes.0), Some(codes.1)),
        "{said}"
    );
    match (side, survivor) {
        (Side::Receiver, "running") => runs_on(&mut pair.source).unwrap(),
        (Side::Receiver, state) => wait_state(&mut pair.source, state).unwrap(),
        (Side::Source, state) => wait_state(&mut pair.destination, state).unwrap(),
    }
}

#[test]
fn a_source_qemu_that_dies_takes_no_guest_with_it_that_was_prepared() {
    qemu_dies(Side::Source, "before-shut", (6, 6), "paused");
    qemu_dies(Side::Source, "before-journal-intent", (6, 6), "paused");
    // Its last word was `completed`: the decision stands.
    qemu_dies(Side::Source, "before-say-commit", (0, 0), "running");
}

#[test]
fn a_destination_qemu_that_dies_leaves_the_guest_at_the_source() {
    qemu_dies(Side::Receiver, "before-load", (5, 5), "running");
    qemu_dies(Side::Receiver, "before-journal-prepared", (5, 5), "running");
    // It was handed over, and nobody but a person may take it back.
    qemu_dies(Side::Receiver, "before-continue", (6, 6), "postmigrate");
}

#[test]
fn pages_may_be_quicker_than_the_word_that_counts_them() {
    let trial = Trial::new().unwrap();
    let qemu = qemu::all().unwrap().pop().unwrap();
    let mut pair = Pair::start(&trial, &qemu);
    let receiver = listening(&trial.managed(&pair.destination)).unwrap();
    let send = trial.migrate(&pair.source, trial::PORT);
    let sender = send.held_for("before-say-drained", 1).start().unwrap();
    let (sent, received) = (pair.watch(sender), pair.watch(receiver));
    assert_eq!(
        (sent.code, received.code),
        (Some(0), Some(0)),
        "{}",
        sent.said()
    );
    pair.is(AtDestination);
}

/// The link is cut while an end is held at a step; both go on, and hear nothing of each other.
fn cut(step: &str, codes: (i32, i32), expected: Runs) {
    let mut trial = Trial::new().unwrap();
    let qemu = qemu::all().unwrap().pop().unwrap();
    let mut pair = Pair::start(&trial, &qemu);
    let mut receiver = listening(&trial.managed(&pair.destination)).unwrap();
    let send = trial.migrate(&pair.source, trial::PORT);
    let mut sender = match step {
        "" => crawling(&send).start().unwrap(),
        step => send.held_for(step, MEANWHILE_SECONDS).start().unwrap(),
    };
    match step {
        "" => receiver.wait_stage("pre_copy").unwrap(),
        _ => sender.wait_held().unwrap(),
    }
    if step.ends_with("intent") {
        // It is journaled while the receiver still loads.
        sender.wait_stage("commitment").unwrap();
    }
    trial.hosts_mut().cut().unwrap();
    let (sent, received) = (pair.watch(sender), pair.watch(receiver));
    let said = format!("{step}\n{}{}", sent.said(), received.said());
    assert_eq!(
        (sent.code, received.code),
        (Some(codes.0), Some(codes.1)),
        "{said}"
    );
    pair.is(expected);
}

/// So slow that the guest never gets there.
fn crawling(order: &sealift_lab::session::Order) -> sealift_lab::session::Order {
    order
        .clone()
        .with(["--bandwidth", "200kbit", "--max-downtime", "1ms"])
}

/// Each waits until the peer was silent for too long, so all of them wait at once.
#[test]
fn a_link_that_is_cut_leaves_at_most_one_guest() {
    let few: &[(&str, (i32, i32), Runs)] = &[
        ("", (5, 5), AtSource),
        ("before-say-commit", (6, 6), Nowhere),
    ];
    let others: &[(&str, (i32, i32), Runs)] = &[
        ("before-say-drained", (5, 5), AtSource),
        ("before-journal-intent", (6, 6), Nowhere),
        ("before-shut", (6, 6), Nowhere),
        ("before-say-done", (0, 0), AtDestination),
    ];
    let cases = few.iter().chain(others.iter().filter(|_| whole_matrix()));
    thread::scope(|scope| {
        for &(step, codes, expected) in cases {
            scope.spawn(move || cut(step, codes, expected));
        }
    });
}
