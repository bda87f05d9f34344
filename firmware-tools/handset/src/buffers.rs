//! Large buffers that are used again: fresh memory costs as much as what is read into it.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// How many are kept: as many as wait between a thread and the session, and some in the service.
const KEPT_MAX: usize = 8;

/// Buffers that somebody may still hold.
#[derive(Default)]
pub(crate) struct Buffers {
    lent: VecDeque<Bytes>,
}

impl Buffers {
    /// Remembers what is handed on.
    pub(crate) fn lend(&mut self, bytes: &Bytes) {
        if self.lent.len() == KEPT_MAX {
            self.lent.pop_front();
        }
        self.lent.push_back(bytes.clone());
    }

    /// So many bytes of whatever: of the oldest buffer if nobody holds it any more, or new ones.
    pub(crate) fn take(&mut self, bytes: usize) -> BytesMut {
        let free = self.lent.pop_front_if(|oldest| oldest.is_unique()).and_then(|oldest| oldest.try_into_mut().ok());
        let Some(mut buffer) = free.filter(|buffer| buffer.capacity() >= bytes) else { return BytesMut::zeroed(bytes) };
        buffer.resize(bytes, 0);
        buffer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again_when_nobody_holds_it() {
        let mut buffers = Buffers::default();
        let first = buffers.take(100).freeze();
        let place = first.as_ptr();
        buffers.lend(&first);
        assert_ne!(buffers.take(100).as_ptr(), place);
        drop(first);
        assert_eq!(buffers.take(90).as_ptr(), place);
    }
}
