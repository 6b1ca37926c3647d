//! Reaching the RAM of real QEMUs from outside: each kind of backend is read and written, and QEMU itself says what is there.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "the tests share functions, and those are tests as well"
)]

mod limits;
mod reached;

use std::fs;

use sealift_lab::guest::{Launch, PATIENCE};
use sealift_lab::qemu::{self, Machine as Kind, Qemu};
use sealift_lab::tools::progress;
use sealift_qemu::Machine;
use sealift_qemu::ram::{Purpose, Want, Way};

use reached::{
    MIB, PAGE, Reached, backend, directories, file, incoming, launch, paused, reads_the_same,
    writes_arrive,
};

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
