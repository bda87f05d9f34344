//! A handset on a real USB bus, by the kernel's FunctionFS: as adbd serves it on a phone.
//!
//! ```text
//!   ep0 ◀── descriptors, strings            a thread for each endpoint:
//!   ep0 ──▶ ENABLE, DISABLE, SETUP          events, reader, writer
//!   ep1 ──▶ transfers ──▶ Framer ──▶ Source ──▶ session
//!   ep2 ◀── transfers ◀── header, payload ◀── Sink
//! ```
//!
//! The folder is a mounted instance of FunctionFS whose function stands in a configuration of a gadget; the gadget can be bound to
//! a device controller once [`FunctionFs::open`] has returned.
//!
//! Invariant: a session never sees a byte, and a host never gets one, of the session before.

mod descriptors;
mod framer;

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::device::Device;
use crate::link::{Sink, Source};
use crate::session::Handset;
use crate::wire::{HEADER_BYTES, Message, Sums, Terms, WireError};
use descriptors::Protocol;
use framer::{Framed, Framer};

pub(crate) use framer::exercise;

/// Bytes of one transfer at most: what one read or write hands to the kernel.
const TRANSFER_BYTES_MAX: usize = 256 * 1024;

/// Messages that wait between a thread and the session.
const WAITING_MESSAGES_MAX: usize = 4;

/// What the reader's thread has to tell.
enum Incoming {
    Message(Message),
    /// What came is no ADB, or the bus failed.
    Failed(WireError),
    /// The host is gone: unplugged, or the bus was reset.
    Gone,
}

/// What carries a message that is spoilt on its way: the transfers instead of header and payload, or `None` where it is not.
pub type Carrier = Box<dyn FnMut(&[u8; HEADER_BYTES], &Bytes) -> Option<Vec<Bytes>> + Send>;

/// An ADB function that a host can find.
pub struct FunctionFs {
    incoming: mpsc::Receiver<Incoming>,
    outgoing: mpsc::Sender<(u64, Message, Sums)>,
    shared: Arc<Shared>,
}

/// What the threads and the session share.
struct Shared {
    terms: Mutex<Terms>,
    /// The session whose messages may go out.
    session: AtomicU64,
    /// The last session that could not be written to.
    lost: AtomicU64,
}

impl Shared {
    fn terms(&self) -> Terms {
        *self.terms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FunctionFs {
    /// Describes the function in `folder` and begins to serve its endpoints; `carrier` is asked for each message to the host.
    ///
    /// # Errors
    /// There is no FunctionFS, or somebody serves it already.
    pub fn open(folder: &Path, terms: Terms, carrier: Carrier) -> io::Result<Self> {
        let control = describe(folder, Protocol::Adb)?;
        // They are there once the descriptors are.
        let (from_host, to_host) = (endpoint(folder, "ep1")?, endpoint(folder, "ep2")?);
        let (tell, incoming) = mpsc::channel(WAITING_MESSAGES_MAX);
        let (outgoing, to_send) = mpsc::channel(WAITING_MESSAGES_MAX);
        let shared = Arc::new(Shared { terms: Mutex::new(terms), session: AtomicU64::new(0), lost: AtomicU64::new(0) });
        let thread = |name: &str| std::thread::Builder::new().name(format!("functionfs-{name}"));
        let (for_reader, for_writer) = (Arc::clone(&shared), Arc::clone(&shared));
        thread("events").spawn(move || answer_events(control))?;
        thread("reader").spawn(move || read_all(&from_host, &tell, &for_reader))?;
        thread("writer").spawn(move || write_all(&to_host, to_send, &for_writer, carrier))?;
        Ok(Self { incoming, outgoing, shared })
    }

    /// Serves one host after the other, until the function is taken away.
    pub async fn serve<D: Device>(&mut self, handset: &Handset<D>) {
        loop {
            let session = self.shared.session.fetch_add(1, Ordering::SeqCst) + 1;
            *self.shared.terms.lock().unwrap_or_else(PoisonError::into_inner) = handset.terms();
            let mut over = false;
            let source = UsbSource { incoming: &mut self.incoming, shared: &self.shared, over: &mut over };
            let sink = UsbSink { outgoing: self.outgoing.clone(), session, shared: Arc::clone(&self.shared) };
            if let Err(error) = handset.serve_messages(source, sink).await {
                let error = &error as &dyn std::error::Error;
                tracing::debug!(error, "an ADB connection over USB broke off");
            }
            if over {
                return;
            }
        }
    }
}

/// A bootloader's function that a host can find, as long as this lives. It answers no command: what a bootloader does is the maker's.
#[derive(Debug)]
pub struct Fastboot {
    _control: File,
}

impl Fastboot {
    /// Describes the function in `folder`.
    ///
    /// # Errors
    /// There is no FunctionFS, or somebody serves it already.
    pub fn open(folder: &Path) -> io::Result<Self> {
        Ok(Self { _control: describe(folder, Protocol::Fastboot)? })
    }
}

/// A function that takes whatever a host sends and sends zeros as long as a host takes them, over the endpoints of [`FunctionFs`] and in
/// its transfers: what a bus carries when nothing is made of the bytes.
#[derive(Debug)]
pub struct SourceSink;

impl SourceSink {
    /// Describes the function in `folder` and serves it on threads of its own, until it is taken away.
    ///
    /// # Errors
    /// There is no FunctionFS, or somebody serves it already.
    pub fn serve(folder: &Path) -> io::Result<()> {
        let control = describe(folder, Protocol::Bare)?;
        let (from_host, to_host) = (endpoint(folder, "ep1")?, endpoint(folder, "ep2")?);
        let thread = |name: &str| std::thread::Builder::new().name(format!("functionfs-{name}"));
        thread("events").spawn(move || answer_events(control))?;
        thread("sink").spawn(move || {
            let mut room = vec![0; TRANSFER_BYTES_MAX];
            repeat(|| (&from_host).read(&mut room).map(drop));
        })?;
        thread("source").spawn(move || repeat(|| (&to_host).write_all(&[0; TRANSFER_BYTES_MAX])))?;
        Ok(())
    }
}

/// Does it again and again, for one host after the other, until no host can come any more.
fn repeat(mut once: impl FnMut() -> io::Result<()>) {
    while !once().is_err_and(|error| is_over(&error)) {}
}

/// Tells the kernel what the function in `folder` is; gives its endpoint 0.
fn describe(folder: &Path, protocol: Protocol) -> io::Result<File> {
    let mut control = endpoint(folder, "ep0")?;
    control.write_all(&descriptors::descriptors(protocol))?;
    control.write_all(&descriptors::strings(protocol))?;
    Ok(control)
}

fn endpoint(folder: &Path, name: &str) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(folder.join(name))
}

/// Messages that come over USB.
struct UsbSource<'a> {
    incoming: &'a mut mpsc::Receiver<Incoming>,
    shared: &'a Shared,
    /// Set when no host can ever come again.
    over: &'a mut bool,
}

impl Source for UsbSource<'_> {
    async fn next(&mut self) -> Option<Result<Message, WireError>> {
        match self.incoming.recv().await {
            Some(Incoming::Message(message)) => Some(Ok(message)),
            Some(Incoming::Failed(error)) => Some(Err(error)),
            Some(Incoming::Gone) => None,
            None => {
                *self.over = true;
                None
            }
        }
    }

    fn agree(&mut self, terms: Terms) {
        *self.shared.terms.lock().unwrap_or_else(PoisonError::into_inner) = terms;
    }
}

/// Messages that go over USB.
struct UsbSink {
    outgoing: mpsc::Sender<(u64, Message, Sums)>,
    session: u64,
    shared: Arc<Shared>,
}

impl Sink for UsbSink {
    async fn send(&mut self, message: Message, sums: Sums) -> io::Result<()> {
        if self.shared.lost.load(Ordering::SeqCst) == self.session {
            return Err(io::ErrorKind::NotConnected.into());
        }
        self.outgoing.send((self.session, message, sums)).await.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// Reads messages until the function is taken away.
fn read_all(endpoint: &File, tell: &mpsc::Sender<Incoming>, shared: &Shared) {
    let mut framer = Framer::default();
    loop {
        let told = match (&*endpoint).read(framer.room(TRANSFER_BYTES_MAX)) {
            Ok(bytes) => match framer.filled(bytes, shared.terms()) {
                Ok(Framed::Message(message)) => Incoming::Message(message),
                Ok(Framed::More) => continue,
                Err(error) => Incoming::Failed(error),
            },
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if is_over(&error) => return,
            Err(error) => {
                tracing::debug!(%error, "the host is gone");
                framer = Framer::default();
                Incoming::Gone
            }
        };
        if tell.blocking_send(told).is_err() {
            return;
        }
    }
}

/// Writes the messages of the session that is on, until there is no phone any more.
fn write_all(
    endpoint: &File,
    mut messages: mpsc::Receiver<(u64, Message, Sums)>,
    shared: &Shared,
    mut carrier: Carrier,
) {
    while let Some((session, message, sums)) = messages.blocking_recv() {
        if session != shared.session.load(Ordering::SeqCst) || session == shared.lost.load(Ordering::SeqCst) {
            continue;
        }
        let header = message.header(sums);
        let written = match carrier(&header, &message.payload) {
            Some(spoilt) => write_each(endpoint, spoilt.iter().map(|transfer| &transfer[..])),
            None => {
                write_each(endpoint, std::iter::once(&header[..]).chain(message.payload.chunks(TRANSFER_BYTES_MAX)))
            }
        };
        if let Err(error) = written {
            tracing::debug!(%error, "the host takes nothing any more");
            shared.lost.store(session, Ordering::SeqCst);
        }
    }
}

fn write_each<'a>(mut endpoint: &File, transfers: impl Iterator<Item = &'a [u8]>) -> io::Result<()> {
    for transfer in transfers {
        endpoint.write_all(transfer)?;
    }
    Ok(())
}

/// Whether no host can come any more: the instance is not mounted, or its gadget is gone (ENODEV).
fn is_over(error: &io::Error) -> bool {
    const ENODEV: i32 = 19;
    error.raw_os_error() == Some(ENODEV)
}

/// Takes what the kernel tells at ep0, and answers requests to the interface, of which ADB has none, as adbd does: by nothing.
fn answer_events(mut control: File) {
    let mut event = [0; descriptors::EVENT_BYTES];
    loop {
        match control.read(&mut event) {
            Ok(descriptors::EVENT_BYTES) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Ok(_) | Err(_) => return,
        }
        tracing::debug!(event = descriptors::event_name(&event), "the bus");
        let answered = match descriptors::setup(&event) {
            None => continue,
            Some(descriptors::Setup::ToHost) => control.write(&[]),
            Some(descriptors::Setup::FromHost { bytes }) => control.read(&mut vec![0; usize::from(bytes)]),
        };
        if let Err(error) = answered {
            tracing::debug!(%error, "a request to the interface could not be answered");
        }
    }
}
