use std::os::unix::fs::PermissionsExt as _;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const SESSION: SessionId = *b"0123456789abcdef";

fn about() -> About {
    About {
        guest_name: "web1".into(),
        guest_uuid: [7; 16],
        peer_name: "beta.example.org".into(),
        qmp_address: Some("unix:/run/web1.qmp".into()),
    }
}

fn written(steps: &[Entry]) -> Vec<u8> {
    let (mut bytes, mut last) = codec::head(&SESSION, Side::Source, &about(), 5).unwrap();
    for entry in steps {
        let (step, checksum) = codec::step(entry.step, entry.at_ns, &last);
        bytes.extend(step);
        last = checksum;
    }
    bytes
}

fn padded(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.resize(FILE_LEN, 0);
    bytes
}

#[test]
fn a_step_is_in_the_file_once_it_is_appended() {
    let directory = tempfile::tempdir().unwrap();
    let sessions = directory.path().join("a/sessions");
    let mut journal = Journal::create(&sessions, SESSION, Side::Receiver, &about(), 1).unwrap();
    let run_state = RunState::Running;
    let steps = [Step::Prepared, Step::Commit { run_state }, Step::Active];
    for (at_ns, step) in (2..).zip(steps) {
        journal.append(step, at_ns).unwrap();
        let record = Journal::read(journal.path()).unwrap();
        assert_eq!(record.last(), Some(Entry { step, at_ns }));
    }
    let record = Journal::read(journal.path()).unwrap();
    assert_eq!((record.session, record.side), (SESSION, Side::Receiver));
    assert_eq!((record.about, record.created_ns), (about(), 1));
    assert!(!record.torn);
    assert_eq!(record.steps.len(), 3);
}

#[test]
fn only_its_user_reads_a_journal_and_its_directory() {
    let directory = tempfile::tempdir().unwrap();
    let sessions = directory.path().join("sessions");
    let journal = Journal::create(&sessions, SESSION, Side::Source, &about(), 1).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&sessions), 0o700);
    assert_eq!(mode(journal.path()), 0o600);
}

#[test]
fn a_session_has_one_journal_per_side() {
    let directory = tempfile::tempdir().unwrap();
    let create = |side| Journal::create(directory.path(), SESSION, side, &about(), 1);
    let mut first = create(Side::Source).unwrap();
    first.append(Step::Intent, 2).unwrap();
    let error = create(Side::Source).unwrap_err();
    assert!(matches!(error.trouble(), Trouble::Exists));
    assert_eq!(Journal::read(first.path()).unwrap().steps.len(), 1);
    create(Side::Receiver).unwrap();
    assert_eq!(list(directory.path()).unwrap().len(), 2);
    // Nothing else is left behind.
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
}

#[test]
fn a_finished_session_leaves_no_journal() {
    let directory = tempfile::tempdir().unwrap();
    let journal = Journal::create(directory.path(), SESSION, Side::Source, &about(), 1).unwrap();
    journal.finish().unwrap();
    assert!(list(directory.path()).unwrap().is_empty());
    assert!(list(&directory.path().join("nowhere")).unwrap().is_empty());
}

#[test]
fn a_damaged_journal_is_listed_as_such() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("x.journal"), b"SEAL").unwrap();
    fs::write(directory.path().join(".x.journal.1.new"), b"").unwrap();
    let listed = list(directory.path()).unwrap();
    assert_eq!(listed.len(), 1);
    assert!(listed[0].record.is_err());
}

#[test]
fn a_full_disk_is_named() {
    // The kernel's own full disk.
    let mut journal = Journal {
        path: "/dev/full".into(),
        file: OpenOptions::new().write(true).open("/dev/full").unwrap(),
        end: 0,
        last: Checksum::default(),
    };
    let error = journal.append(Step::Intent, 1).unwrap_err();
    assert!(error.to_string().contains("no room"), "{error}");
}

#[test]
fn a_journal_never_grows() {
    let directory = tempfile::tempdir().unwrap();
    let about = About {
        guest_name: "g".repeat(1024),
        peer_name: "p".repeat(512),
        qmp_address: Some("q".repeat(512)),
        ..about()
    };
    let mut journal = Journal::create(directory.path(), SESSION, Side::Source, &about, 1).unwrap();
    let mut steps = 0;
    let error = loop {
        match journal.append(Step::Intent, 2) {
            Ok(()) => steps += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error.trouble(), Trouble::Full));
    // A hand-off has five.
    assert!(steps > 50, "{steps}");
    let length = fs::metadata(journal.path()).unwrap().len();
    assert_eq!(length, FILE_LEN as u64);
    assert_eq!(Journal::read(journal.path()).unwrap().steps.len(), steps);
}

#[test]
fn a_text_that_does_not_fit_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let about = About {
        peer_name: "p".repeat(513),
        ..about()
    };
    let error = Journal::create(directory.path(), SESSION, Side::Source, &about, 1).unwrap_err();
    assert!(error.to_string().contains("peer's name"), "{error}");
}

#[test]
fn another_version_is_refused() {
    let mut bytes = padded(written(&[]));
    bytes[9] = 2;
    let trouble = codec::read(&bytes).unwrap_err();
    assert!(matches!(trouble, Trouble::OtherVersion { version: 2 }));
}

#[test]
fn journals_are_kept_where_the_environment_says() {
    let home = |state: Option<&str>, home: Option<&str>| list::state_home(state, home);
    let expected = Some(PathBuf::from("/s/sealift/sessions"));
    assert_eq!(home(Some("/s"), Some("/h")), expected);
    let expected = Some(PathBuf::from("/h/.local/state/sealift/sessions"));
    assert_eq!(home(Some("relative"), Some("/h")), expected);
    assert_eq!(home(None, None), None);
}

fn any_run_state() -> impl Strategy<Value = RunState> {
    use RunState::{Paused, Running, Stopped, Suspended};
    prop::sample::select(vec![Running, Paused, Suspended, Stopped])
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let step = (0..7_u8, any_run_state()).prop_map(|(which, run_state)| match which {
        0 => Step::Intent,
        1 => Step::Completed { run_state },
        2 => Step::Prepared,
        3 => Step::Commit { run_state },
        4 => Step::Active,
        5 => Step::Done,
        _ => Step::Aborted,
    });
    (step, any::<u64>()).prop_map(|(step, at_ns)| Entry { step, at_ns })
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        session: SessionId,
        receiver: bool,
        guest_name in ".{0,40}",
        guest_uuid: [u8; 16],
        peer_name in ".{0,40}",
        qmp_address in prop::option::of(".{0,40}"),
        created_ns: u64,
        steps in vec(any_entry(), 0..20),
    ) {
        let about = About { guest_name, guest_uuid, peer_name, qmp_address };
        let side = if receiver { Side::Receiver } else { Side::Source };
        let (mut bytes, mut last) = codec::head(&session, side, &about, created_ns).unwrap();
        for entry in &steps {
            let (step, checksum) = codec::step(entry.step, entry.at_ns, &last);
            bytes.extend(step);
            last = checksum;
        }
        let record = Record { session, side, about, created_ns, steps, torn: false };
        prop_assert_eq!(codec::read(&bytes).unwrap(), record.clone());
        prop_assert_eq!(codec::read(&padded(bytes)).unwrap(), record);
    }

    /// A crash leaves any part of the last write, in a file of full length or not.
    #[test]
    fn a_torn_step_takes_no_other_with_it(steps in vec(any_entry(), 1..6)) {
        let whole = written(&steps);
        let without_last = written(&steps[..steps.len() - 1]).len();
        for cut in without_last..whole.len() {
            for bytes in [whole[..cut].to_vec(), padded(whole[..cut].to_vec())] {
                // A step that ends in a zero is whole without it, in a file that had zeros there.
                if bytes == padded(whole.clone()) {
                    continue;
                }
                let record = codec::read(&bytes).unwrap();
                prop_assert_eq!(&record.steps, &steps[..steps.len() - 1]);
                prop_assert_eq!(record.torn, whole[without_last..cut].iter().any(|byte| *byte != 0));
            }
        }
    }

    /// A journal that lost more than its end never reads as one that has more or other steps than were written.
    #[test]
    fn a_cut_shows_a_prefix_or_an_error(steps in vec(any_entry(), 0..6)) {
        let whole = written(&steps);
        for cut in 0..whole.len() {
            if let Ok(record) = codec::read(&whole[..cut]) {
                prop_assert!(steps.starts_with(&record.steps));
            }
        }
    }

    /// Only the last step can be taken for torn; damage before it is an error.
    #[test]
    fn a_flipped_bit_is_found(steps in vec(any_entry(), 1..6), bit in 0..8_u32) {
        let whole = padded(written(&steps));
        let without_last = written(&steps[..steps.len() - 1]).len();
        for at in 0..written(&steps).len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << bit;
            match codec::read(&bytes) {
                Err(_) => {}
                Ok(record) => {
                    prop_assert!(at >= without_last, "byte {} of {}", at, without_last);
                    prop_assert!(record.torn);
                    prop_assert_eq!(&record.steps, &steps[..steps.len() - 1]);
                }
            }
        }
    }

    #[test]
    fn any_bytes_are_read_without_panic(bytes in vec(any::<u8>(), 0..300)) {
        let _ = codec::read(&bytes);
        let mut with_preamble = b"SEALJRNL\x00\x01".to_vec();
        with_preamble.extend(bytes);
        let _ = codec::read(&with_preamble);
    }
}
