//! What goes through the tool server: frames of u8 kind, u32 little-endian length, payload.
//!
//! Asks, answers and refusals are JSON; files and what commands say are the bytes themselves.

use std::fmt;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::adb::services::RebootTarget;
use crate::adb::services::install::InstallFlag;
use crate::adb::services::shell::{ShellMode, WindowSize};
use crate::adb::services::sync::{Compression, FileStat, FolderEntry};
use crate::rack::request::Refusal;

/// The name of the tool server's socket in the daemon's state directory.
pub const SOCKET: &str = "phones.sock";

/// The length of a frame's head in bytes.
pub const HEAD_LEN: usize = 5;

/// The longest payload in bytes.
pub const PAYLOAD_MAX: usize = 1 << 20;

/// How many open files one ask can bring: more than any app has splits.
pub const FILES_MAX: usize = 64;

/// The largest file that travels within a frame, in bytes; larger ones are handed over open.
pub const SMALL_FILE_MAX: usize = 256 << 10;

/// What a command wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// The slot or the id of the phone.
    pub phone: String,
    /// What shall be done.
    pub work: Work,
}

/// What can be done on a phone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// Run a command; input comes by frames, what it says goes by frames.
    Shell {
        /// The command; a shell of its own if empty.
        command: String,
        /// What it runs on.
        mode: ShellMode,
    },
    /// Tell what is at a path.
    Stat {
        /// The path.
        path: String,
    },
    /// Tell what is in a folder: output frames, each with a JSON list of [`FolderEntry`].
    List {
        /// The path.
        path: String,
    },
    /// Write a file, which comes open with the ask, or by input frames if none does.
    Push {
        /// Its path on the phone.
        to: RemotePath,
        /// Whether it is compressed on its way.
        compression: Compression,
        /// Whether the phone only takes it and throws it away.
        dry_run: bool,
    },
    /// Write the small files that follow.
    PushMany,
    /// Read a file into the open one that comes with the ask, or into output frames if none does.
    Pull {
        /// Its path on the phone.
        path: String,
        /// Whether it is compressed on its way.
        compression: Compression,
    },
    /// Install an app; its APKs come open with the ask, in the order of their names.
    Install {
        /// The APKs' names.
        names: Vec<String>,
        /// What is allowed.
        flags: Vec<InstallFlag>,
        /// For which user of the phone; for all, if none is named.
        user: Option<u32>,
    },
    /// Give the screen as a PNG, by output frames.
    Screenshot,
    /// Restart the phone.
    Reboot {
        /// To where.
        target: RebootTarget,
    },
    /// Make the phone stand out.
    Identify,
}

impl Work {
    /// Its name, for the log.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Shell { .. } => "shell",
            Self::Stat { .. } => "stat",
            Self::List { .. } => "list",
            Self::Push { .. } | Self::PushMany => "push",
            Self::Pull { .. } => "pull",
            Self::Install { .. } => "install",
            Self::Screenshot => "screenshot",
            Self::Reboot { .. } => "reboot",
            Self::Identify => "identify",
        }
    }

    /// Whether the owner of the rack will want to find it in the log.
    #[must_use]
    pub fn changes_the_phone(&self) -> bool {
        matches!(self, Self::Install { .. } | Self::Reboot { .. })
    }
}

/// A file on the phone that shall be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemotePath {
    /// Its path.
    pub path: String,
    /// Its permissions.
    pub mode: u32,
    /// When it was changed last, in seconds since 1970.
    pub mtime_s: u32,
}

/// A file that fits in a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InlineFile {
    /// Where it goes.
    pub to: RemotePath,
    /// What is in it, at most [`SMALL_FILE_MAX`] bytes.
    pub content: Bytes,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The command ended, with this status where the phone tells one.
    Exit {
        /// The status.
        status: Option<u8>,
    },
    /// What is at the path; nothing, if nothing is there.
    Stat {
        /// What is there.
        stat: Option<FileStat>,
    },
    /// So many bytes of a file went.
    Bytes {
        /// How many.
        len: u64,
    },
    /// So many files went.
    Files {
        /// How many.
        count: u64,
    },
    /// The phone shows itself.
    Shown {
        /// Its screen was lit.
        screen: bool,
        /// It vibrated.
        vibration: bool,
    },
    /// It was done.
    Done,
}

/// Frames of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Up {
    /// What it wants.
    Ask(Ask),
    /// Input.
    Input(Bytes),
    /// No more input follows.
    EndOfInput,
    /// The terminal has another size.
    Resize(WindowSize),
    /// A small file.
    File(InlineFile),
}

/// Frames of the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Down {
    /// Output.
    Output(Bytes),
    /// Errors.
    Errors(Bytes),
    /// So many bytes have gone by now.
    Progress(u64),
    /// It was done; the last frame of an ask.
    Done(Answer),
    /// It was not done; the last frame of an ask.
    Refused(Refusal),
}

/// A folder's entries in an output frame.
#[must_use]
pub fn emit_entries(entries: &[FolderEntry]) -> Bytes {
    let plain: Vec<_> = entries.iter().map(|entry| (&entry.name, entry.stat)).collect();
    json(&plain)
}

/// The entries of an output frame.
///
/// # Errors
/// They are none.
pub fn parse_entries(payload: &[u8]) -> Result<Vec<FolderEntry>, WireError> {
    let plain: Vec<(String, Option<FileStat>)> = from_json(b'O', payload)?;
    Ok(plain.into_iter().map(|(name, stat)| FolderEntry { name, stat }).collect())
}

/// Why bytes are no frame.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// No frame has this kind.
    #[error("no frame is of kind {}", char::from(*seen).escape_debug())]
    Kind {
        /// The field.
        seen: u8,
    },
    /// It is too long.
    #[error("a frame has {seen} bytes, at most {PAYLOAD_MAX} are taken")]
    Length {
        /// The field.
        seen: u32,
    },
    /// Its payload is not what its kind promises.
    #[error("a frame of kind {} can't be read: {why}", char::from(*kind).escape_debug())]
    Payload {
        /// The frame's kind.
        kind: u8,
        /// What is wrong.
        why: String,
    },
}

/// Frames of one direction.
pub trait Frame: Sized + fmt::Debug {
    /// Kind and payload.
    fn emit(&self) -> (u8, Bytes);

    /// Reads a payload.
    ///
    /// # Errors
    /// What makes it no frame.
    fn parse(kind: u8, payload: Bytes) -> Result<Self, WireError>;
}

impl Frame for Up {
    fn emit(&self) -> (u8, Bytes) {
        match self {
            Self::Ask(ask) => (b'A', json(ask)),
            Self::Input(bytes) => (b'I', bytes.clone()),
            Self::EndOfInput => (b'E', Bytes::new()),
            Self::Resize(size) => (b'W', json(size)),
            Self::File(file) => {
                let mut payload = BytesMut::from(json(&file.to));
                payload.put_u8(b'\n');
                payload.put_slice(&file.content);
                (b'F', payload.freeze())
            }
        }
    }

    fn parse(kind: u8, mut payload: Bytes) -> Result<Self, WireError> {
        Ok(match kind {
            b'A' => Self::Ask(from_json(kind, &payload)?),
            b'I' => Self::Input(payload),
            b'E' => Self::EndOfInput,
            b'W' => Self::Resize(from_json(kind, &payload)?),
            b'F' => {
                // JSON of one line has no such byte.
                let line_len = payload.iter().position(|byte| *byte == b'\n').unwrap_or(payload.len());
                let to = from_json(kind, &payload.split_to(line_len))?;
                payload.advance(payload.len().min(1));
                Self::File(InlineFile { to, content: payload })
            }
            seen => return Err(WireError::Kind { seen }),
        })
    }
}

impl Frame for Down {
    fn emit(&self) -> (u8, Bytes) {
        match self {
            Self::Output(bytes) => (b'O', bytes.clone()),
            Self::Errors(bytes) => (b'X', bytes.clone()),
            Self::Progress(bytes) => (b'P', Bytes::copy_from_slice(&bytes.to_le_bytes())),
            Self::Done(answer) => (b'D', json(answer)),
            Self::Refused(refusal) => (b'R', json(refusal)),
        }
    }

    fn parse(kind: u8, payload: Bytes) -> Result<Self, WireError> {
        Ok(match kind {
            b'O' => Self::Output(payload),
            b'X' => Self::Errors(payload),
            b'P' => {
                let bytes = <[u8; 8]>::try_from(payload.as_ref());
                let why = |_| WireError::Payload { kind, why: format!("it has {} bytes, expected 8", payload.len()) };
                Self::Progress(u64::from_le_bytes(bytes.map_err(why)?))
            }
            b'D' => Self::Done(from_json(kind, &payload)?),
            b'R' => Self::Refused(from_json(kind, &payload)?),
            seen => return Err(WireError::Kind { seen }),
        })
    }
}

/// The head of a frame.
#[must_use]
pub fn head(kind: u8, payload_len: usize) -> [u8; HEAD_LEN] {
    let [a, b, c, d] = u32::try_from(payload_len).unwrap_or(u32::MAX).to_le_bytes();
    [kind, a, b, c, d]
}

/// Kind and length of a head.
///
/// # Errors
/// The payload would be too long.
pub fn parse_head([kind, a, b, c, d]: [u8; HEAD_LEN]) -> Result<(u8, usize), WireError> {
    let seen = u32::from_le_bytes([a, b, c, d]);
    let len = usize::try_from(seen).ok().filter(|len| *len <= PAYLOAD_MAX);
    len.map(|len| (kind, len)).ok_or(WireError::Length { seen })
}

/// The whole first frame of a buffer, if it is there.
///
/// # Errors
/// What makes the bytes no frame.
pub fn take_frame<F: Frame>(buffer: &mut BytesMut) -> Result<Option<F>, WireError> {
    let Some(head) = buffer.first_chunk::<HEAD_LEN>() else { return Ok(None) };
    let (kind, len) = parse_head(*head)?;
    if buffer.len() < HEAD_LEN + len {
        return Ok(None);
    }
    buffer.advance(HEAD_LEN);
    F::parse(kind, buffer.split_to(len).freeze()).map(Some)
}

/// Reads any bytes as frames of either direction, in chunks whose size is the first byte; what a fuzzer calls.
///
/// # Panics
/// When what is read depends on where the chunks end, or a frame that was taken is another one once it was sent again.
pub fn fuzz_frames(bytes: &[u8]) {
    fuzz_direction::<Up>(bytes);
    fuzz_direction::<Down>(bytes);
    if let Ok(entries) = parse_entries(bytes) {
        assert_eq!(parse_entries(&emit_entries(&entries)).ok(), Some(entries));
    }
}

fn fuzz_direction<F: Frame + PartialEq>(bytes: &[u8]) {
    let Some((chunk, bytes)) = bytes.split_first() else { return };
    let mut whole = BytesMut::from(bytes);
    let at_once: Vec<F> = std::iter::from_fn(|| take_frame(&mut whole).ok().flatten()).collect();
    let mut buffer = BytesMut::new();
    let mut in_chunks = Vec::new();
    'chunks: for chunk in bytes.chunks(usize::from(*chunk).max(1)) {
        buffer.put_slice(chunk);
        loop {
            match take_frame::<F>(&mut buffer) {
                Ok(Some(frame)) => in_chunks.push(frame),
                Ok(None) => break,
                Err(_) => break 'chunks,
            }
        }
        assert!(buffer.len() < HEAD_LEN + PAYLOAD_MAX, "a frame is taken as soon as it is there");
    }
    assert_eq!(at_once, in_chunks);
    for frame in at_once {
        let (kind, payload) = frame.emit();
        assert_eq!(F::parse(kind, payload).ok(), Some(frame));
    }
}

fn json(value: &impl Serialize) -> Bytes {
    // Of these types every value has a JSON form.
    serde_json::to_vec(value).unwrap_or_default().into()
}

fn from_json<'a, T: Deserialize<'a>>(kind: u8, payload: &'a [u8]) -> Result<T, WireError> {
    serde_json::from_slice(payload).map_err(|error| WireError::Payload { kind, why: error.to_string() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn round<F: Frame + PartialEq>(frame: F) {
        let (kind, payload) = frame.emit();
        let mut bytes = BytesMut::from(&head(kind, payload.len())[..]);
        bytes.put_slice(&payload);
        let mut buffer = BytesMut::new();
        for byte in bytes {
            assert!(take_frame::<F>(&mut buffer).unwrap().is_none());
            buffer.put_u8(byte);
        }
        assert_eq!(take_frame::<F>(&mut buffer).unwrap(), Some(frame));
        assert!(buffer.is_empty());
    }

    #[test]
    fn frames_come_out_as_they_went_in() {
        let size = WindowSize { rows: 24, columns: 80 };
        let mode = ShellMode::Terminal { name: "xterm".to_owned(), size };
        let work = Work::Shell { command: "ls\n".to_owned(), mode };
        round(Up::Ask(Ask { phone: "A1".to_owned(), work }));
        round(Up::Resize(size));
        round(Up::EndOfInput);
        let to = RemotePath { path: "/a\nb".to_owned(), mode: 0o644, mtime_s: 7 };
        round(Up::File(InlineFile { to, content: Bytes::from_static(b"one\ntwo") }));
        round(Down::Progress(1 << 40));
        round(Down::Output(Bytes::from_static(b"\0\xff")));
        round(Down::Done(Answer::Exit { status: Some(3) }));
    }

    #[test]
    fn what_is_no_frame_is_told() {
        let error = |bytes: &[u8]| take_frame::<Up>(&mut BytesMut::from(bytes)).unwrap_err().to_string();
        assert_eq!(error(b"?\0\0\0\0"), "no frame is of kind ?");
        assert_eq!(error(b"I\x01\0\x10\0"), "a frame has 1048577 bytes, at most 1048576 are taken");
        assert!(error(b"A\x02\0\0\0{}").contains("phone"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>, kind in 0..6_usize) {
            fuzz_frames(&bytes);
            let kind = b"AIEWF?"[kind];
            let _ = Up::parse(kind, bytes.clone().into());
            let _ = Down::parse(kind, bytes.into());
        }
    }
}
