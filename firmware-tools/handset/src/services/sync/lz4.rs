//! lz4 frames, as the sync service carries them.

use std::io::{Read as _, Write as _};

use bytes::Bytes;
use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};

use super::Packing;
use crate::device::{Content, Errno};

/// What a host hears of a frame that is none.
const DECOMPRESS_FAILED: &str = "decompress failed";

/// Unpacks what a host sends.
pub(super) enum Unpacker {
    /// It is not packed.
    Plain,
    /// A frame, as far as it has come.
    Lz4(Content),
}

impl Unpacker {
    pub(super) fn of(packing: Packing) -> Self {
        match packing {
            Packing::None => Self::Plain,
            Packing::Lz4 => Self::Lz4(Content::default()),
        }
    }

    /// What can be written of `data` at once, where `room` bytes are left.
    pub(super) fn unpack(&mut self, data: Bytes, room: u64) -> Result<Option<Bytes>, String> {
        match self {
            Self::Plain => Ok(Some(data)),
            Self::Lz4(frame) if frame.len() + data.len() as u64 > room => {
                Err(format!("write failed: {}", Errno::NoSpace))
            }
            Self::Lz4(frame) => {
                frame.push(data);
                Ok(None)
            }
        }
    }

    /// What was held back until the end.
    pub(super) fn finish(self, room: u64) -> Result<Bytes, String> {
        match self {
            Self::Plain => Ok(Bytes::new()),
            Self::Lz4(frame) => unpacked(&frame.joined(), room),
        }
    }
}

/// The content of a frame of at most `room` bytes.
fn unpacked(frame: &[u8], room: u64) -> Result<Bytes, String> {
    let mut content = Vec::new();
    // One byte more than fits tells whether it fits.
    let decoder = FrameDecoder::new(frame);
    decoder.take(room.saturating_add(1)).read_to_end(&mut content).map_err(|_| DECOMPRESS_FAILED.to_owned())?;
    if content.len() as u64 > room {
        return Err(format!("write failed: {}", Errno::NoSpace));
    }
    Ok(content.into())
}

/// A frame with `content`, of the kind that adbd makes: linked blocks of 64 KiB, no checksums.
pub(super) fn pack(content: &[u8]) -> Bytes {
    let info = FrameInfo::new().block_size(BlockSize::Max64KB).block_mode(BlockMode::Linked);
    let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
    // A vector takes everything; an empty frame is what nothing is packed to.
    let written = encoder.write_all(content);
    match written.map_err(Into::into).and_then(|()| encoder.finish()) {
        Ok(frame) => frame.into(),
        Err(error) => {
            tracing::error!(%error, "a file could not be packed");
            Bytes::new()
        }
    }
}

/// Bytes of a host as an lz4 frame: whatever they are, no more comes out than there is room for.
pub(in crate::services::sync) fn exercise(frame: &[u8]) {
    const ROOM: u64 = 1 << 20;
    if let Ok(content) = unpacked(frame, ROOM) {
        assert!(content.len() as u64 <= ROOM, "more was unpacked than there is room for");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_small_file_is_packed_as_adbd_packs_it() {
        assert_eq!(pack(b"hello"), &b"\x04\"M\x18@@\xc0\x05\0\0\x80hello\0\0\0\0"[..]);
    }

    #[test]
    fn what_is_no_frame_or_too_much_is_refused() {
        assert_eq!(unpacked(b"hello, this is no lz4", 100), Err(DECOMPRESS_FAILED.to_owned()));
        let bomb = pack(&vec![0; 1 << 17]);
        assert!(bomb.len() < 2000);
        assert!(unpacked(&bomb, (1 << 17) - 1).unwrap_err().contains("No space"));
        assert_eq!(unpacked(&bomb, 1 << 17).unwrap().len(), 1 << 17);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn what_is_packed_is_unpacked_the_same(content in prop::collection::vec(0..4_u8, 0..2000)) {
            prop_assert!(unpacked(&pack(&content), 1 << 20).unwrap() == content);
        }

        #[test]
        fn noise_is_no_frame(bytes in prop::collection::vec(any::<u8>(), 0..500)) {
            exercise(&[b"\x04\"M\x18", &bytes[..]].concat());
            exercise(&bytes);
        }
    }
}
