//! Slows a guest by QEMU's own auto-converge, which stops the guest's processors for a part of each moment: alike under KVM and emulation.
//!
//! ```text
//!   before it migrates    auto-converge on, at most 1 %      a capability cannot be changed later
//!   while it migrates     46 %, no less and no more          in force when QEMU has looked at dirty pages another two times
//!   when it has ended     QEMU stops nothing any more
//! ```
//!
//! Left to itself auto-converge compares what the guest dirties with what QEMU has sent, which is little while QEMU waits for sealift's gate: a
//! guest that does next to nothing ends at 99 %. So it is never let further than sealift asks for, also where somebody else has switched it on.

use sealift::outcome::{Ending, Fault, Kind};
use sealift_precopy::IfNotConverging;
use sealift_qemu::Error;
use sealift_qemu::machine::Machine;
use serde_json::{Map, Value, json};

use crate::ending::{self, whole};
use crate::monitor::Monitor;
use crate::settings::Before;
use crate::voice::Voice;

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

/// Readies a QEMU that migrates by somebody else's order: what it slows its guest by is for sealift to say. Returns what was set before.
pub(super) async fn ready(
    wanted: IfNotConverging,
    monitor: Option<&Monitor>,
    voice: &Voice,
) -> Result<Option<Before>, Ending> {
    let Some(monitor) = monitor else {
        return Ok(None);
    };
    let wanted = wanted == IfNotConverging::Throttle;
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
        Ok(None) if wanted => Err(Ending::new(
            Kind::StillAtSource,
            "this QEMU cannot slow its guest: it migrates without the capability auto-converge",
        )
        .fault(Fault::User)
        .advice(
            "switch it on before QEMU is told to migrate, migrate_set_capability auto-converge on; or use sealift migrate, which does that",
        )),
        Err(error) if wanted => Err(ending::of_qemu(&error)),
        Ok(before) => {
            if before.is_some() && !wanted {
                voice.warn(format!("{UNASKED}: it is held to {LEAST} % until the migration has ended; {INSTEAD}"));
            }
            Ok(before)
        }
        // Nobody has asked for it: the guest moves all the same.
        Err(error) => {
            voice.warn(format!("{UNASKED}, and cannot be held: {}; {INSTEAD}", whole(&error)));
            Ok(None)
        }
    }
}

/// What is the matter with somebody else's auto-converge.
const UNASKED: &str = "auto-converge is on in the source's QEMU, which takes sealift's holding it back for a guest that writes too fast, and would stop its \
                       processors for up to 99 % of the time";
/// What to do instead.
const INSTEAD: &str =
    "leave it off, and slow a guest that has to be slowed by --if-not-converging throttle";
