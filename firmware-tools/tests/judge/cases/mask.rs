//! What of an answer is the machine's own and no matter of the protocol.

use bytes::{Buf, BufMut};

/// What is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mask {
    Nothing,
    /// Of file records: device, inode, owner, the times of access and change; of folders also size, links and time.
    Files,
    /// Numbers that the kernel or adbd chose: ports of five digits, the count of connections, and the length of what contains it.
    Numbers,
}

const FOLDER: u32 = 0o040_000;
const TYPE_MASK: u32 = 0o170_000;

impl Mask {
    pub(crate) fn of(self, data: &[u8]) -> Vec<u8> {
        match self {
            Self::Nothing => data.to_vec(),
            Self::Files => files(data),
            Self::Numbers => numbers(data),
        }
    }
}

fn files(mut data: &[u8]) -> Vec<u8> {
    let mut masked = Vec::new();
    while let Some(id) = data.first_chunk::<4>() {
        let (bytes, name): (usize, bool) = match id {
            b"OKAY" => (8, false),
            b"STAT" => (16, false),
            b"DENT" => (20, true),
            b"STA2" | b"LST2" => (72, false),
            b"DNT2" => (76, true),
            _ => break,
        };
        if data.len() < bytes {
            break;
        }
        let (record, rest) = data.split_at(bytes);
        let name_bytes = if name { (&record[bytes - 4..]).get_u32_le() as usize } else { 0 };
        let (name, rest) = rest.split_at(name_bytes.min(rest.len()));
        match record.len() {
            8 => masked.put_slice(record),
            16 | 20 => record_v1(record, &mut masked),
            _ => record_v2(record, &mut masked),
        }
        masked.put_slice(name);
        data = rest;
    }
    masked.put_slice(data);
    masked
}

fn record_v1(record: &[u8], to: &mut Vec<u8>) {
    let mode = (&record[4..]).get_u32_le();
    to.put_slice(&record[..8]);
    match mode & TYPE_MASK {
        FOLDER => to.put_bytes(0, 8),
        _ => to.put_slice(&record[8..16]),
    }
    to.put_slice(&record[16..]);
}

/// id, error, dev(8), ino(8), mode, links, uid, gid, size(8), atime(8), mtime(8), ctime(8)
fn record_v2(record: &[u8], to: &mut Vec<u8>) {
    let mode = (&record[24..]).get_u32_le();
    let own_of_folders = |to: &mut Vec<u8>, bytes: &[u8]| match mode & TYPE_MASK {
        FOLDER => to.put_bytes(0, bytes.len()),
        _ => to.put_slice(bytes),
    };
    to.put_slice(&record[..8]);
    to.put_bytes(0, 16);
    to.put_slice(&record[24..28]);
    own_of_folders(to, &record[28..32]);
    to.put_bytes(0, 8);
    own_of_folders(to, &record[40..48]);
    to.put_bytes(0, 8);
    own_of_folders(to, &record[56..64]);
    to.put_bytes(0, 8);
    to.put_slice(&record[72..]);
}

fn numbers(data: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(data);
    let mut masked = String::new();
    let mut rest = &*text;
    // The length of a list counts the digits of adbd's count of connections.
    if let Some(list) = text.get(4..).filter(|list| list.starts_with("host-")) {
        masked.push_str("LLLL");
        rest = list;
    }
    while let Some(at) = rest.find(|letter: char| letter.is_ascii_digit()) {
        let (before, digits) = rest.split_at(at);
        let end = digits.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(digits.len());
        let (digits, after) = digits.split_at(end);
        masked.push_str(before);
        // `0005` before a port is its length, and sticks to it.
        let (length, number) = if digits.len() == 9 { digits.split_at(4) } else { ("", digits) };
        masked.push_str(length);
        masked.push_str(if number.len() == 5 || before.ends_with("host-") { "N" } else { number });
        rest = after;
    }
    masked.push_str(rest);
    masked.into_bytes()
}
