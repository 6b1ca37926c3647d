//! The ways in which `sealift migrate` is asked to move a guest: paused first, by few and by many lanes, with control sockets over TCP,
//! to a receiver that allows anyone, and on from where it came to.
#![allow(
    clippy::unwrap_used,
    reason = "the tests share functions, and those are tests as well"
)]

use std::thread;
use std::time::{Duration, Instant};

use sealift_identity::Side;
use sealift_lab::certificates::{Certificates, Validity};
use sealift_lab::guest::{Guest, Launch, PATIENCE};
use sealift_lab::hosts::Host;
use sealift_lab::migration::goes_on;
use sealift_lab::program;
use sealift_lab::session::{Ended, Order};
use sealift_lab::trial::{
    self, PORT, RECEIVER, SOURCE, Trial, incoming, listening, runs, runs_on, state, wait_state,
};
use serde_json::{Value, json};

/// Exit codes, as `sealift --help` lists them.
const REFUSED: i32 = 3;
const AUTHENTICATION: i32 = 4;
const CANCELLED: i32 = 7;

/// Where QEMU's control socket is on either host, if it is on TCP: a host has its own loopback, and nobody else is on it.
const TCP_CONTROL: &str = "tcp:127.0.0.1:4440";

fn launch() -> Launch {
    trial::launch().unwrap()
}

fn running(launch: &Launch, on: &Host) -> Guest {
    let mut guest = launch.clone().on(on).start().unwrap();
    guest.wait_tick(2).unwrap();
    guest
}

fn waiting(launch: &Launch, on: &Host) -> Guest {
    launch.clone().on(on).incoming().start().unwrap()
}

/// A guest that runs at the source, and a QEMU that waits for it.
fn pair(trial: &Trial, launch: &Launch) -> (Guest, Guest) {
    let hosts = trial.hosts();
    (running(launch, hosts.a()), waiting(launch, hosts.b()))
}

/// Both ends come to a good end, and the guest is the destination's.
fn moves(send: &Order, receive: &Order) -> Ended {
    let receiver = listening(receive).unwrap();
    let sent = send.start().unwrap().wait().unwrap();
    assert_eq!(sent.code, Some(0), "{}", sent.said());
    let received = receiver.wait().unwrap();
    assert_eq!(received.code, Some(0), "{}", received.said());
    assert_eq!(sent.last("outcome")["guest_at"], "destination");
    sent
}

/// The guest runs at the destination, with its memory whole, and no more at the source.
fn has_moved(source: &mut Guest, destination: &mut Guest) {
    assert!(!runs(source));
    wait_state(destination, "running").unwrap();
    goes_on(source, destination).unwrap();
}

#[test]
fn a_guest_that_is_paused_for_its_move_runs_at_the_destination() {
    let trial = Trial::new().unwrap();
    let (mut source, mut destination) = pair(&trial, &launch());
    let send = trial.migrate(&source, PORT).with(["--no-live"]);
    let sent = moves(&send, &trial.managed(&destination));
    // It stood still from before the first page until it ran again.
    assert!(sent.last("blackout")["true_ms"].is_number());
    has_moved(&mut source, &mut destination);
}

#[test]
fn a_guest_that_stood_still_before_its_move_stands_still_after_it() {
    let trial = Trial::new().unwrap();
    let (mut source, mut destination) = pair(&trial, &launch());
    source.qmp().execute("stop", Value::Null).unwrap();
    let send = trial.migrate(&source, PORT).with(["--no-live"]);
    moves(&send, &trial.managed(&destination));
    wait_state(&mut destination, "paused").unwrap();
    destination.qmp().execute("cont", Value::Null).unwrap();
    has_moved(&mut source, &mut destination);
}

#[test]
fn a_guest_that_was_paused_for_a_move_that_is_cancelled_runs_again() {
    let trial = Trial::new().unwrap();
    let (mut source, mut destination) = pair(&trial, &launch());
    let receiver = listening(&trial.managed(&destination)).unwrap();
    // So slow that the guest, which changes nothing any more, takes longer than any test waits.
    let send = trial.migrate(&source, PORT);
    let send = send.with([
        "--no-live",
        "--bandwidth",
        "20kbit",
        "--max-downtime",
        "1ms",
    ]);
    let mut sender = send.start().unwrap();
    sender.wait_stage("pre_copy").unwrap();
    assert!(!runs(&mut source));
    sender.interrupt().unwrap();
    let (sent, received) = (sender.wait().unwrap(), receiver.wait().unwrap());
    let said = format!("{}{}", sent.said(), received.said());
    let codes = (sent.code, received.code);
    assert_eq!(codes, (Some(CANCELLED), Some(CANCELLED)), "{said}");
    assert_eq!(sent.last("outcome")["guest_at"], "source");
    runs_on(&mut source).unwrap();
    assert!(!runs(&mut destination));
}

/// The source's order comes to this, and the guest runs on where it was.
fn is_refused(guest: &mut Guest, send: &Order, receive: &Order, code: i32) {
    let mut receiver = listening(receive).unwrap();
    let sent = send.start().unwrap().wait().unwrap();
    assert_eq!(sent.code, Some(code), "{}", sent.said());
    assert_eq!(sent.last("outcome")["guest_at"], "source");
    receiver.wait_event("warning", |_| true).unwrap();
    receiver.terminate().unwrap();
    assert_eq!(receiver.wait().unwrap().code, Some(CANCELLED));
    runs_on(guest).unwrap();
}

#[test]
fn a_guest_that_was_to_be_paused_for_a_move_that_is_refused_runs_on() {
    let trial = Trial::new().unwrap();
    let named = |name: &str| launch().arguments(["-name", name]);
    let (mut source, destination) = pair(&trial, &named("web1"));
    let send = trial.migrate(&source, PORT).with(["--no-live"]);

    // Refused before QEMU is touched …
    let receive = trial.managed(&destination);
    let others = receive.instead("--allow", "host-c");
    is_refused(&mut source, &send, &others, AUTHENTICATION);

    // … and when it stands still already, and its stream has begun.
    let other = waiting(&named("web2"), trial.hosts().b());
    is_refused(&mut source, &send, &trial.managed(&other), REFUSED);
}

/// All that QEMU has been told about migrations.
fn settings(guest: &mut Guest) -> [Value; 2] {
    let qmp = guest.qmp();
    ["query-migrate-capabilities", "query-migrate-parameters"]
        .map(|query| qmp.execute(query, Value::Null).unwrap())
}

/// The way back, which a [`Trial`] does not have.
fn back(trial: &Trial, guest: &Guest, to: &Guest) -> (Order, Order) {
    let hosts = trial.hosts();
    let at = format!("{}:{PORT}", hosts.a().ipv4());
    let order = |on: &Host, command: &str, files: &str, side: Side, guest: &Guest| {
        let journal = guest.path(&format!("journal-{side}"));
        Order::new(on, program::sealift().unwrap(), command)
            .with(["--json", "--pki"])
            .with([trial.certificates().path(files).as_os_str()])
            .with(["--journal".as_ref(), journal.as_os_str()])
            .with(["--qmp", &guest.free_control().to_string()])
    };
    let send = order(hosts.b(), "migrate", RECEIVER, Side::Source, guest);
    let receive = order(hosts.a(), "receive", SOURCE, Side::Receiver, to)
        .with(["--once", "--listen", &at, "--allow", RECEIVER])
        .with(["--qemu", &format!("unix:{}", incoming(to))]);
    (send.with(["--to", &at]), receive)
}

/// It is set up as it was, which `before` has.
fn is_set_up_as_before(guest: &mut Guest, before: &[Value; 2]) {
    let after = settings(guest);
    let mut capabilities = after[0].as_array().unwrap().iter();
    let off = |one: &Value| one["capability"] == "multifd" && one["state"] == false;
    assert!(capabilities.any(off), "multifd is on: {}", after[0]);
    assert_eq!(&after, before);
}

/// Saves the guest by QEMU alone, as whoever knows nothing of sealift does.
fn is_saved(guest: &mut Guest) {
    let file = guest.path("saved");
    let uri = format!("exec:cat > '{}'", file.display());
    let qmp = guest.qmp();
    qmp.execute("migrate", json!({ "uri": uri })).unwrap();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let told = qmp.execute("query-migrate", Value::Null).unwrap();
        let status = told["status"].as_str();
        if status == Some("completed") {
            break;
        }
        let given_up = matches!(status, Some("failed" | "cancelled"));
        assert!(!given_up, "QEMU does not save the guest: {told}");
        assert!(Instant::now() < deadline, "it does not end: {told}");
        thread::sleep(Duration::from_millis(10));
    }
    assert!(file.metadata().unwrap().len() > 0);
}

#[test]
fn a_guest_that_has_moved_moves_back_and_can_be_saved() {
    let trial = Trial::new().unwrap();
    let (mut first, mut second) = pair(&trial, &launch());
    let before = settings(&mut second);
    moves(&trial.migrate(&first, PORT), &trial.managed(&second));
    has_moved(&mut first, &mut second);
    is_set_up_as_before(&mut second, &before);

    let mut third = waiting(&launch(), trial.hosts().a());
    let before = settings(&mut third);
    let (send, receive) = back(&trial, &second, &third);
    moves(&send, &receive);
    has_moved(&mut second, &mut third);
    is_set_up_as_before(&mut third, &before);

    is_saved(&mut third);
}

#[test]
fn a_guest_moves_over_as_many_lanes_as_are_asked_for() {
    let trial = Trial::new().unwrap();
    for lanes in [1, 16] {
        let (mut source, mut destination) = pair(&trial, &launch());
        let send = trial.migrate(&source, PORT);
        let send = send.with(["--lanes", &lanes.to_string()]);
        let sent = moves(&send, &trial.managed(&destination));
        assert_eq!(sent.last("admitted")["lanes"], lanes);
        assert_eq!(sent.last("report")["lanes"], lanes);
        has_moved(&mut source, &mut destination);
    }
}

/// A QEMU that is asked over TCP as well.
fn with_tcp_control() -> Launch {
    let control = format!("{TCP_CONTROL},server=on,wait=off");
    launch().arguments(["-qmp", &control])
}

#[test]
fn a_guest_moves_between_qemus_that_are_controlled_over_tcp() {
    let trial = Trial::new().unwrap();
    let (mut source, mut destination) = pair(&trial, &with_tcp_control());
    let over_tcp = |order: Order| order.instead("--qmp", TCP_CONTROL);
    let send = over_tcp(trial.migrate(&source, PORT));
    let sent = moves(&send, &over_tcp(trial.managed(&destination)));
    assert_eq!(sent.last("report")["hand_off"], "managed");
    has_moved(&mut source, &mut destination);
}

/// QEMU writes the memory that is compared into a pipe, and only a unix socket can hand it one.
#[test]
fn a_guest_that_is_controlled_over_tcp_is_not_compared_in_full() {
    let trial = Trial::new().unwrap();
    let (mut source, destination) = pair(&trial, &with_tcp_control());
    let before = settings(&mut source);
    let mut receiver = listening(&trial.managed(&destination)).unwrap();
    let send = trial.migrate(&source, PORT).with(["--verify", "full"]);
    let send = send.instead("--qmp", TCP_CONTROL);
    let sent = send.start().unwrap().wait().unwrap();
    assert_ne!(sent.code, Some(0), "{}", sent.said());
    assert!(sent.said().contains("unix"), "{}", sent.said());
    let mut events = sent.events.iter();
    assert!(!events.any(|event| event["stage"] == "reservation"));
    assert_eq!(settings(&mut source), before);
    let told = source.qmp().execute("query-migrate", Value::Null).unwrap();
    assert!(told["status"].is_null(), "QEMU has migrated: {told}");
    runs_on(&mut source).unwrap();
    assert!(receiver.runs().unwrap());
}

#[test]
fn pages_of_zeros_are_counted_as_such() {
    let trial = Trial::new().unwrap();
    let (mut source, mut destination) = pair(&trial, &launch());
    let send = trial.migrate(&source, PORT);
    let sent = moves(&send, &trial.managed(&destination));
    let records = &sent.last("report")["records"];
    assert!(records["zero"]["pages"].as_u64() > Some(0), "{records}");
    has_moved(&mut source, &mut destination);
}

#[test]
fn a_receiver_that_allows_anyone_takes_whomever_the_ca_knows() {
    let trial = Trial::new().unwrap();
    let (mut source, mut destination) = pair(&trial, &launch());
    let send = trial.migrate(&source, PORT);
    let receive = trial.receive(RECEIVER, PORT).with([
        "--allow-any",
        "--qemu",
        &format!("unix:{}", incoming(&destination)),
        "--qmp",
        &destination.free_control().to_string(),
    ]);

    let address = trial.hosts().a().ipv4().to_string();
    let others = Certificates::new().unwrap();
    let foreign = others.issue(SOURCE, &address, Validity::Now).unwrap();
    let by_foreign = send.clone().instead("--pki", foreign);
    is_refused(&mut source, &by_foreign, &receive, AUTHENTICATION);
    assert_eq!(state(&mut destination).as_deref(), Some("inmigrate"));

    let issued = trial
        .certificates()
        .issue("host-z", &address, Validity::Now);
    moves(&send.instead("--pki", issued.unwrap()), &receive);
    has_moved(&mut source, &mut destination);
}
