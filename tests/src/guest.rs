//! A QEMU process with the lab's guest in it.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use sealift_qemu::{Address, Qmp};
use tempfile::TempDir;

use crate::image::{self, Workload};
use crate::qemu::Qemu;
use crate::serial::{Progress, Serial};
use crate::{Context, Error};

/// How long anything may take that a healthy QEMU does at once. Generous: test machines are busy.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The one switch for every test and tool: which accelerator guests run on.
pub const ACCELERATOR_VARIABLE: &str = "SEALIFT_ACCEL";

/// `tcg` unless the switch says otherwise.
#[must_use]
pub fn accelerator() -> String {
    std::env::var(ACCELERATOR_VARIABLE).unwrap_or_else(|_| "tcg".to_owned())
}

/// 8 MiB, the least that firmware and the lab's image are happy with, and 8 KiB more for QEMU before 9.0.
///
/// There, under TCG, a migration loses writes when the length of a RAM block is a multiple of 256 KiB: the dirty
/// bitmap is then taken in words of 64 pages, on a path that forgets to make the next write to those pages trap.
/// QEMU 7.2 damaged every guest of 8 and of 512 MiB that kept writing, with nothing between source and destination,
/// and none with 8 KiB more, which takes the other path. KVM does not track that way.
pub const MEMORY: &str = "8200K";

/// What a guest is to be; [`Launch::start`] makes it run.
#[derive(Clone, Debug)]
pub struct Launch {
    qemu: Qemu,
    machine: String,
    memory: String,
    workload: Workload,
    arguments: Vec<OsString>,
    incoming: bool,
}

impl Launch {
    /// A guest with [`MEMORY`] and the smallest workload.
    #[must_use]
    pub fn new(qemu: &Qemu, machine: &str) -> Self {
        Self {
            qemu: qemu.clone(),
            machine: machine.to_owned(),
            memory: MEMORY.to_owned(),
            workload: Workload::SMALL,
            arguments: Vec::new(),
            incoming: false,
        }
    }

    /// What `-m` takes; see [`MEMORY`] for the sizes to avoid.
    #[must_use]
    pub fn memory(mut self, memory: &str) -> Self {
        memory.clone_into(&mut self.memory);
        self
    }

    /// How the guest behaves.
    #[must_use]
    pub fn workload(mut self, workload: Workload) -> Self {
        self.workload = workload;
        self
    }

    /// More arguments for QEMU.
    #[must_use]
    pub fn arguments<A: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Waits for a migration (`-incoming defer`) instead of booting.
    #[must_use]
    pub fn incoming(mut self) -> Self {
        self.incoming = true;
        self
    }

    /// Starts QEMU and connects to its control socket.
    pub fn start(&self) -> Result<Guest, Error> {
        let directory = tempfile::Builder::new()
            .prefix("sealift-lab-")
            .tempdir()
            .context("cannot make a directory")?;
        let errors = directory.path().join("stderr");
        let control = directory.path().join("qmp");
        let serial = directory.path().join("serial");
        let image = image::build(directory.path())?;

        let mut command = self.qemu.command();
        command.args(["-nodefaults", "-display", "none", "-no-user-config"]);
        command.args([
            "-M",
            &self.machine,
            "-accel",
            &accelerator(),
            "-m",
            &self.memory,
        ]);
        command
            .arg("-kernel")
            .arg(image)
            .args(["-append", &self.workload.command_line()]);
        command.arg("-serial").arg(option("file:", &serial, ""));
        // The free one first: once the other answers, both are there.
        for socket in [&directory.path().join(FREE_CONTROL), &control] {
            command
                .arg("-qmp")
                .arg(option("unix:", socket, ",server=on,wait=off"));
        }
        if self.incoming {
            command.args(["-incoming", "defer"]);
        }
        command.args(&self.arguments);
        let log = fs::File::create(&errors).context(format!("cannot make {}", errors.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("cannot start QEMU")?;

        let mut process = Process { child, errors };
        let qmp = process.connect(&Address::Unix(control))?;
        Ok(Guest {
            process,
            qmp,
            serial: Serial::new(serial),
            workload: self.workload,
            directory,
        })
    }
}

/// The control socket that the harness leaves alone.
const FREE_CONTROL: &str = "free-qmp";

fn option(before: &str, path: &Path, after: &str) -> OsString {
    [before.as_ref(), path.as_os_str(), after.as_ref()]
        .iter()
        .copied()
        .collect()
}

/// A running QEMU. Dropping it ends the process and removes its directory.
#[derive(Debug)]
pub struct Guest {
    // Dropped in this order: the process first, what it uses afterwards.
    process: Process,
    qmp: Qmp,
    serial: Serial,
    workload: Workload,
    directory: TempDir,
}

impl Guest {
    /// Its control connection.
    pub fn qmp(&mut self) -> &mut Qmp {
        &mut self.qmp
    }

    /// What it says.
    #[must_use]
    pub fn serial(&self) -> &Serial {
        &self.serial
    }

    /// QEMU's process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.child.id()
    }

    /// A control socket that nobody holds yet, for the program under test.
    #[must_use]
    pub fn free_control(&self) -> Address {
        Address::Unix(self.path(FREE_CONTROL))
    }

    /// The control socket that this handle's own connection holds.
    #[must_use]
    pub fn held_control(&self) -> Address {
        Address::Unix(self.path("qmp"))
    }

    /// A path in the guest's own directory, for sockets and the like.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// After so many ticks the guest has looked at each page of its region.
    #[must_use]
    pub fn ticks_per_pass(&self) -> u32 {
        self.workload.pages.div_ceil(self.workload.tick)
    }

    /// Waits until the guest has come to a tick, without a bad page.
    pub fn wait_tick(&mut self, tick: u32) -> Result<Progress, Error> {
        let Self {
            serial, process, ..
        } = self;
        serial.wait_tick(tick, PATIENCE, || process.alive())
    }

    /// Fails with QEMU's own words if the process has ended.
    pub fn alive(&mut self) -> Result<(), Error> {
        self.process.alive()
    }
}

#[derive(Debug)]
struct Process {
    child: Child,
    errors: PathBuf,
}

impl Process {
    /// The socket appears some time after the process has started.
    fn connect(&mut self, control: &Address) -> Result<Qmp, Error> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match Qmp::connect(control, PATIENCE) {
                Ok(qmp) => return Ok(qmp),
                Err(error) => {
                    self.alive()?;
                    if Instant::now() >= deadline {
                        return Err(error.into());
                    }
                }
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn alive(&mut self) -> Result<(), Error> {
        let Some(status) = self
            .child
            .try_wait()
            .context("cannot ask for QEMU's state")?
        else {
            return Ok(());
        };
        let said = fs::read_to_string(&self.errors).unwrap_or_default();
        Err(Error::new(format!(
            "QEMU ended ({status}) and said:\n{}",
            said.trim_end()
        )))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
