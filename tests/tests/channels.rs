//! QEMU's migration channels, and what is asked of a QEMU while they are open, with real guests.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "the tests share functions, and those are tests as well"
)]

use std::os::fd::AsFd;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use sealift_lab::guest::{Guest, Launch, PATIENCE};
use sealift_lab::joined::join_channels;
use sealift_lab::migration::goes_on;
use sealift_lab::qemu::{self, Machine as Kind, Qemu};
use sealift_lab::tools::{is_root, progress};
use sealift_qemu::machine::MigrationStatus;
use sealift_qemu::{Channel, Error, Listener, Machine, memory};

fn launch(qemu: &Qemu) -> Launch {
    Launch::new(qemu, &qemu.machine(Kind::I440fx))
}

/// A guest at work, and a QEMU that waits for it; with a control connection of the tests' own to each.
fn pair(qemu: &Qemu) -> [(Guest, Machine); 2] {
    let mut source = launch(qemu).start().unwrap();
    source.wait_tick(2).unwrap();
    let destination = launch(qemu).incoming().start().unwrap();
    [source, destination].map(|guest| {
        let machine = Machine::connect(&guest.free_control(), PATIENCE).unwrap();
        (guest, machine)
    })
}

fn with_return_path(machines: [&mut Machine; 2]) {
    for machine in machines {
        let missing = machine.set_capabilities(&[("return-path", true)]).unwrap();
        assert!(missing.is_empty());
    }
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}: not after {PATIENCE:?}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn wait_completed(machine: &mut Machine) {
    until("completed", || {
        let migration = machine.migration().unwrap();
        assert_ne!(migration.status, MigrationStatus::Failed, "{migration:?}");
        migration.status == MigrationStatus::Completed
    });
}

fn exec(words: &str, mark: &Path) -> String {
    let carrier = env!("CARGO_BIN_EXE_carrier");
    format!("exec:{carrier} shim {words} {}", mark.display())
}

/// Behind `exec:` the real process lives on after QEMU has closed the channel, and QEMU answers meanwhile.
fn lives_on(machine: &mut Machine, mark: &Path) {
    until("the close is seen", || {
        mark.with_extension("closed").exists()
    });
    machine.status().unwrap();
    assert!(!mark.with_extension("ended").exists());
    std::fs::write(mark.with_extension("go"), "").unwrap();
    until("the real process ends", || {
        mark.with_extension("ended").exists()
    });
}

#[test]
fn behind_exec_a_guest_is_saved_and_restored_while_the_real_process_lives_on() {
    for qemu in qemu::all().unwrap() {
        let [
            (source, mut at_source),
            (mut destination, mut at_destination),
        ] = pair(&qemu);
        let file = source.path("stream");

        let mark = source.path("mark");
        let save = exec(&format!("save {}", file.display()), &mark);
        at_source.migrate(&save).unwrap();
        wait_completed(&mut at_source);
        assert_eq!(at_source.status().unwrap().state, "postmigrate");
        lives_on(&mut at_source, &mark);

        let mark = destination.path("mark");
        let load = exec(&format!("load {}", file.display()), &mark);
        at_destination.migrate_incoming(&load).unwrap();
        wait_completed(&mut at_destination);
        lives_on(&mut at_destination, &mark);
        goes_on(&source, &mut destination).unwrap();
    }
}

#[test]
fn behind_exec_the_return_path_works() {
    for qemu in qemu::all().unwrap() {
        let [
            (source, mut at_source),
            (mut destination, mut at_destination),
        ] = pair(&qemu);
        with_return_path([&mut at_source, &mut at_destination]);
        let incoming = format!("unix:{}", destination.path("incoming").display());
        at_destination.migrate_incoming(&incoming).unwrap();

        let mark = source.path("mark");
        let join = exec(&format!("join {incoming}"), &mark);
        at_source.migrate(&join).unwrap();
        wait_completed(&mut at_source);
        wait_completed(&mut at_destination);
        lives_on(&mut at_source, &mark);
        goes_on(&source, &mut destination).unwrap();
    }
}

#[test]
fn a_passed_socket_carries_a_migration_with_its_return_path() {
    for qemu in qemu::all().unwrap() {
        let [
            (source, mut at_source),
            (mut destination, mut at_destination),
        ] = pair(&qemu);
        with_return_path([&mut at_source, &mut at_destination]);
        let mut channels = Vec::new();
        for machine in [&mut at_source, &mut at_destination] {
            let (theirs, ours) = Channel::pair().unwrap();
            machine.qmp().pass_fd("channel", theirs.as_fd()).unwrap();
            channels.push(ours);
        }
        let (to_destination, to_source) = (channels.pop().unwrap(), channels.pop().unwrap());
        let joined = thread::spawn(|| join_channels(to_source, to_destination));

        at_destination.migrate_incoming("fd:channel").unwrap();
        at_source.migrate("fd:channel").unwrap();
        wait_completed(&mut at_source);
        wait_completed(&mut at_destination);
        joined.join().unwrap().unwrap();
        goes_on(&source, &mut destination).unwrap();
    }
}

#[test]
fn a_descriptor_cannot_go_over_tcp() {
    let qemu = qemu::all().unwrap().remove(0);
    let control = Listener::bind(&"tcp:127.0.0.1:7".parse().map(free_port).unwrap())
        .unwrap()
        .address()
        .clone();
    let option = format!("{control},server=on,wait=off");
    let _guest = launch(&qemu).arguments(["-qmp", &option]).start().unwrap();
    let mut machine = Machine::connect(&control, PATIENCE).unwrap();
    let (theirs, _ours) = Channel::pair().unwrap();
    let error = machine
        .qmp()
        .pass_fd("channel", theirs.as_fd())
        .unwrap_err();
    assert!(matches!(error, Error::CannotPass { .. }), "{error}");
    // And nothing was sent.
    machine.status().unwrap();
}

fn free_port(address: sealift_qemu::Address) -> sealift_qemu::Address {
    match address {
        sealift_qemu::Address::Tcp { host, .. } => sealift_qemu::Address::Tcp { host, port: 0 },
        other => other,
    }
}

#[test]
fn a_channel_that_is_closed_leaves_the_guest_running_at_the_source() {
    for qemu in qemu::all().unwrap() {
        let mut source = launch(&qemu).start().unwrap();
        source.wait_tick(2).unwrap();
        let mut machine = Machine::connect(&source.free_control(), PATIENCE).unwrap();
        let path = source.path("channel");
        let listener = Listener::bind(&sealift_qemu::Address::Unix(path.clone())).unwrap();
        machine
            .migrate(&format!("unix:{}", path.display()))
            .unwrap();
        let channel = listener.accept(Some(PATIENCE)).unwrap().unwrap();
        channel.closer().close();
        until("failed", || {
            machine.migration().unwrap().status == MigrationStatus::Failed
        });
        assert!(machine.status().unwrap().running);
        let now = source.serial().progress().unwrap().tick;
        source.wait_tick(now + 1).unwrap();
    }
}

#[test]
fn a_machine_says_what_it_is() {
    for qemu in qemu::all().unwrap() {
        let uuid = "00112233-4455-6677-8899-aabbccddeeff";
        let guest = launch(&qemu)
            .arguments(["-name", "a guest", "-uuid", uuid])
            .start()
            .unwrap();
        let mut machine = Machine::connect(&guest.free_control(), PATIENCE).unwrap();
        assert_eq!(machine.name().unwrap().as_deref(), Some("a guest"));
        assert_eq!(machine.uuid().unwrap().unwrap()[..3], [0, 0x11, 0x22]);
        assert_eq!(machine.machine_type().unwrap(), qemu.machine(Kind::I440fx));
        let blocks = machine.ram_blocks().unwrap();
        let ram = blocks.iter().find(|block| block.name == "pc.ram").unwrap();
        assert_eq!((ram.used, ram.page_size), (8200 << 10, 4096));
        assert_eq!(machine.migration().unwrap().status, MigrationStatus::None);

        // One of them only later QEMUs have, one none has.
        let wanted = [
            ("events", true),
            ("switchover-ack", true),
            ("no-such", true),
        ];
        let missing = machine.set_capabilities(&wanted);
        if qemu.is_modern() {
            // It needs the return path: QEMU looks at all of them together.
            assert!(matches!(missing, Err(Error::Refused { .. })));
        } else {
            assert_eq!(missing.unwrap(), ["switchover-ack", "no-such"]);
            assert!(machine.capabilities().unwrap()["events"]);
        }
        assert!(machine.late_block_activate().unwrap());

        let parameters = serde_json::json!({ "downtime-limit": 77 });
        machine
            .set_parameters(parameters.as_object().unwrap().clone())
            .unwrap();
        assert_eq!(machine.parameters().unwrap()["downtime-limit"], 77);

        machine.stop().unwrap();
        assert_eq!(machine.status().unwrap().state, "paused");
        machine.cont().unwrap();
        assert!(machine.status().unwrap().running);
        let events = machine.qmp().take_events();
        let times: Vec<_> = events.iter().map(|event| event.at_ns).collect();
        assert!(
            times.len() >= 2 && times[0] > 0 && times.is_sorted(),
            "{events:?}"
        );
        machine.announce_self().unwrap();
        machine.cancel().unwrap();

        machine.quit().unwrap();
        assert!(machine.gone(PATIENCE).unwrap());
    }
}

#[test]
fn a_guest_without_a_name_or_uuid_says_so() {
    let qemu = qemu::all().unwrap().remove(0);
    let guest = launch(&qemu).start().unwrap();
    let mut machine = Machine::connect(&guest.free_control(), PATIENCE).unwrap();
    assert_eq!(machine.name().unwrap(), None);
    assert_eq!(machine.uuid().unwrap(), None);
    assert!(!machine.gone(Duration::from_millis(50)).unwrap());
}

/// All of the canonical bytes, and how much memory they hold.
fn memory_of(machine: &mut Machine, admitted: &[String]) -> (Vec<u8>, memory::Extent) {
    let mut bytes = Vec::new();
    let extent = memory::read(machine, admitted, |piece| bytes.extend_from_slice(piece)).unwrap();
    (bytes, extent)
}

fn moves_with_equal_memory(from: &Qemu, to: &Qemu) {
    let machine = from.machine(Kind::Q35);
    let screen = ["-device", "VGA"];
    let mut source = Launch::new(from, &machine)
        .arguments(screen)
        .start()
        .unwrap();
    source.wait_tick(2).unwrap();
    let mut destination = Launch::new(to, &machine)
        .arguments(screen)
        .incoming()
        .start()
        .unwrap();
    let mut at_source = Machine::connect(&source.free_control(), PATIENCE).unwrap();
    let mut at_destination = Machine::connect(&destination.free_control(), PATIENCE).unwrap();
    let admitted: Vec<_> = at_source
        .ram_blocks()
        .unwrap()
        .into_iter()
        .map(|block| block.name)
        .collect();
    assert!(matches!(
        memory::read(&mut at_source, &admitted, |_| ()),
        Err(memory::MemoryError::Running)
    ));

    // It waits for the guest, and is not to start it.
    at_destination.stop().unwrap();
    assert!(at_destination.late_block_activate().unwrap());
    let incoming = format!("unix:{}", destination.path("incoming").display());
    at_destination.migrate_incoming(&incoming).unwrap();
    at_source.migrate(&incoming).unwrap();
    wait_completed(&mut at_source);
    wait_completed(&mut at_destination);
    assert_eq!(at_destination.status().unwrap().state, "paused");

    let (here, extent) = memory_of(&mut at_source, &admitted);
    let (there, same) = memory_of(&mut at_destination, &admitted);
    assert_eq!(extent, same);
    // All of the guest's RAM but the window of 128 KiB that the screen covers.
    let ram = (8200 - 128) << 10;
    assert!(extent.bytes >= ram, "{extent:?}");
    assert!(here.len() as u64 > extent.bytes);
    let differs = here
        .iter()
        .zip(&there)
        .position(|(one, other)| one != other);
    assert!(here == there, "the first difference is at {differs:?}");

    // Of one block alone there is less, and of none nothing.
    let only = ["pc.ram".to_owned()];
    let (_, less) = memory_of(&mut at_destination, &only);
    assert!(less.bytes >= ram && less.bytes <= 8200 << 10 && less.bytes < extent.bytes);
    let (bytes, nothing) = memory_of(&mut at_destination, &[]);
    assert_eq!((bytes.len(), nothing.bytes, nothing.ranges), (0, 0, 0));

    // A guest that has run on has another memory.
    at_destination.cont().unwrap();
    goes_on(&source, &mut destination).unwrap();
    at_destination.stop().unwrap();
    let (later, _) = memory_of(&mut at_destination, &admitted);
    assert_eq!(later.len(), here.len());
    assert!(later != here);
}

#[test]
fn a_guest_that_moved_has_the_same_memory_at_both_ends() {
    for qemu in qemu::all().unwrap() {
        moves_with_equal_memory(&qemu, &qemu);
    }
}

#[test]
fn the_memory_is_the_same_across_versions() {
    for pair in qemu::all().unwrap().windows(2) {
        moves_with_equal_memory(&pair[0], &pair[1]);
    }
}

/// A stopped guest in a QEMU that has put this limit on itself, which only root's can.
fn limited(qemu: &Qemu, option: &str, value: &str) -> Option<(Guest, Machine)> {
    if !is_root() {
        progress(
            "NOT TESTED: a QEMU of another user, or in a directory of its own; only root can start one",
        );
        return None;
    }
    let arguments = if qemu.is_modern() {
        ["-run-with".to_owned(), format!("{option}={value}")]
    } else {
        let option = if option == "user" {
            "-runas"
        } else {
            "-chroot"
        };
        [option.to_owned(), value.to_owned()]
    };
    let launch = launch(qemu).arguments(["-S"]).arguments(arguments);
    let guest = launch.start().unwrap();
    let machine = Machine::connect(&guest.free_control(), PATIENCE).unwrap();
    Some((guest, machine))
}

#[test]
fn the_memory_is_read_from_a_qemu_of_another_user() {
    for qemu in qemu::all().unwrap() {
        let Some((_guest, mut machine)) = limited(&qemu, "user", "nobody") else {
            return;
        };
        let (_, extent) = memory_of(&mut machine, &["pc.ram".to_owned()]);
        assert!(extent.bytes > 7 << 20);
    }
}

#[test]
fn a_qemu_that_cannot_open_the_pipe_says_so_and_is_none_the_worse() {
    for qemu in qemu::all().unwrap() {
        let empty = tempfile::tempdir().unwrap();
        let path = empty.path().to_str().unwrap();
        let Some((_guest, mut machine)) = limited(&qemu, "chroot", path) else {
            return;
        };
        let error = memory::read(&mut machine, &["pc.ram".to_owned()], |_| ()).unwrap_err();
        assert!(
            matches!(error, memory::MemoryError::NotWritten(_)),
            "{error}: {error:?}"
        );
        assert_eq!(machine.status().unwrap().state, "prelaunch");
    }
}
