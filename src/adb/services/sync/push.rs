//! Files to the handset: one large one, or many small ones back to back.

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::FutureExt as _;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, watch};

use super::dialogue::{Dialogue, SyncError, check_path, next_reply};
use super::{DATA_MAX, Fate, Reply, ReplyDecoder, Request, WireCompression, head};
use crate::adb::driver::{Adb, Stream};
use crate::adb::services::batches::{Batches, Layout, Source, is_compressible};

/// What is waited for at a file's end.
const WRITTEN: &str = "the handset's word that the file is written";

/// A file on the handset that shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteFile {
    /// Its path, at most [`super::PATH_MAX`] bytes.
    pub path: String,
    /// Its permissions. adbd gives group and others what the owner has.
    pub mode: u32,
    /// When it was changed last, in seconds since 1970.
    pub mtime_s: u32,
}

/// A file that is in memory as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmallFile {
    /// Where it goes.
    pub to: RemoteFile,
    /// What is in it.
    pub content: Bytes,
}

/// Whether files are compressed on their way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// As it pays: where the handset can, and a look at the file says that it gets smaller. What is pulled can't be looked at
    /// before, and is not compressed.
    #[default]
    Auto,
    /// By LZ4, where the handset can.
    Lz4,
    /// Not.
    None,
}

/// How to push.
#[derive(Clone, Debug, Default)]
pub struct PushOptions {
    /// Whether files are compressed.
    pub compression: Compression,
    /// Whether the handset keeps what it gets.
    pub fate: Fate,
    /// Told the bytes of the source that were given for sending.
    pub progress: Option<watch::Sender<u64>>,
}

impl Adb {
    /// Writes a file, and gives its length in bytes. Missing folders are made by the handset. No deadline for the whole: the
    /// connection has one for each acknowledgement, and the handset's word at the end has one.
    ///
    /// # Errors
    /// Why the file is not there; a part of it may be.
    pub async fn push(
        &self,
        source: impl Into<Source<'_>>,
        to: &RemoteFile,
        options: &PushOptions,
    ) -> Result<u64, SyncError> {
        check_path(&to.path)?;
        if options.fate == Fate::Discarded && !self.banner().offers("sendrecv_v2_dry_run_send") {
            return Err(SyncError::NoDryRun);
        }
        let source = source.into();
        let compression = self.compression_for(&source, options.compression);
        let mut dialogue = Dialogue::open(self).await?;
        let (path, mode, fate) = (to.path.clone(), file_mode(to), options.fate);
        let request = match (compression, fate) {
            (WireCompression::None, Fate::Kept) => Request::Send { path, mode },
            _ => Request::SendV2 { path, mode, compression, fate },
        };
        let layout = match compression {
            WireCompression::None => Layout::Data,
            WireCompression::Lz4 => Layout::Lz4,
        };
        let batches = Batches::new(source, layout, self.payload_max(), request.emit());
        let len = match send_file(&mut dialogue, batches, to.mtime_s, options.progress.as_ref()).await {
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
        accepted(dialogue.reply(WRITTEN).await?)?;
        // So that adbd's side ends by itself.
        let _ = dialogue.stream.write(Request::Quit.emit()).await;
        Ok(len)
    }

    /// Writes many files over one stream without waiting for each, and gives how many there were. It ends with the queue's senders,
    /// or at the first file that the handset can't write: its service ends then.
    ///
    /// # Errors
    /// Which file is not there, and why; those before it are.
    pub async fn push_many(&self, mut files: mpsc::Receiver<SmallFile>) -> Result<usize, (String, SyncError)> {
        let dialogue = Dialogue::open(self).await.map_err(|error| (String::new(), error))?;
        // How many may be unanswered at once; what comes back is 8 bytes each.
        let (sent, unanswered) = mpsc::channel(UNANSWERED_MAX);
        let write = async {
            let mut batch = Gathered { stream: &dialogue.stream, bytes: BytesMut::new(), max: self.payload_max() };
            loop {
                let file = tokio::select! {
                    file = files.recv() => file,
                    () = sent.closed() => None,
                };
                let Some(file) = file else { break };
                let path = file.to.path.clone();
                batch.put(&file).await.map_err(|error| (path.clone(), error))?;
                if let Err(TrySendError::Full(path)) = sent.try_send(path) {
                    // No answer comes to what was not sent.
                    let flushed = batch.flush().await;
                    flushed.map_err(|error| (path.clone(), error))?;
                    let _ = sent.send(path).await;
                }
                if files.is_empty() {
                    // Nothing more is at hand: what there is goes, while the rest comes.
                    batch.flush().await.map_err(|error| (file.to.path, error))?;
                }
            }
            drop(sent);
            Ok::<_, (String, SyncError)>(())
        };
        let read = async {
            let mut unanswered = unanswered;
            let (mut decoder, mut count) = (ReplyDecoder::default(), 0);
            while let Some(path) = unanswered.recv().await {
                let reply = next_reply(&dialogue.stream, &mut decoder, WRITTEN).await;
                reply.and_then(accepted).map_err(|error| (path, error))?;
                count += 1;
            }
            Ok(count)
        };
        let (written, count) = tokio::join!(write, read);
        let count = count?;
        written?;
        let _ = dialogue.stream.write(Request::Quit.emit()).await;
        Ok(count)
    }

    fn compression_for(&self, source: &Source, wanted: Compression) -> WireCompression {
        let offered = self.banner().offers("sendrecv_v2_lz4");
        let pays = match (wanted, source) {
            (Compression::Auto, Source::File(file)) => offered && is_compressible(file),
            (Compression::Auto, Source::Stream(_)) | (Compression::None, _) => false,
            (Compression::Lz4, _) => offered,
        };
        if pays { WireCompression::Lz4 } else { WireCompression::None }
    }
}

/// How many files may be without an answer: more than fit in the windows of both sides.
const UNANSWERED_MAX: usize = 16 << 10;

/// The file's type is a part of the mode; only regular files are sent.
fn file_mode(to: &RemoteFile) -> u32 {
    0o100_000 | to.mode & 0o7777
}

fn accepted(reply: Reply) -> Result<(), SyncError> {
    match reply {
        Reply::Okay => Ok(()),
        Reply::Fail(message) => Err(SyncError::Failed(message)),
        other => Err(SyncError::Unexpected(other)),
    }
}

/// Small files back to back, for writes of the agreed maximum.
struct Gathered<'a> {
    stream: &'a Stream,
    bytes: BytesMut,
    max: usize,
}

impl Gathered<'_> {
    async fn put(&mut self, file: &SmallFile) -> Result<(), SyncError> {
        check_path(&file.to.path)?;
        self.bytes.put_slice(&Request::Send { path: file.to.path.clone(), mode: file_mode(&file.to) }.emit());
        for data in file.content.chunks(DATA_MAX) {
            self.bytes.put_slice(&head(*b"DATA", u32::try_from(data.len()).unwrap_or(u32::MAX)));
            self.bytes.put_slice(data);
        }
        self.bytes.put_slice(&Request::Done { mtime_s: file.to.mtime_s }.emit());
        while self.bytes.len() >= self.max {
            let full = self.bytes.split_to(self.max).freeze();
            self.stream.write(full).await?;
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), SyncError> {
        if self.bytes.is_empty() {
            return Ok(());
        }
        let rest = self.bytes.split().freeze();
        Ok(self.stream.write(rest).await?)
    }
}

/// Sends request and file, reading one batch ahead.
async fn send_file(
    dialogue: &mut Dialogue,
    mut batches: Batches<'_>,
    mtime_s: u32,
    progress: Option<&watch::Sender<u64>>,
) -> Result<u64, SyncError> {
    let mut total = 0;
    let mut batch = batches.next().await.map_err(SyncError::Source)?;
    while let Some(now) = batch {
        let (written, next) = tokio::join!(dialogue.stream.write(now.bytes), batches.next());
        written?;
        batch = next.map_err(SyncError::Source)?;
        total += now.source_len as u64;
        if let Some(progress) = progress {
            progress.send_replace(total);
        }
        // A handset whose storage is full says so at once, and reads on to the end.
        early_end(dialogue).await?;
    }
    dialogue.stream.write(Request::Done { mtime_s }.emit()).await?;
    Ok(total)
}

/// What the handset says before the file's end is its end; it may come in pieces.
async fn early_end(dialogue: &mut Dialogue) -> Result<(), SyncError> {
    let Some(chunk) = dialogue.stream.read().now_or_never() else { return Ok(()) };
    dialogue.decoder.push(&chunk?.ok_or(SyncError::NoReply)?);
    Err(match dialogue.reply("the reason of a failed transfer").await? {
        Reply::Fail(message) => SyncError::Failed(message),
        other => SyncError::Unexpected(other),
    })
}
