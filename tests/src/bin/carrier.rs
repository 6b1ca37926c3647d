//! The least that can stand behind `exec:`, for the tests of the shim.
//!
//! ```text
//!   carrier shim (save FILE | load FILE | join ADDRESS) MARK    what QEMU starts: a shim over
//!   carrier      (save FILE | load FILE | join ADDRESS) MARK    keeps QEMU's stream, gives QEMU one, or joins two QEMUs
//! ```
//!
//!   carrier shim (fail CODE | die - | half - | close -) MARK    ends before it takes the channel; is killed while it has it;
//!                                                               ends one half of it; closes it
//!
//!   carrier bare FILE MARK                                      as save, but without a shim, and with something to print
//!
//! When QEMU has closed the channel, or the last two have done their part, it makes `MARK.closed`, stays until `MARK.go` is there, and makes `MARK.ended`.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use sealift_lab::guest::PATIENCE;
use sealift_lab::joined::join_channels;
use sealift_lab::tools::progress;
use sealift_lab::{Context, Error};
use sealift_qemu::{Address, Channel, shim};

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    run(&arguments).unwrap_or_else(|error| {
        progress(&format!("carrier: {error}"));
        ExitCode::FAILURE
    })
}

fn run(arguments: &[OsString]) -> Result<ExitCode, Error> {
    match arguments {
        [word, rest @ ..] if word == "shim" => {
            let program = std::env::current_exe().context("this program's path")?;
            shim::run(&program, rest).context("the shim")
        }
        [word, file, _] if word == "bare" => {
            let channel = Channel::stdio()?;
            print_words();
            save(channel, file.as_ref()).context("saving the stream")?;
            Ok(ExitCode::SUCCESS)
        }
        [word, code, _] if word == "fail" => {
            let code = code.to_string_lossy().parse::<u8>().context("the code")?;
            Ok(ExitCode::from(code))
        }
        [word, what, mark] => {
            let channel = shim::channel()?;
            match word.to_str() {
                Some("die") => std::process::abort(),
                Some("close") => drop(channel),
                Some("half") => {
                    let (_from, to) = channel.split();
                    drop(to);
                    // Stays with the other half.
                    live_on(Path::new(mark)).context("with one half")?;
                }
                Some("save") => save(channel, what.as_ref()).context("saving the stream")?,
                Some("load") => load(channel, what.as_ref()).context("giving the stream")?,
                _ => join(channel, what)?,
            }
            live_on(Path::new(mark)).context("after the close")?;
            Ok(ExitCode::SUCCESS)
        }
        _ => Err(Error::new(
            "use: carrier [shim] (save FILE | load FILE | join ADDRESS) MARK",
        )),
    }
}

#[expect(clippy::print_stdout, reason = "what must not get into the channel")]
fn print_words() {
    println!("not for QEMU");
}

fn save(channel: Channel, file: &Path) -> io::Result<()> {
    let (mut from, _to) = channel.split();
    io::copy(&mut from, &mut File::create(file)?).map(drop)
}

fn load(channel: Channel, file: &Path) -> io::Result<()> {
    let (mut from, mut to) = channel.split();
    io::copy(&mut File::open(file)?, &mut to)?;
    io::copy(&mut from, &mut io::sink()).map(drop)
}

fn join(channel: Channel, address: &OsStr) -> Result<(), Error> {
    let address: Address = address.to_string_lossy().parse().context("the address")?;
    let other = Channel::connect(&address, PATIENCE)?;
    join_channels(channel, other)
}

fn live_on(mark: &Path) -> io::Result<()> {
    fs::write(beside(mark, "closed"), "")?;
    let deadline = Instant::now() + PATIENCE;
    while !beside(mark, "go").exists() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(10));
    }
    fs::write(beside(mark, "ended"), "")
}

fn beside(mark: &Path, what: &str) -> PathBuf {
    mark.with_extension(what)
}
