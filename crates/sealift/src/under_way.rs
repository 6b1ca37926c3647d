//! What a session has under way beside its loop: orders to QEMU, reading memory, digests. Each comes back as something that has happened.
//!
//! ```text
//!  loop ── start ──▶ task, or thread ──┐
//!   ▲                                  │ what came of it, if that matters
//!   └──────────── [done] ◀─────────────┘
//! ```
//!
//! None of it ends with the session, and nothing waits for it: what must be done before the program ends is awaited where it is ordered.

use std::future::Future;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Starts things, and lets what comes of them come back as an `E`.
pub(crate) struct UnderWay<E>(UnboundedSender<E>);

impl<E: Send + 'static> UnderWay<E> {
    /// It, and where what is done comes out.
    pub(crate) fn new() -> (Self, UnboundedReceiver<E>) {
        let (done, finished) = unbounded_channel();
        (Self(done), finished)
    }

    /// Starts something that waits.
    pub(crate) fn start(&self, task: impl Future<Output = Option<E>> + Send + 'static) {
        let done = self.0.clone();
        tokio::spawn(async move {
            if let Some(event) = task.await {
                // The session has ended when nobody listens.
                let _ = done.send(event);
            }
        });
    }

    /// Starts something that computes.
    pub(crate) fn compute(&self, task: impl FnOnce() -> E + Send + 'static) {
        let done = self.0.clone();
        tokio::task::spawn_blocking(move || {
            // The same.
            let _ = done.send(task());
        });
    }
}
