//! What came on a stream and was not read yet.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;

use crate::adb::connection::EndReason;

/// Chunks below this size are gathered, in bytes: a handset that sends a window byte by byte must not cost a chunk each.
const GATHERED_LEN: usize = 4 << 10;

/// The inbox of a stream. The core bounds its bytes.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    content: Mutex<Content>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Content {
    chunks: VecDeque<Bytes>,
    /// Small chunks, behind all others.
    gathered: BytesMut,
    end: Option<EndReason>,
}

/// What is in an inbox.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Mail {
    /// The next bytes.
    Chunk(Bytes),
    /// Nothing will come any more.
    End(EndReason),
}

impl Inbox {
    fn content(&self) -> MutexGuard<'_, Content> {
        // Nothing in here panics half-way through a change.
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, bytes: Bytes) {
        let mut content = self.content();
        let waits = !content.chunks.is_empty() || !content.gathered.is_empty();
        if waits && bytes.len() < GATHERED_LEN {
            content.gathered.extend_from_slice(&bytes);
        } else {
            let gathered = content.gathered.split().freeze();
            content.chunks.extend([gathered, bytes].into_iter().filter(|chunk| !chunk.is_empty()));
        }
        drop(content);
        self.changed.notify_one();
    }

    pub(super) fn end(&self, reason: EndReason) {
        self.content().end = Some(reason);
        self.changed.notify_one();
    }

    /// Why the stream ended, if it did.
    pub(super) fn ended(&self) -> Option<EndReason> {
        self.content().end.clone()
    }

    /// Waits for the stream's end, and drops what still comes.
    pub(super) async fn until_ended(&self) {
        while self.ended().is_none() {
            self.changed().await;
        }
    }

    /// The next bytes, before them nothing was lost; or the end.
    pub(super) fn take(&self) -> Option<Mail> {
        let mut content = self.content();
        if let Some(chunk) = content.chunks.pop_front() {
            return Some(Mail::Chunk(chunk));
        }
        if !content.gathered.is_empty() {
            return Some(Mail::Chunk(content.gathered.split().freeze()));
        }
        content.end.clone().map(Mail::End)
    }

    /// Waits until `take` may give something.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_in_order_whatever_their_chunks_and_the_end_last() {
        let inbox = Inbox::default();
        let lens = [3, 1, 5000, 2, 2, 4096, 1];
        let mut next = 0_u8;
        let mut sent = Vec::new();
        for len in lens {
            let chunk: Vec<u8> = (0..len)
                .map(|_| {
                    next = next.wrapping_add(7);
                    next
                })
                .collect();
            sent.extend_from_slice(&chunk);
            inbox.push(chunk.into());
        }
        inbox.end(EndReason::ByPeer);
        let mut seen = Vec::new();
        let mut chunks = 0;
        while let Some(Mail::Chunk(chunk)) = inbox.take() {
            seen.extend_from_slice(&chunk);
            chunks += 1;
        }
        assert_eq!(seen, sent);
        assert!(chunks < lens.len(), "{chunks} chunks");
        assert_eq!(inbox.take(), Some(Mail::End(EndReason::ByPeer)));
    }
}
