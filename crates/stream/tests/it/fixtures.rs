//! Streams of real QEMUs: understood as far as they should be, and lossless.

use sealift_lab::fixtures::{Channel, Direction, File, Fixture, fixtures};
use sealift_stream::{Cause, ChannelKind, PageSize, multifd};

use crate::support::{Main, Multifd, Return, Run, run};

/// Pieces in which the streams arrive: whole, those of a socket, and some that fit nothing.
const PIECES: [&[usize]; 4] = [&[], &[32 << 10], &[4096, 1, 9], &[977]];

fn each(mut look: impl FnMut(&Fixture, &File, &[u8])) {
    for fixture in fixtures().unwrap() {
        for file in &fixture.files {
            look(&fixture, file, &file.bytes().unwrap());
        }
    }
}

/// Parses a file in several ways that must come to the same.
fn parse(file: &File, bytes: &[u8]) -> Run {
    let run_in = |pieces| match (&file.channel, file.direction) {
        (_, Direction::Return) => run(Return::default(), bytes, pieces),
        (Channel::Multifd(_), _) => run(
            Multifd(multifd::Parser::new(PageSize::KIB_4)),
            bytes,
            pieces,
        ),
        _ => run(Main::default(), bytes, pieces),
    };
    let mut runs = PIECES.map(run_in).into_iter();
    let whole = runs.next().unwrap();
    assert!(
        whole.emitted == bytes,
        "{} is not emitted as it was",
        file.path
    );
    for run in runs {
        assert!(run == whole, "{} depends on its pieces", file.path);
    }
    whole
}

#[test]
fn every_channel_is_emitted_as_it_was() {
    each(|_, file, bytes| {
        parse(file, bytes);
    });
}

#[test]
fn channels_are_told_apart() {
    each(|_, file, bytes| {
        let kind = match (&file.channel, file.direction) {
            (Channel::Main, Direction::Forward) => ChannelKind::Main,
            (Channel::Multifd(_), Direction::Forward) => ChannelKind::Multifd,
            _ => ChannelKind::Other,
        };
        assert_eq!(ChannelKind::detect(bytes), Some(kind), "{}", file.path);
    });
}

/// Main channels are understood up to the first device state of the end, but for block dirty bitmaps, which start before RAM's first pages.
#[test]
fn main_channels_are_understood_up_to_their_device_state() {
    each(|fixture, file, bytes| {
        if (&file.channel, file.direction) != (&Channel::Main, Direction::Forward) {
            return;
        }
        let run = parse(file, bytes);
        let pages = run
            .items
            .iter()
            .filter(|item| item.starts_with("Page("))
            .count();
        let multifd = fixture
            .files
            .iter()
            .any(|file| matches!(file.channel, Channel::Multifd(_)));
        let shared = fixture.name.ends_with("ignore-shared");
        if fixture.name.ends_with("dirty-bitmaps") {
            let surprise = run.surprise.unwrap();
            assert_eq!(surprise.cause, Cause::Unknown, "{}", file.path);
            assert_eq!(surprise.found.to_string(), "\"dirty-bitmap\"");
            return;
        }
        assert!(
            multifd || shared || pages > 2000,
            "{}: {pages} pages",
            file.path
        );
        assert!(
            run.items.iter().any(|item| item.contains("Section(End(")),
            "{}",
            file.path
        );
        match run.surprise {
            // After a switch to post-copy device state is packaged, and the stream ends in the open.
            None => assert!(fixture.post_copy, "{}", file.path),
            Some(surprise) => assert_eq!(surprise.cause, Cause::DeviceState, "{}", file.path),
        }
    });
}

#[test]
fn multifd_channels_and_return_paths_are_understood_whole() {
    each(|_, file, bytes| {
        let whole =
            matches!(file.channel, Channel::Multifd(_)) || file.direction == Direction::Return;
        if whole && file.channel != Channel::PostcopyPreempt {
            assert_eq!(parse(file, bytes).surprise, None, "{}", file.path);
        }
    });
}

/// Each fixture is there for something; the parser finds it.
#[test]
fn fixtures_hold_what_they_are_kept_for() {
    let mut found = Vec::new();
    let mut requests = 0;
    each(|fixture, file, bytes| {
        let run = parse(file, bytes);
        // How many pages a guest asks for in post-copy is luck.
        requests += run
            .items
            .iter()
            .filter(|item| item.starts_with("RequestPages"))
            .count();
        for (what, mark) in [
            ("xbzrle", "Xbzrle("),
            ("compress", "Zlib("),
            ("postcopy-advised", "Command(PostcopyAdvise("),
            ("ignore-shared", "address: Some("),
            ("validate-uuid", "Setting(Uuid("),
            ("virtio-mem", "VirtioMem(VirtioMem"),
            ("switchover-ack", "SwitchoverAck"),
            ("postcopy", "Command(Packaged("),
            ("multifd", "Page("),
            ("multifd-zstd", "Ram("),
        ] {
            if fixture.name.ends_with(&format!("-{what}"))
                && run.items.iter().any(|item| item.contains(mark))
            {
                found.push(format!("{}: {mark}", fixture.name));
            }
        }
    });
    assert!(requests > 0);
    found.sort();
    found.dedup();
    assert_eq!(
        found,
        [
            "10.0-ignore-shared: address: Some(",
            "10.0-multifd-zstd: Ram(",
            "10.0-multifd: Page(",
            "10.0-postcopy-advised: Command(PostcopyAdvise(",
            "10.0-postcopy: Command(Packaged(",
            "10.0-switchover-ack: SwitchoverAck",
            "10.0-validate-uuid: Setting(Uuid(",
            "10.0-virtio-mem: VirtioMem(VirtioMem",
            "10.0-xbzrle: Xbzrle(",
            "7.2-compress: Zlib(",
            "7.2-ignore-shared: address: Some(",
            "7.2-multifd-zstd: Ram(",
            "7.2-multifd: Page(",
            "7.2-postcopy-advised: Command(PostcopyAdvise(",
            "7.2-postcopy: Command(Packaged(",
            "7.2-validate-uuid: Setting(Uuid(",
            "7.2-xbzrle: Xbzrle(",
        ]
    );
}
