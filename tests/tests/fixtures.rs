//! The captured streams are there, whole, and hold what they are kept for.

use sealift_lab::fixtures::{Channel, Direction, directory, fixtures};

#[test]
fn every_file_is_what_the_list_says() {
    for fixture in fixtures().unwrap() {
        assert!(
            fixture.main().unwrap().starts_with(b"QEVM"),
            "{}",
            fixture.name
        );
        for file in &fixture.files {
            file.bytes().unwrap();
        }
    }
}

#[test]
fn fixtures_are_small_enough_to_be_checked_in() {
    let length: u64 = fixtures()
        .unwrap()
        .iter()
        .flat_map(|fixture| &fixture.files)
        .map(|file| {
            std::fs::metadata(directory().join(&file.path))
                .unwrap()
                .len()
        })
        .sum();
    assert!(length < 4 << 20, "{length} bytes");
}

#[test]
fn both_releases_and_all_kinds_of_channel_are_there() {
    let all = fixtures().unwrap();
    for release in ["7.2", "10.0"] {
        let names: Vec<_> = all
            .iter()
            .filter_map(|fixture| fixture.name.strip_prefix(&format!("{release}-")))
            .collect();
        for case in [
            "i440fx",
            "q35",
            "microvm",
            "xbzrle",
            "postcopy-advised",
            "postcopy",
            "ignore-shared",
            "multifd",
            "multifd-zstd",
            "virtio-mem",
            "validate-uuid",
            "dirty-bitmaps",
        ] {
            assert!(names.contains(&case), "{release}-{case}");
        }
    }
    for channel in [
        Channel::Main,
        Channel::Multifd(0),
        Channel::Multifd(1),
        Channel::PostcopyPreempt,
    ] {
        assert!(
            all.iter()
                .any(|fixture| fixture.file(&channel, Direction::Forward).is_some()),
            "{channel:?}"
        );
    }
    assert!(
        all.iter()
            .any(|fixture| fixture.file(&Channel::Main, Direction::Return).is_some())
    );
}
