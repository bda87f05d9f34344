//! A service's end of a stream.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::connection::{Connection, Read, Write};
use crate::line::{Line, Signals};

/// The stream is closed: by the host, or since the connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the host closed the stream")]
pub struct Closed;

/// How long a host may take to answer an OPEN; it connects to somebody for it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Both halves of a stream.
pub(crate) struct Stream {
    writer: StreamWriter,
    /// What was taken from the host and not yet by the service.
    taken: Bytes,
}

/// The half of a stream that goes to the host.
#[derive(Clone)]
pub(crate) struct StreamWriter(Arc<Handle>);

/// The stream ends for the core when nobody holds it any more.
struct Handle {
    line: Line,
    local: u32,
    signals: Arc<Signals>,
    payload_bytes_max: usize,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.line.abandon(self.local);
    }
}

impl Stream {
    /// The stream that `action` makes; none if there are too many.
    pub(crate) fn begin(line: &Line, action: impl FnOnce(&mut Connection) -> Option<u32>) -> Option<Self> {
        let (local, signals) = line.begin(action)?;
        let payload_bytes_max = line.with(|core| core.payload_bytes_max());
        let handle = Handle { line: line.clone(), local, signals, payload_bytes_max };
        Some(Self { writer: StreamWriter(Arc::new(handle)), taken: Bytes::new() })
    }

    /// Opens a stream to `destination` at the host; `None` if the host refuses or does not answer.
    pub(crate) async fn open(line: &Line, destination: &str) -> Option<Self> {
        let stream = Self::begin(line, |core| core.open(destination))?;
        let answered = tokio::time::timeout(ANSWER_TIMEOUT, stream.writer.answered()).await;
        if let Ok(Ok(())) = answered {
            return Some(stream);
        }
        line.with(|core| core.close(stream.local()));
        None
    }

    /// Ends when the host closes the stream.
    pub(crate) fn closed(&self) -> impl Future<Output = ()> + Send + use<> {
        self.writer.0.signals.closed.clone().cancelled_owned()
    }

    /// Our id of it.
    pub(crate) fn local(&self) -> u32 {
        self.writer.0.local
    }

    /// The other half.
    pub(crate) fn writer(&self) -> StreamWriter {
        self.writer.clone()
    }

    /// The next bytes, however many came; `None` once the host closed the stream and all was read.
    pub(crate) async fn read(&mut self) -> Option<Bytes> {
        if !self.taken.is_empty() {
            return Some(std::mem::take(&mut self.taken));
        }
        let Handle { line, local, signals, .. } = &*self.writer.0;
        loop {
            match line.with(|core| core.read(*local)) {
                Read::Bytes(bytes) => return Some(bytes),
                Read::Closed => return None,
                Read::Nothing => tokio::select! {
                    () = signals.readable.notified() => {}
                    () = signals.closed.cancelled() => {}
                },
            }
        }
    }

    /// The next bytes, at most `bytes_max` of them.
    pub(crate) async fn read_some(&mut self, bytes_max: usize) -> Option<Bytes> {
        let mut bytes = self.read().await?;
        if bytes.len() > bytes_max {
            self.taken = bytes.split_off(bytes_max);
        }
        Some(bytes)
    }

    /// Exactly `count` bytes; `None` if the host closed the stream before.
    pub(crate) async fn read_exact(&mut self, count: usize) -> Option<Bytes> {
        let mut bytes = BytesMut::new();
        while bytes.len() < count {
            let some = self.read_some(count - bytes.len()).await?;
            if bytes.is_empty() && some.len() == count {
                return Some(some);
            }
            bytes.extend_from_slice(&some);
        }
        Some(bytes.freeze())
    }

    /// Sends all of `bytes` as the host makes room.
    pub(crate) async fn write(&self, bytes: impl Into<Bytes>) -> Result<(), Closed> {
        self.writer.write(bytes).await
    }

    /// Bytes of the largest message to the host.
    pub(crate) fn payload_bytes_max(&self) -> usize {
        self.writer.0.payload_bytes_max
    }
}

impl StreamWriter {
    /// Sends all of `bytes` as the host makes room.
    pub(crate) async fn write(&self, bytes: impl Into<Bytes>) -> Result<(), Closed> {
        let Handle { line, local, signals, .. } = &*self.0;
        let mut bytes = bytes.into();
        while !bytes.is_empty() {
            match line.with(|core| core.write(*local, &mut bytes)) {
                Write::Sent => {}
                Write::Closed => return Err(Closed),
                Write::Wait => self.woken(signals).await?,
            }
        }
        Ok(())
    }

    /// Waits until the host has answered our OPEN.
    async fn answered(&self) -> Result<(), Closed> {
        let Handle { line, local, signals, .. } = &*self.0;
        while !line.with(|core| core.is_writable(*local)) {
            self.woken(signals).await?;
        }
        Ok(())
    }

    async fn woken(&self, signals: &Signals) -> Result<(), Closed> {
        tokio::select! {
            () = signals.writable.notified() => Ok(()),
            () = signals.closed.cancelled() => Err(Closed),
        }
    }
}
