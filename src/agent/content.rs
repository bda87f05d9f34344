//! Digests of the content of an APK: everything but its signing block, the end record as it was signed.
//!
//! ```text
//!     content:   ZIP entries │ central directory │ end record
//!     chunked:   H(0x5a, count, H(0xa5, length, chunk)…)    chunks of 1 MiB, none from one part into the next
//!     verity:    root of a tree of SHA-256 over pages of 4 KiB, then the length of the content
//! ```
//!
//! Pieces of 1 MiB are read and digested by as many threads as there are processors, at most [`THREADS_MAX`]; memory is a MiB
//! for each, however large the APK.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use sha2::{Digest, Sha256, Sha512};

use super::algorithm::ContentDigest;

/// Content is digested in chunks of this many bytes; the format says so.
const CHUNK_LEN: u64 = 1024 * 1024;
/// The page of fs-verity, and what a signing block is aligned to where verity is used.
pub(super) const PAGE_LEN: usize = 4096;
/// More threads than that wait for the disk.
const THREADS_MAX: usize = 8;
/// Verity hashes each page after this salt.
const VERITY_SALT: [u8; 8] = [0; 8];

/// The content of an open APK.
pub(super) struct Content<'a> {
    file: &'a File,
    /// ZIP entries and central directory, within the file.
    parts: [Range<u64>; 2],
    /// The end record as it was signed.
    end: Vec<u8>,
}

impl<'a> Content<'a> {
    pub(super) fn new(file: &'a File, entries: Range<u64>, directory: Range<u64>, end: Vec<u8>) -> Self {
        Self { file, parts: [entries, directory], end }
    }

    /// Its digest.
    pub(super) fn digest(&self, how: ContentDigest) -> io::Result<Vec<u8>> {
        match how {
            ContentDigest::ChunkedSha256 => self.chunked::<Sha256>(),
            ContentDigest::ChunkedSha512 => self.chunked::<Sha512>(),
            ContentDigest::VeritySha256 => self.verity(),
        }
    }

    fn chunked<D: Digest>(&self) -> io::Result<Vec<u8>> {
        let mut chunks = Vec::new();
        let mut at = 0;
        for len in self.parts.iter().map(|part| part.end - part.start).chain([self.end.len() as u64]) {
            let end = at + len;
            while at < end {
                let next = end.min(at + CHUNK_LEN);
                chunks.push(at..next);
                at = next;
            }
        }
        let digests = self.each(&chunks, |chunk| {
            let len = u32::try_from(chunk.len()).unwrap_or(u32::MAX);
            D::new().chain_update([0xa5]).chain_update(len.to_le_bytes()).chain_update(chunk).finalize().to_vec()
        })?;
        let count = u32::try_from(chunks.len()).unwrap_or(u32::MAX);
        let all = D::new().chain_update([0x5a]).chain_update(count.to_le_bytes());
        Ok(all.chain_update(digests.concat()).finalize().to_vec())
    }

    fn verity(&self) -> io::Result<Vec<u8>> {
        let len = self.len();
        let pieces: Vec<_> =
            (0..len.div_ceil(CHUNK_LEN)).map(|n| n * CHUNK_LEN..len.min((n + 1) * CHUNK_LEN)).collect();
        let mut level = self.each(&pieces, hash_pages)?.concat();
        while level.len() > PAGE_LEN {
            level = hash_pages(&level);
        }
        let mut root = hash_pages(&level);
        root.extend_from_slice(&len.to_le_bytes());
        Ok(root)
    }

    fn len(&self) -> u64 {
        self.parts.iter().map(|part| part.end - part.start).sum::<u64>() + self.end.len() as u64
    }

    /// What `digest` makes of each range of the content, in order. No range is longer than [`CHUNK_LEN`].
    fn each(&self, ranges: &[Range<u64>], digest: impl Fn(&[u8]) -> Vec<u8> + Sync) -> io::Result<Vec<Vec<u8>>> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX).min(ranges.len());
        let (next, results) = (AtomicUsize::new(0), Mutex::new(vec![Vec::new(); ranges.len()]));
        let work = || -> io::Result<()> {
            let mut buffer = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some(range) = ranges.get(number) else { return Ok(()) };
                self.read(range, &mut buffer)?;
                let digested = digest(&buffer);
                let mut results = results.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                if let Some(result) = results.get_mut(number) {
                    *result = digested;
                }
            }
        };
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads)
                .map(|_| std::thread::Builder::new().name("apk-digest".into()).spawn_scoped(scope, work))
                .collect();
            let mine = work();
            let others = others.into_iter().map(|thread| {
                // A thread that could not be started leaves its share to the others.
                let Ok(thread) = thread else { return Ok(()) };
                thread.join().map_err(|_| io::Error::other("a thread that digests ended without a result"))?
            });
            others.fold(mine, io::Result::and)
        })?;
        Ok(results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// Fills the buffer with a range of the content, which may reach over several parts.
    fn read(&self, range: &Range<u64>, buffer: &mut Vec<u8>) -> io::Result<()> {
        let in_memory = |at: u64| usize::try_from(at).map_err(io::Error::other);
        buffer.resize(in_memory(range.end - range.start)?, 0);
        let mut rest = buffer.as_mut_slice();
        let mut part_at = 0;
        for part in &self.parts {
            let part_end = part_at + (part.end - part.start);
            let (from, to) = (range.start.max(part_at), range.end.min(part_end));
            if from < to {
                let (now, later) = rest.split_at_mut(in_memory(to - from)?);
                self.file.read_exact_at(now, part.start + (from - part_at))?;
                rest = later;
            }
            part_at = part_end;
        }
        let from = in_memory(range.start.saturating_sub(part_at))?;
        let end = self.end.get(from..from + rest.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        rest.copy_from_slice(end);
        Ok(())
    }
}

/// The hashes of pages, one after the other; the last page is filled with zeros.
fn hash_pages(bytes: &[u8]) -> Vec<u8> {
    let mut hashes = Vec::with_capacity(bytes.len().div_ceil(PAGE_LEN) * 32);
    for page in bytes.chunks(PAGE_LEN) {
        let filler = vec![0; PAGE_LEN - page.len()];
        let hasher = Sha256::new().chain_update(VERITY_SALT).chain_update(page).chain_update(filler);
        hashes.extend_from_slice(&hasher.finalize());
    }
    hashes
}
