//! The ZIP archive that an APK is: its end record, its central directory, and where the bytes of each entry lie.
//!
//! ```text
//!     ┌────────────────────────────┬────────────────────┬───────────────────┬──────┐
//!     │ local header, data │ …     │ APK Signing Block  │ central directory │ EOCD │
//!     └────────────────────────────┴────────────────────┴───────────────────┴──────┘
//! ```
//!
//! A ZIP says most things twice, and an archive that says them differently shows one file to whoever checks it and another to
//! whoever installs it. So nothing is healed here: what does not agree is refused. The format is PKWARE's APPNOTE.TXT, 4.3.
//!
//! Invariant: no input panics, and nothing is allocated by a length that the input claims (`any_bytes_are_parsed_or_refused`).

use std::collections::BTreeMap;
use std::ops::Range;

use super::reader::{Reader, Short};

/// The longest end-of-central-directory record: 22 bytes and a comment of 65,535.
pub const EOCD_LEN_MAX: usize = EOCD_LEN_MIN + u16::MAX as usize;
/// What must be read from the end of a file to find its end record.
pub const TAIL_LEN: usize = EOCD_LEN_MAX + ZIP64_LOCATOR_LEN;
/// The fixed part of a local header, in bytes.
pub const LOCAL_HEADER_LEN: u64 = 30;
/// The largest central directory that is read: 65,535 entries with names of 200 bytes.
pub const DIRECTORY_LEN_MAX: u64 = 16 * 1024 * 1024;

const EOCD_LEN_MIN: usize = 22;
const EOCD_MAGIC: [u8; 4] = *b"PK\x05\x06";
const ZIP64_LOCATOR_MAGIC: [u8; 4] = *b"PK\x06\x07";
const ZIP64_LOCATOR_LEN: usize = 20;
const ENTRY_MAGIC: u32 = u32::from_le_bytes(*b"PK\x01\x02");
const LOCAL_MAGIC: u32 = u32::from_le_bytes(*b"PK\x03\x04");
/// Bit 0 of the flags: encrypted.
const ENCRYPTED: u16 = 1;
/// Bit 3 of the flags: sizes stand after the data, which nobody needs who has the central directory.
const DATA_DESCRIPTOR: u16 = 8;
/// Deflate codes 258 bytes in 2 bits at best: no honest entry grows more.
const DEFLATE_GROWTH_MAX: u64 = 1032;
/// What an archive of any size may unpack to, and how often its own size beside it. Apps grow 2 to 6 times.
const UNPACKED_LEN_ALWAYS: u64 = 64 * 1024 * 1024;
const UNPACKED_GROWTH_MAX: u64 = 40;

/// Bytes that are no archive, or one that Android or farmhand does not take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ZipError {
    /// The file has no end-of-central-directory record.
    #[error(
        "it is no whole ZIP archive: the end of the central directory is missing, so it was cut short or is another kind of file"
    )]
    NoEnd,
    /// A record is laid out in a way that no ZIP is.
    #[error("its ZIP archive is malformed: {what}")]
    Malformed {
        /// What is wrong.
        what: &'static str,
    },
    /// A record runs over the end of what it lies in.
    #[error("its ZIP archive is malformed: {0}")]
    Short(#[from] Short),
    /// One entry is not as Android takes it, or says of itself two different things.
    #[error("its ZIP archive is malformed: entry `{name}` {what}")]
    Entry {
        /// Its name.
        name: String,
        /// What is wrong.
        what: &'static str,
    },
    /// Two entries share bytes: one of them is not what it seems, or the archive is a bomb.
    #[error("its ZIP archive is malformed: entries `{first}` and `{second}` overlap")]
    Overlap {
        /// The one that begins first.
        first: String,
        /// The one that begins within it.
        second: String,
    },
    /// It would fill the phone.
    #[error("it is a ZIP bomb: {packed} bytes that unpack to {unpacked}")]
    Bomb {
        /// Bytes of the archive.
        packed: u64,
        /// Bytes of what is in it, as far as was counted.
        unpacked: u64,
    },
}

/// Where the end-of-central-directory record and the central directory lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZipEnd {
    /// Bytes of the central directory within the file.
    pub central_directory: Range<u64>,
    /// Entries of the central directory.
    pub entries: u16,
    /// The record itself; its bytes 16 to 20 hold the offset of the central directory.
    pub record: Vec<u8>,
}

impl ZipEnd {
    /// Finds the record in the last bytes of a file of `file_len` bytes. The tail must hold [`TAIL_LEN`] bytes, or the whole
    /// file.
    ///
    /// # Errors
    /// [`ZipError::NoEnd`] if there is none, [`ZipError::Malformed`] if it does not end the file or does not fit it.
    pub fn find(tail: &[u8], file_len: u64) -> Result<Self, ZipError> {
        let malformed = |what| ZipError::Malformed { what };
        let at = (0..=tail.len().saturating_sub(EOCD_LEN_MIN))
            .rev()
            .take(EOCD_LEN_MAX)
            .find(|at| ends_the_file(tail, *at))
            .ok_or(ZipError::NoEnd)?;
        let (before, record) = tail.split_at(at);
        let zip64 = before.len().checked_sub(ZIP64_LOCATOR_LEN).and_then(|from| before.get(from..));
        if zip64.is_some_and(|bytes| bytes.starts_with(&ZIP64_LOCATOR_MAGIC)) {
            return Err(malformed("it is a ZIP64 archive, which Android does not install"));
        }
        let mut fields = Reader::new(record);
        fields.take(4, "end record")?;
        let disks = (fields.u16("number of this disk")?, fields.u16("disk of the central directory")?);
        let counts = (fields.u16("entries on this disk")?, fields.u16("entries")?);
        let size = u64::from(fields.u32("size of the central directory")?);
        let from = u64::from(fields.u32("offset of the central directory")?);
        if disks != (0, 0) || counts.0 != counts.1 {
            return Err(malformed("it is one of several parts"));
        }
        let record_at = file_len.saturating_sub(record.len() as u64);
        if from + size != record_at {
            return Err(malformed("its central directory does not end where its end record begins"));
        }
        Ok(Self { central_directory: from..record_at, entries: counts.1, record: record.to_vec() })
    }

    /// The record as it was signed: the offset of the central directory replaced by that of the signing block.
    #[must_use]
    pub fn signed_record(&self, block_at: u32) -> Vec<u8> {
        let mut record = self.record.clone();
        if let Some(offset) = record.get_mut(16..20) {
            offset.copy_from_slice(&block_at.to_le_bytes());
        }
        record
    }
}

/// Whether an end record begins at `at` whose comment reaches exactly to the end.
fn ends_the_file(tail: &[u8], at: usize) -> bool {
    let Some(record) = tail.get(at..) else { return false };
    let comment = record.get(20..).and_then(<[u8]>::first_chunk).map(|bytes| usize::from(u16::from_le_bytes(*bytes)));
    record.starts_with(&EOCD_MAGIC) && comment == record.len().checked_sub(EOCD_LEN_MIN)
}

/// How the bytes of an entry are stored; Android knows two ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// As they are.
    Stored,
    /// By deflate.
    Deflated,
}

impl Method {
    fn of(number: u16) -> Option<Self> {
        match number {
            0 => Some(Self::Stored),
            8 => Some(Self::Deflated),
            _ => None,
        }
    }
}

/// One file of the archive, as its central directory lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its path, with `/`.
    pub name: String,
    /// How it is stored.
    pub method: Method,
    /// CRC-32 of what it unpacks to.
    pub crc32: u32,
    /// Bytes in the archive.
    pub packed: u64,
    /// Bytes of what it unpacks to.
    pub unpacked: u64,
    /// Where its local header begins, from the start of the file.
    pub local_at: u64,
}

/// Reads a whole central directory.
///
/// # Errors
/// [`ZipError`] with the first thing that is not as it should be.
pub fn entries(directory: &[u8], end: &ZipEnd) -> Result<Vec<Entry>, ZipError> {
    let mut reader = Reader::new(directory);
    let mut entries = Vec::new();
    let mut seen = BTreeMap::new();
    while !reader.is_empty() {
        let entry = entry(&mut reader)?;
        if seen.insert(entry.name.clone(), ()).is_some() {
            return Err(ZipError::Entry { name: entry.name, what: "is there twice" });
        }
        entries.push(entry);
    }
    if entries.len() != usize::from(end.entries) {
        return Err(ZipError::Malformed { what: "its end record counts another number of entries than there are" });
    }
    refuse_bomb(&entries, end.central_directory.end)?;
    Ok(entries)
}

fn entry(reader: &mut Reader<'_>) -> Result<Entry, ZipError> {
    if reader.u32("magic of an entry")? != ENTRY_MAGIC {
        return Err(ZipError::Malformed { what: "its central directory holds something that is no entry" });
    }
    reader.take(4, "versions of an entry")?;
    let (flags, method) = (reader.u16("flags of an entry")?, reader.u16("method of an entry")?);
    reader.take(4, "time of an entry")?;
    let crc32 = reader.u32("CRC of an entry")?;
    let (packed, unpacked) = (reader.u32("packed size of an entry")?, reader.u32("unpacked size of an entry")?);
    let lengths = [(); 3].map(|()| reader.u16("a length in an entry"));
    reader.take(8, "attributes of an entry")?;
    let local_at = reader.u32("place of an entry")?;
    let [name_len, extra_len, comment_len] = lengths;
    let name = reader.take(u64::from(name_len?), "name of an entry")?;
    reader.take(u64::from(extra_len?) + u64::from(comment_len?), "extra of an entry")?;

    let shown = String::from_utf8_lossy(name).into_owned();
    let wrong = |what| ZipError::Entry { name: shown.clone(), what };
    if name.is_empty() || name.contains(&0) || std::str::from_utf8(name).is_err() {
        return Err(wrong("has a name that is no text"));
    }
    if flags & ENCRYPTED != 0 {
        return Err(wrong("is encrypted"));
    }
    let method = Method::of(method).ok_or_else(|| wrong("is packed in a way that Android does not know"))?;
    if [packed, unpacked, local_at].contains(&u32::MAX) {
        return Err(wrong("is as large as only ZIP64 allows"));
    }
    let (packed, unpacked) = (u64::from(packed), u64::from(unpacked));
    match method {
        Method::Stored if packed != unpacked => Err(wrong("is stored as it is, and yet has two sizes")),
        Method::Deflated if unpacked > packed.saturating_mul(DEFLATE_GROWTH_MAX) => {
            Err(wrong("claims to unpack to more than its bytes can hold"))
        }
        _ => Ok(Entry { name: shown, method, crc32, packed, unpacked, local_at: u64::from(local_at) }),
    }
}

fn refuse_bomb(entries: &[Entry], file_len: u64) -> Result<(), ZipError> {
    let unpacked = entries.iter().map(|entry| entry.unpacked).fold(0, u64::saturating_add);
    if unpacked > UNPACKED_LEN_ALWAYS.saturating_add(file_len.saturating_mul(UNPACKED_GROWTH_MAX)) {
        return Err(ZipError::Bomb { packed: file_len, unpacked });
    }
    Ok(())
}

impl Entry {
    /// How many bytes from [`Self::local_at`] on its local header takes, extra field aside.
    #[must_use]
    pub fn local_header_len(&self) -> u64 {
        LOCAL_HEADER_LEN + self.name.len() as u64
    }

    /// Where its packed bytes lie, from the [`Self::local_header_len`] bytes at [`Self::local_at`].
    ///
    /// # Errors
    /// [`ZipError::Entry`] if the local header says something else than the central directory.
    pub fn data(&self, header: &[u8]) -> Result<Range<u64>, ZipError> {
        let wrong = |what| ZipError::Entry { name: self.name.clone(), what };
        let mut fields = Reader::new(header);
        if fields.u32("magic of a local header")? != LOCAL_MAGIC {
            return Err(wrong("has no local header"));
        }
        fields.take(2, "version of a local header")?;
        let flags = fields.u16("flags of a local header")?;
        let method = fields.u16("method of a local header")?;
        fields.take(4, "time of a local header")?;
        let crc32 = fields.u32("CRC of a local header")?;
        let (packed, unpacked) = (fields.u32("size in a local header")?, fields.u32("size in a local header")?);
        let (name_len, extra_len) = (fields.u16("length in a local header")?, fields.u16("length in a local header")?);
        let name = fields.take(u64::from(name_len), "name of a local header")?;
        if name != self.name.as_bytes() {
            return Err(wrong("has another name in its local header"));
        }
        if Method::of(method) != Some(self.method) || flags & ENCRYPTED != 0 {
            return Err(wrong("is packed in another way by its local header"));
        }
        let sizes = (u64::from(packed), u64::from(unpacked), crc32);
        let same = sizes == (self.packed, self.unpacked, self.crc32);
        if !same && (flags & DATA_DESCRIPTOR == 0 || sizes != (0, 0, 0)) {
            return Err(wrong("has other sizes in its local header"));
        }
        let from = self.local_at + self.local_header_len() + u64::from(extra_len);
        Ok(from..from + self.packed)
    }
}

/// Refuses entries that share bytes, or reach over `end`, where the signing block or the central directory begins. Takes each
/// entry with where its packed bytes lie.
///
/// # Errors
/// [`ZipError::Overlap`] or [`ZipError::Entry`].
pub fn refuse_overlap(placed: &[(&Entry, Range<u64>)], end: u64) -> Result<(), ZipError> {
    let mut placed: Vec<_> = placed.iter().map(|(entry, data)| (entry.local_at..data.end, entry)).collect();
    placed.sort_by_key(|(range, _)| range.start);
    for pair in placed.windows(2) {
        if let [(first, earlier), (second, later)] = pair
            && first.end > second.start
        {
            return Err(ZipError::Overlap { first: earlier.name.clone(), second: later.name.clone() });
        }
    }
    match placed.iter().find(|(range, _)| range.end > end) {
        Some((_, entry)) => {
            Err(ZipError::Entry { name: entry.name.clone(), what: "reaches over the end of the entries" })
        }
        None => Ok(()),
    }
}

/// What the fuzz target calls: any bytes as a whole archive in memory.
pub fn fuzz_apk_zip(bytes: &[u8]) {
    let tail = bytes.get(bytes.len().saturating_sub(TAIL_LEN)..).unwrap_or_default();
    let Ok(end) = ZipEnd::find(tail, bytes.len() as u64) else { return };
    drop(end.signed_record(0));
    let part = |range: Range<u64>| {
        let (from, to) = (usize::try_from(range.start).ok()?, usize::try_from(range.end).ok()?);
        bytes.get(from..to)
    };
    let Some(Ok(entries)) = part(end.central_directory.clone()).map(|directory| entries(directory, &end)) else {
        return;
    };
    let placed = entries.iter().filter_map(|entry| {
        let header = part(entry.local_at..entry.local_at.checked_add(entry.local_header_len())?)?;
        Some((entry, entry.data(header).ok()?))
    });
    let placed: Vec<_> = placed.collect();
    if refuse_overlap(&placed, end.central_directory.start).is_ok() {
        for (_, data) in &placed {
            assert!(part(data.clone()).is_some(), "what passes lies within the file");
        }
    }
}
