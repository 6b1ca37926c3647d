//! Giving way to the guest.
//!
//! A worker has more than enough time where the link is what limits. It is then as well to let everybody else go first, the guest's processors before all: on a
//! busy host that costs a move next to nothing, and the guest keeps its work ([RESULTS.md](../../../../bench/RESULTS.md)).

use rustix::process::{getpriority_process, setpriority_process};

/// How much nicer a thread becomes: it gets a tenth of what another one gets that wants the same processor.
const NICER: i32 = 10;

/// The manners of one worker's thread.
#[derive(Debug)]
pub(super) struct Manners {
    /// The niceness that it began with; none where it could not come back to it.
    own: Option<i32>,
    gives_way: bool,
}

impl Manners {
    /// Those of the thread that this is called on, and no other's.
    pub(super) fn of_this_thread() -> Self {
        let own = getpriority_process(None).ok();
        // To become less nice again takes a privilege; without it a link that becomes faster would find slow workers for good.
        let comes_back = |&own: &i32| set(own.saturating_add(1)) && set(own);
        Self {
            own: own.filter(comes_back),
            gives_way: false,
        }
    }

    /// Lets others go first from now on, or no longer.
    pub(super) fn give_way(&mut self, gives_way: bool) {
        let Some(own) = self.own.filter(|_| gives_way != self.gives_way) else {
            return;
        };
        if set(if gives_way { own + NICER } else { own }) {
            self.gives_way = gives_way;
        }
    }
}

/// Above its greatest value the kernel takes that.
fn set(niceness: i32) -> bool {
    // No process: of this thread, on Linux.
    setpriority_process(None, niceness).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_gave_way_comes_back_and_others_do_not_notice() {
        let here = getpriority_process(None).unwrap();
        std::thread::spawn(move || {
            let mut manners = Manners::of_this_thread();
            let comes_back = manners.own.is_some();
            let now = || getpriority_process(None).unwrap();
            manners.give_way(true);
            assert_eq!(now() > here + 1, comes_back);
            manners.give_way(false);
            assert!(now() <= here + 1, "{}", now());
            assert_eq!(now() == here, comes_back);
        })
        .join()
        .unwrap();
        assert_eq!(getpriority_process(None).unwrap(), here);
    }
}
