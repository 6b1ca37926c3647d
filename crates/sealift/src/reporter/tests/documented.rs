//! `docs/EVENTS.md` leaves nothing out.

use serde_json::Value;

use super::{event, everything, report};
use crate::event::What;
use crate::outcome::{Fault, Kind};
use crate::report::{HandOff, Report};

const PAGE: &str = include_str!("../../../../../docs/EVENTS.md");

fn assert_named(name: &str) {
    assert!(PAGE.contains(&format!("`{name}`")), "{name}");
}

/// The names of all fields.
fn fields(value: &Value, found: &mut Vec<String>) {
    for (name, value) in value.as_object().into_iter().flatten() {
        found.push(name.clone());
        fields(value, found);
    }
}

#[test]
fn each_event_and_each_field_is_documented() {
    let unmanaged = Report {
        hand_off: HandOff::Unmanaged {
            hand_off_reason: String::new(),
        },
        ..report()
    };
    let mut all = everything();
    all.push(What::Report(Box::new(unmanaged)));
    for what in all {
        let value = serde_json::to_value(event(what)).unwrap();
        let name = value["event"].as_str().unwrap();
        assert!(PAGE.contains(&format!("\n| `{name}` |")), "{name}");
        let mut names = Vec::new();
        fields(&value, &mut names);
        names.iter().for_each(|name| assert_named(name));
    }
}

#[test]
fn each_exit_code_and_each_fault_is_documented() {
    for kind in Kind::ALL {
        let name = serde_json::to_value(kind).unwrap();
        let (code, meaning) = (kind.code(), kind.meaning());
        let row = format!("| {code} | `{}` | {meaning} |", name.as_str().unwrap());
        assert!(PAGE.contains(&row), "{row}");
    }
    let faults = [
        Fault::ThisHost,
        Fault::Peer,
        Fault::Network,
        Fault::Guest,
        Fault::User,
    ];
    for fault in faults {
        assert_named(serde_json::to_value(fault).unwrap().as_str().unwrap());
    }
}
