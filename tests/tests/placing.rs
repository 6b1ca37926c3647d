//! A receiver writes the guest's memory itself, whatever backend it is of, and gives QEMU the rest of its stream.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "the tests share functions, and those are tests as well"
)]

use std::fs;
use std::path::Path;

use sealift_lab::guest::{Guest, Launch};
use sealift_lab::image::Workload;
use sealift_lab::migration::goes_on;
use sealift_lab::qemu::{self, Machine, Qemu};
use sealift_lab::session::Ended;
use sealift_lab::trial::{self, Trial, listening, runs_on, wait_state};
use sealift_lab::whole_matrix;
use tempfile::TempDir;

/// KiB of a block: not a multiple of 256, which QEMU 7.2 does not bear.
const KIB: u64 = 8200;

/// A guest that rewrites all that it has, as fast as an emulated processor does, and checks it.
const HARD: Workload = Workload {
    pages: 640,
    hot: 640,
    gap: 60,
    tick: 320,
    seeds: 40,
};

/// What a destination's memory is made of, and how it is to be reached there.
struct Backend {
    name: &'static str,
    machine: Machine,
    /// KiB of all of it.
    kib: u64,
    arguments: Vec<String>,
    /// The blocks that are placed.
    blocks: &'static [&'static str],
    way: &'static str,
    /// Holds the backend's file.
    _directory: Option<TempDir>,
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

impl Backend {
    fn private() -> Self {
        Self {
            name: "private memory",
            machine: Machine::I440fx,
            kib: KIB,
            arguments: vec![],
            blocks: &["pc.ram"],
            way: "process",
            _directory: None,
        }
    }

    /// One object with these properties.
    fn object(name: &'static str, way: &'static str, properties: &str) -> Self {
        let object = format!("{properties},id=mem0,size={KIB}K");
        Self {
            name,
            arguments: words(&["-object", &object, "-machine", "memory-backend=mem0"]),
            blocks: &["mem0"],
            way,
            ..Self::private()
        }
    }

    fn memfd() -> Self {
        Self::object("shared memfd", "mapped", "memory-backend-memfd,share=on")
    }

    /// A file that an earlier guest has left full.
    fn used_file(share: &str) -> Self {
        let directory = tempfile::tempdir_in(shared_memory()).unwrap();
        let path = directory.path().join("ram");
        let old: Vec<u8> = (0..KIB << 10)
            .map(|at| (at >> 4 | 1).to_le_bytes()[0])
            .collect();
        fs::write(&path, old).unwrap();
        let properties = format!(
            "memory-backend-file,share={share},mem-path={}",
            path.display()
        );
        let (name, way) = match share {
            "on" => ("a shared file full of old data", "mapped"),
            _ => ("a private view of a file full of old data", "process"),
        };
        Self {
            _directory: Some(directory),
            ..Self::object(name, way, &properties)
        }
    }

    fn nodes() -> Self {
        let node = |number: u32| {
            let object = format!("memory-backend-ram,id=node{number},size={KIB}K");
            words(&[
                "-object",
                &object,
                "-numa",
                &format!("node,memdev=node{number}"),
            ])
        };
        Self {
            name: "two NUMA nodes",
            kib: 2 * KIB,
            arguments: [0, 1].map(node).concat(),
            // The guest is in the first; what the firmware has put into the second is too little to tell it by.
            blocks: &["node0"],
            ..Self::private()
        }
    }

    fn q35() -> Self {
        Self {
            name: "q35",
            machine: Machine::Q35,
            ..Self::private()
        }
    }

    fn launch(&self, qemu: &Qemu) -> Launch {
        launch(qemu, self.machine, self.kib).arguments(&self.arguments)
    }

    /// The same blocks at the source, of memory of its own.
    fn source(&self, qemu: &Qemu) -> Launch {
        let arguments = self.arguments.iter().map(|argument| {
            match argument
                .strip_prefix("memory-backend-")
                .and_then(|rest| rest.split_once(",id="))
            {
                Some((_, id)) => format!("memory-backend-ram,id={id}"),
                None => argument.clone(),
            }
        });
        launch(qemu, self.machine, self.kib).arguments(arguments)
    }
}

fn launch(qemu: &Qemu, machine: Machine, kib: u64) -> Launch {
    Launch::new(qemu, &qemu.machine(machine))
        .memory(&format!("{kib}K"))
        .workload(HARD)
}

fn shared_memory() -> &'static Path {
    Path::new("/dev/shm")
}

/// How a move is ordered.
#[derive(Clone, Copy, Debug)]
struct Ordered {
    source: &'static str,
    receiver: &'static str,
}

const AUTO: Ordered = Ordered {
    source: "auto",
    receiver: "auto",
};

/// Moves a guest to this backend. Returns what both ends told.
fn moves(trial: &Trial, qemu: &Qemu, to: &Backend, by: Ordered) -> (Ended, Ended) {
    let mut source = trial.running(&to.source(qemu)).unwrap();
    let mut destination = trial.waiting(&to.launch(qemu)).unwrap();
    let receiver = trial.managed(&destination).with(["--access", by.receiver]);
    let receiver = listening(&receiver).unwrap();
    let order = trial
        .migrate(&source, trial::PORT)
        .with(["--verify", "full", "--access", by.source]);
    let sent = order.start().unwrap().wait().unwrap();
    let received = receiver.wait().unwrap();
    let said = format!(
        "{}, {}, {by:?}\n{}{}",
        to.name,
        qemu.release(),
        sent.said(),
        received.said()
    );
    assert_eq!((sent.code, received.code), (Some(0), Some(0)), "{said}");
    assert_eq!(sent.last("verification")["full"], "equal", "{said}");
    wait_state(&mut destination, "running").unwrap();
    goes_on(&source, &mut destination).unwrap();
    assert!(!trial::runs(&mut source));
    (sent, received)
}

/// How each block was reached that could be, as the receiver told it.
fn told(received: &Ended) -> Vec<(String, String, String)> {
    let word = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    received
        .events
        .iter()
        .filter(|event| event["event"] == "access")
        .map(|event| {
            (
                word(&event["block"]),
                word(&event["access"]),
                word(&event["access_reason"]),
            )
        })
        .collect()
}

/// Only these blocks were placed, by this way.
fn assert_placed(received: &Ended, to: &Backend) {
    let told = told(received);
    let placed: Vec<_> = told
        .iter()
        .filter(|(_, access, _)| access != "relay")
        .map(|(block, access, _)| (block.as_str(), access.as_str()))
        .collect();
    let expected: Vec<_> = to.blocks.iter().map(|&block| (block, to.way)).collect();
    assert_eq!(placed, expected, "{}: {told:?}", to.name);
    assert_eq!(received.last("admitted")["access"], to.way);
}

fn newest() -> Qemu {
    qemu::all().unwrap().pop().unwrap()
}

#[test]
fn pages_are_placed_in_each_kind_of_memory_and_all_of_it_is_right() {
    let trial = Trial::new().unwrap();
    for qemu in qemu::all().unwrap() {
        let backends = [
            Backend::private(),
            Backend::memfd(),
            Backend::used_file("on"),
            Backend::used_file("off"),
            Backend::nodes(),
            Backend::q35(),
        ];
        for backend in &backends {
            for source in ["stream", "auto"] {
                if source == "auto" || qemu.is_modern() || whole_matrix() {
                    let by = Ordered { source, ..AUTO };
                    let (_, received) = moves(&trial, &qemu, backend, by);
                    assert_placed(&received, backend);
                }
            }
        }
    }
}

#[test]
fn a_way_that_is_ordered_is_taken() {
    let trial = Trial::new().unwrap();
    let qemu = newest();
    let memfd = Backend::memfd();
    for (receiver, way) in [("mapped", "mapped"), ("process", "process")] {
        let by = Ordered { receiver, ..AUTO };
        let (_, received) = moves(&trial, &qemu, &memfd, by);
        let to = Backend {
            way,
            ..Backend::memfd()
        };
        assert_placed(&received, &to);
        // What was found is told with its reason.
        assert!(!told(&received)[0].2.is_empty());
    }
    let by = Ordered {
        receiver: "stream",
        ..AUTO
    };
    let (_, received) = moves(&trial, &qemu, &memfd, by);
    assert!(told(&received).is_empty());
    let admitted = received.last("admitted");
    assert_eq!(admitted["access"], "relay");
    assert_eq!(admitted["access_reason"], "so ordered by --access stream");
}

#[test]
fn a_way_that_is_ordered_and_not_there_refuses_the_guest_which_runs_on() {
    let trial = Trial::new().unwrap();
    let qemu = newest();
    let private = Backend::private();
    let mut source = trial.running(&private.source(&qemu)).unwrap();
    let destination = trial.waiting(&private.launch(&qemu)).unwrap();
    let receiver = trial.managed(&destination).with(["--access", "mapped"]);
    let receiver = listening(&receiver).unwrap();
    let sent = trial.migrate(&source, trial::PORT).start().unwrap();
    let sent = sent.wait().unwrap();
    assert_eq!(sent.code, Some(3), "{}", sent.said());
    assert!(
        sent.message().contains("--access mapped"),
        "{}",
        sent.message()
    );
    runs_on(&mut source).unwrap();
    drop(receiver);
}

#[test]
fn a_receiver_that_may_not_look_into_qemu_gives_it_all_by_its_stream_and_says_why() {
    let trial = Trial::new().unwrap();
    let qemu = newest();
    let private = Backend::private();
    let source = trial.running(&private.source(&qemu)).unwrap();
    let mut destination = trial.waiting(&private.launch(&qemu)).unwrap();
    let receiver = trial.managed(&destination).without_tracing();
    let receiver = listening(&receiver).unwrap();
    let order = trial
        .migrate(&source, trial::PORT)
        .with(["--verify", "full"]);
    let sent = order.start().unwrap().wait().unwrap();
    let received = receiver.wait().unwrap();
    let said = format!("{}{}", sent.said(), received.said());
    assert_eq!((sent.code, received.code), (Some(0), Some(0)), "{said}");
    assert!(told(&received).is_empty());
    let admitted = received.last("admitted");
    assert_eq!(admitted["access"], "relay");
    let why = admitted["access_reason"].as_str().unwrap();
    assert!(why.contains("CAP_SYS_PTRACE"), "{why}");
    wait_state(&mut destination, "running").unwrap();
    goes_on(&source, &mut destination).unwrap();
}

/// Kills the destination's QEMU as soon as pages are placed there.
#[test]
fn a_qemu_that_dies_while_pages_are_placed_is_named_and_the_guest_runs_on() {
    let trial = Trial::new().unwrap();
    let qemu = newest();
    for backend in [Backend::private(), Backend::memfd()] {
        let mut source = trial.running(&backend.source(&qemu)).unwrap();
        let mut destination: Guest = trial.waiting(&backend.launch(&qemu)).unwrap();
        let mut receiver = listening(&trial.managed(&destination)).unwrap();
        let order = trial.migrate(&source, trial::PORT).crawling();
        let sending = order.start().unwrap();
        receiver.wait_event("access", |_| true).unwrap();
        destination.kill().unwrap();
        let (sent, received) = (sending.wait().unwrap(), receiver.wait().unwrap());
        let said = format!("{}{}", sent.said(), received.said());
        assert_eq!((sent.code, received.code), (Some(5), Some(5)), "{said}");
        let outcome = received.last("outcome");
        assert_eq!(outcome["fault"], "this_host", "{said}");
        assert!(
            outcome["message"].as_str().unwrap().contains("QEMU"),
            "{said}"
        );
        runs_on(&mut source).unwrap();
    }
}
