//! The QMP client against real QEMUs.

use std::time::Duration;

use sealift_lab::guest::{Launch, PATIENCE};
use sealift_lab::qemu::{self, Machine};
use sealift_qemu::{Error, Qmp};
use serde_json::{Value, json};

/// For what must not happen; longer would only make the test slower.
const NOT_LONG: Duration = Duration::from_secs(1);

#[test]
fn the_client_talks_to_each_qemu() {
    for qemu in qemu::all().unwrap() {
        let mut guest = Launch::new(&qemu, &qemu.machine(Machine::Microvm))
            .start()
            .unwrap();
        let version = guest.qmp().version().clone();
        assert!(qemu.full_version().starts_with(&format!(
            "{}.{}.{}",
            version.major, version.minor, version.micro
        )));

        guest.qmp().execute("stop", Value::Null).unwrap();
        assert_eq!(
            guest.qmp().execute("query-status", Value::Null).unwrap()["status"],
            "paused"
        );
        guest.qmp().execute("cont", Value::Null).unwrap();
        // Events that came between the answers are still there, in their order.
        assert_eq!(
            guest
                .qmp()
                .wait_event(&["STOP", "RESUME"], PATIENCE)
                .unwrap()
                .name,
            "STOP"
        );
        assert_eq!(
            guest
                .qmp()
                .wait_event(&["STOP", "RESUME"], PATIENCE)
                .unwrap()
                .name,
            "RESUME"
        );
        assert!(matches!(
            guest.qmp().wait_event(&["STOP"], NOT_LONG),
            Err(Error::NoEvent { .. })
        ));

        assert!(
            guest
                .qmp()
                .hmp("info ramblock")
                .unwrap()
                .contains("microvm.ram")
        );
        // The longest answer that there is.
        let schema = guest
            .qmp()
            .execute("query-qmp-schema", Value::Null)
            .unwrap();
        assert!(schema.as_array().unwrap().len() > 500);

        let error = guest
            .qmp()
            .execute("no-such-command", json!({}))
            .unwrap_err();
        assert!(
            matches!(error, Error::Refused { ref class, .. } if class == "CommandNotFound"),
            "{error}"
        );
    }
}

#[test]
fn a_second_client_learns_that_the_socket_is_taken() {
    let qemu = qemu::all().unwrap().remove(0);
    let mut guest = Launch::new(&qemu, &qemu.machine(Machine::Microvm))
        .start()
        .unwrap();
    let error = Qmp::connect(&guest.held_control(), NOT_LONG).unwrap_err();
    assert!(
        error.to_string().contains("takes one client at a time"),
        "{error}"
    );

    // The guest has another socket for others.
    Qmp::connect(&guest.free_control(), PATIENCE).unwrap();
    // The first one is none the worse for it.
    guest.qmp().execute("query-status", Value::Null).unwrap();
}

#[test]
fn an_end_of_qemu_during_a_command_is_named() {
    let qemu = qemu::all().unwrap().remove(0);
    let mut guest = Launch::new(&qemu, &qemu.machine(Machine::Microvm))
        .start()
        .unwrap();
    guest.qmp().execute("quit", Value::Null).unwrap();
    let error = loop {
        if let Err(error) = guest.qmp().execute("query-status", Value::Null) {
            break error;
        }
    };
    assert!(matches!(error, Error::Closed { .. }), "{error}");
}
