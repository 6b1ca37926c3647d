//! What is refused, and what is ended by hand: both ends say why, and the guest runs on at the source.
#![allow(
    clippy::unwrap_used,
    reason = "the tests share functions, and those are tests as well"
)]

use sealift_lab::certificates::{Certificates, Validity, show_the_servers_as_clients};
use sealift_lab::guest::{Guest, Launch};
use sealift_lab::qemu::{self, Machine, Qemu};
use sealift_lab::session::{Ended, Order};
use sealift_lab::trial::{self, RECEIVER, SOURCE, Trial, listening, runs, runs_on};
use sealift_lab::whole_matrix;
use serde_json::Value;

/// Exit codes, as `sealift --help` lists them.
const USAGE: i32 = 2;
const REFUSED: i32 = 3;
const AUTHENTICATION: i32 = 4;
const STILL_AT_SOURCE: i32 = 5;
const CANCELLED: i32 = 7;

fn newest() -> Qemu {
    qemu::all().unwrap().pop().unwrap()
}

fn launch() -> Launch {
    trial::launch().unwrap()
}

/// The guest's source says these words and ends with this code; the receiver says the others and goes on waiting. Then the guest runs on.
fn refused(guest: &mut Guest, send: &Order, receive: &Order, expected: (i32, &str, &str)) {
    let (code, at_source, at_receiver) = expected;
    let mut receiver = listening(receive).unwrap();
    let sent = send.start().unwrap().wait().unwrap();
    assert_eq!(sent.code, Some(code), "{}", sent.said());
    says(&sent, at_source);
    assert_eq!(sent.last("outcome")["guest_at"], "source");
    if !at_receiver.is_empty() {
        let warns = |warning: &Value| {
            let message = warning["message"].as_str();
            message.is_some_and(|message| message.contains(at_receiver))
        };
        receiver.wait_event("warning", warns).unwrap();
    }
    receiver.terminate().unwrap();
    assert_eq!(receiver.wait().unwrap().code, Some(CANCELLED));
    runs_on(guest).unwrap();
}

fn says(ended: &Ended, words: &str) {
    let message = ended.message();
    assert!(message.contains(words), "`{words}` is not in: {message}");
}

#[test]
fn whoever_is_not_who_it_must_be_is_refused_at_both_ends() {
    let trial = Trial::new().unwrap();
    let mut guest = trial.running(&launch()).unwrap();
    let waiting = trial.waiting(&launch()).unwrap();
    let address = trial.hosts().a().ipv4().to_string();
    let issue = |name| trial.certificates().issue(name, &address, Validity::Now);
    let (send, receive) = (trial.migrate(&guest, trial::PORT), trial.managed(&waiting));

    let others = Certificates::new().unwrap();
    let foreign = others.issue(SOURCE, &address, Validity::Now).unwrap();
    let words = "is not signed by a CA that this host knows";
    let expected = (AUTHENTICATION, words, "refused this host's certificate");
    let by_foreign = send.clone().instead("--pki", foreign);
    refused(&mut guest, &by_foreign, &receive, expected);

    let called = send.clone().with(["--peer-name", "host-c"]);
    let expected = (
        AUTHENTICATION,
        "not for host-c",
        "called this host by a name",
    );
    refused(&mut guest, &called, &receive, expected);

    let unknown = send.clone().instead("--pki", issue("host-z").unwrap());
    let expected = (AUTHENTICATION, "host-z", "host-z");
    refused(&mut guest, &unknown, &receive, expected);

    let revoked = issue("revoked").unwrap();
    let receivers = trial.certificates().path(RECEIVER);
    trial
        .certificates()
        .revoke_client(&revoked, &receivers)
        .unwrap();
    let by_revoked = send.instead("--pki", revoked);
    refused(
        &mut guest,
        &by_revoked,
        &receive,
        (AUTHENTICATION, "revoked", "revoked"),
    );
}

#[test]
fn certificates_that_the_peer_would_refuse_are_not_shown_to_it() {
    let trial = Trial::new().unwrap();
    let mut guest = trial.running(&launch()).unwrap();
    let waiting = trial.waiting(&launch()).unwrap();
    let issue = |name, validity| trial.certificates().issue(name, "10.77.0.1", validity);
    let server = issue("server", Validity::Now).unwrap();
    show_the_servers_as_clients(&server).unwrap();
    let expired = issue("expired", Validity::Expired).unwrap();
    let future = issue("future", Validity::NotYet).unwrap();
    let (send, receive) = (trial.migrate(&guest, trial::PORT), trial.managed(&waiting));
    for (files, words) in [
        (&expired, "expired on"),
        (&future, "is not valid before"),
        (&server, "lack clientAuth"),
    ] {
        let send = send.clone().instead("--pki", files);
        refused(&mut guest, &send, &receive, (AUTHENTICATION, words, ""));
    }
    for (files, words) in [(&expired, "expired on"), (&future, "is not valid before")] {
        let receive = receive.clone().instead("--pki", files);
        let received = receive.start().unwrap().wait().unwrap();
        assert_eq!(received.code, Some(AUTHENTICATION));
        says(&received, words);
    }
}

#[test]
fn a_destination_that_waits_for_another_guest_refuses_this_one() {
    let trial = Trial::new().unwrap();
    let uuid = |digit: &str| format!("00000000-0000-4000-8000-00000000000{digit}");
    let this = |name: &str, digit: &str| {
        launch().arguments([
            "-name".to_owned(),
            name.to_owned(),
            "-uuid".to_owned(),
            uuid(digit),
        ])
    };
    let mut guest = trial.running(&this("web1", "1")).unwrap();
    let send = trial.migrate(&guest, trial::PORT);
    let qemu = newest();
    let i440fx = Launch::new(&qemu, &qemu.machine(Machine::I440fx)).arguments([
        "-name".to_owned(),
        "web1".to_owned(),
        "-uuid".to_owned(),
        uuid("1"),
    ]);
    for (other, words) in [
        (
            this("web2", "1"),
            "the guest is called web1, the waiting QEMU's web2",
        ),
        (this("web1", "2"), "the guest's UUID is"),
        (i440fx, "the guest's machine type is"),
        (
            this("web1", "1").memory("4104K"),
            "the guest's RAM block pc.ram has",
        ),
    ] {
        let waiting = trial.waiting(&other).unwrap();
        refused(
            &mut guest,
            &send,
            &trial.managed(&waiting),
            (REFUSED, words, words),
        );
    }
    // A QEMU that runs a guest of its own.
    let mut busy = this("web1", "1").on(trial.hosts().b()).start().unwrap();
    let expected = (
        REFUSED,
        "does not wait for a guest",
        "does not wait for a guest",
    );
    refused(&mut guest, &send, &trial.managed(&busy), expected);
    runs_on(&mut busy).unwrap();
}

#[test]
fn a_guest_that_does_not_fit_into_the_destinations_memory_is_refused() {
    let trial = Trial::new().unwrap();
    // Nobody touches it: it takes no memory, and needs all of it.
    let huge = launch().memory("512G").arguments([
        "-object",
        "memory-backend-ram,id=huge,size=512G,reserve=off",
        "-machine",
        "memory-backend=huge",
    ]);
    let mut guest = trial.running(&huge).unwrap();
    let waiting = trial.waiting(&huge).unwrap();
    let words = "of memory, and the destination has";
    let send = trial.migrate(&guest, trial::PORT);
    refused(
        &mut guest,
        &send,
        &trial.managed(&waiting),
        (REFUSED, words, words),
    );
}

#[test]
fn a_target_takes_one_guest_at_a_time() {
    let trial = Trial::new().unwrap();
    let mut first = trial.running(&launch()).unwrap();
    let mut second = trial.running(&launch()).unwrap();
    let waiting = trial.waiting(&launch()).unwrap();
    let mut receiver = listening(&trial.managed(&waiting)).unwrap();
    let send = trial.migrate(&first, trial::PORT).crawling();
    let mut moving = send.start().unwrap();
    moving.wait_stage("pre_copy").unwrap();

    let send = trial.migrate(&second, trial::PORT);
    let sent = send.start().unwrap().wait().unwrap();
    assert_eq!(sent.code, Some(REFUSED), "{}", sent.said());
    says(&sent, "is taken by another session");
    receiver.wait_event("warning", |_| true).unwrap();
    runs_on(&mut second).unwrap();
    assert!(moving.runs().unwrap());
    moving.interrupt().unwrap();
    assert_eq!(moving.wait().unwrap().code, Some(CANCELLED));
    runs_on(&mut first).unwrap();
}

#[test]
fn a_guest_that_qemu_cannot_migrate_runs_on() {
    let trial = Trial::new().unwrap();
    let waiting = trial.waiting(&launch()).unwrap();
    let blocked = launch().arguments([
        "-object",
        "memory-backend-ram,id=shared,size=1M,share=on",
        "-device",
        "ivshmem-plain,memdev=shared,master=off",
    ]);
    let nvme = launch().arguments(["-device", "nvme,serial=1"]);
    for (launch, words) in [(blocked, "ivshmem"), (nvme, "nvme")] {
        let mut guest = trial.running(&launch).unwrap();
        let mut receiver = listening(&trial.managed(&waiting)).unwrap();
        let send = trial.migrate(&guest, trial::PORT);
        let sent = send.start().unwrap().wait().unwrap();
        assert_eq!(sent.code, Some(STILL_AT_SOURCE), "{}", sent.said());
        says(&sent, words);
        runs_on(&mut guest).unwrap();
        assert!(receiver.runs().unwrap());
        receiver.terminate().unwrap();
        receiver.wait().unwrap();
    }
}

#[test]
fn what_is_not_there_is_named() {
    let trial = Trial::new().unwrap();
    let mut guest = trial.running(&launch()).unwrap();
    let send = trial.migrate(&guest, trial::PORT);
    let sent = send.start().unwrap().wait().unwrap();
    assert_eq!(sent.code, Some(STILL_AT_SOURCE), "{}", sent.said());
    says(&sent, &trial.to(trial::PORT));

    let nowhere = send.clone().instead("--qmp", "/nowhere/qmp");
    let sent = nowhere.start().unwrap().wait().unwrap();
    assert_eq!(sent.code, Some(STILL_AT_SOURCE), "{}", sent.said());
    says(&sent, "/nowhere/qmp");

    let sent = send
        .clone()
        .with(["--warp"])
        .start()
        .unwrap()
        .wait()
        .unwrap();
    assert_eq!(sent.code, Some(USAGE));
    let receive = trial.receive(RECEIVER, trial::PORT);
    assert_eq!(receive.start().unwrap().wait().unwrap().code, Some(USAGE));
    runs_on(&mut guest).unwrap();

    // A second client of a control socket hangs, and that takes its time to tell from a slow QEMU.
    if whole_matrix() {
        let held = guest.held_control().to_string();
        let sent = send.instead("--qmp", held).start().unwrap().wait().unwrap();
        assert_eq!(sent.code, Some(STILL_AT_SOURCE), "{}", sent.said());
        runs_on(&mut guest).unwrap();
    }
}

#[test]
fn a_move_that_is_cancelled_leaves_the_guest_running() {
    for qemu in qemu::all().unwrap() {
        let launch = Launch::new(&qemu, &qemu.machine(Machine::Q35));
        for interrupted in [true, false] {
            let trial = Trial::new().unwrap();
            let mut guest = trial.running(&launch).unwrap();
            let mut waiting = trial.waiting(&launch).unwrap();
            let receiver = listening(&trial.managed(&waiting)).unwrap();
            let send = trial.migrate(&guest, trial::PORT).crawling();
            let mut sender = send.start().unwrap();
            sender.wait_stage("pre_copy").unwrap();
            match interrupted {
                true => sender.interrupt().unwrap(),
                false => sender.terminate().unwrap(),
            }
            let (sent, received) = (sender.wait().unwrap(), receiver.wait().unwrap());
            let codes = (sent.code, received.code);
            let said = format!("{}{}", sent.said(), received.said());
            assert_eq!(codes, (Some(CANCELLED), Some(CANCELLED)), "{said}");
            says(&sent, "cancelled at the source");
            assert_eq!(sent.last("outcome")["guest_at"], "source");
            runs_on(&mut guest).unwrap();
            assert!(!runs(&mut waiting));
        }
    }
}

#[test]
fn whatever_dies_while_pages_flow_the_guest_runs_on() {
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Dies {
        Sender,
        Receiver,
        Destination,
    }
    for dies in [Dies::Sender, Dies::Receiver, Dies::Destination] {
        let trial = Trial::new().unwrap();
        let mut guest = trial.running(&launch()).unwrap();
        let mut waiting = trial.waiting(&launch()).unwrap();
        let mut receiver = listening(&trial.managed(&waiting)).unwrap();
        let send = trial.migrate(&guest, trial::PORT).crawling();
        let sender = send.start().unwrap();
        receiver.wait_stage("pre_copy").unwrap();
        let survivors = match dies {
            Dies::Sender => {
                sender.kill().unwrap();
                vec![receiver]
            }
            Dies::Receiver => {
                receiver.kill().unwrap();
                vec![sender]
            }
            Dies::Destination => {
                waiting.kill().unwrap();
                vec![sender, receiver]
            }
        };
        for survivor in survivors {
            let ended = survivor.wait().unwrap();
            assert_eq!(
                ended.code,
                Some(STILL_AT_SOURCE),
                "{dies:?}: {}",
                ended.said()
            );
        }
        runs_on(&mut guest).unwrap();
        assert!(!runs(&mut waiting));
    }
}
