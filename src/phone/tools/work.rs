//! What is asked through the tool server: one function a kind of work.
//!
//! Each gives what goes into the last frame, or why the connection can't go on.

use std::collections::VecDeque;
use std::fs::File;
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio_util::io::StreamReader;

use super::line::{FrameReader, FrameWriter, LineError};
use super::wire::{self, Answer, Down, PAYLOAD_MAX, RemotePath, Up, Work};
use crate::adb::driver::Adb;
use crate::adb::services::Source;
use crate::adb::services::install::{Apk, InstallFlag, InstallOptions};
use crate::adb::services::shell::{ServiceError, ShellEvent, ShellMode};
use crate::adb::services::sync::{Compression, Fate, PullOptions, PushOptions, RemoteFile, SmallFile, SyncError};
use crate::phone::{InstallFailure, InstallFailureClass};
use crate::rack::request::Refusal;

/// Between two words about progress: more than a terminal shows.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);
/// How many chunks wait for the other side at most, in either direction.
const CHUNKS_MAX: usize = 4;
/// How many small files wait for the wire at most.
const FILES_WAITING_MAX: usize = 64;
/// How many entries of a folder go into a frame: names have at most 255 bytes.
const ENTRIES_PER_FRAME: usize = 1000;

/// What comes of an ask.
type Ended = Result<Answer, Refusal>;

/// Carries out what was asked.
pub(super) async fn carry_out(
    adb: &Adb,
    work: Work,
    files: VecDeque<OwnedFd>,
    reader: &mut FrameReader,
    writer: &mut FrameWriter,
) -> Result<Ended, LineError> {
    match work {
        Work::Shell { command, mode } => shell(adb, &command, &mode, reader, writer).await,
        Work::Push { to, compression, dry_run } => {
            let fate = if dry_run { Fate::Discarded } else { Fate::Kept };
            push(adb, to, PushOptions { compression, fate, progress: None }, files, reader, writer).await
        }
        Work::PushMany => push_many(adb, reader, writer).await,
        Work::Pull { path, compression } => pull(adb, &path, compression, files, reader, writer).await,
        Work::Install { names, flags, user } => {
            let options = InstallOptions { flags: flags.into_iter().collect(), user, ..InstallOptions::default() };
            install(adb, names, options, files, reader, writer).await
        }
        Work::Screenshot => match until_hung_up(adb.screenshot(), reader).await? {
            Ok(picture) => output(&picture, writer).await.map(|()| Ok(Answer::Bytes { len: picture.len() as u64 })),
            Err(error) => Ok(Err(service_refusal("phone.screenshot", &error))),
        },
        Work::List { path } => match until_hung_up(adb.list(&path), reader).await? {
            Ok(entries) => {
                for entries in entries.chunks(ENTRIES_PER_FRAME) {
                    writer.send(&Down::Output(wire::emit_entries(entries))).await?;
                }
                Ok(Ok(Answer::Done))
            }
            Err(error) => Ok(Err(sync_refusal("phone.list", &path, &error))),
        },
        Work::Stat { path } => {
            let stat = until_hung_up(adb.stat(&path), reader).await?;
            Ok(stat.map(|stat| Answer::Stat { stat }).map_err(|error| sync_refusal("phone.stat", &path, &error)))
        }
        Work::Reboot { target } => {
            let rebooted = until_hung_up(adb.reboot(target), reader).await?;
            Ok(rebooted.map(|()| Answer::Done).map_err(|error| service_refusal("phone.reboot", &error)))
        }
        Work::Identify => {
            let shown = until_hung_up(adb.identify(), reader).await?;
            let answer = shown.map(|shown| Answer::Shown { screen: shown.screen, vibration: shown.vibration });
            Ok(answer.map_err(|error| service_refusal("phone.identify", &error)))
        }
    }
}

/// The work's end, unless the command ends before.
async fn until_hung_up<T>(work: impl Future<Output = T>, reader: &mut FrameReader) -> Result<T, LineError> {
    tokio::select! {
        done = work => Ok(done),
        error = reader.hung_up() => Err(error),
    }
}

/// The work's end, with words about its progress.
async fn with_progress<T>(
    work: impl Future<Output = T>,
    progress: watch::Receiver<u64>,
    reader: &mut FrameReader,
    writer: &mut FrameWriter,
) -> Result<T, LineError> {
    tokio::select! {
        done = work => Ok(done),
        error = reader.hung_up() => Err(error),
        error = tell_progress(progress, writer) => Err(error),
    }
}

/// Tells what has gone by now, for ever.
async fn tell_progress(mut progress: watch::Receiver<u64>, writer: &mut FrameWriter) -> LineError {
    loop {
        tokio::time::sleep(PROGRESS_EVERY).await;
        if progress.changed().await.is_err() {
            return std::future::pending().await;
        }
        let bytes = *progress.borrow_and_update();
        if let Err(error) = writer.send(&Down::Progress(bytes)).await {
            return error;
        }
    }
}

async fn output(mut bytes: &[u8], writer: &mut FrameWriter) -> Result<(), LineError> {
    while !bytes.is_empty() {
        let (now, rest) = bytes.split_at(bytes.len().min(PAYLOAD_MAX));
        writer.send(&Down::Output(Bytes::copy_from_slice(now))).await?;
        bytes = rest;
    }
    Ok(())
}

async fn shell(
    adb: &Adb,
    command: &str,
    mode: &ShellMode,
    reader: &mut FrameReader,
    writer: &mut FrameWriter,
) -> Result<Ended, LineError> {
    // Its input may have come already, and is not to be read before it can be given.
    let (mut says, input) = match reader.unless_gone(adb.open_shell(command, mode)).await? {
        Ok(opened) => opened,
        Err(error) => return Ok(Err(service_refusal("phone.shell", &error.into()))),
    };
    let feed = async {
        let mut has_ended = false;
        loop {
            // What a command that has ended does not take is lost, as in a pipe.
            let taken = match reader.next().await {
                // A phone that is told again and again answers nobody else.
                Ok(Some((Up::Input(_) | Up::EndOfInput, _))) if has_ended => Ok(Ok(())),
                Ok(Some((Up::Input(bytes), _))) => reader.unless_gone(input.write(bytes)).await,
                Ok(Some((Up::EndOfInput, _))) => {
                    has_ended = true;
                    reader.unless_gone(input.end()).await
                }
                Ok(Some((Up::Resize(size), _))) => reader.unless_gone(input.resize(size)).await,
                Ok(Some((Up::Ask(_) | Up::File(_), _))) => Ok(Ok(())),
                Ok(None) => return LineError::HungUp,
                Err(error) => return error,
            };
            if let Err(error) = taken {
                return error;
            }
        }
    };
    let tell = async {
        loop {
            match says.next().await {
                Ok(ShellEvent::Stdout(bytes)) => writer.send(&Down::Output(bytes)).await?,
                Ok(ShellEvent::Stderr(bytes)) => writer.send(&Down::Errors(bytes)).await?,
                Ok(ShellEvent::Exit(status)) => return Ok(Ok(Answer::Exit { status })),
                Err(error) => return Ok(Err(service_refusal("phone.shell", &error))),
            }
        }
    };
    tokio::select! {
        ended = tell => ended,
        error = feed => Err(error),
    }
}

async fn push(
    adb: &Adb,
    to: RemotePath,
    mut options: PushOptions,
    mut files: VecDeque<OwnedFd>,
    reader: &mut FrameReader,
    writer: &mut FrameWriter,
) -> Result<Ended, LineError> {
    let (progress, seen) = watch::channel(0);
    options.progress = Some(progress);
    let to = remote(to);
    let pushed = match files.pop_front().map(regular) {
        Some(Ok(file)) => with_progress(adb.push(file, &to, &options), seen, reader, writer).await?,
        Some(Err(refusal)) => return Ok(Err(refusal)),
        None => {
            let (chunks, queue) = mpsc::channel(CHUNKS_MAX);
            let source = Source::stream(StreamReader::new(QueueStream(queue)));
            tokio::select! {
                pushed = adb.push(source, &to, &options) => pushed,
                error = feed(reader, chunks) => return Err(error),
            }
        }
    };
    Ok(pushed.map(|len| Answer::Bytes { len }).map_err(|error| sync_refusal("phone.push", &to.path, &error)))
}

/// Carries input into a queue, and waits behind its end for the command to hang up.
async fn feed(reader: &mut FrameReader, chunks: mpsc::Sender<io::Result<Bytes>>) -> LineError {
    loop {
        match reader.next().await {
            Ok(Some((Up::Input(bytes), _))) => {
                // If whoever reads the queue has ended, he says why.
                if let Err(error) = reader.unless_gone(chunks.send(Ok(bytes))).await {
                    return error;
                }
            }
            Ok(Some((Up::EndOfInput, _))) => break,
            Ok(Some(_)) => {}
            Ok(None) => return LineError::HungUp,
            Err(error) => return error,
        }
    }
    drop(chunks);
    reader.hung_up().await
}

/// A queue as a stream.
struct QueueStream(mpsc::Receiver<io::Result<Bytes>>);

impl futures_util::Stream for QueueStream {
    type Item = io::Result<Bytes>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.0.poll_recv(context)
    }
}

async fn push_many(adb: &Adb, reader: &mut FrameReader, writer: &mut FrameWriter) -> Result<Ended, LineError> {
    let (queue, files) = mpsc::channel(FILES_WAITING_MAX);
    let (progress, seen) = watch::channel(0_u64);
    let take = async {
        loop {
            match reader.next().await {
                Ok(Some((Up::File(file), _))) => {
                    progress.send_modify(|bytes| *bytes += file.content.len() as u64);
                    let file = SmallFile { to: remote(file.to), content: file.content };
                    // If whoever reads the queue has ended, he says why.
                    if let Err(error) = reader.unless_gone(queue.send(file)).await {
                        return error;
                    }
                }
                Ok(Some((Up::EndOfInput, _))) => break,
                Ok(Some(_)) => {}
                Ok(None) => return LineError::HungUp,
                Err(error) => return error,
            }
        }
        drop(queue);
        reader.hung_up().await
    };
    let pushed = tokio::select! {
        pushed = adb.push_many(files) => pushed,
        error = take => return Err(error),
        error = tell_progress(seen, writer) => return Err(error),
    };
    let count = |count: usize| Answer::Files { count: count as u64 };
    Ok(pushed.map(count).map_err(|(path, error)| sync_refusal("phone.push", &path, &error)))
}

async fn pull(
    adb: &Adb,
    path: &str,
    compression: Compression,
    mut files: VecDeque<OwnedFd>,
    reader: &mut FrameReader,
    writer: &mut FrameWriter,
) -> Result<Ended, LineError> {
    let pulled = match files.pop_front().map(regular) {
        Some(Ok(file)) => {
            let (progress, seen) = watch::channel(0);
            let options = PullOptions { compression, progress: Some(progress) };
            with_progress(adb.pull(path, Arc::new(file), &options), seen, reader, writer).await?
        }
        Some(Err(refusal)) => return Ok(Err(refusal)),
        None => {
            let (chunks, mut queue) = mpsc::channel::<Vec<Bytes>>(CHUNKS_MAX);
            let tell = async {
                let mut total = 0;
                while let Some(pieces) = queue.recv().await {
                    for piece in pieces {
                        total += piece.len() as u64;
                        writer.send(&Down::Output(piece)).await?;
                    }
                }
                Ok::<_, LineError>(total)
            };
            let both = async { tokio::join!(adb.pull_into(path, None, chunks), tell) };
            let (pulled, told) = until_hung_up(both, reader).await?;
            let total = told?;
            pulled.map(|()| total)
        }
    };
    Ok(pulled.map(|len| Answer::Bytes { len }).map_err(|error| sync_refusal("phone.pull", path, &error)))
}

async fn install(
    adb: &Adb,
    names: Vec<String>,
    mut options: InstallOptions,
    files: VecDeque<OwnedFd>,
    reader: &mut FrameReader,
    writer: &mut FrameWriter,
) -> Result<Ended, LineError> {
    if names.is_empty() || names.len() != files.len() {
        let what = format!("{} names of APKs came with {} open files", names.len(), files.len());
        return Ok(Err(refusal("install.files", what, None)));
    }
    let mut apks = Vec::new();
    for (name, file) in names.into_iter().zip(files) {
        let unreadable = |error: io::Error| refusal("install.files", format!("{name} can't be read: {error}"), None);
        let apk = match regular(file) {
            Ok(file) => Apk::new(&name, file).map_err(unreadable),
            Err(refusal) => Err(refusal),
        };
        match apk {
            Ok(apk) => apks.push(apk),
            Err(refusal) => return Ok(Err(refusal)),
        }
    }
    let (progress, seen) = watch::channel(0);
    options.progress = Some(progress);
    let has_downgrade = options.flags.contains(&InstallFlag::Downgrade);
    let installed = with_progress(adb.install_apks(&apks, &options), seen, reader, writer).await?;
    Ok(installed.map(|()| Answer::Done).map_err(|failure| install_refusal(&failure, has_downgrade)))
}

/// Only what never makes its reader wait: a blocking thread reads it.
fn regular(file: OwnedFd) -> Result<File, Refusal> {
    let file = File::from(file);
    match file.metadata() {
        Ok(metadata) if metadata.is_file() => Ok(file),
        _ => Err(refusal("files.irregular", "only regular files can be handed over".to_owned(), None)),
    }
}

fn remote(to: RemotePath) -> RemoteFile {
    RemoteFile { path: to.path, mode: to.mode, mtime_s: to.mtime_s }
}

fn refusal(code: &str, what: String, help: Option<&str>) -> Refusal {
    Refusal { code: code.to_owned(), what, help: help.map(str::to_owned) }
}

fn service_refusal(code: &str, error: &ServiceError) -> Refusal {
    refusal(code, error.to_string(), help_for(&error.to_string()))
}

fn sync_refusal(code: &str, path: &str, error: &SyncError) -> Refusal {
    let what = match error {
        SyncError::Failed(why) => match sentence_for(why) {
            Some(sentence) => format!("{path}: {sentence} (the phone says: {why})"),
            None => format!("{path}: the phone says: {why}"),
        },
        error => format!("{path}: {error}"),
    };
    let help = help_for(&what);
    refusal(code, what, help)
}

/// What the kernel's usual complaints about a file mean.
fn sentence_for(complaint: &str) -> Option<&'static str> {
    let known = [
        ("Read-only file system", "this part of the phone can only be read: nothing can be written there"),
        ("Permission denied", "the phone's shell may not do this there"),
        ("No space left", "the phone's storage is full"),
        ("No such file", "there is no such file or folder on the phone"),
        ("Is a directory", "it is a folder on the phone"),
        ("Not a directory", "a part of this path is a file on the phone, and no folder"),
    ];
    known.into_iter().find(|(word, _)| complaint.contains(word)).map(|(_, sentence)| sentence)
}

/// What can be done about the usual complaints.
fn help_for(complaint: &str) -> Option<&'static str> {
    let known = [
        ("Read-only file system", "put it below /data/local/tmp or /sdcard, which can be written"),
        ("Permission denied", "its shell may read and write below /data/local/tmp and /sdcard"),
        ("No space left", "make room there: `farmhand phone SLOT shell df /data` says how much is left"),
        ("connection ended", "the phone has left or restarted: see `farmhand phone SLOT show`"),
    ];
    known.into_iter().find(|(word, _)| complaint.contains(word)).map(|(_, help)| help)
}

fn install_refusal(failure: &InstallFailure, has_downgrade: bool) -> Refusal {
    let reason = failure.reason.as_deref();
    let (code, help) = match (failure.class, reason) {
        (_, Some("INSTALL_FAILED_VERSION_DOWNGRADE")) if !has_downgrade => {
            ("install.permanent", "`--downgrade` asks for it; most phones allow that for debuggable apps only")
        }
        (_, Some("INSTALL_FAILED_TEST_ONLY")) => ("install.permanent", "`--test-only` allows it"),
        (InstallFailureClass::Transient, _) => ("install.transient", "try again; it may work then"),
        (InstallFailureClass::Permanent, _) => {
            ("install.permanent", "with this APK on this phone it will not work: see the reason")
        }
        (InstallFailureClass::NeedsHand, _) => ("install.needs_hand", "somebody must do something on the phone itself"),
    };
    refusal(code, failure.why.clone(), Some(help))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_what_can_be_done() {
        let failure =
            |class, reason: &str| InstallFailure { class, reason: Some(reason.to_owned()), why: String::new() };
        let downgrade = failure(InstallFailureClass::Permanent, "INSTALL_FAILED_VERSION_DOWNGRADE");
        assert!(install_refusal(&downgrade, false).help.unwrap().contains("--downgrade"));
        assert!(!install_refusal(&downgrade, true).help.unwrap().contains("--downgrade"));
        let hand = failure(InstallFailureClass::NeedsHand, "INSTALL_FAILED_USER_RESTRICTED");
        assert_eq!(install_refusal(&hand, false).code, "install.needs_hand");
    }

    #[test]
    fn what_the_kernel_complains_of_is_said_as_a_sentence_with_what_to_do() {
        // As adbd 34 says it.
        let said = SyncError::Failed("couldn't create file: Read-only file system".to_owned());
        let refused = sync_refusal("phone.push", "/system/x", &said);
        assert_eq!(
            refused.what,
            "/system/x: this part of the phone can only be read: nothing can be written there (the phone says: couldn't create file: \
             Read-only file system)"
        );
        assert_eq!(refused.help.unwrap(), "put it below /data/local/tmp or /sdcard, which can be written");
        let other = sync_refusal("phone.push", "/x", &SyncError::Failed("odd".to_owned()));
        assert_eq!((other.what.as_str(), other.help), ("/x: the phone says: odd", None));
    }

    #[test]
    fn what_is_no_regular_file_is_refused() {
        let null = File::open("/dev/null").unwrap();
        assert_eq!(regular(null.into()).unwrap_err().code, "files.irregular");
    }
}
