//! The frame: a length of 4 bytes, big-endian and signed, then that many bytes of a serialised `TransportMessage`.
//!
//! The length does not count itself. The protocol document sets no upper bound, so the owner does (`central.max_frame`).
//! Nothing here copies or allocates: [`split`] gives a view into what was read.
//!
//! Invariant: no input panics, and none makes the caller reserve more than the bound (`any_bytes_give_a_frame_or_a_reason`).

/// Bytes of the length before each frame.
pub const HEADER: usize = 4;

/// The longest frame that is taken unless the owner says otherwise.
pub const MAX_FRAME_DEFAULT: usize = 16 * 1024 * 1024;

/// What a buffer begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split<'a> {
    /// A whole frame.
    Frame {
        /// What it holds, without the length.
        payload: &'a [u8],
        /// How many bytes of the buffer it takes, with the length.
        consumed: usize,
    },
    /// A part of a frame, or nothing.
    Partial {
        /// How many bytes the buffer must hold before it is worth another look.
        needed: usize,
    },
}

/// Why a stream of frames cannot go on. There is no way to find the next frame after any of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length is negative.
    #[error("a frame's length is {length}, which is negative")]
    Negative {
        /// What was read.
        length: i32,
    },
    /// The length is zero: no envelope is that short.
    #[error("a frame's length is 0")]
    Empty,
    /// The length is over the bound.
    #[error("a frame's length is {length} bytes, and at most {max} are taken (central.max_frame)")]
    TooLong {
        /// What was read.
        length: usize,
        /// The bound.
        max: usize,
    },
    /// The peer closed the connection inside a frame.
    #[error("the connection was closed inside a frame: {have} of {needed} bytes had come")]
    Truncated {
        /// What had come, with the length.
        have: usize,
        /// What was to come, with the length.
        needed: usize,
    },
}

/// Looks at the frame that `buffer` begins with; the caller consumes it.
///
/// # Errors
/// The length is negative, zero or above `max`.
pub fn split(buffer: &[u8], max: usize) -> Result<Split<'_>, FrameError> {
    let Some((header, rest)) = buffer.split_first_chunk::<HEADER>() else {
        return Ok(Split::Partial { needed: HEADER });
    };
    let length = length(*header, max)?;
    Ok(match rest.get(..length) {
        Some(payload) => Split::Frame { payload, consumed: HEADER + length },
        None => Split::Partial { needed: HEADER + length },
    })
}

/// What the end of the stream means when `buffer` is what was left over.
///
/// # Errors
/// A frame had begun.
pub fn at_close(buffer: &[u8], max: usize) -> Result<(), FrameError> {
    match split(buffer, max)? {
        Split::Partial { needed } if !buffer.is_empty() => Err(FrameError::Truncated { have: buffer.len(), needed }),
        _ => Ok(()),
    }
}

/// The length that stands before a frame of `payload` bytes; `None` if no length can say that much.
#[must_use]
pub fn header(payload: usize) -> Option<[u8; HEADER]> {
    i32::try_from(payload).ok().filter(|length| *length > 0).map(i32::to_be_bytes)
}

fn length(header: [u8; HEADER], max: usize) -> Result<usize, FrameError> {
    let signed = i32::from_be_bytes(header);
    let length = usize::try_from(signed).map_err(|_| FrameError::Negative { length: signed })?;
    match length {
        0 => Err(FrameError::Empty),
        length if length > max => Err(FrameError::TooLong { length, max }),
        length => Ok(length),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX: usize = 1 << 20;

    #[test]
    fn a_frame_is_its_length_and_that_many_bytes() {
        assert_eq!(header(3), Some([0, 0, 0, 3]));
        assert_eq!(
            split(b"\x00\x00\x00\x03abcde", MAX),
            Ok(Split::Frame { payload: b"abc", consumed: 7 }),
            "the length does not count itself"
        );
    }

    #[test]
    fn a_part_of_a_frame_says_how_much_it_needs() {
        assert_eq!(split(b"", MAX), Ok(Split::Partial { needed: 4 }));
        assert_eq!(split(b"\x00\x00\x00", MAX), Ok(Split::Partial { needed: 4 }));
        assert_eq!(split(b"\x00\x00\x01\x00abc", MAX), Ok(Split::Partial { needed: 260 }));
    }

    #[test]
    fn lengths_that_make_no_sense_are_named() {
        assert_eq!(split(&[0xff, 0xff, 0xff, 0xff], MAX), Err(FrameError::Negative { length: -1 }));
        assert_eq!(split(&[0x80, 0, 0, 0], MAX), Err(FrameError::Negative { length: i32::MIN }));
        assert_eq!(split(&[0, 0, 0, 0], MAX), Err(FrameError::Empty));
        assert_eq!(split(&[0, 0x10, 0, 1], MAX), Err(FrameError::TooLong { length: MAX + 1, max: MAX }));
        assert!(split(&[0, 0x10, 0, 0], MAX).is_ok(), "the bound itself is allowed");
    }

    #[test]
    fn a_stream_may_end_between_frames_only() {
        assert_eq!(at_close(b"", MAX), Ok(()));
        assert_eq!(at_close(b"\x00\x00", MAX), Err(FrameError::Truncated { have: 2, needed: 4 }));
        assert_eq!(at_close(b"\x00\x00\x00\x09abc", MAX), Err(FrameError::Truncated { have: 7, needed: 13 }));
    }

    #[test]
    fn what_no_length_can_say_has_no_header() {
        assert_eq!(header(0), None);
        assert_eq!(header(usize::MAX), None);
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in_however_they_are_cut(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..50), 0..10),
            cut in 1_usize..20,
        ) {
            let mut wire = Vec::new();
            for payload in &payloads {
                wire.extend(header(payload.len()).unwrap());
                wire.extend(payload);
            }
            let (mut buffer, mut seen) = (Vec::new(), Vec::new());
            for chunk in wire.chunks(cut) {
                buffer.extend_from_slice(chunk);
                while let Split::Frame { payload, consumed } = split(&buffer, MAX).unwrap() {
                    seen.push(payload.to_vec());
                    buffer.drain(..consumed);
                }
            }
            prop_assert_eq!(seen, payloads);
            prop_assert_eq!(at_close(&buffer, MAX), Ok(()));
        }

        #[test]
        fn any_bytes_give_a_frame_or_a_reason(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            match split(&bytes, 32) {
                Ok(Split::Frame { payload, consumed }) => prop_assert_eq!(payload.len() + HEADER, consumed),
                Ok(Split::Partial { needed }) => prop_assert!(needed > bytes.len() && needed <= HEADER + 32),
                Err(error) => prop_assert!(!error.to_string().is_empty()),
            }
        }
    }
}
