//! This end of the daemon's tool server.

use std::io::{self, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use bytes::{Bytes, BytesMut};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use crate::cli::client::Client;
use crate::cli::failure::{Failure, Refused};
use crate::phone::tools::wire::{Answer, Ask, Down, FILES_MAX, Frame as _, Up, Work, head, take_frame};

/// How much is read at once, in bytes: little at first, for most answers are short and all of it is cleared; twice as much whenever
/// that was not enough.
const READ_LEN_MIN: usize = 4 << 10;
const READ_LEN_MAX: usize = 256 << 10;

/// A connection to the tool server, for work on one phone.
pub(super) struct Link<'a> {
    client: &'a Client,
    phone: String,
    socket: UnixStream,
    buffer: BytesMut,
    read_len: usize,
}

impl<'a> Link<'a> {
    pub(super) fn open(client: &'a Client, phone: String) -> Result<Self, Failure> {
        Ok(Self { client, phone, socket: client.tools()?, buffer: BytesMut::new(), read_len: READ_LEN_MIN })
    }

    /// The phone, as it was called on the command line.
    pub(super) fn phone(&self) -> &str {
        &self.phone
    }

    /// Asks for work, with open files.
    pub(super) fn ask(&mut self, work: Work, files: &[BorrowedFd]) -> Result<(), Failure> {
        let ask = Up::Ask(Ask { phone: self.phone.clone(), work });
        send_with_files(&self.socket, &frame(&ask), files).map_err(|error| self.client.broken_off(error))
    }

    /// Sends what belongs to the ask.
    pub(super) fn send(&mut self, frames: &Up) -> Result<(), Failure> {
        self.send_bytes(&frame(frames))
    }

    /// Sends frames that stand back to back already.
    pub(super) fn send_bytes(&mut self, frames: &[u8]) -> Result<(), Failure> {
        self.socket.write_all(frames).map_err(|error| self.client.broken_off(error))
    }

    /// Sends what the daemon takes without a wait, and gives how many bytes that were.
    ///
    /// # Errors
    /// `WouldBlock` if it takes none now.
    pub(super) fn send_some(&self, frames: &[u8]) -> io::Result<usize> {
        Ok(rustix::net::send(&self.socket, frames, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?)
    }

    /// What the daemon says next: output, progress, or the answer.
    pub(super) fn next(&mut self) -> Result<Said, Failure> {
        loop {
            if let Some(said) = self.come()? {
                return Ok(said);
            }
            self.read()?;
        }
    }

    /// What of that has come by now.
    pub(super) fn come(&mut self) -> Result<Option<Said>, Failure> {
        match take_frame(&mut self.buffer).map_err(|error| self.client.broken_off(error))? {
            Some(Down::Output(bytes)) => Ok(Some(Said::Output(bytes))),
            Some(Down::Errors(bytes)) => Ok(Some(Said::Errors(bytes))),
            Some(Down::Progress(bytes)) => Ok(Some(Said::Progress(bytes))),
            Some(Down::Done(answer)) => Ok(Some(Said::Answer(answer))),
            Some(Down::Refused(refusal)) => Err(Refused(refusal).into()),
            None => Ok(None),
        }
    }

    /// The answer; of what comes before it only progress is heard.
    pub(super) fn answer(&mut self, mut progress: impl FnMut(u64)) -> Result<Answer, Failure> {
        loop {
            match self.next()? {
                Said::Progress(bytes) => progress(bytes),
                Said::Answer(answer) => return Ok(answer),
                Said::Output(_) | Said::Errors(_) => {}
            }
        }
    }

    /// Asks for work that needs nothing more, and takes the answer.
    pub(super) fn have(&mut self, work: Work) -> Result<Answer, Failure> {
        self.ask(work, &[])?;
        self.answer(|_| {})
    }

    /// This daemon does not answer as this command expects.
    pub(super) fn misunderstood(&self, answer: &Answer) -> Failure {
        self.client.broken_off(format!("it answered {answer:?}, which is no answer to what was asked"))
    }

    /// Bytes of another kind than promised.
    pub(super) fn broken_off(&self, reason: impl ToString) -> Failure {
        self.client.broken_off(reason)
    }

    /// Waits for more of what the daemon says.
    pub(super) fn read(&mut self) -> Result<(), Failure> {
        let before = self.buffer.len();
        self.buffer.resize(before + self.read_len, 0);
        let place = self.buffer.get_mut(before..).unwrap_or_default();
        let read = loop {
            match self.socket.read(place) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        self.buffer.truncate(before + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) => Err(self.client.broken_off("it hung up")),
            Ok(len) => {
                if len == self.read_len {
                    self.read_len = READ_LEN_MAX.min(2 * len);
                }
                Ok(())
            }
            Err(error) => Err(self.client.broken_off(error)),
        }
    }
}

impl AsFd for Link<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// What the daemon says.
pub(super) enum Said {
    Output(Bytes),
    Errors(Bytes),
    Progress(u64),
    Answer(Answer),
}

/// A frame's bytes.
pub(super) fn frame(up: &Up) -> Vec<u8> {
    let (kind, payload) = up.emit();
    [&head(kind, payload.len())[..], &payload].concat()
}

fn send_with_files(socket: &UnixStream, bytes: &[u8], files: &[BorrowedFd]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !files.is_empty() && !control.push(SendAncillaryMessage::ScmRights(files)) {
        return Err(io::Error::other(format!("at most {FILES_MAX} files go at once")));
    }
    let sent = sendmsg(socket.as_fd(), &[io::IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?;
    (&*socket).write_all(bytes.get(sent..).unwrap_or_default())
}
