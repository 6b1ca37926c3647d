//! A saved guest's file, from its header to its end.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use sealift::outcome::{Ending, Fault, Kind};
use sealift_identity::Recipient;
use sealift_net::outbound::{Lane, Way};
use sealift_pages::{Algorithm, Codec, Layout, PageSize};
use sealift_seal::{Keyed, Sealer, Source};
use sealift_session::control::{Admission, Distinct, SessionId, Text};
use sealift_session::saved::{self, END_LANE, End, GUEST_LANE, Header};

use super::Unfinished;
use crate::random;

/// Contents that records may refer back to, as between two hosts.
const SLOTS: u64 = 64 << 20;

/// A file that is being written.
#[derive(Debug)]
pub(crate) struct Saving {
    file: Unfinished,
    /// Bytes in front of the first batch.
    begins: u64,
    /// Seals the end.
    end: Sealer,
}

/// What carries the guest into a file that has begun.
pub(crate) struct Begun {
    pub(crate) saving: Saving,
    pub(crate) layout: Layout,
    pub(crate) keys: Keyed<Source>,
    pub(crate) lane: Lane,
}

impl Saving {
    /// Begins a file for this recipient and this guest.
    pub(crate) fn begin(
        path: &Path,
        id: SessionId,
        recipient: &Recipient,
        guest: Admission,
        page_size: PageSize,
    ) -> Result<Begun, Ending> {
        let host = |error: &(dyn std::error::Error + 'static)| {
            Ending::because(Kind::StillAtSource, error).fault(Fault::ThisHost)
        };
        let exchange = sealift_seal::Saving::for_recipient(recipient.key(), crate::source::seed()?)
            .map_err(|error| host(&error))?;
        let salt = random::array().map_err(|error| host(&error))?;
        let names = &recipient.certificate().names;
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let header = Header {
            id,
            recipient: saved::Recipient {
                key: *recipient.key(),
                certificate: recipient.certificate().digest(),
                name: names.first().and_then(|name| Text::cut(&name.to_string())),
            },
            share: *exchange.share(),
            salt,
            digest: Algorithm::Blake3,
            codecs: Distinct::new("Header.codecs", vec![Codec::Zstd.to_wire()])
                .map_err(|error| host(&error))?,
            slots: SLOTS,
            page_size,
            guest,
            software: Text::cut(crate::SOFTWARE),
            saved_ns: u64::try_from(since.unwrap_or_default().as_nanos()).unwrap_or(u64::MAX),
        };
        let layout = header.layout().map_err(|error| host(&error))?;
        let beginning = header.encode();
        let mut keys = exchange
            .derive(&salt, sealift_seal::SessionId(id.0), &beginning)
            .map_err(|error| host(&error))?;
        // The first epoch of all, so that the end is found without knowing how many there were.
        let end = keys.sealer(END_LANE).map_err(|error| host(&error))?;
        let sealer = keys.sealer(GUEST_LANE).map_err(|error| host(&error))?;
        let file = Unfinished::create(path).map_err(|error| not_written(path, &error))?;
        let begun = file
            .file()
            .write_all(&beginning)
            .and_then(|()| file.file().try_clone());
        let way = begun.map_err(|error| not_written(path, &error))?;
        Ok(Begun {
            saving: Self {
                file,
                begins: beginning.len() as u64,
                end,
            },
            layout,
            keys,
            lane: Lane {
                way: Way::File(way),
                sealer,
            },
        })
    }

    /// Ends it: the guest's lane has written so many bytes, and nothing more comes from there. Returns when the file is on the disk under
    /// its name.
    pub(crate) fn finish(self, written: u64, end: End) -> Result<(), io::Error> {
        let Self {
            file,
            begins,
            end: mut sealer,
            ..
        } = self;
        let end = End {
            at: begins.saturating_add(written),
            ..end
        };
        let mut sealed = vec![0; Sealer::OVERHEAD + End::LENGTH];
        if let Some(body) = sealed
            .get_mut(sealift_seal::Header::LENGTH..)
            .and_then(|rest| rest.get_mut(..End::LENGTH))
        {
            body.copy_from_slice(&end.encode());
        }
        sealer.seal(0, &mut sealed).map_err(io::Error::other)?;
        file.file().write_all(&sealed)?;
        file.keep()
    }
}

/// Takes a file back that was finished, because the guest runs on.
pub(crate) fn take_back(path: &Path) {
    // If it cannot be removed the ending says that it must be.
    let _ = fs::remove_file(path);
}

/// A file that cannot be written, and what to do.
pub(crate) fn not_written(path: &Path, error: &io::Error) -> Ending {
    let file = path.display();
    let (message, fault, advice) = match error.kind() {
        io::ErrorKind::AlreadyExists => (
            format!("{file} exists, and a saved guest never replaces a file"),
            Fault::User,
            "name another, or remove it".to_owned(),
        ),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => (
            format!("the disk of {file} is full: nothing was kept of the file"),
            Fault::ThisHost,
            "make room there, or save to another disk; the file takes up to as much as the guest's memory".to_owned(),
        ),
        _ => (
            format!("{file} cannot be written: {error}"),
            Fault::ThisHost,
            "see that the directory is there and that this user may write to it".to_owned(),
        ),
    };
    Ending::new(Kind::StillAtSource, message)
        .fault(fault)
        .advice(advice)
}
