//! The destination's QEMU: how it is reached, and how it is made ready for a guest.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sealift_qemu::channel::{Channel, Closer, ReadHalf, WriteHalf};
use sealift_qemu::machine::MigrationStatus;
use sealift_qemu::ram::Want;
use sealift_qemu::{Address, Error};
use sealift_session::control::{Destination, RamBlocks, Text};

use super::admission::Waiting;
use super::reached::Reached;
use crate::ending::whole;
use crate::monitor::Monitor;
use crate::settings::Before;
use crate::voice::Voice;

/// How long QEMU may take to listen: it may have been started together with this program.
const LISTENS_WITHIN: Duration = Duration::from_secs(10);

/// Where QEMU waits for the guest.
#[derive(Debug)]
pub(crate) enum Endpoint {
    /// It listens there.
    Address(Address),
    /// It started this program (`-incoming exec:`) and holds the other ends of its standard streams. Good for one guest.
    Standard(Mutex<Option<Channel>>),
}

/// The destination's QEMU.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) endpoint: Endpoint,
    /// Its control socket.
    pub(crate) control: Option<Address>,
    /// How its guest's memory may be reached.
    pub(crate) access: Want,
}

/// It, as a session has it: nobody else does meanwhile.
#[derive(Debug)]
pub(crate) struct Taken {
    target: Arc<Target>,
    /// When it is managed.
    pub(crate) monitor: Option<Monitor>,
    pub(crate) destination: Destination,
    pub(crate) waiting: Option<Waiting>,
    /// How its guest's memory is reached, once it was made ready.
    pub(crate) reached: Option<Reached>,
    /// How it was set up before this program did.
    pub(crate) before: Option<Before>,
    /// It listened when it was asked.
    listened: bool,
}

/// The main channel to QEMU.
pub(crate) struct Main {
    pub(crate) reader: ReadHalf,
    pub(crate) writer: WriteHalf,
    pub(crate) closer: Closer,
}

impl Taken {
    /// Without having asked it: another session has it.
    pub(crate) const fn unasked(target: Arc<Target>) -> Self {
        Self {
            target,
            monitor: None,
            destination: Destination {
                managed: false,
                switchover_ack: false,
                qemu: None,
            },
            waiting: None,
            reached: None,
            before: None,
            listened: false,
        }
    }

    /// Asks it what it is.
    pub(crate) async fn of(target: Arc<Target>) -> Result<Self, Error> {
        let Some(address) = target.control.clone() else {
            return Ok(Self::unasked(target));
        };
        let monitor = Monitor::open(address).await?;
        let (waiting, version, switchover_ack, listened) = monitor
            .ask(|machine| {
                let waiting = Waiting::ask(machine)?;
                let capabilities = machine.capabilities()?;
                let listened = machine.migration()?.status != MigrationStatus::None;
                Ok((
                    waiting,
                    machine.version().to_string(),
                    capabilities.contains_key(SWITCHOVER_ACK),
                    listened,
                ))
            })
            .await?;
        Ok(Self {
            target,
            monitor: Some(monitor),
            destination: Destination {
                managed: true,
                switchover_ack,
                qemu: Text::cut(&version),
            },
            waiting: Some(waiting),
            reached: None,
            before: None,
            listened,
        })
    }

    /// Makes it ready: it will not start the guest by itself, holds no image locks while it is paused, and listens.
    pub(crate) async fn prepare(&mut self) -> Result<(), String> {
        let Some(monitor) = &self.monitor else {
            return Ok(());
        };
        let listens_at = match &self.target.endpoint {
            Endpoint::Address(address) => Some(address.to_string()),
            Endpoint::Standard(_) => None,
        };
        let switchover_ack = self.destination.switchover_ack;
        let prepared = monitor
            .ask(move |machine| {
                let before = Before::of(machine)?;
                // The source has it when this end says that it can.
                let capabilities = [
                    (RETURN_PATH, true),
                    (SWITCHOVER_ACK, switchover_ack),
                    ("events", true),
                ];
                machine.set_capabilities(&capabilities)?;
                machine.late_block_activate()?;
                machine.stop()?;
                // Started with `-incoming defer`.
                if let Some(address) = listens_at
                    && machine.migration()?.status == MigrationStatus::None
                {
                    machine.migrate_incoming(&address)?;
                }
                Ok(before)
            })
            .await;
        match prepared {
            Ok(before) => {
                self.before = Some(before);
                Ok(())
            }
            Err(error) if self.listened => Err(format!(
                "{}; it listens already, and takes fewer settings then: start it with -incoming defer, and it is told to listen",
                whole(&error)
            )),
            Err(error) => Err(whole(&error)),
        }
    }

    /// Its guest's memory is to be reached. Whether it can be shows only when it is ready, and what both ends remember is agreed before.
    pub(crate) fn is_to_be_placed(&self) -> bool {
        self.monitor.is_some() && self.target.access != Want::Stream
    }

    /// Looks how this guest's memory is reached in it, which is ready.
    pub(crate) async fn reach(&mut self, blocks: &RamBlocks) -> Result<(), String> {
        let want = self.target.access;
        self.reached = Some(Reached::find(self.monitor.as_ref(), blocks, want).await?);
        Ok(())
    }

    /// Nothing has come of it: QEMU waits on, set up as it was.
    pub(crate) async fn put_back(&mut self, voice: &Voice) {
        if let (Some(monitor), Some(before)) = (&self.monitor, self.before.take()) {
            before.put_back(monitor, voice).await;
        }
    }

    /// Connects the main channel.
    pub(crate) async fn connect(&self) -> Result<Main, String> {
        let target = Arc::clone(&self.target);
        let connecting = tokio::task::spawn_blocking(move || target.channel());
        let channel = connecting.await.map_err(|error| error.to_string())??;
        let closer = channel.closer();
        let (reader, writer) = channel.split();
        Ok(Main {
            reader,
            writer,
            closer,
        })
    }

    /// Makes connections for further channels.
    pub(crate) fn connector(&self) -> super::relay::Connect {
        let target = Arc::clone(&self.target);
        Box::new(move || Ok(target.channel()?.split().1))
    }
}

impl Target {
    fn channel(&self) -> Result<Channel, String> {
        match &self.endpoint {
            Endpoint::Address(address) => {
                Channel::connect(address, LISTENS_WITHIN).map_err(|error| whole(&error))
            }
            Endpoint::Standard(channel) => channel
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take()
                .ok_or_else(|| "QEMU's standard streams carry one channel of one guest".to_owned()),
        }
    }
}

/// QEMU's names of capabilities that both ends set.
pub(crate) const RETURN_PATH: &str = "return-path";
/// The destination says when the guest may be stopped (8.1 and later).
pub(crate) const SWITCHOVER_ACK: &str = "switchover-ack";
