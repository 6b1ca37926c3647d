//! The control channel's connection: TLS outside, frames inside.
//!
//! ```text
//!  TcpStream ─▶ TLS handshake ─▶ Secured ─▶ split ─┬─▶ Sender    frames in, written by a task of its own
//!                                 │                └─▶ Receiver  messages out, one at a time
//!                                 └─ exporter, certificates
//! ```

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};
use sealift_seal::Exporter;
use sealift_session::control::{Decoder, Frame, Received};
use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf, split};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use crate::Error;

/// How long a TLS handshake may take: two round trips and a signature at each end; this leaves room for losses on a slow link.
pub const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);

/// How long the peer may take to close its end once this one is closed. It reads that at once, a round trip later; this leaves room for a
/// lost packet.
const LINGER: Duration = Duration::from_secs(2);

/// Frames that may wait to be written. A receiver acknowledges a few times in each round trip and forwards a return path of some ten
/// messages: with more than this waiting the peer has stopped reading.
const WAITING_MAX: usize = 1024;

/// Bytes taken off the connection at once; most messages are below 100.
const READ: usize = 16 << 10;

/// A control channel whose ends have proven who they are.
pub struct Secured {
    stream: TlsStream<TcpStream>,
}

impl std::fmt::Debug for Secured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secured(..)")
    }
}

impl Secured {
    /// The source's end: expects a peer whose certificate is for `name`.
    ///
    /// # Errors
    /// [`Error::Tls`], [`Error::Lost`], [`Error::Silent`].
    pub async fn connect(
        stream: TcpStream,
        name: ServerName<'static>,
        config: Arc<ClientConfig>,
    ) -> Result<Self, Error> {
        prepare(&stream);
        let handshake = TlsConnector::from(config).connect(name, stream);
        Ok(Self {
            stream: within_handshake(handshake).await?.into(),
        })
    }

    /// The receiver's end.
    ///
    /// # Errors
    /// [`Error::Tls`], [`Error::Lost`], [`Error::Silent`].
    pub async fn accept(stream: TcpStream, config: Arc<ServerConfig>) -> Result<Self, Error> {
        prepare(&stream);
        let handshake = TlsAcceptor::from(config).accept(stream);
        Ok(Self {
            stream: within_handshake(handshake).await?.into(),
        })
    }

    /// What TLS knows of the connection: the peer's certificate among it.
    #[must_use]
    pub fn tls(&self) -> &rustls::CommonState {
        self.stream.get_ref().1
    }

    /// Where the peer's end of the connection is: the lanes go there as well.
    ///
    /// # Errors
    /// [`Error::Lost`].
    pub fn peer_address(&self) -> Result<std::net::SocketAddr, Error> {
        self.stream.get_ref().0.peer_addr().map_err(Error::Lost)
    }

    /// The secret that only the two ends of this connection know.
    ///
    /// # Errors
    /// [`Error::Tls`].
    pub fn exporter(&self) -> Result<Exporter, Error> {
        Exporter::fill(|bytes| {
            match &self.stream {
                TlsStream::Client(stream) => {
                    let session = stream.get_ref().1;
                    session.export_keying_material(bytes, Exporter::LABEL, None)
                }
                TlsStream::Server(stream) => {
                    let session = stream.get_ref().1;
                    session.export_keying_material(bytes, Exporter::LABEL, None)
                }
            }
            .map(drop)
        })
        .map_err(Error::Tls)
    }

    /// Both directions, to be used by whoever needs them. Must be called within a runtime.
    #[must_use]
    pub fn split(self) -> (Sender, Receiver) {
        let (reader, writer) = split(self.stream);
        let reader = Arc::new(Mutex::new(reader));
        let (frames, waiting) = mpsc::channel(WAITING_MAX);
        let task = tokio::spawn(write(writer, waiting));
        (
            Sender {
                frames,
                task,
                reader: Arc::clone(&reader),
            },
            Receiver {
                reader,
                decoder: Decoder::new(),
                buffer: vec![0; READ].into_boxed_slice(),
                filled: 0..0,
                ended: false,
            },
        )
    }
}

fn prepare(stream: &TcpStream) {
    // Messages are small and somebody waits for each. An error here costs time, nothing else.
    let _ = stream.set_nodelay(true);
    let keepalive = socket2::TcpKeepalive::new().with_time(Duration::from_secs(30));
    let _ = SockRef::from(stream).set_tcp_keepalive(&keepalive);
}

async fn within_handshake<T>(
    handshake: impl Future<Output = std::io::Result<T>>,
) -> Result<T, Error> {
    match timeout(HANDSHAKE_WITHIN, handshake).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(Error::of_stream(error)),
        Err(_) => Err(Error::Silent(HANDSHAKE_WITHIN)),
    }
}

/// The way out.
#[derive(Debug)]
pub struct Sender {
    frames: mpsc::Sender<Frame>,
    task: JoinHandle<Result<(), Error>>,
    /// The other direction, which [`Self::close`] reads to its end.
    reader: Reader,
}

/// The way in, as TLS gives it.
type Reader = Arc<Mutex<ReadHalf<TlsStream<TcpStream>>>>;

impl Sender {
    /// Queues a frame.
    ///
    /// # Errors
    /// [`Error::Stuck`] when the peer has not taken the last thousand; [`Error::Closed`] when the connection is gone. Which of its
    /// errors ended it the [`Receiver`] says.
    pub fn send(&self, frame: Frame) -> Result<(), Error> {
        self.frames.try_send(frame).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Error::Stuck,
            mpsc::error::TrySendError::Closed(_) => Error::Closed,
        })
    }

    /// Writes what is queued, then ends this direction. Gives up after `within`.
    ///
    /// What the peer still sends is read and forgotten, until it closes its end as well: a connection that is closed with something unread
    /// is reset, and what was said last would be lost on its way.
    pub async fn close(self, within: Duration) {
        let Self {
            frames,
            task,
            reader,
        } = self;
        drop(frames);
        let abort = task.abort_handle();
        if timeout(within, task).await.is_err() {
            return abort.abort();
        }
        let to_the_end = async {
            let mut forgotten = vec![0; READ];
            let mut reader = reader.lock().await;
            while let Ok(1..) = reader.read(&mut forgotten).await {}
        };
        // A peer that does not close loses what it has not read by then.
        let _ = timeout(LINGER, to_the_end).await;
    }
}

async fn write(
    mut writer: WriteHalf<TlsStream<TcpStream>>,
    mut waiting: mpsc::Receiver<Frame>,
) -> Result<(), Error> {
    while let Some(frame) = waiting.recv().await {
        writer
            .write_all(frame.as_bytes())
            .await
            .map_err(Error::of_stream)?;
        if waiting.is_empty() {
            writer.flush().await.map_err(Error::of_stream)?;
        }
    }
    writer.shutdown().await.map_err(Error::of_stream)
}

/// The way in.
pub struct Receiver {
    reader: Reader,
    decoder: Decoder,
    buffer: Box<[u8]>,
    /// What of the buffer has arrived and is not decoded.
    filled: std::ops::Range<usize>,
    /// An error was returned.
    ended: bool,
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Receiver(..)")
    }
}

impl Receiver {
    /// The next message. Dropping the future loses nothing.
    ///
    /// An error is the last that is heard: from then on nothing comes any more. Whoever waits for this and for other things is told once,
    /// and not kept from the others.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::Lost`], [`Error::Tls`] (a TLS peer refuses a client's certificate only after its handshake is
    /// over), [`Error::Frame`].
    pub async fn receive(&mut self) -> Result<Received, Error> {
        if self.ended {
            return pending().await;
        }
        let received = self.read().await;
        self.ended = received.is_err();
        received
    }

    async fn read(&mut self) -> Result<Received, Error> {
        loop {
            let mut rest = self.buffer.get(self.filled.clone()).unwrap_or_default();
            let received = self.decoder.next(&mut rest).map_err(Error::Frame)?;
            self.filled.start = self.filled.end - rest.len();
            if let Some(received) = received {
                return Ok(received);
            }
            let read = self.reader.lock().await.read(&mut self.buffer).await;
            self.filled = match read {
                Ok(0) => return Err(Error::Closed),
                Ok(read) => 0..read,
                // The peer went without TLS's goodbye.
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                    return Err(Error::Closed);
                }
                Err(error) => return Err(Error::of_stream(error)),
            };
        }
    }

    /// [`Self::receive`], but not for longer than `within`.
    ///
    /// # Errors
    /// Those of [`Self::receive`], and [`Error::Silent`].
    pub async fn receive_within(&mut self, within: Duration) -> Result<Received, Error> {
        timeout(within, self.receive())
            .await
            .map_err(|_| Error::Silent(within))?
    }

    /// The peer's hello was found good: see [`Decoder::accept_hello`].
    pub const fn accept_hello(&mut self) {
        self.decoder.accept_hello();
    }
}
