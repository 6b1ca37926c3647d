//! QEMU's channels as it opens them: the first is a guest's main one, and those that follow are multifd's.
//!
//! ```text
//!  accept ─▶ [waiting] ─┬─ nothing under way ─▶ the next guest's main channel
//!                       └─ a guest is ────────▶ [further] ─▶ read beside it
//! ```

use std::future::Future;
use std::thread;
use std::time::Duration;

use sealift::arguments::send::Arguments;
use sealift::event::What;
use sealift::outcome::{Ending, Fault, Kind};
use sealift_qemu::channel::{Channel, Listener};
use tokio::sync::mpsc;

use crate::signals::Signals;
use crate::voice::Voice;

/// How often a thread that waits for QEMU looks whether anybody still waits for it.
const LOOK: Duration = Duration::from_millis(250);
/// Channels that QEMU may have opened and nobody has taken: more than multifd's 255 are not to be had.
const WAITING: usize = 256;
/// QEMU's channels, in the order in which it opens them.
pub(super) struct Channels {
    waiting: mpsc::Receiver<Channel>,
}

impl Channels {
    /// Waits for them where the operator says. `channel` is QEMU's, when it started this program.
    pub(super) fn open(
        arguments: &Arguments,
        channel: Option<Channel>,
        voice: &Voice,
    ) -> Result<Self, Ending> {
        let host = |error: &(dyn std::error::Error + 'static)| {
            Ending::because(Kind::Host, error).fault(Fault::ThisHost)
        };
        let (found, waiting) = mpsc::channel(WAITING);
        match &arguments.listen {
            Some(address) => {
                let listener = Listener::bind(address).map_err(|error| host(&error))?;
                let address = listener.address().to_string();
                thread::Builder::new()
                    .name("accept".to_owned())
                    .spawn(move || accept(&listener, &found))
                    .map_err(|error| host(&error))?;
                voice.tell(What::Listening { address });
            }
            None => {
                if let Some(channel) = channel {
                    let _ = found.try_send(channel);
                }
            }
        }
        Ok(Self { waiting })
    }

    /// The next guest's main channel.
    pub(super) async fn main(&mut self, signals: &mut Signals) -> Result<Channel, Ending> {
        let main = tokio::select! {
            main = self.waiting.recv() => main,
            () = signals.next() => return Err(Ending::stopped()),
        };
        main.ok_or_else(|| {
            Ending::new(Kind::Host, "nothing waits for QEMU any more").fault(Fault::ThisHost)
        })
    }

    /// Does this for a guest, to which everything belongs that is opened meanwhile.
    pub(super) async fn meanwhile<F: Future>(
        &mut self,
        work: impl FnOnce(mpsc::Receiver<Channel>) -> F,
    ) -> F::Output {
        let (further, theirs) = mpsc::channel(WAITING);
        let work = work(theirs);
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                Some(channel) = self.waiting.recv() => {
                    // Beyond what multifd can have: closed.
                    let _ = further.try_send(channel);
                }
            }
        }
    }
}

fn accept(listener: &Listener, found: &mpsc::Sender<Channel>) {
    while !found.is_closed() {
        // An error is one connection's.
        if let Ok(Some(channel)) = listener.accept(Some(LOOK))
            && found.blocking_send(channel).is_err()
        {
            return;
        }
    }
}
