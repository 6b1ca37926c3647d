//! What is left of the secrets in this process's memory once everything that held them is dropped: nothing.
//!
//! The sessions are those of the vectors, so that each secret on the way is known. They stand in here masked, so
//! that the search does not find itself. Each life is lived in a thread that stays until the search
//! is over, so that nothing but the crate cleans its stack up.
//!
//! One test alone in its file, and so in its process: whatever is found is its own.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "test support")]

use std::fs::{File, read_to_string};
use std::hint::black_box;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::sync::mpsc::channel;
use std::thread;

use sealift_seal::{
    Context, Error, Exporter, Initiator, RecipientKey, Role, Saving, Sealer, Seed, SessionId,
    Share, Suite, respond,
};
use serde_json::Value;

const SAVED: &str = include_str!("../../../proto/vectors/saved.json");
const KEYS: &str = include_str!("../../../proto/vectors/keys.json");

/// How far a life goes before all of it is dropped.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    Seeded,
    Agreed,
    Sealed,
}

#[test]
fn nothing_is_left_of_the_secrets() {
    let keys: Value = serde_json::from_str(KEYS).unwrap();
    let cases: Vec<Case> = keys["cases"]
        .as_array()
        .unwrap()
        .iter()
        .map(Case::read)
        .collect();

    // The search finds what is there.
    let case = &cases[0];
    let mut kept = Box::new([0; 32]);
    let found = case
        .secrets
        .left_by(|| case.secrets.put("prk", kept.as_mut_slice()));
    assert_eq!(found, [("prk", 1)]);
    kept.fill(0);

    for case in &cases {
        for role in [Role::Source, Role::Receiver] {
            for stage in [Stage::Seeded, Stage::Agreed, Stage::Sealed] {
                // Only the bare context is short enough to be repeated here; the other suites end where they agree.
                if case.bare != (stage != Stage::Agreed) {
                    continue;
                }
                let left = case.secrets.left_by(|| case.live(role, stage));
                assert_eq!(left, [], "{}, {role:?}, {stage:?}", case.name);
            }
        }
    }

    let saved: Value = serde_json::from_str(SAVED).unwrap();
    let file = SavedFile::read(&saved["cases"][0]);
    for role in [Role::Source, Role::Receiver] {
        let left = file.secrets.left_by(|| file.live(role));
        assert_eq!(left, [], "saved, {role:?}");
    }
}

/// Secrets by their names, masked.
struct Secrets(Vec<(&'static str, Vec<u8>)>);

/// A case of keys.json.
struct Case {
    name: String,
    suite: Suite,
    bare: bool,
    secrets: Secrets,
    shares: [[Vec<u8>; 2]; 2],
    uuid: [u8; 16],
    session: [u8; 16],
    confirmations: [Vec<u8>; 2],
}

impl Case {
    fn read(json: &Value) -> Self {
        let public = |name: &str| unhex(&json[name], 0);
        let lane = &json["lanes"][0];
        let mlkem_seed = unhex(&json["mlkem_seed"], MASK);
        let (d, z) = mlkem_seed.split_at(mlkem_seed.len() / 2);
        let secrets = [
            ("source_secret", &json["source_secret"]),
            ("receiver_secret", &json["receiver_secret"]),
            ("mlkem_m", &json["mlkem_m"]),
            ("ecdh", &json["ecdh"]),
            ("mlkem", &json["mlkem"]),
            ("exporter", &json["exporter"]),
            ("prk", &json["prk"]),
            ("key", &lane["key"]),
            ("iv", &lane["iv"]),
            ("lane_hello_key", &json["lane_hello_key"]),
        ];
        Self {
            name: String::from(json["name"].as_str().unwrap()),
            suite: Suite::try_from(u16::try_from(json["suite"].as_u64().unwrap()).unwrap())
                .unwrap(),
            bare: json["context"]["ram_blocks"].as_array().unwrap().is_empty(),
            secrets: Secrets(
                secrets
                    .map(|(name, hex)| (name, unhex(hex, MASK)))
                    .into_iter()
                    .chain([("mlkem_d", d.to_vec()), ("mlkem_z", z.to_vec())])
                    .filter(|(_, secret)| !secret.is_empty())
                    .collect(),
            ),
            shares: [
                [public("source_share"), public("encapsulation_key")],
                [public("receiver_share"), public("ciphertext")],
            ],
            uuid: unhex(&json["context"]["guest_uuid"], 0).try_into().unwrap(),
            session: public("session").try_into().unwrap(),
            confirmations: [
                public("source_confirmation"),
                public("receiver_confirmation"),
            ],
        }
    }

    /// One end of the session, as far as `stage`; what it held is dropped on return.
    fn live(&self, role: Role, stage: Stage) {
        let [source, receiver] = self
            .shares
            .each_ref()
            .map(|[ecdh, mlkem]| Share { ecdh, mlkem });
        let context = Context {
            source_hello: b"",
            receiver_hello: b"",
            offer: b"",
            choice: b"",
            admission: b"",
            verdict: b"",
            source_certificate: b"",
            receiver_certificate: b"",
            tls_client: Role::Receiver,
            peer_name: b"",
            guest_uuid: self.uuid,
            guest_name: b"",
            ram_blocks: &[],
            offered: &[0x0101],
        };
        let exporter = || {
            Exporter::fill(|exporter| {
                self.secrets.put("exporter", exporter);
                Ok::<_, ()>(())
            })
            .unwrap()
        };
        let session = SessionId(self.session);
        let mut buffer = [0; Sealer::OVERHEAD];
        match role {
            Role::Source => {
                let seed = self.seed(["source_secret", "mlkem_d", "mlkem_z"]);
                let initiator = Initiator::new(self.suite, seed).unwrap();
                assert_eq!(initiator.share(), source);
                if stage == Stage::Seeded {
                    return;
                }
                let exchanged = initiator.exchange(receiver).unwrap();
                if stage == Stage::Agreed {
                    return;
                }
                let keys = exchanged.derive(exporter(), session, &context).unwrap();
                let mut keys = keys.confirm(&self.confirmations[1]).unwrap();
                keys.sealer(0).unwrap().seal(0, &mut buffer).unwrap();
                let _ = keys.lane_hello_key().unwrap().mac(b"hello");
            }
            Role::Receiver => {
                let seed = self.seed(["receiver_secret", "mlkem_m", ""]);
                if stage == Stage::Seeded {
                    return;
                }
                let exchanged = respond(self.suite, seed, source).unwrap();
                assert_eq!(exchanged.share(), receiver);
                if stage == Stage::Agreed {
                    return;
                }
                let keys = exchanged.derive(exporter(), session, &context).unwrap();
                let mut keys = keys.confirm(&self.confirmations[0]).unwrap();
                drop(keys.opener(0, 0).unwrap());
                assert!(!keys.lane_hello_key().unwrap().verify(b"hello", b"MAC"));
            }
        }
    }

    fn seed(&self, [ecdh, first, second]: [&str; 3]) -> Seed {
        Seed::fill(|seed| {
            self.secrets.put(ecdh, &mut seed[..32]);
            self.secrets.put(first, &mut seed[64..96]);
            self.secrets.put(second, &mut seed[96..]);
            Ok::<_, ()>(())
        })
        .unwrap()
    }
}

/// A case of saved.json.
struct SavedFile {
    secrets: Secrets,
    share: Vec<u8>,
    recipient: Vec<u8>,
    salt: [u8; 32],
    id: [u8; 16],
    header: Vec<u8>,
}

impl SavedFile {
    fn read(json: &Value) -> Self {
        let public = |name: &str| unhex(&json[name], 0);
        let secrets = [
            ("ephemeral_secret", &json["ephemeral_secret"]),
            ("recipient_secret", &json["recipient_secret"]),
            ("ecdh", &json["ecdh"]),
            ("prk", &json["prk"]),
            ("key", &json["guest"]["key"]),
            ("iv", &json["guest"]["iv"]),
        ];
        Self {
            secrets: Secrets(secrets.map(|(name, hex)| (name, unhex(hex, MASK))).to_vec()),
            share: public("share"),
            recipient: public("recipient_key"),
            salt: public("salt").try_into().unwrap(),
            id: public("id").try_into().unwrap(),
            header: public("header"),
        }
    }

    /// The host that saves, or the one that opens; what it held is dropped on return.
    fn live(&self, role: Role) {
        let id = SessionId(self.id);
        match role {
            Role::Source => {
                let seed = Seed::fill(|seed| {
                    self.secrets.put("ephemeral_secret", &mut seed[..32]);
                    Ok::<_, Error>(())
                });
                let saving = Saving::for_recipient(&self.recipient, seed.unwrap()).unwrap();
                let mut keys = saving.derive(&self.salt, id, &self.header).unwrap();
                drop(keys.sealer(1).unwrap());
                let mut buffer = [0; Sealer::OVERHEAD];
                keys.sealer(0).unwrap().seal(0, &mut buffer).unwrap();
            }
            Role::Receiver => {
                let key = RecipientKey::fill(|scalar| {
                    self.secrets.put("recipient_secret", scalar);
                    Ok::<_, Error>(())
                });
                let mut keys = key
                    .unwrap()
                    .derive(&self.share, &self.salt, id, &self.header)
                    .unwrap();
                drop(keys.opener(0, 1).unwrap());
            }
        }
    }
}

impl Secrets {
    /// Writes a secret as it is, byte by byte, which leaves no other copy; nothing when the case has none of that name.
    fn put(&self, name: &str, to: &mut [u8]) {
        let secret = self.0.iter().find(|(known, _)| *known == name);
        for (to, byte) in to
            .iter_mut()
            .zip(secret.map_or(&[][..], |(_, secret)| secret))
        {
            *to = byte ^ black_box(MASK);
        }
    }

    /// The secrets in this process's memory after `life`, and how often each is there.
    fn left_by(&self, life: impl FnOnce() + Send) -> Vec<(&'static str, usize)> {
        let (lived, wait_for_life) = channel();
        let (searched, wait_for_search) = channel::<()>();
        thread::scope(|scope| {
            scope.spawn(move || {
                life();
                lived.send(()).unwrap();
                let _ = wait_for_search.recv();
            });
            wait_for_life.recv().unwrap();
            let found = self.search();
            drop(searched);
            found
        })
    }

    fn search(&self) -> Vec<(&'static str, usize)> {
        let mut memory = File::open("/proc/self/mem").unwrap();
        let mut counts: Vec<_> = self.0.iter().map(|(name, _)| (*name, 0)).collect();
        let mut begins = [false; 256];
        for (_, secret) in &self.0 {
            begins[usize::from(secret[0] ^ MASK)] = true;
        }
        let mut bytes = Vec::new();
        for line in read_to_string("/proc/self/maps").unwrap().lines() {
            let mut fields = line.split(' ');
            let (start, end) = fields.next().unwrap().split_once('-').unwrap();
            if !fields.next().unwrap().starts_with("rw") {
                continue;
            }
            let [start, end] = [start, end].map(|hex| u64::from_str_radix(hex, 16).unwrap());
            bytes.resize(usize::try_from(end - start).unwrap(), 0);
            memory.seek(SeekFrom::Start(start)).unwrap();
            // What was unmapped since the list was made is not there to be read.
            if memory.read_exact(&mut bytes).is_err() {
                continue;
            }
            for at in 0..bytes.len() {
                // Few bytes begin a secret: the others cost one look, without optimization too.
                if begins[usize::from(bytes[at])] {
                    for ((_, secret), (_, count)) in self.0.iter().zip(&mut counts) {
                        *count += usize::from(is_at(&bytes[at..], secret));
                    }
                }
            }
            bytes.fill(0);
        }
        counts.retain(|(_, count)| *count > 0);
        counts
    }
}

/// Whether `bytes` begin with what `masked` stands for.
fn is_at(bytes: &[u8], masked: &[u8]) -> bool {
    bytes.len() >= masked.len() && bytes.iter().zip(masked).all(|(a, b)| a ^ b == MASK)
}

const MASK: u8 = 0xaa;

fn unhex(hex: &Value, mask: u8) -> Vec<u8> {
    let digits = hex.as_str().unwrap().as_bytes().chunks(2);
    digits
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap() ^ mask)
        .collect()
}
