//! What goes where, and what happens when it cannot.

use std::io::{self, Write};

use super::{Written, event, everything, report};
use crate::event::What;
use crate::outcome::{Ending, Fault, Kind};
use crate::reporter::face::{Face, Show, Stdout};
use crate::reporter::json::Json;
use crate::reporter::plain::Plain;
use crate::reporter::sink::Sink;
use crate::reporter::terminal::Terminal;

/// An output that fails.
struct Failing(io::ErrorKind);

impl Write for Failing {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(self.0.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn the_face_follows_what_was_asked_for_and_where_it_goes() {
    for (json, terminal, face) in [
        (false, true, Face::Terminal(Stdout::Free)),
        (false, false, Face::Plain(Stdout::Free)),
        (true, true, Face::Json(Stdout::Free)),
        (true, false, Face::Json(Stdout::Free)),
    ] {
        assert_eq!(Face::choose(json, terminal, Stdout::Free), face);
    }
}

#[test]
fn with_the_stream_on_standard_output_all_goes_to_standard_error() {
    let err = Written::default();
    let report = || event(What::Report(Box::new(report())));
    let faces: [Box<dyn Show>; 3] = [
        Box::new(Json::new(None, err.sink())),
        Box::new(Plain::new(None, err.sink(), false)),
        Box::new(Terminal::new(None, err.sink(), false)),
    ];
    for mut face in faces {
        face.show(&report());
        assert!(err.take().contains("host-b"));
    }
}

#[test]
fn a_failure_is_told_to_machines_and_to_whoever_sits_there() {
    let failed = || {
        let ending = Ending::new(Kind::StillAtSource, "the link was cut").fault(Fault::Network);
        event(What::Outcome(ending))
    };
    let (out, err) = (Written::default(), Written::default());
    Json::new(Some(out.sink()), err.sink()).show(&failed());
    assert_eq!(out.json()["outcome"], "still_at_source");
    assert!(err.take().starts_with("sealift: the link was cut\n"));

    // Where standard error is what machines read, nothing else stands in it.
    Json::new(None, err.sink()).show(&failed());
    assert_eq!(err.json()["code"], 5);
}

#[test]
fn a_closed_pipe_ends_an_output_quietly() {
    let err = Written::default();
    let closed = || Sink::new(Failing(io::ErrorKind::BrokenPipe));
    let mut faces: [Box<dyn Show>; 3] = [
        Box::new(Json::new(Some(closed()), err.sink())),
        Box::new(Plain::new(Some(closed()), closed(), true)),
        Box::new(Terminal::new(Some(closed()), closed(), true)),
    ];
    for face in &mut faces {
        for what in everything() {
            face.show(&event(what));
        }
    }
    assert_eq!(err.take(), "");
}

#[test]
fn an_output_that_fails_says_so_once_and_results_go_elsewhere() {
    let full = || Some(Sink::new(Failing(io::ErrorKind::StorageFull)));
    let err = Written::default();
    let mut json = Json::new(full(), err.sink());
    for what in everything() {
        json.show(&event(what));
    }
    let text = err.take();
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.starts_with("sealift: events are lost, standard output failed: "));

    let mut plain = Plain::new(full(), err.sink(), false);
    plain.show(&event(What::Report(Box::new(report()))));
    assert_eq!(err.take(), format!("{}\n", report()));
}
