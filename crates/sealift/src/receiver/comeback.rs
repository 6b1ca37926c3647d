//! A source that comes back: its connections broke, and it wants to go on where it was.
//!
//! ```text
//!  arrival ─▶ which session? ─▶ the same identity? ─▶ the same keys as at first ─▶ Resume ─▶ the session
//!                 not here           somebody else          another process
//! ```
//!
//! Until the keys are confirmed nothing of the session is touched: whoever cannot prove that he is the one displaces nobody.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use sealift::event::Peer;
use sealift_net::control::{Receiver as Incoming, Sender};
use sealift_seal::{Keyed, Receiver, Resumption, Suite};
use sealift_session::control::{Resume, SessionId};
use sealift_session::handshake::again::Known;
use sealift_session::lane::LaneHello;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::lock;

/// Lanes that may wait for their session to look at them: more than one has.
const LANES: usize = 32;

/// A connection that wants to be a lane.
pub(super) type Visitor = (TcpStream, [u8; LaneHello::LENGTH]);

/// A source that is back, and has proven that it is the one.
pub(super) struct Comeback {
    pub(super) sender: Sender,
    pub(super) receiver: Incoming,
    pub(super) keys: Keyed<Receiver>,
    /// What it has.
    pub(super) theirs: Resume,
    pub(super) peer: Peer,
}

/// A session that may be taken up again, as it is known at the door.
#[derive(Debug)]
pub(super) struct Kept {
    /// Whom the source's certificate named at first.
    pub(super) identity: String,
    pub(super) suite: Suite,
    pub(super) resumption: Resumption,
    pub(super) comebacks: mpsc::Sender<Comeback>,
}

impl Kept {
    pub(super) const fn known(&self, session: SessionId) -> Known<'_> {
        Known {
            session,
            suite: self.suite,
            resumption: &self.resumption,
        }
    }
}

/// Where lanes, and sources that come back, find their session.
#[derive(Debug, Default)]
pub(super) struct Rooms(Mutex<HashMap<SessionId, Room>>);

#[derive(Debug)]
struct Room {
    visitors: mpsc::Sender<Visitor>,
    kept: Option<Arc<Kept>>,
}

impl Rooms {
    /// A session waits for its lanes. It must [`Self::leave`].
    pub(super) fn enter(&self, session: SessionId) -> mpsc::Receiver<Visitor> {
        let (visitors, arriving) = mpsc::channel(LANES);
        let kept = None;
        lock(&self.0).insert(session, Room { visitors, kept });
        arriving
    }

    /// It may be taken up again.
    pub(super) fn keep(&self, session: SessionId, kept: Kept) {
        if let Some(room) = lock(&self.0).get_mut(&session) {
            room.kept = Some(Arc::new(kept));
        }
    }

    pub(super) fn leave(&self, session: SessionId) {
        lock(&self.0).remove(&session);
    }

    /// A session that may be taken up again.
    pub(super) fn kept(&self, session: SessionId) -> Option<Arc<Kept>> {
        lock(&self.0).get(&session)?.kept.clone()
    }

    /// Brings a connection to the session that it names. One that names none, or comes in a crowd, is closed without a word.
    pub(super) fn visit(&self, visitor: Visitor) {
        if let Ok(hello) = LaneHello::parse(&visitor.1)
            && let Some(room) = lock(&self.0).get(&hello.session())
        {
            let _ = room.visitors.try_send(visitor);
        }
    }
}
