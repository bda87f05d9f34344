//! Files from the handset.

use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use lz4_flex::frame::FrameDecoder;
use tokio::sync::{mpsc, watch};

use super::data::{DataDecoder, Piece};
use super::dialogue::{SyncError, check_path, next_chunk};
use super::push::Compression;
use super::{Request, WireCompression};
use crate::adb::driver::{Adb, Stream};

/// How many chunks wait for the disk at most: as much as one window of the wire.
const CHUNKS_MAX: usize = 8;

/// How to pull.
#[derive(Clone, Debug, Default)]
pub struct PullOptions {
    /// Whether the handset compresses.
    pub compression: Compression,
    /// Told the bytes that came over the wire.
    pub progress: Option<watch::Sender<u64>>,
}

impl Adb {
    /// Reads a file of the handset into one of the host's, from its current position on, and gives how many bytes were written.
    ///
    /// # Errors
    /// Why the file is not whole.
    pub async fn pull(&self, path: &str, into: Arc<File>, options: &PullOptions) -> Result<u64, SyncError> {
        let (pieces, queue) = mpsc::channel(CHUNKS_MAX);
        let lz4 = self.is_compressed(options.compression);
        // A disk may stand still: it is written on a thread of its own.
        let write = if lz4 { write_decompressed } else { write_pieces };
        let writing = tokio::task::spawn_blocking(move || write(queue, &into));
        let received = self.pull_pieces(path, options, pieces).await;
        let written = writing.await.map_err(io::Error::other).and_then(|written| written).map_err(SyncError::Target)?;
        received.map(|()| written)
    }

    /// Reads a file of the handset, as it comes: `pieces` gets its chunks. A queue whose other end is gone ends it early without
    /// an error: whoever dropped it knows why. What goes through the queue is compressed if that was wanted and is offered.
    pub(super) async fn pull_pieces(
        &self,
        path: &str,
        options: &PullOptions,
        pieces: mpsc::Sender<Vec<Bytes>>,
    ) -> Result<(), SyncError> {
        check_path(path)?;
        let stream = self.open("sync:").await?;
        let path = path.to_owned();
        let request = if self.is_compressed(options.compression) {
            Request::ReceiveV2 { path, compression: WireCompression::Lz4 }
        } else {
            Request::Receive { path }
        };
        stream.write(request.emit()).await?;
        receive(&stream, &pieces, options.progress.as_ref()).await?;
        // So that adbd's side ends by itself.
        let _ = stream.write(Request::Quit.emit()).await;
        Ok(())
    }

    /// Reads a file of the handset, uncompressed, into a queue.
    ///
    /// # Errors
    /// Why the file is not whole.
    pub async fn pull_into(
        &self,
        path: &str,
        progress: Option<watch::Sender<u64>>,
        chunks: mpsc::Sender<Vec<Bytes>>,
    ) -> Result<(), SyncError> {
        self.pull_pieces(path, &PullOptions { compression: Compression::None, progress }, chunks).await
    }

    fn is_compressed(&self, wanted: Compression) -> bool {
        wanted == Compression::Lz4 && self.banner().offers("sendrecv_v2_lz4")
    }
}

async fn receive(
    stream: &Stream,
    pieces: &mpsc::Sender<Vec<Bytes>>,
    progress: Option<&watch::Sender<u64>>,
) -> Result<(), SyncError> {
    let (mut decoder, mut total) = (DataDecoder::default(), 0);
    loop {
        decoder.push(next_chunk(stream, "the next part of a file").await?);
        let mut end = None;
        let mut batch = Vec::new();
        while let Some(piece) = decoder.next_piece()? {
            match piece {
                Piece::Bytes(bytes) => {
                    total += bytes.len() as u64;
                    batch.push(bytes);
                }
                Piece::Done => end = Some(Ok(())),
                Piece::Fail(message) => end = Some(Err(SyncError::Failed(message))),
            }
        }
        if !batch.is_empty() && pieces.send(batch).await.is_err() {
            return Ok(());
        }
        if let Some(progress) = progress {
            progress.send_replace(total);
        }
        if let Some(end) = end {
            return end;
        }
    }
}

fn write_pieces(mut queue: mpsc::Receiver<Vec<Bytes>>, mut into: &File) -> io::Result<u64> {
    let mut total = 0;
    while let Some(mut pieces) = queue.blocking_recv() {
        // All that has come meanwhile goes with one call.
        while let Ok(more) = queue.try_recv() {
            pieces.extend(more);
        }
        let mut slices: Vec<_> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
        let mut rest = slices.as_mut_slice();
        while !rest.is_empty() {
            match into.write_vectored(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    total += written as u64;
                    IoSlice::advance_slices(&mut rest, written);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(total)
}

fn write_decompressed(queue: mpsc::Receiver<Vec<Bytes>>, mut into: &File) -> io::Result<u64> {
    let compressed = QueueReader { queue, pieces: Vec::new().into_iter(), now: Bytes::new() };
    io::copy(&mut FrameDecoder::new(compressed), &mut into)
}

/// What comes through a queue, as something to be read.
struct QueueReader {
    queue: mpsc::Receiver<Vec<Bytes>>,
    pieces: std::vec::IntoIter<Bytes>,
    now: Bytes,
}

impl Read for QueueReader {
    fn read(&mut self, place: &mut [u8]) -> io::Result<usize> {
        while self.now.is_empty() {
            match self.pieces.next() {
                Some(piece) => self.now = piece,
                None => match self.queue.blocking_recv() {
                    Some(pieces) => self.pieces = pieces.into_iter(),
                    None => return Ok(0),
                },
            }
        }
        let len = self.now.len().min(place.len());
        self.now.copy_to_slice(place.get_mut(..len).unwrap_or_default());
        Ok(len)
    }
}
