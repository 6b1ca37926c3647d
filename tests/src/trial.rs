//! Two hosts that trust one CA, and the orders that move guests between them.
//!
//! ```text
//!   host a: QEMU ── outgoing ── sealift send, migrate ═══ link ═══ sealift receive ── incoming ── QEMU :host b
//!             └──────── QMP ────────┘                                     └──────── QMP ────────┘
//! ```

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use sealift_identity::Side;
use sealift_identity::journal::{self, Step};
use serde_json::Value;
use tempfile::TempDir;

use crate::certificates::{Certificates, Validity};
use crate::guest::{self, Guest, Launch, PATIENCE};
use crate::hosts::Hosts;
use crate::program;
use crate::qemu::{self, Machine};
use crate::session::{Ended, Order, Session};
use crate::{Context, Error};

/// The source's name in its certificate.
pub const SOURCE: &str = "host-a";
/// The receiver's.
pub const RECEIVER: &str = "host-b";
/// Sealift's own port.
pub const PORT: u16 = 7325;
/// How often a state is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// How often it may happen in a row that QEMU loses a write, as it does once in some hundred moves of a guest that writes hard.
const ATTEMPTS: usize = 3;

/// Tries again where [`lost_a_write`], of which none tells. When it happens again and again it is not QEMU's doing.
pub fn spared<T>(attempt: impl FnMut() -> Option<T>) -> Result<T, Error> {
    let mut attempts = std::iter::repeat_with(attempt).take(ATTEMPTS).flatten();
    let done = attempts.next();
    done.ok_or_else(|| Error::new("the two memories were different, each time".to_owned()))
}

/// Both memories were compared in full and are different, under TCG: there QEMU itself loses writes (`docs/QEMU.md`), and what it lost nobody could send.
#[must_use]
pub fn lost_a_write(sent: &Ended) -> bool {
    let compared = "the memory that the receiver's QEMU holds";
    guest::accelerator().starts_with("tcg") && sent.said().contains(compared)
}

/// The stage for one test.
#[derive(Debug)]
pub struct Trial {
    hosts: Hosts,
    certificates: Certificates,
    directory: TempDir,
    program: PathBuf,
}

impl Trial {
    /// Sets it.
    pub fn new() -> Result<Self, Error> {
        let program = program::sealift()?;
        let hosts = Hosts::new()?;
        let certificates = Certificates::new()?;
        let addresses = [(SOURCE, hosts.a().ipv4()), (RECEIVER, hosts.b().ipv4())];
        for (name, address) in addresses {
            certificates.issue(name, &address.to_string(), Validity::Now)?;
        }
        Ok(Self {
            hosts,
            certificates,
            directory: tempfile::tempdir().context("cannot make a directory")?,
            program: program.to_owned(),
        })
    }

    /// The hosts.
    #[must_use]
    pub fn hosts(&self) -> &Hosts {
        &self.hosts
    }

    /// The hosts, to do something to their link.
    pub fn hosts_mut(&mut self) -> &mut Hosts {
        &mut self.hosts
    }

    /// The CA.
    #[must_use]
    pub fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    /// A guest that runs on host a and checks its memory.
    pub fn running(&self, launch: &Launch) -> Result<Guest, Error> {
        let mut guest = launch.clone().on(self.hosts.a()).start()?;
        guest.wait_tick(2)?;
        Ok(guest)
    }

    /// A QEMU that waits for it on host b.
    pub fn waiting(&self, launch: &Launch) -> Result<Guest, Error> {
        launch.clone().on(self.hosts.b()).incoming().start()
    }

    /// `sealift receive` with these files; nothing is said of QEMU and of who may come.
    #[must_use]
    pub fn receive(&self, files: &str, port: u16) -> Order {
        let listen = format!("{}:{port}", self.hosts.b().ipv4());
        let order = Order::new(self.hosts.b(), &self.program, "receive");
        self.told(order, files, Side::Receiver)
            .with(["--once", "--listen", &listen])
    }

    /// A receiver for this guest, over QMP.
    #[must_use]
    pub fn managed(&self, guest: &Guest) -> Order {
        self.receive(RECEIVER, PORT)
            .with(["--allow", SOURCE])
            .with(["--qemu", &format!("unix:{}", incoming(guest))])
            .with(["--qmp", &guest.free_control().to_string()])
    }

    /// A receiver for this guest without QMP; QEMU is told to wait.
    pub fn unmanaged(&self, guest: &mut Guest) -> Result<Order, Error> {
        let uri = format!("unix:{}", incoming(guest));
        guest
            .qmp()
            .execute("migrate-incoming", serde_json::json!({ "uri": uri }))?;
        Ok(self
            .receive(RECEIVER, PORT)
            .with(["--allow", SOURCE, "--qemu", &uri]))
    }

    /// `sealift migrate` of this guest.
    #[must_use]
    pub fn migrate(&self, guest: &Guest, port: u16) -> Order {
        let order = Order::new(self.hosts.a(), &self.program, "migrate");
        self.told(order, SOURCE, Side::Source)
            .with(["--qmp", &guest.free_control().to_string()])
            .with(["--to", &self.to(port)])
    }

    /// `sealift send`, and nothing said about QEMU.
    #[must_use]
    pub fn send(&self, port: u16) -> Order {
        let order = Order::new(self.hosts.a(), &self.program, "send");
        self.told(order, SOURCE, Side::Source)
            .with(["--once", "--to", &self.to(port)])
    }

    /// The receiver's address.
    #[must_use]
    pub fn to(&self, port: u16) -> String {
        format!("{}:{port}", self.hosts.b().ipv4())
    }

    fn told(&self, order: Order, files: &str, side: Side) -> Order {
        let files = self.certificates.path(files);
        let order = order.with(["--json".as_ref(), "--pki".as_ref(), files.as_os_str()]);
        order.with(["--journal".as_ref(), self.journals(side).as_os_str()])
    }

    fn journals(&self, side: Side) -> PathBuf {
        self.directory.path().join(side.to_string())
    }

    /// The last step in the one journal that a side has left behind; `None` when there is no journal, or no step in it.
    pub fn left_behind(&self, side: Side) -> Result<Option<Step>, Error> {
        let listed = journal::list(&self.journals(side)).context("listing the journals")?;
        let [listed] = &listed[..] else {
            return match listed.len() {
                0 => Ok(None),
                several => Err(Error::new(format!("{several} journals"))),
            };
        };
        let record = listed.record.as_ref();
        let record = record.map_err(|error| Error::new(format!("a journal: {error}")))?;
        Ok(record.last().map(|entry| entry.step))
    }
}

/// The newest QEMU, with a q35 machine.
pub fn launch() -> Result<Launch, Error> {
    let all = qemu::all()?;
    let newest = all.last().ok_or_else(|| Error::new("there is no QEMU"))?;
    Ok(Launch::new(newest, &newest.machine(Machine::Q35)))
}

/// The path at which a destination waits.
#[must_use]
pub fn incoming(guest: &Guest) -> String {
    guest.path("incoming").display().to_string()
}

/// Starts a receiver, and waits until it listens.
pub fn listening(order: &Order) -> Result<Session, Error> {
    let mut session = order.start()?;
    session.wait_listening()?;
    Ok(session)
}

/// What QEMU calls the guest's state; `None` when QEMU is no more.
pub fn state(guest: &mut Guest) -> Option<String> {
    let status = guest.qmp().execute("query-status", Value::Null).ok()?;
    Some(status["status"].as_str()?.to_owned())
}

/// Whether the guest runs.
pub fn runs(guest: &mut Guest) -> bool {
    state(guest).as_deref() == Some("running")
}

/// Waits until QEMU calls the guest's state so.
pub fn wait_state(guest: &mut Guest, wanted: &str) -> Result<(), Error> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let state = state(guest);
        if state.as_deref() == Some(wanted) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(Error::new(format!(
                "the guest is not {wanted} but {state:?}"
            )));
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// The guest runs on where it is, with its memory whole.
pub fn runs_on(guest: &mut Guest) -> Result<(), Error> {
    wait_state(guest, "running")?;
    let at = guest.serial().progress()?.tick;
    guest.wait_tick(at + guest.ticks_per_pass() + 1)?;
    Ok(())
}
