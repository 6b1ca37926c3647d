//! QEMU's settings for a migration, as somebody else had made them: kept before sealift makes its own, and put back.
//!
//! ```text
//!   source        ─ set up ─▶ migrates ─ comes to nothing ─▶ put back
//!   destination   ─ set up ─▶ takes the guest, which goes on, or gets none ─▶ put back: what comes next is not sealift's to arrange
//! ```

use std::collections::BTreeMap;

use sealift_qemu::Error;
use sealift_qemu::machine::Machine;
use serde_json::{Map, Value};

use crate::ending::whole;
use crate::monitor::Monitor;
use crate::source::THROTTLE;
use crate::voice::Voice;

/// QEMU's names of the parameters that sealift sets.
pub(crate) const TLS: &str = "tls-creds";
pub(crate) const DOWNTIME: &str = "downtime-limit";
pub(crate) const BANDWIDTH: &str = "max-bandwidth";

/// What QEMU had before.
#[derive(Clone, Debug)]
pub(crate) struct Before {
    capabilities: BTreeMap<String, bool>,
    parameters: Map<String, Value>,
}

impl Before {
    /// Asks for it.
    pub(crate) fn of(machine: &mut Machine) -> Result<Self, Error> {
        let mut names = vec![DOWNTIME, BANDWIDTH, TLS];
        names.extend(THROTTLE);
        Ok(Self {
            capabilities: machine.capabilities()?,
            ..Self::of_parameters(machine, &names)?
        })
    }

    /// Asks for these parameters alone.
    pub(crate) fn of_parameters(machine: &mut Machine, names: &[&str]) -> Result<Self, Error> {
        let parameters = machine.parameters()?;
        let kept = names.iter().filter_map(|&name| {
            let value = parameters.get(name)?;
            Some((name.to_owned(), value.clone()))
        });
        Ok(Self {
            parameters: kept.collect(),
            capabilities: BTreeMap::new(),
        })
    }

    /// Puts it back, as much of it as QEMU takes, and says where it does not.
    pub(crate) async fn put_back(self, monitor: &Monitor, voice: &Voice) {
        if let Err(error) = monitor.ask(move |machine| self.restore(machine)).await {
            voice.warn(format!(
                "QEMU's migration settings are not all as they were: {}",
                whole(&error)
            ));
        }
    }

    fn restore(&self, machine: &mut Machine) -> Result<(), Error> {
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
