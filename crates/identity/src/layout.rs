//! Where the files are: QEMU's names and libvirt's.
//!
//! ```text
//!              QEMU's              libvirt's, in one directory   libvirt's, as under /etc/pki
//!  CA          ca-cert.pem         cacert.pem                    CA/cacert.pem
//!  revoked     ca-crl.pem          cacrl.pem                     CA/cacrl.pem
//!  receiver    server-cert.pem     servercert.pem                libvirt/servercert.pem
//!              server-key.pem      serverkey.pem                 libvirt/private/serverkey.pem
//!  source      client-cert.pem     clientcert.pem                libvirt/clientcert.pem
//!              client-key.pem      clientkey.pem                 libvirt/private/clientkey.pem
//! ```
//!
//! The CA's file decides which; the first one found wins.

use std::path::{Path, PathBuf};

use crate::Side;
use crate::error::{PkiError, Problem};

/// The files of one side.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    pub(crate) authority: PathBuf,
    /// May be missing.
    pub(crate) revoked: PathBuf,
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

pub(crate) const QEMU: Names = Names {
    authority: "ca-cert.pem",
    revoked: "ca-crl.pem",
    server: ("server-cert.pem", "server-key.pem"),
    client: ("client-cert.pem", "client-key.pem"),
};

const LIBVIRT: Names = Names {
    authority: "cacert.pem",
    revoked: "cacrl.pem",
    server: ("servercert.pem", "serverkey.pem"),
    client: ("clientcert.pem", "clientkey.pem"),
};

const LIBVIRT_SYSTEM: Names = Names {
    authority: "CA/cacert.pem",
    revoked: "CA/cacrl.pem",
    server: ("libvirt/servercert.pem", "libvirt/private/serverkey.pem"),
    client: ("libvirt/clientcert.pem", "libvirt/private/clientkey.pem"),
};

pub(crate) struct Names {
    pub(crate) authority: &'static str,
    pub(crate) revoked: &'static str,
    /// Certificate and key.
    pub(crate) server: (&'static str, &'static str),
    /// Certificate and key.
    pub(crate) client: (&'static str, &'static str),
}

impl Names {
    fn of(&self, directory: &Path, side: Side) -> Files {
        let (certificate, key) = match side {
            Side::Source => self.client,
            Side::Receiver => self.server,
        };
        Files {
            authority: directory.join(self.authority),
            revoked: directory.join(self.revoked),
            certificate: directory.join(certificate),
            key: directory.join(key),
        }
    }
}

/// The files that `directory` has for `side`.
pub(crate) fn find(directory: &Path, side: Side) -> Result<Files, PkiError> {
    Ok(names_in(directory)?.of(directory, side))
}

/// The names that `directory` uses.
pub(crate) fn names_in(directory: &Path) -> Result<&'static Names, PkiError> {
    let exists = |path: &Path| {
        path.try_exists()
            .map_err(|error| PkiError::new(path, Problem::Unreadable(error)))
    };
    if !exists(directory)? {
        return Err(PkiError::new(directory, Problem::NoDirectory));
    }
    for names in [&QEMU, &LIBVIRT, &LIBVIRT_SYSTEM] {
        if exists(&directory.join(names.authority))? {
            return Ok(names);
        }
    }
    let wanted = directory.join(QEMU.authority);
    Err(PkiError::new(&wanted, Problem::NoAuthority))
}
