//! A file of the host in batches, each of which fills a WRTE: that is what makes ADB fast.
//!
//! Files are read on the blocking threads, one batch ahead of the wire, into buffers that are used again as soon as the wire is done
//! with them.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::pin::Pin;
use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};
use lz4_flex::frame::{BlockSize, FrameEncoder, FrameInfo};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::sync::{DATA_MAX, HEAD_LEN, head};

/// How many buffers are kept for use: two in the core's queue, one on the wire, one being filled.
const BUFFERS_MAX: usize = 4;

/// How much of a file is looked at to see whether compression pays, in bytes.
const SAMPLE_LEN: usize = 64 << 10;

/// Where the bytes come from.
pub enum Source<'a> {
    /// A regular file of the host, from its current position on.
    File(Arc<File>),
    /// Anything else.
    Stream(Pin<Box<dyn AsyncRead + Send + 'a>>),
}

impl<'a> Source<'a> {
    /// Whatever can be read.
    pub fn stream(stream: impl AsyncRead + Send + 'a) -> Self {
        Self::Stream(Box::pin(stream))
    }
}

impl From<File> for Source<'_> {
    fn from(file: File) -> Self {
        Self::File(Arc::new(file))
    }
}

impl From<Arc<File>> for Source<'_> {
    fn from(file: Arc<File>) -> Self {
        Self::File(file)
    }
}

impl<'a> From<&'a [u8]> for Source<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::stream(bytes)
    }
}

/// How the bytes stand in a batch.
pub(super) enum Layout {
    /// As they are.
    Plain,
    /// As DATA of `sync:`.
    Data,
    /// Compressed, as DATA of `sync:`.
    Lz4,
}

/// Some bytes for the wire.
pub(super) struct Batch {
    pub(super) bytes: Bytes,
    /// How many bytes of the source are in it.
    pub(super) source_len: usize,
}

/// The batches of one source.
pub(super) struct Batches<'a> {
    source: Source<'a>,
    /// Moved to the blocking threads and back.
    filler: Option<Filler>,
}

impl<'a> Batches<'a> {
    /// Batches of `batch_len` bytes; the first begins with `prefix`, which is shorter than that.
    pub(super) fn new(source: Source<'a>, layout: Layout, batch_len: usize, prefix: Bytes) -> Self {
        let encoder = match layout {
            Layout::Lz4 => {
                let frame = FrameInfo::new().block_size(BlockSize::Max64KB);
                Some(FrameEncoder::with_frame_info(frame, Vec::new()))
            }
            Layout::Plain | Layout::Data => None,
        };
        let framed = !matches!(layout, Layout::Plain);
        let filler = Filler { buffers: Buffers::of(BUFFERS_MAX), encoder, framed, batch_len, prefix, raw: Vec::new() };
        Self { source, filler: Some(filler) }
    }

    /// The next batch; none behind the last byte. Not cancel-safe.
    pub(super) async fn next(&mut self) -> io::Result<Option<Batch>> {
        let Some(mut filler) = self.filler.take() else { return Ok(None) };
        let (filler, batch) = match &mut self.source {
            Source::File(file) => {
                let file = Arc::clone(file);
                let filled = tokio::task::spawn_blocking(move || {
                    let batch = filler.fill(file.as_ref());
                    (filler, batch)
                });
                filled.await.map_err(io::Error::other)?
            }
            Source::Stream(stream) => {
                let mut raw = Vec::with_capacity(filler.room());
                while raw.len() < raw.capacity() {
                    let room = (raw.capacity() - raw.len()) as u64;
                    if (&mut *stream).take(room).read_buf(&mut raw).await? == 0 {
                        break;
                    }
                }
                let batch = filler.fill(raw.as_slice());
                (filler, batch)
            }
        };
        let batch = batch?;
        let is_end = batch.source_len == 0 && batch.bytes.is_empty();
        if !is_end {
            self.filler = Some(filler);
        }
        Ok((!is_end).then_some(batch))
    }
}

struct Filler {
    buffers: Buffers,
    encoder: Option<FrameEncoder<Vec<u8>>>,
    framed: bool,
    batch_len: usize,
    prefix: Bytes,
    /// What is read before it is compressed.
    raw: Vec<u8>,
}

impl Filler {
    /// How many bytes of the source one batch takes.
    fn room(&self) -> usize {
        let room = self.batch_len - self.prefix.len();
        if self.framed { room - room.div_ceil(DATA_MAX + HEAD_LEN) * HEAD_LEN } else { room }
    }

    fn fill(&mut self, mut source: impl io::Read) -> io::Result<Batch> {
        if self.encoder.is_some() {
            return self.compress(source);
        }
        let mut buffer = self.buffers.take(self.batch_len);
        let mut at = self.prefix.len();
        put(&mut buffer, 0, &self.prefix);
        let mut source_len = 0;
        loop {
            let head_len = if self.framed { HEAD_LEN } else { 0 };
            let room = self.batch_len.saturating_sub(at + head_len);
            let room = if self.framed { room.min(DATA_MAX) } else { room };
            let Some(place) = buffer.get_mut(at + head_len..at + head_len + room) else { break };
            let len = read_full(&mut source, place)?;
            if len == 0 {
                break;
            }
            if self.framed {
                put(&mut buffer, at, &head(*b"DATA", u32::try_from(len).unwrap_or(u32::MAX)));
            }
            at += head_len + len;
            source_len += len;
        }
        self.prefix = Bytes::new();
        Ok(Batch { bytes: self.buffers.give(buffer, at), source_len })
    }

    fn compress(&mut self, mut source: impl io::Read) -> io::Result<Batch> {
        let Some(encoder) = &mut self.encoder else { return Ok(Batch { bytes: Bytes::new(), source_len: 0 }) };
        self.raw.resize(self.batch_len, 0);
        let source_len = read_full(&mut source, &mut self.raw)?;
        encoder.write_all(self.raw.get(..source_len).unwrap_or_default())?;
        let compressed = if source_len < self.raw.len() {
            // The source's end, which is told once more by an empty batch.
            let encoder = self.encoder.take();
            self.framed = true;
            encoder.map(FrameEncoder::finish).transpose()?.unwrap_or_default()
        } else {
            std::mem::take(encoder.get_mut())
        };
        let mut bytes = BytesMut::from(std::mem::take(&mut self.prefix));
        for data in compressed.chunks(DATA_MAX) {
            bytes.put_slice(&head(*b"DATA", u32::try_from(data.len()).unwrap_or(u32::MAX)));
            bytes.put_slice(data);
        }
        Ok(Batch { bytes: bytes.freeze(), source_len })
    }
}

fn put(buffer: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = buffer.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

/// Reads until the place is full or the source has ended.
fn read_full(source: &mut impl io::Read, place: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while let Some(rest) = place.get_mut(len..).filter(|rest| !rest.is_empty()) {
        match source.read(rest) {
            Ok(0) => break,
            Ok(read) => len += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}

/// Buffers that come back when the wire is done with them: fresh memory costs as much as the copy into it.
#[derive(Debug)]
pub(super) struct Buffers {
    lent: VecDeque<Bytes>,
    lent_max: usize,
}

impl Buffers {
    /// At most `lent_max` are kept for use.
    pub(super) fn of(lent_max: usize) -> Self {
        Self { lent: VecDeque::new(), lent_max }
    }

    /// A buffer of `len` bytes of whatever.
    pub(super) fn take(&mut self, len: usize) -> BytesMut {
        let free = self.lent.front().is_some_and(Bytes::is_unique);
        let mut buffer = match self.lent.pop_front_if(|_| free).map(Bytes::try_into_mut) {
            Some(Ok(buffer)) => buffer,
            _ => BytesMut::new(),
        };
        buffer.resize(len, 0);
        buffer
    }

    /// Its first `len` bytes for the wire.
    pub(super) fn give(&mut self, buffer: BytesMut, len: usize) -> Bytes {
        let buffer = buffer.freeze();
        let bytes = buffer.slice(..len);
        if self.lent.len() < self.lent_max {
            self.lent.push_back(buffer);
        }
        bytes
    }
}

/// Whether compression by LZ4 makes a file so much smaller that it pays, by a look at its middle.
pub(super) fn is_compressible(file: &File) -> bool {
    let Ok(len) = file.metadata().map(|metadata| metadata.len()) else { return false };
    let mut sample = vec![0; SAMPLE_LEN];
    let Ok(read) = file.read_at(&mut sample, (len / 2).saturating_sub(SAMPLE_LEN as u64 / 2)) else { return false };
    sample.truncate(read);
    // A fifth less at least: below that the time of the phone's processor is worth more than the wire's.
    lz4_flex::block::compress(&sample).len() * 5 < sample.len() * 4
}

#[cfg(test)]
mod tests {
    use std::io::{Seek as _, Write as _};

    use super::*;

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file.rewind().unwrap();
        file
    }

    async fn all(source: Source<'_>, layout: Layout, batch_len: usize, prefix: &'static [u8]) -> (Vec<Bytes>, usize) {
        let mut batches = Batches::new(source, layout, batch_len, Bytes::from_static(prefix));
        let (mut all, mut total) = (Vec::new(), 0);
        while let Some(batch) = batches.next().await.unwrap() {
            total += batch.source_len;
            all.push(batch.bytes);
        }
        (all, total)
    }

    #[tokio::test]
    async fn a_file_and_a_stream_give_the_same_batches_each_of_them_full() {
        let bytes: Vec<u8> = (0..700_000_u32).map(|n| (n / 3) as u8).collect();
        for (layout, expected) in [(Layout::Plain, 700_006), (Layout::Data, 700_006 + 14 * HEAD_LEN)] {
            let again = if matches!(layout, Layout::Plain) { Layout::Plain } else { Layout::Data };
            let (from_file, total) = all(file(&bytes).into(), layout, 200_000, b"prefix").await;
            assert_eq!((total, from_file.concat().len()), (bytes.len(), expected));
            assert!(from_file[..3].iter().all(|batch| batch.len() == 200_000));
            assert!(from_file[0].starts_with(b"prefix"));
            let (from_stream, _) = all(bytes.as_slice().into(), again, 200_000, b"prefix").await;
            assert_eq!(from_stream.concat(), from_file.concat());
        }
    }

    #[tokio::test]
    async fn a_buffer_is_used_again_once_nobody_looks_at_it() {
        let mut buffers = Buffers::of(BUFFERS_MAX);
        let first = buffers.take(100);
        let place = first.as_ptr();
        let first = buffers.give(first, 50);
        assert_ne!(buffers.take(100).as_ptr(), place, "it is on the wire");
        drop(first);
        assert_eq!(buffers.take(100).as_ptr(), place);
    }

    #[test]
    fn compression_is_for_what_gets_smaller() {
        let mut state = 1_u32;
        let mut noise = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        let random: Vec<u8> = (0..200_000).map(|_| noise()).collect();
        assert!(!is_compressible(&file(&random)));
        assert!(is_compressible(&file(&"a line of a log\n".repeat(10_000).into_bytes())));
        assert!(!is_compressible(&file(b"")));
    }
}
