//! Reads a guest's memory again, for `--verify full`.

use blake3::Hasher as Blake3;
use sealift_pages::Algorithm;
use sealift_qemu::memory;
use sealift_session::control::{RamBlocks, Verification};
use sha2::{Digest as _, Sha256};

use crate::ending::whole;
use crate::monitor::Monitor;

/// What is read.
#[derive(Clone, Debug)]
pub(crate) struct Memory {
    blocks: Vec<String>,
    algorithm: Algorithm,
}

impl Memory {
    /// The memory that was admitted, and how it is compared.
    pub(crate) fn of(blocks: &RamBlocks, algorithm: Algorithm) -> Self {
        let names = blocks.as_slice().iter();
        let names = names.map(|block| String::from_utf8_lossy(block.name()).into_owned());
        Self {
            blocks: names.collect(),
            algorithm,
        }
    }

    /// What this end's QEMU holds of it, now that the guest stands still; otherwise why that could not be read.
    pub(crate) async fn read(self, monitor: Monitor) -> Result<Verification, String> {
        let Self { blocks, algorithm } = self;
        let (answer, answered) = tokio::sync::oneshot::channel();
        monitor
            .ask(move |machine| {
                let (mut blake3, mut sha256) = (Blake3::new(), Sha256::new());
                let extent = memory::read(machine, &blocks, |bytes| match algorithm {
                    Algorithm::Blake3 => {
                        blake3.update(bytes);
                    }
                    Algorithm::Sha256 => sha256.update(bytes),
                });
                let digest = match algorithm {
                    Algorithm::Blake3 => blake3.finalize().into(),
                    Algorithm::Sha256 => sha256.finalize().into(),
                };
                // Whoever asked may have gone.
                let _ = answer.send(extent.map(|extent| Verification {
                    digest,
                    bytes: extent.bytes,
                    ranges: extent.ranges,
                }));
                Ok(())
            })
            .await
            .map_err(|error| whole(&error))?;
        match answered.await {
            Ok(Ok(verification)) => Ok(verification),
            Ok(Err(error)) => Err(format!(
                "the guest's memory could not be read again: {}",
                whole(&error)
            )),
            Err(_) => Err("QEMU's control socket was closed".to_owned()),
        }
    }
}
