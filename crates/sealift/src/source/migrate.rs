//! `sealift migrate`: gives QEMU its orders over QMP, from the first capability to the last `quit`.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sealift::arguments::migrate::Arguments;
use sealift::outcome::{Ending, Fault, Kind};
use sealift::reporter::Reporter;
use sealift_pages::PageSize;
use sealift_precopy::IfNotConverging;
use sealift_qemu::machine::{Machine, MigrationStatus};
use tokio::sync::mpsc;

use super::guest::Asked;
use super::outlet;
use super::prologue::{needs_return_path, read_prologue};
use super::setup::set_up;
use super::{Asking, Qemu, Way, cancelled, go, new_session};
use crate::ending::{self, whole};
use crate::monitor::Monitor;
use crate::settings::Before;
use crate::signals::Signals;
use crate::voice::Voice;

/// Runs the command.
pub(crate) async fn run(arguments: &Arguments, reporter: Arc<Reporter>) -> Ending {
    let way = Way::new(
        &arguments.identity.pki,
        &arguments.to,
        arguments.peer_name(),
        &arguments.transfer,
        arguments.records.journal.as_deref(),
        reporter,
    );
    let way = match way {
        Ok(way) => Way {
            keep: arguments.keep_source,
            bandwidth: arguments.bandwidth.map(|rate| rate.bytes_per_s()),
            ..way
        },
        Err(ending) => return ending,
    };
    let mut signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => return Ending::because(Kind::Host, &error).fault(Fault::ThisHost),
    };
    let prepared = tokio::select! {
        prepared = prepare(arguments, &way) => prepared,
        () = signals.next() => Err(cancelled()),
    };
    match prepared {
        Ok(prepared) => order(way, prepared, !arguments.no_live, signals).await,
        Err(ending) => ending,
    }
}

/// Everything that can be found out before QEMU is touched.
struct Prepared {
    monitor: Monitor,
    asked: Asked,
    asking: Asking,
}

async fn prepare(arguments: &Arguments, way: &Way) -> Result<Prepared, Ending> {
    let started = Instant::now();
    way.suits(&arguments.qmp)?;
    let qemu = |error: &sealift_qemu::Error| ending::of_qemu(error);
    let monitor = Monitor::open(arguments.qmp.clone())
        .await
        .map_err(|error| qemu(&error))?;
    let asked = monitor
        .ask(Asked::ask)
        .await
        .map_err(|error| qemu(&error))?;
    let (state, migration) = monitor
        .ask(|machine| Ok((machine.status()?.state, machine.migration()?)))
        .await
        .map_err(|error| qemu(&error))?;
    if let Some(ending) = not_now(&state, &migration.status) {
        return Err(ending);
    }
    if let Some(reason) = migration.blocked_reasons.first() {
        let message = format!("QEMU says that this guest cannot be migrated: {reason}");
        return Err(Ending::new(Kind::StillAtSource, message).fault(Fault::Guest));
    }
    let session = new_session()?;
    let page_size = PageSize::new(PAGE)
        .map_err(|error| Ending::because(Kind::Host, &error).fault(Fault::ThisHost))?;
    let (link, negotiated) = way.negotiate(session, page_size).await?;
    Ok(Prepared {
        monitor,
        asked,
        asking: Asking {
            session,
            started,
            link,
            negotiated,
            page_size,
        },
    })
}

/// Why a QEMU in this state has no guest to be moved, or not now.
fn not_now(state: &str, migration: &MigrationStatus) -> Option<Ending> {
    let none_here = |message| Ending::new(Kind::Host, message).fault(Fault::User);
    match state {
        "inmigrate" => Some(none_here(
            "this QEMU waits for a guest, and has none to be moved",
        )),
        "postmigrate" => Some(
            none_here("this QEMU's guest was migrated already, and stands still here").advice(
                "end this QEMU if the guest runs elsewhere; only if it is certain that it does not, cont runs it here",
            ),
        ),
        _ if migration.is_final() || *migration == MigrationStatus::None => None,
        _ => Some(
            Ending::new(
                Kind::StillAtSource,
                "QEMU is migrating this guest already, by somebody else's order",
            )
            .fault(Fault::User)
            .advice("wait until that has ended, or cancel it: migrate_cancel"),
        ),
    }
}

/// The page size of every target whose machine types QEMU can migrate between hosts today but for some of ARM's. It is agreed on
/// before the stream can say it.
const PAGE: usize = 4096;

/// Sets QEMU up, migrates, and leaves everything as it was when that comes to nothing.
async fn order(way: Way, prepared: Prepared, live: bool, signals: Signals) -> Ending {
    let Prepared {
        monitor,
        asked,
        asking,
    } = prepared;
    let before = match monitor.ask(Before::of).await {
        Ok(before) => before,
        Err(error) => return asking.decline(ending::of_qemu(&error)).await,
    };
    let max_downtime = way.max_downtime;
    let switchover_ack = asking.negotiated.destination().switchover_ack;
    let throttle = way.if_not_converging == IfNotConverging::Throttle;
    let pause = !live && asked.running;
    let way = Way { pause, ..way };
    let set = monitor
        .ask(move |machine| {
            set_up(machine, max_downtime, switchover_ack, throttle)?;
            if pause {
                machine.stop()?;
            }
            Ok(())
        })
        .await;
    let ending = match set {
        Ok(()) => migrate(&way, asking, &monitor, asked, signals).await,
        Err(error) => asking.decline(ending::of_qemu(&error)).await,
    };
    if ending.guest_stays() {
        undo(&monitor, before, pause, &way.voice).await;
    }
    ending
}

async fn migrate(
    way: &Way,
    asking: Asking,
    monitor: &Monitor,
    asked: Asked,
    mut signals: Signals,
) -> Ending {
    let opened = tokio::select! {
        opened = outlet::open(monitor) => opened,
        () = signals.next() => Err(cancelled()),
    };
    let main = match opened {
        Ok(main) => main,
        Err(ending) => {
            // It may still be on its way to the channel. One that has not begun has nothing to cancel.
            let _ = monitor.ask(Machine::cancel).await;
            return asking.decline(ending).await;
        }
    };
    // Nothing else is opened: multifd is off.
    let (_, further) = mpsc::channel(1);
    let closer = main.closer();
    let (read, write) = main.split();
    let prologue = tokio::select! {
        prologue = read_prologue(read) => prologue,
        () = signals.next() => Err(cancelled()),
    };
    let prologue = match prologue.and_then(|read| needs_return_path(&read).map(|()| read)) {
        Ok(prologue) => prologue,
        Err(ending) => {
            closer.close();
            return asking.decline(reason(monitor, ending).await).await;
        }
    };
    let qemu = Qemu {
        prologue,
        write,
        closers: Arc::new(Mutex::new(vec![closer.clone()])),
        further,
        monitor: Some(monitor.clone()),
        asked: Some(asked),
    };
    let ending = go(way, asking, qemu, signals).await;
    closer.close();
    ending
}

/// Why QEMU did not begin, if it says so.
async fn reason(monitor: &Monitor, ending: Ending) -> Ending {
    let told = monitor.ask(|machine| Ok(machine.migration()?.error)).await;
    match told {
        Ok(Some(error)) => Ending::new(
            Kind::StillAtSource,
            format!("QEMU does not migrate this guest: {error}"),
        )
        .fault(Fault::Guest),
        _ => ending,
    }
}

/// How long QEMU may take to give a migration up.
const GIVES_UP_WITHIN: Duration = Duration::from_secs(10);

/// Leaves the guest and its QEMU as they were.
async fn undo(monitor: &Monitor, before: Before, resume: bool, voice: &Voice) {
    // Settings are frozen while a migration is under way.
    if monitor.migration_ends(GIVES_UP_WITHIN).await.is_none() {
        // One that has gone has nothing to be put back.
        if !monitor.ends_within(Duration::ZERO).await {
            let paused = if resume { ", and the guest paused" } else { "" };
            voice.warn(format!(
                "QEMU has not given the migration up in {} s: its settings stay as they were set for it{paused}",
                GIVES_UP_WITHIN.as_secs()
            ));
        }
        return;
    }
    if resume && let Err(error) = monitor.ask(Machine::cont).await {
        voice.warn(format!(
            "the guest was paused for the move, and QEMU does not run it on: {}; the QMP command cont does",
            whole(&error)
        ));
    }
    before.put_back(monitor, voice).await;
}
