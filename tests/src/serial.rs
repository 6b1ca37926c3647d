//! What a guest says on its serial port, read from the file that QEMU writes.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::{Context, Error};

/// How often the file is looked at; QEMU gives no notice.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A guest's serial output.
#[derive(Debug)]
pub struct Serial {
    path: PathBuf,
}

/// How a guest is doing, as of its newest whole line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The newest `tick`; 0 before the first.
    pub tick: u32,
    /// Pages found wrong.
    pub bad: u32,
}

impl Serial {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Everything said so far.
    pub fn text(&self) -> Result<String, Error> {
        let bytes = fs::read(&self.path).context(format!("cannot read {}", self.path.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// How far the guest is; an error as soon as it has found a bad page.
    pub fn progress(&self) -> Result<Progress, Error> {
        let text = self.text()?;
        if let Some(line) = text.lines().find(|line| line.contains("BAD")) {
            return Err(Error::new(format!(
                "the guest found its memory damaged: `{line}`"
            )));
        }
        let progress = newest(&text);
        if progress.bad != 0 {
            return Err(Error::new(format!(
                "the guest found {} of its pages damaged",
                progress.bad
            )));
        }
        Ok(progress)
    }

    /// Waits until the guest has come to `tick`. `alive` is asked all the while and ends the wait with its error.
    pub fn wait_tick(
        &self,
        tick: u32,
        timeout: Duration,
        mut alive: impl FnMut() -> Result<(), Error>,
    ) -> Result<Progress, Error> {
        let deadline = Instant::now() + timeout;
        loop {
            let progress = self.progress()?;
            if progress.tick >= tick {
                return Ok(progress);
            }
            alive()?;
            if Instant::now() >= deadline {
                let text = self.text()?;
                return Err(Error::new(format!(
                    "the guest did not come to tick {tick} within {timeout:?}; it said:\n{}",
                    text.lines().rev().take(5).collect::<Vec<_>>().join("\n")
                )));
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

/// The newest whole `tick N pages P bad B`, whatever else the line says. After a migration the first line may lack its beginning.
fn newest(text: &str) -> Progress {
    let whole = text
        .rfind('\n')
        .and_then(|end| text.get(..end))
        .unwrap_or_default();
    whole.lines().rev().find_map(parse).unwrap_or_default()
}

fn parse(line: &str) -> Option<Progress> {
    let words: Vec<_> = line.split_whitespace().collect();
    match words.as_slice() {
        ["tick", tick, "pages", _, "bad", bad, ..] => Some(Progress {
            tick: tick.parse().ok()?,
            bad: bad.parse().ok()?,
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_whole_line_counts() {
        assert_eq!(newest(""), Progress::default());
        assert_eq!(
            newest("counter ready pages 256\ntick 1 pages 25"),
            Progress::default()
        );
        assert_eq!(
            newest("k 7 pages 256 bad 0\ntick 8 pages 256 bad 2\ntick 9 pages"),
            Progress { tick: 8, bad: 2 }
        );
    }
}
