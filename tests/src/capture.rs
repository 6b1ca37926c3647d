//! Makes the fixtures: runs a case between two real QEMUs and keeps what passed between them.

use std::fs;
use std::path::Path;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::cases::{Case, On};
use crate::fixtures::{Channel, Direction, File, Fixture};
use crate::guest::{Guest, Launch};
use crate::image::Workload;
use crate::migration::migrate;
use crate::qemu::Qemu;
use crate::tap::Recording;
use crate::{Context, Error};

/// As small as it gets: fixtures are checked in.
const COMPRESSION_LEVEL: i32 = 19;

/// Post-copy's second channel carries only pages that the guest asked for, and whether it does is luck.
const ATTEMPTS: u32 = 10;

/// Whether this QEMU can do the case.
#[must_use]
pub fn is_possible(case: &Case, qemu: &Qemu) -> bool {
    match case.on {
        On::Any => true,
        On::Old => !qemu.is_modern(),
        On::Modern => qemu.is_modern(),
    }
}

/// Runs the case and writes its fixture below `directory`. The guest has gone on with its memory whole.
pub fn capture(case: &Case, qemu: &Qemu, directory: &Path) -> Result<Fixture, Error> {
    let machine = case.machine_release.map_or_else(
        || qemu.machine(case.machine),
        |release| case.machine.of_release(release),
    );
    let mut attempts = 0;
    // The pair holds the directory with the recordings.
    let (_pair, recordings) = loop {
        attempts += 1;
        let mut pair = Pair::start(case, qemu, &machine)?;
        let recordings = migrate(&mut pair.source, &mut pair.destination, &case.plan)?;
        if attempts == ATTEMPTS || every_channel_has_pages(&recordings)? {
            break (pair, recordings);
        }
    };

    let name = format!("{}-{}", qemu.release(), case.name);
    let own = directory.join(&name);
    let _ = fs::remove_dir_all(&own);
    fs::create_dir_all(&own).context(format!("cannot make {}", own.display()))?;
    let mut files = Vec::new();
    for (connection, recording) in recordings.iter().enumerate() {
        files.extend(store(connection, recording, &name, directory)?);
    }
    Ok(Fixture {
        name,
        qemu: qemu.full_version().to_owned(),
        machine,
        capabilities: case
            .plan
            .capabilities
            .iter()
            .map(|&name| name.to_owned())
            .collect(),
        parameters: Value::Object(case.plan.parameters.clone()),
        post_copy: case.plan.post_copy,
        memory: case.memory.to_owned(),
        arguments: case
            .arguments
            .iter()
            .map(|&argument| argument.to_owned())
            .collect(),
        guest: format!("counter {}", Workload::SMALL.command_line()),
        files,
    })
}

/// More than one record without content, the eight bytes of an EOS.
fn every_channel_has_pages(recordings: &[Recording]) -> Result<bool, Error> {
    for recording in recordings {
        let path = &recording.forward;
        if fs::metadata(path)
            .context(format!("cannot read {}", path.display()))?
            .len()
            <= 8
        {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A running source and a waiting destination.
struct Pair {
    source: Guest,
    destination: Guest,
    _shared: tempfile::NamedTempFile,
}

impl Pair {
    fn start(case: &Case, qemu: &Qemu, machine: &str) -> Result<Self, Error> {
        let shared = tempfile::NamedTempFile::new().context("cannot make a file")?;
        let path = shared.path().display().to_string();
        let arguments = case
            .arguments
            .iter()
            .map(|argument| argument.replace("{shared}", &path));
        let launch = Launch::new(qemu, machine)
            .memory(case.memory)
            .arguments(arguments);
        let mut source = launch.start().context("source")?;
        // Every page was written, and some of them again.
        source.wait_tick(2).context("source")?;
        for (command, arguments) in &case.prepare {
            source.qmp().execute(command, arguments.clone())?;
        }
        let destination = launch.incoming().start().context("destination")?;
        Ok(Self {
            source,
            destination,
            _shared: shared,
        })
    }
}

/// Both directions of a connection; one without bytes makes no file.
fn store(
    connection: usize,
    recording: &Recording,
    name: &str,
    directory: &Path,
) -> Result<Vec<File>, Error> {
    let mut files = Vec::new();
    let mut channel = None;
    for (direction, path) in [
        (Direction::Forward, &recording.forward),
        (Direction::Return, &recording.back),
    ] {
        let bytes = fs::read(path).context(format!("cannot read {}", path.display()))?;
        if direction == Direction::Forward {
            channel = Some(Channel::of(&bytes));
        }
        let Some(channel) = channel.clone().filter(|_| !bytes.is_empty()) else {
            continue;
        };
        let file = File {
            path: format!("{name}/{connection}-{direction}.zst"),
            connection,
            direction,
            channel,
            length: bytes.len() as u64,
            sha256: hex(&Sha256::digest(&bytes)),
        };
        let packed =
            zstd::encode_all(bytes.as_slice(), COMPRESSION_LEVEL).context("cannot compress")?;
        let target = directory.join(&file.path);
        fs::write(&target, packed).context(format!("cannot write {}", target.display()))?;
        files.push(file);
    }
    Ok(files)
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
