//! An APK's archive in an open file: checked as a whole when it is opened, its entries read within limits.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;

use flate2::Crc;
use flate2::read::DeflateDecoder;

use super::zip::{self, Entry, Method, ZipEnd, ZipError};

/// Why an archive is not taken.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// Its bytes are not as they should be.
    #[error(transparent)]
    Zip(#[from] ZipError),
    /// The file could not be read.
    #[error("it could not be read: {0}")]
    Read(#[from] io::Error),
}

/// An archive whose directory agrees with itself and with what it lists, without overlaps, and that is no bomb.
pub(super) struct Archive<'a> {
    file: &'a File,
    /// Each with where its packed bytes lie.
    entries: Vec<(Entry, Range<u64>)>,
}

impl<'a> Archive<'a> {
    /// Reads the directory and every local header.
    pub(super) fn open(file: &'a File) -> Result<Self, ArchiveError> {
        let end = read_end(file)?;
        let directory = &end.central_directory;
        if directory.end - directory.start > zip::DIRECTORY_LEN_MAX {
            return Err(ZipError::Malformed { what: "its central directory is larger than 16 MiB" }.into());
        }
        let listed = zip::entries(&read(file, directory)?, &end)?;
        let mut entries = Vec::with_capacity(listed.len());
        for entry in listed {
            let header = entry.local_at..entry.local_at + entry.local_header_len();
            if header.end > directory.start {
                let what = "has its local header outside of the entries";
                return Err(ZipError::Entry { name: entry.name, what }.into());
            }
            let data = entry.data(&read(file, &header)?)?;
            entries.push((entry, data));
        }
        let placed: Vec<_> = entries.iter().map(|(entry, data)| (entry, data.clone())).collect();
        zip::refuse_overlap(&placed, directory.start)?;
        Ok(Self { file, entries })
    }

    /// What an entry unpacks to; `None` if there is none of that name.
    pub(super) fn unpack(&self, name: &str, len_max: u64) -> Result<Option<Vec<u8>>, ArchiveError> {
        let Some((entry, data)) = self.entries.iter().find(|(entry, _)| entry.name == name) else { return Ok(None) };
        let wrong = |what| ZipError::Entry { name: name.to_owned(), what };
        if entry.packed.max(entry.unpacked) > len_max {
            return Err(wrong("is larger than any that is read").into());
        }
        let packed = read(self.file, data)?;
        let unpacked = match entry.method {
            Method::Stored => packed,
            Method::Deflated => {
                let mut unpacked = Vec::new();
                // One byte more than it claims shows that it lies; no more is unpacked.
                let mut decoder = DeflateDecoder::new(packed.as_slice()).take(entry.unpacked + 1);
                decoder.read_to_end(&mut unpacked).map_err(|_| wrong("does not unpack"))?;
                unpacked
            }
        };
        let mut crc = Crc::new();
        crc.update(&unpacked);
        if unpacked.len() as u64 != entry.unpacked || crc.sum() != entry.crc32 {
            return Err(wrong("does not unpack to what it claims").into());
        }
        Ok(Some(unpacked))
    }

    /// The ABIs that it has native code for: the folders of `lib`.
    pub(super) fn abis(&self) -> BTreeSet<String> {
        let abi = |entry: &Entry| {
            let (abi, file) = entry.name.strip_prefix("lib/")?.split_once('/')?;
            (!file.is_empty()).then(|| abi.to_owned())
        };
        self.entries.iter().filter_map(|(entry, _)| abi(entry)).collect()
    }
}

/// Finds the end record of an archive.
pub(super) fn read_end(file: &File) -> Result<ZipEnd, ArchiveError> {
    let file_len = file.metadata()?.len();
    let tail = read(file, &(file_len.saturating_sub(zip::TAIL_LEN as u64)..file_len))?;
    Ok(ZipEnd::find(&tail, file_len)?)
}

/// The bytes of a range, which the caller has bounded.
pub(super) fn read(file: &File, range: &Range<u64>) -> io::Result<Vec<u8>> {
    let len = usize::try_from(range.end.saturating_sub(range.start)).map_err(io::Error::other)?;
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, range.start)?;
    Ok(bytes)
}
