//! How a command ends: what happened, whose fault it is, what to do, where the guest is, and the exit code.
//!
//! ```text
//!  sealift: the receiver refused the guest: 4.00 GiB are needed, 2.10 GiB are free
//!    fault  the peer
//!    to do  make room at the destination, or choose another
//!    guest  still at the source, as it was
//! ```
//!
//! A script reads the exit code; only 6 needs a person before anybody starts the guest again.

use std::error::Error;
use std::fmt::{self, Write as _};
use std::process::ExitCode;

use sealift_session::control::{self, ErrorKind, Failure, RefusalKind, Refused, Role};
use serde::Serialize;

use crate::figures::Shown;

/// How a command ended, by kind.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// It did what it was told.
    Moved,
    /// This host failed, before a guest was touched.
    Host,
    /// It was told something that cannot be.
    Usage,
    /// The peer did not want the guest.
    Refused,
    /// One end is not who it must be, or may not.
    Authentication,
    /// The migration failed.
    StillAtSource,
    /// Nobody here knows who must run the guest.
    InDoubt,
    /// Somebody asked for it to end.
    Cancelled,
}

impl Kind {
    /// Each of them, in the order of their codes.
    pub const ALL: [Self; 8] = [
        Self::Moved,
        Self::Host,
        Self::Usage,
        Self::Refused,
        Self::Authentication,
        Self::StillAtSource,
        Self::InDoubt,
        Self::Cancelled,
    ];

    /// The exit code; these never change. 2 is also what clap ends with.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Moved => 0,
            Self::Host => 1,
            Self::Usage => 2,
            Self::Refused => 3,
            Self::Authentication => 4,
            Self::StillAtSource => 5,
            Self::InDoubt => 6,
            Self::Cancelled => 7,
        }
    }

    /// What the code tells.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Moved => "done; a guest that was to move has moved",
            Self::Host => "this host failed; no guest was touched",
            Self::Usage => "the command line is wrong",
            Self::Refused => "refused by the peer; the guest is still at the source",
            Self::Authentication => "authentication failed; the guest is still at the source",
            Self::StillAtSource => "the migration failed; the guest is still at the source",
            Self::InDoubt => "outcome in doubt: start the guest nowhere before you know",
            Self::Cancelled => "cancelled; the guest is still at the source",
        }
    }

    const fn guest(self) -> Option<Whereabouts> {
        match self {
            Self::Moved => Some(Whereabouts::Destination),
            Self::Host | Self::Usage => None,
            Self::Refused | Self::Authentication | Self::StillAtSource | Self::Cancelled => {
                Some(Whereabouts::Source)
            }
            Self::InDoubt => Some(Whereabouts::Unknown),
        }
    }
}

/// All exit codes, for `sealift --help`.
#[must_use]
pub fn exit_codes() -> String {
    let mut text = String::from("Exit codes:");
    for kind in Kind::ALL {
        // Writing to a string does not fail.
        let _ = write!(text, "\n  {}  {}", kind.code(), kind.meaning());
    }
    text
}

/// Who must do something about it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The host that this runs on.
    ThisHost,
    /// The other end.
    Peer,
    /// What lies between.
    Network,
    /// The guest or its QEMU's set-up.
    Guest,
    /// Whoever gave the order.
    User,
}

impl Fault {
    /// A fault as the control channel names it, seen from one end.
    #[must_use]
    pub const fn seen_by(role: Role, fault: control::Fault) -> Self {
        match (fault, role) {
            (control::Fault::Source, Role::Source) | (control::Fault::Receiver, Role::Receiver) => {
                Self::ThisHost
            }
            (control::Fault::Source, Role::Receiver) | (control::Fault::Receiver, Role::Source) => {
                Self::Peer
            }
            (control::Fault::Network, _) => Self::Network,
            (control::Fault::Guest, _) => Self::Guest,
            (control::Fault::User, _) => Self::User,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ThisHost => "this host",
            Self::Peer => "the peer",
            Self::Network => "the network",
            Self::Guest => "the guest",
            Self::User => "the order that was given",
        })
    }
}

/// Where the guest is now.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Whereabouts {
    Destination,
    Source,
    /// QEMU had finished, and does not run it.
    SourceStopped,
    /// QEMU was not asked whether it runs it.
    SourceUnasked,
    Unknown,
    File,
    InFile,
}

impl fmt::Display for Whereabouts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Destination => "at the destination",
            Self::Source => "still at the source, as it was",
            Self::SourceStopped => "still at the source, stopped: the QMP command cont runs it on",
            Self::SourceUnasked => "still at the source; info status says whether it runs there",
            Self::Unknown => "in doubt: start it nowhere before you know",
            Self::File => "saved; paused at the source",
            Self::InFile => "in the file, as it was saved",
        })
    }
}

/// Who found that something went wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Teller {
    /// This end did.
    Us,
    /// The other end did, and told us.
    Peer,
}

/// How a command ended.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Ending {
    #[serde(rename = "outcome")]
    kind: Kind,
    code: u8,
    message: String,
    fault: Option<Fault>,
    advice: Option<String>,
    #[serde(rename = "guest_at")]
    guest: Option<Whereabouts>,
}

/// An error and all its sources, on one line.
#[must_use]
pub fn whole(error: &(dyn Error + 'static)) -> String {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let _ = write!(message, ": {error}");
        source = error.source();
    }
    message
}

impl Ending {
    /// An ending of this kind, which also says where the guest is. `message` is one sentence.
    #[must_use]
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            code: kind.code(),
            message: message.into(),
            fault: None,
            advice: None,
            guest: kind.guest(),
        }
    }

    /// The same for what an error and all its sources say.
    #[must_use]
    pub fn because(kind: Kind, error: &(dyn Error + 'static)) -> Self {
        Self::new(kind, whole(error))
    }

    /// The command was told to stop, and no guest was on its way.
    #[must_use]
    pub fn stopped() -> Self {
        Self {
            guest: None,
            ..Self::new(Kind::Cancelled, "stopped; no guest was on its way")
        }
    }

    /// The guest was saved to a file.
    #[must_use]
    pub fn saved(message: impl Into<String>) -> Self {
        let guest = Some(Whereabouts::File);
        Self {
            guest,
            ..Self::new(Kind::Moved, message)
        }
    }

    /// The guest is at the source, and QEMU holds it stopped.
    #[must_use]
    pub fn guest_stopped(self) -> Self {
        let guest = Some(Whereabouts::SourceStopped);
        Self { guest, ..self }
    }

    /// The guest is at the source, and nobody could ask QEMU whether it runs.
    #[must_use]
    pub fn guest_unasked(self) -> Self {
        let guest = Some(Whereabouts::SourceUnasked);
        Self { guest, ..self }
    }

    /// It is about a guest in a file, which is still there.
    #[must_use]
    pub fn in_file(self) -> Self {
        let guest = Some(Whereabouts::InFile);
        Self { guest, ..self }
    }

    /// The receiver refused the guest: as the source tells it.
    #[must_use]
    pub fn refused(refused: &Refused) -> Self {
        let message = format!("the receiver refused the guest: {}", {
            refused.explanation.as_str()
        });
        Self::new(Kind::Refused, message).fault(match refused.kind {
            RefusalKind::NotAllowed | RefusalKind::Duplicate => Fault::User,
            RefusalKind::Memory
            | RefusalKind::Destination
            | RefusalKind::Busy
            | RefusalKind::Resume => Fault::Peer,
        })
    }

    /// A failure that ended the session while the guest was certain to stay at the source: as the end with this role tells it.
    #[must_use]
    pub fn failed(role: Role, failure: &Failure, teller: Teller) -> Self {
        let peer = match (teller, role) {
            (Teller::Us, _) => "",
            (Teller::Peer, Role::Source) => "the receiver says: ",
            (Teller::Peer, Role::Receiver) => "the source says: ",
        };
        let kind = match (failure.kind, teller) {
            (ErrorKind::Identity, _) => Kind::Authentication,
            (ErrorKind::Cancelled, _) => Kind::Cancelled,
            (ErrorKind::Incompatible | ErrorKind::Resources, Teller::Peer) => Kind::Refused,
            _ => Kind::StillAtSource,
        };
        Self::new(kind, format!("{peer}{}", failure.message.as_str()))
            .fault(Fault::seen_by(role, failure.fault))
    }

    /// Says whose fault it is.
    #[must_use]
    pub fn fault(self, fault: Fault) -> Self {
        let fault = Some(fault);
        Self { fault, ..self }
    }

    /// Says what to do.
    #[must_use]
    pub fn advice(self, advice: impl Into<String>) -> Self {
        let advice = Some(advice.into());
        Self { advice, ..self }
    }

    /// What happened, on one line: for endings of which only that is told.
    #[must_use]
    pub fn line(&self) -> String {
        Shown(&self.message).to_string()
    }

    /// The guest is certain to be at the source, and to stay there.
    #[must_use]
    pub const fn guest_stays(&self) -> bool {
        !matches!(self.kind, Kind::Moved | Kind::InDoubt)
    }

    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }
}

impl From<&Ending> for ExitCode {
    fn from(ending: &Ending) -> Self {
        ending.code.into()
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.kind {
            Kind::Moved => "",
            _ => "sealift: ",
        };
        write!(f, "{name}{}", Shown(&self.message))?;
        if let Some(fault) = self.fault {
            write!(f, "\n  fault  {fault}")?;
        }
        if let Some(advice) = &self.advice {
            write!(f, "\n  to do  {}", Shown(advice))?;
        }
        if let Some(guest) = self.guest {
            write!(f, "\n  guest  {guest}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
