//! Sets the source's QEMU up for a migration through sealift, and puts everything back when it comes to nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use sealift_qemu::Error;
use sealift_qemu::machine::Machine;
use serde_json::{Map, Value, json};

/// What QEMU had before.
#[derive(Clone, Debug)]
pub(crate) struct Before {
    capabilities: BTreeMap<String, bool>,
    parameters: Map<String, Value>,
}

/// Capabilities that would keep pages from being recognised, or take the hand-off out of sealift's hands.
const OFF: [&str; 13] = [
    "auto-converge",
    "background-snapshot",
    "compress",
    "dirty-limit",
    "mapped-ram",
    "multifd",
    "pause-before-switchover",
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

/// Sets it up. `switchover_ack`: the destination's QEMU can say when the guest may be stopped.
pub(crate) fn set_up(
    machine: &mut Machine,
    max_downtime: Duration,
    switchover_ack: bool,
) -> Result<(), Error> {
    let gate = switchover_ack && machine.capabilities()?.contains_key("switchover-ack");
    let mut wanted: Vec<(&str, bool)> = OFF.iter().map(|&name| (name, false)).collect();
    wanted.extend([
        ("return-path", true),
        ("switchover-ack", gate),
        ("events", true),
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
    machine.set_parameters(parameters.into_iter().collect())
}

const TLS: &str = "tls-creds";
const DOWNTIME: &str = "downtime-limit";
const BANDWIDTH: &str = "max-bandwidth";
const CHANNELS: &str = "multifd-channels";
const COMPRESSION: &str = "multifd-compression";

impl Before {
    /// Asks for it.
    pub(crate) fn of(machine: &mut Machine) -> Result<Self, Error> {
        let parameters = machine.parameters()?;
        let kept = [DOWNTIME, BANDWIDTH, TLS, CHANNELS, COMPRESSION];
        let kept = kept.into_iter().filter_map(|name| {
            let value = parameters.get(name)?;
            Some((name.to_owned(), value.clone()))
        });
        Ok(Self {
            parameters: kept.collect(),
            capabilities: machine.capabilities()?,
        })
    }

    /// Puts it back.
    pub(crate) fn restore(&self, machine: &mut Machine) -> Result<(), Error> {
        let capabilities: Vec<_> = self
            .capabilities
            .iter()
            .map(|(name, &on)| (name.as_str(), on))
            .collect();
        let capabilities = machine.set_capabilities(&capabilities);
        machine.set_parameters(self.parameters.clone())?;
        capabilities.map(drop)
    }
}
