//! What a command on the phone is told and what it says, both on one thread: most commands have ended before a second one would be up.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;

use bytes::{Buf as _, Bytes, BytesMut};
use rustix::event::{PollFd, PollFlags, poll};

use super::link::{Link, Said, frame};
use super::terminal;
use crate::cli::failure::Failure;
use crate::phone::tools::wire::{Answer, Up};

/// How much input goes at once, in bytes.
const INPUT_LEN: usize = 64 << 10;

/// A command on the phone that runs.
pub(super) struct Exchange<'link, 'client> {
    link: &'link mut Link<'client>,
    /// Whether this process is still to be asked for input.
    takes_input: bool,
    /// Has a byte for each new size of the terminal.
    resized: Option<UnixStream>,
    /// What the daemon did not take yet. While there is any, neither input nor another size is taken.
    unsent: BytesMut,
}

/// What can be done without a wait.
struct Ready {
    daemon: bool,
    input: bool,
    resized: bool,
}

impl<'link, 'client> Exchange<'link, 'client> {
    /// Of a command that was asked for, and gets no input.
    pub(super) fn without_input(link: &'link mut Link<'client>) -> Self {
        let unsent = BytesMut::from(&frame(&Up::EndOfInput)[..]);
        Self { link, takes_input: false, resized: None, unsent }
    }

    /// Of a command that was asked for, and gets the input of this process; `resized` has a byte for each new size of its terminal.
    pub(super) fn with_input(link: &'link mut Link<'client>, resized: Option<UnixStream>) -> Self {
        Self { link, takes_input: true, resized, unsent: BytesMut::new() }
    }

    /// Passes everything on until the command has ended, and gives its status.
    pub(super) fn run(mut self) -> Result<u8, Failure> {
        loop {
            self.send();
            while let Some(said) = self.link.come()? {
                if let Some(status) = self.pass_on(said)? {
                    return Ok(status);
                }
            }
            let ready = self.wait()?;
            if ready.daemon {
                self.link.read()?;
            }
            if ready.resized {
                self.resize();
            }
            if ready.input {
                self.take_input();
            }
        }
    }

    /// Waits until something can be done. That the daemon takes more is tried by [`Self::send`] anyway.
    fn wait(&self) -> Result<Ready, Failure> {
        let stdin = io::stdin();
        let daemon = if self.unsent.is_empty() { PollFlags::IN } else { PollFlags::IN | PollFlags::OUT };
        let mut looks = vec![PollFd::new(&*self.link, daemon)];
        let takes_input = self.takes_input && self.unsent.is_empty();
        if takes_input {
            looks.push(PollFd::new(&stdin, PollFlags::IN));
        }
        let resized = self.resized.as_ref().filter(|_| self.unsent.is_empty());
        if let Some(resized) = resized {
            looks.push(PollFd::new(resized, PollFlags::IN));
        }
        match poll(&mut looks, None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(Ready { daemon: false, input: false, resized: false }),
            Err(error) => return Err(Failure::Runtime(error.into())),
        }
        let mut seen = looks.iter().map(PollFd::revents);
        let daemon =
            seen.next().unwrap_or(PollFlags::empty()).intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR);
        let mut any = |of: bool| of && seen.next().is_some_and(|seen| !seen.is_empty());
        let input = any(takes_input);
        let resized = any(resized.is_some());
        Ok(Ready { daemon, input, resized })
    }

    fn take_input(&mut self) {
        let mut chunk = vec![0; INPUT_LEN];
        let len = match rustix::io::read(io::stdin(), &mut chunk[..]) {
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => return,
            // What can't be read is at its end.
            read => read.unwrap_or(0),
        };
        self.takes_input = len > 0;
        chunk.truncate(len);
        let input = if chunk.is_empty() { Up::EndOfInput } else { Up::Input(Bytes::from(chunk)) };
        self.unsent.extend_from_slice(&frame(&input));
    }

    fn resize(&mut self) {
        let told = self.resized.as_mut().map_or(Ok(0), |resized| resized.read(&mut [0; 64]));
        if !matches!(told, Ok(1..)) {
            self.resized = None;
        }
        self.unsent.extend_from_slice(&frame(&Up::Resize(terminal::size())));
    }

    /// Sends what the daemon takes now.
    fn send(&mut self) {
        while !self.unsent.is_empty() {
            match self.link.send_some(&self.unsent) {
                Ok(sent) => self.unsent.advance(sent),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Once the command has ended, nobody takes input; why, is heard where answers are read.
                Err(_) => {
                    self.unsent.clear();
                    (self.takes_input, self.resized) = (false, None);
                }
            }
        }
    }

    /// Writes what was said; gives the command's status.
    fn pass_on(&self, said: Said) -> Result<Option<u8>, Failure> {
        let written = match said {
            // Line by line would be a system call for each.
            Said::Output(bytes) => {
                let mut out = io::stdout().lock();
                out.write_all(&bytes).and_then(|()| out.flush())
            }
            Said::Errors(bytes) => io::stderr().lock().write_all(&bytes),
            Said::Answer(Answer::Exit { status }) => return Ok(Some(status.unwrap_or(0))),
            Said::Answer(answer) => return Err(self.link.misunderstood(&answer)),
            Said::Progress(_) => Ok(()),
        };
        match written {
            Ok(()) => Ok(None),
            // Whoever read has gone away, as in `logcat | head`: that ends the command, and is no failure.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Some(0)),
            Err(error) => Err(Failure::Runtime(error)),
        }
    }
}
