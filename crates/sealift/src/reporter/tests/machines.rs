//! JSON.

use serde_json::{Value, json};

use super::{Written, event, everything, progress, report};
use crate::event::{Event, Progress, Traffic, What};
use crate::report::{HandOff, Report};
use crate::reporter::face::Show as _;
use crate::reporter::json::Json;

#[test]
fn each_event_is_one_object_on_one_line() {
    let (out, err) = (Written::default(), Written::default());
    let mut face = Json::new(Some(out.sink()), err.sink());
    for what in everything() {
        face.show(&event(what));
        let line = out.take();
        assert_eq!(line.matches('\n').count(), 1, "{line}");
        let value: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["at"], "2026-11-21T15:01:11.123000000Z");
        assert_eq!(value["session"], "0000000000000000000000000000000f");
        assert!(value["event"].is_string());
    }
    assert_eq!(err.take(), "");
}

/// The value that an event of this kind is, without what all have.
fn fields(what: What) -> Value {
    let mut value = serde_json::to_value(event(what)).unwrap();
    let object = value.as_object_mut().unwrap();
    object.remove("at");
    object.remove("session");
    value
}

#[test]
fn progress_has_its_units_in_its_names() {
    assert_eq!(
        fields(What::Progress(progress())),
        json!({
            "event": "progress", "stage": "pre_copy", "round": 3,
            "raw_bytes": 964_689_920_u64, "wire_bytes": 209_715_200_u64, "ratio": 4.6,
            "wire_bytes_per_s": 51_500_000, "raw_bytes_per_s": 237_500_000, "dirty_bytes_per_s": 12_000_000,
            "in_flight_bytes": 4_194_304, "remaining_bytes": 432_013_312,
            "predicted_end_ms": 8200.0, "predicted_blackout_ms": 41.0,
        })
    );
}

#[test]
fn what_is_not_known_is_null() {
    let unknown = Progress {
        traffic: Traffic::default(),
        dirty_bytes_per_s: None,
        remaining_bytes: None,
        predicted_end: None,
        predicted_blackout: None,
        ..progress()
    };
    let value = fields(What::Progress(unknown));
    for field in [
        "ratio",
        "dirty_bytes_per_s",
        "remaining_bytes",
        "predicted_end_ms",
        "predicted_blackout_ms",
    ] {
        assert_eq!(value.get(field), Some(&Value::Null), "{field}");
    }
    let before = Event {
        session: None,
        ..event(everything().remove(0))
    };
    assert_eq!(
        serde_json::to_value(before).unwrap()["session"],
        Value::Null
    );
}

#[test]
fn the_report_is_whole_for_machines() {
    let value = fields(What::Report(Box::new(report())));
    assert_eq!(
        value,
        json!({
            "event": "report",
            "guest": {"name": "web1", "uuid": "3f3f3f3f-3f3f-3f3f-3f3f-3f3f3f3f3f3f"},
            "peer": {"name": "host-b", "fingerprint": "ab".repeat(32), "address": "[2001:db8::2]:7325"},
            "time_ms": 12400.0, "rounds": 5,
            "raw_bytes": 1_106_247_680, "wire_bytes": 180_355_072, "ratio": 6.13,
            "records": {
                "zero": {"pages": 131_072, "raw_bytes": 536_870_912},
                "literal": {"pages": 98_304, "raw_bytes": 402_653_184},
                "same_as": {"pages": 40_000, "raw_bytes": 163_840_000},
                "delta": {"pages": 601, "raw_bytes": 2_461_696},
                "opaque": {"raw_bytes": 412_000},
            },
            "lanes": 4,
            "channels": 3,
            "blackout": {"qemu_downtime_ms": 5.0, "true_ms": 23.456, "uncertainty_ms": 0.31},
            "suite": "X25519+ML-KEM-768", "tls": "TLS 1.3",
            "verification": {
                "algorithm": "BLAKE3", "version_maps_equal": true, "full": "equal", "full_bytes": 1_073_741_824,
            },
            "hand_off": "managed",
            "access": "stream", "access_reason": "this version reads guest memory only from QEMU's stream",
        })
    );
    let unmanaged = Report {
        hand_off: HandOff::Unmanaged {
            hand_off_reason: "no --qmp at the receiver".into(),
        },
        ..report()
    };
    let value = fields(What::Report(Box::new(unmanaged)));
    assert_eq!(value["hand_off"], "unmanaged");
    assert_eq!(value["hand_off_reason"], "no --qmp at the receiver");
}
