//! QEMU takes a stream whose pages came at other places than they stood, in sections that the stream did not have.

use std::collections::VecDeque;

use sealift_lab::guest::Launch;
use sealift_lab::qemu::{self, Machine};
use sealift_lab::{reload, whole_matrix};
use sealift_stream::main_channel::{Content, Item, Parser, Section, Weaver};
use sealift_stream::{BlockId, PageSize};

/// A page on its way.
struct Page {
    block: BlockId,
    offset: u64,
    content: Option<Vec<u8>>,
}

/// Lets every page come this many of the stream's sections later, as those come that are read when their turn comes: between sections, but
/// for the last ones, which come within RAM's last section. Returns how many sections of RAM the stream has by then, and had.
fn late(stream: &[u8], sections: usize) -> (Vec<u8>, usize, usize) {
    let mut parser = Parser::with_page_size(PageSize::KIB_4);
    let mut weaver = Weaver::new(Some(PageSize::KIB_4));
    let (mut rest, mut out) = (stream, Vec::new());
    let mut waiting: VecDeque<(usize, Page)> = VecDeque::new();
    let (mut at, mut last) = (0, false);
    loop {
        let before = rest;
        let Some(item) = parser.pull(&mut rest) else {
            break;
        };
        let mut until = None;
        match item {
            Item::Page(page) => {
                let content = match page.content {
                    Content::Whole(bytes) => Some(bytes.to_vec()),
                    _ => None,
                };
                let (block, offset) = (page.block, page.offset);
                let page = Page {
                    block,
                    offset,
                    content,
                };
                waiting.push_back((at, page));
                continue;
            }
            Item::RamEnd if last => until = Some(at),
            Item::Footer(_) => {
                at += 1;
                until = at.checked_sub(sections);
            }
            Item::Section(Section::End(_)) => last = true,
            _ => {}
        }
        let taken = &before[..before.len() - rest.len()];
        let behind = matches!(item, Item::Footer(_));
        if behind {
            weaver.bytes(taken, &mut out);
        }
        while let Some((_, page)) = waiting.pop_front_if(|(since, _)| Some(*since) <= until) {
            let content = page.content.as_deref();
            let content = content.map_or(Content::Zero, Content::Whole);
            let woven = weaver.page(page.block, page.offset, content, &mut out);
            assert!(woven.is_ok(), "page {:#x}", page.offset);
        }
        if !behind {
            weaver.bytes(taken, &mut out);
        }
    }
    weaver.bytes(rest, &mut out);
    assert!(waiting.is_empty());
    let (now, had) = (parts(&out), parts(stream));
    (out, now, had)
}

/// Sections of RAM while the guest ran.
fn parts(mut stream: &[u8]) -> usize {
    let mut parser = Parser::with_page_size(PageSize::KIB_4);
    let mut parts = 0;
    while let Some(item) = parser.pull(&mut stream) {
        parts += usize::from(matches!(item, Item::Section(Section::Part(_))));
    }
    parts
}

#[test]
fn a_guest_runs_on_from_pages_that_came_between_the_sections_of_its_stream() {
    let machines = if whole_matrix() {
        &[Machine::I440fx, Machine::Q35, Machine::Microvm][..]
    } else {
        &[Machine::Q35]
    };
    for qemu in qemu::all().unwrap() {
        for machine in machines {
            let launch = Launch::new(&qemu, &qemu.machine(*machine));
            let mut source = launch.start().unwrap();
            source.wait_tick(2).unwrap();
            let stream = reload::capture(&mut source).unwrap();
            let stopped = source.serial().progress().unwrap();
            let (moved, now, had) = late(&stream, 1);
            assert!(now > had, "{now} sections of {had}");

            let mut destination = launch.incoming().start().unwrap();
            reload::load(&mut destination, &moved).unwrap();
            let every_page = stopped.tick + destination.ticks_per_pass() + 1;
            destination.wait_tick(every_page).unwrap();
        }
    }
}
