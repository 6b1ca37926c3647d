//! The report of a bench: one HTML file that needs nothing but a browser.
//!
//! ```text
//!   what was measured, on what
//!   overview      a line for each row, what was wanted in it and what came of it
//!   for each row  bars: time, blackout, bytes, processor time, work and stall of all that had a turn
//!                 lines over time: what passes, what is left, what the guest rewrites, when it should end
//! ```
//!
//! Lines are of one run each, the one with the median time: means of several would show what never was.

mod bars;
mod lines;

use std::fmt::{self, Write as _};

use super::figures::{Figures, Outcome};
use super::record::{Measured, Record};
use super::table::measured;
use super::transport::Transport;
use super::verdict::{Reference, Verdict, runs};

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

/// The whole page.
#[must_use]
pub fn html(record: &Record) -> String {
    let mut page = String::new();
    let title = format!("sealift against what QEMU has itself, {}", record.date);
    let machine = Text(&record.machine);
    let load = record.load_before.map_or_else(
        || "an unknown load".to_owned(),
        |load| format!("a load of {load} before the first run"),
    );
    let qemu = Text(&record.qemu);
    // Writing to a string cannot fail, here and below.
    let _ = write!(
        page,
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title><style>{STYLE}</style>\
         <main><h1>Moving a guest: sealift against what QEMU has itself</h1>\
         <p class=\"of\">{} UTC · {machine} · QEMU {qemu} · {load}</p>",
        record.date
    );
    overview(&mut page, &record.rows);
    for row in &record.rows {
        section(&mut page, row);
    }
    let _ = write!(page, "</main><script>{SCRIPT}</script></html>");
    page
}

/// Text of whatever origin, as a page may hold it.
struct Text<'a>(&'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|letter| match letter {
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '&' => f.write_str("&amp;"),
            '"' => f.write_str("&quot;"),
            other => f.write_char(other),
        })
    }
}

/// The class that gives a way its colour.
fn class(of: Reference) -> String {
    let calmer = if of.calmer { " calmer" } else { "" };
    format!("{}{calmer}", of.transport.name())
}

/// What can be wanted, in the order of the columns.
const WANTED: [&str; 6] = ["time", "bytes", "blackout", "CPU", "work", "intact"];

fn overview(page: &mut String, rows: &[Measured]) {
    page.push_str("<table class=\"overview\"><thead><tr><th>row<th>held against<th>");
    for what in WANTED {
        let _ = write!(page, "<th class=\"number\">{what}");
    }
    page.push_str("<tbody>");
    for row in rows {
        for transport in [Transport::Sealift, Transport::SealiftStream] {
            let verdicts = || row.verdicts.iter().filter(|one| one.transport == transport);
            if verdicts().next().is_none() {
                continue;
            }
            let against = row.against.as_deref().unwrap_or("nothing that ended");
            let _ = write!(
                page,
                "<tr><td><a href=\"#{0}\">{1}</a><td>{2}<td>{transport}",
                row.name,
                Text(&row.what),
                Text(against)
            );
            for what in WANTED {
                match verdicts().find(|one| one.what == what) {
                    Some(verdict) => cell(page, verdict),
                    None => page.push_str("<td class=\"number any\">any"),
                }
            }
        }
    }
    page.push_str(
        "</table><p class=\"note\">Medians of the rounds' ratios, sealift to the other; work is the guest's own while it moves. Lower is \
         better, but for work. Point at a figure to see what was wanted.</p>",
    );
}

fn cell(page: &mut String, verdict: &Verdict) {
    let class = if verdict.reached { "ok" } else { "missed" };
    let found = match verdict.found {
        Some(found) if found >= 10.0 => format!("{found:.0}"),
        Some(found) => format!("{found:.2}"),
        None if verdict.what == "intact" => verdict.line.replace("intact", "").trim().to_owned(),
        None => "?".to_owned(),
    };
    let line = Text(&verdict.line);
    let _ = write!(
        page,
        "<td class=\"number {class}\" title=\"{line}\">{found}"
    );
}

fn section(page: &mut String, row: &Measured) {
    let _ = write!(
        page,
        "<section id=\"{}\"><h2>{}</h2><div class=\"plots\">",
        row.name,
        Text(&row.what)
    );
    let all: Vec<Reference> = measured(&row.runs).collect();
    for bars in &bars::ALL {
        bars.draw(page, &all, &row.runs);
    }
    page.push_str("</div>");
    let shown = shown_over_time(row, &all);
    if !shown.is_empty() {
        legend(page, &shown);
        page.push_str("<div class=\"plots over-time\">");
        for plot in &lines::ALL {
            plot.draw(page, &shown);
        }
        page.push_str("</div>");
    }
    complaints(page, &row.runs);
    page.push_str("</section>");
}

/// One run of a way.
struct Shown<'a> {
    of: Reference,
    run: &'a Figures,
}

/// The run with the median time of each that brought the guest over in all rounds.
fn shown_over_time<'a>(row: &'a Measured, all: &[Reference]) -> Vec<Shown<'a>> {
    let one = |&of: &Reference| {
        let mut figures: Vec<&Figures> = runs(&row.runs, of).filter_map(Outcome::figures).collect();
        figures.sort_by(|a, b| a.time_s.total_cmp(&b.time_s));
        let run = figures.get(figures.len() / 2)?;
        Some(Shown { of, run })
    };
    all.iter().filter_map(one).collect()
}

fn legend(page: &mut String, shown: &[Shown<'_>]) {
    page.push_str("<p class=\"legend\">");
    for Shown { of, .. } in shown {
        let _ = write!(
            page,
            "<button type=\"button\" class=\"{}\" data-way=\"{0}\"><i></i>{of}</button>",
            class(*of)
        );
    }
    page.push_str("</p>");
}

/// What went wrong, and what is to be known of a figure.
fn complaints(page: &mut String, outcomes: &[Outcome]) {
    let mut lines = Vec::new();
    for run in outcomes {
        let damage = run.figures().and_then(|figures| figures.damage.as_deref());
        let (transport, round) = (run.transport, run.round);
        for (what, why) in [("no arrival", run.failure()), ("DAMAGE", damage)] {
            if let Some(why) = why {
                lines.push(format!("{what}: {transport}, round {round}: {}", Text(why)));
            }
        }
        let access = run.figures().and_then(|figures| figures.access.as_deref());
        if let (Some(access), 1, false) = (access, round, run.calmer) {
            lines.push(format!("{transport}: {}", Text(access)));
        }
    }
    if !lines.is_empty() {
        let _ = write!(page, "<ul class=\"note\"><li>{}</ul>", lines.join("<li>"));
    }
}

#[cfg(test)]
mod tests {
    use super::super::figures::CameTo;
    use super::super::samples::Sample;
    use super::*;

    fn record() -> Record {
        let sample = |at_s: f64| Sample {
            at_s,
            wire_bytes: Some(1000),
            remaining_bytes: Some(4096),
            dirty_bytes_per_s: None,
            predicted_end_s: Some(2.0),
        };
        let run = |transport, came_to| Outcome {
            transport,
            round: 1,
            calmer: false,
            came_to,
        };
        let figures = Figures {
            time_s: 2.0,
            samples: vec![sample(0.0), sample(1.0)],
            access: Some("process: <it> \"may\"".to_owned()),
            ..Figures::default()
        };
        Record {
            machine: "a & b".to_owned(),
            date: "2026-11-21 12:00".to_owned(),
            load_before: None,
            qemu: "10.0".to_owned(),
            rows: vec![Measured {
                name: "free".to_owned(),
                what: "mix".to_owned(),
                against: None,
                runs: vec![
                    run(Transport::Sealift, CameTo::Figures(Box::new(figures))),
                    run(Transport::Tls, CameTo::Failure("no end".to_owned())),
                ],
                verdicts: Vec::new(),
            }],
        }
    }

    #[test]
    fn a_page_has_every_row_and_what_did_not_end_and_needs_nothing_else() {
        let page = html(&record());
        assert!(page.contains("<section id=\"free\">"));
        assert!(page.contains("no arrival: TLS, round 1: no end"));
        assert!(page.contains("did not arrive"));
        assert!(page.contains("a &amp; b") && page.contains("&lt;it&gt; &quot;may&quot;"));
        for elsewhere in ["http:", "https:", "src=", "@import"] {
            assert!(!page.contains(elsewhere), "{elsewhere}");
        }
    }

    #[test]
    fn what_was_saved_makes_the_same_page() {
        let record = record();
        let again = serde_json::from_slice(&serde_json::to_vec(&record).unwrap()).unwrap();
        assert_eq!(html(&record), html(&again));
    }
}
