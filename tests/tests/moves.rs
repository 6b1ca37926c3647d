//! Guests move by sealift between real QEMUs, and go on with all their memory right.
#![allow(
    clippy::unwrap_used,
    reason = "the tests share functions, and those are tests as well"
)]

use std::thread;

use sealift_lab::guest::{Guest, Launch};
use sealift_lab::migration::goes_on;
use sealift_lab::qemu::{self, Machine, Qemu};
use sealift_lab::session::{Ended, Order};
use sealift_lab::trial::{self, Trial, incoming, listening, wait_state};
use sealift_lab::whole_matrix;
use serde_json::{Value, json};

/// How a guest is moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// `sealift migrate`, to a QEMU that the receiver lets listen.
    Migrate,
    /// `sealift migrate`, to a QEMU that listens already.
    MigrateListening,
    /// `sealift send` and `receive`; QEMU connects by a unix socket.
    Unix,
    /// By TCP.
    Tcp,
    /// QEMU starts both, and has no other channel.
    Exec,
    /// Over a unix socket, with so many channels for memory.
    Multifd(u64),
}

/// Who has QMP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Qmp {
    Both,
    Source,
    Destination,
    Neither,
}

impl Qmp {
    const fn at_source(self) -> bool {
        matches!(self, Self::Both | Self::Source)
    }

    const fn at_destination(self) -> bool {
        matches!(self, Self::Both | Self::Destination)
    }
}

/// A move's stages, as both ends tell them.
const STAGES: [&str; 7] = [
    "pre_migration",
    "reservation",
    "pre_copy",
    "stop_and_copy",
    "commitment",
    "activation",
    "done",
];

#[derive(Clone, Debug)]
struct Case {
    from: Qemu,
    to: Qemu,
    machine: String,
    vcpus: u32,
    by: By,
    qmp: Qmp,
    paused: bool,
    port: u16,
}

impl Case {
    fn new(from: &Qemu, to: &Qemu, machine: Machine, by: By) -> Self {
        Self {
            from: from.clone(),
            to: to.clone(),
            machine: from.machine(machine),
            vcpus: 1,
            by,
            qmp: Qmp::Both,
            paused: false,
            port: trial::PORT,
        }
    }

    fn name(&self) -> String {
        let Self {
            from,
            to,
            machine,
            vcpus,
            by,
            qmp,
            paused,
            ..
        } = self;
        let (from, to) = (from.release(), to.release());
        format!("{from} to {to}, {machine}, {vcpus} vCPUs, {by:?}, QMP {qmp:?}, paused {paused}")
    }

    fn launch(&self, qemu: &Qemu) -> Launch {
        Launch::new(qemu, &self.machine).arguments(["-smp".to_owned(), self.vcpus.to_string()])
    }

    /// Moves a guest and looks at what became of it.
    fn run(&self, trial: &Trial) {
        trial::spared(|| self.attempt(trial)).unwrap();
    }

    /// None when QEMU lost a write.
    fn attempt(&self, trial: &Trial) -> Option<()> {
        let hosts = trial.hosts();
        let mut source = self.launch(&self.from).on(hosts.a()).start().unwrap();
        let destination = self.launch(&self.to).on(hosts.b()).incoming();
        let mut destination = destination.start().unwrap();
        source.wait_tick(2).unwrap();
        if self.paused {
            source.qmp().execute("stop", Value::Null).unwrap();
        }
        let (sent, received) = self.carry(trial, &mut source, &mut destination);
        if trial::lost_a_write(&sent) {
            return None;
        }
        self.told(&sent, &received);
        if self.paused {
            wait_state(&mut destination, "paused").unwrap();
            destination.qmp().execute("cont", Value::Null).unwrap();
        }
        assert!(!trial::runs(&mut source));
        wait_state(&mut destination, "running").unwrap();
        goes_on(&source, &mut destination).unwrap();
        assert!(!trial::runs(&mut source));
        Some(())
    }

    fn told(&self, sent: &Ended, received: &Ended) {
        for ended in [sent, received] {
            let stages: Vec<_> = ended
                .events
                .iter()
                .filter(|event| event["event"] == "stage")
                .map(|event| event["stage"].as_str().unwrap())
                .collect();
            assert_eq!(stages, STAGES, "{}", ended.said());
        }
        let codes = (sent.code, received.code);
        let said = format!("{}{}", sent.said(), received.said());
        assert_eq!(codes, (Some(0), Some(0)), "{said}");
        let report = sent.last("report");
        let verification = sent.last("verification");
        assert_eq!(verification["version_maps_equal"], true, "{verification}");
        if self.qmp == Qmp::Both {
            assert_eq!(verification["full"], "equal", "{report}");
        }
        assert_eq!(report["channels"], self.channels(), "{report}");
        // By hand multifd's own heads name them.
        if !matches!(self.by, By::Multifd(_)) {
            let zeros = report["records"]["zero"]["pages"].as_u64();
            assert!(zeros > Some(0), "{report}");
        }
        let managed = self.qmp.at_destination() && self.qmp.at_source();
        let hand_off = &report["hand_off"];
        let said = hand_off == "managed";
        assert_eq!(said, managed, "{report}");
        // A guest that stands still has no blackout.
        let blackout = &sent.last("blackout")["true_ms"];
        assert_eq!(blackout.is_null(), self.paused, "{report}");
    }

    /// How many QEMU opens.
    fn channels(&self) -> u64 {
        match self.by {
            By::Multifd(channels) => 1 + channels,
            _ => 1,
        }
    }

    fn carry(&self, trial: &Trial, source: &mut Guest, destination: &mut Guest) -> (Ended, Ended) {
        match self.by {
            By::Exec => self.carry_by_exec(trial, source, destination),
            _ => self.carry_by_sockets(trial, source, destination),
        }
    }

    fn carry_by_sockets(
        &self,
        trial: &Trial,
        source: &mut Guest,
        destination: &mut Guest,
    ) -> (Ended, Ended) {
        let (out, into) = self.addresses(source, destination);
        let migrates = matches!(self.by, By::Migrate | By::MigrateListening);
        if !migrates {
            capable(source, self.by);
            capable(destination, self.by);
        }
        if !self.qmp.at_destination() || self.by == By::MigrateListening {
            wait_incoming(destination, &into);
        }
        let receiver = self.receiver(trial, destination).with(["--qemu", &into]);
        let receiver = listening(&receiver).unwrap();
        let sent = if migrates {
            let order = self.verified(trial.migrate(source, self.port));
            order.start().unwrap().wait().unwrap()
        } else {
            let order = self.sender(trial, source).with(["--listen", &out]);
            let sender = listening(&order).unwrap();
            migrate(source, &out);
            sender.wait().unwrap()
        };
        (sent, receiver.wait().unwrap())
    }

    /// QEMU starts sealift at both ends.
    fn carry_by_exec(
        &self,
        trial: &Trial,
        source: &mut Guest,
        destination: &mut Guest,
    ) -> (Ended, Ended) {
        capable(source, self.by);
        capable(destination, self.by);
        let (out, into) = (source.path("told"), destination.path("told"));
        let receiver = self.receiver(trial, destination).shell(&into);
        wait_incoming(destination, &format!("exec:{receiver}"));
        Ended::waits(&into).unwrap();
        let sender = self.sender(trial, source).shell(&out);
        migrate(source, &format!("exec:{sender}"));
        (
            Ended::of_exec(&out).unwrap(),
            Ended::of_exec(&into).unwrap(),
        )
    }

    fn receiver(&self, trial: &Trial, destination: &Guest) -> Order {
        let order = trial.receive(trial::RECEIVER, self.port);
        let order = order.with(["--allow", trial::SOURCE]);
        match self.qmp.at_destination() {
            true => order.with(["--qmp", &destination.free_control().to_string()]),
            false => order,
        }
    }

    fn sender(&self, trial: &Trial, source: &Guest) -> Order {
        let order = trial.send(self.port);
        match self.qmp.at_source() {
            true => self.verified(order.with(["--qmp", &source.free_control().to_string()])),
            false => order,
        }
    }

    fn verified(&self, order: Order) -> Order {
        match self.qmp {
            Qmp::Both => order.with(["--verify", "full"]),
            _ => order,
        }
    }

    /// Where QEMU writes to, and where the other one waits.
    fn addresses(&self, source: &Guest, destination: &Guest) -> (String, String) {
        match self.by {
            By::Tcp => ("tcp:127.0.0.1:4444".into(), "tcp:127.0.0.1:4445".into()),
            _ => (
                format!("unix:{}", source.path("outgoing").display()),
                format!("unix:{}", incoming(destination)),
            ),
        }
    }
}

/// Sets QEMU up as whoever gives the orders would.
fn capable(guest: &mut Guest, by: By) {
    let mut names = vec!["return-path"];
    if let By::Multifd(channels) = by {
        names.push("multifd");
        let parameters = json!({ "multifd-channels": channels });
        guest
            .qmp()
            .execute("migrate-set-parameters", parameters)
            .unwrap();
    }
    let names = names
        .iter()
        .map(|name| json!({ "capability": name, "state": true }));
    let capabilities = json!({ "capabilities": names.collect::<Vec<_>>() });
    guest
        .qmp()
        .execute("migrate-set-capabilities", capabilities)
        .unwrap();
}

fn migrate(source: &mut Guest, uri: &str) {
    source
        .qmp()
        .execute("migrate", json!({ "uri": uri }))
        .unwrap();
}

fn wait_incoming(destination: &mut Guest, uri: &str) {
    let uri = json!({ "uri": uri });
    destination.qmp().execute("migrate-incoming", uri).unwrap();
}

/// Says which case it was that failed.
fn run(case: &Case, trial: &Trial) {
    let name = case.name();
    let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| case.run(trial)));
    assert!(ran.is_ok(), "{name}");
}

/// Each QEMU to itself, and to the later one with a machine type that both know.
fn pairs() -> Vec<(Qemu, Qemu)> {
    let all = qemu::all().unwrap();
    let same = all.iter().map(|qemu| (qemu.clone(), qemu.clone()));
    let later = all.windows(2).map(|two| (two[0].clone(), two[1].clone()));
    same.chain(later).collect()
}

fn newest() -> Qemu {
    qemu::all().unwrap().pop().unwrap()
}

#[test]
fn a_guest_moves_by_migrate() {
    let trial = Trial::new().unwrap();
    for (from, to) in pairs() {
        for machine in [Machine::I440fx, Machine::Q35] {
            for vcpus in [1, 4] {
                let few = (machine == Machine::Q35) == (vcpus == 4);
                if few || whole_matrix() {
                    let case = Case::new(&from, &to, machine, By::Migrate);
                    run(&Case { vcpus, ..case }, &trial);
                }
            }
        }
    }
}

#[test]
fn a_guest_moves_to_a_qemu_that_listens_already() {
    let trial = Trial::new().unwrap();
    let qemu = newest();
    let case = Case::new(&qemu, &qemu, Machine::Q35, By::MigrateListening);
    run(&case, &trial);
}

#[test]
fn a_guest_moves_by_send_and_receive() {
    let trial = Trial::new().unwrap();
    for (from, to) in pairs() {
        for by in [By::Unix, By::Tcp, By::Exec] {
            run(&Case::new(&from, &to, Machine::Q35, by), &trial);
            if whole_matrix() {
                let case = Case::new(&from, &to, Machine::I440fx, by);
                run(&Case { vcpus: 4, ..case }, &trial);
            }
        }
    }
}

#[test]
fn a_guest_moves_over_several_channels() {
    let trial = Trial::new().unwrap();
    for (from, to) in pairs() {
        for channels in [1, 2, 4] {
            let few = channels == 2 || from.is_modern();
            if few || whole_matrix() {
                let by = By::Multifd(channels);
                run(&Case::new(&from, &to, Machine::Q35, by), &trial);
            }
        }
    }
}

#[test]
fn a_guest_moves_where_not_both_ends_have_qmp() {
    let trial = Trial::new().unwrap();
    for (from, to) in pairs() {
        for qmp in [Qmp::Neither, Qmp::Source, Qmp::Destination] {
            for by in [By::Unix, By::Exec] {
                if by == By::Unix || whole_matrix() {
                    let case = Case::new(&from, &to, Machine::Q35, by);
                    run(&Case { qmp, ..case }, &trial);
                }
            }
        }
    }
}

#[test]
fn a_paused_guest_stays_paused() {
    let trial = Trial::new().unwrap();
    let paused = true;
    for (from, to) in pairs() {
        let by_migrate = Case::new(&from, &to, Machine::Q35, By::Migrate);
        run(
            &Case {
                paused,
                ..by_migrate
            },
            &trial,
        );
        for qmp in [Qmp::Both, Qmp::Neither, Qmp::Source, Qmp::Destination] {
            let by_hand = Case::new(&from, &to, Machine::Q35, By::Unix);
            run(
                &Case {
                    paused,
                    qmp,
                    ..by_hand
                },
                &trial,
            );
        }
    }
}

#[test]
fn four_guests_move_at_once_each_to_its_receiver() {
    let trial = Trial::new().unwrap();
    let qemu = newest();
    thread::scope(|scope| {
        for number in 0..4 {
            let port = trial::PORT + number;
            let case = Case::new(&qemu, &qemu, Machine::Q35, By::Migrate);
            let (case, trial) = (Case { port, ..case }, &trial);
            // A QEMU ends with the thread that started it.
            scope.spawn(move || run(&case, trial));
        }
    });
}
