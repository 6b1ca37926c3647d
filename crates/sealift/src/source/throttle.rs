//! Slows a guest by QEMU's own auto-converge, which stops the guest's processors for a part of each moment: alike under KVM and emulation.
//!
//! ```text
//!   before it migrates    auto-converge on, at most 1 %      a capability cannot be changed later
//!   while it migrates     46 %, no less and no more          in force when QEMU has looked at dirty pages another two times
//!   when it has ended     QEMU stops nothing any more
//! ```
//!
//! Left to itself auto-converge compares what the guest dirties with what QEMU has sent, which is little while QEMU waits for sealift's gate: a
//! guest that does next to nothing ends at 99 %. So it is never let further than sealift asks for.

use sealift::outcome::{Ending, Fault, Kind};
use sealift_precopy::IfNotConverging;
use sealift_qemu::Error;
use sealift_qemu::machine::Machine;
use serde_json::{Map, Value, json};

use crate::ending;
use crate::monitor::Monitor;
use crate::settings::Before;

/// QEMU's name of the capability.
pub(super) const AUTO_CONVERGE: &str = "auto-converge";

/// QEMU's names of the parameters that it goes by.
const TRIGGER: &str = "throttle-trigger-threshold";
const INITIAL: &str = "cpu-throttle-initial";
const INCREMENT: &str = "cpu-throttle-increment";
const TAILSLOW: &str = "cpu-throttle-tailslow";
const MAX: &str = "max-cpu-throttle";
/// All of them.
pub(crate) const PARAMETERS: [&str; 5] = [TRIGGER, INITIAL, INCREMENT, TAILSLOW, MAX];

/// The least that QEMU takes: a tenth of a millisecond in ten.
const LEAST: u8 = 1;
/// Of what QEMU sends, the part that the guest must dirty to be throttled: the least that QEMU takes. Sealift decides that, and nobody else.
const ANY: u8 = 1;
/// What QEMU adds at a time: the most that it takes, so that it comes to what is asked for at once.
const AT_ONCE: u8 = 99;

/// QEMU is to stop the guest's processors for so many per cent of the time.
pub(super) fn set(machine: &mut Machine, percent: u8) -> Result<(), Error> {
    let parameters = [
        (TRIGGER, json!(ANY)),
        (INITIAL, json!(percent)),
        (INCREMENT, json!(AT_ONCE)),
        (TAILSLOW, json!(false)),
        (MAX, json!(percent)),
    ];
    let parameters = parameters.map(|(name, value)| (name.to_owned(), value));
    machine.set_parameters(Map::<String, Value>::from_iter(parameters))
}

/// It is to stop them for as little as it can, for now.
pub(super) fn set_least(machine: &mut Machine) -> Result<(), Error> {
    set(machine, LEAST)
}

/// Readies a QEMU that migrates by somebody else's order, if that is asked for. Returns what was set before.
pub(super) async fn ready(
    wanted: IfNotConverging,
    monitor: Option<&Monitor>,
) -> Result<Option<Before>, Ending> {
    let Some(monitor) = monitor.filter(|_| wanted == IfNotConverging::Throttle) else {
        return Ok(None);
    };
    let asked = monitor
        .ask(|machine| {
            if machine.capabilities()?.get(AUTO_CONVERGE) != Some(&true) {
                return Ok(None);
            }
            let before = Before::of_parameters(machine, &PARAMETERS)?;
            set_least(machine)?;
            Ok(Some(before))
        })
        .await;
    match asked {
        Ok(Some(before)) => Ok(Some(before)),
        Ok(None) => Err(Ending::new(
            Kind::StillAtSource,
            "this QEMU cannot slow its guest: it migrates without the capability auto-converge",
        )
        .fault(Fault::User)
        .advice(
            "switch it on before QEMU is told to migrate, migrate_set_capability auto-converge on; or use sealift migrate, which does that",
        )),
        Err(error) => Err(ending::of_qemu(&error)),
    }
}
