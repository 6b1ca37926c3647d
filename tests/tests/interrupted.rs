//! Links that break while a guest moves, and come back or do not.
#![allow(
    clippy::unwrap_used,
    reason = "the tests share functions, and those are tests as well"
)]

use std::thread;
use std::time::{Duration, Instant};

use sealift_lab::guest::Guest;
use sealift_lab::migration::goes_on;
use sealift_lab::session::{Ended, Order, Session};
use sealift_lab::trial::{self, PORT, Trial, listening, runs_on};

/// Exit codes, as `sealift --help` lists them.
const STILL_AT_SOURCE: i32 = 5;

/// So slow that memory is on its way for some seconds, and not so slow that a test has no patience for it.
const SLOW: [&str; 2] = ["--bandwidth", "1Mbit"];

/// A guest that moves, both ends under way.
struct Moving {
    trial: Trial,
    source: Guest,
    destination: Guest,
    sender: Session,
    receiver: Session,
}

impl Moving {
    fn start(by: impl FnOnce(Order) -> Order) -> Self {
        let trial = Trial::new().unwrap();
        let launch = trial::launch().unwrap();
        let source = trial.running(&launch).unwrap();
        let destination = trial.waiting(&launch).unwrap();
        let mut receiver = listening(&trial.managed(&destination)).unwrap();
        let sender = by(trial.migrate(&source, PORT)).start().unwrap();
        receiver.wait_stage("pre_copy").unwrap();
        Self {
            trial,
            source,
            destination,
            sender,
            receiver,
        }
    }

    /// Both say that they are interrupted.
    fn wait_interrupted(&mut self) {
        self.sender.wait_event("interrupted", |_| true).unwrap();
        self.receiver.wait_event("interrupted", |_| true).unwrap();
    }

    /// The guest moves all the same, and is whole. Returns what both ends said.
    fn moves(mut self) -> (Ended, Ended) {
        let (sent, received) = (self.sender.wait().unwrap(), self.receiver.wait().unwrap());
        let said = format!("{}\n{}", sent.said(), received.said());
        assert_eq!((sent.code, received.code), (Some(0), Some(0)), "{said}");
        goes_on(&self.source, &mut self.destination).unwrap();
        (sent, received)
    }
}

fn count(ended: &Ended, name: &str) -> usize {
    let named = |event: &&serde_json::Value| event["event"] == name;
    ended.events.iter().filter(named).count()
}

#[test]
fn a_link_that_loses_everything_for_a_while_costs_only_that() {
    let mut moving = Moving::start(|order| order.with(SLOW));
    moving.trial.hosts().cut().unwrap();
    moving.wait_interrupted();
    // The guest does not wait for it.
    runs_on(&mut moving.source).unwrap();
    moving.trial.hosts().heal().unwrap();
    let (sent, received) = moving.moves();
    assert_eq!(count(&sent, "resumed"), 1, "{}", sent.said());
    assert_eq!(count(&received, "resumed"), 1, "{}", received.said());
    assert!(sent.last("resumed")["after_ms"].as_f64().unwrap() > 0.0);
}

#[test]
fn connections_that_are_reset_are_made_anew_whichever_they_are() {
    // One of its lanes, or its control channel; then all.
    let moving = Moving::start(|order| order.with(SLOW).with(["--lanes", "4"]));
    for most in [1, 2, 9] {
        let before = count_so_far(&moving.sender, "resumed");
        let connections = moving.trial.hosts().a().reset(PORT, most).unwrap();
        assert_eq!(connections, most.min(5));
        until(|| count_so_far(&moving.sender, "resumed") > before);
    }
    let (sent, received) = moving.moves();
    assert!(count(&sent, "resumed") >= 3, "{}", sent.said());
    assert_eq!(
        count(&sent, "resumed"),
        count(&received, "resumed"),
        "{}",
        received.said()
    );
}

fn count_so_far(session: &Session, name: &str) -> usize {
    let events = session.events().unwrap();
    events.iter().filter(|event| event["event"] == name).count()
}

/// Waits until it is so.
fn until(holds: impl Fn() -> bool) {
    let deadline = Instant::now() + sealift_lab::guest::PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "it does not come");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_link_that_does_not_come_back_leaves_the_guest_where_it_is() {
    let mut moving = Moving::start(|order| order.with(SLOW).with(["--resume-for", "1s"]));
    moving.trial.hosts().cut().unwrap();
    let sent = moving.sender.wait().unwrap();
    assert_eq!(sent.code, Some(STILL_AT_SOURCE), "{}", sent.said());
    assert!(
        sent.message().contains("could not come back within 1"),
        "{}",
        sent.said()
    );
    runs_on(&mut moving.source).unwrap();
    // The receiver waits for somewhat longer, and then its QEMU is ended.
    let received = moving.receiver.wait().unwrap();
    assert_eq!(received.code, Some(STILL_AT_SOURCE), "{}", received.said());
    assert!(
        received.message().contains("did not come back within"),
        "{}",
        received.said()
    );
}

#[test]
fn a_receiver_that_was_started_anew_does_not_have_the_session() {
    let mut moving = Moving::start(|order| order.with(SLOW));
    moving.receiver.kill().unwrap();
    moving.sender.wait_event("interrupted", |_| true).unwrap();
    let launch = trial::launch().unwrap();
    let another = moving.trial.waiting(&launch).unwrap();
    let mut receiver = listening(&moving.trial.managed(&another)).unwrap();
    let sent = moving.sender.wait().unwrap();
    assert_eq!(sent.code, Some(STILL_AT_SOURCE), "{}", sent.said());
    assert!(
        sent.message().contains("does not have any more"),
        "{}",
        sent.said()
    );
    runs_on(&mut moving.source).unwrap();
    receiver.terminate().unwrap();
    receiver.wait_event("warning", |_| true).unwrap();
}

#[test]
fn without_resuming_the_first_connection_that_breaks_ends_it() {
    let mut moving = Moving::start(|order| order.with(SLOW).with(["--resume-for", "0s"]));
    moving.trial.hosts().a().reset(PORT, 1).unwrap();
    let (sent, received) = (
        moving.sender.wait().unwrap(),
        moving.receiver.wait().unwrap(),
    );
    assert_eq!(sent.code, Some(STILL_AT_SOURCE), "{}", sent.said());
    assert_eq!(received.code, Some(STILL_AT_SOURCE), "{}", received.said());
    assert_eq!(count(&sent, "interrupted"), 0);
    runs_on(&mut moving.source).unwrap();
}
