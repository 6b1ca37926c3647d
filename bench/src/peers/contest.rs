//! A row's rounds: who has a turn in which.
//!
//! ```text
//!   round 1        all peers, then sealift      a peer that does not end, or takes far longer than the best, has no further turn
//!   round 2, 3 …   the rest, then sealift       so that an hour goes into those figures that a ratio is made of
//! ```

use super::figures::Outcome;
use super::row::{Against, Row};
use super::run::Bench;
use super::transport::Transport;

/// A peer that takes so many times the best peer's time in the first round will not be the best one in the median.
const HOPELESS: f64 = 1.3;

/// What happens, for whoever waits.
#[derive(Debug)]
pub enum News<'a> {
    /// A turn begins.
    Turn {
        /// Whose.
        transport: Transport,
        /// In which round.
        round: usize,
        /// With the calmer guest.
        calmer: bool,
    },
    /// It has ended.
    Came(&'a Outcome),
    /// One has no further turn.
    Out {
        /// Which.
        transport: Transport,
        /// Why not.
        why: String,
    },
}

/// Those that have a turn in a row when nobody says otherwise.
#[must_use]
pub fn usual(row: &Row) -> Vec<Transport> {
    let usual = |&one: &Transport| one != Transport::Tcp || row.against == Against::Plain;
    Transport::ALL.into_iter().filter(usual).collect()
}

/// All rounds of a row.
pub fn hold(
    bench: &Bench,
    row: &Row,
    transports: &[Transport],
    rounds: usize,
    mut news: impl FnMut(News<'_>),
) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    let mut remaining = transports.to_vec();
    for round in 1..=rounds {
        for &transport in &remaining {
            let calmer = matches!(row.against, Against::Calmer(_)) && transport.is_sealift();
            for calmer in [false, true].into_iter().take(1 + usize::from(calmer)) {
                news(News::Turn {
                    transport,
                    round,
                    calmer,
                });
                let outcome = bench.run(transport, round, calmer);
                news(News::Came(&outcome));
                outcomes.push(outcome);
            }
        }
        if round == 1 && rounds > 1 {
            for (transport, why) in hopeless(row, &outcomes) {
                news(News::Out { transport, why });
                remaining.retain(|&one| one != transport);
            }
        }
    }
    outcomes
}

/// Those peers that need no further turn after the first round, and why.
fn hopeless(row: &Row, first: &[Outcome]) -> Vec<(Transport, String)> {
    let peers = || first.iter().filter(|run| !run.transport.is_sealift());
    let encrypted = peers().filter(|run| run.transport.is_tls());
    let times = encrypted.filter_map(|run| Some(run.figures()?.time_s));
    let best = times.fold(f64::INFINITY, f64::min);
    peers()
        .filter_map(|run| {
            let Some(figures) = run.figures() else {
                return Some((run.transport, "did not bring the guest over".to_owned()));
            };
            let ratio = figures.time_s / best;
            let why = match row.against {
                Against::Calmer(_) => "is not what this row is about".to_owned(),
                Against::Plain if run.transport == Transport::Tcp => return None,
                _ if ratio > HOPELESS => format!("took {ratio:.1} times the best peer's time"),
                _ => return None,
            };
            Some((run.transport, why))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::figures::{CameTo, Figures};
    use super::*;

    fn run(transport: Transport, time_s: Option<f64>) -> Outcome {
        let figures = |time_s| {
            CameTo::Figures(Box::new(Figures {
                time_s,
                ..Figures::default()
            }))
        };
        Outcome {
            transport,
            round: 1,
            calmer: false,
            came_to: time_s.map_or_else(|| CameTo::Failure("no end".to_owned()), figures),
        }
    }

    #[test]
    fn only_peers_that_might_be_the_best_go_on() {
        let first = [
            run(Transport::Tls, Some(20.0)),
            run(Transport::MultifdTls, Some(11.0)),
            run(Transport::TlsXbzrle, None),
            run(Transport::MultifdTlsZstd, Some(10.0)),
            run(Transport::Sealift, Some(100.0)),
        ];
        let out: Vec<Transport> = hopeless(&Row::NAMED[0], &first)
            .into_iter()
            .map(|(transport, _)| transport)
            .collect();
        assert_eq!(out, [Transport::Tls, Transport::TlsXbzrle]);
    }

    #[test]
    fn plain_tcp_has_its_turn_where_it_is_what_counts() {
        let plain = Row::NAMED.iter().find(|row| row.against == Against::Plain);
        let plain = plain.unwrap();
        assert!(usual(plain).contains(&Transport::Tcp));
        assert!(!usual(&Row::NAMED[0]).contains(&Transport::Tcp));
        let first = [
            run(Transport::Tcp, Some(9.0)),
            run(Transport::Tls, Some(1.0)),
        ];
        assert!(hopeless(plain, &first).is_empty());
    }
}
