//! Every state that can be reached, what each makes of each event, and that this is what it was when somebody last looked:
//! `transitions/*.txt`. After a change that is meant, `SEALIFT_BLESS=1 cargo test -p sealift-session --test handoff` writes the tables
//! anew; the difference is for the review.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::env;
use std::fmt::{Debug, Write as _};
use std::fs;
use std::path::Path;

use sealift_session::control::{Message, RunState, StageChange};
use sealift_session::handoff::{
    ReceiverHandoff, SourceHandoff, Step, Wait, receiver,
    source::{self, Completion},
};

use super::{DRAIN, OTHER, READ, why};

const SOURCE: source::Terms = source::Terms {
    managed: true,
    verify: false,
    keep: false,
    completion: Completion::ByQmp,
};

#[test]
fn the_source() {
    compare("source", source(SOURCE));
}

#[test]
fn the_source_that_reads_memory_again() {
    let verify = true;
    compare("source-verify", source(source::Terms { verify, ..SOURCE }));
}

#[test]
fn the_source_without_qmp() {
    let terms = source::Terms {
        managed: false,
        keep: true,
        completion: Completion::ByClose,
        ..SOURCE
    };
    compare("source-without-qmp", source(terms));
}

#[test]
fn the_receiver() {
    let (managed, verify) = (true, false);
    compare("receiver", receiver(receiver::Terms { managed, verify }));
}

#[test]
fn the_receiver_that_reads_memory_again() {
    let (managed, verify) = (true, true);
    let table = receiver(receiver::Terms { managed, verify });
    compare("receiver-verify", table);
}

#[test]
fn the_receiver_without_qmp() {
    let (managed, verify) = (false, false);
    let table = receiver(receiver::Terms { managed, verify });
    compare("receiver-without-qmp", table);
}

fn source(terms: source::Terms) -> String {
    use source::Event;
    let peer = peer_steps()
        .map(|(name, step)| (format!("peer {name}"), Event::Peer(step)))
        .into_iter();
    let steps = [
        ("Intent", Step::Intent),
        (
            "Completed",
            Step::Completed {
                run_state: RunState::Running,
            },
        ),
        ("Done", Step::Done),
    ];
    let events = [
        ("guest stopped", Event::GuestStopped { at_ns: 5 }),
        ("drained", Event::Drained(DRAIN)),
        ("memory read", Event::MemoryRead(READ)),
        ("peer read the same", Event::PeerVerification(READ)),
        ("peer read another", Event::PeerVerification(OTHER)),
        (
            "qemu completed",
            Event::QemuCompleted {
                run_state: RunState::Running,
            },
        ),
        ("qemu failed", Event::QemuFailed(why("QEMU"))),
        (
            "qemu closed",
            Event::QemuClosed {
                run_state: RunState::Paused,
            },
        ),
        ("qemu gone", Event::QemuGone),
        ("failed", Event::Failed(why("here"))),
        ("cancel", Event::Cancel),
        ("lost", Event::Lost(why("lost"))),
    ];
    let events = events.map(|(name, event)| (name.to_owned(), event));
    let journal = steps.map(|(name, step)| (format!("journaled {name}"), Event::Journaled(step)));
    let failing = steps.map(|(name, step)| {
        let event = Event::JournalFailed(step, why("disk"));
        (format!("journal failed {name}"), event)
    });
    let waits = [Wait::Prepared, Wait::Completed, Wait::Active, Wait::Aborted]
        .map(|wait| (format!("deadline {wait:?}"), Event::Deadline(wait)));
    let events: Vec<_> = (events.into_iter().chain(peer).chain(journal))
        .chain(failing)
        .chain(waits)
        .collect();
    let (machine, _) = SourceHandoff::new(terms);
    let stage = |machine: &SourceHandoff| machine.stage().name();
    table(machine, &events, SourceHandoff::handle, stage, |action| {
        use source::{Action, Outcome};
        match action {
            Action::Send(message) => say(message),
            Action::Finish(Outcome::StillAtSource { stopped: true, .. }) => {
                "finish StillAtSource, stopped".into()
            }
            other => word(other),
        }
    })
}

fn receiver(terms: receiver::Terms) -> String {
    use receiver::Event;
    let peer = peer_steps()
        .map(|(name, step)| (format!("peer {name}"), Event::Peer(step)))
        .into_iter();
    let steps = [
        ("Prepared", Step::Prepared),
        (
            "Commit",
            Step::Commit {
                run_state: RunState::Running,
            },
        ),
        ("Active", Step::Active { resumed_ns: 9 }),
    ];
    let mut missing = DRAIN;
    missing.batches -= 1;
    let events = [
        ("ram placed", Event::RamPlaced(DRAIN)),
        ("ram placed otherwise", Event::RamPlaced(missing)),
        ("qemu loaded", Event::QemuLoaded),
        ("held end", Event::HeldEnd),
        ("memory read", Event::MemoryRead(READ)),
        ("peer read the same", Event::PeerVerification(READ)),
        ("peer read another", Event::PeerVerification(OTHER)),
        ("qemu failed", Event::QemuFailed(why("QEMU"))),
        ("qemu continued", Event::QemuContinued { at_ns: 9 }),
        ("qemu gone", Event::QemuGone),
        ("failed", Event::Failed(why("here"))),
        ("cancel", Event::Cancel),
        ("lost", Event::Lost(why("lost"))),
    ];
    let events = events.map(|(name, event)| (name.to_owned(), event));
    let journal = steps.map(|(name, step)| (format!("journaled {name}"), Event::Journaled(step)));
    let failing = steps.map(|(name, step)| {
        let event = Event::JournalFailed(step, why("disk"));
        (format!("journal failed {name}"), event)
    });
    let waits = [Wait::Continued, Wait::Killed, Wait::Done]
        .map(|wait| (format!("deadline {wait:?}"), Event::Deadline(wait)));
    let events: Vec<_> = (events.into_iter().chain(peer).chain(journal))
        .chain(failing)
        .chain(waits)
        .collect();
    let machine = ReceiverHandoff::new(terms);
    let stage = |machine: &ReceiverHandoff| machine.stage().name();
    table(machine, &events, ReceiverHandoff::handle, stage, |action| {
        use receiver::{Action, Outcome};
        match action {
            Action::Send(message) => say(message),
            Action::Finish(Outcome::Aborted {
                confirmed: false, ..
            }) => "finish Aborted, not confirmed".into(),
            other => word(other),
        }
    })
}

/// What either peer can say, whether it may or not.
fn peer_steps() -> [(&'static str, StageChange); 14] {
    let (batches, version_map) = (DRAIN.batches, DRAIN.version_map);
    let drained = |batches| StageChange::Drained {
        batches,
        version_map,
    };
    let prepared = |batches| StageChange::Prepared {
        batches,
        version_map,
    };
    let commit = |run_state| StageChange::Commit { run_state };
    [
        ("PreCopy", StageChange::PreCopy),
        ("StopAndCopy", StageChange::StopAndCopy { stopped_ns: 5 }),
        ("Drained", drained(batches)),
        ("Drained otherwise", drained(batches + 1)),
        ("Prepared", prepared(batches)),
        ("Prepared otherwise", prepared(batches + 1)),
        ("Intent", StageChange::Intent),
        ("Commit running", commit(RunState::Running)),
        ("Commit paused", commit(RunState::Paused)),
        ("Commit suspended", commit(RunState::Suspended)),
        ("Active", StageChange::Active { resumed_ns: 9 }),
        ("Done", StageChange::Done),
        ("Abort", StageChange::Abort(why("peer"))),
        ("Aborted", StageChange::Aborted),
    ]
}

/// Each reachable state with the shortest way there; below it the events that change or do something, those with the same
/// result together. Reasons are left out: a state is the same whatever led to it.
fn table<M: Clone + Debug, E: Clone, A>(
    first: M,
    events: &[(String, E)],
    handle: impl Fn(&mut M, E) -> Vec<A>,
    stage: impl Fn(&M) -> &'static str,
    action: impl Fn(&A) -> String,
) -> String {
    let mut numbers = BTreeMap::from([(state_of(&first), 1)]);
    let mut queue = VecDeque::from([(first, "the beginning".to_owned())]);
    let mut written = String::new();
    let mut number = 0;
    while let Some((machine, way)) = queue.pop_front() {
        number += 1;
        writeln!(written, "{number} {}: {way}", stage(&machine)).unwrap();
        let mut results: Vec<(String, BTreeSet<&str>)> = vec![];
        let mut idle = 0;
        for (name, event) in events {
            let mut next = machine.clone();
            let actions: Vec<_> = handle(&mut next, event.clone())
                .iter()
                .map(&action)
                .collect();
            let state = state_of(&next);
            if actions.is_empty() && state == state_of(&machine) {
                idle += 1;
                continue;
            }
            let known = numbers.len() + 1;
            let reached = *numbers.entry(state).or_insert(known);
            if reached == known {
                let way = if number == 1 {
                    name.clone()
                } else {
                    format!("{way}, {name}")
                };
                queue.push_back((next.clone(), way));
            }
            let result = format!("{reached} {}: {}", stage(&next), actions.join("; "));
            match results.iter_mut().find(|(known, _)| *known == result) {
                Some((_, names)) => {
                    names.insert(name);
                }
                None => results.push((result, BTreeSet::from([name.as_str()]))),
            }
        }
        for (result, names) in results {
            let names: Vec<_> = names.into_iter().collect();
            let line = format!("    {} -> {result}", names.join(" | "));
            writeln!(written, "{}", line.trim_end_matches([' ', ':'])).unwrap();
        }
        writeln!(written, "    {idle} others are passed over\n").unwrap();
        assert!(number < 200, "the states do not end");
    }
    written
}

/// A machine's fields, without the words of failures.
fn state_of(machine: &impl Debug) -> String {
    let printed = format!("{machine:?}");
    let mut pieces = printed.split("Failure {");
    let mut state = pieces.next().unwrap().to_owned();
    for piece in pieces {
        let (_, rest) = piece.split_once("\") }").unwrap();
        state.push_str("why");
        state.push_str(rest);
    }
    state
}

fn say(message: &Message) -> String {
    match message {
        Message::StageChange(change) => format!("say {}", first_word(change)),
        other => format!("say {}", other.kind()),
    }
}

/// An action by its name, and what it is about by its name.
fn word(action: &impl Debug) -> String {
    let printed = format!("{action:?}");
    let mut words = printed.split(['(', ' ', '{', ')']);
    let name = words.next().unwrap();
    let of = words
        .next()
        .filter(|word| !word.is_empty() && *word != "Failure");
    match (name, of) {
        ("Warn", _) | (_, None) => name.to_owned(),
        (name, Some(of)) => format!("{} {of}", name.to_lowercase()),
    }
}

fn first_word(value: &impl Debug) -> String {
    let printed = format!("{value:?}");
    let inner = printed.trim_start_matches("Some(");
    inner.split(['(', ' ', '{', ')']).next().unwrap().to_owned()
}

fn compare(name: &str, found: String) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/handoff/transitions")
        .join(format!("{name}.txt"));
    if env::var_os("SEALIFT_BLESS").is_some() {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, found).unwrap();
        return;
    }
    let expected = fs::read_to_string(&file).unwrap();
    assert!(
        expected == found,
        "transitions of {name} have changed. If that is meant: SEALIFT_BLESS=1 cargo test -p sealift-session --test handoff, and review the difference"
    );
}
