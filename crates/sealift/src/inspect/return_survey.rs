//! What is noted of a return path while its messages go by.

use sealift_stream::return_path::{Item, Parser};

use super::lines::Lines;
use super::report::{Opaque, ReturnReport};

/// Notes on a return path.
#[derive(Default)]
pub(super) struct ReturnSurvey {
    messages: Lines<String>,
    opaque_bytes: u64,
}

impl ReturnSurvey {
    pub(super) fn item(&mut self, item: &Item<'_>) {
        match item {
            Item::Opaque(bytes) => self.opaque_bytes += bytes.len() as u64,
            Item::Bitmap(_) | Item::BitmapEnd => {}
            message => {
                self.messages.push(name(message));
            }
        }
    }

    pub(super) fn report(self, parser: &Parser) -> ReturnReport {
        ReturnReport {
            bytes: parser.offset(),
            messages: self.messages,
            opaque: Opaque::of(parser.surprise(), self.opaque_bytes),
        }
    }
}

/// A message as it is shown.
fn name(message: &Item<'_>) -> String {
    match message {
        Item::Shut(value) => format!("shut {value}"),
        Item::Pong(value) => format!("pong {value}"),
        Item::RequestPages {
            block: Some(block),
            start,
            len,
        } => format!("request-pages {start:#x} + {len} of {block}"),
        Item::RequestPages {
            block: None,
            start,
            len,
        } => format!("request-pages {start:#x} + {len}"),
        Item::ReceivedBitmap { block, len } => format!("received-bitmap of {block}, {len} bytes"),
        Item::ResumeAck(value) => format!("resume-ack {value}"),
        Item::SwitchoverAck => "switchover-ack".into(),
        Item::Bitmap(_) | Item::BitmapEnd | Item::Opaque(_) => String::new(),
    }
}
