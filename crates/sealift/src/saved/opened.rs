//! A saved guest's file that this host may open, and that is whole.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use sealift::figures;
use sealift::outcome::{Ending, Fault, Kind};
use sealift_identity::{Pki, PkiError};
use sealift_net::inbound::{Lane, Way};
use sealift_pages::Layout;
use sealift_seal::{Keyed, Ledger, Receiver, RecipientKey, Sealer, SessionId};
use sealift_session::saved::{END_EPOCH, END_LANE, End, GUEST_LANE, Header, PREAMBLE};

use crate::ending;

/// What its end takes, sealed.
const END: usize = Sealer::OVERHEAD + End::LENGTH;

/// It, ready to be read.
pub(crate) struct Opened {
    pub(crate) header: Header,
    pub(crate) end: End,
    pub(crate) layout: Layout,
    pub(crate) keys: Keyed<Receiver>,
    pub(crate) lane: Lane,
}

/// This host's key cannot be used.
enum NoKey {
    Pki(PkiError),
    Seal(sealift_seal::Error),
}

impl From<sealift_seal::Error> for NoKey {
    fn from(error: sealift_seal::Error) -> Self {
        Self::Seal(error)
    }
}

impl Opened {
    /// Opens a file. Its end is looked at first, so that one that was cut off is refused before anything of it is used.
    pub(crate) fn open(path: &Path, pki: &Pki) -> Result<Self, Ending> {
        let unreadable =
            |error: &io::Error| refused(path, &format_args!("cannot be read: {error}"));
        let mut file = File::open(path).map_err(|error| unreadable(&error))?;
        let length = file.metadata().map_err(|error| unreadable(&error))?.len();
        let beginning = beginning(path, &mut file, length)?;
        let header = Header::decode(beginning.get(PREAMBLE..).unwrap_or_default())
            .map_err(|why| refused(path, &format_args!("cannot be opened: {why}")))?;

        let key = RecipientKey::fill(|scalar| pki.scalar(scalar).map_err(NoKey::Pki));
        let key = key.map_err(|why| match why {
            NoKey::Pki(error) => ending::of_pki(&error).in_file(),
            NoKey::Seal(error) => Ending::because(Kind::Host, &error).fault(Fault::ThisHost),
        })?;
        if *key.share() != header.recipient.key {
            return Err(for_another(path, &header, pki));
        }
        let mut keys = key
            .derive(
                &header.share,
                &header.salt,
                SessionId(header.id.0),
                &beginning,
            )
            .map_err(|error| refused(path, &format_args!("cannot be opened: {error}")))?;
        let begins = beginning.len() as u64;
        let end = end(path, &mut file, begins, length, &mut keys)?;
        let layout = header
            .layout()
            .map_err(|error| refused(path, &format_args!("cannot be opened: {error}")))?;
        file.seek(SeekFrom::Start(begins))
            .map_err(|error| unreadable(&error))?;
        let opener = keys
            .opener(GUEST_LANE, END_EPOCH + 1)
            .map_err(|error| Ending::because(Kind::Host, &error).fault(Fault::ThisHost))?;
        Ok(Self {
            lane: Lane {
                way: Way::File(file.take(end.at.saturating_sub(begins))),
                opener,
            },
            header,
            end,
            layout,
            keys,
        })
    }
}

/// Preamble and header, whose length is checked before memory is taken for it.
fn beginning(path: &Path, file: &mut File, length: u64) -> Result<Vec<u8>, Ending> {
    let mut preamble = [0; PREAMBLE];
    if length < PREAMBLE as u64 {
        let why = "is too short to be a guest that sealift has saved";
        return Err(refused(path, &why));
    }
    let read = |file: &mut File, bytes: &mut [u8]| {
        file.read_exact(bytes)
            .map_err(|error| refused(path, &format_args!("cannot be read: {error}")))
    };
    read(file, &mut preamble)?;
    let header = Header::length(&preamble)
        .map_err(|why| refused(path, &format_args!("cannot be opened: {why}")))?;
    let whole = PREAMBLE + header;
    if length < (whole + END) as u64 {
        return Err(cut_off(path));
    }
    let mut beginning = preamble.to_vec();
    beginning.resize(whole, 0);
    read(file, beginning.get_mut(PREAMBLE..).unwrap_or_default())?;
    Ok(beginning)
}

/// The file's last word. That it opens proves the header as well.
fn end(
    path: &Path,
    file: &mut File,
    begins: u64,
    length: u64,
    keys: &mut Keyed<Receiver>,
) -> Result<End, Ending> {
    // Checked with the header: there is room for it.
    let at = length.saturating_sub(END as u64);
    let mut sealed = [0; END];
    file.seek(SeekFrom::Start(at))
        .and_then(|_| file.read_exact(&mut sealed))
        .map_err(|error| refused(path, &format_args!("cannot be read: {error}")))?;
    let mut open = || {
        let mut opener = keys.opener(END_LANE, END_EPOCH).ok()?;
        let (header, body) = sealed.split_first_chunk_mut()?;
        let checked = opener.check(header).ok()?;
        let body = opener
            .open(checked, body)
            .and_then(|opened| opened.accept(&mut Ledger::new()))
            .ok()?;
        End::decode(body).ok()
    };
    match open() {
        Some(end) if end.at == at && at >= begins => Ok(end),
        _ => Err(cut_off(path)),
    }
}

fn refused(path: &Path, why: &dyn Display) -> Ending {
    Ending::new(Kind::Host, format!("{} {why}", path.display()))
        .fault(Fault::ThisHost)
        .in_file()
}

fn cut_off(path: &Path) -> Ending {
    refused(
        path,
        &"is cut off, or was altered: its end is not what was sealed there. Nothing of it was used",
    )
    .advice("copy it anew from where it was saved")
}

fn for_another(path: &Path, header: &Header, pki: &Pki) -> Ending {
    let name = header.recipient.name.as_ref();
    let name = name.map_or("a host without a name", |name| name.as_str());
    let fingerprint = figures::hex(&header.recipient.certificate);
    let message = format!(
        "{} is sealed for {name} (certificate {fingerprint}), and this host's key is another",
        path.display()
    );
    Ending::new(Kind::Authentication, message)
        .fault(Fault::User)
        .advice(format!(
            "restore it on {name}, or save it anew with --recipient {} of this host",
            pki.certificate_file().display()
        ))
        .in_file()
}
