//! Any bytes as frames that are to leave, and how many of their bytes a connection takes at once.

use std::io::IoSlice;

use bytes::{Buf as _, Bytes};

use super::Script;
use crate::central::outgoing::{ENOUGH, Outgoing};

/// Any bytes as frames that come and leave: what leaves is what came, in its order.
pub fn outgoing(bytes: &[u8]) {
    let (mut outgoing, mut expected) = (Outgoing::default(), Vec::new());
    let mut script = Script(bytes);
    while let Some(operation) = script.byte() {
        match operation % 4 {
            // A line sends what is enough before there is more.
            0 | 1 if outgoing.is_enough() => {}
            0 => push(script.bytes().to_vec(), &mut outgoing, &mut expected),
            1 => {
                let long = usize::from(script.byte().unwrap_or(0)) << 9;
                push(vec![operation; long], &mut outgoing, &mut expected);
            }
            2 => {
                let left = outgoing.chunk().to_vec();
                leave(&left, &mut script, &mut outgoing, &mut expected);
            }
            _ => {
                let mut slices = [IoSlice::new(&[]); 3];
                let filled = outgoing.chunks_vectored(&mut slices);
                let left = slices.iter().take(filled).flat_map(|slice| slice.to_vec()).collect::<Vec<_>>();
                leave(&left, &mut script, &mut outgoing, &mut expected);
            }
        }
        assert_eq!(outgoing.remaining(), expected.len());
        assert_eq!(outgoing.is_enough(), expected.len() >= ENOUGH);
    }
}

fn push(frame: Vec<u8>, outgoing: &mut Outgoing, expected: &mut Vec<u8>) {
    expected.extend(&frame);
    outgoing.push(Bytes::from(frame));
}

/// A connection takes the first of the bytes that it was shown.
fn leave(shown: &[u8], script: &mut Script<'_>, outgoing: &mut Outgoing, expected: &mut Vec<u8>) {
    assert!(expected.starts_with(shown), "they leave in their order");
    assert_eq!(shown.is_empty(), expected.is_empty(), "what is there is shown");
    let taken = match script.byte() {
        Some(0xff) | None => shown.len(),
        Some(few) => usize::from(few).min(shown.len()),
    };
    outgoing.advance(taken);
    expected.drain(..taken);
}
