//! What must be heard, exactly once and in its order, however often connections break.
//!
//! ```text
//!  this end      say ─▶ kept ══ connection ══▶ heard + 1                 the other end
//!                        │ ◀── Ping, Resume: heard ──┘
//!                        └─ again(heard) on the next connection
//! ```
//!
//! A connection is ordered and loses nothing while it lasts; of what was said last before it broke nobody knows how much arrived. So each
//! end counts what it hears, and the other keeps what may not have been heard. Nothing here carries a number: the order is the number.

use alloc::collections::VecDeque;
use core::fmt;

use crate::control::{Frame, Message};

/// Bytes of messages that are kept at the most: the return path of a QEMU that asks for pages for as long as a broken link is waited for.
const KEPT_MAX: usize = 4 << 20;
/// And so many messages: fewer than a connection takes at once, since all of them go over the next one before anything else.
const KEPT_MESSAGES_MAX: usize = 768;

/// One end's side of it.
#[derive(Debug, Default)]
pub struct Correspondence {
    /// What was said and may not have been heard, oldest first.
    kept: VecDeque<Frame>,
    bytes: usize,
    /// How many of what this end has said were heard for certain.
    settled: u64,
    /// How many this end has heard.
    heard: u64,
}

impl Correspondence {
    /// Nothing was said.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// This end says something: what is to be sent, if there is a connection. What [must be heard](Message::must_be_heard) is kept.
    ///
    /// # Errors
    /// [`Unheard::TooMuch`].
    pub fn say(&mut self, message: Message) -> Result<Frame, Unheard> {
        let must_be_heard = message.must_be_heard();
        let frame = Frame::of(message);
        if must_be_heard {
            let bytes = self.bytes + frame.as_bytes().len();
            if bytes > KEPT_MAX || self.kept.len() >= KEPT_MESSAGES_MAX {
                return Err(Unheard::TooMuch);
            }
            self.bytes = bytes;
            self.kept.push_back(frame.clone());
        }
        Ok(frame)
    }

    /// This end has heard something.
    pub fn hear(&mut self, message: &Message) {
        self.heard += u64::from(message.must_be_heard());
    }

    /// How many it has heard: what the other end is told.
    #[must_use]
    pub const fn heard(&self) -> u64 {
        self.heard
    }

    /// The other end has heard so many.
    ///
    /// # Errors
    /// [`Unheard::NeverSaid`], when they are more than were said. Fewer than before says nothing: pings are overtaken by nothing, but a
    /// connection that was given up may still be read.
    pub fn was_heard(&mut self, heard: u64) -> Result<(), Unheard> {
        let said = self.settled + self.kept.len() as u64;
        if heard > said {
            return Err(Unheard::NeverSaid { heard, said });
        }
        while self.settled < heard
            && let Some(frame) = self.kept.pop_front()
        {
            self.bytes -= frame.as_bytes().len();
            self.settled += 1;
        }
        Ok(())
    }

    /// What is to be said on a new connection, to an end that has heard so many.
    ///
    /// # Errors
    /// [`Unheard::NeverSaid`]; [`Unheard::Forgotten`], when it has heard fewer than it once said it had: it is not who it was.
    pub fn again(&mut self, heard: u64) -> Result<impl Iterator<Item = Frame> + '_, Unheard> {
        self.was_heard(heard)?;
        if heard < self.settled {
            return Err(Unheard::Forgotten {
                heard,
                before: self.settled,
            });
        }
        Ok(self.kept.iter().cloned())
    }
}

/// The ends do not agree on what was heard.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unheard {
    /// More waits to be heard than this end keeps.
    TooMuch,
    /// The peer has heard more than was said.
    NeverSaid {
        /// What it says it has heard.
        heard: u64,
        /// What was said.
        said: u64,
    },
    /// The peer has heard less than it had.
    Forgotten {
        /// What it says it has heard.
        heard: u64,
        /// What it had said before.
        before: u64,
    },
}

impl fmt::Display for Unheard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMuch => write!(
                f,
                "more than {} MiB or {KEPT_MESSAGES_MAX} of messages wait for the peer to hear them",
                KEPT_MAX >> 20
            ),
            Self::NeverSaid { heard, said } => write!(
                f,
                "the peer claims to have heard {heard} messages, and {said} were sent"
            ),
            Self::Forgotten { heard, before } => write!(
                f,
                "the peer claims to have heard {heard} messages, and had heard {before} before: it is not the same any more"
            ),
        }
    }
}

impl core::error::Error for Unheard {}
