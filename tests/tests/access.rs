//! Both ends come by the guest's memory in any pair of ways, of whatever it is made, and all of it is right; and what becomes of a source
//! that may not look, or whose QEMU dies under its eyes.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "the tests share functions, and those are tests as well"
)]

use sealift_lab::backing::{Backing, HugePages};
use sealift_lab::guest::Guest;
use sealift_lab::migration::goes_on;
use sealift_lab::qemu::{self, Qemu};
use sealift_lab::session::{Ended, Order};
use sealift_lab::trial::{self, Trial, listening, runs_on, wait_state};
use sealift_lab::{Error, whole_matrix};
use serde_json::{Value, json};

/// `--access` at either end.
#[derive(Clone, Copy, Debug)]
struct Ways {
    source: &'static str,
    receiver: &'static str,
}

const fn ways(source: &'static str, receiver: &'static str) -> Ways {
    Ways { source, receiver }
}

const AUTO: Ways = ways("auto", "auto");

/// Those of nine that are tried each time: each way at each end, and both directly.
const FEW: [Ways; 4] = [
    ways("stream", "process"),
    ways("process", "mapped"),
    ways("mapped", "stream"),
    ways("mapped", "mapped"),
];

/// A link on which the first pass takes some time: the guest comes to rewrite something meanwhile. All that it rewrites fits the blackout, or it would never move.
const UNHURRIED: [&str; 4] = ["--bandwidth", "50mbit", "--max-downtime", "300ms"];

/// A move of a guest that rewrites its memory hard.
struct Move<'a> {
    trial: &'a Trial,
    qemu: &'a Qemu,
    from: &'a Backing,
    to: &'a Backing,
    ways: Ways,
    /// Options of `migrate` beside those.
    more: &'a [&'a str],
}

impl Move<'_> {
    /// Moves it, and looks at all that can be seen of its memory.
    fn run(&self) -> (Ended, Ended) {
        trial::spared(|| self.attempt()).unwrap()
    }

    /// None when QEMU lost a write.
    fn attempt(&self) -> Option<(Ended, Ended)> {
        let Self {
            trial,
            qemu,
            from,
            to,
            ways,
            more,
        } = self;
        let mut source = trial.running(&from.launch(qemu)).unwrap();
        let mut destination = trial.waiting(&to.launch(qemu)).unwrap();
        let receiver = trial.managed(&destination);
        let receiver = listening(&receiver.with(["--access", ways.receiver])).unwrap();
        let order = trial.migrate(&source, trial::PORT);
        let order = order.with(["--verify", "full", "--access", ways.source]);
        let sent = order.with(*more).start().unwrap().wait().unwrap();
        let received = receiver.wait().unwrap();
        if trial::lost_a_write(&sent) {
            return None;
        }
        let said = format!(
            "{} to {}, {}, {ways:?}, {more:?}\n{}{}",
            from.name,
            to.name,
            qemu.release(),
            sent.said(),
            received.said()
        );
        assert_eq!((sent.code, received.code), (Some(0), Some(0)), "{said}");
        let verification = sent.last("verification");
        assert_eq!(verification["full"], "equal", "{said}");
        assert_eq!(verification["version_maps_equal"], true, "{said}");
        wait_state(&mut destination, "running").unwrap();
        goes_on(&source, &mut destination).unwrap_or_else(|error| panic!("{said}\n{error}"));
        assert!(!trial::runs(&mut source), "{said}");
        self.assert_ways(&sent, &received, &said);
        Some((sent, received))
    }

    /// The way that was meant is the one that was gone, to the end.
    fn assert_ways(&self, sent: &Ended, received: &Ended, said: &str) {
        let source = match self.ways.source {
            "auto" => self.from.way,
            way => way,
        };
        let report = sent.last("report");
        assert_eq!(report["access"], source, "{said}");
        // A block that is given up is told with what it was found to be.
        let reason = report["access_reason"].as_str().unwrap();
        assert!(!reason.contains("; but "), "{said}");

        let mut expected: Vec<_> = match self.ways.receiver {
            "stream" => vec![],
            "auto" => placed(self.to.blocks, self.to.way_in),
            way => placed(self.to.blocks, way),
        };
        let told = received.events.iter();
        let told = told.filter(|event| event["event"] == "access" && event["access"] != "relay");
        let told: Vec<_> = told
            .map(|event| (event["block"].clone(), event["access"].clone()))
            .collect();
        // Nobody holds an old QEMU: it may stop the guest before a second block's pages could be checked.
        if !self.qemu.is_modern() {
            expected.truncate(told.len().max(1));
        }
        assert_eq!(told, expected, "{said}");
    }
}

/// Of a guest that rewrites the same pages: what changed, and copies.
fn assert_named(sent: &Ended) {
    let report = sent.last("report");
    let records = &report["records"];
    for kind in ["delta", "same_as", "literal", "zero"] {
        assert!(
            records[kind]["pages"].as_u64() > Some(0),
            "{kind} in {report}"
        );
    }
}

fn placed(blocks: &[&str], way: &str) -> Vec<(Value, Value)> {
    let each = blocks.iter();
    each.map(|&block| (json!(block), json!(way))).collect()
}

/// The newest alone, or all in the whole matrix.
fn qemus() -> Vec<Qemu> {
    let mut all = qemu::all().unwrap();
    match whole_matrix() {
        true => all,
        false => vec![all.pop().unwrap()],
    }
}

fn newest() -> Qemu {
    qemu::all().unwrap().pop().unwrap()
}

fn all_pairs() -> impl Iterator<Item = Ways> {
    const EACH: [&str; 3] = ["stream", "process", "mapped"];
    let pairs = EACH.map(|source| EACH.map(|receiver| ways(source, receiver)));
    pairs.into_iter().flatten()
}

#[test]
fn each_way_out_of_memory_goes_with_each_way_into_it() {
    let trial = Trial::new().unwrap();
    for qemu in qemus() {
        let pairs: Vec<_> = match whole_matrix() {
            true => all_pairs().collect(),
            false => FEW.to_vec(),
        };
        for ways in pairs {
            let (from, to) = (Backing::memfd(), Backing::memfd());
            let (from, to) = (&from, &to);
            let (trial, qemu) = (&trial, &qemu);
            let (sent, _) = Move {
                trial,
                qemu,
                from,
                to,
                ways,
                more: &UNHURRIED,
            }
            .run();
            assert_named(&sent);
        }
    }
}

type Make = fn() -> Result<Backing, Error>;

/// Memory of every kind, at the source and at the destination, and whether it is tried each time.
const KINDS: [(Make, Make, bool); 8] = [
    (nodes, nodes, true),
    (flash_a, flash_b, true),
    (used_file, used_view, true),
    (private_memfd, memfd, true),
    (used_view, used_file, false),
    (private, private, false),
    (memfd, private_memfd, false),
    (q35, q35, false),
];

fn private() -> Result<Backing, Error> {
    Ok(Backing::private())
}

fn q35() -> Result<Backing, Error> {
    Ok(Backing::q35())
}

fn memfd() -> Result<Backing, Error> {
    Ok(Backing::memfd())
}

fn private_memfd() -> Result<Backing, Error> {
    Ok(Backing::private_memfd())
}

fn nodes() -> Result<Backing, Error> {
    Ok(Backing::nodes())
}

fn used_file() -> Result<Backing, Error> {
    Backing::used_file(true)
}

fn used_view() -> Result<Backing, Error> {
    Backing::used_file(false)
}

fn flash_a() -> Result<Backing, Error> {
    Backing::q35_with_flash(0xa5)
}

fn flash_b() -> Result<Backing, Error> {
    Backing::q35_with_flash(0)
}

#[test]
fn memory_of_each_kind_is_read_and_written_directly() {
    let trial = Trial::new().unwrap();
    for qemu in qemus() {
        for (from, to, always) in KINDS {
            if always || whole_matrix() {
                let (from, to) = (from().unwrap(), to().unwrap());
                let (sent, _) = Move {
                    trial: &trial,
                    qemu: &qemu,
                    from: &from,
                    to: &to,
                    ways: AUTO,
                    more: &UNHURRIED,
                }
                .run();
                assert_named(&sent);
            }
        }
    }
}

#[test]
fn huge_pages_are_read_and_written_directly() {
    // 4 for each end, and 4 more for whom they are with meanwhile.
    let Some(_more) = HugePages::more(12).unwrap() else {
        eprintln!("NOT TESTED: huge pages. This machine does not set any aside");
        return;
    };
    let trial = Trial::new().unwrap();
    let (from, to) = (Backing::huge(), Backing::huge());
    let (sent, _) = Move {
        trial: &trial,
        qemu: &newest(),
        from: &from,
        to: &to,
        ways: AUTO,
        more: &UNHURRIED,
    }
    .run();
    assert_named(&sent);
}

/// Narrow links, little memory, one lane and many, and a QEMU that nobody holds at the gate.
#[test]
fn whatever_presses_the_source_memory_arrives_whole() {
    let presses: [&[&str]; 4] = [
        &["--bandwidth", "20mbit", "--max-downtime", "600ms"],
        &["--lanes", "1", "--memory-budget", "129MiB"],
        &["--lanes", "16", "--max-downtime", "1s"],
        &["--bandwidth", "100mbit", "--lanes", "16"],
    ];
    let trial = Trial::new().unwrap();
    for qemu in qemu::all().unwrap() {
        for (number, more) in presses.iter().enumerate() {
            // The oldest is the one without a gate.
            let few = number == 0 || (number == 1 && !qemu.is_modern());
            if few || whole_matrix() {
                let (from, to) = (Backing::private_memfd(), Backing::memfd());
                Move {
                    trial: &trial,
                    qemu: &qemu,
                    from: &from,
                    to: &to,
                    ways: AUTO,
                    more,
                }
                .run();
            }
        }
    }
}

#[test]
fn a_qemu_that_dies_while_its_memory_is_read_is_named() {
    let trial = Trial::new().unwrap();
    let qemu = newest();
    for backing in [Backing::private(), Backing::memfd()] {
        let mut source = trial.running(&backing.launch(&qemu)).unwrap();
        let destination = trial.waiting(&backing.launch(&qemu)).unwrap();
        let receiver = listening(&trial.managed(&destination)).unwrap();
        let order = trial.migrate(&source, trial::PORT).crawling();
        let mut sending = order.start().unwrap();
        sending.wait_stage("pre_copy").unwrap();
        sending.wait_event("progress", |_| true).unwrap();
        source.kill().unwrap();
        let (sent, received) = (sending.wait().unwrap(), receiver.wait().unwrap());
        let said = format!("{}{}", sent.said(), received.said());
        assert_eq!(sent.last("admitted")["access"], backing.way, "{said}");
        let outcome = sent.last("outcome");
        assert_ne!(sent.code, Some(0), "{said}");
        assert_ne!(received.code, Some(0), "{said}");
        assert_eq!(outcome["fault"], "this_host", "{said}");
        assert!(sent.message().contains("QEMU"), "{said}");
    }
}

/// The source's end of a move that comes by the stream all the same, and says why.
fn by_stream_because(sent: &Ended, received: &Ended, why: &str) {
    let said = format!("{}{}", sent.said(), received.said());
    assert_eq!((sent.code, received.code), (Some(0), Some(0)), "{said}");
    let report = sent.last("report");
    assert_eq!(report["access"], "stream", "{said}");
    let reason = report["access_reason"].as_str().unwrap();
    assert!(reason.contains(why), "{reason}");
}

fn assert_moved(mut source: Guest, mut destination: Guest) {
    wait_state(&mut destination, "running").unwrap();
    goes_on(&source, &mut destination).unwrap();
    assert!(!trial::runs(&mut source));
}

#[test]
fn a_mapping_that_is_ordered_of_private_memory_is_refused_and_the_guest_runs_on() {
    let trial = Trial::new().unwrap();
    let private = Backing::private();
    let mut source = trial.running(&private.launch(&newest())).unwrap();
    let destination = trial.waiting(&private.launch(&newest())).unwrap();
    let _receiver = listening(&trial.managed(&destination)).unwrap();
    let order = trial.migrate(&source, trial::PORT);
    let sent = order.with(["--access", "mapped"]).start().unwrap();
    let sent = sent.wait().unwrap();
    assert_eq!(sent.code, Some(5), "{}", sent.said());
    let message = sent.message();
    assert_eq!(sent.last("outcome")["fault"], "user", "{message}");
    for word in ["--access mapped", "pc.ram", "share=on"] {
        assert!(message.contains(word), "{word} in: {message}");
    }
    runs_on(&mut source).unwrap();
}

#[test]
fn a_source_that_may_not_look_takes_the_stream_and_says_why() {
    let trial = Trial::new().unwrap();
    let private = Backing::private();
    let source = trial.running(&private.launch(&newest())).unwrap();
    let destination = trial.waiting(&private.launch(&newest())).unwrap();
    let receiver = listening(&trial.managed(&destination)).unwrap();
    let order = trial.migrate(&source, trial::PORT).without_tracing();
    let sent = order.start().unwrap().wait().unwrap();
    by_stream_because(&sent, &receiver.wait().unwrap(), "CAP_SYS_PTRACE");
    assert_moved(source, destination);
}

#[test]
fn a_control_socket_of_another_host_s_leaves_the_stream_and_says_why() {
    const CONTROL: &str = "tcp:127.0.0.1:4455";
    let trial = Trial::new().unwrap();
    let private = Backing::private();
    let over_tcp = private.launch(&newest());
    let over_tcp = over_tcp.arguments(["-qmp", "tcp:127.0.0.1:4455,server=on,wait=off"]);
    let source = trial.running(&over_tcp).unwrap();
    let destination = trial.waiting(&private.launch(&newest())).unwrap();
    let receiver = listening(&trial.managed(&destination)).unwrap();
    let order = trial.migrate(&source, trial::PORT);
    let sent = order.instead("--qmp", CONTROL).start().unwrap();
    by_stream_because(
        &sent.wait().unwrap(),
        &receiver.wait().unwrap(),
        "control socket",
    );
    assert_moved(source, destination);
}

/// By hand: QEMU is told by a person to migrate to `send`.
fn by_hand(trial: &Trial, multifd: bool) -> (Ended, Ended) {
    let memfd = Backing::memfd();
    let mut source = trial.running(&memfd.launch(&newest())).unwrap();
    let mut destination = trial.waiting(&memfd.launch(&newest())).unwrap();
    for guest in [&mut source, &mut destination] {
        let on = |name: &str| json!({ "capability": name, "state": true });
        let mut capabilities = vec![on("return-path")];
        if multifd {
            capabilities.push(on("multifd"));
        }
        let capabilities = json!({ "capabilities": capabilities });
        let qmp = guest.qmp();
        qmp.execute("migrate-set-capabilities", capabilities)
            .unwrap();
    }
    let receiver = listening(&trial.managed(&destination)).unwrap();
    let out = format!("unix:{}", source.path("outgoing").display());
    let order: Order = trial.send(trial::PORT).with(["--listen", &out]);
    let order = order.with(["--verify", "full"]);
    let order = order.with(["--qmp", &source.free_control().to_string()]);
    let sender = listening(&order).unwrap();
    source
        .qmp()
        .execute("migrate", json!({ "uri": out }))
        .unwrap();
    let ended = (sender.wait().unwrap(), receiver.wait().unwrap());
    assert_eq!(
        ended.0.last("verification")["full"],
        "equal",
        "{}",
        ended.0.said()
    );
    assert_moved(source, destination);
    ended
}

#[test]
fn a_guest_that_is_sent_by_hand_is_read_directly() {
    let (sent, received) = by_hand(&Trial::new().unwrap(), false);
    let said = format!("{}{}", sent.said(), received.said());
    assert_eq!((sent.code, received.code), (Some(0), Some(0)), "{said}");
    assert_eq!(sent.last("report")["access"], "mapped", "{said}");
}

#[test]
fn a_guest_that_is_sent_by_hand_over_several_channels_comes_by_them() {
    let (sent, received) = by_hand(&Trial::new().unwrap(), true);
    by_stream_because(&sent, &received, "multifd");
}
