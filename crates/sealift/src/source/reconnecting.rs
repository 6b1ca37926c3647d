//! A guest on its way whose connections broke: what it does without them, and with those that take their place.

use std::io;
use std::time::Duration;

use sealift_session::control::{ErrorKind, Failure, Fault};
use sealift_session::handoff::source::{self as handoff, Event};
use tokio::time::timeout;

use super::carry::{Carry, Going};
use super::way_back::{Back, Has};
use crate::ending::{failure, failure_of};
use crate::tie;

/// How long a session that has ended well tries to tell the receiver so, over a link that is gone.
const LAST_WORD: Duration = Duration::from_secs(10);

impl Carry {
    /// The guest stands still, nothing is decided, and the receiver has been gone for too long for that.
    pub(super) fn gives_up(&mut self, going: &Going) -> Option<Event> {
        use handoff::Stage as At;
        let undecided = matches!(
            self.handoff.stage(),
            At::Stopped | At::Drained | At::Intending
        );
        let stopped = going.stopped.filter(|_| undecided && self.line.is_down())?;
        self.line.gives_up(stopped).map(Event::Lost)
    }

    /// A connection is gone: then all are, and this end comes back. The event is that it cannot.
    pub(super) fn broke(&mut self, why: Failure) -> Option<Event> {
        if !tie::is_of_the_link(&why) {
            return Some(Event::Lost(self.line.lost(&why)));
        }
        if self.line.is_down() {
            return None;
        }
        let has = Has {
            heard: self.tie.has_heard(),
            lowest: self.outbound.lowest_unacknowledged(),
        };
        if self.handoff.stage() == handoff::Stage::Over || !self.line.broke(&why, has) {
            return Some(Event::Lost(why));
        }
        self.tie.cut();
        self.outbound.interrupt();
        self.story.interrupted(&why);
        None
    }

    /// A lane is gone.
    pub(super) fn lane_broke(&mut self, lane: u8, error: &io::Error) -> Option<Event> {
        let why = format!("lane {lane} broke: {error}");
        match self.broke(failure(ErrorKind::Timeout, Fault::Network, &why)) {
            // The control channel stands: the receiver is told.
            Some(Event::Lost(why)) => Some(Event::Failed(why)),
            other => other,
        }
    }

    /// This end has come back to the receiver.
    pub(super) fn back(&mut self, going: &mut Going, back: Back) -> Option<Event> {
        let Back {
            sender,
            receiver,
            keys,
            lanes,
            theirs,
            peer,
        } = back;
        if theirs.lowest < self.outbound.lowest_unacknowledged() {
            let why = failure(
                ErrorKind::Protocol,
                Fault::Receiver,
                "the receiver has not seen what it has acknowledged: it is not the same any more",
            );
            return Some(Event::Lost(self.line.lost(&why)));
        }
        let resumed = self
            .outbound
            .resume(keys, lanes, |number| theirs.has_seen(number));
        let again = match resumed {
            Ok(again) => again,
            Err(error) => {
                let why = failure_of(ErrorKind::Internal, Fault::Source, &error);
                return Some(Event::Lost(self.line.lost(&why)));
            }
        };
        self.pace.reconnected();
        let after = self.line.up();
        if let Some(armed) = &mut going.deadline {
            armed.later(after);
        }
        self.story.reconnected(after, again, &peer);
        let tied = self.tie.tie_on(sender, receiver, theirs.heard);
        tied.err().and_then(|why| self.broke(why))
    }

    /// The guest is the receiver's, which waits to hear that this end knows: if there is no connection, for a while another one is tried for.
    pub(super) async fn say_last_word(&mut self) {
        if self.line.is_down()
            && let Ok(Ok(back)) = timeout(LAST_WORD, self.line.back()).await
        {
            // What is lost of it now only costs the receiver its patience.
            let _ = self
                .tie
                .tie_on(back.sender, back.receiver, back.theirs.heard);
        }
    }
}
