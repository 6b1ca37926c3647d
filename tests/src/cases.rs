//! The ways of migrating that are kept as fixtures. Each puts other bytes on the wire.

use serde_json::{Map, Value, json};

use crate::guest::MEMORY;
use crate::migration::Plan;
use crate::qemu::Machine;

/// One guest, moved in one way.
#[derive(Clone, Debug)]
pub struct Case {
    /// Unique among the cases of one QEMU.
    pub name: &'static str,
    /// Machine type.
    pub machine: Machine,
    /// The machine type's version when it is not the QEMU's own: an older one changes the stream.
    pub machine_release: Option<&'static str>,
    /// What `-m` takes.
    pub memory: &'static str,
    /// More arguments for QEMU; `{shared}` stands for a file that both ends use.
    pub arguments: &'static [&'static str],
    /// Control commands for the source before the migration.
    pub prepare: Vec<(&'static str, Value)>,
    /// Capabilities, parameters, rounds.
    pub plan: Plan,
    /// Which QEMUs can do it.
    pub on: On,
}

/// Which QEMUs a case is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// All.
    Any,
    /// 7.2 and its like.
    Old,
    /// 10.0 and later.
    Modern,
}

/// Rounds that a case collects unless it needs none or more: the first, one that re-sends, and the last.
const ROUNDS: u64 = 3;

impl Case {
    fn new(name: &'static str, machine: Machine) -> Self {
        Self {
            name,
            machine,
            machine_release: None,
            memory: MEMORY,
            arguments: &[],
            prepare: Vec::new(),
            plan: Plan {
                rounds: ROUNDS,
                ..Plan::default()
            },
            on: On::Any,
        }
    }

    fn capabilities(mut self, capabilities: &[&'static str]) -> Self {
        self.plan.capabilities = capabilities.to_vec();
        self
    }

    fn parameters(mut self, parameters: &Value) -> Self {
        self.plan.parameters = parameters.as_object().map_or_else(Map::new, Clone::clone);
        self
    }

    fn arguments(mut self, arguments: &'static [&'static str]) -> Self {
        self.arguments = arguments;
        self
    }

    fn on(mut self, on: On) -> Self {
        self.on = on;
        self
    }
}

/// All cases; each QEMU makes those that it can.
#[must_use]
pub fn all() -> Vec<Case> {
    use Machine::{I440fx, Microvm, Q35};
    const VIRTIO_MEM: &[&str] = &[
        "-object",
        "memory-backend-ram,id=more,size=4M",
        "-device",
        "virtio-mem-pci,id=vm0,memdev=more,block-size=1M,requested-size=2M",
    ];
    let multifd =
        |compression: &str| json!({ "multifd-channels": 2, "multifd-compression": compression });
    vec![
        Case::new("i440fx", I440fx).capabilities(&["return-path"]),
        Case::new("q35", Q35),
        Case::new("microvm", Microvm),
        Case {
            plan: Plan {
                xbzrle_pages: 64,
                rounds: 4,
                ..Plan::default()
            },
            ..Case::new("xbzrle", Microvm)
        }
        .capabilities(&["xbzrle", "return-path"])
        .parameters(&json!({ "xbzrle-cache-size": 4 << 20 })),
        Case::new("postcopy-advised", Microvm).capabilities(&["postcopy-ram", "return-path"]),
        Case {
            plan: Plan {
                rounds: 2,
                post_copy: true,
                ..Plan::default()
            },
            ..Case::new("postcopy", Microvm)
        }
        .capabilities(&["postcopy-ram", "return-path"]),
        Case {
            plan: Plan {
                rounds: 2,
                post_copy: true,
                ..Plan::default()
            },
            ..Case::new("postcopy-preempt", Microvm)
        }
        .capabilities(&["postcopy-ram", "postcopy-preempt", "return-path"]),
        // The destination finds the guest's memory in the file; both ends must use the same.
        Case {
            plan: Plan::default(),
            ..Case::new("ignore-shared", Microvm)
        }
        .capabilities(&["x-ignore-shared", "return-path"])
        .arguments(&[
            "-object",
            "memory-backend-file,id=ram,size=8200K,share=on,mem-path={shared}",
            "-machine",
            "memory-backend=ram",
        ]),
        Case::new("multifd", Microvm)
            .capabilities(&["multifd", "return-path"])
            .parameters(&multifd("none")),
        Case::new("multifd-zstd", Microvm)
            .capabilities(&["multifd", "return-path"])
            .parameters(&multifd("zstd")),
        // A flush per section, and zero pages on the main channel.
        Case {
            machine_release: Some("7.2"),
            ..Case::new("multifd-machine-7.2", I440fx)
        }
        .capabilities(&["multifd", "return-path"])
        .parameters(&multifd("none"))
        .on(On::Modern),
        Case {
            memory: "8200K,maxmem=64M",
            ..Case::new("virtio-mem", Q35)
        }
        .arguments(VIRTIO_MEM),
        // Without the early device state that 8.0 brought.
        Case {
            memory: "8200K,maxmem=64M",
            machine_release: Some("7.2"),
            ..Case::new("virtio-mem-machine-7.2", Q35)
        }
        .arguments(VIRTIO_MEM)
        .on(On::Modern),
        Case::new("validate-uuid", Microvm)
            .capabilities(&["validate-uuid"])
            .arguments(&["-uuid", "5ea11f70-1ab0-4000-8000-000000000001"]),
        // Zlib page by page; gone since 9.1.
        Case::new("compress", Microvm)
            .capabilities(&["compress"])
            .parameters(&json!({ "compress-threads": 1, "decompress-threads": 1 }))
            .on(On::Old),
        // An iterable section beside RAM.
        Case {
            prepare: vec![(
                "block-dirty-bitmap-add",
                json!({ "node": "disk", "name": "bitmap" }),
            )],
            ..Case::new("dirty-bitmaps", Microvm)
        }
        .capabilities(&["dirty-bitmaps", "return-path"])
        .arguments(&["-blockdev", "null-co,node-name=disk,size=1048576"]),
        Case::new("switchover-ack", Microvm)
            .capabilities(&["return-path", "switchover-ack"])
            .on(On::Modern),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = all().iter().map(|case| case.name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
