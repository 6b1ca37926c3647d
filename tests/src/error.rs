//! Errors of the lab: read by people, never matched on.

use std::fmt;

/// What went wrong, from the outermost step to the innermost.
#[derive(Debug)]
pub struct Error(String);

impl Error {
    /// An error that says this.
    pub fn new(what: impl fmt::Display) -> Self {
        Self(what.to_string())
    }

    fn with_sources(error: &dyn std::error::Error) -> Self {
        let mut text = error.to_string();
        let mut next = error.source();
        while let Some(source) = next {
            text = format!("{text}: {source}");
            next = source.source();
        }
        Self(text)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

impl From<sealift_qemu::Error> for Error {
    fn from(error: sealift_qemu::Error) -> Self {
        Self::with_sources(&error)
    }
}

impl From<sealift_qemu::ChannelError> for Error {
    fn from(error: sealift_qemu::ChannelError) -> Self {
        Self::with_sources(&error)
    }
}

/// Says during what an error came.
pub trait Context<T> {
    /// Puts `what` before the error's own words.
    fn context(self, what: impl fmt::Display) -> Result<T, Error>;
}

impl<T, E: fmt::Display> Context<T> for Result<T, E> {
    fn context(self, what: impl fmt::Display) -> Result<T, Error> {
        self.map_err(|error| Error(format!("{what}: {error}")))
    }
}
