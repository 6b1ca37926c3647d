//! Saved guests. (Being written.)

use std::path::Path;
use std::sync::Arc;

use sealift::arguments::{receive, send};
use sealift::outcome::{Ending, Kind};
use sealift::reporter::Reporter;
use sealift_qemu::channel::Channel;

pub(crate) async fn save(
    _arguments: &send::Arguments,
    _file: &Path,
    _recipient: &Path,
    _channel: Option<Channel>,
    _reporter: Arc<Reporter>,
) -> Ending {
    Ending::new(Kind::Usage, "saving is being written")
}

pub(crate) async fn restore(
    _arguments: &receive::Arguments,
    _file: &Path,
    _channel: Option<Channel>,
    _reporter: Arc<Reporter>,
) -> Ending {
    Ending::new(Kind::Usage, "restoring is being written")
}
