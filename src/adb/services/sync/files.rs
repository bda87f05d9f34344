//! Writing a file to the handset, and asking what is there.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt as _;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::{DATA_MAX, FileStat, HEAD_LEN, PATH_MAX, Reply, ReplyDecoder, ReplyError, Request, head};
use crate::adb::driver::{Adb, OpenError, Stream, StreamError};

/// How long the handset may take for a reply: at a file's end it may still have to write megabytes to slow flash.
const REPLY_WAIT: Duration = Duration::from_secs(120);

/// A file on the handset that shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteFile {
    /// Its path, at most [`PATH_MAX`] bytes.
    pub path: String,
    /// Its permissions. adbd gives group and others what the owner has.
    pub mode: u32,
    /// When it was changed last, in seconds since 1970.
    pub mtime_s: u32,
}

/// Why a file was not written, or nothing was told of it.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// The path is too long for the protocol.
    #[error("the path has {seen} bytes, expected 1 to {PATH_MAX}: {path}")]
    Path {
        /// The path.
        path: String,
        /// Its length.
        seen: usize,
    },
    /// `sync:` was not opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Its stream ended early.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// The handset closed the stream without a reply.
    #[error("the handset closed the stream without a reply")]
    NoReply,
    /// It sent nonsense.
    #[error("the handset's file service sent nonsense: {0}")]
    Reply(#[from] ReplyError),
    /// It answered something else.
    #[error("the handset answered {0:?}")]
    Unexpected(Reply),
    /// It could not do it.
    #[error("the handset could not do it: {0}")]
    Failed(String),
    /// What is at the path can't be told.
    #[error("the handset can't tell what is at the path: error {errno} of Linux")]
    Stat {
        /// The number.
        errno: u32,
    },
    /// It took too long.
    #[error("waited {REPLY_WAIT:?} for {why}")]
    Timeout {
        /// What for.
        why: &'static str,
    },
    /// The source can't be read.
    #[error("the file to be sent can't be read: {0}")]
    Source(io::Error),
}

impl Adb {
    /// Writes a file, and gives its length in bytes. Missing folders are made by the handset. No deadline for the whole: the
    /// connection has one for each acknowledgement, and the handset's word at the end has one.
    ///
    /// # Errors
    /// Why the file is not there; a part of it may be.
    pub async fn push(&self, source: impl AsyncRead + Unpin, to: &RemoteFile) -> Result<u64, SyncError> {
        check_path(&to.path)?;
        let mut dialogue = Dialogue { stream: self.open("sync:").await?, decoder: ReplyDecoder::default() };
        // The file's type is a part of the mode; only regular files are sent.
        let request = Request::Send { path: to.path.clone(), mode: 0o100_000 | to.mode & 0o7777 };
        let sent = send_file(&dialogue.stream, source, self.payload_max(), request.emit(), to.mtime_s).await;
        let len = match sent {
            Ok(len) => len,
            // The handset ended the stream: its reason may be there.
            Err(SyncError::Stream(error)) => {
                return Err(match dialogue.reply("the reason of a failed transfer").await {
                    Ok(Reply::Fail(message)) => SyncError::Failed(message),
                    _ => error.into(),
                });
            }
            Err(error) => return Err(error),
        };
        match dialogue.reply("the handset's word that the file is written").await? {
            Reply::Okay => {}
            Reply::Fail(message) => return Err(SyncError::Failed(message)),
            other => return Err(SyncError::Unexpected(other)),
        }
        // So that adbd's side ends by itself.
        let _ = dialogue.stream.write(Request::Quit.emit()).await;
        Ok(len)
    }

    /// What is at a path; none if nothing is there.
    ///
    /// # Errors
    /// The handset did not tell.
    pub async fn stat(&self, path: &str) -> Result<Option<FileStat>, SyncError> {
        check_path(path)?;
        let mut dialogue = Dialogue { stream: self.open("sync:").await?, decoder: ReplyDecoder::default() };
        let path = path.to_owned();
        let request = if self.banner().offers("stat_v2") { Request::StatV2 { path } } else { Request::StatV1 { path } };
        dialogue.stream.write(request.emit()).await?;
        match dialogue.reply("what is at a path").await? {
            Reply::Stat(stat) => Ok(stat),
            Reply::StatFailed(errno) => Err(SyncError::Stat { errno }),
            Reply::Fail(message) => Err(SyncError::Failed(message)),
            Reply::Okay => Err(SyncError::Unexpected(Reply::Okay)),
        }
    }
}

fn check_path(path: &str) -> Result<(), SyncError> {
    if (1..=PATH_MAX).contains(&path.len()) {
        return Ok(());
    }
    Err(SyncError::Path { path: path.to_owned(), seen: path.len() })
}

struct Dialogue {
    stream: Stream,
    decoder: ReplyDecoder,
}

impl Dialogue {
    async fn reply(&mut self, why: &'static str) -> Result<Reply, SyncError> {
        let work = async {
            loop {
                if let Some(reply) = self.decoder.next_reply()? {
                    return Ok(reply);
                }
                let chunk = self.stream.read().await?.ok_or(SyncError::NoReply)?;
                self.decoder.push(&chunk);
            }
        };
        tokio::time::timeout(REPLY_WAIT, work).await.unwrap_or(Err(SyncError::Timeout { why }))
    }
}

/// Sends the request and the file as DATA, in writes of exactly the agreed maximum: that is what makes ADB fast.
async fn send_file(
    stream: &Stream,
    mut source: impl AsyncRead + Unpin,
    payload_max: usize,
    request: Bytes,
    mtime_s: u32,
) -> Result<u64, SyncError> {
    let mut batch = BytesMut::with_capacity(payload_max);
    batch.extend_from_slice(&request);
    let mut total = 0;
    loop {
        let room = payload_max.saturating_sub(batch.len());
        if room <= HEAD_LEN {
            stream.write(batch.freeze()).await?;
            batch = BytesMut::with_capacity(payload_max);
            // A handset whose storage is full says so at once, and reads on to the end.
            if let Some(early) = stream.read().now_or_never() {
                return Err(early_reply(early?));
            }
            continue;
        }
        let len =
            read_data(&mut source, &mut batch, (room - HEAD_LEN).min(DATA_MAX)).await.map_err(SyncError::Source)?;
        if len == 0 {
            break;
        }
        total += len as u64;
    }
    batch.extend_from_slice(&Request::Done { mtime_s }.emit());
    stream.write(batch.freeze()).await?;
    Ok(total)
}

/// Appends one DATA of up to `max` bytes; nothing at the end of the source.
async fn read_data(source: &mut (impl AsyncRead + Unpin), batch: &mut BytesMut, max: usize) -> io::Result<usize> {
    let start = batch.len();
    batch.extend_from_slice(&[0; HEAD_LEN]);
    let mut len = 0;
    while len < max {
        let read = source.take((max - len) as u64).read_buf(batch).await?;
        if read == 0 {
            break;
        }
        len += read;
    }
    if len == 0 {
        batch.truncate(start);
    } else if let Some(place) = batch.get_mut(start..start + HEAD_LEN) {
        place.copy_from_slice(&head(*b"DATA", u32::try_from(len).unwrap_or(u32::MAX)));
    }
    Ok(len)
}

fn early_reply(chunk: Option<Bytes>) -> SyncError {
    let Some(chunk) = chunk else { return SyncError::NoReply };
    let mut decoder = ReplyDecoder::default();
    decoder.push(&chunk);
    match decoder.next_reply() {
        Ok(Some(Reply::Fail(message))) => SyncError::Failed(message),
        Ok(Some(other)) => SyncError::Unexpected(other),
        Ok(None) => SyncError::NoReply,
        Err(error) => error.into(),
    }
}
