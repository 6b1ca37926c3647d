//! A real QEMU whose RAM is reached, and the comparison with what QEMU itself says is there.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use sealift_lab::guest::{Guest, Launch, PATIENCE};
use sealift_lab::qemu::{Machine as Kind, Qemu};
use sealift_lab::tools::progress;
use sealift_qemu::ram::{Block, Purpose, Reach, ReachError, Want, Way, reach};
use sealift_qemu::{Machine, memory};
use tempfile::TempDir;

pub(crate) const PAGE: usize = 4096;

/// Twice what the lab's image needs, so that a half makes a NUMA node.
pub(crate) const MIB: u64 = 16;

/// Main memory that consists of this one backend.
pub(crate) fn backend(properties: &str) -> Vec<String> {
    let object = format!("{properties},id=mem0,size={MIB}M");
    ["-object", &object, "-machine", "memory-backend=mem0"]
        .map(str::to_owned)
        .to_vec()
}

pub(crate) fn launch(qemu: &Qemu, arguments: &[String]) -> Launch {
    Launch::new(qemu, &qemu.machine(Kind::I440fx))
        .memory(&format!("{MIB}M"))
        .arguments(arguments)
}

pub(crate) fn incoming(qemu: &Qemu, arguments: &[String]) -> (Guest, Machine) {
    let guest = launch(qemu, arguments).incoming().start().unwrap();
    let machine = Machine::connect(&guest.free_control(), PATIENCE).unwrap();
    (guest, machine)
}

/// A guest that has worked and stands still.
pub(crate) fn paused(qemu: &Qemu, arguments: &[String]) -> (Guest, Machine) {
    let mut guest = launch(qemu, arguments).start().unwrap();
    guest.wait_tick(2).unwrap();
    let mut machine = Machine::connect(&guest.free_control(), PATIENCE).unwrap();
    machine.stop().unwrap();
    (guest, machine)
}

/// A QEMU's blocks, and the ways to them.
pub(crate) struct Reached {
    blocks: Vec<(String, u64)>,
    pub(crate) reach: Reach,
}

impl Reached {
    pub(crate) fn of(
        machine: &mut Machine,
        want: Want,
        purpose: Purpose,
    ) -> Result<Self, ReachError> {
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

    pub(crate) fn auto(machine: &mut Machine, purpose: Purpose) -> Self {
        Self::of(machine, Want::Auto, purpose).unwrap()
    }

    pub(crate) fn number(&self, name: &str) -> u16 {
        let index = self.blocks.iter().position(|(block, _)| block == name);
        u16::try_from(index.unwrap()).unwrap()
    }

    pub(crate) fn way(&self, name: &str) -> Option<Way> {
        self.reach.way(self.number(name))
    }

    pub(crate) fn reason(&self, name: &str) -> &str {
        self.reach.reason(self.number(name))
    }

    /// The blocks that are reached, each with the way.
    pub(crate) fn within(&self) -> Vec<(&str, Way)> {
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
pub(crate) fn told(machine: &mut Machine, names: &[&str]) -> BTreeMap<String, Vec<(u64, Vec<u8>)>> {
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
pub(crate) fn scattered(range: Range<u64>) -> Vec<u64> {
    let (even, odd): (Vec<_>, Vec<_>) = range
        .step_by(PAGE)
        .partition(|offset| (*offset / 3 / PAGE as u64).is_multiple_of(2));
    odd.into_iter().rev().chain(even).collect()
}

/// All that QEMU shows of the guest is what is read directly; what counts as untouched is zeros.
pub(crate) fn reads_the_same(machine: &mut Machine, reached: &Reached) {
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
pub(crate) fn writes_arrive(machine: &mut Machine, reached: &Reached) {
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

/// On a disk, and in memory.
pub(crate) fn directories() -> [TempDir; 2] {
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

pub(crate) fn file(directory: &TempDir, name: &str, share: &str) -> Vec<String> {
    let path = directory.path().join(name);
    let path = path.display();
    backend(&format!(
        "memory-backend-file,mem-path={path},share={share}"
    ))
}
