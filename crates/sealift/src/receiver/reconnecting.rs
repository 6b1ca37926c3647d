//! A guest that arrives and whose source's connections broke: the source is waited for, and let in again.

use std::sync::Arc;

use sealift_session::control::{
    Bytes, ErrorKind, Failure, Fault, Frame, Message, Received, Resume,
};
use sealift_session::handoff::receiver::{self as handoff, Event, Outcome};

use super::comeback::Comeback;
use super::lanes;
use super::line::Back;
use super::session::{Going, Happened, Session};
use crate::ending::{failure, failure_of};
use crate::tie;

impl Session {
    /// A connection is gone: then all are, and the source is waited for. The event is that it is not.
    pub(super) fn broke(&mut self, why: Failure) -> Option<Event> {
        if !tie::is_of_the_link(&why) {
            return Some(Event::Lost(why));
        }
        if self.line.is_down() {
            return None;
        }
        if self.handoff.stage() == handoff::Stage::Over || !self.line.broke(&why) {
            return Some(Event::Lost(why));
        }
        self.tie.cut();
        self.inbound.interrupt();
        self.story.interrupted(&why);
        None
    }

    /// The source is at the door again, and has proven that it is the one: whatever is left of its connections is given up for the new one.
    pub(super) fn comes_back(&mut self, comeback: Comeback) -> Option<Event> {
        if !self.line.is_down() {
            let why = failure(
                ErrorKind::Timeout,
                Fault::Network,
                "the source lost its connections",
            );
            // It is here again already.
            let _ = self.broke(why);
        }
        let Comeback {
            sender,
            receiver,
            keys,
            theirs,
            peer,
        } = comeback;
        let (lowest, seen) = self.inbound.seen();
        let internal = |error: &(dyn std::error::Error + 'static)| {
            Some(Event::Failed(failure_of(
                ErrorKind::Internal,
                Fault::Receiver,
                error,
            )))
        };
        let ours = match Bytes::new("Resume.seen", seen) {
            Ok(seen) => Resume {
                heard: self.tie.has_heard(),
                lowest,
                seen,
            },
            Err(invalid) => return internal(&invalid),
        };
        let tokens = match lanes::tokens(self.choice.lanes) {
            Ok(tokens) => tokens,
            Err(failure) => return Some(Event::Failed(failure)),
        };
        // Whoever came before these tokens has none of them.
        if let Ok(mut visitors) = self.visitors.try_lock() {
            while visitors.try_recv().is_ok() {}
        }
        for message in [Message::Resume(ours), Message::LaneTokens(tokens.clone())] {
            // A connection that is gone again is one that did not come.
            let _ = sender.send(Frame::of(message));
        }
        let (visitors, choice) = (Arc::clone(&self.visitors), self.choice.clone());
        self.line.gather(async move {
            let key = keys
                .lane_hello_key()
                .map_err(|error| failure_of(ErrorKind::Internal, Fault::Receiver, &error))?;
            let mut receiver = receiver;
            let mut visitors = visitors.lock().await;
            let gathered =
                lanes::gather(&mut receiver, &mut visitors, &tokens, &choice, &key).await?;
            Ok(Back {
                sender,
                receiver,
                keys,
                gathered,
                theirs,
                peer,
            })
        });
        None
    }

    /// The source is back.
    pub(super) fn back(&mut self, going: &mut Going, back: Back) -> Option<Outcome> {
        let Back {
            sender,
            receiver,
            mut keys,
            gathered,
            theirs,
            peer,
        } = back;
        let opened = gathered.open(&mut keys).and_then(|(lanes, early)| {
            let resumed = self.inbound.resume(keys, lanes);
            resumed.map_err(|error| failure_of(ErrorKind::Resources, Fault::Receiver, &error))?;
            Ok(early)
        });
        let early = match opened {
            Ok(early) => early,
            Err(why) => {
                let actions = self.handoff.handle(Event::Failed(why));
                return self.act(going, actions);
            }
        };
        let after = self.line.up();
        if let Some(armed) = &mut going.deadline {
            armed.later(after);
        }
        if let Err(why) = self.tie.tie_on(sender, receiver, theirs.heard) {
            // Gone again, or not the source that it was.
            let event = self.broke(why)?;
            let actions = self.handoff.handle(event);
            return self.act(going, actions);
        }
        self.story.reconnected(after, &peer);
        // Of what was acknowledged last nobody knows whether it was heard.
        self.placed.tell_again(theirs.lowest);
        if let Some(event) = self.acknowledge() {
            let actions = self.handoff.handle(event);
            return self.act(going, actions);
        }
        self.said(going, early)
    }

    /// What the source said before it was listened to here.
    pub(super) fn said(&mut self, going: &mut Going, early: Vec<Received>) -> Option<Outcome> {
        early.into_iter().find_map(|received| {
            let said = self.tie.take(received);
            self.happened(going, Happened::Said(said))
        })
    }
}
