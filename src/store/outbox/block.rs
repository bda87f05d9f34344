//! The bytes of a block before it is sealed: its notices, one behind the other.
//!
//! ```text
//!     type i32 | reference i64 | length u32 | envelope        (little endian, for each notice)
//! ```

use bytes::{Buf as _, Bytes};

use super::Notice;

/// Before each envelope.
const HEADER: usize = 4 + 8 + 4;

/// Notices as bytes.
#[must_use]
pub(super) fn encode(notices: &[Notice]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(notices.iter().map(|notice| HEADER + notice.envelope.len()).sum());
    for notice in notices {
        // A frame has a length of 31 bits.
        let length = u32::try_from(notice.envelope.len()).unwrap_or(u32::MAX);
        bytes.extend_from_slice(&notice.msg_type.to_le_bytes());
        bytes.extend_from_slice(&notice.reference.to_le_bytes());
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&notice.envelope);
    }
    bytes
}

/// The notices in these bytes; `None` if they are no whole notices.
#[must_use]
pub(super) fn decode(mut bytes: Bytes) -> Option<Vec<Notice>> {
    let mut notices = Vec::new();
    while !bytes.is_empty() {
        let (msg_type, reference) = (bytes.try_get_i32_le().ok()?, bytes.try_get_i64_le().ok()?);
        let length = usize::try_from(bytes.try_get_u32_le().ok()?).ok()?;
        if length > bytes.len() {
            return None;
        }
        notices.push(Notice { msg_type, reference, envelope: bytes.split_to(length) });
    }
    Some(notices)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn notices() -> impl Strategy<Value = Vec<Notice>> {
        let notice = (any::<i32>(), any::<i64>(), proptest::collection::vec(any::<u8>(), 0..80));
        proptest::collection::vec(notice, 0..8).prop_map(|notices| {
            let notice =
                |(msg_type, reference, envelope)| Notice { msg_type, reference, envelope: Bytes::from(envelope) };
            notices.into_iter().map(notice).collect()
        })
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(notices in notices()) {
            prop_assert_eq!(decode(Bytes::from(encode(&notices))), Some(notices));
        }

        #[test]
        fn no_bytes_break_it(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(notices) = decode(Bytes::from(bytes.clone())) {
                prop_assert_eq!(encode(&notices), bytes);
            }
        }
    }
}
