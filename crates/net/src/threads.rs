//! The threads of the way in or out, and the connections that some of them wait for.

use std::net::{Shutdown, TcpStream};
use std::thread::{self, JoinHandle};

use crate::Error;

#[derive(Debug, Default)]
pub(crate) struct Threads {
    threads: Vec<JoinHandle<()>>,
    connections: Vec<TcpStream>,
}

impl Threads {
    pub(crate) fn spawn(
        &mut self,
        name: String,
        work: impl FnOnce() + Send + 'static,
    ) -> Result<(), Error> {
        let thread = thread::Builder::new().name(name).spawn(work);
        self.threads.push(thread.map_err(Error::Thread)?);
        Ok(())
    }

    /// Some thread will read or write this, however long it takes: [`Self::end`] cuts it.
    pub(crate) fn wait_for(&mut self, connection: &TcpStream) -> Result<(), Error> {
        let connection = connection.try_clone().map_err(Error::Thread)?;
        self.connections.push(connection);
        Ok(())
    }

    /// Cuts the connections, and waits until the threads have ended: whatever else they wait for must be over already.
    pub(crate) fn end(&mut self) {
        for connection in self.connections.drain(..) {
            // Fails when it is gone already.
            let _ = connection.shutdown(Shutdown::Both);
        }
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}
