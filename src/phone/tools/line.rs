//! A connection's two halves: frames, and the open files that come with them.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::time::Duration;

use bytes::BytesMut;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tokio::io::{AsyncWriteExt as _, Interest};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::wire::{Down, FILES_MAX, Frame as _, Up, WireError, head, take_frame};

/// How much is read at once, in bytes.
const READ_LEN: usize = 64 << 10;

/// Between two looks at whether a command that must wait is still there.
const GONE_LOOK: Duration = Duration::from_millis(250);

/// Why a connection can't go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum LineError {
    /// The socket said no.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It sent nonsense.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// It hung up in the middle.
    #[error("it hung up")]
    HungUp,
}

/// The half that reads.
pub(super) struct FrameReader {
    socket: OwnedReadHalf,
    buffer: BytesMut,
    files: VecDeque<OwnedFd>,
    chunk: Box<[u8]>,
}

impl FrameReader {
    pub(super) fn new(socket: OwnedReadHalf) -> Self {
        Self { socket, buffer: BytesMut::new(), files: VecDeque::new(), chunk: vec![0; READ_LEN].into() }
    }

    /// The next frame, with the files that came by now; none at the end. Cancel-safe.
    pub(super) async fn next(&mut self) -> Result<Option<(Up, VecDeque<OwnedFd>)>, LineError> {
        loop {
            if let Some(frame) = take_frame(&mut self.buffer)? {
                return Ok(Some((frame, std::mem::take(&mut self.files))));
            }
            let (chunk, files) = (&mut self.chunk, &mut self.files);
            let socket: &tokio::net::UnixStream = self.socket.as_ref();
            let len = socket.async_io(Interest::READABLE, || receive(socket, chunk, files)).await?;
            if len == 0 {
                return Ok(None);
            }
            self.buffer.extend_from_slice(self.chunk.get(..len).unwrap_or_default());
        }
    }

    /// The work's end, unless the command is gone before, while what it said is left unread: only so it waits for the work.
    pub(super) async fn unless_gone<T>(&self, work: impl Future<Output = T>) -> Result<T, LineError> {
        tokio::select! {
            biased;
            done = work => Ok(done),
            () = self.gone() => Err(LineError::HungUp),
        }
    }

    async fn gone(&self) {
        let socket: &tokio::net::UnixStream = self.socket.as_ref();
        loop {
            tokio::time::sleep(GONE_LOOK).await;
            // A socket whose other end is closed says so whatever else there is to read.
            let mut look = [PollFd::new(socket, PollFlags::empty())];
            let looked = poll(&mut look, Some(&Timespec::default()));
            if looked.is_err() || look.iter().any(|seen| seen.revents().contains(PollFlags::HUP)) {
                return;
            }
        }
    }

    /// Ends when the command hangs up. What it says meanwhile is dropped.
    pub(super) async fn hung_up(&mut self) -> LineError {
        loop {
            match self.next().await {
                Ok(Some(_)) => {}
                Ok(None) => return LineError::HungUp,
                Err(error) => return error,
            }
        }
    }
}

fn receive(socket: &tokio::net::UnixStream, chunk: &mut [u8], files: &mut VecDeque<OwnedFd>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let received = recvmsg(socket, &mut [IoSliceMut::new(chunk)], &mut control, flags)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(came) = message {
            files.extend(came.take(FILES_MAX.saturating_sub(files.len())));
        }
    }
    Ok(received.bytes)
}

/// The half that writes.
pub(super) struct FrameWriter {
    socket: OwnedWriteHalf,
}

impl FrameWriter {
    pub(super) fn new(socket: OwnedWriteHalf) -> Self {
        Self { socket }
    }

    /// Sends a frame; waits as long as the command takes none.
    pub(super) async fn send(&mut self, frame: &Down) -> Result<(), LineError> {
        let (kind, payload) = frame.emit();
        let head = head(kind, payload.len());
        let sent = self.socket.write_vectored(&[IoSlice::new(&head), IoSlice::new(&payload)]).await?;
        if let Some(rest) = head.get(sent..) {
            self.socket.write_all(rest).await?;
        }
        self.socket.write_all(payload.get(sent.saturating_sub(head.len())..).unwrap_or_default()).await?;
        Ok(())
    }
}
