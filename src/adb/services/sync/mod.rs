//! `sync:`: files to and from the handset.
//!
//! Requests and replies begin with four letters and a u32, little-endian: a length or a number.
//!
//! ```text
//!     SEND len "path,mode"   DATA len bytes …   DONE mtime   ─▶   OKAY 0  or  FAIL len message
//!     STA2 len path                                          ─▶   STA2 error … mode … size … mtime …
//!     RECV len path                                          ─▶   DATA len bytes …   DONE 0  or  FAIL len message
//!     LIS2 len path                                          ─▶   DNT2 … name …   DONE …
//! ```
//!
//! SND2 and RCV2 say the path first and by themselves, then mode and compression. Requests are not answered one by one: many files
//! can be on their way before the first one's OKAY.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

/// The most bytes in one DATA: adbd refuses more.
pub const DATA_MAX: usize = 64 << 10;

/// The longest path, in bytes, as adbd takes it.
pub const PATH_MAX: usize = 1024;

/// The longest message of a FAIL that is taken, in bytes.
pub const MESSAGE_MAX: usize = 64 << 10;

/// The length of letters and number.
pub const HEAD_LEN: usize = 8;

/// Where the fields of a STA2 stand, counted from its letters, in bytes; it has 72.
const STAT_V2_LEN: usize = 72;
const STAT_V1_LEN: usize = 16;

/// `ENOENT` and `ENOTDIR` in a STA2.
const NOTHING_THERE: [u32; 2] = [2, 20];

/// What the host asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Write a file: DATA and DONE follow.
    Send {
        /// Its path on the handset, at most [`PATH_MAX`] bytes.
        path: String,
        /// Its mode: file type and permissions.
        mode: u32,
    },
    /// The same, compressed.
    SendV2 {
        /// Its path on the handset, at most [`PATH_MAX`] bytes.
        path: String,
        /// Its mode: file type and permissions.
        mode: u32,
        /// How its DATA are compressed.
        compression: WireCompression,
        /// What the handset does with it.
        fate: Fate,
    },
    /// Read a file.
    Receive {
        /// The path.
        path: String,
    },
    /// The same, compressed.
    ReceiveV2 {
        /// The path.
        path: String,
        /// How its DATA shall be compressed.
        compression: WireCompression,
    },
    /// What is in a folder.
    List {
        /// The path.
        path: String,
        /// How it shall be told.
        form: ListForm,
    },
    /// What is at a path; the older form, sizes below 4 GiB.
    StatV1 {
        /// The path.
        path: String,
    },
    /// What is at a path.
    StatV2 {
        /// The path.
        path: String,
    },
    /// The file is whole.
    Done {
        /// When it was changed last, in seconds since 1970.
        mtime_s: u32,
    },
    /// No more requests.
    Quit,
}

impl Request {
    /// Its bytes.
    #[must_use]
    pub fn emit(&self) -> Bytes {
        match self {
            Self::Send { path, mode } => with_text(*b"SEND", &format!("{path},{mode}")),
            Self::SendV2 { path, mode, compression, fate } => {
                let mut bytes = BytesMut::from(with_text(*b"SND2", path));
                bytes.put_slice(&head(*b"SND2", *mode));
                bytes.put_u32_le(compression.flags() | fate.flags());
                bytes.freeze()
            }
            Self::Receive { path } => with_text(*b"RECV", path),
            Self::ReceiveV2 { path, compression } => {
                let mut bytes = BytesMut::from(with_text(*b"RCV2", path));
                bytes.put_slice(&head(*b"RCV2", compression.flags()));
                bytes.freeze()
            }
            Self::List { path, form: ListForm::V1 } => with_text(*b"LIST", path),
            Self::List { path, form: ListForm::V2 } => with_text(*b"LIS2", path),
            Self::StatV1 { path } => with_text(*b"STAT", path),
            Self::StatV2 { path } => with_text(*b"STA2", path),
            Self::Done { mtime_s } => Bytes::copy_from_slice(&head(*b"DONE", *mtime_s)),
            Self::Quit => Bytes::copy_from_slice(&head(*b"QUIT", 0)),
        }
    }
}

/// How DATA are compressed, where `sendrecv_v2` is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireCompression {
    /// Not at all.
    None,
    /// As one LZ4 frame.
    Lz4,
}

impl WireCompression {
    fn flags(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Lz4 => 2,
        }
    }
}

/// What becomes of a file that is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fate {
    /// It is written.
    #[default]
    Kept,
    /// It is thrown away, where `sendrecv_v2_dry_run_send` is offered: what remains is the time that its way takes.
    Discarded,
}

impl Fate {
    fn flags(self) -> u32 {
        match self {
            Self::Kept => 0,
            Self::Discarded => 1 << 31,
        }
    }
}

fn with_text(letters: [u8; 4], text: &str) -> Bytes {
    let mut bytes = BytesMut::with_capacity(HEAD_LEN + text.len());
    bytes.put_slice(&head(letters, u32::try_from(text.len()).unwrap_or(u32::MAX)));
    bytes.put_slice(text.as_bytes());
    bytes.freeze()
}

/// Letters and number.
#[must_use]
pub fn head(letters: [u8; 4], number: u32) -> [u8; HEAD_LEN] {
    let mut bytes = [0; HEAD_LEN];
    for (to, from) in bytes.iter_mut().zip(letters.into_iter().chain(number.to_le_bytes())) {
        *to = from;
    }
    bytes
}

/// What is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FileStat {
    /// File type and permissions.
    pub mode: u32,
    /// In bytes.
    pub size: u64,
    /// When it was changed last, in seconds since 1970.
    pub mtime_s: i64,
}

impl FileStat {
    /// The bits of a mode that say what it is.
    const TYPE: u32 = 0o170_000;

    /// Whether it is a folder.
    #[must_use]
    pub fn is_folder(&self) -> bool {
        self.mode & Self::TYPE == 0o040_000
    }

    /// Whether it is a regular file.
    #[must_use]
    pub fn is_file(&self) -> bool {
        self.mode & Self::TYPE == 0o100_000
    }
}

/// What the handset answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Done.
    Okay,
    /// Not done.
    Fail(String),
    /// What is at the path; nothing, if nothing is there.
    Stat(Option<FileStat>),
    /// What is at the path can't be told; the error number of Linux.
    StatFailed(u32),
}

/// Why bytes are no reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// No reply has these letters.
    #[error("the sync reply (offset 0) is {:?}, expected {expected}", seen.escape_ascii().to_string())]
    Letters {
        /// The field.
        seen: [u8; 4],
        /// What may come here.
        expected: &'static str,
    },
    /// There is too much in a DATA.
    #[error("the length of DATA (offset 4) is {seen}, expected at most {DATA_MAX} bytes")]
    DataLength {
        /// The field.
        seen: u32,
    },
    /// A name is too long.
    #[error("the length of a name in a folder is {seen}, expected at most 255 bytes")]
    NameLength {
        /// The field.
        seen: u32,
    },
    /// The message is too long.
    #[error("the length of FAIL (offset 4) is {seen}, expected at most {MESSAGE_MAX} bytes")]
    Length {
        /// The field.
        seen: u32,
    },
}

/// Turns a stream's chunks into replies.
#[derive(Debug, Default)]
pub struct ReplyDecoder {
    buffer: BytesMut,
}

impl ReplyDecoder {
    /// Takes a chunk.
    pub fn push(&mut self, chunk: &[u8]) {
        self.buffer.extend_from_slice(chunk);
    }

    /// The next whole reply.
    ///
    /// # Errors
    /// What makes the bytes no reply; the stream can't go on then.
    pub fn next_reply(&mut self) -> Result<Option<Reply>, ReplyError> {
        let Some(letters) = self.buffer.first_chunk::<4>().copied() else { return Ok(None) };
        let len = match &letters {
            b"OKAY" => HEAD_LEN,
            b"STAT" => STAT_V1_LEN,
            b"STA2" => STAT_V2_LEN,
            b"FAIL" => match self.buffer.get(4..).and_then(|rest| rest.first_chunk::<4>()) {
                Some(len) => HEAD_LEN + message_len(u32::from_le_bytes(*len))?,
                None => return Ok(None),
            },
            _ => return Err(ReplyError::Letters { seen: letters, expected: "OKAY, FAIL, STAT or STA2" }),
        };
        if self.buffer.len() < len {
            return Ok(None);
        }
        let mut body = self.buffer.split_to(len).freeze();
        body.advance(letters.len());
        Ok(Some(match &letters {
            b"STAT" => stat_v1(&mut body),
            b"STA2" => stat_v2(&mut body).map_or_else(Reply::StatFailed, Reply::Stat),
            b"FAIL" => {
                body.advance(HEAD_LEN - letters.len());
                Reply::Fail(String::from_utf8_lossy(&body).into_owned())
            }
            _ => Reply::Okay,
        }))
    }
}

fn message_len(seen: u32) -> Result<usize, ReplyError> {
    usize::try_from(seen).ok().filter(|len| *len <= MESSAGE_MAX).ok_or(ReplyError::Length { seen })
}

/// Mode, size, time; all 0 if nothing is there. The body has its 12 bytes.
fn stat_v1(body: &mut Bytes) -> Reply {
    let (mode, size, mtime_s) = (body.get_u32_le(), u64::from(body.get_u32_le()), i64::from(body.get_u32_le()));
    let nothing = (mode, size, mtime_s) == (0, 0, 0);
    Reply::Stat((!nothing).then_some(FileStat { mode, size, mtime_s }))
}

/// Error, dev, ino, mode, nlink, uid, gid, size, atime, mtime, ctime; or the error. The body has its 68 bytes.
fn stat_v2(body: &mut Bytes) -> Result<Option<FileStat>, u32> {
    let error = body.get_u32_le();
    body.advance(16);
    let mode = body.get_u32_le();
    body.advance(12);
    let size = body.get_u64_le();
    body.advance(8);
    let mtime_s = body.get_i64_le();
    match error {
        0 => Ok(Some(FileStat { mode, size, mtime_s })),
        error if NOTHING_THERE.contains(&error) => Ok(None),
        error => Err(error),
    }
}

/// Decodes any bytes, in chunks whose size is the first byte; what a fuzzer calls.
pub fn fuzz_replies(bytes: &[u8]) {
    let Some((&step, bytes)) = bytes.split_first() else { return };
    let mut decoder = ReplyDecoder::default();
    for chunk in bytes.chunks(usize::from(step).max(1)) {
        decoder.push(chunk);
        while let Ok(Some(_)) = decoder.next_reply() {}
    }
}

pub use data::{DataDecoder, Piece, fuzz_data};
pub use entries::{EntryDecoder, FolderEntry, ListForm, Listed, fuzz_entries};
#[cfg(feature = "daemon")]
pub use {
    dialogue::SyncError,
    pull::PullOptions,
    push::{Compression, PushOptions, RemoteFile, SmallFile},
};

mod data;
#[cfg(feature = "daemon")]
mod dialogue;
mod entries;
#[cfg(feature = "daemon")]
mod pull;
#[cfg(feature = "daemon")]
mod push;

#[cfg(test)]
mod tests;
