//! One migration between two QEMUs, through a [`Tap`], watched from both control sockets.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use crate::guest::{Guest, PATIENCE};
use crate::tap::{Recording, Tap};
use crate::{Context, Error};

/// While rounds are collected the link is this slow: the guest dirties more than it takes (bytes per second).
const HELD_BANDWIDTH: u64 = 2 << 20;
/// And QEMU may stop the guest only for this long, which at that speed is less than a page (milliseconds).
const HELD_DOWNTIME: u64 = 1;
/// Afterwards nothing keeps it from finishing.
const RELEASED_BANDWIDTH: u64 = 1 << 30;
const RELEASED_DOWNTIME: u64 = 10_000;
/// Post-copy is kept slow enough that the guest has to ask for pages (bytes per second).
const POSTCOPY_BANDWIDTH: u64 = 64 << 10;

/// How a guest is moved.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Switched on at both ends.
    pub capabilities: Vec<&'static str>,
    /// Set at both ends, by `migrate-set-parameters`.
    pub parameters: Map<String, Value>,
    /// QEMU must have looked at the dirty bitmap so often before it may finish; 0 lets it go at once.
    pub rounds: u64,
    /// So many pages must have been sent as XBZRLE before it may finish.
    pub xbzrle_pages: u64,
    /// Switch to post-copy after those rounds.
    pub post_copy: bool,
}

/// Moves the guest and makes sure that it goes on at the destination with all its memory right.
/// The recordings come in the order of the connections.
pub fn migrate(
    source: &mut Guest,
    destination: &mut Guest,
    plan: &Plan,
) -> Result<Vec<Recording>, Error> {
    let listen = destination.path("incoming");
    let tap_at = destination.path("tap");
    let tap = Tap::start(&tap_at, &listen, &destination.path(""))?;

    for guest in [&mut *source, &mut *destination] {
        configure(guest, plan)?;
    }
    destination.qmp().execute(
        "migrate-incoming",
        json!({ "uri": format!("unix:{}", listen.display()) }),
    )?;
    set_limits(source, HELD_BANDWIDTH, HELD_DOWNTIME)?;
    source.qmp().execute(
        "migrate-set-parameters",
        json!({ "max-postcopy-bandwidth": POSTCOPY_BANDWIDTH }),
    )?;
    source.qmp().execute(
        "migrate",
        json!({ "uri": format!("unix:{}", tap_at.display()) }),
    )?;

    wait(source, destination, |status| {
        let rounds = status["ram"]["dirty-sync-count"].as_u64().unwrap_or(0);
        let deltas = status["xbzrle-cache"]["pages"].as_u64().unwrap_or(0);
        rounds >= plan.rounds && deltas >= plan.xbzrle_pages
    })
    .context("while rounds were collected")?;
    let status = source.qmp().execute("query-migrate", Value::Null)?;
    if status["xbzrle-cache"]["pages"].as_u64().unwrap_or(0) < plan.xbzrle_pages {
        return Err(Error::new(
            "the migration completed before enough pages were sent as XBZRLE",
        ));
    }
    if plan.post_copy {
        source
            .qmp()
            .execute("migrate-start-postcopy", Value::Null)?;
    }
    set_limits(source, RELEASED_BANDWIDTH, RELEASED_DOWNTIME)?;
    wait(source, destination, is_completed).context("while the migration was to finish")?;
    wait_completed(destination).context("the destination")?;

    let recordings = tap.finish(PATIENCE)?;
    goes_on(&*source, destination)?;
    Ok(recordings)
}

fn configure(guest: &mut Guest, plan: &Plan) -> Result<(), Error> {
    let capabilities: Vec<_> = plan
        .capabilities
        .iter()
        .map(|name| json!({ "capability": name, "state": true }))
        .collect();
    guest.qmp().execute(
        "migrate-set-capabilities",
        json!({ "capabilities": capabilities }),
    )?;
    if !plan.parameters.is_empty() {
        guest.qmp().execute(
            "migrate-set-parameters",
            Value::Object(plan.parameters.clone()),
        )?;
    }
    Ok(())
}

fn set_limits(source: &mut Guest, bandwidth: u64, downtime: u64) -> Result<(), Error> {
    let limits = json!({ "max-bandwidth": bandwidth, "downtime-limit": downtime });
    source.qmp().execute("migrate-set-parameters", limits)?;
    Ok(())
}

/// Polls the source until `done` says so or the migration has completed.
fn wait(
    source: &mut Guest,
    destination: &mut Guest,
    done: impl Fn(&Value) -> bool,
) -> Result<(), Error> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = source.qmp().execute("query-migrate", Value::Null)?;
        if is_completed(&status) || done(&status) {
            return Ok(());
        }
        destination.alive().context("the destination")?;
        if matches!(
            status["status"].as_str(),
            Some("failed" | "cancelled" | "postcopy-paused")
        ) {
            return Err(Error::new(format!("the source reports {status}")));
        }
        if Instant::now() >= deadline {
            return Err(Error::new(format!(
                "no end after {PATIENCE:?}; the source reports {status}"
            )));
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until this end says that it is through.
pub(crate) fn wait_completed(guest: &mut Guest) -> Result<(), Error> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        guest.alive()?;
        let status = guest.qmp().execute("query-migrate", Value::Null)?;
        if is_completed(&status) {
            return Ok(());
        }
        if status["status"] == "failed" || Instant::now() >= deadline {
            return Err(Error::new(format!("not completed, but {status}")));
        }
        thread::sleep(Duration::from_millis(10));
    }
}

fn is_completed(status: &Value) -> bool {
    status["status"] == "completed"
}

/// The guest must check every page at least once more at the destination; two rounds of its region do.
pub fn goes_on(source: &Guest, destination: &mut Guest) -> Result<(), Error> {
    let left_at = source.serial().progress().context("at the source")?;
    let wanted = left_at.tick + 2 * destination.ticks_per_pass() + 1;
    destination
        .wait_tick(wanted)
        .context("at the destination")?;
    Ok(())
}
