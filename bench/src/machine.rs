//! The machine that is measured on, and having it to oneself.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::thread;
use std::time::Duration;

use time::OffsetDateTime;
use time::macros::format_description;

/// What this was measured on.
#[must_use]
pub fn describe() -> String {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown processor", |(_, model)| model);
    let cores = thread::available_parallelism().map_or(0, usize::from);
    format!("{model}, {cores} cores")
}

/// When this is measured, to the minute, in UTC.
#[must_use]
pub fn date() -> String {
    let now = OffsetDateTime::now_utc();
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]");
    now.format(format).unwrap_or_default()
}

/// How many processes wanted to run lately, as the kernel averages it over a minute: above a few tenths something else is running.
#[must_use]
pub fn load() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/loadavg").ok()?;
    text.split_whitespace().next()?.parse().ok()
}

/// How often a bench that waits for another looks whether that is done.
const LOOK: Duration = Duration::from_secs(1);

/// While this lives no other bench of this project measures on this machine.
#[derive(Debug)]
pub struct Alone {
    _name: UnixListener,
}

impl Alone {
    /// Waits until no other bench measures; `waiting` says so to the user.
    ///
    /// What they share is the machine, so it is a name that all copies of the project on it know, and one that the kernel takes back
    /// whatever happens: that of a socket without a file.
    pub fn on_this_machine(waiting: impl FnOnce()) -> io::Result<Self> {
        Self::named("sealift-bench", waiting)
    }

    fn named(name: &str, waiting: impl FnOnce()) -> io::Result<Self> {
        let name = SocketAddr::from_abstract_name(name)?;
        let mut waiting = Some(waiting);
        loop {
            match UnixListener::bind_addr(&name) {
                Ok(name) => return Ok(Self { _name: name }),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                    if let Some(waiting) = waiting.take() {
                        waiting();
                    }
                    thread::sleep(LOOK);
                }
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_bench_waits_until_the_first_is_done() {
        // Not the benches' own name: one may be measuring.
        let name = format!("sealift-bench-test-{}", std::process::id());
        let first = Alone::named(&name, || ()).unwrap();
        let (told, waits) = std::sync::mpsc::channel();
        let second =
            thread::spawn(move || Alone::named(&name, || told.send(()).unwrap()).map(drop));
        waits.recv().unwrap();
        assert!(!second.is_finished());
        drop(first);
        second.join().unwrap().unwrap();
    }
}
