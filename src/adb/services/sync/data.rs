//! What comes after RECV: DATA, DATA, …, and DONE or FAIL.

use bytes::{Buf as _, Bytes};

use super::{DATA_MAX, HEAD_LEN, MESSAGE_MAX, ReplyError};

/// A part of a file that is received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Its next bytes, a share of the chunk that came; at least one.
    Bytes(Bytes),
    /// It is whole.
    Done,
    /// It can't be read (on).
    Fail(String),
}

/// Turns a stream's chunks into pieces without copying them.
#[derive(Debug, Default)]
pub struct DataDecoder {
    chunk: Bytes,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Some bytes of letters and number.
    Head { seen: [u8; HEAD_LEN], len: usize },
    /// Within a DATA, with so many bytes to come.
    Data { left: usize },
    /// Within a FAIL.
    Fail { message: Vec<u8>, left: usize },
}

impl Default for State {
    fn default() -> Self {
        Self::Head { seen: [0; HEAD_LEN], len: 0 }
    }
}

impl DataDecoder {
    /// Takes a chunk, when all pieces of the one before were taken.
    pub fn push(&mut self, chunk: Bytes) {
        debug_assert!(self.chunk.is_empty());
        self.chunk = chunk;
    }

    /// The next piece.
    ///
    /// # Errors
    /// What makes the bytes no reply; the stream can't go on then.
    pub fn next_piece(&mut self) -> Result<Option<Piece>, ReplyError> {
        loop {
            match &mut self.state {
                State::Head { seen, len } => {
                    while *len < HEAD_LEN {
                        let (Some(byte), Some(place)) = (self.chunk.first(), seen.get_mut(*len)) else {
                            return Ok(None);
                        };
                        *place = *byte;
                        *len += 1;
                        self.chunk.advance(1);
                    }
                    let [a, b, c, d, number @ ..] = *seen;
                    self.state = match begun([a, b, c, d], u32::from_le_bytes(number))? {
                        Some(state) => state,
                        None => {
                            self.state = State::default();
                            return Ok(Some(Piece::Done));
                        }
                    };
                }
                State::Data { left: 0 } => self.state = State::default(),
                State::Data { left } => {
                    let len = self.chunk.len().min(*left);
                    *left -= len;
                    return Ok((len > 0).then(|| Piece::Bytes(self.chunk.split_to(len))));
                }
                State::Fail { message, left } => {
                    let part = self.chunk.split_to(self.chunk.len().min(*left));
                    *left -= part.len();
                    message.extend_from_slice(&part);
                    if *left > 0 {
                        return Ok(None);
                    }
                    let message = String::from_utf8_lossy(message).into_owned();
                    self.state = State::default();
                    return Ok(Some(Piece::Fail(message)));
                }
            }
        }
    }
}

/// What letters and number begin; nothing follows DONE.
fn begun(letters: [u8; 4], number: u32) -> Result<Option<State>, ReplyError> {
    let len = usize::try_from(number).unwrap_or(usize::MAX);
    match &letters {
        b"DATA" if len <= DATA_MAX => Ok(Some(State::Data { left: len })),
        b"DATA" => Err(ReplyError::DataLength { seen: number }),
        b"FAIL" if len <= MESSAGE_MAX => Ok(Some(State::Fail { message: Vec::new(), left: len })),
        b"FAIL" => Err(ReplyError::Length { seen: number }),
        b"DONE" => Ok(None),
        _ => Err(ReplyError::Letters { seen: letters, expected: "DATA, DONE or FAIL" }),
    }
}

/// Decodes any bytes, in chunks whose size is the first byte; what a fuzzer calls.
///
/// # Panics
/// When the pieces depend on the chunks.
pub fn fuzz_data(bytes: &[u8]) {
    let Some((&step, bytes)) = bytes.split_first() else { return };
    let pieces = |step: usize| {
        let (mut decoder, mut file, mut ends) = (DataDecoder::default(), Vec::new(), Vec::new());
        for chunk in bytes.chunks(step) {
            decoder.push(Bytes::copy_from_slice(chunk));
            loop {
                match decoder.next_piece() {
                    Ok(Some(Piece::Bytes(bytes))) => file.extend_from_slice(&bytes),
                    Ok(Some(end)) => ends.push((file.len(), end)),
                    Ok(None) => break,
                    Err(_) => return (file, ends),
                }
            }
        }
        (file, ends)
    };
    assert_eq!(pieces(usize::from(step).max(1)), pieces(bytes.len().max(1)));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_file_is_what_stands_in_its_data_however_it_comes() {
        let mut bytes = Vec::new();
        for part in [&b"one "[..], b"", b"two"] {
            bytes.extend_from_slice(&super::super::head(*b"DATA", u32::try_from(part.len()).unwrap()));
            bytes.extend_from_slice(part);
        }
        bytes.extend_from_slice(b"DONE\0\0\0\0");
        for step in 1..bytes.len() {
            let (mut decoder, mut file, mut done) = (DataDecoder::default(), Vec::new(), 0);
            for chunk in bytes.chunks(step) {
                decoder.push(Bytes::copy_from_slice(chunk));
                while let Some(piece) = decoder.next_piece().unwrap() {
                    match piece {
                        Piece::Bytes(bytes) => file.extend_from_slice(&bytes),
                        Piece::Done => done += 1,
                        Piece::Fail(why) => panic!("{why}"),
                    }
                }
            }
            assert_eq!((file.as_slice(), done), (&b"one two"[..], 1), "in steps of {step}");
        }
    }

    #[test]
    fn what_is_no_data_is_told() {
        let error = |bytes: &'static [u8]| {
            let mut decoder = DataDecoder::default();
            decoder.push(Bytes::from_static(bytes));
            decoder.next_piece()
        };
        assert_eq!(error(b"FAIL\x04\0\0\0gone"), Ok(Some(Piece::Fail("gone".to_owned()))));
        assert!(matches!(error(b"DATA\x01\0\x01\0"), Err(ReplyError::DataLength { seen: 65_537 })));
        assert!(matches!(error(b"FAIL\0\0\0\x01"), Err(ReplyError::Length { .. })));
        assert!(matches!(error(b"OKAY\0\0\0\0"), Err(ReplyError::Letters { .. })));
    }

    proptest! {
        #[test]
        fn any_bytes(bytes: Vec<u8>) {
            fuzz_data(&bytes);
        }
    }
}
