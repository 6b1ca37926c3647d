//! What people and programs read of an ending.

use super::*;
use sealift_session::control::Text;
use std::io;

fn text(text: &str) -> Text<1024> {
    Text::new("test", text.into()).unwrap()
}

fn failure(kind: ErrorKind, fault: control::Fault) -> Failure {
    let message = text("it broke");
    Failure {
        kind,
        fault,
        message,
    }
}

#[test]
fn each_kind_has_its_code() {
    assert_eq!(
        exit_codes(),
        "\
Exit codes:
  0  done; a guest that was to move has moved
  1  this host failed; no guest was touched
  2  the command line is wrong
  3  refused by the peer; the guest is still at the source
  4  authentication failed; the guest is still at the source
  5  the migration failed; the guest is still at the source
  6  outcome in doubt: start the guest nowhere before you know
  7  cancelled; the guest is still at the source"
    );
}

#[test]
fn a_refusal_tells_the_receivers_reason_and_where_the_guest_is() {
    let ending = Ending::refused(&Refused {
        kind: RefusalKind::Memory,
        explanation: text("4.00 GiB are needed, 2.10 GiB are free"),
    })
    .advice("make room at the destination, or choose another");
    assert_eq!(
        ending.to_string(),
        "\
sealift: the receiver refused the guest: 4.00 GiB are needed, 2.10 GiB are free
  fault  the peer
  to do  make room at the destination, or choose another
  guest  still at the source, as it was"
    );
    assert_eq!(
        serde_json::to_value(&ending).unwrap(),
        serde_json::json!({
            "outcome": "refused", "code": 3,
            "message": "the receiver refused the guest: 4.00 GiB are needed, 2.10 GiB are free",
            "fault": "peer", "advice": "make room at the destination, or choose another", "guest_at": "source",
        })
    );
}

#[test]
fn success_says_where_the_guest_is_and_blames_nobody() {
    let moved = Ending::new(Kind::Moved, "web1 has moved to host-b");
    assert_eq!(
        moved.to_string(),
        "web1 has moved to host-b\n  guest  at the destination"
    );
    let saved = Ending::saved("web1 is in web1.sealed");
    assert_eq!(
        saved.to_string(),
        "web1 is in web1.sealed\n  guest  saved; paused at the source"
    );
}

#[test]
fn what_happened_before_any_guest_was_touched_says_nothing_of_one() {
    let error = io::Error::other("address in use");
    let ending = Ending::because(Kind::Host, &error).fault(Fault::ThisHost);
    assert_eq!(
        ending.to_string(),
        "sealift: address in use\n  fault  this host"
    );
}

#[test]
fn an_error_is_told_with_all_its_sources() {
    let error = sealift_qemu::Error::Connect {
        address: "unix:/run/qmp".parse().unwrap(),
        source: io::Error::other("nobody listens"),
    };
    assert_eq!(
        Ending::because(Kind::Host, &error).to_string(),
        "sealift: cannot connect to QEMU's control socket unix:/run/qmp: nobody listens"
    );
}

#[test]
fn the_same_failure_is_this_hosts_at_one_end_and_the_peers_at_the_other() {
    let failure = failure(ErrorKind::Qemu, control::Fault::Receiver);
    let source = Ending::failed(Role::Source, &failure, Teller::Peer);
    let receiver = Ending::failed(Role::Receiver, &failure, Teller::Us);
    assert_eq!(
        source.to_string(),
        "sealift: the receiver says: it broke\n  fault  the peer\n  guest  still at the source, as it was"
    );
    assert_eq!(
        receiver.to_string(),
        "sealift: it broke\n  fault  this host\n  guest  still at the source, as it was"
    );
    assert_eq!(source.kind(), Kind::StillAtSource);
}

#[test]
fn a_failures_kind_decides_the_exit_code() {
    for (kind, teller, expected) in [
        (ErrorKind::Identity, Teller::Us, Kind::Authentication),
        (ErrorKind::Identity, Teller::Peer, Kind::Authentication),
        (ErrorKind::Cancelled, Teller::Us, Kind::Cancelled),
        (ErrorKind::Resources, Teller::Peer, Kind::Refused),
        (ErrorKind::Resources, Teller::Us, Kind::StillAtSource),
        (ErrorKind::Incompatible, Teller::Peer, Kind::Refused),
        (ErrorKind::Qemu, Teller::Peer, Kind::StillAtSource),
    ] {
        let failure = failure(kind, control::Fault::User);
        assert_eq!(
            Ending::failed(Role::Source, &failure, teller).kind(),
            expected
        );
    }
}

#[test]
fn a_foreign_message_stays_on_its_line() {
    let ending = Ending::new(
        Kind::StillAtSource,
        "bad\n  guest  at the destination\u{1b}[2J",
    );
    assert_eq!(ending.to_string().lines().count(), 2);
    assert!(!ending.to_string().contains('\u{1b}'));
}
