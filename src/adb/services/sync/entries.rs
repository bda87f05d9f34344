//! What comes after LIST: a DENT for each entry of the folder, and DONE.

use bytes::{Buf as _, Bytes, BytesMut};

use super::{FileStat, HEAD_LEN, ReplyError, stat_v2};

/// The longest name that is taken, in bytes: that of every file system of Linux.
const NAME_MAX: usize = 255;

/// The length of a DENT and a DNT2 without their name, letters included; DONE has it, too.
const ENTRY_V1_LEN: usize = 20;
const ENTRY_V2_LEN: usize = 76;

/// One entry of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolderEntry {
    /// Its name, never `.` or `..` and without a slash: it can be appended to a path of the host's.
    pub name: String,
    /// What it is; none where the handset can't tell.
    pub stat: Option<FileStat>,
}

/// Which form of LIST was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListForm {
    /// LIST: sizes below 4 GiB.
    V1,
    /// LIS2.
    V2,
}

/// Turns a stream's chunks into entries.
#[derive(Debug)]
pub struct EntryDecoder {
    form: ListForm,
    buffer: BytesMut,
}

/// What a chunk held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listed {
    /// One more entry.
    Entry(FolderEntry),
    /// No more entries.
    Done,
    /// The folder can't be read.
    Fail(String),
}

impl EntryDecoder {
    /// A decoder of the answer to this form.
    #[must_use]
    pub fn new(form: ListForm) -> Self {
        Self { form, buffer: BytesMut::new() }
    }

    /// Takes a chunk.
    pub fn push(&mut self, chunk: &[u8]) {
        self.buffer.extend_from_slice(chunk);
    }

    /// The next whole entry. Those with a name that would lead out of the folder are left out.
    ///
    /// # Errors
    /// What makes the bytes no entry; the stream can't go on then.
    pub fn next_entry(&mut self) -> Result<Option<Listed>, ReplyError> {
        let (letters, fixed_len) = match self.form {
            ListForm::V1 => (*b"DENT", ENTRY_V1_LEN),
            ListForm::V2 => (*b"DNT2", ENTRY_V2_LEN),
        };
        loop {
            let Some(seen) = self.buffer.first_chunk::<4>().copied() else { return Ok(None) };
            if &seen == b"FAIL" {
                return self.fail();
            }
            if seen != letters && &seen != b"DONE" {
                return Err(ReplyError::Letters { seen, expected: "DENT, DNT2, DONE or FAIL" });
            }
            if self.buffer.len() < fixed_len {
                return Ok(None);
            }
            if &seen == b"DONE" {
                self.buffer.advance(fixed_len);
                return Ok(Some(Listed::Done));
            }
            let name_len = self.number_at(fixed_len - 4);
            let len = usize::try_from(name_len).ok().filter(|len| *len <= NAME_MAX);
            let len = len.ok_or(ReplyError::NameLength { seen: name_len })?;
            if self.buffer.len() < fixed_len + len {
                return Ok(None);
            }
            let mut fixed = self.buffer.split_to(fixed_len).freeze();
            let name = self.buffer.split_to(len);
            fixed.advance(4);
            let stat = match self.form {
                ListForm::V1 => Some(v1(&mut fixed)),
                ListForm::V2 => stat_v2(&mut fixed).ok().flatten(),
            };
            if let Some(name) = safe_name(&name) {
                return Ok(Some(Listed::Entry(FolderEntry { name, stat })));
            }
        }
    }

    fn fail(&mut self) -> Result<Option<Listed>, ReplyError> {
        if self.buffer.len() < HEAD_LEN {
            return Ok(None);
        }
        let len = super::message_len(self.number_at(4))?;
        if self.buffer.len() < HEAD_LEN + len {
            return Ok(None);
        }
        self.buffer.advance(HEAD_LEN);
        let message = self.buffer.split_to(len);
        Ok(Some(Listed::Fail(String::from_utf8_lossy(&message).into_owned())))
    }

    /// The number at an offset; the buffer reaches beyond it.
    fn number_at(&self, offset: usize) -> u32 {
        let bytes = self.buffer.get(offset..).and_then(|rest| rest.first_chunk::<4>());
        bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
    }
}

/// Mode, size, time. The body has its 16 bytes.
fn v1(body: &mut Bytes) -> FileStat {
    FileStat { mode: body.get_u32_le(), size: body.get_u32_le().into(), mtime_s: body.get_u32_le().into() }
}

fn safe_name(name: &[u8]) -> Option<String> {
    let name = String::from_utf8_lossy(name);
    let leads_elsewhere = name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']);
    (!leads_elsewhere).then(|| name.into_owned())
}

/// Decodes any bytes, in chunks whose size is the first byte; what a fuzzer calls.
pub fn fuzz_entries(bytes: &[u8]) {
    let Some((&step, bytes)) = bytes.split_first() else { return };
    for form in [ListForm::V1, ListForm::V2] {
        let mut decoder = EntryDecoder::new(form);
        for chunk in bytes.chunks(usize::from(step).max(1)) {
            decoder.push(chunk);
            while let Ok(Some(_)) = decoder.next_entry() {}
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(name: &[u8]) -> Vec<u8> {
        let numbers = [0o100_644, 5, 1_700_000_000, u32::try_from(name.len()).unwrap()];
        [&b"DENT"[..], &numbers.map(u32::to_le_bytes).concat(), name].concat()
    }

    #[test]
    fn entries_come_one_by_one_and_none_leads_out_of_its_folder() {
        let bytes =
            [entry(b"."), entry(b"a"), entry(b"../x"), entry(b".."), [&b"DONE"[..], &[0; 16]].concat()].concat();
        let mut decoder = EntryDecoder::new(ListForm::V1);
        let mut seen = Vec::new();
        for byte in bytes {
            decoder.push(&[byte]);
            seen.extend(decoder.next_entry().unwrap());
        }
        let stat = Some(FileStat { mode: 0o100_644, size: 5, mtime_s: 1_700_000_000 });
        assert_eq!(seen, [Listed::Entry(FolderEntry { name: "a".to_owned(), stat }), Listed::Done]);
    }

    #[test]
    fn what_is_no_entry_is_told() {
        let error = |bytes: &[u8]| {
            let mut decoder = EntryDecoder::new(ListForm::V1);
            decoder.push(bytes);
            decoder.next_entry().unwrap_err()
        };
        assert!(matches!(error(&entry(&[b'x'; 256])), ReplyError::NameLength { seen: 256 }));
        assert!(matches!(error(b"DNT2"), ReplyError::Letters { .. }), "it was not asked for");
    }

    proptest! {
        #[test]
        fn any_bytes(bytes: Vec<u8>) {
            fuzz_entries(&bytes);
        }
    }
}
