//! Links that break while a guest moves, and come back or do not.
#![allow(
    clippy::unwrap_used,
    reason = "the tests share functions, and those are tests as well"
)]

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use sealift_identity::Side;
use sealift_lab::guest::Guest;
use sealift_lab::migration::goes_on;
use sealift_lab::session::{Ended, Order, Session};
use sealift_lab::trial::{self, PORT, RECEIVER, Trial, listening, runs_on};
use sealift_lab::whole_matrix;

/// Exit codes, as `sealift --help` lists them.
const STILL_AT_SOURCE: i32 = 5;

/// So slow that memory is on its way for some seconds, and not so slow that a test has no patience for it.
const SLOW: [&str; 2] = ["--bandwidth", "1Mbit"];

/// Memory is compared, so that what QEMU has lost is told from what sealift has.
const VERIFIED: [&str; 2] = ["--verify", "full"];

/// A guest that moves, both ends under way.
struct Moving {
    trial: Trial,
    source: Guest,
    destination: Guest,
    sender: Session,
    receiver: Session,
}

impl Moving {
    /// Until pages flow.
    fn start(by: impl FnOnce(Order) -> Order) -> Self {
        let mut moving = Self::ordered(by, |order| order);
        moving.receiver.wait_stage("pre_copy").unwrap();
        moving
    }

    /// With these changes to what either end is told.
    fn ordered(by: impl FnOnce(Order) -> Order, to: impl FnOnce(Order) -> Order) -> Self {
        let trial = Trial::new().unwrap();
        let launch = trial::launch().unwrap();
        let source = trial.running(&launch).unwrap();
        let destination = trial.waiting(&launch).unwrap();
        let receiver = listening(&to(trial.managed(&destination))).unwrap();
        let order = trial.migrate(&source, PORT).with(VERIFIED);
        let sender = by(order).start().unwrap();
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

    /// The guest moves all the same, and is whole. Returns what both ends said; nothing when QEMU lost a write.
    fn moves(mut self) -> Option<(Ended, Ended)> {
        let (sent, received) = (self.sender.wait().unwrap(), self.receiver.wait().unwrap());
        if trial::lost_a_write(&sent) {
            return None;
        }
        let said = format!("{}\n{}", sent.said(), received.said());
        assert_eq!((sent.code, received.code), (Some(0), Some(0)), "{said}");
        goes_on(&self.source, &mut self.destination).unwrap();
        Some((sent, received))
    }
}

fn count(ended: &Ended, name: &str) -> usize {
    let named = |event: &&serde_json::Value| event["event"] == name;
    ended.events.iter().filter(named).count()
}

#[test]
fn a_link_that_loses_everything_for_a_while_costs_only_that() {
    trial::spared(|| {
        let mut moving = Moving::start(|order| order.with(SLOW));
        moving.trial.hosts().cut().unwrap();
        moving.wait_interrupted();
        // The guest does not wait for it.
        runs_on(&mut moving.source).unwrap();
        moving.trial.hosts().heal().unwrap();
        let (sent, received) = moving.moves()?;
        assert_eq!(count(&sent, "resumed"), 1, "{}", sent.said());
        assert_eq!(count(&received, "resumed"), 1, "{}", received.said());
        assert!(sent.last("resumed")["after_ms"].as_f64().unwrap() > 0.0);
        Some(())
    })
    .unwrap();
}

#[test]
fn connections_that_are_reset_are_made_anew_whichever_they_are() {
    trial::spared(|| {
        // One of its lanes, or its control channel; then all.
        let moving = Moving::start(|order| order.with(SLOW).with(["--lanes", "4"]));
        for most in [1, 2, 9] {
            let before = count_so_far(&moving.sender, "resumed");
            let connections = moving.trial.hosts().a().reset(PORT, most).unwrap();
            assert_eq!(connections, most.min(5));
            until(|| count_so_far(&moving.sender, "resumed") > before);
        }
        let (sent, received) = moving.moves()?;
        assert!(count(&sent, "resumed") >= 3, "{}", sent.said());
        assert_eq!(
            count(&sent, "resumed"),
            count(&received, "resumed"),
            "{}",
            received.said()
        );
        Some(())
    })
    .unwrap();
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

/// All connections are reset while an end is at a step of the hand-off.
fn reset_at(side: Side, step: &str) -> Option<()> {
    let held = |order: Order| order.held_for(step, 1);
    let mut moving = match side {
        Side::Source => Moving::ordered(held, |order| order),
        Side::Receiver => Moving::ordered(|order| order, held),
    };
    match side {
        Side::Source => moving.sender.wait_held().unwrap(),
        Side::Receiver => moving.receiver.wait_held().unwrap(),
    }
    moving.trial.hosts().a().reset(PORT, 9).unwrap();
    let (sent, received) = moving.moves()?;
    assert!(count(&sent, "resumed") >= 1, "{step}: {}", sent.said());
    assert!(
        count(&received, "resumed") >= 1,
        "{step}: {}",
        received.said()
    );
    Some(())
}

#[test]
fn connections_that_are_reset_while_the_guest_is_handed_over_change_nothing_about_it() {
    let few = [
        (Side::Source, "before-say-drained"),
        (Side::Receiver, "before-load"),
        (Side::Source, "before-say-commit"),
    ];
    let others = [
        (Side::Source, "before-say-pre-copy"),
        (Side::Source, "before-say-stop-and-copy"),
        (Side::Source, "after-say-drained"),
        (Side::Receiver, "before-say-prepared"),
        (Side::Receiver, "after-say-prepared"),
        (Side::Source, "before-say-intent"),
        (Side::Source, "before-shut"),
        (Side::Source, "after-shut"),
        (Side::Source, "after-say-commit"),
        (Side::Receiver, "before-continue"),
        (Side::Receiver, "before-say-active"),
    ];
    let all = few.iter().chain(others.iter().filter(|_| whole_matrix()));
    thread::scope(|scope| {
        for &(side, step) in all {
            scope.spawn(move || trial::spared(|| reset_at(side, step)).unwrap());
        }
    });
}

#[test]
fn an_end_that_stands_still_is_waited_for() {
    trial::spared(|| {
        for stopped in [Side::Source, Side::Receiver] {
            let mut moving = Moving::start(|order| order.with(SLOW));
            let (still, other) = match stopped {
                Side::Source => (&moving.sender, &mut moving.receiver),
                Side::Receiver => (&moving.receiver, &mut moving.sender),
            };
            still.stop().unwrap();
            other.wait_event("interrupted", |_| true).unwrap();
            still.go_on().unwrap();
            let (sent, received) = moving.moves()?;
            assert_eq!(count(&sent, "resumed"), 1, "{}", sent.said());
            assert_eq!(count(&received, "resumed"), 1, "{}", received.said());
        }
        Some(())
    })
    .unwrap();
}

/// Carries connections on to a host, and flips one bit on the way there, of the first that has carried so much.
fn flip(listener: &TcpListener, to: SocketAddr, after: usize) {
    let flipped = Arc::new(AtomicBool::new(false));
    for from in listener.incoming() {
        let (Ok(from), Ok(to)) = (from, TcpStream::connect(to)) else {
            return;
        };
        let ways = [
            (from.try_clone().unwrap(), to.try_clone().unwrap(), after),
            (to, from, usize::MAX),
        ];
        for (from, to, after) in ways {
            let flipped = Arc::clone(&flipped);
            thread::spawn(move || carry(from, to, after, &flipped));
        }
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, after: usize, flipped: &AtomicBool) {
    let mut buffer = vec![0; 16 << 10];
    let mut carried = 0;
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        carried += read;
        if carried > after && !flipped.swap(true, Ordering::SeqCst) {
            buffer[read / 2] ^= 4;
        }
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}

#[test]
fn a_bit_that_is_flipped_on_the_way_costs_connections_and_no_more() {
    trial::spared(|| {
        let trial = Trial::new().unwrap();
        let launch = trial::launch().unwrap();
        let source = trial.running(&launch).unwrap();
        let destination = trial.waiting(&launch).unwrap();
        let receiver = listening(&trial.managed(&destination)).unwrap();
        let to = SocketAddr::new(trial.hosts().b().ipv4(), PORT);
        let on_the_way = trial.hosts().a().within(|| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            // More than a handshake says: it is a lane, well into a batch.
            thread::spawn(move || flip(&listener, to, 40_000));
            address
        });
        let sender = trial
            .migrate(&source, PORT)
            .instead("--to", on_the_way.unwrap().to_string())
            .with(["--peer-name", RECEIVER])
            .with(VERIFIED)
            .start()
            .unwrap();
        let moving = Moving {
            trial,
            source,
            destination,
            sender,
            receiver,
        };
        let (sent, received) = moving.moves()?;
        assert_eq!(count(&sent, "resumed"), 1, "{}", sent.said());
        let why = received.last("interrupted")["message"].as_str().unwrap();
        assert!(why.contains("lane"), "{}", received.said());
        Some(())
    })
    .unwrap();
}

#[test]
fn a_connection_that_falls_silent_beside_others_that_do_not_is_missed() {
    trial::spared(|| {
        let moving = Moving::start(|order| order.with(SLOW).with(["--lanes", "2"]));
        // Two of three: a lane is among them, and perhaps the control channel.
        assert_eq!(moving.trial.hosts().a().silence(PORT, 2).unwrap(), 2);
        let (sent, received) = moving.moves()?;
        assert_eq!(count(&sent, "resumed"), 1, "{}", sent.said());
        assert_eq!(count(&received, "resumed"), 1, "{}", received.said());
        Some(())
    })
    .unwrap();
}

#[test]
fn a_guest_that_has_stopped_does_not_stand_still_for_long() {
    let mut moving = Moving::ordered(
        |order| order.with(["--resume-for", "20s", "--max-blackout", "1s"]),
        |order| order.held_for("before-load", 1),
    );
    moving.receiver.wait_held().unwrap();
    moving.trial.hosts().cut().unwrap();
    let sent = moving.sender.wait().unwrap();
    assert_eq!(sent.code, Some(STILL_AT_SOURCE), "{}", sent.said());
    assert!(
        sent.message().contains("--max-blackout allows 1.0 s"),
        "{}",
        sent.said()
    );
    runs_on(&mut moving.source).unwrap();
    assert_ne!(
        trial::state(&mut moving.destination).as_deref(),
        Some("running")
    );
    moving.receiver.kill().unwrap();
}
