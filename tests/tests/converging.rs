//! Guests that change their memory faster than the link carries the changes: what is done about them is what was asked for.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "the tests share functions, and those are tests as well"
)]

use std::thread;
use std::time::{Duration, Instant};

use sealift_lab::guest::{Guest, Launch, PATIENCE};
use sealift_lab::image::Workload;
use sealift_lab::migration::goes_on;
use sealift_lab::qemu::{self, Machine, Qemu};
use sealift_lab::session::{Ended, Order, Session};
use sealift_lab::trial::{self, PORT, Trial, listening, runs, runs_on, wait_state};
use sealift_lab::whole_matrix;
use serde_json::{Value, json};

/// As `sealift --help` lists them.
const STILL_AT_SOURCE: i32 = 5;
const CANCELLED: i32 = 7;

/// A guest that never writes the same content twice: thousands of pages a second, of which one in eight is noise.
const BUSY: Workload = Workload {
    pages: 1024,
    hot: 1024,
    gap: 100,
    tick: 256,
    seeds: u32::MAX / 2,
};

/// So slow a link that such a guest's pages, all of which have changed in each round, take ten times as long as it may stand still, however well the others are compressed.
const TOO_LITTLE: [&str; 4] = ["--bandwidth", "8Mbit", "--max-downtime", "100ms"];
/// So short a standstill that not even the most throttling comes to it.
const NEVER: &str = "11ms";
/// Events, of which at least five come in a second, before the end of which a guest would be slowed: after five seconds.
const LONG: usize = 150;

/// QEMUs to move between: the newest, and in the whole matrix the others too.
fn qemus() -> Vec<Qemu> {
    let mut all = qemu::all().unwrap();
    match whole_matrix() {
        true => all,
        false => all.split_off(all.len() - 1),
    }
}

/// Ways to the memory of a guest that is to be held back. An old QEMU does not wait for the destination's word before it stops the guest, and only a stream that is
/// read slowly keeps it from that.
fn ways(qemu: &Qemu) -> &'static [&'static str] {
    match qemu.is_modern() {
        true => &["process", "stream"],
        false => &["stream"],
    }
}

/// All of them, of each QEMU.
fn qemus_and_ways() -> impl Iterator<Item = (Qemu, &'static str)> {
    qemus().into_iter().flat_map(|qemu| {
        let ways = ways(&qemu).iter();
        ways.map(move |&way| (qemu.clone(), way))
    })
}

fn busy(qemu: &Qemu) -> Launch {
    let launch = Launch::new(qemu, &qemu.machine(Machine::Q35));
    match qemu.is_modern() {
        true => launch.workload(BUSY),
        // For an old QEMU a page is gone when it is on its way: this is far more than fits there.
        false => launch.memory("24004K").workload(Workload {
            pages: 4096,
            hot: 4096,
            ..BUSY
        }),
    }
}

/// `sealift migrate` over the slow link.
fn order(trial: &Trial, source: &Guest, way: &str, what: &str) -> Order {
    let order = trial
        .migrate(source, PORT)
        .with(TOO_LITTLE)
        .with(["--access", way]);
    match what {
        "" => order,
        what => order.with(["--if-not-converging", what]),
    }
}

/// What QEMU goes by when it migrates, as somebody set it.
fn settings(guest: &mut Guest) -> (Value, Value) {
    let mut ask = |command| guest.qmp().execute(command, Value::Null).unwrap();
    (
        ask("query-migrate-parameters"),
        ask("query-migrate-capabilities"),
    )
}

/// For how many hundredths of the time QEMU stops the guest's processors; none when it does not.
fn throttled(guest: &mut Guest) -> Option<u64> {
    let migration = guest.qmp().execute("query-migrate", Value::Null).unwrap();
    migration["cpu-throttle-percentage"].as_u64()
}

fn wait_throttled(guest: &mut Guest, percent: u64) {
    let deadline = Instant::now() + PATIENCE;
    while throttled(guest) != Some(percent) {
        assert!(Instant::now() < deadline, "{:?}", throttled(guest));
        thread::sleep(Duration::from_millis(20));
    }
}

fn slowed(event: &Value) -> Option<u64> {
    let message = event["message"].as_str()?;
    let (_, rest) = message.split_once("processors are stopped for ")?;
    rest.split_once(" %")?.0.parse().ok()
}

/// All steps, in the order in which they were told.
fn steps(ended: &Ended) -> Vec<u64> {
    ended.events.iter().filter_map(slowed).collect()
}

/// The guest was not let go before it was slowed.
fn is_slowed_before_it_stops(ended: &Ended) -> bool {
    let stops = |event: &Value| event["event"] == "stage" && event["stage"] == "stop_and_copy";
    let mut events = ended.events.iter();
    let first = events.find(|event| stops(event) || slowed(event).is_some());
    first.is_some_and(|event| !stops(event)) && events.any(stops)
}

/// Waits until it has ended. Step by step takes its time: each may take as long as anything else.
fn wait_slowed(session: &mut Session) {
    let told = |session: &Session| {
        let events = session.events().unwrap();
        events.iter().filter_map(slowed).count()
    };
    let (mut steps, mut deadline) = (0, Instant::now() + PATIENCE);
    while session.runs().unwrap() && Instant::now() < deadline {
        let now = told(session);
        if now > steps {
            (steps, deadline) = (now, Instant::now() + PATIENCE);
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn wait_not_converging(session: &mut Session) {
    let says = |event: &Value| {
        let message = event["message"].as_str().unwrap_or_default();
        message.contains("the link delivers")
    };
    session.wait_event("warning", says).unwrap();
}

#[test]
fn a_guest_that_does_not_converge_stays_where_it_is_if_that_is_asked_for() {
    let trial = Trial::new().unwrap();
    for (qemu, way) in qemus_and_ways() {
        let launch = busy(&qemu);
        let mut source = trial.running(&launch).unwrap();
        let waiting = trial.waiting(&launch).unwrap();
        let before = settings(&mut source);
        let receiver = listening(&trial.managed(&waiting)).unwrap();
        let order = order(&trial, &source, way, "abort").instead("--max-downtime", NEVER);
        let sent = order.start().unwrap().wait().unwrap();
        let said = sent.said();
        assert_eq!(sent.code, Some(STILL_AT_SOURCE), "{said}");
        let outcome = sent.last("outcome");
        assert_eq!(
            (&outcome["fault"], &outcome["guest_at"]),
            (&json!("guest"), &json!("source"))
        );
        assert!(sent.message().contains("the link delivers"), "{said}");
        let advice = outcome["advice"].as_str().unwrap();
        assert!(advice.contains("--max-downtime"), "{advice}");
        assert!(steps(&sent).is_empty(), "{said}");

        let received = receiver.wait().unwrap();
        assert_eq!(received.code, Some(STILL_AT_SOURCE), "{}", received.said());
        runs_on(&mut source).unwrap();
        assert_eq!(settings(&mut source), before);
    }
}

#[test]
fn it_is_slowed_until_it_moves_if_that_is_asked_for_and_is_not_slow_there() {
    let trial = Trial::new().unwrap();
    for (qemu, way) in qemus_and_ways() {
        trial::spared(|| is_slowed_until_it_moves(&trial, &qemu, way)).unwrap();
    }
}

/// None where QEMU lost a write.
fn is_slowed_until_it_moves(trial: &Trial, qemu: &Qemu, way: &str) -> Option<()> {
    let launch = busy(qemu);
    let mut source = trial.running(&launch).unwrap();
    let mut waiting = trial.waiting(&launch).unwrap();
    let receiver = listening(&trial.managed(&waiting)).unwrap();
    let order = order(trial, &source, way, "throttle").with(["--keep-source", "--verify", "full"]);
    let mut sender = order.start().unwrap();
    wait_slowed(&mut sender);
    let sent = sender.wait().unwrap();
    let received = receiver.wait().unwrap();
    if trial::lost_a_write(&sent) {
        return None;
    }
    let said = sent.said();
    assert_eq!(sent.code, Some(0), "{said}");
    let steps = steps(&sent);
    assert!(is_slowed_before_it_stops(&sent), "{said}");
    assert!(steps.is_sorted(), "{steps:?} {said}");
    assert!(steps.iter().all(|percent| (20..=95).contains(percent)));
    assert_eq!(received.code, Some(0));

    assert!(!runs(&mut source));
    wait_state(&mut waiting, "running").unwrap();
    assert_eq!(throttled(&mut waiting), None);
    goes_on(&source, &mut waiting).unwrap();
    Some(())
}

#[test]
fn a_slowed_guest_that_stays_after_all_is_slow_no_more() {
    let trial = Trial::new().unwrap();
    for (qemu, way) in qemus_and_ways() {
        let launch = busy(&qemu);
        let mut source = trial.running(&launch).unwrap();
        let waiting = trial.waiting(&launch).unwrap();
        let before = settings(&mut source);
        let receiver = listening(&trial.managed(&waiting)).unwrap();
        // It is to be cancelled before it has moved.
        let order = order(&trial, &source, way, "throttle").instead("--max-downtime", NEVER);
        let mut sender = order.start().unwrap();
        let warning = |event: &Value| slowed(event).is_some();
        let step = slowed(&sender.wait_event("warning", warning).unwrap()).unwrap();
        wait_throttled(&mut source, step);
        sender.interrupt().unwrap();
        assert_eq!(sender.wait().unwrap().code, Some(CANCELLED));
        assert_ne!(receiver.wait().unwrap().code, Some(0));
        runs_on(&mut source).unwrap();
        assert_eq!(throttled(&mut source), None);
        assert_eq!(settings(&mut source), before);
    }
}

#[test]
fn it_is_said_and_it_goes_on_unless_something_else_is_asked_for() {
    let trial = Trial::new().unwrap();
    for (qemu, way) in qemus_and_ways() {
        let launch = busy(&qemu);
        let mut source = trial.running(&launch).unwrap();
        let waiting = trial.waiting(&launch).unwrap();
        let receiver = listening(&trial.managed(&waiting)).unwrap();
        let order = order(&trial, &source, way, "").instead("--max-downtime", NEVER);
        let mut sender = order.start().unwrap();
        wait_not_converging(&mut sender);
        // Longer than what makes it end or slow the guest takes.
        let after = sender.events().unwrap().len() + LONG;
        while sender.events().unwrap().len() < after {
            assert!(sender.runs().unwrap());
            thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(throttled(&mut source), None);
        sender.interrupt().unwrap();
        let sent = sender.wait().unwrap();
        assert_eq!(sent.code, Some(CANCELLED), "{}", sent.said());
        assert!(steps(&sent).is_empty());
        assert_ne!(receiver.wait().unwrap().code, Some(0));
        runs_on(&mut source).unwrap();
    }
}

#[test]
fn a_qemu_that_migrates_by_somebody_elses_order_is_slowed_if_it_can_be() {
    let trial = Trial::new().unwrap();
    let qemu = qemu::all().unwrap().pop().unwrap();
    trial::spared(|| is_slowed_by_somebody_elses_order(&trial, &qemu)).unwrap();
}

/// None where QEMU lost a write.
fn is_slowed_by_somebody_elses_order(trial: &Trial, qemu: &Qemu) -> Option<()> {
    let launch = busy(qemu);
    let mut source = trial.running(&launch).unwrap();
    let mut waiting = trial.waiting(&launch).unwrap();
    let receiver = listening(&trial.managed(&waiting)).unwrap();
    let before = settings(&mut source).0;

    let sent = sends_by_somebody_elses_order(trial, &mut source, false);
    let said = sent.said();
    assert_eq!(sent.code, Some(STILL_AT_SOURCE), "{said}");
    assert!(sent.message().contains("auto-converge"), "{said}");
    runs_on(&mut source).unwrap();

    let sent = sends_by_somebody_elses_order(trial, &mut source, true);
    let received = receiver.wait().unwrap();
    if trial::lost_a_write(&sent) {
        return None;
    }
    assert_eq!(sent.code, Some(0), "{}", sent.said());
    assert_eq!(settings(&mut source).0, before, "it was lent");
    assert_eq!(received.code, Some(0));
    wait_state(&mut waiting, "running").unwrap();
    goes_on(&source, &mut waiting).unwrap();
    Some(())
}

/// `sealift send`, which is to throttle, of a QEMU that somebody else orders to migrate.
fn sends_by_somebody_elses_order(trial: &Trial, source: &mut Guest, auto_converge: bool) -> Ended {
    let listen = format!("unix:{}", source.path("outgoing").display());
    let order = trial
        .send(PORT)
        .with(["--listen", &listen, "--verify", "full"])
        .with(["--qmp", &source.free_control().to_string()])
        .with(["--if-not-converging", "throttle"])
        .with(["--max-downtime", "100ms"]);
    let mut sender = order.start().unwrap();
    sender.wait_listening().unwrap();
    let on = |name: &str, state: bool| json!({ "capability": name, "state": state });
    let capabilities = [
        on("return-path", true),
        on("switchover-ack", true),
        on("auto-converge", auto_converge),
    ];
    let capabilities = json!({ "capabilities": capabilities });
    let qmp = source.qmp();
    qmp.execute("migrate-set-capabilities", capabilities)
        .unwrap();
    qmp.execute("migrate", json!({ "uri": listen })).unwrap();
    sender.wait().unwrap()
}

#[test]
fn somebody_elses_auto_converge_is_held_and_it_is_said_once() {
    let trial = Trial::new().unwrap();
    for qemu in qemus() {
        let launch = busy(&qemu);
        let mut source = trial.running(&launch).unwrap();
        let waiting = trial.waiting(&launch).unwrap();
        let receiver = listening(&trial.managed(&waiting)).unwrap();
        let listen = format!("unix:{}", source.path("outgoing").display());
        let order = trial
            .send(PORT)
            .with(["--listen", &listen])
            .with(["--qmp", &source.free_control().to_string()]);
        let mut sender = order.start().unwrap();
        sender.wait_listening().unwrap();
        let mut on = vec!["return-path", "auto-converge"];
        on.extend(qemu.is_modern().then_some("switchover-ack"));
        let on: Vec<_> = on
            .iter()
            .map(|name| json!({ "capability": name, "state": true }))
            .collect();
        let qmp = source.qmp();
        qmp.execute("migrate-set-capabilities", json!({ "capabilities": on }))
            .unwrap();
        // So slow that it is under way for as long as this takes.
        let slow = json!({ "max-bandwidth": 256 << 10, "max-cpu-throttle": 80 });
        qmp.execute("migrate-set-parameters", slow).unwrap();
        let before = settings(&mut source).0;
        let qmp = source.qmp();
        qmp.execute("migrate", json!({ "uri": listen })).unwrap();
        let warns = |event: &Value| {
            let message = event["message"].as_str().unwrap_or_default();
            message.contains("auto-converge is on")
        };
        sender.wait_event("warning", warns).unwrap();
        sender.wait_stage("pre_copy").unwrap();
        let held = settings(&mut source).0;
        assert_eq!(held["max-cpu-throttle"], 1, "{held}");
        sender.interrupt().unwrap();
        let sent = sender.wait().unwrap();
        assert_eq!(sent.code, Some(CANCELLED), "{}", sent.said());
        let warned = sent.events.iter().filter(|event| warns(event));
        assert_eq!(warned.count(), 1, "{}", sent.said());
        assert_ne!(receiver.wait().unwrap().code, Some(0));
        runs_on(&mut source).unwrap();
        assert_eq!(settings(&mut source).0, before, "it was lent");
    }
}
