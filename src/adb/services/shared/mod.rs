//! A file that goes to many phones at once, and is read once for all that are in step.
//!
//! ```text
//!     SharedFiles ──▶ readings under way, at most BLOCKS_MAX blocks in their windows together
//!          │
//!          └ open ──▶ SharedFile ──▶ Reader ──▶ a seat in a reading ── parted ──▶ in another one, or by itself
//! ```
//!
//! [`scan`] decides; this reads on the blocking threads, and wakes who waits. A phone that is too slow for one reading goes on in another,
//! with others like it, and where there is no memory for one more by small pieces of its own.

mod scan;

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::{Bytes, BytesMut};
use tokio::sync::watch;
use tokio::time::Instant;

use self::scan::{ReaderId, Scan, Step};
use super::batches::{Batch, Buffers};
use crate::clock::Moment;

/// What is read at once, in bytes: the largest payload of ADB, so that a block goes to the wire as it is.
const BLOCK_LEN: usize = 1 << 20;
/// A file of so many blocks stays whole while it is read.
const WHOLE_MAX: usize = 16;
/// How many blocks of a larger one are kept: what phones that share a processor drift apart.
const WINDOW: usize = 8;
/// All readings together keep no more blocks than this.
const BLOCKS_MAX: usize = 32;
/// What a phone reads at once that is by itself, in bytes.
const ALONE_LEN: usize = 128 << 10;
/// How often a phone looks for another reading, after which it goes on by itself.
const SEATS_MAX: usize = 3;

/// The files that phones are sent now. Its clones are the same.
#[derive(Clone, Debug, Default)]
pub struct SharedFiles {
    readings: Arc<Mutex<Vec<Weak<Reading>>>>,
}

/// A file that is read once for all who send it at a time.
#[derive(Debug)]
pub struct SharedFile {
    file: Arc<File>,
    identity: Identity,
    files: SharedFiles,
    /// It has its seat from the start: who begins with others is in step with them, however long his phone takes to answer first.
    first: Mutex<Option<Seat>>,
}

impl SharedFiles {
    /// Opens a file to be sent.
    ///
    /// # Errors
    /// It can't be opened, or its size can't be told.
    pub fn open(&self, path: &Path) -> io::Result<SharedFile> {
        let file = File::open(path)?;
        let identity = Identity::of(&file.metadata()?);
        let file = Arc::new(file);
        let first = Mutex::new(self.seat(&file, identity, 0));
        Ok(SharedFile { file, identity, files: self.clone(), first })
    }

    /// A seat in a reading that has block `at` still or next; in a new one if there is memory for it.
    fn seat(&self, file: &Arc<File>, identity: Identity, at: u64) -> Option<Seat> {
        let mut readings = lock(&self.readings);
        readings.retain(|reading| reading.strong_count() > 0);
        let live: Vec<Arc<Reading>> = readings.iter().filter_map(Weak::upgrade).collect();
        let same = live.iter().filter(|reading| reading.identity == identity);
        if let Some(seat) = same.filter_map(|reading| Seat::take(reading, at)).next() {
            return Some(seat);
        }
        let taken = live.iter().map(|reading| lock(&reading.scan).window()).sum();
        let window = window(identity.blocks().saturating_sub(at), taken)?;
        let reading = Arc::new(Reading::new(Arc::clone(file), identity, at, window));
        readings.push(Arc::downgrade(&reading));
        Seat::take(&reading, at)
    }
}

/// How many blocks a reading of `blocks` keeps while others keep `taken`; none if it would be too few to be of use.
fn window(blocks: u64, taken: usize) -> Option<usize> {
    let blocks = usize::try_from(blocks).unwrap_or(usize::MAX);
    let wanted = if blocks <= WHOLE_MAX { blocks.max(1) } else { WINDOW };
    let window = wanted.min(BLOCKS_MAX.saturating_sub(taken));
    (window >= wanted.min(WINDOW)).then_some(window)
}

impl SharedFile {
    /// Its size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.identity.size
    }

    /// Its bytes from the first one on.
    #[must_use]
    pub fn reader(&self) -> Reader {
        let first = lock(&self.first).take();
        let seat = first.or_else(|| self.files.seat(&self.file, self.identity, 0));
        let (file, files) = (Arc::clone(&self.file), self.files.clone());
        Reader { file, files, identity: self.identity, at: 0, seat, seats: 1 }
    }
}

/// By what a file is known as the same: one that was changed or replaced meanwhile is another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    changed_s: i64,
    changed_ns: i64,
}

impl Identity {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            changed_s: metadata.mtime(),
            changed_ns: metadata.mtime_nsec(),
        }
    }

    fn blocks(self) -> u64 {
        self.size.div_ceil(BLOCK_LEN as u64)
    }
}

/// One reading of a file, for all who have a seat in it.
#[derive(Debug)]
struct Reading {
    file: Arc<File>,
    identity: Identity,
    begun: Instant,
    scan: Mutex<Scan>,
    buffers: Mutex<Buffers>,
    /// What the scan has changed to.
    changes: watch::Sender<u64>,
}

impl Reading {
    fn new(file: Arc<File>, identity: Identity, at: u64, window: usize) -> Self {
        Self {
            file,
            identity,
            begun: Instant::now(),
            scan: Mutex::new(Scan::new(at, identity.blocks(), window, Moment::START)),
            buffers: Mutex::new(Buffers::of(window)),
            changes: watch::Sender::new(0),
        }
    }

    /// Does something with the scan, and wakes who waits if that changed anything.
    fn with<T>(&self, act: impl FnOnce(&mut Scan, Moment) -> T) -> T {
        let mut scan = lock(&self.scan);
        let done = act(&mut scan, Moment::from_start(self.begun.elapsed()));
        let changes = scan.changes();
        drop(scan);
        self.changes.send_if_modified(|told| std::mem::replace(told, changes) != changes);
        done
    }

    /// Reads a block for all; blocks.
    fn load(&self, index: u64) -> io::Result<()> {
        let at = index * BLOCK_LEN as u64;
        let len = usize::try_from(self.identity.size.saturating_sub(at)).unwrap_or(usize::MAX).min(BLOCK_LEN);
        let mut buffer = lock(&self.buffers).take(BLOCK_LEN);
        let place = buffer.get_mut(..len).unwrap_or_default();
        match self.file.read_exact_at(place, at) {
            Ok(()) => {
                let bytes = lock(&self.buffers).give(buffer, len);
                self.with(|scan, _| scan.loaded(index, bytes));
                Ok(())
            }
            Err(error) => {
                self.with(|scan, _| scan.failed(index));
                Err(error)
            }
        }
    }
}

/// A place in a reading, which ends with this.
#[derive(Debug)]
struct Seat {
    reading: Arc<Reading>,
    id: ReaderId,
    changed: watch::Receiver<u64>,
}

impl Seat {
    fn take(reading: &Arc<Reading>, at: u64) -> Option<Self> {
        let id = reading.with(|scan, now| scan.join(at, now))?;
        Some(Self { reading: Arc::clone(reading), id, changed: reading.changes.subscribe() })
    }

    /// The next block, or how this seat ends. May be dropped: what is read for others goes on.
    async fn next(&mut self) -> io::Result<Step> {
        loop {
            // Seen before the question, so that no change is lost behind it.
            self.changed.borrow_and_update();
            match self.reading.with(|scan, now| scan.step(self.id, now)) {
                Step::Load(index) => {
                    let reading = Arc::clone(&self.reading);
                    tokio::task::spawn_blocking(move || reading.load(index)).await.map_err(io::Error::other)??;
                }
                // Another phone reads it, which the install's deadline bounds.
                Step::Wait(None) => self.changed.changed().await.map_err(io::Error::other)?,
                Step::Wait(Some(deadline)) => {
                    let until = self.reading.begun + deadline.at.since_start();
                    // Either way the scan is asked again.
                    let _ = tokio::time::timeout_at(until, self.changed.changed()).await;
                }
                step @ (Step::Take(_) | Step::Part(_) | Step::End) => return Ok(step),
            }
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.reading.with(|scan, now| scan.leave(self.id, now));
    }
}

/// The bytes of a shared file for one phone.
#[derive(Debug)]
pub struct Reader {
    file: Arc<File>,
    files: SharedFiles,
    identity: Identity,
    /// What it has got, in bytes.
    at: u64,
    seat: Option<Seat>,
    seats: usize,
}

impl Reader {
    /// The next bytes, at most [`BLOCK_LEN`]; none behind the last one.
    ///
    /// # Errors
    /// The file can't be read, or has become shorter.
    pub(super) async fn next(&mut self) -> io::Result<Option<Bytes>> {
        while let Some(seat) = &mut self.seat {
            match seat.next().await? {
                Step::Take(bytes) => {
                    self.at += bytes.len() as u64;
                    return Ok(Some(bytes));
                }
                Step::Part(block) => self.take_other_seat(block),
                Step::End | Step::Load(_) | Step::Wait(_) => {
                    self.seat = None;
                    return Ok(None);
                }
            }
        }
        self.next_alone().await
    }

    fn take_other_seat(&mut self, block: u64) {
        tracing::debug!(block, "a phone is out of step with the others that the file is read for");
        self.seat = None;
        if self.seats < SEATS_MAX {
            self.seats += 1;
            self.seat = self.files.seat(&self.file, self.identity, block);
        }
    }

    async fn next_alone(&mut self) -> io::Result<Option<Bytes>> {
        let left = self.identity.size.saturating_sub(self.at);
        let len = usize::try_from(left).unwrap_or(usize::MAX).min(ALONE_LEN);
        if len == 0 {
            return Ok(None);
        }
        let (file, at) = (Arc::clone(&self.file), self.at);
        let read = tokio::task::spawn_blocking(move || {
            let mut buffer = BytesMut::zeroed(len);
            file.read_exact_at(&mut buffer, at).map(|()| buffer.freeze())
        });
        let bytes = read.await.map_err(io::Error::other)??;
        self.at += len as u64;
        Ok(Some(bytes))
    }

    /// The same as a stream; it ends behind an error.
    pub(super) fn into_stream(self) -> impl futures_util::Stream<Item = io::Result<Bytes>> + Send {
        futures_util::stream::unfold(Some(self), |reader| async {
            let mut reader = reader?;
            match reader.next().await {
                Ok(Some(bytes)) => Some((Ok(bytes), Some(reader))),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        })
    }
}

/// What a [`Reader`] gives, in pieces for the wire.
pub(super) struct SharedBatches {
    reader: Reader,
    rest: Bytes,
    batch_len: usize,
}

impl SharedBatches {
    /// Pieces of `batch_len` bytes at most.
    pub(super) fn new(reader: Reader, batch_len: usize) -> Self {
        Self { reader, rest: Bytes::new(), batch_len }
    }

    /// The next one; none behind the last byte.
    pub(super) async fn next(&mut self) -> io::Result<Option<Batch>> {
        if self.rest.is_empty() {
            let Some(block) = self.reader.next().await? else { return Ok(None) };
            self.rest = block;
        }
        let bytes = self.rest.split_to(self.rest.len().min(self.batch_len));
        Ok(Some(Batch { source_len: bytes.len(), bytes }))
    }
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
