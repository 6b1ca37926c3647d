//! Checks the crate against `proto/vectors/`, which a second implementation made from WIRE.md.

use std::string::String;
use std::vec::Vec;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::exchange::{Exchanged, Initiator, Share, respond};
use crate::header::{Header, TAG_LENGTH};
use crate::keyed::Unconfirmed;
use crate::ledger::Ledger;
use crate::mlkem::MlKemKey;
use crate::opener::Opener;
use crate::role::{Direction, Role, Side};
use crate::schedule::{Schedule, SessionId};
use crate::sealer::Sealer;
use crate::secret::{Exporter, Seed};
use crate::suite::Suite;
use crate::transcript::{Context, RamBlock, Return};

const KEYS: &str = include_str!("../../../../proto/vectors/keys.json");
const BATCHES: &str = include_str!("../../../../proto/vectors/batches.json");

#[test]
fn the_key_schedule_is_the_vectors() {
    let mut suites = Vec::new();
    let keys = parse(KEYS);
    let cases = list(&keys["cases"]);
    assert_eq!(cases.len(), 5);
    for case in cases {
        let case = Case::read(case);
        suites.push(case.suite.number());
        let (source, receiver) = case.exchange();
        case.check_rejection();
        case.check_exchanged(&source);
        case.check_exchanged(&receiver);
        let (source, receiver) = (case.derive(source), case.derive(receiver));
        case.check_derived(&source);
        case.check_derived(&receiver);
        case.check_returned(source.schedule());
    }
    for suite in Suite::ALL {
        assert!(suites.contains(&suite.number()), "no vectors for {suite}");
    }
}

#[test]
fn sealing_makes_the_vectors_and_opening_takes_them() {
    let keys = parse(KEYS);
    let batches = parse(BATCHES);
    let lanes = list(&batches["lanes"]);
    let counts: Vec<_> = lanes
        .iter()
        .map(|lane| list(&lane["batches"]).len())
        .collect();
    assert_eq!(counts, [6, 2, 2, 6, 2, 2]);
    for lane in lanes {
        let case = Case::read(
            list(&keys["cases"])
                .iter()
                .find(|case| case["name"] == lane["case"])
                .unwrap(),
        );
        let keys = case.derive(case.exchange().0);
        check_lane(keys.schedule(), lane);
        let epoch = |first: u64| {
            let mut epoch = epoch_of(keys.schedule(), lane);
            epoch.skip_to(first, 0);
            epoch
        };
        let first = number(&lane["first_sequence"]);
        let mut sealer = Sealer::new(epoch(first));
        let mut opener = Opener::new(epoch(first));
        for (sequence, batch) in (first..).zip(list(&lane["batches"])) {
            assert_eq!(number(&batch["sequence"]), sequence);
            let body = body(usize::try_from(number(&batch["length"])).unwrap());
            let mut sealed = [&[0; Header::LENGTH], body.as_slice(), &[0; TAG_LENGTH]].concat();
            sealer.seal(number(&batch["batch"]), &mut sealed).unwrap();
            assert_eq!(Sha256::digest(&sealed).as_slice(), bytes(&batch["sha256"]));
            if let Some(expected) = batch.get("sealed") {
                assert_eq!(sealed, bytes(expected));
            }

            let (header, rest) = sealed.split_first_chunk_mut().unwrap();
            let checked = opener.check(header).unwrap();
            let opened = opener.open(checked, rest).unwrap();
            assert_eq!(opened.batch(), number(&batch["batch"]));
            // The vectors' batch numbers are far apart: each gets a ledger that has come that far.
            let opened = opened
                .accept(&mut Ledger::starting_at(number(&batch["batch"])))
                .unwrap();
            assert_eq!(opened, body);
        }
    }
}

/// A case of keys.json with its inputs taken apart.
struct Case<'a> {
    json: &'a Value,
    suite: Suite,
    /// The hellos, offer, choice, admission and verdict.
    messages: [Vec<u8>; 6],
    certificates: [Vec<u8>; 2],
    peer_name: Vec<u8>,
    guest_name: Vec<u8>,
    blocks: Vec<(Vec<u8>, u64, u64)>,
    offered: Vec<u16>,
}

impl<'a> Case<'a> {
    fn read(json: &'a Value) -> Self {
        let context = &json["context"];
        Self {
            json,
            suite: Suite::try_from(u16::try_from(number(&json["suite"])).unwrap()).unwrap(),
            messages: [
                "source_hello",
                "receiver_hello",
                "offer",
                "choice",
                "admission",
                "verdict",
            ]
            .map(|name| bytes(&context[name])),
            certificates: [
                bytes(&context["source_certificate"]),
                bytes(&context["receiver_certificate"]),
            ],
            peer_name: bytes(&context["peer_name"]),
            guest_name: bytes(&context["guest_name"]),
            blocks: list(&context["ram_blocks"])
                .iter()
                .map(|block| {
                    (
                        bytes(&block["name"]),
                        number(&block["length"]),
                        number(&block["page_size"]),
                    )
                })
                .collect(),
            offered: list(&context["offered"])
                .iter()
                .map(|suite| u16::try_from(number(suite)).unwrap())
                .collect(),
        }
    }

    fn exchange(&self) -> (Exchanged<crate::Source>, Exchanged<crate::Receiver>) {
        let source = Initiator::new(self.suite, self.seed("source_secret", "mlkem_seed")).unwrap();
        let receiver = respond(
            self.suite,
            self.seed("receiver_secret", "mlkem_m"),
            source.share(),
        )
        .unwrap();
        (source.exchange(receiver.share()).unwrap(), receiver)
    }

    fn seed(&self, ecdh: &str, mlkem: &str) -> Seed {
        let (ecdh, mlkem) = (self.bytes(ecdh), self.bytes(mlkem));
        Seed::fill(|seed| {
            seed[..32].copy_from_slice(&ecdh);
            seed[64..64 + mlkem.len()].copy_from_slice(&mlkem);
            Ok::<_, ()>(())
        })
        .unwrap()
    }

    fn check_exchanged<S: Side>(&self, exchanged: &Exchanged<S>) {
        let shares = exchanged.shares();
        assert_eq!(shares.suite, self.suite);
        assert_eq!(
            shares.source,
            Share {
                ecdh: &self.bytes("source_share"),
                mlkem: &self.bytes("encapsulation_key"),
            }
        );
        assert_eq!(
            shares.receiver,
            Share {
                ecdh: &self.bytes("receiver_share"),
                mlkem: &self.bytes("ciphertext"),
            }
        );
        assert_eq!(
            exchanged.input_key_material(),
            [self.bytes("ecdh"), self.bytes("mlkem")].concat()
        );
        self.with_context(|context| {
            let mut transcript = Vec::new();
            context
                .write(&shares, &mut |bytes| transcript.extend_from_slice(bytes))
                .unwrap();
            assert_eq!(transcript, self.bytes("transcript"));
            assert_eq!(
                context.hash(&shares).unwrap().as_slice(),
                self.bytes("transcript_hash")
            );
        });
    }

    /// A ciphertext with its last bit altered gives the key that FIPS 203 rejects with, and no error.
    fn check_rejection(&self) {
        let rejected = self.bytes("mlkem_rejected");
        assert_eq!(rejected.len(), if self.suite.has_mlkem() { 32 } else { 0 });
        if rejected.is_empty() {
            return;
        }
        let seed = self.bytes("mlkem_seed").try_into().unwrap();
        let mut ciphertext = self.bytes("ciphertext");
        *ciphertext.last_mut().unwrap() ^= 1;
        let mut shared = [0; 32];
        MlKemKey::from_seed(&seed)
            .decapsulate(&ciphertext, &mut shared)
            .unwrap();
        assert_eq!(shared.as_slice(), rejected);
        assert_ne!(rejected, self.bytes("mlkem"));
    }

    fn derive<S: Side>(&self, exchanged: Exchanged<S>) -> Unconfirmed<S> {
        let exporter = Exporter::fill(|exporter| {
            exporter.copy_from_slice(&self.bytes("exporter"));
            Ok::<_, ()>(())
        })
        .unwrap();
        let session = SessionId(self.bytes("session").try_into().unwrap());
        self.with_context(|context| exchanged.derive(exporter, session, context))
            .unwrap()
    }

    fn check_derived<S: Side>(&self, keys: &Unconfirmed<S>) {
        let schedule = keys.schedule();
        assert_eq!(schedule.prk().as_slice(), self.bytes("prk"));
        for (role, name) in [
            (Role::Source, "source_confirmation"),
            (Role::Receiver, "receiver_confirmation"),
        ] {
            assert_eq!(
                schedule.confirmation(role).unwrap().as_bytes().as_slice(),
                self.bytes(name)
            );
        }
        let hello_key = schedule.lane_hello().unwrap();
        let hellos = list(&self.json["lane_hellos"]);
        assert_eq!(hellos.len(), 6);
        for hello in hellos {
            let sent = bytes(&hello["sent"]);
            let (head, mac) = sent.split_at(60);
            assert_eq!(hello_key.mac(head).as_slice(), mac);
            assert!(hello_key.verify(head, mac));
            assert!(!hello_key.verify(mac, head));
        }
        let lanes = list(&self.json["lanes"]);
        assert_eq!(lanes.len(), 6);
        for lane in lanes {
            check_lane(schedule, lane);
        }
    }

    /// With the shares of the first time, which the vectors have once more.
    fn check_returned(&self, schedule: &Schedule) {
        let resumption = schedule.resumption().unwrap();
        assert_eq!(resumption.secret().as_slice(), self.bytes("resumption"));
        let again = |name: &str| bytes(&self.json["return"][name]);
        let (source_hello, receiver_hello) = (again("source_hello"), again("receiver_hello"));
        let tls_client = number(&self.json["context"]["tls_client"]);
        let context = Return {
            source_hello: &source_hello,
            receiver_hello: &receiver_hello,
            source_certificate: &self.certificates[0],
            receiver_certificate: &self.certificates[1],
            tls_client: if tls_client == 0 {
                Role::Source
            } else {
                Role::Receiver
            },
        };
        let (source, receiver) = self.exchange();
        let mut transcript = Vec::new();
        context
            .write(resumption.transcript(), &source.shares(), &mut |bytes| {
                transcript.extend_from_slice(bytes);
            })
            .unwrap();
        assert_eq!(transcript, again("transcript"));
        let session = SessionId(self.bytes("session").try_into().unwrap());
        let exporter = || {
            Exporter::fill(|exporter| {
                exporter.copy_from_slice(&again("exporter"));
                Ok::<_, ()>(())
            })
            .unwrap()
        };
        let source = source.resume(exporter(), session, &resumption, &context);
        let receiver = receiver.resume(exporter(), session, &resumption, &context);
        assert_eq!(source.unwrap().schedule().prk().as_slice(), again("prk"));
        assert_eq!(receiver.unwrap().schedule().prk().as_slice(), again("prk"));
    }

    fn with_context<T>(&self, use_it: impl FnOnce(&Context<'_>) -> T) -> T {
        let blocks: Vec<_> = self
            .blocks
            .iter()
            .map(|(name, length, page_size)| RamBlock {
                name,
                length: *length,
                page_size: *page_size,
            })
            .collect();
        let context = &self.json["context"];
        use_it(&Context {
            source_hello: &self.messages[0],
            receiver_hello: &self.messages[1],
            offer: &self.messages[2],
            choice: &self.messages[3],
            admission: &self.messages[4],
            verdict: &self.messages[5],
            source_certificate: &self.certificates[0],
            receiver_certificate: &self.certificates[1],
            tls_client: match number(&context["tls_client"]) {
                0 => Role::Source,
                1 => Role::Receiver,
                other => panic!("no role {other}"),
            },
            peer_name: &self.peer_name,
            guest_uuid: bytes(&context["guest_uuid"]).try_into().unwrap(),
            guest_name: &self.guest_name,
            ram_blocks: &blocks,
            offered: &self.offered,
        })
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        bytes(&self.json[name])
    }
}

/// That the schedule makes the key and the IV that stand beside lane, direction and epoch.
fn check_lane(schedule: &Schedule, lane: &Value) {
    let (number, direction, epoch) = place(lane);
    assert_eq!(
        schedule.lane(number, direction, epoch).unwrap().as_slice(),
        [bytes(&lane["key"]), bytes(&lane["iv"])].concat()
    );
}

fn epoch_of(schedule: &Schedule, lane: &Value) -> crate::epoch::Epoch {
    let (number, direction, epoch) = place(lane);
    schedule.epoch(number, direction, epoch).unwrap()
}

fn place(lane: &Value) -> (u8, Direction, u32) {
    (
        u8::try_from(number(&lane["lane"])).unwrap(),
        match number(&lane["direction"]) {
            0 => Direction::ToReceiver,
            1 => Direction::ToSource,
            other => panic!("no direction {other}"),
        },
        u32::try_from(number(&lane["epoch"])).unwrap(),
    )
}

/// The rule for bodies that generate.py states.
pub(super) fn body(length: usize) -> Vec<u8> {
    (0..251u32)
        .map(|i| u8::try_from((i * 7 + 3) % 251).unwrap())
        .cycle()
        .take(length)
        .collect()
}

pub(super) fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

pub(super) fn number(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

pub(super) fn bytes(value: &Value) -> Vec<u8> {
    let text = String::from(value.as_str().unwrap());
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}
