//! Without QMP at the destination, or at both ends: whatever dies at whichever step, never two guests run, and whoever is left says what
//! is known.
#![allow(
    clippy::unwrap_used,
    reason = "the tests share functions, and those are tests as well"
)]

use std::thread;
use std::time::{Duration, Instant};

use sealift_identity::Side;
use sealift_lab::guest::{Guest, Launch, PATIENCE};
use sealift_lab::migration::goes_on;
use sealift_lab::qemu::{self, Machine};
use sealift_lab::session::{Ended, Session};
use sealift_lab::trial::{self, Trial, listening, runs, runs_on, state, wait_state};
use sealift_lab::whole_matrix;
use serde_json::json;

/// Who gives the source's QEMU its orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// `sealift migrate`, over QMP.
    Migrate,
    /// A person at the monitor; nobody has QMP.
    Hand,
}

/// Where the guest is in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Is {
    /// It runs on there.
    AtSource,
    /// It runs there.
    AtDestination,
    /// It stands still at the source, and was not let run at the destination.
    Nowhere,
}

/// What must be seen before the end that is held is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    /// That it is held.
    Held,
    /// That the source's QEMU has let go of the guest.
    LetGo,
    /// That the guest runs at the destination.
    Running,
}

#[derive(Clone, Copy, Debug)]
struct Case {
    side: Side,
    step: &'static str,
    until: Until,
    is: Is,
    /// The exit code of the end that is left.
    code: i32,
}

const fn case(side: Side, step: &'static str, until: Until, is: Is, code: i32) -> Case {
    Case {
        side,
        step,
        until,
        is,
        code,
    }
}

use Is::{AtDestination, AtSource, Nowhere};
use Side::{Receiver, Source};
use Until::{Held, LetGo, Running};

/// A receiver that is prepared cannot know what became of SHUT, and keeps the guest's end until somebody decides. A source that has
/// completed cannot know whether the end was released.
const CASES: [Case; 12] = [
    case(Source, "before-say-stop-and-copy", Held, AtSource, 5),
    case(Source, "before-say-drained", Held, AtSource, 5),
    case(Source, "before-shut", Held, AtSource, 6),
    case(Source, "after-shut", LetGo, Nowhere, 6),
    case(Source, "before-say-commit", LetGo, Nowhere, 6),
    case(Source, "after-say-commit", Running, AtDestination, 0),
    case(Receiver, "before-load", Held, AtSource, 5),
    case(Receiver, "after-load", Held, AtSource, 5),
    case(Receiver, "before-say-prepared", Held, AtSource, 5),
    case(Receiver, "before-release", Held, Nowhere, 6),
    case(Receiver, "after-release", Running, AtDestination, 6),
    case(Receiver, "before-say-active", Running, AtDestination, 6),
];

/// Those that are tried each time.
const FEW: [(By, &str); 5] = [
    (By::Migrate, "before-shut"),
    (By::Hand, "before-say-commit"),
    (By::Hand, "before-say-prepared"),
    (By::Migrate, "before-release"),
    (By::Hand, "after-release"),
];

struct Pair {
    source: Guest,
    destination: Guest,
}

impl Pair {
    fn never_two(&mut self) {
        let two = runs(&mut self.source) && runs(&mut self.destination);
        assert!(!two, "the guest runs at both ends");
    }

    fn wait(&mut self, until: Until) {
        match until {
            Held => {}
            LetGo => wait_state(&mut self.source, "postmigrate").unwrap(),
            Running => wait_state(&mut self.destination, "running").unwrap(),
        }
        self.never_two();
    }

    /// Looks at both QEMUs until an end has ended, or says that it keeps the guest and will not end by itself.
    fn watch(&mut self, mut session: Session) -> Ended {
        let deadline = Instant::now() + PATIENCE;
        while session.runs().unwrap() && Instant::now() < deadline {
            self.never_two();
            if keeps(&session) {
                // Both stand as they will stand for as long as nobody decides.
                self.never_two();
                assert_eq!(state(&mut self.destination).as_deref(), Some("inmigrate"));
                session.terminate().unwrap();
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
        let ended = session.wait().unwrap();
        self.never_two();
        ended
    }

    fn is(&mut self, expected: Is) {
        match expected {
            AtSource => {
                runs_on(&mut self.source).unwrap();
                assert!(!runs(&mut self.destination));
            }
            AtDestination => {
                wait_state(&mut self.destination, "running").unwrap();
                goes_on(&self.source, &mut self.destination).unwrap();
                assert!(!runs(&mut self.source));
            }
            Nowhere => {
                wait_state(&mut self.source, "postmigrate").unwrap();
                assert!(!runs(&mut self.destination));
                // The one way out: what the advice says.
                self.source.qmp().execute("cont", json!({})).unwrap();
                runs_on(&mut self.source).unwrap();
                assert!(!runs(&mut self.destination));
            }
        }
    }
}

/// It keeps the stream's end for QEMU.
fn keeps(session: &Session) -> bool {
    let events = session.events().unwrap();
    events.iter().any(|event| {
        let message = event["message"].as_str().unwrap_or_default();
        message.contains("this process holds the guest")
    })
}

impl Case {
    fn run(&self, by: By) {
        let trial = Trial::new().unwrap();
        let qemu = qemu::all().unwrap().pop().unwrap();
        let launch = Launch::new(&qemu, &qemu.machine(Machine::Q35));
        let source = launch.clone().on(trial.hosts().a()).start().unwrap();
        let destination = launch.on(trial.hosts().b()).incoming().start().unwrap();
        let mut pair = Pair {
            source,
            destination,
        };
        pair.source.wait_tick(2).unwrap();

        let mut receive = trial.unmanaged(&mut pair.destination).unwrap();
        let out = format!("unix:{}", pair.source.path("outgoing").display());
        let mut send = match by {
            By::Migrate => trial.migrate(&pair.source, trial::PORT),
            By::Hand => trial.send(trial::PORT).with(["--listen", &out]),
        };
        // What each end makes of the other's loss is what is looked at here.
        send = send.with(["--resume-for", "0s"]);
        match self.side {
            Source => send = send.held(self.step),
            Receiver => receive = receive.held(self.step),
        }
        let receiver = listening(&receive).unwrap();
        let sender = match by {
            By::Migrate => send.start().unwrap(),
            By::Hand => {
                let sender = listening(&send).unwrap();
                by_hand(&mut pair.source, &out);
                sender
            }
        };
        let (mut held, other) = match self.side {
            Source => (sender, receiver),
            Receiver => (receiver, sender),
        };
        held.wait_held().unwrap();
        pair.wait(self.until);
        held.kill().unwrap();
        let ended = pair.watch(other);
        assert_eq!(ended.code, Some(self.code), "{}", ended.said());
        let expected = match self.code {
            0 => "destination",
            6 => "unknown",
            _ => "source",
        };
        assert_eq!(ended.last("outcome")["guest_at"], expected);
        if (self.side, self.code) == (Source, 6) {
            // Where the stream's end is missing, no cont helps.
            let said = ended.message();
            assert!(said.contains("cont runs it there again"), "{said}");
        }
        pair.is(self.is);
    }
}

fn by_hand(source: &mut Guest, out: &str) {
    let capabilities = json!({ "capabilities": [{ "capability": "return-path", "state": true }] });
    source
        .qmp()
        .execute("migrate-set-capabilities", capabilities)
        .unwrap();
    source
        .qmp()
        .execute("migrate", json!({ "uri": out }))
        .unwrap();
}

#[test]
fn a_hand_off_without_qmp_leaves_at_most_one_guest_whatever_dies() {
    let mut wrong = Vec::new();
    for by in [By::Migrate, By::Hand] {
        for case in CASES {
            if whole_matrix() || FEW.contains(&(by, case.step)) {
                let ran = std::panic::catch_unwind(|| case.run(by));
                if ran.is_err() {
                    wrong.push(format!("{} by {by:?}", case.step));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}
