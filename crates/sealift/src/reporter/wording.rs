//! Events in words, the same on a terminal and in a log.

use std::fmt::Write as _;

use crate::event::{Progress, What};
use crate::figures::{Shown, grouped, rate, ratio, size, span};

/// What is shown of an event, one line or several.
pub(super) enum Line {
    /// Something on the way.
    Note(String),
    /// What the command was run for.
    Result(String),
}

/// An event in words; nothing for what is too small to be told unless `verbose`.
pub(super) fn line(what: &What, verbose: bool) -> Option<Line> {
    let text = match what {
        What::Listening { address } => format!("waiting at {}", Shown(address)),
        What::Connected { peer, tls } => format!("connected to {peer}, {}", Shown(tls)),
        What::Admitted(admitted) => {
            let memory = size(admitted.memory_bytes);
            let (guest, lanes, suite) = (&admitted.guest, admitted.lanes, admitted.suite);
            let mut text =
                format!("admitted: {guest}; {memory} of memory, at most {lanes} lanes, {suite}");
            if verbose {
                let (access, reason) = (admitted.access.name(), Shown(&admitted.access_reason));
                append(&mut text, format_args!("; access: {access}, {reason}"));
            }
            text
        }
        What::Access(block) => format!(
            "RAM block {}: {}, {}",
            Shown(&block.block),
            block.access.name(),
            Shown(&block.access_reason)
        ),
        What::Stage { stage } => format!("{:<14} {}", stage.name(), stage.meaning()),
        What::Round(round) if verbose => {
            let (pages, zero) = (grouped(round.pages), grouped(round.zero_pages));
            let mut text = format!("round {}: {pages} pages, {zero} of them zero", round.round);
            if let Some(dirty) = round.dirty_bytes_per_s {
                append(
                    &mut text,
                    format_args!("; the guest changes {}", rate(dirty)),
                );
            }
            text
        }
        What::Round(_) | What::Progress(_) => return None,
        What::Warning { message } => format!("warning: {}", Shown(message)),
        What::Interrupted { message } => {
            format!("interrupted: {}", Shown(message))
        }
        What::Resumed(resumed) => {
            let (after, address) = (span(resumed.after), Shown(&resumed.address));
            let mut text = format!("resumed after {after}, with {address}");
            if let Some(again) = resumed.batches_again {
                append(
                    &mut text,
                    format_args!("; {} batches go again", grouped(again)),
                );
            }
            text
        }
        What::Blackout(blackout) => format!("the guest stood still for {blackout}"),
        What::Verification(verification) => format!("verified: {verification}"),
        What::Report(report) => return Some(Line::Result(report.to_string())),
        What::Outcome(ending) => ending.to_string(),
    };
    Some(Line::Note(text))
}

/// Progress in one line.
pub(super) fn progress(figures: &Progress) -> String {
    let parts = [Some(rates(figures)), forecast(figures), left(figures)];
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    format!("{}: {}", place(figures), parts.join("; "))
}

/// How far it has come.
pub(super) fn place(figures: &Progress) -> String {
    format!("{}, round {}", figures.stage.name(), figures.round)
}

/// What the link takes, and what that stands for.
pub(super) fn rates(figures: &Progress) -> String {
    let wire = rate(figures.wire_bytes_per_s);
    let raw = rate(figures.raw_bytes_per_s);
    let ratio = ratio(figures.traffic.raw_bytes, figures.traffic.wire_bytes);
    let ratio = ratio.map_or_else(String::new, |ratio| format!(" ({ratio} so far)"));
    let flight = size(figures.in_flight_bytes);
    format!("{wire} on the wire, {raw} before compression{ratio}, {flight} in flight")
}

/// What the guest does, and what that will mean for it.
pub(super) fn forecast(figures: &Progress) -> Option<String> {
    let dirty = figures.dirty_bytes_per_s;
    let dirty = dirty.map(|dirty| format!("the guest changes {}", rate(dirty)));
    let blackout = figures.predicted_blackout;
    let blackout = blackout.map(|time| format!("would stand still for {}", span(time)));
    both(dirty, blackout)
}

/// What is left, as far as is known.
pub(super) fn left(figures: &Progress) -> Option<String> {
    let remaining = figures.remaining_bytes;
    let remaining = remaining.map(|bytes| format!("{} left", size(bytes)));
    let end = figures.predicted_end;
    let end = end.map(|time| format!("ends in {}", span(time)));
    both(remaining, end)
}

fn both(first: Option<String>, second: Option<String>) -> Option<String> {
    match (first, second) {
        (Some(first), Some(second)) => Some(format!("{first}, {second}")),
        (first, second) => first.or(second),
    }
}

fn append(text: &mut String, more: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _ = text.write_fmt(more);
}
