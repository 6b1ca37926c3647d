//! `sealift export`.

use std::path::PathBuf;

use super::Identity;

/// Open a saved guest.
///
/// Writes the stream of a guest that sealift send --file has saved, as QEMU sent it. What comes out is the guest's memory, with all
/// keys and passwords in it, sealed by nothing: whoever can read the output has them. To run the guest again use
/// sealift receive --file, which needs no such output.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  sealift export --raw web1.sealed | sealift inspect -
  sealift export --raw web1.sealed --output web1.stream")]
pub struct Arguments {
    /// The sealed file, which this host's certificate must be the recipient of.
    pub file: PathBuf,
    /// Write QEMU's own stream, in plaintext: there is no other form, and this says that you know.
    #[arg(long, required = true)]
    raw: bool,
    /// Where to write it, readable by its owner alone [default: standard output].
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Who this host is.
    #[command(flatten)]
    pub identity: Identity,
}
