//! Logs, terminals, and the report.

use sealift_pages::Algorithm;

use super::{Written, at, event, everything, progress, report};
use crate::event::{Event, Full, Guest, Verification, What};
use crate::report::{HandOff, Report};
use crate::reporter::face::Show as _;
use crate::reporter::plain::Plain;
use crate::reporter::terminal::Terminal;

#[test]
fn the_report_is_a_page_for_people() {
    assert_eq!(
        report().to_string(),
        "\
report   web1, 3f3f3f3f-3f3f-3f3f-3f3f-3f3f3f3f3f3f
  time       12.4 s, 5 rounds
  memory     1.03 GiB became 172 MiB on 4 lanes (6.1 to 1)
    zero              131,072 pages      512 MiB   48.5 %
    literal            98,304 pages      384 MiB   36.3 %
    same-as            40,000 pages      156 MiB   14.8 %
    delta                 601 pages     2.34 MiB    0.2 %
    opaque                               402 KiB    0.0 %
  blackout   23.4 ms ± 310 µs; QEMU counts 5.00 ms
  sealed     AES-256-GCM, keys by X25519+ML-KEM-768; TLS 1.3
  peer       host-b at [2001:db8::2]:7325
             SHA-256 abababababababababababababababababababababababababababababababab
  verified   BLAKE3 of every batch; version maps equal; both memories read again, 1.00 GiB: equal
  hand-off   managed: QMP at both ends
  access     stream: this version reads guest memory only from QEMU's stream"
    );
}

#[test]
fn a_report_of_a_saved_guest_has_no_peer_and_no_hand_off() {
    let saved = Report {
        guest: Guest {
            name: None,
            uuid: None,
        },
        peer: None,
        tls: None,
        blackout: None,
        hand_off: HandOff::None,
        lanes: 1,
        verification: Verification {
            algorithm: Algorithm::Sha256,
            version_maps_equal: true,
            full: Full::NotAsked,
        },
        ..report()
    };
    let text = saved.to_string();
    let starts: Vec<_> = text
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert_eq!(
        starts,
        [
            "report", "time", "memory", "zero", "literal", "same-as", "delta", "opaque", "sealed",
            "verified", "access"
        ]
    );
    assert!(text.starts_with("report   a guest without a name\n"));
    assert!(text.contains("on 1 lane ("));
}

#[test]
fn a_log_has_a_line_for_what_happens_and_the_report_goes_to_standard_output() {
    let (out, err) = (Written::default(), Written::default());
    let mut face = Plain::new(Some(out.sink()), err.sink(), false);
    for what in everything() {
        face.show(&event(what));
    }
    assert_eq!(
        err.take(),
        "\
waiting at [::]:7325
connected to host-b at [2001:db8::2]:7325, TLS 1.3
admitted: web1, 3f3f3f3f-3f3f-3f3f-3f3f-3f3f3f3f3f3f; 1.00 GiB of memory, at most 4 lanes, X25519+ML-KEM-768
RAM block pc.ram: mapped, its backend's file is shared
pre-copy       memory is sent while the guest goes on
pre-copy, round 3: 412 Mbit/s on the wire, 1.90 Gbit/s before compression (4.6 to 1 so far), 4.00 MiB in flight; \
the guest changes 96.0 Mbit/s, would stand still for 41.0 ms; 412 MiB left, ends in 8.20 s
warning: auto-converge is on
the guest stood still for 23.4 ms ± 310 µs; QEMU counts 5.00 ms
verified: BLAKE3 of every batch; version maps equal; both memories read again, 1.00 GiB: equal
web1 has moved to host-b
  guest  at the destination
"
    );
    assert_eq!(out.take(), format!("{}\n", report()));
}

#[test]
fn verbose_tells_rounds_and_reasons_too() {
    let (out, err) = (Written::default(), Written::default());
    let mut face = Plain::new(Some(out.sink()), err.sink(), true);
    for what in everything() {
        face.show(&event(what));
    }
    let text = err.take();
    assert!(text.contains(
        "\nround 1: 262,144 pages, 131,072 of them zero; the guest changes 96.0 Mbit/s\n"
    ));
    assert!(text.contains("; access: relay, serves every guest\n"));
}

#[test]
fn a_log_gets_progress_every_five_seconds_of_the_events_own_clock() {
    let err = Written::default();
    let mut face = Plain::new(None, err.sink(), false);
    let mut lines = |millis| {
        face.show(&Event {
            at: at(millis),
            ..event(What::Progress(progress()))
        });
        err.take().lines().count()
    };
    assert_eq!(lines(10_000), 1);
    assert_eq!(lines(10_200), 0);
    assert_eq!(lines(14_999), 0);
    assert_eq!(lines(15_000), 1);
    // The clock was set back.
    assert_eq!(lines(2_000), 1);
    assert_eq!(lines(6_999), 0);
    assert_eq!(lines(7_000), 1);
}

#[test]
fn a_terminal_gets_the_same_lines_while_its_bar_moves() {
    let (out, err) = (Written::default(), Written::default());
    let mut terminal = Terminal::new(Some(out.sink()), err.sink(), false);
    for what in everything() {
        terminal.show(&event(what));
    }
    terminal.finish();
    let text = err.take();
    assert!(text.contains("\npre-copy       memory is sent while the guest goes on\n"));
    assert!(text.ends_with("web1 has moved to host-b\n  guest  at the destination\n"));
    assert!(!text.contains("on the wire"), "{text}");
    assert_eq!(out.take(), format!("{}\n", report()));
}
