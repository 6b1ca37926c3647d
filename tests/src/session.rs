//! A `sealift` that runs: its events as it tells them, and how it ended.
//!
//! ```text
//!  Order ── start ──▶ Session ── wait_event, wait_held, signal, kill ──▶ wait ──▶ Ended: code, events, words
//!    │                   └ standard output and error go to files
//!    └ shell ──▶ exec:…, for QEMU to start it
//! ```

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::guest::PATIENCE;
use crate::hosts::Host;
use crate::{Context, Error};

/// How often files are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// The variable by which a build for debugging is told where to stand still.
const FAULT: &str = "SEALIFT_FAULT";
/// For how long: until it is killed, or the test has failed long ago.
const HELD_SECONDS: u64 = 120;

/// A command that has not been given yet.
#[derive(Clone, Debug)]
pub struct Order {
    host: Host,
    program: PathBuf,
    arguments: Vec<OsString>,
    fault: Option<String>,
    may_trace: bool,
}

impl Order {
    /// A command of the program, on this host.
    #[must_use]
    pub fn new(host: &Host, program: &Path, command: &str) -> Self {
        Self {
            host: host.clone(),
            program: program.to_owned(),
            arguments: vec![command.into()],
            fault: None,
            may_trace: true,
        }
    }

    /// More arguments.
    #[must_use]
    pub fn with<A: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Another value for an option that was given already.
    #[must_use]
    pub fn instead(mut self, option: &str, value: impl Into<OsString>) -> Self {
        let at = self.arguments.iter().position(|given| given == option);
        if let Some(given) = at.and_then(|at| self.arguments.get_mut(at + 1)) {
            *given = value.into();
        }
        self
    }

    /// Without the capability to look into other processes, and so into a QEMU that has all.
    #[must_use]
    pub fn without_tracing(mut self) -> Self {
        self.may_trace = false;
        self
    }

    /// Stands still at this step; see `crates/sealift/src/fault.rs`.
    #[must_use]
    pub fn held(self, step: &str) -> Self {
        self.held_for(step, HELD_SECONDS)
    }

    /// The same for a time, and goes on.
    #[must_use]
    pub fn held_for(mut self, step: &str, seconds: u64) -> Self {
        self.fault = Some(format!("{step}:{seconds}"));
        self
    }

    /// So slow that the guest never gets there. The first connection that breaks ends it: who does this to it will not come back.
    #[must_use]
    pub fn crawling(&self) -> Self {
        self.clone()
            .with(["--bandwidth", "200kbit", "--max-downtime", "1ms"])
            .with(["--resume-for", "0s"])
    }

    /// What QEMU takes after `exec:`; what the program tells goes into the file.
    #[must_use]
    pub fn shell(&self, told: &Path) -> String {
        let mut line = format!("exec {}", quoted(&self.program.to_string_lossy()));
        for argument in &self.arguments {
            line.push(' ');
            line.push_str(&quoted(&argument.to_string_lossy()));
        }
        format!("{line} 2> {}", quoted(&told.to_string_lossy()))
    }

    /// Gives it.
    pub fn start(&self) -> Result<Session, Error> {
        let directory = tempfile::tempdir().context("cannot make a directory")?;
        let file = |name: &str| {
            let path = directory.path().join(name);
            File::create(&path).context(format!("cannot make {}", path.display()))
        };
        let mut command = match self.may_trace {
            true => self.host.command(&self.program),
            false => {
                let mut command = self.host.command("setpriv");
                command
                    .args(["--bounding-set", "-sys_ptrace", "--"])
                    .arg(&self.program);
                command
            }
        };
        if let Some(fault) = &self.fault {
            if !cfg!(debug_assertions) {
                return Err(Error::new("a release cannot be held up at a step"));
            }
            command.env(FAULT, fault);
        }
        let child = command
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(file(OUT)?)
            .stderr(file(ERR)?)
            .spawn()
            .context("cannot start sealift")?;
        Ok(Session { child, directory })
    }
}

/// For a shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

const OUT: &str = "out";
const ERR: &str = "err";

/// It runs. Dropping it ends it.
#[derive(Debug)]
pub struct Session {
    child: Child,
    directory: TempDir,
}

/// It has ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code, if nobody killed it.
    pub code: Option<i32>,
    /// The signal that ended it, if one did.
    pub signal: Option<i32>,
    /// All that it told.
    pub events: Vec<Value>,
    /// What it wrote besides.
    pub words: String,
}

impl Session {
    /// The events so far.
    pub fn events(&self) -> Result<Vec<Value>, Error> {
        events(&self.read(OUT)?)
    }

    /// Waits for an event of this name, for which `wanted` holds.
    pub fn wait_event(
        &mut self,
        name: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Value, Error> {
        let found = |session: &Self| {
            let mut events = session.events()?.into_iter();
            Ok(events.find(|event| event["event"] == name && wanted(event)))
        };
        self.wait_for(&format!("the event `{name}`"), found)
    }

    /// Waits until it waits for a peer or for QEMU.
    pub fn wait_listening(&mut self) -> Result<(), Error> {
        self.wait_event("listening", |_| true).map(drop)
    }

    /// Waits until a stage has begun.
    pub fn wait_stage(&mut self, stage: &str) -> Result<(), Error> {
        self.wait_event("stage", |event| event["stage"] == stage)
            .map(drop)
    }

    /// Waits until it stands still at the step that it was ordered to.
    pub fn wait_held(&mut self) -> Result<(), Error> {
        self.wait_for("a fault point", |session| {
            let words = session.read(ERR)?;
            Ok(words.contains("fault point ").then_some(()))
        })
    }

    fn wait_for<T>(
        &mut self,
        what: &str,
        found: impl Fn(&Self) -> Result<Option<T>, Error>,
    ) -> Result<T, Error> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let ended = self
                .child
                .try_wait()
                .context("asking for sealift's state")?;
            // What it told before it ended counts.
            if let Some(found) = found(self)? {
                return Ok(found);
            }
            if ended.is_some() || Instant::now() >= deadline {
                return Err(Error::new(format!("{what} did not come; {}", self.told())));
            }
            thread::sleep(LOOK_EVERY);
        }
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> Result<bool, Error> {
        let ended = self
            .child
            .try_wait()
            .context("asking for sealift's state")?;
        Ok(ended.is_none())
    }

    /// Ctrl-C.
    pub fn interrupt(&self) -> Result<(), Error> {
        self.signal(Signal::INT)
    }

    /// What a service manager sends.
    pub fn terminate(&self) -> Result<(), Error> {
        self.signal(Signal::TERM)
    }

    /// Stands still from now on, as a whole.
    pub fn stop(&self) -> Result<(), Error> {
        self.signal(Signal::STOP)
    }

    /// Goes on after [`Session::stop`].
    pub fn go_on(&self) -> Result<(), Error> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<(), Error> {
        kill_process(Pid::from_child(&self.child), signal).context("signalling sealift")
    }

    /// Ends it without a word, as a host that dies does.
    pub fn kill(mut self) -> Result<Ended, Error> {
        self.child.kill().context("killing sealift")?;
        self.wait()
    }

    /// Waits until it has ended.
    pub fn wait(self) -> Result<Ended, Error> {
        self.wait_within(PATIENCE)
    }

    fn wait_within(mut self, patience: Duration) -> Result<Ended, Error> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self
                .child
                .try_wait()
                .context("asking for sealift's state")?
            {
                return Ok(Ended {
                    code: status.code(),
                    signal: status.signal(),
                    events: self.events()?,
                    words: self.read(ERR)?,
                });
            }
            if Instant::now() >= deadline {
                return Err(Error::new(format!("sealift runs on; {}", self.told())));
            }
            thread::sleep(LOOK_EVERY);
        }
    }

    fn read(&self, name: &str) -> Result<String, Error> {
        let path = self.directory.path().join(name);
        fs::read_to_string(&path).context(format!("cannot read {}", path.display()))
    }

    fn told(&self) -> String {
        // Progress comes five times a second, and only its last is worth reading.
        let told = self.read(OUT).unwrap_or_default();
        let (progress, others): (Vec<_>, Vec<_>) = told
            .lines()
            .partition(|line| line.contains(r#""event":"progress""#));
        let others = others.join("\n");
        let progress = progress.last().copied().unwrap_or_default();
        let words = self.read(ERR).unwrap_or_default();
        format!("sealift told:\n{others}\n{progress}\n{words}")
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for an event of this name in a file.
fn until_told(told: &Path, name: &str) -> Result<(String, Vec<Value>), Error> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let words = fs::read_to_string(told).unwrap_or_default();
        let events = events(&words)?;
        if events.iter().any(|event| event["event"] == name) {
            return Ok((words, events));
        }
        if Instant::now() >= deadline {
            let message = format!("the event `{name}` did not come; it told:\n{words}");
            return Err(Error::new(message));
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// The events among the whole lines of what was told.
fn events(told: &str) -> Result<Vec<Value>, Error> {
    let whole = told.rfind('\n').map_or("", |end| &told[..end]);
    let lines = whole.lines().filter(|line| line.starts_with('{'));
    lines
        .map(|line| serde_json::from_str(line).context(format!("an event: {line}")))
        .collect()
}

impl Ended {
    /// Waits until a program that QEMU started, and whose words go into this file, waits for a peer.
    pub fn waits(told: &Path) -> Result<(), Error> {
        until_told(told, "listening").map(drop)
    }

    /// Waits for the end of a program that QEMU started and whose words go into this file.
    pub fn of_exec(told: &Path) -> Result<Self, Error> {
        let (words, events) = until_told(told, "outcome")?;
        let outcome = events.iter().find(|event| event["event"] == "outcome");
        let code = outcome.and_then(|outcome| outcome["code"].as_i64());
        Ok(Self {
            code: code.and_then(|code| i32::try_from(code).ok()),
            signal: None,
            events,
            words,
        })
    }

    /// The last event of a name.
    #[must_use]
    pub fn last(&self, name: &str) -> &Value {
        let mut events = self.events.iter().rev();
        events
            .find(|event| event["event"] == name)
            .unwrap_or(&Value::Null)
    }

    /// The message of the outcome.
    #[must_use]
    pub fn message(&self) -> &str {
        self.last("outcome")["message"].as_str().unwrap_or_default()
    }

    /// Everything that it said to a person: the outcome, warnings, and what went to standard error.
    #[must_use]
    pub fn said(&self) -> String {
        let mut said = self.words.clone();
        for event in &self.events {
            if let Some(message) = event["message"].as_str() {
                said.push_str(message);
                said.push('\n');
            }
        }
        said
    }
}
