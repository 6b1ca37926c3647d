//! Taking a guest's stream from one QEMU and, later, giving a stream to another.

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;

use serde_json::{Value, json};

use crate::guest::{Guest, PATIENCE};
use crate::migration::wait_completed;
use crate::{Context, Error};

/// Lets the guest migrate into memory. It is stopped afterwards, and its QEMU believes it to be elsewhere.
pub fn capture(source: &mut Guest) -> Result<Vec<u8>, Error> {
    let path = source.path("capture");
    let listener =
        UnixListener::bind(&path).context(format!("cannot listen at {}", path.display()))?;
    let reader = thread::spawn(move || {
        let (mut connection, _) = listener.accept()?;
        let mut stream = Vec::new();
        connection.read_to_end(&mut stream).map(|_| stream)
    });
    source.qmp().execute("migrate", uri(&path))?;
    wait_completed(source).context("the source")?;
    reader
        .join()
        .map_err(|_| Error::new("the reader of the stream panicked"))?
        .context("reading the stream")
}

/// Gives a stream to a QEMU that was launched to wait for one.
pub fn load(destination: &mut Guest, stream: &[u8]) -> Result<(), Error> {
    let path = destination.path("load");
    destination.qmp().execute("migrate-incoming", uri(&path))?;
    let mut connection =
        UnixStream::connect(&path).context(format!("cannot connect to {}", path.display()))?;
    connection
        .set_write_timeout(Some(PATIENCE))
        .context("a deadline for QEMU")?;
    connection
        .write_all(stream)
        .context("giving the stream to QEMU")?;
    drop(connection);
    wait_completed(destination).context("the destination")
}

fn uri(path: &std::path::Path) -> Value {
    json!({ "uri": format!("unix:{}", path.display()) })
}
