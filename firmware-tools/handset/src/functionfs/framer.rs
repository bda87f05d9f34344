//! Messages out of bulk transfers.
//!
//! A header is a transfer of its own, its payload the next ones; a transfer ends by a short packet. A host that died in the middle
//! leaves half a payload behind: then the next short transfer ends with the header of a new host, and all before it is stale.
//!
//! Invariant: whatever comes, a whole CNXN at the end of a transfer is found, and no more than a payload is kept.

use bytes::{Bytes, BytesMut};

use crate::buffers::Buffers;
use crate::wire::{HEADER_BYTES, Header, Message, Terms, WireError};

/// A read asks for whole packets of any speed: SuperSpeed's are the largest.
const PACKET_BYTES_MAX: usize = 1024;

/// Makes messages of what is read.
#[derive(Default)]
pub(super) struct Framer {
    expected: Expected,
    buffer: BytesMut,
    buffers: Buffers,
    /// Bytes of the buffer that came.
    filled: usize,
    /// Bytes that the last read had room for.
    asked: usize,
}

#[derive(Default)]
enum Expected {
    #[default]
    Header,
    Payload(Header),
}

/// What a read was.
pub(super) enum Framed {
    Message(Message),
    /// There is no whole message yet.
    More,
}

impl Framer {
    /// Where the next read goes, at most `bytes_max` of it.
    pub(super) fn room(&mut self, bytes_max: usize) -> &mut [u8] {
        let whole = match &self.expected {
            Expected::Header => PACKET_BYTES_MAX,
            Expected::Payload(header) => header.payload_bytes().next_multiple_of(PACKET_BYTES_MAX),
        };
        if self.buffer.is_empty() && whole > PACKET_BYTES_MAX {
            self.buffer = self.buffers.take(whole);
        }
        self.buffer.resize(whole.max(self.filled), 0);
        self.asked = (whole - self.filled.min(whole)).min(bytes_max);
        self.buffer.get_mut(self.filled..self.filled + self.asked).unwrap_or_default()
    }

    /// The read into that room gave so many bytes.
    ///
    /// # Errors
    /// A payload is announced that is longer than this phone ever takes, or has another sum.
    pub(super) fn filled(&mut self, bytes: usize, terms: Terms) -> Result<Framed, WireError> {
        let bytes = bytes.min(self.asked);
        let short = bytes < self.asked;
        self.filled += bytes;
        match self.expected {
            Expected::Header if bytes == 0 => Ok(Framed::More),
            Expected::Header => self.header(terms),
            Expected::Payload(header) if self.filled == header.payload_bytes() => {
                let payload = self.take(header.payload_bytes());
                self.expected = Expected::Header;
                Ok(header.message(payload, terms)?.map_or(Framed::More, Framed::Message))
            }
            Expected::Payload(header) if short || self.filled > header.payload_bytes() => {
                tracing::debug!(bytes = self.filled, "a payload broke off");
                self.header(terms)
            }
            Expected::Payload(_) => Ok(Framed::More),
        }
    }

    /// Looks for a header in what came: all of it, or its end where a host begins anew.
    fn header(&mut self, terms: Terms) -> Result<Framed, WireError> {
        let fresh = matches!(self.expected, Expected::Header) && self.filled == HEADER_BYTES;
        self.expected = Expected::Header;
        let came = self.take(self.filled);
        let tail = came.len().checked_sub(HEADER_BYTES).and_then(|at| came.get(at..));
        let header = tail
            .and_then(Header::read)
            .filter(|header| if fresh { header.is_well_formed() } else { header.connects() });
        let Some(header) = header else {
            tracing::debug!(bytes = came.len(), "a transfer that is no header was skipped");
            return Ok(Framed::More);
        };
        header.check_length(terms)?;
        if header.payload_bytes() > 0 {
            self.expected = Expected::Payload(header);
            return Ok(Framed::More);
        }
        Ok(header.message(Bytes::new(), terms)?.map_or(Framed::More, Framed::Message))
    }

    /// The first bytes of the buffer, which is empty afterwards.
    fn take(&mut self, bytes: usize) -> Bytes {
        let mut taken = std::mem::take(&mut self.buffer);
        self.filled = 0;
        taken.truncate(bytes);
        let taken = taken.freeze();
        if bytes > PACKET_BYTES_MAX {
            self.buffers.lend(&taken);
        }
        taken
    }
}

/// What fuzzing calls: transfers of a host, each with its length in two bytes before it.
///
/// # Panics
/// An invariant is broken.
pub(crate) fn exercise(mut bytes: &[u8]) {
    const MOST: usize = 4096;
    let terms =
        Terms { payload_bytes_max: MOST as u32, agreed_bytes_max: MOST as u32, sums: crate::wire::Sums::Unchecked };
    let mut framer = Framer::default();
    while let Some((length, rest)) = bytes.split_first_chunk::<2>() {
        let (mut transfer, rest) = rest.split_at(usize::from(u16::from_le_bytes(*length)).min(rest.len()));
        bytes = rest;
        loop {
            let room = framer.room(MOST / 2);
            let asked = room.len();
            let (now, later) = transfer.split_at(transfer.len().min(asked));
            if let Some(room) = room.get_mut(..now.len()) {
                room.copy_from_slice(now);
            }
            transfer = later;
            match framer.filled(now.len(), terms) {
                Ok(Framed::Message(message)) => assert!(message.payload.len() <= MOST, "a payload is too long"),
                Ok(Framed::More) => {}
                Err(_) => framer = Framer::default(),
            }
            assert!(framer.filled <= MOST, "more is kept than a payload");
            // A transfer that ends where the room does has a packet of no bytes behind it, which the next read takes.
            if transfer.is_empty() && now.len() < asked {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::{Command, Sums};

    const TERMS: Terms = Terms { payload_bytes_max: 1 << 20, agreed_bytes_max: 1 << 20, sums: Sums::Unchecked };

    /// Transfers as a host sends them: a read takes what it has room for, and a short or empty packet ends each.
    fn messages(framer: &mut Framer, transfers: &[&[u8]]) -> Vec<Message> {
        let mut all = Vec::new();
        for &transfer in transfers {
            let mut left = transfer;
            loop {
                let room = framer.room(256 * 1024);
                let count = left.len().min(room.len());
                room[..count].copy_from_slice(&left[..count]);
                left = &left[count..];
                let short = count < room.len();
                if let Framed::Message(message) = framer.filled(count, TERMS).unwrap() {
                    all.push(message);
                }
                if left.is_empty() && (short || transfer.len().is_multiple_of(512)) {
                    break;
                }
            }
        }
        all
    }

    fn connect() -> (Vec<u8>, Message) {
        let message = Message::new(Command::CNXN, 1, 2, "host::");
        (message.header(Sums::Checked).to_vec(), message)
    }

    #[test]
    fn a_header_and_its_payload_are_a_message() {
        let (header, message) = connect();
        let mut framer = Framer::default();
        assert_eq!(messages(&mut framer, &[&header, b"host::", b"", &header, b"host::"]), [message.clone(), message]);
    }

    #[test]
    fn a_payload_may_fill_whole_transfers() {
        for bytes in [512, 1024, 262_144, 300_000, 1 << 20] {
            let message = Message::new(Command::WRTE, 1, 2, vec![7; bytes]);
            let mut framer = Framer::default();
            let seen = messages(&mut framer, &[&message.header(Sums::Unchecked), &message.payload]);
            assert!(seen == [message], "{bytes}");
        }
    }

    #[test]
    fn a_host_that_died_in_a_payload_is_followed_by_another() {
        let (header, message) = connect();
        let write = Message::new(Command::WRTE, 1, 2, vec![7; 3000]).header(Sums::Unchecked);
        for stale in [0, 512, 1024, 2048] {
            // What was on its way and the new header end in one transfer.
            let together = [&vec![7; stale][..], &header].concat();
            let mut framer = Framer::default();
            let seen = messages(&mut framer, &[&write, &together, b"host::"]);
            assert_eq!(seen, std::slice::from_ref(&message), "{stale}");
        }
    }

    #[test]
    fn what_is_no_header_is_skipped() {
        let (header, message) = connect();
        let mut wrong = header.clone();
        wrong[20] ^= 1;
        let mut framer = Framer::default();
        assert_eq!(messages(&mut framer, &[b"nonsense", &wrong, &[7; 100], &header, b"host::"]), [message]);
    }

    proptest! {
        #[test]
        fn noise_harms_nothing(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
            exercise(&bytes);
        }
    }
}
