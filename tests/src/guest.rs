//! A QEMU process with the lab's guest in it.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sealift_qemu::{Address, Qmp};
use tempfile::TempDir;

use crate::hosts::Host;
use crate::image::{self, Workload};
use crate::linux::Linux;
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
    boots: Boots,
    host: Option<Host>,
    arguments: Vec<OsString>,
    incoming: bool,
}

/// What a guest boots.
#[derive(Clone, Debug)]
enum Boots {
    /// The lab's own image.
    Counter(Workload),
    /// A kernel, and one program.
    Linux(Linux),
}

impl Launch {
    /// A guest with [`MEMORY`] and the smallest workload.
    #[must_use]
    pub fn new(qemu: &Qemu, machine: &str) -> Self {
        Self::booting(qemu, machine, MEMORY, Boots::Counter(Workload::SMALL))
    }

    /// A guest with a Linux kernel, and with as much memory as that needs.
    #[must_use]
    pub fn linux(qemu: &Qemu, machine: &str, linux: &Linux) -> Self {
        Self::booting(qemu, machine, linux.memory(), Boots::Linux(linux.clone()))
    }

    fn booting(qemu: &Qemu, machine: &str, memory: &str, boots: Boots) -> Self {
        Self {
            qemu: qemu.clone(),
            machine: machine.to_owned(),
            memory: memory.to_owned(),
            boots,
            host: None,
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

    /// Boots the lab's own image, which behaves like this.
    #[must_use]
    pub fn workload(mut self, workload: Workload) -> Self {
        self.boots = Boots::Counter(workload);
        self
    }

    /// Runs QEMU on this host instead of on the machine's own network.
    #[must_use]
    pub fn on(mut self, host: &Host) -> Self {
        self.host = Some(host.clone());
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

        let mut command = self.qemu.command(self.host.as_ref());
        command.args(["-nodefaults", "-display", "none", "-no-user-config"]);
        command.args([
            "-M",
            &self.machine,
            "-accel",
            &accelerator(),
            "-m",
            &self.memory,
        ]);
        self.boots.configure(&mut command, directory.path())?;
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
            ticks_per_pass: self.boots.ticks_per_pass(),
            directory,
        })
    }
}

impl Boots {
    fn configure(&self, command: &mut Command, directory: &Path) -> Result<(), Error> {
        match self {
            Self::Counter(workload) => {
                command.arg("-kernel").arg(image::build(directory)?);
                command.args(["-append", &workload.command_line()]);
            }
            Self::Linux(linux) => {
                command.arg("-kernel").arg(linux.kernel());
                command.arg("-initrd").arg(linux.initramfs());
                command.args(["-append", linux.command_line()]);
            }
        }
        Ok(())
    }

    fn ticks_per_pass(&self) -> u32 {
        match self {
            Self::Counter(workload) => workload.pages.div_ceil(workload.tick),
            Self::Linux(linux) => linux.ticks_per_pass(),
        }
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
    ticks_per_pass: u32,
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
        self.ticks_per_pass
    }

    /// Waits until the guest has come to a tick, without a bad page.
    pub fn wait_tick(&mut self, tick: u32) -> Result<Progress, Error> {
        let Self {
            serial, process, ..
        } = self;
        serial.wait_tick(tick, PATIENCE, || process.alive())
    }

    /// Ends QEMU at once, as a host that dies does.
    pub fn kill(&mut self) -> Result<(), Error> {
        self.process.child.kill().context("cannot kill QEMU")?;
        self.process.child.wait().context("cannot wait for QEMU")?;
        Ok(())
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
        Err(Error::new(format!(
            "QEMU ended ({status}) and said:\n{}",
            self.said().trim_end()
        )))
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.errors).unwrap_or_default()
    }
}

impl Drop for Process {
    /// A test that fails shows what QEMU said: its directory goes with it.
    #[expect(clippy::print_stderr, reason = "where a failing test speaks")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("QEMU {} said:\n{}", self.child.id(), self.said());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
