//! The streams of one connection, and the switchboard by which services open further ones.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::limits;
use crate::stream::{Flow, Shared, Stream};
use crate::wire::{Command, Message};

/// Work that goes on beside the others of a connection.
pub(crate) type Job = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The streams of a connection by our id.
#[derive(Clone, Default)]
pub(crate) struct Streams(Arc<Mutex<Table>>);

#[derive(Default)]
struct Table {
    open: BTreeMap<u32, Arc<Shared>>,
    last_id: u32,
}

impl Streams {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new stream, made by its id; `None` if there are too many.
    pub(crate) fn add(&self, make: impl FnOnce(u32) -> Arc<Shared>) -> Option<Arc<Shared>> {
        let mut table = self.lock();
        if table.open.len() >= limits::STREAMS_MAX {
            return None;
        }
        // With fewer streams than numbers there is a free one; 0 means "none".
        loop {
            table.last_id = table.last_id.wrapping_add(1);
            let id = table.last_id;
            if id != 0 && !table.open.contains_key(&id) {
                let shared = make(id);
                table.open.insert(id, Arc::clone(&shared));
                return Some(shared);
            }
        }
    }

    pub(crate) fn find(&self, local: u32) -> Option<Arc<Shared>> {
        self.lock().open.get(&local).cloned()
    }

    /// Takes the stream out; false if it was already.
    pub(crate) fn remove(&self, local: u32) -> bool {
        self.lock().open.remove(&local).map(|shared| shared.close()).is_some()
    }

    /// Takes all streams out, to be closed.
    pub(crate) fn take_all(&self) -> Vec<Arc<Shared>> {
        std::mem::take(&mut self.lock().open).into_values().collect()
    }
}

/// What a service needs in order to open a stream of its own.
#[derive(Clone)]
pub(crate) struct Switchboard {
    pub(crate) outgoing: mpsc::Sender<Message>,
    pub(crate) jobs: mpsc::Sender<Job>,
    pub(crate) streams: Streams,
    /// Whether CNXN agreed on it.
    pub(crate) delayed_ack: bool,
    /// Bytes of a message's payload, as agreed.
    pub(crate) payload_bytes_max: u32,
    /// Ends the connection.
    pub(crate) ends: CancellationToken,
}

impl Switchboard {
    /// How long a host may take to answer an OPEN; it connects to somebody for it.
    const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

    /// Opens a stream to `destination` at the host; `None` if the host refuses or does not answer.
    pub(crate) async fn open(&self, destination: &str) -> Option<Stream> {
        let (flow, window) = match self.delayed_ack {
            true => (Flow::Window { send_bytes: 0 }, limits::RECEIVE_WINDOW_BYTES),
            false => (Flow::StopAndWait, 0),
        };
        let shared = self.streams.add(|local| Shared::asked(local, flow))?;
        let local = shared.local();
        let stream = Stream::new(shared, self.outgoing.clone(), self.payload_bytes_max);
        let name = Bytes::from([destination.as_bytes(), b"\0"].concat());
        self.outgoing.send(Message::new(Command::OPEN, local, window, name)).await.ok()?;
        let answered = tokio::time::timeout(Self::ANSWER_TIMEOUT, stream.writer().writable()).await;
        if let Ok(Ok(())) = answered {
            return Some(stream);
        }
        self.streams.remove(local);
        None
    }

    /// Closes a stream of ours, and tells the host.
    pub(crate) async fn close(&self, local: u32) {
        let Some(shared) = self.streams.find(local) else { return };
        if self.streams.remove(local) && shared.remote() != 0 {
            // Fails only when the session has ended.
            let _ = self.outgoing.send(Message::new(Command::CLSE, local, shared.remote(), Bytes::new())).await;
        }
    }

    /// Ends the connection once all is sent that waits.
    pub(crate) fn hang_up(&self) {
        self.ends.cancel();
    }
}
