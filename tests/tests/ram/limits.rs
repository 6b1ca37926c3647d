//! Where reaching ends: at a block's bounds, with QEMU, with its file, and without the privilege.

use std::{fs, thread};

use rustix::fs::Uid;
use sealift_lab::qemu;
use sealift_lab::tools::{is_root, progress};
use sealift_qemu::ram::{Lost, Purpose, Want};

use crate::reached::{
    MIB, PAGE, Reached, backend, directories, file, incoming, paused, reads_the_same, writes_arrive,
};

#[test]
fn what_is_outside_of_a_block_is_not_touched() {
    let qemu = qemu::all().unwrap().remove(0);
    for arguments in [Vec::new(), backend("memory-backend-memfd,share=on")] {
        let (_guest, mut machine) = incoming(&qemu, &arguments);
        let reached = Reached::auto(&mut machine, Purpose::Write);
        let (name, _) = *reached.within().first().unwrap();
        let block = reached.number(name);
        let end = MIB << 20;
        let mut page = [0; PAGE];
        for offset in [end, end - 1, u64::MAX, u64::MAX - 4095] {
            let read = reached.reach.read(block, offset, &mut page);
            assert!(matches!(read, Err(Lost::Outside { .. })), "{read:?}");
            let write = reached
                .reach
                .write_scattered(block, &[0, offset], PAGE, &[1; 2 * PAGE]);
            assert!(matches!(write, Err(Lost::Outside { .. })), "{write:?}");
        }
        // Nothing of a write that goes out of bounds arrives.
        reached.reach.read(block, 0, &mut page).unwrap();
        assert!(page.iter().all(|&byte| byte == 0));
        let rom = reached.number("pc.bios");
        for (block, offsets) in [(rom, [0]), (999, [0])] {
            let read = reached
                .reach
                .read_scattered(block, &offsets, PAGE, &mut page);
            assert!(matches!(read, Err(Lost::Outside { .. })), "{read:?}");
        }
    }
}

#[test]
fn the_end_of_qemu_is_named() {
    for qemu in qemu::all().unwrap() {
        for arguments in [Vec::new(), backend("memory-backend-memfd,share=on")] {
            let (mut guest, mut machine) = paused(&qemu, &arguments);
            let reached = Reached::auto(&mut machine, Purpose::Write);
            let (name, _) = *reached.within().first().unwrap();
            let block = reached.number(name);
            let mut page = [0; PAGE];
            reached.reach.read(block, 0, &mut page).unwrap();
            guest.kill().unwrap();
            for lost in [
                reached.reach.read(block, 0, &mut page),
                reached.reach.write(block, 0, &page),
                reached.reach.populated(block).map(drop),
            ] {
                assert!(matches!(lost, Err(Lost::QemuGone)), "{lost:?}");
            }
        }
    }
}

#[test]
fn a_backends_file_that_is_cut_is_named() {
    let qemu = qemu::all().unwrap().remove(0);
    let [directory, _] = directories();
    let (_guest, mut machine) = incoming(&qemu, &file(&directory, "cut", "on"));
    let reached = Reached::auto(&mut machine, Purpose::Read);
    let block = reached.number("mem0");
    let cut = fs::OpenOptions::new()
        .write(true)
        .open(directory.path().join("cut"));
    cut.unwrap().set_len(8 << 20).unwrap();
    let mut page = [0; PAGE];
    reached.reach.read(block, 4 << 20, &mut page).unwrap();
    let lost = reached.reach.read(block, 8 << 20, &mut page).unwrap_err();
    assert!(
        matches!(lost, Lost::Short { ref block, offset } if block == "mem0" && offset == 8 << 20),
        "{lost:?}"
    );
}

/// Runs something as a user who may nothing.
fn as_nobody<T: Send>(what: impl FnOnce() -> T + Send) -> Option<T> {
    if !is_root() {
        progress("NOT TESTED: a user without privilege; only root can become one");
        return None;
    }
    // The kernel's own number for a user that it does not know.
    const NOBODY: u32 = 65534;
    let done = thread::scope(|scope| {
        let thread = scope.spawn(|| {
            rustix::thread::set_thread_uid(Uid::from_raw(NOBODY)).unwrap();
            what()
        });
        thread.join().unwrap()
    });
    Some(done)
}

#[test]
fn without_the_privilege_the_stream_is_left() {
    let qemu = qemu::all().unwrap().remove(0);
    for arguments in [Vec::new(), backend("memory-backend-memfd,share=on")] {
        let (_guest, mut machine) = incoming(&qemu, &arguments);
        let Some(reached) = as_nobody(|| Reached::auto(&mut machine, Purpose::Write)) else {
            return;
        };
        assert_eq!(reached.within(), []);
        let reason = reached.reason("pc.bios");
        assert!(reason.contains("CAP_SYS_PTRACE"), "{reason}");

        let refused = as_nobody(|| Reached::of(&mut machine, Want::Process, Purpose::Write));
        let error = refused.unwrap().err().unwrap().to_string();
        assert!(error.contains("CAP_SYS_PTRACE"), "{error}");
    }
}

#[test]
fn a_privilege_may_be_given_up_once_the_memory_is_reached() {
    for qemu in qemu::all().unwrap() {
        for arguments in [Vec::new(), backend("memory-backend-memfd,share=on")] {
            let (_guest, mut machine) = incoming(&qemu, &arguments);
            let reached = Reached::auto(&mut machine, Purpose::Write);
            let Some(()) = as_nobody(|| writes_arrive(&mut machine, &reached)) else {
                return;
            };
            reads_the_same(&mut machine, &reached);
        }
    }
}
