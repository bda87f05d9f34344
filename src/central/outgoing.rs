//! Frames that leave together: a frame is not worth a call of the system of its own.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

/// With so many bytes, frames wait for no more of their kind.
pub(super) const ENOUGH: usize = 64 << 10;

/// What goes to the server next, in order. Holds no memory while it is empty.
#[derive(Debug, Default)]
pub struct Outgoing {
    frames: VecDeque<Bytes>,
    len: usize,
}

impl Outgoing {
    /// One frame more, after all others.
    pub fn push(&mut self, frame: Bytes) {
        self.len += frame.len();
        if !frame.is_empty() {
            self.frames.push_back(frame);
        }
    }

    /// Whether there is so much that it must leave before there is more.
    #[must_use]
    pub fn is_enough(&self) -> bool {
        self.len >= ENOUGH
    }
}

impl Buf for Outgoing {
    fn remaining(&self) -> usize {
        self.len
    }

    fn chunk(&self) -> &[u8] {
        self.frames.front().map(Bytes::as_ref).unwrap_or_default()
    }

    fn advance(&mut self, mut count: usize) {
        assert!(count <= self.len, "only what is there has left");
        self.len -= count;
        while let Some(first) = self.frames.front_mut() {
            if count < first.len() {
                return first.advance(count);
            }
            count -= first.len();
            self.frames.pop_front();
        }
        self.frames = VecDeque::new();
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut filled = 0;
        for (slice, frame) in slices.iter_mut().zip(&self.frames) {
            *slice = IoSlice::new(frame);
            filled += 1;
        }
        filled
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_leaves_is_what_came_in_its_order(
            frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..20),
            steps in prop::collection::vec((1_usize..50, any::<bool>()), 0..200),
        ) {
            let mut outgoing = Outgoing::default();
            frames.iter().for_each(|frame| outgoing.push(Bytes::copy_from_slice(frame)));
            let (all, mut left) = (frames.concat(), Vec::new());
            for (step, several) in steps {
                let mut slices = [IoSlice::new(&[]); 4];
                let filled = if several { outgoing.chunks_vectored(&mut slices) } else { 0 };
                let seen = if several { slices.iter().take(filled).flat_map(|slice| slice.to_vec()).collect() } else { outgoing.chunk().to_vec() };
                prop_assert_eq!(seen.is_empty(), !outgoing.has_remaining());
                let taken = step.min(seen.len());
                left.extend_from_slice(seen.get(..taken).unwrap());
                outgoing.advance(taken);
                prop_assert_eq!(outgoing.remaining(), all.len() - left.len());
            }
            prop_assert!(all.starts_with(&left));
        }
    }

    #[test]
    fn empty_it_holds_nothing() {
        let mut outgoing = Outgoing::default();
        outgoing.push(Bytes::from_static(b"frame"));
        outgoing.advance(5);
        assert_eq!(outgoing.frames.capacity(), 0);
    }
}
