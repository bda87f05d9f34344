//! The buffers of large payloads, to be used again: memory that is new from the system costs more than what is read into it.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

/// How many are kept: as many as are on their way to a disk at once.
const SPARE_MAX: usize = 8;

/// How long they are kept while nothing comes: an idle connection costs no buffer.
pub const SPARE_KEPT: Duration = Duration::from_secs(1);

/// Buffers that whoever read them may still hold.
#[derive(Debug, Default)]
pub struct SpareBuffers {
    lent: VecDeque<Bytes>,
}

impl SpareBuffers {
    /// Remembers what is handed on; it is taken again once nobody else holds it. The oldest is forgotten if there are too many.
    pub fn lend(&mut self, payload: &Bytes) {
        if self.lent.len() == SPARE_MAX {
            self.lent.pop_front();
        }
        self.lent.push_back(payload.clone());
    }

    /// A buffer with room for so many bytes that nobody holds any more, with what is in it.
    pub fn take(&mut self, room: usize) -> Option<BytesMut> {
        for _ in 0..self.lent.len() {
            match self.lent.pop_front()?.try_into_mut() {
                Ok(buffer) if buffer.capacity() >= room => return Some(buffer),
                Ok(_) => {}
                Err(held) => self.lent.push_back(held),
            }
        }
        None
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lent.is_empty()
    }

    /// Gives all of them back to the system, or lets whoever holds them do so.
    pub fn clear(&mut self) {
        self.lent = VecDeque::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_when_nobody_holds_it() {
        let mut spare = SpareBuffers::default();
        let payload = BytesMut::zeroed(64).freeze();
        let place = payload.as_ptr();
        spare.lend(&payload);
        assert!(spare.take(64).is_none(), "it is held");
        drop(payload);
        assert_eq!(spare.take(64).map(|buffer| buffer.as_ptr()), Some(place));
        assert!(spare.is_empty());
    }

    #[test]
    fn one_that_is_too_small_is_given_up() {
        let mut spare = SpareBuffers::default();
        spare.lend(&BytesMut::zeroed(64).freeze());
        assert!(spare.take(65).is_none());
        assert!(spare.is_empty());
    }

    #[test]
    fn only_so_many_are_kept() {
        let mut spare = SpareBuffers::default();
        for _ in 0..3 * SPARE_MAX {
            spare.lend(&BytesMut::zeroed(64).freeze());
        }
        assert_eq!(std::iter::from_fn(|| spare.take(64)).count(), SPARE_MAX);
    }
}
