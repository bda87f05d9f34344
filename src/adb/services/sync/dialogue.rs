//! A conversation on `sync:`: what both directions share.

use std::io;
use std::time::Duration;

use super::entries::{EntryDecoder, FolderEntry, ListForm, Listed};
use super::{FileStat, PATH_MAX, Reply, ReplyDecoder, ReplyError, Request};
use crate::adb::driver::{Adb, OpenError, Stream, StreamError};

/// How long the handset may take for a reply: at a file's end it may still have to write megabytes to slow flash.
pub(super) const REPLY_WAIT: Duration = Duration::from_secs(120);

/// How many entries of one folder are taken.
const ENTRIES_MAX: usize = 1 << 20;

/// Why files did not come across, or nothing was told of them.
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
    /// It knows no dry run.
    #[error("the handset keeps whatever it is sent: it offers no sendrecv_v2_dry_run_send, as Android 11 and later do")]
    NoDryRun,
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
    /// A folder has too many entries.
    #[error("the folder has more than {ENTRIES_MAX} entries")]
    TooMany,
    /// The source on the host can't be read.
    #[error("the file to be sent can't be read: {0}")]
    Source(io::Error),
    /// The target on the host can't be written.
    #[error("what the handset sends can't be written: {0}")]
    Target(io::Error),
}

impl Adb {
    /// What is at a path; none if nothing is there. Where the handset can, links are followed.
    ///
    /// # Errors
    /// The handset did not tell.
    pub async fn stat(&self, path: &str) -> Result<Option<FileStat>, SyncError> {
        check_path(path)?;
        let mut dialogue = Dialogue::open(self).await?;
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

    /// What is in a folder, by name; nothing, if it is none or can't be read: handsets tell no more.
    ///
    /// # Errors
    /// The handset did not tell.
    pub async fn list(&self, path: &str) -> Result<Vec<FolderEntry>, SyncError> {
        check_path(path)?;
        let stream = self.open("sync:").await?;
        let form = if self.banner().offers("ls_v2") { ListForm::V2 } else { ListForm::V1 };
        stream.write(Request::List { path: path.to_owned(), form }.emit()).await?;
        let (mut decoder, mut entries) = (EntryDecoder::new(form), Vec::new());
        loop {
            match decoder.next_entry()? {
                Some(Listed::Entry(_)) if entries.len() == ENTRIES_MAX => return Err(SyncError::TooMany),
                Some(Listed::Entry(entry)) => entries.push(entry),
                Some(Listed::Fail(message)) => return Err(SyncError::Failed(message)),
                Some(Listed::Done) => break,
                None => decoder.push(&next_chunk(&stream, "what is in a folder").await?),
            }
        }
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }
}

pub(super) fn check_path(path: &str) -> Result<(), SyncError> {
    if (1..=PATH_MAX).contains(&path.len()) {
        return Ok(());
    }
    Err(SyncError::Path { path: path.to_owned(), seen: path.len() })
}

/// The next bytes of a stream that must go on.
pub(super) async fn next_chunk(stream: &Stream, why: &'static str) -> Result<bytes::Bytes, SyncError> {
    match tokio::time::timeout(REPLY_WAIT, stream.read()).await {
        Ok(chunk) => chunk?.ok_or(SyncError::NoReply),
        Err(_) => Err(SyncError::Timeout { why }),
    }
}

/// An open `sync:`.
pub(super) struct Dialogue {
    pub(super) stream: Stream,
    pub(super) decoder: ReplyDecoder,
}

impl Dialogue {
    pub(super) async fn open(adb: &Adb) -> Result<Self, SyncError> {
        Ok(Self { stream: adb.open("sync:").await?, decoder: ReplyDecoder::default() })
    }

    pub(super) async fn reply(&mut self, why: &'static str) -> Result<Reply, SyncError> {
        next_reply(&self.stream, &mut self.decoder, why).await
    }
}

pub(super) async fn next_reply(
    stream: &Stream,
    decoder: &mut ReplyDecoder,
    why: &'static str,
) -> Result<Reply, SyncError> {
    loop {
        if let Some(reply) = decoder.next_reply()? {
            return Ok(reply);
        }
        decoder.push(&next_chunk(stream, why).await?);
    }
}
