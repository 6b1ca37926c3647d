//! Sets the source's QEMU up for a migration through sealift.

use std::time::Duration;

use sealift_qemu::Error;
use sealift_qemu::machine::Machine;
use serde_json::json;

use super::throttle::{self, AUTO_CONVERGE};
use crate::settings::{BANDWIDTH, DOWNTIME, TLS};

/// Capabilities that would keep pages from being recognised, or take the hand-off out of sealift's hands.
const OFF: [&str; 13] = [
    "background-snapshot",
    "compress",
    "dirty-limit",
    "mapped-ram",
    "multifd",
    "pause-before-switchover",
    "postcopy-preempt",
    "postcopy-ram",
    "rdma-pin-all",
    "x-colo",
    "x-ignore-shared",
    "xbzrle",
    "zero-copy-send",
];

/// QEMU's own limit, 128 MiB/s by default, is lifted: what the link takes is known here, and told to QEMU by not reading. This is beyond
/// any link, and below what overflows where QEMU multiplies it.
const UNLIMITED: u64 = 1 << 40;

/// Sets it up. `switchover_ack`: the destination's QEMU can say when the guest may be stopped. `throttle`: the guest may be slowed later.
pub(crate) fn set_up(
    machine: &mut Machine,
    max_downtime: Duration,
    switchover_ack: bool,
    throttle: bool,
) -> Result<(), Error> {
    let gate = switchover_ack && machine.capabilities()?.contains_key("switchover-ack");
    let mut wanted: Vec<(&str, bool)> = OFF.iter().map(|&name| (name, false)).collect();
    wanted.extend([
        ("return-path", true),
        ("switchover-ack", gate),
        ("events", true),
        (AUTO_CONVERGE, throttle),
    ]);
    machine.set_capabilities(&wanted)?;
    let millis = u64::try_from(max_downtime.as_millis()).unwrap_or(u64::MAX);
    let parameters = [
        (DOWNTIME, json!(millis)),
        (BANDWIDTH, json!(UNLIMITED)),
        // sealift seals.
        (TLS, json!("")),
    ];
    let parameters = parameters.map(|(name, value)| (name.to_owned(), value));
    machine.set_parameters(parameters.into_iter().collect())?;
    match throttle {
        true => throttle::set_least(machine),
        false => Ok(()),
    }
}
