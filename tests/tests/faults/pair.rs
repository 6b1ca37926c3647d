//! The two QEMUs of a move, and where the guest is.

use std::thread;
use std::time::{Duration, Instant};

use sealift_lab::guest::{Guest, Launch, PATIENCE};
use sealift_lab::migration::goes_on;
use sealift_lab::qemu::{Machine, Qemu};
use sealift_lab::session::{Ended, Order, Session};
use sealift_lab::trial::{PORT, Trial, runs, runs_on, wait_state};

/// Where the guest runs in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Runs {
    AtSource,
    AtDestination,
    /// It stands still at both ends, and somebody must decide.
    Nowhere,
}

/// Two QEMUs, one with a guest that runs.
pub(crate) struct Pair {
    pub(crate) source: Guest,
    pub(crate) destination: Guest,
}

impl Pair {
    pub(crate) fn start(trial: &Trial, qemu: &Qemu) -> Self {
        let launch = Launch::new(qemu, &qemu.machine(Machine::Q35));
        let source = launch.clone().on(trial.hosts().a()).start();
        let destination = launch.on(trial.hosts().b()).incoming().start();
        let (mut source, destination) = (source.unwrap(), destination.unwrap());
        source.wait_tick(2).unwrap();
        Self {
            source,
            destination,
        }
    }

    /// A move that ends with the first connection that breaks: what each end makes of the other's loss is what is looked at here.
    pub(crate) fn send(&self, trial: &Trial) -> Order {
        let order = trial.migrate(&self.source, PORT);
        order.with(["--resume-for", "0s"])
    }

    /// Looks at both QEMUs until an end has ended.
    pub(crate) fn watch(&mut self, mut session: Session) -> Ended {
        let deadline = Instant::now() + PATIENCE;
        while session.runs().unwrap() && Instant::now() < deadline {
            self.never_two();
            thread::sleep(Duration::from_millis(10));
        }
        self.never_two();
        session.wait().unwrap()
    }

    pub(crate) fn never_two(&mut self) {
        let two = runs(&mut self.source) && runs(&mut self.destination);
        assert!(!two, "the guest runs at both ends");
    }

    /// The guest is where it must be, whole, and nowhere else.
    pub(crate) fn is(&mut self, expected: Runs) {
        match expected {
            Runs::AtSource => {
                runs_on(&mut self.source).unwrap();
                assert!(!runs(&mut self.destination));
            }
            Runs::AtDestination => {
                wait_state(&mut self.destination, "running").unwrap();
                goes_on(&self.source, &mut self.destination).unwrap();
                assert!(!runs(&mut self.source));
            }
            Runs::Nowhere => {
                wait_state(&mut self.source, "postmigrate").unwrap();
                wait_state(&mut self.destination, "paused").unwrap();
            }
        }
    }
}
