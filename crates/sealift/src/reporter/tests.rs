//! What operators and machines get to see, and that nobody waits for them. Here is one event of each kind.

mod documented;
mod machines;
mod outputs;
mod people;
mod queue;

use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sealift_pages::Algorithm;
use sealift_seal::Suite;
use sealift_session::control::SessionId;
use serde_json::Value;

use super::sink::Sink;
use crate::event::{
    Access, Admitted, Blackout, BlockAccess, Event, Full, Guest, Peer, Progress, Round, Stage,
    Traffic, Verification, What,
};
use crate::outcome::{Ending, Kind};
use crate::report::{HandOff, Opaque, Pages, Records, Report};

/// What was written, and a sink that writes it.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Written {
    fn sink(&self) -> Sink {
        Sink::new(self.clone())
    }

    fn take(&self) -> String {
        String::from_utf8(std::mem::take(&mut self.0.lock().unwrap())).unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.take()).unwrap()
    }
}

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// 15:01:11 on 21 November 2026, and this much later.
fn at(millis: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_795_273_271) + Duration::from_millis(millis)
}

fn event(what: What) -> Event {
    let mut id = [0; 16];
    id[15] = 15;
    Event {
        at: at(123),
        session: Some(SessionId(id)),
        what,
    }
}

fn guest() -> Guest {
    Guest {
        name: Some("web1".into()),
        uuid: Some([0x3f; 16]),
    }
}

fn peer() -> Peer {
    Peer {
        name: "host-b".into(),
        fingerprint: "ab".repeat(32),
        address: "[2001:db8::2]:7325".into(),
    }
}

fn progress() -> Progress {
    Progress {
        stage: Stage::PreCopy,
        round: 3,
        traffic: Traffic {
            raw_bytes: 920 << 20,
            wire_bytes: 200 << 20,
        },
        wire_bytes_per_s: 51_500_000,
        raw_bytes_per_s: 237_500_000,
        dirty_bytes_per_s: Some(12_000_000),
        in_flight_bytes: 4 << 20,
        remaining_bytes: Some(412 << 20),
        predicted_end: Some(Duration::from_millis(8_200)),
        predicted_blackout: Some(Duration::from_millis(41)),
    }
}

fn blackout() -> Blackout {
    Blackout {
        qemu_downtime: Some(Duration::from_millis(5)),
        true_length: Some(Duration::from_micros(23_456)),
        uncertainty: Some(Duration::from_micros(310)),
    }
}

fn verification() -> Verification {
    Verification {
        algorithm: Algorithm::Blake3,
        version_maps_equal: true,
        full: Full::Equal {
            full_bytes: 1 << 30,
        },
    }
}

fn report() -> Report {
    let pages = |pages| Pages {
        pages,
        raw_bytes: pages * 4096,
    };
    Report {
        guest: guest(),
        peer: Some(peer()),
        time: Duration::from_millis(12_400),
        rounds: 5,
        traffic: Traffic {
            raw_bytes: 1_106_247_680,
            wire_bytes: 180_355_072,
        },
        records: Records {
            zero: pages(131_072),
            literal: pages(98_304),
            same_as: pages(40_000),
            delta: pages(601),
            opaque: Opaque { raw_bytes: 412_000 },
        },
        lanes: 4,
        channels: 3,
        blackout: Some(blackout()),
        suite: Suite::X25519MlKem768,
        tls: Some("TLS 1.3".into()),
        verification: verification(),
        hand_off: HandOff::Managed,
        access: Access::Stream,
        access_reason: "this version reads guest memory only from QEMU's stream".into(),
    }
}

fn admitted() -> Admitted {
    Admitted {
        guest: guest(),
        memory_bytes: 1 << 30,
        lanes: 4,
        suite: Suite::X25519MlKem768,
        access: Access::Relay,
        access_reason: "serves every guest".into(),
    }
}

fn everything() -> Vec<What> {
    vec![
        What::Listening {
            address: "[::]:7325".into(),
        },
        What::Connected {
            peer: peer(),
            tls: "TLS 1.3".into(),
        },
        What::Admitted(admitted()),
        What::Access(BlockAccess {
            block: "pc.ram".into(),
            access: Access::Mapped,
            access_reason: "its backend's file is shared".into(),
        }),
        What::Stage {
            stage: Stage::PreCopy,
        },
        What::Round(Round {
            round: 1,
            pages: 262_144,
            zero_pages: 131_072,
            dirty_bytes_per_s: Some(12_000_000),
        }),
        What::Progress(progress()),
        What::Warning {
            message: "auto-converge is on".into(),
        },
        What::Blackout(blackout()),
        What::Verification(verification()),
        What::Report(Box::new(report())),
        What::Outcome(Ending::new(Kind::Moved, "web1 has moved to host-b")),
    ]
}
