//! A journal's bytes. Integers are big-endian.
//!
//! ```text
//!  file    magic (8) │ version (2) │ entry: about │ entry: step … │ zeros up to 4096
//!  entry   length (2) │ kind (1) │ payload (length - 1) │ checksum (16)
//!  about   side (1) │ session (16) │ created (8) │ guest uuid (16) │ guest name │ peer name │ has QMP (1) │ QMP address
//!  step    written (8) │ run state (1), for Completed and Commit
//!  text    length (2) │ UTF-8
//!
//!  checksum = first 16 bytes of SHA-256(checksum before │ length │ kind │ payload); before the first: magic, version, zeros
//! ```
//!
//! The checksum finds damage, not forgery: who can write the file can write the checksum.

use sha2::{Digest as _, Sha256};

use super::{About, Entry, Record, RunState, SessionId, Step, Trouble};
use crate::Side;

/// The file's length from the start: a block of most file systems, which is written as one.
pub(super) const FILE_LEN: usize = 4096;

const MAGIC: [u8; 8] = *b"SEALJRNL";
const VERSION: u16 = 1;
const PREAMBLE_LEN: usize = 8 + 2;
const CHECKSUM_LEN: usize = 16;
/// Length, kind, time, run state, checksum: what one torn write can have left behind.
const STEP_LEN_MAX: usize = 2 + 1 + 8 + 1 + CHECKSUM_LEN;

/// QEMU bounds a name only by its command line; the control channel allows less than this.
const GUEST_NAME_MAX: usize = 1024;
/// A DNS name has 253 bytes at most, a common name 64 characters.
const PEER_NAME_MAX: usize = 512;
/// A Unix socket's path has 107 bytes at most; a host name 253.
const QMP_ADDRESS_MAX: usize = 512;

const ABOUT: u8 = 1;
const INTENT: u8 = 2;
const COMPLETED: u8 = 3;
const PREPARED: u8 = 4;
const COMMIT: u8 = 5;
const ACTIVE: u8 = 6;
const DONE: u8 = 7;
const ABORTED: u8 = 8;

pub(super) type Checksum = [u8; CHECKSUM_LEN];

/// The file's first bytes, up to where the first step goes.
pub(super) fn head(
    session: &SessionId,
    side: Side,
    about: &About,
    at_ns: u64,
) -> Result<(Vec<u8>, Checksum), Trouble> {
    let mut payload = vec![match side {
        Side::Source => 0,
        Side::Receiver => 1,
    }];
    payload.extend(session);
    payload.extend(at_ns.to_be_bytes());
    payload.extend(about.guest_uuid);
    push_text(
        &mut payload,
        "guest's name",
        &about.guest_name,
        GUEST_NAME_MAX,
    )?;
    push_text(&mut payload, "peer's name", &about.peer_name, PEER_NAME_MAX)?;
    payload.push(about.qmp_address.is_some().into());
    let address = about.qmp_address.as_deref().unwrap_or_default();
    push_text(&mut payload, "QMP address", address, QMP_ADDRESS_MAX)?;

    let mut bytes = preamble().to_vec();
    let checksum = push_entry(&mut bytes, ABOUT, &payload, &seed());
    Ok((bytes, checksum))
}

/// One step's bytes, to stand after the entry that has the checksum `before`.
pub(super) fn step(step: Step, at_ns: u64, before: &Checksum) -> (Vec<u8>, Checksum) {
    let mut payload = at_ns.to_be_bytes().to_vec();
    let kind = match step {
        Step::Intent => INTENT,
        Step::Completed { run_state } => {
            payload.push(run_state_code(run_state));
            COMPLETED
        }
        Step::Prepared => PREPARED,
        Step::Commit { run_state } => {
            payload.push(run_state_code(run_state));
            COMMIT
        }
        Step::Active => ACTIVE,
        Step::Done => DONE,
        Step::Aborted => ABORTED,
    };
    let mut bytes = Vec::with_capacity(STEP_LEN_MAX);
    let checksum = push_entry(&mut bytes, kind, &payload, before);
    (bytes, checksum)
}

/// Reads a whole file. One that is shorter than it was made is read as far as it goes.
pub(super) fn read(bytes: &[u8]) -> Result<Record, Trouble> {
    let damaged = |what| Trouble::Damaged { what };
    if bytes.len() > FILE_LEN {
        return Err(damaged("it is longer than any journal"));
    }
    let rest = bytes
        .strip_prefix(&MAGIC)
        .ok_or_else(|| damaged("it does not start as a journal does"))?;
    let (version, rest) = rest
        .split_first_chunk()
        .ok_or_else(|| damaged("its version is cut off"))?;
    let version = u16::from_be_bytes(*version);
    if version != VERSION {
        return Err(Trouble::OtherVersion { version });
    }
    let (first, mut rest) =
        pull_entry(rest, &seed()).ok_or_else(|| damaged("its first record is damaged"))?;
    if first.kind != ABOUT {
        return Err(damaged("its first record is another one"));
    }
    let mut record =
        pull_about(first.payload).ok_or_else(|| damaged("its first record is malformed"))?;
    let mut before = first.checksum;
    while let Some((entry, after)) = pull_entry(rest, &before) {
        // A checksum that fits was written by a sealift: an entry that is not understood is a newer one's.
        let step = pull_step(&entry).ok_or(Trouble::NewerStep { kind: entry.kind })?;
        record.steps.push(step);
        before = entry.checksum;
        rest = after;
    }
    record.torn = is_torn(rest)?;
    Ok(record)
}

/// What follows the last whole entry: zeros, or what is left of one write that did not end.
fn is_torn(rest: &[u8]) -> Result<bool, Trouble> {
    let used = rest
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last + 1);
    match used {
        0 => Ok(false),
        1..=STEP_LEN_MAX => Ok(true),
        _ => Err(Trouble::Damaged {
            what: "a step is damaged that others follow",
        }),
    }
}

struct RawEntry<'a> {
    kind: u8,
    payload: &'a [u8],
    checksum: Checksum,
}

fn push_entry(bytes: &mut Vec<u8>, kind: u8, payload: &[u8], before: &Checksum) -> Checksum {
    let start = bytes.len();
    // All texts together are bounded far below this.
    let length = u16::try_from(payload.len() + 1).unwrap_or(u16::MAX);
    bytes.extend(length.to_be_bytes());
    bytes.push(kind);
    bytes.extend(payload);
    let checksum = checksum(before, bytes.get(start..).unwrap_or_default());
    bytes.extend(checksum);
    checksum
}

/// An entry whose checksum fits, and what follows it.
fn pull_entry<'a>(bytes: &'a [u8], before: &Checksum) -> Option<(RawEntry<'a>, &'a [u8])> {
    let (length, _) = bytes.split_first_chunk()?;
    let length = usize::from(u16::from_be_bytes(*length));
    let (covered, rest) = bytes.split_at_checked(2 + length)?;
    let (found, rest) = rest.split_first_chunk()?;
    let checksum = checksum(before, covered);
    let (kind, payload) = covered.get(2..)?.split_first()?;
    (checksum == *found).then_some((
        RawEntry {
            kind: *kind,
            payload,
            checksum,
        },
        rest,
    ))
}

fn pull_about(payload: &[u8]) -> Option<Record> {
    let (side, rest) = payload.split_first()?;
    let side = match side {
        0 => Side::Source,
        1 => Side::Receiver,
        _ => return None,
    };
    let (session, rest) = rest.split_first_chunk()?;
    let (created, rest) = rest.split_first_chunk()?;
    let (guest_uuid, rest) = rest.split_first_chunk()?;
    let (guest_name, rest) = pull_text(rest)?;
    let (peer_name, rest) = pull_text(rest)?;
    let (has_qmp, rest) = rest.split_first()?;
    let (address, rest) = pull_text(rest)?;
    let qmp_address = match has_qmp {
        0 if address.is_empty() => None,
        1 => Some(address),
        _ => return None,
    };
    rest.is_empty().then_some(Record {
        session: *session,
        side,
        about: About {
            guest_name,
            guest_uuid: *guest_uuid,
            peer_name,
            qmp_address,
        },
        created_ns: u64::from_be_bytes(*created),
        steps: Vec::new(),
        torn: false,
    })
}

fn pull_step(entry: &RawEntry<'_>) -> Option<Entry> {
    let (at, rest) = entry.payload.split_first_chunk()?;
    let step = match (entry.kind, rest) {
        (INTENT, []) => Step::Intent,
        (COMPLETED, [state]) => Step::Completed {
            run_state: run_state(*state)?,
        },
        (PREPARED, []) => Step::Prepared,
        (COMMIT, [state]) => Step::Commit {
            run_state: run_state(*state)?,
        },
        (ACTIVE, []) => Step::Active,
        (DONE, []) => Step::Done,
        (ABORTED, []) => Step::Aborted,
        _ => return None,
    };
    Some(Entry {
        step,
        at_ns: u64::from_be_bytes(*at),
    })
}

const fn run_state_code(state: RunState) -> u8 {
    match state {
        RunState::Running => 1,
        RunState::Paused => 2,
        RunState::Suspended => 3,
        RunState::Stopped => 4,
    }
}

const fn run_state(code: u8) -> Option<RunState> {
    match code {
        1 => Some(RunState::Running),
        2 => Some(RunState::Paused),
        3 => Some(RunState::Suspended),
        4 => Some(RunState::Stopped),
        _ => None,
    }
}

fn push_text(
    bytes: &mut Vec<u8>,
    field: &'static str,
    text: &str,
    most: usize,
) -> Result<(), Trouble> {
    let found = text.len();
    let too_long = Trouble::TooLong { field, most, found };
    let length = u16::try_from(found)
        .ok()
        .filter(|_| found <= most)
        .ok_or(too_long)?;
    bytes.extend(length.to_be_bytes());
    bytes.extend(text.as_bytes());
    Ok(())
}

fn pull_text(bytes: &[u8]) -> Option<(String, &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    let (text, rest) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
    Some((std::str::from_utf8(text).ok()?.to_owned(), rest))
}

fn preamble() -> [u8; PREAMBLE_LEN] {
    let mut bytes = [0; PREAMBLE_LEN];
    let (magic, version) = bytes.split_at_mut(MAGIC.len());
    magic.copy_from_slice(&MAGIC);
    version.copy_from_slice(&VERSION.to_be_bytes());
    bytes
}

/// What the first entry's checksum starts from.
fn seed() -> Checksum {
    let mut seed = [0; CHECKSUM_LEN];
    let (start, _) = seed.split_at_mut(PREAMBLE_LEN);
    start.copy_from_slice(&preamble());
    seed
}

fn checksum(before: &Checksum, covered: &[u8]) -> Checksum {
    let digest = Sha256::new()
        .chain_update(before)
        .chain_update(covered)
        .finalize();
    let mut checksum = [0; CHECKSUM_LEN];
    for (to, from) in checksum.iter_mut().zip(digest) {
        *to = from;
    }
    checksum
}
