//! Questions and orders to a QEMU, typed, over its control socket.
//!
//! ```text
//!   Machine ── what is it?      name, uuid, machine_type, ram_blocks, version
//!           ── how is it?       status, migration, capabilities, parameters
//!           ── do this          migrate, migrate_incoming, cancel, stop, cont, announce_self, quit
//! ```
//!
//! Tolerant: what a QEMU leaves out is `None` or zero, and what it says beyond is passed over, so that one client serves
//! each version. Only an answer that cannot be understood where it matters is an error.

mod blocks;
mod migration;
mod uuid;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use crate::{Address, Error, Process, Qmp, Version};

pub use blocks::RamBlock;
pub use migration::{Migration, MigrationStatus, RamProgress};

/// QEMU activates a migrated guest's disks when the guest first runs from this version on, without being asked.
const LATE_ACTIVATION_IS_USUAL: u32 = 10;

/// A QEMU and the guest in it.
#[derive(Debug)]
pub struct Machine {
    qmp: Qmp,
}

/// Whether the guest runs, and why if not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Whether its processors run.
    pub running: bool,
    /// QEMU's word: `running`, `paused`, `inmigrate`, `postmigrate`, `prelaunch`, `suspended`, `shutdown`, …
    pub state: String,
}

impl Status {
    /// Whether nobody holds the guest: it runs, or sleeps until something wakes it.
    #[must_use]
    pub fn let_go(&self) -> bool {
        self.running || self.state == SUSPENDED
    }
}

/// QEMU's word for a guest that sleeps: suspended to memory, ACPI's S3.
const SUSPENDED: &str = "suspended";

impl Machine {
    /// Connects to a control socket; each command gets the same timeout.
    pub fn connect(address: &Address, timeout: Duration) -> Result<Self, Error> {
        Qmp::connect(address, timeout).map(Self::new)
    }

    /// Over a connection that is there.
    #[must_use]
    pub fn new(qmp: Qmp) -> Self {
        Self { qmp }
    }

    /// The connection, for events and whatever is not here.
    pub fn qmp(&mut self) -> &mut Qmp {
        &mut self.qmp
    }

    /// Which QEMU this is.
    #[must_use]
    pub fn version(&self) -> &Version {
        self.qmp.version()
    }

    /// Its process id; not known when the control socket is TCP's.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.qmp.pid()
    }

    /// The process itself, while it still answers; none when its number is not known or it runs on another host.
    #[must_use]
    pub fn process(&self) -> Option<Process> {
        Process::of(self.pid()?).ok()
    }

    /// Whether the guest runs.
    pub fn status(&mut self) -> Result<Status, Error> {
        let answer = self.ask("query-status")?;
        match (answer["running"].as_bool(), answer["status"].as_str()) {
            (Some(running), Some(state)) => Ok(Status {
                running,
                state: state.to_owned(),
            }),
            _ => Err(unclear("query-status", &answer)),
        }
    }

    /// The guest's name, from `-name`.
    pub fn name(&mut self) -> Result<Option<String>, Error> {
        Ok(self.ask("query-name")?["name"].as_str().map(str::to_owned))
    }

    /// The guest's UUID, from `-uuid`. QEMU says zeros when it has none.
    pub fn uuid(&mut self) -> Result<Option<[u8; 16]>, Error> {
        let answer = self.ask("query-uuid")?;
        let uuid = answer["UUID"]
            .as_str()
            .and_then(uuid::parse)
            .ok_or_else(|| unclear("query-uuid", &answer))?;
        Ok((uuid != [0; 16]).then_some(uuid))
    }

    /// The machine type with its version, as `-M` takes it: `pc-q35-7.2`.
    pub fn machine_type(&mut self) -> Result<String, Error> {
        let arguments = json!({ "path": "/machine", "property": "type" });
        let answer = self.qmp.execute("qom-get", arguments)?;
        let name = answer
            .as_str()
            .ok_or_else(|| unclear("qom-get /machine type", &answer))?;
        // QOM's classes of machines end in this.
        Ok(name.strip_suffix("-machine").unwrap_or(name).to_owned())
    }

    /// The guest's RAM blocks, in QEMU's order.
    pub fn ram_blocks(&mut self) -> Result<Vec<RamBlock>, Error> {
        blocks::parse(&self.qmp.hmp("info ramblock")?)
    }

    /// The migration capabilities that this QEMU has, and whether each is on.
    pub fn capabilities(&mut self) -> Result<BTreeMap<String, bool>, Error> {
        let answer = self.ask("query-migrate-capabilities")?;
        let list = answer
            .as_array()
            .ok_or_else(|| unclear("query-migrate-capabilities", &answer))?;
        let pair = |entry: &Value| {
            let name = entry["capability"].as_str()?;
            Some((name.to_owned(), entry["state"].as_bool()?))
        };
        Ok(list.iter().filter_map(pair).collect())
    }

    /// Sets those of the capabilities that this QEMU has and that are not yet as wanted. Returns the wanted ones that it
    /// does not have; one that was to be off is not missed.
    pub fn set_capabilities(&mut self, wanted: &[(&str, bool)]) -> Result<Vec<String>, Error> {
        let present = self.capabilities()?;
        let mut missing = Vec::new();
        let mut changes = Vec::new();
        for &(name, state) in wanted {
            match present.get(name) {
                Some(&now) if now != state => {
                    changes.push(json!({ "capability": name, "state": state }));
                }
                Some(_) => {}
                None if state => missing.push(name.to_owned()),
                None => {}
            }
        }
        // All at once: QEMU checks the combination, and one after the other may pass through a forbidden one.
        if !changes.is_empty() {
            let arguments = json!({ "capabilities": changes });
            self.qmp.execute("migrate-set-capabilities", arguments)?;
        }
        Ok(missing)
    }

    /// Before QEMU 10.0: asks it to leave the disks to the source until the guest first runs, so that a destination that
    /// is kept paused holds no image locks. Later ones do so by themselves. Returns whether it will be so.
    pub fn late_block_activate(&mut self) -> Result<bool, Error> {
        if self.version().major >= LATE_ACTIVATION_IS_USUAL {
            return Ok(true);
        }
        let missing = self.set_capabilities(&[("late-block-activate", true)])?;
        Ok(missing.is_empty())
    }

    /// The migration parameters.
    pub fn parameters(&mut self) -> Result<Map<String, Value>, Error> {
        match self.ask("query-migrate-parameters")? {
            Value::Object(parameters) => Ok(parameters),
            other => Err(unclear("query-migrate-parameters", &other)),
        }
    }

    /// Sets migration parameters, by QEMU's names and in its units; the others stay. Some may change while migrating.
    pub fn set_parameters(&mut self, parameters: Map<String, Value>) -> Result<(), Error> {
        self.order("migrate-set-parameters", Value::Object(parameters))
    }

    /// How the migration stands, at either end.
    pub fn migration(&mut self) -> Result<Migration, Error> {
        Ok(Migration::parse(&self.ask("query-migrate")?))
    }

    /// Starts to migrate the guest: `unix:PATH`, `tcp:HOST:PORT`, `fd:NAME`, `exec:COMMAND`. The answer comes when the
    /// channel is being opened; what becomes of it is in [`Machine::migration`].
    pub fn migrate(&mut self, uri: &str) -> Result<(), Error> {
        self.order("migrate", json!({ "uri": uri }))
    }

    /// Makes a QEMU that was started with `-incoming defer` wait for its guest.
    pub fn migrate_incoming(&mut self, uri: &str) -> Result<(), Error> {
        self.order("migrate-incoming", json!({ "uri": uri }))
    }

    /// Lets a source that stands at [`MigrationStatus::PreSwitchover`] go on.
    pub fn migrate_continue(&mut self) -> Result<(), Error> {
        self.order("migrate-continue", json!({ "state": "pre-switchover" }))
    }

    /// Gives the migration up. Harmless when none is under way.
    pub fn cancel(&mut self) -> Result<(), Error> {
        self.order("migrate_cancel", Value::Null)
    }

    /// Pauses the guest. At a destination that still waits it keeps the guest from starting by itself.
    pub fn stop(&mut self) -> Result<(), Error> {
        self.order("stop", Value::Null)
    }

    /// Lets the guest run.
    pub fn cont(&mut self) -> Result<(), Error> {
        self.order("cont", Value::Null)
    }

    /// Makes the guest's network cards known to the switches, as QEMU does by itself after a migration that it ends.
    pub fn announce_self(&mut self) -> Result<(), Error> {
        // QEMU's own defaults for its announcement after a migration (milliseconds).
        let arguments = json!({ "initial": 50, "max": 550, "rounds": 5, "step": 100 });
        self.order("announce-self", arguments)
    }

    /// Ends the QEMU process. That it has ended is for [`Machine::gone`] to say.
    pub fn quit(&mut self) -> Result<(), Error> {
        match self.order("quit", Value::Null) {
            // It may be quicker than its answer.
            Err(Error::Closed { .. }) => Ok(()),
            other => other,
        }
    }

    /// Waits until QEMU has closed its control socket, which after [`Machine::quit`] it does as it ends. `false` when it
    /// has not by the timeout.
    ///
    /// A QEMU that ends in good order stops the guest and closes its disks before it closes the socket; for one that is killed
    /// the system does.
    pub fn gone(&mut self, timeout: Duration) -> Result<bool, Error> {
        let deadline = Instant::now() + timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.qmp.wait_event(&["SHUTDOWN"], left) {
                // It is on its way.
                Ok(_) => {}
                Err(Error::Closed { .. }) => return Ok(true),
                Err(Error::NoEvent { .. }) => return Ok(false),
                Err(other) => return Err(other),
            }
        }
    }

    fn ask(&mut self, command: &str) -> Result<Value, Error> {
        self.qmp.execute(command, Value::Null)
    }

    fn order(&mut self, command: &str, arguments: Value) -> Result<(), Error> {
        self.qmp.execute(command, arguments).map(drop)
    }
}

fn unclear(question: &str, answer: &Value) -> Error {
    // Enough to recognise it.
    const SHOWN: usize = 200;
    let answer: String = answer.to_string().chars().take(SHOWN).collect();
    Error::Malformed {
        problem: format!("the answer to `{question}` was not understood: {answer}"),
    }
}
