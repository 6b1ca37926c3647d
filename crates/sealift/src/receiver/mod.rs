//! `sealift receive`: waits for sessions, one guest at a time for one waiting QEMU.
//!
//! ```text
//!  Door ─▶ Caller::Control ─▶ allowed? ─▶ arrival: handshake, admission, lanes ─▶ session ─▶ Ending
//!      └─▶ Caller::Lane ────▶ [the session that it names] ─────▲
//! ```

mod admission;
mod arrival;
mod last_byte;
mod qemu_says;
mod relay;
mod session;
mod story;
mod target;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use sealift::arguments::receive::{Allowed, Arguments, Origin};
use sealift::event::{Event, What};
use sealift::outcome::{Ending, Fault, Kind};
use sealift::reporter::Reporter;
use sealift_identity::{AllowList, Pki};
use sealift_net::door::{Caller, Door};
use sealift_net::target::Target as Host;
use sealift_qemu::channel::Channel;
use sealift_session::control::SessionId;
use sealift_session::lane::LaneHello;
use tokio::net::TcpStream;
use tokio::sync::{OwnedMutexGuard, mpsc};
use tokio::task::JoinHandle;

use crate::signals::Signals;
use crate::{ending, journals, lock};
use target::{Endpoint, Target};

/// Callers that may wait to be looked at.
const CALLERS: usize = 64;
/// Lanes that may wait for their session to look at them: more than it opens at once.
const LANES: usize = 32;

/// What all sessions share.
pub(crate) struct Host2 {
    pub(crate) pki: Pki,
    pub(crate) allowed: AllowList,
    pub(crate) target: Arc<Target>,
    /// Held by the session that has the target.
    pub(crate) busy: Arc<tokio::sync::Mutex<()>>,
    pub(crate) journals: PathBuf,
    pub(crate) reporter: Arc<Reporter>,
    pub(crate) rooms: Rooms,
}

/// Where lanes find their session.
#[derive(Debug, Default)]
pub(crate) struct Rooms(Mutex<HashMap<SessionId, mpsc::Sender<Visitor>>>);

/// A connection that wants to be a lane.
pub(crate) type Visitor = (TcpStream, [u8; LaneHello::LENGTH]);
