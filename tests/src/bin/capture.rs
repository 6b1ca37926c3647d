//! Makes all fixtures again: `cargo run -p sealift-lab --bin capture [NAME…]`.
//!
//! With names (`10.0-xbzrle`) only those are made; the others stay as they are.

use std::fs;
use std::process::ExitCode;

use sealift_lab::capture::{capture, is_possible};
use sealift_lab::fixtures::{Fixture, directory, fixtures, write_manifest};
use sealift_lab::tools::progress;
use sealift_lab::{Context, Error, cases, qemu};

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    match run(&wanted) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            progress(&format!("capture failed: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run(wanted: &[String]) -> Result<(), Error> {
    let directory = directory();
    fs::create_dir_all(&directory).context(format!("cannot make {}", directory.display()))?;
    let mut kept = fixtures().unwrap_or_default();
    let mut made = 0;
    for qemu in qemu::all()? {
        if wanted.is_empty() {
            forget(&mut kept, &qemu.release())?;
        }
        for case in cases::all().iter().filter(|case| is_possible(case, &qemu)) {
            let name = format!("{}-{}", qemu.release(), case.name);
            if !wanted.is_empty() && !wanted.contains(&name) {
                continue;
            }
            let fixture = capture(case, &qemu, &directory).context(&name)?;
            progress(&format!("{name}: {}", describe(&fixture)));
            kept.retain(|other| other.name != name);
            kept.push(fixture);
            made += 1;
        }
    }
    if made == 0 {
        return Err(Error::new(format!(
            "no case is called {}",
            wanted.join(" or ")
        )));
    }
    kept.sort_by(|a, b| a.name.cmp(&b.name));
    write_manifest(&directory, &kept)
}

/// Drops what an earlier run made with this QEMU: its cases may have gone.
fn forget(kept: &mut Vec<Fixture>, release: &str) -> Result<(), Error> {
    let of_release = |fixture: &Fixture| {
        fixture
            .name
            .split_once('-')
            .is_some_and(|(own, _)| own == release)
    };
    for fixture in kept.iter().filter(|fixture| of_release(fixture)) {
        let path = directory().join(&fixture.name);
        if path.exists() {
            fs::remove_dir_all(&path).context(format!("cannot remove {}", path.display()))?;
        }
    }
    kept.retain(|fixture| !of_release(fixture));
    Ok(())
}

fn describe(fixture: &Fixture) -> String {
    let files: Vec<_> = fixture
        .files
        .iter()
        .map(|file| {
            format!(
                "{:?} {} {} bytes",
                file.channel, file.direction, file.length
            )
        })
        .collect();
    files.join(", ")
}
