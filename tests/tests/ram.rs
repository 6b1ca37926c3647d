//! Reaching the RAM of real QEMUs from outside: each kind of backend is read and written, and QEMU itself says what is there.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "the tests share functions, and those are tests as well"
)]

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::Path;
use std::thread;

use rustix::fs::Uid;
use sealift_lab::guest::{Guest, Launch, PATIENCE};
use sealift_lab::qemu::{self, Machine as Kind, Qemu};
use sealift_lab::tools::{is_root, progress};
use sealift_qemu::ram::{Block, Lost, Purpose, Reach, ReachError, Want, Way, reach};
use sealift_qemu::{Machine, memory};
use tempfile::TempDir;

const PAGE: usize = 4096;

/// Twice what the lab's image needs, so that a half makes a NUMA node.
const MIB: u64 = 16;

/// Main memory that consists of this one backend.
fn backend(properties: &str) -> Vec<String> {
    let object = format!("{properties},id=mem0,size={MIB}M");
    ["-object", &object, "-machine", "memory-backend=mem0"]
        .map(str::to_owned)
        .to_vec()
}

fn launch(qemu: &Qemu, arguments: &[String]) -> Launch {
    Launch::new(qemu, &qemu.machine(Kind::I440fx))
        .memory(&format!("{MIB}M"))
        .arguments(arguments)
}

fn incoming(qemu: &Qemu, arguments: &[String]) -> (Guest, Machine) {
    let guest = launch(qemu, arguments).incoming().start().unwrap();
    let machine = Machine::connect(&guest.free_control(), PATIENCE).unwrap();
    (guest, machine)
}

/// A guest that has worked and stands still.
fn paused(qemu: &Qemu, arguments: &[String]) -> (Guest, Machine) {
    let mut guest = launch(qemu, arguments).start().unwrap();
    guest.wait_tick(2).unwrap();
    let mut machine = Machine::connect(&guest.free_control(), PATIENCE).unwrap();
    machine.stop().unwrap();
    (guest, machine)
}

/// A QEMU's blocks, and the ways to them.
struct Reached {
    blocks: Vec<(String, u64)>,
    reach: Reach,
}

impl Reached {
    fn of(machine: &mut Machine, want: Want, purpose: Purpose) -> Result<Self, ReachError> {
        let blocks: Vec<_> = machine
            .ram_blocks()
            .unwrap()
            .into_iter()
            .map(|block| (block.name, block.used))
            .collect();
        let asked: Vec<_> = blocks
            .iter()
            .map(|(name, length)| Block {
                name,
                length: *length,
            })
            .collect();
        let reach = reach(machine, &asked, want, purpose)?;
        Ok(Self { blocks, reach })
    }

    fn auto(machine: &mut Machine, purpose: Purpose) -> Self {
        Self::of(machine, Want::Auto, purpose).unwrap()
    }

    fn number(&self, name: &str) -> u16 {
        let index = self.blocks.iter().position(|(block, _)| block == name);
        u16::try_from(index.unwrap()).unwrap()
    }

    fn way(&self, name: &str) -> Option<Way> {
        self.reach.way(self.number(name))
    }

    fn reason(&self, name: &str) -> &str {
        self.reach.reason(self.number(name))
    }

    /// The blocks that are reached, each with the way.
    fn within(&self) -> Vec<(&str, Way)> {
        let ways = self.blocks.iter().filter_map(|(name, _)| {
            let way = self.way(name)?;
            assert!(!self.reason(name).is_empty());
            Some((name.as_str(), way))
        });
        let mut ways: Vec<_> = ways.collect();
        ways.sort_by_key(|(name, _)| *name);
        ways
    }
}

/// What QEMU says that the guest sees of its blocks: by name, where a part begins and what it holds.
fn told(machine: &mut Machine, names: &[&str]) -> BTreeMap<String, Vec<(u64, Vec<u8>)>> {
    let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
    let mut bytes = Vec::new();
    memory::read(machine, &names, |piece| bytes.extend_from_slice(piece)).unwrap();

    let mut told: BTreeMap<_, Vec<_>> = BTreeMap::new();
    let mut rest = bytes.as_slice();
    let mut take = |length: usize| rest.split_off(..length);
    while let Some(length) = take(2) {
        let length = u16::from_be_bytes(length.try_into().unwrap());
        let name = String::from_utf8(take(length.into()).unwrap().to_vec()).unwrap();
        let mut number = || u64::from_be_bytes(take(8).unwrap().try_into().unwrap());
        let (offset, length) = (number(), number());
        let memory = take(usize::try_from(length).unwrap()).unwrap().to_vec();
        told.entry(name).or_default().push((offset, memory));
    }
    told
}

/// Where pages are, in an order of no kind: some are neighbours, most are not.
fn scattered(range: Range<u64>) -> Vec<u64> {
    let (even, odd): (Vec<_>, Vec<_>) = range
        .step_by(PAGE)
        .partition(|offset| (*offset / 3 / PAGE as u64).is_multiple_of(2));
    odd.into_iter().rev().chain(even).collect()
}

/// All that QEMU shows of the guest is what is read directly; what counts as untouched is zeros.
fn reads_the_same(machine: &mut Machine, reached: &Reached) {
    let within = reached.within();
    let names: Vec<_> = within.iter().map(|(name, _)| *name).collect();
    let told = told(machine, &names);
    assert_eq!(told.keys().collect::<Vec<_>>(), names);
    for (name, parts) in told {
        let block = reached.number(&name);
        let populated = reached.reach.populated(block).unwrap();
        let mut zeros = 0;
        for (start, expected) in parts {
            let mut whole = vec![1; expected.len()];
            reached.reach.read(block, start, &mut whole).unwrap();
            assert!(whole == expected, "{name} from {start:#x}");

            let end = start + expected.len() as u64;
            let offsets = scattered(start..end);
            let mut pages = vec![1; expected.len()];
            reached
                .reach
                .read_scattered(block, &offsets, PAGE, &mut pages)
                .unwrap();
            for (&offset, page) in offsets.iter().zip(pages.chunks(PAGE)) {
                let at = usize::try_from(offset - start).unwrap();
                assert!(page == &expected[at..at + PAGE], "{name} at {offset:#x}");
                if !populated.iter().any(|range| range.contains(&offset)) {
                    zeros += 1;
                    assert!(page.iter().all(|&byte| byte == 0), "{name} at {offset:#x}");
                }
            }
        }
        progress(&format!("{name}: {zeros} pages untouched"));
    }
}

/// What is written directly is what QEMU shows, and nothing else has changed.
fn writes_arrive(machine: &mut Machine, reached: &Reached) {
    let within = reached.within();
    let names: Vec<_> = within.iter().map(|(name, _)| *name).collect();
    // Above the first MiB, of which firmware has a part.
    let range = 1 << 20..5 << 20;
    let offsets: Vec<_> = scattered(range.clone())
        .into_iter()
        .step_by(3)
        .filter(|offset| offset % 5 != 0)
        .collect();
    let mut before = told(machine, &names);
    for name in &names {
        let block = reached.number(name);
        let page = |offset: u64| [name.len() as u64, offset, 0xfeed].map(u64::to_le_bytes);
        let page = |offset: u64| page(offset).concat().repeat(PAGE)[..PAGE].to_vec();
        let pages: Vec<u8> = offsets.iter().flat_map(|&offset| page(offset)).collect();
        reached
            .reach
            .write_scattered(block, &offsets, PAGE, &pages)
            .unwrap();
        reached
            .reach
            .write(block, 6 << 20, &vec![7; 1 << 20])
            .unwrap();

        let mut back = vec![0; pages.len()];
        reached
            .reach
            .read_scattered(block, &offsets, PAGE, &mut back)
            .unwrap();
        assert!(back == pages, "{name}");
        let populated = reached.reach.populated(block).unwrap();
        for offset in &offsets {
            assert!(populated.iter().any(|range| range.contains(offset)));
        }

        let expected = before.get_mut(*name).unwrap();
        for (start, memory) in expected {
            let start = *start;
            let at = |offset: u64| Some(usize::try_from(offset.checked_sub(start)?).unwrap());
            for &offset in &offsets {
                let slot = at(offset).and_then(|at| memory.get_mut(at..at + PAGE));
                if let Some(slot) = slot {
                    slot.copy_from_slice(&page(offset));
                }
            }
            if let Some(slot) = at(6 << 20).and_then(|at| memory.get_mut(at..at + (1 << 20))) {
                slot.fill(7);
            }
        }
    }
    assert!(told(machine, &names) == before);
}

/// A backend is reached, read at a source and written at a destination, by these ways.
fn is_reached(arguments: impl Fn(&str) -> Vec<String>, ways: &[(&str, Way, Way)]) {
    for qemu in qemu::all().unwrap() {
        is_reached_in(&qemu, &arguments, ways);
    }
}

fn is_reached_in(qemu: &Qemu, arguments: impl Fn(&str) -> Vec<String>, ways: &[(&str, Way, Way)]) {
    let (_guest, mut machine) = paused(qemu, &arguments("source"));
    let reached = Reached::auto(&mut machine, Purpose::Read);
    let expected: Vec<_> = ways.iter().map(|&(name, read, _)| (name, read)).collect();
    assert_eq!(reached.within(), expected, "{}", qemu.release());
    reads_the_same(&mut machine, &reached);

    let (_guest, mut machine) = incoming(qemu, &arguments("destination"));
    let reached = Reached::auto(&mut machine, Purpose::Write);
    let expected: Vec<_> = ways.iter().map(|&(name, _, write)| (name, write)).collect();
    assert_eq!(reached.within(), expected, "{}", qemu.release());
    writes_arrive(&mut machine, &reached);
}

#[test]
fn private_memory_is_reached_by_the_process() {
    is_reached(|_| Vec::new(), &[("pc.ram", Way::Process, Way::Process)]);
}

#[test]
fn a_shared_memfd_is_reached_as_a_file() {
    is_reached(
        |_| backend("memory-backend-memfd,share=on"),
        &[("mem0", Way::Mapped, Way::Mapped)],
    );
}

/// On a disk, and in memory.
fn directories() -> [TempDir; 2] {
    let of = |parent: &Path| {
        tempfile::Builder::new()
            .prefix("sealift-ram-")
            .tempdir_in(parent)
            .unwrap()
    };
    [
        of(Path::new(env!("CARGO_TARGET_TMPDIR"))),
        of(Path::new("/dev/shm")),
    ]
}

fn file(directory: &TempDir, name: &str, share: &str) -> Vec<String> {
    let path = directory.path().join(name);
    let path = path.display();
    backend(&format!(
        "memory-backend-file,mem-path={path},share={share}"
    ))
}

#[test]
fn a_shared_file_is_reached_as_a_file() {
    for directory in directories() {
        is_reached(
            |end| file(&directory, end, "on"),
            &[("mem0", Way::Mapped, Way::Mapped)],
        );
    }
}

#[test]
fn a_private_view_of_a_file_is_reached_by_the_process() {
    for directory in directories() {
        is_reached(
            |end| file(&directory, end, "off"),
            &[("mem0", Way::Process, Way::Process)],
        );
    }
}

#[test]
fn each_node_of_a_numa_guest_is_reached() {
    let half = MIB / 2;
    let node = |number: u32, kind: &str| {
        let object = format!("{kind},id=node{number},size={half}M");
        let node = format!("node,memdev=node{number}");
        ["-object", &object, "-numa", &node].map(str::to_owned)
    };
    // Of the same length and kind: only QEMU knows which is which.
    is_reached(
        |_| {
            [0, 1]
                .map(|number| node(number, "memory-backend-ram"))
                .concat()
        },
        &[
            ("node0", Way::Process, Way::Process),
            ("node1", Way::Process, Way::Process),
        ],
    );
    is_reached(
        |_| {
            let shared = node(1, "memory-backend-memfd,share=on");
            [node(0, "memory-backend-ram"), shared].concat()
        },
        &[
            ("node0", Way::Process, Way::Process),
            ("node1", Way::Mapped, Way::Mapped),
        ],
    );
}

#[test]
fn shared_memory_without_a_file_is_reached_by_the_process() {
    for qemu in qemu::all().unwrap() {
        // Later QEMUs make a file of it.
        let way = if qemu.is_modern() {
            Way::Mapped
        } else {
            Way::Process
        };
        let arguments = |_: &str| backend("memory-backend-ram,share=on");
        is_reached_in(&qemu, arguments, &[("mem0", way, way)]);
    }
}

/// So many huge pages more, until it is dropped.
struct HugePages {
    before: u64,
}

const HUGE_PAGES: &str = "/proc/sys/vm/nr_hugepages";

impl HugePages {
    fn raise(by: u64) -> Option<Self> {
        let number = || -> Option<u64> { fs::read_to_string(HUGE_PAGES).ok()?.trim().parse().ok() };
        let before = number()?;
        let wanted = before + by;
        fs::write(HUGE_PAGES, wanted.to_string()).ok()?;
        let raised = Self { before };
        (number()? >= wanted).then_some(raised)
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        let _ = fs::write(HUGE_PAGES, self.before.to_string());
    }
}

#[test]
fn huge_pages_are_read_as_a_file_and_written_by_the_process() {
    // Those of two guests, and one for each that is about to end.
    let Some(_raised) = HugePages::raise(4 * MIB / 2) else {
        progress("NOT TESTED: huge pages. This machine has none to give (vm.nr_hugepages)");
        return;
    };
    is_reached(
        |_| backend("memory-backend-memfd,hugetlb=on,share=on"),
        &[("mem0", Way::Mapped, Way::Process)],
    );
}

#[test]
fn only_main_memory_is_reached() {
    let directory = tempfile::tempdir().unwrap();
    let flash = directory.path().join("flash");
    fs::write(&flash, vec![0xff; 256 << 10]).unwrap();
    let arguments = [
        format!("if=pflash,format=raw,file={}", flash.display()),
        "VGA".to_owned(),
    ];
    for qemu in qemu::all().unwrap() {
        let guest = Launch::new(&qemu, &qemu.machine(Kind::Q35))
            .arguments(["-drive", &arguments[0], "-device", &arguments[1]])
            .incoming()
            .start()
            .unwrap();
        let mut machine = Machine::connect(&guest.free_control(), PATIENCE).unwrap();
        for want in [Want::Auto, Want::Process] {
            let reached = Reached::of(&mut machine, want, Purpose::Write).unwrap();
            assert_eq!(reached.within(), [("pc.ram", Way::Process)]);
            for name in ["system.flash0", "pc.rom", "/rom@etc/acpi/tables"] {
                assert_eq!(reached.way(name), None);
                assert!(reached.reason(name).contains("not main memory"), "{name}");
            }
        }
    }
}

#[test]
fn a_virtio_mem_devices_memory_is_left_to_the_stream() {
    for qemu in qemu::all().unwrap() {
        let guest = Launch::new(&qemu, &qemu.machine(Kind::Q35))
            .memory("16M,slots=2,maxmem=1G")
            .arguments(["-object", "memory-backend-ram,id=dimm,size=128M"])
            .arguments(["-device", "pc-dimm,memdev=dimm"])
            .arguments(["-object", "memory-backend-ram,id=more,size=128M"])
            .arguments(["-device", "virtio-mem-pci,memdev=more,requested-size=64M"])
            .incoming()
            .start()
            .unwrap();
        let mut machine = Machine::connect(&guest.free_control(), PATIENCE).unwrap();
        let reached = Reached::auto(&mut machine, Purpose::Write);
        let expected = [("dimm", Way::Process), ("pc.ram", Way::Process)];
        assert_eq!(reached.within(), expected);
    }
}

#[test]
fn old_data_in_a_backends_file_counts_as_populated() {
    let [disk, memory] = directories();
    for (directory, qemu) in [disk, memory].iter().zip(qemu::all().unwrap().iter().rev()) {
        let arguments = file(directory, "used", "on");
        let old = fs::File::create(directory.path().join("used")).unwrap();
        old.set_len(MIB << 20).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&old, &[0xa5; PAGE], 3 << 20).unwrap();
        let (_guest, mut machine) = incoming(qemu, &arguments);
        let reached = Reached::auto(&mut machine, Purpose::Write);
        let block = reached.number("mem0");
        let populated = reached.reach.populated(block).unwrap();
        let holds = |offset| populated.iter().any(|range| range.contains(&offset));
        assert!(holds(3 << 20) && !holds(9 << 20), "{populated:?}");
    }
}

#[test]
fn a_way_can_be_ordered() {
    let qemu = qemu::all().unwrap().remove(0);
    let (_guest, mut private) = incoming(&qemu, &[]);
    let (_shared_guest, mut shared) = incoming(&qemu, &backend("memory-backend-memfd,share=on"));

    let by_process = Reached::of(&mut shared, Want::Process, Purpose::Write).unwrap();
    assert_eq!(by_process.within(), [("mem0", Way::Process)]);
    writes_arrive(&mut shared, &by_process);
    let mapped = Reached::of(&mut shared, Want::Mapped, Purpose::Read).unwrap();
    assert_eq!(mapped.within(), [("mem0", Way::Mapped)]);
    reads_the_same(&mut shared, &mapped);

    let error = Reached::of(&mut private, Want::Mapped, Purpose::Read)
        .err()
        .unwrap();
    let words = error.to_string();
    assert!(words.contains("`--access mapped`"), "{words}");
    assert!(words.contains("`pc.ram`"), "{words}");
    assert!(words.contains("share=on"), "{words}");

    let stream = Reached::of(&mut shared, Want::Stream, Purpose::Read).unwrap();
    assert_eq!(stream.within(), []);
    assert!(stream.reason("mem0").contains("--access stream"));
}

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

#[test]
fn a_guest_is_read_while_it_runs() {
    for qemu in qemu::all().unwrap() {
        let mut guest = launch(&qemu, &[]).start().unwrap();
        let now = guest.wait_tick(2).unwrap().tick;
        let mut machine = Machine::connect(&guest.free_control(), PATIENCE).unwrap();
        let reached = Reached::auto(&mut machine, Purpose::Read);
        let block = reached.number("pc.ram");
        let mut whole = vec![0; (MIB << 20).try_into().unwrap()];
        reached.reach.read(block, 0, &mut whole).unwrap();
        assert!(whole.iter().any(|&byte| byte != 0));
        guest.wait_tick(now + 2).unwrap();
    }
}
