//! This end of the daemon's tool server.

use std::io::{self, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::UnixStream;

use bytes::{Bytes, BytesMut};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use crate::cli::client::Client;
use crate::cli::failure::{Failure, Refused};
use crate::phone::tools::wire::{Answer, Ask, Down, FILES_MAX, Frame as _, Up, Work, head, take_frame};

/// How much is read at once, in bytes.
const READ_LEN: usize = 256 << 10;

/// A connection to the tool server, for work on one phone.
pub(super) struct Link<'a> {
    client: &'a Client,
    phone: String,
    socket: UnixStream,
    buffer: BytesMut,
}

/// The half that sends, for a thread of its own.
pub(super) struct Sender {
    socket: UnixStream,
}

impl<'a> Link<'a> {
    pub(super) fn open(client: &'a Client, phone: String) -> Result<Self, Failure> {
        Ok(Self { client, phone, socket: client.tools()?, buffer: BytesMut::new() })
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

    /// A half that sends by itself.
    pub(super) fn sender(&self) -> Result<Sender, Failure> {
        let socket = self.socket.try_clone().map_err(Failure::Runtime)?;
        Ok(Sender { socket })
    }

    /// What the daemon says next: output, progress, or the answer.
    pub(super) fn next(&mut self) -> Result<Said, Failure> {
        loop {
            match take_frame(&mut self.buffer).map_err(|error| self.client.broken_off(error))? {
                Some(Down::Output(bytes)) => return Ok(Said::Output(bytes)),
                Some(Down::Errors(bytes)) => return Ok(Said::Errors(bytes)),
                Some(Down::Progress(bytes)) => return Ok(Said::Progress(bytes)),
                Some(Down::Done(answer)) => return Ok(Said::Answer(answer)),
                Some(Down::Refused(refusal)) => return Err(Refused(refusal).into()),
                None => self.read()?,
            }
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

    fn read(&mut self) -> Result<(), Failure> {
        let before = self.buffer.len();
        self.buffer.resize(before + READ_LEN, 0);
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
            Ok(_) => Ok(()),
            Err(error) => Err(self.client.broken_off(error)),
        }
    }
}

impl Sender {
    /// Sends a frame; the reading half hears why it fails.
    pub(super) fn send(&mut self, up: &Up) -> io::Result<()> {
        self.socket.write_all(&frame(up))
    }

    /// One more of it.
    pub(super) fn again(&self) -> io::Result<Self> {
        Ok(Self { socket: self.socket.try_clone()? })
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
